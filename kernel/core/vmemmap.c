/*
 * core/vmemmap.c - memory for the array of struct pages.
 *
 * The array is virtually one; physically it comes in leaves of 2 MiB, each of which describes 256 MiB of
 * memory.  A machine with much memory must not clear them all before the first program runs, so a
 * leaf is only reserved at boot; its first touch faults, and the fault clears and maps it.  The first leaf of
 * each GiB of the array is mapped at once: then all tables above the others exist, and the fault handler
 * allocates nothing.  All leaves are reserved before the allocator starts, also those of memory that it takes
 * over later: then there is no boot map to take them from.
 *
 * Memory that comes later has its struct pages in single frames of the allocator, mapped at once: a
 * block of 2 MiB needs four, which go with it.  Where a leaf of the boot reaches beyond the memory that was
 * there, it serves what comes, and stays.
 *
 * The part of a huge block that shows what other blocks' show (quire_page_map_share) is mapped in pages of 4 KiB; a leaf
 * that it cuts is split for good.  What was behind it goes to the allocator, also what boot had reserved.
 */
#include "bare.h"
#include "k.h"
#include "lock.h"
#include <quire/frame.h>

#define LEAF       (1ull << 21)
#define MAX_LEAVES 4096 /* 1 TiB of memory */

static u64 leaf_pa[MAX_LEAVES]; /* 0: none */
static struct kspin leaf_lock;

static bool leaf_mapped(u64 va)
{
    struct quire_translation t;

    quire_pt_translate(kernel_root, va, &t);
    return t.present;
}

static bool no_table(void *ctx, q_pa *out)
{
    (void)ctx, (void)out;
    return false;
}

static enum quire_status leaf_map(u64 va, u64 pa, quire_table_source source)
{
    for (u64 off = 0; off < LEAF; off += 4096)
        qport_clear_page(quire_ptr_of_pa(Q_PA(pa + off)));
    return quire_pt_boot_map(kernel_root, va, Q_PA(pa), LEAF,
                             QUIRE_READ | QUIRE_WRITE | QUIRE_GLOBAL, QUIRE_CACHED, 21, source,
                             NULL);
}

static enum quire_status leaf_reserve(u64 va, unsigned node)
{
    u64 n = (va - QPORT_VMEMMAP_BASE) / LEAF;
    enum quire_status s;
    q_pa pa;

    if (n >= MAX_LEAVES)
        return QUIRE_LIMIT;
    if (leaf_pa[n])
        return QUIRE_OK;
    s = quire_memmap_alloc(&boot_memmap, LEAF, LEAF, 0, node, "struct pages", &pa);
    if (s == QUIRE_OK && !(n & 511))
        s = leaf_map(va, pa.v, bare_boot_table);
    if (s == QUIRE_OK)
        leaf_pa[n] = pa.v;
    return s;
}

static enum quire_status populate_boot(u64 from, u64 to, unsigned node)
{
    enum quire_status s = QUIRE_OK;

    for (u64 va = K_DOWN(from, LEAF); s == QUIRE_OK && va < to; va += LEAF) {
        u64 first = K_DOWN(va, 1ull << 30);

        s = leaf_reserve(first, node);
        if (s == QUIRE_OK)
            s = leaf_reserve(va, node);
    }
    return s;
}

void vmemmap_reserve(void)
{
    for (u32 i = 0; i < boot_memmap.n; i++) {
        const struct quire_mem_range *r = &boot_memmap.ranges[i];
        u64 first = K_DOWN(r->base.v, QUIRE_HUGE_SIZE) / 4096, end = (r->base.v + r->len) / 4096;
        enum quire_status s;

        if (r->kind != QUIRE_MEM_USABLE)
            continue;
        s = populate_boot(QPORT_VMEMMAP_BASE + first * sizeof(struct quire_page),
                          QPORT_VMEMMAP_BASE + end * sizeof(struct quire_page), r->node);
        if (s != QUIRE_OK)
            kpanic("no memory for the struct pages of [%#lx, %#lx): %s", (unsigned long)r->base.v,
                   (unsigned long)(r->base.v + r->len), quire_status_text(s));
    }
}

static bool in_boot_leaf(u64 va) { return leaf_pa[(va - QPORT_VMEMMAP_BASE) / LEAF]; }

static enum quire_status populate_page(u64 va, unsigned node)
{
    struct quire_page *page;
    enum quire_status s;

    if (in_boot_leaf(va) || leaf_mapped(va))
        return QUIRE_OK;
    page = quire_page_alloc(0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, node);
    if (!page)
        return QUIRE_NO_MEMORY;
    s = quire_pt_kernel_map(va, quire_pa_of_page(page), 4096, QUIRE_READ | QUIRE_WRITE, 12);
    if (s)
        quire_page_free(page, 0);
    return s;
}

/* All of it within the leaves that can be described? */
static bool in_array(u64 to) { return to - QPORT_VMEMMAP_BASE <= MAX_LEAVES * LEAF; }

enum quire_status qport_vmemmap_populate(uintptr_t from, uintptr_t to, unsigned node)
{
    enum quire_status s = QUIRE_OK;

    if (!quire_managed_pages())
        return populate_boot(from, to, node);
    if (!in_array(to))
        return QUIRE_LIMIT;
    for (u64 va = from, next; s == QUIRE_OK && va < to; va = next) {
        next = in_boot_leaf(va) ? K_DOWN(va, LEAF) + LEAF : va + 4096;
        s = populate_page(va, node);
    }
    return s;
}

#define CHUNK 64 /* frames that are unmapped with one flush */

/* Pages [va, va + n * 4096) of one leaf. */
static void release(u64 va, unsigned n)
{
    struct quire_page *pages[CHUNK];
    struct quire_translation t;
    unsigned mapped = 0;

    for (unsigned i = 0; i < n; i++) {
        quire_pt_translate(kernel_root, va + i * 4096ul, &t);
        if (t.present && in_boot_leaf(va)) /* stays, as zeros */
            qport_clear_page((void *)(va + i * 4096ul));
        else if (t.present)
            pages[mapped++] = quire_page_of_pfn(quire_pfn_of_pa(t.pa));
    }
    if (!mapped)
        return;
    quire_pt_kernel_unmap(va, n * 4096ul);
    for (unsigned i = 0; i < mapped; i++)
        quire_page_free(pages[i], 0);
}

void bare_vmemmap_release(uintptr_t from, uintptr_t to)
{
    for (u64 va = from, next; va < to && in_array(va + 1); va = next) {
        next = K_MIN(K_MIN(to, va + CHUNK * 4096ul), K_DOWN(va, LEAF) + LEAF);
        release(va, (unsigned)((next - va) / 4096));
    }
}

/* ---- Shared by huge blocks ---- */

static u64 pages_saved; /* atomic */

u64 vmemmap_pages_saved(void) { return __atomic_load_n(&pages_saved, __ATOMIC_RELAXED); }

void bare_vmemmap_share(uintptr_t at, q_pa pa)
{
    struct quire_translation t;
    q_pfn old;

    quire_pt_translate(kernel_root, at, &t);
    old = quire_pfn_of_pa(t.pa);
    if (!t.present || quire_pt_kernel_remap(at, pa, QUIRE_READ) != QUIRE_OK)
        return;
    if (quire_frame_release(old) != QUIRE_OK) /* it was not of a leaf of the boot */
        quire_page_free(quire_page_of_pfn(old), 0);
    __atomic_add_fetch(&pages_saved, 1, __ATOMIC_RELAXED);
}

enum quire_status bare_vmemmap_unshare(uintptr_t at)
{
    struct quire_translation t;
    struct quire_page *page;
    enum quire_status s;

    quire_pt_translate(kernel_root, at, &t);
    if (t.prot & QUIRE_WRITE) /* there was no table for it */
        return QUIRE_OK;
    page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    if (!page)
        return QUIRE_NO_MEMORY;
    qport_copy_page(quire_page_ptr(page), (void *)at);
    s = quire_pt_kernel_remap(at, quire_pa_of_page(page), QUIRE_READ | QUIRE_WRITE);
    if (s != QUIRE_OK)
        quire_page_free(page, 0);
    else
        __atomic_sub_fetch(&pages_saved, 1, __ATOMIC_RELAXED);
    return s;
}

bool bare_vmemmap_fault(uint64_t va)
{
    u64 n = (va - QPORT_VMEMMAP_BASE) / LEAF;
    unsigned long flags;
    bool ok;

    if (va < QPORT_VMEMMAP_BASE || n >= MAX_LEAVES || !leaf_pa[n])
        return false;
    flags = kspin_lock(&leaf_lock);
    va = K_DOWN(va, LEAF);
    ok = leaf_mapped(va) || leaf_map(va, leaf_pa[n], no_table) == QUIRE_OK;
    kspin_unlock(&leaf_lock, flags);
    return ok;
}
