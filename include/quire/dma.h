/*
 * quire/dma.h - memory as devices see it: bus addresses, coherent and streaming mappings, bounce
 * buffers, scatter lists.  Above quire/heap.h; two hooks of the port may be left out.
 *
 * A mapping is one run of bus addresses for one run of memory, for a time.  While it lasts the memory
 * is the device's: what the CPU wants to read meanwhile it asks for with sync_for_cpu, and what it
 * has written it hands over with sync_for_device.  Whether the device reaches the memory itself or
 * a copy of it below its limits (a bounce buffer) makes no difference to either side.
 *
 * Context: any, interrupt handlers too, but init, fini, device_init, device_fini and verify (task).
 * Calls for one mapping are made one after the other; all else may happen at once.
 *
 * Misuse panics with all values, in every build: an unmap of what is not mapped, or with another
 * size or direction, a second unmap, a sync outside of its mapping, a mapping of free memory, of
 * page tables for writing, of what is not in the direct map (stacks, kernel areas, the image).
 * Whoever frees memory that is mapped is told so by the frame allocator ("others hold"): a mapping
 * has a reference to its blocks.
 */
#ifndef QUIRE_DMA_H
#define QUIRE_DMA_H

#include <quire/heap.h>

#define QUIRE_DMA_SLOT       2048u /* bytes of a bounce slot */
#define QUIRE_DMA_BOUNCE_MAX (64 * QUIRE_DMA_SLOT)
#define QUIRE_DMA_ALIGN_MAX  4096u

enum quire_dma_direction { QUIRE_DMA_BOTH, QUIRE_DMA_TO_DEVICE, QUIRE_DMA_FROM_DEVICE };

struct quire_dma_config {
    uint32_t slots;    /* of the pool of bounce buffers, up to 2^20; 0: none */
    uint64_t limit;    /* highest physical address of the pool; 0: 4 GiB - 1 */
    uint32_t mappings; /* expected at once, up to 2^20: the table has as many chains; 0: 1024 */
};

/* After quire_heap_init(), before any other call here.  INVALID: config; NO_MEMORY. */
enum quire_status quire_dma_init(const struct quire_dma_config *config);
/* BUSY: there are devices. */
enum quire_status quire_dma_fini(void);

/* Memory [pa, pa + bytes) is seen by the device at bus.  All three are whole pages. */
struct quire_dma_range {
    q_pa pa;
    uint64_t bytes;
    q_ba bus;
};

#define QUIRE_DMA_NONCOHERENT 0x1u /* does not see the CPU's caches: the port's hooks are called */

/* The caller's memory from device_init to device_fini; zeros but for what is filled in. */
struct quire_dma_device {
    const char *name; /* for reports; not copied */
    /* Constant after quire_dma_device_init(). */
    const struct quire_dma_range
        *ranges; /* not copied; bus addresses and memory disjoint; or NULL: */
    uint32_t nranges;
    uint32_t flags;
    uint64_t offset;      /* bus = physical + offset, modulo 2^64; whole pages */
    uint64_t mask;        /* highest bus address: 2^n - 1, n 12..64 */
    uint64_t max_segment; /* bytes; a multiple of 512 and of align; 0: any */
    uint64_t boundary;    /* no segment crosses a multiple of this: 2^n, 2048 at least; 0: any */
    uint32_t align;       /* of a segment's start: 2^n, up to QUIRE_DMA_ALIGN_MAX; 0: any */
    /* The library's. */
    uint32_t magic;
    struct quire_dma_device *next, *prev;  /* lock of the list of devices */
    uint64_t maps, unmaps, bounces, fails; /* atomic */
};

/* INVALID: a limit is not as above. */
enum quire_status quire_dma_device_init(struct quire_dma_device *dev);
/* BUSY: it has mappings or coherent memory; names them on the log (first 8) and nothing changes. */
enum quire_status quire_dma_device_fini(struct quire_dma_device *dev);

/* The most bytes that one streaming mapping of this device may have wherever the memory lies. */
uint64_t quire_dma_max_bytes(const struct quire_dma_device *dev);

/* ---- Coherent memory: both sides use it at the same time ---- */

/* bytes (1..the largest block) of zeroed, physically contiguous memory in the reach of the device, aligned
 * to its size rounded up to a power of two of pages; *ptr is for the CPU.  It is one segment: device's
 * max_segment and boundary hold.  NO_MEMORY; INVALID: no such block exists; UNSUPPORTED: the device is
 * not coherent (the direct map is cached; use streaming mappings). */
enum quire_status quire_dma_alloc(struct quire_dma_device *dev, uint64_t bytes, quire_gfp gfp,
                                  void **ptr, q_ba *bus);
void quire_dma_free(struct quire_dma_device *dev, uint64_t bytes, void *ptr, q_ba bus);

/* ---- Streaming ---- */

/* Map bytes (not 0) of the direct map: heap, frames.  NO_MEMORY: also when the bounce pool is full;
 * INVALID: no segment of this device is as long. */
enum quire_status quire_dma_map_range(struct quire_dma_device *dev, const void *ptr, uint64_t bytes,
                                      enum quire_dma_direction dir, q_ba *out);
/* The same from byte offset of a page; may go on into the pages behind it. */
enum quire_status quire_dma_map_page(struct quire_dma_device *dev, const struct quire_page *page,
                                     uint64_t offset, uint64_t bytes, enum quire_dma_direction dir,
                                     q_ba *out);
/* The end of a mapping: all as it was mapped.  What the device wrote is in memory. */
void quire_dma_unmap(struct quire_dma_device *dev, q_ba bus, uint64_t bytes,
                     enum quire_dma_direction dir);

/*
 * Bytes [offset, offset + bytes) of the mapping that begins at bus.  After for_cpu the CPU may read
 * what the device has written; what it writes itself reaches the device, and outlives the mapping,
 * by for_device only; which is for bytes that the CPU has: those that the device may be writing would
 * be overwritten if they are bounced.  Not coherent devices: offset is a multiple of QPORT_DMA_LINE, bytes too unless
 * they reach the end.
 */
void quire_dma_sync_for_cpu(struct quire_dma_device *dev, q_ba bus, uint64_t offset, uint64_t bytes,
                            enum quire_dma_direction dir);
void quire_dma_sync_for_device(struct quire_dma_device *dev, q_ba bus, uint64_t offset,
                               uint64_t bytes, enum quire_dma_direction dir);

/* ---- Scatter lists ---- */

struct quire_dma_sg {
    const struct quire_page *page;
    uint64_t offset, bytes; /* bytes not 0; may go on into the pages behind */
};
/* Each is a mapping of its own, which may be synced and unmapped as such. */
struct quire_dma_segment {
    q_ba bus;
    uint64_t bytes;
};
struct quire_dma_segments {
    struct quire_dma_segment *segments; /* the caller's array */
    uint32_t cap, n;                    /* n: filled in */
};

/* Map a list: neighbours in memory are merged, what exceeds a limit of the device is split.  All or
 * nothing: TOO_MANY segments, NO_MEMORY, INVALID (an empty element) leave nothing mapped, out->n 0. */
enum quire_status quire_dma_map_sg(struct quire_dma_device *dev, const struct quire_dma_sg *list,
                                   uint32_t n, enum quire_dma_direction dir,
                                   struct quire_dma_segments *out);
void quire_dma_unmap_sg(struct quire_dma_device *dev, const struct quire_dma_segments *s,
                        enum quire_dma_direction dir);
void quire_dma_sync_sg_for_cpu(struct quire_dma_device *dev, const struct quire_dma_segments *s,
                               enum quire_dma_direction dir);
void quire_dma_sync_sg_for_device(struct quire_dma_device *dev, const struct quire_dma_segments *s,
                                  enum quire_dma_direction dir);

/* ---- Looking ---- */

struct quire_dma_stats {
    uint64_t slots, free_slots;
    uint64_t maps, unmaps; /* begun, ended since init; coherent memory too */
    uint64_t bounces;      /* of maps: through the pool */
    uint64_t fails;        /* refused for lack of memory or slots */
};
/* dev NULL: of all devices that there are.  Any context; a snapshot. */
void quire_dma_stats(const struct quire_dma_device *dev, struct quire_dma_stats *out);
/* Walk the table, the devices and the pool: QUIRE_OK or CORRUPT with the first broken invariant on
 * the log.  Quiet. */
enum quire_status quire_dma_verify(void);

#endif
