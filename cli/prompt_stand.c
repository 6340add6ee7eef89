/* prompt_stand.c: the present of a prompt: going somewhere, what is said about it, questions there. */
#include <stdlib.h>
#include <string.h>
#include "cli/prompt.h"

#define HISTORY_MAX 4096

const char *tf_position_text(struct tf_position position, char *buf, size_t size)
{
    if (position.lines)
        snprintf(buf, size, "%llu+%llu", (unsigned long long)position.frame,
                 (unsigned long long)position.lines);
    else
        snprintf(buf, size, "%llu", (unsigned long long)position.frame);
    return buf;
}

const char *tf_prompt_text(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

const char *tf_prompt_file(const struct tf_prompt *p, const char *file)
{
    size_t n = p->run->cwd ? strlen(p->run->cwd) : 0;
    if (n && strncmp(file, p->run->cwd, n) == 0 && file[n] == '/')
        return file + n + 1;
    return strncmp(file, "./", 2) == 0 ? file + 2 : file;
}

json_t *tf_prompt_selected(const struct tf_prompt *p)
{
    return json_array_get(tf_prompt_stack(p), p->frame);
}

json_t *tf_prompt_stack(const struct tf_prompt *p)
{
    return p->other_stack ? p->other_stack : json_object_get(p->place, "stack");
}

static void select_running(struct tf_prompt *p)
{
    json_decref(p->other_stack);
    p->other_stack = NULL;
    p->thread = p->here.frame.thread;
    p->frame = 0;
}

int tf_prompt_select_thread(struct tf_prompt *p, uint32_t number, struct tf_err *err)
{
    json_t *all, *one, *stack;
    size_t i;
    bool there = false;
    char text[256];
    if (number == p->here.frame.thread) {
        select_running(p);
        return 0;
    }
    if (!(all = tf_answer_threads(p->timeline, p->timeout_ms, err)))
        return err->code;
    json_array_foreach(all, i, one) there |= json_integer_value(json_object_get(one, "number")) == number;
    json_decref(all);
    if (!there && !tf_timeline_thread(p->timeline, number))
        return tf_err_set(err, TF_E_NOTFOUND, "this run has no thread %u: 'info threads' lists those of here",
                          number);
    if (!there)
        return tf_err_set(err, TF_E_NOTFOUND,
                          "%s is not there at this position: 'info threads' lists those that are",
                          tf_prompt_thread_text(p, number, text, sizeof text));
    if (!(stack = tf_answer_stack(p->timeline, number + 1, p->timeout_ms, err)))
        return err->code;
    json_decref(p->other_stack);
    p->other_stack = stack;
    p->thread = number;
    p->frame = 0;
    return 0;
}

const char *tf_prompt_thread_text(const struct tf_prompt *p, uint32_t number, char *buf, size_t size)
{
    const struct tf_thread_row *row = tf_timeline_thread(p->timeline, number);
    bool named = row && row->name && *row->name;
    snprintf(buf, size, "thread %u%s%s%s", number, named ? " (" : "", named ? row->name : "",
             named ? ")" : "");
    return buf;
}

json_t *tf_prompt_source_line(const struct tf_prompt *p, const char *file, long long line)
{
    char *text;
    size_t len;
    json_t *found = NULL;
    if (!file || tf_store_source(p->store, p->run, file, &text, &len, NULL))
        return NULL;
    for (const char *at = text; at < text + len; line--) {
        size_t n = strcspn(at, "\r\n");
        if (line == 1)
            found = tf_json_text(at, n);
        if (line <= 1)
            break;
        at += n;
        at += at[0] == '\r' && at[1] == '\n' ? 2 : 1;
    }
    free(text);
    return found;
}

json_t *tf_prompt_place_json(const struct tf_prompt *p)
{
    json_t *position = json_copy(p->place);
    json_object_del(position, "stack");
    return position;
}

int tf_prompt_stand(struct tf_prompt *p, struct tf_position to, json_t *out, struct tf_err *err)
{
    struct tf_stop stop;
    struct tf_position former = p->here.position;
    int r = tf_timeline_goto(p->timeline, to, &stop, err);
    if (r)
        return r;
    json_t *place = tf_answer_place(p->timeline, &stop, p->timeout_ms, err);
    if (!place) {
        /* The present must not be one of which nothing is known. */
        struct tf_err ignored;
        if (former.frame)
            (void)tf_timeline_goto(p->timeline, former, &stop, &ignored);
        return err->code;
    }
    json_decref(p->place);
    p->place = place;
    p->here = stop;
    select_running(p);
    json_object_set_new(out, "position", tf_prompt_place_json(p));
    json_t *line = tf_prompt_source_line(p, json_string_value(json_object_get(place, "file")),
                                         json_integer_value(json_object_get(place, "line")));
    json_object_set_new(out, "source", line ? line : json_null());
    struct tf_err display_err = {0};
    json_t *displays = tf_look_displays(p, &display_err);
    if (displays)
        json_object_set_new(out, "displays", displays);
    return 0;
}

int tf_prompt_goto(struct tf_prompt *p, struct tf_position to, json_t *out, struct tf_err *err)
{
    int r = tf_prompt_stand(p, to, out, err);
    if (r)
        return r;
    struct tf_position here = p->here.position;
    if (p->history_n) {
        struct tf_position at = p->history[p->history_at];
        if (at.frame == here.frame && at.lines == here.lines)
            return 0;
    }
    if (p->history_n)
        p->history_n = p->history_at + 1; /* what was forth of here is forgotten, as in a browser */
    if (p->history_n == HISTORY_MAX) {
        memmove(p->history, p->history + HISTORY_MAX / 2, HISTORY_MAX / 2 * sizeof *p->history);
        p->history_n = HISTORY_MAX / 2;
    }
    struct tf_position *more = realloc(p->history, (p->history_n + 1) * sizeof *more);
    if (!more)
        return 0; /* there is no way back, but we are there */
    p->history = more;
    p->history[p->history_n] = here;
    p->history_at = p->history_n++;
    return 0;
}

void tf_prompt_print_place(struct tf_prompt *p, json_t *result)
{
    json_t *at = json_object_get(result, "position"), *o;
    json_int_t lines = json_integer_value(json_object_get(at, "line_offset"));
    json_int_t line = json_integer_value(json_object_get(at, "line"));
    json_int_t thread = json_integer_value(json_object_get(at, "thread"));
    char text[64], name[256];
    struct tf_position position = {(uint64_t)json_integer_value(json_object_get(at, "frame")),
                                   (uint64_t)lines};

    fprintf(p->out, "%s#%s%s  %.6f s  ", tf_colour(p, TF_BOLD), tf_position_text(position, text, sizeof text),
            tf_colour(p, TF_PLAIN), (double)json_integer_value(json_object_get(at, "time_ns")) / 1e9);
    if (json_is_string(json_object_get(at, "function")))
        fprintf(p->out, "%s%s%s at %s%s:%lld%s", tf_colour(p, TF_YELLOW), tf_prompt_text(at, "function"),
                tf_colour(p, TF_PLAIN), tf_colour(p, TF_CYAN), tf_prompt_file(p, tf_prompt_text(at, "file")),
                (long long)line, tf_colour(p, TF_PLAIN));
    else
        fprintf(p->out, "no Python function runs");
    if (!lines)
        fprintf(p->out, " (%s)", tf_prompt_text(at, "event"));
    if (json_object_get(at, "thread_name") || thread)
        fprintf(p->out, ", %s", tf_prompt_thread_text(p, (uint32_t)thread, name, sizeof name));
    fprintf(p->out, "\n");
    if (json_is_string(json_object_get(result, "source")))
        fprintf(p->out, "%5lld %s->%s %s\n", (long long)line, tf_colour(p, TF_GREEN), tf_colour(p, TF_PLAIN),
                tf_prompt_text(result, "source"));
    if ((o = json_object_get(at, "returned"))) {
        fprintf(p->out, "Returns: ");
        tf_answer_print_value(p->out, o, "repr");
        fprintf(p->out, "\n");
    }
    if ((o = json_object_get(at, "raised"))) {
        fprintf(p->out, "%sRaises:%s ", tf_colour(p, TF_RED), tf_colour(p, TF_PLAIN));
        tf_answer_print_raised(p->out, o);
    }
    if ((o = json_object_get(result, "displays")))
        tf_look_print_displays(p, o);
}

json_t *tf_prompt_eval(struct tf_prompt *p, const char *expr, enum tf_inspect what, struct tf_err *err)
{
    struct tf_inspect_req req = {.what = what, .frame = p->frame, .thread = tf_prompt_whose(p)};
    return tf_answer_eval(p->timeline, &req, expr, p->timeout_ms, err);
}
