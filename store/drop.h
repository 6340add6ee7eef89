/*
 * drop.h: dropping the oldest part of a run, so that a recording stays bounded however long the program runs.
 * Used by the supervisor while it records, and on runs that have ended; see store.h for ownership, units and
 * errors.
 *
 * What is dropped are whole blocks of frame events and of outside events in front of a position, which
 * becomes the run's base (struct tf_base). Who calls this vouches that a replay can begin there: a durable
 * checkpoint of the position is in the file (images.h). Everything else of the run stays, but for threads
 * that had ended. The space goes back to the file, not to the disk: what is written next takes it.
 *
 * Processes that were forked need their parent's past up to the fork. So a drop does not go behind the fork
 * of a child in the file that has no base of its own; unless the child, and whoever needs it, had ended when
 * the program came to the position: then they are a part of what is dropped, and removed with it. That is so
 * for executed children, too. They count from the first process's positions only.
 */
#ifndef TF_DROP_H
#define TF_DROP_H

#include "store/store.h"

/*
 * Drops what lies wholly before a position of the process `run`: after `frame` frame events and `offset`
 * bytes of the outside stream, a place where an event begins or the stream ends, and which is in the file. 1:
 * done; 0: some of it, call again (a portion is one short transaction; the base is set by the first, and what
 * a cut-off drop has left goes with the next). Only in a store of tf_store_create(), and not in a
 * transaction. TF_E_USAGE: a child needs more, or there is no such position; the run is as it was.
 * TF_E_NOTFOUND: the run is not in the file any more.
 */
int tf_store_drop_before(struct tf_store *store, const struct tf_run *run, uint64_t frame, uint64_t offset,
                         struct tf_err *err);
/* Would that be refused because of a child? 1: it may be dropped; 0: not, *err says which child; or an
 * error. */
int tf_store_may_drop(struct tf_store *store, const struct tf_run *run, uint64_t frame, uint64_t offset,
                      struct tf_err *err);
/* Removes the durable checkpoints of the process that stand before its base. Nothing uses them any more, but
 * they take space. 1: done; 0: another process is in the way. Not while one is being put into the file
 * (images.h: pages that it shares would go); a page set has to be loaded anew. */
int tf_store_drop_images(struct tf_store *store, const struct tf_run *run, struct tf_err *err);
/* What drops at these places, in rising order, would give back, about: blocks of this process. bytes: n
 * numbers. */
struct tf_place_of {
    uint64_t frame, offset;
};
int tf_store_bytes_before(struct tf_store *store, const struct tf_run *run, const struct tf_place_of *places,
                          size_t n, uint64_t *bytes, struct tf_err *err);

#endif
