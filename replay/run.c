/*
 * run.c: letting a copy of a checkpoint run to where it shall stop, and serving its needs on the way: it asks
 * for the outside events as it comes to them, offers checkpoints, and tells when it does something else than
 * the recording.
 */
#include <stdio.h>
#include <string.h>
#include "replay/prepare.h"
#include "replay/timeline_private.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

const uint32_t *tf_run_block_words(struct tf_timeline *t, uint64_t block, uint32_t *n, struct tf_err *err)
{
    if (t->words_block != block) {
        t->words_block = UINT64_MAX;
        if (tf_store_block_words(t->store, t->run, block, t->words, &t->words_n, err))
            return NULL;
        t->words_block = block;
    }
    *n = t->words_n;
    return t->words;
}

/* All of the run. One that was cut off is compared up to its last event: what comes then would end the
 * replay, too, or never end. */
struct tf_stop_req tf_run_all(const struct tf_timeline *t)
{
    bool killed = t->run->exit_signal != 0 || t->run->state != TF_RUN_COMPLETE;
    return (struct tf_stop_req){.frame = UINT64_MAX, .kind = killed && !t->why ? TF_STOP_ALL : TF_STOP_EVENT};
}

/*
 * Lets a copy of a checkpoint run until it stops, and serves it on the way. On TF_E_DIVERGENCE, *at says
 * where (if at is given). A barrier is TF_E_NOTFOUND with *at.
 */
int tf_run_until_stop(struct tf_timeline *t, struct tf_runner *runner, struct tf_stop_rep *rep,
                      struct tf_place *at, struct tf_err *err)
{
    struct tf_copy copy = {.runner = *runner};
    int r = tf_run_serve(t, &copy, rep, at, err);
    tf_log_release(t->log, &copy.hold);
    return r;
}

int tf_run_serve(struct tf_timeline *t, struct tf_copy *copy, struct tf_stop_rep *rep, struct tf_place *at,
                 struct tf_err *err)
{
    struct tf_message *m = &t->message;
    struct tf_place place;
    uint64_t heard = 0; /* frame events that had happened when it was heard of last */
    for (;;) {
        int r = tf_copy_next(t, copy, m, err);
        if (r == TF_E_REPLAY) /* it has gone */
            return tf_err_set(err, r, "%s; it had come as far as frame event %llu, or further", err->msg,
                              (unsigned long long)heard);
        if (r)
            return r;
        switch (m->op) {
        case TF_REP_PROGRESS:
            if (m->len == sizeof heard)
                memcpy(&heard, m->data, sizeof heard);
            if (t->progress && !t->scan && m->len == 8 && t->progress_to > t->progress_from)
                t->progress(t->progress_ctx,
                            (double)(heard - t->progress_from) / (double)(t->progress_to - t->progress_from));
            __attribute__((fallthrough));
        case TF_REP_DERIVED:
        case TF_REP_HIT:
        case TF_REP_LOG:
            if (t->on_scan && (r = t->on_scan(t->scan_ctx, m, err)))
                return r;
            break;
        case TF_REP_SCANNED:
        case TF_REP_STOPPED:
            if (m->len != sizeof *rep)
                return tf_err_set(err, TF_E_REPLAY, "the replaying process answered nonsense");
            memcpy(rep, m->data, sizeof *rep);
            return 0;
        case TF_REP_NEED:
            if ((r = tf_copy_load(t, copy, m, err)))
                return r;
            break;
        case TF_REP_SNAPSHOT:
            memcpy(&place, m->data, sizeof place);
            heard = place.frame > heard ? place.frame : heard;
            if (m->fd >= 0)
                tf_pace_checkpoint(t, &copy->runner, &place, m->fd);
            break;
        case TF_REP_DIVERGENCE:
        case TF_REP_BARRIER:
            return tf_diverged_message(t, m, at, err);
        default:
            return tf_err_set(err, TF_E_REPLAY, "the replaying process sent message %u, which nobody knows",
                              m->op);
        }
    }
}

int tf_run_place(struct tf_timeline *t, const struct tf_checkpoint *from, struct tf_run_req *req,
                 const uint32_t **prefix, struct tf_err *err)
{
    uint32_t n;
    *prefix = NULL;
    if (!from->recorded)
        return 0;
    req->place_known = 1;
    req->frame = from->frame;
    req->offset = from->offset;
    req->prefix_words = (uint32_t)(from->frame % TF_BLOCK_FRAMES);
    if (req->prefix_words && !(*prefix = tf_run_block_words(t, from->frame / TF_BLOCK_FRAMES, &n, err)))
        return err->code;
    return 0;
}

/* Copies the best checkpoint for an event and starts it. */
int tf_run_start(struct tf_timeline *t, const struct tf_stop_req *stop, uint64_t present,
                 struct tf_runner *runner, struct tf_checkpoint *from, struct tf_err *err)
{
    t->run_number++;
    tf_divergence_free(tf_timeline_take_divergence(t)); /* is of an earlier run */
    return tf_run_begin(t, t->scan, stop, present, runner, from, err);
}

int tf_run_begin(struct tf_timeline *t, const struct tf_scan *scan, const struct tf_stop_req *stop,
                 uint64_t present, struct tf_runner *runner, struct tf_checkpoint *from, struct tf_err *err)
{
    int r = tf_timeline_fork_nearest(t, stop->frame, runner, from, err);
    if (r)
        return r;
    struct tf_run_req req = {.stop = *stop};
    if (!scan) { /* a copy that scans is no checkpoint for others */
        req.snapshot_at_stop = t->leave_at_stop;
        t->leave_frame = stop->frame;
        req.snapshots = tf_pace_begin(t, from, present);
    }
    const uint32_t *prefix = NULL;
    if ((r = tf_run_place(t, from, &req, &prefix, err))) {
        tf_runner_end(runner);
        return r;
    }
    r = scan ? tf_runner_send(runner, TF_REQ_SCAN, scan, scan->size, NULL, 0, err) : 0;
    if (r == 0)
        r = tf_runner_send(runner, TF_REQ_RUN, &req, sizeof req, prefix, req.prefix_words * sizeof *prefix,
                           err);
    if (r)
        tf_runner_end(runner);
    return r;
}

/* The events since the last whole block must be the recorded ones, too. */
int tf_run_check_prefix(struct tf_timeline *t, const struct tf_runner *runner, const struct tf_stop_rep *rep,
                        struct tf_err *err)
{
    uint32_t n;
    struct tf_message *m = &t->message;
    if (!rep->words)
        return 0;
    const uint32_t *words = tf_run_block_words(t, (rep->frame - 1) / TF_BLOCK_FRAMES, &n, err);
    if (!words)
        return err->code;
    if (rep->words <= n && XXH3_64bits(words, rep->words * sizeof *words) == rep->digest)
        return 0;
    if (runner && tf_runner_send(runner, TF_REQ_WORDS, NULL, 0, NULL, 0, err) == 0 &&
        tf_runner_recv(runner, m, tf_now_ms() + 30000, err) == 0 && m->op == TF_REP_BLOCK && m->len >= 8) {
        uint64_t block;
        memcpy(&block, m->data, sizeof block);
        return tf_diverged_words(t, block, (const uint32_t *)(m->data + 8), (uint32_t)((m->len - 8) / 4),
                                 rep->offset, err);
    }
    return tf_diverged(t, TF_DIVERGED_EVENT, rep->frame - rep->words, rep->offset, err,
                       "among the last %u frame events before %llu, one is not the recorded one "
                       "('timefork verify' finds it)",
                       rep->words, (unsigned long long)rep->frame);
}
