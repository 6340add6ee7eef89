/* main.c: the command line: finds the command. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "checkpoint/keep.h"
#include "cli/commands.h"
#include "cli/record.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"record", tf_cmd_record, "run a Python program and record it"},
    {"race", tf_cmd_race, "run a program with threads until it fails, and keep that run's recording"},
    {"debug", tf_cmd_debug, "record a run and go to a position of it at once"},
    {"replay", tf_cmd_replay, "go to a position of a recorded run, look at live objects there"},
    {"query", tf_cmd_query, "list runs, frame events, functions, what was printed"},
    {"info", tf_cmd_info, "what a recording holds: its runs, their sizes, stored checkpoints"},
    {"verify", tf_cmd_verify, "re-execute a run and compare every event with the recording"},
    {"checkpoint", tf_cmd_checkpoint, "put durable checkpoints into a recording, for replays to start from"},
    {"sessions", tf_cmd_sessions, "list and end the checkpoints that record --keep has left"},
    {"clean", tf_cmd_clean, "remove old runs from a recording"},
    {"doctor", tf_cmd_doctor, "what works on this machine, what does not, what to do"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static void usage(FILE *out)
{
    fprintf(out, "usage: timefork COMMAND [ARGS...]\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(out, "\n'timefork COMMAND --help' tells more. timefork --version\n");
}

static void nothing(int sig)
{
    (void)sig;
}

/* A limit of the size of files (ulimit -f) is an error like any other. A handler, unlike SIG_IGN, is not
 * inherited by the program. */
static void survive_file_limit(void)
{
    struct sigaction before, action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    if (sigaction(SIGXFSZ, NULL, &before) == 0 && before.sa_handler == SIG_DFL)
        sigaction(SIGXFSZ, &action, NULL);
}

int main(int argc, char **argv)
{
    survive_file_limit();
    tf_keep_title_init(argc, argv);
    if (argc < 2) {
        usage(stderr);
        return TF_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("timefork %s\n", TF_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "timefork: there is no command '%s'\n", argv[1]);
    usage(stderr);
    return TF_EXIT_USAGE;
}
