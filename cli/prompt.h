/*
 * prompt.h: the time-travel prompt from the inside: what the files cli/prompt*.c share. A command is a row in
 * one of the tables (prompt_look.c, prompt_move.c, prompt_points.c, prompt_session.c) and a function that
 * does it; prompt.c reads, finds the command, runs it and prints.
 *
 * Every command makes one JSON object. With --format json that is what is printed (docs/json.md); else its
 * `print` makes text of it. So the two always agree.
 */
#ifndef TF_PROMPT_H
#define TF_PROMPT_H

#include <jansson.h>
#include <stdio.h>
#include "cli/answer.h"
#include "cli/common.h"
#include "cli/divergence.h"
#include "replay/move.h"
#include "replay/search.h"
#include "replay/timeline.h"

struct tf_look;   /* what list and expand go on with: prompt_look.c */
struct tf_points; /* breakpoints, watches, catches, log points: prompt_points.c */

struct tf_prompt {
    /* Borrowed; outlive the prompt. */
    struct tf_timeline *timeline;
    struct tf_store *store;
    const struct tf_run *run;
    struct tf_codes codes;

    struct tf_stop here; /* the present */
    json_t
        *place; /* what is known of it: "frame", "line_offset", "event", "function", "file", "line", "depth",
                   "thread", "time_ns", "stack", "returned", "raised"; as in docs/json.md. Never NULL */
    uint32_t frame;      /* the selected function of the stack: 0 is the innermost */
    uint32_t thread;     /* the selected thread: at first, and after each move, the one that runs */
    json_t *other_stack; /* of the selected thread, when it is not the one that runs; else NULL */
    enum tf_locking { TF_LOCKING_OFF, TF_LOCKING_STEP, TF_LOCKING_ON } locking; /* scheduler-locking */
    struct tf_points *points;
    struct tf_look *look;
    bool applies;  /* the command is run for each of several threads, under a heading of its own */
    bool repeated; /* the command runs again because of an empty line: list and expand go on */

    /* Positions that were visited, for back and forth: history[at] is the present. */
    struct tf_position *history;
    size_t history_n, history_at;
    json_t *bookmarks;         /* name: [frame, lines] */
    json_t *displays;          /* [{"number", "expr"}] */
    unsigned displays_numbers; /* how many numbers were given */

    struct tf_divergence *divergence; /* the last one that a command ended with, or NULL */
    enum tf_on_divergence on_divergence;
    int timeout_ms; /* for one expression */
    bool json, interactive, colour;
    bool quit;
    FILE *out;
    /* Of the command that runs, for showing how far it is; under a lock of prompt.c. */
    struct {
        bool running, shown;
        int64_t began_ms, quiet_ms; /* CLOCK_MONOTONIC; not shown before quiet_ms */
        double done;                /* 0..1, negative: unknown */
    } progress;
};

/* Colours: "" where there are none. */
enum tf_colour { TF_PLAIN, TF_BOLD, TF_DIM, TF_RED, TF_GREEN, TF_YELLOW, TF_CYAN };
const char *tf_colour(const struct tf_prompt *p, enum tf_colour colour);

/* One command. args: the rest of the line without blanks at its ends, never NULL. Fills `out` (an object that
 * holds {"command": NAME} already). 0, or a TF_E with the message: then the object is printed with "error".
 */
typedef int tf_command_fn(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err);
typedef void tf_print_fn(struct tf_prompt *p, json_t *result);
enum tf_completes {
    TF_COMPLETES_NOTHING,
    TF_COMPLETES_EXPR,
    TF_COMPLETES_PLACE /* file, function */,
    TF_COMPLETES_COMMAND,
    TF_COMPLETES_BOOKMARK,
    TF_COMPLETES_THREAD, /* numbers of threads, and commands */
};
/* Names may be two words ("info breakpoints"): they go before a command of the first word alone. */
struct tf_command {
    const char *name;    /* full name */
    const char *aliases; /* "c cont", or NULL. Any unambiguous beginning of a name is accepted, too */
    tf_command_fn *run;
    tf_print_fn *print; /* NULL: tf_prompt_print_place when "position" is there, else nothing. Of a command
                           that failed only "output" is printed */
    enum tf_completes completes;
    bool repeats;      /* an empty line runs it again */
    const char *usage; /* "break FILE:LINE | FUNCTION | LINE [if EXPR] [hits N]" */
    const char *what;  /* help: one sentence, then details if any, lines of at most 100 characters */
};
/* Tables end with a row whose name is NULL. */
extern const struct tf_command tf_commands_look[], tf_commands_move[], tf_commands_points[],
    tf_commands_session[], tf_commands_threads[];

/* Moves the present and puts it into the history; loads p->place, selects frame 0. Fills out with what every
 * move answers: "position" {...}, "source", "displays". When it is not the asked-for place that was reached,
 * the caller adds "reason" ("breakpoint", "watch", "catch", "start", "end", "finished"...) itself. */
int tf_prompt_goto(struct tf_prompt *p, struct tf_position to, json_t *out, struct tf_err *err);
/* The same without an entry in the history (back, forth). */
int tf_prompt_stand(struct tf_prompt *p, struct tf_position to, json_t *out, struct tf_err *err);
/* Prints the "position" of a move's answer: place, source line, what is returned or raised, displays. */
void tf_prompt_print_place(struct tf_prompt *p, json_t *result);
/* "1234+2". Returns buf. */
const char *tf_position_text(struct tf_position position, char *buf, size_t size);

/* Evaluates in the selected function. New reference: {"expr", "type", "value"} or {"expr", "error"}, and
 * "output" if it printed something; NULL with err when the question could not be asked. */
json_t *tf_prompt_eval(struct tf_prompt *p, const char *expr, enum tf_inspect what, struct tf_err *err);

/* Search options with progress on a terminal and Ctrl-C; the caller may add on_log: if ctx is then the
 * caller's, progress must be a function of the caller's, too, that calls tf_prompt_progress(). */
struct tf_search_opts tf_prompt_search_opts(struct tf_prompt *p);
/* How much of the command is done, 0..1. On a terminal, another thread shows it once that takes long. */
void tf_prompt_progress(void *prompt, double done);
/* Takes the progress line off the screen, and keeps it off for a moment; to be called before something is
 * printed during a search. */
void tf_prompt_clear_progress(struct tf_prompt *p);

/* A file for people: without the folder in which the program ran. Points into `file`. */
const char *tf_prompt_file(const struct tf_prompt *p, const char *file);
/* The stack of the selected thread, borrowed. */
json_t *tf_prompt_stack(const struct tf_prompt *p);
/* The selected thread for a question: its number plus 1; 0: it is the one that runs. */
static inline uint32_t tf_prompt_whose(const struct tf_prompt *p)
{
    return p->other_stack ? p->thread + 1 : 0;
}
/* Selects a thread, and its innermost function. TF_E_NOTFOUND: it is not there at the present. */
int tf_prompt_select_thread(struct tf_prompt *p, uint32_t number, struct tf_err *err);
/* "thread 3 (Thread-3 (work))". Returns buf. */
const char *tf_prompt_thread_text(const struct tf_prompt *p, uint32_t number, char *buf, size_t size);
/* The entry of the selected function in the stack ("function", "file", "line"), borrowed; NULL if no Python
 * function runs. */
json_t *tf_prompt_selected(const struct tf_prompt *p);
/* Line number `line` of a recorded source, from 1; new reference, NULL when it is not there. */
json_t *tf_prompt_source_line(const struct tf_prompt *p, const char *file, long long line);
/* Compact JSON of a position: "position" of an answer. New reference: p->place without the stack. */
json_t *tf_prompt_place_json(const struct tf_prompt *p);
/* A JSON text as C string, "?" if it is not there. */
const char *tf_prompt_text(json_t *object, const char *key);

/* ---- prompt_places.c: places in the source ---- */

/* The functions in which a place is. Owned codes. */
struct tf_place_spec {
    uint32_t *codes;
    size_t codes_n;
    uint32_t line; /* 0: the place is the function itself */
    char *text;    /* normalised: "orders.py:25" or "Orders.settle" */
};
/* "FILE:LINE" (FILE: path, or its end, as "orders.py" or "shop/orders.py"), "LINE" (of the present file),
 * "FUNCTION" (qualified name or its end: "settle", "Orders.settle", "shop.orders:settle",
 * "orders.py:settle"). TF_E_NOTFOUND with the nearest names; TF_E_USAGE when it is ambiguous between files
 * (the message lists them). A line at which nothing ever stands (comment, blank) moves to the next one that
 * has code, as gdb does; spec->line then differs. */
int tf_place_resolve(struct tf_prompt *p, const char *text, struct tf_place_spec *spec, struct tf_err *err);
void tf_place_spec_clear(struct tf_place_spec *spec);
/* Places that begin like text, for completion: calls fn for each. */
void tf_place_complete(struct tf_prompt *p, const char *text, void (*fn)(void *ctx, const char *text),
                       void *ctx);

/* ---- prompt_points.c ---- */
struct tf_points *tf_points_new(void);
void tf_points_free(struct tf_points *points);
/* The enabled ones as search points (the array is owned by points and valid until they change). */
size_t tf_points_active(struct tf_prompt *p, const struct tf_point **active);
/* After a move that was ended by a hit: fills out with "reason", "breakpoints": [numbers], for watches
 * "watches": [{"number", "expr", "old", "new", "changed_at"}]; removes temporary ones. The present is there
 * already. */
int tf_points_report(struct tf_prompt *p, const struct tf_hit *hit, json_t *out, struct tf_err *err);
/* Prints what tf_points_report() added, in front of the place. */
void tf_points_print(struct tf_prompt *p, json_t *result);
/* Search options whose on_log prints log points of the active ones (json: one object each, with "log"). */
struct tf_search_opts tf_points_search_opts(struct tf_prompt *p);

/* ---- prompt_look.c ---- */
void tf_look_free(struct tf_look *look);
/* The displays at the present: [{"number", "expr", "type", "value"}]; NULL if there are none. */
json_t *tf_look_displays(struct tf_prompt *p, struct tf_err *err);
void tf_look_print_displays(struct tf_prompt *p, json_t *displays);

/* ---- prompt_edit.c: the terminal ---- */
struct tf_edit;
struct tf_edit *tf_edit_open(struct tf_prompt *p);
/* The next line, valid until the next call; NULL at the end. */
const char *tf_edit_read(struct tf_edit *edit);
/* While a command runs between these two, Ctrl-C sets *cancel, and tick is called now and then, on another
 * thread. */
void tf_edit_watch(struct tf_edit *edit, volatile bool *cancel, void (*tick)(struct tf_prompt *p));
void tf_edit_unwatch(struct tf_edit *edit);
void tf_edit_close(struct tf_edit *edit);

/* ---- prompt.c ---- */
/* The command that a line begins with, and where its arguments begin. TF_E_NOTFOUND: unknown or ambiguous;
 * the message names what could be meant. */
int tf_prompt_find(const char *line, const struct tf_command **command, const char **args,
                   struct tf_err *err);
/* All commands, table by table. */
void tf_prompt_each_command(void (*fn)(void *ctx, const struct tf_command *command), void *ctx);
struct tf_prompt_opts {
    const char *const *commands; /* -c; after the script. Neither: the terminal, or standard input's lines */
    size_t commands_n;
    const char *script; /* -x, or NULL */
    int timeout_ms;
    enum tf_on_divergence on_divergence;
    bool json;
};
/* Runs the prompt until its end; returns the exit status: 0 when the last command succeeded. */
int tf_prompt_run(struct tf_timeline *timeline, struct tf_store *store, const struct tf_run *run,
                  const struct tf_prompt_opts *opts);

#endif
