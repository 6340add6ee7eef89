/* durable.c: see durable.h. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "replay/durable.h"

#define PORTION (1u << 20) /* of a pack, put into the recording between two looks at the ring */
#define SETTLE_MS 30000    /* for a process to settle, or to take its digest */
#define STATE_VERSION 1

/* What an image says about itself besides the position. */
struct state {
    uint32_t version, reserved;
    uint64_t bytes; /* struct tf_settled */
    uint64_t work_ns;
};

enum stage { IDLE, SETTLING, DUMPING, PACKING, PUTTING };

struct tf_maker {
    const struct tf_criu *criu;
    struct tf_store *store;
    struct tf_page_set *known;
    enum stage stage;
    struct tf_runner copy;
    struct tf_message message;
    struct tf_criu_dump dump;
    struct tf_image image;
    struct state state;
    int64_t began_ms, took_ms;

    pthread_t thread;
    int packed_fd; /* the thread writes to it, last */
    struct tf_image_pack *pack;
    int pack_code;
    struct tf_err pack_err;
};

int tf_maker_new(const struct tf_criu *criu, struct tf_store *store, struct tf_maker **out,
                 struct tf_err *err)
{
    struct tf_maker *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m)
        return tf_err_set(err, TF_E_IO, "out of memory");
    if ((m->packed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        free(m);
        return tf_err_set(err, TF_E_IO, "eventfd: %s", strerror(errno));
    }
    m->criu = criu;
    m->store = store;
    m->copy = TF_RUNNER_NONE;
    *out = m;
    return 0;
}

bool tf_maker_busy(const struct tf_maker *m)
{
    return m->stage != IDLE;
}

int tf_maker_fd(const struct tf_maker *m)
{
    switch (m->stage) {
    case SETTLING:
        return m->copy.socket;
    case DUMPING:
        return m->dump.control;
    case PACKING:
        return m->packed_fd;
    case IDLE:
    case PUTTING:
        break;
    }
    return -1;
}

int64_t tf_maker_took_ms(const struct tf_maker *m)
{
    return m->took_ms;
}

/* Whether the thread has finished. */
static bool is_packed(struct tf_maker *m, bool wait)
{
    struct pollfd fd = {.fd = m->packed_fd, .events = POLLIN};
    uint64_t n;
    while (wait && poll(&fd, 1, -1) < 0 && errno == EINTR)
        ;
    return read(m->packed_fd, &n, sizeof n) == sizeof n;
}

/* Back to where the next one can begin. */
static void clean_up(struct tf_maker *m)
{
    if (m->stage == PACKING) {
        pthread_join(m->thread, NULL);
        is_packed(m, true);
    }
    tf_criu_dump_end(&m->dump);
    m->dump = (struct tf_criu_dump){0};
    tf_runner_end(&m->copy);
    tf_image_pack_free(m->pack);
    m->pack = NULL;
    m->stage = IDLE;
    m->took_ms = tf_now_ms() - m->began_ms;
}

void tf_maker_free(struct tf_maker *m)
{
    if (!m)
        return;
    clean_up(m);
    tf_page_set_free(m->known);
    free(m->message.data);
    close(m->packed_fd);
    free(m);
}

int tf_maker_begin(struct tf_maker *m, const struct tf_checkpoint *c, int64_t run, struct tf_err *err)
{
    struct tf_place place;
    struct timespec now;
    uint32_t own_namespace = !m->criu->privileged;
    m->began_ms = tf_now_ms();
    /* Images may have been removed since, and their pages with them. */
    struct tf_page_set *known;
    int r = tf_page_set_load(m->store, &known, err);
    if (r)
        return r;
    tf_page_set_free(m->known);
    m->known = known;
    r = tf_runner_fork(&c->runner, &m->copy, &place, err);
    if (r == 0)
        r = tf_runner_send(&m->copy, TF_REQ_SETTLE, &own_namespace, sizeof own_namespace, NULL, 0, err);
    if (r) {
        clean_up(m);
        return r;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    m->image = (struct tf_image){.run = run,
                                 .frame = c->frame,
                                 .offset = c->offset,
                                 .made_unix_ns = now.tv_sec * 1000000000l + now.tv_nsec};
    m->state = (struct state){.version = STATE_VERSION, .work_ns = c->work_ns};
    m->stage = SETTLING;
    return 0;
}

static void *pack(void *arg)
{
    struct tf_maker *m = arg;
    const uint64_t one = 1;
    m->pack_code = tf_image_pack(m->dump.folder, m->known, &m->pack, &m->pack_err);
    while (write(m->packed_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    return NULL;
}

/* 1: it has said so; 0: not yet. */
static int on_settled(struct tf_maker *m, bool wait, struct tf_err *err)
{
    struct tf_settled settled;
    struct tf_err late;
    int r = tf_runner_recv(&m->copy, &m->message, wait ? tf_now_ms() + SETTLE_MS : tf_now_ms(), &late);
    if (r == TF_E_TIMEOUT && !wait && tf_now_ms() - m->began_ms < SETTLE_MS)
        return 0;
    if (r)
        return tf_err_set(err, late.code, "%s", late.msg);
    if (m->message.op != TF_REP_SETTLED || m->message.len != sizeof settled)
        return tf_err_set(err, TF_E_REPLAY, "a copy of a checkpoint answered nonsense");
    memcpy(&settled, m->message.data, sizeof settled);
    m->image.digest = settled.digest;
    m->state.bytes = settled.bytes;
    m->image.state = (uint8_t *)&m->state;
    m->image.state_len = sizeof m->state;
    return 1;
}

static int step(struct tf_maker *m, bool wait, const struct tf_image **image, struct tf_err *err)
{
    int r = 0;
    switch (m->stage) {
    case IDLE:
        return 0;
    case SETTLING:
        if ((r = on_settled(m, wait, err)) <= 0)
            return r;
        if ((r = tf_criu_dump_start(m->criu, m->copy.pid, &m->dump, err)))
            return r;
        m->stage = DUMPING;
        return 0;
    case DUMPING:
        if ((r = tf_criu_dump_poll(&m->dump, wait, err)) <= 0)
            return r;
        tf_runner_end(&m->copy);
        if (pthread_create(&m->thread, NULL, pack, m))
            return tf_err_set(err, TF_E_IO, "cannot start a thread: %s", strerror(errno));
        m->stage = PACKING;
        return 0;
    case PACKING:
        if (!is_packed(m, wait))
            return 0;
        pthread_join(m->thread, NULL);
        m->stage = PUTTING;
        if (m->pack_code)
            return tf_err_set(err, m->pack_code, "%s", m->pack_err.msg);
        tf_criu_dump_end(&m->dump);
        m->dump = (struct tf_criu_dump){0};
        return 0;
    case PUTTING:
        if ((r = tf_image_put(m->store, &m->image, m->pack, PORTION, err)) <= 0)
            return r;
        clean_up(m);
        *image = &m->image;
        return 1;
    }
    return 0;
}

int tf_maker_step(struct tf_maker *m, const struct tf_image **image, struct tf_err *err)
{
    int r = step(m, false, image, err);
    if (r < 0)
        clean_up(m);
    return r;
}

int tf_maker_finish(struct tf_maker *m, const struct tf_image **image, struct tf_err *err)
{
    int r = 0;
    while (m->stage != IDLE && r == 0)
        r = step(m, true, image, err);
    if (r < 0)
        clean_up(m);
    return r;
}

/* ---- restoring ---- */

uint64_t tf_durable_work_ns(const struct tf_image *image)
{
    struct state state = {0};
    if (image->state_len == sizeof state)
        memcpy(&state, image->state, sizeof state);
    return state.version == STATE_VERSION ? state.work_ns : 0;
}

/* What it needs to be a checkpoint of ours again. */
static int ask_to_revive(const struct tf_shared *shared, const struct tf_runner *process, struct tf_err *err)
{
    int r = tf_runner_send_fd(process, TF_REQ_REVIVE, shared->ctl_fd, err);
    return r ? r : tf_runner_send_fd(process, TF_REQ_REVIVE, shared->log_fd, err);
}

/* The digest of the restored process's memory has to be that of the dumped one. */
static int check_revived(const struct tf_image *image, const struct tf_runner *process, struct tf_err *err)
{
    struct tf_message message = {.fd = -1};
    struct tf_settled settled = {0};
    struct state state = {0};
    int r = tf_runner_recv(process, &message, tf_now_ms() + SETTLE_MS, err);
    if (r == 0 && message.op == TF_REP_REVIVED && message.len == sizeof settled)
        memcpy(&settled, message.data, sizeof settled);
    if (image->state_len == sizeof state)
        memcpy(&state, image->state, sizeof state);
    if (r == 0 && (settled.digest != image->digest || settled.bytes != state.bytes))
        r = tf_err_set(
            err, TF_E_REPLAY,
            "its memory is not what was dumped (%llu bytes, digest %016llx; %llu, %016llx when it was "
            "dumped): it is not used",
            (unsigned long long)settled.bytes, (unsigned long long)settled.digest,
            (unsigned long long)state.bytes, (unsigned long long)image->digest);
    free(message.data);
    return r;
}

/* While criu starts, the memory is unpacked: it waits for that. */
static int restore_process(const struct tf_criu *criu, struct tf_store *store, const struct tf_image *image,
                           const char *folder, struct tf_runner *out, struct tf_err *err)
{
    struct tf_extract *extract = NULL;
    struct tf_err late;
    int r = tf_image_extract_start(store, image->rowid, folder, &extract, err);
    if (r)
        return r;
    r = tf_criu_restore_unless(criu, folder, tf_image_extract_failed(extract), &out->socket, &out->pid, err);
    int unpacked = tf_image_extract_finish(extract, &late);
    if (unpacked == 0)
        return r;
    if (r == 0)
        tf_runner_end(out);
    return tf_err_set(err, unpacked, "%s", late.msg); /* why criu failed, if it did */
}

int tf_durable_restore(const struct tf_criu *criu, struct tf_store *store, const struct tf_image *image,
                       const struct tf_shared *shared, struct tf_runner *out, struct tf_err *err)
{
    char *folder = NULL;
    *out = TF_RUNNER_NONE;
    int r = tf_criu_folder(image->pages * 4096, &folder, err);
    if (r == 0)
        r = restore_process(criu, store, image, folder, out, err);
    if (r) {
        tf_criu_folder_remove(folder);
        *out = TF_RUNNER_NONE;
        return r;
    }
    /* Until it is known by its own number, ending it ends the keeper. */
    struct tf_runner restored = *out;
    restored.keeper = out->pid;
    r = ask_to_revive(shared, out, err);
    tf_criu_folder_remove(folder); /* takes a moment, in which the process takes its digest */
    if (r || (r = check_revived(image, out, err)) || (r = tf_runner_identify(&restored, err)))
        tf_runner_end(out);
    else
        *out = restored;
    return r;
}
