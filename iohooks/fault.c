/*
 * fault.c: faults in a replay.
 *
 * One that the program does not handle, and that the recording does not have, is a divergence: it is reported
 * with its place and the Python stack, before the process ends. Such a handler stands wherever the program
 * has none; it sees the default action as before. At the end of a recording that a fault ended, it is that
 * end.
 *
 * A replay that looks for the cause of a divergence has the kernel refuse rdtsc (PR_SET_TSC): then each use
 * of the time stamp counter is a fault, too. The instruction is carried out here, and the last one before the
 * divergence is told.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include "iohooks/ksignal.h"
#include "iohooks/process.h"

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static struct {
    bool watched;
    uint64_t n, first, at, frame; /* how often, after which event first, and where the last one was */
} counter;
static bool told; /* a fault is being reported: the next one is ours */

/* ---- the time stamp counter ---- */

void tf_fault_watch_counter(void)
{
    counter.watched = tf_sys(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV) == 0;
}

bool tf_fault_is_counter(int sig, const siginfo_t *info, ucontext_t *uc)
{
    greg_t *regs = uc->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)regs[REG_RIP];
    if (!counter.watched || sig != SIGSEGV || info->si_code != SI_KERNEL || !tf_mapped((uint64_t)at, 3))
        return false;
    bool rdtsc = at[0] == 0x0f && at[1] == 0x31, rdtscp = at[0] == 0x0f && at[1] == 0x01 && at[2] == 0xf9;
    if (!rdtsc && !rdtscp)
        return false;
    unsigned low, high, aux = 0;
    tf_sys(SYS_prctl, PR_SET_TSC, PR_TSC_ENABLE);
    if (rdtscp)
        __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
    else
        __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    tf_sys(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV);
    if (!counter.n++)
        counter.first = tf_frames();
    counter.at = (uint64_t)at;
    counter.frame = tf_frames();
    regs[REG_RAX] = low;
    regs[REG_RDX] = high;
    if (rdtscp)
        regs[REG_RCX] = aux;
    regs[REG_RIP] += rdtscp ? 3 : 2;
    return true;
}

void tf_name_address(uint64_t address, char *out, size_t size)
{
    static char buf[8192];
    size_t have = 0;
    long fd = tf_sys(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    snprintf(out, size, "%#llx", (unsigned long long)address);
    while (!TF_IS_ERR(fd)) {
        long n = tf_sys(SYS_read, fd, buf + have, sizeof buf - 1 - have);
        if (TF_IS_ERR(n) || n == 0)
            break;
        have += (size_t)n;
        buf[have] = 0;
        char *line = buf;
        for (char *end; (end = strchr(line, '\n')); line = end + 1) {
            char *rest;
            *end = 0;
            uint64_t from = strtoull(line, &rest, 16), to = *rest ? strtoull(rest + 1, &rest, 16) : 0;
            if (address < from || address >= to)
                continue;
            char *offset = strchr(rest + (*rest != 0), ' '); /* behind the protection */
            uint64_t base = offset ? strtoull(offset, &rest, 16) : 0;
            const char *path = strchr(rest, '/');
            if (path)
                snprintf(out, size, "%s+%#llx", path, (unsigned long long)(address - from + base));
            else
                snprintf(out, size, "%#llx, memory without a file", (unsigned long long)address);
            tf_sys(SYS_close, fd);
            return;
        }
        have = strlen(line);
        memmove(buf, line, have);
    }
    if (!TF_IS_ERR(fd))
        tf_sys(SYS_close, fd);
}

size_t tf_fault_counter_text(char *buf, size_t size, uint64_t *first)
{
    char place[4200];
    *first = counter.first;
    if (!counter.n)
        return 0;
    tf_name_address(counter.at, place, sizeof place);
    int n = snprintf(buf, size, "%s, after frame event %llu (the last of %llu)", place,
                     (unsigned long long)counter.frame, (unsigned long long)counter.n);
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

/* ---- faults ---- */

/* Lets the default action come: the instruction is executed again. */
static void give_up(int sig, const siginfo_t *info)
{
    struct tf_ksigaction none = {.handler = (void *)SIG_DFL};
    tf_sys(SYS_rt_sigaction, sig, &none, 0, 8);
    if (info->si_code <= 0) /* it was sent, and does not come again by itself */
        tf_sys(SYS_tgkill, tf_sys(SYS_getpid), tf_sys(SYS_gettid), sig);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    if (tf_fault_is_counter(sig, info, uc))
        return;
    if ((tf.mode != TF_REPLAYS && tf.mode != TF_ARMS) || told || info->si_code <= 0) {
        give_up(sig, info);
        return;
    }
    told = true;
    if (tf_frames() >= tf.ctl->frames && tf.offset >= tf.ctl->outside_bytes)
        tf_replay_end();
    char place[4200];
    tf_name_address((uint64_t)uc->uc_mcontext.gregs[REG_RIP], place, sizeof place);
    tf_diverge_from(
        &(struct tf_difference){.kind = TF_DIVERGED_DIED, .call = TF_NO_CALL, .result = sig},
        "the program was ended by SIG%s (address %#llx, instruction %s), which the recording does "
        "not have",
        sigabbrev_np(sig), (unsigned long long)(uintptr_t)info->si_addr, place);
}

bool tf_fault_is_ours(int sig)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i] == sig)
            return tf.mode == TF_REPLAYS;
    return false;
}

/* On the stack for signals, if the program has one: the fault may be that the other is full. */
long tf_fault_install(int sig)
{
    struct tf_ksigaction action = {.handler = (void *)on_fault,
                                   .flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | TF_SA_RESTORER,
                                   .restorer = tf_restorer};
    return tf_sys(SYS_rt_sigaction, sig, &action, 0, 8);
}

void tf_fault_start(void)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (tf_signal_is_default(faults[i]))
            tf_fault_install(faults[i]);
}
