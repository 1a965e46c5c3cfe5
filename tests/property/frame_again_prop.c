/*
 * frame_again_prop.c - the random-reallocation experiment (after LLFree, ATC 2023): huge frames come back
 * by themselves from memory that is half full of scattered single frames, as long as some of them are freed
 * and allocated again.  bench/frame_again.c draws the curve.
 */
#include <quire_test.h>

#include <quire/frame.h>

#define BYTES  (1ull << 30)
#define FRAMES (BYTES / QUIRE_PAGE_SIZE)
#define ROUNDS 100u

static struct quire_page *held[FRAMES];

/* Of the 2 MiB frames that the free memory could be, percent that it is. */
static uint64_t whole_percent(void)
{
    struct quire_zone_stats s;
    uint64_t free = 0, whole = 0;

    quire_frame_drain();
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        free += s.free;
        for (unsigned o = QUIRE_HUGE_ORDER; o <= QUIRE_MAX_ORDER; o++)
            whole += s.free_blocks[o] << (o - QUIRE_HUGE_ORDER);
    }
    return whole * 100 / (free >> QUIRE_HUGE_ORDER);
}

/* A random choice of held[0..n), in random order, to held[0..part). */
static void choose(uint64_t n, uint64_t part)
{
    for (uint64_t i = 0; i < part; i++) {
        uint64_t k = i + test_random_below(n - i);
        struct quire_page *t = held[i];

        held[i] = held[k];
        held[k] = t;
    }
}

static struct quire_page *get(void)
{
    return quire_page_alloc(0, QUIRE_GFP_USER | QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY);
}

static void huge_frames_come_back(void **state)
{
    static struct quire_mem_range ranges[4], reserved[16];
    struct quire_memmap map;
    struct quire_boot b = {.map = &map, .nodes = 1, .cpus = 1};
    uint64_t n = 0, managed;

    (void)state;
    hosted_init(BYTES);
    quire_memmap_init(&map, ranges, 4, reserved, 16);
    assert_int_equal(quire_memmap_add(&map, Q_PA(0), BYTES, QUIRE_MEM_USABLE), QUIRE_OK);
    assert_int_equal(quire_frame_init(&b), QUIRE_OK);
    managed = quire_managed_pages();
    while (n < FRAMES && (held[n] = get()))
        n++;
    assert_int_equal(n, managed);
    choose(n, n);
    for (uint64_t i = n / 2; i < n; i++)
        quire_page_free(held[i], 0);
    n /= 2;
    /* half of 512 frames free at random: none of them whole, or the experiment would show nothing */
    assert_int_equal(whole_percent(), 0);
    for (unsigned r = 0; r < ROUNDS; r++) {
        choose(n, n / 10);
        for (uint64_t i = 0; i < n / 10; i++)
            quire_page_free(held[i], 0);
        for (uint64_t i = 0; i < n / 10; i++)
            assert_non_null(held[i] = get());
    }
    printf("# %lu %% of the possible huge frames are free\n", (unsigned long)whole_percent());
    assert_true(whole_percent() >= 94);
    assert_int_equal(quire_frame_verify(), QUIRE_OK);
    assert_int_equal(quire_free_pages(), managed - n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(huge_frames_come_back)};

    test_seed("frame_again_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
