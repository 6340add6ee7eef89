/*
 * search.c: see search.h. A search is a row of scans: each lets a copy of a checkpoint run through a window
 * of the run (engine/scan.c finds the hits there). What the index of the recording can tell is asked first:
 * calls of functions, and windows in which no function of interest runs.
 */
#include <stdlib.h>
#include <string.h>
#include "replay/search.h"
#include "replay/timeline_private.h"

typedef struct tf_position position;
#define LINES_END UINT64_MAX /* behind all lines: until the next event */
/* A window in which any line of any function is a hit is tried in pieces of so many events first. */
#define NEAR_EVENTS 512u
#define NEAR_GROWS 16u
/* Up to so many events it is found out which functions run at all in a window. */
#define COUNTED_EVENTS (1u << 18)

static int compare(position a, position b)
{
    if (a.frame != b.frame)
        return a.frame < b.frame ? -1 : 1;
    return a.lines < b.lines ? -1 : a.lines > b.lines;
}

/* The position in front of this one. */
static position before(position p)
{
    if (p.lines)
        return (position){p.frame, p.lines - 1};
    return (position){p.frame ? p.frame - 1 : 0, p.frame ? LINES_END : 0};
}

static uint64_t reach(const struct tf_timeline *t)
{
    return t->reach ? t->reach : 1;
}

/* ---- which functions ---- */

/* One bit for each code id. */
struct codes {
    const struct tf_codes *all;
    uint8_t *bits;
    size_t bytes;
};

static int codes_new(struct codes *c, struct tf_timeline *t, struct tf_err *err)
{
    c->all = tf_timeline_codes(t, err);
    c->bytes = c->all ? c->all->n / 8 + 1 : 0;
    c->bits = c->all ? calloc(1, c->bytes) : NULL;
    if (!c->all)
        return err->code;
    return c->bits ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
}

static void codes_add(struct codes *c, uint32_t id)
{
    if (id < c->all->n)
        c->bits[id >> 3] |= (uint8_t)(1u << (id & 7));
}

static bool codes_has(const struct codes *c, uint32_t id)
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
static int add_stack(struct tf_timeline *t, uint64_t frame, struct codes *c, struct tf_err *err)
{
    struct tf_activation *v;
    struct tf_frame event;
    size_t n;
    int r = tf_cursor_activations(t->cursor, frame, &v, &n, &event, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        codes_add(c, v[i].code);
    free(v);
    return r;
}

/* Does a function of `which` begin or go on behind event `from`, up to event `to`? 1, 0 or an error. */
static int enters(struct tf_timeline *t, const struct codes *which, uint64_t from, uint64_t to,
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
static int may_run(struct tf_timeline *t, const struct codes *which, uint64_t from, uint64_t to,
                   struct tf_err *err)
{
    struct codes stack;
    int r = enters(t, which, from, to, err);
    if (r)
        return r;
    if ((r = codes_new(&stack, t, err)))
        return r;
    r = add_stack(t, from, &stack, err);
    for (size_t i = 0; r == 0 && i < stack.bytes; i++)
        if (stack.bits[i] & which->bits[i])
            r = 1;
    free(stack.bits);
    return r;
}

/* All functions that run between two events, if there are not too many to look at; else all. */
static int running(struct tf_timeline *t, uint64_t from, uint64_t to, struct codes *c, struct tf_err *err)
{
    struct tf_frame event;
    if (to - from > COUNTED_EVENTS) {
        memset(c->bits, 255, c->bytes);
        return 0;
    }
    int r = add_stack(t, from, c, err);
    if (r == 0)
        r = tf_cursor_seek(t->cursor, from, err);
    while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame <= to) {
        codes_add(c, event.code);
        r = 0;
    }
    return r < 0 ? r : 0;
}

int tf_timeline_running(struct tf_timeline *t, uint64_t frame, struct tf_activation *out, uint32_t *depth,
                        struct tf_err *err)
{
    struct tf_activation *v;
    struct tf_frame event;
    size_t n;
    int r = tf_cursor_activations(t->cursor, frame, &v, &n, &event, err);
    if (r)
        return r;
    if (n && event.event != TF_CALL && event.event != TF_RESUME)
        n--;
    *out = n ? v[n - 1] : (struct tf_activation){0};
    *depth = (uint32_t)n;
    free(v);
    return 0;
}

/* ---- expressions ---- */

struct preparing {
    struct tf_expr *expr;
    uint32_t bits;
    uint64_t address;
    struct tf_err *err;
    bool answered;
};

static int on_prepared(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    struct preparing *p = ctx;
    if (type == TF_ITEM_ERROR)
        return tf_err_set(p->err, TF_E_USAGE, "%.*s", (int)len, (const char *)data);
    struct tf_prepared head;
    if (type != TF_ITEM_PROGRAM || len < sizeof head + 1)
        return 0;
    struct tf_expr *e = p->expr;
    memcpy(&head, data, sizeof head);
    const char *module = (const char *)data + sizeof head, *end = (const char *)data + len;
    size_t module_len = strnlen(module, len - sizeof head);
    const char *program = module + module_len + 1;
    if (program > end || head.program_len > (size_t)(end - program) ||
        head.place_len > (size_t)(end - program) - head.program_len)
        return tf_err_set(p->err, TF_E_REPLAY, "the expression could not be prepared");
    const char *place = program + head.program_len, *text = place + head.place_len;
    p->bits = head.bits;
    p->address = head.frame;
    e->object = head.object;
    e->object_type = head.type;
    e->module = strndup(module, module_len);
    e->program_len = head.program_len;
    e->program = malloc(head.program_len + 1ul);
    e->place_len = head.place_len;
    e->place = malloc(head.place_len + 1ul);
    e->place_text = strndup(text, (size_t)(end - text));
    if (!e->module || !e->program || !e->place || !e->place_text)
        return tf_err_set(p->err, TF_E_IO, "out of memory");
    memcpy(e->program, program, head.program_len);
    memcpy(e->place, place, head.place_len);
    p->answered = true;
    return 0;
}

/* The call that began the generator whose frame is at this address. */
static int find_generator(struct tf_timeline *t, struct tf_expr *e, uint32_t code, uint64_t address,
                          struct tf_err *err)
{
    struct tf_point point = {.kind = TF_POINT_CALL, .codes = &code, .codes_n = 1, .frame_address = address};
    struct tf_hit hit;
    struct tf_search_opts none = {0};
    position here = {t->here.frame, t->here.lines + 1};
    int r = tf_search_backward(t, here, (position){0}, &point, 1, &hit, &none, err);
    if (r == 0)
        r = tf_err_set(err, TF_E_REPLAY, "the call that began this generator was not found");
    if (r < 0)
        return r;
    e->entry = hit.position.frame;
    e->address = address;
    return 0;
}

int tf_expr_prepare(struct tf_timeline *t, const char *text, uint32_t frame, struct tf_expr **out,
                    struct tf_err *err)
{
    struct tf_expr *e = calloc(1, sizeof *e);
    struct tf_activation *v = NULL;
    struct tf_frame event;
    size_t n = 0;
    *out = NULL;
    if (!e || !(e->text = strdup(text))) {
        tf_expr_free(e);
        return tf_err_set(err, TF_E_IO, "out of memory");
    }
    struct preparing p = {.expr = e, .err = err};
    e->prepared = t->here;
    struct tf_inspect_req req = {.what = TF_INSPECT_PREPARE, .frame = frame};
    int r = tf_timeline_inspect(t, &req, text, 10000, on_prepared, &p, err);
    if (r == 0 && !p.answered)
        r = tf_err_set(err, TF_E_REPLAY, "the expression could not be prepared");
    if (r == 0 && p.bits & TF_PROGRAM_LOCAL) {
        r = tf_cursor_activations(t->cursor, t->here.frame, &v, &n, &event, err);
        /* At an exit the function is still there; a line behind it is its caller's. */
        if (r == 0 && n && event.event != TF_CALL && event.event != TF_RESUME && t->here.lines)
            n--;
        if (r == 0 && frame >= n)
            r = tf_err_set(err, TF_E_USAGE, "there is no function number %u on the stack", frame);
        if (r == 0) {
            e->entry = v[n - 1 - frame].entry;
            e->depth = (uint32_t)(n - frame);
            e->code = v[n - 1 - frame].code;
            e->generator = p.bits & TF_PROGRAM_GENERATOR;
            if (e->generator)
                r = find_generator(t, e, e->code, p.address, err);
        }
    }
    free(v);
    if (r) {
        tf_expr_free(e);
        return r;
    }
    *out = e;
    return 0;
}

void tf_expr_free(struct tf_expr *e)
{
    if (!e)
        return;
    free(e->text);
    free(e->program);
    free(e->place);
    free(e->place_text);
    free(e->module);
    free(e);
}

/* ---- one scan ---- */

/* What one scan looks for. A watch of an attribute or item is two: the object's, and the expression's value.
 */
enum watched { VALUE, VALUE_BESIDES, OBJECT, BIRTH };
struct part {
    const struct tf_point *point;
    uint32_t number; /* of the point, as the caller has it */
    enum watched watched;
};

struct search {
    struct tf_timeline *t;
    struct part parts[TF_SCAN_POINTS];
    size_t n;
    const struct tf_search_opts *opts;
    const struct tf_codes *codes;
    /* Of all points together. */
    struct codes named; /* functions that LINE and CALL points name */
    bool only_named;    /* there are no other points */
    bool any_line;      /* lines of all functions are wanted */
    bool watches, raises, counted;
    uint64_t whole_from;              /* nonzero: must be scanned in one piece from this event on */
    uint64_t first_event, last_event; /* of the whole search, for progress */
    bool backward;

    /* What a scan said. */
    int (*each)(void *ctx, const struct tf_hit *hit);
    void *ctx;
    struct tf_scan_hit last;
    bool hit;
    uint64_t diverged; /* event at which a scan did something else than the recording, about */
    position limit;    /* up to which hits are wanted; frame 0: end */
    uint64_t late; /* nonzero: the raise that was met after this event is told behind the end of the search */
    uint64_t refined; /* EACH: raises after this event have been found already */
    position from, end;
    int stopped; /* what each() returned */
};

/* From which event on a part must be scanned in one piece; 0: it need not. Hits are numbered from the start
 * of the run; and while a generator is suspended only who has seen it begin knows where its variables are. */
static uint64_t whole_from(const struct part *part)
{
    const struct tf_point *p = part->point;
    if (p->hit_first || p->hit_last || p->hit_every)
        return 1;
    bool value = part->watched == VALUE || part->watched == VALUE_BESIDES;
    return p->kind == TF_POINT_WATCH && value && p->watch->generator && p->watch->entry ? p->watch->entry : 0;
}

/* ALL, IN_ONE_PIECE, IN_WINDOWS: of the points at which a search stops. */
enum chosen { ALL, IN_ONE_PIECE, IN_WINDOWS, LOGS };

static int add_part(struct search *s, struct part part, enum chosen chosen, struct tf_err *err)
{
    if ((part.point->log != NULL) != (chosen == LOGS))
        return 0;
    if (chosen != ALL && chosen != LOGS && (whole_from(&part) != 0) != (chosen == IN_ONE_PIECE))
        return 0;
    if (s->n == TF_SCAN_POINTS)
        return tf_err_set(err, TF_E_USAGE,
                          "at most %d places can be looked for at once (a watch of an attribute "
                          "or item is two)",
                          TF_SCAN_POINTS);
    s->parts[s->n++] = part;
    return 0;
}

static int search_init(struct search *s, struct tf_timeline *t, const struct tf_point *points, size_t n,
                       enum chosen chosen, const struct tf_search_opts *opts, struct tf_err *err)
{
    *s = (struct search){.t = t, .opts = opts, .only_named = true};
    for (size_t i = 0; i < n; i++) {
        const struct tf_point *p = &points[i];
        struct part part = {.point = p, .number = (uint32_t)i};
        bool object = p->kind == TF_POINT_WATCH && p->watch->object;
        int r = 0;
        if (object) {
            part.watched = OBJECT;
            r = add_part(s, part, chosen, err);
            part.watched = VALUE_BESIDES;
            if (p->hit_first || p->hit_last || p->hit_every)
                continue; /* what is counted are the changes of the object */
        }
        if (r == 0)
            r = add_part(s, part, chosen, err);
        if (r)
            return r;
    }
    int r = codes_new(&s->named, t, err);
    if (r)
        return r;
    s->codes = s->named.all;
    for (size_t i = 0; i < s->n; i++) {
        const struct tf_point *p = s->parts[i].point;
        uint64_t whole = whole_from(&s->parts[i]);
        for (size_t k = 0; k < p->codes_n; k++)
            codes_add(&s->named, p->codes[k]);
        s->any_line |= p->kind == TF_POINT_LINE && !p->codes_n;
        s->watches |= p->kind == TF_POINT_WATCH;
        s->raises |= p->kind == TF_POINT_RAISE;
        s->counted |= p->hit_first || p->hit_last || p->hit_every;
        if (whole && (!s->whole_from || whole < s->whole_from))
            s->whole_from = whole;
    }
    s->only_named = !s->any_line && !s->watches && !s->raises;
    return 0;
}

static void search_free(struct search *s)
{
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
    if (data)
        memcpy(b->data + at, data, len);
    else
        memset(b->data + at, 0, len);
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

static int set_masks(struct search *s, uint64_t arm, position end, uint64_t *masks, struct tf_err *err)
{
    struct codes here;
    int r = codes_new(&here, s->t, err);
    if (r)
        return r;
    if (s->any_line || s->watches || (s->raises && s->counted))
        r = running(s->t, arm, end.frame, &here, err);
    for (size_t i = 0; r == 0 && i < s->n; i++) {
        const struct tf_point *p = s->parts[i].point;
        uint64_t bit = 1ul << i;
        for (size_t k = 0; k < p->codes_n; k++)
            if (p->codes[k] < s->codes->n)
                masks[p->codes[k]] |= bit;
        if (p->kind == TF_POINT_WATCH && s->parts[i].watched < OBJECT && p->watch->entry &&
            p->watch->code < s->codes->n)
            masks[p->watch->code] |= bit;
        for (uint32_t id = 1; id < s->codes->n; id++) {
            /* What the interpreter's own modules raise counts where it arrives, if no class was named. */
            if (p->kind == TF_POINT_RAISE && (p->type || !is_frozen(&s->codes->codes[id])))
                masks[id] |= bit;
            if (!codes_has(&here, id))
                continue;
            if (p->kind == TF_POINT_WATCH || (p->kind == TF_POINT_RAISE && s->counted))
                masks[id] |= TF_SCAN_LINES;
            else if (p->kind == TF_POINT_LINE && !p->codes_n && !is_frozen(&s->codes->codes[id]))
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
        r = tf_timeline_running(s->t, ends[i], &a, &depth, err);
        if (r == 0 && a.code < s->codes->n)
            masks[a.code] |= TF_SCAN_LINES;
    }
    return r;
}

/* The least depth of the stack after the events from one to another. */
static int least_depth(struct tf_timeline *t, uint64_t from, uint64_t to, uint32_t *least, struct tf_err *err)
{
    struct tf_frame event;
    tf_cursor_filter(t->cursor, NULL, 0);
    int r = tf_cursor_seek(t->cursor, from ? from : 1, err);
    while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame <= to) {
        uint32_t depth = event.depth - (event.event != TF_CALL && event.event != TF_RESUME);
        if (depth < *least)
            *least = depth;
        r = 0;
    }
    return r < 0 ? r : 0;
}

static int build(struct search *s, uint64_t arm, position from, position end, enum tf_scan_mode mode,
                 struct builder *b, struct tf_err *err)
{
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
        r = tf_timeline_running(s->t, arm, &a, &scan.depth, err);
    if (r == 0)
        r = set_masks(s, arm, end, masks, err);
    scan.least = scan.depth;
    for (size_t i = 0; r == 0 && i < s->n; i++)
        if (s->parts[i].point->on_stack && arm > s->from.frame)
            r = least_depth(s->t, s->from.frame, arm, &scan.least, err);
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
                                    .hit_first = p->hit_first,
                                    .hit_last = p->hit_last,
                                    .hit_every = p->hit_every,
                                    .frame_address = p->frame_address};
        put_expr(b, p->condition, &q->condition, &q->condition_program);
        put_expr(b, p->log, &q->log, NULL);
        q->type = put_text(b, p->type, p->type ? strlen(p->type) : 0);
        if (p->watch && s->parts[i].watched >= OBJECT) {
            q->watch_program = put_text(b, p->watch->place, p->watch->place_len);
            q->object = p->watch->object;
            q->object_type = p->watch->object_type;
            q->births = s->parts[i].watched == BIRTH;
        } else if (p->watch) {
            put_expr(b, p->watch, &q->watch, &q->watch_program);
            q->skip_unset = s->parts[i].watched == VALUE_BESIDES;
            q->module = put_text(b, p->watch->module, strlen(p->watch->module));
            q->entry = p->watch->entry;
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

static int scan_window(struct search *s, uint64_t arm, position from, position end, enum tf_scan_mode mode,
                       struct tf_err *err);

static struct tf_hit public_hit(const struct search *s, const struct tf_scan_hit *h)
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
        if (h->points >> i & 1 && s->parts[i].watched == OBJECT)
            hit.objects |= bit;
    }
    return hit;
}

/* Raises between two events, whose lines were not counted: looks again, with lines. */
static int refine(struct search *s, uint64_t frame, enum tf_scan_mode mode, struct tf_err *err)
{
    position from = {frame, 0}, end = {frame, LINES_END};
    position wide_from = s->from, wide_end = s->end;
    if (compare(before(from), wide_from) < 0)
        from = wide_from;
    else
        from = before(from);
    if (compare(wide_end, end) < 0)
        end = wide_end;
    struct search inner = {.t = s->t, .opts = s->opts, .raises = true, .codes = s->codes, .n = s->n};
    static const struct tf_point nothing = {.kind = TF_POINT_RAISE,
                                            .type = "\1"}; /* no class has this name */
    for (size_t i = 0; i < s->n; i++) {
        inner.parts[i] = s->parts[i];
        if (s->parts[i].point->kind != TF_POINT_RAISE)
            inner.parts[i] = (struct part){.point = &nothing};
    }
    inner.from = (position){frame, 0};
    inner.end = (position){frame, LINES_END};
    inner.limit = s->limit.frame ? s->limit : s->end;
    inner.each = s->each;
    inner.ctx = s->ctx;
    int r = scan_window(&inner, frame ? frame : 1, from, end, mode, err);
    s->late = inner.late;
    if (r == 0 && !inner.hit && !inner.late && mode != TF_SCAN_EACH)
        r = tf_err_set(err, TF_E_DIVERGENCE,
                       "an exception that was raised after frame event %llu was not met again there",
                       (unsigned long long)frame);
    s->last = inner.last;
    s->hit = inner.hit;
    s->stopped = inner.stopped;
    return r;
}

/*
 * Where a raise is told. A line may call functions first and raise then, as in `raise Error(describe())`:
 * behind the exit of the last of them there is no place in the line any more. Then it is told at the next
 * place there is: the first line of the handler, or where the exception leaves the function.
 */
static int place_raise(struct search *s, struct tf_scan_hit *hit, struct tf_err *err)
{
    struct tf_frame event;
    struct tf_activation a;
    struct tf_hit line;
    uint32_t depth;
    bool raise = false;
    for (size_t i = 0; i < s->n; i++)
        raise |= (hit->points >> i & 1) && s->parts[i].point->kind == TF_POINT_RAISE;
    if (!raise || hit->lines || hit->frame >= reach(s->t))
        return 0;
    tf_cursor_filter(s->t->cursor, NULL, 0);
    int r = tf_cursor_seek(s->t->cursor, hit->frame, err);
    if (r == 0)
        r = tf_cursor_next(s->t->cursor, &event, err);
    if (r <= 0 || event.event == TF_CALL || event.event == TF_RESUME)
        return r < 0 ? r : 0;
    if ((r = tf_timeline_running(s->t, hit->frame, &a, &depth, err)) || !depth)
        return r;
    struct tf_point next = {.kind = TF_POINT_LINE, .codes = &a.code, .codes_n = 1};
    struct tf_search_opts opts = {.cancel = s->opts->cancel};
    r = tf_search_forward(s->t, (position){hit->frame, 0}, (position){hit->frame, LINES_END}, &next, 1, &line,
                          &opts, err);
    if (r < 0)
        return r;
    if (r)
        hit->lines = line.position.lines;
    else
        hit->frame++;
    return 0;
}

static int on_scan(void *ctx, const struct tf_message *m, struct tf_err *err)
{
    struct search *s = ctx;
    if (m->op == TF_REP_PROGRESS && m->len == 8 && s->opts->progress) {
        uint64_t frame;
        memcpy(&frame, m->data, 8);
        double span = (double)(s->last_event - s->first_event) + 1;
        double done = frame > s->first_event ? (double)(frame - s->first_event) / span : 0;
        s->opts->progress(s->opts->ctx, done > 1 ? 1 : done);
    } else if (m->op == TF_REP_LOG && m->len >= sizeof(struct tf_scan_log) && s->opts->on_log) {
        struct tf_scan_log head;
        memcpy(&head, m->data, sizeof head);
        s->opts->on_log(s->opts->ctx, head.point < s->n ? s->parts[head.point].number : 0,
                        (position){head.frame, head.lines}, (const char *)m->data + sizeof head,
                        m->len - sizeof head, head.failed != 0);
    } else if (m->op == TF_REP_HIT && m->len == sizeof s->last) {
        memcpy(&s->last, m->data, sizeof s->last);
        s->hit = true;
        if (!s->each)
            return 0;
        if (s->last.lines == LINES_END) {
            if (s->refined == s->last.frame)
                return 0;
            s->refined = s->last.frame;
            int r = refine(s, s->last.frame, TF_SCAN_EACH, err);
            return r ? r : s->stopped;
        }
        int r = place_raise(s, &s->last, err);
        if (r)
            return r;
        struct tf_hit hit = public_hit(s, &s->last);
        s->stopped = s->each(s->ctx, &hit);
        return s->stopped;
    }
    return 0;
}

/* Scans behind event `arm`: for hits behind `from`, up to `end`. s->hit, s->last. */
static int scan_window(struct search *s, uint64_t arm, position from, position end, enum tf_scan_mode mode,
                       struct tf_err *err)
{
    struct tf_timeline *t = s->t;
    struct builder b = {0};
    struct tf_runner runner;
    struct tf_checkpoint checkpoint;
    struct tf_stop_rep rep;
    struct tf_stop_req stop = {.frame = arm, .kind = TF_STOP_SCAN};

    s->hit = false;
    s->late = 0;
    int r = build(s, arm, from, end, mode, &b, err);
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
    t->message = (struct tf_message){0};
    t->scan = (const struct tf_scan *)b.data;
    t->on_scan = on_scan;
    t->scan_ctx = s;
    if (s->opts->cancel)
        t->cancel = s->opts->cancel;
    r = tf_run_start(t, &stop, arm, &runner, &checkpoint, err);
    if (r == 0) {
        struct tf_place at = {0};
        r = tf_run_until_stop(t, &runner, arm, &rep, &at, err);
        if (r == 0)
            r = tf_run_check_prefix(t, &rep, err);
        s->diverged = at.frame > arm && at.frame < end.frame ? at.frame : arm + (end.frame - arm) / 2;
        tf_runner_end(&runner);
    }
    free(t->message.data);
    t->message = outer_message;
    t->scan = outer_scan;
    t->on_scan = outer_fn;
    t->scan_ctx = outer_ctx;
    t->cancel = outer_cancel;
    free(b.data);
    if (r && s->stopped && r == s->stopped) /* each() wanted no more */
        r = 0;
    if (r || !s->hit || mode == TF_SCAN_EACH)
        return r;
    if (s->last.lines == LINES_END) /* which says where it is told, too */
        return refine(s, s->last.frame, mode, err);
    uint64_t raised = s->last.frame;
    position limit = s->limit.frame ? s->limit : s->end;
    r = place_raise(s, &s->last, err);
    if (r == 0 &&
        compare((position){s->last.frame, s->last.lines}, limit) > 0) { /* too late for this search */
        s->hit = false;
        s->late = raised;
    }
    return r;
}

/* ---- what the index tells ---- */

/* Calls of these functions: the first behind `from` (forward) or the last before it. 1, 0 or an error. */
static int indexed_call(struct search *s, position from, position limit, bool backward,
                        struct tf_scan_hit *hit, struct tf_err *err)
{
    struct tf_timeline *t = s->t;
    struct codes calls;
    struct tf_frame event;
    uint64_t found = 0;
    bool any = false;
    int r = codes_new(&calls, t, err);
    if (r)
        return r;
    for (size_t i = 0; i < s->n; i++)
        if (s->parts[i].point->kind == TF_POINT_CALL && !s->parts[i].point->condition &&
            !s->parts[i].point->log && !s->parts[i].point->frame_address)
            for (size_t k = 0; k < s->parts[i].point->codes_n; k++, any = true)
                codes_add(&calls, s->parts[i].point->codes[k]);
    if (!any || s->counted)
        goto out;
    tf_cursor_filter(t->cursor, calls.bits, s->codes->n);
    if (!backward) {
        r = tf_cursor_seek(t->cursor, from.frame + 1, err);
        while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0) {
            r = 0;
            if (event.frame > limit.frame)
                break;
            if (event.event == TF_CALL) {
                found = event.frame;
                break;
            }
        }
    } else {
        /* Back in steps that grow: blocks without such a function cost nothing. */
        uint64_t hi = from.lines ? from.frame : from.frame - 1, step = 4096;
        while (r == 0 && !found && hi >= 1 && hi >= limit.frame) {
            uint64_t lo = hi > step ? hi - step : 1;
            if (lo < limit.frame)
                lo = limit.frame;
            if (lo < 1)
                lo = 1;
            r = tf_cursor_seek(t->cursor, lo, err);
            while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0 && event.frame <= hi) {
                if (event.event == TF_CALL)
                    found = event.frame;
                r = 0;
            }
            if (r > 0)
                r = 0;
            if (lo == 1)
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
                if (s->parts[i].point->kind == TF_POINT_CALL && !s->parts[i].point->condition &&
                    !s->parts[i].point->log && s->parts[i].point->codes[k] == event.code)
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
static bool needs_scan(const struct search *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->parts[i].point->kind != TF_POINT_CALL || s->parts[i].point->condition ||
            s->parts[i].point->log || s->parts[i].point->frame_address || s->counted)
            return true;
    return false;
}

static bool asks_at_calls(const struct search *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->parts[i].point->kind == TF_POINT_CALL && s->parts[i].point->condition)
            return true;
    return false;
}

/* ---- watches: the line that changed it ---- */

/* The line began before the scan: finds it. */
static int find_line(struct search *s, struct tf_hit *hit, struct tf_err *err)
{
    struct tf_activation a;
    struct tf_search_opts opts = {.cancel = s->opts->cancel};
    struct tf_hit line;
    uint32_t depth;
    position at = hit->position;
    uint64_t event = at.lines ? at.frame : at.frame - 1;
    if (hit->before.frame || event < 1)
        return 0;
    int r = tf_timeline_running(s->t, event, &a, &depth, err);
    if (r || !depth)
        return r;
    struct tf_point point = {.kind = TF_POINT_LINE, .codes = &a.code, .codes_n = 1, .depth = depth};
    r = tf_search_backward(s->t, at, (position){a.entry, 0}, &point, 1, &line, &opts, err);
    if (r >= 0)
        hit->before = r ? line.position : (position){a.entry, 0};
    return r < 0 ? r : 0;
}

static int finish_hit(struct search *s, const struct tf_scan_hit *found, struct tf_hit *hit,
                      struct tf_err *err)
{
    *hit = public_hit(s, found);
    for (size_t i = 0; i < s->n; i++)
        if (hit->points >> s->parts[i].number & 1 && s->parts[i].point->kind == TF_POINT_WATCH) {
            int r = find_line(s, hit, err);
            return r ? r : 1;
        }
    return 1;
}

/* ---- searching ---- */

/* Where a scan may begin: the last checkpoint at or before an event. */
static uint64_t checkpoint_before(const struct tf_timeline *t, uint64_t frame)
{
    uint64_t best = 1;
    for (size_t i = 0; i < t->n; i++)
        if (t->checkpoints[i].frame <= frame && t->checkpoints[i].frame > best)
            best = t->checkpoints[i].frame;
    return best;
}

/*
 * Watching is not without any trace (see docs/limitations.md), and a scan may part from the recording on its
 * way. Every scan begins exactly, though: a shorter one, that begins later or ends earlier, is free of what
 * the longer one had gathered. Only what has to be scanned in one piece cannot be helped.
 */
static bool may_split(const struct search *s, int r, uint64_t arm, position end)
{
    return r == TF_E_DIVERGENCE && end.frame > arm + 1 && s->diverged > arm;
}

static int forward(struct search *s, struct tf_scan_hit *found, struct tf_err *err)
{
    uint64_t arm = s->from.frame > 1 ? s->from.frame : 1, near = NEAR_EVENTS, cut = 0;
    if (s->whole_from) {
        int r = scan_window(s, s->whole_from, s->from, s->end, TF_SCAN_FIRST, err);
        *found = s->last;
        return r ? r : s->hit;
    }
    for (;;) {
        position end = s->end;
        bool last = true;
        if (s->any_line && s->end.frame > arm + near) {
            end = (position){arm + near, 0};
            last = false;
        }
        if (cut && cut < end.frame) {
            end = (position){cut, 0};
            last = false;
        }
        int r = 1;
        if (s->only_named)
            r = may_run(s->t, &s->named, arm, end.frame, err);
        if (r > 0)
            r = scan_window(s, arm, s->from, end, TF_SCAN_FIRST, err);
        if (may_split(s, r, arm, end)) {
            cut = arm + (s->diverged - arm + 1) / 2;
            continue;
        }
        cut = 0;
        if (r < 0)
            return r;
        if (s->hit) {
            *found = s->last;
            return 1;
        }
        if (last)
            return 0;
        arm = end.frame;
        near = near * NEAR_GROWS < COUNTED_EVENTS ? near * NEAR_GROWS : COUNTED_EVENTS;
    }
}

static int backward(struct search *s, struct tf_scan_hit *found, struct tf_err *err)
{
    /* s->from: hits behind it count; s->end: up to it. */
    position end = s->end;
    uint64_t near = NEAR_EVENTS, low = s->from.lines == LINES_END ? s->from.frame + 1 : s->from.frame;
    if (s->whole_from) {
        if (s->end.frame < s->whole_from) /* before the generator was called */
            return 0;
        int r = scan_window(s, s->whole_from, s->from, s->end, TF_SCAN_LAST, err);
        *found = s->last;
        return r ? r : s->hit;
    }
    if (low < 1)
        low = 1;
    uint64_t cut = 0;
    for (;;) {
        uint64_t arm = checkpoint_before(s->t, end.lines ? end.frame : end.frame - 1);
        if (s->any_line && end.frame > near && arm < end.frame - near)
            arm = end.frame - near;
        if (arm < low)
            arm = low;
        if (arm < cut)
            arm = cut;
        s->hit = false;
        int r = 1;
        if (s->only_named)
            r = may_run(s->t, &s->named, arm, end.frame, err);
        if (r > 0)
            r = scan_window(s, arm, s->from, end, TF_SCAN_LAST, err);
        if (may_split(s, r, arm, end)) {
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
            end = before((position){s->late, 0});
            continue;
        }
        if (arm <= low)
            return 0;
        end = (position){arm, 0};
        near *= NEAR_GROWS;
        if (s->opts->progress)
            s->opts->progress(s->opts->ctx,
                              (double)(s->last_event - arm) / (double)(s->last_event - s->first_event + 1));
    }
}

/* All hits, in order. */
static int each(struct search *s, uint64_t arm, position from, position end, struct tf_err *err)
{
    for (;;) {
        int r = scan_window(s, arm, from, end, TF_SCAN_EACH, err);
        if (s->whole_from || s->stopped || !may_split(s, r, arm, end))
            return r;
        arm = s->diverged; /* up to there it has told its hits */
        from = (position){arm, 0};
    }
}

static int forward_part(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                        size_t n, enum chosen chosen, struct tf_hit *hit, const struct tf_search_opts *opts,
                        struct tf_err *err)
{
    struct search s;
    struct tf_scan_hit by_index = {0}, by_scan = {0};
    int r = search_init(&s, t, points, n, chosen, opts, err), indexed = 0, scanned = 0;
    if (r || !s.n)
        goto out;
    s.from = from;
    s.end = limit;
    if ((r = indexed = indexed_call(&s, from, s.end, false, &by_index, err)) < 0)
        goto out;
    if (indexed) /* with what is met when that function starts, too */
        s.end = (position){by_index.frame, asks_at_calls(&s) ? LINES_END : 0};
    s.first_event = from.frame;
    s.last_event = s.end.frame;
    if (compare(s.from, s.end) < 0 && needs_scan(&s) && (r = scanned = forward(&s, &by_scan, err)) < 0)
        goto out;
    if (scanned && indexed && by_scan.frame == by_index.frame && by_scan.lines)
        scanned = 0; /* behind the call */
    r = 0;
    if (scanned && indexed && by_scan.frame == by_index.frame)
        by_scan.points |= by_index.points;
    if (scanned || indexed)
        r = finish_hit(&s, scanned ? &by_scan : &by_index, hit, err);
out:
    search_free(&s);
    return r;
}

/* Two hits, either of which may be none: the nearer one. */
static int nearer(int a_found, const struct tf_hit *a, int b_found, const struct tf_hit *b, bool backward,
                  struct tf_hit *out)
{
    if (!a_found && !b_found)
        return 0;
    int order = !a_found ? 1 : !b_found ? -1 : compare(a->position, b->position) * (backward ? -1 : 1);
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
    struct search s;
    int r = search_init(&s, t, points, n, LOGS, opts, err);
    s.from = from;
    s.end = to;
    uint64_t arm = s.whole_from ? s.whole_from : from.frame > 1 ? from.frame : 1;
    if (r == 0 && s.n && compare(from, to) < 0)
        r = each(&s, arm, from, to, err);
    search_free(&s);
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
    struct search s;
    position end = before(from), low = to.frame ? before(to) : (position){0, 0};
    int r = search_init(&s, t, points, n, LOGS, &keeping, err);
    while (r == 0 && s.n && end.frame >= 1 && compare(low, end) < 0) {
        uint64_t arm = checkpoint_before(t, end.lines ? end.frame : end.frame - 1);
        if (arm < low.frame)
            arm = low.frame;
        if (s.whole_from || arm < 1)
            arm = 1;
        s.from = arm == 1 || arm <= low.frame ? low : before((position){arm, 0});
        s.end = end;
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
    search_free(&s);
    return r;
}

int tf_search_forward(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                      size_t n, struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err)
{
    struct tf_hit whole = {0}, window = {0};
    position end = limit.frame && limit.frame <= reach(t) ? limit : (position){reach(t), LINES_END};
    int a = forward_part(t, from, end, points, n, IN_ONE_PIECE, &whole, opts, err);
    if (a < 0)
        return a;
    int b = forward_part(t, from, a ? whole.position : end, points, n, IN_WINDOWS, &window, opts, err);
    if (b < 0)
        return b;
    int found = nearer(a, &whole, b, &window, false, hit);
    int r = log_forward(t, from, found ? hit->position : end, points, n, opts, err);
    return r ? r : found;
}

static int backward_part(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                         size_t n, enum chosen chosen, struct tf_hit *hit, const struct tf_search_opts *opts,
                         struct tf_err *err)
{
    struct search s;
    struct tf_scan_hit by_index = {0}, by_scan = {0};
    int r = search_init(&s, t, points, n, chosen, opts, err), indexed = 0, scanned = 0;
    if (r || !s.n)
        goto out;
    s.backward = true;
    s.end = before(from);
    s.from = limit.frame ? before(limit) : (position){0, 0};
    if ((r = indexed = indexed_call(&s, from, limit, true, &by_index, err)) < 0)
        goto out;
    if (indexed)
        s.from = before((position){by_index.frame, 0}); /* at the same place others may be met, too */
    s.first_event = s.from.frame;
    s.last_event = s.end.frame;
    if (compare(s.from, s.end) < 0 && s.end.frame >= 1 && needs_scan(&s) &&
        (r = scanned = backward(&s, &by_scan, err)) < 0)
        goto out;
    r = 0;
    if (scanned && indexed && by_scan.frame == by_index.frame && by_scan.lines == 0)
        by_scan.points |= by_index.points;
    if (scanned || indexed)
        r = finish_hit(&s, scanned ? &by_scan : &by_index, hit, err);
out:
    search_free(&s);
    return r;
}

int tf_search_backward(struct tf_timeline *t, position from, position limit, const struct tf_point *points,
                       size_t n, struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err)
{
    struct tf_hit whole = {0}, window = {0};
    if (from.frame > reach(t))
        from = (position){reach(t), LINES_END};
    int a = backward_part(t, from, limit, points, n, IN_ONE_PIECE, &whole, opts, err);
    if (a < 0)
        return a;
    int b = backward_part(t, from, a ? whole.position : limit, points, n, IN_WINDOWS, &window, opts, err);
    if (b < 0)
        return b;
    int found = nearer(a, &whole, b, &window, true, hit);
    int r = log_backward(t, from, found ? hit->position : limit, points, n, opts, err);
    return r ? r : found;
}

/* Objects that were there before may have had the same address: the event at which those that are watched
 * came to be, the latest of all. 0: from the start of the run on. */
static int births(struct tf_timeline *t, const struct tf_point *points, size_t n, uint64_t *from,
                  const struct tf_search_opts *opts, struct tf_err *err)
{
    *from = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tf_expr *e = points[i].watch;
        struct search s;
        struct tf_scan_hit birth;
        if (points[i].kind != TF_POINT_WATCH || !e->object)
            continue;
        struct tf_point point = {.kind = TF_POINT_WATCH, .watch = e};
        int r = search_init(&s, t, &point, 1, IN_WINDOWS, opts, err);
        s.n = 1;
        s.parts[0] = (struct part){.point = &point, .watched = BIRTH};
        s.whole_from = 0;
        s.backward = true;
        s.end = e->prepared;
        s.last_event = s.end.frame;
        if (r == 0)
            r = backward(&s, &birth, err);
        search_free(&s);
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
    struct search s;
    uint64_t born;
    int r = births(t, points, n, &born, opts, err);
    if (r)
        return r;
    if (born && compare(from, before((position){born, 0})) < 0)
        from = before((position){born, 0});
    r = search_init(&s, t, points, n, ALL, opts, err);
    if (r == 0) {
        s.from = from;
        s.end = to.frame ? to : (position){reach(t), LINES_END};
        if (s.end.frame > reach(t))
            s.end = (position){reach(t), LINES_END};
        s.first_event = from.frame;
        s.last_event = s.end.frame;
        s.each = fn;
        s.ctx = ctx;
        uint64_t arm = s.whole_from ? s.whole_from : from.frame > 1 ? from.frame : 1;
        if (compare(from, s.end) < 0)
            r = each(&s, arm, from, s.end, err);
        if (s.stopped > 0)
            r = 0;
    }
    search_free(&s);
    return r;
}
