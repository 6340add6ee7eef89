/* special.h: the calls that have a function of their own, by file. Each serves record and replay. */
#ifndef TF_SPECIAL_H
#define TF_SPECIAL_H

#include "iohooks/process.h"

#define TF_SPECIAL(name) long tf_special_##name(const struct tf_call_row *row, struct tf_call *call)

/* call_memory.c */
TF_SPECIAL(mmap);
TF_SPECIAL(munmap);
TF_SPECIAL(mremap);
TF_SPECIAL(mprotect);
TF_SPECIAL(madvise);
TF_SPECIAL(mincore);
TF_SPECIAL(mempolicy);
TF_SPECIAL(move_pages);
/* call_file.c */
TF_SPECIAL(write);
TF_SPECIAL(close);
TF_SPECIAL(close_range);
TF_SPECIAL(dup);
TF_SPECIAL(fcntl);
TF_SPECIAL(ioctl);
TF_SPECIAL(getdents);
TF_SPECIAL(handle);
/* call_socket.c */
TF_SPECIAL(send);
TF_SPECIAL(receive);
TF_SPECIAL(getfd);
/* call_process.c */
TF_SPECIAL(exit);
TF_SPECIAL(kill);
TF_SPECIAL(prctl);
TF_SPECIAL(limit);
TF_SPECIAL(settid);
/* thread.c */
TF_SPECIAL(thread_exit);
/* call_child.c */
TF_SPECIAL(child);
TF_SPECIAL(exec);
/* signal.c */
TF_SPECIAL(sigaction);
TF_SPECIAL(sigprocmask);
TF_SPECIAL(sigreturn);
TF_SPECIAL(sigaltstack);
TF_SPECIAL(sigpending);
TF_SPECIAL(sigtimedwait);

#endif
