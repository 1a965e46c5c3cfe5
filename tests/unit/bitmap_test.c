/*
 * bitmap_test.c - src/frame/bitmap.h against a model that looks at each frame of a pageblock.
 */
#include <quire_test.h>

#include <frame/bitmap.h>

#define FRAMES QI_BLOCK_FRAMES

/* The 2^order frames at at, which must be a place for such a run, are all free. */
static bool model_run(const bool *free, unsigned at, unsigned order)
{
    for (unsigned i = 0; i < 1u << order; i++)
        if (!free[at + i])
            return false;
    return true;
}

/* A run that is not half of a larger one. */
static bool model_maximal(const bool *free, unsigned at, unsigned order)
{
    unsigned twice = at & ~((2u << order) - 1);

    return model_run(free, at, order) && (order == 9 || !model_run(free, twice, order + 1));
}

static unsigned model_find(const bool *free, unsigned order)
{
    for (unsigned o = order; o <= 9; o++)
        for (unsigned at = 0; at < FRAMES; at += 1u << o)
            if (model_maximal(free, at, o))
                return at;
    return FRAMES;
}

/* Everything that is asked of a bitmap, asked of both. */
static void compare(const bool *free, const uint64_t *bits)
{
    uint64_t census[10] = {0}, counted[10] = {0};
    unsigned n = 0, max = 0;

    for (unsigned at = 0; at < FRAMES; at++)
        n += free[at];
    for (unsigned o = 0; o <= 9; o++)
        for (unsigned at = 0; at < FRAMES; at += 1u << o) {
            bool any = false;

            for (unsigned i = 0; i < 1u << o; i++)
                any |= free[at + i];
            assert_int_equal(qi_bits_any(bits, at, o), any);
            census[o] += model_maximal(free, at, o);
            if (model_run(free, at, o))
                max = o;
        }
    assert_int_equal(qi_bits_count(bits), n);
    if (n)
        assert_int_equal(qi_bits_max_order(bits, QI_BITS_MAX_ORDER), max < 8 ? max : 8);
    for (unsigned o = 0; o <= 8; o++)
        assert_int_equal(qi_bits_find(bits, o), model_find(free, o));
    qi_bits_census(bits, counted);
    assert_memory_equal(census, counted, sizeof census);
    for (unsigned w = 0; w < QI_BLOCK_WORDS; w++) {
        unsigned in_word = 0;

        for (unsigned o = 0; o <= 6; o++)
            for (unsigned at = w * 64; at < w * 64 + 64; at += 1u << o)
                if (model_run(free, at, o))
                    in_word = o;
        if (bits[w])
            assert_int_equal(qi_word_max_order(bits[w]), in_word);
    }
}

static void apply(bool *free, uint64_t *bits, unsigned at, unsigned order, bool set)
{
    for (unsigned i = 0; i < 1u << order; i++)
        free[at + i] = set;
    (set ? qi_bits_set_run : qi_bits_clear_run)(bits, at, order);
}

/* Runs of all orders set and cleared at random, dense and sparse by turns: single frames and runs are found where
 * a model that looks at every frame finds them.
 * proves: VE-02 */
static void runs_of_all_orders(void **state)
{
    bool free[FRAMES] = {false};
    uint64_t bits[QI_BLOCK_WORDS] = {0};

    (void)state;
    compare(free, bits);
    for (unsigned step = 0; step < 2000; step++) {
        unsigned order = (unsigned)test_random_below(9);
        unsigned at = (unsigned)test_random_below(FRAMES >> order) << order;
        bool dense = step / 250 % 2;

        apply(free, bits, at, order, test_random_below(4) ? dense : !dense);
        compare(free, bits);
    }
}

/* One run alone, and everything but it: each order at each place. */
static void each_run_alone(void **state)
{
    (void)state;
    for (unsigned order = 0; order <= 8; order++)
        for (unsigned at = 0; at < FRAMES; at += 1u << order)
            for (unsigned set = 0; set < 2; set++) {
                bool free[FRAMES];
                uint64_t bits[QI_BLOCK_WORDS];

                memset(free, !set, sizeof free);
                memset(bits, set ? 0 : 0xff, sizeof bits);
                apply(free, bits, at, order, set);
                compare(free, bits);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_of_all_orders),
        cmocka_unit_test(each_run_alone),
    };

    test_seed("bitmap_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
