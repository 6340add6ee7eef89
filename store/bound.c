/* bound.c: see bound.h. */
#include "store/bound.h"
#include "store/drop.h"
#include "store/images.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART 8              /* of a limit, between two checkpoints */
#define LEAST_NS 500000000u /* between two checkpoints */

/* ---- the policy ---- */

size_t tf_bound_choose(const struct tf_bound_limits *limits, const struct tf_bound_point *points, size_t n,
                       uint64_t now_ns, uint64_t bytes, uint64_t growth)
{
    size_t by_time = 0, by_size = 0;
    if (limits->last_ns)
        while (by_time < n && now_ns >= points[by_time].ns && now_ns - points[by_time].ns >= limits->last_ns)
            by_time++;
    if (limits->max_bytes && bytes + growth > limits->max_bytes)
        do
            by_size++;
        while (by_size < n && bytes - points[by_size - 1].bytes_before + growth > limits->max_bytes);
    if (by_size > n)
        by_size = n;
    return by_time > by_size ? by_time : by_size;
}

bool tf_bound_wants(const struct tf_bound_limits *limits, uint64_t since_ns, uint64_t since_bytes)
{
    if (since_ns < LEAST_NS)
        return false;
    return (limits->last_ns && since_ns >= limits->last_ns / PART) ||
           (limits->max_bytes && since_bytes >= limits->max_bytes / PART);
}

/* ---- for the recorder ---- */

void tf_bound_init(struct tf_bound *b, const struct tf_bound_limits *limits, uint64_t now_ms)
{
    *b = (struct tf_bound){.limits = *limits, .begun_ms = now_ms};
}

bool tf_bound_due(const struct tf_bound *b, uint64_t written, uint64_t now_ms)
{
    return tf_bound_wants(&b->limits, (now_ms - b->begun_ms) * 1000000, written - b->begun_written);
}

/* The points of images, and what they would give back: blocks, and the images in front of them. */
static int load_points(struct tf_store *store, const struct tf_run *run, const struct tf_image *images,
                       size_t n, struct tf_bound_point *points, struct tf_err *err)
{
    struct tf_place_of *places = calloc(n + 1, sizeof *places);
    uint64_t *bytes = calloc(n + 1, sizeof *bytes), before = 0;
    int rc = places && bytes ? 0 : tf_err_set(err, TF_E_IO, "out of memory");
    for (size_t i = 0; !rc && i < n; i++)
        places[i] = (struct tf_place_of){images[i].frame, images[i].offset};
    if (!rc)
        rc = tf_store_bytes_before(store, run, places, n, bytes, err);
    for (size_t i = 0; !rc && i < n; i++) {
        points[i] = (struct tf_bound_point){.ns = (uint64_t)images[i].made_unix_ns,
                                            .bytes_before = bytes[i] + before};
        before += images[i].own_bytes;
    }
    free(places);
    free(bytes);
    return rc;
}

/* The newest of the first k points up to which children let it be dropped. */
static int allowed(struct tf_bound *b, struct tf_store *store, const struct tf_run *run,
                   const struct tf_image *images, size_t *k, struct tf_err *err)
{
    struct tf_err why = {0};
    int rc = 0;
    while (*k &&
           (rc = tf_store_may_drop(store, run, images[*k - 1].frame, images[*k - 1].offset, &why)) == 0) {
        snprintf(b->why, sizeof b->why, "%.*s", (int)sizeof b->why - 1, why.msg);
        --*k;
    }
    if (rc < 0)
        *err = why;
    return rc < 0 ? rc : 0;
}

/* What rows take in the file: the last page of each is not full. */
static uint64_t in_pages(uint64_t bytes)
{
    return bytes + bytes / 8;
}

int tf_bound_added(struct tf_bound *b, struct tf_store *store, const struct tf_ingest *in, uint64_t written,
                   uint64_t now_ms, struct tf_err *err)
{
    const struct tf_run *run = tf_ingest_run(in);
    struct tf_image *images = NULL;
    struct tf_bound_point *points = NULL;
    uint64_t bytes, growth = written - b->begun_written;
    size_t n = 0, k;
    if (!run)
        return tf_err_set(err, TF_E_USAGE, "a process that is not recorded yet has no checkpoint");
    int rc = tf_images_list(store, run, &images, &n, err);
    if (!rc)
        rc = tf_store_run_bytes(store, run->rowid, &bytes, err);
    if (!rc && !(points = calloc(n + 1, sizeof *points)))
        rc = tf_err_set(err, TF_E_IO, "out of memory");
    if (!rc)
        rc = load_points(store, run, images, n, points, err);
    if (rc || !n)
        goto out;
    bytes = in_pages(bytes);
    for (size_t i = 0; i < n; i++)
        points[i].bytes_before = in_pages(points[i].bytes_before);
    growth = in_pages(growth);
    b->begun_ms = now_ms;
    b->begun_written = written;
    b->why[0] = 0;
    /* Times are compared with the newest one's: a clock that is set does not matter for longer than the
     * others are kept. */
    k = tf_bound_choose(&b->limits, points, n, points[n - 1].ns, bytes, growth);
    if ((rc = allowed(b, store, run, images, &k, err)))
        goto out;
    if (k) {
        b->frame = images[k - 1].frame;
        b->offset = images[k - 1].offset;
        b->dropping = b->images = true;
        bytes -= points[k - 1].bytes_before < bytes ? points[k - 1].bytes_before : bytes;
    }
    b->left = bytes;
    if (b->limits.max_bytes && bytes > b->limits.max_bytes && !b->why[0])
        snprintf(b->why, sizeof b->why,
                 "what stands behind the newest checkpoint takes %.1f MB with it, the limit is %.1f MB",
                 (double)bytes / 1e6, (double)b->limits.max_bytes / 1e6);
out:
    tf_images_free(images, n);
    free(points);
    return rc;
}

int tf_bound_step(struct tf_bound *b, struct tf_store *store, struct tf_ingest *in, bool idle,
                  struct tf_err *err)
{
    if (!b->dropping)
        return 0;
    int rc = b->frame || b->offset ? tf_ingest_drop_before(in, b->frame, b->offset, err) : 1;
    if (rc == 1) {
        b->frame = b->offset = 0;
        if (b->images && idle) {
            rc = tf_store_drop_images(store, tf_ingest_run(in), err);
            b->images = rc == 0;
        }
    }
    if (rc < 0 || (!b->frame && !b->offset && !b->images))
        b->dropping = false;
    return rc < 0 ? rc : 0;
}
