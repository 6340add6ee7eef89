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
 *     written, and replaced by a longer version of itself later; a partly filled outside block is closed. So
 *     whatever was committed is a prefix of the run, and frame numbers and outside events in it fit together.
 *     Between commits there are more such moments in the queue, for the case that not all of it can be
 * written.
 *  2. An outside event is written when all its data has come, or not at all.
 *  3. A full block of frame events is closed by the next frame event, not by its last one: the time that
 *     belongs to its last event may still come.
 *  4. The words of the ring are zeroed before `tail` passes them.
 *  5. in->stored holds the totals of what was committed.
 *  6. A forked process has a row when something has come from it, and with the row, in one transaction, the
 * block that the fork lies in. Its parent was committed at the fork, with nothing pending: so all that a
 * child's rows refer to is in the file before them.
 */
#include "store/drop.h"
#include "store/ingest.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PUBLISH_WORDS 16384u /* zeroed and given back at a time: fits the second-level cache */
#define COMMIT_NS 1000000000ull
/* Of rows in the queue. Small enough that the ring does not fill up meanwhile, and that what is written is
 * still in the processor's caches. */
#define COMMIT_BYTES (4ull << 20)
#define RATE_NS 20000000ull       /* the time over which it is seen how fast outside events come */
#define FAST_BYTES_MS 200000ull   /* 200 MB/s: zstd can do little more */
#define MOMENT_BYTES (512u << 10) /* what a full disk may cost of what would have had room */
#define QUEUE_MAX (256ull << 20)  /* while another process keeps us from writing */

/* zstd's levels: usual; when a good part of the ring is full; when it will soon be full, or is being filled
 * faster than it can be compressed. */
enum { LEVEL = 3, LEVEL_FAST = 1, LEVEL_HASTY = TF_W_HASTY };

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

uint64_t ingest_clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Both clocks at the same moment: of a few tries the one in which the least time passed between. */
void ingest_clocks(uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;
    *tsc = *ns = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t before = read_tsc(), t = ingest_clock_ns(CLOCK_MONOTONIC), after = read_tsc();
        if (i == 0 || after - before < best) {
            best = after - before;
            *tsc = before + best / 2;
            *ns = t;
        }
    }
}

void ingest_calibrate(struct tf_ingest *in)
{
    uint64_t tsc, ns;
    ingest_clocks(&tsc, &ns);
    in->total.cal_tsc = tsc - in->begin_tsc;
    in->total.cal_ns = ns - in->begin_ns;
    in->run.cal_tsc = in->total.cal_tsc;
    in->run.cal_ns = in->total.cal_ns;
}

int ingest_set_time(struct tf_ingest *in, uint64_t now, struct tf_err *err)
{
    if (!in->timed) {
        in->timed = true;
        in->start = now;
    }
    in->now = now > in->start ? now : in->start;
    if (in->opts.light) /* each event has its own */
        return 0;
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
    in->written_marks = block->n_marks;
    if (done) {
        uint32_t thread = tf_block_last_thread(block);
        block->first_frame += block->n;
        block->base_tick = e.last_tick;
        block->n = in->written = 0;
        block->n_marks = block->n_runs = in->written_marks = 0;
        if (tf_block_thread(block, thread))
            return tf_db_memory(err);
    }
    return 0;
}

/* Is there something this far ahead of what was taken? Data may be zero: then it is believed to be empty. */
static bool reaches(const struct tf_ingest *in, uint64_t words)
{
    const uint32_t *at = in->ring + ((in->shm->tail + words) & in->mask);
    uint32_t any = 0;
    for (int i = 0; i < 16; i++)
        any |= __atomic_load_n(at + i, __ATOMIC_RELAXED);
    return any != 0;
}

/*
 * How well to compress the block: as well as the program lets us. It should not have to wait for us, nor for
 * a processor that we keep busy. So who has a gigabyte in a second gets a large recording, unless the data is
 * of the kind that packs faster than it is copied.
 */
static int level(struct tf_ingest *in)
{
    uint64_t now = ingest_clock_ns(CLOCK_MONOTONIC), since = now - in->rate_ns;
    in->rate_bytes += in->out_whole;
    if (since > RATE_NS) {
        in->fast = in->rate_bytes / (since / 1000000 + 1) > FAST_BYTES_MS;
        in->rate_bytes = 0;
        in->rate_ns = now;
    }
    if (in->fast || reaches(in, (in->mask + 1) / 2))
        return LEVEL_HASTY;
    return reaches(in, (in->mask + 1) / 4) ? LEVEL_FAST : LEVEL;
}

/* Writes the whole outside events. */
int ingest_write_outside(struct tf_ingest *in, struct tf_err *err)
{
    struct tf_outside_block *b = &in->out_block;
    if (!in->out_whole)
        return 0;
    b->len = in->out_whole;
    int rc = tf_writer_outside(&in->w, b, in->out, level(in), err);
    if (rc)
        return rc;
    memmove(in->out, in->out + in->out_whole, in->out_len - in->out_whole);
    in->out_len -= in->out_whole;
    in->out_whole = 0;
    if (in->out_len == 0 && in->out_cap > TF_OUTSIDE_LARGE) { /* there was one very large event */
        free(in->out);
        in->out = NULL;
        in->out_cap = 0;
    }
    b->offset += b->len;
    b->first_seq += b->events;
    b->events = 0;
    return 0;
}

/* Queues everything up to now, so that what is written up to here is right: the rows of a moment. */
static int queue_moment(struct tf_ingest *in, int state, int exit_status, int exit_signal, struct tf_err *err)
{
    int rc = ingest_write_outside(in, err);
    if (!rc && (in->block.n > in->written || in->block.n_marks > in->written_marks))
        rc = write_frames(in, false, err);
    if (rc)
        return rc;
    ingest_calibrate(in);
    in->total.frames = in->block.first_frame - 1 + in->block.n;
    in->total.outside = in->out_block.first_seq - 1;
    in->total.outside_bytes = in->out_block.offset;
    uint64_t ns = tf_run_ns(&in->run, in->now - in->start);
    if (ns > in->total.duration_ns)
        in->total.duration_ns = ns;
    rc = tf_writer_totals(&in->w, &in->total, state, exit_status, exit_signal, err);
    in->moment = in->w.len;
    return rc;
}

int ingest_commit(struct tf_ingest *in, bool now, int state, int exit_status, int exit_signal,
                  struct tf_err *err)
{
    int rc = queue_moment(in, state, exit_status, exit_signal, err);
    if (!rc)
        rc = tf_writer_commit(&in->w, now || in->w.len > QUEUE_MAX, &in->stored, err);
    if (rc < 0)
        return rc;
    if (!rc)
        in->stored = in->total;
    in->moment = in->put_off = in->w.len;
    in->committed_ns = ingest_clock_ns(CLOCK_MONOTONIC);
    return 0;
}

static int commit_if_due(struct tf_ingest *in, struct tf_err *err)
{
    if (!in->started)
        return 0;
    bool pending = in->w.len || in->out_whole || in->block.n > in->written;
    if (!pending || (in->w.len < in->put_off + COMMIT_BYTES &&
                     ingest_clock_ns(CLOCK_MONOTONIC) - in->committed_ns < COMMIT_NS))
        return in->w.len < in->moment + MOMENT_BYTES ? 0 : queue_moment(in, TF_RUN_INCOMPLETE, -1, 0, err);
    return ingest_commit(in, false, TF_RUN_INCOMPLETE, -1, 0, err);
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

/* Something came from a forked process: it exists. */
static int begin_forked(struct tf_ingest *in, struct tf_err *err)
{
    uint32_t pid = in->shm->program_pid;
    int rc = tf_writer_fork(&in->w, &in->run, &in->fork, pid, err);
    if (!rc)
        rc = ingest_threads_forked(in, (int32_t)pid, err);
    /* Who asked for the fork did not know it yet. */
    if (!in->opts.child_proc && pid <= INT_MAX)
        in->opts.child_proc = (int)pid;
    if (!rc) {
        rc = ingest_commit(in, true, TF_RUN_INCOMPLETE, -1, 0, err);
        in->started = rc == 0;
    }
    if (rc) {
        tf_writer_rollback(&in->w);
        in->run.process = 0;
    }
    return rc;
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
        if (in->forked && !in->started && (rc = begin_forked(in, err)))
            break;
        if (TF_IS_FRAME(word)) {
            if (!in->started) {
                rc = ingest_senseless("a frame event before the start", err);
                break;
            }
            if (in->block.n == TF_BLOCK_FRAMES && (rc = write_frames(in, true, err)))
                break;
            if (TF_IS_SWITCH(word)) {
                if (tf_block_switch(&in->block, TF_LOW(word))) {
                    rc = tf_db_memory(err);
                    break;
                }
                taken++;
                continue;
            }
            uint64_t max = TF_BLOCK_FRAMES - in->block.n;
            if (max > size - taken)
                max = size - taken;
            if (max > PUBLISH_WORDS)
                max = PUBLISH_WORDS;
            uint32_t n = take_frames(in->block.words + in->block.n, p, (uint32_t)max, in->n_codes);
            if (n == 0) {
                rc = ingest_senseless("a code object that was not defined", err);
                break;
            }
            in->block.n += n;
            taken += n;
        } else if (TF_TAG(word) == TF_TIME) {
            rc = ingest_set_time(in, in->now + TF_LOW(word), err);
            if (rc)
                break;
            taken++;
        } else {
            uint64_t len = TF_RECORD_WORDS(word);
            if (len + 1 > size || len + 1 > TF_ITEM_MAX_WORDS) {
                rc = ingest_senseless("an item that is too long", err);
                break;
            }
            if (taken + 1 + len > size)
                break; /* the next drain starts here and has it all in front of it */
            rc = ingest_record(in, TF_RECORD_TYPE(word), (const uint8_t *)(p + 1), len * 4, err);
            if (rc)
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

int tf_ingest_drop_before(struct tf_ingest *in, uint64_t frame, uint64_t offset, struct tf_err *err)
{
    struct tf_err local;
    int rc = 0;
    if (!err)
        err = &local;
    if (in->failed.code)
        return tf_err_set(err, in->failed.code, "%s", in->failed.msg);
    if (!in->started)
        return tf_err_set(err, TF_E_USAGE, "a process that is not recorded yet has nothing to be dropped");
    /* Rows that are queued stay behind the place, if what is in the file reaches up to it. */
    if (in->stored.frames < frame || in->stored.outside_bytes < offset)
        rc = ingest_commit(in, false, TF_RUN_INCOMPLETE, -1, 0, err);
    if (rc)
        return fail(in, err);
    if (in->stored.frames < frame || in->stored.outside_bytes < offset)
        return 0;
    return tf_store_drop_before(in->store, &in->run, frame, offset, err);
}

void tf_ingest_leave(struct tf_ingest *in, const char *text)
{
    struct tf_err why;
    if (in->failed.code)
        return;
    tf_err_set(&why, TF_E_FORMAT, "%s", text); /* what was taken is sound */
    fail(in, &why);
}

void tf_ingest_note(struct tf_ingest *in, const char *text)
{
    struct tf_err err;
    if (in->failed.code || !in->started)
        return;
    if (tf_writer_mark(&in->w, in->block.first_frame - 1 + in->block.n, TF_MARK_NOTE, text, strlen(text),
                       &err))
        fail(in, &err);
}

bool tf_ingest_knows_end(const struct tf_ingest *in)
{
    return in->said_status >= 0 || in->said_signal;
}

bool tf_ingest_started(const struct tf_ingest *in)
{
    return in->started;
}

uint64_t tf_ingest_frames(const struct tf_ingest *in)
{
    return in->block.first_frame - 1 + in->block.n;
}

uint64_t tf_ingest_written(const struct tf_ingest *in)
{
    return in->w.written;
}

const struct tf_run *tf_ingest_run(const struct tf_ingest *in)
{
    return in->started ? &in->run : NULL;
}

uint32_t tf_ingest_process(const struct tf_ingest *in)
{
    return in->run.process;
}

/* ---- begin and end ---- */

static void free_ingest(struct tf_ingest *in)
{
    ingest_threads_free(&in->threads);
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

static int new_ingest(struct tf_store *store, struct tf_shm *shm, uint32_t *ring,
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
    in->said_status = -1;
    in->out_block.first_seq = 1;
    in->opts = *opts;
    in->opts.parent = NULL;
    in->opts.completes = NULL;
    in->opts.command = strdup(opts->command ? opts->command : "");
    in->opts.title = strdup(opts->title ? opts->title : "");
    in->opts.source_text = opts->source_text ? strdup(opts->source_text) : NULL;
    in->enc = tf_encoder_new();
    ingest_clocks(&in->begin_tsc, &in->begin_ns);
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

int tf_ingest_begin(struct tf_store *store, struct tf_shm *shm, uint32_t *ring,
                    const struct tf_ingest_opts *opts, struct tf_ingest **out, struct tf_err *err)
{
    const struct tf_ingest *parent = opts->parent;
    *out = NULL;
    if (parent && !parent->started)
        return tf_err_set(err, TF_E_USAGE, "the process that executed this one is not recorded");
    int rc = new_ingest(store, shm, ring, opts, out, err);
    if (!rc && opts->completes && (rc = ingest_complete(*out, opts->completes, err))) {
        free_ingest(*out);
        *out = NULL;
    }
    if (rc || !parent)
        return rc;
    struct tf_run *run = &(*out)->run;
    run->origin = TF_EXECUTED;
    run->parent = parent->run.process;
    /* Nothing more of a recording that failed will be in the file. */
    run->fork_frame =
        parent->failed.code ? parent->stored.frames : parent->block.first_frame - 1 + parent->block.n;
    memcpy(run->id, parent->run.id, sizeof run->id);
    return 0;
}

/* The child goes on with the parent's state, which is committed and has nothing pending. */
static int inherit(struct tf_ingest *child, const struct tf_ingest *parent, struct tf_err *err)
{
    child->forked = true;
    child->fork = (struct tf_fork){
        .run = parent->run.rowid,
        .parent = parent->run.process,
        .codes = parent->n_codes - 1,
        .marks = parent->w.n_marks,
        .mapped = parent->w.n_mapped,
        .frame = parent->block.first_frame - 1 + parent->block.n,
        .offset = parent->out_block.offset,
        .seq = parent->out_block.first_seq - 1,
        .tick = parent->now - parent->start,
    };
    memcpy(child->run.id, parent->run.id, sizeof child->run.id);
    child->run.origin = TF_FORKED;
    child->run.parent = parent->run.process;
    child->run.fork_frame = child->fork.frame;
    child->run.cwd = strdup(parent->run.cwd ? parent->run.cwd : "");
    child->begin_tsc = parent->begin_tsc;
    child->begin_ns = parent->begin_ns;
    child->timed = parent->timed;
    child->start = parent->start;
    child->now = parent->now;
    child->thread = parent->thread;
    child->n_codes = parent->n_codes;
    child->out_block.offset = parent->out_block.offset;
    child->out_block.first_seq = parent->out_block.first_seq;
    child->total = child->stored = parent->stored;
    child->w.n_marks = parent->w.n_marks;
    child->w.n_mapped = parent->w.n_mapped;
    if (!child->run.cwd || tf_block_copy(&child->block, &parent->block))
        return tf_db_memory(err);
    int rc = ingest_threads_copy(&child->threads, &parent->threads, err);
    return rc ? rc : tf_writer_copy_seen(&child->w, &parent->w, err);
}

int tf_ingest_fork(struct tf_ingest *parent, struct tf_shm *shm, uint32_t *ring, int child_proc,
                   struct tf_ingest **child, struct tf_err *err)
{
    struct tf_err local;
    struct tf_ingest_opts opts = {
        .command = parent->opts.command, .title = parent->opts.title, .child_proc = child_proc};
    int rc = 0;
    *child = NULL;
    if (!err)
        err = &local;
    if (parent->failed.code)
        return tf_err_set(err, parent->failed.code, "%s", parent->failed.msg);
    /* A process that forks exists, even if it has not said anything. */
    if (!parent->started && parent->forked)
        rc = begin_forked(parent, err);
    else if (!parent->started)
        return tf_err_set(err, TF_E_USAGE, "a process that is not recorded yet forks");
    else if (parent->missing)
        rc = ingest_senseless("a fork within an outside event", err);
    if (!rc)
        rc = ingest_commit(parent, true, TF_RUN_INCOMPLETE, -1, 0, err);
    if (rc)
        return fail(parent, err);
    rc = new_ingest(parent->store, shm, ring, &opts, child, err);
    if (!rc && (rc = inherit(*child, parent, err))) {
        free_ingest(*child);
        *child = NULL;
    }
    return rc;
}

/* After an error: what can still be saved, and why it ends here. */
static int close_failed(struct tf_ingest *in, int exit_status, int exit_signal, struct tf_err *err)
{
    struct tf_err ignored = {0};
    /* What came before a senseless item is sound. After a failed write the transaction is lost. */
    if (in->failed.code != TF_E_FORMAT || ingest_commit(in, true, TF_RUN_INCOMPLETE, -1, 0, &ignored))
        tf_writer_rollback(&in->w);
    int rc = tf_writer_mark(&in->w, in->stored.frames, TF_MARK_STOPPED, in->failed.msg,
                            strlen(in->failed.msg), err);
    if (!rc)
        rc = tf_writer_totals(&in->w, &in->stored, TF_RUN_INCOMPLETE, exit_status, exit_signal, err);
    if (!rc)
        rc = tf_writer_commit(&in->w, true, &in->stored, err);
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
    if (exit_status < 0 && !exit_signal) {
        exit_status = in->said_status;
        exit_signal = in->said_signal;
    }
    if (in->failed.code) {
        rc = close_failed(in, exit_status, exit_signal, err);
    } else {
        /* The program may have slept at its end. A start that cannot be on this machine's clock says nothing.
         */
        uint64_t tsc = read_tsc(), start = in->start << TF_TIME_UNIT_SHIFT;
        if (start + (1u << TF_TIME_UNIT_SHIFT) > in->begin_tsc && start <= tsc) {
            ingest_calibrate(in);
            in->total.duration_ns = tf_run_ns(&in->run, (tsc - start) >> TF_TIME_UNIT_SHIFT);
        }
        /* The write-ahead log would only have to be emptied again by who closes the file. */
        in->store->last = in->run.process == 1;
        if (!in->w.bulk && in->store->last)
            in->w.bulk = tf_db_single_file(in->store);
        rc = ingest_commit(in, true, TF_RUN_COMPLETE, exit_status, exit_signal, err);
        if (rc) {
            struct tf_err ignored = {0};
            fail(in, err);
            close_failed(in, exit_status, exit_signal, &ignored);
        }
    }
    if (!rc && in->started && tf_db_moved(in->store))
        rc = tf_err_set(
            err, TF_E_IO,
            "%s was removed or renamed while it was written to: if it still exists, it may lack this run",
            in->store->path);
    if (!rc && run)
        rc = tf_store_find_process(in->store, in->run.id, in->run.process, run, err);
out:
    free_ingest(in);
    return rc;
}
