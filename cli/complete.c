/*
 * complete.c: see complete.h. The re-execution's items are put into a ring of our own, from which the
 * ordinary consumer takes them (store/ingest.c): what it writes is what it would have written of a recorded
 * program.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint/launch.h"
#include "cli/common.h"
#include "cli/complete.h"
#include "replay/timeline.h"

#define PROGRESS_AFTER_MS 1000
#define PROGRESS_EVERY_MS 100
#define WAIT_MS 200 /* between two looks whether another completion has ended */

struct completing {
    struct tf_shm_map map;
    struct tf_ingest *in;
    uint64_t head, frames, bytes;
    int64_t began_ms, shown_ms;
};

static void show_progress(struct completing *c, uint64_t offset)
{
    char frames[32];
    int64_t now = tf_now_ms();
    if (now - c->began_ms < PROGRESS_AFTER_MS || now - c->shown_ms < PROGRESS_EVERY_MS ||
        !isatty(STDERR_FILENO))
        return;
    c->shown_ms = now;
    fprintf(stderr, "\rcompleting the light recording: %3.0f %% of its log, %s frame events, %.0f s\033[K",
            c->bytes ? 100.0 * (double)offset / (double)c->bytes : 100.0,
            tf_count_text(c->frames, frames, sizeof frames), (double)(now - c->began_ms) / 1e3);
}

static void clear_progress(const struct completing *c)
{
    if (c->shown_ms)
        fputs("\r\033[K", stderr);
}

static int on_items(void *ctx, const uint32_t *items, size_t n, uint64_t offset, struct tf_err *err)
{
    struct completing *c = ctx;
    if (n >= TF_RING_WORDS)
        return tf_err_set(err, TF_E_REPLAY, "the replaying process answered nonsense");
    /* The ring is mapped twice, so what goes beyond its end is at its start. */
    memcpy(c->map.ring + (c->head & (TF_RING_WORDS - 1)), items, n * sizeof *items);
    c->head += n;
    while (c->map.shm->tail < c->head) {
        int64_t taken = tf_ingest_drain(c->in, err);
        if (taken < 0)
            return (int)taken;
        if (taken == 0)
            return tf_err_set(err, TF_E_REPLAY, "the replaying process answered nonsense");
    }
    c->frames = tf_ingest_frames(c->in);
    show_progress(c, offset);
    return tf_ingest_tick(c->in, err);
}

/* Executes the run again and writes what that gives. */
static int derive(struct tf_store *store, const struct tf_run *run, struct tf_err *err)
{
    struct completing c = {.bytes = run->outside_bytes, .began_ms = tf_now_ms()};
    struct tf_ingest_opts opts = {.command = run->command, .title = run->title, .completes = run};
    struct tf_timeline *t = NULL;
    int64_t rowid = 0;
    int r = tf_timeline_open(store, run, NULL, &t, err);
    if (r)
        return r;
    r = tf_shm_create(&c.map, TF_MODE_RECORD, TF_RING_WORDS, err);
    if (r == 0) {
        if ((r = tf_ingest_begin(store, c.map.shm, c.map.ring, &opts, &c.in, err)) == 0) {
            rowid = tf_ingest_run(c.in)->rowid;
            r = tf_timeline_derive(t, on_items, &c, err);
            clear_progress(&c);
        }
        if (c.in) {
            struct tf_err end;
            if (tf_ingest_end(c.in, -1, 0, NULL, &end) && r == 0) {
                *err = end;
                r = end.code;
            }
        }
        tf_shm_destroy(&c.map);
    }
    tf_timeline_close(t);
    return r ? r : tf_store_complete(store, run->rowid, rowid, err);
}

/* Waits for another completion of the run, if there is one. */
static int hold(const char *path, const struct tf_run *run, int *fd, struct tf_err *err)
{
    const struct timespec wait = {0, WAIT_MS * 1000000};
    int r;
    for (bool said = false; (r = tf_store_hold(path, run, fd, err)) == 1; said = true) {
        if (!said)
            tf_say("run %.8s is being completed by another timefork: waiting for that", run->id);
        nanosleep(&wait, NULL);
    }
    return r;
}

static int complete(const char *path, const struct tf_run *run, struct tf_err *err)
{
    struct tf_store *store = NULL;
    struct tf_run now = {0};
    int fd = -1, r = hold(path, run, &fd, err);
    if (r == 0 && (r = tf_store_create(path, &store, err)) == 0)
        r = tf_store_find_run(store, run->id, &now, err);
    if (r == 0 && now.light == TF_LIGHT_ONLY)
        r = derive(store, &now, err);
    tf_run_clear(&now);
    tf_store_close(store);
    if (fd >= 0)
        close(fd);
    return r;
}

int tf_complete(struct tf_store *reader, struct tf_run *run, struct tf_err *err)
{
    struct tf_err resumed;
    char id[sizeof run->id], *path;
    if (run->light != TF_LIGHT_ONLY)
        return 0;
    if (tf_store_is_recorded(reader, run))
        return tf_err_set(
            err, TF_E_USAGE,
            "run %.8s is a light recording that is still going on: it has no frame events before "
            "it has ended and been completed",
            run->id);
    if (!(path = strdup(tf_store_path(reader))))
        return tf_err_set(err, TF_E_IO, "out of memory");
    memcpy(id, run->id, sizeof id);
    tf_store_pause(reader); /* or the file would stay in the state of one that is written to */
    int r = complete(path, run, err);
    free(path);
    if (r)
        return tf_err_prefix(err,
                             "run %.8s is a light recording, and its frame events cannot be derived: ", id);
    if ((r = tf_store_resume(reader, &resumed))) {
        *err = resumed;
        return r;
    }
    tf_run_clear(run);
    return tf_store_find_run(reader, id, run, err);
}
