/*
 * bound.h: keeping a recording bounded while it grows (record --max-size, --last): when a durable checkpoint
 * is wanted, and up to which of them the run's past is dropped. In the supervisor; see store.h for ownership
 * and errors.
 *
 * The recorder calls it like this, for the first process:
 *
 *     tf_bound_init(&bound, &limits, now_ms)      at the start
 *     tf_bound_due(&bound, written, now_ms)       now and then: take a durable checkpoint when it is true, as
 * far as the budget allows tf_bound_added(&bound, store, in, ...)      when an image is in the file
 * (tf_maker_step() gave 1): decides tf_bound_step(&bound, store, in, idle, ..)  each time round the loop,
 * while bound.dropping: one short transaction
 *
 * So at any time the run takes what the limits say, and what is written between two checkpoints besides.
 */
#ifndef TF_BOUND_H
#define TF_BOUND_H

#include "store/store.h"

struct tf_bound_limits {
    uint64_t max_bytes; /* of the run in the file, all processes and checkpoints; 0: no limit */
    uint64_t last_ns;   /* how much of its end is kept at least; 0: no limit */
};
static inline bool tf_bound_limited(const struct tf_bound_limits *l)
{
    return l->max_bytes || l->last_ns;
}

/* ---- the policy: pure functions of numbers ---- */

/* A durable checkpoint, from which on the run could be kept. */
struct tf_bound_point {
    uint64_t ns;           /* when it was taken, on any clock */
    uint64_t bytes_before; /* what dropping everything before it would give back */
};
/*
 * Up to which of n points (in the order of the run) to drop: the number of points that are then in front of
 * or at the run's begin, so points[result - 1] becomes the base; 0: none. bytes: what the run takes now;
 * growth: what is expected to come before this is asked again.
 *
 * --last keeps at least so much: up to the newest point that is at least as old. --max-size keeps at most so
 * much: up to the oldest point behind which bytes and growth fit; if they fit behind none, to the newest.
 * With both, whatever drops more.
 */
size_t tf_bound_choose(const struct tf_bound_limits *limits, const struct tf_bound_point *points, size_t n,
                       uint64_t now_ns, uint64_t bytes, uint64_t growth);
/* Is the next checkpoint wanted, so long and so many bytes after the last (or the start)? An eighth of a
 * limit: so a recording is an eighth away from it, at most. Not twice a second. */
bool tf_bound_wants(const struct tf_bound_limits *limits, uint64_t since_ns, uint64_t since_bytes);

/* ---- for the recorder ---- */

struct tf_bound {
    struct tf_bound_limits limits;
    uint64_t begun_ms, begun_written; /* of the last checkpoint, or the start */
    uint64_t left;                    /* bytes that the run took then, after what was dropped */
    bool dropping;                    /* tf_bound_step() has something to do */
    bool images;            /* ... and those checkpoints are still there that stand before the base */
    uint64_t frame, offset; /* up to where */
    /* Why it cannot be kept within the limits, for the user, said anew when it changes; empty: it can. */
    char why[400];
};
void tf_bound_init(struct tf_bound *bound, const struct tf_bound_limits *limits, uint64_t now_ms);
/* written: the sum of tf_ingest_written() of all processes. now_ms: CLOCK_MONOTONIC. */
bool tf_bound_due(const struct tf_bound *bound, uint64_t written, uint64_t now_ms);
/* An image of the process of `in` has come into the file. 0, or an error: then nothing is dropped this time.
 */
int tf_bound_added(struct tf_bound *bound, struct tf_store *store, const struct tf_ingest *in,
                   uint64_t written, uint64_t now_ms, struct tf_err *err);
/* Goes on dropping. idle: no image is being made or put; those before the base are removed only then, and a
 * page set has to be loaded anew after a call with it. 0, or an error: then it is given up until the next
 * image. */
int tf_bound_step(struct tf_bound *bound, struct tf_store *store, struct tf_ingest *in, bool idle,
                  struct tf_err *err);

#endif
