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
            qi_area_retire(a);
        }
    }
}

static struct qi_area *make_stack(uint64_t bytes, uintptr_t caller)
{
    struct qi_want want = {.bytes = bytes,
                           .align = QUIRE_PAGE_SIZE,
                           .caller = caller,
                           .node = QUIRE_NODE_ANY,
                           .kind = QI_KVA_STACK};
    struct qi_area *a = qi_area_make(QI_STACKS, &want);

    if (a && !qi_area_populate(a, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY)) {
        qi_area_retire(a);
        return NULL;
    }
    return a;
}

/* A stack from the CPU's cache, or a new one, after a purge if need be. */
static struct qi_area *get_stack(uint64_t bytes, uintptr_t caller)
{
    struct qi_area *a = take_cached(bytes);
    uint64_t since;

    if (a) {
        qi_store_relaxed(&a->caller, caller);
        return a;
    }
    since = qi_purge_rounds();
    a = make_stack(bytes, caller);
    if (!a && qi_purge_helps(since)) {
        a = make_stack(bytes, caller);
        if (!a)
            quire_kva_purge();
    }
    return a;
}

static q_kva hand_out(struct qi_area *a)
{
    qi_area_publish(QI_STACKS, a);
    qi_fetch_add_relaxed(&live, 1);
    return Q_KVA(a->start + a->bytes);
}

enum quire_status quire_stack_alloc(size_t bytes, q_kva *top)
{
    struct qi_area *a;
    uint64_t whole;

    if (!qi_whole_pages(bytes, &whole))
        return QUIRE_INVALID;
    a = get_stack(whole, QI_CALLER());
    if (!a)
        return QUIRE_NO_MEMORY;
    *top = hand_out(a);
    return QUIRE_OK;
}

/* The stack whose end top is, out of its user's hands. */
static struct qi_area *take_back(q_kva top, const char *who, uintptr_t caller)
{
    struct qi_area *a = qi_window_has(QI_STACKS, top.v - 1) ? qi_area_owning(top.v - 1) : NULL;

    if (!a || a->start + a->bytes != top.v || qi_load_acquire(&a->state) != QI_KVA_LIVE)
        qi_area_misused(QI_STACKS, top.v - 1, who, caller);
    qi_area_claim(QI_STACKS, a, who, caller);
    qi_fetch_sub_relaxed(&live, 1);
    return a;
}

void quire_stack_free(q_kva top)
{
    struct qi_area *a = take_back(top, "stack_free", QI_CALLER());

    if (!give_cached(a))
        qi_area_retire(a);
}

enum quire_status quire_stack_alloc_bulk(size_t bytes, size_t n, q_kva *tops)
{
    uintptr_t caller = QI_CALLER();
    uint64_t whole;
    size_t got;

    if (!qi_whole_pages(bytes, &whole))
        return QUIRE_INVALID;
    for (got = 0; got < n; got++) {
        struct qi_area *a = get_stack(whole, caller);

        if (!a)
            break;
        tops[got] = hand_out(a);
    }
    if (got == n)
        return QUIRE_OK;
    quire_stack_free_bulk(got, tops);
    return QUIRE_NO_MEMORY;
}

void quire_stack_free_bulk(size_t n, const q_kva *tops)
{
    for (size_t i = 0; i < n; i++)
        qi_area_retire(take_back(tops[i], "stack_free_bulk", QI_CALLER()));
    if (n)
        qi_areas_flush();
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
