/*
 * quire/frame.h - physical frames: nodes, zones, the allocator.  Group 1 of the port is all it needs.
 *
 * One struct quire_page of 32 bytes describes each 4 KiB frame; together they are the memory map, which
 * quire/model.h finds its way in.  A block of order n is 2^n frames, aligned to its size; its first
 * page is the head, the others tails.  Pointer arithmetic on pages is good inside one block only.
 */
#ifndef QUIRE_FRAME_H
#define QUIRE_FRAME_H

#include <quire/memmap.h>
#include <quire/port.h>

/*
 * Page state flags, in quire_page.flags; exact at all times for every page that somebody holds.
 * Inside the allocator two shortcuts keep the cost of a frame that nobody touches at nothing: a free
 * block may keep its head and tails (free is then said by the head's QUIRE_PG_FREE), and the pages
 * of memory that was never handed out are all zeros.  quire_page_flags() sees through both.
 */
#define QUIRE_PG_RESERVED    0x0001u /* never given to the allocator, or a hole */
#define QUIRE_PG_FREE        0x0002u /* inside the allocator (block or per-CPU list) */
#define QUIRE_PG_HEAD        0x0004u /* head of a block of order >= 1 */
#define QUIRE_PG_TAIL        0x0008u /* tail of such a block */
#define QUIRE_PG_SLAB        0x0010u /* belongs to src/slab */
#define QUIRE_PG_TABLE       0x0020u /* is a page table */
#define QUIRE_PG_KVA         0x0040u /* backs a kernel virtual area */
#define QUIRE_PG_LOCKED      0x0080u /* content in transit (I/O, migration): wait before use */
#define QUIRE_PG_UPTODATE    0x0100u /* content valid */
#define QUIRE_PG_DIRTY       0x0200u /* content newer than its backing store */
#define QUIRE_PG_ANON        0x0400u /* anonymous memory: owner is not an object */
#define QUIRE_PG_LRU         0x0800u
#define QUIRE_PG_ACTIVE      0x1000u
#define QUIRE_PG_REF         0x2000u /* referenced */
#define QUIRE_PG_POISON      0x4000u /* hardware says the frame is bad */
#define QUIRE_PG_OBJECT      0x8000u /* in the page tree of the object in owner */
#define QUIRE_PG_ORDER_SHIFT 16      /* 5 bits: order, in a head */
#define QUIRE_PG_ZONE_SHIFT  21      /* 3 bits; or 11, the number of a place (quire/model.h) */
#define QUIRE_PG_NODE_SHIFT  24      /* 8 bits */

struct quire_page {
    uint32_t flags; /* atomic; QUIRE_PG_*, order, zone, node */
    uint32_t index; /* page offset in owner; tails: frames to the head */
    union {
        struct {
            uint32_t refs; /* atomic; holders of the frame, mappings included; 0: free.  Tails: 0 */
            uint32_t maps; /* atomic; leaf entries of user spaces that map it */
        };
        uint64_t counts; /* both, so that mapping and unmapping are one atomic each */
    };
    uint64_t owner;      /* struct quire_object *, slab, ...: by the flags */
    uint32_t next, prev; /* frame numbers: links of whichever list holds the page */
};
#define QUIRE_PAGE_ONE_MAPPING 0x100000001ull /* in counts: one more reference and mapping */

/* 32 bytes; the array of them is the only per-frame cost but the bitmap's bit. */
_Static_assert(sizeof(struct quire_page) == 32, "struct quire_page");

#include <quire/model.h>

static inline q_pa quire_pa_of_page(const struct quire_page *page)
{
    return quire_pa_of_pfn(quire_pfn_of_page(page));
}
/* The direct map: kernel logical addresses.  Round trip for all memory of the map. */
static inline q_kla quire_kla_of_pa(q_pa pa) { return Q_KLA(QPORT_DIRECT_BASE + pa.v); }
static inline q_pa quire_pa_of_kla(q_kla a) { return Q_PA(a.v - QPORT_DIRECT_BASE); }
static inline void *quire_ptr_of_pa(q_pa pa)
{
    return (void *)(uintptr_t)(QPORT_DIRECT_BASE + pa.v);
}
static inline void *quire_page_ptr(const struct quire_page *page)
{
    return quire_ptr_of_pa(quire_pa_of_page(page));
}
/* Zeros into the frame; all of one frame into another.  Any context. */
#if QUIRE_DIRECT_LIMIT
void quire_page_clear(const struct quire_page *page);
void quire_page_copy(const struct quire_page *to, const struct quire_page *from);
#else
static inline void quire_page_clear(const struct quire_page *page)
{
    qport_clear_page(quire_page_ptr(page));
}
/* a macro: ports that nobody asks to copy have no qport_copy_page() */
#define quire_page_copy(to, from) qport_copy_page(quire_page_ptr(to), quire_page_ptr(from))
#endif
/* ptr lies in the direct map. */
static inline struct quire_page *quire_page_of_ptr(const void *ptr)
{
    return quire_page_of_pfn(quire_pfn_of_pa(quire_pa_of_kla(Q_KLA((uintptr_t)ptr))));
}
/* As they are at this moment: others may set and clear what says how the page is used. */
static inline uint32_t quire_page_flags_now(const struct quire_page *p)
{
    return __atomic_load_n(&p->flags, __ATOMIC_RELAXED);
}
static inline unsigned quire_page_order(const struct quire_page *p)
{
    uint32_t flags = quire_page_flags_now(p);

    return flags & QUIRE_PG_HEAD ? flags >> QUIRE_PG_ORDER_SHIFT & 31 : 0;
}
static inline struct quire_page *quire_page_head(struct quire_page *p)
{
    uint32_t flags = quire_page_flags_now(p);

    if (!(flags & QUIRE_PG_TAIL))
        return p;
    if (__builtin_expect(!p->index, 0)) /* of a map that is shared (quire_page_map_share) */
        return p - (quire_pfn_of_page(p).v & ((1ull << (flags >> QUIRE_PG_ORDER_SHIFT & 31)) - 1));
    return p - p->index;
}

enum quire_zone_type {
    QUIRE_ZONE_DMA,
    QUIRE_ZONE_DMA32,
    QUIRE_ZONE_NORMAL,
    QUIRE_ZONE_HIGHMEM, /* beyond the direct map (QUIRE_DIRECT_LIMIT) */
    QUIRE_ZONE_MOVABLE, /* what can be moved, and nothing else */
    QUIRE_ZONE_DEVICE,  /* memory of a device: it has pages, and is never handed out */
    QUIRE_ZONES
};
enum quire_migrate_type {
    QUIRE_UNMOVABLE,
    QUIRE_MOVABLE,
    QUIRE_RECLAIMABLE,
    QUIRE_CMA,
    QUIRE_ISOLATE,
    QUIRE_MIGRATE_TYPES
};

/*
 * Allocation flags.  They name the highest zone that a request may use; those below it come after:
 *
 *     DMA               below 16 MiB
 *     DMA32             below 4 GiB
 *     (none)            NORMAL
 *     HIGHMEM           also what the direct map does not reach, if there is such memory: no
 *                       quire_page_ptr(), but quire_page_clear() and quire_page_copy()
 *     MOVABLE           also the MOVABLE zone; where there is high memory, with HIGHMEM only
 */
typedef uint32_t quire_gfp;
#define QUIRE_GFP_KERNEL      0x0000u /* may sleep and reclaim; unmovable */
#define QUIRE_GFP_MOVABLE     0x0001u /* user memory, page cache */
#define QUIRE_GFP_RECLAIMABLE 0x0002u
#define QUIRE_GFP_DMA         0x0004u /* below 16 MiB or fail */
#define QUIRE_GFP_DMA32       0x0008u /* below 4 GiB or fail */
#define QUIRE_GFP_HIGHMEM     0x0010u /* need not be in the direct map */
#define QUIRE_GFP_ATOMIC      0x0020u /* must not sleep; may use the atomic reserve */
#define QUIRE_GFP_ZERO        0x0040u
#define QUIRE_GFP_THISNODE    0x0080u /* no other node */
#define QUIRE_GFP_NORETRY     0x0100u /* fail rather than reclaim hard */
#define QUIRE_GFP_MEMALLOC    0x0200u /* reclaim itself asks: all reserves */
#define QUIRE_GFP_COMPOUND    0x1000u /* of a contiguous range: one block, not single pages */
#define QUIRE_GFP_COLD        0x2000u /* content comes from a device: one that no cache holds, if any */
#define QUIRE_GFP_USER        (QUIRE_GFP_MOVABLE)

/* QUIRE_NODE_ANY, as a node to allocate from: that of this CPU first. */

struct quire_boot {
    struct quire_memmap *map;
    unsigned nodes;          /* 1..QUIRE_MAX_NODES; every usable range names one below */
    unsigned cpus;           /* 1..QUIRE_MAX_CPUS */
    const uint8_t *cpu_node; /* [cpus], or NULL: all node 0 */
    const uint8_t *distance; /* [nodes * nodes] SLIT, or NULL: 10 on, 20 off the diagonal */
    /*
     * The MOVABLE zone, as Linux's kernelcore= and movablecore=: bytes that any request may use, or
     * bytes that only MOVABLE ones may, of the whole machine, shared evenly by the nodes; 0: not
     * said.  If both are, whichever leaves the kernel more.  Cut from the top of each node's highest zone.
     */
    uint64_t kernelcore, movablecore;
    uint64_t movable_nodes; /* bit n: all memory of node n is MOVABLE, to be removed some day */
    /* Bytes of each node, or a chunk more, to start on; the rest is for quire_frame_deferred_step().  0: all. */
    uint64_t first_bytes;
    /*
     * HMAT: how CPUs of node i reach memory of node j, at [i * nodes + j]: nanoseconds of a load, MiB
     * a second; 0: not known.  NULL: nothing is known.
     */
    const uint32_t *latency, *bandwidth;
};

/*
 * Memory that quire_frame_init() left for later (quire_boot.first_bytes): take over one chunk of it, of
 * this CPU's node if there is any.  Each CPU calls it until there is none; an allocation that would
 * fail does so itself.
 *
 *   OK         a chunk became free memory
 *   NOT_FOUND  there is none that nobody works on
 *   others     the port's, or a limit of the memory model: the chunk is left for later again
 *
 * Any context.  The boot map, with its arrays, stays as it is until quire_frame_deferred() is 0.
 */
enum quire_status quire_frame_deferred_step(void);
/* Chunks that are not taken over yet.  Any context. */
uint64_t quire_frame_deferred(void);

/* Take over all usable, unreserved memory of the map.  Boot context, once a machine; may be called
 * again in a hosted port after hosted_init().  INVALID names on the log what is wrong. */
enum quire_status quire_frame_init(const struct quire_boot *boot);

/*
 * A frame that the boot map kept for somebody is free memory from now on, its content nobody's.  INVALID: it is not such
 * a frame, or was released before.  The boot map goes on naming its owner.  Any context, beside whatever
 * other CPUs do.
 */
enum quire_status quire_frame_release(q_pfn pfn);

/* Nodes and zones are made; these never change after quire_frame_init(). */
unsigned quire_nodes(void);
unsigned quire_cpus(void); /* numbered from 0 */
unsigned quire_cpu_node(unsigned cpu);
unsigned quire_node_distance(unsigned from, unsigned to);

/*
 * A block of 2^order frames with refs 1, maps 0, owner 0; or NULL.  node: QUIRE_NODE_ANY or a node
 * to try first.  order: 0..QUIRE_MAX_ORDER.  Never sleeps in this version; any context (interrupts too).
 */
struct quire_page *quire_page_alloc(unsigned order, quire_gfp gfp, unsigned node);

/* Fill out[0..n) with order-0 pages; returns how many came (0..n), the rest untouched. */
size_t quire_page_alloc_bulk(size_t n, struct quire_page **out, quire_gfp gfp, unsigned node);

/* Take a reference; the page must be held already. */
void quire_page_get(struct quire_page *page);
/* Drop a reference; the last one frees the block.  Any context. */
void quire_page_put(struct quire_page *page);
/*
 * Blocks of order 1 and up whose owner keeps account of them: the last put of a block of a kind calls the
 * kind's destructor, in the context of that put, instead of freeing it.  The destructor then holds the
 * block, with refs 1 and kind 0, and keeps it or frees it.  quire_page_free() frees without asking.
 */
typedef void (*quire_page_destructor)(struct quire_page *head);
#define QUIRE_PAGE_KINDS 8u
/* kind: 1..7.  NULL: it has none any more; no block is of it.  INVALID: another kind.  Task context. */
enum quire_status quire_page_kind_set(unsigned kind, quire_page_destructor destructor);
/* The caller holds the block; kind 0: the last put frees it, as it does unless said otherwise. */
void quire_page_set_kind(struct quire_page *head, unsigned kind);

/*
 * The memory map of a block of order 9 and up, but the page of it that the head is in, is given back to
 * the port: 3 of 4 pages of 2 MiB, 2047 of 2048 of 1 GiB; and taken again.  While it is shared the
 * block cannot be split or freed, which is caught, nor called bad (BUSY); tails still lead to the head.
 *
 *   INVALID      share: order below 9          EXISTS, NOT_FOUND  it is shared, is not
 *   BUSY         share: a frame of it is bad   NO_MEMORY          nothing has changed
 *   UNSUPPORTED  another memory model than VMEMMAP, or a port without QPORT_VMEMMAP_SHARE
 *
 * The caller holds the block and alone works on its tails.  Task context.
 */
enum quire_status quire_page_map_share(struct quire_page *head);
enum quire_status quire_page_map_restore(struct quire_page *head);

/* Free a block that has refs 1, without the count.  Misuse (double, foreign, wrong order, tail,
 * still mapped) panics with values.  Any context. */
void quire_page_free(struct quire_page *page, unsigned order);
/* The same for order 0, of a frame that no cache holds: reclaimed, or written by a device.  It is among
 * the last that go out again. */
void quire_page_free_cold(struct quire_page *page);
/* Free n order-0 pages, each with refs 1 or already 0 (dropped by the caller). */
void quire_page_free_bulk(size_t n, struct quire_page **pages);
/* Make a block of order n into 2^n order-0 pages, each with its own reference and the head's flags
 * and owner; refs of the head must be 1. */
void quire_page_split(struct quire_page *page);

/* From exactly this zone of this node, or NULL; NULL also if gfp does not allow so high a zone. */
struct quire_page *quire_page_alloc_zone(enum quire_zone_type zone, unsigned order, quire_gfp gfp,
                                         unsigned node);

/*
 * The hardware says that the frame is bad: it is never handed out again, and no longer managed.
 *
 *   OK       a free frame is withheld: its flags are POISON and RESERVED.  One that is in use is marked
 *            POISON; its holder goes on, and when its block is freed the frame is withheld and the
 *            rest goes back.
 *   BUSY     another CPU has the free frame in its own list, or in its hands.  It is withheld when it
 *            comes from there to the zone or to an allocation; if that CPU was just handing it
 *            out, the mark may be lost.  Ask again, until the answer is another one.
 *   EXISTS   it is poisoned already.
 *   INVALID  no such frame, or it is reserved.
 *
 * Any context, beside whatever other CPUs do.  Whoever poisons a frame that he does not hold, in the
 * instant in which its holder frees it, may lose the mark: quire_page_flags() tells.
 */
enum quire_status quire_frame_poison(q_pfn pfn);
/*
 * The frame is still good, but will not be for long: who holds it is moved (quire_frame_set_mover()), and
 * it is withheld.  OK; EXISTS and INVALID as above; BUSY: it cannot be moved, or is in the list of
 * another CPU: nothing has changed.  Task context.
 */
enum quire_status quire_frame_soft_offline(q_pfn pfn);
/* The frame is good after all: it is free again, or its holder's mark is gone.  INVALID: it is not
 * poisoned; BUSY: it is on its way through the list of a CPU.  Any context. */
enum quire_status quire_frame_unpoison(q_pfn pfn);
/* Frames that are bad: withheld, and marked ones that somebody holds (HardwareCorrupted).  Any context. */
uint64_t quire_frame_poisoned_pages(void);

/*
 * Take whole pageblocks (2 MiB) out of the allocator, or give them back; all of the range or nothing.
 *
 *   OK       offline: no frame of it is managed, free, or handed out until it is on line again; its
 *            flags are RESERVED, and its content is the caller's.  online: all of it is free.
 *            Watermarks follow what is managed.
 *   BUSY     offline: something of it is in use, or bad, or in the list of another CPU (what is in
 *            those of this one is taken from there).  Both: another call is under way.
 *   INVALID  not aligned, no frames, not all of it managed; online: not all of it is off line.
 *
 * Beside allocations and frees on other CPUs.  A range that turns out to be BUSY may be missing for a
 * moment.  Task context; interrupts are off for one pageblock at a time.
 */
enum quire_status quire_frame_offline(q_pfn start, uint64_t frames);
enum quire_status quire_frame_online(q_pfn start, uint64_t frames);

/*
 * Whoever needs a very range of frames (a device, a balloon, memory that is to be switched off) has to
 * have it emptied first, and only the layer that gave frames to a user knows who points to them.  That
 * layer says how: a mover copies each movable frame of the range that it knows to a frame outside,
 * puts the new one in its place everywhere, and frees the old one; it returns how many it moved.
 * What cannot be moved stays as it is.  While it runs, no frame of the pageblocks of the range is handed
 * out, so that new frames come from elsewhere, and what is freed there stays there.
 *
 * Called in task context, with no lock of this layer held; it may sleep.  Calls for different ranges
 * may overlap in time.
 */
typedef uint64_t (*quire_mover)(q_pfn start, uint64_t frames);
/* NULL, as after quire_frame_init(): nothing can be moved.  Task context. */
void quire_frame_set_mover(quire_mover mover);
/*
 * A layer that reads frames which it does not hold, because it would notice afterwards that they were not
 * any more what it took them for, says how to wait until everybody has done so who began before: memory that is
 * removed is off line by then, so that nobody begins anew, and its frames, struct pages and direct map
 * are there until the settler returns.  Called in task context, with no lock of this layer held; may sleep.
 */
typedef void (*quire_settler)(void);
/* NULL, as after quire_frame_init(): nobody does so.  Task context. */
void quire_frame_set_settler(quire_settler settler);

/*
 * Take these very frames, of one zone; who is in the way is moved out (see above).  They come as single
 * pages, each with one reference and owner 0, or, with QUIRE_GFP_COMPOUND, as one block if their number is
 * a power of two and they are aligned to it.  gfp: of ZERO, COMPOUND, MOVABLE.  type: MOVABLE, of which
 * all ordinary pageblocks are, or CMA, for the owner of such an area (quire/cma.h).
 *
 *   BUSY     something stays: it cannot be moved, is in the list of another CPU, is bad, or somebody
 *            else takes frames of the same pageblocks.  Nothing has been taken.
 *   INVALID  not all of it is memory of one zone, or of that type; flags or shape.
 *
 * Task context; the mover may sleep.
 */
enum quire_status quire_alloc_contig_range(q_pfn start, uint64_t frames, quire_gfp gfp,
                                           enum quire_migrate_type type);
/* Any range of n frames, aligned to align frames (a power of two, 0: 1), from the zones and nodes that an
 * allocation with these flags looks at; NULL: none can be had.  gfp: as above, and THISNODE, DMA, DMA32,
 * HIGHMEM.  O(memory); task context. */
struct quire_page *quire_alloc_contig_pages(uint64_t n, uint64_t align, quire_gfp gfp,
                                            unsigned node);
/* Free single pages of a range, each with one reference; those of one block: quire_page_free().  Any
 * context. */
void quire_free_contig_range(q_pfn start, uint64_t frames);

/*
 * Memory that comes and goes while the machine runs.  The ranges where that may happen are in the boot
 * map (QUIRE_MEM_HOTPLUG): for each 2 MiB that may come 80 bytes are set aside then, in each zone
 * that they may belong to, and nothing else.  Whole pageblocks only: base and len are multiples of
 * 2 MiB.  The direct map of a range must be there before the range is added, and may go when it has
 * been removed.  No lock of the layer with the settler may be held for a removal (quire_frame_set_settler).
 *
 * quire_memory_add: memory has come to these addresses; all of it, or nothing, is free afterwards.
 *
 *   OK           managed, present and free frames have grown, watermarks and zone lists follow.
 *   NO_MEMORY    there is none for its struct pages.  Nothing has changed.
 *   BUSY         another call (this, remove, offline, online) is under way.
 *   EXISTS       something of it is there already.
 *   UNSUPPORTED  something of it was not announced in the boot map, or for another node.
 *   INVALID      not aligned, no bytes, no such node.
 *
 * quire_memory_remove: take added memory out of the allocator and forget it.  What is in use is moved
 * out, as far as the mover can (quire_frame_set_mover).
 *
 *   OK           the frames do not exist any more: quire_pfn_valid() is false, their struct pages may be
 *                gone.  Their content is nobody's.
 *   BUSY         something of it stays in use, or another call is under way: all of it is still there.
 *   NOT_FOUND    not all of it is there.
 *   UNSUPPORTED  something of it was there at boot, or never announced.
 *   INVALID      not aligned, or no bytes.
 *
 * Both beside allocations and frees on other CPUs.  Task context, may sleep; interrupts are off for one
 * pageblock at a time.
 */
enum quire_status quire_memory_add(q_pa base, uint64_t len, unsigned node);
enum quire_status quire_memory_remove(q_pa base, uint64_t len);

/* What added memory is used for: everything that its addresses allow, or only what can be moved, so
 * that it can be removed again (the default).  Counts for what is added from now on. */
enum quire_memory_use { QUIRE_ADD_MOVABLE, QUIRE_ADD_KERNEL };
void quire_memory_set_use(enum quire_memory_use use);

/*
 * Memory of a device, the zone DEVICE: its frames have struct pages, are valid, and are never handed out by
 * the allocator.  Whole pageblocks (base and len multiples of 2 MiB), where the allocator has no memory.
 *
 * A page is with its driver until he takes its first reference for somebody; then it is held, shared and
 * put like any other.  When the last reference goes, by quire_page_put(), quire_page_free() of order 0
 * or quire_page_free_bulk(), the driver is called in the context of that call; the page is his again,
 * and he may take it anew at once.
 *
 * Its struct pages are in ordinary memory, 0.8 % of the device's, or (map INSIDE) in the first
 * quire_device_map_bytes() of the device's own, as Linux's altmap: these frames are RESERVED, held for good, and
 * not for the driver; the direct map has to reach them, but in the model VMEMMAP.
 *
 * add:     OK; BUSY: memory is being added or removed elsewhere; EXISTS: something of it is known already,
 *          or announced for quire_memory_add(); NO_MEMORY: for the struct pages; TOO_MANY: 16 ranges there are;
 *          INVALID; UNSUPPORTED, with the reason on the log: the memory model has no struct pages there.
 *          Where it depends on what boot knew, QUIRE_MEM_DEVICE in the boot map announces a range:
 *
 *              model    in ordinary memory                           inside
 *              VMEMMAP  anywhere                                     if the port can (QPORT_VMEMMAP_PLACE)
 *              FLAT     between the first and last frame of boot     never
 *              NODES    between the first and last frame of a node   where no node has pages, below the last
 *                                                                    frame of boot
 *              SPARSE*  anywhere; in a section with memory of boot,  in sections where nothing else is, or
 *                       beside it only if announced                  may come
 *
 * remove:  OK: the frames are no more; BUSY: the same, or a page is held, or a call of released() is under
 *          way; NOT_FOUND: no range that was added so.
 * Task context.
 */
typedef void (*quire_device_released)(struct quire_page *page, void *context);
struct quire_device_memory {
    q_pa base;
    uint64_t len;
    unsigned node;
    quire_device_released released; /* or NULL */
    void *context;
    enum quire_device_map { QUIRE_DEVICE_MAP_MEMORY, QUIRE_DEVICE_MAP_INSIDE } map;
};
/* Of a device's memory, what its struct pages take. */
static inline uint64_t quire_device_map_bytes(uint64_t len)
{
    return len / QUIRE_PAGE_SIZE * sizeof(struct quire_page);
}
enum quire_status quire_device_memory_add(const struct quire_device_memory *d);
enum quire_status quire_device_memory_remove(q_pa base, uint64_t len);
/* The first reference of a page that is with its driver; NULL: it is held, or no device's.  Any context. */
struct quire_page *quire_device_page_take(q_pfn pfn);
/* Frames of devices on the node, or on all (QUIRE_NODE_ANY); those with struct pages count. */
uint64_t quire_device_pages(unsigned node);

struct quire_zone_stats {
    const char *name; /* "DMA32" */
    unsigned node;
    enum quire_zone_type type;
    q_pfn start, end;                          /* spanned */
    uint64_t present, managed;                 /* frames */
    uint64_t poisoned;                         /* withheld because they are bad */
    uint64_t free;                             /* in blocks, per-CPU lists not counted */
    uint64_t cma, free_cma;                    /* in CMA blocks: managed; of free */
    uint64_t isolated;                         /* free in isolated blocks; not in free */
    uint64_t cached;                           /* in per-CPU lists */
    uint64_t free_blocks[QUIRE_MAX_ORDER + 1]; /* maximal aligned free blocks by order */
    uint64_t wmark_min, wmark_low, wmark_high;
    uint64_t boost;          /* on top of the high mark, at this moment (quire/pressure.h) */
    uint64_t atomic_reserve; /* of free: set aside for ATOMIC requests of several frames */
    uint64_t allocs, frees, fails;
    uint64_t lock_acquisitions;
};
/* i-th zone, 0..; NOT_FOUND after the last.  A zone whose memory is still to come has nothing present.
 * O(pageblocks); task context. */
enum quire_status quire_zone_stats(unsigned i, struct quire_zone_stats *out);
/* The same by migrate type: maximal free blocks of each order, and pageblocks. */
struct quire_zone_types {
    uint64_t free_blocks[QUIRE_MIGRATE_TYPES][QUIRE_MAX_ORDER + 1];
    uint64_t blocks[QUIRE_MIGRATE_TYPES];
};
enum quire_status quire_zone_types(unsigned i, struct quire_zone_types *out);

/* How much of the zone's free memory is of no use to a request of the order: 0 none, 1000 all of it.
 * Lists of CPUs are left out. */
unsigned quire_unusable_permille(const struct quire_zone_stats *s, unsigned order);
/* Why a request of the order would fail: towards 0 for lack of memory, towards 1000 because what is
 * free is in pieces; -1000: it would not. */
int quire_fragmentation_permille(const struct quire_zone_stats *s, unsigned order);

/* Free frames of all zones, cached ones included: O(zones + CPUs).  Managed frames. */
uint64_t quire_free_pages(void);
uint64_t quire_managed_pages(void);

/*
 * Clear up to budget frames for requests to come: QUIRE_GFP_ZERO requests of order 0 get them first.  They
 * are free for everybody (counted as cached), 1 % of memory or 256 at most, and given back when memory
 * is short.  Returns how many were cleared; 0: enough, or memory is short.  For a CPU that has nothing else to
 * do; task context or a CPU's idle loop, interrupts on.
 */
uint64_t quire_frame_zero_idle(uint64_t budget);
struct quire_zero_stats {
    uint64_t target, free;  /* frames that there should be, that there are */
    uint64_t cleared, hits; /* ever cleared in advance; requests served from them */
};
void quire_frame_zero_stats(struct quire_zero_stats *out);

/* Give every cached frame of every CPU back to its block.  The other CPUs must be quiet: their lists
 * have no locks. */
void quire_frame_drain(void);
/* The same for the lists of this CPU.  Any context, an inter-processor interrupt too. */
void quire_frame_drain_local(void);
/* Ask all other CPUs to do that: each does at its next free, or when a list of it is empty, or when it
 * calls quire_frame_drain_local(), which a host may make it do.  Does not wait.  Any context. */
void quire_frame_drain_ask(void);
/* Now and then, say every second, on each CPU, and before it goes idle: lists that were not used since
 * the last call give half back and become smaller.  Any context. */
void quire_frame_age(void);

/* What occupies a pageblock, for pictures: counts of frames by kind sum to 512.  One that is off
 * line is 512 reserved frames: they are there, and not the allocator's. */
struct quire_block_info {
    q_pfn start;
    unsigned node;
    enum quire_zone_type zone;
    enum quire_migrate_type type;
    uint16_t free, cached, reserved, slab, table, kva, anon, file, huge, other, absent;
    uint16_t poisoned;  /* bad frames, withheld or still held */
    uint16_t anon_huge; /* of huge: anonymous */
};
/* The n-th pageblock from frame 0; NOT_FOUND at the end of the highest zone.  O(512), or O(1) if it is
 * wholly free or a hole. */
enum quire_status quire_block_info(uint64_t n, struct quire_block_info *out);

/* What the frames of a node, or of all (QUIRE_NODE_ANY), are used for.  O(frames in use).  Task context. */
struct quire_usage {
    uint64_t free, cached, reserved, slab, table, kva, anon, file, huge, anon_huge, other, poisoned;
};
void quire_usage(unsigned node, struct quire_usage *out);

/* The frame has a struct page that may be looked at.  Any context, also before quire_frame_init(). */
bool quire_pfn_valid(q_pfn pfn);
/* Exact flags of a valid frame, whatever state its pageblock is in; RESERVED for all others.  Any
 * context; a snapshot. */
uint32_t quire_page_flags(q_pfn pfn);

/* The frame as /proc/kpageflags and /proc/kpagecount of Linux tell it: KPF_* bits (Linux,
 * include/uapi/linux/kernel-page-flags.h), and how many entries of user spaces map it.  Any frame number;
 * a snapshot. */
uint64_t quire_kpageflags(q_pfn pfn);
uint64_t quire_kpagecount(q_pfn pfn);

/* Failure injection, a debugging feature: the n-th next allocation of this layer (and only it) fails
 * (n >= 1; each page of a bulk request counts); -1: off.  While armed the per-CPU lists are not used,
 * so that an unarmed fast path pays nothing.  Other CPUs are quiet. */
void quire_frame_fail_after(int64_t n);
/* The failure asked for has not happened yet. */
bool quire_frame_fail_armed(void);

/* Walk every structure of this layer: QUIRE_OK or CORRUPT with the first broken invariant on the
 * log.  Task context, allocator quiet. */
enum quire_status quire_frame_verify(void);

#endif
