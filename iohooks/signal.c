/*
 * signal.c: the program's signal handlers. Each is installed behind a handler of our own, which the program
 * does not see.
 *
 * A fault (SIGSEGV and its kin, raised by the program's own instruction) comes at the same place in replay
 * and goes straight to the program's handler. A signal from outside is where a replay has to stop for now: a
 * mark says so in the log, and recording goes on loosely. The mark must not be written into the middle of
 * what the engine or this library is writing: there, the signal is kept and sent again at the next safe
 * point.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include "iohooks/ksignal.h"
#include "iohooks/special.h"
#include "iohooks/start.h"

extern char tf_region_start[], tf_region_end[];

/* What the program believes to have installed, by signal number. */
static struct tf_ksigaction actions[65];
static uint64_t kept; /* signals that wait for a safe point, bit per signal */

static void call_handler(int sig, siginfo_t *info, void *context)
{
    void *handler = actions[sig].handler;
    if (handler == (void *)SIG_DFL || handler == (void *)SIG_IGN)
        return;
    ((void (*)(int, siginfo_t *, void *))handler)(sig, info, context);
}

bool tf_signal_has_handler(int sig)
{
    return sig >= 1 && sig <= 64 && actions[sig].handler != (void *)SIG_DFL &&
           actions[sig].handler != (void *)SIG_IGN;
}

bool tf_signal_is_ignored(int sig)
{
    return sig >= 1 && sig <= 64 && actions[sig].handler == (void *)SIG_IGN;
}

static bool is_fault(int sig, const siginfo_t *info)
{
    return (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP) &&
           info->si_code > 0;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uintptr_t at = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    bool own = tf.self_signal || (tf.self_pending >> (sig - 1) & 1);
    tf.self_pending &= ~(1ul << (sig - 1));
    if (tf.mode == TF_RECORDS && !is_fault(sig, info) && !own) {
        bool waits = at >= (uintptr_t)tf_region_start && at < (uintptr_t)tf_region_end && tf.inside == 1;
        if (!waits && (tf.inside || tf_in_engine(at))) {
            kept |= 1ul << (sig - 1);
            tf.pending = 1;
            tf.limit = tf.ring; /* so that the next event takes the slow path */
            return;
        }
        tf_barrier("signal %d (%s) arrived", sig, sigabbrev_np(sig) ? sigabbrev_np(sig) : "?");
    }
    call_handler(sig, info, context);
}

void tf_signal_safe_point(void)
{
    if (!tf.pending || tf.inside)
        return;
    tf.pending = 0;
    uint64_t set = __atomic_exchange_n(&kept, 0, __ATOMIC_ACQ_REL);
    long pid = tf_sys(SYS_getpid), tid = tf_sys(SYS_gettid);
    for (int sig = 1; sig <= 64; sig++)
        if (set >> (sig - 1) & 1)
            tf_sys(SYS_tgkill, pid, tid, sig);
}

/* Both modes keep the same table and tell the kernel the same; nothing but the order of calls needs the log.
 */
TF_SPECIAL(sigaction)
{
    int sig = (int)call->a[0];
    const struct tf_ksigaction *set = (void *)call->a[1];
    struct tf_ksigaction *old = (void *)call->a[2];
    struct tf_call logged = *call;
    static uint8_t args_buf[128];
    size_t len = tf_args_encode(row, &logged, args_buf);
    const struct tf_outside *e = tf.mode == TF_REPLAYS ? tf_log_take(call->nr, args_buf, len) : NULL;
    long r = 0;

    if (sig < 1 || sig > 64 || (set && (sig == SIGKILL || sig == SIGSTOP))) {
        r = -EINVAL;
    } else if (sig == SIGSYS) { /* ours: the program only believes that it has it */
        struct tf_ksigaction before = actions[sig];
        if (set)
            actions[sig] = *set;
        if (old)
            *old = before;
    } else {
        struct tf_ksigaction before = actions[sig];
        if (set) {
            struct tf_ksigaction real = *set;
            if (set->handler != (void *)SIG_DFL && set->handler != (void *)SIG_IGN) {
                real.handler = (void *)on_signal;
                real.flags |= SA_SIGINFO | TF_SA_RESTORER;
                real.restorer = tf_restorer;
                real.mask &= ~(1ul << (SIGSYS - 1));
            }
            actions[sig] = *set;
            r = tf_sys(SYS_rt_sigaction, sig, &real, 0, 8);
            if (TF_IS_ERR(r))
                actions[sig] = before;
        }
        if (!TF_IS_ERR(r) && old)
            *old = before;
    }
    if (!e)
        tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
    else if (e->result != r)
        tf_diverge("rt_sigaction(%d) gave %ld, in the recording it gave %ld", sig, r, (long)e->result);
    return r;
}

/* Dispositions that were inherited (nohup ignores SIGHUP) are the first event of the log: the program asks
 * for them. */
void tf_signal_start(void)
{
    uint64_t state[2] = {0, 0};
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(TF_CALL_START, NULL, 0);
        if (e->data_len == sizeof state)
            memcpy(state, tf_outside_data(e), sizeof state);
        state[1] &= ~(1ul << (SIGSYS - 1));
        for (int sig = 1; sig <= 64; sig++) {
            struct tf_ksigaction real = {.handler =
                                             state[0] >> (sig - 1) & 1 ? (void *)SIG_IGN : (void *)SIG_DFL};
            actions[sig] = real;
            if (sig != SIGSYS)
                tf_sys(SYS_rt_sigaction, sig, &real, 0, 8);
        }
        tf_sys(SYS_rt_sigprocmask, SIG_SETMASK, &state[1], 0, 8);
        return;
    }
    for (int sig = 1; sig <= 64; sig++) {
        if (sig == SIGSYS)
            continue;
        tf_sys(SYS_rt_sigaction, sig, 0, &actions[sig], 8);
        if (actions[sig].handler == (void *)SIG_IGN)
            state[0] |= 1ul << (sig - 1);
    }
    tf_sys(SYS_rt_sigprocmask, SIG_BLOCK, 0, &state[1], 8);
    struct iovec data = {state, sizeof state};
    tf_log_put(TF_CALL_START, 0, 0, NULL, 0, &data, 1);
}

/* The mask to change is that of the interrupted context: the kernel restores it when the trap returns. SIGSYS
 * stays open, for a blocked one would end the process at its next call. */
TF_SPECIAL(sigprocmask)
{
    int how = (int)call->a[0];
    const uint64_t *set = (void *)call->a[1];
    uint64_t *old = (void *)call->a[2];
    static uint8_t args_buf[128];
    size_t len = tf_args_encode(row, call, args_buf);
    const struct tf_outside *e = tf.mode == TF_REPLAYS ? tf_log_take(call->nr, args_buf, len) : NULL;
    uint64_t *mask = (uint64_t *)&call->uc->uc_sigmask;
    uint64_t before = *mask, keep = (1ul << (SIGSYS - 1)) | (1ul << (SIGKILL - 1)) | (1ul << (SIGSTOP - 1));
    long r = 0;

    if (set && how == SIG_BLOCK)
        *mask = (before | *set) & ~keep;
    else if (set && how == SIG_UNBLOCK)
        *mask = before & ~*set;
    else if (set && how == SIG_SETMASK)
        *mask = *set & ~keep;
    else if (set)
        r = -EINVAL;
    if (old && r == 0)
        *old = before;
    if (!e)
        tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
    else if (e->result != r)
        tf_diverge("rt_sigprocmask gave %ld, in the recording it gave %ld", r, (long)e->result);
    return r;
}

/* Only handlers that were installed before timefork came return through here; ours have tf_restorer. */
TF_SPECIAL(sigreturn)
{
    (void)row;
    tf.inside--;
    tf_sigreturn_at((void *)call->uc->uc_mcontext.gregs[REG_RSP]);
}

TF_SPECIAL(sigaltstack)
{
    const stack_t *set = (void *)call->a[0];
    long r = tf_run_again(row, call);
    if (set && !TF_IS_ERR(r)) /* the trap's return would put the former one back */
        call->uc->uc_stack = *set;
    return r;
}

TF_SPECIAL(sigpending)
{
    static uint8_t args_buf[128];
    size_t len = tf_args_encode(row, call, args_buf);
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
        if (e->data_len == 8)
            memcpy((void *)call->a[0], tf_outside_data(e), 8);
        return e->result;
    }
    long r = tf_sys(SYS_rt_sigpending, call->a[0], call->a[1]);
    struct iovec data = {(void *)call->a[0], 8};
    tf_log_put(call->nr, 0, r, args_buf, len, &data, !TF_IS_ERR(r));
    return r;
}
