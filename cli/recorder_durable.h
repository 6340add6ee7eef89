/*
 * recorder_durable.h: durable checkpoints of the first process while it is recorded: when one is made, which
 * stay, and what is dropped before them (record --max-size, --last). In the supervisor, between two looks at
 * the rings: nothing here waits for long.
 */
#ifndef TF_CLI_RECORDER_DURABLE_H
#define TF_CLI_RECORDER_DURABLE_H

#include "checkpoint/set.h"
#include "store/bound.h"

enum tf_durable_mode {
    TF_DURABLE_NONE = 0,
    TF_DURABLE_AUTO, /* where CRIU works, and as long as they do not get large; what does not work is noted in
                        the recording only */
    TF_DURABLE_CRIU, /* asked for: what does not work is said */
};

#define TF_DURABLE_EACH 4 /* so many stay for each process that --max-checkpoints allows */

/* What a program may have in memory, and all of them may take in the file, for AUTO. */
#define TF_DURABLE_AUTO_MEMORY (256ull << 20)
#define TF_DURABLE_AUTO_BYTES (256ull << 20)

struct tf_durables_opts {
    struct tf_store *store; /* borrowed */
    enum tf_durable_mode mode;
    struct tf_bound_limits bound;
    size_t max; /* that stay: more than processes, for they take disk only, and not much */
};

struct tf_durables;
/* *out stays NULL if the mode is NONE. CRIU: tries it first, 0.1 s; if it does not work, says so and goes on
 * without. */
int tf_durables_new(const struct tf_durables_opts *opts, struct tf_durables **out, struct tf_err *err);
/* Is it time for one, and can it be made? memory: bytes that the program has resident; written: by all
 * processes so far (tf_ingest_written()). Costs nothing when it is not. */
bool tf_durables_want(struct tf_durables *durables, struct tf_ingest *in, pid_t program, uint64_t written);
/* The program has left a checkpoint: copies it, if it is wanted. It stays the caller's. */
void tf_durables_offer(struct tf_durables *durables, const struct tf_checkpoint *checkpoint,
                       struct tf_ingest *in, pid_t program, uint64_t written);
/* Goes on with what is going on. */
void tf_durables_step(struct tf_durables *durables, struct tf_ingest *in, uint64_t written);
/* No more of them in this run, and why: said, if they were asked for, and noted in the recording. */
void tf_durables_give_up(struct tf_durables *durables, struct tf_ingest *in, const char *why);
/* What becomes readable when there is something to go on with; -1: nothing. *at_once: there is now. */
int tf_durables_fd(const struct tf_durables *durables, bool *at_once);
/* The program has ended: finishes what does not take long. Before tf_ingest_end(). */
void tf_durables_end(struct tf_durables *durables, struct tf_ingest *in, uint64_t written);
void tf_durables_free(struct tf_durables *durables);

#endif
