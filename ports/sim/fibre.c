/*
 * fibre.c - see fibre.h.
 */
#include "fibre.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim.h"

/* Stacks lie at fixed addresses, each with a page below that is not mapped. */
static char *stack_at(unsigned n)
{
    size_t stride = SIM_STACK_BYTES + 4096;
    char *at = (char *)SIM_STACKS_BASE + n * stride + 4096; /* NOLINT: an address by decision */

    if (mmap(at, SIM_STACK_BYTES, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != at) {
        perror("quire-sim: no memory for a stack");
        exit(2);
    }
    return at;
}

size_t sim_fibre_stack_used(const struct sim_fibre *f)
{
    size_t untouched = 0;

    while (f->stack && untouched < SIM_STACK_BYTES && !f->stack[untouched])
        untouched++;
    return f->stack ? SIM_STACK_BYTES - untouched : 0;
}

static void __attribute__((noreturn, used)) begin(struct sim_fibre *f)
{
    f->entry(f->arg);
    abort();
}

#if defined(__x86_64__)

/* void swap(void **save, void *load): the callee-saved registers of the System V ABI. */
void sim_fibre_swap_(void **save, void *load);
__asm__(".text\n"
        ".type sim_fibre_swap_, @function\n"
        "sim_fibre_swap_:\n"
        "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
        "  mov %rsp, (%rdi)\n"
        "  mov %rsi, %rsp\n"
        "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
        "  ret\n"
        ".size sim_fibre_swap_, . - sim_fibre_swap_\n"
        ".type sim_fibre_start_, @function\n"
        "sim_fibre_start_:\n"
        "  mov %rbx, %rdi\n"
        "  call begin\n"
        "  hlt\n"
        ".size sim_fibre_start_, . - sim_fibre_start_\n");
void sim_fibre_start_(void);

void sim_fibre_init(struct sim_fibre *f, unsigned n, void (*entry)(void *), void *arg)
{
    void **sp;

    f->entry = entry;
    f->arg = arg;
    f->stack = stack_at(n);
    sp = (void **)(f->stack + SIM_STACK_BYTES);
    *--sp = NULL; /* two words, so that the stack is aligned at the call */
    *--sp = NULL;
    *--sp = (void *)sim_fibre_start_;
    *--sp = NULL; /* rbp */
    *--sp = f;    /* rbx */
    for (unsigned i = 0; i < 4; i++)
        *--sp = NULL;
    f->sp = sp;
}

void sim_fibre_switch(struct sim_fibre *from, struct sim_fibre *to)
{
    sim_fibre_swap_(&from->sp, to->sp);
}

#else

static void begin_halves(unsigned high, unsigned low)
{
    begin((struct sim_fibre *)((uintptr_t)high << 32 | low));
}

void sim_fibre_init(struct sim_fibre *f, unsigned n, void (*entry)(void *), void *arg)
{
    f->entry = entry;
    f->arg = arg;
    f->stack = stack_at(n);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = SIM_STACK_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, (void (*)(void))begin_halves, 2, (unsigned)((uintptr_t)f >> 32),
                (unsigned)(uintptr_t)f);
}

void sim_fibre_switch(struct sim_fibre *from, struct sim_fibre *to)
{
    swapcontext(&from->context, &to->context);
}

#endif
