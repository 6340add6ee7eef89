/*
 * gil.c: the interpreter's lock, for the core (docs/threads.md): where it is, giving it away at an event, and
 * asking the thread that has it to give it away in the middle of a function.
 *
 * The interpreter looks whether it shall do something else at the start of a function, at jumps backward and
 * after calls, by one look at the "eval breaker". To ask for the lock is to set a bit of it.
 *
 *                 3.11                              3.12                       3.13
 * the lock        _PyRuntime.ceval.gil              interp->ceval.gil          interp->ceval.gil
 * the request     interp->ceval.gil_drop_request    as 3.11                    bit of the thread's
 * eval_breaker
 */
#include "engine/compat.h"
#include <elf.h>
#include <internal/pycore_ceval.h>
#include <internal/pycore_gil.h>
#include <internal/pycore_runtime.h>
#include <link.h>
#include "engine/local.h"

static struct _gil_runtime_state *gil;

/* ---- Which thread is the current one. */

#if !TF_PY311
/*
 * From 3.12 on that is a thread-local variable of the interpreter's that is not exported. It stands in the
 * interpreter's block of thread-local data, at the same place in each thread's.
 */
static ptrdiff_t current_at; /* from the thread pointer; 0: not found */

static PyThreadState **current(void)
{
    return (PyThreadState **)((char *)__builtin_thread_pointer() + current_at);
}

static int look_for_current(struct dl_phdr_info *info, size_t size, void *arg)
{
    PyThreadState *ts = arg, **at = NULL;
    size_t n = 0;
    if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof(void *) || !info->dlpi_tls_data)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            at = info->dlpi_tls_data;
            n = info->dlpi_phdr[i].p_memsz / sizeof(*at);
        }
    for (size_t i = 0; i < n; i++)
        if (at[i] == ts) { /* is it? */
            *(PyThreadState *volatile *)&at[i] = NULL;
            bool found = tf_this_thread() == NULL;
            *(PyThreadState *volatile *)&at[i] = ts;
            if (found) {
                current_at = (char *)&at[i] - (char *)__builtin_thread_pointer();
                return 1;
            }
        }
    return 0;
}
#endif

static void set_current(PyThreadState *ts)
{
#if TF_PY311
    _Py_atomic_store_relaxed(&_PyRuntime.gilstate.tstate_current, (uintptr_t)ts);
#else
    if (!current_at)
        tf_other_layout();
    *current() = ts;
#endif
}

bool tf_thread_enter(PyThreadState **ts)
{
    if (!*ts)
        *ts = tf_this_thread();
    if (*ts && tf_this_thread())
        return false;
    if (!*ts)
        *ts = PyGILState_GetThisThreadState();
    if (!*ts)
        return false;
    set_current(*ts);
    return true;
}

void tf_thread_leave(bool entered)
{
    if (entered)
        set_current(NULL);
}

PyThreadState *tf_thread_settle(void)
{
    PyThreadState *ts = NULL;
    if (!tf_thread_enter(&ts)) {
        /* It may have been asked for the lock, for a switch that lies ahead: nobody is here to take it. */
        if (ts)
            tf_gil_ask(false);
        return ts;
    }
    /* It stands in the middle of taking the lock. */
    static const pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    gil->mutex = gil->switch_mutex = mutex;
    gil->cond = gil->switch_cond = cond;
#if TF_PY313
    gil->locked = 1;
    gil->last_holder = ts;
#else
    _Py_atomic_store_relaxed(&gil->locked, 1);
    _Py_atomic_store_relaxed(&gil->last_holder, (uintptr_t)ts);
#endif
    return ts;
}

int64_t tf_thread_number(PyThreadState *ts, int32_t *tid)
{
    *tid = 0;
#if TF_PY311
    /* A thread that has not begun to run has its creator's number until then. */
    for (PyThreadState *other = PyInterpreterState_ThreadHead(ts->interp); other;
         other = PyThreadState_Next(other))
        if (other->thread_id == ts->thread_id && other->id < ts->id)
            return -1;
#endif
    if (!tf_state.core->thread_of) /* the engine alone: threads are numbered as their states */
        return (int64_t)ts->id - 1;
    return ts->thread_id ? tf_state.core->thread_of(ts->thread_id, tid) : -1;
}

PyThreadState *tf_thread_by_number(PyInterpreterState *interp, uint32_t number)
{
    int32_t tid;
    PyThreadState *ts = PyInterpreterState_ThreadHead(interp);
    while (ts && tf_thread_number(ts, &tid) != number)
        ts = PyThreadState_Next(ts);
    return ts;
}

/* ---- The lock. */

void tf_gil_find(PyInterpreterState *interp)
{
#if !TF_PY311
    dl_iterate_phdr(look_for_current, tf_this_thread());
#endif
#if TF_PY311
    (void)interp;
    gil = &_PyRuntime.ceval.gil;
#else
    gil = interp->ceval.gil;
#endif
    if (tf_state.core->gil)
        tf_state.core->gil(&gil->mutex, &gil->cond, &gil->switch_mutex, &gil->switch_cond, &gil->interval);
}

#define THREADS_MAX 4096 /* at the same time */
static struct entering {
    PyThreadState *ts;
    tf_frame *frame;
    int tag;
} entering[THREADS_MAX];
static size_t entering_n;

static struct entering *find_entering(const PyThreadState *ts)
{
    for (size_t i = 0; i < entering_n; i++)
        if (entering[i].ts == ts)
            return &entering[i];
    return NULL;
}

tf_frame *tf_entering(PyThreadState *ts, int *tag)
{
    const struct entering *e = find_entering(ts);
    if (e && tag)
        *tag = e->tag;
    return e ? e->frame : NULL;
}

void tf_entering_link(void)
{
    for (; entering_n; entering_n--) {
        const struct entering *e = &entering[entering_n - 1];
        PyCodeObject *co = tf_frame_code(e->frame);
        if (e->frame->owner != FRAME_OWNED_BY_GENERATOR && !tf_frame_started(e->frame))
            tf_frame_set_instr(e->frame, _PyCode_CODE(co) + co->_co_firsttraceable);
        e->frame->previous = tf_current_frame(e->ts);
        tf_set_current_frame(e->ts, e->frame);
    }
}

void tf_gil_yield(void)
{
    PyThreadState *ts = tf_this_thread();
    tf_frame *frame = tf_state.entering;
    if (tf_state.keep || tf_state.stays)
        return;
    if (frame && tf_scanning && tf_state.tag == TF_CALL)
        tf_scan_early_call(frame);
    if (frame && entering_n < THREADS_MAX)
        entering[entering_n++] = (struct entering){ts, frame, tf_state.tag};
    /* What is being raised stands in the thread state and stays there. */
    PyEval_RestoreThread(PyEval_SaveThread());
    struct entering *e = find_entering(ts);
    if (e)
        *e = entering[--entering_n];
}

#if TF_PY313

void tf_gil_ask(bool on)
{
    on = on && !tf_state.stays;
    /* Nobody has it: nobody is asked, and whoever takes it begins without a request. The thread that has it
     * is the last holder, and lives. */
    if (!__atomic_load_n(&gil->locked, __ATOMIC_ACQUIRE))
        return;
    PyThreadState *holder = __atomic_load_n(&gil->last_holder, __ATOMIC_RELAXED);
    if (holder && on)
        _Py_set_eval_breaker_bit(holder, _PY_GIL_DROP_REQUEST_BIT);
    else if (holder)
        _Py_unset_eval_breaker_bit(holder, _PY_GIL_DROP_REQUEST_BIT);
}

#else

/* Is there another reason to look up? As COMPUTE_EVAL_BREAKER() of the interpreter's, but for whichever
 * thread has the lock: one that cannot do anything about it looks in vain, and goes on. */
static bool has_reason(const struct _ceval_state *ceval)
{
    return _Py_atomic_load(&ceval->gil_drop_request) || _Py_atomic_load(&_PyRuntime.ceval.signals_pending) ||
           _Py_atomic_load(&ceval->pending.calls_to_do) ||
#if TF_PY312
           _Py_atomic_load(&_PyRuntime.ceval.pending_mainthread.calls_to_do) ||
           _Py_atomic_load(&ceval->gc_scheduled) ||
#endif
           *(const volatile int *)&ceval->pending.async_exc;
}

void tf_gil_ask(bool on)
{
    PyInterpreterState *interp = PyInterpreterState_Main();
    if (!interp) /* Python has ended */
        return;
    struct _ceval_state *ceval = &interp->ceval;
    on = on && !tf_state.stays;
    _Py_atomic_store(&ceval->gil_drop_request, on);
    _Py_atomic_store(&ceval->eval_breaker, on || has_reason(ceval));
    /* One that came between the look and the store. */
    if (!on && has_reason(ceval))
        _Py_atomic_store(&ceval->eval_breaker, 1);
}

#endif
