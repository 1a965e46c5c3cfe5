/*
 * frame/hotplug.c - memory that comes and goes while the machine runs.
 *
 * Purpose.  Whole pageblocks that were not there at boot become memory of the allocator, and cease to
 * exist again, while other CPUs allocate and free.
 *
 * Model.  The boot map says where memory may come (QUIRE_MEM_HOTPLUG).  Zones span these ranges, and
 * have a descriptor and a bitmap, 80 bytes, for each of their pageblocks; the state of one that is
 * not there is QI_BLOCK_ABSENT, of which nothing else is kept: no struct pages, no list, and to the
 * buddy rule it is a neighbour that is not free.
 *
 *      absent --populate--> (absent, struct pages of zeros) --give--> free
 *      free or in use --take: isolate, move out--> off line --settle, forget--> absent
 *
 * What can fail comes first: struct pages for all of a range, and all of its blocks off line.  The
 * struct pages of a block that comes are zeros, as at boot, so that nothing is written to them until
 * the block is used.  What becomes of struct pages that were forgotten is the memory model's business
 * (map.h).
 *
 * Concurrency.  One call at a time changes which blocks are there, or on line: the flag of section.c.
 * A block appears, and disappears, under its zone's lock.  Who holds a frame, or has found one free
 * under the lock, knows that its block stays, for such a block cannot go off line.  Whoever asks about
 * frames that he does not hold announces it (qi_look_begin(), a word of each CPU, interrupts off) and
 * only then reads the state of the block; who removes writes the state, and then waits until no CPU
 * looks.  One of the two sees the other (a full fence on either side), so nobody reads struct pages that
 * are gone.  Who reads the frames themselves, and may still do so when they are free, is waited for between off
 * line and absent (quire_frame_set_settler).  Zone lists, marks and limits of stacks are read without a lock and may be old or
 * new: a zone that comes into a list is never missing there, nor in front of others that were (zonelist.c).
 *
 * Cost.  Adding a block is one lock, a few words, and what the port needs for 16 KiB of zeros.
 *
 * Rejected.  Zones whose descriptors grow when memory comes that nobody announced: they are read
 * without locks on every free of a block.  A reference on each section for those who look: two atomics
 * on a shared line, where a word of the CPU's own does.  Struct pages inside the memory that they
 * describe: no block of 2 MiB would ever be whole.
 *
 * Sources.  Linux, mm/memory_hotplug.c; VIRTIO 1.2, 5.15, for who asks for it.
 */
#include "map.h"

static quire_settler settler;

void quire_frame_set_settler(quire_settler s) { qi_store_release(&settler, s); }

struct qi_announced *qi_announced;
uint32_t qi_nannounced;

static enum quire_memory_use use; /* of what is added from now on */

void quire_memory_set_use(enum quire_memory_use u) { qi_store_relaxed(&use, u); }

/* ---- What is where ---- */

struct range {
    uint64_t start, end; /* frames */
};

static enum quire_status range_of(q_pa base, uint64_t len, struct range *out)
{
    uint64_t last;

    if (!len || (base.v | len) % QUIRE_HUGE_SIZE || qi_add_overflows(base.v, len - 1, &last))
        return QUIRE_INVALID;
    out->start = base.v / QUIRE_PAGE_SIZE;
    out->end = out->start + len / QUIRE_PAGE_SIZE;
    return QUIRE_OK;
}

/* All of it was announced, for this node (QUIRE_NODE_ANY: for whichever). */
static bool announced(const struct range *r, unsigned node)
{
    uint64_t at = r->start;

    for (uint32_t i = 0; i < qi_nannounced; i++) { /* they rise */
        const struct qi_announced *a = &qi_announced[i];

        if (a->start <= at && at < a->end &&
            (node == QUIRE_NODE_ANY || a->node == node || a->node == QUIRE_NODE_ANY))
            at = a->end;
    }
    return at >= r->end;
}

/* The zone that has the block; NULL: it is absent.  No block comes or goes meanwhile. */
static struct qi_zone *zone_with(uint64_t pfn, struct qi_block **block)
{
    *block = NULL;
    for (unsigned i = 0; i < qi_nzones; i++) {
        struct qi_zone *z = &qi_zones[i];

        if (pfn < qi_block_pfn(z, 0) || pfn >= qi_block_pfn(z, z->nblocks))
            continue;
        *block = &z->blocks[qi_block_of(z, pfn)];
        if (qi_load_relaxed(&(*block)->state) != QI_BLOCK_ABSENT)
            return z;
    }
    return NULL;
}

/* How many blocks of the range are there. */
static uint64_t present(const struct range *r)
{
    struct qi_block *b;
    uint64_t n = 0;

    for (uint64_t pfn = r->start; pfn < r->end; pfn += QI_BLOCK_FRAMES)
        n += zone_with(pfn, &b) != NULL;
    return n;
}

/* The zone that a block will be of if it comes. */
static struct qi_zone *zone_for(enum quire_memory_use u, unsigned node, uint64_t pfn)
{
    uint64_t border;

    if (u == QUIRE_ADD_MOVABLE || qi_layout_movable(node))
        return qi_zone_by(node, QUIRE_ZONE_MOVABLE);
    return qi_zone_by(node, qi_layout_address(pfn, &border));
}

/* ---- Struct pages ---- */

/* Struct pages of zeros for the range, each with the zone that it will be of. */
static enum quire_status make_pages(const struct range *r, enum quire_memory_use u, unsigned node)
{
    enum quire_status s = qi_map_add(r->start, r->end, node);

    if (s)
        return s;
    for (uint64_t pfn = r->start; !s && pfn < r->end; pfn += QI_BLOCK_FRAMES)
        s = qi_map_claim(zone_for(u, node, pfn), pfn, pfn + QI_BLOCK_FRAMES);
    if (s)
        qi_map_forget(r->start, r->end);
    return s;
}

/* ---- Coming ---- */

/* The block becomes free memory of the zone. */
static void arrive(struct qi_zone *z, uint64_t pfn)
{
    uint32_t i = qi_block_of(z, pfn);
    struct qi_block *b = &z->blocks[i];
    unsigned long irq = qport_irq_save();

    qi_zone_lock(z);
    qi_store_relaxed(&b->managed, (uint16_t)QI_BLOCK_FRAMES);
    qi_store_relaxed(&b->pages, (uint8_t)QI_PAGES_UNTOUCHED);
    qi_store_relaxed(&b->type, (uint8_t)QUIRE_MOVABLE);
    b->order = QI_BLOCK_ORDER;
    qi_block_set(b, QI_BLOCK_USED); /* for a moment: given like an allocation */
    qi_store_relaxed(&z->present, z->present + QI_BLOCK_FRAMES);
    qi_store_relaxed(&z->managed, z->managed + QI_BLOCK_FRAMES);
    qi_zone_give(z, pfn, QI_BLOCK_ORDER);
    qi_zone_unlock(z);
    qport_irq_restore(irq);
}

/* What zones manage has changed. */
static void resized(void)
{
    qi_frame_watermarks();
    qi_zonelists_update();
    qi_frame_stacks_update();
}

static enum quire_status add(const struct range *r, unsigned node)
{
    enum quire_memory_use u = qi_load_relaxed(&use);
    enum quire_status s;

    if (present(r))
        return QUIRE_EXISTS;
    if (!announced(r, node))
        return QUIRE_UNSUPPORTED;
    s = make_pages(r, u, node);
    if (s)
        return s;
    for (uint64_t pfn = r->start; pfn < r->end; pfn += QI_BLOCK_FRAMES)
        arrive(zone_for(u, node, pfn), pfn);
    resized();
    return QUIRE_OK;
}

enum quire_status quire_memory_add(q_pa base, uint64_t len, unsigned node)
{
    enum quire_status s;
    struct range r;

    s = range_of(base, len, &r);
    if (s || node >= qi_nnodes)
        return QUIRE_INVALID;
    if (!qi_blocks_begin())
        return QUIRE_BUSY;
    s = add(&r, node);
    qi_blocks_end();
    return s;
}

/* ---- Going ---- */

/* An offline block that stays so if the removal fails has this order, others 0. */
#define WAS_OFFLINE 1

static bool offline(const struct qi_block *b)
{
    return qi_load_relaxed(&b->state) == QI_BLOCK_OFFLINE;
}

static void mark_offline(const struct range *r, uint8_t order)
{
    struct qi_block *b;

    for (uint64_t pfn = r->start; pfn < r->end; pfn += QI_BLOCK_FRAMES)
        if (zone_with(pfn, &b) && offline(b))
            b->order = order;
}

/* From pfn on, where the first block begins that is off line, or (false) is not; at most end. */
static uint64_t skip(uint64_t pfn, uint64_t end, bool until_offline)
{
    struct qi_block *b;

    while (pfn < end && zone_with(pfn, &b) && offline(b) != until_offline)
        pfn += QI_BLOCK_FRAMES;
    return pfn;
}

/* What this removal took off line comes back. */
static void stay(const struct range *r)
{
    struct qi_block *b;

    for (uint64_t pfn = r->start; pfn < r->end; pfn += QI_BLOCK_FRAMES)
        if (zone_with(pfn, &b) && offline(b) && b->order != WAS_OFFLINE)
            qi_block_give(pfn);
}

/* All blocks of the range off line, or as before.  Runs are emptied as a whole, or what is moved out of one
 * block might move into the next. */
static enum quire_status leave(const struct range *r)
{
    enum quire_status s = QUIRE_OK;
    uint64_t from = r->start, to;
    struct qi_block *b;

    mark_offline(r, WAS_OFFLINE);
    while (!s && (from = skip(from, r->end, false)) < r->end) {
        to = skip(from, r->end, true);
        s = qi_blocks_take(Q_PFN(from), to - from);
        for (uint64_t pfn = from; !s && pfn < to; pfn += QI_BLOCK_FRAMES)
            if (zone_with(pfn, &b))
                b->order = 0;
        from = to;
    }
    if (s)
        stay(r);
    return s;
}

/* An offline block is no more; that CPUs may still look at its struct pages is the caller's care. */
static void vanish(uint64_t pfn)
{
    unsigned long irq = qport_irq_save();
    struct qi_block *b;
    struct qi_zone *z = zone_with(pfn, &b);

    qi_zone_lock(z);
    qi_block_set(b, QI_BLOCK_ABSENT);
    qi_store_relaxed(&z->present, z->present - QI_BLOCK_FRAMES);
    qi_zone_unlock(z);
    qport_irq_restore(irq);
}

/* Until every CPU that might have seen a block that is absent now has looked away. */
void qi_wait_for_lookers(void)
{
    qi_fence_full();
    for (unsigned c = 0; c < qi_ncpus; c++)
        while (qi_load_acquire(&qi_frame_cpus[c].looking))
            qport_relax();
}

/* Nobody reads these frames any more who had found them before they went off line. */
static void settle(void)
{
    quire_settler f = qi_load_acquire(&settler);

    if (f)
        f();
}

static enum quire_status take_away(const struct range *r)
{
    enum quire_status s;

    if (!announced(r, QUIRE_NODE_ANY))
        return QUIRE_UNSUPPORTED;
    if (present(r) != (r->end - r->start) / QI_BLOCK_FRAMES)
        return QUIRE_NOT_FOUND;
    s = leave(r);
    if (s)
        return s;
    settle();
    for (uint64_t pfn = r->start; pfn < r->end; pfn += QI_BLOCK_FRAMES)
        vanish(pfn);
    qi_wait_for_lookers();
    qi_map_forget(r->start, r->end);
    resized();
    return QUIRE_OK;
}

enum quire_status quire_memory_remove(q_pa base, uint64_t len)
{
    enum quire_status s;
    struct range r;

    if (range_of(base, len, &r))
        return QUIRE_INVALID;
    if (!qi_blocks_begin())
        return QUIRE_BUSY;
    s = take_away(&r);
    qi_blocks_end();
    return s;
}
