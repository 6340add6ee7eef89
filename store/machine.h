/*
 * machine.h: what a machine is like, as far as the course of a process can depend on it without a system call
 * telling: its processor, its kernel, settings that decide where memory is and how much; and the build of a
 * file. Recorded with a run, and compared when a replay parts from it.
 */
#ifndef TF_MACHINE_H
#define TF_MACHINE_H

#include "store/store.h"

/* One fact: what it is called ("cpu model"), and its value as text. */
struct tf_fact {
    char *key, *value;
};
/* Those of this machine and process, now. What cannot be found out is left out. malloc'ed. */
int tf_machine_now(struct tf_fact **out, size_t *n, struct tf_err *err);
/* Those that were recorded with a run; none when it was recorded before they were kept. */
int tf_store_machine(struct tf_store *store, const struct tf_run *run, struct tf_fact **out, size_t *n,
                     struct tf_err *err);
/* The value of a fact, NULL if it is not there. */
const char *tf_fact(const struct tf_fact *facts, size_t n, const char *key);
void tf_facts_free(struct tf_fact *facts, size_t n);

/* The build-id of an ELF file (the note NT_GNU_BUILD_ID) in hexadecimal; "" if it has none or cannot be read.
 */
#define TF_BUILD_ID_TEXT 129
const char *tf_build_id(const char *path, char *text /* TF_BUILD_ID_TEXT */);
/* XXH3-64 of a whole regular file. 0, or -1 with errno. */
int tf_file_digest(const char *path, uint64_t *digest, uint64_t *size, int64_t *mtime_ns);

#endif
