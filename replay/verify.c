/* verify.c: executing all of a run again, and saying where it parts from the recording. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "replay/timeline_private.h"

static int add_place(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    struct tf_err *err = ctx;
    uint32_t line;
    size_t used = strlen(err->msg);
    if (type == TF_ITEM_FRAME && len > 4) {
        memcpy(&line, data, 4);
        const char *file = (const char *)data + 4, *name = file + strnlen(file, len - 4) + 1;
        if ((const uint8_t *)name < data + len)
            snprintf(err->msg + used, sizeof err->msg - used, "\n%s:%u in %s", file, line, name);
    }
    return 0;
}

/* The functions that the recording has on the stack after an event, for want of their lines. */
static void recorded_stack(struct tf_timeline *t, uint64_t frame, struct tf_err *err)
{
    struct tf_frame *stack = NULL;
    struct tf_codes codes = {0};
    struct tf_err ignored;
    size_t n = 0;
    tf_cursor_filter(t->cursor, NULL, 0);
    if (tf_cursor_stack(t->cursor, frame, &stack, &n, &ignored) ||
        tf_store_codes(t->store, t->run, &codes, &ignored))
        n = 0;
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(err->msg);
        if (stack[i].code > 0 && stack[i].code < codes.n)
            snprintf(err->msg + used, sizeof err->msg - used, "\n%s in %s", codes.codes[stack[i].code].file,
                     codes.codes[stack[i].code].qualname);
    }
    free(stack);
    tf_codes_free(&codes);
}

/*
 * A block of frame events differed. Goes to the event before the first one that does, and adds the Python
 * stack there. What made the program differ may do so earlier this time; after a few tries, only the
 * functions are named.
 */
static void locate(struct tf_timeline *t, uint64_t frame, struct tf_err *err)
{
    struct tf_stop_req req = {.frame = frame - 1, .kind = TF_STOP_EVENT};
    struct tf_runner runner, present = t->present;
    struct tf_checkpoint from;
    struct tf_stop_rep rep;
    struct tf_err ignored;
    size_t before = strlen(err->msg);
    bool standing = t->standing;

    if (frame < 2)
        return;
    /* A function that was just called is not on the stack before it starts. */
    struct tf_frame before_it;
    tf_cursor_filter(t->cursor, NULL, 0);
    if (tf_cursor_seek(t->cursor, frame - 1, &ignored) == 0 &&
        tf_cursor_next(t->cursor, &before_it, &ignored) == 1 &&
        (before_it.event == TF_CALL || before_it.event == TF_RESUME))
        req.kind = TF_STOP_LINE;
    for (int tries = 0; tries < 3 && strlen(err->msg) == before; tries++) {
        if (tf_run_start(t, &req, frame, &runner, &from, &ignored))
            break;
        if (tf_run_until_stop(t, &runner, frame, &rep, NULL, &ignored) == 0 &&
            tf_run_check_prefix(t, &rep, &ignored) == 0) {
            t->present = runner;
            t->standing = true;
            tf_timeline_inspect(t, &(struct tf_inspect_req){.what = TF_INSPECT_STACK}, NULL, 5000, add_place,
                                err, &ignored);
            t->present = present;
            t->standing = standing;
        }
        tf_runner_end(&runner);
    }
    if (strlen(err->msg) == before)
        recorded_stack(t, frame - 1, err);
}

int tf_timeline_verify(struct tf_timeline *t, struct tf_verified *out, struct tf_err *err)
{
    double began = tf_timeline_ms();
    struct tf_runner runner;
    struct tf_stop_rep rep = {0};
    /* A run that was cut off is compared up to its last event: what comes then would end the replay, too, or
     * never end. */
    bool killed = t->run->exit_signal != 0 || t->run->state != TF_RUN_COMPLETE;
    struct tf_stop_req req = {.frame = UINT64_MAX, .kind = TF_STOP_EVENT};

    *out = (struct tf_verified){0};
    if (killed && !t->why)
        req.kind = TF_STOP_ALL;
    struct tf_checkpoint *first = &t->checkpoints[0];
    struct tf_place place;
    int r = tf_runner_fork(&first->runner, &runner, &place, err);
    if (r)
        return r;
    struct tf_run_req run = {.stop = req};
    if ((r = tf_runner_send(&runner, TF_REQ_RUN, &run, sizeof run, NULL, 0, err)) == 0)
        r = tf_run_until_stop(t, &runner, t->run->frames, &rep, &out->at, err);
    tf_runner_end(&runner);
    out->elapsed_ms = tf_timeline_ms() - began;
    if (r == TF_E_NOTFOUND && t->why) {
        out->barrier = true;
        out->frames = out->at.frame;
        out->outside = tf_log_events_before(t->log, out->at.offset);
        snprintf(out->text, sizeof out->text, "%s", err->msg);
        if (out->at.frame != t->reach)
            return tf_err_set(err, TF_E_DIVERGENCE,
                              "the replay came to '%s' after frame event %llu, the recording after %llu",
                              t->why, (unsigned long long)out->at.frame, (unsigned long long)t->reach);
        return 0;
    }
    if (r == TF_E_DIVERGENCE && out->at.pid == 0)
        locate(t, out->at.frame, err);
    if (r) {
        snprintf(out->text, sizeof out->text, "%s", err->msg);
        return r;
    }
    out->frames = rep.frame;
    out->outside = tf_log_events_before(t->log, rep.offset);
    out->at = (struct tf_place){.frame = rep.frame, .offset = rep.offset};
    if ((r = tf_run_check_prefix(t, &rep, err)))
        return r;
    if (rep.frame != t->run->frames)
        return tf_err_set(err, TF_E_DIVERGENCE,
                          "the replay ended after %llu frame events, the recording has %llu",
                          (unsigned long long)rep.frame, (unsigned long long)t->run->frames);
    if (rep.offset != t->run->outside_bytes)
        return tf_err_set(err, TF_E_DIVERGENCE,
                          "the replay ended after %llu outside calls, the recording has %llu",
                          (unsigned long long)out->outside, (unsigned long long)t->run->outside);
    return 0;
}
