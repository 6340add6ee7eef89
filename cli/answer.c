/* answer.c: see answer.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/answer.h"
#include "cli/common.h"

#define CONTEXT_LINES 4
#define TEXT_MAX 4000 /* bytes of one repr in the text form */

const char *const tf_tag_names[8] = {"call", "return", "yield", "resume", "unwind", [TF_SWITCH] = "switch"};

const char *tf_event_name(enum tf_tag event)
{
    return tf_tag_names[event & 7] ? tf_tag_names[event & 7] : "?";
}

json_t *tf_json_text(const void *data, size_t len)
{
    json_t *text = json_stringn(data, len);
    if (text)
        return text;
    /* Not UTF-8: each offending byte becomes \xNN. */
    const unsigned char *at = data;
    char *clean = malloc(len * 4 + 1);
    size_t n = 0;
    if (!clean)
        return NULL;
    for (size_t i = 0; i < len;) {
        size_t need = at[i] < 0x80                    ? 1
                      : at[i] >= 0xc2 && at[i] < 0xe0 ? 2
                      : at[i] >= 0xe0 && at[i] < 0xf0 ? 3
                      : at[i] >= 0xf0 && at[i] < 0xf5 ? 4
                                                      : 0;
        json_t *one = need && i + need <= len ? json_stringn((const char *)at + i, need) : NULL;
        if (one) {
            memcpy(clean + n, at + i, need);
            n += need;
            i += need;
            json_decref(one);
        } else {
            n += (size_t)sprintf(clean + n, "\\x%02x", at[i++]);
        }
    }
    text = json_stringn(clean, n);
    free(clean);
    return text;
}

/* ---- collecting ---- */

struct collect {
    json_t *into;     /* array of stack entries, locals or names, or the object of an expression */
    json_t *children; /* of an expression that is expanded, or NULL */
    json_t *answer;   /* for what a function returns or raises */
    json_t *output;   /* text written by an expression, or NULL */
    json_t *tries;    /* name and type of the local or child whose repr is being made, or NULL */
    bool ended;       /* what ran for the answer made the process exit */
    uint32_t count;
};

/* The next NUL-terminated string of an item; advances. */
static json_t *next_text(const uint8_t **at, size_t *len)
{
    size_t n = strnlen((const char *)*at, *len);
    json_t *text = tf_json_text(*at, n);
    size_t skip = n < *len ? n + 1 : n;
    *at += skip;
    *len -= skip;
    return text;
}

static json_t *type_and_repr(const uint8_t *at, size_t len, const char *value_name)
{
    json_t *o = json_object();
    json_object_set_new(o, "type", next_text(&at, &len));
    json_object_set_new(o, value_name, tf_json_text(at, len));
    return o;
}

static int on_item(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    struct collect *c = ctx;
    json_t *o;
    switch (type) {
    case TF_ITEM_FRAME: {
        uint32_t line = 0;
        if (len >= 4)
            memcpy(&line, data, 4);
        if (line == 0) /* where a module begins, before its first statement */
            line = 1;
        const uint8_t *at = data + 4;
        size_t left = len >= 4 ? len - 4 : 0;
        json_t *file = next_text(&at, &left);
        o = json_object();
        json_object_set_new(o, "function", next_text(&at, &left));
        json_object_set_new(o, "file", file);
        json_object_set_new(o, "line", json_integer(line));
        json_array_append_new(c->into, o);
        break;
    }
    case TF_ITEM_TRIES: {
        const uint8_t *at = data;
        size_t left = len;
        json_decref(c->tries);
        c->tries = json_object();
        json_object_set_new(c->tries, c->children ? "label" : "name", next_text(&at, &left));
        json_object_set_new(c->tries, "type", next_text(&at, &left));
        break;
    }
    case TF_ITEM_LOCAL:
    case TF_ITEM_CHILD: {
        const uint8_t *at = data;
        size_t left = len;
        json_t *into = type == TF_ITEM_CHILD ? c->children : c->into;
        o = json_object();
        json_object_set_new(o, type == TF_ITEM_CHILD ? "label" : "name", next_text(&at, &left));
        json_object_set_new(o, "type", next_text(&at, &left));
        json_object_set_new(o, "repr", tf_json_text(at, left));
        json_array_append_new(into, o);
        c->count++;
        json_decref(c->tries);
        c->tries = NULL;
        break;
    }
    case TF_ITEM_VALUE:
        o = type_and_repr(data, len, "value");
        json_object_update(c->into, o);
        json_decref(o);
        break;
    case TF_ITEM_ERROR:
        if (json_is_object(c->into) && !c->tries)
            json_object_set_new(c->into, "error", tf_json_text(data, len));
        else
            c->ended = true;
        break;
    case TF_ITEM_RETURNED:
        json_object_set_new(c->answer, "returned", type_and_repr(data, len, "repr"));
        break;
    case TF_ITEM_RAISED:
        json_object_set_new(c->answer, "raised", type_and_repr(data, len, "text"));
        break;
    case TF_ITEM_OUTPUT:
        if (c->output && len > 4) {
            json_t *more = tf_json_text(data + 4, len - 4);
            json_t *all = json_sprintf("%s%s", json_string_value(c->output), json_string_value(more));
            json_decref(more);
            if (all) {
                json_decref(c->output);
                c->output = all;
            }
        }
        break;
    case TF_ITEM_COUNT: {
        uint64_t count;
        if (len >= sizeof count) {
            memcpy(&count, data, sizeof count);
            json_object_set_new(c->into, "count", json_integer((json_int_t)count));
        }
        break;
    }
    case TF_ITEM_NAME:
        json_array_append_new(c->into, tf_json_text(data, len));
        break;
    case TF_ITEM_THREAD: {
        uint32_t head[5];
        uint64_t tid;
        if (len < sizeof head)
            break;
        memcpy(head, data, sizeof head);
        memcpy(&tid, data + 8, sizeof tid);
        const uint8_t *at = data + sizeof head;
        size_t left = len - sizeof head;
        o = json_pack("{s:I, s:I, s:b}", "number", (json_int_t)head[0], "tid", (json_int_t)tid, "runs",
                      head[1] != 0);
        json_object_set_new(o, "name", next_text(&at, &left));
        json_t *file = next_text(&at, &left), *function = next_text(&at, &left);
        bool python = json_string_length(file) > 0;
        json_object_set_new(o, "function", python ? json_incref(function) : json_null());
        json_object_set_new(o, "file", python ? json_incref(file) : json_null());
        json_object_set_new(o, "line", python ? json_integer(head[4]) : json_null());
        json_decref(file);
        json_decref(function);
        json_array_append_new(c->into, o);
        break;
    }
    case TF_ITEM_PROGRAM:
    case TF_ITEM_DONE:
        break;
    }
    return 0;
}

/* What stands in the place of a repr that cannot be had; NULL if it is not the repr's fault. */
static const char *no_repr(int r)
{
    return r == TF_E_TIMEOUT  ? "<its repr did not end in time>"
           : r == TF_E_REPLAY ? "<its repr ended the process>"
                              : NULL;
}

/* Asks; what came when it went wrong is in c. */
static int ask(struct tf_timeline *t, struct tf_inspect_req req, const char *text, int timeout_ms,
               struct collect *c, struct tf_err *err)
{
    c->ended = false;
    int r = tf_timeline_inspect(t, &req, text, timeout_ms, on_item, c, err);
    return r == 0 && c->ended ? tf_err_set(err, TF_E_REPLAY, "a repr ended the process") : r;
}

/* Asks for variables or children, going on behind those whose repr does not end or ends the process. */
static int ask_each(struct tf_timeline *t, struct tf_inspect_req req, const char *text, json_t *into,
                    int timeout_ms, struct collect *c, struct tf_err *err)
{
    uint32_t first = req.from, count = req.count;
    int r = 0;
    for (int failures = 0; failures < 20; failures++) {
        req.from = first + c->count;
        req.count = count > c->count ? count - c->count : 0;
        r = ask(t, req, text, timeout_ms, c, err);
        if (r == 0)
            break;
        if (!no_repr(r) || !c->tries) /* no repr had begun: it is something else */
            break;
        json_object_set_new(c->tries, "repr", json_string(no_repr(r)));
        json_array_append_new(into, c->tries);
        c->tries = NULL;
        c->count++;
        if (count && c->count == count)
            return 0;
    }
    json_decref(c->tries);
    c->tries = NULL;
    return r;
}

json_t *tf_answer_names(struct tf_timeline *t, enum tf_inspect what, uint32_t frame, uint32_t thread,
                        int timeout_ms, struct tf_err *err)
{
    struct collect c = {.into = json_array()};
    struct tf_inspect_req req = {.what = what, .frame = frame, .thread = thread};
    if (ask_each(t, req, NULL, c.into, timeout_ms, &c, err) == 0)
        return c.into;
    json_decref(c.into);
    return NULL;
}

json_t *tf_answer_completions(struct tf_timeline *t, const char *expr, uint32_t frame, uint32_t thread,
                              int timeout_ms, struct tf_err *err)
{
    struct collect c = {.into = json_array()};
    struct tf_inspect_req req = {.what = TF_INSPECT_NAMES, .frame = frame, .thread = thread};
    if (ask(t, req, expr, timeout_ms, &c, err) == 0)
        return c.into;
    json_decref(c.into);
    return NULL;
}

/* The stack, and what the function returns or raises, whose repr may be no better than that of a local. */
static json_t *stack(struct tf_timeline *t, json_t *answer, enum tf_tag event, int timeout_ms,
                     struct tf_err *err)
{
    struct collect c = {.into = json_array(), .answer = answer};
    int r = ask(t, (struct tf_inspect_req){.what = TF_INSPECT_STACK}, NULL, timeout_ms, &c, err);
    if (r == 0)
        return c.into;
    if (no_repr(r) && json_array_size(c.into) && event != TF_CALL && event != TF_RESUME &&
        event != TF_SWITCH) {
        bool raised = event == TF_UNWIND;
        json_object_set_new(answer, raised ? "raised" : "returned",
                            json_pack("{s:s, s:s}", "type", "?", raised ? "text" : "repr", no_repr(r)));
        return c.into;
    }
    json_decref(c.into);
    return NULL;
}

static json_t *ask_for_array(struct tf_timeline *t, struct tf_inspect_req req, int timeout_ms,
                             struct tf_err *err)
{
    struct collect c = {.into = json_array()};
    if (ask(t, req, NULL, timeout_ms, &c, err) == 0)
        return c.into;
    json_decref(c.into);
    return NULL;
}

json_t *tf_answer_stack(struct tf_timeline *t, uint32_t thread, int timeout_ms, struct tf_err *err)
{
    return ask_for_array(t, (struct tf_inspect_req){.what = TF_INSPECT_STACK, .thread = thread}, timeout_ms,
                         err);
}

json_t *tf_answer_threads(struct tf_timeline *t, int timeout_ms, struct tf_err *err)
{
    return ask_for_array(t, (struct tf_inspect_req){.what = TF_INSPECT_THREADS}, timeout_ms, err);
}

json_t *tf_answer_eval(struct tf_timeline *t, const struct tf_inspect_req *req, const char *expr,
                       int timeout_ms, struct tf_err *err)
{
    json_t *o = json_object();
    struct collect c = {.into = o, .answer = o, .output = json_string("")};
    int r;
    json_object_set_new(o, "expr", tf_json_text(expr, strlen(expr)));
    if (req->what == TF_INSPECT_EXPAND) {
        c.children = json_array();
        r = ask_each(t, *req, expr, c.children, timeout_ms, &c, err);
        if (json_object_get(o, "value"))
            json_object_set(o, "children", c.children);
        json_decref(c.children);
    } else {
        r = ask(t, *req, expr, timeout_ms, &c, err);
    }
    if (r == TF_E_TIMEOUT)
        json_object_set_new(o, "error",
                            json_sprintf("it did not end within %.3g seconds (--timeout)", timeout_ms / 1e3));
    else if (r == TF_E_REPLAY)
        json_object_set_new(o, "error", json_string("it ended the process that evaluated it"));
    else if (r) {
        json_decref(c.output);
        json_decref(o);
        return NULL;
    }
    if (json_string_length(c.output))
        json_object_set(o, "output", c.output);
    json_decref(c.output);
    return o;
}

json_t *tf_answer_place(struct tf_timeline *t, const struct tf_stop *stop, int timeout_ms, struct tf_err *err)
{
    json_t *a = json_object();
    json_object_set_new(a, "frame", json_integer((json_int_t)stop->position.frame));
    json_object_set_new(a, "line_offset", json_integer((json_int_t)stop->position.lines));
    json_object_set_new(a, "event", json_string(tf_event_name(stop->frame.event)));
    json_t *entries = stack(t, a, stop->frame.event, timeout_ms, err);
    if (!entries) {
        json_decref(a);
        return NULL;
    }
    json_t *top = json_array_get(entries, 0);
    json_object_set(a, "function", top ? json_object_get(top, "function") : json_null());
    json_object_set(a, "file", top ? json_object_get(top, "file") : json_null());
    json_object_set(a, "line", top ? json_object_get(top, "line") : json_null());
    json_object_set_new(a, "depth", json_integer((json_int_t)json_array_size(entries)));
    json_object_set_new(a, "thread", json_integer(stop->frame.thread));
    size_t threads;
    (void)tf_timeline_threads(t, &threads);
    if (threads > 1) {
        const struct tf_thread_row *row = tf_timeline_thread(t, stop->frame.thread);
        const char *name = row && row->name ? row->name : "";
        json_object_set_new(a, "thread_name", tf_json_text(name, strlen(name)));
    }
    json_object_set_new(a, "time_ns", json_integer((json_int_t)stop->frame.time_ns));
    json_object_set_new(a, "stack", entries);
    return a;
}

json_t *tf_answer(struct tf_timeline *t, struct tf_store *store, const struct tf_run *run,
                  const struct tf_stop *stop, const struct tf_answer_opts *opts, struct tf_err *err)
{
    json_t *a = json_object();
    (void)store;
    json_object_set_new(a, "run", json_string(run->id));
    json_object_set_new(a, "process", json_integer(run->process));
    json_t *place = tf_answer_place(t, stop, opts->timeout_ms, err);
    if (!place)
        goto fail;
    json_object_update(a, place);
    json_decref(place);
    json_t *names = tf_answer_names(t, TF_INSPECT_LOCALS, 0, 0, opts->timeout_ms, err);
    if (!names)
        goto fail;
    json_object_set_new(a, "locals", names);
    json_t *values = json_array();
    json_object_set_new(a, "eval", values);
    for (size_t i = 0; i < opts->evals_n; i++) {
        struct tf_inspect_req req = {.what = TF_INSPECT_EVAL};
        json_t *v = tf_answer_eval(t, &req, opts->evals[i], opts->timeout_ms, err);
        if (!v)
            goto fail;
        json_array_append_new(values, v);
    }
    json_object_set_new(a, "checkpoint",
                        json_pack("{s:s, s:I}", "kind", tf_checkpoint_kind_name(stop->served_kind), "frame",
                                  (json_int_t)stop->served_frame));
    json_object_set_new(a, "replayed_frames", json_integer((json_int_t)stop->replayed));
    json_object_set_new(a, "elapsed_ms", json_real(stop->elapsed_ms));
    return a;
fail:
    json_decref(a);
    return NULL;
}

/* ---- text ---- */

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

/* A repr on one line of the answer; of a very long one, the beginning. JSON has all of it. */
void tf_answer_print_value(FILE *out, json_t *object, const char *key)
{
    json_t *text = json_object_get(object, key);
    const char *value = json_string_value(text);
    size_t len = json_string_length(text), shown = len;
    char count[32];
    if (len > TEXT_MAX)
        for (shown = TEXT_MAX; shown > TEXT_MAX - 4 && ((unsigned char)value[shown] & 0xc0) == 0x80; shown--)
            ; /* not in the middle of a character */
    fwrite(value, 1, shown, out);
    if (shown < len)
        fprintf(out, "... (%s bytes in all; --format json shows them)",
                tf_count_text(len, count, sizeof count));
}

/* Has the file changed since it was recorded? Then the user must know that what is shown is not what is on
 * disk. */
bool tf_source_changed(const char *file, const char *cwd, const char *text, size_t len)
{
    char path[4096 * 2];
    snprintf(path, sizeof path, "%s%s%s", file[0] == '/' ? "" : cwd, file[0] == '/' ? "" : "/", file);
    FILE *f = fopen(path, "re");
    if (!f)
        return access(path, F_OK) != 0;
    char *now = malloc(len + 1);
    size_t n = now ? fread(now, 1, len + 1, f) : len;
    bool differs = now && (n != len || memcmp(now, text, len) != 0);
    free(now);
    fclose(f);
    return differs;
}

static void print_source(FILE *out, json_t *answer, struct tf_store *store, const struct tf_run *run)
{
    const char *file = text_of(answer, "file");
    json_int_t line = json_integer_value(json_object_get(answer, "line")), number = 1;
    char *text;
    size_t len;
    if (tf_store_source(store, run, file, &text, &len, NULL))
        return;
    if (file[0] != '<' && tf_source_changed(file, run->cwd ? run->cwd : "", text, len))
        fprintf(out, "  (%s has changed since the recording; this is the recorded source)\n", file);
    for (const char *at = text; at < text + len; number++) {
        size_t n = strcspn(at, "\n");
        if (number >= line - CONTEXT_LINES && number <= line + CONTEXT_LINES)
            fprintf(out, "  %s%5lld  %.*s\n", number == line ? "->" : "  ", (long long)number, (int)n, at);
        at += n + 1;
    }
    free(text);
}

void tf_answer_print_raised(FILE *out, json_t *raised)
{
    if (!json_string_length(json_object_get(raised, "type"))) {
        fprintf(out, "(Python 3.11 does not tell what goes through a handler again)\n");
        return;
    }
    fprintf(out, "%s: ", text_of(raised, "type"));
    tf_answer_print_value(out, raised, "text");
    fprintf(out, "\n");
}

void tf_answer_print(FILE *out, json_t *a, struct tf_store *store, const struct tf_run *run)
{
    json_int_t lines = json_integer_value(json_object_get(a, "line_offset"));
    json_t *checkpoint = json_object_get(a, "checkpoint"), *o;
    size_t i;

    fprintf(out, "Frame %lld", (long long)json_integer_value(json_object_get(a, "frame")));
    if (lines)
        fprintf(out, "+%lld", (long long)lines);
    fprintf(out, ": %s %s at %s:%lld, depth %lld, %.6f s\n", text_of(a, "event"), text_of(a, "function"),
            text_of(a, "file"), (long long)json_integer_value(json_object_get(a, "line")),
            (long long)json_integer_value(json_object_get(a, "depth")),
            (double)json_integer_value(json_object_get(a, "time_ns")) / 1e9);
    print_source(out, a, store, run);
    if ((o = json_object_get(a, "returned"))) {
        fprintf(out, "Returns: ");
        tf_answer_print_value(out, o, "repr");
        fprintf(out, "\n");
    }
    if ((o = json_object_get(a, "raised"))) {
        fprintf(out, "Raises: ");
        tf_answer_print_raised(out, o);
    }
    fprintf(out, "Stack:\n");
    json_array_foreach(json_object_get(a, "stack"), i, o)
        fprintf(out, "  #%-3zu %s at %s:%lld\n", i, text_of(o, "function"), text_of(o, "file"),
                (long long)json_integer_value(json_object_get(o, "line")));
    fprintf(out, "Locals:\n");
    json_array_foreach(json_object_get(a, "locals"), i, o)
    {
        fprintf(out, "  %s = ", text_of(o, "name"));
        tf_answer_print_value(out, o, "repr");
        fprintf(out, "\n");
    }
    json_array_foreach(json_object_get(a, "eval"), i, o)
    {
        json_t *printed = json_object_get(o, "output");
        if (printed)
            fprintf(out, "%s%s", json_string_value(printed),
                    json_string_value(printed)[json_string_length(printed) - 1] == '\n' ? "" : "\n");
        fprintf(out, "%s = ", text_of(o, "expr"));
        if (json_object_get(o, "error"))
            fprintf(out, "[%s]", text_of(o, "error"));
        else
            tf_answer_print_value(out, o, "value");
        fprintf(out, "\n");
    }
    fprintf(out, "(from %s at frame %lld, %lld frame events executed again, %.1f ms)\n",
            text_of(checkpoint, "kind"), (long long)json_integer_value(json_object_get(checkpoint, "frame")),
            (long long)json_integer_value(json_object_get(a, "replayed_frames")),
            json_real_value(json_object_get(a, "elapsed_ms")));
}
