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
    uint64_t reach;         /* the last event that replay can reach */
    char *why;              /* the barrier behind it, or NULL */
    bool ended;             /* by something of its own that the log has: an exit, a signal, a fault */
    struct tf_position end; /* the last that can be visited, when it has been looked for; frame 0: not yet */
    int filter_error;       /* errno, if the kernel does not let the processes filter their system calls */

    struct tf_checkpoint checkpoints[TF_POLICY_MAX + 1];
    size_t n;

    struct tf_runner present;
    struct tf_position here; /* of it */
    bool standing;

    /* The words of one block, for comparing. */
    uint64_t words_block;
    uint32_t words_n, *words;
    struct tf_message message;

    /* Who is told how far it is, and who may cancel it. progress_from, progress_to: events. */
    void (*progress)(void *ctx, double done);
    void *progress_ctx;
    uint64_t progress_from, progress_to;

    /* While a search lets a copy run: what it is looking for, who hears what it says, who may cancel it. */
    const struct tf_scan *scan;
    int (*on_scan)(void *ctx, const struct tf_message *message, struct tf_err *err);
    void *scan_ctx;
    const volatile bool *cancel;

    struct tf_codes codes; /* of the run; see tf_timeline_codes() */
};

/* The code objects of the run, loaded when first asked for; NULL with err. */
const struct tf_codes *tf_timeline_codes(struct tf_timeline *t, struct tf_err *err);

/* The activation that runs after an event (after an exit: the caller), and its depth; 0: none does. */
int tf_timeline_running(struct tf_timeline *t, uint64_t frame, struct tf_activation *out, uint32_t *depth,
                        struct tf_err *err);

/* Is it a function of the interpreter's frozen modules? They have no source. */
bool tf_timeline_is_frozen(struct tf_timeline *t, uint32_t code);

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
/* Serves the runner until it stops (or, of a scan, has ended). TF_E_DIVERGENCE, or TF_E_NOTFOUND for a
 * barrier: *at (may be NULL) says where. */
int tf_run_until_stop(struct tf_timeline *t, struct tf_runner *runner, uint64_t present,
                      struct tf_stop_rep *rep, struct tf_place *at, struct tf_err *err);
/* The events since the last whole block must be the recorded ones, too. */
int tf_run_check_prefix(struct tf_timeline *t, const struct tf_stop_rep *rep, struct tf_err *err);

#endif
