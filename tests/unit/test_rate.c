/* Frame events as fast as a program makes them: fixed sequences go through the ring into a recording, and all
 * of them are there. tests/instructions.py runs this under callgrind, to count what an event costs: the
 * argument says which sequence and how many events of it. */
#include "store_fixture.h"

/* In front of libc's: no second passes here, so that how often the recorder writes does not depend on the
 * machine. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
    static long calls;
    (void)clock;
    *ts = (struct timespec){.tv_sec = 1000, .tv_nsec = ++calls};
    return 0;
}

#define CODES 3000u
#define STAMP_EVERY 128 /* as iohooks/emit.c where events are frequent */

/* fib: one function, calls and returns. */
static uint32_t recursive(uint64_t i, uint32_t *depth)
{
    bool call = *depth == 1 || (*depth < 30 && fx_random() % 2);
    (void)i;
    *depth += call ? 1 : -1u;
    return call ? TF_WORD(TF_CALL, 1) : TF_WORD(TF_RETURN, 0);
}

/* Many functions and generators, and exceptions; no two blocks are alike. */
static uint32_t mixed(uint64_t i, uint32_t *depth)
{
    uint64_t r = fx_random();
    bool enter = *depth == 1 || (*depth < 60 && r % 2);
    (void)i;
    *depth += enter ? 1 : -1u;
    if (enter)
        return TF_WORD(r >> 8 & 7 ? TF_CALL : TF_RESUME, 1 + (r >> 16) % CODES);
    return TF_WORD(r >> 8 & 7 ? TF_RETURN : r >> 11 & 1 ? TF_YIELD : TF_UNWIND, 0);
}

/* A loop that calls the same functions in the same order. */
static uint32_t regular(uint64_t i, uint32_t *depth)
{
    (void)depth;
    return i & 1 ? TF_WORD(TF_RETURN, 0) : TF_WORD(TF_CALL, 1 + (i / 2) % 7);
}

static const struct {
    const char *name;
    uint32_t (*next)(uint64_t i, uint32_t *depth);
    double most_bytes; /* an event in the recording */
} sequences[] = {{"recursive", recursive, 1}, {"mixed", mixed, 2.5}, {"regular", regular, 0.1}};

/* What the rows of frame events take. */
static int64_t frame_bytes(const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT total(length(data) + length(codes)) FROM frames", -1, &stmt, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t bytes = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return bytes;
}

static void take(size_t which, uint64_t n)
{
    struct fx_ring r;
    struct tf_store *store;
    struct tf_run run;
    uint32_t depth = 1, size = 1u << 17;
    const char *path = fx_path("rate.timefork");
    fx_ring_make(&r, size);
    ok(tf_store_create(path, &store, err));
    struct tf_ingest *in = fx_begin(store, &r, "rate");
    fx_start(&r);
    for (uint32_t id = 1; id <= CODES; id++) {
        fx_code(&r, id, "/nowhere/shop.py", "settle", id);
        if (id % 1000 == 0)
            fx_drain(in);
    }
    for (uint64_t i = 0; i < n; i++) {
        /* The whole ring would be zeroed between two drains; half of it is what a program gets ahead. */
        if (r.head - r.shm->tail > size / 2)
            fx_drain(in);
        r.words[r.head++ & (size - 1)] = sequences[which].next(i, &depth);
        if (i % STAMP_EVERY == STAMP_EVERY - 1)
            r.words[r.head++ & (size - 1)] = TF_WORD(TF_TIME, 600 + i % 50);
    }
    fx_drain(in);
    ok(tf_ingest_end(in, 0, 0, &run, err));
    assert_int_equal(run.frames, n);
    tf_run_clear(&run);
    tf_store_close(store);
    double bytes = (double)frame_bytes(path);
    if (n)
        print_message("%s: %.3f bytes an event\n", sequences[which].name, bytes / (double)n);
    assert_true(bytes <= sequences[which].most_bytes * (double)n);
    fx_ring_free(&r);
    assert_int_equal(unlink(path), 0);
}

static void test_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++)
        take(i, 1u << 20);
}

static size_t chosen;
static uint64_t events;

static void test_one(void **state)
{
    (void)state;
    take(chosen, events);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest all[] = {cmocka_unit_test(test_all)}, one[] = {cmocka_unit_test(test_one)};
    if (argc < 3)
        return cmocka_run_group_tests(all, fx_setup, fx_teardown);
    while (chosen < sizeof sequences / sizeof *sequences && strcmp(argv[1], sequences[chosen].name) != 0)
        chosen++;
    if (chosen == sizeof sequences / sizeof *sequences)
        return 2;
    events = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(one, fx_setup, fx_teardown);
}
