/*
 * ring.h: the shared memory between the recorded process (producer) and the supervisor (consumer).
 *
 * The memory is a memfd: one header page (struct tf_shm), then `ring_words` 32-bit words, a power of two.
 * Both sides map the words twice, one mapping behind the other, so that a record that crosses the end of
 * the ring is contiguous for both. The producer maps the header at TF_SHM_ADDR and the words at
 * TF_RING_ADDR, in record mode only; the supervisor maps them anywhere.
 *
 * The stream is a sequence of items, each starting with a non-zero word:
 *
 *   bits 31..29  tag    bits 28..0
 *   0            CALL   code id (>= 1)
 *   1            RETURN 0
 *   2            YIELD  0
 *   3            RESUME code id
 *   4            UNWIND 0
 *   5            TIME   time since the previous TIME or RECORD_TIME, in units of 16 TSC ticks
 *   6            RECORD bits 28..24 record type (enum tf_record), bits 23..0 payload length in words
 *   7            SWITCH number of the thread that goes on with Python code from here (0: main)
 *
 * A frame event is the whole word: its meaning does not depend on what follows. A TIME applies to the frame
 * event in front of it (the one that was written last).
 *
 * SWITCH is a frame event, too: a thread has taken the GIL that did not have it at the last frame event. So
 * between two frame events one thread runs, and what it runs is the top of its stack. It leaves the stack as
 * it is. The first events of a process belong to thread 0.
 *
 * Invariants:
 *  1. A word that was not yet written is zero. The consumer zeroes what it consumed before it advances
 *     `tail`; the producer never writes a word less than ring_words ahead of one that is not consumed.
 *  2. The first word of an item is stored last, with release order; its payload is complete when it is seen.
 *     There is no published head: the consumer reads items until it meets a zero word. So a process that is
 *     killed at any instruction loses nothing that it had written, and the fast path is one store.
 *  3. The producer waits when the ring is full. Nothing is dropped. It stops waiting when the supervisor is
 *     gone or has set `stop`; then the program goes on unrecorded.
 *
 * Frame numbers are not in the stream: the n-th frame event (from 1) has number n. The consumer counts.
 */
#ifndef TF_RING_H
#define TF_RING_H

#include <stdint.h>

#define TF_SHM_ADDR 0x5f0000000000ul
#define TF_RING_ADDR 0x600000000000ul
#define TF_SHM_MAGIC 0x6b726f66u /* "fork" */
#define TF_SHM_VERSION 5u
#define TF_SHM_HEADER 4096u
#define TF_NUDGE                                                                                             \
    64 /* signal that the supervisor sends when a signal waits too long: the last real-time one */
#define TF_RING_WORDS (1u << 21) /* 8 MiB */

#define TF_TAG_SHIFT 29
#define TF_TAG(w) ((uint32_t)(w) >> TF_TAG_SHIFT)
#define TF_LOW(w) ((uint32_t)(w) & ((1u << TF_TAG_SHIFT) - 1))
#define TF_WORD(tag, low) (((uint32_t)(tag) << TF_TAG_SHIFT) | (uint32_t)(low))
#define TF_TIME_UNIT_SHIFT 4

enum tf_tag { TF_CALL, TF_RETURN, TF_YIELD, TF_RESUME, TF_UNWIND, TF_TIME, TF_RECORD, TF_SWITCH };
#define TF_IS_FRAME(w) ((0x9fu >> TF_TAG(w)) & 1)
#define TF_IS_SWITCH(w) (TF_TAG(w) == TF_SWITCH)
/* Of a frame event: does it put a function onto the stack? (TF_CALL and TF_RESUME) */
#define TF_IS_ENTRY(w) ((0x9u >> TF_TAG(w)) & 1)
/* Does it take one off? (TF_RETURN, TF_YIELD, TF_UNWIND) */
#define TF_IS_EXIT(w) ((0x16u >> TF_TAG(w)) & 1)

enum tf_record {
    TF_REC_TIME = 1, /* u64 TSC: absolute time; the first item of every stream, and after gaps */
    TF_REC_TURN, /* struct tf_rec_turn: another thread has its turn; the outside events that follow are its */
    TF_REC_CODE, /* struct tf_rec_code: definition of the next code id */
    TF_REC_OUTSIDE,  /* struct tf_rec_outside */
    TF_REC_DATA,     /* bytes: more data of the outside event in front of it, or more of the START's blob */
    TF_REC_START,    /* struct tf_rec_start: once, first thing after TF_REC_TIME */
    TF_REC_MARK,     /* struct tf_rec_mark: a place that a replay cannot pass, or another note */
    TF_REC_MAPPED,   /* NUL-terminated path of a file whose pages the program mapped (a library) */
    TF_REC_SNAPSHOT, /* u32 serial: a fork checkpoint was taken here */
    TF_REC_CLOCK,    /* struct tf_rec_clock: clock_gettime() that succeeded, the commonest call, in short */
    TF_REC_THREAD,   /* struct tf_rec_thread: what becomes known of a thread, for people */
    TF_REC_PULSE,    /* u32: of a light recording, the pulse (outside.h) at the outside event that follows */
};
#define TF_RECORD_WORD(type, words) TF_WORD(TF_RECORD, ((uint32_t)(type) << 24) | (uint32_t)(words))
#define TF_RECORD_TYPE(w) (TF_LOW(w) >> 24)
#define TF_RECORD_WORDS(w) (TF_LOW(w) & 0xffffffu)
/* No item is longer than this, header word included: bounds what either side must have contiguous. */
#define TF_ITEM_MAX_WORDS 65536u

/* TF_REC_CODE. The strings follow: file, qualified name (UTF-8, each with its NUL), padded to a word. */
struct tf_rec_code {
    uint32_t id;
    uint32_t first_line;
    uint64_t hash;               /* XXH3-64 of the instructions (unspecialised), line table and names */
    uint32_t flags;              /* co_flags */
    uint32_t file_len, name_len; /* without the NUL */
};

/* TF_REC_OUTSIDE. args_len bytes of arguments follow (see iohooks/calls.h for their encoding), padded to 8,
 * then as much of the data as fits; the rest comes in TF_REC_DATA records that follow at once. */
struct tf_rec_outside {
    uint16_t call;  /* system call number, or one of the TF_CALL_ pseudo calls */
    uint16_t flags; /* TF_OUT_... */
    uint32_t args_len;
    uint64_t data_len;
    int64_t result; /* as the kernel returns it: -errno on failure */
};
enum {
    TF_OUT_STDOUT = 1, /* data is what was written to the program's standard output */
    TF_OUT_STDERR = 2,
};

/* TF_REC_CLOCK: stands for a TF_REC_OUTSIDE of clock_gettime with this clock, whose result is 0 and whose
 * data is the time. */
struct tf_rec_clock {
    int64_t sec;
    uint32_t nsec;
    int32_t clock;
};

/* TF_REC_TURN: becomes the outside event TF_CALL_TURN (outside.h). Only one thread at a time has the turn: it
 * writes to the ring. Who runs without the GIL does so out of turn (iohooks/turn.h). */
struct tf_rec_turn {
    uint32_t thread, reserved;
    uint64_t why; /* as in outside.h */
};

/* TF_REC_THREAD. The name follows (UTF-8, NUL-terminated, padded). Threads are numbered in the order in which
 * they are started, from 1; main is 0; numbers are not used again. */
struct tf_rec_thread {
    uint32_t what; /* enum tf_thread_news */
    uint32_t thread;
    uint32_t parent; /* BORN: who started it */
    int32_t tid;     /* BORN: the kernel's id, threading.get_native_id() */
    uint32_t name_len;
};
enum tf_thread_news {
    TF_THREAD_BORN = 1,
    TF_THREAD_NAMED, /* what threading.Thread calls it when it begins to run; not of threads that are none of
                        Python's */
    TF_THREAD_ENDED,
};

/* TF_REC_START: everything that a replay needs to start the same process. The blob follows: strings, each
 * with its NUL: version of Python ("3.11.2"), exe, execfn, cwd, stdlib folder; then argc strings, envc
 * strings (the complete environment at exec, timefork's own variables included). */
struct tf_rec_start {
    uint32_t pid, argc, envc, blob_len;
    uint64_t stack_limit;   /* RLIMIT_STACK, soft, with which it was executed */
    uint64_t layout_digest; /* XXH3-64 of the loaded objects' names and addresses */
};

/* TF_REC_MARK. The text follows (NUL-terminated, padded). */
struct tf_rec_mark {
    uint32_t kind; /* enum tf_mark */
    uint32_t text_len;
};
enum tf_mark {
    TF_MARK_BARRIER = 1, /* something that replay does not cover happened here: replay must stop before it */
    TF_MARK_LOOP = 5,    /* a barrier at no event or call: a signal in a loop without any */
    TF_MARK_NOTE = 2,
    TF_MARK_EXIT = 3, /* the program called exit_group; text is the status in decimal */
    TF_MARK_EXEC = 6, /* the program became another one (execve); text is its path. Nothing comes after it */
    TF_MARK_STOPPED = 4, /* recording ended here while the program went on */
};

/* How far the recorded process got: set by the preload library. */
enum tf_attach {
    TF_ATTACH_NONE = 0,      /* no Python seen yet */
    TF_ATTACH_OK = 1,        /* recording */
    TF_ATTACH_NO_ENGINE = 2, /* Python without an engine: python_version says which */
    TF_ATTACH_ERROR = 3,     /* error says what */
    TF_ATTACH_JOINED = 5,    /* on its way to TF_ATTACH_OK: a session is for one process */
    TF_ATTACH_PROBED = 4,    /* mode probe: version and exe are filled in, the process left */
};

enum tf_shm_mode { TF_MODE_OFF = 0, TF_MODE_RECORD = 1, TF_MODE_REPLAY = 2, TF_MODE_PROBE = 3 };

/* Why a process could not take a checkpoint. */
enum tf_no_snapshot {
    TF_SNAPSHOT_CAN = 0,
    TF_SNAPSHOT_DIFFERS, /* a copy would not have all memory that it has (madvise: DONTFORK, WIPEONFORK) */
    TF_SNAPSHOT_SHARED,  /* so much of its memory is shared that copying that would hold it up: UNSHARE_MAX */
    TF_SNAPSHOT_UNSHARED, /* its shared memory could not be copied */
};

struct tf_shm {
    uint32_t magic, version;
    uint32_t mode; /* enum tf_shm_mode: what the process shall do */
    uint32_t ring_words;
    uint32_t attach; /* enum tf_attach */
    int32_t supervisor_pid;
    uint32_t stop;              /* supervisor: record no more (disk full, ...); the program goes on */
    uint32_t need_wake;         /* supervisor sleeps: the producer sends WAKE (proto.h) at the next chunk */
    uint32_t pending;           /* program: a signal waits for the next event */
    uint32_t program_pid;       /* of the attached process */
    uint32_t space_futex;       /* incremented and woken by the supervisor when it freed space */
    int32_t filter_error;       /* replay: errno, if the filter of system calls could not be installed */
    uint32_t no_snapshot;       /* program: enum tf_no_snapshot, when it could not take the last one */
    uint32_t snapshots;         /* 1: take fork checkpoints while recording */
    uint64_t tail;              /* words consumed since the start */
    uint64_t snapshot_ticks;    /* supervisor: TSC ticks between the last checkpoint and the next */
    uint64_t stack_limit;       /* what the program's own RLIMIT_STACK was: getrlimit answers this */
    uint64_t tsc_start;         /* TSC when the process attached */
    uint32_t was_fixed;         /* address space randomisation was off before timefork switched it off */
    uint32_t became;            /* program: it becomes another one (execve) */
    uint32_t snapshot_answered; /* supervisor: the checkpoint that snapshot_ticks is about (tf_place.serial).
                                   Until then no other is taken */
    uint32_t light;             /* record --light: no frame events (outside.h) */
    uint64_t chaos;             /* record --chaos: the seed, odd; 0: threads are switched as usual */
    char follow[96];            /* value of TIMEFORK= for programs that are executed, or empty */
    char python_version[32];
    char exe[1024];
    char error[512];
};

#endif
