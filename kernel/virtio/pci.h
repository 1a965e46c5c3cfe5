/*
 * virtio/pci.h - PCI devices: finding them, their configuration space, memory and interrupts.
 */
#ifndef VIRTIO_PCI_H
#define VIRTIO_PCI_H

#include "k.h"

#define PCI_NAME_LEN 12

struct pci_device {
    u8 bus, slot, function;
    u16 vendor, device;
    char name[PCI_NAME_LEN]; /* "00:02.0" */
};

/* Registers of the header (PCI Local Bus 3.0, 6.1). */
#define PCI_COMMAND         0x04
#define PCI_SUBSYSTEM       0x2e
#define PCI_INTERRUPT_LINE  0x3c
#define PCI_COMMAND_MEMORY  0x0002u
#define PCI_COMMAND_MASTER  0x0004u
#define PCI_COMMAND_NO_INTX 0x0400u
#define PCI_CAP_VENDOR      0x09

u32 pci_read32(const struct pci_device *d, unsigned reg);
u16 pci_read16(const struct pci_device *d, unsigned reg);
u8 pci_read8(const struct pci_device *d, unsigned reg);
void pci_write16(const struct pci_device *d, unsigned reg, u16 v);

/* Call fn for every function of every bus below the first host bridge.  Boot, one task. */
void pci_for_each(void (*fn)(const struct pci_device *));

/* Position of the next capability with this id after `after` (0: from the start), or 0. */
unsigned pci_capability(const struct pci_device *d, u8 id, unsigned after);

/* Map len bytes from offset of a memory BAR uncached; NULL: it is no memory, was given no address, or
 * there is no memory for the mapping. */
volatile void *pci_map(const struct pci_device *d, unsigned bar, u32 offset, u32 len);

/*
 * Let fn(arg) hear of the device's interrupt pin, on this CPU, in interrupt context.  Pins may be
 * shared: fn says whether the interrupt was its device's, and makes it go away.  False: the device
 * has no interrupt line that can be used; then it has to be asked now and then.
 */
bool pci_listen(const struct pci_device *d, bool (*fn)(void *), void *arg);

/* From arch/traps.c, with the number of the line. */
void pci_interrupt(unsigned line);

#endif
