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
void tf_answer_print(FILE *out, json_t *answer, struct tf_store *store, const struct tf_run *run);
const char *tf_event_name(enum tf_tag event);

/* Has a source file changed (or gone) since it was recorded with this text? */
bool tf_source_changed(const char *file, const char *cwd, const char *text, size_t len);

#endif
