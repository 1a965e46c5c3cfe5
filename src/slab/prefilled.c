/*
 * slab/prefilled.c - sets of objects that are taken later, where nothing may fail: struct quire_prefilled.
 *
 * A set is an array in its owner's memory.  Its objects are out, as far as the cache is concerned: they have
 * been cleared, poisoned, recorded as for an allocation, and a cache with some in a set is not destroyed.
 * Linux's kmem_cache_prefill_sheaf() hands out a sheaf, of which one kind fits into the barn again and the other, for
 * unusual sizes, does not; ours needs no memory, has one kind, and costs a copy of up to 64 pointers.
 */
#include "slab.h"

enum quire_status quire_prefilled_fill(struct quire_prefilled *set, struct quire_cache *c,
                                       quire_gfp gfp, unsigned n)
{
    QI_CHECK(n <= QUIRE_PREFILLED_MAX, "heap: %s: %u objects to prefill, at most %u", c->name, n,
             QUIRE_PREFILLED_MAX);
    QI_CHECK(!set->n || set->cache == c, "heap: %s: a set with %u objects of %s to fill", c->name,
             set->n, set->cache->name);
    if (n > set->n && !quire_cache_alloc_bulk(c, gfp, n - set->n, set->object + set->n))
        return QUIRE_NO_MEMORY;
    set->cache = c;
    set->n = QI_MAX(n, set->n);
    return QUIRE_OK;
}

void *quire_prefilled_take(struct quire_prefilled *set)
{
    QI_CHECK(set->n && set->n <= QUIRE_PREFILLED_MAX,
             "heap: take from the set at %p, which has %u objects", (void *)set, set->n);
    return set->object[--set->n];
}

void quire_prefilled_return(struct quire_prefilled *set)
{
    QI_CHECK(set->n <= QUIRE_PREFILLED_MAX, "heap: the set at %p has %u objects", (void *)set,
             set->n);
    if (set->n)
        quire_cache_free_bulk(set->cache, set->n, set->object);
    set->n = 0;
}
