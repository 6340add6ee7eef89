/*
 * ingest.h: what the parts of the ring's consumer share: ingest.c (the ring, time, transactions), items.c
 * (what the records in it mean) and threads.c (those about threads). Internal to store/.
 */
#ifndef TF_INGEST_H
#define TF_INGEST_H

#include "store/block.h"
#include "store/db.h"
#include "store/writer.h"

#include <time.h>

#define TF_OUTSIDE_BLOCK (256u << 10) /* a block of outside events is closed before it gets larger */
#define TF_OUTSIDE_LARGE (4u << 20)   /* an event that is not gathered with others, and not kept room for */

/* The threads that run, by rising numbers. Main is among them only if something was said of it. */
struct live_threads {
    struct tf_known_thread *v;
    size_t n, cap;
    uint32_t last; /* highest number that a thread has had */
    int32_t main_tid;
    bool main_known; /* it is, or was, among them */
};

struct tf_ingest {
    struct tf_store *store;
    struct tf_shm *shm;
    uint32_t *ring;
    uint64_t mask;
    struct tf_writer w;
    struct tf_encoder *enc;
    struct tf_ingest_opts opts; /* its strings are ours */
    struct tf_run run; /* rowid, id, process, parent, origin, fork_frame, cwd: the rest is in the store */
    bool started;
    bool forked; /* it goes on where its parent's stream was at `fork`; there is no START */
    struct tf_fork fork;
    struct tf_err failed; /* the first error; code 0: none */

    int said_status, said_signal; /* of its last TF_MARK_EXIT; -1, 0: there was none */

    /* time */
    uint64_t begin_tsc, begin_ns; /* both clocks at the same moment */
    bool timed;                   /* a TF_REC_TIME came */
    uint64_t start, now;          /* of the recorded process, in units of 16 TSC ticks */
    uint64_t committed_ns;
    size_t moment;  /* length of the queue up to the last row of totals */
    size_t put_off; /* what was queued when another process kept us from committing it; 0: nothing */

    /* frame events */
    struct tf_block block;
    uint32_t n_codes;     /* highest id + 1 */
    uint32_t written;     /* events of the block that are in its row */
    size_t written_marks; /* and time marks: the last event's may come when it was written already */

    /* threads */
    uint32_t thread; /* whose turn it is: whose the outside events are; of a light run, the pulse. Frame
                        events have the block's */
    struct live_threads threads;

    /* outside events: those that are not written, behind them one whose data is still coming */
    uint8_t *out;
    size_t out_len, out_cap;
    size_t out_whole;                  /* length of the whole events */
    struct tf_outside_block out_block; /* what is in out: rowid unused */
    uint64_t rate_ns, rate_bytes;      /* since when, and how many bytes of events were written since */
    bool fast;                         /* they come faster than they can be compressed */
    uint64_t missing;                  /* bytes of data that the last event still needs */
    bool more_start;                   /* TF_REC_DATA continues the START */
    uint8_t *start_blob;
    size_t start_len;
    struct tf_rec_start start_rec;

    struct tf_totals total, stored;
};

uint64_t ingest_clock_ns(clockid_t clock);
/* CLOCK_MONOTONIC and the TSC at the same moment. */
void ingest_clocks(uint64_t *tsc, uint64_t *ns);
/* Compares the clocks again, over the time since the beginning. */
void ingest_calibrate(struct tf_ingest *in);
/* The recorded process says what time it is, in units of 16 TSC ticks. */
int ingest_set_time(struct tf_ingest *in, uint64_t now, struct tf_err *err);
/* Writes the whole outside events that there are. */
int ingest_write_outside(struct tf_ingest *in, struct tf_err *err);
/* Writes everything and ends the transaction; unless now, it may be put off when another process is writing.
 */
int ingest_commit(struct tf_ingest *in, bool now, int state, int exit_status, int exit_signal,
                  struct tf_err *err);

/* ---- threads.c ---- */
/* TF_REC_THREAD. */
int ingest_thread(struct tf_ingest *in, const uint8_t *p, size_t len, struct tf_err *err);
/* The process is one that in->thread has forked, and has its row now: the others ended there. */
int ingest_threads_forked(struct tf_ingest *in, int32_t pid, struct tf_err *err);
int ingest_threads_copy(struct live_threads *dst, const struct live_threads *src, struct tf_err *err);
void ingest_threads_free(struct live_threads *threads);

/* ---- light.c ---- */
/* What comes completes this run. */
int ingest_complete(struct tf_ingest *in, const struct tf_run *light, struct tf_err *err);
/* Keeps the source of a file that a light run opens. args: of the call. */
int ingest_light_source(struct tf_ingest *in, const struct tf_rec_outside *rec, const uint8_t *args,
                        struct tf_err *err);

/* Takes one TF_RECORD item: its payload, which is followed by padding at most. */
int ingest_record(struct tf_ingest *in, enum tf_record type, const uint8_t *p, size_t len,
                  struct tf_err *err);
/* TF_E_FORMAT: what came makes no sense. */
int ingest_senseless(const char *what, struct tf_err *err);

#endif
