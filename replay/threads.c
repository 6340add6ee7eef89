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
    uint64_t high = frame, step = 256;
    int r = event_at(t, frame, out, err);
    if (r <= 0 || out->thread == thread || t->threads_n < 2)
        return r <= 0 ? r : out->thread == thread;
    while (high > 1) {
        uint64_t low = high > step ? high - step : 1;
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

int tf_thread_stack(struct tf_timeline *t, uint32_t thread, struct tf_position at, struct tf_activation **v,
                    size_t *n, struct tf_frame *event, struct tf_err *err)
{
    *v = NULL;
    *n = 0;
    int r = tf_thread_last(t, thread, at.frame, event, err);
    if (r <= 0)
        return r;
    uint64_t last = event->frame;
    r = tf_cursor_activations(t->cursor, last, v, n, event, err);
    /* At an exit the function is still there; what comes behind it is its caller's. */
    if (r == 0 && *n && tf_is_exit(event->event) && (at.lines || last < at.frame))
        --*n;
    return r < 0 ? r : 1;
}
