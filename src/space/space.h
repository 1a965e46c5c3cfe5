/*
 * space/space.h - the address space as the files of this folder share it.  Theory: space.c.
 */
#ifndef QI_SPACE_SPACE_H
#define QI_SPACE_SPACE_H

#include "../base/list.h"
#include "../object/object.h"
#include "../pt/gather.h"
#include "../pt/pt.h"
#include "../sync/rwsem.h"
#include <quire/colour.h>
#include <quire/heap.h>
#include <quire/policy.h>
#include <quire/space.h>

/* vma.flags: the low three are QUIRE_READ, WRITE, EXEC. */
#define QI_VM_PROT        0x0007u
#define QI_VM_SHARED      0x0008u
#define QI_VM_GROWSDOWN   0x0010u
#define QI_VM_LOCKED      0x0020u
#define QI_VM_LOCKONFAULT 0x0040u
#define QI_VM_DONTFORK    0x0080u
#define QI_VM_WIPEONFORK  0x0100u
#define QI_VM_DONTDUMP    0x0200u
#define QI_VM_HUGE        0x0400u
#define QI_VM_NOHUGE      0x0800u
#define QI_VM_NORESERVE   0x1000u
#define QI_VM_SEQUENTIAL  0x2000u
#define QI_VM_RANDOM      0x4000u

/* One mapping: [start, end) with one protection and one backing. */
struct qi_vma {
    /* tree by address, and list: under the space's lock (write) */
    struct qi_vma *left, *right, *parent;
    uint64_t start, end;
    uint64_t max_gap; /* largest gap below a vma of this subtree */
    struct qi_vma *prev, *next;
    uint32_t flags; /* QI_VM_* */
    uint8_t rank;   /* in the tree */
    uint8_t max_prot;
    bool has_anon;               /* some leaf maps (or did map) a private page; only ever set */
    struct quire_object *object; /* NULL: private anonymous; holds a reference */
    uint64_t pgoff;              /* page of object at start */
    const char *name;
    struct quire_policy *policy; /* of new private pages; a reference, or NULL (policy.c) */
    struct quire_space *space;
    struct qi_list object_link; /* on object->vmas; under its map_lock */
};

enum qi_rss { QI_RSS_ANON, QI_RSS_FILE, QI_RSS_SHARED, QI_RSS_KINDS };

struct quire_space {
    uint32_t refs; /* atomic */
    struct qi_rwsem lock;
    /* atomic; set under lock (write): some leaves of private pages move, and no writer may enter */
    uint32_t moving;
    struct qi_tlb tlb;

    /* under lock */
    struct qi_vma *root, *first, *last;
    struct qi_vma *hit; /* where the last look-up ended; a hint, any reader writes it */
    uint32_t nvmas;
    uint64_t start, end; /* usable user addresses; constant */
    uint64_t mmap_base;
    uint64_t brk_start, brk_end, stack_top;
    uint32_t lock_future; /* QI_VM_LOCKED | QI_VM_LOCKONFAULT for mappings to come */
    bool randomize;
    struct quire_colouring colouring;                          /* of private pages; atomic */
    uint64_t total, locked, data, exec, stack;                 /* pages */
    uint64_t peak_total, peak_rss;                             /* peak_rss: atomic */
    uint64_t limit_as, limit_data, limit_stack, limit_memlock; /* bytes */

    int64_t rss[QI_RSS_KINDS]; /* atomic; pages */

    struct qi_list link; /* of all spaces; under the lock of that list */
    /* the mover's, of which there is one at a time */
    struct quire_space *move_next;
    uint64_t move_start, move_end; /* where leaves may be that it is looking for */
};

/* End of the half of the table that a space may use; s->end may lie a little below. */
#define QI_USER_HALF   (1ull << (QI_PT_VA_BITS - 1))
#define QI_STACK_GUARD (256 * QUIRE_PAGE_SIZE)

static inline uint64_t qi_vma_pages(const struct qi_vma *v)
{
    return (v->end - v->start) >> QUIRE_PAGE_SHIFT;
}
static inline bool qi_vma_private(const struct qi_vma *v) { return !(v->flags & QI_VM_SHARED); }
/* Where the next vma below must end: a growing stack keeps a guard gap. */
static inline uint64_t qi_vma_floor(const struct qi_vma *v)
{
    uint64_t guard = v->flags & QI_VM_GROWSDOWN ? QI_STACK_GUARD : 0;

    return v->start > guard ? v->start - guard : 0;
}
static inline uint64_t qi_vma_pgoff(const struct qi_vma *v, uint64_t va)
{
    return v->pgoff + ((va - v->start) >> QUIRE_PAGE_SHIFT);
}

/* Where v maps page index of its object. */
static inline uint64_t qi_vma_address(const struct qi_vma *v, uint64_t index)
{
    return v->start + ((index - v->pgoff) << QUIRE_PAGE_SHIFT);
}

/* ---- registry.c: all spaces ---- */

void qi_registry_setup(void);
/* s can be found from now on; it is complete. */
void qi_space_register(struct quire_space *s);
/* s ends: it cannot be found any more. */
void qi_space_unregister(struct quire_space *s);
/* The one after s (NULL: the first), oldest first, referenced; NULL: no more.  s is referenced, too, and
 * stays so. */
struct quire_space *qi_space_after(struct quire_space *s);

/* ---- migrate.c: see migrate.h ---- */

/* Under no lock: no leaf of s moves.  Only a moment's truth without s->lock. */
void qi_move_wait_all(struct quire_space *s);
/* The leaf at slot does not move: what it is now.  The space's lock is held, for reading or writing, and no
 * map_lock. */
qi_pte qi_move_wait(qi_pte *slot);
/* Who closed a leaf by himself has opened it again: wake who waits for that. */
void qi_move_wake_waiting(void);

/* Lock s for writing.  Leaves of its private pages do not move meanwhile; those of objects may, if their
 * map_lock is not held. */
static inline void qi_space_lock(struct quire_space *s)
{
    qi_rwsem_write_lock(&s->lock);
    while (QI_UNLIKELY(qi_load_acquire(&s->moving))) {
        qi_rwsem_write_unlock(&s->lock);
        qi_move_wait_all(s);
        qi_rwsem_write_lock(&s->lock);
    }
}

/* ---- vmatree.c: the tree and the list.  All under the space's lock; changes: for writing. ---- */

/* The vma with end > va and the lowest such end: contains va, or lies above it; NULL: none. */
struct qi_vma *qi_vma_find(struct quire_space *s, uint64_t va);
/* Link v behind prev (NULL: as the first).  The range is free. */
void qi_vma_link(struct quire_space *s, struct qi_vma *v, struct qi_vma *prev);
void qi_vma_unlink(struct quire_space *s, struct qi_vma *v);
/* v->start or v->end, or its guard, has changed: put the gaps right. */
void qi_vma_moved(struct quire_space *s, struct qi_vma *v);
/* Highest address a <= high - len with [a, a + len) free and a >= low, a aligned; 0: none. */
uint64_t qi_gap_find(struct quire_space *s, uint64_t len, uint64_t align, uint64_t low,
                     uint64_t high);
bool qi_vmatree_verify(struct quire_space *s);

/* ---- vma.c: splitting, merging, accounting ---- */

enum quire_status qi_vma_setup(void);
struct qi_vma *qi_vma_alloc(struct quire_space *s);
/* Not linked; its object reference and link are gone already or never were. */
void qi_vma_free(struct qi_vma *v);
/* Link to / unlink from its object, with the reference. */
void qi_vma_object_link(struct qi_vma *v);
void qi_vma_object_unlink(struct qi_vma *v);
/* Cut v at: v keeps [start, at); spare (from qi_vma_alloc) becomes [at, end).  Cannot fail. */
void qi_vma_split(struct qi_vma *v, uint64_t at, struct qi_vma *spare);
/* Make a vma boundary at `at`, if one lies across it.  NO_MEMORY: also too many vmas. */
enum quire_status qi_vma_boundary(struct quire_space *s, uint64_t at);
/* Give [start, end), inside *v, these flags, cutting as needed.  *v becomes the vma at start, not
 * yet merged: the caller does (also after a failure, which leaves the flags but may have cut). */
enum quire_status qi_vma_reflag(struct qi_vma **v, uint64_t start, uint64_t end, uint32_t flags);
/* Merge v with its neighbours where they are alike.  Returns the vma that now contains v's range.
 */
struct qi_vma *qi_vma_merge(struct qi_vma *v);
/* True if v and a mapping of these properties that starts at v->end can be one. */
bool qi_vma_extends(const struct qi_vma *v, const struct qi_vma *like);
/* Add (sign 1) or take off (-1) pages of a mapping of these flags. */
void qi_space_account(struct quire_space *s, uint32_t flags, int64_t pages);
/* RLIMIT_AS and RLIMIT_DATA allow that many more pages of these flags. */
bool qi_space_may_grow(const struct quire_space *s, uint32_t flags, uint64_t pages);
bool qi_counts_as_data(uint32_t flags);
/* Linux's heuristic overcommit: only what can obviously never be met is refused. */
bool qi_overcommits(uint32_t flags, uint64_t pages);

/* ---- zap.c: taking pages away ---- */

/* Take every page of [start, end) of v out, through the gather; huge leaves that stick out are
 * split by the caller before (qi_huge_boundary). */
void qi_zap(struct qi_gather *g, struct qi_vma *v, uint64_t start, uint64_t end);
/* A huge leaf across va is split into small ones: NO_MEMORY, nothing changed. */
enum quire_status qi_huge_boundary(struct quire_space *s, uint64_t va);
/* All huge leaves inside [start, end). */
enum quire_status qi_huge_split_range(struct quire_space *s, uint64_t start, uint64_t end);
void qi_object_unmap(struct quire_object *o, uint64_t from, uint64_t to, bool copies);
/* protect.c: what qi_object_clean_hook asks for. */
bool qi_object_clean(struct quire_object *o, uint64_t index, const struct quire_page *page);
/* Teardown of a space that no CPU has loaded: pages are dropped at once. */
void qi_zap_all(struct quire_space *s);
void qi_peak_rss(struct quire_space *s);

/* ---- fault.c ---- */

enum quire_status qi_fault_setup(void);
/* One page of v at va for access, space lock held for reading (or writing).  WRITE where v is private and
 * does not allow it: the page becomes ours alone, and the leaf OWN, with what rights v gives. */
enum quire_status qi_fault_page(struct qi_vma *v, uint64_t va, unsigned access);
/* Fault [start, end) in, for writing where the vma allows; stops at the first failure. */
enum quire_status qi_populate(struct quire_space *s, uint64_t start, uint64_t end, bool write);
bool qi_access_allowed(const struct qi_vma *v, unsigned access);
q_pfn qi_zero_pfn(void);
/* Extend the stack *v down to contain va (space lock held for writing); *v becomes the vma that does. */
enum quire_status qi_stack_grow(struct qi_vma **v, uint64_t va);

/* ---- policy.c ---- */

/* v gets p, or none, and a reference on it; for v->policy of a vma that is made like another, too. */
void qi_vma_set_policy(struct qi_vma *v, struct quire_policy *p);
bool qi_vma_same_policy(const struct qi_vma *a, const struct qi_vma *b);
/* What from says, with a reference of its own; others may get and put from meanwhile. */
void qi_policy_copy(struct quire_policy *to, const struct quire_policy *from);
/* A page for va from where p says. */
struct quire_page *qi_policy_page(const struct quire_policy *p, uint64_t va, unsigned order,
                                  quire_gfp gfp);
/* The policy that counts for v, or NULL. */
static inline const struct quire_policy *qi_vma_policy(const struct qi_vma *v)
{
    return v->policy ? v->policy : QPORT_TASK_POLICY();
}
/* A page for a private mapping at va. */
static inline struct quire_page *qi_vma_page(const struct qi_vma *v, uint64_t va, unsigned order,
                                             quire_gfp gfp)
{
    const struct quire_policy *p = qi_vma_policy(v);

    return QI_LIKELY(!p) ? quire_page_alloc(order, gfp, QUIRE_NODE_ANY)
                         : qi_policy_page(p, va, order, gfp);
}

/* ---- mmap.c ---- */

enum quire_status qi_munmap_locked(struct quire_space *s, uint64_t start, uint64_t end);
/* A free range for len bytes, hint or 0; 0: none. */
uint64_t qi_unmapped_area(struct quire_space *s, uint64_t hint, uint64_t len, unsigned flags);
/* Flush, and free tables between the neighbours of [start, end). */
void qi_free_tables(struct quire_space *s, struct qi_gather *g, uint64_t start, uint64_t end);

/* The leaf template of v: never writable for private pages (a write fault decides). */
static inline qi_pte qi_vma_template(const struct qi_vma *v, bool write)
{
    unsigned prot = v->flags & QI_VM_PROT;

    if (!write)
        prot = prot & QUIRE_WRITE ? (prot & ~QUIRE_WRITE) | QUIRE_READ : prot;
    return qi_pte_template(prot | QUIRE_USER, v->object && v->object->kind == QUIRE_OBJECT_DEVICE
                                                  ? v->object->device_cache
                                                  : QUIRE_CACHED);
}
static inline void qi_rss_add(struct quire_space *s, enum qi_rss kind, int64_t n)
{
    qi_fetch_add_relaxed(&s->rss[kind], n);
}
/* What a counted page at one of v's addresses counts as. */
static inline enum qi_rss qi_rss_kind(const struct qi_vma *v, const struct quire_page *page)
{
    if (quire_page_flags_now(page) & QUIRE_PG_ANON)
        return QI_RSS_ANON;
    return v->object->kind == QUIRE_OBJECT_SHARED ? QI_RSS_SHARED : QI_RSS_FILE;
}

/* A private page that is known to one leaf, and to nobody else. */
static inline bool qi_page_alone(const struct quire_page *page)
{
    return (quire_page_flags_now(page) & QUIRE_PG_ANON) &&
           qi_load_acquire(&page->counts) == QUIRE_PAGE_ONE_MAPPING;
}

/* A page that nobody else holds yet becomes a private one with one mapping; whoever looks at all frames may
 * look, and who counts the pages of a space, where it was mapped before. */
static inline void qi_mark_anon(struct quire_page *page)
{
    qi_store_relaxed(&page->flags, quire_page_flags_now(page) | QUIRE_PG_ANON);
    qi_store_relaxed(&page->counts, QUIRE_PAGE_ONE_MAPPING);
}

/* ---- events.c ---- */

struct qi_events {
    uint64_t n[QUIRE_EVENT_COUNT];
} QI_CACHE_ALIGNED;
extern struct qi_events qi_events[QUIRE_MAX_CPUS];

/* Count on this CPU, which the task must not leave meanwhile: it would write an old number there
 * later.  Interrupts do not count. */
static inline void qi_event_add(enum quire_event e, uint64_t n)
{
    uint64_t *counter;

    qport_preempt_disable();
    counter = &qi_events[qport_cpu()].n[e];
    qi_store_relaxed(counter, qi_load_relaxed(counter) + n);
    qport_preempt_enable();
}
static inline void qi_event(enum quire_event e) { qi_event_add(e, 1); }

#endif
