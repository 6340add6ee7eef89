/*
 * maps.c: a list of what the recorded process has mapped that is not plain private memory, and of the files
 * whose descriptors other processes may have, too: those that it was started with, and those that it had when
 * it made a child. Kept while recording only; what follows from it for a replay is in the log.
 *
 * In replay every map is private memory with the bytes of the recording. That is exact as long as the bytes
 * change through this very map only. So a file that is mapped may not be changed in another way: not by
 * write() or ftruncate() of the process itself, not through a second map, and not by others. The last cannot
 * be seen. For files that are mapped to be written to it is ruled out: files without a name are the process's
 * alone when it has made them itself and has not passed descriptors on; of the others nobody has another
 * descriptor while there is a lease (lease.c). For files that are only read it is not ruled out
 * (docs/limitations.md).
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "iohooks/process.h"

#define PASSED_MAX 256
#define PAGE 4096ul

static struct tf_map maps[TF_MAPS_MAX]; /* in no order */
static int count;
static struct {
    uint64_t device, inode;
} passed[PASSED_MAX]; /* files that were open, to be written to, when descriptors were shared */
static int passed_count;

static uintptr_t page_end(uintptr_t at)
{
    return (at + PAGE - 1) & ~(PAGE - 1);
}

static bool is_file(enum tf_map_kind kind)
{
    return kind == TF_MAP_PRIVATE_FILE || kind == TF_MAP_READ_FILE || kind == TF_MAP_OWN_FILE;
}

static bool is_mapped_own(uint64_t device, uint64_t inode)
{
    for (int i = 0; i < count; i++)
        if (maps[i].kind == TF_MAP_OWN_FILE && maps[i].device == device && maps[i].inode == inode)
            return true;
    return false;
}

static void note_passed(int fd)
{
    struct stat st;
    if (TF_IS_ERR(tf_sys(SYS_fstat, fd, &st)) || !S_ISREG(st.st_mode) || tf_maps_passed(&st) ||
        (tf_sys(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return;
    if (passed_count == PASSED_MAX) { /* too many to tell apart: none is its own */
        tf.files_passed = true;
        return;
    }
    passed[passed_count].device = st.st_dev;
    passed[passed_count++].inode = st.st_ino;
}

void tf_maps_pass(bool to_program)
{
    static char entries[4096];
    long n, folder = tf_sys(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (TF_IS_ERR(folder)) {
        tf.files_passed = true;
        return;
    }
    while ((n = tf_sys(SYS_getdents64, folder, entries, sizeof entries)) > 0) {
        for (long at = 0; at < n;) {
            uint16_t len; /* struct linux_dirent64: two numbers, its length, a type, the name */
            memcpy(&len, entries + at + 16, sizeof len);
            int fd = atoi(entries + at + 19);
            if (entries[at + 19] != '.' && fd != folder &&
                !(to_program && (tf_sys(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC)))
                note_passed(fd);
            at += len;
        }
    }
    tf_sys(SYS_close, folder);
}

bool tf_maps_own_passed(void)
{
    for (int i = 0; i < count; i++) {
        struct stat st = {.st_dev = maps[i].device, .st_ino = maps[i].inode};
        if (maps[i].kind == TF_MAP_OWN_FILE && tf_maps_passed(&st))
            return true;
    }
    return false;
}

bool tf_maps_passed(const struct stat *st)
{
    for (int i = 0; i < passed_count; i++)
        if (passed[i].device == st->st_dev && passed[i].inode == st->st_ino)
            return true;
    return false;
}

bool tf_maps_add(uintptr_t from, size_t len, enum tf_map_kind kind, const struct stat *st, uint64_t offset)
{
    if (count == TF_MAPS_MAX)
        return false;
    tf_maps_forget_fd(-1);
    maps[count++] = (struct tf_map){.from = from,
                                    .to = page_end(from + len),
                                    .device = st ? st->st_dev : 0,
                                    .inode = st ? st->st_ino : 0,
                                    .offset = offset,
                                    .kind = kind};
    return true;
}

void tf_maps_remove(uintptr_t from, size_t len)
{
    uintptr_t to = page_end(from + len);
    for (int i = count - 1; i >= 0; i--) {
        struct tf_map *m = &maps[i], gone;
        if (m->to <= from || m->from >= to)
            continue;
        if (m->from < from && m->to > to) { /* a hole: two of it */
            struct tf_map rest = *m;
            rest.offset += to - rest.from;
            rest.from = to;
            m->to = from;
            if (count < TF_MAPS_MAX)
                maps[count++] = rest;
            else
                tf_barrier("more than %d maps of files and of shared memory", TF_MAPS_MAX);
        } else if (m->from < from) {
            m->to = from;
        } else if (m->to > to) {
            m->offset += to - m->from;
            m->from = to;
        } else {
            gone = *m;
            *m = maps[--count];
            if (gone.kind == TF_MAP_OWN_FILE && !is_mapped_own(gone.device, gone.inode))
                tf_lease_drop(gone.device, gone.inode);
        }
    }
}

void tf_maps_move(uintptr_t from, size_t len, uintptr_t to, size_t new_len)
{
    const struct tf_map *found = tf_maps_find(from, len);
    struct tf_map moved;
    if (!found)
        return;
    moved = *found;
    moved.offset += from > moved.from ? from - moved.from : 0;
    moved.from = to;
    moved.to = page_end(to + new_len);
    if (count == TF_MAPS_MAX) {
        tf_barrier("more than %d maps of files and of shared memory", TF_MAPS_MAX);
        return;
    }
    /* So that of the file one map remains all the while. */
    maps[count++] = (struct tf_map){.device = moved.device, .inode = moved.inode, .kind = moved.kind};
    tf_maps_remove(from, len);
    tf_maps_remove(to, new_len);
    for (int i = 0; i < count; i++)
        if (!maps[i].to)
            maps[i] = moved;
}

const struct tf_map *tf_maps_find(uintptr_t from, size_t len)
{
    uintptr_t to = page_end(from + len);
    for (int i = 0; i < count; i++)
        if (maps[i].to > from && maps[i].from < to)
            return &maps[i];
    return NULL;
}

static bool shows(const struct tf_map *m, const struct stat *st, uint64_t start, uint64_t end)
{
    return is_file(m->kind) && m->device == st->st_dev && m->inode == st->st_ino &&
           m->offset + (m->to - m->from) > start && m->offset < end;
}

bool tf_maps_alias(const struct stat *st, uint64_t offset, size_t len, bool own)
{
    for (int i = 0; i < count; i++)
        if (shows(&maps[i], st, offset, offset + page_end(len)) && (own || maps[i].kind == TF_MAP_OWN_FILE))
            return true;
    return false;
}

bool tf_maps_own(void)
{
    for (int i = 0; i < count; i++)
        if (maps[i].kind == TF_MAP_OWN_FILE)
            return true;
    return false;
}

bool tf_map_is_shared(enum tf_map_kind kind)
{
    return kind == TF_MAP_OWN_FILE || kind == TF_MAP_ANONYMOUS;
}

size_t tf_maps_shared(void)
{
    size_t sum = 0;
    for (int i = 0; i < count; i++)
        if (tf_map_is_shared(maps[i].kind))
            sum += maps[i].to - maps[i].from;
    return sum;
}

int tf_maps_wipe(struct tf_range *wiped)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (maps[i].kind != TF_MAP_DROPPABLE)
            continue;
        wiped[n++] = (struct tf_range){maps[i].from, maps[i].to - maps[i].from};
        tf_sys(SYS_madvise, maps[i].from, maps[i].to - maps[i].from, MADV_DONTNEED);
    }
    return n;
}

void tf_maps_loose(void)
{
    for (int i = 0; i < count; i++)
        if (maps[i].kind == TF_MAP_DROPPABLE)
            tf_sys(SYS_madvise, maps[i].from, maps[i].to - maps[i].from, MADV_WIPEONFORK);
}

/* Is a byte at or behind `start` of this file mapped? */
static bool mapped_from(const struct stat *st, uint64_t start)
{
    for (int i = 0; i < count; i++)
        if (shows(&maps[i], st, start, UINT64_MAX))
            return true;
    return false;
}

/* Descriptors that are known to be of files that are not mapped: most that are written to, again and again.
 */
static uint32_t unmapped_fds[32];

void tf_maps_forget_fd(long fd)
{
    if (fd >= 0 && fd < 1024)
        unmapped_fds[fd / 32] &= ~(1u << (fd % 32));
    else if (fd < 0)
        memset(unmapped_fds, 0, sizeof unmapped_fds);
}

static bool fd_mapped_from(long fd, long start)
{
    struct stat st;
    if (fd >= 0 && fd < 1024 && unmapped_fds[fd / 32] >> (fd % 32) & 1)
        return false;
    if (TF_IS_ERR(tf_sys(SYS_fstat, (int)fd, &st)))
        return false;
    if (!S_ISREG(st.st_mode) || !mapped_from(&st, 0)) {
        if (fd >= 0 && fd < 1024 && !tf_child_borrows()) /* whose descriptors are not the parent's */
            unmapped_fds[fd / 32] |= 1u << (fd % 32);
        return false;
    }
    if (start < 0) { /* where the descriptor stands */
        long flags = tf_sys(SYS_fcntl, (int)fd, F_GETFL);
        start = !TF_IS_ERR(flags) && flags & O_APPEND ? st.st_size : tf_sys(SYS_lseek, (int)fd, 0, SEEK_CUR);
        if (TF_IS_ERR(start))
            start = 0;
    }
    return mapped_from(&st, (uint64_t)start);
}

static bool path_mapped_from(int folder, const char *path, long start)
{
    struct stat st;
    return tf_readable(path) && !TF_IS_ERR(tf_sys(SYS_newfstatat, folder, path, &st, 0)) &&
           S_ISREG(st.st_mode) && mapped_from(&st, (uint64_t)start);
}

bool tf_maps_written(const struct tf_call *call)
{
    const long *a = call->a;
    struct stat st;
    if (!count)
        return false;
    switch (call->nr) {
    case SYS_write:
    case SYS_writev:
        return fd_mapped_from(a[0], -1);
    case SYS_pwrite64:
    case SYS_pwritev:
        return a[3] >= 0 && fd_mapped_from(a[0], a[3]);
    case SYS_pwritev2:
        return fd_mapped_from(a[0], a[3]);
    case SYS_sendfile:
        return fd_mapped_from(a[0], -1);
    case SYS_copy_file_range:
    case SYS_splice:
        return fd_mapped_from(a[2], tf_readable((void *)a[3]) ? *(long *)a[3] : -1);
    case SYS_fallocate: /* making room changes no byte that is there */
        return (a[1] & ~(long)FALLOC_FL_KEEP_SIZE) && fd_mapped_from(a[0], 0);
    case SYS_ftruncate: /* nor does making a file longer, but that its new bytes were none */
        return !TF_IS_ERR(tf_sys(SYS_fstat, (int)a[0], &st)) && a[1] < st.st_size &&
               fd_mapped_from(a[0], a[1]);
    case SYS_truncate:
        return tf_readable((void *)a[0]) && !TF_IS_ERR(tf_sys(SYS_newfstatat, AT_FDCWD, a[0], &st, 0)) &&
               a[1] < st.st_size && path_mapped_from(AT_FDCWD, (const char *)a[0], a[1]);
    case SYS_creat:
        return path_mapped_from(AT_FDCWD, (const char *)a[0], 0);
    case SYS_open:
        return (a[1] & O_TRUNC) && path_mapped_from(AT_FDCWD, (const char *)a[0], 0);
    case SYS_openat:
        return (a[2] & O_TRUNC) && path_mapped_from((int)a[0], (const char *)a[1], 0);
    default:
        return false;
    }
}
