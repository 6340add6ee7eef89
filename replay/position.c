/* position.c: see position.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "replay/position.h"

/* FRAME or FRAME+LINES, in digits only. */
static bool parse_numbers(const char *text, struct tf_position *position)
{
    char *end;
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return false;
    position->frame = strtoull(text, &end, 10);
    if (*end == '+' && end[1] >= '0' && end[1] <= '9')
        position->lines = strtoull(end + 1, &end, 10);
    return *end == 0 && errno == 0;
}

int tf_position_check(const char *text, struct tf_err *err)
{
    struct tf_position position;
    if (strcmp(text, "start") == 0 || strcmp(text, "end") == 0 || parse_numbers(text, &position))
        return 0;
    return tf_err_set(err, TF_E_USAGE,
                      "'%s' is not a position: FRAME (750), FRAME+LINES (750+3), start or end are", text);
}

int tf_position_parse(const char *text, uint64_t first, uint64_t last, struct tf_position *position,
                      struct tf_err *err)
{
    int r = tf_position_check(text, err);
    if (r)
        return r;
    *position = (struct tf_position){first, 0};
    if (strcmp(text, "end") == 0) {
        position->frame = last;
        return last ? 0 : tf_err_set(err, TF_E_USAGE, "the run has no frame events");
    }
    if (strcmp(text, "start") != 0)
        parse_numbers(text, position);
    if (position->frame == 0)
        return tf_err_set(err, TF_E_USAGE, "there is no frame event 0: they are numbered from 1 (to %llu)",
                          (unsigned long long)last);
    return 0;
}
