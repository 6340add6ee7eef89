/* prompt_session.c: commands about the session itself. */
#include <string.h>
#include "cli/prompt.h"

static int quit(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    (void)args, (void)out, (void)err;
    p->quit = true;
    return 0;
}

const struct tf_command tf_commands_session[] = {
    {"quit", "q exit", quit, NULL, TF_COMPLETES_NOTHING, false, "quit", "Ends the session."},
    {0},
};
