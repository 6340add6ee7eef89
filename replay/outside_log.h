/*
 * outside_log.h: the outside stream of a run in shared memory, for the replaying processes; loaded block by
 * block as they come to it, and dropped again when it takes too much.
 */
#ifndef TF_OUTSIDE_LOG_H
#define TF_OUTSIDE_LOG_H

#include "store/store.h"

struct tf_log;
#define TF_LOG_MEMORY (512ul << 20)
/* fd: a memory file of TF_LOG_SIZE bytes; borrowed. memory: bytes that are held, at most, but for one larger
 * block, and for what is in use. */
int tf_log_open(struct tf_store *store, const struct tf_run *run, int fd, uint64_t memory,
                struct tf_log **out, struct tf_err *err);
void tf_log_close(struct tf_log *log);
/* What a process that runs reads at the moment, and is not dropped while others are served. The caller's;
 * zeros at first. */
struct tf_log_hold {
    size_t from, to; /* blocks */
    struct tf_log_hold *next;
    bool held;
};
/* Loads the block with this offset and some that follow. *end: the stream is in memory from offset up to
 * there; for as long as `hold` asks for nothing else and is not released (NULL: until something else is
 * loaded). */
int tf_log_load(struct tf_log *log, uint64_t offset, struct tf_log_hold *hold, uint64_t *end,
                struct tf_err *err);
void tf_log_release(struct tf_log *log, struct tf_log_hold *hold);
/* The event at an offset, loaded; NULL with err. Valid until something else is loaded. */
const struct tf_outside *tf_log_event(struct tf_log *log, uint64_t offset, struct tf_err *err);
/* The last events that begin before an offset and happened after at most `frame` frame events: their offsets,
 * oldest first; how many there are, at most max. */
size_t tf_log_last(struct tf_log *log, uint64_t offset, uint64_t frame, uint64_t *offsets, size_t max);
/* How many events begin before an offset (of an event, or the end). */
uint64_t tf_log_events_before(struct tf_log *log, uint64_t offset);

#endif
