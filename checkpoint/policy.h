/*
 * policy.h: when to take checkpoints, and which to keep. Pure functions of numbers; the supervisor calls
 * them.
 *
 * A checkpoint is worth the time that it saves, so where checkpoints stand is measured in the work that lies
 * before them: CPU time of the process since its start, in nanoseconds. What they cost is a share of it, too:
 * the forks, and the page faults that come of them.
 */
#ifndef TF_POLICY_H
#define TF_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TF_POLICY_MAX 32            /* processes kept at most, unless the user says otherwise */
#define TF_POLICY_BUDGET 0.05       /* share of the run time, unless the user says otherwise */
#define TF_POLICY_MIN_NS 10000000   /* 10 ms: re-executing less than this is not worth a process */
#define TF_POLICY_FAR_NS 1000000000 /* 1 s: who waits for so long may as well wait for less */

/* ---- which to keep ---- */

/*
 * One of n checkpoints, sorted by work, has to go: which? Those that `fixed` says stay (NULL: only the first,
 * the start, does). Returns n if all are fixed.
 *
 * The wider the gap that it leaves, the worse for a jump into it; the nearer to the user's position
 * `present`, the more likely is one. So the victim is the one with the least gap / (distance + total / n /
 * 64), which makes gaps grow with the distance, as doubling does (rr, ocamldebug): O(log n) of them lie
 * between the present and any distance from it. But no gap becomes wider than 2 * total / v, where v is the
 * number of those that may go: there is always one that leaves no wider gap, for the gaps on both sides of
 * all of them together are at most twice the total.
 */
size_t tf_policy_victim(const uint64_t *work, const bool *fixed, size_t n, uint64_t present, uint64_t total);

/* ---- when to take the next ---- */

/* What a process's checkpoints have cost so far. Zeros at first, but for the budget. */
struct tf_policy_cost {
    double budget;     /* share of the run time, 0 to 1 */
    uint64_t spent_ns; /* forks, and the faults after all but the last of them */
    uint64_t next_ns;  /* what the next is expected to cost; 0: none has been taken */
    uint64_t forks;
    uint64_t idle_forks; /* in a row that did not stay: the limits had no room for them */
};
/* Before the first one is taken, of a process that has so many pages: what it writes to afterwards is not
 * known yet, so it is taken to be all of them. */
void tf_policy_expect(struct tf_policy_cost *cost, uint64_t pages, uint64_t fault_ns);
/* Has the process run for so long, CPU time, that the first one is within the budget? */
bool tf_policy_may_begin(const struct tf_policy_cost *cost, uint64_t run_ns);
/* A checkpoint was taken. fork_ns: how long the process was held up; faults: minor faults since the one
 * before; pages: that the process had resident at that fork, for the fork is not to blame for more faults
 * than that; fault_ns: what one of them costs. stays: there was room for it. */
void tf_policy_taken(struct tf_policy_cost *cost, uint64_t fork_ns, uint64_t faults, uint64_t pages,
                     uint64_t fault_ns, bool stays);
/*
 * How long it shall be until the process takes the next one, so that the budget holds for this piece of the
 * run. expected_ns: how long it will run, if that is known (a replay, for which somebody waits): then they
 * are spread over that. 0: not known (a recording). Then the budget holds for all of the run so far, too, and
 * they get rarer in proportion to it, up to TF_POLICY_FAR_NS. run_ns: what it has run so far, CPU time: a
 * program that waits has time for a fork, but what comes of it is in the way when it goes on. max: how many
 * can be kept. UINT64_MAX: none at all.
 */
uint64_t tf_policy_spacing_ns(const struct tf_policy_cost *cost, uint64_t run_ns, size_t max,
                              uint64_t expected_ns);

#endif
