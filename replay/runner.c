/* runner.c: see runner.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "replay/runner.h"

int64_t tf_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void tf_divergence_words(const uint8_t *data, size_t len, char *out, size_t size)
{
    struct tf_diverge_rep rep = {0};
    size_t at = sizeof rep;
    if (len >= at)
        memcpy(&rep, data, sizeof rep);
    at += rep.words * sizeof(uint32_t) + rep.args_len + rep.data_len;
    size_t n = at <= len ? len - at : 0;
    if (n > rep.text_len)
        n = rep.text_len;
    snprintf(out, size, "after frame event %llu: %.*s", (unsigned long long)rep.place.frame, (int)n,
             n ? (const char *)data + at : "");
}

/* Did it say, before it ended, that it cannot go on? Nobody may have been listening. */
static bool last_words(const struct tf_runner *runner, struct tf_err *err)
{
    struct tf_msg msg;
    char text[1000];
    if (recv(runner->socket, &msg, sizeof msg, MSG_DONTWAIT) != sizeof msg || msg.op != TF_REP_DIVERGENCE)
        return false;
    uint8_t *data = malloc(msg.len);
    size_t have = 0;
    while (data && have < msg.len) {
        ssize_t n = recv(runner->socket, data + have, msg.len - have, MSG_DONTWAIT);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    bool whole = data && have == msg.len;
    if (whole) {
        tf_divergence_words(data, have, text, sizeof text);
        tf_err_set(err, TF_E_DIVERGENCE, "%s", text);
    }
    free(data);
    return whole;
}

/* Says how a process ended whose socket is closed. */
static int gone(const struct tf_runner *runner, struct tf_err *err)
{
    int status = 0;
    pid_t r = 0;
    if (last_words(runner, err))
        return err ? err->code : TF_E_DIVERGENCE;
    for (int i = 0; i < 200 && r == 0 && runner->pid > 0; i++) { /* never a child that belongs to others */
        r = waitpid(runner->pid, &status, WNOHANG);
        if (r == 0)
            usleep(1000);
    }
    if (r == runner->pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        return tf_err_set(
            err, TF_E_REPLAY,
            "the replaying process made a system call that a replay does not make, and could not "
            "say which: the kernel has ended it (signal %d)",
            SIGSYS);
    if (r == runner->pid && WIFSIGNALED(status))
        return tf_err_set(err, TF_E_REPLAY, "the replaying process was ended by signal %d (%s)",
                          WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (r == runner->pid && WIFEXITED(status))
        return tf_err_set(err, TF_E_REPLAY, "the replaying process ended with status %d",
                          WEXITSTATUS(status));
    return tf_err_set(err, TF_E_REPLAY, "the replaying process is gone");
}

static int send_all(const struct tf_runner *runner, struct iovec *parts, int n, int fd, struct tf_err *err)
{
    while (n) {
        union {
            struct cmsghdr align;
            char space[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct msghdr msg = {.msg_iov = parts, .msg_iovlen = (size_t)n};
        if (fd >= 0) {
            msg.msg_control = &control;
            msg.msg_controllen = sizeof control;
            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(c), &fd, sizeof fd);
        }
        ssize_t r = sendmsg(runner->socket, &msg, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno == EPIPE || errno == ECONNRESET
                       ? gone(runner, err)
                       : tf_err_set(err, TF_E_IO, "cannot reach the replaying process: %s", strerror(errno));
        fd = -1;
        while (n && (size_t)r >= parts->iov_len) {
            r -= (ssize_t)parts->iov_len;
            parts++;
            n--;
        }
        if (n) {
            parts->iov_base = (uint8_t *)parts->iov_base + r;
            parts->iov_len -= (size_t)r;
        }
    }
    return 0;
}

int tf_runner_send(const struct tf_runner *runner, enum tf_op op, const void *head, size_t head_len,
                   const void *body, size_t body_len, struct tf_err *err)
{
    struct tf_msg msg = {.op = op, .len = head_len + body_len};
    struct iovec parts[3] = {{&msg, sizeof msg}, {(void *)head, head_len}, {(void *)body, body_len}};
    return send_all(runner, parts, 3, -1, err);
}

static int recv_all(const struct tf_runner *runner, void *to, size_t len, int *fd, int64_t deadline_ms,
                    struct tf_err *err)
{
    uint8_t *at = to;
    while (len) {
        struct pollfd poll_fd = {.fd = runner->socket, .events = POLLIN};
        int64_t left = deadline_ms < 0 ? -1 : deadline_ms - tf_now_ms();
        if (deadline_ms >= 0 && left < 0)
            left = 0;
        int ready = poll(&poll_fd, 1, (int)left);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return tf_err_set(err, TF_E_TIMEOUT, "the replaying process did not answer in time");
        union {
            struct cmsghdr align;
            char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec part = {at, len};
        struct msghdr msg = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        ssize_t r = recvmsg(runner->socket, &msg, MSG_CMSG_CLOEXEC);
        if (r < 0 && errno == EINTR)
            continue;
        if (r == 0 || (r < 0 && errno == ECONNRESET))
            return gone(runner, err);
        if (r < 0)
            return tf_err_set(err, TF_E_IO, "cannot hear the replaying process: %s", strerror(errno));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        if (c && c->cmsg_type == SCM_RIGHTS) {
            int got;
            memcpy(&got, CMSG_DATA(c), sizeof got);
            if (fd && *fd < 0)
                *fd = got;
            else
                close(got);
        }
        at += r;
        len -= (size_t)r;
    }
    return 0;
}

int tf_runner_recv(const struct tf_runner *runner, struct tf_message *message, int64_t deadline_ms,
                   struct tf_err *err)
{
    struct tf_msg head;
    message->fd = -1;
    int r = recv_all(runner, &head, sizeof head, &message->fd, deadline_ms, err);
    if (r)
        return r;
    if (head.len > message->room) {
        uint8_t *data = realloc(message->data, head.len);
        if (!data)
            return tf_err_set(err, TF_E_IO, "out of memory for an answer of %llu bytes",
                              (unsigned long long)head.len);
        message->data = data;
        message->room = head.len;
    }
    message->op = head.op;
    message->len = head.len;
    return recv_all(runner, message->data, head.len, &message->fd, deadline_ms, err);
}

int tf_runner_wait(const struct tf_runner *runner, const volatile bool *cancel, struct tf_err *err)
{
    for (;;) {
        struct pollfd poll_fd = {.fd = runner->socket, .events = POLLIN};
        if (cancel && *cancel)
            return tf_err_set(err, TF_E_CANCELLED, "interrupted");
        if (poll(&poll_fd, 1, cancel ? 100 : -1) > 0)
            return 0;
    }
}

int tf_runner_send_fd(const struct tf_runner *runner, enum tf_op op, int fd, struct tf_err *err)
{
    struct tf_msg msg = {.op = op};
    struct iovec part = {&msg, sizeof msg};
    return send_all(runner, &part, 1, fd, err);
}

int tf_runner_share(const struct tf_runner *runner, int ctl_fd, int log_fd, struct tf_err *err)
{
    const struct {
        uint32_t which;
        int fd;
    } shared[] = {{TF_FD_CTL, ctl_fd}, {TF_FD_LOG, log_fd}};
    int r = 0;
    for (size_t i = 0; i < sizeof shared / sizeof *shared && !r; i++) {
        struct tf_msg msg = {.op = TF_REQ_SHARED, .len = sizeof shared[i].which};
        uint32_t which = shared[i].which;
        struct iovec parts[2] = {{&msg, sizeof msg}, {&which, sizeof which}};
        r = send_all(runner, parts, 2, shared[i].fd, err);
    }
    return r;
}

bool tf_runner_is_gone(const struct tf_runner *runner, int wait_ms)
{
    struct pollfd fd = {.fd = runner->socket};
    return runner->socket < 0 || (poll(&fd, 1, wait_ms) > 0 && (fd.revents & (POLLHUP | POLLERR | POLLNVAL)));
}

int tf_runner_fork(const struct tf_runner *runner, struct tf_runner *copy, struct tf_place *place,
                   struct tf_err *err)
{
    int fds[2];
    struct tf_message message = {0};

    *copy = TF_RUNNER_NONE;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return tf_err_set(err, TF_E_IO, "cannot make a socket: %s", strerror(errno));
    int r = tf_runner_send_fd(runner, TF_REQ_FORK, fds[1], err);
    close(fds[1]);
    copy->socket = fds[0];
    if (r == 0)
        r = tf_runner_recv(copy, &message, tf_now_ms() + 30000, err);
    if (r == 0 && (message.op != TF_REP_HELLO || message.len != sizeof *place))
        r = tf_err_set(err, TF_E_REPLAY, "a copy of a checkpoint answered nonsense");
    if (r == 0) {
        memcpy(place, message.data, sizeof *place);
        copy->pid = (pid_t)place->pid;
    } else {
        close(copy->socket);
        *copy = TF_RUNNER_NONE;
    }
    free(message.data);
    return r;
}

/* It is a keeper's, who waits for it, so that its number may be another process's already: not as long as it
 * holds its end of the socket. */
static void kill_others_child(const struct tf_runner *runner)
{
    int process = (int)syscall(SYS_pidfd_open, runner->pid, 0);
    if (process < 0)
        return;
    if (!tf_runner_is_gone(runner, 0))
        syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
    close(process);
}

void tf_runner_end(struct tf_runner *runner)
{
    if (runner->socket < 0)
        return;
    pid_t child = runner->pid > 0 ? waitpid(runner->pid, NULL, WNOHANG) : -1;
    if (child == 0) {
        kill(runner->pid, SIGKILL);
        close(runner->socket);
        while (waitpid(runner->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    } else {
        if (child < 0 && runner->pid > 0)
            kill_others_child(runner);
        close(runner->socket);
    }
    *runner = TF_RUNNER_NONE;
}
