/*
 * side_heap.c: malloc and its like, in front of libc's, so that a replay finds the same heap
 * (docs/threads.md). Threads that have the turn allocate from libc's heap, so all calls of it are in one
 * order. A thread that does not have it must leave that heap alone:
 *
 * - What it allocates comes from a heap of its own, at an address that depends only on what it did.
 * - What it frees that is not its own (libc's, or of another such heap) is put on a list and freed when it
 * has the turn again. The link is in the block.
 * - What others free that is its own they free in turn, into its inbox; it looks there when it takes the
 * turn.
 *
 * So a heap changes only by what its thread does, and at its turns, and in a replay, where the native section
 * runs later, it changes in the same way.
 *
 * The doors are called by the dynamic loader before anything is initialised, and for every allocation of
 * every program that the library is preloaded into: while there is one thread they only look at tf_many (and
 * at the address, for free() and its like). "libc's heap" is that of the next malloc in the order of lookup,
 * for the user may have preloaded one. reallocarray() is not here: libc's calls realloc().
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "iohooks/process.h"
#include "iohooks/side_heap.h"

/* The unit test has the doors under other names, and another heap behind them. */
#ifndef DOOR
#define DOOR(name) name
#define LIBC(name) __libc_##name
#endif
#define EXPORTED __attribute__((visibility("default")))
#define UNLIKELY(x) __builtin_expect(x, 0)

#define PAGE 4096ul
#define STEP (1ul << 20)       /* mapped at once, at least */
#define SLAB (256ul << 10)     /* what small blocks are cut from */
#define FINE_MAX 1024ul        /* up to this size a class for every 16 bytes */
#define SMALL_MAX (32ul << 10) /* up to this size four classes for every doubling; larger: pages */
#define FINE_CLASSES 64        /* FINE_MAX / 16 */
#define CLASSES (FINE_CLASSES + 20)
#define ALIGN_MAX (TF_SIDE_SIZE / 2)

/* In front of each block. Of one that is aligned there are two: `back` leads to that of the whole. */
struct head {
    uint64_t size; /* usable bytes behind it */
    uint32_t back; /* bytes to the real one, or 0 */
    uint32_t state;
};
_Static_assert(sizeof(struct head) == 16, "blocks are aligned to 16 bytes");
enum { LIVE = 0x6576696c, FREED = 0x65657266 };

/* Free pages. They are zero, this aside. */
struct run {
    struct run *next; /* behind it, not adjacent */
    size_t size;
};

/* The first page of a place's addresses. Changed only by its own thread, and by who ends it. */
struct heap {
    char *top;     /* behind the last page that was ever given out */
    char *mapped;  /* memory is there up to here */
    char *settled; /* top, when its thread last took the turn: what is above nobody else has seen */
    char *slab, *slab_end;
    struct run *runs; /* by address */
    void *free[CLASSES];
};
_Static_assert(sizeof(struct heap) <= PAGE, "it has one page");

/* What a place has outside of its heap, which may not exist yet. */
static struct corner {
    struct heap *heap;
    void *later, **later_end; /* to be freed in turn, in this order; later_end NULL: empty */
    void *_Atomic inbox;      /* freed by others, newest first */
} corners[TF_SIDE_PLACES];
static bool used[TF_SIDE_PLACES]; /* there is something in its corner, or was */
static atomic_flag strangers_lock = ATOMIC_FLAG_INIT;

/* ---- what is behind the doors ---- */

extern void *LIBC(malloc)(size_t), *LIBC(calloc)(size_t, size_t), *LIBC(realloc)(void *, size_t),
    *LIBC(memalign)(size_t, size_t);
extern void LIBC(free)(void *);

static struct {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    size_t (*malloc_usable_size)(void *);
    int (*malloc_trim)(size_t);
    bool known;
} next = {
    .malloc = LIBC(malloc),
    .free = LIBC(free),
    .calloc = LIBC(calloc),
    .realloc = LIBC(realloc),
    .memalign = LIBC(memalign),
};

static bool in_front;

/* Runs before all other constructors (-z initfirst): nothing of importance has been allocated. */
__attribute__((constructor)) static void find_next(void)
{
#define FIND(name)                                                                                           \
    do {                                                                                                     \
        void *found = dlsym(RTLD_NEXT, #name);                                                               \
        if (found)                                                                                           \
            memcpy(&next.name, &found, sizeof found);                                                        \
    } while (0)
    if (next.known)
        return;
    next.known = true;
    FIND(malloc);
    FIND(free);
    FIND(calloc);
    FIND(realloc);
    FIND(memalign);
    FIND(aligned_alloc);
    FIND(posix_memalign);
    FIND(valloc);
    FIND(pvalloc);
    FIND(malloc_usable_size);
    FIND(malloc_trim);
    Dl_info first, own;
    void *malloc_of_all = dlsym(RTLD_DEFAULT, "malloc");
    in_front = malloc_of_all && dladdr(malloc_of_all, &first) && dladdr(&next, &own) &&
               first.dli_fbase == own.dli_fbase;
}

bool tf_side_heap_in_front(void)
{
    return in_front;
}

/* ---- pages ---- */

static bool in_side(const void *p)
{
    return ((uintptr_t)p >> TF_SIDE_SHIFT) - (TF_SIDE_ADDR >> TF_SIDE_SHIFT) < TF_SIDE_PLACES;
}

static unsigned place_of(const void *p)
{
    return (unsigned)(((uintptr_t)p - TF_SIDE_ADDR) >> TF_SIDE_SHIFT);
}

static char *base_of(unsigned place)
{
    return (char *)(TF_SIDE_ADDR + place * TF_SIDE_SIZE);
}

static bool map_more(char *from, char *to)
{
    long r = tf_sys(SYS_mmap, from, to - from, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    return r == (long)from;
}

static struct heap *make_heap(unsigned place)
{
    char *base = base_of(place);
    struct heap *h = (struct heap *)base;
    if (!map_more(base, base + STEP))
        return NULL;
    h->top = h->settled = base + PAGE;
    h->mapped = base + STEP;
    return corners[place].heap = h;
}

/* Zeros. size: whole pages. NULL: there is no more. */
static char *take_pages(struct heap *h, size_t size)
{
    char *end = (char *)h + TF_SIDE_SIZE;
    for (struct run **at = &h->runs, *run; (run = *at); at = &run->next) {
        if (run->size < size)
            continue;
        if (run->size > size) {
            struct run *rest = (struct run *)((char *)run + size);
            *rest = (struct run){run->next, run->size - size};
            *at = rest;
        } else {
            *at = run->next;
        }
        memset(run, 0, sizeof *run);
        return (char *)run;
    }
    if (size > (size_t)(end - h->top))
        return NULL;
    char *pages = h->top, *to = pages + size;
    if (to > h->mapped) {
        char *step = (char *)(((uintptr_t)to + STEP - 1) & ~(STEP - 1));
        if (!map_more(h->mapped, step))
            return NULL;
        h->mapped = step;
    }
    h->top = to;
    return pages;
}

static void give_pages(struct heap *h, char *pages, size_t size)
{
    struct run **at = &h->runs, *before = NULL, *run = (struct run *)pages;
    if (TF_IS_ERR(tf_sys(SYS_madvise, pages, size, MADV_DONTNEED)))
        memset(pages, 0, size); /* they are locked into memory */
    while (*at && *at < run) {
        before = *at;
        at = &before->next;
    }
    *run = (struct run){*at, size};
    *at = run;
    if (run->next && (char *)run + run->size == (char *)run->next) {
        struct run *behind = run->next;
        *run = (struct run){behind->next, run->size + behind->size};
        memset(behind, 0, sizeof *behind);
    }
    if (before && (char *)before + before->size == (char *)run) {
        *before = (struct run){run->next, before->size + run->size};
        memset(run, 0, sizeof *run);
    }
}

/* ---- blocks ---- */

static unsigned class_of(size_t size, size_t *whole)
{
    if (size <= FINE_MAX) {
        *whole = size ? (size + 15) & ~15ul : 16;
        return (unsigned)(*whole / 16 - 1);
    }
    unsigned log = 63 - (unsigned)__builtin_clzl(size - 1), quarter = ((size - 1) >> (log - 2)) & 3;
    *whole = (quarter + 5ul) << (log - 2);
    return FINE_CLASSES + (log - 10) * 4 + quarter;
}

static struct head *head_of(void *p)
{
    return (struct head *)p - 1;
}

/* NULL: there is no more. *zero: all of it is zero. */
static void *take(struct heap *h, size_t size, bool *zero)
{
    struct head *head;
    size_t whole;
    *zero = false;
    if (size > SMALL_MAX) {
        whole = (size + sizeof *head + PAGE - 1) & ~(PAGE - 1);
        if (size > TF_SIDE_SIZE || !(head = (struct head *)take_pages(h, whole)))
            return NULL;
        *zero = true;
        *head = (struct head){whole - sizeof *head, 0, LIVE};
        return head + 1;
    }
    void **list = &h->free[class_of(size, &whole)], *p = *list;
    if (p) {
        memcpy(list, p, sizeof *list);
        head_of(p)->state = LIVE;
        return p;
    }
    if (whole + sizeof *head > (size_t)(h->slab_end - h->slab)) {
        char *slab = take_pages(h, SLAB);
        if (!slab)
            return NULL;
        h->slab = slab;
        h->slab_end = slab + SLAB;
    }
    head = (struct head *)h->slab;
    h->slab += sizeof *head + whole;
    *head = (struct head){whole, 0, LIVE};
    return head + 1;
}

static void *take_aligned(struct heap *h, size_t align, size_t size)
{
    bool zero;
    if (align <= 16)
        return take(h, size, &zero);
    if (align > ALIGN_MAX || size > TF_SIDE_SIZE)
        return NULL;
    char *p = take(h, size + align, &zero);
    char *at = (char *)(((uintptr_t)p + align - 1) & -align);
    if (at != p) /* then there are 16 bytes between, at least */
        *head_of(at) = (struct head){head_of(p)->size - (size_t)(at - p), (uint32_t)(at - p), LIVE};
    return at;
}

/* The block that p is, or is aligned in. What was freed already, or never was a block, ends the program, as
 * libc does. */
static void *whole_of(void *p)
{
    struct head *head = head_of(p);
    if ((uintptr_t)p % 16 || head->state != LIVE)
        abort();
    return head->back ? (char *)p - head->back : p;
}

static void give(struct heap *h, void *p)
{
    size_t whole;
    void *block = whole_of(p);
    struct head *head = head_of(block);
    head_of(p)->state = FREED;
    if (head->size > SMALL_MAX) {
        give_pages(h, (char *)head, head->size + sizeof *head);
        return;
    }
    void **list = &h->free[class_of(head->size, &whole)];
    head->state = FREED;
    memcpy(block, list, sizeof *list);
    *list = block;
}

/* ---- places ---- */

/* Threads that timefork does not know share a place. */
static void lock_place(unsigned place)
{
    if (place != TF_SIDE_STRANGERS)
        return;
    while (atomic_flag_test_and_set_explicit(&strangers_lock, memory_order_acquire))
        tf_sys(SYS_sched_yield);
}

static void unlock_place(unsigned place)
{
    if (place == TF_SIDE_STRANGERS)
        atomic_flag_clear_explicit(&strangers_lock, memory_order_release);
}

static unsigned own_place(void)
{
    return tf_self ? tf_thread_place() : TF_SIDE_STRANGERS;
}

static void open_inbox(struct corner *corner)
{
    void *p = atomic_exchange_explicit(&corner->inbox, NULL, memory_order_acquire), *link;
    for (; p; p = link) {
        memcpy(&link, p, sizeof link);
        give(corner->heap, p);
    }
}

static void post(void *p)
{
    void *_Atomic *inbox = &corners[place_of(p)].inbox;
    void *link = atomic_load_explicit(inbox, memory_order_relaxed);
    whole_of(p);
    do
        memcpy(p, &link, sizeof link);
    while (
        !atomic_compare_exchange_weak_explicit(inbox, &link, p, memory_order_release, memory_order_relaxed));
}

static void free_later(unsigned place, void *p)
{
    struct corner *corner = &corners[place];
    void *none = NULL;
    memcpy(p, &none, sizeof none);
    lock_place(place);
    used[place] = true;
    *(corner->later_end ? corner->later_end : &corner->later) = p;
    corner->later_end = p;
    unlock_place(place);
}

/* Out of turn. NULL: errno is set. */
static void *side_alloc(size_t align, size_t size, bool clear)
{
    unsigned place = own_place();
    struct corner *corner = &corners[place];
    bool zero = false;
    lock_place(place);
    used[place] = true;
    struct heap *h = corner->heap ? corner->heap : make_heap(place);
    if (h && place == TF_SIDE_STRANGERS) /* they have no turn */
        open_inbox(corner);
    void *p = !h ? NULL : align > 16 ? take_aligned(h, align, size) : take(h, size, &zero);
    unlock_place(place);
    if (!p)
        errno = ENOMEM;
    else if (clear && !zero)
        memset(p, 0, size);
    return p;
}

static void side_free(void *p, bool turn)
{
    unsigned place = own_place(), owner = place_of(p);
    if (owner == place && !(turn && place == TF_SIDE_STRANGERS)) {
        lock_place(place);
        give(corners[place].heap, p);
        unlock_place(place);
    } else if (turn) {
        post(p);
    } else {
        whole_of(p);
        free_later(place, p);
    }
}

/* The turn has been taken, for this place: nobody else changes anything now. */
static void settle(unsigned place)
{
    struct corner *corner = &corners[place];
    void *p = corner->later, *link;
    if (corner->heap) {
        corner->heap->settled = corner->heap->top;
        if (atomic_load_explicit(&corner->inbox, memory_order_relaxed))
            open_inbox(corner);
    }
    corner->later = NULL;
    corner->later_end = NULL;
    for (; p; p = link) {
        memcpy(&link, p, sizeof link);
        if (in_side(p))
            post(p);
        else
            next.free(p);
    }
}

void tf_side_heap_turn(void)
{
    unsigned place = tf_thread_place();
    if (used[place])
        settle(place);
}

void tf_side_heap_ended(unsigned place)
{
    if (used[place])
        settle(place);
}

/*
 * What another thread did since its last turn a replay has not done yet when it comes to the fork: its
 * heap begins anew, above all that others may know of. What is below and was free stays unused, what was to
 * be freed is not.
 */
void tf_side_heap_forked(void)
{
    unsigned own = own_place();
    atomic_flag_clear(&strangers_lock);
    for (unsigned place = 0; place < TF_SIDE_PLACES; place++) {
        struct corner *corner = &corners[place];
        struct heap *h = corner->heap;
        char *base = base_of(place), *from = base;
        if (!used[place] || place == own)
            continue;
        if (h && place == TF_SIDE_STRANGERS) /* they have no turns, and no replay */
            h->settled = h->top;
        if (h && h->settled > base + PAGE) {
            from = h->settled;
            *h = (struct heap){.top = from, .mapped = from, .settled = from};
        } else {
            corner->heap = NULL;
        }
        corner->later = NULL;
        corner->later_end = NULL;
        atomic_store_explicit(&corner->inbox, NULL, memory_order_relaxed);
        if (from < base + TF_SIDE_SIZE)
            tf_sys(SYS_munmap, from, base + TF_SIDE_SIZE - from);
    }
}

/* ---- the doors, when there are threads ---- */

/* Where does the calling thread allocate? */
static bool is_side(void)
{
    return tf_many && !tf_turn_is_mine();
}

static size_t usable(void *p)
{
    if (in_side(p))
        return head_of(p)->size;
    if (UNLIKELY(!next.malloc_usable_size))
        find_next();
    return next.malloc_usable_size(p);
}

static __attribute__((noinline)) void *malloc_many(size_t size)
{
    return is_side() ? side_alloc(0, size, false) : next.malloc(size);
}

static __attribute__((noinline)) void *calloc_many(size_t n, size_t each)
{
    size_t size;
    if (!is_side())
        return next.calloc(n, each);
    if (__builtin_mul_overflow(n, each, &size)) {
        errno = ENOMEM;
        return NULL;
    }
    return side_alloc(0, size, true);
}

static __attribute__((noinline)) void free_many(void *p)
{
    bool side = is_side();
    if (in_side(p))
        side_free(p, !side);
    else if (!side)
        next.free(p);
    else if (p)
        free_later(own_place(), p);
}

static __attribute__((noinline)) void *realloc_many(void *p, size_t size)
{
    bool side = is_side();
    if (!p)
        return side ? side_alloc(0, size, false) : next.malloc(size);
    if (!side && !in_side(p))
        return next.realloc(p, size);
    if (!size) {
        free_many(p);
        return NULL;
    }
    size_t room = usable(p);
    if (size <= room && size >= room / 2)
        return p;
    void *moved = side ? side_alloc(0, size, false) : next.malloc(size);
    if (!moved)
        return NULL;
    memcpy(moved, p, size < room ? size : room);
    free_many(p);
    return moved;
}

static bool is_power_of_2(size_t n)
{
    return n && !(n & (n - 1));
}

static void *side_memalign(size_t align, size_t size)
{
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = 16;
    while (power < align)
        power <<= 1;
    return side_alloc(power, size, false);
}

/* ---- the doors ---- */

EXPORTED void *DOOR(malloc)(size_t size)
{
    return UNLIKELY(tf_many) ? malloc_many(size) : next.malloc(size);
}

EXPORTED void *DOOR(calloc)(size_t n, size_t each)
{
    return UNLIKELY(tf_many) ? calloc_many(n, each) : next.calloc(n, each);
}

EXPORTED void DOOR(free)(void *p)
{
    if (UNLIKELY(tf_many || in_side(p)))
        free_many(p);
    else
        next.free(p);
}

/* Of very old programs. */
EXPORTED void DOOR(cfree)(void *p)
{
    DOOR(free)(p);
}

EXPORTED void *DOOR(realloc)(void *p, size_t size)
{
    return UNLIKELY(tf_many || in_side(p)) ? realloc_many(p, size) : next.realloc(p, size);
}

EXPORTED void *DOOR(memalign)(size_t align, size_t size)
{
    return is_side() ? side_memalign(align, size) : next.memalign(align, size);
}

EXPORTED void *DOOR(aligned_alloc)(size_t align, size_t size)
{
    if (!is_side())
        return next.aligned_alloc ? next.aligned_alloc(align, size) : next.memalign(align, size);
    if (!is_power_of_2(align)) {
        errno = EINVAL;
        return NULL;
    }
    return side_memalign(align, size);
}

EXPORTED int DOOR(posix_memalign)(void **p, size_t align, size_t size)
{
    bool side = is_side();
    int before = errno;
    if (!side && next.posix_memalign)
        return next.posix_memalign(p, align, size);
    if (align % sizeof(void *) || !is_power_of_2(align))
        return EINVAL;
    void *block = side ? side_memalign(align, size) : next.memalign(align, size);
    errno = before; /* it is not used for that */
    if (!block)
        return ENOMEM;
    *p = block;
    return 0;
}

EXPORTED void *DOOR(valloc)(size_t size)
{
    if (!is_side())
        return next.valloc ? next.valloc(size) : next.memalign(PAGE, size);
    return side_memalign(PAGE, size);
}

EXPORTED void *DOOR(pvalloc)(size_t size)
{
    size_t pages;
    if (!is_side() && next.pvalloc)
        return next.pvalloc(size);
    if (__builtin_add_overflow(size, PAGE - 1, &pages)) {
        errno = ENOMEM;
        return NULL;
    }
    pages &= ~(PAGE - 1);
    return is_side() ? side_memalign(PAGE, pages) : next.memalign(PAGE, pages);
}

EXPORTED size_t DOOR(malloc_usable_size)(void *p)
{
    return p ? usable(p) : 0;
}

/* Gives back memory of libc's heap: out of turn, that has to wait for another occasion. */
EXPORTED int DOOR(malloc_trim)(size_t keep)
{
    if (is_side())
        return 0;
    if (UNLIKELY(!next.malloc_trim))
        find_next();
    return next.malloc_trim ? next.malloc_trim(keep) : 0;
}
