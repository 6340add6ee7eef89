/* Which checkpoint a bounded recording is dropped up to, and when the next one is wanted. */
#include "store_fixture.h"

#include "store/bound.h"

#define S 1000000000ull
#define MB 1000000ull

static size_t choose(uint64_t max_bytes, uint64_t last_ns, const struct tf_bound_point *p, size_t n,
                     uint64_t now, uint64_t bytes, uint64_t growth)
{
    const struct tf_bound_limits limits = {.max_bytes = max_bytes, .last_ns = last_ns};
    return tf_bound_choose(&limits, p, n, now, bytes, growth);
}

static void test_choose(void **state)
{
    (void)state;
    static const struct tf_bound_point p[] = {
        {10 * S, 1 * MB}, {20 * S, 5 * MB}, {30 * S, 6 * MB}, {40 * S, 20 * MB}};
    assert_int_equal(choose(0, 0, p, 4, 1000 * S, 1000 * MB, MB), 0);
    assert_int_equal(choose(MB, S, p, 0, 1000 * S, 1000 * MB, MB), 0); /* no checkpoint: nothing goes */
    /* By time: at least so much stays. */
    assert_int_equal(choose(0, 5 * S, p, 4, 14 * S, 0, 0), 0);
    assert_int_equal(choose(0, 5 * S, p, 4, 15 * S, 0, 0), 1);
    assert_int_equal(choose(0, 15 * S, p, 4, 40 * S, 0, 0), 2);
    assert_int_equal(choose(0, 1, p, 4, 40 * S, 0, 0), 3);
    assert_int_equal(choose(0, 100 * S, p, 4, 40 * S, 0, 0), 0);
    assert_int_equal(choose(0, 1, p, 4, 5 * S, 0, 0), 0); /* a clock that was set back */
    /* By size: at most so much stays, with what will come. */
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 0), 0);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 1), 1);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 5 * MB), 2);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 6 * MB), 3);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 7 * MB), 4);
    assert_int_equal(choose(1 * MB, 0, p, 4, 0, 25 * MB, 7 * MB), 4); /* it does not fit: as far as can be */
    /* Both: whatever drops more. */
    assert_int_equal(choose(25 * MB, 15 * S, p, 4, 40 * S, 25 * MB, 1), 2);
    assert_int_equal(choose(25 * MB, 100 * S, p, 4, 40 * S, 25 * MB, 6 * MB), 3);
}

static void test_wants(void **state)
{
    (void)state;
    const struct tf_bound_limits none = {0}, size = {.max_bytes = 80 * MB}, time = {.last_ns = 80 * S},
                                 both = {.max_bytes = 80 * MB, .last_ns = 80 * S};
    assert_false(tf_bound_wants(&none, 1000 * S, 1000 * MB));
    assert_false(tf_bound_wants(&size, 1000 * S, 10 * MB - 1));
    assert_true(tf_bound_wants(&size, S, 10 * MB));
    assert_false(tf_bound_wants(&size, S / 4, 1000 * MB)); /* not twice a second */
    assert_false(tf_bound_wants(&time, 10 * S - 1, 1000 * MB));
    assert_true(tf_bound_wants(&time, 10 * S, 0));
    assert_true(tf_bound_wants(&both, 10 * S, 0));
    assert_true(tf_bound_wants(&both, S, 10 * MB));
}

/* A day of a program whose speed changes, one checkpoint when one is wanted: what is kept is within the
 * limits, but for what comes between two checkpoints. */
static void test_simulated(void **state)
{
    (void)state;
    static struct tf_bound_point p[200];
    const uint64_t image = 2 * MB;
    for (int kind = 0; kind < 3; kind++) {
        const struct tf_bound_limits limits = {.max_bytes = kind != 1 ? 100 * MB : 0,
                                               .last_ns = kind != 0 ? 600 * S : 0};
        size_t n = 0;
        uint64_t bytes = 0, begun = 0, since = 0, largest = 0, taken = 0, dropped_ns = 0;
        for (uint64_t now = 0; now < 86400 * S; now += S / 2) {
            uint64_t rate = now / (1000 * S) % 3 == 0   ? 3 * MB
                            : now / (1000 * S) % 3 == 1 ? MB / 100
                                                        : MB / 4;
            bytes += rate / 2;
            since += rate / 2;
            largest = bytes > largest ? bytes : largest;
            if (!tf_bound_wants(&limits, now - begun, since))
                continue;
            assert_true(n < 200);
            p[n++] = (struct tf_bound_point){now, bytes};
            bytes += image;
            taken++;
            size_t k = tf_bound_choose(&limits, p, n, now, bytes, since);
            begun = now;
            since = 0;
            if (!k)
                continue;
            uint64_t gone = p[k - 1].bytes_before;
            dropped_ns = p[k - 1].ns;
            bytes -= gone;
            memmove(p, p + k - 1, (n - k + 1) * sizeof *p);
            n -= k - 1;
            for (size_t i = 0; i < n; i++)
                p[i].bytes_before -= gone;
            if (limits.max_bytes)
                assert_true(bytes <= limits.max_bytes);
            if (!limits.max_bytes) /* at least so much is there, and not a quarter more */
                assert_true(now - dropped_ns >= limits.last_ns && now - dropped_ns < limits.last_ns * 5 / 4);
        }
        assert_true(dropped_ns > 0);
        if (limits.max_bytes)
            assert_true(largest <= limits.max_bytes + limits.max_bytes / 8);
        assert_true(taken < 86400 / 4);
    }
}

static void test_due(void **state)
{
    (void)state;
    struct tf_bound b;
    tf_bound_init(&b, &(struct tf_bound_limits){.max_bytes = 80 * MB}, 5000);
    assert_false(tf_bound_due(&b, 9 * MB, 100000));
    assert_true(tf_bound_due(&b, 10 * MB, 6000));
    assert_false(tf_bound_due(&b, 10 * MB, 5400));
    assert_true(tf_bound_limited(&b.limits));
    assert_false(tf_bound_limited(&(struct tf_bound_limits){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_wants),
        cmocka_unit_test(test_simulated),
        cmocka_unit_test(test_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
