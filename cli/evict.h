/*
 * evict.h: which runs of a recording go when it is to stay small (clean, record --keep-runs), and the options
 * that say so. Command line only.
 */
#ifndef TF_CLI_EVICT_H
#define TF_CLI_EVICT_H

#include "store/bound.h"
#include "store/store.h"

/* A run goes when one of these says so. */
struct tf_evict_limits {
    uint64_t keep;          /* all but so many of the newest; UINT64_MAX: nobody said */
    uint64_t older_than_ns; /* those that had ended before; 0: nobody said */
    uint64_t max_bytes;     /* the oldest, until those that are left take at most so much; 0: nobody said */
};
#define TF_EVICT_NOTHING ((struct tf_evict_limits){.keep = UINT64_MAX})
static inline bool tf_evict_asked(const struct tf_evict_limits *l)
{
    return l->keep != UINT64_MAX || l->older_than_ns || l->max_bytes;
}

struct tf_evict_run {
    uint64_t bytes;
    int64_t ended_unix_ns;
    bool recorded; /* just now: it never goes */
    bool goes;     /* the answer */
};
/* Pure. Runs in the order of the file, the oldest first. max_bytes never takes the last one that is left. */
void tf_evict_choose(const struct tf_evict_limits *limits, struct tf_evict_run *runs, size_t n,
                     int64_t now_unix_ns);

/* What is known of the runs for that; malloc'ed. */
int tf_evict_load(struct tf_store *store, const struct tf_run *runs, size_t n, struct tf_evict_run **out,
                  struct tf_err *err);
/* Removes a run, and the checkpoints that are kept of it (checkpoint/keep.h). */
int tf_evict_delete(struct tf_store *store, const struct tf_run *run, struct tf_err *err);
/* Removes all but the newest N runs. The space is the file's, for the next run. */
int tf_evict_keep(struct tf_store *store, uint64_t keep, size_t *removed, uint64_t *bytes,
                  struct tf_err *err);

/* Nanoseconds from "90s", "10m", "2h" or "7d". False if it is anything else, or nothing. */
bool tf_age_parse(const char *text, uint64_t *ns);

/* Takes record's --max-size, --last or --keep-runs from argv[0] on. *keep_runs: 0 if it was not given.
 * Returns how many arguments it took, 0 if it is none of them, -1 after a message. */
int tf_bound_option(int argc, char **argv, struct tf_bound_limits *limits, uint64_t *keep_runs);
/* Can a recording be bounded here? TF_E_REPLAY: not, and why. Takes a moment. */
int tf_bound_check(struct tf_err *err);

#define TF_BOUND_OPTIONS                                                                                     \
    "  --max-size SIZE  keep only the newest part of the run: what takes at most SIZE (512M, 2G) in the "    \
    "file\n"                                                                                                 \
    "  --last TIME      keep only the newest part of the run: at least the last TIME (90s, 10m, 2h)\n"       \
    "  --keep-runs N    when the program has ended, remove all runs from the file but the newest N\n"

#endif
