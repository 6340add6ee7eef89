/*
 * pure.h: expressions that can be evaluated in the program's own timeline, at every hit of a breakpoint,
 * without changing anything there: no Python code runs, nothing is allocated from Python's allocators that
 * lives on, nothing of the program is written to (no reference is kept, no __dict__ is made, no cache is
 * touched that the program could notice).
 *
 * An expression is prepared once, in a fork, with the interpreter's own parser (TF_INSPECT_PREPARE), and
 * becomes a program: bytes, described at the head of pure.c, that any process of the same run can evaluate.
 * What cannot be told without running code (properties, __getattr__, __eq__ of the program's own classes,
 * calls other than len, isinstance, abs, min, max...) is refused, with TF_PURE_CANNOT, either when it is
 * prepared or when it is evaluated: whoever asks then makes a fork and evaluates it as Python does.
 *
 * Everything here runs in a replaying process, under the GIL; a program is good for one run's processes only,
 * as it holds hashes. Variables are those that tf_inspect() evaluates with: one that is not bound gives way
 * to a global one of its name.
 */
#ifndef TF_PURE_H
#define TF_PURE_H

#include "engine/compat.h"

enum tf_pure {
    TF_PURE_OK,
    TF_PURE_CANNOT, /* only Python itself can tell */
    TF_PURE_RAISES, /* Python would raise: a name or attribute that is not there, an index out of range, ...
                     */
};

/* Prepares: writes the program for an expression into *program (a bytes object, new reference) and returns
 * TF_PURE_OK; or TF_PURE_CANNOT; or TF_PURE_RAISES with the Python exception set (syntax). In a thrown-away
 * fork: may allocate and run code. *local: the expression uses a variable of frame's function itself. frame
 * may be NULL. */
enum tf_pure tf_pure_prepare(const char *text, size_t len, tf_frame *frame, PyObject **program, bool *local);

/* Of BASE.name or BASE[key], with a key that is a scalar now: the object that BASE is (new reference,
 * evaluated in `frame`), a program that asks scope->object for the same attribute or item, and the text of an
 * expression that does, with `_` for the object. NULL in *object: it is none of these, or needs Python code.
 * In a thrown-away fork. */
void tf_pure_place(const char *text, size_t len, tf_frame *frame, PyObject **object, PyObject **program,
                   PyObject **as_text);

/* Where names are looked up: variables of the frame (fast, cell, free, class body), then globals, builtins.
 * frame may not have begun yet. NULL: globals only. */
struct tf_pure_scope {
    tf_frame *frame;
    PyObject *globals; /* borrowed; used when frame is NULL */
    PyObject *builtins;
    PyObject *object; /* what a program of tf_pure_place() is about */
};

/* Is the expression true there? */
enum tf_pure tf_pure_truth(const uint8_t *program, size_t len, const struct tf_pure_scope *scope,
                           bool *truth);

/* A fingerprint of the value: two values with different fingerprints are different for a user who watches.
 * Scalars (None, bool, int, float, complex, str, bytes) by type and value; list, tuple, dict, set, frozenset,
 * bytearray, deque and their subclasses by identity and, one level deep, by their items (scalars by value,
 * others by identity), a dict's in no order; tuples, lists and slices that the expression itself makes by
 * their items only; all else by identity and type. RAISES has one fingerprint of its own (0): "not there". An
 * object in the place of one that is gone looks the same if it is of the same type and has the same items. */
enum tf_pure tf_pure_fingerprint(const uint8_t *program, size_t len, const struct tf_pure_scope *scope,
                                 uint64_t *fingerprint);
/* The same of an object. */
uint64_t tf_pure_object_fingerprint(PyObject *value);

/* What a dict has under a name, and what an object has of its own (in its __dict__, which is not made), both
 * borrowed; NULL: nothing, or only Python can tell. The name is a str. Need no current thread state. */
PyObject *tf_pure_dict_item(PyObject *dict, PyObject *name);
PyObject *tf_pure_own_attribute(PyObject *o, PyObject *name);
PyObject *tf_pure_named_attribute(PyObject *o, const char *name);

#endif
