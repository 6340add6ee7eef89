/* scan.c: one scan of a search: see scan.h. */
#include <stdlib.h>
#include <string.h>
#include "replay/scan.h"

typedef struct tf_position position;
#define AHEAD_AFTER_MS 5 /* a search that is over by then lets nobody run ahead */

/* From which event on a part must be scanned in one piece; 0: it need not. Hits are numbered from the start
 * of the run; and while a generator is suspended only who has seen it begin knows where its variables are. */
uint64_t tf_whole_from(const struct tf_search_part *part)
{
    const struct tf_point *p = part->point;
    if (p->hit_first || p->hit_last || p->hit_every)
        return 1;
    bool value = part->watched == TF_WATCHED_VALUE || part->watched == TF_WATCHED_VALUE_BESIDES;
    return p->kind == TF_POINT_WATCH && value && p->watch->generator && p->watch->entry ? p->watch->entry : 0;
}

static int add_part(struct tf_search *s, struct tf_search_part part, enum tf_chosen chosen,
                    struct tf_err *err)
{
    if ((part.point->log != NULL) != (chosen == TF_CHOOSE_LOGS))
        return 0;
    if (chosen != TF_CHOOSE_ALL && chosen != TF_CHOOSE_LOGS &&
        (tf_whole_from(&part) != 0) != (chosen == TF_CHOOSE_IN_ONE_PIECE))
        return 0;
    if (s->n == TF_SCAN_POINTS)
        return tf_err_set(err, TF_E_USAGE,
                          "at most %d places can be looked for at once (a watch of an attribute "
                          "or item is two)",
                          TF_SCAN_POINTS);
    s->parts[s->n++] = part;
    return 0;
}

int tf_search_init(struct tf_search *s, struct tf_timeline *t, const struct tf_point *points, size_t n,
                   enum tf_chosen chosen, const struct tf_search_opts *opts, struct tf_err *err)
{
    *s = (struct tf_search){.t = t, .opts = opts, .only_named = true, .began_ms = tf_now_ms()};
    for (size_t i = 0; i < n; i++) {
        const struct tf_point *p = &points[i];
        struct tf_search_part part = {.point = p, .number = (uint32_t)i};
        bool object = p->kind == TF_POINT_WATCH && p->watch->object;
        int r = 0;
        if (object) {
            part.watched = TF_WATCHED_OBJECT;
            r = add_part(s, part, chosen, err);
            part.watched = TF_WATCHED_VALUE_BESIDES;
            if (p->hit_first || p->hit_last || p->hit_every)
                continue; /* what is counted are the changes of the object */
        }
        if (r == 0)
            r = add_part(s, part, chosen, err);
        if (r)
            return r;
    }
    int r = tf_codeset_new(&s->named, t, err);
    if (r)
        return r;
    s->codes = s->named.all;
    for (size_t i = 0; i < s->n; i++) {
        const struct tf_point *p = s->parts[i].point;
        uint64_t whole = tf_whole_from(&s->parts[i]);
        for (size_t k = 0; k < p->codes_n; k++)
            tf_codeset_add(&s->named, p->codes[k]);
        s->any_line |= p->kind == TF_POINT_LINE && !p->codes_n;
        s->watches |= p->kind == TF_POINT_WATCH;
        s->raises |= p->kind == TF_POINT_RAISE;
        s->on_stack |= p->on_stack;
        s->counted |= p->hit_first || p->hit_last || p->hit_every;
        if (whole && (!s->whole_from || whole < s->whole_from))
            s->whole_from = whole;
    }
    s->only_named = !s->any_line && !s->watches && !s->raises;
    return 0;
}

void tf_search_free(struct tf_search *s)
{
    tf_ahead_drop(s->t, s);
    free(s->named.bits);
}

/* The request, as one piece of memory. */
struct builder {
    uint8_t *data;
    size_t len, room;
    bool failed;
};

static uint32_t put(struct builder *b, const void *data, size_t len)
{
    size_t at = (b->len + 7) & ~(size_t)7;
    if (at + len + 1 > b->room) {
        size_t room = (at + len + 1) * 2;
        uint8_t *more = realloc(b->data, room);
        if (!more) {
            b->failed = true;
            return 0;
        }
        b->data = more;
        b->room = room;
    }
    memset(b->data + b->len, 0, at - b->len);
    if (len)
        memcpy(b->data + at, data, len);
    b->len = at + len;
    return (uint32_t)at;
}

static struct tf_scan_text put_text(struct builder *b, const void *text, size_t len)
{
    if (!text || !len)
        return (struct tf_scan_text){0};
    return (struct tf_scan_text){put(b, text, len), (uint32_t)len};
}

static void put_expr(struct builder *b, const struct tf_expr *e, struct tf_scan_text *text,
                     struct tf_scan_text *program)
{
    if (!e)
        return;
    *text = put_text(b, e->text, strlen(e->text));
    if (program)
        *program = put_text(b, e->program, e->program_len);
}

static int set_masks(struct tf_search *s, uint64_t arm, position end, uint64_t *masks, struct tf_err *err)
{
    struct tf_codeset here;
    int r = tf_codeset_new(&here, s->t, err);
    if (r)
        return r;
    if (s->any_line || s->watches || (s->raises && s->counted))
        r = tf_codeset_running(s->t, arm, end.frame, &here, err);
    for (size_t i = 0; r == 0 && i < s->n; i++) {
        const struct tf_point *p = s->parts[i].point;
        uint64_t bit = 1ul << i;
        for (size_t k = 0; k < p->codes_n; k++)
            if (p->codes[k] < s->codes->n)
                masks[p->codes[k]] |= bit;
        if (p->kind == TF_POINT_WATCH && s->parts[i].watched < TF_WATCHED_OBJECT && p->watch->entry &&
            p->watch->code < s->codes->n)
            masks[p->watch->code] |= bit;
        for (uint32_t id = 1; id < s->codes->n; id++) {
            /* What the interpreter's own modules raise counts where it arrives, if no class was named. */
            if (p->kind == TF_POINT_RAISE && (p->type || !tf_timeline_is_frozen(s->t, id)))
                masks[id] |= bit;
            if (!tf_codeset_has(&here, id))
                continue;
            if (p->kind == TF_POINT_WATCH || (p->kind == TF_POINT_RAISE && s->counted))
                masks[id] |= TF_SCAN_LINES;
            else if (p->kind == TF_POINT_LINE && !p->codes_n && !tf_timeline_is_frozen(s->t, id))
                masks[id] |= bit | TF_SCAN_LINES;
        }
    }
    free(here.bits);
    /* So that a raise near the ends of the search can be placed. */
    uint64_t ends[2] = {s->from.frame, s->end.frame};
    for (int i = 0; r == 0 && s->raises && i < 2; i++) {
        struct tf_activation a;
        uint32_t depth;
        if (ends[i] < arm || ends[i] > end.frame || ends[i] < 1)
            continue;
        r = tf_timeline_running(s->t, ends[i], &a, &depth, NULL, err);
        if (r == 0 && a.code < s->codes->n)
            masks[a.code] |= TF_SCAN_LINES;
    }
    return r;
}

/* The least depth of a thread's stack, from after one event to after another. */
static int least_depth(struct tf_timeline *t, uint32_t thread, uint64_t from, uint64_t to, uint32_t *least,
                       struct tf_err *err)
{
    struct tf_activation *v;
    struct tf_frame event;
    size_t n;
    int r = tf_thread_stack(t, thread, (position){from ? from : 1, 1}, &v, &n, &event, err);
    free(v);
    if (r < 0)
        return r;
    *least = (uint32_t)n;
    r = tf_cursor_seek(t->cursor, from ? from : 1, err);
    while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame <= to) {
        uint32_t depth = event.depth - tf_is_exit(event.event);
        if (event.thread == thread && depth < *least)
            *least = depth;
        r = 0;
    }
    return r < 0 ? r : 0;
}

/* Is the activation whose variables are watched on the stack after an event? Others stand at its depth before
 * and after its life. */
static int is_alive(struct tf_timeline *t, const struct tf_expr *watch, uint64_t frame, struct tf_err *err)
{
    struct tf_activation *v;
    struct tf_frame event;
    size_t n;
    int r = tf_thread_stack(t, watch->thread, (position){frame, 1}, &v, &n, &event, err);
    if (r < 0)
        return r;
    r = watch->depth >= 1 && watch->depth <= n && v[watch->depth - 1].entry == watch->entry;
    free(v);
    return r;
}

static int build(struct tf_search *s, const struct tf_window *window, enum tf_scan_mode mode,
                 struct builder *b, struct tf_err *err)
{
    const uint64_t arm = window->arm;
    const position from = window->from, end = window->end;
    struct tf_activation a;
    struct tf_scan scan = {.from_frame = from.frame,
                           .from_lines = from.lines,
                           .end_frame = end.frame,
                           .end_lines = end.lines,
                           .mode = mode,
                           .timeout_ms = s->opts->timeout_ms > 0 ? (uint32_t)s->opts->timeout_ms : 5000,
                           .points = (uint32_t)s->n,
                           .codes = (uint32_t)s->codes->n,
                           .every_event = s->watches};
    uint64_t *masks = calloc(s->codes->n + 1, sizeof *masks);
    struct tf_scan_point *points = calloc(s->n + 1, sizeof *points);
    int r = masks && points ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
    if (r == 0)
        r = tf_timeline_running(s->t, arm, &a, &scan.depth, &scan.thread, err);
    if (r == 0)
        r = set_masks(s, arm, end, masks, err);
    scan.least_thread = scan.thread;
    scan.least = scan.depth;
    if (r == 0 && s->raises && !from.lines && from.frame) {
        struct tf_frame event;
        tf_cursor_filter(s->t->cursor, NULL, 0);
        r = tf_cursor_seek(s->t->cursor, from.frame, err);
        if (r == 0)
            r = tf_cursor_next(s->t->cursor, &event, err);
        scan.raise_at_from = r > 0 && !TF_IS_ENTRY(TF_WORD(event.event, 0));
        r = r < 0 ? r : 0;
    }
    for (size_t i = 0; r == 0 && i < s->n; i++)
        if (s->parts[i].point->on_stack && s->parts[i].point->thread) {
            scan.least_thread = s->parts[i].point->thread - 1;
            r = least_depth(s->t, scan.least_thread, s->from.frame, arm, &scan.least, err);
        }
    if (r)
        goto out;
    put(b, &scan, sizeof scan);
    for (size_t i = 0; i < s->n; i++) {
        const struct tf_point *p = s->parts[i].point;
        struct tf_scan_point *q = &points[i];
        *q = (struct tf_scan_point){.kind = p->kind,
                                    .first_line = p->first_line,
                                    .last_line = p->last_line,
                                    .depth = p->depth,
                                    .on_stack = p->on_stack,
                                    .thread = p->thread ? p->thread - 1 : UINT32_MAX,
                                    .hit_first = p->hit_first,
                                    .hit_last = p->hit_last,
                                    .hit_every = p->hit_every,
                                    .frame_address = p->frame_address};
        put_expr(b, p->condition, &q->condition, &q->condition_program);
        put_expr(b, p->log, &q->log, NULL);
        q->type = put_text(b, p->type, p->type ? strlen(p->type) : 0);
        if (p->watch && s->parts[i].watched >= TF_WATCHED_OBJECT) {
            q->watch_program = put_text(b, p->watch->place, p->watch->place_len);
            q->object = p->watch->object;
            q->object_type = p->watch->object_type;
            q->births = s->parts[i].watched == TF_WATCHED_BIRTH;
        } else if (p->watch) {
            put_expr(b, p->watch, &q->watch, &q->watch_program);
            q->skip_unset = s->parts[i].watched == TF_WATCHED_VALUE_BESIDES;
            q->module = put_text(b, p->watch->module, strlen(p->watch->module));
            q->entry = p->watch->entry;
            q->thread = p->watch->thread;
            if (q->entry && q->entry < arm && !p->watch->generator) {
                int alive = is_alive(s->t, p->watch, arm, err);
                if (alive < 0) {
                    r = alive;
                    goto out;
                }
                if (!alive) /* it never begins again */
                    q->entry = UINT64_MAX;
            }
            q->depth = p->watch->depth;
            q->frame_address = p->watch->generator ? p->watch->address : 0;
        }
    }
    scan.points_at = put(b, points, s->n * sizeof *points);
    scan.masks_at = put(b, masks, s->codes->n * sizeof *masks);
    scan.size = b->len;
    if (b->failed)
        r = tf_err_set(err, TF_E_IO, "out of memory");
    else
        memcpy(b->data, &scan, sizeof scan);
out:
    free(masks);
    free(points);
    return r;
}

struct tf_hit tf_public_hit(const struct tf_search *s, const struct tf_scan_hit *h)
{
    struct tf_hit hit = {.position = {h->frame, h->lines},
                         .before = {h->before_frame, h->before_lines},
                         .old = {h->old_frame, h->old_lines},
                         .line = h->line};
    for (size_t i = 0; i < s->n; i++) {
        uint64_t bit = 1ul << s->parts[i].number;
        if (h->points >> i & 1)
            hit.points |= bit;
        if (h->failed >> i & 1)
            hit.failed |= bit;
        if (h->points >> i & 1 && s->parts[i].watched == TF_WATCHED_OBJECT)
            hit.objects |= bit;
    }
    return hit;
}

/* Raises between two events, whose lines were not counted: looks again, with lines. */
static int refine(struct tf_search *s, uint64_t frame, enum tf_scan_mode mode, struct tf_err *err)
{
    position from = {frame, 0}, end = {frame, TF_LINES_END};
    position wide_from = s->from, wide_end = s->end;
    if (tf_position_compare(tf_position_before(from), wide_from) < 0)
        from = wide_from;
    else
        from = tf_position_before(from);
    if (tf_position_compare(wide_end, end) < 0)
        end = wide_end;
    struct tf_search inner = {.t = s->t, .opts = s->opts, .raises = true, .codes = s->codes, .n = s->n};
    static const struct tf_point nothing = {.kind = TF_POINT_RAISE,
                                            .type = "\1"}; /* no class has this name */
    for (size_t i = 0; i < s->n; i++) {
        inner.parts[i] = s->parts[i];
        if (s->parts[i].point->kind != TF_POINT_RAISE)
            inner.parts[i] = (struct tf_search_part){.point = &nothing};
    }
    inner.from = (position){frame, 0};
    inner.end = (position){frame, TF_LINES_END};
    inner.limit = s->limit.frame ? s->limit : s->end;
    inner.each = s->each;
    inner.ctx = s->ctx;
    inner.told = s->told;
    inner.skip = s->skip;
    const struct tf_window window = {frame ? frame : 1, from, end};
    int r = tf_scan_window(&inner, &window, mode, err);
    s->late = inner.late;
    if (r == 0 && !inner.hit && !inner.late && mode != TF_SCAN_EACH)
        r = tf_err_set(err, TF_E_DIVERGENCE,
                       "an exception that was raised after frame event %llu was not met again there",
                       (unsigned long long)frame);
    s->last = inner.last;
    s->hit = inner.hit;
    s->stopped = inner.stopped;
    s->told = inner.told;
    return r;
}

/*
 * Where a raise is told. A line may call functions first and raise then, as in `raise Error(describe())`:
 * behind the exit of the last of them there is no place in the line any more. Then it is told at the next
 * place there is: the first line of the handler, or where the exception leaves the function.
 */
static int place_raise(struct tf_search *s, struct tf_scan_hit *hit, struct tf_err *err)
{
    struct tf_frame event;
    struct tf_activation a;
    struct tf_hit line;
    uint32_t depth;
    bool raise = false;
    for (size_t i = 0; i < s->n; i++)
        raise |= (hit->points >> i & 1) && s->parts[i].point->kind == TF_POINT_RAISE;
    if (!raise || hit->lines || hit->frame >= tf_search_reach(s->t))
        return 0;
    tf_cursor_filter(s->t->cursor, NULL, 0);
    int r = tf_cursor_seek(s->t->cursor, hit->frame, err);
    if (r == 0)
        r = tf_cursor_next(s->t->cursor, &event, err);
    if (r <= 0 || TF_IS_ENTRY(TF_WORD(event.event, 0)))
        return r < 0 ? r : 0;
    if ((r = tf_timeline_running(s->t, hit->frame, &a, &depth, NULL, err)) || !depth)
        return r;
    struct tf_point next = {.kind = TF_POINT_LINE, .codes = &a.code, .codes_n = 1};
    struct tf_search_opts opts = {.cancel = s->opts->cancel};
    r = tf_search_forward(s->t, (position){hit->frame, 0}, (position){hit->frame, TF_LINES_END}, &next, 1,
                          &line, &opts, err);
    if (r < 0)
        return r;
    if (r)
        hit->lines = line.position.lines;
    else
        hit->frame++;
    return 0;
}

/* Is this place to be told? Not when an earlier scan has done so. */
static bool is_new(struct tf_search *s, position at)
{
    if (tf_position_compare(at, s->skip) <= 0)
        return false;
    s->told = at;
    return true;
}

static int on_scan(void *ctx, const struct tf_message *m, struct tf_err *err)
{
    struct tf_search *s = ctx;
    /* Backward, whole windows are what is done: search.c tells. */
    bool tells = s->opts->progress && (!s->backward || s->whole_from);
    if (m->op == TF_REP_PROGRESS && m->len == 8 && tells) {
        uint64_t frame;
        memcpy(&frame, m->data, 8);
        double span = (double)(s->last_event - s->first_event) + 1;
        double done = frame > s->first_event ? (double)(frame - s->first_event) / span : 0;
        s->opts->progress(s->opts->ctx, done > 1 ? 1 : done);
    } else if (m->op == TF_REP_LOG && m->len >= sizeof(struct tf_scan_log) && s->opts->on_log) {
        struct tf_scan_log head;
        memcpy(&head, m->data, sizeof head);
        if (!is_new(s, (position){head.frame, head.lines}))
            return 0;
        s->opts->on_log(s->opts->ctx, head.point < s->n ? s->parts[head.point].number : 0,
                        (position){head.frame, head.lines}, (const char *)m->data + sizeof head,
                        m->len - sizeof head, head.failed != 0);
    } else if (m->op == TF_REP_HIT && m->len == sizeof s->last) {
        memcpy(&s->last, m->data, sizeof s->last);
        s->hit = true;
        if (!s->each)
            return 0;
        if (s->last.lines == TF_LINES_END) {
            if (s->refined == s->last.frame)
                return 0;
            s->refined = s->last.frame;
            int r = refine(s, s->last.frame, TF_SCAN_EACH, err);
            return r ? r : s->stopped;
        }
        int r = place_raise(s, &s->last, err);
        if (r)
            return r;
        struct tf_hit hit = tf_public_hit(s, &s->last);
        if (!is_new(s, hit.position))
            return 0;
        if ((r = tf_search_find_line(s, &hit, err)))
            return r;
        s->stopped = s->each(s->ctx, &hit);
        return s->stopped;
    }
    return 0;
}

/* While the search waits: a copy for the next window that it will come to. What fails here fails again, and
 * is told, when the search is there. */
static int scan_ahead(void *ctx)
{
    struct tf_search *s = ctx;
    struct tf_window window;
    struct tf_err ignored;
    struct builder b = {0};
    bool begun = s->next(s, &s->ahead, &window, &ignored) > 0 &&
                 build(s, &window, s->mode, &b, &ignored) == 0 &&
                 tf_ahead_start(s->t, s, &window, (const struct tf_scan *)b.data, &ignored) == 0;
    free(b.data);
    return begun;
}

int tf_scan_window(struct tf_search *s, const struct tf_window *window, enum tf_scan_mode mode,
                   struct tf_err *err)
{
    struct tf_timeline *t = s->t;
    struct builder b = {0};
    struct tf_stop_rep rep;
    struct tf_stop_req stop = {.frame = window->arm, .kind = TF_STOP_SCAN};
    const uint64_t arm = window->arm;
    const position end = window->end;

    bool again;
    s->hit = false;
    s->late = 0;
    int r = build(s, window, mode, &b, err);
    if (r) {
        free(b.data);
        return r;
    }
    /* Searches nest: a hit may ask for another one. */
    const struct tf_scan *outer_scan = t->scan;
    int (*outer_fn)(void *, const struct tf_message *, struct tf_err *) = t->on_scan;
    void *outer_ctx = t->scan_ctx;
    const volatile bool *outer_cancel = t->cancel;
    struct tf_message outer_message = t->message;
    struct tf_aheads outer_aheads = {
        .more = t->aheads.more, .ctx = t->aheads.ctx, .after_ms = t->aheads.after_ms};
    t->message = (struct tf_message){0};
    t->scan = (const struct tf_scan *)b.data;
    t->on_scan = on_scan;
    t->scan_ctx = s;
    if (s->opts->cancel)
        t->cancel = s->opts->cancel;
    struct tf_copy *ahead = s->next ? tf_ahead_take(t, s, window) : NULL;
    t->aheads.more = s->next ? scan_ahead : NULL;
    t->aheads.ctx = s;
    t->aheads.after_ms = s->began_ms + AHEAD_AFTER_MS;
    if (!ahead)
        s->ahead = s->after;
    do {
        struct tf_copy begun = {.runner = TF_RUNNER_NONE}, *copy = ahead ? ahead : &begun;
        again = false;
        if (!ahead)
            r = tf_run_start(t, &stop, arm, &begun.runner, &begun.from, err);
        if (r)
            break;
        struct tf_place at = {0};
        tf_ahead_fill(t, copy);
        r = tf_run_serve(t, copy, &rep, &at, err);
        if (r == 0)
            r = tf_run_check_prefix(t, NULL, &rep, err);
        s->diverged_there = at.frame > arm && at.frame < end.frame;
        s->diverged = s->diverged_there ? at.frame : arm + (end.frame - arm) / 2;
        const struct tf_checkpoint from = copy->from;
        tf_copy_end(t, copy);
        free(ahead);
        ahead = NULL;
        if (r == TF_E_REPLAY && !s->stopped && tf_timeline_drop_gone(t, &from)) {
            again = true;
            s->hit = false;
            s->refined = 0; /* what has been told is known by s->told */
        }
    } while (again);
    free(t->message.data);
    t->message = outer_message;
    t->aheads.more = outer_aheads.more;
    t->aheads.ctx = outer_aheads.ctx;
    t->aheads.after_ms = outer_aheads.after_ms;
    t->scan = outer_scan;
    t->on_scan = outer_fn;
    t->scan_ctx = outer_ctx;
    t->cancel = outer_cancel;
    free(b.data);
    if (r && s->stopped && r == s->stopped) /* each() wanted no more */
        r = 0;
    if (r || !s->hit || mode == TF_SCAN_EACH)
        return r;
    if (s->last.lines == TF_LINES_END) /* which says where it is told, too */
        return refine(s, s->last.frame, mode, err);
    uint64_t raised = s->last.frame;
    position limit = s->limit.frame ? s->limit : s->end;
    r = place_raise(s, &s->last, err);
    if (r == 0 && tf_position_compare((position){s->last.frame, s->last.lines}, limit) >
                      0) { /* too late for this search */
        s->hit = false;
        s->late = raised;
    }
    return r;
}
