/*
 * policy.c: see policy.h. rr spaces its checkpoints by the time it takes to replay from one to the next and
 * keeps O(log n) of them around the user's position; ocamldebug doubles the distance of older ones. A
 * debugger's user jumps nearby mostly and far sometimes, so both the neighbourhood and the worst case count
 * here.
 */
#include "checkpoint/policy.h"

size_t tf_policy_victim(const uint64_t *frames, size_t n, uint64_t present, uint64_t total)
{
    uint64_t fair = total / n + 1, bound = 4 * fair, near = fair / 64 + 1;
    size_t victim = 1;
    double least = -1;
    int within = 0;
    for (size_t i = 1; i < n; i++) {
        uint64_t end = i + 1 < n ? frames[i + 1] : (total > frames[i] ? total : frames[i]);
        uint64_t gap = end - frames[i - 1];
        uint64_t distance = frames[i] > present ? frames[i] - present : present - frames[i];
        double score = (double)gap / ((double)distance + (double)near);
        int fits = gap <= bound;
        if (least < 0 || fits > within || (fits == within && score < least)) {
            victim = i;
            least = score;
            within = fits;
        }
    }
    return victim;
}

uint64_t tf_policy_spacing_ns(uint64_t expected_ns, size_t max)
{
    uint64_t spacing = expected_ns / (max ? max : 1);
    return spacing < TF_POLICY_MIN_NS ? TF_POLICY_MIN_NS : spacing;
}
