/*
 * image_pack.c: a folder of CRIU's images becomes what is put into the recording, without the database.
 *
 * CRIU writes memory as raw pages of 4096 bytes into pages-N.img, in the order of the addresses, and which
 * addresses those are into pagemap-*.img. So the first is cut into pages, and everything else is kept as it
 * is. Two pages with one XXH3-128 are the same page: with 2^32 different pages the chance that any two are
 * not is 2^-65.
 *
 * Numbers of groups are random, and then count on: packs can be made before others are in the file, and by
 * several recorders at once.
 */
#include "store/images_local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

static const uint8_t zeros[TF_PAGE];

static bool grow(void *array, size_t *cap, size_t n, size_t size)
{
    void **v = array, *more;
    if (n < *cap)
        return true;
    more = realloc(*v, (*cap ? *cap * 2 : 16) * size);
    if (!more)
        return false;
    *v = more;
    *cap = *cap ? *cap * 2 : 16;
    return true;
}

/* ---- lists of pages ---- */

void tf_refs_clear(struct tf_refs *refs)
{
    free(refs->groups);
    free(refs->runs);
    *refs = (struct tf_refs){0};
}

static bool add_run(struct tf_refs *refs, struct tf_ref_run run)
{
    if (!grow(&refs->runs, &refs->cap_runs, refs->n_runs, sizeof *refs->runs))
        return false;
    refs->runs[refs->n_runs++] = run;
    refs->pages += run.count;
    return true;
}

bool tf_refs_group(struct tf_refs *refs, int64_t number, uint32_t *out)
{
    if (!grow(&refs->groups, &refs->cap_groups, refs->n_groups, sizeof *refs->groups))
        return false;
    *out = (uint32_t)refs->n_groups;
    refs->groups[refs->n_groups++] = number;
    return true;
}

bool tf_refs_add(struct tf_refs *refs, uint32_t group, uint32_t index)
{
    struct tf_ref_run *last = refs->n_runs ? &refs->runs[refs->n_runs - 1] : NULL;
    if (last && last->group == group && last->count < UINT32_MAX &&
        (group == TF_REF_ZERO || last->index + last->count == index)) {
        last->count++;
        refs->pages++;
        return true;
    }
    return add_run(refs, (struct tf_ref_run){group, group == TF_REF_ZERO ? 0 : index, 1});
}

static uint8_t *put_number(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static bool get_number(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

uint8_t *tf_refs_encode(const struct tf_refs *refs, size_t *len)
{
    uint8_t *data = malloc(16 + refs->n_groups * 8 + refs->n_runs * 20), *p = data;
    if (!data)
        return NULL;
    p = put_number(p, refs->n_groups);
    for (size_t i = 0; i < refs->n_groups; i++)
        for (int shift = 0; shift < 64; shift += 8)
            *p++ = (uint8_t)((uint64_t)refs->groups[i] >> shift);
    for (size_t i = 0; i < refs->n_runs; i++) {
        const struct tf_ref_run *run = &refs->runs[i];
        p = put_number(p, run->count);
        p = put_number(p, run->group == TF_REF_ZERO ? 0 : (uint64_t)run->group + 1);
        if (run->group != TF_REF_ZERO)
            p = put_number(p, run->index);
    }
    *len = (size_t)(p - data);
    return data;
}

bool tf_refs_decode(const uint8_t *data, size_t len, struct tf_refs *out)
{
    const uint8_t *p = data, *end = data + len;
    uint64_t n, count, group, index;
    *out = (struct tf_refs){0};
    if (!get_number(&p, end, &n) || n > (uint64_t)(end - p) / 8 || n >= TF_REF_ZERO)
        return false;
    out->groups = malloc(n * 8 + 8);
    if (!out->groups)
        return false;
    out->n_groups = out->cap_groups = n;
    for (size_t i = 0; i < n; i++) {
        uint64_t number = 0;
        for (int shift = 0; shift < 64; shift += 8)
            number |= (uint64_t)*p++ << shift;
        out->groups[i] = (int64_t)number;
    }
    while (p < end) {
        index = 0;
        if (!get_number(&p, end, &count) || !get_number(&p, end, &group) || group > n ||
            (group && !get_number(&p, end, &index)))
            return false;
        if (count == 0 || count > UINT32_MAX || index >= TF_GROUP_PAGES_MAX ||
            (group && count > TF_GROUP_PAGES_MAX - index))
            return false;
        if (!add_run(out, (struct tf_ref_run){group ? (uint32_t)group - 1 : TF_REF_ZERO, (uint32_t)index,
                                              (uint32_t)count}))
            return false;
    }
    return true;
}

/* ---- pages that are known ---- */

struct known_page {
    uint64_t low, high;
    uint32_t group, index; /* group: in tf_page_set.groups, plus 1; 0: a free place */
};
struct tf_page_set {
    struct known_page *table;
    size_t size, used; /* size: a power of two */
    int64_t *groups;
    size_t n_groups, cap_groups;
    int64_t next; /* number of the next group that is made */
};

void tf_page_set_free(struct tf_page_set *set)
{
    if (!set)
        return;
    free(set->table);
    free(set->groups);
    free(set);
}

static struct known_page *find(const struct tf_page_set *set, XXH128_hash_t hash)
{
    size_t at = hash.low64 & (set->size - 1);
    while (set->table[at].group && (set->table[at].low != hash.low64 || set->table[at].high != hash.high64))
        at = (at + 1) & (set->size - 1);
    return &set->table[at];
}

static bool widen(struct tf_page_set *set)
{
    struct tf_page_set old = *set;
    set->size = old.size ? old.size * 2 : 4096;
    set->table = calloc(set->size, sizeof *set->table);
    if (!set->table) {
        *set = old;
        return false;
    }
    for (size_t i = 0; i < old.size; i++)
        if (old.table[i].group)
            *find(set, (XXH128_hash_t){old.table[i].low, old.table[i].high}) = old.table[i];
    free(old.table);
    return true;
}

/* Of two that are the same the first one counts. group: index in set->groups. */
static bool learn(struct tf_page_set *set, XXH128_hash_t hash, size_t group, uint32_t index)
{
    if (set->used * 2 >= set->size && !widen(set))
        return false;
    struct known_page *page = find(set, hash);
    if (!page->group) {
        *page = (struct known_page){hash.low64, hash.high64, (uint32_t)group + 1, index};
        set->used++;
    }
    return true;
}

static bool new_group(struct tf_page_set *set, int64_t number)
{
    if (!grow(&set->groups, &set->cap_groups, set->n_groups, sizeof *set->groups))
        return false;
    set->groups[set->n_groups++] = number;
    return true;
}

int tf_page_set_load(struct tf_store *store, struct tf_page_set **out, struct tf_err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct tf_page_set *set = calloc(1, sizeof *set);
    uint64_t random;
    int rc = 0;
    *out = NULL;
    if (!set || !widen(set)) {
        tf_page_set_free(set);
        return tf_db_memory(err);
    }
    if (getrandom(&random, sizeof random, 0) != sizeof random) {
        rc = tf_err_set(err, TF_E_IO, "getrandom: %s", strerror(errno));
        goto out;
    }
    set->next = (int64_t)(random >> 2 | 1);
    if (!tf_db_has_table(store, "page_groups"))
        goto out;
    rc = tf_db_prepare(store, "SELECT number, n, digests FROM page_groups", &stmt, err);
    while (!rc && (rc = tf_db_step(store, stmt, err)) == 1) {
        const uint8_t *digests = sqlite3_column_blob(stmt, 2);
        uint64_t n = (uint64_t)sqlite3_column_int64(stmt, 1);
        rc = 0;
        if (n > TF_GROUP_PAGES_MAX || (uint64_t)sqlite3_column_bytes(stmt, 2) != n * TF_DIGEST)
            continue; /* damaged: none of its pages is known */
        bool ok = new_group(set, sqlite3_column_int64(stmt, 0));
        for (uint32_t i = 0; ok && i < n; i++, digests += TF_DIGEST)
            if (memcmp(digests, zeros, TF_DIGEST))
                ok = learn(set, XXH128_hashFromCanonical((const XXH128_canonical_t *)digests),
                           set->n_groups - 1, i);
        if (!ok)
            rc = tf_db_memory(err);
    }
out:
    sqlite3_finalize(stmt);
    if (rc < 0) {
        tf_page_set_free(set);
        return rc;
    }
    *out = set;
    return 0;
}

/* ---- packing ---- */

void tf_image_pack_free(struct tf_image_pack *pack)
{
    if (!pack)
        return;
    for (size_t i = 0; i < pack->n_files; i++) {
        free(pack->files[i].name);
        free(pack->files[i].data);
        free(pack->files[i].digests);
        tf_refs_clear(&pack->files[i].refs);
    }
    for (size_t i = 0; i < pack->n_groups; i++) {
        free(pack->groups[i].digests);
        free(pack->groups[i].data);
    }
    free(pack->files);
    free(pack->groups);
    free(pack);
}

static uint8_t *compress(ZSTD_CCtx *zstd, const void *from, size_t len, size_t *out_len)
{
    size_t bound = ZSTD_compressBound(len);
    uint8_t *out = malloc(bound), *less;
    if (!out)
        return NULL;
    *out_len = ZSTD_compressCCtx(zstd, out, bound, from, len, TF_IMAGE_LEVEL);
    if (ZSTD_isError(*out_len)) {
        free(out);
        return NULL;
    }
    less = realloc(out, *out_len ? *out_len : 1);
    return less ? less : out;
}

/* The group that is being filled. */
struct filling {
    struct tf_image_pack *pack;
    struct tf_page_set *known;
    ZSTD_CCtx *zstd;
    uint32_t *listed; /* by index in known->groups: index in the list of the present file, plus 1 */
    size_t n_listed, cap_listed;
    uint32_t n;
    uint8_t pages[TF_GROUP_PAGES][TF_PAGE];
    uint8_t digests[TF_GROUP_PAGES][TF_DIGEST];
};

static bool close_group(struct filling *in)
{
    struct tf_image_pack *pack = in->pack;
    if (!in->n)
        return true;
    if (!grow(&pack->groups, &pack->cap_groups, pack->n_groups, sizeof *pack->groups))
        return false;
    struct tf_packed_group group = {.number = in->known->groups[in->known->n_groups - 1], .n = in->n};
    group.digests = malloc(in->n * TF_DIGEST);
    group.data = compress(in->zstd, in->pages, (size_t)in->n * TF_PAGE, &group.len);
    if (!group.digests || !group.data) {
        free(group.digests);
        free(group.data);
        return false;
    }
    memcpy(group.digests, in->digests, in->n * TF_DIGEST);
    pack->groups[pack->n_groups++] = group;
    in->n = 0;
    return true;
}

/* group: index in known->groups */
static bool refer(struct filling *in, struct tf_refs *refs, size_t group, uint32_t index)
{
    uint32_t at;
    while (in->n_listed <= group) {
        if (!grow(&in->listed, &in->cap_listed, in->n_listed, sizeof *in->listed))
            return false;
        in->listed[in->n_listed++] = 0;
    }
    if (!in->listed[group]) {
        if (!tf_refs_group(refs, in->known->groups[group], &at))
            return false;
        in->listed[group] = at + 1;
    }
    return tf_refs_add(refs, in->listed[group] - 1, index);
}

static bool add_page(struct filling *in, const uint8_t *page, struct tf_packed_file *file)
{
    XXH128_canonical_t canonical;
    uint8_t *digest = file->digests + file->refs.pages * TF_DIGEST;
    if (memcmp(page, zeros, TF_PAGE) == 0) {
        memset(digest, 0, TF_DIGEST);
        return tf_refs_add(&file->refs, TF_REF_ZERO, 0);
    }
    XXH128_hash_t hash = XXH3_128bits(page, TF_PAGE);
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(digest, &canonical, TF_DIGEST);
    const struct known_page *there = find(in->known, hash);
    if (there->group)
        return refer(in, &file->refs, there->group - 1, there->index);
    if (in->n == 0 && !new_group(in->known, in->known->next++))
        return false;
    memcpy(in->pages[in->n], page, TF_PAGE);
    memcpy(in->digests[in->n], &canonical, TF_DIGEST);
    if (!learn(in->known, hash, in->known->n_groups - 1, in->n) ||
        !refer(in, &file->refs, in->known->n_groups - 1, in->n))
        return false;
    in->n++;
    return in->n < TF_GROUP_PAGES || close_group(in);
}

static bool is_pages(const char *name, uint64_t len)
{
    size_t n = strlen(name);
    return strncmp(name, "pages-", 6) == 0 && n > 4 && strcmp(name + n - 4, ".img") == 0 &&
           len % TF_PAGE == 0;
}

static bool pack_content(struct filling *in, const uint8_t *data, struct tf_packed_file *file)
{
    const uint8_t *from = data;
    uint8_t *list = NULL;
    size_t len = file->len;
    if (file->kind == TF_IMAGE_PAGES) {
        file->digests = malloc(file->len / TF_PAGE * TF_DIGEST + 1);
        if (!file->digests)
            return false;
        in->n_listed = 0;
        for (uint64_t at = 0; at < file->len; at += TF_PAGE)
            if (!add_page(in, data + at, file))
                return false;
        in->pack->pages += file->refs.pages;
        from = list = tf_refs_encode(&file->refs, &len);
        if (!list)
            return false;
    }
    file->digest = XXH3_64bits(from, len);
    file->data = compress(in->zstd, from, len, &file->data_len);
    free(list);
    return file->data != NULL;
}

static int pack_file(struct filling *in, int dir, const char *folder, const char *name, struct tf_err *err)
{
    struct tf_image_pack *pack = in->pack;
    struct stat st;
    int rc = 0, fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    void *data = MAP_FAILED;
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = tf_err_set(err, TF_E_IO, "reading %s/%s: %s", folder, name, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode))
        goto out;
    if (st.st_size) {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (data == MAP_FAILED) {
            rc = tf_err_set(err, TF_E_IO, "mapping %s/%s: %s", folder, name, strerror(errno));
            goto out;
        }
    }
    if (!grow(&pack->files, &pack->cap_files, pack->n_files, sizeof *pack->files)) {
        rc = tf_db_memory(err);
        goto out;
    }
    struct tf_packed_file *file = &pack->files[pack->n_files++];
    *file = (struct tf_packed_file){.name = strdup(name), .len = (uint64_t)st.st_size};
    file->kind = is_pages(name, file->len) ? TF_IMAGE_PAGES : TF_IMAGE_CONTENT;
    if (!file->name || !pack_content(in, data, file))
        rc = tf_db_memory(err);
out:
    if (data != MAP_FAILED)
        munmap(data, (size_t)st.st_size);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* What CRIU writes for people. */
static bool is_chatter(const char *name)
{
    size_t n = strlen(name);
    return strncmp(name, "stats-", 6) == 0 || (n > 4 && strcmp(name + n - 4, ".log") == 0);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int tf_image_pack(const char *folder, struct tf_page_set *known, struct tf_image_pack **out,
                  struct tf_err *err)
{
    struct filling *in = calloc(1, sizeof *in);
    struct dirent **names = NULL;
    int rc = 0, n = -1, dir = -1;
    *out = NULL;
    if (!in || !(in->pack = calloc(1, sizeof *in->pack)) || !(in->zstd = ZSTD_createCCtx())) {
        rc = tf_db_memory(err);
        goto out;
    }
    in->known = known;
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    n = dir < 0 ? -1 : scandirat(dir, ".", &names, NULL, by_name);
    if (n < 0) {
        rc = tf_err_set(err, TF_E_IO, "reading %s: %s", folder, strerror(errno));
        goto out;
    }
    for (int i = 0; i < n && !rc; i++)
        if (names[i]->d_name[0] != '.' && !is_chatter(names[i]->d_name))
            rc = pack_file(in, dir, folder, names[i]->d_name, err);
    if (!rc && !close_group(in))
        rc = tf_db_memory(err);
    if (!rc) {
        *out = in->pack;
        in->pack = NULL;
    }
out:
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    if (dir >= 0)
        close(dir);
    if (in) {
        tf_image_pack_free(in->pack);
        ZSTD_freeCCtx(in->zstd);
        free(in->listed);
    }
    free(in);
    return rc;
}
