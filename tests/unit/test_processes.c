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

enum kind { FRAME, TIME_LATER, TIME_AT, THREAD, CODE, OUTSIDE, MARK, MAPPED };
struct op {
    enum kind kind;
    uint32_t a, b; /* word; ticks; thread; seed of what it holds, length */
};

/* A process: all that it did since the very start, its parent's part included. */
struct proc {
    struct op *v;
    size_t n, cap, forked; /* forked: how many are its parent's */
    uint64_t frames, fork_frame;
    uint32_t depth[THREADS], thread, codes;
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
    case THREAD:
        fx_thread(r, op->a);
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
    if (op.kind == THREAD)
        p->thread = op.a;
    if (op.kind == FRAME) {
        p->frames++;
        if (TF_IS_ENTRY(op.a))
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
        if (x % 64 == 0)
            act(t, i, (struct op){THREAD, seed % THREADS, 0});
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
        assert_int_equal(a.pid, i ? 5000 + i : 4711);
        assert_int_equal(a.exit_status, p->signal ? -1 : p->status);
        assert_int_equal(a.exit_signal, p->signal);
        assert_int_equal(a.started_unix_ns, one.started_unix_ns);
        assert_string_equal(a.title, "tree");
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

static void test_siblings(void **state)
{
    (void)state;
    struct tree t;
    const char *path = fx_path("siblings.timefork");
    tree_begin(&t, path);
    act(&t, 0, (struct op){CODE, 1, 0});
    call(&t, 0, 1);
    act(&t, 0, (struct op){THREAD, 1, 0});
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
    act(&t, e, (struct op){THREAD, 0, 0});
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
            act(t, i, (struct op){TIME_AT, (uint32_t)(s * 1000000), 0});
            break;
        case 6:
            if (may_end && s > steps / 2)
                tree_end_one(t, i, (int)(x >> 8) % 5, 0);
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
    for (int round = 0; round < 4; round++) {
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
    for (int round = 0; round < 3; round++) {
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
                bool event = op->kind == CODE || op->kind == OUTSIDE || op->kind == MARK;
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
    assert_true(compared > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places), cmocka_unit_test(test_never_came), cmocka_unit_test(test_siblings),
        cmocka_unit_test(test_random), cmocka_unit_test(test_crash),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
