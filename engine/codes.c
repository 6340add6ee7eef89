/*
 * codes.c: numbers for code objects.
 *
 * The first time that a code object runs, the core gives it the next id, and the id stays in the object's
 * co_extra (the engine's only allocation in the program's timeline, made at the same place in every replay).
 * The definition that the core logs has a hash over what the code does: the instructions as the compiler
 * wrote them, the line table, and the names. Instructions in memory change while they run (the interpreter
 * specialises and instruments them), so each one is mapped back, and inline caches are left out.
 */
#define NEED_OPCODE_TABLES
#define NEED_OPCODE_METADATA
#include "engine/compat.h"
#if TF_PY313
#include <internal/pycore_opcode_metadata.h>
#else
#include <internal/pycore_opcode.h>
#endif
#include <opcode.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/local.h"

#if !TF_PY311
/* What an instrumented instruction is underneath. Only opcodes that carry nothing of their own are here: the
 * others (INSTRUMENTED_LINE, INSTRUMENTED_INSTRUCTION) keep the original in the code object's monitoring
 * data. */
static const uint8_t uninstrumented[256] = {
    [INSTRUMENTED_RESUME] = RESUME,
    [INSTRUMENTED_RETURN_VALUE] = RETURN_VALUE,
    [INSTRUMENTED_RETURN_CONST] = RETURN_CONST,
    [INSTRUMENTED_CALL] = CALL,
    [INSTRUMENTED_CALL_FUNCTION_EX] = CALL_FUNCTION_EX,
#if TF_PY313
    [INSTRUMENTED_CALL_KW] = CALL_KW,
#endif
    [INSTRUMENTED_YIELD_VALUE] = YIELD_VALUE,
    [INSTRUMENTED_JUMP_FORWARD] = JUMP_FORWARD,
    [INSTRUMENTED_JUMP_BACKWARD] = JUMP_BACKWARD,
    [INSTRUMENTED_POP_JUMP_IF_FALSE] = POP_JUMP_IF_FALSE,
    [INSTRUMENTED_POP_JUMP_IF_TRUE] = POP_JUMP_IF_TRUE,
    [INSTRUMENTED_POP_JUMP_IF_NONE] = POP_JUMP_IF_NONE,
    [INSTRUMENTED_POP_JUMP_IF_NOT_NONE] = POP_JUMP_IF_NOT_NONE,
    [INSTRUMENTED_FOR_ITER] = FOR_ITER,
    [INSTRUMENTED_END_FOR] = END_FOR,
    [INSTRUMENTED_END_SEND] = END_SEND,
    [INSTRUMENTED_LOAD_SUPER_ATTR] = LOAD_SUPER_ATTR,
};
#endif

uint8_t tf_code_opcode(PyCodeObject *co, Py_ssize_t index)
{
    uint8_t op = tf_unit_opcode(_PyCode_CODE(co)[index]);
#if !TF_PY311
    /* What a line or instruction event hides is kept in structures that change between patch versions. The
     * program itself has asked for these events, and asks again in replay: the hash is the same there. */
    if (op == INSTRUMENTED_LINE || op == INSTRUMENTED_INSTRUCTION)
        return op;
    if (uninstrumented[op])
        return uninstrumented[op];
#endif
    return _PyOpcode_Deopt[op];
}

int tf_code_caches(uint8_t opcode)
{
    return _PyOpcode_Caches[opcode];
}

static uint64_t code_hash(PyCodeObject *co)
{
    static XXH3_state_t state; /* large, and the C stack may be nearly used up */
    XXH3_64bits_reset(&state);
    uint8_t units[512];
    size_t n = 0;
    for (Py_ssize_t i = 0; i < Py_SIZE(co);) {
        uint8_t op = tf_code_opcode(co, i);
        units[n++] = op;
        units[n++] = tf_unit_oparg(_PyCode_CODE(co)[i]);
        if (n == sizeof(units)) {
            XXH3_64bits_update(&state, units, n);
            n = 0;
        }
        i += 1 + _PyOpcode_Caches[op];
    }
    XXH3_64bits_update(&state, units, n);
    XXH3_64bits_update(&state, PyBytes_AS_STRING(co->co_linetable),
                       (size_t)PyBytes_GET_SIZE(co->co_linetable));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(co->co_names); i++) {
        PyObject *name = PyTuple_GET_ITEM(co->co_names, i);
        uint32_t kind = (uint32_t)PyUnicode_KIND(name);
        XXH3_64bits_update(&state, &kind, sizeof(kind));
        XXH3_64bits_update(&state, PyUnicode_DATA(name), (size_t)PyUnicode_GET_LENGTH(name) * kind);
    }
    return XXH3_64bits_digest(&state);
}

size_t tf_utf8(PyObject *str, char *buf, size_t size)
{
    size_t n = 0;
    if (size == 0)
        return 0;
    if (str && PyUnicode_Check(str)) {
        int kind = (int)PyUnicode_KIND(str);
        const void *data = PyUnicode_DATA(str);
        Py_ssize_t len = PyUnicode_GET_LENGTH(str);
        for (Py_ssize_t i = 0; i < len && n + 5 <= size; i++) {
            Py_UCS4 c = PyUnicode_READ(kind, data, i);
            if (c >= 0xd800 && c <= 0xdfff)
                c = '?';
            if (c < 0x80) {
                buf[n++] = (char)c;
            } else if (c < 0x800) {
                buf[n++] = (char)(0xc0 | c >> 6);
                buf[n++] = (char)(0x80 | (c & 63));
            } else if (c < 0x10000) {
                buf[n++] = (char)(0xe0 | c >> 12);
                buf[n++] = (char)(0x80 | (c >> 6 & 63));
                buf[n++] = (char)(0x80 | (c & 63));
            } else {
                buf[n++] = (char)(0xf0 | c >> 18);
                buf[n++] = (char)(0x80 | (c >> 12 & 63));
                buf[n++] = (char)(0x80 | (c >> 6 & 63));
                buf[n++] = (char)(0x80 | (c & 63));
            }
        }
    }
    buf[n] = 0;
    return n;
}

/* The string's own bytes when they are UTF-8 already; else a copy. */
static const char *text_of(PyObject *str, char *buf, size_t size, size_t *len)
{
    if (PyUnicode_Check(str) && PyUnicode_IS_COMPACT_ASCII(str)) {
        *len = (size_t)PyUnicode_GET_LENGTH(str);
        return (const char *)PyUnicode_1BYTE_DATA(str);
    }
    *len = tf_utf8(str, buf, size);
    return buf;
}

/* The code objects that are alive, by id. .bss: what is not used costs nothing. Codes beyond it are not found
 * by searches. */
#define CODES_MAX (1u << 20)
static PyCodeObject *by_id[CODES_MAX];

PyCodeObject *tf_code_by_id(uint32_t id)
{
    return id < CODES_MAX ? by_id[id] : NULL;
}

void tf_code_freed(void *value)
{
    uint32_t id = TF_CODE_ID((uintptr_t)value);
    if (id < CODES_MAX)
        by_id[id] = NULL;
}

uint64_t tf_code_define(PyCodeObject *co)
{
    static char file_buf[16384], name_buf[16384];
    size_t file_len, name_len;
    const char *file = text_of(co->co_filename, file_buf, sizeof(file_buf), &file_len);
    const char *name = text_of(co->co_qualname, name_buf, sizeof(name_buf), &name_len);
    uint64_t value = tf_state.core->code(code_hash(co), (uint32_t)co->co_firstlineno, (uint32_t)co->co_flags,
                                         file, file_len, name, name_len);
    if (co->co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR))
        value |= TF_CODE_GENERATOR;
    else if (PyUnicode_IS_COMPACT_ASCII(co->co_name) && PyUnicode_GET_LENGTH(co->co_name) == 8 &&
             memcmp(PyUnicode_1BYTE_DATA(co->co_name), "__init__", 8) == 0)
        value |= TF_CODE_INIT;
    /* Without memory for it the code is defined anew the next time, with another id: harmless. */
    PyThreadState *ts = tf_this_thread();
    struct tf_raised raised = tf_raised_take(ts);
    if (tf_set_extra(co, tf_state.slot, (void *)(uintptr_t)value) < 0)
        PyErr_Clear();
    tf_raised_put(ts, raised);
    if (TF_CODE_ID(value) < CODES_MAX)
        by_id[TF_CODE_ID(value)] = co;
    if (TF_UNLIKELY(tf_scanning))
        tf_scan_code(co, TF_CODE_ID(value));
    return value;
}
