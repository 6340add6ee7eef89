/*
 * pulse.c: a light recording has no frame events by which its completion could tell that it has come by the
 * same way. It has the outside events, and this number beside each: the interpreter gives every change of a
 * dictionary a new number, from one counter, so the counter says how many there were.
 *
 * 3.11 has the counter in a static variable: there a change of a dictionary of our own tells. Main's thread is
 * the only one (a second thread ends a light recording), and a system call is not in the midst of a change.
 */
#include "engine/local.h"
#if TF_PY311

static PyObject *own, *key;
static bool flip;

void tf_pulse_start(PyInterpreterState *interp)
{
    (void)interp;
    own = PyDict_New();
    key = PyUnicode_InternFromString("timefork");
    if (!own || !key || PyDict_SetItem(own, key, Py_None))
        Py_FatalError("timefork: no memory for a dictionary");
}

uint32_t tf_pulse(void)
{
    if (!own)
        return 0;
    /* Another value, or nothing would change. Neither is ever freed. It needs no thread state: the call may be
     * one without the GIL. */
    flip = !flip;
    PyDict_SetItem(own, key, flip ? Py_True : Py_None);
    return (uint32_t)((PyDictObject *)own)->ma_version_tag;
}

#else
#include <internal/pycore_dict.h>
#include <internal/pycore_interp.h>

static PyInterpreterState *of;

void tf_pulse_start(PyInterpreterState *interp)
{
    of = interp;
}

uint32_t tf_pulse(void)
{
    return of ? (uint32_t)(of->dict_state.global_version / DICT_VERSION_INCREMENT) : 0;
}

#endif
