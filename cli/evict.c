/* evict.c: see evict.h. */
#include "cli/evict.h"
#include "checkpoint/criu.h"
#include "checkpoint/keep.h"
#include "cli/budget.h"
#include "cli/common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LEAST_BYTES (16u << 20) /* of --max-size: less than one checkpoint takes is of no use */
#define LEAST_NS 1000000000u    /* of --last */

/* ---- which runs ---- */

void tf_evict_choose(const struct tf_evict_limits *limits, struct tf_evict_run *runs, size_t n,
                     int64_t now_unix_ns)
{
    uint64_t sum = 0;
    bool full = false, any = false;
    for (size_t i = n; i-- > 0;) {
        struct tf_evict_run *run = &runs[i];
        run->goes =
            n - i > limits->keep || (limits->older_than_ns && now_unix_ns > run->ended_unix_ns &&
                                     (uint64_t)(now_unix_ns - run->ended_unix_ns) > limits->older_than_ns);
        if (run->goes && !run->recorded)
            continue;
        sum += run->bytes;
        /* Once it is full, nothing older stays: not a small one instead of a large one behind it. */
        full |= limits->max_bytes && sum > limits->max_bytes && any;
        any = true;
        run->goes = full && !run->recorded;
    }
}

int tf_evict_load(struct tf_store *store, const struct tf_run *runs, size_t n, struct tf_evict_run **out,
                  struct tf_err *err)
{
    struct tf_evict_run *v = calloc(n + 1, sizeof *v);
    int rc = v ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
    for (size_t i = 0; !rc && i < n; i++) {
        v[i].ended_unix_ns = runs[i].started_unix_ns + (int64_t)runs[i].duration_ns;
        v[i].recorded = tf_store_is_recorded(store, &runs[i]);
        rc = tf_store_run_bytes(store, runs[i].rowid, &v[i].bytes, err);
    }
    if (rc) {
        free(v);
        v = NULL;
    }
    *out = v;
    return rc;
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

int tf_evict_delete(struct tf_store *store, const struct tf_run *run, struct tf_err *err)
{
    int rc = tf_store_delete_run(store, run->rowid, err);
    if (!rc)
        end_kept(run->id);
    return rc;
}

int tf_evict_keep(struct tf_store *store, uint64_t keep, size_t *removed, uint64_t *bytes, struct tf_err *err)
{
    const struct tf_evict_limits limits = {.keep = keep};
    struct tf_evict_run *v = NULL;
    struct tf_run *runs;
    size_t n;
    *removed = 0;
    *bytes = 0;
    int rc = tf_store_runs(store, &runs, &n, err);
    if (rc)
        return rc;
    if (n > keep && !(rc = tf_evict_load(store, runs, n, &v, err))) {
        tf_evict_choose(&limits, v, n, 0);
        for (size_t i = 0; !rc && i < n; i++) {
            if (!v[i].goes || (rc = tf_evict_delete(store, &runs[i], err)))
                continue;
            ++*removed;
            *bytes += v[i].bytes;
        }
    }
    free(v);
    tf_runs_free(runs, n);
    return rc;
}

/* ---- options ---- */

bool tf_age_parse(const char *text, uint64_t *ns)
{
    static const struct {
        char unit;
        uint64_t s;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char number[16];
    size_t digits = strspn(text, "0123456789");
    uint64_t value;
    if (!digits || digits >= sizeof number || !text[digits] || text[digits + 1])
        return false;
    memcpy(number, text, digits);
    number[digits] = 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (text[digits] == units[i].unit && tf_number(number, 1, &value) &&
            value <= (uint64_t)INT64_MAX / 1000000000 / units[i].s) {
            *ns = value * units[i].s * 1000000000;
            return true;
        }
    return false;
}

static int bad(const char *option, const char *value, const char *expected)
{
    tf_say("%s %s: %s is expected", option, value, expected);
    return -1;
}

int tf_bound_option(int argc, char **argv, struct tf_bound_limits *limits, uint64_t *keep_runs)
{
    static const char *const names[] = {"--max-size", "--last", "--keep-runs"};
    size_t which = 0;
    while (which < 3 && strcmp(argv[0], names[which]) != 0)
        which++;
    if (which == 3)
        return 0;
    if (argc < 2) {
        tf_say("%s needs a value", argv[0]);
        return -1;
    }
    if (which == 0 && (!tf_size_parse(argv[1], &limits->max_bytes) || limits->max_bytes < LEAST_BYTES))
        return bad(argv[0], argv[1], "a size of at least 16M, as 512M or 2G,");
    if (which == 1 && (!tf_age_parse(argv[1], &limits->last_ns) || limits->last_ns < LEAST_NS))
        return bad(argv[0], argv[1], "a time, as 90s, 10m or 2h,");
    if (which == 2 && !tf_number(argv[1], 1, keep_runs))
        return bad(argv[0], argv[1], "a number of at least 1");
    return 2;
}

int tf_bound_check(struct tf_err *err)
{
    struct tf_criu criu = {0};
    int rc = tf_criu_find(&criu, err);
    if (!rc)
        rc = tf_criu_probe(&criu, err);
    tf_criu_clear(&criu);
    if (!rc)
        return 0;
    tf_err_prefix(err,
                  "--max-size and --last drop the oldest part of the run, for which durable checkpoints are "
                  "needed: ");
    return TF_E_REPLAY;
}
