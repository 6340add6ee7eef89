/*
 * runs.c: what is known of a run besides its events: the run itself, code objects, sources, marks, mapped
 * files.
 *
 * Texts are bytes: file names and environments need not be valid UTF-8, and SQLite hands them back unchanged.
 */
#include "store/db.h"
#include "store/images_local.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define RUN_COLUMNS                                                                                          \
    "run, id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes, exit_status, "            \
    "exit_signal, pid,"                                                                                      \
    " stack_limit, layout_digest, cal_tsc, cal_ns, python_version, exe, execfn, cwd, stdlib, kernel, host,"  \
    " python_file_digest, command, title, argv, envp, "
/* A row of format 1 is a run of one process. */
#define PROCESS_COLUMNS_1 "1, 0, 0, 0, 0, 0"
#define PROCESS_COLUMNS "process, parent, origin, fork_frame, fork_seq, fork_tick"
/* Of each run, the first process that there is. */
#define FIRST "NOT EXISTS (SELECT 1 FROM runs b WHERE b.id = runs.id AND b.process < runs.process)"

/* ---- runs ---- */

static void free_strings(char **v)
{
    if (v)
        free(v[0]);
    free(v);
}

void tf_run_clear(struct tf_run *run)
{
    free(run->python_version);
    free(run->exe);
    free(run->execfn);
    free(run->cwd);
    free(run->stdlib);
    free(run->kernel);
    free(run->host);
    free(run->python_file_digest);
    free(run->command);
    free(run->title);
    free_strings(run->argv);
    free_strings(run->envp);
    *run = (struct tf_run){0};
}

void tf_runs_free(struct tf_run *runs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tf_run_clear(&runs[i]);
    free(runs);
}

uint64_t tf_run_ns(const struct tf_run *run, uint64_t ticks)
{
    __uint128_t tsc = (__uint128_t)ticks << TF_TIME_UNIT_SHIFT;
    if (!run->cal_tsc)
        return (uint64_t)tsc;
    return (uint64_t)(tsc * run->cal_ns / run->cal_tsc);
}

/* A blob of strings, each with its NUL, as a NULL-terminated array; the strings are one allocation, freed by
 * v[0]. */
static char **split_strings(const char *blob, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += blob[i] == 0;
    if (len && blob[len - 1] != 0)
        n++;
    char **v = calloc(n + 1, sizeof *v);
    char *copy = n ? malloc(len + 1) : NULL;
    if (!v || (n && !copy)) {
        free(v);
        free(copy);
        return NULL;
    }
    if (!n)
        return v;
    memcpy(copy, blob, len);
    copy[len] = 0;
    for (size_t i = 0; i < n; i++) {
        v[i] = copy;
        copy += strlen(copy) + 1;
    }
    return v;
}

/* Where it begins. What makes no sense about that is said when the run is read, not when it is listed. */
static void load_base(struct tf_store *store, struct tf_run *run)
{
    struct tf_lineage lineage;
    struct tf_err ignored;
    if (!tf_lineage_load(store, run, &lineage, &ignored))
        run->base = (struct tf_base){.frame = lineage.frame,
                                     .offset = lineage.offset,
                                     .outside = lineage.seq,
                                     .ns = tf_run_ns(run, lineage.tick)};
    tf_lineage_free(&lineage);
}

static int load_run(sqlite3_stmt *stmt, struct tf_run *run, struct tf_err *err)
{
    const char *id = (const char *)sqlite3_column_text(stmt, 1);
    *run = (struct tf_run){
        .rowid = sqlite3_column_int64(stmt, 0),
        .state = sqlite3_column_int(stmt, 2) == TF_RUN_COMPLETE ? TF_RUN_COMPLETE : TF_RUN_INCOMPLETE,
        .started_unix_ns = sqlite3_column_int64(stmt, 3),
        .duration_ns = (uint64_t)sqlite3_column_int64(stmt, 4),
        .frames = (uint64_t)sqlite3_column_int64(stmt, 5),
        .outside = (uint64_t)sqlite3_column_int64(stmt, 6),
        .outside_bytes = (uint64_t)sqlite3_column_int64(stmt, 7),
        .exit_status = sqlite3_column_int(stmt, 8),
        .exit_signal = sqlite3_column_int(stmt, 9),
        .pid = (uint32_t)sqlite3_column_int64(stmt, 10),
        .stack_limit = (uint64_t)sqlite3_column_int64(stmt, 11),
        .layout_digest = (uint64_t)sqlite3_column_int64(stmt, 12),
        .cal_tsc = (uint64_t)sqlite3_column_int64(stmt, 13),
        .cal_ns = (uint64_t)sqlite3_column_int64(stmt, 14),
        .process = (uint32_t)sqlite3_column_int64(stmt, 27),
        .parent = (uint32_t)sqlite3_column_int64(stmt, 28),
        .fork_frame = (uint64_t)sqlite3_column_int64(stmt, 30),
        .fork_outside = (uint64_t)sqlite3_column_int64(stmt, 31),
    };
    run->fork_ns = tf_run_ns(run, (uint64_t)sqlite3_column_int64(stmt, 32));
    int origin = sqlite3_column_int(stmt, 29);
    run->origin = origin == TF_FORKED || origin == TF_EXECUTED ? (enum tf_origin)origin : TF_STARTED;
    snprintf(run->id, sizeof run->id, "%s", id ? id : "");
    char **texts[] = {&run->python_version, &run->exe,  &run->execfn, &run->cwd,     &run->stdlib,
                      &run->kernel,         &run->host, NULL,         &run->command, &run->title};
    texts[7] = &run->python_file_digest;
    bool ok = true;
    for (int i = 0; i < 10; i++)
        ok = (*texts[i] = tf_db_text(stmt, 15 + i)) && ok;
    const char *blob = sqlite3_column_blob(stmt, 25);
    run->argv = split_strings(blob, (size_t)sqlite3_column_bytes(stmt, 25));
    blob = sqlite3_column_blob(stmt, 26);
    run->envp = split_strings(blob, (size_t)sqlite3_column_bytes(stmt, 26));
    if (ok && run->argv && run->envp)
        return 0;
    tf_run_clear(run);
    return tf_db_memory(err);
}

/* Runs that meet a condition, oldest first; where_1: the condition for a file of format 1. The condition's ?1
 * is arg, if there is one, ?2 is number. */
static int load_runs(struct tf_store *store, const char *where, const char *where_1, const char *arg,
                     int64_t number, struct tf_run **runs, size_t *n, struct tf_err *err)
{
    char sql[1024];
    sqlite3_stmt *stmt;
    struct tf_run *v = NULL;
    size_t count = 0, cap = 0;

    *runs = NULL;
    *n = 0;
    int format = tf_db_format(store, err);
    if (format < 0)
        return format;
    snprintf(sql, sizeof sql, "SELECT " RUN_COLUMNS "%s FROM runs WHERE %s ORDER BY run",
             format == 1 ? PROCESS_COLUMNS_1 : PROCESS_COLUMNS, format == 1 ? where_1 : where);
    int rc = tf_db_prepare(store, sql, &stmt, err);
    if (rc)
        return rc;
    /* What a condition does not have is not bound. */
    if (arg)
        sqlite3_bind_text(stmt, 1, arg, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, number);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        if (count == cap) {
            cap = cap ? cap * 2 : 16;
            struct tf_run *more = realloc(v, cap * sizeof *v);
            if (!more) {
                rc = tf_db_memory(err);
                break;
            }
            v = more;
        }
        rc = load_run(stmt, &v[count], err);
        if (rc)
            break;
        count++;
        if (format > TF_FORMAT_WHOLE)
            load_base(store, &v[count - 1]);
        if (format > TF_FORMAT_BASES)
            v[count - 1].light = tf_light_of(store, v[count - 1].rowid);
    }
    sqlite3_finalize(stmt);
    if (rc) {
        tf_runs_free(v, count);
        return rc;
    }
    *runs = v;
    *n = count;
    return 0;
}

int tf_store_runs(struct tf_store *store, struct tf_run **runs, size_t *n, struct tf_err *err)
{
    return load_runs(store, FIRST, "1", NULL, 0, runs, n, err);
}

/* "ID (title), ID (title), ...": the newest ones that fit. */
static void candidates(const struct tf_run *runs, size_t n, char *buf, size_t size)
{
    size_t len = 0;
    buf[0] = 0;
    for (size_t i = n; i-- > 0 && len < size;)
        len +=
            (size_t)snprintf(buf + len, size - len, "%s%s (%s)", len ? ", " : "", runs[i].id, runs[i].title);
}

int tf_store_find_run(struct tf_store *store, const char *id, struct tf_run *out, struct tf_err *err)
{
    struct tf_run *runs;
    size_t n;
    char list[700], prefix[40];
    *out = (struct tf_run){0};
    int rc;
    if (!id)
        rc = load_runs(store, "run = (SELECT max(run) FROM runs WHERE " FIRST ")",
                       "run = (SELECT max(run) FROM runs)", NULL, 0, &runs, &n, err);
    else if (snprintf(prefix, sizeof prefix, "%s", id) >= (int)sizeof prefix)
        rc = load_runs(store, "0", "0", NULL, 0, &runs, &n, err);
    else {
        for (char *p = prefix; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        rc = load_runs(store, "substr(id, 1, length(?1)) = ?1 AND " FIRST, "substr(id, 1, length(?1)) = ?1",
                       prefix, 0, &runs, &n, err);
    }
    if (rc)
        return rc;
    if (n == 1) {
        *out = runs[0];
        free(runs);
        return 0;
    }
    if (n > 1 && *id) {
        candidates(runs, n, list, sizeof list);
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s begins the ids of %zu runs: %s", id, n, list);
        tf_runs_free(runs, n);
        return rc;
    }
    tf_runs_free(runs, n);
    rc = tf_store_runs(store, &runs, &n, err);
    if (rc)
        return rc;
    candidates(runs, n, list, sizeof list);
    if (n == 0)
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s holds no run", store->path);
    else
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s holds no run '%.64s'; it holds %s", store->path, id ? id : "",
                        list);
    tf_runs_free(runs, n);
    return rc;
}

int tf_store_processes(struct tf_store *store, const struct tf_run *run, struct tf_run **out, size_t *n,
                       struct tf_err *err)
{
    /* Their rows are written in the order of their numbers. */
    return load_runs(store, "id = ?1 AND process <> ?2", "id = ?1", run->id, TF_COMPLETING, out, n, err);
}

/* "1 to 5", or "1, 3, 4": as many as fit. */
static void numbers(const struct tf_run *runs, size_t n, char *buf, size_t size)
{
    size_t len = 0;
    buf[0] = 0;
    if (n > 1 && runs[0].process == 1 && runs[n - 1].process == n) {
        snprintf(buf, size, "1 to %zu", n);
        return;
    }
    for (size_t i = 0; i < n && len < size; i++)
        len += (size_t)snprintf(buf + len, size - len, "%s%u", i ? ", " : "", runs[i].process);
}

int tf_store_find_process(struct tf_store *store, const char *id, uint32_t process, struct tf_run *out,
                          struct tf_err *err)
{
    struct tf_run first, *runs;
    size_t n;
    char list[200];
    *out = (struct tf_run){0};
    int rc = tf_store_find_run(store, id, &first, err);
    if (rc)
        return rc;
    if (first.process == process) {
        *out = first;
        return 0;
    }
    rc = load_runs(store, "id = ?1 AND process = ?2", "0", first.id, process, &runs, &n, err);
    if (!rc && n == 1) {
        *out = runs[0];
        free(runs);
    } else if (!rc) {
        tf_runs_free(runs, n);
        rc = tf_store_processes(store, &first, &runs, &n, err);
        if (!rc) {
            numbers(runs, n, list, sizeof list);
            rc = tf_err_set(err, TF_E_NOTFOUND, "run %.8s has no process %u; it has %s", first.id, process,
                            list);
            tf_runs_free(runs, n);
        }
    }
    tf_run_clear(&first);
    return rc;
}

/* All processes of the run of ?1. */
#define ALL_OF "(SELECT run FROM runs WHERE id = (SELECT id FROM runs WHERE run = ?1))"

int tf_store_run_bytes(struct tf_store *store, int64_t rowid, uint64_t *bytes, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(
        store,
        "SELECT (SELECT coalesce(sum(length(data) + length(codes) + 100), 0) FROM frames WHERE run IN " ALL_OF
        ")"
        " + (SELECT coalesce(sum(length(data) + length(calls) + 80), 0) FROM outside WHERE run IN " ALL_OF ")"
        " + (SELECT coalesce(sum(length(file) + length(qualname) + 20), 0) FROM codes WHERE run IN " ALL_OF
        ")"
        " + (SELECT coalesce(sum(length(data) + 40), 0) FROM texts WHERE text IN"
        "    (SELECT text FROM sources WHERE run IN " ALL_OF ") AND text NOT IN"
        "    (SELECT text FROM sources WHERE run NOT IN " ALL_OF "))"
        " + (SELECT coalesce(sum(length(argv) + length(envp) + 500), 0) FROM runs WHERE run IN " ALL_OF ")",
        &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, rowid);
    rc = tf_db_step(store, stmt, err);
    if (rc == 1) {
        *bytes = (uint64_t)sqlite3_column_int64(stmt, 0);
        rc = 0;
    }
    sqlite3_finalize(stmt);
    uint64_t images = 0;
    if (!rc && !(rc = tf_images_run_bytes(store, rowid, &images, err)))
        *bytes += images;
    return rc;
}

/* Within the transaction that deletes: a recorder has its lock before others see its row. */
static int refuse_recorded(struct tf_store *store, int64_t rowid, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(store, "SELECT run, state, id FROM runs WHERE run IN " ALL_OF, &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, rowid);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        struct tf_run run = {.rowid = sqlite3_column_int64(stmt, 0),
                             .state = (enum tf_run_state)sqlite3_column_int(stmt, 1)};
        if (tf_store_is_recorded(store, &run)) {
            rc = tf_err_set(err, TF_E_USAGE,
                            "run %.8s of %s is being recorded: it can be removed when that has ended",
                            (const char *)sqlite3_column_text(stmt, 2), store->path);
            break;
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

int tf_store_delete_run(struct tf_store *store, int64_t rowid, struct tf_err *err)
{
    static const char *const tables[] = {"frames",  "outside", "marks", "mapped", "builds", "machine",
                                         "threads", "sources", "codes", "bases",  "light",  "runs"};
    if (!store->writable)
        return tf_err_set(err, TF_E_USAGE, "%s is open for reading only", store->path);
    int rc = tf_db_exec(store, "BEGIN IMMEDIATE", err);
    if (rc)
        return rc;
    int changes = 0;
    if (!(rc = refuse_recorded(store, rowid, err)))
        rc = tf_images_delete_run(store, rowid, err);
    for (size_t i = 0; !rc && i < sizeof tables / sizeof *tables; i++) {
        char sql[200];
        sqlite3_stmt *stmt;
        if (strcmp(tables[i], "light") == 0 && !tf_db_has_table(store, tables[i]))
            continue;
        snprintf(sql, sizeof sql, "DELETE FROM %s WHERE run IN " ALL_OF, tables[i]);
        rc = tf_db_prepare(store, sql, &stmt, err);
        if (rc)
            break;
        sqlite3_bind_int64(stmt, 1, rowid);
        rc = tf_db_run(store, stmt, err);
        sqlite3_finalize(stmt);
        changes = sqlite3_changes(store->db);
    }
    if (!rc && changes == 0)
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s holds no run number %lld", store->path, (long long)rowid);
    if (!rc)
        rc = tf_db_exec(store, "DELETE FROM texts WHERE text NOT IN (SELECT text FROM sources)", err);
    if (!rc)
        rc = tf_db_exec(store, "COMMIT", err);
    if (rc && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int tf_store_compact(struct tf_store *store, struct tf_err *err)
{
    if (!store->writable)
        return tf_err_set(err, TF_E_USAGE, "%s is open for reading only", store->path);
    return tf_db_exec(store, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)", err);
}

/* ---- code objects ---- */

void tf_codes_free(struct tf_codes *codes)
{
    for (size_t i = 0; i < codes->n; i++) {
        free((char *)codes->codes[i].file);
        free((char *)codes->codes[i].qualname);
    }
    free(codes->codes);
    *codes = (struct tf_codes){0};
}

/* Not the user's own code: the standard library (a folder python3.N, as sysconfig's scheme has it), installed
 * packages, what is frozen into the interpreter. */
static bool is_library(const char *file, const char *python_version)
{
    char folder[48];
    const char *dot = strchr(python_version, '.');
    int minor = dot ? (int)strcspn(dot + 1, ".abrc+") + 1 : 0;
    snprintf(folder, sizeof folder, "/python%.*s/", (int)(dot ? dot - python_version + minor : 0),
             python_version);
    return strncmp(file, "<frozen", 7) == 0 || (dot && strstr(file, folder)) ||
           strstr(file, "/site-packages/") || strstr(file, "/dist-packages/");
}

/* Adds the codes of one process of a lineage. */
static int add_codes(struct tf_store *store, sqlite3_stmt *stmt, const struct tf_ancestor *a,
                     const char *version, struct tf_codes *codes, size_t *cap, struct tf_err *err)
{
    int rc;
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, a->run);
    sqlite3_bind_int64(stmt, 2, a->codes);
    sqlite3_bind_int64(stmt, 3, a->end_codes);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        if (sqlite3_column_int64(stmt, 0) != (int64_t)codes->n)
            return tf_db_damaged(store, err, "code object %zu is missing", codes->n);
        if (codes->n == *cap) {
            struct tf_code *more = realloc(codes->codes, *cap * 2 * sizeof *more);
            if (!more)
                return tf_db_memory(err);
            codes->codes = more;
            *cap *= 2;
        }
        struct tf_code *code = &codes->codes[codes->n];
        *code = (struct tf_code){
            .id = (uint32_t)codes->n,
            .hash = (uint64_t)sqlite3_column_int64(stmt, 1),
            .first_line = (uint32_t)sqlite3_column_int64(stmt, 2),
            .flags = (uint32_t)sqlite3_column_int64(stmt, 3),
            .file = tf_db_text(stmt, 4),
            .qualname = tf_db_text(stmt, 5),
        };
        codes->n++;
        if (!code->file || !code->qualname)
            return tf_db_memory(err);
        const char *dot = strrchr(code->qualname, '.');
        code->name = dot && dot[1] ? dot + 1 : code->qualname;
        code->library = is_library(code->file, version);
    }
    if (rc == 0 && a->end_codes != UINT32_MAX && codes->n != a->end_codes + 1ull)
        rc = tf_db_damaged(store, err, "code object %zu is missing", codes->n);
    return rc;
}

int tf_store_codes(struct tf_store *store, const struct tf_run *run, struct tf_codes *out, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage;
    struct tf_codes codes = {0};
    size_t cap = 256;
    *out = codes;
    int rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = tf_db_prepare(store,
                           "SELECT id, hash, first_line, flags, file, qualname FROM codes"
                           " WHERE run = ?1 AND id > ?2 AND id <= ?3 ORDER BY id",
                           &stmt, err);
    if (rc)
        goto out;
    codes.codes = calloc(cap, sizeof *codes.codes);
    if (!codes.codes) {
        rc = tf_db_memory(err);
        goto out;
    }
    /* Entry 0: what was entered before recording began. */
    codes.n = 1;
    codes.codes[0].file = strdup("");
    codes.codes[0].qualname = strdup("?");
    codes.codes[0].name = codes.codes[0].qualname;
    if (!codes.codes[0].file || !codes.codes[0].qualname)
        rc = tf_db_memory(err);
    for (size_t i = 0; !rc && i < lineage.n; i++)
        rc = add_codes(store, stmt, &lineage.v[i], run->python_version ? run->python_version : "", &codes,
                       &cap, err);
out:
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    if (rc)
        tf_codes_free(&codes);
    *out = codes;
    return rc;
}

/* ---- sources ---- */

int tf_store_source(struct tf_store *store, const struct tf_run *run, const char *file, char **text,
                    size_t *len, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage;
    char *buf = NULL;
    *text = NULL;
    *len = 0;
    /* A process keeps the source with its first code object of the file: so a parent's counts if that was
     * before the fork. What was given with -c is kept at the start. */
    int rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = tf_db_prepare(store,
                           "SELECT t.len, t.data FROM sources s JOIN texts t USING(text)"
                           " WHERE s.run = ?1 AND s.file = ?2 AND (?3 OR s.file = '<string>' OR EXISTS"
                           " (SELECT 1 FROM codes c WHERE c.run = ?1 AND c.id <= ?4 AND c.file = ?2))",
                           &stmt, err);
    if (rc)
        goto out;
    sqlite3_bind_text(stmt, 2, file, -1, SQLITE_STATIC);
    for (size_t i = lineage.n; rc == 0 && i-- > 0;) {
        sqlite3_reset(stmt);
        sqlite3_bind_int64(stmt, 1, lineage.v[i].run);
        sqlite3_bind_int64(stmt, 3, i + 1 == lineage.n);
        sqlite3_bind_int64(stmt, 4, lineage.v[i].end_codes);
        rc = tf_db_step(store, stmt, err);
    }
    if (rc < 0)
        goto out;
    if (rc == 0) {
        rc = tf_err_set(err, TF_E_NOTFOUND, "the source of %s was not kept in the recording", file);
        goto out;
    }
    const void *data = sqlite3_column_blob(stmt, 1);
    size_t data_len = (size_t)sqlite3_column_bytes(stmt, 1), size = (size_t)sqlite3_column_int64(stmt, 0);
    if (!data || ZSTD_getFrameContentSize(data, data_len) != size || size > (1u << 30)) {
        rc = tf_db_damaged(store, err, "the source of %s does not decompress", file);
        goto out;
    }
    buf = malloc(size + 1);
    if (!buf) {
        rc = tf_db_memory(err);
        goto out;
    }
    if (ZSTD_decompress(buf, size, data, data_len) != size) {
        rc = tf_db_damaged(store, err, "the source of %s does not decompress", file);
        goto out;
    }
    buf[size] = 0;
    *text = buf;
    *len = size;
    buf = NULL;
    rc = 0;
out:
    free(buf);
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    return rc;
}

/* ---- marks and mapped files ---- */

void tf_marks_free(struct tf_mark_row *marks, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(marks[i].text);
    free(marks);
}

/* Adds those of one process of a lineage. */
static int add_marks(struct tf_store *store, sqlite3_stmt *stmt, const struct tf_ancestor *a,
                     struct tf_mark_row **v, size_t *count, struct tf_err *err)
{
    int rc;
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, a->run);
    sqlite3_bind_int64(stmt, 2, a->marks);
    sqlite3_bind_int64(stmt, 3, a->end_marks);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        struct tf_mark_row *more = realloc(*v, (*count + 1) * sizeof *more);
        char *text = more ? tf_db_text(stmt, 2) : NULL;
        if (more)
            *v = more;
        if (!text)
            return tf_db_memory(err);
        more[(*count)++] = (struct tf_mark_row){.frame = (uint64_t)sqlite3_column_int64(stmt, 0),
                                                .kind = (uint32_t)sqlite3_column_int64(stmt, 1),
                                                .text = text};
    }
    if (rc == 0 && a->end_marks != UINT32_MAX && *count != a->end_marks)
        rc = tf_db_damaged(store, err, "marks from before a fork are missing");
    return rc;
}

int tf_store_marks(struct tf_store *store, const struct tf_run *run, struct tf_mark_row **out, size_t *n,
                   struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage;
    struct tf_mark_row *v = NULL;
    size_t count = 0;
    *out = NULL;
    *n = 0;
    int rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = tf_db_prepare(store,
                           "SELECT frame, kind, text FROM marks WHERE run = ?1 AND seq > ?2 AND seq <= ?3"
                           " ORDER BY seq",
                           &stmt, err);
    for (size_t i = 0; !rc && i < lineage.n; i++)
        rc = add_marks(store, stmt, &lineage.v[i], &v, &count, err);
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    if (rc) {
        tf_marks_free(v, count);
        return rc;
    }
    *out = v;
    *n = count;
    return 0;
}

void tf_mapped_free(struct tf_mapped *mapped, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(mapped[i].path), free(mapped[i].build_id);
    free(mapped);
}

/* Adds those of one process of a lineage. */
static int add_mapped(struct tf_store *store, sqlite3_stmt *stmt, const struct tf_ancestor *a,
                      struct tf_mapped **v, size_t *count, struct tf_err *err)
{
    int rc;
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, a->run);
    sqlite3_bind_int64(stmt, 2, a->mapped);
    sqlite3_bind_int64(stmt, 3, a->end_mapped);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        struct tf_mapped *more = realloc(*v, (*count + 1) * sizeof *more);
        char *path = more ? tf_db_text(stmt, 0) : NULL, *build_id = path ? tf_db_text(stmt, 4) : NULL;
        if (more)
            *v = more;
        if (!build_id) {
            free(path);
            return tf_db_memory(err);
        }
        more[(*count)++] = (struct tf_mapped){.path = path,
                                              .build_id = build_id,
                                              .size = (uint64_t)sqlite3_column_int64(stmt, 1),
                                              .mtime_ns = sqlite3_column_int64(stmt, 2),
                                              .digest = (uint64_t)sqlite3_column_int64(stmt, 3)};
    }
    if (rc == 0 && a->end_mapped != UINT32_MAX && *count != a->end_mapped)
        rc = tf_db_damaged(store, err, "mapped files from before a fork are missing");
    return rc;
}

int tf_store_mapped(struct tf_store *store, const struct tf_run *run, struct tf_mapped **out, size_t *n,
                    struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage;
    struct tf_mapped *v = NULL;
    size_t count = 0;
    *out = NULL;
    *n = 0;
    int rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = tf_db_prepare(
            store,
            tf_db_has_table(store, "builds")
                ? "SELECT m.path, size, mtime_ns, digest, build_id FROM mapped m LEFT JOIN builds b"
                  " ON b.run = m.run AND b.path = m.path WHERE m.run = ?1 AND seq > ?2"
                  " AND seq <= ?3 ORDER BY seq"
                : "SELECT path, size, mtime_ns, digest, '' FROM mapped WHERE run = ?1 AND seq > ?2"
                  " AND seq <= ?3 ORDER BY seq",
            &stmt, err);
    for (size_t i = 0; !rc && i < lineage.n; i++)
        rc = add_mapped(store, stmt, &lineage.v[i], &v, &count, err);
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    if (rc) {
        tf_mapped_free(v, count);
        return rc;
    }
    *out = v;
    *n = count;
    return 0;
}
