/*
 * clean.c: `timefork clean`: removes old runs from a recording. Nothing goes unless it is said how much may
 * go.
 */
#include "checkpoint/keep.h"
#include "cli/common.h"
#include "store/store.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char help[] =
    "usage: timefork clean [FILE] (--keep N | --all) [--dry-run]\n"
    "\n"
    "Removes runs from a recording and gives the space back to the disk. FILE is the newest\n"
    "*.timefork in the current folder if it is left out. There is no default: without --keep or\n"
    "--all nothing is removed. A run that is still being recorded is never removed.\n"
    "\n"
    "options:\n"
    "  --keep N    remove all runs but the newest N\n"
    "  --all       remove all runs; the file stays, empty\n"
    "  --dry-run   only show what would be removed\n"
    "  --help      this text\n";

static void print_run(const char *verb, const struct tf_run *run, uint64_t bytes)
{
    char when[32], size[32];
    printf("%-12s %s  %s  %12llu frames  %10s  ", verb, run->id,
           tf_time_text(run->started_unix_ns, when, sizeof when), (unsigned long long)run->frames,
           tf_bytes_text(bytes, size, sizeof size));
    tf_print_name(stdout, run->command);
    putchar('\n');
}

static uint64_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (uint64_t)st.st_size;
}

/* Checkpoints that `record --keep` has left of a run that is removed are of no more use. */
static void end_kept(const char *run)
{
    struct tf_kept_session *v;
    size_t n;
    if (tf_keep_list(&v, &n, NULL))
        return;
    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i].run, run) == 0)
            tf_keep_end(&v[i], NULL);
    tf_keep_list_free(v, n);
}

/* keep: how many of the newest stay; UINT64_MAX: nobody said. */
static int clean(const char *path, uint64_t keep, bool dry_run)
{
    struct tf_err err;
    struct tf_store *store = NULL;
    struct tf_run *runs = NULL;
    size_t n = 0, removed = 0, recorded = 0;
    uint64_t bytes, sum = 0;
    char size[32];
    bool asked = keep != UINT64_MAX, writes = asked && !dry_run;
    int status = TF_EXIT_OK;

    /* Reading first: what cannot be read, or is not there, is not touched. */
    if (tf_store_open(path, &store, &err))
        return tf_fail(&err);
    if (writes) {
        tf_store_close(store);
        if (tf_store_create(path, &store, &err))
            return tf_fail(&err);
    }
    if (tf_store_runs(store, &runs, &n, &err)) {
        tf_store_close(store);
        return tf_fail(&err);
    }
    uint64_t before = file_size(path);
    for (size_t i = 0; i < n; i++) {
        bool live = tf_store_is_recorded(store, &runs[i]), stays = n - i <= keep || live;
        recorded += live && n - i > keep;
        if (tf_store_run_bytes(store, runs[i].rowid, &bytes, &err)) {
            status = tf_fail(&err);
            break;
        }
        if (!stays && writes && tf_store_delete_run(store, runs[i].rowid, &err)) {
            status = tf_fail(&err);
            break;
        }
        if (!stays && writes)
            end_kept(runs[i].id);
        print_run(!asked  ? "holds"
                  : live  ? "recording"
                  : stays ? (dry_run ? "would keep" : "kept")
                          : (dry_run ? "would remove" : "removed"),
                  &runs[i], bytes);
        if (!stays) {
            removed++;
            sum += bytes;
        }
    }
    tf_runs_free(runs, n);
    if (removed && writes && tf_store_compact(store, &err)) {
        tf_err_prefix(&err, "the runs are removed, but the space is not regained: ");
        status = tf_fail(&err);
    }
    tf_store_close(store);
    if (status)
        return status;
    if (recorded)
        tf_say("%zu run%s still being recorded and stay%s: remove %s when that has ended", recorded,
               recorded == 1 ? " is" : "s are", recorded == 1 ? "s" : "", recorded == 1 ? "it" : "them");
    if (!asked)
        return tf_usage("clean", "say --keep N or --all; nothing was removed from %s", path);
    if (!removed) {
        printf("nothing to remove: %s holds %zu run%s\n", path, n, n == 1 ? "" : "s");
    } else if (dry_run) {
        printf("would remove %zu of %zu runs and regain about %s; nothing was removed\n", removed, n,
               tf_bytes_text(sum, size, sizeof size));
    } else {
        uint64_t after = file_size(path);
        printf("removed %zu of %zu runs, regained %s\n", removed, n,
               tf_bytes_text(before > after ? before - after : 0, size, sizeof size));
    }
    return TF_EXIT_OK;
}

int tf_cmd_clean(int argc, char **argv)
{
    static const struct option options[] = {
        {"keep", required_argument, NULL, 'k'},
        {"all", no_argument, NULL, 'a'},
        {"dry-run", no_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    uint64_t keep = UINT64_MAX;
    bool all = false, dry_run = false;
    char path[4096];
    struct tf_err err;
    optind = 0;
    opterr = 0;
    for (int o; (o = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (o) {
        case 'k':
            if (!tf_number(optarg, 1, &keep) || keep == UINT64_MAX)
                return tf_usage("clean",
                                "--keep takes a number of at least 1, not '%s' (to remove all runs: --all)",
                                optarg);
            break;
        case 'a':
            all = true;
            break;
        case 'n':
            dry_run = true;
            break;
        case 'h':
            fputs(help, stdout);
            return tf_finish_output(TF_EXIT_OK);
        case ':':
            return tf_usage("clean", "%s needs a value", argv[optind - 1]);
        default:
            return tf_usage("clean", "there is no option '%s'", argv[optind - 1]);
        }
    }
    if (optind + 1 < argc)
        return tf_usage("clean", "one file at a time: '%s' is too many", argv[optind + 1]);
    if (all && keep != UINT64_MAX)
        return tf_usage("clean", "--keep and --all exclude each other");
    if (all)
        keep = 0;
    if (tf_find_recording(optind < argc ? argv[optind] : NULL, path, sizeof path, &err))
        return tf_fail(&err);
    return tf_finish_output(clean(path, keep, dry_run));
}
