/*
 * block.h: a block of up to TF_BLOCK_FRAMES frame events, and its packed form. The format itself is
 * described, byte by byte, at the head of block.c. Used by the supervisor and the command line.
 *
 * Ownership: a struct tf_block owns its arrays; start with a zeroed one (decoding) or tf_block_init()
 * (building), end with tf_block_free(). What tf_encode() hands out belongs to the encoder and is valid until
 * its next call. Units: ticks are 16 ticks of the TSC, counted from the start of the run.
 */
#ifndef TF_BLOCK_H
#define TF_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/err.h"
#include "store/store.h"

#define TF_BLOCK_VERSION 2u
/* Of an unpacked block: stacks of 20 million activations fit. What is larger was not written by us. */
#define TF_BLOCK_RAW_MAX (256u << 20)

/* One activation on the stack of a thread: its code and the event that began it. */
struct tf_stack_entry {
    uint64_t entry;
    uint32_t code;
};
/* The stack of one thread, outermost first. */
struct tf_stack {
    uint32_t thread;
    size_t n, cap;
    struct tf_stack_entry *v;
};
struct tf_stacks {
    struct tf_stack *v;
    size_t n, cap;
    size_t made; /* v[n] up to here have memory from before, to be used again */
    /* Where a thread's stack is, plus 1; 0: nothing. Open addressing, in use when there are many stacks. */
    uint32_t *places;
    uint32_t place_bits;
};
/* The stack of a thread, made (empty) if it is not there yet; NULL: no memory. Valid until the next such
 * call. */
struct tf_stack *tf_stacks_get(struct tf_stacks *stacks, uint32_t thread);
/* The same, but NULL if it is not there. */
struct tf_stack *tf_stacks_find(struct tf_stacks *stacks, uint32_t thread);
/* Forgets all stacks. Keeps the memory. */
void tf_stacks_clear(struct tf_stacks *stacks);
/* Forgets those that are empty: their threads may have ended long ago. Returns 0 or -1: no memory. */
int tf_stacks_drop_empty(struct tf_stacks *stacks);
/* Room for n entries in all. Returns 0 or -1: no memory. */
int tf_stack_reserve(struct tf_stack *stack, size_t n);
/* dst becomes equal to src, without its empty stacks. Returns 0 or -1: no memory. */
int tf_stacks_copy(struct tf_stacks *dst, const struct tf_stacks *src);
void tf_stacks_free(struct tf_stacks *stacks);

/* After `index` events of the block it was `tick`. */
struct tf_time_mark {
    uint32_t index;
    uint64_t tick;
};
/* The events from number `index` of the block (from 0) on belong to `thread`. Every SWITCH begins a run; the
 * first event of a block, too. */
struct tf_thread_run {
    uint32_t index, thread;
};

struct tf_block {
    uint64_t first_frame; /* number of its first event */
    uint64_t base_tick;   /* time before its first event */
    uint32_t n;           /* events */
    uint32_t *words;      /* as in the ring; room for TF_BLOCK_FRAMES */
    struct tf_time_mark *marks;
    size_t n_marks, cap_marks;
    struct tf_thread_run *runs; /* the first has index 0 when there is an event */
    size_t n_runs, cap_runs;
    struct tf_stacks stacks; /* before its first event */
};
/* An empty block whose first event is number 1, at tick 0. */
int tf_block_init(struct tf_block *block, struct tf_err *err);
void tf_block_free(struct tf_block *block);
/* dst, which is initialised, becomes equal to src. Returns 0 or -1: no memory. */
int tf_block_copy(struct tf_block *dst, const struct tf_block *src);
/* Says what the time is after the events that are in the block. Returns 0 or -1: no memory. */
int tf_block_time(struct tf_block *block, uint64_t tick);
/* Says to which thread the events of an empty block belong, up to its first SWITCH. Returns 0 or -1: no
 * memory. */
int tf_block_thread(struct tf_block *block, uint32_t thread);
/* Adds a SWITCH, for which there is room. Returns 0 or -1: no memory. */
int tf_block_switch(struct tf_block *block, uint32_t thread);
/* The thread of the last event, and so of the next one, unless that is a SWITCH. */
uint32_t tf_block_last_thread(const struct tf_block *block);

struct tf_encoded {
    const uint8_t *data;
    size_t len;
    uint64_t digest;       /* XXH3-64 of data */
    uint64_t words_digest; /* XXH3-64 of the words, as an array of 32-bit little-endian integers */
    uint64_t first_tick, last_tick;
    uint32_t kinds[8];    /* how many events of each tag */
    const uint8_t *codes; /* index: see block.c */
    size_t codes_len;
    size_t raw_len; /* before compression */
};
struct tf_encoder;
struct tf_encoder *tf_encoder_new(void); /* NULL: no memory */
void tf_encoder_free(struct tf_encoder *enc);
/* Packs a block. Code ids must be below n_codes. With advance, block->stacks afterwards holds the stacks at
 * the end of the block. */
int tf_encode(struct tf_encoder *enc, struct tf_block *block, uint32_t n_codes, bool advance,
              struct tf_encoded *out, struct tf_err *err);

/* Unpacks; digest NULL: not checked. Whatever the bytes are, the result is a well-formed block or
 * TF_E_FORMAT. */
int tf_decode(const void *data, size_t len, const uint64_t *digest, struct tf_block *out, struct tf_err *err);
/* The same without the compression around it. */
int tf_decode_raw(const void *raw, size_t len, struct tf_block *out, struct tf_err *err);

/* Does an index name one of the codes of the bit set? 1, 0 or -1 if the index is damaged. */
int tf_codes_match(const void *codes, size_t len, const uint8_t *bits, size_t n_bits);
/* Calls fn for each entry of an index. 0, or -1 if it is damaged. */
int tf_codes_each(const void *codes, size_t len, void (*fn)(void *ctx, uint32_t code, uint32_t count),
                  void *ctx);

#endif
