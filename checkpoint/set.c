/* set.c: see set.h. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "checkpoint/policy.h"
#include "checkpoint/set.h"

enum {
    LOOK_MS = 1000,      /* as long as the estimate is far below the limit, it is not compared more often */
    SLICE_NS = 10000000, /* the supervisor has other things to do: but for the first time, so long at most */
    MEASURE_SHARE = 20   /* of the supervisor's time, measuring takes one part in so many at most */
};

struct tf_checkpoint_limits tf_checkpoint_limits_default(void)
{
    return (struct tf_checkpoint_limits){.max = TF_POLICY_MAX, .bytes = tf_memory_cap()};
}

const char *tf_checkpoint_kind_name(enum tf_checkpoint_kind kind)
{
    static const char *const names[] = {"start", "fork", "durable"};
    return names[kind];
}

void tf_checkpoints_init(struct tf_checkpoints *set, const struct tf_checkpoint_limits *limits)
{
    *set = (struct tf_checkpoints){.limits = *limits};
}

void tf_checkpoints_clear(struct tf_checkpoints *set)
{
    for (size_t i = 0; i < set->n; i++)
        tf_runner_end(&set->v[i].runner);
    free(set->v);
    tf_checkpoints_init(set, &(struct tf_checkpoint_limits){set->limits.max, set->limits.bytes});
}

void tf_checkpoints_move(struct tf_checkpoints *to, struct tf_checkpoints *from)
{
    *to = *from;
    tf_checkpoints_init(from, &to->limits);
}

static bool has_process(const struct tf_checkpoint *c)
{
    return c->runner.socket >= 0;
}

size_t tf_checkpoints_live(const struct tf_checkpoints *set)
{
    size_t live = 0;
    for (size_t i = 0; i < set->n; i++)
        live += has_process(&set->v[i]);
    return live;
}

struct tf_checkpoint *tf_checkpoints_nearest(struct tf_checkpoints *set, uint64_t frame)
{
    size_t low = 0, high = set->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->v[middle].frame <= frame)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &set->v[low - 1] : NULL;
}

/* ---- dropping ---- */

static uint64_t freed_by(const struct tf_checkpoints *set, const struct tf_checkpoint *c)
{
    size_t live = tf_checkpoints_live(set);
    return c->used.shared ? c->used.private : live ? set->bytes / live : 0;
}

static void remove_entry(struct tf_checkpoints *set, size_t i)
{
    memmove(&set->v[i], &set->v[i + 1], (set->n - i - 1) * sizeof *set->v);
    set->n--;
}

void tf_checkpoints_drop(struct tf_checkpoints *set, size_t i)
{
    struct tf_checkpoint *c = &set->v[i];
    if (has_process(c)) {
        uint64_t freed = freed_by(set, c);
        set->bytes -= freed < set->bytes ? freed : set->bytes;
        tf_runner_end(&c->runner);
    }
    c->used = (struct tf_memory_use){0};
    if (c->kind == TF_CHECKPOINT_FORK)
        remove_entry(set, i);
}

void tf_checkpoints_forget(struct tf_checkpoints *set, size_t i)
{
    bool fork = set->v[i].kind == TF_CHECKPOINT_FORK;
    tf_checkpoints_drop(set, i);
    if (!fork)
        remove_entry(set, i);
}

void tf_checkpoints_drop_run(struct tf_checkpoints *set, uint64_t run_number, uint64_t frame)
{
    for (size_t i = set->n; run_number && i-- > 0;)
        if (set->v[i].kind == TF_CHECKPOINT_FORK && set->v[i].run_number == run_number &&
            set->v[i].frame > frame)
            tf_checkpoints_drop(set, i);
}

size_t tf_checkpoints_reap(struct tf_checkpoints *set)
{
    size_t found = 0;
    for (size_t i = set->n; i-- > 0;) {
        struct pollfd fd = {.fd = set->v[i].runner.socket, .events = POLLIN};
        if (!has_process(&set->v[i]) || poll(&fd, 1, 0) <= 0 || !(fd.revents & (POLLHUP | POLLERR)))
            continue;
        set->v[i].deaths++;
        tf_checkpoints_drop(set, i);
        found++;
    }
    set->died += found;
    return found;
}

/* ---- memory ---- */

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Measures those that this round has not had yet, but no further one when slice_ns have passed. At the end of
 * a round the sum is known. */
static void measure(struct tf_checkpoints *set, int64_t slice_ns)
{
    int64_t began = now_ns(), took = 0;
    uint64_t sum = 0;
    bool complete = true;
    if (!set->in_round)
        set->grown = 0; /* what came before it is in what is measured */
    set->in_round = true;
    for (size_t i = 0; i < set->n; i++) {
        struct tf_checkpoint *c = &set->v[i];
        if (has_process(c) && c->round <= set->round) {
            if (took > slice_ns) {
                complete = false;
                break;
            }
            tf_memory_measure(c->runner.pid, &c->used);
            c->round = set->round + 1;
            took = now_ns() - began;
        }
        sum += c->used.shared;
    }
    set->measured_ms = tf_now_ms();
    set->measure_ns = took;
    if (!complete)
        return;
    set->bytes = sum + set->grown;
    set->in_round = false;
    set->round++;
}

void tf_checkpoints_measure(struct tf_checkpoints *set)
{
    set->round++; /* a new round: all of them, now */
    set->in_round = false;
    measure(set, INT64_MAX);
    set->looked_ms = set->measured_ms;
}

static uint64_t resident(const struct tf_checkpoints *set)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < set->n; i++)
        if (has_process(&set->v[i]))
            sum += tf_memory_resident(set->v[i].runner.pid);
    return sum;
}

static uint64_t low_water(const struct tf_checkpoints *set)
{
    return set->limits.bytes - set->limits.bytes / 8;
}

/* Between two measurements the sum is an estimate: what was measured, what the processes have grown by since,
 * without what was dropped. */
static bool too_much_memory(struct tf_checkpoints *set, bool *measured)
{
    int64_t now = tf_now_ms();
    *measured = false;
    if (set->looked_ms && now - set->looked_ms < LOOK_MS && set->bytes <= low_water(set))
        return false;
    set->looked_ms = now;
    if (resident(set) <= set->limits.bytes)
        return false;
    *measured = !set->measured_ms || (now - set->measured_ms) * 1000000 >= MEASURE_SHARE * set->measure_ns;
    if (*measured)
        measure(set, set->round ? SLICE_NS : INT64_MAX);
    return set->bytes > set->limits.bytes;
}

/* ---- thinning ---- */

void tf_checkpoints_visit(struct tf_checkpoints *set, uint64_t frame)
{
    struct tf_checkpoint *c = tf_checkpoints_nearest(set, frame);
    if (c && c->frame == frame)
        c->visited = ++set->visits;
}

static bool visited_lately(const struct tf_checkpoints *set, const struct tf_checkpoint *c)
{
    size_t later = 0;
    for (size_t i = 0; i < set->n; i++)
        later += set->v[i].visited > c->visited;
    return c->visited && later < set->limits.max / 2;
}

/* Drops the process that matters least; false: none may go. */
static bool drop_least(struct tf_checkpoints *set, const struct tf_checkpoint_view *view, bool visited_stay)
{
    uint64_t *work = malloc((set->n + 1) * sizeof *work);
    bool *fixed = malloc((set->n + 1) * sizeof *fixed);
    size_t n = 0;
    if (!work || !fixed) { /* then the last one: it is found without any memory */
        free(work);
        free(fixed);
        for (size_t i = set->n; i-- > 0;)
            if (set->v[i].kind == TF_CHECKPOINT_FORK) {
                tf_checkpoints_drop(set, i);
                return true;
            }
        return false;
    }
    bool begins = set->n && set->v[0].kind == TF_CHECKPOINT_START;
    if (!begins) { /* it will be started when it is needed */
        work[n] = 0;
        fixed[n++] = true;
    }
    const struct tf_checkpoint *present = tf_checkpoints_nearest(set, view->present_frame);
    for (size_t i = 0; i < set->n; i++) {
        work[n] = set->v[i].work_ns;
        fixed[n++] = set->v[i].kind == TF_CHECKPOINT_START || !has_process(&set->v[i]) ||
                     (visited_stay && visited_lately(set, &set->v[i]));
    }
    size_t victim = tf_policy_victim(work, fixed, n, present ? present->work_ns : 0, view->total_ns);
    free(work);
    free(fixed);
    if (victim == n)
        return false;
    tf_checkpoints_drop(set, victim - !begins);
    set->dropped++;
    return true;
}

static size_t processes(const struct tf_checkpoints *set)
{
    bool begins = set->n && set->v[0].kind == TF_CHECKPOINT_START && has_process(&set->v[0]);
    return tf_checkpoints_live(set) + !begins;
}

void tf_checkpoints_thin(struct tf_checkpoints *set, const struct tf_checkpoint_view *view)
{
    bool measured;
    while (processes(set) > set->limits.max && drop_least(set, view, true))
        ;
    if (!too_much_memory(set, &measured))
        return;
    /* And some more, so that it need not be measured again for each. What the end of one frees is known when
     * the others are measured again: then they have more of what they shared with it. */
    int64_t until = now_ns() + 2 * SLICE_NS;
    while (set->bytes > low_water(set) && drop_least(set, view, false))
        if (measured && now_ns() < until)
            measure(set, SLICE_NS);
}

/* ---- adding ---- */

static bool make_room(struct tf_checkpoints *set)
{
    if (set->n < set->room)
        return true;
    size_t room = set->room ? 2 * set->room : 16;
    struct tf_checkpoint *grown = realloc(set->v, room * sizeof *grown);
    if (!grown)
        return false;
    set->v = grown;
    set->room = room;
    return true;
}

bool tf_checkpoints_add(struct tf_checkpoints *set, const struct tf_checkpoint *checkpoint,
                        uint64_t grown_bytes, const struct tf_checkpoint_view *view)
{
    struct tf_checkpoint c = *checkpoint;
    size_t at = set->n;
    while (at > 0 && (set->v[at - 1].frame > c.frame ||
                      (set->v[at - 1].frame == c.frame && set->v[at - 1].kind > c.kind &&
                       c.kind == TF_CHECKPOINT_START)))
        at--;
    bool twice = at > 0 && set->v[at - 1].frame == c.frame && set->v[at - 1].kind == TF_CHECKPOINT_FORK;
    if (c.kind == TF_CHECKPOINT_DURABLE &&
        twice) { /* the fork, which needs not be restored, stays behind it */
        at--;
        twice = false;
    }
    if (twice || !make_room(set)) {
        tf_runner_end(&c.runner);
        return false;
    }
    /* CPU times of several replays differ a little: the order is that of the frames. */
    if (at > 0 && c.work_ns < set->v[at - 1].work_ns)
        c.work_ns = set->v[at - 1].work_ns;
    if (at < set->n && c.work_ns > set->v[at].work_ns)
        c.work_ns = set->v[at].work_ns;
    memmove(&set->v[at + 1], &set->v[at], (set->n - at) * sizeof *set->v);
    set->v[at] = c;
    set->n++;
    set->bytes += grown_bytes;
    set->grown += grown_bytes;
    tf_checkpoints_thin(set, view);
    const struct tf_checkpoint *there = tf_checkpoints_nearest(set, c.frame);
    return there && there->frame == c.frame && there->kind == c.kind;
}
