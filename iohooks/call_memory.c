/*
 * call_memory.c: the memory map. Anonymous memory is mapped again in replay, at the recorded address. A
 * mapping of a file is one of
 *
 *   a library: the dynamic loader's mappings carry MAP_DENYWRITE; executable ones count too. Mapped again
 * from the same path; the supervisor has made sure that the file is the same. Logged: its path. data:
 * private, read-only, or shared and writable when only this process has the file (maps.c, lease.c). The bytes
 * as they were at the call are in the log, and the replay has them in anonymous memory. a semaphore of
 * sem_open: its bytes are never looked at in replay (semaphore.c). shared and writable otherwise: others may
 * change it at any time. Not covered.
 *
 * Shared memory is private in replay, for a fork must not write to what its parent has. Where the two differ
 * (to give pages back clears private memory, not shared), the log says what became of the bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include "iohooks/special.h"

#ifndef MAP_DENYWRITE
#define MAP_DENYWRITE 0x0800
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

enum { KIND_ANONYMOUS = 0, KIND_LIBRARY = 1, KIND_DATA = 2, KIND_SEMAPHORE = 3 };

#define PAGE 4096ul
#define PAGES(len) (((size_t)(len) + PAGE - 1) & ~(PAGE - 1))

#define args_buf (tf_self->args)
static char path[4096];

void tf_memory_args(struct tf_call *call)
{
    if (call->nr == SYS_mmap && (call->a[3] & MAP_ANONYMOUS)) {
        call->a[4] = -1;
        call->a[5] = 0;
    } else if (call->nr == SYS_mremap && !(call->a[3] & MREMAP_FIXED)) {
        call->a[4] = 0;
    }
}

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

static void note_semaphore(long at, size_t len)
{
    if (!tf_semaphore_map((uintptr_t)at, len) && tf.mode == TF_REPLAYS)
        tf_diverge("more semaphores than there is room for are mapped");
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
        if (kind == KIND_SEMAPHORE)
            note_semaphore(e->result, len);
        if (prot != (PROT_READ | PROT_WRITE))
            tf_sys(SYS_mprotect, e->result, len, prot);
    }
    return e->result;
}

/* The same of a light log: the memory may be elsewhere. */
static long derive_map(struct tf_call *call, size_t args_len)
{
    size_t len = (size_t)call->a[1];
    int prot = (int)call->a[2], flags = ((int)call->a[3] & ~(MAP_TYPE | MAP_DENYWRITE)) | MAP_PRIVATE;
    const struct tf_outside *e = tf_log_take_moved(call->nr, args_buf, args_len, 8);
    struct iovec data = {(void *)tf_outside_data(e), e->data_len};
    const uint8_t *bytes = tf_outside_data(e) + 8;
    uint64_t kind;
    long r = e->result;
    if (!TF_IS_ERR(r)) {
        if (e->data_len < 8)
            tf_diverge("the log entry of this mmap is damaged");
        memcpy(&kind, tf_outside_data(e), 8);
        if (kind == KIND_LIBRARY) {
            long fd = tf_sys(SYS_openat, AT_FDCWD, bytes, O_RDONLY | O_CLOEXEC);
            if (TF_IS_ERR(fd))
                tf_diverge_result(e, fd, "cannot open the library %s (%s)", (const char *)bytes,
                                  strerrorname_np((int)-fd));
            r = tf_sys(SYS_mmap, call->a[0], len, prot, flags, fd, call->a[5]);
            tf_sys(SYS_close, fd);
        } else {
            r = tf_sys(SYS_mmap, call->a[0], len, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
            if (!TF_IS_ERR(r))
                memcpy((void *)r, bytes, e->data_len - 8);
            if (!TF_IS_ERR(r) && kind == KIND_SEMAPHORE)
                note_semaphore(r, len);
            if (!TF_IS_ERR(r) && prot != (PROT_READ | PROT_WRITE))
                tf_sys(SYS_mprotect, r, len, prot);
        }
        if (TF_IS_ERR(r))
            tf_diverge_result(e, r, "a file that the recording has mapped cannot be mapped (%s)",
                              strerrorname_np((int)-r));
    }
    tf_derive_event(call->nr, e->flags, r, args_buf, args_len, &data, 1);
    return r;
}

/* How the file is mapped, for maps.c. False: in a way that is not covered; the barrier is set. */
static bool classify(const struct tf_call *call, const struct stat *st, enum tf_map_kind *kind)
{
    size_t len = (size_t)call->a[1];
    int prot = (int)call->a[2];
    bool shared = ((int)call->a[3] & MAP_TYPE) != MAP_PRIVATE;
    long file_flags = tf_sys(SYS_fcntl, (int)call->a[4], F_GETFL);

    *kind = TF_MAP_PRIVATE_FILE;
    if (shared && (prot & PROT_WRITE) && (file_flags & O_ACCMODE) != O_RDWR)
        return true; /* the kernel refuses it */
    if (shared && strncmp(path, "/dev/shm/sem.", 13) == 0) {
        *kind = TF_MAP_SEMAPHORE;
        return true;
    }
    if (shared && ((prot & PROT_WRITE) || ((file_flags & O_ACCMODE) != O_RDONLY && !st->st_nlink))) {
        *kind = TF_MAP_OWN_FILE;
        bool passed = tf.files_passed || tf_maps_passed(st);
        if (passed || (st->st_nlink && !tf_lease_take((int)call->a[4], st))) {
            tf_barrier("mmap of %s, shared and writable: others %s", path,
                       passed ? "may have a descriptor of it"
                              : "have it open, too, or it cannot be told whether they do");
            return false;
        }
    } else if (shared) {
        *kind = TF_MAP_READ_FILE;
    }
    if (tf_maps_alias(st, (uint64_t)call->a[5], len, *kind == TF_MAP_OWN_FILE)) {
        tf_barrier(
            "mmap of %s, which is mapped already: what is written to one of the maps is seen in the other",
            path);
        return false;
    }
    return true;
}

/* What libc keeps for the vDSO's getrandom, for example. The kernel may make zeros of it at any time, which
 * could not be replayed; so it gets memory that stays. A forked child is to have zeros, a checkpoint is not:
 * call_child.c sees to the former. */
static long never_dropped(long at, size_t len, int prot, int flags)
{
    flags = (flags & ~(MAP_TYPE | MAP_FIXED_NOREPLACE)) | MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    return tf_sys(SYS_mmap, at, len, prot, flags, -1, 0);
}

static bool is_zero_device(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 5);
}

TF_SPECIAL(mmap)
{
    size_t len = (size_t)call->a[1];
    int prot = (int)call->a[2], flags = (int)call->a[3], fd;
    uint64_t kind = KIND_ANONYMOUS;
    enum tf_map_kind map_kind = 0; /* nothing to note */
    struct iovec data[2] = {{&kind, 8}, {NULL, 0}};
    struct stat st = {0};
    size_t args_len;

    tf_memory_args(call);
    fd = (int)call->a[4];
    args_len = tf_args_encode(row, call, args_buf);
    if (tf.mode == TF_REPLAYS && tf.light && (flags & MAP_ANONYMOUS)) {
        flags = (flags & ~MAP_TYPE) | MAP_PRIVATE;
    } else if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_peek();
        if (e && e->call == TF_CALL_MARK)
            tf_log_take(call->nr, args_buf, args_len);
        if (flags & MAP_FIXED)
            tf_semaphore_unmap((uintptr_t)call->a[0], len);
        return tf.light ? derive_map(call, args_len) : replay_map(call, args_len);
    }

    if (flags & MAP_ANONYMOUS) {
        if ((flags & MAP_TYPE) != MAP_PRIVATE)
            map_kind = (flags & MAP_TYPE) == MAP_DROPPABLE ? TF_MAP_DROPPABLE : TF_MAP_ANONYMOUS;
    } else if (!TF_IS_ERR(tf_sys(SYS_fstat, fd, &st))) { /* a bad descriptor is the kernel's to refuse */
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        long n = tf_sys(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
        path[TF_IS_ERR(n) ? 0 : n] = 0;
        if (!S_ISREG(st.st_mode) && !(is_zero_device(&st) && (flags & MAP_TYPE) == MAP_PRIVATE)) {
            tf_barrier("mmap of %s, which is not a regular file", path);
            return TF_NATIVE;
        }
        kind = (flags & MAP_DENYWRITE) || (prot & PROT_EXEC) ? KIND_LIBRARY : KIND_DATA;
        if (kind == KIND_LIBRARY) {
            if ((flags & MAP_TYPE) != MAP_PRIVATE && (prot & PROT_WRITE)) {
                tf_barrier("mmap of %s, shared, writable and executable", path);
                return TF_NATIVE;
            }
            data[1] = (struct iovec){path, strlen(path) + 1};
            if (call->a[5] == 0)
                tf_log_record(TF_REC_MAPPED, path, strlen(path) + 1, NULL, 0);
        } else {
            if (S_ISREG(st.st_mode) && !classify(call, &st, &map_kind))
                return TF_NATIVE;
            if (map_kind == TF_MAP_SEMAPHORE)
                kind = KIND_SEMAPHORE;
            if (st.st_size > call->a[5]) {
                size_t there = (size_t)(st.st_size - call->a[5]);
                data[1].iov_len = there < PAGES(len) ? there : PAGES(len);
            }
        }
    }
    long r = tf_sys(SYS_mmap, call->a[0], len, prot, flags, fd, call->a[5]);
    if (!TF_IS_ERR(r) && map_kind == TF_MAP_DROPPABLE && TF_IS_ERR(never_dropped(r, len, prot, flags))) {
        tf_barrier("mmap of memory that the kernel may drop");
        return r;
    }
    if (!TF_IS_ERR(r)) {
        if (flags & MAP_FIXED) {
            tf_maps_remove((uintptr_t)r, len);
            tf_semaphore_unmap((uintptr_t)r, len);
        }
        bool noted = map_kind == TF_MAP_SEMAPHORE ? tf_semaphore_map((uintptr_t)r, len)
                     : map_kind ? tf_maps_add((uintptr_t)r, len, map_kind, &st, (uint64_t)call->a[5])
                                : true;
        if (!noted) {
            tf_barrier("more maps of files, of shared memory or of semaphores than there is room for");
            return r;
        }
        if (kind == KIND_DATA || kind == KIND_SEMAPHORE) {
            if (!(prot & PROT_READ)) {
                tf_barrier("mmap of %s without the right to read", path);
                return r;
            }
            data[1].iov_base = (void *)r;
        }
    }
    tf_log_put(call->nr, 0, r, args_buf, args_len, data, TF_IS_ERR(r) ? 0 : 2);
    return r;
}

TF_SPECIAL(munmap)
{
    long r = tf_run_again(row, call);
    if (!TF_IS_ERR(r)) {
        tf_semaphore_unmap((uintptr_t)call->a[0], (size_t)call->a[1]);
        if (tf.mode == TF_RECORDS)
            tf_maps_remove((uintptr_t)call->a[0], (size_t)call->a[1]);
    }
    return r;
}

/* How many bytes from there on can be read: behind the end of its file a map cannot. -errno: not known. */
static long readable_bytes(uintptr_t from, size_t len)
{
    long self = tf_sys(SYS_getpid);
    for (size_t done = 0; done < len; done += PAGE) {
        char byte;
        struct iovec to = {&byte, 1}, at = {(void *)(from + done), 1};
        long r = tf_sys(SYS_process_vm_readv, self, &to, 1, &at, 1, 0);
        if (r == -EFAULT)
            return (long)done;
        if (r != 1)
            return TF_IS_ERR(r) ? r : -EIO;
    }
    return (long)len;
}

/* Record: may the program write there? */
static bool writable(uintptr_t at)
{
    long self = tf_sys(SYS_getpid);
    char byte;
    struct iovec own = {&byte, 1}, there = {(void *)at, 1};
    return tf_sys(SYS_process_vm_readv, self, &own, 1, &there, 1, 0) == 1 &&
           tf_sys(SYS_process_vm_writev, self, &own, 1, &there, 1, 0) == 1;
}

/* Replay: also where the program may only read. */
static void put_bytes(uintptr_t at, const void *bytes, size_t len, bool may_write)
{
    uintptr_t page = at & ~(PAGE - 1);
    size_t size = PAGES(at + len - page);
    if (!may_write && TF_IS_ERR(tf_sys(SYS_mprotect, page, size, PROT_READ | PROT_WRITE)))
        tf_diverge("cannot write to the memory of a map, at %#lx", (unsigned long)at);
    memcpy((void *)at, bytes, len);
    if (!may_write)
        tf_sys(SYS_mprotect, page, size, PROT_READ);
}

/* What the log has of a call on a map: what replay has to do; then the bytes that are to be there. */
#define NOT_AGAIN 1u /* the call is not made again */
#define MAY_WRITE 2u /* the program may write to those bytes */

/* To where it went in the recording. By itself the kernel would find another place in a process that was
 * restored: its search begins elsewhere. */
static long remap_at(const struct tf_call *call, const struct tf_outside *e)
{
    long old = call->a[0], old_len = call->a[1], new_len = call->a[2], flags = call->a[3];
    if (flags & MREMAP_FIXED)
        return tf_sys(SYS_mremap, old, old_len, new_len, flags, call->a[4]);
    if (e->result == old)
        return tf_sys(SYS_mremap, old, old_len, new_len, flags & ~MREMAP_MAYMOVE, 0);
    /* MREMAP_FIXED would replace what is there. */
    check_address(e, tf_sys(SYS_mmap, e->result, PAGES(new_len), PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0));
    return tf_sys(SYS_mremap, old, old_len, new_len, flags | MREMAP_FIXED, e->result);
}

static long again_or_bytes(const struct tf_call_row *row, struct tf_call *call, uintptr_t bytes_at,
                           bool moves)
{
    size_t len = tf_args_encode(row, call, args_buf);
    const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
    const uint64_t *head = (const void *)tf_outside_data(e);
    long r = e->result;
    if (TF_IS_ERR(e->result))
        return e->result;
    if (e->data_len < 8)
        tf_diverge("the log entry of this %s is damaged", row->name);
    if (!(*head & NOT_AGAIN)) {
        r = call->nr == SYS_mremap ? remap_at(call, e)
                                   : tf_raw((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3],
                                            call->a[4], call->a[5]);
        if (r != e->result)
            tf_diverge("%s gave %#lx, in the recording it gave %#lx", row->name, (unsigned long)r,
                       (unsigned long)e->result);
    }
    if (e->data_len > 8)
        put_bytes(moves ? (uintptr_t)r + bytes_at : bytes_at, head + 1, e->data_len - 8, *head & MAY_WRITE);
    return r;
}

/* To copy a map (no old length) would make two that show each other's bytes. */
TF_SPECIAL(mremap)
{
    uintptr_t old = (uintptr_t)call->a[0];
    size_t old_len = (size_t)call->a[1], new_len = (size_t)call->a[2];
    tf_memory_args(call);
    if (tf.mode == TF_REPLAYS && !tf.light)
        return again_or_bytes(row, call, PAGES(old_len), true);

    const struct tf_map *m = tf_maps_find(old, old_len ? old_len : 1);
    struct tf_map map = {0};
    uint64_t head = 0;
    struct iovec data[2] = {{&head, sizeof head}, {NULL, 0}};
    if (m && tf.light) {
        tf_barrier("mremap of a map of a file or of shared memory, which a light recording does not cover");
        return TF_NATIVE;
    }
    if (m) {
        map = *m;
        if (!old_len || (call->a[3] & MREMAP_DONTUNMAP) || old < m->from || old + PAGES(old_len) > m->to) {
            tf_barrier("mremap that copies, splits or joins a map of a file or of shared memory");
            return TF_NATIVE;
        }
    }
    size_t len = tf_args_encode(row, call, args_buf);
    long r = tf_sys(SYS_mremap, old, old_len, new_len, call->a[3], call->a[4]);
    if (!TF_IS_ERR(r) && m) {
        tf_maps_move(old, old_len, (uintptr_t)r, new_len);
        bool of_file = map.kind != TF_MAP_ANONYMOUS && map.kind != TF_MAP_DROPPABLE;
        if (of_file && PAGES(new_len) > PAGES(old_len)) { /* more of the file */
            long n = readable_bytes((uintptr_t)r + PAGES(old_len), PAGES(new_len) - PAGES(old_len));
            if (TF_IS_ERR(n)) {
                tf_barrier("mremap of a file's map: what is in the new part cannot be told");
                return r;
            }
            data[1] = (struct iovec){(uint8_t *)r + PAGES(old_len), (size_t)n};
            head |= n && writable((uintptr_t)r + PAGES(old_len)) ? MAY_WRITE : 0;
        }
    }
    tf_log_put(call->nr, 0, r, args_buf, len, data, TF_IS_ERR(r) ? 0 : 2);
    return r;
}

TF_SPECIAL(mprotect)
{
    if (tf.mode == TF_RECORDS && (call->a[2] & PROT_WRITE)) {
        const struct tf_map *m = tf_maps_find((uintptr_t)call->a[0], (size_t)call->a[1]);
        if (m && m->kind == TF_MAP_READ_FILE) {
            tf_barrier("mprotect makes a shared map of a file writable");
            return TF_NATIVE;
        }
    }
    return tf_run_again(row, call);
}

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* Most advice changes nothing that a program could see; in replay it is not given. */
TF_SPECIAL(madvise)
{
    uintptr_t from = (uintptr_t)call->a[0];
    size_t bytes = (size_t)call->a[1];
    int advice = (int)call->a[2];
    uint64_t head = NOT_AGAIN;
    struct iovec data[2] = {{&head, sizeof head}, {NULL, 0}};

    if (tf.mode == TF_REPLAYS && !tf.light)
        return again_or_bytes(row, call, from, false);
    size_t len = tf_args_encode(row, call, args_buf);
    bool gives_back = advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE;
    const struct tf_map *m = gives_back || advice == MADV_REMOVE ? tf_maps_find(from, bytes) : NULL;
    if (m && tf.light && m->kind != TF_MAP_DROPPABLE) {
        tf_barrier("madvise on a map of a file or of shared memory, which a light recording does not cover");
        return TF_NATIVE;
    }
    if (m && (from < m->from || from + PAGES(bytes) > m->to ||
              (advice == MADV_REMOVE && m->kind == TF_MAP_READ_FILE))) {
        tf_barrier("madvise gives back memory of which only a part is a map of a file or of shared memory");
        return TF_NATIVE;
    }
    if (m && m->kind == TF_MAP_DROPPABLE)
        m = NULL; /* as other private memory */
    if (advice == MADV_DONTFORK || advice == MADV_WIPEONFORK)
        tf.fork_differs = true;
    long r = tf_sys(SYS_madvise, from, bytes, advice);
    if (gives_back && !m)
        head = 0;
    if (m && !TF_IS_ERR(r)) { /* private memory has the file's bytes again; shared memory keeps what it had */
        bool changes = m->kind == TF_MAP_PRIVATE_FILE || advice == MADV_REMOVE;
        long n = changes ? readable_bytes(from, PAGES(bytes)) : 0;
        if (TF_IS_ERR(n)) {
            tf_barrier("madvise on a file's map: what is there now cannot be told");
            return r;
        }
        data[1] = (struct iovec){(void *)from, (size_t)n};
        head |= n && writable(from) ? MAY_WRITE : 0;
    }
    tf_log_put(call->nr, 0, r, args_buf, len, data, TF_IS_ERR(r) ? 0 : 2);
    return r;
}

/* ---- questions about memory: what they write is as long as their arguments say ---- */

static long answer_pieces(const struct tf_call_row *row, struct tf_call *call, struct iovec *out, int n)
{
    size_t len = tf_args_encode(row, call, args_buf), total = 0;
    for (int i = 0; i < n; i++) {
        if (!tf_readable(out[i].iov_base))
            out[i].iov_len = 0;
        total += out[i].iov_len;
    }
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_take(call->nr, args_buf, len);
        const uint8_t *at = tf_outside_data(e);
        if (TF_IS_ERR(e->result))
            return e->result;
        if (e->data_len != total)
            tf_diverge("%s was given other memory to write to than in the recording", row->name);
        for (int i = 0; i < n; at += out[i].iov_len, i++)
            memcpy(out[i].iov_base, at, out[i].iov_len);
        return e->result;
    }
    long r = tf_true_call(call);
    tf_log_put(call->nr, 0, r, args_buf, len, out, TF_IS_ERR(r) ? 0 : n);
    return r;
}

TF_SPECIAL(mincore)
{
    struct iovec out = {(void *)call->a[2], PAGES(call->a[1]) / PAGE};
    return answer_pieces(row, call, &out, 1);
}

TF_SPECIAL(mempolicy)
{
    struct iovec out[2] = {{(void *)call->a[0], 4}, {(void *)call->a[1], 0}};
    if (call->a[2] > 0 && call->a[2] <= 1 << 20)
        out[1].iov_len = (size_t)(call->a[2] + 63) / 64 * 8;
    return answer_pieces(row, call, out, 2);
}

TF_SPECIAL(move_pages)
{
    struct iovec out = {(void *)call->a[4], (size_t)call->a[1] * 4};
    return answer_pieces(row, call, &out, 1);
}
