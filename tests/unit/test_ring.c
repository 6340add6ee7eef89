/* The ring between two real processes: pressure, wrap-around, a producer that is killed, a consumer that is
 * killed. */
#include "store_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#define N_CODES 50u
#define TURN_WORDS ((uint32_t)(sizeof(struct tf_rec_turn) / 4))

/* What the producer of these tests emits as its i-th frame event (from 0): the consumer can compute it too.
 */
static uint32_t word_at(uint64_t i)
{
    uint64_t h = (i >> 1) * 0x9e3779b97f4a7c15u;
    if (i & 1)
        return TF_WORD((h >> 60) < 12 ? TF_RETURN : (h >> 60) < 14 ? TF_YIELD : TF_UNWIND, 0);
    if (i % 3332 == 0) /* another thread goes on, now and then the one that runs */
        return TF_WORD(TF_SWITCH, (h >> 32) % 4);
    return TF_WORD((h >> 60) < 14 ? TF_CALL : TF_RESUME, 1 + (h >> 32) % N_CODES);
}

static void put_word(struct fx_ring *r, uint32_t word)
{
    while (r->head - __atomic_load_n(&r->shm->tail, __ATOMIC_ACQUIRE) >= r->size)
        usleep(20);
    __atomic_store_n(&r->words[r->head & (r->size - 1)], word, __ATOMIC_RELEASE);
    r->head++;
}

/* Emits n frame events (n = 0: for ever) with records of all kinds between them, and counts in *done. */
static void produce(struct fx_ring *r, uint64_t n, volatile uint64_t *done)
{
    static uint8_t data[300123];
    fx_start(r);
    for (uint32_t id = 1; id <= N_CODES; id++)
        fx_code(r, id, "/nowhere/shop.py", "settle", id);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    for (uint64_t i = 0; n == 0 || i < n; i++) {
        put_word(r, word_at(i));
        done[0] = i + 1;
        if (i % 32 == 31)
            put_word(r, TF_WORD(TF_TIME, 20 + i % 7));
        if (i % 1000 == 999) {
            uint64_t arg = i;
            /* Now and then one that needs several records, and one that is larger than a block. */
            size_t len = i % 100000 == 99999 ? sizeof data : i % 777;
            fx_outside(r, (uint16_t)(i / 1000 % 300), i % 5000 == 4999 ? TF_OUT_STDOUT : 0, &arg, sizeof arg,
                       data, len, (int64_t)len);
            done[1]++;
        }
    }
}

static pid_t start_producer(struct fx_ring *r, uint64_t n, volatile uint64_t *done)
{
    done[0] = done[1] = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        produce(r, n, done);
        _exit(0);
    }
    return pid;
}

static volatile uint64_t *shared_counters(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

/* Everything in the recording is a prefix of what the producer does. Returns the number of frame events. */
static uint64_t check_prefix(const char *path, uint64_t *outside)
{
    struct tf_store *store;
    struct tf_run run;
    static uint32_t words[TF_BLOCK_FRAMES];
    uint32_t n;
    uint64_t frames = 0, *digests;
    size_t blocks, n_outside;
    ok(tf_store_open(path, &store, err));
    ok(tf_store_find_run(store, NULL, &run, err));
    ok(tf_store_digests(store, &run, &digests, &blocks, err));
    for (size_t b = 0; b < blocks; b++) {
        ok(tf_store_block_words(store, &run, b, words, &n, err));
        for (uint32_t i = 0; i < n; i++)
            if (words[i] != word_at(frames + i)) {
                print_error("frame %lu is %08x, not %08x\n", frames + i + 1, words[i], word_at(frames + i));
                fail();
            }
        frames += n;
    }
    free(digests);
    assert_int_equal(run.frames, frames);

    struct tf_outside_block *v;
    uint64_t events = 0, calls = 0, bytes = 0;
    ok(tf_store_outside_blocks(store, &run, &v, &n_outside, err));
    for (size_t i = 0; i < n_outside; i++) {
        uint8_t *buf = malloc(v[i].len);
        ok(tf_store_outside_read(store, &run, &v[i], buf, err));
        for (uint64_t at = 0; at < v[i].len; at += ((struct tf_outside *)(buf + at))->total_len) {
            const struct tf_outside *e = (void *)(buf + at);
            events++;
            if (e->call == TF_CALL_CODE)
                continue;
            calls++;
            uint64_t arg;
            memcpy(&arg, tf_outside_args(e), sizeof arg);
            assert_int_equal(arg, calls * 1000 - 1);
            assert_int_equal(e->frame, calls * 1000);
            assert_int_equal(e->call, arg / 1000 % 300);
            assert_int_equal(e->data_len, arg % 100000 == 99999 ? 300123 : arg % 777);
            for (uint64_t k = 0; k < e->data_len; k += 97)
                assert_int_equal(tf_outside_data(e)[k], (uint8_t)(k * 7 + k / 251));
        }
        assert_true(v[i].len <= 256 << 10 || v[i].events == 1);
        bytes += v[i].len;
        free(buf);
    }
    free(v);
    assert_int_equal(run.outside, events);
    assert_int_equal(run.outside_bytes, bytes);
    /* The end may lie between a frame event and the outside event behind it. */
    assert_true(calls == frames / 1000 || (frames % 1000 == 0 && calls + 1 == frames / 1000));
    if (outside)
        *outside = calls;
    tf_run_clear(&run);
    tf_store_close(store);
    return frames;
}

static void test_pressure(void **state)
{
    (void)state;
    const uint64_t n = 10000000;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    volatile uint64_t *done = shared_counters();
    const char *path = fx_path("pressure.timefork");
    fx_ring_make(&r, 1 << 16); /* wraps around a hundred times */
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = fx_begin(store, &r, "pressure");
    pid_t pid = start_producer(&r, n, done);
    int status = -1;
    for (bool gone = false;;) {
        int64_t got;
        ok(got = tf_ingest_drain(in, err));
        if (got == 0 && gone)
            break;
        if (got == 0)
            gone = waitpid(pid, &status, WNOHANG) == pid;
    }
    assert_int_equal(status, 0);
    for (uint32_t i = 0; i < r.size; i++)
        assert_int_equal(r.words[i], 0);
    ok(tf_ingest_end(in, 0, 0, &run, err));
    assert_int_equal(run.frames, n);
    assert_int_equal(run.state, TF_RUN_COMPLETE);
    tf_run_clear(&run);
    tf_store_close(store);
    uint64_t calls;
    assert_int_equal(check_prefix(path, &calls), n);
    assert_int_equal(calls, n / 1000);
    fx_ring_free(&r);
}

/* The program is killed at any moment: all that it had written is there, and nothing that it had not. */
static void test_producer_killed(void **state)
{
    (void)state;
    volatile uint64_t *done = shared_counters();
    const char *path = fx_path("killed.timefork");
    for (int round = 0; round < 25; round++) {
        struct fx_ring r;
        struct tf_store *store;
        struct tf_run run;
        int64_t got;
        fx_ring_make(&r, round % 2 ? 1 << 12 : 1 << 18);
        ok(tf_store_create(path, &store, err));
        struct tf_ingest *in = fx_begin(store, &r, "killed");
        pid_t pid = start_producer(&r, 0, done);
        double until = fx_seconds() + 0.002 + (double)(fx_random() % 40000) / 1e6;
        while (fx_seconds() < until)
            ok(tf_ingest_drain(in, err));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        do
            ok(got = tf_ingest_drain(in, err));
        while (got > 0);
        uint64_t emitted = done[0], calls = done[1], stored_calls = 0;
        bool started = tf_ingest_started(in);
        ok(tf_ingest_end(in, -1, SIGKILL, &run, err));
        if (started) {
            assert_int_equal(run.exit_signal, SIGKILL);
            assert_int_equal(run.state, TF_RUN_COMPLETE);
            tf_run_clear(&run);
        }
        tf_store_close(store);
        if (started && emitted > 0) {
            uint64_t frames = check_prefix(path, &stored_calls);
            /* It is killed between an event and its count at most once. */
            assert_true(frames == emitted || frames == emitted + 1);
            assert_true(stored_calls == calls || stored_calls == calls + 1);
        }
        fx_ring_free(&r);
        unlink(path);
    }
}

/* The supervisor is killed: what it committed opens, and is a prefix. */
static void test_consumer_killed(void **state)
{
    (void)state;
    volatile uint64_t *done = shared_counters();
    volatile uint64_t *committed = done + 8;
    const char *path = fx_path("consumer.timefork");
    for (int round = 0; round < 4; round++) {
        struct fx_ring r;
        fx_ring_make(&r, 1 << 16);
        *committed = 0;
        pid_t producer = start_producer(&r, 0, done);
        pid_t consumer = fork();
        assert_true(consumer >= 0);
        if (consumer == 0) {
            struct tf_store *store;
            ok(tf_store_create(path, &store, err));
            struct tf_ingest *in = fx_begin(store, &r, "consumer");
            for (;;)
                ok(tf_ingest_drain(in, err));
        }
        usleep(1100000 + (useconds_t)(fx_random() % 400000));
        kill(consumer, SIGKILL);
        kill(producer, SIGKILL);
        assert_int_equal(waitpid(consumer, NULL, 0), consumer);
        assert_int_equal(waitpid(producer, NULL, 0), producer);
        uint64_t frames = check_prefix(path, NULL);
        assert_true(frames > 0 && frames <= done[0] + 1);
        struct tf_store *store;
        struct tf_run run;
        ok(tf_store_open(path, &store, err));
        ok(tf_store_find_run(store, NULL, &run, err));
        assert_int_equal(run.state, TF_RUN_INCOMPLETE);
        assert_int_equal(run.exit_status, -1);
        assert_true(run.duration_ns > 0);
        tf_run_clear(&run);
        tf_store_close(store);
        fx_ring_free(&r);
    }
}

/* What makes no sense is refused with a message; what came before it is kept. */
static void test_garbage(void **state)
{
    (void)state;
    static const struct {
        uint32_t words[6];
        const char *why;
    } garbage[] = {
        {{TF_WORD(TF_CALL, N_CODES + 1)}, "not defined"},
        {{TF_RECORD_WORD(31, 1), 1}, "unknown record"},
        {{TF_RECORD_WORD(TF_REC_DATA, 1), 1}, "without an event"},
        {{TF_RECORD_WORD(TF_REC_OUTSIDE, 2), 1, 1}, "short outside"},
        {{TF_RECORD_WORD(TF_REC_CODE, 1), 1}, "short code"},
        {{TF_RECORD_WORD(TF_REC_START, 0)}, "start"},
        {{TF_RECORD_WORD(TF_REC_OUTSIDE, 0xffffff)}, "too long"},
        {{TF_RECORD_WORD(TF_REC_TURN, TURN_WORDS - 1), 1}, "short turn"},
        {{TF_RECORD_WORD(TF_REC_TURN, TURN_WORDS), 1u << 29}, "turn's thread"},
        {{TF_RECORD_WORD(TF_REC_THREAD, 3), 1, 1, 1}, "short news of a thread"},
        {{TF_RECORD_WORD(TF_REC_MAPPED, 1), 0x41414141}, "mapped"},
    };
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        struct fx_ring r;
        struct tf_store *store;
        struct tf_run run;
        struct tf_mark_row *marks;
        size_t n;
        const char *path = fx_path("garbage.timefork");
        fx_ring_make(&r, 1 << 16);
        ok(tf_store_create(path, &store, err));
        struct tf_ingest *in = fx_begin(store, &r, "garbage");
        fx_start(&r);
        for (uint32_t id = 1; id <= N_CODES; id++)
            fx_code(&r, id, "/nowhere/shop.py", "settle", id);
        for (uint64_t k = 0; k < 100; k++)
            put_word(&r, word_at(k));
        for (int k = (int)(sizeof garbage[i].words / sizeof *garbage[i].words) - 1; k >= 0; k--)
            if (garbage[i].words[k])
                r.words[(r.head + (uint64_t)k) & (r.size - 1)] = garbage[i].words[k];
        refused(tf_ingest_drain(in, err), TF_E_FORMAT, garbage[i].why);
        refused(tf_ingest_drain(in, err), TF_E_FORMAT, garbage[i].why);
        refused(tf_ingest_tick(in, err), TF_E_FORMAT, garbage[i].why);
        ok(tf_ingest_end(in, 0, 0, &run, err));
        assert_int_equal(run.state, TF_RUN_INCOMPLETE);
        assert_int_equal(run.frames, 100);
        ok(tf_store_marks(store, &run, &marks, &n, err));
        assert_int_equal(n, 1);
        assert_int_equal(marks[0].kind, TF_MARK_STOPPED);
        assert_int_equal(marks[0].frame, 100);
        assert_non_null(strstr(marks[0].text, garbage[i].why));
        tf_marks_free(marks, n);
        tf_run_clear(&run);
        tf_store_close(store);
        assert_int_equal(check_prefix(path, NULL), 100);
        unlink(path);
        fx_ring_free(&r);
    }
}

/* Any words whatever: an error or not, but no crash, and the file opens afterwards. */
static void test_noise(void **state)
{
    (void)state;
    const char *path = fx_path("noise.timefork");
    for (int round = 0; round < 150; round++) {
        struct fx_ring r;
        struct tf_store *store;
        struct tf_run run;
        struct tf_err err;
        fx_ring_make(&r, 1 << 13);
        ok(tf_store_create(path, &store, err));
        struct tf_ingest *in = fx_begin(store, &r, "noise");
        fx_start(&r);
        fx_code(&r, 1, "/nowhere/shop.py", "settle", 1);
        for (uint32_t i = 0; i < 2000; i++) {
            uint64_t x = fx_random();
            uint32_t word = x % 8 < 5    ? TF_WORD(x >> 8 & 1 ? TF_CALL : TF_RETURN, x >> 8 & 1)
                            : x % 8 == 5 ? TF_RECORD_WORD(x >> 32 & 15, x >> 36 & 31)
                                         : (uint32_t)(x >> 32) & ((1u << (x >> 27 & 31)) - 1);
            r.words[(r.head + i) & (r.size - 1)] = word;
        }
        while (tf_ingest_drain(in, &err) > 0)
            ;
        if (tf_ingest_end(in, 0, 0, &run, &err) == 0)
            tf_run_clear(&run);
        tf_store_close(store);
        fx_ring_free(&r);
    }
    struct tf_store *store;
    struct tf_run *runs;
    size_t n;
    ok(tf_store_open(path, &store, err));
    ok(tf_store_runs(store, &runs, &n, err));
    assert_int_equal(n, 150);
    tf_runs_free(runs, n);
    tf_store_close(store);
}

/* Something that is not Python was run: no run, and no file either. */
static void test_nothing(void **state)
{
    (void)state;
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    const char *path = fx_path("nothing.timefork");
    fx_ring_make(&r, 1 << 12);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = fx_begin(store, &r, "nothing");
    int64_t n;
    ok(n = tf_ingest_drain(in, err));
    assert_int_equal(n, 0);
    assert_false(tf_ingest_started(in));
    ok(tf_ingest_end(in, 0, 0, &run, err));
    assert_int_equal(run.rowid, 0);
    tf_store_close(store);
    assert_int_equal(access(path, F_OK), -1);
    fx_ring_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pressure),        cmocka_unit_test(test_producer_killed),
        cmocka_unit_test(test_consumer_killed), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_noise),           cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
