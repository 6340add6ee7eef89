/*
 * store.c: the file itself: made, recognised, opened, closed.
 *
 * A recording is a SQLite database with an application id of its own and the format in user_version. It is in
 * WAL mode while it is written, so that one can look at a run that is still recorded, and goes back to a
 * single file in rollback mode when the last writer closes it: such a file can be copied, mailed, and read
 * from read-only media.
 *
 * Nothing that is not a recording is ever opened for writing: the header is read and judged before SQLite
 * sees the file, also because SQLite's own words for it ("file is not a database", "disk image is malformed")
 * help nobody.
 */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger than SQLite's own: a page is one write, and data from outside can be a lot. Files with other sizes
 * are read as well. */
#define PAGE_BYTES "16384"

/* Those of format 1, which had one process a run and an id of its own in each row, and those that came
 * with 2. */
#define RUN_COLUMNS_1                                                                                        \
    " run INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, state INTEGER NOT NULL,"                      \
    " started_unix_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, frames INTEGER NOT NULL,"              \
    " outside INTEGER NOT NULL, outside_bytes INTEGER NOT NULL, exit_status INTEGER NOT NULL,"               \
    " exit_signal INTEGER NOT NULL, pid INTEGER NOT NULL, stack_limit INTEGER NOT NULL,"                     \
    " layout_digest INTEGER NOT NULL, cal_tsc INTEGER NOT NULL, cal_ns INTEGER NOT NULL,"                    \
    " python_version TEXT NOT NULL, exe TEXT NOT NULL, execfn TEXT NOT NULL, cwd TEXT NOT NULL,"             \
    " stdlib TEXT NOT NULL, kernel TEXT NOT NULL, host TEXT NOT NULL, python_file_digest TEXT NOT NULL,"     \
    " command TEXT NOT NULL, title TEXT NOT NULL, argv BLOB NOT NULL, envp BLOB NOT NULL"
#define RUN_COLUMNS                                                                                          \
    RUN_COLUMNS_1                                                                                            \
    ", process INTEGER NOT NULL DEFAULT 1, parent INTEGER NOT NULL DEFAULT 0,"                               \
    " origin INTEGER NOT NULL DEFAULT 0, fork_frame INTEGER NOT NULL DEFAULT 0,"                             \
    " fork_offset INTEGER NOT NULL DEFAULT 0, fork_seq INTEGER NOT NULL DEFAULT 0,"                          \
    " fork_codes INTEGER NOT NULL DEFAULT 0, fork_marks INTEGER NOT NULL DEFAULT 0,"                         \
    " fork_mapped INTEGER NOT NULL DEFAULT 0, fork_tick INTEGER NOT NULL DEFAULT 0, UNIQUE(id, process)"

static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "INSERT INTO meta VALUES('made by', 'timefork " TF_VERSION "');"
    "CREATE TABLE runs(" RUN_COLUMNS ");"
    "CREATE TABLE codes("
    " run INTEGER NOT NULL, id INTEGER NOT NULL, hash INTEGER NOT NULL, first_line INTEGER NOT NULL,"
    " flags INTEGER NOT NULL, file TEXT NOT NULL, qualname TEXT NOT NULL, PRIMARY KEY(run, id)) WITHOUT "
    "ROWID;"
    "CREATE TABLE texts(text INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, len INTEGER NOT NULL, data "
    "BLOB NOT NULL);"
    "CREATE TABLE sources("
    " run INTEGER NOT NULL, file TEXT NOT NULL, text INTEGER NOT NULL, PRIMARY KEY(run, file)) WITHOUT ROWID;"
    "CREATE TABLE frames("
    " run INTEGER NOT NULL, block INTEGER NOT NULL, n INTEGER NOT NULL, first_tick INTEGER NOT NULL,"
    " last_tick INTEGER NOT NULL, calls INTEGER NOT NULL, returns INTEGER NOT NULL, yields INTEGER NOT NULL,"
    " resumes INTEGER NOT NULL, unwinds INTEGER NOT NULL, words_digest INTEGER NOT NULL, digest INTEGER NOT "
    "NULL,"
    " codes BLOB NOT NULL, data BLOB NOT NULL, UNIQUE(run, block));"
    "CREATE TABLE outside("
    " run INTEGER NOT NULL, offset INTEGER NOT NULL, len INTEGER NOT NULL, first_seq INTEGER NOT NULL,"
    " events INTEGER NOT NULL, first_frame INTEGER NOT NULL, last_frame INTEGER NOT NULL, flags INTEGER NOT "
    "NULL,"
    " digest INTEGER NOT NULL, calls BLOB NOT NULL, data BLOB NOT NULL, UNIQUE(run, offset));"
    "CREATE TABLE marks("
    " run INTEGER NOT NULL, seq INTEGER NOT NULL, frame INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " text TEXT NOT NULL, PRIMARY KEY(run, seq)) WITHOUT ROWID;"
    "CREATE TABLE mapped("
    " run INTEGER NOT NULL, seq INTEGER NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,"
    " mtime_ns INTEGER NOT NULL, digest INTEGER NOT NULL, PRIMARY KEY(run, seq)) WITHOUT ROWID;";

/* Not in the first files: made when one is opened for writing. Without them nothing is known of what they
 * hold. */
static const char later_tables[] =
    "CREATE TABLE IF NOT EXISTS builds("
    " run INTEGER NOT NULL, path TEXT NOT NULL, build_id TEXT NOT NULL, PRIMARY KEY(run, path)) WITHOUT "
    "ROWID;"
    "CREATE TABLE IF NOT EXISTS machine("
    " run INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(run, key)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS threads("
    " run INTEGER NOT NULL, number INTEGER NOT NULL, tid INTEGER NOT NULL, parent INTEGER NOT NULL,"
    " name TEXT NOT NULL, born INTEGER NOT NULL, ended INTEGER, ended_seq INTEGER,"
    " PRIMARY KEY(run, number)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS bases("
    " run INTEGER PRIMARY KEY, frame INTEGER NOT NULL, offset INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " tick INTEGER NOT NULL, kept_offset INTEGER NOT NULL, kept_seq INTEGER NOT NULL,"
    " processes INTEGER NOT NULL);";

/* ---- errors ---- */

int tf_db_error(struct tf_store *store, struct tf_err *err, const char *doing)
{
    int rc = sqlite3_extended_errcode(store->db);
    int system = sqlite3_system_errno(store->db);
    const char *path = store->path, *why = sqlite3_errmsg(store->db);
    /* Of a statement that failed in the middle, only the file knows. */
    if (!system && (rc & 0xff) == SQLITE_IOERR)
        sqlite3_file_control(store->db, "main", SQLITE_FCNTL_LAST_ERRNO, &system);
    bool full = rc == SQLITE_FULL || system == ENOSPC || system == EDQUOT || system == EFBIG;

    if (store->writable && rc && tf_db_moved(store))
        return tf_err_set(err, TF_E_IO, "%s %s: it was removed or renamed", doing, path);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return tf_err_set(err, TF_E_FULL, "%s %s: no space left on the disk", doing, path);
    case SQLITE_TOOBIG:
        return tf_err_set(err, TF_E_FULL, "%s %s: a single event is larger than what can be stored", doing,
                          path);
    case SQLITE_IOERR:
        if (full)
            return tf_err_set(err, TF_E_FULL, "%s %s: %s", doing, path,
                              system ? strerror(system) : "no space left on the disk");
        if (rc == SQLITE_IOERR_SHORT_READ)
            return tf_err_set(err, TF_E_FORMAT, "%s is truncated", path);
        return tf_err_set(err, TF_E_IO, "%s %s: %s", doing, path, system ? strerror(system) : why);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_MISMATCH:
        return tf_err_set(err, TF_E_FORMAT, "%s is damaged (%s)", path, why);
    case SQLITE_ERROR:
    case SQLITE_SCHEMA:
        /* Our statements are right: so a table or column is missing, or its definition is garbage. */
        return tf_err_set(err, TF_E_FORMAT, "%s is damaged: its tables are not those of a recording (%s)",
                          path, why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return tf_err_set(err, TF_E_IO, "%s %s: another process is writing to it", doing, path);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return tf_err_set(err, TF_E_IO, "%s %s: the file or its folder cannot be written to", doing, path);
    case SQLITE_CANTOPEN:
        return tf_err_set(err, full ? TF_E_FULL : TF_E_IO, "%s %s: %s", doing, path,
                          system ? strerror(system) : why);
    default:
        return tf_err_set(err, TF_E_IO, "%s %s: %s", doing, path, why);
    }
}

int tf_db_damaged(struct tf_store *store, struct tf_err *err, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return tf_err_set(err, TF_E_FORMAT, "%s is damaged: %s", store->path, what);
}

bool tf_db_busy(const struct tf_store *store)
{
    int rc = sqlite3_errcode(store->db) & 0xff;
    return rc == SQLITE_BUSY || rc == SQLITE_LOCKED;
}

bool tf_db_moved(const struct tf_store *store)
{
    int moved = 0;
    return sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved;
}

void tf_db_patience(struct tf_store *store, int ms)
{
    sqlite3_busy_timeout(store->db, ms);
}

int tf_db_memory(struct tf_err *err)
{
    return tf_err_set(err, TF_E_IO, "out of memory");
}

int tf_db_exec(struct tf_store *store, const char *sql, struct tf_err *err)
{
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return tf_db_error(store, err, store->writable ? "writing" : "reading");
    return 0;
}

int tf_db_prepare(struct tf_store *store, const char *sql, sqlite3_stmt **out, struct tf_err *err)
{
    *out = NULL;
    if (sqlite3_prepare_v2(store->db, sql, -1, out, NULL) != SQLITE_OK)
        return tf_db_error(store, err, store->writable ? "writing" : "reading");
    return 0;
}

int tf_db_step(struct tf_store *store, sqlite3_stmt *stmt, struct tf_err *err)
{
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    return tf_db_error(store, err, sqlite3_stmt_readonly(stmt) ? "reading" : "writing");
}

int tf_db_run(struct tf_store *store, sqlite3_stmt *stmt, struct tf_err *err)
{
    int rc = tf_db_step(store, stmt, err);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return rc < 0 ? rc : 0;
}

bool tf_db_has_table(struct tf_store *store, const char *name)
{
    sqlite3_stmt *stmt;
    bool has = false;
    if (tf_db_prepare(store, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", &stmt, NULL))
        return false;
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    has = tf_db_step(store, stmt, NULL) == 1;
    sqlite3_finalize(stmt);
    return has;
}

void tf_db_moment_begin(struct tf_store *store, bool *began)
{
    /* Within a transaction of ours it is one moment anyway. If it cannot begin, the statements say why. */
    *began =
        sqlite3_get_autocommit(store->db) && sqlite3_exec(store->db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK;
}

void tf_db_moment_end(struct tf_store *store, bool began)
{
    if (began && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL); /* nothing was written: it cannot fail */
}

char *tf_db_text(sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    return strdup(text ? text : "");
}

/* ---- is it a recording ---- */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool beside(const char *path, const char *suffix)
{
    char name[4096 + 16];
    struct stat st;
    return snprintf(name, sizeof name, "%s%s", path, suffix) < (int)sizeof name && stat(name, &st) == 0 &&
           st.st_size > 0;
}

static bool wal_exists(const char *path)
{
    return beside(path, "-wal");
}

/* Judges the file by its first bytes, without SQLite. 1: there is none, or an empty one. */
static int judge(const char *path, struct tf_err *err)
{
    uint8_t h[100];
    struct stat st;
    int rc = 0;
    /* O_NONBLOCK: a FIFO must not make us wait for somebody to write to it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 1 : tf_err_set(err, TF_E_IO, "opening %s: %s", path, strerror(errno));
    if (fstat(fd, &st)) {
        rc = tf_err_set(err, TF_E_IO, "opening %s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = tf_err_set(err, TF_E_FORMAT, "%s is %s, not a recording", path,
                        S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
        goto out;
    }
    if (st.st_size == 0) {
        rc = 1;
        goto out;
    }
    ssize_t n = pread(fd, h, sizeof h, 0);
    if (n < 0) {
        rc = tf_err_set(err, TF_E_IO, "reading %s: %s", path, strerror(errno));
        goto out;
    }
    if ((size_t)n < sizeof h) {
        bool ours = n >= 16 && memcmp(h, "SQLite format 3", 16) == 0;
        rc = tf_err_set(err, TF_E_FORMAT,
                        ours ? "%s is truncated: only %lld bytes are left"
                             : "%s is not a timefork recording (%lld bytes of something else)",
                        path, (long long)st.st_size);
        goto out;
    }
    if (memcmp(h, "SQLite format 3", 16) != 0 || be32(h + 68) != TF_APPLICATION_ID) {
        rc = tf_err_set(err, TF_E_FORMAT, "%s is not a timefork recording", path);
        goto out;
    }
    uint32_t format = be32(h + 60);
    if (format > TF_FORMAT) {
        rc = tf_err_set(err, TF_E_FORMAT,
                        "%s has recording format %u, made by a newer timefork; this one, timefork " TF_VERSION
                        ", reads formats up to %d: open it with "
                        "the newer one",
                        path, format, TF_FORMAT);
        goto out;
    }
    if (format == 0) {
        rc = tf_err_set(err, TF_E_FORMAT, "%s is damaged: it has no format number", path);
        goto out;
    }
    /* The number of pages in the header is valid if it was written together with the change counter. */
    uint64_t page = (uint64_t)h[16] << 8 | h[17], pages = be32(h + 28);
    if (page == 1)
        page = 65536;
    /* Somebody may be writing just now; SQLite knows what to do about that, and about who was killed then. */
    if (be32(h + 24) == be32(h + 92) && (uint64_t)st.st_size < page * pages && !wal_exists(path) &&
        !beside(path, "-journal") && (fstat(fd, &st) || (uint64_t)st.st_size < page * pages)) {
        rc = tf_err_set(err, TF_E_FORMAT, "%s is truncated: %lld of %llu bytes are left", path,
                        (long long)st.st_size, (unsigned long long)(page * pages));
        goto out;
    }
out:
    close(fd);
    return rc;
}

/* ---- open and close ---- */

static struct tf_store *new_store(const char *path)
{
    struct tf_store *store = calloc(1, sizeof *store);
    if (store && !(store->path = strdup(path))) {
        free(store);
        store = NULL;
    }
    if (store)
        store->fd = -1;
    return store;
}

static void free_store(struct tf_store *store)
{
    sqlite3_close_v2(store->db);
    if (store->fd >= 0)
        close(store->fd);
    free(store->path);
    free(store);
}

static int open_db(struct tf_store *store, const char *name, int flags, struct tf_err *err)
{
    sqlite3_close_v2(store->db);
    store->db = NULL;
    if (sqlite3_open_v2(name, &store->db, flags, NULL) != SQLITE_OK)
        return store->db ? tf_db_error(store, err, "opening") : tf_db_memory(err);
    tf_db_patience(store, TF_DB_BUSY_MS);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return tf_db_exec(store, "PRAGMA cell_size_check=ON", err);
}

/* Makes SQLite read the schema, and so report what it does not like about the file. */
static int probe(struct tf_store *store, struct tf_err *err)
{
    return tf_db_exec(store, "SELECT max(run) FROM runs; SELECT count(*) FROM meta", err);
}

/* file:PATH?immutable=1 with what has a meaning in an URI escaped. NULL: no memory. */
static char *immutable_uri(const char *path)
{
    size_t len = strlen(path);
    char *uri = malloc(len * 3 + 32), *p = uri;
    if (!uri)
        return NULL;
    p += sprintf(p, "file:");
    for (size_t i = 0; i < len; i++) {
        if (path[i] == '%' || path[i] == '?' || path[i] == '#')
            p += sprintf(p, "%%%02X", path[i]);
        else
            *p++ = path[i];
    }
    strcpy(p, "?immutable=1");
    return uri;
}

int tf_db_format(struct tf_store *store, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(store, "PRAGMA user_version", &stmt, err);
    if (!rc && (rc = tf_db_step(store, stmt, err)) >= 0)
        rc = rc == 1 ? sqlite3_column_int(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    if (rc == 0 || rc > TF_FORMAT)
        rc = tf_err_set(err, TF_E_FORMAT, "%s has recording format %d now, which this timefork does not read",
                        store->path, rc);
    return rc;
}

/* The column `id` of format 1 is UNIQUE, which only a new table can change. Row numbers stay, and those that
 * were used once are still not used again. Format 3 has no other tables than 2, for `threads` is there when a
 * file is opened for writing: what is new is in the blocks of frame events. */
int tf_db_upgrade(struct tf_store *store, struct tf_err *err)
{
    static const char sql[] =
        "CREATE TABLE runs_2(" RUN_COLUMNS ");"
        "INSERT INTO runs_2(run, id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes,"
        " exit_status, exit_signal, pid, stack_limit, layout_digest, cal_tsc, cal_ns, python_version, exe,"
        " execfn, cwd, stdlib, kernel, host, python_file_digest, command, title, argv, envp)"
        " SELECT run, id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes,"
        " exit_status, exit_signal, pid, stack_limit, layout_digest, cal_tsc, cal_ns, python_version, exe,"
        " execfn, cwd, stdlib, kernel, host, python_file_digest, command, title, argv, envp FROM runs;"
        "DELETE FROM sqlite_sequence WHERE name = 'runs_2';"
        "INSERT INTO sqlite_sequence(name, seq) SELECT 'runs_2', seq FROM sqlite_sequence WHERE name = "
        "'runs';"
        "DROP TABLE runs;"
        "ALTER TABLE runs_2 RENAME TO runs;";
    char version[48];
    int rc = tf_db_format(store, err);
    if (rc < 0 || rc >= TF_FORMAT_WHOLE)
        return rc < 0 ? rc : 0;
    rc = tf_db_exec(store, "BEGIN IMMEDIATE", err);
    if (rc)
        return rc;
    int format = rc = tf_db_format(store, err); /* another recorder may have been faster */
    if (rc == 1)
        rc = tf_db_exec(store, sql, err);
    else if (rc > 0)
        rc = 0;
    snprintf(version, sizeof version, "PRAGMA user_version=%d; COMMIT",
             format > TF_FORMAT_WHOLE ? format : TF_FORMAT_WHOLE);
    if (!rc)
        rc = tf_db_exec(store, version, err);
    if (rc && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int tf_store_open(const char *path, struct tf_store **out, struct tf_err *err)
{
    char *uri = NULL;
    *out = NULL;
    int rc = judge(path, err);
    if (rc < 0)
        return rc;
    if (rc == 1)
        return access(path, F_OK) ? tf_err_set(err, TF_E_IO, "opening %s: %s", path, strerror(ENOENT))
                                  : tf_err_set(err, TF_E_FORMAT, "%s is empty, not a recording", path);
    struct tf_store *store = new_store(path);
    if (!store)
        return tf_db_memory(err);
    rc = open_db(store, path, SQLITE_OPEN_READONLY, err);
    if (!rc)
        rc = probe(store, err);
    if (rc && beside(path, "-journal")) {
        /* The recorder died, or its disk failed, in the middle of a transaction: SQLite takes it back, if it
         * may write. */
        struct tf_err again = {0};
        if (!open_db(store, path, SQLITE_OPEN_READWRITE, &again))
            probe(store, &again);
        rc = open_db(store, path, SQLITE_OPEN_READONLY, err);
        if (!rc)
            rc = probe(store, err);
    }
    if (rc == TF_E_IO && !wal_exists(path) && !beside(path, "-journal")) {
        /* A file in WAL mode needs a place for its shared memory; without a log it is complete in itself. */
        uri = immutable_uri(path);
        if (!uri) {
            rc = tf_db_memory(err);
            goto fail;
        }
        struct tf_err again = {0};
        if (!open_db(store, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, &again) && !probe(store, &again))
            rc = 0;
    }
    if (rc)
        goto fail;
    free(uri);
    *out = store;
    return 0;
fail:
    free(uri);
    free_store(store);
    return rc;
}

void tf_store_pause(struct tf_store *store)
{
    sqlite3_close_v2(store->db);
    store->db = NULL;
    if (store->fd >= 0)
        close(store->fd);
    store->fd = -1;
}

int tf_store_resume(struct tf_store *store, struct tf_err *err)
{
    struct tf_store *again;
    int rc = tf_store_open(store->path, &again, err);
    if (rc)
        return rc;
    free(store->path);
    *store = *again;
    free(again);
    return 0;
}

int tf_store_create(const char *path, struct tf_store **out, struct tf_err *err)
{
    *out = NULL;
    int missing = judge(path, err);
    if (missing < 0)
        return missing;
    struct tf_store *store = new_store(path);
    if (!store)
        return tf_db_memory(err);
    int rc = 0;
    store->writable = true;
    if (missing) {
        /* By our own hand, for the mode; the log files inherit it. */
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST) {
            int code = errno == ENOSPC || errno == EDQUOT ? TF_E_FULL : TF_E_IO;
            rc = tf_err_set(err, code, "making %s: %s", path, strerror(errno));
            goto fail;
        }
        store->created = fd >= 0;
        if (fd >= 0)
            close(fd);
    }
    rc = open_db(store, path, SQLITE_OPEN_READWRITE, err);
    /*
     * What was committed survives any death of this process. A power cut is another matter: then a file that
     * is made here is at first as lost as any other that was just written (tf_db_sync() says when not any
     * more): waiting for the disk for the sake of a file with nothing else in it would cost every start, and
     * the program's time when much comes from outside. A file that holds runs already is never put at risk.
     */
    if (!rc)
        rc = tf_db_exec(store, store->created ? "PRAGMA synchronous=OFF" : "PRAGMA synchronous=NORMAL", err);
    if (rc)
        goto fail;
    if (missing) {
        char sql[128];
        snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d;", TF_APPLICATION_ID,
                 TF_FORMAT_WHOLE);
        rc = tf_db_exec(store, "PRAGMA page_size=" PAGE_BYTES "; BEGIN IMMEDIATE", err);
        /* Another process may have been faster: then the id is there already. */
        sqlite3_stmt *stmt = NULL;
        int tables = 0;
        if (!rc)
            rc = tf_db_prepare(store, "SELECT count(*) FROM sqlite_schema", &stmt, err);
        if (!rc && (rc = tf_db_step(store, stmt, err)) == 1) {
            tables = sqlite3_column_int(stmt, 0);
            rc = 0;
        }
        sqlite3_finalize(stmt);
        if (!rc && !tables && !(rc = tf_db_exec(store, sql, err)))
            rc = tf_db_exec(store, schema, err);
        if (!rc)
            rc = tf_db_exec(store, "COMMIT", err);
        if (rc)
            goto fail;
    }
    rc = probe(store, err);
    if (!rc)
        rc = tf_db_exec(store, later_tables, err);
    if (!rc)
        rc = tf_db_exec(store, "PRAGMA journal_mode=WAL", err);
    if (rc)
        goto fail;
    tf_db_open_fd(store);
    tf_db_sync_begin(store);
    *out = store;
    return 0;
fail:
    if (store->created)
        unlink(path);
    store->created = false;
    free_store(store);
    return rc;
}

bool tf_db_single_file(struct tf_store *store)
{
    sqlite3_stmt *stmt = NULL;
    bool alone = false;
    tf_db_patience(store, 0);
    if (sqlite3_prepare_v2(store->db, "PRAGMA journal_mode=DELETE", -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        const char *mode = (const char *)sqlite3_column_text(stmt, 0);
        alone = mode && strcmp(mode, "delete") == 0;
    }
    sqlite3_finalize(stmt);
    tf_db_patience(store, TF_DB_BUSY_MS);
    return alone;
}

static bool holds_nothing(struct tf_store *store)
{
    sqlite3_stmt *stmt = NULL;
    bool nothing = false;
    if (sqlite3_prepare_v2(store->db, "SELECT count(*) FROM runs", -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        nothing = sqlite3_column_int64(stmt, 0) == 0;
    sqlite3_finalize(stmt);
    return nothing;
}

void tf_store_close(struct tf_store *store)
{
    if (!store)
        return;
    if (store->writable) {
        if (!sqlite3_get_autocommit(store->db))
            sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        /* A file that we made and that nothing was recorded to is litter. */
        if (!tf_db_single_file(store))
            sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        else if (store->created && holds_nothing(store))
            unlink(store->path);
        tf_db_sync_end(store);
    }
    free_store(store);
}

const char *tf_store_path(const struct tf_store *store)
{
    return store->path;
}
