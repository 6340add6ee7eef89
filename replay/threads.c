/* threads.c: the threads of a run, as its index tells of them (timeline.h, timeline_private.h). */
#include <stdlib.h>
#include "replay/timeline_private.h"

const struct tf_thread_row *tf_timeline_threads(const struct tf_timeline *t, size_t *n)
{
    *n = t->threads_n;
    return t->threads;
}

const struct tf_thread_row *tf_timeline_thread(const struct tf_timeline *t, uint32_t number)
{
    for (size_t i = 0; i < t->threads_n; i++)
        if (t->threads[i].number == number)
            return &t->threads[i];
    return NULL;
}

bool tf_is_exit(enum tf_tag event)
{
    return event == TF_RETURN || event == TF_YIELD || event == TF_UNWIND;
}

static int event_at(struct tf_timeline *t, uint64_t frame, struct tf_frame *event, struct tf_err *err)
{
    tf_cursor_filter(t->cursor, NULL, 0);
    int r = tf_cursor_seek(t->cursor, frame ? frame : 1, err);
    return r ? r : tf_cursor_next(t->cursor, event, err);
}

int tf_thread_last(struct tf_timeline *t, uint32_t thread, uint64_t frame, struct tf_frame *out,
                   struct tf_err *err)
{
    uint64_t high = frame, step = 256, first = tf_timeline_first(t);
    int r = event_at(t, frame, out, err);
    if (r <= 0 || out->thread == thread || t->threads_n < 2)
        return r <= 0 ? r : out->thread == thread;
    while (high > first) {
        uint64_t low = high > first + step ? high - step : first;
        struct tf_frame event;
        bool found = false;
        r = tf_cursor_seek(t->cursor, low, err);
        while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame < high) {
            if (event.thread == thread) {
                *out = event;
                found = true;
            }
            r = 0;
        }
        if (r < 0 || found)
            return r < 0 ? r : 1;
        high = low;
        step *= 4;
    }
    return 0;
}

int tf_thread_next(struct tf_timeline *t, uint32_t thread, uint64_t frame, struct tf_frame *out,
                   struct tf_err *err)
{
    int r = event_at(t, frame + 1, out, err);
    while (r > 0 && out->thread != thread)
        r = tf_cursor_next(t->cursor, out, err);
    return r;
}

struct at_base {
    uint32_t thread;
    struct tf_activation *v;
    size_t n;
};

static int add_at_base(void *ctx, uint32_t thread, const struct tf_activation *a)
{
    struct at_base *s = ctx;
    if (thread != s->thread)
        return 0;
    struct tf_activation *more = realloc(s->v, (s->n + 1) * sizeof *more);
    if (!more)
        return 1;
    s->v = more;
    s->v[s->n++] = *a;
    return 0;
}

/* A thread that has not run since the run's base stands where it stood there. */
static int stack_at_base(struct tf_timeline *t, uint32_t thread, struct tf_activation **v, size_t *n,
                         struct tf_frame *event, struct tf_err *err)
{
    struct at_base s = {.thread = thread};
    uint32_t running;
    int r = tf_cursor_base_stacks(t->cursor, add_at_base, &s, &running, err);
    if (r || !s.n) {
        free(s.v);
        return r > 0 ? tf_err_set(err, TF_E_IO, "out of memory") : r;
    }
    *v = s.v;
    *n = s.n;
    *event = (struct tf_frame){.frame = t->run->base.frame,
                               .event = TF_SWITCH,
                               .code = s.v[s.n - 1].code,
                               .depth = (uint32_t)s.n,
                               .thread = thread,
                               .entry = s.v[s.n - 1].entry};
    return 1;
}

int tf_thread_stack(struct tf_timeline *t, uint32_t thread, struct tf_position at, struct tf_activation **v,
                    size_t *n, struct tf_frame *event, struct tf_err *err)
{
    *v = NULL;
    *n = 0;
    int r = tf_thread_last(t, thread, at.frame, event, err);
    if (r == 0)
        return stack_at_base(t, thread, v, n, event, err);
    if (r < 0)
        return r;
    uint64_t last = event->frame;
    r = tf_cursor_activations(t->cursor, last, v, n, event, err);
    /* At an exit the function is still there; what comes behind it is its caller's. */
    if (r == 0 && *n && tf_is_exit(event->event) && (at.lines || last < at.frame))
        --*n;
    return r < 0 ? r : 1;
}
