/*
 * search.h: finding positions by what happens there. In the supervisor.
 *
 * A search lets copies of checkpoints run forward, one window after the other (from the checkpoint before the
 * present back to the start, when it goes backward), with line events in the functions that are concerned
 * only. The searching copies are thrown away; whoever wants to stand at what was found goes there with
 * tf_timeline_goto(). Hits and their order are the same in both directions.
 */
#ifndef TF_SEARCH_H
#define TF_SEARCH_H

#include "replay/timeline.h"

/* An expression that was prepared at the present. */
struct tf_expr {
    char *text;
    uint8_t *program; /* engine/pure.h; empty: evaluated in forks, at about a millisecond each time */
    size_t program_len;
    /* For watching: whose variables it uses. entry: the call event of the function's activation, 0 if it uses
     * globals only. */
    uint64_t entry;
    uint32_t depth; /* of that activation */
    uint32_t thread;
    uint32_t code;
    uint64_t address; /* of a generator's frame */
    bool generator;   /* it is one of a generator or coroutine */
    /* Of an attribute or item (obj.name, obj[key]): the object that obj is at the present. Watching follows
     * its attribute or item wherever it is changed from, and whatever the object is called there, and the
     * value of the expression itself besides. 0: none. */
    uint64_t object, object_type;
    uint8_t *place; /* program that asks the object */
    size_t place_len;
    char *place_text;            /* expression that does, with `_` for the object */
    struct tf_position prepared; /* the present at which it was prepared */
    char *module;                /* its globals are those of sys.modules[module] */
};
/* Checks the syntax and prepares an expression in function number `frame` (0 is the innermost) of a thread's
 * present stack (its number plus 1; 0: of the one that runs). TF_E_USAGE: it is no expression; the message
 * says what Python says. */
int tf_expr_prepare(struct tf_timeline *timeline, const char *text, uint32_t frame, uint32_t thread,
                    struct tf_expr **out, struct tf_err *err);
void tf_expr_free(struct tf_expr *expr);

enum tf_point_kind {
    TF_POINT_LINE = 1, /* a line begins: codes, first_line..last_line, depth */
    TF_POINT_CALL,     /* a function is called (not: a generator resumed): codes */
    TF_POINT_RAISE,    /* a line raises an exception: type */
    TF_POINT_WATCH,    /* the value of `watch` has changed */
};
#define TF_POINTS_MAX 60
struct tf_point {
    enum tf_point_kind kind;
    const uint32_t *codes; /* LINE, CALL: code ids. LINE without any: every function but those of the */
    size_t codes_n;        /* interpreter's frozen modules */
    uint32_t first_line, last_line; /* LINE: 0 and 0: any. Functions without such a line cost nothing */
    uint32_t depth;                 /* LINE: at this depth of the stack only; 0: any */
    uint32_t thread; /* LINE, CALL, RAISE: only in the thread with this number, plus 1; 0: in any. Where there
                        is a depth, it is one of this thread's stack */
    bool on_stack;   /* LINE, forward: in the function at `depth` and those below it on the present stack, as
                        long as they are on it */
    const char *type; /* RAISE: name of the exception's class or of a base class; NULL: any */
    const struct tf_expr *watch;
    uint64_t frame_address;          /* CALL: only into this frame; 0: any */
    const struct tf_expr *condition; /* LINE, CALL, RAISE: hits only where it is true; NULL: always */
    /* Of the hits, numbered from 1 over the whole run, only those from hit_first on (0: all), up to hit_last
     * (0: all), and each hit_every-th (0: all) count. */
    uint64_t hit_first, hit_last, hit_every;
    /* Not a place to stop: the expression is evaluated (in a fork) and its str() given to on_log. */
    const struct tf_expr *log;
};
struct tf_hit {
    struct tf_position position; /* LINE: at the start of the line. CALL: the call. RAISE: at the start of the
                                    line that raises; if it has called functions before, the next place there
                                    is: the first line of the handler, or where the exception leaves the
                                    function. WATCH: the first place with the new value */
    struct tf_position old;      /* WATCH: the last place known to have the old value; frame 0: none is */
    struct tf_position before;   /* WATCH: where the line that changed it began: its function is the one that
                                    ran   then. Functions that the line called may have changed it before, too
                                    (hits   of their own) */
    uint32_t line;    /* of the source, as the search saw it; 0: not told. Who goes there must find it */
    uint64_t points;  /* bit i: points[i] */
    uint64_t objects; /* bit i: points[i] is a watch, and its object has changed */
    bool thread_ends; /* of a move: see move.h */
    uint64_t failed;  /* bit i: the condition of points[i] raised an exception: a hit, too */
};
struct tf_search_opts {
    /* Called now and then, with the event that was reached and how much of the search is done, 0..1. */
    void (*progress)(void *ctx, double done);
    /* In order of the run, or of the reversed run; text is not terminated by a NUL. */
    void (*on_log)(void *ctx, unsigned point, struct tf_position position, const char *text, size_t len,
                   bool failed);
    void *ctx;
    int timeout_ms;              /* for one condition or log expression */
    const volatile bool *cancel; /* set by a signal handler: TF_E_CANCELLED */
};
/* The first hit behind `from`, up to and with `limit` (frame 0: the end of what can be visited). 1 and *hit,
 * 0: none, or an error. TF_E_DIVERGENCE: the searching copy did something else than the recording. */
int tf_search_forward(struct tf_timeline *timeline, struct tf_position from, struct tf_position limit,
                      const struct tf_point *points, size_t n, struct tf_hit *hit,
                      const struct tf_search_opts *opts, struct tf_err *err);
/* The last hit before `from`, not before `limit` (frame 0: the start). */
int tf_search_backward(struct tf_timeline *timeline, struct tf_position from, struct tf_position limit,
                       const struct tf_point *points, size_t n, struct tf_hit *hit,
                       const struct tf_search_opts *opts, struct tf_err *err);
/* Calls fn for each hit behind `from`, up to and with `to` (frame 0: the end), in order; stops when it does
 * not return 0. Memory is bounded. */
int tf_search_each(struct tf_timeline *timeline, struct tf_position from, struct tf_position to,
                   const struct tf_point *points, size_t n, int (*fn)(void *ctx, const struct tf_hit *hit),
                   void *ctx, const struct tf_search_opts *opts, struct tf_err *err);

#endif
