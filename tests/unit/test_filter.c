/*
 * test_filter.c: the filter of replaying processes (checkpoint/filter.h), installed in forks of this program:
 * what is allowed reaches the kernel, everything else is a SIGSYS. The lists here are written by hand; they
 * are not those of filter.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "checkpoint/filter.h"
#include "store/err.h"

#define SOCKET 900
#define LOOKED 750

/* Stands for raw.S: the only code from which calls may come. */
__asm__(".text\n"
        "door_start:\n"
        "door: mov %rdi, %rax\n"
        "mov %rsi, %rdi\n"
        "mov %rdx, %rsi\n"
        "mov %rcx, %rdx\n"
        "mov %r8, %r10\n"
        "mov %r9, %r8\n"
        "xor %r9, %r9\n"
        "syscall\n"
        "ret\n"
        "door_end:\n"
        /* The same outside. */
        "elsewhere: mov %rdi, %rax\n"
        "mov %rsi, %rdi\n"
        "mov %rdx, %rsi\n"
        "mov %rcx, %rdx\n"
        "mov %r8, %r10\n"
        "mov %r9, %r8\n"
        "xor %r9, %r9\n"
        "syscall\n"
        "ret\n");
extern char door_start[], door_end[];
long door(long nr, long a, long b, long c, long d, long e);
long elsewhere(long nr, long a, long b, long c, long d, long e);

static volatile sig_atomic_t trapped, trapped_nr, trapped_code;

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    trapped++;
    trapped_nr = info->si_syscall;
    trapped_code = info->si_code;
}

static char folder[] = "/";
static char memory[64];
static struct msghdr message;

struct probe {
    const char *what;
    long nr, a[5];
};
#define P(x) ((long)(x))
/* Each of these reaches the kernel, whatever that makes of it. */
static const struct probe allowed[] = {
    {"getpid", SYS_getpid, {0}},
    {"gettid", SYS_gettid, {0}},
    {"sendmsg on our socket", SYS_sendmsg, {SOCKET, P(&message), MSG_NOSIGNAL}},
    {"recvmsg on our socket", SYS_recvmsg, {SOCKET, 0, MSG_CMSG_CLOEXEC}},
    {"close", SYS_close, {LOOKED + 1}},
    {"dup3 to our socket's number", SYS_dup3, {-1, SOCKET, O_CLOEXEC}},
    {"a pair of local sockets", SYS_socketpair, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, P(memory)}},
    {"to die with the supervisor", SYS_prctl, {PR_SET_PDEATHSIG, SIGKILL}},
    {"trapping, of an impossible range", SYS_prctl, {59, 1, 1, 0, 0}},
    {"a name", SYS_prctl, {PR_SET_NAME, P("x")}},
    {"brk", SYS_brk, {0}},
    {"anonymous memory", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1}},
    {"anonymous shared memory", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1}},
    {"a private file", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, LOOKED}},
    {"a shared file to read", SYS_mmap, {0, 4096, PROT_READ, MAP_SHARED, LOOKED}},
    {"munmap", SYS_munmap, {0, 0}},
    {"mprotect", SYS_mprotect, {0, 0, 0}},
    {"mremap", SYS_mremap, {0, 0, 0}},
    {"madvise", SYS_madvise, {0, 0, 0}},
    {"mincore", SYS_mincore, {0, 0, 0}},
    {"rt_sigaction", SYS_rt_sigaction, {SIGUSR1, 0, 0, 8}},
    {"rt_sigprocmask", SYS_rt_sigprocmask, {SIG_BLOCK, 0, 0, 8}},
    {"sigaltstack", SYS_sigaltstack, {0, 0}},
    {"open to read", SYS_open, {P(folder), O_RDONLY | O_CLOEXEC | O_DIRECTORY}},
    {"openat to read", SYS_openat, {AT_FDCWD, P(folder), O_RDONLY | O_NOFOLLOW}},
    {"openat, its number as an int", SYS_openat, {0xffffff9cl, P(folder), O_RDONLY}},
    {"stat", SYS_newfstatat, {AT_FDCWD, P(folder), 0, 0}},
    {"readlink", SYS_readlink, {P(folder), P(memory), 10}},
    {"read from what was opened to look", SYS_read, {LOOKED, P(memory), 0}},
    {"lseek there", SYS_lseek, {LOOKED, 0, SEEK_CUR}},
    {"is it a terminal?", SYS_ioctl, {LOOKED, TCGETS, P(memory)}},
    {"F_GETFL there", SYS_fcntl, {LOOKED, F_GETFL}},
    {"moving it there", SYS_fcntl, {LOOKED, F_DUPFD_CLOEXEC, TF_LOOK_FD}},
    {"getcwd", SYS_getcwd, {P(memory), 1}},
    {"getuid", SYS_getuid, {0}},
    {"no child to wait for", SYS_wait4, {-1, 0, __WALL}},
    {"poll", SYS_poll, {0, 0, 0}},
    {"killing by descriptor", SYS_pidfd_send_signal, {-1, SIGKILL, 0, 0}},
    {"the time stamp counter as a fault", SYS_prctl, {PR_SET_TSC, PR_TSC_ENABLE}},
    {"dropping what is pending", SYS_rt_sigtimedwait, {0, 0, 0, 8}},
    {"a signal to itself", SYS_rt_tgsigqueueinfo, {0, 0, 0, 0}},
};
/* None of these does. */
static const struct probe refused[] = {
    {"write to standard output", SYS_write, {1, P(memory), 0}},
    {"write to the socket", SYS_write, {SOCKET, P(memory), 0}},
    {"writev", SYS_writev, {1, 0, 0}},
    {"pwrite64", SYS_pwrite64, {LOOKED, P(memory), 0, 0}},
    {"sendmsg elsewhere", SYS_sendmsg, {SOCKET + 1, P(&message), MSG_NOSIGNAL}},
    {"sendmsg, other flags", SYS_sendmsg, {SOCKET, P(&message), MSG_OOB}},
    {"recvmsg elsewhere", SYS_recvmsg, {0, P(&message), MSG_CMSG_CLOEXEC}},
    {"sendto", SYS_sendto, {SOCKET, P(memory), 0}},
    {"sendmmsg", SYS_sendmmsg, {SOCKET, 0, 0}},
    {"socket", SYS_socket, {AF_INET, SOCK_STREAM}},
    {"connect", SYS_connect, {SOCKET, 0, 0}},
    {"bind", SYS_bind, {SOCKET, 0, 0}},
    {"socketpair of another kind", SYS_socketpair, {AF_UNIX, SOCK_DGRAM, 0, P(memory)}},
    {"open to write", SYS_open, {P(folder), O_WRONLY}},
    {"open to make", SYS_open, {P(folder), O_RDONLY | O_CREAT, 0600}},
    {"open to empty", SYS_open, {P(folder), O_RDONLY | O_TRUNC}},
    {"openat to write", SYS_openat, {AT_FDCWD, P(folder), O_RDWR}},
    {"openat to make", SYS_openat, {AT_FDCWD, P(folder), O_CREAT}},
    {"openat, a file without name", SYS_openat, {AT_FDCWD, P(folder), O_TMPFILE | O_WRONLY}},
    {"openat below a descriptor", SYS_openat, {LOOKED, P(folder), O_RDONLY}},
    {"openat2", SYS_openat2, {AT_FDCWD, P(folder), 0, 0}},
    {"creat", SYS_creat, {P(folder), 0600}},
    {"unlink", SYS_unlink, {P("")}},
    {"unlinkat", SYS_unlinkat, {-1, P("")}},
    {"rename", SYS_rename, {P(""), P("")}},
    {"mkdir", SYS_mkdir, {P("")}},
    {"chmod", SYS_chmod, {P(""), 0}},
    {"truncate", SYS_truncate, {P(""), 0}},
    {"utimensat", SYS_utimensat, {-1, P(""), 0}},
    {"kill", SYS_kill, {0, 0}},
    {"tkill", SYS_tkill, {0, 0}},
    {"tgkill", SYS_tgkill, {0, 0, 0}},
    {"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {0, 0, 0}},
    {"another signal by descriptor", SYS_pidfd_send_signal, {-1, SIGTERM, 0, 0}},
    {"pidfd_open", SYS_pidfd_open, {1, 0}},
    {"fork", SYS_fork, {0}},
    {"vfork", SYS_vfork, {0}},
    {"clone of a child", SYS_clone, {SIGCHLD, 0}},
    {"clone of a thread", SYS_clone, {CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, P(memory)}},
    {"clone3", SYS_clone3, {0, 0}},
    {"execve", SYS_execve, {P(""), 0, 0}},
    {"execveat", SYS_execveat, {-1, P(""), 0, 0}},
    {"wait4, not for all", SYS_wait4, {-1, 0, WNOHANG}},
    {"ptrace", SYS_ptrace, {-1, 0, 0, 0}},
    {"process_vm_writev", SYS_process_vm_writev, {0, 0, 0, 0}},
    {"a shared file to write", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, LOOKED}},
    {"the same, validated", SYS_mmap, {0, 4096, PROT_WRITE, MAP_SHARED_VALIDATE, LOOKED}},
    {"read from standard input", SYS_read, {0, P(memory), 0}},
    {"read from the socket's neighbour below", SYS_read, {3, P(memory), 0}},
    {"ioctl elsewhere", SYS_ioctl, {0, TCGETS, P(memory)}},
    {"another ioctl", SYS_ioctl, {LOOKED, TIOCSTI, P(memory)}},
    {"a lock", SYS_fcntl, {LOOKED, F_SETLK, P(memory)}},
    {"flags", SYS_fcntl, {LOOKED, F_SETFL, O_ASYNC}},
    {"F_DUPFD", SYS_fcntl, {LOOKED, F_DUPFD, 0}},
    {"fcntl elsewhere", SYS_fcntl, {1, F_GETFL}},
    {"dup", SYS_dup, {0}},
    {"dup2", SYS_dup2, {0, 900}},
    {"dup3 to another number", SYS_dup3, {0, 1, O_CLOEXEC}},
    {"another prctl", SYS_prctl, {PR_SET_KEEPCAPS, 1}},
    {"dying by another signal", SYS_prctl, {PR_SET_PDEATHSIG, SIGTERM}},
    {"trapping off", SYS_prctl, {59, 0, 0, 0, 0}},
    {"another filter", SYS_seccomp, {0, 0, 0}},
    {"clock_gettime", SYS_clock_gettime, {0, P(memory)}},
    {"nanosleep", SYS_nanosleep, {P(memory), 0}},
    {"setitimer", SYS_setitimer, {0, 0, 0}},
    {"futex", SYS_futex, {P(memory), 1, 0}},
    {"getppid", SYS_getppid, {0}},
    {"getrandom", SYS_getrandom, {P(memory), 0, 0}},
    {"io_uring_setup", SYS_io_uring_setup, {0, 0}},
    {"chdir", SYS_chdir, {P(folder)}},
    {"setuid", SYS_setuid, {0}},
    {"setrlimit", SYS_setrlimit, {0, 0}},
    {"exit of a thread only", SYS_exit, {0}},
    {"a number that nobody knows", 511, {0}},
    {"a number of the x32 interface", 0x40000000l | SYS_getpid, {0}},
};
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static bool traps(const struct probe *p, bool from_the_door)
{
    int before = trapped;
    (from_the_door ? door : elsewhere)(p->nr, p->a[0], p->a[1], p->a[2], p->a[3], p->a[4]);
    return trapped == before + 1 && trapped_code == 1 /* SYS_SECCOMP */ && trapped_nr == (int)p->nr;
}

static void __attribute__((noreturn)) leave(int status)
{
    for (;;)
        door(SYS_exit_group, status, 0, 0, 0, 0);
}

/* In a fork under the filter: 0, or the number (from 1) of the first probe that did not go as it should. */
static int probe_all(const struct probe *probes, int n, bool from_the_door, bool trap)
{
    for (int i = 0; i < n; i++)
        if (traps(&probes[i], from_the_door) != trap)
            return i + 1;
    return 0;
}

static int install(void)
{
    static struct sock_filter program[TF_FILTER_MAX], joined[TF_FILTER_MAX + TF_FILTER_FRONT];
    struct tf_err err;
    uint32_t n;
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int pair[2];
    message = (struct msghdr){0};
    if (sigaction(SIGSYS, &action, NULL) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
        dup2(pair[0], SOCKET) != SOCKET || dup2(open("/proc/self/exe", O_RDONLY), LOOKED) != LOOKED)
        return 200;
    shutdown(SOCKET, SHUT_RDWR); /* so that nothing waits */
    if (tf_filter_build(SOCKET, program, &n, &err))
        return 201;
    unsigned all = tf_filter_join(joined, program, n, (uintptr_t)door_start, (uintptr_t)door_end);
    struct sock_fprog prog = {.len = (unsigned short)all, .filter = joined};
    if (all != n + TF_FILTER_FRONT || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
        return 202;
    return 0;
}

/* In front of a call that does not return, ASan makes system calls of its own, which the filter would stop.
 */
#define LEAVES __attribute__((no_sanitize_address))

static void LEAVES in_fork(int (*fn)(void), const struct probe *probes)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int r = install();
        if (r)
            _exit(r);
        leave(fn());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) >= 200)
        fail_msg("the filter could not be installed (%d)", WEXITSTATUS(status));
    if (WEXITSTATUS(status))
        fail_msg("%s", probes ? probes[WEXITSTATUS(status) - 1].what : "not as it should be");
}

static int allowed_pass(void)
{
    return probe_all(allowed, COUNT(allowed), true, false);
}

static int refused_trap(void)
{
    return probe_all(refused, COUNT(refused), true, true);
}

/* From anywhere but the door nothing is allowed, not even what is in the table. */
static int elsewhere_traps(void)
{
    return probe_all(allowed, COUNT(allowed), false, true);
}

/* A copy has the filter, too. It is made as checkpoints are: a child of this program, not of the fork. */
static int LEAVES copies_have_it(void)
{
    long pid = door(SYS_clone, CLONE_PIDFD, 0, (long)memory, 0, 0);
    int status = 0;
    if (pid == 0)
        leave(probe_all(refused, COUNT(refused), true, true) ? 1 : 77);
    if (pid < 0 || door(SYS_wait4, pid, (long)&status, __WALL, 0, 0) != pid)
        return 1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 77 ? 0 : 2;
}

/* SI_TKILL and SI_USER: the kernel lets them be sent to oneself, and to nobody else (root included). */
static int signals_only_to_itself(void)
{
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_TKILL};
    long self = door(SYS_getpid, 0, 0, 0, 0, 0), other = *(int *)memory;
    if (door(SYS_rt_tgsigqueueinfo, self, self, 0, (long)&info, 0) != 0)
        return 1;
    if (door(SYS_rt_tgsigqueueinfo, other, other, 0, (long)&info, 0) != -EPERM)
        return 2;
    info.si_code = SI_USER;
    return door(SYS_rt_tgsigqueueinfo, other, other, 0, (long)&info, 0) == -EPERM ? 0 : 3;
}

static void test_allowed(void **state)
{
    (void)state;
    in_fork(allowed_pass, allowed);
}

static void test_refused(void **state)
{
    (void)state;
    in_fork(refused_trap, refused);
}

static void test_elsewhere(void **state)
{
    (void)state;
    in_fork(elsewhere_traps, allowed);
}

static void test_copies(void **state)
{
    (void)state;
    in_fork(copies_have_it, NULL);
}

static void test_signals(void **state)
{
    int pid = getpid();
    (void)state;
    memcpy(memory, &pid, sizeof pid);
    in_fork(signals_only_to_itself, NULL);
    memset(memory, 0, sizeof memory);
}

static void test_addresses(void **state)
{
    struct sock_filter out[TF_FILTER_MAX + TF_FILTER_FRONT], one = BPF_STMT(BPF_RET | BPF_K, 0);
    (void)state;
    assert_int_equal(tf_filter_join(out, &one, 1, 0x7ffff0000000, 0x7ffff0000100), TF_FILTER_FRONT + 1);
    assert_int_equal(tf_filter_join(out, &one, 1, 0x7fffffffff00, 0x800000000100), 0);
    assert_int_equal(tf_filter_join(out, &one, 0, 0x1000, 0x2000), 0);
    assert_int_equal(tf_filter_join(out, &one, TF_FILTER_MAX + 1, 0x1000, 0x2000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allowed), cmocka_unit_test(test_refused), cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_copies),  cmocka_unit_test(test_signals), cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
