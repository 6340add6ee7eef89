/*
 * drop.c: see drop.h.
 *
 * Invariants:
 *  1. A row of `bases` is never behind what is in the file, and never goes back.
 *  2. What lies in front of a base is not read by anybody (db.h, struct tf_lineage). So the base is set
 * first, and rows can then be deleted in portions; whatever a dead recorder has left of them is harmless.
 *  3. A process is deleted in one transaction, and before the base is set behind its fork: one of which
 *     something is missing would be damaged.
 */
#include "store/drop.h"
#include "store/block.h"
#include "store/images_local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Blocks of each kind that are deleted at a time: some 16 MB at most, for deleting has to look at each page
 * of what was large. */
#define PORTION "64"
#define DROP_MS 20 /* for other processes: the recorder has a program that waits */

/* ---- the place ---- */

struct place {
    uint64_t frame, offset, seq, tick, kept_offset, kept_seq;
    uint64_t ns; /* of tick */
};

/* Whose rows hold a place: of the process itself only. */
static const struct tf_ancestor *own(const struct tf_lineage *l)
{
    return &l->v[l->n - 1];
}

static int no_place(uint64_t frame, uint64_t offset, struct tf_err *err)
{
    return tf_err_set(
        err, TF_E_USAGE,
        "nothing can be dropped before frame event %llu and offset %llu: there is no such place",
        (unsigned long long)frame, (unsigned long long)offset);
}

/* The number of outside events before the place, and the first block that stays. */
static int find_outside(struct tf_store *store, const struct tf_run *run, const struct tf_lineage *l,
                        struct place *p, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    uint8_t *buf = NULL;
    int rc =
        tf_db_prepare(store,
                      "SELECT rowid, offset, len, first_seq, events, first_frame, last_frame FROM outside"
                      " WHERE run = ?1 AND offset >= ?2 AND offset < ?3 ORDER BY offset DESC LIMIT 1",
                      &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, run->rowid);
    sqlite3_bind_int64(stmt, 2, (int64_t)own(l)->offset);
    sqlite3_bind_int64(stmt, 3, (int64_t)p->offset);
    rc = tf_db_step(store, stmt, err);
    if (rc <= 0) {
        rc = rc ? rc : no_place(p->frame, p->offset, err);
        goto out;
    }
    struct tf_outside_block b = tf_outside_row(stmt, run->rowid);
    rc = 0;
    if (b.len > 1ull << 33 || b.offset + b.len < p->offset) {
        rc = no_place(p->frame, p->offset, err);
        goto out;
    }
    p->kept_offset = b.offset;
    p->kept_seq = b.first_seq - 1;
    p->seq = b.first_seq - 1;
    if (b.offset + b.len == p->offset) { /* the place is between two blocks */
        p->kept_offset = p->offset;
        p->kept_seq = p->seq = b.first_seq - 1 + b.events;
        goto out;
    }
    if (!(buf = malloc(b.len))) {
        rc = tf_db_memory(err);
        goto out;
    }
    rc = tf_store_outside_read(store, run, &b, buf, err);
    uint64_t at = b.offset;
    while (!rc && at < p->offset) {
        const struct tf_outside *e = (const void *)(buf + (at - b.offset));
        at += e->total_len;
        p->seq++;
        if (e->frame > p->frame || at > p->offset)
            rc = no_place(p->frame, p->offset, err);
    }
out:
    free(buf);
    sqlite3_finalize(stmt);
    return rc;
}

/* When it was: the last mark at or before it. */
static int find_tick(struct tf_store *store, const struct tf_run *run, struct place *p, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    struct tf_block b = {0};
    uint64_t no = tf_fork_block(p->frame);
    if (!p->frame)
        return 0;
    int rc =
        tf_db_prepare(store, "SELECT digest, data FROM frames WHERE run = ?1 AND block = ?2", &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, run->rowid);
    sqlite3_bind_int64(stmt, 2, (int64_t)no);
    rc = tf_db_step(store, stmt, err);
    if (rc == 1) {
        uint64_t digest = (uint64_t)sqlite3_column_int64(stmt, 0);
        const void *data = sqlite3_column_blob(stmt, 1);
        rc = tf_decode(data ? data : "", (size_t)sqlite3_column_bytes(stmt, 1), &digest, &b, err);
        if (!rc && p->frame - no * TF_BLOCK_FRAMES > b.n)
            rc = no_place(p->frame, p->offset, err);
    } else if (rc == 0) {
        rc = no_place(p->frame, p->offset, err);
    }
    p->tick = b.base_tick;
    for (size_t i = 0; !rc && i < b.n_marks && b.marks[i].index <= p->frame - no * TF_BLOCK_FRAMES; i++)
        p->tick = b.marks[i].tick;
    p->ns = tf_run_ns(run, p->tick);
    tf_block_free(&b);
    sqlite3_finalize(stmt);
    return rc;
}

/* ---- other processes of the run ---- */

struct other {
    int64_t run;
    uint32_t process, parent;
    bool forked, based, gone; /* gone: it had ended when the program came to the place */
    uint64_t fork_frame, fork_offset;
};
struct others {
    struct other *v;
    size_t n;
    uint32_t highest; /* number of a process, ever */
};

static int load_others(struct tf_store *store, const struct tf_run *run, const struct place *p,
                       struct others *out, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(store,
                           "SELECT run, process, parent, origin, fork_frame, fork_offset,"
                           " (state = 1 OR EXISTS (SELECT 1 FROM marks m WHERE m.run = r.run AND m.kind = 4))"
                           "  AND started_unix_ns + duration_ns <= ?2,"
                           " EXISTS (SELECT 1 FROM bases b WHERE b.run = r.run AND b.offset > 0),"
                           " coalesce((SELECT processes FROM bases b WHERE b.run = r.run), 0)"
                           " FROM runs r WHERE id = (SELECT id FROM runs WHERE run = ?1) ORDER BY process",
                           &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, run->rowid);
    sqlite3_bind_int64(stmt, 2, run->started_unix_ns + (int64_t)p->ns);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        struct other *v = realloc(out->v, (out->n + 1) * sizeof *v);
        if (!v) {
            rc = tf_db_memory(err);
            break;
        }
        out->v = v;
        v[out->n++] = (struct other){
            .run = sqlite3_column_int64(stmt, 0),
            .process = (uint32_t)sqlite3_column_int64(stmt, 1),
            .parent = (uint32_t)sqlite3_column_int64(stmt, 2),
            .forked = sqlite3_column_int(stmt, 3) == TF_FORKED,
            .fork_frame = (uint64_t)sqlite3_column_int64(stmt, 4),
            .fork_offset = (uint64_t)sqlite3_column_int64(stmt, 5),
            .gone = sqlite3_column_int(stmt, 6) != 0,
            .based = sqlite3_column_int(stmt, 7) != 0,
        };
        uint32_t ever = (uint32_t)sqlite3_column_int64(stmt, 8), process = v[out->n - 1].process;
        out->highest = ever > out->highest ? ever : out->highest;
        out->highest = process > out->highest ? process : out->highest;
    }
    sqlite3_finalize(stmt);
    if (rc)
        return rc;
    /* Numbers rise from parents to children: who needs a process is met before it. Of a forked process that
     * has a base the code objects are still its parent's. */
    for (size_t i = out->n; i-- > 0;) {
        struct other *o = &out->v[i];
        if (o->run == run->rowid || i == 0 || run->parent)
            o->gone = false;
        for (size_t k = i + 1; k < out->n && o->gone; k++)
            if (out->v[k].forked && out->v[k].parent == o->process && !out->v[k].gone)
                o->gone = false;
    }
    return 0;
}

/* May it be dropped, as far as children are concerned? */
static int check_children(const struct tf_run *run, const struct others *others, const struct place *p,
                          struct tf_err *err)
{
    for (size_t i = 0; i < others->n; i++) {
        const struct other *o = &others->v[i];
        if (o->forked && !o->gone && !o->based && o->parent == run->process && o->run != run->rowid &&
            (p->frame > o->fork_frame || p->offset > o->fork_offset))
            return tf_err_set(err, TF_E_USAGE,
                              "what was before frame event %llu cannot be dropped: process %u, which was "
                              "forked after %llu, still needs it",
                              (unsigned long long)p->frame, o->process, (unsigned long long)o->fork_frame);
    }
    return 0;
}

/* ---- dropping ---- */

/* A statement with up to two numbers. *changes: rows that it took. */
static int delete_rows(struct tf_store *store, const char *sql, int64_t a, uint64_t b, int *changes,
                       struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(store, sql, &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, a);
    sqlite3_bind_int64(stmt, 2, (int64_t)b); /* out of range where there is no ?2: ignored */
    rc = tf_db_step(store, stmt, err);
    *changes = sqlite3_changes(store->db);
    sqlite3_finalize(stmt);
    return rc;
}

static int set_base(struct tf_store *store, const struct tf_run *run, const struct place *p, uint32_t highest,
                    struct tf_err *err)
{
    sqlite3_stmt *stmt;
    char version[40];
    int format = tf_db_format(store, err);
    int rc = format < 0 ? format : 0;
    snprintf(version, sizeof version, "PRAGMA user_version=%d", TF_FORMAT_BASES);
    if (!rc && format < TF_FORMAT_BASES)
        rc = tf_db_exec(store, version, err);
    if (!rc)
        rc = tf_db_prepare(store, "INSERT OR REPLACE INTO bases VALUES(?1,?2,?3,?4,?5,?6,?7,?8)", &stmt, err);
    if (rc)
        return rc;
    const uint64_t values[] = {p->frame, p->offset, p->seq, p->tick, p->kept_offset, p->kept_seq, highest};
    sqlite3_bind_int64(stmt, 1, run->rowid);
    for (int i = 0; i < 7; i++)
        sqlite3_bind_int64(stmt, i + 2, (int64_t)values[i]);
    rc = tf_db_step(store, stmt, err);
    sqlite3_finalize(stmt);
    return rc;
}

/* Numbers of processes that are removed must not be used again. */
static int keep_highest(struct tf_store *store, const struct tf_run *run, uint32_t highest,
                        struct tf_err *err)
{
    int ignored;
    int rc = delete_rows(store, "INSERT OR IGNORE INTO bases VALUES(?1,0,0,0,0,0,0,0)", run->rowid, 0,
                         &ignored, err);
    return rc ? rc
              : delete_rows(store, "UPDATE bases SET processes = max(processes, ?2) WHERE run = ?1",
                            run->rowid, highest, &ignored, err);
}

static int delete_process(struct tf_store *store, int64_t run, struct tf_err *err)
{
    static const char *const tables[] = {"frames",  "outside", "marks", "mapped", "builds", "machine",
                                         "threads", "sources", "codes", "bases",  "runs"};
    int changes, rc = tf_images_delete_before(store, run, UINT64_MAX, err);
    for (size_t i = 0; !rc && i < sizeof tables / sizeof *tables; i++) {
        char sql[100];
        snprintf(sql, sizeof sql, "DELETE FROM %s WHERE run = ?1", tables[i]);
        rc = delete_rows(store, sql, run, 0, &changes, err);
    }
    return rc ? rc
              : delete_rows(store, "DELETE FROM texts WHERE text NOT IN (SELECT text FROM sources)", 0, 0,
                            &changes, err);
}

/* Processes that are gone, then the base, then rows in front of it. 1: that was all; 0: there is more. */
static int drop_portion(struct tf_store *store, const struct tf_run *run, bool new_base,
                        const struct others *others, const struct place *p, struct tf_err *err)
{
    int frames = 0, outside = 0, ignored, rc;
    for (size_t i = others->n; i-- > 0;)
        if (others->v[i].gone) {
            rc = keep_highest(store, run, others->highest, err);
            return rc ? rc : delete_process(store, others->v[i].run, err);
        }
    rc = new_base ? set_base(store, run, p, others->highest, err) : 0;
    if (!rc)
        rc = delete_rows(store,
                         "DELETE FROM frames WHERE rowid IN (SELECT rowid FROM frames WHERE run = ?1 AND"
                         " block < ?2 ORDER BY block LIMIT " PORTION ")",
                         run->rowid, tf_fork_block(p->frame), &frames, err);
    if (!rc)
        rc = delete_rows(store,
                         "DELETE FROM outside WHERE rowid IN (SELECT rowid FROM outside WHERE run = ?1 AND"
                         " offset < ?2 ORDER BY offset LIMIT " PORTION ")",
                         run->rowid, p->kept_offset, &outside, err);
    if (!rc)
        rc = delete_rows(store,
                         "DELETE FROM threads WHERE run = ?1 AND ended_seq <= ?2 AND number > 0 AND"
                         " NOT EXISTS (SELECT 1 FROM runs c, runs r WHERE r.run = ?1 AND c.id = r.id AND"
                         "  c.parent = r.process AND c.origin = 1)",
                         run->rowid, p->seq, &ignored, err);
    if (rc)
        return rc;
    return frames < atoi(PORTION) && outside < atoi(PORTION);
}

/* Finds the place, and the processes for which it matters. 1: it is a new base; 0: the base is there already,
 * or behind it, and *p is that one. */
static int prepare(struct tf_store *store, const struct tf_run *run, uint64_t frame, uint64_t offset,
                   struct place *p, struct others *others, struct tf_err *err)
{
    struct tf_lineage l;
    bool based = false;
    *p = (struct place){.frame = frame, .offset = offset};
    int rc = tf_lineage_load(store, run, &l, err);
    if (rc)
        return rc;
    if (frame <= l.frame && offset <= l.offset) {
        *p = (struct place){.frame = l.frame,
                            .offset = l.offset,
                            .seq = l.seq,
                            .tick = l.tick,
                            .kept_offset = l.kept_offset,
                            .kept_seq = l.kept_seq,
                            .ns = tf_run_ns(run, l.tick)};
        based = true;
    } else if (frame < l.frame || offset < l.offset || frame < own(&l)->frame ||
               offset <= own(&l)->fork_offset) {
        rc = no_place(frame, offset, err);
    } else {
        rc = find_outside(store, run, &l, p, err);
        if (!rc)
            rc = find_tick(store, run, p, err);
    }
    tf_lineage_free(&l);
    if (!rc)
        rc = load_others(store, run, p, others, err);
    return rc ? rc : !based;
}

/* The run as it is now: its calibration, and whether it is there. */
static int refresh(struct tf_store *store, const struct tf_run *run, struct tf_run *now, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(
        store, "SELECT cal_tsc, cal_ns, process, parent, origin, started_unix_ns FROM runs WHERE run = ?1",
        &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, run->rowid);
    rc = tf_db_step(store, stmt, err);
    if (rc == 1) {
        *now = (struct tf_run){.rowid = run->rowid,
                               .cal_tsc = (uint64_t)sqlite3_column_int64(stmt, 0),
                               .cal_ns = (uint64_t)sqlite3_column_int64(stmt, 1),
                               .process = (uint32_t)sqlite3_column_int64(stmt, 2),
                               .parent = (uint32_t)sqlite3_column_int64(stmt, 3),
                               .origin = (enum tf_origin)sqlite3_column_int(stmt, 4),
                               .started_unix_ns = sqlite3_column_int64(stmt, 5)};
        rc = 0;
    } else if (rc == 0) {
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s holds no run number %lld any more", store->path,
                        (long long)run->rowid);
    }
    sqlite3_finalize(stmt);
    return rc;
}

int tf_store_drop_before(struct tf_store *store, const struct tf_run *run, uint64_t frame, uint64_t offset,
                         struct tf_err *err)
{
    struct place place;
    struct others others = {0};
    struct tf_run now;
    int done = 0;
    if (!store->writable || !sqlite3_get_autocommit(store->db))
        return tf_err_set(err, TF_E_USAGE, "%s cannot be written to now", store->path);
    /* Debian's SQLite overwrites what is deleted, which would write everything a second time. */
    int rc = tf_db_exec(store, "PRAGMA secure_delete=FAST", err);
    if (rc)
        return rc;
    tf_db_patience(store, DROP_MS);
    rc = tf_db_exec(store, "BEGIN IMMEDIATE", err);
    if (!rc)
        rc = refresh(store, run, &now, err);
    if (!rc) {
        rc = prepare(store, &now, frame, offset, &place, &others, err);
        if (rc == 1)
            rc = check_children(&now, &others, &place, err) ? err->code : 1;
        if (rc >= 0)
            rc = done = drop_portion(store, &now, rc == 1, &others, &place, err);
    }
    if (rc >= 0)
        rc = tf_db_exec(store, "COMMIT", err);
    bool busy = rc && tf_db_busy(store);
    if (rc && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    tf_db_patience(store, TF_DB_BUSY_MS);
    free(others.v);
    if (busy)
        return 0;
    return rc ? rc : done;
}

int tf_store_may_drop(struct tf_store *store, const struct tf_run *run, uint64_t frame, uint64_t offset,
                      struct tf_err *err)
{
    struct place place;
    struct others others = {0};
    struct tf_run now = {0};
    bool began;
    tf_db_moment_begin(store, &began);
    int rc = refresh(store, run, &now, err);
    if (!rc)
        rc = prepare(store, &now, frame, offset, &place, &others, err);
    tf_db_moment_end(store, began);
    if (rc >= 0)
        rc = rc == 0 || !check_children(&now, &others, &place, err);
    free(others.v);
    return rc;
}

int tf_store_drop_images(struct tf_store *store, const struct tf_run *run, struct tf_err *err)
{
    struct tf_lineage l = {0};
    if (!store->writable || !sqlite3_get_autocommit(store->db))
        return tf_err_set(err, TF_E_USAGE, "%s cannot be written to now", store->path);
    tf_db_patience(store, DROP_MS);
    int rc = tf_db_exec(store, "BEGIN IMMEDIATE", err);
    if (!rc)
        rc = tf_lineage_load(store, run, &l, err);
    if (!rc)
        rc = tf_images_delete_before(store, run->rowid, l.offset, err);
    if (!rc)
        rc = tf_db_exec(store, "COMMIT", err);
    bool busy = rc && tf_db_busy(store);
    if (rc && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    tf_db_patience(store, TF_DB_BUSY_MS);
    tf_lineage_free(&l);
    return busy ? 0 : rc ? rc : 1;
}

/* Adds the rows of a statement (their end, their size) to the places behind them; both rise. */
static int add_sizes(struct tf_store *store, const struct tf_run *run, const char *sql, size_t n,
                     const uint64_t *ends, uint64_t *bytes, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    uint64_t sum = 0;
    size_t i = 0;
    int rc = tf_db_prepare(store, sql, &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, run->rowid);
    while (i < n && (rc = tf_db_step(store, stmt, err)) == 1) {
        uint64_t end = (uint64_t)sqlite3_column_int64(stmt, 0);
        for (; i < n && ends[i] < end; i++)
            bytes[i] += sum;
        sum += (uint64_t)sqlite3_column_int64(stmt, 1);
    }
    for (; i < n; i++)
        bytes[i] += sum;
    sqlite3_finalize(stmt);
    return rc < 0 ? rc : 0;
}

int tf_store_bytes_before(struct tf_store *store, const struct tf_run *run, const struct tf_place_of *places,
                          size_t n, uint64_t *bytes, struct tf_err *err)
{
    uint64_t *ends = calloc(n + 1, sizeof *ends);
    if (!ends)
        return tf_db_memory(err);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = 0;
        ends[i] = tf_fork_block(places[i].frame);
    }
    int rc = add_sizes(store, run,
                       "SELECT block + 1, length(data) + length(codes) + 100 FROM frames WHERE run = ?1"
                       " ORDER BY block",
                       n, ends, bytes, err);
    for (size_t i = 0; i < n; i++)
        ends[i] = places[i].offset;
    if (!rc)
        rc = add_sizes(store, run,
                       "SELECT offset + len, length(data) + length(calls) + 80 FROM outside WHERE run = ?1"
                       " ORDER BY offset",
                       n, ends, bytes, err);
    free(ends);
    return rc;
}
