/*
 * images_local.h: what the files about images share. Internal to store/. docs/format.md has the tables.
 *
 * Pages are in groups, in `page_groups`. The index of a page in its group never changes: of one that was
 * dropped the digest becomes zeros, and its content is no longer in `data`, which holds the others in order.
 */
#ifndef TF_IMAGES_LOCAL_H
#define TF_IMAGES_LOCAL_H

#include <xxhash.h>
#include "store/db.h"
#include "store/images.h"

#define TF_PAGE 4096u
/* 256 KiB. Smaller ones are unpacked more slowly and hardly packed worse; larger ones have more in them that
 * another image does not want. */
#define TF_GROUP_PAGES 64u
#define TF_GROUP_PAGES_MAX 4096u /* that are read */
/* Of zstd. 1 takes an eighth less space and a third more time, there and back. */
#define TF_IMAGE_LEVEL (-2)
#define TF_DIGEST 16u /* bytes: XXH3-128, canonical */

enum tf_image_file { TF_IMAGE_CONTENT = 0, TF_IMAGE_PAGES = 1 };

/* A list of pages: runs that lie behind each other in a group, or are zeros. */
#define TF_REF_ZERO UINT32_MAX
struct tf_ref_run {
    uint32_t group; /* index in tf_refs.groups, or TF_REF_ZERO */
    uint32_t index; /* of the first one in its group */
    uint32_t count;
};
struct tf_refs {
    int64_t *groups; /* numbers in page_groups */
    size_t n_groups, cap_groups;
    struct tf_ref_run *runs;
    size_t n_runs, cap_runs;
    uint64_t pages;
};
void tf_refs_clear(struct tf_refs *refs);
/* One more group: its index. One more page, of a group that is in the list, or of zeros (TF_REF_ZERO). False:
 * no memory. */
bool tf_refs_group(struct tf_refs *refs, int64_t number, uint32_t *index);
bool tf_refs_add(struct tf_refs *refs, uint32_t group, uint32_t index);
/* malloc'ed. NULL: no memory. */
uint8_t *tf_refs_encode(const struct tf_refs *refs, size_t *len);
/* False: it is not such a list, or there is no memory. Clear it in any case. */
bool tf_refs_decode(const uint8_t *data, size_t len, struct tf_refs *out);

struct tf_packed_file {
    char *name;
    enum tf_image_file kind;
    uint64_t len;    /* of the file */
    uint64_t digest; /* XXH3-64 of the content, or of the encoded list */
    uint8_t *data;   /* packed */
    size_t data_len;
    struct tf_refs refs; /* TF_IMAGE_PAGES */
    uint8_t *digests;    /* TF_IMAGE_PAGES: of each page */
};
struct tf_packed_group {
    int64_t number;
    uint32_t n;
    uint8_t *digests; /* n * TF_DIGEST */
    uint8_t *data;
    size_t len;
};
struct tf_image_pack {
    struct tf_packed_file *files;
    size_t n_files, cap_files;
    struct tf_packed_group *groups;
    size_t n_groups, cap_groups;
    uint64_t pages;
    size_t next_group; /* the first one that is not in the recording yet */
};

/* The reference list of a row of image_files; clear *out in any case. */
int tf_image_read_refs(struct tf_store *store, sqlite3_stmt *stmt, int len_column, int digest_column,
                       int data_column, struct tf_refs *out, struct tf_err *err);
/* Unpacks a zstd frame of exactly len bytes. malloc'ed; NULL: it is none, or no memory. */
uint8_t *tf_image_unpack(const void *data, size_t data_len, uint64_t len);

/* For tf_store_delete_run() and tf_store_run_bytes(): images of all processes of the run of that row. Both do
 * nothing in a file without images. The first one is a part of a transaction. */
int tf_images_delete_run(struct tf_store *store, int64_t run, struct tf_err *err);
/* Those of one process that stand before an offset; a part of a transaction. */
int tf_images_delete_before(struct tf_store *store, int64_t run, uint64_t offset, struct tf_err *err);
int tf_images_run_bytes(struct tf_store *store, int64_t run, uint64_t *bytes, struct tf_err *err);

#endif
