/*
 * criu_restore.c: a restored process, in namespaces of its own.
 *
 * The first process of the new pid namespace (the keeper) is ours: it gives the namespace its own /proc,
 * starts criu, which makes the process as the keeper's child (--restore-sibling), and then reaps whatever
 * ends there until nothing is left. When the keeper ends, the kernel ends everything in the namespace; and
 * the keeper ends with the supervisor. A signal from the terminal does not reach it.
 *
 * The process gets the pid that it had. The keeper has 1, and criu shall not have that number either.
 */
#include "checkpoint/criu_local.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESTORE_MS 120000

/* Where the keeper's start failed. */
enum step { STEP_FILES = 1, STEP_IDS, STEP_PRIVATE, STEP_PROC, STEP_CRIU, STEP_DONE };

struct report {
    enum step step;
    int error;  /* errno */
    int status; /* of criu, as of waitpid() */
};

struct plan {
    const struct tf_criu_args *args;
    pid_t pid; /* that the process had */
    uid_t uid;
    gid_t gid;
    bool user_ns;
    int report, socket; /* the keeper's ends */
};

static pid_t clone_process(uint64_t flags, pid_t wanted)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    if (wanted) {
        args.set_tid = (uintptr_t)&wanted;
        args.set_tid_size = 1;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* criu and its helpers get numbers far from those of the image. */
static int run_criu(const struct plan *plan, struct report *report)
{
    pid_t criu = -1, ended;
    if (plan->pid < 1000)
        criu = clone_process(0, 30000);
    if (criu < 0)
        criu = clone_process(0, 0);
    if (criu == 0) {
        fcntl(3, F_SETFD, FD_CLOEXEC);
        tf_criu_exec(plan->args);
        _exit(127);
    }
    if (criu < 0)
        return -errno;
    do
        ended = waitpid(-1, &report->status, 0);
    while ((ended < 0 && errno == EINTR) || (ended > 0 && ended != criu));
    return 0;
}

static int prepare(const struct plan *plan, struct report *report)
{
    int keep[] = {plan->report, plan->socket}, rc;
    report->step = STEP_FILES;
    if ((rc = tf_criu_child_files(keep, 2)))
        return rc;
    report->step = STEP_IDS;
    if (plan->user_ns && (rc = tf_criu_map_ids("/proc/self", plan->uid, plan->gid)))
        return rc;
    /* What is mounted here stays here. */
    report->step = STEP_PRIVATE;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    report->step = STEP_PROC;
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -errno;
    report->step = STEP_CRIU;
    return run_criu(plan, report);
}

/* A copy of the supervisor, which may have had threads: nothing here allocates. */
static _Noreturn void keeper(const struct plan *plan)
{
    struct report report = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "timefork-restored");
    setsid();
    int rc = prepare(plan, &report);
    if (rc)
        report.error = -rc;
    else if (report.status == 0)
        report.step = STEP_DONE;
    /* If the descriptors failed it is still where it was. Who is not there any more to read it has ended
     * before PR_SET_PDEATHSIG. */
    int to = report.step == STEP_FILES ? plan->report : 3;
    if (send(to, &report, sizeof report, MSG_NOSIGNAL) != sizeof report || report.step != STEP_DONE)
        _exit(1);
    close_range(3, ~0u, 0);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    _exit(0);
}

static int read_facts(const char *folder, uint64_t *inode, pid_t *pid, struct tf_err *err)
{
    char path[4096];
    unsigned long long number;
    int n = 0;
    snprintf(path, sizeof path, "%s/" TF_CRIU_FACTS, folder);
    FILE *f = fopen(path, "re");
    if (f) {
        n = fscanf(f, "socket %llu pid %d", &number, pid);
        fclose(f);
    }
    if (n != 2)
        return tf_err_set(err, TF_E_FORMAT, "%s: not a file of a checkpoint", path);
    *inode = number;
    return 0;
}

static int explain(const struct report *report, const char *folder, struct tf_err *err)
{
    static const char *const steps[] = {
        [STEP_FILES] = "no descriptors for it",
        [STEP_IDS] = "its user namespace takes no ids",
        [STEP_PRIVATE] = "it gets no mounts of its own",
        [STEP_PROC] =
            "its namespace gets no /proc (a container that hides parts of its own /proc forbids it)",
        [STEP_CRIU] = "criu cannot be started",
    };
    if (report->error)
        return tf_err_set(err, TF_E_IO, "restoring a checkpoint: %s: %s%s%s", steps[report->step],
                          strerror(report->error), report->error == EPERM ? ": " : "",
                          report->error == EPERM ? tf_criu_forbidden() : "");
    return tf_criu_failed(folder, TF_CRIU_RESTORE_LOG, report->status, "restoring a checkpoint", err);
}

static void close_all(int *fds, int n)
{
    for (int i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* 0, or a failure of ours; what the keeper says is in the report. */
static int wait_for(int from, int cancel, struct report *report, struct tf_err *err)
{
    struct pollfd ready[] = {{.fd = from, .events = POLLIN}, {.fd = cancel, .events = POLLIN}};
    int n;
    while ((n = poll(ready, 2, RESTORE_MS)) < 0 && errno == EINTR)
        ;
    if (n < 0)
        return tf_err_set(err, TF_E_IO, "restoring a checkpoint: %s", strerror(errno));
    if (n == 0)
        return tf_err_set(err, TF_E_TIMEOUT, "restoring a checkpoint: criu does not come to an end");
    if (ready[1].revents)
        return tf_err_set(err, TF_E_CANCELLED, "restoring a checkpoint: its images are not complete");
    if (read(from, report, sizeof *report) != sizeof *report)
        return tf_err_set(err, TF_E_IO,
                          "restoring a checkpoint: the first process of its namespace has ended");
    return 0;
}

int tf_criu_restore(const struct tf_criu *criu, const char *folder, int *socket, pid_t *keeper_pid,
                    struct tf_err *err)
{
    return tf_criu_restore_unless(criu, folder, -1, socket, keeper_pid, err);
}

int tf_criu_restore_unless(const struct tf_criu *criu, const char *folder, int cancel, int *socket,
                           pid_t *keeper_pid, struct tf_err *err)
{
    struct tf_criu_args args;
    struct report report;
    struct plan plan = {.args = &args, .uid = geteuid(), .gid = getegid(), .user_ns = !criu->privileged};
    char inherit[64];
    uint64_t inode = 0;
    int fds[4] = {-1, -1, -1, -1}, one = 1; /* the process's socket, ours and its; reports, ours and its */
    pid_t pid = -1;

    *socket = -1;
    *keeper_pid = -1;
    int rc = read_facts(folder, &inode, &plan.pid, err);
    if (rc)
        return rc;
    snprintf(inherit, sizeof inherit, "fd[4]:socket:[%llu]", (unsigned long long)inode);
    tf_criu_args(&args, criu, "restore", folder, TF_CRIU_RESTORE_LOG);
    tf_criu_arg(&args, "--restore-detached");
    tf_criu_arg(&args, "--restore-sibling");
    tf_criu_arg(&args, "--inherit-fd");
    tf_criu_arg(&args, inherit);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds + 2) < 0 ||
        setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0) {
        rc = tf_err_set(err, TF_E_IO, "restoring a checkpoint: no socket: %s", strerror(errno));
        goto out;
    }
    plan.socket = fds[1];
    plan.report = fds[3];
    pid = clone_process(CLONE_NEWPID | CLONE_NEWNS | (plan.user_ns ? CLONE_NEWUSER : 0), 0);
    if (pid == 0)
        keeper(&plan);
    if (pid < 0) {
        rc = plan.user_ns
                 ? tf_criu_no_user_ns(errno, err)
                 : tf_err_set(err, TF_E_IO, "restoring a checkpoint: no pid namespace: %s", strerror(errno));
        goto out;
    }
    close_all(fds + 3, 1);
    close_all(fds + 1, 1);
    fds[1] = fds[3] = -1;
    rc = wait_for(fds[2], cancel, &report, err);
    if (!rc && report.step != STEP_DONE)
        rc = explain(&report, folder, err);
    if (rc) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        goto out;
    }
    *socket = fds[0];
    *keeper_pid = pid;
    fds[0] = -1;
out:
    close_all(fds, 4);
    return rc;
}
