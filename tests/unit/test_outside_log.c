/* The outside stream in memory: what a process is reading stays there while others, who read elsewhere, have
 * more loaded than may be held; what nobody reads does not. */
#include "store_fixture.h"

#include <sys/mman.h>

#include "checkpoint/proto.h"
#include "replay/outside_log.h"

#define EVENTS 160u
#define EVENT (256u << 10)
#define MEMORY (8ul << 20)

/* How many bytes of a part of the file are not zero. */
static size_t there(int fd, uint64_t offset, size_t len)
{
    uint8_t *data = malloc(len);
    size_t n = 0;
    assert_int_equal(pread(fd, data, len, (off_t)offset), len);
    for (size_t i = 0; i < len; i++)
        n += data[i] != 0;
    free(data);
    return n;
}

static void load_all(struct tf_log *log, const struct tf_run *run, struct tf_log_hold *hold)
{
    uint64_t end = 0;
    for (uint64_t at = 0; at < run->outside_bytes; at = end) {
        ok(tf_log_load(log, at, hold, &end, err));
        assert_true(end > at);
    }
}

static void test_held(void **state)
{
    (void)state;
    static uint8_t data[EVENT];
    struct tf_log_hold one = {0}, other = {0};
    struct tf_store *store;
    struct tf_log *log;
    struct fx_ring r;
    struct tf_run run;
    uint64_t end;
    fx_ring_make(&r, 1 << 20);
    ok(tf_store_create(fx_path("log.timefork"), &store, err));
    struct tf_ingest *in = fx_begin(store, &r, "log");
    fx_start(&r);
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint64_t x = i;
        memset(data, 1 + (int)(i % 255), sizeof data);
        fx_outside(&r, 1, 0, &x, 8, data, sizeof data, 5);
        fx_drain(in);
    }
    ok(tf_ingest_end(in, 0, 0, &run, err));
    assert_true(run.outside_bytes > 4 * MEMORY);
    int fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(fd >= 0 && ftruncate(fd, TF_LOG_SIZE) == 0);
    ok(tf_log_open(store, &run, fd, MEMORY, &log, err));

    ok(tf_log_load(log, 0, &one, &end, err));
    const size_t whole = there(fd, 0, end);
    assert_true(whole > end / 2 && end < MEMORY);
    load_all(log, &run, &other);
    assert_int_equal(there(fd, 0, end), whole);
    tf_log_release(log, &one);
    load_all(log, &run, &other);
    assert_true(there(fd, 0, end) < whole / 2);

    /* Released or not, it can be read again. */
    ok(tf_log_load(log, 0, &one, &end, err));
    assert_int_equal(there(fd, 0, end), whole);
    tf_log_release(log, &other);
    tf_log_release(log, &one);
    tf_log_close(log);
    close(fd);
    tf_run_clear(&run);
    tf_store_close(store);
    fx_ring_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_held)};
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
