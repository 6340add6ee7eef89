/*
 * call_socket.c: messages with ancillary data, one or many at a time. What comes is logged for each message
 * as a head of four numbers (lengths and flags, as the kernel wrote them), then the sender's address, the
 * ancillary data and the bytes, each only as long as it was written. Descriptors that are passed are numbers
 * in the ancillary data: in replay none is opened, as none is by open().
 *
 * A descriptor of a file that goes to another process, or comes from one, ends what is said of memory that
 * only this process has (maps.c).
 */
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "iohooks/special.h"

#define MESSAGES_MAX 1024 /* UIO_MAXIOV: the kernel takes no more */
#define PIECES_MAX 8192

struct head {
    uint32_t name_len, flags, control_len, len;
};
#define args_buf (tf_self->args)
static struct head heads[MESSAGES_MAX];
#define name_room (tf_self->name_room)
static struct iovec pieces[PIECES_MAX];

static bool many(const struct tf_call *call)
{
    return call->nr == SYS_recvmmsg || call->nr == SYS_sendmmsg;
}

/* How many messages the call is about, as far as they can be looked at. */
static unsigned messages(const struct tf_call *call)
{
    unsigned n = many(call) ? (unsigned)call->a[2] : 1;
    return !tf_readable((void *)call->a[1]) ? 0 : n < MESSAGES_MAX ? n : MESSAGES_MAX;
}

static struct msghdr *message(const struct tf_call *call, unsigned k)
{
    return many(call) ? &((struct mmsghdr *)call->a[1])[k].msg_hdr : (struct msghdr *)call->a[1];
}

static size_t encode(const struct tf_call_row *row, const struct tf_call *call, bool in)
{
    size_t len = tf_args_encode(row, call, args_buf);
    uint64_t h = 0;
    if (!many(call)) /* the row says it all */
        return len;
    for (unsigned k = 0, n = messages(call); k < n; k++)
        h = h * 31 + (in ? tf_hash_msg(message(call, k)) : tf_hash_room(message(call, k)));
    memcpy(args_buf + len, &h, sizeof h);
    return len + sizeof h;
}

/* Does the ancillary data carry a descriptor of a regular file? */
static bool passes_file(const struct msghdr *m)
{
    struct stat st;
    if (!tf_readable(m->msg_control) || m->msg_controllen < sizeof(struct cmsghdr))
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
            continue;
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (!TF_IS_ERR(tf_sys(SYS_fstat, fd, &st)) && S_ISREG(st.st_mode))
                return true;
        }
    }
    return false;
}

TF_SPECIAL(send)
{
    if (tf.mode == TF_RECORDS) {
        for (unsigned k = 0, n = messages(call); k < n; k++) {
            if (!passes_file(message(call, k)))
                continue;
            if (tf_maps_own()) {
                tf_barrier("%s passes a file on while memory that only this process had is mapped",
                           row->name);
                return TF_NATIVE;
            }
            tf.files_passed = true;
        }
    }
    if (!many(call))
        return tf_logged(row, call);

    unsigned n = messages(call);
    size_t len = encode(row, call, true);
    struct mmsghdr *vec = (struct mmsghdr *)call->a[1];
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
        if (e->data_len > n * sizeof(uint32_t))
            tf_diverge("%s was given other memory to write to than in the recording", row->name);
        for (unsigned k = 0; k < e->data_len / sizeof(uint32_t); k++)
            memcpy(&vec[k].msg_len, tf_outside_data(e) + k * sizeof(uint32_t), sizeof(uint32_t));
        return e->result;
    }
    long r = tf_true_call(call);
    unsigned sent = TF_IS_ERR(r) ? 0 : (unsigned)r < n ? (unsigned)r : n;
    for (unsigned k = 0; k < sent; k++)
        pieces[k] = (struct iovec){&vec[k].msg_len, sizeof vec[k].msg_len};
    tf_log_put(call->nr, 0, r, args_buf, len, pieces, (int)sent);
    return r;
}

/* The pieces of one message. `bytes` were received; the head is in place. Returns the new number of pieces.
 */
static int message_pieces(struct msghdr *m, struct head *head, uint32_t room, int n)
{
    size_t bytes = head->len;
    pieces[n++] = (struct iovec){head, sizeof *head};
    if (m->msg_name && head->name_len)
        pieces[n++] = (struct iovec){m->msg_name, head->name_len < room ? head->name_len : room};
    if (m->msg_control && head->control_len)
        pieces[n++] = (struct iovec){m->msg_control, head->control_len};
    for (size_t i = 0; i < m->msg_iovlen && bytes; i++) {
        size_t part = m->msg_iov[i].iov_len < bytes ? m->msg_iov[i].iov_len : bytes;
        if (part)
            pieces[n++] = (struct iovec){m->msg_iov[i].iov_base, part};
        bytes -= part; /* MSG_TRUNC says more than there was room for */
    }
    return n;
}

static bool rights_came(struct msghdr *m)
{
    if (!m->msg_control || m->msg_controllen < sizeof(struct cmsghdr))
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            return true;
    return false;
}

static long receive_again(const struct tf_call_row *row, struct tf_call *call, size_t args_len)
{
    const struct tf_outside *e = tf_log_take(call->nr, args_buf, args_len);
    const uint8_t *at = tf_outside_data(e), *end = at + e->data_len;
    unsigned count = TF_IS_ERR(e->result) ? 0 : many(call) ? (unsigned)e->result : 1;
    for (unsigned k = 0; k < count; k++) {
        struct msghdr *m = message(call, k);
        uint32_t room = m->msg_namelen;
        struct head head;
        if ((size_t)(end - at) < sizeof head)
            tf_diverge("the log entry of this %s is damaged", row->name);
        memcpy(&head, at, sizeof head);
        at += sizeof head;
        if (m->msg_name)
            m->msg_namelen = head.name_len;
        m->msg_flags = (int)head.flags;
        if (head.control_len > m->msg_controllen)
            tf_diverge("%s was given other memory to write to than in the recording", row->name);
        m->msg_controllen = head.control_len;
        if (many(call))
            ((struct mmsghdr *)call->a[1])[k].msg_len = head.len;
        int n = message_pieces(m, &head, room, 0);
        for (int i = 1; i < n; i++) { /* the first is the head */
            if ((size_t)(end - at) < pieces[i].iov_len)
                tf_diverge("%s was given other memory to write to than in the recording", row->name);
            memcpy(pieces[i].iov_base, at, pieces[i].iov_len);
            at += pieces[i].iov_len;
        }
    }
    if (at < end && call->nr == SYS_recvmmsg && call->a[4] && end - at == 16)
        memcpy((void *)call->a[4], at, 16);
    else if (at != end)
        tf_diverge("%s was given other memory to write to than in the recording", row->name);
    return e->result;
}

TF_SPECIAL(receive)
{
    size_t len = encode(row, call, false);
    if (tf.mode == TF_REPLAYS)
        return receive_again(row, call, len);

    size_t need = 1;
    for (unsigned k = 0, n = messages(call); k < n; k++) {
        name_room[k] = message(call, k)->msg_namelen;
        if (message(call, k)->msg_iovlen <= 1024) /* more are an error */
            need += 3 + message(call, k)->msg_iovlen;
    }
    if (need > PIECES_MAX) {
        tf_barrier("%s with more than %d buffers", row->name, PIECES_MAX);
        return TF_NATIVE;
    }
    long r = tf_true_call(call);
    unsigned count = TF_IS_ERR(r) ? 0 : many(call) ? (unsigned)r : 1;
    int n = 0;
    for (unsigned k = 0; k < count; k++) {
        struct msghdr *m = message(call, k);
        heads[k] = (struct head){m->msg_namelen, (uint32_t)m->msg_flags, (uint32_t)m->msg_controllen,
                                 many(call) ? ((struct mmsghdr *)m)->msg_len : (uint32_t)r};
        tf.files_passed |= rights_came(m);
        n = message_pieces(m, &heads[k], name_room[k], n);
    }
    if (count && call->nr == SYS_recvmmsg && call->a[4]) /* the time that is left */
        pieces[n++] = (struct iovec){(void *)call->a[4], 16};
    tf_log_put(call->nr, 0, r, args_buf, len, pieces, n);
    return r;
}

/* A descriptor out of another process. */
TF_SPECIAL(getfd)
{
    tf.files_passed = true;
    return tf_logged(row, call);
}
