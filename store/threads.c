/*
 * threads.c: what is known of threads: from the ring (TF_REC_THREAD) to the table `threads`, and back.
 *
 * A row is written when something becomes known, whole, in the place of the one before. The rows of a forked
 * process begin with one for each thread that ran at the fork, and say of all but the one that forked that
 * they ended there. So a thread's row in a process is its own, or that of the nearest ancestor that has one,
 * provided that it had ended before the fork: whatever came later is the parent's alone.
 */
#include "store/block.h"
#include "store/ingest.h"

#include <stdlib.h>
#include <string.h>

/* ---- while recording ---- */

/* Where a thread stands, or would stand, among those that run. */
static size_t place_of(const struct live_threads *t, uint32_t number)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->v[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Takes over the name. */
static struct tf_known_thread *insert(struct live_threads *t, const struct tf_known_thread *thread)
{
    size_t at = place_of(t, thread->number);
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct tf_known_thread *v = realloc(t->v, cap * sizeof *v);
        if (!v)
            return NULL;
        t->v = v;
        t->cap = cap;
    }
    memmove(&t->v[at + 1], &t->v[at], (t->n - at) * sizeof *t->v);
    t->v[at] = *thread;
    t->n++;
    return &t->v[at];
}

static struct tf_known_thread *add_thread(struct live_threads *t, struct tf_known_thread thread,
                                          const char *name, struct tf_err *err)
{
    thread.name = strdup(name);
    struct tf_known_thread *added = thread.name ? insert(t, &thread) : NULL;
    if (!added) {
        free(thread.name);
        tf_db_memory(err);
    }
    return added;
}

/* One that runs. Main is there from the start, though nothing says so. NULL: *err is filled in. */
static struct tf_known_thread *running(struct tf_ingest *in, uint32_t number, struct tf_err *err)
{
    struct live_threads *t = &in->threads;
    size_t at = place_of(t, number);
    if (at < t->n && t->v[at].number == number)
        return &t->v[at];
    if (number == 0 && !t->main_known) {
        t->main_known = true;
        return add_thread(t, (struct tf_known_thread){.tid = t->main_tid}, "MainThread", err);
    }
    ingest_senseless("news of a thread that does not run", err);
    return NULL;
}

static int end_thread(struct tf_ingest *in, struct tf_known_thread *thread, uint64_t frame, uint64_t seq,
                      struct tf_err *err)
{
    struct live_threads *t = &in->threads;
    thread->ended = true;
    thread->end = frame;
    thread->end_seq = seq;
    int rc = tf_writer_thread(&in->w, thread, err);
    free(thread->name);
    memmove(thread, thread + 1, (size_t)(&t->v[t->n] - thread - 1) * sizeof *thread);
    t->n--;
    return rc;
}

int ingest_thread(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_thread rec;
    if (len < sizeof rec)
        return ingest_senseless("short news of a thread", err);
    memcpy(&rec, p, sizeof rec);
    const char *name = (const char *)p + sizeof rec;
    len -= sizeof rec;
    if (rec.name_len && (rec.name_len >= len || memchr(name, 0, len) != name + rec.name_len))
        return ingest_senseless("thread's name", err);
    if (!rec.name_len)
        name = "";
    uint64_t frame = in->block.first_frame - 1 + in->block.n;
    struct tf_known_thread *thread;
    switch (rec.what) {
    case TF_THREAD_BORN:
        if (rec.thread <= in->threads.last || rec.thread > TF_LOW(UINT32_MAX) || rec.parent >= rec.thread)
            return ingest_senseless("thread's number", err);
        thread = add_thread(&in->threads,
                            (struct tf_known_thread){
                                .number = rec.thread, .parent = rec.parent, .tid = rec.tid, .born = frame},
                            name, err);
        if (!thread)
            return err->code;
        in->threads.last = rec.thread;
        return tf_writer_thread(&in->w, thread, err);
    case TF_THREAD_NAMED: {
        thread = running(in, rec.thread, err);
        char *copy = thread ? strdup(name) : NULL;
        if (!copy)
            return thread ? tf_db_memory(err) : err->code;
        free(thread->name);
        thread->name = copy;
        return tf_writer_thread(&in->w, thread, err);
    }
    case TF_THREAD_ENDED:
        thread = running(in, rec.thread, err);
        return thread ? end_thread(in, thread, frame, in->out_block.first_seq - 1 + in->out_block.events, err)
                      : err->code;
    default:
        return ingest_senseless("news of a thread", err);
    }
}

int ingest_threads_forked(struct tf_ingest *in, int32_t pid, struct tf_err *err)
{
    struct live_threads *t = &in->threads;
    int rc = 0;
    /* Main has a row if it is one of those that were left behind. */
    if (in->thread != 0 && !t->main_known && !running(in, 0, err))
        return err->code;
    for (size_t i = t->n; !rc && i-- > 0;) {
        if (t->v[i].number != in->thread) {
            rc = end_thread(in, &t->v[i], in->fork.frame, in->fork.seq, err);
            continue;
        }
        t->v[i].tid = pid; /* it is the child's only thread */
        rc = tf_writer_thread(&in->w, &t->v[i], err);
    }
    if (in->thread == 0)
        t->main_tid = pid;
    return rc;
}

int ingest_threads_copy(struct live_threads *dst, const struct live_threads *src, struct tf_err *err)
{
    for (size_t i = 0; i < src->n; i++)
        if (!add_thread(dst, src->v[i], src->v[i].name, err))
            return err->code;
    dst->last = src->last;
    dst->main_tid = src->main_tid;
    dst->main_known = src->main_known;
    return 0;
}

void ingest_threads_free(struct live_threads *threads)
{
    for (size_t i = 0; i < threads->n; i++)
        free(threads->v[i].name);
    free(threads->v);
    *threads = (struct live_threads){0};
}

/* ---- reading ---- */

void tf_threads_free(struct tf_thread_row *threads, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(threads[i].name);
    free(threads);
}

static int by_number(const void *a, const void *b)
{
    const struct tf_thread_row *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

struct rows {
    struct tf_thread_row *v;
    size_t n, cap;
};

/* Adds a row, whose name it takes over. */
static int add_row(struct rows *rows, struct tf_thread_row row, struct tf_err *err)
{
    if (rows->n == rows->cap) {
        size_t cap = rows->cap ? rows->cap * 2 : 16;
        struct tf_thread_row *v = realloc(rows->v, cap * sizeof *v);
        if (!v) {
            free(row.name);
            return tf_db_memory(err);
        }
        rows->v = v;
        rows->cap = cap;
    }
    rows->v[rows->n++] = row;
    return row.name ? 0 : tf_db_memory(err);
}

/* Adds the threads that one process of a lineage knows, unless a younger one does: `known` rows are there. */
static int add_rows(struct tf_store *store, sqlite3_stmt *stmt, const struct tf_ancestor *a, size_t known,
                    struct rows *rows, struct tf_err *err)
{
    int rc;
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, a->run);
    sqlite3_bind_int64(stmt, 2, a->end_seq == UINT64_MAX ? -1 : (int64_t)a->end_seq);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        int64_t number = sqlite3_column_int64(stmt, 0), parent = sqlite3_column_int64(stmt, 1);
        int64_t born = sqlite3_column_int64(stmt, 4), end = sqlite3_column_int64(stmt, 5);
        if (number < 0 || number > TF_LOW(UINT32_MAX) || parent < 0 || (parent >= number && number) ||
            born < 0 || end < 0)
            return tf_db_damaged(store, err, "what is known of thread %lld makes no sense",
                                 (long long)number);
        struct tf_thread_row key = {.number = (uint32_t)number};
        if (known && bsearch(&key, rows->v, known, sizeof *rows->v, by_number))
            continue;
        rc = add_row(rows,
                     (struct tf_thread_row){.number = (uint32_t)number,
                                            .parent = (uint32_t)parent,
                                            .tid = (int32_t)sqlite3_column_int64(stmt, 2),
                                            .name = tf_db_text(stmt, 3),
                                            .born = (uint64_t)born,
                                            .ended = sqlite3_column_type(stmt, 5) != SQLITE_NULL,
                                            .end = (uint64_t)end},
                     err);
        if (rc)
            return rc;
    }
    return rc;
}

int tf_store_threads(struct tf_store *store, const struct tf_run *run, struct tf_thread_row **out, size_t *n,
                     struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage = {0};
    struct rows rows = {0};
    int rc = 0;
    *out = NULL;
    *n = 0;
    if (tf_db_has_table(store, "threads")) {
        rc = tf_lineage_load(store, run, &lineage, err);
        if (!rc)
            rc = tf_db_prepare(store,
                               "SELECT number, parent, tid, name, born, ended FROM threads"
                               " WHERE run = ?1 AND (?2 < 0 OR ended_seq <= ?2) ORDER BY number",
                               &stmt, err);
        /* The youngest first: it says most. */
        for (size_t i = lineage.n; !rc && i-- > 0;) {
            rc = add_rows(store, stmt, &lineage.v[i], rows.n, &rows, err);
            if (rows.n)
                qsort(rows.v, rows.n, sizeof *rows.v, by_number);
        }
        sqlite3_finalize(stmt);
        tf_lineage_free(&lineage);
    }
    if (!rc && (!rows.n || rows.v[0].number != 0)) {
        rc = add_row(&rows, (struct tf_thread_row){.tid = (int32_t)run->pid, .name = strdup("MainThread")},
                     err);
        if (!rc)
            qsort(rows.v, rows.n, sizeof *rows.v, by_number);
    }
    if (rc) {
        tf_threads_free(rows.v, rows.n);
        return rc;
    }
    *out = rows.v;
    *n = rows.n;
    return 0;
}
