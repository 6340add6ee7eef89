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

/* Of so many events, those behind a run's base. */
static uint64_t compared(uint64_t events, uint64_t base)
{
    return events > base ? events - base : 0;
}

int tf_timeline_verify(struct tf_timeline *t, struct tf_verified *out, struct tf_err *err)
{
    double began = tf_timeline_ms();
    struct tf_runner runner;
    struct tf_stop_rep rep = {0};

    *out = (struct tf_verified){0};
    t->run_number++;
    struct tf_checkpoint from;
    const uint32_t *prefix = NULL;
    int r = tf_timeline_fork_start(t, &runner, &from, err);
    if (r)
        return r;
    struct tf_run_req run = {.stop = tf_run_all(t)};
    if ((r = tf_run_place(t, &from, &run, &prefix, err)) == 0)
        r = tf_runner_send(&runner, TF_REQ_RUN, &run, sizeof run, prefix, run.prefix_words * sizeof *prefix,
                           err);
    if (r == 0)
        r = tf_run_until_stop(t, &runner, &rep, &out->at, err);
    if (r == 0)
        r = tf_run_check_prefix(t, &runner, &rep, err);
    tf_runner_end(&runner);
    out->elapsed_ms = tf_timeline_ms() - began;
    if (r == TF_E_NOTFOUND && t->why) {
        out->barrier = true;
        out->frames = compared(out->at.frame, t->run->base.frame);
        out->outside = compared(tf_log_events_before(t->log, out->at.offset), t->run->base.outside);
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
    out->frames = compared(rep.frame, t->run->base.frame);
    out->outside = compared(tf_log_events_before(t->log, rep.offset), t->run->base.outside);
    out->at = (struct tf_place){.frame = rep.frame, .offset = rep.offset};
    if (rep.frame != t->run->frames)
        return tf_diverged(t, TF_DIVERGED_END, rep.frame, rep.offset, err,
                           "the replay ended after %llu frame events, the recording has %llu",
                           (unsigned long long)rep.frame, (unsigned long long)t->run->frames);
    if (rep.offset != t->run->outside_bytes)
        return tf_diverged(t, TF_DIVERGED_END, rep.frame, rep.offset, err,
                           "the replay ended after %llu outside calls, the recording has %llu",
                           (unsigned long long)tf_log_events_before(t->log, rep.offset),
                           (unsigned long long)t->run->outside);
    return check_end(t, &rep, err);
}
