/*
 * scan_311.c: events for searches, from Python 3.11.
 *
 * Our function takes the place of the thread's trace function, and another hook switches tracing on and
 * off as functions are entered and left: with the frame hook every evaluation has a C frame, and a flag, of
 * its own, which it takes over from its caller when it begins and hands back when it ends. Tracing needs a
 * frame object for each activation; those come from the engine's heap. Where the program itself takes hold of
 * such an object (a traceback, sys._getframe), the recording had it in the program's heap, and the addresses
 * of what is allocated later in this scan may differ: whoever lands on what was found verifies it there.
 */
#include "engine/scan_local.h"
#if TF_PY311
#include <opcode.h>

/* Also of one that is about to run for the first time, and has no id yet. */
static bool wanted(PyCodeObject *co)
{
    uint64_t extra = tf_code_extra_of(co);
    uint32_t id = extra ? TF_CODE_ID(extra) : tf_state.core->next_code();
    return id < tf_search.req->codes && tf_search.masks[id] &&
           (extra || tf_scan_needs(co, id) || tf_search.raise_points);
}

/* Each thread has a trace function of its own. */
struct traced_thread {
    PyThreadState *ts;
    uint64_t id; /* of the state: another one may come to its address */
    Py_tracefunc program_tracer;
    bool traced; /* the function that runs, or one further out, is one that is concerned */
};
#define THREADS (1u << 13) /* as many can be there at a time, and half as many more */
static struct traced_thread threads[THREADS], *last_thread;

/* What is known of the thread. One that has begun since the scan did has nothing but its own. */
static struct traced_thread *thread_of(PyThreadState *ts)
{
    if (last_thread && last_thread->ts == ts && last_thread->id == ts->id)
        return last_thread;
    size_t i = ((uintptr_t)ts >> 4) % THREADS, tries = 0;
    while (threads[i].ts && threads[i].ts != ts && ++tries < THREADS)
        i = (i + 1) % THREADS;
    if (threads[i].ts != ts || threads[i].id != ts->id)
        threads[i] = (struct traced_thread){.ts = ts, .id = ts->id, .program_tracer = ts->c_tracefunc};
    return last_thread = &threads[i];
}

static void (*frame_dealloc)(PyObject *);

/* The collector counted the frame object neither when it was made nor counts it when it goes, unless the
 * program has come to need it. */
static void dealloc_ours(PyObject *self)
{
    const void *block = (char *)self - sizeof(PyGC_Head);
    if (tf_heap_owns(block) && !tf_heap_has_shadow(block))
        tf_search.ts->interp->gc.generations[0].count++;
    frame_dealloc(self);
}

/* Somebody else holds the frame object, or a traceback: in the recording it was made for that. */
static void note_needed(PyFrameObject *f)
{
    if (Py_REFCNT(f) > 1 && tf_heap_shadow((char *)f - sizeof(PyGC_Head)))
        tf_search.ts->interp->gc.generations[0].count++;
}

/* At the start of the function. An exception that is thrown into a suspended generator is told before its
 * RESUME, at the instruction behind which it was suspended; into one that has not begun, at the one that made
 * it. */
static bool is_called(tf_frame *frame)
{
    PyCodeObject *co = tf_frame_code(frame);
    uint8_t op = tf_code_opcode(co, tf_frame_instr(frame) - _PyCode_CODE(co));
    return (op == RESUME && tf_unit_oparg(*tf_frame_instr(frame)) == 0) || op == RETURN_GENERATOR;
}

static int tracer(PyObject *obj, PyFrameObject *f, int what, PyObject *arg)
{
    if (!tf_scan_follow())
        return 0;
    Py_tracefunc program_tracer = thread_of(tf_search.ts)->program_tracer;
    if (program_tracer) {
        int status = program_tracer(obj, f, what, arg);
        if (status)
            return status;
        tf_scan_follow(); /* other threads may have run */
    }
    tf_frame *frame = f->f_frame;
    struct tf_raised raised = tf_raised_take(tf_search.ts);
    note_needed(f);
    switch (what) {
    case PyTrace_CALL:
        if (is_called(frame))
            tf_scan_at_call(frame);
        break;
    case PyTrace_LINE:
        tf_scan_at_line(frame, tf_frame_line(frame));
        break;
    case PyTrace_RETURN:
        if (tf_search.any_local)
            tf_scan_at_exit(frame);
        break;
    case PyTrace_EXCEPTION:
        if (tf_search.any_raise && PyTuple_Check(arg) && PyTuple_GET_SIZE(arg) == 3 &&
            PyExceptionInstance_Check(PyTuple_GET_ITEM(arg, 1)))
            tf_scan_at_raise(frame, PyTuple_GET_ITEM(arg, 1), PyTuple_GET_ITEM(arg, 2));
        break;
    }
    tf_raised_put(tf_search.ts, raised);
    return 0;
}

/* The program may set a trace function of its own meanwhile: in a function that has our own, lines are missed
 * from there on. */
static void note_tracer(PyThreadState *ts)
{
    struct traced_thread *t = thread_of(ts);
    if (ts->c_tracefunc == (t->traced ? tracer : t->program_tracer))
        return;
    if (t->traced)
        tf_state.core->divergence(
            "the program calls sys.settrace in a function that is searched: Python 3.11 cannot "
            "trace it for both");
    t->program_tracer = ts->c_tracefunc;
}

/* Without a function that asks for it there must be no trace function: exceptions would be treated
 * differently. */
static void set_tracer(PyThreadState *ts, bool traced)
{
    struct traced_thread *t = thread_of(ts);
    t->traced = traced;
    ts->c_tracefunc = traced ? tracer : t->program_tracer;
}

static void prepare_frame(PyThreadState *ts, tf_frame *frame)
{
    if (frame->frame_obj)
        return;
    struct tf_diverted saved = tf_divert_begin(ts);
    tf_make_line_array(tf_frame_code(frame));
    tf_make_frame_object(ts, frame);
    tf_divert_end(ts, saved);
}

static tf_eval_fn hook_before;

/* In front of the ordinary hook, whose evaluation takes over the flag. */
static PyObject *scan_hook(PyThreadState *ts, tf_frame *frame, int exc)
{
    uint8_t outer = ts->cframe->use_tracing;
    if (ts->interp != tf_search.ts->interp)
        return hook_before(ts, frame, exc);
    bool outer_traced = thread_of(ts)->traced;
    note_tracer(ts);
    bool here = !ts->tracing && wanted(tf_frame_code(frame));
    /* The evaluation that only makes a generator object must not have a frame object. */
    if ((tf_frame_code(frame)->co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR)) &&
        frame->owner != FRAME_OWNED_BY_GENERATOR)
        here = false;
    if (here)
        prepare_frame(ts, frame);
    set_tracer(ts, here);
    ts->cframe->use_tracing = ts->c_tracefunc || ts->c_profilefunc ? (ts->tracing ? 0 : 255) : 0;
    PyObject *result = hook_before(ts, frame, exc);
    note_tracer(ts);
    set_tracer(ts, outer_traced);
    ts->cframe->use_tracing = (thread_of(ts)->program_tracer || ts->c_profilefunc) && !ts->tracing ? 255
                              : outer_traced                                                       ? outer
                                                                                                   : 0;
    return result;
}

void tf_scan_code(PyCodeObject *co, uint32_t id)
{
    tf_scan_needs(co, id);
}

/* What is on the thread's stack when the scan begins. */
static void install_thread(PyThreadState *ts, tf_frame *entering)
{
    /* A function hands its flag to its caller when it ends: what is on the stack now must not lose it for one
     * that is further out. From the outermost on. */
    _PyCFrame *chain[1024];
    size_t n = 0;
    bool all = false, traced = false;
    for (_PyCFrame *c = ts->cframe; c; c = c->previous) {
        if (n < 1024)
            chain[n++] = c;
        else
            all = true;
    }
    traced = all || thread_of(ts)->program_tracer || ts->c_profilefunc;
    for (_PyCFrame *c = ts->cframe; all && c; c = c->previous)
        c->use_tracing = 255;
    while (n--) {
        tf_frame *f = chain[n]->current_frame;
        if (f && tf_frame_code(f) && wanted(tf_frame_code(f)))
            traced = true;
        if (traced && !ts->tracing)
            chain[n]->use_tracing = 255;
    }
    bool ours = false;
    for (tf_frame *f = tf_current_frame(ts); f; f = f->previous)
        ours |= wanted(tf_frame_code(f));
    set_tracer(ts, ours);
    for (tf_frame *f = tf_frame_complete(tf_current_frame(ts)); ours && f; f = tf_frame_complete(f->previous))
        prepare_frame(ts, f);
    if (entering && wanted(tf_frame_code(entering)) && !ts->tracing) {
        prepare_frame(ts, entering);
        set_tracer(ts, true);
        ts->cframe->use_tracing = 255; /* its evaluation begins after this, in the ordinary hook */
    }
}

void tf_scan_install(PyThreadState *ts, tf_frame *entering, int event)
{
    (void)event;
    frame_dealloc = PyFrame_Type.tp_dealloc;
    PyFrame_Type.tp_dealloc = dealloc_ours;
    for (uint32_t id = 0; id < tf_search.req->codes; id++)
        if (tf_search.masks[id] && tf_code_by_id(id))
            tf_scan_needs(tf_code_by_id(id), id);
    hook_before = (tf_eval_fn)_PyInterpreterState_GetEvalFrameFunc(ts->interp);
    _PyInterpreterState_SetEvalFrameFunc(ts->interp, (_PyFrameEvalFunction)scan_hook);
    for (PyThreadState *t = PyInterpreterState_ThreadHead(ts->interp); t; t = PyThreadState_Next(t))
        install_thread(t, t == ts ? entering : tf_entering(t, NULL));
}

#endif
