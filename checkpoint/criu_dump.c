/*
 * criu_dump.c: a dump, beside what the supervisor does.
 *
 * A process of its own (the watcher) starts criu, waits for it, says how it ended, and then waits until
 * nobody wants the folder any more: until the other end of its socket is closed, by tf_criu_dump_end() or
 * because the supervisor was killed. So images never stay in memory or on the disk. criu itself is never
 * killed: its half of a dump is in the process.
 */
#include "checkpoint/criu_local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The inode of a process's only socket. */
static int find_socket(pid_t pid, uint64_t *inode, struct tf_err *err)
{
    char path[64], link[64];
    int n = 0, other = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        return tf_err_set(err, TF_E_IO, "process %d cannot be dumped: reading %s: %s", (int)pid, path,
                          strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir));) {
        unsigned long long number;
        if (*entry->d_name == '.')
            continue;
        ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1);
        link[len > 0 ? len : 0] = 0;
        if (sscanf(link, "socket:[%llu]", &number) == 1) {
            *inode = number;
            n++;
        } else
            other++;
    }
    closedir(dir);
    if (n == 1 && other == 0)
        return 0;
    return tf_err_set(
        err, TF_E_USAGE,
        "process %d cannot be dumped: it has %d sockets and %d other open files, not one socket", (int)pid, n,
        other);
}

static uint64_t resident(pid_t pid)
{
    char path[64];
    unsigned long long size = 0, pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%llu %llu", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * 4096;
}

static int write_facts(const char *folder, pid_t pid, uint64_t inode, struct tf_err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/" TF_CRIU_FACTS, folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && dprintf(fd, "socket %llu\npid %d\n", (unsigned long long)inode, (int)pid) > 0;
    if (fd >= 0)
        close(fd);
    return ok ? 0 : tf_err_set(err, TF_E_IO, "writing %s: %s", path, strerror(errno));
}

/* The namespace that the process has made: without ids yet. */
static int open_namespace(pid_t pid, int *fd, struct tf_err *err)
{
    char path[64], ours[64], theirs[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    ssize_t a = readlink("/proc/self/ns/user", ours, sizeof ours);
    ssize_t b = readlink(path, theirs, sizeof theirs);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || a < 0 || b < 0)
        return tf_err_set(err, TF_E_IO, "process %d cannot be dumped: opening %s: %s", (int)pid, path,
                          strerror(errno));
    if (a == b && memcmp(ours, theirs, (size_t)a) == 0)
        return tf_err_set(
            err, TF_E_IO,
            "process %d cannot be dumped: without privileges that takes a user namespace, and it "
            "has none of its own",
            (int)pid);
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    int rc = tf_criu_map_ids(path, geteuid(), getegid());
    if (rc)
        return tf_err_set(err, TF_E_IO, "process %d cannot be dumped: its user namespace takes no ids: %s",
                          (int)pid, strerror(-rc));
    return 0;
}

/* Starts criu and waits for it. Its status, as of waitpid(). */
static int run(const struct tf_criu_args *args, int user_ns)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (user_ns >= 0 && setns(user_ns, CLONE_NEWUSER) < 0)
            _exit(126);
        if (tf_criu_child_files(NULL, 0) == 0)
            tf_criu_exec(args);
        _exit(127);
    }
    if (pid < 0)
        return 127 << 8;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 127 << 8;
    return status;
}

static _Noreturn void watch(const struct tf_criu_args *args, int user_ns, int control, char *folder)
{
    /* Not the terminal's ^C, and nothing that the supervisor has open. */
    setsid();
    int keep[] = {control, user_ns}, n = user_ns >= 0 ? 2 : 1;
    if (tf_criu_child_files(keep, n))
        _exit(1);
    signal(SIGPIPE, SIG_IGN);
    int status = run(args, n == 2 ? 4 : -1);
    char byte;
    if (write(3, &status, sizeof status) == sizeof status)
        while (read(3, &byte, 1) < 0 && errno == EINTR)
            ;
    tf_criu_folder_remove(folder);
    _exit(0);
}

int tf_criu_dump_start(const struct tf_criu *criu, pid_t pid, struct tf_criu_dump *out, struct tf_err *err)
{
    struct tf_criu_args args;
    char number[16], external[48];
    int user_ns = -1, pair[2] = {-1, -1};
    uint64_t inode = 0;

    *out = (struct tf_criu_dump){.control = -1, .result = -1};
    int rc = find_socket(pid, &inode, err);
    if (!rc && !criu->privileged)
        rc = open_namespace(pid, &user_ns, err);
    if (!rc)
        rc = tf_criu_folder(resident(pid), &out->folder, err);
    if (!rc)
        rc = write_facts(out->folder, pid, inode, err);
    if (rc)
        goto out;
    snprintf(number, sizeof number, "%d", (int)pid);
    snprintf(external, sizeof external, "unix[%llu]", (unsigned long long)inode);
    tf_criu_args(&args, criu, "dump", out->folder, TF_CRIU_DUMP_LOG);
    tf_criu_arg(&args, "--tree");
    tf_criu_arg(&args, number);
    tf_criu_arg(&args, "--external");
    tf_criu_arg(&args, external);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || (out->pid = fork()) < 0) {
        rc = tf_err_set(err, TF_E_IO, "dumping process %d: no process for it: %s", (int)pid, strerror(errno));
        goto out;
    }
    if (out->pid == 0)
        watch(&args, user_ns, pair[1], out->folder);
    out->control = pair[0];
    pair[0] = -1;
out:
    if (rc) {
        tf_criu_folder_remove(out->folder);
        *out = (struct tf_criu_dump){.control = -1, .result = -1};
    }
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
    if (user_ns >= 0)
        close(user_ns);
    return rc;
}

int tf_criu_dump_poll(struct tf_criu_dump *dump, bool wait, struct tf_err *err)
{
    struct pollfd ready = {.fd = dump->control, .events = POLLIN};
    if (dump->result < 0) {
        int n, status;
        while ((n = poll(&ready, 1, wait ? -1 : 0)) < 0 && errno == EINTR)
            ;
        if (n == 0)
            return 0;
        ssize_t len = read(dump->control, &status, sizeof status);
        if (len != sizeof status)
            return tf_err_set(err, TF_E_IO, "dumping a process: who waits for criu has ended");
        dump->result = status;
    }
    if (dump->result == 0)
        return 1;
    return tf_criu_failed(dump->folder, TF_CRIU_DUMP_LOG, dump->result, "dumping a process", err);
}

void tf_criu_dump_end(struct tf_criu_dump *dump)
{
    if (dump->pid > 0) {
        close(dump->control);
        while (waitpid(dump->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        free(dump->folder);
    }
    *dump = (struct tf_criu_dump){.control = -1, .result = -1};
}
