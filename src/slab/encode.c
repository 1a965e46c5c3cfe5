/*
 * slab/encode.c - free pointers that cannot be forged: QUIRE_HARDEN_ENCODE and QUIRE_HARDEN_RANDOM.
 *
 * Free objects hold no pointers; those to them stand in sheaves, and those to sheaves and slabs in the barn
 * and in the headers, all of which lie in pages of their own among everybody's.  What runs over the end of
 * such a neighbour may reach them.  So
 *
 *   - an entry of a sheaf and a link of the barn is kept as pointer ^ mix(secret ^ address of the slot): a
 *     pointer that was written over, or copied from another slot, decodes to nonsense, and one known pair
 *     does not give the secret away, as it would with secret ^ address alone (SLUB swaps bytes for that);
 *   - what an entry decodes to is handed out only if the page map says that it is an object of this very
 *     cache, and its state byte that it is free: a right guess of the secret would only buy an object that
 *     is free anyway;
 *   - slabs are unlinked only if their neighbours point back, and used only if their pages name them.
 *
 * The entries are encoded in the sheaf that the CPU takes from too, so all allocations of these caches go the
 * special way, and all frees the slow one.  Encoding only what lies in the barn would leave the fast paths,
 * and half of the pointers open.
 *
 * Random order is of the slab tier: a sheaf is filled with objects of a slab in no order, from no
 * particular place, so that the neighbour of an object is nobody's choice (Novark and Berger, "DieHarder", 2010).
 * Sheaves are stacks all the same: what was freed last is taken first.  Quarantine is against that.
 */
#include "harden.h"

static uintptr_t mask_of(const void *slot)
{
    return (uintptr_t)qi_mix(qi_heap_secret ^ (uintptr_t)slot);
}

static struct qi_entry flip(const struct qi_entry *at, struct qi_entry e)
{
    e.obj = (void *)((uintptr_t)e.obj ^ mask_of(&at->obj));
    e.state = (uint8_t *)((uintptr_t)e.state ^ mask_of(&at->state));
    return e;
}

void qi_entry_close(struct qi_entry *at, struct qi_entry e) { *at = flip(at, e); }

void qi_entries_close(struct qi_entry *e, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        e[i] = flip(&e[i], e[i]);
}

/* e is a free object of c.  (Whether it lies in its slab too, the slab's lock would have to say.) */
static bool is_free_object(const struct quire_cache *c, struct qi_entry e)
{
    struct qi_slab *s;
    uint64_t i;

    if (!qi_slab_of_user(e.obj, &s) || s->cache != c || !qi_slab_index(s, e.obj, &i))
        return false;
    return i >= 1 && i <= s->n && e.state == &s->state[i] && *e.state == QI_OBJ_IN;
}

bool qi_entry_good(const struct quire_cache *c, const struct qi_entry *at, struct qi_entry *out)
{
    *out = flip(at, *at);
    return is_free_object(c, *out);
}

struct qi_entry qi_entry_open(const struct quire_cache *c, const struct qi_entry *at)
{
    struct qi_entry e;

    QI_CHECK(
        qi_entry_good(c, at, &e),
        "heap: %s: free pointer at %p was overwritten: it decodes to object %p, state byte at %p",
        c->name, at, e.obj, (void *)e.state);
    return e;
}

void qi_entries_open(const struct quire_cache *c, struct qi_entry *e, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        e[i] = qi_entry_open(c, &e[i]);
}

/* ---- links of the barn ---- */

struct qi_sheaf *qi_link_close(struct qi_sheaf *const *at, struct qi_sheaf *sheaf)
{
    return sheaf ? (struct qi_sheaf *)((uintptr_t)sheaf ^ mask_of(at)) : NULL;
}

struct qi_sheaf *qi_link_open(struct qi_sheaf *const *at)
{
    struct qi_sheaf *sheaf = qi_link_close(at, *at);
    uintptr_t off = (uintptr_t)sheaf - QPORT_DIRECT_BASE;
    const struct quire_page *page;

    if (!sheaf)
        return NULL;
    QI_CHECK(off < qi_load_relaxed(&qi_heap_end),
             "heap: link at %p between sheaves was overwritten: it decodes to %p", (const void *)at,
             (void *)sheaf);
    page = quire_page_of_ptr(sheaf);
    QI_CHECK(
        (page->flags & QUIRE_PG_SLAB) && page->owner && qi_is_sheaf(sheaf),
        "heap: link at %p between sheaves was overwritten: it decodes to %p, which is no sheaf",
        (const void *)at, (void *)sheaf);
    return sheaf;
}

/* ---- slabs ---- */

void qi_slab_check(const struct quire_cache *c, const struct qi_slab *s)
{
    const struct qi_list *l = &s->link;
    uintptr_t off = s->origin + c->slot - QPORT_DIRECT_BASE;

    QI_CHECK(l->next->prev == l && l->prev->next == l,
             "heap: %s: links of slab %p were overwritten: next %p, previous %p", c->name,
             (const void *)s, (void *)l->next, (void *)l->prev);
    QI_CHECK(s->cache == c && off < qi_load_relaxed(&qi_heap_end) &&
                 qi_slab_of_page(quire_page_of_pfn(Q_PFN(off >> QUIRE_PAGE_SHIFT))) == s,
             "heap: %s: header of slab %p was overwritten: cache %p, objects at %lx", c->name,
             (const void *)s, (void *)s->cache, (unsigned long)s->origin);
}

/* ---- random order ---- */

static uint64_t random_of(struct qi_cache_node *cn)
{
    return qi_mix((qi_heap_secret ^ (uintptr_t)cn) + cn->randoms++);
}

/* The k-th set bit. */
static unsigned nth_bit(uint64_t bits, unsigned k)
{
    while (k--)
        bits &= bits - 1;
    return qi_lowest_bit(bits);
}

unsigned qi_slab_take_random(struct qi_cache_node *cn, struct qi_slab *s, struct qi_entry *out,
                             unsigned want)
{
    unsigned words = (s->n + 63u) / 64, got;

    want = QI_MIN(want, s->nfree);
    for (got = 0; got < want; got++) {
        uint64_t r = random_of(cn);
        unsigned w = (unsigned)(r >> 32) % words, i;

        while (!qi_slab_bits(s)[w])
            w = w + 1 < words ? w + 1 : 0;
        i = nth_bit(qi_slab_bits(s)[w], (uint32_t)r % qi_popcount(qi_slab_bits(s)[w]));
        qi_slab_bits(s)[w] &= ~((uint64_t)1 << i);
        i += w * 64 + 1;
        out[got] = (struct qi_entry){.obj = qi_slab_object(s, i), .state = &s->state[i]};
    }
    s->nfree -= got;
    return got;
}
