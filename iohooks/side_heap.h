/*
 * side_heap.h: where the heaps of threads that do not have the turn are (side_heap.c). What the core calls is
 * in turn.h. In the recorded and in the replaying process.
 */
#ifndef TF_SIDE_HEAP_H
#define TF_SIDE_HEAP_H

#include "iohooks/turn.h"

/* Place k has the addresses from TF_SIDE_ADDR + k * TF_SIDE_SIZE on. Below everything that is mapped in an
 * ordinary process (programs that are not position-independent aside: they begin at 4 MiB) and below
 * timefork's own addresses (proto.h, ring.h). */
#ifndef TF_SIDE_ADDR
#define TF_SIDE_ADDR 0x200000000000ul
#define TF_SIDE_SHIFT 32
#endif
#define TF_SIDE_SIZE (1ul << TF_SIDE_SHIFT)
/* The last one is that of all threads that timefork does not know. */
#define TF_SIDE_STRANGERS TF_THREADS_MAX
#define TF_SIDE_PLACES (TF_THREADS_MAX + 1)

#endif
