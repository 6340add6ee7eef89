/* What goes into a recording comes out again: runs, codes, sources, marks, outside events, frames, stacks. */
#include "store_fixture.h"
#include "store/machine.h"

#include <xxhash.h>

static const char *store_path;

/* Records a run with the given frame words per thread, drained as it goes. */
struct rec {
    struct fx_ring r;
    struct tf_store *store;
    struct tf_ingest *in;
    struct fx_model model;
    uint32_t thread;
};

static void rec_begin(struct rec *rec, const char *title, uint32_t codes)
{
    *rec = (struct rec){0};
    fx_ring_make(&rec->r, 1 << 18);
    ok(tf_store_create(store_path, &rec->store, err));
    rec->in = fx_begin(rec->store, &rec->r, title);
    fx_start(&rec->r);
    for (uint32_t id = 1; id <= codes; id++) {
        char name[32];
        snprintf(name, sizeof name, "Shop.f%u", id);
        fx_code(&rec->r, id, id % 2 ? "/nowhere/shop.py" : "/usr/lib/python3.11/json.py", name, id * 10);
    }
}

static void rec_event(struct rec *rec, uint32_t thread, uint32_t word)
{
    fx_item(&rec->r, word, NULL, 0);
    fx_model_add(&rec->model, thread, word);
    if (rec->r.head - rec->r.shm->tail > 100000)
        fx_drain(rec->in);
}

static void rec_end(struct rec *rec, struct tf_run *run)
{
    fx_drain(rec->in);
    ok(tf_ingest_end(rec->in, 3, 0, run, err));
    tf_store_close(rec->store);
    fx_ring_free(&rec->r);
}

static void random_events(struct rec *rec, uint64_t n, uint32_t codes)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = fx_random(), place = rec->model.n % TF_BLOCK_FRAMES;
        /* Also to the thread that runs already, and twice in a row. */
        if (x % 50 < 2 && place != 0 && place != TF_BLOCK_FRAMES - 1) {
            rec->thread = (uint32_t)(x >> 8) % 3;
            rec_event(rec, rec->thread, TF_WORD(TF_SWITCH, rec->thread));
            continue;
        }
        uint32_t thread = rec->thread;
        size_t depth = fx_model_depth(&rec->model, thread);
        static const enum tf_tag exits[4] = {TF_RETURN, TF_RETURN, TF_YIELD, TF_UNWIND};
        uint32_t code = 1 + (uint32_t)(x >> 40) % codes;
        /* Code 7 is met only early on: most blocks do not hold it. */
        if (code == 7 && i > 1000)
            code = 8;
        /* The last event of a block and the first of the next one are never of the same function. */
        if (place == 0 || place == TF_BLOCK_FRAMES - 1)
            rec_event(rec, thread, TF_WORD(TF_CALL, place ? 1 : 2));
        else if (depth < 3 || (depth < 60 && (x >> 32 & 1)))
            rec_event(rec, thread, TF_WORD((x >> 33) % 4 ? TF_CALL : TF_RESUME, code));
        else
            rec_event(rec, thread, TF_WORD(exits[(x >> 33) & 3], 0));
        if (x % 32 == 0)
            fx_item(&rec->r, TF_WORD(TF_TIME, 1 + (x >> 50)), NULL, 0);
    }
}

static void test_frames(void **state)
{
    (void)state;
    struct rec rec;
    struct tf_run run;
    struct tf_store *store;
    struct tf_cursor *c;
    struct tf_frame f;
    int rc;
    store_path = fx_path("frames.timefork");
    rec_begin(&rec, "frames", 40);
    const uint64_t n = 3 * TF_BLOCK_FRAMES + 777;
    random_events(&rec, n, 40);
    rec_end(&rec, &run);
    assert_int_equal(run.frames, n);
    assert_int_equal(run.exit_status, 3);
    ok(tf_store_open(store_path, &store, err));
    ok(tf_cursor_open(store, &run, &c, err));

    /* All of it, in order; time never goes back. */
    uint64_t time = 0;
    for (uint64_t i = 0; i < n; i++) {
        ok(rc = tf_cursor_next(c, &f, err));
        assert_int_equal(rc, 1);
        fx_same(&f, &rec.model.v[i]);
        assert_true(f.time_ns >= time);
        time = f.time_ns;
    }
    assert_true(time > 0 && time <= run.duration_ns);
    ok(rc = tf_cursor_next(c, &f, err));
    assert_int_equal(rc, 0);

    /* From anywhere. */
    for (int i = 0; i < 300; i++) {
        uint64_t at = 1 + fx_random() % n;
        if (i < 8)
            at = (uint64_t)(i / 2) * TF_BLOCK_FRAMES + i % 2; /* ends and starts of blocks */
        ok(tf_cursor_seek(c, at, err));
        if (at == 0)
            at = 1;
        for (int k = 0; k < 3 && at + (uint64_t)k <= n; k++) {
            ok(rc = tf_cursor_next(c, &f, err));
            assert_int_equal(rc, 1);
            fx_same(&f, &rec.model.v[at - 1 + (uint64_t)k]);
        }
    }
    ok(tf_cursor_seek(c, n + 1, err));
    ok(rc = tf_cursor_next(c, &f, err));
    assert_int_equal(rc, 0);

    /* Some functions only. */
    static const uint32_t sets[][3] = {{7, 7, 7}, {1, 2, 3}, {40, 7, 12}};
    for (size_t s = 0; s < 3; s++) {
        uint8_t bits[6] = {0};
        for (int k = 0; k < 3; k++)
            bits[sets[s][k] / 8] |= (uint8_t)(1 << sets[s][k] % 8);
        tf_cursor_filter(c, bits, 41);
        ok(tf_cursor_seek(c, 1, err));
        for (uint64_t i = 0; i < n; i++) {
            uint32_t code = rec.model.v[i].code;
            if (!(bits[code / 8] >> code % 8 & 1))
                continue;
            ok(rc = tf_cursor_next(c, &f, err));
            assert_int_equal(rc, 1);
            fx_same(&f, &rec.model.v[i]);
        }
        ok(rc = tf_cursor_next(c, &f, err));
        assert_int_equal(rc, 0);
    }
    /* The first event of a block, by a filter that nothing before it passes. */
    for (uint64_t b = 1; b < 4; b++) {
        uint64_t first = b * TF_BLOCK_FRAMES + 1, from = first;
        uint32_t code = rec.model.v[first - 1].code;
        uint8_t bits[6] = {0};
        bits[code / 8] |= (uint8_t)(1 << code % 8);
        while (from > 1 && rec.model.v[from - 2].code != code)
            from--;
        tf_cursor_filter(c, bits, 41);
        ok(tf_cursor_seek(c, from, err));
        ok(rc = tf_cursor_next(c, &f, err));
        assert_int_equal(rc, 1);
        assert_int_equal(f.frame, first);
    }
    tf_cursor_filter(c, NULL, 0);

    /* Stacks, against one that is kept up by hand. */
    struct fx_model m = {0};
    uint64_t next = 1 + fx_random() % 700;
    for (uint64_t i = 0; i < n; i++) {
        const struct tf_frame *e = &rec.model.v[i];
        bool entry = e->event == TF_CALL || e->event == TF_RESUME;
        if (entry || e->event == TF_SWITCH)
            fx_model_add(&m, e->thread, TF_WORD(e->event, e->code));
        if (i + 1 == next) {
            struct tf_frame *v;
            size_t depth;
            ok(tf_cursor_stack(c, i + 1, &v, &depth, err));
            assert_int_equal(depth, m.stacks[e->thread].n);
            for (size_t k = 0; k < depth; k++) {
                struct tf_frame want = rec.model.v[m.stacks[e->thread].v[depth - 1 - k].entry - 1];
                assert_int_equal(v[k].frame, want.frame);
                fx_same(&v[k], &want);
            }
            if (depth)
                assert_int_equal(v[0].entry, e->entry);
            free(v);
            next += 1 + fx_random() % 700;
        }
        if (!entry && e->event != TF_SWITCH)
            fx_model_add(&m, e->thread, TF_WORD(e->event, 0));
        /* The hand-kept model counts its own frames: put the real numbers in. */
        if (entry)
            m.stacks[e->thread].v[m.stacks[e->thread].n - 1].entry = i + 1;
    }
    struct tf_frame *v;
    size_t depth;
    refused(tf_cursor_stack(c, 0, &v, &depth, err), TF_E_NOTFOUND, "no frame 0");
    refused(tf_cursor_stack(c, n + 1, &v, &depth, err), TF_E_NOTFOUND, "no frame");
    tf_cursor_close(c);

    /* Words and digests. */
    uint64_t *digests;
    size_t n_digests;
    static uint32_t words[TF_BLOCK_FRAMES];
    uint32_t n_words;
    ok(tf_store_digests(store, &run, &digests, &n_digests, err));
    assert_int_equal(n_digests, 4);
    for (size_t b = 0; b < 4; b++) {
        ok(tf_store_block_words(store, &run, b, words, &n_words, err));
        assert_true(XXH3_64bits(words, n_words * 4) == digests[b]);
        for (uint32_t i = 0; i < n_words; i++)
            assert_int_equal(TF_TAG(words[i]), rec.model.v[b * TF_BLOCK_FRAMES + i].event);
    }
    free(digests);
    refused(tf_store_block_words(store, &run, 4, words, &n_words, err), TF_E_FORMAT, "block 4");
    tf_run_clear(&run);
    tf_store_close(store);
    fx_model_free(&m);
    fx_model_free(&rec.model);
}

static void test_deep(void **state)
{
    (void)state;
    struct rec rec;
    struct tf_run run;
    struct tf_store *store;
    struct tf_cursor *c;
    struct tf_frame *v;
    size_t n;
    const uint64_t deep = 100000;
    store_path = fx_path("deep.timefork");
    rec_begin(&rec, "deep", 3);
    for (uint64_t i = 0; i < deep; i++)
        rec_event(&rec, 0, TF_WORD(TF_CALL, 1 + i % 3));
    for (uint64_t i = 0; i < deep; i++)
        rec_event(&rec, 0, TF_WORD(TF_UNWIND, 0));
    rec_end(&rec, &run);
    ok(tf_store_open(store_path, &store, err));
    ok(tf_cursor_open(store, &run, &c, err));
    ok(tf_cursor_stack(c, deep + 10, &v, &n, err));
    assert_int_equal(n, deep - 9);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(v[i].entry, deep - 9 - i);
        assert_int_equal(v[i].depth, deep - 9 - i);
    }
    free(v);
    tf_cursor_close(c);
    tf_run_clear(&run);
    tf_store_close(store);
    fx_model_free(&rec.model);
}

static int collect(void *ctx, const struct tf_output *o)
{
    char *text = ctx;
    size_t len = strlen(text);
    snprintf(text + len, 4096 - len, "%lu:%lu:%d:%.*s;", o->frame, o->seq, o->fd, (int)o->len,
             (const char *)o->data);
    return 0;
}
static int stop_early(void *ctx, const struct tf_output *o)
{
    (void)ctx;
    return o->fd == 2 ? 42 : 0;
}
static void snapshot(void *ctx, uint32_t serial, uint64_t frame, uint64_t offset)
{
    uint64_t *seen = ctx;
    seen[0] = serial;
    seen[1] = frame;
    seen[2] = offset;
}

static void test_everything_else(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_ingest *in;
    struct tf_run run;
    uint64_t seen[3] = {0}, args[2] = {11, 22};
    store_path = fx_path("rest.timefork");
    const char *source = fx_path("shop.py"), *binary = fx_path("lib.so");
    fx_write(source, "print(1)\n# \xff\xfe not UTF-8\n", 24);
    fx_write(binary, "ELF, so to say", 14);
    fx_ring_make(&r, 1 << 18);
    ok(tf_store_create(store_path, &store, err));
    struct tf_ingest_opts opts = {.command = "shop.py --fast",
                                  .title = "shop.py",
                                  .source_text = "x = 1\n",
                                  .child_proc = getpid(),
                                  .on_snapshot = snapshot,
                                  .ctx = seen};
    char cwd[256];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(fx_dir), 0);
    ok(tf_ingest_begin(store, r.shm, r.words, &opts, &in, err));
    fx_start(&r);
    fx_code(&r, 1, source, "main", 1);
    fx_code(&r, 2, "shop.py", "Exchange.settle", 12); /* relative */
    fx_code(&r, 3, "<string>", "<module>", 1);
    fx_code(&r, 4, "<frozen importlib._bootstrap>", "_find_spec", 1);
    fx_code(&r, 5, "/v/lib/python3.11/site-packages/x.py", "X.<locals>.f", 1);
    fx_code(&r, 6, "/no\xff/bad.py", "\xfe.g", 1);
    fx_code(&r, 7, "/usr/lib/python3.11/json/decoder.py", "JSONDecoder.decode", 1);
    fx_code(&r, 8, "/usr/lib/python3.11x/mine.py", "f", 1);
    fx_record(&r, TF_REC_MAPPED, binary, strlen(binary) + 1);
    fx_record(&r, TF_REC_MAPPED, "/nowhere/at/all", 16);
    fx_item(&r, TF_WORD(TF_CALL, 1), NULL, 0);
    fx_outside(&r, 1, TF_OUT_STDOUT, args, 16, "hello\n", 6, 6);
    fx_item(&r, TF_WORD(TF_CALL, 2), NULL, 0);
    fx_turn(&r, 5, TF_TURN_PLAIN);
    fx_outside(&r, 1, TF_OUT_STDERR, args, 3, "oops\n", 5, 5);
    fx_outside(&r, 228, 0, NULL, 0, NULL, 0, -9);
    uint32_t serial = 77;
    fx_record(&r, TF_REC_SNAPSHOT, &serial, sizeof serial);
    fx_mark(&r, TF_MARK_BARRIER, "io_uring \xff");
    fx_mark(&r, TF_MARK_EXIT, "7");
    fx_drain(in);
    ok(tf_ingest_end(in, 7, 0, &run, err));
    assert_int_equal(chdir(cwd), 0);
    tf_store_close(store);
    fx_ring_free(&r);

    struct stat st;
    assert_int_equal(stat(store_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char side[300];
    snprintf(side, sizeof side, "%s-wal", store_path);
    assert_int_equal(access(side, F_OK), -1);
    snprintf(side, sizeof side, "%s-shm", store_path);
    assert_int_equal(access(side, F_OK), -1);

    ok(tf_store_open(store_path, &store, err));
    assert_string_equal(tf_store_path(store), store_path);
    tf_run_clear(&run);
    ok(tf_store_find_run(store, NULL, &run, err));
    assert_int_equal(strlen(run.id), 32);
    assert_int_equal(strspn(run.id, "0123456789abcdef"), 32);
    assert_int_equal(run.state, TF_RUN_COMPLETE);
    assert_int_equal(run.exit_status, 7);
    assert_int_equal(run.frames, 2);
    assert_int_equal(run.pid, 4711);
    assert_true(run.layout_digest == 0xfedcba9876543210u);
    assert_int_equal(run.stack_limit, 8 << 20);
    assert_string_equal(run.python_version, "3.11.2");
    assert_string_equal(run.exe, "/bin/true");
    assert_string_equal(run.execfn, "true");
    assert_string_equal(run.cwd, "/tmp");
    assert_string_equal(run.stdlib, "/usr/lib/python3.11");
    assert_string_equal(run.command, "shop.py --fast");
    assert_string_equal(run.title, "shop.py");
    assert_int_equal(strlen(run.python_file_digest), 16);
    assert_string_equal(run.argv[0], "python3");
    assert_string_equal(run.argv[1], "shop.py");
    assert_null(run.argv[2]);
    assert_string_equal(run.envp[1], "B=\xff\xfe");
    assert_string_equal(run.envp[2], "C=");
    assert_null(run.envp[3]);
    assert_true(llabs(run.started_unix_ns / 1000000000 - time(NULL)) < 60);
    assert_true(run.duration_ns > 0 && run.duration_ns < 60000000000u);

    struct tf_codes codes;
    ok(tf_store_codes(store, &run, &codes, err));
    assert_int_equal(codes.n, 9);
    assert_string_equal(codes.codes[2].qualname, "Exchange.settle");
    assert_string_equal(codes.codes[2].name, "settle");
    assert_string_equal(codes.codes[2].file, "shop.py");
    assert_int_equal(codes.codes[2].first_line, 12);
    assert_true(codes.codes[2].hash == 0x1234567800000002u);
    assert_string_equal(codes.codes[5].name, "f");
    assert_string_equal(codes.codes[6].file, "/no\xff/bad.py");
    static const bool library[] = {false, false, false, false, true, true, false, true, false};
    for (size_t i = 1; i < 9; i++)
        assert_int_equal(codes.codes[i].library, library[i]);
    tf_codes_free(&codes);

    char *text;
    size_t len, n;
    ok(tf_store_source(store, &run, source, &text, &len, err));
    assert_int_equal(len, 24);
    assert_memory_equal(text, "print(1)\n# \xff\xfe not UTF-8\n", 25);
    free(text);
    ok(tf_store_source(store, &run, "shop.py", &text, &len, err));
    assert_int_equal(len, 24);
    free(text);
    ok(tf_store_source(store, &run, "<string>", &text, &len, err));
    assert_string_equal(text, "x = 1\n");
    free(text);
    refused(tf_store_source(store, &run, "/no\xff/bad.py", &text, &len, err), TF_E_NOTFOUND, "not kept");

    struct tf_mark_row *marks;
    ok(tf_store_marks(store, &run, &marks, &n, err));
    assert_int_equal(n, 2);
    assert_int_equal(marks[0].kind, TF_MARK_BARRIER);
    assert_int_equal(marks[0].frame, 2);
    assert_string_equal(marks[0].text, "io_uring \xff");
    assert_string_equal(marks[1].text, "7");
    tf_marks_free(marks, n);

    struct tf_mapped *mapped;
    ok(tf_store_mapped(store, &run, &mapped, &n, err));
    assert_int_equal(n, 2);
    assert_string_equal(mapped[0].path, binary);
    assert_int_equal(mapped[0].size, 14);
    assert_true(mapped[0].digest == XXH3_64bits("ELF, so to say", 14));
    assert_true(mapped[0].mtime_ns > 0);
    assert_string_equal(mapped[0].build_id, ""); /* it is no ELF file */
    assert_int_equal(mapped[1].digest, 0);
    tf_mapped_free(mapped, n);

    struct tf_fact *then, *now;
    size_t then_n, now_n;
    ok(tf_store_machine(store, &run, &then, &then_n, err));
    ok(tf_machine_now(&now, &now_n, err));
    assert_true(now_n > 5);
    assert_int_equal(then_n, now_n);
    for (size_t i = 0; i < now_n; i++)
        assert_string_equal(tf_fact(then, then_n, now[i].key), now[i].value);
    assert_string_equal(tf_fact(then, then_n, "kernel"), run.kernel);
    assert_null(tf_fact(then, then_n, "kern"));
    tf_facts_free(then, then_n);
    tf_facts_free(now, now_n);

    char out[4096] = "";
    ok(tf_store_each_output(store, &run, collect, out, err));
    assert_string_equal(out, "1:9:1:hello\n;2:11:2:oops\n;");
    struct tf_err e;
    assert_int_equal(tf_store_each_output(store, &run, stop_early, NULL, &e), 42);

    /* The events themselves: 8 codes, 3 calls, a turn, 2 marks. */
    struct tf_outside_block *blocks;
    ok(tf_store_outside_blocks(store, &run, &blocks, &n, err));
    uint64_t events = 0, offset = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t *buf = malloc(blocks[i].len);
        ok(tf_store_outside_read(store, &run, &blocks[i], buf, err));
        for (uint64_t at = 0; at < blocks[i].len; at += ((struct tf_outside *)(buf + at))->total_len) {
            const struct tf_outside *o = (void *)(buf + at);
            const uint8_t *a = tf_outside_args(o);
            events++;
            if (events == 2) {
                assert_int_equal(o->call, TF_CALL_CODE);
                assert_int_equal(o->args_len, 8 + 8 + 16);
                assert_memory_equal(a + 8, "shop.py\0Exchange.settle", 24);
            } else if (events == 10) {
                assert_int_equal(o->call, TF_CALL_TURN);
            } else if (events == 11) {
                assert_int_equal(o->call, 1);
                assert_int_equal(o->thread, 5);
                assert_int_equal(o->args_len, 3);
                assert_memory_equal(tf_outside_data(o), "oops\n", 5);
            } else if (events == 12) {
                assert_int_equal(o->result, -9);
                assert_int_equal(blocks[i].offset + at + o->total_len, seen[2]);
            } else if (events == 13) {
                assert_int_equal(o->call, TF_CALL_MARK);
                assert_int_equal(o->args_len, 8 + 10);
                assert_memory_equal(a + 8, "io_uring \xff", 10);
            }
        }
        assert_int_equal(blocks[i].offset, offset);
        offset += blocks[i].len;
        free(buf);
    }
    assert_int_equal(events, 14);
    assert_int_equal(run.outside, 14);
    assert_int_equal(run.outside_bytes, offset);
    assert_int_equal(seen[0], 77);
    assert_int_equal(seen[1], 2);
    free(blocks);
    tf_run_clear(&run);
    tf_store_close(store);
}

static void short_run(const char *title)
{
    struct rec rec;
    struct tf_run run;
    rec_begin(&rec, title, 2);
    rec_event(&rec, 0, TF_WORD(TF_CALL, 1));
    rec_event(&rec, 0, TF_WORD(TF_RETURN, 0));
    uint64_t noise[1000]; /* so that it takes some space */
    for (size_t i = 0; i < 1000; i++)
        noise[i] = fx_random();
    fx_outside(&rec.r, 0, 0, NULL, 0, noise, sizeof noise, 0);
    rec_end(&rec, &run);
    tf_run_clear(&run);
    fx_model_free(&rec.model);
}

static int64_t count(struct tf_store *store)
{
    struct tf_run *runs;
    size_t n;
    ok(tf_store_runs(store, &runs, &n, err));
    tf_runs_free(runs, n);
    return (int64_t)n;
}

static void test_runs(void **state)
{
    (void)state;
    struct tf_store *store;
    struct tf_run *runs, run;
    size_t n;
    store_path = fx_path("runs.timefork");
    for (int i = 0; i < 17; i++) {
        char title[16];
        snprintf(title, sizeof title, "run%d", i);
        short_run(title);
    }
    ok(tf_store_open(store_path, &store, err));
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 17);
    for (size_t i = 0; i < n; i++) {
        char prefix[33], title[32];
        snprintf(title, sizeof title, "run%zu", i);
        assert_string_equal(runs[i].title, title);
        ok(tf_store_find_run(store, runs[i].id, &run, err));
        assert_int_equal(run.rowid, runs[i].rowid);
        tf_run_clear(&run);
        snprintf(prefix, sizeof prefix, "%.20s", runs[i].id);
        prefix[3] = prefix[3] >= 'a' ? (char)(prefix[3] - 32) : prefix[3];
        ok(tf_store_find_run(store, prefix, &run, err));
        assert_int_equal(run.rowid, runs[i].rowid);
        tf_run_clear(&run);
    }
    ok(tf_store_find_run(store, NULL, &run, err));
    assert_string_equal(run.title, "run16");
    tf_run_clear(&run);
    /* 17 runs, 16 digits: two begin with the same one. */
    int first[256] = {0};
    char common[2] = "";
    for (size_t i = 0; i < n; i++)
        if (first[(uint8_t)runs[i].id[0]]++)
            common[0] = runs[i].id[0];
    refused(tf_store_find_run(store, common, &run, err), TF_E_NOTFOUND, "begins the ids of");
    refused(tf_store_find_run(store, "xyz", &run, err), TF_E_NOTFOUND, "holds no run 'xyz'");
    refused(tf_store_find_run(store, "", &run, err), TF_E_NOTFOUND, "holds no run");
    refused(tf_store_find_run(store, "%", &run, err), TF_E_NOTFOUND, "holds no run");
    refused(tf_store_find_run(store, "00000000000000000000000000000000000000000", &run, err), TF_E_NOTFOUND,
            "holds no run");
    refused(tf_store_delete_run(store, runs[0].rowid, err), TF_E_USAGE, "reading only");
    tf_store_close(store);

    struct stat before, after;
    assert_int_equal(stat(store_path, &before), 0);
    ok(tf_store_create(store_path, &store, err));
    ok(tf_store_delete_run(store, runs[3].rowid, err));
    refused(tf_store_delete_run(store, runs[3].rowid, err), TF_E_NOTFOUND, "holds no run");
    assert_int_equal(count(store), 16);
    refused(tf_store_find_run(store, runs[3].id, &run, err), TF_E_NOTFOUND, "run16");
    for (size_t i = 0; i < n; i++)
        if (i != 3)
            ok(tf_store_delete_run(store, runs[i].rowid, err));
    refused(tf_store_find_run(store, NULL, &run, err), TF_E_NOTFOUND, "holds no run");
    ok(tf_store_compact(store, err));
    tf_store_close(store);
    assert_int_equal(stat(store_path, &after), 0);
    assert_true(after.st_size < before.st_size);
    tf_runs_free(runs, n);
    /* A row number is not used again. */
    short_run("again");
    ok(tf_store_open(store_path, &store, err));
    ok(tf_store_find_run(store, NULL, &run, err));
    assert_int_equal(run.rowid, 18);
    tf_run_clear(&run);
    tf_store_close(store);
}

/* Somebody looks at the recording while it is made, and still has it open when the writer closes it. */
static void test_reader_beside_writer(void **state)
{
    (void)state;
    struct rec rec;
    struct tf_run run;
    struct tf_store *reader, *alone;
    char copy[300], cmd[700];
    store_path = fx_path("beside.timefork");
    rec_begin(&rec, "beside", 5);
    fx_drain(rec.in); /* the start commits the run */
    ok(tf_store_open(store_path, &reader, err));
    ok(tf_store_find_run(reader, NULL, &run, err));
    assert_int_equal(run.state, TF_RUN_INCOMPLETE);
    tf_run_clear(&run);
    struct stat st;
    snprintf(copy, sizeof copy, "%s-wal", store_path);
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    random_events(&rec, 100000, 5);
    rec_end(&rec, &run);
    tf_run_clear(&run);
    ok(tf_store_find_run(reader, NULL, &run, err));
    assert_int_equal(run.frames, 100000);
    tf_run_clear(&run);
    /* The file alone has it all, although it could not go back to a single file. */
    snprintf(copy, sizeof copy, "%s/copy.timefork", fx_dir);
    snprintf(cmd, sizeof cmd, "cp '%s' '%s'", store_path, copy);
    assert_int_equal(system(cmd), 0);
    tf_store_close(reader);
    ok(tf_store_open(copy, &alone, err));
    ok(tf_store_find_run(alone, NULL, &run, err));
    assert_int_equal(run.frames, 100000);
    assert_int_equal(run.state, TF_RUN_COMPLETE);
    tf_run_clear(&run);
    tf_store_close(alone);
    fx_model_free(&rec.model);
}

/* Two programs recorded to one file at the same time. */
static void test_two_writers(void **state)
{
    (void)state;
    struct rec a, b;
    struct tf_run run_a, run_b;
    struct tf_store *store;
    store_path = fx_path("two.timefork");
    rec_begin(&a, "a", 9);
    rec_begin(&b, "b", 9);
    for (int i = 0; i < 5; i++) {
        random_events(&a, 20000, 9);
        fx_drain(a.in);
        random_events(&b, 30000, 9);
        fx_drain(b.in);
        usleep(300000); /* so that some of it is committed in between */
    }
    rec_end(&a, &run_a);
    rec_end(&b, &run_b);
    ok(tf_store_open(store_path, &store, err));
    struct tf_run *runs[2] = {&run_a, &run_b};
    struct fx_model *models[2] = {&a.model, &b.model};
    for (int i = 0; i < 2; i++) {
        struct tf_cursor *c;
        struct tf_frame f;
        int rc;
        ok(tf_cursor_open(store, runs[i], &c, err));
        for (size_t k = 0; k < models[i]->n; k++) {
            ok(rc = tf_cursor_next(c, &f, err));
            assert_int_equal(rc, 1);
            fx_same(&f, &models[i]->v[k]);
        }
        ok(rc = tf_cursor_next(c, &f, err));
        assert_int_equal(rc, 0);
        tf_cursor_close(c);
        tf_run_clear(runs[i]);
        fx_model_free(models[i]);
    }
    assert_int_equal(count(store), 2);
    tf_store_close(store);
}

/* A run that is recorded is not deleted, but an older timefork does it: the recorder says so and does not
 * write for nobody. */
static void test_deleted_meanwhile(void **state)
{
    (void)state;
    struct rec rec;
    struct tf_store *store;
    struct tf_run run;
    store_path = fx_path("deleted.timefork");
    rec_begin(&rec, "deleted", 9);
    fx_drain(rec.in);
    ok(tf_store_create(store_path, &store, err));
    ok(tf_store_find_run(store, NULL, &run, err));
    assert_true(tf_store_is_recorded(store, &run));
    refused(tf_store_delete_run(store, run.rowid, err), TF_E_USAGE, "is being recorded");
    fx_delete_run(store_path, run.rowid);
    tf_run_clear(&run);
    random_events(&rec, 1000, 9);
    fx_drain(rec.in);
    refused(tf_ingest_end(rec.in, 0, 0, &run, err), TF_E_IO, "was deleted");
    tf_store_close(rec.store);
    assert_int_equal(count(store), 0);
    tf_store_close(store);
    fx_ring_free(&rec.r);
    fx_model_free(&rec.model);
}

/* The note of an ELF file that has one, the same cut short, and what is none. */
static void test_build_id(void **state)
{
    char path[600], id[TF_BUILD_ID_TEXT], again[TF_BUILD_ID_TEXT];
    uint8_t head[8192];
    FILE *f = fopen("/proc/self/exe", "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    (void)state;
    assert_non_null(f);
    fclose(f);
    assert_string_equal(tf_build_id("/nonexistent", id), "");
    assert_string_equal(tf_build_id("/dev/null", id), "");
    tf_build_id("/proc/self/exe", id);
    assert_true(strlen(id) >= 16 && strlen(id) % 2 == 0 && strspn(id, "0123456789abcdef") == strlen(id));
    snprintf(path, sizeof path, "%s/elf", fx_dir);
    for (size_t len = 0; len < n; len += len < 1024 ? 7 : 512) {
        f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(head, 1, len, f), len);
        fclose(f);
        tf_build_id(path, again);
        assert_true(!*again || strcmp(again, id) == 0);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_id),    cmocka_unit_test(test_frames),
        cmocka_unit_test(test_deep),        cmocka_unit_test(test_everything_else),
        cmocka_unit_test(test_runs),        cmocka_unit_test(test_reader_beside_writer),
        cmocka_unit_test(test_two_writers), cmocka_unit_test(test_deleted_meanwhile),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
