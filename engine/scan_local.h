/*
 * scan_local.h: what the files of a scan share: scan.c (what is met), and one of scan_311.c and
 * scan_monitoring.c (from where the events come).
 */
#ifndef TF_SCAN_LOCAL_H
#define TF_SCAN_LOCAL_H

#include "engine/local.h"
#include "engine/pure.h"

struct tf_place_seen {
    uint64_t frame, lines;
};

struct tf_watch_state {
    bool alive;      /* the activation has begun and not ended */
    uint32_t inside; /* depth at which the generator runs now; 0: it is suspended */
    uint32_t thread; /* in which it runs */
    tf_frame *frame;
    uint64_t value;
    PyObject *module; /* name of the module; in the engine's heap */
};

struct tf_search_state {
    const struct tf_scan *req;
    const char *base;
    const struct tf_scan_point *points;
    uint64_t *masks;
    PyThreadState *ts; /* of the thread that runs; see tf_scan_follow() */
    int tool;
    struct tf_place_seen here; /* the last event, and lines since then */
    uint32_t thread, depth;    /* of the function that runs */
    uint32_t least;            /* the least of this thread's stack since the scan began */
    uint64_t counts[TF_SCAN_POINTS];
    struct tf_watch_state watches[TF_SCAN_POINTS];
    struct tf_place_seen checked; /* where the watched values were looked at last */
    bool any_watch, any_local, any_raise, any_call;
    uint64_t raise_points; /* bit i: points[i] is a RAISE */
    uint32_t waiting;      /* points that can still be met */
};
extern struct tf_search_state tf_search;

/* The thread that runs is the one whose events come. False: it is another interpreter's. */
static inline bool tf_scan_follow(void)
{
    PyThreadState *ts = tf_this_thread();
    if (!ts || ts->interp != tf_search.ts->interp)
        return false;
    tf_search.ts = ts;
    return true;
}

/* scan.c: what happens, told by the interpreter's events. frame: where. Called with no exception set. */
void tf_scan_at_line(tf_frame *frame, int line); /* a line begins; -1: one without a number */
void tf_scan_at_call(tf_frame *frame);           /* a function begins */
void tf_scan_at_exit(tf_frame *frame);           /* it is about to leave */
void tf_scan_at_raise(tf_frame *frame, PyObject *value, PyObject *traceback);
/* Which events the code object with this id needs: TF_SCAN_LINES and these. Forgets points whose lines it
 * does not have. */
#define TF_NEEDS_START 1u
#define TF_NEEDS_EXIT 2u
uint64_t tf_scan_needs(PyCodeObject *co, uint32_t id);

/* scan_311.c, scan_monitoring.c: makes the events come. entering: a frame whose evaluation is about to begin,
 * or NULL. */
void tf_scan_install(PyThreadState *ts, tf_frame *entering, int event);

#endif
