/* mappings.c: what a process has mapped, read by itself. In the recorded or replaying process. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "iohooks/process.h"

/* A line of /proc/self/maps. */
static bool read_line(const char *line, struct tf_mapping *m)
{
    char *at;
    m->from = strtoull(line, &at, 16);
    m->to = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
    if (*at != ' ' || strlen(at) < 5)
        return false;
    m->prot =
        (at[1] == 'r' ? PROT_READ : 0) | (at[2] == 'w' ? PROT_WRITE : 0) | (at[3] == 'x' ? PROT_EXEC : 0);
    m->shared = at[4] == 's';
    return true;
}

static bool each(long fd, bool (*fn)(void *ctx, const struct tf_mapping *m), void *ctx)
{
    static char buf[16384];
    size_t have = 0;
    for (;;) {
        long n = tf_sys(SYS_read, fd, buf + have, sizeof buf - 1 - have);
        if (n == 0)
            return have == 0;
        if (TF_IS_ERR(n))
            return false;
        have += (size_t)n;
        buf[have] = 0;
        char *line = buf;
        for (char *end; (end = strchr(line, '\n')); line = end + 1) {
            struct tf_mapping m;
            *end = 0;
            if (!read_line(line, &m) || !fn(ctx, &m))
                return false;
        }
        have = strlen(line);
        memmove(buf, line, have);
    }
}

bool tf_each_mapping(bool (*fn)(void *ctx, const struct tf_mapping *m), void *ctx)
{
    long fd = tf_sys(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (TF_IS_ERR(fd))
        return false;
    bool whole = each(fd, fn, ctx);
    tf_sys(SYS_close, fd);
    return whole;
}

/* ---- making shared memory private ---- */

/* What is behind the end of a file cannot be read: a copy of that would not fault as the map does. */
static bool copy_bytes(long memory, uintptr_t to, uintptr_t from, size_t len)
{
    while (len) {
        long n = tf_sys(SYS_pread64, memory, to, len, from);
        if (n <= 0)
            return false;
        to += (size_t)n;
        from += (size_t)n;
        len -= (size_t)n;
    }
    return true;
}

static bool make_private(void *ctx, const struct tf_mapping *m)
{
    const long *memory = ctx;
    const struct tf_map *map = tf_maps_find(m->from, m->to - m->from);
    if (!m->shared || !map || !tf_map_is_shared(map->kind))
        return true;
    size_t len = m->to - m->from;
    long copy = tf_sys(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return !TF_IS_ERR(copy) && copy_bytes(*memory, (uintptr_t)copy, m->from, len) &&
           tf_sys(SYS_mprotect, copy, len, m->prot) == 0 &&
           tf_sys(SYS_mremap, copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, m->from) == (long)m->from;
}

bool tf_unshare_memory(void)
{
    long memory = tf_sys(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (TF_IS_ERR(memory))
        return false;
    bool all = tf_each_mapping(make_private, &memory);
    tf_sys(SYS_close, memory);
    return all;
}
