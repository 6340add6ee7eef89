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
    size_t size;
    void *shadow; /* tf_heap_shadow() */
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
    PyMemAllocatorEx *objects = &below[PYMEM_DOMAIN_OBJ];
    if (head_of(p)->shadow)
        objects->free(objects->ctx, head_of(p)->shadow);
    head_of(p)->shadow = NULL;
    size_t class = ((head_of(p)->size + 15) & ~(size_t)15) / 16;
    if (class > 0 && class < CLASSES) {
        memcpy(p, &free_blocks[class], sizeof(void *));
        free_blocks[class] = p;
    }
}

/* ---- Numbers that the interpreter makes for our callbacks.
 *
 * A line or an offset above 256 is put into an int for each event, and thrown away after it. Such an int must
 * not come from the program's heap either: the block is free again at once, but in between a new page or
 * arena may have been needed, one that the recording needed later or never. They are known by who asks: by
 * the return address in the caller of PyLong_FromLong() or PyLong_FromSsize_t(), which stands at a fixed
 * distance on the stack. The distances are measured once, with calls of our own; the callers are learned when
 * such a number arrives in a callback. Where it cannot be measured (another compiler), these numbers come
 * from the program's heap.
 */

#define LEARNED 8
#define WORDS 48 /* of the stack, that are looked at */
static struct {
    const char *measured_by;   /* the function of ours that asks for a number right now */
    const char *measured_from; /* the function that it asks */
    /* The ways to a number: the return address that div_malloc() has; how far from its frame, in words, the
     * one of PyLong_From*()'s caller stands; and, where a function comes in between, the one in
     * PyLong_From*() itself. */
    struct way {
        const void *inside;
        int distance, between; /* between: -1: none */
        const void *between_value;
    } ways[2];
    int n_ways;
    const void *callers[LEARNED];
    int n_callers;
    /* The last two numbers that were made and not known. */
    struct {
        const void *number, *caller;
    } last[2];
} numbers;

static __attribute__((noinline)) PyObject *number_from_long(long value)
{
    PyObject *number = PyLong_FromLong(value);
    __asm__ volatile("" : "+r"(number)); /* no tail call: the return address is looked for */
    return number;
}

static __attribute__((noinline)) PyObject *number_from_ssize(Py_ssize_t value)
{
    PyObject *number = PyLong_FromSsize_t(value);
    __asm__ volatile("" : "+r"(number));
    return number;
}

/* What lies below on the stack may hold return addresses of earlier calls. */
static __attribute__((noinline)) void scrub(void)
{
    volatile char below[2048];
    for (size_t i = 0; i < sizeof(below); i++)
        below[i] = 0;
}

static bool is_in(const void *word, const char *function, size_t size)
{
    return (const char *)word > function && (const char *)word < function + size;
}

static __attribute__((noinline)) void measure(const void *const *frame, const void *inside)
{
    struct way way = {.inside = inside, .between = -1};
    for (int i = 0; i < WORDS; i++) {
        if (way.between < 0 && is_in(frame[i], numbers.measured_from, 1024)) {
            way.between = i;
            way.between_value = frame[i];
        } else if (is_in(frame[i], numbers.measured_by, 48)) {
            way.distance = i;
            if (way.between >= 0 || is_in(inside, numbers.measured_from, 1024))
                numbers.ways[numbers.n_ways++] = way;
            return;
        }
    }
}

/* Who asks for a number; NULL: something else is asked for. */
static inline const void *caller_of(const void *const *frame, const void *inside)
{
    for (int i = 0; i < numbers.n_ways; i++) {
        const struct way *way = &numbers.ways[i];
        if (way->inside == inside && (way->between < 0 || frame[way->between] == way->between_value))
            return frame[way->distance];
    }
    return NULL;
}

static inline bool is_for_callback(const void *caller)
{
    for (int i = 0; caller && i < numbers.n_callers; i++)
        if (numbers.callers[i] == caller)
            return true;
    return false;
}

void tf_heap_number(const PyObject *number)
{
    for (int i = 0; i < 2; i++)
        if (numbers.last[i].number == number && numbers.n_callers < LEARNED)
            numbers.callers[numbers.n_callers++] = numbers.last[i].caller;
}

/* ---- One object that the program would not have made. */

static struct {
    size_t size; /* of the block that comes next; 0: none is expected */
    void *block; /* the last one */
    int *count;  /* of the garbage collector's, less by one until the block is freed; NULL: it was 0 */
} once;

void tf_heap_once(PyThreadState *ts, size_t size)
{
    tf_heap_once_end();
    once.size = size;
    once.count = &ts->interp->gc.generations[0].count;
    if (*once.count > 0)
        --*once.count;
    else
        once.count = NULL;
}

void tf_heap_once_end(void)
{
    if (!once.size)
        return;
    if (once.count)
        ++*once.count;
    once.size = 0;
}

static __attribute__((noinline)) void *div_malloc(void *ctx, size_t size)
{
    PyMemAllocatorEx *a = ctx;
    if (TF_UNLIKELY(once.size) && size == once.size) {
        once.size = 0;
        return once.block = heap_alloc(size);
    }
    const void *caller = NULL;
    if (size >= 28 && size <= 32 && ctx == &below[PYMEM_DOMAIN_OBJ]) {
        const void *const *frame = __builtin_frame_address(0);
        const void *inside = __builtin_return_address(0);
        if (TF_UNLIKELY(numbers.measured_by))
            measure(frame, inside);
        caller = caller_of(frame, inside);
    }
    void *p = diverting || is_for_callback(caller) ? heap_alloc(size) : NULL;
    if (p)
        return p;
    p = a->malloc(a->ctx, size);
    if (size >= 28 && size <= 32) {
        numbers.last[0] = numbers.last[1];
        numbers.last[1].number = caller ? p : NULL;
        numbers.last[1].caller = caller;
    }
    return p;
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
    if (!in_heap(p)) {
        a->free(a->ctx, p);
        return;
    }
    if (p == once.block) {
        once.block = NULL;
        if (once.count)
            ++*once.count;
    }
    heap_free(p);
}

/*
 * The engine is built with the headers of one patch version and used with others of the same minor version.
 * The internal structures that are used here do change within one, rarely: between 3.13.0 and 3.13.5 the
 * collector's lists moved by four bytes. This says so in time.
 */
__attribute__((noreturn, cold)) void tf_other_layout(void)
{
    tf_state.core->divergence("this engine was built with the headers of Python " PY_VERSION
                              ", and the structures of Python %.16s are "
                              "others: build timefork again with the headers of this Python",
                              Py_GetVersion());
    abort();
}

static PyObject *do_nothing(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
    Py_RETURN_NONE;
}

/* An object that is made must be counted where the headers say. Between tf_divert_begin() and
 * tf_divert_end(). */
static bool counts_objects(struct _gc_runtime_state *gc)
{
    static PyMethodDef def = {"timefork", do_nothing, METH_NOARGS, NULL};
    int before = gc->generations[0].count;
    PyObject *object = PyCFunction_New(&def, NULL); /* of a kind that is not kept for later use */
    bool counted = gc->generations[0].count == before + 1;
    Py_XDECREF(object);
    return object && counted;
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
    diverting = true;
    struct _gc_runtime_state *gc = &ts->interp->gc;
    struct tf_diverted saved = {gc->enabled, gc->generations[0].count};
    gc->enabled = 0;
    if (!installed && !counts_objects(gc))
        tf_other_layout();
    installed = true;
    return saved;
}

void tf_divert_end(PyThreadState *ts, struct tf_diverted saved)
{
    ts->interp->gc.enabled = saved.gc_enabled;
    ts->interp->gc.generations[0].count = saved.gc_count;
    diverting = false;
}

void tf_heap_measure(void)
{
    if (numbers.n_ways)
        return;
    numbers.measured_by = (const char *)number_from_long;
    numbers.measured_from = (const char *)PyLong_FromLong;
    scrub();
    PyObject *first = number_from_long(1 << 20);
    numbers.measured_by = (const char *)number_from_ssize;
    numbers.measured_from = (const char *)PyLong_FromSsize_t;
    scrub();
    PyObject *second = number_from_ssize(1 << 20);
    numbers.measured_by = NULL;
    Py_XDECREF(first);
    Py_XDECREF(second);
}

bool tf_heap_shadow(void *p)
{
    PyMemAllocatorEx *objects = &below[PYMEM_DOMAIN_OBJ];
    if (!in_heap(p) || head_of(p)->shadow)
        return false;
    head_of(p)->shadow = objects->malloc(objects->ctx, head_of(p)->size);
    return head_of(p)->shadow != NULL;
}

bool tf_heap_has_shadow(const void *p)
{
    return in_heap(p) && head_of((void *)(uintptr_t)p)->shadow;
}

bool tf_heap_owns(const void *p)
{
    return in_heap(p);
}
