/*
 * call_file.c: calls on descriptors that need more than a row: what goes to the program's standard output is
 * kept, and fcntl and ioctl have arguments whose meaning depends on another one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <limits.h>
#include <linux/fs.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include "iohooks/special.h"

#define args_buf (tf_self->args)

/* ---- which descriptors are standard output and error ---- */

static bool is_set(const uint32_t *set, long fd)
{
    return fd >= 0 && fd < 1024 && (set[fd / 32] >> (fd % 32) & 1);
}

static void set_bit(uint32_t *set, long fd, bool on)
{
    if (fd < 0 || fd >= 1024)
        return;
    if (on)
        set[fd / 32] |= 1u << (fd % 32);
    else
        set[fd / 32] &= ~(1u << (fd % 32));
}

static void copied(long from, long to)
{
    if (TF_IS_ERR(to) || from == to)
        return;
    tf_maps_forget_fd(to);
    set_bit(tf.std_fds, to, is_set(tf.std_fds, from));
    set_bit(tf.err_fds, to, is_set(tf.err_fds, from));
}

static void closed(long fd)
{
    tf_maps_forget_fd(fd);
    set_bit(tf.std_fds, fd, false);
    set_bit(tf.err_fds, fd, false);
}

/* Threads that write at the same time: what they write is in the log in the order in which it came out. A
 * write that may have to wait for a reader lets the others run. */
static bool to_output(long fd)
{
    return is_set(tf.std_fds, fd) || is_set(tf.err_fds, fd);
}

static long write_in_turn(const struct tf_call *call)
{
    struct pollfd ready = {.fd = (int)call->a[0], .events = POLLOUT};
    struct stat st;
    bool file = !TF_IS_ERR(tf_sys(SYS_fstat, call->a[0], &st)) && S_ISREG(st.st_mode);
    bool fits = call->nr == SYS_write && call->a[2] <= PIPE_BUF && tf_sys(SYS_poll, &ready, 1, 0) == 1;
    if (!tf_many || !(file || fits))
        return tf_true_call(call);
    return tf_sys(call->nr, call->a[0], call->a[1], call->a[2]);
}

/* write and writev: the log has a hash of what was written, and the bytes themselves if they are output. */
TF_SPECIAL(write)
{
    struct iovec *pieces = tf_self->pieces;
    struct iovec one = {(void *)call->a[1], (size_t)call->a[2]}, *iov = &one;
    long fd = (int)call->a[0], count = 1;
    int n = 0;

    if (to_output(fd) && !tf_turn_is_mine())
        tf_turn_take(false, TF_TURN_PLAIN);
    size_t len = tf_args_encode(row, call, args_buf);
    if (tf.mode == TF_REPLAYS)
        return tf_log_take(call->nr, args_buf, len)->result;
    long r = to_output(fd) ? write_in_turn(call) : tf_true_call(call);
    unsigned flags = is_set(tf.std_fds, fd) ? TF_OUT_STDOUT : is_set(tf.err_fds, fd) ? TF_OUT_STDERR : 0;
    if (flags && r > 0) {
        size_t left = (size_t)r;
        if (call->nr == SYS_writev) {
            iov = (struct iovec *)call->a[1];
            count = call->a[2];
        }
        for (long i = 0; i < count && left && n < 1024; i++, n++) {
            pieces[n] = iov[i];
            if (pieces[n].iov_len > left)
                pieces[n].iov_len = left;
            left -= pieces[n].iov_len;
        }
    }
    tf_log_put(call->nr, flags, r, args_buf, len, pieces, n);
    return r;
}

/* ---- closing and copying descriptors; the program must not lose or see the supervisor's socket ---- */

/* While recording with checkpoints, one descriptor is timefork's. In replay the log says what the program was
 * told. */
static bool is_own(int fd)
{
    if (tf.mode != TF_RECORDS)
        return false;
    return (tf.socket >= 0 && fd == tf.socket) || (!tf_child_borrows() && tf_lease_is(fd, fd));
}

/* The answer to a call on a descriptor that, for the program, is not open. */
static long refuse(const struct tf_call_row *row, struct tf_call *call, long error)
{
    size_t len = tf_args_encode(row, call, args_buf);
    tf_log_put(call->nr, 0, error, args_buf, len, NULL, 0);
    return error;
}

TF_SPECIAL(close)
{
    if (is_own((int)call->a[0]))
        return refuse(row, call, -EBADF);
    long r = tf_logged(row, call);
    closed((int)call->a[0]);
    return r;
}

TF_SPECIAL(close_range)
{
    long first = (unsigned)call->a[0], last = (unsigned)call->a[1], own = tf.socket;
    size_t len = tf_args_encode(row, call, args_buf);
    for (long fd = first; fd <= last && fd < 1024 && !call->a[2]; fd++)
        closed(fd);
    if (tf.mode == TF_REPLAYS)
        return tf_log_take(call->nr, args_buf, len)->result;
    if (!tf_child_borrows() && tf_lease_is(first, last)) {
        tf_barrier("close_range while files are mapped, shared and writable");
        return TF_NATIVE;
    }
    long r = 0;
    if (own < first || own > last) {
        r = tf_sys(SYS_close_range, first, last, call->a[2]);
    } else {
        if (own > first)
            r = tf_sys(SYS_close_range, first, own - 1, call->a[2]);
        if (!TF_IS_ERR(r) && own < last)
            r = tf_sys(SYS_close_range, own + 1, last, call->a[2]);
    }
    tf_log_put(call->nr, 0, r, args_buf, len, NULL, 0);
    return r;
}

TF_SPECIAL(dup)
{
    if (is_own((int)call->a[0]))
        return refuse(row, call, -EBADF);
    if (call->nr != SYS_dup && is_own((int)call->a[1]))
        return refuse(row, call, -EMFILE);
    long r = tf_logged(row, call);
    copied((int)call->a[0], r);
    return r;
}

/* struct linux_dirent64 of getdents(2) */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t len;
    uint8_t type;
    char name[];
};

/* Is it the folder that lists this process's descriptors? */
static bool lists_descriptors(int fd)
{
    char link[64], path[64], own[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = tf_sys(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    path[TF_IS_ERR(n) ? 0 : n] = 0;
    snprintf(own, sizeof own, "/proc/%d/", tf.pid);
    size_t len = strlen(path);
    return strncmp(path, own, strlen(own)) == 0 && len > 3 && strcmp(path + len - 3, "/fd") == 0;
}

/* A program that lists its descriptors does not see ours. */
TF_SPECIAL(getdents)
{
    uint8_t *buf = (uint8_t *)call->a[1];
    size_t len = tf_args_encode(row, call, args_buf);
    char own[16];
    if (tf.mode == TF_REPLAYS)
        return tf_logged(row, call);
    long r = tf_true_call(call);
    snprintf(own, sizeof own, "%d", tf.socket);
    for (long at = 0; at < r;) {
        struct entry *e = (struct entry *)(buf + at);
        long size = e->len;
        if (strcmp(e->name, own) == 0 && lists_descriptors((int)call->a[0])) {
            memmove(e, buf + at + size, (size_t)(r - at - size));
            r -= size;
            if (r == 0) /* or it would be the end of the list */
                at = r = tf_true_call(call);
            continue;
        }
        at += size;
    }
    struct iovec data = {buf, r > 0 ? (size_t)r : 0};
    tf_log_put(call->nr, 0, r, args_buf, len, &data, r > 0);
    return r;
}

/* Logs a call whose third argument is a structure of `size` bytes that is read (in) and written (out). */
static long with_struct(const struct tf_call_row *row, struct tf_call *call, size_t size, bool in, bool out)
{
    void *ptr = (void *)call->a[2];
    struct tf_call logged = *call;
    logged.a[2] = ptr != NULL; /* where the structure is does not matter */
    size_t len = tf_args_encode(row, &logged, args_buf);
    if (in && ptr && call->nr == SYS_fcntl) { /* struct flock has holes, in which there may be anything */
        const struct flock *lock = ptr;
        int64_t fields[4] = {lock->l_type, lock->l_whence, lock->l_start, lock->l_len};
        memcpy(args_buf + len, fields, sizeof fields);
        len += sizeof fields;
    } else if (in && ptr) {
        /* Of a question about an interface, its name; the rest is only written. */
        size_t means = size == sizeof(struct ifreq) ? strnlen(ptr, IFNAMSIZ) : size;
        memcpy(args_buf + len, ptr, means);
        len += means;
    }
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
        if (e->data_len > size)
            tf_diverge("%s was given other memory to write to than in the recording", row->name);
        if (ptr && e->data_len)
            memcpy(ptr, tf_outside_data(e), e->data_len);
        return e->result;
    }
    struct iovec data = {ptr, size};
    long r = tf_true_call(call);
    tf_log_put(call->nr, 0, r, args_buf, len, &data, out && ptr && !TF_IS_ERR(r));
    return r;
}

/* What this file does not know ends the replayable part, in both modes. */
static long unknown(const struct tf_call_row *row, struct tf_call *call, const char *what)
{
    if (tf.mode == TF_REPLAYS) {
        size_t len = tf_args_encode(row, call, args_buf);
        tf_log_take(call->nr, args_buf, len);
        tf_diverge("%s with the unknown request %#lx is in the log, but cannot be replayed", row->name,
                   (unsigned long)call->a[1]);
    }
    tf_barrier("%s with request %#lx: %s", row->name, (unsigned long)call->a[1], what);
    return TF_NATIVE;
}

TF_SPECIAL(fcntl)
{
    int command = (int)call->a[1];
    if (is_own((int)call->a[0]))
        return refuse(row, call, -EBADF);
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
        long r = tf_logged(row, call);
        copied((int)call->a[0], r);
        return r;
    }
    case F_GETFD:
    case F_GETFL:
    case F_GETOWN:
    case F_GETSIG:
    case F_GETLEASE:
    case F_GETPIPE_SZ:
    case F_GET_SEALS:
        call->a[2] = 0; /* not an argument: may be anything */
        __attribute__((fallthrough));
    case F_SETFD:
    case F_SETFL:
    case F_SETPIPE_SZ:
    case F_ADD_SEALS:
    case F_SETOWN:
    case F_SETSIG:
    case F_SETLEASE:
    case F_NOTIFY:
        return tf_logged(row, call);
    case F_GETOWN_EX:
        return with_struct(row, call, 8, false, true);
    case F_SETOWN_EX:
        return with_struct(row, call, 8, true, false);
    case F_GET_RW_HINT:
    case F_GET_FILE_RW_HINT:
        return with_struct(row, call, 8, false, true);
    case F_SET_RW_HINT:
    case F_SET_FILE_RW_HINT:
        return with_struct(row, call, 8, true, false);
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return with_struct(row, call, sizeof(struct flock), true, false);
    case F_GETLK:
    case F_OFD_GETLK:
        return with_struct(row, call, sizeof(struct flock), true, true);
    default:
        return unknown(row, call, "this command is not covered yet");
    }
}

/* name_to_handle_at: the room for the handle is its first number; the kernel writes the size that it needs
 * also when that is too small. */
TF_SPECIAL(handle)
{
    uint32_t *handle = (uint32_t *)call->a[2];
    uint32_t room = tf_readable(handle) && *handle <= 128 ? *handle : 0;
    size_t len = tf_args_encode(row, call, args_buf);
    memcpy(args_buf + len, &room, sizeof room);
    len += sizeof room;
    struct iovec data[2] = {{handle, 0}, {(void *)call->a[3], 0}};
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
        const uint8_t *at = tf_outside_data(e);
        if (e->result == -EOVERFLOW && e->data_len == 4) {
            memcpy(handle, at, 4);
        } else if (e->result == 0 && e->data_len >= 12 && e->data_len <= 12ul + room) {
            memcpy(handle, at, e->data_len - 4);
            memcpy(data[1].iov_base, at + e->data_len - 4, 4);
        }
        return e->result;
    }
    long r = tf_true_call(call);
    if (r == -EOVERFLOW)
        data[0].iov_len = 4;
    if (r == 0) {
        data[0].iov_len = 8 + (*handle < room ? *handle : room);
        data[1].iov_len = 4;
    }
    tf_log_put(call->nr, 0, r, args_buf, len, data, 2);
    return r;
}

TF_SPECIAL(ioctl)
{
    unsigned long request = (uint32_t)call->a[1];
    switch (request) {
    case TCGETS:
        return with_struct(row, call, 36, false, true); /* the kernel's struct termios, not libc's */
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return with_struct(row, call, 36, true, false);
    case TIOCGWINSZ:
        return with_struct(row, call, sizeof(struct winsize), false, true);
    case TIOCSWINSZ:
        return with_struct(row, call, sizeof(struct winsize), true, false);
    case FIONREAD:
    case TIOCOUTQ:
    case TIOCGETD:
    case TIOCGPGRP:
    case TIOCGSID:
        return with_struct(row, call, 4, false, true);
    case FIONBIO:
    case FIOASYNC:
    case TIOCSPGRP:
    case TIOCSETD:
    case TIOCSPTLCK:
    case TIOCPKT:
    case TIOCMSET:
    case TIOCMBIS:
    case TIOCMBIC:
    case 0x8902: /* SIOCSPGRP */
        return with_struct(row, call, 4, true, false);
    case TIOCGPTN:
    case TIOCGPTLCK:
    case TIOCGPKT:
    case TIOCGEXCL:
    case TIOCGDEV:
    case TIOCMGET:
    case BLKSSZGET:
    case BLKROGET:
    case 0x8904:     /* SIOCGPGRP */
    case 0x8905:     /* SIOCATMARK */
    case 0x80045200: /* RNDGETENTCNT */
        return with_struct(row, call, 4, false, true);
    case FS_IOC_GETFLAGS: /* the kernel writes four bytes, whatever its name says */
        return with_struct(row, call, 4, false, true);
    case FS_IOC_SETFLAGS:
        return with_struct(row, call, 4, true, false);
    case BLKGETSIZE64:
    case FIOQSIZE:
        return with_struct(row, call, 8, false, true);
    case SIOCGSTAMP_OLD:
    case SIOCGSTAMPNS_OLD:
        return with_struct(row, call, 16, false, true);
    case 0x802c542a: /* TCGETS2, whose structure libc does not have */
        return with_struct(row, call, 44, false, true);
    case 0x402c542b: /* TCSETS2, TCSETSW2, TCSETSF2 */
    case 0x402c542c:
    case 0x402c542d:
        return with_struct(row, call, 44, true, false);
    case TIOCSTI:
        return with_struct(row, call, 1, true, false);
    case FIOCLEX:
    case FIONCLEX:
    case TIOCEXCL:
    case TIOCNXCL:
    case TIOCNOTTY:
    case TIOCSBRK:
    case TIOCCBRK:
        call->a[2] = 0;
        return tf_logged(row, call);
    case TCSBRK:
    case TCSBRKP:
    case TCXONC:
    case TCFLSH:
    case TIOCSCTTY:
    case TIOCGPTPEER:
        return tf_logged(row, call);
    case 0x8912: { /* SIOCGIFCONF: a length and a buffer. libuuid asks for the interfaces' hardware addresses
                    */
        struct {
            int len;
            void *buf;
        } *conf = (void *)call->a[2];
        int room = conf->len;
        struct tf_call logged = *call;
        logged.a[2] = 1;
        size_t len = tf_args_encode(row, &logged, args_buf);
        memcpy(args_buf + len, &room, 4);
        len += 4;
        if (tf.mode == TF_REPLAYS) {
            const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
            if (e->data_len >= 4) {
                memcpy(&conf->len, tf_outside_data(e), 4);
                if (conf->buf && e->data_len - 4 <= (uint64_t)room)
                    memcpy(conf->buf, tf_outside_data(e) + 4, e->data_len - 4);
            }
            return e->result;
        }
        long r = tf_true_call(call);
        struct iovec data[2] = {{&conf->len, 4},
                                {conf->buf, conf->buf && conf->len > 0 ? (size_t)conf->len : 0}};
        tf_log_put(call->nr, 0, r, args_buf, len, data, TF_IS_ERR(r) ? 0 : 2);
        return r;
    }
    default:
        if (request >= 0x8910 && request <= 0x8970) /* questions about a network interface: struct ifreq */
            return with_struct(row, call, 40, true, true);
        return unknown(row, call, "this request is not covered yet");
    }
}
