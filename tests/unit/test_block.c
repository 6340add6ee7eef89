/* Packing and unpacking blocks of frame events. */
#include "store_fixture.h"

#include <xxhash.h>
#include <zstd.h>
#include "store/block.h"

#define N_CODES 5000

static struct tf_encoder *enc;

static int setup(void **state)
{
    (void)state;
    enc = tf_encoder_new();
    return enc ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    tf_encoder_free(enc);
    return 0;
}

static void add(struct tf_block *b, uint32_t word)
{
    assert_true(b->n < TF_BLOCK_FRAMES);
    b->words[b->n++] = word;
}

/* Encodes without advancing and compares everything with what comes out again. */
static void round_trip(struct tf_block *b)
{
    struct tf_encoded e, again;
    struct tf_block out = {0};
    ok(tf_encode(enc, b, N_CODES, false, &e, err));
    uint8_t *copy = malloc(e.len);
    memcpy(copy, e.data, e.len);
    size_t len = e.len;
    ok(tf_decode(e.data, e.len, &e.digest, &out, err));
    assert_int_equal(out.n, b->n);
    assert_int_equal(out.first_frame, b->first_frame);
    assert_int_equal(out.base_tick, b->base_tick);
    assert_memory_equal(out.words, b->words, b->n * sizeof *b->words);
    assert_int_equal(out.n_marks, b->n_marks);
    for (size_t i = 0; i < b->n_marks; i++) {
        assert_int_equal(out.marks[i].index, b->marks[i].index);
        assert_int_equal(out.marks[i].tick, b->marks[i].tick);
    }
    for (size_t i = 0; i < out.n_runs; i++) {
        assert_int_equal(out.runs[i].index, b->runs[i].index);
        assert_int_equal(out.runs[i].thread, b->runs[i].thread);
    }
    /* A last thread that did nothing is no run. */
    assert_true(out.n_runs == b->n_runs ||
                (out.n_runs + 1 == b->n_runs && b->runs[b->n_runs - 1].index == b->n));
    uint64_t digest = XXH3_64bits(out.words, out.n * sizeof *out.words);
    assert_true(digest == e.words_digest);
    size_t k = 0;
    for (size_t i = 0; i < b->stacks.n; i++) {
        if (!b->stacks.v[i].n)
            continue;
        struct tf_stack *s = &out.stacks.v[k++];
        assert_int_equal(s->thread, b->stacks.v[i].thread);
        assert_int_equal(s->n, b->stacks.v[i].n);
        for (size_t j = 0; j < s->n; j++) {
            assert_int_equal(s->v[j].entry, b->stacks.v[i].v[j].entry);
            assert_int_equal(s->v[j].code, b->stacks.v[i].v[j].code);
        }
    }
    assert_int_equal(out.stacks.n, k);
    /* The same block gives the same bytes. */
    ok(tf_encode(enc, &out, N_CODES, false, &again, err));
    assert_int_equal(again.len, len);
    assert_memory_equal(again.data, copy, len);
    free(copy);
    tf_block_free(&out);
}

/* A stream that could have been: calls, exits and generators on a few threads. */
static void fill(struct tf_block *b, uint32_t n, size_t *depth, uint32_t threads, uint32_t codes)
{
    uint32_t thread = tf_block_last_thread(b);
    if (!b->n)
        assert_int_equal(tf_block_thread(b, thread), 0);
    while (b->n < n) {
        uint64_t r = fx_random();
        /* Also first and last, twice in a row, and to the thread that runs. */
        if (r % 100 < 2 || (b->n == 0 && r % 100 < 50)) {
            thread = (uint32_t)(r >> 8) % threads;
            assert_int_equal(tf_block_switch(b, thread), 0);
            continue;
        }
        if (r % 16 == 0) {
            uint64_t last = b->n_marks ? b->marks[b->n_marks - 1].tick : b->base_tick;
            assert_int_equal(tf_block_time(b, last + (r >> 20) % 5000), 0);
        }
        if (depth[thread] == 0 || (r >> 32 & 1)) {
            add(b, TF_WORD((r >> 33) % 4 ? TF_CALL : TF_RESUME, 1 + (r >> 40) % codes));
            depth[thread]++;
        } else {
            static const enum tf_tag exits[4] = {TF_RETURN, TF_RETURN, TF_YIELD, TF_UNWIND};
            add(b, TF_WORD(exits[(r >> 33) & 3], 0));
            depth[thread]--;
        }
    }
}

static void next_block(struct tf_block *b)
{
    struct tf_encoded e;
    ok(tf_encode(enc, b, N_CODES, true, &e, err));
    uint32_t thread = tf_block_last_thread(b);
    b->first_frame += b->n;
    b->base_tick = e.last_tick;
    b->n = 0;
    b->n_marks = b->n_runs = 0;
    tf_block_thread(b, thread);
}

static void test_empty(void **state)
{
    (void)state;
    struct tf_block b;
    ok(tf_block_init(&b, err));
    round_trip(&b);
    tf_block_thread(&b, 7); /* a thread that did nothing */
    tf_block_time(&b, 99);
    struct tf_encoded e;
    struct tf_block out = {0};
    ok(tf_encode(enc, &b, N_CODES, false, &e, err));
    ok(tf_decode(e.data, e.len, &e.digest, &out, err));
    assert_int_equal(out.n, 0);
    assert_int_equal(out.n_runs, 0);
    assert_int_equal(out.base_tick, 99);
    tf_block_free(&out);
    tf_block_free(&b);
}

static void test_random(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 100, 4096, TF_BLOCK_FRAMES - 1, TF_BLOCK_FRAMES};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct tf_block b;
        size_t depth[4] = {0};
        ok(tf_block_init(&b, err));
        for (int blocks = 0; blocks < 4; blocks++) {
            fill(&b, sizes[i], depth, 1 + blocks, i & 1 ? N_CODES - 1 : 20);
            round_trip(&b);
            next_block(&b);
        }
        for (uint32_t t = 0; t < 4; t++)
            assert_int_equal(tf_stacks_get(&b.stacks, t)->n, depth[t]);
        tf_block_free(&b);
    }
}

static void test_deep(void **state)
{
    (void)state;
    struct tf_block b;
    const uint32_t deep = 100000;
    ok(tf_block_init(&b, err));
    tf_block_thread(&b, 0);
    for (uint32_t i = 0; i < deep; i++) {
        if (b.n == TF_BLOCK_FRAMES) {
            round_trip(&b);
            next_block(&b);
        }
        add(&b, TF_WORD(TF_CALL, 1 + i % 3));
    }
    next_block(&b);
    assert_int_equal(b.stacks.v[0].n, deep);
    assert_int_equal(b.stacks.v[0].v[deep - 1].entry, deep);
    for (uint32_t i = 0; i < deep; i++) {
        if (b.n == TF_BLOCK_FRAMES) {
            round_trip(&b);
            next_block(&b);
        }
        add(&b, TF_WORD(i % 2 ? TF_RETURN : TF_UNWIND, 0));
    }
    round_trip(&b);
    next_block(&b);
    assert_int_equal(b.stacks.v[0].n, 0);
    tf_block_free(&b);
}

static void count_one(void *ctx, uint32_t code, uint32_t count)
{
    uint32_t *counts = ctx;
    counts[code] += count;
}

static void test_index(void **state)
{
    (void)state;
    struct tf_block b;
    struct tf_encoded e;
    uint32_t counts[10] = {0};
    ok(tf_block_init(&b, err));
    tf_block_thread(&b, 0);
    add(&b, TF_WORD(TF_RETURN, 0)); /* from an empty stack: code 0 */
    add(&b, TF_WORD(TF_CALL, 9));
    add(&b, TF_WORD(TF_CALL, 4));
    ok(tf_encode(enc, &b, N_CODES, true, &e, err));
    tf_codes_each(e.codes, e.codes_len, count_one, counts);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[9], 1);
    assert_int_equal(counts[4], 1);
    b.first_frame += b.n;
    b.n = 0;
    b.n_runs = 0;
    tf_block_thread(&b, 0);
    add(&b, TF_WORD(TF_UNWIND, 0)); /* of 4, entered in the block before */
    add(&b, TF_WORD(TF_RESUME, 2));
    add(&b, TF_WORD(TF_YIELD, 0));
    memset(counts, 0, sizeof counts);
    ok(tf_encode(enc, &b, N_CODES, true, &e, err));
    assert_int_equal(tf_codes_each(e.codes, e.codes_len, count_one, counts), 0);
    assert_int_equal(counts[4], 1);
    assert_int_equal(counts[2], 2);
    assert_int_equal(counts[9], 0);
    assert_int_equal(e.kinds[TF_UNWIND], 1);
    assert_int_equal(e.kinds[TF_RESUME], 1);
    assert_int_equal(e.kinds[TF_YIELD], 1);
    assert_int_equal(e.kinds[TF_CALL], 0);
    uint8_t bits[2] = {0};
    bits[0] = 1 << 4;
    assert_int_equal(tf_codes_match(e.codes, e.codes_len, bits, 16), 1);
    bits[0] = 1 << 5;
    bits[1] = 1 << 1;
    assert_int_equal(tf_codes_match(e.codes, e.codes_len, bits, 16), 0);
    tf_block_free(&b);
}

static void test_refused(void **state)
{
    (void)state;
    static const uint32_t bad[] = {TF_WORD(TF_CALL, N_CODES), TF_WORD(TF_RESUME, 0), TF_WORD(TF_RETURN, 5)};
    for (int i = 0; i < 3; i++) {
        struct tf_block b;
        struct tf_encoded e;
        ok(tf_block_init(&b, err));
        tf_block_thread(&b, 0);
        add(&b, TF_WORD(TF_CALL, 1));
        add(&b, bad[i]);
        refused(tf_encode(enc, &b, N_CODES, true, &e, err), TF_E_FORMAT, "makes no sense");
        tf_block_free(&b);
    }
}

/* The thread changes where there is a SWITCH, and nowhere else. */
static void test_refused_threads(void **state)
{
    (void)state;
    struct tf_block b;
    struct tf_encoded e;
    for (int i = 0; i < 3; i++) {
        ok(tf_block_init(&b, err));
        tf_block_thread(&b, 0);
        add(&b, TF_WORD(TF_CALL, 1));
        if (i == 0) {
            add(&b, TF_WORD(TF_SWITCH, 0)); /* in the middle of a run */
        } else if (i == 1) {
            tf_block_thread(&b, 3); /* a run without one */
            add(&b, TF_WORD(TF_CALL, 1));
        } else {
            tf_block_switch(&b, 3); /* another thread than the run's */
            b.runs[b.n_runs - 1].thread = 4;
        }
        refused(tf_encode(enc, &b, N_CODES, true, &e, err), TF_E_FORMAT, "makes no sense");
        tf_block_free(&b);
    }
}

/* Many threads at a time, which come and go: only those that have a stack are kept. */
static void test_many_threads(void **state)
{
    (void)state;
    enum { THREADS = 3000 };
    static size_t depth[THREADS];
    struct tf_block b;
    ok(tf_block_init(&b, err));
    for (int blocks = 0; blocks < 4; blocks++) {
        fill(&b, TF_BLOCK_FRAMES, depth, blocks < 3 ? THREADS : 1, 20);
        round_trip(&b);
        next_block(&b);
        size_t live = 0;
        for (uint32_t t = 0; t < THREADS; t++) {
            struct tf_stack *s = tf_stacks_find(&b.stacks, t);
            assert_int_equal(s ? s->n : 0, depth[t]);
            live += depth[t] > 0;
        }
        assert_int_equal(b.stacks.n, live);
        assert_true(live > 500);
    }
    /* All of them end. */
    for (uint32_t t = 0; t < THREADS; t++) {
        tf_block_switch(&b, t);
        while (depth[t]) {
            add(&b, TF_WORD(TF_RETURN, 0));
            depth[t]--;
        }
    }
    round_trip(&b);
    next_block(&b);
    assert_int_equal(b.stacks.n, 0);
    tf_block_free(&b);
}

/* Walks over everything a decoded block holds, so that a sanitizer sees what is wrong with it. */
static void check_sane(const struct tf_block *b)
{
    assert_true(b->n <= TF_BLOCK_FRAMES);
    for (uint32_t i = 0; i < b->n; i++) {
        assert_true(TF_IS_FRAME(b->words[i]));
        if (TF_IS_SWITCH(b->words[i]))
            continue;
        assert_int_equal(TF_IS_ENTRY(b->words[i]), TF_LOW(b->words[i]) != 0);
    }
    assert_int_equal(b->n == 0, b->n_runs == 0);
    for (size_t i = 0; i < b->n_runs; i++)
        assert_true(b->runs[i].index < b->n &&
                    (i ? b->runs[i].index > b->runs[i - 1].index : b->runs[i].index == 0));
    for (size_t i = 0; i < b->n_marks; i++)
        assert_true(b->marks[i].index <= b->n && b->marks[i].index > (i ? b->marks[i - 1].index : 0) &&
                    b->marks[i].tick >= (i ? b->marks[i - 1].tick : b->base_tick));
    for (size_t i = 0; i < b->stacks.n; i++)
        for (size_t k = 0; k < b->stacks.v[i].n; k++)
            assert_true(b->stacks.v[i].v[k].entry < b->first_frame &&
                        b->stacks.v[i].v[k].entry > (k ? b->stacks.v[i].v[k - 1].entry : 0));
}

/* Each limit of the format, one step inside and one step outside. */
static void test_limits(void **state)
{
    (void)state;
    /* version, first, n, base, dictionary, stacks, runs, marks, symbols */
    static const struct {
        bool good;
        uint8_t len, raw[24];
    } cases[] = {
        {true, 12, {1, 1, 1, 0, 1, 5, 0, 1, 0, 0, 0, 3}},           /* call of local index 0 */
        {false, 12, {1, 1, 1, 0, 1, 5, 0, 1, 0, 0, 0, 5}},          /* of 1, which is not there */
        {false, 12, {0, 1, 1, 0, 1, 5, 0, 1, 0, 0, 0, 3}},          /* another version */
        {false, 12, {3, 1, 1, 0, 1, 5, 0, 1, 0, 0, 0, 3}},          /* a later one */
        {false, 12, {1, 0, 1, 0, 1, 5, 0, 1, 0, 0, 0, 3}},          /* frame 0 */
        {false, 13, {1, 1, 1, 0, 1, 5, 0, 1, 0, 0, 0, 3, 0}},       /* something behind it */
        {true, 14, {1, 1, 2, 0, 0, 0, 2, 0, 0, 1, 1, 0, 0, 0}},     /* two threads */
        {false, 14, {1, 1, 2, 0, 0, 0, 2, 0, 0, 2, 1, 0, 0, 0}},    /* the second begins behind the end */
        {false, 14, {1, 1, 2, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0}},    /* the same one again */
        {false, 14, {1, 1, 2, 0, 0, 0, 2, 1, 0, 1, 1, 0, 0, 0}},    /* the first event is nobody's */
        {true, 13, {1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 1, 9, 0}},        /* a mark behind the only event */
        {false, 13, {1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 2, 9, 0}},       /* behind the end */
        {false, 13, {1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 9, 0}},       /* in front of it */
        {true, 15, {1, 2, 1, 0, 0, 1, 0, 1, 5, 1, 1, 0, 0, 0, 0}},  /* a stack with frame 1 */
        {false, 15, {1, 2, 1, 0, 0, 1, 0, 1, 5, 2, 1, 0, 0, 0, 0}}, /* with frame 2, which is in the block */
        {false, 15, {1, 2, 1, 0, 0, 1, 0, 1, 5, 0, 1, 0, 0, 0, 0}}, /* with frame 0 */
        /* version, first, n, base, dictionary, stacks, thread, switches, marks, symbols */
        {true, 11, {2, 1, 1, 0, 1, 5, 0, 7, 0, 0, 4}},           /* call of local index 0, by thread 7 */
        {false, 11, {2, 1, 1, 0, 1, 5, 0, 7, 0, 0, 6}},          /* of 1, which is not there */
        {true, 12, {2, 1, 2, 0, 0, 0, 7, 1, 7, 0, 3, 0}},        /* it begins with a switch */
        {false, 12, {2, 1, 2, 0, 0, 0, 7, 1, 8, 0, 3, 0}},       /* to another thread than it says */
        {true, 12, {2, 1, 2, 0, 0, 0, 7, 1, 7, 0, 0, 3}},        /* a switch to the thread that runs */
        {false, 11, {2, 1, 2, 0, 0, 0, 7, 0, 0, 0, 3}},          /* to a thread that is not given */
        {false, 12, {2, 1, 2, 0, 0, 0, 7, 1, 8, 0, 0, 0}},       /* one that is given and not there */
        {false, 14, {2, 1, 2, 0, 0, 0, 7, 3, 8, 8, 8, 0, 3, 3}}, /* more than events */
        {true, 9, {2, 1, 0, 0, 0, 0, 0, 0, 0}},                  /* nothing */
        {false, 9, {2, 1, 0, 0, 0, 0, 7, 0, 0}},                 /* by thread 7 */
        {true, 14, {2, 1, 1, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0}},  /* thread of 29 bits */
        {false, 14, {2, 1, 1, 0, 0, 0, 255, 255, 255, 255, 2, 0, 0, 0}}, /* of 30 */
    };
    struct tf_block out = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tf_err err = {0};
        int rc = tf_decode_raw(cases[i].raw, cases[i].len, &out, &err);
        if (rc != (cases[i].good ? 0 : TF_E_FORMAT)) {
            print_error("case %zu: %d %s\n", i, rc, err.msg);
            fail();
        }
        /* What is cut off is never good. */
        for (size_t len = 0; cases[i].good && len < cases[i].len; len++)
            assert_int_equal(tf_decode_raw(cases[i].raw, len, &out, &err), TF_E_FORMAT);
    }
    tf_block_free(&out);
}

static void test_fuzz(void **state)
{
    (void)state;
    struct tf_block b, out = {0};
    struct tf_encoded e;
    size_t depth[3] = {0};
    struct tf_err err;
    ok(tf_block_init(&b, err));
    fill(&b, 500, depth, 3, 300);
    next_block(&b);
    fill(&b, 700, depth, 3, 300);
    ok(tf_encode(enc, &b, N_CODES, false, &e, err));
    uint8_t *copy = malloc(e.len);
    uint64_t digest = e.digest;
    size_t len = e.len;

    /* With the digest, every single flipped bit is found. */
    memcpy(copy, e.data, len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(tf_decode(copy, len, &digest, &out, &err), TF_E_FORMAT);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* Without it, what comes out may be wrong but not malformed: compressed... */
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, e.data, len);
        for (uint64_t k = fx_random() % 4 + 1; k; k--)
            copy[fx_random() % len] = (uint8_t)fx_random();
        size_t cut = fx_random() % 4 ? len : fx_random() % (len + 1);
        int rc = tf_decode(copy, cut, NULL, &out, &err);
        assert_true(rc == 0 || rc == TF_E_FORMAT);
        if (!rc)
            check_sane(&out);
    }
    free(copy);
    /* ... and not, where the decoder itself is hit. */
    uint8_t raw[16384];
    size_t raw_len = 0;
    {
        /* Of a block whose packed form we take apart again by hand, through zstd. */

        raw_len = ZSTD_decompress(raw, sizeof raw, e.data, len);
        assert_int_equal(raw_len, e.raw_len);
    }
    for (int i = 0; i < 200000; i++) {
        /* Allocated to measure, so that a sanitizer sees a read behind the end. */
        size_t cut = fx_random() % 8 ? raw_len : fx_random() % (raw_len + 1);
        uint8_t *p = malloc(cut ? cut : 1);
        memcpy(p, raw, cut);
        for (uint64_t k = fx_random() % 3 + 1; k && cut; k--) {
            size_t at = fx_random() % 2 ? fx_random() % cut : fx_random() % (cut < 64 ? cut : 64);
            p[at] = (uint8_t)(fx_random() % 3 ? fx_random() : 0xff);
        }
        int rc = tf_decode_raw(p, cut, &out, &err);
        assert_true(rc == 0 || rc == TF_E_FORMAT);
        if (!rc) {
            check_sane(&out);
            accepted++;
        }
        free(p);
    }
    assert_true(accepted > 100); /* or the fuzzing stops at the first byte */
    for (int i = 0; i < 20000; i++) {
        size_t n = fx_random() % 64;
        for (size_t k = 0; k < n; k++)
            raw[k] = (uint8_t)fx_random();
        raw[0] = i % 2 ? 1 : TF_BLOCK_VERSION;
        if (!tf_decode_raw(raw, n, &out, &err))
            check_sane(&out);
    }
    tf_block_free(&out);
    tf_block_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),        cmocka_unit_test(test_random),
        cmocka_unit_test(test_deep),         cmocka_unit_test(test_index),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_fuzz),         cmocka_unit_test(test_refused_threads),
        cmocka_unit_test(test_many_threads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
