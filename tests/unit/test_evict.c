/* Which runs go when a file is to stay small, and the options that say so. */
#include "store_fixture.h"

#include "cli/evict.h"

#define S 1000000000ll
#define RUNS 6

/* Letters of the runs that go, the oldest first; upper case: the run is being recorded. */
static const char *gone(struct tf_evict_limits limits, const char *recorded)
{
    static char out[RUNS + 1];
    struct tf_evict_run runs[RUNS];
    size_t n = 0;
    for (int i = 0; i < RUNS; i++)
        runs[i] = (struct tf_evict_run){.bytes = (uint64_t)(i + 1) * 10,
                                        .ended_unix_ns = 1000 * S + i * 100 * S,
                                        .recorded = strchr(recorded, 'a' + i) != NULL};
    tf_evict_choose(&limits, runs, RUNS, 1600 * S);
    for (int i = 0; i < RUNS; i++)
        if (runs[i].goes)
            out[n++] = (char)('a' + i);
    out[n] = 0;
    return out;
}

static void test_choose(void **state)
{
    (void)state;
    const struct tf_evict_limits nothing = TF_EVICT_NOTHING;
    assert_false(tf_evict_asked(&nothing));
    assert_string_equal(gone(nothing, ""), "");
#define LIMITS(...) ((struct tf_evict_limits){.keep = UINT64_MAX, __VA_ARGS__})
    assert_string_equal(gone((struct tf_evict_limits){.keep = 0}, ""), "abcdef");
    assert_string_equal(gone((struct tf_evict_limits){.keep = 2}, ""), "abcd");
    assert_string_equal(gone((struct tf_evict_limits){.keep = 7}, ""), "");
    assert_string_equal(gone((struct tf_evict_limits){.keep = 2}, "b"), "acd");
    assert_string_equal(gone((struct tf_evict_limits){.keep = 0}, "bf"), "acde");
    /* They ended 600, 500, .. 100 s ago. */
    assert_string_equal(gone(LIMITS(.older_than_ns = 300 * S), ""), "abc");
    assert_string_equal(gone(LIMITS(.older_than_ns = 1 * S), ""), "abcdef");
    assert_string_equal(gone(LIMITS(.older_than_ns = 1 * S), "a"), "bcdef");
    assert_string_equal(gone(LIMITS(.older_than_ns = 1000 * S), ""), "");
    /* 10, 20, .. 60 bytes: 210 together. */
    assert_string_equal(gone(LIMITS(.max_bytes = 210), ""), "");
    assert_string_equal(gone(LIMITS(.max_bytes = 209), ""), "a");
    assert_string_equal(gone(LIMITS(.max_bytes = 150), ""), "abc");
    assert_string_equal(gone(LIMITS(.max_bytes = 1), ""), "abcde"); /* the newest stays */
    assert_string_equal(gone(LIMITS(.max_bytes = 1), "c"), "abde");
    /* Several: whatever says so. What goes anyway takes no space. */
    assert_string_equal(gone((struct tf_evict_limits){.keep = 4, .max_bytes = 150}, ""), "abc");
    assert_string_equal(gone((struct tf_evict_limits){.keep = 4, .older_than_ns = 300 * S}, ""), "abc");
    assert_string_equal(gone((struct tf_evict_limits){.keep = 2, .max_bytes = 1 << 20}, ""), "abcd");
}

static void test_ages(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t s;
    } good[] = {{"1s", 1}, {"90s", 90}, {"10m", 600}, {"2h", 7200}, {"7d", 604800}, {"36500d", 3153600000}};
    static const char *const bad[] = {
        "", "s", "10", "0s", "-1s", "1w", "1.5h", "1h30m", " 1s", "1s ", "99999999999999d"};
    uint64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(tf_age_parse(good[i].text, &ns));
        assert_int_equal(ns, good[i].s * S);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (tf_age_parse(bad[i], &ns))
            fail_msg("'%s' was taken for a time", bad[i]);
}

static void test_options(void **state)
{
    (void)state;
    struct tf_bound_limits limits = {0};
    uint64_t keep = 0;
    assert_int_equal(tf_bound_option(2, (char *[]){"--max-size", "16M"}, &limits, &keep), 2);
    assert_int_equal(limits.max_bytes, 16 << 20);
    assert_int_equal(tf_bound_option(2, (char *[]){"--last", "10m"}, &limits, &keep), 2);
    assert_int_equal(limits.last_ns, 600 * S);
    assert_int_equal(tf_bound_option(2, (char *[]){"--keep-runs", "3"}, &limits, &keep), 2);
    assert_int_equal(keep, 3);
    assert_int_equal(tf_bound_option(2, (char *[]){"--keep", "3"}, &limits, &keep), 0);
    assert_int_equal(tf_bound_option(1, (char *[]){"--last"}, &limits, &keep), -1);
    assert_int_equal(tf_bound_option(2, (char *[]){"--last", "10"}, &limits, &keep), -1);
    assert_int_equal(tf_bound_option(2, (char *[]){"--max-size", "15M"}, &limits, &keep), -1);
    assert_int_equal(tf_bound_option(2, (char *[]){"--keep-runs", "0"}, &limits, &keep), -1);
}

/* In a file: the others go, their space is there for the next run. */
static void test_keep(void **state)
{
    (void)state;
    struct tf_store *store;
    struct tf_run *runs;
    char title[2] = "a";
    size_t n, removed;
    uint64_t bytes;
    ok(tf_store_create(fx_path("keep.timefork"), &store, err));
    struct fx_ring r;
    for (int i = 0; i < 5; i++, title[0]++) {
        fx_ring_make(&r, 1 << 14);
        struct tf_ingest *in = fx_begin(store, &r, title);
        fx_start(&r);
        fx_drain(in);
        ok(tf_ingest_end(in, 0, 0, NULL, err));
        fx_ring_free(&r);
    }
    ok(tf_evict_keep(store, 9, &removed, &bytes, err));
    assert_int_equal(removed, 0);
    ok(tf_evict_keep(store, 2, &removed, &bytes, err));
    assert_int_equal(removed, 3);
    assert_true(bytes > 0);
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 2);
    assert_string_equal(runs[0].title, "d");
    assert_string_equal(runs[1].title, "e");
    tf_runs_free(runs, n);
    /* One that somebody else records stays, however old. */
    fx_ring_make(&r, 1 << 14);
    struct tf_store *other;
    ok(tf_store_create(fx_path("keep.timefork"), &other, err));
    struct tf_ingest *in = fx_begin(other, &r, "live");
    fx_start(&r);
    fx_drain(in);
    struct fx_ring r2;
    fx_ring_make(&r2, 1 << 14);
    struct tf_ingest *last = fx_begin(store, &r2, "last");
    fx_start(&r2);
    fx_drain(last);
    ok(tf_ingest_end(last, 0, 0, NULL, err));
    ok(tf_evict_keep(store, 1, &removed, &bytes, err));
    assert_int_equal(removed, 2);
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 2);
    assert_string_equal(runs[0].title, "live");
    tf_runs_free(runs, n);
    ok(tf_ingest_end(in, 0, 0, NULL, err));
    tf_store_close(other);
    tf_store_close(store);
    fx_ring_free(&r);
    fx_ring_free(&r2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_ages),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_keep),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
