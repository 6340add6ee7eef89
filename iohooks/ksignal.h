/* ksignal.h: the kernel's struct sigaction on x86-64, which is not libc's. */
#ifndef TF_KSIGNAL_H
#define TF_KSIGNAL_H

#include <stdint.h>

#define TF_SA_RESTORER 0x04000000ul

struct tf_ksigaction {
    void *handler;
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};
void tf_restorer(void);
void tf_sigreturn_at(void *frame) __attribute__((noreturn));

#endif
