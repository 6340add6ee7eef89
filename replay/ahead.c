/* ahead.c: see ahead.h. */
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "replay/timeline_private.h"

#define SAID_MAX (1u << 20) /* bytes that nobody has heard: who has said so much has to wait */
#define WAITING 4 /* windows that are ahead, for each that may run: of most it is known what is there */

unsigned tf_ahead_processors(void)
{
    cpu_set_t *set = NULL;
    int n = 0;
    for (int room = 1024; n == 0 && room <= 1 << 20; room *= 4) { /* the kernel's may be larger than ours */
        set = CPU_ALLOC(room);
        if (set && sched_getaffinity(0, CPU_ALLOC_SIZE(room), set) == 0)
            n = CPU_COUNT_S(CPU_ALLOC_SIZE(room), set);
        CPU_FREE(set);
    }
    return n < 1 ? 1 : n < TF_JOBS_MAX ? (unsigned)n : TF_JOBS_MAX;
}

/* ---- what a copy says ---- */

int tf_copy_load(struct tf_timeline *t, struct tf_copy *c, const struct tf_message *need, struct tf_err *err)
{
    uint64_t offset, end;
    if (need->len != sizeof offset)
        return tf_err_set(err, TF_E_REPLAY, "the replaying process asks for nonsense");
    memcpy(&offset, need->data, sizeof offset);
    int r = tf_log_load(t->log, offset, &c->hold, &end, err);
    return r ? r : tf_runner_send(&c->runner, TF_REQ_LOADED, &end, sizeof end, NULL, 0, err);
}

static int keep(struct tf_copy *c, const struct tf_message *m)
{
    struct tf_msg head = {.op = m->op, .len = m->len};
    size_t need = c->said_len + sizeof head + m->len;
    if (need > c->said_room) {
        size_t room = need + need / 2;
        uint8_t *more = realloc(c->said, room);
        if (!more)
            return tf_err_set(&c->failed, TF_E_IO, "out of memory");
        c->said = more;
        c->said_room = room;
    }
    memcpy(c->said + c->said_len, &head, sizeof head);
    memcpy(c->said + c->said_len + sizeof head, m->data, m->len);
    c->said_len = need;
    return 0;
}

/* One that runs ahead has said something. */
static void hear(struct tf_timeline *t, struct tf_copy *c)
{
    struct tf_message *m = &t->aheads.message;
    int r = tf_runner_recv(&c->runner, m, -1, &c->failed);
    if (r == 0)
        r = m->op == TF_REP_NEED ? tf_copy_load(t, c, m, &c->failed) : keep(c, m);
    if (m->fd >= 0)
        close(m->fd);
    c->ended = r || m->op == TF_REP_SCANNED || m->op == TF_REP_STOPPED || m->op == TF_REP_DIVERGENCE ||
               m->op == TF_REP_BARRIER;
}

/* Takes the first of what is kept. */
static int take_said(struct tf_copy *c, struct tf_message *m, struct tf_err *err)
{
    struct tf_msg head;
    memcpy(&head, c->said + c->said_at, sizeof head);
    if (head.len > m->room) {
        uint8_t *data = realloc(m->data, head.len);
        if (!data)
            return tf_err_set(err, TF_E_IO, "out of memory");
        m->data = data;
        m->room = head.len;
    }
    m->op = head.op;
    m->fd = -1;
    m->len = head.len;
    memcpy(m->data, c->said + c->said_at + sizeof head, head.len);
    c->said_at += sizeof head + head.len;
    if (c->said_at == c->said_len)
        c->said_at = c->said_len = 0;
    return 0;
}

/* Waits until a copy has something to say, and serves the others meanwhile. */
static int wait_for(struct tf_timeline *t, const struct tf_copy *c, struct tf_err *err)
{
    struct tf_aheads *a = &t->aheads;
    for (;;) {
        struct pollfd fds[1 + TF_AHEAD_MAX] = {{.fd = c->runner.socket, .events = POLLIN}};
        int64_t left = a->more ? a->after_ms - tf_now_ms() : 0;
        int timeout = t->cancel ? 100 : -1;
        if (t->cancel && *t->cancel)
            return tf_err_set(err, TF_E_CANCELLED, "interrupted");
        if (left > 0 && (timeout < 0 || left < timeout))
            timeout = (int)left;
        for (size_t i = 0; i < a->n; i++) {
            const struct tf_copy *other = a->v[i].copy;
            bool hears = !other->ended && other->said_len < SAID_MAX;
            fds[1 + i] = (struct pollfd){.fd = hears ? other->runner.socket : -1, .events = POLLIN};
        }
        if (poll(fds, 1 + a->n, timeout) > 0)
            for (size_t i = 0; i < a->n; i++)
                if (fds[1 + i].revents)
                    hear(t, a->v[i].copy);
        if (fds[0].revents)
            return 0;
        tf_ahead_fill(t, c);
    }
}

int tf_copy_next(struct tf_timeline *t, struct tf_copy *c, struct tf_message *m, struct tf_err *err)
{
    if (t->cancel && *t->cancel)
        return tf_err_set(err, TF_E_CANCELLED, "interrupted");
    if (c->said_at < c->said_len)
        return take_said(c, m, err);
    if (c->ended) {
        *err = c->failed;
        return err->code;
    }
    int r = wait_for(t, c, err);
    return r ? r : tf_runner_recv(&c->runner, m, -1, err);
}

void tf_copy_end(struct tf_timeline *t, struct tf_copy *c)
{
    tf_runner_end(&c->runner);
    tf_log_release(t->log, &c->hold);
    free(c->said);
    *c = (struct tf_copy){.runner = TF_RUNNER_NONE};
}

/* ---- who runs ahead ---- */

int tf_ahead_start(struct tf_timeline *t, const void *search, const struct tf_window *window,
                   const struct tf_scan *scan, struct tf_err *err)
{
    struct tf_stop_req stop = {.frame = window->arm, .kind = TF_STOP_SCAN};
    struct tf_copy *copy = calloc(1, sizeof *copy);
    if (!copy)
        return tf_err_set(err, TF_E_IO, "out of memory");
    int r = tf_run_begin(t, scan, &stop, window->arm, &copy->runner, &copy->from, err);
    if (r) {
        free(copy);
        return r;
    }
    t->aheads.v[t->aheads.n++] = (struct tf_ahead){search, *window, copy};
    return 0;
}

static bool is_window(const struct tf_window *a, const struct tf_window *b)
{
    return a->arm == b->arm && a->from.frame == b->from.frame && a->from.lines == b->from.lines &&
           a->end.frame == b->end.frame && a->end.lines == b->end.lines;
}

struct tf_copy *tf_ahead_take(struct tf_timeline *t, const void *search, const struct tf_window *window)
{
    struct tf_aheads *a = &t->aheads;
    for (size_t i = 0; i < a->n; i++) {
        struct tf_copy *copy = a->v[i].copy;
        if (a->v[i].search != search)
            continue;
        if (!is_window(&a->v[i].window, window))
            break;
        memmove(&a->v[i], &a->v[i + 1], (--a->n - i) * sizeof *a->v);
        return copy;
    }
    tf_ahead_drop(t, search);
    return NULL;
}

void tf_ahead_drop(struct tf_timeline *t, const void *search)
{
    struct tf_aheads *a = &t->aheads;
    size_t left = 0;
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].search != search) {
            a->v[left++] = a->v[i];
            continue;
        }
        tf_copy_end(t, a->v[i].copy);
        free(a->v[i].copy);
    }
    a->n = left;
}

/* May another one run, beside the one that is waited for? As much memory as it has may become its own, and
 * what the checkpoints may have together is for those that run, too. */
static bool has_room(struct tf_timeline *t, const struct tf_copy *c)
{
    const struct tf_aheads *a = &t->aheads;
    size_t running = 1;
    for (size_t i = 0; i < a->n; i++)
        running += !a->v[i].copy->ended;
    if (running >= a->jobs || a->n >= (size_t)WAITING * a->jobs || a->n == TF_AHEAD_MAX)
        return false;
    return t->set.bytes + (running + 1) * tf_memory_resident(c->runner.pid) <= t->set.limits.bytes;
}

void tf_ahead_fill(struct tf_timeline *t, const struct tf_copy *copy)
{
    struct tf_aheads *a = &t->aheads;
    while (a->more && tf_now_ms() >= a->after_ms && has_room(t, copy))
        if (!a->more(a->ctx))
            a->more = NULL;
}
