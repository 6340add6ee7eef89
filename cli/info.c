/* info.c: `timefork info`: what a recording is: its runs, how large they are, what checkpoints they have. */
#include "cli/info.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "checkpoint/keep.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "store/images.h"

static const char help[] =
    "usage: timefork info [FILE] [--format text|json]\n"
    "\n"
    "Shows what a recording holds: its runs, how long they took, how they ended, what they take up in the\n"
    "file, and the checkpoints that are stored with them, or that 'record --keep' has left in the\n"
    "background ('kept'). SIZE is what a durable checkpoint takes up in the file and shares with no other,\n"
    "and the memory of a kept one. Those of a replay are shown by 'info checkpoints' at the prompt. FILE is\n"
    "the newest *.timefork in the current folder if it is left out.\n"
    "\n"
    "  --format FORMAT   text (the default) or json, one object a run\n"
    "  --help            this text\n";

/* ---- checkpoints ---- */

static const char *const kinds[] = {
    [TF_CHECKPOINT_START] = "start", [TF_CHECKPOINT_FORK] = "fork", [TF_CHECKPOINT_DURABLE] = "durable"};

json_t *tf_info_checkpoint(uint64_t frame, enum tf_checkpoint_kind kind, const uint64_t *bytes,
                           int64_t age_ms)
{
    return json_pack("{s:I, s:s, s:o, s:I}", "frame", (json_int_t)frame, "kind", kinds[kind], "bytes",
                     bytes ? json_integer((json_int_t)*bytes) : json_null(), "age_ms", (json_int_t)age_ms);
}

json_t *tf_info_checkpoints(struct tf_checkpoints *set)
{
    json_t *all = json_array();
    int64_t now = tf_now_ms();
    tf_checkpoints_measure(set);
    for (size_t i = 0; i < set->n; i++) {
        const struct tf_checkpoint *c = &set->v[i];
        json_t *o =
            tf_info_checkpoint(c->frame, c->kind, c->used.shared ? &c->used.shared : NULL, now - c->made_ms);
        if (c->kept)
            json_object_set_new(o, "kind", json_string("kept"));
        json_array_append_new(all, o);
    }
    return all;
}

static const char *age_text(int64_t ms, char *buf, size_t size)
{
    double s = (double)ms / 1e3;
    if (s < 60)
        snprintf(buf, size, "%.1f s", s);
    else if (s < 3600)
        snprintf(buf, size, "%.0f min", s / 60);
    else if (s < 2 * 86400)
        snprintf(buf, size, "%.1f h", s / 3600);
    else
        snprintf(buf, size, "%.0f days", s / 86400);
    return buf;
}

void tf_info_print_checkpoints(FILE *out, const json_t *checkpoints, const char *size, const char *indent)
{
    size_t i;
    json_t *c;
    if (json_array_size(checkpoints))
        fprintf(out, "%s%16s  %-8s  %10s  %10s\n", indent, "POSITION", "KIND", size, "AGE");
    json_array_foreach(checkpoints, i, c)
    {
        char position[40], memory[32] = "-", age[32];
        const json_t *bytes = json_object_get(c, "bytes");
        snprintf(position, sizeof position, "#%lld",
                 (long long)json_integer_value(json_object_get(c, "frame")));
        if (json_is_integer(bytes))
            tf_bytes_text((uint64_t)json_integer_value(bytes), memory, sizeof memory);
        fprintf(out, "%s%16s  %-8s  %10s  %10s\n", indent, position,
                json_string_value(json_object_get(c, "kind")), memory,
                age_text(json_integer_value(json_object_get(c, "age_ms")), age, sizeof age));
    }
}

/* Those that are stored with a run, of its first process; their memory is what they take in the file.
 * New reference, or NULL with err. */
static json_t *stored_checkpoints(struct tf_store *store, const struct tf_run *run, struct tf_err *err)
{
    struct tf_image *images = NULL;
    struct timespec ts;
    size_t n = 0;
    clock_gettime(CLOCK_REALTIME, &ts);
    int64_t now = ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    if (tf_images_list(store, run, &images, &n, err))
        return NULL;
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(all,
                              tf_info_checkpoint(images[i].frame, TF_CHECKPOINT_DURABLE, &images[i].own_bytes,
                                                 now - images[i].made_unix_ns / 1000000));
    tf_images_free(images, n);
    return all;
}

/* Those that `record --keep` has left of a run, in the background, as far as a replay uses them. */
static void add_kept(json_t *checkpoints, const struct tf_kept_session *kept, size_t n, const char *run)
{
    int64_t now = tf_now_ms();
    for (size_t i = 0; i < n; i++) {
        size_t k;
        json_t *c;
        if (strcmp(kept[i].run, run) != 0 || *kept[i].unfit)
            continue;
        json_array_foreach(json_object_get(kept[i].state, "checkpoints"), k, c)
        {
            json_int_t made = json_integer_value(json_object_get(c, "made_ms"));
            json_array_append_new(checkpoints,
                                  json_pack("{s:O, s:s, s:O, s:I}", "frame", json_object_get(c, "frame"),
                                            "kind", "kept", "bytes", json_object_get(c, "bytes"), "age_ms",
                                            (json_int_t)now - made));
        }
    }
}

/* ---- runs ---- */

struct totals {
    size_t processes, threads;
    uint64_t frames, outside, bytes;
};

/* Of all processes of a run: what a forked one has of its parent's past is counted once. */
static int count(struct tf_store *store, const struct tf_run *run, struct totals *out, struct tf_err *err)
{
    struct tf_run *processes;
    *out = (struct totals){0};
    int r = tf_store_processes(store, run, &processes, &out->processes, err);
    if (r)
        return r;
    for (size_t i = 0; i < out->processes && r == 0; i++) {
        const struct tf_run *p = &processes[i];
        struct tf_thread_row *threads;
        size_t n;
        bool forked = p->origin == TF_FORKED;
        out->frames += p->frames - (forked && p->fork_frame < p->frames ? p->fork_frame : 0);
        out->outside += p->outside - (forked && p->fork_outside < p->outside ? p->fork_outside : 0);
        if ((r = tf_store_threads(store, p, &threads, &n, err)))
            break;
        for (size_t k = 0; k < n; k++)
            out->threads += k == 0 || !forked || threads[k].born >= p->fork_frame;
        tf_threads_free(threads, n);
    }
    tf_runs_free(processes, out->processes);
    return r ? r : tf_store_run_bytes(store, run->rowid, &out->bytes, err);
}

static json_t *text_or_null(const char *text)
{
    return text && *text ? tf_json_text(text, strlen(text)) : json_null();
}

/* New reference, or NULL with err. */
static json_t *describe(struct tf_store *store, const struct tf_run *run, struct tf_err *err)
{
    struct totals totals;
    if (count(store, run, &totals, err))
        return NULL;
    json_t *stored = stored_checkpoints(store, run, err);
    if (!stored)
        return NULL;
    bool signalled = run->exit_signal != 0;
    json_t *o = json_pack(
        "{s:s, s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "run",
        run->id, "title", text_or_null(run->title), "command", text_or_null(run->command), "state",
        tf_state_text(store, run), "started_unix_ns", (json_int_t)run->started_unix_ns, "duration_ns",
        (json_int_t)run->duration_ns, "frames", (json_int_t)totals.frames, "first_frame",
        (json_int_t)tf_run_first(run), "first_ns", (json_int_t)run->base.ns, "outside",
        (json_int_t)totals.outside, "processes", (json_int_t)totals.processes, "threads",
        (json_int_t)totals.threads, "bytes", (json_int_t)totals.bytes, "python",
        text_or_null(run->python_version), "exit_status",
        run->exit_status >= 0 && !signalled ? json_integer(run->exit_status) : json_null(), "exit_signal",
        signalled ? json_integer(run->exit_signal) : json_null(), "checkpoints", stored);
    if (!o)
        tf_err_set(err, TF_E_IO, "out of memory");
    else if (tf_light_text(run))
        json_object_set_new(o, "light", json_string(tf_light_text(run)));
    return o;
}

static void print_run(const struct tf_run *run, const json_t *o)
{
    char text[64], more[64];
    json_int_t processes = json_integer_value(json_object_get(o, "processes"));
    json_int_t threads = json_integer_value(json_object_get(o, "threads"));
    printf("\nrun %s  ", run->id);
    tf_print_name(stdout, run->title);
    printf("\n  command      ");
    tf_print_name(stdout, run->command);
    printf("\n  started      %s\n", tf_time_text(run->started_unix_ns, text, sizeof text));
    const char *state = json_string_value(json_object_get(o, "state"));
    if (strcmp(state, "recording") == 0)
        printf("  state        still being recorded: this is what was written up to now\n");
    else if (run->state != TF_RUN_COMPLETE)
        printf("  state        incomplete: its recorder was lost, or could not go on\n");
    else if (run->exit_signal)
        printf("  state        complete: ended by %s\n", tf_signal_text(run->exit_signal, text, sizeof text));
    else if (run->exit_status >= 0)
        printf("  state        complete: ended with status %d\n", run->exit_status);
    else
        printf("  state        complete: how it ended is not known\n");
    if (run->light == TF_LIGHT_ONLY)
        puts("  light        pending: its frame events are derived when it is first replayed or queried");
    else if (run->light == TF_LIGHT_COMPLETED)
        puts("  light        completed: its frame events were derived since");
    printf("  duration     %.3f s\n", (double)run->duration_ns / 1e9);
    printf("  events       %s frame events, %s outside events\n",
           tf_count_text((uint64_t)json_integer_value(json_object_get(o, "frames")), text, sizeof text),
           tf_count_text((uint64_t)json_integer_value(json_object_get(o, "outside")), more, sizeof more));
    if (tf_run_has_base(run))
        printf("  kept         from frame event %s on, %.3f s after the start\n",
               tf_count_text(tf_run_first(run), text, sizeof text), (double)run->base.ns / 1e9);
    printf("  processes    %lld, with %lld thread%s\n", (long long)processes, (long long)threads,
           threads == 1 ? "" : "s");
    printf("  python       %s\n", run->python_version ? run->python_version : "not known");
    printf("  in the file  %s\n",
           tf_bytes_text((uint64_t)json_integer_value(json_object_get(o, "bytes")), text, sizeof text));
    const json_t *checkpoints = json_object_get(o, "checkpoints");
    if (json_array_size(checkpoints))
        puts("  checkpoints");
    else
        puts("  checkpoints  none in the file: a replay begins at the start of the run");
    tf_info_print_checkpoints(stdout, checkpoints, "SIZE", "  ");
}

static int info(const char *path, bool json)
{
    struct tf_store *store;
    struct tf_run *runs;
    struct stat st;
    struct tf_err err;
    struct tf_kept_session *kept = NULL;
    size_t n, kept_n = 0;
    char size[32] = "?";
    int status = TF_EXIT_OK;
    if (tf_store_open(path, &store, &err))
        return tf_fail(&err);
    if (tf_store_runs(store, &runs, &n, &err)) {
        tf_store_close(store);
        return tf_fail(&err);
    }
    if (stat(path, &st) == 0)
        tf_bytes_text((uint64_t)st.st_size, size, sizeof size);
    if (!json) {
        tf_print_name(stdout, path);
        printf(": %s, %zu run%s\n", size, n, n == 1 ? "" : "s");
    }
    tf_keep_list(&kept, &kept_n, NULL); /* without it, none are shown */
    for (size_t i = 0; i < n && status == TF_EXIT_OK; i++) {
        json_t *o = describe(store, &runs[i], &err);
        add_kept(json_object_get(o, "checkpoints"), kept, kept_n, runs[i].id);
        if (!o) {
            status = tf_fail(&err);
        } else if (json) {
            json_dumpf(o, stdout, JSON_COMPACT);
            putchar('\n');
        } else {
            print_run(&runs[i], o);
        }
        json_decref(o);
    }
    tf_keep_list_free(kept, kept_n);
    tf_runs_free(runs, n);
    tf_store_close(store);
    return status;
}

int tf_cmd_info(int argc, char **argv)
{
    static const struct option options[] = {
        {"format", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool json = false;
    char path[4096];
    struct tf_err err;
    optind = 0;
    opterr = 0;
    for (int o; (o = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        switch (o) {
        case 'f':
            if (strcmp(optarg, "json") && strcmp(optarg, "text"))
                return tf_usage("info", "--format is text or json, not '%s'", optarg);
            json = *optarg == 'j';
            break;
        case 'h':
            fputs(help, stdout);
            return tf_finish_output(TF_EXIT_OK);
        case ':':
            return tf_usage("info", "%s needs a value", argv[optind - 1]);
        default:
            return tf_usage("info", "there is no option '%s'", argv[optind - 1]);
        }
    }
    if (optind + 1 < argc)
        return tf_usage("info", "one file at a time: '%s' is too many", argv[optind + 1]);
    if (tf_find_recording(optind < argc ? argv[optind] : NULL, path, sizeof path, &err))
        return tf_fail(&err);
    return tf_finish_output(info(path, json));
}
