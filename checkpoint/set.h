/*
 * set.h: the checkpoints of one process that are kept, while it is recorded and while it is replayed: sorted,
 * within limits, without those whose process has ended. In the supervisor.
 *
 * A checkpoint in a set is the set's: its process is ended when it is dropped. Pointers into a set are good
 * until the next call that adds or drops.
 */
#ifndef TF_SET_H
#define TF_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "checkpoint/memory.h"
#include "replay/runner.h"

enum tf_checkpoint_kind {
    TF_CHECKPOINT_START, /* parked before the first instruction of Python */
    TF_CHECKPOINT_FORK,
    TF_CHECKPOINT_DURABLE, /* an image in the recording; has a process only when it has been restored */
};

const char *tf_checkpoint_kind_name(enum tf_checkpoint_kind kind); /* "start", "fork", "durable" */

struct tf_checkpoint {
    uint64_t frame, offset; /* where it stands: frame events, bytes of the outside stream */
    enum tf_checkpoint_kind kind;
    struct tf_runner runner;   /* TF_RUNNER_NONE: no process (yet). Its pid is 0 if it is no child of ours */
    int64_t image;             /* DURABLE: row of the image (store/images.h) */
    uint64_t run_number;       /* of the replay that left it; 0: none did */
    bool recorded;             /* taken while recording: has to be told where it stands */
    bool kept;                 /* of a keeper, which serves other replays, too (checkpoint/keep.h) */
    uint64_t work_ns;          /* CPU time from the start to here: what re-executing it costs */
    int64_t made_ms;           /* tf_now_ms() when it was made */
    struct tf_memory_use used; /* when it was measured last; zeros: never */
    uint64_t round;            /* in which round of measuring that was */
    uint32_t deaths;           /* DURABLE: how many of its processes somebody else has ended */
    uint64_t visited;          /* number of the last visit (tf_checkpoints_visit()); 0: never */
};

struct tf_checkpoint_limits {
    size_t max;     /* processes, that of the start among them, be it there or not */
    uint64_t bytes; /* that they may take together (PSS) */
};
/* As many as TF_POLICY_MAX, tf_memory_cap(). */
struct tf_checkpoint_limits tf_checkpoint_limits_default(void);

struct tf_checkpoints {
    struct tf_checkpoint *v; /* by frame; of one frame: the start, durable ones, the fork */
    size_t n, room;
    struct tf_checkpoint_limits limits;
    /* What is known of their memory; see tf_checkpoints_measure(). */
    uint64_t bytes; /* the sum, measured or estimated since */
    uint64_t grown; /* since the present round of measuring began */
    uint64_t round; /* rounds that are complete: one measures each process, a few at a time */
    bool in_round;
    int64_t measured_ms; /* when some were measured last; 0: never */
    int64_t looked_ms;   /* when the estimate was last compared with what is resident */
    int64_t measure_ns;  /* what that took */
    uint64_t dropped;    /* by thinning, since the start */
    uint64_t died;       /* found dead */
    uint64_t visits;     /* so far */
};

void tf_checkpoints_init(struct tf_checkpoints *set, const struct tf_checkpoint_limits *limits);
/* Ends all processes and frees everything. The set is empty then, with its limits. */
void tf_checkpoints_clear(struct tf_checkpoints *set);
/* Moves what `from` has into `to`, which is empty. `from` is empty then. */
void tf_checkpoints_move(struct tf_checkpoints *to, struct tf_checkpoints *from);

/* Where the user is or goes, in a replay; the end of what there is, while recording. total_ns: CPU time of
 * all of the process, as far as is known; at least what the last checkpoint has. */
struct tf_checkpoint_view {
    uint64_t present_frame, total_ns;
};
/* Takes the checkpoint over and thins. Ends it again if there is a fork at its frame already, or if memory
 * for its entry is short. grown_bytes: how much the processes' memory has grown since the last one was added,
 * as far as is known (pages that were copied on write). False: it has not stayed. */
bool tf_checkpoints_add(struct tf_checkpoints *set, const struct tf_checkpoint *checkpoint,
                        uint64_t grown_bytes, const struct tf_checkpoint_view *view);
/* The user stands there: who has been at a place comes back to it. So the checkpoints of the last visits,
 * half of as many as there may be, stay as long as there is memory for them. If there is one at exactly that
 * frame.
 */
void tf_checkpoints_visit(struct tf_checkpoints *set, uint64_t frame);
/* Ends the process of v[i]. A fork is forgotten with it; the start and durable ones stay, without a process.
 */
void tf_checkpoints_drop(struct tf_checkpoints *set, size_t i);
/* The same, and forgets it, of whatever kind: a durable one that cannot be restored. */
void tf_checkpoints_forget(struct tf_checkpoints *set, size_t i);
/* Drops the forks behind a frame that the replay with that number has left. */
void tf_checkpoints_drop_run(struct tf_checkpoints *set, uint64_t run_number, uint64_t frame);
/* Drops those whose process has ended: killed by the user or for want of memory. Asks the kernel about each
 * socket, microseconds. Returns how many. */
size_t tf_checkpoints_reap(struct tf_checkpoints *set);
/* Drops what is over the limits. */
void tf_checkpoints_thin(struct tf_checkpoints *set, const struct tf_checkpoint_view *view);

/* The last one at or before a frame, with or without a process; NULL: there is none. */
struct tf_checkpoint *tf_checkpoints_nearest(struct tf_checkpoints *set, uint64_t frame);
/* How many have a process. */
size_t tf_checkpoints_live(const struct tf_checkpoints *set);
/* Measures the memory of each process: a millisecond or so for 100 MB each, more of large ones. For who wants
 * to see it; thinning does it by itself, a few at a time, so that the supervisor is not held up for long, and
 * in 5% of its time at most. */
void tf_checkpoints_measure(struct tf_checkpoints *set);

#endif
