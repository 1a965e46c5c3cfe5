/*
 * core/printk.c - the kernel log: a ring of bytes for dmesg, and the console.
 *
 * One spin lock, interrupts off: lines of different CPUs do not mix.  A panic takes the lock by
 * force, for its holder may be what died.
 */
#include "printk.h"
#include "arch/cpu.h"
#include "lock.h"

#define RING PRINTK_RING

static char ring[RING];
static u64 head; /* bytes ever written */
static u64 cleared;
static struct kspin lock;
static bool panicking;
static bool console_on = true;

static void ring_put(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ring[head++ % RING] = p[i];
}

/* Each line with its time, as dmesg(1) shows it. */
static void put_line(const char *p, size_t n)
{
    u64 us = ktime_ns() / 1000;
    char stamp[32];
    int m = ksnprintf(stamp, sizeof(stamp), "[%5lu.%06lu] ", (unsigned long)(us / 1000000),
                      (unsigned long)(us % 1000000));

    ring_put(stamp, (size_t)m);
    ring_put(p, n);
    ring_put("\n", 1);
    if (console_on) {
        console_log_write(p, n);
        console_log_write("\n", 1);
    }
}

static void vprintk(const char *fmt, va_list ap)
{
    char text[512];
    size_t n = (size_t)kvsnprintf(text, sizeof(text), fmt, ap);
    char *p = text, *end;
    unsigned long flags;

    n = K_MIN(n, sizeof(text) - 1);
    end = text + n;
    flags = panicking ? qport_irq_save() : kspin_lock(&lock);
    while (p < end) {
        char *nl = p;

        while (nl < end && *nl != '\n')
            nl++;
        put_line(p, (size_t)(nl - p));
        p = nl + 1;
    }
    if (panicking)
        qport_irq_restore(flags);
    else
        kspin_unlock(&lock, flags);
}

void printk(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vprintk(fmt, ap);
    va_end(ap);
}

void printk_panic_mode(void) { panicking = true; }
void printk_console(bool on) { console_on = on; }

/* The oldest byte that is still there and not cleared. */
static u64 oldest(bool all)
{
    u64 first = head > RING ? head - RING : 0;

    return all ? first : K_MAX(first, cleared);
}

size_t printk_read(u64 *pos, char *buf, size_t cap)
{
    unsigned long flags = kspin_lock(&lock);
    u64 from = K_MAX(*pos, oldest(true));
    size_t n = (size_t)K_MIN(head - from, (u64)cap);

    for (size_t i = 0; i < n; i++)
        buf[i] = ring[(from + i) % RING];
    *pos = from + n;
    kspin_unlock(&lock, flags);
    return n;
}

u64 printk_start(size_t last)
{
    unsigned long flags = kspin_lock(&lock);
    u64 from = oldest(false);

    if (head - from > last)
        from = head - last;
    kspin_unlock(&lock, flags);
    return from;
}

size_t printk_unread(u64 pos)
{
    unsigned long flags = kspin_lock(&lock);
    u64 n = head - K_MAX(pos, oldest(true));

    kspin_unlock(&lock, flags);
    return (size_t)n;
}

void printk_clear(void)
{
    unsigned long flags = kspin_lock(&lock);

    cleared = head;
    kspin_unlock(&lock, flags);
}
