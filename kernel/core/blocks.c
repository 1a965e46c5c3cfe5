/*
 * core/blocks.c - quire.blocks: what every pageblock holds, on the log, for pictures (quire blocks).
 *
 * Between "quire: dump begin NANOSECONDS" and "quire: dump end", lines "quire: dump ..." of
 * quire_blockinfo(): at the end, and every N milliseconds if asked for.
 */
#include "arch/cpu.h"
#include "cmdline.h"
#include "ktime.h"
#include "lock.h"
#include "task.h"
#include "wait.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/stats.h>

static struct kmutex one_at_a_time;

static void print_lines(const char *text)
{
    while (*text) {
        const char *end = strchr(text, '\n');
        size_t n = end ? (size_t)(end - text) : strlen(text);

        printk("quire: dump %.*s", (int)n, text);
        text += n + (end != NULL);
    }
}

void blocks_print(void)
{
    size_t cap = quire_blockinfo(NULL, 0) * 2 + 4096; /* more blocks may differ by then */
    char *text = quire_kvmalloc(cap, QUIRE_GFP_KERNEL);

    if (!text) {
        printk("quire: no memory for a dump of %lu bytes", (unsigned long)cap);
        return;
    }
    if (quire_blockinfo(text, cap) < cap) {
        kmutex_lock(&one_at_a_time);
        printk("quire: dump begin %lu", (unsigned long)ktime_ns());
        print_lines(text);
        printk("quire: dump end");
        kmutex_unlock(&one_at_a_time);
    }
    quire_kvfree(text);
}

static void every(void *arg)
{
    u64 period = (u64)(uintptr_t)arg * 1000000;

    for (u64 next = ktime_ns() + period;; next = K_MAX(next + period, ktime_ns())) {
        while (ktime_ns() < next) {
            wait_prepare();
            wait_sleep(next);
            wait_finish();
        }
        blocks_print();
    }
}

void blocks_start(void)
{
    u64 ms = cmdline_number("quire.blocks", 0);
    struct task *t = ms ? task_alloc("blocks", every, (void *)(uintptr_t)ms) : NULL;

    if (t)
        task_start(t);
    else if (ms)
        printk("quire: no memory for the thread that draws pageblocks");
}
