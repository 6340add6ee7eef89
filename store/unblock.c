/*
 * unblock.c: unpacking blocks of frame events; the format and its invariants stand at the head of block.c.
 *
 * Nothing that is read is trusted. A number that does not end, a count that the remaining bytes cannot hold,
 * an index out of range: all of them end in the same message, for which of them it was helps nobody.
 */
#include "store/block.h"

#include <stdlib.h>
#include <xxhash.h>
#include <zstd.h>

/* ---- unpacking ---- */

struct in {
    const uint8_t *p, *end;
    bool bad;
};

static inline uint64_t get(struct in *in)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && in->p < in->end; shift += 7) {
        uint8_t byte = *in->p++;
        if (shift == 63 && byte > 1)
            break;
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return v;
    }
    in->bad = true;
    in->p = in->end;
    return 0;
}

static inline size_t left(const struct in *in)
{
    return (size_t)(in->end - in->p);
}

static bool get_stacks(struct in *in, struct tf_block *out, bool *memory)
{
    uint64_t n = get(in);
    if (n > left(in) / 4) /* thread, depth and an entry of two numbers, at least */
        return false;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t thread = get(in), depth = get(in);
        if (in->bad || thread > UINT32_MAX || depth == 0 || depth > left(in) / 2)
            return false;
        /* Linear search is fine: a thread with a stack is a real thread. But damage must not cost n * n. */
        if (out->stacks.n >= 65536)
            return false;
        struct tf_stack *stack = tf_stacks_get(&out->stacks, (uint32_t)thread);
        if (!stack || tf_stack_reserve(stack, depth)) {
            *memory = true;
            return false;
        }
        if (stack->n)
            return false;
        uint64_t entry = 0;
        for (uint64_t k = 0; k < depth; k++) {
            uint64_t code = get(in), delta = get(in);
            if (code > TF_LOW(UINT32_MAX) || delta == 0 || delta >= out->first_frame - entry)
                return false;
            entry += delta;
            stack->v[k] = (struct tf_stack_entry){.entry = entry, .code = (uint32_t)code};
        }
        stack->n = depth;
    }
    return !in->bad;
}

static bool room_for_runs(struct tf_block *out, uint64_t n)
{
    if (n <= out->cap_runs)
        return true;
    free(out->runs);
    out->cap_runs = 0;
    out->runs = malloc(n * sizeof *out->runs);
    if (out->runs)
        out->cap_runs = n;
    return out->runs != NULL;
}

/* Of version 1. */
static bool get_runs(struct in *in, struct tf_block *out, bool *memory)
{
    uint64_t n = get(in);
    if (in->bad || n > out->n || (n == 0) != (out->n == 0))
        return false;
    if (!room_for_runs(out, n)) {
        *memory = true;
        return false;
    }
    uint64_t index = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t delta = get(in), thread = get(in);
        if (in->bad || thread > UINT32_MAX || (delta == 0) != (i == 0) || delta >= out->n - index)
            return false;
        if (i && out->runs[i - 1].thread == thread)
            return false;
        index += delta;
        out->runs[i] = (struct tf_thread_run){.index = (uint32_t)index, .thread = (uint32_t)thread};
    }
    out->n_runs = n;
    return true;
}

/* Of version 2: the thread of the first event is a run; the others are kept in `threads`, until the symbols
 * say where they begin. */
static bool get_switches(struct in *in, struct tf_block *out, struct in *threads, uint64_t *n, bool *memory)
{
    uint64_t first = get(in);
    *n = get(in);
    if (in->bad || first > TF_LOW(UINT32_MAX) || *n > out->n || *n > left(in) || (!out->n && first))
        return false;
    if (!room_for_runs(out, *n + 1)) {
        *memory = true;
        return false;
    }
    *threads = *in;
    for (uint64_t i = 0; i < *n; i++)
        if (get(in) > TF_LOW(UINT32_MAX))
            return false;
    if (out->n)
        out->runs[out->n_runs++] = (struct tf_thread_run){.thread = (uint32_t)first};
    return !in->bad;
}

/* Event i is a SWITCH to a thread. A block that begins with one says its thread twice. */
static bool add_switch(struct tf_block *out, uint32_t i, uint32_t thread)
{
    out->words[i] = TF_WORD(TF_SWITCH, thread);
    if (i == 0)
        return out->runs[0].thread == thread;
    out->runs[out->n_runs++] = (struct tf_thread_run){.index = i, .thread = thread};
    return true;
}

static bool get_marks(struct in *in, struct tf_block *out, bool *memory)
{
    uint64_t n = get(in);
    if (in->bad || n > out->n)
        return false;
    if (n > out->cap_marks) {
        free(out->marks);
        out->cap_marks = 0;
        out->marks = malloc(n * sizeof *out->marks);
        if (!out->marks) {
            *memory = true;
            return false;
        }
        out->cap_marks = n;
    }
    uint64_t index = 0, tick = out->base_tick;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t di = get(in), dt = get(in);
        if (in->bad || di == 0 || di > out->n - index || dt > UINT64_MAX - tick)
            return false;
        index += di;
        tick += dt;
        out->marks[i] = (struct tf_time_mark){.index = (uint32_t)index, .tick = tick};
    }
    out->n_marks = n;
    return true;
}

int tf_decode_raw(const void *raw, size_t len, struct tf_block *out, struct tf_err *err)
{
    struct in in = {.p = raw, .end = (const uint8_t *)raw + len};
    uint32_t *dict = NULL;
    bool memory = false;
    int rc = 0;

    tf_stacks_clear(&out->stacks);
    out->n = 0;
    out->n_runs = out->n_marks = 0;
    if (!out->words) {
        out->words = malloc(TF_BLOCK_FRAMES * sizeof *out->words);
        if (!out->words)
            goto memory;
    }

    uint64_t version = get(&in);
    if (in.bad || version < 1 || version > TF_BLOCK_VERSION)
        goto damaged;
    const uint32_t first_entry = version == 1 ? 3 : 4;
    struct in threads = {0};
    uint64_t switches = 0;
    out->first_frame = get(&in);
    uint64_t n = get(&in);
    out->base_tick = get(&in);
    uint64_t n_dict = get(&in);
    if (in.bad || out->first_frame == 0 || n > TF_BLOCK_FRAMES || n_dict > n || n_dict > left(&in))
        goto damaged;
    out->n = (uint32_t)n;
    dict = malloc((n_dict + 1) * sizeof *dict);
    if (!dict)
        goto memory;
    for (uint64_t i = 0; i < n_dict; i++) {
        uint64_t code = get(&in);
        if (in.bad || code > TF_LOW(UINT32_MAX))
            goto damaged;
        dict[i] = (uint32_t)code;
    }
    if (!get_stacks(&in, out, &memory) ||
        !(version == 1 ? get_runs(&in, out, &memory)
                       : get_switches(&in, out, &threads, &switches, &memory)) ||
        !get_marks(&in, out, &memory)) {
        if (memory)
            goto memory;
        goto damaged;
    }
    static const uint32_t exits[3] = {TF_WORD(TF_RETURN, 0), TF_WORD(TF_YIELD, 0), TF_WORD(TF_UNWIND, 0)};
    for (uint32_t i = 0; i < out->n; i++) {
        uint64_t symbol = in.p < in.end && *in.p < 128 ? *in.p++ : get(&in);
        if (symbol < 3) {
            out->words[i] = exits[symbol];
            continue;
        }
        if (symbol < first_entry) {
            if (!switches-- || !add_switch(out, i, (uint32_t)get(&threads)))
                goto damaged;
            continue;
        }
        symbol -= first_entry;
        uint64_t local = symbol >> 1;
        if (local >= n_dict || dict[local] == 0)
            goto damaged;
        out->words[i] = TF_WORD((symbol & 1) ? TF_RESUME : TF_CALL, dict[local]);
    }
    if (in.bad || in.p != in.end || switches)
        goto damaged;
    goto done;

damaged:
    out->n = 0;
    out->n_runs = out->n_marks = 0;
    rc = tf_err_set(err, TF_E_FORMAT, "a block of frame events is damaged");
    goto done;
memory:
    out->n = 0;
    out->n_runs = out->n_marks = 0;
    rc = tf_err_set(err, TF_E_IO, "out of memory");
done:
    free(dict);
    return rc;
}

int tf_decode(const void *data, size_t len, const uint64_t *digest, struct tf_block *out, struct tf_err *err)
{
    if (digest && XXH3_64bits(data, len) != *digest)
        return tf_err_set(err, TF_E_FORMAT, "a block of frame events is damaged: its digest does not match");
    unsigned long long size = ZSTD_getFrameContentSize(data, len);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > TF_BLOCK_RAW_MAX)
        return tf_err_set(err, TF_E_FORMAT, "a block of frame events is damaged: no size");
    uint8_t *raw = malloc(size + 1);
    if (!raw)
        return tf_err_set(err, TF_E_IO, "out of memory");
    size_t got = ZSTD_decompress(raw, size, data, len);
    int rc;
    if (ZSTD_isError(got) || got != size)
        rc = tf_err_set(err, TF_E_FORMAT, "a block of frame events is damaged: it does not decompress");
    else
        rc = tf_decode_raw(raw, size, out, err);
    free(raw);
    return rc;
}

int tf_codes_each(const void *codes, size_t len, void (*fn)(void *ctx, uint32_t code, uint32_t count),
                  void *ctx)
{
    struct in in = {.p = codes, .end = (const uint8_t *)codes + len};
    uint64_t code = 0;
    while (in.p < in.end) {
        uint64_t delta = get(&in), count = get(&in);
        if (in.bad || delta > TF_LOW(UINT32_MAX) - code || count > TF_BLOCK_FRAMES)
            return -1;
        code += delta;
        fn(ctx, (uint32_t)code, (uint32_t)count);
    }
    return 0;
}

struct match {
    const uint8_t *bits;
    size_t n_bits;
    int hit;
};

static void match_one(void *ctx, uint32_t code, uint32_t count)
{
    struct match *m = ctx;
    (void)count;
    if (code < m->n_bits && (m->bits[code >> 3] >> (code & 7) & 1))
        m->hit = 1;
}

int tf_codes_match(const void *codes, size_t len, const uint8_t *bits, size_t n_bits)
{
    struct match m = {.bits = bits, .n_bits = n_bits};
    if (tf_codes_each(codes, len, match_one, &m))
        return -1;
    return m.hit;
}
