/* record.h: running a program under the recorder; shared by `timefork record` and `timefork debug`. */
#ifndef TF_CLI_RECORD_H
#define TF_CLI_RECORD_H

#include "cli/common.h"
#include "replay/timeline.h"

struct tf_record_opts {
    const char *output; /* file, or NULL: made from the title */
    const char *python; /* interpreter, or NULL: python3 */
    bool python_given;
    char **env; /* K=V, env_n of them */
    size_t env_n;
    bool quiet;
    bool follow;    /* record interpreters that the program executes */
    bool wait;      /* go on until the last process has ended, not only the first */
    bool snapshots; /* take checkpoints for tf_record_result.checkpoints */
    char **argv;    /* what runs: the interpreter and its arguments, or the COMMAND; NULL-terminated */
    bool command;   /* argv is a COMMAND of the user's: it may become Python later, or never */
    char *title, *command_line; /* owned */
    const char *source_text;
};
void tf_record_opts_clear(struct tf_record_opts *opts);
/* Parses `record [options] (SCRIPT | -m MODULE | -c CODE | -- COMMAND) [ARGS...]` from argv[1] on. 0, or the
 * exit status after a message. own_option, if given, is asked about options that are not record's; returns
 * how many arguments it took, 0: not its own. */
int tf_record_parse(struct tf_record_opts *opts, int argc, char **argv,
                    int (*own_option)(void *ctx, int argc, char **argv), void *ctx, const char *usage);

struct tf_record_result {
    char path[4096];
    int status; /* of the program, as a shell sees it */
    struct tf_run run;
    struct tf_shared shared;
    struct tf_checkpoint *checkpoints;
    size_t n;
};
/* Runs it. 0 when the program ran (recorded or not: result->run.id is empty if not, after a message). */
int tf_record_run(const struct tf_record_opts *opts, struct tf_record_result *result, struct tf_err *err);
/* The line on standard error at the end. */
void tf_record_summary(const struct tf_record_result *result);

#endif
