/*
 * durable.h: durable checkpoints: made in the background of a recording (or of a replay), kept in the
 * recording (store/images.h), brought back by a replay. In the supervisor.
 *
 * A parked process is copied; the copy gives up what cannot be dumped (proto.h, SETTLE) and says the digest
 * of its memory; CRIU dumps it while the program goes on; another thread hashes and packs what was dumped;
 * the pack goes into the recording in portions. A restored process says the digest again, and is used only if
 * it is the same.
 */
#ifndef TF_DURABLE_H
#define TF_DURABLE_H

#include "checkpoint/criu.h"
#include "replay/runner.h"
#include "replay/timeline.h"
#include "store/images.h"

/* ---- making ---- */

struct tf_maker;
/* store: of tf_store_create(), borrowed; criu is borrowed. */
int tf_maker_new(const struct tf_criu *criu, struct tf_store *store, struct tf_maker **out,
                 struct tf_err *err);
/* Begins with a checkpoint that has a process, which stays what it is. One at a time: not while
 * tf_maker_busy(). run: row of the process. Takes a few milliseconds: a fork of the parked process. */
int tf_maker_begin(struct tf_maker *maker, const struct tf_checkpoint *checkpoint, int64_t run,
                   struct tf_err *err);
bool tf_maker_busy(const struct tf_maker *maker);
/* Goes on as far as is possible without waiting; puts at most about a megabyte into the recording. 1: the
 * image is in the recording, *image (borrowed, until the next begin) says which; 0: there is nothing to do,
 * or it is not done yet; or an error: this one is given up, the next may work. */
int tf_maker_step(struct tf_maker *maker, const struct tf_image **image, struct tf_err *err);
/* As step, but waits until it is done, or given up. */
int tf_maker_finish(struct tf_maker *maker, const struct tf_image **image, struct tf_err *err);
/* What becomes readable when a step can go on; -1: a step goes on at once, or there is nothing to do. Nothing
 * is said when a process takes too long to settle: a step looks at the clock. */
int tf_maker_fd(const struct tf_maker *maker);
/* How long the last one took, from begin to end. */
int64_t tf_maker_took_ms(const struct tf_maker *maker);
void tf_maker_free(struct tf_maker *maker); /* gives up what is going on; may be NULL */

/* Re-executes up to after a frame event, and makes an image of what is there. The timeline is bare. */
int tf_timeline_make_durable(struct tf_timeline *timeline, struct tf_maker *maker, uint64_t frame,
                             const struct tf_image **image, struct tf_err *err);

/* ---- restoring ---- */

/* CPU time from the start to where it was taken, as far as is known. */
uint64_t tf_durable_work_ns(const struct tf_image *image);

/* Brings an image back as a parked process that shares the timeline's control page and outside stream.
 * TF_E_REPLAY: it is not what was dumped, or cannot be restored here (the message says why). */
int tf_durable_restore(const struct tf_criu *criu, struct tf_store *store, const struct tf_image *image,
                       const struct tf_shared *shared, struct tf_runner *out, struct tf_err *err);

#endif
