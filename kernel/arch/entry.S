/*
 * arch/entry.S - every way into the kernel and out of it, and the switch between tasks.
 *
 * All entries build a struct regs (task.h) at the top of the task's stack, so that signals, fork and exec
 * find the user's registers in one place.  A system call that changed nothing about them returns by
 * sysret; everything else by iret.
 *
 * Invariants:
 *  1. In kernel mode %gs is the per-CPU area; swapgs happens only at the edge to user mode.
 *  2. Between that edge and the first/last touch of %gs interrupts are off.
 *  3. Vectors that may hit inside that gap (NMI, double fault, machine check, debug) have stacks of
 *     their own and ask the MSR which %gs is in force.
 */
#include "x86.h"

/* Onto a stack that has ss, rsp, rflags, cs, rip, orig_rax already. */
.macro PUSH_REGS_AFTER_RDI
    push %rsi
    push %rdx
    push %rcx
    push %rax
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
.endm

.macro POP_REGS
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
.endm

    .section .text.entry, "ax"

/* ---- system calls ---- */

    .globl syscall_entry
    .align 64
syscall_entry:
    swapgs
    mov %rsp, %gs:CPU_USER_RSP
    mov %gs:CPU_KSTACK, %rsp
    push $SEL_USER_DS
    push %gs:CPU_USER_RSP
    push %r11
    push $SEL_USER_CS
    push %rcx
    push %rax
    sti
    push %rdi
    PUSH_REGS_AFTER_RDI
    cmp $SYSCALL_COUNT, %rax
    jae 2f
    mov %r10, %rcx
    call *syscall_table(, %rax, 8)
1:  cli
    mov %rax, REGS_RAX(%rsp)
    mov %gs:CPU_CURRENT, %rdx
    cmpl $0, TASK_WORK(%rdx)
    jne syscall_return_slow
    /* sysret restores rip from rcx and flags from r11: were they left alone? */
    mov REGS_RIP(%rsp), %rcx
    cmp %rcx, REGS_RCX(%rsp)
    jne syscall_return_slow
    mov REGS_RFLAGS(%rsp), %r11
    cmp %r11, REGS_R11(%rsp)
    jne syscall_return_slow
    shr $47, %rcx               /* a non-canonical rip would fault with the user's stack */
    jnz syscall_return_slow
    test $(RFLAGS_RF | RFLAGS_TF), %r11d
    jnz syscall_return_slow
    POP_REGS
    mov 32(%rsp), %rsp          /* above orig_rax, rip, cs, rflags */
    swapgs
    sysretq
2:  mov $-38, %rax              /* ENOSYS */
    jmp 1b

syscall_return_slow:
    mov %rsp, %rdi
    call syscall_slow_exit
    jmp return_to_user

/* ---- exceptions and interrupts ---- */

/* Stubs of 16 bytes for each vector: what the CPU pushed is completed to orig_rax, rdi; %edi = vector. */
    .globl vector_stubs
    .align 16
vector_stubs:
    .set vector, 0
    .rept 256
    .align 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    push %rdi
    .else
    push $0
    push %rdi
    .endif
    mov $vector, %edi
    .if vector == 14
    jmp page_fault_entry
    .elseif (vector == 1) || (vector == 2) || (vector == 8) || (vector == 18)
    jmp paranoid_entry
    .else
    jmp trap_entry
    .endif
    .set vector, vector + 1
    .endr

    .align 64
page_fault_entry:
    PUSH_REGS_AFTER_RDI
    cld
    mov %rsp, %rdi
    mov REGS_ORIG_RAX(%rsp), %rsi
    movq $-1, REGS_ORIG_RAX(%rsp)
    testb $3, REGS_CS(%rsp)
    jz 1f
    swapgs
    call page_fault_user
    jmp return_to_user
1:  call page_fault_kernel
    .globl fault_interrupted    /* whoever walks the stack: struct regs lies at %rsp here */
fault_interrupted:
    jmp return_to_kernel

    .align 16
trap_entry:
    PUSH_REGS_AFTER_RDI
    cld
    mov %rsp, %rsi
    mov REGS_ORIG_RAX(%rsp), %rdx
    movq $-1, REGS_ORIG_RAX(%rsp)
    testb $3, REGS_CS(%rsp)
    jz 1f
    swapgs
    call trap_dispatch
    jmp return_to_user
1:  call trap_dispatch
    .globl trap_interrupted
trap_interrupted:
return_to_kernel:
    POP_REGS
    add $8, %rsp
    iretq

/* The full way back: all registers from the frame at %rsp. */
    .globl return_to_user
    .align 16
return_to_user:
    cli
    mov %gs:CPU_CURRENT, %rdx
    cmpl $0, TASK_WORK(%rdx)
    jne 1f
    POP_REGS
    add $8, %rsp
    swapgs
    iretq
1:  mov %rsp, %rdi
    call user_return_work
    jmp return_to_user

/*
 * NMI, double fault, machine check, debug: on stacks of their own, anywhere.  %ebx says how to leave: 0
 * with the %gs that was found, 1 swap back.
 */
    .align 16
paranoid_entry:
    PUSH_REGS_AFTER_RDI
    cld
    mov %rsp, %rsi
    mov REGS_ORIG_RAX(%rsp), %r12
    movq $-1, REGS_ORIG_RAX(%rsp)
    testb $3, REGS_CS(%rsp)
    jnz 3f
    xor %ebx, %ebx
    mov $MSR_GS_BASE, %ecx
    rdmsr
    test %edx, %edx             /* the kernel's is in the upper half */
    js 1f
    swapgs
    inc %ebx
1:  mov %r12, %rdx
    call trap_dispatch
    .globl paranoid_interrupted
paranoid_interrupted:
    test %ebx, %ebx
    jz 2f
    swapgs
2:  POP_REGS
    add $8, %rsp
    iretq
    /* from user mode: like any trap, on the task's own stack */
3:  swapgs
    mov %edi, %ebx
    mov %gs:CPU_KSTACK, %rdi
    sub $REGS_SIZE, %rdi
    mov %rdi, %rbp
    mov $(REGS_SIZE / 8), %ecx
    rep movsq
    mov %rbp, %rsp
    xor %ebp, %ebp
    mov %ebx, %edi
    mov %rsp, %rsi
    mov %r12, %rdx
    call trap_dispatch
    jmp return_to_user

/* ---- tasks ---- */

/* struct task *switch_stacks(prev %rdi, next %rsi): returns, in next, whom it replaced. */
    .globl switch_stacks
    .align 16
switch_stacks:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, TASK_SAVED_RSP(%rdi)
    mov TASK_SAVED_RSP(%rsi), %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    mov %rdi, %rax
    ret

/* Where a new task's saved stack leads.  %rax: whom it replaced. */
    .globl task_first_user, task_first_kernel
task_first_user:
    mov %rax, %rdi
    call sched_finish_switch
    jmp return_to_user
task_first_kernel:
    mov %rax, %rdi
    call sched_finish_switch
    call kthread_run
    ud2

/* _Noreturn enter_user(regs %rdi): %rdi is the frame at the top of the current stack. */
    .globl enter_user
enter_user:
    cli
    mov %rdi, %rsp
    xor %ebp, %ebp
    jmp return_to_user

/* ---- pages ---- */

/* 256 stores of 16 bytes; the user's xmm0 is live in the register. */
    .globl clear_page_sse2, clear_page_rep
    .align 16
clear_page_sse2:
    sub $24, %rsp
    movups %xmm0, (%rsp)
    xorps %xmm0, %xmm0
    mov $4, %eax
1:
    .set offset, 0
    .rept 64
    movaps %xmm0, offset(%rdi)
    .set offset, offset + 16
    .endr
    add $1024, %rdi
    dec %eax
    jnz 1b
    movups (%rsp), %xmm0
    add $24, %rsp
    ret

    .align 16
clear_page_rep:
    xor %eax, %eax
    mov $512, %ecx
    rep stosq
    ret

    .section .note.GNU-stack, "", @progbits
