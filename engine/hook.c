/*
 * hook.c: the frame hook (PEP 523): every evaluation of a Python frame passes here.
 *
 * With a hook, the interpreter takes none of its shortcuts from Python function to Python function, so a
 * frame event is seen for each call. An ordinary call costs two stores and a few compares in hook(); what is
 * rare is in rare().
 *
 * Generators. A frame that a generator owns is run piece by piece; the first piece is a CALL, the others are
 * RESUMEs, whether entered by next, send, throw or close. The evaluation that only makes the generator object
 * is no event.
 *
 * Recursion. From 3.12 on there are two counters: Python calls, bounded by sys.setrecursionlimit, and C
 * calls, with a fixed limit. In plain Python a call from Python to Python costs one Python unit; with a hook
 * it goes through C and costs one C unit as well, so that deep recursion would fail where it does not without
 * timefork. rare() gives such units back, when a good part of the C limit has been used, so that it costs
 * nothing before. To know which calls plain Python would have made without C, it looks at the distance on the
 * C stack between the entry frames of two evaluations: entry frames stand at a fixed place of the evaluator's
 * C frame, so the direct way from the evaluator to the evaluator has the smallest distance for each kind of
 * instruction. Calls through sorted(), slots and so on have more C frames in between and are really C calls.
 */
#include "engine/local.h"
#if TF_PY313
#include <opcode_ids.h>
#elif TF_PY312
#include <opcode.h>
#endif

#if !TF_PY311
/* How much of the C limit is used before units are given back. */
#define DEEP_MARGIN 200
static int deep_below;
/* Smallest distance between the entry frames of two evaluations, by the instruction that called. 0: not seen
 * yet. */
static ptrdiff_t least_distance[256];
/* This thread's frames below the deep mark have been given their units back. Initial-exec, so that no access
 * allocates. */
static __thread bool deep __attribute__((tls_model("initial-exec")));
#endif

static inline __attribute__((always_inline)) void emit(uint32_t word, PyThreadState *ts, tf_frame *frame)
{
    uint32_t **p = tf_state.p;
    uint32_t *q = *p;
    /* Release: a consumer that sees the word sees what was stored before. */
    __atomic_store_n(q, word, __ATOMIC_RELEASE);
    *p = ++q;
    if (TF_UNLIKELY(q >= *tf_state.limit))
        tf_state.slow(word, ts, frame);
}

static __attribute__((noinline, cold)) void switch_thread(PyThreadState *ts)
{
    tf_state.last = ts;
    /* Thread states are numbered from 1 in the order of their creation, numbers are not used again. */
    tf_state.core->thread((uint32_t)(ts->id - 1));
}

#define ON_THREAD(ts)                                                                                        \
    do {                                                                                                     \
        if (TF_UNLIKELY((ts) != tf_state.last))                                                              \
            switch_thread(ts);                                                                               \
    } while (0)

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

static void learn_distance(const tf_frame *f)
{
    uint8_t opcode;
    ptrdiff_t distance = f ? link_distance(f, &opcode) : 0;
    if (distance > 0 && (least_distance[opcode] == 0 || distance < least_distance[opcode]))
        least_distance[opcode] = distance;
}

/* Would plain Python have gone from f's caller to f without C? */
static bool is_direct(const tf_frame *f)
{
    uint8_t opcode;
    ptrdiff_t distance = link_distance(f, &opcode);
    if (distance <= 0)
        return false;
    switch (opcode) {
    case CALL:
    case CALL_FUNCTION_EX:
#if TF_PY313
    case CALL_KW:
#endif
    case FOR_ITER:
    case SEND:
    case BINARY_SUBSCR:
    case LOAD_ATTR:
        return distance == least_distance[opcode];
    }
    return false;
}

/* How many units to give back before the next frame is evaluated. One frame late: that of the caller is
 * counted. */
static int units_to_give(PyThreadState *ts)
{
    const tf_frame *f = tf_current_frame(ts);
    int units = 0;
    while (f) {
        if (!tf_frame_is_entry(f)) {
            units += is_direct(f);
            if (deep)
                break;
        }
        f = f->previous;
    }
    return units;
}
#endif

static __attribute__((noinline, cold)) uint64_t define(PyCodeObject *co, PyThreadState *ts)
{
#if !TF_PY311
    learn_distance(tf_current_frame(ts));
#else
    (void)ts;
#endif
    return tf_code_define(co);
}

static inline __attribute__((always_inline)) uint64_t code_value(PyCodeObject *co, PyThreadState *ts)
{
    const struct tf_code_extra *extra = co->co_extra;
    if (TF_LIKELY(extra && extra->size > tf_state.slot)) {
        uint64_t value = (uint64_t)(uintptr_t)extra->extras[tf_state.slot];
        if (TF_LIKELY(value))
            return value;
    }
    return define(co, ts);
}

static PyObject *evaluate_plain(PyThreadState *ts, tf_frame *frame, int exc, uint32_t id)
{
    ON_THREAD(ts);
    emit(TF_WORD(TF_CALL, id), ts, frame);
    PyObject *result = tf_state.eval(ts, frame, exc);
    ON_THREAD(ts);
    emit(result ? TF_WORD(TF_RETURN, 0) : TF_WORD(TF_UNWIND, 0), ts, NULL);
    return result;
}

static PyObject *evaluate_generator(PyThreadState *ts, tf_frame *frame, int exc, uint32_t id)
{
    if (frame->owner != FRAME_OWNED_BY_GENERATOR) /* makes the generator object and returns it */
        return tf_state.eval(ts, frame, exc);
    ON_THREAD(ts);
    tf_state.throwing = exc != 0;
    emit(TF_WORD(tf_frame_started(frame) ? TF_RESUME : TF_CALL, id), ts, frame);
    PyObject *result = tf_state.eval(ts, frame, exc);
    ON_THREAD(ts);
    /* Whoever resumed the generator holds it, and looks at its state after us too. */
    uint32_t tag = !result ? TF_UNWIND : tf_gen_suspended(tf_gen_state(frame)) ? TF_YIELD : TF_RETURN;
    emit(TF_WORD(tag, 0), ts, NULL);
    return result;
}

static __attribute__((noinline)) PyObject *rare(PyThreadState *ts, tf_frame *frame, int exc, uint64_t value)
{
#if !TF_PY311
    if (TF_UNLIKELY(ts->c_recursion_remaining < deep_below)) {
        int units = units_to_give(ts);
        bool was_deep = deep;
        deep = true;
        ts->c_recursion_remaining += units;
        PyObject *result = value & TF_CODE_GENERATOR ? evaluate_generator(ts, frame, exc, TF_CODE_ID(value))
                                                     : evaluate_plain(ts, frame, exc, TF_CODE_ID(value));
        ts->c_recursion_remaining -= units;
        deep = was_deep;
        return result;
    }
#endif
    if (value & TF_CODE_GENERATOR)
        return evaluate_generator(ts, frame, exc, TF_CODE_ID(value));
    return evaluate_plain(ts, frame, exc, TF_CODE_ID(value));
}

static PyObject *hook(PyThreadState *ts, tf_frame *frame, int exc)
{
    uint64_t value = code_value(tf_frame_code(frame), ts);
    if (TF_UNLIKELY(value & TF_CODE_SPECIAL))
        return rare(ts, frame, exc, value);
#if !TF_PY311
    if (TF_UNLIKELY(ts->c_recursion_remaining < deep_below))
        return rare(ts, frame, exc, value);
#endif
    ON_THREAD(ts);
    emit(TF_WORD(TF_CALL, TF_CODE_ID(value)), ts, frame);
    PyObject *result = tf_state.eval(ts, frame, exc);
    ON_THREAD(ts);
    emit(result ? TF_WORD(TF_RETURN, 0) : TF_WORD(TF_UNWIND, 0), ts, NULL);
    return result;
}

void tf_hook_install(void)
{
    PyThreadState *ts = PyThreadState_Get();
    PyInterpreterState *interp = PyThreadState_GetInterpreter(ts);
    tf_state.last = ts;
    tf_state.slot = tf_request_extra_index();
    if (tf_state.slot < 0)
        Py_FatalError("timefork: every slot for extra data of code objects is taken");
#if !TF_PY311
    deep_below = ts->c_recursion_remaining - DEEP_MARGIN;
#endif
    tf_state.eval = (tf_eval_fn)_PyInterpreterState_GetEvalFrameFunc(interp);
    _PyInterpreterState_SetEvalFrameFunc(interp, (_PyFrameEvalFunction)hook);
}

void tf_hook_remove(void)
{
    PyInterpreterState *interp = PyThreadState_GetInterpreter(tf_this_thread());
    _PyInterpreterState_SetEvalFrameFunc(interp, (_PyFrameEvalFunction)tf_state.eval);
}
