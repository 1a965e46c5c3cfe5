/*
 * kernel/mm/mempolicy.h - policies of memory, for others than the calls about them.
 */
#ifndef KERNEL_MM_MEMPOLICY_H
#define KERNEL_MM_MEMPOLICY_H

#include <quire/policy.h>

struct process;
struct text;

/* What numa_maps says of a range with this policy, of that process: "bind:0-1". */
void mempolicy_text(struct process *proc, const struct quire_policy *of_range, struct text *t);

#endif
