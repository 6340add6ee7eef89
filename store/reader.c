/*
 * reader.c: reading frame events back: blocks, the cursor, stacks.
 *
 * The cursor keeps one decoded block and walks through it event by event, with the stacks of the threads as
 * they are at that point: a block brings the stacks at its start, so any event is reached by decoding one
 * block. Times are those of the marks, and in between linear by number of events; behind the last mark of a
 * block, that of the mark.
 *
 * The first blocks of a forked process are its parent's rows (db.h, struct tf_lineage). Those in front of a
 * run's base are not there; the one that holds the event at the base is, with all its events, so that who
 * stands there can be told what runs there.
 */
#include "store/block.h"
#include "store/db.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct tf_cursor {
    struct tf_store *store;
    struct tf_run run; /* rowid, calibration: no strings */
    struct tf_lineage lineage;
    uint64_t n_frames; /* number of the last */
    sqlite3_stmt *load, *codes;

    const uint8_t *bits; /* filter, or NULL */
    size_t n_bits;

    uint64_t next; /* number of the event that tf_cursor_next() looks at first */
    bool loaded;
    uint64_t block_no;
    struct tf_block block;
    struct tf_stacks stacks; /* as after `at` events of the block */
    uint32_t at;
    size_t run_at, mark_at; /* thread run of event `at`; first mark behind it */
    struct tf_stack *stack; /* of that thread */
    uint64_t ns0, ns1;      /* times of the marks around */
    uint32_t i0, i1;        /* and their indexes */
};

/* ---- blocks ---- */

#define LOAD_SQL "SELECT n, words_digest, digest, data FROM frames WHERE run = ?1 AND block = ?2"

/* Whose row a block is. */
static int64_t owner(const struct tf_lineage *lineage, uint64_t no)
{
    size_t i = 0;
    while (i + 1 < lineage->n && no >= lineage->v[i].end_block)
        i++;
    return lineage->v[i].run;
}

/* Loads and checks one block through a prepared LOAD_SQL. */
static int load_block(struct tf_store *store, sqlite3_stmt *stmt, const struct tf_lineage *lineage,
                      uint64_t no, struct tf_block *out, struct tf_err *err)
{
    if (no < lineage->kept_block)
        return tf_err_set(err, TF_E_NOTFOUND,
                          "frame events before %llu are not in %s any more: the oldest part of the run was "
                          "dropped",
                          (unsigned long long)lineage->frame, store->path);
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, owner(lineage, no));
    sqlite3_bind_int64(stmt, 2, (int64_t)no);
    int rc = tf_db_step(store, stmt, err);
    if (rc < 0)
        goto out;
    if (rc == 0) {
        rc = tf_db_missing(store, lineage, err, "block %llu of the frame events is missing",
                           (unsigned long long)no);
        goto out;
    }
    uint64_t digest = (uint64_t)sqlite3_column_int64(stmt, 2);
    const void *data = sqlite3_column_blob(stmt, 3);
    size_t len = (size_t)sqlite3_column_bytes(stmt, 3);
    rc = tf_decode(data ? data : "", len, &digest, out, err);
    if (rc) {
        tf_err_prefix(err, "%s: ", store->path);
        goto out;
    }
    if (out->n != sqlite3_column_int64(stmt, 0) || out->first_frame != no * TF_BLOCK_FRAMES + 1 ||
        XXH3_64bits(out->words, out->n * sizeof *out->words) != (uint64_t)sqlite3_column_int64(stmt, 1))
        rc = tf_db_damaged(store, err, "block %llu of the frame events is not what it says",
                           (unsigned long long)no);
out:
    sqlite3_reset(stmt);
    return rc;
}

/* How many blocks and events a run has, from the blocks themselves, those included that were dropped; checks
 * that none is missing behind them. */
static int count_frames(struct tf_store *store, const struct tf_lineage *lineage, uint64_t *n_blocks,
                        uint64_t *n_frames, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    *n_blocks = lineage->kept_block;
    *n_frames = lineage->kept_block * TF_BLOCK_FRAMES;
    int rc = tf_db_prepare(
        store,
        "SELECT count(*), coalesce(min(block), ?2), coalesce(max(block) + 1, ?2), coalesce(sum(n), 0),"
        " coalesce((SELECT n FROM frames WHERE run = ?1 AND block >= ?2 AND block < ?3"
        " ORDER BY block DESC LIMIT 1), 0)"
        " FROM frames WHERE run = ?1 AND block >= ?2 AND block < ?3",
        &stmt, err);
    for (size_t i = 0; !rc && i < lineage->n; i++) {
        const struct tf_ancestor *a = &lineage->v[i];
        bool whole = a->end_block != UINT64_MAX; /* of a parent: only full blocks, up to the child's first */
        if (a->first_block == a->end_block)
            continue;
        sqlite3_reset(stmt);
        sqlite3_bind_int64(stmt, 1, a->run);
        sqlite3_bind_int64(stmt, 2, (int64_t)a->first_block);
        sqlite3_bind_int64(stmt, 3, whole ? (int64_t)a->end_block : INT64_MAX);
        rc = tf_db_step(store, stmt, err);
        if (rc < 0)
            break;
        uint64_t blocks = (uint64_t)sqlite3_column_int64(stmt, 0),
                 first = (uint64_t)sqlite3_column_int64(stmt, 1),
                 end = (uint64_t)sqlite3_column_int64(stmt, 2),
                 frames = (uint64_t)sqlite3_column_int64(stmt, 3),
                 last = (uint64_t)sqlite3_column_int64(stmt, 4);
        rc = 0;
        if (first != a->first_block || end - first != blocks || last > TF_BLOCK_FRAMES ||
            (blocks && frames != (blocks - 1) * TF_BLOCK_FRAMES + last) ||
            (whole && (end != a->end_block || (blocks && last != TF_BLOCK_FRAMES))))
            rc = tf_db_damaged(store, err, "blocks of frame events are missing");
        *n_blocks += blocks;
        *n_frames += frames;
    }
    sqlite3_finalize(stmt);
    /* The child's first block holds what the parent did in it before the fork. */
    if (!rc && lineage->n && *n_frames < lineage->v[lineage->n - 1].frame)
        rc = tf_db_damaged(store, err, "frame events from before the fork are missing");
    if (!rc && *n_frames < lineage->frame)
        rc = tf_db_damaged(store, err, "frame events from before the run's first one are missing");
    return rc;
}

/* Where the rows of a run are, and how many blocks and events it has: at one moment. */
static int load_extent(struct tf_store *store, const struct tf_run *run, struct tf_lineage *lineage,
                       uint64_t *n_blocks, uint64_t *n_frames, struct tf_err *err)
{
    bool began;
    tf_db_moment_begin(store, &began);
    int rc = tf_lineage_load(store, run, lineage, err);
    if (!rc)
        rc = count_frames(store, lineage, n_blocks, n_frames, err);
    tf_db_moment_end(store, began);
    return rc;
}

int tf_store_block_words(struct tf_store *store, const struct tf_run *run, uint64_t block, uint32_t *words,
                         uint32_t *n, struct tf_err *err)
{
    sqlite3_stmt *stmt;
    struct tf_lineage lineage;
    struct tf_block b = {0};
    int rc = tf_db_prepare(store, LOAD_SQL, &stmt, err);
    if (rc)
        return rc;
    rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = load_block(store, stmt, &lineage, block, &b, err);
    if (!rc) {
        memcpy(words, b.words, b.n * sizeof *words);
        *n = b.n;
    }
    tf_block_free(&b);
    tf_lineage_free(&lineage);
    sqlite3_finalize(stmt);
    return rc;
}

int tf_store_digests(struct tf_store *store, const struct tf_run *run, uint64_t **digests, size_t *n,
                     struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage;
    uint64_t n_blocks, n_frames, *v = NULL;
    size_t count = 0;
    *digests = NULL;
    *n = 0;
    bool began;
    tf_db_moment_begin(store, &began);
    int rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = count_frames(store, &lineage, &n_blocks, &n_frames, err);
    if (!rc)
        rc = tf_db_prepare(store,
                           "SELECT words_digest FROM frames WHERE run = ?1 AND block >= ?2 AND block < ?3"
                           " ORDER BY block",
                           &stmt, err);
    if (rc)
        goto out;
    v = calloc(n_blocks + 1, sizeof *v);
    if (!v) {
        rc = tf_db_memory(err);
        goto out;
    }
    count = lineage.kept_block;
    for (size_t i = 0; rc >= 0 && i < lineage.n; i++) {
        const struct tf_ancestor *a = &lineage.v[i];
        sqlite3_reset(stmt);
        sqlite3_bind_int64(stmt, 1, a->run);
        sqlite3_bind_int64(stmt, 2, (int64_t)a->first_block);
        sqlite3_bind_int64(stmt, 3, a->end_block == UINT64_MAX ? INT64_MAX : (int64_t)a->end_block);
        /* A run that is still recorded may have grown meanwhile. */
        while (count < n_blocks && (rc = tf_db_step(store, stmt, err)) == 1)
            v[count++] = (uint64_t)sqlite3_column_int64(stmt, 0);
    }
    if (rc >= 0)
        rc = 0;
out:
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    tf_db_moment_end(store, began);
    if (rc) {
        free(v);
        return rc;
    }
    *digests = v;
    *n = count;
    return 0;
}

/* ---- threads ---- */

struct activities {
    struct tf_thread_activity *v;
    size_t n, cap;
};

/* That of a thread, made if it is not there yet; sorted by number. NULL: no memory. */
static struct tf_thread_activity *activity_of(struct activities *a, uint32_t thread)
{
    size_t low = 0, high = a->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (a->v[middle].number < thread)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < a->n && a->v[low].number == thread)
        return &a->v[low];
    if (a->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 16;
        struct tf_thread_activity *v = realloc(a->v, cap * sizeof *v);
        if (!v)
            return NULL;
        a->v = v;
        a->cap = cap;
    }
    memmove(&a->v[low + 1], &a->v[low], (a->n - low) * sizeof *a->v);
    a->v[low] = (struct tf_thread_activity){.number = thread};
    a->n++;
    return &a->v[low];
}

int tf_store_thread_activity(struct tf_store *store, const struct tf_run *run,
                             struct tf_thread_activity **out, size_t *n, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_lineage lineage;
    struct tf_block b = {0};
    struct activities found = {0};
    uint64_t n_blocks, n_frames;
    *out = NULL;
    *n = 0;
    int rc = load_extent(store, run, &lineage, &n_blocks, &n_frames, err);
    if (!rc)
        rc = tf_db_prepare(store, LOAD_SQL, &stmt, err);
    for (uint64_t no = lineage.kept_block; !rc && no < n_blocks; no++) {
        rc = load_block(store, stmt, &lineage, no, &b, err);
        uint64_t before = !rc && lineage.frame >= b.first_frame ? lineage.frame + 1 - b.first_frame : 0;
        for (size_t i = 0; !rc && i < b.n_runs; i++) {
            uint32_t end = i + 1 < b.n_runs ? b.runs[i + 1].index : b.n;
            if (end <= before)
                continue;
            if (b.runs[i].index < before)
                b.runs[i].index = (uint32_t)before;
            struct tf_thread_activity *a = activity_of(&found, b.runs[i].thread);
            if (!a) {
                rc = tf_db_memory(err);
                break;
            }
            if (!a->frames)
                a->first = b.first_frame + b.runs[i].index;
            a->frames += end - b.runs[i].index;
            a->last = b.first_frame + end - 1;
        }
    }
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    tf_block_free(&b);
    if (rc) {
        free(found.v);
        return rc;
    }
    *out = found.v;
    *n = found.n;
    return 0;
}

/* ---- the cursor ---- */

int tf_cursor_open(struct tf_store *store, const struct tf_run *run, struct tf_cursor **out,
                   struct tf_err *err)
{
    *out = NULL;
    struct tf_cursor *c = calloc(1, sizeof *c);
    if (!c)
        return tf_db_memory(err);
    c->store = store;
    c->run = (struct tf_run){.rowid = run->rowid, .cal_tsc = run->cal_tsc, .cal_ns = run->cal_ns};
    uint64_t n_blocks;
    int rc = load_extent(store, run, &c->lineage, &n_blocks, &c->n_frames, err);
    c->next = c->lineage.frame + 1;
    if (!rc)
        rc = tf_db_prepare(store, LOAD_SQL, &c->load, err);
    if (!rc)
        rc = tf_db_prepare(store, "SELECT codes FROM frames WHERE run = ?1 AND block = ?2", &c->codes, err);
    if (rc) {
        tf_cursor_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void tf_cursor_close(struct tf_cursor *c)
{
    if (!c)
        return;
    sqlite3_finalize(c->load);
    sqlite3_finalize(c->codes);
    tf_lineage_free(&c->lineage);
    tf_block_free(&c->block);
    tf_stacks_free(&c->stacks);
    free(c);
}

void tf_cursor_filter(struct tf_cursor *c, const uint8_t *code_bits, size_t n)
{
    c->bits = code_bits;
    c->n_bits = n;
}

static bool wanted(const struct tf_cursor *c, uint32_t code)
{
    return !c->bits || (code < c->n_bits && (c->bits[code >> 3] >> (code & 7) & 1));
}

/* The times around event `at`. */
static void set_marks(struct tf_cursor *c)
{
    const struct tf_block *b = &c->block;
    while (c->mark_at < b->n_marks && b->marks[c->mark_at].index <= c->at)
        c->mark_at++;
    if (c->mark_at) {
        c->i0 = b->marks[c->mark_at - 1].index;
        c->ns0 = tf_run_ns(&c->run, b->marks[c->mark_at - 1].tick);
    } else {
        c->i0 = 0;
        c->ns0 = tf_run_ns(&c->run, b->base_tick);
    }
    if (c->mark_at < b->n_marks) {
        c->i1 = b->marks[c->mark_at].index;
        c->ns1 = tf_run_ns(&c->run, b->marks[c->mark_at].tick);
    } else {
        c->i1 = UINT32_MAX;
        c->ns1 = c->ns0;
    }
}

/* The stack of the thread of event `at`, with room for what it can push in this run. */
static int set_run(struct tf_cursor *c, struct tf_err *err)
{
    const struct tf_block *b = &c->block;
    while (c->run_at + 1 < b->n_runs && b->runs[c->run_at + 1].index <= c->at)
        c->run_at++;
    uint32_t end = c->run_at + 1 < b->n_runs ? b->runs[c->run_at + 1].index : b->n;
    c->stack = tf_stacks_get(&c->stacks, b->runs[c->run_at].thread);
    if (!c->stack || tf_stack_reserve(c->stack, c->stack->n + (end - c->at)))
        return tf_db_memory(err);
    return 0;
}

/* Makes the cursor stand at the start of a block. */
static int enter_block(struct tf_cursor *c, uint64_t no, struct tf_err *err)
{
    if (!c->loaded || c->block_no != no) {
        c->loaded = false;
        int rc = load_block(c->store, c->load, &c->lineage, no, &c->block, err);
        if (rc)
            return rc;
        c->block_no = no;
    }
    c->loaded = false;
    if (tf_stacks_copy(&c->stacks, &c->block.stacks))
        return tf_db_memory(err);
    c->at = 0;
    c->run_at = c->mark_at = 0;
    set_marks(c);
    int rc = c->block.n ? set_run(c, err) : 0;
    c->loaded = rc == 0;
    return rc;
}

/* Goes over one event. The caller knows that there is one. */
static int advance(struct tf_cursor *c, struct tf_frame *out, struct tf_err *err)
{
    const struct tf_block *b = &c->block;
    if (c->run_at + 1 < b->n_runs && b->runs[c->run_at + 1].index <= c->at) {
        int rc = set_run(c, err);
        if (rc) {
            c->loaded = false;
            return rc;
        }
    }
    uint32_t word = b->words[c->at];
    struct tf_stack *s = c->stack;
    out->frame = b->first_frame + c->at;
    out->event = TF_TAG(word);
    out->thread = s->thread;
    if (TF_IS_ENTRY(word)) {
        s->v[s->n++] = (struct tf_stack_entry){.entry = out->frame, .code = TF_LOW(word)};
        out->code = TF_LOW(word);
        out->entry = out->frame;
        out->depth = (uint32_t)s->n;
    } else if (TF_IS_SWITCH(word) && s->n) { /* it leaves the stack as it is */
        out->depth = (uint32_t)s->n;
        out->code = s->v[s->n - 1].code;
        out->entry = s->v[s->n - 1].entry;
    } else if (s->n) {
        out->depth = (uint32_t)s->n;
        out->code = s->v[--s->n].code;
        out->entry = s->v[s->n].entry;
    } else {
        out->depth = 0;
        out->code = 0;
        out->entry = out->frame;
    }
    c->at++;
    if (c->at > c->i1)
        set_marks(c);
    /* After this event `at` of the block have happened. */
    if (c->i1 == UINT32_MAX || c->at <= c->i0)
        out->time_ns = c->ns0;
    else if (c->ns1 - c->ns0 < 1ull << 47) /* the product fits, for an index is below 2^17 */
        out->time_ns = c->ns0 + (c->ns1 - c->ns0) * (c->at - c->i0) / (c->i1 - c->i0);
    else
        out->time_ns = c->ns0 + (c->ns1 - c->ns0) / (c->i1 - c->i0) * (c->at - c->i0);
    return 0;
}

/* Makes the cursor stand in front of a frame that exists. */
static int go_to(struct tf_cursor *c, uint64_t frame, struct tf_err *err)
{
    uint64_t no = (frame - 1) / TF_BLOCK_FRAMES, index = (frame - 1) % TF_BLOCK_FRAMES;
    struct tf_frame skipped;
    if (!c->loaded || c->block_no != no || c->at > index) {
        int rc = enter_block(c, no, err);
        if (rc)
            return rc;
    }
    if (index >= c->block.n)
        return tf_db_damaged(c->store, err, "block %llu of the frame events is short",
                             (unsigned long long)no);
    while (c->at < index) {
        int rc = advance(c, &skipped, err);
        if (rc)
            return rc;
    }
    return 0;
}

int tf_cursor_seek(struct tf_cursor *c, uint64_t frame, struct tf_err *err)
{
    (void)err;
    c->next = frame && frame >= c->lineage.frame ? frame : c->lineage.frame + 1;
    return 0;
}

/* Does the block hold what the filter wants? 1, 0, negative. */
static int block_wanted(struct tf_cursor *c, uint64_t no, struct tf_err *err)
{
    sqlite3_bind_int64(c->codes, 1, owner(&c->lineage, no));
    sqlite3_bind_int64(c->codes, 2, (int64_t)no);
    int rc = tf_db_step(c->store, c->codes, err);
    if (rc == 1)
        rc = tf_codes_match(sqlite3_column_blob(c->codes, 0), (size_t)sqlite3_column_bytes(c->codes, 0),
                            c->bits, c->n_bits);
    else if (rc == 0)
        rc = -1;
    else
        goto out;
    if (rc < 0)
        rc = tf_db_missing(c->store, &c->lineage, err, "the index of block %llu of the frame events",
                           (unsigned long long)no);
out:
    sqlite3_reset(c->codes);
    return rc;
}

int tf_cursor_next(struct tf_cursor *c, struct tf_frame *out, struct tf_err *err)
{
    while (c->next <= c->n_frames) {
        uint64_t no = (c->next - 1) / TF_BLOCK_FRAMES;
        int rc;
        if (c->bits && (!c->loaded || c->block_no != no)) {
            rc = block_wanted(c, no, err);
            if (rc < 0)
                return rc;
            if (rc == 0) {
                c->next = (no + 1) * TF_BLOCK_FRAMES + 1;
                continue;
            }
        }
        rc = go_to(c, c->next, err);
        if (rc)
            return rc;
        while (c->at < c->block.n) {
            rc = advance(c, out, err);
            if (rc)
                return rc;
            if (wanted(c, out->code)) {
                c->next = out->frame + 1;
                return 1;
            }
        }
        c->next = (no + 1) * TF_BLOCK_FRAMES + 1;
    }
    return 0;
}

/* Is the event in the file? */
static int check_frame(const struct tf_cursor *c, uint64_t frame, struct tf_err *err)
{
    if (frame == 0 || frame > c->n_frames)
        return tf_err_set(err, TF_E_NOTFOUND, "there is no frame %llu: the run has %llu",
                          (unsigned long long)frame, (unsigned long long)c->n_frames);
    if (frame < c->lineage.frame)
        return tf_err_set(
            err, TF_E_NOTFOUND,
            "there is no frame %llu any more: the oldest part of the run was dropped, it begins at "
            "frame %llu",
            (unsigned long long)frame, (unsigned long long)c->lineage.frame + 1);
    return 0;
}

int tf_cursor_base_stacks(struct tf_cursor *c, int (*fn)(void *ctx, uint32_t thread, uint32_t code),
                          void *ctx, uint32_t *running, struct tf_err *err)
{
    struct tf_frame event;
    *running = 0;
    if (!c->lineage.frame)
        return 0;
    int rc = go_to(c, c->lineage.frame, err);
    if (!rc)
        rc = advance(c, &event, err);
    if (rc)
        return rc;
    *running = event.thread;
    for (size_t i = 0; !rc && i < c->stacks.n; i++)
        for (size_t k = 0; !rc && k < c->stacks.v[i].n; k++)
            rc = fn(ctx, c->stacks.v[i].thread, c->stacks.v[i].v[k].code);
    return rc;
}

int tf_cursor_activations(struct tf_cursor *c, uint64_t frame, struct tf_activation **out, size_t *n,
                          struct tf_frame *event, struct tf_err *err)
{
    *out = NULL;
    *n = 0;
    int rc = check_frame(c, frame, err);
    if (!rc)
        rc = go_to(c, frame, err);
    if (!rc)
        rc = advance(c, event, err);
    if (rc)
        return rc;
    struct tf_activation *v = malloc((event->depth + 1) * sizeof *v);
    if (!v)
        return tf_db_memory(err);
    for (uint32_t i = 0; i < event->depth; i++)
        v[i] = (struct tf_activation){.entry = c->stack->v[i].entry, .code = c->stack->v[i].code};
    *out = v;
    *n = event->depth;
    return 0;
}

int tf_cursor_stack(struct tf_cursor *c, uint64_t frame, struct tf_frame **out, size_t *n, struct tf_err *err)
{
    struct tf_frame event;
    struct tf_stack_entry *entries = NULL;
    struct tf_frame *v = NULL;
    *out = NULL;
    *n = 0;
    int rc = check_frame(c, frame, err);
    if (!rc)
        rc = go_to(c, frame, err);
    if (!rc)
        rc = advance(c, &event, err);
    if (rc)
        return rc;
    /* What an exit took off the stack is still there, one above its top. */
    size_t count = event.depth;
    entries = malloc((count + 1) * sizeof *entries);
    v = malloc((count + 1) * sizeof *v);
    if (!entries || !v) {
        rc = tf_db_memory(err);
        goto out;
    }
    if (count)
        memcpy(entries, c->stack->v, count * sizeof *entries);
    /* Their events, outermost first, so that each block is decoded once. */
    for (size_t i = 0; i < count; i++) {
        struct tf_frame *f = &v[count - 1 - i];
        if (entries[i].entry < c->lineage.frame) {
            *f = (struct tf_frame){.frame = entries[i].entry,
                                   .event = TF_CALL,
                                   .code = entries[i].code,
                                   .depth = (uint32_t)i + 1,
                                   .thread = event.thread,
                                   .entry = entries[i].entry};
            continue;
        }
        rc = go_to(c, entries[i].entry, err);
        if (!rc)
            rc = advance(c, f, err);
        if (rc)
            goto out;
        if (f->code != entries[i].code || f->entry != f->frame || f->thread != event.thread) {
            rc = tf_db_damaged(c->store, err,
                               "the stack at frame %llu names frame %llu, which is something else",
                               (unsigned long long)frame, (unsigned long long)entries[i].entry);
            goto out;
        }
    }
    *out = v;
    *n = count;
    v = NULL;
out:
    free(entries);
    free(v);
    return rc;
}
