/*
 * idioms.h - see idioms.c.
 */
#ifndef SIM_IDIOMS_H
#define SIM_IDIOMS_H

#include "program.h"

/* Draw an idiom and add it around page, if its group is among groups. */
void sim_add_idiom(struct sim_program *p, unsigned task, unsigned groups, uint32_t page);

#endif
