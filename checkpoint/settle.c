/*
 * settle.c: from the inside, how a parked copy becomes one that can be dumped (criu.h), and, restored, a
 * parked copy again (proto.h: SETTLE, REVIVE). In the recorded or replaying process.
 *
 * What a dump cannot hold, or should not, is given up: shared memory (the header is kept as a copy), trapping
 * (CRIU makes calls of its own in the process), every descriptor but the socket, the session, the folder.
 * What is left is the program's own memory, and that has to be the same afterwards: both sides take its
 * digest.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/prctl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "iohooks/process.h"

#define SETTLED_SOCKET 3

static uint8_t header[TF_SHM_HEADER];
static int own_socket;
static char folder[PATH_MAX];

/* ---- the digest ---- */

#define PAGE 4096ul
#define RSEQ_BYTES 32ul           /* struct rseq of <linux/rseq.h>, aligned to that */
#define BELOW_STACK (256ul << 10) /* where this code itself writes to the stack, at most */

/* What does not count: this library's own variables say what the process does at this moment, and below the
 * stack pointer there is what it has just done. */
static uintptr_t own_from, own_to;

static int find_own(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size, (void)ctx;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && (uintptr_t)&tf >= from &&
            (uintptr_t)&tf < from + segment->p_memsz) {
            own_from = from & ~(PAGE - 1);
            own_to = (from + segment->p_memsz + PAGE - 1) & ~(PAGE - 1);
        }
    }
    return 0;
}

void tf_settle_start(void)
{
    dl_iterate_phdr(find_own, NULL);
}

struct digest {
    XXH3_state_t state;
    uintptr_t stack;
    uintptr_t rseq; /* of the kernel thread: main's, the others' are not known to the kernel any more */
    long pagemap;
    uint64_t bytes;
};

static void take_page(struct digest *digest, uintptr_t at)
{
    static const uint8_t zeros[PAGE];
    uintptr_t from = at;
    if (at >= own_from && at < own_to)
        return;
    if (at + PAGE > digest->stack - BELOW_STACK && at < digest->stack)
        from = at + PAGE <= digest->stack ? at + PAGE : digest->stack;
    size_t len = at + PAGE - from;
    /* A page of zeros may be there or not, the program sees the same. */
    if (!len || memcmp((const void *)from, zeros, len) == 0)
        return;
    XXH3_64bits_update(&digest->state, &from, sizeof from);
    if (digest->rseq >= from &&
        digest->rseq < at + PAGE) { /* the kernel writes there which processor it is */
        size_t before = digest->rseq - from;
        XXH3_64bits_update(&digest->state, (const void *)from, before);
        from = digest->rseq + RSEQ_BYTES < at + PAGE ? digest->rseq + RSEQ_BYTES : at + PAGE;
    }
    XXH3_64bits_update(&digest->state, (const void *)from, at + PAGE - from);
    digest->bytes += len;
}

/* The pages that are the process's own: in memory or in swap, and no file's (proc_pid_pagemap(5)). */
static bool take_mapping(struct digest *digest, uintptr_t from, uintptr_t to)
{
    static uint64_t entries[4096];
    for (uintptr_t at = from; at < to;) {
        size_t left = (to - at) / PAGE, count = left < 4096 ? left : 4096;
        long got = tf_sys(SYS_pread64, digest->pagemap, entries, count * 8, at / PAGE * 8);
        if (got != (long)(count * 8))
            return false;
        for (size_t i = 0; i < count; i++, at += PAGE)
            if (entries[i] >> 62 && !(entries[i] >> 61 & 1))
                take_page(digest, at);
    }
    return true;
}

/* What cannot be written to comes from files, or stays as it was made. */
static bool take_private(void *digest, const struct tf_mapping *m)
{
    bool counts = !m->shared && (m->prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE);
    return !counts || take_mapping(digest, m->from, m->to);
}

/* stack: what stands above it counts. */
static bool take_digest(uintptr_t stack, struct tf_settled *out)
{
    static struct digest digest;
    digest.pagemap = tf_sys(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    digest.stack = stack;
    digest.rseq = (uintptr_t)tf_thread_at(0)->ident + (uintptr_t)__rseq_offset;
    digest.bytes = 0;
    XXH3_64bits_reset(&digest.state);
    bool whole = !TF_IS_ERR(digest.pagemap) && tf_each_mapping(take_private, &digest);
    if (!TF_IS_ERR(digest.pagemap))
        tf_sys(SYS_close, digest.pagemap);
    *out = (struct tf_settled){.digest = XXH3_64bits_digest(&digest.state), .bytes = digest.bytes};
    return whole;
}

/* ---- settling and reviving ---- */

bool tf_settle_process(uintptr_t stack, bool own_namespace, struct tf_settled *out)
{
    tf_thread_forget_rseq(tf_self);
    tf_sys(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
    if (TF_IS_ERR(tf_sys(SYS_getcwd, folder, sizeof folder)))
        folder[0] = 0;
    tf_sys(SYS_chdir, "/");
    tf_sys(SYS_setsid);
    /* CRIU wants room behind the highest descriptor, and ours is as high as can be. */
    own_socket = tf.socket;
    tf_sys(SYS_dup3, tf.socket, SETTLED_SOCKET, O_CLOEXEC);
    tf.socket = SETTLED_SOCKET;
    tf_sys(SYS_close_range, 0, tf.socket - 1, 0);
    tf_sys(SYS_close_range, tf.socket + 1, ~0u, 0);
    memcpy(header, tf.shm, sizeof header);
    tf_sys(SYS_munmap, TF_RING_ADDR, 2 * tf.ring_words * 4ul);
    tf_sys(SYS_munmap, TF_SHM_ADDR, TF_SHM_HEADER);
    tf_sys(SYS_munmap, TF_CTL_ADDR, TF_CTL_SIZE);
    tf_sys(SYS_munmap, TF_LOG_ADDR, TF_LOG_SIZE);
    bool whole = take_digest(stack, out);
    return (!own_namespace || tf_sys(SYS_unshare, CLONE_NEWUSER) == 0) && whole;
}

static bool map_again(int fd, uintptr_t at, size_t len)
{
    long r = tf_sys(SYS_mmap, at, len, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd, 0);
    tf_sys(SYS_close, fd);
    return (uintptr_t)r == at;
}

bool tf_revive_process(uintptr_t stack, int ctl, int log, struct tf_settled *out)
{
    bool whole = take_digest(stack, out);
    long r = tf_sys(SYS_mmap, TF_SHM_ADDR, TF_SHM_HEADER, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if ((uintptr_t)r != TF_SHM_ADDR)
        return false;
    memcpy(tf.shm, header, sizeof header);
    if (own_socket != tf.socket && tf_dup_high(tf.socket, own_socket) != own_socket)
        return false;
    if (own_socket != tf.socket)
        tf_sys(SYS_close, tf.socket);
    tf.socket = own_socket;
    if (folder[0]) /* where that is not there, a path that needs it is not found either */
        tf_sys(SYS_chdir, folder);
    bool control = map_again(ctl, TF_CTL_ADDR, TF_CTL_SIZE); /* both descriptors are closed in any case */
    return map_again(log, TF_LOG_ADDR, TF_LOG_SIZE) && control && whole;
}
