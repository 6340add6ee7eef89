/*
 * filter.h: the seccomp filter of replaying processes. The supervisor builds the program (filter.c, with
 * libseccomp) and hands it over in the control page; the process puts the address check in front of it, for
 * only it knows where its code is, and installs both (iohooks/filter.c). Copies inherit it.
 */
#ifndef TF_FILTER_H
#define TF_FILTER_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define TF_FILTER_MAX 768 /* instructions of the supervisor's program */
#define TF_FILTER_FRONT 11
#define TF_LOOK_FD 700 /* the first descriptor of files that an expression reads: look.c */

/*
 * The program with the address check in front: a call that does not come from the code between the two
 * addresses (raw.S) is trapped, whatever it is. But rt_sigreturn, which each trapped call ends with, is
 * allowed first: it changes nothing but registers, and the kernel does not even run the filter for calls that
 * it allows by their number alone. Returns the number of instructions, or 0: the addresses cannot be
 * compared.
 */
static inline unsigned tf_filter_join(struct sock_filter *out /* TF_FILTER_MAX + TF_FILTER_FRONT */,
                                      const struct sock_filter *program, unsigned n, uint64_t from,
                                      uint64_t to)
{
    const unsigned arch = offsetof(struct seccomp_data, arch), nr = offsetof(struct seccomp_data, nr),
                   ip = offsetof(struct seccomp_data, instruction_pointer);
    const struct sock_filter front[TF_FILTER_FRONT] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 5, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(from >> 32), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip), /* of the instruction behind the call */
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)from, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)to, 1, 2),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    if (n == 0 || n > TF_FILTER_MAX || from >> 32 != to >> 32)
        return 0;
    for (unsigned i = 0; i < TF_FILTER_FRONT; i++)
        out[i] = front[i];
    for (unsigned i = 0; i < n; i++)
        out[TF_FILTER_FRONT + i] = program[i];
    return TF_FILTER_FRONT + n;
}

struct tf_err;
/* The program for a process that has its socket at this descriptor. In the supervisor. */
int tf_filter_build(int socket, struct sock_filter *out /* TF_FILTER_MAX */, uint32_t *n, struct tf_err *err);
/* Does the kernel take such a filter? 0 or its errno. Installs it, without the address check: to be called in
 * a child that then does nothing but _exit(). */
int tf_filter_try(void);

#endif
