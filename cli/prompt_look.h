/* prompt_look.h: what the files behind the looking commands share. Internal to cli/prompt_look*.c. */
#ifndef TF_PROMPT_LOOK_H
#define TF_PROMPT_LOOK_H

#include "cli/prompt.h"

struct tf_look {
    /* list goes on behind this line, as long as the same function is looked at. */
    char *list_file;
    long long list_next;
    struct tf_position list_at;
    uint32_t list_frame, list_thread;
    /* expand goes on with this child. */
    char *expand_expr;
    uint32_t expand_next, expand_count;
};
/* NULL with err without memory. */
struct tf_look *tf_look_state(struct tf_prompt *p, struct tf_err *err);

/* Reads the number that args is, if it is not empty: false, with err, if it is anything else. */
bool tf_look_number(const char *args, const char *usage, uint64_t min, uint64_t *out, struct tf_err *err);

/* prompt_look_source.c */
tf_command_fn tf_look_list, tf_look_source;
tf_print_fn tf_look_print_lines;

/* prompt_look_outside.c */
tf_command_fn tf_look_output, tf_look_calls;
tf_print_fn tf_look_print_output, tf_look_print_calls;

#endif
