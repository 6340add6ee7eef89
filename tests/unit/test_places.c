/* test_places.c: what users write behind the prompt's commands (cli/prompt_parse.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/prompt_parse.h"

static void same(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a)
        assert_string_equal(a, b);
}

static void test_places(void **state)
{
    static const struct {
        const char *text, *file, *function;
        uint32_t line;
    } good[] = {{"25", NULL, NULL, 25},
                {"orders.py:25", "orders.py", NULL, 25},
                {" shop/orders.py:25 ", "shop/orders.py", NULL, 25},
                {"C:x.py:7", "C:x.py", NULL, 7},
                {"<string>:3", "<string>", NULL, 3},
                {"settle", NULL, "settle", 0},
                {"Orders.settle", NULL, "Orders.settle", 0},
                {"<module>", NULL, "<module>", 0},
                {"orders.py:settle", "orders.py", "settle", 0},
                {"shop.orders:Orders.settle", "shop.orders", "Orders.settle", 0},
                {"f.<locals>.<lambda>", NULL, "f.<locals>.<lambda>", 0},
                {"my file.py:1", "my file.py", NULL, 1}};
    static const char *const bad[] = {
        "", "  ", ":", ":5", "orders.py:", "0", "x.py:0", "5x", "x.py:99999999999", "x:5x"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct tf_place_text t;
        assert_int_equal(tf_place_parse(good[i].text, &t, NULL), 0);
        same(t.file, good[i].file);
        same(t.function, good[i].function);
        assert_int_equal(t.line, good[i].line);
        tf_place_text_clear(&t);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tf_place_text t;
        struct tf_err err = {0};
        assert_int_equal(tf_place_parse(bad[i], &t, &err), TF_E_USAGE);
        assert_non_null(strstr(err.msg, "is not"));
        assert_null(t.file);
        assert_null(t.function);
    }
}

static void test_functions(void **state)
{
    (void)state;
    assert_int_equal(tf_function_fits("Orders.settle", "Orders.settle"), TF_FIT_WHOLE);
    assert_int_equal(tf_function_fits("Orders.settle", "settle"), TF_FIT_END);
    assert_int_equal(tf_function_fits("Orders.settle", "ettle"), TF_FIT_NONE);
    assert_int_equal(tf_function_fits("settle", "Orders.settle"), TF_FIT_NONE);
    assert_int_equal(tf_function_fits("settle", ""), TF_FIT_NONE);
    assert_int_equal(tf_function_fits("outer.<locals>.inner", "outer.inner"), TF_FIT_WHOLE);
    assert_int_equal(tf_function_fits("outer.<locals>.inner", "outer.<locals>.inner"), TF_FIT_WHOLE);
    assert_int_equal(tf_function_fits("C.outer.<locals>.inner.<locals>.<lambda>", "outer.inner.<lambda>"),
                     TF_FIT_END);
    assert_int_equal(tf_function_fits("outer.<locals>.inner", "inner"), TF_FIT_END);
    assert_int_equal(tf_function_fits("<module>", "<module>"), TF_FIT_WHOLE);
}

static void test_files(void **state)
{
    static const char file[] = "/src/shop/orders.py";
    (void)state;
    assert_int_equal(tf_file_fits(file, file), TF_FIT_WHOLE);
    assert_int_equal(tf_file_fits(file, "orders.py"), TF_FIT_END);
    assert_int_equal(tf_file_fits(file, "./orders.py"), TF_FIT_END);
    assert_int_equal(tf_file_fits(file, "shop/orders.py"), TF_FIT_END);
    assert_int_equal(tf_file_fits(file, "rders.py"), TF_FIT_NONE);
    assert_int_equal(tf_file_fits(file, "orders"), TF_FIT_END);
    assert_int_equal(tf_file_fits(file, "shop.orders"), TF_FIT_END);
    assert_int_equal(tf_file_fits(file, "shop"), TF_FIT_NONE);
    assert_int_equal(tf_file_fits("/src/shop/__init__.py", "shop"), TF_FIT_END);
    assert_int_equal(tf_file_fits("orders.py", "orders.py"), TF_FIT_WHOLE);
    assert_int_equal(tf_file_fits("<string>", "<string>"), TF_FIT_WHOLE);
    assert_int_equal(tf_file_fits(file, ""), TF_FIT_NONE);
}

static void test_hits(void **state)
{
    static const struct {
        const char *text;
        struct tf_hits hits;
        const char *back;
    } good[] = {{"3", {3, 3, 0}, "==3"},     {"==3", {3, 3, 0}, "==3"}, {">= 3", {3, 0, 0}, ">=3"},
                {" <=3 ", {0, 3, 0}, "<=3"}, {"%3", {0, 0, 3}, "%3"},   {"% 10", {0, 0, 10}, "%10"}};
    static const char *const bad[] = {"",   "0", ">=", "<3", ">3",  "-1",
                                      "3x", "x", "=3", "%0", "3 4", "99999999999999999999999"};
    char buf[64];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct tf_hits h;
        assert_int_equal(tf_hits_parse(good[i].text, &h, NULL), 0);
        assert_int_equal(h.first, good[i].hits.first);
        assert_int_equal(h.last, good[i].hits.last);
        assert_int_equal(h.every, good[i].hits.every);
        assert_string_equal(tf_hits_text(&h, buf, sizeof buf), good[i].back);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tf_hits h;
        assert_int_equal(tf_hits_parse(bad[i], &h, NULL), TF_E_USAGE);
    }
    assert_string_equal(tf_hits_text(&(struct tf_hits){0}, buf, sizeof buf), "");
    assert_string_equal(tf_hits_text(&(struct tf_hits){2, 0, 5}, buf, sizeof buf), ">=2 %5");
}

static void test_breaks(void **state)
{
    static const struct {
        const char *text, *place, *condition;
        bool has_hits;
        uint64_t first;
    } good[] = {{"settle", "settle", NULL, false, 0},
                {"a.py:25 if x > 3", "a.py:25", "x > 3", false, 0},
                {"a.py:25 if x > 3 hits >=7", "a.py:25", "x > 3", true, 7},
                {"a.py:25 hits >=7 if x > 3", "a.py:25", "x > 3", true, 7},
                {"a.py:25 hits 7", "a.py:25", NULL, true, 7},
                {"25 if hits > 3", "25", "hits > 3", false, 0},
                {"25 if y and hits > 3", "25", "y and hits > 3", false, 0},
                {"25 if hits == 3", "25", "hits == 3", false, 0},
                {"25 if y and hits == 3", "25", "y and hits == 3", false, 0},
                {"25 if f(y) hits == 3", "25", "f(y)", true, 3},
                {"25 if a if b else c", "25", "a if b else c", false, 0},
                {"if x", "", "x", false, 0},
                {"", "", NULL, false, 0},
                {"notify", "notify", NULL, false, 0},
                {"iffy", "iffy", NULL, false, 0}};
    static const char *const bad[] = {"25 if", "25 if ", "25 hits", "25 hits x", "25 hits 3 if "};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct tf_break_text t;
        assert_int_equal(tf_break_parse(good[i].text, &t, NULL), 0);
        assert_string_equal(t.place, good[i].place);
        same(t.condition, good[i].condition);
        assert_int_equal(t.has_hits, good[i].has_hits);
        if (t.has_hits)
            assert_int_equal(t.hits.first, good[i].first);
        tf_break_text_clear(&t);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tf_break_text t;
        assert_int_equal(tf_break_parse(bad[i], &t, NULL), TF_E_USAGE);
    }
}

static void test_dprintf(void **state)
{
    static const struct {
        const char *text, *place, *expr;
    } good[] = {{"settle,\"%s\",order", "settle", "(\"%s\" % (order,))"},
                {"a.py:5, 'done 100%%'", "a.py:5", "('done 100%%' % ())"},
                {"5,\"a,\\\"b\" , x, y[1]", "5", "(\"a,\\\"b\" % (x, y[1],))"},
                {"5,'''it's''',1", "5", "('''it's''' % (1,))"},
                {"5,f\"{x}\"", "5", "(f\"{x}\" % ())"}};
    static const char *const bad[] = {"", "settle", "settle,", "settle,x", "settle,\"open", "settle,\"a\" x"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char *place, *expr;
        assert_int_equal(tf_dprintf_parse(good[i].text, &place, &expr, NULL), 0);
        assert_string_equal(place, good[i].place);
        assert_string_equal(expr, good[i].expr);
        free(place);
        free(expr);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *place, *expr;
        assert_int_equal(tf_dprintf_parse(bad[i], &place, &expr, NULL), TF_E_USAGE);
    }
}

static void test_ordinals(void **state)
{
    static const char *const bad[] = {"settle #", "settle #0", "settle #x", "settle #-0", "settle #1.5"};
    char *rest;
    int64_t n;
    (void)state;
    assert_int_equal(tf_ordinal_parse("settle", &rest, &n, NULL), 0);
    assert_string_equal(rest, "settle");
    assert_int_equal(n, 0);
    free(rest);
    assert_int_equal(tf_ordinal_parse("a.py:3  #12", &rest, &n, NULL), 0);
    assert_string_equal(rest, "a.py:3");
    assert_int_equal(n, 12);
    free(rest);
    assert_int_equal(tf_ordinal_parse("exception#-1", &rest, &n, NULL), 0);
    assert_string_equal(rest, "exception");
    assert_int_equal(n, -1);
    free(rest);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tf_ordinal_parse(bad[i], &rest, &n, NULL), TF_E_USAGE);
}

static void test_limits(void **state)
{
    char *expr;
    uint64_t limit;
    (void)state;
    assert_true(tf_limit_parse("self.x 20", &expr, &limit));
    assert_string_equal(expr, "self.x");
    assert_int_equal(limit, 20);
    free(expr);
    assert_false(tf_limit_parse("x", &expr, &limit));
    assert_false(tf_limit_parse(" 20", &expr, &limit));
    assert_false(tf_limit_parse("20", &expr, &limit));
    assert_false(tf_limit_parse("x 0", &expr, &limit));
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"1.25s", 1250000000},
                {"300ms", 300000000},
                {"0s", 0},
                {"15us", 15000},
                {"7ns", 7},
                {"0.000123456s", 123456},
                {".5s", 500000000},
                {"2.s", 2000000000},
                {"1.2345678912345s", 1234567891},
                {"1.5ns", 1},
                {"1000000s", 1000000000000000}};
    static const char *const bad[] = {
        "", "s", ".s", "1", "1.5", "1 s", "1m", "1e3s", "-1s", "s1", "1.2.3s", "9999999999999s", "12+3"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t ns = 1;
        assert_true(tf_time_parse(good[i].text, &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t ns;
        assert_false(tf_time_parse(bad[i], &ns));
    }
}

static void test_sources(void **state)
{
    static const char text[] = "# head\n\nimport x\n  # note\n\t\r\ndef settle(a):\n    return a\n"
                               "    async  def wait ():\n        pass\ndef settled(): pass\n# tail";
    size_t len = sizeof text - 1;
    uint32_t lines;
    (void)state;
    assert_int_equal(tf_source_line(text, len, 1, &lines), 3);
    assert_int_equal(lines, 11);
    assert_int_equal(tf_source_line(text, len, 3, &lines), 3);
    assert_int_equal(tf_source_line(text, len, 4, &lines), 6);
    assert_int_equal(tf_source_line(text, len, 11, &lines), 0);
    assert_int_equal(tf_source_line(text, len, 12, &lines), 0);
    assert_int_equal(tf_source_line("", 0, 1, &lines), 0);
    assert_int_equal(lines, 0);
    assert_int_equal(tf_source_def(text, len, "settle"), 6);
    assert_int_equal(tf_source_def(text, len, "Orders.settle"), 6);
    assert_int_equal(tf_source_def(text, len, "wait"), 8);
    assert_int_equal(tf_source_def(text, len, "settl"), 0);
    assert_int_equal(tf_source_def(text, len, "settled"), 10);
    assert_int_equal(tf_source_def(text, len, ""), 0);
}

static void test_literals(void **state)
{
    (void)state;
    char *text = tf_python_literal("a['x\\n']\n");
    assert_string_equal(text, "'a[\\'x\\\\n\\']\\x0a'");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),   cmocka_unit_test(test_functions), cmocka_unit_test(test_files),
        cmocka_unit_test(test_hits),     cmocka_unit_test(test_breaks),    cmocka_unit_test(test_dprintf),
        cmocka_unit_test(test_ordinals), cmocka_unit_test(test_limits),    cmocka_unit_test(test_times),
        cmocka_unit_test(test_sources),  cmocka_unit_test(test_literals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
