/*
 * diverge.c: a replay that cannot go on: it parts from the recording, or comes to a barrier. The supervisor
 * gets what is known here: the program's call, the event words since the last whole block (one of them may
 * differ already, for only whole blocks are compared on the way), and the Python stack. It makes the report.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "iohooks/process.h"

static char text[8192], where[8192], counter[4400];
static uint8_t excerpt[TF_EXCERPT];

/* ---- the data that the program's call was given ---- */

/* Bytes that lie in pieces. */
static size_t copy_from(const struct iovec *iov, size_t n, uint64_t from, uint8_t *to, size_t max)
{
    size_t done = 0;
    for (size_t i = 0; i < n && done < max; i++) {
        if (from >= iov[i].iov_len) {
            from -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - from;
        if (part > max - done)
            part = max - done;
        memcpy(to + done, (const uint8_t *)iov[i].iov_base + from, part);
        done += part;
        from = 0;
    }
    return done;
}

/* The first byte that is not the recorded one; the length of the shorter if there is none. */
static uint64_t first_difference(const struct iovec *iov, size_t n, const uint8_t *has, uint64_t len)
{
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < iov[i].iov_len; k++, at++)
            if (at >= len || ((const uint8_t *)iov[i].iov_base)[k] != has[at])
                return at;
    return at;
}

/* Fills rep and the excerpt, if the program's call is one that was given bytes. They are there: their hash is
 * among the arguments. */
static void show_data(struct tf_diverge_rep *rep, const struct tf_outside *event)
{
    const struct tf_call *call = tf_self->call;
    const char *sig =
        call && call->nr == rep->call && call->nr < TF_CALL_ROWS ? tf_call_rows[call->nr].sig : NULL;
    struct iovec one;
    const struct iovec *iov = NULL;
    size_t n = 0, at = sig ? strcspn(sig, "bvm") : 0;
    if (!sig || !sig[at] || (uintptr_t)call->a[at] < 4096)
        return;
    if (sig[at] == 'b') {
        one = (struct iovec){(void *)call->a[at], (size_t)call->a[at + 1]};
        iov = &one;
        n = 1;
    } else if (sig[at] == 'v') {
        iov = (const struct iovec *)call->a[at];
        n = (size_t)call->a[at + 1];
    } else {
        const struct msghdr *m = (const struct msghdr *)call->a[at];
        iov = m->msg_iov;
        n = m->msg_iovlen;
    }
    for (size_t i = 0; i < n; i++)
        rep->data_total += iov[i].iov_len;
    if (event && event->call == call->nr && (event->flags & (TF_OUT_STDOUT | TF_OUT_STDERR))) {
        uint64_t differs = first_difference(iov, n, tf_outside_data(event), event->data_len);
        /* The log has only as much as the kernel took. */
        if (differs < event->data_len || differs < rep->data_total)
            rep->differs = differs;
        if (differs > TF_EXCERPT / 4)
            rep->data_at = differs - TF_EXCERPT / 4;
    }
    rep->data_len = (uint32_t)copy_from(iov, n, rep->data_at, excerpt, sizeof excerpt);
}

/* ---- */

static void report(enum tf_op op, struct tf_diverge_rep *rep, const struct tf_difference *difference)
{
    tf_place(&rep->place);
    rep->text_len = (uint32_t)strlen(text);
    rep->words = (uint32_t)(tf.p - tf.words);
    if (tf.engine)
        rep->where_len = (uint32_t)tf.engine->where(where, sizeof where);
    rep->counter_len = (uint32_t)tf_fault_counter_text(counter, sizeof counter, &rep->counter_first);
    struct tf_msg msg = {.op = op};
    struct iovec parts[] = {{&msg, sizeof msg},
                            {rep, sizeof *rep},
                            {tf.words, rep->words * sizeof *tf.words},
                            {(void *)(difference ? difference->args : NULL), rep->args_len},
                            {excerpt, rep->data_len},
                            {text, rep->text_len},
                            {where, rep->where_len},
                            {counter, rep->counter_len}};
    for (size_t i = 1; i < sizeof parts / sizeof *parts; i++)
        msg.len += parts[i].iov_len;
    tf_send_parts(parts, sizeof parts / sizeof *parts);
    tf_leave(1);
}

static void __attribute__((noreturn)) diverge(const struct tf_difference *difference)
{
    struct tf_diverge_rep rep = {
        .kind = difference->kind,
        .call = difference->call,
        .event = difference->event ? (uint64_t)((uintptr_t)difference->event - TF_LOG_ADDR) : UINT64_MAX,
        .result = difference->result,
        .args_len = (uint32_t)difference->args_len,
        .differs = UINT64_MAX,
    };
    show_data(&rep, difference->event);
    report(TF_REP_DIVERGENCE, &rep, difference);
    __builtin_unreachable();
}

void tf_diverge_from(const struct tf_difference *difference, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diverge(difference);
}

void tf_diverge_result(const struct tf_outside *event, int64_t result, const char *fmt, ...)
{
    struct tf_difference difference = {.kind = TF_DIVERGED_KERNEL,
                                       .call = event->call,
                                       .args = tf_outside_args(event),
                                       .args_len = event->args_len,
                                       .event = event,
                                       .result = result};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diverge(&difference);
}

void tf_diverge(const char *fmt, ...)
{
    struct tf_difference difference = {.kind = TF_DIVERGED_OTHER, .call = TF_NO_CALL};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diverge(&difference);
}

void tf_diverge_block(void)
{
    struct tf_difference difference = {.kind = TF_DIVERGED_EVENT, .call = TF_NO_CALL};
    text[0] = 0;
    diverge(&difference);
}

void tf_replay_barrier(const char *why)
{
    struct tf_diverge_rep rep = {.call = TF_NO_CALL, .event = UINT64_MAX, .differs = UINT64_MAX};
    if (tf.scanning)
        tf_scan_end();
    if (tf.armed)
        tf_core.stopped(TF_STOPPED_SHORT, tf.engine->lines_seen());
    if (tf.light)
        tf_derive_flush();
    snprintf(text, sizeof text, "%s", why);
    report(TF_REP_BARRIER, &rep, NULL);
    __builtin_unreachable();
}
