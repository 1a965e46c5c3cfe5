/*
 * kva/block.c - maps of a few pages for a short time, cut from blocks of addresses.
 *
 * Model.  Each CPU has a current block: an area of 256 (or 64) pages of addresses, aligned to its size, whose
 * entries lie in one table.  A map takes the next slots of it, and one more as its guard; slots are
 * never taken twice between two flushes.  An unmap, on any CPU, clears the entries.  A block that is
 * used up and empty again waits on the lazy list like an area, and its addresses serve anew after the
 * purge; a purge also takes current blocks in which nothing is mapped.
 *
 *     | map A   G| map B     G| cleared  G| map D G|  free, from top on   |
 *
 * So neither map nor unmap searches, or flushes.  But the owner of the pages may give them back the moment
 * that unmap returns, while other CPUs still translate: a block holds a reference of each page
 * until the flush, which keeps P2 of src/pt and K5.  Linux leaves that to the callers: there a page
 * may be written through the stale translation of a stray pointer.
 *
 *   K6  an entry of a block is mapped exactly if its bit in used is set; first has the bits of the
 *       maps' first pages; live counts the bits of used; no bit at or behind top is set
 *
 * Locking.  The lock of a block guards its books.  current[] is its CPU's, under a lock that purges
 * take too; a block's lock is taken inside it.
 */
#include "kva.h"

#include "../base/check.h"

#define PAGES ((unsigned)QUIRE_KVA_BLOCK_PAGES)
#define BYTES ((uint64_t)PAGES << QUIRE_PAGE_SHIFT)
#define WORDS (PAGES / 64)

struct qi_block {
    struct qi_spin lock;
    uint32_t top, live;                 /* lock: slots taken since the last flush; mapped ones */
    bool current;                       /* lock: of some CPU: not to be retired by an unmap */
    uint64_t used[WORDS], first[WORDS]; /* lock */
    struct qi_area *area;
    uint32_t frames[PAGES]; /* of slots below top: the page held; QI_NO_PAGE for guards */
};

struct cpu_block {
    struct qi_spin lock;
    struct qi_block *block; /* lock; atomic, for a look without it */
} QI_CACHE_ALIGNED;

static struct cpu_block current[QUIRE_MAX_CPUS];
static const struct qi_lock_class current_class = {"kva: block of a CPU"};
static const struct qi_lock_class block_class = {"kva: block"};

void qi_blocks_init(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        current[i] = (struct cpu_block){0};
        qi_spin_init(&current[i].lock, &current_class);
    }
}

static bool bit(const uint64_t *words, unsigned i) { return words[i / 64] >> i % 64 & 1; }
static void set_bit(uint64_t *words, unsigned i) { words[i / 64] |= 1ull << i % 64; }
static void clear_bit(uint64_t *words, unsigned i) { words[i / 64] &= ~(1ull << i % 64); }

/* ---- blocks ---- */

static struct qi_block *block_make(uintptr_t caller)
{
    struct qi_want want = {.bytes = BYTES,
                           .align = BYTES,
                           .caller = caller,
                           .node = QUIRE_NODE_ANY,
                           .kind = QI_KVA_BLOCK};
    struct qi_block *b = quire_kzalloc(sizeof(*b), QUIRE_GFP_KERNEL);
    struct qi_area *a = b ? qi_area_make(QI_AREAS, &want) : NULL;

    if (a && !a->slots)
        a->slots = qi_kpt_slots(Q_KVA(a->start), PAGES);
    if (!a || !a->slots) {
        if (a)
            qi_area_destroy(a);
        quire_kfree(b);
        return NULL;
    }
    qi_spin_init(&b->lock, &block_class);
    b->area = a;
    b->current = true;
    a->block = b;
    qi_area_publish(QI_AREAS, a);
    return b;
}

/* It is nobody's current one, and nothing is mapped in it: it waits for a flush. */
static void block_retire(struct qi_block *b)
{
    struct qi_area *a = b->area;

    qi_area_claim(QI_AREAS, a, "vm_unmap_ram", a->caller);
    qi_area_retire(a);
}

uint64_t qi_block_free(struct qi_block *b)
{
    uint64_t held = 0;

    for (unsigned i = 0; i < b->top; i++)
        if (b->frames[i] != QI_NO_PAGE) {
            quire_page_put(quire_page_of_pfn(Q_PFN(b->frames[i])));
            held++;
        }
    qi_area_unseen(b->area);
    quire_kfree(b);
    return held;
}

/* It is not current any more; retire it, if it is empty. */
static void block_leave(struct qi_block *b)
{
    bool empty;

    qi_spin_lock(&b->lock);
    b->current = false;
    empty = !b->live;
    qi_spin_unlock(&b->lock);
    if (empty)
        block_retire(b);
}

/* The CPU's block, if nothing is mapped in it; it is not current any more. */
static struct qi_block *take_empty(struct cpu_block *c)
{
    struct qi_block *b;

    qi_spin_lock(&c->lock);
    b = c->block;
    if (b) {
        bool empty;

        qi_spin_lock(&b->lock);
        /* perhaps it never was more: its maker went on on another CPU */
        empty = !b->live;
        b->current = !empty;
        qi_spin_unlock(&b->lock);
        if (empty)
            qi_store_relaxed(&c->block, NULL);
        else
            b = NULL;
    }
    qi_spin_unlock(&c->lock);
    return b;
}

void qi_blocks_release(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        struct qi_block *b = qi_load_relaxed(&current[i].block) ? take_empty(&current[i]) : NULL;

        if (b)
            block_retire(b);
    }
}

/* ---- maps ---- */

/* Map the pages at the top of the block; false: they do not fit. */
static bool map_in(struct qi_block *b, struct quire_page *const *pages, unsigned n, q_kva *out)
{
    unsigned at;

    qi_spin_lock(&b->lock);
    at = b->top;
    if (PAGES - at <= n) {
        qi_spin_unlock(&b->lock);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        struct quire_page *head = quire_page_head(pages[i]);

        quire_page_get(head);
        b->frames[at + i] = (uint32_t)quire_pfn_of_page(head).v;
        set_bit(b->used, at + i);
    }
    b->frames[at + n] = QI_NO_PAGE;
    set_bit(b->first, at);
    b->top += n + 1;
    b->live += n;
    qi_kpt_fill(b->area->slots + at, pages, n,
                qi_pte_template(QUIRE_READ | QUIRE_WRITE | QUIRE_GLOBAL, QUIRE_CACHED));
    qi_spin_unlock(&b->lock);
    *out = Q_KVA(b->area->start + ((uint64_t)at << QUIRE_PAGE_SHIFT));
    return true;
}

static bool map_in_current(struct quire_page *const *pages, unsigned n, q_kva *out)
{
    struct cpu_block *c;
    bool done;

    qport_preempt_disable();
    c = &current[qport_cpu()];
    qi_spin_lock(&c->lock);
    done = c->block && map_in(c->block, pages, n, out);
    qi_spin_unlock(&c->lock);
    qport_preempt_enable();
    return done;
}

static void make_current(struct qi_block *b)
{
    struct qi_block *before;
    struct cpu_block *c;

    qport_preempt_disable();
    c = &current[qport_cpu()];
    qi_spin_lock(&c->lock);
    before = c->block;
    qi_store_relaxed(&c->block, b);
    qi_spin_unlock(&c->lock);
    qport_preempt_enable();
    if (before)
        block_leave(before);
}

enum quire_status quire_vm_map_ram(struct quire_page *const *pages, size_t n, q_kva *out)
{
    if (!n || n > QUIRE_VM_MAP_RAM_MAX)
        return QUIRE_INVALID;
    while (!map_in_current(pages, (unsigned)n, out)) {
        uint64_t since = qi_purge_rounds();
        struct qi_block *fresh = block_make(QI_CALLER());

        if (!fresh && qi_purge_helps(since))
            fresh = block_make(QI_CALLER());
        if (!fresh)
            return QUIRE_NO_MEMORY;
        make_current(fresh);
    }
    return QUIRE_OK;
}

/* Slots [at, at + n) of b are one map. */
static bool is_map(const struct qi_block *b, unsigned at, size_t n)
{
    if (!n || at >= PAGES || n >= PAGES - at || !bit(b->first, at) ||
        bit(b->used, at + (unsigned)n))
        return false;
    for (unsigned i = 0; i < n; i++)
        if (!bit(b->used, at + i) || (i && bit(b->first, at + i)))
            return false;
    return true;
}

/* The block is locked.  True: nothing is mapped in it, and nobody will map anything. */
static bool unmap_in(struct qi_block *b, unsigned at, unsigned n)
{
    qi_kpt_clear(b->area->slots + at, n);
    for (unsigned i = 0; i < n; i++)
        clear_bit(b->used, at + i);
    clear_bit(b->first, at);
    b->live -= n;
    return !b->live && !b->current;
}

void quire_vm_unmap_ram(q_kva va, size_t n)
{
    struct qi_area *a = qi_window_has(QI_AREAS, va.v) ? qi_area_at(QI_AREAS, va.v) : NULL;
    struct qi_block *b;
    bool right, empty;
    unsigned at;

    if (!a || a->kind != QI_KVA_BLOCK || qi_load_acquire(&a->state) != QI_KVA_LIVE)
        qi_area_misused(QI_AREAS, va.v, "vm_unmap_ram", QI_CALLER());
    b = a->block;
    at = (unsigned)((va.v - a->start) >> QUIRE_PAGE_SHIFT);
    qi_spin_lock(&b->lock);
    right = qi_is_aligned(va.v, QUIRE_PAGE_SIZE) && is_map(b, at, n);
    empty = right && unmap_in(b, at, (unsigned)n);
    qi_spin_unlock(&b->lock);
    QI_CHECK(right,
             "kva: vm_unmap_ram(%#lx, %lu) by %#lx: not one map of the block at %#lx, or not any "
             "more",
             (unsigned long)va.v, (unsigned long)n, (unsigned long)QI_CALLER(),
             (unsigned long)a->start);
    if (empty)
        block_retire(b);
}

/* ---- verify ---- */

bool qi_block_verify(const struct qi_area *a)
{
    struct qi_block *b = a->block;
    unsigned live = 0, wrong = PAGES;

    qi_spin_lock(&b->lock);
    for (unsigned i = 0; i < PAGES; i++) {
        bool used = bit(b->used, i);

        live += used;
        if (qi_kva_mapped(a->start + ((uint64_t)i << QUIRE_PAGE_SHIFT)) != used ||
            (bit(b->first, i) && !used) || (used && i >= b->top))
            wrong = i;
    }
    if (wrong == PAGES && live != b->live)
        wrong = 0;
    qi_spin_unlock(&b->lock);
    if (wrong < PAGES)
        qi_log(QUIRE_LOG_ERROR, "kva verify: K6: slot %u of the block at %#lx, %u of %u mapped",
               wrong, (unsigned long)a->start, live, b->live);
    return wrong == PAGES;
}
