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
    uint32_t **p, **limit;
    tf_eval_fn eval;  /* the evaluator that was there before */
    uint64_t last_id; /* the thread of the last event */
    Py_ssize_t slot;  /* of co_extra */
    void (*slow)(uint32_t word, void *tstate, void *frame);

    const struct tf_core *core;
    bool throwing; /* the generator that is being entered was entered by throw() or close() */
};
extern struct tf_state tf_state;

/* codes.c: gives the code object its id. Slow path of tf_code_id. */
uint64_t tf_code_define(PyCodeObject *co);
/* The opcode that stands at this place, without specialisation and instrumentation. */
uint8_t tf_code_opcode(PyCodeObject *co, Py_ssize_t index);
/* How many units of inline cache follow such an opcode. */
int tf_code_caches(uint8_t opcode);

/* hook.c */
void tf_hook_install(void);
void tf_hook_remove(void);

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

/* inspect.c, where.c */
/* The value of number i of the frame's variables (co_localsplusnames), borrowed; NULL if unbound. Allocates
 * nothing. */
PyObject *tf_frame_local(tf_frame *f, PyCodeObject *co, int i);
void tf_inspect(const struct tf_inspect_req *req, const char *text, size_t text_len);
size_t tf_where(char *buf, size_t size);
/* Copies a str as UTF-8 without allocating; surrogates become '?'. At most size - 1 bytes and a NUL; returns
 * the length. */
size_t tf_utf8(PyObject *str, char *buf, size_t size);

#endif
