/*
 * local.h: what the engine's files share. One engine in one process, everything under the GIL: one context.
 */
#ifndef TF_LOCAL_H
#define TF_LOCAL_H

#include "engine/compat.h"
#include "engine/engine.h"
#include "store/ring.h"

/* What stands in a code object's co_extra: the id, and what the hook must know before the call. */
#define TF_CODE_ID(x) ((uint32_t)(x))
#define TF_CODE_GENERATOR ((uint64_t)1 << 32) /* generator, coroutine or async generator */
#define TF_CODE_INIT ((uint64_t)1 << 33)      /* named __init__: see hook.c on recursion */
#define TF_CODE_SPECIAL (TF_CODE_GENERATOR | TF_CODE_INIT)

struct tf_state {
    /* Hot: one cache line. */
    struct tf_cursor *cursor;
    tf_eval_fn eval; /* the evaluator that was there before */
    Py_ssize_t slot; /* of co_extra */
    void (*slow)(uint32_t word, void *tstate, void *frame);

    const struct tf_core *core;
    bool throwing;  /* the generator that is being entered was entered by throw() or close() */
    bool keep;      /* this event is no place to give the GIL away */
    bool stays;     /* nor is anything that comes: it stops where the function begins that is entered now */
    void *entering; /* of the event that takes the slow path: the frame that is about to be evaluated, or NULL
                     */
    int tag;        /* of that event */
};
extern struct tf_state tf_state;

/* codes.c: gives the code object its id. Slow path of tf_code_id. */
uint64_t tf_code_define(PyCodeObject *co);
/* The opcode that stands at this place, without specialisation and instrumentation. */
uint8_t tf_code_opcode(PyCodeObject *co, Py_ssize_t index);
/* How many units of inline cache follow such an opcode. */
int tf_code_caches(uint8_t opcode);

/* The code object with this id; NULL: it is gone. */
PyCodeObject *tf_code_by_id(uint32_t id);
/* What stands in co_extra of a code object that goes. */
void tf_code_freed(void *value);

/* What stands in the code object's co_extra; 0: it has not run yet. */
static inline __attribute__((always_inline)) uint64_t tf_code_extra_of(const PyCodeObject *co)
{
    const struct tf_code_extra *extra = co->co_extra;
    if (TF_UNLIKELY(!extra || extra->size <= tf_state.slot))
        return 0;
    return (uint64_t)(uintptr_t)extra->extras[tf_state.slot];
}

/* hook.c */
void tf_hook_install(void);
/* Of a light recording: what is to be found out at the start, and no hook. */
void tf_hook_spare(void);
void tf_hook_remove(void);

/* gil.c */
void tf_gil_find(PyInterpreterState *interp);
void tf_gil_yield(void);
void tf_gil_ask(bool on);
/* A thread that gave the GIL away right after a call or resume has entered a function that the interpreter
 * does not know of yet: its frame, and the event's tag. NULL: it has not. */
tf_frame *tf_entering(PyThreadState *ts, int *tag);
/* Puts those functions onto the stacks of their threads, in a fork that is thrown away. */
void tf_entering_link(void);
/* At a SWITCH: the thread that has just taken the GIL becomes the interpreter's current one for a moment, so
 * that its functions can be called: tf_thread_enter() in front, tf_thread_leave() with its result behind.
 * *ts: that thread's state, when none was given; NULL: the interpreter does not know the thread. */
bool tf_thread_enter(PyThreadState **ts);
void tf_thread_leave(bool entered);
/* The same for good, in a fork that is thrown away: it has the GIL, and no other thread is there. NULL: as
 * tf_thread_enter(). */
PyThreadState *tf_thread_settle(void);
/* The number of a thread (engine.h), -1 if it has none, and the one with a number, or NULL. */
int64_t tf_thread_number(PyThreadState *ts, int32_t *tid);
PyThreadState *tf_thread_by_number(PyInterpreterState *interp, uint32_t number);

/* pulse.c */
uint32_t tf_pulse(void);

/* depth.c: how many values stand on the function's stack before, and after, the instruction at this index (a
 * jump is taken); -1: not known. */
int tf_code_depth(PyCodeObject *co, Py_ssize_t index);
int tf_code_depth_after(PyCodeObject *co, Py_ssize_t index);

/* place.c */
void tf_place(struct tf_preempt *place, bool full);
size_t tf_thread_name(void *frame, char *buf, size_t size);

/* shortcuts.c */
void tf_shortcuts_close(void);
#if TF_PY313
/* Is it of the kind whose __init__ plain Python enters without C? */
bool tf_constructor_is_simple(PyTypeObject *type);
#endif

/* stop.c */
struct tf_exit_value {
    int event;       /* TF_RETURN, TF_YIELD, TF_UNWIND when stopped at an exit, else -1 */
    PyObject *value; /* strong; the value or the exception. NULL: not known */
};
extern struct tf_exit_value tf_exit_value;
void tf_stop_arm(const struct tf_stop_req *req, void *tstate, void *frame, int event);
uint64_t tf_stop_lines_seen(void);

/* Does the frame run inside a trace function or callback of the program's own? There the interpreter makes no
 * events. frame may not be linked yet. */
bool tf_inside_callback(PyThreadState *ts, tf_frame *frame);
#if TF_PY311
/* What tracing makes at its first event in a function, made beforehand: the line table of the code, the
 * frame's object. */
void tf_make_line_array(PyCodeObject *co);
void tf_make_frame_object(PyThreadState *ts, tf_frame *frame);
#endif

/* scan.c */
extern bool tf_scanning;
void tf_scan(const struct tf_scan *scan, void *tstate, void *frame, int event);
void tf_scan_event(uint32_t word, void *tstate, void *frame);
void tf_scan_code(PyCodeObject *co, uint32_t id); /* a code object that is new to the scan */
void tf_scan_early_call(tf_frame *frame);         /* a function that begins after other threads have run */

/* heap.c */
struct tf_diverted {
    int gc_enabled, gc_count;
};
/* What is allocated from here to tf_divert_end() comes from the engine's heap, and the garbage collector does
 * not notice. */
struct tf_diverted tf_divert_begin(PyThreadState *ts);
void tf_divert_end(PyThreadState *ts, struct tf_diverted saved);
bool tf_heap_owns(const void *p);
/* The program has come to need this block of the heap's: one of the same size is taken from its own, as in
 * the recording, and given back when this one is freed. False: nothing was done. */
bool tf_heap_shadow(void *p);
bool tf_heap_has_shadow(const void *p);
/* Numbers that the interpreter makes for callbacks of ours come from this heap, too: tf_heap_measure() once,
 * between begin and end; tf_heap_number() with each number that a callback gets. */
void tf_heap_measure(void);
void tf_heap_number(const PyObject *number);
/* The next block of this size is one that the program would not have needed, and is freed before it needs
 * another: it comes from this heap, and the garbage collector does not count it. tf_heap_once_end(): if it
 * was not asked for, it will not be any more. */
void tf_heap_once(PyThreadState *ts, size_t size);
void tf_heap_once_end(void);
/* The structures of the interpreter are not those that this engine was built for: ends the replay. */
void tf_other_layout(void) __attribute__((noreturn, cold));

/* tool.c */
#if !TF_PY311
int tf_tool_take(PyInterpreterState *interp);            /* a number that the program does not use */
void tf_tool_name(PyInterpreterState *interp, int tool); /* makes it ours */
/* `def` is called for event number `what`; *events gets its bit. False: no memory. */
bool tf_tool_listen(PyInterpreterState *interp, int tool, int what, PyMethodDef *def, int *events);
/* Switches events on: of one code object, or (NULL) of all. False: not possible. */
bool tf_tool_set(int tool, PyCodeObject *co, int events);
#endif

/* inspect.c, where.c */
/* The value of number i of the frame's variables (co_localsplusnames), borrowed; NULL if unbound. Allocates
 * nothing. */
PyObject *tf_frame_local(tf_frame *f, PyCodeObject *co, int i);
void tf_inspect(const struct tf_inspect_req *req, const char *text, size_t text_len);
size_t tf_where(char *buf, size_t size);
/* In a fork that is thrown away: no events any more, limits raised. */
void tf_settle(PyThreadState *ts);
/* The object of this type at this address, borrowed; NULL: there is none. */
PyObject *tf_object_at(uint64_t address, uint64_t type);
/* The value of an expression in a function, or (frame NULL) with these globals; NULL with an exception. In
 * such a fork. New reference. */
PyObject *tf_evaluate(tf_frame *frame, PyObject *globals, const char *text, size_t len);
/* Copies a str as UTF-8 without allocating; surrogates become '?'. At most size - 1 bytes and a NUL; returns
 * the length. */
size_t tf_utf8(PyObject *str, char *buf, size_t size);

#endif
