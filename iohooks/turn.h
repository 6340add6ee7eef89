/*
 * turn.h: the threads of the program, and whose turn it is (docs/threads.md). In the recorded and in the
 * replaying process.
 */
#ifndef TF_TURN_H
#define TF_TURN_H

#include <stdbool.h>
#include <stdint.h>
#include "store/outside.h"

#define TF_THREADS_MAX 4096 /* at the same time */
#define TF_NAME_MAX 64

/* One of the program's threads. Places are used again, numbers are not. */
struct tf_thread;
/* The calling thread; NULL before timefork has started, and in threads that it does not know. */
extern __thread struct tf_thread *tf_self __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* There is, or was, more than one thread: everything below has an effect. Both modes. */
extern bool tf_many __attribute__((visibility("hidden")));

/* Has the calling thread the turn? While there is one thread, it has. Once nothing is recorded any more,
 * every thread has. A thread that timefork does not know (tf_self is NULL) never has before. */
bool tf_turn_is_mine(void);

/* ---- side_heap.c ---- */
/* Is malloc() the one of side_heap.c? Not if the executable has its own: then heaps cannot be kept apart, and
 * what a replay of threads finds is not certain. */
bool tf_side_heap_in_front(void);
/* The calling thread has just taken the turn: what it freed out of turn is freed now. */
void tf_side_heap_turn(void);
/* A thread has ended, its place is used again: in turn, and behind the last thing that it freed. */
void tf_side_heap_ended(unsigned place);
/* In a forked child of the program (not in a checkpoint): the other threads are not there any more, and may
 * have been left in the middle of anything. */
void tf_side_heap_forked(void);
/* The place of the calling thread, below TF_THREADS_MAX. */
unsigned tf_thread_place(void);

#endif
