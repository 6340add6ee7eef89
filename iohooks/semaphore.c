/*
 * semaphore.c: semaphores that processes share (sem_open: the locks of multiprocessing). They are memory that
 * others change at any time, so their bytes cannot be replayed; but a program never looks at the bytes. What
 * it does with them is one of six operations, which stand here in front of libc's: each is logged as a whole,
 * like a system call, and answered from the log in replay.
 *
 * Only semaphores that lie in a map of /dev/shm/sem.* are meant. All others are the process's own memory, and
 * go to libc: those that CPython 3.11 and 3.12 make its locks of pay a load and a comparison.
 *
 * To wait, libc's function will not do: a signal that comes after it has looked at the value and before it
 * enters the kernel would be kept, and nobody would wake it. raw.S closes that gap for calls that are made
 * there. So the wait is written here, on libc's own representation (glibc 2.21 and later, 64-bit: the value
 * in the low half of the first word, the number of those who wait in the high half), and works together with
 * libc's functions in other processes.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <string.h>
#include <sys/syscall.h>
#include "iohooks/special.h"

#define MAPS_MAX 4096 /* a power of two; half of them may be used */
#define PAGE 4096ul
#define WAITER (1ul << 32)

/* A page with a semaphore, and what the program last knew of its value. Found by its number; linear probing.
 */
struct page {
    uintptr_t from; /* 0: free; 1: was used */
    uint32_t value; /* of the semaphore at its beginning */
};
static struct page pages[MAPS_MAX];
static int mapped;

static int (*real_wait)(sem_t *), (*real_trywait)(sem_t *), (*real_post)(sem_t *),
    (*real_getvalue)(sem_t *, int *);
static int (*real_timedwait)(sem_t *, const struct timespec *);
static int (*real_clockwait)(sem_t *, clockid_t, const struct timespec *);

static void find(void *to, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(to, &found, sizeof found);
}

void tf_semaphore_start(void)
{
    find(&real_wait, "sem_wait");
    find(&real_trywait, "sem_trywait");
    find(&real_post, "sem_post");
    find(&real_getvalue, "sem_getvalue");
    find(&real_timedwait, "sem_timedwait");
    find(&real_clockwait, "sem_clockwait");
}

static struct page *page_of(uintptr_t at)
{
    uintptr_t from = at & ~(PAGE - 1);
    for (size_t i = from / PAGE, n = 0; n < MAPS_MAX; i++, n++) {
        struct page *p = &pages[i % MAPS_MAX];
        if (p->from == from)
            return p;
        if (!p->from)
            return NULL;
    }
    return NULL;
}

bool tf_semaphore_map(uintptr_t from, size_t len)
{
    if (len > PAGE || mapped >= MAPS_MAX / 2)
        return false;
    for (size_t i = from / PAGE;; i++) {
        struct page *p = &pages[i % MAPS_MAX];
        if (p->from > 1)
            continue;
        p->from = from;
        p->value = *(uint32_t *)from;
        mapped++;
        return true;
    }
}

void tf_semaphore_unmap(uintptr_t from, size_t len)
{
    if (!mapped)
        return;
    for (int i = 0; i < MAPS_MAX; i++)
        if (pages[i].from >= (from & ~(PAGE - 1)) && pages[i].from < from + len && pages[i].from > 1) {
            pages[i].from = 1;
            mapped--;
        }
    if (!mapped) /* or the places that were used would make every search longer */
        memset(pages, 0, sizeof pages);
}

/* ---- the operations themselves: 0 or -errno ---- */

static uint64_t load(sem_t *sem)
{
    return __atomic_load_n((uint64_t *)sem, __ATOMIC_ACQUIRE);
}

static bool change(sem_t *sem, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n((uint64_t *)sem, &from, to, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static long try_wait(sem_t *sem)
{
    for (uint64_t d; (uint32_t)(d = load(sem));)
        if (change(sem, d, d - 1))
            return 0;
    return -EAGAIN;
}

/* While it lasts, no checkpoint is taken: where it would go on is not in memory. */
static long wait_outside(const struct tf_call *call)
{
    bool mine = tf_many && tf_turn_is_mine();
    if (!tf_many)
        return tf_true_call(call);
    bool keeps = tf_self->keeps;
    if (mine)
        tf_turn_release();
    long r =
        tf_raw_wait((long)call->nr, call->a[0], call->a[1], call->a[2], call->a[3], call->a[4], call->a[5]);
    if (mine)
        tf_turn_take_again();
    tf_self->keeps = keeps;
    return r == -EINTR && tf_signal_restarts(call->nr) ? TF_RESTART : r == -513 ? TF_RESTART : r;
}

static long wait_until(sem_t *sem, clockid_t clock, const struct timespec *until)
{
    int op = FUTEX_WAIT_BITSET | (clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
    if (until && (until->tv_nsec < 0 || until->tv_nsec >= 1000000000))
        return -EINVAL;
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
        return -EINVAL;
    if (try_wait(sem) == 0)
        return 0;
    __atomic_add_fetch((uint64_t *)sem, WAITER, __ATOMIC_RELAXED);
    for (;;) {
        uint64_t d = load(sem);
        if ((uint32_t)d) {
            if (change(sem, d, d - 1 - WAITER))
                return 0;
            continue;
        }
        struct tf_call wait = {.nr = SYS_futex,
                               .a = {(long)sem, op, 0, (long)until, 0, FUTEX_BITSET_MATCH_ANY}};
        long r = until && until->tv_sec < 0 ? -ETIMEDOUT : wait_outside(&wait);
        if (r == TF_RESTART && until)
            r = -EINTR; /* one that waits for a time is not made again (signal(7)) */
        if (r != 0 && r != -EAGAIN) {
            __atomic_sub_fetch((uint64_t *)sem, WAITER, __ATOMIC_RELAXED);
            return r;
        }
    }
}

static long post(sem_t *sem)
{
    uint64_t d;
    do {
        d = load(sem);
        if ((uint32_t)d == SEM_VALUE_MAX)
            return -EOVERFLOW;
    } while (!change(sem, d, d + 1));
    if (d / WAITER)
        tf_sys(SYS_futex, sem, FUTEX_WAKE, 1);
    return 0;
}

static long perform(const struct tf_call *call)
{
    sem_t *sem = (sem_t *)call->a[0];
    switch (call->nr) {
    case TF_CALL_SEM_WAIT:
        return wait_until(sem, CLOCK_REALTIME, NULL);
    case TF_CALL_SEM_TRYWAIT:
        return try_wait(sem);
    case TF_CALL_SEM_TIMEDWAIT:
        return wait_until(sem, CLOCK_REALTIME, (const struct timespec *)call->a[1]);
    case TF_CALL_SEM_CLOCKWAIT:
        return wait_until(sem, (clockid_t)call->a[1], (const struct timespec *)call->a[2]);
    case TF_CALL_SEM_POST:
        return post(sem);
    default: /* its value is logged with every one of them */
        return 0;
    }
}

/* ---- logged ---- */

static int operate(unsigned nr, struct page *page, sem_t *sem, long second, long third, int *value_out)
{
    struct tf_call call = {.nr = nr, .a = {(long)sem, second, third}};
    const struct tf_call_row *row = tf_call_row(nr);
    uint8_t args[128];
    long r;

    if (tf.mode == TF_LOOKS) { /* asking changes nothing */
        if (nr != TF_CALL_SEM_GETVALUE) {
            errno = EPERM;
            return -1;
        }
        *value_out = (int)page->value;
        return 0;
    }
    bool mine = tf_turn_is_mine();
    do {
        tf_self->inside++;
        if (!mine)
            tf_turn_take(false, TF_TURN_PLAIN);
        size_t len = tf_args_encode(row, &call, args);
        if (tf.mode == TF_REPLAYS) {
            const struct tf_outside *e = tf_log_take(nr, args, len);
            if (e->data_len == sizeof page->value)
                memcpy(&page->value, tf_outside_data(e), sizeof page->value);
            r = e->result;
        } else {
            r = perform(&call);
            page->value = (uint32_t)load(sem);
            struct iovec data = {&page->value, sizeof page->value};
            tf_log_put(nr, 0, r, args, len, &data, 1);
        }
        if (!mine)
            tf_turn_release();
        tf_self->inside--;
        if (tf.mode == TF_REPLAYS)
            tf_stop_at_all();
        tf_signal_safe_point(TF_AFTER_CALL);
    } while (r == TF_RESTART);
    if (value_out)
        *value_out = (int)page->value;
    if (TF_IS_ERR(r)) {
        errno = (int)-r;
        return -1;
    }
    return 0;
}

/* The page, if the operation is to be logged. */
static struct page *shared(const sem_t *sem)
{
    if (!real_wait) /* a process that is not recorded, but has this library in front (--follow) */
        tf_semaphore_start();
    if (!mapped || (tf.mode != TF_RECORDS && tf.mode != TF_REPLAYS && tf.mode != TF_LOOKS))
        return NULL;
    struct page *page = page_of((uintptr_t)sem);
    return page && page->from == (uintptr_t)sem ? page : NULL;
}

/* ---- the others, while there are threads: they change in turn ---- */

/* Is it one whose order is kept? As long as there is one thread, it is what it is. When recording has ended,
 * there may be some that sleep here. */
static bool ordered(void)
{
    return tf_many && tf.mode != TF_LOOKS && tf.mode != TF_ARMS;
}

static int fails(int error)
{
    errno = error;
    return -1;
}

/* Python wants the GIL next: it keeps the turn until then. */
static void end(bool mine, const void *caller)
{
    if (mine)
        return;
    if (tf_in_python(caller))
        tf_self->keeps = true;
    else
        tf_turn_release();
}

static bool take_one(sem_t *sem)
{
    return try_wait(sem) == 0;
}

/* How many sleep, by a hash of the address: not in the semaphore, where a replay would find another number.
 */
static uint32_t sleepers[1024];

static uint32_t *sleepers_of(const sem_t *sem)
{
    return &sleepers[((uintptr_t)sem >> 4) % 1024];
}

static enum tf_turn sleep_for(sem_t *sem, clockid_t clock, const struct timespec *until)
{
    __atomic_add_fetch(sleepers_of(sem), 1, __ATOMIC_SEQ_CST);
    enum tf_turn why = tf_turn_sleep((uint32_t *)sem, 0, clock == CLOCK_REALTIME, until);
    __atomic_sub_fetch(sleepers_of(sem), 1, __ATOMIC_SEQ_CST);
    return why;
}

static int wait_in_turn(sem_t *sem, clockid_t clock, const struct timespec *until, const void *caller)
{
    enum tf_turn why = TF_TURN_PLAIN;
    bool mine = tf_turn_is_mine();
    int error = 0;
    if (until && (until->tv_nsec < 0 || until->tv_nsec >= 1000000000))
        return fails(EINVAL);
    if (!mine && !(uint32_t)load(sem))
        why = sleep_for(sem, clock, until);
    for (;;) {
        why = tf_turn_take(false, why);
        if (take_one(sem))
            break;
        if (why != TF_TURN_PLAIN) {
            error = why == TF_TURN_TIMEOUT ? ETIMEDOUT : EINTR;
            break;
        }
        why = sleep_for(sem, clock, until);
    }
    end(mine, caller);
    return error ? fails(error) : 0;
}

static int post_in_turn(sem_t *sem, const void *caller)
{
    bool mine = tf_turn_is_mine();
    if (!mine)
        tf_turn_take(false, TF_TURN_PLAIN);
    uint64_t d = load(sem);
    int error = (uint32_t)d == SEM_VALUE_MAX ? EOVERFLOW : 0;
    if (!error)
        __atomic_add_fetch((uint64_t *)sem, 1, __ATOMIC_SEQ_CST);
    if (!error && __atomic_load_n(sleepers_of(sem), __ATOMIC_SEQ_CST) && tf.mode != TF_REPLAYS)
        tf_sys(SYS_futex, sem, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
    end(mine, caller);
    return error ? fails(error) : 0;
}

static int try_in_turn(sem_t *sem, const void *caller)
{
    bool mine = tf_turn_is_mine();
    if (!mine)
        tf_turn_take(false, TF_TURN_PLAIN);
    bool got = take_one(sem);
    end(mine, caller);
    return got ? 0 : fails(EAGAIN);
}

#define CALLER __builtin_return_address(0)
#define DOOR __attribute__((visibility("default")))

DOOR int sem_wait(sem_t *sem)
{
    struct page *page = shared(sem);
    return page        ? operate(TF_CALL_SEM_WAIT, page, sem, 0, 0, NULL)
           : ordered() ? wait_in_turn(sem, CLOCK_MONOTONIC, NULL, CALLER)
                       : real_wait(sem);
}

DOOR int sem_trywait(sem_t *sem)
{
    struct page *page = shared(sem);
    return page        ? operate(TF_CALL_SEM_TRYWAIT, page, sem, 0, 0, NULL)
           : ordered() ? try_in_turn(sem, CALLER)
                       : real_trywait(sem);
}

DOOR int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until)
{
    struct page *page = shared(sem);
    return page        ? operate(TF_CALL_SEM_TIMEDWAIT, page, sem, (long)until, 0, NULL)
           : ordered() ? wait_in_turn(sem, CLOCK_REALTIME, until, CALLER)
                       : real_timedwait(sem, until);
}

DOOR int sem_clockwait(sem_t *restrict sem, clockid_t clock, const struct timespec *restrict until)
{
    struct page *page = shared(sem);
    return page        ? operate(TF_CALL_SEM_CLOCKWAIT, page, sem, clock, (long)until, NULL)
           : ordered() ? wait_in_turn(sem, clock, until, CALLER)
                       : real_clockwait(sem, clock, until);
}

DOOR int sem_post(sem_t *sem)
{
    struct page *page = shared(sem);
    return page        ? operate(TF_CALL_SEM_POST, page, sem, 0, 0, NULL)
           : ordered() ? post_in_turn(sem, CALLER)
                       : real_post(sem);
}

DOOR int sem_getvalue(sem_t *restrict sem, int *restrict value)
{
    struct page *page = shared(sem);
    return page ? operate(TF_CALL_SEM_GETVALUE, page, sem, 0, 0, value) : real_getvalue(sem, value);
}
