/*
 * arch/console.c - where the log and the programs' output go: COM1, or isa-debugcon ports named on
 * the command line (quire.log, quire.out, quire.err), which take any bytes at once.
 */
#include "cmdline.h"
#include "cpu.h"
#include "fs.h"

enum { STREAM_LOG, STREAM_OUT, STREAM_ERR, STREAMS };

static u16 ports[STREAMS]; /* 0: COM1 */
static struct kspin serial_lock;
static bool ready;

void console_init(void)
{
    static const char *const names[STREAMS] = {"quire.log", "quire.out", "quire.err"};

    for (unsigned i = 0; i < STREAMS; i++)
        ports[i] = (u16)cmdline_number(names[i], 0);
    serial_init();
    ready = true;
}

/* The serial line is a terminal: a new line also returns the carriage. */
static void write_serial(const char *p, size_t n)
{
    while (n) {
        size_t k = 0;

        while (k < n && p[k] != '\n')
            k++;
        serial_write(p, k);
        if (k < n) {
            serial_write("\r\n", 2);
            k++;
        }
        p += k;
        n -= k;
    }
}

void console_log_write(const char *p, size_t n)
{
    if (!ready)
        return;
    if (ports[STREAM_LOG])
        outsb(ports[STREAM_LOG], p, n);
    else
        write_serial(p, n);
}

/* The terminal has made \n into \r\n already, where its settings say so. */
void console_write(int stream, const char *p, size_t n)
{
    u16 port = ports[stream == 2 ? STREAM_ERR : STREAM_OUT];
    unsigned long flags;

    if (port) {
        outsb(port, p, n);
        return;
    }
    flags = kspin_lock(&serial_lock);
    serial_write(p, n);
    kspin_unlock(&serial_lock, flags);
}
