/* prompt_edit.c: the prompt on a terminal. */
#include <stdlib.h>
#include "cli/prompt.h"

struct tf_edit {
    char *line;
    size_t size;
};

struct tf_edit *tf_edit_open(struct tf_prompt *p)
{
    (void)p;
    return calloc(1, sizeof(struct tf_edit));
}
const char *tf_edit_read(struct tf_edit *edit)
{
    fputs("(timefork) ", stdout);
    fflush(stdout);
    return getline(&edit->line, &edit->size, stdin) < 0 ? NULL : edit->line;
}
void tf_edit_close(struct tf_edit *edit)
{
    free(edit->line);
    free(edit);
}
