/*
 * thread.c: the program's threads: their places, how they begin and end, and the doors in front of libc's
 * functions for that. docs/threads.md says how it fits together, turn.c whose turn it is.
 *
 * A thread is begun by libc's own pthread_create, which makes its stack and thread control block, and calls
 * clone. While recording, clone makes a kernel thread; in replay, a context that begins behind the call.
 *
 * What libc does at the beginning and the end of a thread is done in turn, for it uses what all threads share
 * (the heap, the list of stacks): a thread of Python's has its turn before its first instruction and keeps it
 * until it has had the GIL; it takes it again when its function returns, and its end gives it back. That a
 * thread has ended is seen by libc in a word that the kernel clears. Here timefork clears it, in turn, and
 * off the thread's stack, which another thread may use from then on.
 */
#include <asm/prctl.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "iohooks/special.h"

#define PLACE_ADDR                                                                                           \
    0x590000000000ul /* of place 0; each has PLACE_SIZE. Of place 0 the events are there, the rest is static \
                      */
#define PLACE_SIZE (2ul << 20)
#define SIDE_AT (512ul << 10) /* in a place: events out of turn */
_Static_assert(sizeof(struct tf_thread) <= SIDE_AT, "a thread's data fit into its place");

#define MORE_STACK (8ul << 20)

#define REG(name) REG_##name

static struct tf_thread first_thread;
__thread struct tf_thread *tf_self __attribute__((tls_model("initial-exec"))) = &first_thread;
uint32_t tf_has_fsgsbase;

static struct {
    unsigned n;       /* places that have been used */
    uint32_t numbers; /* threads that were ever started */
} all = {.n = 1};

static uint64_t fs_register(void)
{
    uint64_t fs = 0;
    tf_sys(SYS_arch_prctl, ARCH_GET_FS, &fs);
    return fs;
}

static struct tf_thread *place(unsigned i)
{
    return i == 0 ? &first_thread : (struct tf_thread *)(PLACE_ADDR + i * PLACE_SIZE);
}

struct tf_thread *tf_thread_at(unsigned i)
{
    struct tf_thread *t = i < all.n ? place(i) : NULL;
    return t && t->state != TF_T_FREE && t->state != TF_T_ENDED ? t : NULL;
}

unsigned tf_thread_places(void)
{
    return all.n;
}

unsigned tf_thread_place(void)
{
    return tf_self->place;
}

static void set_up(struct tf_thread *t)
{
    t->context.fs = t->call_context.fs = t->ident;
    t->state = TF_T_RUNS;
}

void tf_thread_start(void)
{
    struct tf_thread *t = tf_self;
    tf_has_fsgsbase = (getauxval(AT_HWCAP2) >> 1) & 1; /* Documentation/arch/x86/x86_64/fsgs.rst */
    t->ident = fs_register();
    t->tid = (int32_t)tf_sys(SYS_gettid);
    set_up(t);
}

/*
 * libc keeps the thread's id in its thread control block, whose layout is its own (glibc 2.36 to 2.41: 720
 * bytes behind the FS register), and pthread_kill() takes it from there. It was put there before timefork
 * came.
 */
void tf_thread_be(int32_t tid)
{
    struct tf_thread *t = tf_self;
    int32_t *at = NULL;
    for (size_t i = 512; i < 1024; i += sizeof *at)
        if (*(int32_t *)(t->ident + i) == t->tid) {
            if (at) /* which one is it? Then it stays as it is: a replay of pthread_kill() will say so */
                return;
            at = (int32_t *)(t->ident + i);
        }
    if (at)
        *at = tid;
    t->tid = tid;
}

/* Both modes use the same place again, so the kernel must have left it: it clears kernel_tid. */
static bool is_free(struct tf_thread *t)
{
    if (t->state == TF_T_FREE)
        return true;
    if (t->state != TF_T_ENDED)
        return false;
    for (int32_t tid; tf.mode != TF_REPLAYS && (tid = __atomic_load_n(&t->kernel_tid, __ATOMIC_ACQUIRE));)
        tf_sys(SYS_futex, &t->kernel_tid, FUTEX_WAIT, tid, 0);
    return true;
}

static bool map(unsigned i)
{
    return !TF_IS_ERR(tf_sys(SYS_mmap, PLACE_ADDR + i * PLACE_SIZE, PLACE_SIZE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0));
}

struct tf_thread *tf_thread_new(void)
{
    unsigned i = 1;
    if (!first_thread.side) {
        if (!map(0))
            return NULL;
        first_thread.side = (uint32_t *)(PLACE_ADDR + SIDE_AT);
    }
    while (i < all.n && !is_free(place(i)))
        i++;
    if (i >= TF_THREADS_MAX)
        return NULL;
    struct tf_thread *t = place(i);
    if (i == all.n) {
        if (!map(i))
            return NULL;
        all.n++;
    } else {
        memset(t, 0, offsetof(struct tf_thread, kept));
    }
    t->place = i;
    t->number = ++all.numbers;
    t->side = (uint32_t *)((uintptr_t)t + SIDE_AT);
    return t;
}

void tf_thread_forked(void)
{
    for (unsigned i = 0; i < all.n; i++) {
        struct tf_thread *t = tf_thread_at(i);
        if (!t || t == tf_self)
            continue;
        t->state = TF_T_ENDED;
        t->kernel_tid = 0;
    }
    tf_side_heap_forked();
    tf_turn_forked();
}

void tf_thread_untrap(void)
{
    for (unsigned i = 0; i < all.n; i++)
        place(i)->selector = 0;
}

int64_t tf_thread_of(uint64_t ident, int32_t *tid)
{
    for (unsigned i = 0; i < all.n; i++) {
        struct tf_thread *t = tf_thread_at(i);
        if (t && t->ident == ident) {
            *tid = t->tid;
            return t->number;
        }
    }
    return -1;
}

/* ---- Python's instructions ---- */

static uintptr_t python_from, python_to;
static void *(*thread_state)(void); /* of the calling thread; reads thread-specific data */
static int (*is_ending)(void);

static int find_python(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + ph->p_vaddr;
        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) && (uintptr_t)ctx >= from &&
            (uintptr_t)ctx < from + ph->p_memsz) {
            python_from = from;
            python_to = from + ph->p_memsz;
            return 1;
        }
    }
    return 0;
}

void tf_thread_find_python(void *function)
{
    dl_iterate_phdr(find_python, function);
    thread_state = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyGILState_GetThisThreadState");
    is_ending = (int (*)(void))dlsym(RTLD_DEFAULT, "Py_IsFinalizing"); /* 3.13 */
    if (!is_ending)
        is_ending = (int (*)(void))dlsym(RTLD_DEFAULT, "_Py_IsFinalizing");
}

bool tf_thread_is_late(const struct tf_thread *t)
{
    return t->start_is_python && is_ending && is_ending();
}

bool tf_thread_has_left_python(const struct tf_thread *t)
{
    return t->start_is_python && thread_state && !thread_state();
}

bool tf_in_python(const void *address)
{
    return (uintptr_t)address >= python_from && (uintptr_t)address < python_to;
}

/* ---- news for people ---- */

static void news(enum tf_thread_news what, const struct tf_thread *t, const char *name, size_t len)
{
    struct tf_rec_thread rec = {.what = what,
                                .thread = t->number,
                                .parent = tf_self->number,
                                .tid = t->tid,
                                .name_len = (uint32_t)len};
    char text[TF_NAME_MAX + 4] = {0};
    memcpy(text, name, len);
    if (tf.mode == TF_RECORDS)
        tf_log_record(TF_REC_THREAD, &rec, sizeof rec, text, len + 1);
}

void tf_thread_named(void *frame)
{
    char name[TF_NAME_MAX];
    tf_self->named = true;
    if (tf.mode != TF_RECORDS || !tf.engine->thread_name)
        return;
    size_t n = tf.engine->thread_name(frame, name, sizeof name);
    if (n)
        news(TF_THREAD_NAMED, tf_self, name, n);
}

/* ---- birth ---- */

/* Where tf_self of a thread is, whose FS register is `fs`. */
static struct tf_thread **self_of(uint64_t fs)
{
    return (struct tf_thread **)(fs + ((uintptr_t)&tf_self - tf_self->ident));
}

void tf_thread_begins(void); /* raw.S: the first instruction of a context */

/* In the new thread: as a kernel thread that has just been made, or as a context. */
static void __attribute__((noreturn)) first_instructions(void)
{
    struct tf_thread *self = tf_self;
    if (tf.mode != TF_REPLAYS)
        tf_trap_on();
    /* Not the GIL: it may never want that (faulthandler's), and who has it may wait for it. */
    if (self->keeps)
        tf_turn_take(false, TF_TURN_PLAIN);
    tf_registers_enter(self->regs);
}

static struct {
    void *(*start)(void *);
    bool is_python;
} next_birth; /* of the pthread_create that is under way, in turn */

long tf_thread_clone(struct tf_call *call, const struct tf_thread_birth *b, size_t args_len)
{
    struct tf_thread *self = tf_self;
    if (tf.mode == TF_RECORDS && !next_birth.is_python) {
        tf_barrier("%s: a thread that is not started by Python, which is not covered",
                   tf_call_rows[call->nr].name);
        return TF_NATIVE;
    }
    const struct tf_outside *e = tf.mode == TF_REPLAYS ? tf_log_take(call->nr, self->args, args_len) : NULL;
    if (e && TF_IS_ERR(e->result))
        return e->result;
    tf_turn_many();
    struct tf_thread *t = tf_thread_new();
    if (!t && e)
        tf_diverge("there is no place for thread %u", all.numbers + 1);
    if (!t) {
        tf_barrier("%s: more than %d threads at the same time", tf_call_rows[call->nr].name, TF_THREADS_MAX);
        return TF_NATIVE;
    }
    t->ident = b->tls;
    set_up(t);
    memcpy(t->regs, call->uc->uc_mcontext.gregs, sizeof t->regs);
    t->regs[REG(RSP)] = (greg_t)(b->stack + b->stack_size);
    t->mask = self->mask;
    t->selector = 1;
    t->start = next_birth.start;
    t->start_is_python = next_birth.is_python;
    t->keeps = t->start != NULL; /* from its first instruction on, and through libc's */
    next_birth.start = NULL;
    next_birth.is_python = false;
    t->clear_tid = b->flags & CLONE_CHILD_CLEARTID ? b->child_tid : NULL;
    *self_of(b->tls) = t;
    long r;
    if (e) {
        r = e->result;
        t->tid = (int32_t)r;
        if (b->flags & CLONE_PARENT_SETTID)
            *b->parent_tid = t->tid;
        if (b->flags & CLONE_CHILD_SETTID)
            *b->child_tid = t->tid;
        t->context.rip = (uint64_t)tf_thread_begins;
        t->context.rsp = (b->stack + b->stack_size - 1024) & ~63ul;
        t->context.rbx = (uint64_t)first_instructions;
        t->context.mxcsr = 0x1f80;
        t->context.fpu = 0x37f;
        return r;
    }
    uint64_t flags = b->flags | CLONE_CHILD_CLEARTID;
    uint64_t child_stack = (b->stack + b->stack_size - 1024) & ~63ul;
    t->kernel_tid = -1;
    /* the order of clone(2) on x86-64: flags, stack, parent_tid, child_tid, tls. The kernel writes one of the
     * two places for the thread's id itself. */
    r = tf_raw_birth(SYS_clone, (long)(flags & ~(uint64_t)CLONE_CHILD_SETTID), (long)child_stack,
                     (long)b->parent_tid, (long)&t->kernel_tid, (long)b->tls, first_instructions);
    if (TF_IS_ERR(r)) {
        t->state = TF_T_ENDED;
        t->kernel_tid = 0;
        all.numbers--;
    } else {
        t->tid = (int32_t)r;
        if (b->flags & CLONE_CHILD_SETTID)
            *b->child_tid = t->tid;
    }
    tf_log_put(call->nr, 0, r, self->args, args_len, NULL, 0);
    if (!TF_IS_ERR(r))
        news(TF_THREAD_BORN, t, "", 0);
    return r;
}

/* ---- end ---- */

/* The kernel writes to the calling thread's area until it is told not to, and ends a process in which it
 * cannot. libc looks there when the thread starts another one: it stays as if it were registered. */
void tf_thread_forget_rseq(const struct tf_thread *t)
{
    struct rseq *area = (struct rseq *)t->rseq[0];
    if (!area || (t->rseq[2] & RSEQ_FLAG_UNREGISTER))
        return;
    tf_sys(SYS_rseq, area, t->rseq[1], RSEQ_FLAG_UNREGISTER, t->rseq[3]);
    area->cpu_id = 0;
}

/* On the thread's exit stack: nothing of its own stack, and so no thread-local data, is used any more. */
static void off_stack(void *arg)
{
    struct tf_thread *t = arg;
    tf_thread_forget_rseq(t); /* it is on the stack that is no longer its own */
    tf_sys(SYS_set_robust_list, 0, 24);
    if (t->clear_tid) {
        __atomic_store_n(t->clear_tid, 0, __ATOMIC_RELEASE);
        tf_sys(SYS_futex, t->clear_tid, FUTEX_WAKE, INT_MAX);
    }
    __atomic_store_n(&t->ended, 1, __ATOMIC_RELEASE);
    tf_sys(SYS_futex, &t->ended, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX);
    tf_turn_leave(t);
    for (;;)
        tf_sys(SYS_exit, 0);
}

TF_SPECIAL(thread_exit)
{
    struct tf_thread *self = tf_self;
    size_t len = tf_args_encode(row, call, self->args);
    if (tf.mode == TF_REPLAYS) {
        tf_log_take(call->nr, self->args, len);
        if (self->clear_tid) {
            *self->clear_tid = 0;
            tf_turn_wake(self->clear_tid);
        }
        self->ended = 1;
        tf_turn_end(self);
    }
    uint64_t none = ~0ul;
    tf_log_put(call->nr, 0, 0, self->args, len, NULL, 0);
    news(TF_THREAD_ENDED, self, "", 0);
    tf_sys(SYS_rt_sigprocmask, SIG_BLOCK, &none, 0, 8);
    tf_on_stack_with(off_stack, self->exit_stack + TF_EXIT_STACK, self);
}

/* ---- doors ---- */

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* When nothing is recorded any more, it is the kernel that says that the thread has ended. */
static void ends_untrapped(const struct tf_thread *self)
{
    if (tf_turn_is_dissolved() && self->clear_tid)
        tf_sys(SYS_set_tid_address, self->clear_tid);
}

/* The function of a thread. What libc does behind it is done in turn. */
static void *thread_function(void *arg)
{
    struct tf_thread *self = tf_self;
    if (!self->start_is_python && self->keeps) {
        self->keeps = false;
        tf_turn_release();
    }
    void *result = self->start(arg);
    tf_turn_take(false, TF_TURN_PLAIN);
    self->keeps = true;
    ends_untrapped(self);
    return result;
}

static bool follows(void)
{
    return tf.mode == TF_RECORDS || tf.mode == TF_REPLAYS;
}

/* Can the thread be followed? If not, recording ends here, before libc has done anything; or, in replay, is
 * told that it did. */
static bool may_start(bool is_python)
{
    unsigned i = 1;
    while (i < all.n && place(i)->state != TF_T_FREE && place(i)->state != TF_T_ENDED)
        i++;
    if (is_python && i < TF_THREADS_MAX && !tf.light)
        return true;
    tf_self->inside++;
    if (tf.mode == TF_REPLAYS)
        tf_log_take(SYS_clone3, NULL, 0);
    else if (is_python && tf.light)
        tf_barrier("pthread_create: a second thread, which a light recording does not cover (record without "
                   "--light)");
    else if (is_python)
        tf_barrier("pthread_create: more than %d threads at the same time", TF_THREADS_MAX);
    else
        tf_barrier("pthread_create: a library starts a thread of its own (OpenBLAS does, unless "
                   "OPENBLAS_NUM_THREADS=1), which is not covered");
    tf_self->inside--;
    return false;
}

#define DOOR __attribute__((visibility("default")))

/* With a frame hook each Python call takes room on the C stack, which it does not in plain Python: threads
 * get more than they ask for. Returns `own`, filled in, or what the program gave: then the stack is the
 * program's own. */
static const pthread_attr_t *with_room(const pthread_attr_t *attributes, pthread_attr_t *own)
{
    size_t size = 0;
    void *stack = NULL;
    if (attributes)
        memcpy(own, attributes, sizeof *own); /* what it points to stays the program's */
    else if (pthread_getattr_default_np(own) != 0)
        return attributes;
    if (attributes && pthread_attr_getstack(attributes, &stack, &size) == 0 && stack &&
        (uintptr_t)stack != -(uintptr_t)size)
        return attributes;
    if (pthread_attr_getstacksize(own, &size) != 0 || pthread_attr_setstacksize(own, size + MORE_STACK) != 0)
        return attributes;
    return own;
}

DOOR int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                        void *arg)
{
    static int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!create)
        create =
            (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))real("pthread_create");
    if (tf.mode == TF_LOOSE) /* frame events of several threads would have no order */
        tf_emit_off();
    bool is_python = tf_in_python(__builtin_return_address(0));
    if (!follows() || !may_start(is_python))
        return create(thread, attributes, start, arg);
    bool mine = tf_turn_is_mine();
    if (!mine)
        tf_turn_take(false, TF_TURN_PLAIN);
    bool kept = tf_self->keeps;
    tf_self->keeps = true; /* through all of libc's function */
    next_birth.start = start;
    next_birth.is_python = is_python;
    pthread_attr_t own;
    int r = create(thread, with_room(attributes, &own), thread_function, arg);
    tf_self->keeps = kept;
    next_birth.start = NULL;
    if (tf_many && !tf_self->has_gil && !kept)
        tf_turn_release();
    return r;
}

DOOR void pthread_exit(void *result)
{
    void (*leave)(void *) = (void (*)(void *))real("pthread_exit");
    if (follows() && tf_many && tf_self->number) {
        tf_turn_take(false, TF_TURN_PLAIN);
        tf_self->keeps = true;
    }
    ends_untrapped(tf_self);
    leave(result);
    __builtin_unreachable();
}

static struct tf_thread *by_ident(uint64_t ident)
{
    struct tf_thread *ended = NULL;
    for (unsigned i = 0; i < all.n; i++) {
        struct tf_thread *t = place(i);
        if (t->ident != ident || t->state == TF_T_FREE)
            continue;
        if (t->state != TF_T_ENDED)
            return t;
        ended = t;
    }
    return ended;
}

/* Waiting for the end of a thread is waiting for the turn in which it ends; libc's function only cleans up
 * then. A place that another thread has by now says the same. */
DOOR int pthread_join(pthread_t thread, void **result)
{
    static int (*join)(pthread_t, void **);
    if (!join)
        join = (int (*)(pthread_t, void **))real("pthread_join");
    if (!follows() || !tf_many || thread == tf_self->ident)
        return join(thread, result);
    struct tf_thread *t = by_ident(thread);
    uint32_t number = t ? t->number : 0;
    if (!tf_turn_is_mine() && t && !t->ended)
        tf_turn_sleep(&t->ended, 0, false, NULL);
    for (;;) {
        tf_turn_take(false, TF_TURN_PLAIN);
        if (!t || t->number != number || t->ended)
            break;
        tf_turn_sleep(&t->ended, 0, false, NULL);
    }
    int r = join(thread, result);
    if (tf_in_python(__builtin_return_address(0)))
        tf_self->keeps = true;
    else if (!tf_self->has_gil)
        tf_turn_release();
    return r;
}
