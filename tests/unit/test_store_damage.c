/* Files that are no recordings, or no longer; places that cannot be written to; disks that are full. */
#include "store_fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define CODES 30u

/* A run of a few blocks, not too regular. */
static int make(const char *path, uint64_t n, struct tf_err *err)
{
    struct fx_ring r;
    struct tf_store *store;
    struct tf_ingest *in;
    struct tf_ingest_opts opts = {.command = "x", .title = "x"};
    static uint8_t data[5000];
    int rc = tf_store_create(path, &store, err);
    if (rc)
        return rc;
    fx_ring_make(&r, 1 << 18);
    rc = tf_ingest_begin(store, r.shm, r.words, &opts, &in, err);
    if (rc) {
        tf_store_close(store);
        fx_ring_free(&r);
        return rc;
    }
    fx_start(&r);
    for (uint32_t id = 1; id <= CODES; id++)
        fx_code(&r, id, "/nowhere/x.py", "f", id);
    uint32_t depth = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = fx_random();
        bool call = depth == 0 || (depth < 100 && (x & 1));
        fx_item(&r, call ? TF_WORD(TF_CALL, 1 + (x >> 8) % CODES) : TF_WORD(TF_RETURN, 0), NULL, 0);
        depth += call ? 1u : ~0u;
        if (x % 64 == 2)
            fx_item(&r, TF_WORD(TF_TIME, x >> 50), NULL, 0);
        if (x % 512 == 3) {
            for (size_t k = 0; k < sizeof data; k += 8)
                memcpy(data + k, &(uint64_t){fx_random()}, 8);
            fx_outside(&r, 0, x >> 20 & 1, "x", 1, data, sizeof data, 1);
        }
        if (r.head - r.shm->tail > 100000) {
            rc = (int)tf_ingest_drain(in, err);
            if (rc < 0)
                break;
        }
    }
    if (rc >= 0)
        do
            rc = (int)tf_ingest_drain(in, err);
        while (rc > 0);
    struct tf_err second;
    int end = tf_ingest_end(in, 0, 0, NULL, rc < 0 ? &second : err);
    tf_store_close(store);
    fx_ring_free(&r);
    return rc < 0 ? rc : end;
}

static int nop(void *ctx, const struct tf_output *o)
{
    size_t *n = ctx;
    for (size_t i = 0; i < o->len; i++)
        *n += ((const uint8_t *)o->data)[i];
    return 0;
}

/* Reads all there is. 0, or the first error, which must have a message. */
static int read_all(const char *path, struct tf_err *err, uint64_t *frames)
{
    struct tf_store *store;
    struct tf_run *runs = NULL;
    struct tf_codes codes = {0};
    struct tf_mark_row *marks;
    struct tf_mapped *mapped;
    struct tf_frame f;
    size_t n = 0, k, sum = 0;
    *frames = 0;
    int rc = tf_store_open(path, &store, err);
    if (rc)
        return rc;
    rc = tf_store_runs(store, &runs, &n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        struct tf_cursor *c = NULL;
        uint64_t *digests;
        if (!(rc = tf_store_codes(store, &runs[i], &codes, err)))
            tf_codes_free(&codes);
        if (!rc && !(rc = tf_store_marks(store, &runs[i], &marks, &k, err)))
            tf_marks_free(marks, k);
        if (!rc && !(rc = tf_store_mapped(store, &runs[i], &mapped, &k, err)))
            tf_mapped_free(mapped, k);
        if (!rc && !(rc = tf_store_digests(store, &runs[i], &digests, &k, err)))
            free(digests);
        if (!rc)
            rc = tf_cursor_open(store, &runs[i], &c, err);
        if (!rc) {
            uint64_t last = 0;
            while ((rc = tf_cursor_next(c, &f, err)) == 1)
                last = f.frame;
            *frames += last;
            struct tf_frame *stack;
            if (!rc && last && !(rc = tf_cursor_stack(c, last, &stack, &k, err)))
                free(stack);
        }
        tf_cursor_close(c);
        if (!rc)
            rc = tf_store_each_output(store, &runs[i], nop, &sum, err);
    }
    tf_runs_free(runs, n);
    tf_store_close(store);
    return rc;
}

static void test_not_a_recording(void **state)
{
    (void)state;
    struct tf_store *store;
    const char *path = fx_path("x");
    sqlite3 *db;
    static const struct {
        const char *text, *want;
    } files[] = {
        {"hello", "not a timefork recording"},
        {"#!/usr/bin/python3\nprint('a program of a hundred bytes or more, which somebody gave instead of "
         "its "
         "recording')\n",
         "not a timefork recording"},
        {"SQLite format 3", "not a timefork recording"},
    };
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(files[i].text), now;
        fx_write(path, files[i].text, len);
        refused(tf_store_open(path, &store, err), TF_E_FORMAT, files[i].want);
        refused(tf_store_create(path, &store, err), TF_E_FORMAT, files[i].want);
        char *text = fx_read(path, &now);
        assert_int_equal(now, len);
        assert_memory_equal(text, files[i].text, len);
        free(text);
    }
    fx_write(path, "SQLite format 3\0....", 20);
    refused(tf_store_open(path, &store, err), TF_E_FORMAT, "truncated");
    /* Somebody else's database. */
    unlink(path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE runs(x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    refused(tf_store_open(path, &store, err), TF_E_FORMAT, "not a timefork recording");
    refused(tf_store_create(path, &store, err), TF_E_FORMAT, "not a timefork recording");
    unlink(path);
    refused(tf_store_open(path, &store, err), TF_E_IO, "No such file");
    fx_write(path, "", 0);
    refused(tf_store_open(path, &store, err), TF_E_FORMAT, "is empty");
    unlink(path);
    refused(tf_store_open(fx_dir, &store, err), TF_E_FORMAT, "is a folder");
    refused(tf_store_create(fx_dir, &store, err), TF_E_FORMAT, "is a folder");
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(tf_store_open(path, &store, err), TF_E_FORMAT, "not a regular file");
    unlink(path);
    refused(tf_store_create("/proc/x.timefork", &store, err), TF_E_IO, "/proc/x.timefork");
    refused(tf_store_create("/dev/null/x.timefork", &store, err), TF_E_IO, "Not a directory");
    refused(tf_store_create(fx_path("no/such/folder"), &store, err), TF_E_IO, "No such file");
}

static void test_newer(void **state)
{
    (void)state;
    struct tf_store *store;
    const char *path = fx_path("newer.timefork");
    sqlite3 *db;
    size_t len, now;
    ok(make(path, 100, err));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=6; DROP TABLE marks", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    char *before = fx_read(path, &len);
    refused(tf_store_open(path, &store, err), TF_E_FORMAT, "format 6");
    refused(tf_store_open(path, &store, err), TF_E_FORMAT, "timefork " TF_VERSION);
    refused(tf_store_create(path, &store, err), TF_E_FORMAT, "format 6");
    char *after = fx_read(path, &now);
    assert_int_equal(now, len);
    assert_memory_equal(before, after, len);
    free(before);
    free(after);
}

/* Whatever is left of it: an error with a message, or what was recorded; never a crash. */
static void check_cut(const char *cut, const char *whole, size_t len, uint64_t want)
{
    struct tf_err err = {0};
    uint64_t frames = 0;
    fx_write(cut, whole, len);
    int rc = read_all(cut, &err, &frames);
    if (rc == 0)
        assert_int_equal(frames, want);
    else if (rc != TF_E_FORMAT || !*err.msg) {
        print_error("cut at %zu: %d '%s'\n", len, rc, err.msg);
        fail();
    }
}

static void test_truncated(void **state)
{
    (void)state;
    const char *path = fx_path("whole.timefork"), *cut = fx_path("cut.timefork");
    const uint64_t n = 40000;
    size_t len;
    struct tf_err err;
    uint64_t frames = 0;
    ok(make(path, n, err));
    ok(read_all(path, err, &frames));
    assert_int_equal(frames, n);
    char *whole = fx_read(path, &len);
    assert_true(len > 200000);
    for (size_t at = 0; at < len; at += 4096) {
        fx_write(cut, whole, at);
        assert_int_equal(read_all(cut, &err, &frames), TF_E_FORMAT);
    }
    for (int i = 0; i < 60; i++)
        check_cut(cut, whole, fx_random() % len, n);
    free(whole);
}

static void test_flipped(void **state)
{
    (void)state;
    const char *path = fx_path("whole2.timefork"), *cut = fx_path("flip.timefork");
    const uint64_t n = 20000; /* most pages are full, so most flips hit something */
    size_t len;
    int found = 0;
    ok(make(path, n, err));
    char *whole = fx_read(path, &len);
    char *copy = malloc(len);
    for (int i = 0; i < 1500; i++) {
        struct tf_err err = {0};
        uint64_t frames = 0;
        memcpy(copy, whole, len);
        for (uint64_t k = 1 + fx_random() % 3; k; k--) {
            size_t at = fx_random() % 4 ? fx_random() % len : fx_random() % 8192;
            copy[at] = (char)fx_random();
        }
        fx_write(cut, copy, len);
        int rc = read_all(cut, &err, &frames);
        if (rc && !*err.msg)
            fail_msg("error %d without a message", rc);
        /* A journal or log name in the header may make SQLite want to write: that is TF_E_IO. */
        assert_true(rc == 0 || rc == TF_E_FORMAT || rc == TF_E_IO);
        found += rc != 0;
        /* Opening it for writing must not crash either. */
        struct tf_store *store;
        if (i % 10 == 0 && tf_store_create(cut, &store, &err) == 0)
            tf_store_close(store);
    }
    assert_true(found > 100);
    free(copy);
    free(whole);
}

static void test_read_only_folder(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: not root, so no read-only mount\n");
        skip();
    }
    const char *folder = fx_path("ro");
    mkdir(folder, 0700);
    if (mount("none", folder, "tmpfs", 0, "size=8m")) {
        print_message("skipped: cannot mount: %s\n", strerror(errno));
        skip();
    }
    char path[300], wal[300];
    snprintf(path, sizeof path, "%s/a.timefork", folder);
    snprintf(wal, sizeof wal, "%s/b?%%#.timefork", folder);
    uint64_t frames = 0;
    struct tf_store *store;
    ok(make(path, 1000, err));
    ok(make(wal, 1000, err));
    /* One whose last writer could not go back to a single file stays in WAL mode. */
    sqlite3 *db;
    assert_int_equal(sqlite3_open(wal, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    int rc = mount("none", folder, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=8m");
    struct tf_err e1, e2;
    int first = read_all(path, &e1, &frames), second = read_all(wal, &e2, &frames);
    int third = tf_store_create(path, &store, NULL);
    umount(folder);
    assert_int_equal(rc, 0);
    assert_int_equal(first, 0);
    assert_int_equal(second, 0);
    assert_int_equal(frames, 1000);
    assert_int_equal(third, TF_E_IO);
}

static void test_full_disk(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: not root, so no small disk\n");
        skip();
    }
    const char *folder = fx_path("small");
    mkdir(folder, 0700);
    if (mount("none", folder, "tmpfs", 0, "size=2m")) {
        print_message("skipped: cannot mount: %s\n", strerror(errno));
        skip();
    }
    char path[300];
    snprintf(path, sizeof path, "%s/full.timefork", folder);
    struct tf_err err = {0}, err2 = {0};
    uint64_t frames = 0;
    int rc = make(path, 1000000, &err);
    int readable = read_all(path, &err2, &frames);
    umount(folder);
    if (rc != TF_E_FULL || !strstr(err.msg, "no space") || readable) {
        print_error("%d %s; read: %d %s\n", rc, err.msg, readable, err2.msg);
        fail();
    }
}

static void test_file_size_limit(void **state)
{
    (void)state;
    struct rlimit old, small = {.rlim_cur = 2 << 20, .rlim_max = RLIM_INFINITY};
    struct tf_err err = {0}, err2 = {0};
    uint64_t frames = 0;
    const char *path = fx_path("limit.timefork");
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    int rc = make(path, 500000, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    if (rc != TF_E_FULL || !*err.msg) {
        print_error("%d %s\n", rc, err.msg);
        fail();
    }
    assert_int_equal(read_all(path, &err2, &frames), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_a_recording),  cmocka_unit_test(test_newer),
        cmocka_unit_test(test_truncated),        cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_read_only_folder), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_file_size_limit),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
