/*
 * calls.c: the table of system calls, and printing a logged call. Pure data and formatting: used by the
 * preload library and by the supervisor. To cover a call that has no effect on the process's own memory map,
 * give it a row with LOG; to cover one that needs thought, SPECIAL, and its function in one of the call_*.c
 * files (docs/adding-a-hook.md).
 *
 * The list of names is that of Linux on x86-64 (asm/unistd_64.h).
 */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include "iohooks/calls.h"
#include "store/outside.h"

#define LOG(name, sig) [SYS_##name] = {#name, sig, TF_CLASS_LOG}
#define RUN(name, sig) [SYS_##name] = {#name, sig, TF_CLASS_RUN}
#define SPECIAL(name, sig) [SYS_##name] = {#name, sig, TF_CLASS_SPECIAL}
#define NONE(name) [SYS_##name] = {#name, NULL, TF_CLASS_NONE}

/* clang-format off */
const struct tf_call_row tf_call_rows[TF_CALL_ROWS] = {
    LOG(read, "dri"),
    SPECIAL(write, "dbi"),
    LOG(open, "sdd"),
    SPECIAL(close, "d"),
    LOG(stat, "sS"),
    LOG(fstat, "dS"),
    LOG(lstat, "sS"),
    LOG(poll, "yid"),
    LOG(lseek, "did"),
    SPECIAL(mmap, "pidddi"),
    SPECIAL(mprotect, "pid"),
    SPECIAL(munmap, "pi"),
    RUN(brk, "p"),
    SPECIAL(rt_sigaction, "d**i"),
    SPECIAL(rt_sigprocmask, "dk*i"),
    SPECIAL(rt_sigreturn, ""),
    SPECIAL(ioctl, "ddp"),
    LOG(pread64, "drii"),
    LOG(pwrite64, "dbii"),
    LOG(readv, "dwi"),
    SPECIAL(writev, "dvi"),
    LOG(access, "sd"),
    LOG(pipe, "P"),
    LOG(select, "dfffu"),
    RUN(sched_yield, ""),
    SPECIAL(mremap, "piidp"),
    LOG(msync, "pid"),
    SPECIAL(mincore, "pi*"),
    SPECIAL(madvise, "pid"),
    NONE(shmget),
    NONE(shmat),
    NONE(shmctl),
    SPECIAL(dup, "d"),
    SPECIAL(dup2, "dd"),
    LOG(pause, ""),
    LOG(nanosleep, "Tt"),
    LOG(getitimer, "dO"),
    LOG(alarm, "d"),
    LOG(setitimer, "dMO"),
    LOG(getpid, ""),
    LOG(sendfile, "ddqi"),
    LOG(socket, "ddd"),
    LOG(connect, "dAi"),
    LOG(accept, "da*"),
    LOG(sendto, "dbidAi"),
    LOG(recvfrom, "drida*"),
    SPECIAL(sendmsg, "dmd"),
    SPECIAL(recvmsg, "dnd"),
    LOG(shutdown, "dd"),
    LOG(bind, "dAi"),
    LOG(listen, "dd"),
    LOG(getsockname, "da*"),
    LOG(getpeername, "da*"),
    LOG(socketpair, "dddP"),
    LOG(setsockopt, "dddbi"),
    LOG(getsockopt, "dddo*"),
    SPECIAL(clone, "i"),
    SPECIAL(fork, ""),
    SPECIAL(vfork, ""),
    SPECIAL(execve, "sVH"),
    SPECIAL(exit, "d"),
    LOG(wait4, "dWdU"),
    SPECIAL(kill, "dd"),
    LOG(uname, "N"),
    NONE(semget),
    NONE(semop),
    NONE(semctl),
    NONE(shmdt),
    LOG(msgget, "dd"),
    NONE(msgsnd),
    NONE(msgrcv),
    NONE(msgctl),
    SPECIAL(fcntl, "ddp"),
    LOG(flock, "dd"),
    LOG(fsync, "d"),
    LOG(fdatasync, "d"),
    LOG(truncate, "si"),
    LOG(ftruncate, "di"),
    LOG(getdents, "dri"),
    LOG(getcwd, "ri"),
    LOG(chdir, "s"),
    LOG(fchdir, "d"),
    LOG(rename, "ss"),
    LOG(mkdir, "sd"),
    LOG(rmdir, "s"),
    LOG(creat, "sd"),
    LOG(link, "ss"),
    LOG(unlink, "s"),
    LOG(symlink, "ss"),
    LOG(readlink, "sri"),
    LOG(chmod, "sd"),
    LOG(fchmod, "dd"),
    LOG(chown, "sdd"),
    LOG(fchown, "ddd"),
    LOG(lchown, "sdd"),
    LOG(umask, "d"),
    LOG(gettimeofday, "t*"),
    SPECIAL(getrlimit, "dL"),
    LOG(getrusage, "dU"),
    LOG(sysinfo, "Y"),
    LOG(times, "Z"),
    NONE(ptrace),
    LOG(getuid, ""),
    LOG(syslog, "dri"),
    LOG(getgid, ""),
    LOG(setuid, "d"),
    LOG(setgid, "d"),
    LOG(geteuid, ""),
    LOG(getegid, ""),
    LOG(setpgid, "dd"),
    LOG(getppid, ""),
    LOG(getpgrp, ""),
    LOG(setsid, ""),
    LOG(setreuid, "dd"),
    LOG(setregid, "dd"),
    LOG(getgroups, "dg"),
    LOG(setgroups, "dG"),
    LOG(setresuid, "ddd"),
    LOG(getresuid, "WWW"),
    LOG(setresgid, "ddd"),
    LOG(getresgid, "WWW"),
    LOG(getpgid, "d"),
    LOG(setfsuid, "d"),
    LOG(setfsgid, "d"),
    LOG(getsid, "d"),
    NONE(capget),
    NONE(capset),
    SPECIAL(rt_sigpending, "*i"),
    SPECIAL(rt_sigtimedwait, "kjTi"),
    SPECIAL(rt_sigqueueinfo, "dd*"),
    LOG(rt_sigsuspend, "ki"),
    SPECIAL(sigaltstack, "**"),
    LOG(utime, "sT"),
    LOG(mknod, "sdi"),
    NONE(uselib),
    NONE(personality),
    NONE(ustat),
    LOG(statfs, "sF"),
    LOG(fstatfs, "dF"),
    NONE(sysfs),
    LOG(getpriority, "dd"),
    LOG(setpriority, "ddd"),
    LOG(sched_setparam, "dD"),
    LOG(sched_getparam, "dW"),
    LOG(sched_setscheduler, "ddD"),
    LOG(sched_getscheduler, "d"),
    LOG(sched_get_priority_max, "d"),
    LOG(sched_get_priority_min, "d"),
    LOG(sched_rr_get_interval, "dt"),
    LOG(mlock, "pi"),
    LOG(munlock, "pi"),
    LOG(mlockall, "d"),
    LOG(munlockall, ""),
    NONE(vhangup),
    NONE(modify_ldt),
    NONE(pivot_root),
    NONE(_sysctl),
    SPECIAL(prctl, "dpppp"),
    RUN(arch_prctl, "dp"),
    NONE(adjtimex),
    SPECIAL(setrlimit, "dl"),
    NONE(chroot),
    LOG(sync, ""),
    NONE(acct),
    NONE(settimeofday),
    NONE(mount),
    NONE(umount2),
    NONE(swapon),
    NONE(swapoff),
    NONE(reboot),
    NONE(sethostname),
    NONE(setdomainname),
    NONE(iopl),
    NONE(ioperm),
    NONE(create_module),
    NONE(init_module),
    NONE(delete_module),
    NONE(get_kernel_syms),
    NONE(query_module),
    NONE(quotactl),
    NONE(nfsservctl),
    NONE(getpmsg),
    NONE(putpmsg),
    NONE(afs_syscall),
    NONE(tuxcall),
    NONE(security),
    LOG(gettid, ""),
    LOG(readahead, "dii"),
    LOG(setxattr, "ssbid"),
    LOG(lsetxattr, "ssbid"),
    LOG(fsetxattr, "dsbid"),
    LOG(getxattr, "ssri"),
    LOG(lgetxattr, "ssri"),
    LOG(fgetxattr, "dsri"),
    LOG(listxattr, "sri"),
    LOG(llistxattr, "sri"),
    LOG(flistxattr, "dri"),
    LOG(removexattr, "ss"),
    LOG(lremovexattr, "ss"),
    LOG(fremovexattr, "ds"),
    SPECIAL(tkill, "dd"),
    LOG(time, "*"),
    LOG(futex, "*diT*i"),
    LOG(sched_setaffinity, "dix"),
    LOG(sched_getaffinity, "dir"),
    NONE(set_thread_area),
    NONE(io_setup),
    NONE(io_destroy),
    NONE(io_getevents),
    NONE(io_submit),
    NONE(io_cancel),
    NONE(get_thread_area),
    NONE(lookup_dcookie),
    LOG(epoll_create, "d"),
    NONE(epoll_ctl_old),
    NONE(epoll_wait_old),
    NONE(remap_file_pages),
    SPECIAL(getdents64, "dri"),
    SPECIAL(set_tid_address, "p"),
    NONE(restart_syscall),
    NONE(semtimedop),
    LOG(fadvise64, "diid"),
    LOG(timer_create, "dQW"),
    LOG(timer_settime, "ddMO"),
    LOG(timer_gettime, "dO"),
    LOG(timer_getoverrun, "d"),
    LOG(timer_delete, "d"),
    NONE(clock_settime),
    LOG(clock_gettime, "dt"),
    LOG(clock_getres, "dt"),
    LOG(clock_nanosleep, "ddTt"),
    SPECIAL(exit_group, "d"),
    LOG(epoll_wait, "dedd"),
    LOG(epoll_ctl, "dddE"),
    SPECIAL(tgkill, "ddd"),
    LOG(utimes, "sM"),
    NONE(vserver),
    LOG(mbind, "pidBid"),
    LOG(set_mempolicy, "dBi"),
    SPECIAL(get_mempolicy, "**iid"),
    LOG(mq_open, "sddM"),
    LOG(mq_unlink, "s"),
    LOG(mq_timedsend, "dbidT"),
    LOG(mq_timedreceive, "driWT"),
    LOG(mq_notify, "dQ"),
    LOG(mq_getsetattr, "dMJ"),
    NONE(kexec_load),
    LOG(waitid, "ddjdU"),
    LOG(add_key, "ssbid"),
    LOG(request_key, "sssd"),
    NONE(keyctl),
    LOG(ioprio_set, "ddd"),
    LOG(ioprio_get, "dd"),
    LOG(inotify_init, ""),
    LOG(inotify_add_watch, "dsd"),
    LOG(inotify_rm_watch, "dd"),
    LOG(migrate_pages, "diBB"),
    LOG(openat, "dsdd"),
    LOG(mkdirat, "dsd"),
    LOG(mknodat, "dsdi"),
    LOG(fchownat, "dsddd"),
    LOG(futimesat, "dsM"),
    LOG(newfstatat, "dsSd"),
    LOG(unlinkat, "dsd"),
    LOG(renameat, "dsds"),
    LOG(linkat, "dsdsd"),
    LOG(symlinkat, "sds"),
    LOG(readlinkat, "dsri"),
    LOG(fchmodat, "dsd"),
    LOG(faccessat, "dsd"),
    LOG(pselect6, "dfffuK"),
    LOG(ppoll, "yiuki"),
    NONE(unshare),
    RUN(set_robust_list, "pi"),
    NONE(get_robust_list),
    LOG(splice, "dqdqid"),
    LOG(tee, "ddid"),
    LOG(sync_file_range, "diid"),
    NONE(vmsplice),
    SPECIAL(move_pages, "di***d"),
    LOG(utimensat, "dsMd"),
    LOG(epoll_pwait, "deddki"),
    LOG(signalfd, "dki"),
    LOG(timerfd_create, "dd"),
    LOG(eventfd, "d"),
    LOG(fallocate, "ddii"),
    LOG(timerfd_settime, "ddMO"),
    LOG(timerfd_gettime, "dO"),
    LOG(accept4, "da*d"),
    LOG(signalfd4, "dkid"),
    LOG(eventfd2, "dd"),
    LOG(epoll_create1, "d"),
    SPECIAL(dup3, "ddd"),
    LOG(pipe2, "Pd"),
    LOG(inotify_init1, "d"),
    LOG(preadv, "dwiii"),
    LOG(pwritev, "dviii"),
    SPECIAL(rt_tgsigqueueinfo, "ddd*"),
    NONE(perf_event_open),
    SPECIAL(recvmmsg, "d_ddu"),
    LOG(fanotify_init, "dd"),
    LOG(fanotify_mark, "ddids"),
    SPECIAL(prlimit64, "ddlL"),
    SPECIAL(name_to_handle_at, "ds__d"),
    LOG(open_by_handle_at, "dhd"),
    NONE(clock_adjtime),
    LOG(syncfs, "d"),
    SPECIAL(sendmmsg, "d_dd"),
    NONE(setns),
    LOG(getcpu, "WW_"),
    LOG(process_vm_readv, "dwi*ii"),
    NONE(process_vm_writev),
    LOG(kcmp, "dddii"),
    NONE(finit_module),
    LOG(sched_setattr, "dzd"),
    LOG(sched_getattr, "dCid"),
    LOG(renameat2, "dsdsd"),
    NONE(seccomp),
    LOG(getrandom, "rid"),
    LOG(memfd_create, "sd"),
    NONE(kexec_file_load),
    NONE(bpf),
    SPECIAL(execveat, "dsVHd"),
    NONE(userfaultfd),
    RUN(membarrier, "ddd"),
    LOG(mlock2, "pid"),
    LOG(copy_file_range, "dqdqid"),
    LOG(preadv2, "dwiiid"),
    LOG(pwritev2, "dviiid"),
    NONE(pkey_mprotect),
    NONE(pkey_alloc),
    NONE(pkey_free),
    LOG(statx, "dsddX"),
    NONE(io_pgetevents),
    RUN(rseq, "pddd"),
    LOG(pidfd_send_signal, "dd*d"),
    NONE(io_uring_setup),
    NONE(io_uring_enter),
    NONE(io_uring_register),
    NONE(open_tree),
    NONE(move_mount),
    NONE(fsopen),
    NONE(fsconfig),
    NONE(fsmount),
    NONE(fspick),
    LOG(pidfd_open, "dd"),
    SPECIAL(clone3, "i"),
    SPECIAL(close_range, "ddd"),
    LOG(openat2, "dsbi"),
    SPECIAL(pidfd_getfd, "ddd"),
    LOG(faccessat2, "dsdd"),
    LOG(process_madvise, "d*idd"),
    LOG(epoll_pwait2, "dedTki"),
    NONE(mount_setattr),
    NONE(quotactl_fd),
    NONE(landlock_create_ruleset),
    NONE(landlock_add_rule),
    NONE(landlock_restrict_self),
    NONE(memfd_secret),
    NONE(process_mrelease),
    NONE(futex_waitv),
    LOG(set_mempolicy_home_node, "piii"),
};
/* clang-format on */

#define WHOLE(number, name, sig) [(number)-TF_CALL_SEM_WAIT] = {name, sig, TF_CLASS_SPECIAL}

static const struct tf_call_row whole_rows[TF_CALL_SEM_END - TF_CALL_SEM_WAIT] = {
    WHOLE(TF_CALL_SEM_WAIT, "sem_wait", "p"),
    WHOLE(TF_CALL_SEM_TRYWAIT, "sem_trywait", "p"),
    WHOLE(TF_CALL_SEM_TIMEDWAIT, "sem_timedwait", "pT"),
    WHOLE(TF_CALL_SEM_CLOCKWAIT, "sem_clockwait", "pdT"),
    WHOLE(TF_CALL_SEM_POST, "sem_post", "p"),
    WHOLE(TF_CALL_SEM_GETVALUE, "sem_getvalue", "p"),
};

const struct tf_call_row *tf_call_row(unsigned call)
{
    if (call < TF_CALL_ROWS && tf_call_rows[call].name)
        return &tf_call_rows[call];
    if (call >= TF_CALL_SEM_WAIT && call < TF_CALL_SEM_END)
        return &whole_rows[call - TF_CALL_SEM_WAIT];
    return NULL;
}

bool tf_call_is_turn(unsigned call)
{
    return call == TF_CALL_TURN || call == TF_CALL_YIELD || call == TF_CALL_PREEMPT;
}

const char *tf_call_name(unsigned call, char *buf, size_t size)
{
    const struct tf_call_row *row = tf_call_row(call);
    if (row)
        return row->name;
    if (call == TF_CALL_CODE)
        return "first run of a function";
    if (call == TF_CALL_SIGNAL)
        return "a signal";
    if (call == TF_CALL_FAULT)
        return "a page without a file";
    if (call == TF_CALL_START)
        return "the start";
    if (call == TF_CALL_MARK)
        return "mark";
    if (call == TF_CALL_TURN)
        return "the turn of another thread";
    if (call == TF_CALL_YIELD)
        return "a hand-over to other threads";
    if (call == TF_CALL_PREEMPT)
        return "a hand-over to other threads within a function";
    snprintf(buf, size, "system call %u", call);
    return buf;
}

struct writer {
    char *buf;
    size_t size, len;
};

static void put(struct writer *w, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (w->len + 5 >= w->size)
            return;
        if (c == '\n') {
            w->buf[w->len++] = '\\';
            w->buf[w->len++] = 'n';
        } else if (c < 32 || c == 127) {
            w->len += (size_t)snprintf(w->buf + w->len, 5, "\\x%02x", c);
        } else {
            w->buf[w->len++] = (char)c;
        }
    }
}

static void puts_(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

size_t tf_call_in_size(char letter)
{
    switch (letter) {
    case 'T':
    case 'u':
    case 'l':
        return 16;
    case 'M':
        return 32;
    case 'E':
        return 12;
    case 'k':
    case 'q':
    case 'K':
    case 'Q':
        return 8;
    case 'D':
        return 4;
    default:
        return 0;
    }
}

bool tf_call_is_read(char letter)
{
    return !strchr("rtSXFUNYZLWPegC_wOjJ", letter);
}

/* Walks the encoding of calls.h; stops quietly where the bytes end, for they may come from a damaged file. */
size_t tf_call_format_args(char *buf, size_t size, unsigned call, const uint8_t *args, size_t args_len)
{
    struct writer w = {buf, size, 0};
    char name[32];
    if (size == 0)
        return 0;
    puts_(&w, tf_call_name(call, name, sizeof name));
    if (tf_call_is_turn(call)) {
        w.buf[w.len] = 0;
        return w.len;
    }
    puts_(&w, "(");
    const struct tf_call_row *row = tf_call_row(call);
    const char *sig = row ? row->sig : NULL;
    const uint8_t *at = args, *end = args + args_len;
    for (size_t i = 0; sig && sig[i]; i++) {
        uint64_t v = 0;
        char num[32];
        if (i)
            puts_(&w, ", ");
        if (!tf_call_is_read(sig[i])) {
            puts_(&w, "...");
            continue;
        }
        if (end - at < 8)
            break;
        memcpy(&v, at, 8);
        at += 8;
        switch (sig[i]) {
        case 'd':
        case 'i':
            snprintf(num, sizeof num, "%lld", (long long)v);
            puts_(&w, num);
            break;
        case 's':
            if ((uint32_t)v == 0xffffffffu) {
                puts_(&w, "NULL");
            } else if ((size_t)(end - at) >= ((v + 7) & ~7ull)) {
                puts_(&w, "\"");
                put(&w, (const char *)at, v);
                puts_(&w, "\"");
                at += (v + 7) & ~7ull;
            } else {
                at = end;
            }
            break;
        case 'b':
        case 'x':
        case 'v':
        case 'A':
        case 'm':
            puts_(&w, "<data>");
            break;
        case 'V': /* a hash, then the strings */
            if (end - at < 8)
                break;
            memcpy(&v, at, 8);
            at += 8;
            puts_(&w, "[");
            if ((size_t)(end - at) >= ((v + 7) & ~7ull)) {
                put(&w, (const char *)at, v);
                at += (v + 7) & ~7ull;
            } else {
                at = end;
            }
            puts_(&w, "]");
            break;
        case 'H':
            puts_(&w, "[...]");
            break;
        case '*':
            puts_(&w, v ? "..." : "NULL");
            break;
        case 'p':
            snprintf(num, sizeof num, v ? "%#llx" : "NULL", (unsigned long long)v);
            puts_(&w, num);
            break;
        default:
            puts_(&w, v ? "{...}" : "NULL");
            if (v) {
                size_t n = (tf_call_in_size(sig[i]) + 7) & ~7ull;
                at = (size_t)(end - at) < n ? end : at + n;
            }
            break;
        }
    }
    puts_(&w, ")");
    w.buf[w.len < size ? w.len : size - 1] = 0;
    return w.len;
}

static size_t format_turn(char *buf, size_t size, const struct tf_outside *event)
{
    struct writer w = {buf, size, 0};
    char text[48];
    uint64_t why = TF_TURN_PLAIN;
    if (size == 0)
        return 0;
    if (event->args_len >= sizeof why)
        memcpy(&why, tf_outside_args(event), sizeof why);
    snprintf(text, sizeof text, "the turn of thread %lld", (long long)event->result);
    puts_(&w, text);
    why = TF_TURN_WHY(why);
    puts_(&w, why == TF_TURN_TIMEOUT  ? ", whose time of waiting is over"
              : why == TF_TURN_SIGNAL ? ", to which a signal came"
                                      : "");
    buf[w.len] = 0;
    return w.len;
}

size_t tf_call_format(char *buf, size_t size, const struct tf_outside *event)
{
    char result[64];
    if (event->call == TF_CALL_TURN)
        return format_turn(buf, size, event);
    size_t n = tf_call_format_args(buf, size, event->call, tf_outside_args(event), event->args_len);
    if ((event->call >= TF_CALL_ROWS && !tf_call_row(event->call)) || n + 1 >= size)
        return n;
    if (event->result < 0 && event->result > -4096)
        snprintf(result, sizeof result, " = -1 (%s)", strerrorname_np((int)-event->result));
    else if (event->call == SYS_mmap || event->call == SYS_brk || event->call == SYS_mremap)
        snprintf(result, sizeof result, " = %#llx", (unsigned long long)event->result);
    else
        snprintf(result, sizeof result, " = %lld", (long long)event->result);
    struct writer w = {buf, size, n};
    puts_(&w, result);
    buf[w.len < size ? w.len : size - 1] = 0;
    return w.len;
}
