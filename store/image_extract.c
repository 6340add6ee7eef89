/*
 * image_extract.c: an image of the recording becomes a folder of files again.
 *
 * For each group that a file of pages refers to there is a job: unpack it, compare the pages that are wanted
 * with their digests, write them to where they belong. Two threads take the jobs while the database is still
 * being read: unpacking takes most of the time. Pages of zeros are holes.
 *
 * Meanwhile criu can start, which takes a third of the time that it needs. It wants the pages last, and must
 * not have them before they are there: we hold a lease on the file (fcntl(2)), so the kernel lets an open()
 * wait until we give it back. The kernel loses its patience after a time (fs.lease-break-time, 45 s), so
 * large files are finished first; so are all where there are no leases.
 */
#include "store/images_local.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zstd.h>

/* 512 MiB are unpacked in a second or so; what takes LEASE_S nevertheless is not used. */
#define LEASE_PAGES (1u << 17)
#define LEASE_S 15

static const uint8_t zeros[TF_DIGEST];

struct wanted {
    uint32_t index; /* in the group */
    uint64_t page;  /* in the file */
};
struct job {
    int64_t number;
    uint8_t *data, *digests;
    size_t len;
    uint32_t n;
    struct wanted *wanted; /* in the order of the file */
    size_t n_wanted;
};
/* One file of pages. */
struct work {
    struct job *jobs;
    size_t n;
    atomic_size_t next;
    atomic_bool stop;
    atomic_int running; /* threads; the last one closes the file */
    pthread_t threads[2];
    int n_threads;
    int fd;
    int failed; /* eventfd of all files */
    bool leased;
    struct timespec began;
    const char *store;    /* for messages */
    char *path;           /* of the file */
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t more;
    size_t ready; /* jobs that have been read */
    int rc;
    struct tf_err err;
};
struct tf_extract {
    struct work **files;
    size_t n;
    int failed; /* eventfd: readable when one cannot be completed */
};

static void stop(struct work *work)
{
    atomic_store(&work->stop, true);
    pthread_cond_broadcast(&work->more);
}

static void stop_with(struct work *work, int rc, const struct tf_err *err)
{
    pthread_mutex_lock(&work->lock);
    if (!work->rc) {
        work->rc = rc;
        work->err = *err;
    }
    stop(work);
    pthread_mutex_unlock(&work->lock);
}

static void fail(struct work *work, int code, const char *what, int64_t number)
{
    pthread_mutex_lock(&work->lock);
    if (!work->rc) {
        work->rc = code;
        if (code == TF_E_FORMAT)
            tf_err_set(&work->err, code, "%s is damaged: pages of a checkpoint (group %lld): %s", work->store,
                       (long long)number, what);
        else
            tf_err_set(&work->err, code, "writing %s: %s", work->path, what);
    }
    stop(work);
    pthread_mutex_unlock(&work->lock);
}

static void one_more_is_ready(struct work *work)
{
    pthread_mutex_lock(&work->lock);
    work->ready++;
    pthread_cond_signal(&work->more);
    pthread_mutex_unlock(&work->lock);
}

/* The next one, when it has been read; NULL: there is none any more. */
static struct job *take_job(struct work *work)
{
    size_t i = atomic_fetch_add(&work->next, 1);
    if (i >= work->n)
        return NULL;
    pthread_mutex_lock(&work->lock);
    while (i >= work->ready && !atomic_load(&work->stop))
        pthread_cond_wait(&work->more, &work->lock);
    pthread_mutex_unlock(&work->lock);
    return atomic_load(&work->stop) ? NULL : &work->jobs[i];
}

static bool write_all(int fd, const uint8_t *from, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, from, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        from += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

/* The place in the unpacked data of each page of a group; UINT32_MAX: it was dropped. Returns how many there
 * are. */
static uint32_t places(const struct job *job, uint32_t *place)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < job->n; i++)
        place[i] = memcmp(job->digests + (size_t)i * TF_DIGEST, zeros, TF_DIGEST) ? live++ : UINT32_MAX;
    return live;
}

static bool is_right(const struct job *job, uint32_t index, const uint8_t *page)
{
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(page, TF_PAGE));
    return memcmp(&digest, job->digests + (size_t)index * TF_DIGEST, TF_DIGEST) == 0;
}

static void do_job(struct work *work, const struct job *job, ZSTD_DCtx *zstd, uint8_t *pages, uint32_t *place)
{
    uint32_t live = places(job, place);
    size_t len = ZSTD_decompressDCtx(zstd, pages, (size_t)TF_GROUP_PAGES_MAX * TF_PAGE, job->data, job->len);
    if (ZSTD_isError(len) || len != (size_t)live * TF_PAGE) {
        fail(work, TF_E_FORMAT, "they cannot be unpacked", job->number);
        return;
    }
    for (size_t i = 0; i < job->n_wanted;) {
        size_t run = 0;
        const struct wanted *first = &job->wanted[i];
        /* As many as lie behind each other here and there. */
        do {
            const struct wanted *w = &job->wanted[i + run];
            if (w->index >= job->n || place[w->index] == UINT32_MAX) {
                fail(work, TF_E_FORMAT, "one is missing", job->number);
                return;
            }
            if (!is_right(job, w->index, pages + (size_t)place[w->index] * TF_PAGE)) {
                fail(work, TF_E_FORMAT, "one is not what its digest says", job->number);
                return;
            }
            run++;
        } while (i + run < job->n_wanted && job->wanted[i + run].page == first->page + run &&
                 job->wanted[i + run].index < job->n &&
                 place[job->wanted[i + run].index] == place[first->index] + run);
        if (!write_all(work->fd, pages + (size_t)place[first->index] * TF_PAGE, run * TF_PAGE,
                       first->page * TF_PAGE)) {
            fail(work, errno == ENOSPC ? TF_E_FULL : TF_E_IO, strerror(errno), job->number);
            return;
        }
        i += run;
    }
}

static void give_back(struct work *work)
{
    if (work->leased)
        fcntl(work->fd, F_SETLEASE, F_UNLCK);
    close(work->fd);
    work->fd = -1;
}

/* The last thread has ended. criu reads a file that is too short for ever, so who waits for one that will not
 * be complete goes on waiting, until tf_image_extract_finish(). */
static void end_file(struct work *work)
{
    struct timespec now;
    uint64_t one = 1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (work->leased && now.tv_sec - work->began.tv_sec > LEASE_S)
        fail(work, TF_E_TIMEOUT, "it took too long", 0);
    if (!work->rc)
        give_back(work);
    else if (write(work->failed, &one, sizeof one) < 0)
        give_back(work);
}

static void *worker(void *arg)
{
    struct work *work = arg;
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    uint8_t *pages = malloc((size_t)TF_GROUP_PAGES_MAX * TF_PAGE);
    uint32_t *place = malloc(TF_GROUP_PAGES_MAX * sizeof *place);
    if (!zstd || !pages || !place)
        fail(work, TF_E_IO, "out of memory", 0);
    for (struct job *job; (job = take_job(work));) {
        do_job(work, job, zstd, pages, place);
        free(job->data); /* for one that is read later */
        job->data = NULL;
    }
    ZSTD_freeDCtx(zstd);
    free(pages);
    free(place);
    if (atomic_fetch_sub(&work->running, 1) == 1)
        end_file(work);
    return NULL;
}

static void free_jobs(struct job *jobs, size_t n)
{
    for (size_t i = 0; jobs && i < n; i++) {
        free(jobs[i].data);
        free(jobs[i].digests);
        free(jobs[i].wanted);
    }
    free(jobs);
}

static int read_group(struct tf_store *store, sqlite3_stmt *stmt, struct job *job, struct tf_err *err)
{
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, job->number);
    int rc = tf_db_step(store, stmt, err);
    if (rc < 0)
        return rc;
    uint64_t n = rc ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    if (!rc || n > TF_GROUP_PAGES_MAX || (uint64_t)sqlite3_column_bytes(stmt, 1) != n * TF_DIGEST)
        return tf_db_damaged(store, err, "pages of a checkpoint are missing (group %lld)",
                             (long long)job->number);
    job->n = (uint32_t)n;
    job->len = (size_t)sqlite3_column_bytes(stmt, 2);
    job->digests = malloc(n * TF_DIGEST + 1);
    job->data = malloc(job->len + 1);
    if (!job->digests || !job->data)
        return tf_db_memory(err);
    if (n)
        memcpy(job->digests, sqlite3_column_blob(stmt, 1), n * TF_DIGEST);
    if (job->len)
        memcpy(job->data, sqlite3_column_blob(stmt, 2), job->len);
    return 0;
}

/* What is wanted of each group. */
static int make_jobs(const struct tf_refs *refs, struct job **out, struct tf_err *err)
{
    struct job *jobs = calloc(refs->n_groups + 1, sizeof *jobs);
    *out = jobs;
    if (!jobs)
        return tf_db_memory(err);
    for (size_t i = 0; i < refs->n_runs; i++)
        if (refs->runs[i].group != TF_REF_ZERO)
            jobs[refs->runs[i].group].n_wanted += refs->runs[i].count;
    for (size_t i = 0; i < refs->n_groups; i++) {
        jobs[i].number = refs->groups[i];
        jobs[i].wanted = malloc(jobs[i].n_wanted * sizeof *jobs[i].wanted + 1);
        if (!jobs[i].wanted)
            return tf_db_memory(err);
        jobs[i].n_wanted = 0;
    }
    uint64_t page = 0;
    for (size_t i = 0; i < refs->n_runs; i++) {
        const struct tf_ref_run *run = &refs->runs[i];
        for (uint32_t k = 0; run->group != TF_REF_ZERO && k < run->count; k++) {
            struct job *job = &jobs[run->group];
            job->wanted[job->n_wanted++] = (struct wanted){run->index + k, page + k};
        }
        page += run->count;
    }
    return 0;
}

/* What the threads wait for. */
static void read_groups(struct tf_store *store, struct work *work)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_err err;
    int rc = tf_db_prepare(store, "SELECT n, digests, data FROM page_groups WHERE number = ?", &stmt, &err);
    for (size_t i = 0; i < work->n && !rc && !atomic_load(&work->stop); i++)
        if (!(rc = read_group(store, stmt, &work->jobs[i], &err)))
            one_more_is_ready(work);
    sqlite3_finalize(stmt);
    if (rc)
        stop_with(work, rc, &err);
}

static long lease_break_time(void)
{
    long seconds = 0;
    FILE *f = fopen("/proc/sys/fs/lease-break-time", "re");
    if (f && fscanf(f, "%ld", &seconds) != 1)
        seconds = 0;
    if (f)
        fclose(f);
    return seconds;
}

/* Nobody opens the file before we allow it. The signal that says somebody wants to is one that is ignored. */
static bool lease(int fd, uint64_t pages)
{
    return pages <= LEASE_PAGES && lease_break_time() >= 2 * LEASE_S && fcntl(fd, F_SETSIG, SIGURG) == 0 &&
           fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
}

static void join(struct work *work)
{
    for (int i = 0; i < work->n_threads; i++)
        pthread_join(work->threads[i], NULL);
    work->n_threads = 0;
}

static void free_work(struct work *work)
{
    join(work);
    if (work->fd >= 0) {
        if (ftruncate(work->fd, 0) < 0)
            unlink(work->path);
        give_back(work);
    }
    free_jobs(work->jobs, work->n);
    pthread_cond_destroy(&work->more);
    pthread_mutex_destroy(&work->lock);
    free(work->path);
    free(work);
}

/* Takes fd. */
static int start_pages(struct tf_store *store, const struct tf_refs *refs, int fd, const char *path,
                       bool meanwhile, struct tf_extract *extract, struct tf_err *err)
{
    struct work *work = calloc(1, sizeof *work), **more;
    if (!work || !(work->path = strdup(path)) ||
        !(more = realloc(extract->files, (extract->n + 1) * sizeof *more))) {
        if (work)
            free(work->path);
        free(work);
        close(fd);
        return tf_db_memory(err);
    }
    extract->files = more;
    extract->files[extract->n++] = work;
    work->n = refs->n_groups;
    work->fd = fd;
    work->failed = extract->failed;
    work->store = store->path;
    pthread_mutex_init(&work->lock, NULL);
    pthread_cond_init(&work->more, NULL);
    clock_gettime(CLOCK_MONOTONIC, &work->began);
    work->leased = meanwhile && lease(fd, refs->pages);
    int rc = ftruncate(fd, (off_t)(refs->pages * TF_PAGE)) < 0
                 ? tf_err_set(err, TF_E_IO, "writing %s: %s", path, strerror(errno))
                 : make_jobs(refs, &work->jobs, err);
    if (rc) {
        work->rc = rc;
        if (err)
            work->err = *err;
        end_file(work);
        return rc;
    }
    int want = work->n > 8 ? 2 : 1, missing = 0;
    atomic_store(&work->running, want);
    for (int i = 0; i < want; i++)
        if (pthread_create(&work->threads[work->n_threads], NULL, worker, work) == 0)
            work->n_threads++;
        else
            missing++;
    read_groups(store, work);
    while (missing--)
        worker(work);
    if (!work->leased)
        join(work);
    return 0;
}

static int extract_content(struct tf_store *store, sqlite3_stmt *stmt, int fd, const char *path,
                           struct tf_err *err)
{
    uint64_t len = (uint64_t)sqlite3_column_int64(stmt, 2);
    uint8_t *data = tf_image_unpack(sqlite3_column_blob(stmt, 4), (size_t)sqlite3_column_bytes(stmt, 4), len);
    int rc = 0;
    if (!data || XXH3_64bits(data, len) != (uint64_t)sqlite3_column_int64(stmt, 3))
        rc = tf_db_damaged(store, err, "the file %s of a checkpoint is not what its digest says",
                           strrchr(path, '/') + 1);
    else if (!write_all(fd, data, len, 0))
        rc = tf_err_set(err, errno == ENOSPC ? TF_E_FULL : TF_E_IO, "writing %s: %s", path, strerror(errno));
    free(data);
    return rc;
}

/* Columns: name, kind, len, digest, data. */
static int extract_file(struct tf_store *store, sqlite3_stmt *stmt, const char *folder, bool meanwhile,
                        struct tf_extract *extract, struct tf_err *err)
{
    const char *name = (const char *)sqlite3_column_text(stmt, 0);
    struct tf_refs refs = {0};
    char path[4096];
    int rc = 0;
    if (!name || !*name || strchr(name, '/') || *name == '.')
        return tf_db_damaged(store, err, "a file of a checkpoint has no name");
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return tf_err_set(err, TF_E_IO, "writing %s/%s: the path is too long", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return tf_err_set(err, errno == ENOSPC ? TF_E_FULL : TF_E_IO, "writing %s: %s", path,
                          strerror(errno));
    switch (sqlite3_column_int(stmt, 1)) {
    case TF_IMAGE_CONTENT:
        rc = extract_content(store, stmt, fd, path, err);
        break;
    case TF_IMAGE_PAGES:
        rc = tf_image_read_refs(store, stmt, 2, 3, 4, &refs, err);
        if (!rc) {
            rc = start_pages(store, &refs, fd, path, meanwhile, extract, err);
            fd = -1;
        }
        tf_refs_clear(&refs);
        break;
    default:
        rc = tf_db_damaged(store, err, "a file of a checkpoint is of an unknown kind");
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static int start(struct tf_store *store, int64_t rowid, const char *folder, bool meanwhile,
                 struct tf_extract **out, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_extract *extract = calloc(1, sizeof *extract);
    int rc = 0, n = 0;
    *out = NULL;
    if (!extract)
        return tf_db_memory(err);
    if ((extract->failed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        free(extract);
        return tf_err_set(err, TF_E_IO, "unpacking a checkpoint: %s", strerror(errno));
    }
    if (tf_db_has_table(store, "images"))
        rc = tf_db_prepare(
            store, "SELECT name, kind, len, digest, data FROM image_files WHERE image = ? ORDER BY kind",
            &stmt, err);
    if (stmt)
        sqlite3_bind_int64(stmt, 1, rowid);
    while (stmt && !rc && (rc = tf_db_step(store, stmt, err)) == 1) {
        n++;
        rc = extract_file(store, stmt, folder, meanwhile, extract, err);
    }
    sqlite3_finalize(stmt);
    if (!rc && !n)
        rc =
            tf_err_set(err, TF_E_NOTFOUND, "%s has no checkpoint number %lld", store->path, (long long)rowid);
    if (rc) {
        tf_image_extract_finish(extract, NULL);
        return rc;
    }
    *out = extract;
    return 0;
}

int tf_image_extract_start(struct tf_store *store, int64_t rowid, const char *folder, struct tf_extract **out,
                           struct tf_err *err)
{
    return start(store, rowid, folder, true, out, err);
}

int tf_image_extract_finish(struct tf_extract *extract, struct tf_err *err)
{
    int rc = 0;
    for (size_t i = 0; extract && i < extract->n; i++) {
        struct work *work = extract->files[i];
        join(work);
        if (work->rc && !rc) {
            rc = work->rc;
            if (err)
                *err = work->err;
        }
        free_work(work);
    }
    if (extract) {
        close(extract->failed);
        free(extract->files);
    }
    free(extract);
    return rc;
}

int tf_image_extract_failed(const struct tf_extract *extract)
{
    return extract->failed;
}

int tf_image_extract(struct tf_store *store, int64_t rowid, const char *folder, struct tf_err *err)
{
    struct tf_extract *extract;
    int rc = start(store, rowid, folder, false, &extract, err);
    return rc ? rc : tf_image_extract_finish(extract, err);
}
