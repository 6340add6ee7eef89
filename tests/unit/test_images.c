/* Durable checkpoints as rows of a recording: what goes in comes out, pages are stored once, damage is
 * noticed, and what no image has is dropped. */
#include "store_fixture.h"

#include <dirent.h>
#include <poll.h>
#include <sqlite3.h>
#include "store/images.h"

#define PAGE 4096u
#define PAGES 1500u

/* ---- a folder as CRIU leaves it ---- */

static uint8_t memory[PAGES][PAGE];

static void fill(uint8_t *page, uint64_t seed)
{
    for (size_t i = 0; i < PAGE; i += 8) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        memcpy(page + i, &(uint64_t){seed >> 40}, 8); /* of five zeros and three random bytes */
    }
}

static void new_memory(void)
{
    for (uint32_t i = 0; i < PAGES; i++)
        fill(memory[i], i + 1);
    for (uint32_t i = 100; i < 200; i++)
        memset(memory[i], 0, PAGE);
    for (uint32_t i = 300; i < 310; i++)
        memcpy(memory[i], memory[7], PAGE);
}

static const char *folder_of(const char *name)
{
    const char *path = fx_path(name);
    assert_int_equal(mkdir(path, 0700), 0);
    return path;
}

static void write_in(const char *folder, const char *name, const void *data, size_t len)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    fx_write(path, data, len);
}

static void make_folder(const char *name)
{
    const char *folder = folder_of(name);
    write_in(folder, "pages-1.img", memory, sizeof memory);
    write_in(folder, "core-12.img", "some words of a core", 20);
    write_in(folder, "empty.img", "", 0);
    write_in(folder, "pages-2.img", "not whole pages", 15);
    write_in(folder, "dump.log", "nobody wants this", 17);
    write_in(folder, "stats-dump", "nor this", 8);
}

static void same_file(const char *folder, const char *name, const void *data, size_t len)
{
    char path[600];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *got = fx_read(path, &n);
    assert_int_equal(n, len);
    assert_memory_equal(got, data, len);
    free(got);
}

static int files_in(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = 0;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void same_folder(const char *folder)
{
    same_file(folder, "pages-1.img", memory, sizeof memory);
    same_file(folder, "core-12.img", "some words of a core", 20);
    same_file(folder, "empty.img", "", 0);
    same_file(folder, "pages-2.img", "not whole pages", 15);
    assert_int_equal(files_in(folder), 4);
}

/* ---- recordings ---- */

static char store_path[256];

static int64_t add_run(struct tf_store *store)
{
    struct fx_ring r;
    struct tf_run run;
    fx_ring_make(&r, 1 << 12);
    struct tf_ingest *in = fx_begin(store, &r, "x");
    fx_start(&r);
    fx_drain(in);
    ok(tf_ingest_end(in, 0, 0, &run, err));
    int64_t rowid = run.rowid;
    tf_run_clear(&run);
    fx_ring_free(&r);
    return rowid;
}

static struct tf_store *new_store(const char *name, int64_t *run)
{
    struct tf_store *store;
    snprintf(store_path, sizeof store_path, "%s", fx_path(name));
    ok(tf_store_create(store_path, &store, err));
    *run = add_run(store);
    return store;
}

static int64_t number(struct tf_store *store, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(tf_store_path(store), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    int64_t n = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

static void change(struct tf_store *store, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(tf_store_path(store), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_true(sqlite3_total_changes(db) > 0 || strncmp(sql, "CREATE", 6) == 0);
    sqlite3_close(db);
}

static int64_t stored(struct tf_store *store)
{
    return number(store, "SELECT (SELECT sum(length(data) + length(digests)) FROM page_groups)"
                         " + (SELECT sum(length(data)) FROM image_files)");
}

static struct tf_image_pack *pack_of(struct tf_store *store, const char *folder)
{
    struct tf_page_set *known;
    struct tf_image_pack *pack;
    ok(tf_page_set_load(store, &known, err));
    ok(tf_image_pack(folder, known, &pack, err));
    tf_page_set_free(known);
    return pack;
}

/* The memory as it is now, as an image at `frame`. */
static int64_t put(struct tf_store *store, int64_t run, const char *name, uint64_t frame)
{
    struct tf_image image = {.run = run,
                             .frame = frame,
                             .offset = frame * 10,
                             .made_unix_ns = 5,
                             .digest = frame << 56 | 77,
                             .state = (uint8_t *)"state",
                             .state_len = 5};
    make_folder(name);
    struct tf_image_pack *pack = pack_of(store, fx_path(name));
    ok(tf_image_put(store, &image, pack, UINT64_MAX, err) - 1);
    tf_image_pack_free(pack);
    assert_int_equal(image.pages, PAGES);
    return image.rowid;
}

static void comes_out(struct tf_store *store, int64_t image, const char *name)
{
    const char *folder = folder_of(name);
    ok(tf_image_extract(store, image, folder, err));
    same_folder(folder);
}

/* ---- tests ---- */

static void test_in_and_out(void **state)
{
    struct tf_image *images;
    struct tf_run run;
    size_t n;
    int64_t row;
    (void)state;
    struct tf_store *store = new_store("plain", &row);
    ok(tf_store_find_run(store, NULL, &run, err));
    ok(tf_images_list(store, &run, &images, &n, err)); /* no tables yet */
    assert_int_equal(n, 0);
    ok(tf_images_tidy(store, err));
    refused(tf_image_extract(store, 1, fx_dir, err), TF_E_NOTFOUND, "has no checkpoint number 1");
    new_memory();
    int64_t image = put(store, row, "plain-1", 3);
    tf_store_close(store);

    ok(tf_store_open(store_path, &store, err));
    comes_out(store, image, "plain-out");
    refused(tf_image_extract(store, image, fx_path("plain-out"), err), TF_E_IO, "File exists");
    ok(tf_images_list(store, &run, &images, &n, err));
    assert_int_equal(n, 1);
    assert_int_equal(images[0].run, row);
    assert_int_equal(images[0].frame, 3);
    assert_int_equal(images[0].offset, 30);
    assert_int_equal(images[0].digest, 3ull << 56 | 77);
    assert_int_equal(images[0].pages, PAGES);
    assert_int_equal(images[0].state_len, 5);
    assert_memory_equal(images[0].state, "state", 5);
    int64_t bytes = stored(store);
    assert_in_range(images[0].own_bytes, bytes * 9 / 10, bytes * 11 / 10);
    tf_images_free(images, n);
    refused(tf_image_delete(store, image, err), TF_E_USAGE, "reading only");
    /* Zeros and what is there already are stored once. */
    assert_int_equal(number(store, "SELECT sum(n) FROM page_groups"), PAGES - 100 - 10);
    tf_run_clear(&run);
    tf_store_close(store);
}

static void test_stored_once(void **state)
{
    struct tf_image *images;
    struct tf_run run;
    size_t n;
    int64_t row, ids[10];
    char name[32];
    (void)state;
    struct tf_store *store = new_store("once", &row);
    new_memory();
    ids[0] = put(store, row, "once-0", 1);
    int64_t one = stored(store);
    for (uint32_t i = 1; i < 10; i++) {
        for (uint32_t k = 0; k < 20; k++)
            fill(memory[(i * 331 + k * 67) % PAGES], i * 10007 + k);
        snprintf(name, sizeof name, "once-%u", i);
        ids[i] = put(store, row, name, 1 + i);
    }
    int64_t ten = stored(store);
    assert_true(ten * 2 <= one * 3);
    comes_out(store, ids[9], "once-out");

    /* The others stay whole when those in the middle go, and all is gone with the last. */
    ok(tf_store_find_run(store, NULL, &run, err));
    for (int i = 0; i < 9; i++)
        ok(tf_image_delete(store, ids[i], err));
    refused(tf_image_delete(store, ids[0], err), TF_E_NOTFOUND, "no checkpoint number");
    comes_out(store, ids[9], "once-out-2");
    assert_true(stored(store) < ten);
    ok(tf_images_list(store, &run, &images, &n, err));
    assert_int_equal(n, 1);
    tf_images_free(images, n);
    /* Pages that were dropped are not known any more: they come back as new ones. */
    new_memory();
    int64_t again = put(store, row, "once-again", 50);
    comes_out(store, again, "once-out-3");
    ok(tf_image_delete(store, again, err));
    ok(tf_image_delete(store, ids[9], err));
    assert_int_equal(number(store, "SELECT count(*) FROM page_groups"), 0);
    assert_int_equal(number(store, "SELECT count(*) FROM image_files"), 0);
    tf_run_clear(&run);
    tf_store_close(store);
}

/* Portions, the middle of which is the end; then the whole again. */
static void test_cut_off(void **state)
{
    struct tf_image image = {.frame = 1};
    struct tf_image_pack *pack, *second;
    int portions = 0, rc;
    (void)state;
    struct tf_store *store = new_store("cut", &image.run);
    new_memory();
    make_folder("cut-1");
    pack = pack_of(store, fx_path("cut-1"));
    for (int i = 0; i < 5; i++)
        ok(tf_image_put(store, &image, pack, 100000, err));
    tf_image_pack_free(pack);
    tf_store_close(store);
    ok(tf_store_create(store_path, &store, err));
    assert_true(number(store, "SELECT count(*) FROM page_groups") > 0);
    assert_int_equal(number(store, "SELECT count(*) FROM images"), 0);
    ok(tf_images_tidy(store, err));
    assert_int_equal(number(store, "SELECT count(*) FROM page_groups"), 0);

    pack = pack_of(store, fx_path("cut-1"));
    while ((rc = tf_image_put(store, &image, pack, 100000, NULL)) == 0)
        portions++;
    assert_int_equal(rc, 1);
    assert_true(portions > 5);
    tf_image_pack_free(pack);
    comes_out(store, image.rowid, "cut-out");

    /* What a new image shares is removed while it is packed. */
    struct tf_image late = {.run = image.run, .frame = 2};
    second = pack_of(store, fx_path("cut-1"));
    ok(tf_image_delete(store, image.rowid, err));
    refused(tf_image_put(store, &late, second, UINT64_MAX, err), TF_E_NOTFOUND, "were removed");
    tf_image_pack_free(second);
    assert_int_equal(number(store, "SELECT count(*) FROM images"), 0);
    /* Or its run is. */
    second = pack_of(store, fx_path("cut-1"));
    ok(tf_store_delete_run(store, image.run, err));
    refused(tf_image_put(store, &late, second, UINT64_MAX, err), TF_E_NOTFOUND, "was deleted");
    tf_image_pack_free(second);
    tf_store_close(store);
}

/* While the memory is still being written: who opens it waits, and sees all of it. When it is damaged that is
 * said before, and there is nothing in it. */
static void test_meanwhile(void **state)
{
    struct tf_extract *extract;
    char name[32], path[300];
    int64_t row;
    struct stat st;
    (void)state;
    struct tf_store *store = new_store("meanwhile", &row);
    new_memory();
    int64_t image = put(store, row, "meanwhile-1", 1);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "meanwhile-out-%d", i);
        const char *folder = folder_of(name);
        ok(tf_image_extract_start(store, image, folder, &extract, err));
        same_folder(folder);
        ok(tf_image_extract_finish(extract, err));
        same_folder(folder);
    }
    change(store, "UPDATE page_groups SET data = substr(data, 1, 40)"
                  " WHERE number = (SELECT max(number) FROM page_groups)");
    ok(tf_image_extract_start(store, image, folder_of("meanwhile-bad"), &extract, err));
    struct pollfd failed = {.fd = tf_image_extract_failed(extract), .events = POLLIN};
    assert_int_equal(poll(&failed, 1, 10000), 1);
    refused(tf_image_extract_finish(extract, err), TF_E_FORMAT, "cannot be unpacked");
    snprintf(path, sizeof path, "%s/meanwhile-bad/pages-1.img", fx_dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
    ok(tf_image_extract_finish(NULL, err));
    tf_store_close(store);
}

static void is_damaged(struct tf_store *store, int64_t image, const char *sql, const char *says)
{
    static int n;
    char name[32];
    snprintf(name, sizeof name, "damage-out-%d", n++);
    change(store, sql);
    refused(tf_image_extract(store, image, folder_of(name), err), TF_E_FORMAT, says);
}

static void test_damage(void **state)
{
    struct tf_image *images;
    struct tf_run run;
    size_t n;
    int64_t row;
    uint64_t bytes;
    (void)state;
    struct tf_store *store = new_store("damage", &row);
    new_memory();
    int64_t image = put(store, row, "damage-1", 1);
    change(store, "CREATE TABLE sound AS SELECT * FROM page_groups");
#define REPAIR "DELETE FROM page_groups; INSERT INTO page_groups SELECT * FROM sound"
    /* Two pages with one another's digest; one byte of packed pages; a group too few; too short. */
    is_damaged(store, image,
               "UPDATE page_groups SET digests = substr(digests, 17, 16) || substr(digests, 1, 16) || "
               "substr(digests, "
               "33) WHERE number = (SELECT max(number) FROM page_groups)",
               "digest");
    change(store, REPAIR);
    is_damaged(store, image,
               "UPDATE page_groups SET data = substr(data, 1, 5000) || x'00010203' || substr(data, 5005)"
               " WHERE number = (SELECT min(number) + 3 FROM page_groups)",
               "of a checkpoint");
    change(store, REPAIR);
    is_damaged(store, image, "DELETE FROM page_groups WHERE number = (SELECT max(number) FROM page_groups)",
               "are missing");
    change(store, REPAIR);
    is_damaged(store, image, "UPDATE page_groups SET data = substr(data, 1, 40)", "cannot be unpacked");
    change(store, REPAIR);
    is_damaged(
        store, image,
        "UPDATE page_groups SET digests = zeroblob(length(digests)), data = (SELECT data FROM sound LIMIT 1)",
        "unpacked");
    change(store, REPAIR);
    comes_out(store, image, "damage-not");
    is_damaged(store, image, "UPDATE image_files SET digest = digest + 1 WHERE name = 'core-12.img'",
               "core-12.img");
    change(store, "UPDATE image_files SET digest = digest - 1 WHERE name = 'core-12.img'");
    is_damaged(store, image, "UPDATE image_files SET name = '../x' WHERE name = 'core-12.img'", "no name");
    change(store, "UPDATE image_files SET name = 'core-12.img' WHERE name = '../x'");
    is_damaged(store, image, "UPDATE image_files SET data = substr(data, 1, 20) WHERE name = 'pages-1.img'",
               "list of pages");
    /* A list that cannot be read: nothing is dropped for it, and the run can be looked at and deleted. */
    ok(tf_images_tidy(store, err));
    assert_true(number(store, "SELECT count(*) FROM page_groups") > 0);
    ok(tf_store_find_run(store, NULL, &run, err));
    ok(tf_images_list(store, &run, &images, &n, err));
    assert_int_equal(n, 1);
    tf_images_free(images, n);
    ok(tf_store_run_bytes(store, row, &bytes, err));
    ok(tf_store_delete_run(store, row, err));
    assert_int_equal(number(store, "SELECT count(*) FROM page_groups"), 0);
    tf_run_clear(&run);
    tf_store_close(store);
}

/* Two runs, and a process that was forked from the first. */
static void test_runs(void **state)
{
    struct tf_image *images;
    struct tf_run child;
    size_t n;
    int64_t first, second;
    uint64_t before, with, after;
    (void)state;
    struct tf_store *store = new_store("runs", &first);
    second = add_run(store);
    ok(tf_store_run_bytes(store, first, &before, err));
    new_memory();
    put(store, first, "runs-1", 1);
    for (uint32_t i = 0; i < 700; i++)
        fill(memory[i], 90000 + i);
    int64_t other = put(store, second, "runs-2", 1);
    put(store, first, "runs-3", 9);
    ok(tf_store_run_bytes(store, first, &with, err));
    ok(tf_store_run_bytes(store, second, &after, err));
    assert_true(with > before + 600 * 16 && after < before + 600 * 16);

    change(store,
           "INSERT INTO runs(id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes,"
           " exit_status, exit_signal, pid, stack_limit, layout_digest, cal_tsc, cal_ns, python_version,"
           " exe, execfn, cwd, stdlib, kernel, host, python_file_digest, command, title, argv, envp,"
           " process, parent, origin, fork_frame, fork_offset)"
           " SELECT id, state, started_unix_ns, duration_ns, frames, outside, outside_bytes, exit_status,"
           " exit_signal, pid + 1, stack_limit, layout_digest, cal_tsc, cal_ns, python_version, exe,"
           " execfn, cwd, stdlib, kernel, host, python_file_digest, command, title, argv, envp, 2, 1, 1, 4,"
           " 40 FROM runs WHERE run = 1");
    char id[64];
    struct tf_run run;
    ok(tf_store_find_run(store, NULL, &run, err)); /* the last one */
    tf_run_clear(&run);
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(store_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT id FROM runs WHERE run = 1", -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    snprintf(id, sizeof id, "%s", (const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    ok(tf_store_find_process(store, id, 2, &child, err));
    ok(tf_images_list(store, &child, &images, &n, err));
    assert_int_equal(n, 1); /* that at frame 1; the one at 9 is behind the fork */
    assert_int_equal(images[0].frame, 1);
    tf_images_free(images, n);
    put(store, child.rowid, "runs-4", 20);
    ok(tf_images_list(store, &child, &images, &n, err));
    assert_int_equal(n, 2);
    assert_int_equal(images[1].frame, 20);
    tf_images_free(images, n);
    tf_run_clear(&child);

    ok(tf_store_delete_run(store, first, err));
    assert_int_equal(number(store, "SELECT count(*) FROM images"), 1);
    comes_out(store, other, "runs-out");
    tf_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_and_out), cmocka_unit_test(test_stored_once),
        cmocka_unit_test(test_cut_off),    cmocka_unit_test(test_damage),
        cmocka_unit_test(test_runs),       cmocka_unit_test(test_meanwhile),
    };
    return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
