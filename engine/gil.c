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
#include <internal/pycore_ceval.h>
#include <internal/pycore_gil.h>
#include <internal/pycore_runtime.h>
#include "engine/local.h"

static struct _gil_runtime_state *gil;

void tf_gil_find(PyInterpreterState *interp)
{
#if TF_PY311
    (void)interp;
    gil = &_PyRuntime.ceval.gil;
#else
    gil = interp->ceval.gil;
#endif
    if (tf_state.core->gil)
        tf_state.core->gil(&gil->mutex, &gil->cond, &gil->switch_mutex, &gil->switch_cond, &gil->interval);
}

void tf_gil_yield(void)
{
    if (tf_state.keep)
        return;
    /* What is being raised stands in the thread state and stays there. */
    PyEval_RestoreThread(PyEval_SaveThread());
}

#if TF_PY313

void tf_gil_ask(bool on)
{
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
    struct _ceval_state *ceval = &PyInterpreterState_Main()->ceval;
    _Py_atomic_store(&ceval->gil_drop_request, on);
    _Py_atomic_store(&ceval->eval_breaker, on || has_reason(ceval));
    /* One that came between the look and the store. */
    if (!on && has_reason(ceval))
        _Py_atomic_store(&ceval->eval_breaker, 1);
}

#endif
