/*
 * signal.c: the program's signal handlers. Each is installed behind a handler of our own, which the program
 * does not see.
 *
 * A fault (SIGSEGV and its kin, raised by the program's own instruction) comes at the same place in replay
 * and goes straight to the program's handler. Any other signal comes anywhere. It is kept, and given to the
 * program at the next place that a replay can find again: after the next frame event, or after the outside
 * call that the program is in, which is cut short for it as the kernel would have done. There it is logged,
 * and there the replay gives it again. One that the program sends itself is kept during that call, and given
 * right after it; one that was blocked, right after the call that lets it through.
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
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include "iohooks/ksignal.h"
#include "iohooks/special.h"
#include "iohooks/start.h"

#define args_buf (tf_self->args)

extern char tf_raw_wait_call[], tf_raw_wait_cut[];

/* What the program believes to have installed, by signal number. */
static struct tf_ksigaction actions[65];

/*
 * Signals that wait for a safe point are kept with the thread that they came to, in the order in which they
 * came. A handler may interrupt another one between taking its place and filling it, but none is at work at a
 * safe point: there all places are filled.
 */
static bool keep(int sig, const siginfo_t *info)
{
    uint64_t bit = 1ul << (sig - 1);
    if (sig < 32 && (__atomic_fetch_or(&tf_self->kept_set, bit, __ATOMIC_ACQ_REL) & bit))
        return true;
    if (tf_self->kept_tail - tf_self->kept_head >=
        TF_KEPT_MAX - 64) { /* as many as can interrupt each other here */
        tf_self->kept_lost++;
        return false;
    }
    uint32_t place = __atomic_fetch_add(&tf_self->kept_tail, 1, __ATOMIC_ACQ_REL);
    tf_self->kept[place % TF_KEPT_MAX] = *info;
    tf_self->kept[place % TF_KEPT_MAX].si_signo = sig;
    return true;
}

static bool take(siginfo_t *info)
{
    if (tf_self->kept_head == tf_self->kept_tail)
        return false;
    *info = tf_self->kept[tf_self->kept_head % TF_KEPT_MAX];
    __atomic_fetch_and(&tf_self->kept_set, ~(1ul << (info->si_signo - 1)), __ATOMIC_ACQ_REL);
    __atomic_fetch_add(&tf_self->kept_head, 1, __ATOMIC_ACQ_REL);
    return true;
}

/* The signals that are timefork's, as a mask: never blocked, never the program's. */
#define OURS ((1ul << (SIGSYS - 1)) | (1ul << (TF_NUDGE - 1)))

/* The alternate stack of the process. Also of a program that has a small one: each call in a handler takes a
 * signal frame (3 kB with AVX-512), and signals are given in calls. */
static char fault_stack[262144] __attribute__((aligned(16)));
#define SMALL_STACK 131072
static stack_t kernels_stack; /* what the kernel has */
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
    return sig == tf_self->delivering && info->si_code == SI_TKILL && info->si_pid == tf_sys(SYS_getpid);
}

/*
 * The kernel gives a signal for the process to the main thread if that lets it through. But it may be taken
 * by any thread that returns to its program meanwhile, and under timefork threads do so at each call: they
 * pass it on.
 */
#define PASSED_ON (-100) /* si_code; si_errno is the true one */
static bool is_mains(int sig, const siginfo_t *info)
{
    const struct tf_thread *main = tf_many && tf_self->place ? tf_thread_at(0) : NULL;
    return main && info->si_code != SI_TKILL && !(main->mask >> (sig - 1) & 1);
}

static void ask_for_safe_point(void)
{
    tf_self->pending = 1;
    __atomic_store_n(&tf.shm->pending, 1, __ATOMIC_RELEASE);
    tf.limit = tf.ring; /* the next event takes the slow path */
}

/* It came while the program let it through: in ppoll() or sigsuspend() perhaps, with another mask than now.
 */
static void deliver(const siginfo_t *info)
{
    int sig = info->si_signo;
    uint64_t bit = 1ul << (sig - 1), before = 0;
    tf_self->given_signal = *info;
    tf_self->delivering = sig;
    tf_sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &bit, &before, 8);
    tf_signal_to_self(sig, SI_TKILL);
    if (before & bit)
        tf_sys(SYS_rt_sigprocmask, SIG_BLOCK, &bit, 0, 8);
    tf_self->delivering = 0;
}

/* The program is in a loop without events: what was kept is given to it where it is. */
static void give_in_loop(void)
{
    siginfo_t info;
    if (!take(&info))
        return;
    tf_self->pending = 0;
    tf.shm->pending = 0;
    tf_barrier_in_loop("signal %d arrived in a loop without calls", info.si_signo);
    do
        deliver(&info);
    while (take(&info));
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    if (tf_fault_is_counter(sig, info, uc))
        return;
    greg_t *pc = &uc->uc_mcontext.gregs[REG_RIP];
    if (is_fault(sig, info) && (tf_fault_while_arming(sig) || tf_fault_of_page(sig, info, uc)))
        return;
    if (is_delivery(sig, info)) {
        siginfo_t as_it_came = tf_self->given_signal;
        tf_self->delivering = 0; /* the handler may send itself the same one (faulthandler's chain) */
        call_handler(sig, &as_it_came, context);
        return;
    }
    if (tf.mode != TF_RECORDS || tf_child_borrows() || is_fault(sig, info)) {
        call_handler(sig, info, context);
        return;
    }
    siginfo_t as_it_came = *info;
    if (info->si_code == PASSED_ON) {
        as_it_came.si_code = info->si_errno;
        as_it_came.si_errno = 0;
    } else if (is_mains(sig, info)) {
        as_it_came.si_code =
            PASSED_ON; /* a thread may not say that it comes from elsewhere (rt_tgsigqueueinfo(2)) */
        as_it_came.si_errno = info->si_code;
        if (!TF_IS_ERR(
                tf_sys(SYS_rt_tgsigqueueinfo, tf_sys(SYS_getpid), tf_thread_at(0)->tid, sig, &as_it_came)))
            return;
        as_it_came = *info;
    }
    keep(sig, &as_it_came);
    ask_for_safe_point();
    if (*pc >= (greg_t)tf_raw_wait && *pc <= (greg_t)tf_raw_wait_call)
        *pc = (greg_t)tf_raw_wait_cut; /* the program's call has not begun: it must not wait now */
    else if (!tf_self->inside && !tf_in_engine((uintptr_t)*pc) && tf_supervisor_lost())
        give_in_loop(); /* nobody will send a nudge */
}

/*
 * Not kill or tgkill, which reach anyone: for these codes (SI_TKILL, and those that the kernel gives itself)
 * rt_tgsigqueueinfo(2) is refused unless the signal is for the caller's own process.
 */
void tf_signal_to_self(int sig, int code)
{
    long self = tf_sys(SYS_getpid);
    siginfo_t info = {.si_signo = sig, .si_code = code};
    info.si_pid = (pid_t)self;
    info.si_uid = (uid_t)tf_sys(SYS_getuid);
    tf_sys(SYS_rt_tgsigqueueinfo, self, tf_sys(SYS_gettid), sig, &info);
}

static const struct tf_outside *next_signal(void)
{
    const struct tf_outside *e = tf_log_peek();
    return e && e->call == TF_CALL_SIGNAL ? e : NULL;
}

void tf_signal_safe_point(enum tf_moment moment)
{
    uint64_t args = moment == TF_AFTER_TURN ? moment | tf_turn_silent() << 8 : moment;
    siginfo_t info;
    if (tf_self->inside)
        return;
    if (tf.mode == TF_REPLAYS) {
        for (const struct tf_outside *e; (e = next_signal()) && tf_log_is_here(e);) {
            if (e->args_len != 8 || memcmp(tf_outside_args(e), &args, 8) != 0)
                break;
            tf_log_take(TF_CALL_SIGNAL, &args, 8);
            if (e->result < 1 || e->result > 64 || e->data_len != sizeof info)
                tf_diverge("the log entry of a signal is damaged");
            memcpy(&info, tf_outside_data(e), sizeof info);
            info.si_signo = (int)e->result;
            deliver(&info);
            tf_fault_prepare();
        }
        return;
    }
    /* Also when recording has just ended, at a barrier or otherwise: what was kept is the program's. */
    while (tf_self->pending && tf.mode != TF_LOOKS && tf.mode != TF_ARMS) {
        tf_self->pending = 0;
        tf.shm->pending = 0;
        if (tf_lease_broken())
            tf_barrier_in_loop("another process opens a file that is mapped, shared and writable");
        if (tf_self->kept_lost)
            tf_barrier("more signals were queued than are kept: %u are lost", tf_self->kept_lost);
        tf_self->kept_lost = 0;
        while (take(&info)) { /* once recording has ended, putting does nothing */
            struct iovec data = {&info, sizeof info};
            tf_log_put(TF_CALL_SIGNAL, 0, info.si_signo, &args, 8, &data, 1);
            deliver(&info);
        }
    }
}

bool tf_signal_restarts(unsigned nr)
{
    for (uint32_t i = tf_self->kept_head; i != tf_self->kept_tail; i++)
        if (!(actions[tf_self->kept[i % TF_KEPT_MAX].si_signo].flags & SA_RESTART))
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
    case SYS_recvmmsg:
    case SYS_sendmmsg:
    case SYS_sendfile:
    case SYS_splice:
    case SYS_tee:
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
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

/*
 * A program that looks at its signals before it waits would have seen this one: it must not wait now. But who
 * could not have got EINTR may not know what to do with it: a read of a file, a connect() that has not begun.
 */
bool tf_signal_cuts(const struct tf_call *call)
{
    struct stat st;
    switch (call->nr) {
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_rt_sigtimedwait:
        return true;
    case SYS_wait4:
    case SYS_waitid:
        return !tf_signal_restarts(call->nr);
    case SYS_clock_nanosleep: /* with a duration, the kernel would have said how much is left */
        return call->a[1] & TIMER_ABSTIME;
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
        return !tf_signal_restarts(call->nr) && !TF_IS_ERR(tf_sys(SYS_fstat, call->a[0], &st)) &&
               (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode));
    case SYS_futex:
        if ((call->a[1] & FUTEX_CMD_MASK) != FUTEX_WAIT && (call->a[1] & FUTEX_CMD_MASK) != FUTEX_WAIT_BITSET)
            return false;
        __attribute__((fallthrough));
    case SYS_accept:
    case SYS_accept4:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_recvmmsg:
    case SYS_sendmmsg:
    case SYS_mq_timedsend:
    case SYS_mq_timedreceive:
    case SYS_flock:
        return !tf_signal_restarts(call->nr);
    default:
        return false;
    }
}

static void on_nudge(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    (void)sig;
    (void)info;
    if (tf.mode != TF_RECORDS)
        return;
    if (tf_lease_broken()) { /* who wants to open it waits until the lease is given back */
        bool waits = tf_self->inside && at >= (uintptr_t)tf_raw_wait_call && at < (uintptr_t)tf_raw_wait_cut;
        if (waits)
            tf_barrier("another process opens a file that is mapped, shared and writable");
        else if (!tf_self->inside && !tf_in_engine(at))
            tf_barrier_in_loop("another process opens a file that is mapped, shared and writable");
        else
            ask_for_safe_point();
        return;
    }
    if (tf_self->pending && !tf_self->inside && !tf_in_engine(at))
        give_in_loop();
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
    tf_self->kept_head = tf_self->kept_tail;
    tf_self->kept_set = 0;
    tf_self->kept_lost = 0;
    tf_self->pending = 0;
}

/* ---- a child in this memory ---- */

static struct tf_ksigaction lent[65];

void tf_signal_lend(void)
{
    memcpy(lent, actions, sizeof actions);
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
}

/* Both modes keep the same table and tell the kernel the same; nothing but the order of calls needs the log.
 */
TF_SPECIAL(sigaction)
{
    int sig = (int)call->a[0];
    const struct tf_ksigaction *set = (void *)call->a[1];
    struct tf_ksigaction *old = (void *)call->a[2];
    struct tf_call logged = *call;
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
    kernels_stack = own;
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
        tf_self->mask = state[1];
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
    tf_self->mask = state[1] & ~OURS;
    struct iovec data = {state, sizeof state};
    tf_log_put(TF_CALL_START, 0, 0, NULL, 0, &data, 1);
}

/*
 * Signals that had been blocked come before the call returns: they are given to the program right after it.
 * One that ends the process is a mark behind the call.
 */
static void let_through(uint64_t opened)
{
    uint64_t waiting = 0;
    struct timespec now = {0, 0};
    siginfo_t info;
    char text[32];
    tf_sys(SYS_rt_sigpending, &waiting, 8);
    for (int sig = 1; sig <= 64; sig++) {
        uint64_t bit = 1ul << (sig - 1);
        if (!(waiting & opened & bit) || (OURS & bit))
            continue;
        if (tf_signal_would_end(sig)) {
            snprintf(text, sizeof text, "signal %d", sig);
            tf_log_mark(TF_MARK_EXIT, text);
            tf.mode = TF_LOOSE;
            return;
        }
        while (tf_signal_has_handler(sig) && tf_sys(SYS_rt_sigtimedwait, &bit, &info, &now, 8) == sig) {
            keep(sig, &info);
            tf_self->pending = 1;
        }
    }
}

/* Replay: did the call let one through that ended the process? */
static void ends_here(uint64_t opened)
{
    const struct tf_outside *e = tf_log_peek();
    for (int sig = 1; sig <= 64 && e && e->call == TF_CALL_MARK; sig++) {
        uint8_t mark[48] = {TF_MARK_EXIT};
        size_t n = (size_t)snprintf((char *)mark + 8, 40, "signal %d", sig);
        if (!(opened >> (sig - 1) & 1) || e->args_len != 8 + n ||
            memcmp(tf_outside_args(e), mark, 8 + n) != 0)
            continue;
        tf_log_take(TF_CALL_MARK, mark, 8 + n);
        tf_replay_end();
    }
}

/* The mask to change is that of the interrupted context: the kernel restores it when the trap returns. SIGSYS
 * stays open, for a blocked one would end the process at its next call. */
TF_SPECIAL(sigprocmask)
{
    int how = (int)call->a[0];
    const uint64_t *set = (void *)call->a[1];
    uint64_t *old = (void *)call->a[2];
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
    tf_self->mask = *mask;
    if (!e) {
        tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
        if ((before & ~*mask) && !tf_child_borrows())
            let_through(before & ~*mask);
    } else if (e->result != r) {
        tf_diverge_result(e, r, "rt_sigprocmask gave %ld, in the recording it gave %ld", r, (long)e->result);
    } else if (before & ~*mask) {
        ends_here(before & ~*mask);
    }
    return r;
}

/* Only handlers that were installed before timefork came return through here; ours have tf_restorer. */
TF_SPECIAL(sigreturn)
{
    (void)row;
    tf_self->inside--;
    tf_sigreturn_at((void *)call->uc->uc_mcontext.gregs[REG_RSP]);
}

TF_SPECIAL(sigaltstack)
{
    const stack_t *set = (void *)call->a[0];
    stack_t *old = (void *)call->a[1], before = programs_stack;
    uintptr_t sp = (uintptr_t)call->uc->uc_mcontext.gregs[REG_RSP];
    size_t len = tf_args_encode(row, call, args_buf);
    const struct tf_outside *e = tf.mode == TF_REPLAYS ? tf_log_take(call->nr, args_buf, len) : NULL;
    long r = 0;

    if (!(before.ss_flags & SS_DISABLE) && sp - (uintptr_t)kernels_stack.ss_sp <= kernels_stack.ss_size)
        before.ss_flags |= SS_ONSTACK;
    if (set) {
        bool off = set->ss_flags & SS_DISABLE;
        const stack_t own = {.ss_sp = fault_stack, .ss_size = sizeof fault_stack};
        const stack_t *real = off || set->ss_size < SMALL_STACK ? &own : set;
        r = before.ss_flags & SS_ONSTACK ? -EPERM : tf_sys(SYS_sigaltstack, off ? &own : set, 0);
        if (!TF_IS_ERR(r) && real != set) /* the kernel has judged what the program wants */
            r = tf_sys(SYS_sigaltstack, &own, 0);
        if (!TF_IS_ERR(r)) {
            kernels_stack = *real;
            programs_stack = off ? (stack_t){.ss_flags = SS_DISABLE} : *set;
            call->uc->uc_stack = *real; /* the trap's return would put the former one back */
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

/* Signals that are timefork's are not taken from it. */
TF_SPECIAL(sigtimedwait)
{
    struct tf_call waits = *call;
    uint64_t set;
    siginfo_t *info = (void *)call->a[1];
    if (tf.mode == TF_REPLAYS || !tf_readable((void *)call->a[0]))
        return tf_logged(row, call);
    size_t len = tf_args_encode(row, call, args_buf);
    set = *(uint64_t *)call->a[0] & ~OURS;
    waits.a[0] = (long)&set;
    long r = tf_true_call(&waits);
    struct iovec data = {info, sizeof *info};
    tf_log_put(call->nr, 0, r, args_buf, len, &data, info && !TF_IS_ERR(r));
    return r;
}

TF_SPECIAL(sigpending)
{
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
