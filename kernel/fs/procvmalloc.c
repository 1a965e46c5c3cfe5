/*
 * fs/procvmalloc.c - /proc/vmallocinfo: a line for each kernel virtual area, in Linux's format
 * (proc(5); mm/vmalloc.c there): range with its guard page, bytes, who asked for it, pages, physical address,
 * kind, pages on each node.
 */
#include "../proc/proc.h"
#include "arch/cpu.h"
#include "gen.h"
#include <quire/kva.h>

/* Pages by node, of an area that may be freed meanwhile: then there are fewer. */
static void say_nodes(struct text *t, const struct quire_kva_area *a)
{
    u64 count[QUIRE_MAX_NODES] = {0};
    struct quire_page *page;

    for (u64 i = 0; i < a->nr_pages; i++)
        if (quire_kva_pages(a->addr, i, 1, &page))
            count[quire_page_node(page)]++;
    for (unsigned n = 0; n < quire_nodes(); n++)
        if (count[n])
            text_printf(t, " N%u=%lu", n, (unsigned long)count[n]);
}

static void say_caller(struct text *t, u64 at)
{
    u64 offset = 0;
    const char *name = ksym_name(at, &offset);

    if (name)
        text_printf(t, " %s+%#lx/%#lx", name, (unsigned long)offset, (unsigned long)ksym_size(at));
    else
        text_printf(t, " %#lx", (unsigned long)at);
}

static void say_area(struct text *t, const struct quire_kva_area *a)
{
    u64 from = a->addr.v;

    text_printf(t, "0x%016lx-0x%016lx %7lu", (unsigned long)from, (unsigned long)(from + a->size),
                (unsigned long)a->size);
    say_caller(t, a->caller);
    if (a->nr_pages)
        text_printf(t, " pages=%lu", (unsigned long)a->nr_pages);
    if (a->flags & QUIRE_AREA_IOREMAP)
        text_printf(t, " phys=0x%016lx ioremap", (unsigned long)a->phys_addr.v);
    if (a->flags & (QUIRE_AREA_ALLOC | QUIRE_AREA_STACK))
        text_printf(t, " vmalloc");
    if (a->flags & QUIRE_AREA_PERCPU)
        text_printf(t, " percpu");
    if (a->flags & QUIRE_AREA_VMAP)
        text_printf(t, " vmap");
    if (a->flags & QUIRE_AREA_RAM)
        text_printf(t, " vm_map_ram");
    if (a->flags & (QUIRE_AREA_ALLOC | QUIRE_AREA_STACK))
        say_nodes(t, a);
    text_printf(t, "\n");
}

int show_vmallocinfo(struct text *t, u64 key)
{
    struct quire_kva_area a;
    q_kva at = Q_KVA(0);

    (void)key;
    while (quire_kva_walk(&at, &a) == QUIRE_OK)
        say_area(t, &a);
    return 0;
}
