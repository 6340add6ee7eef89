/*
 * images.c: durable checkpoints as rows: put, listed, counted, removed.
 *
 * The groups of an image come first, in as many transactions as it takes, and the image itself last: so
 * everything that an image refers to is there, and what a recorder left behind that was cut off is what no
 * image refers to. Whether pages that are shared are still there is asked again with the last portion: others
 * may have removed them.
 *
 * What is removed is found by marking: each image's lists are read, and what none of them has is dropped.
 * Files hold some tens of images with some thousands of runs of pages, which takes milliseconds.
 */
#include "store/images_local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* Made with the first image. */
static const char tables[] =
    "CREATE TABLE IF NOT EXISTS images("
    " image INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, frame INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, made_unix_ns INTEGER NOT NULL, digest INTEGER NOT NULL,"
    " pages INTEGER NOT NULL, state BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS image_files("
    " image INTEGER NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, len INTEGER NOT NULL,"
    " digest INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(image, name));"
    "CREATE TABLE IF NOT EXISTS page_groups("
    " number INTEGER PRIMARY KEY, n INTEGER NOT NULL, digests BLOB NOT NULL, data BLOB NOT NULL);";

/* All processes of the run of ?1. */
#define ALL_OF "(SELECT run FROM runs WHERE id = (SELECT id FROM runs WHERE run = ?1))"

static const uint8_t zeros[TF_DIGEST];

void tf_image_clear(struct tf_image *image)
{
    free(image->state);
    *image = (struct tf_image){0};
}

void tf_images_free(struct tf_image *images, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tf_image_clear(&images[i]);
    free(images);
}

uint8_t *tf_image_unpack(const void *data, size_t data_len, uint64_t len)
{
    uint8_t *out;
    if (!data || len > SIZE_MAX - 1 || ZSTD_getFrameContentSize(data, data_len) != len ||
        !(out = malloc(len + 1)))
        return NULL;
    if (ZSTD_decompress(out, len, data, data_len) == len)
        return out;
    free(out);
    return NULL;
}

int tf_image_read_refs(struct tf_store *store, sqlite3_stmt *stmt, int len_column, int digest_column,
                       int data_column, struct tf_refs *out, struct tf_err *err)
{
    const void *data = sqlite3_column_blob(stmt, data_column);
    size_t data_len = (size_t)sqlite3_column_bytes(stmt, data_column);
    unsigned long long len = data ? ZSTD_getFrameContentSize(data, data_len) : ZSTD_CONTENTSIZE_ERROR;
    uint8_t *list = NULL;
    *out = (struct tf_refs){0};
    bool ok = len < 1ull << 32 && (list = tf_image_unpack(data, data_len, len)) &&
              XXH3_64bits(list, len) == (uint64_t)sqlite3_column_int64(stmt, digest_column) &&
              tf_refs_decode(list, len, out) &&
              out->pages == (uint64_t)sqlite3_column_int64(stmt, len_column) / TF_PAGE;
    free(list);
    return ok ? 0 : tf_db_damaged(store, err, "the list of pages of a checkpoint cannot be read");
}

/* ---- transactions ---- */

/* In that of a writer, or in one of our own. */
static int begin(struct tf_store *store, bool *own, struct tf_err *err)
{
    *own = sqlite3_get_autocommit(store->db);
    return *own ? tf_db_exec(store, "BEGIN IMMEDIATE", err) : 0;
}

static int end(struct tf_store *store, bool own, int rc, struct tf_err *err)
{
    if (own && !rc)
        rc = tf_db_exec(store, "COMMIT", err);
    if (own && rc && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static int writable(struct tf_store *store, struct tf_err *err)
{
    return store->writable ? 0 : tf_err_set(err, TF_E_USAGE, "%s is open for reading only", store->path);
}

/* ---- who uses which page ---- */

#define NOBODY 0
#define SEVERAL UINT32_MAX
struct used_group {
    int64_t number;
    uint32_t n, live; /* live: pages that were not dropped */
    uint64_t bytes;   /* of data and digests */
    uint8_t *digests;
    uint32_t *owner; /* of each page: NOBODY, one, or SEVERAL */
};
struct usage {
    struct used_group *groups; /* by number */
    size_t n;
};

static void usage_free(struct usage *usage)
{
    for (size_t i = 0; i < usage->n; i++) {
        free(usage->groups[i].digests);
        free(usage->groups[i].owner);
    }
    free(usage->groups);
    *usage = (struct usage){0};
}

static int usage_load(struct tf_store *store, struct usage *usage, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    size_t cap = 0;
    *usage = (struct usage){0};
    int rc = tf_db_prepare(store, "SELECT number, n, digests, length(data) FROM page_groups ORDER BY number",
                           &stmt, err);
    while (!rc && (rc = tf_db_step(store, stmt, err)) == 1) {
        rc = 0;
        if (usage->n == cap) {
            cap = cap ? cap * 2 : 256;
            struct used_group *more = realloc(usage->groups, cap * sizeof *more);
            if (!more) {
                rc = tf_db_memory(err);
                break;
            }
            usage->groups = more;
        }
        struct used_group group = {.number = sqlite3_column_int64(stmt, 0)};
        uint64_t n = (uint64_t)sqlite3_column_int64(stmt, 1);
        /* A damaged one has no pages; it stays, for whoever wants it to say so. */
        if (n <= TF_GROUP_PAGES_MAX && (uint64_t)sqlite3_column_bytes(stmt, 2) == n * TF_DIGEST)
            group.n = (uint32_t)n;
        group.bytes = (uint64_t)sqlite3_column_int64(stmt, 3) + (uint64_t)sqlite3_column_bytes(stmt, 2) + 16;
        group.digests = malloc(group.n * TF_DIGEST + 1);
        group.owner = calloc(group.n + 1, sizeof *group.owner);
        if (!group.digests || !group.owner) {
            free(group.digests);
            free(group.owner);
            rc = tf_db_memory(err);
            break;
        }
        if (group.n)
            memcpy(group.digests, sqlite3_column_blob(stmt, 2), group.n * TF_DIGEST);
        for (uint32_t i = 0; i < group.n; i++)
            group.live += memcmp(group.digests + i * TF_DIGEST, zeros, TF_DIGEST) != 0;
        usage->groups[usage->n++] = group;
    }
    sqlite3_finalize(stmt);
    if (rc < 0)
        usage_free(usage);
    return rc < 0 ? rc : 0;
}

static struct used_group *usage_find(const struct usage *usage, int64_t number)
{
    size_t low = 0, high = usage->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (usage->groups[mid].number < number)
            low = mid + 1;
        else
            high = mid;
    }
    return low < usage->n && usage->groups[low].number == number ? &usage->groups[low] : NULL;
}

static void usage_mark(struct usage *usage, const struct tf_refs *refs, uint32_t who)
{
    for (size_t i = 0; i < refs->n_runs; i++) {
        const struct tf_ref_run *run = &refs->runs[i];
        if (run->group == TF_REF_ZERO)
            continue;
        struct used_group *group = usage_find(usage, refs->groups[run->group]);
        for (uint32_t k = 0; group && k < run->count && run->index + k < group->n; k++) {
            uint32_t *owner = &group->owner[run->index + k];
            *owner = *owner == NOBODY || *owner == who ? who : SEVERAL;
        }
    }
}

/* Marks the pages of all images. A row of `sql` is: image, who has it (from 1). A list of pages that cannot
 * be read is an error: what it refers to is not known. bytes[who]: gets the size of files, if not NULL. */
static int usage_mark_all(struct tf_store *store, struct usage *usage, const char *sql, int64_t arg,
                          uint64_t *bytes, uint32_t max, bool *unknown, struct tf_err *err)
{
    sqlite3_stmt *images = NULL, *files = NULL;
    *unknown = false;
    int rc = tf_db_prepare(store, sql, &images, err);
    if (!rc)
        rc = tf_db_prepare(store,
                           "SELECT len, digest, data, kind, length(name) FROM image_files WHERE image = ?",
                           &files, err);
    if (!rc)
        sqlite3_bind_int64(images, 1, arg);
    while (!rc && (rc = tf_db_step(store, images, err)) == 1) {
        uint32_t who = (uint32_t)sqlite3_column_int64(images, 1);
        sqlite3_reset(files);
        sqlite3_bind_int64(files, 1, sqlite3_column_int64(images, 0));
        while ((rc = tf_db_step(store, files, err)) == 1) {
            struct tf_refs refs = {0};
            rc = 0;
            if (bytes && who <= max)
                bytes[who] +=
                    (uint64_t)sqlite3_column_bytes(files, 2) + (uint64_t)sqlite3_column_int64(files, 4) + 40;
            if (sqlite3_column_int(files, 3) == TF_IMAGE_PAGES) {
                if (tf_image_read_refs(store, files, 0, 1, 2, &refs, NULL))
                    *unknown = true;
                else
                    usage_mark(usage, &refs, who);
            }
            tf_refs_clear(&refs);
        }
    }
    sqlite3_finalize(images);
    sqlite3_finalize(files);
    return rc < 0 ? rc : 0;
}

/* What the pages that only `who` has take, as a part of their groups, for 1 to max. */
static void usage_sum(const struct usage *usage, uint64_t *bytes, uint32_t max)
{
    for (size_t i = 0; i < usage->n; i++) {
        const struct used_group *group = &usage->groups[i];
        for (uint32_t k = 0; k < group->n; k++)
            if (group->owner[k] != NOBODY && group->owner[k] <= max)
                bytes[group->owner[k]] += group->bytes / (group->live ? group->live : 1);
    }
}

/* ---- removing ---- */

/* Packs again what is left of a group. */
static int rewrite(struct tf_store *store, const struct used_group *group, struct tf_err *err)
{
    sqlite3_stmt *read = NULL, *change = NULL;
    uint8_t *pages = NULL, *packed = NULL, *digests = NULL;
    size_t n = 0, bound, len;
    uint32_t place = 0;
    int rc = tf_db_prepare(store, "SELECT data FROM page_groups WHERE number = ?", &read, err);
    if (!rc)
        rc = tf_db_prepare(store, "UPDATE page_groups SET digests = ?2, data = ?3 WHERE number = ?1", &change,
                           err);
    if (rc)
        goto out;
    sqlite3_bind_int64(read, 1, group->number);
    if ((rc = tf_db_step(store, read, err)) < 0)
        goto out;
    pages = tf_image_unpack(sqlite3_column_blob(read, 0), (size_t)sqlite3_column_bytes(read, 0),
                            (uint64_t)group->live * TF_PAGE);
    rc = 0;
    if (!pages) /* damaged: it stays as it is, and is noticed when it is wanted */
        goto out;
    bound = ZSTD_compressBound((size_t)group->live * TF_PAGE);
    packed = malloc(bound);
    digests = calloc(group->n, TF_DIGEST);
    if (!packed || !digests) {
        rc = tf_db_memory(err);
        goto out;
    }
    for (uint32_t i = 0; i < group->n; i++) {
        const uint8_t *digest = group->digests + (size_t)i * TF_DIGEST;
        if (memcmp(digest, zeros, TF_DIGEST) == 0)
            continue;
        if (group->owner[i] != NOBODY) {
            memcpy(digests + (size_t)i * TF_DIGEST, digest, TF_DIGEST);
            memmove(pages + n++ * TF_PAGE, pages + (size_t)place * TF_PAGE, TF_PAGE);
        }
        place++;
    }
    len = ZSTD_compress(packed, bound, pages, n * TF_PAGE, TF_IMAGE_LEVEL);
    if (ZSTD_isError(len)) {
        rc = tf_err_set(err, TF_E_IO, "packing pages: %s", ZSTD_getErrorName(len));
        goto out;
    }
    sqlite3_bind_int64(change, 1, group->number);
    sqlite3_bind_blob64(change, 2, digests, (uint64_t)group->n * TF_DIGEST, SQLITE_STATIC);
    sqlite3_bind_blob64(change, 3, packed, len, SQLITE_STATIC);
    rc = tf_db_run(store, change, err);
out:
    sqlite3_finalize(read);
    sqlite3_finalize(change);
    free(pages);
    free(packed);
    free(digests);
    return rc;
}

/* Drops what nobody has. A group is packed again when a quarter of it is of no use: before that it would cost
 * more than it gives. */
static int drop_unused(struct tf_store *store, const struct usage *usage, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = tf_db_prepare(store, "DELETE FROM page_groups WHERE number = ?", &stmt, err);
    for (size_t i = 0; i < usage->n && !rc; i++) {
        const struct used_group *group = &usage->groups[i];
        uint32_t used = 0;
        for (uint32_t k = 0; k < group->n; k++)
            used += group->owner[k] != NOBODY;
        if (used == 0) {
            sqlite3_bind_int64(stmt, 1, group->number);
            rc = tf_db_run(store, stmt, err);
        } else if (used < group->live && (group->live - used) * 4 >= group->live)
            rc = rewrite(store, group, err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* In a transaction. */
static int tidy(struct tf_store *store, struct tf_err *err)
{
    struct usage usage = {0};
    bool unknown = false;
    int rc = tf_db_exec(store, "DELETE FROM image_files WHERE image NOT IN (SELECT image FROM images)", err);
    if (!rc)
        rc = usage_load(store, &usage, err);
    if (!rc)
        rc = usage_mark_all(store, &usage, "SELECT image, 1 FROM images", 0, NULL, 0, &unknown, err);
    if (!rc && !unknown)
        rc = drop_unused(store, &usage, err);
    usage_free(&usage);
    return rc;
}

int tf_images_tidy(struct tf_store *store, struct tf_err *err)
{
    bool own;
    int rc = writable(store, err);
    if (rc || !tf_db_has_table(store, "images"))
        return rc;
    rc = begin(store, &own, err);
    return rc ? rc : end(store, own, tidy(store, err), err);
}

int tf_image_delete(struct tf_store *store, int64_t rowid, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool own;
    int rc = writable(store, err);
    if (!rc && !tf_db_has_table(store, "images"))
        rc =
            tf_err_set(err, TF_E_NOTFOUND, "%s has no checkpoint number %lld", store->path, (long long)rowid);
    if (rc || (rc = begin(store, &own, err)))
        return rc;
    rc = tf_db_prepare(store, "DELETE FROM images WHERE image = ?", &stmt, err);
    if (!rc) {
        sqlite3_bind_int64(stmt, 1, rowid);
        rc = tf_db_run(store, stmt, err);
    }
    if (!rc && sqlite3_changes(store->db) == 0)
        rc =
            tf_err_set(err, TF_E_NOTFOUND, "%s has no checkpoint number %lld", store->path, (long long)rowid);
    sqlite3_finalize(stmt);
    if (!rc)
        rc = tidy(store, err);
    return end(store, own, rc, err);
}

int tf_images_delete_before(struct tf_store *store, int64_t run, uint64_t offset, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    if (!tf_db_has_table(store, "images"))
        return 0;
    int rc = tf_db_prepare(store, "DELETE FROM images WHERE run = ?1 AND offset < ?2", &stmt, err);
    if (!rc) {
        sqlite3_bind_int64(stmt, 1, run);
        sqlite3_bind_int64(stmt, 2, offset < INT64_MAX ? (int64_t)offset : INT64_MAX);
        rc = tf_db_run(store, stmt, err);
    }
    sqlite3_finalize(stmt);
    if (!rc && sqlite3_changes(store->db))
        rc = tidy(store, err);
    return rc;
}

int tf_images_delete_run(struct tf_store *store, int64_t run, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    if (!tf_db_has_table(store, "images"))
        return 0;
    int rc = tf_db_prepare(store, "DELETE FROM images WHERE run IN " ALL_OF, &stmt, err);
    if (!rc) {
        sqlite3_bind_int64(stmt, 1, run);
        rc = tf_db_run(store, stmt, err);
    }
    sqlite3_finalize(stmt);
    if (!rc && sqlite3_changes(store->db))
        rc = tidy(store, err);
    return rc;
}

int tf_images_run_bytes(struct tf_store *store, int64_t run, uint64_t *bytes, struct tf_err *err)
{
    struct usage usage = {0};
    uint64_t sums[3] = {0};
    bool unknown;
    *bytes = 0;
    if (!tf_db_has_table(store, "images"))
        return 0;
    int rc = usage_load(store, &usage, err);
    if (!rc)
        rc = usage_mark_all(store, &usage,
                            "SELECT image, CASE WHEN run IN " ALL_OF " THEN 1 ELSE 2 END FROM images", run,
                            sums, 2, &unknown, err);
    usage_sum(&usage, sums, 2);
    usage_free(&usage);
    *bytes = sums[1];
    return rc;
}

/* ---- putting ---- */

/* Are the pages that the pack did not bring still what it took them for? */
static int shared_pages(struct tf_store *store, const struct tf_image_pack *pack, struct tf_err *err)
{
    struct usage usage = {0};
    int rc = usage_load(store, &usage, err);
    for (size_t f = 0; f < pack->n_files && !rc; f++) {
        const struct tf_packed_file *file = &pack->files[f];
        uint64_t page = 0;
        for (size_t i = 0; i < file->refs.n_runs && !rc; i++) {
            const struct tf_ref_run *run = &file->refs.runs[i];
            const uint8_t *digests = file->digests + page * TF_DIGEST;
            page += run->count;
            if (run->group == TF_REF_ZERO)
                continue;
            const struct used_group *group = usage_find(&usage, file->refs.groups[run->group]);
            if (!group || run->index + run->count > group->n ||
                memcmp(group->digests + (size_t)run->index * TF_DIGEST, digests,
                       (size_t)run->count * TF_DIGEST))
                rc = tf_err_set(
                    err, TF_E_NOTFOUND,
                    "%s: pages that a new checkpoint shares with another one were removed while it "
                    "was made; it is left out",
                    store->path);
        }
    }
    usage_free(&usage);
    return rc;
}

static int put_group(struct tf_store *store, sqlite3_stmt *stmt, struct tf_packed_group *group,
                     struct tf_err *err)
{
    sqlite3_bind_int64(stmt, 1, group->number);
    sqlite3_bind_int64(stmt, 2, group->n);
    sqlite3_bind_blob64(stmt, 3, group->digests, (uint64_t)group->n * TF_DIGEST, SQLITE_STATIC);
    sqlite3_bind_blob64(stmt, 4, group->data, group->len, SQLITE_STATIC);
    return tf_db_run(store, stmt, err);
}

static int put_files(struct tf_store *store, int64_t rowid, const struct tf_image_pack *pack,
                     struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = tf_db_prepare(
        store, "INSERT INTO image_files(image, name, kind, len, digest, data) VALUES(?,?,?,?,?,?)", &stmt,
        err);
    for (size_t i = 0; i < pack->n_files && !rc; i++) {
        const struct tf_packed_file *file = &pack->files[i];
        sqlite3_bind_int64(stmt, 1, rowid);
        sqlite3_bind_text(stmt, 2, file->name, -1, SQLITE_STATIC);
        sqlite3_bind_int(stmt, 3, file->kind);
        sqlite3_bind_int64(stmt, 4, (int64_t)file->len);
        sqlite3_bind_int64(stmt, 5, (int64_t)file->digest);
        sqlite3_bind_blob64(stmt, 6, file->data, file->data_len, SQLITE_STATIC);
        rc = tf_db_run(store, stmt, err);
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int put_image(struct tf_store *store, struct tf_image *image, const struct tf_image_pack *pack,
                     struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = shared_pages(store, pack, err);
    if (!rc)
        rc = tf_db_prepare(
            store,
            "INSERT INTO images(run, frame, offset, made_unix_ns, digest, pages, state)"
            " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM runs WHERE run = ?1)",
            &stmt, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(stmt, 1, image->run);
    sqlite3_bind_int64(stmt, 2, (int64_t)image->frame);
    sqlite3_bind_int64(stmt, 3, (int64_t)image->offset);
    sqlite3_bind_int64(stmt, 4, image->made_unix_ns);
    sqlite3_bind_int64(stmt, 5, (int64_t)image->digest);
    sqlite3_bind_int64(stmt, 6, (int64_t)pack->pages);
    sqlite3_bind_blob64(stmt, 7, image->state ? (void *)image->state : "", image->state_len, SQLITE_STATIC);
    rc = tf_db_run(store, stmt, err);
    sqlite3_finalize(stmt);
    if (!rc && sqlite3_changes(store->db) == 0)
        rc = tf_err_set(err, TF_E_NOTFOUND, "%s: the run of a new checkpoint was deleted", store->path);
    if (rc)
        return rc;
    image->rowid = sqlite3_last_insert_rowid(store->db);
    image->pages = pack->pages;
    return put_files(store, image->rowid, pack, err);
}

int tf_image_put(struct tf_store *store, struct tf_image *image, struct tf_image_pack *pack,
                 uint64_t max_bytes, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    uint64_t bytes = 0;
    size_t next = pack->next_group;
    bool own;
    int rc = writable(store, err);
    if (rc || (rc = begin(store, &own, err)))
        return rc;
    rc = tf_db_exec(store, tables, err);
    if (!rc)
        rc = tf_db_prepare(store, "INSERT INTO page_groups(number, n, digests, data) VALUES(?,?,?,?)", &stmt,
                           err);
    for (; !rc && next < pack->n_groups && bytes < max_bytes; next++) {
        rc = put_group(store, stmt, &pack->groups[next], err);
        bytes += pack->groups[next].len;
    }
    sqlite3_finalize(stmt);
    bool last = next == pack->n_groups && (bytes < max_bytes || bytes == 0);
    if (!rc && last)
        rc = put_image(store, image, pack, err);
    rc = end(store, own, rc, err);
    if (rc)
        return rc;
    pack->next_group = next;
    return last;
}

/* ---- listing ---- */

static int load_image(sqlite3_stmt *stmt, struct tf_image *out, struct tf_err *err)
{
    *out = (struct tf_image){
        .rowid = sqlite3_column_int64(stmt, 0),
        .run = sqlite3_column_int64(stmt, 1),
        .frame = (uint64_t)sqlite3_column_int64(stmt, 2),
        .offset = (uint64_t)sqlite3_column_int64(stmt, 3),
        .made_unix_ns = sqlite3_column_int64(stmt, 4),
        .digest = (uint64_t)sqlite3_column_int64(stmt, 5),
        .pages = (uint64_t)sqlite3_column_int64(stmt, 6),
        .state_len = (size_t)sqlite3_column_bytes(stmt, 7),
    };
    out->state = malloc(out->state_len + 1);
    if (!out->state)
        return tf_db_memory(err);
    if (out->state_len)
        memcpy(out->state, sqlite3_column_blob(stmt, 7), out->state_len);
    return 0;
}

/* The images of one process of a lineage, before the fork of the next one, and not before the base. */
static int list_of(struct tf_store *store, sqlite3_stmt *stmt, const struct tf_ancestor *a,
                   const struct tf_ancestor *next, uint64_t base, struct tf_image **v, size_t *n, size_t *cap,
                   struct tf_err *err)
{
    int rc;
    sqlite3_reset(stmt);
    sqlite3_bind_int64(stmt, 1, a->run);
    while ((rc = tf_db_step(store, stmt, err)) == 1) {
        struct tf_image image;
        if ((rc = load_image(stmt, &image, err)))
            return rc;
        if (image.offset < base ||
            (next && (image.offset > next->fork_offset || image.frame > next->frame))) {
            tf_image_clear(&image);
            continue;
        }
        if (*n == *cap) {
            struct tf_image *more = realloc(*v, (*cap ? *cap * 2 : 16) * sizeof *more);
            if (!more) {
                tf_image_clear(&image);
                return tf_db_memory(err);
            }
            *v = more;
            *cap = *cap ? *cap * 2 : 16;
        }
        (*v)[(*n)++] = image;
    }
    return rc;
}

/* own_bytes of each. Who an image is: its place in the order of all images of the file. */
static int own_bytes(struct tf_store *store, struct tf_image *images, size_t n, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct usage usage = {0};
    uint64_t *bytes = NULL;
    int64_t *rows = NULL;
    uint32_t count = 0;
    bool unknown;
    int rc = tf_db_prepare(store, "SELECT count(*) FROM images", &stmt, err);
    if (rc || (rc = tf_db_step(store, stmt, err)) < 0)
        goto out;
    count = (uint32_t)sqlite3_column_int64(stmt, 0);
    bytes = calloc((size_t)count + 1, sizeof *bytes);
    rows = calloc((size_t)count + 1, sizeof *rows);
    sqlite3_finalize(stmt);
    stmt = NULL;
    rc = bytes && rows ? usage_load(store, &usage, err) : tf_db_memory(err);
    if (!rc)
        rc = usage_mark_all(store, &usage, "SELECT image, row_number() OVER (ORDER BY image) FROM images", 0,
                            bytes, count, &unknown, err);
    if (!rc)
        rc = tf_db_prepare(store, "SELECT image FROM images ORDER BY image", &stmt, err);
    for (uint32_t i = 1; !rc && i <= count && (rc = tf_db_step(store, stmt, err)) == 1; i++, rc = 0)
        rows[i] = sqlite3_column_int64(stmt, 0);
    if (rc < 0)
        goto out;
    rc = 0;
    usage_sum(&usage, bytes, count);
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 1; k <= count; k++)
            if (rows[k] == images[i].rowid)
                images[i].own_bytes = bytes[k];
out:
    sqlite3_finalize(stmt);
    usage_free(&usage);
    free(bytes);
    free(rows);
    return rc;
}

static int by_position(const void *a, const void *b)
{
    const struct tf_image *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->frame != y->frame)
        return x->frame < y->frame ? -1 : 1;
    return x->rowid < y->rowid ? -1 : x->rowid > y->rowid;
}

int tf_images_list(struct tf_store *store, const struct tf_run *run, struct tf_image **out, size_t *n,
                   struct tf_err *err)
{
    struct tf_lineage lineage = {0};
    sqlite3_stmt *stmt = NULL;
    struct tf_image *v = NULL;
    size_t count = 0, cap = 0;
    *out = NULL;
    *n = 0;
    if (!tf_db_has_table(store, "images"))
        return 0;
    int rc = tf_lineage_load(store, run, &lineage, err);
    if (!rc)
        rc = tf_db_prepare(store,
                           "SELECT image, run, frame, offset, made_unix_ns, digest, pages, state FROM images"
                           " WHERE run = ?",
                           &stmt, err);
    for (size_t i = 0; i < lineage.n && !rc; i++)
        rc = list_of(store, stmt, &lineage.v[i], i + 1 < lineage.n ? &lineage.v[i + 1] : NULL, lineage.offset,
                     &v, &count, &cap, err);
    sqlite3_finalize(stmt);
    tf_lineage_free(&lineage);
    if (!rc && count)
        rc = own_bytes(store, v, count, err);
    if (rc) {
        tf_images_free(v, count);
        return rc;
    }
    if (count)
        qsort(v, count, sizeof *v, by_position);
    *out = v;
    *n = count;
    return 0;
}
