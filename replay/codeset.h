/*
 * codeset.h: sets of functions (code ids), and what the index of the recording tells of them: which run
 * where. In the supervisor, inside replay/.
 */
#ifndef TF_CODESET_H
#define TF_CODESET_H

#include "replay/timeline_private.h"

/* One bit for each code id. */
struct tf_codeset {
    const struct tf_codes *all; /* borrowed from the timeline */
    uint8_t *bits;              /* the caller's, to be freed with free() */
    size_t bytes;
};

int tf_codeset_new(struct tf_codeset *set, struct tf_timeline *t, struct tf_err *err); /* empty */
void tf_codeset_add(struct tf_codeset *set, uint32_t id);
bool tf_codeset_has(const struct tf_codeset *set, uint32_t id);
/* May a function of the set run between two events? 1, 0 or an error. */
int tf_codeset_may_run(struct tf_timeline *t, const struct tf_codeset *which, uint64_t from, uint64_t to,
                       struct tf_err *err);
/* Adds all functions that run between two events; simply all, if there are too many events to look at. */
int tf_codeset_running(struct tf_timeline *t, uint64_t from, uint64_t to, struct tf_codeset *set,
                       struct tf_err *err);

#endif
