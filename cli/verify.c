/* verify.c: `timefork verify`: re-executes all of a run and compares every event. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/divergence.h"
#include "cli/record.h"

static const char usage_text[] =
    "usage: timefork verify [FILE] [--run ID] [--process N] [--on-divergence stop|explain] [--format "
    "text|json]\n"
    "\n"
    "Re-executes a recorded run from its start and compares every outside call and the digest of every block "
    "of frame events.\n"
    "--require-filter: do nothing if the kernel cannot filter the system calls of a replay (timefork "
    "doctor).\n"
    "All processes of the run are verified, one after the other, or the one that --process names.\n"
    "\n" TF_DIVERGENCE_OPTIONS "\n"
    "Exit status: 0 if all is equal; 3 at the first divergence, which is described; 4 if all is equal up to "
    "something that replay does\n"
    "not cover yet; 1 if it could not be done; 2 for a mistake in the command line. Of several processes the "
    "worst counts: 3, then 1,\n"
    "then 4.\n";

#define CHANGED_SHOWN 3

/* Files that were looked at: those of one process are mostly those of the others. */
struct looked {
    char **files;
    size_t n;
};

/* Is the file a new one? */
static bool look_at(struct looked *looked, const char *file)
{
    for (size_t i = 0; i < looked->n; i++)
        if (strcmp(looked->files[i], file) == 0)
            return false;
    char **more = realloc(looked->files, (looked->n + 1) * sizeof *more);
    if (more)
        looked->files = more;
    char *copy = more ? strdup(file) : NULL;
    if (copy)
        more[looked->n++] = copy;
    return true;
}

/* Says which of the program's own files are not what they were: what ran now is the recorded source. */
static void note_changed_sources(struct tf_store *store, const struct tf_run *run, struct looked *looked)
{
    struct tf_codes codes;
    size_t changed = 0;
    if (tf_store_codes(store, run, &codes, NULL))
        return;
    for (size_t i = 1; i < codes.n; i++) {
        const char *file = codes.codes[i].file;
        char *text;
        size_t len;
        if (codes.codes[i].library || file[0] == '<' || !look_at(looked, file) ||
            tf_store_source(store, run, file, &text, &len, NULL))
            continue;
        if (tf_source_changed(file, run->cwd ? run->cwd : "", text, len) && ++changed <= CHANGED_SHOWN)
            fprintf(stderr, "timefork: %s %s since the recording; the recorded source is what was executed\n",
                    file, access(file, F_OK) ? "is gone" : "has changed");
        free(text);
    }
    if (changed > CHANGED_SHOWN)
        fprintf(stderr, "timefork: the same goes for %zu more source file%s\n", changed - CHANGED_SHOWN,
                changed == CHANGED_SHOWN + 1 ? "" : "s");
    tf_codes_free(&codes);
}

static void print_json(struct tf_store *store, const struct tf_run *run, int status,
                       const struct tf_verified *v, const char *text, json_t *report)
{
    json_t *o = json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:f}", "run", run->id, "process",
                          (json_int_t)run->process, "result",
                          status == 0                  ? "equal"
                          : status == TF_EXIT_BARRIER  ? "barrier"
                          : status == TF_EXIT_DIVERGED ? "divergence"
                                                       : "failed",
                          "frames", (json_int_t)v->frames, "outside", (json_int_t)v->outside, "at_frame",
                          (json_int_t)v->at.frame, "elapsed_ms", v->elapsed_ms);
    json_object_set_new(o, "state", json_string(tf_state_text(store, run)));
    if (run->exit_signal)
        json_object_set_new(o, "exit_signal", json_integer(run->exit_signal));
    if (report) {
        json_object_set_new(o, "text", tf_divergence_text(report));
        json_object_set(o, "divergence", report);
    } else if (status) {
        json_object_set_new(o, "text", tf_json_text(text, strlen(text)));
    }
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

struct options {
    bool json, require_filter;
    enum tf_on_divergence on;
    uint64_t calls; /* of a report */
};

/* Verifies one process and says what came of it; several: there are others, so it says which one. Returns the
 * exit status. */
static int verify(const char *path, struct tf_store *store, const struct tf_run *run, bool several,
                  const struct options *o, struct looked *looked)
{
    struct tf_timeline *t = NULL;
    json_t *report = NULL;
    struct tf_err err = {0};
    struct tf_verified *v = calloc(1, sizeof *v);
    char which[32] = "", name[32] = "", signal[64];
    if (!v) {
        tf_say("out of memory");
        return TF_EXIT_ERROR;
    }
    if (several) {
        snprintf(which, sizeof which, ", process %u", run->process);
        snprintf(name, sizeof name, "process %u: ", run->process);
    }
    int r = tf_timeline_open(store, run, NULL, &t, &err);
    if (r == 0)
        r = tf_check_filter(t, o->require_filter, &err);
    bool opened = r == 0;
    if (opened) {
        tf_timeline_report_calls(t, o->calls);
        r = tf_timeline_verify(t, v, &err);
        struct tf_divergence *d = r == TF_E_DIVERGENCE ? tf_timeline_take_divergence(t) : NULL;
        if (d)
            report = tf_divergence_report(t, d, o->on);
        tf_divergence_free(d);
    }
    int status = r == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED
                 : r                  ? TF_EXIT_ERROR
                 : v->barrier         ? TF_EXIT_BARRIER
                                      : 0;
    if (o->json && (opened || several))
        print_json(store, run, status, v, r ? err.msg : v->text, report);
    if (opened)
        note_changed_sources(store, run, looked);
    if (status == 0) {
        if (!o->json)
            printf("%s: run %.8s%s: equal: %llu frame events, %llu outside calls, %.2f s%s%s%s\n", path,
                   run->id, which, (unsigned long long)v->frames, (unsigned long long)v->outside,
                   v->elapsed_ms / 1e3, run->exit_signal ? "; then it was ended by " : "",
                   run->exit_signal ? tf_signal_text(run->exit_signal, signal, sizeof signal) : "",
                   run->state == TF_RUN_COMPLETE ? ""
                   : tf_store_is_recorded(store, run)
                       ? "; it is still being recorded: this is what was written up to now"
                       : "; the recording is incomplete: what came then is not in it");
        fflush(stdout);
    } else if (status == TF_EXIT_BARRIER) {
        tf_say("%sequal for %llu frame events and %llu outside calls, then comes what replay does not "
               "cover:\n%s",
               name, (unsigned long long)v->frames, (unsigned long long)v->outside, v->text);
    } else if (report) {
        fprintf(stderr, "timefork: %sdivergence: ", name);
        tf_divergence_print(stderr, report, o->on == TF_ON_DIVERGENCE_EXPLAIN);
        if (o->on == TF_ON_DIVERGENCE_STOP)
            fprintf(stderr, "'timefork verify --on-divergence explain' makes the full report.\n");
    } else {
        tf_say("%s%s%s", name, status == TF_EXIT_DIVERGED && opened ? "divergence: " : "", err.msg);
    }
    json_decref(report);
    tf_timeline_close(t);
    free(v);
    return status;
}

/* What counts more: a difference is the worst there is, for what could not be done nothing is known. */
static int worse(int a, int b)
{
    static const int order[] = {TF_EXIT_DIVERGED, TF_EXIT_ERROR, TF_EXIT_BARRIER};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return TF_EXIT_OK;
}

int tf_cmd_verify(int argc, char **argv)
{
    const char *file = NULL, *run_id = NULL;
    struct options o = {.calls = TF_DIVERGENCE_CALLS};
    uint64_t process = 0;
    struct tf_err err = {0};
    struct tf_store *store = NULL;
    struct tf_run run = {0}, *runs = NULL;
    struct looked looked = {0};
    size_t n = 0;
    char path[4096];
    int status = TF_EXIT_USAGE;

    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        int took = tf_divergence_option(argc - i, argv + i, &o.on, &o.calls);
        if (took < 0)
            return TF_EXIT_USAGE;
        if (took) {
            i += took - 1;
            continue;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage_text, stdout);
            return 0;
        } else if (strcmp(argv[i], "--run") == 0 && more) {
            run_id = argv[++i];
        } else if (strcmp(argv[i], "--require-filter") == 0) {
            o.require_filter = true;
        } else if (strcmp(argv[i], "--process") == 0 && more && tf_number(argv[i + 1], 1, &process)) {
            i++;
        } else if (strcmp(argv[i], "--format") == 0 && more &&
                   (!strcmp(argv[i + 1], "json") || !strcmp(argv[i + 1], "text"))) {
            o.json = argv[++i][0] == 'j';
        } else if (argv[i][0] != '-' && !file) {
            file = argv[i];
        } else {
            fprintf(stderr,
                    "timefork: verify does not know what to do with '%s' ('timefork verify --help')\n",
                    argv[i]);
            return TF_EXIT_USAGE;
        }
    }
    if (tf_find_recording(file, path, sizeof path, &err) || tf_store_open(path, &store, &err) ||
        tf_find_process(store, run_id, process, &run, &err) ||
        tf_store_processes(store, &run, &runs, &n, &err)) {
        status = tf_fail(&err);
        goto out;
    }
    status = TF_EXIT_OK;
    for (size_t i = 0; i < n; i++)
        if (!process || runs[i].process == run.process)
            status = worse(status, verify(path, store, &runs[i], n > 1, &o, &looked));
    status = tf_finish_output(status);
out:
    for (size_t i = 0; i < looked.n; i++)
        free(looked.files[i]);
    free(looked.files);
    tf_runs_free(runs, n);
    tf_run_clear(&run);
    tf_store_close(store);
    return status;
}
