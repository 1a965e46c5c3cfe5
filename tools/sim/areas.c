/*
 * areas.c - operations on kernel areas, through the MMU, as a kernel would.
 *
 * Each page of an area has a word of its holder's, who reads it again at the same address.
 */
#include <quire/percpu.h>

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
    h->cache = 0;
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
    if (h->cache >> page & 1) {
        touch(va, SIM_ACCESS_WRITE, &got, false);
        return;
    }
    h->words[page] = worker_value(w);
    touch(va, SIM_ACCESS_WRITE, &h->words[page], true);
}

/* A page of an area becomes read-only, or writable again, for every CPU that the area may come to. */
static void vprotect(struct worker *w, struct held *h, unsigned at)
{
    unsigned page = at % (unsigned)((h->n + PAGE - 1) / PAGE);
    enum quire_status st;

    h->cache ^= 1u << page;
    st = quire_kva_protect(Q_KVA((uintptr_t)h->p[0] + page * PAGE), PAGE,
                           h->cache >> page & 1 ? QUIRE_READ : QUIRE_READ | QUIRE_WRITE);
    if (st != QUIRE_OK)
        sim_fail("status", "protection of page %u of %p: %s", page, h->p[0], quire_status_name(st));
    vtouch(w, h, page);
}

/* Areas are listed in order and apart; the one that is held is there, as it is. */
static void vwalk(const struct held *h)
{
    struct quire_kva_area a;
    uint64_t end = 0;
    q_kva at = Q_KVA(0);

    while (quire_kva_walk(&at, &a) == QUIRE_OK) {
        if (a.addr.v < end || a.size <= PAGE || a.size % PAGE)
            sim_fail("content", "area at %#llx, %llu bytes, after %#llx",
                     (unsigned long long)a.addr.v, (unsigned long long)a.size,
                     (unsigned long long)end);
        end = a.addr.v + a.size - PAGE;
    }
    if (h->kind != HELD_AREA)
        return;
    at = Q_KVA((uintptr_t)h->p[0]);
    if (quire_kva_walk(&at, &a) != QUIRE_OK || a.addr.v != (uintptr_t)h->p[0] ||
        a.nr_pages != (h->n + PAGE - 1) / PAGE || !(a.flags & QUIRE_AREA_ALLOC))
        sim_fail("content", "area %p of %u bytes is listed at %#llx with %llu pages", h->p[0], h->n,
                 (unsigned long long)a.addr.v, (unsigned long long)a.nr_pages);
}

/* An area that has a large leaf if there is a block for it, cut by a change of protection. */
static void cut_large_leaf(struct worker *w, char *p, unsigned at)
{
    uint64_t off = at * 64ull % QUIRE_HUGE_SIZE & ~(PAGE - 1), value = worker_value(w), got;
    enum quire_status st;

    touch((uintptr_t)p + off, SIM_ACCESS_WRITE, &value, true);
    st = quire_kva_protect(Q_KVA((uintptr_t)p + off), PAGE, QUIRE_READ);
    if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "a table to split into");
    touch((uintptr_t)p + off, SIM_ACCESS_READ, &got, true);
    if (got != value)
        sim_fail("content", "page %#llx of %p reads %#llx", (unsigned long long)off, (void *)p,
                 (unsigned long long)got);
    touch((uintptr_t)p + off, SIM_ACCESS_WRITE, &value, st != QUIRE_OK);
    touch((uintptr_t)p + (off ^ PAGE), SIM_ACCESS_WRITE, &value, true);
}

/* One at a time, and only if it leaves what others may count with. */
static void vhuge(struct worker *w, unsigned bytes, unsigned at)
{
    bool room;
    char *p;

    sim_look_begin();
    room = quire_free_pages() >= world.low_mark + 3 * QUIRE_HUGE_SIZE / PAGE;
    sim_look_end();
    if (world.big_area || !room)
        return;
    world.big_area = true;
    p = quire_vmalloc(QUIRE_HUGE_SIZE + bytes, QUIRE_GFP_KERNEL);
    if (p) {
        cut_large_leaf(w, p, at);
        quire_vfree(p);
    }
    world.big_area = false;
}

/* A word of what kvmalloc gave: of the heap, which is not mapped in the kernel's table, or of an area. */
static void kv_access(char *p, enum sim_access kind, uint64_t *value)
{
    if ((uintptr_t)p >= SIM_AREAS_START) {
        touch((uintptr_t)p, kind, value, true);
    } else if (kind == SIM_ACCESS_READ) {
        *value = *(uint64_t *)p;
    } else {
        *(uint64_t *)p = *value;
        monitor_hw_write(p, sizeof *value);
    }
}

/* The first word and the last. */
static unsigned kv_place(const struct held *h, unsigned i) { return i ? (h->n / 8 - 1) * 8 : 0; }

static void kv_mark(struct worker *w, struct held *h)
{
    for (unsigned i = 0; i < 2 && h->n >= 8 * (i + 1); i++) {
        h->words[i] = worker_value(w);
        kv_access((char *)h->p[0] + kv_place(h, i), SIM_ACCESS_WRITE, &h->words[i]);
    }
}

void kv_check(const struct held *h, unsigned bytes)
{
    uint64_t got;

    for (unsigned i = 0; i < 2 && h->n >= 8 * (i + 1); i++) {
        if (kv_place(h, i) + 8 > bytes)
            continue;
        kv_access((char *)h->p[0] + kv_place(h, i), SIM_ACCESS_READ, &got);
        if (got != h->words[i])
            sim_fail("content", "kvmalloc(%u) at %p: byte %u reads %#llx, its holder wrote %#llx",
                     h->n, h->p[0], kv_place(h, i), (unsigned long long)got,
                     (unsigned long long)h->words[i]);
    }
}

static void do_kvmalloc(struct worker *w, struct held *h, unsigned bytes)
{
    void *p = quire_kvmalloc(bytes, QUIRE_GFP_KERNEL);

    if (!p) {
        must_be_short(w, "kvmalloc");
        return;
    }
    h->kind = HELD_KV;
    h->n = bytes;
    h->p[0] = p;
    kv_mark(w, h);
    kv_check(h, bytes);
}

static void do_kvrealloc(struct worker *w, struct held *h, unsigned bytes)
{
    struct held old = *h;
    void *p;

    if (h->kind != HELD_KV || !bytes)
        return;
    kv_check(h, h->n);
    p = quire_kvrealloc(h->p[0], bytes, QUIRE_GFP_KERNEL);
    if (!p) {
        must_be_short(w, "kvrealloc");
        return;
    }
    old.p[0] = p;
    kv_check(&old, h->n < bytes ? h->n : bytes);
    h->p[0] = p;
    h->n = bytes;
    kv_mark(w, h);
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

/* Some of them for a short time.  They may be given back before the flush, by quire_page_put() (frame_give_pages). */
static void do_vm_map_ram(struct worker *w, struct held *h, unsigned n)
{
    uint64_t got;
    q_kva at;

    if (h->kind != HELD_PAGES)
        return;
    if (h->refs == 1) {
        for (unsigned i = 0; i < h->n; i++)
            quire_page_get(h->p[i]);
        h->refs = 2;
    }
    n = 1 + n % (h->n < QUIRE_VM_MAP_RAM_MAX ? h->n : QUIRE_VM_MAP_RAM_MAX);
    if (quire_vm_map_ram((struct quire_page *const *)h->p, n, &at) != QUIRE_OK) {
        must_be_short(w, "vm_map_ram");
        return;
    }
    for (unsigned i = 0; i < n; i += 3) {
        touch(at.v + i * PAGE, SIM_ACCESS_READ, &got, true);
        if (got != h->pattern + i && !frame_is_bad(h->p[i]))
            sim_fail("content", "vm_map_ram: page %u reads %#llx", i, (unsigned long long)got);
    }
    touch(at.v + n * PAGE, SIM_ACCESS_READ, &got, false); /* the guard */
    quire_vm_unmap_ram(at, n);
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

/* All or none, and all back at once. */
static void do_kstacks(struct worker *w, unsigned n)
{
    uint64_t value = worker_value(w);
    q_kva tops[SIM_BOXES];

    n = 1 + n % SIM_BOXES;
    if (quire_stack_alloc_bulk(2 * PAGE, n, tops) != QUIRE_OK) {
        must_be_short(w, "stacks");
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        touch(tops[i].v - 8, SIM_ACCESS_WRITE, &value, true);
        touch(tops[i].v - 2 * PAGE - 8, SIM_ACCESS_READ, &value, false);
        if (!quire_stack_guard_hit(Q_KVA(tops[i].v - 2 * PAGE - 8)))
            sim_fail("content", "the guard of the stack at %#llx is not known",
                     (unsigned long long)tops[i].v);
    }
    quire_stack_free_bulk(n, tops);
}

/* ---- a copy for each CPU ---- */

/* The first and the last word of each CPU's copy: a value of the holder's, and the CPU. */
static void each_copy(const struct held *h, enum sim_access kind, uint64_t value)
{
    for (unsigned cpu = 0; cpu < quire_cpus(); cpu++)
        for (unsigned end = 0; end < 2; end++) {
            uint64_t va = (uintptr_t)quire_percpu_ptr(h->p[0], cpu) + end * ((h->n - 1) & ~7u);
            uint64_t want = value ? value + cpu : 0, word = want;

            touch(va, kind, &word, true);
            if (word != want)
                sim_fail("content", "the copy of CPU %u at %#llx reads %#llx, not %#llx", cpu,
                         (unsigned long long)va, (unsigned long long)word,
                         (unsigned long long)want);
        }
}

static void do_percpu(struct worker *w, struct held *h, unsigned bytes)
{
    bool atomic = bytes & 1;
    void *p;

    bytes = 8 + bytes % (QUIRE_PERCPU_UNIT - 8) / 8 * 8;
    p = quire_percpu_alloc(bytes, 8, atomic ? QUIRE_GFP_ATOMIC : QUIRE_GFP_KERNEL);
    if (!p) {
        if (!atomic)
            must_be_short(w, "per-CPU memory");
        return;
    }
    h->kind = HELD_PERCPU;
    h->n = bytes;
    h->p[0] = p;
    h->words[0] = worker_value(w);
    each_copy(h, SIM_ACCESS_READ, 0);
    each_copy(h, SIM_ACCESS_WRITE, h->words[0]);
}

void percpu_give(struct held *h)
{
    each_copy(h, SIM_ACCESS_READ, h->words[0]);
    quire_percpu_free(h->p[0]);
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
        if (h->kind == HELD_AREA || h->kind == HELD_KV || h->kind == HELD_PERCPU)
            memory_give_back(h);
        return true;
    case SIM_OP_kvmalloc:
        if (free_slot)
            do_kvmalloc(w, h, op->arg[1]);
        return true;
    case SIM_OP_kvrealloc: do_kvrealloc(w, h, op->arg[1]); return true;
    case SIM_OP_vmap: do_vmap(w, h); return true;
    case SIM_OP_ioremap: do_ioremap(w, op->arg[0], op->arg[1]); return true;
    case SIM_OP_vtouch: vtouch(w, h, op->arg[1]); return true;
    case SIM_OP_kstack: do_kstack(w, h); return true;
    case SIM_OP_vpurge: quire_kva_purge(); return true;
    case SIM_OP_vtick: quire_kva_tick(); return true;
    case SIM_OP_vm_map_ram: do_vm_map_ram(w, h, op->arg[1]); return true;
    case SIM_OP_vprotect:
        if (h->kind == HELD_AREA)
            vprotect(w, h, op->arg[1]);
        return true;
    case SIM_OP_vguard: guards_op(op->arg[0]); return true;
    case SIM_OP_vwalk: vwalk(h); return true;
    case SIM_OP_vhuge: vhuge(w, op->arg[0], op->arg[1]); return true;
    case SIM_OP_kstacks: do_kstacks(w, op->arg[0]); return true;
    case SIM_OP_percpu:
        if (free_slot)
            do_percpu(w, h, op->arg[1]);
        return true;
    default: return false;
    }
}
