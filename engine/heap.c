/*
 * heap.c: a heap of the engine's own, for what has to be allocated in the program's timeline when a replaying
 * process watches it (instrumentation tables, callbacks, frame objects): the program's own objects keep the
 * addresses that they had in the recording.
 *
 * It stands in front of Python's three allocators, and is asked only between tf_divert_begin() and
 * tf_divert_end(); what was allocated there comes back to it whenever it is freed. Memory is .bss: what is
 * not used costs nothing. Blocks that were freed are used again for the same size.
 */
#include "engine/local.h"

#define HEAP_SIZE (128ul << 20)
#define CLASSES 256 /* of 16 bytes each; larger blocks are not used again */

static char heap[HEAP_SIZE] __attribute__((aligned(16)));
static size_t heap_used;
static void *free_blocks[CLASSES];
static bool diverting;
static PyMemAllocatorEx below[3];

/* In front of each block; 16 bytes, for the alignment of what follows. */
struct head {
    size_t size, unused;
};

static bool in_heap(const void *p)
{
    return (const char *)p >= heap && (const char *)p < heap + HEAP_SIZE;
}

static struct head *head_of(void *p)
{
    return (struct head *)((char *)p - sizeof(struct head));
}

static void *heap_alloc(size_t size)
{
    size_t room = (size + 15) & ~(size_t)15, class = room / 16;
    if (size > HEAP_SIZE || room + sizeof(struct head) > HEAP_SIZE - heap_used)
        return NULL;
    char *p;
    if (class < CLASSES && free_blocks[class]) {
        p = free_blocks[class];
        memcpy(&free_blocks[class], p, sizeof(void *));
    } else {
        p = heap + heap_used + sizeof(struct head);
        heap_used += room + sizeof(struct head);
    }
    *head_of(p) = (struct head){.size = size};
    return p;
}

static void heap_free(void *p)
{
    size_t class = ((head_of(p)->size + 15) & ~(size_t)15) / 16;
    if (class > 0 && class < CLASSES) {
        memcpy(p, &free_blocks[class], sizeof(void *));
        free_blocks[class] = p;
    }
}

static void *div_malloc(void *ctx, size_t size)
{
    PyMemAllocatorEx *a = ctx;
    void *p = diverting ? heap_alloc(size) : NULL;
    return p ? p : a->malloc(a->ctx, size);
}

static void *div_calloc(void *ctx, size_t n, size_t size)
{
    PyMemAllocatorEx *a = ctx;
    void *p = diverting && (size == 0 || n <= HEAP_SIZE / size) ? heap_alloc(n * size) : NULL;
    return p ? memset(p, 0, n * size) : a->calloc(a->ctx, n, size);
}

static void *div_realloc(void *ctx, void *old, size_t size)
{
    PyMemAllocatorEx *a = ctx;
    if (!old)
        return div_malloc(ctx, size);
    if (!in_heap(old))
        return a->realloc(a->ctx, old, size);
    size_t old_size = head_of(old)->size;
    void *p = div_malloc(ctx, size);
    if (p) {
        memcpy(p, old, old_size < size ? old_size : size);
        heap_free(old);
    }
    return p;
}

static void div_free(void *ctx, void *p)
{
    PyMemAllocatorEx *a = ctx;
    if (in_heap(p))
        heap_free(p);
    else
        a->free(a->ctx, p);
}

/*
 * The engine is built with the headers of one patch version and used with others of the same minor version.
 * The internal structures that are used here have not changed within one so far; if they ever do, this says
 * so in time.
 */
__attribute__((noreturn, cold)) void tf_other_layout(void)
{
    tf_state.core->divergence("this engine was built with the headers of Python " PY_VERSION
                              ", and the structures of Python %.16s are "
                              "others: build timefork again with the headers of this Python",
                              Py_GetVersion());
    abort();
}

static void check_gc_layout(PyThreadState *ts)
{
    int was = PyGC_Disable();
    bool off = ts->interp->gc.enabled == 0;
    PyGC_Enable();
    bool on = ts->interp->gc.enabled == 1;
    if (!was)
        PyGC_Disable();
    if (!off || !on)
        tf_other_layout();
}

struct tf_diverted tf_divert_begin(PyThreadState *ts)
{
    static const PyMemAllocatorDomain domains[3] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    static bool installed;
    for (int i = 0; i < 3 && !installed; i++) {
        PyMem_GetAllocator(domains[i], &below[i]);
        PyMemAllocatorEx a = {&below[i], div_malloc, div_calloc, div_realloc, div_free};
        PyMem_SetAllocator(domains[i], &a);
    }
    if (!installed)
        check_gc_layout(ts);
    installed = true;
    diverting = true;
    struct _gc_runtime_state *gc = &ts->interp->gc;
    struct tf_diverted saved = {gc->enabled, gc->generations[0].count};
    gc->enabled = 0;
    return saved;
}

void tf_divert_end(PyThreadState *ts, struct tf_diverted saved)
{
    ts->interp->gc.enabled = saved.gc_enabled;
    ts->interp->gc.generations[0].count = saved.gc_count;
    diverting = false;
}

bool tf_heap_owns(const void *p)
{
    return in_heap(p);
}
