/* test_policy.c: when checkpoints are taken, and which are kept (checkpoint/policy.h): the functions alone,
 * and together over runs of seconds to weeks, in virtual time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "checkpoint/policy.h"

enum { MOST = 128 };
static const double S = 1e9;

static void drop(uint64_t *work, size_t *n, size_t victim)
{
    assert_true(victim < *n);
    memmove(&work[victim], &work[victim + 1], (*n - victim - 1) * sizeof *work);
    (*n)--;
}

static uint64_t widest_gap(const uint64_t *work, size_t n, uint64_t total)
{
    uint64_t widest = total - work[n - 1];
    for (size_t i = 1; i < n; i++)
        if (work[i] - work[i - 1] > widest)
            widest = work[i] - work[i - 1];
    return widest;
}

/* ---- which to keep ---- */

/* A replay forward to the present that offers a checkpoint every step: never more than the cap, and no gap
 * wider than the bound. */
static void test_forward(void **state)
{
    (void)state;
    for (uint64_t step = 1; step < 2000000; step *= 7) {
        uint64_t work[TF_POLICY_MAX + 1] = {0}, total = step * 1000;
        size_t n = 1;
        for (uint64_t at = step; at <= total; at += step) {
            work[n++] = at;
            if (n > TF_POLICY_MAX)
                drop(work, &n, tf_policy_victim(work, NULL, n, at, total));
            assert_int_equal(work[0], 0);
        }
        assert_int_equal(n, TF_POLICY_MAX);
        assert_true(widest_gap(work, n, total) <= 2 * total / TF_POLICY_MAX + 2 + step);
    }
}

/* Around the present there are more of them than far away. */
static void test_dense_near_the_present(void **state)
{
    (void)state;
    uint64_t work[TF_POLICY_MAX + 1] = {0}, total = 10000000, present = 7000000;
    size_t n = 1;
    for (int i = 1; i < TF_POLICY_MAX; i++)
        work[n++] = (uint64_t)i * (total / TF_POLICY_MAX);
    for (uint64_t at = present - 40000; at < present; at += 4000) {
        size_t k = n;
        while (work[k - 1] > at)
            k--;
        memmove(&work[k + 1], &work[k], (n - k) * sizeof *work);
        work[k] = at;
        n++;
        drop(work, &n, tf_policy_victim(work, NULL, n, present, total));
    }
    size_t near = 0;
    for (size_t i = 0; i < n; i++)
        near += work[i] + 50000 > present && work[i] <= present;
    assert_true(near >= 4);
    assert_true(widest_gap(work, n, total) <= 2 * total / TF_POLICY_MAX + 2);
}

/* What stays (the start, images in the recording) is never chosen, but gaps are counted from it. */
static void test_fixed(void **state)
{
    (void)state;
    const uint64_t work[5] = {0, 100, 101, 200, 300};
    const bool fixed[5] = {true, true, false, true, false}, all[3] = {true, true, true};
    assert_int_equal(tf_policy_victim(work, fixed, 5, 300, 300), 2);
    assert_int_equal(tf_policy_victim(work, all, 3, 0, 300), 3);
    assert_int_equal(tf_policy_victim(work, NULL, 1, 0, 300), 1);
    assert_int_equal(tf_policy_victim(work, NULL, 0, 0, 0), 0);
}

static void test_smallest(void **state)
{
    (void)state;
    const uint64_t two[2] = {0, 0}, same[4] = {0, 5, 5, 5};
    assert_int_equal(tf_policy_victim(two, NULL, 2, 0, 0), 1);
    size_t victim = tf_policy_victim(same, NULL, 4, 5, 5);
    assert_true(victim >= 1 && victim < 4);
    victim = tf_policy_victim(same, NULL, 4, 0, 1); /* a total that is behind what is known */
    assert_true(victim >= 1 && victim < 4);
}

/* ---- when to take the next ---- */

static void test_spacing(void **state)
{
    (void)state;
    struct tf_policy_cost cost = {.budget = 0.05}, none = {.budget = 0};
    assert_int_equal(tf_policy_spacing_ns(&cost, 0, 32, 0), TF_POLICY_MIN_NS);
    assert_int_equal(tf_policy_spacing_ns(&cost, 0, 32, 3200000000u), 100000000);
    assert_int_equal(tf_policy_spacing_ns(&cost, (uint64_t)(1e6 * S), 32, 0), TF_POLICY_FAR_NS);
    assert_true(tf_policy_spacing_ns(&none, 0, 32, 0) == UINT64_MAX); /* none at all */
    assert_true(tf_policy_spacing_ns(&cost, 0, 1, 0) == UINT64_MAX);  /* nothing but the start */
    tf_policy_taken(&cost, 1600000, 0, 0, 700, true);                 /* and a quarter for what is not seen */
    assert_int_equal(cost.next_ns, 2000000);
    assert_in_range(tf_policy_spacing_ns(&cost, (uint64_t)S, 32, 0), 39900000,
                    40100000); /* 2 ms are 5% of 40 */
    assert_in_range(tf_policy_spacing_ns(&cost, 0, 32, 0), 79900000,
                    80100000); /* and have to be earned first */
}

/* A fork is not to blame for more faults than the process had pages at that time. */
static void test_cost_of_faults(void **state)
{
    (void)state;
    struct tf_policy_cost cost = {.budget = 0.05};
    tf_policy_taken(&cost, 1000, 999999, 0, 1000, true); /* of the time before the first one */
    assert_int_equal(cost.spent_ns, 1250);
    tf_policy_taken(&cost, 1000, 50, 2500, 1000, true);
    assert_int_equal(cost.spent_ns, 1250 + 51000 * 5 / 4);
    uint64_t before = cost.next_ns;
    tf_policy_taken(&cost, 1000, 999999, 2500, 1000, true);
    const uint64_t whole = 2501000ull * 5 / 4;
    assert_int_equal(cost.spent_ns, 1250 + 51000 * 5 / 4 + whole);
    assert_int_equal(cost.next_ns, before + (whole - before) / 2);
    before = cost.next_ns;
    tf_policy_taken(&cost, 1000, 0, 2500, 1000, true);
    assert_int_equal(cost.next_ns, before - (before - 1250) / 4);
}

/* What the first one costs is known only when the second is taken: until then, all that can be. */
static void test_first(void **state)
{
    (void)state;
    struct tf_policy_cost cost = {.budget = 0.05};
    assert_true(tf_policy_may_begin(&cost, 0));
    tf_policy_expect(&cost, 25600, 2500); /* 100 MB: 64 ms, and a quarter */
    assert_int_equal(cost.next_ns, 80000000);
    assert_false(tf_policy_may_begin(&cost, 1599999999));
    assert_true(tf_policy_may_begin(&cost, 1600000000));
    tf_policy_taken(&cost, 4000000, 999999, 25600, 2500, true);
    assert_int_equal(cost.next_ns, 85000000);
    assert_in_range(tf_policy_spacing_ns(&cost, (uint64_t)(1.6 * S), 32, 0), 1699000000, 1701000000);
    tf_policy_expect(&cost, 1, 2500); /* too late */
    assert_int_equal(cost.next_ns, 85000000);
    for (int i = 0; i < 40; i++) /* it writes to little: believed by and by */
        tf_policy_taken(&cost, 4000000, 100, 25600, 2500, true);
    assert_true(cost.next_ns < 6000000);
}

/* Where the limits have no room for another one, the attempts get rarer. */
static void test_no_room(void **state)
{
    (void)state;
    struct tf_policy_cost cost = {.budget = 0.05};
    uint64_t before = 0;
    for (int i = 0; i < 10; i++) {
        tf_policy_taken(&cost, 1000, 0, 0, 700, false);
        uint64_t ns = tf_policy_spacing_ns(&cost, 0, 32, 0);
        assert_true(ns >= 2 * before);
        before = ns;
    }
    tf_policy_taken(&cost, 1000, 0, 0, 700, true);
    assert_int_equal(tf_policy_spacing_ns(&cost, (uint64_t)S / 2, 32, 0), TF_POLICY_MIN_NS);
}

/* ---- simulation ---- */

/* A program in virtual time. Seconds, bytes and shares. */
struct program {
    const char *name;
    double seconds;
    double mb, mb_per_s, mb_most; /* resident: at the start, growth, bound */
    double working_set;           /* share of its pages that it writes to sooner or later */
    double tau;                   /* in about so many seconds */
    double allocates;             /* faults per second that no fork is to blame for */
    double busy;                  /* share of the time that it computes: the rest it waits */
    double stall;                 /* once in 20 checkpoints there is no event for so long */
};

struct course {
    double budget;
    size_t max;
    uint64_t work[MOST + 1];
    size_t n;
    struct tf_policy_cost cost;
    double now, spent, widest_offered, dearest;
    double former, former_pages; /* the last fork: when, and how many pages were copied for it */
    uint64_t forks;
};

static const double FORK_S_PER_MB = 7.5e-6, FAULT_NS = 700, PAGES_PER_MB = 256;

static double resident(const struct program *p, double now)
{
    double mb = p->mb + p->mb_per_s * now;
    return mb < p->mb_most ? mb : p->mb_most;
}

/* Pages that are copied after a fork: those that the program writes to until the next. */
static double copied(const struct program *p, const struct course *c, double now)
{
    return c->former_pages * p->working_set * (1 - exp(-(now - c->former) / p->tau));
}

static void invariants(const struct program *p, const struct course *c)
{
    uint64_t total = (uint64_t)(c->now * p->busy * S);
    assert_true(c->n <= c->max);
    assert_int_equal(c->work[0], 0);
    for (size_t i = 1; i < c->n; i++)
        assert_true(c->work[i] >= c->work[i - 1]);
    /* No gap is wider than two fair ones, or than it came. */
    double bound = 2.0 * (double)total / (double)c->max + c->widest_offered * p->busy * S + 10;
    if ((double)widest_gap(c->work, c->n, total) > bound)
        fail_msg("%s: a gap of %g s, bound %g s", p->name, (double)widest_gap(c->work, c->n, total) / S,
                 bound / S);
    /* The budget holds at any time, but for the one or two from which it is learned what they cost. */
    if (c->spent > c->budget * c->now * 1.01 + 2 * c->dearest)
        fail_msg("%s: %g s of %g s spent, budget %g", p->name, c->spent, c->now, c->budget);
    /* Nor does it take more of the time that the program computes. It is seen late that it mostly waits. */
    if (c->spent > c->budget * c->now * p->busy * 1.01 + 2 * c->dearest / p->busy)
        fail_msg("%s: %g s spent, it computed for %g s, budget %g", p->name, c->spent, c->now * p->busy,
                 c->budget);
}

/* Near the present they are dense: how wide a gap may be grows with its distance, beginning at an eighth of a
 * fair one or at what was offered. (With less than 32 the bound of the widest gap leaves no room for that.)
 */
static void density(const struct program *p, const struct course *c)
{
    double total = c->now * p->busy * S, fair = total / (double)c->max,
           offered = c->widest_offered * p->busy * S;
    for (size_t i = 0; i < c->n; i++) {
        double end = i + 1 < c->n ? (double)c->work[i + 1] : total, gap = end - (double)c->work[i];
        if (gap > 3 * (total - end + fair / 8 + offered) + 10)
            fail_msg("%s, at most %zu: a gap of %g s at a distance of %g s", p->name, c->max, gap / S,
                     (total - end) / S);
    }
}

static void one(const struct program *p, double budget, size_t max)
{
    struct course c = {.budget = budget, .max = max, .n = 1, .cost.budget = budget};
    double spacing = (double)tf_policy_spacing_ns(&c.cost, 0, max, 0) / S, last = 0;
    for (;;) {
        double stall = p->stall && c.forks % 20 == 19 ? p->stall : 0;
        double gap = spacing + 1e-5 + stall;
        if (c.now + gap > p->seconds)
            break;
        c.now += gap;
        if (gap > c.widest_offered)
            c.widest_offered = gap;
        double mb = resident(p, c.now), fork_s = mb * FORK_S_PER_MB + 5e-5;
        double copies = c.forks ? copied(p, &c, c.now) : 0, whole = fork_s + copies * FAULT_NS / S;
        c.spent += whole;
        if (whole > c.dearest)
            c.dearest = whole;
        double faults = copies + p->allocates * (c.now - last);
        last = c.now;
        c.work[c.n++] = (uint64_t)(c.now * p->busy * S);
        if (c.n > max)
            drop(c.work, &c.n, tf_policy_victim(c.work, NULL, c.n, c.work[c.n - 1], c.work[c.n - 1]));
        tf_policy_taken(&c.cost, (uint64_t)(fork_s * S), (uint64_t)faults, (uint64_t)c.former_pages,
                        (uint64_t)FAULT_NS, true);
        c.former = c.now;
        c.former_pages = mb * PAGES_PER_MB;
        c.forks++;
        spacing = (double)tf_policy_spacing_ns(&c.cost, (uint64_t)(c.now * p->busy * S), max, 0) / S;
        if (c.forks < 1000 || c.forks % 97 == 0)
            invariants(p, &c);
        if (max >= 32 && c.forks > 2 * max && c.forks % 97 == 0)
            density(p, &c);
    }
    c.now = p->seconds;
    invariants(p, &c);
    if (max > 1)
        assert_true(c.forks > 0);
    /* It does not wait longer than it has to, either: a second, or until the budget has what the fork may
     * cost, for all that it can know: a copy of each page. Once it may have to pay off the one before. */
    double mb = resident(p, p->seconds);
    double most = 1.25 * (mb * (FORK_S_PER_MB + PAGES_PER_MB * FAULT_NS / S) + 1e-3) / budget / p->busy + 1.1;
    if (c.widest_offered > most * 2 + p->stall)
        fail_msg("%s: %g s without a checkpoint", p->name, c.widest_offered);
}

static void test_simulation(void **state)
{
    (void)state;
    static const struct program programs[] = {
        {"a short script", 2, 12, 0, 12, 0.3, 0.05, 0, 1, 0},
        {"a minute of computing", 60, 60, 0, 60, 0.5, 0.2, 1000, 1, 0},
        {"one that allocates all the time", 60, 100, 0, 100, 0.2, 0.1, 300000, 1, 0},
        {"one that grows", 600, 20, 2, 1000, 0.8, 1, 5000, 1, 0},
        {"a large one that rewrites all of its memory", 600, 2000, 0, 2000, 1, 5, 0, 1, 0},
        {"an hour with long calls of C", 3600, 100, 0, 100, 0.5, 0.5, 0, 1, 20},
        {"a server that waits", 86400, 80, 0.001, 200, 0.2, 1, 100, 0.01, 0},
        {"a week", 604800, 150, 0.0005, 400, 0.3, 2, 2000, 1, 0},
        {"three weeks", 3 * 604800, 50, 0, 50, 0.3, 2, 0, 0.5, 0},
    };
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (programs[i].seconds > 1e5) { /* hundreds of thousands of forks */
            one(&programs[i], TF_POLICY_BUDGET, TF_POLICY_MAX);
        } else {
            for (size_t max = 4; max <= MOST; max *= 2)
                for (double budget = 0.01; budget < 0.3; budget *= 5)
                    one(&programs[i], budget, max);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),    cmocka_unit_test(test_dense_near_the_present),
        cmocka_unit_test(test_fixed),      cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_spacing),    cmocka_unit_test(test_cost_of_faults),
        cmocka_unit_test(test_first),      cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_simulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
