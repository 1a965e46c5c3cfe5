/*
 * frame/frame.h - what higher layers may use of src/frame beyond quire/frame.h: the fast paths,
 * inline.
 *
 * Each CPU has, for each zone, order 0..9 and migrate type, an array of free blocks (a stack),
 * and one more for cold frames.  Taking one and giving one back are a few loads and stores with
 * interrupts off, under no lock.  A stack belongs to its CPU; everybody else may only read how much it
 * holds, and close it (stack.c).
 *
 * Order-0 pages and tails have in the order bits of their flags the migrate type of the stack that the
 * block came from; with zone and node above, that is the number of the stack, so that a free finds it
 * without looking at the pageblock.
 */
#ifndef QI_FRAME_FRAME_H
#define QI_FRAME_FRAME_H

#include <quire/frame.h>
#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/check.h"

/* The kinds of stacks: orders 0..9 by their number, then: */
#define QI_STACK_COLD \
    (QUIRE_HUGE_ORDER + 1) /* frames that no cache holds, and the last to go out */
#define QI_STACK_KINDS (QUIRE_HUGE_ORDER + 2)
#define QI_STACK_SMALL \
    4 /* orders from here on are many frames a block: none are kept when memory is short */
#define QI_STACK_TYPES 3 /* QUIRE_UNMOVABLE, MOVABLE, RECLAIMABLE */

struct qi_zone;

/* A load that can be part of another instruction; where plain loads are watched for races, atomic. */
#ifdef __SANITIZE_THREAD__
#define QI_PEEK(lvalue) __atomic_load_n(&(lvalue), __ATOMIC_RELAXED)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define QI_PEEK(lvalue) __atomic_load_n(&(lvalue), __ATOMIC_RELAXED)
#endif
#endif
#ifndef QI_PEEK
#define QI_PEEK(lvalue) (lvalue)
#endif
#define QI_FLAGS(p) QI_PEEK((p)->flags)

/* What only this CPU writes, and others read: n more, in one instruction if it can be. */
#ifdef __SANITIZE_THREAD__
#define QI_STEP(lvalue, n) __atomic_store_n(&(lvalue), (lvalue) + (n), __ATOMIC_RELAXED)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define QI_STEP(lvalue, n) __atomic_store_n(&(lvalue), (lvalue) + (n), __ATOMIC_RELAXED)
#endif
#endif
#ifndef QI_STEP
#define QI_STEP(lvalue, n) ((lvalue) += (n))
#endif

struct qi_stack {
    struct quire_page **top; /* above the newest; other CPUs may read it */
    /* the oldest is here, and below it qi_no_page; never changes */
    struct quire_page **base;
    /* a free at top >= end goes the slow way; other CPUs close a stack by setting it to base */
    struct quire_page **end;
    uint64_t allocs;
    uint64_t net; /* pages that came from blocks less pages that went to blocks */
    struct qi_zone *zone;
    uint32_t flags;      /* of a page that is handed out from here */
    uint16_t want, room; /* pages that it may hold now, and ever */
    uint16_t seen;       /* low bits of allocs when it was last asked whether it is idle */
    uint8_t kind, order, type;
    uint8_t batch; /* taken from the zone at once */
    uint8_t last;  /* what the zone was needed for: see stack.c */
} QI_CACHE_ALIGNED;
_Static_assert(sizeof(struct qi_stack) == 64, "the head of a stack is a cache line");

/* The bits MOVABLE, RECLAIMABLE, DMA and DMA32 of a gfp; HIGHMEM if there is such. */
#define QI_GFP_INDEX (QUIRE_DIRECT_LIMIT ? 31u : 15u)

struct qi_frame_cpu {
    struct qi_stack *fast[QI_GFP_INDEX + 1]; /* of the preferred zone, order 0; never NULL */
    struct qi_stack *stacks;                 /* [zone slot][kind][type] */
    uint32_t asked;                          /* another CPU wants these stacks to be emptied */
    uint32_t looking;                        /* at frames that it does not hold (zone.h) */
} __attribute__((aligned(QUIRE_DIRECT_LIMIT ? 512 : 256))); /* so that an index is a shift */

extern struct qi_frame_cpu qi_frame_cpus[QUIRE_MAX_CPUS];
/* Below the oldest block of each stack, so on top of an empty one.  It does not say FREE, so the test for
 * damaged frames is also the one for an empty stack. */
extern struct quire_page qi_no_page;

/* The flags that are the allocator's own business; what a user sets is his. */
#define QI_PG_STATE      (QUIRE_PG_RESERVED | QUIRE_PG_FREE | QUIRE_PG_HEAD | QUIRE_PG_TAIL)
#define QI_PG_TYPE_SHIFT (QUIRE_PG_ZONE_SHIFT - 2)     /* the two upper ones of the order bits */
#define QI_PG_PLACE      (~0u << QUIRE_PG_ZONE_SHIFT)  /* zone and node, or the place */
#define QI_PG_KEPT       (~0u << QUIRE_PG_ORDER_SHIFT) /* what a free leaves of the flags */

/* By flags >> QI_PG_TYPE_SHIFT: where in bytes the stack of order 0 is in those of a CPU.  (zone, type) */
#if QUIRE_MODEL_PLACES
#define QI_STACK_PLACES QUIRE_PLACES
#else
#define QI_STACK_PLACES (QUIRE_MAX_NODES << (QUIRE_PG_NODE_SHIFT - QUIRE_PG_ZONE_SHIFT))
#endif
#define QI_STACK_OFFSETS (QI_STACK_PLACES << (QUIRE_PG_ZONE_SHIFT - QI_PG_TYPE_SHIFT))
extern uint32_t qi_stack_offset[QI_STACK_OFFSETS];

/* Where the stacks of a place begin, by flags >> QUIRE_PG_ZONE_SHIFT. */
static inline uint32_t qi_place_stacks(uint32_t place)
{
    return qi_stack_offset[place << (QUIRE_PG_ZONE_SHIFT - QI_PG_TYPE_SHIFT)];
}

/* Flags that name a zone (qi_zone.place), as a page of that zone has them. */
static QI_ALWAYS_INLINE uint32_t qi_flags_at(const struct quire_page *p, uint32_t flags)
{
    return QUIRE_MODEL_PLACES ? (flags & ~QI_PG_PLACE) | (QI_FLAGS(p) & QI_PG_PLACE) : flags;
}

/* Stop with the values of p: what is wrong with it. */
_Noreturn void qi_page_bad(const struct quire_page *p, unsigned order, const char *what);

/* What sends an order-0 free past the fast path. */
#define QI_PG_NOT_FAST (QI_PG_STATE | QUIRE_PG_POISON)

/* Out of line: the stack of the preferred zone is empty, or has a bad frame on top; interrupts are off.
 * Free an order-0 page that is marked. */
struct quire_page *qi_page_alloc_instead(unsigned order, quire_gfp gfp, unsigned long irq);
void qi_page_free_marked(struct quire_page *p, unsigned refs);

/* Out of line: stacks are empty or full. */
struct quire_page *qi_page_alloc_slow(unsigned order, quire_gfp gfp, unsigned node);
void qi_stack_overflow(struct qi_stack *s, struct quire_page *p);
/* The same as the last thing of a free: also restores interrupts, so that the call is a jump. */
void qi_stack_overflow_restore(struct qi_stack *s, struct quire_page *p, unsigned long irq);

static inline struct qi_stack *qi_stack_of(struct qi_frame_cpu *c, uint32_t flags, unsigned kind,
                                           unsigned type)
{
    char *first = (char *)c->stacks + qi_place_stacks(flags >> QUIRE_PG_ZONE_SHIFT);

    return (struct qi_stack *)first + kind * QI_STACK_TYPES + type;
}
/* Blocks that a stack holds; any CPU. */
static inline uint32_t qi_stack_count(const struct qi_stack *s)
{
    return (uint32_t)(qi_load_relaxed(&s->top) - s->base);
}
/* Blocks of this order have stacks, of the kind of that number. */
static inline bool qi_order_stacked(unsigned order) { return order <= QUIRE_HUGE_ORDER; }

/* The stack of order 0 that a page with these flags came from; that of a block's tail, by its type. */
static QI_ALWAYS_INLINE struct qi_stack *qi_stack_home(struct qi_frame_cpu *c, uint32_t flags)
{
    return (struct qi_stack *)((char *)c->stacks + qi_stack_offset[flags >> QI_PG_TYPE_SHIFT]);
}

/* Take the top of a stack that is not empty; interrupts off. */
static QI_ALWAYS_INLINE struct quire_page *qi_stack_pop(struct qi_stack *s)
{
    struct quire_page *p = s->top[-1];

    QI_STEP(s->top, -1);
    s->allocs++;
    return p;
}

/* A page that is about to be handed out was damaged, or has a bad frame. */
static QI_ALWAYS_INLINE bool qi_page_unfit(const struct quire_page *p)
{
    return !(QI_FLAGS(p) & QUIRE_PG_FREE) || p->counts;
}

/* A page leaves the allocator with these flags and one reference. */
static QI_ALWAYS_INLINE void qi_page_hand_out(struct quire_page *p, uint32_t flags)
{
    qi_store_relaxed(&p->flags, qi_flags_at(p, flags));
    qi_store_relaxed(&p->counts, (uint64_t)1);
    p->owner = 0;
    QPORT_EVENT(FRAME_ALLOC, p, flags & QUIRE_PG_HEAD ? flags >> QUIRE_PG_ORDER_SHIFT & 31 : 0);
}

/* This CPU's stack of the preferred zone. */
static QI_ALWAYS_INLINE struct qi_stack *qi_stack_fast(unsigned order, quire_gfp gfp)
{
    /* so that the compiler does not merge both indexes, which takes one instruction more */
    uintptr_t cpu = (uintptr_t)qport_cpu() * sizeof(struct qi_frame_cpu);
    struct qi_stack **fast = ((struct qi_frame_cpu *)((uintptr_t)qi_frame_cpus + cpu))->fast;

    return QI_PEEK(fast[gfp & QI_GFP_INDEX]) + order * QI_STACK_TYPES;
}

/* A block of an order that has stacks, if there is one in that stack.  gfp without THISNODE and COLD; ZERO is
 * not looked at. */
static QI_ALWAYS_INLINE struct quire_page *qi_page_pop(unsigned order, quire_gfp gfp)
{
    unsigned long irq = qport_irq_save();
    struct qi_stack *s = qi_stack_fast(order, gfp);
    struct quire_page *p = s->top[-1];

    if (QI_UNLIKELY(qi_page_unfit(p)))
        return qi_page_alloc_instead(order, gfp, irq);
    qi_stack_pop(s);
    qi_page_hand_out(p, s->flags);
    qport_irq_restore(irq);
    return p;
}

/* quire_page_alloc(0, gfp, QUIRE_NODE_ANY). */
static QI_ALWAYS_INLINE struct quire_page *qi_page_alloc_fast(quire_gfp gfp)
{
    if (gfp & (QUIRE_GFP_THISNODE | QUIRE_GFP_ZERO | QUIRE_GFP_COLD))
        return quire_page_alloc(0, gfp, QUIRE_NODE_ANY);
    return qi_page_pop(0, gfp);
}

/* Put a page on a stack of this CPU; interrupts off. */
static QI_ALWAYS_INLINE void qi_stack_push(struct qi_stack *s, struct quire_page *p)
{
    struct quire_page **top = s->top;

    if (QI_LIKELY(top < QI_PEEK(s->end))) {
        *top = p;
        QI_STEP(s->top, 1);
    } else {
        qi_stack_overflow(s, p);
    }
}
/* The same, and interrupts are restored: the last thing of a free. */
static QI_ALWAYS_INLINE void qi_stack_push_restore(struct qi_stack *s, struct quire_page *p,
                                                   unsigned long irq)
{
    struct quire_page **top = s->top;

    if (QI_UNLIKELY(top >= QI_PEEK(s->end))) {
        qi_stack_overflow_restore(s, p, irq);
        return;
    }
    *top = p;
    QI_STEP(s->top, 1);
    qport_irq_restore(irq);
}

/* An order-0 page that was checked becomes free, and belongs on the stack that is returned. */
static QI_ALWAYS_INLINE struct qi_stack *qi_page_mark_free(struct qi_frame_cpu *c,
                                                           struct quire_page *p, uint32_t flags)
{
    QPORT_EVENT(FRAME_FREE, p, 0);
    qi_store_relaxed(&p->flags, (flags & QI_PG_KEPT) | QUIRE_PG_FREE);
    qi_store_relaxed(&p->counts, (uint64_t)0);
    return qi_stack_home(c, flags);
}

/* Free an order-0 page that must have refs as given (1, or 0 when the caller dropped the last) and
 * no mapping. */
static QI_ALWAYS_INLINE void qi_page_free_refs(struct quire_page *p, unsigned refs)
{
    uint32_t flags = quire_page_flags_now(p);
    unsigned long irq;

    if (QI_UNLIKELY(flags & QI_PG_NOT_FAST || p->counts != refs)) {
        qi_page_free_marked(p, refs);
        return;
    }
    irq = qport_irq_save();
    qi_stack_push_restore(qi_page_mark_free(&qi_frame_cpus[qport_cpu()], p, flags), p, irq);
}

/* quire_page_free(page, 0). */
static QI_ALWAYS_INLINE void qi_page_free_fast(struct quire_page *p) { qi_page_free_refs(p, 1); }

#endif
