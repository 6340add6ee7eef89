/*
 * policy.c: see policy.h. rr spaces its checkpoints by the time it takes to replay from one to the next and
 * keeps O(log n) of them around the user's position; ocamldebug doubles the distance of older ones. A
 * debugger's user jumps nearby mostly and far sometimes, so both the neighbourhood and the worst case count
 * here.
 */
#include "checkpoint/policy.h"

size_t tf_policy_victim(const uint64_t *work, const bool *fixed, size_t n, uint64_t present, uint64_t total)
{
    size_t victim = n, loose = 0;
    double least = 0;
    bool within = false;
    if (n && total < work[n - 1])
        total = work[n - 1];
    for (size_t i = 0; i < n; i++)
        loose += fixed ? !fixed[i] : i > 0;
    if (!loose)
        return n;
    uint64_t bound = total / loose * 2 + 2, near = total / n / 64 + 1;
    for (size_t i = 0; i < n; i++) {
        if (fixed ? fixed[i] : i == 0)
            continue;
        uint64_t gap = (i + 1 < n ? work[i + 1] : total) - (i ? work[i - 1] : 0);
        uint64_t distance = work[i] > present ? work[i] - present : present - work[i];
        double score = (double)gap / ((double)distance + (double)near);
        bool fits = gap <= bound;
        if (victim == n || fits > within || (fits == within && score < least)) {
            victim = i;
            least = score;
            within = fits;
        }
    }
    return victim;
}

/* What is not seen: caches and address translation that are cold afterwards. */
static uint64_t with_unseen(uint64_t ns)
{
    return ns + ns / 4;
}

void tf_policy_expect(struct tf_policy_cost *cost, uint64_t pages, uint64_t fault_ns)
{
    if (!cost->forks)
        cost->next_ns = with_unseen(pages * fault_ns);
}

bool tf_policy_may_begin(const struct tf_policy_cost *cost, uint64_t run_ns)
{
    return (double)run_ns * cost->budget >= (double)cost->next_ns;
}

void tf_policy_taken(struct tf_policy_cost *cost, uint64_t fork_ns, uint64_t faults, uint64_t pages,
                     uint64_t fault_ns, bool stays)
{
    uint64_t after = (cost->forks ? faults < pages ? faults : pages : 0) * fault_ns; /* the former fork's */
    uint64_t whole = with_unseen(fork_ns + after);
    cost->forks++;
    cost->spent_ns += whole;
    /* Soon believed when it becomes dearer, slowly when it becomes cheaper. One that took long because the
     * machine was busy is no rule. */
    if (cost->forks == 1)
        cost->next_ns += whole; /* to what was expected */
    else if (whole > cost->next_ns)
        cost->next_ns += (whole - cost->next_ns) / 2;
    else
        cost->next_ns -= (cost->next_ns - whole) / 4;
    cost->idle_forks = stays ? 0 : cost->idle_forks + 1;
}

static uint64_t at_least(uint64_t ns, double least)
{
    return least >= (double)(UINT64_MAX / 2) ? UINT64_MAX : (double)ns < least ? (uint64_t)least : ns;
}

uint64_t tf_policy_spacing_ns(const struct tf_policy_cost *cost, uint64_t run_ns, size_t max,
                              uint64_t expected_ns)
{
    if (max < 2 || !(cost->budget > 0))
        return UINT64_MAX;
    uint64_t rarer = run_ns / (2 * max);
    if (rarer > TF_POLICY_FAR_NS)
        rarer = TF_POLICY_FAR_NS;
    uint64_t ns = expected_ns ? expected_ns / max : rarer;
    ns = at_least(ns, TF_POLICY_MIN_NS);
    ns = at_least(ns, (double)cost->next_ns / cost->budget);
    if (!expected_ns) /* When it has been paid for, all that was spent is within the budget, and the next one.
                       */
        ns = at_least(ns, (double)(cost->spent_ns + cost->next_ns) / cost->budget - (double)run_ns);
    for (uint64_t i = 0; i < cost->idle_forks && i < 16 && ns < UINT64_MAX / 2; i++)
        ns *= 2;
    return ns;
}
