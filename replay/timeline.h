/*
 * timeline.h: standing at any point of a recorded run. In the supervisor.
 *
 * A timeline holds the parked checkpoints of one run and the runner that stands at the present position.
 * Moving means: copy the nearest checkpoint before the target, let the copy re-execute to it, throw the
 * former runner away. The copy makes more checkpoints on its way. Nothing is ever moved backward, and no
 * checkpoint is ever moved at all.
 *
 * Positions: the state after frame event `frame` and `lines` more lines in the innermost function. At a call:
 * the function has started, its arguments are bound, no line has run. At a return, yield or unwind: the
 * function is about to leave, its locals are alive.
 */
#ifndef TF_TIMELINE_H
#define TF_TIMELINE_H

#include <stdbool.h>
#include "checkpoint/keep.h"
#include "checkpoint/proto.h"
#include "checkpoint/set.h"
#include "replay/position.h"
#include "store/store.h"

/* Where the present is, and what it took to get there. */
struct tf_stop {
    struct tf_position position;
    struct tf_frame frame; /* the event */
    enum tf_checkpoint_kind served_kind;
    uint64_t served_frame; /* the checkpoint it started from */
    uint64_t replayed;     /* frame events executed again */
    uint64_t offset;       /* in the outside stream: what happened there before */
    double elapsed_ms;
};

/* What a verification found. */
struct tf_verified {
    uint64_t frames, outside; /* compared and equal; from tf_timeline_first() on */
    bool barrier;             /* ended at a place that replay does not cover; text says what */
    struct tf_place at;
    char text[16384]; /* of a barrier: what is there, and the Python stack */
    double elapsed_ms;
};

struct tf_timeline;
#define TF_JOBS_MAX 64
/* What its checkpoints may cost. NULL where it is taken: the usual limits and budget. */
struct tf_timeline_opts {
    struct tf_checkpoint_limits limits;
    double budget; /* share of the time that replays run, 0 to 1; 0: no checkpoints but the start */
    unsigned jobs; /* processes that a search lets run at a time; 0: as many as there are processors */
    bool bare;     /* without the kernel's filter, which cannot be dumped, and without durable checkpoints: to
                      make     such (replay/durable.h) */
    void (*notice)(const char *text); /* what the user should know, though it goes on; NULL: not told */
};
struct tf_timeline_opts tf_timeline_opts_default(void);
/* run and store are borrowed and outlive the timeline. Checks that the interpreter and the libraries are
 * still those of the recording. TF_E_REPLAY: the durable checkpoint that a run begins with whose oldest
 * part was dropped cannot be restored. */
int tf_timeline_open(struct tf_store *store, const struct tf_run *run, const struct tf_timeline_opts *opts,
                     struct tf_timeline **out, struct tf_err *err);
void tf_timeline_close(struct tf_timeline *timeline);
/* Hands over checkpoints that were taken while recording; on success they are the timeline's from then on,
 * within its limits, and the set is empty. shared are the descriptors of the control page and the outside
 * stream that those processes have mapped. */
struct tf_shared {
    int ctl_fd, log_fd;
    struct tf_replay_ctl *ctl;
};
int tf_shared_create(struct tf_shared *shared, struct tf_err *err);
void tf_shared_destroy(struct tf_shared *shared);
int tf_timeline_adopt(struct tf_store *store, const struct tf_run *run, struct tf_shared *shared,
                      struct tf_checkpoints *checkpoints, const struct tf_timeline_opts *opts,
                      struct tf_timeline **out, struct tf_err *err);

/* Hands over checkpoints of a keeper: their sockets are the timeline's from then on, their processes and the
 * copies of them are children of `keeper`. */
void tf_timeline_add_kept(struct tf_timeline *timeline, const struct tf_kept_checkpoint *v, size_t n,
                          pid_t keeper);

/* From now on, long work says now and then how much of it is done (0..1), and ends with TF_E_CANCELLED, the
 * present as it was, when *cancel becomes true. Either may be NULL. */
void tf_timeline_attend(struct tf_timeline *timeline, void (*progress)(void *ctx, double done), void *ctx,
                        const volatile bool *cancel);
/* Moves the present. TF_E_USAGE: no such position (the message says how many lines there are, or where the
 * run ends). TF_E_DIVERGENCE: the re-execution differs. */
int tf_timeline_goto(struct tf_timeline *timeline, struct tf_position position, struct tf_stop *stop,
                     struct tf_err *err);
/* Asks about the present, in a copy that is thrown away. fn gets each item. text may be NULL.
 * TF_E_TIMEOUT when nothing came for timeout_ms; fn has then seen what came before. */
typedef int tf_item_fn(void *ctx, enum tf_item type, const uint8_t *data, size_t len);
int tf_timeline_inspect(struct tf_timeline *timeline, const struct tf_inspect_req *req, const char *text,
                        int timeout_ms, tf_item_fn *fn, void *ctx, struct tf_err *err);
/* Re-executes everything, from the start or the run's base on, and compares it all. Divergence:
 * TF_E_DIVERGENCE, and *out says where. */
int tf_timeline_verify(struct tf_timeline *timeline, struct tf_verified *out, struct tf_err *err);
/* Of a light run (TF_LIGHT_ONLY): executes it again, with frame events, up to its end or to where replay
 * cannot go on. fn gets what becomes known, as items of a ring (ring.h), and how much of the log has been
 * used. What is not 0 ends it. */
typedef int tf_derived_fn(void *ctx, const uint32_t *items, size_t n, uint64_t offset, struct tf_err *err);
int tf_timeline_derive(struct tf_timeline *timeline, tf_derived_fn *fn, void *ctx, struct tf_err *err);
/* The first frame event that can be visited: 1, or the one behind the run's base. */
uint64_t tf_timeline_first(const struct tf_timeline *timeline);
/* The last frame event that a replay can reach, and why not further (NULL: it is the last of the run). */
uint64_t tf_timeline_reach(const struct tf_timeline *timeline, const char **why);
/* Why the processes run without the filter of system calls (checkpoint/filter.h); NULL: they have it. */
const char *tf_timeline_unfiltered(const struct tf_timeline *timeline);
struct tf_cursor *tf_timeline_cursor(struct tf_timeline *timeline);
/* The threads of the run, by number; and the one with a number, or NULL. The timeline's. */
const struct tf_thread_row *tf_timeline_threads(const struct tf_timeline *timeline, size_t *n);
const struct tf_thread_row *tf_timeline_thread(const struct tf_timeline *timeline, uint32_t number);
/* Does the event take a function from the stack? */
bool tf_is_exit(enum tf_tag event);
/* The stack of a thread at a position, outermost first, malloc'ed; *event: the thread's last one. 1, 0: it
 * has not run yet, or an error. */
int tf_thread_stack(struct tf_timeline *timeline, uint32_t thread, struct tf_position at,
                    struct tf_activation **v, size_t *n, struct tf_frame *event, struct tf_err *err);
/* Its checkpoints, without those that have died meanwhile. Good until the timeline is used again. */
struct tf_checkpoints *tf_timeline_checkpoints(struct tf_timeline *timeline);

#endif
