/*
 * preempt.c: drops of the GIL in the middle of a function (docs/threads.md): whether one was asked for, and
 * the place at which it was done, which a replay has to find again.
 */
#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <unwind.h>
#include "iohooks/turn_local.h"

/*
 * A thread that has been asked to drop the GIL does so at the interpreter's next check; one that gives it
 * away of its own accord calls one of these. Both come here through the interpreter's drop_gil(): who called
 * that is on the stack.
 */
static const char *const giving[] = {"PyEval_SaveThread",           "PyEval_ReleaseThread",
                                     "PyEval_ReleaseLock",          "PyThreadState_Swap",
                                     "PyThreadState_DeleteCurrent", "Py_EndInterpreter"};
#define GIVING (sizeof giving / sizeof *giving)
static struct {
    uintptr_t from, to;
} functions[GIVING + 1]; /* the last one: the evaluator */

static void find_function(const char *name, size_t i)
{
    void *at = dlsym(RTLD_DEFAULT, name);
    const ElfW(Sym) *symbol = NULL;
    Dl_info info;
    if (!at || !dladdr1(at, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
        return;
    functions[i].from = (uintptr_t)at;
    functions[i].to = (uintptr_t)at + symbol->st_size;
}

void tf_preempt_start(void)
{
    for (size_t i = 0; i < GIVING; i++)
        find_function(giving[i], i);
    find_function("_PyEval_EvalFrameDefault", GIVING);
}

enum drop { DROP_GOES_ON, DROP_GIVEN, DROP_ASKED };

/* Between the door and the evaluator stand drop_gil() and what the evaluator calls at its check, or one of
 * them with the other inlined. More is a native function, which gives the GIL away of its own accord: one of
 * the above that ends in a jump to drop_gil() does not stand on the stack. */
#define CHECK_FRAMES 2

/* Who a return address belongs to, and, if that does not tell, how far up the stack the next one is: found by
 * unwinding once, then looked up. */
static struct known {
    uintptr_t ip;
    size_t size; /* from where this function's callee was called to where it was called itself */
    enum drop drop;
} known[64];
static unsigned known_n;

static struct known *lookup(uintptr_t ip)
{
    for (unsigned i = 0; i < known_n; i++)
        if (known[i].ip == ip)
            return &known[i];
    return NULL;
}

static enum drop kind_of(uintptr_t ip)
{
    for (size_t i = 0; i <= GIVING; i++)
        if (ip > functions[i].from && ip <= functions[i].to)
            return i < GIVING ? DROP_GIVEN : DROP_ASKED;
    return DROP_GOES_ON;
}

struct walk {
    uintptr_t from; /* the door's caller */
    bool begun;
    uintptr_t last_ip, last_cfa;
    int left;
    int frames; /* in front of this one */
    enum drop drop;
};

/* libgcc: in a function that has called another one, "the CFA" is the other one's. */
static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *arg)
{
    struct walk *walk = arg;
    uintptr_t ip = _Unwind_GetIP(context), cfa = _Unwind_GetCFA(context);
    if (!walk->begun && ip != walk->from)
        return --walk->left ? _URC_NO_REASON : _URC_END_OF_STACK;
    if (walk->begun && !lookup(walk->last_ip) && known_n < sizeof known / sizeof *known &&
        *(uintptr_t *)(cfa - 8) == ip)
        known[known_n++] = (struct known){.ip = walk->last_ip, .size = cfa - walk->last_cfa};
    walk->begun = true;
    walk->last_ip = ip;
    walk->last_cfa = cfa;
    walk->drop = kind_of(ip);
    if (walk->drop == DROP_GOES_ON)
        walk->frames++;
    if (walk->drop != DROP_GOES_ON) {
        if (!lookup(ip) && known_n < sizeof known / sizeof *known)
            known[known_n++] = (struct known){.ip = ip, .drop = walk->drop};
        return _URC_END_OF_STACK;
    }
    return --walk->left ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/* Is the GIL dropped because it was asked for? cfa: the door's, above its return address. */
static bool is_asked(struct tf_thread *self, const void *caller, uintptr_t cfa)
{
    if (tf_thread_has_left_python(self))
        return false;
    uintptr_t ip = (uintptr_t)caller, at = cfa;
    int frames = 0;
    for (const struct known *k; (k = lookup(ip)); frames++) {
        if (k->drop != DROP_GOES_ON || frames == CHECK_FRAMES)
            return k->drop == DROP_ASKED;
        at += k->size;
        ip = *(uintptr_t *)(at - 8);
    }
    struct walk walk = {.from = (uintptr_t)caller, .left = 24};
    _Unwind_Backtrace(step, &walk);
    return walk.drop == DROP_ASKED && walk.frames <= CHECK_FRAMES;
}

/* Replay: the next thing in the log, if it is that this thread drops the GIL in the middle of the function
 * that it is in. */
static const struct tf_outside *next_preempt(void)
{
    const struct tf_outside *e = tf_many ? tf_log_peek() : NULL;
    return e && e->call == TF_CALL_PREEMPT && e->frame == tf_frames() &&
                   e->args_len == sizeof(struct tf_preempt)
               ? e
               : NULL;
}

void tf_turn_expect_preempt(void)
{
    if (tf.mode == TF_REPLAYS && tf_self->has_gil && next_preempt())
        tf.engine->ask_to_drop(true);
}

/* At a drop. False: it is none for the other threads, in replay: the place is not reached yet. */
bool tf_preempt_drops(struct tf_thread *self, const void *caller, uintptr_t cfa)
{
    struct tf_preempt place, logged;
    if (!tf_many || !(tf.mode == TF_RECORDS || tf.mode == TF_REPLAYS))
        return true;
    if (tf.mode != TF_REPLAYS) {
        if (is_asked(self, caller, cfa)) { /* now, or when it was about to take the GIL */
            tf.engine->place(&place, true);
            tf_log_put(TF_CALL_PREEMPT, 0, 0, &place, sizeof place, NULL, 0);
            self->drops = true;
        }
        tf_gil_not_asked(); /* or Python would wait for its switch, under a lock that others need, out of turn
                             */
        return true;
    }
    const struct tf_outside *e = next_preempt();
    if (!e || !is_asked(self, caller, cfa))
        return true;
    memcpy(&logged, tf_outside_args(e), sizeof logged);
    tf.engine->place(&place, false);
    if (place.frame != logged.frame || place.instruction != logged.instruction ||
        place.variables != logged.variables)
        return false;
    tf.engine->place(&place, true);
    /* What a search makes of its own may have moved objects: it goes by values alone. */
    if (tf.scanning ? place.values != logged.values : place.fingerprint != logged.fingerprint)
        return false;
    tf_log_take(TF_CALL_PREEMPT, &logged, sizeof logged);
    return true;
}
