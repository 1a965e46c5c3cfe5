/*
 * arch/serial.c - COM1, a 16550: output by polling, input by interrupt.
 *
 * With quire.stdin=dle the stream carries a little more than bytes: DLE 'e' ends the input, DLE 'c' is a
 * keyboard interrupt, DLE DLE one DLE.
 */
#include "cpu.h"
#include "fs.h"

#define COM1 0x3f8
#define REG_DATA 0
#define REG_IER  1
#define REG_FCR  2
#define REG_LCR  3
#define REG_MCR  4
#define REG_LSR  5
#define LSR_DATA 0x01
#define LSR_THRE 0x20

#define DLE 0x10

static bool present, dle_mode, dle_seen;

void serial_init(void)
{
    char mode[8];

    outb(COM1 + REG_IER, 0);
    outb(COM1 + REG_LCR, 0x80);
    outb(COM1 + REG_DATA, 1); /* 115200 */
    outb(COM1 + REG_IER, 0);
    outb(COM1 + REG_LCR, 3);
    outb(COM1 + REG_FCR, 1);
    outb(COM1 + REG_MCR, 0xb);
    present = inb(COM1 + REG_LSR) != 0xff;
    dle_mode = cmdline_get("quire.stdin", mode, sizeof(mode)) && !strcmp(mode, "dle");
}

void serial_write(const char *p, size_t n)
{
    if (!present)
        return;
    for (; n; n--, p++) {
        while (!(inb(COM1 + REG_LSR) & LSR_THRE))
            qport_relax();
        outb(COM1 + REG_DATA, (u8)*p);
    }
}

void serial_enable_input(void)
{
    if (!present)
        return;
    ioapic_route(4, VEC_IRQ_BASE + 4, 0);
    outb(COM1 + REG_IER, 1);
    serial_interrupt(); /* what came before */
}

/* One byte of the stream: what the terminal gets of it, if anything. */
static void take(u8 c)
{
    if (!dle_mode || (!dle_seen && c != DLE)) {
        tty_input(&c, 1);
        return;
    }
    if (!dle_seen) {
        dle_seen = true;
        return;
    }
    dle_seen = false;
    if (c == 'e')
        tty_input_eof();
    else if (c == 'c')
        tty_interrupt();
    else
        tty_input(&c, 1);
}

void serial_interrupt(void)
{
    static struct kspin lock;
    unsigned long flags = kspin_lock(&lock);

    /* What the terminal has no room for stays in the UART, and so with the sender. */
    while (tty_input_room() && (inb(COM1 + REG_LSR) & LSR_DATA))
        take(inb(COM1 + REG_DATA));
    kspin_unlock(&lock, flags);
}

void console_input_resume(void)
{
    if (present)
        serial_interrupt();
}
