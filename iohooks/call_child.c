/*
 * call_child.c: calls that make another process, or make this one another program.
 *
 * fork (a child with a memory of its own). While recording, the supervisor first takes everything that the
 * parent has written, and gives a ring for the child; the child writes there what it does, beginning with the
 * fork's result 0. In replay no process is started. The parent's log has the child's pid; the log of a replay
 * that follows the child has 0 there: the replaying process goes on as the child, whose past is its own.
 *
 * vfork and its like (CLONE_VM and CLONE_VFORK: subprocess, posix_spawn, system, popen). The child runs in
 * the memory of its parent, which waits until the child has become another program or ended. What it does to
 * that memory stays: posix_spawn reports errors that way. So the child's calls are logged in the parent's
 * stream, and in replay the same process runs the child's part, up to where it ended, and then goes on as the
 * parent: with the registers that the parent had, in the memory that the child left.
 *
 *   log: clone = 0, the child's calls, execve = 0 or exit_group, clone = pid
 *
 * While recording, the parent waits on a stack of timefork's: the child may use the program's from where the
 * parent stands.
 *
 * execve: a mark, written before the call, is the end of the process's log; if the call failed, its result
 * follows. With `record --follow` the environment of the new program gets what it takes to be recorded.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "iohooks/ksignal.h"
#include "iohooks/special.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ull
#endif

extern char **environ;

#define args_buf (tf_self->args)

/* What is to be born, whichever call says it. */
struct birth {
    uint64_t flags; /* CLONE_..., without the signal */
    uint64_t signal, stack, stack_size, tls;
    int *parent_tid, *child_tid, *pidfd;
    struct clone_args args; /* of clone3 */
};

static bool read_birth(const struct tf_call *call, struct birth *b)
{
    *b = (struct birth){0};
    switch (call->nr) {
    case SYS_fork:
        b->signal = SIGCHLD;
        return true;
    case SYS_vfork:
        b->flags = CLONE_VM | CLONE_VFORK;
        b->signal = SIGCHLD;
        return true;
    case SYS_clone:
        b->flags = (uint64_t)call->a[0] & ~0xffull;
        b->signal = (uint64_t)call->a[0] & 0xff;
        b->stack = (uint64_t)call->a[1];
        b->parent_tid = (int *)call->a[2];
        b->pidfd = b->parent_tid;
        b->child_tid = (int *)call->a[3];
        b->tls = (uint64_t)call->a[4];
        return true;
    default: { /* clone3 */
        size_t size = (size_t)call->a[1];
        if ((uintptr_t)call->a[0] < 4096 || size < CLONE_ARGS_SIZE_VER0)
            return false;
        memcpy(&b->args, (void *)call->a[0], size < sizeof b->args ? size : sizeof b->args);
        b->flags = b->args.flags;
        b->signal = b->args.exit_signal;
        b->stack = b->args.stack;
        b->stack_size = b->args.stack_size;
        b->tls = b->args.tls;
        b->parent_tid = (int *)b->args.parent_tid;
        b->child_tid = (int *)b->args.child_tid;
        b->pidfd = (int *)b->args.pidfd;
        return true;
    }
    }
}

/* Compared: what kind of child is wanted. Where its stack is does not matter. */
static size_t encode(const struct tf_call_row *row, const struct tf_call *call, const struct birth *b)
{
    struct tf_call plain = *call;
    plain.a[0] = (long)(b->flags | b->signal);
    return tf_args_encode(row, &plain, args_buf);
}

static long not_covered(const struct tf_call_row *row, struct tf_call *call, const char *why)
{
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_peek();
        if (e && e->call == TF_CALL_MARK)
            tf_log_take(call->nr, NULL, 0);
        tf_diverge_from(&(struct tf_difference){.kind = TF_DIVERGED_STRAY, .call = call->nr, .event = e},
                        "the program called %s, which the recording does not have here", row->name);
    }
    tf_barrier("%s: %s", row->name, why);
    return TF_NATIVE;
}

/* ---- what the kernel writes into the memory of the parent ---- */

struct written {
    int32_t tid, pidfd;
};

static struct written written_of(const struct birth *b)
{
    struct written w = {0};
    if ((b->flags & CLONE_PARENT_SETTID) && b->parent_tid)
        w.tid = *b->parent_tid;
    if ((b->flags & CLONE_PIDFD) && b->pidfd)
        w.pidfd = *b->pidfd;
    return w;
}

static void write_again(const struct birth *b, const struct tf_outside *e)
{
    struct written w = {0};
    if (e->data_len != sizeof w || e->result < 0)
        return;
    memcpy(&w, tf_outside_data(e), sizeof w);
    if ((b->flags & CLONE_PARENT_SETTID) && b->parent_tid)
        *b->parent_tid = w.tid;
    if ((b->flags & CLONE_PIDFD) && b->pidfd)
        *b->pidfd = w.pidfd;
}

static void put_birth(const struct tf_call *call, const struct birth *b, size_t args_len, long result)
{
    struct written w = written_of(b);
    struct iovec data = {&w, sizeof w};
    tf_log_put(call->nr, 0, result, args_buf, args_len, &data, result >= 0);
}

/* ---- fork ---- */

/* In the child, before it does anything: from here on it writes to its own ring. */
static void join_as_child(int shm, int socket)
{
    if (shm >= 0 && tf_join_child(shm, socket)) {
        tf_trap_on(); /* not inherited */
        return;
    }
    tf_make_plain();
    tf_emit_off();
}

/* Asks the supervisor for what the child needs; the program may have used up its descriptors. -1: the child
 * will not be recorded; sockets[0] is -1 if the supervisor does not know yet. */
static int ask(int sockets[2])
{
    struct rlimit files = {0, 0}, raised;
    int shm = -1;
    if (tf.socket < 0)
        return -1;
    tf_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &files);
    raised = files;
    raised.rlim_cur = files.rlim_max;
    tf_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised, 0);
    if (!TF_IS_ERR(tf_sys(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)))
        shm = tf_ask_fork(sockets[0]);
    tf_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, 0);
    return shm;
}

static struct tf_range wiped[TF_MAPS_MAX];

static long fork_recorded(struct tf_call *call, const struct birth *b, size_t len)
{
    int sockets[2] = {-1, -1}, shm = ask(sockets);
    long pid = tf_raw((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]);
    if (pid == 0) {
        int32_t own = (int32_t)tf_sys(SYS_getpid);
        int n = tf_maps_wipe(wiped);
        tf_thread_forked();
        tf_signal_forked();
        if (sockets[0] >= 0)
            tf_sys(SYS_close, sockets[0]);
        join_as_child(shm, sockets[1]);
        struct iovec data[2] = {{&own, sizeof own}, {wiped, (size_t)n * sizeof *wiped}};
        tf_log_put(call->nr, 0, 0, args_buf, len, data, 2); /* nothing, when it is not recorded */
        return 0;
    }
    for (int i = 0; i < 2; i++)
        if (sockets[i] >= 0)
            tf_sys(SYS_close, sockets[i]);
    if (shm >= 0)
        tf_sys(SYS_close, shm);
    if (sockets[0] < 0 && !TF_IS_ERR(pid))
        tf_say_left_out((uint32_t)pid);
    put_birth(call, b, len, pid);
    return pid;
}

/* Replay, in the child: what the recorded one had as zeros. */
static void wipe_again(const uint8_t *ranges, size_t len)
{
    struct tf_range range;
    for (; len >= sizeof range; ranges += sizeof range, len -= sizeof range) {
        memcpy(&range, ranges, sizeof range);
        long r = tf_sys(SYS_madvise, range.from, range.len, MADV_DONTNEED);
        if (TF_IS_ERR(r))
            tf_diverge("memory at %#lx, which a forked child has as zeros, cannot be wiped (%s)",
                       (unsigned long)range.from, strerrorname_np((int)-r));
    }
    if (len)
        tf_diverge("the log entry of this fork is damaged");
}

static long fork_replayed(const struct tf_call *call, const struct birth *b, size_t len)
{
    const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
    int32_t own;
    if (e->result != 0) {
        write_again(b, e);
        return e->result;
    }
    if (e->data_len >= sizeof own) {
        memcpy(&own, tf_outside_data(e), sizeof own);
        wipe_again(tf_outside_data(e) + sizeof own, e->data_len - sizeof own);
        tf.forked_pid = (uint32_t)own;
        if ((b->flags & CLONE_CHILD_SETTID) && b->child_tid)
            *b->child_tid = own;
    }
    tf_thread_forked();
    tf_signal_forked();
    return 0;
}

/* ---- a child in the memory of its parent ---- */

#define FP_MAX 16384 /* bytes of floating point state in a signal frame; 2.7 kB with AVX-512 */
static struct {
    bool active;
    struct tf_call call;
    const struct tf_call_row *row;
    struct birth birth;
    uint8_t args[64]; /* of the birth, encoded */
    size_t args_len;
    ucontext_t parent, child;
    uint32_t inside;
    uint32_t std_fds[32], err_fds[32];
    bool moved;
    /* the execve that the child is in */
    bool tries;
    unsigned exec_nr;
    size_t exec_len;
    uint8_t exec_args[TF_ARGS_MAX];
} borrowed;
static uint8_t parent_fp[FP_MAX] __attribute__((aligned(64)));
static uint8_t parent_stack[32768] __attribute__((aligned(64)));
static uint8_t child_stack[32768] __attribute__((aligned(64)));

/* Bytes of the floating point state of a signal frame (struct _fpx_sw_bytes of the kernel's uapi). */
static size_t fp_size(const void *fp)
{
    struct {
        uint32_t magic, extended_size;
    } sw;
    memcpy(&sw, (const uint8_t *)fp + 464, sizeof sw);
    return sw.magic == 0x46505853u ? sw.extended_size : 512;
}

static bool save_parent(const struct tf_call *call)
{
    size_t size = fp_size(call->uc->uc_mcontext.fpregs);
    if (size > sizeof parent_fp)
        return false;
    borrowed.parent = *call->uc;
    memcpy(parent_fp, call->uc->uc_mcontext.fpregs, size);
    borrowed.parent.uc_mcontext.fpregs = (void *)parent_fp;
    borrowed.inside = tf_self->inside;
    memcpy(borrowed.std_fds, tf.std_fds, sizeof tf.std_fds);
    memcpy(borrowed.err_fds, tf.err_fds, sizeof tf.err_fds);
    borrowed.moved = tf.moved;
    borrowed.tries = false;
    borrowed.active = true;
    tf_signal_lend();
    return true;
}

/* Goes to where the child begins: behind the call, on the stack that it was given. */
static void __attribute__((noreturn)) run_child(void)
{
    borrowed.child = borrowed.parent;
    greg_t *regs = borrowed.child.uc_mcontext.gregs;
    regs[REG_RAX] = 0;
    if (borrowed.birth.stack)
        regs[REG_RSP] = (greg_t)(borrowed.birth.stack + borrowed.birth.stack_size);
    if (borrowed.birth.flags & CLONE_CLEAR_SIGHAND)
        tf_signal_clear();
    tf_self->inside = borrowed.inside - 1;
    tf_sigreturn_at(&borrowed.child);
}

/* The parent goes on, as after any call. */
static void __attribute__((noreturn)) run_parent(long pid)
{
    borrowed.active = false;
    memcpy(tf.std_fds, borrowed.std_fds, sizeof tf.std_fds);
    memcpy(tf.err_fds, borrowed.err_fds, sizeof tf.err_fds);
    tf.moved = borrowed.moved;
    tf_signal_give_back();
    tf_self->inside = borrowed.inside - 1;
    borrowed.parent.uc_mcontext.gregs[REG_RAX] = pid;
    tf_sigreturn_at(&borrowed.parent);
}

/* Record, in the child's process: its first instruction. */
static void child_begins(void)
{
    tf_trap_install(); /* its handlers may have been cleared */
    tf_trap_on();
    tf_log_put(borrowed.call.nr, 0, 0, borrowed.args, borrowed.args_len, NULL, 0);
    run_child();
}

/* Record, in the parent's process, on a stack of its own. */
static void parent_waits(void)
{
    struct tf_call *call = &borrowed.call;
    struct birth *b = &borrowed.birth;
    uint64_t top = (uint64_t)(child_stack + sizeof child_stack);
    long pid;
    if (call->nr == SYS_clone3) {
        struct clone_args args = b->args;
        args.stack = (uint64_t)child_stack;
        args.stack_size = sizeof child_stack;
        pid = tf_raw_birth(call->nr, (long)&args, (long)sizeof args, 0, 0, 0, child_begins);
    } else {
        pid = tf_raw_birth(SYS_clone, (long)(b->flags | b->signal), (long)top,
                           call->nr == SYS_clone ? call->a[2] : 0, call->nr == SYS_clone ? call->a[3] : 0,
                           call->nr == SYS_clone ? call->a[4] : 0, child_begins);
    }
    if (tf.mode == TF_RECORDS) { /* and not: the child did something that is not covered */
        struct written w = written_of(b);
        struct iovec data = {&w, sizeof w};
        if (!TF_IS_ERR(pid) && borrowed.tries)
            tf_log_put(borrowed.exec_nr, 0, 0, borrowed.exec_args, borrowed.exec_len, NULL, 0);
        tf_log_put(call->nr, 0, pid, borrowed.args, borrowed.args_len, &data, !TF_IS_ERR(pid));
    }
    run_parent(pid);
}

/* Replay: the child has ended; the next thing in the log is the parent's. */
static void __attribute__((noreturn)) borrowed_ends(void)
{
    const struct tf_outside *e = tf_log_take(borrowed.call.nr, borrowed.args, borrowed.args_len);
    write_again(&borrowed.birth, e);
    run_parent(e->result);
}

bool tf_child_borrows(void)
{
    return borrowed.active;
}

void tf_child_killed(void)
{
    const struct tf_outside *e = tf_log_peek();
    if (e && e->call == borrowed.call.nr && e->result > 0 && tf_log_is_here(e))
        borrowed_ends();
}

static long lend(const struct tf_call_row *row, struct tf_call *call, const struct birth *b, size_t len)
{
    if (borrowed.active)
        return not_covered(row, call, "a child that runs in its parent's memory starts a process");
    if (len > sizeof borrowed.args || !call->uc)
        return not_covered(row, call, "a call of this kind");
    borrowed.call = *call;
    borrowed.row = row;
    borrowed.birth = *b;
    memcpy(borrowed.args, args_buf, len);
    borrowed.args_len = len;
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
        if (TF_IS_ERR(e->result))
            return e->result;
        if (e->result != 0)
            tf_diverge("the log entry of this %s is damaged", row->name);
        if (!save_parent(call))
            tf_diverge("this processor's registers take more room than the recording's");
        run_child();
    }
    if (!save_parent(call))
        return not_covered(row, call, "this processor's registers take too much room");
    tf_on_stack(parent_waits, parent_stack + sizeof parent_stack);
}

TF_SPECIAL(child)
{
    struct birth b;
    if (!read_birth(call, &b))
        return tf_logged(row, call); /* the kernel refuses it */
    size_t len = encode(row, call, &b);
    if (b.flags & CLONE_THREAD) {
        if (borrowed.active || !call->uc ||
            (b.flags & (CLONE_VM | CLONE_SETTLS)) != (CLONE_VM | CLONE_SETTLS))
            return not_covered(row, call, "a thread that is not made as libc makes them");
        return tf_thread_clone(call,
                               &(struct tf_thread_birth){.flags = b.flags | b.signal,
                                                         .stack = b.stack,
                                                         .stack_size = b.stack_size,
                                                         .tls = b.tls,
                                                         .parent_tid = b.parent_tid,
                                                         .child_tid = b.child_tid},
                               len);
    }
    uint64_t plain = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | CLONE_PIDFD |
                     CLONE_CLEAR_SIGHAND | CLONE_VFORK | CLONE_VM | CLONE_SETTLS | CLONE_UNTRACED |
                     CLONE_DETACHED;
    if ((b.flags & ~plain) || (b.flags & CLONE_VM && !(b.flags & CLONE_VFORK)) ||
        (call->nr == SYS_clone3 && (b.args.set_tid_size || b.args.cgroup)))
        return not_covered(row, call, "a child that shares more with its parent, or less, than after fork");
    if (b.flags & CLONE_VM)
        return lend(row, call, &b, len);
    if (borrowed.active || b.stack || (b.flags & CLONE_SETTLS))
        return not_covered(row, call, "a child with a stack of its own");
    if (tf.mode == TF_REPLAYS)
        return fork_replayed(call, &b, len);
    if (tf_maps_shared())
        return not_covered(row, call, "the child shares memory with its parent, and either can change it");
    if (tf.fork_differs)
        return not_covered(row, call, "the child does not get all memory of its parent (madvise)");
    tf_maps_pass(false);
    return fork_recorded(call, &b, len);
}

/* ---- becoming another program ---- */

/* The environment of a program that is to be recorded: the program's, with ours in front. */
#define ENV_MAX 32768
static char *new_env[ENV_MAX];
static char preload[PATH_MAX * 2], session[128];

static char **follow_env(char **envp)
{
    size_t n = 0;
    const char *others = "";
    if (!tf.follow[0])
        return envp;
    snprintf(session, sizeof session, "%s=%s", TF_ENV, tf.follow);
    new_env[n++] = session;
    new_env[n++] = preload;
    for (char **e = envp; e && *e; e++) {
        if (n >= ENV_MAX - 1)
            return envp; /* not recorded, then */
        if (strncmp(*e, "LD_PRELOAD=", 11) == 0)
            others = *e + 11;
        else if (strncmp(*e, TF_ENV "=", sizeof TF_ENV) != 0)
            new_env[n++] = *e;
    }
    new_env[n] = NULL;
    int len =
        snprintf(preload, sizeof preload, "LD_PRELOAD=%s%s%s", tf_own_path(), *others ? ":" : "", others);
    return len < (int)sizeof preload ? new_env : envp;
}

void tf_child_loose(void)
{
    if (tf.follow[0] && environ)
        environ = follow_env(environ);
}

/* As without timefork: the stack limit, and randomised addresses. With --follow, as timefork executes a
 * program. */
struct altered {
    struct rlimit stack;
    long persona;
};

static void set_for_exec(struct altered *before)
{
    struct rlimit stack;
    tf_sys(SYS_prlimit64, 0, RLIMIT_STACK, 0, &before->stack);
    before->persona = tf_sys(SYS_personality, 0xffffffffu);
    stack = before->stack;
    if (tf.follow[0]) {
        if (stack.rlim_cur == TF_STACK && tf.own_stack_limit == TF_STACK && stack.rlim_max >= TF_STACK_EXEC)
            stack.rlim_cur = TF_STACK_EXEC;
    } else if (tf.shm->stack_limit && stack.rlim_cur == tf.own_stack_limit) {
        stack.rlim_cur = tf.shm->stack_limit;
    }
    tf_sys(SYS_prlimit64, 0, RLIMIT_STACK, &stack, 0);
    if (!TF_IS_ERR(before->persona) && !tf.shm->was_fixed && !tf.follow[0])
        tf_sys(SYS_personality, before->persona & ~ADDR_NO_RANDOMIZE);
}

static void set_again(const struct altered *before)
{
    tf_sys(SYS_prlimit64, 0, RLIMIT_STACK, &before->stack, 0);
    if (!TF_IS_ERR(before->persona))
        tf_sys(SYS_personality, before->persona);
}

static long true_exec(const struct tf_call *call)
{
    struct altered before;
    struct tf_call c = *call;
    int env = call->nr == SYS_execve ? 2 : 3;
    if (tf.follow[0])
        c.a[env] = (long)follow_env((char **)c.a[env]);
    set_for_exec(&before);
    long r = tf_raw((long)c.nr, c.a[0], c.a[1], c.a[2], c.a[3], c.a[4], 0);
    set_again(&before);
    return r;
}

TF_SPECIAL(exec)
{
    const char *file = (const char *)call->a[call->nr == SYS_execve ? 0 : 1];
    size_t len = tf_args_encode(row, call, args_buf);
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_peek();
        uint32_t kind = 0;
        if (!borrowed.active && e && e->call == TF_CALL_MARK && e->args_len >= 4)
            memcpy(&kind, tf_outside_args(e), 4);
        if (kind == TF_MARK_EXEC) {
            uint8_t mark[8 + 256] = {TF_MARK_EXEC};
            size_t n = strnlen(file, 255);
            memcpy(mark + 8, file, n);
            tf_log_take(TF_CALL_MARK, mark, 8 + n);
            e = tf_log_peek();
            if (!e || e->call != call->nr)
                tf_replay_end();
        }
        e = tf_log_take(call->nr, args_buf, len);
        if (borrowed.active && e->result == 0)
            borrowed_ends();
        return e->result;
    }
    if (borrowed.active) {
        tf_maps_pass(true);
        if (tf_maps_own_passed())
            return not_covered(row, call, "the program gets a descriptor of a file that is mapped");
        borrowed.exec_nr = call->nr;
        borrowed.exec_len = len;
        memcpy(borrowed.exec_args, args_buf, len);
        borrowed.tries = true;
        long r = true_exec(call);
        borrowed.tries = false;
        tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
        return r;
    }
    char text[256];
    bool named = (uintptr_t)file >= 4096;
    snprintf(text, sizeof text, "%s", named ? file : "");
    if (named)
        tf_log_mark(TF_MARK_EXEC, text);
    __atomic_store_n(&tf.shm->became, 1, __ATOMIC_RELEASE);
    long r = true_exec(call);
    __atomic_store_n(&tf.shm->became, 0, __ATOMIC_RELEASE);
    tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
    return r;
}

/* A child in its parent's memory ends: not the end of the parent's log. Returns in record only, for the
 * caller to leave. */
bool tf_child_exits(const struct tf_call_row *row, struct tf_call *call)
{
    if (!borrowed.active)
        return false;
    size_t len = tf_args_encode(row, call, args_buf);
    if (tf.mode == TF_REPLAYS) {
        tf_log_take(call->nr, args_buf, len);
        borrowed_ends();
    }
    tf_log_put(call->nr, 0, 0, args_buf, len, NULL, 0);
    return true;
}
