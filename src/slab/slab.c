/*
 * slab/slab.c - object caches: the two upper tiers, sheaves and barn.
 *
 * Purpose.  Give out objects of one size by the million a second from any context, on any CPU,
 * without a lock or an atomic instruction in the common case, and name every misuse.
 *
 * Model.  Three tiers, each a buffer in front of the one below:
 *
 *   CPU    a main and a spare sheaf for each cache: an array of (object, address of its state
 *          byte).  Allocate pops, free pushes; when main runs out or over, it is exchanged with
 *          the spare, then with the barn.
 *   node   the barn: lists of full and of empty sheaves, under the lock of this cache on this node.
 *   slab   a run of 2^order pages cut into objects, with a header: a bitmap of the objects that
 *          lie in the slab, and a state byte for each object.  Same lock as the barn.
 *
 * A sheaf never touches its objects: free memory stays cold, and nothing inside a freed object
 * needs protection.  The header stands outside the pages (in an internal cache whose own headers
 * are inside), so that 64 objects of 64 bytes fill a page exactly and are aligned to their size.
 *
 * Invariants (quire_heap_verify checks them; n is the node of the slab)
 *   H1  every page of a slab has QUIRE_PG_SLAB and names the slab in owner, tagged if internal
 *   H2  state[i] is OUT(n) or GUARDED from the moment object i is returned by an allocation until
 *       its free begins; else IN; state[0] and state[n + 1] are EDGE
 *   H3  bit i - 1 of the bitmap implies state[i] == IN; nfree is the number of bits
 *   H4  an object IN is in exactly one place: its slab, one sheaf of a CPU, or one sheaf of a barn
 *   H5  main and spare of a CPU and all sheaves in the barn of n hold objects of node n only
 *   H6  a slab is on the list that its nfree says; full sheaves in a barn have sheaf_cap entries
 *   H7  objects out + in slabs + in barns + on their way home + in CPUs' sheaves = objects in all slabs
 *
 * The fast path (slab.h, qi_alloc_fast and qi_free_fast).  Preemption off; the context's struct;
 * pop or push; state byte; preemption on.  The conditions that are not the common case are folded into
 * tests that are there anyway: a CPU without sheaves has top == base == end; guards and each node
 * have their own state value; everything else is one word, quire_cache.slow.  Free finds the slab
 * by the page and the object's number by one multiplication, whose low half tells a misaligned
 * pointer.
 *
 * Double free.  The state byte belongs to whoever holds the object, so that no atomic instruction
 * is needed: a second free of an object finds IN and panics, at once, whichever tier the object has
 * reached, until the object is allocated again.  Two frees of one object at the very same time on
 * two CPUs may both find OUT; then one object is in two places, which the bitmap catches when the
 * second reaches its slab.  A foreign pointer fails the page test, a pointer into an object the
 * remainder test, one before the first or behind the last object an EDGE.
 *
 * NUMA.  A CPU's sheaves hold objects of its node (H5).  An object of another node goes into the
 * CPU's remote sheaf; when that is full it goes home whole (mail.h) if all are of one node, else each to
 * its slab.  If a node has no memory its CPUs are given
 * objects of other nodes one by one, unless the caller forbids it.
 *
 * Locking.  struct qi_cache_cpu: its CPU with interrupts off.  qi_cache_node.lock: barn and slab
 * lists of one cache on one node, with interrupts off; never two at a time; nothing is allocated or
 * freed under it.  qi_caches_lock (sleeping): the list of caches; taken first.
 *
 * Failure.  No memory for a sheaf or for a CPU's struct only makes the call go to the slabs
 * directly; no memory for a slab gives NULL and has changed nothing.
 *
 * Cost.  Both fast paths without a loop; an exchange with the barn is O(1) under a lock once in
 * sheaf_cap calls; a sheaf filled from slabs or given back O(1) an object.  docs/design/heap.md has
 * the measured figures, the sources and what was rejected.
 */
#include "harden.h"
#include "track.h"

struct qi_cache_cpu qi_no_cpu = {.out = QI_OBJ_NEVER};

/* ---- a CPU's sheaves ---- */

static void load_main(struct quire_cache *c, struct qi_cache_cpu *cc, struct qi_sheaf *sheaf)
{
    cc->main = sheaf;
    qi_store_relaxed(&cc->base, sheaf->e);
    cc->end = sheaf->e + c->sheaf_cap;
    qi_store_relaxed(&cc->top, sheaf->e + sheaf->n);
}

/* For statistics, which must not follow pointers of another CPU. */
static void note_aside(struct qi_cache_cpu *cc)
{
    qi_store_relaxed(&cc->aside, (uint16_t)(cc->spare->n + (cc->remote ? cc->remote->n : 0)));
}

static void save_main(struct qi_cache_cpu *cc) { cc->main->n = qi_cpu_count(cc); }

static unsigned node_of(const void *obj) { return qi_slab_of_page(quire_page_of_ptr(obj))->node; }

static struct qi_sheaf *new_sheaf(const struct quire_cache *c, quire_gfp gfp)
{
    struct qi_sheaf *sheaf = qi_internal_alloc(c->sheaves, gfp);

    if (sheaf) {
        sheaf->next = NULL;
        sheaf->n = 0;
    }
    return sheaf;
}

/* This context's struct of the cache, made at its first use; NULL: no memory, or a cache without. */
static struct qi_cache_cpu *this_cpu(struct quire_cache *c, quire_gfp gfp)
{
    unsigned node = quire_cpu_node((unsigned)qport_cpu());
    struct qi_cache_cpu **own = &c->cpu[qi_context()], *cc = qi_load_relaxed(own);
    struct qi_sheaf *main, *spare;

    if (QI_LIKELY(cc != &qi_no_cpu))
        return cc;
    gfp &= ~QUIRE_GFP_THISNODE;
    main = new_sheaf(c, gfp);
    spare = main ? new_sheaf(c, gfp) : NULL;
    cc = spare ? qi_internal_alloc(&qi_cpu_cache, gfp) : NULL;
    if (!cc) {
        if (spare)
            qi_internal_free(c->sheaves, spare);
        if (main)
            qi_internal_free(c->sheaves, main);
        return NULL;
    }
    *cc = (struct qi_cache_cpu){.node = (uint8_t)node, .out = QI_OBJ_OUT(node), .spare = spare};
    load_main(c, cc, main);
    qi_store_release(own, cc);
    return cc;
}

/* ---- entries as the cache keeps them: as they are, or encoded ---- */

static void entry_put(struct quire_cache *c, struct qi_entry *at, struct qi_entry e)
{
    if (QI_UNLIKELY(c->flags & QI_CACHE_CLOSED))
        qi_entry_close(at, e);
    else
        *at = e;
}

static struct qi_entry entry_get(const struct quire_cache *c, const struct qi_entry *at)
{
    return QI_UNLIKELY(c->flags & QI_CACHE_CLOSED) ? qi_entry_open(c, at) : *at;
}

static void drain_sheaf(struct quire_cache *c, struct qi_sheaf *sheaf)
{
    unsigned n = sheaf->n;

    if (QI_UNLIKELY(c->flags & QI_CACHE_CLOSED))
        qi_entries_open(c, sheaf->e, n);
    sheaf->n = 0;
    qi_slabs_give(c, sheaf->e, n);
}

void qi_drain_cpu(struct quire_cache *c, struct qi_cache_cpu *cc)
{
    if (cc == &qi_no_cpu)
        return;
    qi_store_relaxed(&cc->drain, 0u);
    save_main(cc);
    drain_sheaf(c, cc->main);
    load_main(c, cc, cc->main);
    drain_sheaf(c, cc->spare);
    if (cc->remote)
        drain_sheaf(c, cc->remote);
    note_aside(cc);
}

static void drain_if_asked(struct quire_cache *c, struct qi_cache_cpu *cc)
{
    if (QI_UNLIKELY(qi_load_relaxed(&cc->drain)))
        qi_drain_cpu(c, cc);
}

/* ---- the barn ---- */

static void link_put(struct qi_sheaf **at, struct qi_sheaf *sheaf)
{
    *at = QI_UNLIKELY(qi_heap_mode(QUIRE_HARDEN_ENCODE)) ? qi_link_close(at, sheaf) : sheaf;
}

static struct qi_sheaf *pop_sheaf(struct qi_sheaf **list, uint32_t *n)
{
    struct qi_sheaf *sheaf = qi_sheaf_after(list);

    if (sheaf) {
        link_put(list, qi_sheaf_after(&sheaf->next));
        --*n;
    }
    return sheaf;
}

static void push_sheaf(struct qi_sheaf **list, uint32_t *n, struct qi_sheaf *sheaf)
{
    link_put(&sheaf->next, qi_sheaf_after(list));
    link_put(list, sheaf);
    ++*n;
}

void qi_drain_barn(struct quire_cache *c, unsigned node)
{
    struct qi_cache_node *cn = &c->node[node];
    struct qi_sheaf *sheaf;

    for (;;) {
        sheaf = qi_mail_fetch(&cn->mail);
        if (!sheaf) {
            qi_spin_lock_raw(&cn->lock);
            sheaf = pop_sheaf(&cn->full_sheaves, &cn->nfull_sheaves);
            if (sheaf)
                cn->barn_cached -= sheaf->n;
            else
                sheaf = pop_sheaf(&cn->empty_sheaves, &cn->nempty_sheaves);
            qi_spin_unlock_raw(&cn->lock);
        }
        if (!sheaf)
            return;
        drain_sheaf(c, sheaf);
        qi_internal_free(c->sheaves, sheaf);
    }
}

/* ---- allocation ---- */

/* Main and spare are empty: a full sheaf from the barn, or main filled from slabs. */
static bool refill_from_node(struct quire_cache *c, struct qi_cache_cpu *cc)
{
    struct qi_cache_node *cn = &c->node[cc->node];
    struct qi_sheaf *surplus = NULL, *full = qi_mail_fetch(&cn->mail);

    if (full) {
        surplus = cc->main;
        load_main(c, cc, full);
        qi_internal_free(c->sheaves, surplus);
        return true;
    }
    qi_spin_lock_raw(&cn->lock);
    full = pop_sheaf(&cn->full_sheaves, &cn->nfull_sheaves);
    if (full) {
        cn->barn_cached -= full->n;
        surplus = cc->main;
        surplus->n = 0;
        load_main(c, cc, full);
        if (cn->nempty_sheaves < c->max_sheaves) {
            push_sheaf(&cn->empty_sheaves, &cn->nempty_sheaves, surplus);
            surplus = NULL;
        }
    } else {
        cc->main->n = qi_slabs_take_locked(c, cn, cc->main->e, c->sheaf_cap);
        if (QI_UNLIKELY(c->flags & QI_CACHE_CLOSED))
            qi_entries_close(cc->main->e, cc->main->n);
        load_main(c, cc, cc->main);
    }
    qi_spin_unlock_raw(&cn->lock);
    if (surplus)
        qi_internal_free(c->sheaves, surplus);
    return cc->top != cc->base;
}

static bool refill(struct quire_cache *c, struct qi_cache_cpu *cc, quire_gfp gfp)
{
    drain_if_asked(c, cc);
    if (cc->spare->n) {
        struct qi_sheaf *full = cc->spare;

        cc->spare = cc->main;
        cc->spare->n = 0;
        load_main(c, cc, full);
        note_aside(cc);
        return true;
    }
    return refill_from_node(c, cc) ||
           (qi_slab_grow(c, gfp | QUIRE_GFP_THISNODE, cc->node) == cc->node &&
            refill_from_node(c, cc));
}

/* One object of exactly this node's slabs or barn, or NULL. */
static void *take_from_node(struct quire_cache *c, unsigned node)
{
    struct qi_cache_node *cn = &c->node[node];
    struct qi_entry e = {NULL, NULL};
    struct qi_sheaf *sheaf = NULL;

    qi_spin_lock_raw(&cn->lock);
    if (!qi_slabs_take_locked(c, cn, &e, 1)) {
        sheaf = pop_sheaf(&cn->full_sheaves, &cn->nfull_sheaves);
        if (sheaf)
            cn->barn_cached -= sheaf->n;
    }
    qi_spin_unlock_raw(&cn->lock);
    if (!e.obj && !sheaf)
        sheaf = qi_mail_fetch(&cn->mail);
    if (sheaf) {
        e = entry_get(c, &sheaf->e[--sheaf->n]);
        /* no longer full, so no longer the barn's; its rest goes back to the slabs */
        drain_sheaf(c, sheaf);
        qi_internal_free(c->sheaves, sheaf);
    }
    if (e.obj) {
        *e.state = QI_OBJ_OUT(node);
        QPORT_EVENT(OBJECT_ALLOC, qi_slot_of(c, e.obj), c->slot);
    }
    return e.obj;
}

/* The nearest node to home that is farther than after, or as far with a higher number. */
static unsigned next_node(unsigned home, unsigned after)
{
    unsigned best = QUIRE_NODE_ANY, best_rank = ~0u;
    unsigned last = after == home ? 0 : quire_node_distance(home, after) << 8 | after;

    for (unsigned n = 0; n < quire_nodes(); n++) {
        unsigned rank = quire_node_distance(home, n) << 8 | n;

        if (n != home && (after == home || rank > last) && rank < best_rank) {
            best_rank = rank;
            best = n;
        }
    }
    return best;
}

/* Without a sheaf: from home, then (unless forbidden) from any other node, the nearest first. */
static void *take_direct(struct quire_cache *c, quire_gfp gfp, unsigned home)
{
    unsigned node;
    void *obj;

    while (!(obj = take_from_node(c, home)))
        if (qi_slab_grow(c, gfp | QUIRE_GFP_THISNODE, home) != home)
            break;
    if (obj || (gfp & QUIRE_GFP_THISNODE))
        return obj;
    node = next_node(home, home);
    while (!obj && node != QUIRE_NODE_ANY) {
        obj = take_from_node(c, node);
        node = next_node(home, node);
    }
    while (!obj && (node = qi_slab_grow(c, gfp, home)) != QUIRE_NODE_ANY)
        obj = take_from_node(c, node);
    return obj;
}

/* Interrupts off. */
static void *take(struct quire_cache *c, quire_gfp gfp)
{
    struct qi_cache_cpu *cc = this_cpu(c, gfp);
    struct qi_entry e;

    if (!cc || (cc->top == cc->base && !refill(c, cc, gfp)))
        return take_direct(c, gfp, quire_cpu_node(qport_cpu()));
    e = entry_get(c, cc->top - 1);
    qi_store_relaxed(&cc->top, cc->top - 1);
    *e.state = cc->out;
    QPORT_EVENT(OBJECT_ALLOC, qi_slot_of(c, e.obj), c->slot);
    return e.obj;
}

QI_NOINLINE void *qi_alloc_slow(struct quire_cache *c, quire_gfp gfp)
{
    unsigned long irq = qport_irq_save();
    void *obj = take(c, gfp);

    qport_irq_restore(irq);
    return obj;
}

/* The state byte of an object that is known to be one. */
static uint8_t *state_of(const void *obj)
{
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(obj));
    uint64_t i;

    qi_slab_index(s, obj, &i);
    return &s->state[i];
}

void *qi_alloc_special(struct quire_cache *c, quire_gfp gfp, unsigned node, size_t asked,
                       uintptr_t caller)
{
    uint32_t slow = qi_load_relaxed(&c->slow);
    unsigned long irq;
    void *obj;

    gfp &= ~QI_SLOW_ANY; /* the fast path has put both together */

    if (QI_UNLIKELY(slow & QI_SLOW_FAILING) && qi_heap_fail_now())
        return NULL;
    if (QI_UNLIKELY(gfp & (QUIRE_GFP_DMA | QUIRE_GFP_DMA32)) && !qi_cache_is_low(c, gfp))
        return NULL;
    asked = QI_MIN(asked, (size_t)c->size);
    if (QI_UNLIKELY(slow & QI_SLOW_SAMPLE) && node == QUIRE_NODE_ANY &&
        !(gfp & QUIRE_GFP_THISNODE)) {
        obj = qi_sample_alloc(c, asked, caller);
        if (obj) {
            if ((gfp & QUIRE_GFP_ZERO) || (slow & QI_SLOW_ZERO))
                __builtin_memset(obj, 0, asked);
            return obj;
        }
    }
    irq = qport_irq_save();
    if (node == QUIRE_NODE_ANY || node == quire_cpu_node(qport_cpu()))
        obj = take(c, gfp);
    else
        obj = take_direct(c, gfp, node);
    if (obj && (slow & QI_SLOW_GUARDS))
        qi_guard_alloc(c, obj, asked);
    if (obj && (slow & (QI_SLOW_GUARDS | QI_SLOW_TRACK)))
        *state_of(obj) = QI_OBJ_GUARDED;
    qport_irq_restore(irq);
    if (obj && ((gfp & QUIRE_GFP_ZERO) || (slow & QI_SLOW_ZERO)))
        __builtin_memset(obj, 0, c->flags & QUIRE_CACHE_REDZONE ? asked : c->size);
    if (obj && (slow & QI_SLOW_TRACK))
        qi_track_alloc(c, obj, asked, caller);
    return obj;
}

/* ---- free ---- */

/* Put a full sheaf into the barn of its node against an empty one; NULL: the barn is full, or
 * there is no empty one to be had. */
static struct qi_sheaf *exchange_full(struct quire_cache *c, struct qi_cache_node *cn,
                                      struct qi_sheaf *full)
{
    struct qi_sheaf *empty;
    bool room;

    qi_spin_lock_raw(&cn->lock);
    room = cn->nfull_sheaves < c->max_sheaves;
    empty = room ? pop_sheaf(&cn->empty_sheaves, &cn->nempty_sheaves) : NULL;
    if (room && !empty) {
        qi_spin_unlock_raw(&cn->lock);
        empty = new_sheaf(c, QUIRE_GFP_ATOMIC);
        qi_spin_lock_raw(&cn->lock);
    }
    if (empty) {
        cn->barn_cached += full->n;
        push_sheaf(&cn->full_sheaves, &cn->nfull_sheaves, full);
    }
    qi_spin_unlock_raw(&cn->lock);
    return empty;
}

/* Main is full: make it one with room. */
static void make_room(struct quire_cache *c, struct qi_cache_cpu *cc)
{
    struct qi_sheaf *other = cc->spare, *empty;

    save_main(cc);
    cc->spare = cc->main;
    if (other->n == c->sheaf_cap) {
        empty = exchange_full(c, &c->node[cc->node], other);
        if (empty)
            other = empty;
        else
            drain_sheaf(c, other);
    }
    load_main(c, cc, other);
}

static void push(struct quire_cache *c, struct qi_cache_cpu *cc, struct qi_entry e)
{
    if (cc->top == cc->end)
        make_room(c, cc);
    entry_put(c, cc->top, e);
    qi_store_relaxed(&cc->top, cc->top + 1);
    cc->frees++;
}

/* A full sheaf to the node of all its objects; false: they are of several, or it has no room. */
static bool send_home(struct quire_cache *c, struct qi_sheaf *sheaf)
{
    unsigned node;

    if (c->flags & QI_CACHE_CLOSED)
        return false;
    node = node_of(sheaf->e[0].obj);
    for (unsigned i = 1; i < sheaf->n; i++)
        if (node_of(sheaf->e[i].obj) != node)
            return false;
    return qi_mail_post(&c->node[node].mail, sheaf);
}

/* An object of another node: collect, and send home by the sheaf. */
static void push_remote(struct quire_cache *c, struct qi_cache_cpu *cc, struct qi_entry e)
{
    if (!cc->remote)
        cc->remote = new_sheaf(c, QUIRE_GFP_ATOMIC);
    cc->frees++;
    if (!cc->remote) {
        qi_slabs_give(c, &e, 1);
        return;
    }
    entry_put(c, &cc->remote->e[cc->remote->n++], e);
    if (cc->remote->n < c->sheaf_cap)
        return;
    if (send_home(c, cc->remote))
        cc->remote = NULL;
    else
        drain_sheaf(c, cc->remote);
}

static void give(struct qi_slab *s, struct qi_entry e)
{
    struct quire_cache *c = s->cache;
    struct qi_cache_cpu *cc = this_cpu(c, QUIRE_GFP_ATOMIC);
    struct qi_cache_node *cn = &c->node[s->node];

    QPORT_EVENT(OBJECT_FREE, qi_slot_of(c, e.obj), c->slot);
    *e.state = QI_OBJ_IN;
    if (!cc) {
        qi_slabs_give(c, &e, 1); /* s may be gone after it */
        qi_spin_lock_raw(&cn->lock);
        cn->frees++;
        qi_spin_unlock_raw(&cn->lock);
        return;
    }
    drain_if_asked(c, cc);
    if (cc->node == s->node)
        push(c, cc, e);
    else
        push_remote(c, cc, e);
    note_aside(cc);
}

/* Panic with what p is, unless it is the first byte of an object that is out, of c if given. */
static struct qi_slab *identify(struct quire_cache *c, void *p, uint8_t **state)
{
    const char *who = c ? c->name : "kfree";
    uintptr_t off = (uintptr_t)p - QPORT_DIRECT_BASE;
    struct quire_page *page;
    struct qi_slab *s;
    uint64_t i;

    QI_CHECK(off < qi_load_relaxed(&qi_heap_end),
             "heap: %s: foreign pointer %p: the heap never reached it", who, p);
    page = quire_page_of_ptr(p);
    QI_CHECK((qi_load_relaxed(&page->flags) & QUIRE_PG_SLAB) && qi_page_has_objects(page),
             "heap: %s: pointer %p freed twice or foreign: its page has flags %x and owner %lx",
             who, p, page->flags, (unsigned long)page->owner);
    s = qi_slab_of_page(page);
    if (QI_UNLIKELY(c && s->cache != c)) {
        qi_track_describe(p);
        qi_bug("heap: %s: object %p belongs to cache %s", who, p, s->cache->name);
    }
    if (QI_UNLIKELY(!qi_slab_index(s, p, &i) || s->state[i] == QI_OBJ_EDGE)) {
        quire_heap_describe(p);
        qi_bug("heap: %s: pointer %p is not the start of an object: slab at %p, slot %u",
               s->cache->name, p, quire_page_ptr(s->page), s->cache->slot);
    }
    if (QI_UNLIKELY(!qi_is_out(s->state[i]))) {
        qi_track_describe(p);
        qi_bug("heap: %s: double free of object %p (number %u of its slab%s)", s->cache->name, p,
               (unsigned)i,
               s->state[i] == QI_OBJ_HELD       ? ", in quarantine"
               : s->state[i] == QI_OBJ_DEFERRED ? ", waiting for readers"
                                                : "");
    }
    *state = &s->state[i];
    return s;
}

static bool in_run(const void *p, struct quire_page **page)
{
    if ((uintptr_t)p - QPORT_DIRECT_BASE >= qi_load_relaxed(&qi_heap_end))
        return false;
    *page = quire_page_of_ptr(p);
    return (qi_load_relaxed(&(*page)->flags) & QUIRE_PG_SLAB) && qi_page_is_run(*page);
}

void qi_identify_any(void *p, uint8_t **state)
{
    struct quire_page *page;

    *state = NULL;
    if (!qi_sample_owns(p) && !in_run(p, &page))
        identify(NULL, p, state);
}

void qi_free_slow(struct quire_cache *c, void *p, uintptr_t caller)
{
    struct qi_entry e = {.obj = p};
    struct quire_page *page;
    struct qi_slab *s;

    if (!p && !c)
        return;
    if (QI_UNLIKELY(qi_sample_owns(p))) {
        qi_sample_free(c, p, caller);
        return;
    }
    if (!c && in_run(p, &page)) {
        qi_run_free(page, p);
        return;
    }
    if (!c && QPORT_FREE_FOREIGN(p))
        return;
    s = identify(c, p, &e.state);
    if (*e.state == QI_OBJ_GUARDED) {
        qi_guard_free(s->cache, p);
        qi_track_free(s->cache, p, caller);
    }
    if (QI_UNLIKELY(s->cache->flags & QI_CACHE_HOLD)) {
        qi_quarantine(s->cache, e);
        return;
    }
    qi_give(s, e);
}

void qi_give(struct qi_slab *s, struct qi_entry e)
{
    unsigned long irq = qport_irq_save();

    give(s, e);
    qport_irq_restore(irq);
}

/* ---- the public calls ---- */

void *quire_cache_alloc(struct quire_cache *c, quire_gfp gfp)
{
    return qi_alloc_fast(c, gfp, SIZE_MAX, 0);
}

void *quire_cache_alloc_node(struct quire_cache *c, quire_gfp gfp, unsigned node)
{
    QI_CHECK(node == QUIRE_NODE_ANY || node < quire_nodes(), "heap: %s: node %u of %u", c->name,
             node, quire_nodes());
    return qi_alloc_special(c, gfp, node, SIZE_MAX, QI_CALLER());
}

void quire_cache_free(struct quire_cache *c, void *obj) { qi_free_fast(c, obj); }

/* This context has objects to take, if there are any on its node. */
static bool restock(struct quire_cache *c, quire_gfp gfp)
{
    unsigned long irq = qport_irq_save();
    struct qi_cache_cpu *cc = this_cpu(c, gfp);
    bool some = cc && (cc->top != cc->base || refill(c, cc, gfp));

    qport_irq_restore(irq);
    return some;
}

/* Objects out of this context's sheaves, a sheaf at a time. */
static size_t take_bulk(struct quire_cache *c, quire_gfp gfp, size_t n, void **out)
{
    size_t done = 0;

    do {
        unsigned long irq = qi_enter();
        struct qi_cache_cpu *cc = qi_load_relaxed(&c->cpu[qi_context()]);
        struct qi_entry *top = cc->top, *end = top - QI_MIN(n - done, (size_t)(top - cc->base));
        uint8_t taken = cc->out;

        if (top != end) {
            while (top != end) {
                top--;
                *top->state = taken;
                out[done++] = top->obj;
                QPORT_EVENT(OBJECT_ALLOC, qi_slot_of(c, top->obj), c->slot);
            }
            qi_store_relaxed(&cc->top, top);
        }
        qi_leave(irq);
    } while (done < n && restock(c, gfp));
    return done;
}

static size_t take_some(struct quire_cache *c, quire_gfp gfp, size_t n, void **out,
                        uintptr_t caller)
{
    size_t done = 0;

    if (!((gfp | qi_load_relaxed(&c->slow)) & (QI_GFP_SPECIAL | QI_SLOW_ANY)))
        done = take_bulk(c, gfp, n, out);
    while (done < n && (out[done] = qi_alloc_fast(c, gfp, SIZE_MAX, caller)))
        done++;
    return done;
}

size_t quire_cache_alloc_some(struct quire_cache *c, quire_gfp gfp, size_t n, void **out)
{
    return take_some(c, gfp, n, out, QI_CALLER());
}

bool quire_cache_alloc_bulk(struct quire_cache *c, quire_gfp gfp, size_t n, void **out)
{
    size_t done = take_some(c, gfp, n, out, QI_CALLER());

    if (done < n)
        quire_cache_free_bulk(c, done, out);
    return done == n;
}

/* Free p into the empty entry at, which may be written to whatever p is; false if it is no object of the slab that is
 * out here. */
static QI_ALWAYS_INLINE bool give_one(struct qi_entry *at, void *p, uintptr_t origin,
                                      uint64_t recip, uintptr_t span, uint8_t *states, uint8_t out)
{
    uintptr_t off = (uintptr_t)p;
    uint8_t *state;
    uint64_t i, low;

    at->obj = p; /* at once: p and off have one register then */
    QI_OPAQUE(off);
    off -= origin;
    if (QI_UNLIKELY(off >= span))
        return false;
    i = qi_mul_wide(off, recip, &low);
    if (QI_UNLIKELY(low >= recip))
        return false;
    state = states + i;
    QI_OPAQUE(state);
    if (QI_UNLIKELY(*state != out))
        return false;
    *state = QI_OBJ_IN;
    at->state = state;
    return true;
}

/* top + n, computed here and not in front of the tests that lead here. */
static QI_ALWAYS_INLINE struct qi_entry *behind(struct qi_entry *top, unsigned n)
{
    QI_OPAQUE(top);
    return top + n;
}

/* Objects as long as they are of s, to the entries from top to before end; behind the last one filled.  Not inlined:
 * all its values have registers. */
static QI_NOINLINE struct qi_entry *give_run(struct qi_slab *s, struct qi_entry *top,
                                             struct qi_entry *end, void **objs, uint8_t out)
{
    uintptr_t origin = s->origin, span = (s->n + (uintptr_t)1) * s->cache->slot;
    uint64_t recip = s->recip;
    uint8_t *states = s->state;
    struct qi_entry *fours = top + (end - top) / 4 * 4; /* four a round: less to count */

    for (; top != fours; top += 4, objs += 4) {
        if (!give_one(top, objs[0], origin, recip, span, states, out))
            return top;
        if (!give_one(top + 1, objs[1], origin, recip, span, states, out))
            return behind(top, 1);
        if (!give_one(top + 2, objs[2], origin, recip, span, states, out))
            return behind(top, 2);
        if (!give_one(top + 3, objs[3], origin, recip, span, states, out))
            return behind(top, 3);
    }
    while (top != end && give_one(top, *objs, origin, recip, span, states, out))
        top++, objs++;
    return top;
}

/* Give objects of c to this CPU's main sheaf until one needs the slow way; how many.  A sheaf bounds
 * the time with preemption off.  Neighbours are often of one slab, whose books are looked up once for all of them; they
 * stay true, for an object of it is in the sheaf. */
static size_t give_bulk(struct quire_cache *c, size_t n, void **objs)
{
    unsigned long irq = qi_enter();
    struct qi_cache_cpu *cc = qi_load_relaxed(&c->cpu[qi_context()]);
    struct qi_entry *first = cc->top, *top = first, *next;
    struct qi_entry *end = top + QI_MIN(n, (size_t)(cc->end - top));
    struct qi_slab *s;

    while (top != end) {
        if (!qi_slab_of_user(objs[top - first], &s) || s->cache != c)
            break;
        next = give_run(s, top, end, objs + (top - first), cc->out);
        if (next == top)
            break;
        top = next;
    }
    n = (size_t)(top - first);
    for (size_t i = 0; i < n; i++)
        QPORT_EVENT(OBJECT_FREE, objs[i], c->slot);
    if (n) { /* not into the struct that CPUs without sheaves share */
        qi_store_relaxed(&cc->top, top);
        cc->frees += n;
    }
    qi_leave(irq);
    return n;
}

/* This context's main sheaf was full and has room now. */
static bool empty_out(struct quire_cache *c)
{
    unsigned long irq = qport_irq_save();
    struct qi_cache_cpu *cc = this_cpu(c, QUIRE_GFP_ATOMIC);
    bool full = cc && cc->top == cc->end;

    if (full) {
        drain_if_asked(c, cc);
        if (cc->top == cc->end)
            make_room(c, cc);
        note_aside(cc);
    }
    qport_irq_restore(irq);
    return full;
}

void quire_cache_free_bulk(struct quire_cache *c, size_t n, void **objs)
{
    for (size_t i = 0; i < n;) {
        i += give_bulk(c, n - i, objs + i);
        if (i < n && !empty_out(c))
            qi_free_slow(c, objs[i++], QI_CALLER());
    }
}
