/*
 * sim_walk_test.c - the page walks of the simulator, one format after the other, against tables
 * built by hand from the manuals: each rule of permissions, faults, reserved bits, huge leaves,
 * accessed and dirty.
 */
#include <sim_memory.h>

/* Tables in frames 1, 2, 3, 4 (from the root down, with four levels) and the page in frame 5: the
 * index in table i is i, the offset 0x123. */
#define VA (1ull << 39 | 2ull << 30 | 3ull << 21 | 4ull << 12 | 0x123)

/* ---- x86-64: SDM volume 3A, tables "Format of a ... Entry" in 4.5.4 and 4.5.5 ---- */

#define X86_P      0x001ull /* present */
#define X86_RW     0x002ull
#define X86_US     0x004ull
#define X86_PWT    0x008ull
#define X86_PCD    0x010ull
#define X86_A      0x020ull
#define X86_D      0x040ull
#define X86_PS     0x080ull
#define X86_PAT_4K 0x080ull
#define X86_G      0x100ull
#define X86_PAT_2M 0x1000ull
#define X86_XD     0x8000000000000000ull
#define X86_ALL    (X86_P | X86_RW | X86_US)

static void x86_tree(void)
{
    *entry(1, 1) = 0x2000 | X86_ALL;
    *entry(2, 2) = 0x3000 | X86_ALL;
    *entry(3, 3) = 0x4000 | X86_ALL;
    *entry(4, 4) = 0x5000 | X86_ALL;
}

static void x86_walk_reads_each_level(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);
    struct walk w;

    (void)state;
    x86_tree();
    w = walk_at(&m, WALK_PURE, VA, user_write);
    assert_int_equal(w.result, MMU_OK);
    assert_int_equal(w.pa, 0x5123);
    assert_int_equal(w.shift, 12);
    assert_int_equal(w.perms, 0x3f);
    assert_int_equal(w.reads, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(w.read[i].pa, 0x1000 * (i + 1) + 8 * (i + 1));
        assert_int_equal(w.read[i].level, 3 - i);
    }
    assert_int_equal(w.read[2].table, 0x4000);
    assert_int_equal(stores.n, 0);
    /* each level may be absent, whatever the other bits say */
    for (unsigned i = 1; i <= 4; i++) {
        x86_tree();
        *entry(i, i) = ~X86_P;
        w = walk_at(&m, WALK_PURE, VA, user_write);
        assert_int_equal(w.result, MMU_ABSENT);
        assert_int_equal(w.level, 4 - i);
    }
}

/* 4.6.1: an access is allowed if every level allows it. */
static void x86_permissions_of_all_levels(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);

    (void)state;
    for (unsigned level = 1; level <= 4; level++) {
        x86_tree();
        *entry(level, level) &= ~X86_RW;
        assert_int_equal(pure(&m, VA, user_read), MMU_OK);
        assert_int_equal(pure(&m, VA, user_write), MMU_PROTECTION);
        assert_int_equal(pure(&m, VA, kernel_write), MMU_PROTECTION);
        m.features.wp = false; /* the kernel may write read-only pages */
        assert_int_equal(pure(&m, VA, kernel_write), MMU_OK);
        assert_int_equal(pure(&m, VA, user_write), MMU_PROTECTION);
        m.features.wp = true;
        x86_tree();
        *entry(level, level) &= ~X86_US;
        assert_int_equal(pure(&m, VA, user_read), MMU_PROTECTION);
        assert_int_equal(pure(&m, VA, user_fetch), MMU_PROTECTION);
        assert_int_equal(pure(&m, VA, kernel_write), MMU_OK);
        x86_tree();
        *entry(level, level) |= X86_XD;
        assert_int_equal(pure(&m, VA, user_fetch), MMU_PROTECTION);
        assert_int_equal(pure(&m, VA, kernel_fetch), MMU_PROTECTION);
        assert_int_equal(pure(&m, VA, user_write), MMU_OK);
        m.features.nx = false; /* then bit 63 is reserved */
        assert_int_equal(pure(&m, VA, user_read), MMU_RESERVED);
        m.features.nx = true;
    }
    x86_tree();
    m.features.smep = m.features.smap = true;
    assert_int_equal(pure(&m, VA, kernel_fetch), MMU_PROTECTION);
    assert_int_equal(pure(&m, VA, kernel_read), MMU_PROTECTION);
    assert_int_equal(pure(&m, VA, user_fetch), MMU_OK);
    *entry(2, 2) &= ~X86_US; /* then it is the kernel's */
    assert_int_equal(pure(&m, VA, kernel_fetch), MMU_OK);
    assert_int_equal(pure(&m, VA, kernel_write), MMU_OK);
}

/* 4.5.4: bits above MAXPHYADDR; PS of a PML4E; the address bits below a huge page. */
static void x86_reserved_bits(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);

    (void)state;
    m.features.pa_bits = 40;
    for (unsigned level = 1; level <= 4; level++) {
        for (unsigned bit = 40; bit < 52; bit++) {
            x86_tree();
            *entry(level, level) |= 1ull << bit;
            assert_int_equal(pure(&m, VA, user_read), MMU_RESERVED);
        }
        for (unsigned bit = 52; bit < 63; bit++) { /* ignored */
            x86_tree();
            *entry(level, level) |= 1ull << bit;
            assert_int_equal(pure(&m, VA, user_read), MMU_OK);
        }
    }
    x86_tree();
    *entry(1, 1) = X86_ALL | X86_PS; /* no pages of 512 GiB */
    assert_int_equal(pure(&m, VA, user_read), MMU_RESERVED);
    for (unsigned bit = 13; bit < 21; bit++) {
        x86_tree();
        *entry(3, 3) = 1ull << bit | X86_ALL | X86_PS;
        assert_int_equal(pure(&m, VA, user_read), MMU_RESERVED);
    }
    for (unsigned bit = 13; bit < 30; bit++) {
        x86_tree();
        *entry(2, 2) = 1ull << bit | X86_ALL | X86_PS;
        assert_int_equal(pure(&m, VA, user_read), MMU_RESERVED);
    }
    *entry(2, 2) = X86_ALL | X86_PS;
    assert_int_equal(pure(&m, VA, user_read), MMU_OK);
    m.features.gbpages = false;
    assert_int_equal(pure(&m, VA, user_read), MMU_RESERVED);
}

/* 3.3.7.1: linear addresses are canonical, or #GP. */
static void x86_canonical_addresses(void **state)
{
    struct walk_machine m4 = machine_of(WALK_X86_4), m5 = machine_of(WALK_X86_5);

    (void)state;
    assert_int_equal(pure(&m4, 0x00007fffffffffff, user_read), MMU_ABSENT);
    assert_int_equal(pure(&m4, 0x0000800000000000, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m4, 0xffff7fffffffffff, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m4, 0xffff800000000000, user_read), MMU_ABSENT);
    assert_int_equal(pure(&m5, 0x00ffffffffffffff, user_read), MMU_ABSENT);
    assert_int_equal(pure(&m5, 0x0100000000000000, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m5, 0xfeffffffffffffff, user_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m5, 0xff00000000000000, user_read), MMU_ABSENT);
}

/* Huge leaves, memory types (4.9.2) and the global bit. */
static void x86_leaves(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);
    struct walk w;

    (void)state;
    x86_tree();
    *entry(3, 3) = 0x600000 | X86_ALL | X86_PS | X86_G | X86_PAT_2M | X86_PCD;
    w = walk_at(&m, WALK_PURE, VA, user_read);
    assert_int_equal(w.result, MMU_OK);
    assert_int_equal(w.pa, 0x600000 + 0x4123);
    assert_int_equal(w.shift, 21);
    assert_int_equal(w.memory, 6);
    assert_true(w.global);
    *entry(2, 2) = 0x40000000 | X86_ALL | X86_PS | X86_PWT;
    w = walk_at(&m, WALK_PURE, VA, user_read);
    assert_int_equal(w.pa, 0x40000000 + 3 * 0x200000 + 0x4123);
    assert_int_equal(w.shift, 30);
    assert_int_equal(w.memory, 1);
    assert_false(w.global);
    x86_tree();
    *entry(4, 4) |= X86_PAT_4K | X86_PWT;
    assert_int_equal(walk_at(&m, WALK_PURE, VA, user_read).memory, 5);
    *entry(3, 3) = (uint64_t)FRAMES * 4096 | X86_ALL;
    assert_int_equal(pure(&m, VA, user_read), MMU_BUS);
}

/* 4.5.5: with CR4.LA57 one more level, of bits 56..48. */
static void x86_five_levels(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_5);
    struct walk w;

    (void)state;
    x86_tree();
    *entry(6, 9) = 0x1000 | X86_ALL;
    w = (struct walk){.va = 9ull << 48 | VA, .user = true, .root = 0x6000};
    assert_int_equal(walk_from_root(&m, &w), MMU_OK);
    assert_int_equal(walk_run(&m, &w), MMU_OK);
    assert_int_equal(w.pa, 0x5123);
    assert_int_equal(w.reads, 5);
    *entry(6, 9) |= X86_PS;
    walk_from_root(&m, &w);
    assert_int_equal(walk_run(&m, &w), MMU_RESERVED);
    assert_int_equal(w.level, 4);
}

/* 4.8: accessed everywhere on the way, dirty in the leaf and only by a write. */
static void x86_accessed_and_dirty(void **state)
{
    struct walk_machine m = machine_of(WALK_X86_4);
    struct walk w;

    (void)state;
    x86_tree();
    w = walk_at(&m, WALK_ACCESS, VA, user_read);
    assert_int_equal(w.result, MMU_OK);
    assert_false(w.dirty);
    assert_int_equal(stores.n, 4);
    for (unsigned i = 1; i <= 4; i++)
        assert_int_equal(*entry(i, i), 0x1000 * (i + 1) | X86_ALL | X86_A);
    assert_int_equal(walk_at(&m, WALK_ACCESS, VA, user_fetch).result, MMU_OK);
    assert_int_equal(stores.n, 4);
    w = walk_at(&m, WALK_ACCESS, VA, user_write);
    assert_true(w.dirty);
    assert_int_equal(stores.n, 5);
    assert_int_equal(stores.cpu, 3);
    assert_int_equal(stores.pa, 0x4020);
    assert_int_equal(stores.before, 0x5000 | X86_ALL | X86_A);
    assert_int_equal(stores.after, 0x5000 | X86_ALL | X86_A | X86_D);
    /* speculation: accessed, never dirty; and no permission is asked */
    x86_tree();
    *entry(4, 4) &= ~X86_US;
    w = walk_at(&m, WALK_SPECULATIVE, VA, user_write);
    assert_int_equal(w.result, MMU_OK);
    assert_false(w.dirty);
    assert_int_equal(*entry(4, 4), 0x5000 | X86_P | X86_RW | X86_A);
    /* a denied write changes no leaf */
    x86_tree();
    *entry(4, 4) &= ~X86_RW;
    assert_int_equal(walk_at(&m, WALK_ACCESS, VA, user_write).result, MMU_PROTECTION);
    assert_int_equal(*entry(4, 4), 0x5000 | X86_P | X86_US);
}

/* ---- AArch64: Arm ARM D8.3, descriptors for the 4 KiB granule ---- */

#define ARM_VALID     (1ull << 0)
#define ARM_TABLE     (1ull << 1) /* table or page, not block */
#define ARM_ATTR(n)   ((uint64_t)(n) << 2)
#define ARM_AP_EL0    (1ull << 6)
#define ARM_AP_RO     (1ull << 7)
#define ARM_SH(n)     ((uint64_t)(n) << 8)
#define ARM_AF        (1ull << 10)
#define ARM_NG        (1ull << 11)
#define ARM_DBM       (1ull << 51)
#define ARM_CONT      (1ull << 52)
#define ARM_PXN       (1ull << 53)
#define ARM_UXN       (1ull << 54)
#define ARM_PXNTABLE  (1ull << 59)
#define ARM_UXNTABLE  (1ull << 60)
#define ARM_APTABLE_0 (1ull << 61)
#define ARM_APTABLE_1 (1ull << 62)
#define ARM_NSTABLE   (1ull << 63)
#define ARM_LINK      (ARM_VALID | ARM_TABLE)
#define ARM_PAGE      (ARM_VALID | ARM_TABLE | ARM_AF)

static void arm_tree(uint64_t page)
{
    *entry(1, 1) = 0x2000 | ARM_LINK;
    *entry(2, 2) = 0x3000 | ARM_LINK;
    *entry(3, 3) = 0x4000 | ARM_LINK;
    *entry(4, 4) = 0x5000 | page;
}

/* Bit WALK_PERM for each access that is allowed: what a walk finds, access by access. */
static unsigned allowed(const struct walk_machine *m)
{
    const struct what all[] = {kernel_read, kernel_write, kernel_fetch,
                               user_read,   user_write,   user_fetch};
    unsigned perms = 0;

    for (unsigned i = 0; i < 6; i++) {
        enum mmu_result result = pure(m, VA, all[i]);

        assert_true(result == MMU_OK || result == MMU_PROTECTION);
        perms |= result == MMU_OK ? 1u << i : 0;
    }
    return perms;
}

/* in the order of struct what all[]: kernel and user */
enum { KR = 1, KW = 2, KX = 4, UR = 8, UW = 16, UX = 32 };

/* D8.4.1, the tables of data and instruction access permissions for EL1&0. */
static void arm_permissions(void **state)
{
    static const struct {
        uint64_t bits;
        unsigned perms;
    } rows[] = {
        {0, KR | KW | KX | UX}, /* execute only for EL0 */
        {ARM_UXN, KR | KW | KX},
        {ARM_PXN, KR | KW | UX},
        {ARM_AP_EL0, KR | KW | UR | UW | UX}, /* writable at EL0: EL1 does not execute it */
        {ARM_AP_EL0 | ARM_UXN, KR | KW | UR | UW},
        {ARM_AP_RO, KR | KX | UX},
        {ARM_AP_RO | ARM_UXN | ARM_PXN, KR},
        {ARM_AP_RO | ARM_AP_EL0, KR | KX | UR | UX},
        {ARM_AP_RO | ARM_AP_EL0 | ARM_PXN, KR | UR | UX},
        {ARM_AP_RO | ARM_AP_EL0 | ARM_DBM, KR | KX | UR | UX}, /* DBM means nothing without HD */
    };
    struct walk_machine m = machine_of(WALK_ARM64);

    (void)state;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        arm_tree(ARM_PAGE | rows[i].bits);
        assert_int_equal(allowed(&m), rows[i].perms);
    }
}

/* D8.4.2: what a table takes away from all below it; D8.3.1 NSTable changes nothing here. */
static void arm_hierarchical_permissions(void **state)
{
    struct walk_machine m = machine_of(WALK_ARM64);

    (void)state;
    for (unsigned table = 1; table <= 3; table++) {
        arm_tree(ARM_PAGE | ARM_AP_EL0);
        *entry(table, table) |= ARM_NSTABLE;
        assert_int_equal(allowed(&m), KR | KW | UR | UW | UX);
        *entry(table, table) |= ARM_UXNTABLE;
        assert_int_equal(allowed(&m), KR | KW | UR | UW);
        *entry(table, table) |= ARM_APTABLE_1;
        assert_int_equal(allowed(&m), KR | KX | UR); /* not writable at EL0 any more */
        *entry(table, table) |= ARM_PXNTABLE;
        assert_int_equal(allowed(&m), KR | UR);
        *entry(table, table) |= ARM_APTABLE_0;
        assert_int_equal(allowed(&m), KR);
    }
}

/* D8.2: which table base register; D8.3: what is valid at which level. */
static void arm_regions_and_validity(void **state)
{
    struct walk_machine m = machine_of(WALK_ARM64);
    struct walk w;

    (void)state;
    arm_tree(ARM_PAGE);
    assert_int_equal(pure(&m, VA | 1ull << 48, kernel_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m, VA | 0xfffeull << 48, kernel_read), MMU_NOT_CANONICAL);
    assert_int_equal(pure(&m, VA | 0xffffull << 48, kernel_read), MMU_ABSENT);
    *entry(8, 1) = 0x2000 | ARM_LINK; /* TTBR1 is at 0x8000 */
    w = walk_at(&m, WALK_PURE, VA | 0xffffull << 48, kernel_read);
    assert_int_equal(w.result, MMU_OK);
    assert_int_equal(w.pa, 0x5123);
    assert_int_equal(w.read[0].pa, 0x8008);
    for (unsigned i = 1; i <= 4; i++) {
        arm_tree(ARM_PAGE);
        *entry(i, i) &= ~ARM_VALID;
        w = walk_at(&m, WALK_PURE, VA, kernel_read);
        assert_int_equal(w.result, MMU_ABSENT);
        assert_int_equal(w.level, 4 - i);
    }
    arm_tree(ARM_PAGE & ~ARM_TABLE); /* 0b01 at level 3 */
    assert_int_equal(pure(&m, VA, kernel_read), MMU_ABSENT);
    *entry(1, 1) = 0x2000 | ARM_VALID | ARM_AF; /* a block at level 0 */
    assert_int_equal(pure(&m, VA, kernel_read), MMU_ABSENT);
}

static void arm_leaves(void **state)
{
    struct walk_machine m = machine_of(WALK_ARM64);
    struct walk w;

    (void)state;
    arm_tree(ARM_PAGE | ARM_ATTR(5) | ARM_SH(3) | ARM_CONT);
    w = walk_at(&m, WALK_PURE, VA, kernel_read);
    assert_int_equal(w.memory, 5 | 3 << 3);
    assert_int_equal(w.shift, 12);
    assert_true(w.global);
    *entry(4, 4) |= ARM_NG;
    assert_false(walk_at(&m, WALK_PURE, VA, kernel_read).global);
    *entry(3, 3) = 0x600000 | ARM_VALID | ARM_AF;
    w = walk_at(&m, WALK_PURE, VA, kernel_read);
    assert_int_equal(w.pa, 0x604123);
    assert_int_equal(w.shift, 21);
    *entry(2, 2) = 0x40000000 | ARM_VALID | ARM_AF;
    w = walk_at(&m, WALK_PURE, VA, kernel_read);
    assert_int_equal(w.pa, 0x40604123);
    assert_int_equal(w.shift, 30);
}

/* D8.3: output addresses are as wide as TCR_EL1.IPS says, of tables too; the fault goes before that
 * of the access flag, and that before permissions. */
static void arm_address_size_and_priority(void **state)
{
    struct walk_machine m = machine_of(WALK_ARM64);

    (void)state;
    m.features.pa_bits = 40;
    for (unsigned i = 1; i <= 4; i++) {
        for (unsigned bit = 40; bit < 48; bit++) {
            arm_tree(ARM_PAGE & ~ARM_AF);
            *entry(i, i) |= 1ull << bit;
            assert_int_equal(pure(&m, VA, kernel_read), MMU_ADDRESS_SIZE);
        }
    }
    arm_tree(ARM_PAGE & ~ARM_AF);
    assert_int_equal(pure(&m, VA, user_write), MMU_ACCESSED);
    *entry(4, 4) |= ARM_AF;
    assert_int_equal(pure(&m, VA, user_write), MMU_PROTECTION);
}

/* D8.5: with TCR_EL1.HA the hardware sets the access flag, with HD it clears AP[2] where DBM is. */
static void arm_accessed_and_dirty(void **state)
{
    struct walk_machine m = machine_of(WALK_ARM64);
    const uint64_t clean = ARM_LINK | ARM_AP_EL0 | ARM_AP_RO | ARM_DBM;
    struct walk w;

    (void)state;
    arm_tree(clean);
    assert_int_equal(walk_at(&m, WALK_SPECULATIVE, VA, user_read).result, MMU_ACCESSED);
    m.features.hw_accessed = true;
    assert_int_equal(walk_at(&m, WALK_ACCESS, VA, user_write).result, MMU_PROTECTION);
    assert_int_equal(stores.n, 0);
    m.features.hw_dirty = true;
    w = walk_at(&m, WALK_ACCESS, VA, user_read);
    assert_int_equal(w.result, MMU_OK);
    assert_false(w.dirty);
    assert_int_equal(w.perms & UW, UW);
    assert_int_equal(stores.n, 1); /* only the leaf has an access flag */
    assert_int_equal(*entry(4, 4), 0x5000 | clean | ARM_AF);
    assert_false(walk_at(&m, WALK_SPECULATIVE, VA, user_write).dirty);
    assert_int_equal(*entry(4, 4), 0x5000 | clean | ARM_AF);
    w = walk_at(&m, WALK_ACCESS, VA, user_write);
    assert_int_equal(w.result, MMU_OK);
    assert_true(w.dirty);
    assert_int_equal(*entry(4, 4), 0x5000 | (clean & ~ARM_AP_RO) | ARM_AF);
    /* what a table forbids is no dirty state */
    arm_tree(clean);
    *entry(2, 2) |= ARM_APTABLE_1;
    assert_int_equal(walk_at(&m, WALK_ACCESS, VA, user_write).result, MMU_PROTECTION);
    assert_int_equal(*entry(4, 4), 0x5000 | clean);
}

/* ---- RISC-V: privileged specification, Sv39 and Sv48 ---- */

#define RV_V          (1ull << 0)
#define RV_R          (1ull << 1)
#define RV_W          (1ull << 2)
#define RV_X          (1ull << 3)
#define RV_U          (1ull << 4)
#define RV_G          (1ull << 5)
#define RV_A          (1ull << 6)
#define RV_D          (1ull << 7)
#define RV_PPN(frame) ((uint64_t)(frame) << 10)
#define RV_RWX        (RV_R | RV_W | RV_X)

/* Three or four levels: with Sv39 the root is table 2, and VA has no index for table 1. */
static const enum walk_format rv_formats[] = {WALK_SV39, WALK_SV48};

static uint64_t rv_va(enum walk_format f) { return f == WALK_SV39 ? VA & ~(1ull << 39) : VA; }

static struct walk rv_walk(const struct walk_machine *m, enum walk_mode mode, struct what what)
{
    struct walk w = {.va = rv_va(m->format),
                     .kind = what.kind,
                     .user = what.user,
                     .mode = mode,
                     .root = m->format == WALK_SV39 ? 0x2000 : 0x1000};

    assert_int_equal(walk_from_root(m, &w), MMU_OK);
    walk_run(m, &w);
    return w;
}

static enum mmu_result rv_pure(const struct walk_machine *m, struct what what)
{
    return rv_walk(m, WALK_PURE, what).result;
}

static void rv_tree(uint64_t page)
{
    *entry(1, 1) = RV_PPN(2) | RV_V;
    *entry(2, 2) = RV_PPN(3) | RV_V;
    *entry(3, 3) = RV_PPN(4) | RV_V;
    *entry(4, 4) = RV_PPN(5) | RV_V | page;
}

static void rv_addresses(void **state)
{
    static const struct {
        enum walk_format format;
        uint64_t va;
        enum mmu_result result;
    } rows[] = {
        {WALK_SV39, 0x0000003fffffffff, MMU_ABSENT},
        {WALK_SV39, 0x0000004000000000, MMU_NOT_CANONICAL},
        {WALK_SV39, 0xffffffbfffffffff, MMU_NOT_CANONICAL},
        {WALK_SV39, 0xffffffc000000000, MMU_ABSENT},
        {WALK_SV48, 0x00007fffffffffff, MMU_ABSENT},
        {WALK_SV48, 0x0000800000000000, MMU_NOT_CANONICAL},
        {WALK_SV48, 0xffff7fffffffffff, MMU_NOT_CANONICAL},
        {WALK_SV48, 0xffff800000000000, MMU_ABSENT},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct walk_machine m = machine_of(rows[i].format);

        assert_int_equal(pure(&m, rows[i].va, user_read), rows[i].result);
    }
}

/* The algorithm, steps 1 to 4: levels, invalid entries, what is reserved. */
static void rv_entries(void **state)
{
    (void)state;
    for (unsigned f = 0; f < 2; f++) {
        struct walk_machine m = machine_of(rv_formats[f]);
        struct walk w;

        rv_tree(RV_RWX | RV_U | RV_A | RV_D);
        w = rv_walk(&m, WALK_PURE, user_write);
        assert_int_equal(w.result, MMU_OK);
        assert_int_equal(w.pa, 0x5123);
        assert_int_equal(w.reads, f ? 4 : 3);
        for (unsigned i = f ? 1 : 2; i <= 4; i++) {
            rv_tree(RV_R | RV_U | RV_A);
            *entry(i, i) &= ~RV_V;
            assert_int_equal(rv_pure(&m, user_read), MMU_ABSENT);
            rv_tree(RV_R | RV_U | RV_A);
            *entry(i, i) = (*entry(i, i) & ~(RV_R | RV_X)) | RV_W; /* W without R */
            assert_int_equal(rv_pure(&m, user_read), MMU_RESERVED);
            *entry(i, i) |= RV_X;
            assert_int_equal(rv_pure(&m, user_read), MMU_RESERVED);
            for (unsigned bit = 54; bit < 64; bit++) { /* 61, 62: without Svpbmt; 63: Svnapot */
                rv_tree(RV_R | RV_U | RV_A);
                *entry(i, i) |= 1ull << bit;
                assert_int_equal(rv_pure(&m, user_read), MMU_RESERVED);
            }
        }
        for (unsigned i = f ? 1 : 2; i <= 3; i++) { /* of no use in the way to a table */
            const uint64_t bits[] = {RV_U, RV_A, RV_D};

            for (unsigned b = 0; b < 3; b++) {
                rv_tree(RV_R | RV_U | RV_A);
                *entry(i, i) |= bits[b];
                assert_int_equal(rv_pure(&m, user_read), MMU_RESERVED);
            }
        }
        rv_tree(0); /* leads on where nothing is below */
        w = rv_walk(&m, WALK_PURE, user_read);
        assert_int_equal(w.result, MMU_ABSENT);
        assert_int_equal(w.level, 0);
        assert_int_equal(w.reads, f ? 4 : 3);
    }
}

/* Each encoding of R, W, X and U, with SUM and MXR. */
static void rv_permissions(void **state)
{
    struct walk_machine m = machine_of(WALK_SV48);

    (void)state;
    for (unsigned n = 0; n < 128; n++) {
        bool r = n & 1, w = n & 2, x = n & 4, u = n & 8, sum = n & 16, mxr = n & 32;
        bool load = r || (mxr && x), kernel = !u || sum;
        unsigned want = 0;

        if ((!r && !x) || (w && !r))
            continue;
        m.features.sum = sum;
        m.features.mxr = mxr;
        rv_tree((n & 7) << 1 | (u ? RV_U : 0) | RV_A | RV_D);
        want |= kernel && load ? KR : 0;
        want |= kernel && w ? KW : 0;
        want |= !u && x ? KX : 0; /* never executes a user's page, whatever SUM is */
        want |= u && load ? UR : 0;
        want |= u && w ? UW : 0;
        want |= u && x ? UX : 0;
        assert_int_equal(allowed(&m), want);
    }
}

static void rv_superpages(void **state)
{
    struct walk_machine m = machine_of(WALK_SV48);
    struct walk w;

    (void)state;
    rv_tree(0);
    *entry(3, 3) = RV_PPN(0x600) | RV_V | RV_R | RV_A | RV_G;
    w = rv_walk(&m, WALK_PURE, kernel_read);
    assert_int_equal(w.result, MMU_OK);
    assert_int_equal(w.pa, 0x604123);
    assert_int_equal(w.shift, 21);
    assert_true(w.global);
    for (unsigned bit = 0; bit < 9; bit++) { /* misaligned */
        *entry(3, 3) = RV_PPN(0x600 ^ 1u << bit) | RV_V | RV_R | RV_A;
        assert_int_equal(rv_pure(&m, kernel_read), MMU_RESERVED);
    }
    *entry(2, 2) = RV_PPN(1u << 18) | RV_V | RV_R | RV_A;
    assert_int_equal(rv_walk(&m, WALK_PURE, kernel_read).pa, (1ull << 30) + 0x604123);
    *entry(1, 1) = RV_PPN(1u << 27) | RV_V | RV_R | RV_A; /* a page of 512 GiB */
    w = rv_walk(&m, WALK_PURE, kernel_read);
    assert_int_equal(w.pa, (1ull << 39) + (2ull << 30) + 0x604123);
    assert_int_equal(w.shift, 39);
    *entry(1, 1) = RV_PPN(1u << 26) | RV_V | RV_R | RV_A;
    assert_int_equal(rv_pure(&m, kernel_read), MMU_RESERVED);
}

/* A global entry on the way makes all below it global; Svpbmt. */
static void rv_global_and_types(void **state)
{
    struct walk_machine m = machine_of(WALK_SV39);

    (void)state;
    for (unsigned i = 2; i <= 4; i++) {
        rv_tree(RV_R | RV_A);
        assert_false(rv_walk(&m, WALK_PURE, kernel_read).global);
        *entry(i, i) |= RV_G;
        assert_true(rv_walk(&m, WALK_PURE, kernel_read).global);
    }
    m.features.svpbmt = true;
    for (uint64_t type = 0; type < 4; type++) {
        rv_tree(RV_R | RV_A | type << 61);
        assert_int_equal(rv_pure(&m, kernel_read), type == 3 ? MMU_RESERVED : MMU_OK);
        if (type < 3)
            assert_int_equal(rv_walk(&m, WALK_PURE, kernel_read).memory, type);
        rv_tree(RV_R | RV_A);
        *entry(3, 3) |= type << 61;
        assert_int_equal(rv_pure(&m, kernel_read), type ? MMU_RESERVED : MMU_OK);
    }
}

/* Svade: a page fault; Svadu: the hardware sets A, and D for a store. */
static void rv_accessed_and_dirty(void **state)
{
    struct walk_machine m = machine_of(WALK_SV39);
    struct walk w;

    (void)state;
    rv_tree(RV_R | RV_W | RV_U);
    assert_int_equal(walk_at(&m, WALK_SPECULATIVE, VA, user_read).result, MMU_NOT_CANONICAL);
    assert_int_equal(rv_walk(&m, WALK_ACCESS, user_read).result, MMU_ACCESSED);
    assert_int_equal(rv_walk(&m, WALK_SPECULATIVE, user_read).result, MMU_ACCESSED);
    *entry(4, 4) |= RV_A;
    assert_int_equal(rv_walk(&m, WALK_ACCESS, user_read).result, MMU_OK);
    assert_int_equal(rv_walk(&m, WALK_ACCESS, user_write).result, MMU_DIRTY);
    assert_int_equal(stores.n, 0);
    m.features.hw_accessed = m.features.hw_dirty = true;
    rv_tree(RV_R | RV_W | RV_U);
    w = rv_walk(&m, WALK_SPECULATIVE, user_write);
    assert_int_equal(w.result, MMU_OK);
    assert_false(w.dirty);
    assert_int_equal(*entry(4, 4), RV_PPN(5) | RV_V | RV_R | RV_W | RV_U | RV_A);
    w = rv_walk(&m, WALK_ACCESS, user_write);
    assert_true(w.dirty);
    assert_int_equal(*entry(4, 4), RV_PPN(5) | RV_V | RV_R | RV_W | RV_U | RV_A | RV_D);
    assert_int_equal(stores.n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(x86_walk_reads_each_level),
        cmocka_unit_test(x86_permissions_of_all_levels),
        cmocka_unit_test(x86_reserved_bits),
        cmocka_unit_test(x86_canonical_addresses),
        cmocka_unit_test(x86_leaves),
        cmocka_unit_test(x86_five_levels),
        cmocka_unit_test(x86_accessed_and_dirty),
        cmocka_unit_test(arm_permissions),
        cmocka_unit_test(arm_hierarchical_permissions),
        cmocka_unit_test(arm_regions_and_validity),
        cmocka_unit_test(arm_leaves),
        cmocka_unit_test(arm_address_size_and_priority),
        cmocka_unit_test(arm_accessed_and_dirty),
        cmocka_unit_test(rv_addresses),
        cmocka_unit_test(rv_entries),
        cmocka_unit_test(rv_permissions),
        cmocka_unit_test(rv_superpages),
        cmocka_unit_test(rv_global_and_types),
        cmocka_unit_test(rv_accessed_and_dirty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
