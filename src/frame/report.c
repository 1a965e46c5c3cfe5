/*
 * frame/report.c - what the allocator says of itself: counts, pageblocks, /proc texts.
 */
#include <quire/stats.h>
#include <quire/format.h>
#include "zone.h"

/* Blocks walked under one taking of the lock. */
#define WALK_STEP 64u

uint64_t quire_managed_pages(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        n += qi_load_relaxed(&qi_zones[i].managed);
    return n;
}

static uint64_t cached_pages(const struct qi_zone *z)
{
    uint64_t n = 0;

    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned o = 0; o < QI_STACK_ORDERS; o++)
            for (unsigned t = 0; t < QI_STACK_TYPES; t++) {
                struct qi_stack *s = qi_stack_of(&qi_frame_cpus[c], z->place, o, t);

                n += (uint64_t)qi_load_relaxed(&s->count) << o;
            }
    return n;
}

uint64_t quire_free_pages(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < qi_nzones; i++)
        n += qi_load_relaxed(&qi_zones[i].free) + cached_pages(&qi_zones[i]);
    return n;
}

/* Maximal free blocks of each order, from the bitmaps and the heads of whole runs. */
static void census(struct qi_zone *z, uint64_t *count)
{
    for (uint32_t i = 0; i < z->nblocks;) {
        unsigned long irq = qport_irq_save();
        uint32_t end = QI_MIN(z->nblocks, i + WALK_STEP);

        qi_zone_lock(z);
        for (; i < end; i++) {
            const struct qi_block *b = &z->blocks[i];

            if (b->state == QI_BLOCK_WHOLE)
                count[b->order]++;
            else if (b->state == QI_BLOCK_PART && b->free)
                qi_bits_census(z->bits[i], count);
        }
        qi_zone_unlock(z);
        qport_irq_restore(irq);
    }
}

/* Adds what went through the stacks, whose counters may change meanwhile. */
static void count_traffic(const struct qi_zone *z, struct quire_zone_stats *out)
{
    for (unsigned c = 0; c < qi_ncpus; c++)
        for (unsigned o = 0; o < QI_STACK_ORDERS; o++)
            for (unsigned t = 0; t < QI_STACK_TYPES; t++) {
                const struct qi_stack *s = qi_stack_of(&qi_frame_cpus[c], z->place, o, t);
                uint64_t taken = s->allocs << o, now = (uint64_t)s->count << o;

                /* what it holds came from blocks or was freed by callers */
                out->allocs += taken;
                out->frees += now + taken - s->net;
            }
}

enum quire_status quire_zone_stats(unsigned i, struct quire_zone_stats *out)
{
    struct qi_zone *z = &qi_zones[i];
    unsigned long irq;

    if (i >= qi_nzones)
        return QUIRE_NOT_FOUND;
    *out = (struct quire_zone_stats){
        .name = qi_zone_names[z->type],
        .node = z->node,
        .type = (enum quire_zone_type)z->type,
        .start = Q_PFN(z->start),
        .end = Q_PFN(z->end),
        .present = z->present,
        .cached = cached_pages(z),
        .fails = qi_load_relaxed(&z->fails),
    };
    irq = qport_irq_save();
    qi_zone_lock(z);
    out->managed = z->managed;
    out->poisoned = z->poisoned;
    out->free = z->free;
    out->wmark_min = z->wmark[0];
    out->wmark_low = z->wmark[1];
    out->wmark_high = z->wmark[2];
    out->allocs = z->allocs;
    out->frees = z->frees;
    out->lock_acquisitions = z->locked;
    qi_zone_unlock(z);
    qport_irq_restore(irq);
    count_traffic(z, out);
    census(z, out->free_blocks);
    return QUIRE_OK;
}

/* ---- One frame, one pageblock ---- */

struct qi_zone *qi_zone_of_frame(uint64_t pfn, struct qi_block **block)
{
    /* Spans of nodes may interleave, so the span alone does not say whose the frame is; where two
     * zones share a pageblock the struct page does. */
    for (unsigned i = 0; i < qi_nzones; i++) {
        struct qi_zone *z = &qi_zones[i];
        struct qi_block *b;

        if (pfn < qi_block_pfn(z, 0) || pfn >= qi_block_pfn(z, z->nblocks))
            continue;
        b = &z->blocks[qi_block_of(z, pfn)];
        if (b->state == QI_BLOCK_ABSENT)
            continue;
        *block = b;
        if (b->managed == QI_BLOCK_FRAMES ||
            qi_zone_of(qi_load_relaxed(&quire_page_of_pfn(Q_PFN(pfn))->flags)) == z)
            return z;
    }
    return NULL;
}

bool quire_pfn_valid(q_pfn pfn)
{
    struct qi_block *b;

    return qi_zone_of_frame(pfn.v, &b) != NULL;
}

/* The head of a page with these flags; itself unless it is a tail, for the index of others is their
 * user's.  One that may just become something else has an index that is not to be believed. */
static const struct quire_page *head_now(const struct quire_page *p, uint32_t flags)
{
    uint32_t index = flags & QUIRE_PG_TAIL ? qi_load_relaxed(&p->index) : 0;

    return index >> QUIRE_MAX_ORDER ? p : p - index;
}

uint32_t quire_page_flags(q_pfn pfn)
{
    struct qi_block *b;
    struct qi_zone *z = qi_zone_of_frame(pfn.v, &b);
    const struct quire_page *p = quire_page_of_pfn(pfn), *head;
    uint32_t flags;
    uint64_t first;
    unsigned form;

    if (!z)
        return QUIRE_PG_RESERVED;
    flags = qi_load_relaxed(&p->flags);
    if (b->managed == QI_BLOCK_FRAMES && b->pages == QI_PAGES_UNTOUCHED)
        return z->place | QUIRE_PG_FREE;
    if (!(flags & (QUIRE_PG_HEAD | QUIRE_PG_TAIL)))
        return flags;
    head = head_now(p, flags);
    /* a free block that kept its form is made of free frames */
    if (qi_load_relaxed(&head->flags) & QUIRE_PG_FREE)
        return z->place | QUIRE_PG_FREE;
    /* so is what is left of one whose head is something else by now */
    first = quire_pfn_of_page(head).v;
    form = qi_load_relaxed(&b->pages);
    if (form > QI_BLOCK_ORDER && first >= qi_block_pfn(z, 0) &&
        qi_load_relaxed(&z->blocks[qi_block_of(z, first)].pages) != form)
        return z->place | QUIRE_PG_FREE;
    return flags;
}

static void classify(struct quire_block_info *out, const struct qi_zone *z,
                     const struct qi_block *b, uint64_t pfn)
{
    uint32_t raw = qi_load_relaxed(&quire_page_of_pfn(Q_PFN(pfn))->flags);
    uint32_t flags = quire_page_flags(Q_PFN(pfn));
    uint32_t i = qi_block_of(z, pfn);
    /* a tail is what its head is */
    uint32_t what = raw & QUIRE_PG_TAIL
                        ? qi_load_relaxed(&head_now(quire_page_of_pfn(Q_PFN(pfn)), raw)->flags)
                        : flags;

    if (flags & QUIRE_PG_POISON)
        out->poisoned++;
    else if (flags & QUIRE_PG_RESERVED)
        out->reserved++;
    else if (flags & QUIRE_PG_FREE && b->state == QI_BLOCK_PART &&
             !(z->bits[i][pfn / 64 % QI_BLOCK_WORDS] >> pfn % 64 & 1))
        out->cached++;
    else if (flags & QUIRE_PG_FREE)
        out->free++;
    else if (what & QUIRE_PG_SLAB)
        out->slab++;
    else if (what & QUIRE_PG_TABLE)
        out->table++;
    else if (what & QUIRE_PG_KVA)
        out->kva++;
    else if (what & QUIRE_PG_HEAD && (what >> QUIRE_PG_ORDER_SHIFT & 31) >= QI_BLOCK_ORDER)
        out->huge++;
    else if (what & QUIRE_PG_ANON)
        out->anon++;
    else if (what & QUIRE_PG_OBJECT)
        out->file++;
    else
        out->other++;
}

/* Frame pfn of a pageblock that some zone has frames in: is it one of any zone? */
static bool frame_present(uint64_t pfn, const struct qi_zone **z, const struct qi_block **block)
{
    struct qi_block *b;
    const struct quire_page *p = quire_page_of_pfn(Q_PFN(pfn));

    *z = qi_zone_of_frame(pfn, &b);
    *block = b;
    if (!*z)
        return false;
    /* a hole is RESERVED without a holder */
    return qi_load_relaxed(&p->refs) || !(quire_page_flags_now(p) & QUIRE_PG_RESERVED);
}

enum quire_status quire_block_info(uint64_t n, struct quire_block_info *out)
{
    bool named = false;

    if (n >= (qi_top_frame + QI_BLOCK_FRAMES - 1) / QI_BLOCK_FRAMES)
        return QUIRE_NOT_FOUND;
    *out = (struct quire_block_info){.start = Q_PFN(n * QI_BLOCK_FRAMES)};
    for (uint64_t pfn = out->start.v; pfn < out->start.v + QI_BLOCK_FRAMES; pfn++) {
        const struct qi_zone *z;
        const struct qi_block *b;

        if (!frame_present(pfn, &z, &b)) {
            out->absent++;
            continue;
        }
        if (!named) {
            out->node = z->node;
            out->zone = (enum quire_zone_type)z->type;
            out->type = (enum quire_migrate_type)qi_load_relaxed(&b->type);
            named = true;
        }
        classify(out, z, b, pfn);
    }
    return QUIRE_OK;
}

/* ---- /proc/buddyinfo and /proc/zoneinfo: proc(5) and Linux, mm/vmstat.c, for the format ---- */

struct text {
    char *buf;
    size_t cap, len;
};

static void say(struct text *t, const char *fmt, ...) QUIRE_PRINTF(2, 3);
static void say(struct text *t, const char *fmt, ...)
{
    bool room = t->len < t->cap;
    va_list ap;

    va_start(ap, fmt);
    t->len += quire_vsnprintf(room ? t->buf + t->len : NULL, room ? t->cap - t->len : 0, fmt, ap);
    va_end(ap);
}

size_t quire_buddyinfo(char *buf, size_t cap)
{
    struct text t = {buf, cap, 0};
    struct quire_zone_stats s;

    if (cap)
        buf[0] = 0;
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        say(&t, "Node %u, zone %8s ", s.node, s.name);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
            say(&t, "%6lu ", (unsigned long)s.free_blocks[o]);
        say(&t, "\n");
    }
    return t.len;
}

static void say_stacks(struct text *t, const struct qi_zone *z)
{
    say(t, "\n  pagesets");
    for (unsigned c = 0; c < qi_ncpus; c++) {
        uint64_t count = 0, high = 0;

        for (unsigned o = 0; o < QI_STACK_ORDERS; o++)
            for (unsigned k = 0; k < QI_STACK_TYPES; k++) {
                const struct qi_stack *s = qi_stack_of(&qi_frame_cpus[c], z->place, o, k);

                count += (uint64_t)qi_load_relaxed(&s->count) << o;
                high += (uint64_t)s->want << o;
            }
        say(t,
            "\n    cpu: %u\n              count: %lu\n              high:  %lu\n"
            "              batch: %u",
            c, (unsigned long)count, (unsigned long)high,
            (qi_stack_of(&qi_frame_cpus[c], z->place, 0, 0)->want + 1u) / 2);
    }
}

size_t quire_zoneinfo(char *buf, size_t cap)
{
    struct text t = {buf, cap, 0};
    struct quire_zone_stats s;

    if (cap)
        buf[0] = 0;
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        const struct qi_zone *z = &qi_zones[i];
        unsigned long kept[QI_CLASSES];

        say(&t, "Node %u, zone %8s", s.node, s.name);
        say(&t,
            "\n  pages free     %lu\n        boost    0\n        min      %lu\n"
            "        low      %lu\n        high     %lu\n        spanned  %lu\n"
            "        present  %lu\n        managed  %lu\n        cma      0",
            (unsigned long)s.free, (unsigned long)s.wmark_min, (unsigned long)s.wmark_low,
            (unsigned long)s.wmark_high, (unsigned long)(s.end.v - s.start.v),
            (unsigned long)s.present, (unsigned long)s.managed);
        for (unsigned k = 0; k < QI_CLASSES; k++)
            kept[k] = (unsigned long)qi_load_relaxed(&z->reserve[k]);
        say(&t, "\n        protection: (%lu, %lu, %lu, %lu, %lu)", kept[0], kept[1], kept[2],
            kept[3], kept[4]);
        say(&t, "\n      nr_free_pages %lu", (unsigned long)s.free);
        say_stacks(&t, z);
        say(&t, "\n  node_unreclaimable:  0\n  start_pfn:           %lu\n",
            (unsigned long)s.start.v);
    }
    return t.len;
}
