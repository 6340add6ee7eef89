/*
 * lease.c: files that the program has mapped shared and writable. Others could open them and change memory
 * behind its back. As long as nobody else has such a file open, the kernel grants a write lease on it
 * (fcntl(2), F_SETLEASE); then who wants to open it waits, and the holder is told, by TF_NUDGE. That is the
 * end of what can be replayed: recording notes a barrier, and gives the lease back, so that the other goes
 * on. Where no lease is granted the map is a barrier itself.
 *
 * A lease lives as long as a descriptor of the open file does. The program may close its own, so one more is
 * kept, out of the way. It is closed when the last map is gone; not while the program holds locks on the
 * file, which would be lost with it (POSIX locks go with any descriptor).
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "iohooks/process.h"

#define LEASES_MAX 64
#define FIRST_FD 900
#define SET_SIGNAL 10 /* F_SETSIG; libc's headers hide it from some feature sets */

static struct lease {
    int fd; /* ours; 0: free */
    uint64_t device, inode;
} leases[LEASES_MAX];
static int held;

static struct lease *of_file(const struct stat *st)
{
    for (int i = 0; held && i < LEASES_MAX; i++)
        if (leases[i].fd && leases[i].device == st->st_dev && leases[i].inode == st->st_ino)
            return &leases[i];
    return NULL;
}

bool tf_lease_take(int fd, const struct stat *st)
{
    struct lease *lease = NULL;
    if (of_file(st))
        return true;
    for (int i = 0; i < LEASES_MAX && !lease; i++)
        if (!leases[i].fd)
            lease = &leases[i];
    /* A lease of the program's own stays its own. */
    if (!lease || tf_sys(SYS_fcntl, fd, F_GETLEASE) != F_UNLCK ||
        TF_IS_ERR(tf_sys(SYS_fcntl, fd, SET_SIGNAL, TF_NUDGE)))
        return false;
    long kept = -1;
    if (!TF_IS_ERR(tf_sys(SYS_fcntl, fd, F_SETLEASE, F_WRLCK))) {
        kept = tf_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FIRST_FD);
        if (TF_IS_ERR(kept))
            tf_sys(SYS_fcntl, fd, F_SETLEASE, F_UNLCK);
    }
    if (kept < 0) {
        tf_sys(SYS_fcntl, fd, SET_SIGNAL, 0);
        return false;
    }
    *lease = (struct lease){(int)kept, st->st_dev, st->st_ino};
    held++;
    return true;
}

static void give_back(struct lease *lease, bool close_it)
{
    struct flock lock = {.l_type = F_WRLCK};
    tf_sys(SYS_fcntl, lease->fd, F_SETLEASE, F_UNLCK);
    tf_sys(SYS_fcntl, lease->fd, SET_SIGNAL, 0);
    /* Locks of the open file do not see those of the process as their own. */
    if (close_it && !TF_IS_ERR(tf_sys(SYS_fcntl, lease->fd, F_OFD_GETLK, &lock)) && lock.l_type == F_UNLCK)
        tf_sys(SYS_close, lease->fd);
    lease->fd = 0;
    held--;
}

void tf_lease_drop(uint64_t device, uint64_t inode)
{
    struct stat st = {.st_dev = device, .st_ino = inode};
    struct lease *lease = of_file(&st);
    if (lease)
        give_back(lease, true);
}

void tf_lease_drop_all(void)
{
    for (int i = 0; held && i < LEASES_MAX; i++)
        if (leases[i].fd)
            give_back(&leases[i], false);
}

bool tf_lease_broken(void)
{
    for (int i = 0; held && i < LEASES_MAX; i++)
        if (leases[i].fd && tf_sys(SYS_fcntl, leases[i].fd, F_GETLEASE) != F_WRLCK)
            return true;
    return false;
}

bool tf_lease_is(long first, long last)
{
    for (int i = 0; held && i < LEASES_MAX; i++)
        if (leases[i].fd >= first && leases[i].fd <= last && leases[i].fd)
            return true;
    return false;
}

static bool leased(int folder, const char *path)
{
    struct stat st;
    return tf_readable(path) && !TF_IS_ERR(tf_sys(SYS_newfstatat, folder, path, &st, 0)) && of_file(&st);
}

/* The program would wait for itself. */
bool tf_lease_opened(const struct tf_call *call)
{
    if (!held)
        return false;
    switch (call->nr) {
    case SYS_open:
    case SYS_creat:
    case SYS_truncate:
        return leased(AT_FDCWD, (const char *)call->a[0]);
    case SYS_openat:
    case SYS_openat2:
        return leased((int)call->a[0], (const char *)call->a[1]);
    default:
        return false;
    }
}
