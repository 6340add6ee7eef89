/*
 * args.c: the letters of calls.h at work: what a call reads through its arguments (encoded, compared in
 * replay) and what the kernel wrote through them (logged, given back in replay). Both directions go through
 * the same walk of the signature.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "iohooks/process.h"

static uint8_t *put64(uint8_t *at, uint64_t v)
{
    memcpy(at, &v, 8);
    return at + 8;
}

/* The kernel takes no more of them (UIO_MAXIOV), and answers EINVAL. */
#define IOVS_MAX 1024

static uint64_t hash_iov(const struct iovec *iov, long count)
{
    uint64_t h = (uint64_t)count;
    if (!tf_readable(iov) || count < 0 || count > IOVS_MAX)
        return h;
    for (long i = 0; i < count; i++)
        h = XXH3_64bits_withSeed(iov[i].iov_base, tf_readable(iov[i].iov_base) ? iov[i].iov_len : 0,
                                 h + iov[i].iov_len);
    return h;
}

/* The part of a socket address that means something: behind a path's NUL, and in sin_zero, may be anything.
 */
static size_t address_bytes(const struct sockaddr *address, socklen_t len)
{
    if (len < sizeof address->sa_family)
        return len;
    if (address->sa_family == AF_INET && len > 8)
        return 8;
    if (address->sa_family == AF_UNIX && len > 2 && address->sa_data[0]) /* not the abstract name space */
        return 2 + strnlen(address->sa_data, len - 2u);
    return len;
}

/* Ancillary data: each header and what it carries; between them there are holes. */
static uint64_t hash_control(const struct msghdr *m, uint64_t h)
{
    const uint8_t *at = m->msg_control;
    size_t left = m->msg_controllen;
    struct cmsghdr c;
    while (left >= sizeof c) {
        memcpy(&c, at, sizeof c);
        if (c.cmsg_len < sizeof c || c.cmsg_len > left)
            break;
        h = XXH3_64bits_withSeed(at, c.cmsg_len, h);
        size_t step = CMSG_ALIGN(c.cmsg_len);
        if (step >= left)
            break;
        at += step;
        left -= step;
    }
    return h + m->msg_controllen;
}

uint64_t tf_hash_msg(const struct msghdr *m)
{
    uint64_t h = hash_iov(m->msg_iov, (long)m->msg_iovlen);
    if (tf_readable(m->msg_name))
        h = XXH3_64bits_withSeed(m->msg_name, address_bytes(m->msg_name, m->msg_namelen), h);
    if (tf_readable(m->msg_control))
        h = hash_control(m, h);
    return h;
}

static uint64_t hash_strings(char *const *strings)
{
    uint64_t h = 0;
    for (; strings && *strings; strings++)
        h = XXH3_64bits_withSeed(*strings, strlen(*strings), h + 1);
    return h;
}

/* A command line for people: the strings, with commas in between, cut off at 1,000 bytes. */
static uint8_t *put_strings(uint8_t *at, char *const *strings)
{
    uint8_t *text = at + 8;
    size_t n = 0;
    for (size_t i = 0; strings && strings[i] && n < 1000; i++) {
        size_t len = strnlen(strings[i], 1000 - n);
        if (i) {
            memcpy(text + n, ", ", 2);
            n += 2;
        }
        memcpy(text + n, strings[i], len);
        n += len;
    }
    memset(text + n, 0, -n & 7);
    put64(at, n);
    return text + ((n + 7) & ~7ul);
}

/* Of a message to be received: how much room there is. */
uint64_t tf_hash_room(const struct msghdr *m)
{
    uint64_t h = m->msg_iovlen;
    for (size_t i = 0; tf_readable(m->msg_iov) && i < m->msg_iovlen && i < IOVS_MAX; i++)
        h = XXH3_64bits_withSeed(&m->msg_iov[i].iov_len, sizeof(size_t), h);
    uint64_t rooms[2] = {tf_readable(m->msg_name) ? m->msg_namelen : 0,
                         tf_readable(m->msg_control) ? m->msg_controllen : 0};
    return XXH3_64bits_withSeed(rooms, sizeof rooms, h);
}

static size_t fd_set_bytes(long argument)
{
    long bits = (int)argument;
    return bits <= 0 ? 0 : (size_t)(bits + 63) / 64 * 8;
}

/* Size of a structure that the kernel writes on success. */
static size_t out_size(char letter)
{
    switch (letter) {
    case 't':
    case 'u':
    case 'L':
        return 16;
    case 'q':
    case 'P':
        return 8;
    case 'W':
        return 4;
    case 'S':
        return 144;
    case 'j':
        return 128;
    case 'X':
        return 256;
    case 'F':
        return 120;
    case 'U':
        return 144;
    case 'N':
        return 390;
    case 'Y':
        return 112;
    case 'Z':
    case 'O':
        return 32;
    case 'J':
        return 64;
    default:
        return 0;
    }
}

size_t tf_args_encode(const struct tf_call_row *row, const struct tf_call *call, uint8_t *out)
{
    uint8_t *at = out;
    for (int i = 0; row->sig[i]; i++) {
        long v = call->a[i];
        const void *ptr = tf_readable((const void *)v) ? (const void *)v : NULL;
        switch (row->sig[i]) {
        case 'd':
            at = put64(at, (uint64_t)(int64_t)(int32_t)v);
            break;
        case 'i':
        case 'p':
            at = put64(at, (uint64_t)v);
            break;
        case '*':
            at = put64(at, ptr != NULL);
            break;
        case 'V':
            at = put_strings(put64(at, hash_strings(ptr)), ptr);
            break;
        case 'H':
            at = put64(at, hash_strings(ptr));
            break;
        case 's': {
            if (!ptr) {
                at = put64(at, 0xffffffffu);
                break;
            }
            size_t n = strnlen(ptr, 4097);
            at = put64(at, n);
            memcpy(at, ptr, n);
            memset(at + n, 0, (8 - n % 8) % 8);
            at += (n + 7) & ~7ul;
            break;
        }
        case 'b':
            at = put64(at, ptr ? XXH3_64bits(ptr, (size_t)call->a[i + 1]) : 0);
            break;
        case 'x':
            at = put64(at, ptr && (size_t)call->a[i - 1] <= 1 << 20 ? XXH3_64bits(ptr, (size_t)call->a[i - 1])
                                                                    : 0);
            break;
        case 'A':
            at = put64(at, ptr ? XXH3_64bits(ptr, address_bytes(ptr, (socklen_t)call->a[i + 1])) : 0);
            break;
        case 'v':
            at = put64(at, ptr ? hash_iov(ptr, call->a[i + 1]) : 0);
            break;
        case 'm':
            at = put64(at, ptr ? tf_hash_msg(ptr) : 0);
            break;
        case 'n':
            at = put64(at, ptr ? tf_hash_room(ptr) : 0);
            break;
        case 'B': /* a set of nodes: the argument behind it is the number of bits, and one more */
            at = put64(at, ptr && call->a[i + 1] > 0 && call->a[i + 1] < 1 << 20
                               ? XXH3_64bits(ptr, (size_t)(call->a[i + 1] + 62) / 64 * 8)
                               : 0);
            break;
        case 'G':
            at = put64(at, ptr && call->a[i - 1] > 0 && call->a[i - 1] <= 65536
                               ? XXH3_64bits(ptr, (size_t)call->a[i - 1] * 4)
                               : 0);
            break;
        case 'h': /* struct file_handle: the length of what follows, a type */
            at = put64(at, ptr && *(const uint32_t *)ptr <= 128 ? XXH3_64bits(ptr, 8 + *(const uint32_t *)ptr)
                                                                : 0);
            break;
        case 'z': /* struct sched_attr begins with its size */
            at = put64(at,
                       ptr && *(const uint32_t *)ptr <= 4096 ? XXH3_64bits(ptr, *(const uint32_t *)ptr) : 0);
            break;
        case 'K': { /* pselect6: where the signal set is, and its size */
            const uintptr_t *pair = ptr;
            const uint64_t *set = ptr && tf_readable((void *)pair[0]) ? (const uint64_t *)pair[0] : NULL;
            at = put64(at, set != NULL);
            if (set)
                at = put64(at, *set);
            break;
        }
        case 'Q': /* struct sigevent: the signal, and how; the rest has holes */
            at = put64(at, ptr != NULL);
            if (ptr)
                at = put64(at, ((const uint64_t *)ptr)[1]);
            break;
        case 'a':
        case 'o':
            at = put64(at, tf_readable((void *)call->a[i + 1]) ? *(const socklen_t *)call->a[i + 1] : 0);
            break;
        case 'y': {
            const struct pollfd *fds = ptr;
            uint64_t h = 0;
            long count = (long)(uint32_t)call->a[i + 1];
            for (long k = 0; ptr && count <= 1 << 20 && k < count; k++) {
                uint64_t e = (uint32_t)fds[k].fd | (uint64_t)(uint16_t)fds[k].events << 32;
                h = XXH3_64bits_withSeed(&e, sizeof e, h);
            }
            at = put64(at, h);
            break;
        }
        case 'f':
            at = put64(at, ptr ? XXH3_64bits(ptr, fd_set_bytes(call->a[0])) : 0);
            break;
        default: {
            size_t n = tf_call_in_size(row->sig[i]);
            if (n) {
                at = put64(at, ptr != NULL);
                if (ptr) {
                    memset(at, 0, (n + 7) & ~7ul);
                    /* Of an epoll event, the descriptor: who sets that leaves the other half of the union as
                     * it was. What takes a descriptor out has no event, but a pointer to something. */
                    if (row->sig[i] == 'E')
                        n = call->a[1] == EPOLL_CTL_DEL ? 0 : 8;
                    memcpy(at, ptr, n);
                    at += (tf_call_in_size(row->sig[i]) + 7) & ~7ul;
                }
            }
            break;
        }
        }
    }
    return (size_t)(at - out);
}

struct walk {
    struct iovec *pieces;
    int n, max;
};

/* How much a call wrote to a buffer: what it says, but never more than there was room for (MSG_TRUNC, and
 * questions about a size, say more). The length is the argument behind the buffer, or in front of it. */
static size_t written(const struct tf_call_row *row, const struct tf_call *call, int i, long result)
{
    int at = row->sig[i + 1] == 'i' ? i + 1 : i - 1;
    size_t room = (size_t)call->a[at];
    return (size_t)result < room ? (size_t)result : room;
}

static void piece(struct walk *w, void *base, size_t len)
{
    if (len && base && w->n < w->max) {
        w->pieces[w->n].iov_base = base;
        w->pieces[w->n++].iov_len = len;
    }
}

static void iov_pieces(struct walk *w, struct iovec *iov, long count, size_t bytes)
{
    for (long k = 0; k < count && bytes; k++) {
        size_t n = iov[k].iov_len < bytes ? iov[k].iov_len : bytes;
        piece(w, iov[k].iov_base, n);
        bytes -= n;
    }
}

/*
 * A socket address or option comes with its length: the data are 4 bytes of length, then as many bytes as
 * were written. The kernel says how long the whole would be, but writes no more than there was room for; how
 * much room there was is gone by then, so it was put into scratch by before_call().
 */
static void lengths(struct walk *w, void *base, socklen_t *len, uint64_t room)
{
    if (!len)
        return;
    piece(w, len, sizeof *len);
    piece(w, base, *len < room ? *len : room);
}

int tf_outs(const struct tf_call_row *row, const struct tf_call *call, long result, struct iovec *pieces,
            int max, size_t *total, uint64_t *scratch)
{
    struct walk w = {pieces, 0, max};
    bool failed = TF_IS_ERR(result);
    for (int i = 0; row->sig[i]; i++) {
        void *ptr = (void *)call->a[i];
        char letter = row->sig[i];
        if (failed && letter != 't' && letter != 'u') /* what is left of the time, when it is interrupted */
            continue;
        if (failed && result != -EINTR)
            continue;
        switch (letter) {
        case 'r':
            piece(&w, ptr, written(row, call, i, result));
            break;
        case 'w':
            iov_pieces(&w, ptr, call->a[i + 1], (size_t)result);
            break;
        case 'a':
        case 'o':
            lengths(&w, ptr, (socklen_t *)call->a[i + 1], scratch[0]);
            break;
        case 'e':
            piece(&w, ptr, (size_t)result * 12);
            break;
        case 'y':
            piece(&w, ptr, (size_t)call->a[i + 1] * sizeof(struct pollfd));
            break;
        case 'f':
            piece(&w, ptr, fd_set_bytes(call->a[0]));
            break;
        case 'g':
            piece(&w, ptr, call->a[0] ? (size_t)result * 4 : 0);
            break;
        case 'C':
            piece(&w, ptr, (size_t)(uint32_t)call->a[i + 1]);
            break;
        default:
            piece(&w, ptr, out_size(letter));
            break;
        }
    }
    *total = 0;
    for (int i = 0; i < w.n; i++)
        *total += pieces[i].iov_len;
    return w.n;
}

bool tf_outs_restore(const struct tf_call_row *row, const struct tf_call *call, long result,
                     const uint8_t *data, uint64_t len)
{
    struct iovec pieces[1030];
    uint64_t scratch[4] = {0};
    size_t total;
    const uint8_t *end = data + len;

    /* Lengths that the kernel wrote decide how much follows: put them in place first. */
    size_t before = 0;
    for (int i = 0; row->sig[i] && !TF_IS_ERR(result) && len >= 4; i++) {
        if (row->sig[i] == 'r' && call->a[i]) {
            before += written(row, call, i, result);
        } else if ((row->sig[i] == 'a' || row->sig[i] == 'o') && call->a[i + 1]) {
            if (before + 4 > len)
                return false;
            scratch[0] = *(socklen_t *)call->a[i + 1];
            memcpy((void *)call->a[i + 1], data + before, 4);
        }
    }
    int n = tf_outs(row, call, result, pieces, 1030, &total, scratch);
    if (total != len)
        return false;
    for (int i = 0; i < n && data < end; i++) {
        memcpy(pieces[i].iov_base, data, pieces[i].iov_len);
        data += pieces[i].iov_len;
    }
    return true;
}
