/*
 * pt/x86_64/format.h - what an x86-64 page-table entry looks like, and nothing else.
 *
 * Only this file knows bits.  The generic code and the layers above use the names below; another
 * format is another file with the same names.  Source: Intel SDM volume 3A, chapter 4.5 (4-level
 * paging), tables 4-15 to 4-20; 4.9.2 and 11.12 (PAT).
 *
 * A leaf, level 0 (level 1 and 2: bit 7 set, PAT never used):
 *
 *   63 62   53 52 51           12 11  10   9   8 7 6 5  4   3  2 1 0
 *   NX ignored S4  frame number   S3  S2  S1   G 0 D A PCD PWT U W P
 *
 * Software states of an entry, told apart by bits 0 and 8:
 *
 *   v == 0              none
 *   bit 0               present: the hardware walks it
 *   bit 0 clear, bit 8  no access: maps a frame as far as software is concerned (counts, zap,
 *                       fork), but the hardware faults: PROT_NONE over populated memory
 *   both clear, v != 0  a software entry: type in bits 1..5, payload in bits 9..63 (swap, ...)
 *
 * Memory types: the kernel programs PAT entry 1 as write combining; entry 0 is write-back and
 * entry 3 uncached as after reset.  NX is used always: the kernel sets EFER.NXE first.
 */
#ifndef QI_PT_X86_64_FORMAT_H
#define QI_PT_X86_64_FORMAT_H

#include <quire/pt.h>

#include "../../base/bits.h"

/* The shape of the tree.  Level 0 holds 4 KiB leaves, level QI_PT_TOP is the root. */
#define QI_PT_LEVELS      4
#define QI_PT_TOP         (QI_PT_LEVELS - 1)
#define QI_PT_BITS        9
#define QI_PT_ENTRIES     (1u << QI_PT_BITS)
#define QI_PT_LEAF_MAX    2 /* highest level that may hold a leaf: 1 GiB */
#define QI_PT_SHIFT(l)    (QUIRE_PAGE_SHIFT + QI_PT_BITS * (l))
#define QI_PT_SIZE(l)     ((uint64_t)1 << QI_PT_SHIFT(l))
#define QI_PT_VA_BITS     QI_PT_SHIFT(QI_PT_LEVELS)
#define QI_PT_KERNEL_SLOT (QI_PT_ENTRIES / 2) /* first entry of the root that is the kernel's */

typedef struct {
    uint64_t v;
} qi_pte;

#define QI_PTE(x) ((qi_pte){(uint64_t)(x)})

#define QI_X86_P    0x001ull
#define QI_X86_W    0x002ull
#define QI_X86_U    0x004ull
#define QI_X86_PWT  0x008ull
#define QI_X86_PCD  0x010ull
#define QI_X86_A    0x020ull
#define QI_X86_D    0x040ull
#define QI_X86_PS   0x080ull
#define QI_X86_G    0x100ull
#define QI_X86_NONE QI_X86_G /* while P is clear */
#define QI_X86_NX   (1ull << 63)
#define QI_X86_ADDR 0x000ffffffffff000ull

/* Software bits of a leaf; kept by split, protect and move. */
#define QI_PTE_SPECIAL  0x200ull /* the frame is not counted: zero page, device memory */
#define QI_PTE_MOVING   0x400ull /* no access: the content of the frame is on its way to another */
#define QI_PTE_WAS_OPEN 0x800ull /* with MOVING: it was valid before */
#define QI_PTE_OWN \
    (1ull << 52) /* nobody has the private page but through this leaf (space.c, S4) */

/* True if va is an address that the format can translate: bits 47..63 are equal. */
static inline bool qi_pt_canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << (64 - QI_PT_VA_BITS)) >> (64 - QI_PT_VA_BITS)) == va;
}
static inline unsigned qi_pt_index(uint64_t va, unsigned level)
{
    return (unsigned)(va >> QI_PT_SHIFT(level)) & (QI_PT_ENTRIES - 1);
}

/* ---- Reading ---- */

static inline bool qi_pte_none(qi_pte e) { return !e.v; }
/* Maps a frame: accessible or PROT_NONE. */
static inline bool qi_pte_present(qi_pte e) { return e.v & (QI_X86_P | QI_X86_NONE); }
/* The hardware would use it. */
static inline bool qi_pte_valid(qi_pte e) { return e.v & QI_X86_P; }
/* A software entry: neither none nor present. */
static inline bool qi_pte_is_soft(qi_pte e) { return e.v && !qi_pte_present(e); }
/* e, found at a level above 0 and not none, is a leaf there (else the address of a table). */
static inline bool qi_pte_huge(qi_pte e) { return e.v & QI_X86_PS; }
/* e, found at a level above 0, is the address of a table. */
static inline bool qi_pte_leads(qi_pte e) { return (e.v & (QI_X86_P | QI_X86_PS)) == QI_X86_P; }
static inline q_pfn qi_pte_pfn(qi_pte e) { return Q_PFN((e.v & QI_X86_ADDR) >> QUIRE_PAGE_SHIFT); }
static inline q_pa qi_pte_pa(qi_pte e) { return Q_PA(e.v & QI_X86_ADDR); }
static inline bool qi_pte_write(qi_pte e) { return e.v & QI_X86_W; }
static inline bool qi_pte_user(qi_pte e) { return e.v & QI_X86_U; }
static inline bool qi_pte_exec(qi_pte e) { return !(e.v & QI_X86_NX); }
static inline bool qi_pte_accessed(qi_pte e) { return e.v & QI_X86_A; }
static inline bool qi_pte_dirty(qi_pte e) { return e.v & QI_X86_D; }
static inline bool qi_pte_special(qi_pte e) { return e.v & QI_PTE_SPECIAL; }
static inline bool qi_pte_own(qi_pte e) { return e.v & QI_PTE_OWN; }

static inline enum quire_cache_type qi_pte_cache(qi_pte e)
{
    if (e.v & QI_X86_PCD)
        return QUIRE_UNCACHED;
    return e.v & QI_X86_PWT ? QUIRE_WRITE_COMBINING : QUIRE_CACHED;
}
/* QUIRE_* of this entry alone. */
static inline unsigned qi_pte_prot(qi_pte e)
{
    unsigned prot = e.v & QI_X86_U ? QUIRE_USER : 0;

    if (!qi_pte_valid(e))
        return prot;
    return prot | QUIRE_READ | (e.v & QI_X86_W ? QUIRE_WRITE : 0) |
           (e.v & QI_X86_NX ? 0 : QUIRE_EXEC) | (e.v & QI_X86_G ? QUIRE_GLOBAL : 0);
}

/* ---- Making ---- */

/*
 * The part of a leaf that does not depend on the frame: worth keeping per mapping.  prot: QUIRE_*;
 * without READ, WRITE and EXEC the result is a no-access entry.  Write and execute imply read (the
 * hardware has no other way).  Accessed is clear, dirty is clear.
 */
static inline qi_pte qi_pte_template(unsigned prot, enum quire_cache_type cache)
{
    uint64_t v = prot & QUIRE_USER ? QI_X86_U : 0;

    if (prot & (QUIRE_READ | QUIRE_WRITE | QUIRE_EXEC))
        v |= QI_X86_P | (prot & QUIRE_GLOBAL ? QI_X86_G : 0);
    else
        v |= QI_X86_NONE;
    if (prot & QUIRE_WRITE)
        v |= QI_X86_W;
    if (!(prot & QUIRE_EXEC))
        v |= QI_X86_NX;
    if (cache != QUIRE_CACHED)
        v |= cache == QUIRE_UNCACHED ? QI_X86_PCD | QI_X86_PWT : QI_X86_PWT;
    return QI_PTE(v);
}
/* A level-0 leaf: template, frame, and any of the QI_PTE_* software bits in soft. */
static inline qi_pte qi_pte_leaf(qi_pte template, q_pfn pfn, uint64_t soft)
{
    return QI_PTE(template.v | pfn.v << QUIRE_PAGE_SHIFT | soft);
}
/* A leaf of level 1 or 2; pfn is aligned to its size. */
static inline qi_pte qi_pte_leaf_huge(qi_pte template, q_pfn pfn, uint64_t soft)
{
    return QI_PTE(template.v | pfn.v << QUIRE_PAGE_SHIFT | soft | QI_X86_PS);
}
static inline qi_pte qi_pte_make(q_pfn pfn, unsigned prot, enum quire_cache_type cache,
                                 uint64_t soft)
{
    return qi_pte_leaf(qi_pte_template(prot, cache), pfn, soft);
}
/* The entry that points to the table at pa.  Permissions are decided in the leaves, so tables of
 * user addresses allow all; user: the table translates user addresses. */
static inline qi_pte qi_pte_table(q_pa pa, bool user)
{
    return QI_PTE(pa.v | QI_X86_P | QI_X86_W | QI_X86_A | (user ? QI_X86_U : 0));
}

/* ---- Changing: pure functions of the value ---- */

static inline qi_pte qi_pte_mkwrite(qi_pte e) { return QI_PTE(e.v | QI_X86_W); }
static inline qi_pte qi_pte_wrprotect(qi_pte e) { return QI_PTE(e.v & ~QI_X86_W); }
static inline qi_pte qi_pte_mkdirty(qi_pte e) { return QI_PTE(e.v | QI_X86_D | QI_X86_A); }
static inline qi_pte qi_pte_mkclean(qi_pte e) { return QI_PTE(e.v & ~QI_X86_D); }
static inline qi_pte qi_pte_mkyoung(qi_pte e) { return QI_PTE(e.v | QI_X86_A); }
static inline qi_pte qi_pte_mkold(qi_pte e) { return QI_PTE(e.v & ~QI_X86_A); }
static inline qi_pte qi_pte_mkown(qi_pte e) { return QI_PTE(e.v | QI_PTE_OWN); }
/* A leaf of a page that others have too. */
static inline qi_pte qi_pte_mkshared(qi_pte e) { return QI_PTE(e.v & ~(QI_X86_W | QI_PTE_OWN)); }
static inline qi_pte qi_pte_set_soft(qi_pte e, uint64_t soft) { return QI_PTE(e.v | soft); }
static inline qi_pte qi_pte_clear_soft(qi_pte e, uint64_t soft) { return QI_PTE(e.v & ~soft); }

/* e with the protection and memory type of template; frame, size, accessed, dirty and software
 * bits stay.  e maps a frame. */
static inline qi_pte qi_pte_modify(qi_pte e, qi_pte template)
{
    const uint64_t keep = QI_X86_ADDR | QI_X86_A | QI_X86_D | QI_X86_PS | QI_PTE_SPECIAL |
                          QI_PTE_MOVING | QI_PTE_WAS_OPEN | QI_PTE_OWN;

    return QI_PTE((e.v & keep) | template.v);
}
/*
 * While the content of a frame moves, its leaves are no-access entries that remember what they were:
 * they still map the old frame, with its counts, for whoever takes them away (src/space/migrate.c).
 */
static inline bool qi_pte_moving(qi_pte e) { return e.v & QI_PTE_MOVING; }
static inline qi_pte qi_pte_mkmoving(qi_pte e)
{
    uint64_t open = e.v & QI_X86_P ? QI_PTE_WAS_OPEN : 0;

    return QI_PTE((e.v & ~QI_X86_P) | QI_X86_NONE | QI_PTE_MOVING | open);
}
/* What e was, or has become meanwhile. */
static inline qi_pte qi_pte_unmoving(qi_pte e)
{
    uint64_t kind = e.v & QI_PTE_WAS_OPEN ? QI_X86_P : QI_X86_NONE;

    return QI_PTE((e.v & ~(QI_X86_NONE | QI_PTE_MOVING | QI_PTE_WAS_OPEN)) | kind);
}
/* e, of any level, with another frame. */
static inline qi_pte qi_pte_elsewhere(qi_pte e, q_pfn pfn)
{
    return QI_PTE((e.v & ~QI_X86_ADDR) | pfn.v << QUIRE_PAGE_SHIFT);
}
/* The level-0 leaf number i of the 512 that replace the level-1 leaf e (of level 1 for level 2:
 * set huge again with huge = true). */
static inline qi_pte qi_pte_part(qi_pte e, unsigned i, unsigned level)
{
    qi_pte part = QI_PTE(e.v + ((uint64_t)i << QI_PT_SHIFT(level - 1)));

    return level > 1 ? part : QI_PTE(part.v & ~QI_X86_PS);
}

/* ---- Software entries ---- */

#define QI_PTE_SOFT_TYPES 32 /* types 1..31 */

static inline qi_pte qi_pte_soft(unsigned type, uint64_t payload)
{
    return QI_PTE((uint64_t)type << 1 | payload << 9);
}
static inline unsigned qi_pte_soft_type(qi_pte e) { return (unsigned)(e.v >> 1) & 31; }
static inline uint64_t qi_pte_soft_payload(qi_pte e) { return e.v >> 9; }

#endif
