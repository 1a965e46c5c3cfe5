/*
 * ports/bare/bare.h - what the bare port and the kernel that embeds it owe each other.
 */
#ifndef QUIRE_BARE_H
#define QUIRE_BARE_H

#include <quire/memmap.h>
#include <quire/pt.h>

/* From the kernel: the boot memory map, the root of its tables, zeroed frames for tables while it
 * boots. */
extern struct quire_memmap boot_memmap;
extern q_pa kernel_root;
bool bare_boot_table(void *ctx, q_pa *out);

/* From the kernel: QPORT_GUARD_PAGE, for the pages that it gave as quire_heap_options.sample_pool. */
uint64_t bare_guard_page(void *page, bool closed);

/* Before quire_frame_init(): memory for the struct pages of all usable memory is kept.  Ends with a panic if there is
 * none. */
void vmemmap_reserve(void);

/* Pages of the array that huge blocks share instead of having their own. */
uint64_t vmemmap_pages_saved(void);

/* The kernel asks, at a fault of its own: was that the first touch of a reserved part of the
 * struct page array?  Then it is mapped now, zeroed.  Any context. */
bool bare_vmemmap_fault(uint64_t va);

#endif
