/* prompt_move.c: commands that move: steps, continue, goto. */
#include <stdlib.h>
#include <string.h>
#include "cli/prompt_parse.h"
#include "cli/prompt_points.h"

static bool before(struct tf_position a, struct tf_position b)
{
    return a.frame < b.frame || (a.frame == b.frame && a.lines < b.lines);
}

struct tf_position tf_moves_end(struct tf_prompt *p)
{
    return (struct tf_position){tf_timeline_reach(p->timeline, NULL) + 1, 0};
}

static int parse_count(const char *command, const char *args, uint64_t *count, struct tf_err *err)
{
    *count = 1;
    if (*args && (!tf_number(args, 1, count) || *count > UINT32_MAX))
        return tf_err_set(err, TF_E_USAGE, "%s takes a number of times, not '%s'", command, args);
    return 0;
}

/* Did the process become another program by execve? *path is malloc'ed. What cannot be read is not said. */
static bool became(struct tf_prompt *p, char **path)
{
    struct tf_mark_row *marks;
    size_t n;
    if (tf_store_marks(p->store, p->run, &marks, &n, NULL))
        return false;
    for (size_t i = n; i-- > 0 && !*path;)
        if (marks[i].kind == TF_MARK_EXEC)
            *path = strdup(marks[i].text);
    tf_marks_free(marks, n);
    return *path != NULL;
}

/* "The run ends here: ..."; thread: of the run only this ends. */
static void say_end(struct tf_prompt *p, bool reverse, const uint32_t *thread, json_t *out)
{
    const char *why = NULL;
    char signal[64];
    char *path = NULL;
    json_t *message;
    (void)tf_timeline_reach(p->timeline, &why);
    if (thread) {
        char name[256];
        tf_prompt_thread_text(p, *thread, name, sizeof name);
        *name = 'T';
        message = reverse ? json_sprintf("%s begins here.", name)
                          : json_sprintf("%s runs no more: it stands here.", name);
        json_object_set_new(out, "reason", json_string(reverse ? "thread-start" : "thread-end"));
        json_object_set_new(out, "message", message ? message : json_string("The thread runs no more."));
        return;
    }
    if (reverse && tf_run_has_base(p->run))
        message = json_string("The run begins here: its oldest part was dropped.");
    else if (reverse)
        message = json_string("The run starts here.");
    else if (why)
        message = json_sprintf("Replay ends here: %s", why);
    else if (p->run->state != TF_RUN_COMPLETE)
        message = json_string("The recording ends here: it was cut off.");
    else if (became(p, &path))
        message = json_sprintf("The process ends here: it became %s.", path);
    else if (p->run->exit_signal)
        message = json_sprintf("The run ends here: %s.",
                               tf_signal_text(p->run->exit_signal, signal, sizeof signal));
    else if (p->run->exit_status >= 0)
        message = json_sprintf("The run ends here: exit status %d.", p->run->exit_status);
    else
        message = json_string("The run ends here; its exit status is not known.");
    if (!reverse && !why && p->run->exit_signal)
        json_object_set_new(out, "exit_signal", json_integer(p->run->exit_signal));
    json_object_set_new(out, "reason", json_string(reverse ? "start" : "end"));
    json_object_set_new(out, "message", message ? message : json_string("The run ends here."));
    free(path);
}

/* The points that count: with scheduler-locking on, those of the selected thread. A watch counts in any. */
static size_t active_points(struct tf_prompt *p, struct tf_point *locked, const struct tf_point **points)
{
    size_t n = tf_points_active(p, points);
    if (p->locking != TF_LOCKING_ON || n > TF_POINTS_MAX)
        return n;
    for (size_t i = 0; i < n; i++) {
        locked[i] = (*points)[i];
        if (locked[i].kind != TF_POINT_WATCH)
            locked[i].thread = p->thread + 1;
    }
    *points = locked;
    return n;
}

/* How a move came to an end. */
struct arrival {
    struct tf_hit hit;
    bool found;    /* else: the run ends, or starts */
    bool uncaught; /* by `catch uncaught`, perhaps besides others */
};

/* Goes there and says why. */
static int arrive(struct tf_prompt *p, const struct arrival *a, bool reverse, json_t *out, struct tf_err *err)
{
    uint32_t selected = p->thread;
    int r = tf_prompt_goto(p, a->hit.position, out, err);
    if (r)
        return r;
    if (p->thread != selected) {
        const struct tf_thread_row *row = tf_timeline_thread(p->timeline, p->thread);
        const char *name = row && row->name ? row->name : "";
        json_object_set_new(out, "switched",
                            json_pack("{s:I, s:o}", "number", (json_int_t)p->thread, "name",
                                      tf_json_text(name, strlen(name))));
    }
    json_int_t line = json_integer_value(json_object_get(p->place, "line"));
    if (a->found && a->hit.line && line != a->hit.line)
        return tf_err_set(
            err, TF_E_DIVERGENCE,
            "the search found line %u at this position, but the replay stands at line %lld: the "
            "program did something else while it was searched",
            a->hit.line, (long long)line);
    if (!a->found)
        say_end(p, reverse, a->hit.thread_ends ? &p->thread : NULL, out);
    else if (a->hit.points)
        r = tf_points_report(p, &a->hit, out, err);
    if (a->uncaught && !r)
        tf_points_report_uncaught(p, out);
    return r;
}

/* The exception that ends the run may be nearer than what a move has found. */
static void stop_at_uncaught(struct tf_prompt *p, struct tf_position from, bool reverse, struct arrival *a)
{
    struct tf_position at, to = a->hit.position;
    if (!tf_points_uncaught(p, &at))
        return;
    if (reverse ? before(at, from) && (before(to, at) || !a->found)
                : before(from, at) && (before(at, to) || !a->found))
        *a = (struct arrival){.hit.position = at, .found = true, .uncaught = true};
    else if (a->found && a->hit.points && at.frame == to.frame && at.lines == to.lines)
        a->uncaught = true;
}

/* ---- steps ---- */

static int steps(struct tf_prompt *p, enum tf_move what, bool reverse, uint32_t line, uint64_t count,
                 json_t *out, struct tf_err *err)
{
    struct tf_move_req req = {.what = what,
                              .reverse = reverse,
                              .line = line,
                              .frame = p->frame,
                              .thread = p->thread + 1,
                              .any_thread = what == TF_MOVE_STEP && p->locking == TF_LOCKING_OFF};
    struct tf_search_opts opts = tf_points_search_opts(p);
    struct tf_stop here = p->here;
    struct arrival a = {.found = true};
    int r = 0;
    struct tf_point locked[TF_POINTS_MAX];
    req.points_n = active_points(p, locked, &req.points);
    for (uint64_t done = 0; done < count; done++) {
        if (done) { /* on the way nothing is asked */
            r = tf_timeline_goto(p->timeline, a.hit.position, &here, err);
            if (r)
                break;
            req.frame = 0;
            if (opts.cancel && *opts.cancel) {
                r = tf_err_set(err, TF_E_CANCELLED, "interrupted");
                break;
            }
        }
        struct arrival next = {0};
        r = tf_move(p->timeline, &here, &req, &next.hit, &opts, err);
        if (r < 0)
            break;
        next.found = r > 0;
        r = 0;
        stop_at_uncaught(p, here.position, reverse, &next);
        a = next;
        if (!a.found || a.uncaught || a.hit.points)
            break;
    }
    if (r) {
        /* Interrupted on the way: back to where it began. */
        struct tf_err ignored;
        (void)tf_points_return(p, &ignored);
        return r;
    }
    return arrive(p, &a, reverse, out, err);
}

static int counted(struct tf_prompt *p, const char *name, enum tf_move what, bool reverse, const char *args,
                   json_t *out, struct tf_err *err)
{
    uint64_t count;
    int r = parse_count(name, args, &count, err);
    return r ? r : steps(p, what, reverse, 0, count, out, err);
}

static int cmd_step(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return counted(p, "step", TF_MOVE_STEP, false, args, out, err);
}

static int cmd_reverse_step(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return counted(p, "reverse-step", TF_MOVE_STEP, true, args, out, err);
}

static int cmd_next(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return counted(p, "next", TF_MOVE_NEXT, false, args, out, err);
}

static int cmd_reverse_next(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return counted(p, "reverse-next", TF_MOVE_NEXT, true, args, out, err);
}

static int cmd_finish(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return counted(p, "finish", TF_MOVE_FINISH, false, args, out, err);
}

static int cmd_reverse_finish(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return counted(p, "reverse-finish", TF_MOVE_FINISH, true, args, out, err);
}

static int cmd_until(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    uint64_t line = 0;
    if (*args && (!tf_number(args, 1, &line) || line > INT32_MAX))
        return tf_err_set(err, TF_E_USAGE,
                          "until takes the number of a line of this function, not '%s'; 'tbreak %s' and "
                          "'continue' go to any place",
                          args, args);
    return steps(p, TF_MOVE_UNTIL, false, (uint32_t)line, 1, out, err);
}

/* ---- continue ---- */

static int go_on(struct tf_prompt *p, const char *name, bool reverse, const char *args, json_t *out,
                 struct tf_err *err)
{
    uint64_t count;
    const struct tf_point *points;
    struct tf_position from = p->here.position;
    struct tf_search_opts opts = tf_points_search_opts(p);
    struct arrival a = {.found = true};
    int r = parse_count(name, args, &count, err);
    if (r)
        return r;
    struct tf_point locked[TF_POINTS_MAX];
    size_t n = active_points(p, locked, &points);
    for (; count && a.found; count--) {
        struct tf_position at, limit = {0};
        /* What lies behind the exception need not be searched. */
        if (tf_points_uncaught(p, &at) && (reverse ? before(at, from) : before(from, at)))
            limit = at;
        a = (struct arrival){0};
        if (n) {
            /* From in front of it: a raise may be told there that begins before it. */
            if (reverse && limit.frame > 1)
                limit = (struct tf_position){limit.frame - 1, 0};
            r = reverse ? tf_search_backward(p->timeline, from, limit, points, n, &a.hit, &opts, err)
                        : tf_search_forward(p->timeline, from, limit, points, n, &a.hit, &opts, err);
            if (r < 0)
                return r;
            a.found = r > 0;
        }
        stop_at_uncaught(p, from, reverse, &a);
        from = a.hit.position;
    }
    if (!a.found) {
        struct tf_position end = {tf_timeline_first(p->timeline), 0};
        int r = reverse ? 0 : tf_move_end(p->timeline, &end, &opts, err);
        if (r)
            return r;
        /* Lines may follow the last event, when replay ends before the run does. */
        a.hit.position = !reverse && before(end, p->here.position) ? p->here.position : end;
    }
    return arrive(p, &a, reverse, out, err);
}

static int cmd_continue(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return go_on(p, "continue", false, args, out, err);
}

static int cmd_reverse_continue(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    return go_on(p, "reverse-continue", true, args, out, err);
}

/* ---- goto ---- */

/* The n-th hit of a point in the run; from the end, when n is negative. 1, 0: there are fewer. */
static int nth_hit(struct tf_prompt *p, struct tf_point point, int64_t n, struct tf_position *to,
                   struct tf_err *err)
{
    struct tf_search_opts opts = tf_prompt_search_opts(p);
    struct tf_position none = {0}, from = tf_moves_end(p);
    struct tf_hit hit = {0};
    int r = 1;
    if (n > 0) {
        point.hit_first = (uint64_t)n;
        r = tf_search_forward(p->timeline, (struct tf_position){tf_timeline_first(p->timeline), 0}, none,
                              &point, 1, &hit, &opts, err);
    } else {
        for (; n < 0 && r == 1; n++) {
            r = tf_search_backward(p->timeline, from, none, &point, 1, &hit, &opts, err);
            from = hit.position;
        }
    }
    *to = hit.position;
    return r;
}

static int goto_place(struct tf_prompt *p, const char *text, int64_t n, struct tf_position *to,
                      struct tf_err *err)
{
    struct tf_place_spec spec;
    int r = tf_place_resolve(p, text, &spec, err);
    if (r)
        return r;
    if (spec.line || n < 0) {
        struct tf_point point = {.kind = spec.line ? TF_POINT_LINE : TF_POINT_CALL,
                                 .codes = spec.codes,
                                 .codes_n = spec.codes_n,
                                 .first_line = spec.line,
                                 .last_line = spec.line};
        r = nth_hit(p, point, n, to, err);
    } else {
        uint64_t frame = 0;
        r = tf_move_call(p->timeline, spec.codes, spec.codes_n, (uint64_t)n, &frame, err);
        *to = (struct tf_position){frame, 0};
        r = r < 0 ? r : frame > 0;
    }
    if (r == 0) {
        uint64_t times = n < 0 ? -(uint64_t)n : (uint64_t)n;
        const char *does = spec.line ? "reached" : "called", *why;
        uint64_t reach = tf_timeline_reach(p->timeline, &why);
        if (spec.line && why)
            r = tf_err_set(err, TF_E_NOTFOUND,
                           times == 1
                               ? "%s is not reached up to frame event %llu, where replay ends: %s"
                               : "%s is not reached so often up to frame event %llu, where replay ends: %s",
                           spec.text, (unsigned long long)reach, why);
        else if (times == 1)
            r = tf_err_set(err, TF_E_NOTFOUND, "%s is never %s in this run", spec.text, does);
        else
            r = tf_err_set(err, TF_E_NOTFOUND, "%s is %s fewer than %llu times", spec.text, does,
                           (unsigned long long)times);
    }
    tf_place_spec_clear(&spec);
    return r < 0 ? r : 0;
}

static int goto_exception(struct tf_prompt *p, int64_t n, struct tf_position *to, struct tf_err *err)
{
    int r;
    if (n == 0) {
        const char *why;
        r = tf_move_opening(p->timeline, to, err);
        if (r == 0 && tf_timeline_reach(p->timeline, &why) && why)
            return tf_err_set(err, TF_E_NOTFOUND,
                              "the end of this run cannot be visited; replay ends before it: %s", why);
        return r ? (r < 0 ? r : 0)
                 : tf_err_set(err, TF_E_NOTFOUND,
                              "no exception ended this run; 'goto exception #1' goes to the first that was "
                              "raised");
    }
    r = nth_hit(p, (struct tf_point){.kind = TF_POINT_RAISE}, n, to, err);
    return r ? (r < 0 ? r : 0)
             : tf_err_set(err, TF_E_NOTFOUND, "there are fewer than %llu exceptions in this run",
                          (unsigned long long)(n < 0 ? -(uint64_t)n : (uint64_t)n));
}

static int goto_bookmark(struct tf_prompt *p, const char *name, struct tf_position *to, struct tf_err *err)
{
    json_t *at = json_object_get(p->bookmarks, name);
    if (!at)
        return tf_err_set(err, TF_E_NOTFOUND, "there is no bookmark '%s'; 'bookmark NAME' makes one", name);
    *to = (struct tf_position){(uint64_t)json_integer_value(json_array_get(at, 0)),
                               (uint64_t)json_integer_value(json_array_get(at, 1))};
    return 0;
}

/* What a goto means. ordinal: "#n" was given. */
static int parse_position(struct tf_prompt *p, const char *text, struct tf_position *to, struct tf_err *err)
{
    struct tf_search_opts opts = tf_prompt_search_opts(p);
    int r = tf_position_parse(text, tf_timeline_first(p->timeline), tf_timeline_reach(p->timeline, NULL), to,
                              err);
    return r == 0 && strcmp(text, "end") == 0 ? tf_move_end(p->timeline, to, &opts, err) : r;
}

static int find_target(struct tf_prompt *p, const char *text, int64_t n, struct tf_position *to,
                       struct tf_err *err)
{
    uint64_t reach = tf_timeline_reach(p->timeline, NULL), ns;
    bool exception = strcmp(text, "exception") == 0;
    if (n == 0 && tf_position_check(text, NULL) == 0)
        return parse_position(p, text, to, err);
    if (n == 0 && tf_time_parse(text, &ns)) {
        *to = (struct tf_position){0};
        int r = tf_move_time(p->timeline, ns, &to->frame, err);
        if (r < 0)
            return r;
        /* Before the first event and behind the last that can be visited there is nothing to stand at. */
        to->frame = to->frame == 0 ? 1 : to->frame > reach ? reach : to->frame;
        return 0;
    }
    if (n == 0 && strncmp(text, "bookmark ", 9) == 0)
        return goto_bookmark(p, text + 9 + strspn(text + 9, " \t"), to, err);
    if (exception)
        return goto_exception(p, n, to, err);
    int r = goto_place(p, text, n ? n : 1, to, err);
    if (r == TF_E_NOTFOUND && n == 0 && json_object_get(p->bookmarks, text))
        r = goto_bookmark(p, text, to, err);
    return r;
}

static int cmd_goto(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_position to;
    char *text = NULL;
    int64_t n;
    if (!*args)
        return tf_err_set(err, TF_E_USAGE,
                          "goto where? POSITION, start, end, FILE:LINE, FUNCTION, exception, a time as 1.25s "
                          "or bookmark NAME");
    int r = tf_ordinal_parse(args, &text, &n, err);
    if (!r && n && tf_position_check(text, NULL) == 0)
        r = tf_err_set(err, TF_E_USAGE, "'%s' is one position: #%lld makes no sense there; FILE:%s is a line",
                       text, (long long)n, text);
    if (!r)
        r = find_target(p, text, n, &to, err);
    if (!r)
        r = tf_prompt_goto(p, to, out, err);
    free(text);
    return r;
}

static int cmd_goto_frame(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_position to;
    int r = parse_position(p, args, &to, err);
    return r ? r : tf_prompt_goto(p, to, out, err);
}

/* ---- the table ---- */

static void print_move(struct tf_prompt *p, json_t *result)
{
    json_t *message = json_object_get(result, "message"), *switched = json_object_get(result, "switched");
    char name[256];
    if (switched)
        fprintf(p->out, "[Switching to %s]\n",
                tf_prompt_thread_text(p, (uint32_t)json_integer_value(json_object_get(switched, "number")),
                                      name, sizeof name));
    tf_points_print(p, result);
    if (message)
        fprintf(p->out, "%s\n", json_string_value(message));
    tf_prompt_print_place(p, result);
}

const struct tf_command tf_commands_move[] = {
    {"step", "s", cmd_step, print_move, TF_COMPLETES_NOTHING, true, "step [N]",
     "Goes to the next line that runs in this thread, in whatever function; N times.\n"
     "Breakpoints on the way end it, in whatever thread. 'set scheduler-locking' changes that."},
    {"reverse-step", "rs", cmd_reverse_step, print_move, TF_COMPLETES_NOTHING, true, "reverse-step [N]",
     "Goes back to the line that ran before this one, in whatever function; N times."},
    {"next", "n", cmd_next, print_move, TF_COMPLETES_NOTHING, true, "next [N]",
     "Goes to the next line of the selected function, or of its callers once it has left; N times.\n"
     "Functions that are called on the way run, and their breakpoints end it."},
    {"reverse-next", "rn", cmd_reverse_next, print_move, TF_COMPLETES_NOTHING, true, "reverse-next [N]",
     "Goes back to the line of the selected function that ran before, or to the one that called it; N "
     "times."},
    {"finish", "fin", cmd_finish, print_move, TF_COMPLETES_NOTHING, true, "finish [N]",
     "Goes to where the selected function leaves: its variables are there, and what it returns or raises."},
    {"reverse-finish", "rfin", cmd_reverse_finish, print_move, TF_COMPLETES_NOTHING, true,
     "reverse-finish [N]", "Goes back to the start of the line that called the selected function."},
    {"continue", "c cont", cmd_continue, print_move, TF_COMPLETES_NOTHING, true, "continue [N]",
     "Goes to the next (N-th) hit of a breakpoint, watch or catch, or to the end of the run."},
    {"reverse-continue", "rc", cmd_reverse_continue, print_move, TF_COMPLETES_NOTHING, true,
     "reverse-continue [N]",
     "Goes back to the last hit of a breakpoint, watch or catch before here, or to the start of the run."},
    {"until", "unt", cmd_until, print_move, TF_COMPLETES_NOTHING, true, "until [LINE]",
     "Goes to a line of the selected function that is not before LINE, or to where it leaves.\n"
     "Without LINE: behind the present line, so that a loop runs to its end."},
    {"goto", NULL, cmd_goto, print_move, TF_COMPLETES_PLACE, false,
     "goto POSITION | start | end | FILE:LINE [#N] | FUNCTION [#N] | exception [#N] | TIME | bookmark NAME",
     "Goes to any place of the run.\n"
     "POSITION is the number of a frame event, as 750, and lines behind it, as 750+3. With #N it is the\n"
     "N-th time that a line begins or a function is called; #-1 is the last. 'exception' is the one that\n"
     "ended the run, 'exception #N' the N-th that was raised. TIME: 1.25s, 300ms from the start."},
    {"goto-frame", NULL, cmd_goto_frame, print_move, TF_COMPLETES_NOTHING, false, "goto-frame POSITION",
     "Goes to the position with this number, as 'timefork replay --goto-frame'."},
    {0},
};
