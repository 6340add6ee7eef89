/*
 * position.h: points of a run as users write them: FRAME ("750"), FRAME+LINES ("750+3"), "start" and "end".
 * Pure.
 */
#ifndef TF_POSITION_H
#define TF_POSITION_H

#include <stdint.h>
#include "store/err.h"

/* The state after frame event `frame` (from 1) and `lines` more lines in the innermost function. A total
 * order: by frame, then lines. */
struct tf_position {
    uint64_t frame, lines;
};

/* first, last: frame events that can be visited, what "start" and "end" mean; last 0 if there is none.
 * Whether a position exists is not asked here, but that frames are numbered from 1. TF_E_USAGE with a
 * message. */
int tf_position_parse(const char *text, uint64_t first, uint64_t last, struct tf_position *position,
                      struct tf_err *err);

/* Is this text a position of any run? Frame 0 is, in form. 0, or TF_E_USAGE with the message of
 * tf_position_parse(). */
int tf_position_check(const char *text, struct tf_err *err);

#endif
