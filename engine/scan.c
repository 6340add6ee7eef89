/*
 * scan.c: finds positions while a replaying process runs on (replay/search.h). The process is thrown away
 * afterwards, but what it does until then has to be what the recording did: so here, too, nothing is
 * allocated from the program's heap, and expressions run either without Python code (pure.h) or in a fork.
 *
 * A position is counted as stop.c counts it: the event, and the line events since then. Between two frame
 * events one function runs, so a counter that starts anew at each event is enough, if that function has line
 * events; only the functions that are concerned have them.
 *
 * 3.12 and later: local events of sys.monitoring on their code objects, RAISE as a global one.
 *
 * 3.11: our function takes the place of the thread's trace function, and another hook switches tracing on and
 * off as functions are entered and left: with the frame hook every evaluation has a C frame, and a flag, of
 * its own, which it takes over from its caller when it begins and hands back when it ends. Tracing needs a
 * frame object for each activation; those come from the engine's heap. Where the program itself takes hold of
 * such an object (a traceback, sys._getframe), the recording had it in the program's heap, and the addresses
 * of what is allocated later in this scan may differ: whoever lands on what was found verifies it there.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/local.h"
#if TF_PY313
#include <opcode_ids.h>
#else
#include <opcode.h>
#endif
#include "engine/pure.h"

#define UNKNOWN UINT64_MAX
#define DEPTHS (1u << 20)

bool tf_scanning;

struct place {
    uint64_t frame, lines;
};

struct watch {
    bool alive;      /* the activation has begun and not ended */
    uint32_t inside; /* depth at which the generator runs now; 0: it is suspended */
    tf_frame *frame;
    uint64_t value;
    PyObject *module; /* name of the module; in the engine's heap */
};

static struct {
    const struct tf_scan *req;
    const char *base;
    const struct tf_scan_point *points;
    uint64_t *masks;
    PyThreadState *ts;
    int tool;
    bool lines_everywhere; /* of use for nothing but RAISE: a line count that is known */
    struct place here;     /* the last event, and lines since then */
    uint32_t depth;        /* of the function that runs */
    uint32_t least;        /* the least since the scan began */
    uint64_t counts[TF_SCAN_POINTS];
    struct watch watches[TF_SCAN_POINTS];
    struct place checked; /* where the watched values were looked at last */
    bool any_watch, any_local, any_raise, any_call;
    uint64_t raise_points; /* bit i: points[i] is a RAISE */
    uint32_t waiting;      /* points that can still be met */
#if TF_PY311
    Py_tracefunc program_tracer;
    bool traced; /* the function that runs, or one further out, is one that is concerned */
#endif
} s;

/* Where the line that runs began, for each function on the stack. */
static struct place line_at[DEPTHS];

static const char *text_of(struct tf_scan_text text)
{
    return s.base + text.at;
}

static int compare(struct place a, struct place b)
{
    if (a.frame != b.frame)
        return a.frame < b.frame ? -1 : 1;
    return a.lines < b.lines ? -1 : a.lines > b.lines;
}

static bool behind_start(struct place p)
{
    return compare(p, (struct place){s.req->from_frame, s.req->from_lines}) > 0;
}

static void end_if_beyond(struct place p)
{
    if (compare(p, (struct place){s.req->end_frame, s.req->end_lines}) > 0)
        tf_state.core->scan_end();
}

/* ---- expressions ---- */

struct question {
    const struct tf_scan_point *point;
    struct tf_scan_text text;
    tf_frame *frame;
    PyObject *globals;
    uint32_t number;
    struct place at;
    bool is_log, is_watch;
};

/* In a fork. The objects that an expression makes are at other addresses each time: only what they say
 * counts. */
static uint64_t fingerprint_aside(PyObject *value)
{
    PyObject *repr = PyObject_Repr(value);
    Py_ssize_t len = 0;
    const char *text = repr ? PyUnicode_AsUTF8AndSize(repr, &len) : NULL;
    PyErr_Clear();
    return XXH3_64bits(text ? text : Py_TYPE(value)->tp_name,
                       text ? (size_t)len : strlen(Py_TYPE(value)->tp_name)) |
           1;
}

static void log_text(const struct question *q, PyObject *value)
{
    PyObject *str = value ? PyObject_Str(value) : NULL, *error = NULL;
    if (!str) {
        PyObject *type, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        str = error ? PyUnicode_FromFormat("%s: %S", Py_TYPE(error)->tp_name, error) : NULL;
    }
    PyObject *bytes = str ? PyUnicode_AsEncodedString(str, "utf-8", "backslashreplace") : NULL;
    tf_state.core->scan_log(q->number, q->at.frame, q->at.lines, error != NULL,
                            bytes ? PyBytes_AS_STRING(bytes) : "?",
                            bytes ? (size_t)PyBytes_GET_SIZE(bytes) : 1);
}

static void answer_aside(void *arg, struct tf_scan_aside *result)
{
    const struct question *q = arg;
    tf_settle(tf_this_thread());
    tf_state.core->mute(true); /* what a condition prints is nobody's */
    PyObject *value = tf_evaluate(q->frame, q->globals, text_of(q->text), q->text.len);
    if (q->is_log)
        log_text(q, value);
    int truth = value && !q->is_watch && !q->is_log ? PyObject_IsTrue(value) : 0;
    result->fingerprint = value && q->is_watch ? fingerprint_aside(value) : 0;
    result->state = !value || truth < 0 ? 3 : truth ? 2 : 1;
}

static struct tf_scan_aside ask_aside(struct question *q)
{
    struct tf_scan_aside result;
    if (tf_state.core->scan_aside(answer_aside, q, &result) < 0)
        result = (struct tf_scan_aside){.state = 3};
    return result;
}

/* Is the point's condition true in this function? *failed: it raised, or did not end. */
static bool condition_holds(const struct tf_scan_point *point, tf_frame *frame, bool *failed)
{
    bool truth = false;
    enum tf_pure how = TF_PURE_CANNOT;
    *failed = false;
    if (!point->condition.len)
        return true;
    if (point->condition_program.len) {
        struct tf_pure_scope scope = {.frame = frame};
        how = tf_pure_truth((const uint8_t *)text_of(point->condition_program), point->condition_program.len,
                            &scope, &truth);
    }
    if (how == TF_PURE_OK)
        return truth;
    if (how == TF_PURE_RAISES) {
        *failed = true;
        return true;
    }
    struct question q = {.point = point, .text = point->condition, .frame = frame};
    struct tf_scan_aside answer = ask_aside(&q);
    *failed = answer.state == 3;
    return answer.state != 1;
}

/* ---- hits ---- */

static bool counts(uint32_t i)
{
    const struct tf_scan_point *point = &s.points[i];
    uint64_t n = ++s.counts[i];
    return (!point->hit_first || n >= point->hit_first) && (!point->hit_last || n <= point->hit_last) &&
           (!point->hit_every || n % point->hit_every == 0);
}

/* A point is met, as far as its place is concerned. */
static void meet(uint32_t i, tf_frame *frame, struct place at, struct tf_scan_hit *hit)
{
    const struct tf_scan_point *point = &s.points[i];
    bool failed;
    if (!condition_holds(point, frame, &failed) || !counts(i) || !behind_start(at))
        return;
    if (point->log.len) {
        struct question q = {.text = point->log, .frame = frame, .number = i, .at = at, .is_log = true};
        struct tf_scan_aside answer;
        if (tf_state.core->scan_aside(answer_aside, &q, &answer) < 0) {
            static const char text[] = "the expression did not end";
            tf_state.core->scan_log(i, at.frame, at.lines, true, text, sizeof(text) - 1);
        }
        return;
    }
    hit->points |= 1ul << i;
    if (failed)
        hit->failed |= 1ul << i;
}

static void report(struct tf_scan_hit *hit, struct place at)
{
    hit->frame = at.frame;
    hit->lines = at.lines;
    if (hit->points)
        tf_state.core->scan_hit(hit);
}

/* ---- watches ---- */

static PyObject *module_globals(const struct watch *w)
{
    PyInterpreterState *interp = s.ts->interp;
#if TF_PY311
    PyObject *modules = interp->modules;
#else
    PyObject *modules = interp->imports.modules;
#endif
    if (!w->module || !modules || !PyDict_CheckExact(modules))
        return NULL;
    PyObject *module = PyDict_GetItemWithError(modules, w->module);
    if (!module)
        PyErr_Clear();
    return module && PyModule_Check(module) ? ((PyObject *)PyModule_GetDict(module)) : NULL;
}

/* A generator that was freed while it was suspended leaves no event. */
static bool generator_is_there(const struct tf_scan_point *point, struct watch *w)
{
    if (!point->frame_address || w->inside)
        return true;
    PyObject *owner = (PyObject *)_PyFrame_GetGenerator(w->frame);
    return Py_REFCNT(owner) > 0 &&
           (PyGen_CheckExact(owner) || PyCoro_CheckExact(owner) || PyAsyncGen_CheckExact(owner));
}

#define GONE 1 /* value of an object that is not there */

static uint64_t object_value(const struct tf_scan_point *point)
{
    struct tf_pure_scope scope = {.object = tf_object_at(point->object, point->object_type)};
    uint64_t value = 0;
    if (!scope.object)
        return GONE;
    enum tf_pure how = tf_pure_fingerprint((const uint8_t *)text_of(point->watch_program),
                                           point->watch_program.len, &scope, &value);
    return how == TF_PURE_OK && value != GONE ? value : 0;
}

static uint64_t watched_value(const struct tf_scan_point *point, struct watch *w)
{
    if (point->object)
        return object_value(point);
    bool local = point->entry != 0;
    struct tf_pure_scope scope = {.frame = local ? w->frame : NULL};
    uint64_t value = 0;
    enum tf_pure how = TF_PURE_CANNOT;
    if (!local && !(scope.globals = module_globals(w)))
        return 0; /* not imported yet */
    if (!local)
        scope.builtins = s.ts->interp->builtins;
    if (point->watch_program.len)
        how = tf_pure_fingerprint((const uint8_t *)text_of(point->watch_program), point->watch_program.len,
                                  &scope, &value);
    if (how == TF_PURE_OK)
        return value;
    if (how == TF_PURE_RAISES)
        return 0;
    struct question q = {
        .text = point->watch, .frame = scope.frame, .globals = scope.globals, .is_watch = true};
    return ask_aside(&q).fingerprint;
}

/* Looks at all watched values. line: where the line began that has run since they were looked at last. */
static void check_watches(struct place at, struct place line, struct tf_scan_hit *hit)
{
    uint64_t points = hit->points;
    for (uint32_t i = 0; i < s.req->points; i++) {
        const struct tf_scan_point *point = &s.points[i];
        struct watch *w = &s.watches[i];
        if (point->kind != TF_SCAN_WATCH || !w->alive)
            continue;
        if (!point->object && !generator_is_there(point, w)) {
            w->alive = false;
            continue;
        }
        uint64_t value = watched_value(point, w), old = w->value;
        if (value == old)
            continue;
        w->value = value;
        if (point->births ? old != GONE : (point->object && (value == GONE || (old == GONE && !value))))
            continue; /* that an object comes or goes is no change of what it holds */
        if (point->skip_unset && !old)
            continue;
        meet(i, point->entry ? w->frame : tf_current_frame(s.ts), at, hit);
    }
    if (hit->points != points) {
        hit->before_frame = line.frame;
        hit->before_lines = line.lines;
        hit->old_frame = s.checked.frame;
        hit->old_lines = s.checked.lines;
    }
    s.checked = at;
}

/* The function of a watch begins: what its variables hold was given by the call. */
static void begin_watch(uint32_t i, tf_frame *frame, uint32_t depth)
{
    struct watch *w = &s.watches[i];
    w->frame = frame;
    w->alive = true;
    w->inside = depth;
    w->value = 0;
}

static void follow_watches(uint32_t word, tf_frame *frame, uint64_t number, uint32_t depth)
{
    for (uint32_t i = 0; i < s.req->points; i++) {
        const struct tf_scan_point *point = &s.points[i];
        struct watch *w = &s.watches[i];
        if (point->kind != TF_SCAN_WATCH || !point->entry)
            continue;
        if (number == point->entry && frame)
            begin_watch(i, frame, depth);
        else if (!w->alive)
            continue;
        else if (TF_IS_ENTRY(word) && point->frame_address && frame == w->frame)
            w->inside = depth;
        else if (!TF_IS_ENTRY(word) && w->inside && depth < w->inside) {
            w->alive = point->frame_address && TF_TAG(word) == TF_YIELD;
            w->inside = 0;
            s.waiting -= !w->alive;
        }
    }
    if (s.waiting == 0) /* nothing but variables of functions that are gone */
        tf_state.core->scan_end();
}

/* ---- events ---- */

static bool look_place(void)
{
    uint32_t depth;
    uint64_t frame = tf_state.core->scan_place(&depth, &s.least);
    bool same = frame == s.here.frame;
    if (!same)
        s.here = (struct place){frame, 0};
    s.depth = depth;
    return same;
}

static struct place *line_of(uint32_t depth)
{
    static struct place nowhere;
    return depth < DEPTHS ? &line_at[depth] : &nowhere;
}

void tf_scan_event(uint32_t word, void *tstate, void *frame)
{
    (void)tstate;
    uint32_t ran = s.depth; /* the function that has run up to here */
    look_place();
    end_if_beyond(s.here);
    if (!s.any_watch)
        return;
    struct tf_raised raised = tf_raised_take(s.ts);
    follow_watches(word, frame, s.here.frame, s.depth);
    struct tf_scan_hit hit = {0};
    check_watches(s.here, *line_of(ran), &hit);
    report(&hit, s.here);
    tf_raised_put(s.ts, raised);
    if (TF_IS_ENTRY(word))
        *line_of(s.depth) = s.here;
}

static bool at_depth(const struct tf_scan_point *point)
{
    if (point->on_stack)
        return s.depth == (s.least < point->depth ? s.least : point->depth);
    return !point->depth || point->depth == s.depth;
}

static void at_line(tf_frame *frame, int line)
{
    PyCodeObject *co = tf_frame_code(frame);
    uint32_t id = TF_CODE_ID(tf_code_extra_of(co));
    uint64_t mask = id < s.req->codes ? s.masks[id] : 0;
    if (!mask)
        return; /* 3.11: traced because of a function further out */
    look_place();
    s.here.lines++;
    end_if_beyond(s.here);
    struct tf_scan_hit hit = {0};
    for (uint64_t m = mask & ~TF_SCAN_LINES; m; m &= m - 1) {
        uint32_t i = (uint32_t)__builtin_ctzl(m);
        const struct tf_scan_point *point = &s.points[i];
        if (point->kind == TF_SCAN_LINE &&
            (!point->first_line || (line >= 0 && (uint32_t)line >= point->first_line)) &&
            (!point->last_line || (line >= 0 && (uint32_t)line <= point->last_line)) && at_depth(point))
            meet(i, frame, s.here, &hit);
    }
    if (s.any_watch) {
        check_watches(s.here, *line_of(s.depth), &hit);
        *line_of(s.depth) = s.here;
    }
    hit.line = line > 0 ? (uint32_t)line : 0;
    report(&hit, s.here);
}

static void at_call(tf_frame *frame)
{
    uint32_t id = TF_CODE_ID(tf_code_extra_of(tf_frame_code(frame)));
    uint64_t mask = id < s.req->codes ? s.masks[id] & ~TF_SCAN_LINES : 0;
    if (!mask)
        return;
    look_place();
    end_if_beyond(s.here);
    struct tf_scan_hit hit = {0};
    for (; mask; mask &= mask - 1) {
        uint32_t i = (uint32_t)__builtin_ctzl(mask);
        const struct tf_scan_point *point = &s.points[i];
        if (point->kind == TF_SCAN_CALL &&
            (!point->frame_address || point->frame_address == (uint64_t)(uintptr_t)frame))
            meet(i, frame, s.here, &hit);
    }
    report(&hit, s.here);
}

/* A function is about to leave: the last moment for its variables. */
static void at_exit(tf_frame *frame)
{
    bool watched = false;
    for (uint32_t i = 0; i < s.req->points && !watched; i++)
        watched = s.points[i].kind == TF_SCAN_WATCH && s.watches[i].alive && s.watches[i].frame == frame;
    if (!watched)
        return;
    look_place();
    struct place at = {s.here.frame + 1, 0};
    end_if_beyond(at);
    struct tf_scan_hit hit = {0};
    check_watches(at, *line_of(s.depth), &hit);
    report(&hit, at);
}

static bool is_of_type(PyObject *value, struct tf_scan_text type)
{
    PyObject *mro = Py_TYPE(value)->tp_mro;
    const char *wanted = text_of(type);
    size_t len = type.len;
    for (const char *dot; (dot = memchr(wanted, '.', len));) {
        len -= (size_t)(dot + 1 - wanted);
        wanted = dot + 1;
    }
    for (Py_ssize_t i = 0; mro && i < PyTuple_GET_SIZE(mro); i++) {
        const char *name = ((PyTypeObject *)PyTuple_GET_ITEM(mro, i))->tp_name, *last = strrchr(name, '.');
        if (last)
            name = last + 1;
        if (strlen(name) == len && memcmp(name, wanted, len) == 0)
            return true;
    }
    return false;
}

/* Has an exception come to this function from one that it called? Its traceback tells: the entry behind this
 * function's own is then of another one. If it is of the same one, it is raised again. Its address tells
 * nothing: the next exception often has that of the last. */
static bool has_come(tf_frame *frame, PyObject *traceback)
{
    PyTracebackObject *tb = (PyTracebackObject *)traceback;
    if (!tb || !PyTraceBack_Check(tb))
        return false;
    if (tb->tb_frame != frame->frame_obj)
        return true;
    return tb->tb_next && tb->tb_next->tb_frame != frame->frame_obj;
}

static void at_raise(tf_frame *frame, PyObject *value, PyObject *traceback)
{
    uint32_t id = TF_CODE_ID(tf_code_extra_of(tf_frame_code(frame)));
    uint64_t mask = id < s.req->codes ? s.masks[id] & s.raise_points : 0;
    if (!mask)
        return;
    look_place();
    if (has_come(frame, traceback))
        return;
    end_if_beyond(s.here);
    struct place at = s.here;
    if (!(s.masks[id] & TF_SCAN_LINES))
        at.lines = UNKNOWN;
    struct tf_scan_hit hit = {0};
    for (uint32_t i = 0; i < s.req->points; i++)
        if ((mask >> i & 1) && (!s.points[i].type.len || is_of_type(value, s.points[i].type)))
            meet(i, frame, at, &hit);
    report(&hit, at);
}

/* ---- what a code object needs ---- */

/* Does the line table name a line from first to last? Its format is described in CPython's
 * Objects/locations.md; the same in 3.11 to 3.13. */
static bool has_line(PyCodeObject *co, uint32_t first, uint32_t last)
{
    const uint8_t *at = (const uint8_t *)PyBytes_AS_STRING(co->co_linetable);
    const uint8_t *end = at + PyBytes_GET_SIZE(co->co_linetable);
    int64_t line = co->co_firstlineno;
    while (at < end) {
        uint8_t code = *at++ >> 3 & 15;
        int64_t delta = 0;
        if (code == 13 || code == 14) {
            uint64_t value = 0;
            for (int shift = 0; at < end; shift += 6) {
                uint8_t byte = *at++;
                value |= (uint64_t)(byte & 63) << shift;
                if (!(byte & 64))
                    break;
            }
            delta = value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
        } else if (code >= 10 && code <= 12) {
            delta = code - 10;
        }
        line += delta;
        if (code != 15 && line >= (int64_t)first && line <= (int64_t)last)
            return true;
        while (at < end && !(*at & 128)) /* the next entry begins with a set bit */
            at++;
    }
    return false;
}

#define NEEDS_START 1u
#define NEEDS_EXIT 2u
/* Which events this code object needs; forgets points whose lines it does not have. */
static uint64_t needs(PyCodeObject *co, uint32_t id)
{
    if (id >= s.req->codes)
        return 0;
    uint64_t mask = s.masks[id], result = mask & TF_SCAN_LINES;
    for (uint64_t m = mask & ~TF_SCAN_LINES; m; m &= m - 1) {
        uint32_t i = (uint32_t)__builtin_ctzl(m);
        const struct tf_scan_point *point = &s.points[i];
        if (point->kind == TF_SCAN_LINE && point->first_line &&
            !has_line(co, point->first_line, point->last_line ? point->last_line : point->first_line))
            mask &= ~(1ul << i);
        else if (point->kind == TF_SCAN_LINE)
            result |= TF_SCAN_LINES;
        else if (point->kind == TF_SCAN_CALL)
            result |= NEEDS_START;
        else if (point->kind == TF_SCAN_WATCH)
            result |= NEEDS_EXIT;
    }
    s.masks[id] = mask | (result & TF_SCAN_LINES);
    return result;
}

#if TF_PY311

/* ---- 3.11 ---- */

/* Also of one that is about to run for the first time, and has no id yet. */
static bool wanted(PyCodeObject *co)
{
    uint64_t extra = tf_code_extra_of(co);
    uint32_t id = extra ? TF_CODE_ID(extra) : tf_state.core->next_code();
    return id < s.req->codes && s.masks[id] && (extra || needs(co, id) || s.raise_points);
}

static void (*frame_dealloc)(PyObject *);

/* The collector counted the frame object neither when it was made nor counts it when it goes, unless the
 * program has come to need it. */
static void dealloc_ours(PyObject *self)
{
    const void *block = (char *)self - sizeof(PyGC_Head);
    if (tf_heap_owns(block) && !tf_heap_has_shadow(block))
        s.ts->interp->gc.generations[0].count++;
    frame_dealloc(self);
}

/* Somebody else holds the frame object, or a traceback: in the recording it was made for that. */
static void note_needed(PyFrameObject *f)
{
    if (Py_REFCNT(f) > 1 && tf_heap_shadow((char *)f - sizeof(PyGC_Head)))
        s.ts->interp->gc.generations[0].count++;
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

static bool asks_iterator(tf_frame *frame)
{
    PyCodeObject *co = tf_frame_code(frame);
    uint8_t op = tf_code_opcode(co, tf_frame_instr(frame) - _PyCode_CODE(co));
    return op == FOR_ITER || op == SEND;
}

static int tracer(PyObject *obj, PyFrameObject *f, int what, PyObject *arg)
{
    if (s.program_tracer) {
        int status = s.program_tracer(obj, f, what, arg);
        if (status)
            return status;
    }
    tf_frame *frame = f->f_frame;
    if (tf_this_thread() != s.ts)
        return 0;
    struct tf_raised raised = tf_raised_take(s.ts);
    note_needed(f);
    switch (what) {
    case PyTrace_CALL:
        if (is_called(frame))
            at_call(frame);
        break;
    case PyTrace_LINE:
        at_line(frame, tf_frame_line(frame));
        break;
    case PyTrace_RETURN:
        if (s.any_local)
            at_exit(frame);
        break;
    case PyTrace_EXCEPTION:
        /* A for loop asks its iterator until it raises, and await and yield from do: that is no error to
         * anybody. */
        if (s.any_raise && PyTuple_Check(arg) && PyTuple_GET_SIZE(arg) == 3 &&
            !(PyExceptionInstance_Check(PyTuple_GET_ITEM(arg, 1)) &&
              PyObject_TypeCheck(PyTuple_GET_ITEM(arg, 1), (PyTypeObject *)PyExc_StopIteration) &&
              asks_iterator(frame)))
            at_raise(frame, PyTuple_GET_ITEM(arg, 1), PyTuple_GET_ITEM(arg, 2));
        break;
    }
    tf_raised_put(s.ts, raised);
    return 0;
}

/* The program may set a trace function of its own meanwhile: in a function that has our own, lines are missed
 * from there on. */
static void note_tracer(PyThreadState *ts)
{
    if (ts->c_tracefunc == (s.traced ? tracer : s.program_tracer))
        return;
    if (s.traced)
        tf_state.core->divergence(
            "the program calls sys.settrace in a function that is searched: Python 3.11 cannot "
            "trace it for both");
    s.program_tracer = ts->c_tracefunc;
}

/* Without a function that asks for it there must be no trace function: exceptions would be treated
 * differently. */
static void set_tracer(PyThreadState *ts, bool traced)
{
    s.traced = traced;
    ts->c_tracefunc = traced ? tracer : s.program_tracer;
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
    bool outer_traced = s.traced;
    note_tracer(ts);
    bool here = ts == s.ts && !ts->tracing && wanted(tf_frame_code(frame));
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
    ts->cframe->use_tracing = (s.program_tracer || ts->c_profilefunc) && !ts->tracing ? 255
                              : outer_traced                                          ? outer
                                                                                      : 0;
    return result;
}

void tf_scan_code(PyCodeObject *co, uint32_t id)
{
    needs(co, id);
}

static void install(PyThreadState *ts, tf_frame *entering, int event)
{
    (void)event;
    frame_dealloc = PyFrame_Type.tp_dealloc;
    PyFrame_Type.tp_dealloc = dealloc_ours;
    for (uint32_t id = 0; id < s.req->codes; id++)
        if (s.masks[id] && tf_code_by_id(id))
            needs(tf_code_by_id(id), id);
    s.program_tracer = ts->c_tracefunc;
    hook_before = (tf_eval_fn)_PyInterpreterState_GetEvalFrameFunc(ts->interp);
    _PyInterpreterState_SetEvalFrameFunc(ts->interp, (_PyFrameEvalFunction)scan_hook);
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
    traced = all || s.program_tracer || ts->c_profilefunc;
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

#else

/* ---- 3.12 and later ---- */

/*
 * An instruction that begins a line is not specialised while it has events. Most do the same either way;
 * unpacking a tuple or list makes an iterator then, which the recording had no need of (beyond the first
 * times).
 */
static bool lines_checked, lines_known;

static void check_lines(PyCodeObject *co, const uint8_t *before, Py_ssize_t n)
{
    const _PyCoMonitoringData *data = co->_co_monitoring;
    bool same = data && data->lines;
    Py_ssize_t found = 0;
    for (Py_ssize_t i = 0; same && i < n; i++)
        if (_PyCode_CODE(co)[i].op.code == INSTRUMENTED_LINE) {
            same = data->lines[i].original_opcode == before[i];
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
        co->_co_monitoring->lines[i].original_opcode != UNPACK_SEQUENCE || f->stacktop <= co->co_nlocalsplus)
        return;
    PyObject *top = f->localsplus[f->stacktop - 1];
    if (PyTuple_CheckExact(top) || PyList_CheckExact(top))
        tf_heap_once(
            s.ts, sizeof(PyGC_Head) +
                      (size_t)(PyTuple_CheckExact(top) ? &PyTupleIter_Type : &PyListIter_Type)->tp_basicsize);
}

static bool ours(void)
{
    return tf_this_thread() == s.ts;
}

static PyObject *on_line(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (n >= 2 && ours()) {
        at_line(tf_current_frame(s.ts), (int)PyLong_AsLong(args[1]));
        before_line_runs(tf_current_frame(s.ts));
    }
    Py_RETURN_NONE;
}

/* As in stop.c: a jump back within one line counts as a line. */
static PyObject *on_jump(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n < 3 || !ours())
        Py_RETURN_NONE;
    tf_heap_number(args[1]);
    tf_heap_number(args[2]);
    long from = PyLong_AsLong(args[1]), to = PyLong_AsLong(args[2]);
    if (to < from) {
        tf_frame *f = tf_current_frame(s.ts);
        int line = PyCode_Addr2Line(tf_frame_code(f), (int)to);
        if (line == PyCode_Addr2Line(tf_frame_code(f), (int)from))
            at_line(f, line);
    }
    Py_RETURN_NONE;
}

static PyObject *on_start(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (ours())
        at_call(tf_current_frame(s.ts));
    Py_RETURN_NONE;
}

/* An exception is thrown into a generator. Into one that has not begun: that is its call. */
static PyObject *on_throw(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (ours() && !tf_frame_started(tf_current_frame(s.ts)))
        at_call(tf_current_frame(s.ts));
    Py_RETURN_NONE;
}

static PyObject *on_exit_event(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (ours())
        at_exit(tf_current_frame(s.ts));
    Py_RETURN_NONE;
}

static PyObject *on_raise(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n >= 2)
        tf_heap_number(args[1]);
    if (n >= 3 && ours() && PyExceptionInstance_Check(args[2]))
        at_raise(tf_current_frame(s.ts), args[2], ((PyBaseExceptionObject *)args[2])->traceback);
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
    uint64_t what = needs(co, id);
    int events = 0;
    if (what & TF_SCAN_LINES) {
        events |= 1 << PY_MONITORING_EVENT_LINE | 1 << PY_MONITORING_EVENT_JUMP;
#if TF_PY313
        events |= 1 << PY_MONITORING_EVENT_PY_START | 1 << PY_MONITORING_EVENT_PY_RESUME; /* as in stop.c */
#endif
    }
    if (what & NEEDS_START)
        events |= 1 << PY_MONITORING_EVENT_PY_START;
    if (what & NEEDS_EXIT)
        events |= 1 << PY_MONITORING_EVENT_PY_RETURN;
    /* Global events bring every code object up to date when it runs next: better here. An event that nobody
     * listens to does it. */
    if (!events && (s.any_raise || s.any_local || s.any_call))
        events = 1 << PY_MONITORING_EVENT_STOP_ITERATION;
    uint8_t before[256];
    Py_ssize_t known = Py_SIZE(co) < 256 ? Py_SIZE(co) : 256;
    for (Py_ssize_t i = 0; !lines_checked && (what & TF_SCAN_LINES) && i < known; i++)
        before[i] = tf_code_opcode(co, i);
    if (events && !tf_tool_set(s.tool, co, events))
        tf_state.core->divergence("timefork could not search: out of memory, or sys.monitoring was replaced");
    if (!lines_checked && (what & TF_SCAN_LINES))
        check_lines(co, before, known);
}

/* A code object runs for the first time: in the hook, in front of its evaluation. */
void tf_scan_code(PyCodeObject *co, uint32_t id)
{
    if ((id >= s.req->codes || !s.masks[id]) && !s.any_raise && !s.any_local && !s.any_call)
        return;
    struct tf_raised raised = tf_raised_take(s.ts);
    struct tf_diverted saved = tf_divert_begin(s.ts);
    instrument(co, id);
    tf_divert_end(s.ts, saved);
    tf_raised_put(s.ts, raised);
}

static void install(PyThreadState *ts, tf_frame *entering, int event)
{
    (void)entering, (void)event;
    struct tf_diverted saved = tf_divert_begin(ts);
    PyInterpreterState *interp = ts->interp;
    int events = 0, global = 0;
    tf_heap_measure();
    s.tool = tf_tool_take(interp);
    tf_tool_name(interp, s.tool);
    bool ok = tf_tool_listen(interp, s.tool, PY_MONITORING_EVENT_LINE, &line_def, &events) &&
              tf_tool_listen(interp, s.tool, PY_MONITORING_EVENT_JUMP, &jump_def, &events) &&
              tf_tool_listen(interp, s.tool, PY_MONITORING_EVENT_PY_START, &start_def, &events) &&
              tf_tool_listen(interp, s.tool, PY_MONITORING_EVENT_PY_RETURN, &exit_def, &events);
    if (s.any_raise)
        ok = ok && tf_tool_listen(interp, s.tool, PY_MONITORING_EVENT_RAISE, &raise_def, &global);
    if (s.any_call)
        ok = ok && tf_tool_listen(interp, s.tool, PY_MONITORING_EVENT_PY_THROW, &throw_def, &global);
    if (s.any_local)
        ok = ok && tf_tool_listen(interp, s.tool, PY_MONITORING_EVENT_PY_UNWIND, &exit_def, &global);
    if (global)
        ok = ok && tf_tool_set(s.tool, NULL, global);
    if (!ok)
        tf_state.core->divergence("timefork could not search: out of memory, or sys.monitoring was replaced");
    for (uint32_t id = 0; id < s.req->codes; id++)
        if ((s.masks[id] || s.any_raise || s.any_local || s.any_call) && tf_code_by_id(id))
            instrument(tf_code_by_id(id), id);
    tf_divert_end(ts, saved);
}

#endif

/* The activation at this depth of the stack, outermost = 1; frame: one that is about to be put there. */
static tf_frame *frame_at(PyThreadState *ts, tf_frame *entering, uint32_t stack_depth, uint32_t depth)
{
    uint32_t at = stack_depth;
    if (entering && depth == at)
        return entering;
    if (entering)
        at--;
    for (tf_frame *f = tf_current_frame(ts); f; f = f->previous) {
        if (tf_frame_is_entry(f) || f == entering)
            continue;
        if (at == depth)
            return f;
        at--;
    }
    return NULL;
}

static void start_watches(PyThreadState *ts, tf_frame *entering)
{
    for (uint32_t i = 0; i < s.req->points; i++) {
        const struct tf_scan_point *point = &s.points[i];
        if (point->kind != TF_SCAN_WATCH)
            continue;
        s.any_watch = true;
        struct watch *w = &s.watches[i];
        if (point->object) {
            w->alive = true;
        } else if (!point->entry) {
            struct tf_diverted saved = tf_divert_begin(ts);
            w->module = PyUnicode_DecodeUTF8(text_of(point->module), point->module.len, "replace");
            tf_divert_end(ts, saved);
            w->alive = true;
        } else if (point->entry <= s.here.frame && point->depth <= s.depth) {
            tf_frame *f = frame_at(ts, entering, s.depth, point->depth);
            if (!f)
                tf_state.core->divergence("the function whose variables are watched is not on the stack");
            begin_watch(i, f, point->depth);
        }
        /* The value that the scan begins with is no change, unless the call has just given it. */
        if (w->alive && point->entry != s.here.frame)
            w->value = watched_value(point, w);
    }
    s.checked = s.here;
}

void tf_scan(const struct tf_scan *scan, void *tstate, void *frame, int event)
{
    PyThreadState *ts = tstate ? tstate : tf_this_thread();
    if (!ts)
        return;
    s.req = scan;
    s.base = (const char *)scan;
    s.points = (const void *)(s.base + scan->points_at);
    s.masks = (void *)((char *)(uintptr_t)s.base + scan->masks_at);
    s.ts = ts;
    look_place();
    s.waiting = scan->points;
    for (uint32_t i = 0; i < scan->points; i++) {
        if (s.points[i].kind == TF_SCAN_RAISE)
            s.raise_points |= 1ul << i;
        s.any_call |= s.points[i].kind == TF_SCAN_CALL;
        s.any_local |= s.points[i].kind == TF_SCAN_WATCH && s.points[i].entry;
    }
    s.any_raise = s.raise_points != 0;
    tf_frame *entering = event == TF_CALL || event == TF_RESUME ? frame : NULL;
    struct tf_raised raised = tf_raised_take(ts);
    install(ts, entering, event);
    start_watches(ts, entering);
    if (s.any_watch) {
        struct tf_scan_hit hit = {0};
        check_watches(s.here, s.here, &hit);
        report(&hit, s.here);
    }
    tf_raised_put(ts, raised);
    tf_scanning = true;
}
