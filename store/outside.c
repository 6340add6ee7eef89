/*
 * outside.c: reading outside events back. A block is checked as a whole before anybody walks through it, so
 * that who walks (a replay, a search for output) can trust the lengths of its events.
 */
#include "store/db.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

struct blocks {
    struct tf_outside_block *v;
    size_t n, cap;
    uint64_t offset, seq; /* where the next one has to begin */
};

struct tf_outside_block tf_outside_row(sqlite3_stmt *stmt, int64_t run)
{
    return (struct tf_outside_block){
        .rowid = sqlite3_column_int64(stmt, 0),
        .owner = run,
        .offset = (uint64_t)sqlite3_column_int64(stmt, 1),
        .len = (uint64_t)sqlite3_column_int64(stmt, 2),
        .first_seq = (uint64_t)sqlite3_column_int64(stmt, 3),
        .events = (uint64_t)sqlite3_column_int64(stmt, 4),
        .first_frame = (uint64_t)sqlite3_column_int64(stmt, 5),
        .last_frame = (uint64_t)sqlite3_column_int64(stmt, 6),
    };
}

/* Adds what one process of a lineage gives. */
static int add_blocks(struct tf_store *store, sqlite3_stmt *stmt, const struct tf_ancestor *a,
                      bool output_only, struct blocks *out, struct tf_err *err)
{
    int rc;
    if (a->offset == a->end_offset)
        return 0;
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, a->run);
    sqlite3_bind_int64(stmt, 2, (int64_t)a->offset);
    sqlite3_bind_int64(stmt, 3, a->end_offset == UINT64_MAX ? INT64_MAX : (int64_t)a->end_offset);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        struct tf_outside_block b = tf_outside_row(stmt, a->run);
        if (b.offset != out->offset || b.first_seq != out->seq || b.len == 0 || b.len > 1ull << 33 ||
            b.events == 0)
            break;
        out->offset += b.len;
        out->seq += b.events;
        if (output_only && !(sqlite3_column_int(stmt, 7) & (TF_OUT_STDOUT | TF_OUT_STDERR)))
            continue;
        if (out->n == out->cap) {
            size_t cap = out->cap ? out->cap * 2 : 64;
            struct tf_outside_block *more = realloc(out->v, cap * sizeof *more);
            if (!more)
                return tf_db_memory(err);
            out->v = more;
            out->cap = cap;
        }
        out->v[out->n++] = b;
    }
    /* Those of a parent end where those of its child begin. */
    if (rc == 1 || (rc == 0 && a->end_offset != UINT64_MAX &&
                    (out->offset != a->end_offset || out->seq != a->end_seq + 1)))
        rc = tf_db_damaged(store, err, "the outside events at offset %llu are missing",
                           (unsigned long long)out->offset);
    return rc;
}

static int load_blocks(struct tf_store *store, const struct tf_run *run, bool output_only,
                       struct tf_outside_block **out, size_t *n, uint64_t *base, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage;
    struct blocks blocks = {0};
    bool began;
    *out = NULL;
    *n = 0;
    tf_db_moment_begin(store, &began);
    int rc = tf_lineage_load(store, run, &lineage, err);
    blocks.offset = lineage.kept_offset;
    blocks.seq = lineage.kept_seq + 1;
    *base = lineage.seq;
    if (!rc)
        rc = tf_db_prepare(
            store,
            "SELECT rowid, offset, len, first_seq, events, first_frame, last_frame, flags FROM outside"
            " WHERE run = ?1 AND offset >= ?2 AND offset < ?3 ORDER BY offset",
            &stmt, err);
    for (size_t i = 0; !rc && i < lineage.n; i++)
        rc = add_blocks(store, stmt, &lineage.v[i], output_only, &blocks, err);
    if (!rc && blocks.offset < lineage.offset)
        rc = tf_db_damaged(store, err, "the outside events at offset %llu are missing",
                           (unsigned long long)blocks.offset);
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    tf_db_moment_end(store, began);
    if (rc) {
        free(blocks.v);
        return rc;
    }
    *out = blocks.v;
    *n = blocks.n;
    return 0;
}

int tf_store_outside_blocks(struct tf_store *store, const struct tf_run *run, struct tf_outside_block **out,
                            size_t *n, struct tf_err *err)
{
    uint64_t base;
    return load_blocks(store, run, false, out, n, &base, err);
}

/* Are these whole events, as many as they should be, in the order of their frames? */
static bool well_formed(const uint8_t *buf, const struct tf_outside_block *block)
{
    uint64_t at = 0, events = 0, frame = block->first_frame;
    while (at < block->len) {
        const struct tf_outside *e = (const void *)(buf + at);
        if (block->len - at < sizeof *e || e->total_len > block->len - at || (e->total_len & 7))
            return false;
        uint64_t args = tf_outside_args_size(e);
        if (e->total_len < sizeof *e + args || e->data_len > UINT32_MAX ||
            ((e->data_len + 7) & ~7ull) != e->total_len - sizeof *e - args)
            return false;
        if (e->frame < frame || e->frame > block->last_frame)
            return false;
        frame = e->frame;
        at += e->total_len;
        events++;
    }
    return events == block->events;
}

static int missing(struct tf_store *store, const struct tf_run *run, const struct tf_outside_block *block,
                   struct tf_err *err)
{
    struct tf_lineage then;
    int rc = tf_lineage_load(store, run, &then, err);
    if (rc)
        return rc;
    /* As it was when the block was listed: it was not in front of the base. */
    then.frame = then.offset = 0;
    rc = then.kept_offset > block->offset
             ? tf_db_missing(store, &then, err, "the outside events at offset %llu",
                             (unsigned long long)block->offset)
             : tf_db_damaged(store, err, "the outside events at offset %llu are missing",
                             (unsigned long long)block->offset);
    tf_lineage_free(&then);
    return rc;
}

int tf_store_outside_read(struct tf_store *store, const struct tf_run *run,
                          const struct tf_outside_block *block, void *buf, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    int rc = tf_db_prepare(
        store, "SELECT digest, data FROM outside WHERE rowid = ?1 AND run = ?2 AND offset = ?3", &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, block->rowid);
    sqlite3_bind_int64(stmt, 2, block->owner);
    sqlite3_bind_int64(stmt, 3, (int64_t)block->offset);
    rc = tf_db_step(store, stmt, err);
    if (rc == 0)
        rc = missing(store, run, block, err);
    if (rc < 0)
        goto out;
    const void *data = sqlite3_column_blob(stmt, 1);
    size_t len = (size_t)sqlite3_column_bytes(stmt, 1);
    if (!data || XXH3_64bits(data, len) != (uint64_t)sqlite3_column_int64(stmt, 0) ||
        ZSTD_decompress(buf, block->len, data, len) != block->len || !well_formed(buf, block))
        rc =
            tf_db_damaged(store, err, "the outside events at offset %llu", (unsigned long long)block->offset);
    else
        rc = 0;
out:
    sqlite3_finalize(stmt);
    return rc;
}

int tf_store_each_output(struct tf_store *store, const struct tf_run *run,
                         int (*fn)(void *ctx, const struct tf_output *output), void *ctx, struct tf_err *err)
{
    struct tf_outside_block *blocks;
    size_t n;
    uint8_t *buf = NULL;
    uint64_t cap = 0, base;
    int rc = load_blocks(store, run, true, &blocks, &n, &base, err);
    for (size_t i = 0; !rc && i < n; i++) {
        const struct tf_outside_block *b = &blocks[i];
        if (b->len > cap) {
            free(buf);
            cap = b->len;
            buf = malloc(cap);
            if (!buf) {
                rc = tf_db_memory(err);
                break;
            }
        }
        rc = tf_store_outside_read(store, run, b, buf, err);
        uint64_t seq = b->first_seq;
        for (uint64_t at = 0; !rc && at < b->len; seq++) {
            const struct tf_outside *e = (const void *)(buf + at);
            at += e->total_len;
            if (!(e->flags & (TF_OUT_STDOUT | TF_OUT_STDERR)) || seq <= base)
                continue;
            struct tf_output output = {
                .frame = e->frame,
                .seq = seq,
                .thread = tf_outside_thread(e),
                .fd = e->flags & TF_OUT_STDOUT ? 1 : 2,
                .data = tf_outside_data(e),
                .len = e->data_len,
            };
            rc = fn(ctx, &output);
        }
    }
    free(blocks);
    free(buf);
    return rc;
}
