/* What the commands say of a run of several processes: the list, --process, mistakes. */
#include "command_fixture.h"

static char path[256], other[256];

static void print(struct fx_ring *r, const char *what)
{
    fx_outside(r, 1, TF_OUT_STDOUT, NULL, 0, what, strlen(what), (int64_t)strlen(what));
}

/* One process forks a child; that one forks another and becomes an interpreter. And a run of one process. */
static int make(void **state)
{
    struct tf_store *store;
    struct fx_ring r[4];
    struct tf_ingest *in[4];
    fx_setup(state);
    snprintf(path, sizeof path, "%s", fx_path("r.timefork"));
    snprintf(other, sizeof other, "%s", fx_path("one.timefork"));
    for (int i = 0; i < 4; i++) {
        fx_ring_make(&r[i], 1 << 16);
        r[i].shm->program_pid = 100 + (uint32_t)i;
    }
    ok(tf_store_create(path, &store, err));
    in[0] = fx_begin(store, &r[0], "run");
    fx_start(&r[0]);
    fx_code(&r[0], 1, "/nowhere/a.py", "main", 1);
    fx_item(&r[0], TF_WORD(TF_CALL, 1), NULL, 0);
    print(&r[0], "before\n");
    fx_item(&r[0], TF_WORD(TF_CALL, 1), NULL, 0);
    fx_item(&r[0], TF_WORD(TF_TIME, 1000000), NULL, 0);
    fx_drain(in[0]);
    ok(tf_ingest_fork(in[0], r[1].shm, r[1].words, 0, &in[1], err));
    print(&r[0], "parent\n");
    print(&r[1], "child\n");
    fx_code(&r[1], 2, "/nowhere/a.py", "childs", 9);
    fx_item(&r[1], TF_WORD(TF_CALL, 2), NULL, 0);
    fx_drain(in[1]);
    ok(tf_ingest_fork(in[1], r[2].shm, r[2].words, 0, &in[2], err));
    print(&r[2], "grandchild\n");
    fx_item(&r[2], TF_WORD(TF_RETURN, 0), NULL, 0);
    fx_item(&r[2], TF_WORD(TF_RETURN, 0), NULL, 0);
    fx_drain(in[2]);
    fx_mark(&r[1], TF_MARK_EXEC, "/usr/bin/python3");
    fx_drain(in[1]);
    struct tf_ingest_opts opts = {.command = "python3 -c x", .title = "x", .parent = in[1]};
    ok(tf_ingest_begin(store, r[3].shm, r[3].words, &opts, &in[3], err));
    fx_start(&r[3]);
    fx_drain(in[3]);
    for (int i = 0; i < 4; i++) {
        fx_drain(in[i]);
        if (i == 3) /* a recorder that was lost leaves it like this */
            fx_item(&r[3], TF_WORD(TF_CALL, 77), NULL, 0);
        struct tf_err ignored;
        if (i == 3)
            assert_true(tf_ingest_drain(in[3], &ignored) < 0);
        ok(tf_ingest_end(in[i], i == 0 ? 3 : -1, i == 2 ? 9 : 0, NULL, err));
        fx_ring_free(&r[i]);
    }
    tf_store_close(store);
    fx_ring_make(&r[0], 1 << 16);
    ok(tf_store_create(other, &store, err));
    in[0] = fx_begin(store, &r[0], "one");
    fx_start(&r[0]);
    fx_drain(in[0]);
    ok(tf_ingest_end(in[0], 0, 0, NULL, err));
    tf_store_close(store);
    fx_ring_free(&r[0]);
    return 0;
}

static void test_list(void **state)
{
    (void)state;
    static const struct {
        int64_t pid, parent, began, frames, own, outside;
        const char *origin, *state, *command, *became;
    } want[] = {
        {4711, -1, 0, 2, 2, 3, "started", "complete", "shop.py", "(null)"},
        {101, 1, 2, 3, 1, 3, "forked", "complete", "shop.py", "/usr/bin/python3"},
        {102, 2, 3, 5, 2, 1, "forked", "complete", "shop.py", "(null)"},
        {4711, 2, 3, 0, 0, 0, "executed", "incomplete", "python3 -c x", "(null)"},
    };
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-processes", "--format", "json"), 0);
    for (int i = 0; i < 4; i++) {
        json_t *o = line(i);
        assert_int_equal(number(o, "process"), i + 1);
        assert_int_equal(number(o, "pid"), want[i].pid);
        if (want[i].parent < 0)
            assert_true(json_is_null(json_object_get(o, "parent")));
        else
            assert_int_equal(number(o, "parent"), want[i].parent);
        assert_int_equal(number(o, "began_frame"), want[i].began);
        assert_int_equal(number(o, "frames"), want[i].frames);
        assert_int_equal(number(o, "own_frames"), want[i].own);
        assert_int_equal(number(o, "own_outside"), want[i].outside);
        assert_string_equal(text(o, "origin"), want[i].origin);
        assert_string_equal(text(o, "state"), want[i].state);
        assert_string_equal(text(o, "command"), want[i].command);
        assert_string_equal(text(o, "became"), want[i].became);
        if (want[i].origin[0] == 'f') /* a million units of 16 ticks: some milliseconds */
            assert_true(number(o, "began_ns") > 1000000 && number(o, "began_ns") < 1000000000);
        assert_int_equal(json_is_null(json_object_get(o, "exit_status")), i != 0);
        assert_int_equal(json_is_null(json_object_get(o, "exit_signal")), i != 2);
        json_decref(o);
    }
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-processes"), 0);
    says("FROM FRAME");
    says("signal 9");
    says("  another     shop.py  -> /usr/bin/python3");
    says("unfinished");
    says("shop.py  -> /usr/bin/python3\n");
    assert_int_equal(
        command(tf_cmd_query, "query", path, "--list-processes", "--offset", "2", "--limit", "1"), 0);
    says("signal 9");
    says_not("another");
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-runs"), 0);
    says("(4 processes)");
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-runs", "--format", "json"), 0);
    json_t *o = line(0);
    assert_int_equal(number(o, "processes"), 4);
    json_decref(o);
    assert_null(strchr(strchr(said, '\n') + 1, '\n'));
    assert_int_equal(command(tf_cmd_query, "query", other, "--list-runs"), 0);
    says_not("process");
    assert_int_equal(command(tf_cmd_query, "query", other, "--list-processes", "--format", "json"), 0);
    assert_null(strchr(strchr(said, '\n') + 1, '\n'));
}

static void test_one_of_them(void **state)
{
    (void)state;
    static const struct {
        char *process;
        const char *output, *functions;
    } want[] = {
        {"1", "[frame 1 stdout] before\n[frame 2 stdout] parent\n", "main main "},
        {"2", "[frame 1 stdout] before\n[frame 2 stdout] child\n", "main main childs "},
        {"3", "[frame 1 stdout] before\n[frame 2 stdout] child\n[frame 3 stdout] grandchild\n",
         "main main childs childs main "},
    };
    for (int i = 0; i < 3; i++) {
        char functions[256] = "";
        assert_int_equal(command(tf_cmd_query, "query", path, "--process", want[i].process, "--output"), 0);
        assert_string_equal(said, want[i].output);
        assert_int_equal(command(tf_cmd_query, "query", path, "--process", want[i].process, "--frames",
                                 "--format", "json"),
                         0);
        for (int k = 0; k < (i == 0 ? 2 : i == 1 ? 3 : 5); k++) {
            json_t *o = line(k);
            strcat(strcat(functions, text(o, "function")), " ");
            json_decref(o);
        }
        assert_string_equal(functions, want[i].functions);
        assert_int_equal(command(tf_cmd_query, "query", path, "--process", want[i].process, "--stats"), 0);
        assert_int_equal(strstr(said, "childs") != NULL, i > 0);
    }
    assert_int_equal(command(tf_cmd_query, "query", path, "--output"), 0);
    assert_string_equal(said, want[0].output);
}

static void test_mistakes(void **state)
{
    (void)state;
    char *numbers[] = {"5", "4294967296", "4294967297", "18446744073709551615"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(command(tf_cmd_query, "query", path, "--process", numbers[i], "--output"), 1);
        says("it has 1 to 4");
        assert_int_equal(command(tf_cmd_verify, "verify", path, "--process", numbers[i]), 1);
        says("it has 1 to 4");
        assert_int_equal(command(tf_cmd_replay, "replay", path, "--process", numbers[i], "--goto-frame", "1"),
                         1);
        says("it has 1 to 4");
    }
    assert_int_equal(command(tf_cmd_query, "query", other, "--process", "2", "--output"), 1);
    says("has no process 2; it has 1\n");
    assert_int_equal(command(tf_cmd_query, "query", path, "--process", "x", "--output"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--process", "0", "--output"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--process", "1", "--list-runs"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--process", "1", "--list-processes"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-processes", "--frames"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-processes", "--all"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--run", "zzz", "--list-processes"), 1);
    assert_int_equal(command(tf_cmd_verify, "verify", path, "--process", "0"), 2);
    assert_int_equal(command(tf_cmd_verify, "verify", path, "--process"), 2);
    assert_int_equal(command(tf_cmd_replay, "replay", path, "--process", "two", "--goto-frame", "1"), 2);
    says("--process two");
    assert_int_equal(command(tf_cmd_debug, "debug", "--process", "2", "/nowhere/x.py"), 2);
}

/* Nobody can run these again, and it says so for each. */
static void test_verify(void **state)
{
    (void)state;
    assert_int_equal(command(tf_cmd_verify, "verify", path, "--format", "json"), 1);
    for (int i = 0; i < 4; i++) {
        json_t *o = line(i);
        assert_int_equal(number(o, "process"), i + 1);
        assert_string_equal(text(o, "result"), "failed");
        json_decref(o);
    }
    assert_int_equal(command(tf_cmd_verify, "verify", path), 1);
    says("process 1: ");
    says("process 4: ");
    assert_int_equal(command(tf_cmd_verify, "verify", path, "--process", "3"), 1);
    says("process 3: ");
    says_not("process 1: ");
    says_not("process 2: ");
    assert_int_equal(command(tf_cmd_verify, "verify", other), 1);
    says_not("process 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_one_of_them),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_verify),
    };
    return cmocka_run_group_tests(tests, make, fx_teardown);
}
