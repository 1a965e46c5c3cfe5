/*
 * slab/slabs.c - the slab tier: runs of pages cut into objects.  slab.c has the theory.
 */
#include "harden.h"
#include "track.h"

uintptr_t qi_heap_end;
struct qi_slab qi_run_slab;

size_t qi_slab_header_bytes(unsigned objects)
{
    return qi_align_up(sizeof(struct qi_slab) + objects + 2, 8) + (objects + 63) / 64 * 8;
}

unsigned qi_slab_objects(const struct quire_cache *c, unsigned order)
{
    size_t bytes = QUIRE_PAGE_SIZE << order;
    unsigned n = (unsigned)(bytes / c->slot);

    while (c->internal && n * (size_t)c->slot + qi_align_up(qi_slab_header_bytes(n), 8) > bytes)
        n--;
    return n;
}

void qi_heap_reaches(uintptr_t end)
{
    uintptr_t seen = qi_load_relaxed(&qi_heap_end);

    while (seen < end && !qi_cas_relaxed(&qi_heap_end, &seen, end)) {
    }
}

/* Every page of a slab, tails too, names it: a free needs one look-up, no detour by the head.
 * The pages are ours alone: others may read their flags, nobody else writes them. */
static void mark_pages(struct qi_slab *s)
{
    for (unsigned i = 0; i < 1u << s->order; i++) {
        qi_store_relaxed(&s->page[i].owner, (uint64_t)(uintptr_t)s);
        /* a leak scan finds slabs by their pages */
        qi_store_release(&s->page[i].flags, s->page[i].flags | QUIRE_PG_SLAB);
    }
    qi_heap_reaches((uintptr_t)quire_pa_of_page(s->page).v + (QUIRE_PAGE_SIZE << s->order));
}

static void unmark_pages(struct quire_page *page, unsigned order)
{
    for (unsigned i = 0; i < 1u << order; i++) {
        qi_store_relaxed(&page[i].owner, (uint64_t)0);
        qi_store_relaxed(&page[i].flags, page[i].flags & ~QUIRE_PG_SLAB);
    }
}

static struct quire_page *alloc_pages(const struct quire_cache *c, quire_gfp gfp, unsigned node,
                                      unsigned *order)
{
    struct quire_page *page;

    gfp &= QUIRE_GFP_ATOMIC | QUIRE_GFP_NORETRY | QUIRE_GFP_MEMALLOC | QUIRE_GFP_THISNODE;
    gfp |= qi_zone_gfp(c);
    *order = c->order;
    page = quire_page_alloc(*order, gfp, node);
    if (!page && c->min_order < c->order) {
        *order = c->min_order;
        page = quire_page_alloc(*order, gfp, node);
    }
    return page;
}

static void fill_header(struct qi_slab *s, struct quire_cache *c, struct quire_page *page,
                        unsigned order, unsigned n)
{
    uintptr_t first = (uintptr_t)quire_page_ptr(page) + c->left;
    uint64_t *bits;

    if (c->internal)
        first += (QUIRE_PAGE_SIZE << order) - (size_t)n * c->slot;
    s->cache = c;
    s->recip = c->internal ? 0 : c->recip;
    s->origin = first - c->slot;
    s->node = (uint8_t)quire_page_node(page);
    s->n = (uint16_t)n;
    s->order = (uint8_t)order;
    s->nfree = (uint16_t)n;
    s->hint = 0;
    s->page = page;
    s->track = NULL;
    bits = qi_slab_bits(s);
    for (unsigned w = 0; w < (n + 63) / 64; w++)
        bits[w] = w < n / 64 ? ~(uint64_t)0 : ((uint64_t)1 << n % 64) - 1;
    __builtin_memset(s->state + 1, QI_OBJ_IN, n);
    s->state[0] = s->state[n + 1] = QI_OBJ_EDGE;
}

static struct qi_slab *slab_make(struct quire_cache *c, quire_gfp gfp, unsigned node)
{
    unsigned order, n;
    struct quire_page *page = alloc_pages(c, gfp, node, &order);
    struct qi_slab *s;

    if (!page)
        return NULL;
    n = qi_slab_objects(c, order);
    if (c->internal)
        s = quire_page_ptr(page);
    else
        s = qi_internal_alloc(qi_header_cache(n), gfp & ~QUIRE_GFP_THISNODE);
    if (!s) {
        quire_page_free(page, order);
        return NULL;
    }
    fill_header(s, c, page, order, n);
    mark_pages(s);
    for (unsigned i = 1; i <= n && (c->ctor || (c->flags & QUIRE_CACHE_POISON)); i++) {
        if (c->ctor)
            c->ctor(qi_slab_object(s, i));
        else
            qi_guard_new(c, qi_slab_object(s, i));
    }
    if (!c->internal)
        qi_shadow_set(quire_page_ptr(page), QUIRE_PAGE_SIZE << order, QI_SHADOW_FRESH);
    return s;
}

/* Who wrote to an object of it after its free is seen now or never. */
static void check_free_objects(const struct qi_slab *s)
{
    for (unsigned i = 1; i <= s->n && (s->cache->flags & QUIRE_CACHE_POISON); i++)
        qi_guard_check_free(s->cache, qi_slab_object(s, i));
}

void qi_slab_release(struct qi_slab *s)
{
    struct quire_page *page = s->page;
    unsigned order = s->order;

    check_free_objects(s);
    unmark_pages(page, order);
    qi_shadow_set(quire_page_ptr(page), QUIRE_PAGE_SIZE << order, 0);
    qi_track_slab_gone(s);
    if (!s->cache->internal)
        qi_internal_free(qi_header_cache(s->n), s);
    quire_page_free(page, order);
}

static void slab_move(struct qi_cache_node *cn, struct qi_slab *s, enum qi_slab_list list)
{
    if (s->list == list)
        return;
    qi_list_del(&s->link);
    if (s->list == QI_SLAB_EMPTY)
        cn->nempty--;
    if (list == QI_SLAB_EMPTY)
        cn->nempty++;
    s->list = (uint8_t)list;
    qi_list_add(&cn->slabs[list], &s->link);
}

/* The slab's number of free objects changed. */
static void slab_relist(struct qi_cache_node *cn, struct qi_slab *s)
{
    slab_move(cn, s,
              s->nfree == 0      ? QI_SLAB_FULL
              : s->nfree == s->n ? QI_SLAB_EMPTY
                                 : QI_SLAB_PARTIAL);
}

unsigned qi_slab_grow(struct quire_cache *c, quire_gfp gfp, unsigned node)
{
    struct qi_slab *s = slab_make(c, gfp, node);
    struct qi_cache_node *cn;

    if (!s)
        return QUIRE_NODE_ANY;
    node = s->node;
    cn = &c->node[node];
    qi_spin_lock_raw(&cn->lock);
    s->list = QI_SLAB_EMPTY;
    qi_list_add(&cn->slabs[QI_SLAB_EMPTY], &s->link);
    cn->nempty++;
    cn->nslabs++;
    cn->objects += s->n;
    cn->in_slabs += s->n;
    qi_spin_unlock_raw(&cn->lock);
    return node;
}

/* Objects in a row to the entries from out to before end. */
static void take_row(uintptr_t obj, uintptr_t slot, uint8_t *state, struct qi_entry *out,
                     const struct qi_entry *end)
{
    for (; out != end; out++, obj += slot, state++)
        *out = (struct qi_entry){(void *)obj, state};
}

/* Objects of one word of the bitmap, the number of whose first bit is first, to the entries from out to before end; behind
 * the last one filled. */
static struct qi_entry *take_word(struct qi_slab *s, unsigned first, uint64_t *word,
                                  struct qi_entry *out, struct qi_entry *end)
{
    uint64_t bits = *word;
    uintptr_t slot = s->cache->slot, obj = s->origin + first * slot;
    uint8_t *state = s->state + first;

    while (bits && out != end) {
        unsigned low = qi_lowest_bit(bits);
        uint64_t row = bits >> low;

        if (row & 1 << 1 && !(row & (row + 1))) { /* all in a row, as in a new slab */
            unsigned n = ~row ? qi_lowest_bit(~row) : 64, left = (unsigned)(end - out);

            n = QI_MIN(n, left);
            bits = low + n < 64 ? bits >> (low + n) << (low + n) : 0;
            take_row(obj + low * slot, slot, state + low, out, out + n);
            out += n;
            break;
        }
        *out++ = (struct qi_entry){(void *)(obj + low * slot), state + low};
        bits &= bits - 1;
    }
    *word = bits;
    return out;
}

static unsigned slab_take(struct qi_slab *s, struct qi_entry *out, unsigned want)
{
    struct qi_entry *end = out + QI_MIN(want, s->nfree), *at = out;
    uint64_t *bits = qi_slab_bits(s);
    unsigned w = s->hint;

    while (at != end) {
        at = take_word(s, w * 64 + 1, &bits[w], at, end);
        if (!bits[w])
            w++;
    }
    s->hint = (uint8_t)w;
    s->nfree = (uint16_t)(s->nfree - (at - out));
    return (unsigned)(at - out);
}

unsigned qi_slabs_take_locked(struct quire_cache *c, struct qi_cache_node *cn, struct qi_entry *out,
                              unsigned want)
{
    unsigned got = 0;

    while (got < want) {
        struct qi_list *from = &cn->slabs[QI_SLAB_PARTIAL];
        struct qi_slab *s;

        if (qi_list_empty(from))
            from = &cn->slabs[QI_SLAB_EMPTY];
        if (qi_list_empty(from))
            break;
        s = qi_list_first(from, struct qi_slab, link);
        if (QI_UNLIKELY(c->flags & QI_CACHE_CLOSED))
            qi_slab_check(c, s);
        got += QI_UNLIKELY(c->flags & QI_CACHE_RANDOM)
                   ? qi_slab_take_random(cn, s, out + got, want - got)
                   : slab_take(s, out + got, want - got);
        slab_relist(cn, s);
    }
    cn->in_slabs -= got;
    return got;
}

/* Put entries back from e on to before end, as long as they are of s, as the first is; behind the last one put.  The
 * slab's node is locked. */
static struct qi_entry *slab_put(struct qi_cache_node *cn, struct qi_slab *s, struct qi_entry *e,
                                 struct qi_entry *end)
{
    const uint8_t *first = s->state + 1;
    const struct qi_entry *begin = e;
    uint64_t *words = qi_slab_bits(s);
    size_t i, n = s->n, low = s->hint;
    uint32_t put;

    for (; e != end && (i = (size_t)(e->state - first)) < n; e++) {
        uint64_t word = words[i / 64], bit = (uint64_t)1 << i % 64;

        QI_CHECK(*e->state == QI_OBJ_IN && !(word & bit),
                 "heap: %s: object %p was freed twice: state %u, %s in its slab", s->cache->name,
                 e->obj, *e->state, word & bit ? "already" : "not");
        words[i / 64] = word | bit;
        low = QI_MIN(low, i / 64);
    }
    put = (uint32_t)(e - begin);
    QI_CHECK(put, "heap: %s: object %p has its state at %p, its slab's are at %p", s->cache->name,
             e->obj, e->state, first);
    s->hint = (uint8_t)low;
    s->nfree = (uint16_t)(s->nfree + put);
    cn->in_slabs += put;
    if (s->nfree == put || s->nfree == s->n)
        slab_relist(cn, s);
    return e;
}

/* Unlink empty slabs beyond keep, onto doomed. */
static void cull_locked(struct qi_cache_node *cn, uint32_t keep, struct qi_list *doomed)
{
    while (cn->nempty > keep) {
        struct qi_slab *s = qi_list_entry(cn->slabs[QI_SLAB_EMPTY].prev, struct qi_slab, link);

        if (QI_UNLIKELY(s->cache->flags & QI_CACHE_CLOSED))
            qi_slab_check(s->cache, s);
        qi_list_del(&s->link);
        qi_list_add(doomed, &s->link);
        cn->nempty--;
        cn->nslabs--;
        cn->objects -= s->n;
        cn->in_slabs -= s->n;
    }
}

static size_t release_all(struct qi_list *doomed)
{
    size_t frames = 0;

    while (!qi_list_empty(doomed)) {
        struct qi_slab *s = qi_list_first(doomed, struct qi_slab, link);

        qi_list_del(&s->link);
        frames += (size_t)1 << s->order;
        if (s->cache->flags & QUIRE_CACHE_RCU)
            qi_late_slab(s);
        else
            qi_slab_release(s);
    }
    return frames;
}

void qi_slabs_give(struct quire_cache *c, struct qi_entry *e, unsigned n)
{
    struct qi_entry *end = e + n;
    struct qi_cache_node *cn = NULL;
    struct qi_list doomed;
    struct qi_slab *s;

    qi_list_init(&doomed);
    while (e != end) { /* neighbours in a sheaf are often of one slab */
        s = qi_slab_of_page(quire_page_of_ptr(e->obj));
        if (cn != &c->node[s->node]) {
            if (cn) {
                cull_locked(cn, c->max_empty, &doomed);
                qi_spin_unlock_raw(&cn->lock);
            }
            cn = &c->node[s->node];
            qi_spin_lock_raw(&cn->lock);
        }
        e = slab_put(cn, s, e, end);
    }
    if (cn) {
        cull_locked(cn, c->max_empty, &doomed);
        qi_spin_unlock_raw(&cn->lock);
    }
    release_all(&doomed);
}

size_t qi_slabs_shrink(struct quire_cache *c, unsigned node, uint32_t keep)
{
    struct qi_cache_node *cn = &c->node[node];
    struct qi_list doomed;

    qi_list_init(&doomed);
    qi_spin_lock_raw(&cn->lock);
    cull_locked(cn, keep, &doomed);
    qi_spin_unlock_raw(&cn->lock);
    return release_all(&doomed);
}

void *qi_internal_alloc(struct quire_cache *c, quire_gfp gfp)
{
    unsigned node = quire_cpu_node(qport_cpu());
    struct qi_entry e;

    for (;;) {
        struct qi_cache_node *cn = &c->node[node];
        unsigned got;

        qi_spin_lock_raw(&cn->lock);
        got = qi_slabs_take_locked(c, cn, &e, 1);
        qi_spin_unlock_raw(&cn->lock);
        if (got) {
            *e.state = QI_OBJ_OUT(node);
            QPORT_EVENT(OBJECT_ALLOC, e.obj, c->slot);
            return e.obj;
        }
        node = qi_slab_grow(c, gfp, node);
        if (node == QUIRE_NODE_ANY)
            return NULL;
    }
}

uint8_t *qi_internal_state(const struct quire_cache *c, const void *obj)
{
    struct qi_slab *s = qi_slab_of_page(quire_page_of_ptr(obj));
    uint64_t i, low;

    /* as qi_slab_index(), with the cache's reciprocal: the slab's is 0 */
    i = qi_mul_wide((uintptr_t)obj - s->origin, c->recip, &low);
    return low < c->recip && s->cache == c && i <= s->n && s->state[i] == QI_OBJ_OUT(s->node)
               ? &s->state[i]
               : NULL;
}

void qi_internal_free(struct quire_cache *c, void *obj)
{
    struct qi_entry e = {.obj = obj, .state = qi_internal_state(c, obj)};

    QI_CHECK(e.state, "heap: %s: internal object %p is damaged", c->name, obj);
    QPORT_EVENT(OBJECT_FREE, obj, c->slot);
    *e.state = QI_OBJ_IN;
    qi_slabs_give(c, &e, 1);
}
