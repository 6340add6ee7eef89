/* common.h: what several commands need. */
#ifndef TF_CLI_COMMON_H
#define TF_CLI_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include "store/err.h"

/* The recording to use: given, or the newest *.timefork in the current folder. TF_E_NOTFOUND with a message. */
int tf_find_recording(const char *given, char *out, size_t size, struct tf_err *err);
/* "1.2 MiB", "12,345": into buf, which is returned. */
char *tf_human_size(uint64_t bytes, char *buf, size_t size);
char *tf_human_count(uint64_t n, char *buf, size_t size);

#endif
