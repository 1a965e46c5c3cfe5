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

/* The kernel asks, at a fault of its own: was that the first touch of a reserved part of the
 * struct page array?  Then it is mapped now, zeroed.  Any context. */
bool bare_vmemmap_fault(uint64_t va);

#endif
