/*
 * fibre.h - stacks that give each other the thread.  Nothing runs but who was switched to.
 *
 * On x86-64 a switch is a dozen instructions of our own; elsewhere swapcontext(3), which also asks
 * the kernel for the signal mask each time.
 */
#ifndef SIM_FIBRE_H
#define SIM_FIBRE_H

#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

enum { SIM_STACK_BYTES = 256 * 1024 };

struct sim_fibre {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    void (*entry)(void *);
    void *arg;
    char *stack; /* lowest usable address; NULL: the thread's own stack */
};

/* A fibre on stack number n that begins with entry(arg), which must never return. */
void sim_fibre_init(struct sim_fibre *f, unsigned n, void (*entry)(void *), void *arg);
void sim_fibre_switch(struct sim_fibre *from, struct sim_fibre *to);
/* Most bytes of its stack that a fibre has ever used. */
size_t sim_fibre_stack_used(const struct sim_fibre *f);

#endif
