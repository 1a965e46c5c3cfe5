/*
 * frame_type_test.c - migrate types keep what cannot be moved together: pageblocks of a type, where a
 * request goes that finds nothing in them, and what becomes of a block that empties.
 */
#include <frame_machine.h>

#include <frame/zone.h>

#define BLOCK  ((uint64_t)QI_BLOCK_FRAMES)
#define START  (16 * MIB / QUIRE_PAGE_SIZE)
#define BLOCKS 64u

static uint8_t kind[BLOCKS * 512]; /* of each frame: 0 free, else 1 + type */

static int setup(void **state)
{
    (void)state;
    machine(16 * MIB, BLOCKS * 2 * MIB);
    memset(kind, 0, sizeof kind);
    return 0;
}

static uint64_t index_of(const struct quire_page *p) { return quire_pfn_of_page(p).v - START; }

static quire_gfp gfp_of(unsigned type)
{
    return (type == QUIRE_MOVABLE       ? QUIRE_GFP_MOVABLE
            : type == QUIRE_RECLAIMABLE ? QUIRE_GFP_RECLAIMABLE
                                        : QUIRE_GFP_KERNEL) |
           QUIRE_GFP_MEMALLOC;
}

/* Of each type, what is held; all are single frames. */
static struct quire_page *of_type[QI_STACK_TYPES][BLOCKS * 512];
static size_t n_of[QI_STACK_TYPES];

static bool more(unsigned type)
{
    struct quire_page *p = quire_page_alloc(0, gfp_of(type), ANY);

    if (!p)
        return false;
    kind[index_of(p)] = (uint8_t)(1 + type);
    of_type[type][n_of[type]++] = p;
    return true;
}
static void fewer(unsigned type)
{
    size_t i = test_random_below(n_of[type]);
    struct quire_page *p = of_type[type][i];

    of_type[type][i] = of_type[type][--n_of[type]];
    kind[index_of(p)] = 0;
    quire_page_free(p, 0);
}
static void none_left(void)
{
    for (unsigned t = 0; t < QI_STACK_TYPES; t++)
        while (n_of[t])
            fewer(t);
    quire_frame_drain();
    healthy();
}

/* Blocks with a frame of the type, and those with one of another besides. */
static unsigned blocks_with(unsigned type, unsigned *mixed)
{
    unsigned n = 0;

    *mixed = 0;
    for (unsigned b = 0; b < BLOCKS; b++) {
        bool own = false, other = false;

        for (unsigned f = 0; f < BLOCK; f++) {
            own |= kind[b * BLOCK + f] == 1 + type;
            other |= kind[b * BLOCK + f] && kind[b * BLOCK + f] != 1 + type;
        }
        n += own;
        *mixed += own && other;
    }
    return n;
}

/* While there are whole blocks, no block has frames of two types. */
static void types_do_not_mix_while_there_is_room(void **state)
{
    unsigned mixed;

    (void)state;
    for (unsigned i = 0; i < 3 * 18 * BLOCK; i++)
        assert_true(more(i % 3));
    for (unsigned t = 0; t < QI_STACK_TYPES; t++) {
        assert_in_range(blocks_with(t, &mixed), 18, 20);
        assert_true(mixed <= 1); /* the boot's own block, of which a part is free */
    }
    healthy();
    none_left();
}

/*
 * Memory full of movable frames, which come and go; slowly a tenth of it is asked for by those whose frames
 * cannot be moved, and these come and go as well.  They stay in few blocks, though no block was ever
 * free when they came: at most half as many again as would just hold them.
 */
/* proves: AS-08 */
static void what_cannot_be_moved_stays_together(void **state)
{
    size_t share = BLOCKS * BLOCK / 10, room = BLOCKS * BLOCK / 50;
    unsigned blocks, mixed;

    (void)state;
    while (more(QUIRE_MOVABLE))
        ;
    for (size_t round = 0; round < share / 2; round++) {
        for (unsigned k = 0; k < 300 || quire_free_pages() < room; k++)
            fewer(QUIRE_MOVABLE);
        for (unsigned k = 0; k < 20; k++)
            if (n_of[QUIRE_UNMOVABLE] > test_random_below(2 * share))
                fewer(QUIRE_UNMOVABLE);
            else if (n_of[QUIRE_UNMOVABLE] < round * 4)
                assert_true(more(QUIRE_UNMOVABLE));
        while (quire_free_pages() > room)
            assert_true(more(QUIRE_MOVABLE));
    }
    healthy();
    blocks = blocks_with(QUIRE_UNMOVABLE, &mixed);
    assert_true(blocks <= (n_of[QUIRE_UNMOVABLE] + BLOCK - 1) / BLOCK * 3 / 2);
    none_left();
}

static enum quire_migrate_type type_of(const struct quire_page *p)
{
    struct quire_block_info b;

    assert_int_equal(quire_block_info(quire_pfn_of_page(p).v / BLOCK, &b), QUIRE_OK);
    return b.type;
}

/* A block that is broken into, and what becomes of it: whose it is, and when it is nobody's again. */
static void a_block_changes_its_type_and_returns(void **state)
{
    struct quire_page *a, *b, *c;
    uint64_t free;

    (void)state;
    while (more(QUIRE_MOVABLE))
        ;
    for (unsigned i = 0; i < 4000; i++) /* room above the marks, but no whole block */
        fewer(QUIRE_MOVABLE);
    quire_frame_drain();
    a = quire_page_alloc(0, gfp_of(QUIRE_UNMOVABLE), ANY);
    assert_int_equal(type_of(a), QUIRE_UNMOVABLE);
    quire_frame_drain();
    /* the next one breaks into what is broken into, not into a movable block */
    b = quire_page_alloc(0, gfp_of(QUIRE_RECLAIMABLE), ANY);
    assert_int_equal(quire_pfn_of_page(b).v / BLOCK, quire_pfn_of_page(a).v / BLOCK);
    assert_int_equal(type_of(a), QUIRE_UNMOVABLE); /* less than half of it is free */
    /* movable requests leave it alone while there is room of their own */
    free = quire_free_pages();
    for (c = a; free > 1000; free--) {
        c = quire_page_alloc(0, gfp_of(QUIRE_MOVABLE), ANY);
        assert_int_equal(type_of(c), QUIRE_MOVABLE);
        held[free] = c;
    }
    for (free++; held[free]; free++) {
        quire_page_free(held[free], 0);
        held[free] = NULL;
    }
    quire_page_free(b, 0);
    none_left();
    assert_int_equal(type_of(a), QUIRE_UNMOVABLE);
    quire_page_free(a, 0);
    quire_frame_drain();
    healthy();
    for (unsigned i = 0; i < BLOCKS - 2; i++)
        assert_int_equal(type_of(quire_page_of_pfn(Q_PFN(START + i * BLOCK))), QUIRE_MOVABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(types_do_not_mix_while_there_is_room, setup),
        cmocka_unit_test_setup(what_cannot_be_moved_stays_together, setup),
        cmocka_unit_test_setup(a_block_changes_its_type_and_returns, setup),
    };

    test_seed("frame_type_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
