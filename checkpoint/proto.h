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
enum { TF_FD_SHM = 0, TF_FD_CTL = 1, TF_FD_LOG = 2, TF_FD_SOCKET = 3, TF_FDS = 4 };

struct tf_replay_ctl {
    uint32_t complete;      /* the totals below are final */
    uint32_t pid;           /* of the recorded process */
    uint64_t layout_digest; /* tf_rec_start.layout_digest */
    uint64_t frames;        /* frame events in the recording */
    uint64_t outside_bytes; /* length of the outside stream */
    uint64_t blocks;        /* digests that follow */
    uint32_t filter_len;    /* instructions of the filter (filter.h); 0: there is none */
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
    TF_REQ_LOADED,   /* u64: the outside stream is in memory up to this offset (answer to NEED) */
    /* replies */
    TF_REP_HELLO = 64, /* struct tf_place */
    TF_REP_SNAPSHOT,   /* struct tf_place, + a socket: a checkpoint was made */
    TF_REP_STOPPED,    /* struct tf_stop_rep */
    TF_REP_NEED,       /* u64 offset: load the outside stream from here on */
    TF_REP_DIVERGENCE, /* struct tf_place, then text */
    TF_REP_BLOCK,      /* u64 block, then its words: they do not have the recorded digest */
    TF_REP_BARRIER,    /* struct tf_place, then text: the recording goes on, replay cannot */
    TF_REP_ITEM,       /* u32 enum tf_item, then its payload */
    TF_REP_HIT,        /* struct tf_scan_hit */
    TF_REP_LOG,        /* struct tf_scan_log, then text */
    TF_REP_PROGRESS,   /* u64: frame events that have happened; at the end of each block */
    TF_REP_SCANNED,    /* struct tf_stop_rep: the scan has ended; so does the process */
};

struct tf_scan_log {
    uint32_t point, failed;
    uint64_t frame, lines;
};

struct tf_place {
    uint32_t pid;
    uint32_t serial; /* of a checkpoint taken while recording, else 0 */
    uint64_t frame;  /* frame events that have happened */
    uint64_t offset; /* in the outside stream */
};

struct tf_run_req {
    struct tf_stop_req stop;
    uint64_t snapshot_ticks; /* take a checkpoint when so many TSC ticks have passed; 0: none */
    /* For checkpoints that were taken while recording: where they stand, which they could not know. */
    uint32_t place_known;
    uint32_t prefix_words; /* the words of the current block up to here follow the request */
    uint64_t frame, offset;
};

struct tf_stop_rep {
    uint32_t why;   /* enum tf_stopped */
    uint32_t words; /* frame events of the last, unfinished block */
    uint64_t frame, lines, offset;
    uint64_t digest; /* XXH3-64 of those words */
};

#endif
