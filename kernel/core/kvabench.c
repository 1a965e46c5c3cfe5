/*
 * core/kvabench.c - rows of bench.c for kernel areas: quire.bench=areas.  Linux's figures for the same calls in
 * loops stand in bench/linux-6.1-areas.tsv.
 *
 * HELD areas are taken, then freed: what it costs to flush and to give frames back is in the frees, as
 * the purges come by themselves.
 */
#include "arch/cpu.h"
#include "arch/x86.h"
#include "bench.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/percpu.h>

#define HELD   1024u
#define PAGES  64u
#define ROUNDS 500u
#define SHORT  8u /* pages of a short-lived map */
#define STACK  16384u

static void **held;
static struct quire_page *pages[PAGES];
static q_kva tops[PAGES];

static void *must(void *p)
{
    if (!p)
        kpanic("bench: no memory for areas");
    return p;
}

static void ok(enum quire_status s)
{
    if (s != QUIRE_OK)
        kpanic("bench: %s", quire_status_text(s));
}

/* ---- vmalloc ---- */

static u64 held_areas(size_t size, unsigned n, bool frees)
{
    u64 t = rdtsc(), got;

    for (unsigned i = 0; i < n; i++)
        held[i] = must(quire_vmalloc(size, QUIRE_GFP_KERNEL));
    got = rdtsc() - t;
    t = rdtsc();
    for (unsigned i = 0; i < n; i++)
        quire_vfree(held[i]);
    return (frees ? rdtsc() - t : got) * 100 / n;
}
static u64 row_vmalloc4k(void) { return held_areas(4096, HELD, false); }
static u64 row_vfree4k(void) { return held_areas(4096, HELD, true); }
static u64 row_vmalloc64k(void) { return held_areas(65536, HELD / 4, false); }
static u64 row_vfree64k(void) { return held_areas(65536, HELD / 4, true); }
static u64 row_vmalloc4m(void) { return held_areas(4 << 20, 8, false); }
static u64 row_vfree4m(void) { return held_areas(4 << 20, 8, true); }

/* ---- a copy for each CPU ---- */

static u64 row_percpu(void)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < ROUNDS; i++)
        quire_percpu_free(must(quire_percpu_alloc(64, 8, QUIRE_GFP_KERNEL)));
    return (rdtsc() - t) * 100 / ROUNDS;
}

/* With purges at the worst moment: nothing is kept from one time to the next. */
static u64 row_cold4k(void)
{
    u64 t = 0;

    for (unsigned i = 0; i < 100; i++) {
        u64 start = rdtsc();
        void *p = must(quire_vmalloc(4096, QUIRE_GFP_KERNEL));

        t += rdtsc() - start;
        quire_vfree(p);
        quire_kva_purge();
    }
    return t;
}

/* ---- maps ---- */

static u64 row_vmap(void)
{
    u64 t = rdtsc();
    q_kva at;

    for (unsigned i = 0; i < ROUNDS; i++) {
        ok(quire_vmap(pages, PAGES, QUIRE_READ | QUIRE_WRITE, &at));
        quire_vunmap(at);
    }
    return (rdtsc() - t) * 100 / ROUNDS;
}

static u64 row_map_ram(void)
{
    u64 t = rdtsc();
    q_kva at;

    for (unsigned i = 0; i < ROUNDS; i++) {
        ok(quire_vm_map_ram(pages, SHORT, &at));
        quire_vm_unmap_ram(at, SHORT);
    }
    return (rdtsc() - t) * 100 / ROUNDS;
}

/* ---- stacks ---- */

static u64 row_stack(void)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < ROUNDS; i++) {
        ok(quire_stack_alloc(STACK, &tops[0]));
        quire_stack_free(tops[0]);
    }
    return (rdtsc() - t) * 100 / ROUNDS;
}

static u64 row_stacks(void)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < 10; i++) {
        ok(quire_stack_alloc_bulk(STACK, PAGES, tops));
        quire_stack_free_bulk(PAGES, tops);
    }
    return (rdtsc() - t) * 100 / (10 * PAGES);
}

void kva_bench(void)
{
    static const struct bench_row rows[] = {
        {"vmalloc_4k", row_vmalloc4k},         {"vfree_4k", row_vfree4k},
        {"vmalloc_64k", row_vmalloc64k},       {"vfree_64k", row_vfree64k},
        {"vmap_vunmap_64", row_vmap},          {"vmalloc_4k_after_purge", row_cold4k},
        {"vmalloc_4m", row_vmalloc4m},         {"vfree_4m", row_vfree4m},
        {"vm_map_ram_unmap_8", row_map_ram},   {"stack_pair_16k", row_stack},
        {"stacks_by_64_pair_16k", row_stacks}, {"percpu_pair_64", row_percpu},
    };

    held = must(quire_kmalloc(HELD * sizeof(*held), QUIRE_GFP_KERNEL));
    if (quire_page_alloc_bulk(PAGES, pages, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY) != PAGES)
        must(NULL);
    bench_print(rows, K_COUNT(rows));
    quire_kva_purge();
    quire_page_free_bulk(PAGES, pages);
    quire_kfree(held);
}
