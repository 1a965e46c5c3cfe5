/*
 * oom.h - when memory has run out (core/oom.c).  Task context; may sleep.
 */
#ifndef K_OOM_H
#define K_OOM_H

#include "k.h"

/* Give back what is only kept at hand, or take memory back from the host's balloon.  False: neither gave any. */
bool oom_make_room(void);
/* The same, and where that gives nothing a program is killed.  True: the allocation is worth another try. */
bool oom_kill(void);

#endif
