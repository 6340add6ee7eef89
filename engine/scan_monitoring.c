/*
 * scan_monitoring.c: events for searches, from 3.12 and later: local events of sys.monitoring on the code
 * objects that are concerned, RAISE, PY_UNWIND and PY_THROW as global ones.
 */
#include "engine/scan_local.h"
#if !TF_PY311
#if TF_PY313
#include <opcode_ids.h>
#else
#include <opcode.h>
#endif

/*
 * An instruction that begins a line is not specialised while it has events. Most do the same either way;
 * unpacking a tuple or list makes an iterator then, which the recording had no need of (beyond the first
 * times).
 */
static bool lines_checked, lines_known;

/* The instruction that INSTRUMENTED_LINE stands for. Entries were an instruction and a distance; since 3.13.3
 * they are as long as the first byte of all says. Whichever headers the engine was built with. */
static uint8_t under_line(const void *lines, Py_ssize_t i)
{
    const uint8_t *bytes = lines;
    return Py_Version >= 0x030d0300 ? bytes[1 + i * bytes[0]] : bytes[2 * i];
}

static void check_lines(PyCodeObject *co, const uint8_t *before, Py_ssize_t n)
{
    const _PyCoMonitoringData *data = co->_co_monitoring;
    bool same = data && data->lines;
    Py_ssize_t found = 0;
    for (Py_ssize_t i = 0; same && i < n; i++)
        if (_PyCode_CODE(co)[i].op.code == INSTRUMENTED_LINE) {
            same = under_line(data->lines, i) == before[i];
            found++;
        }
    if (found || !same)
        lines_checked = true;
    lines_known = same && found;
}

static void before_line_runs(tf_frame *f)
{
    PyCodeObject *co = tf_frame_code(f);
    Py_ssize_t i = tf_frame_instr(f) - _PyCode_CODE(co);
    tf_heap_once_end();
    if (!lines_known || i < 0 || i >= Py_SIZE(co) || _PyCode_CODE(co)[i].op.code != INSTRUMENTED_LINE ||
        under_line(co->_co_monitoring->lines, i) != UNPACK_SEQUENCE || f->stacktop <= co->co_nlocalsplus)
        return;
    PyObject *top = f->localsplus[f->stacktop - 1];
    if (PyTuple_CheckExact(top) || PyList_CheckExact(top))
        tf_heap_once(
            tf_search.ts,
            sizeof(PyGC_Head) +
                (size_t)(PyTuple_CheckExact(top) ? &PyTupleIter_Type : &PyListIter_Type)->tp_basicsize);
}

static PyObject *on_line(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (n >= 2 && tf_scan_follow()) {
        tf_scan_at_line(tf_current_frame(tf_search.ts), (int)PyLong_AsLong(args[1]));
        before_line_runs(tf_current_frame(tf_search.ts));
    }
    Py_RETURN_NONE;
}

/* As in stop.c: a jump back within one line counts as a line. */
static PyObject *on_jump(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n < 3 || !tf_scan_follow())
        Py_RETURN_NONE;
    tf_heap_number(args[1]);
    tf_heap_number(args[2]);
    long from = PyLong_AsLong(args[1]), to = PyLong_AsLong(args[2]);
    if (to < from) {
        tf_frame *f = tf_current_frame(tf_search.ts);
        int line = PyCode_Addr2Line(tf_frame_code(f), (int)to);
        if (line == PyCode_Addr2Line(tf_frame_code(f), (int)from))
            tf_scan_at_line(f, line);
    }
    Py_RETURN_NONE;
}

static PyObject *on_start(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (tf_scan_follow())
        tf_scan_at_call(tf_current_frame(tf_search.ts));
    Py_RETURN_NONE;
}

/* An exception is thrown into a generator. Into one that has not begun: that is its call. */
static PyObject *on_throw(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (tf_scan_follow() && !tf_frame_started(tf_current_frame(tf_search.ts)))
        tf_scan_at_call(tf_current_frame(tf_search.ts));
    Py_RETURN_NONE;
}

static PyObject *on_exit_event(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (tf_scan_follow())
        tf_scan_at_exit(tf_current_frame(tf_search.ts));
    Py_RETURN_NONE;
}

static PyObject *on_raise(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (n >= 3 && tf_scan_follow() && PyExceptionInstance_Check(args[2]))
        tf_scan_at_raise(tf_current_frame(tf_search.ts), args[2],
                         ((PyBaseExceptionObject *)args[2])->traceback);
    Py_RETURN_NONE;
}

static PyMethodDef line_def = {"timefork", (PyCFunction)(void (*)(void))on_line, METH_FASTCALL, NULL};
static PyMethodDef jump_def = {"timefork", (PyCFunction)(void (*)(void))on_jump, METH_FASTCALL, NULL};
static PyMethodDef start_def = {"timefork", (PyCFunction)(void (*)(void))on_start, METH_FASTCALL, NULL};
static PyMethodDef throw_def = {"timefork", (PyCFunction)(void (*)(void))on_throw, METH_FASTCALL, NULL};
static PyMethodDef exit_def = {"timefork", (PyCFunction)(void (*)(void))on_exit_event, METH_FASTCALL, NULL};
static PyMethodDef raise_def = {"timefork", (PyCFunction)(void (*)(void))on_raise, METH_FASTCALL, NULL};

static void instrument(PyCodeObject *co, uint32_t id)
{
    uint64_t what = tf_scan_needs(co, id);
    int events = 0;
    if (what & TF_SCAN_LINES) {
        events |= 1 << PY_MONITORING_EVENT_LINE | 1 << PY_MONITORING_EVENT_JUMP;
#if TF_PY313
        events |= 1 << PY_MONITORING_EVENT_PY_START | 1 << PY_MONITORING_EVENT_PY_RESUME; /* as in stop.c */
#endif
    }
    if (what & TF_NEEDS_START)
        events |= 1 << PY_MONITORING_EVENT_PY_START;
    if (what & TF_NEEDS_EXIT)
        events |= 1 << PY_MONITORING_EVENT_PY_RETURN;
    /* Global events bring every code object up to date when it runs next: better here. An event that nobody
     * listens to does it. */
    if (!events && (tf_search.any_raise || tf_search.any_local || tf_search.any_call))
        events = 1 << PY_MONITORING_EVENT_STOP_ITERATION;
    uint8_t before[256];
    Py_ssize_t known = Py_SIZE(co) < 256 ? Py_SIZE(co) : 256;
    for (Py_ssize_t i = 0; !lines_checked && (what & TF_SCAN_LINES) && i < known; i++)
        before[i] = tf_code_opcode(co, i);
    if (events && !tf_tool_set(tf_search.tool, co, events))
        tf_state.core->divergence("timefork could not search: out of memory, or sys.monitoring was replaced");
    if (!lines_checked && (what & TF_SCAN_LINES))
        check_lines(co, before, known);
}

/* A code object runs for the first time: in the hook, in front of its evaluation. */
void tf_scan_code(PyCodeObject *co, uint32_t id)
{
    if ((id >= tf_search.req->codes || !tf_search.masks[id]) && !tf_search.any_raise &&
        !tf_search.any_local && !tf_search.any_call)
        return;
    tf_scan_follow();
    struct tf_raised raised = tf_raised_take(tf_search.ts);
    struct tf_diverted saved = tf_divert_begin(tf_search.ts);
    instrument(co, id);
    tf_divert_end(tf_search.ts, saved);
    tf_raised_put(tf_search.ts, raised);
}

void tf_scan_install(PyThreadState *ts, tf_frame *entering, int event)
{
    (void)entering, (void)event;
    struct tf_diverted saved = tf_divert_begin(ts);
    PyInterpreterState *interp = ts->interp;
    int events = 0, global = 0;
    tf_heap_measure();
    tf_search.tool = tf_tool_take(interp);
    tf_tool_name(interp, tf_search.tool);
    bool ok = tf_tool_listen(interp, tf_search.tool, PY_MONITORING_EVENT_LINE, &line_def, &events) &&
              tf_tool_listen(interp, tf_search.tool, PY_MONITORING_EVENT_JUMP, &jump_def, &events) &&
              tf_tool_listen(interp, tf_search.tool, PY_MONITORING_EVENT_PY_START, &start_def, &events) &&
              tf_tool_listen(interp, tf_search.tool, PY_MONITORING_EVENT_PY_RETURN, &exit_def, &events);
    if (tf_search.any_raise)
        ok = ok && tf_tool_listen(interp, tf_search.tool, PY_MONITORING_EVENT_RAISE, &raise_def, &global);
    if (tf_search.any_call)
        ok = ok && tf_tool_listen(interp, tf_search.tool, PY_MONITORING_EVENT_PY_THROW, &throw_def, &global);
    if (tf_search.any_local)
        ok = ok && tf_tool_listen(interp, tf_search.tool, PY_MONITORING_EVENT_PY_UNWIND, &exit_def, &global);
    if (global)
        ok = ok && tf_tool_set(tf_search.tool, NULL, global);
    if (!ok)
        tf_state.core->divergence("timefork could not search: out of memory, or sys.monitoring was replaced");
    for (uint32_t id = 0; id < tf_search.req->codes; id++)
        if ((tf_search.masks[id] || tf_search.any_raise || tf_search.any_local || tf_search.any_call) &&
            tf_code_by_id(id))
            instrument(tf_code_by_id(id), id);
    tf_divert_end(ts, saved);
}

#endif
