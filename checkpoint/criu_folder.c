/*
 * criu_folder.c: the folders in which images are while CRIU handles them.
 *
 * They are as large as a process, so none may be left behind. A supervisor that is killed cannot remove its
 * own; the name says whose it is: timefork-criu-NAMESPACE-PID-START-RANDOM, with the inode of the pid
 * namespace and the time at which the process started, in ticks since boot, as pids are used again. Whoever
 * makes the next one removes those of processes that are gone. Of other namespaces nothing is known.
 */
#include "checkpoint/criu.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PREFIX "timefork-criu-"

static uint64_t memory_available(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

static bool has_room(const char *folder, uint64_t bytes)
{
    struct statvfs fs;
    return statvfs(folder, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize > bytes;
}

static void empty(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            unlinkat(fd, entry->d_name, 0);
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    unlinkat(parent, name, AT_REMOVEDIR);
}

void tf_criu_folder_remove(char *folder)
{
    if (folder)
        empty(AT_FDCWD, folder);
    free(folder);
}

static unsigned long pid_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? (unsigned long)st.st_ino : 0;
}

/* 0: there is no such process. */
static unsigned long long started_at(long pid)
{
    char path[64], line[1024];
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "re");
    if (f && fgets(line, sizeof line, f)) {
        /* The name in parentheses may hold anything; behind it, the start is the 20th. */
        char *at = strrchr(line, ')');
        for (int i = 0; at && i < 20; i++)
            at = strchr(at + 1, ' ');
        start = at ? strtoull(at, NULL, 10) : 0;
    }
    if (f)
        fclose(f);
    return start;
}

/* Those of ours whose process is gone. */
static void sweep(const char *place)
{
    DIR *dir = opendir(place);
    struct dirent *entry;
    struct stat st;
    unsigned long here = pid_namespace(), space;
    unsigned long long start;
    long pid;
    while (dir && here && (entry = readdir(dir))) {
        if (sscanf(entry->d_name, PREFIX "%lu-%ld-%llu-", &space, &pid, &start) != 3 || space != here)
            continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
            st.st_uid == geteuid() && started_at(pid) != start)
            empty(dirfd(dir), entry->d_name);
    }
    if (dir)
        closedir(dir);
}

int tf_criu_folder(uint64_t bytes, char **out, struct tf_err *err)
{
    const char *places[3];
    int n = 0, error = ENOSPC;
    uint64_t room = 2 * bytes + (16ul << 20);
    const char *tmp = getenv("TMPDIR");
    *out = NULL;
    if (memory_available() > room)
        places[n++] = "/dev/shm";
    if (tmp && *tmp == '/')
        places[n++] = tmp;
    places[n++] = "/tmp";
    for (int i = 0; i < n; i++) {
        char *name = NULL;
        sweep(places[i]);
        if (!has_room(places[i], room))
            continue;
        if (asprintf(&name, "%s/" PREFIX "%lu-%ld-%llu-XXXXXX", places[i], pid_namespace(), (long)getpid(),
                     started_at(getpid())) < 0)
            return tf_err_set(err, TF_E_IO, "out of memory");
        if (mkdtemp(name)) {
            *out = name;
            return 0;
        }
        error = errno;
        free(name);
    }
    return tf_err_set(
        err, error == ENOSPC ? TF_E_FULL : TF_E_IO,
        "no folder for the images of a process of %llu MB: neither /dev/shm nor %s can take them: "
        "%s. TMPDIR names another one",
        (unsigned long long)(bytes >> 20), tmp && *tmp == '/' ? tmp : "/tmp", strerror(error));
}
