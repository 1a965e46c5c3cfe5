/*
 * slab/validate.c - looking for damage in a heap that is in use: quire_heap_validate().
 *
 * Checked is what cannot change under the lock of a cache's node: headers and edges of slabs, that bitmap,
 * counts and pages agree with them, red zones of objects that are out, poison of those that lie in their
 * slab; and this CPU's sheaves, with interrupts off.  Not checked, for it may change at any moment: the
 * sheaves of other CPUs, and the sum of all (quire_heap_verify() does, of a heap that is at rest).
 *
 * A few slabs at a time under the lock: what was looked at goes to the end of its list.  A slab that changes
 * lists meanwhile may be looked at twice, or not; so the time with interrupts off is bounded.
 */
#include "harden.h"
#include "track.h"

#define BATCH 4u
#define LOOKS 100u

static bool is_damaged(const struct quire_cache *c, const struct qi_slab *s, unsigned i, bool in)
{
    const void *obj = qi_slab_object(s, i);
    const uint8_t *at = NULL;

    /* its holder may be freeing it, or making it smaller: damage is what stays */
    for (unsigned look = 0; look < LOOKS; look++) {
        if (!in && qi_peek(&s->state[i]) != QI_OBJ_GUARDED)
            return false;
        at = qi_guard_damage(c, obj, !in);
        if (!at)
            return false;
        qport_relax();
    }
    qi_log(QUIRE_LOG_ERROR, "heap: %s: object %p is damaged at %p", c->name, obj, (const void *)at);
    qi_damage_report(c, obj, at, -1);
    return true;
}

static bool header_is_sound(const struct quire_cache *c, const struct qi_slab *s, unsigned node,
                            unsigned list)
{
    bool sound = s->cache == c && s->node == node && s->list == list && s->nfree <= s->n &&
                 s->recip == (c->internal ? 0 : c->recip) && s->state[0] == QI_OBJ_EDGE &&
                 s->state[s->n + 1] == QI_OBJ_EDGE;

    for (unsigned i = 0; sound && i < 1u << s->order; i++)
        sound = (qi_load_relaxed(&s->page[i].flags) & QUIRE_PG_SLAB) &&
                qi_slab_of_page(&s->page[i]) == s;
    if (!sound)
        qi_log(QUIRE_LOG_ERROR,
               "heap: %s: the header %p of a slab on list %u of node %u is damaged", c->name,
               (const void *)s, list, node);
    return sound;
}

static unsigned check_slab(const struct quire_cache *c, const struct qi_slab *s, unsigned node,
                           unsigned list)
{
    unsigned wrong = 0, bits = 0;

    if (!header_is_sound(c, s, node, list))
        return 1;
    for (unsigned i = 1; i <= s->n; i++) {
        bool in = qi_slab_bits(s)[(i - 1) / 64] >> (i - 1) % 64 & 1;

        bits += in;
        if (in && qi_peek(&s->state[i]) != QI_OBJ_IN) {
            qi_log(QUIRE_LOG_ERROR, "heap: %s: object %p lies in its slab with state %u", c->name,
                   qi_slab_object(s, i), qi_peek(&s->state[i]));
            wrong++;
        }
        wrong += is_damaged(c, s, i, in);
    }
    if (bits != s->nfree) {
        qi_log(QUIRE_LOG_ERROR, "heap: %s: slab %p says %u free, its bitmap %u", c->name,
               (const void *)s, s->nfree, bits);
        wrong++;
    }
    return wrong;
}

/* Up to BATCH slabs of a list, which go to its end; how many were looked at. */
static unsigned check_batch(struct quire_cache *c, unsigned node, unsigned list, unsigned *wrong)
{
    struct qi_cache_node *cn = &c->node[node];
    unsigned long irq = qi_spin_lock_irq(&cn->lock);
    struct qi_list *head = &cn->slabs[list];
    unsigned n = 0;

    for (; n < BATCH && !qi_list_empty(head); n++) {
        struct qi_slab *s = qi_list_first(head, struct qi_slab, link);

        *wrong += check_slab(c, s, node, list);
        qi_list_del(&s->link);
        qi_list_add_tail(head, &s->link);
    }
    qi_spin_unlock_irq(&cn->lock, irq);
    return n;
}

static uint64_t slabs_of(struct quire_cache *c, unsigned node)
{
    unsigned long irq = qi_spin_lock_irq(&c->node[node].lock);
    uint64_t n = c->node[node].nslabs;

    qi_spin_unlock_irq(&c->node[node].lock, irq);
    return n;
}

static unsigned check_sheaves(struct quire_cache *c)
{
    unsigned long irq = qport_irq_save();
    unsigned first = (unsigned)qport_cpu() * QI_CPU_CONTEXTS, wrong = 0;
    uint64_t cached = 0;

    for (unsigned i = first; i < first + QI_CPU_CONTEXTS; i++)
        wrong += !qi_verify_sheaves(c, qi_load_acquire(&c->cpu[i]), &cached);
    qport_irq_restore(irq);
    return wrong;
}

static unsigned validate(struct quire_cache *c)
{
    unsigned wrong = check_sheaves(c);

    for (unsigned node = 0; node < quire_nodes(); node++) {
        uint64_t most = slabs_of(c, node);

        for (unsigned list = 0; list < QI_SLAB_LISTS && !wrong; list++) {
            uint64_t seen = 0;
            unsigned n = 1;

            /* a list no longer than BATCH is seen as a whole at once */
            while (n && seen < most && !wrong) {
                n = check_batch(c, node, list, &wrong);
                seen += n;
            }
        }
    }
    return wrong;
}

enum quire_status quire_heap_validate(void)
{
    struct quire_cache *c;
    unsigned wrong = 0;

    qi_rwsem_read_lock(&qi_caches_lock);
    qi_list_for_each (c, &qi_caches, link)
        wrong += validate(c);
    qi_rwsem_read_unlock(&qi_caches_lock);
    return wrong ? QUIRE_CORRUPT : QUIRE_OK;
}
