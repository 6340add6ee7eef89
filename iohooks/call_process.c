/*
 * call_process.c: the end of the process, signals that it sends, and what it asks about itself.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "iohooks/special.h"

#define args_buf (tf_self->args)

/* The end of the process is a mark, so that a replay can tell it from a recording that was cut off. */
TF_SPECIAL(exit)
{
    char text[16];
    if (tf_child_exits(row, call))
        tf_leave((int)call->a[0]);
    snprintf(text, sizeof text, "%d", (int)call->a[0]);
    if (tf.mode == TF_REPLAYS) {
        uint8_t mark[32] = {TF_MARK_EXIT};
        size_t n = strlen(text);
        memcpy(mark + 8, text, n + 1);
        tf_log_take(TF_CALL_MARK, mark, 8 + n);
        tf_replay_end();
    }
    tf_log_mark(TF_MARK_EXIT, text);
    tf_leave((int)call->a[0]);
}

static bool marks_exit(const struct tf_outside *e)
{
    uint32_t kind;
    if (!e || e->call != TF_CALL_MARK)
        return false;
    memcpy(&kind, tf_outside_args(e), sizeof kind);
    return kind == TF_MARK_EXIT;
}

static size_t end_mark(int sig, uint8_t *mark /* 48 */)
{
    memset(mark, 0, 48);
    mark[0] = TF_MARK_EXIT;
    return 8 + (size_t)snprintf((char *)mark + 8, 40, "signal %d", sig);
}

bool tf_ends_by_signal(int sig)
{
    uint8_t mark[48];
    size_t len = end_mark(sig, mark);
    const struct tf_outside *e = tf_log_peek();
    if (!e) /* without a mark: the fault was in the midst of timefork's own code (a bad pointer) */
        return tf.light || tf_frames() >= tf.ctl->frames;
    return marks_exit(e) && tf_log_is_here(e) && e->args_len == len &&
           memcmp(tf_outside_args(e), mark, len) == 0;
}

void tf_end_by_signal(int sig)
{
    uint8_t mark[48];
    size_t len = end_mark(sig, mark);
    if (tf.mode != TF_REPLAYS) {
        tf_log_mark(TF_MARK_EXIT, (const char *)mark + 8);
        tf.mode = TF_LOOSE;
        return;
    }
    if (tf_log_peek())
        tf_log_take(TF_CALL_MARK, mark, len);
    tf_replay_end();
}

/*
 * Sending a signal is logged. One that the program sends itself is kept while the call lasts, and its handler
 * runs right after it, as for one from outside (signal.c); one that ends the process is its end.
 */
TF_SPECIAL(kill)
{
    long self = tf_sys(SYS_getpid), thread = tf_sys(SYS_gettid), target = (int)call->a[0];
    int sig = (int)(call->nr == SYS_tgkill || call->nr == SYS_rt_tgsigqueueinfo ? call->a[2] : call->a[1]);
    /* Then it comes when the program opens its mask: a known place, too. */
    bool blocked = call->uc && sig >= 1 && sig <= 64 && (*(uint64_t *)&call->uc->uc_sigmask >> (sig - 1) & 1);

    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_peek();
        if (marks_exit(e))
            tf_end_by_signal(sig);
        return tf_logged(row, call);
    }
    /* Every process but itself, says Linux of -1. */
    bool to_self = call->nr == SYS_tkill ? target == thread
                                         : target == self || target == 0 || target == -tf_sys(SYS_getpgid, 0);
    if (to_self && sig >= 1 && sig <= 64 && (!blocked || sig == SIGKILL) && tf_signal_would_end(sig)) {
        tf_end_by_signal(sig);
        return TF_NATIVE;
    }
    return tf_logged(row, call);
}

/* How many arguments a request has besides its number: the others may be anything. */
static int prctl_arguments(long request)
{
    switch (request) {
    case PR_GET_DUMPABLE:
    case PR_GET_TIMERSLACK:
    case PR_GET_KEEPCAPS:
    case PR_GET_SECUREBITS:
    case PR_GET_SECCOMP:
        return 0;
    case PR_SET_NAME:
    case PR_SET_DUMPABLE:
    case PR_SET_TIMERSLACK:
    case PR_SET_PDEATHSIG:
    case PR_SET_CHILD_SUBREAPER:
    case PR_CAPBSET_READ:
    case PR_CAPBSET_DROP:
    case PR_GET_NAME:
    case PR_SET_KEEPCAPS:
    case PR_SET_SECUREBITS:
    case PR_SET_PTRACER:
        return 1;
    default:
        return 4;
    }
}

TF_SPECIAL(prctl)
{
    for (int i = 1 + prctl_arguments(call->a[0]); i < 5; i++)
        call->a[i] = 0;
    switch (call->a[0]) {
    case PR_SET_NAME:
    case PR_SET_DUMPABLE:
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_THP_DISABLE:
    case PR_SET_TIMERSLACK:
    case 0x53564d41: /* PR_SET_VMA: names of memory areas */
        return tf_run_again(row, call);
    case PR_SET_PDEATHSIG:
    case PR_SET_CHILD_SUBREAPER:
    case PR_GET_DUMPABLE:
    case PR_GET_TIMERSLACK:
    case PR_CAPBSET_READ:
    case PR_GET_KEEPCAPS:
    case PR_GET_NO_NEW_PRIVS:
    case PR_GET_THP_DISABLE:
    case PR_CAPBSET_DROP:
    case PR_CAP_AMBIENT:
    case PR_SET_KEEPCAPS:
    case PR_GET_SECUREBITS:
    case PR_SET_SECUREBITS:
    case PR_GET_SECCOMP:
    case PR_SET_PTRACER:
        return tf_logged(row, call);
    case PR_GET_NAME: {
        size_t len = tf_args_encode(row, call, args_buf);
        if (tf.mode == TF_REPLAYS) {
            const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
            memcpy((void *)call->a[1], tf_outside_data(e), e->data_len < 16 ? e->data_len : 16);
            return e->result;
        }
        long r = tf_sys(SYS_prctl, call->a[0], call->a[1]);
        struct iovec data = {(void *)call->a[1], 16};
        tf_log_put(call->nr, 0, r, args_buf, len, &data, !TF_IS_ERR(r));
        return r;
    }
    default:
        if (tf.mode == TF_REPLAYS) {
            size_t len = tf_args_encode(row, call, args_buf);
            tf_log_take(call->nr, args_buf, len);
            tf_diverge("prctl %ld is in the log, but cannot be replayed", call->a[0]);
        }
        tf_barrier("prctl %ld: this request is not covered yet", call->a[0]);
        return TF_NATIVE;
    }
}

/* Limits are the program's own, as they were without timefork, which enlarges the stack. Setting them is only
 * logged in replay, but done while recording. */
TF_SPECIAL(limit)
{
    struct rlimit *old = call->nr == SYS_prlimit64   ? (void *)call->a[3]
                         : call->nr == SYS_getrlimit ? (void *)call->a[1]
                                                     : NULL;
    unsigned which = (unsigned)(call->nr == SYS_prlimit64 ? call->a[1] : call->a[0]);
    if (tf.mode == TF_REPLAYS)
        return tf_logged(row, call);
    size_t len = tf_args_encode(row, call, args_buf);
    long r = tf_sys(call->nr, call->a[0], call->a[1], call->a[2], call->a[3]);
    if (old && which == RLIMIT_STACK && !TF_IS_ERR(r) && tf.shm->stack_limit &&
        old->rlim_cur == tf.own_stack_limit) /* else the program has set another one */
        old->rlim_cur = tf.shm->stack_limit;
    struct iovec data = {old, sizeof *old};
    tf_log_put(call->nr, 0, r, args_buf, len, &data, old && !TF_IS_ERR(r));
    return r;
}

/* set_tid_address gives the thread id, which is another one in replay. */
TF_SPECIAL(settid)
{
    if (tf.mode == TF_REPLAYS)
        tf_sys(SYS_set_tid_address, call->a[0]);
    return tf_logged(row, call);
}
