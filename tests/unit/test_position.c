/* test_position.c: positions as users write them (replay/position.h), and printing logged calls
 * (iohooks/calls.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <cmocka.h>
#include "iohooks/calls.h"
#include "replay/position.h"

static void test_good(void **state)
{
    static const struct {
        const char *text;
        uint64_t frame, lines;
    } good[] = {{"1", 1, 0},     {"750", 750, 0}, {"750+3", 750, 3}, {"750+0", 750, 0},
                {"start", 1, 0}, {"end", 900, 0}, {"0750", 750, 0},  {"18446744073709551615", UINT64_MAX, 0},
                {"901", 901, 0} /* whether it exists is asked later */};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct tf_position p;
        struct tf_err err = {0};
        assert_int_equal(tf_position_parse(good[i].text, 1, 900, &p, &err), 0);
        assert_int_equal(p.frame, good[i].frame);
        assert_int_equal(p.lines, good[i].lines);
    }
}

static void test_bad(void **state)
{
    static const char *const bad[] = {"",
                                      "0",
                                      "0+1",
                                      "-1",
                                      "+1",
                                      "abc",
                                      "750+",
                                      "750+-1",
                                      "750 ",
                                      " 750",
                                      "7.5",
                                      "0x10",
                                      "1e3",
                                      "750-1",
                                      "end+1",
                                      "18446744073709551616",
                                      "1+99999999999999999999"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tf_position p;
        struct tf_err err = {0};
        if (tf_position_parse(bad[i], 1, 900, &p, &err) != TF_E_USAGE)
            fail_msg("'%s' was taken for a position", bad[i]);
        assert_true(err.msg[0]);
    }
    struct tf_position p;
    struct tf_err err = {0};
    assert_int_equal(tf_position_parse("end", 1, 0, &p, &err), TF_E_USAGE);
}

/* Bytes of a damaged log are printed as far as they go; nothing is read behind them. */
static void test_format_damaged(void **state)
{
    char out[300];
    (void)state;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        size_t len = (size_t)rand() % 64;
        uint8_t *args = malloc(len + 1); /* its own block: valgrind and ASan see a read behind it */
        for (size_t i = 0; i < len; i++)
            args[i] = (uint8_t)(rand() % 4 ? rand() % 9 : rand());
        size_t size = (size_t)rand() % sizeof out;
        size_t n = tf_call_format_args(out, size, (unsigned)rand() % 1100, args, len);
        assert_true(size == 0 || n < size);
        assert_true(size == 0 || strlen(out) == n);
        free(args);
    }
}

static void test_format(void **state)
{
    char out[300];
    uint64_t args[6] = {(uint64_t)-100, 6, 0, 0x80000, 0};
    (void)state;
    memcpy(&args[2], "/a\n\"b\1", 6);
    assert_true(tf_call_format_args(out, sizeof out, SYS_openat, (uint8_t *)args, 40) > 0);
    assert_string_equal(out, "openat(-100, \"/a\\n\"b\\x01\", 524288, 0)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
                                       cmocka_unit_test(test_format_damaged), cmocka_unit_test(test_format)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
