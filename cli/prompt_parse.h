/*
 * prompt_parse.h: the texts that users write behind the prompt's commands, taken apart: places, numbers of
 * hits, times, log points; and how names and files are compared. Pure: nothing here knows a recording.
 *
 * Texts that are handed out are the caller's to free.
 */
#ifndef TF_PROMPT_PARSE_H
#define TF_PROMPT_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/err.h"

/* A place as it is written. "25": line; "orders.py:25": file, line; "settle": function; "orders.py:settle",
 * "shop.orders:settle": file, function. What is not there is NULL or 0. */
struct tf_place_text {
    char *file, *function;
    uint32_t line;
};
int tf_place_parse(const char *text, struct tf_place_text *out, struct tf_err *err);
void tf_place_text_clear(struct tf_place_text *text);

/* How well does a name fit: not at all, as the end of it, or wholly. */
enum tf_fit { TF_FIT_NONE, TF_FIT_END, TF_FIT_WHOLE };
/* "settle" and "Orders.settle" of "Orders.settle"; the `<locals>` in a qualified name may be left out. */
enum tf_fit tf_function_fits(const char *qualname, const char *name);
/* "orders.py", "shop/orders.py" of "/src/shop/orders.py"; as a module "orders", "shop.orders"; of a package's
 * __init__.py "shop". */
enum tf_fit tf_file_fits(const char *file, const char *name);

/* Which of a breakpoint's hits count: see struct tf_point. Zeroes: all. */
struct tf_hits {
    uint64_t first, last, every;
};
/* "3", "==3", ">=3", "<=3", "%3". */
int tf_hits_parse(const char *text, struct tf_hits *out, struct tf_err *err);
/* The reverse. "": all. Returns buf. */
const char *tf_hits_text(const struct tf_hits *hits, char *buf, size_t size);

/* "PLACE [if EXPR] [hits CONDITION]", in either order. place may be empty; condition NULL. */
struct tf_break_text {
    char *place, *condition;
    bool has_hits;
    struct tf_hits hits;
};
int tf_break_parse(const char *text, struct tf_break_text *out, struct tf_err *err);
void tf_break_text_clear(struct tf_break_text *text);

/* PLACE,"format",EXPR,...: expr becomes a Python expression whose value is the text to be logged. */
int tf_dprintf_parse(const char *text, char **place, char **expr, struct tf_err *err);

/* Cuts "#n" off the end: "settle #3" becomes "settle" and 3; negative ones count from the end. *n is 0 if
 * there is none. */
int tf_ordinal_parse(const char *text, char **rest, int64_t *n, struct tf_err *err);
/* "EXPR 20" as EXPR and 20; false if there is no number at the end or nothing in front of it. */
bool tf_limit_parse(const char *text, char **expr, uint64_t *limit);
/* "1.25s", "300ms", "15us", "7ns". False: it is no time. */
bool tf_time_parse(const char *text, uint64_t *ns);

/* The first line from `line` on that is neither blank nor only a comment; 0 if there is none. *lines: how
 * many there are. */
uint32_t tf_source_line(const char *text, size_t len, uint32_t line, uint32_t *lines);
/* The line at which `def NAME` or `async def NAME` stands, 0 if there is none. NAME: the last component
 * counts. */
uint32_t tf_source_def(const char *text, size_t len, const char *name);

/* A Python string literal with this value; NULL: no memory. */
char *tf_python_literal(const char *text);

#endif
