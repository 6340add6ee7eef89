/*
 * memory.c: see memory.h. smaps_rollup walks all pages of a process, about a millisecond for 100 MB; statm is
 * a line. So first the resident sizes are added up: they are an upper bound.
 */
#include <stdio.h>
#include <unistd.h>
#include "checkpoint/memory.h"

uint64_t tf_memory_cap(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t cap = 2ull << 30, quarter = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 4 : cap;
    return quarter < cap ? quarter : cap;
}

static uint64_t resident(pid_t pid)
{
    char path[64];
    unsigned long long total, pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &total, &pages) != 2)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t tf_memory_share(pid_t pid)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Pss: %llu kB", &kib) == 1)
            break;
    fclose(f);
    return kib * 1024;
}

bool tf_memory_exceeds(const pid_t *pids, size_t n, uint64_t cap)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += resident(pids[i]);
    if (sum <= cap)
        return false;
    sum = 0;
    for (size_t i = 0; i < n && sum <= cap; i++)
        sum += tf_memory_share(pids[i]);
    return sum > cap;
}
