/*
 * prompt.c: the prompt: reads commands, finds them, runs them, prints what they answer (see prompt.h).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/prompt.h"

#define PROGRESS_AFTER_MS 500
#define PROGRESS_QUIET_MS 300 /* after something was printed */

static const struct tf_command *const tables[] = {tf_commands_move, tf_commands_points, tf_commands_look,
                                                  tf_commands_threads, tf_commands_session};
#define TABLES (sizeof tables / sizeof *tables)

/* ---- colours, progress, Ctrl-C ---- */

static volatile bool cancelled;

static void on_interrupt(int sig)
{
    (void)sig;
    cancelled = true;
}

const char *tf_colour(const struct tf_prompt *p, enum tf_colour colour)
{
    static const char *const codes[] = {"\033[0m",  "\033[1m",  "\033[2m", "\033[31m",
                                        "\033[32m", "\033[33m", "\033[36m"};
    return p->colour ? codes[colour] : "";
}

static bool wants_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no && *no) && term && *term && strcmp(term, "dumb") != 0 && isatty(STDOUT_FILENO);
}

/* Progress is shown by another thread, so that it is seen as well when nothing is heard of a search for long,
 * or when a command is no search. */
static pthread_mutex_t progress_lock = PTHREAD_MUTEX_INITIALIZER;

static void tick(struct tf_prompt *p)
{
    int64_t now = tf_now_ms();
    pthread_mutex_lock(&progress_lock);
    if (p->progress.running && now - p->progress.began_ms >= PROGRESS_AFTER_MS &&
        now >= p->progress.quiet_ms && isatty(STDERR_FILENO)) {
        double seconds = (double)(now - p->progress.began_ms) / 1e3;
        p->progress.shown = true;
        if (p->progress.done >= 0)
            fprintf(stderr, "\r%3.0f %%  %.0f s (Ctrl-C stops it)\033[K", p->progress.done * 100, seconds);
        else
            fprintf(stderr, "\r%.0f s...\033[K", seconds);
        fflush(stderr);
    }
    pthread_mutex_unlock(&progress_lock);
}

void tf_prompt_clear_progress(struct tf_prompt *p)
{
    pthread_mutex_lock(&progress_lock);
    if (p->progress.shown)
        fputs("\r\033[K", stderr);
    p->progress.shown = false;
    p->progress.quiet_ms = tf_now_ms() + PROGRESS_QUIET_MS;
    pthread_mutex_unlock(&progress_lock);
}

void tf_prompt_progress(void *prompt, double done)
{
    struct tf_prompt *p = prompt;
    pthread_mutex_lock(&progress_lock);
    p->progress.done = done;
    pthread_mutex_unlock(&progress_lock);
}

static void run_progress(struct tf_prompt *p, bool running)
{
    if (!running)
        tf_prompt_clear_progress(p);
    pthread_mutex_lock(&progress_lock);
    p->progress.running = running;
    p->progress.began_ms = tf_now_ms();
    p->progress.done = -1;
    pthread_mutex_unlock(&progress_lock);
}

struct tf_search_opts tf_prompt_search_opts(struct tf_prompt *p)
{
    tf_prompt_progress(p, 0);
    return (struct tf_search_opts){
        .progress = tf_prompt_progress, .ctx = p, .timeout_ms = p->timeout_ms, .cancel = &cancelled};
}

/* ---- finding a command ---- */

void tf_prompt_each_command(void (*fn)(void *ctx, const struct tf_command *command), void *ctx)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct tf_command *c = tables[i]; c->name; c++)
            fn(ctx, c);
}

struct finding {
    const char *word;
    size_t len;
    const struct tf_command *exact, *alias, *nearest;
    const struct tf_command *begin[16]; /* whose names begin like the word */
    size_t begin_n, distance;
};
/* Commands of two words, whose first is known. */
struct second {
    const char *first, *word;
    size_t len;
    const struct tf_command *exact, *begin[16];
    size_t begin_n;
};

static bool is_word(const char *word, size_t len, const char *is)
{
    return strlen(is) == len && memcmp(word, is, len) == 0;
}

static bool is_alias(const char *aliases, const char *word, size_t len)
{
    for (const char *at = aliases; at && *at;) {
        size_t n = strcspn(at, " ");
        if (n == len && memcmp(at, word, len) == 0)
            return true;
        at += n;
        at += strspn(at, " ");
    }
    return false;
}

static void consider(void *ctx, const struct tf_command *c)
{
    struct finding *f = ctx;
    if (strchr(c->name, ' '))
        return;
    if (is_word(f->word, f->len, c->name))
        f->exact = c;
    else if (is_alias(c->aliases, f->word, f->len))
        f->alias = f->alias ? f->alias : c;
    else if (strncmp(c->name, f->word, f->len) == 0 && f->begin_n < 16)
        f->begin[f->begin_n++] = c;
    char word[32];
    snprintf(word, sizeof word, "%.*s", (int)f->len, f->word);
    size_t d = tf_edits(word, c->name, f->distance);
    if (d < f->distance) {
        f->distance = d;
        f->nearest = c;
    }
}

static void consider_second(void *ctx, const struct tf_command *c)
{
    struct second *f = ctx;
    size_t n = strlen(f->first);
    if (!f->len || strncmp(c->name, f->first, n) != 0 || c->name[n] != ' ')
        return;
    if (is_word(f->word, f->len, c->name + n + 1))
        f->exact = c;
    else if (strncmp(c->name + n + 1, f->word, f->len) == 0 && f->begin_n < 16)
        f->begin[f->begin_n++] = c;
}

static int ambiguous(const char *word, size_t len, const struct tf_command **which, size_t n,
                     struct tf_err *err)
{
    char names[256] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", which[i]->name);
    return tf_err_set(err, TF_E_NOTFOUND, "'%.*s' is ambiguous: %s", (int)len, word, names);
}

int tf_prompt_find(const char *line, const struct tf_command **command, const char **args, struct tf_err *err)
{
    struct finding f = {.word = line, .len = strcspn(line, " \t")};
    f.distance = f.len / 2 + 1;
    tf_prompt_each_command(consider, &f);
    *args = line + f.len + strspn(line + f.len, " \t");
    *command = f.exact ? f.exact : f.alias ? f.alias : f.begin_n == 1 ? f.begin[0] : NULL;
    if (*command) {
        struct second s = {.first = (*command)->name, .word = *args, .len = strcspn(*args, " \t")};
        tf_prompt_each_command(consider_second, &s);
        if (!s.exact && s.begin_n > 1)
            return ambiguous(line, (size_t)(*args - line) + s.len, s.begin, s.begin_n, err);
        if (s.exact || s.begin_n) {
            *command = s.exact ? s.exact : s.begin[0];
            *args += s.len + strspn(*args + s.len, " \t");
        }
        return 0;
    }
    if (f.begin_n)
        return ambiguous(f.word, f.len, f.begin, f.begin_n, err);
    return tf_err_set(err, TF_E_NOTFOUND, "no command '%.*s'%s%s%s", f.len > 60 ? 60 : (int)f.len, f.word,
                      f.nearest ? "; did you mean '" : " ('help' lists them; 'print EXPR' evaluates)",
                      f.nearest ? f.nearest->name : "", f.nearest ? "'?" : "");
}

/* ---- running one ---- */

struct session {
    struct tf_prompt *p;
    const struct tf_command *last; /* for an empty line */
    char *last_args;
    int status;
};

/* The line without blanks at its ends; malloc'ed. */
static char *trimmed(const char *line)
{
    line += strspn(line, " \t\r\n");
    size_t len = strlen(line);
    while (len && strchr(" \t\r\n", line[len - 1]))
        len--;
    return strndup(line, len);
}

static void say_error(struct tf_prompt *p, const char *message)
{
    fflush(p->out);
    if (p->interactive)
        fprintf(stderr, "%s%s%s\n", tf_colour(p, TF_RED), message, tf_colour(p, TF_PLAIN));
    else
        tf_say("%s", message);
}

/* The program, replayed, did something else than in the recording: the present is where it was. Keeps what is
 * known for `explain`. NULL: nothing is. */
static json_t *diverged(struct tf_prompt *p)
{
    struct tf_divergence *d = tf_timeline_take_divergence(p->timeline);
    if (!d)
        return NULL;
    tf_divergence_free(p->divergence);
    p->divergence = d;
    return tf_divergence_report(p->timeline, d, p->on_divergence);
}

static void say_divergence(struct tf_prompt *p, json_t *report)
{
    fflush(p->out);
    fprintf(stderr, "%s%s",
            p->interactive ? tf_colour(p, TF_RED) : "timefork: ", p->interactive ? "" : "divergence: ");
    tf_divergence_print(stderr, report, p->on_divergence == TF_ON_DIVERGENCE_EXPLAIN);
    fprintf(stderr, "%s%s", p->interactive ? tf_colour(p, TF_PLAIN) : "",
            p->on_divergence == TF_ON_DIVERGENCE_EXPLAIN ? "" : "'explain' makes the full report.\n");
}

static void answer(struct session *s, const struct tf_command *c, json_t *out, int r,
                   const struct tf_err *err)
{
    struct tf_prompt *p = s->p;
    json_t *report = r == TF_E_DIVERGENCE ? diverged(p) : NULL;
    run_progress(p, false);
    s->status = r == 0 ? TF_EXIT_OK : r == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED : TF_EXIT_ERROR;
    if (p->json) {
        if (r && !json_object_get(out, "error"))
            json_object_set_new(out, "error", tf_json_text(err->msg, strlen(err->msg)));
        if (report)
            json_object_set(out, "divergence", report);
        json_dumpf(out, p->out, JSON_COMPACT);
        fputc('\n', p->out);
    } else if (r) {
        const char *printed = json_string_value(json_object_get(out, "output"));
        if (printed)
            fprintf(p->out, "%s%s", printed, *printed && printed[strlen(printed) - 1] == '\n' ? "" : "\n");
    } else if (c->print) {
        c->print(p, out);
    } else if (json_object_get(out, "position")) {
        tf_prompt_print_place(p, out);
    }
    if (report)
        say_divergence(p, report);
    else if (r)
        say_error(p, err->msg);
    json_decref(report);
    fflush(p->out);
}

/* Runs one line. */
static void run_line(struct session *s, const char *text)
{
    struct tf_prompt *p = s->p;
    struct tf_err err = {0};
    const struct tf_command *c = NULL;
    const char *args = "";
    char *line = trimmed(text);
    if (!line || *line == '#')
        goto out;
    p->repeated = !*line;
    json_t *o = json_object();
    int r = 0;
    if (!*line) {
        if (!s->last || !s->last->repeats) {
            json_decref(o);
            goto out;
        }
        c = s->last;
        args = s->last_args;
    } else {
        r = tf_prompt_find(line, &c, &args, &err);
    }
    json_object_set_new(o, "command",
                        c && r == 0 ? json_string(c->name) : tf_json_text(line, strcspn(line, " \t")));
    run_progress(p, true);
    if (r == 0)
        r = c->run(p, args, o, &err);
    answer(s, c, o, r, &err);
    json_decref(o);
    if (*line) {
        free(s->last_args);
        s->last_args = strdup(args);
        s->last = s->last_args && c && (r == 0 || c->repeats) ? c : NULL;
    }
out:
    free(line);
}

/* ---- the loop ---- */

/* blank: lines without anything on them are commands, too. */
static int run_file(struct session *s, FILE *f, bool blank)
{
    char *line = NULL;
    size_t size = 0;
    while (!s->p->quit && getline(&line, &size, f) >= 0)
        if (blank || line[strspn(line, " \t\r\n")])
            run_line(s, line);
    free(line);
    return ferror(f);
}

static void run_script(struct session *s, const char *name)
{
    FILE *f = fopen(name, "re");
    if (!f || run_file(s, f, false)) {
        tf_say("cannot read the commands in %s: %s", name, strerror(errno));
        s->status = TF_EXIT_ERROR;
        s->p->quit = true;
    }
    if (f)
        fclose(f);
}

static void greet(struct tf_prompt *p)
{
    const char *why;
    char count[32], signal[64];
    uint64_t reach = tf_timeline_reach(p->timeline, &why);
    char process[48] = "";
    if (p->run->process > 1)
        snprintf(process, sizeof process, ", process %u", p->run->process);
    fprintf(p->out, "%s%s%s, run %.8s%s: %.3f s, %s frame events", tf_colour(p, TF_BOLD),
            p->run->command ? p->run->command : "?", tf_colour(p, TF_PLAIN), p->run->id, process,
            (double)p->run->duration_ns / 1e9, tf_count_text(p->run->frames, count, sizeof count));
    if (p->run->exit_signal)
        fprintf(p->out, ", ended by %s", tf_signal_text(p->run->exit_signal, signal, sizeof signal));
    else if (p->run->exit_status >= 0)
        fprintf(p->out, ", ended with status %d", p->run->exit_status);
    fprintf(p->out, ". 'help' lists the commands.\n");
    uint64_t first = tf_timeline_first(p->timeline);
    if (tf_run_has_base(p->run))
        fprintf(p->out, "The oldest part of the run was dropped: it begins at frame event %llu.\n",
                (unsigned long long)first);
    if (why)
        fprintf(p->out,
                "Frame events %llu to %llu can be visited; then comes what replay does not cover: %s\n",
                (unsigned long long)first, (unsigned long long)reach, why);
}

static void run_terminal(struct session *s)
{
    struct tf_prompt *p = s->p;
    const char *line;
    struct tf_edit *edit = tf_edit_open(p);
    if (!edit) {
        tf_say("out of memory");
        s->status = TF_EXIT_ERROR;
        return;
    }
    greet(p);
    json_t *o = json_object();
    json_object_set_new(o, "position", tf_prompt_place_json(p));
    json_t *source = tf_prompt_source_line(p, json_string_value(json_object_get(p->place, "file")),
                                           json_integer_value(json_object_get(p->place, "line")));
    if (source)
        json_object_set_new(o, "source", source);
    tf_prompt_print_place(p, o);
    json_decref(o);
    fflush(p->out);
    struct sigaction now = {.sa_handler = on_interrupt}, before;
    sigemptyset(&now.sa_mask);
    sigaction(SIGINT, &now, &before);
    while (!p->quit && (line = tf_edit_read(edit))) {
        cancelled = false;
        tf_edit_watch(edit, &cancelled, tick);
        run_line(s, line);
        tf_edit_unwatch(edit);
    }
    sigaction(SIGINT, &before, NULL);
    tf_edit_close(edit);
}

/* 0; 1: the replay diverged on its way to the opening, and the present is before that. */
static int open_present(struct tf_prompt *p, struct tf_err *err)
{
    struct tf_position opening;
    json_t *ignored = json_object();
    if (tf_timeline_reach(p->timeline, NULL) == 0) {
        json_decref(ignored);
        return tf_err_set(err, TF_E_NOTFOUND,
                          "run %.8s has no frame event that can be visited: there is nothing to look at",
                          p->run->id);
    }
    struct tf_search_opts opts = tf_prompt_search_opts(p);
    int r = tf_move_opening(p->timeline, &opening, err);
    if (r == 0 && p->run->exit_signal) {
        /* No exception: what it was doing when it died is of interest, if that can be looked at. */
        struct tf_position end;
        r = tf_move_end(p->timeline, &end, &opts, err);
        if (r == 0 && (r = tf_prompt_goto(p, end, ignored, err)) == 0) {
            json_decref(ignored);
            return 0;
        }
        tf_say("%s", err->msg);
        json_object_clear(ignored);
        *err = (struct tf_err){0};
        r = 0;
    }
    if (r >= 0)
        r = tf_prompt_goto(p, opening, ignored, err);
    json_t *report = r == TF_E_DIVERGENCE ? diverged(p) : NULL;
    /* What lies before a divergence can be looked at: the last event that was equal, or else the first. */
    for (uint64_t at = report ? p->divergence->frame : 0, tries = 0; at && tries < 2; at = 1, tries++) {
        struct tf_err other = {0};
        if (tf_prompt_goto(p, (struct tf_position){.frame = at}, ignored, &other) == 0) {
            say_divergence(p, report);
            tf_say("the prompt opens at frame event %llu, before the divergence", (unsigned long long)at);
            r = 1;
            break;
        }
    }
    json_decref(report);
    json_decref(ignored);
    return r;
}

int tf_prompt_run(struct tf_timeline *timeline, struct tf_store *store, const struct tf_run *run,
                  const struct tf_prompt_opts *opts)
{
    struct tf_err err = {0};
    bool scripted = opts->script || opts->commands_n;
    struct tf_prompt p = {
        .timeline = timeline,
        .store = store,
        .run = run,
        .bookmarks = json_object(),
        .displays = json_array(),
        .points = tf_points_new(),
        .timeout_ms = opts->timeout_ms,
        .on_divergence = opts->on_divergence,
        .locking = TF_LOCKING_STEP,
        .json = opts->json,
        .interactive = !scripted && !opts->json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
        .out = stdout,
    };
    struct session s = {.p = &p};
    p.colour = !p.json && wants_colour();
    tf_timeline_attend(timeline, tf_prompt_progress, &p, &cancelled);
    int opened = tf_store_codes(store, run, &p.codes, &err);
    if (opened == 0)
        opened = open_present(&p, &err);
    if (opened > 0)
        s.status = TF_EXIT_DIVERGED; /* unless a command says otherwise */
    if (opened < 0) {
        tf_say("%s", err.msg);
        s.status = err.code == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED : TF_EXIT_ERROR;
        goto out;
    }
    if (opts->script)
        run_script(&s, opts->script);
    for (size_t i = 0; i < opts->commands_n && !p.quit; i++)
        run_line(&s, opts->commands[i]);
    if (p.interactive)
        run_terminal(&s);
    else if (!scripted)
        run_file(&s, stdin, true);
out:
    tf_timeline_attend(timeline, NULL, NULL, NULL);
    free(s.last_args);
    free(p.history);
    json_decref(p.place);
    json_decref(p.other_stack);
    json_decref(p.bookmarks);
    json_decref(p.displays);
    tf_divergence_free(p.divergence);
    tf_points_free(p.points);
    tf_look_free(p.look);
    tf_codes_free(&p.codes);
    return s.status;
}
