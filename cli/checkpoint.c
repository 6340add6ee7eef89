/* checkpoint.c: `timefork checkpoint`: adds durable checkpoints to a recording. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/commands.h"
#include "cli/common.h"
#include "replay/durable.h"

static const char usage_text[] =
    "usage: timefork checkpoint [FILE] --at POSITION [--at POSITION...] [options]\n"
    "\n"
    "Re-executes a recorded run up to a position and puts a durable checkpoint of it into the recording:\n"
    "from then on a replay of what comes later starts there, not at the beginning. Needs CRIU (see\n"
    "'timefork doctor'). FILE is the newest *.timefork in the current folder if it is left out. 'timefork\n"
    "info' shows the checkpoints that a recording has; where there is one already, none is made.\n"
    "\n"
    "  --at POSITION     the number of a frame event, or end; may be repeated\n"
    "  --run ID          a run of it, by id or its beginning (default: the last)\n"
    "  --process N       a process of the run (default: 1; 'timefork query --list-processes' lists them)\n"
    "  --format FORMAT   text (the default) or json, one object a checkpoint that was made\n"
    "  --help            this text\n"
    "\n"
    "Ctrl-C ends it: what was made before stays.\n"
    "\n"
    "Exit status: 0 when all are made, or are there already; 1 if one could not be made; 2 for a mistake in\n"
    "the command line; 3 if the re-execution differed from the recording; 130 after Ctrl-C.\n";

#define AT_MAX 1000
#define AT_END UINT64_MAX
#define PROGRESS_AFTER_MS 500

struct options {
    const char *file, *run;
    uint64_t process;
    uint64_t at[AT_MAX];
    size_t n;
    bool json;
};

/* 0; -1: go no further, *status is the exit status. */
static int parse(int argc, char **argv, struct options *o, int *status)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool takes = strcmp(a, "--at") == 0 || strcmp(a, "--run") == 0 || strcmp(a, "--process") == 0 ||
                     strcmp(a, "--format") == 0;
        *status = TF_EXIT_USAGE;
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(usage_text, stdout);
            *status = tf_finish_output(TF_EXIT_OK);
            return -1;
        }
        if (takes && !value)
            return tf_usage("checkpoint", "%s needs a value", a), -1;
        if (strcmp(a, "--at") == 0) {
            if (o->n == AT_MAX)
                return tf_usage("checkpoint", "more than %d positions at once", AT_MAX), -1;
            if (strcmp(value, "end") == 0)
                o->at[o->n++] = AT_END;
            else if (!tf_number(value, 1, &o->at[o->n++]))
                return tf_usage("checkpoint",
                                "--at takes the number of a frame event (from 1 on) or end, not '%s'", value),
                       -1;
        } else if (strcmp(a, "--run") == 0) {
            o->run = value;
        } else if (strcmp(a, "--process") == 0) {
            if (!tf_number(value, 1, &o->process))
                return tf_usage("checkpoint", "--process takes a number, not '%s'", value), -1;
        } else if (strcmp(a, "--format") == 0) {
            o->json = strcmp(value, "json") == 0;
            if (!o->json && strcmp(value, "text") != 0)
                return tf_usage("checkpoint", "--format is text or json, not '%s'", value), -1;
        } else if (a[0] == '-') {
            return tf_usage("checkpoint", "there is no option '%s'", a), -1;
        } else if (o->file) {
            return tf_usage("checkpoint", "one recording at a time: '%s' and '%s'", o->file, a), -1;
        } else {
            o->file = a;
        }
        i += takes;
    }
    if (!o->n)
        return *status = tf_usage("checkpoint", "--at POSITION says after which frame event"), -1;
    return 0;
}

/* ---- while it works ---- */

static volatile bool cancelled;

static void on_interrupt(int signal)
{
    (void)signal;
    cancelled = true;
}

struct showing {
    int64_t began_ms;
    bool shown;
};

static void show_progress(void *ctx, double done)
{
    struct showing *s = ctx;
    if (tf_now_ms() - s->began_ms < PROGRESS_AFTER_MS || !isatty(STDERR_FILENO))
        return;
    s->shown = true;
    fprintf(stderr, "\r%3.0f %%  %.0f s (Ctrl-C stops it)\033[K", done * 100,
            (double)(tf_now_ms() - s->began_ms) / 1e3);
}

static void clear_progress(struct showing *s)
{
    if (s->shown)
        fputs("\r\033[K", stderr);
    s->shown = false;
}

/* ---- making them ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int say_made(const struct options *o, const char *path, struct tf_store *store,
                    const struct tf_run *run, const struct tf_image *made, int64_t took_ms,
                    struct tf_err *err)
{
    char size[32], frame[32], memory[32];
    struct tf_image *images = NULL;
    size_t n = 0;
    uint64_t own = 0;
    int r = tf_images_list(store, run, &images, &n, err);
    if (r)
        return r;
    for (size_t i = 0; i < n; i++)
        if (images[i].rowid == made->rowid)
            own = images[i].own_bytes;
    if (o->json) {
        json_t *j =
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "run", run->id, "process", (json_int_t)run->process,
                      "frame", (json_int_t)made->frame, "memory_bytes", (json_int_t)(made->pages * 4096),
                      "own_bytes", (json_int_t)own, "elapsed_ms", (json_int_t)took_ms);
        json_dumpf(j, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(j);
    } else {
        printf("%s: a durable checkpoint after frame event %s: %s of memory, %s of its own in the file, %.2f "
               "s\n",
               path, tf_count_text(made->frame, frame, sizeof frame),
               tf_bytes_text(made->pages * 4096, memory, sizeof memory),
               tf_bytes_text(own, size, sizeof size), (double)took_ms / 1e3);
    }
    tf_images_free(images, n);
    return 0;
}

static int is_there(struct tf_store *store, const struct tf_run *run, uint64_t frame, bool *there,
                    struct tf_err *err)
{
    struct tf_image *images = NULL;
    size_t n = 0;
    int r = tf_images_list(store, run, &images, &n, err);
    *there = false;
    for (size_t i = 0; r == 0 && i < n; i++)
        *there |= images[i].frame == frame;
    tf_images_free(images, n);
    return r;
}

static int make_one(const struct options *o, const char *path, struct tf_store *store,
                    const struct tf_run *run, struct tf_timeline *t, struct tf_maker *maker, uint64_t frame,
                    struct tf_err *err)
{
    const struct tf_image *image = NULL;
    struct showing showing = {.began_ms = tf_now_ms()};
    char text[32];
    bool there;
    int r = is_there(store, run, frame, &there, err);
    if (r)
        return r;
    if (there) {
        tf_say("%s: there is a durable checkpoint after frame event %s already", path,
               tf_count_text(frame, text, sizeof text));
        return 0;
    }
    tf_timeline_attend(t, show_progress, &showing, &cancelled);
    r = tf_timeline_make_durable(t, maker, frame, &image, err);
    tf_timeline_attend(t, NULL, NULL, NULL);
    clear_progress(&showing);
    return r ? r : say_made(o, path, store, run, image, tf_now_ms() - showing.began_ms, err);
}

static int make_all(struct options *o, const char *path, struct tf_store *store, struct tf_err *err)
{
    struct tf_run run = {0};
    struct tf_timeline *t = NULL;
    struct tf_criu criu = {0};
    struct tf_maker *maker = NULL;
    struct tf_timeline_opts opts = tf_timeline_opts_default();
    opts.bare = true;
    int r = tf_find_process(store, o->run, o->process, &run, err);
    if (r)
        return r;
    if (tf_run_has_base(&run)) {
        r = tf_err_set(err, TF_E_REPLAY,
                       "run %.8s has lost its oldest part (--max-size, --last): its replays begin at a "
                       "restored checkpoint, which cannot be dumped again. It has only those that were made "
                       "while it was recorded ('timefork info' lists them)",
                       run.id);
        goto out;
    }
    if ((r = tf_criu_find(&criu, err)) || (r = tf_maker_new(&criu, store, &maker, err)) ||
        (r = tf_timeline_open(store, &run, &opts, &t, err)))
        goto out;
    for (size_t i = 0; i < o->n; i++)
        if (o->at[i] == AT_END)
            o->at[i] = tf_timeline_reach(t, NULL);
    qsort(o->at, o->n, sizeof *o->at, by_number); /* each starts from the one before */
    for (size_t i = 0; r == 0 && i < o->n; i++)
        if (i == 0 || o->at[i] != o->at[i - 1])
            r = make_one(o, path, store, &run, t, maker, o->at[i], err);
out:
    tf_timeline_close(t);
    tf_maker_free(maker);
    tf_criu_clear(&criu);
    tf_run_clear(&run);
    return r;
}

/* Of what went wrong; what is well formed, but not there, is no mistake in the command line. */
static int status_of(int r, const struct tf_err *err)
{
    if (r == TF_E_CANCELLED) {
        tf_say("interrupted: the checkpoints that were made before stay");
        return 128 + SIGINT;
    }
    if (r)
        tf_fail(err);
    return r == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED : r ? TF_EXIT_ERROR : TF_EXIT_OK;
}

int tf_cmd_checkpoint(int argc, char **argv)
{
    struct options *o = calloc(1, sizeof *o);
    char path[4096];
    struct tf_store *store = NULL;
    struct tf_err err = {0};
    int status = TF_EXIT_ERROR;
    if (!o) {
        tf_say("out of memory");
        return TF_EXIT_ERROR;
    }
    if (parse(argc, argv, o, &status))
        goto out;
    int r = tf_find_recording(o->file, path, sizeof path, &err);
    if (r == 0 && (r = tf_store_open(path, &store, &err)) == 0) { /* it is one, before anything is written */
        tf_store_close(store);
        store = NULL;
        r = tf_store_create(path, &store, &err);
    }
    signal(SIGINT, on_interrupt);
    if (r == 0)
        r = make_all(o, path, store, &err);
    status = status_of(r, &err);
    tf_store_close(store);
    status = tf_finish_output(status);
out:
    free(o);
    return status;
}
