/*
 * criu_probe.c: does criu work here? Versions and settings do not say: a tiny child is dumped and restored.
 */
#include "checkpoint/criu_local.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MS 5000

/* Does what a process does before it is dumped (criu.h), and then answers each number with the next one; the
 * last is kept, so that memory is a part of it. */
static _Noreturn void tiny(int socket, bool user_ns)
{
    uint32_t sum = 0, number;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    if (chdir("/") < 0 || dup2(socket, 0) < 0)
        _exit(1);
    close_range(1, ~0u, 0);
    if (user_ns && unshare(CLONE_NEWUSER) < 0)
        sum = (uint32_t)errno | 1u << 31;
    while (read(0, &number, sizeof number) == sizeof number) {
        number += sum;
        if (write(0, &number, sizeof number) != sizeof number)
            break;
        sum = number;
    }
    _exit(0);
}

static int ask(int socket, uint32_t number, uint32_t *answer)
{
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    if (send(socket, &number, sizeof number, MSG_NOSIGNAL) != sizeof number)
        return -1;
    if (poll(&ready, 1, ANSWER_MS) != 1)
        return -1;
    return read(socket, answer, sizeof *answer) == sizeof *answer ? 0 : -1;
}

static int dump_and_restore(const struct tf_criu *criu, pid_t child, struct tf_err *err)
{
    struct tf_criu_dump dump = {0};
    int socket = -1;
    pid_t keeper = -1;
    uint32_t answer = 0;
    int rc = tf_criu_dump_start(criu, child, &dump, err);
    if (rc)
        return rc;
    rc = tf_criu_dump_poll(&dump, true, err);
    if (rc == 1)
        rc = tf_criu_restore(criu, dump.folder, &socket, &keeper, err);
    /* 100 was asked before. */
    if (!rc && (ask(socket, 1, &answer) || answer != 101))
        rc = tf_err_set(err, TF_E_IO, "a restored process does not go on: it answers %u instead of 101",
                        answer);
    if (keeper > 0) {
        kill(keeper, SIGKILL);
        waitpid(keeper, NULL, 0);
        close(socket);
    }
    tf_criu_dump_end(&dump);
    return rc;
}

int tf_criu_probe(const struct tf_criu *criu, struct tf_err *err)
{
    int pair[2], rc;
    uint32_t answer = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return tf_err_set(err, TF_E_IO, "trying criu: no socket: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0)
        tiny(pair[1], !criu->privileged);
    close(pair[1]);
    if (child < 0) {
        close(pair[0]);
        return tf_err_set(err, TF_E_IO, "trying criu: no process: %s", strerror(errno));
    }
    if (ask(pair[0], 100, &answer))
        rc = tf_err_set(err, TF_E_IO, "trying criu: its child has ended");
    else if (answer != 100)
        rc = tf_criu_no_user_ns((int)(answer - 100 - (1u << 31)), err);
    else
        rc = dump_and_restore(criu, child, err);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(pair[0]);
    return rc;
}
