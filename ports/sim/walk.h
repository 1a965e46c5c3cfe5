/*
 * walk.h - what a page walker of the simulated machine is given and what it tells.
 *
 * Five formats, each written from its architecture manual and sharing nothing with src/pt:
 *
 *   walk_x86.c    Intel SDM volume 3A, chapter 4: 4-level and 5-level paging
 *   walk_arm64.c  Arm ARM (DDI 0487) chapter D8: VMSAv8-64, 4 KiB granule, 48 bits, EL1&0 stage 1
 *   walk_riscv.c  RISC-V privileged specification 4.3 to 4.5: Sv39 and Sv48
 *
 * Common to all of them: tables of 512 entries of 8 bytes, 4 KiB at the bottom.  A level is counted
 * from the leaf: 0 holds 4 KiB leaves, an entry of level l covers 2^(12 + 9 l) bytes.  walk.c has
 * the loop that goes down; a format says what one entry means.
 *
 * A walk is one step of the simulated machine: nothing runs between the load of an entry and the
 * store of its accessed or dirty bit, hence the update is atomic as the manuals demand.  That the
 * entries of one walk may be read at different times is what the walk caches of mmu.c are for.
 */
#ifndef SIM_WALK_H
#define SIM_WALK_H

#include <stdbool.h>
#include <stdint.h>

enum walk_format { WALK_X86_4, WALK_X86_5, WALK_ARM64, WALK_SV39, WALK_SV48, WALK_FORMATS };

enum mmu_kind { MMU_READ, MMU_WRITE, MMU_FETCH };

enum mmu_result {
    MMU_OK,
    MMU_NOT_CANONICAL, /* x86: #GP; Arm: translation fault, level 0; RISC-V: page fault */
    MMU_ABSENT,        /* no valid entry */
    MMU_RESERVED,      /* a bit or an encoding that must not be there */
    MMU_ADDRESS_SIZE,  /* Arm: the entry's address has more bits than the CPU */
    MMU_ACCESSED,      /* accessed is clear and the hardware does not set it */
    MMU_PROTECTION,
    MMU_DIRTY, /* dirty is clear on a write, and the hardware does not set it */
    MMU_BUS,   /* the entry, or what is translated to, lies beyond memory */
    MMU_RESULTS
};

/* Permissions of a translation: one bit for each kind, for the kernel and for the user. */
#define WALK_PERM(kind, user) (1u << ((kind) + ((user) ? 3 : 0)))

#define WALK_NO_TABLE (~0ull)

enum { WALK_MAX_LEVELS = 5, WALK_PAGE_SHIFT = 12, WALK_BITS = 9 };
static inline unsigned walk_shift(unsigned level) { return WALK_PAGE_SHIFT + WALK_BITS * level; }

/* What the CPU can do and how it is set up. */
struct walk_features {
    unsigned pa_bits; /* physical address bits: MAXPHYADDR, TCR_EL1.IPS, 56 */
    /* x86 */
    bool nx;      /* EFER.NXE */
    bool wp;      /* CR0.WP */
    bool smep;    /* CR4.SMEP */
    bool smap;    /* CR4.SMAP, and EFLAGS.AC clear */
    bool gbpages; /* CPUID.80000001H:EDX.Page1GB */
    /* Arm: TCR_EL1.HA and HD; RISC-V: Svadu sets both, Svade neither */
    bool hw_accessed, hw_dirty;
    /* RISC-V */
    bool sum;    /* sstatus.SUM: the kernel may read and write user pages */
    bool mxr;    /* sstatus.MXR: executable pages can be read */
    bool svpbmt; /* bits 61 and 62 are a memory type */
};

/* What a walk needs of the machine. */
struct walk_machine {
    enum walk_format format;
    struct walk_features features;
    /* The 8 bytes at pa, a multiple of 8; NULL: beyond memory. */
    uint64_t *(*at)(void *ctx, uint64_t pa);
    /* The walk of that CPU has just changed the entry at pa from before to after; may be NULL. */
    void (*stored)(void *ctx, unsigned cpu, uint64_t pa, uint64_t before, uint64_t after);
    void *ctx;
};

enum walk_mode {
    WALK_PURE,        /* changes nothing: what an access would find */
    WALK_SPECULATIVE, /* no permission is checked; accessed is set, dirty never */
    WALK_ACCESS       /* as for an instruction */
};

struct walk {
    /* what is asked */
    uint64_t va;
    enum mmu_kind kind;
    bool user;
    enum walk_mode mode;
    unsigned cpu;
    uint64_t root, high_root; /* high_root: TTBR1_EL1, others do not look at it */

    /* where the next entry is; set by walk_from_root() or from a walk cache */
    unsigned level;
    uint64_t table;
    uint32_t inherited; /* what the entries above allow or take away, as the format has it */

    /* what was found */
    enum mmu_result result;
    unsigned shift;     /* of the leaf */
    uint64_t pa;        /* of the byte at va */
    unsigned perms;     /* WALK_PERM bits, all levels together */
    unsigned memory;    /* x86: PAT index; Arm: AttrIndx | SH << 3; RISC-V: PBMT */
    bool global, dirty; /* dirty: a write need not change the entry any more */
    unsigned reads;     /* entries read, in order */
    struct walk_read {
        uint64_t pa, value; /* value: as stored at last */
        uint64_t table;     /* the table it leads to, or WALK_NO_TABLE */
        uint32_t inherited; /* ... and what holds below it */
        unsigned level;
    } read[WALK_MAX_LEVELS];
};

struct walk_features walk_default_features(enum walk_format format);
const char *walk_format_name(enum walk_format format);
const char *mmu_result_name(enum mmu_result result);
unsigned walk_levels(enum walk_format format);

/* Put w at its root.  Not MMU_OK: the address cannot be translated at all. */
enum mmu_result walk_from_root(const struct walk_machine *m, struct walk *w);
/* Go down from where w is.  The result is also in w->result, and w->level is where it ended. */
enum mmu_result walk_run(const struct walk_machine *m, struct walk *w);

/* ---- What a format is ---- */

enum walk_step { WALK_FAULT, WALK_TABLE, WALK_LEAF };

struct walk_ops {
    const char *name;
    unsigned levels;
    struct walk_features features;
    /* Set table and inherited of a walk that begins at the top; false: no such address. */
    bool (*start)(const struct walk_machine *m, struct walk *w);
    /* What entry e, read at w->level, is.  FAULT: result is set.  TABLE: table and inherited are;
     * LEAF: all of the leaf is, but for the offset in pa. */
    enum walk_step (*decode)(const struct walk_machine *m, struct walk *w, uint64_t e);
    /* The entry as it is after its use, *after == e at the call, for a leaf or the way to a table;
     * write: dirty is wanted.  Not OK: software has to do it. */
    enum mmu_result (*use)(const struct walk_machine *m, struct walk *w, enum walk_step step,
                           uint64_t *after);
};

extern const struct walk_ops walk_x86_4, walk_x86_5, walk_arm64, walk_sv39, walk_sv48;

#endif
