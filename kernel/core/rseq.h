/*
 * core/rseq.h - see rseq.c.
 */
#ifndef CORE_RSEQ_H
#define CORE_RSEQ_H

struct regs;

/* The current task, which has an area registered, is about to go on at r. */
void rseq_resume(struct regs *r);

#endif
