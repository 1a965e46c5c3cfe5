/*
 * views.c - what the library tells of itself, looked at while others change it.
 *
 * The numbers are of no one moment, so only what holds at every moment can be demanded of them.
 */
#include <quire/stats.h>

#include <string.h>

#include "world.h"

static void look_at_texts(void)
{
    char text[65536];
    static size_t (*const views[])(char *, size_t) = {
        quire_buddyinfo,        quire_zoneinfo,      quire_slabinfo, quire_pagetypeinfo,
        quire_extfrag_unusable, quire_extfrag_index, quire_blockinfo};

    for (unsigned i = 0; i < sizeof views / sizeof views[0]; i++) {
        size_t n = views[i](text, sizeof text);

        if (!n || n >= sizeof text || strlen(text) != n)
            sim_fail("content", "view %u has %zu characters, and says %zu", i, strlen(text), n);
    }
}

static void look_at_zones(void)
{
    struct quire_zone_stats z;
    uint64_t managed = 0, epoch = world.move_epoch;
    bool still = !world.moves;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++) {
        managed += z.managed;
        if (z.free > z.managed || z.managed > z.present || z.present > z.end.v - z.start.v ||
            z.wmark_min > z.wmark_low || z.wmark_low > z.wmark_high)
            sim_fail("content", "zone %s of node %u: free %llu managed %llu present %llu", z.name,
                     z.node, (unsigned long long)z.free, (unsigned long long)z.managed,
                     (unsigned long long)z.present);
    }
    /* frames may go bad meanwhile, and sections go and come */
    if (still && (managed < quire_managed_pages() || quire_free_pages() > managed) &&
        world.move_epoch == epoch)
        sim_fail("content", "zones manage %llu frames of %llu", (unsigned long long)managed,
                 (unsigned long long)quire_managed_pages());
}

static void look_at_blocks(void)
{
    struct quire_block_info b;

    for (uint64_t i = 0; quire_block_info(i, &b) == QUIRE_OK; i++)
        if (b.free + b.cached + b.reserved + b.slab + b.table + b.kva + b.anon + b.file + b.huge +
                b.other + b.absent + b.poisoned !=
            512)
            sim_fail("content", "block %llu: its frames are not 512", (unsigned long long)i);
}

/* A frame is of one kind at a time, whoever changes it meanwhile (the bits: quire_kpageflags()). */
static void look_at_frames(void)
{
    struct quire_block_info b;

    for (uint64_t i = 0; quire_block_info(i, &b) == QUIRE_OK; i++)
        for (uint64_t pfn = b.start.v; pfn < b.start.v + 512; pfn += 37) {
            uint64_t flags = quire_kpageflags(Q_PFN(pfn)), kinds = 1ull << 7 | 1ull << 10 |
                                                                   1ull << 12 | 1ull << 20 |
                                                                   1ull << 26 | 1ull << 32;

            if (__builtin_popcountll(flags & kinds) > 1)
                sim_fail("content", "frame %llu is of several kinds: %#llx",
                         (unsigned long long)pfn, (unsigned long long)flags);
            quire_kpagecount(Q_PFN(pfn));
        }
}

void look_at_views(void)
{
    struct quire_cache_stats c;
    struct quire_kva_stats k;
    struct quire_tlb_stats t;
    uint64_t files, shared;

    sim_doing("looking at the texts");
    look_at_texts();
    sim_doing("looking at the zones");
    look_at_zones();
    sim_doing("looking at the blocks");
    look_at_blocks();
    sim_doing("looking at the frames");
    look_at_frames();
    for (unsigned i = 0; quire_cache_stats(i, &c) == QUIRE_OK; i++)
        if (c.slot_size < c.object_size || !c.objects_per_slab)
            sim_fail("content", "cache %s: slots of %zu for objects of %zu", c.name, c.slot_size,
                     c.object_size);
    quire_kva_stats(&k);
    quire_tlb_stats(&t);
    quire_object_totals(&files, &shared);
    if (files + shared > quire_managed_pages())
        sim_fail("content", "%llu pages of files and %llu of shared memory, more than there are",
                 (unsigned long long)files, (unsigned long long)shared);
    for (unsigned e = 0; e < QUIRE_EVENT_COUNT; e++)
        quire_event_count(e);
}
