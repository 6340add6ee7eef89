/*
 * clean.c: `timefork clean`: removes old runs from a recording. Nothing goes unless it is said what may go.
 */
#include "cli/budget.h"
#include "cli/common.h"
#include "cli/evict.h"
#include "store/images.h"
#include "store/store.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const char help[] =
    "usage: timefork clean [FILE] [--keep-runs N] [--older-than TIME] [--max-size SIZE] [--all] [--dry-run]\n"
    "\n"
    "Removes runs from a recording and gives the space back to the disk. FILE is the newest\n"
    "*.timefork in the current folder if it is left out. There is no default: unless it is said\n"
    "what may go, nothing is removed. A run that is still being recorded is never removed.\n"
    "\n"
    "options; a run goes when one of them says so:\n"
    "  --keep-runs N      remove all runs but the newest N (also: --keep N)\n"
    "  --older-than TIME  remove runs that ended longer ago: 90s, 10m, 2h, 7d\n"
    "  --max-size SIZE    remove the oldest runs until the others take at most SIZE: 512M, 2G; one\n"
    "                     always stays\n"
    "  --all              remove all runs; the file stays, empty\n"
    "  --dry-run          only show what would be removed\n"
    "  --help             this text\n";

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

static const char *verb(const struct tf_evict_run *run, bool asked, bool dry_run)
{
    if (!asked)
        return "holds";
    if (run->recorded)
        return "recording";
    if (run->goes)
        return dry_run ? "would remove" : "removed";
    return dry_run ? "would keep" : "kept";
}

static int64_t now_unix_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec * 1000000000l + ts.tv_nsec;
}

static int clean(const char *path, const struct tf_evict_limits *limits, bool dry_run)
{
    struct tf_err err;
    struct tf_store *store = NULL;
    struct tf_run *runs = NULL;
    struct tf_evict_run *v = NULL;
    size_t n = 0, removed = 0, recorded = 0;
    uint64_t sum = 0, left = 0;
    char size[32], was[32], now[32];
    bool asked = tf_evict_asked(limits), writes = asked && !dry_run;
    int status = TF_EXIT_OK;

    /* Reading first: what cannot be read, or is not there, is not touched. */
    if (tf_store_open(path, &store, &err))
        return tf_fail(&err);
    if (writes) {
        tf_store_close(store);
        if (tf_store_create(path, &store, &err))
            return tf_fail(&err);
    }
    if (tf_store_runs(store, &runs, &n, &err) || tf_evict_load(store, runs, n, &v, &err)) {
        tf_runs_free(runs, n);
        tf_store_close(store);
        return tf_fail(&err);
    }
    tf_evict_choose(limits, v, n, now_unix_ns());
    uint64_t before = file_size(path);
    for (size_t i = 0; i < n; i++) {
        recorded += v[i].recorded && asked;
        if (v[i].goes && writes && tf_evict_delete(store, &runs[i], &err)) {
            status = tf_fail(&err);
            break;
        }
        print_run(verb(&v[i], asked, dry_run), &runs[i], v[i].bytes);
        removed += v[i].goes;
        *(v[i].goes ? &sum : &left) += v[i].bytes;
    }
    tf_runs_free(runs, n);
    free(v);
    /* Of checkpoints whose recorder ended in the middle of putting one. */
    if (writes && !recorded && tf_images_tidy(store, &err)) {
        tf_err_prefix(&err, "the runs are removed, but not what is left of unfinished checkpoints: ");
        status = tf_fail(&err);
    }
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
        return tf_usage(
            "clean",
            "say --keep-runs N, --older-than TIME, --max-size SIZE or --all; nothing was removed from "
            "%s (%s)",
            path, tf_bytes_text(before, size, sizeof size));
    if (!removed) {
        printf("nothing to remove: %s holds %zu run%s, %s\n", path, n, n == 1 ? "" : "s",
               tf_bytes_text(before, size, sizeof size));
    } else if (dry_run) {
        printf("would remove %zu of %zu runs and regain about %s; nothing was removed\n", removed, n,
               tf_bytes_text(sum, size, sizeof size));
    } else {
        uint64_t after = file_size(path);
        printf("removed %zu of %zu runs, regained %s: the file had %s, it has %s\n", removed, n,
               tf_bytes_text(before > after ? before - after : 0, size, sizeof size),
               tf_bytes_text(before, was, sizeof was), tf_bytes_text(after, now, sizeof now));
    }
    if (limits->max_bytes && left > limits->max_bytes)
        tf_say(
            "what is left takes %s, more than --max-size: the newest run, and those that are being recorded, "
            "stay",
            tf_bytes_text(left, size, sizeof size));
    return TF_EXIT_OK;
}

int tf_cmd_clean(int argc, char **argv)
{
    static const struct option options[] = {
        {"keep", required_argument, NULL, 'k'},
        {"keep-runs", required_argument, NULL, 'k'},
        {"older-than", required_argument, NULL, 'o'},
        {"max-size", required_argument, NULL, 's'},
        {"all", no_argument, NULL, 'a'},
        {"dry-run", no_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct tf_evict_limits limits = TF_EVICT_NOTHING;
    bool all = false, dry_run = false;
    char path[4096];
    struct tf_err err;
    optind = 0;
    opterr = 0;
    for (int o; (o = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (o) {
        case 'k':
            if (!tf_number(optarg, 1, &limits.keep) || limits.keep == UINT64_MAX)
                return tf_usage("clean",
                                "%s takes a number of at least 1, not '%s' (to remove all runs: --all)",
                                "--keep-runs", optarg);
            break;
        case 'o':
            if (!tf_age_parse(optarg, &limits.older_than_ns))
                return tf_usage("clean", "--older-than takes a time, as 90s, 10m, 2h or 7d, not '%s'",
                                optarg);
            break;
        case 's':
            if (!tf_size_parse(optarg, &limits.max_bytes) || !limits.max_bytes)
                return tf_usage("clean", "--max-size takes a size, as 512M or 2G, not '%s'", optarg);
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
    if (all && tf_evict_asked(&limits))
        return tf_usage("clean", "--all excludes the other options that say what goes");
    if (all)
        limits.keep = 0;
    if (tf_find_recording(optind < argc ? argv[optind] : NULL, path, sizeof path, &err))
        return tf_fail(&err);
    return tf_finish_output(clean(path, &limits, dry_run));
}
