/*
 * arch/apic.c - local APIC (x2APIC or memory-mapped), its timer, the I/O APIC.  Intel SDM vol. 3,
 * chapter 10; 82093AA data sheet.
 */
#include "cpu.h"
#include <quire/kva.h>

#define REG_ID        0x20
#define REG_EOI       0xb0
#define REG_SPURIOUS  0xf0
#define REG_ICR_LOW   0x300
#define REG_ICR_HIGH  0x310
#define REG_LVT_TIMER 0x320
#define REG_LVT_LINT0 0x350
#define REG_LVT_LINT1 0x360
#define REG_INITIAL   0x380
#define REG_CURRENT   0x390
#define REG_DIVIDE    0x3e0

#define ICR_PENDING  0x1000
#define LVT_MASKED   0x10000
#define LVT_DEADLINE 0x40000

static volatile u32 *lapic;
static volatile u32 *ioapic;
static bool x2apic;
static u64 rate_mult; /* timer ticks a nanosecond, in 2^-32 */

static u32 reg_read(unsigned reg) { return x2apic ? (u32)rdmsr(0x800 + reg / 16) : lapic[reg / 4]; }

static void reg_write(unsigned reg, u32 v)
{
    if (x2apic)
        wrmsr(0x800 + reg / 16, v);
    else
        lapic[reg / 4] = v;
}

u32 apic_id(void) { return x2apic ? reg_read(REG_ID) : reg_read(REG_ID) >> 24; }
void apic_eoi(void) { reg_write(REG_EOI, 0); }

static volatile u32 *map_device(u64 pa)
{
    q_kva at;
    enum quire_status s = quire_ioremap(Q_PA(pa), 4096, QUIRE_UNCACHED, &at);

    if (s != QUIRE_OK)
        kpanic("no mapping for the interrupt controller at %#lx: %s", (unsigned long)pa,
               quire_status_text(s));
    return (volatile u32 *)at.v;
}

void apic_init_cpu(void)
{
    u64 base = rdmsr(MSR_APIC_BASE) | 0x800;

    wrmsr(MSR_APIC_BASE, x2apic ? base | 0x400 : base);
    reg_write(REG_SPURIOUS, 0x100 | VEC_SPURIOUS);
    reg_write(REG_LVT_LINT0, LVT_MASKED);
    reg_write(REG_LVT_LINT1, LVT_MASKED);
    reg_write(REG_DIVIDE, 0xb); /* by 1 */
    reg_write(REG_LVT_TIMER, VEC_TIMER | (cpu_features & CPU_TSC_DEADLINE ? LVT_DEADLINE : 0));
}

void apic_init_boot(void)
{
    /* the two old controllers keep quiet */
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    x2apic = cpu_features & CPU_X2APIC;
    if (!x2apic)
        lapic = map_device(acpi.lapic_pa);
    apic_init_cpu();
    cpus[0].apic_id = apic_id();
    if (acpi.ioapic_pa)
        ioapic = map_device(acpi.ioapic_pa);
}

/* ---- other CPUs ---- */

void apic_ipi_raw(u32 id, u32 command)
{
    unsigned long flags;

    if (x2apic) {
        wrmsr(0x800 + REG_ICR_LOW / 16, (u64)id << 32 | command);
        return;
    }
    flags = qport_irq_save();
    while (reg_read(REG_ICR_LOW) & ICR_PENDING)
        qport_relax();
    reg_write(REG_ICR_HIGH, id << 24);
    reg_write(REG_ICR_LOW, command);
    qport_irq_restore(flags);
}

void apic_ipi(unsigned cpu, u8 vector) { apic_ipi_raw(cpus[cpu].apic_id, 0x4000u | vector); }

void apic_nmi_others(void)
{
    for (unsigned i = 0; i < cpu_count; i++)
        if (i != qport_cpu() && cpus[i].online && (x2apic || lapic))
            apic_ipi_raw(cpus[i].apic_id, 0x4400);
}

/* ---- timer ---- */

void apic_timer_start_max(void) { reg_write(REG_INITIAL, ~0u); }
u32 apic_timer_count(void) { return reg_read(REG_CURRENT); }

void apic_timer_set_rate(u64 ticks, u64 ns)
{
    reg_write(REG_INITIAL, 0);
    rate_mult = (ticks << 32) / ns;
}

void apic_timer_oneshot(u64 delta_ns)
{
    u64 ticks;

    delta_ns = K_MIN(delta_ns, 1000000000ull); /* then it is set again */
    ticks = (u64)((unsigned __int128)delta_ns * rate_mult >> 32);
    if (cpu_features & CPU_TSC_DEADLINE)
        wrmsr(MSR_TSC_DEADLINE, rdtsc() + K_MAX(ticks, 1ull));
    else
        reg_write(REG_INITIAL, (u32)K_MIN(K_MAX(ticks, 1ull), 0xffffffffull));
}

/* ---- I/O APIC ---- */

static void ioapic_write(u32 reg, u32 v)
{
    ioapic[0] = reg;
    ioapic[4] = v;
}

void ioapic_route(unsigned isa_irq, u8 vector, unsigned cpu)
{
    u32 pin = acpi.irq_gsi[isa_irq] - acpi.ioapic_gsi_base, low = vector;
    u16 flags = acpi.irq_flags[isa_irq];

    if (!ioapic)
        return;
    low |= (flags & 3) == 3 ? 1u << 13 : 0;      /* active low */
    low |= (flags >> 2 & 3) == 3 ? 1u << 15 : 0; /* level */
    ioapic_write(0x10 + pin * 2 + 1, cpus[cpu].apic_id << 24);
    ioapic_write(0x10 + pin * 2, low);
}
