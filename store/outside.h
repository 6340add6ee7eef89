/*
 * outside.h: the stream of outside events as it is stored and as a replay reads it.
 *
 * The outside stream of a process is a sequence of these events, each aligned to 8 bytes, in the order in
 * which they happened. Its bytes have addresses (offsets from 0); the store keeps them in compressed blocks
 * that hold whole events; a replay has them mapped at TF_LOG_ADDR + offset, loaded block by block on demand.
 * An event is valid only if its frame number equals the number of frame events that happened before it.
 *
 * A light recording (record --light) has no frame events until it has been completed (docs/light.md). In its
 * stream `frame` is the time of the event, in ticks since the start of the run, and `thread` and
 * `thread_high` are the pulse, a hash of where the program stood (engine/pulse.c).
 */
#ifndef TF_OUTSIDE_H
#define TF_OUTSIDE_H

#include <stdint.h>

struct tf_outside {
    uint32_t total_len; /* of the whole event in bytes, a multiple of 8; a single event is below 4 GiB */
    uint16_t call;      /* system call number or TF_CALL_... */
    uint16_t thread;    /* the lower half of its number */
    uint64_t frame;     /* how many frame events had happened */
    int64_t result;     /* -errno on failure */
    uint32_t args_len;  /* bytes of arguments right behind this header, then padding to 8, then the data */
    uint16_t flags;     /* TF_OUT_STDOUT, TF_OUT_STDERR (ring.h) */
    uint16_t thread_high;
    uint64_t data_len;
};
static inline uint32_t tf_outside_thread(const struct tf_outside *e)
{
    return e->thread | (uint32_t)e->thread_high << 16;
}

/* When a signal that had been kept was given to the program. */
enum tf_moment {
    TF_AFTER_EVENT = 1, /* right after a frame event */
    TF_AFTER_CALL = 2,  /* right after the outside call in front of it */
    /* Right after its thread has taken the turn; from bit 8 on how often it has taken it again since it is
     * the one that had it last. */
    TF_AFTER_TURN = 3,
};

/* What a thread that has its turn is to find of what it waited for. */
enum tf_turn {
    TF_TURN_PLAIN = 0,
    TF_TURN_TIMEOUT = 1, /* its time is over */
    TF_TURN_SIGNAL = 2,  /* a signal came */
};

#define TF_TURN_WHY(args) ((enum tf_turn)((args)&0xff))
#define TF_TURN_SILENT(args) ((args) >> 8)

/* Where a thread was that had to give the GIL away without a frame event or call of its own: see
 * docs/threads.md. */
struct tf_preempt {
    uint64_t variables;          /* a hash of the function's variables, numbers by value: quick */
    uint64_t frame, instruction; /* addresses */
    uint64_t fingerprint;        /* of what the function can see */
    uint64_t values;             /* the same without addresses: for searches, which move objects */
};

/* Pseudo calls, in the same stream so that their order is checked too. */
enum {
    TF_CALL_CODE = 1000,  /* a code object was seen first: args = its hash, file and name */
    TF_CALL_START = 1002, /* first event; no args; data: u64 ignored signals, u64 blocked signals (bit n-1 for
                             signal n) */
    TF_CALL_SIGNAL =
        1003, /* a signal was given to the program; result = its number, args = u64 enum tf_moment */
    TF_CALL_FAULT = 1004, /* SIGBUS: a mapped page whose file had become too short; result = the signal, args
                             = u64 its si_code, u64 the address */
    /* Threads (iohooks/turn.h). The event after TURN is that thread's. */
    TF_CALL_TURN = 1005, /* result = the thread, args = u64 enum tf_turn, and from bit 8 on how often the one
                               before gave the turn back and took it again while no other thread had it */
    TF_CALL_YIELD =
        1006, /* right after this frame event the thread gives the GIL away and wants it back. No args */
    TF_CALL_PREEMPT = 1007, /* the same in the middle of a function: args = struct tf_preempt */
    TF_CALL_MARK = 1001,    /* args = u32 kind, u32 0, text */
    /* Operations on a semaphore that processes share (iohooks/semaphore.c): args as a system call's; data:
     * u32 its value afterwards. The rows of calls.c that stand behind the system calls are theirs. */
    TF_CALL_SEM_WAIT = 1010,
    TF_CALL_SEM_TRYWAIT,
    TF_CALL_SEM_TIMEDWAIT,
    TF_CALL_SEM_CLOCKWAIT,
    TF_CALL_SEM_POST,
    TF_CALL_SEM_GETVALUE,
    TF_CALL_SEM_END,
};

static inline uint64_t tf_outside_args_size(const struct tf_outside *e)
{
    return (e->args_len + 7ull) & ~7ull;
}
static inline const uint8_t *tf_outside_args(const struct tf_outside *e)
{
    return (const uint8_t *)(e + 1);
}
static inline const uint8_t *tf_outside_data(const struct tf_outside *e)
{
    return tf_outside_args(e) + tf_outside_args_size(e);
}

#endif
