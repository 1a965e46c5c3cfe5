/*
 * slab/slab.h - the structures of the heap and what its files share.  slab.c has the theory.
 */
#ifndef QI_SLAB_H
#define QI_SLAB_H

#include <quire/heap.h>

#include "../base/bits.h"
#include "../base/list.h"
#include "../base/trace.h"
#include "../sync/rwsem.h"
#include "../sync/spin.h"
#include "large.h"
#include "mail.h"

/*
 * What an object's state byte says.  IN: free, wherever it lies; the slab's bitmap tells the slab
 * from the sheaves.  QI_OBJ_OUT(node of the slab): out; the node saves a free one comparison.
 * GUARDED: out, and its free must look at guards or poison.  HELD: freed, in the quarantine.
 * DEFERRED: freed, as soon as no reader looks at it (late.c).  EDGE stands before the first and after
 * the last object and is never an object's.
 */
#define QI_OBJ_IN        0u
#define QI_OBJ_OUT(node) ((uint8_t)((node) + 1))
#define QI_OBJ_DEFERRED  0xfbu
#define QI_OBJ_HELD      0xfcu
#define QI_OBJ_GUARDED   0xfdu
#define QI_OBJ_NEVER     0xfeu
#define QI_OBJ_EDGE      0xffu

/* A holder may free the object with this state; for states of no object too. */
static inline bool qi_is_out(uint8_t state)
{
    return state != QI_OBJ_IN && state != QI_OBJ_HELD && state != QI_OBJ_DEFERRED &&
           state != QI_OBJ_EDGE;
}

/* An object in a sheaf goes with the address of its state, so that taking it needs no look-up. */
struct qi_entry {
    void *obj;
    uint8_t *state;
};

#define QI_SHEAF_MAX 128u

struct qi_sheaf {
    struct qi_sheaf *next; /* in the barn: its lock */
    uint32_t n;            /* entries; not kept while the sheaf is a CPU's main one */
    struct qi_entry e[];   /* [quire_cache.sheaf_cap] */
};

/*
 * Who may be in a fast path on one CPU at a time.  With QPORT_CONTEXTS each context of a CPU has
 * sheaves of its own, so that an interrupt handler finds others than the task that it interrupted, and
 * interrupts stay on.  Without, the contexts of a CPU share its sheaves and interrupts are off.
 */
#ifdef QPORT_CONTEXTS
#define QI_CPU_CONTEXTS QPORT_CONTEXTS
static QI_ALWAYS_INLINE unsigned long qi_enter(void)
{
    qport_preempt_disable();
    return 0;
}
static QI_ALWAYS_INLINE void qi_leave(unsigned long irq)
{
    (void)irq;
    qport_preempt_enable();
}
#define qi_context() qport_context()
#else
#define QI_CPU_CONTEXTS 1u
#define qi_enter()      qport_irq_save()
#define qi_leave(irq)   qport_irq_restore(irq)
#define qi_context()    qport_cpu()
#endif
#define QI_CONTEXTS (QUIRE_MAX_CPUS * QI_CPU_CONTEXTS)

/* One context's part of a cache: a CPU's, or one of it.  Written by that context; by a lower one of the
 * CPU with interrupts off; others only look (statistics) and set drain. */
struct qi_cache_cpu {
    struct qi_entry *top;  /* first empty entry of the main sheaf */
    struct qi_entry *base; /* its entry 0; top == base: nothing to take */
    struct qi_entry *end;  /* top == end: no room to give */
    uint16_t aside;        /* objects in spare and remote */
    uint8_t node;          /* of this CPU: the home of all objects in main and spare */
    uint8_t out;           /* QI_OBJ_OUT(node) */
    uint32_t drain;        /* atomic; set by others: flush at the next slow path */
    uint64_t frees;        /* others may read it at any time, for statistics */
    struct qi_sheaf *main, *spare;
    struct qi_sheaf *remote; /* objects on their way home to other nodes */
};
_Static_assert(sizeof(struct qi_cache_cpu) == 64 || sizeof(void *) < 8, "struct qi_cache_cpu");

enum qi_slab_list { QI_SLAB_EMPTY, QI_SLAB_PARTIAL, QI_SLAB_FULL, QI_SLAB_LISTS };

/* A run of pages cut into objects, and its books.  Lies outside the run, but for internal caches.  A cache line, so that
 * the states begin at one: as many as a line has are a CPU's that fills its sheaf from here. */
struct qi_slab {
    /* constant while the slab lives: read without a lock */
    struct quire_cache *cache;
    uint64_t recip;   /* ceil(2^64 / slot size); 0: nothing that a user may free lies here */
    uintptr_t origin; /* where an object number 0 would be: objects count from 1 */
    uint16_t n;       /* objects */
    uint8_t node;
    uint8_t order;
    /* cache->node[node].lock */
    uint8_t list; /* enum qi_slab_list */
    uint8_t hint; /* no free object in bitmap words below */
    uint16_t nfree;
    struct qi_list link;
    struct quire_page *page;
    struct qi_track *track; /* atomic; records of its objects (track.c), or NULL */
    /* state[i] belongs to whoever holds object i */
    uint8_t state[]; /* [n + 2], then the bitmap */
};
_Static_assert(sizeof(struct qi_slab) == 64 || sizeof(void *) < 8, "struct qi_slab");
_Static_assert(QUIRE_MAX_NODES <= 255, "qi_slab.node");

/* Bit i: object i + 1 is in the slab.  Of whoever has the lock. */
static inline uint64_t *qi_slab_bits(const struct qi_slab *s)
{
    return (uint64_t *)((uintptr_t)s + (uintptr_t)qi_align_up(sizeof *s + s->n + 2u, 8));
}

struct qi_cache_node {
    struct qi_spin lock; /* taken with interrupts off */
    uint32_t nempty;     /* slabs on slabs[EMPTY] */
    uint32_t nfull_sheaves, nempty_sheaves;
    struct qi_sheaf *full_sheaves, *empty_sheaves; /* the barn */
    struct qi_list slabs[QI_SLAB_LISTS];
    struct qi_mail mail; /* no lock; full sheaves that CPUs of other nodes sent */
    uint64_t nslabs;
    uint64_t objects;     /* in all slabs */
    uint64_t in_slabs;    /* of them, free in slabs */
    uint64_t barn_cached; /* of them, in full sheaves */
    uint64_t frees;       /* that did not go through a CPU's sheaf */
    uint64_t randoms;     /* numbers drawn */
};

/* Why the fast path must not be taken; quire_cache.slow, atomic.  Bits that no quire_gfp has, so that
 * both are tested at once: QI_SLOW_ANY. */
#define QI_SLOW_ZERO    0x10000u
#define QI_SLOW_GUARDS  0x20000u  /* QI_CACHE_MODES */
#define QI_SLOW_FAILING 0x40000u  /* quire_heap_fail_after() is armed */
#define QI_SLOW_TRACK   0x80000u  /* each allocation is recorded */
#define QI_SLOW_SAMPLE  0x100000u /* an allocation may become a sampled object (sample.c) */
#define QI_SLOW_ANY     0xffff0000u

/* quire_cache.flags beyond the public ones. */
#define QI_CACHE_SIZED  0x100u /* kmalloc's: with red zones, each object knows the size asked for */
#define QI_CACHE_BARE   0x200u /* the heap's own books: no mode of quire/harden.h applies */
#define QI_CACHE_CLOSED 0x400u /* entries of its sheaves and links of its barn are encoded */
#define QI_CACHE_RANDOM 0x800u
#define QI_CACHE_CLEAR  0x1000u /* freed objects are cleared */
#define QI_CACHE_HOLD   0x2000u /* freed objects wait in the quarantine */
#define QI_CACHE_HIDDEN 0x4000u /* from the leak scan */
#define QI_CACHE_MODES \
    (QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON | QI_CACHE_CLOSED | QI_CACHE_CLEAR | QI_CACHE_HOLD)

struct quire_cache {
    struct qi_cache_cpu *cpu[QI_CONTEXTS]; /* atomic; qi_no_cpu until a context's first use */
    uint32_t slow;                         /* atomic; QI_SLOW_* */
    uint32_t flags;                        /* QUIRE_CACHE_*, QI_CACHE_* */
    uint32_t held;                         /* atomic; objects in quarantine */
    uint32_t slot;                         /* bytes from object to object */
    uint32_t size;                         /* bytes asked */
    uint32_t left;                         /* red zone in front, a multiple of the alignment */
    uint32_t align;
    uint32_t flushing; /* atomic; who lets its objects go from quarantine now */
    uint64_t recip;
    uint8_t order, min_order;
    uint8_t sheaf_cap;   /* objects a sheaf of this cache may hold: 1..QI_SHEAF_MAX */
    uint8_t max_sheaves; /* of either kind in a barn */
    uint16_t max_empty;  /* slabs kept empty on a node */
    bool internal;       /* no sheaves, header inside the slab */
    bool fixed;          /* not to be destroyed */
    void (*ctor)(void *);
    const char *name;
    struct quire_cache *sheaves; /* where its sheaves come from */
    struct qi_list link;         /* qi_caches, its lock */
    struct qi_cache_node node[QUIRE_MAX_NODES];
};

extern struct qi_cache_cpu qi_no_cpu;
/* Offset into the direct map beyond every slab and run there ever was; only grows.  Atomic. */
extern uintptr_t qi_heap_end;
/* All caches, and what guards the list. */
extern struct qi_list qi_caches;
extern struct qi_rwsem qi_caches_lock;

/* To the compiler p is a new value from here on: an address is computed once, or a word in memory is
 * changed there, where it would take a register otherwise. */
#define QI_OPAQUE(p) __asm__("" : "+r"(p))

#define QI_GFP_SPECIAL (QUIRE_GFP_ZERO | QUIRE_GFP_DMA | QUIRE_GFP_DMA32 | QUIRE_GFP_THISNODE)

/* ---- slab.c: sheaves and barn.  The slow ways are never inlined into the fast ones, for the sake of their
 * registers. ---- */
QI_NOINLINE void *qi_alloc_slow(struct quire_cache *c, quire_gfp gfp);
/* For asked bytes, or SIZE_MAX for c->size: what lies behind them is a red zone, where there is one. */
QI_NOINLINE void *qi_alloc_special(struct quire_cache *c, quire_gfp gfp, unsigned node,
                                   size_t asked, uintptr_t caller);
/* Free p, finding out what it is; c NULL: of any cache, and p may be NULL. */
QI_NOINLINE void qi_free_slow(struct quire_cache *c, void *p, uintptr_t caller);
/* Panic unless p may be freed; the state of an object in a slab, or NULL. */
void qi_identify_any(void *p, uint8_t **state);
/* An object whose state byte is IN, to this CPU's sheaves or where it belongs. */
void qi_give(struct qi_slab *s, struct qi_entry e);
/* This CPU's sheaves back to the slabs; interrupts off. */
void qi_drain_cpu(struct quire_cache *c, struct qi_cache_cpu *cc);
void qi_drain_barn(struct quire_cache *c, unsigned node);

/* ---- slabs.c: the slab tier.  Interrupts off throughout. ---- */
/* Move up to want objects of node's slabs to out; the node's lock is held. */
unsigned qi_slabs_take_locked(struct quire_cache *c, struct qi_cache_node *cn, struct qi_entry *out,
                              unsigned want);
/* Give entries back to their slabs, of whichever nodes. */
void qi_slabs_give(struct quire_cache *c, struct qi_entry *e, unsigned n);
/* Make a slab with memory of node (THISNODE in gfp: no other) and put it on its node's list; its
 * node, or QUIRE_NODE_ANY: no memory. */
unsigned qi_slab_grow(struct quire_cache *c, quire_gfp gfp, unsigned node);
/* Slabs or runs of the heap lie up to this offset into the direct map. */
void qi_heap_reaches(uintptr_t end);
/* Give empty slabs back until at most keep are left on the node; frames given. */
size_t qi_slabs_shrink(struct quire_cache *c, unsigned node, uint32_t keep);
/* To the frame allocator; s is on no list. */
void qi_slab_release(struct qi_slab *s);
/* One object of an internal cache, and back. */
void *qi_internal_alloc(struct quire_cache *c, quire_gfp gfp);
void qi_internal_free(struct quire_cache *c, void *obj);
/* The state of obj, which lies in a slab; NULL: it is not an object of c that is out. */
uint8_t *qi_internal_state(const struct quire_cache *c, const void *obj);
/* Objects that fit in 2^order pages. */
unsigned qi_slab_objects(const struct quire_cache *c, unsigned order);
size_t qi_slab_header_bytes(unsigned objects);

/* ---- cache.c: registry ---- */
extern struct quire_cache qi_cpu_cache;
/* The internal cache for sheaves of n objects. */
struct quire_cache *qi_sheaf_cache(unsigned n);
/* p lies in a slab and is a sheaf, in use. */
bool qi_is_sheaf(const void *p);
/* The internal cache for the header of a slab of n objects. */
struct quire_cache *qi_header_cache(unsigned n);
void qi_cache_setup(struct quire_cache *c, const char *name, size_t size, size_t align,
                    unsigned flags, void (*ctor)(void *));
void qi_cache_register(struct quire_cache *c);
/* Set up and register one whose slabs hold their headers: not to be destroyed. */
void qi_cache_setup_internal(struct quire_cache *c, const char *name, size_t size, size_t align);
/* Send all caches' allocations to qi_alloc_special() for this reason, QI_SLOW_*, or no more.  Task;
 * qi_caches_lock is held for writing. */
void qi_caches_set_slow(uint32_t why);
void qi_caches_clear_slow(uint32_t why);
/* True if the call that asks is the one that has to fail. */
bool qi_heap_fail_now(void);

/* ---- guard.c: red zones and poison ---- */
#define QI_GUARD_BYTES 16u /* at least so many behind an object with red zones */
void qi_guard_new(const struct quire_cache *c, void *obj); /* slab of a cache with POISON made */
/* Checks poison, sets red zones. */
void qi_guard_alloc(const struct quire_cache *c, void *obj, size_t asked);
/* Bytes the holder of an object that is out may use. */
size_t qi_guard_size(const struct quire_cache *c, const void *obj);
/* Of kmalloc: the holder uses no more than so many from now on; not more than before. */
void qi_guard_shrink(void *obj, size_t asked);
void qi_guard_free(const struct quire_cache *c,
                   void *obj); /* checks red zones, poisons or clears */
/* Panic if a free object was written to, where that can be seen. */
void qi_guard_check_free(const struct quire_cache *c, const void *obj);
/* First damaged byte around an object that is out, or inside one that is in; NULL: intact. */
const uint8_t *qi_guard_damage(const struct quire_cache *c, const void *obj, bool out);

/* ---- late.c: frees that wait for readers ---- */
void qi_late_init(void);
/* An empty slab of a cache with QUIRE_CACHE_RCU, on no list; any context. */
void qi_late_slab(struct qi_slab *s);
/* Free what no reader holds any more; any context. */
void qi_late_poll(void);
/* Free all that was deferred before the call; task context, not a reader. */
void qi_late_flush(void);

/* ---- kmalloc.c ---- */
void qi_kmalloc_init(void);
/* A bit less in quire_cache.slow of all of kmalloc's caches. */
void qi_kmalloc_clear_slow(uint32_t bit);
/* To be called after quire_cache.slow of kmalloc's caches has changed. */
void qi_kmalloc_slow_changed(void);

/* ---- runs.c: of more than the largest class ---- */
/* For whoever called kmalloc at caller; NULL: no memory, or none as large. */
void *qi_run_alloc(size_t size, quire_gfp gfp, unsigned node, uintptr_t caller);
/* p lies in page, which has OWNER_RUN.  Both panic if it is not where one begins. */
void qi_run_free(struct quire_page *page, void *p);
size_t qi_run_room(const struct quire_page *page, const void *p);
/* Frames given back of what is kept free; all books are right, else the log says which are not. */
size_t qi_runs_shrink(void);
bool qi_runs_verify(void);

/* What c's slabs must be allocated with besides what the caller says. */
static inline quire_gfp qi_zone_gfp(const struct quire_cache *c)
{
    return (c->flags & QUIRE_CACHE_DMA ? QUIRE_GFP_DMA : 0) |
           (c->flags & QUIRE_CACHE_DMA32 ? QUIRE_GFP_DMA32 : 0);
}
/* c's objects are as low as gfp, which asks for DMA or DMA32, wants them. */
static inline bool qi_cache_is_low(const struct quire_cache *c, quire_gfp gfp)
{
    return c->flags & (gfp & QUIRE_GFP_DMA ? QUIRE_CACHE_DMA : QUIRE_CACHE_DMA | QUIRE_CACHE_DMA32);
}
/* quire_page.owner of each page of a slab is the slab; of the first page of a run, which is a kmalloc of
 * whole pages, qi_run_slab, and its links are the size. */
extern struct qi_slab qi_run_slab;

static inline struct qi_slab *qi_slab_of_page(const struct quire_page *page)
{
    return (struct qi_slab *)(uintptr_t)page->owner;
}
static inline bool qi_page_is_run(const struct quire_page *page)
{
    return qi_slab_of_page(page) == &qi_run_slab;
}
static inline void qi_page_make_run(struct quire_page *page, uint64_t bytes)
{
    qi_store_relaxed(&page->owner, (uint64_t)(uintptr_t)&qi_run_slab);
    page->next = (uint32_t)bytes;
    page->prev = (uint32_t)(bytes >> 32);
}
static inline uint64_t qi_run_size(const struct quire_page *page)
{
    return (uint64_t)page->prev << 32 | page->next;
}
/* Of a page with QUIRE_PG_SLAB. */
static inline bool qi_page_has_objects(const struct quire_page *page)
{
    return page->owner && qi_slab_of_page(page)->recip;
}
static inline void *qi_slab_object(const struct qi_slab *s, unsigned i)
{
    return (void *)(s->origin + (uintptr_t)i * s->cache->slot);
}
/* Where an object begins with its red zone. */
static inline void *qi_slot_of(const struct quire_cache *c, void *obj)
{
    return (char *)obj - c->left;
}
/* What its objects' states say while they are out.  With one node all say the same, and a CPU without sheaves is known by
 * its having no room. */
static QI_ALWAYS_INLINE uint8_t qi_cpu_out(const struct qi_cache_cpu *cc)
{
    return QUIRE_MAX_NODES == 1 ? QI_OBJ_OUT(0) : cc->out;
}
static inline uint32_t qi_cpu_count(const struct qi_cache_cpu *cc)
{
    return (uint32_t)(qi_load_relaxed(&cc->top) - cc->base);
}

/* Take an object from this CPU's main sheaf; false: it is empty, and nothing has happened.  See slab.c, "The
 * fast path".  For calls that have found neither a special flag nor c->slow. */
static QI_ALWAYS_INLINE bool qi_pop(struct quire_cache *c, void **obj)
{
    struct qi_cache_cpu *cc;
    struct qi_entry *top;
    unsigned long irq;

    irq = qi_enter();
    cc = qi_load_relaxed(&c->cpu[qi_context()]);
    top = cc->top;
    if (QI_UNLIKELY(top == cc->base)) {
        qi_leave(irq);
        return false;
    }
    QI_OPAQUE(cc);
    qi_own_add(&cc->top, -1);
    *top[-1].state = qi_cpu_out(cc);
    *obj = top[-1].obj;
    if (!*obj) /* then the caller, who tests for NULL, does so after the slow way only */
        __builtin_unreachable();
    QPORT_EVENT(OBJECT_ALLOC, *obj, c->slot);
    qi_leave(irq);
    return true;
}

static QI_ALWAYS_INLINE void *qi_alloc_plain(struct quire_cache *c, quire_gfp gfp)
{
    void *obj;

    return QI_LIKELY(qi_pop(c, &obj)) ? obj : qi_alloc_slow(c, gfp);
}

/* caller 0: whoever called the function that this stands in; asked for only when it is needed. */
static QI_ALWAYS_INLINE void *qi_alloc_fast(struct quire_cache *c, quire_gfp gfp, size_t asked,
                                            uintptr_t caller)
{
    gfp |= qi_load_operand(&c->slow);
    QI_OPAQUE(gfp);
    if (QI_UNLIKELY(gfp & (QI_GFP_SPECIAL | QI_SLOW_ANY)))
        return qi_alloc_special(c, gfp, QUIRE_NODE_ANY, asked, caller ? caller : QI_CALLER());
    return qi_alloc_plain(c, gfp);
}

/* The object number of p in s, 1..n; anything that is no object's first byte gives a number whose
 * state is not OUT, or false. */
static QI_ALWAYS_INLINE bool qi_slab_index(const struct qi_slab *s, const void *p, uint64_t *index)
{
    /* p = origin + k * slot + r: the high half is k, and the low half is below recip if and only
     * if r is 0 (Lemire, Kaser, Kurz: "Faster remainder by direct computation", 2019) */
    uint64_t low;

    *index = qi_mul_wide((uintptr_t)p - s->origin, s->recip, &low);
    return low < s->recip;
}

/* Set *s to the slab that p lies in; false: in none.  (Not the slab or NULL: that would be tested once
 * more.)  qi_slab_index() says whether it is an object of a user. */
static QI_ALWAYS_INLINE bool qi_slab_of_user(const void *p, struct qi_slab **s)
{
    uintptr_t off = (uintptr_t)p - QPORT_DIRECT_BASE;
    const struct quire_page *page;

    if (QI_UNLIKELY(off >= qi_load_operand(&qi_heap_end)))
        return false;
    page = quire_page_of_pfn(Q_PFN(off >> QUIRE_PAGE_SHIFT));
    /* nobody but the heap changes the flags of its pages: a plain read */
    if (QI_UNLIKELY(!(page->flags & QUIRE_PG_SLAB)))
        return false;
    *s = qi_slab_of_page(page);
    return true;
}

/* Give p, an object of c, to this CPU's main sheaf; false if anything is unusual: an object of another
 * node, or one that is in, whose state is not this CPU's out; a full sheaf. */
static QI_ALWAYS_INLINE bool qi_free_plain(struct quire_cache *c, void *p, uint8_t *state)
{
    struct qi_cache_cpu *cc;
    struct qi_entry *top;
    unsigned long irq;

    irq = qi_enter();
    cc = qi_load_relaxed(&c->cpu[qi_context()]);
    top = cc->top;
    if (QI_UNLIKELY(*state != qi_cpu_out(cc) || top == cc->end)) {
        qi_leave(irq);
        return false;
    }
    QPORT_EVENT(OBJECT_FREE, p, c->slot);
    *state = QI_OBJ_IN;
    top->obj = p;
    top->state = state;
    qi_own_add(&cc->top, 1);
    cc->frees++;
    qi_leave(irq);
    return true;
}

/* p, of any cache, to this CPU's main sheaf; false if anything is unusual, NULL too, which looks like a pointer
 * far beyond the heap. */
static QI_ALWAYS_INLINE bool qi_push_any(void *p)
{
    struct qi_slab *s;
    uint8_t *state;
    uint64_t i;

    if (QI_UNLIKELY(!qi_slab_of_user(p, &s) || !qi_slab_index(s, p, &i)))
        return false;
    state = &s->state[i];
    QI_OPAQUE(state);
    return qi_free_plain(s->cache, p, state);
}

/* caller as of qi_alloc_fast(). */
static QI_ALWAYS_INLINE void qi_free_any(void *p, uintptr_t caller)
{
    if (QI_UNLIKELY(!qi_push_any(p)))
        qi_free_slow(NULL, p, caller ? caller : QI_CALLER());
}

static QI_ALWAYS_INLINE void qi_free_fast(struct quire_cache *c, void *p)
{
    struct qi_slab *s;
    uint8_t *state;
    uint64_t i;

    if (QI_LIKELY(qi_slab_of_user(p, &s) && s->cache == c && qi_slab_index(s, p, &i))) {
        state = &s->state[i];
        QI_OPAQUE(state);
        if (QI_LIKELY(qi_free_plain(c, p, state)))
            return;
    }
    qi_free_slow(c, p, QI_CALLER());
}

#endif
