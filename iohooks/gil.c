/*
 * gil.c: the doors of the GIL, of native locks and of slices (docs/threads.md): what Python's own locking
 * comes by on its way to libc. Here the turn is taken in front of the GIL and given back behind it, and what
 * is done under a lock of native code is done in turn.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include "iohooks/turn_local.h"

static void *gil_mutex, *gil_switch_mutex, *gil_switch_cond;
static const unsigned long *gil_interval; /* microseconds */

unsigned long tf_gil_interval_us(void)
{
    return gil_interval ? *gil_interval : 0;
}

/* ---- the GIL ---- */

void tf_gil_at(void *mutex, void *cond, void *switch_mutex, void *switch_cond, const unsigned long *interval)
{
    gil_mutex = mutex;
    (void)cond;
    gil_switch_mutex = switch_mutex;
    gil_switch_cond = switch_cond;
    gil_interval = interval;
    tf_self->has_gil = true; /* it is this thread that has started Python */
    tf_self->python = true;
    turn.gil = tf_self;
    tf_preempt_start();
}

static bool follows(void)
{
    return gil_mutex && !turn.dissolved &&
           (tf.mode == TF_RECORDS || tf.mode == TF_REPLAYS || tf.mode == TF_LOOSE || tf.mode == TF_OFF);
}

/* Record: the thread that has the GIL has done what it was asked for. */
void tf_gil_not_asked(void)
{
    if (!turn.asked)
        return;
    tf_turn_lock(); /* one that waits may just be asking */
    turn.asked = false;
    tf.engine->ask_to_drop(false);
    tf_turn_unlock();
}

/* The thread has taken the GIL. If another one had it at the last frame event, that is one, too. */
static void has_it(struct tf_thread *self)
{
    self->has_gil = self->python = true;
    self->keeps = false;
    self->natives = 0;
    turn.gil = self;
    tf_gil_not_asked();
    if (tf_running == self->number || tf.mode == TF_OFF)
        return;
    tf_running = self->number;
    if (!self->named && tf.mode == TF_RECORDS)
        tf.limit = tf.p + 2; /* the event behind the switch is looked at */
    uint32_t word = TF_WORD(TF_SWITCH, self->number);
    __atomic_store_n(tf.p, word, __ATOMIC_RELEASE);
    tf.p++;
    if (tf.p >= tf.limit)
        tf_slow(word, NULL, NULL);
}

#define DOOR __attribute__((visibility("default")))
static int (*real_lock)(pthread_mutex_t *), (*real_unlock)(pthread_mutex_t *);

static void *find(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/*
 * Locks of native code that is out of turn (sqlite's, OpenSSL's): what they guard is used by several threads,
 * and in which order decides what comes of it. So a thread that has one has the turn, but when it waits.
 */
static bool is_native(struct tf_thread *self)
{
    return tf_many && !self->has_gil && !self->inside && (tf.mode == TF_RECORDS || tf.mode == TF_REPLAYS);
}

/* True: it counts. */
static bool native_begins(struct tf_thread *self)
{
    if (!is_native(self) || (turn.owner == self && !self->natives))
        return false;
    if (!self->natives)
        tf_turn_take(false, TF_TURN_PLAIN);
    self->natives++;
    return true;
}

static void native_ends(struct tf_thread *self)
{
    if (self->natives && --self->natives == 0 && !self->has_gil && !self->keeps)
        tf_turn_release();
}

DOOR int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    struct tf_thread *self = tf_self;
    if ((void *)mutex == gil_mutex && follows() && !self->has_gil) {
        if (tf_many && turn.owner == self && tf_gil_is_others())
            tf_turn_release(); /* it has the turn for another reason */
        tf_turn_take(true, TF_TURN_PLAIN);
        /* The interpreter ends: Python looks at that out of turn, and, if it comes too late for that, again
         * when it has the GIL. The thread ends here in both cases, without the GIL. */
        if (tf_many && tf_thread_is_late(self))
            pthread_exit(NULL);
    } else if (tf_many && (void *)mutex == gil_mutex && follows()) {
        self->stays = !tf_preempt_drops(self, __builtin_return_address(0), (uintptr_t)__builtin_dwarf_cfa());
    } else if (tf_many && (void *)mutex != gil_mutex && (void *)mutex != gil_switch_mutex) {
        native_begins(self);
    }
    if (__builtin_expect(!real_lock, 0))
        real_lock = (int (*)(pthread_mutex_t *))find("pthread_mutex_lock");
    return real_lock(mutex);
}

DOOR int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    static int (*real)(pthread_mutex_t *);
    if (!real)
        real = (int (*)(pthread_mutex_t *))find("pthread_mutex_trylock");
    bool counts = tf_many && native_begins(tf_self);
    int r = real(mutex);
    if (counts && r != 0)
        native_ends(tf_self);
    return r;
}

DOOR int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    if (__builtin_expect(!real_unlock, 0))
        real_unlock = (int (*)(pthread_mutex_t *))find("pthread_mutex_unlock");
    int r = real_unlock(mutex);
    struct tf_thread *self = tf_self;
    if ((void *)mutex != gil_mutex && tf_many && self->natives && (void *)mutex != gil_switch_mutex)
        native_ends(self);
    if ((void *)mutex != gil_mutex || !follows())
        return r;
    if (self->has_gil) {
        self->has_gil = false;
        turn.gil = NULL;
        if (self->stays)
            self->stays = false; /* it takes the GIL again at once */
        else if (tf_many && tf_thread_has_left_python(self))
            self->keeps =
                true; /* 3.13 says after that that the thread is at its end, and who joins it looks there */
        else
            tf_turn_release();
        self->drops = false;
    } else {
        has_it(self);
        tf_turn_expect_preempt();
    }
    return r;
}

/* OpenSSL's locks are of this kind. */
#define RWLOCK_DOOR(name)                                                                                    \
    DOOR int name(pthread_rwlock_t *lock)                                                                    \
    {                                                                                                        \
        static int (*real)(pthread_rwlock_t *);                                                              \
        if (!real)                                                                                           \
            real = (int (*)(pthread_rwlock_t *))find(#name);                                                 \
        bool counts = tf_many && native_begins(tf_self);                                                     \
        int r = real(lock);                                                                                  \
        if (counts && r != 0)                                                                                \
            native_ends(tf_self);                                                                            \
        return r;                                                                                            \
    }
RWLOCK_DOOR(pthread_rwlock_rdlock)
RWLOCK_DOOR(pthread_rwlock_wrlock)
RWLOCK_DOOR(pthread_rwlock_tryrdlock)
RWLOCK_DOOR(pthread_rwlock_trywrlock)

DOOR int pthread_rwlock_unlock(pthread_rwlock_t *lock)
{
    static int (*real)(pthread_rwlock_t *);
    if (!real)
        real = (int (*)(pthread_rwlock_t *))find("pthread_rwlock_unlock");
    int r = real(lock);
    if (tf_many && tf_self->natives)
        native_ends(tf_self);
    return r;
}

/* What is done once is done by the thread whose turn it is; who finds it done, too, has its next turn after
 * that. Whether it is done is not looked at out of turn: a replay, in which the thread comes late, would see
 * something else. */
DOOR int pthread_once(pthread_once_t *control, void (*routine)(void))
{
    static int (*real)(pthread_once_t *, void (*)(void));
    if (!real)
        real = (int (*)(pthread_once_t *, void (*)(void)))find("pthread_once");
    bool counts = tf_many && native_begins(tf_self);
    int r = real(control, routine);
    if (counts)
        native_ends(tf_self);
    return r;
}

/* A child made by fork() has a new GIL in the same place. */
DOOR int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    static int (*real)(pthread_mutex_t *, const pthread_mutexattr_t *);
    if (!real)
        real = (int (*)(pthread_mutex_t *, const pthread_mutexattr_t *))find("pthread_mutex_init");
    if (gil_mutex && (void *)mutex == gil_mutex) {
        tf_self->has_gil = false;
        turn.gil = NULL;
    } else if (gil_mutex && (void *)mutex != gil_switch_mutex && tf.mode == TF_RECORDS &&
               tf_in_python(__builtin_return_address(0))) {
        if (!tf_turn_is_mine())
            tf_turn_take(false, TF_TURN_PLAIN);
        tf_barrier("a subinterpreter with a GIL of its own, which is not covered: its code runs beside the "
                   "program's");
    }
    return real(mutex, attributes);
}

/* After a drop that was asked for, Python waits here until another thread has had the GIL: the turn sees to
 * that. */
DOOR int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *);
    if (gil_switch_cond && (void *)cond == gil_switch_cond && follows())
        return 0;
    if (!real)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *))dlvsym(RTLD_NEXT, "pthread_cond_wait",
                                                                    "GLIBC_2.3.2");
    return real(cond, mutex);
}

/* ---- slices ---- */

/* Does anybody wait? */
static bool has_others(void)
{
    return turn.head != NULL;
}

static void yield(void)
{
    struct tf_thread *self = tf_self;
    self->drops = true; /* to one that waits, if there is one */
    tf.engine->yield();
    self->drops = false;
}

void tf_turn_slice(uint64_t now)
{
    (void)now;
    struct tf_thread *self = tf_self;
    if (!tf_many || !self->has_gil || turn.owner != self)
        return;
    if (tf.mode == TF_REPLAYS) {
        const struct tf_outside *e = tf_log_peek();
        if (!e || e->call != TF_CALL_YIELD || e->frame != tf_frames())
            return;
        tf_log_take(TF_CALL_YIELD, NULL, 0);
        yield();
        return;
    }
    if (!turn.urgent && !(tf_turn_is_chaos() && turn.head && tf_turn_dice(4) == 0))
        return;
    tf_turn_lock();
    bool others = has_others();
    tf_turn_unlock();
    if (!others)
        return;
    tf_log_put(TF_CALL_YIELD, 0, 0, NULL, 0, NULL, 0);
    yield();
}
