/*
 * prompt_points.c: breakpoints, catches, watches and log points: making them, listing them, handing them to
 * searches and saying which of them ended a move.
 *
 * Which hits count (ignore, hits) is counted over the whole run, from its start, never over what a session
 * happened to pass: so a breakpoint stops at the same places forward and backward.
 */
#include <stdlib.h>
#include <string.h>
#include "cli/prompt_parse.h"
#include "cli/prompt_points.h"

/* Steps need one of the points of a search for themselves. */
#define ENABLED_MAX (TF_POINTS_MAX - 1)

enum kind { BREAK, LOG, WATCH, CATCH_RAISE, CATCH_UNCAUGHT };

struct point {
    unsigned number;
    enum kind kind;
    bool enabled, temporary;
    struct tf_place_spec place; /* BREAK, LOG */
    char *type;                 /* catches; NULL: any */
    struct tf_expr *condition, *log;
    struct tf_watched watched;
    struct tf_hits hits;
    uint64_t seen; /* stops and log lines of this session */
    /* CATCH_UNCAUGHT: is there one, and where. */
    bool catches;
    struct tf_position uncaught;
};

struct tf_points {
    struct point **v; /* by number; each stays where it is as long as it lives */
    size_t n;
    unsigned numbers; /* given so far; none is given twice */
    /* What tf_points_active() handed out, and whose they are. */
    struct tf_point active[TF_POINTS_MAX];
    struct point *of[TF_POINTS_MAX];
    size_t active_n;
};

struct tf_points *tf_points_new(void)
{
    return calloc(1, sizeof(struct tf_points));
}

static void free_point(struct point *b)
{
    if (!b)
        return;
    tf_place_spec_clear(&b->place);
    tf_watched_clear(&b->watched);
    tf_expr_free(b->condition);
    tf_expr_free(b->log);
    free(b->type);
    free(b);
}

void tf_points_free(struct tf_points *points)
{
    if (!points)
        return;
    for (size_t i = 0; i < points->n; i++)
        free_point(points->v[i]);
    free(points->v);
    free(points);
}

static struct point *find(struct tf_points *points, uint64_t number)
{
    for (size_t i = 0; i < points->n; i++)
        if (points->v[i]->number == number)
            return points->v[i];
    return NULL;
}

static void drop(struct tf_points *points, struct point *b)
{
    size_t i = 0;
    while (points->v[i] != b)
        i++;
    memmove(points->v + i, points->v + i + 1, (points->n - i - 1) * sizeof *points->v);
    points->n--;
    /* A report may come for what was handed out before. */
    for (i = 0; i < points->active_n; i++)
        if (points->of[i] == b)
            points->of[i] = NULL;
    free_point(b);
}

static int room(const struct tf_points *points, struct tf_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < points->n; i++)
        n += points->v[i]->enabled && points->v[i]->kind != CATCH_UNCAUGHT;
    return n < ENABLED_MAX ? 0
                           : tf_err_set(err, TF_E_USAGE,
                                        "%d breakpoints are enabled, and more cannot be at once: disable "
                                        "or delete one",
                                        ENABLED_MAX);
}

/* Makes it one of the breakpoints and gives it a number. It is theirs then. */
static int add(struct tf_points *points, struct point *b, struct tf_err *err)
{
    int r = b->kind == CATCH_UNCAUGHT ? 0 : room(points, err);
    struct point **more = r ? NULL : realloc(points->v, (points->n + 1) * sizeof *more);
    if (r)
        return r;
    if (!more)
        return tf_err_set(err, TF_E_IO, "out of memory");
    points->v = more;
    points->v[points->n++] = b;
    b->number = ++points->numbers;
    b->enabled = true;
    return 0;
}

/* ---- for searches ---- */

size_t tf_points_active(struct tf_prompt *p, const struct tf_point **active)
{
    struct tf_points *points = p->points;
    size_t n = 0;
    for (size_t i = 0; i < points->n && n < ENABLED_MAX; i++) {
        struct point *b = points->v[i];
        struct tf_point *to = &points->active[n];
        if (!b->enabled || b->kind == CATCH_UNCAUGHT)
            continue;
        *to = (struct tf_point){.codes = b->place.codes,
                                .codes_n = b->place.codes_n,
                                .first_line = b->place.line,
                                .last_line = b->place.line,
                                .type = b->type,
                                .watch = b->watched.expr,
                                .condition = b->condition,
                                .hit_first = b->hits.first,
                                .hit_last = b->hits.last,
                                .hit_every = b->hits.every,
                                .log = b->log};
        to->kind = b->kind == WATCH         ? TF_POINT_WATCH
                   : b->kind == CATCH_RAISE ? TF_POINT_RAISE
                   : b->place.line          ? TF_POINT_LINE
                                            : TF_POINT_CALL;
        points->of[n++] = b;
    }
    points->active_n = n;
    *active = points->active;
    return n;
}

static void on_log(void *ctx, unsigned point, struct tf_position position, const char *text, size_t len,
                   bool failed)
{
    struct tf_prompt *p = ctx;
    struct point *b = point < p->points->active_n ? p->points->of[point] : NULL;
    char where[64];
    if (!b)
        return;
    b->seen++;
    if (p->json) {
        json_t *o = json_object();
        json_object_set_new(o, "log", tf_json_text(text, len));
        json_object_set_new(o, "breakpoint", json_integer(b->number));
        json_object_set_new(o, "frame", json_integer((json_int_t)position.frame));
        json_object_set_new(o, "line_offset", json_integer((json_int_t)position.lines));
        if (failed)
            json_object_set_new(o, "failed", json_true());
        json_dumpf(o, p->out, JSON_COMPACT);
        fputc('\n', p->out);
        json_decref(o);
        return;
    }
    tf_prompt_clear_progress(p);
    if (failed)
        fprintf(p->out, "[log point %u at #%s: ", b->number, tf_position_text(position, where, sizeof where));
    fwrite(text, 1, len, p->out);
    if (failed)
        fputc(']', p->out);
    if (failed || !len || text[len - 1] != '\n')
        fputc('\n', p->out);
}

struct tf_search_opts tf_points_search_opts(struct tf_prompt *p)
{
    struct tf_search_opts opts = tf_prompt_search_opts(p); /* its ctx is the prompt */
    opts.on_log = on_log;
    return opts;
}

/* ---- what is said about one ---- */

static const char *kind_name(const struct point *b)
{
    static const char *const names[] = {"breakpoint", "log point", "watchpoint", "catchpoint", "catchpoint"};
    return names[b->kind];
}

static json_t *point_json(struct tf_prompt *p, const struct point *b)
{
    json_t *o = json_object(), *what;
    char hits[64];
    json_object_set_new(o, "number", json_integer(b->number));
    json_object_set_new(o, "kind", json_string(kind_name(b)));
    if (b->kind == WATCH) {
        what = tf_json_text(b->watched.expr->text, strlen(b->watched.expr->text));
        json_object_set_new(o, "scope", tf_watched_scope(p, &b->watched));
    } else if (b->kind == CATCH_RAISE || b->kind == CATCH_UNCAUGHT) {
        what = json_sprintf("%s%s%s", b->kind == CATCH_RAISE ? "raise" : "uncaught", b->type ? " " : "",
                            b->type ? b->type : "");
    } else {
        const char *file = p->codes.codes[b->place.codes[0]].file;
        what = tf_json_text(b->place.text, strlen(b->place.text));
        json_object_set_new(o, "file", tf_json_text(file, strlen(file)));
        json_object_set_new(
            o, "line",
            json_integer(b->place.line ? b->place.line : p->codes.codes[b->place.codes[0]].first_line));
    }
    json_object_set_new(o, "what", what);
    if (b->log)
        json_object_set_new(o, "log", tf_json_text(b->log->text, strlen(b->log->text)));
    json_object_set_new(o, "condition",
                        b->condition ? tf_json_text(b->condition->text, strlen(b->condition->text))
                                     : json_null());
    tf_hits_text(&b->hits, hits, sizeof hits);
    json_object_set_new(o, "hits", *hits ? json_string(hits) : json_null());
    json_object_set_new(o, "seen", json_integer((json_int_t)b->seen));
    json_object_set_new(o, "enabled", json_boolean(b->enabled));
    json_object_set_new(o, "temporary", json_boolean(b->temporary));
    return o;
}

static void print_conditions(struct tf_prompt *p, json_t *o)
{
    if (json_is_string(json_object_get(o, "condition")))
        fprintf(p->out, " if %s", tf_prompt_text(o, "condition"));
    if (json_is_string(json_object_get(o, "hits")))
        fprintf(p->out, ", hits %s", tf_prompt_text(o, "hits"));
}

/* Each command that makes or changes one answers with it. */
static void print_point(struct tf_prompt *p, json_t *result)
{
    json_t *o = json_object_get(result, "breakpoint"), *scope = json_object_get(o, "scope");
    json_t *value = json_object_get(result, "value");
    const char *kind = tf_prompt_text(o, "kind");
    bool temporary = json_is_true(json_object_get(o, "temporary"));
    fprintf(p->out, "%s%c%s %lld", temporary ? "Temporary " : "", temporary ? kind[0] : kind[0] - 32,
            kind + 1, (long long)json_integer_value(json_object_get(o, "number")));
    if (json_object_get(o, "file")) {
        const char *what = tf_prompt_text(o, "what");
        fprintf(p->out, " at %s", what);
        if (!strchr(what, ':'))
            fprintf(p->out, " (%s:%lld)", tf_prompt_file(p, tf_prompt_text(o, "file")),
                    (long long)json_integer_value(json_object_get(o, "line")));
    } else {
        fprintf(p->out, ": %s", tf_prompt_text(o, "what"));
    }
    print_conditions(p, o);
    if (json_is_object(scope))
        fprintf(p->out, ", in the call of %s at #%lld", tf_prompt_text(scope, "function"),
                (long long)json_integer_value(json_object_get(scope, "entry")));
    fputc('\n', p->out);
    if (json_object_get(value, "value")) {
        fprintf(p->out, "It is now ");
        tf_answer_print_value(p->out, value, "value");
        fputc('\n', p->out);
    } else if (json_object_get(value, "error")) {
        fprintf(p->out, "It is not there now: %s\n", tf_prompt_text(value, "error"));
    }
    if (json_object_get(result, "note"))
        fprintf(p->out, "%s\n", tf_prompt_text(result, "note"));
}

/* ---- break ---- */

/* The place that is meant: by default the present line. */
static int resolve(struct tf_prompt *p, const char *text, struct tf_place_spec *spec, struct tf_err *err)
{
    char line[32];
    if (!*text) {
        json_t *at = json_object_get(tf_prompt_selected(p), "line");
        if (!at)
            return tf_err_set(err, TF_E_USAGE, "no Python function runs here: say FILE:LINE or FUNCTION");
        snprintf(line, sizeof line, "%lld", (long long)json_integer_value(at));
        text = line;
    }
    return tf_place_resolve(p, text, spec, err);
}

static struct point *new_point(enum kind kind, struct tf_err *err)
{
    struct point *b = calloc(1, sizeof *b);
    if (b)
        b->kind = kind;
    else
        tf_err_set(err, TF_E_IO, "out of memory");
    return b;
}

/* Adds it, answers with it; or frees it. */
static int finish_point(struct tf_prompt *p, struct point *b, int r, json_t *out, struct tf_err *err)
{
    if (!r)
        r = add(p->points, b, err);
    if (r)
        free_point(b);
    else
        json_object_set_new(out, "breakpoint", point_json(p, b));
    return r;
}

static int set_break(struct tf_prompt *p, const char *args, bool temporary, json_t *out, struct tf_err *err)
{
    struct tf_break_text text;
    int r = tf_break_parse(args, &text, err);
    struct point *b = r ? NULL : new_point(BREAK, err);
    if (!b) {
        tf_break_text_clear(&text);
        return err->code;
    }
    b->temporary = temporary;
    b->hits = text.hits;
    r = resolve(p, text.place, &b->place, err);
    if (!r && text.condition)
        r = tf_expr_prepare(p->timeline, text.condition, p->frame, tf_prompt_whose(p), &b->condition, err);
    tf_break_text_clear(&text);
    return finish_point(p, b, r, out, err);
}

static int cmd_break(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return set_break(p, args, false, out, err);
}

static int cmd_tbreak(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return set_break(p, args, true, out, err);
}

static int set_log(struct tf_prompt *p, const char *place, const char *expr, json_t *out, struct tf_err *err)
{
    struct point *b = new_point(LOG, err);
    if (!b)
        return err->code;
    int r = resolve(p, place, &b->place, err);
    if (!r)
        r = tf_expr_prepare(p->timeline, expr, p->frame, tf_prompt_whose(p), &b->log, err);
    return finish_point(p, b, r, out, err);
}

static int cmd_dprintf(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    char *place, *expr;
    int r = tf_dprintf_parse(args, &place, &expr, err);
    if (r)
        return r;
    r = set_log(p, place, expr, out, err);
    free(place);
    free(expr);
    return r;
}

static int cmd_log(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    size_t n = strcspn(args, " \t");
    const char *expr = args + n + strspn(args + n, " \t");
    char *place = strndup(args, n);
    int r = !place         ? tf_err_set(err, TF_E_IO, "out of memory")
            : !n || !*expr ? tf_err_set(err, TF_E_USAGE, "log takes PLACE EXPR, as in: log settle order.id")
                           : set_log(p, place, expr, out, err);
    free(place);
    return r;
}

/* ---- watch, catch ---- */

static int cmd_watch(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct point *b;
    json_t *value = NULL;
    if (!*args)
        return tf_err_set(err, TF_E_USAGE, "watch EXPR: an expression is needed, as in: watch self.state");
    if (!(b = new_point(WATCH, err)))
        return err->code;
    int r = tf_watched_new(p, args, &b->watched, err);
    if (!r && !(value = tf_watched_value(p, &b->watched, &p->here, false, err)))
        r = err->code;
    r = finish_point(p, b, r, out, err);
    if (!r)
        json_object_set_new(out, "value", value);
    else
        json_decref(value);
    return r;
}

/* Where the exception that ended the run was raised, if it is one of that type. */
static int find_uncaught(struct tf_prompt *p, struct point *b, json_t *out, struct tf_err *err)
{
    int r = tf_move_opening(p->timeline, &b->uncaught, err);
    if (r < 0)
        return r;
    b->catches = r > 0;
    if (!b->catches) {
        const char *why;
        (void)tf_timeline_reach(p->timeline, &why);
        json_object_set_new(
            out, "note",
            why ? json_sprintf("It never stops there: replay ends before the run does: %s", why)
                : json_string("No exception ended this run: it never stops there."));
        return 0;
    }
    if (!b->type)
        return 0;
    struct tf_stop stop;
    struct tf_inspect_req req = {.what = TF_INSPECT_EVAL};
    char *type = tf_python_literal(b->type), *test = NULL;
    json_t *answer = NULL;
    if (!type || asprintf(&test,
                          "%s in [n for c in __exception__.__class__.__mro__ for n in (c.__name__, "
                          "c.__qualname__, c.__module__ + '.' + c.__qualname__)]",
                          type) < 0)
        test = NULL;
    free(type);
    r = test ? tf_timeline_goto(p->timeline, b->uncaught, &stop, err)
             : tf_err_set(err, TF_E_IO, "out of memory");
    if (!r && !(answer = tf_answer_eval(p->timeline, &req, test, p->timeout_ms, err)))
        r = err->code;
    free(test);
    struct tf_err back = {0};
    if (tf_points_return(p, &back) && !r) {
        *err = back;
        r = back.code;
    }
    if (r == 0) {
        b->catches = strcmp(tf_prompt_text(answer, "value"), "True") == 0;
        if (!b->catches)
            json_object_set_new(
                out, "note",
                json_sprintf("The exception that ended this run is no %s: it never stops there.", b->type));
    }
    json_decref(answer);
    return r;
}

static int cmd_catch(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    size_t n = strcspn(args, " \t");
    const char *type = args + n + strspn(args + n, " \t");
    bool raise = n == 5 && memcmp(args, "raise", n) == 0,
         uncaught = n == 8 && memcmp(args, "uncaught", n) == 0;
    if ((!raise && !uncaught) || strpbrk(type, " \t"))
        return tf_err_set(err, TF_E_USAGE,
                          "catch takes raise or uncaught and the name of an exception's class, as in: catch "
                          "raise KeyError");
    struct point *b = new_point(raise ? CATCH_RAISE : CATCH_UNCAUGHT, err);
    if (!b)
        return err->code;
    int r = 0;
    if (*type && !(b->type = strdup(type)))
        r = tf_err_set(err, TF_E_IO, "out of memory");
    if (!r && uncaught)
        r = find_uncaught(p, b, out, err);
    return finish_point(p, b, r, out, err);
}

bool tf_points_uncaught(struct tf_prompt *p, struct tf_position *at)
{
    for (size_t i = 0; i < p->points->n; i++)
        if (p->points->v[i]->catches && p->points->v[i]->enabled) {
            *at = p->points->v[i]->uncaught;
            return true;
        }
    return false;
}

/* ---- changing them ---- */

/* The number at the beginning of args; *rest: what follows. */
static int numbered(struct tf_prompt *p, const char *args, struct point **b, const char **rest,
                    struct tf_err *err)
{
    char *end;
    unsigned long number = *args >= '0' && *args <= '9' ? strtoul(args, &end, 10) : 0;
    if (!number || (*end && *end != ' ' && *end != '\t' && *end != ','))
        return tf_err_set(err, TF_E_USAGE,
                          "'%s': the number of a breakpoint is expected ('info breakpoints')", args);
    *b = find(p->points, number);
    *rest = end + strspn(end, " \t,");
    return *b ? 0 : tf_err_set(err, TF_E_NOTFOUND, "there is no breakpoint %lu ('info breakpoints')", number);
}

static int cmd_condition(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct point *b;
    struct tf_expr *expr = NULL;
    const char *text;
    int r = numbered(p, args, &b, &text, err);
    if (!r && (b->kind == WATCH || b->kind == CATCH_UNCAUGHT))
        r = tf_err_set(err, TF_E_USAGE, "%s %u (%s) takes no condition", kind_name(b), b->number,
                       b->kind == WATCH ? "watch" : "uncaught");
    if (!r && *text)
        r = tf_expr_prepare(p->timeline, text, p->frame, tf_prompt_whose(p), &expr, err);
    if (r)
        return r;
    tf_expr_free(b->condition);
    b->condition = expr;
    json_object_set_new(out, "breakpoint", point_json(p, b));
    return 0;
}

static int set_hits(struct tf_prompt *p, struct point *b, const struct tf_hits *hits, json_t *out,
                    struct tf_err *err)
{
    if (b->kind == CATCH_UNCAUGHT)
        return tf_err_set(err, TF_E_USAGE, "catchpoint %u (uncaught) is hit at most once: nothing to count",
                          b->number);
    if (hits->last && hits->first > hits->last)
        return tf_err_set(err, TF_E_USAGE, "then breakpoint %u would never stop: only hits up to %llu count",
                          b->number, (unsigned long long)hits->last);
    b->hits = *hits;
    json_object_set_new(out, "breakpoint", point_json(p, b));
    return 0;
}

static int cmd_ignore(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct point *b;
    const char *text;
    uint64_t count;
    int r = numbered(p, args, &b, &text, err);
    if (!r && (!tf_number(text, 0, &count) || count == UINT64_MAX))
        r = tf_err_set(err, TF_E_USAGE, "ignore N COUNT: how many hits, from the start of the run?");
    if (r)
        return r;
    struct tf_hits hits = b->hits;
    hits.first = count ? count + 1 : 0;
    return set_hits(p, b, &hits, out, err);
}

static int cmd_hits(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct point *b;
    struct tf_hits hits = {0};
    const char *text;
    int r = numbered(p, args, &b, &text, err);
    if (!r && *text)
        r = tf_hits_parse(text, &hits, err);
    return r ? r : set_hits(p, b, &hits, out, err);
}

/* Checks all the numbers before anything is done to one; calls fn for each; none: for all. */
static int each(struct tf_prompt *p, const char *args,
                int (*fn)(struct tf_points *, struct point *, struct tf_err *), json_t *out,
                struct tf_err *err)
{
    json_t *wanted = json_array(), *done = json_array(), *number;
    struct point *b;
    size_t i;
    int r = 0;
    json_object_set_new(out, "breakpoints", done);
    if (!*args)
        for (i = 0; i < p->points->n; i++)
            json_array_append_new(wanted, json_integer(p->points->v[i]->number));
    while (*args && !r) {
        r = numbered(p, args, &b, &args, err);
        if (!r)
            json_array_append_new(wanted, json_integer(b->number));
    }
    for (i = 0; i < json_array_size(wanted) && !r; i++) {
        number = json_array_get(wanted, i);
        b = find(p->points, (uint64_t)json_integer_value(number));
        if (!b) /* it was named twice */
            continue;
        r = fn(p->points, b, err);
        if (!r)
            json_array_append(done, number);
    }
    json_decref(wanted);
    return r;
}

static int enable(struct tf_points *points, struct point *b, struct tf_err *err)
{
    int r = b->enabled || b->kind == CATCH_UNCAUGHT ? 0 : room(points, err);
    if (!r)
        b->enabled = true;
    return r;
}

static int disable(struct tf_points *points, struct point *b, struct tf_err *err)
{
    (void)points, (void)err;
    b->enabled = false;
    return 0;
}

static int delete (struct tf_points *points, struct point *b, struct tf_err *err)
{
    (void)err;
    drop(points, b);
    return 0;
}

static int cmd_enable(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return each(p, args, enable, out, err);
}

static int cmd_disable(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return each(p, args, disable, out, err);
}

static int cmd_delete(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    if (!*args && p->interactive && p->points->n) {
        char answer[64];
        fprintf(p->out, "Delete all breakpoints? (y or n) ");
        fflush(p->out);
        if (!fgets(answer, sizeof answer, stdin) || (answer[0] != 'y' && answer[0] != 'Y')) {
            json_object_set_new(out, "breakpoints", json_array());
            return 0;
        }
    }
    return each(p, args, delete, out, err);
}

static void print_numbers(struct tf_prompt *p, json_t *numbers)
{
    json_t *number;
    size_t i;
    json_array_foreach(numbers, i, number)
        fprintf(p->out, "%s%lld", i ? ", " : "", (long long)json_integer_value(number));
}

static void print_changed(struct tf_prompt *p, json_t *result)
{
    json_t *numbers = json_object_get(result, "breakpoints");
    const char *command = tf_prompt_text(result, "command");
    if (!json_array_size(numbers))
        return;
    fprintf(p->out, "%c%s%s: ", command[0] - 32, command + 1,
            command[strlen(command) - 1] == 'e' ? "d" : "ed");
    print_numbers(p, numbers);
    fputc('\n', p->out);
}

static int cmd_info(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    json_t *list = json_array();
    (void)args, (void)err;
    json_object_set_new(out, "breakpoints", list);
    for (size_t i = 0; i < p->points->n; i++)
        json_array_append_new(list, point_json(p, p->points->v[i]));
    return 0;
}

static void print_info(struct tf_prompt *p, json_t *result)
{
    json_t *list = json_object_get(result, "breakpoints"), *o;
    size_t i;
    if (!json_array_size(list))
        fprintf(p->out, "There are no breakpoints.\n");
    else
        fprintf(p->out, "%4s  %-10s  %-8s  %6s  %s\n", "NUM", "KIND", "ENABLED", "SEEN", "WHAT");
    json_array_foreach(list, i, o)
    {
        json_t *scope = json_object_get(o, "scope");
        fprintf(p->out, "%4lld  %-10s  %-8s  %6lld  %s",
                (long long)json_integer_value(json_object_get(o, "number")), tf_prompt_text(o, "kind"),
                json_is_true(json_object_get(o, "enabled"))
                    ? json_is_true(json_object_get(o, "temporary")) ? "once" : "yes"
                    : "no",
                (long long)json_integer_value(json_object_get(o, "seen")), tf_prompt_text(o, "what"));
        print_conditions(p, o);
        if (json_object_get(o, "log"))
            fprintf(p->out, ", logs %s", tf_prompt_text(o, "log"));
        if (json_is_object(scope))
            fprintf(p->out, ", in the call of %s at #%lld", tf_prompt_text(scope, "function"),
                    (long long)json_integer_value(json_object_get(scope, "entry")));
        fputc('\n', p->out);
    }
}

/* ---- reports ---- */

/* One that was hit: its number in "breakpoints", and what there is to say of it. Temporary ones are gone
 * then. */
static void hit_one(struct tf_prompt *p, struct point *b, json_t *out)
{
    json_t *numbers = json_object_get(out, "breakpoints");
    if (!numbers)
        json_object_set_new(out, "breakpoints", numbers = json_array());
    json_array_append_new(numbers, json_integer(b->number));
    /* A plain breakpoint is the least of what is to be told. */
    if (!json_object_get(out, "reason") || b->kind == WATCH)
        json_object_set_new(out, "reason",
                            json_string(b->kind == WATCH   ? "watch"
                                        : b->kind == BREAK ? "breakpoint"
                                                           : "catch"));
    b->seen++;
    json_t *kinds = json_object_get(out, "hit");
    if (!kinds)
        json_object_set_new(out, "hit", kinds = json_array());
    json_array_append_new(kinds, point_json(p, b));
    if (b->temporary)
        drop(p->points, b);
}

int tf_points_report(struct tf_prompt *p, const struct tf_hit *hit, json_t *out, struct tf_err *err)
{
    struct tf_points *points = p->points;
    struct tf_inspect_req req = {.what = TF_INSPECT_EVAL};
    for (size_t i = 0; i < points->active_n; i++) {
        struct point *b = points->of[i];
        if (!(hit->points >> i & 1) || !b)
            continue;
        if (hit->failed >> i & 1 && b->condition) {
            json_t *failed = json_object_get(out, "failed");
            json_t *answer = tf_answer_eval(p->timeline, &req, b->condition->text, p->timeout_ms, err);
            if (!answer)
                return err->code;
            if (!failed)
                json_object_set_new(out, "failed", failed = json_array());
            json_array_append_new(failed, json_pack("{s:i, s:s, s:s}", "breakpoint", (int)b->number,
                                                    "condition", tf_prompt_text(answer, "expr"), "error",
                                                    json_object_get(answer, "error")
                                                        ? tf_prompt_text(answer, "error")
                                                        : "it could not be evaluated while searching"));
            json_decref(answer);
        }
        if (b->kind == WATCH) {
            json_t *watches = json_object_get(out, "watches"), *change = json_object();
            if (!watches)
                json_object_set_new(out, "watches", watches = json_array());
            json_array_append_new(watches, change);
            json_object_set_new(change, "number", json_integer(b->number));
            json_object_set_new(change, "expr",
                                tf_json_text(b->watched.expr->text, strlen(b->watched.expr->text)));
            int r = tf_watched_change(p, &b->watched, hit, hit->objects >> i & 1, change, &p->here, err);
            if (r) {
                struct tf_err ignored;
                struct tf_stop stop;
                if (tf_timeline_goto(p->timeline, hit->position, &stop, &ignored) == 0)
                    p->here = stop;
                return r;
            }
        }
        hit_one(p, b, out);
    }
    return 0;
}

void tf_points_report_uncaught(struct tf_prompt *p, json_t *out)
{
    for (size_t i = p->points->n; i-- > 0;)
        if (p->points->v[i]->catches && p->points->v[i]->enabled)
            hit_one(p, p->points->v[i], out);
}

void tf_points_print(struct tf_prompt *p, json_t *result)
{
    json_t *list = json_object_get(result, "hit"), *o;
    json_t *watches = json_object_get(result, "watches"), *failed = json_object_get(result, "failed"), *w;
    size_t i, k;
    json_array_foreach(list, i, o)
    {
        json_int_t number = json_integer_value(json_object_get(o, "number"));
        const char *kind = tf_prompt_text(o, "kind");
        bool temporary = json_is_true(json_object_get(o, "temporary"));
        fprintf(p->out, "%s%c%s %lld, %s\n", temporary ? "Temporary " : "",
                temporary ? kind[0] : kind[0] - 32, kind + 1, (long long)number, tf_prompt_text(o, "what"));
        json_array_foreach(watches, k, w) if (json_integer_value(json_object_get(w, "number")) == number)
            tf_watched_print(p, w);
        json_array_foreach(failed, k, w) if (json_integer_value(json_object_get(w, "breakpoint")) == number)
            fprintf(p->out, "  its condition failed: %s\n", tf_prompt_text(w, "error"));
    }
}

/* ---- the table ---- */

const struct tf_command tf_commands_points[] = {
    {"break", "b", cmd_break, print_point, TF_COMPLETES_PLACE, false,
     "break [FILE:LINE | LINE | FUNCTION] [if EXPR] [hits N]",
     "Stops where a line begins or a function is called, in both directions. Without a place: this line.\n"
     "EXPR: only where it is true. hits: only the N-th (N), from it on (>=N), up to it (<=N), or each\n"
     "N-th (%N) of the hits, counted from the start of the run. FILE may be the end of a path, FUNCTION\n"
     "the end of a qualified name, as Orders.settle, orders.py:settle, shop.orders:settle."},
    {"tbreak", "tb", cmd_tbreak, print_point, TF_COMPLETES_PLACE, false,
     "tbreak [FILE:LINE | LINE | FUNCTION] [if EXPR] [hits N]",
     "As break; deleted when it has stopped once."},
    {"watch", NULL, cmd_watch, print_point, TF_COMPLETES_EXPR, false, "watch EXPR",
     "Stops behind each change of the expression's value, in both directions.\n"
     "Variables are those of the selected function's present call, not of others of the same function.\n"
     "An attribute or item is that of the object that has it now, whatever the object is called elsewhere.\n"
     "Scalars are compared by value, containers by what they hold one level deep, others by identity."},
    {"last", NULL, tf_command_last, tf_print_last, TF_COMPLETES_EXPR, false, "last EXPR",
     "Goes back to the line that gave the expression the value it has here: who changed this?"},
    {"history", NULL, tf_command_history, tf_print_history, TF_COMPLETES_EXPR, false, "history EXPR [LIMIT]",
     "Lists every change of the expression's value in the whole run, or the life of the call that its\n"
     "variables belong to: the line that made it and the new value; at most LIMIT (100)."},
    {"catch", NULL, cmd_catch, print_point, TF_COMPLETES_NOTHING, false, "catch raise|uncaught [TYPE]",
     "Stops at the lines that raise an exception, or where the one that ended the run was raised.\n"
     "TYPE: only those of this class or of one derived from it."},
    {"dprintf", NULL, cmd_dprintf, print_point, TF_COMPLETES_PLACE, false,
     "dprintf PLACE,\"format\",EXPR,...",
     "Prints a text whenever a move passes the place, and does not stop. The format is Python's, with %."},
    {"log", NULL, cmd_log, print_point, TF_COMPLETES_PLACE, false, "log PLACE EXPR",
     "Prints str(EXPR) whenever a move passes the place, and does not stop."},
    {"condition", "cond", cmd_condition, print_point, TF_COMPLETES_EXPR, false, "condition N [EXPR]",
     "Gives breakpoint N a condition, or takes it away."},
    {"ignore", NULL, cmd_ignore, print_point, TF_COMPLETES_NOTHING, false, "ignore N COUNT",
     "The first COUNT hits of the run are no stops of breakpoint N. 0: all are.\n"
     "They are counted from the start of the run, not from here: the same ones in both directions."},
    {"hits", NULL, cmd_hits, print_point, TF_COMPLETES_NOTHING, false, "hits N [M | >=M | <=M | %M]",
     "Which hits of the run breakpoint N stops at; without a condition: all."},
    {"enable", "en", cmd_enable, print_changed, TF_COMPLETES_NOTHING, false, "enable [N...]",
     "Enables breakpoints, or all of them."},
    {"disable", "dis", cmd_disable, print_changed, TF_COMPLETES_NOTHING, false, "disable [N...]",
     "Disables breakpoints, or all of them: they stay in the list and never stop."},
    {"delete", "del", cmd_delete, print_changed, TF_COMPLETES_NOTHING, false, "delete [N...]",
     "Deletes breakpoints, or all of them."},
    {"info breakpoints", NULL, cmd_info, print_info, TF_COMPLETES_NOTHING, false, "info breakpoints",
     "Lists breakpoints, watches, catches and log points. SEEN: how often one stopped or printed."},
    {0},
};
