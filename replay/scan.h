/*
 * scan.h: one scan: a copy of a checkpoint runs through a window of the run and tells what it meets
 * (engine/scan.c). search.c puts scans together. In the supervisor, inside replay/.
 */
#ifndef TF_SCAN_H
#define TF_SCAN_H

#include "replay/ahead.h"
#include "replay/codeset.h"
#include "replay/search.h"

#define TF_LINES_END UINT64_MAX /* behind all lines: until the next event */

/* TF_CHOOSE_ALL, TF_CHOOSE_IN_ONE_PIECE, TF_CHOOSE_IN_WINDOWS: of the points at which a search stops. */
enum tf_chosen { TF_CHOOSE_ALL, TF_CHOOSE_IN_ONE_PIECE, TF_CHOOSE_IN_WINDOWS, TF_CHOOSE_LOGS };

/* What one scan looks for. A watch of an attribute or item is two: the object's, and the expression's value.
 */
enum tf_watched { TF_WATCHED_VALUE, TF_WATCHED_VALUE_BESIDES, TF_WATCHED_OBJECT, TF_WATCHED_BIRTH };
struct tf_search_part {
    const struct tf_point *point;
    uint32_t number; /* of the point, as the caller has it */
    enum tf_watched watched;
};

/* Which windows a search looks through, one after the other: where the next one begins (forward) or ends. */
struct tf_windows {
    struct tf_position at;
    uint64_t near; /* for lines of any function: so many events */
    bool over;     /* none comes any more */
};

struct tf_search {
    struct tf_timeline *t;
    struct tf_search_part parts[TF_SCAN_POINTS];
    size_t n;
    const struct tf_search_opts *opts;
    const struct tf_codes *codes;
    /* Of all points together. */
    struct tf_codeset named; /* functions that LINE and CALL points name */
    bool only_named;         /* there are no other points */
    bool any_line;           /* lines of all functions are wanted */
    bool watches, raises, counted;
    bool on_stack;                    /* what is on the present stack is followed from event to event */
    uint64_t whole_from;              /* nonzero: must be scanned in one piece from this event on */
    uint64_t first_event, last_event; /* of the whole search, for progress */
    bool backward;

    /* What a scan said. */
    int (*each)(void *ctx, const struct tf_hit *hit);
    void *ctx;
    struct tf_scan_hit last;
    bool hit;
    uint64_t diverged;        /* event at which a scan did something else than the recording, about */
    struct tf_position limit; /* up to which hits are wanted; frame 0: end */
    uint64_t late; /* nonzero: the raise that was met after this event is told behind the end of the search */
    uint64_t refined; /* EACH: raises after this event have been found already */
    struct tf_position from, end;
    /* EACH: the last place that was told; places up to `skip` have been told by an earlier scan. */
    struct tf_position told, skip;
    bool diverged_there; /* `diverged` is not just about */
    /* The next window in which there may be something, that windows->at stands in front of, and moves them
     * behind it. 1, 0: none, or an error. NULL: nothing is scanned ahead. */
    int (*next)(struct tf_search *s, struct tf_windows *windows, struct tf_window *window,
                struct tf_err *err);
    struct tf_windows after; /* those behind the one that is scanned */
    struct tf_windows ahead; /* those behind the ones that are scanned ahead */
    enum tf_scan_mode mode;  /* of these */
    int64_t began_ms;
    int stopped; /* what each() returned */
};

int tf_position_compare(struct tf_position a, struct tf_position b);
/* The position in front of this one. */
struct tf_position tf_position_before(struct tf_position position);
/* The last event that can be visited; at least 1. */
uint64_t tf_search_reach(const struct tf_timeline *t);

/* What the points need, of those that are chosen. The points are borrowed. tf_search_free() in any case. */
int tf_search_init(struct tf_search *s, struct tf_timeline *t, const struct tf_point *points, size_t n,
                   enum tf_chosen chosen, const struct tf_search_opts *opts, struct tf_err *err);
void tf_search_free(struct tf_search *s);
/* Fills s->hit and s->last, or calls s->each(). */
int tf_scan_window(struct tf_search *s, const struct tf_window *window, enum tf_scan_mode mode,
                   struct tf_err *err);
/* Of a watch's hit: finds where the line began that changed it, if that was before the scan. In search.c. */
int tf_search_find_line(struct tf_search *s, struct tf_hit *hit, struct tf_err *err);
struct tf_hit tf_public_hit(const struct tf_search *s, const struct tf_scan_hit *hit);

#endif
