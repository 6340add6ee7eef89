/*
 * Dropping the oldest part of a run: what is left reads as it did before, what is gone is refused by name,
 * the file does not grow, and no process loses the past that it needs.
 */
#include "command_fixture.h"

#include <sqlite3.h>

#include "store/drop.h"

#define CODES 20u
#define BLOCKS 6u

/* ---- a run, and all that can be read of it ---- */

/* Frame events of two threads, calls and exits at random, with outside events in between. */
static void play(struct fx_ring *r, struct tf_ingest *in, uint64_t events, uint32_t *thread,
                 uint32_t depth[2], uint32_t outside_every, uint32_t data_len)
{
    static uint8_t data[1 << 18];
    for (uint64_t i = 0; i < events; i++) {
        uint64_t x = fx_random();
        if (i % 8192 == 0)
            fx_drain(in);
        if (x % 5000 == 0) {
            *thread ^= 1;
            fx_switch(r, *thread);
            continue;
        }
        if (i % 32 == 0)
            fx_item(r, TF_WORD(TF_TIME, 1 + x % 100), NULL, 0);
        if (depth[*thread] < 2 || (depth[*thread] < 40 && x & 64)) {
            fx_item(r, TF_WORD(TF_CALL, 1 + x / 128 % CODES), NULL, 0);
            depth[*thread]++;
        } else {
            fx_item(r, TF_WORD(TF_RETURN, 0), NULL, 0);
            depth[*thread]--;
        }
        if (outside_every && i % outside_every == 0) {
            for (uint32_t k = 0; k + 8 <= data_len; k += 8) {
                uint64_t v = fx_random();
                memcpy(data + k, &v, 8);
            }
            fx_outside(r, 1, x & 256 ? TF_OUT_STDOUT : 0, &x, 8, data, data_len, 5);
        }
    }
    fx_drain(in);
}

static struct tf_ingest *begin(struct tf_store *store, struct fx_ring *r)
{
    struct tf_ingest_opts opts = {.command = "shop.py", .title = "shop"};
    struct tf_ingest *in;
    char name[20];
    ok(tf_ingest_begin(store, r->shm, r->words, &opts, &in, err));
    fx_start(r);
    for (uint32_t i = 1; i <= CODES; i++) {
        snprintf(name, sizeof name, "f%u", i);
        fx_code(r, i, "/nowhere/shop.py", name, i);
    }
    fx_mark(r, TF_MARK_NOTE, "hello");
    fx_drain(in);
    return in;
}

struct output {
    uint64_t seq, frame, hash;
};
struct content {
    struct tf_frame *frames; /* from `first` on */
    uint64_t first, n;
    struct tf_outside_block *blocks;
    size_t n_blocks;
    uint64_t *digests;
    size_t n_digests;
    struct output outputs[20000];
    size_t n_outputs, n_codes, n_marks;
};

static int add_output(void *ctx, const struct tf_output *o)
{
    struct content *c = ctx;
    uint64_t hash = 0;
    for (size_t i = 0; i < o->len; i++)
        hash = hash * 31 + ((const uint8_t *)o->data)[i];
    assert_true(c->n_outputs < 20000);
    c->outputs[c->n_outputs++] = (struct output){o->seq, o->frame, hash};
    return 0;
}

static struct content *read_all(struct tf_store *store, const struct tf_run *run)
{
    struct content *c = calloc(1, sizeof *c);
    struct tf_cursor *cursor;
    struct tf_codes codes;
    struct tf_mark_row *marks;
    int rc;
    c->first = tf_run_first(run);
    c->frames = malloc((run->frames + 1) * sizeof *c->frames);
    ok(tf_cursor_open(store, run, &cursor, err));
    do {
        ok(rc = tf_cursor_next(cursor, &c->frames[c->n], err));
        c->n += rc == 1;
    } while (rc == 1);
    tf_cursor_close(cursor);
    ok(tf_store_outside_blocks(store, run, &c->blocks, &c->n_blocks, err));
    for (size_t i = 0; i < c->n_blocks; i++) {
        uint8_t *buf = malloc(c->blocks[i].len);
        ok(tf_store_outside_read(store, run, &c->blocks[i], buf, err));
        free(buf);
    }
    ok(tf_store_digests(store, run, &c->digests, &c->n_digests, err));
    ok(tf_store_each_output(store, run, add_output, c, err));
    ok(tf_store_codes(store, run, &codes, err));
    c->n_codes = codes.n;
    tf_codes_free(&codes);
    ok(tf_store_marks(store, run, &marks, &c->n_marks, err));
    tf_marks_free(marks, c->n_marks);
    return c;
}

static void free_content(struct content *c)
{
    free(c->frames);
    free(c->blocks);
    free(c->digests);
    free(c);
}

/* What is left is what there was; the rest is gone. */
static void check_left(struct tf_store *store, const struct tf_run *run, const struct content *was)
{
    struct content *now = read_all(store, run);
    uint64_t frame = run->base.frame, kept = (frame - 1) / TF_BLOCK_FRAMES;
    struct tf_cursor *cursor;
    struct tf_frame f;
    assert_int_equal(now->first, frame + 1);
    assert_int_equal(now->n, was->n - (now->first - was->first));
    for (uint64_t i = 0; i < now->n; i++) {
        const struct tf_frame *a = &now->frames[i], *b = &was->frames[i + now->first - was->first];
        fx_same(a, b);
        assert_int_equal(a->time_ns, b->time_ns);
    }
    assert_int_equal(now->n_codes, was->n_codes);
    assert_int_equal(now->n_marks, was->n_marks);
    assert_int_equal(now->n_digests, was->n_digests);
    for (size_t i = 0; i < now->n_digests; i++)
        assert_true(now->digests[i] == (i < kept ? 0 : was->digests[i]));
    /* Outside blocks: the last ones, from the one on that holds the base. */
    size_t off = was->n_blocks - now->n_blocks;
    for (size_t i = 0; i < now->n_blocks; i++)
        assert_int_equal(now->blocks[i].first_seq, was->blocks[i + off].first_seq);
    if (now->n_blocks) {
        assert_true(now->blocks[0].offset <= run->base.offset);
        assert_true(now->blocks[0].offset + now->blocks[0].len > run->base.offset);
    }
    size_t k = 0;
    while (k < was->n_outputs && was->outputs[k].seq <= run->base.outside)
        k++;
    assert_int_equal(now->n_outputs, was->n_outputs - k);
    assert_memory_equal(now->outputs, was->outputs + k, now->n_outputs * sizeof *now->outputs);
    /* The event at the base can be read, and nothing before it. */
    ok(tf_cursor_open(store, run, &cursor, err));
    ok(tf_cursor_seek(cursor, frame, err));
    ok(tf_cursor_next(cursor, &f, err));
    fx_same(&f, &was->frames[frame - was->first]);
    ok(tf_cursor_seek(cursor, 1, err));
    f = (struct tf_frame){.frame = frame + 1}; /* if there is none behind it */
    ok(tf_cursor_next(cursor, &f, err));
    assert_int_equal(f.frame, frame + 1);
    struct tf_activation *v;
    struct tf_frame *stack;
    size_t n;
    refused(tf_cursor_activations(cursor, frame - 1, &v, &n, &f, err), TF_E_NOTFOUND, "was dropped");
    refused(tf_cursor_stack(cursor, frame - 1, &stack, &n, err), TF_E_NOTFOUND, "was dropped");
    ok(tf_cursor_activations(cursor, frame, &v, &n, &f, err));
    free(v);
    ok(tf_cursor_stack(cursor, run->frames, &stack, &n, err));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(stack[i].depth, n - i);
    free(stack);
    tf_cursor_close(cursor);
    /* Events of threads: those that are counted. */
    struct tf_thread_activity *threads;
    uint64_t counted = 0;
    ok(tf_store_thread_activity(store, run, &threads, &n, err));
    for (size_t i = 0; i < n; i++) {
        assert_true(threads[i].first > frame);
        counted += threads[i].frames;
    }
    assert_int_equal(counted, now->n);
    free(threads);
    uint32_t *words = malloc(TF_BLOCK_FRAMES * sizeof *words), got;
    ok(tf_store_block_words(store, run, kept, words, &got, err));
    if (kept)
        refused(tf_store_block_words(store, run, kept - 1, words, &got, err), TF_E_NOTFOUND, "dropped");
    free(words);
    free_content(now);
}

static int format_of(const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int format = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return format;
}

static void drop_all(struct tf_store *store, const struct tf_run *run, uint64_t frame, uint64_t offset)
{
    int rc;
    do
        ok(rc = tf_store_drop_before(store, run, frame, offset, err));
    while (rc == 0);
}

/* Places at which checkpoints could have been: the end of an outside event, after as many frame events as it
 * had seen. */
static uint64_t place(struct tf_store *store, const struct tf_run *run, uint64_t nth, uint64_t *frame)
{
    struct tf_outside_block *blocks;
    size_t n;
    uint64_t at = 0;
    ok(tf_store_outside_blocks(store, run, &blocks, &n, err));
    for (size_t i = 0; i < n && !at; i++) {
        if (blocks[i].first_seq + blocks[i].events <= nth)
            continue;
        uint8_t *buf = malloc(blocks[i].len);
        ok(tf_store_outside_read(store, run, &blocks[i], buf, err));
        uint64_t seq = blocks[i].first_seq;
        for (at = 0;; seq++) {
            const struct tf_outside *e = (const void *)(buf + at);
            at += e->total_len;
            *frame = e->frame;
            if (seq == nth)
                break;
        }
        at += blocks[i].offset;
        free(buf);
    }
    free(blocks);
    return at;
}

static void test_drop(void **state)
{
    (void)state;
    const char *path = fx_path("drop.timefork");
    struct tf_store *store;
    struct fx_ring r;
    struct tf_run run, first;
    uint32_t thread = 0, depth[2] = {0};
    uint64_t frame, offset;
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = begin(store, &r);
    play(&r, in, BLOCKS * TF_BLOCK_FRAMES + 1234, &thread, depth, 500, 4000);
    ok(tf_ingest_end(in, 0, 0, &run, err));
    assert_false(tf_run_has_base(&run));
    assert_int_equal(tf_run_first(&run), 1);
    assert_int_equal(format_of(path), 3);
    struct content *was = read_all(store, &run);
    /* No such places. */
    offset = place(store, &run, run.outside / 2, &frame);
    refused(tf_store_drop_before(store, &run, frame, offset + 8, err), TF_E_USAGE, "no such place");
    refused(tf_store_drop_before(store, &run, run.frames + 1, run.outside_bytes, err), TF_E_USAGE,
            "no such place");
    refused(tf_store_drop_before(store, &run, frame, run.outside_bytes + 64, err), TF_E_USAGE,
            "no such place");
    refused(tf_store_drop_before(store, &run, 1, offset, err), TF_E_USAGE, "no such place");
    assert_int_equal(format_of(path), 3);
    first = run;
    /* Further and further; at last behind the last outside event. */
    for (uint64_t part = 1; part <= 8; part++) {
        struct tf_run now;
        uint64_t before, bytes, after;
        offset = place(store, &first, part == 8 ? first.outside : first.outside * part / 8, &frame);
        if (part == 8)
            frame = first.frames;
        ok(tf_store_run_bytes(store, first.rowid, &before, err));
        ok(tf_store_bytes_before(store, &first, &(struct tf_place_of){frame, offset}, 1, &bytes, err));
        ok(tf_store_may_drop(store, &first, frame, offset, err));
        drop_all(store, &first, frame, offset);
        ok(tf_store_run_bytes(store, first.rowid, &after, err));
        assert_int_equal(before - after, bytes);
        ok(tf_store_find_run(store, NULL, &now, err));
        assert_true(tf_run_has_base(&now));
        assert_int_equal(now.base.frame, frame);
        assert_int_equal(now.base.offset, offset);
        assert_int_equal(now.base.outside, part == 8 ? first.outside : first.outside * part / 8);
        assert_int_equal(now.frames, first.frames);
        assert_true(now.base.ns <= was->frames[frame - 1].time_ns);
        assert_int_equal(format_of(path), 4);
        check_left(store, &now, was);
        /* Once more changes nothing, nor does one before it. */
        drop_all(store, &now, frame, offset);
        drop_all(store, &now, 1, 8);
        check_left(store, &now, was);
        tf_run_clear(&now);
    }
    /* A run that is added has no base; the one that has stays as it is. */
    struct fx_ring r2;
    fx_ring_make(&r2, 1 << 16);
    struct tf_run second;
    in = begin(store, &r2);
    ok(tf_ingest_end(in, 0, 0, &second, err));
    assert_false(tf_run_has_base(&second));
    assert_int_equal(format_of(path), 4);
    tf_store_close(store);
    ok(tf_store_open(path, &store, err));
    refused(tf_store_drop_before(store, &run, frame, offset, err), TF_E_USAGE, "written");
    tf_store_close(store);
    tf_run_clear(&run);
    tf_run_clear(&second);
    free_content(was);
    fx_ring_free(&r);
    fx_ring_free(&r2);
}

/* ---- while it is recorded ---- */

static uint64_t size_of(const char *path)
{
    static const char *const files[] = {"", "-wal", "-journal"};
    uint64_t sum = 0;
    for (int i = 0; i < 3; i++) {
        char name[300];
        struct stat st;
        snprintf(name, sizeof name, "%s%s", path, files[i]);
        sum += stat(name, &st) ? 0 : (uint64_t)st.st_size;
    }
    return sum;
}

#define STEPS 400u
#define KEPT_STEPS 16u

/* A long run with a checkpoint at each step, of which the last 16 are kept: the file must not grow with the
 * run. */
static void test_bounded(void **state)
{
    (void)state;
    const char *path = fx_path("long.timefork");
    struct tf_store *store;
    struct fx_ring r;
    struct tf_run run;
    uint32_t thread = 0, depth[2] = {0};
    struct {
        uint64_t frame, offset;
    } places[STEPS];
    uint64_t largest = 0, frames = 0, offset, at_start = 0, all = 0;
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = begin(store, &r);
    for (uint32_t step = 0; step < STEPS; step++) {
        play(&r, in, 10000, &thread, depth, 500, 10000);
        all += 20 * 10000;
        /* As the recorder does when an image is there: the place is in the file by then. */
        ok(tf_ingest_tick(in, err));
        int rc = 0;
        if (step == 0) /* nothing is committed yet, and nothing breaks */
            ok(rc = tf_ingest_drop_before(in, 5000, 1ull << 40, err));
        assert_int_equal(rc, 0);
        struct tf_store *reader;
        ok(tf_store_open(path, &reader, err));
        ok(tf_store_find_run(reader, NULL, &run, err));
        places[step].frame = run.frames;
        places[step].offset = run.outside_bytes;
        offset = run.outside_bytes;
        if (step >= KEPT_STEPS && places[step - KEPT_STEPS].offset) {
            for (int i = 0; i < 100 && rc == 0; i++)
                ok(rc = tf_ingest_drop_before(in, places[step - KEPT_STEPS].frame,
                                              places[step - KEPT_STEPS].offset, err));
            assert_int_equal(rc, 1);
        }
        tf_run_clear(&run);
        tf_store_close(reader);
        uint64_t size = size_of(path);
        largest = size > largest ? size : largest;
        if (step == 2 * KEPT_STEPS)
            at_start = largest;
        frames = places[step].frame;
    }
    ok(tf_ingest_end(in, 0, 0, &run, err));
    assert_true(run.base.frame > 0 && run.base.frame == places[STEPS - 1 - KEPT_STEPS].frame);
    assert_true(run.frames >= frames && run.outside_bytes >= offset);
    free_content(read_all(store, &run));
    tf_store_close(store);
    uint64_t size = size_of(path);
    print_message(
        "%llu kB of data came, the file had %llu kB at most (%llu kB after two windows), %llu kB at "
        "the end\n",
        (unsigned long long)all / 1000, (unsigned long long)largest / 1000,
        (unsigned long long)at_start / 1000, (unsigned long long)size / 1000);
    /* 16 steps are 3.2 MB of data that cannot be compressed; then what is queued before it is committed (4
     * MiB), and the write-ahead log (16 MB by SQLite's own rule). */
    assert_true(all > 75000000);
    assert_true(size < 14000000);
    assert_true(largest < 32000000);
    tf_run_clear(&run);
    fx_ring_free(&r);
}

/* ---- processes ---- */

static struct tf_ingest *fork_child(struct tf_ingest *parent, struct fx_ring *r, uint32_t pid)
{
    struct tf_ingest *child;
    uint32_t data[6] = {pid};
    fx_ring_make(r, 1 << 20);
    r->shm->program_pid = pid;
    ok(tf_ingest_fork(parent, r->shm, r->words, 0, &child, err));
    fx_outside(r, 57, 0, NULL, 0, data, sizeof data, 0);
    fx_drain(child);
    return child;
}

static void test_children(void **state)
{
    (void)state;
    const char *path = fx_path("children.timefork");
    struct tf_store *store;
    struct fx_ring r, rc1, rc2, rc3;
    struct tf_run run, one, two, three, *all;
    uint32_t thread = 0, depth[2] = {0};
    uint64_t frame, offset;
    size_t n;
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = begin(store, &r);
    play(&r, in, 150000, &thread, depth, 500, 3000);
    /* One that ends soon, one that runs on. */
    struct tf_ingest *c1 = fork_child(in, &rc1, 100);
    uint32_t t1 = thread, d1[2] = {depth[0], depth[1]};
    play(&rc1, c1, 1000, &t1, d1, 100, 3000);
    ok(tf_ingest_end(c1, 0, 0, &one, err));
    assert_int_equal(one.process, 2);
    usleep(2000);
    uint64_t later = fx_tsc();
    fx_record(&r, TF_REC_TIME, &later, sizeof later);
    play(&r, in, 150000, &thread, depth, 500, 3000);
    struct tf_ingest *c2 = fork_child(in, &rc2, 101);
    uint32_t t2 = thread, d2[2] = {depth[0], depth[1]};
    ok(tf_ingest_tick(in, err));
    ok(tf_store_find_run(store, NULL, &run, err));
    offset = place(store, &run, run.outside * 3 / 4, &frame);
    assert_true(frame > one.fork_frame);
    /* In front of the second child's fork, behind the end of the first: it goes. */
    ok(tf_store_processes(store, &run, &all, &n, err));
    assert_int_equal(n, 3);
    tf_runs_free(all, n);
    int rc;
    do
        ok(rc = tf_ingest_drop_before(in, frame, offset, err));
    while (rc == 0);
    ok(tf_store_processes(store, &run, &all, &n, err));
    assert_int_equal(n, 2);
    assert_int_equal(all[0].base.frame, frame);
    assert_int_equal(all[1].process, 3);
    assert_int_equal(all[1].base.frame, frame); /* its parent's */
    tf_runs_free(all, n);
    /* Not behind the fork of the second. */
    play(&r, in, 100000, &thread, depth, 500, 3000);
    play(&rc2, c2, 100000, &t2, d2, 500, 3000);
    tf_run_clear(&run);
    usleep(2000);
    struct tf_ingest *c3 = fork_child(in, &rc3, 102); /* commits the parent */
    ok(tf_store_find_run(store, NULL, &run, err));
    uint64_t far_frame, far = place(store, &run, run.outside, &far_frame);
    refused(tf_ingest_drop_before(in, far_frame, far, err), TF_E_USAGE, "process 3");
    assert_int_equal(tf_store_may_drop(store, &run, far_frame, far, NULL), 0);
    assert_int_equal(tf_store_may_drop(store, &run, frame, offset, NULL), 1);
    ok(tf_ingest_end(c2, 0, 0, &two, err));
    struct content *was = read_all(store, &two);
    /* It has ended, but later than the place. */
    assert_int_equal(tf_store_may_drop(store, &run, far_frame, far, NULL), 0);
    /* With a base of its own it needs its parent's no more. */
    uint64_t own_frame, own = place(store, &two, two.outside, &own_frame);
    drop_all(store, &two, own_frame, own);
    ok(tf_store_find_process(store, run.id, 3, &three, err));
    assert_int_equal(three.base.frame, own_frame);
    check_left(store, &three, was);
    assert_int_equal(tf_store_may_drop(store, &run, far_frame, far, NULL), 1);
    drop_all(store, &run, far_frame, far);
    check_left(store, &three, was);
    /* The number of the one that was removed is not given again; the third child was number 4. */
    assert_int_equal(tf_ingest_process(c3), 4);
    ok(tf_ingest_end(c3, 0, 0, NULL, err));
    ok(tf_ingest_end(in, 0, 0, NULL, err));
    ok(tf_store_delete_run(store, run.rowid, err));
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    static const char *const tables[] = {"runs",   "bases",  "frames",  "outside", "codes",  "marks",
                                         "mapped", "builds", "machine", "threads", "sources"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[100];
        sqlite3_stmt *stmt;
        snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", tables[i]);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        if (sqlite3_column_int(stmt, 0))
            fail_msg("%d rows are left in %s", sqlite3_column_int(stmt, 0), tables[i]);
        sqlite3_finalize(stmt);
    }
    sqlite3_close(db);
    tf_store_close(store);
    free_content(was);
    tf_run_clear(&run);
    tf_run_clear(&one);
    tf_run_clear(&two);
    tf_run_clear(&three);
    fx_ring_free(&r);
    fx_ring_free(&rc1);
    fx_ring_free(&rc2);
    fx_ring_free(&rc3);
}

/* The last child of all has ended and is removed: the next one is not it. */
static void test_numbers(void **state)
{
    (void)state;
    struct tf_store *store;
    struct fx_ring r, rc1, rc2;
    struct tf_run run;
    uint32_t thread = 0, depth[2] = {0};
    uint64_t frame, offset;
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(fx_path("numbers.timefork"), &store, err));
    struct tf_ingest *in = begin(store, &r);
    play(&r, in, 1000, &thread, depth, 100, 300);
    struct tf_ingest *c = fork_child(in, &rc1, 100);
    ok(tf_ingest_end(c, 0, 0, NULL, err));
    usleep(2000);
    uint64_t later = fx_tsc();
    fx_record(&r, TF_REC_TIME, &later, sizeof later);
    play(&r, in, 1000, &thread, depth, 100, 300);
    usleep(2000);
    fx_drain(in);
    struct tf_ingest *c2 = fork_child(in, &rc2, 101);
    assert_int_equal(tf_ingest_process(c2), 3);
    ok(tf_ingest_end(c2, 0, 0, NULL, err));
    usleep(2000);
    later = fx_tsc();
    fx_record(&r, TF_REC_TIME, &later, sizeof later);
    play(&r, in, 1000, &thread, depth, 100, 300);
    fx_ring_free(&rc2);
    fx_ring_free(&rc1);
    ok(tf_ingest_fork(in, r.shm, r.words, 0, &c, err)); /* commits; comes to nothing */
    ok(tf_ingest_end(c, 0, 0, NULL, err));
    ok(tf_store_find_run(store, NULL, &run, err));
    offset = place(store, &run, run.outside, &frame);
    drop_all(store, &run, frame, offset);
    struct tf_run *all;
    size_t n;
    ok(tf_store_processes(store, &run, &all, &n, err));
    assert_int_equal(n, 1);
    tf_runs_free(all, n);
    c = fork_child(in, &rc1, 102);
    assert_int_equal(tf_ingest_process(c), 4);
    ok(tf_ingest_end(c, 0, 0, NULL, err));
    ok(tf_ingest_end(in, 0, 0, NULL, err));
    tf_run_clear(&run);
    tf_store_close(store);
    fx_ring_free(&rc1);
    fx_ring_free(&r);
}

/* ---- what users see of it ---- */

static void test_commands(void **state)
{
    (void)state;
    char path[300];
    struct tf_store *store;
    struct fx_ring r;
    struct tf_run run;
    uint32_t thread = 0, depth[2] = {0};
    uint64_t frame, offset;
    char text[64];
    snprintf(path, sizeof path, "%s", fx_path("commands.timefork"));
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = begin(store, &r);
    play(&r, in, 3 * TF_BLOCK_FRAMES, &thread, depth, 5000, 16);
    ok(tf_ingest_end(in, 0, 0, &run, err));
    tf_store_close(store);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-runs", "--format", "json"), 0);
    json_t *o = line(0);
    assert_int_equal(number(o, "first_frame"), 1);
    json_decref(o);
    ok(tf_store_create(path, &store, err));
    offset = place(store, &run, run.outside / 2, &frame);
    drop_all(store, &run, frame, offset);
    tf_store_close(store);

    assert_int_equal(command(tf_cmd_query, "query", path, "--list-runs", "--format", "json"), 0);
    o = line(0);
    assert_int_equal(number(o, "first_frame"), frame + 1);
    assert_int_equal(number(o, "frames"), run.frames);
    assert_true(number(o, "first_ns") > 0 && number(o, "first_ns") < number(o, "duration_ns"));
    json_decref(o);
    assert_int_equal(command(tf_cmd_query, "query", path, "--list-processes", "--format", "json"), 0);
    o = line(0);
    assert_int_equal(number(o, "first_frame"), frame + 1);
    assert_int_equal(number(o, "own_frames"), run.frames - frame);
    json_decref(o);
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--limit", "1", "--format", "json"), 0);
    o = line(0);
    assert_int_equal(number(o, "frame"), frame + 1);
    json_decref(o);
    snprintf(text, sizeof text, "it begins at frame event %llu", (unsigned long long)frame + 1);
    assert_int_equal(command(tf_cmd_query, "query", path, "--frames", "--limit", "1"), 0);
    says(text);
    assert_int_equal(command(tf_cmd_query, "query", path, "--output", "--limit", "1", "--format", "json"), 0);
    o = line(0);
    assert_true((uint64_t)number(o, "frame") >= frame);
    json_decref(o);
    assert_int_equal(command(tf_cmd_query, "query", path, "--stats"), 0);
    says(text);
    /* All the time since the base is somebody's: functions that ran already then have theirs. */
    assert_int_equal(command(tf_cmd_query, "query", path, "--stats", "--format", "json"), 0);
    int64_t self = 0;
    for (uint32_t i = 0; i < CODES; i++) {
        o = line((int)i);
        self += number(o, "self_ns");
        json_decref(o);
    }
    ok(tf_store_open(path, &store, err));
    struct tf_run now;
    ok(tf_store_find_run(store, NULL, &now, err));
    int64_t all = (int64_t)(now.duration_ns - now.base.ns);
    tf_run_clear(&now);
    tf_store_close(store);
    if (self > all || self < all - all / 100)
        fail_msg("%lld ns of %lld are somebody's", (long long)self, (long long)all);
    /* It cannot be replayed, and says so. */
    assert_int_equal(command(tf_cmd_verify, "verify", path), 1);
    says("its oldest part was dropped");
    tf_run_clear(&run);
    fx_ring_free(&r);
}

/* ---- what may be in the way ---- */

/* A reader that stands in a block which goes says so; one that comes later reads what is left, also when the
 * recorder died before all of it was gone. */
static void test_meanwhile(void **state)
{
    (void)state;
    const char *path = fx_path("meanwhile.timefork");
    struct tf_store *store, *reader;
    struct fx_ring r;
    struct tf_run run, now;
    struct tf_cursor *c;
    struct tf_frame f;
    uint32_t thread = 0, depth[2] = {0};
    uint64_t frame, offset;
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = begin(store, &r);
    play(&r, in, 70 * TF_BLOCK_FRAMES, &thread, depth, 5000, 10);
    ok(tf_ingest_end(in, 0, 0, &run, err));
    struct content *was = read_all(store, &run);
    ok(tf_store_open(path, &reader, err));
    ok(tf_cursor_open(reader, &run, &c, err));
    ok(tf_cursor_next(c, &f, err));
    struct tf_outside_block *blocks;
    size_t n;
    ok(tf_store_outside_blocks(reader, &run, &blocks, &n, err));
    offset = place(store, &run, run.outside * 69 / 70, &frame);
    assert_int_equal(tf_store_drop_before(store, &run, frame, offset, NULL), 0); /* 64 blocks, not all */
    ok(tf_store_find_run(reader, NULL, &now, err));
    check_left(reader, &now, was);
    tf_run_clear(&now);
    ok(tf_cursor_seek(c, 64 * TF_BLOCK_FRAMES - 5, err));
    refused(tf_cursor_next(c, &f, err), TF_E_NOTFOUND, "were dropped from");
    uint8_t *buf = malloc(blocks[0].len);
    if (blocks[0].offset + blocks[0].len <= offset)
        refused(tf_store_outside_read(reader, &run, &blocks[0], buf, err), TF_E_NOTFOUND,
                "were dropped from");
    free(buf);
    free(blocks);
    tf_cursor_close(c);
    tf_store_close(reader);
    drop_all(store, &run, frame, offset);
    ok(tf_store_find_run(store, NULL, &now, err));
    check_left(store, &now, was);
    tf_run_clear(&now);
    /* Somebody else writes: later. */
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(tf_store_drop_before(store, &run, frame, offset, NULL), 0);
    sqlite3_close(db);
    drop_all(store, &run, frame, offset);
    tf_store_close(store);
    tf_run_clear(&run);
    free_content(was);
    fx_ring_free(&r);
}

static void test_damage(void **state)
{
    (void)state;
    const char *path = fx_path("damage.timefork");
    struct tf_store *store;
    struct fx_ring r;
    struct tf_run run;
    struct tf_cursor *c;
    uint32_t thread = 0, depth[2] = {0};
    uint64_t frame, offset;
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = begin(store, &r);
    play(&r, in, 4 * TF_BLOCK_FRAMES, &thread, depth, 500, 3000);
    ok(tf_ingest_end(in, 0, 0, &run, err));
    offset = place(store, &run, run.outside / 2, &frame);
    drop_all(store, &run, frame, offset);
    tf_store_close(store);
    static const struct {
        const char *sql, *want;
        bool outside;
    } cases[] = {
        {"UPDATE bases SET frame = -1", "makes no sense", false},
        {"UPDATE bases SET frame = 1", "missing", false},
        {"UPDATE bases SET frame = frame + 65536 * 1000", "missing", false},
        {"UPDATE bases SET kept_offset = offset + 8", "makes no sense", true},
        {"UPDATE bases SET kept_offset = kept_offset + 8", "makes no sense|missing", true},
        {"UPDATE bases SET offset = 1 << 40", "missing", true},
        {"DELETE FROM bases", "missing", false},
        {"UPDATE bases SET kept_seq = 'x', seq = 7", "makes no sense|missing", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *copy = fx_path("copy.timefork");
        size_t len, n;
        struct tf_err err = {0};
        struct tf_run now;
        struct tf_outside_block *blocks;
        char *data = fx_read(path, &len);
        fx_write(copy, data, len);
        free(data);
        sqlite3 *db;
        assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, cases[i].sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        assert_int_equal(tf_store_open(copy, &store, &err), 0);
        assert_int_equal(tf_store_find_run(store, NULL, &now, &err), 0); /* it is still listed */
        int rc = cases[i].outside ? tf_store_outside_blocks(store, &now, &blocks, &n, &err)
                                  : tf_cursor_open(store, &now, &c, &err);
        if (rc != TF_E_FORMAT || !(strstr(err.msg, "makes no sense") || strstr(err.msg, "missing")))
            fail_msg("%s: %d '%s'", cases[i].sql, rc, err.msg);
        tf_run_clear(&now);
        tf_store_close(store);
    }
    tf_run_clear(&run);
    fx_ring_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop),    cmocka_unit_test(test_bounded),  cmocka_unit_test(test_children),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_commands), cmocka_unit_test(test_meanwhile),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
