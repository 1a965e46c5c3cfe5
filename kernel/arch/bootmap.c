/*
 * arch/bootmap.c - from the PVH start info to a memory map and the kernel's own page tables.
 *
 * Nothing here takes time in proportion to the memory but the direct map's leaves (one for 2 MiB or
 * 1 GiB); the array of struct page is only reserved (ports/bare maps it as it is touched).
 */
#include "cpu.h"
#include "bare.h"
#include <quire/memmap.h>
#include <quire/pt.h>

/* Xen, docs/misc/pvh.pandoc and arch-x86/hvm/start_info.h */
struct hvm_start_info {
    u32 magic, version, flags, nr_modules;
    u64 modlist_pa, cmdline_pa, rsdp_pa;
    u64 memmap_pa; /* from version 1 on */
    u32 memmap_entries, reserved;
};
struct hvm_module {
    u64 pa, size, cmdline_pa, reserved;
};
struct hvm_memmap_entry {
    u64 addr, size;
    u32 type, reserved;
};
#define HVM_MAGIC 0x336ec578u

#define MAX_RANGES   2048
#define MAX_RESERVED 64

struct boot_info boot_info;
q_pa kernel_root;
struct quire_memmap boot_memmap;

static struct quire_mem_range ranges[MAX_RANGES];
static struct quire_mem_range reserved[MAX_RESERVED];

extern char kernel_start[], kernel_end[], kernel_text_start[], kernel_text_end[];
extern char kernel_rodata_start[], kernel_rodata_end[], kernel_data_start[];

static void *at(u64 pa) { return quire_ptr_of_pa(Q_PA(pa)); }
static u64 image_pa(const void *p) { return (u64)p - KERNEL_BASE; }

static enum quire_mem_kind kind_of(u32 e820)
{
    switch (e820) {
    case 1: return QUIRE_MEM_USABLE;
    case 3: return QUIRE_MEM_ACPI_RECLAIM;
    case 4: return QUIRE_MEM_ACPI_NVS;
    case 5: return QUIRE_MEM_BAD;
    default: return QUIRE_MEM_RESERVED;
    }
}

static void reserve(u64 pa, u64 len, const char *owner)
{
    struct quire_mem_range clash;

    if (!len)
        return;
    if (quire_memmap_reserve(&boot_memmap, Q_PA(pa), len, owner, &clash) == QUIRE_OVERLAP)
        printk("memory map: %s at %#lx overlaps %s at %#lx", owner, (unsigned long)pa, clash.owner,
               (unsigned long)clash.base.v);
}

static void add_memory(const struct hvm_start_info *si)
{
    const struct hvm_memmap_entry *e = at(si->memmap_pa);

    quire_memmap_init(&boot_memmap, ranges, MAX_RANGES, reserved, MAX_RESERVED);
    if (si->version < 1 || !si->memmap_entries)
        kpanic("the loader gives no memory map (PVH start info version %u)", si->version);
    for (u32 i = 0; i < si->memmap_entries; i++) {
        enum quire_status s =
            quire_memmap_add(&boot_memmap, Q_PA(e[i].addr), e[i].size, kind_of(e[i].type));

        if (s != QUIRE_OK)
            printk("memory map: entry %u at %#lx ignored: %s", i, (unsigned long)e[i].addr,
                   quire_status_text(s));
    }
}

/* The first module is the initramfs; others are kept from being used, no more. */
static void add_modules(const struct hvm_start_info *si)
{
    const struct hvm_module *m = at(si->modlist_pa);

    for (u32 i = 0; i < si->nr_modules; i++) {
        reserve(m[i].pa, m[i].size, i ? "boot module" : "initramfs");
        if (!i) {
            boot_info.initrd_pa = m[i].pa;
            boot_info.initrd_len = m[i].size;
        }
    }
}

void bootmap_build(u32 start_info_pa)
{
    const struct hvm_start_info *si = at(start_info_pa);

    if (si->magic != HVM_MAGIC)
        kpanic("not started by PVH: magic %#x", si->magic);
    boot_info.cmdline = si->cmdline_pa ? at(si->cmdline_pa) : "";
    boot_info.rsdp_pa = si->rsdp_pa;
    cmdline_init(boot_info.cmdline); /* makes a copy: its memory is not kept */
    add_memory(si);
    reserve(0, 1 << 20, "BIOS and start-up code");
    reserve(image_pa(kernel_start), (u64)(kernel_end - kernel_start), "kernel image");
    add_modules(si);
}

/* ---- tables ---- */

/* Zeroed frames from the boot map; all have to be below 4 GiB, where the boot tables reach. */
bool bare_boot_table(void *ctx, q_pa *out)
{
    (void)ctx;
    if (quire_memmap_alloc(&boot_memmap, 4096, 4096, 1ull << 32, 0, "kernel page tables", out) !=
        QUIRE_OK)
        return false;
    qport_clear_page(quire_ptr_of_pa(*out));
    return true;
}

static void map_leaves(u64 va, u64 pa, u64 len, unsigned prot, unsigned shift)
{
    enum quire_status s = quire_pt_boot_map(kernel_root, va, Q_PA(pa), len, prot | QUIRE_GLOBAL,
                                            QUIRE_CACHED, shift, bare_boot_table, NULL);

    if (s != QUIRE_OK)
        kpanic("kernel map of %#lx, %lu bytes: %s", (unsigned long)va, (unsigned long)len,
               quire_status_text(s));
}

static void map(u64 va, u64 pa, u64 len, unsigned prot)
{
    if (len)
        map_leaves(va, pa, len, prot, cpu_features & CPU_GBPAGES ? 30 : 21);
}

/* The heap's pool, if there is one, in single pages. */
static void map_direct(u64 from, u64 to, unsigned prot)
{
    u64 pool = heap_pool();

    if (from >= to)
        return;
    if (pool && from <= pool && pool + QUIRE_HUGE_SIZE <= to) {
        map(QPORT_DIRECT_BASE + from, from, pool - from, prot);
        map_leaves(QPORT_DIRECT_BASE + pool, pool, QUIRE_HUGE_SIZE, prot, 12);
        from = pool + QUIRE_HUGE_SIZE;
    }
    map(QPORT_DIRECT_BASE + from, from, to - from, prot);
}

/* All RAM, whoever holds it; the kernel's code and constants cannot be written this way either. */
static void map_ram(void)
{
    u64 text = image_pa(kernel_text_start), data = image_pa(kernel_data_start), done = 0;

    map_direct(0, 1 << 20, QUIRE_READ | QUIRE_WRITE);
    done = 1 << 20;
    for (u32 i = 0; i < boot_memmap.n; i++) {
        const struct quire_mem_range *r = &boot_memmap.ranges[i];
        u64 from = K_MAX(K_DOWN(r->base.v, 4096), done), to = K_UP(r->base.v + r->len, 4096);

        if (r->kind != QUIRE_MEM_USABLE && r->kind != QUIRE_MEM_ACPI_RECLAIM)
            continue;
        if (to <= from)
            continue;
        if (from <= text && data <= to) {
            map_direct(from, text, QUIRE_READ | QUIRE_WRITE);
            map_direct(text, data, QUIRE_READ);
            map_direct(data, to, QUIRE_READ | QUIRE_WRITE);
        } else {
            map_direct(from, to, QUIRE_READ | QUIRE_WRITE);
        }
        done = to;
    }
}

#if QUIRE_SHADOW

uintptr_t bare_shadow_span;

/* A byte for each 8 of RAM (quire/shadow.h), 2 MiB for each 16 in which there is any. */
static void map_shadow(void)
{
    u64 done = 0;

    for (u32 i = 0; i < boot_memmap.n; i++) {
        const struct quire_mem_range *r = &boot_memmap.ranges[i];
        u64 at = K_MAX(K_DOWN(r->base.v, 8 * QUIRE_HUGE_SIZE), done);

        if (r->kind != QUIRE_MEM_USABLE)
            continue;
        for (; at < r->base.v + r->len; at += 8 * QUIRE_HUGE_SIZE) {
            q_pa pa;

            if (quire_memmap_alloc(&boot_memmap, QUIRE_HUGE_SIZE, QUIRE_HUGE_SIZE, 0, 0, "shadow",
                                   &pa) != QUIRE_OK)
                kpanic("no memory for the shadow of %#lx", (unsigned long)at);
            map(QPORT_SHADOW_BASE + at / 8, pa.v, QUIRE_HUGE_SIZE, QUIRE_READ | QUIRE_WRITE);
        }
        done = at;
    }
    bare_shadow_span = done;
}

/* With the tables in use, which reach all of it. */
static void clear_shadow(void)
{
    struct quire_translation t;

    for (u64 at = 0; at < bare_shadow_span; at += 8 * QUIRE_HUGE_SIZE) {
        quire_pt_translate(kernel_root, QPORT_SHADOW_BASE + at / 8, &t);
        if (t.present)
            memset((void *)(QPORT_SHADOW_BASE + at / 8), 0, QUIRE_HUGE_SIZE);
    }
}

#else

static void map_shadow(void) {}
static void clear_shadow(void) {}

#endif

static void map_image(void)
{
    map((u64)kernel_text_start, image_pa(kernel_text_start),
        (u64)(kernel_text_end - kernel_text_start), QUIRE_READ | QUIRE_EXEC);
    map((u64)kernel_rodata_start, image_pa(kernel_rodata_start),
        (u64)(kernel_rodata_end - kernel_rodata_start), QUIRE_READ);
    map((u64)kernel_data_start, image_pa(kernel_data_start), (u64)(kernel_end - kernel_data_start),
        QUIRE_READ | QUIRE_WRITE);
}

/*
 * Where memory may come.  Firmware names one node for all of it, and the device that brings memory
 * another.  A machine whose descriptors of what may come would eat its memory announces less.
 */
static void add_hotplug(void)
{
    u64 room = quire_memmap_usable(&boot_memmap) / 32 / (160 * acpi.numa.nnodes) * QUIRE_HUGE_SIZE;

    for (unsigned i = 0; i < acpi.numa.nranges; i++) {
        const struct numa_range *r = &acpi.numa.ranges[i];
        u64 len = K_MIN(r->len, room);

        if (!r->hotplug || r->nonvolatile)
            continue;
        if (len < r->len)
            printk("memory map: %lu MiB may come at %#lx: only %lu MiB can be used",
                   (unsigned long)(r->len >> 20), (unsigned long)r->base,
                   (unsigned long)(len >> 20));
        room -= len;
        if (quire_memmap_add(&boot_memmap, Q_PA(r->base), len, QUIRE_MEM_HOTPLUG) != QUIRE_OK ||
            quire_memmap_set_node(&boot_memmap, Q_PA(r->base), len, QUIRE_NODE_ANY) != QUIRE_OK)
            printk("memory map: what may come at %#lx is ignored", (unsigned long)r->base);
    }
}

static void set_nodes(void)
{
    for (unsigned i = 0; i < acpi.numa.nranges; i++) {
        const struct numa_range *r = &acpi.numa.ranges[i];
        enum quire_status s = quire_memmap_set_node(&boot_memmap, Q_PA(r->base), r->len, r->node);

        if (s != QUIRE_OK)
            printk("memory map: node of %#lx: %s", (unsigned long)r->base, quire_status_text(s));
    }
}

void bootmap_tables(void)
{
    set_nodes();
    add_hotplug();
    heap_modes_parse();
    if (!bare_boot_table(NULL, &kernel_root))
        kpanic("no memory for the kernel's tables");
    map_ram();
    map_image();
    map_shadow();
    write_cr3(kernel_root.v);
    clear_shadow();
}

void bootmap_report(void)
{
    static const char *const kinds[] = {"a device's", "hot-pluggable", "usable", "ACPI tables",
                                        "ACPI NVS",   "reserved",      "bad"};

    for (u32 i = 0; i < boot_memmap.n; i++) {
        const struct quire_mem_range *r = &boot_memmap.ranges[i];

        if (r->kind == QUIRE_MEM_HOTPLUG) {
            printk("memory: [%#014lx, %#014lx) may come", (unsigned long)r->base.v,
                   (unsigned long)(r->base.v + r->len));
            continue;
        }
        printk("memory: [%#014lx, %#014lx) %s, node %u", (unsigned long)r->base.v,
               (unsigned long)(r->base.v + r->len), kinds[r->kind],
               r->kind == QUIRE_MEM_USABLE ? r->node : 0);
    }
    for (u32 i = 0; i < boot_memmap.nreserved; i++) {
        const struct quire_mem_range *r = &boot_memmap.reserved[i];

        printk("memory: [%#014lx, %#014lx) kept for %s", (unsigned long)r->base.v,
               (unsigned long)(r->base.v + r->len), r->owner);
    }
}
