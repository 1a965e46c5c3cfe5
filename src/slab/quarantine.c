/*
 * slab/quarantine.c - freed objects wait before they are reused: QUIRE_HARDEN_QUARANTINE.
 *
 * A pointer that is used after its free finds the object poisoned, not somebody else's; a write through
 * it is seen when the object leaves, at the latest; a second free finds the state HELD.
 *
 * One ring for all caches, first in, first out: each object stays as long as the ring allows, which is what
 * makes late uses visible.  (A random one leaving, as OpenBSD's malloc does with 16 of them, is harder to
 * predict but lets some go at once.)  With QUIRE_HARDEN_RANDOM the one that leaves is drawn from the ring: then it is.
 * The ring is bounded in bytes of objects and in entries.  It has one lock: a ring for each CPU would let a CPU that frees little
 * keep objects for ever, and who asks for this mode does not ask for speed.
 *
 * Locking: the ring's, with interrupts off; nothing is taken under it.  The state byte HELD belongs to
 * the ring, as IN does to sheaf or slab (H2, H4).
 */
#include "harden.h"

#define ENTRIES_MIN 64u
#define OBJECT_AIM  64u /* bytes: entries are as many as objects of this size */

static struct {
    struct qi_spin lock;
    struct qi_entry *entry;
    uint32_t cap, first, n;
    size_t bytes;
    uint64_t randoms;
} ring;

static const struct qi_lock_class ring_class = {"heap: quarantine"};

static struct qi_slab *slab_of(const struct qi_entry *e)
{
    return qi_slab_of_page(quire_page_of_ptr(e->obj));
}

enum quire_status qi_quarantine_init(void)
{
    size_t bytes = qi_heap_options.quarantine_bytes / OBJECT_AIM * sizeof(struct qi_entry);
    unsigned order;
    struct quire_page *page;

    ring.entry = NULL;
    if (!qi_heap_mode(QUIRE_HARDEN_QUARANTINE))
        return QUIRE_OK;
    bytes = QI_MAX(bytes, ENTRIES_MIN * sizeof(struct qi_entry));
    order = qi_log2_ceil((bytes + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT);
    order = QI_MIN(order, (unsigned)QUIRE_MAX_ORDER);
    page = quire_page_alloc(order, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    if (!page)
        return QUIRE_NO_MEMORY;
    qi_spin_init(&ring.lock, &ring_class);
    ring.entry = quire_page_ptr(page);
    ring.cap = (uint32_t)((QUIRE_PAGE_SIZE << order) / sizeof(struct qi_entry));
    ring.first = ring.n = 0;
    ring.bytes = 0;
    return QUIRE_OK;
}

static uint32_t place(uint32_t i)
{
    return ring.first + i < ring.cap ? ring.first + i : ring.first + i - ring.cap;
}

static void put_locked(struct quire_cache *c, struct qi_entry e)
{
    ring.entry[place(ring.n++)] = e;
    ring.bytes += c->slot;
}

/* The oldest. */
static struct qi_entry get_locked(void)
{
    struct qi_entry e = ring.entry[ring.first];

    ring.first = place(1);
    ring.n--;
    ring.bytes -= slab_of(&e)->cache->slot;
    return e;
}

/* Any one becomes the oldest. */
static void shuffle_locked(void)
{
    uint64_t r = qi_mix(qi_heap_secret + ring.randoms++);
    struct qi_entry *any = &ring.entry[place((uint32_t)(r % ring.n))], e = *any;

    *any = ring.entry[ring.first];
    ring.entry[ring.first] = e;
}

/* Interrupts off.  held falls last: who destroys the cache waits for it, and then for nobody. */
static void release(struct qi_entry e)
{
    struct qi_slab *s = slab_of(&e);
    struct quire_cache *c = s->cache;

    QI_CHECK(*e.state == QI_OBJ_HELD,
             "heap: %s: object %p was freed twice: in quarantine its state is %u", c->name, e.obj,
             *e.state);
    qi_guard_check_free(c, e.obj);
    *e.state = QI_OBJ_IN;
    qi_give(s, e);
    qi_fetch_sub_acqrel(&c->held, 1u);
}

void qi_quarantine(struct quire_cache *c, struct qi_entry e)
{
    bool done = false;

    *e.state = QI_OBJ_HELD;
    qi_fetch_add_relaxed(&c->held, 1u);
    while (!done) {
        unsigned long irq = qi_spin_lock_irq(&ring.lock);
        struct qi_entry old;

        done = !ring.n ||
               (ring.n < ring.cap && ring.bytes + c->slot <= qi_heap_options.quarantine_bytes);
        if (done) {
            put_locked(c, e);
        } else {
            if (c->flags & QI_CACHE_RANDOM)
                shuffle_locked();
            old = get_locked();
        }
        qi_spin_unlock_raw(&ring.lock);
        if (!done)
            release(old);
        qport_irq_restore(irq);
    }
}

/* Let the oldest go, if all are to or those of its cache are, by us or somebody else; else it becomes the youngest.  (Of c
 * alone would not do: two who wait for different caches may turn the ring so that each meets the other's only.)  False:
 * nothing has left. */
static bool turn(struct quire_cache *c)
{
    unsigned long irq = qi_spin_lock_irq(&ring.lock);
    struct quire_cache *whose = NULL;
    struct qi_entry e = {NULL, NULL};
    bool leaves = false;

    if (ring.n) {
        e = get_locked();
        whose = slab_of(&e)->cache;
        leaves = !c || qi_load_relaxed(&whose->flushing);
        if (!leaves)
            put_locked(whose, e);
    }
    qi_spin_unlock_raw(&ring.lock);
    if (leaves)
        release(e);
    qport_irq_restore(irq);
    return leaves;
}

void qi_quarantine_flush(struct quire_cache *c)
{
    if (!ring.entry)
        return;
    if (!c) {
        for (uint32_t n = ring.cap; n && turn(NULL); n--) {
        }
        return;
    }
    /* some may be on their way out at another CPU, which has them out of the ring already: let it come forward, however
     * much of others there is to turn over */
    qi_fetch_add_relaxed(&c->flushing, 1u);
    while (qi_load_acquire(&c->held))
        if (!turn(c))
            qport_relax();
    qi_fetch_sub_relaxed(&c->flushing, 1u);
}
