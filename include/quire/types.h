/*
 * quire/types.h - the address kinds and the few words that every header shares.
 *
 * Five kinds of address exist in a kernel, and mixing two of them compiles silently in most
 * kernels.  Here each is a struct of one member, so that the compiler refuses the mix and the
 * generated code is that of a plain integer:
 *
 *   q_uva   user virtual     what a program uses; valid only together with a space
 *   q_pa    physical         what a page-table entry holds
 *   q_ba    bus              what a device uses; equal to q_pa only where no IOMMU stands between
 *   q_kla   kernel logical   the direct map: physical plus a constant (see quire_kla_of_pa)
 *   q_kva   kernel virtual   an area of src/kva: not contiguous in physical memory
 *
 * q_pfn is a frame number: physical address >> 12.
 */
#ifndef QUIRE_TYPES_H
#define QUIRE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t v;
} q_uva;
typedef struct {
    uint64_t v;
} q_pa;
typedef struct {
    uint64_t v;
} q_ba;
typedef struct {
    uint64_t v;
} q_kla;
typedef struct {
    uint64_t v;
} q_kva;
typedef struct {
    uint64_t v;
} q_pfn;

#define Q_UVA(x) ((q_uva){(uint64_t)(x)})
#define Q_PA(x)  ((q_pa){(uint64_t)(x)})
#define Q_BA(x)  ((q_ba){(uint64_t)(x)})
#define Q_KLA(x) ((q_kla){(uint64_t)(x)})
#define Q_KVA(x) ((q_kva){(uint64_t)(x)})
#define Q_PFN(x) ((q_pfn){(uint64_t)(x)})

#define QUIRE_PAGE_SHIFT 12
#define QUIRE_PAGE_SIZE  ((uint64_t)1 << QUIRE_PAGE_SHIFT)
#define QUIRE_PAGE_MASK  (~(QUIRE_PAGE_SIZE - 1))

/* A huge leaf and a pageblock are both 2 MiB: 512 frames, order 9. */
#define QUIRE_HUGE_ORDER 9
#define QUIRE_HUGE_SHIFT (QUIRE_PAGE_SHIFT + QUIRE_HUGE_ORDER)
#define QUIRE_HUGE_SIZE  ((uint64_t)1 << QUIRE_HUGE_SHIFT)

/* Frame number of the frame that contains pa, and the physical address of a frame's first byte. */
static inline q_pfn quire_pfn_of_pa(q_pa pa) { return Q_PFN(pa.v >> QUIRE_PAGE_SHIFT); }
static inline q_pa quire_pa_of_pfn(q_pfn pfn) { return Q_PA(pfn.v << QUIRE_PAGE_SHIFT); }

#define QUIRE_MUST_USE     __attribute__((warn_unused_result))
#define QUIRE_PRINTF(f, a) __attribute__((format(printf, f, a)))

#endif
