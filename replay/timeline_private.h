/*
 * timeline_private.h: a timeline from the inside, for the files of replay/ that move it: timeline.c
 * (positions), checkpoints.c, run.c (letting a copy run and serving it), verify.c.
 */
#ifndef TF_TIMELINE_PRIVATE_H
#define TF_TIMELINE_PRIVATE_H

#include "checkpoint/policy.h"
#include "replay/ahead.h"
#include "replay/divergence.h"
#include "replay/outside_log.h"
#include "replay/durable.h"
#include "replay/timeline.h"

/* A copy that runs, as far as its checkpoints are concerned. */
struct tf_pace {
    struct tf_checkpoint from;
    uint64_t present;     /* where the user goes */
    uint64_t expected_ns; /* how long it will run, about */
    uint64_t faults;      /* that it had had at the last checkpoint */
    uint64_t pages;       /* that were resident then */
    uint64_t seen_ns;     /* when the last one was made, or it began */
};

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

    bool bare; /* struct tf_timeline_opts */
    void (*notice)(const char *text);
    struct tf_image *images; /* durable checkpoints that the recording has */
    size_t images_n;
    double restore_factor;    /* what the last one took, to what is usual; 0: none yet */
    char restore_error[1024]; /* why the last that could not be restored could not; empty: all could */
    struct tf_criu criu;      /* argv NULL: not looked for yet */
    pid_t *keepers; /* first processes of the namespaces of restored ones: our children, to be reaped */
    size_t keepers_n;
    uint64_t leave_frame;      /* where that is */
    bool leave_at_stop;        /* the next run leaves a checkpoint where it stops (struct tf_run_req) */
    struct tf_checkpoints set; /* the start is always its first, with a process or without */
    struct tf_policy_cost cost;
    uint64_t fault_ns;     /* what a page fault costs; 0: not measured yet */
    uint64_t replaying_ns; /* time that replays have run */
    struct tf_pace pace;   /* of the copy that runs */

    uint64_t run_number; /* of copies that were started: which of them has left a checkpoint */

    struct tf_runner present;
    struct tf_position here; /* of it */
    bool standing;
    bool aside; /* present is lent for a look somewhere else: it is not to be replaced */

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
    struct tf_aheads aheads;

    struct tf_divergence *divergence; /* of the last run, or NULL */
    size_t report_calls;

    struct tf_codes codes; /* of the run; see tf_timeline_codes() */
    struct tf_thread_row *threads;
    size_t threads_n;
};

/* The code objects of the run, loaded when first asked for; NULL with err. */
const struct tf_codes *tf_timeline_codes(struct tf_timeline *t, struct tf_err *err);

/* The activation that runs after an event (after an exit: the caller), and its depth; 0: none does. *thread
 * (may be NULL): the one that runs. */
int tf_timeline_running(struct tf_timeline *t, uint64_t frame, struct tf_activation *out, uint32_t *depth,
                        uint32_t *thread, struct tf_err *err);

/* ---- threads.c ---- */

/* The last event of a thread at or before event `frame`, and its first behind it. 1, 0: there is none, or an
 * error. They move the cursor, without a filter. */
int tf_thread_last(struct tf_timeline *t, uint32_t thread, uint64_t frame, struct tf_frame *out,
                   struct tf_err *err);
int tf_thread_next(struct tf_timeline *t, uint32_t thread, uint64_t frame, struct tf_frame *out,
                   struct tf_err *err);
/* Is it a function of the interpreter's frozen modules? They have no source. */
bool tf_timeline_is_frozen(struct tf_timeline *t, uint32_t code);

double tf_timeline_ms(void); /* CLOCK_MONOTONIC */

/* Copies the checkpoint at the start; starts the process again if it has been killed. */
int tf_timeline_fork_start(struct tf_timeline *t, struct tf_runner *copy, struct tf_checkpoint *from,
                           struct tf_err *err);
/* Fills in where a copy of a checkpoint stands, as far as it does not know that itself, and what events of
 * its block were before: *prefix, the timeline's, req->prefix_words of them. */
int tf_run_place(struct tf_timeline *t, const struct tf_checkpoint *from, struct tf_run_req *req,
                 const uint32_t **prefix, struct tf_err *err);
/* Copies the nearest checkpoint at or before a frame; passes over those that have been killed, and forgets
 * them. *from: what it was. */
int tf_timeline_fork_nearest(struct tf_timeline *t, uint64_t frame, struct tf_runner *copy,
                             struct tf_checkpoint *from, struct tf_err *err);
/* The first event behind `frame` that has a checkpoint at which a copy would begin that goes there, and to
 * execute up to there takes long enough to be worth another copy; 0: there is none. */
uint64_t tf_timeline_next_start(struct tf_timeline *t, uint64_t frame);
/* Whether going there takes longer than that, so that a checkpoint shall be left on the way. */
bool tf_timeline_is_far(struct tf_timeline *t, uint64_t frame, double ns);
/* Leaves a checkpoint right after that event, if there is room for it. *from: the one that it was gone there
 * from. */
int tf_timeline_leave(struct tf_timeline *t, uint64_t frame, struct tf_checkpoint *from, struct tf_err *err);
/* A copy has ended before its time. Has the checkpoint that it was made from, too (its keeper was killed)?
 * Then the set has that process no longer: another one may serve, or a durable one is restored again. */
bool tf_timeline_drop_gone(struct tf_timeline *t, const struct tf_checkpoint *from);
/* Ends what is left in the namespaces of restored processes, which is nothing any more that is in use. */
void tf_timeline_end_keepers(struct tf_timeline *t);

/* A copy of `from` is going to run to `present`: may it make checkpoints on its way? */
bool tf_pace_begin(struct tf_timeline *t, const struct tf_checkpoint *from, uint64_t present);
/* It has made one: keeps it, drops another if there are too many, and tells the copy when the next is due. */
void tf_pace_checkpoint(struct tf_timeline *t, const struct tf_runner *runner, const struct tf_place *place,
                        int socket);

/* ---- run.c ---- */

/* Copies the nearest checkpoint before stop->frame and starts the copy, *runner, which is the caller's to
 * end. *from: a copy of the checkpoint's description. */
int tf_run_start(struct tf_timeline *t, const struct tf_stop_req *stop, uint64_t present,
                 struct tf_runner *runner, struct tf_checkpoint *from, struct tf_err *err);
/* The same, for a scan (NULL: none), without a word to anybody that another run has begun. */
int tf_run_begin(struct tf_timeline *t, const struct tf_scan *scan, const struct tf_stop_req *stop,
                 uint64_t present, struct tf_runner *runner, struct tf_checkpoint *from, struct tf_err *err);
/* Serves the runner until it stops (or, of a scan, has ended). TF_E_DIVERGENCE, or TF_E_NOTFOUND for a
 * barrier: *at (may be NULL) says where. */
int tf_run_until_stop(struct tf_timeline *t, struct tf_runner *runner, struct tf_stop_rep *rep,
                      struct tf_place *at, struct tf_err *err);
/* The same. */
int tf_run_serve(struct tf_timeline *t, struct tf_copy *copy, struct tf_stop_rep *rep, struct tf_place *at,
                 struct tf_err *err);
/* The events since the last whole block must be the recorded ones, too. runner: parked there, or NULL if it
 * has ended. */
int tf_run_check_prefix(struct tf_timeline *t, const struct tf_runner *runner, const struct tf_stop_rep *rep,
                        struct tf_err *err);
/* What makes a run go on to its end. */
struct tf_stop_req tf_run_all(const struct tf_timeline *t);
/* The recorded words of a block; NULL with err. */
const uint32_t *tf_run_block_words(struct tf_timeline *t, uint64_t block, uint32_t *n, struct tf_err *err);

/* ---- divergence.c ---- */

/* A process said that it diverged, or came to a barrier: keeps what it said. TF_E_DIVERGENCE with the
 * sentence and the stack; TF_E_NOTFOUND for a barrier that the recording has, too. *at (may be NULL): where.
 */
int tf_diverged_message(struct tf_timeline *t, const struct tf_message *m, struct tf_place *at,
                        struct tf_err *err);
/* The words of a block are not the recorded ones. TF_E_DIVERGENCE. */
int tf_diverged_words(struct tf_timeline *t, uint64_t block, const uint32_t *did, uint32_t n, uint64_t offset,
                      struct tf_err *err);
/* Another divergence that the supervisor finds. TF_E_DIVERGENCE. */
int tf_diverged(struct tf_timeline *t, enum tf_diverged kind, uint64_t frame, uint64_t offset,
                struct tf_err *err, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* What was replayed behind a divergence is no checkpoint for anyone. */
void tf_timeline_drop_behind(struct tf_timeline *t, uint64_t frame);

/* ---- timeline.c ---- */
/* Lets a copy of the best checkpoint run to where a stop was asked for, and checks what it says. */
int tf_run_to(struct tf_timeline *t, const struct tf_stop_req *req, uint64_t frame, struct tf_runner *runner,
              struct tf_checkpoint *from, struct tf_stop_rep *rep, struct tf_err *err);
/* Says why that frame event cannot be visited. */
int tf_out_of_reach(const struct tf_timeline *t, uint64_t frame, struct tf_err *err);
/* ---- checkpoints.c: the images of the recording become checkpoints without processes ---- */
int tf_timeline_add_images(struct tf_timeline *t, struct tf_err *err);
/* Of a run that has lost its start: is the first checkpoint one that stands where the run begins? */
int tf_timeline_at_base(struct tf_timeline *t, struct tf_err *err);

#endif
