/*
 * ingest.c: the consumer of the ring (ring.h): takes its items, builds blocks of frame events and of outside
 * events, and has them written.
 *
 * Frame events are nearly everything that comes, so they take the shortest way: copied from the ring to the
 * block as they are, until something else is met. Who is on the stack, which codes occur and how it all packs
 * is found in one pass when a block is full (block.c).
 *
 * Invariants:
 *  1. A transaction ends with everything that came before it: the partly filled block of frame events is
 * written, and replaced by a longer version of itself later; a partly filled outside block is closed. So
 * whatever was committed is a prefix of the run, and frame numbers and outside events in it fit together.
 *  2. An outside event is written when all its data has come, or not at all.
 *  3. A full block of frame events is closed by the next frame event, not by its last one: the time that
 * belongs to its last event may still come.
 *  4. The words of the ring are zeroed before `tail` passes them.
 *  5. in->stored holds the totals of what was committed.
 */
#include "store/block.h"
#include "store/db.h"
#include "store/writer.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define PUBLISH_WORDS 16384u /* zeroed and given back at a time: fits the second-level cache */
#define OUTSIDE_BLOCK (256u << 10)
#define COMMIT_NS 1000000000ull
#define COMMIT_BYTES (64ull << 20)
#define OUTSIDE_MAX (UINT32_MAX - 4096ull)

struct tf_ingest {
    struct tf_store *store;
    struct tf_shm *shm;
    uint32_t *ring;
    uint64_t mask;
    struct tf_writer w;
    struct tf_encoder *enc;
    struct tf_ingest_opts opts; /* its strings are ours */
    struct tf_run run;          /* rowid, id, cwd: the rest is in the store */
    bool started;
    struct tf_err failed; /* the first error; code 0: none */

    /* time */
    uint64_t begin_tsc, begin_ns; /* both clocks at the same moment */
    bool timed;                   /* a TF_REC_TIME came */
    uint64_t start, now;          /* of the recorded process, in units of 16 TSC ticks */
    uint64_t committed_ns;

    /* frame events */
    struct tf_block block;
    uint32_t thread, n_codes; /* n_codes: highest id + 1 */
    uint32_t written;         /* events of the block that are in its row */

    /* outside events: those that are not written, behind them one whose data is still coming */
    uint8_t *out;
    size_t out_len, out_cap;
    size_t out_whole;                  /* length of the whole events */
    struct tf_outside_block out_block; /* what is in out: rowid unused */
    uint64_t missing;                  /* bytes of data that the last event still needs */
    bool more_start;                   /* TF_REC_DATA continues the START */
    uint8_t *start_blob;
    size_t start_len;
    struct tf_rec_start start_rec;

    struct tf_totals total, stored;
};

/* ---- time ---- */

static uint64_t read_tsc(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t v;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
    return v;
#else
#error "no time stamp counter is known for this processor"
#endif
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Both clocks at the same moment: of a few tries the one in which the least time passed between. */
static void both_clocks(uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t before = read_tsc(), t = clock_ns(CLOCK_MONOTONIC), after = read_tsc();
        if (after - before < best) {
            best = after - before;
            *tsc = before + best / 2;
            *ns = t;
        }
    }
}

static void calibrate(struct tf_ingest *in)
{
    uint64_t tsc, ns;
    both_clocks(&tsc, &ns);
    in->total.cal_tsc = tsc - in->begin_tsc;
    in->total.cal_ns = ns - in->begin_ns;
    in->run.cal_tsc = in->total.cal_tsc;
    in->run.cal_ns = in->total.cal_ns;
}

static int set_time(struct tf_ingest *in, uint64_t now, struct tf_err *err)
{
    if (!in->timed) {
        in->timed = true;
        in->start = now;
    }
    in->now = now > in->start ? now : in->start;
    return tf_block_time(&in->block, in->now - in->start) ? tf_db_memory(err) : 0;
}

/* ---- writing ---- */

/* Writes the block of frame events as it is; done: it is full, the next one begins. */
static int write_frames(struct tf_ingest *in, bool done, struct tf_err *err)
{
    struct tf_encoded e;
    struct tf_block *block = &in->block;
    int rc = tf_encode(in->enc, block, in->n_codes, done, &e, err);
    if (!rc)
        rc = tf_writer_frames(&in->w, (block->first_frame - 1) / TF_BLOCK_FRAMES, block->n, &e, err);
    if (rc)
        return rc;
    in->written = block->n;
    if (done) {
        block->first_frame += block->n;
        block->base_tick = e.last_tick;
        block->n = in->written = 0;
        block->n_marks = block->n_runs = 0;
        if (tf_block_thread(block, in->thread))
            return tf_db_memory(err);
    }
    return 0;
}

/* Writes the whole outside events. */
static int write_outside(struct tf_ingest *in, struct tf_err *err)
{
    struct tf_outside_block *b = &in->out_block;
    if (!in->out_whole)
        return 0;
    b->len = in->out_whole;
    int rc = tf_writer_outside(&in->w, b, in->out, err);
    if (rc)
        return rc;
    memmove(in->out, in->out + in->out_whole, in->out_len - in->out_whole);
    in->out_len -= in->out_whole;
    in->out_whole = 0;
    b->offset += b->len;
    b->first_seq += b->events;
    b->events = 0;
    return 0;
}

static int commit(struct tf_ingest *in, int state, int exit_status, int exit_signal, struct tf_err *err)
{
    int rc = write_outside(in, err);
    if (!rc && in->block.n > in->written)
        rc = write_frames(in, false, err);
    if (rc)
        return rc;
    calibrate(in);
    in->total.frames = in->block.first_frame - 1 + in->block.n;
    in->total.outside = in->out_block.first_seq - 1;
    in->total.outside_bytes = in->out_block.offset;
    uint64_t ns = tf_run_ns(&in->run, in->now - in->start);
    if (ns > in->total.duration_ns)
        in->total.duration_ns = ns;
    rc = tf_writer_totals(&in->w, &in->total, state, exit_status, exit_signal, err);
    if (!rc)
        rc = tf_writer_commit(&in->w, err);
    if (rc)
        return rc;
    in->stored = in->total;
    in->committed_ns = clock_ns(CLOCK_MONOTONIC);
    return 0;
}

static int commit_if_due(struct tf_ingest *in, struct tf_err *err)
{
    if (!in->started)
        return 0;
    bool pending = in->w.open || in->out_whole || in->block.n > in->written;
    if (!pending || (in->w.bytes < COMMIT_BYTES && clock_ns(CLOCK_MONOTONIC) - in->committed_ns < COMMIT_NS))
        return 0;
    return commit(in, TF_RUN_INCOMPLETE, -1, 0, err);
}

/* ---- outside events ---- */

static int out_room(struct tf_ingest *in, size_t more, struct tf_err *err)
{
    if (in->out_cap - in->out_len >= more)
        return 0;
    size_t cap = in->out_cap ? in->out_cap : 2 * OUTSIDE_BLOCK;
    while (cap - in->out_len < more)
        cap *= 2;
    uint8_t *out = realloc(in->out, cap);
    if (!out)
        return tf_db_memory(err);
    in->out = out;
    in->out_cap = cap;
    return 0;
}

/* The last event has all its data. */
static int end_event(struct tf_ingest *in, struct tf_err *err)
{
    int rc = out_room(in, 8, err);
    if (rc)
        return rc;
    while (in->out_len & 7)
        in->out[in->out_len++] = 0;
    struct tf_outside_block *b = &in->out_block;
    const struct tf_outside *e = (const void *)(in->out + in->out_whole);
    if (!b->events++)
        b->first_frame = e->frame;
    b->last_frame = e->frame;
    in->out_whole = in->out_len;
    return in->out_whole >= OUTSIDE_BLOCK ? write_outside(in, err) : 0;
}

static int add_data(struct tf_ingest *in, const void *data, size_t len, struct tf_err *err)
{
    if (len > in->missing)
        len = in->missing; /* padding */
    int rc = out_room(in, len, err);
    if (rc)
        return rc;
    memcpy(in->out + in->out_len, data, len);
    in->out_len += len;
    in->missing -= len;
    return in->missing ? 0 : end_event(in, err);
}

/* Begins an event; data (may be less than data_len) is what has come of it. */
static int add_event(struct tf_ingest *in, const struct tf_rec_outside *rec, const void *args,
                     const void *data, size_t data_here, struct tf_err *err)
{
    uint64_t args_size = (rec->args_len + 7ull) & ~7ull;
    if (rec->data_len > OUTSIDE_MAX - args_size - sizeof(struct tf_outside))
        return tf_err_set(err, TF_E_FULL, "a single call returned %llu bytes, more than a recording can hold",
                          (unsigned long long)rec->data_len);
    uint64_t total = sizeof(struct tf_outside) + args_size + ((rec->data_len + 7) & ~7ull);
    int rc = 0;
    if (in->out_whole && in->out_whole + total > OUTSIDE_BLOCK)
        rc = write_outside(in, err);
    if (!rc)
        rc = out_room(in, sizeof(struct tf_outside) + args_size, err);
    if (rc)
        return rc;
    struct tf_outside *e = (void *)(in->out + in->out_len);
    *e = (struct tf_outside){
        .total_len = (uint32_t)total,
        .call = rec->call,
        .thread = (uint16_t)in->thread,
        .frame = in->block.first_frame - 1 + in->block.n,
        .result = rec->result,
        .args_len = rec->args_len,
        .flags = rec->flags,
        .data_len = rec->data_len,
    };
    memcpy(e + 1, args, rec->args_len);
    memset((uint8_t *)(e + 1) + rec->args_len, 0, args_size - rec->args_len);
    in->out_len += sizeof *e + args_size;
    in->missing = rec->data_len;
    if (!in->missing)
        return end_event(in, err);
    return data_here ? add_data(in, data, data_here, err) : 0;
}

/* ---- items ---- */

static int bad_item(const char *what, struct tf_err *err)
{
    return tf_err_set(err, TF_E_FORMAT, "the recorded process sent something that makes no sense (%s)", what);
}

static int item_code(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_code rec;
    if (len < sizeof rec)
        return bad_item("short code object", err);
    memcpy(&rec, p, sizeof rec);
    const char *file = (const char *)p + sizeof rec;
    len -= sizeof rec;
    if ((uint64_t)rec.file_len + rec.name_len + 2 > len || file[rec.file_len] != 0)
        return bad_item("code object's names", err);
    const char *name = file + rec.file_len + 1;
    if (name[rec.name_len] != 0 || rec.id != in->n_codes || rec.id > TF_LOW(UINT32_MAX))
        return bad_item("code object's id", err);

    int rc = tf_writer_code(&in->w, &rec, file, name, err);
    if (rc)
        return rc;
    in->n_codes++;
    if (strcmp(file, "<string>") != 0)
        rc = tf_writer_source(&in->w, file, in->opts.child_proc, in->run.cwd, err);
    if (rc)
        return rc;

    struct tf_rec_outside event = {.call = TF_CALL_CODE, .args_len = 8 + rec.file_len + 1 + rec.name_len + 1};
    uint8_t *args = malloc(event.args_len);
    if (!args)
        return tf_db_memory(err);
    memcpy(args, &rec.hash, 8);
    memcpy(args + 8, file, rec.file_len + rec.name_len + 2);
    rc = add_event(in, &event, args, NULL, 0, err);
    free(args);
    return rc;
}

static int item_mark(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_mark rec;
    if (len < sizeof rec)
        return bad_item("short mark", err);
    memcpy(&rec, p, sizeof rec);
    if (rec.text_len > len - sizeof rec)
        return bad_item("mark's text", err);
    uint8_t *args = malloc(8 + rec.text_len);
    if (!args)
        return tf_db_memory(err);
    const uint32_t head[2] = {rec.kind, 0};
    memcpy(args, head, 8);
    memcpy(args + 8, p + sizeof rec, rec.text_len);
    struct tf_rec_outside event = {.call = TF_CALL_MARK, .args_len = 8 + rec.text_len};
    int rc = tf_writer_mark(&in->w, in->block.first_frame - 1 + in->block.n, rec.kind, (const char *)args + 8,
                            rec.text_len, err);
    if (!rc)
        rc = add_event(in, &event, args, NULL, 0, err);
    free(args);
    return rc;
}

static int item_outside(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    struct tf_rec_outside rec;
    if (len < sizeof rec)
        return bad_item("short outside event", err);
    memcpy(&rec, p, sizeof rec);
    size_t args_size = (rec.args_len + 7ull) & ~7ull;
    p += sizeof rec;
    len -= sizeof rec;
    if (rec.args_len > len)
        return bad_item("outside event's arguments", err);
    size_t at = args_size < len ? args_size : len;
    return add_event(in, &rec, p, p + at, len - at, err);
}

/* All of the blob is there: the run begins. */
static int start_run(struct tf_ingest *in, struct tf_err *err)
{
    const struct tf_rec_start *rec = &in->start_rec;
    const char *p = (const char *)in->start_blob, *end = p + rec->blob_len;
    const char *first[5];
    size_t want = 5ull + rec->argc + rec->envc, n = 0;
    const char *argv = end, *envp = end;

    for (const char *s = p; s < end; s += strlen(s) + 1, n++) {
        if (n < 5)
            first[n] = s;
        if (n == 5)
            argv = s;
        if (n == 5ull + rec->argc)
            envp = s;
    }
    if (rec->argc == 0)
        argv = envp;
    if (n != want || (rec->blob_len && end[-1] != 0))
        return bad_item("start", err);

    struct utsname uts = {0};
    char digest[17] = "";
    uint64_t hash, size, tsc, ns;
    int64_t mtime;
    uname(&uts);
    if (!tf_file_digest(first[1], &hash, &size, &mtime))
        snprintf(digest, sizeof digest, "%016llx", (unsigned long long)hash);
    calibrate(in);
    both_clocks(&tsc, &ns);
    uint64_t ago = in->start << TF_TIME_UNIT_SHIFT;
    ago = ago >= in->begin_tsc && ago <= tsc ? (tsc - ago) >> TF_TIME_UNIT_SHIFT : 0;

    struct tf_run run = in->run;
    run.python_version = (char *)first[0];
    run.exe = (char *)first[1];
    run.execfn = (char *)first[2];
    run.cwd = (char *)first[3];
    run.stdlib = (char *)first[4];
    run.kernel = uts.release;
    run.host = uts.nodename;
    run.python_file_digest = digest;
    run.command = (char *)in->opts.command;
    run.title = (char *)in->opts.title;
    run.pid = rec->pid;
    run.stack_limit = rec->stack_limit;
    run.layout_digest = rec->layout_digest;
    run.started_unix_ns = (int64_t)(clock_ns(CLOCK_REALTIME) - tf_run_ns(&in->run, ago));
    int rc = tf_writer_run(&in->w, &run, argv, (size_t)(envp - argv), envp, (size_t)(end - envp), err);
    if (rc)
        return rc;
    in->run.rowid = run.rowid;
    memcpy(in->run.id, run.id, sizeof run.id);
    in->run.cwd = strdup(run.cwd);
    if (!in->run.cwd)
        return tf_db_memory(err);
    in->started = true;
    free(in->start_blob);
    in->start_blob = NULL;
    if (in->opts.source_text) {
        rc = tf_writer_source_text(&in->w, "<string>", in->opts.source_text, strlen(in->opts.source_text),
                                   err);
        if (rc)
            return rc;
    }
    return commit(in, TF_RUN_INCOMPLETE, -1, 0, err);
}

static int add_start(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    size_t want = in->start_rec.blob_len - in->start_len;
    if (len > want)
        len = want;
    memcpy(in->start_blob + in->start_len, p, len);
    in->start_len += len;
    in->more_start = in->start_len < in->start_rec.blob_len;
    return in->more_start ? 0 : start_run(in, err);
}

static int item_start(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err)
{
    if (in->started || in->start_blob || len < sizeof in->start_rec)
        return bad_item("start", err);
    memcpy(&in->start_rec, p, sizeof in->start_rec);
    if (in->start_rec.blob_len > 1u << 28)
        return bad_item("start", err);
    in->start_blob = malloc(in->start_rec.blob_len + 1ull);
    if (!in->start_blob)
        return tf_db_memory(err);
    return add_start(in, p + sizeof in->start_rec, len - sizeof in->start_rec, err);
}

static int item_record(struct tf_ingest *in, enum tf_record type, const uint8_t *p, size_t len,
                       struct tf_err *err)
{
    uint64_t tsc;
    uint32_t number;
    if (type == TF_REC_DATA) {
        if (in->more_start)
            return add_start(in, p, len, err);
        return in->missing ? add_data(in, p, len, err) : bad_item("data without an event", err);
    }
    if (!in->started && type != TF_REC_TIME && type != TF_REC_START && type != TF_REC_THREAD)
        return bad_item("an event before the start", err);
    if (in->missing && (type == TF_REC_OUTSIDE || type == TF_REC_CODE || type == TF_REC_MARK))
        return bad_item("an event whose data is missing", err);
    switch (type) {
    case TF_REC_TIME:
        if (len < sizeof tsc)
            return bad_item("short time", err);
        memcpy(&tsc, p, sizeof tsc);
        return set_time(in, tsc >> TF_TIME_UNIT_SHIFT, err);
    case TF_REC_THREAD:
        if (len < sizeof number)
            return bad_item("short thread", err);
        memcpy(&number, p, sizeof number);
        in->thread = number;
        return tf_block_thread(&in->block, number) ? tf_db_memory(err) : 0;
    case TF_REC_CODE:
        return item_code(in, p, len, err);
    case TF_REC_OUTSIDE:
        return item_outside(in, p, len, err);
    case TF_REC_START:
        return item_start(in, p, len, err);
    case TF_REC_MARK:
        return item_mark(in, p, len, err);
    case TF_REC_MAPPED:
        if (!memchr(p, 0, len))
            return bad_item("mapped file", err);
        return tf_writer_mapped(&in->w, (const char *)p, err);
    case TF_REC_SNAPSHOT:
        if (len < sizeof number)
            return bad_item("short snapshot", err);
        memcpy(&number, p, sizeof number);
        if (in->opts.on_snapshot)
            in->opts.on_snapshot(in->opts.ctx, number, in->block.first_frame - 1 + in->block.n,
                                 in->out_block.offset + in->out_len);
        return 0;
    default:
        return bad_item("unknown record", err);
    }
}

/* ---- the ring ---- */

/* Copies frame events until something else is met. Code ids are checked here, for the block's pass indexes
 * with them. */
static uint32_t take_frames(uint32_t *dst, const uint32_t *src, uint32_t max, uint32_t n_codes)
{
    uint32_t i = 0;
    for (; i < max; i++) {
        uint32_t word = __atomic_load_n(&src[i], __ATOMIC_ACQUIRE);
        if (word == 0 || word >= TF_WORD(TF_TIME, 0) || TF_LOW(word) >= n_codes)
            break;
        dst[i] = word;
    }
    return i;
}

/* Gives words back to the producer. */
static void publish(struct tf_ingest *in, uint32_t *words, uint64_t n)
{
    memset(words, 0, n * sizeof *words);
    __atomic_store_n(&in->shm->tail, in->shm->tail + n, __ATOMIC_RELEASE);
    __atomic_add_fetch(&in->shm->space_futex, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &in->shm->space_futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int fail(struct tf_ingest *in, struct tf_err *err)
{
    in->failed = *err;
    return err->code;
}

int64_t tf_ingest_drain(struct tf_ingest *in, struct tf_err *err)
{
    struct tf_err local;
    if (!err)
        err = &local;
    if (in->failed.code)
        return tf_err_set(err, in->failed.code, "%s", in->failed.msg);
    uint32_t *ring = in->ring + (in->shm->tail & in->mask);
    uint64_t size = in->mask + 1, taken = 0, published = 0;
    int rc = 0;

    while (taken < size) {
        if (taken - published >= PUBLISH_WORDS) {
            publish(in, ring + published, taken - published);
            published = taken;
            rc = commit_if_due(in, err);
            if (rc)
                break;
        }
        uint32_t *p = ring + taken;
        uint32_t word = __atomic_load_n(p, __ATOMIC_ACQUIRE);
        if (word == 0)
            break;
        if (TF_IS_FRAME(word)) {
            if (!in->started) {
                rc = bad_item("a frame event before the start", err);
                break;
            }
            if (in->block.n == TF_BLOCK_FRAMES && (rc = write_frames(in, true, err)))
                break;
            uint64_t max = TF_BLOCK_FRAMES - in->block.n;
            if (max > size - taken)
                max = size - taken;
            if (max > PUBLISH_WORDS)
                max = PUBLISH_WORDS;
            uint32_t n = take_frames(in->block.words + in->block.n, p, (uint32_t)max, in->n_codes);
            if (n == 0) {
                rc = bad_item("a code object that was not defined", err);
                break;
            }
            in->block.n += n;
            taken += n;
        } else if (TF_TAG(word) == TF_TIME) {
            rc = set_time(in, in->now + TF_LOW(word), err);
            if (rc)
                break;
            taken++;
        } else {
            bool record = TF_TAG(word) == TF_RECORD;
            uint64_t len = record ? TF_RECORD_WORDS(word) : TF_LOW(word);
            if (len + 1 > size || (record && len + 1 > TF_ITEM_MAX_WORDS)) {
                rc = bad_item("an item that is too long", err);
                break;
            }
            if (taken + 1 + len > size)
                break; /* the next drain starts here and has it all in front of it */
            if (record &&
                (rc = item_record(in, TF_RECORD_TYPE(word), (const uint8_t *)(p + 1), len * 4, err)))
                break;
            taken += 1 + len;
        }
    }
    if (taken > published)
        publish(in, ring + published, taken - published);
    if (!rc)
        rc = commit_if_due(in, err);
    return rc ? fail(in, err) : (int64_t)taken;
}

int tf_ingest_tick(struct tf_ingest *in, struct tf_err *err)
{
    struct tf_err local;
    if (!err)
        err = &local;
    if (in->failed.code)
        return tf_err_set(err, in->failed.code, "%s", in->failed.msg);
    return commit_if_due(in, err) ? fail(in, err) : 0;
}

bool tf_ingest_started(const struct tf_ingest *in)
{
    return in->started;
}

/* ---- begin and end ---- */

static void free_ingest(struct tf_ingest *in)
{
    tf_writer_free(&in->w);
    tf_encoder_free(in->enc);
    tf_block_free(&in->block);
    free((char *)in->opts.command);
    free((char *)in->opts.title);
    free((char *)in->opts.source_text);
    free(in->run.cwd);
    free(in->out);
    free(in->start_blob);
    free(in);
}

int tf_ingest_begin(struct tf_store *store, struct tf_shm *shm, uint32_t *ring,
                    const struct tf_ingest_opts *opts, struct tf_ingest **out, struct tf_err *err)
{
    *out = NULL;
    if (shm->ring_words < 2 || (shm->ring_words & (shm->ring_words - 1)))
        return tf_err_set(err, TF_E_USAGE, "the ring has %u words, which is no power of two",
                          shm->ring_words);
    struct tf_ingest *in = calloc(1, sizeof *in);
    if (!in)
        return tf_db_memory(err);
    in->store = store;
    in->shm = shm;
    in->ring = ring;
    in->mask = shm->ring_words - 1;
    in->n_codes = 1;
    in->out_block.first_seq = 1;
    in->opts = *opts;
    in->opts.command = strdup(opts->command ? opts->command : "");
    in->opts.title = strdup(opts->title ? opts->title : "");
    in->opts.source_text = opts->source_text ? strdup(opts->source_text) : NULL;
    in->enc = tf_encoder_new();
    both_clocks(&in->begin_tsc, &in->begin_ns);
    in->committed_ns = in->begin_ns;
    int rc = tf_block_init(&in->block, err);
    if (!rc && (!in->enc || !in->opts.command || !in->opts.title ||
                (opts->source_text && !in->opts.source_text) || tf_block_thread(&in->block, 0)))
        rc = tf_db_memory(err);
    if (!rc)
        rc = tf_writer_init(&in->w, store, err);
    if (rc) {
        free_ingest(in);
        return rc;
    }
    *out = in;
    return 0;
}

/* After an error: what can still be saved, and why it ends here. */
static int close_failed(struct tf_ingest *in, int exit_status, int exit_signal, struct tf_err *err)
{
    struct tf_err ignored = {0};
    /* What came before a senseless item is sound. After a failed write the transaction is lost. */
    if (in->failed.code != TF_E_FORMAT || commit(in, TF_RUN_INCOMPLETE, -1, 0, &ignored))
        tf_writer_rollback(&in->w);
    int rc = tf_writer_mark(&in->w, in->stored.frames, TF_MARK_STOPPED, in->failed.msg,
                            strlen(in->failed.msg), err);
    if (!rc)
        rc = tf_writer_totals(&in->w, &in->stored, TF_RUN_INCOMPLETE, exit_status, exit_signal, err);
    if (!rc)
        rc = tf_writer_commit(&in->w, err);
    return rc;
}

int tf_ingest_end(struct tf_ingest *in, int exit_status, int exit_signal, struct tf_run *run,
                  struct tf_err *err)
{
    struct tf_err local;
    int rc = 0;
    if (!err)
        err = &local;
    if (run)
        *run = (struct tf_run){0};
    if (!in->started)
        goto out;
    if (in->failed.code) {
        rc = close_failed(in, exit_status, exit_signal, err);
    } else {
        /* The program may have slept at its end. A start that cannot be on this machine's clock says nothing.
         */
        uint64_t tsc = read_tsc(), start = in->start << TF_TIME_UNIT_SHIFT;
        if (start + (1u << TF_TIME_UNIT_SHIFT) > in->begin_tsc && start <= tsc) {
            calibrate(in);
            in->total.duration_ns = tf_run_ns(&in->run, (tsc - start) >> TF_TIME_UNIT_SHIFT);
        }
        rc = commit(in, TF_RUN_COMPLETE, exit_status, exit_signal, err);
        if (rc) {
            struct tf_err ignored = {0};
            fail(in, err);
            close_failed(in, exit_status, exit_signal, &ignored);
        }
    }
    if (!rc && run)
        rc = tf_store_find_run(in->store, in->run.id, run, err);
out:
    free_ingest(in);
    return rc;
}
