/* test_set.c: the checkpoints that are kept (checkpoint/set.h), with real processes: children that wait at a
 * socket, as checkpoints do. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "checkpoint/policy.h"
#include "checkpoint/set.h"

static const struct tf_checkpoint_limits wide = {.max = 32, .bytes = 1ull << 40};

/* A child that has so much memory of its own and waits until its socket is closed. */
static struct tf_runner park(size_t bytes)
{
    int fds[2];
    char c;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        void *p =
            bytes ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
        if (p && p != MAP_FAILED)
            memset(p, 1, bytes);
        c = 'x'; /* ready */
        if (write(fds[1], &c, 1) == 1)
            while (read(fds[1], &c, 1) < 0 && errno == EINTR)
                ;
        _exit(0);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 1);
    return (struct tf_runner){.socket = fds[0], .pid = pid};
}

static struct tf_checkpoint make(uint64_t frame, enum tf_checkpoint_kind kind, size_t bytes)
{
    bool parked = kind != TF_CHECKPOINT_DURABLE;
    return (struct tf_checkpoint){.frame = frame,
                                  .kind = kind,
                                  .work_ns = frame * 1000000,
                                  .image = kind == TF_CHECKPOINT_DURABLE ? 7 : 0,
                                  .runner = parked ? park(bytes) : TF_RUNNER_NONE};
}

static bool add(struct tf_checkpoints *set, struct tf_checkpoint c)
{
    uint64_t last = set->n ? set->v[set->n - 1].frame : 0;
    last = c.frame > last ? c.frame : last;
    const struct tf_checkpoint_view view = {.present_frame = last, .total_ns = last * 1000000};
    return tf_checkpoints_add(set, &c, 0, &view);
}

static void nothing_left(pid_t pid)
{
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void sorted(const struct tf_checkpoints *set)
{
    for (size_t i = 1; i < set->n; i++) {
        assert_true(set->v[i].frame >= set->v[i - 1].frame);
        assert_true(set->v[i].work_ns >= set->v[i - 1].work_ns);
    }
}

/* The last half of as many as there may be stay where the user has been; but not when memory is short. */
static void test_visited(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    tf_checkpoints_init(&set, &(struct tf_checkpoint_limits){.max = 8, .bytes = 1ull << 40});
    assert_true(add(&set, make(0, TF_CHECKPOINT_START, 0)));
    for (uint64_t frame = 3; frame <= 8; frame++) {
        add(&set, make(frame, TF_CHECKPOINT_FORK, 0));
        tf_checkpoints_visit(&set, frame);
    }
    tf_checkpoints_visit(&set, 1000); /* there is none: nothing happens */
    for (int i = 0; i < 20; i++)      /* to and fro: the other places are still among the last */
        tf_checkpoints_visit(&set, 7 + (uint64_t)i % 2);
    for (uint64_t frame = 100; frame < 140; frame++)
        add(&set, make(frame, TF_CHECKPOINT_FORK, 0));
    assert_int_equal(set.n, 8);
    sorted(&set);
    for (uint64_t frame = 5; frame <= 8; frame++)
        assert_int_equal(tf_checkpoints_nearest(&set, frame)->frame, frame);
    assert_int_not_equal(tf_checkpoints_nearest(&set, 3)->frame, 3);
    set.limits.bytes = 1;
    set.measured_ms = set.looked_ms = 0;
    set.bytes = 1ull << 40;
    tf_checkpoints_thin(&set, &(struct tf_checkpoint_view){.present_frame = 139, .total_ns = 139000000});
    assert_int_equal(tf_checkpoints_live(&set), 1); /* the start */
    tf_checkpoints_clear(&set);
}

static void test_order(void **state)
{
    (void)state;
    struct tf_checkpoints set, other;
    tf_checkpoints_init(&set, &wide);
    assert_null(tf_checkpoints_nearest(&set, 100));
    assert_int_equal(tf_checkpoints_reap(&set), 0);
    const uint64_t frames[] = {30, 10, 20, 40, 5};
    for (size_t i = 0; i < 5; i++)
        assert_true(add(&set, make(frames[i], TF_CHECKPOINT_FORK, 0)));
    assert_null(tf_checkpoints_nearest(&set, 4));
    assert_true(add(&set, make(0, TF_CHECKPOINT_START, 0)));
    sorted(&set);
    assert_int_equal(set.v[0].kind, TF_CHECKPOINT_START);
    assert_int_equal(tf_checkpoints_live(&set), 6);
    assert_int_equal(tf_checkpoints_nearest(&set, 4)->frame, 0);
    assert_int_equal(tf_checkpoints_nearest(&set, 29)->frame, 20);
    assert_int_equal(tf_checkpoints_nearest(&set, 30)->frame, 30);
    assert_int_equal(tf_checkpoints_nearest(&set, UINT64_MAX)->frame, 40);
    /* A second one at the same place is ended. */
    struct tf_checkpoint again = make(20, TF_CHECKPOINT_FORK, 0);
    assert_false(add(&set, again));
    nothing_left(again.runner.pid);
    /* One whose CPU time does not fit between its neighbours' takes theirs. */
    struct tf_checkpoint odd = make(25, TF_CHECKPOINT_FORK, 0);
    odd.work_ns = 1;
    assert_true(add(&set, odd));
    sorted(&set);
    tf_checkpoints_move(&other, &set);
    assert_int_equal(set.n, 0);
    assert_int_equal(other.n, 7);
    pid_t pid = other.v[3].runner.pid;
    tf_checkpoints_clear(&other);
    assert_int_equal(other.n, 0);
    nothing_left(pid);
}

static void test_number(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    const struct tf_checkpoint_limits limits = {.max = 4, .bytes = 1ull << 40};
    tf_checkpoints_init(&set, &limits);
    for (uint64_t frame = 1; frame <= 20; frame++) {
        add(&set, make(frame, TF_CHECKPOINT_FORK, 0));
        assert_true(set.n <= 3); /* the start, which is not there yet, is one of them */
        sorted(&set);
    }
    assert_int_equal(set.n, 3);
    assert_int_equal(set.dropped, 17);
    assert_true(add(&set, make(0, TF_CHECKPOINT_START, 0)));
    assert_int_equal(set.n, 4);
    set.limits.max = 1;
    tf_checkpoints_thin(&set, &(struct tf_checkpoint_view){.present_frame = 20, .total_ns = 20});
    assert_int_equal(set.n, 1);
    assert_int_equal(set.v[0].kind, TF_CHECKPOINT_START);
    assert_true(set.v[0].runner.socket >= 0);
    struct tf_checkpoint c = make(30, TF_CHECKPOINT_FORK, 0);
    assert_false(add(&set, c));
    nothing_left(c.runner.pid);
    tf_checkpoints_clear(&set);
}

/* Each has 8 MB that nobody shares, the limit is 30: three can stay. */
static void test_memory(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    const struct tf_checkpoint_limits limits = {.max = 32, .bytes = 30 << 20};
    tf_checkpoints_init(&set, &limits);
    for (uint64_t frame = 1; frame <= 10; frame++) {
        set.measured_ms = set.looked_ms = 0; /* else it would not be measured again within so short a time */
        add(&set, make(frame, TF_CHECKPOINT_FORK, 8 << 20));
        tf_checkpoints_measure(&set);
        assert_true(set.bytes <= limits.bytes);
        uint64_t sum = 0;
        for (size_t i = 0; i < set.n; i++) {
            assert_true(set.v[i].used.private >= 8 << 20);
            assert_true(set.v[i].used.shared >= set.v[i].used.private);
            sum += set.v[i].used.shared;
        }
        assert_int_equal(sum, set.bytes);
    }
    assert_in_range(set.n, 2, 3);
    tf_checkpoints_clear(&set);
}

/* Without measuring again, what is said to have grown counts. */
static void test_memory_estimated(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    tf_checkpoints_init(&set, &wide);
    for (uint64_t frame = 1; frame <= 4; frame++)
        assert_true(add(&set, make(frame, TF_CHECKPOINT_FORK, 4 << 20)));
    tf_checkpoints_measure(&set);
    set.measure_ns = (int64_t)3600 * 1000000000; /* so it may not be measured for a day */
    set.limits.bytes = set.bytes + (1 << 20);
    struct tf_checkpoint c = make(5, TF_CHECKPOINT_FORK, 0);
    const struct tf_checkpoint_view view = {.present_frame = 5, .total_ns = 5000000};
    assert_true(tf_checkpoints_add(&set, &c, 2 << 20, &view));
    assert_int_equal(set.dropped, 1);
    assert_int_equal(set.n, 4);
    assert_true(set.bytes <= set.limits.bytes);
    tf_checkpoints_clear(&set);
}

/* An estimate that is far too high: measuring finds that all of them fit. */
static void test_memory_overestimated(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    tf_checkpoints_init(&set, &wide);
    for (uint64_t frame = 1; frame <= 4; frame++)
        assert_true(add(&set, make(frame, TF_CHECKPOINT_FORK, 4 << 20)));
    tf_checkpoints_measure(&set);
    set.measure_ns = 0;
    set.limits.bytes = set.bytes + (2 << 20);
    struct tf_checkpoint c = make(5, TF_CHECKPOINT_FORK, 0);
    const struct tf_checkpoint_view view = {.present_frame = 5, .total_ns = 5000000};
    assert_true(tf_checkpoints_add(&set, &c, 1 << 30, &view));
    assert_int_equal(set.dropped, 0);
    assert_true(set.bytes <= set.limits.bytes);
    tf_checkpoints_clear(&set);
}

/* A few at a time: a round is complete when each has been measured, and then the sum is known. */
static void test_memory_in_slices(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    tf_checkpoints_init(&set, &wide);
    for (uint64_t frame = 1; frame <= 3; frame++)
        assert_true(add(&set, make(frame, TF_CHECKPOINT_FORK, 8 << 20)));
    tf_checkpoints_measure(&set);
    uint64_t round = set.round, sum = set.bytes, measured = 0;
    set.v[1].used = (struct tf_memory_use){0};
    set.v[1].round = 0; /* as if only the others had had their turn */
    set.v[0].round = set.v[2].round = round + 1;
    set.limits.bytes = 16 << 20;
    set.limits.max = 4;
    set.measured_ms = 1;
    set.measure_ns = 0;
    set.looked_ms = 0;
    tf_checkpoints_thin(&set, &(struct tf_checkpoint_view){.present_frame = 3, .total_ns = 3000000});
    assert_true(set.round > round);
    for (size_t i = 0; i < set.n; i++)
        measured += set.v[i].used.shared > 0;
    assert_int_equal(measured, set.n);
    assert_int_equal(set.n, 1); /* the limit has room for one, with an eighth to spare */
    assert_true(set.bytes < sum);
    tf_checkpoints_clear(&set);
}

static void test_killed(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    tf_checkpoints_init(&set, &wide);
    add(&set, make(0, TF_CHECKPOINT_START, 0));
    for (uint64_t frame = 10; frame <= 40; frame += 10)
        add(&set, make(frame, TF_CHECKPOINT_FORK, 0));
    assert_int_equal(tf_checkpoints_reap(&set), 0);
    for (size_t i = 0; i < 4; i += 3) { /* the start, and the one at 30 */
        siginfo_t info;
        pid_t pid = set.v[i].runner.pid;
        kill(pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    }
    assert_int_equal(tf_checkpoints_reap(&set), 2);
    assert_int_equal(set.died, 2);
    assert_int_equal(tf_checkpoints_nearest(&set, 35)->frame, 20); /* the neighbour */
    assert_int_equal(set.v[0].kind, TF_CHECKPOINT_START);          /* can be started again */
    assert_true(set.v[0].runner.socket < 0);
    assert_int_equal(tf_checkpoints_live(&set), 3);
    assert_int_equal(tf_checkpoints_reap(&set), 0);
    tf_checkpoints_clear(&set);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* An image needs no process: it stays whatever the limits are, and is found. */
static void test_durable(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    const struct tf_checkpoint_limits limits = {.max = 2, .bytes = 1ull << 40};
    tf_checkpoints_init(&set, &limits);
    assert_true(add(&set, make(50, TF_CHECKPOINT_DURABLE, 0)));
    assert_true(add(&set, make(0, TF_CHECKPOINT_START, 0)));
    assert_true(add(&set, make(90, TF_CHECKPOINT_DURABLE, 0)));
    for (uint64_t frame = 10; frame < 100; frame += 20) /* one of them at 50: it needs no restoring */
        add(&set, make(frame, TF_CHECKPOINT_FORK, 0));
    assert_int_equal(tf_checkpoints_live(&set), 2);
    assert_int_equal(set.n, 4);
    const struct tf_checkpoint *c = tf_checkpoints_nearest(&set, 95);
    assert_int_equal(c->frame, 90);
    assert_int_equal(c->kind == TF_CHECKPOINT_DURABLE ? c->image : 7, 7);
    /* Restored: it has a process, which may be dropped; the image stays. */
    set.limits.max = 3;
    for (size_t i = 0; i < set.n; i++)
        if (set.v[i].frame == 50 && set.v[i].kind == TF_CHECKPOINT_DURABLE)
            set.v[i].runner = park(0);
    set.limits.max = 1;
    tf_checkpoints_thin(&set, &(struct tf_checkpoint_view){.present_frame = 95, .total_ns = 95000000});
    assert_int_equal(tf_checkpoints_live(&set), 1);
    assert_int_equal(set.n, 3);
    assert_int_equal(tf_checkpoints_nearest(&set, 60)->image, 7);
    tf_checkpoints_clear(&set);
}

/* A fork and an image of the same place: the fork is there at once. */
static void test_same_place(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    tf_checkpoints_init(&set, &wide);
    assert_true(add(&set, make(50, TF_CHECKPOINT_FORK, 0)));
    add(&set, make(50, TF_CHECKPOINT_DURABLE, 0));
    assert_int_equal(set.n, 2);
    assert_int_equal(tf_checkpoints_nearest(&set, 50)->kind, TF_CHECKPOINT_FORK);
    tf_checkpoints_drop(&set, 1);
    assert_int_equal(tf_checkpoints_nearest(&set, 50)->kind, TF_CHECKPOINT_DURABLE);
    tf_checkpoints_clear(&set);
}

static void test_drop_run(void **state)
{
    (void)state;
    struct tf_checkpoints set;
    tf_checkpoints_init(&set, &wide);
    for (uint64_t frame = 10; frame <= 60; frame += 10) {
        struct tf_checkpoint c = make(frame, TF_CHECKPOINT_FORK, 0);
        c.run_number = frame / 20;
        add(&set, c);
    }
    tf_checkpoints_drop_run(&set, 0, 0); /* no replay's */
    assert_int_equal(set.n, 6);
    tf_checkpoints_drop_run(&set, 2, 45); /* left 40 and 50 */
    assert_int_equal(set.n, 5);
    assert_int_equal(tf_checkpoints_nearest(&set, 55)->frame, 40);
    tf_checkpoints_clear(&set);
}

/* What is read of a process. */
static void test_reading(void **state)
{
    (void)state;
    struct tf_memory_use use;
    struct tf_runner r = park(4 << 20);
    assert_true(tf_memory_measure(r.pid, &use));
    assert_true(use.private >= 4 << 20 && use.private < 64 << 20);
    assert_true(tf_memory_resident(r.pid) >= use.shared);
    assert_true(tf_memory_faults(r.pid) >= 1024);
    assert_true(tf_memory_cpu_ns(r.pid) > 0);
    tf_runner_end(&r);
    assert_false(tf_memory_measure(0, &use));
    assert_int_equal(use.shared, 0);
    assert_int_equal(tf_memory_resident(0), 0);
    assert_in_range(tf_memory_fault_ns(), 100, 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_visited),
        cmocka_unit_test(test_number),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_estimated),
        cmocka_unit_test(test_memory_overestimated),
        cmocka_unit_test(test_memory_in_slices),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_durable),
        cmocka_unit_test(test_same_place),
        cmocka_unit_test(test_drop_run),
        cmocka_unit_test(test_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
