/*
 * ahead.h: copies that run before anybody has asked for them. A search looks through one window of the run
 * after the other; what a window has in it depends on nothing but the window, so while the search waits for
 * one, copies run through those that it will most likely ask for next, as many at a time as there are
 * processors. They are served meanwhile, and what they say is kept: when the search comes to that window it
 * hears it from the beginning, as if the copy had been started then. So whether any run ahead changes nothing
 * but the time. In the supervisor, inside replay/.
 */
#ifndef TF_AHEAD_H
#define TF_AHEAD_H

#include "checkpoint/set.h"
#include "replay/outside_log.h"
#include "replay/position.h"
#include "replay/timeline.h"

struct tf_scan;

/* A copy that runs, and what it has said that nobody has heard yet. */
struct tf_copy {
    struct tf_runner runner;
    struct tf_checkpoint from;
    struct tf_log_hold hold;
    uint8_t *said; /* messages: each a struct tf_msg and what belongs to it */
    size_t said_at, said_len, said_room;
    bool ended;           /* nothing comes any more */
    struct tf_err failed; /* why, if it has not said so itself */
};

/* What is scanned: behind event `arm`, for hits behind `from`, up to `end`. */
struct tf_window {
    uint64_t arm;
    struct tf_position from, end;
};

#define TF_AHEAD_MAX (2 * TF_JOBS_MAX)
struct tf_aheads {
    unsigned jobs; /* copies that may run at a time; 1: none runs ahead */
    struct tf_ahead {
        const void *search; /* whose it is */
        struct tf_window window;
        struct tf_copy *copy;
    } v[TF_AHEAD_MAX]; /* of each search, in the order in which it will ask for them */
    size_t n;
    struct tf_message message;
    /* While a search waits: begins one more. 1, or 0: there is nothing more to begin, or it cannot be
     * begun. NULL: nobody does. */
    int (*more)(void *ctx);
    void *ctx;
    int64_t after_ms; /* not before */
};

/* Processors that this process may use; at most TF_JOBS_MAX. */
unsigned tf_ahead_processors(void);
/* Starts a copy with this request. It is dropped when the search does not come to it. */
int tf_ahead_start(struct tf_timeline *t, const void *search, const struct tf_window *window,
                   const struct tf_scan *scan, struct tf_err *err);
/* The copy that runs through this window, the caller's from then on; NULL: none does, and those that run for
 * this search are ended, as it has come to another place than was expected. */
struct tf_copy *tf_ahead_take(struct tf_timeline *t, const void *search, const struct tf_window *window);
/* Ends all that run for a search. */
void tf_ahead_drop(struct tf_timeline *t, const void *search);
/* Begins more, as many as may run. copy: the one that is waited for. */
void tf_ahead_fill(struct tf_timeline *t, const struct tf_copy *copy);

/* The next thing that a copy says, heard when it is said or kept since; those that run ahead are served until
 * it comes. TF_E_REPLAY: it is gone. TF_E_CANCELLED. */
int tf_copy_next(struct tf_timeline *t, struct tf_copy *copy, struct tf_message *message, struct tf_err *err);
/* Answers its NEED. */
int tf_copy_load(struct tf_timeline *t, struct tf_copy *copy, const struct tf_message *need,
                 struct tf_err *err);
/* Ends the process; the memory of `copy` stays the caller's. */
void tf_copy_end(struct tf_timeline *t, struct tf_copy *copy);

#endif
