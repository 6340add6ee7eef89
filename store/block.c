/*
 * block.c: the packed form of a block of frame events.
 *
 * FORMAT
 *
 * A packed block is one zstd frame that carries its content size. Its content is a sequence of unsigned
 * LEB128 numbers ("uv": seven bits a byte, lowest first, the top bit says that more follow; ten at
 * most):
 *
 *   uv  2              version of the block format
 *   uv  first          number of the first event
 *   uv  n              number of events, at most 65536
 *   uv  base           tick before the first event
 *   uv  dict           number of code ids in the dictionary
 *       uv code id     dict times; local index 0, 1, 2, ... in the order in which they were met
 *   uv  stacks         threads that have a stack at the start of the block
 *       uv thread, uv depth, then depth times, outermost first:
 *           uv code id, uv entry frame minus that of the entry before (the first: minus 0)
 *   uv  thread         of the first event; 0 if there is none
 *   uv  switches       number of SWITCH events
 *       uv thread      switches times: the thread that goes on
 *   uv  marks          time marks
 *       uv index minus that of the mark before (the first: minus 0), uv tick minus that of the mark before
 *                      (the first: minus base)
 *   uv  symbol         n times: 0 return, 1 yield, 2 unwind, 3 switch, 4 + 2*i call and 5 + 2*i resume of
 *                      local index i
 *
 * and nothing behind it. Next to a block stands its index, by which a search skips blocks, sorted by code id:
 *
 *   uv  code id minus that of the entry before (the first: minus 0)
 *   uv  number of events of that code in this block, exits and switches to it included
 *
 * Version 1 had no SWITCH. Its calls and resumes are 3 + 2*i and 4 + 2*i, and in the place of `thread` and
 * `switches` it has
 *
 *   uv  runs           thread runs
 *       uv index minus that of the run before (the first: 0), uv thread
 *
 * ALGORITHM
 *
 * One pass over the words keeps the stack of the current thread, so that an exit is counted for the function
 * that is left, gives each code that is met a local index (an array indexed by code id, whose entries are
 * valid if they carry the number of this pass), and writes the symbols. It branches on entry or exit:
 * programs repeat themselves, so processors predict that well, and a pass without the branch waits for the
 * stack in memory at each event. A SWITCH never comes there: it is the first event of a run.
 *
 * INVARIANTS
 *
 *  1. Every code of the dictionary is met in the block: by an entry, by an exit of an older entry, or on top
 *     of the stack of a thread that goes on.
 *  2. Entry frames of a stack rise from the outermost on and are below `first`; a thread has one stack.
 *  3. The first run has index 0 if there is an event, indexes of runs rise and are below n. A run begins with
 *     a SWITCH to its thread (in version 1: belongs to another thread than the one before), unless it is the
 *     first; there is no other SWITCH.
 *  4. Indexes of marks rise, from 1 to n; ticks never fall.
 *  5. An exit from an empty stack (recording began in the middle) belongs to code 0 and changes nothing.
 *  6. A packed block is a function of the block: the same events give the same bytes.
 *  7. The decoder trusts nothing: each count is checked against what the remaining bytes can hold before
 *     memory is taken for it, so that a damaged block costs no more than its size.
 */
#include "store/block.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

/* Keeps up with a program that does nothing but call functions; higher levels gain little here. */
#define LEVEL 1
#define UV_MAX 10
#define SWITCH_SYMBOL 3
#define FIRST_ENTRY 4

/* ---- stacks and building ---- */

#define FEW_STACKS 16 /* up to here, looking at all of them is fastest */

/* The place of a thread in the table, or the free one where it would be. */
static uint32_t *place_of(const struct tf_stacks *stacks, uint32_t thread)
{
    uint32_t mask = (1u << stacks->place_bits) - 1, at = (thread * 2654435769u) >> (32 - stacks->place_bits);
    while (stacks->places[at] && stacks->v[stacks->places[at] - 1].thread != thread)
        at = (at + 1) & mask;
    return &stacks->places[at];
}

/* Makes the table anew, with room for twice as many. Returns 0 or -1: no memory. */
static int make_places(struct tf_stacks *stacks)
{
    uint32_t bits = stacks->place_bits ? stacks->place_bits : 7;
    while (1ull << bits < stacks->n * 4ull)
        bits++;
    if (bits != stacks->place_bits || !stacks->places) {
        uint32_t *places = malloc(sizeof *places << bits);
        if (!places)
            return -1;
        free(stacks->places);
        stacks->places = places;
        stacks->place_bits = bits;
    }
    memset(stacks->places, 0, sizeof *stacks->places << bits);
    for (size_t i = 0; i < stacks->n; i++)
        *place_of(stacks, stacks->v[i].thread) = (uint32_t)i + 1;
    return 0;
}

struct tf_stack *tf_stacks_find(struct tf_stacks *stacks, uint32_t thread)
{
    if (stacks->n > FEW_STACKS) {
        uint32_t at = *place_of(stacks, thread);
        return at ? &stacks->v[at - 1] : NULL;
    }
    for (size_t i = 0; i < stacks->n; i++)
        if (stacks->v[i].thread == thread)
            return &stacks->v[i];
    return NULL;
}

/* A stack for a thread that has none. */
static struct tf_stack *add_stack(struct tf_stacks *stacks, uint32_t thread)
{
    if (stacks->n == stacks->cap) {
        size_t cap = stacks->cap ? stacks->cap * 2 : 4;
        struct tf_stack *v = realloc(stacks->v, cap * sizeof *v);
        if (!v)
            return NULL;
        stacks->v = v;
        stacks->cap = cap;
    }
    struct tf_stack *stack = &stacks->v[stacks->n];
    if (stacks->n == stacks->made) {
        *stack = (struct tf_stack){0};
        stacks->made++;
    }
    stacks->n++;
    stack->thread = thread;
    stack->n = 0;
    if (stacks->n <= FEW_STACKS)
        return stack;
    if (stacks->n == FEW_STACKS + 1 || stacks->n * 2 > 1ull << stacks->place_bits) {
        if (make_places(stacks)) {
            stacks->n--;
            return NULL;
        }
    } else {
        *place_of(stacks, thread) = (uint32_t)stacks->n;
    }
    return stack;
}

struct tf_stack *tf_stacks_get(struct tf_stacks *stacks, uint32_t thread)
{
    struct tf_stack *stack = tf_stacks_find(stacks, thread);
    return stack ? stack : add_stack(stacks, thread);
}

void tf_stacks_clear(struct tf_stacks *stacks)
{
    stacks->n = 0;
}

int tf_stacks_drop_empty(struct tf_stacks *stacks)
{
    size_t kept = 0;
    for (size_t i = 0; i < stacks->n; i++) {
        if (!stacks->v[i].n)
            continue;
        struct tf_stack swap = stacks->v[kept];
        stacks->v[kept++] = stacks->v[i];
        stacks->v[i] = swap;
    }
    stacks->n = kept;
    return kept > FEW_STACKS ? make_places(stacks) : 0;
}

int tf_stack_reserve(struct tf_stack *stack, size_t n)
{
    if (n <= stack->cap)
        return 0;
    size_t cap = stack->cap ? stack->cap : 64;
    while (cap < n)
        cap *= 2;
    struct tf_stack_entry *v = realloc(stack->v, cap * sizeof *v);
    if (!v)
        return -1;
    stack->v = v;
    stack->cap = cap;
    return 0;
}

int tf_stacks_copy(struct tf_stacks *dst, const struct tf_stacks *src)
{
    tf_stacks_clear(dst);
    for (size_t i = 0; i < src->n; i++) {
        if (!src->v[i].n)
            continue;
        struct tf_stack *stack = add_stack(dst, src->v[i].thread);
        if (!stack || tf_stack_reserve(stack, src->v[i].n))
            return -1;
        memcpy(stack->v, src->v[i].v, src->v[i].n * sizeof *stack->v);
        stack->n = src->v[i].n;
    }
    return 0;
}

void tf_stacks_free(struct tf_stacks *stacks)
{
    for (size_t i = 0; i < stacks->made; i++)
        free(stacks->v[i].v);
    free(stacks->v);
    free(stacks->places);
    *stacks = (struct tf_stacks){0};
}

int tf_block_init(struct tf_block *block, struct tf_err *err)
{
    *block = (struct tf_block){.first_frame = 1};
    block->words = malloc(TF_BLOCK_FRAMES * sizeof *block->words);
    if (!block->words)
        return tf_err_set(err, TF_E_IO, "out of memory");
    return 0;
}

void tf_block_free(struct tf_block *block)
{
    free(block->words);
    free(block->marks);
    free(block->runs);
    tf_stacks_free(&block->stacks);
    *block = (struct tf_block){0};
}

int tf_block_copy(struct tf_block *dst, const struct tf_block *src)
{
    struct tf_time_mark *marks = malloc((src->n_marks + 1) * sizeof *marks);
    struct tf_thread_run *runs = malloc((src->n_runs + 1) * sizeof *runs);
    if (!marks || !runs || tf_stacks_copy(&dst->stacks, &src->stacks)) {
        free(marks);
        free(runs);
        return -1;
    }
    if (src->n_marks)
        memcpy(marks, src->marks, src->n_marks * sizeof *marks);
    if (src->n_runs)
        memcpy(runs, src->runs, src->n_runs * sizeof *runs);
    memcpy(dst->words, src->words, src->n * sizeof *dst->words);
    free(dst->marks);
    free(dst->runs);
    dst->marks = marks;
    dst->runs = runs;
    dst->n_marks = src->n_marks;
    dst->cap_marks = src->n_marks + 1;
    dst->n_runs = src->n_runs;
    dst->cap_runs = src->n_runs + 1;
    dst->first_frame = src->first_frame;
    dst->base_tick = src->base_tick;
    dst->n = src->n;
    return 0;
}

int tf_block_time(struct tf_block *block, uint64_t tick)
{
    uint64_t last = block->n_marks ? block->marks[block->n_marks - 1].tick : block->base_tick;
    if (tick < last)
        tick = last; /* the TSCs of two cores may differ a little */
    if (block->n == 0) {
        block->base_tick = tick;
        return 0;
    }
    /* The first time after an event is the event's; what passes then, in a call that waits, is not. */
    if (block->n_marks && block->marks[block->n_marks - 1].index == block->n)
        return 0;
    if (block->n_marks == block->cap_marks) {
        size_t cap = block->cap_marks ? block->cap_marks * 2 : 1024;
        struct tf_time_mark *marks = realloc(block->marks, cap * sizeof *marks);
        if (!marks)
            return -1;
        block->marks = marks;
        block->cap_marks = cap;
    }
    block->marks[block->n_marks++] = (struct tf_time_mark){.index = block->n, .tick = tick};
    return 0;
}

static int begin_run(struct tf_block *block, uint32_t thread)
{
    /* A run in which nothing happened is none. */
    if (block->n_runs && block->runs[block->n_runs - 1].index == block->n)
        block->n_runs--;
    if (block->n_runs == block->cap_runs) {
        size_t cap = block->cap_runs ? block->cap_runs * 2 : 16;
        struct tf_thread_run *runs = realloc(block->runs, cap * sizeof *runs);
        if (!runs)
            return -1;
        block->runs = runs;
        block->cap_runs = cap;
    }
    block->runs[block->n_runs++] = (struct tf_thread_run){.index = block->n, .thread = thread};
    return 0;
}

int tf_block_thread(struct tf_block *block, uint32_t thread)
{
    return begin_run(block, thread);
}

int tf_block_switch(struct tf_block *block, uint32_t thread)
{
    if (begin_run(block, thread))
        return -1;
    block->words[block->n++] = TF_WORD(TF_SWITCH, thread);
    return 0;
}

uint32_t tf_block_last_thread(const struct tf_block *block)
{
    return block->n_runs ? block->runs[block->n_runs - 1].thread : 0;
}

/* ---- packing ---- */

/* What this pass knows about a code; valid if pass is that of the encoder. */
struct seen {
    uint32_t pass, local;
};

struct tf_encoder {
    ZSTD_CCtx *zstd;
    uint32_t pass;
    struct seen *seen; /* by code id */
    size_t n_seen;
    uint32_t *dict, *counts; /* by local index; one more for the surplus of code 0 */
    uint8_t *symbols, *raw, *data, *codes;
    size_t raw_cap, data_cap, codes_cap;
    struct tf_stacks scratch;
};

struct tf_encoder *tf_encoder_new(void)
{
    struct tf_encoder *enc = calloc(1, sizeof *enc);
    if (!enc)
        return NULL;
    enc->zstd = ZSTD_createCCtx();
    enc->dict = malloc((TF_BLOCK_FRAMES + 1) * sizeof *enc->dict);
    enc->counts = malloc((TF_BLOCK_FRAMES + 1) * sizeof *enc->counts);
    enc->symbols = malloc(TF_BLOCK_FRAMES * 5);
    if (!enc->zstd || !enc->dict || !enc->counts || !enc->symbols) {
        tf_encoder_free(enc);
        return NULL;
    }
    ZSTD_CCtx_setParameter(enc->zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(enc->zstd, ZSTD_c_contentSizeFlag, 1);
    return enc;
}

void tf_encoder_free(struct tf_encoder *enc)
{
    if (!enc)
        return;
    ZSTD_freeCCtx(enc->zstd);
    free(enc->seen);
    free(enc->dict);
    free(enc->counts);
    free(enc->symbols);
    free(enc->raw);
    free(enc->data);
    free(enc->codes);
    tf_stacks_free(&enc->scratch);
    free(enc);
}

static inline uint8_t *put(uint8_t *p, uint64_t v)
{
    while (v >= 128) {
        *p++ = (uint8_t)(v | 128);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static int room(uint8_t **buf, size_t *cap, size_t need)
{
    if (need <= *cap)
        return 0;
    uint8_t *p = malloc(need + need / 2);
    if (!p)
        return -1;
    free(*buf);
    *buf = p;
    *cap = need + need / 2;
    return 0;
}

static int prepare(struct tf_encoder *enc, uint32_t n_codes)
{
    if (enc->n_seen < n_codes) {
        size_t n = n_codes + n_codes / 2 + 1024;
        struct seen *seen = realloc(enc->seen, n * sizeof *seen);
        if (!seen)
            return -1;
        memset(seen + enc->n_seen, 0, (n - enc->n_seen) * sizeof *seen);
        enc->seen = seen;
        enc->n_seen = n;
    }
    if (++enc->pass == 0) {
        memset(enc->seen, 0, enc->n_seen * sizeof *enc->seen);
        enc->pass = 1;
    }
    return 0;
}

struct walk {
    uint32_t kinds[8];
    uint32_t n_dict;
    uint32_t switches;
    uint8_t *p; /* end of the symbols */
    bool bad;   /* an exit with a code, an entry without one, a SWITCH to another thread than the run's */
};

/* The local index of a code that is met. */
static inline uint32_t meet(struct seen *s, uint32_t pass, uint32_t code, uint32_t *dict, uint32_t *counts,
                            uint32_t *n_dict)
{
    if (__builtin_expect(s->pass != pass, 0)) {
        s->pass = pass;
        s->local = *n_dict;
        dict[*n_dict] = code;
        counts[(*n_dict)++] = 0;
    }
    counts[s->local]++;
    return s->local;
}

/* The pass over the events of one thread run. */
static int walk_run(struct tf_encoder *enc, const struct tf_block *block, uint32_t from, uint32_t to,
                    struct tf_stack *stack, uint32_t n_codes, struct walk *w)
{
    static const uint8_t exit_symbol[8] = {[TF_RETURN] = 0, [TF_YIELD] = 1, [TF_UNWIND] = 2};
    if (tf_stack_reserve(stack, stack->n + (to - from)))
        return -1;
    struct tf_stack_entry *v = stack->v;
    const uint32_t *words = block->words;
    struct seen *seen = enc->seen;
    const uint32_t pass = enc->pass;
    uint32_t *dict = enc->dict, *counts = enc->counts;
    uint32_t n_dict = w->n_dict;
    uint8_t *p = w->p;
    size_t depth = stack->n;
    uint32_t bad = 0;

    for (uint32_t i = from; i < to; i++) {
        uint32_t word = words[i], tag = TF_TAG(word), low = TF_LOW(word), code, symbol;
        w->kinds[tag]++;
        if (TF_IS_ENTRY(word)) {
            code = low;
            bad |= code == 0 || code >= n_codes;
            if (__builtin_expect(bad, 0))
                code = 0;
            v[depth++] = (struct tf_stack_entry){.entry = block->first_frame + i, .code = code};
            symbol = FIRST_ENTRY + (tag == TF_RESUME);
            symbol += 2 * meet(&seen[code], pass, code, dict, counts, &n_dict);
        } else {
            code = depth ? v[--depth].code : 0; /* an exit from an empty stack */
            bad |= low != 0 || code >= n_codes;
            if (__builtin_expect(bad, 0))
                code = 0;
            meet(&seen[code], pass, code, dict, counts, &n_dict);
            symbol = exit_symbol[tag];
        }
        if (__builtin_expect(symbol < 1u << 14, 1)) {
            /* Two bytes are written and one or both of them kept: cheaper than a branch on which. */
            uint32_t more = symbol >= 128;
            p[0] = (uint8_t)(symbol | more << 7);
            p[1] = (uint8_t)(symbol >> 7);
            p += 1 + more;
        } else {
            p = put(p, symbol);
        }
    }
    stack->n = depth;
    w->n_dict = n_dict;
    w->p = p;
    w->bad |= bad;
    return 0;
}

/* The SWITCH that begins a run: what goes on is the top of that thread's stack. */
static void walk_switch(struct tf_encoder *enc, uint32_t word, const struct tf_thread_run *run,
                        const struct tf_stack *stack, uint32_t n_codes, struct walk *w)
{
    uint32_t code = stack->n ? stack->v[stack->n - 1].code : 0;
    if (TF_LOW(word) != run->thread || code >= n_codes) {
        w->bad = true;
        code = 0;
    }
    meet(&enc->seen[code], enc->pass, code, enc->dict, enc->counts, &w->n_dict);
    *w->p++ = SWITCH_SYMBOL;
    w->switches++;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The index: codes and counts, sorted. */
static int put_index(struct tf_encoder *enc, uint32_t n, struct tf_encoded *out)
{
    uint64_t *sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted || room(&enc->codes, &enc->codes_cap, n * 10 + 1)) {
        free(sorted);
        return -1;
    }
    for (uint32_t i = 0; i < n; i++)
        sorted[i] = (uint64_t)enc->dict[i] << 32 | enc->counts[i];
    qsort(sorted, n, sizeof *sorted, compare_u64);
    uint8_t *p = enc->codes;
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t code = (uint32_t)(sorted[i] >> 32);
        p = put(p, code - last);
        p = put(p, (uint32_t)sorted[i]);
        last = code;
    }
    free(sorted);
    out->codes = enc->codes;
    out->codes_len = (size_t)(p - enc->codes);
    return 0;
}

static uint8_t *put_stacks(uint8_t *p, const struct tf_stacks *stacks)
{
    size_t n = 0;
    for (size_t i = 0; i < stacks->n; i++)
        n += stacks->v[i].n > 0;
    p = put(p, n);
    for (size_t i = 0; i < stacks->n; i++) {
        const struct tf_stack *stack = &stacks->v[i];
        if (!stack->n)
            continue;
        p = put(p, stack->thread);
        p = put(p, stack->n);
        uint64_t last = 0;
        for (size_t k = 0; k < stack->n; k++) {
            p = put(p, stack->v[k].code);
            p = put(p, stack->v[k].entry - last);
            last = stack->v[k].entry;
        }
    }
    return p;
}

int tf_encode(struct tf_encoder *enc, struct tf_block *block, uint32_t n_codes, bool advance,
              struct tf_encoded *out, struct tf_err *err)
{
    *out = (struct tf_encoded){.first_tick = block->base_tick};
    if (n_codes == 0)
        n_codes = 1;

    size_t need = 12 * UV_MAX;
    for (size_t i = 0; i < block->stacks.n; i++)
        need += 2 * UV_MAX + block->stacks.v[i].n * 2 * UV_MAX;
    need += (block->n_runs + block->n_marks) * 2 * UV_MAX;
    need += block->n * 10ull; /* dictionary and symbols, 5 bytes each at most */
    if (prepare(enc, n_codes) || room(&enc->raw, &enc->raw_cap, need))
        goto memory;

    /* The stacks are written before the pass moves them. */
    uint8_t *stacks_at = enc->raw, *stacks_end = put_stacks(stacks_at, &block->stacks);
    struct tf_stacks *stacks = &block->stacks;
    if (!advance) {
        stacks = &enc->scratch;
        if (tf_stacks_copy(stacks, &block->stacks))
            goto memory;
    }

    /* A thread that has not done anything yet is no run. */
    size_t n_runs = block->n_runs;
    if (n_runs && block->runs[n_runs - 1].index == block->n)
        n_runs--;

    struct walk w = {.p = enc->symbols};
    for (size_t i = 0; i < n_runs; i++) {
        uint32_t from = block->runs[i].index;
        uint32_t to = i + 1 < n_runs ? block->runs[i + 1].index : block->n;
        struct tf_stack *stack = tf_stacks_get(stacks, block->runs[i].thread);
        if (!stack)
            goto memory;
        if (from < to && TF_IS_SWITCH(block->words[from]))
            walk_switch(enc, block->words[from++], &block->runs[i], stack, n_codes, &w);
        else if (i)
            w.bad = true; /* another thread goes on without one */
        if (walk_run(enc, block, from, to, stack, n_codes, &w))
            goto memory;
    }
    /* In the middle of a run there is none. */
    w.bad |= w.kinds[TF_SWITCH] || (!n_runs && block->n);
    w.kinds[TF_SWITCH] = w.switches;
    if (advance && tf_stacks_drop_empty(stacks))
        goto memory;
    if (w.bad)
        return tf_err_set(err, TF_E_FORMAT,
                          "the recorded process sent a frame event that makes no sense, near frame %llu",
                          (unsigned long long)block->first_frame);
    memcpy(out->kinds, w.kinds, sizeof out->kinds);

    size_t stacks_len = (size_t)(stacks_end - stacks_at);
    uint8_t *head = malloc(12 * UV_MAX + w.n_dict * 5ull);
    if (!head)
        goto memory;
    uint8_t *p = head;
    p = put(p, TF_BLOCK_VERSION);
    p = put(p, block->first_frame);
    p = put(p, block->n);
    p = put(p, block->base_tick);
    p = put(p, w.n_dict);
    for (uint32_t i = 0; i < w.n_dict; i++)
        p = put(p, enc->dict[i]);
    size_t head_len = (size_t)(p - head);
    memmove(enc->raw + head_len, enc->raw, stacks_len);
    memcpy(enc->raw, head, head_len);
    free(head);
    p = enc->raw + head_len + stacks_len;

    p = put(p, n_runs ? block->runs[0].thread : 0);
    p = put(p, w.switches);
    for (size_t i = n_runs - w.switches; i < n_runs; i++) /* the first run may begin without one */
        p = put(p, block->runs[i].thread);
    p = put(p, block->n_marks);
    uint64_t tick = block->base_tick;
    uint32_t last_index = 0;
    for (size_t i = 0; i < block->n_marks; i++) {
        p = put(p, block->marks[i].index - last_index);
        p = put(p, block->marks[i].tick - tick);
        last_index = block->marks[i].index;
        tick = block->marks[i].tick;
    }
    out->last_tick = tick;
    size_t symbols_len = (size_t)(w.p - enc->symbols);
    memcpy(p, enc->symbols, symbols_len);
    p += symbols_len;

    out->raw_len = (size_t)(p - enc->raw);
    if (out->raw_len > TF_BLOCK_RAW_MAX)
        return tf_err_set(err, TF_E_FULL, "the stack of the program is too deep to be stored");
    if (room(&enc->data, &enc->data_cap, ZSTD_compressBound(out->raw_len)) || put_index(enc, w.n_dict, out))
        goto memory;
    out->len = ZSTD_compress2(enc->zstd, enc->data, enc->data_cap, enc->raw, out->raw_len);
    if (ZSTD_isError(out->len))
        return tf_err_set(err, TF_E_IO, "compressing frame events: %s", ZSTD_getErrorName(out->len));
    out->data = enc->data;
    out->digest = XXH3_64bits(out->data, out->len);
    out->words_digest = XXH3_64bits(block->words, block->n * sizeof *block->words);
    return 0;

memory:
    return tf_err_set(err, TF_E_IO, "out of memory");
}
