/*
 * depth.c: how many values stand on a function's stack. While a function runs, only the evaluator knows, in a
 * register. But the depth is the same whenever an instruction is reached, so it can be computed from the
 * code, as the compiler does.
 */
#include "engine/local.h"
#if TF_PY313
#include <opcode_ids.h>
#else
#include <opcode.h>
#endif

#define UNITS_MAX (1 << 16) /* of a function; in a larger one no depth is known */

static struct {
    const PyCodeObject *code;
    uint64_t extra;        /* of the code: another one may come to its address */
    int16_t at[UNITS_MAX]; /* before each instruction; -1: not reached, or inside one */
} depths;

/* 1: jumps forward, -1: backward, 0: does not jump. */
static int direction(uint8_t op)
{
    switch (op) {
    case JUMP_FORWARD:
    case FOR_ITER:
    case SEND:
#if TF_PY311
    case JUMP_IF_FALSE_OR_POP:
    case JUMP_IF_TRUE_OR_POP:
    case POP_JUMP_FORWARD_IF_FALSE:
    case POP_JUMP_FORWARD_IF_TRUE:
    case POP_JUMP_FORWARD_IF_NOT_NONE:
    case POP_JUMP_FORWARD_IF_NONE:
#else
    case POP_JUMP_IF_FALSE:
    case POP_JUMP_IF_TRUE:
    case POP_JUMP_IF_NOT_NONE:
    case POP_JUMP_IF_NONE:
#endif
        return 1;
    case JUMP_BACKWARD:
    case JUMP_BACKWARD_NO_INTERRUPT:
#if TF_PY311
    case POP_JUMP_BACKWARD_IF_FALSE:
    case POP_JUMP_BACKWARD_IF_TRUE:
    case POP_JUMP_BACKWARD_IF_NOT_NONE:
    case POP_JUMP_BACKWARD_IF_NONE:
#endif
        return -1;
    }
    return 0;
}

/* Does it never go on to the next instruction? */
static bool leaves(uint8_t op)
{
    switch (op) {
    case JUMP_FORWARD:
    case JUMP_BACKWARD:
    case JUMP_BACKWARD_NO_INTERRUPT:
    case RETURN_VALUE:
#if !TF_PY311
    case RETURN_CONST:
#endif
    case RAISE_VARARGS:
    case RERAISE:
        return true;
    }
    return false;
}

static int effect(uint8_t op, int arg, bool jump)
{
    if (op == EXTENDED_ARG || op == CACHE)
        return 0;
    return PyCompile_OpcodeStackEffectWithJump(op, op >= HAVE_ARGUMENT ? arg : 0, jump);
}

/* The instruction with its argument: EXTENDED_ARGs in front of it count. Where the next one begins. */
static Py_ssize_t take(PyCodeObject *co, Py_ssize_t i, uint8_t *op, int *arg)
{
    unsigned oparg = 0;
    while (i < Py_SIZE(co)) {
        *op = tf_code_opcode(co, i);
        oparg = oparg << 8 | tf_unit_oparg(_PyCode_CODE(co)[i]);
        i += 1 + tf_code_caches(*op);
        if (*op != EXTENDED_ARG)
            break;
    }
    *arg = (int)oparg;
    return i;
}

static bool put(PyCodeObject *co, Py_ssize_t i, int depth)
{
    if (i < 0 || i >= Py_SIZE(co) || depth < 0 || depth > co->co_stacksize || depths.at[i] >= 0)
        return false;
    depths.at[i] = (int16_t)depth;
    return true;
}

static int take_varint(const uint8_t **p)
{
    int value = **p & 63;
    while (*(*p)++ & 64)
        value = value << 6 | (**p & 63);
    return value;
}

/* Handlers are reached with the depth that the exception table says, and the exception; below it the
 * instruction that raised, if the handler wants it. */
static void put_handlers(PyCodeObject *co)
{
    const uint8_t *p = (const uint8_t *)PyBytes_AS_STRING(co->co_exceptiontable);
    const uint8_t *end = p + PyBytes_GET_SIZE(co->co_exceptiontable);
    while (p < end) {
        take_varint(&p), take_varint(&p);
        int target = take_varint(&p), depth_lasti = take_varint(&p);
        put(co, target, (depth_lasti >> 1) + (depth_lasti & 1) + 1);
    }
}

static void compute(PyCodeObject *co)
{
    for (Py_ssize_t i = 0; i < Py_SIZE(co); i++)
        depths.at[i] = -1;
    put(co, 0, 0);
    put_handlers(co);
    for (bool changed = true; changed;) {
        changed = false;
        for (Py_ssize_t i = 0, next; i < Py_SIZE(co); i = next) {
            uint8_t op = 0;
            int arg;
            next = take(co, i, &op, &arg);
            int depth = depths.at[i], jumps = direction(op);
            if (depth < 0)
                continue;
            for (Py_ssize_t k = i; tf_code_opcode(co, k) == EXTENDED_ARG && k + 1 < Py_SIZE(co); k++)
                depths.at[k + 1] = depths.at[i];
            if (jumps)
                changed |= put(co, next + jumps * arg, depth + effect(op, arg, true));
            if (op == RETURN_GENERATOR) /* what is sent first comes in */
                changed |= put(co, next, 1);
            else if (!leaves(op))
                changed |= put(co, next, depth + effect(op, arg, false));
        }
    }
}

int tf_code_depth(PyCodeObject *co, Py_ssize_t index)
{
    if (index < 0 || index >= Py_SIZE(co) || Py_SIZE(co) > UNITS_MAX || co->co_stacksize > INT16_MAX)
        return -1;
    uint64_t extra = tf_code_extra_of(co);
    if (depths.code != co || depths.extra != extra || !extra) {
        depths.code = co;
        depths.extra = extra;
        compute(co);
    }
    return depths.at[index];
}

int tf_code_depth_after(PyCodeObject *co, Py_ssize_t index)
{
    int depth = tf_code_depth(co, index), arg;
    if (depth < 0)
        return -1;
    uint8_t op = 0;
    Py_ssize_t first = index;
    while (first > 0 && tf_code_opcode(co, first - 1) == EXTENDED_ARG && depths.at[first - 1] == depth)
        first--;
    take(co, first, &op, &arg);
    depth = op == RETURN_GENERATOR ? 1 : depth + effect(op, arg, direction(op) != 0);
    return depth < 0 || depth > co->co_stacksize ? -1 : depth;
}
