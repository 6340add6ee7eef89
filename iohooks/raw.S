/*
 * raw.S: the only instructions of timefork, inside the program, that enter the kernel. The kernel exempts this region from
 * trapping (prctl PR_SET_SYSCALL_USER_DISPATCH), so calls made here reach it whatever the selector says.
 */
/* From C's registers (number first) to the kernel's. */
    .macro kernel_arguments
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
    .endm

    .text
    .balign 64
    .globl tf_region_start
    .hidden tf_region_start
tf_region_start:

/* long tf_raw(long nr, a, b, c, d, e, f): -errno on failure */
    .globl tf_raw
    .hidden tf_raw
    .type tf_raw, @function
tf_raw:
    kernel_arguments
    syscall
    ret
    .size tf_raw, . - tf_raw

/*
 * long tf_raw_wait(long nr, a, b, c, d, e, f): the same for calls that may wait. A signal that is kept already, or comes before
 * the kernel is entered (signal.c moves the program counter), cuts the call short: -ERESTARTNOINTR, nothing was done.
 */
    .globl tf_raw_wait
    .hidden tf_raw_wait
    .type tf_raw_wait, @function
tf_raw_wait:
    cmpl $0, tf_pending(%rip)
    jne tf_raw_wait_cut
    kernel_arguments
    .globl tf_raw_wait_call
    .hidden tf_raw_wait_call
tf_raw_wait_call:
    syscall
    ret
    .globl tf_raw_wait_cut
    .hidden tf_raw_wait_cut
tf_raw_wait_cut:
    mov $-513, %rax
    ret
    .size tf_raw_wait, . - tf_raw_wait

/*
 * long tf_raw_birth(long nr, a, b, c, d, e, void (*child)(void)): clone or clone3. In the new process, on the stack that the
 * arguments name, child() is called; it does not return.
 */
    .globl tf_raw_birth
    .hidden tf_raw_birth
    .type tf_raw_birth, @function
tf_raw_birth:
    kernel_arguments
    syscall
    test %rax, %rax
    jz 1f
    ret
1:  xor %ebp, %ebp
    call *%r9
    hlt
    .size tf_raw_birth, . - tf_raw_birth

/* void tf_on_stack(void (*fn)(void), void *top): calls fn on another stack. It does not return. */
    .globl tf_on_stack
    .hidden tf_on_stack
    .type tf_on_stack, @function
tf_on_stack:
    mov %rsi, %rsp
    xor %ebp, %ebp
    call *%rdi
    hlt
    .size tf_on_stack, . - tf_on_stack

/* The restorer of signal frames: SA_RESTORER of every handler that is installed through timefork. */
    .globl tf_restorer
    .hidden tf_restorer
    .type tf_restorer, @function
tf_restorer:
    mov $15, %eax
    syscall
    hlt
    .size tf_restorer, . - tf_restorer

/* void tf_sigreturn_at(void *frame): returns from the signal frame at that stack address. */
    .globl tf_sigreturn_at
    .hidden tf_sigreturn_at
    .type tf_sigreturn_at, @function
tf_sigreturn_at:
    mov %rdi, %rsp
    mov $15, %eax
    syscall
    hlt
    .size tf_sigreturn_at, . - tf_sigreturn_at

    .globl tf_region_end
    .hidden tf_region_end
tf_region_end:
    .section .note.GNU-stack, "", @progbits
