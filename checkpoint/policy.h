/*
 * policy.h: which checkpoints to keep. Pure functions of numbers; the supervisor calls them.
 *
 * Positions are frame numbers. Checkpoints are sorted by position; the first is the start of the recording
 * and is never dropped.
 */
#ifndef TF_POLICY_H
#define TF_POLICY_H

#include <stddef.h>
#include <stdint.h>

#define TF_POLICY_MAX 32          /* checkpoints kept at most, unless the user says otherwise */
#define TF_POLICY_MIN_NS 10000000 /* 10 ms: re-executing less than this is not worth a process */

/*
 * One of n sorted checkpoints has to go (n >= 2): which? The wider the gap that it leaves, the worse for a
 * jump into it; the nearer to the user's position `present`, the more likely is one. So the victim is the one
 * with the least gap / (distance + total / n / 64), but never one that leaves a gap of more than 4 * total /
 * n while there is another: thinning is by doubling distances (as rr and ocamldebug do), with the widest gap
 * bounded.
 */
size_t tf_policy_victim(const uint64_t *frames, size_t n, uint64_t present, uint64_t total);

/* Time between two checkpoints while the process runs forward, ns: so that `max` of them are enough for what
 * is left, as far as is known. */
uint64_t tf_policy_spacing_ns(uint64_t expected_ns, size_t max);

#endif
