/*
 * timeline.c: moving to a position (see timeline.h), and serving the needs of the process that goes there: it
 * asks for the outside events as it comes to them, and offers checkpoints.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include "checkpoint/memory.h"
#include "checkpoint/policy.h"
#include "replay/outside_log.h"
#include "replay/prepare.h"
#include "replay/timeline.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

struct tf_timeline {
    struct tf_store *store;
    const struct tf_run *run;
    struct tf_shared shared;
    struct tf_log *log;
    struct tf_cursor *cursor;
    uint64_t reach; /* the last event that replay can reach */
    char *why;      /* the barrier behind it, or NULL */

    struct tf_checkpoint checkpoints[TF_POLICY_MAX + 1];
    size_t n;

    struct tf_runner present;
    bool standing;

    /* The words of one block, for comparing. */
    uint64_t words_block;
    uint32_t words_n, *words;
    struct tf_message message;
};

static double now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* ---- opening ---- */

int tf_shared_create(struct tf_shared *shared, struct tf_err *err)
{
    *shared = (struct tf_shared){.ctl_fd = -1, .log_fd = -1};
    shared->ctl_fd = memfd_create("timefork-replay", MFD_CLOEXEC);
    shared->log_fd = memfd_create("timefork-log", MFD_CLOEXEC);
    if (shared->ctl_fd < 0 || shared->log_fd < 0 || ftruncate(shared->ctl_fd, (off_t)TF_CTL_SIZE) < 0 ||
        ftruncate(shared->log_fd, (off_t)TF_LOG_SIZE) < 0)
        goto fail;
    shared->ctl =
        mmap(NULL, TF_CTL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, shared->ctl_fd, 0);
    if (shared->ctl != MAP_FAILED)
        return 0;
    shared->ctl = NULL;
fail:;
    int code = tf_err_set(err, TF_E_IO, "cannot make memory for a replay: %s", strerror(errno));
    tf_shared_destroy(shared);
    return code;
}

void tf_shared_destroy(struct tf_shared *shared)
{
    if (shared->ctl)
        munmap(shared->ctl, TF_CTL_SIZE);
    if (shared->ctl_fd >= 0)
        close(shared->ctl_fd);
    if (shared->log_fd >= 0)
        close(shared->log_fd);
    *shared = (struct tf_shared){.ctl_fd = -1, .log_fd = -1};
}

/* Totals and digests, for the processes to check themselves against. */
static int fill_ctl(struct tf_timeline *t, struct tf_err *err)
{
    uint64_t *digests = NULL;
    size_t n = 0;
    struct tf_replay_ctl *ctl = t->shared.ctl;
    int r = tf_store_digests(t->store, t->run, &digests, &n, err);
    if (r)
        return r;
    if (sizeof *ctl + n * sizeof *digests > TF_CTL_SIZE) {
        free(digests);
        return tf_err_set(err, TF_E_FORMAT,
                          "the recording has more blocks (%zu) than this version can replay", n);
    }
    if (n) /* none in a run without frame events */
        memcpy(ctl->digests, digests, n * sizeof *digests);
    free(digests);
    ctl->blocks = n;
    ctl->frames = t->run->frames;
    ctl->outside_bytes = t->run->outside_bytes;
    ctl->layout_digest = t->run->layout_digest;
    ctl->pid = t->run->pid;
    __atomic_store_n(&ctl->complete, 1, __ATOMIC_RELEASE);
    return 0;
}

static int find_reach(struct tf_timeline *t, struct tf_err *err)
{
    struct tf_mark_row *marks = NULL;
    size_t n = 0;
    int r = tf_store_marks(t->store, t->run, &marks, &n, err);
    if (r)
        return r;
    t->reach = t->run->frames;
    for (size_t i = 0; i < n; i++)
        if (marks[i].kind == TF_MARK_BARRIER || marks[i].kind == TF_MARK_STOPPED) {
            t->reach = marks[i].frame;
            t->why = strdup(marks[i].text);
            break;
        }
    tf_marks_free(marks, n);
    return 0;
}

static int open_common(struct tf_store *store, const struct tf_run *run, const struct tf_shared *shared,
                       struct tf_timeline **out, struct tf_err *err)
{
    struct tf_timeline *t = calloc(1, sizeof *t);
    int r = TF_E_IO;
    *out = NULL;
    if (!t)
        return tf_err_set(err, TF_E_IO, "out of memory");
    t->store = store;
    t->run = run;
    t->shared = *shared;
    t->present = TF_RUNNER_NONE;
    t->words_block = UINT64_MAX;
    t->words = malloc(TF_BLOCK_FRAMES * sizeof *t->words);
    if (!t->words) {
        r = tf_err_set(err, TF_E_IO, "out of memory");
        goto fail;
    }
    if ((r = fill_ctl(t, err)) || (r = find_reach(t, err)) ||
        (r = tf_cursor_open(store, run, &t->cursor, err)) ||
        (r = tf_log_open(store, run, shared->log_fd, &t->log, err)))
        goto fail;
    *out = t;
    return 0;
fail:
    t->shared = (struct tf_shared){.ctl_fd = -1, .log_fd = -1}; /* still the caller's */
    tf_timeline_close(t);
    return r;
}

int tf_timeline_open(struct tf_store *store, const struct tf_run *run, struct tf_timeline **out,
                     struct tf_err *err)
{
    struct tf_shared shared;
    *out = NULL;
    if (!run->exe || !run->argv || !run->envp)
        return tf_err_set(err, TF_E_FORMAT, "run %.8s has no start: it cannot be replayed", run->id);
    int r = tf_prepare_check(store, run, err);
    if (r == 0)
        r = tf_shared_create(&shared, err);
    if (r)
        return r;
    r = open_common(store, run, &shared, out, err);
    if (r) {
        tf_shared_destroy(&shared);
        return r;
    }
    struct tf_timeline *t = *out;
    t->checkpoints[0] = (struct tf_checkpoint){.kind = TF_CHECKPOINT_START};
    r = tf_prepare_start(run, &t->shared, &t->checkpoints[0].runner, err);
    if (r) {
        tf_timeline_close(t);
        *out = NULL;
        return r;
    }
    t->n = 1;
    return 0;
}

int tf_timeline_adopt(struct tf_store *store, const struct tf_run *run, struct tf_shared *shared,
                      struct tf_checkpoint *checkpoints, size_t n, struct tf_timeline **out,
                      struct tf_err *err)
{
    struct tf_runner start;
    int r = open_common(store, run, shared, out, err);
    if (r)
        return r;
    struct tf_timeline *t = *out;
    *shared = (struct tf_shared){.ctl_fd = -1, .log_fd = -1};
    r = tf_prepare_start(run, &t->shared, &start, err);
    if (r) {
        tf_timeline_close(t);
        *out = NULL;
        return r;
    }
    t->checkpoints[t->n++] = (struct tf_checkpoint){.kind = TF_CHECKPOINT_START, .runner = start};
    for (size_t i = 0; i < n; i++) {
        if (t->n < TF_POLICY_MAX)
            t->checkpoints[t->n++] = checkpoints[i];
        else
            tf_runner_end(&checkpoints[i].runner);
        checkpoints[i].runner = TF_RUNNER_NONE;
    }
    return 0;
}

void tf_timeline_close(struct tf_timeline *t)
{
    if (!t)
        return;
    tf_runner_end(&t->present);
    for (size_t i = 0; i < t->n; i++)
        tf_runner_end(&t->checkpoints[i].runner);
    tf_cursor_close(t->cursor);
    tf_log_close(t->log);
    tf_shared_destroy(&t->shared);
    free(t->message.data);
    free(t->words);
    free(t->why);
    free(t);
}

uint64_t tf_timeline_reach(const struct tf_timeline *t, const char **why)
{
    if (why)
        *why = t->why;
    return t->reach;
}

struct tf_cursor *tf_timeline_cursor(struct tf_timeline *t)
{
    return t->cursor;
}

size_t tf_timeline_checkpoints(const struct tf_timeline *t)
{
    return t->n;
}

/* ---- checkpoints ---- */

/* A checkpoint whose process died (killed, out of memory) is dropped; its neighbour serves. */
static void drop_checkpoint(struct tf_timeline *t, size_t i)
{
    tf_runner_end(&t->checkpoints[i].runner);
    memmove(&t->checkpoints[i], &t->checkpoints[i + 1], (t->n - i - 1) * sizeof *t->checkpoints);
    t->n--;
}

static bool too_much_memory(const struct tf_timeline *t)
{
    pid_t pids[TF_POLICY_MAX + 1];
    for (size_t i = 0; i < t->n; i++)
        pids[i] = t->checkpoints[i].runner.pid;
    return tf_memory_exceeds(pids, t->n, tf_memory_cap());
}

static void add_checkpoint(struct tf_timeline *t, const struct tf_place *place, int socket, uint64_t present)
{
    size_t at = t->n;
    struct tf_runner runner = {.socket = socket, .pid = (pid_t)place->pid};
    while (at > 0 && t->checkpoints[at - 1].frame > place->frame)
        at--;
    if (at > 0 && t->checkpoints[at - 1].frame == place->frame &&
        t->checkpoints[at - 1].kind == TF_CHECKPOINT_FORK) {
        tf_runner_end(&runner); /* there is one already */
        return;
    }
    memmove(&t->checkpoints[at + 1], &t->checkpoints[at], (t->n - at) * sizeof *t->checkpoints);
    t->checkpoints[at] = (struct tf_checkpoint){
        .frame = place->frame, .offset = place->offset, .kind = TF_CHECKPOINT_FORK, .runner = runner};
    t->n++;
    while (t->n > TF_POLICY_MAX || (t->n > 2 && too_much_memory(t))) {
        uint64_t frames[TF_POLICY_MAX + 1];
        for (size_t i = 0; i < t->n; i++)
            frames[i] = t->checkpoints[i].frame;
        drop_checkpoint(t, tf_policy_victim(frames, t->n, present, t->run->frames));
    }
}

static const uint32_t *block_words(struct tf_timeline *t, uint64_t block, uint32_t *n, struct tf_err *err)
{
    if (t->words_block != block) {
        t->words_block = UINT64_MAX;
        if (tf_store_block_words(t->store, t->run, block, t->words, &t->words_n, err))
            return NULL;
        t->words_block = block;
    }
    *n = t->words_n;
    return t->words;
}

/* ---- running ---- */

static const char *word_name(struct tf_timeline *t, uint32_t word, char *buf, size_t size)
{
    static const char *const names[] = {"call", "return", "yield", "resume", "unwind"};
    struct tf_codes codes;
    uint32_t tag = TF_TAG(word), id = TF_LOW(word);
    snprintf(buf, size, "%s", tag <= TF_UNWIND ? names[tag] : "?");
    if ((tag == TF_CALL || tag == TF_RESUME) && tf_store_codes(t->store, t->run, &codes, NULL) == 0) {
        if (id < codes.n && codes.codes[id].qualname)
            snprintf(buf, size, "%s of %s (%s:%u)", names[tag], codes.codes[id].qualname,
                     codes.codes[id].file, codes.codes[id].first_line);
        tf_codes_free(&codes);
    }
    return buf;
}

/* The words of a block, as executed now, are not those that were recorded: says where they part. */
static int block_differs(struct tf_timeline *t, uint64_t block, const uint32_t *did, uint32_t n,
                         uint64_t *frame, struct tf_err *err)
{
    uint32_t has_n, i = 0;
    char a[600], b[600];
    const uint32_t *has = block_words(t, block, &has_n, err);
    if (!has)
        return err->code;
    while (i < n && i < has_n && did[i] == has[i])
        i++;
    *frame = block * TF_BLOCK_FRAMES + i + 1;
    return tf_err_set(err, TF_E_DIVERGENCE, "frame event %llu: the program did %s, the recording has %s",
                      (unsigned long long)*frame, i < n ? word_name(t, did[i], a, sizeof a) : "nothing",
                      i < has_n ? word_name(t, has[i], b, sizeof b) : "nothing");
}

/*
 * Lets a copy of a checkpoint run until it stops, and serves it on the way. On TF_E_DIVERGENCE, *at says
 * where (if at is given). A barrier is TF_E_NOTFOUND with *at.
 */
static int run_until_stop(struct tf_timeline *t, struct tf_runner *runner, uint64_t present,
                          struct tf_stop_rep *rep, struct tf_place *at, struct tf_err *err)
{
    struct tf_message *m = &t->message;
    struct tf_place place;
    for (;;) {
        int r = tf_runner_recv(runner, m, -1, err);
        if (r)
            return r;
        switch (m->op) {
        case TF_REP_STOPPED:
            if (m->len != sizeof *rep)
                return tf_err_set(err, TF_E_REPLAY, "the replaying process answered nonsense");
            memcpy(rep, m->data, sizeof *rep);
            return 0;
        case TF_REP_NEED: {
            uint64_t offset, end;
            memcpy(&offset, m->data, sizeof offset);
            if ((r = tf_log_load(t->log, offset, &end, err)))
                return r;
            if ((r = tf_runner_send(runner, TF_REQ_LOADED, &end, sizeof end, NULL, 0, err)))
                return r;
            break;
        }
        case TF_REP_SNAPSHOT:
            memcpy(&place, m->data, sizeof place);
            if (m->fd >= 0)
                add_checkpoint(t, &place, m->fd, present);
            break;
        case TF_REP_BLOCK: {
            uint64_t block, frame;
            memcpy(&block, m->data, sizeof block);
            r = block_differs(t, block, (const uint32_t *)(m->data + 8), (uint32_t)((m->len - 8) / 4), &frame,
                              err);
            if (at)
                *at = (struct tf_place){.frame = frame};
            return r;
        }
        case TF_REP_DIVERGENCE:
        case TF_REP_BARRIER:
            memcpy(&place, m->data, sizeof place);
            if (at)
                *at = place;
            return tf_err_set(err, m->op == TF_REP_BARRIER ? TF_E_NOTFOUND : TF_E_DIVERGENCE,
                              "after frame event %llu: %.*s", (unsigned long long)place.frame,
                              (int)(m->len - sizeof place), (const char *)m->data + sizeof place);
        default:
            return tf_err_set(err, TF_E_REPLAY, "the replaying process sent message %u, which nobody knows",
                              m->op);
        }
    }
}

/* Nanoseconds between checkpoints on a run from `from` to `to`, in TSC ticks. */
static uint64_t snapshot_ticks(const struct tf_timeline *t, uint64_t from, uint64_t to)
{
    uint64_t frames = t->run->frames ? t->run->frames : 1;
    uint64_t span = to > from ? to - from : 0;
    uint64_t expected = (uint64_t)((double)t->run->duration_ns * (double)span / (double)frames);
    return (uint64_t)((double)tf_policy_spacing_ns(expected, TF_POLICY_MAX) * tf_prepare_ticks_per_ns());
}

/* Copies the best checkpoint for an event and starts it. */
static int start_run(struct tf_timeline *t, const struct tf_stop_req *stop, uint64_t present,
                     struct tf_runner *runner, struct tf_checkpoint *from, struct tf_err *err)
{
    for (;;) {
        struct tf_place place;
        size_t i = t->n - 1;
        while (i > 0 && t->checkpoints[i].frame > stop->frame)
            i--;
        *from = t->checkpoints[i];
        int r = tf_runner_fork(&from->runner, runner, &place, err);
        if (r && i > 0) {
            drop_checkpoint(t, i);
            continue;
        }
        if (r)
            return tf_err_prefix(err, "the replay cannot be started: ");
        struct tf_run_req req = {.stop = *stop, .snapshot_ticks = snapshot_ticks(t, from->frame, present)};
        const uint32_t *prefix = NULL;
        if (from->recorded) {
            uint32_t n;
            req.place_known = 1;
            req.frame = from->frame;
            req.offset = from->offset;
            req.prefix_words = (uint32_t)(from->frame % TF_BLOCK_FRAMES);
            if (req.prefix_words && !(prefix = block_words(t, from->frame / TF_BLOCK_FRAMES, &n, err))) {
                tf_runner_end(runner);
                return err->code;
            }
        }
        r = tf_runner_send(runner, TF_REQ_RUN, &req, sizeof req, prefix, req.prefix_words * sizeof *prefix,
                           err);
        if (r)
            tf_runner_end(runner);
        return r;
    }
}

/* The events since the last whole block must be the recorded ones, too. */
static int check_prefix(struct tf_timeline *t, const struct tf_stop_rep *rep, struct tf_err *err)
{
    uint32_t n;
    if (!rep->words)
        return 0;
    const uint32_t *words = block_words(t, (rep->frame - 1) / TF_BLOCK_FRAMES, &n, err);
    if (!words)
        return err->code;
    if (rep->words > n || XXH3_64bits(words, rep->words * sizeof *words) != rep->digest)
        return tf_err_set(err, TF_E_DIVERGENCE,
                          "among the last %u frame events before %llu, one is not the recorded one "
                          "('timefork verify' finds it)",
                          rep->words, (unsigned long long)rep->frame);
    return 0;
}

static int out_of_reach(const struct tf_timeline *t, uint64_t frame, struct tf_err *err)
{
    if (frame > t->run->frames)
        return tf_err_set(err, TF_E_USAGE, "there is no frame event %llu: the run has %llu (1 to %llu)",
                          (unsigned long long)frame, (unsigned long long)t->run->frames,
                          (unsigned long long)t->run->frames);
    return tf_err_set(err, TF_E_USAGE,
                      "frame event %llu cannot be replayed: after frame event %llu there is something that "
                      "replay does not cover:\n  %s\n"
                      "Frame events 1 to %llu can be visited.",
                      (unsigned long long)frame, (unsigned long long)t->reach, t->why,
                      (unsigned long long)t->reach);
}

/* The next frame event, or the end, came before so many lines. */
static int too_many_lines(const struct tf_timeline *t, struct tf_position position, uint64_t lines,
                          struct tf_err *err)
{
    char ran[64], where[96];
    if (lines)
        snprintf(ran, sizeof ran, "only %llu line%s", (unsigned long long)lines, lines == 1 ? "" : "s");
    else
        snprintf(ran, sizeof ran, "no line");
    if (position.frame == t->run->frames)
        snprintf(where, sizeof where, "after frame event %llu, the last", (unsigned long long)position.frame);
    else
        snprintf(where, sizeof where, "between frame events %llu and %llu",
                 (unsigned long long)position.frame, (unsigned long long)position.frame + 1);
    return tf_err_set(err, TF_E_USAGE, "there is no position %llu+%llu: %s of a function ran %s",
                      (unsigned long long)position.frame, (unsigned long long)position.lines, ran, where);
}

int tf_timeline_goto(struct tf_timeline *t, struct tf_position position, struct tf_stop *stop,
                     struct tf_err *err)
{
    double began = now_ms();
    struct tf_frame event;
    struct tf_runner runner;
    struct tf_checkpoint from;
    struct tf_stop_rep rep;
    struct tf_place at;

    if (position.frame < 1)
        return tf_err_set(err, TF_E_USAGE, "frame events are numbered from 1");
    if (position.frame > t->reach)
        return out_of_reach(t, position.frame, err);
    tf_cursor_filter(t->cursor, NULL, 0);
    int r = tf_cursor_seek(t->cursor, position.frame, err);
    if (r == 0)
        r = tf_cursor_next(t->cursor, &event, err);
    if (r < 0)
        return r;
    if (r == 0 || event.frame != position.frame)
        return tf_err_set(err, TF_E_FORMAT, "frame event %llu is missing in the recording",
                          (unsigned long long)position.frame);

    struct tf_stop_req req = {.frame = position.frame, .lines = position.lines, .kind = TF_STOP_LINE};
    if (position.lines == 0 && event.event != TF_CALL && event.event != TF_RESUME)
        req = (struct tf_stop_req){
            .frame = position.frame - 1, .kind = TF_STOP_EXIT, .exit_event = (uint32_t)event.event};
    if ((r = start_run(t, &req, position.frame, &runner, &from, err)))
        return r;
    r = run_until_stop(t, &runner, position.frame, &rep, &at, err);
    if (r == 0)
        r = check_prefix(t, &rep, err);
    if (r == 0 && rep.why != TF_STOPPED_AT && position.lines)
        r = too_many_lines(t, position, rep.lines, err);
    else if (r == 0 && rep.why != TF_STOPPED_AT)
        r = tf_err_set(err, TF_E_REPLAY, "the replay went past frame event %llu without stopping there",
                       (unsigned long long)position.frame);
    if (r == 0 && rep.frame != req.frame)
        r = tf_err_set(err, TF_E_REPLAY, "the replay stopped after frame event %llu instead of %llu",
                       (unsigned long long)rep.frame, (unsigned long long)req.frame);
    if (r) {
        tf_runner_end(&runner);
        return r;
    }
    tf_runner_end(&t->present);
    t->present = runner;
    t->standing = true;
    *stop = (struct tf_stop){
        .position = position,
        .frame = event,
        .served_kind = from.kind,
        .served_frame = from.frame,
        .replayed = rep.frame - from.frame,
        .elapsed_ms = now_ms() - began,
    };
    return 0;
}

int tf_timeline_inspect(struct tf_timeline *t, enum tf_inspect what, const char *text, uint32_t from,
                        int timeout_ms, tf_item_fn *fn, void *ctx, struct tf_err *err)
{
    struct tf_runner copy;
    struct tf_place place;
    struct tf_inspect_req req = {.what = what, .from = from};
    if (!t->standing)
        return tf_err_set(err, TF_E_USAGE, "there is no present position yet");
    int r = tf_runner_fork(&t->present, &copy, &place, err);
    if (r)
        return r;
    r = tf_runner_send(&copy, TF_REQ_INSPECT, &req, sizeof req, text, text ? strlen(text) : 0, err);
    while (r == 0) {
        struct tf_message *m = &t->message;
        uint32_t type;
        r = tf_runner_recv(&copy, m, tf_now_ms() + timeout_ms, err);
        if (r)
            break;
        if (m->op != TF_REP_ITEM || m->len < 4) {
            r = tf_err_set(err, TF_E_REPLAY, "a question was answered with message %u", m->op);
            break;
        }
        memcpy(&type, m->data, 4);
        if (type == TF_ITEM_DONE)
            break;
        r = fn(ctx, (enum tf_item)type, m->data + 4, m->len - 4);
    }
    tf_runner_end(&copy);
    return r;
}

static int add_place(void *ctx, enum tf_item type, const uint8_t *data, size_t len)
{
    struct tf_err *err = ctx;
    uint32_t line;
    size_t used = strlen(err->msg);
    if (type == TF_ITEM_FRAME && len > 4) {
        memcpy(&line, data, 4);
        const char *file = (const char *)data + 4, *name = file + strnlen(file, len - 4) + 1;
        if ((const uint8_t *)name < data + len)
            snprintf(err->msg + used, sizeof err->msg - used, "\n%s:%u in %s", file, line, name);
    }
    return 0;
}

/* The functions that the recording has on the stack after an event, for want of their lines. */
static void recorded_stack(struct tf_timeline *t, uint64_t frame, struct tf_err *err)
{
    struct tf_frame *stack = NULL;
    struct tf_codes codes = {0};
    struct tf_err ignored;
    size_t n = 0;
    tf_cursor_filter(t->cursor, NULL, 0);
    if (tf_cursor_stack(t->cursor, frame, &stack, &n, &ignored) ||
        tf_store_codes(t->store, t->run, &codes, &ignored))
        n = 0;
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(err->msg);
        if (stack[i].code > 0 && stack[i].code < codes.n)
            snprintf(err->msg + used, sizeof err->msg - used, "\n%s in %s", codes.codes[stack[i].code].file,
                     codes.codes[stack[i].code].qualname);
    }
    free(stack);
    tf_codes_free(&codes);
}

/*
 * A block of frame events differed. Goes to the event before the first one that does, and adds the Python
 * stack there. What made the program differ may do so earlier this time; after a few tries, only the
 * functions are named.
 */
static void locate(struct tf_timeline *t, uint64_t frame, struct tf_err *err)
{
    struct tf_stop_req req = {.frame = frame - 1, .kind = TF_STOP_EVENT};
    struct tf_runner runner, present = t->present;
    struct tf_checkpoint from;
    struct tf_stop_rep rep;
    struct tf_err ignored;
    size_t before = strlen(err->msg);
    bool standing = t->standing;

    if (frame < 2)
        return;
    for (int tries = 0; tries < 3 && strlen(err->msg) == before; tries++) {
        if (start_run(t, &req, frame, &runner, &from, &ignored))
            break;
        if (run_until_stop(t, &runner, frame, &rep, NULL, &ignored) == 0 &&
            check_prefix(t, &rep, &ignored) == 0) {
            t->present = runner;
            t->standing = true;
            tf_timeline_inspect(t, TF_INSPECT_STACK, NULL, 0, 5000, add_place, err, &ignored);
            t->present = present;
            t->standing = standing;
        }
        tf_runner_end(&runner);
    }
    if (strlen(err->msg) == before)
        recorded_stack(t, frame - 1, err);
}

int tf_timeline_verify(struct tf_timeline *t, struct tf_verified *out, struct tf_err *err)
{
    double began = now_ms();
    struct tf_runner runner;
    struct tf_stop_rep rep = {0};
    /* A run that was cut off is compared up to its last event: what comes then would end the replay, too, or
     * never end. */
    bool killed = t->run->exit_signal != 0 || t->run->state != TF_RUN_COMPLETE;
    struct tf_stop_req req = {.frame = UINT64_MAX, .kind = TF_STOP_EVENT};

    *out = (struct tf_verified){0};
    if (killed && !t->why)
        req.kind = TF_STOP_ALL;
    struct tf_checkpoint *first = &t->checkpoints[0];
    struct tf_place place;
    int r = tf_runner_fork(&first->runner, &runner, &place, err);
    if (r)
        return r;
    struct tf_run_req run = {.stop = req};
    if ((r = tf_runner_send(&runner, TF_REQ_RUN, &run, sizeof run, NULL, 0, err)) == 0)
        r = run_until_stop(t, &runner, t->run->frames, &rep, &out->at, err);
    tf_runner_end(&runner);
    out->elapsed_ms = now_ms() - began;
    if (r == TF_E_NOTFOUND && t->why) {
        out->barrier = true;
        out->frames = out->at.frame;
        out->outside = tf_log_events_before(t->log, out->at.offset);
        snprintf(out->text, sizeof out->text, "%s", err->msg);
        if (out->at.frame != t->reach)
            return tf_err_set(err, TF_E_DIVERGENCE,
                              "the replay came to '%s' after frame event %llu, the recording after %llu",
                              t->why, (unsigned long long)out->at.frame, (unsigned long long)t->reach);
        return 0;
    }
    if (r == TF_E_DIVERGENCE && out->at.pid == 0)
        locate(t, out->at.frame, err);
    if (r) {
        snprintf(out->text, sizeof out->text, "%s", err->msg);
        return r;
    }
    out->frames = rep.frame;
    out->outside = tf_log_events_before(t->log, rep.offset);
    out->at = (struct tf_place){.frame = rep.frame, .offset = rep.offset};
    if ((r = check_prefix(t, &rep, err)))
        return r;
    if (rep.frame != t->run->frames)
        return tf_err_set(err, TF_E_DIVERGENCE,
                          "the replay ended after %llu frame events, the recording has %llu",
                          (unsigned long long)rep.frame, (unsigned long long)t->run->frames);
    if (rep.offset != t->run->outside_bytes)
        return tf_err_set(err, TF_E_DIVERGENCE,
                          "the replay ended after %llu outside calls, the recording has %llu",
                          (unsigned long long)out->outside, (unsigned long long)t->run->outside);
    return 0;
}
