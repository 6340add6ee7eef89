/*
 * checkpoints.c: the checkpoints of a timeline: which one a run begins at, those that it leaves on its way
 * and how far apart, and what becomes of those that somebody has killed.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "replay/prepare.h"
#include "replay/timeline_private.h"

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct tf_timeline_opts tf_timeline_opts_default(void)
{
    return (struct tf_timeline_opts){.limits = tf_checkpoint_limits_default(), .budget = TF_POLICY_BUDGET};
}

/* A keeper ends when the last process in its namespace has. */
static void reap_keepers(struct tf_timeline *t)
{
    size_t left = 0;
    for (size_t i = 0; i < t->keepers_n; i++)
        if (waitpid(t->keepers[i], NULL, WNOHANG) == 0)
            t->keepers[left++] = t->keepers[i];
    t->keepers_n = left;
}

void tf_timeline_end_keepers(struct tf_timeline *t)
{
    for (size_t i = 0; i < t->keepers_n; i++) {
        if (waitpid(t->keepers[i], NULL, WNOHANG))
            continue;
        kill(t->keepers[i], SIGKILL);
        while (waitpid(t->keepers[i], NULL, 0) < 0 && errno == EINTR)
            ;
    }
    free(t->keepers);
    t->keepers = NULL;
    t->keepers_n = 0;
}

struct tf_checkpoints *tf_timeline_checkpoints(struct tf_timeline *t)
{
    reap_keepers(t);
    tf_checkpoints_reap(&t->set);
    return &t->set;
}

/* ---- where a run begins ---- */

#define DEATHS_MAX 3  /* of one checkpoint's processes, memory being scarce for example: no more then */
#define APART_NS 10e6 /* windows of a search that may be looked through side by side are no shorter */

/* What restoring takes: so much, and so much for each page. Measured on a quiet machine; what this one makes
 * of it is seen with the first that is restored. */
#define RESTORE_NS 60e6
#define RESTORE_PAGE_NS 4000.0

static const struct tf_image *image_of(const struct tf_timeline *t, const struct tf_checkpoint *c)
{
    for (size_t i = 0; i < t->images_n; i++)
        if (t->images[i].rowid == c->image)
            return &t->images[i];
    return NULL;
}

static double usual_restore_ns(const struct tf_image *image)
{
    return RESTORE_NS + RESTORE_PAGE_NS * (double)image->pages;
}

static double restore_ns(const struct tf_timeline *t, const struct tf_checkpoint *c)
{
    const struct tf_image *image = image_of(t, c);
    return image ? usual_restore_ns(image) * (t->restore_factor > 0 ? t->restore_factor : 1) : 0;
}

int tf_timeline_add_images(struct tf_timeline *t, struct tf_err *err)
{
    const struct tf_checkpoint_view view = {0};
    if (t->bare)
        return 0;
    int r = tf_images_list(t->store, t->run, &t->images, &t->images_n, err);
    for (size_t i = 0; r == 0 && i < t->images_n; i++) {
        struct tf_checkpoint c = {.frame = t->images[i].frame,
                                  .offset = t->images[i].offset,
                                  .kind = TF_CHECKPOINT_DURABLE,
                                  .runner = TF_RUNNER_NONE,
                                  .image = t->images[i].rowid,
                                  .recorded = true,
                                  .work_ns = tf_durable_work_ns(&t->images[i]),
                                  .made_ms = tf_now_ms()};
        if (!tf_checkpoints_add(&t->set, &c, 0, &view))
            r = tf_err_set(err, TF_E_IO, "out of memory");
    }
    return r;
}

int tf_timeline_at_base(struct tf_timeline *t, struct tf_err *err)
{
    const struct tf_base *base = &t->run->base;
    while (t->set.n && t->set.v[0].frame < base->frame) /* its past is not in the file any more */
        tf_checkpoints_forget(&t->set, 0);
    if (t->set.n && t->set.v[0].frame == base->frame && t->set.v[0].offset == base->offset)
        return 0;
    return tf_err_set(
        err, TF_E_REPLAY,
        "run %.8s begins at frame event %llu: its oldest part was dropped while it was recorded, and "
        "there is no durable checkpoint of that place%s. 'timefork query' shows what is left",
        t->run->id, (unsigned long long)tf_timeline_first(t), t->bare ? " that could be dumped again" : "");
}

static int restore(struct tf_timeline *t, struct tf_checkpoint *c, struct tf_err *err)
{
    const struct tf_image *image = image_of(t, c);
    uint64_t began = now_ns();
    if (!image)
        return tf_err_set(err, TF_E_NOTFOUND, "it has no image");
    if (!t->criu.argv) {
        int r = tf_criu_find(&t->criu, err);
        if (r)
            return r;
    }
    if (c->deaths >= DEATHS_MAX) {
        c->deaths = 0; /* who asks again for what only it can show gets it tried again */
        return tf_err_set(err, TF_E_REPLAY,
                          "%d processes that were restored from it were ended by something else", DEATHS_MAX);
    }
    pid_t *grown = realloc(t->keepers, (t->keepers_n + 1) * sizeof *grown);
    if (!grown)
        return tf_err_set(err, TF_E_IO, "out of memory");
    t->keepers = grown;
    int r = tf_durable_restore(&t->criu, t->store, image, &t->shared, &c->runner, err);
    if (r == 0) {
        t->keepers[t->keepers_n++] = c->runner.keeper;
        t->restore_factor = (double)(now_ns() - began) / usual_restore_ns(image);
    }
    return r;
}

/* A checkpoint without a process: gets one, if that can be done. */
static int revive(struct tf_timeline *t, struct tf_checkpoint *c, struct tf_err *err)
{
    if (c->kind == TF_CHECKPOINT_START)
        return tf_prepare_start(t->run, &t->shared, !t->bare, &c->runner, &t->filter_error, err);
    return restore(t, c, err);
}

/* It could not be restored: nor will it be next time. When a second one fails for the same reason (a file has
 * changed, memory is short), it is not tried with the others. */
static void give_up_durable(struct tf_timeline *t, const struct tf_checkpoint *c, const struct tf_err *why)
{
    char text[1400];
    bool again = strcmp(why->msg, t->restore_error) == 0, all = again || !t->criu.argv;
    snprintf(t->restore_error, sizeof t->restore_error, "%s", why->msg);
    snprintf(
        text, sizeof text,
        "the durable checkpoint after frame event %llu cannot be used: %s. The replay goes on without it, "
        "from an earlier point",
        (unsigned long long)c->frame, why->msg);
    if (t->notice && !again)
        t->notice(text);
    for (size_t i = t->set.n; i-- > 1;) /* the first stays: there is nothing before it */
        if (t->set.v[i].kind == TF_CHECKPOINT_DURABLE && (all || &t->set.v[i] == c) &&
            t->set.v[i].runner.socket < 0)
            tf_checkpoints_forget(&t->set, i);
}

/* What re-executing takes from one checkpoint to a later one. Waiting is not repeated, so CPU time counts,
 * where it is known. */
static double work_between(const struct tf_timeline *t, const struct tf_checkpoint *from,
                           const struct tf_checkpoint *to)
{
    double frames = t->run->frames ? (double)t->run->frames : 1;
    if (to->work_ns > from->work_ns && (from->work_ns || from->kind == TF_CHECKPOINT_START))
        return (double)(to->work_ns - from->work_ns);
    return (double)(to->frame - from->frame) * (double)t->run->duration_ns / frames;
}

bool tf_timeline_is_far(struct tf_timeline *t, uint64_t frame, double ns)
{
    const struct tf_checkpoint there = {.frame = frame}, *c = tf_checkpoints_nearest(&t->set, frame);
    return c && !t->bare && t->cost.budget > 0 && t->set.limits.max > 2 && work_between(t, c, &there) > ns;
}

/* The best one to begin at: the nearest, unless it would have to be restored first and re-executing from the
 * one before costs less than that. */
static struct tf_checkpoint *best(struct tf_timeline *t, uint64_t frame)
{
    struct tf_checkpoint *nearest = tf_checkpoints_nearest(&t->set, frame), *live;
    if (!nearest) /* in a run that has lost its start */
        nearest = t->set.v;
    live = nearest;
    while (live > t->set.v && live->runner.socket < 0)
        live--;
    bool lives = live->runner.socket >= 0 || live->kind == TF_CHECKPOINT_START;
    return nearest->kind == TF_CHECKPOINT_DURABLE && lives &&
                   work_between(t, live, nearest) < restore_ns(t, nearest)
               ? live
               : nearest;
}

uint64_t tf_timeline_next_start(struct tf_timeline *t, uint64_t frame)
{
    struct tf_checkpoint here = {.frame = frame};
    const struct tf_checkpoint *before = tf_checkpoints_nearest(&t->set, frame);
    if (before && before->work_ns) { /* where that is in CPU time is known of checkpoints only */
        here.work_ns = before->work_ns;
        here.frame = before->frame;
    }
    for (size_t i = 0; i < t->set.n; i++) {
        const struct tf_checkpoint *c = &t->set.v[i];
        if (c->frame > frame && best(t, c->frame)->frame == c->frame && work_between(t, &here, c) >= APART_NS)
            return c->frame;
    }
    return 0;
}

int tf_timeline_fork_start(struct tf_timeline *t, struct tf_runner *copy, struct tf_checkpoint *from,
                           struct tf_err *err)
{
    return tf_timeline_fork_nearest(t, 0, copy, from, err);
}

int tf_timeline_fork_nearest(struct tf_timeline *t, uint64_t frame, struct tf_runner *copy,
                             struct tf_checkpoint *from, struct tf_err *err)
{
    bool revived = false;
    reap_keepers(t);
    for (;;) {
        struct tf_place place;
        struct tf_checkpoint *c = best(t, frame);
        int r = 0;
        if (c->runner.socket < 0) {
            revived = c->kind == TF_CHECKPOINT_START;
            r = revive(t, c, err);
            if (r && c->kind == TF_CHECKPOINT_DURABLE && c == t->set.v)
                return tf_err_prefix(
                    err, "the replay cannot start at the first checkpoint, after frame event %llu: ",
                    (unsigned long long)c->frame);
            if (r && c->kind == TF_CHECKPOINT_DURABLE) {
                give_up_durable(t, c, err);
                continue;
            }
        }
        *from = *c;
        if (r == 0)
            r = tf_runner_fork(&c->runner, copy, &place, err);
        bool foreign = c->kind == TF_CHECKPOINT_FORK && c->recorded; /* has another's log, or none yet */
        if (r == 0 && foreign && (r = tf_runner_share(copy, t->shared.ctl_fd, t->shared.log_fd, err)))
            tf_runner_end(copy);
        if (r == 0)
            return 0;
        if (c->kind == TF_CHECKPOINT_START && revived)
            return tf_err_prefix(err, "the replay cannot be started: ");
        c->deaths++;
        tf_checkpoints_drop(&t->set,
                            (size_t)(c - t->set.v)); /* of the start, and of images: its process only */
        t->set.died++;
    }
}

#define DEATH_MS 100 /* processes that end together end within */

/* Has it gone from the set already? Another copy of it may have found it dead before. */
static bool was_dropped(const struct tf_timeline *t, const struct tf_checkpoint *from)
{
    for (size_t i = 0; i < t->set.n; i++)
        if (t->set.v[i].frame == from->frame && t->set.v[i].kind == from->kind &&
            t->set.v[i].runner.socket == from->runner.socket && t->set.v[i].runner.pid == from->runner.pid)
            return false;
    return true;
}

bool tf_timeline_drop_gone(struct tf_timeline *t, const struct tf_checkpoint *from)
{
    return from->kind != TF_CHECKPOINT_START &&
           (was_dropped(t, from) ||
            (tf_runner_is_gone(&from->runner, DEATH_MS) && tf_checkpoints_reap(&t->set) > 0));
}

/* ---- those that a run leaves on its way ---- */

/* How long the whole run takes, CPU time: as far as it is known, and on from there as before. */
static uint64_t total_ns(const struct tf_timeline *t)
{
    const struct tf_checkpoint *last = &t->set.v[t->set.n - 1];
    double frames = (double)t->run->frames, rest = frames - (double)last->frame;
    double rate = last->frame && last->work_ns ? (double)last->work_ns / (double)last->frame
                                               : (double)t->run->duration_ns / (frames > 0 ? frames : 1);
    return last->work_ns + (rest > 0 ? (uint64_t)(rest * rate) : 0);
}

/* Tells the copy when to make the next one. */
static uint64_t answer(struct tf_timeline *t, uint32_t serial)
{
    uint64_t ns = tf_policy_spacing_ns(&t->cost, t->replaying_ns, t->set.limits.max, t->pace.expected_ns);
    double ticks = (double)ns * tf_prepare_ticks_per_ns();
    __atomic_store_n(&t->shared.ctl->snapshot_ticks,
                     ticks < (double)(UINT64_MAX / 2) ? (uint64_t)ticks : UINT64_MAX, __ATOMIC_RELAXED);
    __atomic_store_n(&t->shared.ctl->snapshot_answered, serial, __ATOMIC_RELEASE);
    return ns;
}

bool tf_pace_begin(struct tf_timeline *t, const struct tf_checkpoint *from, uint64_t present)
{
    uint64_t frames = t->run->frames ? t->run->frames : 1;
    uint64_t span = present > from->frame ? present - from->frame : 0;
    t->pace = (struct tf_pace){
        .from = *from,
        .present = present,
        .expected_ns = (uint64_t)((double)t->run->duration_ns * (double)span / (double)frames) + 1,
        .seen_ns = now_ns(),
    };
    return answer(t, 0) != UINT64_MAX;
}

void tf_pace_checkpoint(struct tf_timeline *t, const struct tf_runner *runner, const struct tf_place *place,
                        int socket)
{
    struct tf_pace *pace = &t->pace;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct tf_err ignored;
    uint64_t now = now_ns(), faults = tf_memory_faults(runner->pid);
    uint64_t pages = tf_memory_resident(runner->pid) / page;
    uint64_t since = faults > pace->faults ? faults - pace->faults : 0;
    struct tf_checkpoint c = {
        .frame = place->frame,
        .offset = place->offset,
        .kind = TF_CHECKPOINT_FORK,
        .runner = {.socket = socket, .pid = (pid_t)place->pid, .keeper = runner->keeper},
        .run_number = t->run_number,
        .work_ns = pace->from.work_ns + tf_memory_cpu_ns(runner->pid),
        .made_ms = tf_now_ms(),
    };
    if (t->leave_at_stop && place->frame == t->leave_frame) /* it must not be the one that has to go for it */
        c.visited = t->set.visits + 1;
    if (runner->keeper && tf_runner_identify(&c.runner, &ignored))
        c.runner.pid = 0; /* its number is another namespace's */
    if (!t->fault_ns)
        t->fault_ns = tf_memory_fault_ns();
    struct tf_checkpoint_view view = {.present_frame = pace->present, .total_ns = total_ns(t)};
    bool stays = tf_checkpoints_add(&t->set, &c, (since < pages ? since : pages) * page, &view);
    tf_policy_taken(&t->cost, (uint64_t)((double)place->cost_ticks / tf_prepare_ticks_per_ns()), since,
                    pace->pages, t->fault_ns, stays);
    t->replaying_ns += now - pace->seen_ns;
    pace->seen_ns = now;
    pace->faults = faults;
    pace->pages = pages;
    answer(t, place->serial);
}

/* The copy that has just diverged may have left checkpoints on its way that are not the recorded run. */
void tf_timeline_drop_behind(struct tf_timeline *t, uint64_t frame)
{
    tf_checkpoints_drop_run(&t->set, t->run_number, frame);
}

int tf_timeline_leave(struct tf_timeline *t, uint64_t frame, struct tf_checkpoint *from, struct tf_err *err)
{
    struct tf_stop_req stop = {.frame = frame, .kind = TF_STOP_EVENT};
    struct tf_runner runner;
    struct tf_stop_rep rep;
    t->leave_at_stop = true;
    int r = tf_run_to(t, &stop, frame, &runner, from, &rep, err);
    t->leave_at_stop = false;
    if (r == 0)
        tf_runner_end(&runner);
    return r;
}

/* ---- making durable ones ---- */

int tf_timeline_make_durable(struct tf_timeline *t, struct tf_maker *maker, uint64_t frame,
                             const struct tf_image **image, struct tf_err *err)
{
    struct tf_checkpoint from;
    if (frame > t->reach)
        return tf_out_of_reach(t, frame, err);
    int r = tf_timeline_leave(t, frame, &from, err);
    if (r)
        return r;
    struct tf_checkpoint *c = tf_checkpoints_nearest(&t->set, frame);
    if (c->frame != frame || c->runner.socket < 0)
        return tf_err_set(err, TF_E_REPLAY, "no checkpoint could be left after frame event %llu",
                          (unsigned long long)frame);
    r = tf_maker_begin(maker, c, t->run->rowid, err);
    if (r == 0)
        r = tf_maker_finish(maker, image, err);
    return r < 0 ? r : 0;
}
