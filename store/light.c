/*
 * light.c: runs that were recorded without frame events (record --light), and their completion.
 *
 * The table `light` has a row for each of them. While it is completed there is a second row of `runs` with
 * its id, of process TF_COMPLETING, which nobody is shown: what the completion writes belongs to that. At the
 * end one transaction puts it in the place of what the light recording had. A completion that was cut off
 * leaves such a row behind; the next one removes it first.
 */
#include "store/ingest.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

/* What a completion writes anew. The rest (mapped files, machine, sources) stays as it was recorded. */
static const char *const derived[] = {"frames", "outside", "codes", "marks", "threads"};
static const char *const kept[] = {"mapped", "builds", "machine", "sources"};

int tf_light_mark(struct tf_store *store, int64_t rowid, struct tf_err *err)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "BEGIN IMMEDIATE;"
             "CREATE TABLE IF NOT EXISTS light(run INTEGER PRIMARY KEY, completed INTEGER NOT NULL);"
             "INSERT INTO light VALUES(%lld, 0); PRAGMA user_version=%d; COMMIT",
             (long long)rowid, TF_FORMAT);
    int rc = tf_db_exec(store, sql, err);
    if (rc && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

enum tf_light tf_light_of(struct tf_store *store, int64_t rowid)
{
    sqlite3_stmt *stmt;
    enum tf_light light = TF_LIGHT_NOT;
    if (!tf_db_has_table(store, "light") ||
        tf_db_prepare(store, "SELECT completed FROM light WHERE run = ?1", &stmt, NULL))
        return light;
    sqlite3_bind_int64(stmt, 1, rowid);
    if (tf_db_step(store, stmt, NULL) == 1)
        light = sqlite3_column_int(stmt, 0) ? TF_LIGHT_COMPLETED : TF_LIGHT_ONLY;
    sqlite3_finalize(stmt);
    return light;
}

_Static_assert(TF_MARK_NOTE == 2 && TF_MARK_STOPPED == 4, "tf_store_complete()");

/* A statement with the row of a run as ?1, and another number as ?2 where there is one. */
static int exec_with(struct tf_store *store, const char *sql, int64_t a, int64_t b, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(store, sql, &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, a);
    sqlite3_bind_int64(stmt, 2, b); /* out of range where there is no ?2: ignored */
    rc = tf_db_run(store, stmt, err);
    sqlite3_finalize(stmt);
    return rc;
}

/* Deletes the rows of a run (where) from tables. */
static int delete_from(struct tf_store *store, const char *const *tables, size_t n, const char *where,
                       int64_t rowid, struct tf_err *err)
{
    char sql[300];
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++) {
        snprintf(sql, sizeof sql, "DELETE FROM %s WHERE %s", tables[i], where);
        rc = exec_with(store, sql, rowid, 0, err);
    }
    return rc;
}

#define N(array) (sizeof(array) / sizeof *(array))
#define LEFT                                                                                                 \
    "run IN (SELECT run FROM runs WHERE id = (SELECT id FROM runs WHERE run = ?1) AND process = 2147483647)"
_Static_assert(TF_COMPLETING == 2147483647, "LEFT");

static int end_transaction(struct tf_store *store, int rc, struct tf_err *err)
{
    if (!rc)
        rc = tf_db_exec(store, "COMMIT", err);
    if (rc && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* The hidden row; what an earlier completion has left goes. */
static int begin_row(struct tf_store *store, int64_t light, int64_t *rowid, struct tf_err *err)
{
    static const char *const runs[] = {"runs"};
    int rc = tf_db_exec(store, "BEGIN IMMEDIATE", err);
    if (rc)
        return rc;
    rc = delete_from(store, derived, N(derived), LEFT, light, err);
    if (!rc)
        rc = delete_from(store, kept, N(kept), LEFT, light, err);
    if (!rc)
        rc = delete_from(store, runs, 1, LEFT, light, err);
#define SAME                                                                                                 \
    "id, started_unix_ns, pid, stack_limit, layout_digest, cal_tsc, cal_ns, python_version, exe, execfn,"    \
    " cwd, stdlib, kernel, host, python_file_digest, command, title, argv, envp"
    if (!rc)
        rc = exec_with(store,
                       "INSERT INTO runs(" SAME ", state, duration_ns, frames, outside, outside_bytes,"
                       " exit_status, exit_signal, process) SELECT " SAME
                       ", 0, 0, 0, 0, 0, -1, 0, ?2 FROM runs WHERE run = ?1",
                       light, TF_COMPLETING, err);
#undef SAME
    *rowid = sqlite3_last_insert_rowid(store->db);
    return end_transaction(store, rc, err);
}

/* Sources that were kept while the program ran are not looked at again. */
static int know_sources(struct tf_ingest *in, int64_t light, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(in->store, "SELECT file FROM sources WHERE run = ?1", &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, light);
    while ((rc = tf_db_step(in->store, stmt, err)) == 1)
        if ((rc = tf_writer_know(&in->w, (const char *)sqlite3_column_text(stmt, 0), err)))
            break;
    sqlite3_finalize(stmt);
    return rc;
}

int ingest_complete(struct tf_ingest *in, const struct tf_run *light, struct tf_err *err)
{
    int rc = tf_db_upgrade(in->store, err);
    if (!rc)
        rc = begin_row(in->store, light->rowid, &in->run.rowid, err);
    if (rc)
        return rc;
    in->w.run = in->run.rowid;
    in->w.unchanged_since = light->started_unix_ns;
    tf_db_hold(in->store, in->run.rowid);
    memcpy(in->run.id, light->id, sizeof in->run.id);
    in->run.process = TF_COMPLETING;
    in->threads.main_tid = (int32_t)light->pid;
    in->timed = true; /* its times are those of the light recording, from its start on */
    in->started = true;
    if (!(in->run.cwd = strdup(light->cwd)))
        return tf_db_memory(err);
    return know_sources(in, light->rowid, err);
}

int tf_store_complete(struct tf_store *store, int64_t light, int64_t completion, struct tf_err *err)
{
    char sql[300];
    int rc = tf_db_exec(store, "BEGIN IMMEDIATE", err);
    if (rc)
        return rc;
    /* What the recorder has noted, which is not in the stream: notes, and that it could not go on. */
    rc = exec_with(
        store,
        "INSERT INTO marks SELECT ?2, seq + (SELECT coalesce(max(seq), 0) FROM marks WHERE run = ?2),"
        " CASE kind WHEN 4 THEN (SELECT frames FROM runs WHERE run = ?2) ELSE 0 END, kind, text"
        " FROM marks WHERE run = ?1 AND kind IN (2, 4)",
        light, completion, err);
    if (!rc)
        rc = delete_from(store, derived, N(derived), "run = ?1", light, err);
    for (size_t i = 0; !rc && i < N(derived); i++) {
        snprintf(sql, sizeof sql, "UPDATE %s SET run = ?1 WHERE run = ?2", derived[i]);
        rc = exec_with(store, sql, light, completion, err);
    }
    if (!rc)
        rc = exec_with(store,
                       "INSERT OR IGNORE INTO sources SELECT ?1, file, text FROM sources WHERE run = ?2",
                       light, completion, err);
    if (!rc)
        rc = delete_from(store, kept, N(kept), "run = ?1", completion, err);
    if (!rc)
        rc = exec_with(store,
                       "UPDATE runs SET (frames, outside, outside_bytes) ="
                       " (SELECT frames, outside, outside_bytes FROM runs WHERE run = ?2) WHERE run = ?1",
                       light, completion, err);
    if (!rc)
        rc = exec_with(store, "DELETE FROM runs WHERE run = ?1", completion, 0, err);
    if (!rc)
        rc = exec_with(store, "UPDATE light SET completed = 1 WHERE run = ?1", light, 0, err);
    return end_transaction(store, rc, err);
}

/* ---- where the sources are, while there is no code object to name them ---- */

/* The path of a call that opens a file; NULL: it is none, or it failed. */
static const char *opened(const struct tf_rec_outside *rec, const uint8_t *args, uint32_t *len)
{
    size_t at = rec->call == SYS_openat ? 8 : 0;
    if ((rec->call != SYS_openat && rec->call != SYS_open) || rec->result < 0 || rec->args_len < at + 8)
        return NULL;
    memcpy(len, args + at, sizeof *len);
    return *len <= rec->args_len - at - 8 ? (const char *)args + at + 8 : NULL;
}

int ingest_light_source(struct tf_ingest *in, const struct tf_rec_outside *rec, const uint8_t *args,
                        struct tf_err *err)
{
    char file[4096];
    uint32_t len = 0;
    const char *path = opened(rec, args, &len);
    if (!path || len >= sizeof file || len < 4)
        return 0;
    memcpy(file, path, len);
    file[len] = 0;
    if (strcmp(file + len - 3, ".py") == 0)
        return tf_writer_source(&in->w, file, in->opts.child_proc, in->run.cwd, err);
    /* FOLDER/__pycache__/NAME.cpython-312.pyc is made of FOLDER/NAME.py */
    static const char cache[] = "__pycache__/";
    char *name = strrchr(file, '/'), *dot = name ? strchr(name, '.') : NULL;
    if (strcmp(file + len - 4, ".pyc") != 0 || !dot || name + 1 - file < (long)sizeof cache - 1)
        return 0;
    char *folder = name + 1 - (sizeof cache - 1);
    if (memcmp(folder, cache, sizeof cache - 1) != 0)
        return 0;
    strcpy(dot, ".py");
    memmove(folder, name + 1, strlen(name + 1) + 1);
    return tf_writer_source(&in->w, file, in->opts.child_proc, in->run.cwd, err);
}
