/*
 * test_side_heap.c: the heap of threads that do not have the turn (iohooks/side_heap.c), with turns that are
 * played here. Behind the doors stands libc's heap, which says when it is used out of turn.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "iohooks/process.h"

/* ---- behind the doors, and turns ---- */

void *behind_malloc(size_t size);
void behind_free(void *p);
void *behind_calloc(size_t n, size_t each);
void *behind_realloc(void *p, size_t size);
void *behind_memalign(size_t align, size_t size);

#define DOOR(name) door_##name
#define LIBC(name) behind_##name
#include "iohooks/side_heap.c"

__thread struct tf_thread *tf_self;
bool tf_many;
static __thread bool mine;
static bool everybody; /* recording has ended: whoever wants has the turn */
static atomic_long behind_live, behind_wrong;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct tf_thread threads[8];

bool tf_turn_is_mine(void)
{
    return !tf_many || everybody || mine;
}

unsigned tf_thread_place(void)
{
    return tf_self->place;
}

long tf_raw(long nr, long a, long b, long c, long d, long e, long f)
{
    int before = errno;
    long r = syscall(nr, a, b, c, d, e, f);
    if (r == -1)
        r = -errno;
    errno = before;
    return r;
}

static void *born(void *p)
{
    behind_wrong += !tf_turn_is_mine();
    behind_live += p != NULL;
    return p;
}

/* At least a pointer's size, which libc's blocks always have, so that a sanitizer may stand behind. */
void *behind_malloc(size_t size)
{
    return born(malloc(size < 8 ? 8 : size));
}

void behind_free(void *p)
{
    behind_wrong += !tf_turn_is_mine() || in_side(p);
    behind_live -= p != NULL;
    free(p);
}

void *behind_calloc(size_t n, size_t each)
{
    return born(n * each < 8 ? calloc(1, 8) : calloc(n, each));
}

void *behind_realloc(void *p, size_t size)
{
    behind_wrong += !tf_turn_is_mine() || in_side(p);
    behind_live -= p && !size;
    behind_live += !p;
    return realloc(p, size && size < 8 ? 8 : size);
}

void *behind_memalign(size_t align, size_t size)
{
    return born(memalign(align, size < 8 ? 8 : size));
}

static int behind_posix_memalign(void **p, size_t align, size_t size)
{
    int r = posix_memalign(p, align, size < 8 ? 8 : size);
    if (!r)
        born(*p);
    return r;
}

static void *behind_valloc(size_t size)
{
    return behind_memalign(4096, size);
}

static int group_setup(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof threads / sizeof *threads; i++)
        threads[i].place = i;
    find_next(); /* what the constructor did: the table is replaced here */
    next.malloc = behind_malloc;
    next.free = behind_free;
    next.calloc = behind_calloc;
    next.realloc = behind_realloc;
    next.memalign = next.aligned_alloc = behind_memalign;
    next.posix_memalign = behind_posix_memalign;
    next.valloc = next.pvalloc = behind_valloc;
    return 0;
}

static int setup(void **state)
{
    (void)state;
    for (unsigned place = 0; place < TF_SIDE_PLACES; place++)
        if (used[place])
            munmap(base_of(place), TF_SIDE_SIZE);
    memset(corners, 0, sizeof corners);
    memset(used, 0, sizeof used);
    behind_live = behind_wrong = 0;
    tf_self = &threads[0];
    tf_many = true;
    mine = everybody = false;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tf_many = false;
    return 0;
}

static void take_turn(void)
{
    pthread_mutex_lock(&turn);
    mine = true;
    tf_side_heap_turn();
}

static void give_turn(void)
{
    mine = false;
    pthread_mutex_unlock(&turn);
}

static uint32_t chance(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Most are small. */
static size_t some_size(uint64_t *seed)
{
    static const size_t most[] = {16, 100, 1000, 5000, 40000, 70000, 200000, 500000};
    uint32_t r = chance(seed) % 1000;
    return chance(seed) % (most[r < 500 ? 0 : r < 700 ? 1 : r < 850 ? 2 : r < 930 ? 3 : 4 + r % 4] + 1);
}

/* ---- a block and what it must hold ---- */

struct thing {
    unsigned char *p;
    size_t size; /* of it are filled */
    unsigned char fill;
};
static atomic_uint fills;
static atomic_long things_wrong;

static void fill(struct thing *t)
{
    t->fill = (unsigned char)(1 + fills++ % 255);
    memset(t->p, t->fill, t->size);
}

static void look(const struct thing *t)
{
    for (size_t i = 0; i < t->size; i++)
        if (t->p[i] != t->fill) {
            things_wrong++;
            return;
        }
}

static void check(bool good)
{
    things_wrong += !good;
}

static void make(struct thing *t, uint64_t *seed)
{
    size_t size = some_size(seed), align = 16;
    bool zero = false;
    void *p = NULL;
    switch (chance(seed) % 8) {
    case 0:
        p = door_calloc(1 + size / 8, 8);
        zero = true;
        break;
    case 1:
        align = 8ul << chance(seed) % 11;
        check(door_posix_memalign(&p, align, size) == 0);
        break;
    case 2:
        align = 16ul << chance(seed) % 10;
        p = door_memalign(align, size);
        break;
    case 3:
        align = 4096;
        p = door_valloc(size);
        break;
    default:
        p = door_malloc(size);
    }
    check(p && (uintptr_t)p % align == 0 && in_side(p) == !tf_turn_is_mine());
    *t = (struct thing){.p = p, .size = size};
    if (zero)
        look(t);
    check(door_malloc_usable_size(p) >= size);
    if (in_side(p) && size)
        t->size = door_malloc_usable_size(p);
    fill(t);
}

static void change(struct thing *t, uint64_t *seed)
{
    size_t size = 1 + some_size(seed);
    struct thing old = *t;
    look(t);
    t->p = door_realloc(t->p, size);
    check(t->p && (uintptr_t)t->p % (t->p == old.p ? 1 : 16) == 0 && door_malloc_usable_size(t->p) >= size);
    t->size = old.size < size ? old.size : size;
    look(t);
    t->size = size;
    fill(t);
}

static void end(struct thing *t)
{
    look(t);
    errno = 77;
    door_free(t->p);
    check(errno == 77);
    *t = (struct thing){0};
}

static void some_operation(struct thing *t, uint64_t *seed)
{
    if (!t->p)
        make(t, seed);
    else if (chance(seed) % 3 == 0)
        change(t, seed);
    else
        end(t);
}

static void all_good(void)
{
    assert_int_equal(things_wrong, 0);
    assert_int_equal(behind_wrong, 0);
}

/* ---- tests ---- */

static void test_model(void **state)
{
    static struct thing things[600];
    uint64_t seed = 1;
    char *top = NULL;
    (void)state;
    assert_false(tf_side_heap_in_front()); /* here it is not called malloc() */
    for (int round = 0; round < 3; round++) {
        seed = 1;
        for (int i = 0; i < 30000; i++) {
            if (chance(&seed) % 50 == 0)
                mine ? give_turn() : take_turn();
            some_operation(&things[chance(&seed) % 600], &seed);
        }
        for (int i = 0; i < 600; i++)
            if (things[i].p)
                end(&things[i]);
        if (!mine)
            take_turn();
        give_turn();
        all_good();
        assert_int_equal(behind_live, 0);
        /* What was freed is used again. */
        if (round == 1)
            top = corners[0].heap->top;
        else if (round == 2)
            assert_ptr_equal(corners[0].heap->top, top);
    }
}

#define SHARED 400
static struct thing shared[SHARED]; /* by turns */

static void *work(void *arg)
{
    unsigned number = (unsigned)(uintptr_t)arg;
    uint64_t seed = number + 100;
    static __thread struct thing own[100];
    tf_self = &threads[number];
    for (int i = 0; i < 1500; i++) {
        for (int j = chance(&seed) % 20; j > 0; j--)
            some_operation(&own[chance(&seed) % 100], &seed);
        take_turn();
        for (int j = chance(&seed) % 20; j > 0; j--) {
            struct thing *a = &own[chance(&seed) % 100], *b = &shared[chance(&seed) % SHARED], c = *a;
            if (chance(&seed) % 3) {
                some_operation(chance(&seed) % 2 ? a : b, &seed);
            } else {
                *a = *b;
                *b = c;
            }
        }
        give_turn();
    }
    for (int i = 0; i < 100; i++)
        if (own[i].p)
            end(&own[i]);
    take_turn();
    tf_side_heap_ended(tf_self->place);
    give_turn();
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t ids[4];
    (void)state;
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, work, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
    take_turn();
    for (int i = 0; i < SHARED; i++)
        if (shared[i].p)
            end(&shared[i]);
    give_turn();
    all_good();
    assert_int_equal(behind_live, 0);
    /* The places go on with other threads. */
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, work, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
    take_turn();
    for (int i = 0; i < SHARED; i++)
        if (shared[i].p)
            end(&shared[i]);
    for (unsigned i = 1; i <= 4; i++) {
        settle(i);
        assert_null(corners[i].later);
        assert_null(corners[i].inbox);
    }
    give_turn();
    all_good();
    assert_int_equal(behind_live, 0);
}

/*
 * Threads as a recording has them, and as a replay: the turns are the same, but in the recording, a thread
 * does what it does out of turn at any time up to its next turn; in the replay, when that comes. The
 * addresses of all blocks, libc's too, must be the same.
 */
#define PLAYERS 4
#define SECTIONS 250
#define STEPS 12 /* of a section, out of turn, and then as many in turn */
static struct player {
    uint64_t seed;
    int section, step; /* out of turn, it is that far */
    struct thing own[40];
} players[PLAYERS];
struct play {
    uint32_t n[PLAYERS];
    uintptr_t at[PLAYERS][SECTIONS * 2 * STEPS];
    long wrong;
};

static void note(struct play *play, unsigned player, const struct thing *t)
{
    play->at[player][play->n[player]++] = (uintptr_t)t->p;
}

static void play_out(struct play *play, unsigned number)
{
    struct player *player = &players[number];
    struct thing *t = &player->own[chance(&player->seed) % 40];
    tf_self = &threads[number];
    some_operation(t, &player->seed);
    note(play, number, t);
    player->step++;
}

static void play_turn(struct play *play, unsigned number)
{
    struct player *player = &players[number];
    while (player->step < STEPS)
        play_out(play, number);
    tf_self = &threads[number];
    take_turn();
    for (int i = 0; i < STEPS; i++) {
        struct thing *a = &player->own[chance(&player->seed) % 40],
                     *b = &shared[chance(&player->seed) % SHARED], c = *a;
        if (chance(&player->seed) % 3) {
            some_operation(chance(&player->seed) % 2 ? a : b, &player->seed);
        } else {
            *a = *b;
            *b = c;
        }
        note(play, number, a);
    }
    give_turn();
    player->step = 0;
    player->section++;
}

/* In a process of its own, so that every play begins with the same memory. mix 0: as in a replay. */
static void play(struct play *result, uint64_t mix)
{
    pid_t child = fork();
    int status;
    if (!child) {
        uint64_t order = 5;
        fills = 0;
        memset(players, 0, sizeof players);
        for (unsigned i = 0; i < PLAYERS; i++)
            players[i].seed = i;
        for (int turns = 0; turns < PLAYERS * SECTIONS; turns++) {
            unsigned who = chance(&order) % PLAYERS;
            while (players[who].section == SECTIONS)
                who = (who + 1) % PLAYERS;
            for (unsigned i = mix ? chance(&mix) % 40 : 0; i > 0; i--) {
                unsigned other = chance(&mix) % PLAYERS;
                if (players[other].section < SECTIONS && players[other].step < STEPS)
                    play_out(result, other);
            }
            play_turn(result, who);
        }
        result->wrong = things_wrong + behind_wrong;
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(result->wrong, 0);
}

static void test_same_addresses(void **state)
{
    size_t size = sizeof(struct play);
    struct play *plays = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    (void)state;
    assert_ptr_not_equal(plays, MAP_FAILED);
    play(&plays[0], 0);
    for (unsigned i = 0; i < PLAYERS; i++)
        assert_int_equal(plays[0].n[i], SECTIONS * 2 * STEPS);
    for (uint64_t mix = 1; mix <= 6; mix++) {
        memset(&plays[1], 0, size);
        play(&plays[1], mix);
        assert_memory_equal(&plays[0], &plays[1], size);
    }
    munmap(plays, 2 * size);
}

static void test_moved(void **state)
{
    (void)state;
    /* libc's, out of turn: moved, and freed at the next turn. */
    take_turn();
    char *p = door_malloc(100), *q = door_malloc(100), *r;
    strcpy(p, "kept");
    strcpy(q, "kept");
    assert_false(in_side(p));
    give_turn();
    r = door_realloc(p, 5000);
    assert_true(in_side(r));
    assert_string_equal(r, "kept");
    assert_ptr_equal(door_realloc(q, 90), q); /* it fits */
    assert_null(door_realloc(q, 0));
    assert_int_equal(behind_live, 2);
    take_turn();
    assert_int_equal(behind_live, 0);
    /* From the side, in turn: to libc's. */
    p = door_realloc(r, 20000);
    assert_false(in_side(p));
    assert_string_equal(p, "kept");
    p = door_realloc(p, 30000);
    assert_string_equal(p, "kept");
    give_turn();
    door_free(p);
    /* Another's, out of turn: freed by its owner when both have had a turn. */
    p = door_malloc(100);
    strcpy(p, "kept");
    tf_self = &threads[1];
    q = door_realloc(p, 300);
    assert_int_equal(place_of(q), 1);
    assert_string_equal(q, "kept");
    tf_self = &threads[0];
    r = door_malloc(100);
    assert_ptr_not_equal(r, p);
    tf_self = &threads[1];
    take_turn();
    give_turn();
    tf_self = &threads[0];
    assert_ptr_not_equal(door_malloc(100), p); /* it is in the inbox still */
    take_turn();
    give_turn();
    assert_ptr_equal(door_malloc(100), p);
    /* It shrinks, and what is too much goes back. */
    p = door_malloc(1000000);
    strcpy(p, "kept");
    p = door_realloc(p, 100);
    assert_string_equal(p, "kept");
    assert_in_range(door_malloc_usable_size(p), 100, 200);
    assert_int_equal(door_malloc_usable_size(NULL), 0);
    all_good();
}

static size_t resident(char *p, size_t size)
{
    static unsigned char pages[4096];
    char *from = (char *)((uintptr_t)p & -4096ul);
    size_t n = 0, count = (size_t)(p + size - from + 4095) / 4096;
    assert_true(count <= sizeof pages);
    assert_int_equal(mincore(from, count * 4096, pages), 0);
    for (size_t i = 0; i < count; i++)
        n += pages[i] & 1;
    return n;
}

static void test_large(void **state)
{
    size_t mb = 1 << 20;
    (void)state;
    char *a = door_malloc(4 * mb), *b = door_malloc(4 * mb), *c = door_malloc(4 * mb);
    memset(a, 1, 4 * mb);
    memset(b, 1, 4 * mb);
    memset(c, 1, 4 * mb);
    assert_true(resident(b, 4 * mb) >= 1024);
    door_free(b);
    assert_true(resident(b, 4 * mb) <= 3); /* its link, and the neighbours' ends */
    door_free(a);
    /* Both together are one piece now, and zero. */
    char *both = door_calloc(1, 8 * mb);
    assert_ptr_equal(both, a);
    assert_true(resident(both, 8 * mb) < 10);
    for (size_t i = 0; i < 8 * mb; i++)
        if (both[i])
            fail_msg("calloc() is not zero at %zu", i);
    door_free(both);
    /* A part of it. */
    assert_ptr_equal(door_malloc(mb), a);
    assert_true(c[4 * mb - 1] == 1 && c[0] == 1);
    /* Locked pages cannot be given back; they are zero all the same. */
    char *locked = door_malloc(100000);
    memset(locked, 1, 100000);
    if (mlock(locked, 50000) == 0) {
        door_free(locked);
        char *again = door_calloc(1, 100000);
        assert_ptr_equal(again, locked);
        for (size_t i = 0; i < 100000; i++)
            assert_int_equal(again[i], 0);
        munlock(again, 50000);
    }
    all_good();
}

static void test_too_much(void **state)
{
    volatile size_t most = SIZE_MAX;
    size_t piece = TF_SIDE_SIZE / 4;
    void *p[4], *q = (void *)1;
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_non_null(p[i] = door_malloc(piece));
    errno = 0;
    assert_null(door_malloc(piece));
    assert_int_equal(errno, ENOMEM);
    strcpy(p[0], "kept");
    assert_null(door_realloc(p[0], 2 * piece));
    assert_string_equal(p[0], "kept");
    door_free(p[1]);
    assert_ptr_equal(door_malloc(piece), p[1]);
    assert_non_null(door_malloc(1000)); /* there is room for that */
    /* Another thread has its own. */
    tf_self = &threads[1];
    assert_non_null(door_malloc(piece));

    errno = 0;
    assert_null(door_malloc(most));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(door_malloc(most - 20));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(door_calloc(most / 2, 3));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(door_pvalloc(most - 5));
    assert_int_equal(errno, ENOMEM);
    assert_null(door_memalign(64, most - 10));
    errno = 0;
    assert_null(door_memalign(most, 1));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(door_aligned_alloc(48, 1));
    assert_int_equal(errno, EINVAL);
    errno = 5;
    assert_int_equal(door_posix_memalign(&q, 4, 1), EINVAL);
    assert_int_equal(door_posix_memalign(&q, 48, 1), EINVAL);
    assert_int_equal(door_posix_memalign(&q, 0, 1), EINVAL);
    assert_int_equal(door_posix_memalign(&q, 64, most - 100), ENOMEM);
    assert_ptr_equal(q, (void *)1);
    assert_int_equal(errno, 5);
    q = door_pvalloc(1);
    assert_int_equal((uintptr_t)q % 4096, 0);
    assert_true(door_malloc_usable_size(q) >= 4096);
    door_free(q);
    door_free(NULL);
    door_cfree(door_malloc(1));
    assert_int_equal(door_malloc_trim(0), 0);
    all_good();
}

static void test_freed_twice(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        pid_t child = fork();
        int status;
        if (!child) {
            char *p = kind == 2 ? door_memalign(256, 10) : door_malloc(10);
            if (kind) {
                door_free(p);
                door_free(p);
            } else {
                door_free(p + 4);
            }
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

/* What the next thread at the place of thread 1 gets in a forked child; thread 0 forks. */
static uintptr_t after_fork(int section)
{
    static uintptr_t *got;
    int status;
    setup(NULL);
    if (!got)
        got = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(got, MAP_FAILED);
    take_turn();
    char *libcs = door_malloc(10);
    give_turn();
    char *mine_before = door_malloc(100);
    strcpy(mine_before, "mine");
    tf_self = &threads[1];
    char *known = door_malloc(100), *freed = door_malloc(100);
    strcpy(known, "known");
    door_free(freed);
    take_turn();
    give_turn();
    /* What it does now, a replay does not do. */
    for (int i = 0; i < section * 1000; i++)
        memset(door_malloc((size_t)i), 1, (size_t)i);
    if (section) {
        door_free(libcs);
        char *big = door_malloc(1 << 20);
        memset(big, 1, 1 << 20);
        door_free(big);
        tf_self = &threads[2];
        door_malloc(1);
    }
    if (section == 2) /* in the middle of it, more was mapped */
        assert_true(map_more(corners[1].heap->mapped, corners[1].heap->mapped + STEP));
    tf_self = &threads[0];
    take_turn();
    pid_t child = fork();
    if (!child) {
        tf_side_heap_forked();
        check(strcmp(mine_before, "mine") == 0 && strcmp(known, "known") == 0);
        door_free(known);
        door_free(mine_before);
        give_turn();
        check(door_malloc(100) == mine_before);
        tf_self = &threads[2]; /* it was not known of before */
        char *p = door_calloc(1, 100000);
        check(p == base_of(2) + PAGE + sizeof(struct head));
        tf_self = &threads[1];
        take_turn();
        give_turn();
        uintptr_t sum = 0;
        for (int i = 0; i < 3000; i++) {
            p = door_calloc(1, 3ul * (unsigned)i);
            for (int j = 0; j < 3 * i; j++)
                check(!p[j]);
            sum = sum * 31 + (uintptr_t)p;
        }
        *got = sum;
        all_good();
        _exit(things_wrong || behind_wrong);
    }
    if (!section)
        door_free(libcs);
    settle(1);
    give_turn();
    assert_int_equal(behind_live, 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return *got;
}

static void test_fork(void **state)
{
    (void)state;
    uintptr_t without = after_fork(0);
    assert_int_equal(after_fork(1), without);
    assert_int_equal(after_fork(2), without);
}

static void *strange(void *arg)
{
    static __thread struct thing own[50];
    uint64_t seed = (uintptr_t)arg;
    for (int i = 0; i < 10000; i++)
        some_operation(&own[chance(&seed) % 50], &seed);
    for (int i = 0; i < 50; i++)
        if (own[i].p)
            end(&own[i]);
    return NULL;
}

/* Threads that timefork does not know. */
static void test_strangers(void **state)
{
    pthread_t ids[4];
    (void)state;
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, strange, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
    all_good();
    /* What is theirs others can free; it is used again. */
    tf_self = NULL;
    char *p = door_malloc(77);
    tf_self = &threads[0];
    take_turn();
    door_free(p);
    give_turn();
    tf_self = NULL;
    assert_ptr_equal(door_malloc(77), p);
    assert_int_equal(place_of(p), TF_SIDE_STRANGERS);
    all_good();
}

static void *left[4][2000];

static void *free_left(void *arg)
{
    void **blocks = arg;
    tf_self = NULL;
    for (int i = 0; i < 2000; i++)
        if (i % 2)
            door_free(blocks[i]);
        else
            door_free(door_realloc(blocks[i], 10000));
    door_free(door_malloc(10));
    return NULL;
}

/* Nothing is recorded any more: side blocks are freed by all threads at once. */
static void test_loose(void **state)
{
    pthread_t ids[4];
    (void)state;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2000; j++) {
            tf_self = &threads[j % 3];
            left[i][j] = door_malloc(50);
        }
    everybody = true;
    tf_self = &threads[0];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, free_left, left[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
    for (unsigned place = 0; place < 3; place++) {
        size_t n = 0;
        for (void *p = corners[place].inbox; p; memcpy(&p, p, sizeof p))
            n++;
        assert_int_equal(n, 4 * ((2002 - place) / 3));
    }
    assert_int_equal(behind_live, 0);
    /* And when there are no threads at all. */
    everybody = false;
    char *p = door_malloc(60), *q = door_malloc(60);
    tf_many = false;
    assert_true(in_side(p) && in_side(q));
    strcpy(p, "kept");
    assert_true(door_malloc_usable_size(p) >= 60);
    p = door_realloc(p, 600);
    assert_false(in_side(p));
    assert_string_equal(p, "kept");
    door_free(p);
    door_free(q);
    assert_int_equal(behind_live, 0);
    all_good();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_model),     TEST(test_threads),  TEST(test_same_addresses), TEST(test_moved),
        TEST(test_large),     TEST(test_too_much), TEST(test_freed_twice),    TEST(test_fork),
        TEST(test_strangers), TEST(test_loose),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
