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

static const uint32_t *block_words(struct tf_timeline *t, uint64_t block, uint32_t *n, struct tf_err *err)
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

static const char *word_name(struct tf_timeline *t, uint32_t word, char *buf, size_t size)
{
    static const char *const names[] = {"call", "return", "yield", "resume", "unwind"};
    struct tf_codes codes;
    uint32_t tag = TF_TAG(word), id = TF_LOW(word);
    snprintf(buf, size, "%s", tag <= TF_UNWIND ? names[tag] : "?");
    if ((tag == TF_CALL || tag == TF_RESUME) && tf_store_codes(t->store, t->run, &codes, NULL) == 0) {
        if (id < codes.n && codes.codes[id].qualname)
            snprintf(buf, size, "%s of %s (%s:%u)", names[tag], codes.codes[id].qualname,
                     codes.codes[id].file, codes.codes[id].first_line);
        tf_codes_free(&codes);
    }
    return buf;
}

/* The words of a block, as executed now, are not those that were recorded: says where they part. */
static int block_differs(struct tf_timeline *t, uint64_t block, const uint32_t *did, uint32_t n,
                         uint64_t *frame, struct tf_err *err)
{
    uint32_t has_n, i = 0;
    char a[600], b[600];
    const uint32_t *has = block_words(t, block, &has_n, err);
    if (!has)
        return err->code;
    while (i < n && i < has_n && did[i] == has[i])
        i++;
    *frame = block * TF_BLOCK_FRAMES + i + 1;
    return tf_err_set(err, TF_E_DIVERGENCE, "frame event %llu: the program did %s, the recording has %s",
                      (unsigned long long)*frame, i < n ? word_name(t, did[i], a, sizeof a) : "nothing",
                      i < has_n ? word_name(t, has[i], b, sizeof b) : "nothing");
}

/*
 * Lets a copy of a checkpoint run until it stops, and serves it on the way. On TF_E_DIVERGENCE, *at says
 * where (if at is given). A barrier is TF_E_NOTFOUND with *at.
 */
int tf_run_until_stop(struct tf_timeline *t, struct tf_runner *runner, uint64_t present,
                      struct tf_stop_rep *rep, struct tf_place *at, struct tf_err *err)
{
    struct tf_message *m = &t->message;
    struct tf_place place;
    for (;;) {
        int r = tf_runner_wait(runner, t->cancel, err);
        if (r == 0)
            r = tf_runner_recv(runner, m, -1, err);
        if (r)
            return r;
        switch (m->op) {
        case TF_REP_PROGRESS:
            if (t->progress && !t->scan && m->len == 8 && t->progress_to > t->progress_from) {
                uint64_t now;
                memcpy(&now, m->data, sizeof now);
                t->progress(t->progress_ctx,
                            (double)(now - t->progress_from) / (double)(t->progress_to - t->progress_from));
            }
            __attribute__((fallthrough));
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
        case TF_REP_NEED: {
            uint64_t offset, end;
            memcpy(&offset, m->data, sizeof offset);
            if ((r = tf_log_load(t->log, offset, &end, err)))
                return r;
            if ((r = tf_runner_send(runner, TF_REQ_LOADED, &end, sizeof end, NULL, 0, err)))
                return r;
            break;
        }
        case TF_REP_SNAPSHOT:
            memcpy(&place, m->data, sizeof place);
            if (m->fd >= 0)
                tf_timeline_add_checkpoint(t, &place, m->fd, present);
            break;
        case TF_REP_BLOCK: {
            uint64_t block, frame;
            memcpy(&block, m->data, sizeof block);
            r = block_differs(t, block, (const uint32_t *)(m->data + 8), (uint32_t)((m->len - 8) / 4), &frame,
                              err);
            if (at)
                *at = (struct tf_place){.frame = frame};
            return r;
        }
        case TF_REP_DIVERGENCE:
        case TF_REP_BARRIER:
            memcpy(&place, m->data, sizeof place);
            if (at)
                *at = place;
            return tf_err_set(err, m->op == TF_REP_BARRIER ? TF_E_NOTFOUND : TF_E_DIVERGENCE,
                              "after frame event %llu: %.*s", (unsigned long long)place.frame,
                              (int)(m->len - sizeof place), (const char *)m->data + sizeof place);
        default:
            return tf_err_set(err, TF_E_REPLAY, "the replaying process sent message %u, which nobody knows",
                              m->op);
        }
    }
}

/* Nanoseconds between checkpoints on a run from `from` to `to`, in TSC ticks. */
static uint64_t snapshot_ticks(const struct tf_timeline *t, uint64_t from, uint64_t to)
{
    uint64_t frames = t->run->frames ? t->run->frames : 1;
    uint64_t span = to > from ? to - from : 0;
    uint64_t expected = (uint64_t)((double)t->run->duration_ns * (double)span / (double)frames);
    return (uint64_t)((double)tf_policy_spacing_ns(expected, TF_POLICY_MAX) * tf_prepare_ticks_per_ns());
}

/* Copies the best checkpoint for an event and starts it. */
int tf_run_start(struct tf_timeline *t, const struct tf_stop_req *stop, uint64_t present,
                 struct tf_runner *runner, struct tf_checkpoint *from, struct tf_err *err)
{
    for (;;) {
        struct tf_place place;
        size_t i = t->n - 1;
        while (i > 0 && t->checkpoints[i].frame > stop->frame)
            i--;
        *from = t->checkpoints[i];
        int r = tf_runner_fork(&from->runner, runner, &place, err);
        if (r && i > 0) {
            tf_timeline_drop_checkpoint(t, i);
            continue;
        }
        if (r)
            return tf_err_prefix(err, "the replay cannot be started: ");
        struct tf_run_req req = {.stop = *stop};
        if (!t->scan) /* a copy that scans is no checkpoint for others */
            req.snapshot_ticks = snapshot_ticks(t, from->frame, present);
        const uint32_t *prefix = NULL;
        if (from->recorded) {
            uint32_t n;
            req.place_known = 1;
            req.frame = from->frame;
            req.offset = from->offset;
            req.prefix_words = (uint32_t)(from->frame % TF_BLOCK_FRAMES);
            if (req.prefix_words && !(prefix = block_words(t, from->frame / TF_BLOCK_FRAMES, &n, err))) {
                tf_runner_end(runner);
                return err->code;
            }
        }
        r = t->scan ? tf_runner_send(runner, TF_REQ_SCAN, t->scan, t->scan->size, NULL, 0, err) : 0;
        if (r) {
            tf_runner_end(runner);
            return r;
        }
        r = tf_runner_send(runner, TF_REQ_RUN, &req, sizeof req, prefix, req.prefix_words * sizeof *prefix,
                           err);
        if (r)
            tf_runner_end(runner);
        return r;
    }
}

/* The events since the last whole block must be the recorded ones, too. */
int tf_run_check_prefix(struct tf_timeline *t, const struct tf_stop_rep *rep, struct tf_err *err)
{
    uint32_t n;
    if (!rep->words)
        return 0;
    const uint32_t *words = block_words(t, (rep->frame - 1) / TF_BLOCK_FRAMES, &n, err);
    if (!words)
        return err->code;
    if (rep->words > n || XXH3_64bits(words, rep->words * sizeof *words) != rep->digest)
        return tf_err_set(err, TF_E_DIVERGENCE,
                          "among the last %u frame events before %llu, one is not the recorded one "
                          "('timefork verify' finds it)",
                          rep->words, (unsigned long long)rep->frame);
    return 0;
}
