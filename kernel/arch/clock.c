/*
 * arch/clock.c - time: the TSC as the clock, measured once against the ACPI timer (or the PIT),
 * and the CMOS clock for the date.
 *
 * ktime_ns() is a subtraction, a multiplication and a shift.  All CPUs' TSCs are taken to run
 * together, as they do on everything since 2008 and in QEMU.
 */
#include "cpu.h"
#include "ktime.h"

#define PM_HZ     3579545ull
#define PIT_HZ    1193182ull
#define WINDOW_MS 5

static u64 tsc_base, ns_mult; /* ns = ticks * ns_mult >> 32 */
static u64 real_base_ns;      /* 1970 to boot */
static i64 real_shift_ns;     /* clock_settime */

u64 ktime_ns(void) { return (u64)((unsigned __int128)(rdtsc() - tsc_base) * ns_mult >> 32); }
u64 krealtime_ns(void)
{
    return real_base_ns + ktime_ns() + (u64)__atomic_load_n(&real_shift_ns, __ATOMIC_RELAXED);
}

void krealtime_set(u64 ns)
{
    __atomic_store_n(&real_shift_ns, (i64)(ns - real_base_ns - ktime_ns()), __ATOMIC_RELAXED);
}

u64 ktime_ticks_to_ns(u64 ticks) { return (u64)((unsigned __int128)ticks * ns_mult >> 32); }

/* ---- measuring ---- */

/* A free-running reference counter: its value, from port reads alone. */
static u32 pm_read(void) { return inl(acpi.pm_timer) & 0xffffff; }

static u32 pit_read(void)
{
    u32 lo;

    outb(0x43, 0);
    lo = inb(0x40);
    return (u32)(0xffff - (lo | (u32)inb(0x40) << 8));
}

struct sample {
    u64 tsc;
    u32 reference, timer;
};

/* All three counters as close together as can be had in a few tries: a hypervisor may interrupt
 * us. */
static struct sample sample_take(u32 (*read)(void))
{
    struct sample best = {0};
    u64 best_span = ~0ull;

    for (int i = 0; i < 5; i++) {
        u64 before = rdtsc();
        struct sample s = {.reference = read(), .timer = apic_timer_count()};
        u64 after = rdtsc();

        s.tsc = before + (after - before) / 2;
        if (after - before < best_span) {
            best_span = after - before;
            best = s;
        }
    }
    return best;
}

static void measure(u32 (*read)(void), u64 hz, u32 mask)
{
    u32 wanted = (u32)(hz * WINDOW_MS / 1000);
    struct sample a, b;
    u64 ns;

    apic_timer_start_max();
    a = sample_take(read);
    while (((read() - a.reference) & mask) < wanted)
        qport_relax();
    b = sample_take(read);
    ns = ((b.reference - a.reference) & mask) * 1000000000ull / hz;
    ns_mult = (ns << 32) / (b.tsc - a.tsc);
    if (cpu_features & CPU_TSC_DEADLINE)
        apic_timer_set_rate(b.tsc - a.tsc, ns);
    else
        apic_timer_set_rate(a.timer - b.timer, ns);
}

/* ---- the date ---- */

static u8 cmos(u8 reg)
{
    outb(0x70, reg);
    return inb(0x71);
}

static u64 days_since_1970(u64 y, u64 m, u64 d)
{
    /* years from March; era of 400 years (Howard Hinnant, "chrono-compatible low-level date
     * algorithms") */
    u64 era, yoe, doy;

    y -= m <= 2;
    era = y / 400;
    yoe = y % 400;
    doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static u64 cmos_seconds(void)
{
    static const u8 regs[6] = {0, 2, 4, 7, 8, 9}; /* s min h d mon y */
    u8 v[6], again[6];
    bool binary = cmos(11) & 4;

    do {
        while (cmos(10) & 0x80)
            qport_relax();
        for (int i = 0; i < 6; i++)
            v[i] = cmos(regs[i]);
        for (int i = 0; i < 6; i++)
            again[i] = cmos(regs[i]);
    } while (memcmp(v, again, 6));
    for (int i = 0; i < 6 && !binary; i++)
        v[i] = (u8)((v[i] >> 4) * 10 + (v[i] & 15));
    return days_since_1970(2000 + v[5], v[4], v[3]) * 86400 + v[2] * 3600u + v[1] * 60u + v[0];
}

void clock_init(void)
{
    if (acpi.pm_timer) {
        measure(pm_read, PM_HZ, 0xffffff);
    } else {
        outb(0x43, 0x34); /* channel 0, both bytes, mode 2, from 65536 down */
        outb(0x40, 0);
        outb(0x40, 0);
        measure(pit_read, PIT_HZ, 0xffff);
    }
    tsc_base = rdtsc();
    real_base_ns = cmos_seconds() * 1000000000ull;
}
