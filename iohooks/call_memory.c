/*
 * call_memory.c: mmap. Anonymous memory is mapped again in replay, at the recorded address. A mapping of a
 * file is one of
 *
 *   a library (the dynamic loader's mappings carry MAP_DENYWRITE; executable ones count too): mapped again
 * from the same path; the supervisor has made sure that the file is the same. Logged: its path; private or
 * read-only data: the bytes as they were at the call are in the log, and the replay has them in anonymous
 * memory; shared and writable: others may change it at any time. Not covered.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "iohooks/special.h"

#ifndef MAP_DENYWRITE
#define MAP_DENYWRITE 0x0800
#endif

enum { KIND_ANONYMOUS = 0, KIND_LIBRARY = 1, KIND_DATA = 2 };

static uint8_t args_buf[256];
static char path[4096];

static long map_at(long addr, size_t len, int prot, int flags, int fd, long offset)
{
    /* Memory that forks would share would be changed by every look at it, and by other runs: here it is
     * private. */
    flags = (flags & ~MAP_TYPE) | MAP_PRIVATE;
    /* The program's own MAP_FIXED stands; otherwise nothing may be there yet. */
    if (!(flags & MAP_FIXED))
        flags |= MAP_FIXED_NOREPLACE;
    return tf_sys(SYS_mmap, addr, len, prot, flags, fd, offset);
}

static void check_address(const struct tf_outside *e, long got)
{
    if (got == e->result)
        return;
    if (got == -EEXIST || !TF_IS_ERR(got)) {
        tf_name_address((uint64_t)e->result, path, sizeof path);
        tf_diverge_result(e, got, "memory at %#lx, where the recording had it, is not free (%s)",
                          (unsigned long)e->result, path);
    }
    tf_diverge_result(e, got, "memory cannot be had at %#lx, where the recording had it (%s)",
                      (unsigned long)e->result, strerrorname_np((int)-got));
}

static long replay_map(struct tf_call *call, size_t args_len)
{
    size_t len = (size_t)call->a[1];
    int prot = (int)call->a[2], flags = (int)call->a[3];
    const struct tf_outside *e = tf_log_take(call->nr, args_buf, args_len);
    uint64_t kind;
    if (TF_IS_ERR(e->result))
        return e->result;
    if (e->data_len < 8)
        tf_diverge("the log entry of this mmap is damaged");
    memcpy(&kind, tf_outside_data(e), 8);
    const uint8_t *data = tf_outside_data(e) + 8;
    if (kind == KIND_ANONYMOUS) {
        check_address(e, map_at(e->result, len, prot, flags, -1, 0));
    } else if (kind == KIND_LIBRARY) {
        long fd = tf_sys(SYS_openat, AT_FDCWD, data, O_RDONLY | O_CLOEXEC);
        if (TF_IS_ERR(fd))
            tf_diverge_result(e, fd, "cannot open the library %s (%s)", (const char *)data,
                              strerrorname_np((int)-fd));
        check_address(e, map_at(e->result, len, prot, flags & ~MAP_DENYWRITE, (int)fd, call->a[5]));
        tf_sys(SYS_close, fd);
    } else {
        check_address(e, map_at(e->result, len, PROT_READ | PROT_WRITE,
                                (flags & MAP_FIXED) | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        memcpy((void *)e->result, data, e->data_len - 8);
        if (prot != (PROT_READ | PROT_WRITE))
            tf_sys(SYS_mprotect, e->result, len, prot);
    }
    return e->result;
}

TF_SPECIAL(mmap)
{
    size_t len = (size_t)call->a[1];
    int prot = (int)call->a[2], flags = (int)call->a[3], fd = (int)call->a[4];
    uint64_t kind = KIND_ANONYMOUS;
    struct iovec data[2] = {{&kind, 8}, {NULL, 0}};
    size_t args_len;

    if (flags & MAP_ANONYMOUS) {
        call->a[4] = -1;
        call->a[5] = 0;
    }
    args_len = tf_args_encode(row, call, args_buf);
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_peek();
        if (e && e->call == TF_CALL_MARK)
            tf_log_take(call->nr, args_buf, args_len);
        return replay_map(call, args_len);
    }

    if (!(flags & MAP_ANONYMOUS)) {
        struct stat st = {0};
        char link[64];
        bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
        long file_flags = tf_sys(SYS_fcntl, fd, F_GETFL);
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        long n = tf_sys(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
        path[TF_IS_ERR(n) ? 0 : n] = 0;
        if (TF_IS_ERR(tf_sys(SYS_fstat, fd, &st)) || !S_ISREG(st.st_mode)) {
            tf_barrier("mmap of %s, which is not a regular file", path);
            return TF_NATIVE;
        }
        if (shared && ((prot & PROT_WRITE) || (file_flags & O_ACCMODE) != O_RDONLY)) {
            tf_barrier("mmap of %s, shared and writable", path);
            return TF_NATIVE;
        }
        kind = (flags & MAP_DENYWRITE) || (prot & PROT_EXEC) ? KIND_LIBRARY : KIND_DATA;
        if (kind == KIND_LIBRARY) {
            data[1] = (struct iovec){path, strlen(path) + 1};
            if (call->a[5] == 0)
                tf_log_record(TF_REC_MAPPED, path, strlen(path) + 1, NULL, 0);
        } else if (st.st_size > call->a[5]) {
            size_t there = (size_t)(st.st_size - call->a[5]);
            data[1].iov_len = there < len ? there : len;
        }
    }
    long r = tf_sys(SYS_mmap, call->a[0], len, prot, flags, fd, call->a[5]);
    if (kind == KIND_ANONYMOUS && (flags & MAP_TYPE) != MAP_PRIVATE)
        tf.shared_memory = true;
    if (kind == KIND_DATA && !TF_IS_ERR(r)) {
        if (!(prot & PROT_READ)) {
            tf_barrier("mmap of %s without the right to read", path);
            return r;
        }
        data[1].iov_base = (void *)r;
    }
    tf_log_put(call->nr, 0, r, args_buf, args_len, data, TF_IS_ERR(r) ? 0 : 2);
    return r;
}
