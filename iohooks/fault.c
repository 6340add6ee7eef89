/*
 * fault.c: faults of the program's own instructions, where it has no handler for them. One of ours stands
 * there, on a stack of its own (signal.c), for the program's may be what has run out; it sees the default
 * action as before.
 *
 * While recording it writes the end of the program into the log and lets the instruction fault again, with
 * nothing in its way. In replay, where the recording has that end, it is the end of the run. One that the
 * recording does not have is a divergence: it is reported with its place and the Python stack, before the
 * process ends.
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
#include "iohooks/start.h"

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

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
    if (!TF_IS_ERR(fd)) { /* to where the filter lets it be read */
        long high = tf_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, TF_LOOK_FD);
        tf_sys(SYS_close, fd);
        fd = high;
    }
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

/* ---- pages that have lost their file ---- */

/*
 * SIGBUS: the program touches a page of a mapped file that the file does not have any more. In replay such a
 * mapping is memory with the bytes that the file had, so the log says when it happens, and for which address:
 * as soon as that is the next thing in the log, the page is taken away, and the program's access is a
 * SIGSEGV, from which a SIGBUS is made.
 */
static bool lost_page(int sig, const siginfo_t *info)
{
    return sig == SIGBUS && info->si_code == BUS_ADRERR;
}

static const struct tf_outside *next_fault(uint64_t *address)
{
    const struct tf_outside *e = tf_log_peek();
    if (!e || e->call != TF_CALL_FAULT || e->args_len != 16)
        return NULL;
    memcpy(address, tf_outside_args(e) + 8, 8);
    return e;
}

void tf_fault_prepare(void)
{
    uint64_t address;
    if (tf.mode == TF_REPLAYS && next_fault(&address))
        tf_sys(SYS_mprotect, address & ~4095ul, 4096, 0); /* PROT_NONE */
}

/* Both modes, before anything else is done with a fault. True: it is replaced by the SIGBUS, which comes
 * next. */
bool tf_fault_of_page(int sig, siginfo_t *info, ucontext_t *uc)
{
    static bool made; /* replay: the SIGBUS that comes is the one that was made here */
    uint64_t args[2] = {BUS_ADRERR, (uintptr_t)info->si_addr}, address;
    uintptr_t at = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];

    if (tf.mode == TF_RECORDS && lost_page(sig, info) && !tf_self->inside && !tf_in_engine(at))
        tf_log_put(TF_CALL_FAULT, 0, sig, args, sizeof args, NULL, 0);
    if (tf.mode != TF_REPLAYS || info->si_code <= 0)
        return false;
    if (sig == SIGBUS && made) {
        made = false;
        return false;
    }
    if ((sig != SIGSEGV && sig != SIGBUS) || !next_fault(&address) || address != args[1])
        return false;
    tf_log_take(TF_CALL_FAULT, args, sizeof args);
    tf_fault_prepare();
    if (sig == SIGBUS) /* a checkpoint that was taken while recording still has the file */
        return false;
    made = true;
    siginfo_t bus = {.si_signo = SIGBUS, .si_code = BUS_ADRERR};
    bus.si_addr = info->si_addr;
    uint64_t set = 1ul << (SIGBUS - 1); /* not here, but when this handler has returned */
    tf_sys(SYS_rt_sigprocmask, SIG_BLOCK, &set, 0, 8);
    tf_sys(SYS_rt_tgsigqueueinfo, tf_sys(SYS_getpid), tf_sys(SYS_gettid), SIGBUS, &bus);
    return true;
}

/* ---- faults ---- */

/* Lets the default action come: the instruction is executed again. */
static void give_up(int sig, const siginfo_t *info)
{
    struct tf_ksigaction none = {.handler = (void *)SIG_DFL};
    tf_sys(SYS_rt_sigaction, sig, &none, 0, 8);
    /* What was sent does not come again by itself, and a trap is behind its instruction. */
    if (info->si_code <= 0 || sig == SIGTRAP)
        tf_signal_to_self(sig, SI_USER);
}

bool tf_fault_while_arming(int sig)
{
    if (tf.mode != TF_ARMS)
        return false;
    told = true;
    tf_diverge_from(&(struct tf_difference){.kind = TF_DIVERGED_DIED, .call = TF_NO_CALL, .result = sig},
                    "signal %d while a stop was prepared here: the stack of the program is used up, or its "
                    "memory is damaged. "
                    "Positions further back can be visited",
                    sig);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    if (tf_fault_is_counter(sig, info, uc))
        return;
    uint64_t at = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    bool own = info->si_code > 0 && !told;
    if (own && (tf_fault_while_arming(sig) || tf_fault_of_page(sig, info, uc)))
        return;
    if (own && tf.mode == TF_RECORDS && !tf_self->inside && !tf_in_engine(at) && !tf_child_borrows())
        tf_end_by_signal(sig);
    if (tf.mode != TF_REPLAYS || !own) {
        give_up(sig, info);
        return;
    }
    told = true;
    if (tf_ends_by_signal(sig))
        tf_end_by_signal(sig);
    char place[4200];
    tf_name_address((uint64_t)uc->uc_mcontext.gregs[REG_RIP], place, sizeof place);
    tf_diverge_from(
        &(struct tf_difference){.kind = TF_DIVERGED_DIED, .call = TF_NO_CALL, .result = sig},
        "the program was ended by SIG%s (address %#llx, instruction %s), which the recording does "
        "not have",
        sigabbrev_np(sig), (unsigned long long)(uintptr_t)info->si_addr, place);
}

bool tf_fault_is_one(int sig)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i] == sig)
            return true;
    return false;
}

bool tf_fault_is_ours(int sig)
{
    return tf_fault_is_one(sig) && (tf.mode == TF_REPLAYS || tf.mode == TF_RECORDS);
}

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
