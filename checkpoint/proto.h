/*
 * proto.h: what the supervisor and a replaying process say to each other.
 *
 * Every parked process has one stream socket to the supervisor. A message is struct tf_msg and `len` bytes of
 * payload. A parked process (a checkpoint, or a runner that has stopped) waits for requests and never
 * advances by itself: FORK makes a copy of it that serves a socket of its own; only a copy is told to RUN or
 * to INSPECT, and it is thrown away by closing its socket. A process whose socket is closed exits.
 *
 * All integers are in host order: both sides are on one machine, from one build.
 */
#ifndef TF_PROTO_H
#define TF_PROTO_H

#include <stdint.h>
#include "checkpoint/filter.h"
#include "engine/engine.h"

/*
 * How far the stack may grow while there is a frame hook, and the limit with which the program is executed:
 * that decides how far below the stack the kernel puts what is mapped. 2 GiB away, so that bit 31 of the
 * addresses differs, fib runs a tenth to a fifth faster on 3.12 and 3.13 than 1 GiB away
 * (docs/performance.md). The odd number is one that nobody else sets: the process that finds it lowers it to
 * TF_STACK.
 */
#define TF_STACK (1ul << 30)
#define TF_STACK_EXEC ((1ul << 31) + (1ul << 16))

#define TF_CTL_ADDR 0x5e0000000000ul /* struct tf_replay_ctl, then the digests; read only in the program */
#define TF_CTL_SIZE (64ul << 20)
#define TF_SCAN_ADDR 0x5b0000000000ul /* struct tf_scan, of a process that scans; then its own memory */
#define TF_SCAN_SIZE (256ul << 20)
#define TF_LOG_ADDR 0x610000000000ul /* the outside stream, byte 0 at TF_LOG_ADDR; sparse, read only */
#define TF_LOG_SIZE (1ul << 40)

/*
 * Descriptors are handed over as TIMEFORK=N in the environment: N is the shared header and ring (ring.h), N+1
 * the replay control page, N+2 the outside stream, N+3 the socket. Those that a mode does not need are not
 * open.
 */
#define TF_ENV "TIMEFORK"
/* TIMEFORK=@NAME,N (record --follow): the descriptors are asked for at the abstract socket NAME. In replay
 * the @ is a =, so that nothing in memory moves: they are there. */
enum { TF_FD_SHM = 0, TF_FD_CTL = 1, TF_FD_LOG = 2, TF_FD_SOCKET = 3, TF_FDS = 4 };

struct tf_replay_ctl {
    uint32_t complete;      /* the totals below are final */
    uint32_t pid;           /* of the recorded process, at its start: before it was forked, its ancestor's */
    uint64_t layout_digest; /* tf_rec_start.layout_digest */
    uint64_t frames;        /* frame events in the recording */
    uint64_t outside_bytes; /* length of the outside stream */
    uint64_t blocks;        /* digests that follow */
    /* For the one copy that runs and makes checkpoints: so many TSC ticks lie between one and the next, which
     * it does not make before the supervisor has answered the last (tf_place.serial; 0 at first). */
    uint64_t snapshot_ticks;
    uint32_t snapshot_answered;
    uint32_t filter_len; /* instructions of the filter (filter.h); 0: there is none */
    struct sock_filter filter[TF_FILTER_MAX];
    uint64_t
        digests[]; /* XXH3-64 of the words of each block of TF_BLOCK_FRAMES events; the last may be shorter */
};

struct tf_msg {
    uint32_t op;
    uint32_t reserved;
    uint64_t len; /* of the payload that follows */
};

enum tf_op {
    /* requests */
    TF_REQ_FORK = 1, /* + a socket: a copy serves it and says HELLO there */
    TF_REQ_RUN,      /* struct tf_run_req: go on until it stops; a copy does this once */
    TF_REQ_INSPECT,  /* struct tf_inspect_req, then the text */
    TF_REQ_SCAN,     /* struct tf_scan: what the RUN that follows looks for (TF_STOP_SCAN) */
    TF_REQ_WORDS,    /* of a parked process: BLOCK with the event words of its unfinished block */
    TF_REQ_COUNTER,  /* of a parked process: COUNTER */
    TF_REQ_LOADED,   /* u64: the outside stream is in memory up to this offset (answer to NEED) */
    TF_REQ_SETTLE, /* of a parked copy, u32: in a user namespace of its own? Give up all that cannot be dumped
                      (checkpoint/criu.h); SETTLED */
    TF_REQ_REVIVE, /* of one that was restored: + the control page; then again, + the outside stream: map what
                      SETTLE gave up; REVIVED. From then on it is a parked process as any other */
    TF_REQ_SHARED, /* of a copy: u32 TF_FD_CTL or TF_FD_LOG, + a descriptor: that is mapped there from now on,
                      in place of what was. For copies of one checkpoint that are of several replays, or was
                      taken while recording: the program itself does not have the log */
    /* replies */
    TF_REP_HELLO = 64, /* struct tf_place */
    TF_REP_SNAPSHOT,   /* struct tf_place, + a socket: a checkpoint was made */
    TF_REP_STOPPED,    /* struct tf_stop_rep */
    TF_REP_NEED,       /* u64 offset: load the outside stream from here on */
    TF_REP_DIVERGENCE, /* struct tf_diverge_rep, then what it says */
    TF_REP_BLOCK,      /* u64 block, then the event words that it has so far: answer to WORDS */
    TF_REP_COUNTER,  /* u64: after which frame event the time stamp counter was first read; text: where last.
                        Nothing if it was not, or not watched */
    TF_REP_BARRIER,  /* the same, of kind 0: the recording goes on, replay cannot */
    TF_REP_ITEM,     /* u32 enum tf_item, then its payload */
    TF_REP_HIT,      /* struct tf_scan_hit */
    TF_REP_LOG,      /* struct tf_scan_log, then text */
    TF_REP_PROGRESS, /* u64: frame events that have happened; at the end of each block */
    TF_REP_SCANNED,  /* struct tf_stop_rep: the scan has ended; so does the process */
    TF_REP_SETTLED,  /* struct tf_settled: it can be dumped now */
    TF_REP_DERIVED,  /* of a light recording that is completed: u64 offset in its log, then items (ring.h) */
    TF_REP_REVIVED,  /* struct tf_settled, computed anew: has to be the same */
    /* while recording */
    TF_REP_WAKE, /* there is much in the ring */
    TF_REP_FORK, /* struct tf_place, + the socket of the child to be: take all that is in my ring; FORKED */
    TF_REP_JOIN, /* struct tf_place: an interpreter that was executed (record --follow) has begun; JOINED */
    TF_REP_LEFT_OUT, /* struct tf_place: a child with that pid is not recorded, for want of descriptors */
    TF_REQ_FORKED,   /* + the child's shared header and ring, if it shall be recorded */
    TF_REQ_JOINED,   /* + the shared header and ring */
};

struct tf_scan_log {
    uint32_t point, failed;
    uint64_t frame, lines;
};

struct tf_place {
    uint32_t pid;
    uint32_t serial; /* SNAPSHOT: how many the process has made, or the run of a copy; else 0 */
    uint64_t frame;  /* frame events that have happened */
    uint64_t offset; /* in the outside stream */
    /* SNAPSHOT only: */
    uint64_t cost_ticks; /* TSC ticks that making it took */
    uint64_t cpu_ns;     /* while recording: CPU time of the process so far */
    uint64_t faults;     /* while recording: its minor page faults so far */
};

/* How a replay parts from the recording. */
enum tf_diverged {
    TF_DIVERGED_CALL = 1, /* another call than the recorded one */
    TF_DIVERGED_ARGS,     /* the same call with other arguments */
    TF_DIVERGED_DATA,     /* the same call with other data behind its arguments (found by the supervisor) */
    TF_DIVERGED_FUNCTION, /* another function runs for the first time */
    TF_DIVERGED_ORDER,    /* the same call, after another frame event */
    TF_DIVERGED_EVENT,    /* another frame event (found by the supervisor) */
    TF_DIVERGED_LAYOUT,   /* the process is loaded at other addresses */
    TF_DIVERGED_KERNEL,   /* the kernel answers otherwise to a call that is made again */
    TF_DIVERGED_STRAY,    /* a call that replay does not cover, and that the recording does not have */
    TF_DIVERGED_END,      /* one of the two ended before the other (found by the supervisor) */
    TF_DIVERGED_DIED,     /* a fault of the program's, which the recording does not have */
    TF_DIVERGED_OTHER,    /* as the text says */
};

/* Behind it come, in this order: the event words of the unfinished block, the arguments of the program's call
 * as calls.h encodes them, an excerpt of the data that the call was given, the text, the Python stack
 * (lines "FILE:LINE in FUNCTION"), and where the time stamp counter was read last. */
struct tf_diverge_rep {
    struct tf_place place;
    uint32_t kind;  /* enum tf_diverged */
    uint32_t call;  /* what the program did: number, or a TF_CALL_ pseudo call; TF_NO_CALL: nothing */
    uint64_t event; /* offset of the recorded event that it was compared with; UINT64_MAX: none */
    int64_t result; /* KERNEL: what the kernel answers now. DIED: the signal */
    uint32_t words, args_len, data_len, text_len, where_len, counter_len;
    uint64_t data_at, data_total; /* where the excerpt begins, and how long all of the data is */
    uint64_t counter_first;       /* after which frame event the time stamp counter was first read */
    uint64_t differs; /* first byte of the data that differs, where the log has them; UINT64_MAX: not known */
};
#define TF_NO_CALL UINT32_MAX
#define TF_EXCERPT 64u /* bytes of an excerpt, at most */

struct tf_run_req {
    struct tf_stop_req stop;
    /* For checkpoints that were taken while recording: where they stand, which they could not know. */
    uint32_t place_known;
    uint32_t prefix_words;  /* the words of the current block up to here follow the request */
    uint32_t watch_counter; /* have uses of the time stamp counter noted (COUNTER, struct tf_diverge_rep) */
    uint32_t snapshot_at_stop; /* leave a checkpoint right after event stop.frame, too (TF_STOP_EVENT) */
    uint32_t snapshots;        /* make checkpoints, as struct tf_replay_ctl says */
    uint32_t reserved;
    uint64_t frame, offset;
};

/* The memory of a parked process: all of it that the program can write to. */
struct tf_settled {
    uint64_t digest; /* XXH3-64 of it */
    uint64_t bytes;
};

struct tf_stop_rep {
    uint32_t why;   /* enum tf_stopped */
    uint32_t words; /* frame events of the last, unfinished block */
    uint64_t frame, lines, offset;
    uint64_t digest; /* XXH3-64 of those words */
};

#endif
