/* Threads in a recording: turns, switches, what is known of each thread, forks; and recordings from before.
 */
#include "command_fixture.h"

#include <sqlite3.h>
#include <sys/syscall.h>
#include <xxhash.h>
#include <zstd.h>

#include "iohooks/calls.h"
#include "store/block.h"

static void word(struct fx_ring *r, enum tf_tag tag, uint32_t low)
{
    fx_item(r, TF_WORD(tag, low), NULL, 0);
}

static void codes(struct fx_ring *r, uint32_t n)
{
    for (uint32_t id = 1; id <= n; id++) {
        char name[16];
        snprintf(name, sizeof name, "f%u", id);
        fx_code(r, id, "/nowhere/a.py", name, id);
    }
}

static struct tf_ingest *begin(struct fx_ring *r, const char *path, struct tf_store **store)
{
    fx_ring_make(r, 1 << 18);
    ok(tf_store_create(path, store, err));
    struct tf_ingest *in = fx_begin(*store, r, "threads");
    fx_start(r);
    codes(r, 5);
    return in;
}

static void end(struct fx_ring *r, struct tf_ingest *in, struct tf_store *store, struct tf_run *run)
{
    fx_drain(in);
    ok(tf_ingest_end(in, 0, 0, run, err));
    tf_store_close(store);
    fx_ring_free(r);
}

/* Every event, from the start and from itself on, and the stack there. */
static void check_frames(struct tf_store *store, const struct tf_run *run, struct fx_model *m)
{
    struct tf_cursor *c;
    struct tf_frame f, *v;
    size_t n;
    int rc;
    assert_int_equal(run->frames, m->n);
    ok(tf_cursor_open(store, run, &c, err));
    for (size_t i = 0; i < m->n; i++) {
        ok(rc = tf_cursor_next(c, &f, err));
        assert_int_equal(rc, 1);
        fx_same(&f, &m->v[i]);
    }
    ok(rc = tf_cursor_next(c, &f, err));
    assert_int_equal(rc, 0);
    for (size_t i = m->n; i-- > 0; i -= i > 200 && i < m->n - 200 ? 77 : 0) {
        ok(tf_cursor_seek(c, i + 1, err));
        ok(rc = tf_cursor_next(c, &f, err));
        fx_same(&f, &m->v[i]);
        ok(tf_cursor_stack(c, i + 1, &v, &n, err));
        assert_int_equal(n, m->v[i].depth);
        if (n) {
            assert_int_equal(v[0].frame, m->v[i].entry);
            assert_int_equal(v[0].code, m->v[i].code);
        }
        for (size_t k = 0; k < n; k++)
            assert_int_equal(v[k].thread, m->v[i].thread);
        free(v);
    }
    tf_cursor_close(c);
}

/* ---- switches ---- */

struct switches {
    struct fx_ring r;
    struct fx_model m;
    uint32_t thread;
};
static void event(struct switches *s, enum tf_tag tag, uint32_t low)
{
    if (tag == TF_SWITCH)
        s->thread = low;
    word(&s->r, tag, low);
    fx_model_add(&s->m, s->thread, TF_WORD(tag, low));
}

static void test_switches(void **state)
{
    (void)state;
    struct switches s = {0};
    struct tf_store *store;
    struct tf_run run;
    const char *path = fx_path("switches.timefork");
    struct tf_ingest *in = begin(&s.r, path, &store);
    event(&s, TF_SWITCH, 3); /* the very first; it runs nothing */
    event(&s, TF_CALL, 1);
    event(&s, TF_SWITCH, 0);
    event(&s, TF_SWITCH, 3); /* two in a row */
    event(&s, TF_SWITCH, 3); /* to the thread that runs */
    event(&s, TF_CALL, 2);
    event(&s, TF_SWITCH, 7);
    event(&s, TF_RETURN, 0); /* from an empty stack */
    fx_drain(in);
    event(&s, TF_SWITCH, 3); /* the first after it was drained */
    event(&s, TF_YIELD, 0);
    while (s.m.n < TF_BLOCK_FRAMES - 1)
        event(&s, s.m.n % 2 ? TF_RETURN : TF_CALL, s.m.n % 2 ? 0 : 4);
    event(&s, TF_SWITCH, 0); /* the last of a block */
    event(&s, TF_CALL, 5);
    event(&s, TF_SWITCH, 0);
    while (s.m.n < 2 * TF_BLOCK_FRAMES)
        event(&s, s.m.n % 2 ? TF_RETURN : TF_CALL, s.m.n % 2 ? 0 : 4);
    event(&s, TF_SWITCH, 3); /* the first of a block */
    /* A turn is none of the GIL: the frame events go on being of the same thread, in the next block, too. */
    fx_turn(&s.r, 0, TF_TURN_PLAIN);
    event(&s, TF_CALL, 3);
    while (s.m.n < 3 * TF_BLOCK_FRAMES + 6)
        event(&s, s.m.n % 2 ? TF_RETURN : TF_CALL, s.m.n % 2 ? 0 : 4);
    event(&s, TF_SWITCH, 0); /* the last of all */
    end(&s.r, in, store, &run);
    ok(tf_store_open(path, &store, err));
    check_frames(store, &run, &s.m);
    /* A search for what goes on finds the switch, and the block that holds nothing else of it. */
    struct tf_cursor *c;
    struct tf_frame f;
    const uint8_t bits = 1 << 5;
    int rc;
    ok(tf_cursor_open(store, &run, &c, err));
    tf_cursor_filter(c, &bits, 8);
    ok(tf_cursor_seek(c, TF_BLOCK_FRAMES + 3, err));
    ok(rc = tf_cursor_next(c, &f, err));
    assert_int_equal(rc, 1);
    assert_int_equal(f.frame, 3 * TF_BLOCK_FRAMES + 7);
    assert_int_equal(f.event, TF_SWITCH);
    assert_int_equal(f.entry, TF_BLOCK_FRAMES + 1);
    tf_cursor_close(c);

    struct tf_thread_activity *did;
    size_t n;
    ok(tf_store_thread_activity(store, &run, &did, &n, err));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) {
        uint64_t frames = 0, first = 0, last = 0;
        for (size_t k = 0; k < s.m.n; k++) {
            if (s.m.v[k].thread != did[i].number)
                continue;
            last = k + 1;
            if (!frames++)
                first = k + 1;
        }
        assert_true(frames > 0);
        assert_int_equal(did[i].frames, frames);
        assert_int_equal(did[i].first, first);
        assert_int_equal(did[i].last, last);
    }
    assert_true(did[0].number == 0 && did[1].number == 3 && did[2].number == 7);
    free(did);
    tf_run_clear(&run);
    tf_store_close(store);
    fx_model_free(&s.m);
}

/* Very many threads, one after the other: those that ended cost nothing. */
static void test_many(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    const char *path = fx_path("many.timefork");
    const uint32_t many = 150000;
    struct tf_ingest *in = begin(&r, path, &store);
    word(&r, TF_CALL, 1);
    for (uint32_t t = 1; t <= many; t++) {
        fx_news(&r, TF_THREAD_BORN, t, 0, (int32_t)(1000 + t), "");
        fx_turn(&r, t, TF_TURN_PLAIN);
        word(&r, TF_SWITCH, t);
        word(&r, TF_CALL, 2);
        word(&r, TF_RETURN, 0);
        fx_news(&r, TF_THREAD_ENDED, t, 0, 0, "");
        if (t % 1000 == 0)
            fx_drain(in);
    }
    fx_turn(&r, 0, TF_TURN_PLAIN);
    word(&r, TF_SWITCH, 0);
    end(&r, in, store, &run);
    ok(tf_store_open(path, &store, err));
    struct tf_cursor *c;
    struct tf_frame f, *v;
    uint64_t frames = 0;
    int rc;
    size_t n;
    ok(tf_cursor_open(store, &run, &c, err));
    for (;;) {
        ok(rc = tf_cursor_next(c, &f, err));
        if (!rc)
            break;
        frames++;
    }
    assert_int_equal(frames, 3 * many + 2);
    ok(tf_cursor_stack(c, frames, &v, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(v[0].frame, 1);
    free(v);
    tf_cursor_close(c);
    struct tf_thread_row *rows;
    ok(tf_store_threads(store, &run, &rows, &n, err));
    assert_int_equal(n, many + 1);
    assert_int_equal(rows[many].number, many);
    assert_int_equal(rows[many].tid, 1000 + many);
    assert_true(rows[many].ended);
    tf_threads_free(rows, n);
    tf_run_clear(&run);
    tf_store_close(store);
}

/* ---- turns ---- */

static void test_turns(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    const char *path = fx_path("turns.timefork");
    struct tf_ingest *in = begin(&r, path, &store);
    const uint32_t big = 0x12345; /* more than half a word */
    const struct tf_preempt preempt = {.variables = 9};
    struct tf_rec_clock clock = {.sec = 5, .nsec = 6, .clock = 1};
    uint32_t fill = 0;
    word(&r, TF_CALL, 1);
    fx_outside(&r, SYS_read, 0, NULL, 0, "a", 1, 1);
    fx_turn(&r, big, TF_TURN_TIMEOUT);
    fx_outside(&r, SYS_read, 0, NULL, 0, "b", 1, 1);
    fx_record(&r, TF_REC_CLOCK, &clock, sizeof clock);
    fx_outside(&r, TF_CALL_YIELD, 0, NULL, 0, NULL, 0, 0);
    fx_turn(&r, 1, TF_TURN_SIGNAL);
    fx_outside(&r, TF_CALL_PREEMPT, 0, &preempt, sizeof preempt, NULL, 0, 0);
    /* So many that they fill blocks. */
    for (; fill < 20000; fill++) {
        fx_turn(&r, fill % 4, TF_TURN_PLAIN);
        if (fill % 1000 == 0)
            fx_drain(in);
    }
    end(&r, in, store, &run);
    ok(tf_store_open(path, &store, err));
    struct tf_outside_block *blocks;
    size_t n;
    static const struct {
        unsigned call;
        uint32_t thread;
        const char *text;
    } want[] = {
        {SYS_read, 0, NULL},
        {TF_CALL_TURN, 0x12345, "the turn of thread 74565, whose time of waiting is over"},
        {SYS_read, 0x12345, NULL},
        {SYS_clock_gettime, 0x12345, NULL},
        {TF_CALL_YIELD, 0x12345, "a hand-over to other threads"},
        {TF_CALL_TURN, 1, "the turn of thread 1, to which a signal came"},
        {TF_CALL_PREEMPT, 1, "a hand-over to other threads within a function"},
    };
    const uint64_t known = sizeof want / sizeof *want;
    uint64_t events = 0;
    ok(tf_store_outside_blocks(store, &run, &blocks, &n, err));
    assert_true(n > 2);
    for (size_t i = 0; i < n; i++) {
        uint8_t *buf = malloc(blocks[i].len);
        ok(tf_store_outside_read(store, &run, &blocks[i], buf, err));
        assert_true(blocks[i].len <= 256 << 10);
        for (uint64_t at = 0; at < blocks[i].len; at += ((struct tf_outside *)(buf + at))->total_len) {
            const struct tf_outside *e = (void *)(buf + at);
            char text[128], shorter[20];
            if (e->call == TF_CALL_CODE)
                continue;
            if (events < known) {
                assert_int_equal(e->call, want[events].call);
                assert_int_equal(tf_outside_thread(e), want[events].thread);
                tf_call_format(text, sizeof text, e);
                if (want[events].text)
                    assert_string_equal(text, want[events].text);
                assert_int_equal(tf_call_is_turn(e->call), want[events].text != NULL);
                assert_true(tf_call_format(shorter, sizeof shorter, e) < sizeof shorter);
                assert_true(strlen(shorter) < sizeof shorter);
            } else {
                assert_int_equal(e->call, TF_CALL_TURN);
                assert_int_equal(tf_outside_thread(e), (events - known) % 4);
                assert_int_equal(e->result, (events - known) % 4);
                assert_int_equal(e->total_len, sizeof *e + 8);
                uint64_t why;
                memcpy(&why, tf_outside_args(e), sizeof why);
                assert_int_equal(why, TF_TURN_PLAIN);
            }
            assert_int_equal(e->frame, 1);
            events++;
        }
        free(buf);
    }
    assert_int_equal(events, known + fill);
    free(blocks);
    tf_run_clear(&run);
    tf_store_close(store);
}

/* ---- what is known of threads ---- */

static void check_row(const struct tf_thread_row *row, uint32_t number, uint32_t parent, int32_t tid,
                      const char *name, uint64_t born, int64_t ended)
{
    assert_int_equal(row->number, number);
    assert_int_equal(row->parent, parent);
    assert_int_equal(row->tid, tid);
    assert_string_equal(row->name, name);
    assert_int_equal(row->born, born);
    assert_int_equal(row->ended, ended >= 0);
    if (ended >= 0)
        assert_int_equal(row->end, ended);
}

static void test_table(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    struct tf_thread_row *rows;
    size_t n;
    const char *path = fx_path("table.timefork");
    struct tf_ingest *in = begin(&r, path, &store);
    word(&r, TF_CALL, 1);
    fx_news(&r, TF_THREAD_BORN, 1, 0, 901, "");
    fx_news(&r, TF_THREAD_BORN, 2, 0, 902, "");
    word(&r, TF_CALL, 2);
    fx_news(&r, TF_THREAD_NAMED, 2, 0, 0, "worker \xff");
    fx_news(&r, TF_THREAD_BORN, 5, 2, 905, ""); /* 3 and 4 could not be started */
    word(&r, TF_CALL, 3);
    fx_news(&r, TF_THREAD_ENDED, 1, 0, 0, "");
    fx_news(&r, TF_THREAD_NAMED, 2, 0, 0, "reader");
    /* While it is recorded, as far as it is committed. */
    fx_drain(in);
    end(&r, in, store, &run);
    ok(tf_store_open(path, &store, err));
    ok(tf_store_threads(store, &run, &rows, &n, err));
    assert_int_equal(n, 4);
    check_row(&rows[0], 0, 0, 4711, "MainThread", 0, -1);
    check_row(&rows[1], 1, 0, 901, "", 1, 3);
    check_row(&rows[2], 2, 0, 902, "reader", 1, -1);
    check_row(&rows[3], 5, 2, 905, "", 2, -1);
    tf_threads_free(rows, n);
    tf_store_close(store);
    /* They go with the run. */
    ok(tf_store_create(path, &store, err));
    ok(tf_store_delete_run(store, run.rowid, err));
    tf_store_close(store);
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM threads", -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    tf_run_clear(&run);
}

/* Main can be renamed, and end before the others. */
static void test_main(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    struct tf_thread_row *rows;
    size_t n;
    const char *path = fx_path("main.timefork");
    struct tf_ingest *in = begin(&r, path, &store);
    fx_news(&r, TF_THREAD_BORN, 1, 0, 901, "");
    word(&r, TF_CALL, 1);
    fx_news(&r, TF_THREAD_NAMED, 0, 0, 0, "boss");
    fx_news(&r, TF_THREAD_ENDED, 0, 0, 0, "");
    fx_drain(in);
    fx_news(&r, TF_THREAD_NAMED, 0, 0, 0, "again");
    refused(tf_ingest_drain(in, err), TF_E_FORMAT, "a thread that does not run");
    ok(tf_ingest_end(in, 0, 0, &run, err));
    tf_store_close(store);
    fx_ring_free(&r);
    ok(tf_store_open(path, &store, err));
    ok(tf_store_threads(store, &run, &rows, &n, err));
    assert_int_equal(n, 2);
    check_row(&rows[0], 0, 0, 4711, "boss", 0, 1);
    check_row(&rows[1], 1, 0, 901, "", 0, -1);
    tf_threads_free(rows, n);
    tf_run_clear(&run);
    tf_store_close(store);
}

static void test_garbage(void **state)
{
    (void)state;
    static const struct {
        struct tf_rec_thread rec;
        size_t len; /* of the record; 0: all of it, and "xyz" */
        const char *why;
    } garbage[] = {
        {{TF_THREAD_BORN, 3, 0, 1, 0}, 0, "number"}, /* it was given already */
        {{TF_THREAD_BORN, 2, 0, 1, 0}, 0, "number"},
        {{TF_THREAD_BORN, 0, 0, 1, 0}, 0, "number"},
        {{TF_THREAD_BORN, 1u << 29, 0, 1, 0}, 0, "number"},
        {{TF_THREAD_BORN, 4, 4, 1, 0}, 0, "number"}, /* its own parent */
        {{TF_THREAD_ENDED, 4, 0, 0, 0}, 0, "does not run"},
        {{TF_THREAD_ENDED, 2, 0, 0, 0}, 0, "does not run"}, /* it has ended */
        {{TF_THREAD_NAMED, 2, 0, 0, 3}, 0, "does not run"},
        {{TF_THREAD_NAMED, 3, 0, 0, 2}, 0, "name"}, /* it is longer */
        {{TF_THREAD_NAMED, 3, 0, 0, 4}, 0, "name"},
        {{TF_THREAD_NAMED, 3, 0, 0, 4000}, 0, "name"},
        {{TF_THREAD_NAMED, 3, 0, 0, UINT32_MAX}, 0, "name"},
        {{TF_THREAD_NAMED, 3, 0, 0, 1}, sizeof(struct tf_rec_thread), "name"},
        {{0, 3, 0, 0, 0}, 0, "news of a thread"},
        {{4, 3, 0, 0, 0}, 0, "news of a thread"},
        {{TF_THREAD_BORN, 4, 0, 1, 0}, 16, "short"},
    };
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        struct fx_ring r;
        struct tf_store *store;
        struct tf_run run;
        struct tf_thread_row *rows;
        size_t n;
        uint8_t buf[sizeof garbage->rec + 4] = {0};
        const char *path = fx_path("garbage.timefork");
        struct tf_ingest *in = begin(&r, path, &store);
        fx_news(&r, TF_THREAD_BORN, 2, 0, 1, "");
        fx_news(&r, TF_THREAD_BORN, 3, 2, 1, "");
        fx_news(&r, TF_THREAD_ENDED, 2, 0, 0, "");
        fx_drain(in);
        memcpy(buf, &garbage[i].rec, sizeof garbage->rec);
        memcpy(buf + sizeof garbage->rec, "xyz", 4);
        fx_record(&r, TF_REC_THREAD, buf, garbage[i].len ? garbage[i].len : sizeof buf);
        refused(tf_ingest_drain(in, err), TF_E_FORMAT, garbage[i].why);
        ok(tf_ingest_end(in, 0, 0, &run, err));
        ok(tf_store_threads(store, &run, &rows, &n, err));
        assert_int_equal(n, 3);
        tf_threads_free(rows, n);
        tf_run_clear(&run);
        tf_store_close(store);
        fx_ring_free(&r);
        unlink(path);
    }
}

/* ---- forks ---- */

/* Thread 2 forks (process 2); there thread 4 is started, and forks (3); the main thread forks (4). */
static void test_forks(void **state)
{
    (void)state;
    struct fx_ring r[4];
    struct tf_ingest *in[4];
    struct tf_store *store;
    struct tf_run run[4];
    struct tf_thread_row *rows;
    size_t n;
    const char *path = fx_path("forks.timefork");
    in[0] = begin(&r[0], path, &store);
    for (int i = 1; i < 4; i++) {
        fx_ring_make(&r[i], 1 << 16);
        r[i].shm->program_pid = 100 + (uint32_t)i;
    }
    word(&r[0], TF_CALL, 1); /* frame 1 */
    fx_news(&r[0], TF_THREAD_BORN, 1, 0, 901, "gone");
    fx_news(&r[0], TF_THREAD_BORN, 2, 0, 902, "");
    fx_news(&r[0], TF_THREAD_BORN, 3, 2, 903, "");
    fx_news(&r[0], TF_THREAD_NAMED, 2, 0, 0, "forks");
    fx_news(&r[0], TF_THREAD_ENDED, 1, 0, 0, "");
    fx_turn(&r[0], 2, TF_TURN_PLAIN);
    word(&r[0], TF_SWITCH, 2); /* 2 */
    word(&r[0], TF_CALL, 2);   /* 3 */
    fx_drain(in[0]);
    ok(tf_ingest_fork(in[0], r[1].shm, r[1].words, 0, &in[1], err));
    /* What the parent does now, at the same frame, is its own. */
    fx_outside(&r[0], SYS_fork, 0, NULL, 0, NULL, 0, 101);
    fx_news(&r[0], TF_THREAD_ENDED, 3, 0, 0, "");
    fx_news(&r[0], TF_THREAD_NAMED, 2, 0, 0, "later");
    fx_news(&r[0], TF_THREAD_BORN, 4, 2, 904, "parent's");
    fx_news(&r[0], TF_THREAD_ENDED, 4, 0, 0, "");
    fx_drain(in[0]);
    /* The child goes on in thread 2, without a turn or a switch, and its numbers from there. */
    fx_outside(&r[1], SYS_fork, 0, NULL, 0, NULL, 0, 0);
    word(&r[1], TF_CALL, 3); /* 4 */
    fx_news(&r[1], TF_THREAD_BORN, 4, 2, 914, "child's");
    fx_turn(&r[1], 4, TF_TURN_PLAIN);
    word(&r[1], TF_SWITCH, 4); /* 5 */
    fx_drain(in[1]);
    ok(tf_ingest_fork(in[1], r[2].shm, r[2].words, 0, &in[2], err));
    fx_outside(&r[2], SYS_fork, 0, NULL, 0, NULL, 0, 0);
    fx_news(&r[2], TF_THREAD_ENDED, 4, 0, 0, "");
    fx_drain(in[2]);
    /* Thread 3 ended before main forks. */
    fx_turn(&r[0], 0, TF_TURN_PLAIN);
    word(&r[0], TF_SWITCH, 0); /* 4 */
    fx_drain(in[0]);
    ok(tf_ingest_fork(in[0], r[3].shm, r[3].words, 0, &in[3], err));
    word(&r[3], TF_CALL, 1); /* 5 */
    fx_drain(in[3]);
    for (int i = 0; i < 4; i++) {
        fx_drain(in[i]);
        ok(tf_ingest_end(in[i], 0, 0, &run[i], err));
        assert_int_equal(run[i].process, i + 1);
        fx_ring_free(&r[i]);
    }
    tf_store_close(store);
    ok(tf_store_open(path, &store, err));

    ok(tf_store_threads(store, &run[0], &rows, &n, err));
    assert_int_equal(n, 5);
    check_row(&rows[0], 0, 0, 4711, "MainThread", 0, -1);
    check_row(&rows[1], 1, 0, 901, "gone", 1, 1);
    check_row(&rows[2], 2, 0, 902, "later", 1, -1);
    check_row(&rows[3], 3, 2, 903, "", 1, 3);
    check_row(&rows[4], 4, 2, 904, "parent's", 3, 3);
    tf_threads_free(rows, n);

    ok(tf_store_threads(store, &run[1], &rows, &n, err));
    assert_int_equal(n, 5);
    check_row(&rows[0], 0, 0, 4711, "MainThread", 0, 3);
    check_row(&rows[1], 1, 0, 901, "gone", 1, 1);
    check_row(&rows[2], 2, 0, 101, "forks", 1, -1);
    check_row(&rows[3], 3, 2, 903, "", 1, 3);
    check_row(&rows[4], 4, 2, 914, "child's", 4, -1);
    tf_threads_free(rows, n);

    ok(tf_store_threads(store, &run[2], &rows, &n, err));
    assert_int_equal(n, 5);
    check_row(&rows[0], 0, 0, 4711, "MainThread", 0, 3);
    check_row(&rows[1], 1, 0, 901, "gone", 1, 1);
    check_row(&rows[2], 2, 0, 101, "forks", 1, 5);
    check_row(&rows[3], 3, 2, 903, "", 1, 3);
    check_row(&rows[4], 4, 2, 102, "child's", 4, 5);
    tf_threads_free(rows, n);

    ok(tf_store_threads(store, &run[3], &rows, &n, err));
    assert_int_equal(n, 5);
    check_row(&rows[0], 0, 0, 103, "MainThread", 0, -1);
    check_row(&rows[1], 1, 0, 901, "gone", 1, 1);
    check_row(&rows[2], 2, 0, 902, "later", 1, 4);
    check_row(&rows[3], 3, 2, 903, "", 1, 3);
    check_row(&rows[4], 4, 2, 904, "parent's", 3, 3);
    tf_threads_free(rows, n);

    /* Whose the events are. */
    static const uint32_t threads[4][5] = {{0, 2, 2, 0}, {0, 2, 2, 2, 4}, {0, 2, 2, 2, 4}, {0, 2, 2, 0, 0}};
    for (int i = 0; i < 4; i++) {
        struct tf_cursor *c;
        struct tf_frame f;
        int rc;
        assert_int_equal(run[i].frames, i ? 5 : 4);
        ok(tf_cursor_open(store, &run[i], &c, err));
        for (uint64_t k = 0; k < run[i].frames; k++) {
            ok(rc = tf_cursor_next(c, &f, err));
            assert_int_equal(rc, 1);
            assert_int_equal(f.thread, threads[i][k]);
        }
        tf_cursor_close(c);
        tf_run_clear(&run[i]);
    }
    tf_store_close(store);
}

/* ---- recordings from before ---- */

static uint8_t *put(uint8_t *p, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        *p++ = (uint8_t)(v | 128);
    *p++ = (uint8_t)v;
    return p;
}

/* A block of calls and exits as version 1 of the format has it: each code id is its own local index. */
static size_t old_block(uint8_t *raw, const uint32_t *words, uint32_t n, uint32_t n_codes,
                        const struct tf_thread_run *runs, size_t n_runs)
{
    static const uint8_t exits[8] = {[TF_RETURN] = 0, [TF_YIELD] = 1, [TF_UNWIND] = 2};
    uint8_t *p = raw;
    p = put(p, 1);
    p = put(p, 1);
    p = put(p, n);
    p = put(p, 0);
    p = put(p, n_codes);
    for (uint32_t i = 1; i <= n_codes; i++)
        p = put(p, i);
    p = put(p, 0);
    p = put(p, n_runs);
    for (size_t i = 0; i < n_runs; i++) {
        p = put(p, runs[i].index - (i ? runs[i - 1].index : 0));
        p = put(p, runs[i].thread);
    }
    p = put(p, 0);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t local = TF_LOW(words[i]) - 1, tag = TF_TAG(words[i]);
        p = put(p, TF_IS_ENTRY(words[i]) ? 3 + 2 * local + (tag == TF_RESUME) : exits[tag]);
    }
    return (size_t)(p - raw);
}

static void sql(const char *path, const char *text, const void *blob, size_t len)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    while (*text) {
        assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, &text), SQLITE_OK);
        if (!s)
            break;
        if (sqlite3_bind_parameter_count(s)) {
            sqlite3_bind_blob(s, 1, blob, (int)len, SQLITE_STATIC);
            sqlite3_bind_int64(s, 2, (int64_t)XXH3_64bits(blob, len));
        }
        assert_int_equal(sqlite3_step(s), SQLITE_DONE);
        sqlite3_finalize(s);
    }
    sqlite3_close(db);
}

static void test_format_2(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run, again;
    struct fx_model m = {0};
    char path[256];
    snprintf(path, sizeof path, "%s", fx_path("format2.timefork"));
    static const struct tf_thread_run runs[] = {{0, 0}, {4, 3}, {9, 0}};
    static const uint32_t words[12] = {
        TF_WORD(TF_CALL, 1),   TF_WORD(TF_CALL, 2),   TF_WORD(TF_RESUME, 4), TF_WORD(TF_YIELD, 0),
        TF_WORD(TF_CALL, 3),   TF_WORD(TF_RESUME, 5), TF_WORD(TF_UNWIND, 0), TF_WORD(TF_CALL, 5),
        TF_WORD(TF_RETURN, 0), TF_WORD(TF_CALL, 4),   TF_WORD(TF_RETURN, 0), TF_WORD(TF_RETURN, 0),
    };
    struct tf_ingest *in = begin(&r, path, &store);
    uint32_t thread = 0;
    for (uint32_t i = 0; i < 12; i++) {
        fx_item(&r, words[i], NULL, 0);
        for (size_t k = 0; k < 3; k++)
            if (runs[k].index == i)
                thread = runs[k].thread;
        fx_model_add(&m, thread, words[i]);
    }
    end(&r, in, store, &run);
    uint8_t raw[256], packed[512];
    size_t len = ZSTD_compress(packed, sizeof packed, raw, old_block(raw, words, 12, 5, runs, 3), 1);
    assert_false(ZSTD_isError(len));
    sql(path, "UPDATE frames SET data = ?1, digest = ?2; DROP TABLE threads; PRAGMA user_version=2", packed,
        len);

    ok(tf_store_open(path, &store, err));
    check_frames(store, &run, &m);
    struct tf_thread_row *rows;
    size_t n;
    ok(tf_store_threads(store, &run, &rows, &n, err));
    assert_int_equal(n, 1);
    check_row(&rows[0], 0, 0, 4711, "MainThread", 0, -1);
    tf_threads_free(rows, n);
    tf_store_close(store);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-threads"), 0);
    says("     0       4711       -             0             -             1            12             7  "
         "MainThread\n");
    says("     3          -       -             -             -             5             9             5  "
         "-\n");
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--thread", "3"), 0);
    says("f5");
    says_not("f2");

    /* A run is added: the old one reads as it did. */
    in = begin(&r, path, &store);
    word(&r, TF_SWITCH, 1);
    fx_news(&r, TF_THREAD_BORN, 1, 0, 5, "new");
    end(&r, in, store, &again);
    ok(tf_store_open(path, &store, err));
    check_frames(store, &run, &m);
    ok(tf_store_threads(store, &again, &rows, &n, err));
    assert_int_equal(n, 2);
    assert_string_equal(rows[1].name, "new");
    tf_threads_free(rows, n);
    tf_store_close(store);
    tf_run_clear(&run);
    tf_run_clear(&again);
    fx_model_free(&m);
}

/* What a damaged table says is not believed. */
static void test_damage(void **state)
{
    (void)state;
    static const char *const damage[] = {
        "UPDATE threads SET born = -1",   "UPDATE threads SET ended = -7",
        "UPDATE threads SET parent = 1",  "UPDATE threads SET parent = -1",
        "UPDATE threads SET number = -1", "UPDATE threads SET number = 1 << 29",
    };
    struct tf_store *store;
    struct tf_run run;
    struct fx_ring r;
    struct tf_thread_row *rows;
    size_t n;
    char path[256];
    snprintf(path, sizeof path, "%s", fx_path("damage.timefork"));
    struct tf_ingest *in = begin(&r, path, &store);
    fx_news(&r, TF_THREAD_BORN, 1, 0, 901, "");
    end(&r, in, store, &run);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        sql(path, "DELETE FROM threads; INSERT INTO threads VALUES(1, 1, 901, 0, '', 0, NULL, NULL)", NULL,
            0);
        ok(tf_store_open(path, &store, err));
        ok(tf_store_threads(store, &run, &rows, &n, err));
        assert_int_equal(n, 2);
        tf_threads_free(rows, n);
        tf_store_close(store);
        sql(path, damage[i], NULL, 0);
        ok(tf_store_open(path, &store, err));
        refused(tf_store_threads(store, &run, &rows, &n, err), TF_E_FORMAT, "makes no sense");
        tf_store_close(store);
        assert_int_equal(command(tf_cmd_query, "query", path, "--list-threads"), 1);
        says("is damaged");
    }
    tf_run_clear(&run);
}

/* ---- query ---- */

/* Two threads, 1000 units of time between two events. Main calls f1, thread 1 runs f2 and f3 in between. */
static void test_query(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    char path[256];
    snprintf(path, sizeof path, "%s", fx_path("query.timefork"));
    struct tf_ingest *in = begin(&r, path, &store);
    static const uint32_t words[] = {
        TF_WORD(TF_CALL, 1),   TF_WORD(TF_SWITCH, 1), TF_WORD(TF_CALL, 2),   TF_WORD(TF_SWITCH, 0),
        TF_WORD(TF_CALL, 2),   TF_WORD(TF_SWITCH, 1), TF_WORD(TF_CALL, 3),   TF_WORD(TF_RETURN, 0),
        TF_WORD(TF_RETURN, 0), TF_WORD(TF_SWITCH, 0), TF_WORD(TF_RETURN, 0), TF_WORD(TF_RETURN, 0),
    };
    fx_news(&r, TF_THREAD_BORN, 1, 0, 901, "");
    fx_news(&r, TF_THREAD_NAMED, 1, 0, 0, "a \"worker\"");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (TF_IS_SWITCH(words[i]))
            fx_turn(&r, TF_LOW(words[i]), TF_TURN_PLAIN);
        fx_item(&r, words[i], NULL, 0);
        fx_item(&r, TF_WORD(TF_TIME, 1000), NULL, 0);
        if (i == 2)
            fx_outside(&r, SYS_write, TF_OUT_STDOUT, NULL, 0, "one\n", 4, 4);
        if (i == 4)
            fx_outside(&r, SYS_write, TF_OUT_STDOUT, NULL, 0, "main\n", 5, 5);
    }
    fx_news(&r, TF_THREAD_ENDED, 1, 0, 0, "");
    end(&r, in, store, &run);
    tf_run_clear(&run);
    /* Nanoseconds are units then, and the run ends with its last event. */
    sql(path, "UPDATE runs SET cal_tsc = 16, cal_ns = 1, duration_ns = 12000", NULL, 0);

    assert_int_equal(command(tf_cmd_query, "query", path, "--list-threads"), 0);
    says("THREAD  NATIVE ID  PARENT");
    says("     1        901       0             0            12             2             9             6  "
         "a \"worker\"\n");
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-threads", "--format", "json"), 0);
    json_t *o = line(0);
    assert_int_equal(number(o, "thread"), 0);
    assert_int_equal(number(o, "native_id"), 4711);
    assert_true(json_is_null(json_object_get(o, "parent")));
    assert_true(json_is_null(json_object_get(o, "ended_frame")));
    assert_string_equal(text(o, "name"), "MainThread");
    json_decref(o);
    o = line(1);
    assert_int_equal(number(o, "process"), 1);
    assert_int_equal(number(o, "parent"), 0);
    assert_string_equal(text(o, "name"), "a \"worker\"");
    assert_int_equal(number(o, "began_frame"), 0);
    assert_int_equal(number(o, "ended_frame"), 12);
    assert_int_equal(number(o, "first_frame"), 2);
    assert_int_equal(number(o, "last_frame"), 9);
    assert_int_equal(number(o, "frames"), 6);
    json_decref(o);

    /* A switch has the function that goes on, or none. */
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--format", "json"), 0);
    static const char *const functions[12] = {"f1", "(null)", "f2", "f1", "f2", "f2",
                                              "f3", "f3",     "f2", "f2", "f2", "f1"};
    static const char *const events[12] = {"call", "switch", "call",   "switch", "call",   "switch",
                                           "call", "return", "return", "switch", "return", "return"};
    static const int threads[12] = {0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0};
    static const int depths[12] = {1, 0, 1, 1, 2, 1, 2, 2, 1, 2, 2, 1};
    for (int i = 0; i < 12; i++) {
        o = line(i);
        assert_int_equal(number(o, "frame"), i + 1);
        assert_string_equal(text(o, "function"), functions[i]);
        assert_string_equal(text(o, "event"), events[i]);
        assert_int_equal(number(o, "thread"), threads[i]);
        assert_int_equal(number(o, "depth"), depths[i]);
        json_decref(o);
    }
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--event", "switch"), 0);
    says("         2  switch      0.000002       1       0  -\n");
    says("        10  switch      0.000010       0       2  f2 ");
    says_not("call");
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--thread", "1"), 0);
    says("f3");
    says_not("f1");
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--thread", "1", "--function", "f2",
                             "--format", "json", "--event", "switch"),
                     0);
    o = line(0);
    assert_int_equal(number(o, "frame"), 6);
    json_decref(o);
    assert_null(strchr(strchr(said, '\n') + 1, '\n'));

    /* What lies behind a switch belongs to the thread that goes on. */
    static const struct {
        const char *thread;
        struct {
            const char *function;
            int calls, total, self;
        } rows[4];
    } stats[] = {
        {NULL, {{"f2", 2, 6000 + 6000, 5000}, {"f1", 1, 11000, 3000}, {"f3", 1, 1000, 1000}}},
        {"0", {{"f1", 1, 11000, 3000}, {"f2", 1, 6000, 2000}}},
        {"1", {{"f2", 1, 6000, 3000}, {"f3", 1, 1000, 1000}}},
    };
    for (size_t i = 0; i < sizeof stats / sizeof *stats; i++) {
        if (stats[i].thread)
            assert_int_equal(command(tf_cmd_query, "query", path, "--stats", "--format", "json", "--thread",
                                     (char *)stats[i].thread),
                             0);
        else
            assert_int_equal(command(tf_cmd_query, "query", path, "--stats", "--format", "json"), 0);
        int k = 0, lines = 0;
        for (const char *p = said; (p = strchr(p, '\n')); p++)
            lines++;
        for (; stats[i].rows[k].function; k++) {
            o = line(k);
            assert_string_equal(text(o, "function"), stats[i].rows[k].function);
            assert_int_equal(number(o, "calls"), stats[i].rows[k].calls);
            assert_int_equal(number(o, "total_ns"), stats[i].rows[k].total);
            assert_int_equal(number(o, "self_ns"), stats[i].rows[k].self);
            json_decref(o);
        }
        assert_int_equal(lines, k);
    }

    assert_int_equal(command(tf_cmd_query, "query", path, "--output", "--thread", "1"), 0);
    assert_string_equal(said, "[frame 3 stdout] one\n");
    assert_int_equal(command(tf_cmd_query, "query", path, "--output", "--thread", "0", "--format", "json"),
                     0);
    o = line(0);
    assert_string_equal(text(o, "text"), "main\n");
    assert_int_equal(number(o, "thread"), 0);
    json_decref(o);

    static char *const unknown[] = {"2", "4294967295", "4294967296", "18446744073709551615"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--thread", unknown[i]), 1);
        says("; it has 0 to 1\n");
        assert_int_equal(command(tf_cmd_query, "query", path, "--stats", "--thread", unknown[i]), 1);
        says("has no thread");
    }
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--thread", "x"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--thread", "-1"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-threads", "--thread", "1"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-threads", "--frames"), 2);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-threads", "--process", "2"), 1);
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--event", "swap"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switches), cmocka_unit_test(test_many),     cmocka_unit_test(test_turns),
        cmocka_unit_test(test_table),    cmocka_unit_test(test_main),     cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_forks),    cmocka_unit_test(test_format_2), cmocka_unit_test(test_query),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
