/*
 * live.c: whether a run is being recorded, and what is forced to the disk and when.
 *
 * A recorder has a lock on one byte for each row of `runs` that it writes, far behind all that a file can
 * hold: the kernel takes it away however the recorder ends, and it is not in the file when that is copied. It
 * is a lock of the open file (fcntl(2): F_OFD_SETLK), for SQLite's belong to the process. Closing any
 * descriptor of the file takes those away: so ours stays open until SQLite has closed its own.
 *
 * What is promised about a power cut is in docs/format.md.
 */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOCKS_FROM (INT64_C(1) << 62)
/* A file that was made shorter ago may be lost with its only run. From then on, so often what was committed
 * is forced to the disk. */
#define SYNC_MS 10000

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void tf_db_open_fd(struct tf_store *store)
{
    if (store->fd < 0)
        store->fd = open(store->path, (store->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
}

void tf_db_hold(struct tf_store *store, int64_t rowid)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_FROM + rowid, .l_len = 1};
    if (store->fd >= 0) /* not all file systems have locks: then nobody can tell */
        fcntl(store->fd, F_OFD_SETLK, &lock);
}

int tf_store_hold(const char *path, const struct tf_run *run, int *fd, struct tf_err *err)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_FROM + run->rowid, .l_len = 1};
    *fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return tf_err_set(err, TF_E_IO, "opening %s: %s", path, strerror(errno));
    if (fcntl(*fd, F_OFD_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES))
        return 0; /* not all file systems have locks */
    close(*fd);
    *fd = -1;
    return 1;
}

static bool is_held(struct tf_store *store, int64_t rowid)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_FROM + rowid, .l_len = 1};
    tf_db_open_fd(store);
    return store->fd >= 0 && fcntl(store->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool tf_store_is_recorded(struct tf_store *store, const struct tf_run *run)
{
    return run->state == TF_RUN_INCOMPLETE && is_held(store, run->rowid);
}

/* ---- forced to the disk ---- */

void tf_db_sync_begin(struct tf_store *store)
{
    store->synced = !store->created;
    store->synced_ms = now_ms();
}

bool tf_db_alone(struct tf_store *store)
{
    static const char sql[] =
        "SELECT (SELECT min(id) FROM runs) IS (SELECT max(id) FROM runs)"; /* by the index */
    sqlite3_stmt *stmt;
    bool alone = false;
    if (tf_db_prepare(store, sql, &stmt, NULL))
        return false;
    if (tf_db_step(store, stmt, NULL) == 1)
        alone = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return alone;
}

/* The folder: names that were made or removed in it. */
static int sync_folder(struct tf_store *store)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(store->path, '/');
    size_t len = slash ? (size_t)(slash - store->path) + 1 : 1;
    if (len >= sizeof folder)
        return -1;
    memcpy(folder, slash ? store->path : ".", len);
    folder[len] = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

int tf_db_sync(struct tf_store *store, bool bulk, bool last, struct tf_err *err)
{
    int64_t now = now_ms();
    bool due = now - store->synced_ms >= SYNC_MS;
    if (!store->synced) {
        if (!(due && (!bulk || last)) && tf_db_alone(store))
            return 0;
        int rc = tf_db_exec(store, "PRAGMA synchronous=NORMAL", err);
        if (rc)
            return rc;
        /* What was written up to now. */
        if (store->fd >= 0 && fsync(store->fd) && errno != EINVAL && errno != EROFS)
            return tf_err_set(err, errno == ENOSPC || errno == EDQUOT ? TF_E_FULL : TF_E_IO, "writing %s: %s",
                              store->path, strerror(errno));
        sync_folder(store); /* if that is not possible, neither is what SQLite does */
        store->synced = due = true;
    }
    if (due || last) {
        store->synced_ms = now;
        store->full = true;
        return tf_db_exec(store, "PRAGMA synchronous=FULL", err);
    }
    if (!store->full)
        return 0;
    store->full = false;
    return tf_db_exec(store, "PRAGMA synchronous=NORMAL", err);
}

void tf_db_sync_end(struct tf_store *store)
{
    if (!store->synced)
        return;
    if (store->fd >= 0)
        fsync(store->fd); /* a reader may have kept SQLite from it */
    sync_folder(store);
}
