/*
 * pulse.c: a light recording has no frame events by which its completion could tell that it came by the same
 * way. It has the outside events, and this number beside each: a hash of where the program stands. In it are
 * the functions on top of the stack, and of the innermost one the variables: of numbers the value, of strings
 * the length, of others the size of their type's objects. No addresses, for these differ (docs/light.md), and
 * nothing that depends on which instructions the interpreter has specialised.
 */
#include "engine/local.h"

#define FUNCTIONS_MAX 8
#define VARIABLES_MAX 64

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

static uint64_t mix_variable(uint64_t h, const PyObject *object)
{
    uint64_t value = 0;
    if (!object)
        return mix(h, 1);
    if (PyLong_CheckExact(object))
        value = TF_LONG_DIGIT(object);
    else if (PyFloat_CheckExact(object))
        memcpy(&value, &((const PyFloatObject *)object)->ob_fval, sizeof value);
    else if (PyUnicode_CheckExact(object))
        value = (uint64_t)((const PyASCIIObject *)object)->length;
    return mix(h, value ^ (uint64_t)Py_TYPE(object)->tp_basicsize << 40);
}

uint32_t tf_pulse(void)
{
    PyThreadState *ts = tf_this_thread();
    uint64_t h = 0;
    if (!ts) /* it has given the GIL away */
        ts = PyGILState_GetThisThreadState();
#if !TF_PY313
    if (ts && !ts->cframe)
        ts = NULL;
#endif
    tf_frame *f = ts ? tf_frame_complete(tf_current_frame(ts)) : NULL;
    for (int i = 0; f && i < FUNCTIONS_MAX; i++, f = tf_frame_complete(f->previous)) {
        const PyCodeObject *co = tf_frame_code(f);
        h = mix(h, (uint64_t)co->co_firstlineno << 32 | (uint64_t)Py_SIZE(co));
        for (int k = 0; i == 0 && k < co->co_nlocalsplus && k < VARIABLES_MAX; k++)
            h = mix_variable(h, f->localsplus[k]);
    }
    return (uint32_t)(h ^ h >> 32);
}
