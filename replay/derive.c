/* derive.c: executing a light run again, to learn its frame events. */
#include <string.h>
#include "replay/timeline_private.h"

struct deriving {
    tf_derived_fn *fn;
    void *ctx;
};

static int on_message(void *ctx, const struct tf_message *m, struct tf_err *err)
{
    const struct deriving *d = ctx;
    uint64_t offset;
    if (m->op != TF_REP_DERIVED)
        return 0;
    if (m->len < sizeof offset || (m->len - sizeof offset) % sizeof(uint32_t))
        return tf_err_set(err, TF_E_REPLAY, "the replaying process answered nonsense");
    memcpy(&offset, m->data, sizeof offset);
    return d->fn(d->ctx, (const uint32_t *)(m->data + sizeof offset),
                 (m->len - sizeof offset) / sizeof(uint32_t), offset, err);
}

int tf_timeline_derive(struct tf_timeline *t, tf_derived_fn *fn, void *ctx, struct tf_err *err)
{
    struct deriving deriving = {fn, ctx};
    struct tf_runner runner;
    struct tf_checkpoint from;
    struct tf_stop_rep rep;
    struct tf_place at;
    t->run_number++;
    int r = tf_timeline_fork_start(t, &runner, &from, err);
    if (r)
        return r;
    struct tf_run_req run = {.stop = tf_run_all(t)};
    t->on_scan = on_message;
    t->scan_ctx = &deriving;
    r = tf_runner_send(&runner, TF_REQ_RUN, &run, sizeof run, NULL, 0, err);
    if (r == 0)
        r = tf_run_until_stop(t, &runner, &rep, &at, err);
    t->on_scan = NULL;
    tf_runner_end(&runner);
    return r == TF_E_NOTFOUND && t->why ? 0 : r; /* at the place that the recording names */
}
