/*
 * runner.h: one replaying process as the supervisor sees it: a parked checkpoint or a runner. Messages are
 * those of checkpoint/proto.h. Blocking, with a deadline; a process that dies or breaks the protocol is
 * reported, never waited for.
 */
#ifndef TF_RUNNER_H
#define TF_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "checkpoint/proto.h"
#include "store/err.h"

struct tf_runner {
    int socket; /* -1: none */
    pid_t pid;  /* 0: not known, or no child of ours */
    /* Of one that was restored (replay/durable.h), and its copies: the first process of their namespace,
     * which is a child of ours while they are not; when it ends, all do. Of one that `record --keep` has left
     * (checkpoint/keep.h), and its copies: its keeper, in the background. 0: it is our child itself. */
    pid_t keeper;
};
#define TF_RUNNER_NONE ((struct tf_runner){.socket = -1})

/* A message that was received. data is malloc'ed by tf_runner_recv and reused by it; fd is -1 or a descriptor
 * that is the caller's. */
struct tf_message {
    uint32_t op;
    int fd;
    size_t len, room;
    uint8_t *data;
};

int tf_runner_send(const struct tf_runner *runner, enum tf_op op, const void *head, size_t head_len,
                   const void *body, size_t body_len, struct tf_err *err);
/* A message without payload, with a descriptor (-1: none), which stays the caller's. */
int tf_runner_send_fd(const struct tf_runner *runner, enum tf_op op, int fd, struct tf_err *err);
/* Has a copy of a checkpoint that serves several replays map our control page and outside stream (proto.h:
 * SHARED). The descriptors stay the caller's. */
int tf_runner_share(const struct tf_runner *runner, int ctl_fd, int log_fd, struct tf_err *err);
/* Has its process ended, or does it within so many milliseconds? */
bool tf_runner_is_gone(const struct tf_runner *runner, int wait_ms);
/* Next message. deadline_ms: CLOCK_MONOTONIC, -1 for none. TF_E_TIMEOUT; TF_E_REPLAY when the process is gone
 * (the message says how it ended, as far as is known). */
int tf_runner_recv(const struct tf_runner *runner, struct tf_message *message, int64_t deadline_ms,
                   struct tf_err *err);
/* Makes a copy of a parked process. */
int tf_runner_fork(const struct tf_runner *runner, struct tf_runner *copy, struct tf_place *place,
                   struct tf_err *err);
/* Learns the pid of a parked process in another namespace, which says its own. */
int tf_runner_identify(struct tf_runner *runner, struct tf_err *err);
/* Ends the process and forgets it. */
void tf_runner_end(struct tf_runner *runner);

/* What a TF_REP_DIVERGENCE says, for where nobody makes a report of it. */
void tf_divergence_words(const uint8_t *data, size_t len, char *out, size_t size);

int64_t tf_now_ms(void);

#endif
