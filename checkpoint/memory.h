/* memory.h: what parked checkpoints cost. In the supervisor. */
#ifndef TF_MEMORY_H
#define TF_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes that checkpoints may take together: 2 GiB, but at most a quarter of the machine's memory. */
uint64_t tf_memory_cap(void);

/* Pages that several processes share count once among them (PSS; proc(5)): what a process has resident says
 * nothing about forks. */
struct tf_memory_use {
    uint64_t shared;  /* its share of all its pages, bytes: PSS */
    uint64_t private; /* what nobody else has, bytes: its end frees at least so much */
};
/* Walks all pages of the process: a millisecond or so for 100 MB. False, and zeros, when it is gone. */
bool tf_memory_measure(pid_t pid, struct tf_memory_use *use);
/* What it has resident, bytes: cheap, and an upper bound of its share. 0 when it is gone. */
uint64_t tf_memory_resident(pid_t pid);
/* Page faults of a process that needed no reading, since it began; 0 when it is gone. */
uint64_t tf_memory_faults(pid_t pid);
/* CPU time of a process, ns, without what it had before it was forked; 0 when it is gone. */
uint64_t tf_memory_cpu_ns(pid_t pid);
/* What it costs, ns, to write to a page that a fork shares, here and now: measured with a fork of this
 * process, half a millisecond. An estimate, between 100 and 20000, when that fails. */
uint64_t tf_memory_fault_ns(void);

#endif
