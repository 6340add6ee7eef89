/*
 * common.h: what the commands share: messages, finding the recording, numbers from options. Command line
 * only.
 *
 * Messages go to standard error and begin with "timefork: ". Commands return the exit status of the process.
 */
#ifndef TF_COMMON_H
#define TF_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "store/err.h"

/* Exit statuses of timefork's own; `record` otherwise gives the program's. */
enum {
    TF_EXIT_OK = 0,
    TF_EXIT_ERROR = 1,       /* what was asked for could not be done */
    TF_EXIT_USAGE = 2,       /* the command line makes no sense */
    TF_EXIT_DIVERGED = 3,    /* the re-execution is not the recording */
    TF_EXIT_BARRIER = 4,     /* verified as far as replay goes, which is not the end */
    TF_EXIT_NO_RECORD = 125, /* record: the program could not be recorded, and was not run */
};

/* "timefork: MESSAGE" on standard error. */
void tf_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tf_say_notice(const char *text); /* the same, for struct tf_timeline_opts */
/* Prints an error; returns TF_EXIT_ERROR, but TF_EXIT_USAGE for TF_E_USAGE and TF_EXIT_DIVERGED for
 * TF_E_DIVERGENCE. */
int tf_fail(const struct tf_err *err);
/* Prints a message about wrong use and where to find help; returns TF_EXIT_USAGE. */
int tf_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The recording that is meant: the given one, or the newest *.timefork in the current folder. */
int tf_find_recording(const char *given, char *out, size_t size, struct tf_err *err);

/* Says it, loudly, if the kernel does not let a replay's processes filter their system calls. required: then
 * it is an error. */
struct tf_timeline;
int tf_check_filter(const struct tf_timeline *t, bool required, struct tf_err *err);

struct tf_store;
struct tf_run;
/* The process that is meant by --run (id, NULL: the last run) and --process (0: not given, the first). An
 * unknown number is a mistake in the command line: TF_E_USAGE. A light recording is completed first
 * (cli/complete.h). */
int tf_find_process(struct tf_store *store, const char *id, uint64_t process, struct tf_run *out,
                    struct tf_err *err);

/* Reads a decimal number of at least min; false if the text is anything else. */
bool tf_number(const char *text, uint64_t min, uint64_t *out);

/* Flushes standard output; says what is wrong with it and returns TF_EXIT_ERROR if it could not be written.
 */
int tf_finish_output(int status);

/* Number of single-letter edits between two names, or more than `most`. */
size_t tf_edits(const char *a, const char *b, size_t most);

/* Of a light recording: "pending" (it has no frame events yet), "completed"; else NULL. */
const char *tf_light_text(const struct tf_run *run);
/* Of a run or process: "complete", "recording" (it still is), "incomplete" (the recorder was lost, or could
 * not go on). */
const char *tf_state_text(struct tf_store *store, const struct tf_run *run);
/* "12.3 MB". Returns buf. */
const char *tf_bytes_text(uint64_t bytes, char *buf, size_t size);
/* "12,345". Returns buf. */
const char *tf_count_text(uint64_t n, char *buf, size_t size);
/* "signal 11 (SIGSEGV)". Returns buf. */
const char *tf_signal_text(int sig, char *buf, size_t size);
/* "2026-11-20 13:32:42", local time. Returns buf. */
const char *tf_time_text(int64_t unix_ns, char *buf, size_t size);
/* Prints a name with control characters made visible as '?', so that it cannot move the cursor. */
void tf_print_name(FILE *f, const char *name);

#endif
