/*
 * arch/power.c - the ways to end: isa-debug-exit, ACPI power-off, reset, halt.
 */
#include "cmdline.h"
#include "cpu.h"

#define SLP_EN 0x2000

_Noreturn void power_halt(void)
{
    for (;;) {
        irq_off();
        __asm__ volatile("hlt");
    }
}

/* isa-debug-exit at `port` ends QEMU with status code * 2 + 1. */
_Noreturn void power_off(u8 code)
{
    u16 port = (u16)cmdline_number("quire.exit", 0);

    if (port)
        outl(port, code);
    /* SLP_TYP of S5 is 0 on the machines of QEMU that this kernel runs on (its DSDT says so) */
    if (acpi.pm1a_control)
        outw(acpi.pm1a_control, SLP_EN);
    if (acpi.pm1b_control)
        outw(acpi.pm1b_control, SLP_EN);
    outw(0x604, SLP_EN);
    outw(0xb004, SLP_EN);
    power_halt();
}

_Noreturn void power_reset(void)
{
    static const struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) nothing = {0, 0};

    if (acpi.has_reset)
        outb(acpi.reset_port, acpi.reset_value);
    outb(0xcf9, 6);
    outb(0x64, 0xfe);
    /* no table to find a handler in: a triple fault resets the CPU */
    __asm__ volatile("lidt %0; int3" : : "m"(nothing));
    power_halt();
}
