/*
 * quire/memmap.h - the boot memory map: what the firmware says, made usable.
 *
 * Entries may come unsorted, overlapping, empty, touching 2^64, and by the thousand; firmware lies.
 * The rule for overlaps: the less usable kind wins (reserved over ACPI over usable).  Reservations
 * carry the name of their owner and may not overlap one another.  All storage is the caller's:
 * the map works before any allocator does.
 *
 * Order of use: init, add..., node..., reserve and alloc..., then quire_frame_init() takes all that
 * is left.  Boot context: one CPU, nothing here is locked.
 */
#ifndef QUIRE_MEMMAP_H
#define QUIRE_MEMMAP_H

#include <quire/config.h>
#include <quire/status.h>

/* In rising order of precedence. */
enum quire_mem_kind {
    QUIRE_MEM_DEVICE,  /* a device's, which may bring it (quire_device_memory_add) */
    QUIRE_MEM_HOTPLUG, /* nothing there yet; memory may come (quire_memory_add), and go again */
    QUIRE_MEM_USABLE,
    QUIRE_MEM_ACPI_RECLAIM, /* tables: usable once read, if the caller says so */
    QUIRE_MEM_ACPI_NVS,
    QUIRE_MEM_RESERVED,
    QUIRE_MEM_BAD,
    QUIRE_MEM_KINDS
};

#define QUIRE_NODE_ANY 0xffffu

struct quire_mem_range {
    q_pa base;
    uint64_t len;      /* bytes, not 0 */
    uint16_t kind;     /* enum quire_mem_kind */
    uint16_t node;     /* of usable, hot-pluggable and device ranges */
    const char *owner; /* of a reservation, else NULL; not copied */
};

struct quire_memmap {
    struct quire_mem_range *ranges; /* sorted, disjoint, after each call */
    uint32_t n, cap;
    struct quire_mem_range *reserved; /* sorted, disjoint */
    uint32_t nreserved, reserved_cap;
};

/* Empty map over the caller's arrays.  cap of at least twice the number of add() calls plus two
 * for each node range never runs full. */
void quire_memmap_init(struct quire_memmap *m, struct quire_mem_range *ranges, uint32_t cap,
                       struct quire_mem_range *reserved, uint32_t reserved_cap);

/* Add what firmware says of [base, base + len).  Usable, hot-pluggable and device ranges shrink
 * to whole pages, others grow.
 * len 0 is ignored.  OVERFLOW: base + len passes 2^64 (2^64 itself is allowed); INVALID: kind;
 * TOO_MANY: the array is full; then nothing has changed. */
enum quire_status quire_memmap_add(struct quire_memmap *m, q_pa base, uint64_t len,
                                   enum quire_mem_kind kind);

/* The usable, hot-pluggable and device parts of [base, base + len) that are known so far belong to node
 * (SRAT); splits ranges.  QUIRE_NODE_ANY: only hot-pluggable parts, whose memory may come to any. */
enum quire_status quire_memmap_set_node(struct quire_memmap *m, q_pa base, uint64_t len,
                                        unsigned node);

/* Keep [base, base + len) (grown to whole pages) from being allocated, whatever its kind.
 * OVERLAP: with another reservation: *clash (if not NULL) is that one. */
enum quire_status quire_memmap_reserve(struct quire_memmap *m, q_pa base, uint64_t len,
                                       const char *owner, struct quire_mem_range *clash);

/* Take len bytes (rounded up to pages) of usable, unreserved memory, aligned (power of two, at
 * least 4096), below limit (0: anywhere), preferably of node; reserved under owner.  From the top
 * of the highest suitable range.  Content is not cleared.  NO_MEMORY: no such range. */
enum quire_status quire_memmap_alloc(struct quire_memmap *m, uint64_t len, uint64_t align,
                                     uint64_t limit, unsigned node, const char *owner, q_pa *out);

/* Bytes of usable memory, reservations not deducted; end of the highest usable range. */
uint64_t quire_memmap_usable(const struct quire_memmap *m);
uint64_t quire_memmap_top(const struct quire_memmap *m);

/* The reservation that contains pa, or NULL. */
const struct quire_mem_range *quire_memmap_owner(const struct quire_memmap *m, q_pa pa);

#endif
