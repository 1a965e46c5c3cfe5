/*
 * base/bits.h - bit and range arithmetic.  Ranges are half open, [start, end).
 */
#ifndef QI_BASE_BITS_H
#define QI_BASE_BITS_H

#include <quire/types.h>

#define QI_CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define QI_COUNT(a)                     (sizeof(a) / sizeof((a)[0]))
#define QI_MIN(a, b)                   \
    ({                                 \
        __typeof__(a) qi_a_ = (a);     \
        __typeof__(b) qi_b_ = (b);     \
        qi_a_ < qi_b_ ? qi_a_ : qi_b_; \
    })
#define QI_MAX(a, b)                   \
    ({                                 \
        __typeof__(a) qi_c_ = (a);     \
        __typeof__(b) qi_d_ = (b);     \
        qi_c_ > qi_d_ ? qi_c_ : qi_d_; \
    })
#define QI_CACHE_LINE    64
#define QI_CACHE_ALIGNED __attribute__((aligned(QI_CACHE_LINE)))
#define QI_ALWAYS_INLINE inline __attribute__((always_inline))
#define QI_NOINLINE      __attribute__((noinline))

/* align is a power of two. */
static inline uint64_t qi_align_down(uint64_t v, uint64_t align) { return v & ~(align - 1); }
/* Wraps to a small value if v is within align of 2^64: check with qi_add_overflows first. */
static inline uint64_t qi_align_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) & ~(align - 1);
}
static inline bool qi_is_aligned(uint64_t v, uint64_t align) { return !(v & (align - 1)); }
static inline bool qi_is_pow2(uint64_t v) { return v && !(v & (v - 1)); }

static inline bool qi_add_overflows(uint64_t a, uint64_t b, uint64_t *sum)
{
    return __builtin_add_overflow(a, b, sum);
}
static inline bool qi_mul_overflows(uint64_t a, uint64_t b, uint64_t *product)
{
    return __builtin_mul_overflow(a, b, product);
}

/* The high half of a * b; *low: the low half. */
static inline uint64_t qi_mul_wide(uint64_t a, uint64_t b, uint64_t *low)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;

    *low = (uint64_t)product;
    return (uint64_t)(product >> 64);
#else
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t mid = (al * bl >> 32) + (uint32_t)(ah * bl) + (uint32_t)(al * bh);

    *low = a * b;
    return ah * bh + (ah * bl >> 32) + (al * bh >> 32) + (mid >> 32);
#endif
}

/* Index of the lowest / highest set bit; v must not be 0. */
static inline unsigned qi_lowest_bit(uint64_t v) { return (unsigned)__builtin_ctzll(v); }
static inline unsigned qi_highest_bit(uint64_t v) { return 63u - (unsigned)__builtin_clzll(v); }
/* Bits set.  Not the builtin: without POPCNT it is a call into a library that kernels lack. */
static inline unsigned qi_popcount(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)(x * 0x0101010101010101u >> 56);
}
/* Smallest n with 1 << n >= v; v >= 1. */
static inline unsigned qi_log2_ceil(uint64_t v) { return v <= 1 ? 0 : qi_highest_bit(v - 1) + 1; }

#endif
