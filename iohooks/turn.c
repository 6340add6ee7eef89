/*
 * turn.c: whose turn it is (docs/threads.md). While recording, the turn is a lock, in front of the GIL; in
 * replay the log says who has it next, and threads are contexts on one kernel thread.
 *
 * The queue and everything else in `turn` is guarded by turn.lock, a futex of three states; what only its
 * owner touches is not.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include "iohooks/turn_local.h"

#define STUCK_NS 20000000000ull
#define SIDE_LIMIT (256u << 10) /* bytes of events out of turn, then they are written in between */

bool tf_many;
uint32_t tf_running;

struct tf_turn_state tf_turn_state;

static void futex_wake(const volatile uint32_t *word, int n)
{
    tf_sys(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n);
}

void tf_turn_lock(void)
{
    uint32_t free = 0;
    if (__atomic_compare_exchange_n(&turn.lock, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(&turn.lock, 2, __ATOMIC_ACQUIRE) != 0)
        tf_sys(SYS_futex, &turn.lock, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, 0);
}

void tf_turn_unlock(void)
{
    if (__atomic_exchange_n(&turn.lock, 0, __ATOMIC_RELEASE) == 2)
        futex_wake(&turn.lock, 1);
}

bool tf_turn_is_mine(void)
{
    return !tf_many || turn.dissolved || turn.owner == tf_self;
}

uint64_t tf_turn_silent(void)
{
    return turn.silent;
}

bool tf_gil_is_others(void)
{
    return turn.gil && turn.gil != tf_self;
}

/* ---- record: the queue ---- */

static void enqueue(struct tf_thread *t, bool want_gil)
{
    t->wants_gil = want_gil;
    if (t->queued)
        return;
    t->queued = true;
    t->next = NULL;
    if (turn.tail)
        turn.tail->next = t;
    else
        turn.head = t;
    turn.tail = t;
}

static void dequeue(struct tf_thread *t)
{
    struct tf_thread *before = NULL;
    if (!t->queued)
        return;
    for (struct tf_thread *q = turn.head; q != t; q = q->next)
        before = q;
    if (before)
        before->next = t->next;
    else
        turn.head = t->next;
    if (turn.tail == t)
        turn.tail = before;
    t->queued = false;
}

static bool may_have_it(const struct tf_thread *t)
{
    return !t->wants_gil || !turn.gil || turn.gil == t;
}

/* A number below n (xorshift64*, Vigna 2016). */
uint32_t tf_turn_dice(uint32_t n)
{
    turn.dice ^= turn.dice >> 12;
    turn.dice ^= turn.dice << 25;
    turn.dice ^= turn.dice >> 27;
    return (uint32_t)((turn.dice * 0x2545f4914f6cdd1dull) >> 33) % n;
}

bool tf_turn_is_chaos(void)
{
    if (!tf.shm || !tf.shm->chaos)
        return false;
    if (!turn.dice)
        turn.dice = tf.shm->chaos;
    return true;
}

static struct tf_thread *choose(void)
{
    uint32_t n = 0;
    struct tf_thread *first = NULL;
    for (struct tf_thread *t = turn.head; t; t = t->next)
        if (may_have_it(t)) {
            first = first ? first : t;
            n++;
        }
    if (n < 2 || !tf_turn_is_chaos())
        return first;
    uint32_t k = tf_turn_dice(n);
    for (struct tf_thread *t = turn.head; t; t = t->next)
        if (may_have_it(t) && k-- == 0)
            return t;
    return first;
}

/* hand_over: to one that waits; else who comes first takes it, and the one that waits longest is woken. */
void tf_turn_pass(bool hand_over)
{
    tf_turn_lock();
    turn.owner = NULL;
    struct tf_thread *t = choose();
    if (t) {
        if (hand_over || turn.urgent || tf_turn_is_chaos()) {
            turn.owner = t;
            turn.urgent = false;
            dequeue(t);
        }
        __atomic_store_n(&t->wake, 1, __ATOMIC_RELEASE);
        futex_wake(&t->wake, 1);
    }
    tf_turn_unlock();
}

static bool is_stuck(const struct tf_thread *t, uint64_t since);

static uint64_t now_ns(void)
{
    struct timespec now;
    tf_sys(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* For how long a thread waits until it is urgent: the interval of Python's; less for something below Python,
 * which takes no time. */
static uint64_t patience_ns(bool want_gil)
{
    unsigned long us = !want_gil ? 100 : tf_gil_interval_us() ? tf_gil_interval_us() : 5000;
    return (us ? us : 1) * 1000ull;
}

/* Sleeps until it is this thread's, or free. Who waits for the GIL sees to it that it is given away in the
 * end. */
static void acquire(struct tf_thread *self, bool want_gil)
{
    uint64_t seen = turn.turns, until = 0, since = 0;
    bool late = false, stuck = false;
    tf_turn_lock();
    self->wants_gil = want_gil;
    for (;;) {
        if (turn.owner == self || turn.dissolved)
            break;
        if (!turn.owner && may_have_it(self)) {
            turn.owner = self;
            dequeue(self);
            break;
        }
        enqueue(self, want_gil);
        __atomic_store_n(&self->wake, 0, __ATOMIC_RELEASE);
        if (turn.turns != seen || !until) {
            seen = turn.turns;
            since = now_ns();
            until = since + patience_ns(want_gil);
            late = false;
        }
        tf_turn_unlock();
        uint64_t now = now_ns(), left = until > now ? until - now : 1000;
        struct timespec wait = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        tf_sys(SYS_futex, &self->wake, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &wait);
        tf_turn_lock();
        if (turn.owner != self && turn.turns == seen && now_ns() >= until) {
            turn.urgent = true;
            if (tf.mode == TF_RECORDS && is_stuck(turn.owner, since)) {
                turn.owner = self;
                dequeue(self);
                stuck = true;
                break;
            }
            if (late && !turn.asked && turn.gil && tf.engine->ask_to_drop) {
                turn.asked = true;
                tf.engine->ask_to_drop(true);
            }
            late = true;
            until = now_ns() + patience_ns(true);
        }
    }
    tf_turn_unlock();
    if (stuck)
        tf_barrier("a thread keeps a lock of native code, and neither calls nor waits, while others need it");
}

/* ---- the log ---- */

/* Record: what this thread did out of turn. */
static void flush(struct tf_thread *self)
{
    for (uint32_t at = 0; at < self->side_words;) {
        uint32_t word = self->side[at], n = TF_RECORD_WORDS(word);
        uint32_t *to = tf_ring_reserve(1 + n);
        if (!to)
            break;
        memcpy(to + 1, self->side + at + 1, n * sizeof *to);
        tf_ring_commit(word, n);
        at += 1 + n;
    }
    self->side_words = self->side_events = 0;
}

static void log_turn(struct tf_thread *self, enum tf_turn why, bool counts)
{
    bool other = turn.last != self->number;
    turn.turns += other;
    if (other || why) {
        struct tf_rec_turn rec = {.thread = self->number, .why = why | turn.silent << 8};
        if (tf.mode == TF_RECORDS)
            tf_log_record(TF_REC_TURN, &rec, sizeof rec, NULL, 0);
        turn.silent = 0;
        turn.last = self->number;
    } else {
        turn.silent += counts;
    }
    if (self->side_words)
        flush(self);
    self->side_bytes = 0;
}

static struct tf_thread *by_number(uint32_t number)
{
    for (unsigned i = 0; i < tf_thread_places(); i++) {
        struct tf_thread *t = tf_thread_at(i);
        if (t && t->number == number)
            return t;
    }
    return NULL;
}

/* ---- replay: contexts ---- */

static void go_on_with(struct tf_thread *to)
{
    struct tf_thread *self = tf_self;
    tf_sys(SYS_rt_sigprocmask, SIG_SETMASK, &to->mask, &self->mask, 8);
    tf_context_switch(&self->context, &to->context);
}

static bool sleeps(const struct tf_thread *t)
{
    return t->blocked_on && !t->woken && *t->blocked_on == t->blocked_value;
}

/* One that can go on without the log: not the calling one. Of several, the next by place. */
static struct tf_thread *other(void)
{
    unsigned n = tf_thread_places();
    for (unsigned i = 1; i < n; i++) {
        struct tf_thread *t = tf_thread_at((tf_self->place + i) % n);
        if (t && !t->awaits && !sleeps(t))
            return t;
    }
    return NULL;
}

/* Is it another turn that comes next? Not before the thread that had the last one has taken it again as often
 * as it did when recording. */
static const struct tf_outside *next_turn(uint64_t *args)
{
    const struct tf_outside *e = tf_log_peek();
    if (!e || e->call != TF_CALL_TURN || e->frame != tf_frames() || e->args_len != sizeof *args)
        return NULL;
    memcpy(args, tf_outside_args(e), sizeof *args);
    return TF_TURN_SILENT(*args) == turn.silent ? e : NULL;
}

/* The thread whose turn it is by the log; NULL: it is gone. */
static struct tf_thread *entitled(void)
{
    uint64_t args;
    const struct tf_outside *e = next_turn(&args);
    return by_number(e ? (uint32_t)e->result : turn.last);
}

static void __attribute__((noreturn)) nobody(void)
{
    const struct tf_outside *e = tf_log_peek();
    if (!e)
        tf_core.stopped(TF_STOPPED_END, 0);
    tf_diverge("thread %u waits for something that no thread does in the replay", tf_self->number);
}

/* Lets another thread run: the one whose turn it is, if it can. */
static void give_way(void)
{
    struct tf_thread *t = entitled();
    if (!t || t == tf_self || sleeps(t))
        t = other();
    if (!t)
        nobody();
    go_on_with(t);
}

/* In a copy of a recording: what this thread did before it was copied, and wrote later. */
static void pass_over_side_events(struct tf_thread *self)
{
    for (; self->side_events; self->side_events--) {
        const struct tf_outside *e = tf_log_peek();
        if (!e)
            break;
        tf_log_skip(e);
    }
    self->side_words = 0;
}

void tf_turn_await(void)
{
    struct tf_thread *self = tf_self;
    if (!tf_many)
        return;
    bool had = turn.owner == self;
    for (;;) {
        uint64_t args;
        const struct tf_outside *e = next_turn(&args);
        if (e && (uint32_t)e->result == self->number) {
            tf_log_skip(e);
            turn.last = self->number;
            turn.silent = 0;
            if (had) {
                turn.owner = self;
            } else {
                self->given = true;
                self->why_given = TF_TURN_WHY(args);
            }
            break;
        }
        if (!e && turn.last == self->number)
            break;
        self->awaits = true;
        give_way();
        self->awaits = false;
    }
    if (self->side_events)
        pass_over_side_events(self);
}

static enum tf_turn take_replayed(struct tf_thread *self, bool counts)
{
    enum tf_turn why = TF_TURN_PLAIN;
    if (!self->given)
        tf_turn_await();
    if (self->given)
        why = (enum tf_turn)self->why_given;
    else
        turn.silent += counts;
    self->given = false;
    turn.owner = self;
    self->side_bytes = 0;
    return why;
}

/* Record. False: in a copy, where the thread is to go on as a context. */
static bool take_recorded(struct tf_thread *self, bool want_gil, enum tf_turn why, bool counts)
{
    const uint32_t inside = self->inside;
    if (tf_context_save(&self->context)) {
        self->inside = inside;
        return false;
    }
    __atomic_store_n(&self->state, TF_T_WAITS, __ATOMIC_RELEASE);
    self->inside++;
    acquire(self, want_gil);
    __atomic_store_n(&self->state, TF_T_RUNS, __ATOMIC_RELEASE);
    if (!turn.dissolved)
        log_turn(self, why, counts);
    self->inside--;
    return true;
}

/* ---- taking and releasing ---- */

static enum tf_turn take(bool want_gil, enum tf_turn why, bool counts)
{
    struct tf_thread *self = tf_self;
    if (!tf_many || turn.dissolved || turn.owner == self || tf.mode == TF_LOOKS || tf.mode == TF_ARMS)
        return why;
    if (tf.mode == TF_REPLAYS || !take_recorded(self, want_gil, why, counts))
        why = take_replayed(self, counts);
    tf_side_heap_turn();
    tf_signal_safe_point(TF_AFTER_TURN);
    return why;
}

enum tf_turn tf_turn_take(bool want_gil, enum tf_turn why)
{
    return take(want_gil, why, true);
}

/* An event follows that puts it in order. */
void tf_turn_take_again(void)
{
    take(false, TF_TURN_PLAIN, false);
}

void tf_turn_release(void)
{
    if (!tf_many || turn.dissolved || turn.owner != tf_self || tf.mode == TF_LOOKS || tf.mode == TF_ARMS)
        return;
    tf_self->keeps = false;
    if (tf.mode == TF_REPLAYS) {
        uint64_t args;
        turn.owner = NULL;
        const struct tf_outside *e = next_turn(&args);
        if (e && (uint32_t)e->result != tf_self->number)
            give_way(); /* what it does out of turn it does late: docs/threads.md */
        return;
    }
    tf_turn_pass(tf_self->drops);
}

/* Replay: without running others. */
void tf_turn_give_back(void)
{
    turn.owner = NULL;
}

static void back(struct tf_thread *self)
{
    for (;;) {
        uint32_t waits = TF_T_WAITS;
        if (__atomic_compare_exchange_n(&self->state, &waits, TF_T_RUNS, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return;
        tf_sys(SYS_futex, &self->state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, TF_T_WAITS | TF_T_FROZEN, 0);
    }
}

enum tf_turn tf_turn_sleep(const volatile uint32_t *word, uint32_t value, bool realtime,
                           const struct timespec *until)
{
    struct tf_thread *self = tf_self;
    tf_turn_release();
    if (tf.mode == TF_REPLAYS) {
        /* Only another thread can wake it, and none comes in front of what it is to do itself. */
        const struct tf_outside *e = tf_many && turn.last == self->number ? tf_log_peek() : NULL;
        if (e && e->call == TF_CALL_PREEMPT && e->frame <= tf_frames())
            tf_diverge("thread %u waits; in the recording it was switched in the middle of a function first, "
                       "at a place that the replay has not come by",
                       self->number);
        return TF_TURN_PLAIN;
    }
    if (until && until->tv_sec < 0)
        return TF_TURN_TIMEOUT;
    const uint32_t inside = self->inside;
    if (tf_context_save(&self->context)) {
        self->inside = inside;
        return TF_TURN_PLAIN; /* in a copy: what comes of it is in the log */
    }
    __atomic_store_n(&self->state, TF_T_WAITS, __ATOMIC_RELEASE);
    self->inside++;
    int op = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | (realtime ? FUTEX_CLOCK_REALTIME : 0);
    long r = tf_raw_wait(SYS_futex, (long)word, op, value, (long)until, 0, FUTEX_BITSET_MATCH_ANY);
    self->inside--;
    back(self);
    if (r == -ETIMEDOUT)
        return TF_TURN_TIMEOUT;
    if (r != 0 && r != -EAGAIN) /* with a time limit it is not made again (signal(7)) */
        return !until && tf_signal_restarts(SYS_futex) ? TF_TURN_PLAIN : TF_TURN_SIGNAL;
    return TF_TURN_PLAIN;
}

void tf_turn_leave_for_call(void)
{
    tf_self->context = tf_self->call_context;
    __atomic_store_n(&tf_self->state, TF_T_WAITS, __ATOMIC_RELEASE);
}

void tf_turn_back_from_call(void)
{
    back(tf_self);
}

/* ---- checkpoints of a recording ---- */

void tf_turn_thaw(void)
{
    for (unsigned i = 0; i < tf_thread_places(); i++) {
        struct tf_thread *t = tf_thread_at(i);
        if (!t || !(__atomic_load_n(&t->state, __ATOMIC_ACQUIRE) & TF_T_FROZEN))
            continue;
        __atomic_store_n(&t->state, TF_T_WAITS, __ATOMIC_RELEASE);
        futex_wake(&t->state, 1);
    }
}

bool tf_turn_freeze(void)
{
    for (unsigned i = 0; i < tf_thread_places(); i++) {
        struct tf_thread *t = tf_thread_at(i);
        uint32_t waits = TF_T_WAITS;
        if (!t || t == tf_self)
            continue;
        if (!__atomic_compare_exchange_n(&t->state, &waits, TF_T_WAITS | TF_T_FROZEN, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE)) {
            tf_turn_thaw();
            return false;
        }
    }
    return true;
}

void tf_turn_adopt(void)
{
    for (unsigned i = 0; i < tf_thread_places(); i++) {
        struct tf_thread *t = tf_thread_at(i);
        if (!t)
            continue;
        t->state = TF_T_RUNS;
        t->queued = false;
        t->pending = 0;
        t->kept_head = t->kept_tail;
        t->selector = 1;
    }
    turn.head = turn.tail = NULL;
    turn.lock = 0;
    turn.urgent = turn.asked = false;
    turn.owner = tf_self;
    tf_thread_forget_rseq(tf_self);
}

/* ---- replay: futex and sched_yield ---- */

static long futex_wait(const struct tf_call *call)
{
    struct tf_thread *self = tf_self;
    const volatile uint32_t *word = (const volatile uint32_t *)call->a[0];
    if (*word != (uint32_t)call->a[2])
        return -EAGAIN;
    self->blocked_on = word;
    self->blocked_value = (uint32_t)call->a[2];
    self->woken = false;
    for (long r = 0;;) {
        const struct tf_outside *e;
        if (entitled() == self) {
            tf_turn_await();
            e = tf_log_peek();
            if (e && e->call == SYS_futex && e->frame == tf_frames()) {
                r = e->result;
                tf_log_skip(e);
                self->blocked_on = NULL;
                return r;
            }
        }
        if (!sleeps(self)) {
            self->blocked_on = NULL;
            return 0;
        }
        give_way();
    }
}

static long futex_woken(const volatile uint32_t *word, long most)
{
    long n = 0;
    for (unsigned i = 0; i < tf_thread_places() && n < most; i++) {
        struct tf_thread *t = tf_thread_at(i);
        if (t && t->blocked_on == word && !t->woken) {
            t->woken = true;
            n++;
        }
    }
    return n;
}

long tf_turn_futex(const struct tf_call *call)
{
    if (call->nr == SYS_sched_yield) {
        struct tf_thread *t = other();
        if (!t)
            t = entitled();
        if (t && t != tf_self)
            go_on_with(t);
        return 0;
    }
    switch (call->a[1] & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
        return futex_wait(call);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
        return futex_woken((const volatile uint32_t *)call->a[0], INT_MAX);
    case FUTEX_WAKE_OP: {
        long n = futex_woken((const volatile uint32_t *)call->a[0], INT_MAX);
        return n + futex_woken((const volatile uint32_t *)call->a[4], INT_MAX);
    }
    default:
        tf_diverge("futex operation %ld cannot be replayed with threads", call->a[1]);
    }
}

/* ---- the end of recording ---- */

void tf_turn_dissolve(void)
{
    if (!tf_many || turn.dissolved || tf.mode == TF_REPLAYS)
        return;
    tf_turn_lock();
    turn.dissolved = true;
    turn.owner = NULL;
    for (struct tf_thread *t = turn.head; t; t = t->next) {
        t->queued = false;
        __atomic_store_n(&t->wake, 1, __ATOMIC_RELEASE);
        futex_wake(&t->wake, 1);
    }
    turn.head = turn.tail = NULL;
    tf_turn_unlock();
}

bool tf_turn_is_dissolved(void)
{
    return turn.dissolved;
}

/*
 * A thread that has a lock of native code, and so the turn, and neither calls nor waits, but spins for what
 * another one is to do, for which that one needs the turn: it must not be in the way. The turn is taken from
 * it, and with that the recording ends. It is in code of the program's, and is told nothing: it finds that it
 * has not got the turn.
 */
static bool is_stuck(const struct tf_thread *t, uint64_t since)
{
    return t && t->natives && !t->has_gil && !t->inside && now_ns() - since > STUCK_NS;
}

/* ---- in a forked child of the program's ---- */

void tf_turn_forked(void)
{
    turn.lock = 0;
    turn.head = turn.tail = NULL;
    turn.owner = tf_self;
    turn.last = tf_self->number;
    turn.silent = 0;
    turn.urgent = turn.asked = turn.dissolved = false;
    tf_many = false;
}

/* Before the first thread is started. */
void tf_turn_many(void)
{
    if (tf_many)
        return;
    turn.owner = tf_self;
    turn.last = tf_self->number;
    turn.silent = 0;
    tf_many = true;
}

bool tf_turn_writes_between(size_t bytes)
{
    struct tf_thread *self = tf_self;
    self->side_bytes += bytes;
    return !self->python || self->side_bytes > SIDE_LIMIT;
}

/* ---- the end of a thread ---- */

void tf_turn_leave(struct tf_thread *t)
{
    __atomic_store_n(&t->state, TF_T_ENDED, __ATOMIC_RELEASE);
    tf_side_heap_ended(t->place);
    tf_turn_pass(false);
}

void tf_turn_wake(const volatile int32_t *word)
{
    futex_woken((const volatile uint32_t *)word, INT_MAX);
}

void tf_turn_end(struct tf_thread *self)
{
    self->state = TF_T_ENDED;
    tf_side_heap_ended(self->place);
    turn.owner = NULL;
    struct tf_thread *t = entitled();
    if (!t || sleeps(t))
        t = other();
    if (!t)
        nobody();
    go_on_with(t);
    __builtin_unreachable();
}
