/* move.c: see move.h. */
#include <stdlib.h>
#include <string.h>
#include "replay/move.h"
#include "replay/timeline_private.h"

typedef struct tf_position position;

/* The stack of the thread at the present, outermost first: with the function that is about to leave, if it
 * is.
 */
struct stack {
    struct tf_activation *v;
    size_t n;
    uint32_t thread;
    struct tf_frame event; /* the thread's last */
};

static uint32_t thread_of(const struct tf_stop *here, const struct tf_move_req *req)
{
    return req->thread ? req->thread - 1 : here->frame.thread;
}

static int stack_here(struct tf_timeline *t, const struct tf_stop *here, const struct tf_move_req *req,
                      struct stack *s, struct tf_err *err)
{
    s->thread = thread_of(here, req);
    int r = tf_thread_stack(t, s->thread, here->position, &s->v, &s->n, &s->event, err);
    return r < 0 ? r : 0;
}

/* Is the innermost function about to leave? */
static bool is_leaving(const struct tf_stop *here, const struct stack *s)
{
    return here->position.lines == 0 && here->frame.thread == s->thread && tf_is_exit(here->frame.event);
}

/* The event with which the function at this depth of a thread's stack leaves, from `frame` on; 0: it never
 * does.
 */
static int leaves(struct tf_timeline *t, uint64_t frame, uint32_t thread, uint32_t depth, uint64_t *out,
                  struct tf_err *err)
{
    struct tf_frame event;
    *out = 0;
    int r = tf_cursor_seek(t->cursor, frame, err);
    while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0) {
        if (event.depth == depth && event.thread == thread && tf_is_exit(event.event)) {
            *out = event.frame;
            return 0;
        }
        r = 0;
    }
    return r;
}

/* The moves' own point stands behind the user's. */
struct points {
    struct tf_point v[TF_POINTS_MAX];
    size_t n;
    uint64_t own;
};

static int with_points(const struct tf_move_req *req, const struct tf_point *own, struct points *p,
                       struct tf_err *err)
{
    if (req->points_n + 1 > TF_POINTS_MAX)
        return tf_err_set(err, TF_E_USAGE, "at most %d breakpoints can be enabled while stepping",
                          TF_POINTS_MAX - 1);
    p->n = req->points_n;
    if (p->n)
        memcpy(p->v, req->points, p->n * sizeof *p->v);
    p->own = 0;
    if (own) {
        p->own = 1ul << p->n;
        p->v[p->n++] = *own;
    }
    return 0;
}

static int at_start(struct tf_timeline *t, uint32_t thread, struct tf_hit *hit, struct tf_err *err)
{
    struct tf_frame first;
    *hit = (struct tf_hit){.position = {tf_timeline_first(t), 0}};
    int r = thread ? tf_thread_next(t, thread, 0, &first, err) : 0;
    if (r > 0) {
        hit->position.frame = first.frame;
        hit->thread_ends = true;
    }
    return r < 0 ? r : 0;
}

int tf_move_end(struct tf_timeline *t, position *out, const struct tf_search_opts *opts, struct tf_err *err)
{
    struct tf_activation ran;
    struct tf_hit last;
    uint32_t depth = 0;
    *out = (position){tf_timeline_reach(t, NULL), 0};
    /* One that was killed from outside may have been anywhere: how many lines ran is not known. */
    if (!t->ended || t->why || out->frame == 0)
        return 0;
    if (t->end.frame == 0) {
        struct tf_point line = {.kind = TF_POINT_LINE};
        int r = tf_timeline_running(t, out->frame, &ran, &depth, NULL, err);
        if (r == 0 && depth)
            r = tf_search_backward(t, (position){out->frame + 1, 0}, *out, &line, 1, &last, opts, err);
        if (r < 0)
            return r;
        t->end = r && last.position.frame == out->frame ? last.position : *out;
    }
    *out = t->end;
    return 0;
}

/* Nothing comes any more: of the run, or of this thread. */
static int at_end(struct tf_timeline *t, uint32_t thread, struct tf_hit *hit,
                  const struct tf_search_opts *opts, struct tf_err *err)
{
    struct tf_frame last;
    uint64_t reach = tf_timeline_reach(t, NULL);
    *hit = (struct tf_hit){0};
    int r = tf_thread_last(t, thread, reach, &last, err);
    if (r > 0 && last.frame < reach) {
        hit->position.frame = last.frame;
        /* What follows it is the switch to another thread: that it stands in a call is said by a line. */
        hit->thread_ends = true;
        return 0;
    }
    return r < 0 ? r : tf_move_end(t, &hit->position, opts, err);
}

/* The thread of the last event that can be visited. */
static uint32_t last_thread(struct tf_timeline *t)
{
    struct tf_frame last;
    tf_cursor_filter(t->cursor, NULL, 0);
    return tf_cursor_seek(t->cursor, tf_timeline_reach(t, NULL), NULL) == 0 &&
                   tf_cursor_next(t->cursor, &last, NULL) > 0
               ? last.thread
               : 0;
}

static int found(struct tf_hit *hit, const struct points *p)
{
    hit->points &= ~p->own;
    hit->failed &= ~p->own;
    return 1;
}

static int step(struct tf_timeline *t, const struct tf_stop *here, const struct tf_move_req *req,
                struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err)
{
    uint32_t thread = thread_of(here, req);
    struct tf_point line = {.kind = TF_POINT_LINE, .thread = req->any_thread ? 0 : thread + 1};
    struct points p;
    int r = with_points(req, &line, &p, err);
    if (r == 0)
        r = req->reverse ? tf_search_backward(t, here->position, (position){0}, p.v, p.n, hit, opts, err)
                         : tf_search_forward(t, here->position, (position){0}, p.v, p.n, hit, opts, err);
    if (r < 0)
        return r;
    if (r)
        return found(hit, &p);
    if (req->any_thread)
        thread = req->reverse ? 0 : t->threads_n ? last_thread(t) : 0;
    return req->reverse ? at_start(t, thread, hit, err) : at_end(t, thread, hit, opts, err);
}

/* What is thrown into a generator that waits for another one goes to the inner one first; when it has left
 * that, the outer one goes on, which was not on the stack. 1 and its event when that comes next, 0, or an
 * error. */
static int goes_on(struct tf_timeline *t, const struct tf_stop *here, const struct stack *s,
                   struct tf_frame *event, struct tf_err *err)
{
    if (!is_leaving(here, s) || here->frame.event != TF_UNWIND ||
        here->position.frame >= tf_timeline_reach(t, NULL))
        return 0;
    int r = tf_thread_next(t, s->thread, here->position.frame, event, err);
    while (r > 0 && event->event == TF_SWITCH)
        r = tf_thread_next(t, s->thread, event->frame, event, err);
    return r <= 0 ? r : event->event == TF_RESUME && event->depth == here->frame.depth;
}

/* Forward: the next line of a function that has been on the stack all the time. */
static int next(struct tf_timeline *t, const struct tf_stop *here, const struct tf_move_req *req,
                const struct stack *s, struct tf_hit *hit, const struct tf_search_opts *opts,
                struct tf_err *err)
{
    size_t n = s->n - req->frame, shown = 0;
    const struct tf_codes *all = tf_timeline_codes(t, err);
    uint32_t *codes = all ? malloc((n + 1) * sizeof *codes) : NULL;
    struct points p;
    if (!codes)
        return all ? tf_err_set(err, TF_E_IO, "out of memory") : err->code;
    for (size_t i = 0; i < n; i++)
        if (!tf_timeline_is_frozen(t, s->v[i].code))
            codes[shown++] = s->v[i].code;
    struct tf_point line = {.kind = TF_POINT_LINE,
                            .codes = codes,
                            .codes_n = shown,
                            .depth = (uint32_t)n,
                            .thread = s->thread + 1,
                            .on_stack = true};
    int r = with_points(req, shown ? &line : NULL, &p, err);
    /* What is thrown into a generator that waits for another one goes to the inner one first; when it has
     * left that, the outer one goes on, which was not on the stack. */
    struct tf_frame after;
    if (r == 0 && req->frame == 0 && (r = goes_on(t, here, s, &after, err)) > 0 && p.n < TF_POINTS_MAX) {
        p.own |= 1ul << p.n;
        p.v[p.n++] = (struct tf_point){.kind = TF_POINT_LINE,
                                       .codes = &after.code,
                                       .codes_n = 1,
                                       .depth = after.depth,
                                       .thread = s->thread + 1};
    }
    r = r < 0 ? r : 0;
    if (r == 0 && p.n)
        r = tf_search_forward(t, here->position, (position){0}, p.v, p.n, hit, opts, err);
    free(codes);
    return r < 0 ? r : r ? found(hit, &p) : at_end(t, s->thread, hit, opts, err);
}

/* Backward: the line before, of the same function, or else of the one that called it. Between the call of a
 * function and the present nothing else stands at its depth. first: how many functions of the stack are left
 * out. */
static int line_before(struct tf_timeline *t, const struct tf_stop *here, const struct tf_move_req *req,
                       const struct stack *s, size_t first, struct tf_hit *hit,
                       const struct tf_search_opts *opts, struct tf_err *err)
{
    position from = here->position;
    const struct tf_codes *all = tf_timeline_codes(t, err);
    if (!all)
        return err->code;
    for (size_t i = 0; i < s->n; i++) {
        const struct tf_activation *a = &s->v[s->n - 1 - i];
        struct tf_point line = {.kind = TF_POINT_LINE,
                                .codes = &a->code,
                                .codes_n = 1,
                                .depth = (uint32_t)(s->n - i),
                                .thread = s->thread + 1};
        struct points p;
        /* Of functions without a source, only the present one is gone through. */
        bool stops = i >= first && (!tf_timeline_is_frozen(t, a->code) || (i == 0 && first == 0));
        int r = with_points(req, stops ? &line : NULL, &p, err);
        if (r)
            return r;
        r = p.n ? tf_search_backward(t, from, (position){a->entry, 0}, p.v, p.n, hit, opts, err) : 0;
        if (r < 0)
            return r;
        if (r)
            return found(hit, &p);
        from = (position){a->entry, 0};
    }
    return at_start(t, s->thread, hit, err);
}

static int finish(struct tf_timeline *t, const struct tf_stop *here, const struct tf_move_req *req,
                  const struct stack *s, struct tf_hit *hit, const struct tf_search_opts *opts,
                  struct tf_err *err)
{
    size_t depth = s->n - req->frame;
    uint64_t exit;
    struct points p;
    /* At the end of the function already: its caller's end is meant. */
    bool leaving = req->frame == 0 && is_leaving(here, s);
    struct tf_frame after;
    int r = leaving ? goes_on(t, here, s, &after, err) : 0;
    if (r < 0)
        return r;
    if (leaving && r == 0)
        depth--;
    if (!depth)
        return at_end(t, s->thread, hit, opts, err);
    uint64_t from = here->position.frame + (here->position.lines || leaving ? 1 : 0);
    r = leaves(t, from, s->thread, (uint32_t)depth, &exit, err);
    if (r == 0)
        r = with_points(req, NULL, &p, err);
    if (r)
        return r;
    bool ends = !exit || exit > tf_timeline_reach(t, NULL);
    if (p.n) {
        r = tf_search_forward(t, here->position, ends ? (position){0} : (position){exit, 0}, p.v, p.n, hit,
                              opts, err);
        if (r)
            return r < 0 ? r : found(hit, &p);
    }
    if (ends)
        return at_end(t, s->thread, hit, opts, err);
    *hit = (struct tf_hit){.position = {exit, 0}};
    return 1;
}

struct line_of {
    uint32_t number, frame, line;
};

static int on_frame(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    struct line_of *l = ctx;
    if (type == TF_ITEM_FRAME && len >= 4 && l->number++ == l->frame)
        memcpy(&l->line, data, 4);
    return 0;
}

static int until(struct tf_timeline *t, const struct tf_stop *here, const struct tf_move_req *req,
                 const struct stack *s, struct tf_hit *hit, const struct tf_search_opts *opts,
                 struct tf_err *err)
{
    size_t depth = s->n - req->frame;
    const struct tf_activation *a = &s->v[depth - 1];
    struct line_of at = {.frame = req->frame};
    struct tf_inspect_req stack = {.what = TF_INSPECT_STACK, .thread = s->thread + 1};
    uint64_t exit;
    struct points p;
    int r = req->line ? 0 : tf_timeline_inspect(t, &stack, NULL, 5000, on_frame, &at, err);
    if (r)
        return r;
    struct tf_point line = {.kind = TF_POINT_LINE,
                            .codes = &a->code,
                            .codes_n = 1,
                            .first_line = req->line ? req->line : at.line + 1,
                            .last_line = INT32_MAX,
                            .depth = (uint32_t)depth,
                            .thread = s->thread + 1};
    bool leaving = req->frame == 0 && is_leaving(here, s);
    if (leaving) /* there is no line left in it */
        return next(t, here, req, s, hit, opts, err);
    r = leaves(t, here->position.frame + (here->position.lines ? 1 : 0), s->thread, (uint32_t)depth, &exit,
               err);
    if (r == 0)
        r = with_points(req, &line, &p, err);
    if (r)
        return r;
    bool ends = !exit || exit > tf_timeline_reach(t, NULL);
    r = tf_search_forward(t, here->position, ends ? (position){0} : (position){exit, 0}, p.v, p.n, hit, opts,
                          err);
    if (r)
        return r < 0 ? r : found(hit, &p);
    if (ends)
        return at_end(t, s->thread, hit, opts, err);
    *hit = (struct tf_hit){.position = {exit, 0}};
    return 1;
}

int tf_move(struct tf_timeline *t, const struct tf_stop *here, const struct tf_move_req *req,
            struct tf_hit *hit, const struct tf_search_opts *opts, struct tf_err *err)
{
    struct stack s = {0};
    *hit = (struct tf_hit){0};
    if (req->what == TF_MOVE_STEP)
        return step(t, here, req, hit, opts, err);
    int r = stack_here(t, here, req, &s, err);
    if (r == 0 && s.n == 0 && !req->reverse && req->what == TF_MOVE_NEXT) /* a thread that begins */
        r = step(t, here, req, hit, opts, err);
    else if (r == 0 && s.n == 0)
        r = req->reverse ? at_start(t, s.thread, hit, err) : at_end(t, s.thread, hit, opts, err);
    else if (r == 0 && req->frame >= s.n)
        r = tf_err_set(err, TF_E_USAGE, "there is no function number %u on the stack", req->frame);
    else if (r == 0 && req->reverse)
        r = line_before(t, here, req, &s, req->frame + (req->what == TF_MOVE_FINISH), hit, opts, err);
    else if (r == 0)
        r = req->what == TF_MOVE_NEXT     ? next(t, here, req, &s, hit, opts, err)
            : req->what == TF_MOVE_FINISH ? finish(t, here, req, &s, hit, opts, err)
                                          : until(t, here, req, &s, hit, opts, err);
    free(s.v);
    return r;
}

/* The first call of a function that is not of the standard library or an installed package. */
static int first_own_call(struct tf_timeline *t, uint64_t *frame, struct tf_err *err)
{
    const struct tf_codes *all = tf_timeline_codes(t, err);
    struct tf_frame event;
    uint8_t *bits = all ? calloc(1, all->n / 8 + 1) : NULL;
    if (!bits)
        return all ? tf_err_set(err, TF_E_IO, "out of memory") : err->code;
    for (uint32_t id = 1; id < all->n; id++)
        if (!all->codes[id].library)
            bits[id >> 3] |= (uint8_t)(1u << (id & 7));
    tf_cursor_filter(t->cursor, bits, all->n);
    int r = tf_cursor_seek(t->cursor, 1, err);
    if (r == 0)
        r = tf_cursor_next(t->cursor, &event, err);
    *frame = r > 0 && event.frame <= tf_timeline_reach(t, NULL) ? event.frame : tf_timeline_first(t);
    tf_cursor_filter(t->cursor, NULL, 0);
    free(bits);
    return r < 0 ? r : 0;
}

static int opening_at_start(struct tf_timeline *t, position *out, struct tf_err *err)
{
    uint64_t frame;
    int r = first_own_call(t, &frame, err);
    *out = (position){r ? tf_timeline_first(t) : frame, 0};
    return r;
}

/* The events behind `from`, for looking backward. */
struct events {
    struct tf_frame *v;
    size_t n;
};

static int load_events(struct tf_timeline *t, uint64_t from, uint64_t last, struct events *e,
                       struct tf_err *err)
{
    e->n = 0;
    e->v = malloc((last - from + 1) * sizeof *e->v);
    if (!e->v)
        return tf_err_set(err, TF_E_IO, "out of memory");
    int r = tf_cursor_seek(t->cursor, from, err);
    while (r == 0 && e->n <= last - from && (r = tf_cursor_next(t->cursor, &e->v[e->n], err)) > 0) {
        e->n++;
        r = 0;
    }
    return r < 0 ? r : 0;
}

/* Keeps the events of the thread that has number `at`, which becomes its new number. Each thread has a stack
 * of its own. */
static void keep_thread(struct events *e, size_t *at)
{
    uint32_t thread = e->v[*at].thread;
    size_t kept = 0, place = *at;
    for (size_t i = 0; i < e->n; i++) {
        if (e->v[i].thread != thread || e->v[i].event == TF_SWITCH)
            continue;
        if (i == place)
            *at = kept;
        e->v[kept++] = e->v[i];
    }
    e->n = kept;
}

/* The exits by exception through which the one that is event number `top` may have come, the innermost last:
 * of each function, the last call of its own that an exception left. What __exit__ and finally call lies in
 * between. */
static size_t unwindings(const struct events *e, size_t top, size_t *chain, size_t room)
{
    size_t n = 0, at = top;
    chain[n++] = top;
    while (n < room && at > 0) {
        uint32_t depth = e->v[at].depth;
        size_t i = at;
        while (i > 0 && e->v[i - 1].depth > depth &&
               !(e->v[i - 1].depth == depth + 1 && e->v[i - 1].event == TF_UNWIND))
            i--;
        if (i == 0 || e->v[i - 1].depth <= depth)
            break;
        at = i - 1;
        chain[n++] = at;
    }
    return n;
}

static int on_id(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    size_t name = strnlen((const char *)data, len);
    if (type == TF_ITEM_VALUE && name < len)
        *(uint64_t *)ctx = strtoull((const char *)data + name + 1, NULL, 10);
    return 0;
}

/* The exception that leaves there: its identity. 0: not known (3.11 does not always tell). */
static int exception_at(struct tf_timeline *t, uint64_t frame, uint64_t *id, struct tf_err *err)
{
    struct tf_stop stop;
    struct tf_inspect_req req = {.what = TF_INSPECT_EVAL};
    *id = 0;
    int r = tf_timeline_goto(t, (position){frame, 0}, &stop, err);
    return r ? r : tf_timeline_inspect(t, &req, "id(__exception__)", 5000, on_id, id, err);
}

/* What the interpreter runs as the program: the module, or what runs it for `-m`. */
static bool is_program(const struct tf_codes *codes, uint32_t code)
{
    const char *name = code < codes->n ? codes->codes[code].qualname : "";
    return strcmp(name, "<module>") == 0 || strcmp(name, "_run_module_as_main") == 0;
}

#define CHAIN_MAX 65536

int tf_move_opening(struct tf_timeline *t, position *out, struct tf_err *err)
{
    struct events e = {0};
    uint64_t last = tf_timeline_reach(t, NULL), first = tf_timeline_first(t), id, other;
    size_t top = SIZE_MAX, *chain = NULL;
    const struct tf_codes *codes = tf_timeline_codes(t, err);
    *out = (position){first, 0};
    if (!codes)
        return err->code;
    if (t->run->exit_status == 0 || last == 0)
        return opening_at_start(t, out, err);
    int r = load_events(t, last >= first + 2 * TF_BLOCK_FRAMES ? last - 2 * TF_BLOCK_FRAMES : first, last, &e,
                        err);
    if (r)
        goto out;
    /* The program itself was left by an exception. Others that nobody has called were, too (imports at the
     * start, __del__, atexit), but that is not how the run ended. What runs behind it are the interpreter's
     * own last calls (excepthook, atexit). */
    for (size_t i = e.n; i-- > 0 && top == SIZE_MAX;)
        if (e.v[i].depth == 1 && e.v[i].event == TF_UNWIND && is_program(codes, e.v[i].code))
            top = i;
    if (top == SIZE_MAX) {
        r = opening_at_start(t, out, err);
        goto out;
    }
    keep_thread(&e, &top);
    chain = malloc(CHAIN_MAX * sizeof *chain);
    if (!chain) {
        r = tf_err_set(err, TF_E_IO, "out of memory");
        goto out;
    }
    /* How far down it is the same exception; a handler may have raised another one. */
    size_t low = 0, high = unwindings(&e, top, chain, CHAIN_MAX);
    r = exception_at(t, e.v[top].frame, &id, err);
    while (r == 0 && high - low > 1) {
        size_t middle = low + (high - low) / 2;
        r = exception_at(t, e.v[chain[middle]].frame, &other, err);
        if (!id)
            id = other;
        if (other == id || !other)
            low = middle;
        else
            high = middle;
    }
    *out = (position){e.v[chain[low]].frame, 0};
    r = r < 0 ? r : 1;
out:
    free(e.v);
    free(chain);
    return r;
}

int tf_move_call(struct tf_timeline *t, const uint32_t *codes, size_t codes_n, uint64_t n, uint64_t *frame,
                 struct tf_err *err)
{
    const struct tf_codes *all = tf_timeline_codes(t, err);
    struct tf_frame event;
    uint8_t *bits = all ? calloc(1, all->n / 8 + 1) : NULL;
    *frame = 0;
    if (!bits)
        return all ? tf_err_set(err, TF_E_IO, "out of memory") : err->code;
    for (size_t i = 0; i < codes_n; i++)
        if (codes[i] < all->n)
            bits[codes[i] >> 3] |= (uint8_t)(1u << (codes[i] & 7));
    tf_cursor_filter(t->cursor, bits, all->n);
    int r = tf_cursor_seek(t->cursor, 1, err);
    while (r == 0 && (r = tf_cursor_next(t->cursor, &event, err)) > 0) {
        r = 0;
        if (event.event == TF_CALL && --n == 0) {
            *frame = event.frame;
            break;
        }
    }
    tf_cursor_filter(t->cursor, NULL, 0);
    free(bits);
    return r < 0 ? r : 0;
}

int tf_move_time(struct tf_timeline *t, uint64_t time_ns, uint64_t *frame, struct tf_err *err)
{
    uint64_t low = tf_timeline_first(t), high = tf_timeline_reach(t, NULL);
    *frame = low;
    while (low <= high && high) {
        uint64_t middle = low + (high - low) / 2;
        struct tf_frame event;
        int r = tf_cursor_seek(t->cursor, middle, err);
        if (r == 0)
            r = tf_cursor_next(t->cursor, &event, err);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        if (event.time_ns <= time_ns) {
            *frame = middle;
            low = middle + 1;
        } else {
            high = middle - 1;
        }
    }
    return 0;
}
