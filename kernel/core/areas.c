/*
 * core/areas.c - where the kernel's areas lie.
 *
 * As on Linux (Documentation/arch/x86/x86_64/mm.rst, 4-level tables): areas from ffffc900_00000000 on, 32 TiB with
 * the stacks behind them; struct pages at ffffea00_00000000 (QPORT_VMEMMAP_BASE).  With quire.layout=random
 * areas and stacks begin up to 4 TiB later, at another GiB with each boot, so that an address that
 * leaked from one boot says nothing about the next.
 */
#include "arch/cpu.h"
#include "cmdline.h"
#include <quire/kva.h>

#define AREAS  0xffffc90000000000ul
#define STACKS 0xffffd90000000000ul
#define END    0xffffe90000000000ul
#define SLACK  (4ul << 40)
#define GIB    (1ul << 30)

static u64 base_of(u64 fixed, bool random)
{
    return random ? fixed + qport_random() % (SLACK / GIB) * GIB : fixed;
}

void areas_layout(struct quire_kva_layout *l)
{
    char how[16];
    bool random = cmdline_get("quire.layout", how, sizeof(how)) && !strcmp(how, "random");

    *l = (struct quire_kva_layout){
        .areas_start = Q_KVA(base_of(AREAS, random)),
        .areas_end = Q_KVA(STACKS),
        .stacks_start = Q_KVA(base_of(STACKS, random)),
        .stacks_end = Q_KVA(END),
        .device_start = Q_KVA(0xfffff00000000000),
        .device_end = Q_KVA(0xffffff0000000000),
    };
    printk("quire: areas from %#lx, stacks from %#lx, struct pages from %#lx",
           (unsigned long)l->areas_start.v, (unsigned long)l->stacks_start.v,
           (unsigned long)QPORT_VMEMMAP_BASE);
}
