/*
 * walk_riscv.c - the RISC-V page walk: Sv39 and Sv48.
 *
 * Source: The RISC-V Instruction Set Manual, volume II, "Supervisor-Level ISA": addressing and
 * memory protection of Sv32 (the algorithm), Sv39 and Sv48 (entries of 8 bytes), Svpbmt, Svade and
 * Svadu.  Svnapot is not there: bit 63 is reserved.  In steps 3 to 9 of the algorithm all failures
 * are the same page fault; the reasons told here are finer.
 */
#include "walk.h"

#define V       (1ull << 0)
#define R       (1ull << 1)
#define W       (1ull << 2)
#define X       (1ull << 3)
#define U       (1ull << 4)
#define G       (1ull << 5)
#define A       (1ull << 6)
#define D       (1ull << 7)
#define PBMT    (3ull << 61)
#define UNNAMED (0x7full << 54 | 1ull << 63) /* bits 60..54, and N */
#define PPN     (((1ull << 44) - 1) << 10)

enum { INHERIT_GLOBAL = 1 }; /* inherited: a table above is global, so all below it is */

static bool start(const struct walk_machine *m, struct walk *w)
{
    unsigned bits = m->format == WALK_SV48 ? 48 : 39;
    uint64_t top = w->va >> (bits - 1);

    w->table = w->root;
    return top == 0 || top == ((uint64_t)1 << (64 - (bits - 1))) - 1;
}

/* Step 3: reserved encodings. */
static bool reserved(const struct walk_machine *m, unsigned level, uint64_t e)
{
    bool leaf = e & (R | X);

    if (e & W && !(e & R))
        return true;
    if (e & UNNAMED)
        return true;
    if (e & PBMT && (!m->features.svpbmt || (e & PBMT) == PBMT || !leaf))
        return true;
    if (!leaf && e & (A | D | U))
        return true;
    /* step 6: a misaligned superpage */
    return leaf && e >> 10 & (((uint64_t)1 << WALK_BITS * level) - 1);
}

static unsigned permissions(const struct walk_features *f, uint64_t e)
{
    bool user = e & U, read = e & R || (f->mxr && e & X), kernel_data = !user || f->sum;
    unsigned perms = 0;

    if (kernel_data)
        perms |=
            (read ? WALK_PERM(MMU_READ, false) : 0) | (e & W ? WALK_PERM(MMU_WRITE, false) : 0);
    if (!user)
        return perms | (e & X ? WALK_PERM(MMU_FETCH, false) : 0);
    return perms | (read ? WALK_PERM(MMU_READ, true) : 0) |
           (e & W ? WALK_PERM(MMU_WRITE, true) : 0) | (e & X ? WALK_PERM(MMU_FETCH, true) : 0);
}

static enum walk_step decode(const struct walk_machine *m, struct walk *w, uint64_t e)
{
    w->result = MMU_ABSENT;
    if (!(e & V))
        return WALK_FAULT;
    w->result = MMU_RESERVED;
    if (reserved(m, w->level, e))
        return WALK_FAULT;
    w->inherited |= e & G ? INHERIT_GLOBAL : 0;
    if (!(e & (R | X))) {
        w->result = MMU_ABSENT; /* step 4: nothing below level 0 */
        w->table = (e & PPN) >> 10 << WALK_PAGE_SHIFT;
        return w->level ? WALK_TABLE : WALK_FAULT;
    }
    w->pa = (e & PPN) >> 10 << WALK_PAGE_SHIFT;
    w->perms = permissions(&m->features, e);
    w->memory = (unsigned)((e & PBMT) >> 61);
    w->global = w->inherited & INHERIT_GLOBAL;
    w->dirty = e & D;
    return WALK_LEAF;
}

/* Step 7 (9 in later editions): A, and D for a store. */
static enum mmu_result use(const struct walk_machine *m, struct walk *w, enum walk_step step,
                           uint64_t *after)
{
    if (step == WALK_TABLE)
        return MMU_OK;
    if (!(*after & A) && !m->features.hw_accessed)
        return MMU_ACCESSED;
    if (w->mode != WALK_SPECULATIVE && w->kind == MMU_WRITE && !(*after & D)) {
        if (!m->features.hw_dirty)
            return MMU_DIRTY;
        *after |= D;
        w->dirty = w->mode == WALK_ACCESS;
    }
    *after |= A;
    return MMU_OK;
}

const struct walk_ops walk_sv39 = {"sv39", 3, {.pa_bits = 56, .sum = true}, start, decode, use};
const struct walk_ops walk_sv48 = {"sv48", 4, {.pa_bits = 56, .sum = true}, start, decode, use};
