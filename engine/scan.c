/*
 * scan.c: finds positions while a replaying process runs on (replay/search.h). The process is thrown away
 * afterwards, but what it does until then has to be what the recording did: so here, too, nothing is
 * allocated from the program's heap, and expressions run either without Python code (pure.h) or in a fork.
 *
 * A position is counted as stop.c counts it: the event, and the line events since then. Between two frame
 * events one function runs, so a counter that starts anew at each event is enough, if that function has line
 * events; only the functions that are concerned have them.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/scan_local.h"
#if TF_PY313
#include <opcode_ids.h>
#else
#include <opcode.h>
#endif

#define UNKNOWN UINT64_MAX
#define DEPTHS (1u << 20)

bool tf_scanning;
struct tf_search_state tf_search;

/* Where the line that runs began, for each function on the stacks. Others may have taken a function's place:
 * then it is not known. */
static struct line {
    struct tf_place_seen at;
    uint32_t thread, depth;
} line_at[DEPTHS];

static const char *text_of(struct tf_scan_text text)
{
    return tf_search.base + text.at;
}

static int compare(struct tf_place_seen a, struct tf_place_seen b)
{
    if (a.frame != b.frame)
        return a.frame < b.frame ? -1 : 1;
    return a.lines < b.lines ? -1 : a.lines > b.lines;
}

static bool behind_start(struct tf_place_seen p)
{
    return compare(p, (struct tf_place_seen){tf_search.req->from_frame, tf_search.req->from_lines}) > 0;
}

static bool is_start(struct tf_place_seen p)
{
    return compare(p, (struct tf_place_seen){tf_search.req->from_frame, tf_search.req->from_lines}) == 0;
}

static void end_if_beyond(struct tf_place_seen p)
{
    if (compare(p, (struct tf_place_seen){tf_search.req->end_frame, tf_search.req->end_lines}) > 0)
        tf_state.core->scan_end();
}

/* ---- expressions ---- */

struct question {
    const struct tf_scan_point *point;
    struct tf_scan_text text;
    tf_frame *frame;
    PyObject *globals;
    uint32_t number;
    struct tf_place_seen at;
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
    tf_settle(tf_thread_settle());
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
    const struct tf_scan_point *point = &tf_search.points[i];
    uint64_t n = ++tf_search.counts[i];
    return (!point->hit_first || n >= point->hit_first) && (!point->hit_last || n <= point->hit_last) &&
           (!point->hit_every || n % point->hit_every == 0);
}

/* A point is met, as far as its place is concerned. */
static void meet(uint32_t i, tf_frame *frame, struct tf_place_seen at, struct tf_scan_hit *hit)
{
    const struct tf_scan_point *point = &tf_search.points[i];
    bool failed;
    if (!condition_holds(point, frame, &failed) || !counts(i) ||
        (!behind_start(at) &&
         !(point->kind == TF_SCAN_RAISE && tf_search.req->raise_at_from && is_start(at))))
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

static void report(struct tf_scan_hit *hit, struct tf_place_seen at)
{
    hit->frame = at.frame;
    hit->lines = at.lines;
    if (hit->points)
        tf_state.core->scan_hit(hit);
}

/* ---- watches ---- */

static PyObject *module_globals(const struct tf_watch_state *w)
{
    PyInterpreterState *interp = tf_search.ts->interp;
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
static bool generator_is_there(const struct tf_scan_point *point, struct tf_watch_state *w)
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

static uint64_t watched_value(const struct tf_scan_point *point, struct tf_watch_state *w)
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
        scope.builtins = tf_search.ts->interp->builtins;
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
static void check_watches(struct tf_place_seen at, struct tf_place_seen line, struct tf_scan_hit *hit)
{
    uint64_t points = hit->points;
    for (uint32_t i = 0; i < tf_search.req->points; i++) {
        const struct tf_scan_point *point = &tf_search.points[i];
        struct tf_watch_state *w = &tf_search.watches[i];
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
        meet(i, point->entry ? w->frame : tf_current_frame(tf_search.ts), at, hit);
    }
    if (hit->points != points) {
        hit->before_frame = line.frame;
        hit->before_lines = line.lines;
        hit->old_frame = tf_search.checked.frame;
        hit->old_lines = tf_search.checked.lines;
    }
    tf_search.checked = at;
}

/* The function of a watch begins: what its variables hold was given by the call. */
static void begin_watch(uint32_t i, tf_frame *frame, uint32_t depth, uint32_t thread)
{
    struct tf_watch_state *w = &tf_search.watches[i];
    w->frame = frame;
    w->alive = true;
    w->inside = depth;
    w->thread = thread;
    w->value = 0;
}

static void follow_watches(uint32_t word, tf_frame *frame, uint64_t number, uint32_t depth)
{
    for (uint32_t i = 0; i < tf_search.req->points; i++) {
        const struct tf_scan_point *point = &tf_search.points[i];
        struct tf_watch_state *w = &tf_search.watches[i];
        if (point->kind != TF_SCAN_WATCH || !point->entry)
            continue;
        if (number == point->entry && frame)
            begin_watch(i, frame, depth, tf_search.thread);
        else if (!w->alive)
            continue;
        else if (TF_IS_ENTRY(word) && point->frame_address && frame == w->frame) {
            w->inside = depth; /* a generator may go on in another thread */
            w->thread = tf_search.thread;
        } else if (!TF_IS_ENTRY(word) && w->inside && tf_search.thread == w->thread && depth < w->inside) {
            w->alive = point->frame_address && TF_TAG(word) == TF_YIELD;
            w->inside = 0;
            tf_search.waiting -= !w->alive;
        }
    }
    if (tf_search.waiting == 0) /* nothing but variables of functions that are gone */
        tf_state.core->scan_end();
}

/* ---- events ---- */

/* The stack of a thread that has not run since the scan began: how deep is it? entering: a function that is
 * about to be put there. */
static void measure(struct tf_scan_depth *stack, const tf_frame *entering)
{
    int32_t depth = entering || tf_entering(tf_search.ts, NULL);
    for (const tf_frame *f = tf_current_frame(tf_search.ts); f; f = f->previous)
        depth += !tf_frame_is_entry(f) && f != entering;
    stack->known = 1;
    stack->least += depth - stack->depth;
    stack->depth = depth;
    if (stack->thread == tf_search.req->least_thread && (int32_t)tf_search.req->least < stack->least)
        stack->least = (int32_t)tf_search.req->least;
}

static void look_place_entering(const tf_frame *entering)
{
    struct tf_scan_depth *stack;
    uint64_t frame = tf_state.core->scan_place(&stack);
    if (!stack->known)
        measure(stack, entering);
    if (frame != tf_search.here.frame)
        tf_search.here = (struct tf_place_seen){frame, 0};
    tf_search.thread = stack->thread;
    tf_search.depth = stack->depth > 0 ? (uint32_t)stack->depth : 0;
    tf_search.least = stack->least > 0 ? (uint32_t)stack->least : 0;
}

static void look_place(void)
{
    look_place_entering(NULL);
}

static struct tf_place_seen *line_of(uint32_t thread, uint32_t depth)
{
    struct line *line = &line_at[(depth + thread * 4099u) % DEPTHS];
    if (line->thread != thread || line->depth != depth)
        *line = (struct line){.thread = thread, .depth = depth};
    return &line->at;
}

void tf_scan_event(uint32_t word, void *tstate, void *frame)
{
    PyThreadState *ts = tstate;
    bool entered = tf_thread_enter(&ts); /* at a SWITCH */
    if (ts)
        tf_search.ts = ts;
    uint32_t ran_thread = tf_search.thread, ran = tf_search.depth; /* the function that has run up to here */
    look_place_entering(TF_IS_ENTRY(word) ? frame : NULL);
    end_if_beyond(tf_search.here);
    if (!tf_search.any_watch) {
        tf_thread_leave(entered);
        return;
    }
    struct tf_raised raised = tf_raised_take(tf_search.ts);
    if (!TF_IS_SWITCH(word))
        follow_watches(word, frame, tf_search.here.frame, tf_search.depth);
    struct tf_scan_hit hit = {0};
    check_watches(tf_search.here, *line_of(ran_thread, ran), &hit);
    report(&hit, tf_search.here);
    tf_raised_put(tf_search.ts, raised);
    tf_thread_leave(entered);
    if (TF_IS_ENTRY(word))
        *line_of(tf_search.thread, tf_search.depth) = tf_search.here;
}

static bool at_depth(const struct tf_scan_point *point)
{
    if (point->thread != UINT32_MAX && point->thread != tf_search.thread)
        return false;
    if (point->on_stack)
        return tf_search.depth == (tf_search.least < point->depth ? tf_search.least : point->depth);
    return !point->depth || point->depth == tf_search.depth;
}

void tf_scan_at_line(tf_frame *frame, int line)
{
    PyCodeObject *co = tf_frame_code(frame);
    uint32_t id = TF_CODE_ID(tf_code_extra_of(co));
    uint64_t mask = id < tf_search.req->codes ? tf_search.masks[id] : 0;
    if (!mask)
        return; /* 3.11: traced because of a function further out */
    look_place();
    tf_search.here.lines++;
    end_if_beyond(tf_search.here);
    struct tf_scan_hit hit = {0};
    for (uint64_t m = mask & ~TF_SCAN_LINES; m; m &= m - 1) {
        uint32_t i = (uint32_t)__builtin_ctzl(m);
        const struct tf_scan_point *point = &tf_search.points[i];
        if (point->kind == TF_SCAN_LINE &&
            (!point->first_line || (line >= 0 && (uint32_t)line >= point->first_line)) &&
            (!point->last_line || (line >= 0 && (uint32_t)line <= point->last_line)) && at_depth(point))
            meet(i, frame, tf_search.here, &hit);
    }
    if (tf_search.any_watch) {
        check_watches(tf_search.here, *line_of(tf_search.thread, tf_search.depth), &hit);
        *line_of(tf_search.thread, tf_search.depth) = tf_search.here;
    }
    hit.line = line > 0 ? (uint32_t)line : 0;
    report(&hit, tf_search.here);
}

/* Functions whose beginning has been told already. */
static const tf_frame *told[4096];
static size_t told_n;

/* The thread gives the GIL away between the call and the function's beginning. What is met is met at the
 * call, whatever other threads do until then. */
void tf_scan_early_call(tf_frame *frame)
{
    if (!tf_search.any_call || told_n == sizeof(told) / sizeof(*told) || !tf_scan_follow())
        return;
    struct tf_raised raised = tf_raised_take(tf_search.ts);
    tf_scan_at_call(frame);
    tf_raised_put(tf_search.ts, raised);
    told[told_n++] = frame;
}

void tf_scan_at_call(tf_frame *frame)
{
    for (size_t i = 0; i < told_n; i++)
        if (told[i] == frame) {
            told[i] = told[--told_n];
            return;
        }
    uint32_t id = TF_CODE_ID(tf_code_extra_of(tf_frame_code(frame)));
    uint64_t mask = id < tf_search.req->codes ? tf_search.masks[id] & ~TF_SCAN_LINES : 0;
    if (!mask)
        return;
    look_place();
    end_if_beyond(tf_search.here);
    struct tf_scan_hit hit = {0};
    for (; mask; mask &= mask - 1) {
        uint32_t i = (uint32_t)__builtin_ctzl(mask);
        const struct tf_scan_point *point = &tf_search.points[i];
        if (point->kind == TF_SCAN_CALL &&
            (!point->frame_address || point->frame_address == (uint64_t)(uintptr_t)frame))
            meet(i, frame, tf_search.here, &hit);
    }
    report(&hit, tf_search.here);
}

/* A function is about to leave: the last moment for its variables. */
void tf_scan_at_exit(tf_frame *frame)
{
    bool watched = false;
    for (uint32_t i = 0; i < tf_search.req->points && !watched; i++)
        watched = tf_search.points[i].kind == TF_SCAN_WATCH && tf_search.watches[i].alive &&
                  tf_search.watches[i].frame == frame;
    if (!watched)
        return;
    look_place();
    struct tf_place_seen at = {tf_search.here.frame + 1, 0};
    end_if_beyond(at);
    struct tf_scan_hit hit = {0};
    check_watches(at, *line_of(tf_search.thread, tf_search.depth), &hit);
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

/* A loop asks its iterator until it raises, and await its coroutine: that is no error to anybody. */
static bool ends_iteration(tf_frame *frame, PyObject *value)
{
    PyCodeObject *co = tf_frame_code(frame);
    uint8_t op = tf_code_opcode(co, tf_frame_instr(frame) - _PyCode_CODE(co));
    return (op == FOR_ITER || op == SEND || op == END_ASYNC_FOR) &&
           (PyObject_TypeCheck(value, (PyTypeObject *)PyExc_StopIteration) ||
            PyObject_TypeCheck(value, (PyTypeObject *)PyExc_StopAsyncIteration));
}

void tf_scan_at_raise(tf_frame *frame, PyObject *value, PyObject *traceback)
{
    uint32_t id = TF_CODE_ID(tf_code_extra_of(tf_frame_code(frame)));
    uint64_t mask = id < tf_search.req->codes ? tf_search.masks[id] & tf_search.raise_points : 0;
    if (!mask || ends_iteration(frame, value))
        return;
    look_place();
    if (has_come(frame, traceback))
        return;
    end_if_beyond(tf_search.here);
    struct tf_place_seen at = tf_search.here;
    if (!(tf_search.masks[id] & TF_SCAN_LINES))
        at.lines = UNKNOWN;
    struct tf_scan_hit hit = {0};
    for (uint32_t i = 0; i < tf_search.req->points; i++)
        if ((mask >> i & 1) && (!tf_search.points[i].type.len || is_of_type(value, tf_search.points[i].type)))
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

/* Which events this code object needs; forgets points whose lines it does not have. */
uint64_t tf_scan_needs(PyCodeObject *co, uint32_t id)
{
    if (id >= tf_search.req->codes)
        return 0;
    uint64_t mask = tf_search.masks[id], result = mask & TF_SCAN_LINES;
    for (uint64_t m = mask & ~TF_SCAN_LINES; m; m &= m - 1) {
        uint32_t i = (uint32_t)__builtin_ctzl(m);
        const struct tf_scan_point *point = &tf_search.points[i];
        if (point->kind == TF_SCAN_LINE && point->first_line &&
            !has_line(co, point->first_line, point->last_line ? point->last_line : point->first_line))
            mask &= ~(1ul << i);
        else if (point->kind == TF_SCAN_LINE)
            result |= TF_SCAN_LINES;
        else if (point->kind == TF_SCAN_CALL)
            result |= TF_NEEDS_START;
        else if (point->kind == TF_SCAN_WATCH)
            result |= TF_NEEDS_EXIT;
    }
    tf_search.masks[id] = mask | (result & TF_SCAN_LINES);
    return result;
}

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

static uint32_t stack_depth(PyThreadState *ts)
{
    uint32_t depth = tf_entering(ts, NULL) != NULL;
    for (const tf_frame *f = tf_current_frame(ts); f; f = f->previous)
        depth += !tf_frame_is_entry(f);
    return depth;
}

static void start_watches(PyThreadState *ts, tf_frame *entering)
{
    for (uint32_t i = 0; i < tf_search.req->points; i++) {
        const struct tf_scan_point *point = &tf_search.points[i];
        if (point->kind != TF_SCAN_WATCH)
            continue;
        tf_search.any_watch = true;
        struct tf_watch_state *w = &tf_search.watches[i];
        if (point->object) {
            w->alive = true;
        } else if (!point->entry) {
            struct tf_diverted saved = tf_divert_begin(ts);
            w->module = PyUnicode_DecodeUTF8(text_of(point->module), point->module.len, "replace");
            tf_divert_end(ts, saved);
            w->alive = true;
        } else if (point->entry <= tf_search.here.frame) {
            tf_frame *f = NULL;
            PyThreadState *other;
            if (point->thread == tf_search.thread && point->depth <= tf_search.depth)
                f = frame_at(ts, entering, tf_search.depth, point->depth);
            else if (point->thread == tf_search.thread)
                continue; /* it has left */
            else if ((other = tf_thread_by_number(ts->interp, point->thread)))
                f = frame_at(other, tf_entering(other, NULL), stack_depth(other), point->depth);
            if (!f)
                tf_state.core->divergence("the function whose variables are watched is not on the stack");
            begin_watch(i, f, point->depth, point->thread);
        }
        /* The value that the scan begins with is no change, unless the call has just given it. */
        if (w->alive && point->entry != tf_search.here.frame)
            w->value = watched_value(point, w);
    }
    tf_search.checked = tf_search.here;
}

void tf_scan(const struct tf_scan *scan, void *tstate, void *frame, int event)
{
    PyThreadState *ts = tstate;
    bool entered = tf_thread_enter(&ts); /* at a SWITCH */
    if (!ts)
        return;
    tf_search.req = scan;
    tf_search.base = (const char *)scan;
    tf_search.points = (const void *)(tf_search.base + scan->points_at);
    tf_search.masks = (void *)((char *)(uintptr_t)tf_search.base + scan->masks_at);
    tf_search.ts = ts;
    look_place();
    tf_search.waiting = scan->points;
    for (uint32_t i = 0; i < scan->points; i++) {
        if (tf_search.points[i].kind == TF_SCAN_RAISE)
            tf_search.raise_points |= 1ul << i;
        tf_search.any_call |= tf_search.points[i].kind == TF_SCAN_CALL;
        tf_search.any_local |= tf_search.points[i].kind == TF_SCAN_WATCH && tf_search.points[i].entry;
    }
    tf_search.any_raise = tf_search.raise_points != 0;
    tf_frame *entering = event == TF_CALL || event == TF_RESUME ? frame : NULL;
    if (event == TF_SWITCH)
        entering = tf_entering(ts, &event);
    /* Called before the scan began. */
    for (PyThreadState *t = PyInterpreterState_ThreadHead(ts->interp); t; t = PyThreadState_Next(t)) {
        int tag = 0;
        tf_frame *f = tf_entering(t, &tag);
        if (f && tag == TF_CALL && told_n < sizeof(told) / sizeof(*told))
            told[told_n++] = f;
    }
    struct tf_raised raised = tf_raised_take(ts);
    tf_scan_install(ts, entering, event);
    start_watches(ts, entering);
    if (tf_search.any_watch) {
        struct tf_scan_hit hit = {0};
        check_watches(tf_search.here, tf_search.here, &hit);
        report(&hit, tf_search.here);
    }
    tf_raised_put(ts, raised);
    tf_thread_leave(entered);
    tf_scanning = true;
}
