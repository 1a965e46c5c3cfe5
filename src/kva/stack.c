/*
 * kva/stack.c - kernel stacks with a guard page below, and a few free ones kept by each CPU.
 *
 * A cached stack stays mapped: a fork that finds one neither maps nor allocates, and an exit that
 * leaves one neither unmaps nor flushes.  A cache belongs to a CPU but has a lock, so that a purge
 * may empty all of them; nobody else ever contends for it.
 */
#include "kva.h"

#include "../base/check.h"

#define CACHED_PER_CPU 4u

struct stack_cache {
    struct qi_spin lock;
    uint32_t n; /* atomic, for a look without the lock */
    struct qi_area *first;
} QI_CACHE_ALIGNED;

static struct stack_cache caches[QUIRE_MAX_CPUS];
static const struct qi_lock_class cache_class = {"kva: free stacks"};
static uint64_t live; /* atomic */

void qi_stacks_init(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        caches[i] = (struct stack_cache){0};
        qi_spin_init(&caches[i].lock, &cache_class);
    }
    live = 0;
}

uint64_t qi_stacks_live(void) { return qi_load_relaxed(&live); }

static struct qi_area *take_cached(uint64_t bytes)
{
    struct stack_cache *c;
    struct qi_area **at, *a;

    qport_preempt_disable();
    c = &caches[qport_cpu()];
    qi_spin_lock(&c->lock);
    for (at = &c->first; *at && (*at)->bytes != bytes; at = &(*at)->next) {
    }
    a = *at;
    if (a) {
        *at = a->next;
        qi_store_relaxed(&c->n, c->n - 1);
    }
    qi_spin_unlock(&c->lock);
    qport_preempt_enable();
    return a;
}

static bool give_cached(struct qi_area *a)
{
    struct stack_cache *c;
    bool room;

    qport_preempt_disable();
    c = &caches[qport_cpu()];
    qi_spin_lock(&c->lock);
    room = c->n < CACHED_PER_CPU;
    if (room) {
        qi_store_release(&a->state, (uint32_t)QI_KVA_CACHED);
        a->next = c->first;
        c->first = a;
        qi_store_relaxed(&c->n, c->n + 1);
    }
    qi_spin_unlock(&c->lock);
    qport_preempt_enable();
    return room;
}

void qi_stacks_release(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        struct stack_cache *c = &caches[i];
        struct qi_area *list;

        if (!qi_load_relaxed(&c->n))
            continue;
        qi_spin_lock(&c->lock);
        list = c->first;
        c->first = NULL;
        qi_store_relaxed(&c->n, 0u);
        qi_spin_unlock(&c->lock);
        while (list) {
            struct qi_area *a = list;

            list = a->next;
            qi_area_retire(QI_STACKS, a);
        }
    }
}

static struct qi_area *make_stack(uint64_t bytes)
{
    struct qi_area *a = qi_area_make(QI_STACKS, bytes, QUIRE_PAGE_SIZE, 0, QI_KVA_STACK);

    if (a && !qi_area_populate(a, QUIRE_GFP_KERNEL)) {
        qi_area_retire(QI_STACKS, a);
        return NULL;
    }
    return a;
}

enum quire_status quire_stack_alloc(size_t bytes, q_kva *top)
{
    struct qi_area *a;
    uint64_t whole;

    if (!bytes || qi_add_overflows(bytes, QUIRE_PAGE_SIZE - 1, &whole))
        return QUIRE_INVALID;
    whole &= QUIRE_PAGE_MASK;
    a = take_cached(whole);
    if (!a)
        a = make_stack(whole);
    if (!a && quire_kva_purge()) {
        a = make_stack(whole);
        if (!a)
            quire_kva_purge();
    }
    if (!a)
        return QUIRE_NO_MEMORY;
    qi_area_publish(QI_STACKS, a);
    qi_fetch_add_relaxed(&live, 1);
    *top = Q_KVA(a->start + a->bytes);
    return QUIRE_OK;
}

void quire_stack_free(q_kva top)
{
    struct qi_area *a = qi_window_has(QI_STACKS, top.v - 1) ? qi_area_owning(top.v - 1) : NULL;

    QI_CHECK(a, "kva: stack_free: foreign or already freed stack top %#lx", (unsigned long)top.v);
    QI_CHECK(
        a->start + a->bytes == top.v && qi_load_acquire(&a->state) == QI_KVA_LIVE,
        "kva: stack_free: %#lx is not the top of a live stack: area at %#lx, %lu bytes, state %u",
        (unsigned long)top.v, (unsigned long)a->start, (unsigned long)a->bytes, a->state);
    qi_fetch_sub_relaxed(&live, 1);
    qi_fetch_sub_relaxed(&QI_STACKS->areas, 1);
    qi_fetch_sub_relaxed(&QI_STACKS->bytes, a->bytes);
    qi_store_relaxed(&a->state, (uint32_t)QI_KVA_BUSY);
    if (!give_cached(a))
        qi_area_retire(QI_STACKS, a);
}

bool quire_stack_guard_hit(q_kva va)
{
    uint64_t above = qi_align_down(va.v, QUIRE_PAGE_SIZE) + QUIRE_PAGE_SIZE;
    struct qi_area *a;

    if (!qi_window_has(QI_STACKS, va.v) || !qi_window_has(QI_STACKS, above))
        return false;
    a = qi_area_owning(above);
    return a && a->start == above && qi_load_acquire(&a->state) == QI_KVA_LIVE;
}
