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
#include "checkpoint/parent.h"
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

static int recv_all(const struct tf_runner *runner, void *to, size_t len, int *fd, pid_t *sender,
                    int64_t deadline_ms, struct tf_err *err)
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
            char space[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
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
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
            int got;
            struct ucred from;
            if (c->cmsg_type == SCM_CREDENTIALS && sender) {
                memcpy(&from, CMSG_DATA(c), sizeof from);
                *sender = from.pid;
            }
            if (c->cmsg_type != SCM_RIGHTS)
                continue;
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

static int receive(const struct tf_runner *runner, struct tf_message *message, pid_t *sender,
                   int64_t deadline_ms, struct tf_err *err)
{
    struct tf_msg head;
    message->fd = -1;
    int r = recv_all(runner, &head, sizeof head, &message->fd, sender, deadline_ms, err);
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
    return recv_all(runner, message->data, head.len, &message->fd, sender, deadline_ms, err);
}

int tf_runner_recv(const struct tf_runner *runner, struct tf_message *message, int64_t deadline_ms,
                   struct tf_err *err)
{
    return receive(runner, message, NULL, deadline_ms, err);
}

/* The kernel says who has sent something, in the numbers of the receiver's namespace (unix(7)). */
static void want_sender(const struct tf_runner *runner)
{
    setsockopt(runner->socket, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
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
    pid_t sender = 0;
    struct tf_message message = {0};

    *copy = TF_RUNNER_NONE;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return tf_err_set(err, TF_E_IO, "cannot make a socket: %s", strerror(errno));
    if (runner->keeper)
        want_sender(&(struct tf_runner){.socket = fds[0]});
    int r = tf_runner_send_fd(runner, TF_REQ_FORK, fds[1], err);
    close(fds[1]);
    copy->socket = fds[0];
    copy->keeper = runner->keeper;
    if (r == 0)
        r = receive(copy, &message, &sender, tf_now_ms() + 30000, err);
    if (r == 0 && (message.op != TF_REP_HELLO || message.len != sizeof *place))
        r = tf_err_set(err, TF_E_REPLAY, "a copy of a checkpoint answered nonsense");
    if (r == 0) {
        memcpy(place, message.data, sizeof *place);
        copy->pid = runner->keeper ? sender : (pid_t)place->pid;
    } else {
        close(copy->socket);
        *copy = TF_RUNNER_NONE;
    }
    free(message.data);
    return r;
}

int tf_runner_identify(struct tf_runner *runner, struct tf_err *err)
{
    struct tf_message message = {0};
    pid_t sender = 0;
    want_sender(runner);
    int r = tf_runner_send(runner, TF_REQ_COUNTER, NULL, 0, NULL, 0, err); /* any question will do */
    if (r == 0)
        r = receive(runner, &message, &sender, tf_now_ms() + 30000, err);
    if (r == 0)
        runner->pid = sender;
    free(message.data);
    return r;
}

/* Of a process that is not our child the number may be another one's by now: is it the keeper's child? */
static void kill_restored(const struct tf_runner *runner)
{
    int fd = (int)syscall(SYS_pidfd_open, runner->pid, 0); /* from here on it is one and the same process */
    if (fd < 0)
        return;
    if (tf_parent_of(runner->pid) == runner->keeper)
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    close(fd);
}

void tf_runner_end(struct tf_runner *runner)
{
    if (runner->socket < 0)
        return;
    close(runner->socket);
    if (runner->keeper && runner->pid > 0 && runner->pid != runner->keeper) {
        kill_restored(runner);
    } else if (runner->pid > 0 && waitpid(runner->pid, NULL, WNOHANG) == 0) { /* else it may be anybody's */
        kill(runner->pid, SIGKILL);
        while (waitpid(runner->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    *runner = TF_RUNNER_NONE;
}
