/* prompt_session.c: commands about the session itself: help, bookmarks, the history of positions, settings.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "cli/info.h"
#include "cli/prompt.h"

static int quit(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    (void)args, (void)out, (void)err;
    p->quit = true;
    return 0;
}

/* ---- help ---- */

static json_t *describe(const struct tf_command *c)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "name", c->name, "aliases", c->aliases ? c->aliases : "",
                     "usage", c->usage, "what", c->what);
}

static void add_command(void *ctx, const struct tf_command *c)
{
    json_array_append_new(ctx, describe(c));
}

static int help(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    const struct tf_command *c;
    const char *rest;
    json_t *commands = json_array();
    (void)p;
    if (!*args) {
        tf_prompt_each_command(add_command, commands);
    } else {
        int r = tf_prompt_find(args, &c, &rest, err);
        if (r) {
            json_decref(commands);
            return r;
        }
        json_array_append_new(commands, describe(c));
        json_object_set_new(out, "about", json_string(c->name));
    }
    json_object_set_new(out, "commands", commands);
    return 0;
}

static void print_help(struct tf_prompt *p, json_t *result)
{
    json_t *o;
    size_t i;
    if (json_object_get(result, "about")) {
        o = json_array_get(json_object_get(result, "commands"), 0);
        const char *aliases = tf_prompt_text(o, "aliases");
        fprintf(p->out, "%s%s%s", tf_colour(p, TF_BOLD), tf_prompt_text(o, "usage"), tf_colour(p, TF_PLAIN));
        if (*aliases)
            fprintf(p->out, "   (short: %s)", aliases);
        fprintf(p->out, "\n%s\n", tf_prompt_text(o, "what"));
        return;
    }
    json_array_foreach(json_object_get(result, "commands"), i, o)
    {
        const char *what = tf_prompt_text(o, "what"), *aliases = tf_prompt_text(o, "aliases");
        char name[64];
        snprintf(name, sizeof name, "%s%s%s%s", tf_prompt_text(o, "name"), *aliases ? " (" : "", aliases,
                 *aliases ? ")" : "");
        fprintf(p->out, "  %s%-28s%s %.*s\n", tf_colour(p, TF_BOLD), name, tf_colour(p, TF_PLAIN),
                (int)strcspn(what, "\n"), what);
    }
    fprintf(p->out, "'help COMMAND' tells more. Any unambiguous beginning of a name will do.\n");
}

/* ---- where we are ---- */

static int when(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    const char *why;
    (void)args, (void)err;
    json_object_set_new(out, "position", tf_prompt_place_json(p));
    json_object_set_new(out, "run", json_string(p->run->id));
    json_object_set_new(out, "process", json_integer(p->run->process));
    json_object_set_new(out, "frames", json_integer((json_int_t)p->run->frames));
    json_object_set_new(out, "first", json_integer((json_int_t)tf_timeline_first(p->timeline)));
    json_object_set_new(out, "reach", json_integer((json_int_t)tf_timeline_reach(p->timeline, &why)));
    json_object_set_new(out, "duration_ns", json_integer((json_int_t)p->run->duration_ns));
    json_object_set_new(out, "checkpoints",
                        json_integer((json_int_t)tf_checkpoints_live(tf_timeline_checkpoints(p->timeline))));
    return 0;
}

static void print_when(struct tf_prompt *p, json_t *result)
{
    json_t *at = json_object_get(result, "position");
    char position[64], frames[32];
    double all = (double)p->run->duration_ns / 1e9;
    json_int_t checkpoints = json_integer_value(json_object_get(result, "checkpoints"));
    json_int_t thread = json_integer_value(json_object_get(at, "thread"));
    char name[256];
    if (json_object_get(at, "thread_name"))
        tf_prompt_thread_text(p, (uint32_t)thread, name, sizeof name);
    else
        snprintf(name, sizeof name, "thread %lld", (long long)thread);
    fprintf(p->out, "#%s of %s frame events, %.6f s of %.6f s, depth %lld, %s, %lld checkpoint%s\n",
            tf_position_text(p->here.position, position, sizeof position),
            tf_count_text(p->run->frames, frames, sizeof frames),
            (double)json_integer_value(json_object_get(at, "time_ns")) / 1e9, all,
            (long long)json_integer_value(json_object_get(at, "depth")), name, (long long)checkpoints,
            checkpoints == 1 ? "" : "s");
}

/* ---- divergences ---- */

static int explain(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    if (*args)
        return tf_err_set(err, TF_E_USAGE, "explain is about the last divergence: it takes no '%s'", args);
    if (!p->divergence)
        return tf_err_set(err, TF_E_NOTFOUND, "no command has met a divergence: there is nothing to explain");
    json_object_set_new(out, "divergence",
                        tf_divergence_report(p->timeline, p->divergence, TF_ON_DIVERGENCE_EXPLAIN));
    return 0;
}

static void print_explained(struct tf_prompt *p, json_t *result)
{
    tf_divergence_print(p->out, json_object_get(result, "divergence"), true);
}

/* ---- bookmarks ---- */

static json_t *position_json(struct tf_position position)
{
    return json_pack("[I, I]", (json_int_t)position.frame, (json_int_t)position.lines);
}

static int bookmark(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    if (!*args || isdigit((unsigned char)*args) || strpbrk(args, " \t:+"))
        return tf_err_set(err, TF_E_USAGE,
                          "bookmark %s: a NAME is needed: one word that does not begin with a digit", args);
    json_object_set_new(p->bookmarks, args, position_json(p->here.position));
    json_object_set_new(out, "name", tf_json_text(args, strlen(args)));
    json_object_set_new(out, "frame", json_integer((json_int_t)p->here.position.frame));
    json_object_set_new(out, "line_offset", json_integer((json_int_t)p->here.position.lines));
    return 0;
}

static void print_bookmark(struct tf_prompt *p, json_t *result)
{
    char position[64];
    fprintf(p->out, "%s: #%s\n", tf_prompt_text(result, "name"),
            tf_position_text(p->here.position, position, sizeof position));
}

static int bookmarks(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    const char *name;
    json_t *at, *all = json_array();
    (void)args, (void)err;
    json_object_foreach(p->bookmarks, name, at)
        json_array_append_new(all, json_pack("{s:s, s:O, s:O}", "name", name, "frame", json_array_get(at, 0),
                                             "line_offset", json_array_get(at, 1)));
    json_object_set_new(out, "bookmarks", all);
    return 0;
}

static void print_bookmarks(struct tf_prompt *p, json_t *result)
{
    json_t *all = json_object_get(result, "bookmarks"), *o;
    char position[64];
    size_t i;
    if (!json_array_size(all))
        fprintf(p->out, "(there are no bookmarks; 'bookmark NAME' makes one)\n");
    json_array_foreach(all, i, o)
    {
        struct tf_position at = {(uint64_t)json_integer_value(json_object_get(o, "frame")),
                                 (uint64_t)json_integer_value(json_object_get(o, "line_offset"))};
        fprintf(p->out, "%s: #%s\n", tf_prompt_text(o, "name"),
                tf_position_text(at, position, sizeof position));
    }
}

static int delete_bookmark(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    if (!*args)
        return tf_err_set(err, TF_E_USAGE, "which one? delete bookmark NAME");
    if (json_object_del(p->bookmarks, args))
        return tf_err_set(err, TF_E_NOTFOUND, "there is no bookmark '%s': 'bookmarks' lists them", args);
    json_object_set_new(out, "name", tf_json_text(args, strlen(args)));
    return 0;
}

/* ---- the history of positions ---- */

static int travel(struct tf_prompt *p, const char *args, bool forth, json_t *out, struct tf_err *err)
{
    uint64_t n = 1;
    if (*args && !tf_number(args, 1, &n))
        return tf_err_set(err, TF_E_USAGE, "a number is expected instead of '%s': %s [N]", args,
                          forth ? "forth" : "back");
    size_t room = forth ? p->history_n - 1 - p->history_at : p->history_at;
    if (!room)
        return tf_err_set(err, TF_E_NOTFOUND,
                          forth ? "this is the last position of the history: 'forth' undoes 'back'"
                                : "this is where the history of positions begins");
    if (n > room)
        n = room;
    size_t at = forth ? p->history_at + n : p->history_at - n;
    int r = tf_prompt_stand(p, p->history[at], out, err);
    if (r == 0)
        p->history_at = at;
    return r;
}

static int back(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return travel(p, args, false, out, err);
}

static int forth(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return travel(p, args, true, out, err);
}

/* ---- settings ---- */

static int show(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    if (*args && strcmp(args, "timeout") != 0)
        return tf_err_set(err, TF_E_NOTFOUND, "there is no setting '%s': timeout is the only one", args);
    json_object_set_new(out, "timeout", json_real(p->timeout_ms / 1e3));
    return 0;
}

static int set(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    size_t n = strcspn(args, " \t");
    const char *value = args + n + strspn(args + n, " \t");
    char *end;
    if (n != 7 || memcmp(args, "timeout", 7) != 0)
        return tf_err_set(err, *args ? TF_E_NOTFOUND : TF_E_USAGE,
                          "set timeout SECONDS: there is no other setting");
    double seconds = strtod(value, &end);
    if (!*value || *end || !(seconds >= 0.001) || seconds > 86400)
        return tf_err_set(err, TF_E_USAGE, "set timeout %s: a number of seconds is expected", value);
    p->timeout_ms = (int)(seconds * 1000);
    return show(p, "", out, err);
}

static void print_settings(struct tf_prompt *p, json_t *result)
{
    fprintf(p->out, "timeout %.3g s for an expression\n",
            json_real_value(json_object_get(result, "timeout")));
}

/* ---- info ---- */

static void add_info(void *ctx, const struct tf_command *c)
{
    if (strncmp(c->name, "info ", 5) == 0)
        json_array_append_new(ctx, describe(c));
}

static int info(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    (void)p;
    if (*args)
        return tf_err_set(err, TF_E_NOTFOUND, "there is no 'info %s': 'info' lists what there is", args);
    json_t *commands = json_array();
    tf_prompt_each_command(add_info, commands);
    json_object_set_new(out, "commands", commands);
    return 0;
}

/* ---- checkpoints ---- */

static int checkpoints(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    if (*args)
        return tf_err_set(err, TF_E_USAGE, "info checkpoints lists all of them: it takes no '%s'", args);
    struct tf_checkpoints *set = tf_timeline_checkpoints(p->timeline);
    json_object_set_new(out, "checkpoints", tf_info_checkpoints(set));
    json_object_set_new(out, "bytes", json_integer((json_int_t)set->bytes));
    json_object_set_new(out, "max_checkpoints", json_integer((json_int_t)set->limits.max));
    json_object_set_new(out, "max_bytes", json_integer((json_int_t)set->limits.bytes));
    return 0;
}

static void print_checkpoints(struct tf_prompt *p, json_t *result)
{
    const json_t *all = json_object_get(result, "checkpoints");
    char used[32], most[32];
    tf_info_print_checkpoints(p->out, all, "MEMORY", "");
    fprintf(
        p->out, "%zu of at most %lld, %s of at most %s\n", json_array_size(all),
        (long long)json_integer_value(json_object_get(result, "max_checkpoints")),
        tf_bytes_text((uint64_t)json_integer_value(json_object_get(result, "bytes")), used, sizeof used),
        tf_bytes_text((uint64_t)json_integer_value(json_object_get(result, "max_bytes")), most, sizeof most));
}

/* ---- */

const struct tf_command tf_commands_session[] = {
    {"when", NULL, when, print_when, TF_COMPLETES_NOTHING, false, "when",
     "Shows the present position: frame event and lines, time, depth of the stack, thread."},
    {"back", NULL, back, NULL, TF_COMPLETES_NOTHING, true, "back [N]",
     "Goes back to where you were before the last move, or N moves ago."},
    {"forth", NULL, forth, NULL, TF_COMPLETES_NOTHING, true, "forth [N]", "Undoes back."},
    {"explain", NULL, explain, print_explained, TF_COMPLETES_NOTHING, false, "explain",
     "Makes the full report of the last divergence: what both sides did, what came before, likely causes.\n"
     "The run is replayed once more for it, up to that place."},
    {"bookmark", NULL, bookmark, print_bookmark, TF_COMPLETES_NOTHING, false, "bookmark NAME",
     "Gives the present position a name, for 'goto NAME'."},
    {"bookmarks", NULL, bookmarks, print_bookmarks, TF_COMPLETES_NOTHING, false, "bookmarks",
     "Lists the bookmarks."},
    {"info bookmarks", NULL, bookmarks, print_bookmarks, TF_COMPLETES_NOTHING, false, "info bookmarks",
     "As bookmarks."},
    {"delete bookmark", NULL, delete_bookmark, NULL, TF_COMPLETES_BOOKMARK, false, "delete bookmark NAME",
     "Forgets a bookmark."},
    {"info checkpoints", NULL, checkpoints, print_checkpoints, TF_COMPLETES_NOTHING, false,
     "info checkpoints",
     "Lists the checkpoints from which moves begin: position, kind, memory (pages that several share count\n"
     "once among them: PSS), age."},
    {"info", "i", info, print_help, TF_COMPLETES_COMMAND, false, "info WHAT", "Lists what info can show."},
    {"set", NULL, set, print_settings, TF_COMPLETES_NOTHING, false, "set timeout SECONDS",
     "Sets how long an expression, or a repr, may take."},
    {"show", NULL, show, print_settings, TF_COMPLETES_NOTHING, false, "show [timeout]",
     "Shows the settings."},
    {"help", "h ?", help, print_help, TF_COMPLETES_COMMAND, false, "help [COMMAND]",
     "Lists the commands, or tells about one."},
    {"quit", "q exit", quit, NULL, TF_COMPLETES_NOTHING, false, "quit", "Ends the session."},
    {0},
};
