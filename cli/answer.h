/*
 * answer.h: what is to be seen at a position, as one JSON object (documented in docs/json.md) and, made from
 * that object, as text.
 */
#ifndef TF_ANSWER_H
#define TF_ANSWER_H

#include <jansson.h>
#include <stdio.h>
#include "replay/timeline.h"

struct tf_answer_opts {
    const char *const *evals;
    size_t evals_n;
    int timeout_ms; /* for one repr or expression */
};
/* A JSON string; bytes that are not UTF-8 are replaced. */
json_t *tf_json_text(const void *data, size_t len);
/* New reference, or NULL with err. */
json_t *tf_answer(struct tf_timeline *timeline, struct tf_store *store, const struct tf_run *run,
                  const struct tf_stop *stop, const struct tf_answer_opts *opts, struct tf_err *err);
/* The parts of it. "frame", "line_offset", "event", "returned" or "raised", "function", "file", "line",
 * "depth", "thread", "thread_name" if the run has several, "time_ns", "stack". New references, or NULL with
 * err. */
json_t *tf_answer_place(struct tf_timeline *timeline, const struct tf_stop *stop, int timeout_ms,
                        struct tf_err *err);
/* Here, and in what follows, thread: whose stack is meant, its number plus 1; 0: that of the one that runs.
 */
/* The stack: "function", "file", "line" of each. */
json_t *tf_answer_stack(struct tf_timeline *timeline, uint32_t thread, int timeout_ms, struct tf_err *err);
/* The threads that the interpreter has, by number: "number", "tid", "name", "runs", "function", "file",
 * "line". */
json_t *tf_answer_threads(struct tf_timeline *timeline, int timeout_ms, struct tf_err *err);
/* TF_INSPECT_LOCALS or TF_INSPECT_ARGS of function number `frame` of the stack: "name", "type", "repr". */
json_t *tf_answer_names(struct tf_timeline *timeline, enum tf_inspect what, uint32_t frame, uint32_t thread,
                        int timeout_ms, struct tf_err *err);
/* TF_INSPECT_EVAL, PRETTY or EXPAND: {"expr", "type", "value"} or {"expr", "error"}, "output" if it printed
 * something; EXPAND: "children" ("label", "type", "repr") and "count". */
json_t *tf_answer_eval(struct tf_timeline *timeline, const struct tf_inspect_req *req, const char *expr,
                       int timeout_ms, struct tf_err *err);
/* Names that can stand in an expression in that function; with expr: its attributes. */
json_t *tf_answer_completions(struct tf_timeline *timeline, const char *expr, uint32_t frame, uint32_t thread,
                              int timeout_ms, struct tf_err *err);
/* A repr; of a very long one, the beginning. */
void tf_answer_print_value(FILE *out, json_t *object, const char *key);
/* "TYPE: TEXT" of a "raised", with the end of the line. */
void tf_answer_print_raised(FILE *out, json_t *raised);
void tf_answer_print(FILE *out, json_t *answer, struct tf_store *store, const struct tf_run *run);
/* By tag; NULL: it is no frame event. */
extern const char *const tf_tag_names[8];
const char *tf_event_name(enum tf_tag event);

/* Has a source file changed (or gone) since it was recorded with this text? */
bool tf_source_changed(const char *file, const char *cwd, const char *text, size_t len);

#endif
