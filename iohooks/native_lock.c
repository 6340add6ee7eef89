/*
 * native_lock.c: locks of native code (sqlite's, OpenSSL's, those of C++), while there are threads. What they
 * guard is used by several threads out of turn, so who has which lock when decides what comes of it.
 *
 * A lock is taken in turn, and is free at that moment; so the order of turns is the order in which locks are
 * taken. What is done with it then, and the unlocking, need no turn. A lock that is not free is an event,
 * TF_CALL_BUSY: the thread waits for it out of turn, in libc's function, and takes the turn when it has it.
 * Others that want it meanwhile find it busy, in turn.
 *
 * In replay a thread that wants a lock which is still another one's lets that one run until it has unlocked
 * it: its turns up to there came before (turn.c, give_way()).
 *
 * A condition variable gives the mutex back and takes it again inside libc. While recording, the turn is
 * taken behind that, with the mutex. In replay nothing is waited for but that turn: what the thread waited
 * for is true then. Rwlocks are the same as mutexes.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "iohooks/process.h"

typedef int lock_fn(void *);

enum {
    MUTEX_LOCK,
    MUTEX_TRYLOCK,
    MUTEX_UNLOCK,
    READ,
    TRY_READ,
    WRITE,
    TRY_WRITE,
    MUTEX_TIMED,
    MUTEX_CLOCK,
    ONCE,
    COND_WAIT,
    COND_TIMED,
    COND_CLOCK,
    FUNCTIONS
};
static void *functions[FUNCTIONS];

static void *find(int which)
{
    static const struct {
        const char *name, *version;
    } names[FUNCTIONS] = {
        [MUTEX_LOCK] = {"pthread_mutex_lock", NULL},
        [MUTEX_TRYLOCK] = {"pthread_mutex_trylock", NULL},
        [MUTEX_UNLOCK] = {"pthread_mutex_unlock", NULL},
        [READ] = {"pthread_rwlock_rdlock", NULL},
        [TRY_READ] = {"pthread_rwlock_tryrdlock", NULL},
        [WRITE] = {"pthread_rwlock_wrlock", NULL},
        [TRY_WRITE] = {"pthread_rwlock_trywrlock", NULL},
        [MUTEX_TIMED] = {"pthread_mutex_timedlock", NULL},
        [MUTEX_CLOCK] = {"pthread_mutex_clocklock", NULL},
        [ONCE] = {"pthread_once", NULL},
        [COND_WAIT] = {"pthread_cond_wait", "GLIBC_2.3.2"}, /* an older one has another structure */
        [COND_TIMED] = {"pthread_cond_timedwait", "GLIBC_2.3.2"},
        [COND_CLOCK] = {"pthread_cond_clockwait", NULL},
    };
    if (!functions[which])
        functions[which] = names[which].version ? dlvsym(RTLD_NEXT, names[which].name, names[which].version)
                                                : dlsym(RTLD_NEXT, names[which].name);
    return functions[which];
}

static int call(int which, void *lock)
{
    return ((lock_fn *)find(which))(lock);
}

/* In our own code nothing of the program's is locked. */
static bool is_followed(void)
{
    return tf_many && !tf_self->inside && (tf.mode == TF_RECORDS || tf.mode == TF_REPLAYS);
}

static bool begin(void)
{
    bool mine = tf_turn_is_mine();
    if (!mine)
        tf_turn_take(false, TF_TURN_PLAIN);
    tf_self->locks++;
    return mine;
}

static void end(bool mine)
{
    if (!mine)
        tf_turn_release();
}

/* Replay: has the log that the lock was not free? Record: says so. */
static bool is_busy(const void *lock, bool busy)
{
    const uint64_t args[2] = {(uint64_t)(uintptr_t)lock, tf_self->locks};
    if (tf.mode != TF_REPLAYS) {
        if (busy)
            tf_log_put(TF_CALL_BUSY, 0, 0, args, sizeof args, NULL, 0);
        return busy;
    }
    const struct tf_outside *e = tf_log_peek();
    if (!e || e->call != TF_CALL_BUSY || e->frame != tf_frames() || e->args_len != sizeof args ||
        memcmp(tf_outside_args(e), args, sizeof args) != 0)
        return false;
    tf_log_take(TF_CALL_BUSY, args, sizeof args);
    return true;
}

/* Waits for a lock that is busy, out of turn. */
static int wait_for(int which, void *lock)
{
    tf_turn_release();
    int r = tf.mode == TF_REPLAYS ? 0 : call(which, lock);
    tf_turn_take(false, TF_TURN_PLAIN);
    return tf.mode == TF_REPLAYS ? call(which, lock) : r;
}

static int take(void *lock, int waits, int tries)
{
    bool mine = begin();
    int r = tf.mode == TF_REPLAYS ? EBUSY : call(tries, lock);
    if (is_busy(lock, r == EBUSY))
        r = wait_for(waits, lock);
    else if (tf.mode == TF_REPLAYS)
        r = call(waits, lock); /* another one may still have it: it lets it go now */
    end(mine);
    return r;
}

static int try(void *lock, int waits, int tries)
{
    bool mine = begin();
    int r = tf.mode == TF_REPLAYS ? EBUSY : call(tries, lock);
    if (!is_busy(lock, r == EBUSY) && tf.mode == TF_REPLAYS)
        r = call(waits, lock);
    end(mine);
    return r;
}

int tf_native_lock(void *mutex)
{
    return is_followed() ? take(mutex, MUTEX_LOCK, MUTEX_TRYLOCK) : call(MUTEX_LOCK, mutex);
}

#define DOOR __attribute__((visibility("default")))

DOOR int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    return is_followed() ? try(mutex, MUTEX_LOCK, MUTEX_TRYLOCK) : call(MUTEX_TRYLOCK, mutex);
}

DOOR int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    return is_followed() ? take(lock, READ, TRY_READ) : call(READ, lock);
}

DOOR int pthread_rwlock_tryrdlock(pthread_rwlock_t *lock)
{
    return is_followed() ? try(lock, READ, TRY_READ) : call(TRY_READ, lock);
}

DOOR int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
    return is_followed() ? take(lock, WRITE, TRY_WRITE) : call(WRITE, lock);
}

DOOR int pthread_rwlock_trywrlock(pthread_rwlock_t *lock)
{
    return is_followed() ? try(lock, WRITE, TRY_WRITE) : call(TRY_WRITE, lock);
}

/* With a time limit: until when, and of which clock (-1: what timedlock means). */
static int take_until(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until)
{
    typedef int timed_fn(pthread_mutex_t *, const struct timespec *);
    typedef int clock_fn(pthread_mutex_t *, clockid_t, const struct timespec *);
    bool follows = is_followed(), mine = follows && begin(), again = follows && tf.mode == TF_REPLAYS;
    int r = again ? EBUSY : follows ? call(MUTEX_TRYLOCK, mutex) : EBUSY;
    if (!follows || is_busy(mutex, r == EBUSY)) {
        if (follows)
            tf_turn_release();
        if (!again)
            r = clock == -1 ? ((timed_fn *)find(MUTEX_TIMED))(mutex, until)
                            : ((clock_fn *)find(MUTEX_CLOCK))(mutex, clock, until);
        enum tf_turn why = r == ETIMEDOUT && !again ? TF_TURN_TIMEOUT : TF_TURN_PLAIN;
        if (follows)
            why = tf_turn_take(false, why);
        if (again)
            r = why == TF_TURN_TIMEOUT ? ETIMEDOUT : call(MUTEX_LOCK, mutex);
    } else if (again) {
        r = call(MUTEX_LOCK, mutex);
    }
    if (follows)
        end(mine);
    return r;
}

DOOR int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
    return take_until(mutex, -1, until);
}

DOOR int pthread_mutex_clocklock(pthread_mutex_t *restrict mutex, clockid_t clock,
                                 const struct timespec *restrict until)
{
    return take_until(mutex, clock, until);
}

/* What is done once is done by the thread whose turn it is; who finds it done has its next turn after that.
 */
DOOR int pthread_once(pthread_once_t *control, void (*routine)(void))
{
    typedef int once_fn(pthread_once_t *, void (*)(void));
    bool done = __atomic_load_n(control, __ATOMIC_ACQUIRE) == 2; /* glibc's __PTHREAD_ONCE_DONE */
    if (done || !is_followed())
        return ((once_fn *)find(ONCE))(control, routine);
    bool mine = begin();
    int r = ((once_fn *)find(ONCE))(control, routine);
    end(mine);
    return r;
}

/* ---- condition variables ---- */

static int wait_really(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                       const struct timespec *until)
{
    typedef int wait_fn(pthread_cond_t *, pthread_mutex_t *);
    typedef int timed_fn(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    typedef int clock_fn(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!until)
        return ((wait_fn *)find(COND_WAIT))(cond, mutex);
    return clock == -1 ? ((timed_fn *)find(COND_TIMED))(cond, mutex, until)
                       : ((clock_fn *)find(COND_CLOCK))(cond, mutex, clock, until);
}

static int wait_on(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                   const struct timespec *until)
{
    if (tf_gil_waits_on(cond))
        return 0;
    if (!is_followed())
        return wait_really(cond, mutex, clock, until);
    bool mine = tf_turn_is_mine(), again = tf.mode == TF_REPLAYS;
    int r = 0;
    tf_turn_release();
    if (again)
        call(MUTEX_UNLOCK, mutex);
    else
        r = wait_really(cond, mutex, clock, until);
    enum tf_turn why = tf_turn_take(false, !again && r == ETIMEDOUT ? TF_TURN_TIMEOUT : TF_TURN_PLAIN);
    if (again) {
        r = call(MUTEX_LOCK, mutex);
        if (r == 0 && why == TF_TURN_TIMEOUT)
            r = ETIMEDOUT;
    }
    end(mine);
    return r;
}

DOOR int pthread_cond_wait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex)
{
    return wait_on(cond, mutex, -1, NULL);
}

DOOR int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                                const struct timespec *restrict until)
{
    return wait_on(cond, mutex, -1, until);
}

DOOR int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                                clockid_t clock, const struct timespec *restrict until)
{
    return wait_on(cond, mutex, clock, until);
}
