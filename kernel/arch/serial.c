/*
 * arch/serial.c - COM1, a 16550: output by polling, input by interrupt.
 *
 * With quire.stdin=dle the stream carries a little more than bytes: DLE 'e' ends the input, DLE
 * 'c' is a keyboard interrupt, DLE DLE one DLE.
 */
#include "cpu.h"
#include "fs.h"

#define COM1     0x3f8
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
static bool stopped; /* no room for input: its interrupt is off */
static struct kspin lock;
static int early =
    -1; /* the byte that had come before the FIFO was on, which turning it on drops */

/*
 * Turning the FIFO on drops what was received before, and input may have been waiting since the
 * machine was switched on.  In loop-back mode taking the waiting byte does not invite the next one
 * (QEMU), so nothing arrives before the FIFO is on.
 */
static void fifo_on(void)
{
    outb(COM1 + REG_MCR, 0x10);
    if ((inb(COM1 + REG_LSR) & (LSR_DATA | 0x80)) == LSR_DATA)
        early = inb(COM1 + REG_DATA);
    outb(COM1 + REG_FCR, 0xc1); /* interrupt at 14 bytes, or when the line rests */
    outb(COM1 + REG_MCR, 0xb);
}

void serial_init(void)
{
    char mode[8];

    outb(COM1 + REG_IER, 0);
    outb(COM1 + REG_LCR, 3);
    present = inb(COM1 + REG_LSR) != 0xff;
    if (!present)
        return;
    fifo_on();
    outb(COM1 + REG_LCR, 0x83);
    outb(COM1 + REG_DATA, 1); /* 115200 */
    outb(COM1 + REG_IER, 0);
    outb(COM1 + REG_LCR, 3);
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

/*
 * Take what has come, as long as the terminal has room; then leave the rest in the device, whose
 * other end waits. With no room the interrupt is turned off until a reader has made some.
 */
void serial_interrupt(void)
{
    unsigned long flags = kspin_lock(&lock);

    while (inb(COM1 + REG_LSR) & LSR_DATA) {
        stopped = tty_input_room() == 0;
        if (stopped) {
            outb(COM1 + REG_IER, 0);
            break;
        }
        take(inb(COM1 + REG_DATA));
    }
    kspin_unlock(&lock, flags);
}

void console_input_resume(void)
{
    if (!__atomic_load_n(&stopped, __ATOMIC_RELAXED))
        return;
    outb(COM1 + REG_IER, 1);
    serial_interrupt();
}

void serial_enable_input(void)
{
    if (!present)
        return;
    if (early >= 0)
        take((u8)early);
    ioapic_route(4, VEC_IRQ_BASE + 4, 0);
    outb(COM1 + REG_IER, 1);
    serial_interrupt(); /* what came meanwhile */
}
