/* test_policy.c: which checkpoints are kept (checkpoint/policy.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "checkpoint/policy.h"

static void drop(uint64_t *frames, size_t *n, size_t victim)
{
    assert_true(victim >= 1 && victim < *n);
    memmove(&frames[victim], &frames[victim + 1], (*n - victim - 1) * sizeof *frames);
    (*n)--;
}

static uint64_t widest_gap(const uint64_t *frames, size_t n, uint64_t total)
{
    uint64_t widest = total - frames[n - 1];
    for (size_t i = 1; i < n; i++)
        if (frames[i] - frames[i - 1] > widest)
            widest = frames[i] - frames[i - 1];
    return widest;
}

/* A run forward that offers a checkpoint every step: never more than the cap, and no gap wider than the
 * bound. */
static void test_forward(void **state)
{
    (void)state;
    for (uint64_t step = 1; step < 2000000; step *= 7) {
        uint64_t frames[TF_POLICY_MAX + 1] = {0}, total = step * 1000;
        size_t n = 1;
        for (uint64_t at = step; at <= total; at += step) {
            frames[n++] = at;
            if (n > TF_POLICY_MAX)
                drop(frames, &n, tf_policy_victim(frames, n, at, total));
            assert_true(n <= TF_POLICY_MAX);
            assert_int_equal(frames[0], 0);
        }
        assert_int_equal(n, TF_POLICY_MAX);
        assert_true(widest_gap(frames, n, total) <= 5 * (total / n + 1));
    }
}

/* While a recording goes on, the present is the end of what is known. */
static void test_recording(void **state)
{
    (void)state;
    uint64_t frames[TF_POLICY_MAX + 1] = {0};
    size_t n = 1;
    for (uint64_t at = 1; at <= 100000; at++) {
        frames[n++] = at;
        if (n > TF_POLICY_MAX)
            drop(frames, &n, tf_policy_victim(frames, n, at, at));
        for (size_t i = 1; i < n; i++)
            assert_true(frames[i] > frames[i - 1]);
        if (at > TF_POLICY_MAX)
            assert_true(widest_gap(frames, n, at) <= 5 * (at / n + 1));
    }
}

/* Around the present there are more of them than far away. */
static void test_dense_near_the_present(void **state)
{
    (void)state;
    uint64_t frames[TF_POLICY_MAX + 1] = {0}, total = 10000000, present = 7000000;
    size_t n = 1;
    for (int i = 1; i < TF_POLICY_MAX; i++)
        frames[n++] = (uint64_t)i * (total / TF_POLICY_MAX);
    for (uint64_t at = present - 40000; at < present; at += 4000) {
        size_t k = n;
        while (frames[k - 1] > at)
            k--;
        memmove(&frames[k + 1], &frames[k], (n - k) * sizeof *frames);
        frames[k] = at;
        n++;
        drop(frames, &n, tf_policy_victim(frames, n, present, total));
    }
    size_t near = 0;
    for (size_t i = 0; i < n; i++)
        near += frames[i] + 50000 > present && frames[i] <= present;
    assert_true(near >= 4);
    assert_true(widest_gap(frames, n, total) <= 5 * (total / n + 1));
}

static void test_smallest(void **state)
{
    (void)state;
    uint64_t two[2] = {0, 0}, same[4] = {0, 5, 5, 5};
    assert_int_equal(tf_policy_victim(two, 2, 0, 0), 1);
    assert_true(tf_policy_victim(same, 4, 5, 5) >= 1);
}

static void test_spacing(void **state)
{
    (void)state;
    assert_int_equal(tf_policy_spacing_ns(0, 32), TF_POLICY_MIN_NS);
    assert_int_equal(tf_policy_spacing_ns(3200000000u, 32), 100000000);
    assert_int_equal(tf_policy_spacing_ns(UINT64_MAX, 0), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_recording),
        cmocka_unit_test(test_dense_near_the_present),
        cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_spacing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
