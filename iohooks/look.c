/*
 * look.c: system calls of a process that answers a question: a fork of a stopped one, to be thrown away, in
 * which an expression or a repr runs. Looking must change nothing. Memory and the process's own state are
 * free; files may be read (an expression may import something) through descriptors that are kept apart from
 * the program's, which are not open here; clocks stand still; what is written to standard output goes to who
 * asked; all else is refused with EPERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include "iohooks/process.h"

#define FIRST_FD TF_LOOK_FD /* descriptors opened while looking: out of the program's usual range */
#define OUTPUT_MAX (1u << 20)

static uint64_t open_fds[8]; /* bit set from FIRST_FD on */
static size_t output_sent;
static bool muted;

static bool is_open(long fd)
{
    return fd >= FIRST_FD && fd < FIRST_FD + 512 &&
           (open_fds[(fd - FIRST_FD) / 64] >> ((fd - FIRST_FD) % 64) & 1);
}

static long keep_apart(long fd)
{
    if (TF_IS_ERR(fd))
        return fd;
    long high = tf_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FIRST_FD);
    tf_sys(SYS_close, fd);
    if (!TF_IS_ERR(high) && high < FIRST_FD + 512)
        open_fds[(high - FIRST_FD) / 64] |= 1ul << ((high - FIRST_FD) % 64);
    return high;
}

long tf_look_clock(struct tf_call *call)
{
    /* The program's time stood still at the stop; the last value that it was given is the best answer there
     * is. */
    struct timespec ts = tf.last_clock[(unsigned)call->a[0] % TF_CLOCKS];
    if (call->nr == SYS_clock_gettime) {
        if (!call->a[1])
            return -EFAULT;
        *(struct timespec *)call->a[1] = ts;
        return 0;
    }
    ts = tf.last_clock[CLOCK_REALTIME];
    if (call->nr == SYS_gettimeofday) {
        if (call->a[0])
            *(struct timeval *)call->a[0] = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
        return 0;
    }
    if (call->a[0])
        *(time_t *)call->a[0] = ts.tv_sec;
    return ts.tv_sec;
}

static void output(long fd, const void *data, size_t len)
{
    uint32_t to = (uint32_t)fd;
    if (muted)
        return;
    if (len > OUTPUT_MAX - output_sent)
        len = OUTPUT_MAX - output_sent;
    output_sent += len;
    if (len)
        tf_core.item(TF_ITEM_OUTPUT, &to, sizeof to, data, len, NULL, 0);
}

void tf_look_mute(bool on)
{
    muted = on;
}

void tf_look_flush(void)
{
    output_sent = 0;
}

static bool reads_only(long flags)
{
    return (flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY)));
}

/* The folder that the program has moved to is not this process's: only absolute paths mean the same in both.
 */
static bool may_name(const char *path)
{
    return !tf.moved || (path && path[0] == '/');
}

static long raw(struct tf_call *call)
{
    return tf_raw((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]);
}

long tf_look(struct tf_call *call)
{
    switch (call->nr) {
    case SYS_brk:
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_mremap:
    case SYS_madvise:
    case SYS_sched_yield:
    case SYS_getrusage:
    case SYS_getuid:
    case SYS_geteuid:
    case SYS_getgid:
    case SYS_getegid:
    case SYS_uname:
    case SYS_sysinfo:
    case SYS_sched_getaffinity:
    case SYS_mincore:
    case SYS_get_mempolicy:
        return raw(call);
    case SYS_getcwd:
        return tf.moved ? -EPERM : raw(call);
    case SYS_stat:
    case SYS_lstat:
    case SYS_access:
    case SYS_readlink:
        return may_name((const char *)call->a[0]) ? raw(call) : -EPERM;
    case SYS_statx:
        return (int)call->a[0] == AT_FDCWD && may_name((const char *)call->a[1]) ? raw(call) : -EPERM;
    case SYS_getpid:
    case SYS_gettid:
        return tf.forked_pid ? tf.forked_pid : tf.ctl->pid;
    case SYS_mmap:
        if (!(call->a[3] & MAP_ANONYMOUS) && !is_open((int)call->a[4]))
            return -EPERM;
        if ((call->a[3] & MAP_TYPE) != MAP_PRIVATE && (call->a[2] & PROT_WRITE) &&
            !(call->a[3] & MAP_ANONYMOUS))
            return -EPERM;
        return raw(call);
    case SYS_futex: /* one thread: nothing to wait for */
        return (call->a[1] & 0x7f) == 0 || (call->a[1] & 0x7f) == 9 ? -ETIMEDOUT : 0;
    case SYS_rt_sigaction:
    case SYS_rt_sigprocmask:
    case SYS_sigaltstack:
        return 0;
    case SYS_rt_sigreturn:
        return raw(call);
    case SYS_clock_gettime:
    case SYS_gettimeofday:
    case SYS_time:
        return tf_look_clock(call);
    case SYS_clock_getres:
        return raw(call);
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
        return 0;
    case SYS_open:
        return reads_only(call->a[1]) && may_name((const char *)call->a[0]) ? keep_apart(raw(call)) : -EPERM;
    case SYS_openat:
        return (int)call->a[0] == AT_FDCWD && reads_only(call->a[2]) && may_name((const char *)call->a[1])
                   ? keep_apart(raw(call))
                   : -EPERM;
    case SYS_newfstatat:
    case SYS_faccessat:
    case SYS_faccessat2:
    case SYS_readlinkat:
        return ((int)call->a[0] == AT_FDCWD && may_name((const char *)call->a[1])) || is_open((int)call->a[0])
                   ? raw(call)
                   : -EPERM;
    case SYS_read:
    case SYS_pread64:
    case SYS_fstat:
    case SYS_lseek:
    case SYS_getdents64:
    case SYS_close:
        return is_open((int)call->a[0]) ? raw(call) : -EPERM;
    case SYS_ioctl: /* others could change the file, which is open to this process only for reading */
        call->a[1] &= 0xffffffff;
        return is_open((int)call->a[0]) &&
                       (call->a[1] == TCGETS || call->a[1] == FIOCLEX || call->a[1] == FIONREAD)
                   ? raw(call)
                   : -EPERM;
    case SYS_fcntl: /* no locks: they would hinder others */
        call->a[1] &= 0xffffffff;
        return is_open((int)call->a[0]) &&
                       (call->a[1] == F_GETFD || call->a[1] == F_SETFD || call->a[1] == F_GETFL)
                   ? raw(call)
                   : -EPERM;
    case SYS_write: {
        long fd = (int)call->a[0];
        if (fd < 0 || fd >= 1024)
            return -EPERM;
        if (tf.std_fds[fd / 32] >> (fd % 32) & 1)
            output(1, (void *)call->a[1], (size_t)call->a[2]);
        else if (tf.err_fds[fd / 32] >> (fd % 32) & 1)
            output(2, (void *)call->a[1], (size_t)call->a[2]);
        else
            return -EPERM;
        return call->a[2];
    }
    case SYS_exit_group:
    case SYS_exit: {
        char text[96];
        int n =
            snprintf(text, sizeof text, "the expression ended the process (exit status %d)", (int)call->a[0]);
        tf_core.item(TF_ITEM_ERROR, text, (size_t)n, NULL, 0, NULL, 0);
        tf_core.item(TF_ITEM_DONE, NULL, 0, NULL, 0, NULL, 0);
        tf_leave(0);
    }
    default:
        return -EPERM;
    }
}
