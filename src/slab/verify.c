/*
 * slab/verify.c - looking at the heap: statistics, /proc/slabinfo's text, and the walk that checks
 * the invariants H1 to H7 of slab.c.
 */
#include <quire/stats.h>

#include "harden.h"

#include <quire/format.h>

static struct quire_cache *nth_cache(unsigned i)
{
    struct quire_cache *c;

    qi_list_for_each (c, &qi_caches, link) {
        if (!i--)
            return c;
    }
    return NULL;
}

/* Plain on both sides, so that it costs those who write nothing: an aligned word, which no machine tears. */
__attribute__((no_sanitize("thread"))) static uint64_t read_plain(const uint64_t *word)
{
    return *(const volatile uint64_t *)word;
}

/* Objects in the sheaves of all CPUs.  Other CPUs may move on while we look. */
static uint64_t count_cpu_cached(struct quire_cache *c, uint64_t *frees)
{
    uint64_t n = 0, main;

    for (unsigned i = 0; i < QI_CONTEXTS; i++) {
        struct qi_cache_cpu *cc = qi_load_acquire(&c->cpu[i]);

        if (cc == &qi_no_cpu)
            continue;
        /* top and base may be of two sheaves if the CPU changes them right now */
        main = (uint64_t)(qi_load_relaxed(&cc->top) - qi_load_relaxed(&cc->base));
        n += qi_load_relaxed(&cc->aside) + (main <= QI_SHEAF_MAX ? main : 0);
        *frees += read_plain(&cc->frees);
    }
    return n;
}

enum quire_status quire_cache_stats(unsigned i, struct quire_cache_stats *out)
{
    struct quire_cache *c;
    uint64_t free = 0;

    qi_rwsem_read_lock(&qi_caches_lock);
    c = nth_cache(i);
    if (!c) {
        qi_rwsem_read_unlock(&qi_caches_lock);
        return QUIRE_NOT_FOUND;
    }
    *out = (struct quire_cache_stats){
        .name = c->name,
        .object_size = c->size,
        .slot_size = c->slot,
        .objects_per_slab = qi_slab_objects(c, c->order),
        .slab_order = c->order,
    };
    for (unsigned node = 0; node < quire_nodes(); node++) {
        struct qi_cache_node *cn = &c->node[node];
        unsigned long irq = qi_spin_lock_irq(&cn->lock);

        out->slabs += cn->nslabs;
        out->total += cn->objects;
        out->frees += cn->frees;
        free += cn->in_slabs + cn->barn_cached;
        qi_spin_unlock_irq(&cn->lock, irq);
        free += (uint64_t)qi_mail_full(&cn->mail) * c->sheaf_cap;
    }
    free += count_cpu_cached(c, &out->frees) + qi_load_relaxed(&c->held);
    qi_rwsem_read_unlock(&qi_caches_lock);
    out->active = out->total > free ? out->total - free : 0;
    out->allocs = out->frees + out->active;
    return QUIRE_OK;
}

size_t quire_slabinfo(char *buf, size_t cap)
{
    struct quire_cache_stats s;
    size_t len = 0;

#define ADD(...) \
    (len += quire_snprintf(len < cap ? buf + len : NULL, len < cap ? cap - len : 0, __VA_ARGS__))
    ADD("slabinfo - version: 2.1\n"
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
        " : tunables <limit> <batchcount> <sharedfactor>"
        " : slabdata <active_slabs> <num_slabs> <sharedavail>\n");
    for (unsigned i = 0; quire_cache_stats(i, &s) == QUIRE_OK; i++)
        ADD("%-17s %6lu %6lu %6lu %4u %4u : tunables %4u %4u %4u : slabdata %6lu %6lu %6lu\n",
            s.name, (unsigned long)s.active, (unsigned long)s.total, (unsigned long)s.slot_size,
            s.objects_per_slab, 1u << s.slab_order, 0u, 0u, 0u, (unsigned long)s.slabs,
            (unsigned long)s.slabs, 0ul);
#undef ADD
    return len;
}

/* ---- verify ---- */

#define EXPECT(c, ...)                                            \
    do {                                                          \
        if (!(c)) {                                               \
            qi_log(QUIRE_LOG_ERROR, "heap verify: " __VA_ARGS__); \
            return false;                                         \
        }                                                         \
    } while (0)

static bool verify_pages(const struct quire_cache *c, const struct qi_slab *s)
{
    for (unsigned i = 0; i < 1u << s->order; i++)
        EXPECT((s->page[i].flags & QUIRE_PG_SLAB) && qi_slab_of_page(&s->page[i]) == s,
               "H1: %s: page %u of slab %p has flags %x", c->name, i, s, s->page[i].flags);
    return true;
}

static bool verify_guards(const struct quire_cache *c, const struct qi_slab *s, unsigned i)
{
    const uint8_t *bad = NULL;

    if (s->state[i] == QI_OBJ_GUARDED)
        bad = qi_guard_damage(c, qi_slab_object(s, i), true);
    else if (s->state[i] == QI_OBJ_IN || s->state[i] == QI_OBJ_HELD)
        bad = qi_guard_damage(c, qi_slab_object(s, i), false);
    EXPECT(!bad, "%s: object %p is damaged at %p", c->name, qi_slab_object(s, i), bad);
    return true;
}

static bool verify_slab(const struct quire_cache *c, const struct qi_slab *s, unsigned node,
                        unsigned list, uint64_t *out)
{
    unsigned bits = 0;

    EXPECT(s->cache == c && s->node == node, "slab %p of cache %p, node %u is on a list of %s, %u",
           s, s->cache, s->node, c->name, node);
    EXPECT(s->list == list && list == (s->nfree == 0      ? QI_SLAB_FULL
                                       : s->nfree == s->n ? QI_SLAB_EMPTY
                                                          : QI_SLAB_PARTIAL),
           "H6: %s: slab %p with %u of %u free is on list %u", c->name, s, s->nfree, s->n, list);
    if (!verify_pages(c, s))
        return false;
    EXPECT(s->state[0] == QI_OBJ_EDGE && s->state[s->n + 1] == QI_OBJ_EDGE,
           "H2: %s: edges of slab %p are gone", c->name, s);
    for (unsigned i = 1; i <= s->n; i++) {
        bool in = qi_slab_bits(s)[(i - 1) / 64] >> (i - 1) % 64 & 1;

        EXPECT((s->state[i] == QI_OBJ_IN || s->state[i] == QI_OBJ_OUT(node) ||
                s->state[i] == QI_OBJ_GUARDED || s->state[i] == QI_OBJ_HELD ||
                s->state[i] == QI_OBJ_DEFERRED) &&
                   (!in || s->state[i] == QI_OBJ_IN),
               "H3: %s: object %u of slab %p has state %u", c->name, i, s, s->state[i]);
        bits += in;
        *out += s->state[i] != QI_OBJ_IN;
        if (!verify_guards(c, s, i))
            return false;
    }
    EXPECT(bits == s->nfree, "H3: %s: slab %p says %u free, bitmap %u", c->name, s, s->nfree, bits);
    return true;
}

static bool verify_sheaf(const struct quire_cache *c, const struct qi_entry *e, uint64_t n,
                         unsigned node)
{
    EXPECT(n <= c->sheaf_cap, "%s: a sheaf with %lu of %u entries", c->name, (unsigned long)n,
           c->sheaf_cap);
    for (uint64_t i = 0; i < n; i++) {
        struct qi_entry is = e[i];
        struct qi_slab *s;
        uint64_t k;

        if (c->flags & QI_CACHE_CLOSED)
            EXPECT(qi_entry_good(c, &e[i], &is),
                   "H4: %s: the entry at %p of a sheaf was overwritten", c->name, &e[i]);
        EXPECT(qi_slab_of_user(is.obj, &s) && s->recip, "H4: %s: %p in a sheaf is no object",
               c->name, is.obj);
        k = (uint64_t)(is.state - s->state);
        EXPECT(s->cache == c && k >= 1 && k <= s->n && qi_slab_object(s, k) == is.obj &&
                   s->state[k] == QI_OBJ_IN &&
                   /* the bits beside it may change meanwhile, when the heap is in use */
                   !(read_plain(&qi_slab_bits(s)[(k - 1) / 64]) >> (k - 1) % 64 & 1),
               "H4: %s: object %p in a sheaf is not free, or also in its slab", c->name, is.obj);
        EXPECT(node == QUIRE_NODE_ANY || s->node == node, "H5: %s: object %p of node %u at node %u",
               c->name, is.obj, s->node, node);
    }
    return true;
}

static bool verify_node(struct quire_cache *c, unsigned node, uint64_t *out)
{
    struct qi_cache_node *cn = &c->node[node];
    uint64_t slabs = 0, objects = 0, in_slabs = 0, barn = 0;
    uint32_t full = 0;
    struct qi_slab *s;

    for (unsigned list = 0; list < QI_SLAB_LISTS; list++)
        qi_list_for_each (s, &cn->slabs[list], link) {
            if (!verify_slab(c, s, node, list, out))
                return false;
            slabs++;
            objects += s->n;
            in_slabs += s->nfree;
        }
    for (struct qi_sheaf *f = qi_sheaf_after(&cn->full_sheaves); f;
         f = qi_sheaf_after(&f->next), full++) {
        EXPECT(f->n == c->sheaf_cap, "H6: %s: a full sheaf has %u entries", c->name, f->n);
        if (!verify_sheaf(c, f->e, f->n, node))
            return false;
        barn += f->n;
    }
    for (unsigned i = 0; i < QI_MAIL_CELLS; i++) {
        const struct qi_sheaf *f = qi_load_relaxed(&cn->mail.cell[i]);

        if (!(qi_load_acquire(&cn->mail.word) >> (8 + i) & 1))
            continue;
        EXPECT(f->n == c->sheaf_cap, "H6: %s: a sheaf on its way home has %u entries", c->name,
               f->n);
        if (!verify_sheaf(c, f->e, f->n, node))
            return false;
    }
    EXPECT(slabs == cn->nslabs && objects == cn->objects && in_slabs == cn->in_slabs &&
               barn == cn->barn_cached && full == cn->nfull_sheaves,
           "H7: %s: node %u counts %lu slabs, %lu objects, %lu free", c->name, node,
           (unsigned long)slabs, (unsigned long)objects, (unsigned long)in_slabs);
    return true;
}

bool qi_verify_sheaves(struct quire_cache *c, struct qi_cache_cpu *cc, uint64_t *cached)
{
    if (cc == &qi_no_cpu)
        return true;
    *cached += qi_cpu_count(cc) + cc->spare->n + (cc->remote ? cc->remote->n : 0);
    return verify_sheaf(c, cc->base, qi_cpu_count(cc), cc->node) &&
           verify_sheaf(c, cc->spare->e, cc->spare->n, cc->node) &&
           (!cc->remote || verify_sheaf(c, cc->remote->e, cc->remote->n, QUIRE_NODE_ANY));
}

static bool verify_cache(struct quire_cache *c)
{
    uint64_t out = 0, cached = 0, free = 0, total = 0;

    for (unsigned node = 0; node < quire_nodes(); node++) {
        struct qi_cache_node *cn = &c->node[node];
        unsigned long irq = qi_spin_lock_irq(&cn->lock);
        bool good = verify_node(c, node, &out);

        free += cn->in_slabs + cn->barn_cached + (uint64_t)qi_mail_full(&cn->mail) * c->sheaf_cap;
        total += cn->objects;
        qi_spin_unlock_irq(&cn->lock, irq);
        if (!good)
            return false;
    }
    for (unsigned i = 0; i < QI_CONTEXTS; i++)
        if (!qi_verify_sheaves(c, qi_load_acquire(&c->cpu[i]), &cached))
            return false;
    EXPECT(out + free + cached == total,
           "H7: %s: %lu out, %lu in slabs and barns, %lu at CPUs of %lu", c->name,
           (unsigned long)out, (unsigned long)free, (unsigned long)cached, (unsigned long)total);
    return true;
}

enum quire_status quire_heap_verify(void)
{
    enum quire_status status = QUIRE_OK;
    struct quire_cache *c;

    qi_rwsem_read_lock(&qi_caches_lock);
    qi_list_for_each (c, &qi_caches, link) {
        if (!verify_cache(c)) {
            status = QUIRE_CORRUPT;
            break;
        }
    }
    qi_rwsem_read_unlock(&qi_caches_lock);
    return status == QUIRE_OK && !qi_runs_verify() ? QUIRE_CORRUPT : status;
}
