/*
 * prepare.h: what comes before the first step of a replay: are the files still those of the recording, and
 * the start of the process that becomes checkpoint 0.
 */
#ifndef TF_PREPARE_H
#define TF_PREPARE_H

#include "replay/timeline.h"

/* Compares the interpreter and every library with what was recorded. TF_E_REPLAY names the first that
 * differs. */
int tf_prepare_check(struct tf_store *store, const struct tf_run *run, struct tf_err *err);
/* Starts the interpreter in replay mode; it parks before the first instruction of Python. filtered: with the
 * kernel's filter of system calls (checkpoint/filter.h), which cannot be dumped. *filter_error: the errno
 * with which the kernel has refused it, or 0. */
int tf_prepare_start(const struct tf_run *run, const struct tf_shared *shared, bool filtered,
                     struct tf_runner *runner, int *filter_error, struct tf_err *err);
/* Is a mapped file another one than the recorded? Then `how` says in what (build-id, digest, time). thorough:
 * its contents are read in any case; else only when size, time or build-id differ. */
bool tf_prepare_file_differs(const struct tf_mapped *file, bool thorough, char *how, size_t how_size);
/* Is it one of timefork's own libraries? */
bool tf_prepare_own_library(const char *path);
double tf_prepare_ticks_per_ns(void);

#endif
