/* checkpoint.c: `timefork checkpoint`: adds durable checkpoints to a recording. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/commands.h"
#include "cli/common.h"
#include "replay/durable.h"

static const char usage_text[] =
    "usage: timefork checkpoint [FILE] --at N [--at N...] [--run ID] [--process N] [--format text|json]\n"
    "\n"
    "Re-executes a recorded run up to frame event N and puts a durable checkpoint of it into the recording: "
    "from then on a\n"
    "replay of what comes later starts there, not at the beginning. Needs CRIU (see timefork doctor). "
    "timefork info shows\n"
    "the checkpoints that a recording has.\n"
    "\n"
    "Exit status: 0 when all are made, 1 if one could not be made, 2 for a mistake in the command line, 3 if "
    "the re-execution\n"
    "differed from the recording.\n";

#define AT_MAX 1000

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
            if (!tf_number(value, 1, &o->at[o->n++]))
                return tf_usage("checkpoint", "--at takes the number of a frame event, not '%s'", value), -1;
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
        return *status = tf_usage("checkpoint", "--at N says after which frame event"), -1;
    return 0;
}

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
        printf("%s: a checkpoint after frame event %s: %s of memory, %s of its own in the file, %.2f s\n",
               path, tf_count_text(made->frame, frame, sizeof frame),
               tf_bytes_text(made->pages * 4096, memory, sizeof memory),
               tf_bytes_text(own, size, sizeof size), (double)took_ms / 1e3);
    }
    tf_images_free(images, n);
    return 0;
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
    if ((r = tf_criu_find(&criu, err)) || (r = tf_maker_new(&criu, store, &maker, err)) ||
        (r = tf_timeline_open(store, &run, &opts, &t, err)))
        goto out;
    qsort(o->at, o->n, sizeof *o->at, by_number); /* each starts from the one before */
    for (size_t i = 0; r == 0 && i < o->n; i++) {
        const struct tf_image *image = NULL;
        if (i && o->at[i] == o->at[i - 1])
            continue;
        r = tf_timeline_make_durable(t, maker, o->at[i], &image, err);
        if (r == 0)
            r = say_made(o, path, store, &run, image, tf_maker_took_ms(maker), err);
    }
out:
    tf_timeline_close(t);
    tf_maker_free(maker);
    tf_criu_clear(&criu);
    tf_run_clear(&run);
    return r;
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
    if (r == 0)
        r = make_all(o, path, store, &err);
    status = r == TF_E_DIVERGENCE ? (tf_fail(&err), TF_EXIT_DIVERGED) : r ? tf_fail(&err) : TF_EXIT_OK;
    tf_store_close(store);
    status = tf_finish_output(status);
out:
    free(o);
    return status;
}
