/*
 * pure_local.h: the programs of expressions, as pure_prepare.c writes and pure.c runs them. Described at the
 * head of pure.c.
 */
#ifndef TF_PURE_LOCAL_H
#define TF_PURE_LOCAL_H

#include "engine/local.h"
#include "engine/pure.h"

#define FORMAT 1
#define MAX_STACK 100   /* values; a program that needs more is refused */
#define MAX_NESTING 200 /* of the expression */

enum opcode {
    OP_END,
    OP_NAME,
    OP_ATTR,
    OP_NONE,
    OP_FALSE,
    OP_TRUE,
    OP_INT,
    OP_FLOAT,
    OP_STR,
    OP_BYTES,
    OP_BIG,
    OP_SUBSCRIPT,
    OP_SLICE,
    OP_UNARY,
    OP_BINARY,
    OP_COMPARE,
    OP_CHAIN,
    OP_NOT,
    OP_JUMP,
    OP_JUMP_IF_FALSE,
    OP_AND,
    OP_OR,
    OP_TUPLE,
    OP_LIST,
    OP_SET,
    OP_CALL,
    OP_OBJECT,
};

/* The first six are Py_LT to Py_GE. */
enum comparison { IS = 6, IS_NOT, IN, NOT_IN };

enum builtin { B_LEN, B_ISINSTANCE, B_ABS, B_MIN, B_MAX, B_TYPE, B_BOOL, B_INT, B_FLOAT, B_STR, B_COUNT };
extern const struct tf_pure_builtin {
    const char *name;
    uint8_t least, most; /* arguments */
} tf_pure_builtins[B_COUNT];

/* ---- Values. */

enum kind {
    V_NONE,
    V_BOOL,
    V_INT,
    V_BIG, /* an int that int64_t cannot hold */
    V_FLOAT,
    V_COMPLEX,
    V_STR,
    V_BYTES,
    V_TUPLE, /* these three: made here */
    V_LIST,
    V_SET,
    V_OBJECT, /* all else, and a tuple, list or set of the program */
};

struct value {
    uint8_t kind;
    uint8_t width;    /* STR: bytes per character */
    bool loose;       /* STR: part of another, whose characters may be wider than its own need */
    bool negative;    /* BIG */
    PyObject *object; /* that it was taken from, borrowed; NULL: made here */
    union {
        int64_t i; /* BOOL, INT */
        double d;
        struct {
            double real, imag;
        } c;
        struct {
            const uint8_t *data; /* STR, BYTES; at any address */
            size_t len;          /* characters */
            Py_hash_t hash;      /* STR: -1 if not known */
        } s;
        struct {
            const uint8_t *digits;
            size_t count;
        } big;
        struct {
            const struct value *items;
            size_t count;
        } seq;
    };
};
/* What stands in an object; borrows it. */
struct value tf_pure_value_of(PyObject *object);

#endif
