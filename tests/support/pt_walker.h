/*
 * pt_walker.h - what an x86-64 CPU makes of a page table: an independent walk, written from the
 * Intel SDM volume 3A, chapter 4.5 to 4.7, and sharing nothing with src/pt.
 *
 * The modelled CPU: 4-level paging, 48-bit linear and 52-bit physical addresses, CR0.WP = 1,
 * EFER.NXE = 1, SMEP and SMAP off.  Accessed and dirty are not set by the walk.
 */
#ifndef PT_WALKER_H
#define PT_WALKER_H

#include <stdbool.h>
#include <stdint.h>

#include <quire_port.h>

enum walk_fault {
    WALK_OK,
    WALK_GP,         /* not canonical: no page fault, a general-protection exception */
    WALK_ABSENT,     /* error code P = 0 */
    WALK_PROTECTION, /* P = 1 */
    WALK_RESERVED    /* RSVD = 1 */
};

struct walk {
    uint64_t pa;        /* of the byte asked for */
    unsigned page_size; /* log2 */
    unsigned loads;     /* paging-structure entries read */
    unsigned pat;       /* PAT index: PAT, PCD, PWT */
    bool global, accessed, dirty;
};

struct walk_access {
    bool user, write, fetch;
};

static inline uint64_t walk_load(uint64_t pa)
{
    return *(volatile uint64_t *)(QPORT_DIRECT_BASE + pa);
}

static inline enum walk_fault pt_walk(uint64_t cr3, uint64_t la, struct walk_access a,
                                      struct walk *w)
{
    uint64_t top = la >> 47, table = cr3 & 0x000ffffffffff000u;
    bool writable = true, user = true, nx = false;

    *w = (struct walk){0};
    if (top != 0 && top != 0x1ffff)
        return WALK_GP;
    for (int shift = 39;; shift -= 9) { /* PML4E, PDPTE, PDE, PTE */
        uint64_t e = walk_load(table + (la >> shift & 511) * 8);
        bool leaf = shift == 12 || e & 0x80;

        w->loads++;
        if (!(e & 1))
            return WALK_ABSENT;
        if (shift == 39 && e & 0x80)
            return WALK_RESERVED; /* table 4-15: PS must be 0 */
        writable &= e >> 1 & 1;
        user &= e >> 2 & 1;
        nx |= e >> 63;
        if (!leaf) {
            table = e & 0x000ffffffffff000u;
            continue;
        }
        /* tables 4-16 and 4-18: address bits below the page, above the PAT bit, are reserved */
        if (shift > 12 && e & ((1ull << shift) - 1) & ~0x1fffull)
            return WALK_RESERVED;
        w->page_size = (unsigned)shift;
        w->pa = (e & 0x000ffffffffff000u & ~((1ull << shift) - 1)) | (la & ((1ull << shift) - 1));
        w->pat =
            (unsigned)((e >> (shift == 12 ? 7 : 12) & 1) << 2 | (e >> 4 & 1) << 1 | (e >> 3 & 1));
        w->global = e >> 8 & 1;
        w->accessed = e >> 5 & 1;
        w->dirty = e >> 6 & 1;
        break;
    }
    if ((a.user && !user) || (a.write && !writable) || (a.fetch && nx))
        return WALK_PROTECTION;
    return WALK_OK;
}

#endif
