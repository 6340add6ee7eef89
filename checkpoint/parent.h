/* parent.h: who a process's parent is, as the system says. In the supervisor. */
#ifndef TF_PARENT_H
#define TF_PARENT_H

#include <sys/types.h>

/* 0: not known, or it is gone (proc_pid_stat(5)). */
pid_t tf_parent_of(pid_t pid);

#endif
