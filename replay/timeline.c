/*
 * timeline.c: moving to a position (see timeline.h): opening a run, going somewhere, asking.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "replay/prepare.h"
#include "replay/timeline_private.h"

double tf_timeline_ms(void)
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
    ctl->frames = t->run->light == TF_LIGHT_ONLY ? UINT64_MAX : t->run->frames; /* not known yet */
    ctl->outside_bytes = t->run->outside_bytes;
    ctl->layout_digest = t->run->layout_digest;
    /* What it is told before it is forked; a replay learns the rest from the forks that it comes to. */
    if ((r = tf_store_pid(t->store, t->run, t->run->base.offset, &ctl->pid, err)))
        return r;
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
        if (marks[i].kind == TF_MARK_BARRIER || marks[i].kind == TF_MARK_LOOP ||
            marks[i].kind == TF_MARK_STOPPED) {
            t->reach = marks[i].frame;
            t->why = strdup(marks[i].text);
            break;
        } else if (marks[i].kind == TF_MARK_EXIT || marks[i].kind == TF_MARK_EXEC) {
            t->ended = true;
        }
    tf_marks_free(marks, n);
    return 0;
}

static int open_common(struct tf_store *store, const struct tf_run *run, const struct tf_shared *shared,
                       const struct tf_timeline_opts *opts, struct tf_timeline **out, struct tf_err *err)
{
    struct tf_timeline *t = calloc(1, sizeof *t);
    int r = TF_E_IO;
    *out = NULL;
    if (!t)
        return tf_err_set(err, TF_E_IO, "out of memory");
    t->store = store;
    t->run = run;
    t->shared = *shared;
    struct tf_timeline_opts usual = tf_timeline_opts_default();
    tf_checkpoints_init(&t->set, opts ? &opts->limits : &usual.limits);
    t->bare = opts && opts->bare;
    t->notice = opts ? opts->notice : NULL;
    t->aheads.jobs = opts && opts->jobs ? opts->jobs : tf_ahead_processors();
    t->cost.budget = opts ? opts->budget : usual.budget;
    t->present = TF_RUNNER_NONE;
    t->words_block = UINT64_MAX;
    t->report_calls = TF_DIVERGENCE_CALLS;
    t->words = malloc(TF_BLOCK_FRAMES * sizeof *t->words);
    if (!t->words) {
        r = tf_err_set(err, TF_E_IO, "out of memory");
        goto fail;
    }
    if ((r = fill_ctl(t, err)) || (r = find_reach(t, err)) ||
        (r = tf_store_threads(store, run, &t->threads, &t->threads_n, err)) ||
        (r = tf_cursor_open(store, run, &t->cursor, err)) ||
        (r = tf_log_open(store, run, shared->log_fd, TF_LOG_MEMORY, &t->log, err)) ||
        (r = tf_timeline_add_images(t, err)))
        goto fail;
    *out = t;
    return 0;
fail:
    t->shared = (struct tf_shared){.ctl_fd = -1, .log_fd = -1}; /* still the caller's */
    tf_timeline_close(t);
    return r;
}

/* The first of its checkpoints: where Python begins. A run that has lost its start needs one from the
 * recording that stands at its base. */
static int add_start(struct tf_timeline *t, struct tf_err *err)
{
    struct tf_checkpoint start = {.kind = TF_CHECKPOINT_START, .made_ms = tf_now_ms()};
    const struct tf_checkpoint_view view = {0};
    if (tf_run_has_base(t->run))
        return tf_timeline_at_base(t, err);
    int r = tf_prepare_start(t->run, &t->shared, !t->bare, &start.runner, &t->filter_error, err);
    if (r == 0 && !tf_checkpoints_add(&t->set, &start, 0, &view))
        r = tf_err_set(err, TF_E_IO, "out of memory");
    return r;
}

int tf_timeline_open(struct tf_store *store, const struct tf_run *run, const struct tf_timeline_opts *opts,
                     struct tf_timeline **out, struct tf_err *err)
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
    r = open_common(store, run, &shared, opts, out, err);
    if (r) {
        tf_shared_destroy(&shared);
        return r;
    }
    if ((r = add_start(*out, err))) {
        tf_timeline_close(*out);
        *out = NULL;
    }
    return r;
}

int tf_timeline_adopt(struct tf_store *store, const struct tf_run *run, struct tf_shared *shared,
                      struct tf_checkpoints *checkpoints, const struct tf_timeline_opts *opts,
                      struct tf_timeline **out, struct tf_err *err)
{
    int r = open_common(store, run, shared, opts, out, err);
    if (r)
        return r;
    struct tf_timeline *t = *out;
    struct tf_checkpoint_limits limits = t->set.limits;
    *shared = (struct tf_shared){.ctl_fd = -1, .log_fd = -1};
    tf_checkpoints_move(&t->set, checkpoints);
    t->set.limits = limits;
    if ((r = add_start(t, err))) {
        tf_timeline_close(t);
        *out = NULL;
    }
    return r;
}

void tf_timeline_add_kept(struct tf_timeline *t, const struct tf_kept_checkpoint *v, size_t n, pid_t keeper)
{
    struct tf_checkpoint_view view = {.present_frame = t->run->frames};
    for (size_t i = 0; i < n; i++) {
        struct tf_checkpoint c = {.frame = v[i].frame,
                                  .offset = v[i].offset,
                                  .kind = TF_CHECKPOINT_FORK,
                                  .runner = {.socket = v[i].socket, .keeper = keeper},
                                  .recorded = true,
                                  .kept = true,
                                  .work_ns = v[i].work_ns,
                                  .made_ms = v[i].made_ms};
        view.total_ns = c.work_ns;
        tf_checkpoints_add(&t->set, &c, 0, &view);
    }
}

void tf_timeline_close(struct tf_timeline *t)
{
    if (!t)
        return;
    tf_runner_end(&t->present);
    tf_checkpoints_clear(&t->set);
    tf_timeline_end_keepers(t);
    tf_images_free(t->images, t->images_n);
    tf_criu_clear(&t->criu);
    tf_cursor_close(t->cursor);
    tf_log_close(t->log);
    tf_shared_destroy(&t->shared);
    tf_codes_free(&t->codes);
    tf_threads_free(t->threads, t->threads_n);
    tf_divergence_free(t->divergence);
    free(t->message.data);
    free(t->aheads.message.data);
    free(t->words);
    free(t->why);
    free(t);
}

uint64_t tf_timeline_first(const struct tf_timeline *t)
{
    return tf_run_first(t->run);
}

uint64_t tf_timeline_reach(const struct tf_timeline *t, const char **why)
{
    if (why)
        *why = t->why;
    return t->reach;
}

const char *tf_timeline_unfiltered(const struct tf_timeline *t)
{
    return t->filter_error ? strerror(t->filter_error) : NULL;
}

const struct tf_codes *tf_timeline_codes(struct tf_timeline *t, struct tf_err *err)
{
    if (!t->codes.codes && tf_store_codes(t->store, t->run, &t->codes, err))
        return NULL;
    return &t->codes;
}

struct tf_cursor *tf_timeline_cursor(struct tf_timeline *t)
{
    return t->cursor;
}

/* ---- moving ---- */

int tf_out_of_reach(const struct tf_timeline *t, uint64_t frame, struct tf_err *err)
{
    if (frame > t->run->frames)
        return tf_err_set(err, TF_E_USAGE, "there is no frame event %llu: the run has %llu (%llu to %llu)",
                          (unsigned long long)frame,
                          (unsigned long long)(t->run->frames - t->run->base.frame),
                          (unsigned long long)tf_timeline_first(t), (unsigned long long)t->run->frames);
    return tf_err_set(err, TF_E_USAGE,
                      "frame event %llu cannot be replayed: after frame event %llu there is something that "
                      "replay does not cover:\n  %s\n"
                      "Frame events %llu to %llu can be visited.",
                      (unsigned long long)frame, (unsigned long long)t->reach, t->why,
                      (unsigned long long)tf_timeline_first(t), (unsigned long long)t->reach);
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

void tf_timeline_attend(struct tf_timeline *t, void (*progress)(void *ctx, double done), void *ctx,
                        const volatile bool *cancel)
{
    t->progress = progress;
    t->progress_ctx = ctx;
    t->cancel = cancel;
}

/* Lets a copy of the nearest checkpoint run to where a stop was asked for, and checks what it says. */
static int run_once(struct tf_timeline *t, const struct tf_stop_req *req, uint64_t frame,
                    struct tf_runner *runner, struct tf_checkpoint *from, struct tf_stop_rep *rep,
                    struct tf_err *err)
{
    struct tf_place at;
    int r = tf_run_start(t, req, frame, runner, from, err);
    if (r)
        return r;
    t->progress_from = from->frame;
    t->progress_to = frame;
    r = tf_run_until_stop(t, runner, rep, &at, err);
    if (r == 0)
        r = tf_run_check_prefix(t, runner, rep, err);
    uint64_t last = req->frame + (req->kind == TF_STOP_EXIT ? req->lines : 0);
    if (r == 0 && rep->why == TF_STOPPED_AT && (rep->frame < req->frame || rep->frame > last))
        r = tf_err_set(err, TF_E_REPLAY, "the replay stopped after frame event %llu instead of %llu",
                       (unsigned long long)rep->frame, (unsigned long long)req->frame);
    if (r)
        tf_runner_end(runner);
    return r;
}

/* As run_once(). If the checkpoint has died with its copy (its keeper was ended), another one serves. */
int tf_run_to(struct tf_timeline *t, const struct tf_stop_req *req, uint64_t frame, struct tf_runner *runner,
              struct tf_checkpoint *from, struct tf_stop_rep *rep, struct tf_err *err)
{
    int r;
    do
        r = run_once(t, req, frame, runner, from, rep, err);
    while (r == TF_E_REPLAY && tf_timeline_drop_gone(t, from));
    return r;
}

static int event_at(struct tf_timeline *t, uint64_t frame, struct tf_frame *event, struct tf_err *err)
{
    tf_cursor_filter(t->cursor, NULL, 0);
    int r = tf_cursor_seek(t->cursor, frame, err);
    if (r == 0)
        r = tf_cursor_next(t->cursor, event, err);
    if (r < 0)
        return r;
    if (r == 0 || event->frame != frame)
        return tf_err_set(err, TF_E_FORMAT, "frame event %llu is missing in the recording",
                          (unsigned long long)frame);
    return 0;
}

#define OTHERS_MAX 4096 /* events of other threads that are looked through for one of this one */

/*
 * A function that leaves drops its variables first, and that may run Python code (__del__): then it was about
 * to leave, its variables alive, not after the event before its exit, but before the first of those calls.
 * And a trace function may be called while it leaves: who is told of the exit then is who asked before that.
 * Which calls were made like that the events do not tell. *frame is the event after which the exit was looked
 * for in vain: makes it the one before the call that ended there. False: there was none.
 */
static bool before_last_call(struct tf_timeline *t, const struct tf_frame *exit, uint64_t *frame,
                             struct tf_err *err)
{
    struct tf_frame last;
    int others = 0;
    do { /* what other threads did meanwhile does not count */
        if (*frame <= exit->entry || event_at(t, *frame, &last, err))
            return false;
        --*frame;
    } while ((last.thread != exit->thread || last.event == TF_SWITCH) && ++others < OTHERS_MAX);
    if (last.thread != exit->thread || TF_IS_ENTRY(TF_WORD(last.event, 0)) || last.depth != exit->depth + 1 ||
        last.entry <= exit->entry)
        return false;
    *frame = last.entry - 1;
    return true;
}

#define FAR_NS 10e6 /* a place that takes so long to go to gets a checkpoint */
/* That is left so many events in front of the place: who stands somewhere goes back in small steps. But not
 * so many that to execute them takes this long. */
#define BEFORE_EVENTS 1024u
#define BEFORE_NS 4000000u

/* *leave: where the checkpoint of a place is to be left. */
static int place_to_leave(struct tf_timeline *t, uint64_t frame, uint64_t *leave, struct tf_err *err)
{
    const struct tf_checkpoint *c = tf_checkpoints_nearest(&t->set, frame);
    uint64_t behind = c->frame > tf_timeline_first(t) ? c->frame : tf_timeline_first(t);
    struct tf_frame there, before;
    *leave = frame;
    if (frame <= behind + BEFORE_EVENTS)
        return 0;
    int r = event_at(t, frame, &there, err);
    for (uint64_t events = BEFORE_EVENTS; r == 0 && events && *leave == frame; events /= 8) {
        r = event_at(t, frame - events, &before, err);
        if (r == 0 && there.time_ns - before.time_ns <= BEFORE_NS)
            *leave = frame - events;
    }
    return r;
}

#define DROPPED_MAX 64 /* calls by variables that a function dropped, that are gone back over */

/* Its checkpoint is one that is used again. */
static void visit(struct tf_timeline *t, uint64_t frame)
{
    const struct tf_checkpoint *c = tf_checkpoints_nearest(&t->set, frame);
    if (c && c->frame + BEFORE_EVENTS >= frame)
        tf_checkpoints_visit(&t->set, c->frame);
}

int tf_timeline_goto(struct tf_timeline *t, struct tf_position position, struct tf_stop *stop,
                     struct tf_err *err)
{
    double began = tf_timeline_ms();
    struct tf_frame event;
    struct tf_runner runner;
    struct tf_checkpoint from, start;
    struct tf_stop_rep rep;

    if (position.frame < 1)
        return tf_err_set(err, TF_E_USAGE, "frame events are numbered from 1");
    if (position.frame < tf_timeline_first(t))
        return tf_err_set(
            err, TF_E_USAGE,
            "there is no frame event %llu any more: the oldest part of the run was dropped, it begins "
            "at frame event %llu",
            (unsigned long long)position.frame, (unsigned long long)tf_timeline_first(t));
    if (position.frame > t->reach)
        return tf_out_of_reach(t, position.frame, err);
    int r = event_at(t, position.frame, &event, err);
    if (r)
        return r;

    struct tf_stop_req req = {.frame = position.frame, .lines = position.lines, .kind = TF_STOP_LINE};
    if (position.lines == 0 && tf_is_exit(event.event))
        req = (struct tf_stop_req){
            .frame = position.frame - 1, .kind = TF_STOP_EXIT, .exit_event = (uint32_t)event.event};
    uint64_t leave = 0;
    if (tf_timeline_is_far(t, req.frame, FAR_NS) &&
        ((r = place_to_leave(t, req.frame, &leave, err)) ||
         (leave < req.frame && (r = tf_timeline_leave(t, leave, &start, err)))))
        return r;
    t->leave_at_stop = leave == req.frame;
    r = tf_run_to(t, &req, position.frame, &runner, &from, &rep, err);
    t->leave_at_stop = false;
    if (leave && leave < req.frame)
        from = start;
    for (int i = 0; r == 0 && rep.why != TF_STOPPED_AT && req.kind == TF_STOP_EXIT && i < DROPPED_MAX &&
                    before_last_call(t, &event, &req.frame, err);
         i++) {
        tf_runner_end(&runner);
        req.lines = position.frame - 1 - req.frame;
        r = tf_run_to(t, &req, req.frame, &runner, &from, &rep, err);
    }
    if (r)
        return r;
    if (rep.why != TF_STOPPED_AT && position.lines)
        r = too_many_lines(t, position, rep.lines, err);
    else if (rep.why != TF_STOPPED_AT)
        r = tf_err_set(err, TF_E_REPLAY, "the replay went past frame event %llu without stopping there",
                       (unsigned long long)position.frame);
    if (r) {
        tf_runner_end(&runner);
        return r;
    }
    tf_runner_end(&t->present);
    t->present = runner;
    t->standing = true;
    t->here = position;
    visit(t, req.frame);
    *stop = (struct tf_stop){
        .position = position,
        .frame = event,
        .served_kind = from.kind,
        .served_frame = from.frame,
        .replayed = rep.frame - from.frame,
        .offset = rep.offset,
        .elapsed_ms = tf_timeline_ms() - began,
    };
    return 0;
}

/* A copy of the present, to be asked. If the present has been killed, there is another one first. */
static int fork_present(struct tf_timeline *t, struct tf_runner *copy, struct tf_err *err)
{
    struct tf_place place;
    struct tf_stop stop;
    int r = tf_runner_fork(&t->present, copy, &place, err);
    if (r != TF_E_REPLAY || t->aside)
        return r;
    r = tf_timeline_goto(t, t->here, &stop, err);
    return r ? r : tf_runner_fork(&t->present, copy, &place, err);
}

int tf_timeline_inspect(struct tf_timeline *t, const struct tf_inspect_req *req, const char *text,
                        int timeout_ms, tf_item_fn *fn, void *ctx, struct tf_err *err)
{
    struct tf_runner copy;
    if (!t->standing)
        return tf_err_set(err, TF_E_USAGE, "there is no present position yet");
    int r = fork_present(t, &copy, err);
    if (r)
        return r;
    r = tf_runner_send(&copy, TF_REQ_INSPECT, req, sizeof *req, text, text ? strlen(text) : 0, err);
    while (r == 0) {
        struct tf_message *m = &t->message;
        uint32_t type;
        r = tf_runner_recv(&copy, m, tf_now_ms() + timeout_ms, err);
        if (r)
            break;
        if (m->op == TF_REP_DIVERGENCE) {
            char words[1000];
            tf_divergence_words(m->data, m->len, words, sizeof words);
            r = tf_err_set(err, TF_E_DIVERGENCE, "%s", words);
            break;
        }
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
