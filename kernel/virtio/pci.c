/*
 * virtio/pci.c - PCI by configuration mechanism 1 (ports 0xCF8 and 0xCFC).
 *
 * The memory-mapped way (ECAM) would add the extended registers above 256, in which nothing of
 * virtio stands, and needs another ACPI table; every machine that has ECAM has the ports too.  Firmware
 * has given out addresses and routed interrupts: the interrupt line register names the ISA interrupt
 * at which the pin arrives, with trigger and polarity in the MADT like those of any other.
 * PCI Local Bus Specification 3.0, 3.2.2.3.2, 6.1, 6.2.5, 6.7.
 */
#include "pci.h"
#include "arch/cpu.h"
#include "lock.h"
#include <quire/kva.h>

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc

#define REG_ID              0x00
#define REG_STATUS          0x06
#define REG_HEADER          0x0e
#define REG_BAR             0x10
#define REG_SECONDARY_BUS   0x19
#define REG_CAPABILITIES    0x34
#define STATUS_INTERRUPT    0x08
#define STATUS_CAPABILITIES 0x10
#define HEADER_MANY         0x80 /* more than one function */
#define HEADER_BRIDGE       1

#define BAR_IO   1u
#define BAR_64   4u
#define MAX_CAPS 48 /* as many as fit behind the header: a list that is longer goes in circles */

/* ---- configuration space ---- */

static struct kspin config_lock; /* the pair of ports; also taken in interrupts */

/* config_lock held. */
static void select(const struct pci_device *d, unsigned reg)
{
    outl(CONFIG_ADDRESS,
         1u << 31 | (u32)d->bus << 16 | (u32)d->slot << 11 | (u32)d->function << 8 | (reg & 0xfc));
}

u32 pci_read32(const struct pci_device *d, unsigned reg)
{
    unsigned long flags = kspin_lock(&config_lock);
    u32 v;

    select(d, reg);
    v = inl(CONFIG_DATA);
    kspin_unlock(&config_lock, flags);
    return v;
}

u16 pci_read16(const struct pci_device *d, unsigned reg)
{
    return (u16)(pci_read32(d, reg) >> (reg & 2) * 8);
}

u8 pci_read8(const struct pci_device *d, unsigned reg)
{
    return (u8)(pci_read32(d, reg) >> (reg & 3) * 8);
}

void pci_write16(const struct pci_device *d, unsigned reg, u16 v)
{
    unsigned long flags = kspin_lock(&config_lock);

    select(d, reg);
    outw((u16)(CONFIG_DATA + (reg & 2)), v);
    kspin_unlock(&config_lock, flags);
}

/* ---- finding devices ---- */

static void scan_bus(unsigned bus, void (*fn)(const struct pci_device *));

/* False: there is nothing. */
static bool scan_function(struct pci_device *d, void (*fn)(const struct pci_device *))
{
    u32 id = pci_read32(d, REG_ID);
    unsigned below;

    if ((u16)id == 0xffff)
        return false;
    d->vendor = (u16)id;
    d->device = (u16)(id >> 16);
    ksnprintf(d->name, sizeof(d->name), "%02x:%02x.%u", d->bus, d->slot, d->function);
    fn(d);
    below = (pci_read8(d, REG_HEADER) & ~HEADER_MANY) == HEADER_BRIDGE
                ? pci_read8(d, REG_SECONDARY_BUS)
                : 0;
    if (below > d->bus) /* firmware numbers them in depth: this ends */
        scan_bus(below, fn);
    return true;
}

static void scan_bus(unsigned bus, void (*fn)(const struct pci_device *))
{
    for (u8 slot = 0; slot < 32; slot++) {
        struct pci_device d = {.bus = (u8)bus, .slot = slot};
        bool many;

        if (!scan_function(&d, fn))
            continue;
        many = pci_read8(&d, REG_HEADER) & HEADER_MANY;
        for (d.function = 1; many && d.function < 8; d.function++)
            scan_function(&d, fn);
    }
}

void pci_for_each(void (*fn)(const struct pci_device *)) { scan_bus(0, fn); }

unsigned pci_capability(const struct pci_device *d, u8 id, unsigned after)
{
    unsigned at = 0;

    if (pci_read16(d, REG_STATUS) & STATUS_CAPABILITIES)
        at = pci_read8(d, after ? after + 1 : REG_CAPABILITIES) & 0xfc;
    for (unsigned n = 0; at && n < MAX_CAPS; n++, at = pci_read8(d, at + 1) & 0xfc)
        if (pci_read8(d, at) == id)
            return at;
    return 0;
}

volatile void *pci_map(const struct pci_device *d, unsigned bar, u32 offset, u32 len)
{
    u32 low = bar < 6 ? pci_read32(d, REG_BAR + bar * 4) : BAR_IO;
    u64 pa = low & ~0xfu;
    q_kva at;

    if (low & BAR_IO)
        return NULL;
    if (low & BAR_64)
        pa |= bar < 5 ? (u64)pci_read32(d, REG_BAR + bar * 4 + 4) << 32 : 0;
    if (!pa || quire_ioremap(Q_PA(pa + offset), len, QUIRE_UNCACHED, &at) != QUIRE_OK)
        return NULL;
    return (volatile void *)at.v;
}

/* ---- interrupts ---- */

#define LISTENERS 16

static struct {
    struct pci_device device;
    bool (*fn)(void *);
    void *arg;
    unsigned line;
} listeners[LISTENERS]; /* written at boot, an entry before its line is routed */
static unsigned nlisteners;

bool pci_listen(const struct pci_device *d, bool (*fn)(void *), void *arg)
{
    unsigned line = pci_read8(d, PCI_INTERRUPT_LINE);

    /* 0: none; below 5: the timer, the keyboard, the serial ports; 255: unknown */
    if (line < 5 || line > 15 || nlisteners == LISTENERS || !acpi.ioapic_pa)
        return false;
    listeners[nlisteners].device = *d;
    listeners[nlisteners].fn = fn;
    listeners[nlisteners].arg = arg;
    listeners[nlisteners].line = line;
    __atomic_store_n(&nlisteners, nlisteners + 1, __ATOMIC_RELEASE);
    ioapic_route(line, (u8)(VEC_IRQ_BASE + line), qport_cpu());
    return true;
}

static bool listened_to(const struct pci_device *d)
{
    for (unsigned i = 0; i < nlisteners; i++)
        if (listeners[i].device.bus == d->bus && listeners[i].device.slot == d->slot &&
            listeners[i].device.function == d->function)
            return true;
    return false;
}

/* A device without a driver that shares the line would interrupt for ever. */
static void hush(const struct pci_device *d)
{
    u16 command = pci_read16(d, PCI_COMMAND);

    if (!(pci_read16(d, REG_STATUS) & STATUS_INTERRUPT) || command & PCI_COMMAND_NO_INTX ||
        listened_to(d))
        return;
    pci_write16(d, PCI_COMMAND, command | PCI_COMMAND_NO_INTX);
    printk("pci: %s interrupts, and nobody drives it: switched off", d->name);
}

void pci_interrupt(unsigned line)
{
    unsigned n = __atomic_load_n(&nlisteners, __ATOMIC_ACQUIRE);
    bool known = false;

    for (unsigned i = 0; i < n; i++)
        if (listeners[i].line == line && listeners[i].fn(listeners[i].arg))
            known = true;
    if (!known)
        pci_for_each(hush);
}
