/*
 * log.c: outside events. While recording they go to the ring, in front of everything that the program does
 * next; while replaying they are read from the outside stream, and each must be what the program does now:
 * the same call, at the same frame event, with the same arguments, byte for byte. There is no way around a
 * mismatch and no fall-through to the real call.
 */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include "iohooks/process.h"

#define WORDS(bytes) (((bytes) + 3) / 4)
#define CHUNK_WORDS (TF_ITEM_MAX_WORDS / 2)

/* ---- record ---- */

/* Copies from pieces[*piece] at *skip on, up to max bytes. */
static size_t copy_pieces(uint8_t *to, size_t max, const struct iovec *pieces, int n, int *piece,
                          size_t *skip)
{
    size_t done = 0;
    while (*piece < n && done < max) {
        size_t part = pieces[*piece].iov_len - *skip;
        if (part > max - done)
            part = max - done;
        memcpy(to + done, (const uint8_t *)pieces[*piece].iov_base + *skip, part);
        done += part;
        *skip += part;
        if (*skip == pieces[*piece].iov_len) {
            (*piece)++;
            *skip = 0;
        }
    }
    return done;
}

/* Out of turn, a thread keeps its events (turn.c). There is room: tf_turn_writes_between(). */
static uint32_t *room(size_t words)
{
    return tf_turn_is_mine() ? tf_ring_reserve(words) : tf_self->side + tf_self->side_words;
}

static void done(uint32_t first_word, size_t payload_words)
{
    if (tf_turn_is_mine()) {
        tf_ring_commit(first_word, payload_words);
        return;
    }
    tf_self->side[tf_self->side_words] = first_word;
    tf_self->side_words += 1 + (uint32_t)payload_words;
}

/* True: the turn was taken for it. */
static bool begin(size_t bytes)
{
    if (tf_turn_is_mine())
        return false;
    if (!tf_turn_writes_between(bytes)) {
        tf_self->side_events++;
        return false;
    }
    tf_turn_take(false, TF_TURN_PLAIN);
    return true;
}

/* A record with a head of whole words, then the bytes of the pieces, as many as fit; the rest in records that
 * follow. */
static void put_long(enum tf_record type, const struct iovec *head, int heads, const struct iovec *data,
                     int pieces)
{
    size_t head_len = 0, data_len = 0, skip = 0;
    int piece = 0;
    for (int i = 0; i < heads; i++)
        head_len += head[i].iov_len;
    for (int i = 0; i < pieces; i++)
        data_len += data[i].iov_len;
    do {
        size_t n = data_len < CHUNK_WORDS * 4 ? data_len : CHUNK_WORDS * 4, words = WORDS(head_len + n);
        uint32_t *at = room(1 + words);
        if (!at)
            return;
        uint8_t *to = (uint8_t *)(at + 1);
        at[words] = 0; /* the padding, if any */
        for (int i = 0; i < heads; i++) {
            memcpy(to, head[i].iov_base, head[i].iov_len);
            to += head[i].iov_len;
        }
        copy_pieces(to, n, data, pieces, &piece, &skip);
        done(TF_RECORD_WORD(type, words), words);
        data_len -= n;
        head_len = 0;
        heads = 0;
        type = TF_REC_DATA;
    } while (data_len);
}

/* In a copy of a recording that was taken when the call had been made, and the thread waited for its turn to
 * write that: what it is about to write is in the log. */
static void was_put(unsigned nr)
{
    tf_turn_await();
    const struct tf_outside *e = tf_log_peek();
    if (!e)
        tf_core.stopped(TF_STOPPED_END, 0);
    if (e->call != nr)
        tf_diverge("the log has another call than the one that was under way at a checkpoint");
    tf_log_skip(e);
}

/* A light recording: what is known of the place instead of the frame event. */
static void pulse(void)
{
    if (!tf.light || tf.mode != TF_RECORDS)
        return;
    uint32_t where = tf.engine->pulse();
    tf_ring_stamp(tf_tsc());
    tf_log_record(TF_REC_PULSE, &where, sizeof where, NULL, 0);
}

void tf_log_put(unsigned nr, unsigned flags, long result, const void *args, size_t args_len,
                const struct iovec *data, int pieces)
{
    static const uint8_t zero[8];
    struct tf_rec_outside rec = {
        .call = (uint16_t)nr, .flags = (uint16_t)flags, .args_len = (uint32_t)args_len, .result = result};
    struct iovec head[3] = {{&rec, sizeof rec}, {(void *)args, args_len}, {(void *)zero, -args_len & 7}};
    for (int i = 0; i < pieces; i++)
        rec.data_len += data[i].iov_len;
    if (tf.mode == TF_REPLAYS && tf.light) {
        tf_derive_event(nr, flags, result, args, args_len, data, pieces);
        return;
    }
    if (tf.mode == TF_REPLAYS)
        was_put(nr);
    if (tf.mode != TF_RECORDS)
        return;
    pulse();
    bool taken = begin(args_len + rec.data_len);
    if (tf.mode == TF_REPLAYS)
        was_put(nr);
    else
        put_long(TF_REC_OUTSIDE, head, 3, data, pieces);
    if (taken)
        tf_turn_release();
}

void tf_log_clock(int clock, const struct timespec *now)
{
    const struct tf_rec_clock rec = {.sec = now->tv_sec, .nsec = (uint32_t)now->tv_nsec, .clock = clock};
    bool taken = begin(8 + sizeof *now);
    if (tf.mode == TF_REPLAYS) {
        was_put(SYS_clock_gettime);
        return;
    }
    pulse();
    uint32_t *at = room(1 + sizeof rec / 4);
    if (at) {
        memcpy(at + 1, &rec, sizeof rec);
        done(TF_RECORD_WORD(TF_REC_CLOCK, sizeof rec / 4), sizeof rec / 4);
    }
    if (taken)
        tf_turn_release();
}

void tf_log_start(const struct tf_rec_start *start, const struct iovec *texts, int n)
{
    struct iovec head = {(void *)start, sizeof *start};
    put_long(TF_REC_START, &head, 1, texts, n);
}

void tf_log_record(enum tf_record type, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    size_t words = WORDS(head_len + tail_len);
    uint32_t *at = tf_ring_reserve(1 + words);
    if (!at)
        return;
    uint8_t *to = (uint8_t *)(at + 1);
    memcpy(to, head, head_len);
    if (tail_len)
        memcpy(to + head_len, tail, tail_len);
    memset(to + head_len + tail_len, 0, words * 4 - head_len - tail_len);
    tf_ring_commit(TF_RECORD_WORD(type, words), words);
}

void tf_log_mark(enum tf_mark kind, const char *text)
{
    struct tf_rec_mark mark = {.kind = kind, .text_len = (uint32_t)strlen(text)};
    pulse();
    tf_log_record(TF_REC_MARK, &mark, sizeof mark, text, mark.text_len + 1);
}

/* ---- replay ---- */

static const struct tf_outside *event_here(void)
{
    if (tf.offset >= tf.ctl->outside_bytes)
        return NULL;
    if (tf.offset >= tf.valid_end)
        tf_need(tf.offset);
    return (const struct tf_outside *)(TF_LOG_ADDR + tf.offset);
}

/* The event at tf.offset, loaded; NULL at the end of the stream. */
const struct tf_outside *tf_log_peek(void)
{
    const struct tf_outside *e = event_here();
    while (tf.light && e && tf_derive_is_passed(e)) {
        tf.offset += e->total_len;
        e = event_here();
    }
    return e;
}

static const char *expected(const struct tf_outside *e, char *buf, size_t size)
{
    if (e->call == TF_CALL_MARK) {
        snprintf(buf, size, "%.*s", (int)(e->args_len > 8 ? e->args_len - 8 : 0),
                 (const char *)tf_outside_args(e) + 8);
    } else if (e->call == TF_CALL_SIGNAL || e->call == TF_CALL_FAULT) {
        snprintf(buf, size, "signal %d", (int)e->result);
    } else if (e->call == TF_CALL_CODE) {
        const char *file = (const char *)tf_outside_args(e) + 8;
        size_t n = e->args_len > 8 ? strnlen(file, e->args_len - 8) : 0;
        const char *name = e->args_len > 9 + n ? file + n + 1 : "";
        snprintf(buf, size, "the first run of %s (%.*s)", name, (int)n, file);
    } else {
        tf_call_format(buf, size, e);
    }
    return buf;
}

static char log_has[2048], did[2048];

uint64_t tf_log_next_stop(void)
{
    const struct tf_outside *e = tf_log_peek();
    uint32_t kind;
    if (tf.light) /* all that is in it comes with a call */
        return UINT64_MAX;
    if (e && (e->call == TF_CALL_SIGNAL || e->call == TF_CALL_YIELD || e->call == TF_CALL_PREEMPT))
        return e->frame;
    if (!e || e->call != TF_CALL_MARK || tf.run.stop.kind == TF_STOP_LINE || tf.run.stop.kind == TF_STOP_EXIT)
        return UINT64_MAX;
    memcpy(&kind, tf_outside_args(e), 4);
    if (kind != TF_MARK_LOOP)
        return UINT64_MAX;
    if (e->frame == tf_frames()) /* nothing will come that could meet it */
        tf_replay_barrier(expected(e, log_has, sizeof log_has));
    return e->frame;
}

void tf_log_skip(const struct tf_outside *e)
{
    tf.offset += e->total_len;
    if (!tf.armed && tf.offset < tf.ctl->outside_bytes && tf_log_next_stop() != UINT64_MAX)
        tf_emit_resume(); /* the event after which it comes has to take the slow path */
}

/* The same call, but the program stands elsewhere, or its variables are others: something depended on
 * addresses, or on when objects are freed. */
static void check_pulse(const struct tf_outside *e, unsigned nr)
{
    char name[32];
    if (tf_outside_thread(e) == tf.engine->pulse())
        return;
    tf_diverge_from(
        &(struct tf_difference){.kind = TF_DIVERGED_OTHER, .call = TF_NO_CALL, .event = e},
        "at %s, the program was in other functions, or had other values in its variables, when it "
        "was recorded: something depends on the addresses of objects, or on when they are freed, "
        "which differ when frame events are counted. Record it without --light",
        tf_call_name(nr, name, sizeof name));
}

/* What of the arguments is compared. The last one of futex(2) is what happens to be in the register, for most
 * of its operations; with a frame hook, that is something else. */
static size_t compared(unsigned nr, size_t args_len)
{
    return tf.light && nr == SYS_futex ? args_len - 8 : args_len;
}

static const struct tf_outside *take(unsigned nr, const void *args, size_t args_len, size_t skip)
{
    tf_turn_await();
    const struct tf_outside *e = tf_log_peek();
    if (!e)
        tf_core.stopped(TF_STOPPED_END, 0);
    if (e->call == TF_CALL_MARK) {
        uint32_t kind;
        memcpy(&kind, tf_outside_args(e), 4);
        if (kind == TF_MARK_BARRIER || kind == TF_MARK_LOOP || kind == TF_MARK_STOPPED) {
            if (tf.light)
                tf_derive_taken(e, tf_outside_args(e), e->args_len);
            tf_replay_barrier(expected(e, log_has, sizeof log_has));
        }
    }
    if (e->call == nr && tf_log_is_here(e) && e->args_len == args_len && skip <= args_len &&
        memcmp(tf_outside_args(e) + skip, (const uint8_t *)args + skip, compared(nr, args_len) - skip) == 0) {
        if (tf.light)
            check_pulse(e, nr);
        tf_log_skip(e);
        if (nr == SYS_chdir || nr == SYS_fchdir)
            tf.moved |= e->result == 0;
        if (!tf_turn_is_mine() && tf_turn_writes_between(args_len + e->data_len)) {
            tf_turn_take(false, TF_TURN_PLAIN); /* as it was when recording */
            tf_turn_release();
        }
        return e;
    }
    if (nr == TF_CALL_CODE) {
        const char *file = (const char *)args + 8;
        snprintf(did, sizeof did, "the first run of %s (%s)", file + strlen(file) + 1, file);
    } else {
        tf_call_format_args(did, sizeof did, nr, args, args_len);
    }
    expected(e, log_has, sizeof log_has);
    struct tf_difference difference = {.kind = e->call != nr        ? TF_DIVERGED_CALL
                                               : nr == TF_CALL_CODE ? TF_DIVERGED_FUNCTION
                                                                    : TF_DIVERGED_ARGS,
                                       .call = nr,
                                       .args = args,
                                       .args_len = args_len,
                                       .event = e};
    if (e->call == nr && e->args_len == args_len && memcmp(tf_outside_args(e), args, args_len) == 0) {
        difference.kind = TF_DIVERGED_ORDER;
        tf_diverge_from(
            &difference,
            "the program did %s after frame event %llu, the recording has it after frame event %llu", did,
            (unsigned long long)tf_frames(), (unsigned long long)e->frame);
    }
    if (nr == TF_CALL_MARK)
        tf_diverge_from(&difference,
                        "the program ended here (%s%s), the recording has %s (after frame event %llu)",
                        ((const char *)args)[8] == 's' ? "" : "exit status ", (const char *)args + 8, log_has,
                        (unsigned long long)e->frame);
    size_t same = strlen(did);
    if (e->call == nr && strncmp(did, log_has, same) == 0 && (log_has[same] == 0 || log_has[same] == ' '))
        tf_diverge_from(&difference, "the program did %s with other data than the recording has", did);
    tf_diverge_from(&difference, "the program did %s, the recording has %s (after frame event %llu)", did,
                    log_has, (unsigned long long)e->frame);
}

const struct tf_outside *tf_log_take(unsigned nr, const void *args, size_t args_len)
{
    const struct tf_outside *e = take(nr, args, args_len, 0);
    if (tf.light)
        tf_derive_taken(e, args, args_len);
    return e;
}

const struct tf_outside *tf_log_take_moved(unsigned nr, const void *args, size_t args_len, size_t skip)
{
    return take(nr, args, args_len, skip);
}
