/*
 * writer.c: see writer.h.
 *
 * Rows are queued in memory and written by tf_writer_commit() in one short transaction: so several recorders
 * can write to one file, each waiting only for the others' commits, and frame events and outside events that
 * belong together are found together, whenever the supervisor dies. A row in the queue is the number of its
 * statement, the number of values, and the values: type, number or length, bytes.
 */
#include "store/writer.h"
#include "store/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

/* How long a commit waits for other processes: it is tried again a second later, or, at the end of the run
 * and when too much has been gathered, there is nothing left but to wait. */
#define IMPATIENT_MS 20
#define PATIENT_MS 60000
#define SAMPLE 4096
#define QUEUE_KEEP (64u << 20)
#define SOURCE_MAX (64u << 20) /* what is larger is no source */

static const char *const sql[TF_W_COUNT] = {
    [TF_W_FRAMES] = "INSERT OR REPLACE INTO frames VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    [TF_W_OUTSIDE] = "INSERT INTO outside VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
    [TF_W_CODE] = "INSERT INTO codes VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [TF_W_SOURCE] = "INSERT OR IGNORE INTO sources SELECT ?1, ?2, text FROM texts WHERE digest = ?3",
    [TF_W_TEXT] = "INSERT OR IGNORE INTO texts(digest, len, data) VALUES(?1,?2,?3)",
    [TF_W_FIND_TEXT] = "SELECT 1 FROM texts WHERE digest = ?1",
    [TF_W_MARK] = "INSERT INTO marks VALUES(?1,?2,?3,?4,?5)",
    [TF_W_MAPPED] = "INSERT INTO mapped VALUES(?1,?2,?3,?4,?5,?6)",
    [TF_W_BUILD] = "INSERT OR REPLACE INTO builds VALUES(?1,?2,?3)",
    [TF_W_FACT] = "INSERT OR REPLACE INTO machine VALUES(?1,?2,?3)",
    [TF_W_THREAD] = "INSERT OR REPLACE INTO threads VALUES(?1,?2,?3,?4,?5,?6,nullif(?7,-1),nullif(?8,-1))",
    [TF_W_TOTALS] = ("UPDATE runs SET frames=?2, outside=?3, outside_bytes=?4, duration_ns=?5, cal_tsc=?6,"
                     " cal_ns=?7, state=?8, exit_status=?9, exit_signal=?10 WHERE run=?1"),
};

int tf_writer_init(struct tf_writer *w, struct tf_store *store, struct tf_err *err)
{
    *w = (struct tf_writer){.store = store};
    if (!store->writable)
        return tf_err_set(err, TF_E_USAGE, "%s is open for reading only", store->path);
    for (int i = 0; i < TF_W_COUNT; i++) {
        int rc = tf_db_prepare(store, sql[i], &w->stmts[i], err);
        if (rc)
            return rc;
    }
    return 0;
}

void tf_writer_free(struct tf_writer *w)
{
    for (int i = 0; i < TF_W_COUNT; i++)
        sqlite3_finalize(w->stmts[i]);
    if (w->store)
        tf_writer_rollback(w);
    ZSTD_freeCCtx(w->zstd);
    free(w->seen);
    free(w->queue);
    *w = (struct tf_writer){0};
}

/* ---- the queue ---- */

enum { INTEGER, TEXT, BLOB };

/* Room for so many more bytes at the end of the queue; NULL: no memory. */
static uint8_t *room(struct tf_writer *w, size_t len)
{
    if (w->cap - w->len < len) {
        size_t cap = w->cap ? w->cap : 1 << 16;
        while (cap - w->len < len)
            cap *= 2;
        uint8_t *queue = realloc(w->queue, cap);
        if (!queue) {
            w->no_memory = true;
            return NULL;
        }
        w->queue = queue;
        w->cap = cap;
    }
    return w->queue + w->len;
}

static void append(struct tf_writer *w, const void *data, size_t len)
{
    uint8_t *to = room(w, len);
    if (!to)
        return;
    if (len)
        memcpy(to, data, len);
    w->len += len;
}

static void row(struct tf_writer *w, enum tf_writer_stmt which, uint8_t values)
{
    const uint8_t head[2] = {(uint8_t)which, values};
    append(w, head, sizeof head);
}

static void integer(struct tf_writer *w, int64_t value)
{
    const uint8_t type = INTEGER;
    append(w, &type, 1);
    append(w, &value, sizeof value);
}

static void bytes(struct tf_writer *w, uint8_t type, const void *data, uint64_t len)
{
    append(w, &type, 1);
    append(w, &len, sizeof len);
    append(w, data, len);
}

/* The row is complete. */
static int row_end(struct tf_writer *w, struct tf_err *err)
{
    return w->no_memory ? tf_db_memory(err) : 0;
}

static int was_deleted(struct tf_writer *w, struct tf_err *err)
{
    return tf_err_set(err, TF_E_IO, "the run was deleted from %s while it was recorded", w->store->path);
}

/* Writes the row at *at of the queue. */
static int write_row(struct tf_writer *w, size_t *at, struct tf_err *err)
{
    const uint8_t *p = w->queue + *at;
    enum tf_writer_stmt which = p[0];
    uint8_t values = p[1];
    sqlite3_stmt *stmt = w->stmts[which];
    int bound = SQLITE_OK;
    p += 2;
    for (int i = 1; i <= values; i++) {
        int64_t number;
        uint8_t type = *p;
        memcpy(&number, p + 1, sizeof number);
        p += 1 + sizeof number;
        int rc = SQLITE_OK;
        if (type == INTEGER)
            rc = sqlite3_bind_int64(stmt, i, number);
        else if (type == TEXT)
            rc = sqlite3_bind_text64(stmt, i, (const char *)p, (uint64_t)number, SQLITE_STATIC, SQLITE_UTF8);
        else
            rc = sqlite3_bind_blob64(stmt, i, p, (uint64_t)number, SQLITE_STATIC);
        if (type != INTEGER)
            p += number;
        if (rc != SQLITE_OK)
            bound = rc;
    }
    *at = (size_t)(p - w->queue);
    if (bound != SQLITE_OK)
        return tf_db_error(w->store, err, "writing");
    int rc = tf_db_run(w->store, stmt, err);
    if (!rc && which == TF_W_TOTALS && sqlite3_changes(w->store->db) == 0)
        rc = was_deleted(w, err);
    return rc;
}

static void undo(struct tf_writer *w)
{
    /* SQLite may have done it already, when the disk was full. */
    if (!sqlite3_get_autocommit(w->store->db))
        sqlite3_exec(w->store->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Writes the rows from *at up to `end`, and ends the transaction. */
static int write_rows(struct tf_writer *w, size_t *at, size_t end, struct tf_err *err)
{
    int rc = 0;
    while (!rc && *at < end)
        rc = write_row(w, at, err);
    return rc ? rc : tf_db_exec(w->store, "COMMIT", err);
}

/* The end of the row at `at`. *totals: what it says, if it is one of totals; else as it was. */
static size_t row_after(const struct tf_writer *w, size_t at, struct tf_totals *totals, bool *is_totals)
{
    const uint8_t *p = w->queue + at;
    uint8_t values = p[1];
    int64_t v[6] = {0};
    *is_totals = p[0] == TF_W_TOTALS;
    p += 2;
    for (int i = 0; i < values; i++) {
        int64_t number;
        memcpy(&number, p + 1, sizeof number);
        if (*is_totals && i >= 1 && i < 7)
            v[i - 1] = number;
        p += 1 + sizeof number + (*p == INTEGER ? 0 : (size_t)number);
    }
    if (*is_totals)
        *totals = (struct tf_totals){(uint64_t)v[0], (uint64_t)v[1], (uint64_t)v[2],
                                     (uint64_t)v[3], (uint64_t)v[4], (uint64_t)v[5]};
    return (size_t)(p - w->queue);
}

/* There was no room for all of the queue: writes what there is room for, up to rows of totals, behind which
 * the file is right. *saved: those that were written last, if any. */
static void salvage(struct tf_writer *w, struct tf_totals *saved)
{
    struct tf_err ignored = {0};
    struct tf_totals totals;
    size_t at = 0;
    for (size_t end = 0; end < w->len;) {
        bool is_totals;
        end = row_after(w, end, &totals, &is_totals);
        if (!is_totals)
            continue;
        if (tf_db_exec(w->store, "BEGIN IMMEDIATE", &ignored) || write_rows(w, &at, end, &ignored)) {
            undo(w);
            return;
        }
        *saved = totals;
    }
}

static int begin(struct tf_writer *w, struct tf_err *err)
{
    for (;;) {
        int rc = tf_db_sync(w->store, w->bulk, w->store->last, err);
        /* EXCLUSIVE: a reader in the way is met before all of it has been done in vain. */
        if (!rc)
            rc = tf_db_exec(w->store, w->bulk ? "BEGIN EXCLUSIVE" : "BEGIN IMMEDIATE", err);
        if (rc || w->store->synced || tf_db_alone(w->store))
            return rc;
        undo(w); /* somebody else's run is in the file since just now */
    }
}

int tf_writer_commit(struct tf_writer *w, bool patient, struct tf_totals *saved, struct tf_err *err)
{
    bool open = !sqlite3_get_autocommit(w->store->db);
    if (!w->len && !open)
        return 0;
    /*
     * The write-ahead log lets others read while a run is recorded, but everything is written twice and read
     * once. When there is much of it, and nobody reads, it goes straight to the file: new pages need no
     * journal.
     */
    if (w->len >= TF_W_BULK && !w->bulk && !open)
        w->bulk = tf_db_single_file(w->store);
    patient |= open; /* what is in the transaction already is in no queue */
    tf_db_patience(w->store, patient ? PATIENT_MS : IMPATIENT_MS);
    size_t at = 0;
    int rc = open ? 0 : begin(w, err);
    if (!rc)
        rc = write_rows(w, &at, w->len, err);
    bool again = rc && !patient && tf_db_busy(w->store);
    if (rc)
        undo(w);
    if (rc && !again && !open)
        salvage(w, saved);
    tf_db_patience(w->store, TF_DB_BUSY_MS);
    if (again)
        return 1;
    w->written += w->len;
    w->len = 0;
    if (w->cap > QUEUE_KEEP) { /* there was one very large event */
        free(w->queue);
        w->queue = NULL;
        w->cap = 0;
    }
    return rc;
}

void tf_writer_rollback(struct tf_writer *w)
{
    undo(w);
    w->len = 0;
    w->no_memory = false;
}

/* ---- the run ---- */

static int random_id(char id[33], struct tf_err *err)
{
    uint8_t bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return tf_err_set(err, TF_E_IO, "no random numbers: %s", strerror(errno));
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

/* Of the row that was just written: its number, and which process of the run it is. */
static int number_process(struct tf_writer *w, struct tf_run *run, struct tf_err *err)
{
    sqlite3_stmt *s;
    int64_t rowid = sqlite3_last_insert_rowid(w->store->db);
    int rc = tf_db_prepare(w->store, "SELECT process FROM runs WHERE run = ?1", &s, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(s, 1, rowid);
    rc = tf_db_step(w->store, s, err);
    if (rc == 1)
        run->process = (uint32_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    if (rc < 0)
        return rc;
    w->run = run->rowid = rowid;
    tf_db_hold(w->store, rowid);
    return 0;
}

/* Of the processes of a run, also those that have been removed (drop.h). */
#define NUMBERS(id)                                                                                          \
    "(SELECT process FROM runs r WHERE r.id = " id                                                           \
    " UNION ALL SELECT processes FROM bases JOIN runs s USING(run) WHERE s.id = " id ")"

static int insert_run(struct tf_writer *w, struct tf_run *run, const char *argv, size_t argv_len,
                      const char *envp, size_t envp_len, struct tf_err *err)
{
    sqlite3_stmt *s;
    int rc = run->origin == TF_STARTED ? random_id(run->id, err) : 0;
    if (!rc)
        rc = tf_db_prepare(
            w->store,
            "INSERT INTO runs(id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes,"
            " exit_status, exit_signal, pid, stack_limit, layout_digest, cal_tsc, cal_ns,"
            " python_version, exe, execfn, cwd, stdlib, kernel, host, python_file_digest, command,"
            " title, argv, envp, parent, origin, fork_frame, process)"
            " VALUES(?1,0,?,0,0,0,0,-1,0,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
            " (SELECT coalesce(max(process), 0) + 1 FROM " NUMBERS("?1") "))",
            &s, err);
    if (rc)
        return rc;
    int i = 1;
    sqlite3_bind_text(s, i++, run->id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, i++, run->started_unix_ns);
    sqlite3_bind_int64(s, i++, run->pid);
    sqlite3_bind_int64(s, i++, (int64_t)run->stack_limit);
    sqlite3_bind_int64(s, i++, (int64_t)run->layout_digest);
    sqlite3_bind_int64(s, i++, (int64_t)run->cal_tsc);
    sqlite3_bind_int64(s, i++, (int64_t)run->cal_ns);
    const char *texts[] = {run->python_version, run->exe,    run->execfn, run->cwd,
                           run->stdlib,         run->kernel, run->host,   run->python_file_digest,
                           run->command,        run->title};
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        sqlite3_bind_text(s, i++, texts[k] ? texts[k] : "", -1, SQLITE_STATIC);
    sqlite3_bind_blob(s, i++, argv_len ? argv : "", (int)argv_len, SQLITE_STATIC);
    sqlite3_bind_blob(s, i++, envp_len ? envp : "", (int)envp_len, SQLITE_STATIC);
    sqlite3_bind_int64(s, i++, run->parent);
    sqlite3_bind_int64(s, i++, run->origin);
    sqlite3_bind_int64(s, i++, (int64_t)run->fork_frame);
    rc = tf_db_step(w->store, s, err);
    sqlite3_finalize(s);
    return rc < 0 ? rc : number_process(w, run, err);
}

int tf_writer_run(struct tf_writer *w, struct tf_run *run, const char *argv, size_t argv_len,
                  const char *envp, size_t envp_len, struct tf_err *err)
{
    int rc = tf_db_upgrade(w->store, err);
    if (!rc)
        rc = tf_db_exec(w->store, "BEGIN IMMEDIATE", err);
    if (rc)
        return rc;
    rc = insert_run(w, run, argv, argv_len, envp, envp_len, err);
    /* Not the first process of a run, but nobody is there. */
    if (!rc && run->origin != TF_STARTED && run->process == 1)
        rc = was_deleted(w, err);
    if (!rc)
        rc = tf_db_exec(w->store, "COMMIT", err);
    if (rc && !sqlite3_get_autocommit(w->store->db))
        sqlite3_exec(w->store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int tf_writer_fork(struct tf_writer *w, struct tf_run *run, const struct tf_fork *fork, uint32_t pid,
                   struct tf_err *err)
{
#define SAME                                                                                                 \
    "id, started_unix_ns, stack_limit, layout_digest, python_version, exe, execfn, cwd, stdlib, kernel,"     \
    " host, python_file_digest, command, title, argv, envp, cal_tsc, cal_ns"
    sqlite3_stmt *s;
    struct tf_lineage lineage = {0};
    int rc = tf_db_exec(w->store, "BEGIN IMMEDIATE", err);
    if (rc)
        return rc;
    rc = tf_db_prepare(
        w->store,
        "INSERT INTO runs(" SAME ", state, exit_status, exit_signal, duration_ns, frames, outside,"
        " outside_bytes, pid, parent, origin, fork_frame, fork_offset, fork_seq, fork_codes,"
        " fork_marks, fork_mapped, fork_tick, process)"
        " SELECT " SAME ", 0, -1, 0, 0, ?3, ?5, ?4, ?2, process, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
        " (SELECT max(process) + 1 FROM " NUMBERS("runs.id") ")"
                                                             " FROM runs WHERE run = ?1",
        &s, err);
#undef SAME
    if (rc)
        goto out;
    sqlite3_bind_int64(s, 1, fork->run);
    sqlite3_bind_int64(s, 2, pid);
    sqlite3_bind_int64(s, 3, (int64_t)fork->frame);
    sqlite3_bind_int64(s, 4, (int64_t)fork->offset);
    sqlite3_bind_int64(s, 5, (int64_t)fork->seq);
    sqlite3_bind_int64(s, 6, fork->codes);
    sqlite3_bind_int64(s, 7, fork->marks);
    sqlite3_bind_int64(s, 8, fork->mapped);
    sqlite3_bind_int64(s, 9, (int64_t)fork->tick);
    rc = tf_db_step(w->store, s, err);
    sqlite3_finalize(s);
    if (!rc)
        rc = sqlite3_changes(w->store->db) ? number_process(w, run, err) : was_deleted(w, err);
    /* Its row comes with its first event; until then nobody knew that it needs its parent's past. */
    if (!rc && (rc = tf_lineage_load(w->store, &(struct tf_run){.rowid = w->run, .origin = TF_FORKED},
                                     &lineage, err)))
        rc = tf_err_set(err, TF_E_NOTFOUND,
                        "what process %u had done before it was forked was dropped from %s", run->process,
                        w->store->path);
    tf_lineage_free(&lineage);
out:
    if (rc)
        tf_writer_rollback(w);
    return rc;
}

/* ---- events ---- */

int tf_writer_frames(struct tf_writer *w, uint64_t block, uint32_t n, const struct tf_encoded *e,
                     struct tf_err *err)
{
    row(w, TF_W_FRAMES, 14);
    integer(w, w->run);
    integer(w, (int64_t)block);
    integer(w, n);
    integer(w, (int64_t)e->first_tick);
    integer(w, (int64_t)e->last_tick);
    for (int tag = TF_CALL; tag <= TF_UNWIND; tag++)
        integer(w, e->kinds[tag]);
    integer(w, (int64_t)e->words_digest);
    integer(w, (int64_t)e->digest);
    bytes(w, BLOB, e->codes, e->codes_len);
    bytes(w, BLOB, e->data, e->len);
    return row_end(w, err);
}

static int compare_u16(const void *a, const void *b)
{
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

/* Which calls occur (sorted, each once) and which flags. Returns how many calls. */
static size_t outside_calls(const uint8_t *raw, uint64_t len, uint16_t *calls, uint16_t *flags)
{
    uint8_t seen[65536 / 8] = {0};
    size_t n = 0;
    for (uint64_t at = 0; at < len;) {
        const struct tf_outside *e = (const void *)(raw + at);
        *flags |= e->flags;
        if (!(seen[e->call >> 3] >> (e->call & 7) & 1)) {
            seen[e->call >> 3] |= (uint8_t)(1 << (e->call & 7));
            calls[n++] = e->call;
        }
        at += e->total_len;
    }
    qsort(calls, n, sizeof *calls, compare_u16);
    return n;
}

/*
 * A zstd frame (RFC 8878) that holds the bytes as they are: what even zstd's fastest levels do is ten times
 * the work, and there are programs that cannot wait for it. Needs 16 bytes, and 3 more for each 128 KiB.
 */
static size_t frame_as_is(uint8_t *to, const uint8_t *from, uint64_t len)
{
    const uint32_t magic = ZSTD_MAGICNUMBER;
    uint8_t *at = to;
    memcpy(at, &magic, sizeof magic);
    at[4] = 0xe0; /* single segment; the content's size follows in 8 bytes */
    memcpy(at + 5, &len, sizeof len);
    at += 13;
    do {
        uint32_t n = len < ZSTD_BLOCKSIZE_MAX ? (uint32_t)len : ZSTD_BLOCKSIZE_MAX;
        uint32_t head = n << 3 | (n == len); /* raw; is it the last one? */
        memcpy(at, &head, 3);
        memcpy(at + 3, from, n);
        at += 3 + n;
        from += n;
        len -= n;
    } while (len);
    return (size_t)(at - to);
}

/* Does a sample of it shrink to almost nothing? Then all of it is compressed as fast as it is read. */
static bool packs_fast(struct tf_writer *w, const uint8_t *raw, uint64_t len)
{
    uint8_t out[ZSTD_COMPRESSBOUND(SAMPLE)];
    if (len < 2 * SAMPLE)
        return true; /* not worth the question */
    size_t n = ZSTD_compress2(w->zstd, out, sizeof out, raw + (len - SAMPLE) / 2, SAMPLE);
    return !ZSTD_isError(n) && n < SAMPLE / 12;
}

int tf_writer_outside(struct tf_writer *w, const struct tf_outside_block *block, const void *raw, int level,
                      struct tf_err *err)
{
    uint16_t flags = 0;
    size_t most = ZSTD_compressBound(block->len) + 16, max = block->events < 65536 ? block->events : 65536;
    uint16_t *calls = malloc((max + 1) * sizeof *calls);
    if (!w->zstd)
        w->zstd = ZSTD_createCCtx();
    if (!calls || !w->zstd) {
        free(calls);
        return tf_db_memory(err);
    }
    size_t n = outside_calls(raw, block->len, calls, &flags);
    row(w, TF_W_OUTSIDE, 11);
    integer(w, w->run);
    integer(w, (int64_t)block->offset);
    integer(w, (int64_t)block->len);
    integer(w, (int64_t)block->first_seq);
    integer(w, (int64_t)block->events);
    integer(w, (int64_t)block->first_frame);
    integer(w, (int64_t)block->last_frame);
    integer(w, flags);
    size_t digest_at = w->len;
    integer(w, 0);
    bytes(w, BLOB, calls, n * sizeof *calls);
    size_t data_at = w->len;
    bytes(w, BLOB, NULL, 0);
    free(calls);
    uint8_t *data = room(w, most);
    if (!data || w->no_memory)
        return tf_db_memory(err);
    size_t len;
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, level == TF_W_HASTY ? 1 : level);
    if (level == TF_W_HASTY && !packs_fast(w, raw, block->len))
        len = frame_as_is(data, raw, block->len);
    else
        len = ZSTD_compress2(w->zstd, data, most, raw, block->len);
    if (ZSTD_isError(len))
        return tf_err_set(err, TF_E_IO, "compressing outside events: %s", ZSTD_getErrorName(len));
    uint64_t digest = XXH3_64bits(data, len), stored = len;
    memcpy(w->queue + digest_at + 1, &digest, sizeof digest);
    memcpy(w->queue + data_at + 1, &stored, sizeof stored);
    w->len += len;
    return row_end(w, err);
}

int tf_writer_code(struct tf_writer *w, const struct tf_rec_code *code, const char *file, const char *name,
                   struct tf_err *err)
{
    row(w, TF_W_CODE, 7);
    integer(w, w->run);
    integer(w, code->id);
    integer(w, (int64_t)code->hash);
    integer(w, code->first_line);
    integer(w, code->flags);
    bytes(w, TEXT, file, strlen(file));
    bytes(w, TEXT, name, strlen(name));
    return row_end(w, err);
}

/* ---- sources ---- */

/* Notes a path. 1: it was new, 0: known, -1: no memory. */
static int note_path(struct tf_writer *w, const char *file)
{
    uint64_t hash = XXH3_64bits(file, strlen(file)) | 1;
    if (w->n_seen * 2 >= w->cap_seen) {
        size_t cap = w->cap_seen ? w->cap_seen * 2 : 256;
        uint64_t *seen = calloc(cap, sizeof *seen);
        if (!seen)
            return -1;
        for (size_t i = 0; i < w->cap_seen; i++) {
            if (!w->seen[i])
                continue;
            size_t at = (w->seen[i] >> 1) & (cap - 1);
            while (seen[at])
                at = (at + 1) & (cap - 1);
            seen[at] = w->seen[i];
        }
        free(w->seen);
        w->seen = seen;
        w->cap_seen = cap;
    }
    size_t at = (hash >> 1) & (w->cap_seen - 1);
    for (; w->seen[at]; at = (at + 1) & (w->cap_seen - 1))
        if (w->seen[at] == hash)
            return 0;
    w->seen[at] = hash;
    w->n_seen++;
    return 1;
}

int tf_writer_copy_seen(struct tf_writer *w, const struct tf_writer *src, struct tf_err *err)
{
    if (!src->cap_seen)
        return 0;
    w->seen = malloc(src->cap_seen * sizeof *w->seen);
    if (!w->seen)
        return tf_db_memory(err);
    memcpy(w->seen, src->seen, src->cap_seen * sizeof *w->seen);
    w->n_seen = src->n_seen;
    w->cap_seen = src->cap_seen;
    return 0;
}

/* Queues a text, unless the file has it. */
static int add_text(struct tf_writer *w, const XXH128_canonical_t *digest, const void *text, size_t len,
                    struct tf_err *err)
{
    sqlite3_stmt *s = w->stmts[TF_W_FIND_TEXT];
    sqlite3_bind_blob(s, 1, digest, sizeof *digest, SQLITE_STATIC);
    int rc = tf_db_step(w->store, s, err);
    sqlite3_reset(s);
    /* A run that is deleted meanwhile may take its texts along: then this source is lost, nothing else. */
    if (rc)
        return rc < 0 ? rc : 0;
    size_t cap = ZSTD_compressBound(len);
    void *data = malloc(cap);
    if (!data)
        return tf_db_memory(err);
    size_t n = ZSTD_compress(data, cap, text, len, 3);
    if (ZSTD_isError(n)) {
        rc = tf_err_set(err, TF_E_IO, "compressing a source: %s", ZSTD_getErrorName(n));
    } else {
        row(w, TF_W_TEXT, 3);
        bytes(w, BLOB, digest, sizeof *digest);
        integer(w, (int64_t)len);
        bytes(w, BLOB, data, n);
        rc = row_end(w, err);
    }
    free(data);
    return rc;
}

int tf_writer_source_text(struct tf_writer *w, const char *file, const void *text, size_t len,
                          struct tf_err *err)
{
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(text, len));
    int rc = add_text(w, &digest, text, len, err);
    if (rc)
        return rc;
    row(w, TF_W_SOURCE, 3);
    integer(w, w->run);
    bytes(w, TEXT, file, strlen(file));
    bytes(w, BLOB, &digest, sizeof digest);
    return row_end(w, err);
}

/* A whole regular file of moderate size; NULL if it cannot be had. */
/* unchanged_since: struct tf_writer. */
static char *read_file(const char *path, int64_t unchanged_since, size_t *len)
{
    struct stat st;
    char *buf = NULL;
    size_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > SOURCE_MAX)
        goto out;
    if (unchanged_since && st.st_mtim.tv_sec * 1000000000l + st.st_mtim.tv_nsec > unchanged_since)
        goto out;
    buf = malloc((size_t)st.st_size + 1);
    while (buf && got < (size_t)st.st_size) {
        ssize_t n = read(fd, buf + got, (size_t)st.st_size - got);
        if (n == 0)
            break;
        if (n < 0) {
            free(buf);
            buf = NULL;
        } else {
            got += (size_t)n;
        }
    }
out:
    close(fd);
    *len = got;
    return buf;
}

int tf_writer_source(struct tf_writer *w, const char *file, int proc, const char *cwd, struct tf_err *err)
{
    if (!*file || *file == '<')
        return 0;
    int is_new = note_path(w, file);
    if (is_new <= 0)
        return is_new < 0 ? tf_db_memory(err) : 0;
    char path[8192];
    char *text = NULL;
    size_t len = 0;
    if (*file == '/') {
        text = read_file(file, w->unchanged_since, &len);
    } else {
        if (proc && snprintf(path, sizeof path, "/proc/%d/cwd/%s", proc, file) < (int)sizeof path)
            text = read_file(path, w->unchanged_since, &len);
        if (!text && cwd && snprintf(path, sizeof path, "%s/%s", cwd, file) < (int)sizeof path)
            text = read_file(path, w->unchanged_since, &len);
    }
    if (!text)
        return 0;
    int rc = tf_writer_source_text(w, file, text, len, err);
    free(text);
    return rc;
}

int tf_writer_know(struct tf_writer *w, const char *file, struct tf_err *err)
{
    return note_path(w, file) < 0 ? tf_db_memory(err) : 0;
}

/* ---- the rest ---- */

int tf_writer_mark(struct tf_writer *w, uint64_t frame, uint32_t kind, const char *text, size_t len,
                   struct tf_err *err)
{
    row(w, TF_W_MARK, 5);
    integer(w, w->run);
    integer(w, ++w->n_marks);
    integer(w, (int64_t)frame);
    integer(w, kind);
    bytes(w, TEXT, text, len);
    return row_end(w, err);
}

int tf_writer_mapped(struct tf_writer *w, const char *path, struct tf_err *err)
{
    uint64_t digest = 0, size = 0;
    int64_t mtime_ns = 0;
    if (tf_file_digest(path, &digest, &size, &mtime_ns))
        digest = size = 0, mtime_ns = 0;
    row(w, TF_W_MAPPED, 6);
    integer(w, w->run);
    integer(w, ++w->n_mapped);
    bytes(w, TEXT, path, strlen(path));
    integer(w, (int64_t)size);
    integer(w, mtime_ns);
    integer(w, (int64_t)digest);
    char id[TF_BUILD_ID_TEXT];
    if (*tf_build_id(path, id)) {
        row(w, TF_W_BUILD, 3);
        integer(w, w->run);
        bytes(w, TEXT, path, strlen(path));
        bytes(w, TEXT, id, strlen(id));
    }
    return row_end(w, err);
}

int tf_writer_thread(struct tf_writer *w, const struct tf_known_thread *thread, struct tf_err *err)
{
    row(w, TF_W_THREAD, 8);
    integer(w, w->run);
    integer(w, thread->number);
    integer(w, thread->tid);
    integer(w, thread->parent);
    bytes(w, TEXT, thread->name, strlen(thread->name));
    integer(w, (int64_t)thread->born);
    integer(w, thread->ended ? (int64_t)thread->end : -1);
    integer(w, thread->ended ? (int64_t)thread->end_seq : -1);
    return row_end(w, err);
}

int tf_writer_machine(struct tf_writer *w, struct tf_err *err)
{
    struct tf_fact *facts;
    size_t n;
    int rc = tf_machine_now(&facts, &n, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        row(w, TF_W_FACT, 3);
        integer(w, w->run);
        bytes(w, TEXT, facts[i].key, strlen(facts[i].key));
        bytes(w, TEXT, facts[i].value, strlen(facts[i].value));
    }
    tf_facts_free(facts, n);
    return rc ? rc : row_end(w, err);
}

int tf_writer_totals(struct tf_writer *w, const struct tf_totals *totals, int state, int exit_status,
                     int exit_signal, struct tf_err *err)
{
    row(w, TF_W_TOTALS, 10);
    integer(w, w->run);
    integer(w, (int64_t)totals->frames);
    integer(w, (int64_t)totals->outside);
    integer(w, (int64_t)totals->outside_bytes);
    integer(w, (int64_t)totals->duration_ns);
    integer(w, (int64_t)totals->cal_tsc);
    integer(w, (int64_t)totals->cal_ns);
    integer(w, state);
    integer(w, exit_status);
    integer(w, exit_signal);
    return row_end(w, err);
}
