/*
 * core/framebench.c - rows of bench.c for the frame allocator: quire.bench=frames.  They are those that were
 * measured in Linux with a module of its own (bench/linux-6.1-frames.tsv): the public calls in loops, through
 * pointers' arrays of 8192 pages.
 */
#include "arch/cpu.h"
#include "arch/x86.h"
#include "bench.h"
#include <quire/frame.h>

#define HELD    8192u
#define PAIRS   2000u
#define CLEARED 400u /* fewer than an idle CPU keeps ready */
#define ARRAY   64u
#define HUGES   64u
#define ANY     QUIRE_NODE_ANY
#define ARRAYO  4u /* order of the block that holds the array of 8192 pointers */

static struct quire_page **held;

static struct quire_page *get(unsigned order, quire_gfp gfp)
{
    struct quire_page *p = quire_page_alloc(order, gfp, ANY);

    if (!p)
        kpanic("bench: no memory for order %u", order);
    return p;
}

static u64 pairs(unsigned order, quire_gfp gfp, unsigned n)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < n; i++)
        quire_page_free(get(order, gfp), order);
    return (rdtsc() - t) * 100 / n;
}
static u64 row_pair(void) { return pairs(0, QUIRE_GFP_KERNEL, PAIRS); }
static u64 row_pair_atomic(void) { return pairs(0, QUIRE_GFP_ATOMIC, PAIRS); }
static u64 row_pair_zero(void)
{
    quire_frame_drain(); /* nothing was cleared in advance */
    return pairs(0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, PAIRS);
}
static u64 row_pair1(void) { return pairs(1, QUIRE_GFP_KERNEL, PAIRS); }
static u64 row_pair3(void) { return pairs(3, QUIRE_GFP_KERNEL, PAIRS); }
static u64 row_pair4(void) { return pairs(4, QUIRE_GFP_KERNEL, PAIRS); }
static u64 row_pair9(void) { return pairs(9, QUIRE_GFP_KERNEL, PAIRS); }

static u64 take(unsigned n, unsigned order, quire_gfp gfp)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < n; i++)
        held[i] = get(order, gfp);
    return (rdtsc() - t) * 100 / n;
}
static u64 give(unsigned n, unsigned order)
{
    u64 t = rdtsc();

    for (unsigned i = 0; i < n; i++)
        quire_page_free(held[i], order);
    return (rdtsc() - t) * 100 / n;
}

static u64 state;

static u64 next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void shuffle(void)
{
    state = 88172645463325252ul;
    for (unsigned i = HELD; i > 1; i--) {
        u64 k = next() % i;
        struct quire_page *p = held[i - 1];

        held[i - 1] = held[k];
        held[k] = p;
    }
}

/* Frames that were cleared while the CPU had nothing else to do; and both ways, which moves frames from the
 * pool to the stacks that they are freed to. */
static u64 row_cleared_get(void)
{
    u64 t;

    while (quire_frame_zero_idle(PAIRS))
        ;
    t = take(CLEARED, 0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO);
    give(CLEARED, 0);
    return t;
}
static u64 row_cleared_pair(void)
{
    while (quire_frame_zero_idle(PAIRS))
        ;
    return pairs(0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, CLEARED);
}

static u64 row_bulk_get(void)
{
    u64 t = take(HELD, 0, QUIRE_GFP_KERNEL);

    give(HELD, 0);
    return t;
}
static u64 row_bulk_put(void)
{
    take(HELD, 0, QUIRE_GFP_KERNEL);
    return give(HELD, 0);
}
static u64 row_bulk_put_random(void)
{
    take(HELD, 0, QUIRE_GFP_KERNEL);
    shuffle();
    return give(HELD, 0);
}

/* Which one is chosen costs nothing inside the clock: the shuffled array is walked. */
static u64 row_random(void)
{
    u64 t;

    take(HELD, 0, QUIRE_GFP_KERNEL);
    shuffle();
    t = rdtsc();
    for (unsigned i = 0; i < HELD; i++) {
        quire_page_free(held[i], 0);
        held[i] = get(0, QUIRE_GFP_KERNEL);
    }
    t = (rdtsc() - t) * 100 / HELD;
    give(HELD, 0);
    return t;
}

/* Arrays of 64 until 8192 are held, then all of them back. */
static u64 arrays(bool free)
{
    u64 t = rdtsc(), got;

    for (unsigned i = 0; i < HELD; i += ARRAY)
        if (quire_page_alloc_bulk(ARRAY, held + i, QUIRE_GFP_KERNEL, ANY) != ARRAY)
            kpanic("bench: no memory for arrays");
    got = rdtsc() - t;
    t = rdtsc();
    for (unsigned i = 0; i < HELD; i += ARRAY)
        quire_page_free_bulk(ARRAY, held + i);
    return (free ? rdtsc() - t : got) * 100 / HELD;
}
static u64 row_array_get(void) { return arrays(false); }
static u64 row_array_put(void) { return arrays(true); }

static u64 row_huge_get(void)
{
    u64 t = take(HUGES, 9, QUIRE_GFP_KERNEL);

    give(HUGES, 9);
    return t;
}
static u64 row_huge_put(void)
{
    take(HUGES, 9, QUIRE_GFP_KERNEL);
    return give(HUGES, 9);
}

static u64 row_clear(void)
{
    struct quire_page *p = get(0, QUIRE_GFP_KERNEL);
    u64 t = rdtsc();

    for (unsigned i = 0; i < PAIRS; i++)
        qport_clear_page(quire_page_ptr(p));
    t = (rdtsc() - t) * 100 / PAIRS;
    quire_page_free(p, 0);
    return t;
}

void frame_bench(void)
{
    static const struct bench_row rows[] = {
        {"pair_order0", row_pair},
        {"pair_order0_atomic", row_pair_atomic},
        {"pair_order0_zeroed", row_pair_zero},
        {"zeroed_in_advance_get", row_cleared_get},
        {"zeroed_in_advance_pair", row_cleared_pair},
        {"pair_order1", row_pair1},
        {"pair_order3", row_pair3},
        {"pair_order4", row_pair4},
        {"pair_order9", row_pair9},
        {"bulk_get", row_bulk_get},
        {"bulk_put_in_order", row_bulk_put},
        {"bulk_put_random", row_bulk_put_random},
        {"random_free_and_allocate", row_random},
        {"array64_get_per_page", row_array_get},
        {"array64_put_per_page", row_array_put},
        {"bulk_get_order9", row_huge_get},
        {"bulk_put_order9", row_huge_put},
        {"clear_page", row_clear},
    };
    struct quire_page *array = get(ARRAYO, QUIRE_GFP_KERNEL);

    held = quire_page_ptr(array);
    bench_print(rows, K_COUNT(rows));
    quire_page_free(array, ARRAYO);
}
