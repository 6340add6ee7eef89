/* prompt_threads.c: commands about threads: which there are, which one is looked at. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "cli/prompt_look.h"

/* Puts a thread's number and name into an answer. */
static void put_thread(struct tf_prompt *p, json_t *out, uint32_t number)
{
    const struct tf_thread_row *row = tf_timeline_thread(p->timeline, number);
    const char *name = row && row->name ? row->name : "";
    json_object_set_new(out, "number", json_integer(number));
    json_object_set_new(out, "name", tf_json_text(name, strlen(name)));
}

/* ---- info threads ---- */

static int threads(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    json_t *all, *one;
    size_t i;
    if (*args)
        return tf_err_set(err, TF_E_USAGE, "info threads lists all threads: it takes no '%s'", args);
    if (!(all = tf_answer_threads(p->timeline, p->timeout_ms, err)))
        return err->code;
    json_array_foreach(all, i, one)
    {
        uint32_t number = (uint32_t)json_integer_value(json_object_get(one, "number"));
        const struct tf_thread_row *row = tf_timeline_thread(p->timeline, number);
        if (!json_string_length(json_object_get(one, "name")) && row && row->name)
            json_object_set_new(one, "name", tf_json_text(row->name, strlen(row->name)));
        if (row && row->tid) /* as it was in the recording */
            json_object_set_new(one, "tid", json_integer(row->tid));
        json_object_set_new(one, "selected", json_boolean(number == p->thread));
    }
    json_object_set_new(out, "threads", all);
    return 0;
}

static void print_threads(struct tf_prompt *p, json_t *result)
{
    json_t *all = json_object_get(result, "threads"), *one;
    size_t i;
    int width = 4;
    json_array_foreach(all, i, one)
    {
        int n = (int)json_string_length(json_object_get(one, "name"));
        width = n > width && n <= 40 ? n : width;
    }
    if (!json_array_size(all))
        fprintf(p->out, "(there are no threads here: Python is not running yet, or no more)\n");
    else
        fprintf(p->out, "   Id   Native id  %-*s  Where\n", width, "Name");
    json_array_foreach(all, i, one)
    {
        bool selected = json_is_true(json_object_get(one, "selected"));
        fprintf(p->out, "%s%s%s  %-4lld %-10lld %-*s  ", selected ? tf_colour(p, TF_GREEN) : "",
                selected ? "*" : " ", selected ? tf_colour(p, TF_PLAIN) : "",
                (long long)json_integer_value(json_object_get(one, "number")),
                (long long)json_integer_value(json_object_get(one, "tid")), width,
                tf_prompt_text(one, "name"));
        if (json_is_string(json_object_get(one, "function")))
            fprintf(p->out, "%s%s%s at %s%s:%lld%s", tf_colour(p, TF_YELLOW), tf_prompt_text(one, "function"),
                    tf_colour(p, TF_PLAIN), tf_colour(p, TF_CYAN),
                    tf_prompt_file(p, tf_prompt_text(one, "file")),
                    (long long)json_integer_value(json_object_get(one, "line")), tf_colour(p, TF_PLAIN));
        else
            fprintf(p->out, "no Python function");
        fprintf(p->out, "%s\n", json_is_true(json_object_get(one, "runs")) ? "  (runs)" : "");
    }
}

/* ---- thread ---- */

static int thread(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    uint64_t number = p->thread;
    if (*args && (!tf_number(args, 0, &number) || number > UINT32_MAX - 1))
        return tf_err_set(err, TF_E_USAGE,
                          "thread takes the number of a thread, not '%s': 'info threads' lists them", args);
    int r = *args ? tf_prompt_select_thread(p, (uint32_t)number, err) : 0;
    if (r)
        return r;
    put_thread(p, out, p->thread);
    json_object_set_new(out, "runs", json_boolean(p->thread == p->here.frame.thread));
    json_object_set_new(out, "switched", json_boolean(*args != 0));
    json_t *entry = tf_prompt_selected(p);
    json_t *line = entry ? tf_prompt_source_line(p, tf_prompt_text(entry, "file"),
                                                 json_integer_value(json_object_get(entry, "line")))
                         : NULL;
    json_object_set(out, "function", entry ? json_object_get(entry, "function") : json_null());
    json_object_set(out, "file", entry ? json_object_get(entry, "file") : json_null());
    json_object_set(out, "line", entry ? json_object_get(entry, "line") : json_null());
    json_object_set_new(out, "source", line ? line : json_null());
    return 0;
}

static void print_thread(struct tf_prompt *p, json_t *result)
{
    char name[256];
    json_int_t line = json_integer_value(json_object_get(result, "line"));
    bool switched = json_is_true(json_object_get(result, "switched"));
    tf_prompt_thread_text(p, p->thread, name, sizeof name);
    if (switched)
        fprintf(p->out, "[Switching to %s]\n", name);
    else
        fprintf(p->out, "[Current thread is %s]\n", name + strlen("thread "));
    if (!json_is_string(json_object_get(result, "function"))) {
        fprintf(p->out, "no Python function\n");
        return;
    }
    fprintf(p->out, "#0   %s%s%s at %s%s:%lld%s\n", tf_colour(p, TF_YELLOW),
            tf_prompt_text(result, "function"), tf_colour(p, TF_PLAIN), tf_colour(p, TF_CYAN),
            tf_prompt_file(p, tf_prompt_text(result, "file")), (long long)line, tf_colour(p, TF_PLAIN));
    if (json_is_string(json_object_get(result, "source")))
        fprintf(p->out, "%5lld %s->%s %s\n", (long long)line, tf_colour(p, TF_GREEN), tf_colour(p, TF_PLAIN),
                tf_prompt_text(result, "source"));
}

/* ---- thread apply ---- */

static bool only_looks(const struct tf_command *command)
{
    for (const struct tf_command *c = tf_commands_look; c->name; c++)
        if (c == command)
            return true;
    return false;
}

/* Runs the command with the thread selected; what it prints becomes "text". New reference; NULL with err when
 * the thread is not there. */
static json_t *apply(struct tf_prompt *p, uint32_t number, const struct tf_command *command, const char *args,
                     struct tf_err *err)
{
    if (tf_prompt_select_thread(p, number, err))
        return NULL;
    json_t *one = json_object(), *result = json_pack("{s:s}", "command", command->name);
    struct tf_err own = {0};
    put_thread(p, one, number);
    int r = command->run(p, args, result, &own);
    if (r)
        json_object_set_new(result, "error", tf_json_text(own.msg, strlen(own.msg)));
    if (!p->json) {
        FILE *out = p->out;
        char *text = NULL;
        size_t len = 0;
        p->out = open_memstream(&text, &len);
        if (p->out) {
            if (r)
                fprintf(p->out, "%s\n", own.msg);
            else if (command->print)
                command->print(p, result);
            fclose(p->out);
            json_object_set_new(one, "text", tf_json_text(text, len));
        }
        free(text);
        p->out = out;
    }
    json_object_set_new(one, "result", result);
    return one;
}

static int thread_apply(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    static const char usage[] =
        "thread apply all COMMAND, or thread apply N [N...] COMMAND, as in: thread apply "
        "all where";
    const struct tf_command *command;
    const char *rest;
    uint32_t selected = p->thread, frame = p->frame;
    json_t *numbers = json_array(), *number, *all = json_array();
    size_t i;
    int r = 0;
    if (strncmp(args, "all", 3) == 0 && isspace((unsigned char)args[3])) {
        json_t *there = tf_answer_threads(p->timeline, p->timeout_ms, err), *one;
        r = there ? 0 : err->code;
        json_array_foreach(there, i, one) json_array_append(numbers, json_object_get(one, "number"));
        json_decref(there);
        args += 3;
    }
    while (!r && !(args += strspn(args, " \t"), !isdigit((unsigned char)*args))) {
        char *end;
        unsigned long n = strtoul(args, &end, 10);
        if ((*end && !isspace((unsigned char)*end)) || n >= UINT32_MAX)
            r = tf_err_set(err, TF_E_USAGE, "%s", usage);
        json_array_append_new(numbers, json_integer((json_int_t)n));
        args = end;
    }
    if (!r && (!json_array_size(numbers) || !*args))
        r = tf_err_set(err, TF_E_USAGE, "%s", usage);
    if (!r)
        r = tf_prompt_find(args, &command, &rest, err);
    if (!r && !only_looks(command))
        r = tf_err_set(
            err, TF_E_USAGE,
            "thread apply runs commands that look, like where, locals and print: '%s' is none; 'thread "
            "N' and then '%s' does it in one thread",
            command->name, command->name);
    p->applies = true;
    json_array_foreach(numbers, i, number)
    {
        json_t *one = r ? NULL : apply(p, (uint32_t)json_integer_value(number), command, rest, err);
        if (!one) {
            r = r ? r : err->code;
            break;
        }
        json_array_append_new(all, one);
    }
    p->applies = false;
    struct tf_err ignored;
    if (p->thread != selected)
        (void)tf_prompt_select_thread(p, selected, &ignored);
    p->frame = frame;
    json_decref(numbers);
    if (r)
        json_decref(all);
    else
        json_object_set_new(out, "threads", all);
    return r;
}

static void print_applied(struct tf_prompt *p, json_t *result)
{
    json_t *all = json_object_get(result, "threads"), *one;
    char name[256];
    size_t i;
    json_array_foreach(all, i, one)
    {
        tf_prompt_thread_text(p, (uint32_t)json_integer_value(json_object_get(one, "number")), name,
                              sizeof name);
        fprintf(p->out, "%s%sT%s:%s\n%s", i ? "\n" : "", tf_colour(p, TF_BOLD), name + 1,
                tf_colour(p, TF_PLAIN), tf_prompt_text(one, "text"));
    }
}

/* ---- scheduler-locking ---- */

static const char *const lockings[] = {"off", "step", "on"};

static int show_locking(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    (void)args, (void)err;
    json_object_set_new(out, "scheduler_locking", json_string(lockings[p->locking]));
    return 0;
}

static int set_locking(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    for (size_t i = 0; i < sizeof lockings / sizeof *lockings; i++)
        if (strcmp(args, lockings[i]) == 0) {
            p->locking = (enum tf_locking)i;
            return show_locking(p, "", out, err);
        }
    return tf_err_set(err, TF_E_USAGE, "set scheduler-locking off, step or on: not '%s'", args);
}

static void print_locking(struct tf_prompt *p, json_t *result)
{
    static const char *const what[] = {"step goes to the next line of any thread",
                                       "steps stay in their thread; breakpoints stop in any",
                                       "steps stay in their thread, and breakpoints count only there"};
    (void)result;
    fprintf(p->out, "scheduler-locking %s: %s\n", lockings[p->locking], what[p->locking]);
}

/* ---- */

const struct tf_command tf_commands_threads[] = {
    {"thread", "t", thread, print_thread, TF_COMPLETES_THREAD, false, "thread [N]",
     "Selects thread N of those that 'info threads' lists, or shows which one is selected.\n"
     "What looks (where, up, print, locals...) and steps are about the selected thread. Each move selects\n"
     "the one that runs where it ends."},
    {"thread apply", NULL, thread_apply, print_applied, TF_COMPLETES_THREAD, false,
     "thread apply all | N... COMMAND",
     "Runs a command that looks in all threads, or in some: thread apply all where."},
    {"info threads", NULL, threads, print_threads, TF_COMPLETES_NOTHING, false, "info threads",
     "Lists the threads that there are at the present, and where each of them is. * is the selected one."},
    {"set scheduler-locking", NULL, set_locking, print_locking, TF_COMPLETES_NOTHING, false,
     "set scheduler-locking off | step | on",
     "What steps do when there are several threads. step: they stay in their thread.\n"
     "off: step goes to the next line of any thread. on: as step, and breakpoints and catches of other\n"
     "threads do not stop it either, nor continue."},
    {"show scheduler-locking", NULL, show_locking, print_locking, TF_COMPLETES_NOTHING, false,
     "show scheduler-locking", "Shows what steps do when there are several threads."},
    {0},
};
