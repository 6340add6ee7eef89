/*
 * keep.h: `record --keep`: recording in a process that stays behind, as the keeper of the checkpoints
 * (checkpoint/keep.h). The parked processes are children of the recorder, and end with it: so it is a child
 * of the command that the user has typed, which waits for the end of the recording only.
 */
#ifndef TF_CLI_KEEP_H
#define TF_CLI_KEEP_H

#include "cli/record.h"

/* "90s", "10m", "2h", "1d". False: it is none, or zero, or more than 30 days. */
bool tf_duration_parse(const char *text, int64_t *ms);
/* "8m 40s". Returns buf. */
const char *tf_duration_text(int64_t ms, char *buf, size_t size);

struct tf_staying {
    int report; /* to the command in the foreground */
    char build[TF_KEEP_BUILD];
};
/* Returns in a child of this process only; this one waits for what the child reports and ends with that
 * status. */
int tf_stay_begin(struct tf_staying *staying, struct tf_err *err);
/* The recording is over: reports the status, with which the foreground command ends, then keeps the
 * checkpoints, if there are any, which are taken from *result. Does not return. opts may be cleared. */
_Noreturn void tf_stay_end(const struct tf_staying *staying, const struct tf_record_opts *opts,
                           struct tf_record_result *result, int status);

#endif
