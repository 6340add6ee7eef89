/* start.h: what the library learned when it was loaded. */
#ifndef TF_START_H
#define TF_START_H
#include <stdbool.h>
#include <stdint.h>
/* Is this address in the engine's instructions? */
bool tf_in_engine(uintptr_t address);
#endif
