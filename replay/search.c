/*
 * search.c: see search.h. A search is a row of scans: each lets a copy of a checkpoint run through a window
 * of the run (scan.h). What the index of the recording can tell is asked first: calls of functions, and
 * windows in which no function of interest runs.
 */
#include <stdlib.h>
#include <string.h>
#include "replay/scan.h"

typedef struct tf_position position;
/* A window in which any line of any function is a hit is tried in pieces of so many events first. */
#define NEAR_EVENTS 512u
#define NEAR_NS 3e6 /* what takes longer to go to is not gone to twice */
#define NEAR_GROWS 16u
#define NEAR_MOST (1u << 18)

int tf_position_compare(position a, position b)
{
    if (a.frame != b.frame)
        return a.frame < b.frame ? -1 : 1;
    return a.lines < b.lines ? -1 : a.lines > b.lines;
}

position tf_position_before(position p)
{
    if (p.lines)
        return (position){p.frame, p.lines - 1};
    return (position){p.frame ? p.frame - 1 : 0, p.frame ? TF_LINES_END : 0};
}

uint64_t tf_search_reach(const struct tf_timeline *t)
{
    return t->reach ? t->reach : tf_timeline_first(t);
}

/* ---- what the index tells ---- */

static bool is_indexed(const struct tf_point *p)
{
    return p->kind == TF_POINT_CALL && !p->condition && !p->log && !p->frame_address;
}

static bool in_thread(const struct tf_point *p, const struct tf_frame *event)
{
    return !p->thread || p->thread - 1 == event->thread;
}

/* Is a call that the index has one of these? */
static bool is_met(const struct tf_search *s, const struct tf_frame *event)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct tf_point *p = s->parts[i].point;
        for (size_t k = 0; is_indexed(p) && in_thread(p, event) && k < p->codes_n; k++)
            if (p->codes[k] == event->code)
                return true;
    }
    return false;
}

/* Calls of these functions: the first behind `from` (forward) or the last before it. 1, 0 or an error. */
static int indexed_call(struct tf_search *s, position from, position limit, bool backward,
                        struct tf_scan_hit *hit, struct tf_err *err)
{
    struct tf_timeline *t = s->t;
    struct tf_codeset calls;
    struct tf_frame event;
    uint64_t found = 0, first = tf_timeline_first(t);
    bool any = false;
    int r = tf_codeset_new(&calls, t, err);
    if (r)
        return r;
    for (size_t i = 0; i < s->n; i++)
        if (is_indexed(s->parts[i].point))
            for (size_t k = 0; k < s->parts[i].point->codes_n; k++, any = true)
                tf_codeset_add(&calls, s->parts[i].point->codes[k]);
    if (!any || s->counted)
        goto out;
    tf_cursor_filter(t->cursor, calls.bits, s->codes->n);
    if (!backward) {
        r = tf_cursor_seek(t->cursor, from.frame + 1, err);
        while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0) {
            r = 0;
            if (event.frame > limit.frame)
                break;
            if (event.event == TF_CALL && is_met(s, &event)) {
                found = event.frame;
                break;
            }
        }
    } else {
        /* Back in steps that grow: blocks without such a function cost nothing. */
        uint64_t hi = from.lines ? from.frame : from.frame - 1, step = 4096;
        while (r == 0 && !found && hi >= first && hi >= limit.frame) {
            uint64_t lo = hi > step ? hi - step : first;
            if (lo < limit.frame)
                lo = limit.frame;
            if (lo < first)
                lo = first;
            r = tf_cursor_seek(t->cursor, lo, err);
            while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame <= hi) {
                if (event.event == TF_CALL && is_met(s, &event))
                    found = event.frame;
                r = 0;
            }
            if (r > 0)
                r = 0;
            if (lo == first)
                break;
            hi = lo - 1;
            step *= 4;
        }
    }
    if (r >= 0 && found) {
        *hit = (struct tf_scan_hit){.frame = found};
        tf_cursor_filter(t->cursor, NULL, 0);
        r = tf_cursor_seek(t->cursor, found, err);
        if (r == 0)
            r = tf_cursor_next(t->cursor, &event, err);
        for (size_t i = 0; r > 0 && i < s->n; i++)
            for (size_t k = 0; k < s->parts[i].point->codes_n; k++)
                if (is_indexed(s->parts[i].point) && in_thread(s->parts[i].point, &event) &&
                    s->parts[i].point->codes[k] == event.code)
                    hit->points |= 1ul << i;
        if (r == 0)
            r = tf_err_set(err, TF_E_FORMAT, "frame event %llu is missing in the recording",
                           (unsigned long long)found);
    }
out:
    tf_cursor_filter(t->cursor, NULL, 0);
    free(calls.bits);
    return r < 0 ? r : found != 0;
}

/* Is there anything that only re-execution can tell? */
static bool needs_scan(const struct tf_search *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->parts[i].point->kind != TF_POINT_CALL || s->parts[i].point->condition ||
            s->parts[i].point->log || s->parts[i].point->frame_address || s->counted)
            return true;
    return false;
}

static bool asks_at_calls(const struct tf_search *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->parts[i].point->kind == TF_POINT_CALL && s->parts[i].point->condition)
            return true;
    return false;
}

/* ---- watches: the line that changed it ---- */

int tf_search_find_line(struct tf_search *s, struct tf_hit *hit, struct tf_err *err)
{
    struct tf_activation a;
    struct tf_search_opts opts = {.cancel = s->opts->cancel};
    struct tf_hit line;
    uint32_t depth, thread;
    position at = hit->position;
    uint64_t event = at.lines ? at.frame : at.frame - 1;
    bool watch = false;
    for (size_t i = 0; i < s->n; i++)
        watch |= (hit->points >> s->parts[i].number & 1) && s->parts[i].point->kind == TF_POINT_WATCH;
    if (!watch || hit->before.frame || event < 1)
        return 0;
    int r = tf_timeline_running(s->t, event, &a, &depth, &thread, err);
    if (r || !depth)
        return r;
    struct tf_point point = {
        .kind = TF_POINT_LINE, .codes = &a.code, .codes_n = 1, .depth = depth, .thread = thread + 1};
    r = tf_search_backward(s->t, at, (position){a.entry, 0}, &point, 1, &line, &opts, err);
    if (r >= 0)
        hit->before = r ? line.position : (position){a.entry, 0};
    return r < 0 ? r : 0;
}

static int finish_hit(struct tf_search *s, const struct tf_scan_hit *found, struct tf_hit *hit,
                      struct tf_err *err)
{
    *hit = tf_public_hit(s, found);
    int r = tf_search_find_line(s, hit, err);
    return r ? r : 1;
}

/* ---- searching ---- */

/* The event from which on a scan for what comes behind a position watches. */
static uint64_t first_to_scan(const struct tf_timeline *t, position from)
{
    uint64_t first = tf_timeline_first(t);
    return from.frame > first ? from.frame : first;
}

/* Where a scan may begin: the last checkpoint at or before an event. */
static uint64_t checkpoint_before(struct tf_timeline *t, uint64_t frame)
{
    uint64_t first = tf_timeline_first(t);
    tf_checkpoints_reap(&t->set);
    const struct tf_checkpoint *c = tf_checkpoints_nearest(&t->set, frame);
    return c && c->frame > first ? c->frame : first;
}

/*
 * Watching is not without any trace (see docs/limitations.md), and a scan may part from the recording on its
 * way. Every scan begins exactly, though: a shorter one, that begins later or ends earlier, is free of what
 * the longer one had gathered. Only what has to be scanned in one piece cannot be helped.
 */
static bool may_split(const struct tf_search *s, int r, uint64_t arm, position end)
{
    return r == TF_E_DIVERGENCE && end.frame > arm + 1 && s->diverged > arm;
}

/* The window behind windows->at, which goes no further than to where another copy could begin. */
static bool window_behind(struct tf_search *s, struct tf_windows *windows, struct tf_window *window)
{
    *window = (struct tf_window){windows->at.frame, s->mode == TF_SCAN_EACH ? windows->at : s->from, s->end};
    if (windows->over)
        return false;
    uint64_t next = s->next ? tf_timeline_next_start(s->t, window->arm) : 0;
    if (next && next < s->end.frame)
        window->end = (position){next, 0};
    if (s->any_line && s->mode != TF_SCAN_EACH && window->end.frame > window->arm + windows->near) {
        window->end = (position){window->arm + windows->near, 0};
        windows->near = windows->near * NEAR_GROWS < NEAR_MOST ? windows->near * NEAR_GROWS : NEAR_MOST;
    }
    windows->at = window->end;
    windows->over = tf_position_compare(window->end, s->end) == 0;
    return true;
}

/* The window in front of windows->at. */
static bool window_before(struct tf_search *s, struct tf_windows *windows, struct tf_window *window)
{
    const position end = windows->at;
    uint64_t low = s->from.lines == TF_LINES_END ? s->from.frame + 1 : s->from.frame;
    if (low < tf_timeline_first(s->t))
        low = tf_timeline_first(s->t);
    if (windows->over)
        return false;
    uint64_t arm = checkpoint_before(s->t, end.lines ? end.frame : end.frame - 1);
    if (s->any_line && end.frame > windows->near && arm < end.frame - windows->near)
        arm = end.frame - windows->near;
    if (arm < low)
        arm = low;
    *window = (struct tf_window){arm, s->from, end};
    windows->at = (position){arm, 0};
    windows->near *= NEAR_GROWS;
    windows->over = arm <= low;
    return true;
}

static bool next_window(struct tf_search *s, struct tf_windows *windows, struct tf_window *window)
{
    return s->backward ? window_before(s, windows, window) : window_behind(s, windows, window);
}

/* May anything that is looked for be in this window? The index tells. 1, 0 or an error. */
static int may_have(struct tf_search *s, const struct tf_window *window, struct tf_err *err)
{
    if (!s->only_named || s->mode == TF_SCAN_EACH)
        return 1;
    return tf_codeset_may_run(s->t, &s->named, window->arm, window->end.frame, err);
}

static int next_to_scan(struct tf_search *s, struct tf_windows *windows, struct tf_window *window,
                        struct tf_err *err)
{
    int r = 0;
    while (r == 0 && next_window(s, windows, window))
        r = may_have(s, window, err);
    return r;
}

static void scan_ahead_of(struct tf_search *s, enum tf_scan_mode mode)
{
    s->mode = mode;
    s->next = s->t->aheads.jobs > 1 && !s->whole_from && !s->on_stack ? next_to_scan : NULL;
}

static int forward(struct tf_search *s, struct tf_scan_hit *found, struct tf_err *err)
{
    struct tf_windows windows = {.at = {first_to_scan(s->t, s->from), 0}, .near = NEAR_EVENTS};
    struct tf_window window;
    uint64_t cut = 0;
    if (s->whole_from) {
        window = (struct tf_window){s->whole_from, s->from, s->end};
        int r = tf_scan_window(s, &window, TF_SCAN_FIRST, err);
        *found = s->last;
        return r ? r : s->hit;
    }
    scan_ahead_of(s, TF_SCAN_FIRST);
    for (;;) {
        s->after = windows;
        if (!window_behind(s, &s->after, &window))
            return 0;
        if (cut && cut < window.end.frame) {
            window.end = s->after.at = (position){cut, 0};
            s->after.over = false;
        }
        int r = may_have(s, &window, err);
        s->hit = false;
        if (r > 0)
            r = tf_scan_window(s, &window, TF_SCAN_FIRST, err);
        if (may_split(s, r, window.arm, window.end)) {
            cut = window.arm + (s->diverged - window.arm + 1) / 2;
            continue;
        }
        cut = 0;
        if (r < 0)
            return r;
        if (s->hit) {
            *found = s->last;
            return 1;
        }
        windows = s->after;
    }
}

/* A step back: what it finds is gone to next, and steps follow each other. So there is a checkpoint in front
 * of the window, and of those of the next steps. */
static int stay_near(struct tf_search *s, const struct tf_window *window, struct tf_err *err)
{
    struct tf_checkpoint from;
    uint64_t before = window->arm > NEAR_EVENTS ? window->arm - NEAR_EVENTS : 0;
    if (s->any_line && !s->t->scan && window->end.frame <= window->arm + NEAR_EVENTS &&
        before >= tf_timeline_first(s->t) && tf_timeline_is_far(s->t, window->arm, NEAR_NS))
        return tf_timeline_leave(s->t, before, &from, err);
    return 0;
}

static int backward(struct tf_search *s, struct tf_scan_hit *found, struct tf_err *err)
{
    /* s->from: hits behind it count; s->end: up to it. */
    struct tf_windows windows = {.at = s->end, .near = NEAR_EVENTS};
    struct tf_window window;
    uint64_t cut = 0;
    if (s->whole_from) {
        if (s->end.frame < s->whole_from) /* before the generator was called */
            return 0;
        window = (struct tf_window){s->whole_from, s->from, s->end};
        int r = tf_scan_window(s, &window, TF_SCAN_LAST, err);
        *found = s->last;
        return r ? r : s->hit;
    }
    scan_ahead_of(s, TF_SCAN_LAST);
    for (;;) {
        s->after = windows;
        if (!window_before(s, &s->after, &window))
            return 0;
        if (window.arm < cut) {
            window.arm = cut;
            s->after.at = (position){cut, 0};
            s->after.over = false;
        }
        s->hit = false;
        s->late = 0;
        int r = may_have(s, &window, err);
        if (r > 0 && (r = stay_near(s, &window, err)) == 0)
            r = tf_scan_window(s, &window, TF_SCAN_LAST, err);
        if (may_split(s, r, window.arm, window.end)) {
            cut = s->diverged;
            continue;
        }
        cut = 0;
        if (r < 0)
            return r;
        if (s->hit) {
            *found = s->last;
            return 1;
        }
        if (s->late) { /* what lies in front of it */
            windows.at = tf_position_before((position){s->late, 0});
            continue;
        }
        windows = s->after;
        if (s->opts->progress)
            s->opts->progress(s->opts->ctx, (double)(s->last_event - window.arm) /
                                                (double)(s->last_event - s->first_event + 1));
    }
}

/* All hits, in order. What was told cannot be taken back: it must be known that it lies in front of where the
 * scan parted from the recording. */
static int each(struct tf_search *s, uint64_t arm, position from, position end, struct tf_err *err)
{
    struct tf_windows windows = {.at = {arm, 0}};
    struct tf_window window;
    s->end = end;
    scan_ahead_of(s, TF_SCAN_EACH);
    for (;;) {
        s->after = windows;
        if (!window_behind(s, &s->after, &window))
            return 0;
        if (windows.at.frame == arm)
            window.from = from;
        int r = tf_scan_window(s, &window, TF_SCAN_EACH, err);
        if (!s->whole_from && !s->stopped && may_split(s, r, window.arm, window.end) && s->diverged_there &&
            s->told.frame <= s->diverged) {
            s->skip = s->told;
            windows.at = (position){s->diverged, 0};
            continue;
        }
        if (r || s->stopped)
            return r;
        windows = s->after;
    }
}

/* The hit of the points that are chosen. `from` does not count, `limit` does. 1, 0 or an error. */
static int part_of(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                   size_t n, enum tf_chosen chosen, bool back, struct tf_hit *hit,
                   const struct tf_search_opts *opts, struct tf_err *err)
{
    struct tf_search s;
    struct tf_scan_hit by_index = {0}, by_scan = {0};
    int r = tf_search_init(&s, t, points, n, chosen, opts, err), indexed = 0, scanned = 0;
    if (r || !s.n)
        goto out;
    s.backward = back;
    s.from = !back ? from : limit.frame ? tf_position_before(limit) : (position){0, 0};
    s.end = back ? tf_position_before(from) : limit;
    if ((r = indexed = indexed_call(&s, from, limit, back, &by_index, err)) < 0)
        goto out;
    if (indexed && back) /* at the same place others may be met, too */
        s.from = tf_position_before((position){by_index.frame, 0});
    else if (indexed) /* with what is met when that function starts, too */
        s.end = (position){by_index.frame, asks_at_calls(&s) ? TF_LINES_END : 0};
    s.first_event = s.from.frame;
    s.last_event = s.end.frame;
    if (tf_position_compare(s.from, s.end) < 0 && s.end.frame >= tf_timeline_first(t) && needs_scan(&s) &&
        (r = scanned = back ? backward(&s, &by_scan, err) : forward(&s, &by_scan, err)) < 0)
        goto out;
    bool same = scanned && indexed && by_scan.frame == by_index.frame;
    if (same && !back && by_scan.lines)
        scanned = 0; /* behind the call */
    else if (same && by_scan.lines == 0)
        by_scan.points |= by_index.points;
    r = 0;
    if (scanned || indexed)
        r = finish_hit(&s, scanned ? &by_scan : &by_index, hit, err);
out:
    tf_search_free(&s);
    return r;
}

/* Two hits, either of which may be none: the nearer one. */
static int nearer(int a_found, const struct tf_hit *a, int b_found, const struct tf_hit *b, bool backward,
                  struct tf_hit *out)
{
    if (!a_found && !b_found)
        return 0;
    int order = !a_found   ? 1
                : !b_found ? -1
                           : tf_position_compare(a->position, b->position) * (backward ? -1 : 1);
    *out = order <= 0 ? *a : *b;
    if (order == 0) {
        out->points |= b->points;
        out->failed |= b->failed;
        out->objects |= b->objects;
        if (!out->old.frame) {
            out->old = b->old;
            out->before = b->before;
        }
    }
    return 1;
}

/* ---- log points: when it is known where the search stops ---- */

static int log_forward(struct tf_timeline *t, position from, position to, const struct tf_point *points,
                       size_t n, const struct tf_search_opts *opts, struct tf_err *err)
{
    struct tf_search s;
    int r = tf_search_init(&s, t, points, n, TF_CHOOSE_LOGS, opts, err);
    s.from = from;
    s.end = to;
    uint64_t arm = s.whole_from ? s.whole_from : first_to_scan(t, from);
    if (r == 0 && s.n && tf_position_compare(from, to) < 0)
        r = each(&s, arm, from, to, err);
    tf_search_free(&s);
    return r;
}

struct log_line {
    position at;
    unsigned point;
    bool failed;
    size_t len;
    char *text;
};
struct log_lines {
    struct log_line *v;
    size_t n, room;
    bool failed;
};

static void keep_log(void *ctx, unsigned point, position at, const char *text, size_t len, bool failed)
{
    struct log_lines *l = ctx;
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct log_line *more = realloc(l->v, room * sizeof *more);
        if (!more) {
            l->failed = true;
            return;
        }
        l->v = more;
        l->room = room;
    }
    char *copy = malloc(len + 1);
    if (!copy) {
        l->failed = true;
        return;
    }
    memcpy(copy, text, len);
    l->v[l->n++] = (struct log_line){at, point, failed, len, copy};
}

/* Window by window, so that no more than one has to be kept. */
static int log_backward(struct tf_timeline *t, position from, position to, const struct tf_point *points,
                        size_t n, const struct tf_search_opts *opts, struct tf_err *err)
{
    struct log_lines lines = {0};
    struct tf_search_opts keeping = {
        .on_log = keep_log, .ctx = &lines, .timeout_ms = opts->timeout_ms, .cancel = opts->cancel};
    struct tf_search s;
    position end = tf_position_before(from), low = to.frame ? tf_position_before(to) : (position){0, 0};
    uint64_t first = tf_timeline_first(t);
    int r = tf_search_init(&s, t, points, n, TF_CHOOSE_LOGS, &keeping, err);
    while (r == 0 && s.n && end.frame >= first && tf_position_compare(low, end) < 0) {
        uint64_t arm = checkpoint_before(t, end.lines ? end.frame : end.frame - 1);
        if (arm < low.frame)
            arm = low.frame;
        if (s.whole_from || arm < first)
            arm = first;
        s.from = arm == first || arm <= low.frame ? low : tf_position_before((position){arm, 0});
        s.end = end;
        s.told = s.skip = (position){0, 0}; /* this window lies in front of the last */
        r = each(&s, arm, s.from, end, err);
        if (r == 0 && lines.failed)
            r = tf_err_set(err, TF_E_IO, "out of memory for what the log points say");
        while (lines.n) {
            struct log_line *l = &lines.v[--lines.n];
            if (r == 0 && opts->on_log)
                opts->on_log(opts->ctx, l->point, l->at, l->text, l->len, l->failed);
            free(l->text);
        }
        end = s.from;
    }
    free(lines.v);
    tf_search_free(&s);
    return r;
}

static int search(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                  size_t n, bool back, struct tf_hit *hit, const struct tf_search_opts *opts,
                  struct tf_err *err)
{
    struct tf_hit whole = {0}, window = {0};
    int a = part_of(t, from, limit, points, n, TF_CHOOSE_IN_ONE_PIECE, back, &whole, opts, err);
    if (a < 0)
        return a;
    if (a)
        limit = whole.position;
    int b = part_of(t, from, limit, points, n, TF_CHOOSE_IN_WINDOWS, back, &window, opts, err);
    if (b < 0)
        return b;
    int found = nearer(a, &whole, b, &window, back, hit);
    if (found)
        limit = hit->position;
    int r = (back ? log_backward : log_forward)(t, from, limit, points, n, opts, err);
    return r ? r : found;
}

int tf_search_forward(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                      size_t n, struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err)
{
    if (!limit.frame || limit.frame > tf_search_reach(t))
        limit = (position){tf_search_reach(t), TF_LINES_END};
    return search(t, from, limit, points, n, false, hit, opts, err);
}

int tf_search_backward(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                       size_t n, struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err)
{
    if (from.frame > tf_search_reach(t))
        from = (position){tf_search_reach(t), TF_LINES_END};
    if (limit.frame < tf_timeline_first(t)) /* of what was dropped, nothing can be searched */
        limit = (position){0, 0};
    return search(t, from, limit, points, n, true, hit, opts, err);
}

/* Objects that were there before may have had the same address: the event at which those that are watched
 * came to be, the latest of all. 0: from the start of the run on. */
static int births(struct tf_timeline *t, const struct tf_point *points, size_t n, uint64_t *from,
                  const struct tf_search_opts *opts, struct tf_err *err)
{
    *from = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tf_expr *e = points[i].watch;
        struct tf_search s;
        struct tf_scan_hit birth;
        if (points[i].kind != TF_POINT_WATCH || !e->object)
            continue;
        struct tf_point point = {.kind = TF_POINT_WATCH, .watch = e};
        int r = tf_search_init(&s, t, &point, 1, TF_CHOOSE_IN_WINDOWS, opts, err);
        s.n = 1;
        s.parts[0] = (struct tf_search_part){.point = &point, .watched = TF_WATCHED_BIRTH};
        s.whole_from = 0;
        s.backward = true;
        s.end = e->prepared;
        s.last_event = s.end.frame;
        if (r == 0)
            r = backward(&s, &birth, err);
        tf_search_free(&s);
        if (r < 0)
            return r;
        if (r && birth.frame > *from)
            *from = birth.frame;
    }
    return 0;
}

int tf_search_each(struct tf_timeline *t, position from, position to, const struct tf_point *points, size_t n,
                   int (*fn)(void *ctx, const struct tf_hit *hit), void *ctx,
                   const struct tf_search_opts *opts, struct tf_err *err)
{
    struct tf_search s;
    uint64_t born;
    int r = births(t, points, n, &born, opts, err);
    if (r)
        return r;
    if (born && tf_position_compare(from, tf_position_before((position){born, 0})) < 0)
        from = tf_position_before((position){born, 0});
    r = tf_search_init(&s, t, points, n, TF_CHOOSE_ALL, opts, err);
    if (r == 0) {
        s.from = from;
        s.end = to.frame ? to : (position){tf_search_reach(t), TF_LINES_END};
        if (s.end.frame > tf_search_reach(t))
            s.end = (position){tf_search_reach(t), TF_LINES_END};
        s.first_event = from.frame;
        s.last_event = s.end.frame;
        s.each = fn;
        s.ctx = ctx;
        uint64_t arm = s.whole_from ? s.whole_from : first_to_scan(t, from);
        if (tf_position_compare(from, s.end) < 0)
            r = each(&s, arm, from, s.end, err);
        if (s.stopped > 0)
            r = 0;
    }
    tf_search_free(&s);
    return r;
}
