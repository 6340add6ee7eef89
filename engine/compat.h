/*
 * compat.h: everything in which the supported Pythons differ inside, in one place. Included by the engine's
 * .c files only, before any other Python header.
 *
 *                          3.11                       3.12                        3.13
 * a frame's code           f_code                     f_code                      f_executable
 * a frame's instruction    prev_instr (done before)   prev_instr                  instr_ptr (running or next)
 * the current frame        tstate->cframe             tstate->cframe              tstate
 * C frames on the stack    is_entry flag              entry frames, CSTACK-owned  entry frames, CSTACK-owned
 * recursion                one counter                Python and C counters       Python and C counters
 * events                   c_tracefunc                sys.monitoring              sys.monitoring
 */
#ifndef TF_COMPAT_H
#define TF_COMPAT_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include <Python.h>
#include <frameobject.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_pystate.h>
#include <stdbool.h>
#include <stdint.h>

#define TF_PY311 (PY_VERSION_HEX < 0x030c0000)
#define TF_PY312 (PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030d0000)
#define TF_PY313 (PY_VERSION_HEX >= 0x030d0000)

#define TF_LIKELY(x) __builtin_expect(!!(x), 1)
#define TF_UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef struct _PyInterpreterFrame tf_frame;
typedef PyObject *(*tf_eval_fn)(PyThreadState *, tf_frame *, int);

static inline PyCodeObject *tf_frame_code(const tf_frame *f)
{
#if TF_PY313
    return (PyCodeObject *)f->f_executable;
#else
    return f->f_code;
#endif
}

static inline _Py_CODEUNIT *tf_frame_instr(const tf_frame *f)
{
#if TF_PY313
    return f->instr_ptr;
#else
    return f->prev_instr;
#endif
}

static inline void tf_frame_set_instr(tf_frame *f, _Py_CODEUNIT *instr)
{
#if TF_PY313
    f->instr_ptr = instr;
#else
    f->prev_instr = instr;
#endif
}

static inline uint8_t tf_unit_opcode(_Py_CODEUNIT unit)
{
#if TF_PY311
    return (uint8_t)_Py_OPCODE(unit);
#else
    return unit.op.code;
#endif
}

static inline uint8_t tf_unit_oparg(_Py_CODEUNIT unit)
{
#if TF_PY311
    return (uint8_t)_Py_OPARG(unit);
#else
    return unit.op.arg;
#endif
}

static inline tf_frame *tf_current_frame(PyThreadState *ts)
{
#if TF_PY313
    return ts->current_frame;
#else
    return ts->cframe->current_frame;
#endif
}

static inline void tf_set_current_frame(PyThreadState *ts, tf_frame *f)
{
#if TF_PY313
    ts->current_frame = f;
#else
    ts->cframe->current_frame = f;
#endif
}

static inline PyThreadState *tf_this_thread(void)
{
#if TF_PY313
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

/* A link that stands for C code, not for a Python function. */
static inline bool tf_frame_is_entry(const tf_frame *f)
{
#if TF_PY311
    (void)f;
    return false;
#else
    return f->owner == FRAME_OWNED_BY_CSTACK;
#endif
}

/* The function has begun: its cells and free variables are bound. Also tells a generator that was never run.
 */
static inline bool tf_frame_started(const tf_frame *f)
{
    PyCodeObject *co = tf_frame_code(f);
    return tf_frame_instr(f) >= _PyCode_CODE(co) + co->_co_firsttraceable;
}

/* As traceback does: frames that did not begin yet are no frames. */
static inline tf_frame *tf_frame_complete(tf_frame *f)
{
    while (f && (tf_frame_is_entry(f) || (f->owner != FRAME_OWNED_BY_GENERATOR && !tf_frame_started(f))))
        f = f->previous;
    return f;
}

static inline int tf_frame_line(const tf_frame *f)
{
    PyCodeObject *co = tf_frame_code(f);
    return PyCode_Addr2Line(co, (int)((tf_frame_instr(f) - _PyCode_CODE(co)) * (int)sizeof(_Py_CODEUNIT)));
}

static inline PyObject *tf_frame_func(const tf_frame *f)
{
#if TF_PY311
    return (PyObject *)f->f_func;
#else
    return f->f_funcobj;
#endif
}

/* The lowest digit of an int. */
#if TF_PY311
#define TF_LONG_DIGIT(o) (((const PyLongObject *)(o))->ob_digit[0])
#else
#define TF_LONG_DIGIT(o) (((const PyLongObject *)(o))->long_value.ob_digit[0])
#endif

/* The generator of a frame that a generator, coroutine or async generator owns. */
static inline int8_t tf_gen_state(tf_frame *f)
{
    return _PyFrame_GetGenerator(f)->gi_frame_state;
}

static inline bool tf_gen_suspended(int8_t state)
{
#if TF_PY313
    return FRAME_STATE_SUSPENDED(state);
#else
    return state == FRAME_SUSPENDED;
#endif
}

/* The layout of co_extra, private to codeobject.c but the same in all these versions. */
struct tf_code_extra {
    Py_ssize_t size;
    void *extras[1];
};

#if TF_PY311
#define tf_request_extra_index(freed) _PyEval_RequestCodeExtraIndex(freed)
#define tf_set_extra(co, slot, value) _PyCode_SetExtra((PyObject *)(co), slot, value)
#else
#define tf_request_extra_index(freed) PyUnstable_Eval_RequestCodeExtraIndex(freed)
#define tf_set_extra(co, slot, value) PyUnstable_Code_SetExtra((PyObject *)(co), slot, value)
#endif

/* C recursion that plain Python would not have. */
#if TF_PY312
#define TF_C_RECURSION_LIMIT C_RECURSION_LIMIT
#elif TF_PY313
#define TF_C_RECURSION_LIMIT Py_C_RECURSION_LIMIT
#endif

/* The exception that is being raised, taken out and put back without a call that could allocate. */
struct tf_raised {
#if TF_PY311
    PyObject *type, *value, *traceback;
#else
    PyObject *value;
#endif
};

static inline struct tf_raised tf_raised_take(PyThreadState *ts)
{
#if TF_PY311
    struct tf_raised r = {ts->curexc_type, ts->curexc_value, ts->curexc_traceback};
    ts->curexc_type = ts->curexc_value = ts->curexc_traceback = NULL;
#else
    struct tf_raised r = {ts->current_exception};
    ts->current_exception = NULL;
#endif
    return r;
}

static inline void tf_raised_put(PyThreadState *ts, struct tf_raised r)
{
#if TF_PY311
    ts->curexc_type = r.type;
    ts->curexc_value = r.value;
    ts->curexc_traceback = r.traceback;
#else
    ts->current_exception = r.value;
#endif
}

#endif
