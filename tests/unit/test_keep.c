/* Keepers (checkpoint/keep.h): with processes that do nothing in place of checkpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpoint/keep.h"
#include "cli/keep.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char folder[64], recording[96];

/* A process with `bytes` of its own, which ends when its socket is closed. */
static struct tf_kept_checkpoint park(uint64_t frame, size_t bytes)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte, *memory = malloc(bytes);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        memset(memory, (int)frame | 1, bytes);
        if (write(fds[1], "", 1) != 1)
            _exit(1);
        while (read(fds[1], &byte, 1) > 0)
            ;
        _exit(memory[bytes / 2] == 0);
    }
    char ready;
    close(fds[1]);
    assert_int_equal(read(fds[0], &ready, 1), 1);
    return (struct tf_kept_checkpoint){.frame = frame, .socket = fds[0], .pid = pid};
}

/* A keeper of n such processes, in a process of its own. It exists when this returns. */
static pid_t keep(const char *run, size_t n, size_t bytes, uint64_t cap, int64_t ms)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct tf_kept_checkpoint v[8];
        struct tf_keeper *keeper;
        struct tf_err err;
        char build[TF_KEEP_BUILD];
        tf_keep_build(build);
        for (size_t i = 0; i < n; i++)
            v[i] = park(1 + i * 100, bytes);
        struct tf_keep_opts opts = {.run = run,
                                    .path = recording,
                                    .title = "test",
                                    .duration_ms = ms,
                                    .memory_cap = cap,
                                    .build = build};
        if (tf_keeper_new(&opts, v, n, &keeper, &err))
            _exit(2);
        if (write(ready[1], "", 1) != 1)
            _exit(3);
        close(ready[1]);
        tf_keeper_run(keeper);
        tf_keeper_free(keeper);
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static int end_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Those of this test: what a user of this machine keeps is listed, too, if it is in another folder. */
static void list(struct tf_kept_session **v, size_t *n)
{
    size_t all;
    assert_int_equal(tf_keep_list(v, &all, NULL), 0);
    *n = 0;
    for (size_t i = 0; i < all; i++) {
        if (strncmp((*v)[i].socket, folder, strlen(folder)) == 0)
            (*v)[(*n)++] = (*v)[i];
        else
            json_decref((*v)[i].state);
    }
}

static size_t listed(void)
{
    struct tf_kept_session *v;
    size_t n;
    list(&v, &n);
    tf_keep_list_free(v, n);
    return n;
}

static void list_use_and_end(void **state)
{
    struct tf_kept_session *v;
    struct tf_kept_checkpoint got[8];
    struct tf_err err;
    size_t n;
    int connection;
    pid_t pid;
    (void)state;
    pid_t keeper = keep(A, 3, 4096, 1ul << 30, 60000);
    list(&v, &n);
    assert_int_equal(n, 1);
    assert_string_equal(v[0].run, A);
    assert_string_equal(v[0].unfit, "");
    assert_int_equal(v[0].pid, keeper);
    assert_int_equal(tf_keep_use(A, recording, got, 2, &n, &connection, &pid, &err), 0);
    assert_int_equal(n, 2); /* there was no room for more */
    assert_int_equal(got[1].frame, 101);
    close(got[0].socket);
    close(got[1].socket);
    close(connection);
    assert_int_equal(tf_keep_use(B, recording, got, 8, &n, &connection, &pid, &err), TF_E_NOTFOUND);
    assert_int_equal(tf_keep_use("../x", recording, got, 8, &n, &connection, &pid, &err), TF_E_NOTFOUND);
    assert_int_equal(tf_keep_use(A, "/dev/null", got, 8, &n, &connection, &pid, &err), TF_E_NOTFOUND);
    assert_int_equal(tf_keep_end(&v[0], &err), 0);
    tf_keep_list_free(v, 1);
    assert_int_equal(end_of(keeper), 0);
    assert_int_equal(listed(), 0);
}

static void thins_to_the_cap(void **state)
{
    struct tf_kept_checkpoint got[8];
    size_t n = 0;
    int connection;
    pid_t pid;
    (void)state;
    pid_t keeper = keep(A, 5, 16 << 20, 60 << 20, 60000);
    for (int i = 0; i < 500; i++) { /* it serves before it has measured, or after */
        assert_int_equal(tf_keep_use(A, recording, got, 8, &n, &connection, &pid, NULL), 0);
        for (size_t k = 0; k < n; k++)
            close(got[k].socket);
        close(connection);
        if (n < 5)
            break;
        usleep(10000);
    }
    assert_int_equal(n, 3); /* of 16 MiB each */
    assert_int_equal(got[n - 1].frame, 401);
    kill(keeper, SIGTERM);
    assert_int_equal(end_of(keeper), 0);
}

static void ends_at_the_cap(void **state)
{
    (void)state;
    assert_int_equal(end_of(keep(A, 2, 4096, 1, 60000)), 0);
    assert_int_equal(listed(), 0);
}

/* All keepers of a user have one cap together: the older one goes. */
static void shares_the_cap(void **state)
{
    (void)state;
    pid_t older = keep(A, 2, 16 << 20, 1ul << 30, 60000);
    pid_t younger = keep(B, 2, 16 << 20, 50 << 20, 60000);
    assert_int_equal(end_of(older), 0);
    assert_int_equal(listed(), 1);
    kill(younger, SIGTERM);
    assert_int_equal(end_of(younger), 0);
}

static void ends_in_time(void **state)
{
    (void)state;
    assert_int_equal(end_of(keep(A, 1, 4096, 1ul << 30, 50)), 0);
    assert_int_equal(listed(), 0);
}

static void nothing_to_keep(void **state)
{
    struct tf_keep_opts opts = {
        .run = A, .path = recording, .title = "test", .duration_ms = 1000, .memory_cap = 1, .build = ""};
    struct tf_keeper *keeper;
    struct tf_err err;
    (void)state;
    assert_int_equal(tf_keeper_new(&opts, NULL, 0, &keeper, &err), TF_E_NOTFOUND);
    struct tf_kept_checkpoint dead = park(1, 4096);
    kill(dead.pid, SIGKILL);
    waitpid(dead.pid, NULL, 0);
    assert_int_equal(tf_keeper_new(&opts, &dead, 1, &keeper, &err), TF_E_NOTFOUND);
    close(dead.socket);
}

static void durations(void **state)
{
    static const char *const wrong[] = {
        "", "10", "s", "0s", "-1s", "10x", "1.5h", "10 m", "31d", "10ms", "99999999999999999999s"};
    int64_t ms = 0;
    char text[32];
    (void)state;
    assert_true(tf_duration_parse("90s", &ms) && ms == 90000);
    assert_true(tf_duration_parse("10m", &ms) && ms == TF_KEEP_DEFAULT_MS);
    assert_true(tf_duration_parse("2h", &ms) && ms == 7200000);
    assert_true(tf_duration_parse("30d", &ms) && ms == 30ll * 86400000);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(tf_duration_parse(wrong[i], &ms));
    assert_string_equal(tf_duration_text(59999, text, sizeof text), "59s");
    assert_string_equal(tf_duration_text(600000, text, sizeof text), "10m");
    assert_string_equal(tf_duration_text(90000, text, sizeof text), "1m 30s");
    assert_string_equal(tf_duration_text(5400000, text, sizeof text), "1h 30m");
    assert_string_equal(tf_duration_text(90000000, text, sizeof text), "1d 1h");
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/timefork-unit-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    setenv("XDG_RUNTIME_DIR", folder, 1);
    snprintf(recording, sizeof recording, "%s/recording", folder);
    FILE *f = fopen(recording, "w");
    return f && fclose(f) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_use_and_end), cmocka_unit_test(thins_to_the_cap),
        cmocka_unit_test(ends_at_the_cap),  cmocka_unit_test(shares_the_cap),
        cmocka_unit_test(ends_in_time),     cmocka_unit_test(nothing_to_keep),
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
