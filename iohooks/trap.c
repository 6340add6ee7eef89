/*
 * trap.c: every system call of the program becomes a SIGSYS (Linux 5.11, "syscall user dispatch"), whose
 * handler asks dispatch.c for the result. So calls made inside libc (stdio, opendir, the resolver, locale and
 * time zone files, malloc's mmap) and in C extensions are caught like Python's own, at the one border that
 * all of them share.
 *
 * The handler runs with SA_NODEFER and no signal blocked, so a program that waits in read() is still
 * interrupted by its signals. A call that has to be executed by the program itself (clone, execve: it would
 * return in the wrong place here) is let through: trapping is switched off and the program counter goes back
 * to the syscall instruction.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "iohooks/process.h"
#include "iohooks/ksignal.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code of a SIGSYS that a filter has made; those of trapping have 2 */
#endif

extern char tf_region_start[], tf_region_end[];

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    struct tf_call call = {
        .nr = (unsigned)regs[REG_RAX],
        .a = {regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9]},
        .uc = uc,
    };
    (void)sig;
    if (info->si_code == SYS_SECCOMP && tf.filtered)
        tf_filter_stray(&call);
    long result = tf_dispatch(&call);
    if (result == TF_NATIVE) {
        tf_self->selector = 0;
        regs[REG_RIP] -= 2; /* the syscall instruction, with all its registers as they were */
        return;
    }
    regs[REG_RAX] = result;
}

int tf_trap_install(void)
{
    struct tf_ksigaction action = {
        .handler = (void *)on_sigsys,
        .flags = SA_SIGINFO | SA_NODEFER | TF_SA_RESTORER,
        .restorer = tf_restorer,
    };
    long r = tf_sys(SYS_rt_sigaction, SIGSYS, &action, 0, 8);
    if (TF_IS_ERR(r))
        return (int)r;
    uint64_t set = 1ul << (SIGSYS - 1);
    r = tf_sys(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, 0, 8);
    return TF_IS_ERR(r) ? (int)r : 0;
}

int tf_trap_on(void)
{
    long r = tf_sys(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, tf_region_start,
                    tf_region_end - tf_region_start, &tf_self->selector);
    return TF_IS_ERR(r) ? (int)r : 0;
}
