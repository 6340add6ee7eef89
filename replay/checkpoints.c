/*
 * checkpoints.c: the checkpoints of a timeline: which one a run begins at, those that it leaves on its way
 * and how far apart, and what becomes of those that somebody has killed.
 */
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

struct tf_checkpoints *tf_timeline_checkpoints(struct tf_timeline *t)
{
    tf_checkpoints_reap(&t->set);
    return &t->set;
}

/* ---- where a run begins ---- */

/* A checkpoint without a process: gets one, if that can be done. */
static int revive(struct tf_timeline *t, struct tf_checkpoint *c, struct tf_err *err)
{
    if (c->kind == TF_CHECKPOINT_START)
        return tf_prepare_start(t->run, &t->shared, !t->bare, &c->runner, &t->filter_error, err);
    return tf_err_set(err, TF_E_NOTFOUND, "the checkpoint at frame event %llu has no process",
                      (unsigned long long)c->frame);
}

int tf_timeline_fork_start(struct tf_timeline *t, struct tf_runner *copy, struct tf_err *err)
{
    struct tf_checkpoint from;
    return tf_timeline_fork_nearest(t, 0, copy, &from, err);
}

int tf_timeline_fork_nearest(struct tf_timeline *t, uint64_t frame, struct tf_runner *copy,
                             struct tf_checkpoint *from, struct tf_err *err)
{
    bool revived = false;
    for (;;) {
        struct tf_place place;
        struct tf_checkpoint *c = tf_checkpoints_nearest(&t->set, frame);
        int r = 0;
        if (c->runner.socket < 0) {
            revived = true;
            r = revive(t, c, err);
        }
        *from = *c;
        if (r == 0)
            r = tf_runner_fork(&c->runner, copy, &place, err);
        if (r == 0 && c->kept && (r = tf_runner_share(copy, t->shared.ctl_fd, t->shared.log_fd, err)))
            tf_runner_end(copy);
        if (r == 0)
            return 0;
        if (c->kind == TF_CHECKPOINT_START && revived)
            return tf_err_prefix(err, "the replay cannot be started: ");
        tf_checkpoints_drop(&t->set, (size_t)(c - t->set.v)); /* of the start: its process only */
        t->set.died++;
    }
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
