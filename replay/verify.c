/* verify.c: executing all of a run again, and saying where it parts from the recording. */
#include <stdio.h>
#include <string.h>
#include "replay/timeline_private.h"

/* A run that ended by itself has its end in the recording. If it is missing, the program would have gone on.
 */
static int check_end(struct tf_timeline *t, const struct tf_stop_rep *rep, struct tf_err *err)
{
    const struct tf_outside *e = NULL;
    uint64_t last;
    uint32_t kind = 0;
    if (t->run->exit_status < 0 || t->run->state != TF_RUN_COMPLETE || t->why)
        return 0;
    if (tf_log_last(t->log, t->run->outside_bytes, UINT64_MAX, &last, 1))
        e = tf_log_event(t->log, last, err);
    if (e && e->call == TF_CALL_MARK && e->args_len >= 4)
        memcpy(&kind, tf_outside_args(e), 4);
    if (kind == TF_MARK_EXIT || kind == TF_MARK_EXEC)
        return 0;
    return tf_diverged(t, TF_DIVERGED_END, rep->frame, rep->offset, err,
                       "the program went on, the recording ends here, without the program's end (exit status "
                       "%d)",
                       t->run->exit_status);
}

int tf_timeline_verify(struct tf_timeline *t, struct tf_verified *out, struct tf_err *err)
{
    double began = tf_timeline_ms();
    struct tf_runner runner;
    struct tf_stop_rep rep = {0};

    *out = (struct tf_verified){0};
    t->run_number++;
    int r = tf_timeline_fork_start(t, &runner, err);
    if (r)
        return r;
    struct tf_run_req run = {.stop = tf_run_all(t)};
    if ((r = tf_runner_send(&runner, TF_REQ_RUN, &run, sizeof run, NULL, 0, err)) == 0)
        r = tf_run_until_stop(t, &runner, &rep, &out->at, err);
    if (r == 0)
        r = tf_run_check_prefix(t, &runner, &rep, err);
    tf_runner_end(&runner);
    out->elapsed_ms = tf_timeline_ms() - began;
    if (r == TF_E_NOTFOUND && t->why) {
        out->barrier = true;
        out->frames = out->at.frame;
        out->outside = tf_log_events_before(t->log, out->at.offset);
        snprintf(out->text, sizeof out->text, "%s", err->msg);
        if (out->at.frame != t->reach)
            return tf_diverged(t, TF_DIVERGED_END, out->at.frame, out->at.offset, err,
                               "the replay came to '%s' after frame event %llu, the recording after %llu",
                               t->why, (unsigned long long)out->at.frame, (unsigned long long)t->reach);
        return 0;
    }
    if (r) {
        if (r == TF_E_DIVERGENCE && t->divergence)
            out->at.frame = t->divergence->frame + (t->divergence->kind == TF_DIVERGED_EVENT);
        return r;
    }
    out->frames = rep.frame;
    out->outside = tf_log_events_before(t->log, rep.offset);
    out->at = (struct tf_place){.frame = rep.frame, .offset = rep.offset};
    if (rep.frame != t->run->frames)
        return tf_diverged(t, TF_DIVERGED_END, rep.frame, rep.offset, err,
                           "the replay ended after %llu frame events, the recording has %llu",
                           (unsigned long long)rep.frame, (unsigned long long)t->run->frames);
    if (rep.offset != t->run->outside_bytes)
        return tf_diverged(t, TF_DIVERGED_END, rep.frame, rep.offset, err,
                           "the replay ended after %llu outside calls, the recording has %llu",
                           (unsigned long long)out->outside, (unsigned long long)t->run->outside);
    return check_end(t, &rep, err);
}
