/* replay.c: `timefork replay` and `timefork debug`: a prompt on a run, or just what is at some positions of
 * it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "checkpoint/keep.h"
#include "cli/answer.h"
#include "cli/budget.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/divergence.h"
#include "cli/prompt.h"
#include "cli/record.h"

static const char usage_text[] =
    "usage: timefork replay [FILE] [--run ID] [--process N] [-c COMMAND]... [-x SCRIPT]\n"
    "                       [--timeout SECONDS] [--on-divergence stop|explain] [--format text|json]\n"
    "       timefork replay [FILE] [--run ID] [--process N] --goto-frame POSITION...\n"
    "                       [--eval EXPR]... [...]\n"
    "\n"
    "Opens a prompt on a recorded run, at the exception that ended it, or else at its start: moves in both\n"
    "directions, shows the stack and variables, evaluates expressions on the live objects there. Nothing\n"
    "that is evaluated changes the recording or the world. 'help' at the prompt lists the commands.\n"
    "\n"
    "  FILE             the recording (default: the newest *.timefork in this folder)\n"
    "  --run ID         a run of it, by id or its beginning (default: the last)\n"
    "  --process N      a process of the run (default: 1; 'timefork query --list-processes' lists them)\n"
    "  -c, --command C  do this command of the prompt and leave; may be repeated\n"
    "  -x SCRIPT        do the commands in this file, before those of -c, and leave\n"
    "  --goto-frame P   no prompt: show what is at FRAME, FRAME+LINES, start or end; may be repeated\n"
    "  --eval EXPR      an expression in the innermost function there; may be repeated\n"
    "  --timeout S      time limit for each expression and repr (default 5)\n"
    "  --format F       text, or json: one object a command, or a position\n"
    "  --jobs N         let a search run in so many processes at a time (default: as many as there are\n"
    "                   processors)\n"
    "  --require-filter  do nothing if the kernel cannot filter the system calls of a replay (timefork "
    "doctor)\n" TF_DIVERGENCE_OPTIONS TF_CHECKPOINT_OPTIONS "\n"
    "Without -c, -x and --goto-frame, commands are read from standard input, one a line: with line editing,\n"
    "completion and a history if it is a terminal.\n"
    "\n"
    "Exit status: 0; 1 if the last command failed, or a position cannot be shown; 2 for a mistake in the\n"
    "command line; 3 if the re-execution diverged from the recording.\n";

static const char debug_usage_text[] =
    "usage: timefork debug [record's options] (SCRIPT | -m MODULE | -c CODE) [ARGS...] [replay's options]\n"
    "       timefork debug [record's options] [replay's options] -- COMMAND [ARGS...]\n"
    "\n"
    "Records a run and opens a prompt on it at once, with checkpoints that were taken while it ran. The\n"
    "options are those of 'timefork record' and of 'timefork replay', but that -c is the program's CODE:\n"
    "commands of the prompt are given with --command. What follows ARGS begins with --command,\n"
    "--goto-frame or --eval, or is the program's; behind -- all of it is the program's.\n"
    "\n"
    "Standard input is the program's. If it is not a terminal, and there is no --command, -x or\n"
    "--goto-frame, debug shows where the prompt would open, as the command 'where' does, and leaves.\n"
    "\n"
    "Exit status: as 'timefork replay', or 125 if it could not be recorded.\n";

struct options {
    const char *file, *run;
    const char **positions, **evals, **commands;
    size_t positions_n, evals_n, commands_n;
    const char *script;
    double timeout;
    bool require_filter;
    enum tf_on_divergence on_divergence;
    uint64_t divergence_calls;
    uint64_t process; /* 0: not given */
    struct tf_checkpoint_opts checkpoints;
    bool debug; /* -c is the program's */
    bool json;
};

/* Takes one of replay's options from argv[0] on. Returns how many arguments it took, 0 if it is none, -1
 * after a message. */
static int take_option(void *ctx, int argc, char **argv)
{
    struct options *o = ctx;
    enum {
        GOTO_FRAME,
        EVAL,
        RUN,
        TIMEOUT,
        FORMAT,
        COMMAND,
        SCRIPT,
        PROCESS,
        SHORT_COMMAND,
        REQUIRE_FILTER,
        JOBS,
        NAMES
    };
    static const char *const names[NAMES] = {"--goto-frame", "--eval",           "--run", "--timeout",
                                             "--format",     "--command",        "-x",    "--process",
                                             "-c",           "--require-filter", "--jobs"};
    struct tf_err err = {0};
    size_t which = 0;
    uint64_t jobs;
    char *end;
    int took = tf_divergence_option(argc, argv, &o->on_divergence, &o->divergence_calls);
    if (!took)
        took = tf_checkpoint_option(argc, argv, &o->checkpoints);
    if (took)
        return took;
    while (which < NAMES && strcmp(argv[0], names[which]) != 0)
        which++;
    if (which == NAMES || (which == SHORT_COMMAND && o->debug))
        return 0;
    if (which == REQUIRE_FILTER) {
        o->require_filter = true;
        return 1;
    }
    if (argc < 2) {
        fprintf(stderr, "timefork: %s needs a value\n", argv[0]);
        return -1;
    }
    switch (which) {
    case GOTO_FRAME:
        if (tf_position_check(argv[1], &err)) {
            fprintf(stderr, "timefork: %s\n", err.msg);
            return -1;
        }
        o->positions[o->positions_n++] = argv[1];
        break;
    case EVAL:
        o->evals[o->evals_n++] = argv[1];
        break;
    case RUN:
        o->run = argv[1];
        break;
    case PROCESS:
        if (!tf_number(argv[1], 1, &o->process)) {
            fprintf(stderr, "timefork: --process %s: the number of a process is expected\n", argv[1]);
            return -1;
        }
        break;
    case TIMEOUT:
        o->timeout = strtod(argv[1], &end);
        if (*end || end == argv[1] || !(o->timeout > 0) || o->timeout > 86400) {
            fprintf(stderr, "timefork: --timeout %s: a number of seconds is expected\n", argv[1]);
            return -1;
        }
        break;
    case COMMAND:
    case SHORT_COMMAND:
        o->commands[o->commands_n++] = argv[1];
        break;
    case SCRIPT:
        if (o->script) {
            fprintf(stderr, "timefork: -x %s: one script at a time\n", argv[1]);
            return -1;
        }
        o->script = argv[1];
        break;
    case JOBS:
        if (!tf_number(argv[1], 1, &jobs) || jobs > TF_JOBS_MAX) {
            fprintf(stderr, "timefork: --jobs %s: a number from 1 to %d is expected\n", argv[1], TF_JOBS_MAX);
            return -1;
        }
        o->checkpoints.cost.jobs = (unsigned)jobs;
        break;
    default:
        if (strcmp(argv[1], "json") && strcmp(argv[1], "text")) {
            fprintf(stderr, "timefork: --format %s: text or json is expected\n", argv[1]);
            return -1;
        }
        o->json = argv[1][0] == 'j';
    }
    return 2;
}

static int exit_status(const struct tf_err *err)
{
    return err->code == TF_E_DIVERGENCE ? TF_EXIT_DIVERGED : TF_EXIT_ERROR;
}

/* Of opening a run: its number may be a mistake. */
static int open_status(const struct tf_err *err)
{
    return err->code == TF_E_USAGE ? TF_EXIT_USAGE : exit_status(err);
}

/* Goes to each position and prints what is there. All positions are tried; the status is that of the worst.
 */
static int show(struct tf_timeline *t, struct tf_store *store, const struct tf_run *run,
                const struct options *o)
{
    int status = 0;
    struct tf_answer_opts opts = {
        .evals = o->evals, .evals_n = o->evals_n, .timeout_ms = (int)(o->timeout * 1000)};
    for (size_t i = 0; i < o->positions_n; i++) {
        struct tf_position position;
        struct tf_stop stop;
        struct tf_err err = {0};
        json_t *answer = NULL;
        uint64_t last = tf_timeline_reach(t, NULL);
        const struct tf_search_opts search = {.timeout_ms = 5000};
        bool end = strcmp(o->positions[i], "end") == 0;
        if (tf_position_parse(o->positions[i], tf_timeline_first(t), last, &position, &err) == 0 &&
            (!end || tf_move_end(t, &position, &search, &err) == 0) &&
            tf_timeline_goto(t, position, &stop, &err) == 0)
            answer = tf_answer(t, store, run, &stop, &opts, &err);
        if (!answer) {
            json_t *report = NULL;
            struct tf_divergence *d = err.code == TF_E_DIVERGENCE ? tf_timeline_take_divergence(t) : NULL;
            if (d)
                report = tf_divergence_report(t, d, o->on_divergence);
            tf_divergence_free(d);
            if (o->json) {
                json_t *error = json_object();
                json_object_set_new(error, "position",
                                    tf_json_text(o->positions[i], strlen(o->positions[i])));
                json_object_set_new(error, "error", tf_json_text(err.msg, strlen(err.msg)));
                if (report)
                    json_object_set(error, "divergence", report);
                json_dumpf(error, stdout, JSON_COMPACT);
                putchar('\n');
                json_decref(error);
            }
            if (report) {
                fprintf(stderr, "timefork: divergence: ");
                tf_divergence_print(stderr, report, o->on_divergence == TF_ON_DIVERGENCE_EXPLAIN);
                json_decref(report);
            } else {
                fprintf(stderr, "timefork: %s\n", err.msg);
            }
            if (exit_status(&err) > status)
                status = exit_status(&err);
            continue;
        }
        if (o->json) {
            json_dumpf(answer, stdout, JSON_COMPACT);
            putchar('\n');
        } else {
            tf_answer_print(stdout, answer, store, run);
        }
        fflush(stdout);
        json_decref(answer);
    }
    return status;
}

static int new_options(struct options *o, int argc)
{
    *o = (struct options){
        .timeout = 5, .divergence_calls = TF_DIVERGENCE_CALLS, .checkpoints = tf_checkpoint_opts_default()};
    o->positions = calloc((size_t)argc + 1, sizeof *o->positions);
    o->evals = calloc((size_t)argc + 1, sizeof *o->evals);
    o->commands = calloc((size_t)argc + 1, sizeof *o->commands);
    return o->positions && o->evals && o->commands ? 0 : -1;
}

static void free_options(struct options *o)
{
    free(o->positions);
    free(o->evals);
    free(o->commands);
}

/* Options of the prompt and of --goto-frame exclude each other. */
static int check_options(const struct options *o, const char *command)
{
    if (o->positions_n && (o->commands_n || o->script))
        return tf_usage(command, "--goto-frame shows positions without a prompt: it cannot be with %s",
                        o->script ? "-x" : "--command");
    if (o->evals_n && !o->positions_n)
        return tf_usage(command, "--eval needs a --goto-frame; at the prompt, 'print EXPR' evaluates");
    if (o->debug && o->process)
        return tf_usage(command,
                        "opens the process that it starts: for another one, 'timefork replay --process "
                        "N' afterwards");
    return 0;
}

static int look(struct tf_timeline *t, struct tf_store *store, const struct tf_run *run,
                const struct options *o)
{
    tf_timeline_report_calls(t, o->divergence_calls);
    struct tf_prompt_opts prompt = {.commands = o->commands,
                                    .commands_n = o->commands_n,
                                    .script = o->script,
                                    .timeout_ms = (int)(o->timeout * 1000),
                                    .on_divergence = o->on_divergence,
                                    .json = o->json};
    return tf_finish_output(o->positions_n ? show(t, store, run, o) : tf_prompt_run(t, store, run, &prompt));
}

/* Takes the checkpoints that `record --keep` has left behind, if there are any: of the first process. Without
 * them the replay begins at the start. */
static void use_kept(struct tf_timeline *t, const struct tf_run *run, const char *path, int *keeper)
{
    struct tf_kept_checkpoint kept[TF_KEEP_MAX];
    size_t n;
    pid_t pid;
    if (run->process == 1 && tf_keep_use(run->id, path, kept, TF_KEEP_MAX, &n, keeper, &pid, NULL) == 0)
        tf_timeline_add_kept(t, kept, n, pid);
}

int tf_cmd_replay(int argc, char **argv)
{
    struct options o;
    struct tf_err err = {0};
    struct tf_store *store = NULL;
    struct tf_timeline *t = NULL;
    struct tf_run run = {0};
    char path[4096];
    int status = TF_EXIT_USAGE, keeper = -1;

    if (new_options(&o, argc))
        goto out;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage_text, stdout);
            status = 0;
            goto out;
        }
        int n = take_option(&o, argc - i, argv + i);
        if (n < 0)
            goto out;
        if (n > 0) {
            i += n - 1;
        } else if (argv[i][0] == '-' || o.file) {
            fprintf(stderr,
                    "timefork: replay does not know what to do with '%s' ('timefork replay --help')\n",
                    argv[i]);
            goto out;
        } else {
            o.file = argv[i];
        }
    }
    if (check_options(&o, "replay"))
        goto out;
    status = TF_EXIT_ERROR;
    o.checkpoints.cost.notice = tf_say_notice;
    if (tf_find_recording(o.file, path, sizeof path, &err) || tf_store_open(path, &store, &err) ||
        tf_find_process(store, o.run, o.process, &run, &err) ||
        tf_timeline_open(store, &run, &o.checkpoints.cost, &t, &err) ||
        tf_check_filter(t, o.require_filter, &err)) {
        fprintf(stderr, "timefork: %s\n", err.msg);
        status = open_status(&err);
        goto out;
    }
    use_kept(t, &run, path, &keeper);
    status = look(t, store, &run, &o);
out:
    tf_timeline_close(t);
    if (keeper >= 0)
        close(keeper);
    tf_run_clear(&run);
    tf_store_close(store);
    free_options(&o);
    return status;
}

int tf_cmd_debug(int argc, char **argv)
{
    struct options o;
    struct tf_record_opts record = {0};
    struct tf_record_result result = {.shared = {.ctl_fd = -1, .log_fd = -1}};
    struct tf_err err = {0};
    struct tf_store *store = NULL;
    struct tf_timeline *t = NULL;
    int status = TF_EXIT_USAGE;

    if (new_options(&o, argc))
        goto out;
    o.debug = true;
    static const char *const tail[] = {"--goto-frame", "--eval", "--command", NULL};
    const struct tf_own_options own = {.command = "debug", .take = take_option, .ctx = &o, .tail = tail};
    status = tf_record_parse(&record, argc, argv, &own, debug_usage_text);
    if (status) {
        status = status < 0 ? 0 : status;
        goto out;
    }
    if (check_options(&o, "debug")) {
        status = TF_EXIT_USAGE;
        goto out;
    }
    if (record.follow) {
        fprintf(
            stderr,
            "timefork: debug looks at the first process only: use 'timefork record --follow', then 'timefork "
            "replay --process N'\n");
        status = TF_EXIT_USAGE;
        goto out;
    }
    if (!o.positions_n && !o.commands_n && !o.script && !isatty(STDIN_FILENO))
        o.commands[o.commands_n++] = "where"; /* what is left of standard input was not meant for us */
    record.checkpoints = o.checkpoints;
    record.snapshots = true;
    if (tf_record_run(&record, &result, &err)) {
        fprintf(stderr, "timefork: %s\n", err.msg);
        status = TF_EXIT_NO_RECORD;
        goto out;
    }
    if (!result.run.id[0]) {
        status = TF_EXIT_NO_RECORD;
        goto out;
    }
    if (!record.quiet)
        tf_record_summary(&result);
    if (tf_store_open(result.path, &store, &err) ||
        tf_timeline_adopt(store, &result.run, &result.shared, &result.checkpoints, &o.checkpoints.cost, &t,
                          &err) ||
        tf_check_filter(t, o.require_filter, &err)) {
        fprintf(stderr, "timefork: %s\n", err.msg);
        status = exit_status(&err);
        goto out;
    }
    status = look(t, store, &result.run, &o);
out:
    tf_timeline_close(t);
    tf_checkpoints_clear(&result.checkpoints);
    tf_shared_destroy(&result.shared);
    tf_run_clear(&result.run);
    tf_store_close(store);
    tf_record_opts_clear(&record);
    free_options(&o);
    return status;
}
