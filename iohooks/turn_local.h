/*
 * turn_local.h: what the files about the turn share: turn.c (whose it is), gil.c (the doors of the GIL and of
 * native locks), preempt.c (drops in the middle of a function). Internal to them; in the recorded and in the
 * replaying process.
 */
#ifndef TF_TURN_LOCAL_H
#define TF_TURN_LOCAL_H

#include "iohooks/process.h"

#define TF_TURN_LOCAL __attribute__((visibility("hidden")))

/* The queue and all else here is guarded by `lock`, a futex of three states; what only the owner of the turn
 * touches is not. */
struct tf_turn_state {
    uint32_t lock; /* 0: free, 1: taken, 2: taken, and somebody sleeps */
    struct tf_thread *owner, *gil;
    struct tf_thread *head, *tail; /* those that wait, in the order in which they came */
    uint32_t last;                 /* who had it last, as the log knows it; both modes */
    uint64_t turns;
    uint64_t silent; /* how often `last` has taken it again since it is the last; both modes */
    volatile bool
        dissolved; /* nothing is recorded any more: threads are on their own, behind Python's own GIL */
    volatile bool urgent; /* somebody has waited for longer than the interval */
    volatile bool asked;  /* and Python has been asked to drop the GIL */
    uint64_t dice;
};
extern struct tf_turn_state tf_turn_state TF_TURN_LOCAL;
#define turn tf_turn_state

void tf_turn_lock(void) TF_TURN_LOCAL;
void tf_turn_unlock(void) TF_TURN_LOCAL;
/* Gives the turn away, if somebody waits; hand_over: to the first of them, even if it would be this thread's
 * again. */
void tf_turn_pass(bool hand_over) TF_TURN_LOCAL;
/* record --chaos: a number below n, by chance. */
bool tf_turn_is_chaos(void) TF_TURN_LOCAL;
uint32_t tf_turn_dice(uint32_t n) TF_TURN_LOCAL;

/* ---- gil.c ---- */
/* For how long a thread waits for the GIL until it asks for it, in microseconds; 0: not known. */
unsigned long tf_gil_interval_us(void) TF_TURN_LOCAL;

/* ---- preempt.c ---- */
void tf_preempt_start(void) TF_TURN_LOCAL;
/* At a drop of the GIL; caller and cfa are the door's. False: it is none for the other threads, in replay:
 * the place is not reached yet. */
bool tf_preempt_drops(struct tf_thread *self, const void *caller, uintptr_t cfa) TF_TURN_LOCAL;
/* Record: the thread that has the GIL has done what it was asked for. */
void tf_gil_not_asked(void) TF_TURN_LOCAL;

#endif
