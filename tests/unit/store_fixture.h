/*
 * store_fixture.h: what the store's tests share: a ring with a producer's hand on it, a folder for files, and
 * a naive model of frame events to compare with. Each test program includes it once.
 */
#ifndef TF_STORE_FIXTURE_H
#define TF_STORE_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"

#define UNUSED __attribute__((unused))

/* ---- random numbers: the same in every run ---- */

static uint64_t fx_seed = 88172645463325252u;
static UNUSED uint64_t fx_random(void)
{
    fx_seed ^= fx_seed << 13;
    fx_seed ^= fx_seed >> 7;
    fx_seed ^= fx_seed << 17;
    return fx_seed;
}

static UNUSED uint64_t fx_tsc(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
#endif
}

static UNUSED double fx_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- a folder ---- */

static char fx_dir[64];
static UNUSED int fx_setup(void **state)
{
    (void)state;
    strcpy(fx_dir, "/tmp/tf-test-XXXXXX");
    return mkdtemp(fx_dir) ? 0 : -1;
}
static UNUSED int fx_teardown(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", fx_dir);
    return system(cmd);
}
/* A path in the folder; four may be in use at a time. */
static UNUSED const char *fx_path(const char *name)
{
    static char paths[4][256];
    static int at;
    char *p = paths[at++ & 3];
    snprintf(p, 256, "%s/%s", fx_dir, name);
    return p;
}
static UNUSED void fx_write(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}
static UNUSED char *fx_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    char *buf = malloc(*len + 1);
    assert_int_equal(fread(buf, 1, *len, f), *len);
    fclose(f);
    return buf;
}

/* Fails the test with the message of an error. */
#define ok(call)                                                                                             \
    do {                                                                                                     \
        struct tf_err err_ = {0};                                                                            \
        struct tf_err *err = &err_;                                                                          \
        if ((call) < 0) {                                                                                    \
            print_error("%s: %s\n", #call, err_.msg);                                                        \
            fail();                                                                                          \
        }                                                                                                    \
    } while (0)
/* The call must fail with that code and a message that holds that text. */
#define refused(call, want, text)                                                                            \
    do {                                                                                                     \
        struct tf_err err_ = {0};                                                                            \
        struct tf_err *err = &err_;                                                                          \
        int rc_ = (int)(call);                                                                               \
        if (rc_ != (want) || err_.code != (want) || !strstr(err_.msg, text)) {                               \
            print_error("%s: %d (want %d) '%s' (want '%s')\n", #call, rc_, want, err_.msg, text);            \
            fail();                                                                                          \
        }                                                                                                    \
    } while (0)

/* ---- the ring ---- */

struct fx_ring {
    struct tf_shm *shm;
    uint32_t *words;
    uint32_t size;
    uint64_t head;
};

static UNUSED void fx_ring_make(struct fx_ring *r, uint32_t size)
{
    size_t bytes = size * sizeof(uint32_t);
    int fd = memfd_create("ring", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(TF_SHM_HEADER + bytes)), 0);
    r->shm = mmap(NULL, TF_SHM_HEADER, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(r->shm != MAP_FAILED);
    uint8_t *p = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    for (int i = 0; i < 2; i++)
        assert_true(mmap(p + (size_t)i * bytes, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                         TF_SHM_HEADER) != MAP_FAILED);
    close(fd);
    r->words = (uint32_t *)p;
    r->size = size;
    r->head = 0;
    r->shm->magic = TF_SHM_MAGIC;
    r->shm->version = TF_SHM_VERSION;
    r->shm->ring_words = size;
}
static UNUSED void fx_ring_free(struct fx_ring *r)
{
    munmap(r->words, 2ull * r->size * sizeof(uint32_t));
    munmap(r->shm, TF_SHM_HEADER);
}

/* Puts an item as the producer does: payload first, first word last; waits for space. */
static UNUSED void fx_item(struct fx_ring *r, uint32_t word, const void *payload, size_t words)
{
    while (r->head + 1 + words - __atomic_load_n(&r->shm->tail, __ATOMIC_ACQUIRE) > r->size)
        usleep(50);
    uint32_t *p = r->words + (r->head & (r->size - 1));
    if (words)
        memcpy(p + 1, payload, words * sizeof(uint32_t));
    __atomic_store_n(p, word, __ATOMIC_RELEASE);
    r->head += 1 + words;
}
static UNUSED void fx_record(struct fx_ring *r, enum tf_record type, const void *data, size_t len)
{
    static uint8_t buf[TF_ITEM_MAX_WORDS * 4];
    size_t words = (len + 3) / 4;
    assert_true(words < TF_ITEM_MAX_WORDS);
    memset(buf, 0, words * 4);
    memcpy(buf, data, len);
    fx_item(r, TF_RECORD_WORD(type, words), buf, words);
}
static UNUSED void fx_switch(struct fx_ring *r, uint32_t thread)
{
    fx_item(r, TF_WORD(TF_SWITCH, thread), NULL, 0);
}
static UNUSED void fx_turn(struct fx_ring *r, uint32_t thread, enum tf_turn why)
{
    struct tf_rec_turn rec = {.thread = thread, .why = why};
    fx_record(r, TF_REC_TURN, &rec, sizeof rec);
}
static UNUSED void fx_news(struct fx_ring *r, enum tf_thread_news what, uint32_t thread, uint32_t parent,
                           int32_t tid, const char *name)
{
    uint8_t buf[1024] = {0};
    struct tf_rec_thread rec = {
        .what = what, .thread = thread, .parent = parent, .tid = tid, .name_len = (uint32_t)strlen(name)};
    memcpy(buf, &rec, sizeof rec);
    memcpy(buf + sizeof rec, name, rec.name_len + 1);
    fx_record(r, TF_REC_THREAD, buf, sizeof rec + rec.name_len + 1);
}
static UNUSED void fx_code(struct fx_ring *r, uint32_t id, const char *file, const char *name, uint32_t line)
{
    uint8_t buf[4096];
    struct tf_rec_code rec = {.id = id,
                              .first_line = line,
                              .hash = 0x1234567800000000u + id,
                              .flags = 3,
                              .file_len = (uint32_t)strlen(file),
                              .name_len = (uint32_t)strlen(name)};
    memcpy(buf, &rec, sizeof rec);
    memcpy(buf + sizeof rec, file, rec.file_len + 1);
    memcpy(buf + sizeof rec + rec.file_len + 1, name, rec.name_len + 1);
    fx_record(r, TF_REC_CODE, buf, sizeof rec + rec.file_len + rec.name_len + 2);
}
static UNUSED void fx_outside(struct fx_ring *r, uint16_t call, uint16_t flags, const void *args,
                              uint32_t args_len, const void *data, uint64_t len, int64_t result)
{
    static uint8_t buf[200000];
    struct tf_rec_outside rec = {
        .call = call, .flags = flags, .args_len = args_len, .data_len = len, .result = result};
    size_t args_size = (args_len + 7u) & ~7u;
    memset(buf, 0, sizeof rec + args_size);
    memcpy(buf, &rec, sizeof rec);
    if (args_len)
        memcpy(buf + sizeof rec, args, args_len);
    /* A ring of a few words holds only short items. */
    size_t most = r->size / 2 * 4 < 100000 ? r->size / 2 * 4 : 100000;
    size_t here = len < most ? len : most;
    if (here)
        memcpy(buf + sizeof rec + args_size, data, here);
    fx_record(r, TF_REC_OUTSIDE, buf, sizeof rec + args_size + here);
    for (uint64_t at = here; at < len; at += here) {
        here = len - at < most ? len - at : most;
        fx_record(r, TF_REC_DATA, (const uint8_t *)data + at, here);
    }
}
static UNUSED void fx_mark(struct fx_ring *r, uint32_t kind, const char *text)
{
    uint8_t buf[1024];
    struct tf_rec_mark rec = {.kind = kind, .text_len = (uint32_t)strlen(text)};
    memcpy(buf, &rec, sizeof rec);
    memcpy(buf + sizeof rec, text, rec.text_len + 1);
    fx_record(r, TF_REC_MARK, buf, sizeof rec + rec.text_len + 1);
}
static UNUSED void fx_start_at(struct fx_ring *r, uint64_t tsc)
{
    static const char blob[] =
        "3.11.2\0/bin/true\0true\0/tmp\0/usr/lib/python3.11\0python3\0shop.py\0A=1\0B=\xff\xfe\0C=";
    uint8_t buf[512];
    struct tf_rec_start rec = {.pid = 4711,
                               .argc = 2,
                               .envc = 3,
                               .blob_len = sizeof blob,
                               .stack_limit = 8 << 20,
                               .layout_digest = 0xfedcba9876543210u};
    fx_record(r, TF_REC_TIME, &tsc, sizeof tsc);
    memcpy(buf, &rec, sizeof rec);
    memcpy(buf + sizeof rec, blob, sizeof blob);
    fx_record(r, TF_REC_START, buf, sizeof rec + sizeof blob);
}
static UNUSED void fx_start(struct fx_ring *r)
{
    fx_start_at(r, fx_tsc());
}
static UNUSED void fx_drain(struct tf_ingest *in)
{
    int64_t n = 1;
    while (n > 0)
        ok(n = tf_ingest_drain(in, err));
}
static UNUSED struct tf_ingest *fx_begin(struct tf_store *store, struct fx_ring *r, const char *title)
{
    struct tf_ingest *in = NULL;
    struct tf_ingest_opts opts = {.command = "shop.py", .title = title};
    ok(tf_ingest_begin(store, r->shm, r->words, &opts, &in, err));
    return in;
}

/* ---- the naive model: what each frame event is. A switch is the event of the thread that goes on ---- */

struct fx_model {
    struct tf_frame *v; /* v[i] is frame i + 1; time_ns is not modelled */
    size_t n, cap;
    struct {
        struct tf_frame *v;
        size_t n, cap;
    } stacks[8];
};
static UNUSED void fx_model_add(struct fx_model *m, uint32_t thread, uint32_t word)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 1024;
        m->v = realloc(m->v, m->cap * sizeof *m->v);
    }
    struct tf_frame f = {.frame = m->n + 1, .event = TF_TAG(word), .thread = thread, .entry = m->n + 1};
    if (f.event == TF_SWITCH) {
        if (m->stacks[thread].n) {
            struct tf_frame *top = &m->stacks[thread].v[m->stacks[thread].n - 1];
            f.code = top->code;
            f.entry = top->entry;
            f.depth = (uint32_t)m->stacks[thread].n;
        }
    } else if (f.event == TF_CALL || f.event == TF_RESUME) {
        f.code = TF_LOW(word);
        if (m->stacks[thread].n == m->stacks[thread].cap) {
            m->stacks[thread].cap = m->stacks[thread].cap * 2 + 64;
            m->stacks[thread].v = realloc(m->stacks[thread].v, m->stacks[thread].cap * sizeof f);
        }
        f.depth = (uint32_t)m->stacks[thread].n + 1;
        m->stacks[thread].v[m->stacks[thread].n++] = f;
    } else if (m->stacks[thread].n) {
        struct tf_frame *top = &m->stacks[thread].v[m->stacks[thread].n - 1];
        f.code = top->code;
        f.entry = top->entry;
        f.depth = (uint32_t)m->stacks[thread].n--;
    }
    m->v[m->n++] = f;
}
static UNUSED size_t fx_model_depth(struct fx_model *m, uint32_t thread)
{
    return m->stacks[thread].n;
}
static UNUSED void fx_model_free(struct fx_model *m)
{
    for (int i = 0; i < 8; i++)
        free(m->stacks[i].v);
    free(m->v);
    *m = (struct fx_model){0};
}
static UNUSED void fx_same(const struct tf_frame *got, const struct tf_frame *want)
{
    if (got->frame != want->frame || got->event != want->event || got->code != want->code ||
        got->depth != want->depth || got->thread != want->thread || got->entry != want->entry) {
        print_error("frame %lu event %d code %u depth %u thread %u entry %lu,\n"
                    "want  %lu event %d code %u depth %u thread %u entry %lu\n",
                    got->frame, got->event, got->code, got->depth, got->thread, got->entry, want->frame,
                    want->event, want->code, want->depth, want->thread, want->entry);
        fail();
    }
}

/* As a program does it that knows nothing of who is recording: a run with all its processes. */
static inline void fx_delete_run(const char *path, int64_t rowid)
{
    static const char *const tables[] = {"frames", "outside", "codes", "marks", "mapped", "sources", "runs"};
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[200];
        snprintf(sql, sizeof sql,
                 "DELETE FROM %s WHERE run IN (SELECT run FROM runs WHERE id = (SELECT id FROM runs WHERE "
                 "run = %lld))",
                 tables[i], (long long)rowid);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    }
    sqlite3_close(db);
}

#endif
