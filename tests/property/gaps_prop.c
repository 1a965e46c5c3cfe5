/*
 * gaps_prop.c - the tree of ranges and gaps (src/kva/gaps.c) against a dumb model: an array that says of each
 * unit of the window whose it is, searched from the front.
 *
 * Windows of many sizes, at the bottom, the middle and the top of all addresses; ranges that come and go at
 * random, one after the other from either end, and in waves that leave rows of every length behind.  What is
 * found must be what the model finds, to the unit, and the tree right after each change.
 */
#include <quire_test.h>

#include <kva/gaps.h>

#define SPACE  4096u
#define RANGES 2048u

static struct qi_gap_node nodes[RANGES];
static bool in[RANGES];
static uint16_t whose[SPACE]; /* number of the range and 1; 0: nobody's */
static struct qi_gaps gaps;
static uint64_t base;
static unsigned space, ranges, held;

static void window(uint64_t at, unsigned units)
{
    base = at;
    space = units;
    held = 0;
    memset(in, 0, sizeof in);
    memset(whose, 0, sizeof whose);
    qi_gaps_init(&gaps, base, base + space);
    assert_true(qi_gaps_verify(&gaps));
}

/* The first place in the model; space: there is none. */
static unsigned place_for(unsigned size, uint64_t align, uint64_t offset)
{
    unsigned run = 0;

    for (unsigned at = 0; at < space; at++) {
        run = whose[at] ? 0 : run + 1;
        if (run >= size) {
            unsigned from = at + 1 - size;

            if (((base + from + offset) & (align - 1)) == 0)
                return from;
        }
    }
    return space;
}

static void occupy(unsigned k, unsigned from, unsigned to, uint16_t by)
{
    for (unsigned at = from; at < to; at++) {
        if (by && whose[at])
            fail_msg("unit %u of range %u is of range %u", at, k, whose[at] - 1u);
        whose[at] = by;
    }
}

static void insert(unsigned k, uint64_t at, unsigned size, struct qi_gap_node *next)
{
    assert_in_range(at - base, 0, space - size);
    occupy(k, (unsigned)(at - base), (unsigned)(at - base) + size, (uint16_t)(k + 1));
    nodes[k].start = at;
    nodes[k].end = at + size;
    qi_gaps_insert(&gaps, &nodes[k], next);
    in[k] = true;
    held++;
}

static void take_out(unsigned k)
{
    occupy(k, (unsigned)(nodes[k].start - base), (unsigned)(nodes[k].end - base), 0);
    qi_gaps_remove(&gaps, &nodes[k]);
    in[k] = false;
    held--;
}

/* Ask for a place; what comes must be right, and for small alignments the lowest. */
static bool put(unsigned k, unsigned size, uint64_t align)
{
    uint64_t offset = test_random_below(align), at;
    unsigned want = place_for(size, align, offset);
    struct qi_gap_node *next;
    bool found = qi_gaps_find(&gaps, size, align, offset, 1, &at, &next);

    if (found != (want < space))
        fail_msg("%u units, align %lu: %sfound, the model has %u", size, (unsigned long)align,
                 found ? "" : "not ", want);
    if (!found)
        return false;
    assert_int_equal((at + offset) & (align - 1), 0);
    if (align == 1)
        assert_int_equal(at - base, want);
    insert(k, at, size, next);
    return true;
}

/* What a look-up at this unit says. */
static void look_at(unsigned at)
{
    struct qi_gap_node *n = qi_gaps_lookup(&gaps, base + at);
    unsigned from = at;

    assert_ptr_equal(n, whose[at] ? &nodes[whose[at] - 1] : NULL);
    while (from < space && !whose[from])
        from++;
    assert_ptr_equal(qi_gaps_from(&gaps, base + at),
                     from < space ? &nodes[whose[from] - 1] : &gaps.fence);
}

static void check(void)
{
    assert_true(qi_gaps_verify(&gaps));
    look_at((unsigned)test_random_below(space));
    look_at(0);
    look_at(space - 1);
    assert_null(qi_gaps_lookup(&gaps, base + space));
    assert_ptr_equal(qi_gaps_from(&gaps, base + space), &gaps.fence);
}

static unsigned some_size(void)
{
    return 1 + (unsigned)test_random_below(test_random_below(6) ? 3 : 40);
}

/* Ranges come and go, more of them come than go while rising. */
static void at_random(unsigned rounds)
{
    bool rising = true;

    for (unsigned i = 0; i < rounds; i++) {
        unsigned k = (unsigned)test_random_below(ranges);

        if (!test_random_below(ranges))
            rising = !rising;
        if (in[k] && (!rising || !test_random_below(4)))
            take_out(k);
        else if (!in[k] && (rising || !test_random_below(4)))
            put(k, some_size(), 1ull << test_random_below(test_random_below(4) ? 1 : 9));
        check();
    }
}

static void empty_out(void)
{
    for (unsigned k = 0; k < ranges; k++)
        if (in[k])
            take_out(k);
    check();
    assert_ptr_equal(gaps.floor.next, &gaps.fence);
}

/* proves: AS-21 */
static void anywhere(void **state)
{
    static const uint64_t bases[] = {0, 1000, 1ull << 63, UINT64_MAX - SPACE};

    (void)state;
    for (unsigned trial = 0; trial < 48; trial++) {
        ranges = 1 + (unsigned)test_random_below(1u << (1 + trial % 11));
        ranges = QI_MIN(ranges, RANGES);
        window(bases[trial % 4], QI_MIN(SPACE, ranges * (2 + (unsigned)test_random_below(6))));
        at_random(1500);
        empty_out();
    }
}

/* Neighbours without a gap come behind each other and go from the front, the back or the middle outwards: rows
 * fill, lose their heads and join. */
static void in_order(void **state)
{
    (void)state;
    ranges = RANGES;
    for (unsigned way = 0; way < 4; way++) {
        window(1000, SPACE);
        for (unsigned k = 0; k < RANGES; k++) {
            assert_true(put(k, 2, 1));
            assert_int_equal(nodes[k].start - base, 2 * k);
            if (k % 16 == 0)
                check();
        }
        check();
        assert_false(put(0, 1, 1)); /* full: nothing was put */
        assert_int_equal(held, RANGES);
        for (unsigned i = 0; i < RANGES; i++) {
            unsigned k = way == 0   ? i
                         : way == 1 ? RANGES - 1 - i
                         : way == 2 ? (i % 2 ? RANGES / 2 - 1 - i / 2 : RANGES / 2 + i / 2)
                                    : i * 769 % RANGES;

            take_out(k);
            check();
        }
        assert_ptr_equal(gaps.floor.next, &gaps.fence);
    }
}

/* In front of the first each time: place and neighbour are the caller's to choose. */
static void backwards(void **state)
{
    (void)state;
    ranges = RANGES;
    window(0, SPACE);
    for (unsigned k = 0; k < RANGES; k++) {
        insert(k, base + space - 2 * (k + 1), 1 + k % 2, gaps.floor.next);
        check();
    }
    empty_out();
}

/* Every second, every third, ... goes, and comes back into the lowest gap: the one it left. */
static void in_waves(void **state)
{
    (void)state;
    ranges = 1000;
    window(1ull << 40, SPACE);
    for (unsigned k = 0; k < ranges; k++)
        assert_true(put(k, 3, 1));
    for (unsigned step = 1; step < 20; step++) {
        for (unsigned k = 0; k < ranges; k += step) {
            take_out(k);
            check();
        }
        for (unsigned k = 0; k < ranges; k += step) {
            assert_true(put(k, 3, 1));
            assert_int_equal(nodes[k].start - base, 3 * k);
        }
        check();
    }
    empty_out();
}

/* The tree is as low as one of full rows may be when ranges came one behind the other, and never higher than
 * one in which each range is a row. */
static void is_low(void **state)
{
    (void)state;
    ranges = RANGES;
    window(0, SPACE);
    for (unsigned k = 0; k < RANGES; k++)
        assert_true(put(k, 2, 1));
    assert_in_range(gaps.floor.left->height, 9,
                    11); /* 2,048 / 8 and the fence; 1.44 log2(257 + 2) */
    for (unsigned k = 0; k < RANGES; k++)
        if (k % 8)
            take_out(k); /* one of each row is left, and joins others */
    assert_true(qi_gaps_verify(&gaps));
    assert_in_range(gaps.floor.left->height, 6, 9); /* rows of 2 at least: 1.44 log2(129 + 2) */
    empty_out();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anywhere), cmocka_unit_test(in_order), cmocka_unit_test(backwards),
        cmocka_unit_test(in_waves), cmocka_unit_test(is_low),
    };

    test_seed("gaps_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
