/*
 * derive.c: completing a light recording (docs/light.md). The program is executed again, with the frame hook,
 * and answered from the light log; what happens goes to the supervisor as the items of a ring (ring.h): frame
 * events, code objects, and the outside events at their places among them. There they take the way that those
 * of a recorded program take.
 *
 * Memory is the one thing that a light log does not decide. With the hook, the interpreter holds the
 * arguments of a call for longer and allocates a little more, so objects have other addresses than in the
 * light run, and the heap grows at other moments. Calls by which the process changes memory of its own are
 * therefore made as if this were recording, and those of the light log are passed over. What comes out of
 * here is the log of this execution.
 *
 * Words of frame events are in the block (tf.words), as in every replay; they are copied from there in front
 * of anything else.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "iohooks/process.h"

#define WORDS(bytes) (((bytes) + 3) / 4)
#define ITEMS_MAX (1u << 17)
#define DATA_WORDS (TF_ITEM_MAX_WORDS / 4) /* of an event's data in one item */

static struct {
    uint32_t v[ITEMS_MAX];
    size_t n;
    size_t words;  /* of the block that were copied */
    uint64_t tick; /* of the last event, which is the best that is known of what comes next */
} items;

static bool is_of_memory(unsigned nr)
{
    return nr == SYS_brk || nr == SYS_mmap || nr == SYS_munmap || nr == SYS_mremap || nr == SYS_mprotect ||
           nr == SYS_madvise;
}

bool tf_derive_is_free(unsigned nr, const void *args, size_t args_len)
{
    uint64_t flags;
    if (nr != SYS_mmap)
        return is_of_memory(nr);
    if (args_len < 4 * sizeof flags)
        return false;
    memcpy(&flags, (const uint8_t *)args + 3 * sizeof flags, sizeof flags); /* its fourth argument */
    return flags & MAP_ANONYMOUS;
}

/* One that failed met a limit, which the completion's process does not have: it has to fail again. */
bool tf_derive_is_passed(const struct tf_outside *e)
{
    uint64_t wanted;
    if (!tf_derive_is_free(e->call, tf_outside_args(e), e->args_len) || TF_IS_ERR(e->result))
        return false;
    if (e->call != SYS_brk || e->args_len < sizeof wanted)
        return true;
    memcpy(&wanted, tf_outside_args(e), sizeof wanted);
    return !wanted || (uint64_t)e->result == wanted;
}

static void send_items(void)
{
    if (items.n)
        tf_send(TF_REP_DERIVED, &tf.offset, sizeof tf.offset, items.v, items.n * sizeof *items.v);
    items.n = 0;
}

static void make_room(size_t words)
{
    if (items.n + words > ITEMS_MAX)
        send_items();
}

static void put_words(void)
{
    size_t n = (size_t)(tf.p - tf.words) - items.words;
    make_room(n);
    memcpy(items.v + items.n, tf.words + items.words, n * sizeof *tf.words);
    items.n += n;
    items.words += n;
}

void tf_derive_flush(void)
{
    put_words();
    send_items();
}

void tf_derive_block(void)
{
    put_words();
    items.words = 0;
}

/* An item with a head and what follows; returns where the latter begins. */
static uint8_t *put_item(enum tf_record type, const void *head, size_t head_len, size_t len)
{
    size_t words = WORDS(head_len + len);
    make_room(1 + words);
    uint32_t *at = items.v + items.n;
    at[0] = TF_RECORD_WORD(type, words);
    at[words] = 0; /* the padding, if any */
    if (head_len)
        memcpy(at + 1, head, head_len);
    items.n += 1 + words;
    return (uint8_t *)(at + 1) + head_len;
}

static void put_time(void)
{
    uint64_t tsc = items.tick << TF_TIME_UNIT_SHIFT;
    put_item(TF_REC_TIME, &tsc, sizeof tsc, 0);
}

void tf_derive_event(unsigned nr, unsigned flags, long result, const void *args, size_t args_len,
                     const struct iovec *data, int pieces)
{
    struct tf_rec_outside rec = {
        .call = (uint16_t)nr, .flags = (uint16_t)flags, .args_len = (uint32_t)args_len, .result = result};
    size_t padding = -args_len & 7;
    for (int i = 0; i < pieces; i++)
        rec.data_len += data[i].iov_len;
    put_words();
    put_time();
    uint8_t *to = put_item(TF_REC_OUTSIDE, &rec, sizeof rec, args_len + padding);
    memcpy(to, args, args_len);
    memset(to + args_len, 0, padding);
    for (int i = 0; i < pieces; i++) {
        const uint8_t *from = data[i].iov_base;
        for (size_t left = data[i].iov_len; left;) {
            size_t n = left < DATA_WORDS * 4 ? left : DATA_WORDS * 4;
            memcpy(put_item(TF_REC_DATA, NULL, 0, n), from, n);
            from += n;
            left -= n;
        }
    }
}

void tf_derive_taken(const struct tf_outside *e, const void *args, size_t args_len)
{
    struct iovec data = {(void *)tf_outside_data(e), e->data_len};
    items.tick = e->frame;
    if (e->call != TF_CALL_MARK) {
        tf_derive_event(e->call, e->flags, e->result, args, args_len, &data, 1);
        return;
    }
    struct tf_rec_mark mark = {.text_len = e->args_len - 8};
    memcpy(&mark.kind, tf_outside_args(e), sizeof mark.kind);
    put_words();
    put_time();
    uint8_t *to = put_item(TF_REC_MARK, &mark, sizeof mark, mark.text_len + 1);
    memcpy(to, tf_outside_args(e) + 8, mark.text_len);
    to[mark.text_len] = 0;
}

void tf_derive_code(const struct tf_rec_code *code, const void *texts, size_t len)
{
    put_words();
    memcpy(put_item(TF_REC_CODE, code, sizeof *code, len), texts, len);
}

static const struct tf_outside *next_mark(enum tf_mark *kind)
{
    const struct tf_outside *e = tf_log_peek();
    if (!e || e->call != TF_CALL_MARK)
        return NULL;
    memcpy(kind, tf_outside_args(e), sizeof(uint32_t));
    return e;
}

bool tf_derive_fails(const struct tf_call_row *row, struct tf_call *call, long *result)
{
    enum tf_mark kind;
    uint64_t length = (uint64_t)call->a[1];
    if (!is_of_memory(call->nr))
        return false;
    tf_memory_args(call);
    size_t args_len = tf_args_encode(row, call, tf_self->args);
    if (!tf_derive_is_free(call->nr, tf_self->args, args_len))
        return false;
    const struct tf_outside *e = next_mark(&kind);
    /* The barrier's text begins with the call that it is about. */
    if (e && kind == TF_MARK_BARRIER && e->args_len > 8 + strlen(row->name) &&
        memcmp(tf_outside_args(e) + 8, row->name, strlen(row->name)) == 0)
        tf_log_take(call->nr, NULL, 0); /* reports it */
    e = tf_log_peek();
    if (!e || e->call != call->nr || e->args_len != args_len)
        return false;
    if (call->nr != SYS_brk && memcmp(tf_outside_args(e) + 8, &length, sizeof length) != 0)
        return false; /* it asks for something else */
    tf_log_take_moved(call->nr, tf_self->args, args_len, args_len);
    *result = call->nr == SYS_brk ? tf_sys(SYS_brk, 0) : e->result; /* the end that there is, or the error */
    tf_derive_event(call->nr, 0, *result, tf_self->args, args_len, NULL, 0);
    return true;
}

void tf_derive_end(void)
{
    enum tf_mark kind;
    if (next_mark(&kind) && kind == TF_MARK_LOOP)
        tf_log_take(TF_CALL_MARK, NULL, 0); /* reports it: no call would */
    if (tf.run.stop.kind == TF_STOP_ALL && !tf_log_peek())
        tf_core.stopped(TF_STOPPED_AT, 0);
}
