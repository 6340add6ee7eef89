/*
 * stop.c: makes a replaying process stop inside a frame.
 *
 * arm() runs right after a frame event, inside the hook. Until the next frame event only one function runs,
 * and the process never gets past that event: it either stops here, or the core sees the event, asks
 * lines_seen() and gives up. So the watch needs no removal, and covers one code object.
 *
 * 3.12 and later: local events of sys.monitoring on the code object, with a tool id that the program does not
 * use. PY_UNWIND and PY_THROW exist as global events only. Callbacks of the program's own tools (coverage,
 * sys.settrace) run before ours and stay as they are: if they are Python functions their frame events come
 * where the recording has them.
 *
 * 3.11: our function takes the place of the thread's trace function and calls the program's own first, for
 * the same reason.
 *
 * When the program is inside a trace function or callback of its own, the interpreter makes no events at all.
 * Then the program's tracing is switched off from here to the stop, and ours is possible.
 *
 * Not seen: 3.12 and later hand out no line and no exit for a frame that fails before its first instruction
 * (recursion limit): the core sees the next event instead. Lines of a frame that throw() links without
 * running it count for its caller.
 *
 * What arm() has to allocate comes from the engine's own heap (heap.c), so that the objects which the program
 * makes between arm() and the stop have the addresses that they had in the recording.
 */
#include "engine/local.h"
#if TF_PY311
#include <opcode.h>
#endif

struct tf_exit_value tf_exit_value = {.event = -1};

#define RAISED_KEPT 8

static struct {
    struct tf_stop_req req;
    PyThreadState *ts;
    tf_frame *frame; /* the frame to stop in */
    uint64_t lines;  /* seen */
#if TF_PY311
    Py_tracefunc program_tracer;
    PyObject
        *raised[RAISED_KEPT]; /* the last exceptions that were raised in the frame, the latest last; strong */
    int raised_count;
#endif
} armed;

uint64_t tf_stop_lines_seen(void)
{
    return armed.lines;
}

/* ---- Reaching it. */

static __attribute__((noreturn)) void reached(void)
{
    tf_state.core->stopped(TF_STOPPED_AT, armed.lines);
    abort(); /* does not return; the attribute of a function pointer is not believed by every compiler */
}

static __attribute__((noreturn)) void reached_exit(PyObject *value)
{
    tf_exit_value.event = (int)armed.req.exit_event;
    tf_exit_value.value = Py_XNewRef(value);
    reached();
}

static bool in_frame(tf_frame *f)
{
    return tf_this_thread() == armed.ts && f == armed.frame;
}

/* ---- The program's own trace functions and callbacks. */

static bool is_function(PyObject *callable, PyObject *function)
{
    if (callable && PyMethod_Check(callable))
        callable = PyMethod_GET_FUNCTION(callable);
    return callable && callable == function;
}

static bool is_callback(PyThreadState *ts, tf_frame *f, tf_frame *caller)
{
    PyObject *function = tf_frame_func(f);
    if (!function)
        return false;
    if (is_function(ts->c_traceobj, function) || is_function(ts->c_profileobj, function) ||
        (caller && caller->frame_obj && is_function(caller->frame_obj->f_trace, function)))
        return true;
#if !TF_PY311
    for (int t = 0; t < PY_MONITORING_TOOL_IDS; t++)
        for (int e = 0; e < _PY_MONITORING_EVENTS; e++)
            if (is_function(ts->interp->monitoring_callables[t][e], function))
                return true;
#endif
    return false;
}

/* Does the frame run inside one of them? Then the interpreter makes no events for it. If only the event that
 * has just happened belonged to one, there will be events again. */
bool tf_inside_callback(PyThreadState *ts, tf_frame *frame)
{
    if (!ts->tracing)
        return false;
    tf_frame *f = tf_frame_complete(tf_current_frame(ts));
    if (frame != f && is_callback(ts, frame, f)) /* it has not been linked yet */
        return true;
    for (tf_frame *caller; f; f = caller) {
        caller = tf_frame_complete(f->previous);
        if (is_callback(ts, f, caller))
            return true;
    }
    return false;
}

#if TF_PY311

static void note_raised(PyObject *value)
{
    int i = 0;
    while (i < armed.raised_count && armed.raised[i] != value)
        i++;
    if (i == armed.raised_count) {
        Py_INCREF(value);
        if (armed.raised_count < RAISED_KEPT) {
            armed.raised[armed.raised_count++] = value;
            return;
        }
        i = 0;
        Py_DECREF(armed.raised[0]);
    }
    memmove(armed.raised + i, armed.raised + i + 1, (size_t)(armed.raised_count - 1 - i) * sizeof(value));
    armed.raised[armed.raised_count - 1] = value;
}

/* The interpreter has put the exception that leaves where nobody can look for it. It is not always the last
 * one that was raised: a finally block may have raised and caught another. It is the one that something
 * unknown holds. */
static PyObject *leaving_exception(tf_frame *frame)
{
    for (int i = armed.raised_count - 1; i >= 0; i--) {
        PyObject *value = armed.raised[i];
        Py_ssize_t unknown = Py_REFCNT(value) - 1;
        for (int k = 0; k < armed.raised_count; k++) {
            PyBaseExceptionObject *other = (PyBaseExceptionObject *)armed.raised[k];
            if (PyExceptionInstance_Check(armed.raised[k]))
                unknown -= (other->context == value) + (other->cause == value);
        }
        for (int k = 0; k < tf_frame_code(frame)->co_nlocalsplus; k++)
            unknown -= frame->localsplus[k] == value;
        if (unknown > 0)
            return value;
    }
    return armed.raised_count ? armed.raised[armed.raised_count - 1] : NULL;
}

static int tracer(PyObject *obj, PyFrameObject *frame, int what, PyObject *arg)
{
    bool exit = armed.req.kind == TF_STOP_EXIT;
    if (what == PyTrace_CALL && !exit && armed.req.lines == 0 && in_frame(frame->f_frame))
        reached(); /* before the program's own, whose frame events come after this position */
    if (armed.program_tracer) {
        int status = armed.program_tracer(obj, frame, what, arg);
        if (status)
            return status;
    }
    if (!in_frame(frame->f_frame))
        return 0;
    switch (what) {
    case PyTrace_LINE:
        if (!exit && ++armed.lines == armed.req.lines)
            reached();
        break;
    case PyTrace_EXCEPTION:
        /* Held only where it is asked for: an exception that is caught dies at its time otherwise. */
        if (exit && armed.req.exit_event == TF_UNWIND && PyTuple_Check(arg) && PyTuple_GET_SIZE(arg) == 3)
            note_raised(PyTuple_GET_ITEM(arg, 1));
        break;
    case PyTrace_RETURN:
        if (exit)
            reached_exit(arg ? arg : leaving_exception(frame->f_frame));
        break;
    }
    return 0;
}

/* The line table that tracing makes at its first event. Made here, where it does not cost the program's heap.
 */
void tf_make_line_array(PyCodeObject *co)
{
    if (co->_co_linearray)
        return;
    int entry = 2;
    for (Py_ssize_t i = 0; i < Py_SIZE(co); i++)
        if (PyCode_Addr2Line(co, (int)(i * (Py_ssize_t)sizeof(_Py_CODEUNIT))) >= 1 << 15)
            entry = 4;
    char *lines = PyMem_Malloc((size_t)Py_SIZE(co) * (size_t)entry);
    if (!lines)
        return;
    for (Py_ssize_t i = 0; i < Py_SIZE(co); i++) {
        int line = PyCode_Addr2Line(co, (int)(i * (Py_ssize_t)sizeof(_Py_CODEUNIT)));
        if (entry == 2)
            ((int16_t *)lines)[i] = (int16_t)line;
        else
            ((int32_t *)lines)[i] = line;
    }
    co->_co_linearray_entry_size = (short)entry;
    co->_co_linearray = lines; /* last: PyCode_Addr2Line reads the array once it is there */
}

/* Tracing makes a frame object at its first event; also made here. The frame may not be linked yet. */
void tf_make_frame_object(PyThreadState *ts, tf_frame *frame)
{
    tf_frame *current = tf_current_frame(ts);
    _Py_CODEUNIT *instr = tf_frame_instr(frame);
    PyCodeObject *co = tf_frame_code(frame);
    if (frame->owner != FRAME_OWNED_BY_GENERATOR && !tf_frame_started(frame))
        tf_frame_set_instr(frame, _PyCode_CODE(co) + co->_co_firsttraceable);
    tf_set_current_frame(ts, frame);
    Py_XDECREF(PyThreadState_GetFrame(ts));
    tf_set_current_frame(ts, current);
    tf_frame_set_instr(frame, instr);
}

static void watch(PyThreadState *ts, tf_frame *frame, int event)
{
    (void)event;
    tf_make_line_array(tf_frame_code(frame));
    tf_make_frame_object(ts, frame);
    armed.program_tracer = ts->c_tracefunc;
    if (tf_inside_callback(ts, frame)) {
        ts->tracing = 0;
        armed.program_tracer = NULL;
        ts->c_profilefunc = NULL;
    }
    ts->c_tracefunc = tracer;
    ts->cframe->use_tracing = 255;
}

#else

static PyObject *at_start_event(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self, (void)args, (void)n;
    if (in_frame(tf_current_frame(armed.ts)))
        reached();
    Py_RETURN_NONE;
}

static PyObject *at_line_event(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self, (void)args, (void)n;
    if (in_frame(tf_current_frame(armed.ts)) && ++armed.lines == armed.req.lines)
        reached();
    Py_RETURN_NONE;
}

static PyObject *at_exit_event(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (in_frame(tf_current_frame(armed.ts)))
        reached_exit(n >= 3 ? args[2] : NULL);
    Py_RETURN_NONE;
}

/* LINE means "another line than before"; a jump back within one line is a JUMP only. sys.settrace reports it
 * as a line. */
static PyObject *at_jump_event(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    tf_frame *f = tf_current_frame(armed.ts);
    if (n < 3 || !in_frame(f))
        Py_RETURN_NONE;
    long from = PyLong_AsLong(args[1]), to = PyLong_AsLong(args[2]);
    PyCodeObject *co = tf_frame_code(f);
    if (to < from && PyCode_Addr2Line(co, (int)to) == PyCode_Addr2Line(co, (int)from) &&
        ++armed.lines == armed.req.lines)
        reached();
    Py_RETURN_NONE;
}

static PyMethodDef start_def = {"timefork", (PyCFunction)(void (*)(void))at_start_event, METH_FASTCALL, NULL};
static PyMethodDef line_def = {"timefork", (PyCFunction)(void (*)(void))at_line_event, METH_FASTCALL, NULL};
static PyMethodDef jump_def = {"timefork", (PyCFunction)(void (*)(void))at_jump_event, METH_FASTCALL, NULL};
static PyMethodDef exit_def = {"timefork", (PyCFunction)(void (*)(void))at_exit_event, METH_FASTCALL, NULL};

static void watch(PyThreadState *ts, tf_frame *frame, int event)
{
    PyInterpreterState *interp = ts->interp;
    int tool = tf_tool_take(interp);
    if (tf_inside_callback(ts, frame)) {
        ts->tracing = 0;
        ts->c_tracefunc = NULL;
        ts->c_profilefunc = NULL;
        for (int t = 0; t < PY_MONITORING_TOOL_IDS; t++)
            for (int e = 0; e < _PY_MONITORING_EVENTS; e++)
                interp->monitoring_callables[t][e] = NULL;
    }
    tf_tool_name(interp, tool);
    int events = 0;
    bool ok = true;
    if (armed.req.kind == TF_STOP_EXIT) {
        int what = armed.req.exit_event == TF_RETURN  ? PY_MONITORING_EVENT_PY_RETURN
                   : armed.req.exit_event == TF_YIELD ? PY_MONITORING_EVENT_PY_YIELD
                                                      : PY_MONITORING_EVENT_PY_UNWIND;
        ok = tf_tool_listen(interp, tool, what, &exit_def, &events);
    } else if (armed.req.lines) {
        ok = tf_tool_listen(interp, tool, PY_MONITORING_EVENT_LINE, &line_def, &events) &&
             tf_tool_listen(interp, tool, PY_MONITORING_EVENT_JUMP, &jump_def, &events);
#if TF_PY313
        /* 3.13 leaves out a first line that is the function's own line, unless its start is an event too
         * (nobody listens). */
        events |= 1 << PY_MONITORING_EVENT_PY_START | 1 << PY_MONITORING_EVENT_PY_RESUME;
#endif
    } else {
        bool throwing = frame->owner == FRAME_OWNED_BY_GENERATOR && tf_state.throwing;
        int what = throwing             ? PY_MONITORING_EVENT_PY_THROW
                   : event == TF_RESUME ? PY_MONITORING_EVENT_PY_RESUME
                                        : PY_MONITORING_EVENT_PY_START;
        /* The program's own callbacks would come first, with frame events that come after this position. */
        for (int t = 0; t < PY_MONITORING_TOOL_IDS; t++)
            interp->monitoring_callables[t][what] = NULL;
        ok = tf_tool_listen(interp, tool, what, &start_def, &events);
    }
    bool global = events & (1 << PY_MONITORING_EVENT_PY_UNWIND | 1 << PY_MONITORING_EVENT_PY_THROW);
    if (ok && (global ? tf_tool_set(tool, NULL, events) : tf_tool_set(tool, tf_frame_code(frame), events)))
        return;
    tf_state.core->divergence(
        "timefork could not watch for the position: out of memory, or sys.monitoring was replaced");
}

#endif

/* Is it not run by an evaluation of its own? */
static bool is_only_linked(tf_frame *frame)
{
#if TF_PY311
    /* One that runs has gone on behind the instruction at which it was suspended. */
    PyCodeObject *co = tf_frame_code(frame);
    return tf_code_opcode(co, tf_frame_instr(frame) - _PyCode_CODE(co)) == YIELD_VALUE;
#else
    return !tf_frame_is_entry(frame->previous);
#endif
}

void tf_stop_arm(const struct tf_stop_req *req, void *tstate, void *frame_arg, int event)
{
    PyThreadState *ts = tstate;
    bool entered = tf_thread_enter(&ts); /* at a SWITCH */
    tf_thread_leave(entered);
    armed.req = *req;
    armed.ts = ts;
    armed.lines = 0;
    tf_frame *frame = frame_arg;
    if (!frame && ts) {
        frame = tf_frame_complete(tf_current_frame(ts));
        /* throw() into a generator that waits for another one links the outer frame without running it.
         * Control goes back to who called throw(). */
        while (frame && frame->owner == FRAME_OWNED_BY_GENERATOR && frame->previous && is_only_linked(frame))
            frame = tf_frame_complete(frame->previous);
    }
    armed.frame = frame;
    bool entering = event == TF_CALL || event == TF_RESUME;
    if (event == TF_SWITCH && ts && tf_entering(ts, NULL)) /* the thread was about to evaluate this one */
        armed.frame = frame = tf_entering(ts, &event);
    if (entering && req->kind == TF_STOP_LINE && req->lines == 0) {
        tf_state.stays = true; /* the function begins before another thread runs */
        tf_gil_ask(false);
    }
    if (!frame && req->kind == TF_STOP_LINE && req->lines)
        return;               /* nothing is running: what comes next is another event, or the end */
    if (!frame && req->lines) /* no Python function runs here: no lines come */
        tf_state.core->stopped(TF_STOPPED_SHORT, 0);
    if (!frame || (req->kind == TF_STOP_LINE && req->lines == 0 && !entering))
        reached();

    entered = tf_thread_enter(&ts);
    struct tf_raised raised = tf_raised_take(ts); /* the event may be an unwinding */
    struct tf_diverted saved = tf_divert_begin(ts);
    watch(ts, frame, event);
    tf_divert_end(ts, saved);
    tf_raised_put(ts, raised);
    tf_thread_leave(entered);
}
