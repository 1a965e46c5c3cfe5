/*
 * walk_arm64.c - the AArch64 page walk: stage 1 of EL1&0, 4 KiB granule, 48 bits of input address
 * (T0SZ = T1SZ = 16), 48 bits of output address at most.
 *
 * Source: Arm ARM (DDI 0487) D8.2 (which table base register), D8.3 (descriptors), D8.4 (access
 * permissions; hierarchical ones), D8.5 (hardware management of the access flag and dirty state).
 * The manual's level is 3 - ours.  The contiguous bit may be ignored and is.  Off: top-byte ignore,
 * 52-bit addresses, PAN, WXN, hierarchical permissions disabled (HPD), privileged execute-never by
 * anything but what is said here.
 */
#include "walk.h"

#define VALID     (1ull << 0)
#define TABLE     (1ull << 1) /* a table; at the lowest level: a page, else nothing valid */
#define AP1       (1ull << 6) /* EL0 too */
#define AP2       (1ull << 7) /* read only */
#define AF        (1ull << 10)
#define NG        (1ull << 11)
#define DBM       (1ull << 51)
#define PXN       (1ull << 53)
#define UXN       (1ull << 54)
#define PXN_TABLE (1ull << 59)
#define UXN_TABLE (1ull << 60)
#define AP0_TABLE (1ull << 61) /* no access from EL0 */
#define AP1_TABLE (1ull << 62) /* no write at all */
#define ADDRESS   0x0000fffffffff000ull

/* inherited */
enum { NO_PRIV_EXECUTE = 1, NO_USER_EXECUTE = 2, NO_USER = 4, NO_WRITE = 8 };

/* D8.2.2: bits 63..48 all clear choose TTBR0, all set TTBR1, else there is no translation. */
static bool start(const struct walk_machine *m, struct walk *w)
{
    uint64_t top = w->va >> 48;

    (void)m;
    w->table = (top ? w->high_root : w->root) & ADDRESS;
    return top == 0 || top == 0xffff;
}

static bool too_big(const struct walk_machine *m, uint64_t pa) { return pa >> m->features.pa_bits; }

/* The dirty state is managed by hardware and the page may be written, but has not been. */
static bool writable_clean(const struct walk_machine *m, uint64_t e)
{
    return m->features.hw_accessed && m->features.hw_dirty && e & DBM && e & AP2;
}

/* D8.4: direct permissions, what the tables above take away, and that EL1 never executes what EL0
 * can write. */
static unsigned permissions(const struct walk_machine *m, uint32_t taken, uint64_t e)
{
    bool user = e & AP1 && !(taken & NO_USER);
    bool write = (!(e & AP2) || writable_clean(m, e)) && !(taken & NO_WRITE);
    unsigned perms = WALK_PERM(MMU_READ, false);

    if (write)
        perms |= WALK_PERM(MMU_WRITE, false);
    if (user)
        perms |= WALK_PERM(MMU_READ, true) | (write ? WALK_PERM(MMU_WRITE, true) : 0);
    if (!(e & UXN) && !(taken & NO_USER_EXECUTE))
        perms |= WALK_PERM(MMU_FETCH, true); /* whatever AP1 says: execute only */
    if (!(e & PXN) && !(taken & NO_PRIV_EXECUTE) && !(user && write))
        perms |= WALK_PERM(MMU_FETCH, false);
    return perms;
}

static enum walk_step to_table(const struct walk_machine *m, struct walk *w, uint64_t e)
{
    if (too_big(m, e & ADDRESS)) {
        w->result = MMU_ADDRESS_SIZE;
        return WALK_FAULT;
    }
    w->table = e & ADDRESS;
    w->inherited |= (e & PXN_TABLE ? NO_PRIV_EXECUTE : 0) | (e & UXN_TABLE ? NO_USER_EXECUTE : 0) |
                    (e & AP0_TABLE ? NO_USER : 0) | (e & AP1_TABLE ? NO_WRITE : 0);
    return WALK_TABLE;
}

static enum walk_step decode(const struct walk_machine *m, struct walk *w, uint64_t e)
{
    uint64_t size = (uint64_t)1 << walk_shift(w->level);

    w->result = MMU_ABSENT;
    if (!(e & VALID))
        return WALK_FAULT;
    if (w->level && e & TABLE)
        return to_table(m, w, e);
    /* no blocks at the manual's level 0; 0b01 at its level 3 is not valid either */
    if (w->level == 3 || (!w->level && !(e & TABLE)))
        return WALK_FAULT;
    w->pa = e & ADDRESS & ~(size - 1);
    w->result = MMU_ADDRESS_SIZE;
    if (too_big(m, w->pa))
        return WALK_FAULT;
    w->result = MMU_ACCESSED; /* goes before permissions (D8.14, priority of faults) */
    if (!(e & AF) && !m->features.hw_accessed)
        return WALK_FAULT;
    w->perms = permissions(m, w->inherited, e);
    w->memory = (unsigned)(e >> 2 & 7) | (unsigned)(e >> 8 & 3) << 3;
    w->global = !(e & NG);
    w->dirty = !writable_clean(m, e);
    return WALK_LEAF;
}

/* D8.5: the access flag, then AP2 stands for not dirty where DBM is set. */
static enum mmu_result use(const struct walk_machine *m, struct walk *w, enum walk_step step,
                           uint64_t *after)
{
    if (step == WALK_TABLE)
        return MMU_OK;
    if (w->mode == WALK_ACCESS && w->kind == MMU_WRITE && writable_clean(m, *after)) {
        *after &= ~AP2;
        w->dirty = true;
    }
    *after |= AF;
    return MMU_OK;
}

const struct walk_ops walk_arm64 = {"arm64", 4, {.pa_bits = 48}, start, decode, use};
