/*
 * one_thread.c: what turn.h says of a process that has one thread. Weak: it is there for as long as nothing
 * else defines it.
 */
#include "iohooks/turn.h"

#define WEAK __attribute__((weak))

WEAK __thread struct tf_thread *tf_self;
WEAK bool tf_many;

WEAK bool tf_turn_is_mine(void)
{
    return true;
}

WEAK unsigned tf_thread_place(void)
{
    return 0;
}
