/*
 * heap_prop.c - the heap against a dumb model: a map with one byte for every 8 bytes of memory that
 * says which block has them, and for each block its size, alignment and a seed of its content.
 *
 * Random calls from random CPUs of two nodes; each block must lie inside memory, be aligned,
 * touch nothing that another block has, and hold what was written until it is freed.
 */
#include <heap_machine.h>

#define SPAN   (64 * HEAP_MIB)
#define BLOCKS 3000
#define CACHES 6

struct block {
    uint8_t *p;
    size_t size;
    unsigned seed;
    int cache; /* -1: kmalloc */
};

static uint16_t owner_of[SPAN / 8];
static struct block blocks[BLOCKS];
static struct quire_cache *caches[CACHES];
static size_t cache_size[CACHES], cache_align[CACHES];
static bool cache_zero[CACHES];

static uint8_t byte_of(const struct block *b, size_t i)
{
    return (uint8_t)(b->seed + i * 31 + i / 256);
}

static void fill(struct block *b)
{
    for (size_t i = 0; i < b->size; i++)
        b->p[i] = byte_of(b, i);
}

static void check_content(const struct block *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b->p[i] != byte_of(b, i))
            fail_msg("byte %zu of block %p (%zu bytes) changed", i, (void *)b->p, b->size);
}

/* The granules of b become who's; they were was's. */
static void claim(const struct block *b, uint16_t was, uint16_t who)
{
    uint64_t from = (uintptr_t)b->p - QPORT_DIRECT_BASE, to = from + (b->size ? b->size : 1);

    assert_true(from >= HEAP_MIB && to <= SPAN);
    for (uint64_t g = from / 8; g <= (to - 1) / 8; g++) {
        if (owner_of[g] != was)
            fail_msg("block %p overlaps block %u", (void *)b->p, owner_of[g]);
        owner_of[g] = who;
    }
}

static size_t random_size(void)
{
    switch (test_random_below(16)) {
    case 0: return test_random_below(200000);
    case 1: return 1ull << test_random_below(17);
    case 2: return test_random_below(20000);
    default: return test_random_below(600);
    }
}

static size_t alignment_of(size_t size)
{
    if (!size || (size & (size - 1)))
        return 8;
    return size < 8 ? 8 : size < 4096 ? size : 4096;
}

/* One of the calls of the family that make something by size.  *zero: asked for, or not. */
static void *take_by_size(struct block *b, quire_gfp gfp, bool *zero)
{
    static uint8_t sample[200000];
    size_t n = 1 + test_random_below(20);
    void *p;

    b->size = random_size();
    switch (test_random_below(10)) {
    case 0: return quire_kmalloc_node(b->size, gfp, (unsigned)test_random_below(quire_nodes()));
    case 1: *zero = true; return quire_kzalloc(b->size, gfp);
    case 2:
        *zero = true;
        b->size = b->size / n * n;
        return quire_kcalloc(n, b->size / n, gfp);
    case 3: b->size = b->size / n * n; return quire_kmalloc_array(n, b->size / n, gfp);
    case 4:
        *zero = false;
        for (size_t i = 0; i < b->size; i++)
            sample[i] = byte_of(b, i);
        p = quire_kmemdup(sample, b->size, gfp & ~QUIRE_GFP_ZERO);
        b->p = p;
        if (p)
            check_content(b, b->size);
        return p;
    case 5: return quire_krealloc(NULL, b->size, gfp);
    case 6:
        p = quire_kmalloc(b->size, gfp | (b->seed & 1 ? QUIRE_GFP_DMA : QUIRE_GFP_DMA32));
        if (p && (b->seed & 1))
            assert_true(quire_pa_of_kla(Q_KLA((uintptr_t)p + b->size)).v <= 16 << 20);
        return p;
    default: return quire_kmalloc(b->size, gfp);
    }
}

static void take(unsigned k)
{
    struct block *b = &blocks[k];
    bool zero = !test_random_below(4);
    size_t align;

    b->seed = (unsigned)test_random();
    if (test_random_below(3)) {
        quire_gfp gfp = test_random_below(8) ? QUIRE_GFP_KERNEL : QUIRE_GFP_ATOMIC;

        b->cache = -1;
        b->p = take_by_size(b, gfp | (zero ? QUIRE_GFP_ZERO : 0), &zero);
        align = alignment_of(b->size);
    } else {
        b->cache = (int)test_random_below(CACHES);
        b->size = cache_size[b->cache];
        zero = zero || cache_zero[b->cache];
        b->p = quire_cache_alloc(caches[b->cache], zero ? QUIRE_GFP_ZERO : 0);
        align = cache_align[b->cache];
    }
    if (!b->p)
        return; /* full: an ordinary answer */
    assert_int_equal((uintptr_t)b->p % align, 0);
    claim(b, 0, (uint16_t)(k + 1));
    for (size_t i = 0; zero && i < b->size; i++)
        assert_int_equal(b->p[i], 0);
    fill(b);
}

static void give(unsigned k)
{
    struct block *b = &blocks[k];

    check_content(b, b->size);
    claim(b, (uint16_t)(k + 1), 0);
    if (b->cache >= 0)
        quire_cache_free(caches[b->cache], b->p);
    else if (test_random_below(8))
        quire_kfree(b->p);
    else
        quire_kfree_sensitive(b->p);
    b->p = NULL;
}

static void resize(unsigned k)
{
    struct block *b = &blocks[k], old = *b;
    size_t size = random_size() + 1;
    uint8_t *p;

    check_content(b, b->size);
    p = test_random_below(2) ? quire_krealloc(b->p, size, QUIRE_GFP_KERNEL)
                             : quire_krealloc_array(b->p, 1, size, QUIRE_GFP_KERNEL);
    if (!p)
        return;
    claim(&old, (uint16_t)(k + 1), 0);
    b->p = p;
    b->size = size;
    claim(b, 0, (uint16_t)(k + 1));
    check_content(b, size < old.size ? size : old.size);
    fill(b);
}

static void step(void)
{
    unsigned k = (unsigned)test_random_below(BLOCKS);

    hosted_cpu_set((unsigned)test_random_below(HEAP_CPUS));
    if (!blocks[k].p)
        take(k);
    else if (blocks[k].cache < 0 && !test_random_below(4))
        resize(k);
    else
        give(k);
    if (!test_random_below(5000))
        quire_heap_shrink();
}

static void make_caches(void)
{
    static const unsigned flags[CACHES] = {0,
                                           QUIRE_CACHE_ZERO,
                                           QUIRE_CACHE_REDZONE,
                                           QUIRE_CACHE_POISON,
                                           QUIRE_CACHE_REDZONE | QUIRE_CACHE_POISON,
                                           QUIRE_CACHE_HWALIGN};

    for (unsigned i = 0; i < CACHES; i++) {
        cache_size[i] = 1 + test_random_below(test_random_below(3) ? 300 : 9000);
        cache_align[i] = 1ull << test_random_below(10);
        cache_zero[i] = flags[i] & QUIRE_CACHE_ZERO;
        assert_int_equal(
            quire_cache_create("prop", cache_size[i], cache_align[i], flags[i], NULL, &caches[i]),
            QUIRE_OK);
    }
}

/* The first two machines as they come, the others with some of the modes of hardening. */
static void choose_modes(int machine)
{
    struct quire_heap_options o = {.quarantine_bytes = 1 + test_random_below(300000),
                                   .seed = test_random()};

    if (machine >= 2)
        o.flags = test_random() & (QUIRE_HEAP_FLAGS & ~QUIRE_HEAP_TRACK & ~QUIRE_HEAP_LEAKSCAN);
    assert_int_equal(quire_heap_configure(&o), QUIRE_OK);
}

/* proves: VM-17 VM-19 AS-36 AS-37 */
static void random_calls_agree_with_the_model(void **state)
{
    (void)state;
    for (int machine = 0; machine < 6; machine++) {
        uint64_t before;

        choose_modes(machine);
        heap_machine(SPAN, 1 + machine % 2);
        memset(owner_of, 0, sizeof owner_of);
        before = quire_free_pages();
        make_caches();
        for (int i = 0; i < 60000; i++) {
            step();
            if (i % 6000 == 0)
                heap_sound();
        }
        heap_sound();
        for (unsigned k = 0; k < BLOCKS; k++)
            if (blocks[k].p)
                give(k);
        for (unsigned i = 0; i < CACHES; i++)
            assert_int_equal(quire_cache_destroy(caches[i]), QUIRE_OK);
        heap_sound();
        assert_int_equal(heap_free_pages(), before);
        hosted_fini();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_calls_agree_with_the_model)};

    test_seed("heap_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
