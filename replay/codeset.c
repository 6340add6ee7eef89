/* codeset.c: see codeset.h. */
#include <stdlib.h>
#include <string.h>
#include "replay/codeset.h"
#include "replay/timeline_private.h"

#define TF_THREADS_AT_ONCE 1024
/* Up to so many events it is found out which functions run at all in a window. */
#define COUNTED_EVENTS (1u << 18)

int tf_codeset_new(struct tf_codeset *c, struct tf_timeline *t, struct tf_err *err)
{
    c->all = tf_timeline_codes(t, err);
    c->bytes = c->all ? c->all->n / 8 + 1 : 0;
    c->bits = c->all ? calloc(1, c->bytes) : NULL;
    if (!c->all)
        return err->code;
    return c->bits ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
}

void tf_codeset_add(struct tf_codeset *c, uint32_t id)
{
    if (id < c->all->n)
        c->bits[id >> 3] |= (uint8_t)(1u << (id & 7));
}

bool tf_codeset_has(const struct tf_codeset *c, uint32_t id)
{
    return id < c->all->n && c->bits[id >> 3] >> (id & 7) & 1;
}

/* Interpreter-internal modules have no source, and nobody steps through them. */
static bool is_frozen(const struct tf_code *code)
{
    return strncmp(code->file, "<frozen ", 8) == 0;
}

bool tf_timeline_is_frozen(struct tf_timeline *t, uint32_t code)
{
    const struct tf_codes *all = tf_timeline_codes(t, NULL);
    return all && code < all->n && is_frozen(&all->codes[code]);
}

/* Adds what is on the stack after an event. */
static int add_stack(struct tf_timeline *t, uint64_t frame, struct tf_codeset *c, struct tf_err *err)
{
    struct tf_activation *v;
    struct tf_frame event;
    size_t n;
    int r = tf_cursor_activations(t->cursor, frame, &v, &n, &event, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        tf_codeset_add(c, v[i].code);
    free(v);
    return r;
}

/* Adds what is on the stacks of the threads that go on between two events, when they first do. */
static int add_switched(struct tf_timeline *t, uint64_t from, uint64_t to, struct tf_codeset *c,
                        struct tf_err *err)
{
    uint64_t at[TF_THREADS_AT_ONCE];
    uint32_t seen[TF_THREADS_AT_ONCE];
    size_t n = 0;
    struct tf_frame event;
    if (t->threads_n < 2)
        return 0;
    tf_cursor_filter(t->cursor, NULL, 0);
    int r = tf_cursor_seek(t->cursor, from + 1, err);
    while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame <= to) {
        size_t i = 0;
        r = 0;
        if (event.event != TF_SWITCH)
            continue;
        while (i < n && seen[i] != event.thread)
            i++;
        if (i < n)
            continue;
        if (n == TF_THREADS_AT_ONCE) { /* too many to look at: all functions may run */
            memset(c->bits, 255, c->bytes);
            return 0;
        }
        at[n] = event.frame;
        seen[n++] = event.thread;
    }
    for (size_t i = 0; r >= 0 && i < n; i++)
        r = add_stack(t, at[i], c, err);
    return r < 0 ? r : 0;
}

/* Does a function of `which` begin or go on behind event `from`, up to event `to`? 1, 0 or an error. */
static int enters(struct tf_timeline *t, const struct tf_codeset *which, uint64_t from, uint64_t to,
                  struct tf_err *err)
{
    struct tf_frame event;
    if (from >= to)
        return 0;
    tf_cursor_filter(t->cursor, which->bits, which->all->n);
    int r = tf_cursor_seek(t->cursor, from + 1, err);
    if (r == 0)
        r = tf_cursor_next(t->cursor, &event, err);
    tf_cursor_filter(t->cursor, NULL, 0);
    return r < 0 ? r : r && event.frame <= to;
}

/* May a function of `which` run between events `from` and `to`? */
int tf_codeset_may_run(struct tf_timeline *t, const struct tf_codeset *which, uint64_t from, uint64_t to,
                       struct tf_err *err)
{
    struct tf_codeset stack;
    int r = enters(t, which, from, to, err);
    if (r)
        return r;
    if ((r = tf_codeset_new(&stack, t, err)))
        return r;
    r = add_stack(t, from, &stack, err);
    if (r == 0)
        r = add_switched(t, from, to, &stack, err);
    for (size_t i = 0; r == 0 && i < stack.bytes; i++)
        if (stack.bits[i] & which->bits[i])
            r = 1;
    free(stack.bits);
    return r;
}

/* All functions that run between two events, if there are not too many to look at; else all. */
int tf_codeset_running(struct tf_timeline *t, uint64_t from, uint64_t to, struct tf_codeset *c,
                       struct tf_err *err)
{
    struct tf_frame event;
    if (to - from > COUNTED_EVENTS) {
        memset(c->bits, 255, c->bytes);
        return 0;
    }
    int r = add_stack(t, from, c, err);
    if (r == 0)
        r = add_switched(t, from, to, c, err);
    if (r == 0)
        r = tf_cursor_seek(t->cursor, from, err);
    while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame <= to) {
        tf_codeset_add(c, event.code);
        r = 0;
    }
    return r < 0 ? r : 0;
}

int tf_timeline_running(struct tf_timeline *t, uint64_t frame, struct tf_activation *out, uint32_t *depth,
                        uint32_t *thread, struct tf_err *err)
{
    struct tf_activation *v;
    struct tf_frame event;
    size_t n;
    int r = tf_cursor_activations(t->cursor, frame, &v, &n, &event, err);
    if (r)
        return r;
    if (n && tf_is_exit(event.event))
        n--;
    if (thread)
        *thread = event.thread;
    *out = n ? v[n - 1] : (struct tf_activation){0};
    *depth = (uint32_t)n;
    free(v);
    return 0;
}
