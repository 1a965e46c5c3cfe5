/*
 * quire/pt.h - page tables, as far as an embedder deals with them: building the kernel's own at
 * boot, and looking at any.
 */
#ifndef QUIRE_PT_H
#define QUIRE_PT_H

#include <quire/frame.h>

/* Protection of a mapping.  Write and execute together is refused in kernel mappings. */
#define QUIRE_READ   0x1u
#define QUIRE_WRITE  0x2u
#define QUIRE_EXEC   0x4u
#define QUIRE_USER   0x8u
#define QUIRE_GLOBAL 0x10u

enum quire_cache_type { QUIRE_CACHED, QUIRE_WRITE_COMBINING, QUIRE_UNCACHED };

/* A source of zeroed 4 KiB frames for tables: false if there is none. */
typedef bool (*quire_table_source)(void *ctx, q_pa *out);

/*
 * Map [va, va + len) to pa.. in the table at root with the largest leaves that alignment allows (up
 * to max_leaf_shift: 12, 21 or 30).  All multiples of 4 KiB.  For boot, before any allocator:
 * tables come from source.  EXISTS: something is mapped there; INVALID: alignment, W and X
 * together, a non-canonical address.  NO_MEMORY: source ran dry.  On failure nothing new is mapped;
 * tables taken from source stay linked, empty.
 */
enum quire_status quire_pt_boot_map(q_pa root, uint64_t va, q_pa pa, uint64_t len, unsigned prot,
                                    enum quire_cache_type cache, unsigned max_leaf_shift,
                                    quire_table_source source, void *ctx);

/* The finished kernel table: its upper half (kernel addresses) is shared by every space: the upper-level
 * entries of all kernel windows are made now, so that no space ever misses one.  After
 * quire_heap_init(). */
enum quire_status quire_pt_init(q_pa kernel_root);

/* This CPU uses the kernel's table from now on and takes part in shootdown.  Once on each CPU, before it
 * touches a kernel virtual area and with its interrupts able to arrive; quire_pt_init() does it
 * for the first one.  No-sleep context. */
void quire_pt_cpu_online(void);

/*
 * Mappings of the kernel's own outside the windows of quire/kva.h: the direct map of memory that has come,
 * its part of the array of struct pages.  As quire_pt_boot_map(), in the root of quire_pt_init(), global,
 * with tables of the allocator.  Different ranges may be mapped and unmapped at once.  Task context.
 *
 * unmap: no CPU translates [va, va + len) afterwards; it must not cut a larger leaf.  Holes are fine; tables
 * stay.
 */
enum quire_status quire_pt_kernel_map(uint64_t va, q_pa pa, uint64_t len, unsigned prot,
                                      unsigned max_leaf_shift);
void quire_pt_kernel_unmap(uint64_t va, uint64_t len);
/*
 * The 4 KiB at va, which are mapped so, lead to other memory from now on, which says the same as long as any
 * CPU may still read the old one: until this returns.  At no time is there nothing.  A larger leaf is split.
 * NOT_FOUND: nothing is mapped there; NO_MEMORY: for a table; INVALID.  No one else maps or unmaps there.  Task context.
 */
enum quire_status quire_pt_kernel_remap(uint64_t va, q_pa pa, unsigned prot);

/*
 * Close the 4 KiB leaf of the kernel's at va, in the table at root, to every access, or open it for reading and
 * writing: at once for this CPU; those that have translated it are interrupted, and not waited for: a closing holds
 * for all CPUs when its number, the result, is settled; 0 is at once, as is opening.  It must be
 * a 4 KiB leaf, and no one else may map or unmap there meanwhile.  Any context.
 */
uint64_t quire_pt_guard(q_pa root, uint64_t va, bool closed);
bool quire_pt_guard_settled(uint64_t number);

/* What a translation of va through root gives, for tests, dumps and checks. */
struct quire_translation {
    q_pa pa;             /* of va itself, when present */
    unsigned prot;       /* QUIRE_* that all levels together allow */
    unsigned leaf_shift; /* 12, 21 or 30 */
    bool present, accessed, dirty;
    uint64_t entry; /* raw leaf, or the first absent entry */
};
void quire_pt_translate(q_pa root, uint64_t va, struct quire_translation *out);

/* Write a line for each run of like mappings in [from, to) through emit; to 0: the end of the address
 * space.  Task context; the tree is not taken apart meanwhile. */
void quire_pt_dump(q_pa root, uint64_t from, uint64_t to, void (*emit)(void *ctx, const char *line),
                   void *ctx);

/* Frames in use as page tables. */
uint64_t quire_pt_pages(void);

/*
 * Let each CPU keep up to so many cleared tables (0..32; 0, the initial value: none) for reuse instead of
 * freeing them, and a quarter as many roots: a fresh table then costs no clearing.  Any context but
 * interrupts, after quire_pt_init().  quire_pt_cached(): frames kept now, neither free nor in
 * quire_pt_pages().  quire_pt_trim(): free them.
 */
void quire_pt_cache(unsigned tables);
uint64_t quire_pt_cached(void);
void quire_pt_trim(void);

/* Shootdown counters: IPIs sent, requests, entries flushed on this CPU only. */
struct quire_tlb_stats {
    uint64_t requests, ipis, local_flushes; /* local: flushes that concerned no other CPU */
};
void quire_tlb_stats(struct quire_tlb_stats *out);

#endif
