/*
 * lineage.c: which processes a run's rows are with (db.h, struct tf_lineage).
 *
 * Whatever the file says, the result makes sense: the chain of parents ends, for their numbers fall, and what
 * one process gives begins where the one before it stops. A parent that is not there any more is an error:
 * the process cannot be read without it.
 */
#include "store/db.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tf_lineage_free(struct tf_lineage *lineage)
{
    free(lineage->v);
    *lineage = (struct tf_lineage){0};
}

/* A number from the file that is to fit. */
static bool column_u32(sqlite3_stmt *stmt, int column, uint32_t *out)
{
    int64_t value = sqlite3_column_int64(stmt, column);
    *out = (uint32_t)value;
    return value >= 0 && value < UINT32_MAX;
}

static bool column_u63(sqlite3_stmt *stmt, int column, uint64_t *out)
{
    int64_t value = sqlite3_column_int64(stmt, column);
    *out = (uint64_t)value;
    return value >= 0;
}

/* The row is that of a process: adds it. *parent is 0 if the lineage begins here. */
static int add(struct tf_store *store, sqlite3_stmt *stmt, struct tf_lineage *out, uint32_t *parent,
               struct tf_err *err)
{
    struct tf_ancestor *v = realloc(out->v, (out->n + 1) * sizeof *v);
    if (!v)
        return tf_db_memory(err);
    out->v = v;
    struct tf_ancestor *a = &v[out->n];
    *a = (struct tf_ancestor){.run = sqlite3_column_int64(stmt, 0),
                              .end_block = UINT64_MAX,
                              .end_offset = UINT64_MAX,
                              .end_seq = UINT64_MAX,
                              .end_codes = UINT32_MAX,
                              .end_marks = UINT32_MAX,
                              .end_mapped = UINT32_MAX};
    bool fits = column_u32(stmt, 1, &a->process) && column_u32(stmt, 10, &a->pid);
    *parent = 0;
    if (sqlite3_column_int(stmt, 3) == TF_FORKED) {
        fits = fits && column_u32(stmt, 2, parent) && column_u63(stmt, 4, &a->frame) &&
               column_u63(stmt, 5, &a->fork_offset) && column_u63(stmt, 6, &a->seq) &&
               column_u32(stmt, 7, &a->codes) && column_u32(stmt, 8, &a->marks) &&
               column_u32(stmt, 9, &a->mapped) && *parent > 0 && *parent < a->process;
        a->first_block = tf_fork_block(a->frame);
        a->offset = a->fork_offset;
    }
    if (!fits)
        return tf_db_damaged(store, err, "what is known of process %u of a run makes no sense", a->process);
    out->n++;
    return 0;
}

/* The eldest comes last here: turns them round, and lets each end where the next one begins. */
static int order(struct tf_store *store, struct tf_lineage *l, struct tf_err *err)
{
    for (size_t i = 0, k = l->n; i + 1 < k; i++) {
        struct tf_ancestor swap = l->v[i];
        l->v[i] = l->v[--k];
        l->v[k] = swap;
    }
    for (size_t i = 0; i + 1 < l->n; i++) {
        struct tf_ancestor *a = &l->v[i];
        const struct tf_ancestor *b = a + 1;
        if (b->frame < a->frame || b->offset < a->offset || b->seq < a->seq || b->codes < a->codes ||
            b->marks < a->marks || b->mapped < a->mapped)
            return tf_db_damaged(store, err, "process %u of a run begins before its parent, process %u",
                                 b->process, a->process);
        a->end_block = b->first_block;
        a->end_offset = b->offset;
        a->end_seq = b->seq;
        a->end_codes = b->codes;
        a->end_marks = b->marks;
        a->end_mapped = b->mapped;
    }
    return 0;
}

/* What a lineage gives when the process at `at` has a base: its row is that of the statement. */
static int begin_at_base(struct tf_store *store, sqlite3_stmt *stmt, struct tf_lineage *l, size_t at,
                         struct tf_err *err)
{
    const struct tf_ancestor *own = &l->v[at];
    bool fits = column_u63(stmt, 0, &l->frame) && column_u63(stmt, 1, &l->offset) &&
                column_u63(stmt, 2, &l->seq) && column_u63(stmt, 3, &l->tick) &&
                column_u63(stmt, 4, &l->kept_offset) && column_u63(stmt, 5, &l->kept_seq);
    l->kept_block = tf_fork_block(l->frame);
    if (!fits || l->frame < own->frame || l->kept_offset < own->offset || l->kept_seq < own->seq ||
        l->offset < l->kept_offset || l->seq < l->kept_seq || l->kept_block > own->end_block ||
        l->kept_offset > own->end_offset || l->kept_seq > own->end_seq ||
        (at + 1 < l->n && (l->frame > l->v[at + 1].frame || l->offset > l->v[at + 1].fork_offset)))
        return tf_db_damaged(store, err, "where process %u of a run begins makes no sense", own->process);
    for (size_t i = 0; i <= at; i++) {
        struct tf_ancestor *a = &l->v[i];
        a->first_block = l->kept_block;
        a->offset = l->kept_offset;
        a->seq = l->kept_seq;
        if (i < at) { /* nothing */
            a->end_block = l->kept_block;
            a->end_offset = l->kept_offset;
            a->end_seq = l->kept_seq;
        }
    }
    return 0;
}

/* The base of a lineage: of the youngest process that has one. */
static int find_base(struct tf_store *store, struct tf_lineage *l, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = 0;
    if (!tf_db_has_table(store, "bases"))
        return 0;
    rc = tf_db_prepare(store,
                       "SELECT frame, offset, seq, tick, kept_offset, kept_seq FROM bases WHERE run = ?1",
                       &stmt, err);
    for (size_t i = l->n; rc == 0 && i-- > 0;) {
        sqlite3_reset(stmt);
        sqlite3_bind_int64(stmt, 1, l->v[i].run);
        rc = tf_db_step(store, stmt, err);
        if (rc != 1)
            continue;
        rc = begin_at_base(store, stmt, l, i, err);
        break;
    }
    sqlite3_finalize(stmt);
    return rc;
}

int tf_db_missing(struct tf_store *store, const struct tf_lineage *lineage, struct tf_err *err,
                  const char *fmt, ...)
{
    char what[256];
    va_list ap;
    struct tf_lineage now = *lineage;
    struct tf_err ignored;
    now.v = malloc((lineage->n + 1) * sizeof *now.v);
    if (!now.v)
        return tf_db_memory(err);
    memcpy(now.v, lineage->v, lineage->n * sizeof *now.v);
    bool dropped =
        !find_base(store, &now, &ignored) && (now.frame > lineage->frame || now.offset > lineage->offset);
    free(now.v);
    if (dropped)
        return tf_err_set(
            err, TF_E_NOTFOUND,
            "frame events up to %llu were dropped from %s while it was read: it is being recorded "
            "with a limit; try again",
            (unsigned long long)now.frame, store->path);
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return tf_db_damaged(store, err, "%s", what);
}

int tf_lineage_load(struct tf_store *store, const struct tf_run *run, struct tf_lineage *out,
                    struct tf_err *err)
{
    sqlite3_stmt *first = NULL, *next = NULL;
    uint32_t parent, process;
    *out = (struct tf_lineage){0};
    /* Not asked of the file: one of format 1 has no such columns. */
    if (run->origin != TF_FORKED) {
        out->v = malloc(sizeof *out->v);
        if (!out->v)
            return tf_db_memory(err);
        out->n = 1;
        out->v[0] = (struct tf_ancestor){.run = run->rowid,
                                         .process = run->process,
                                         .pid = run->pid,
                                         .end_block = UINT64_MAX,
                                         .end_offset = UINT64_MAX,
                                         .end_seq = UINT64_MAX,
                                         .end_codes = UINT32_MAX,
                                         .end_marks = UINT32_MAX,
                                         .end_mapped = UINT32_MAX};
        int found = find_base(store, out, err);
        if (found)
            tf_lineage_free(out);
        return found;
    }
#define COLUMNS                                                                                              \
    "SELECT run, process, parent, origin, fork_frame, fork_offset, fork_seq, fork_codes, fork_marks,"        \
    " fork_mapped, pid FROM runs WHERE "
    int rc = tf_db_prepare(store, COLUMNS "run = ?1", &first, err);
    if (!rc)
        rc = tf_db_prepare(store, COLUMNS "id = (SELECT id FROM runs WHERE run = ?1) AND process = ?2", &next,
                           err);
#undef COLUMNS
    if (rc)
        goto out;
    sqlite3_bind_int64(first, 1, run->rowid);
    sqlite3_bind_int64(next, 1, run->rowid);
    rc = tf_db_step(store, first, err);
    if (rc == 1)
        rc = add(store, first, out, &parent, err);
    else if (rc == 0)
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s holds no run number %lld any more", store->path,
                        (long long)run->rowid);
    while (!rc && parent) {
        process = out->v[out->n - 1].process;
        sqlite3_reset(next);
        sqlite3_bind_int64(next, 2, parent);
        rc = tf_db_step(store, next, err);
        if (rc == 1)
            rc = add(store, next, out, &parent, err);
        else if (rc == 0)
            rc = tf_db_damaged(
                store, err, "process %u of run %.8s was forked from process %u, whose recording is missing",
                process, run->id, parent);
    }
    if (!rc)
        rc = order(store, out, err);
    if (!rc)
        rc = find_base(store, out, err);
out:
    sqlite3_finalize(first);
    sqlite3_finalize(next);
    if (rc)
        tf_lineage_free(out);
    return rc;
}

int tf_store_pid(struct tf_store *store, const struct tf_run *run, uint64_t offset, uint32_t *pid,
                 struct tf_err *err)
{
    struct tf_lineage lineage;
    int rc = tf_lineage_load(store, run, &lineage, err);
    /* A fork is the first event behind its offset: the process is there when it is done. */
    for (size_t i = 0; !rc && i < lineage.n; i++)
        if (i == 0 || offset > lineage.v[i].fork_offset)
            *pid = lineage.v[i].pid;
    tf_lineage_free(&lineage);
    return rc;
}
