/*
 * hotplug_prop.c - memory that comes and goes against a model of blocks and frames.
 *
 * The model knows of each pageblock that may come whether it is absent, on line or off line, of which
 * node and zone, and of each frame whether somebody holds it.  With one CPU every answer follows from
 * that: a removal succeeds exactly if nothing of the range is held, and nothing of it is cut off before.
 */
#include <frame_machine.h>

#include <frame/zone.h>

#define BLOCK   ((uint64_t)QI_BLOCK_FRAMES)
#define BOOT    (32 * MIB) /* from 8 MiB: DMA and DMA32 */
#define FIRST   (40 * MIB) /* may come: two ranges with a hole between them */
#define HOLE    (72 * MIB) /* 4 MiB that may not */
#define SPAN    (104 * MIB)
#define BLOCKS  ((unsigned)((SPAN - FIRST) / QUIRE_HUGE_SIZE))
#define MAXHELD 20000u

enum { ABSENT, ON, OFF, NEVER };

static struct {
    uint8_t state, node;
    bool movable;
    unsigned held; /* frames of it that somebody has */
} blocks[BLOCKS];

static struct {
    struct quire_page *page;
    unsigned order;
} mine[MAXHELD];
static unsigned nmine;
static uint64_t boot_managed, held_frames;
static enum quire_memory_use use;

static unsigned block_of(uint64_t pfn) { return (unsigned)((pfn - FIRST / 4096) / BLOCK); }

static void begin(void)
{
    map_start(SPAN);
    map_add(8 * MIB, BOOT, 0);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t base = i ? HOLE + 4 * MIB : FIRST, end = i ? SPAN : HOLE;

        assert_int_equal(quire_memmap_add(&map, Q_PA(base), end - base, QUIRE_MEM_HOTPLUG), 0);
        assert_int_equal(quire_memmap_set_node(&map, Q_PA(base), end - base, ANY), 0);
    }
    boot(2, 1, NULL, NULL);
    boot_managed = quire_managed_pages();
    memset(blocks, 0, sizeof blocks);
    for (unsigned i = block_of(HOLE / 4096); i < block_of((HOLE + 4 * MIB) / 4096); i++)
        blocks[i].state = NEVER;
    nmine = 0;
    held_frames = 0;
    use = QUIRE_ADD_MOVABLE;
}

/* A range of blocks; now and then one that passes the end, or is not aligned. */
struct range {
    unsigned at, n;
    uint64_t base, len;
    bool odd, beyond;
};
static struct range any_range(void)
{
    struct range r = {.at = (unsigned)test_random_below(BLOCKS),
                      .n = 1 + (unsigned)test_random_below(5)};

    r.odd = test_random_below(30) == 0;
    r.beyond = r.at + r.n > BLOCKS;
    r.base = FIRST + r.at * QUIRE_HUGE_SIZE + (r.odd ? 4096 : 0);
    r.len = r.n * QUIRE_HUGE_SIZE;
    return r;
}
static bool all_are(const struct range *r, unsigned state)
{
    for (unsigned i = r->at; i < r->at + r->n; i++)
        if (blocks[i].state != state)
            return false;
    return true;
}
static bool any_is(const struct range *r, unsigned state)
{
    for (unsigned i = r->at; i < r->at + r->n && i < BLOCKS; i++)
        if (blocks[i].state == state)
            return true;
    return false;
}
static bool any_held(const struct range *r)
{
    for (unsigned i = r->at; i < r->at + r->n; i++)
        if (blocks[i].held)
            return true;
    return false;
}

static void op_add(void)
{
    struct range r = any_range();
    unsigned node = (unsigned)test_random_below(3); /* there are two */
    enum quire_status want = r.odd || node == 2                  ? QUIRE_INVALID
                             : any_is(&r, ON) || any_is(&r, OFF) ? QUIRE_EXISTS
                             : r.beyond || any_is(&r, NEVER)     ? QUIRE_UNSUPPORTED
                                                                 : QUIRE_OK;
    bool fail = want == QUIRE_OK && test_random_below(6) == 0;

    if (test_random_below(4) == 0)
        quire_memory_set_use(use = test_random_below(2) ? QUIRE_ADD_KERNEL : QUIRE_ADD_MOVABLE);
    if (fail) {
        hosted_fail_populate = 0;
        want = QUIRE_NO_MEMORY;
    }
    assert_int_equal(quire_memory_add(Q_PA(r.base), r.len, node), want);
    for (unsigned i = r.at; !want && i < r.at + r.n; i++) {
        blocks[i].state = ON;
        blocks[i].node = (uint8_t)node;
        blocks[i].movable = use == QUIRE_ADD_MOVABLE;
    }
}

static void op_remove(void)
{
    struct range r = any_range();
    enum quire_status want = r.odd                           ? QUIRE_INVALID
                             : r.beyond || any_is(&r, NEVER) ? QUIRE_UNSUPPORTED
                             : any_is(&r, ABSENT)            ? QUIRE_NOT_FOUND
                             : any_held(&r)                  ? QUIRE_BUSY
                                                             : QUIRE_OK;

    assert_int_equal(quire_memory_remove(Q_PA(r.base), r.len), want);
    for (unsigned i = r.at; !want && i < r.at + r.n; i++) {
        blocks[i].state = ABSENT;
        assert_false(quire_pfn_valid(Q_PFN(FIRST / 4096 + i * BLOCK + test_random_below(BLOCK))));
    }
}

static void op_offline(void)
{
    struct range r = any_range();
    bool bad = r.odd || r.beyond || !all_are(&r, ON);
    enum quire_status want = bad ? QUIRE_INVALID : any_held(&r) ? QUIRE_BUSY : QUIRE_OK;

    assert_int_equal(quire_frame_offline(Q_PFN(r.base / 4096), r.len / 4096), want);
    for (unsigned i = r.at; !want && i < r.at + r.n; i++)
        blocks[i].state = OFF;
}

static void op_online(void)
{
    struct range r = any_range();
    enum quire_status want = r.odd || r.beyond || !all_are(&r, OFF) ? QUIRE_INVALID : QUIRE_OK;

    assert_int_equal(quire_frame_online(Q_PFN(r.base / 4096), r.len / 4096), want);
    for (unsigned i = r.at; !want && i < r.at + r.n; i++)
        blocks[i].state = ON;
}

/* Frames of the block change hands. */
static void count(const struct quire_page *p, unsigned order, int by)
{
    uint64_t pfn = quire_pfn_of_page(p).v;

    held_frames += (uint64_t)(int64_t)by * (1ull << order);
    for (uint64_t f = pfn; f < pfn + (1ull << order); f++)
        if (f >= FIRST / 4096)
            blocks[block_of(f)].held += (unsigned)by;
}

static void op_alloc(void)
{
    unsigned order = test_random_below(3) ? 0 : (unsigned)test_random_below(QUIRE_MAX_ORDER + 1);
    unsigned n = order ? 1 : 1 + (unsigned)test_random_below(400);
    quire_gfp gfp = test_random_below(2) ? QUIRE_GFP_USER : QUIRE_GFP_KERNEL;
    unsigned node = (unsigned)test_random_below(2);

    if (test_random_below(2))
        gfp |= QUIRE_GFP_THISNODE;
    while (n-- && nmine < MAXHELD) {
        struct quire_page *p = quire_page_alloc(order, gfp, node);
        uint64_t pfn = p ? quire_pfn_of_page(p).v : 0;

        if (!p)
            break;
        for (uint64_t f = pfn; f < pfn + (1ull << order); f += BLOCK) {
            unsigned b = block_of(f);

            if (f < FIRST / 4096) {
                assert_false(gfp & QUIRE_GFP_THISNODE && node);
                continue;
            }
            assert_int_equal(blocks[b].state, ON);
            assert_int_equal(quire_page_node(p), blocks[b].node);
            assert_false(gfp & QUIRE_GFP_THISNODE && blocks[b].node != node);
            assert_int_equal(quire_page_zone(p) == QUIRE_ZONE_MOVABLE, blocks[b].movable);
            assert_false(blocks[b].movable && !(gfp & QUIRE_GFP_MOVABLE));
        }
        count(p, order, 1);
        mine[nmine].page = p;
        mine[nmine++].order = order;
    }
}

static void free_one(unsigned i)
{
    count(mine[i].page, mine[i].order, -1);
    quire_page_free(mine[i].page, mine[i].order);
    mine[i] = mine[--nmine];
}

static void op_free(void)
{
    unsigned n = 1 + (unsigned)test_random_below(500);

    while (nmine && n--)
        free_one((unsigned)test_random_below(nmine));
}

/* All of one block, so that it can go. */
static void op_vacate(void)
{
    unsigned b = (unsigned)test_random_below(BLOCKS);

    for (unsigned i = nmine; i-- > 0;) {
        uint64_t pfn = quire_pfn_of_page(mine[i].page).v, end = pfn + (1ull << mine[i].order);

        if (end > FIRST / 4096 && block_of(end - 1) >= b &&
            (pfn < FIRST / 4096 || block_of(pfn) <= b))
            free_one(i);
    }
    assert_int_equal(blocks[b].held, 0);
}

static void books_balance(void)
{
    uint64_t managed = boot_managed, there = 0, present = 0;
    struct quire_zone_stats s;

    for (unsigned i = 0; i < BLOCKS; i++) {
        managed += blocks[i].state == ON ? BLOCK : 0;
        there += blocks[i].state == ON || blocks[i].state == OFF ? BLOCK : 0;
    }
    assert_int_equal(quire_managed_pages(), managed);
    assert_int_equal(quire_free_pages(), managed - held_frames);
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++)
        present += s.present;
    assert_int_equal(present, BOOT / 4096 + there);
    healthy();
}

static void one_machine(unsigned ops)
{
    static void (*const op[])(void) = {op_add,     op_add,    op_remove, op_remove,
                                       op_offline, op_online, op_alloc,  op_alloc,
                                       op_free,    op_vacate, op_vacate};

    begin();
    for (unsigned i = 0; i < ops; i++) {
        op[test_random_below(QI_COUNT(op))]();
        if (i % 16 == 0)
            books_balance();
    }
    while (nmine)
        free_one(nmine - 1);
    quire_frame_drain();
    books_balance();
    for (unsigned i = 0; i < BLOCKS; i++)
        if (blocks[i].state == ON || blocks[i].state == OFF) {
            assert_int_equal(
                quire_memory_remove(Q_PA(FIRST + i * QUIRE_HUGE_SIZE), QUIRE_HUGE_SIZE), QUIRE_OK);
            blocks[i].state = ABSENT;
        }
    books_balance();
}

/* proves: LX-37 VE-48 */
static void memory_against_blocks(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        one_machine(1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_against_blocks)};

    test_seed("hotplug_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
