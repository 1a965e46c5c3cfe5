/*
 * arch/unwind.h - who called, exactly: a walk up the running stack by a table of what each instruction has put
 * there (unwind.c).
 */
#ifndef ARCH_UNWIND_H
#define ARCH_UNWIND_H

#include "k.h"

/* A function that is under way: where it is, and its registers. */
struct unwind {
    u64 ip, sp, bp;
    u64 low, high; /* of the stack: nothing else is read */
    bool returns;  /* ip is a return address, else that of an instruction */
};

struct regs;

/* ip, sp and bp of the place that this is written at, in the function that it is written in. */
#define UNWIND_HERE(u)                                               \
    __asm__ volatile("lea (%%rip), %0; mov %%rsp, %1; mov %%rbp, %2" \
                     : "=&r"((u)->ip), "=&r"((u)->sp), "=&r"((u)->bp))
/* ip, sp and bp are set: the rest. */
void unwind_begin(struct unwind *u);
/* To the caller; false: it is not known, as at the entries of the kernel, or not on this stack. */
bool unwind_step(struct unwind *u);
/* At the entry of an interrupt or exception: to what it interrupted.  False: u is at no such place, or that was a
 * program. */
bool unwind_interrupted(struct unwind *u);
/* Walked as far as there is something: to an entry of the kernel. */
bool unwind_is_end(const struct unwind *u);

#endif
