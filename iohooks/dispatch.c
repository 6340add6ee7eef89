/*
 * dispatch.c: what becomes of a system call of the program. Every call comes here: trapped (trap.c) or
 * through a door (clock.c). Which of them are covered, and how, is said once, in calls.c.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include "iohooks/process.h"
#include "iohooks/special.h"

#define ERESTARTNOINTR 513      /* of raw.S: cut short before the kernel was entered */
#define WAITED_TICKS (1u << 17) /* some 50 microseconds: a call that waited for something */

#define CLASS_FAILS (-1) /* completing a light recording: it has the log's answer already */

/* A thread has one call at a time: no handler of the program runs inside a call (signal.c). */
#define args_buf (tf_self->args)
#define pieces (tf_self->pieces)

static void barrier(enum tf_mark kind, const char *fmt, va_list ap)
{
    char text[512];
    if (tf.mode != TF_RECORDS)
        return;
    if (!tf_turn_is_mine())
        tf_turn_take(false, TF_TURN_PLAIN);
    vsnprintf(text, sizeof text, fmt, ap);
    tf_log_mark(kind, text);
    tf_lease_drop_all();
    tf_signal_loose();
    tf_child_loose();
    tf_maps_loose();
    if (tf.mode == TF_RECORDS)
        tf.mode = tf_many ? TF_OFF : TF_LOOSE; /* frame events of several threads would have no order */
    tf_thread_untrap();
    if (tf.mode == TF_OFF)
        tf_emit_off();
}

void tf_barrier(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    barrier(TF_MARK_BARRIER, fmt, ap);
    va_end(ap);
}

void tf_barrier_in_loop(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    barrier(TF_MARK_LOOP, fmt, ap);
    va_end(ap);
}

long tf_true_call(const struct tf_call *call)
{
    uint64_t before = tf_tsc();
    bool shares = tf_many && !tf_child_borrows(), mine = shares && tf_turn_is_mine();
    bool keeps = tf_self->keeps;
    if (mine)
        tf_turn_release();
    if (shares)
        tf_turn_leave_for_call();
    long r =
        tf_raw_wait((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]);
    if (shares)
        tf_turn_back_from_call();
    if (mine)
        tf_turn_take_again();
    tf_self->keeps = keeps; /* in replay it is not given back here */
    uint64_t after = tf_tsc();
    if (after - before > WAITED_TICKS &&
        !tf_many) { /* or what passed here would be spread over the events around */
        tf_ring_stamp(before);
        tf.stamp_at = 0; /* and the next event gets one */
    }
    if (r == -ERESTARTNOINTR)
        return tf_signal_cuts(call) ? -EINTR : TF_RESTART;
    return r == -EINTR && tf_self->pending && tf_signal_restarts(call->nr) ? TF_RESTART : r;
}

/* What goes into the log for the arguments. In a copy of a recording a call that was under way is made again;
 * the kernel may have written to what it reads by then. */
static size_t encode(const struct tf_call_row *row, const struct tf_call *call)
{
    if (!tf_self->again)
        tf_self->args_len = tf_args_encode(row, call, args_buf);
    tf_self->again = false;
    return tf_self->args_len;
}

long tf_logged(const struct tf_call_row *row, struct tf_call *call)
{
    size_t len = encode(row, call);
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
        if (!tf_outs_restore(row, call, e->result, tf_outside_data(e), e->data_len))
            tf_diverge("%s was given other memory to write to than in the recording", row->name);
        if (call->nr == SYS_clock_gettime && call->a[1] && e->result == 0)
            tf.last_clock[(unsigned)call->a[0] % TF_CLOCKS] = *(struct timespec *)call->a[1];
        return e->result;
    }
    uint64_t scratch[4] = {0};
    size_t total;
    for (int i = 0; row->sig[i]; i++) /* how much room there is for a socket address or option */
        if ((row->sig[i] == 'a' || row->sig[i] == 'o') && call->a[i + 1])
            scratch[0] = *(uint32_t *)call->a[i + 1];
    long r = tf_true_call(call);
    int n = tf_outs(row, call, r, pieces, TF_PIECES_MAX, &total, scratch);
    tf_log_put(call->nr, 0, r, args_buf, len, pieces, n);
    return r;
}

/* Calls that tell the kernel something of the calling thread. */
static bool is_of_thread(unsigned nr)
{
    return nr == SYS_rseq || nr == SYS_set_robust_list;
}

/* A call that changes only this process: done in both modes, with the same outcome. */
long tf_run_again(const struct tf_call_row *row, struct tf_call *call)
{
    size_t len = tf_args_encode(row, call, args_buf);
    const struct tf_outside *e = NULL;
    if (tf.mode == TF_REPLAYS && !(tf.light && tf_derive_is_free(call->nr, args_buf, len))) {
        e = tf_log_take(call->nr, args_buf, len);
        /* What failed changed nothing, whatever limit it was that it met: it fails again without being tried.
         */
        if (TF_IS_ERR(e->result) || (call->nr == SYS_brk && e->result != call->a[0]))
            return e->result;
        if (is_of_thread(call->nr) && tf_self->number) { /* in replay it has no kernel thread */
            struct rseq *area = (struct rseq *)call->a[0];
            if (call->nr == SYS_rseq &&
                e->result == 0) /* libc looks there when the thread starts another one */
                area->cpu_id = call->a[2] & RSEQ_FLAG_UNREGISTER ? (uint32_t)RSEQ_CPU_ID_UNINITIALIZED : 0;
            return e->result;
        }
    }
    long r = tf_raw((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]);
    if (call->nr == SYS_rseq && r == 0)
        memcpy(tf_self->rseq, call->a, sizeof tf_self->rseq);
    if (!e)
        tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
    else if (r != e->result)
        tf_diverge_result(e, r, "%s gave %#lx, in the recording it gave %#lx", row->name, (unsigned long)r,
                          (unsigned long)e->result);
    return r;
}

static tf_special_fn special(unsigned nr)
{
    switch (nr) {
    case SYS_mmap:
        return tf_special_mmap;
    case SYS_munmap:
        return tf_special_munmap;
    case SYS_mremap:
        return tf_special_mremap;
    case SYS_mprotect:
        return tf_special_mprotect;
    case SYS_madvise:
        return tf_special_madvise;
    case SYS_mincore:
        return tf_special_mincore;
    case SYS_get_mempolicy:
        return tf_special_mempolicy;
    case SYS_move_pages:
        return tf_special_move_pages;
    case SYS_sendmsg:
    case SYS_sendmmsg:
        return tf_special_send;
    case SYS_recvmsg:
    case SYS_recvmmsg:
        return tf_special_receive;
    case SYS_pidfd_getfd:
        return tf_special_getfd;
    case SYS_name_to_handle_at:
        return tf_special_handle;
    case SYS_write:
    case SYS_writev:
        return tf_special_write;
    case SYS_close:
        return tf_special_close;
    case SYS_close_range:
        return tf_special_close_range;
    case SYS_dup:
    case SYS_dup2:
    case SYS_dup3:
        return tf_special_dup;
    case SYS_fcntl:
        return tf_special_fcntl;
    case SYS_ioctl:
        return tf_special_ioctl;
    case SYS_getdents64:
        return tf_special_getdents;
    case SYS_exit_group:
        return tf_special_exit;
    case SYS_kill:
    case SYS_tgkill:
    case SYS_tkill:
    case SYS_rt_sigqueueinfo:
    case SYS_rt_tgsigqueueinfo:
        return tf_special_kill;
    case SYS_prctl:
        return tf_special_prctl;
    case SYS_prlimit64:
    case SYS_getrlimit:
    case SYS_setrlimit:
        return tf_special_limit;
    case SYS_set_tid_address:
        return tf_special_settid;
    case SYS_rt_sigaction:
        return tf_special_sigaction;
    case SYS_rt_sigprocmask:
        return tf_special_sigprocmask;
    case SYS_rt_sigreturn:
        return tf_special_sigreturn;
    case SYS_rt_sigtimedwait:
        return tf_special_sigtimedwait;
    case SYS_rt_sigpending:
        return tf_special_sigpending;
    case SYS_sigaltstack:
        return tf_special_sigaltstack;
    case SYS_clone:
    case SYS_clone3:
    case SYS_fork:
    case SYS_vfork:
        return tf_special_child;
    case SYS_execve:
    case SYS_execveat:
        return tf_special_exec;
    default:
        return tf_special_thread_exit;
    }
}

static long uncovered(unsigned nr)
{
    char name[32];
    const char *text = tf_call_name(nr, name, sizeof name);
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_peek();
        if (e && e->call == TF_CALL_MARK)
            tf_log_take(nr, NULL, 0); /* reports the barrier */
        tf_diverge_from(&(struct tf_difference){.kind = TF_DIVERGED_STRAY, .call = nr, .event = e},
                        "the program called %s, which the recording does not have here", text);
    }
    tf_barrier("%s: this call is not covered yet", text);
    return TF_NATIVE;
}

/* While there are threads, how they wait for each other is not in the log (turn.c), only that they waited in
 * vain. */
static bool is_between_threads(unsigned nr)
{
    return tf_many && (nr == SYS_futex || nr == SYS_sched_yield);
}

static long between_threads(const struct tf_call *call)
{
    int command = (int)call->a[1] & FUTEX_CMD_MASK;
    bool waits = call->nr == SYS_futex && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET);
    if (tf.mode != TF_REPLAYS &&
        !waits) /* whether it is made depends on timing: it is no place for others to have the turn */
        return tf_sys(call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]);
    if (tf.mode == TF_REPLAYS && !waits)
        return tf_turn_futex(call);
    if (tf.mode == TF_REPLAYS) {
        bool mine = tf_turn_is_mine(), keeps = tf_self->keeps;
        if (mine)
            tf_turn_give_back();
        long r = tf_turn_futex(call);
        if (mine)
            tf_turn_take_again();
        tf_self->keeps = keeps;
        return r;
    }
    if (tf_turn_is_mine() && !call->a[3]) {
        /* A lock of libc's own, most likely, which a replay does not find taken: others must not have the
         * turn here, if it is not for one of them to open it. */
        const struct timespec shortly = {0, 20000000};
        long r = tf_sys(SYS_futex, call->a[0], FUTEX_WAIT | (call->a[1] & FUTEX_PRIVATE_FLAG), call->a[2],
                        &shortly);
        if (r != -ETIMEDOUT)
            return r == -EINTR ? 0 : r;
    }
    long r = tf_true_call(call);
    if (r != 0 && r != -EAGAIN)
        tf_log_put(call->nr, 0, r, NULL, 0, NULL, 0);
    return r;
}

/* Out of turn run calls that only ask or move data; what changes the process for all threads is done in turn.
 */
static bool needs_turn(const struct tf_call_row *row, unsigned nr)
{
    if (!tf_many || is_between_threads(nr))
        return false;
    if (!row || row->cls == TF_CLASS_NONE || row->cls == TF_CLASS_RUN)
        return true;
    return row->cls == TF_CLASS_SPECIAL && nr != SYS_write && nr != SYS_writev;
}

long tf_dispatch(struct tf_call *call)
{
    long r = TF_NATIVE;
    if (tf.mode == TF_OFF || tf.mode == TF_LOOSE)
        return call->uc ? TF_NATIVE
                        : tf_raw((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4],
                                 call->a[5]);
    if (tf.mode == TF_LOOKS)
        return tf_look(call);
    if (tf.mode == TF_ARMS &&
        (call->nr == SYS_clock_gettime || call->nr == SYS_gettimeofday || call->nr == SYS_time))
        return tf_look_clock(call); /* the interpreter asks when it takes a lock of its own */
    if (tf.mode == TF_ARMS)
        return tf_raw((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]);
    tf_self->inside++;
    if (tf_many && !tf_child_borrows()) {
        if (tf.mode == TF_RECORDS) {
            tf_self->call_copy = (struct tf_call_copy){
                call->nr, {call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]}};
            tf_self->call_inside = tf_self->inside;
            if (tf_context_save(
                    &tf_self->call_context)) { /* in a copy: as if it were called now, in replay */
                tf_self->inside = tf_self->call_inside;
                tf_self->again = true;
                call->nr = tf_self->call_copy.nr;
                memcpy(call->a, tf_self->call_copy.a, sizeof call->a);
            }
        }
    }
    const struct tf_call_row *row = call->nr < TF_CALL_ROWS ? &tf_call_rows[call->nr] : NULL;
    const bool had_turn = tf_turn_is_mine();
    if (needs_turn(row, call->nr) && !had_turn)
        tf_turn_take(false, TF_TURN_PLAIN);
    if (tf.mode == TF_REPLAYS && tf_child_borrows())
        tf_child_killed();
    if (call->nr == SYS_mmap || call->nr == SYS_munmap || call->nr == SYS_mremap || call->nr == SYS_brk)
        tf.maps++;
    tf_self->call = call;
    const bool fails = tf.mode == TF_REPLAYS && tf.light && row && row->sig && tf_derive_fails(row, call, &r);
    bool opened = tf.mode == TF_RECORDS && tf_lease_opened(call);
    if (opened || (tf.mode == TF_RECORDS && tf_maps_written(call))) {
        tf_barrier(opened
                       ? "%s of a file that is mapped, shared and writable: it can be changed in another way"
                       : "%s changes a file that is mapped: the change is seen in memory",
                   row->name);
        tf_self->inside--;
        tf_self->call = NULL;
        return TF_NATIVE; /* with the turn: nothing is recorded any more */
    }
    switch (fails ? CLASS_FAILS : is_between_threads(call->nr) || !row ? TF_CLASS_NONE : (int)row->cls) {
    case CLASS_FAILS:
        break;
    case TF_CLASS_LOG:
        r = tf_logged(row, call);
        break;
    case TF_CLASS_RUN:
        r = tf_run_again(row, call);
        break;
    case TF_CLASS_SPECIAL:
        r = special(call->nr)(row, call);
        break;
    default:
        r = is_between_threads(call->nr) ? between_threads(call) : uncovered(call->nr);
        break;
    }
    tf_self->call = NULL;
    tf_self->again = false;
    if (tf_many && !had_turn && tf_turn_is_mine() && !tf_self->has_gil && !tf_self->keeps &&
        !tf_self->natives && !tf_child_borrows())
        tf_turn_release();
    tf_self->inside--;
    if (tf.mode == TF_REPLAYS) {
        tf_fault_prepare();
        tf_stop_at_all();
        if (tf.light)
            tf_derive_end();
    }
    if (!is_between_threads(call->nr) || (r != 0 && r != -EAGAIN)) /* else it is not in the log */
        tf_signal_safe_point(TF_AFTER_CALL);
    tf_turn_expect_preempt();
    return r == TF_RESTART ? tf_dispatch(call) : r;
}
