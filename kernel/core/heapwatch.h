/*
 * core/heapwatch.h - observing the heap: quire/track.h and quire/leak.h in this kernel.
 */
#ifndef HEAPWATCH_H
#define HEAPWATCH_H

/* Once the heap is there. */
void heap_watch_init(void);
/* Lines of quire.report: the call sites that hold most, if the heap is tracked. */
void heap_watch_print(void);

#endif
