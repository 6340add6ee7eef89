/*
 * timeline_private.h: a timeline from the inside, for the files of replay/ that move it: timeline.c
 * (positions, checkpoints), run.c (letting a copy run and serving it), verify.c.
 */
#ifndef TF_TIMELINE_PRIVATE_H
#define TF_TIMELINE_PRIVATE_H

#include "checkpoint/policy.h"
#include "replay/outside_log.h"
#include "replay/timeline.h"

struct tf_timeline {
    struct tf_store *store;
    const struct tf_run *run;
    struct tf_shared shared;
    struct tf_log *log;
    struct tf_cursor *cursor;
    uint64_t reach; /* the last event that replay can reach */
    char *why;      /* the barrier behind it, or NULL */

    struct tf_checkpoint checkpoints[TF_POLICY_MAX + 1];
    size_t n;

    struct tf_runner present;
    bool standing;

    /* The words of one block, for comparing. */
    uint64_t words_block;
    uint32_t words_n, *words;
    struct tf_message message;
};

double tf_timeline_ms(void); /* CLOCK_MONOTONIC */

/* Takes over a checkpoint's process; drops another one if there are too many. present: where the user is, or
 * goes. */
void tf_timeline_add_checkpoint(struct tf_timeline *t, const struct tf_place *place, int socket,
                                uint64_t present);
/* Ends a checkpoint's process and forgets it. */
void tf_timeline_drop_checkpoint(struct tf_timeline *t, size_t i);

/* ---- run.c ---- */

/* Copies the nearest checkpoint before stop->frame and starts the copy, *runner, which is the caller's to
 * end. *from: a copy of the checkpoint's description. */
int tf_run_start(struct tf_timeline *t, const struct tf_stop_req *stop, uint64_t present,
                 struct tf_runner *runner, struct tf_checkpoint *from, struct tf_err *err);
/* Serves the runner until it stops. TF_E_DIVERGENCE, or TF_E_NOTFOUND for a barrier: *at (may be NULL) says
 * where. */
int tf_run_until_stop(struct tf_timeline *t, struct tf_runner *runner, uint64_t present,
                      struct tf_stop_rep *rep, struct tf_place *at, struct tf_err *err);
/* The events since the last whole block must be the recorded ones, too. */
int tf_run_check_prefix(struct tf_timeline *t, const struct tf_stop_rep *rep, struct tf_err *err);

#endif
