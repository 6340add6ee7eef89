/*
 * images.h: durable checkpoints in the recording. Used by the supervisor; see store.h for ownership, units
 * and errors.
 *
 * An image is what CRIU has dumped of one process: some small files, and the pages of its memory. A page is
 * known by the XXH3-128 of its content and stored once in a recording, however many images have it; pages are
 * packed with zstd in groups, in the order in which they were met, so that restoring reads in sequence.
 * Packing (hashing, compressing) needs no database and may run in another thread; putting what was packed
 * into the file is a part of the writer's transactions, in portions.
 */
#ifndef TF_IMAGES_H
#define TF_IMAGES_H

#include <stdint.h>
#include "store/store.h"

struct tf_image {
    int64_t rowid;
    int64_t run;            /* row of the process (struct tf_run) */
    uint64_t frame, offset; /* where it stands: frame events, bytes of the outside stream */
    int64_t made_unix_ns;
    uint64_t digest; /* of the process's memory, as it computes it itself: it has to come out again */
    uint64_t pages;  /* 4096 bytes each */
    uint64_t
        own_bytes;  /* what it takes in the file that no other image of the file shares, about; not stored */
    uint8_t *state; /* what a process needs to go on from it (checkpoint/proto.h) */
    size_t state_len;
};
void tf_image_clear(struct tf_image *image);

/* The images of a process, by position, from its base on (store.h, struct tf_base). A forked process has
 * those of its parent before the fork, too. */
int tf_images_list(struct tf_store *store, const struct tf_run *run, struct tf_image **out, size_t *n,
                   struct tf_err *err);
void tf_images_free(struct tf_image *images, size_t n);
/* Removes an image, and the pages that no other has (those of a group of which three quarters are in use stay
 * there, unused). Reads the lists of all images: some milliseconds. In the writer's transaction, if there is
 * one. Only in a store of tf_store_create(). */
int tf_image_delete(struct tf_store *store, int64_t rowid, struct tf_err *err);
/* Writes the files of an image into an empty folder (checkpoint/criu.h: tf_criu_folder()), with mode 0600, in
 * two threads. TF_E_FORMAT: a page is missing or is not what its digest says; what was written stays there.
 */
int tf_image_extract(struct tf_store *store, int64_t rowid, const char *folder, struct tf_err *err);
/* The same in two steps: after the first one all files are there, and those of memory are still written by
 * threads. Who opens such a file waits until it is complete. So criu can be started meanwhile. The store can
 * be used, but not closed. */
struct tf_extract;
int tf_image_extract_start(struct tf_store *store, int64_t rowid, const char *folder, struct tf_extract **out,
                           struct tf_err *err);
/* A descriptor, of the extract, that becomes readable when a file cannot be completed: who waits for it waits
 * until tf_image_extract_finish(), and has to be ended before. */
int tf_image_extract_failed(const struct tf_extract *extract);
/* Waits until all is written; frees. On an error files of memory are empty. NULL: 0. */
int tf_image_extract_finish(struct tf_extract *extract, struct tf_err *err);

/* The digests of the pages that a recording has; 16 bytes a page are read. May be used by one other thread
 * than the store's, which hands it over. To be loaded anew after an image was deleted or a pack was not put:
 * what it says is there would not be (tf_image_put() notices). */
struct tf_page_set;
int tf_page_set_load(struct tf_store *store, struct tf_page_set **out, struct tf_err *err);
void tf_page_set_free(struct tf_page_set *set);

/* What a folder of CRIU's images holds, without the pages in `known`; adds to `known` those that it brings.
 * For any thread. */
struct tf_image_pack;
int tf_image_pack(const char *folder, struct tf_page_set *known, struct tf_image_pack **out,
                  struct tf_err *err);
void tf_image_pack_free(struct tf_image_pack *pack);
/* Puts at most about max_bytes of a pack into the recording; the last portion makes the image's row, and
 * with it the image (image->rowid is set). 1: all is there; 0: call again. Cut off in the middle, the pages
 * that are there are dropped by the next tf_images_tidy(). In the writer's transaction, if there is one.
 * TF_E_NOTFOUND: pages that it shares with others, or its run, were removed meanwhile, by another process for
 * example: this image is lost, nothing else is. */
int tf_image_put(struct tf_store *store, struct tf_image *image, struct tf_image_pack *pack,
                 uint64_t max_bytes, struct tf_err *err);
/* Drops pages that no image refers to; also those that another recorder of the file is about to refer to,
 * whose image is lost then. */
int tf_images_tidy(struct tf_store *store, struct tf_err *err);

#endif
