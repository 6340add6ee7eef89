/*
 * Several processes in one run: what is read of a forked process is what an ordinary recording of the same
 * events, the parent's up to the fork and then its own, would hold.
 */
#include "store_fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <xxhash.h>

#define THREADS 3u
#define MAX_PROCS 9

/* ---- a tree of processes, played by hand ---- */

/* Each takes seconds, and six times that with the sanitizers. */
static int rounds(int few, int many)
{
#ifdef __SANITIZE_ADDRESS__
    few = 1;
#endif
    return getenv("TIMEFORK_TEST_LONG") ? many : few;
}

enum kind { FRAME, TIME_LATER, TIME_AT, TURN, CODE, OUTSIDE, MARK, MAPPED };
struct op {
    enum kind kind;
    uint32_t a, b; /* word; ticks; thread; seed of what it holds, length */
};

/* A process: all that it did since the very start, its parent's part included. */
struct proc {
    struct op *v;
    size_t n, cap, forked; /* forked: how many are its parent's */
    uint64_t frames, fork_frame;
    uint32_t depth[THREADS], thread, codes, ticks;
    int parent; /* index, -1: none */
    struct fx_ring r;
    struct tf_ingest *in;
    uint32_t number; /* in the run */
    bool ended;
    int status, signal;
};

struct tree {
    struct tf_store *store;
    uint64_t tsc; /* of the start */
    struct proc p[MAX_PROCS];
    int n;
};

static uint64_t outside_bytes[4096];

static void play(struct fx_ring *r, const struct op *op, uint32_t *codes, uint64_t tsc)
{
    char text[64];
    uint64_t at;
    switch (op->kind) {
    case FRAME:
        fx_item(r, op->a, NULL, 0);
        break;
    case TIME_LATER:
        fx_item(r, TF_WORD(TF_TIME, op->a), NULL, 0);
        break;
    case TIME_AT:
        at = tsc + ((uint64_t)op->a << TF_TIME_UNIT_SHIFT);
        fx_record(r, TF_REC_TIME, &at, sizeof at);
        break;
    case TURN:
        fx_turn(r, op->a, TF_TURN_PLAIN);
        break;
    case CODE:
        snprintf(text, sizeof text, "/nowhere/file%u.py", op->a % 7);
        fx_code(r, ++*codes, text, op->a % 2 ? "Shop.f" : "g", op->a);
        break;
    case OUTSIDE:
        fx_outside(r, op->a % 300, op->a % 5 == 0 ? 1 + op->a / 5 % 2 : 0, &op->a, op->a % 5,
                   (uint8_t *)outside_bytes + op->a % 256, op->b, (int64_t)op->a - 1000);
        break;
    case MARK:
        snprintf(text, sizeof text, "mark %u", op->a);
        fx_mark(r, op->b, text);
        break;
    case MAPPED:
        snprintf(text, sizeof text, "/nowhere/lib%u.so", op->a);
        fx_record(r, TF_REC_MAPPED, text, strlen(text) + 1);
    }
}

/* A process does something. */
static void act(struct tree *t, int i, struct op op)
{
    struct proc *p = &t->p[i];
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 4096;
        p->v = realloc(p->v, p->cap * sizeof *p->v);
    }
    p->v[p->n++] = op;
    if (op.kind == TIME_LATER)
        p->ticks += op.a;
    if (op.kind == TIME_AT)
        p->ticks = op.a;
    if (op.kind == FRAME) {
        p->frames++;
        if (TF_IS_SWITCH(op.a))
            p->thread = TF_LOW(op.a);
        else if (TF_IS_ENTRY(op.a))
            p->depth[p->thread]++;
        else if (p->depth[p->thread])
            p->depth[p->thread]--;
    }
    play(&p->r, &op, &p->codes, t->tsc);
    if (p->r.head - p->r.shm->tail > 100000)
        fx_drain(p->in);
}
static void call(struct tree *t, int i, uint32_t code)
{
    act(t, i, (struct op){FRAME, TF_WORD(TF_CALL, code), 0});
}
static void leave(struct tree *t, int i)
{
    act(t, i, (struct op){FRAME, TF_WORD(TF_RETURN, 0), 0});
}
static void turn(struct tree *t, int i, uint32_t thread)
{
    act(t, i, (struct op){TURN, thread, 0});
    act(t, i, (struct op){FRAME, TF_WORD(TF_SWITCH, thread), 0});
}
static void outside(struct tree *t, int i, uint32_t seed, uint32_t len)
{
    act(t, i, (struct op){OUTSIDE, seed, len});
}

static void act_randomly(struct tree *t, int i, uint64_t n)
{
    static const enum tf_tag exits[4] = {TF_RETURN, TF_RETURN, TF_YIELD, TF_UNWIND};
    struct proc *p = &t->p[i];
    for (; n; n--) {
        uint64_t x = fx_random();
        uint32_t seed = (uint32_t)(x >> 32);
        if (x % 64 == 0 && n > 1) {
            turn(t, i, seed % THREADS);
            n--;
        }
        if (x % 2048 == 1 || !p->codes)
            act(t, i, (struct op){CODE, seed % 1000, 0});
        if (x % 512 == 2)
            outside(t, i, seed % 5000, seed % 3 ? seed % 200 : seed % 9000);
        if (x % 8192 == 3)
            act(t, i, (struct op){MARK, seed % 100, TF_MARK_NOTE});
        if (x % 16384 == 4)
            act(t, i, (struct op){MAPPED, seed % 100, 0});
        uint32_t depth = p->depth[p->thread];
        if (depth < 2 || (depth < 60 && (x >> 20 & 1)))
            act(t, i,
                (struct op){FRAME, TF_WORD((x >> 24) % 4 ? TF_CALL : TF_RESUME, 1 + seed % p->codes), 0});
        else
            act(t, i, (struct op){FRAME, TF_WORD(exits[x >> 24 & 3], 0), 0});
        if (x % 32 == 5)
            act(t, i, (struct op){TIME_LATER, 1 + seed % 5000, 0});
    }
}

static void tree_begin(struct tree *t, const char *path)
{
    *t = (struct tree){.tsc = fx_tsc(), .n = 1};
    for (size_t i = 0; i < sizeof outside_bytes / sizeof *outside_bytes; i++)
        outside_bytes[i] = fx_random();
    ok(tf_store_create(path, &t->store, err));
    t->p[0].parent = -1;
    t->p[0].number = 1;
    fx_ring_make(&t->p[0].r, 1 << 18);
    t->p[0].in = fx_begin(t->store, &t->p[0].r, "tree");
    fx_start_at(&t->p[0].r, t->tsc);
    fx_drain(t->p[0].in);
    assert_int_equal(tf_ingest_process(t->p[0].in), 1);
}

/* Process i forks. Returns the child's index. */
static int tree_fork(struct tree *t, int i)
{
    int k = t->n++;
    assert_true(k < MAX_PROCS);
    struct proc *p = &t->p[i], *c = &t->p[k];
    fx_drain(p->in);
    *c = *p;
    c->v = malloc((p->n + 1) * sizeof *c->v);
    if (p->n)
        memcpy(c->v, p->v, p->n * sizeof *c->v);
    c->cap = p->n + 1;
    c->forked = p->n;
    c->fork_frame = p->frames;
    c->parent = i;
    c->number = 0;
    c->in = NULL;
    fx_ring_make(&c->r, 1 << 18);
    c->r.shm->program_pid = 5000 + (uint32_t)k;
    ok(tf_ingest_fork(p->in, c->r.shm, c->r.words, 0, &c->in, err));
    assert_int_equal(tf_ingest_process(c->in), 0);
    assert_false(tf_ingest_started(c->in));
    return k;
}

/* What has come is taken; numbers are given in the order in which something comes. */
static void tree_drain(struct tree *t, int i)
{
    struct proc *p = &t->p[i];
    fx_drain(p->in);
    p->number = tf_ingest_process(p->in);
}

static void tree_end_one(struct tree *t, int i, int status, int signal)
{
    struct tf_run run;
    struct proc *p = &t->p[i];
    tree_drain(t, i);
    ok(tf_ingest_end(p->in, status, signal, &run, err));
    p->ended = true;
    p->status = status;
    p->signal = signal;
    if (p->number) {
        assert_int_equal(run.process, p->number);
        assert_int_equal(run.frames, p->frames);
        assert_int_equal(run.state, TF_RUN_COMPLETE);
    } else {
        assert_int_equal(run.rowid, 0);
    }
    tf_run_clear(&run);
}

static void tree_end(struct tree *t)
{
    for (int i = 0; i < t->n; i++)
        if (!t->p[i].ended)
            tree_end_one(t, i, i, 0);
    tf_store_close(t->store);
}

static void tree_free(struct tree *t)
{
    for (int i = 0; i < t->n; i++) {
        fx_ring_free(&t->p[i].r);
        free(t->p[i].v);
    }
}

/* ---- the same events in an ordinary recording ---- */

static void record_straight(const char *path, const struct tree *t, int i, size_t n)
{
    struct fx_ring r;
    struct tf_store *store;
    uint32_t codes = 0;
    unlink(path);
    fx_ring_make(&r, 1 << 18);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = fx_begin(store, &r, "straight");
    fx_start_at(&r, t->tsc);
    for (size_t k = 0; k < n; k++) {
        play(&r, &t->p[i].v[k], &codes, t->tsc);
        if (r.head - r.shm->tail > 100000)
            fx_drain(in);
    }
    fx_drain(in);
    ok(tf_ingest_end(in, 0, 0, NULL, err));
    tf_store_close(store);
    fx_ring_free(&r);
}

static uint8_t *outside_stream(struct tf_store *store, const struct tf_run *run, uint64_t *len)
{
    struct tf_outside_block *blocks;
    size_t n;
    uint8_t *all = malloc(run->outside_bytes + 1);
    uint64_t events = 0;
    *len = 0;
    ok(tf_store_outside_blocks(store, run, &blocks, &n, err));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(blocks[i].offset, *len);
        assert_int_equal(blocks[i].first_seq, events + 1);
        assert_true(*len + blocks[i].len <= run->outside_bytes);
        ok(tf_store_outside_read(store, run, &blocks[i], all + *len, err));
        *len += blocks[i].len;
        events += blocks[i].events;
    }
    assert_int_equal(events, run->outside);
    free(blocks);
    return all;
}

struct outputs {
    char *text;
    size_t len, cap;
};
static int collect(void *ctx, const struct tf_output *o)
{
    struct outputs *all = ctx;
    if (all->cap - all->len < o->len + 128) {
        all->cap = all->cap * 2 + o->len + 128;
        all->text = realloc(all->text, all->cap);
    }
    all->len += (size_t)sprintf(all->text + all->len, "%lu:%lu:%d:%zu:", o->frame, o->seq, o->fd, o->len);
    memcpy(all->text + all->len, o->data, o->len);
    all->len += o->len;
    return 0;
}

static void same_frames(struct tf_cursor *a, struct tf_cursor *b, uint64_t most, bool times)
{
    struct tf_frame fa, fb;
    for (uint64_t i = 0; i < most; i++) {
        int ra, rb;
        ok(ra = tf_cursor_next(a, &fa, err));
        ok(rb = tf_cursor_next(b, &fb, err));
        if (ra != rb)
            fail_msg("one has %d more events, the other %d", ra, rb);
        if (!ra)
            return;
        fx_same(&fa, &fb);
        if (times && fa.time_ns != fb.time_ns)
            fail_msg("frame %lu is at %lu and at %lu", fa.frame, fa.time_ns, fb.time_ns);
    }
}

/* Everything that can be read of two runs is the same. */
static void same_view(struct tf_store *sa, struct tf_run *a, struct tf_store *sb, struct tf_run *b,
                      bool times)
{
    struct tf_codes ca, cb;
    struct tf_mark_row *ma, *mb;
    struct tf_mapped *pa, *pb;
    struct tf_cursor *xa, *xb;
    uint64_t *da, *db, la, lb;
    size_t na, nb;
    static uint32_t wa[TF_BLOCK_FRAMES], wb[TF_BLOCK_FRAMES];
    uint32_t nwa, nwb;

    assert_int_equal(a->frames, b->frames);
    assert_int_equal(a->outside, b->outside);
    assert_int_equal(a->outside_bytes, b->outside_bytes);
    assert_string_equal(a->exe, b->exe);
    assert_string_equal(a->python_version, b->python_version);
    assert_string_equal(a->argv[1], b->argv[1]);
    assert_string_equal(a->envp[1], b->envp[1]);
    assert_int_equal(a->stack_limit, b->stack_limit);
    assert_true(a->layout_digest == b->layout_digest);
    /* Ticks instead of nanoseconds: they do not depend on when it was measured. */
    a->cal_tsc = a->cal_ns = b->cal_tsc = b->cal_ns = 1;

    ok(tf_store_codes(sa, a, &ca, err));
    ok(tf_store_codes(sb, b, &cb, err));
    assert_int_equal(ca.n, cb.n);
    for (size_t i = 1; i < ca.n; i++) {
        assert_int_equal(ca.codes[i].first_line, cb.codes[i].first_line);
        assert_string_equal(ca.codes[i].file, cb.codes[i].file);
        assert_string_equal(ca.codes[i].qualname, cb.codes[i].qualname);
    }

    ok(tf_store_marks(sa, a, &ma, &na, err));
    ok(tf_store_marks(sb, b, &mb, &nb, err));
    assert_int_equal(na, nb);
    for (size_t i = 0; i < na; i++) {
        assert_int_equal(ma[i].frame, mb[i].frame);
        assert_int_equal(ma[i].kind, mb[i].kind);
        assert_string_equal(ma[i].text, mb[i].text);
    }
    tf_marks_free(ma, na);
    tf_marks_free(mb, nb);
    ok(tf_store_mapped(sa, a, &pa, &na, err));
    ok(tf_store_mapped(sb, b, &pb, &nb, err));
    assert_int_equal(na, nb);
    for (size_t i = 0; i < na; i++)
        assert_string_equal(pa[i].path, pb[i].path);
    tf_mapped_free(pa, na);
    tf_mapped_free(pb, nb);

    ok(tf_store_digests(sa, a, &da, &na, err));
    ok(tf_store_digests(sb, b, &db, &nb, err));
    assert_int_equal(na, nb);
    for (size_t i = 0; i < na; i++) {
        assert_true(da[i] == db[i]);
        ok(tf_store_block_words(sa, a, i, wa, &nwa, err));
        ok(tf_store_block_words(sb, b, i, wb, &nwb, err));
        assert_int_equal(nwa, nwb);
        assert_memory_equal(wa, wb, nwa * sizeof *wa);
        assert_true(XXH3_64bits(wa, nwa * sizeof *wa) == da[i]);
    }
    refused(tf_store_block_words(sa, a, na, wa, &nwa, err), TF_E_FORMAT, "missing");
    free(da);
    free(db);

    ok(tf_cursor_open(sa, a, &xa, err));
    ok(tf_cursor_open(sb, b, &xb, err));
    same_frames(xa, xb, UINT64_MAX, times);
    for (int i = 0; i < 60 && a->frames; i++) {
        uint64_t at = 1 + fx_random() % a->frames;
        struct tf_frame *va, *vb, ea, eb;
        struct tf_activation *aa, *ab;
        ok(tf_cursor_seek(xa, at, err));
        ok(tf_cursor_seek(xb, at, err));
        same_frames(xa, xb, 5, times);
        ok(tf_cursor_stack(xa, at, &va, &na, err));
        ok(tf_cursor_stack(xb, at, &vb, &nb, err));
        assert_int_equal(na, nb);
        for (size_t k = 0; k < na; k++)
            fx_same(&va[k], &vb[k]);
        free(va);
        free(vb);
        ok(tf_cursor_activations(xa, at, &aa, &na, &ea, err));
        ok(tf_cursor_activations(xb, at, &ab, &nb, &eb, err));
        fx_same(&ea, &eb);
        assert_int_equal(na, nb);
        for (size_t k = 0; k < na; k++) {
            assert_int_equal(aa[k].entry, ab[k].entry);
            assert_int_equal(aa[k].code, ab[k].code);
        }
        free(aa);
        free(ab);
    }
    for (int i = 0; i < 3; i++) {
        uint8_t *bits = calloc(ca.n / 8 + 1, 1);
        uint32_t code = (uint32_t)(fx_random() % ca.n);
        bits[code / 8] |= (uint8_t)(1 << code % 8);
        bits[(ca.n - 1) / 8] |= (uint8_t)(i << (ca.n - 1) % 8 & 255);
        tf_cursor_filter(xa, bits, ca.n);
        tf_cursor_filter(xb, bits, ca.n);
        ok(tf_cursor_seek(xa, 1, err));
        ok(tf_cursor_seek(xb, 1, err));
        same_frames(xa, xb, UINT64_MAX, times);
        free(bits);
    }
    tf_cursor_close(xa);
    tf_cursor_close(xb);
    tf_codes_free(&ca);
    tf_codes_free(&cb);

    uint8_t *oa = outside_stream(sa, a, &la), *ob = outside_stream(sb, b, &lb);
    assert_int_equal(la, lb);
    assert_int_equal(la, a->outside_bytes);
    assert_memory_equal(oa, ob, la);
    free(oa);
    free(ob);
    struct outputs ta = {0}, tb = {0};
    ok(tf_store_each_output(sa, a, collect, &ta, err));
    ok(tf_store_each_output(sb, b, collect, &tb, err));
    assert_int_equal(ta.len, tb.len);
    if (ta.len)
        assert_memory_equal(ta.text, tb.text, ta.len);
    free(ta.text);
    free(tb.text);
}

/* Each process of the tree, which is closed, against a recording of its own. */
static void check_tree(struct tree *t, const char *path)
{
    const char *straight = fx_path("straight.timefork");
    struct tf_store *store, *other;
    struct tf_run *runs, one;
    size_t n, seen = 0;
    ok(tf_store_open(path, &store, err));
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(runs[0].process, 1);
    tf_runs_free(runs, n);
    ok(tf_store_find_run(store, NULL, &one, err));
    ok(tf_store_processes(store, &one, &runs, &n, err));
    for (int i = 0; i < t->n; i++) {
        struct proc *p = &t->p[i];
        struct tf_run a, b;
        if (!p->number)
            continue;
        seen++;
        assert_true(p->number <= n);
        assert_int_equal(runs[p->number - 1].process, p->number);
        ok(tf_store_find_process(store, NULL, p->number, &a, err));
        assert_int_equal(a.rowid, runs[p->number - 1].rowid);
        assert_string_equal(a.id, one.id);
        assert_int_equal(a.origin, i ? TF_FORKED : TF_STARTED);
        assert_int_equal(a.parent, i ? t->p[p->parent].number : 0);
        assert_int_equal(a.fork_frame, p->fork_frame);
        assert_true(a.fork_outside <= a.outside && a.fork_ns <= a.duration_ns);
        assert_true(i == 0 ? a.fork_ns == 0 : p->forked < 1000 || a.fork_ns > 0);
        assert_int_equal(a.pid, i ? 5000 + i : 4711);
        assert_int_equal(a.exit_status, p->signal ? -1 : p->status);
        assert_int_equal(a.exit_signal, p->signal);
        assert_int_equal(a.started_unix_ns, one.started_unix_ns);
        assert_string_equal(a.title, "tree");
        uint32_t pid;
        ok(tf_store_pid(store, &a, 0, &pid, err));
        assert_int_equal(pid, 4711);
        ok(tf_store_pid(store, &a, a.outside_bytes + 1, &pid, err));
        assert_int_equal(pid, a.pid);
        record_straight(straight, t, i, p->n);
        ok(tf_store_open(straight, &other, err));
        ok(tf_store_find_run(other, NULL, &b, err));
        same_view(store, &a, other, &b, true);
        tf_store_close(other);
        tf_run_clear(&a);
        tf_run_clear(&b);
    }
    assert_int_equal(seen, n);
    struct tf_run none;
    char want[64];
    snprintf(want, sizeof want, n == 1 ? "it has 1" : "it has 1 to %zu", n);
    refused(tf_store_find_process(store, one.id, (uint32_t)n + 1, &none, err), TF_E_NOTFOUND, want);
    refused(tf_store_find_process(store, one.id, 0, &none, err), TF_E_NOTFOUND, "no process 0");
    tf_runs_free(runs, n);
    tf_run_clear(&one);
    tf_store_close(store);
}

/* ---- the tests ---- */

/* The frame number at which the fork happens, and what both do then. */
static void fork_at(uint64_t frame, uint64_t parent_more, uint64_t child_more)
{
    struct tree t;
    const char *path = fx_path("at.timefork");
    unlink(path);
    tree_begin(&t, path);
    act(&t, 0, (struct op){CODE, 1, 0});
    act(&t, 0, (struct op){CODE, 2, 0});
    for (uint64_t i = 0; i < frame; i++) {
        if (i % 5 < 3)
            call(&t, 0, 1 + i % 2);
        else
            leave(&t, 0);
        if (i % 100 == 0)
            act(&t, 0, (struct op){TIME_LATER, 77, 0});
    }
    outside(&t, 0, 56, 100);
    int c = tree_fork(&t, 0);
    outside(&t, 0, 57, 0);
    outside(&t, c, 58, 0); /* the time of the last event still comes, another one in each of them */
    act(&t, c, (struct op){TIME_LATER, 5, 0});
    act(&t, 0, (struct op){TIME_LATER, 9, 0});
    tree_drain(&t, c);
    act_randomly(&t, 0, parent_more);
    act_randomly(&t, c, child_more);
    tree_end(&t);
    check_tree(&t, path);
    tree_free(&t);
}

static void test_places(void **state)
{
    (void)state;
    fork_at(1000, 500, 2000);                    /* in a block; the child lives longer */
    fork_at(1000, 2000, 0);                      /* the child does nothing more */
    fork_at(TF_BLOCK_FRAMES, 0, 1);              /* a block is full */
    fork_at(TF_BLOCK_FRAMES, 1, 70000);          /* and it is the child that needs the next */
    fork_at(TF_BLOCK_FRAMES - 1, 2, 1);          /* the child's first event fills it */
    fork_at(TF_BLOCK_FRAMES + 1, 70000, 140000); /* one event in the next block */
    fork_at(2 * TF_BLOCK_FRAMES + 300, 10, 10);
    fork_at(0, 100, 100); /* before any event */
    fork_at(0, 0, 70000);
    fork_at(1, 0, 0);
}

static void test_never_came(void **state)
{
    (void)state;
    struct tree t;
    const char *path = fx_path("never.timefork");
    tree_begin(&t, path);
    act_randomly(&t, 0, 5000);
    int first = tree_fork(&t, 0); /* fork() failed: nothing ever comes */
    int second = tree_fork(&t, 0);
    outside(&t, second, 1, 10);
    tree_end_one(&t, first, -1, 0);
    act_randomly(&t, second, 1000);
    tree_end_one(&t, second, -1, SIGKILL);
    act_randomly(&t, 0, 1000);
    tree_end(&t);
    assert_int_equal(t.p[first].number, 0);
    assert_int_equal(t.p[second].number, 2);
    check_tree(&t, path);
    tree_free(&t);
}

/* Where in the outside stream an event begins, by its ordinal from 0. */
static uint64_t offset_of(struct tf_store *store, const struct tf_run *run, uint64_t event)
{
    uint64_t len, at = 0;
    uint8_t *all = outside_stream(store, run, &len);
    while (event--)
        at += ((const struct tf_outside *)(all + at))->total_len;
    assert_true(at <= len);
    free(all);
    return at;
}

/* The fork itself is the first event of the child: up to it, it is its parent. */
static void test_pids(void **state)
{
    (void)state;
    struct tree t;
    struct tf_store *store;
    struct tf_run child, grandchild;
    uint32_t pid;
    const char *path = fx_path("pids.timefork");
    tree_begin(&t, path);
    act_randomly(&t, 0, 3000);
    int a = tree_fork(&t, 0);
    outside(&t, a, 57, 0);
    act_randomly(&t, a, 3000);
    int b = tree_fork(&t, a);
    outside(&t, b, 57, 0);
    act_randomly(&t, b, 3000);
    tree_end(&t);
    ok(tf_store_open(path, &store, err));
    ok(tf_store_find_process(store, NULL, 2, &child, err));
    ok(tf_store_find_process(store, NULL, 3, &grandchild, err));
    const struct {
        uint64_t event;
        uint32_t pid;
    } want[] = {{0, 4711},
                {child.fork_outside, 4711},
                {child.fork_outside + 1, 5001},
                {grandchild.fork_outside, 5001},
                {grandchild.fork_outside + 1, 5002}};
    for (size_t i = 0; i < 5; i++) {
        ok(tf_store_pid(store, &grandchild, offset_of(store, &grandchild, want[i].event), &pid, err));
        assert_int_equal(pid, want[i].pid);
    }
    tf_run_clear(&child);
    tf_run_clear(&grandchild);
    tf_store_close(store);
    tree_free(&t);
}

static void test_siblings(void **state)
{
    (void)state;
    struct tree t;
    const char *path = fx_path("siblings.timefork");
    tree_begin(&t, path);
    act(&t, 0, (struct op){CODE, 1, 0});
    call(&t, 0, 1);
    turn(&t, 0, 1);
    call(&t, 0, 1);
    call(&t, 0, 1);
    int a = tree_fork(&t, 0), b = tree_fork(&t, 0);
    /* Code 2 is another function in each of the three; the stacks of both threads are open. */
    int all[3] = {0, a, b};
    for (int i = 0; i < 3; i++) {
        act(&t, all[i], (struct op){CODE, 10 + (uint32_t)i, 0});
        call(&t, all[i], 2);
        act(&t, all[i], (struct op){MARK, 40 + (uint32_t)i, TF_MARK_NOTE});
        act(&t, all[i], (struct op){MAPPED, 50 + (uint32_t)i, 0});
        tree_drain(&t, all[i]);
    }
    /* A grandchild, before and after its parent has said more than the fork. */
    int c = tree_fork(&t, a);
    act(&t, c, (struct op){CODE, 20, 0});
    call(&t, c, 3);
    tree_drain(&t, c);
    int d = tree_fork(&t, c), e = tree_fork(&t, d); /* d has no row when it forks: it gets one */
    leave(&t, e);
    turn(&t, e, 0);
    leave(&t, e);
    leave(&t, e); /* from an empty stack */
    tree_drain(&t, d);
    tree_drain(&t, e);
    assert_int_equal(t.p[d].number, 5);
    assert_int_equal(t.p[e].number, 6);
    for (int i = 0; i < 3; i++)
        act_randomly(&t, all[i], 3000);
    /* The parents first. */
    tree_end(&t);
    check_tree(&t, path);
    tree_free(&t);
}

/* Random trees, with forks at and around the ends of blocks. */
static void random_tree(struct tree *t, const char *path, int steps, bool may_end)
{
    unlink(path);
    tree_begin(t, path);
    for (int s = 0; s < steps; s++) {
        int i = (int)(fx_random() % (uint64_t)t->n);
        struct proc *p = &t->p[i];
        if (p->ended)
            continue;
        uint64_t x = fx_random();
        switch (x % 8) {
        case 0:
        case 1:
        case 2: /* to the end of the block, or about there */
            act_randomly(t, i, TF_BLOCK_FRAMES - p->frames % TF_BLOCK_FRAMES + (x >> 8) % 3 - 1);
            break;
        case 3:
            act_randomly(t, i, (x >> 8) % 30000);
            break;
        case 4:
            act_randomly(t, i, (x >> 8) % 10);
            break;
        case 5:
            act(t, i, (struct op){TIME_AT, p->ticks + (uint32_t)s * 100000, 0});
            break;
        case 6:
            if (may_end && s > steps / 2)
                tree_end_one(t, i, (int)((x >> 8) % 5), 0);
            break;
        }
        if (!p->ended && x % 8 < 5 && (x >> 16) % 3 && t->n < MAX_PROCS) {
            int c = tree_fork(t, i);
            if ((x >> 32) % 4)
                act(t, c, (struct op){OUTSIDE, (uint32_t)c, (uint32_t)(x >> 40) % 300});
            tree_drain(t, c);
            /* Another one that has no row, from the child. */
            if ((x >> 36) % 4 == 0 && t->n < MAX_PROCS) {
                int g = tree_fork(t, c);
                tree_drain(t, c);
                outside(t, g, 3, 3);
                tree_drain(t, g);
            }
        }
        if (!p->ended && (x >> 50) % 2)
            tree_drain(t, i);
    }
}

static void test_random(void **state)
{
    (void)state;
    for (int round = 0; round < rounds(2, 4); round++) {
        struct tree t;
        const char *path = fx_path("random.timefork");
        random_tree(&t, path, 10 + 4 * round, true);
        tree_end(&t);
        check_tree(&t, path);
        tree_free(&t);
    }
}

/* The recorder is killed: what was committed is a prefix of each process, and no child lacks its parent's
 * part. */
static void test_crash(void **state)
{
    (void)state;
    int compared = 0;
    for (int round = 0; round < rounds(2, 3); round++) {
        char path[256];
        snprintf(path, sizeof path, "%s", fx_path("crash.timefork"));
        struct tree t;
        uint64_t seed = fx_seed;
        unlink(path);
        char side[300];
        snprintf(side, sizeof side, "%s-wal", path);
        unlink(side);
        snprintf(side, sizeof side, "%s-shm", path);
        unlink(side);
        pid_t pid = fork();
        if (pid == 0) {
            random_tree(&t, path, 14, false);
            kill(getpid(), SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        /* The same events again, to know them: in a file that nobody looks at. */
        fx_seed = seed;
        const char *again = fx_path("again.timefork");
        random_tree(&t, again, 14, false);
        for (int i = 0; i < t.n; i++)
            tree_drain(&t, i);
        struct tf_store *store, *other;
        struct tf_run *runs, one, b;
        size_t n;
        ok(tf_store_open(path, &store, err));
        ok(tf_store_find_run(store, NULL, &one, err));
        ok(tf_store_processes(store, &one, &runs, &n, err));
        assert_true(n >= 1 && n <= (size_t)t.n);
        for (size_t k = 0; k < n; k++) {
            int i = 0;
            /* Which one it is: the pid says. */
            if (runs[k].origin == TF_FORKED)
                i = (int)runs[k].pid - 5000;
            struct proc *p = &t.p[i];
            assert_int_equal(runs[k].state, TF_RUN_INCOMPLETE);
            assert_int_equal(runs[k].fork_frame, p->fork_frame);
            assert_true(runs[k].frames >= p->fork_frame && runs[k].frames <= p->frames);
            /* Not the operations that come behind the last event that was committed. */
            size_t ops = 0;
            uint64_t frames = 0, events = 0;
            while (ops < p->n) {
                const struct op *op = &p->v[ops];
                bool event = op->kind == CODE || op->kind == OUTSIDE || op->kind == MARK || op->kind == TURN;
                if ((op->kind == FRAME && frames == runs[k].frames) || (event && events == runs[k].outside))
                    break;
                frames += op->kind == FRAME;
                events += event;
                ops++;
            }
            assert_int_equal(frames, runs[k].frames);
            assert_int_equal(events, runs[k].outside);
            const char *straight = fx_path("straight.timefork");
            record_straight(straight, &t, i, ops);
            ok(tf_store_open(straight, &other, err));
            ok(tf_store_find_run(other, NULL, &b, err));
            struct tf_mapped *ma, *mb;
            size_t na, nb;
            ok(tf_store_mapped(store, &runs[k], &ma, &na, err));
            ok(tf_store_mapped(other, &b, &mb, &nb, err));
            tf_mapped_free(ma, na);
            tf_mapped_free(mb, nb);
            /* Items without a place of their own, times too, may be on the other side of the cut. */
            if (na == nb) {
                same_view(store, &runs[k], other, &b, false);
                compared += runs[k].origin == TF_FORKED;
            }
            tf_run_clear(&b);
            tf_store_close(other);
        }
        tf_runs_free(runs, n);
        tf_run_clear(&one);
        tf_store_close(store);
        tree_end(&t);
        tree_free(&t);
    }
    assert_true(compared > 1);
}

/* What a file of a run was like for each process: the one that was there when its first code object ran. */
static void test_sources(void **state)
{
    (void)state;
    struct tree t;
    struct tf_store *store;
    char path[256], early[256], late[256];
    snprintf(path, sizeof path, "%s", fx_path("sources.timefork"));
    snprintf(early, sizeof early, "%s", fx_path("early.py"));
    snprintf(late, sizeof late, "%s", fx_path("late.py"));
    fx_write(early, "early", 5);
    tree_begin(&t, path);
    fx_code(&t.p[0].r, 1, early, "f", 1);
    fx_code(&t.p[0].r, 2, "<string>", "g", 1);
    int a = tree_fork(&t, 0), b = tree_fork(&t, 0);
    fx_write(early, "changed", 7); /* they have it already */
    fx_write(late, "one", 3);
    fx_code(&t.p[0].r, 3, late, "f", 1);
    fx_code(&t.p[0].r, 4, early, "g", 1);
    fx_drain(t.p[0].in);
    fx_write(late, "two", 3);
    fx_code(&t.p[a].r, 3, late, "f", 1);
    fx_code(&t.p[a].r, 4, early, "g", 1);
    fx_drain(t.p[a].in);
    unlink(late);
    fx_code(&t.p[b].r, 3, late, "f", 1);
    fx_drain(t.p[b].in);
    /* A relative path is the child's own matter: it is not in the folder in which the run began. */
    int c = tree_fork(&t, b);
    t.p[c].r.shm->program_pid = (uint32_t)getpid();
    char cwd[256];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(fx_dir), 0);
    fx_code(&t.p[c].r, 4, "early.py", "h", 1);
    fx_drain(t.p[c].in);
    assert_int_equal(chdir(cwd), 0);
    for (int i = 0; i < 4; i++)
        ok(tf_ingest_end(t.p[i].in, 0, 0, NULL, err));
    tf_store_close(t.store);
    ok(tf_store_open(path, &store, err));
    struct tf_run relative;
    char *changed;
    size_t changed_len;
    ok(tf_store_find_process(store, NULL, 4, &relative, err));
    ok(tf_store_source(store, &relative, "early.py", &changed, &changed_len, err));
    assert_string_equal(changed, "changed");
    free(changed);
    tf_run_clear(&relative);
    static const char *const want[3] = {"one", "two", NULL};
    for (uint32_t i = 0; i < 3; i++) {
        struct tf_run run;
        char *text;
        size_t len;
        ok(tf_store_find_process(store, NULL, i + 1, &run, err));
        ok(tf_store_source(store, &run, early, &text, &len, err));
        assert_string_equal(text, "early");
        free(text);
        if (want[i]) {
            ok(tf_store_source(store, &run, late, &text, &len, err));
            assert_string_equal(text, want[i]);
            free(text);
        } else {
            /* The parent's is of after the fork. */
            refused(tf_store_source(store, &run, late, &text, &len, err), TF_E_NOTFOUND, "not kept");
        }
        tf_run_clear(&run);
    }
    tf_store_close(store);
    tree_free(&t);
}

/* An interpreter that a process executed: of the same run, with a start of its own. */
static void test_executed(void **state)
{
    (void)state;
    struct tree t;
    struct fx_ring r, r2;
    struct tf_ingest *in, *in2;
    struct tf_run run, *runs;
    struct tf_store *store;
    struct tf_codes codes;
    struct tf_cursor *c;
    struct tf_frame f;
    size_t n;
    int rc;
    char path[256];
    snprintf(path, sizeof path, "%s", fx_path("executed.timefork"));
    tree_begin(&t, path);
    act_randomly(&t, 0, 500);
    int a = tree_fork(&t, 0);
    fx_ring_make(&r, 1 << 16);
    fx_ring_make(&r2, 1 << 16);
    struct tf_ingest_opts opts = {.command = "other.py", .title = "other", .parent = t.p[a].in};
    refused(tf_ingest_begin(t.store, r.shm, r.words, &opts, &in, err), TF_E_USAGE, "not recorded");
    act_randomly(&t, a, 300);
    act(&t, a, (struct op){MARK, 3, TF_MARK_EXEC});
    tree_drain(&t, a);
    ok(tf_ingest_begin(t.store, r.shm, r.words, &opts, &in, err));
    assert_int_equal(tf_ingest_process(in), 0);
    opts.parent = NULL;
    ok(tf_ingest_begin(t.store, r2.shm, r2.words, &opts, &in2, err)); /* never starts */
    tree_end_one(&t, a, 0, 0);
    fx_start(&r);
    fx_code(&r, 1, "/nowhere/other.py", "main", 5);
    fx_item(&r, TF_WORD(TF_CALL, 1), NULL, 0);
    fx_drain(in);
    assert_int_equal(tf_ingest_process(in), 3);
    ok(tf_ingest_end(in, 9, 0, &run, err));
    ok(tf_ingest_end(in2, 9, 0, NULL, err));
    assert_int_equal(run.process, 3);
    assert_int_equal(run.parent, 2);
    assert_int_equal(run.origin, TF_EXECUTED);
    assert_int_equal(run.fork_frame, 800);
    assert_int_equal(run.frames, 1);
    assert_int_equal(run.exit_status, 9);
    assert_string_equal(run.title, "other");
    tree_end(&t);
    ok(tf_store_open(path, &store, err));
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 1);
    assert_string_equal(runs[0].id, run.id);
    tf_runs_free(runs, n);
    ok(tf_store_codes(store, &run, &codes, err));
    assert_int_equal(codes.n, 2);
    tf_codes_free(&codes);
    ok(tf_cursor_open(store, &run, &c, err));
    ok(rc = tf_cursor_next(c, &f, err));
    assert_int_equal(rc, 1);
    assert_int_equal(f.frame, 1);
    ok(rc = tf_cursor_next(c, &f, err));
    assert_int_equal(rc, 0);
    tf_cursor_close(c);
    tf_run_clear(&run);
    tf_store_close(store);
    fx_ring_free(&r);
    fx_ring_free(&r2);
    tree_free(&t);
}

/* One of them fails; a fork where none can be. */
static void test_failures(void **state)
{
    (void)state;
    struct tree t;
    struct tf_ingest *none;
    struct tf_run run;
    struct fx_ring r;
    char path[256];
    snprintf(path, sizeof path, "%s", fx_path("failures.timefork"));
    tree_begin(&t, path);
    act_randomly(&t, 0, 1000);
    int a = tree_fork(&t, 0), b = tree_fork(&t, 0);
    act_randomly(&t, a, 1000);
    act_randomly(&t, b, 1000);
    /* The parent says nonsense: its children go on. */
    uint64_t said = t.p[0].frames;
    fx_item(&t.p[0].r, TF_WORD(TF_CALL, 99999), NULL, 0);
    refused(tf_ingest_drain(t.p[0].in, err), TF_E_FORMAT, "not defined");
    fx_ring_make(&r, 1 << 16);
    refused(tf_ingest_fork(t.p[0].in, r.shm, r.words, 0, &none, err), TF_E_FORMAT, "not defined");
    assert_null(none);
    ok(tf_ingest_end(t.p[0].in, 0, 0, &run, err));
    assert_int_equal(run.state, TF_RUN_INCOMPLETE);
    assert_int_equal(run.frames, said);
    tf_run_clear(&run);
    t.p[0].ended = true;
    /* So does a child. */
    tree_drain(&t, a);
    tree_drain(&t, b);
    fx_item(&t.p[b].r, TF_WORD(TF_CALL, 99999), NULL, 0);
    refused(tf_ingest_drain(t.p[b].in, err), TF_E_FORMAT, "not defined");
    ok(tf_ingest_end(t.p[b].in, 0, 0, &run, err));
    assert_int_equal(run.state, TF_RUN_INCOMPLETE);
    assert_int_equal(run.process, 3);
    assert_int_equal(run.frames, t.p[b].frames);
    struct tf_mark_row *marks;
    size_t n;
    ok(tf_store_marks(t.store, &run, &marks, &n, err));
    assert_true(n > 0);
    assert_int_equal(marks[n - 1].kind, TF_MARK_STOPPED);
    assert_int_equal(marks[n - 1].frame, run.frames);
    tf_marks_free(marks, n);
    tf_run_clear(&run);
    /* In the middle of an outside event: the supervisor did not do what it should. */
    struct tf_rec_outside half = {.call = 1, .data_len = 1000};
    fx_record(&t.p[a].r, TF_REC_OUTSIDE, &half, sizeof half);
    fx_drain(t.p[a].in);
    refused(tf_ingest_fork(t.p[a].in, r.shm, r.words, 0, &none, err), TF_E_FORMAT, "within an outside event");
    refused(tf_ingest_drain(t.p[a].in, err), TF_E_FORMAT, "within an outside event");
    ok(tf_ingest_end(t.p[a].in, 0, 0, NULL, err));
    /* Before the start. */
    struct fx_ring r2;
    fx_ring_make(&r2, 1 << 16);
    struct tf_ingest *in = fx_begin(t.store, &r2, "early");
    refused(tf_ingest_fork(in, r.shm, r.words, 0, &none, err), TF_E_USAGE, "not recorded yet");
    ok(tf_ingest_end(in, 0, 0, NULL, err));
    fx_ring_free(&r2);
    fx_ring_free(&r);
    tf_store_close(t.store);
    tree_free(&t);
}

/* A run goes with all its processes, and takes nothing of another one along. */
static void test_delete(void **state)
{
    (void)state;
    struct tree t;
    struct tf_store *store;
    struct tf_run first, child;
    char path[256];
    uint64_t bytes, all;
    snprintf(path, sizeof path, "%s", fx_path("delete.timefork"));
    for (int i = 0; i < 2; i++) {
        tree_begin(&t, path);
        act_randomly(&t, 0, 1000);
        int a = tree_fork(&t, 0);
        act_randomly(&t, a, 100000);
        tree_drain(&t, a);
        outside(&t, tree_fork(&t, a), 1, 1);
        tree_end(&t);
        tree_free(&t);
    }
    ok(tf_store_create(path, &store, err));
    ok(tf_store_find_run(store, NULL, &first, err));
    ok(tf_store_find_process(store, NULL, 2, &child, err));
    ok(tf_store_run_bytes(store, first.rowid, &all, err));
    ok(tf_store_run_bytes(store, child.rowid, &bytes, err));
    assert_int_equal(bytes, all);
    assert_true(all > 50000);
    ok(tf_store_delete_run(store, child.rowid, err));
    struct tf_run none;
    refused(tf_store_find_run(store, first.id, &none, err), TF_E_NOTFOUND, "holds no run");
    refused(tf_store_find_process(store, child.id, 2, &none, err), TF_E_NOTFOUND, "holds no run");
    struct tf_run *runs;
    size_t n;
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 1);
    struct tf_run *procs;
    ok(tf_store_processes(store, &runs[0], &procs, &n, err));
    assert_int_equal(n, 3);
    tf_runs_free(procs, n);
    tf_runs_free(runs, 1);
    /* Nothing is left of it anywhere. */
    sqlite3 *db;
    sqlite3_stmt *s;
    tf_store_close(store);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    static const char *const tables[] = {"frames", "outside", "codes", "marks", "mapped", "sources"};
    for (size_t i = 0; i < 6; i++) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE run NOT IN (SELECT run FROM runs)",
                 tables[i]);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(s), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(s, 0), 0);
        sqlite3_finalize(s);
    }
    sqlite3_close(db);
    /* While it is recorded it stays. An older timefork removes it: the next thing that is written finds
     * nobody. */
    tree_begin(&t, path);
    act_randomly(&t, 0, 100);
    int a = tree_fork(&t, 0);
    ok(tf_store_create(path, &store, err));
    ok(tf_store_find_run(store, NULL, &none, err));
    refused(tf_store_delete_run(store, none.rowid, err), TF_E_USAGE, "is being recorded");
    fx_delete_run(path, none.rowid);
    tf_run_clear(&none);
    tf_store_close(store);
    outside(&t, a, 1, 1);
    refused(tf_ingest_drain(t.p[a].in, err), TF_E_IO, "was deleted");
    ok(tf_ingest_end(t.p[a].in, 0, 0, NULL, err));
    outside(&t, 0, 1, 1);
    fx_drain(t.p[0].in);
    refused(tf_ingest_end(t.p[0].in, 0, 0, NULL, err), TF_E_IO, "was deleted");
    tf_store_close(t.store);
    tree_free(&t);
    tf_run_clear(&first);
    tf_run_clear(&child);
}

/* ---- damage, and older files ---- */

static void change(const char *path, const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
}

static int format_of(const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int format = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return format;
}

static int nothing(void *ctx, const struct tf_output *o)
{
    (void)ctx;
    (void)o;
    return 0;
}

/* Reads all there is of a process. 0, or the first error. */
static int read_process(const char *path, uint32_t process, struct tf_err *err)
{
    struct tf_store *store;
    struct tf_run run;
    struct tf_codes codes;
    struct tf_mark_row *marks;
    struct tf_mapped *mapped;
    struct tf_cursor *c = NULL;
    struct tf_frame f;
    uint64_t *digests;
    size_t n;
    char *text;
    int rc = tf_store_open(path, &store, err);
    if (rc)
        return rc;
    rc = tf_store_find_process(store, NULL, process, &run, err);
    if (rc) {
        tf_store_close(store);
        return rc;
    }
    if (!(rc = tf_store_codes(store, &run, &codes, err)))
        tf_codes_free(&codes);
    if (!rc && !(rc = tf_store_marks(store, &run, &marks, &n, err)))
        tf_marks_free(marks, n);
    if (!rc && !(rc = tf_store_mapped(store, &run, &mapped, &n, err)))
        tf_mapped_free(mapped, n);
    if (!rc && !(rc = tf_store_digests(store, &run, &digests, &n, err)))
        free(digests);
    if (!rc && (rc = tf_store_source(store, &run, "x", &text, &n, err)) == TF_E_NOTFOUND)
        rc = 0;
    if (!rc)
        rc = tf_cursor_open(store, &run, &c, err);
    while (!rc && (rc = tf_cursor_next(c, &f, err)) == 1)
        rc = 0;
    tf_cursor_close(c);
    if (!rc)
        rc = tf_store_each_output(store, &run, nothing, NULL, err);
    tf_run_clear(&run);
    tf_store_close(store);
    return rc;
}

/* A parent, a child, a grandchild, each of some blocks. */
static void family(const char *path)
{
    struct tree t;
    unlink(path);
    tree_begin(&t, path);
    act(&t, 0, (struct op){MARK, 1, TF_MARK_NOTE});
    act(&t, 0, (struct op){MAPPED, 1, 0});
    act_randomly(&t, 0, TF_BLOCK_FRAMES + 1000);
    int a = tree_fork(&t, 0);
    act_randomly(&t, 0, 5000);
    act(&t, a, (struct op){MARK, 2, TF_MARK_NOTE});
    act(&t, a, (struct op){MAPPED, 2, 0});
    act(&t, a, (struct op){CODE, 2, 0});
    act_randomly(&t, a, TF_BLOCK_FRAMES);
    tree_drain(&t, a);
    int b = tree_fork(&t, a);
    act_randomly(&t, b, 1000);
    tree_end(&t);
    tree_free(&t);
}

static void test_damage(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *want;
        bool whole[3]; /* which processes can still be read */
    } cases[] = {
        {"DELETE FROM runs WHERE process = 2",
         "forked from process 2, whose recording is missing",
         {true, false, false}},
        {"DELETE FROM runs WHERE process = 1",
         "forked from process 1, whose recording is missing",
         {false, false, false}},
        {"DELETE FROM frames WHERE run = 1 AND block = 0", "missing", {false, false, false}},
        {"DELETE FROM frames WHERE run = 2 AND block = 1", "missing", {true, false, false}},
        {"DELETE FROM frames WHERE run = 3", "missing", {true, true, false}},
        {"UPDATE frames SET n = 60000 WHERE run = 1 AND block = 0", "missing", {false, false, false}},
        {"DELETE FROM outside WHERE run = 1", "missing", {true, false, false}},
        {"DELETE FROM outside WHERE run = 2", "missing", {true, true, false}},
        {"UPDATE outside SET first_seq = first_seq + 1 WHERE run = 2", "missing", {true, false, false}},
        {"DELETE FROM codes WHERE run = 1 AND id = 1", "code object", {false, false, false}},
        {"DELETE FROM codes WHERE run = 2", "code object", {true, true, false}},
        {"DELETE FROM marks WHERE run = 1 AND seq = 1", "marks from before", {true, false, false}},
        {"DELETE FROM mapped WHERE run = 2 AND seq > 1", "mapped files from before", {true, true, false}},
        {"UPDATE runs SET parent = 2 WHERE process = 2", "makes no sense", {true, false, false}},
        {"UPDATE runs SET parent = 3 WHERE process = 2", "makes no sense", {true, false, false}},
        {"UPDATE runs SET parent = 0 WHERE process = 2", "makes no sense", {true, false, false}},
        {"UPDATE runs SET fork_codes = -1 WHERE process = 2", "makes no sense", {true, false, false}},
        {"UPDATE runs SET fork_marks = 5000000000 WHERE process = 2", "makes no sense", {true, false, false}},
        {"UPDATE runs SET fork_frame = -5 WHERE process = 3", "makes no sense", {true, true, false}},
        {"UPDATE runs SET fork_frame = 5 WHERE process = 3", "begins before its parent", {true, true, false}},
        {"UPDATE runs SET fork_frame = 9000000000000000000 WHERE process = 3",
         "missing",
         {true, true, false}},
        {"UPDATE runs SET fork_offset = fork_offset + 8 WHERE process = 3", "missing", {true, true, false}},
        {"UPDATE runs SET fork_seq = fork_seq + 1 WHERE process = 3", "missing", {true, true, false}},
        {"UPDATE runs SET fork_codes = fork_codes + 1 WHERE process = 3", "code object", {true, true, false}},
        {"UPDATE runs SET fork_frame = 'x', fork_offset = x'00' WHERE process = 2",
         "missing",
         {true, false, false}},
    };
    char path[256], copy[256];
    size_t len;
    snprintf(path, sizeof path, "%s", fx_path("family.timefork"));
    snprintf(copy, sizeof copy, "%s", fx_path("damaged.timefork"));
    family(path);
    for (uint32_t p = 1; p <= 3; p++)
        ok(read_process(path, p, err));
    char *whole = fx_read(path, &len);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool said = false;
        fx_write(copy, whole, len);
        change(copy, cases[i].sql);
        for (uint32_t p = 1; p <= 3; p++) {
            struct tf_err err = {0};
            int rc = read_process(copy, p, &err);
            if ((rc == 0) != cases[i].whole[p - 1])
                fail_msg("%s: process %u: %d %s", cases[i].sql, p, rc, err.msg);
            if (rc && rc != TF_E_FORMAT && rc != TF_E_NOTFOUND)
                fail_msg("%s: process %u: error %d: %s", cases[i].sql, p, rc, err.msg);
            said = said || strstr(err.msg, cases[i].want);
        }
        if (!said)
            fail_msg("%s: nobody said '%s'", cases[i].sql, cases[i].want);
    }
    /* The first one that is left stands for the run, and can be removed. */
    struct tf_store *store;
    struct tf_run *runs;
    size_t n;
    fx_write(copy, whole, len);
    change(copy, "DELETE FROM runs WHERE process = 1");
    ok(tf_store_create(copy, &store, err));
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(runs[0].process, 2);
    ok(tf_store_delete_run(store, runs[0].rowid, err));
    tf_runs_free(runs, n);
    tf_store_close(store);
    /* Flipped bytes: an error with a message, or what was recorded; never a crash. */
    char *flipped = malloc(len);
    for (int i = 0; i < 150; i++) {
        struct tf_err err = {0};
        memcpy(flipped, whole, len);
        for (uint64_t k = 1 + fx_random() % 3; k; k--)
            flipped[fx_random() % 4 ? fx_random() % len : fx_random() % 16384] = (char)fx_random();
        fx_write(copy, flipped, len);
        int rc = read_process(copy, 1 + i % 3, &err);
        if (rc && !*err.msg)
            fail_msg("error %d without a message", rc);
    }
    free(flipped);
    free(whole);
}

/* The runs of a recording as format 1 has them. */
static const char as_format_1[] =
    "CREATE TABLE old("
    " run INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL,"
    " started_unix_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, frames INTEGER NOT NULL,"
    " outside INTEGER NOT NULL, outside_bytes INTEGER NOT NULL, exit_status INTEGER NOT NULL,"
    " exit_signal INTEGER NOT NULL, pid INTEGER NOT NULL, stack_limit INTEGER NOT NULL,"
    " layout_digest INTEGER NOT NULL, cal_tsc INTEGER NOT NULL, cal_ns INTEGER NOT NULL,"
    " python_version TEXT NOT NULL, exe TEXT NOT NULL, execfn TEXT NOT NULL, cwd TEXT NOT NULL,"
    " stdlib TEXT NOT NULL, kernel TEXT NOT NULL, host TEXT NOT NULL, python_file_digest TEXT NOT NULL,"
    " command TEXT NOT NULL, title TEXT NOT NULL, argv BLOB NOT NULL, envp BLOB NOT NULL);"
    "INSERT INTO old SELECT run, id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes,"
    " exit_status, exit_signal, pid, stack_limit, layout_digest, cal_tsc, cal_ns, python_version, exe,"
    " execfn, cwd, stdlib, kernel, host, python_file_digest, command, title, argv, envp FROM runs;"
    "UPDATE sqlite_sequence SET seq = 17 WHERE name = 'old';"
    "DROP TABLE runs; ALTER TABLE old RENAME TO runs; PRAGMA user_version=1";

static void test_format_1(void **state)
{
    (void)state;
    struct tree t;
    struct tf_store *store, *reader, *straight;
    struct tf_run *runs, run, again;
    size_t n;
    char path[256];
    snprintf(path, sizeof path, "%s", fx_path("format1.timefork"));
    tree_begin(&t, path);
    act_randomly(&t, 0, 70000);
    tree_end(&t);
    record_straight(fx_path("straight.timefork"), &t, 0, t.p[0].n);
    tree_free(&t);
    tree_begin(&t, path);
    act_randomly(&t, 0, 10);
    tree_end(&t);
    tree_free(&t);
    change(path, as_format_1);

    /* It is read as it is. */
    size_t len, now;
    char *before = fx_read(path, &len);
    ok(tf_store_open(path, &reader, err));
    ok(tf_store_runs(reader, &runs, &n, err));
    assert_int_equal(n, 2);
    assert_int_equal(runs[0].process, 1);
    assert_int_equal(runs[0].origin, TF_STARTED);
    assert_int_equal(runs[1].frames, 10);
    ok(tf_store_open(fx_path("straight.timefork"), &straight, err));
    ok(tf_store_find_run(straight, NULL, &again, err));
    same_view(reader, &runs[0], straight, &again, true);
    ok(tf_store_find_process(reader, runs[0].id, 1, &run, err));
    tf_run_clear(&run);
    refused(tf_store_find_process(reader, runs[0].id, 2, &run, err), TF_E_NOTFOUND, "it has 1");
    struct tf_run *procs;
    ok(tf_store_processes(reader, &runs[1], &procs, &n, err));
    assert_int_equal(n, 1);
    tf_runs_free(procs, n);
    char *after = fx_read(path, &now);
    assert_int_equal(now, len);
    assert_memory_equal(before, after, len);
    free(before);
    free(after);

    /* Removing a run does not change the format; adding one does, also while somebody reads. */
    ok(tf_store_create(path, &store, err));
    ok(tf_store_delete_run(store, runs[1].rowid, err));
    tf_store_close(store);
    assert_int_equal(format_of(path), 1);
    tree_begin(&t, path);
    act_randomly(&t, 0, 100);
    int a = tree_fork(&t, 0);
    outside(&t, a, 1, 1);
    tree_end(&t);
    tree_free(&t);
    assert_int_equal(format_of(path), 3);
    size_t n_runs;
    struct tf_run *more;
    ok(tf_store_runs(reader, &more, &n_runs, err));
    assert_int_equal(n_runs, 2);
    assert_string_equal(more[0].id, runs[0].id);
    assert_int_equal(more[1].rowid, 18); /* numbers that were used are still not used again */
    ok(tf_store_find_process(reader, NULL, 2, &run, err));
    assert_int_equal(run.frames, 100);
    tf_run_clear(&run);
    same_view(reader, &more[0], straight, &again, true);
    tf_runs_free(more, n_runs);
    tf_runs_free(runs, 2);
    tf_run_clear(&again);
    tf_store_close(straight);
    tf_store_close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),  cmocka_unit_test(test_never_came), cmocka_unit_test(test_siblings),
        cmocka_unit_test(test_pids),    cmocka_unit_test(test_random),     cmocka_unit_test(test_crash),
        cmocka_unit_test(test_sources), cmocka_unit_test(test_executed),   cmocka_unit_test(test_failures),
        cmocka_unit_test(test_delete),  cmocka_unit_test(test_damage),     cmocka_unit_test(test_format_1),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
