/*
 * arch/acpi.c - finds the ACPI tables, and reads CPUs and interrupt controllers (MADT) and power
 * registers (FADT).  ACPI 6.4, chapter 5.2.  The tables about nodes have readers of their own.
 *
 * Read once, through the boot map (below 4 GiB), before the kernel's own tables; nothing points
 * into the tables afterwards.  Tables are checked for length and sum; a bad one is named and
 * skipped.
 */
#include "cpu.h"
#include <quire/frame.h>

struct header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem[6], oem_table[8];
    u32 oem_revision, creator, creator_revision;
} __attribute__((packed));

struct acpi_info acpi = {.lapic_pa = 0xfee00000};

static const void *at(u64 pa) { return quire_ptr_of_pa(Q_PA(pa)); }

static u64 get(const void *p, unsigned bytes)
{
    u64 v = 0;

    memcpy(&v, p, bytes);
    return v;
}

static bool sum_ok(const void *p, size_t n)
{
    u8 sum = 0;

    for (size_t i = 0; i < n; i++)
        sum = (u8)(sum + ((const u8 *)p)[i]);
    return !sum;
}

/* ---- MADT ---- */

static void add_cpu(u32 id, u32 flags)
{
    if (!(flags & 1))
        return;
    if (acpi.ncpus == K_MAX_CPUS) {
        printk("acpi: more than %u CPUs: the rest stays off", K_MAX_CPUS);
        return;
    }
    acpi.apic_ids[acpi.ncpus++] = id;
}

static void madt_entry(const u8 *e)
{
    switch (e[0]) {
    case 0: /* local APIC */ add_cpu(e[3], (u32)get(e + 4, 4)); break;
    case 1: /* I/O APIC: the first one has the ISA interrupts */
        if (!acpi.ioapic_pa) {
            acpi.ioapic_pa = get(e + 4, 4);
            acpi.ioapic_gsi_base = (u32)get(e + 8, 4);
        }
        break;
    case 2: /* interrupt source override */
        if (e[3] < 16) {
            acpi.irq_gsi[e[3]] = (u32)get(e + 4, 4);
            acpi.irq_flags[e[3]] = (u16)get(e + 8, 2);
        }
        break;
    case 5: /* local APIC address override */ acpi.lapic_pa = get(e + 4, 8); break;
    case 9: /* local x2APIC */ add_cpu((u32)get(e + 4, 4), (u32)get(e + 8, 4)); break;
    }
}

static void walk(const struct header *h, size_t first, void (*entry)(const u8 *))
{
    const u8 *e = (const u8 *)h + first, *end = (const u8 *)h + h->length;

    for (; e + 2 <= end && e[1] >= 2 && e + e[1] <= end; e += e[1])
        entry(e);
}

/* The CPU that boots is number 0, wherever the table names it. */
static void boot_cpu_first(void)
{
    u32 r[4], id;

    cpuid(0, 0, r);
    if (r[0] >= 0xb) {
        cpuid(0xb, 0, r);
        id = r[3];
    } else {
        cpuid(1, 0, r);
        id = r[1] >> 24;
    }
    for (unsigned i = 0; i < acpi.ncpus; i++) {
        if (acpi.apic_ids[i] == id) {
            acpi.apic_ids[i] = acpi.apic_ids[0];
            acpi.apic_ids[0] = id;
            return;
        }
    }
}

static void madt(const struct header *h)
{
    acpi.lapic_pa = get((const u8 *)h + 36, 4);
    walk(h, 44, madt_entry);
    boot_cpu_first();
    numa_init(&acpi.numa, acpi.apic_ids, acpi.ncpus);
}

/* ---- the tables of nodes: numa.c, hmat.c ---- */

static void nodes(const struct header *h, const char *name,
                  bool (*take)(struct numa_info *, const u8 *, u64, struct numa_fault *))
{
    struct numa_fault f;

    if (!take(&acpi.numa, (const u8 *)h, h->length, &f))
        printk("acpi: %s is not taken: %s (at %lu)", name, f.what, (unsigned long)f.at);
}

static void fadt(const struct header *h)
{
    const u8 *p = (const u8 *)h;

    acpi.pm1a_control = (u16)get(p + 64, 4);
    acpi.pm1b_control = (u16)get(p + 68, 4);
    acpi.pm_timer = (u16)get(p + 76, 4);
    if (h->length >= 129 && get(p + 112, 4) & 1u << 10 && p[116] == 1) {
        acpi.has_reset = true;
        acpi.reset_port = (u16)get(p + 120, 8);
        acpi.reset_value = p[128];
    }
}

/* ---- the root ---- */

static void table(u64 pa, const char *wanted)
{
    const struct header *h = at(pa);

    if (!pa || pa >> 32 || memcmp(h->signature, wanted, 4))
        return;
    if (h->length < sizeof(*h) || h->length > 1 << 20 || !sum_ok(h, h->length)) {
        printk("acpi: %s at %#lx is damaged: ignored", wanted, (unsigned long)pa);
        return;
    }
    if (!memcmp(wanted, "APIC", 4))
        madt(h);
    else if (!memcmp(wanted, "SRAT", 4))
        nodes(h, wanted, numa_srat);
    else if (!memcmp(wanted, "SLIT", 4))
        nodes(h, wanted, numa_slit);
    else if (!memcmp(wanted, "HMAT", 4))
        nodes(h, wanted, numa_hmat);
    else
        fadt(h);
}

static u64 find_rsdp(void)
{
    for (u64 pa = 0xe0000; pa < 0x100000; pa += 16)
        if (!memcmp(at(pa), "RSD PTR ", 8) && sum_ok(at(pa), 20))
            return pa;
    return 0;
}

void acpi_parse(u64 rsdp_pa)
{
    /* in this order: affinity names CPUs, distances name nodes */
    static const char *const wanted[] = {"APIC", "SRAT", "SLIT", "HMAT", "FACP"};
    const struct header *root;
    const u8 *rsdp;
    unsigned bytes;

    numa_init(&acpi.numa, acpi.apic_ids, 1);
    for (unsigned i = 0; i < 16; i++)
        acpi.irq_gsi[i] = i;
    if (!rsdp_pa)
        rsdp_pa = find_rsdp();
    if (!rsdp_pa || rsdp_pa >> 32) {
        printk("acpi: no root pointer: one CPU, one node");
        return;
    }
    rsdp = at(rsdp_pa);
    bytes = rsdp[15] >= 2 && get(rsdp + 24, 8) && !(get(rsdp + 24, 8) >> 32) ? 8 : 4;
    root = at(bytes == 8 ? get(rsdp + 24, 8) : get(rsdp + 16, 4));
    if (!sum_ok(root, root->length)) {
        printk("acpi: the root table is damaged: one CPU, one node");
        return;
    }
    for (unsigned w = 0; w < K_COUNT(wanted); w++)
        for (size_t off = sizeof(*root); off + bytes <= root->length; off += bytes)
            table(get((const u8 *)root + off, bytes), wanted[w]);
}
