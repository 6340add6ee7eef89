/*
 * hook.c: the frame hook (PEP 523): every evaluation of a Python frame passes here.
 *
 * With a hook, the interpreter takes none of its shortcuts from Python function to Python function, so a
 * frame event is seen for each call. An ordinary call costs two stores and a few compares in hook(); what is
 * rare is in enter_rare() and leave_rare().
 *
 * Generators. A frame that a generator owns is run piece by piece; the first piece is a CALL, the others are
 * RESUMEs, whether entered by next, send, throw or close. The evaluation that only makes the generator object
 * is no event.
 *
 * Recursion. From 3.12 on there are two counters: Python calls, bounded by sys.setrecursionlimit, and C
 * calls, with a fixed limit. In plain Python a call from Python to Python costs one Python unit; with a hook
 * it goes through C and costs one C unit as well, so that deep recursion would fail where it does not without
 * timefork. enter_rare() gives such units back, when a good part of the C limit has been used, so that it
 * costs nothing before. To know which calls plain Python would have made without C, it looks at the distance
 * on the C stack between the entry frames of two evaluations: entry frames stand at a fixed place of the
 * evaluator's C frame, so the direct way from the evaluator to the evaluator has the smallest distance for
 * each kind of instruction. Calls through sorted(), slots and so on have more C frames in between and are
 * really C calls.
 */
#include "engine/local.h"
#if TF_PY313
#include <opcode_ids.h>
#elif TF_PY312
#include <opcode.h>
#endif

#if !TF_PY311
/* How much of the C limit may be used between two givings back. */
#define DEEP_MARGIN 100
/* What the evaluator takes from the C limit for itself (PY_EVAL_C_STACK_UNITS, private to ceval.c), and what
 * a constructor call takes with it (_PyObject_MakeTpCall). */
#define EVAL_UNITS 2
#define CONSTRUCTOR_UNITS 3
static int deep_below;
/* Smallest distance between the entry frames of two evaluations, by the instruction that called. 0: not seen
 * yet. */
static ptrdiff_t least_distance[256];
/* This thread's frames up to this one have been given their units back. Initial-exec, so that no access
 * allocates. */
static __thread const tf_frame *given_to __attribute__((tls_model("initial-exec")));
#endif

static __attribute__((noinline)) void slow(uint32_t word, PyThreadState *ts, tf_frame *frame)
{
    tf_state.entering = frame;
    tf_state.tag = (int)TF_TAG(word);
    tf_state.slow(word, ts, frame);
}

/* At an exit: hook() has not kept its thread. */
static __attribute__((noinline)) void slow_exit(uint32_t word)
{
    slow(word, tf_this_thread(), NULL);
}

/* Puts the word; says whether the slow path is to be taken. Release: a consumer that sees the word sees what
 * was stored before. */
static inline __attribute__((always_inline)) bool put(uint32_t word)
{
    struct tf_cursor *cursor = tf_state.cursor;
    uint32_t *p = cursor->p;
    __atomic_store_n(p, word, __ATOMIC_RELEASE);
    cursor->p = ++p;
    return TF_UNLIKELY(p >= cursor->limit);
}

static void emit(uint32_t word, PyThreadState *ts, tf_frame *frame)
{
    if (put(word))
        slow(word, ts, frame);
}

#if !TF_PY311
/* The distance on the C stack between the evaluation of f and the evaluation that it was called from; 0 if
 * not known. */
static ptrdiff_t link_distance(const tf_frame *f, uint8_t *opcode)
{
    const tf_frame *inner = f->previous;
    if (!inner || !tf_frame_is_entry(inner))
        return 0;
    const tf_frame *caller = inner->previous;
    if (!caller || tf_frame_is_entry(caller))
        return 0;
    const tf_frame *outer = caller->previous;
    if (!outer || !tf_frame_is_entry(outer))
        return 0;
    PyCodeObject *co = tf_frame_code(caller);
    Py_ssize_t index = tf_frame_instr(caller) - _PyCode_CODE(co);
    if (index < 0)
        return 0;
    *opcode = tf_code_opcode(co, index);
    return (const char *)outer - (const char *)inner;
}

/* Of every new function that is called, the link of its caller: start-up gives hundreds of examples.
 * Instructions that call implicitly are rarer, but lead to one function only: those are learned wherever they
 * are met (any is false). */
static void learn_distance(const tf_frame *f, bool any)
{
    uint8_t opcode;
    ptrdiff_t distance = f ? link_distance(f, &opcode) : 0;
    if (distance > 0 && !any && opcode != CALL_FUNCTION_EX && opcode != FOR_ITER && opcode != SEND &&
        opcode != BINARY_SUBSCR && opcode != LOAD_ATTR)
        return;
    if (distance > 0 && (least_distance[opcode] == 0 || distance < least_distance[opcode]))
        least_distance[opcode] = distance;
}

/* A property of a class without __getattr__, or __getattribute__. */
static bool is_attribute_function(const tf_frame *f)
{
    PyCodeObject *co = tf_frame_code(f);
    PyObject *self = co->co_argcount > 0 ? f->localsplus[0] : NULL;
    if (self && Py_TYPE(self)->tp_getattro == PyObject_GenericGetAttr)
        return true;
    return PyUnicode_CompareWithASCIIString(co->co_name, "__getattribute__") == 0;
}

/* A CALL that is specialised for a C function: if that leaves with a tail call, the distance does not show
 * it. */
static bool calls_c(const tf_frame *caller)
{
    switch (tf_unit_opcode(*tf_frame_instr(caller))) {
    case CALL:
    case CALL_PY_EXACT_ARGS:
    case CALL_BOUND_METHOD_EXACT_ARGS:
#ifdef CALL_PY_WITH_DEFAULTS
    case CALL_PY_WITH_DEFAULTS:
#endif
#ifdef CALL_PY_GENERAL
    case CALL_PY_GENERAL:
    case CALL_BOUND_METHOD_GENERAL:
#endif
    case INSTRUMENTED_CALL:
    case INSTRUMENTED_LINE:
    case INSTRUMENTED_INSTRUCTION:
        return false;
    }
    return true;
}

/* Would plain Python have gone from f's caller to f without C? */
static bool is_direct(const tf_frame *f)
{
    uint8_t opcode;
    ptrdiff_t distance = link_distance(f, &opcode);
    if (distance <= 0)
        return false;
    switch (opcode) {
#if TF_PY313
    case CALL_KW: /* the same way as CALL, and rarer */
        return distance == least_distance[CALL];
#endif
    case CALL:
        return distance == least_distance[opcode] && !calls_c(f->previous->previous);
    case CALL_FUNCTION_EX:
    case FOR_ITER:
    case SEND:
    case BINARY_SUBSCR:
        return distance == least_distance[opcode];
    case LOAD_ATTR:
        return distance == least_distance[opcode] && is_attribute_function(f);
    }
    return false;
}

#if TF_PY313
/* Would plain Python have entered this __init__ from the instruction that called the class
 * (CALL_ALLOC_AND_ENTER_INIT)? It does so when the instruction has run a few times; that is taken for granted
 * here. */
static bool is_constructed(const tf_frame *caller, const tf_frame *f)
{
    PyCodeObject *co = tf_frame_code(f);
    PyObject *self = co->co_argcount > 0 ? f->localsplus[0] : NULL;
    if (!caller || tf_frame_is_entry(caller) || !self)
        return false;
    PyCodeObject *from = tf_frame_code(caller);
    Py_ssize_t index = tf_frame_instr(caller) - _PyCode_CODE(from);
    return index >= 0 && tf_code_opcode(from, index) == CALL &&
           tf_unit_oparg(_PyCode_CODE(from)[index]) + 1 == co->co_argcount &&
           !(co->co_flags & (CO_VARARGS | CO_VARKEYWORDS)) && !co->co_kwonlyargcount &&
           tf_constructor_is_simple(Py_TYPE(self));
}
#endif

/* How many units to give back before the next frame is evaluated: those of the frames since the last giving.
 */
static int units_to_give(PyThreadState *ts)
{
    int units = 0;
    for (const tf_frame *f = tf_current_frame(ts); f && f != given_to; f = f->previous)
        if (!tf_frame_is_entry(f))
            learn_distance(f, false);
    for (const tf_frame *f = tf_current_frame(ts); f && f != given_to; f = f->previous) {
        if (tf_frame_is_entry(f))
            continue;
        if (is_direct(f))
            units += EVAL_UNITS;
#if TF_PY313
        else if (f->previous && (tf_code_extra_of(tf_frame_code(f)) & TF_CODE_INIT) &&
                 is_constructed(f->previous->previous, f))
            units += CONSTRUCTOR_UNITS;
#endif
    }
    return units;
}
#endif

static __attribute__((noinline, cold)) uint64_t define(PyCodeObject *co, PyThreadState *ts)
{
#if !TF_PY311
    learn_distance(tf_current_frame(ts), true);
#else
    (void)ts;
#endif
    return tf_code_define(co);
}

/* What has to outlast a call, put into memory where that is rare: so hook() saves no registers for it, which
 * was a quarter of its instructions. Volatile, or the compiler would keep it in registers all the same. */
struct kept {
    PyThreadState *ts;
    tf_frame *frame;
    PyObject *result;
    uint64_t value;
#if !TF_PY311
    const tf_frame *given_to;
    int c_units, python_units;
#endif
    int exc;
    bool silent; /* no event: a generator object is made */
};

/* The rare cases, in front of the evaluation: returns after the event. It is hook() that evaluates, in these
 * cases too, for the distances on the C stack have to be the same. */
static __attribute__((noinline)) void enter_rare(volatile struct kept *k)
{
    PyThreadState *ts = k->ts;
    tf_frame *frame = k->frame;
    uint64_t value = tf_code_extra_of(tf_frame_code(frame));
    if (TF_UNLIKELY(!value))
        value = define(tf_frame_code(frame), ts);
    k->value = value;
    k->silent = false;
#if !TF_PY311
    k->given_to = given_to;
    k->c_units = 0;
    if (TF_UNLIKELY(ts->c_recursion_remaining < deep_below)) {
        k->c_units = units_to_give(ts);
        given_to = tf_current_frame(ts);
        ts->c_recursion_remaining += k->c_units;
    }
    k->python_units = 0;
#if TF_PY313
    /* Plain Python has a frame of its own below such an __init__, and counts it. */
    if (value & TF_CODE_INIT)
        k->python_units = is_constructed(tf_current_frame(ts), frame);
    ts->py_recursion_remaining -= k->python_units;
#endif
#endif
    uint32_t tag = TF_CALL;
    if (value & TF_CODE_GENERATOR) {
        k->silent = frame->owner != FRAME_OWNED_BY_GENERATOR;
        if (k->silent)
            return;
        tf_state.throwing = k->exc != 0;
        if (tf_frame_started(frame))
            tag = TF_RESUME;
    }
    emit(TF_WORD(tag, TF_CODE_ID(value)), ts, frame);
}

static __attribute__((noinline)) void leave_rare(const volatile struct kept *k)
{
    PyThreadState *ts = k->ts;
#if !TF_PY311
    ts->c_recursion_remaining -= k->c_units;
    ts->py_recursion_remaining += k->python_units;
    given_to = k->given_to;
#endif
    if (k->silent)
        return;
    uint32_t tag = k->result ? TF_RETURN : TF_UNWIND;
    /* Whoever resumed the generator holds it, and looks at its state after us too. */
    if (k->result && (k->value & TF_CODE_GENERATOR) && tf_gen_suspended(tf_gen_state(k->frame)))
        tag = TF_YIELD;
    /* Who resumed it has not yet made its state what it will be: no other thread may resume it before. */
    tf_state.keep = k->value & TF_CODE_GENERATOR;
    emit(TF_WORD(tag, 0), ts, NULL);
    tf_state.keep = false;
}

static PyObject *hook(PyThreadState *ts, tf_frame *frame, int exc)
{
    volatile struct kept k;
    uint64_t value = tf_code_extra_of(tf_frame_code(frame));
    /* Neither new (0) nor of a special kind (the upper half)? */
    bool is_rare = value - 1 > UINT32_MAX;
#if !TF_PY311
    is_rare |= ts->c_recursion_remaining < deep_below;
#endif
    if (TF_UNLIKELY(is_rare)) {
        k.ts = ts;
        k.frame = frame;
        k.exc = exc;
        enter_rare(&k);
        k.result = tf_state.eval(k.ts, k.frame, k.exc);
        leave_rare(&k);
        return k.result;
    }
    if (put(TF_WORD(TF_CALL, TF_CODE_ID(value)))) {
        k.ts = ts;
        k.frame = frame;
        k.exc = exc;
        slow(TF_WORD(TF_CALL, TF_CODE_ID(value)), ts, frame);
        ts = k.ts;
        frame = k.frame;
        exc = k.exc;
    }
    PyObject *result = tf_state.eval(ts, frame, exc);
    uint32_t word = TF_LIKELY(result) ? TF_WORD(TF_RETURN, 0) : TF_WORD(TF_UNWIND, 0);
    if (put(word)) {
        k.result = result;
        slow_exit(word);
        result = k.result;
    }
    return result;
}

void tf_hook_install(void)
{
    PyThreadState *ts = PyThreadState_Get();
    PyInterpreterState *interp = PyThreadState_GetInterpreter(ts);
    tf_state.slot = tf_request_extra_index(tf_code_freed);
    if (tf_state.slot < 0)
        Py_FatalError("timefork: every slot for extra data of code objects is taken");
#if !TF_PY311
    deep_below = ts->c_recursion_remaining - DEEP_MARGIN;
#endif
    tf_shortcuts_close();
    tf_gil_find(interp);
    tf_state.eval = (tf_eval_fn)_PyInterpreterState_GetEvalFrameFunc(interp);
    _PyInterpreterState_SetEvalFrameFunc(interp, (_PyFrameEvalFunction)hook);
}

void tf_hook_spare(void)
{
    tf_gil_find(PyThreadState_GetInterpreter(PyThreadState_Get()));
}

void tf_hook_remove(void)
{
    PyInterpreterState *interp = PyThreadState_GetInterpreter(tf_this_thread());
    _PyInterpreterState_SetEvalFrameFunc(interp, (_PyFrameEvalFunction)tf_state.eval);
}
