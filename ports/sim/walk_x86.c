/*
 * walk_x86.c - the x86-64 page walk, 4 and 5 levels.
 *
 * Source: Intel SDM volume 3A, chapter 4: 4.5 and its tables of the entries (CR3, PML5E, PML4E,
 * PDPTE, PDE, PTE), 4.6 (access rights), 4.7 (what is reserved), 4.8 (accessed and dirty), 4.9
 * (memory types).  Protection keys, shadow stacks and supervisor restrictions are off.
 */
#include "walk.h"

#define PRESENT  (1ull << 0)
#define WRITABLE (1ull << 1)
#define USER     (1ull << 2)
#define PWT      (1ull << 3)
#define PCD      (1ull << 4)
#define ACCESSED (1ull << 5)
#define DIRTY    (1ull << 6)
#define PS       (1ull << 7) /* in a leaf of level 0: PAT */
#define GLOBAL   (1ull << 8)
#define PAT_HUGE (1ull << 12)
#define XD       (1ull << 63)
#define ADDRESS  0x000ffffffffff000ull

/* inherited: what an entry above has taken away */
enum { NO_WRITE = 1, NO_USER = 2, NO_EXECUTE = 4 };

static uint64_t low_bits(unsigned n) { return ((uint64_t)1 << n) - 1; }

static bool start(const struct walk_machine *m, struct walk *w)
{
    unsigned bits = m->format == WALK_X86_5 ? 57 : 48;
    uint64_t top = w->va >> (bits - 1);

    w->table = w->root & ADDRESS; /* bits 0..11 of CR3: PCID, or PWT and PCD */
    return top == 0 || top == low_bits(64 - (bits - 1));
}

/* Bits that must be clear in a present entry (4.5, the tables). */
static uint64_t reserved(const struct walk_features *f, unsigned level, bool huge)
{
    uint64_t bits = low_bits(52) & ~low_bits(f->pa_bits);

    if (!f->nx)
        bits |= XD;
    if (level >= 3 || (level == 2 && !f->gbpages))
        bits |= PS;
    else if (huge) /* between the PAT bit and the address */
        bits |= low_bits(walk_shift(level)) & ~low_bits(13);
    return bits;
}

static unsigned permissions(const struct walk_features *f, uint32_t taken)
{
    bool user = !(taken & NO_USER), write = !(taken & NO_WRITE), execute = !(taken & NO_EXECUTE);
    unsigned perms = 0;

    if (!(user && f->smap)) {
        perms |= WALK_PERM(MMU_READ, false);
        if (write || !f->wp)
            perms |= WALK_PERM(MMU_WRITE, false);
    }
    if (execute && !(user && f->smep))
        perms |= WALK_PERM(MMU_FETCH, false);
    if (user) {
        perms |= WALK_PERM(MMU_READ, true);
        perms |= write ? WALK_PERM(MMU_WRITE, true) : 0;
        perms |= execute ? WALK_PERM(MMU_FETCH, true) : 0;
    }
    return perms;
}

static enum walk_step decode(const struct walk_machine *m, struct walk *w, uint64_t e)
{
    bool huge = w->level && e & PS;
    uint64_t pat = w->level ? PAT_HUGE : PS;

    w->result = MMU_ABSENT;
    if (!(e & PRESENT))
        return WALK_FAULT;
    w->result = MMU_RESERVED;
    if (e & reserved(&m->features, w->level, huge))
        return WALK_FAULT;
    w->inherited |=
        (e & WRITABLE ? 0 : NO_WRITE) | (e & USER ? 0 : NO_USER) | (e & XD ? NO_EXECUTE : 0);
    if (w->level && !huge) {
        w->table = e & ADDRESS;
        return WALK_TABLE;
    }
    w->pa = e & ADDRESS & ~low_bits(walk_shift(w->level));
    w->perms = permissions(&m->features, w->inherited);
    w->memory = (e & pat ? 4u : 0) | (e & PCD ? 2u : 0) | (e & PWT ? 1u : 0); /* 4.9.2 */
    w->global = e & GLOBAL;
    w->dirty = e & DIRTY;
    return WALK_LEAF;
}

/* 4.8: accessed in every entry that is used, dirty only in the leaf of a write. */
static enum mmu_result use(const struct walk_machine *m, struct walk *w, enum walk_step step,
                           uint64_t *after)
{
    (void)m;
    *after |= ACCESSED;
    if (step == WALK_LEAF && w->mode == WALK_ACCESS && w->kind == MMU_WRITE) {
        *after |= DIRTY;
        w->dirty = true;
    }
    return MMU_OK;
}

#define FEATURES                                               \
    {                                                          \
        .pa_bits = 52, .nx = true, .wp = true, .gbpages = true \
    }

const struct walk_ops walk_x86_4 = {"x86-64", 4, FEATURES, start, decode, use};
const struct walk_ops walk_x86_5 = {"x86-64-la57", 5, FEATURES, start, decode, use};
