/*
 * signal.c: the program's signal handlers. Each is installed behind a handler of our own, which the program
 * does not see.
 *
 * A fault (SIGSEGV and its kin, raised by the program's own instruction) comes at the same place in replay
 * and goes straight to the program's handler; so does a signal that the program sends itself. A signal from
 * outside comes anywhere. It is kept, and given to the program at the next place that a replay can find
 * again: after the next frame event, or after the outside call that the program is in, which is cut short for
 * it as the kernel would have done. There it is logged, and there the replay gives it again.
 *
 * A loop that has neither frame events nor outside calls would wait for ever: after half a second the
 * supervisor sends NUDGE, and the signal is given where the program is; that place cannot be found again, so
 * it is a barrier.
 *
 * SA_RESTART is ours to do, for the kernel would restart a call before the handler has run: a call that a
 * signal cut short, and that the kernel would have made again, is logged with the result TF_RESTART and
 * dispatched once more, in both modes.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include "iohooks/ksignal.h"
#include "iohooks/special.h"
#include "iohooks/start.h"

extern char tf_raw_wait_call[], tf_raw_wait_cut[];

/* What the program believes to have installed, by signal number. */
static struct tf_ksigaction actions[65];
static uint64_t kept; /* signals that wait for a safe point, bit per signal */
volatile uint32_t tf_pending;

/* The signals that are timefork's, as a mask: never blocked, never the program's. */
#define OURS ((1ul << (SIGSYS - 1)) | (1ul << (TF_NUDGE - 1)))

static char fault_stack[65536] __attribute__((aligned(16)));
/* What the program believes to have as its alternate stack. Without one, its SA_ONSTACK means nothing. */
static stack_t programs_stack = {.ss_flags = SS_DISABLE};
static bool loosened;

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

bool tf_signal_is_default(int sig)
{
    return sig >= 1 && sig <= 64 && actions[sig].handler == (void *)SIG_DFL;
}

/* signal(7): the other signals end a process that does not care for them. */
bool tf_signal_would_end(int sig)
{
    return !tf_signal_has_handler(sig) && !tf_signal_is_ignored(sig) && sig != SIGCHLD && sig != SIGCONT &&
           sig != SIGURG && sig != SIGWINCH && sig != SIGSTOP && sig != SIGTSTP && sig != SIGTTIN &&
           sig != SIGTTOU;
}

static bool is_fault(int sig, const siginfo_t *info)
{
    return tf_fault_is_one(sig) && info->si_code > 0;
}

/* Is this the signal that is being given to the program just now? */
static bool is_delivery(int sig, const siginfo_t *info)
{
    return sig == tf.delivering && info->si_code == SI_TKILL && info->si_pid == tf_sys(SYS_getpid);
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    if (tf_fault_is_counter(sig, info, uc))
        return;
    greg_t *pc = &uc->uc_mcontext.gregs[REG_RIP];
    if (is_fault(sig, info) && (tf_fault_while_arming(sig) || tf_fault_of_page(sig, info, uc)))
        return;
    bool own = tf.self_signal || (tf.self_pending >> (sig - 1) & 1);
    tf.self_pending &= ~(1ul << (sig - 1));
    if (tf.mode != TF_RECORDS || tf_child_borrows() || own || is_fault(sig, info) || is_delivery(sig, info)) {
        call_handler(sig, info, context);
        return;
    }
    __atomic_or_fetch(&kept, 1ul << (sig - 1), __ATOMIC_ACQ_REL);
    tf_pending = 1;
    __atomic_store_n(&tf.shm->pending, 1, __ATOMIC_RELEASE);
    tf.limit = tf.ring; /* the next event takes the slow path */
    if (*pc >= (greg_t)tf_raw_wait && *pc <= (greg_t)tf_raw_wait_call)
        *pc = (greg_t)tf_raw_wait_cut; /* the program's call has not begun: it must not wait now */
}

/*
 * Not kill or tgkill, which reach anyone: for these codes (SI_TKILL, and those that the kernel gives itself)
 * rt_tgsigqueueinfo(2) is refused unless the signal is for the caller's own process. In replay the sender has
 * the number that it had.
 */
void tf_signal_to_self(int sig, int code)
{
    long self = tf_sys(SYS_getpid);
    siginfo_t info = {.si_signo = sig, .si_code = code};
    info.si_pid = tf.mode == TF_REPLAYS ? (pid_t)(tf.forked_pid ? tf.forked_pid : tf.ctl->pid) : (pid_t)self;
    info.si_uid = (uid_t)tf_sys(SYS_getuid);
    tf_sys(SYS_rt_tgsigqueueinfo, self, tf_sys(SYS_gettid), sig, &info);
}

static void deliver(int sig)
{
    tf.delivering = sig;
    tf_signal_to_self(sig, SI_TKILL);
    tf.delivering = 0;
}

static const struct tf_outside *next_signal(void)
{
    const struct tf_outside *e = tf_log_peek();
    return e && e->call == TF_CALL_SIGNAL ? e : NULL;
}

void tf_signal_safe_point(enum tf_moment moment)
{
    uint64_t args = moment;
    if (tf.inside)
        return;
    if (tf.mode == TF_REPLAYS) {
        for (const struct tf_outside *e; (e = next_signal()) && e->frame == tf_frames();) {
            if (e->args_len != 8 || memcmp(tf_outside_args(e), &args, 8) != 0)
                break;
            tf_log_take(TF_CALL_SIGNAL, &args, 8);
            deliver((int)e->result);
            tf_fault_prepare();
        }
        return;
    }
    /* Also when recording has just ended, at a barrier or otherwise: what was kept is the program's. */
    while (tf_pending && tf.mode != TF_LOOKS && tf.mode != TF_ARMS) {
        tf_pending = 0;
        tf.shm->pending = 0;
        uint64_t set = __atomic_exchange_n(&kept, 0, __ATOMIC_ACQ_REL);
        for (int sig = 1; sig <= 64; sig++) {
            if (!(set >> (sig - 1) & 1))
                continue;
            tf_log_put(TF_CALL_SIGNAL, 0, sig, &args, 8, NULL, 0); /* while recording; else it does nothing */
            deliver(sig);
        }
    }
}

bool tf_signal_restarts(unsigned nr)
{
    uint64_t set = kept;
    for (int sig = 1; sig <= 64; sig++)
        if ((set >> (sig - 1) & 1) && !(actions[sig].flags & SA_RESTART))
            return false;
    switch (nr) {
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_ioctl:
    case SYS_open:
    case SYS_openat:
    case SYS_flock:
    case SYS_fcntl:
    case SYS_futex:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_getrandom:
    case SYS_wait4:
    case SYS_waitid:
        return true;
    default: /* those that wait for a time, or for one of many things, never do */
        return false;
    }
}

static void on_nudge(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    (void)sig;
    (void)info;
    if (tf.mode != TF_RECORDS || !tf_pending || tf.inside || tf_in_engine(at))
        return;
    uint64_t set = __atomic_exchange_n(&kept, 0, __ATOMIC_ACQ_REL);
    tf_pending = 0;
    tf.shm->pending = 0;
    tf_barrier_in_loop("signal %d arrived in a loop without calls", __builtin_ctzl(set ? set : 1) + 1);
    for (int s = 1; s <= 64; s++)
        if (set >> (s - 1) & 1)
            deliver(s);
}

/* Installs a handler of the program's in front of the kernel. */
static long install(int sig, const struct tf_ksigaction *set)
{
    struct tf_ksigaction real = *set;
    if (set->handler == (void *)SIG_DFL && tf_fault_is_ours(sig))
        return tf_fault_install(sig);
    if (set->handler != (void *)SIG_DFL && set->handler != (void *)SIG_IGN) {
        real.handler = (void *)on_signal;
        real.flags |= SA_SIGINFO | TF_SA_RESTORER;
        if (!loosened)
            real.flags &= ~(unsigned long)SA_RESTART;
        if (programs_stack.ss_flags & SS_DISABLE)
            real.flags &= ~(unsigned long)SA_ONSTACK;
        real.restorer = tf_restorer;
        real.mask &= ~OURS;
    }
    return tf_sys(SYS_rt_sigaction, sig, &real, 0, 8);
}

void tf_signal_loose(void)
{
    loosened = true;
    for (int sig = 1; sig <= 64; sig++)
        if (tf_signal_has_handler(sig) && (actions[sig].flags & SA_RESTART) && !(OURS >> (sig - 1) & 1))
            install(sig, &actions[sig]);
}

void tf_signal_forked(void)
{
    uint64_t all = ~OURS;
    struct timespec now = {0, 0};
    tf.self_pending = 0;
    if (tf.mode == TF_REPLAYS) { /* the child begins with none; this process may have some */
        while (!TF_IS_ERR(tf_sys(SYS_rt_sigtimedwait, &all, 0, &now, 8)))
            ;
        return;
    }
    kept = 0;
    tf_pending = 0;
}

/* ---- a child in this memory ---- */

static struct tf_ksigaction lent[65];
static uint64_t lent_pending;

void tf_signal_lend(void)
{
    memcpy(lent, actions, sizeof actions);
    lent_pending = tf.self_pending;
}

void tf_signal_clear(void)
{
    for (int sig = 1; sig <= 64; sig++)
        if (tf_signal_has_handler(sig))
            actions[sig] = (struct tf_ksigaction){0};
}

void tf_signal_give_back(void)
{
    for (int sig = 1; sig <= 64; sig++) {
        bool differs = memcmp(&lent[sig], &actions[sig], sizeof lent[sig]) != 0;
        actions[sig] = lent[sig];
        /* The kernel has a table for each process; in replay, both are this one. */
        if (tf.mode == TF_REPLAYS && differs && !(OURS >> (sig - 1) & 1))
            install(sig, &actions[sig]);
    }
    tf.self_pending = lent_pending;
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
    } else {
        struct tf_ksigaction before = actions[sig];
        if (set) {
            actions[sig] = *set;
            if (!(OURS >> (sig - 1) & 1)) /* of those, the program only believes that it has them */
                r = install(sig, set);
            if (TF_IS_ERR(r))
                actions[sig] = before;
        }
        if (!TF_IS_ERR(r) && old)
            *old = before;
    }
    if (!e)
        tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
    else if (e->result != r)
        tf_diverge_result(e, r, "rt_sigaction(%d) gave %ld, in the recording it gave %ld", sig, r,
                          (long)e->result);
    return r;
}

/* Dispositions that were inherited (nohup ignores SIGHUP) are the first event of the log: the program asks
 * for them. */
void tf_signal_start(void)
{
    uint64_t state[2] = {0, 0};
    const stack_t own = {.ss_sp = fault_stack, .ss_size = sizeof fault_stack};
    tf_sys(SYS_sigaltstack, &own, 0);
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(TF_CALL_START, NULL, 0);
        if (e->data_len == sizeof state)
            memcpy(state, tf_outside_data(e), sizeof state);
        state[1] &= ~OURS;
        for (int sig = 1; sig <= 64; sig++) {
            struct tf_ksigaction real = {.handler =
                                             state[0] >> (sig - 1) & 1 ? (void *)SIG_IGN : (void *)SIG_DFL};
            actions[sig] = real;
            if (!(OURS >> (sig - 1) & 1))
                install(sig, &real);
        }
        tf_fault_start();
        tf_sys(SYS_rt_sigprocmask, SIG_SETMASK, &state[1], 0, 8);
        return;
    }
    for (int sig = 1; sig <= 64; sig++) {
        if (OURS >> (sig - 1) & 1)
            continue;
        tf_sys(SYS_rt_sigaction, sig, 0, &actions[sig], 8);
        if (actions[sig].handler == (void *)SIG_IGN)
            state[0] |= 1ul << (sig - 1);
    }
    tf_fault_start();
    struct tf_ksigaction nudge = {.handler = (void *)on_nudge,
                                  .flags = SA_SIGINFO | SA_RESTART | TF_SA_RESTORER,
                                  .restorer = tf_restorer};
    tf_sys(SYS_rt_sigaction, TF_NUDGE, &nudge, 0, 8);
    tf_sys(SYS_rt_sigprocmask, SIG_BLOCK, 0, &state[1], 8);
    uint64_t ours = OURS;
    tf_sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &ours, 0, 8);
    struct iovec data = {state, sizeof state};
    tf_log_put(TF_CALL_START, 0, 0, NULL, 0, &data, 1);
}

/* A signal that the program sent itself while it was blocked ends it when the mask opens: a mark behind the
 * call that opens it. */
static void ends_by_own_signal(uint64_t mask)
{
    uint64_t comes = tf.self_pending & ~mask;
    for (int sig = 1; sig <= 64; sig++) {
        uint8_t mark[48] = {TF_MARK_EXIT};
        if (!(comes >> (sig - 1) & 1) || !tf_signal_would_end(sig))
            continue;
        size_t n = (size_t)snprintf((char *)mark + 8, 40, "signal %d", sig);
        if (tf.mode == TF_REPLAYS) {
            tf_log_take(TF_CALL_MARK, mark, 8 + n);
            tf_replay_end();
        }
        tf_log_mark(TF_MARK_EXIT, (const char *)mark + 8);
        tf.mode = TF_LOOSE;
        return;
    }
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
    uint64_t before = *mask, keep = OURS | (1ul << (SIGKILL - 1)) | (1ul << (SIGSTOP - 1));
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
        tf_diverge_result(e, r, "rt_sigprocmask gave %ld, in the recording it gave %ld", r, (long)e->result);
    ends_by_own_signal(*mask);
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
    stack_t *old = (void *)call->a[1], before = programs_stack;
    uintptr_t sp = (uintptr_t)call->uc->uc_mcontext.gregs[REG_RSP];
    static uint8_t args_buf[128];
    size_t len = tf_args_encode(row, call, args_buf);
    const struct tf_outside *e = tf.mode == TF_REPLAYS ? tf_log_take(call->nr, args_buf, len) : NULL;
    long r = 0;

    if (!(before.ss_flags & SS_DISABLE) && sp - (uintptr_t)before.ss_sp <= before.ss_size)
        before.ss_flags |= SS_ONSTACK;
    if (set) {
        bool off = set->ss_flags & SS_DISABLE;
        const stack_t own = {.ss_sp = fault_stack, .ss_size = sizeof fault_stack};
        r = before.ss_flags & SS_ONSTACK ? -EPERM : tf_sys(SYS_sigaltstack, off ? &own : set, 0);
        if (!TF_IS_ERR(r)) {
            programs_stack = off ? (stack_t){.ss_flags = SS_DISABLE} : *set;
            call->uc->uc_stack = off ? own : *set; /* the trap's return would put the former one back */
            for (int sig = 1; sig <= 64; sig++)
                if (tf_signal_has_handler(sig) && (actions[sig].flags & SA_ONSTACK) &&
                    !(OURS >> (sig - 1) & 1))
                    install(sig, &actions[sig]);
        }
    }
    if (old && !TF_IS_ERR(r))
        *old = before;
    if (!e)
        tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
    else if (e->result != r)
        tf_diverge("sigaltstack gave %ld, in the recording it gave %ld", r, (long)e->result);
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
