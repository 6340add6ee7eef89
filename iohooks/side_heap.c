#include "iohooks/turn.h"
void tf_side_heap_turn(void)
{
}
void tf_side_heap_ended(unsigned place)
{
    (void)place;
}
