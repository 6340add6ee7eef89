/* memory.h: what parked checkpoints cost. In the supervisor. */
#ifndef TF_MEMORY_H
#define TF_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes that checkpoints may take together: 2 GiB, but at most a quarter of the machine's memory. */
uint64_t tf_memory_cap(void);
/* The share of one process (PSS), bytes; 0 when it is gone. */
uint64_t tf_memory_share(pid_t pid);
/* Do these processes take more than cap together? Pages that several share count once among them (PSS;
 * proc(5)): what a process has resident says nothing about forks. A process that is gone counts nothing. */
bool tf_memory_exceeds(const pid_t *pids, size_t n, uint64_t cap);

#endif
