/* Which checkpoint a bounded recording is dropped up to, and when the next one is wanted. */
#include "store_fixture.h"

#include "store/bound.h"
#include "store/images.h"

#define S 1000000000ull
#define MB 1000000ull

static size_t choose(uint64_t max_bytes, uint64_t last_ns, const struct tf_bound_point *p, size_t n,
                     uint64_t now, uint64_t bytes, uint64_t growth)
{
    const struct tf_bound_limits limits = {.max_bytes = max_bytes, .last_ns = last_ns};
    return tf_bound_choose(&limits, p, n, now, bytes, growth);
}

static void test_choose(void **state)
{
    (void)state;
    static const struct tf_bound_point p[] = {
        {10 * S, 1 * MB}, {20 * S, 5 * MB}, {30 * S, 6 * MB}, {40 * S, 20 * MB}};
    assert_int_equal(choose(0, 0, p, 4, 1000 * S, 1000 * MB, MB), 0);
    assert_int_equal(choose(MB, S, p, 0, 1000 * S, 1000 * MB, MB), 0); /* no checkpoint: nothing goes */
    /* By time: at least so much stays. */
    assert_int_equal(choose(0, 5 * S, p, 4, 14 * S, 0, 0), 0);
    assert_int_equal(choose(0, 5 * S, p, 4, 15 * S, 0, 0), 1);
    assert_int_equal(choose(0, 15 * S, p, 4, 40 * S, 0, 0), 2);
    assert_int_equal(choose(0, 1, p, 4, 40 * S, 0, 0), 3);
    assert_int_equal(choose(0, 100 * S, p, 4, 40 * S, 0, 0), 0);
    assert_int_equal(choose(0, 1, p, 4, 5 * S, 0, 0), 0); /* a clock that was set back */
    /* By size: at most so much stays, with what will come. */
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 0), 0);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 1), 1);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 5 * MB), 2);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 6 * MB), 3);
    assert_int_equal(choose(25 * MB, 0, p, 4, 0, 25 * MB, 7 * MB), 4);
    assert_int_equal(choose(1 * MB, 0, p, 4, 0, 25 * MB, 7 * MB), 4); /* it does not fit: as far as can be */
    /* Both: whatever drops more. */
    assert_int_equal(choose(25 * MB, 15 * S, p, 4, 40 * S, 25 * MB, 1), 2);
    assert_int_equal(choose(25 * MB, 100 * S, p, 4, 40 * S, 25 * MB, 6 * MB), 3);
}

static void test_wants(void **state)
{
    (void)state;
    const struct tf_bound_limits none = {0}, size = {.max_bytes = 80 * MB}, time = {.last_ns = 80 * S},
                                 both = {.max_bytes = 80 * MB, .last_ns = 80 * S};
    assert_false(tf_bound_wants(&none, 1000 * S, 1000 * MB));
    assert_false(tf_bound_wants(&size, 1000 * S, 10 * MB - 1));
    assert_true(tf_bound_wants(&size, S, 10 * MB));
    assert_false(tf_bound_wants(&size, S / 4, 1000 * MB)); /* not twice a second */
    assert_false(tf_bound_wants(&time, 10 * S - 1, 1000 * MB));
    assert_true(tf_bound_wants(&time, 10 * S, 0));
    assert_true(tf_bound_wants(&both, 10 * S, 0));
    assert_true(tf_bound_wants(&both, S, 10 * MB));
}

/* A day of a program whose speed changes, one checkpoint when one is wanted: what is kept is within the
 * limits, but for what comes between two checkpoints. */
static void test_simulated(void **state)
{
    (void)state;
    static struct tf_bound_point p[200];
    const uint64_t image = 2 * MB;
    for (int kind = 0; kind < 3; kind++) {
        const struct tf_bound_limits limits = {.max_bytes = kind != 1 ? 100 * MB : 0,
                                               .last_ns = kind != 0 ? 600 * S : 0};
        size_t n = 0;
        uint64_t bytes = 0, begun = 0, since = 0, largest = 0, taken = 0, dropped_ns = 0;
        for (uint64_t now = 0; now < 86400 * S; now += S / 2) {
            uint64_t rate = now / (1000 * S) % 3 == 0   ? 3 * MB
                            : now / (1000 * S) % 3 == 1 ? MB / 100
                                                        : MB / 4;
            bytes += rate / 2;
            since += rate / 2;
            largest = bytes > largest ? bytes : largest;
            if (!tf_bound_wants(&limits, now - begun, since))
                continue;
            assert_true(n < 200);
            p[n++] = (struct tf_bound_point){now, bytes};
            bytes += image;
            taken++;
            size_t k = tf_bound_choose(&limits, p, n, now, bytes, since);
            begun = now;
            since = 0;
            if (!k)
                continue;
            uint64_t gone = p[k - 1].bytes_before;
            dropped_ns = p[k - 1].ns;
            bytes -= gone;
            memmove(p, p + k - 1, (n - k + 1) * sizeof *p);
            n -= k - 1;
            for (size_t i = 0; i < n; i++)
                p[i].bytes_before -= gone;
            if (limits.max_bytes)
                assert_true(bytes <= limits.max_bytes);
            if (!limits.max_bytes) /* at least so much is there, and not a quarter more */
                assert_true(now - dropped_ns >= limits.last_ns && now - dropped_ns < limits.last_ns * 5 / 4);
        }
        assert_true(dropped_ns > 0);
        if (limits.max_bytes)
            assert_true(largest <= limits.max_bytes + limits.max_bytes / 8);
        assert_true(taken < 86400 / 4);
    }
}

static void test_due(void **state)
{
    (void)state;
    struct tf_bound b;
    tf_bound_init(&b, &(struct tf_bound_limits){.max_bytes = 80 * MB}, 5000);
    assert_false(tf_bound_due(&b, 9 * MB, 100000));
    assert_true(tf_bound_due(&b, 10 * MB, 6000));
    assert_false(tf_bound_due(&b, 10 * MB, 5400));
    assert_true(tf_bound_limited(&b.limits));
    assert_false(tf_bound_limited(&(struct tf_bound_limits){0}));
}

/* ---- as the recorder does it ---- */

#define MEMORY (256u << 10)

/* An image of the place that the recording has come to: memory of which a little changes each time. */
static void put_image(struct tf_store *store, struct tf_ingest *in, uint32_t n)
{
    static uint8_t memory[MEMORY];
    char folder[300], file[320];
    struct tf_page_set *known;
    struct tf_image_pack *pack;
    struct tf_run run;
    int rc;
    for (uint32_t i = 0; i + 8 <= MEMORY; i += n ? 4096 * 16 : 8)
        memcpy(memory + i, &(uint64_t){fx_random()}, 8);
    snprintf(folder, sizeof folder, "%s", fx_path("image"));
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(file, sizeof file, "%s/pages-1.img", folder);
    fx_write(file, memory, sizeof memory);
    /* A place that does not exist yet: it commits what there is. */
    assert_int_equal(tf_ingest_drop_before(in, 1ull << 40, 1ull << 40, NULL), 0);
    ok(tf_store_find_process(store, NULL, tf_ingest_process(in), &run, err));
    struct tf_image image = {.run = run.rowid,
                             .frame = run.frames,
                             .offset = run.outside_bytes,
                             .made_unix_ns = n * (int64_t)S,
                             .state = (uint8_t *)"state",
                             .state_len = 5};
    ok(tf_page_set_load(store, &known, err));
    ok(tf_image_pack(folder, known, &pack, err));
    do
        ok(rc = tf_image_put(store, &image, pack, 100000, err));
    while (rc == 0);
    tf_image_pack_free(pack);
    tf_page_set_free(known);
    unlink(file);
    rmdir(folder);
    tf_run_clear(&run);
}

/* So many kilobytes of what cannot be packed, and a frame event for each. */
static void play(struct fx_ring *r, struct tf_ingest *in, uint32_t kb)
{
    uint64_t data[128];
    for (uint32_t i = 0; i < kb; i++) {
        for (int k = 0; k < 128; k++)
            data[k] = fx_random();
        fx_item(r, TF_WORD(i & 1 ? TF_RETURN : TF_CALL, i & 1 ? 0 : 1), NULL, 0);
        fx_outside(r, 1, 0, NULL, 0, data, sizeof data, 5);
        if (i % 256 == 0)
            fx_drain(in);
    }
    fx_drain(in);
}

static void test_recorder(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        const struct tf_bound_limits limits = {.max_bytes = kind ? 0 : 16 << 20, .last_ns = kind ? 5 * S : 0};
        struct tf_store *store;
        struct tf_bound bound;
        struct tf_run run;
        struct tf_image *images;
        struct fx_ring r;
        uint64_t largest = 0, bytes;
        size_t n;
        fx_ring_make(&r, 1 << 20);
        ok(tf_store_create(fx_path(kind ? "last.timefork" : "size.timefork"), &store, err));
        struct tf_ingest *in = fx_begin(store, &r, "x");
        assert_null(tf_ingest_run(in));
        fx_start(&r);
        fx_code(&r, 1, "/nowhere.py", "f", 1);
        fx_drain(in);
        tf_bound_init(&bound, &limits, 0);
        for (uint32_t step = 0; step < 14; step++) { /* a second and two megabytes each, or little */
            play(&r, in, kind ? 64 : 2 << 10);
            put_image(store, in, step);
            ok(tf_bound_added(&bound, store, in, tf_ingest_written(in), step * 1000, err));
            /* The next image is being made: those that are of no use have to wait. */
            for (int i = 0; i < 20 && bound.dropping && (bound.frame || bound.offset); i++)
                ok(tf_bound_step(&bound, store, in, false, err));
            bool images_left = bound.dropping;
            if (images_left)
                ok(tf_bound_step(&bound, store, in, true, err));
            assert_false(bound.dropping);
            ok(tf_store_find_run(store, NULL, &run, err));
            ok(tf_images_list(store, &run, &images, &n, err));
            ok(tf_store_run_bytes(store, run.rowid, &bytes, err));
            largest = bytes > largest ? bytes : largest;
            /* It begins at an image, the oldest one that is left. */
            if (tf_run_has_base(&run)) {
                assert_true(n > 0);
                assert_int_equal(images[0].frame, run.base.frame);
                assert_int_equal(images[0].offset, run.base.offset);
            }
            if (kind && step > 8) {
                assert_true(images[n - 1].made_unix_ns - images[0].made_unix_ns == 5 * (int64_t)S);
                assert_int_equal(n, 6);
            }
            if (step > 10)
                assert_true(tf_run_has_base(&run));
            tf_images_free(images, n);
            tf_run_clear(&run);
        }
        assert_string_equal(bound.why, "");
        if (!kind)
            assert_true(largest <= (16 << 20) + (2 << 20));
        /* A limit that one image and what comes after it do not fit into: it is dropped as far as can be, and
         * said. */
        if (!kind) {
            bound.limits.max_bytes = 1000;
            play(&r, in, 2 << 10);
            put_image(store, in, 31);
            ok(tf_bound_added(&bound, store, in, tf_ingest_written(in), 40000, err));
            assert_non_null(strstr(bound.why, "the limit is"));
            for (int i = 0; i < 20 && bound.dropping; i++)
                ok(tf_bound_step(&bound, store, in, true, err));
            ok(tf_store_find_run(store, NULL, &run, err));
            ok(tf_images_list(store, &run, &images, &n, err));
            assert_int_equal(n, 1);
            assert_int_equal(images[0].offset, run.base.offset);
            tf_images_free(images, n);
            tf_run_clear(&run);
        }
        ok(tf_ingest_end(in, 0, 0, NULL, err));
        tf_store_close(store);
        fx_ring_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose), cmocka_unit_test(test_wants),    cmocka_unit_test(test_simulated),
        cmocka_unit_test(test_due),    cmocka_unit_test(test_recorder),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
