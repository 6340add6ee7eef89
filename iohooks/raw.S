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
    mov tf_self@gottpoff(%rip), %rax
    mov %fs:(%rax), %rax
    cmpl $0, (%rax) /* tf_thread.pending */
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

/* void tf_on_stack_with(void (*fn)(void *), void *top, void *arg) */
    .globl tf_on_stack_with
    .hidden tf_on_stack_with
    .type tf_on_stack_with, @function
tf_on_stack_with:
    mov %rsi, %rsp
    mov %rdi, %rax
    mov %rdx, %rdi
    xor %ebp, %ebp
    call *%rax
    hlt
    .size tf_on_stack_with, . - tf_on_stack_with

/*
 * Contexts of threads (struct tf_context in process.h): what a function has to preserve, and the FS register, which
 * thread-local data are relative to. It changes together with the stack, so that no C code runs with one of them only.
 */
    .macro save_context /* of the caller, to (%rdi); its fs is there already */
    mov %rbx, 0(%rdi)
    mov %rbp, 8(%rdi)
    mov %r12, 16(%rdi)
    mov %r13, 24(%rdi)
    mov %r14, 32(%rdi)
    mov %r15, 40(%rdi)
    lea 8(%rsp), %rax
    mov %rax, 48(%rdi)
    mov (%rsp), %rax
    mov %rax, 56(%rdi)
    stmxcsr 72(%rdi)
    fnstcw 76(%rdi)
    .endm

/* int tf_context_save(struct tf_context *) */
    .globl tf_context_save
    .hidden tf_context_save
    .type tf_context_save, @function
tf_context_save:
    save_context
    xor %eax, %eax
    ret
    .size tf_context_save, . - tf_context_save

/* void tf_context_switch(struct tf_context *from, const struct tf_context *to) */
    .globl tf_context_switch
    .hidden tf_context_switch
    .type tf_context_switch, @function
tf_context_switch:
    save_context
    mov %rsi, %r12
    cmpl $0, tf_has_fsgsbase(%rip)
    je 1f
    mov 64(%r12), %rax
    wrfsbase %rax
    jmp 2f
1:  mov $158, %eax /* arch_prctl(ARCH_SET_FS) */
    mov $0x1002, %edi
    mov 64(%r12), %rsi
    syscall
2:  ldmxcsr 72(%r12)
    fldcw 76(%r12)
    mov 0(%r12), %rbx
    mov 8(%r12), %rbp
    mov 24(%r12), %r13
    mov 32(%r12), %r14
    mov 40(%r12), %r15
    mov 48(%r12), %rsp
    mov 56(%r12), %rcx
    mov 16(%r12), %r12
    mov $1, %eax
    jmp *%rcx
    .size tf_context_switch, . - tf_context_switch

/* void tf_registers_enter(const greg_t *regs): in the order of ucontext.h */
    .globl tf_registers_enter
    .hidden tf_registers_enter
    .type tf_registers_enter, @function
tf_registers_enter:
    mov 0(%rdi), %r8
    mov 8(%rdi), %r9
    mov 16(%rdi), %r10
    mov 32(%rdi), %r12
    mov 40(%rdi), %r13
    mov 48(%rdi), %r14
    mov 56(%rdi), %r15
    mov 72(%rdi), %rsi
    mov 80(%rdi), %rbp
    mov 88(%rdi), %rbx
    mov 96(%rdi), %rdx
    mov 120(%rdi), %rsp
    mov 128(%rdi), %rcx
    mov 64(%rdi), %rdi
    xor %eax, %eax
    jmp *%rcx
    .size tf_registers_enter, . - tf_registers_enter

/* Where a context begins that is a new thread: rbx is the function to call. */
    .globl tf_thread_begins
    .hidden tf_thread_begins
    .type tf_thread_begins, @function
tf_thread_begins:
    xor %ebp, %ebp
    call *%rbx
    hlt
    .size tf_thread_begins, . - tf_thread_begins

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
