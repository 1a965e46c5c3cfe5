/*
 * core/selftest.c - the machine examines itself, and dies on request, so that tests can see both
 * work.
 *
 *   quire.selftest   every hook of the port, then every structure of the manager; the latter again
 *                    at the end of pid 1
 *   quire.lose       lose memory: a ring of three objects, a run of pages, a kernel area; and hold a ring of two
 *   quire.crash=HOW  null, stack, text, data, free, smash, smashlib, remote, irq, tick, panic, and overflow, underflow, twice, late of a
 *                    heap object: what happens when the kernel itself is wrong
 */
#include "arch/cpu.h"
#include "bare.h"
#include "ktime.h"
#include "task.h"
#include "wait.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/port.h>
#include <quire/space.h>

static bool check(const char *what, enum quire_status s)
{
    printk("quire: verify %s: %s", what, quire_status_text(s));
    return s == QUIRE_OK;
}

/* ---- the kernel's own mappings ---- */

static unsigned bad_mappings;

/* "start-end sizeK rwxug ...": nothing of the kernel's is both writable and executable, or a
 * program's. */
static void check_mapping(void *ctx, const char *line)
{
    const char *p = strchr(line, 'K');

    (void)ctx;
    if (p && ((p[3] == 'w' && p[4] == 'x') || p[5] == 'u')) {
        printk("quire: mapping %s", line);
        bad_mappings++;
    }
}

static void print_mapping(void *ctx, const char *line)
{
    (void)ctx;
    printk("quire: mapping %s", line);
}

static void verify_tables(void)
{
    quire_pt_dump(kernel_root, 0xffff800000000000, 0, check_mapping, NULL);
    check("tables", bad_mappings ? QUIRE_CORRUPT : QUIRE_OK);
    if (bad_mappings)
        kpanic("a kernel mapping is writable and executable, or open to programs");
}

void selftest_print_tables(void)
{
    quire_pt_dump(kernel_root, 0xffff800000000000, 0, print_mapping, NULL);
}

/* ---- huge pages that share their struct pages ---- */

#define HUGE_PAGES 8
#define TAILS      (QUIRE_HUGE_SIZE / QUIRE_PAGE_SIZE)

static bool leads_to_head(struct quire_page *head)
{
    for (unsigned i = 0; i < TAILS; i++)
        if (quire_page_head(head + i) != head)
            return false;
    return true;
}

/* Each gives back 3 of 4 pages of its map, and gets them again; its tails lead to its head all the time. */
static bool verify_huge(struct quire_page *const *pages, unsigned n)
{
    u64 before = quire_free_pages();
    bool ok = true;

    for (unsigned i = 0; i < n; i++)
        ok &= quire_page_map_share(pages[i]) == QUIRE_OK && leads_to_head(pages[i]);
    printk("quire: %u huge pages share %lu pages of their map: %ld frames more are free", n,
           (unsigned long)vmemmap_pages_saved(), (long)(quire_free_pages() - before));
    for (unsigned i = 0; i < n; i++)
        ok &= quire_page_map_restore(pages[i]) == QUIRE_OK && leads_to_head(pages[i]);
    return ok && !vmemmap_pages_saved();
}

static void verify_maps(void)
{
    struct quire_page *pages[HUGE_PAGES];
    unsigned n = 0;
    bool ok;

    while (n < HUGE_PAGES && (pages[n] = quire_page_alloc(QUIRE_HUGE_ORDER, QUIRE_GFP_KERNEL,
                                                          QUIRE_NODE_ANY)) != NULL)
        n++;
    ok = check("maps", verify_huge(pages, n) ? QUIRE_OK : QUIRE_CORRUPT);
    while (n)
        quire_page_free(pages[--n], QUIRE_HUGE_ORDER);
    if (!ok)
        kpanic("struct pages that huge pages share are wrong");
}

/* Another CPU that has nothing to do may be clearing frames, and have some in its hands: what is damaged stays
 * so, and this does not. */
static enum quire_status verify_frames(void)
{
    enum quire_status s = quire_frame_verify();

    for (unsigned tries = 0; s != QUIRE_OK && tries < 20; tries++) {
        wait_prepare();
        wait_sleep(ktime_ns() + 10000000);
        wait_finish();
        s = quire_frame_verify();
    }
    return s;
}

/* The structures that can be looked at from outside while nothing else runs. */
void selftest_verify(void)
{
    bool ok = check("frames", verify_frames());

    ok &= check("heap", quire_heap_verify());
    ok &= check("areas", quire_kva_verify());
    if (!ok)
        kpanic("the memory manager is damaged");
    verify_tables();
}

void selftest_boot(void)
{
    const char *culprit = "?";

    if (quire_port_selftest(&culprit) != QUIRE_OK)
        kpanic("the port's hook %s is wrong", culprit);
    printk("quire: verify port: %s", quire_status_text(QUIRE_OK));
    verify_maps();
    selftest_verify();
}

/* ---- crashes ---- */

static int deeper(volatile int *above)
{
    volatile int room[256];

    room[0] = *above + 1;
    return room[0] ? deeper(room) + room[0] : 0;
}

/* What every function with an array in it is compiled to notice. */
static __attribute__((noinline)) void smash(void)
{
    volatile char line[16];
    volatile unsigned long far = 64; /* beyond the array, and what lies between it and the return */

    for (unsigned long i = 0; i < far; i++)
        line[i] = 'x';
    far = (unsigned long)line[0];
}

/* As if the library itself wrote beyond an array of its own: the line is on its stack. */
static void smash_line(void *ctx, const char *line)
{
    volatile char *at = (volatile char *)(u64)line;

    (void)ctx;
    for (unsigned long i = 0; i < 512; i++)
        at[i] = 'x';
}

/* Wrong uses of the heap, for which heap= has modes. */
static void selftest_misuse(const char *how)
{
    volatile u8 *p = quire_kmalloc(100, QUIRE_GFP_KERNEL);

    if (!p)
        return;
    if (!strcmp(how, "overflow")) {
        p[100] = 0;
        quire_kfree((void *)p);
    } else if (!strcmp(how, "underflow")) {
        p[-1] = 0;
        quire_kfree((void *)p);
    } else if (!strcmp(how, "twice")) {
        quire_kfree((void *)p);
        quire_kfree((void *)p);
    } else if (!strcmp(how, "late")) {
        quire_kfree((void *)p);
        p[50] = 0;
        (void)quire_kmalloc(100, QUIRE_GFP_KERNEL);
        quire_heap_drain();
    }
}

static __attribute__((noinline)) void lose_a_ring(void)
{
    void **ring[3] = {NULL};

    for (unsigned i = 0; i < K_COUNT(ring); i++) {
        ring[i] = quire_kzalloc(96, QUIRE_GFP_KERNEL);
        if (!ring[i])
            kpanic("no memory to lose");
        ring[i][0] = i ? ring[i - 1] : NULL;
    }
    ring[0][11] = ring[2];
}

static __attribute__((noinline)) void lose_pages(void)
{
    if (!quire_kzalloc(20000, QUIRE_GFP_KERNEL) || !quire_vzalloc(40000, QUIRE_GFP_KERNEL))
        kpanic("no memory to lose");
}

/* As a ring that is lost, but that one word of the kernel's data leads to it. */
static void **volatile held;

static __attribute__((noinline)) void hold_a_ring(void)
{
    void **ring[2];

    for (unsigned i = 0; i < K_COUNT(ring); i++)
        if (!(ring[i] = quire_kzalloc(104, QUIRE_GFP_KERNEL)))
            kpanic("no memory to hold");
    ring[0][3] = ring[1];
    ring[1][3] = ring[0];
    held = ring[1];
}

void selftest_lose(void)
{
    hold_a_ring();
    lose_a_ring();
    lose_pages();
}

void selftest_crash(const char *how)
{
    volatile int zero = 0;

    if (!strcmp(how, "null"))
        *(volatile int *)(u64)zero = 1;
    else if (!strcmp(how, "stack"))
        deeper(&zero);
    else if (!strcmp(how, "text"))
        *(volatile u8 *)(u64)selftest_crash = 0xc3;
    else if (!strcmp(how, "data"))
        ((void (*)(void))(u64)&cpus)();
    else if (!strcmp(how, "free"))
        quire_kfree((void *)&cpus);
    else if (!strcmp(how, "smash"))
        smash();
    else if (!strcmp(how, "smashlib"))
        quire_pt_dump(kernel_root, 0xffff800000000000, 0, smash_line, NULL);
    else if (!strcmp(how, "remote"))
        guard_crash();
    else if (!strcmp(how, "irq") || !strcmp(how, "tick"))
        trace_crash(how);
    else
        selftest_misuse(how);
    if (strcmp(how, "tick"))
        kpanic("asked to crash: %s", how);
}
