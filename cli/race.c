/*
 * race.c: `timefork race`: repeats `record --chaos` with new seeds until the program fails, and keeps the
 * recording of that run. All runs are recorded into the file that is meant to hold the one which fails, for a
 * run can only be added to a recording where it is made; a run that did not fail is removed before the next.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/query.h"
#include "cli/record.h"
#include "cli/recorder.h"
#include "replay/runner.h"

#define RUNS 100
#define TIMEOUT_S 60
/* What threading.excepthook begins with: Python's exit status does not tell of it. */
#define THREAD_DIED "Exception in thread "

static const char usage_text[] =
    "usage: timefork race [OPTIONS] (SCRIPT | -m MODULE | -c CODE | -- COMMAND) [ARGS...] [--runs N ...]\n"
    "\n"
    "Runs a program again and again, each time with other chances of when its threads are switched "
    "(timefork\n"
    "record --chaos), until a run fails, and keeps the recording of that run only.\n"
    "\n"
    "  --runs N         at most so many runs (default: 100). Behind the program's arguments it begins "
    "options\n"
    "                   that are race's own again, if there is no -- before it\n"
    "  --until HOW      what counts as a failure; may be repeated, and then any of them counts (default: "
    "exit,\n"
    "                   crash, timeout and thread):\n"
    "                     exit         it ends with another status than it should (--expect)\n"
    "                     crash        a signal ends it\n"
    "                     timeout      it has not ended in time: a dead-lock. It is killed then\n"
    "                     thread       an exception ends a thread ('Exception in thread' on standard error)\n"
    "                     output=TEXT  it prints this text\n"
    "  --expect STATUS  the exit status that is none (default: 0)\n"
    "  --timeout S      seconds that a run may take (default: 60)\n"
    "  --seed N         what the seeds of the runs are made from: a number (default: a random one, which is "
    "told)\n"
    "  --show           the program's input and output are those of race. Without it, its input is empty; "
    "what\n"
    "                   it prints is not shown, but recorded ('timefork query --output')\n"
    "  --format F       text, or json: one object a run, and one at the end\n"
    "  -o, --python, --env, --follow, --wait, --quiet: as for record\n"
    "\n"
    "Ctrl-C ends it: a program that does not end by that is killed 2 seconds later, and its run is not "
    "kept.\n"
    "\n"
    "Exit status: 0: a run failed, and its recording was kept. 1: none did. 2: a mistake in the command "
    "line.\n"
    "125: the program could not be recorded. 128 + n: signal n ended it.\n";

enum failure {
    FAILED_NOT = 0,
    FAILED_EXIT = 1,
    FAILED_CRASH = 2,
    FAILED_TIMEOUT = 4,
    FAILED_THREAD = 8,
    FAILED_OUTPUT = 16,
};
static const struct {
    enum failure failure;
    const char *name;
} failures[] = {{FAILED_EXIT, "exit"},
                {FAILED_CRASH, "crash"},
                {FAILED_TIMEOUT, "timeout"},
                {FAILED_THREAD, "thread"},
                {FAILED_OUTPUT, "output"}};

struct race {
    uint64_t runs, expected, timeout_s, seed;
    bool seed_given, show, json;
    int until;        /* of enum failure; 0: the default */
    const char *text; /* of FAILED_OUTPUT */
};

/* ---- the command line ---- */

static int take_until(struct race *race, const char *value)
{
    if (strncmp(value, "output=", 7) == 0 && value[7]) {
        if (race->text) {
            tf_usage("race", "one --until output=TEXT at a time");
            return -1;
        }
        race->text = value + 7;
        race->until |= FAILED_OUTPUT;
        return 2;
    }
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        if (strcmp(value, failures[i].name) == 0 && failures[i].failure != FAILED_OUTPUT) {
            race->until |= failures[i].failure;
            return 2;
        }
    tf_usage("race", "--until is exit, crash, timeout, thread or output=TEXT, not '%s'", value);
    return -1;
}

static int take_option(void *ctx, int argc, char **argv)
{
    struct race *race = ctx;
    const char *a = argv[0], *value = argc > 1 ? argv[1] : NULL;
    static const char *const own[] = {"--runs", "--until", "--expect", "--timeout", "--seed", "--format"};
    bool mine = false;
    if (strcmp(a, "--show") == 0) {
        race->show = true;
        return 1;
    }
    if (strncmp(a, "--chaos", 7) == 0) {
        tf_usage("race", "every run has --chaos with a seed of its own; --seed N chooses the series");
        return -1;
    }
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        mine |= strcmp(a, own[i]) == 0;
    if (!mine)
        return 0;
    if (!value) {
        tf_usage("race", "%s needs a value", a);
        return -1;
    }
    if (strcmp(a, "--until") == 0)
        return take_until(race, value);
    if (strcmp(a, "--format") == 0) {
        if (strcmp(value, "json") && strcmp(value, "text")) {
            tf_usage("race", "--format is text or json, not '%s'", value);
            return -1;
        }
        race->json = *value == 'j';
        return 2;
    }
    if (strcmp(a, "--seed") == 0) {
        if (!tf_chaos_parse(value, &race->seed)) {
            tf_usage("race", "--seed takes a number from 0 to 9223372036854775807, not '%s'", value);
            return -1;
        }
        race->seed_given = true;
        return 2;
    }
    bool status = strcmp(a, "--expect") == 0, seconds = strcmp(a, "--timeout") == 0;
    uint64_t n;
    if (!tf_number(value, status ? 0 : 1, &n) || (status && n > 255) || (seconds && n > 1000000)) {
        tf_usage("race",
                 status    ? "--expect takes an exit status from 0 to 255, not '%s'"
                 : seconds ? "--timeout takes a number of seconds from 1 to 1000000, not '%s'"
                           : "--runs takes a number of at least 1, not '%s'",
                 value);
        return -1;
    }
    *(status ? &race->expected : seconds ? &race->timeout_s : &race->runs) = n;
    return 2;
}

/* ---- one run ---- */

/* Seeds that follow each other are to have nothing in common (splitmix64). */
static uint64_t seed_of(const struct race *race, uint64_t run)
{
    uint64_t z = race->seed + run * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) >> 11; /* a number in every reader of JSON */
}

/* Looks for a text in what is printed, in whatever pieces it comes. */
struct looking {
    const char *text;
    size_t len;
    int fd; /* 0: both */
    size_t kept[3];
    char *tail[3]; /* the last bytes of each descriptor: fewer than the text has */
};

static int look(void *ctx, const struct tf_output *output)
{
    struct looking *l = ctx;
    if ((l->fd && output->fd != l->fd) || output->fd > 2)
        return 0;
    size_t kept = l->kept[output->fd], n = kept + output->len;
    char *all = malloc(n ? n : 1);
    if (!all)
        return TF_E_IO;
    if (kept)
        memcpy(all, l->tail[output->fd], kept);
    memcpy(all + kept, output->data, output->len);
    bool found = memmem(all, n, l->text, l->len);
    size_t keep = n < l->len - 1 ? n : l->len - 1;
    memmove(all, all + n - keep, keep);
    free(l->tail[output->fd]);
    l->tail[output->fd] = all;
    l->kept[output->fd] = keep;
    return found;
}

/* 1: the run printed it; 0: it did not; negative on error. */
static int printed(struct tf_store *store, const struct tf_run *run, const char *text, int fd,
                   struct tf_err *err)
{
    struct looking l = {.text = text, .len = strlen(text), .fd = fd};
    int r = tf_store_each_output(store, run, look, &l, err);
    for (int i = 0; i < 3; i++)
        free(l.tail[i]);
    if (r == TF_E_IO && !err->msg[0])
        tf_err_set(err, TF_E_IO, "out of memory");
    return r;
}

/* In which of the wanted ways did it fail? Negative on error. */
static int judge(const struct race *race, const struct tf_record_result *result, struct tf_err *err)
{
    const struct tf_run *run = &result->run;
    struct tf_store *store;
    int found = FAILED_NOT, r = 0;
    if (result->timed_out)
        found |= FAILED_TIMEOUT;
    else if (result->signal)
        found |= FAILED_CRASH;
    else if ((uint64_t)result->status != race->expected)
        found |= FAILED_EXIT;
    found &= race->until;
    if (found || !(race->until & (FAILED_THREAD | FAILED_OUTPUT)))
        return found;
    *err = (struct tf_err){0};
    if (tf_store_open(result->path, &store, err))
        return err->code;
    if (race->until & FAILED_THREAD) {
        r = printed(store, run, THREAD_DIED, 2, err);
        found |= r > 0 ? FAILED_THREAD : 0;
    }
    if (r >= 0 && race->until & FAILED_OUTPUT) {
        r = printed(store, run, race->text, 0, err);
        found |= r > 0 ? FAILED_OUTPUT : 0;
    }
    tf_store_close(store);
    return r < 0 ? r : found;
}

static int remove_run(const char *path, int64_t rowid, struct tf_err *err)
{
    struct tf_store *store;
    int r = tf_store_create(path, &store, err);
    if (r)
        return r;
    r = tf_store_delete_run(store, rowid, err);
    tf_store_close(store);
    return r;
}

/* Of a file that did not exist before: goes again if it holds no run, else gives back what removed runs took.
 */
static void tidy(const char *path)
{
    struct tf_err err;
    struct tf_store *store;
    struct tf_run *runs;
    size_t n;
    if (access(path, F_OK))
        return;
    if (tf_store_create(path, &store, &err)) {
        tf_fail(&err);
        return;
    }
    bool read = tf_store_runs(store, &runs, &n, &err) == 0;
    if (!read || (n && tf_store_compact(store, &err)))
        tf_fail(&err);
    if (read)
        tf_runs_free(runs, n);
    tf_store_close(store);
    if (read && !n)
        unlink(path);
}

/* ---- what is told ---- */

static const char *how(const struct race *race, const struct tf_record_result *result, int found, char *buf,
                       size_t size)
{
    char signal[64];
    if (found & FAILED_TIMEOUT)
        snprintf(buf, size, "it had not ended after %" PRIu64 " second%s", race->timeout_s,
                 race->timeout_s == 1 ? "" : "s");
    else if (found & FAILED_CRASH)
        snprintf(buf, size, "it was ended by %s", tf_signal_text(result->signal, signal, sizeof signal));
    else if (found & FAILED_EXIT)
        snprintf(buf, size, "it ended with status %d", result->status);
    else if (found & FAILED_THREAD)
        snprintf(buf, size, "an exception ended a thread");
    else
        snprintf(buf, size, "it printed '%s'", race->text);
    return buf;
}

static const char *name_of(int found)
{
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        if (found & failures[i].failure)
            return failures[i].name;
    return NULL;
}

static void print_run(uint64_t number, uint64_t seed, const struct tf_record_result *result, int found)
{
    printf("{\"number\": %" PRIu64 ", \"seed\": %" PRIu64 ", ", number, seed);
    if (result->signal)
        printf("\"exit_status\": null, \"exit_signal\": %d, ", result->signal);
    else
        printf("\"exit_status\": %d, \"exit_signal\": null, ", result->status);
    printf("\"timed_out\": %s, \"frames\": %" PRIu64 ", \"duration_ns\": %" PRIu64 ", ",
           result->timed_out ? "true" : "false", result->run.frames, result->run.duration_ns);
    if (found)
        printf("\"failure\": \"%s\"}\n", name_of(found));
    else
        printf("\"failure\": null}\n");
    fflush(stdout);
}

/* The end: which run was kept, if one was. */
static int print_end(const struct race *race, const char *path, const struct tf_record_result *kept,
                     uint64_t number, uint64_t seed, int found)
{
    char text[256];
    if (race->json) {
        char *file = query_json_text(path, strlen(path));
        if (!file)
            return query_no_memory();
        printf("{\"found\": %s, \"runs\": %" PRIu64 ", \"series\": %" PRIu64, kept ? "true" : "false", number,
               race->seed);
        if (kept)
            printf(", \"file\": %s, \"run\": \"%s\", \"seed\": %" PRIu64 ", \"failure\": \"%s\"", file,
                   kept->run.id, seed, name_of(found));
        printf("}\n");
        free(file);
    } else if (kept) {
        printf("run %" PRIu64 " failed: %s (seed %" PRIu64 ")\nits recording is run %.8s of %s:\n"
               "  timefork replay %s\n",
               number, how(race, kept, found, text, sizeof text), seed, kept->run.id, path, path);
    } else {
        printf("none of %" PRIu64 " run%s failed (--seed %" PRIu64 "); no recording was kept\n", number,
               number == 1 ? "" : "s", race->seed);
    }
    return TF_EXIT_OK;
}

/* ---- the command ---- */

/* Returns the exit status. */
static int repeat(const struct race *race, struct tf_record_opts *opts)
{
    struct tf_record_result result = {0};
    struct tf_err err;
    char path[4096];
    bool terminal = isatty(STDERR_FILENO) && !race->json && !opts->quiet && !race->show;
    int status = TF_EXIT_ERROR, found = FAILED_NOT;
    uint64_t number;

    tf_record_path(opts, path, sizeof path);
    bool made = access(path, F_OK) != 0;
    if (!race->seed_given && !race->json && !opts->quiet)
        tf_say("the seeds of this series: --seed %" PRIu64, race->seed);
    for (number = 1; number <= race->runs; number++) {
        opts->seed = seed_of(race, number);
        if (terminal)
            fprintf(stderr, "\rrun %" PRIu64 " of %" PRIu64 " ", number, race->runs);
        if (tf_record_run(opts, &result, &err)) {
            if (!tf_recorder_interrupted()) {
                if (terminal)
                    fputc('\n', stderr);
                tf_say("%s", err.msg);
                status = TF_EXIT_NO_RECORD;
            }
            break;
        }
        if (!result.run.id[0]) { /* it was said why */
            status = TF_EXIT_NO_RECORD;
            break;
        }
        found = result.interrupted ? FAILED_NOT : judge(race, &result, &err);
        if (found < 0) {
            tf_fail(&err);
            break;
        }
        if (race->json && !result.interrupted)
            print_run(number, opts->seed, &result, found);
        if (found > 0) {
            if (terminal)
                fputs("\r\033[K", stderr);
            status = TF_EXIT_OK;
            break;
        }
        if (remove_run(result.path, result.run.rowid, &err)) {
            tf_err_prefix(&err, "a run that did not fail cannot be removed: ");
            tf_fail(&err);
            break;
        }
        tf_run_clear(&result.run);
        if (tf_recorder_interrupted())
            break;
    }
    bool kept = status == TF_EXIT_OK;
    if (terminal && !kept)
        fputs("\r\033[K", stderr);
    if (made)
        tidy(path);
    if (kept) {
        if (!opts->quiet)
            tf_record_summary(&result);
        status = print_end(race, path, &result, number, opts->seed, found);
    } else if (tf_recorder_interrupted() && status != TF_EXIT_NO_RECORD) {
        status = 128 + tf_recorder_interrupted();
        tf_say("ended in run %" PRIu64 "; no run had failed, and no recording was kept", number);
    } else if (number > race->runs) {
        print_end(race, path, NULL, race->runs, 0, FAILED_NOT);
        status = TF_EXIT_ERROR;
    }
    tf_run_clear(&result.run);
    return tf_finish_output(status);
}

int tf_cmd_race(int argc, char **argv)
{
    static const char *const tail[] = {"--runs", NULL};
    struct race race = {.runs = RUNS, .timeout_s = TIMEOUT_S};
    const struct tf_own_options own = {.command = "race", .take = take_option, .ctx = &race, .tail = tail};
    struct tf_record_opts opts;
    struct tf_err err;
    int status = tf_record_parse(&opts, argc, argv, &own, usage_text);
    if (status) {
        tf_record_opts_clear(&opts);
        return status < 0 ? 0 : status;
    }
    if (opts.checkpoints.given) {
        status = tf_usage("race", "makes no checkpoints: %s is for 'timefork debug' and 'timefork replay'",
                          opts.checkpoints.given);
        tf_record_opts_clear(&opts);
        return status;
    }
    if (!race.until)
        race.until = FAILED_EXIT | FAILED_CRASH | FAILED_TIMEOUT | FAILED_THREAD;
    if (!race.seed_given && tf_chaos_random(&race.seed, &err)) {
        tf_record_opts_clear(&opts);
        return tf_fail(&err);
    }
    opts.chaos = true;
    opts.muted = !race.show;
    opts.ends_together = true;
    opts.timeout_ms = (int64_t)race.timeout_s * 1000;
    status = repeat(&race, &opts);
    tf_record_opts_clear(&opts);
    return status;
}
