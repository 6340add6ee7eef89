/*
 * clock.c: calls that never enter the kernel. The vDSO answers clock_gettime, gettimeofday, time and getcpu
 * (and getrandom, since Linux 6.11) in user space, where trapping does not see them. libc keeps pointers to
 * the vDSO's functions, in the dynamic loader's and its own data; those are replaced by the doors below.
 * Programs get the doors for time() and gettimeofday(), which libc resolves to the vDSO at link time, by
 * symbol.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include "iohooks/process.h"

enum { CLOCK_GETTIME, GETTIMEOFDAY, TIME, GETCPU, CLOCK_GETRES, GETRANDOM, DOORS };

static const char *const names[DOORS] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time",
                                         "__vdso_getcpu",        "__vdso_clock_getres", "__vdso_getrandom"};
static uintptr_t vdso[DOORS];

typedef long (*vdso_fn)(long, long);

/* The call while recording: the vDSO answers, its answer is logged. */
static inline long ask(unsigned nr, vdso_fn fast, long a, long b)
{
    tf_self->inside++;
    tf_self->selector = 0; /* for the clocks that it does not know, the vDSO makes a system call of its own */
    long r = nr == SYS_time ? (long)(int64_t)fast(a, b) : (long)(int)fast(a, b);
    tf_self->selector = 1;
    if (nr == SYS_clock_gettime && r == 0 && b) {
        tf_log_clock((int)a, (const struct timespec *)b);
    } else {
        struct tf_call call = {.nr = nr, .a = {a, b}};
        const struct tf_call_row *row = &tf_call_rows[nr];
        uint8_t args[64];
        struct iovec pieces[2];
        size_t total;
        uint64_t scratch[4];
        int n = tf_outs(row, &call, r, pieces, 2, &total, scratch);
        tf_log_put(nr, 0, r, args, tf_args_encode(row, &call, args), pieces, n);
    }
    tf_self->inside--;
    if (tf_self->pending)
        tf_signal_safe_point(TF_AFTER_CALL);
    return r;
}

/*
 * A door is the logged call, but that the true answer comes from the vDSO. tf_logged() makes the call by
 * number, so its result has to be had first.
 */
static inline long through(unsigned nr, int door, long a, long b)
{
    vdso_fn fast = (vdso_fn)vdso[door];
    if (fast && tf.mode == TF_RECORDS)
        return ask(nr, fast, a, b);
    if (tf.mode == TF_OFF || tf.mode == TF_LOOSE)
        return fast ? fast(a, b) : tf_sys(nr, a, b); /* not attached; perhaps no vDSO */
    struct tf_call call = {.nr = nr, .a = {a, b}};
    return tf_dispatch(&call);
}

static int door_clock_gettime(clockid_t clock, struct timespec *ts)
{
    return (int)through(SYS_clock_gettime, CLOCK_GETTIME, clock, (long)ts);
}

static int door_gettimeofday(struct timeval *tv, void *tz)
{
    return (int)through(SYS_gettimeofday, GETTIMEOFDAY, (long)tv, (long)tz);
}

static int door_clock_getres(clockid_t clock, struct timespec *ts)
{
    return (int)through(SYS_clock_getres, CLOCK_GETRES, clock, (long)ts);
}

static time_t door_time(time_t *t)
{
    time_t now = through(SYS_time, TIME, 0, 0);
    if (t)
        *t = now;
    return now;
}

static long door_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
    struct tf_call call = {.nr = SYS_getcpu, .a = {(long)cpu, (long)node, (long)unused}};
    return tf_dispatch(&call);
}

/* The vDSO's getrandom keeps its state in memory of the caller; the question about that state's size is a
 * different one. */
static ssize_t door_getrandom(void *buf, size_t len, unsigned flags, void *state, size_t state_len)
{
    if (state_len == ~0ul)
        return ((ssize_t(*)(void *, size_t, unsigned, void *, size_t))vdso[GETRANDOM])(buf, len, flags, state,
                                                                                       state_len);
    struct tf_call call = {.nr = SYS_getrandom, .a = {(long)buf, (long)len, flags}};
    return tf_dispatch(&call);
}

static const uintptr_t doors[DOORS] = {(uintptr_t)door_clock_gettime, (uintptr_t)door_gettimeofday,
                                       (uintptr_t)door_time,          (uintptr_t)door_getcpu,
                                       (uintptr_t)door_clock_getres,  (uintptr_t)door_getrandom};

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    int r = door_gettimeofday(tv, tz);
    if (r < 0) {
        errno = -r;
        return -1;
    }
    return 0;
}

__attribute__((visibility("default"))) time_t time(time_t *t)
{
    return door_time(t);
}

/* ---- finding the vDSO's functions and who points at them ---- */

static void find_vdso(uintptr_t base)
{
    const Elf64_Ehdr *header = (void *)base;
    const Elf64_Phdr *ph = (void *)(base + header->e_phoff);
    const Elf64_Dyn *dyn = NULL;
    const Elf64_Sym *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *hash = NULL;
    uintptr_t bias = base;

    for (int i = 0; i < header->e_phnum; i++) {
        if (ph[i].p_type == PT_LOAD)
            bias = base + ph[i].p_offset - ph[i].p_vaddr;
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (void *)(base + ph[i].p_offset);
    }
    uint32_t count = 0;
    for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
        if (dyn->d_tag == DT_SYMTAB)
            symbols = (void *)(bias + dyn->d_un.d_ptr);
        else if (dyn->d_tag == DT_STRTAB)
            strings = (void *)(bias + dyn->d_un.d_ptr);
        else if (dyn->d_tag == DT_HASH)
            hash = (void *)(bias + dyn->d_un.d_ptr);
    }
    if (hash)
        count = hash[1];
    else if (symbols && strings && (uintptr_t)strings > (uintptr_t)symbols)
        count = (uint32_t)(((uintptr_t)strings - (uintptr_t)symbols) /
                           sizeof *symbols); /* newer vDSOs have DT_GNU_HASH only */
    for (uint32_t i = 0; symbols && strings && i < count; i++)
        for (int d = 0; d < DOORS; d++)
            if (symbols[i].st_shndx != SHN_UNDEF && strcmp(strings + symbols[i].st_name, names[d]) == 0)
                vdso[d] = bias + symbols[i].st_value;
}

static void sweep(uintptr_t from, uintptr_t to, int prot)
{
    uintptr_t page = from & ~4095ul;
    bool open = false;
    for (uintptr_t at = (from + 7) & ~7ul; at + 8 <= to; at += 8) {
        uintptr_t value = *(uintptr_t *)at;
        for (int d = 0; d < DOORS; d++) {
            if (!vdso[d] || value != vdso[d])
                continue;
            if (!open) {
                tf_sys(SYS_mprotect, page, to - page, PROT_READ | PROT_WRITE);
                open = true;
            }
            *(uintptr_t *)at = doors[d];
        }
    }
    if (open && prot != (PROT_READ | PROT_WRITE))
        tf_sys(SYS_mprotect, page, ((to + 4095) & ~4095ul) - page, prot);
}

static int sweep_object(struct dl_phdr_info *info, size_t size, void *ctx)
{
    const char *base = strrchr(info->dlpi_name, '/');
    (void)size;
    (void)ctx;
    if (!base || (strncmp(base, "/libc.so", 8) != 0 && strncmp(base, "/ld-linux", 9) != 0 &&
                  strncmp(base, "/libc-2", 7) != 0))
        return 0;
    uintptr_t relro_from = 0, relro_to = 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) {
            relro_from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            relro_to = (relro_from + info->dlpi_phdr[i].p_memsz) & ~4095ul;
        }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_W))
            continue;
        uintptr_t from = info->dlpi_addr + ph->p_vaddr, to = from + ph->p_memsz;
        if (relro_to > from && relro_from <= from) {
            sweep(from, relro_to, PROT_READ);
            from = relro_to;
        }
        sweep(from, to, PROT_READ | PROT_WRITE);
    }
    return 0;
}

int tf_clock_install(void)
{
    uintptr_t base = getauxval(AT_SYSINFO_EHDR);
    if (!base)
        return 0; /* no vDSO: everything is a system call and is trapped */
    find_vdso(base);
    if (!vdso[CLOCK_GETTIME])
        return -ENOSYS;
    dl_iterate_phdr(sweep_object, NULL);
    return 0;
}
