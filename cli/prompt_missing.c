/* prompt_missing.c: empty tables in the place of files of the prompt that are not there yet. */
#include "cli/prompt.h"

#if !__has_include("cli/prompt_move.c")
static int goto_frame(struct tf_prompt *p, const char *args, json_t *out, struct tf_err *err)
{
    struct tf_position to;
    int r = tf_position_parse(args, tf_timeline_reach(p->timeline, NULL), &to, err);
    return r ? r : tf_prompt_goto(p, to, out, err);
}

const struct tf_command tf_commands_move[] = {
    {"goto-frame", NULL, goto_frame, NULL, TF_COMPLETES_NOTHING, false, "goto-frame POSITION",
     "Goes to FRAME, FRAME+LINES, start or end."},
    {0},
};
#endif

#if !__has_include("cli/prompt_points.c")
const struct tf_command tf_commands_points[] = {{0}};

struct tf_points *tf_points_new(void)
{
    return NULL;
}
void tf_points_free(struct tf_points *points)
{
    (void)points;
}
#endif

#if !__has_include("cli/prompt_places.c")
int tf_place_resolve(struct tf_prompt *p, const char *text, struct tf_place_spec *spec, struct tf_err *err)
{
    (void)p, (void)spec;
    return tf_err_set(err, TF_E_NOTFOUND, "there is no place '%s'", text);
}
void tf_place_spec_clear(struct tf_place_spec *spec)
{
    (void)spec;
}
void tf_place_complete(struct tf_prompt *p, const char *text, void (*fn)(void *ctx, const char *text),
                       void *ctx)
{
    (void)p, (void)text, (void)fn, (void)ctx;
}
#endif

#if !__has_include("cli/prompt_look.c")
const struct tf_command tf_commands_look[] = {{0}};

void tf_look_free(struct tf_look *look)
{
    (void)look;
}
json_t *tf_look_displays(struct tf_prompt *p, struct tf_err *err)
{
    (void)p, (void)err;
    return NULL;
}
void tf_look_print_displays(struct tf_prompt *p, json_t *displays)
{
    (void)p, (void)displays;
}
#endif
