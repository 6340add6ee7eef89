/*
 * memory.c: see memory.h. smaps_rollup walks all pages of a process; statm and stat are a line each.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint/memory.h"

uint64_t tf_memory_cap(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t cap = 2ull << 30, quarter = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 4 : cap;
    return quarter < cap ? quarter : cap;
}

static FILE *open_of(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return pid > 0 ? fopen(path, "re") : NULL;
}

bool tf_memory_measure(pid_t pid, struct tf_memory_use *use)
{
    char line[256];
    unsigned long long kib;
    FILE *f = open_of(pid, "smaps_rollup");
    *use = (struct tf_memory_use){0};
    if (!f)
        return false;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Pss: %llu kB", &kib) == 1)
            use->shared = kib * 1024;
        else if (sscanf(line, "Private_Clean: %llu kB", &kib) == 1 ||
                 sscanf(line, "Private_Dirty: %llu kB", &kib) == 1)
            use->private += kib * 1024;
    fclose(f);
    return use->shared > 0;
}

uint64_t tf_memory_resident(pid_t pid)
{
    unsigned long long pages = 0;
    FILE *f = open_of(pid, "statm");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t tf_memory_faults(pid_t pid)
{
    char line[1024];
    unsigned long long faults = 0;
    FILE *f = open_of(pid, "stat");
    if (!f)
        return 0;
    const char *at = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL; /* behind the name */
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %llu", &faults) != 1)
        faults = 0;
    fclose(f);
    return faults;
}

uint64_t tf_memory_cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec ts;
    if (pid <= 0 || clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts))
        return 0;
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- the price of a page ---- */

enum { PAGES = 128, BATCHES = 4, LEAST_NS = 100, USUAL_NS = 700, MOST_NS = 20000 };

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* In the fork: writes to all pages, and says what the quickest batch took. */
static void write_to_all(volatile uint8_t *pages, size_t page, volatile uint64_t *best)
{
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t began = cpu_ns();
        for (int i = 0; i < PAGES; i++)
            pages[(size_t)(batch * PAGES + i) * page] = 2;
        uint64_t took = (cpu_ns() - began) / PAGES;
        if (!*best || took < *best)
            *best = took;
    }
}

uint64_t tf_memory_fault_ns(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = page * PAGES * BATCHES;
    uint64_t ns = 0;
    uint8_t *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *best = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED && best != MAP_FAILED) {
        madvise(pages, size, MADV_NOHUGEPAGE); /* else there would be one fault for all */
        memset(pages, 1, size);
        pid_t pid = fork();
        if (pid == 0) {
            write_to_all(pages, page, best);
            _exit(0);
        }
        if (pid > 0)
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        ns = *best;
    }
    if (pages != MAP_FAILED)
        munmap(pages, size);
    if (best != MAP_FAILED)
        munmap(best, page);
    if (!ns)
        return USUAL_NS;
    return ns < LEAST_NS ? LEAST_NS : ns > MOST_NS ? MOST_NS : ns;
}
