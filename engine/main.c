/*
 * main.c: start-up. The preload library runs the engine's main in place of the interpreter's; it does what
 * Python's own main does, and puts the frame hook in between initialisation and the program.
 */
#include "engine/local.h"

struct tf_state tf_state;

static int engine_main(int argc, char **argv)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = PyConfig_SetBytesArgv(&config, argc, argv);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_IsExit(status)) /* --version, --help */
        return status.exitcode;
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    if (tf_state.core->records_light())
        tf_hook_spare();
    else
        tf_hook_install();
    return Py_RunMain();
}

static const struct tf_engine engine = {
    .abi = TF_ENGINE_ABI,
    .python_hex = PY_VERSION_HEX,
    .main = engine_main,
    .arm = tf_stop_arm,
    .lines_seen = tf_stop_lines_seen,
    .scan = tf_scan,
    .scan_event = tf_scan_event,
    .yield = tf_gil_yield,
    .ask_to_drop = tf_gil_ask,
    .place = tf_place,
    .thread_name = tf_thread_name,
    .pulse = tf_pulse,
    .inspect = tf_inspect,
    .where = tf_where,
};

__attribute__((visibility("default"))) const struct tf_engine *tf_engine_init(const struct tf_core *core)
{
    /* Py_Version is data: valid before Python is initialised. */
    if (core->abi != TF_ENGINE_ABI || (Py_Version >> 16) != (PY_VERSION_HEX >> 16))
        return NULL;
    tf_state.core = core;
    tf_state.cursor = core->cursor;
    tf_state.slow = core->slow;
    return &engine;
}
