/*
 * filter.c: the kernel's own guard of a replaying process (checkpoint/filter.h): installed before the
 * program's first instruction, inherited by every copy. A call that is not allowed is not made; it comes back
 * as a SIGSYS (trap.c tells it from those of trapping), and ends the process with a divergence.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include "checkpoint/filter.h"
#include "iohooks/process.h"

extern char tf_region_start[], tf_region_end[];

int tf_filter_install(void)
{
    static struct sock_filter joined[TF_FILTER_MAX + TF_FILTER_FRONT];
    if (tf.ctl->filter_len == 0 || tf.filtered) /* the kernel does not take it: the supervisor has said so */
        return 0;
    unsigned n = tf_filter_join(joined, tf.ctl->filter, tf.ctl->filter_len, (uintptr_t)tf_region_start,
                                (uintptr_t)tf_region_end);
    struct sock_fprog prog = {.len = (unsigned short)n, .filter = joined};
    if (n == 0)
        return -EINVAL;
    /* Without this, only root may have a filter. What the program is told about it comes from the log. */
    long r = tf_sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* SPEC_ALLOW: it is no sandbox for hostile code, and must not slow down branches (kernels before 5.16).
     */
    if (r == 0)
        r = tf_sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog);
    tf.filtered = r == 0;
    return (int)r;
}

void tf_filter_stray(const struct tf_call *call)
{
    static bool telling;
    static const char *const doing[] = {
        [TF_REPLAYS] = "the program's own code runs again",
        [TF_ARMS] = "a stop or a search is prepared",
        [TF_LOOKS] = "an expression is evaluated",
    };
    char name[32];
    uint64_t from = (uint64_t)call->uc->uc_mcontext.gregs[REG_RIP];
    bool ours = from > (uintptr_t)tf_region_start && from <= (uintptr_t)tf_region_end;

    if (telling) /* what would report it is not allowed either */
        tf_leave(1);
    telling = true;
    tf_diverge(
        "the system call %s(%#lx, %#lx, %#lx, ...) was about to be made %s, while %s. A replay does not "
        "make it: the kernel's filter has stopped it, and nothing has happened",
        tf_call_name(call->nr, name, sizeof name), (unsigned long)call->a[0], (unsigned long)call->a[1],
        (unsigned long)call->a[2], ours ? "by timefork" : "past timefork",
        tf.mode >= TF_REPLAYS && tf.mode <= TF_LOOKS && doing[tf.mode]
            ? doing[tf.mode]
            : "the process is in no mode of replay");
}
