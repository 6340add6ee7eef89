/* outside_log.c: see outside_log.h. Memory is that of the file: what is punched out of it is free again. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "checkpoint/proto.h"
#include "replay/outside_log.h"

#define AHEAD (4u << 20) /* bytes loaded at a time, at least */
#define BUFFER (1u << 20)

struct tf_log {
    struct tf_store *store;
    const struct tf_run *run;
    int fd;
    uint8_t *map;
    uint8_t *buffer; /* BUFFER bytes */
    struct tf_outside_block *blocks;
    bool *loaded;
    size_t n;
    uint64_t held, memory; /* bytes: those in memory, and how many may be */
    struct tf_log_hold *holds;
};

int tf_log_open(struct tf_store *store, const struct tf_run *run, int fd, uint64_t memory,
                struct tf_log **out, struct tf_err *err)
{
    struct tf_log *log = calloc(1, sizeof *log);
    int r;
    *out = NULL;
    if (!log)
        return tf_err_set(err, TF_E_IO, "out of memory");
    log->store = store;
    log->run = run;
    log->fd = fd;
    log->memory = memory;
    log->map = mmap(NULL, TF_LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (log->map == MAP_FAILED) {
        log->map = NULL;
        r = tf_err_set(err, TF_E_IO,
                       "cannot map memory for the outside events: %s (is the address space limited? ulimit "
                       "-v unlimited)",
                       strerror(errno));
        goto fail;
    }
    if ((r = tf_store_outside_blocks(store, run, &log->blocks, &log->n, err)))
        goto fail;
    log->loaded = calloc(log->n + 1, sizeof *log->loaded);
    log->buffer = malloc(BUFFER);
    if (!log->loaded || !log->buffer) {
        r = tf_err_set(err, TF_E_IO, "out of memory");
        goto fail;
    }
    for (size_t i = 0; i < log->n; i++)
        if (log->blocks[i].offset + log->blocks[i].len > TF_LOG_SIZE ||
            (i && log->blocks[i].offset != log->blocks[i - 1].offset + log->blocks[i - 1].len)) {
            r = tf_err_set(err, TF_E_FORMAT, "the outside events of run %.8s have a hole", run->id);
            goto fail;
        }
    *out = log;
    return 0;
fail:
    tf_log_close(log);
    return r;
}

void tf_log_close(struct tf_log *log)
{
    if (!log)
        return;
    if (log->map)
        munmap(log->map, TF_LOG_SIZE);
    free(log->blocks);
    free(log->loaded);
    free(log->buffer);
    free(log);
}

static size_t find(const struct tf_log *log, uint64_t offset)
{
    size_t low = 0, high = log->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (log->blocks[middle].offset + log->blocks[middle].len <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_held(const struct tf_log *log, size_t block)
{
    for (const struct tf_log_hold *h = log->holds; h; h = h->next)
        if (block >= h->from && block < h->to)
            return true;
    return false;
}

static void drop(struct tf_log *log, size_t keep_from, size_t keep_to)
{
    for (size_t i = 0; i < log->n && log->held > log->memory; i++) {
        if (!log->loaded[i] || (i >= keep_from && i < keep_to) || is_held(log, i))
            continue;
        /* Whole pages only; an edge that a neighbour shares is kept, and simply loaded again. */
        uint64_t from = (log->blocks[i].offset + 4095) & ~4095ul,
                 to = (log->blocks[i].offset + log->blocks[i].len) & ~4095ul;
        if (to > from)
            fallocate(log->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
        log->loaded[i] = false;
        log->held -= log->blocks[i].len;
    }
}

/* Puts a block into the file: through a buffer, if it is not unusually long, for a fault in the mapping for
 * each page costs more than another copy. */
static int load_block(struct tf_log *log, const struct tf_outside_block *block, struct tf_err *err)
{
    if (block->len > BUFFER)
        return tf_store_outside_read(log->store, log->run, block, log->map + block->offset, err);
    int r = tf_store_outside_read(log->store, log->run, block, log->buffer, err);
    for (uint64_t done = 0; !r && done < block->len;) {
        ssize_t n = pwrite(log->fd, log->buffer + done, block->len - done, (off_t)(block->offset + done));
        if (n > 0)
            done += (uint64_t)n;
        else if (errno != EINTR)
            r = tf_err_set(err, TF_E_IO, "no memory for the outside events: %s", strerror(errno));
    }
    return r;
}

void tf_log_release(struct tf_log *log, struct tf_log_hold *hold)
{
    struct tf_log_hold **at = &log->holds;
    while (*at && *at != hold)
        at = &(*at)->next;
    if (*at)
        *at = hold->next;
    *hold = (struct tf_log_hold){0};
}

int tf_log_load(struct tf_log *log, uint64_t offset, struct tf_log_hold *hold, uint64_t *end,
                struct tf_err *err)
{
    size_t i = find(log, offset), first = i;
    uint64_t done = 0;
    *end = offset;
    if (i < log->n && offset < log->blocks[i].offset)
        return tf_err_set(err, TF_E_REPLAY,
                          "the replay asks for outside events that were dropped from run %.8s", log->run->id);
    for (; i < log->n && done < AHEAD; i++) {
        if (!log->loaded[i]) {
            int r = load_block(log, &log->blocks[i], err);
            if (r)
                return r;
            log->loaded[i] = true;
            log->held += log->blocks[i].len;
        }
        done += log->blocks[i].len;
        *end = log->blocks[i].offset + log->blocks[i].len;
    }
    /* Who takes the last event of a block looks at the next one before it has read the data of this one. */
    first -= first > 0;
    if (hold && !hold->held) {
        hold->held = true;
        hold->next = log->holds;
        log->holds = hold;
    }
    if (hold) {
        hold->from = first;
        hold->to = i;
    }
    drop(log, first, i);
    return 0;
}

/* The event at an offset of a block that is loaded; NULL: what is there cannot be one. */
static const struct tf_outside *event_at(const struct tf_log *log, size_t block, uint64_t offset)
{
    const struct tf_outside_block *b = &log->blocks[block];
    const struct tf_outside *e = (const struct tf_outside *)(log->map + offset);
    uint64_t left = b->offset + b->len - offset;
    if (left < sizeof *e || e->total_len < sizeof *e || e->total_len > left || (e->total_len & 7) ||
        tf_outside_args_size(e) > e->total_len - sizeof *e ||
        e->data_len > e->total_len - sizeof *e - tf_outside_args_size(e))
        return NULL;
    return e;
}

const struct tf_outside *tf_log_event(struct tf_log *log, uint64_t offset, struct tf_err *err)
{
    uint64_t end;
    size_t i = find(log, offset);
    if (i < log->n && offset < log->blocks[i].offset) {
        tf_err_set(
            err, TF_E_FORMAT,
            "the outside events of run %.8s in front of offset %llu were dropped, one of them is asked for",
            log->run->id, (unsigned long long)log->blocks[i].offset);
        return NULL;
    }
    if (i >= log->n || tf_log_load(log, log->blocks[i].offset, NULL, &end, err))
        return NULL;
    const struct tf_outside *e = event_at(log, i, offset);
    if (!e)
        tf_err_set(err, TF_E_FORMAT, "the outside events of run %.8s are damaged", log->run->id);
    return e;
}

size_t tf_log_last(struct tf_log *log, uint64_t offset, uint64_t frame, uint64_t *offsets, size_t max)
{
    size_t n = 0;
    for (size_t i = find(log, offset) + 1; n < max && i-- > 0;) {
        uint64_t end;
        size_t in_block = 0, older = n;
        if (i >= log->n || log->blocks[i].first_frame > frame)
            continue;
        if (tf_log_load(log, log->blocks[i].offset, NULL, &end, NULL))
            break;
        /* The last ones of the block, in a ring; then in front of those of later blocks. */
        uint64_t *ring = malloc(max * sizeof *ring);
        if (!ring)
            break;
        for (uint64_t at = log->blocks[i].offset;
             at < offset && at < log->blocks[i].offset + log->blocks[i].len;) {
            const struct tf_outside *e = event_at(log, i, at);
            if (!e || e->frame > frame)
                break;
            ring[in_block++ % max] = at;
            at += e->total_len;
        }
        size_t take = in_block < max - older ? in_block : max - older;
        memmove(offsets + take, offsets, older * sizeof *offsets);
        for (size_t k = 0; k < take; k++)
            offsets[k] = ring[(in_block - take + k) % max];
        n += take;
        free(ring);
    }
    return n;
}

uint64_t tf_log_events_before(struct tf_log *log, uint64_t offset)
{
    size_t i = find(log, offset);
    uint64_t end, events = 0;
    if (i >= log->n)
        return log->run->outside;
    if (tf_log_load(log, log->blocks[i].offset, NULL, &end, NULL))
        return log->blocks[i].first_seq - 1;
    for (uint64_t at = log->blocks[i].offset; at < offset; events++) {
        const struct tf_outside *e = (const struct tf_outside *)(log->map + at);
        if (e->total_len < sizeof *e)
            break;
        at += e->total_len;
    }
    return log->blocks[i].first_seq - 1 + events;
}
