/*
 * move.h: steps through a run, forward and backward. In the supervisor.
 *
 * All stops are at the start of a line, but for the ends of functions (finish) and of the run. A reverse step
 * goes to the stop from which the forward step leads here. With several threads a step stays in its thread
 * (as gdb's "scheduler-locking step"). Functions of the interpreter's frozen modules
 * (importlib's bootstrap) are stepped over, as gdb does with functions that have no line information.
 */
#ifndef TF_MOVE_H
#define TF_MOVE_H

#include "replay/search.h"

enum tf_move {
    TF_MOVE_STEP,   /* to the next line that runs, in whatever function */
    TF_MOVE_NEXT,   /* to the next line of this function, or of its callers once it has left */
    TF_MOVE_FINISH, /* to where the function leaves (return, yield, unwind: its locals alive, its value
                       known); in reverse: to the start of the line in its caller that called it */
    TF_MOVE_UNTIL,  /* as NEXT, to a line number >= `line` (0: greater than the present one) of this function,
                       or to where it leaves. There is no reverse */
};
struct tf_move_req {
    enum tf_move what;
    bool reverse;
    uint32_t thread; /* its number plus 1; 0: that which runs. All moves stay in it, whatever others run */
    bool any_thread; /* STEP: to a line of any thread */
    uint32_t frame;  /* NEXT, FINISH, UNTIL: of function number `frame` of the stack; 0 is the innermost */
    uint32_t line;   /* UNTIL */
    /* Breakpoints on the way: the move ends at the first that is hit. */
    const struct tf_point *points;
    size_t points_n;
};
/* From `here` (the present). 1 and *hit: hit->points tells the breakpoints, 0 when the move itself was
 * completed. 0: the run ends (or starts) before that: *hit is the last (first) position. If only the thread
 * ends (or starts) before that, it is the last (first) of that, and hit->thread_ends is true. */
int tf_move(struct tf_timeline *timeline, const struct tf_stop *here, const struct tf_move_req *req,
            struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err);

/* The last position that can be visited: the last frame event; or if the program died in the midst of a
 * function (a fault, a signal that it sent itself, os._exit), the last line that it began. */
int tf_move_end(struct tf_timeline *timeline, struct tf_position *out, const struct tf_search_opts *opts,
                struct tf_err *err);
/* The position at which the run is best looked at first: where the exception that ended it left the function
 * that raised it (1), or else the start of the program: the first call of a function that belongs to no
 * library (0). Errors: negative. */
int tf_move_opening(struct tf_timeline *timeline, struct tf_position *out, struct tf_err *err);
/* How often did a function of these codes get called up to `frame`, and the event of call number n (from 1;
 * 0 if there are fewer). From the index. */
int tf_move_call(struct tf_timeline *timeline, const uint32_t *codes, size_t codes_n, uint64_t n,
                 uint64_t *frame, struct tf_err *err);
/* The last frame event at or before a time. */
int tf_move_time(struct tf_timeline *timeline, uint64_t time_ns, uint64_t *frame, struct tf_err *err);

#endif
