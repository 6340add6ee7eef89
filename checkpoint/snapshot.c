/*
 * snapshot.c: fork checkpoints, from the inside: how a process is parked, copied and told to go on (proto.h).
 *
 * The fork is the bare system call: libc's fork would run pthread_atfork handlers, os.fork would run Python's
 * (random reseeds itself there), and both would change what the copy does next. CLONE_PARENT makes every copy
 * a child of the supervisor, so the program never has a child that it did not start, and the supervisor is
 * told of each death.
 *
 * A copy is in the middle of whatever its parent did: in tf_serve(), called from the very start of the
 * process, from the slow path of an event, or from a stop. Being told to run means returning from there.
 *
 * What a fork cannot copy: other threads, which go on as contexts (iohooks/turn.h), and descriptors stay
 * shared. The copy of a recorded process closes them all; from then on everything comes from the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "iohooks/process.h"

#define PAYLOAD_MAX (sizeof(struct tf_run_req) + 65536 * 4 + 64)
static _Alignas(8) uint8_t payload[PAYLOAD_MAX];

/* ---- messages ---- */

void tf_send_parts(struct iovec *parts, int n)
{
    while (n) {
        struct msghdr msg = {.msg_iov = parts, .msg_iovlen = (size_t)n};
        long r = tf_sys(SYS_sendmsg, tf.socket, &msg, MSG_NOSIGNAL);
        if (r == -EINTR)
            continue;
        if (TF_IS_ERR(r))
            tf_leave(1); /* nobody listens any more */
        while (n && (size_t)r >= parts->iov_len) {
            r -= (long)parts->iov_len;
            parts++;
            n--;
        }
        if (n) {
            parts->iov_base = (uint8_t *)parts->iov_base + r;
            parts->iov_len -= (size_t)r;
        }
    }
}

void tf_send(enum tf_op op, const void *head, size_t head_len, const void *body, size_t body_len)
{
    struct tf_msg msg = {.op = op, .len = head_len + body_len};
    tf_send_parts((struct iovec[]){{&msg, sizeof msg}, {(void *)head, head_len}, {(void *)body, body_len}},
                  3);
}

/* A message with a descriptor. The head and the place are small: they go in one piece. */
static void send_with_fd(int socket, enum tf_op op, const struct tf_place *place, int fd)
{
    struct tf_msg head = {.op = op, .len = sizeof *place};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)place, sizeof *place}};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    long r;
    do
        r = tf_sys(SYS_sendmsg, socket, &msg, MSG_NOSIGNAL);
    while (r == -EINTR);
}

bool tf_answer(int socket, struct tf_msg *answer, int *fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {answer, sizeof *answer};
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    long r;
    do
        r = tf_sys(SYS_recvmsg, socket, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    while (r == -EINTR);
    struct cmsghdr *c = r > 0 && msg.msg_controllen >= sizeof *c ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return r == sizeof *answer;
}

/* Exactly len bytes; a descriptor that comes with them goes to *fd. The end of the stream ends the process.
 */
static void receive(void *to, size_t len, int *fd)
{
    uint8_t *at = to;
    while (len) {
        union {
            struct cmsghdr align;
            char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec part = {at, len};
        struct msghdr msg = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        long r = tf_sys(SYS_recvmsg, tf.socket, &msg, MSG_CMSG_CLOEXEC);
        if (r == -EINTR)
            continue;
        if (r == 0 || TF_IS_ERR(r))
            tf_leave(0);
        struct cmsghdr *c = msg.msg_controllen >= sizeof *c ? CMSG_FIRSTHDR(&msg) : NULL;
        if (fd && c && c->cmsg_type == SCM_RIGHTS)
            memcpy(fd, CMSG_DATA(c), sizeof *fd);
        at += r;
        len -= (size_t)r;
    }
}

void tf_place(struct tf_place *place)
{
    *place =
        (struct tf_place){.pid = (uint32_t)tf_sys(SYS_getpid), .frame = tf_frames(), .offset = tf.offset};
}

void tf_say_left_out(uint32_t pid)
{
    struct tf_place place = {.pid = pid};
    struct tf_msg head = {.op = TF_REP_LEFT_OUT, .len = sizeof place};
    struct iovec parts[2] = {{&head, sizeof head}, {&place, sizeof place}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    if (tf.socket >= 0)
        tf_sys(SYS_sendmsg, tf.socket, &msg, MSG_NOSIGNAL);
}

int tf_ask_fork(int other)
{
    struct tf_place place = {.pid = (uint32_t)tf.pid};
    struct tf_msg msg;
    int fd = -1;
    send_with_fd(tf.socket, TF_REP_FORK, &place, other);
    return tf_answer(tf.socket, &msg, &fd) && msg.op == TF_REQ_FORKED ? fd : -1;
}

void tf_need(uint64_t offset)
{
    struct tf_msg msg;
    tf_send(TF_REP_NEED, &offset, sizeof offset, NULL, 0);
    receive(&msg, sizeof msg, NULL);
    if (msg.op != TF_REQ_LOADED || msg.len != sizeof tf.valid_end)
        tf_leave(1);
    receive(&tf.valid_end, sizeof tf.valid_end, NULL);
    if (tf.valid_end <= offset)
        tf_diverge("the recording cannot be read at byte %llu of its outside events",
                   (unsigned long long)offset);
}

/* ---- copies ---- */

/* In the copy: 0. In the original: the pid, or -errno. */
static long copy_process(void)
{
    long pid = tf_sys(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        tf_sys(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
        if (tf_self->selector) /* trapping is not inherited */
            tf_trap_on();
    }
    return pid;
}

static void take_socket(int fd)
{
    int own = tf.first_fd + TF_FD_SOCKET;
    if (fd != own) {
        tf_sys(SYS_dup3, fd, own, O_CLOEXEC);
        tf_sys(SYS_close, fd);
    }
    tf.socket = own;
}

static bool socket_pair(int fds[2])
{
    return !TF_IS_ERR(tf_sys(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
}

static void serve_copy(int fd)
{
    struct tf_place place;
    take_socket(fd);
    tf.running = false;
    tf.valid_end = 0; /* the supervisor may drop what no running process needs */
    tf_place(&place);
    tf_send(TF_REP_HELLO, &place, sizeof place, NULL, 0);
}

/* Starts the run that was asked for: the caller of tf_serve() goes on. */
static void begin_run(const struct tf_run_req *req, const uint32_t *prefix)
{
    tf.run = *req;
    tf.running = true;
    tf.armed = false;
    tf_self->pending = 0;
    tf.run_from = tf_tsc();
    tf.run_serial = 0;
    if (req->place_known) { /* taken while recording: here it becomes a replaying process */
        tf.mode = TF_REPLAYS;
        int r = tf_filter_install();
        memcpy(tf.words, prefix, req->prefix_words * sizeof *prefix);
        tf.block_base = req->frame - req->prefix_words;
        tf.p = tf.words + req->prefix_words;
        tf.offset = req->offset;
        tf_fault_start();
        if (r)
            tf_diverge("the filter of system calls could not be installed (errno %d)", -r);
    }
    if (req->watch_counter)
        tf_fault_watch_counter();
    tf_emit_resume();
}

static void revive(int ctl, int log, uintptr_t stack)
{
    struct tf_settled settled;
    if (ctl < 0 || log < 0 || !tf_revive_process(stack, ctl, log, &settled))
        tf_leave(1);
    tf_send(TF_REP_REVIVED, &settled, sizeof settled, NULL, 0);
}

void tf_serve(void)
{
    int revive_ctl = -1;
    for (;;) {
        struct tf_msg msg;
        int fd = -1;
        receive(&msg, sizeof msg, &fd);
        if (msg.op == TF_REQ_SCAN) { /* of any length: it has a place of its own */
            void *room = tf_scan_room(msg.len);
            if (!room)
                tf_leave(1);
            receive(room, msg.len, NULL);
            continue;
        }
        if (msg.len > sizeof payload)
            tf_leave(1);
        receive(payload, msg.len, NULL);
        switch (msg.op) {
        case TF_REQ_FORK: {
            long pid = copy_process();
            if (pid == 0)
                serve_copy(fd);
            else
                tf_sys(SYS_close, fd);
            break;
        }
        case TF_REQ_RUN:
            begin_run((const struct tf_run_req *)payload,
                      (const uint32_t *)(payload + sizeof(struct tf_run_req)));
            return;
        case TF_REQ_SHARED:
            if (msg.len != sizeof(uint32_t) || !tf_map_again(*(const uint32_t *)payload, fd))
                tf_leave(1);
            tf_sys(SYS_close, fd);
            break;
        case TF_REQ_SETTLE: {
            struct tf_settled settled;
            uint32_t own_namespace;
            memcpy(&own_namespace, payload, sizeof own_namespace);
            if (!tf_settle_process((uintptr_t)__builtin_frame_address(0), own_namespace, &settled))
                tf_leave(1);
            tf_send(TF_REP_SETTLED, &settled, sizeof settled, NULL, 0);
            break;
        }
        case TF_REQ_REVIVE: /* the first of two, each with a descriptor */
            if (revive_ctl < 0) {
                revive_ctl = fd;
                break;
            }
            revive(revive_ctl, fd, (uintptr_t)__builtin_frame_address(0));
            revive_ctl = -1;
            break;
        case TF_REQ_WORDS: {
            uint64_t block = tf.block_base / 65536;
            tf_send(TF_REP_BLOCK, &block, sizeof block, tf.words,
                    (size_t)((uint8_t *)tf.p - (uint8_t *)tf.words));
            break;
        }
        case TF_REQ_COUNTER: {
            static char text[4400];
            uint64_t first;
            size_t n = tf_fault_counter_text(text, sizeof text, &first);
            tf_send(TF_REP_COUNTER, &first, n ? sizeof first : 0, text, n);
            break;
        }
        case TF_REQ_INSPECT: {
            const struct tf_inspect_req *req = (const void *)payload;
            tf.mode = TF_LOOKS;
            tf_emit_off_again();
            tf.limit = tf.words + 65536;
            tf.engine->inspect(req, (const char *)(req + 1), msg.len - sizeof *req);
            tf_leave(0);
        }
        default:
            tf_leave(1);
        }
    }
}

/* ---- checkpoints ---- */

/* When the next one is due the supervisor says, who knows what they cost (policy.h): this one's place tells
 * it. */

static void used_so_far(struct tf_place *place)
{
    struct rusage usage;
    if (TF_IS_ERR(tf_sys(SYS_getrusage, RUSAGE_SELF, &usage)))
        return;
    place->cpu_ns = ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000u +
                    ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000u;
    place->faults = (uint64_t)usage.ru_minflt;
}

/* As replaying processes have them: the program's own limits are only told. A copy has to map the log. */
static void raise_limits(void)
{
    static const int which[] = {RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK};
    struct rlimit limit, none = {RLIM_INFINITY, RLIM_INFINITY};
    for (size_t i = 0; i < sizeof which / sizeof *which; i++) {
        if (TF_IS_ERR(tf_sys(SYS_prlimit64, 0, which[i], 0, &limit)))
            continue;
        limit.rlim_cur = limit.rlim_max;
        if (which[i] == RLIMIT_NOFILE || TF_IS_ERR(tf_sys(SYS_prlimit64, 0, which[i], &none, 0)))
            tf_sys(SYS_prlimit64, 0, which[i], &limit, 0);
        if (which[i] == RLIMIT_AS && TF_IS_ERR(tf_sys(SYS_prlimit64, 0, which[i], 0, &limit)) == 0 &&
            limit.rlim_cur < 2 * TF_LOG_SIZE)
            tf_leave(0); /* it can be of no use */
    }
}

#define UNSHARE_MAX (64ul << 20) /* while it is copied the program stands still */

/* A copy that shares memory with the program would see what that writes there later. So it has its own before
 * the program goes on: a byte on the socket that is to be the copy's says so. */
static bool wait_until_unshared(int socket)
{
    char ready;
    long n;
    do
        n = tf_sys(SYS_read, socket, &ready, 1);
    while (n == -EINTR);
    return n == 1;
}

static void own_memory(int socket)
{
    if (!tf_unshare_memory())
        tf_leave(0);
    tf_sys(SYS_sendto, socket, "", 1, MSG_NOSIGNAL, 0, 0);
}

static enum tf_no_snapshot why_not(size_t shared)
{
    return tf.fork_differs        ? TF_SNAPSHOT_DIFFERS
           : shared > UNSHARE_MAX ? TF_SNAPSHOT_SHARED
                                  : TF_SNAPSHOT_CAN;
}

/*
 * While recording (debug, record --keep, and for durable checkpoints). The copy gives up every descriptor but
 * its socket: one that it kept open would keep the program's pipes from ending. Where it stands in the log
 * only the supervisor knows, from the mark in the ring.
 */
void tf_snapshot_record(uint64_t now)
{
    int fds[2];
    struct tf_place place = {.serial = tf.snapshot_serial + 1};
    size_t shared = tf_maps_shared();

    tf.snapshot_from = now;
    tf.shm->no_snapshot = why_not(shared);
    if (tf.socket < 0 || tf.shm->no_snapshot)
        return;
    if (tf_many &&
        !tf_turn_freeze()) { /* a thread is in the middle of something: at one of the next events */
        tf.snapshot_from = now - tf.shm->snapshot_ticks / 16 * 15;
        return;
    }
    if (!socket_pair(fds)) {
        tf_turn_thaw();
        return;
    }
    used_so_far(&place);
    long pid = copy_process();
    if (pid != 0)
        tf_turn_thaw();
    if (pid == 0) {
        tf_turn_adopt();
        raise_limits();
        tf_sys(SYS_setsid); /* what the terminal tells the program is not for it, nor is its end */
        if (shared)
            own_memory(fds[1]);
        take_socket(fds[1]);
        if (tf.socket > 0)
            tf_sys(SYS_close_range, 0, tf.socket - 1, 0);
        tf_sys(SYS_close_range, tf.socket + 1, ~0u, 0);
        tf_serve(); /* copies of this one come back here to replay */
        return;
    }
    if (!TF_IS_ERR(pid) && shared) { /* whose end at the copy alone tells of that one's end */
        tf_sys(SYS_close, fds[1]);
        fds[1] = -1;
        if (!wait_until_unshared(fds[0])) {
            tf.shm->no_snapshot = TF_SNAPSHOT_UNSHARED;
            pid = -ENOMEM;
        }
    }
    if (!TF_IS_ERR(pid)) {
        tf.snapshot_serial++;
        place.pid = (uint32_t)pid;
        place.cost_ticks = tf_tsc() - now;
        send_with_fd(tf.socket, TF_REP_SNAPSHOT, &place, fds[0]);
        tf_log_record(TF_REC_SNAPSHOT, &place.serial, sizeof place.serial, NULL, 0);
    }
    tf_sys(SYS_close, fds[0]);
    if (fds[1] >= 0)
        tf_sys(SYS_close, fds[1]);
    tf.snapshot_from = tf_tsc();
}

/* While replaying: the copy is parked here, the original goes on. */
void tf_snapshot_replay(uint64_t now)
{
    int fds[2];
    struct tf_place place;

    tf.run_from = now;
    if (!socket_pair(fds))
        return;
    tf_place(&place);
    long pid = copy_process();
    if (pid == 0) {
        tf_sys(SYS_close, fds[0]);
        take_socket(fds[1]);
        tf.running = false;
        tf.valid_end = 0;
        tf_serve(); /* copies of this one come back here to run */
        return;
    }
    if (!TF_IS_ERR(pid)) {
        place.pid = (uint32_t)pid;
        place.serial = ++tf.run_serial;
        place.cost_ticks = tf_tsc() - now;
        send_with_fd(tf.socket, TF_REP_SNAPSHOT, &place, fds[0]);
    }
    tf_sys(SYS_close, fds[0]);
    tf_sys(SYS_close, fds[1]);
    tf.run_from = tf_tsc();
}
