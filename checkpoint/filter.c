/*
 * filter.c: what a replaying process may ask of the kernel: one table, with the reason for each call. See
 * filter.h.
 *
 * Trapping (iohooks/trap.c) keeps the program's calls from the kernel; the filter is the kernel's word that
 * nothing else gets there either: not when trapping is off by mistake, not when an expression or the arming
 * of a stop makes a call that nobody thought of. Whatever is not here is not made: it is a SIGSYS, which
 * iohooks/filter.c reports as a divergence.
 *
 * A rule for arguments must hold for what the code passes, as 64 bits: `int` arguments that may be negative
 * are compared by their lower half.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "checkpoint/filter.h"
#include "store/err.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

#define OUR_SOCKET UINT64_MAX /* in the table: the number of the process's socket */
#define LOW_HALF 0xffffffffu
/* Of the flags of open: what would write or make a file. */
#define OPEN_WRITES (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

#define IS(n, value)                                                                                         \
    {                                                                                                        \
        n, SCMP_CMP_EQ, value, 0                                                                             \
    }
#define BITS(n, mask, value)                                                                                 \
    {                                                                                                        \
        n, SCMP_CMP_MASKED_EQ, mask, value                                                                   \
    }
#define LOOKED(n)                                                                                            \
    {                                                                                                        \
        n, SCMP_CMP_GE, TF_LOOK_FD, 0                                                                        \
    }
#define CALL(name, ...)                                                                                      \
    SCMP_SYS(name), #name,                                                                                   \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }
#define CMPS_MAX 3

static const struct rule {
    int nr;
    const char *name;
    struct scmp_arg_cmp cmps[CMPS_MAX]; /* all must hold; of several rows for a call, one */
} rules[] = {
    /* Talking to the supervisor: on the one socket that is ours. */
    {CALL(sendmsg, IS(0, OUR_SOCKET), IS(2, MSG_NOSIGNAL))},
    {CALL(recvmsg, IS(0, OUR_SOCKET), IS(2, MSG_CMSG_CLOEXEC))},
    /* Copies of this process, each with a socket of its own. */
    {CALL(clone, IS(0, CLONE_PARENT | SIGCHLD), IS(1, 0))},
    {CALL(socketpair, IS(0, AF_UNIX), IS(1, SOCK_STREAM | SOCK_CLOEXEC), IS(2, 0))},
    {CALL(dup3, IS(1, OUR_SOCKET), IS(2, O_CLOEXEC))},
    {CALL(close)}, /* the ends that are the copy's, libraries, files that an expression has read */
    {CALL(prctl, IS(0, PR_SET_PDEATHSIG), IS(1, SIGKILL))},
    {CALL(prctl, IS(0, PR_SET_SYSCALL_USER_DISPATCH), IS(1, 1))}, /* trapping is not inherited */
    /* A replay that looks for the cause of a divergence is told of uses of the time stamp counter. */
    {CALL(prctl, IS(0, PR_SET_TSC))},
    {CALL(getpid)}, /* told to the supervisor */
    /* A scan that evaluates aside: a fork, waited for by its descriptor, and killed by it if it hangs. */
    {CALL(clone, IS(0, CLONE_PIDFD), IS(1, 0))},
    {CALL(poll)},
    {CALL(pidfd_send_signal, IS(1, SIGKILL), IS(2, 0), IS(3, 0))},
    {CALL(wait4, IS(2, __WALL))},
    {CALL(restart_syscall)}, /* poll, after the process was stopped */
    {CALL(exit_group)},
    /* Memory: the program's own calls are made again (RUN in calls.c), a scan and an expression need some.
     * What others could see is not mapped: nothing shared that is a file and can be written. */
    {CALL(brk)},
    {CALL(mmap, BITS(3, MAP_ANONYMOUS, MAP_ANONYMOUS))},
    {CALL(mmap, BITS(3, MAP_TYPE, MAP_PRIVATE))},
    {CALL(mmap, BITS(2, PROT_WRITE, 0))},
    {CALL(munmap)},
    {CALL(mprotect)},
    {CALL(mremap)},
    {CALL(madvise)},
    {CALL(mincore)}, /* is it mapped? (scan.c) */
    {CALL(mlock)},
    {CALL(mlock2)},
    {CALL(munlock)},
    {CALL(membarrier)},
    /* The program's signals: handlers are installed, and given what the log has. A signal can be sent to
     * nobody else: rt_tgsigqueueinfo with the codes that signal.c uses is refused by the kernel for others.
     */
    {CALL(rt_sigaction)},
    {CALL(rt_sigprocmask)},
    {CALL(sigaltstack)},
    {CALL(rt_tgsigqueueinfo)},
    {CALL(rt_sigtimedwait)}, /* a forked child begins without its parent's pending ones */
    {CALL(gettid)},
    {CALL(getuid)}, /* the sender's, in the signal; and expressions ask for it */
    /* Other calls that change only the process itself, and are made again. */
    {CALL(set_tid_address)},
    {CALL(set_robust_list)},
    {CALL(rseq)},
    {CALL(arch_prctl)},
    {CALL(sched_yield)},
    {CALL(prctl, IS(0, PR_SET_NAME))},
    {CALL(prctl, IS(0, PR_SET_DUMPABLE))},
    {CALL(prctl, IS(0, PR_SET_NO_NEW_PRIVS))},
    {CALL(prctl, IS(0, PR_SET_THP_DISABLE))},
    {CALL(prctl, IS(0, PR_SET_TIMERSLACK))},
    {CALL(prctl, IS(0, PR_SET_VMA))},
    /* Libraries that are loaded again, and what expressions may look at (look.c): files, for reading only,
     * and through descriptors that they have opened themselves. */
    {CALL(openat, BITS(0, LOW_HALF, LOW_HALF &AT_FDCWD), BITS(2, OPEN_WRITES, O_RDONLY))},
    {CALL(open, BITS(1, OPEN_WRITES, O_RDONLY))},
    {CALL(fcntl, IS(1, F_DUPFD_CLOEXEC), IS(2, TF_LOOK_FD))}, /* moved to where they are kept apart */
    {CALL(fcntl, LOOKED(0), IS(1, F_GETFD))},
    {CALL(fcntl, LOOKED(0), IS(1, F_SETFD))},
    {CALL(fcntl, LOOKED(0), IS(1, F_GETFL))},
    {CALL(ioctl, LOOKED(0), IS(1, TCGETS))},
    {CALL(ioctl, LOOKED(0), IS(1, FIOCLEX))},
    {CALL(ioctl, LOOKED(0), IS(1, FIONREAD))},
    {CALL(read, LOOKED(0))},
    {CALL(pread64, LOOKED(0))},
    {CALL(lseek, LOOKED(0))},
    {CALL(fstat, LOOKED(0))},
    {CALL(getdents64, LOOKED(0))},
    {CALL(stat)},
    {CALL(lstat)},
    {CALL(newfstatat)},
    {CALL(statx)},
    {CALL(access)},
    {CALL(faccessat)},
    {CALL(faccessat2)},
    {CALL(readlink)},
    {CALL(readlinkat)},
    {CALL(getcwd)},
    /* Expressions ask what the machine and the process are. */
    {CALL(getrusage)},
    {CALL(geteuid)},
    {CALL(getgid)},
    {CALL(getegid)},
    {CALL(uname)},
    {CALL(sysinfo)},
    {CALL(sched_getaffinity)},
    {CALL(clock_getres)},
};

static int add_rule(scmp_filter_ctx ctx, const struct rule *rule, int socket)
{
    struct scmp_arg_cmp cmps[CMPS_MAX];
    unsigned n = 0;
    for (; n < CMPS_MAX && rule->cmps[n].op != 0; n++) {
        cmps[n] = rule->cmps[n];
        if (cmps[n].datum_a == OUR_SOCKET)
            cmps[n].datum_a = (uint64_t)socket;
    }
    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rule->nr, n, cmps);
}

int tf_filter_build(int socket, struct sock_filter *out, uint32_t *n, struct tf_err *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
    int fd = memfd_create("timefork-filter", MFD_CLOEXEC), r = ctx && fd >= 0 ? 0 : -ENOMEM;
    const char *what = "libseccomp";

    *n = 0;
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree of numbers */
    for (size_t i = 0; r == 0 && i < sizeof rules / sizeof *rules; i++) {
        what = rules[i].name;
        r = add_rule(ctx, &rules[i], socket);
    }
    if (r == 0) {
        what = "seccomp_export_bpf";
        r = seccomp_export_bpf(ctx, fd);
    }
    if (r == 0) {
        ssize_t got = pread(fd, out, TF_FILTER_MAX * sizeof *out, 0);
        off_t size = lseek(fd, 0, SEEK_END);
        if (got < 0 || size != got || (size_t)got % sizeof *out)
            r = -EIO;
        else
            *n = (uint32_t)((size_t)got / sizeof *out);
    }
    if (fd >= 0)
        close(fd);
    seccomp_release(ctx);
    if (r)
        return tf_err_set(err, TF_E_IO, "cannot make the filter of system calls: %s: %s", what, strerror(-r));
    return 0;
}

int tf_filter_try(void)
{
    struct sock_filter program[TF_FILTER_MAX];
    struct tf_err err;
    uint32_t n;
    if (tf_filter_build(3, program, &n, &err))
        return EINVAL;
    const struct sock_fprog prog = {.len = (unsigned short)n, .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog) < 0)
        return errno;
    return 0;
}
