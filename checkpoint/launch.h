/*
 * launch.h: starting an interpreter under timefork, for recording or for replay. In the supervisor.
 */
#ifndef TF_LAUNCH_H
#define TF_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "checkpoint/proto.h"
#include "store/err.h"
#include "store/ring.h"

struct tf_launch {
    const char *file; /* to execute; searched in the PATH if it has no slash */
    char *const *argv;
    char *const *envp;
    const char *cwd; /* or NULL: stay here */
    int fds[TF_FDS]; /* what the process gets as first_fd + i; -1: nothing */
    int first_fd;
    uint64_t stack_limit; /* RLIMIT_STACK, soft; 0: leave it */
    bool silent;          /* standard input, output and error are /dev/null, and it ends with its starter */
    bool muted;           /* they are /dev/null */
};
/* Starts it with address space randomisation off. When this returns 0, the program was executed. */
int tf_launch(const struct tf_launch *launch, pid_t *pid, struct tf_err *err);

/* The descriptor number to use for TIMEFORK=: behind the limit of what the program can have, if that can be
 * set higher; else high below it. */
int tf_launch_first_fd(void);
/* What RLIMIT_STACK should be for a recording: large, because with a frame hook every Python call uses C
 * stack, and TF_STACK_EXEC if it may be. */
uint64_t tf_launch_stack(void);

/* The shared header, with a ring if ring_words is not 0. Maps it; *ring gets the words, mapped twice. */
struct tf_shm_map {
    int fd;
    struct tf_shm *shm;
    uint32_t *ring;
    uint32_t ring_words;
};
int tf_shm_create(struct tf_shm_map *map, enum tf_shm_mode mode, uint32_t ring_words, struct tf_err *err);
void tf_shm_destroy(struct tf_shm_map *map);

/* The environment for a process under timefork: base, with TIMEFORK=session and LD_PRELOAD in front.
 * malloc'ed, freed with tf_env_free(); the strings of base are borrowed. */
char **tf_env_make(char *const *base, const char *session, const char *preload, struct tf_err *err);
void tf_env_free(char **env);

/* Folder with the preload library and the engines: beside the program, or ../lib/timefork when installed. */
int tf_libdir(char *out, size_t size, struct tf_err *err);

#endif
