/*
 * quire/heap_only.h - the heap by itself, over pages of the caller: quire/heap.h and quire/arena.h without
 * frames, zones, nodes or page tables.  All that a kernel has to have are the eight functions below.
 *
 * Build: src/base src/sync src/arena src/slab (but runs.c) and src/heaponly, with -I include -I ports/heap;
 * the result is libquire-heap.a (meson target quire-heap).  A function that is missing is a link error.
 * docs/porting.md builds a port from nothing.
 *
 *   1  qport_log       quire/port.h
 *   2  qport_panic     quire/port.h
 *   3  qport_now_ns    quire/port.h
 *   4  quire_host_cpu
 *   5  quire_host_irq_save
 *   6  quire_host_irq_restore
 *   7  quire_host_pages_get
 *   8  quire_host_pages_put
 *
 * Besides, as of any freestanding program, the compiler asks for memcpy, memmove, memset and memcmp.
 *
 * Up to 16 KiB objects come from slabs, above from an arena that grows by pages and coalesces.  There are no
 * zones: GFP_DMA and DMA32 give NULL.  Whoever waits for the list of caches (create, destroy, shrink, verify)
 * spins: do not call them where another task that holds it cannot run.
 */
#ifndef QUIRE_HEAP_ONLY_H
#define QUIRE_HEAP_ONLY_H

#include <quire/arena.h>
#include <quire/heap.h>

/* ---- What the host has ---- */

/* This CPU, 0..QUIRE_MAX_CPUS-1; called with interrupts or preemption off.  0 where there is one. */
unsigned quire_host_cpu(void);
/* Interrupts, hence preemption, off on this CPU; what they were.  Any context; nests. */
unsigned long quire_host_irq_save(void);
void quire_host_irq_restore(unsigned long was);
/*
 * 2^order pages of 4 KiB, contiguous, aligned to their size, within the window of quire_heap_only_init();
 * NULL: none, or none so large.  Any context that calls the heap, interrupts perhaps off.  Must not call the
 * heap.
 */
void *quire_host_pages_get(unsigned order);
/* Back, as they came. */
void quire_host_pages_put(void *pages, unsigned order);

/* ---- The start ---- */

/* Bytes of books for a window of that many bytes: 32 for each page, and one more. */
#define QUIRE_HEAP_BOOKS(bytes) \
    (((size_t)(bytes) / QUIRE_PAGE_SIZE + 2) * sizeof(struct quire_page))

/*
 * In place of quire_frame_init() and quire_heap_init(): pages will come from [window, window + bytes), which
 * need not be memory from end to end.  books: QUIRE_HEAP_BOOKS(bytes) bytes aligned to 8, the library's
 * from now on.  INVALID: not aligned to pages, or empty.  Boot.
 */
enum quire_status quire_heap_only_init(void *window, size_t bytes, void *books);

/* Where objects above 16 KiB are: for quire_arena_stats(), quire_arena_sites(), quire_arena_report(). */
struct quire_arena *quire_heap_only_arena(void);

/* Call each of the host's functions and check what it does; names the first that is wrong.  After
 * quire_heap_only_init(), one CPU. */
enum quire_status quire_heap_only_selftest(const char **culprit);

#endif
