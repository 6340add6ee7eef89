/* verify.c: `timefork verify`: re-executes all of a run and compares every event. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/record.h"

static const char usage_text[] =
    "usage: timefork verify [FILE] [--run ID] [--format text|json] [--require-filter]\n"
    "\n"
    "Re-executes a recorded run from its start and compares every outside call and the digest of every block "
    "of frame events.\n"
    "--require-filter: do nothing if the kernel cannot filter the system calls of a replay (timefork "
    "doctor).\n"
    "\n"
    "Exit status: 0 if all is equal; 3 at the first divergence, which is described; 4 if all is equal up to "
    "something that replay does\n"
    "not cover yet; 1 if it could not be done; 2 for a mistake in the command line.\n";

#define CHANGED_SHOWN 3

/* Says which of the program's own files are not what they were: what ran now is the recorded source. */
static void note_changed_sources(struct tf_store *store, const struct tf_run *run)
{
    struct tf_codes codes;
    size_t changed = 0;
    if (tf_store_codes(store, run, &codes, NULL))
        return;
    for (size_t i = 1; i < codes.n; i++) {
        const char *file = codes.codes[i].file;
        char *text;
        size_t len, k = 1;
        while (k < i && (codes.codes[k].library || strcmp(codes.codes[k].file, file) != 0))
            k++;
        if (codes.codes[i].library || k < i || file[0] == '<' ||
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

int tf_cmd_verify(int argc, char **argv)
{
    const char *file = NULL, *run_id = NULL;
    bool json = false, require_filter = false;
    struct tf_err err = {0};
    struct tf_store *store = NULL;
    struct tf_timeline *t = NULL;
    struct tf_run run = {0};
    struct tf_verified *v = calloc(1, sizeof *v);
    char path[4096];
    int status = TF_EXIT_USAGE;

    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage_text, stdout);
            status = 0;
            goto out;
        } else if (strcmp(argv[i], "--run") == 0 && more) {
            run_id = argv[++i];
        } else if (strcmp(argv[i], "--require-filter") == 0) {
            require_filter = true;
        } else if (strcmp(argv[i], "--format") == 0 && more &&
                   (!strcmp(argv[i + 1], "json") || !strcmp(argv[i + 1], "text"))) {
            json = argv[++i][0] == 'j';
        } else if (argv[i][0] != '-' && !file) {
            file = argv[i];
        } else {
            fprintf(stderr,
                    "timefork: verify does not know what to do with '%s' ('timefork verify --help')\n",
                    argv[i]);
            goto out;
        }
    }
    status = TF_EXIT_ERROR;
    if (!v || tf_find_recording(file, path, sizeof path, &err) || tf_store_open(path, &store, &err) ||
        tf_store_find_run(store, run_id, &run, &err) || tf_timeline_open(store, &run, &t, &err) ||
        tf_check_filter(t, require_filter, &err)) {
        fprintf(stderr, "timefork: %s\n", err.msg);
        status = err.code == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED : TF_EXIT_ERROR;
        goto out;
    }
    int r = tf_timeline_verify(t, v, &err);
    status = r == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED : r ? TF_EXIT_ERROR : v->barrier ? TF_EXIT_BARRIER : 0;
    if (json) {
        json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:f}", "run", run.id, "result",
                              status == 0                  ? "equal"
                              : status == TF_EXIT_BARRIER  ? "barrier"
                              : status == TF_EXIT_DIVERGED ? "divergence"
                                                           : "failed",
                              "frames", (json_int_t)v->frames, "outside", (json_int_t)v->outside, "at_frame",
                              (json_int_t)v->at.frame, "elapsed_ms", v->elapsed_ms);
        if (status)
            json_object_set_new(o, "text",
                                tf_json_text(r ? err.msg : v->text, strlen(r ? err.msg : v->text)));
        json_dumpf(o, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(o);
    }
    note_changed_sources(store, &run);
    if (status == 0) {
        if (!json)
            printf("%s: run %.8s: equal: %llu frame events, %llu outside calls, %.2f s\n", path, run.id,
                   (unsigned long long)v->frames, (unsigned long long)v->outside, v->elapsed_ms / 1e3);
    } else if (status == TF_EXIT_BARRIER) {
        fprintf(stderr,
                "timefork: equal for %llu frame events and %llu outside calls, then comes what replay does "
                "not cover:\n%s\n",
                (unsigned long long)v->frames, (unsigned long long)v->outside, v->text);
    } else if (status == TF_EXIT_DIVERGED) {
        fprintf(stderr, "timefork: divergence: %s\n", err.msg);
    } else {
        fprintf(stderr, "timefork: %s\n", err.msg);
    }
    status = tf_finish_output(status);
out:
    tf_timeline_close(t);
    tf_run_clear(&run);
    tf_store_close(store);
    free(v);
    return status;
}
