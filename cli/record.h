/* record.h: running a program under the recorder; shared by `timefork record` and `timefork debug`. */
#ifndef TF_CLI_RECORD_H
#define TF_CLI_RECORD_H

#include "cli/budget.h"
#include "cli/common.h"
#include "cli/recorder_durable.h"
#include "cli/evict.h"
#include "replay/timeline.h"

struct tf_record_opts {
    const char *output; /* file, or NULL: made from the title */
    const char *python; /* interpreter, or NULL: python3 */
    bool python_given;
    char **env; /* K=V, env_n of them */
    size_t env_n;
    bool quiet;
    bool light;                   /* no frame events: they are derived later (cli/complete.h) */
    bool follow;                  /* record interpreters that the program executes */
    bool wait;                    /* go on until the last process has ended, not only the first */
    bool snapshots;               /* take checkpoints for tf_record_result.checkpoints */
    bool checkpoints_given, fork; /* --checkpoints */
    enum tf_durable_mode durable;
    bool keep; /* leave the checkpoints in the background (cli/keep.h); only for record */
    int64_t keep_ms;
    struct tf_checkpoint_opts checkpoints;
    struct tf_bound_limits bound; /* --max-size, --last; record only */
    uint64_t keep_runs;           /* afterwards, so many stay in the file; 0: all */
    bool chaos;                   /* threads are switched by chance, from this seed, below TF_CHAOS_SEEDS */
    uint64_t seed;
    /* For race: */
    bool muted;         /* the program's standard input, output and error are /dev/null */
    bool ends_together; /* who ends timefork by a signal ends the program, too */
    int64_t timeout_ms; /* then it is killed; 0: never */
    char **argv;        /* what runs: the interpreter and its arguments, or the COMMAND; NULL-terminated */
    bool command;       /* argv is a COMMAND of the user's: it may become Python later, or never */
    char *title, *command_line; /* owned */
    const char *source_text;
};
void tf_record_opts_clear(struct tf_record_opts *opts);
/* Options of a command that records and has some of its own, too. */
struct tf_own_options {
    const char *command;
    /* Is asked about options that are not record's, and first; returns how many arguments it took, 0: not its
     * own, negative after a message. */
    int (*take)(void *ctx, int argc, char **argv);
    void *ctx;
    const char *const *tail; /* these may also follow the program's arguments, and begin what is no longer the
                                program's; NULL-terminated */
};
/* Parses `record [options] (SCRIPT | -m MODULE | -c CODE | -- COMMAND) [ARGS...]` from argv[1] on. 0, the
 * exit status after a message, or -1 when help was all that was wanted. own: NULL for record itself. */
int tf_record_parse(struct tf_record_opts *opts, int argc, char **argv, const struct tf_own_options *own,
                    const char *usage);

/* Seeds of chaos are below this. */
#define TF_CHAOS_SEEDS (1ull << 63)
bool tf_chaos_parse(const char *text, uint64_t *seed);
/* One that nobody chose; small enough to be a number in every reader of JSON. */
int tf_chaos_random(uint64_t *seed, struct tf_err *err);
/* A recording of such a run says so in a note (TF_MARK_NOTE), which ends with the seed. */
#define TF_CHAOS_NOTE "threads were switched by chance: --chaos "
/* The seed of a run, if it had one. */
bool tf_chaos_of(struct tf_store *store, const struct tf_run *run, uint64_t *seed);

struct tf_record_result {
    char path[4096];
    int status;       /* of the program, as a shell sees it */
    int signal;       /* that ended it; 0: none */
    bool timed_out;   /* it was killed because of timeout_ms */
    bool interrupted; /* ends_together: a signal came that ends timefork */
    struct tf_run run;
    size_t evicted; /* older runs that were removed (--keep-runs), and what they took */
    uint64_t evicted_bytes;
    struct tf_shared shared;
    struct tf_checkpoints checkpoints; /* tf_checkpoints_clear() */
};
/* Where its recording goes. */
void tf_record_path(const struct tf_record_opts *opts, char *path, size_t size);
/* Runs it. 0 when the program ran (recorded or not: result->run.id is empty if not, after a message). */
int tf_record_run(const struct tf_record_opts *opts, struct tf_record_result *result, struct tf_err *err);
/* The line on standard error at the end. */
void tf_record_summary(const struct tf_record_result *result);

#endif
