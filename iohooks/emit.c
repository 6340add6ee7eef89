/*
 * emit.c: where event words go. While recording, into the ring (ring.h); while replaying, into one block of
 * words whose digest is compared with the recorded one when it is full; otherwise, into memory that nobody
 * reads.
 *
 * The engine stores a word at `p`, advances it, and calls tf_slow() when p reaches `limit`. So what has to
 * happen at a certain event (a time stamp, a look at the free space, a checkpoint, the target of a replay)
 * costs nothing at all others: whoever wants something to happen lowers the limit.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "iohooks/process.h"

#define BLOCK_FRAMES 65536u /* as TF_BLOCK_FRAMES of store.h: the unit of digests */
/* Events between two time stamps: so many that a stamp comes every few microseconds, for it costs as much as
 * some events. Where a program works long between two events, they are few: the times of those are told
 * apart. */
#define STAMP_LEAST 8
#define STAMP_MOST 128
#define STAMP_SOON (1u << 14) /* TSC ticks: 4 to 8 us */
#define STAMP_LATE (1u << 16)
#define LINE_WORDS 16  /* of the processor's cache */
#define SLACK_WORDS 64 /* what the slow path itself writes, at most */
#define WAKE_WORDS (1u << 17)
#define REPLAY_LOOK 8192 /* replay: events between two looks at the clock, for checkpoints */

struct tf_process tf;

/* ---- record ---- */

static uint64_t position(void)
{
    return tf.lap + (uint64_t)(tf.p - tf.ring);
}

static void wake_supervisor(uint64_t at)
{
    tf.last_wake = at;
    if (__atomic_load_n(&tf.shm->need_wake, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&tf.shm->need_wake, 0, __ATOMIC_RELEASE);
        struct tf_msg msg = {.op = TF_REP_WAKE};
        struct iovec part = {&msg, sizeof msg};
        struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
        tf_sys(SYS_sendmsg, tf.socket, &head, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

bool tf_supervisor_lost(void)
{
    struct pollfd fd = {.fd = tf.socket};
    struct timespec none = {0, 0};
    if (tf.socket >= 0 && tf_sys(SYS_ppoll, &fd, 1, &none, 0, 8) == 1 && (fd.revents & (POLLHUP | POLLERR)))
        return true;
    /* One that nobody has waited for yet still has its pid, but no children any more. */
    return tf_sys(SYS_kill, tf.shm->supervisor_pid, 0) == -ESRCH ||
           (tf.is_child && tf_sys(SYS_getppid) != tf.shm->supervisor_pid);
}

/* Waits until `words` more words may be written. False when the supervisor is gone or wants no more. */
static bool have_space(size_t words)
{
    uint64_t need = position() + words;
    for (;;) {
        uint32_t seen = __atomic_load_n(&tf.shm->space_futex, __ATOMIC_ACQUIRE);
        tf.space_end = __atomic_load_n(&tf.shm->tail, __ATOMIC_ACQUIRE) + tf.ring_words;
        if (__atomic_load_n(&tf.shm->stop, __ATOMIC_ACQUIRE))
            return false;
        if (need <= tf.space_end)
            return true;
        struct timespec wait = {0, 50 * 1000 * 1000};
        wake_supervisor(position());
        tf_sys(SYS_futex, &tf.shm->space_futex, FUTEX_WAIT, seen, &wait);
        if (tf_supervisor_lost())
            return false;
    }
}

void tf_emit_off(void)
{
    if (tf.mode == TF_RECORDS) {
        tf_signal_loose();
        tf_maps_loose();
    }
    tf.mode = TF_OFF;
    tf_thread_untrap();
    tf_turn_dissolve();
    if (tf.words) {
        tf.p = tf.words;
        tf.limit = tf.words + BLOCK_FRAMES;
    } else {
        tf.p = tf.ring;
        tf.limit = tf.ring + tf.ring_words;
    }
}

static void normalise(void)
{
    if (tf.p >= tf.ring + tf.ring_words) {
        tf.p -= tf.ring_words;
        tf.lap += tf.ring_words;
    }
}

uint32_t *tf_ring_reserve(size_t words)
{
    normalise();
    if (position() + words + STAMP_MOST + SLACK_WORDS > tf.space_end &&
        !have_space(words + STAMP_MOST + SLACK_WORDS)) {
        tf_emit_off();
        return NULL;
    }
    return tf.p;
}

/* The next event that takes the slow path: when it is time for a stamp. Outside events in between do not put
 * it off. */
static void set_record_limit(void)
{
    uint64_t at = position();
    tf.limit = tf.p + (tf.stamp_at > at ? tf.stamp_at - at : 1);
}

void tf_ring_commit(uint32_t first_word, size_t payload_words)
{
    __atomic_store_n(tf.p, first_word, __ATOMIC_RELEASE);
    tf.p += 1 + payload_words;
    normalise();
    set_record_limit();
    if (position() - tf.last_wake > WAKE_WORDS)
        wake_supervisor(position());
}

/* Writes the time that has passed since the last stamp. */
static void stamp(uint64_t now)
{
    uint64_t units = (now - tf.last_tsc) >> TF_TIME_UNIT_SHIFT;
    if (units < (1ul << TF_TAG_SHIFT)) {
        /* What the unit cuts off is not lost: it is in the next stamp. */
        tf.last_tsc += units << TF_TIME_UNIT_SHIFT;
        __atomic_store_n(tf.p, TF_WORD(TF_TIME, units), __ATOMIC_RELEASE);
        tf.p++;
    } else {
        tf.last_tsc = now;
        memcpy(tf.p + 1, &now, 8);
        __atomic_store_n(tf.p, TF_RECORD_WORD(TF_REC_TIME, 2), __ATOMIC_RELEASE);
        tf.p += 3;
    }
}

void tf_ring_stamp(uint64_t now)
{
    if (tf_turn_is_mine() && tf_ring_reserve(0) && now > tf.last_tsc)
        stamp(now);
}

void tf_emit_start_record(void)
{
    tf.p = tf.ring;
    tf.space_end = tf.ring_words;
    tf.stamp_every = STAMP_LEAST;
    tf.last_tsc = tf.shm->tsc_start = tf_tsc();
    tf.snapshot_from = tf.last_tsc;
    tf.pid = (int)tf_sys(SYS_getpid);
    tf.shm->program_pid = (uint32_t)tf.pid;
    tf.is_child = tf_sys(SYS_getppid) == tf.shm->supervisor_pid;
    memcpy(tf.p + 1, &tf.last_tsc, 8);
    tf_ring_commit(TF_RECORD_WORD(TF_REC_TIME, 2), 2);
}

void tf_emit_start_child(void)
{
    tf.lap = 0;
    tf.last_wake = 0;
    tf.stamp_at = 0;
    tf_emit_start_record();
    tf.is_child = false;
}

/* Has the supervisor said when the next checkpoint is due, and is it? */
static bool is_due(uint64_t now, uint64_t from, const uint64_t *ticks, const uint32_t *answered,
                   uint32_t serial)
{
    return __atomic_load_n(answered, __ATOMIC_ACQUIRE) == serial && now > from &&
           now - from > __atomic_load_n(ticks, __ATOMIC_RELAXED);
}

/* How many events there shall be up to the next stamp, when the last ones took so long. */
static uint32_t events_to_stamp(uint32_t events, uint64_t ticks)
{
    if (ticks < STAMP_SOON && events < STAMP_MOST)
        return events * 2;
    if (ticks > STAMP_LATE && events > STAMP_LEAST)
        return events / 2;
    return events;
}

/* The supervisor had the lines of the ring last, to clear them: fetches them back before they are needed, to
 * be written. */
__attribute__((target("prfchw"))) static void fetch_lines(const uint32_t *p, uint32_t words)
{
    for (uint32_t i = 0; i < words; i += LINE_WORDS)
        __builtin_prefetch(p + i, 1, 3);
}

static void slow_record(void)
{
    uint64_t now = tf_tsc();
    if (!tf_ring_reserve(0))
        return;
    fetch_lines(tf.p + tf.stamp_every, tf.stamp_every + LINE_WORDS);
    tf.stamp_every = events_to_stamp(tf.stamp_every, now - tf.last_tsc);
    stamp(now);
    normalise();
    if (position() - tf.last_wake > WAKE_WORDS)
        wake_supervisor(position());
    if (tf.shm->snapshots && tf.mode == TF_RECORDS &&
        is_due(now, tf.snapshot_from, &tf.shm->snapshot_ticks, &tf.shm->snapshot_answered,
               tf.snapshot_serial))
        tf_snapshot_record(now); /* in the copy, this returns in replay mode */
    if (tf.mode == TF_RECORDS || tf.mode == TF_LOOSE) {
        /* With chaos every event is a place at which another thread may go on. */
        tf.stamp_at = position() + (tf.shm->chaos && tf_many ? 1 : tf.stamp_every);
        set_record_limit();
    }
}

/* ---- replay ---- */

uint64_t tf_frames(void)
{
    return tf.block_base + (uint64_t)(tf.p - tf.words);
}

void tf_emit_start_replay(void)
{
    tf.p = tf.words;
    tf.limit = tf.words; /* set by the first tf_slow or by what starts the run */
}

/* A block of words must have the recorded digest. If not, the supervisor gets the words and finds where they
 * differ. The words are those up to tf.p. */
static void check_block(uint32_t n)
{
    uint64_t block = tf.block_base / BLOCK_FRAMES;
    if (block >= tf.ctl->blocks)
        return;
    if (XXH3_64bits(tf.words, n * sizeof *tf.words) != tf.ctl->digests[block])
        tf_diverge_block();
}

static void set_limit(void)
{
    uint64_t here = tf_frames(), stop = here + REPLAY_LOOK;
    if (tf.run.stop.frame > here && tf.run.stop.frame < stop)
        stop = tf.run.stop.frame;
    if (stop > tf.block_base + BLOCK_FRAMES)
        stop = tf.block_base + BLOCK_FRAMES;
    if (here <= tf.ctl->frames && stop > tf.ctl->frames)
        stop = here < tf.ctl->frames ? tf.ctl->frames : tf.ctl->frames + 1;
    if (tf.scanning) {
        uint64_t scan = tf_scan_limit(here);
        if (scan > here && scan < stop)
            stop = scan;
    }
    uint64_t signal = tf_log_next_stop();
    if (signal > here && signal < stop)
        stop = signal;
    tf.limit = tf.words + (stop - tf.block_base);
}

/* A run that was cut off: is this everything that the recording has? */
void tf_stop_at_all(void)
{
    if (!tf.light && tf.run.stop.kind == TF_STOP_ALL && tf_frames() == tf.ctl->frames &&
        tf.offset == tf.ctl->outside_bytes)
        tf_core.stopped(TF_STOPPED_AT, 0);
}

/* The next event came before the stop that is armed: is it one that may? */
static bool may_come_first(void)
{
    return tf.run.stop.kind == TF_STOP_EXIT && tf_frames() <= tf.run.stop.frame + tf.run.stop.lines;
}

static void slow_replay(uint32_t word, void *tstate, void *frame)
{
    if (tf.armed && !may_come_first())
        tf_core.stopped(TF_STOPPED_SHORT, tf.engine->lines_seen());
    if (tf_frames() > tf.ctl->frames) {
        /* The recording ends here, without an exit: the process was killed. What would come now never
         * happened. */
        tf.p--;
        if (tf.scanning)
            tf_scan_end();
        tf_core.stopped(TF_STOPPED_END, 0);
    }
    if (tf_frames() == tf.ctl->frames && tf.p > tf.words)
        check_block((uint32_t)(tf.p - tf.words));
    if (tf.p == tf.words + BLOCK_FRAMES) {
        check_block(BLOCK_FRAMES);
        if (tf.scanning)
            tf_scan_block_ends();
        uint64_t frames = tf_frames();
        if (tf.light)
            tf_derive_block();
        tf_send(TF_REP_PROGRESS, &frames, sizeof frames, NULL, 0);
        tf.block_base += BLOCK_FRAMES;
        tf.p = tf.words;
    }
    if (tf.armed) {
        tf.limit = tf.p + 1;
        return;
    }
    if (tf.scanning) {
        tf_scan_at(word, tstate, frame);
        set_limit();
        return;
    }
    if ((tf.run.snapshots &&
         is_due(tf_tsc(), tf.run_from, &tf.ctl->snapshot_ticks, &tf.ctl->snapshot_answered, tf.run_serial)) ||
        (tf.run.snapshot_at_stop && tf.run.stop.frame == tf_frames()))
        tf_snapshot_replay(tf_tsc()); /* returns in the process that goes on, and in a copy that is to run */
    tf_stop_at_all();
    if (tf.run.stop.frame == tf_frames() && tf.run.stop.kind != TF_STOP_ALL) {
        if (tf.run.stop.kind == TF_STOP_EVENT)
            tf_core.stopped(TF_STOPPED_AT, 0);
        if (tf.run.stop.kind == TF_STOP_SCAN) {
            tf_scan_begin(word, tstate, frame);
            set_limit();
            return;
        }
        tf.armed = true;
        tf.mode = TF_ARMS;
        tf.engine->arm(&tf.run.stop, tstate, frame, (int)TF_TAG(word));
        tf.mode = TF_REPLAYS;
        tf.limit = tf.p + 1;
        return;
    }
    set_limit();
}

void tf_slow(uint32_t word, void *tstate, void *frame)
{
    tf_self->inside++;
    switch (tf.mode) {
    case TF_RECORDS:
    case TF_LOOSE:
        if (!tf_self->named && frame)
            tf_thread_named(frame);
        slow_record();
        if (tf.mode != TF_REPLAYS)
            break;
        __attribute__((fallthrough)); /* a copy that was taken while recording starts to replay here */
    case TF_REPLAYS:
        slow_replay(word, tstate, frame);
        break;
    case TF_OFF:
    case TF_ARMS:
    case TF_LOOKS:
        tf_emit_off_again();
        break;
    }
    tf_self->inside--;
    /* At a switch it has just got it. At an entry the interpreter does not have the function on its stack
     * yet: who stood there when the thread goes on would see neither the function nor its lines. */
    if (!TF_IS_SWITCH(word) && !TF_IS_ENTRY(word))
        tf_turn_slice(tf.last_tsc);
    tf_signal_safe_point(TF_AFTER_EVENT);
    tf_turn_expect_preempt();
}

void tf_emit_off_again(void)
{
    tf.p = tf.words ? tf.words : tf.ring;
}

void tf_emit_resume(void)
{
    set_limit();
}

/* The program calls exit: nothing comes after that. */
void tf_replay_end(void)
{
    if (tf.scanning)
        tf_scan_end();
    if (tf.armed)
        tf_core.stopped(TF_STOPPED_SHORT, tf.engine->lines_seen());
    tf_core.stopped(TF_STOPPED_END, 0);
}

/* ---- what the engine sees ---- */

static uint32_t on_code(uint64_t hash, uint32_t first_line, uint32_t flags, const char *file, size_t file_len,
                        const char *name, size_t name_len)
{
    /* The log has hash, file and name: in replay the same function must come at the same place. */
    static uint8_t args[8 + 2 * 4096];
    uint32_t id = ++tf.next_code;
    if (file_len > 4095)
        file_len = 4095;
    if (name_len > 4095)
        name_len = 4095;
    if (tf.mode == TF_RECORDS || tf.mode == TF_LOOSE || (tf.mode == TF_REPLAYS && tf.light)) {
        struct tf_rec_code rec = {.id = id,
                                  .first_line = first_line,
                                  .hash = hash,
                                  .flags = flags,
                                  .file_len = (uint32_t)file_len,
                                  .name_len = (uint32_t)name_len};
        memcpy(args, file, file_len);
        args[file_len] = 0;
        memcpy(args + file_len + 1, name, name_len);
        args[file_len + 1 + name_len] = 0;
        if (tf.mode == TF_REPLAYS) {
            tf_derive_code(&rec, args, file_len + name_len + 2);
            tf_fault_prepare();
        } else {
            tf_log_record(TF_REC_CODE, &rec, sizeof rec, args, file_len + name_len + 2);
        }
    } else if (tf.mode == TF_REPLAYS) {
        memcpy(args, &hash, 8);
        memcpy(args + 8, file, file_len);
        args[8 + file_len] = 0;
        memcpy(args + 9 + file_len, name, name_len);
        args[9 + file_len + name_len] = 0;
        tf_log_take(TF_CALL_CODE, args, 10 + file_len + name_len);
        tf_fault_prepare();
    }
    return id;
}

static bool records_light(void)
{
    return tf.light && tf.mode == TF_RECORDS;
}

static uint32_t next_code(void)
{
    return tf.next_code + 1;
}

static void __attribute__((noreturn)) on_stopped(int why, uint64_t lines)
{
    if (tf.light)
        tf_derive_flush();
    struct tf_stop_rep rep = {
        .why = (uint32_t)why, .frame = tf_frames(), .lines = lines, .offset = tf.offset};
    rep.words = (uint32_t)(tf.p - tf.words);
    rep.digest = XXH3_64bits(tf.words, rep.words * sizeof *tf.words);
    tf.running = false;
    tf_send(TF_REP_STOPPED, &rep, sizeof rep, NULL, 0);
    for (;;)
        tf_serve(); /* a stopped process answers; copies of it are asked to inspect, never to run */
}

static void on_item(int type, const void *part1, size_t len1, const void *part2, size_t len2,
                    const void *part3, size_t len3)
{
    struct tf_msg msg = {.op = TF_REP_ITEM, .len = 4 + len1 + len2 + len3};
    uint32_t t = (uint32_t)type;
    if (type == TF_ITEM_DONE)
        tf_look_flush();
    tf_send_parts((struct iovec[]){{&msg, sizeof msg},
                                   {&t, sizeof t},
                                   {(void *)part1, len1},
                                   {(void *)part2, len2},
                                   {(void *)part3, len3}},
                  5);
}

const struct tf_core tf_core = {
    .abi = TF_ENGINE_ABI,
    .cursor = &tf.cursor,
    .slow = tf_slow,
    .code = on_code,
    .next_code = next_code,
    .records_light = records_light,
    .stopped = on_stopped,
    .item = on_item,
    .mute = tf_look_mute,
    .scan_place = tf_scan_place,
    .scan_hit = tf_scan_hit,
    .scan_end = tf_scan_end,
    .mapped = tf_mapped,
    .scan_aside = tf_scan_aside,
    .scan_log = tf_scan_log,
    .gil = tf_gil_at,
    .thread_of = tf_thread_of,
    .divergence = tf_diverge,
};
