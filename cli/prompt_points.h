/*
 * prompt_points.h: breakpoints from the inside, for prompt_points.c (making, listing and reporting them),
 * prompt_watch.c (values that change) and prompt_move.c (moves that end at them).
 */
#ifndef TF_PROMPT_POINTS_H
#define TF_PROMPT_POINTS_H

#include "cli/prompt.h"

/* ---- prompt_watch.c ---- */

/* An expression of which every change is wanted. */
struct tf_watched {
    struct tf_expr *expr;
    uint32_t code; /* of the function whose variables it uses */
};
/* Prepares it in the selected function. */
int tf_watched_new(struct tf_prompt *p, const char *text, struct tf_watched *out, struct tf_err *err);
void tf_watched_clear(struct tf_watched *watched);
/* Its value where the timeline stands (of_object: what the object holds there, of which it is an attribute or
 * item): {"type", "value"} or {"error"}; null when the call whose variables it
 * uses is not on the stack there. New reference; NULL with err. */
json_t *tf_watched_value(struct tf_prompt *p, const struct tf_watched *watched, const struct tf_stop *stop,
                         bool of_object, struct tf_err *err);
/* Adds "old", "new" and "changed_at" (the place of the line that changed it, or null) to change. Moves the
 * timeline: *stop is where it stands then (hit->position, if nothing failed). */
int tf_watched_change(struct tf_prompt *p, const struct tf_watched *watched, const struct tf_hit *hit,
                      bool of_object, json_t *change, struct tf_stop *stop, struct tf_err *err);
/* Prints what tf_watched_change() added. */
void tf_watched_print(struct tf_prompt *p, json_t *change);
/* {"function", "entry"}: the call whose variables are meant; null for globals. */
json_t *tf_watched_scope(struct tf_prompt *p, const struct tf_watched *watched);

/* The commands. */
tf_command_fn tf_command_last, tf_command_history;
tf_print_fn tf_print_last, tf_print_history;

/* Brings the timeline back to where the prompt stands, after a command that looked elsewhere. */
int tf_points_return(struct tf_prompt *p, struct tf_err *err);

/* ---- prompt_points.c ---- */

/* Is there an active `catch uncaught`, and the exception that it catches? *at: where. */
bool tf_points_uncaught(struct tf_prompt *p, struct tf_position *at);
/* As tf_points_report(), when a move was ended by that. */
void tf_points_report_uncaught(struct tf_prompt *p, json_t *out);

/* ---- prompt_move.c ---- */

/* The position behind everything that can be visited, for searching backward from the end. */
struct tf_position tf_moves_end(struct tf_prompt *p);

#endif
