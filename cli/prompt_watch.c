/* prompt_watch.c: values that change: what watches report, `last` (who changed this?) and `history`. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "cli/prompt_parse.h"
#include "cli/prompt_points.h"

#define HISTORY_SHOWN 100     /* changes that `history` lists unless told otherwise */
#define HISTORY_LIMIT 100000u /* and at most: their positions are kept */

int tf_points_return(struct tf_prompt *p, struct tf_err *err)
{
    return tf_timeline_goto(p->timeline, p->here.position, &p->here, err);
}

/* The event with this number. */
static int read_event(struct tf_prompt *p, uint64_t frame, struct tf_frame *out, struct tf_err *err)
{
    struct tf_cursor *cursor = tf_timeline_cursor(p->timeline);
    tf_cursor_filter(cursor, NULL, 0);
    int r = tf_cursor_seek(cursor, frame, err);
    if (!r)
        r = tf_cursor_next(cursor, out, err);
    return r < 0 ? r
           : r == 1
               ? 0
               : tf_err_set(err, TF_E_NOTFOUND, "there is no frame event %llu", (unsigned long long)frame);
}

static bool names(const char *text, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = text; (at = strstr(at, name)); at += n)
        if ((at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '_')) &&
            !(isalnum((unsigned char)at[n]) || at[n] == '_'))
            return true;
    return false;
}

int tf_watched_new(struct tf_prompt *p, const char *text, struct tf_watched *out, struct tf_err *err)
{
    struct tf_frame entry;
    *out = (struct tf_watched){0};
    if (names(text, "__return__") || names(text, "__exception__"))
        return tf_err_set(
            err, TF_E_USAGE,
            "__return__ and __exception__ are no variables of the program, but what 'print' calls "
            "the function's end: they cannot be followed");
    int r = tf_expr_prepare(p->timeline, text, p->frame, tf_prompt_whose(p), &out->expr, err);
    if (!r && !out->expr->program_len && !out->expr->object && !p->json)
        tf_say("'%s' cannot be told without running Python code: it is evaluated in a fork at every line, "
               "which takes "
               "long",
               text);
    if (!r && out->expr->entry && !(r = read_event(p, out->expr->entry, &entry, err)))
        out->code = entry.code;
    if (r)
        tf_watched_clear(out);
    return r;
}

void tf_watched_clear(struct tf_watched *watched)
{
    tf_expr_free(watched->expr);
    *watched = (struct tf_watched){0};
}

json_t *tf_watched_scope(struct tf_prompt *p, const struct tf_watched *watched)
{
    if (!watched->expr->entry || watched->code >= p->codes.n)
        return json_null();
    return json_pack(
        "{s:o, s:I}", "function",
        tf_json_text(p->codes.codes[watched->code].qualname, strlen(p->codes.codes[watched->code].qualname)),
        "entry", (json_int_t)watched->expr->entry);
}

/* Which function of its thread's stack is the one whose variables are meant? 1 and *index; 0: it is not
 * there.
 */
static int find_activation(struct tf_prompt *p, const struct tf_watched *w, const struct tf_stop *stop,
                           uint32_t *index, struct tf_err *err)
{
    struct tf_activation *stack;
    struct tf_frame event;
    size_t n;
    int r = tf_thread_stack(p->timeline, w->expr->thread, stop->position, &stack, &n, &event, err);
    if (r < 0)
        return r;
    r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        const struct tf_activation *a = &stack[n - 1 - i];
        /* Each resumption of a generator is an entry of its own. */
        if (a->entry == w->expr->entry || (w->expr->generator && a->code == w->code)) {
            *index = (uint32_t)i;
            r = 1;
        }
    }
    free(stack);
    return r;
}

/* Before its import, and when the interpreter has thrown away all modules. */
static bool module_gone(const char *module, const char *error)
{
    char missing[300];
    snprintf(missing, sizeof missing, "KeyError: '%s'", module);
    return strcmp(error, missing) == 0 || strncmp(error, "ImportError: sys.meta_path is None", 34) == 0;
}

json_t *tf_watched_value(struct tf_prompt *p, const struct tf_watched *w, const struct tf_stop *stop,
                         bool of_object, struct tf_err *err)
{
    struct tf_inspect_req req = {.what = TF_INSPECT_EVAL};
    char *in_module = NULL;
    const char *text = w->expr->text;
    if (of_object) {
        req.object = w->expr->object;
        req.type = w->expr->object_type;
        text = w->expr->place_text;
    } else if (w->expr->entry) {
        int r = find_activation(p, w, stop, &req.frame, err);
        if (r <= 0)
            return r ? NULL : json_null();
        req.thread = w->expr->thread == stop->frame.thread ? 0 : w->expr->thread + 1;
    } else if (w->expr->module && w->expr->module[0]) {
        /* The innermost function may be one of another module. */
        char *literal = tf_python_literal(text), *module = tf_python_literal(w->expr->module);
        if (!literal || !module ||
            asprintf(&in_module, "__import__('builtins').eval(%s, __import__('sys').modules[%s].__dict__)",
                     literal, module) < 0)
            in_module = NULL;
        free(literal);
        free(module);
    }
    json_t *value = tf_answer_eval(p->timeline, &req, in_module ? in_module : text, p->timeout_ms, err);
    if (in_module && value && module_gone(w->expr->module, tf_prompt_text(value, "error")))
        json_object_set_new(value, "error",
                            json_sprintf("the module '%s' is not loaded there", w->expr->module));
    free(in_module);
    json_object_del(value, "expr");
    return value;
}

/* Where the timeline stands, short: "frame", "line_offset", "function", "file", "line". */
static json_t *short_place(struct tf_prompt *p, const struct tf_stop *stop, struct tf_err *err)
{
    static const char *const keys[] = {"frame", "line_offset", "function",   "file",
                                       "line",  "thread",      "thread_name"};
    json_t *place = tf_answer_place(p->timeline, stop, p->timeout_ms, err), *out;
    if (!place)
        return NULL;
    out = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_object_get(place, keys[i]))
            json_object_set(out, keys[i], json_object_get(place, keys[i]));
    if (!json_object_get(place, "thread_name"))
        json_object_del(out, "thread");
    json_decref(place);
    return out;
}

/* Was the value set by the call itself: is it one of a parameter, at the start of its function? */
static bool set_by_call(const struct tf_watched *w, const struct tf_hit *hit)
{
    return !hit->objects && w->expr->entry && hit->position.frame == w->expr->entry &&
           hit->position.lines == 0;
}

int tf_watched_change(struct tf_prompt *p, const struct tf_watched *w, const struct tf_hit *hit,
                      bool of_object, json_t *change, struct tf_stop *stop, struct tf_err *err)
{
    json_t *value = json_null(), *place = json_null();
    bool call = set_by_call(w, hit);
    int r = 0;
    if (hit->old.frame && !call) {
        r = tf_timeline_goto(p->timeline, hit->old, stop, err);
        if (r)
            return r;
        if (!(value = tf_watched_value(p, w, stop, of_object, err)))
            return err->code;
    }
    if (hit->before.frame && !call) {
        r = tf_timeline_goto(p->timeline, hit->before, stop, err);
        if (r || !(place = short_place(p, stop, err))) {
            json_decref(value);
            return err->code;
        }
    }
    json_object_set_new(change, "old", value);
    json_object_set_new(change, "changed_at", place);
    r = tf_timeline_goto(p->timeline, hit->position, stop, err);
    if (r)
        return r;
    if (call) {
        if (!(place = short_place(p, stop, err)))
            return err->code;
        json_object_set_new(change, "changed_at", place);
    }
    if (!(value = tf_watched_value(p, w, stop, of_object, err)))
        return err->code;
    json_object_set_new(change, "new", value);
    return 0;
}

static void print_value(struct tf_prompt *p, json_t *value)
{
    if (json_object_get(value, "value"))
        tf_answer_print_value(p->out, value, "value");
    else if (json_object_get(value, "error"))
        fprintf(p->out, "[%s]", tf_prompt_text(value, "error"));
    else
        fprintf(p->out, "(not there)");
}

static void print_short_place(struct tf_prompt *p, json_t *place)
{
    char text[64], name[256];
    struct tf_position position = {(uint64_t)json_integer_value(json_object_get(place, "frame")),
                                   (uint64_t)json_integer_value(json_object_get(place, "line_offset"))};
    fprintf(p->out, "#%s  %s at %s:%lld", tf_position_text(position, text, sizeof text),
            tf_prompt_text(place, "function"), tf_prompt_file(p, tf_prompt_text(place, "file")),
            (long long)json_integer_value(json_object_get(place, "line")));
    if (json_object_get(place, "thread_name"))
        fprintf(p->out, ", %s",
                tf_prompt_thread_text(p, (uint32_t)json_integer_value(json_object_get(place, "thread")), name,
                                      sizeof name));
}

void tf_watched_print(struct tf_prompt *p, json_t *change)
{
    json_t *at = json_object_get(change, "changed_at");
    fprintf(p->out, "  old: ");
    print_value(p, json_object_get(change, "old"));
    fprintf(p->out, "\n  new: ");
    print_value(p, json_object_get(change, "new"));
    fprintf(p->out, "\n");
    if (json_is_object(at)) {
        fprintf(p->out, "  changed by ");
        print_short_place(p, at);
        fprintf(p->out, "\n");
    }
}

/* Where the life of what is watched begins. */
static struct tf_position life_begin(const struct tf_watched *w)
{
    return (struct tf_position){w->expr->entry && !w->expr->object ? w->expr->entry : 1, 0};
}

/* What evaluating it here says; NULL: it has a value. For words about something that never changed: it may be
 * a name that is none here. */
static int why_absent(struct tf_prompt *p, const char *expr, char **why, struct tf_err *err)
{
    struct tf_inspect_req req = {.what = TF_INSPECT_EVAL, .frame = p->frame, .thread = tf_prompt_whose(p)};
    int r = tf_points_return(p, err);
    json_t *value = r ? NULL : tf_answer_eval(p->timeline, &req, expr, p->timeout_ms, err);
    if (!value)
        return err->code;
    *why = json_object_get(value, "error") ? strdup(tf_prompt_text(value, "error")) : NULL;
    json_decref(value);
    return 0;
}

int tf_command_last(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_watched w;
    struct tf_hit hit = {0};
    struct tf_stop stop;
    if (!*args)
        return tf_err_set(err, TF_E_USAGE, "last EXPR: an expression is needed, as in: last self.state");
    int r = tf_watched_new(p, args, &w, err);
    if (r)
        return r;
    json_object_set_new(out, "expr", tf_json_text(args, strlen(args)));
    struct tf_search_opts opts = tf_prompt_search_opts(p);
    struct tf_point point = {.kind = TF_POINT_WATCH, .watch = w.expr};
    /* A change that is first seen here gave it the value that it has here; not at the call, whose doing it
     * is. */
    bool at_call = w.expr->entry == p->here.position.frame && !p->here.position.lines;
    struct tf_position behind = {p->here.position.frame, p->here.position.lines + !at_call};
    r = tf_search_backward(p->timeline, behind, life_begin(&w), &point, 1, &hit, &opts, err);
    char *absent = NULL;
    if (r == 0)
        r = why_absent(p, w.expr->text, &absent, err);
    if (r == 0)
        r = w.expr->object ? tf_err_set(err, TF_E_NOTFOUND, "nothing set '%s' in this run before here", args)
            : absent
                ? tf_err_set(err, TF_E_NOTFOUND, "'%s' is not there, and was not before: %s", args, absent)
            : w.expr->entry == p->here.position.frame && !p->here.position.lines
                ? tf_err_set(err, TF_E_NOTFOUND,
                             "'%s' has not changed in this call, which begins here; 'reverse-finish' goes to "
                             "the line that made it",
                             args)
            : w.expr->entry ? tf_err_set(err, TF_E_NOTFOUND,
                                         "'%s' has not changed since its function was called, at #%llu", args,
                                         (unsigned long long)w.expr->entry)
                            : tf_err_set(err, TF_E_NOTFOUND,
                                         "'%s' has not changed from the start of the run to here", args);
    free(absent);
    if (r > 0) {
        r = tf_watched_change(p, &w, &hit, hit.objects & 1, out, &stop, err);
        bool call = set_by_call(&w, &hit);
        if (!r) {
            json_object_set_new(out, "reason", json_string("last"));
            json_object_set_new(out, "set_by_call", json_boolean(call));
            r = tf_prompt_goto(p, call || !hit.before.frame ? hit.position : hit.before, out, err);
        }
        if (r) { /* what is to be told is the first failure */
            struct tf_err ignored;
            (void)tf_points_return(p, &ignored);
        }
    }
    tf_watched_clear(&w);
    return r;
}

void tf_print_last(struct tf_prompt *p, json_t *result)
{
    bool call = json_is_true(json_object_get(result, "set_by_call"));
    fprintf(p->out, "%s", tf_prompt_text(result, "expr"));
    if (!call) {
        fprintf(p->out, " was ");
        print_value(p, json_object_get(result, "old"));
    }
    fprintf(p->out, "; %s makes it ", call ? "this call" : "this line");
    print_value(p, json_object_get(result, "new"));
    fprintf(p->out, "\n");
    tf_prompt_print_place(p, result);
}

/* ---- history ---- */

struct listing {
    struct tf_hit *hits;
    uint64_t limit, n, total;
};

static int on_change(void *ctx, const struct tf_hit *hit)
{
    struct listing *l = ctx;
    l->total++;
    if (l->n < l->limit)
        l->hits[l->n++] = *hit;
    return 0;
}

/* The searching copies are done when values are asked for: each needs a visit. */
static int describe(struct tf_prompt *p, const struct tf_watched *w, const struct listing *l, json_t *changes,
                    struct tf_err *err)
{
    const struct tf_search_opts opts = tf_prompt_search_opts(p);
    for (uint64_t i = 0; i < l->n; i++) {
        struct tf_stop stop;
        json_t *change = json_object();
        json_array_append_new(changes, change);
        json_object_set_new(change, "frame", json_integer((json_int_t)l->hits[i].position.frame));
        json_object_set_new(change, "line_offset", json_integer((json_int_t)l->hits[i].position.lines));
        int r = tf_watched_change(p, w, &l->hits[i], l->hits[i].objects & 1, change, &stop, err);
        if (r)
            return r;
        if (opts.cancel && *opts.cancel)
            return tf_err_set(err, TF_E_CANCELLED, "interrupted");
    }
    return 0;
}

int tf_command_history(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_watched w;
    struct listing l = {.limit = HISTORY_SHOWN};
    char *expr = NULL;
    uint64_t limit;
    if (!*args)
        return tf_err_set(err, TF_E_USAGE, "history EXPR [LIMIT]: an expression is needed");
    /* "x if y else 5" is an expression; "x 5" is none, and means a limit. */
    int r = tf_watched_new(p, args, &w, err);
    if (r == TF_E_USAGE && tf_limit_parse(args, &expr, &limit)) {
        l.limit = limit < HISTORY_LIMIT ? limit : HISTORY_LIMIT;
        r = tf_watched_new(p, expr, &w, err);
    }
    if (r) {
        free(expr);
        return r;
    }
    l.hits = malloc(l.limit * sizeof *l.hits);
    if (!l.hits)
        r = tf_err_set(err, TF_E_IO, "out of memory");
    if (!r) {
        /* From in front of the call: what it sets its parameters to is the first change. */
        struct tf_position from = {tf_timeline_first(p->timeline), 0};
        if (w.expr->entry && !w.expr->object)
            from = (struct tf_position){w.expr->entry - 1, UINT32_MAX};
        struct tf_search_opts opts = tf_prompt_search_opts(p);
        struct tf_point point = {.kind = TF_POINT_WATCH, .watch = w.expr};
        r = tf_search_each(p->timeline, from, (struct tf_position){0}, &point, 1, on_change, &l, &opts, err);
    }
    json_t *changes = json_array();
    json_object_set_new(out, "expr", tf_json_text(expr ? expr : args, strlen(expr ? expr : args)));
    json_object_set_new(out, "scope", tf_watched_scope(p, &w));
    json_object_set_new(out, "changes", changes);
    if (r >= 0) {
        json_object_set_new(out, "total", json_integer((json_int_t)l.total));
        r = describe(p, &w, &l, changes, err);
        char *absent = NULL;
        if (!r && !l.total && !(r = why_absent(p, w.expr->text, &absent, err)) && absent)
            json_object_set_new(out, "absent", tf_json_text(absent, strlen(absent)));
        free(absent);
        /* Back to where we were, whatever happened. */
        struct tf_err back = {0};
        if (tf_points_return(p, &back) && !r) {
            *err = back;
            r = back.code;
        }
    }
    tf_watched_clear(&w);
    free(l.hits);
    free(expr);
    return r;
}

void tf_print_history(struct tf_prompt *p, json_t *result)
{
    json_t *changes = json_object_get(result, "changes"), *change;
    uint64_t total = (uint64_t)json_integer_value(json_object_get(result, "total"));
    size_t i, n = json_array_size(changes);
    char count[32];
    json_array_foreach(changes, i, change)
    {
        json_t *at = json_object_get(change, "changed_at");
        if (json_is_object(at))
            print_short_place(p, at);
        else
            fprintf(p->out, "#%lld  (an unknown line)",
                    (long long)json_integer_value(json_object_get(change, "frame")));
        fprintf(p->out, "  ");
        print_value(p, json_object_get(change, "new"));
        fprintf(p->out, "\n");
    }
    if (!total && json_object_get(result, "absent"))
        fprintf(p->out, "%s is not there, and never is: %s\n", tf_prompt_text(result, "expr"),
                tf_prompt_text(result, "absent"));
    else if (!total)
        fprintf(p->out, "%s never changes.\n", tf_prompt_text(result, "expr"));
    else if (n < total)
        fprintf(p->out, "%zu of %s changes; 'history EXPR LIMIT' lists more\n", n,
                tf_count_text(total, count, sizeof count));
}
