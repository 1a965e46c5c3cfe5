/*
 * kva/verify.c - looking at areas from outside: the walk, pages, protections, and the walk that
 * checks K1 to K6.
 */
#include <quire/percpu.h>

#include "kva.h"

#include "../base/check.h"

/* ---- pages ---- */

bool quire_is_kva(const void *at)
{
    uint64_t va = (uintptr_t)at;

    return qi_window_has(QI_AREAS, va) || qi_window_has(QI_STACKS, va) ||
           qi_window_has(QI_DEVICES, va);
}

struct quire_page *quire_kva_page(const void *at)
{
    struct quire_translation t;

    if (!quire_is_kva(at))
        return NULL;
    quire_pt_translate(qi_kpt_root(), (uintptr_t)at, &t);
    if (!t.present || qi_window_has(QI_DEVICES, (uintptr_t)at) ||
        !quire_pfn_valid(quire_pfn_of_pa(t.pa)))
        return NULL;
    return quire_page_of_pfn(quire_pfn_of_pa(t.pa));
}

size_t quire_kva_pages(q_kva addr, size_t first, size_t n, struct quire_page **out)
{
    size_t got = 0;

    for (; got < n; got++) {
        uint64_t va = addr.v + (first + got) * QUIRE_PAGE_SIZE;

        out[got] = quire_kva_page((void *)(uintptr_t)va);
        if (!out[got])
            break;
    }
    return got;
}

/* ---- protections ---- */

enum quire_status quire_kva_protect(q_kva at, uint64_t len, unsigned prot)
{
    uintptr_t caller = QI_CALLER();
    struct qi_area *a = qi_window_has(QI_AREAS, at.v) ? qi_area_at(QI_AREAS, at.v) : NULL;

    if (!a || (a->kind != QI_KVA_MEMORY && a->kind != QI_KVA_MAPPED) ||
        qi_load_acquire(&a->state) != QI_KVA_LIVE)
        qi_area_misused(QI_AREAS, at.v, "kva_protect", caller);
    if (!len || !qi_is_aligned(at.v | len, QUIRE_PAGE_SIZE) || at.v - a->start > a->bytes ||
        len > a->bytes - (at.v - a->start))
        return QUIRE_INVALID;
    return qi_kpt_protect(at, len, prot);
}

/* ---- the walk ---- */

static bool has_huge(const struct qi_area *a)
{
    for (uint64_t at = qi_align_up(a->start, QUIRE_HUGE_SIZE);
         at + QUIRE_HUGE_SIZE <= a->start + a->bytes; at += QUIRE_HUGE_SIZE) {
        unsigned level;
        qi_pte *p = qi_pt_lookup(qi_kpt_root(), at, &level);

        if (p && level)
            return true;
    }
    return false;
}

static void describe(const struct qi_area *a, struct quire_kva_area *out)
{
    static const unsigned flags[] = {
        [QI_KVA_MEMORY] = QUIRE_AREA_ALLOC, [QI_KVA_MAPPED] = QUIRE_AREA_VMAP,
        [QI_KVA_STACK] = QUIRE_AREA_STACK,  [QI_KVA_DEVICE] = QUIRE_AREA_IOREMAP,
        [QI_KVA_BLOCK] = QUIRE_AREA_RAM,    [QI_KVA_PERCPU] = QUIRE_AREA_ALLOC | QUIRE_AREA_PERCPU};
    unsigned kind = qi_load_relaxed(&a->kind);
    bool device = kind == QI_KVA_DEVICE;

    *out = (struct quire_kva_area){
        .addr = Q_KVA(a->start),
        .size = a->bytes + QUIRE_PAGE_SIZE,
        .flags = flags[kind] | (has_huge(a) ? QUIRE_AREA_HUGE : 0),
        .nr_pages = device ? 0 : qi_area_pages(a),
        .phys_addr = Q_PA(device ? qi_load_relaxed(&a->phys) : 0),
        .caller = qi_load_relaxed(&a->caller),
    };
}

static struct qi_area *live_from(struct qi_gap_node *n, const struct qi_part *p, uint64_t at)
{
    for (; n != &p->gaps.fence; n = n->next) {
        struct qi_area *a = QI_CONTAINER(n, struct qi_area, node);

        if (qi_load_acquire(&a->state) == QI_KVA_LIVE && a->start >= at)
            return a;
    }
    return NULL;
}

/* The first area of a part from at on; *next: the start of the one after it, or 0. */
static bool walk_part(struct qi_part *p, uint64_t at, struct quire_kva_area *out)
{
    struct qi_area *a, *after;

    qi_spin_lock(&p->lock);
    a = live_from(qi_gaps_from(&p->gaps, at), p, at);
    for (; a; a = live_from(a->node.next, p, at)) {
        describe(a, out);
        after = live_from(a->node.next, p, at);
        out->next = Q_KVA(after ? after->start : 0);
        if (qi_load_acquire(&a->state) == QI_KVA_LIVE) /* all the time */
            break;
    }
    qi_spin_unlock(&p->lock);
    return a != NULL;
}

/* The part that follows at, in the order of addresses, whatever the order of windows. */
static struct qi_part *part_from(uint64_t at)
{
    struct qi_part *best = NULL;

    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++)
        for (unsigned k = 0; k < qi_windows[i].nparts; k++) {
            struct qi_part *p = &qi_windows[i].parts[k];

            if (p->end > at && (!best || p->start < best->start))
                best = p;
        }
    return best;
}

static bool walk_from(uint64_t at, struct quire_kva_area *out)
{
    struct qi_part *p;

    for (; (p = part_from(at)); at = p->end)
        if (walk_part(p, QI_MAX(at, p->start), out))
            return true;
    return false;
}

enum quire_status quire_kva_walk(q_kva *at, struct quire_kva_area *out)
{
    struct quire_kva_area after;

    if (!walk_from(at->v, out))
        return QUIRE_NOT_FOUND;
    *at = Q_KVA(out->addr.v + out->size - QUIRE_PAGE_SIZE);
    if (!out->next.v && walk_from(at->v, &after))
        out->next = after.addr;
    return QUIRE_OK;
}

/* ---- verify ---- */

bool qi_kva_mapped(uint64_t va)
{
    unsigned level;
    qi_pte *p = qi_pt_lookup(qi_kpt_root(), va, &level);

    return p && !qi_pte_none(qi_pte_load(p));
}

static bool pages_right(const struct qi_area *a, uint32_t state)
{
    bool want = state == QI_KVA_LIVE || state == QI_KVA_CACHED;
    uint64_t guard = a->kind == QI_KVA_STACK ? a->node.start : a->node.end - QUIRE_PAGE_SIZE;

    for (uint64_t at = a->start; at < a->start + a->bytes; at += QUIRE_PAGE_SIZE)
        if (qi_kva_mapped(at) != want) {
            if (qi_load_acquire(&a->state) != state)
                return true; /* its holder is at work */
            qi_log(QUIRE_LOG_ERROR, "kva verify: %s: area at %#lx, state %u: page %#lx is %smapped",
                   want ? "K2" : "K3", (unsigned long)a->start, state, (unsigned long)at,
                   want ? "not " : "");
            return false;
        }
    if (qi_kva_mapped(guard)) {
        qi_log(QUIRE_LOG_ERROR, "kva verify: K2: guard %#lx of area at %#lx is mapped",
               (unsigned long)guard, (unsigned long)a->start);
        return false;
    }
    return true;
}

/* K4, for an area that is mapped. */
static bool frames_right(const struct qi_area *a, uint32_t state)
{
    if (state != QI_KVA_LIVE && state != QI_KVA_CACHED)
        return true;
    for (uint64_t at = a->start; at < a->start + a->bytes; at += QUIRE_PAGE_SIZE) {
        struct quire_page *page = quire_kva_page((void *)(uintptr_t)at);

        if (page && qi_load_relaxed(&quire_page_head(page)->owner) == (uint64_t)(uintptr_t)a)
            continue;
        if (qi_load_acquire(&a->state) != state)
            break; /* its holder is at work */
        qi_log(QUIRE_LOG_ERROR, "kva verify: K4: the frame at %#lx is not of area at %#lx",
               (unsigned long)at, (unsigned long)a->start);
        return false;
    }
    return true;
}

static bool verify_area(const struct qi_part *part, const struct qi_area *a)
{
    uint32_t state = qi_load_acquire(&a->state);

    if (state == QI_KVA_BUSY)
        return true;
    if (a->kind > QI_KVA_PERCPU || a->part >= qi_window_of(a)->nparts ||
        &qi_window_of(a)->parts[a->part] != part || a->node.start < part->start ||
        a->node.end > part->end) {
        qi_log(QUIRE_LOG_ERROR, "kva verify: K1: area at %#lx, kind %u, in window %#lx",
               (unsigned long)a->start, a->kind, (unsigned long)part->start);
        return false;
    }
    if (a->kind == QI_KVA_BLOCK && state == QI_KVA_LIVE)
        return qi_block_verify(a);
    if (!pages_right(a, state))
        return false;
    return a->kind == QI_KVA_MAPPED || a->kind == QI_KVA_DEVICE || frames_right(a, state);
}

static bool verify_part(struct qi_part *p)
{
    bool good = true;

    qi_spin_lock(&p->lock);
    if (!qi_gaps_verify(&p->gaps)) {
        qi_log(QUIRE_LOG_ERROR, "kva verify: K1: the tree of window %#lx is damaged",
               (unsigned long)p->start);
        good = false;
    }
    for (struct qi_gap_node *n = p->gaps.floor.next; good && n != &p->gaps.fence; n = n->next)
        good = verify_area(p, QI_CONTAINER(n, struct qi_area, node));
    qi_spin_unlock(&p->lock);
    return good;
}

enum quire_status quire_kva_verify(void)
{
    bool good = true;

    for (unsigned i = 0; i < QI_COUNT(qi_windows); i++)
        for (unsigned k = 0; k < qi_windows[i].nparts; k++)
            good &= verify_part(&qi_windows[i].parts[k]);
    return good ? quire_percpu_verify() : QUIRE_CORRUPT;
}
