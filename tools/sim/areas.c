/*
 * areas.c - operations on kernel areas, through the MMU, as a kernel would.
 *
 * Each page of an area has a word of its holder's, who reads it again at the same address.
 */
#include "held.h"

static void touch(uint64_t va, enum sim_access kind, uint64_t *value, bool present)
{
    if (sim_access(va, kind, false, value) != present)
        sim_fail("content", "kernel address %#llx is%s mapped", (unsigned long long)va,
                 present ? " not" : "");
}

static void do_vmalloc(struct worker *w, struct held *h, unsigned bytes)
{
    char *p = quire_vzalloc(bytes, QUIRE_GFP_KERNEL);
    unsigned pages = (unsigned)((bytes + PAGE - 1) / PAGE);

    if (!p) {
        must_be_short(w, "vmalloc");
        return;
    }
    h->kind = HELD_AREA;
    h->n = bytes;
    h->p[0] = p;
    for (unsigned i = 0; i < pages && i < 9; i++) {
        touch((uintptr_t)p + i * PAGE, SIM_ACCESS_READ, &h->words[i], true);
        if (h->words[i])
            sim_fail("content", "vzalloc(%u): page %u reads %#llx", bytes, i,
                     (unsigned long long)h->words[i]);
        h->words[i] = worker_value(w);
        touch((uintptr_t)p + i * PAGE, SIM_ACCESS_WRITE, &h->words[i], true);
    }
}

static void vtouch(struct worker *w, struct held *h, unsigned at)
{
    unsigned pages, page;
    uint64_t got, va;

    if (h->kind != HELD_AREA)
        return;
    pages = (unsigned)((h->n + PAGE - 1) / PAGE);
    page = at % (pages + 1);
    va = (uintptr_t)h->p[0] + page * PAGE;
    if (page == pages) {
        touch(va, SIM_ACCESS_READ, &got, false); /* the guard */
        return;
    }
    if (page >= 9)
        return;
    touch(va, SIM_ACCESS_READ, &got, true);
    if (got != h->words[page])
        sim_fail("content", "kernel address %#llx reads %#llx, its holder wrote %#llx",
                 (unsigned long long)va, (unsigned long long)got,
                 (unsigned long long)h->words[page]);
    h->words[page] = worker_value(w);
    touch(va, SIM_ACCESS_WRITE, &h->words[page], true);
}

static void do_kvmalloc(struct worker *w, struct held *h, unsigned bytes)
{
    void *p = quire_kvmalloc(bytes, QUIRE_GFP_KERNEL);
    uint64_t value = worker_value(w), got;

    if (!p) {
        must_be_short(w, "kvmalloc");
        return;
    }
    h->kind = HELD_KV;
    h->p[0] = p;
    if ((uintptr_t)p < SIM_AREAS_START)
        return; /* of the heap: not mapped in the kernel's table */
    touch((uintptr_t)p, SIM_ACCESS_WRITE, &value, true);
    touch((uintptr_t)p, SIM_ACCESS_READ, &got, true);
    if (got != value)
        sim_fail("content", "kvmalloc at %p reads %#llx", p, (unsigned long long)got);
}

/* The held frames once more, at a kernel address. */
static void do_vmap(struct worker *w, struct held *h)
{
    enum quire_status st;
    uint64_t got;
    q_kva at;

    if (h->kind != HELD_PAGES)
        return;
    st = quire_vmap((struct quire_page *const *)h->p, h->n, QUIRE_READ | QUIRE_WRITE, &at);
    if (st != QUIRE_OK) {
        must_be_short(w, "vmap");
        return;
    }
    for (unsigned i = 0; i < h->n; i += 7) {
        touch(at.v + i * PAGE, SIM_ACCESS_READ, &got, true);
        if (got != h->pattern + i && !frame_is_bad(h->p[i]))
            sim_fail("content", "vmap: page %u reads %#llx", i, (unsigned long long)got);
    }
    quire_vunmap(at);
}

/* Registers of a device: somewhere in the first MiB, which is no usable memory. */
static void do_ioremap(struct worker *w, unsigned at, unsigned bytes)
{
    uint64_t value = worker_value(w), got;
    enum quire_status st;
    q_kva va;

    at = (at * 8 + w->number * 16384) % (900 << 10);
    st = quire_ioremap(Q_PA(at & ~7u), bytes + 8, QUIRE_UNCACHED, &va);
    if (st != QUIRE_OK) {
        must_be_short(w, "ioremap");
        return;
    }
    touch(va.v, SIM_ACCESS_WRITE, &value, true);
    touch(va.v, SIM_ACCESS_READ, &got, true);
    (void)got; /* other tasks have the same device */
    quire_iounmap(va);
}

static void do_kstack(struct worker *w, struct held *h)
{
    q_kva top;
    uint64_t value = worker_value(w);

    if (h->kind == HELD_STACK) {
        quire_stack_free(Q_KVA((uintptr_t)h->p[0]));
        h->kind = HELD_NOTHING;
    } else if (h->kind == HELD_NOTHING) {
        if (quire_stack_alloc(4 * PAGE, &top) != QUIRE_OK) {
            must_be_short(w, "stack");
            return;
        }
        touch(top.v - 8, SIM_ACCESS_WRITE, &value, true);
        touch(top.v - 4 * PAGE - 8, SIM_ACCESS_READ, &value, false);
        h->kind = HELD_STACK;
        h->p[0] = (void *)top.v; /* NOLINT: kept as a number */
    }
}

bool do_area_op(struct worker *w, const struct sim_op *op, struct held *h)
{
    bool free_slot = h->kind == HELD_NOTHING;

    switch (op->kind) {
    case SIM_OP_vmalloc:
        if (free_slot)
            do_vmalloc(w, h, op->arg[1]);
        return true;
    case SIM_OP_vfree:
        if (h->kind == HELD_AREA || h->kind == HELD_KV)
            memory_give_back(h);
        return true;
    case SIM_OP_kvmalloc:
        if (free_slot)
            do_kvmalloc(w, h, op->arg[1]);
        return true;
    case SIM_OP_vmap: do_vmap(w, h); return true;
    case SIM_OP_ioremap: do_ioremap(w, op->arg[0], op->arg[1]); return true;
    case SIM_OP_vtouch: vtouch(w, h, op->arg[1]); return true;
    case SIM_OP_kstack: do_kstack(w, h); return true;
    case SIM_OP_vpurge: quire_kva_purge(); return true;
    default: return false;
    }
}
