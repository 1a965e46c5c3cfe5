/*
 * frame_verify_test.c - each invariant of src/frame, broken: verify must see it and name it.
 *
 * Every test plants one damage at a time in a sound machine, asks verify, and takes it back: that the
 * machine is sound again shows that nothing but the damage was reported.
 */
#include <frame_machine.h>

#include <frame/zone.h>

/* What the tests damage: one zone of eight pageblocks. */
static struct quire_page *piece; /* 16 frames of a block under the bitmap, the rest of it free */
static struct quire_page *run;   /* one allocation of two pageblocks */
static struct qi_zone *zone;
static struct qi_block *part, *used, *whole;

static uint32_t index_of(const struct qi_block *b) { return (uint32_t)(b - zone->blocks); }

static struct quire_page *page_of(const struct qi_block *b)
{
    return quire_page_of_pfn(Q_PFN(qi_block_pfn(zone, index_of(b))));
}

static int setup(void **state)
{
    (void)state;
    machine(16 * MIB, 16 * MIB);
    zone = &qi_zones[0];
    piece = get(4);
    run = get(10);
    part = &zone->blocks[qi_block_of(zone, quire_pfn_of_page(piece).v)];
    used = &zone->blocks[qi_block_of(zone, quire_pfn_of_page(run).v)];
    for (whole = zone->blocks; whole->state != QI_BLOCK_WHOLE || whole->order != 10;)
        assert_true(++whole < zone->blocks + zone->nblocks);
    assert_int_equal(part->state, QI_BLOCK_PART);
    assert_int_equal(used->state, QI_BLOCK_USED);
    healthy();
    return 0;
}

static void broken(const char *invariant, const char *words)
{
    assert_int_equal(quire_frame_verify(), QUIRE_CORRUPT);
    if (!strstr(hosted_log_last(), invariant) || !strstr(hosted_log_last(), words))
        fail_msg("said '%s', not '%s: %s'", hosted_log_last(), invariant, words);
}

/* While lvalue has this value, the invariant is broken. */
#define BROKEN_BY(lvalue, value, invariant, words) \
    do {                                           \
        __typeof__(lvalue) before_ = (lvalue);     \
                                                   \
        (lvalue) = (__typeof__(lvalue))(value);    \
        broken(invariant, words);                  \
        (lvalue) = before_;                        \
        healthy();                                 \
    } while (0)

static void counts_and_bitmaps_agree(void **state)
{
    uint64_t bits[QI_BLOCK_WORDS], *at = zone->bits[index_of(part)];
    struct qi_block before = *part;

    (void)state;
    BROKEN_BY(part->free, part->free + 1, "F1", "block");
    BROKEN_BY(part->free, part->free - 1, "F1", "block");
    BROKEN_BY(part->managed, part->free - 1, "F1", "managed");
    BROKEN_BY(part->order, part->order - 1, "F1", "largest run");
    BROKEN_BY(zone->managed, zone->managed + 1, "F1", "manages");
    BROKEN_BY(zone->free, zone->free - 1, "F1", "says");
    /* all 512 free, which is no condition for a block under the bitmap to stay in */
    memcpy(bits, at, sizeof bits);
    memset(at, 0xff, sizeof bits);
    part->free = QI_BLOCK_FRAMES;
    broken("F1", "free 512");
    memcpy(at, bits, sizeof bits);
    *part = before;
    healthy();
}

static void free_frames_are_free(void **state)
{
    struct quire_page *beside = piece + 16;

    (void)state;
    BROKEN_BY(beside->flags, beside->flags | QUIRE_PG_DIRTY, "F2", "flags");
    BROKEN_BY(beside->flags, beside->flags & ~QUIRE_PG_FREE, "F2", "flags");
    BROKEN_BY(beside->flags, beside->flags ^ 1u << QUIRE_PG_NODE_SHIFT, "F2", "flags");
    BROKEN_BY(beside->refs, 1, "F2", "refs 1");
}

static void runs_are_aligned_and_inside(void **state)
{
    uint32_t nblocks = zone->nblocks;

    (void)state;
    BROKEN_BY(whole->order, QI_BLOCK_ORDER - 1, "F3", "heads a run of order 8");
    BROKEN_BY(whole->order, 200, "F3", "heads a run of order 200");
    /* two pageblocks from an odd one */
    BROKEN_BY(used[1].state, QI_BLOCK_WHOLE, "F3", "in a run of order 10");
    used[0].order = QI_BLOCK_ORDER;
    used[1].order = QUIRE_MAX_ORDER;
    used[1].state = QI_BLOCK_USED;
    broken("F3", "heads a run of order 10");
    used[0].order = QUIRE_MAX_ORDER;
    used[1].state = QI_BLOCK_BODY;
    healthy();
    /* beyond the end of the zone */
    zone->nblocks = index_of(used) + 1;
    broken("F3", "heads a run");
    zone->nblocks = nblocks;
    healthy();
}

static void runs_are_whole(void **state)
{
    (void)state;
    BROKEN_BY(whole[1].managed, 511, "F3", "managed 511");
    BROKEN_BY(whole[1].free, 1, "F3", "in a run");
    BROKEN_BY(whole[1].state, QI_BLOCK_PART, "F3", "in a run");
    BROKEN_BY(used[1].state, QI_BLOCK_USED, "F3", "in a run");
    /* blocks of a run without its head, and frames in a block that is none */
    BROKEN_BY(part->state, QI_BLOCK_BODY, "F3", "outside a run");
    BROKEN_BY(part->state, QI_BLOCK_RESERVED, "F3", "outside a run");
}

static void buddies_are_merged(void **state)
{
    (void)state;
    /* the run of two, as two runs of one that both claim to be free */
    used[0].order = used[1].order = QI_BLOCK_ORDER;
    used[0].state = used[1].state = QI_BLOCK_WHOLE;
    broken("F3", "its buddy of order 9 are both free");
    /* a buddy of another order is no reason to merge, but that order is wrong there */
    used[1].order = QUIRE_MAX_ORDER;
    broken("F3", "heads a run of order 10");
}

static void lists_hold_what_they_should(void **state)
{
    unsigned l = qi_part_list(part), t = part->type;
    uint32_t *head = &zone->part[t][l];

    (void)state;
    assert_int_equal(*head, index_of(part));
    BROKEN_BY(zone->big_mask, zone->big_mask ^ 1, "F4", "mask of whole blocks");
    BROKEN_BY(zone->part_mask[t], zone->part_mask[t] ^ 1ull << l, "F4", "mask");
    BROKEN_BY(part->prev, 3, "F4", "is on list");
    BROKEN_BY(part->next, zone->nblocks, "F4", "leads to block");
    BROKEN_BY(part->next, index_of(part), "F4", "is on list"); /* a circle */
    BROKEN_BY(whole->prev, index_of(whole), "F4", "is on list");
    BROKEN_BY(*head, index_of(whole), "F4", "is on list"); /* of another condition */
    BROKEN_BY(part->type, (t + 1) % QI_STACK_TYPES, "F4", "is on list");
}

static void blocks_are_on_one_list(void **state)
{
    unsigned l = qi_part_list(part), t = part->type, to = l - 1;

    (void)state;
    /* on none */
    zone->part[t][l] = QI_NONE;
    zone->part_mask[t] &= ~(1ull << l);
    broken("F4", "blocks on lists");
    /* on the one of another fullness */
    zone->part[t][to] = index_of(part);
    zone->part_mask[t] |= 1ull << to;
    broken("F4", "is on list");
    zone->part[t][to] = QI_NONE;
    zone->part_mask[t] &= ~(1ull << to);
    zone->part[t][l] = index_of(part);
    zone->part_mask[t] |= 1ull << l;
    healthy();
    /* a whole block on the list of another order */
    zone->big[0] = zone->big[1];
    zone->big[1] = QI_NONE;
    zone->big_mask = 1;
    broken("F4", "is on list 0");
}

/* A frame of the block that its bitmap has. */
static unsigned in_bitmap(const struct qi_block *b)
{
    const uint64_t *bits = zone->bits[index_of(b)];
    unsigned f = 0;

    while (!(bits[f / 64] >> f % 64 & 1))
        assert_true(++f < QI_BLOCK_FRAMES);
    return f;
}

static void stacks_hold_free_frames(void **state)
{
    struct quire_page *kept, *two, *own;
    struct qi_stack *s;

    (void)state;
    quire_page_free(get(1), 1);
    quire_page_free(get(0), 0);
    healthy();
    s = &qi_frame_cpus[0].stacks[zone->slot * QI_STACK_KINDS * QI_STACK_TYPES];
    assert_true(qi_stack_count(s) > 1);
    own = s->base[0];
    two = s[QI_STACK_TYPES].base[0];
    BROKEN_BY(s->top, s->base + s->room + 1, "F5", "a stack of");
    BROKEN_BY(s->top, s->top - 1, "F5", "marked so"); /* one was lost */
    BROKEN_BY(own->flags, own->flags & ~QUIRE_PG_FREE, "F5", "holds pfn");
    BROKEN_BY(own->refs, 1, "F5", "refs 1");
    if (QUIRE_MEMORY_MODEL ==
        QUIRE_MODEL_VMEMMAP) { /* frames that are not have pages in no other */
        BROKEN_BY(s->base[0], quire_page_of_pfn(Q_PFN(zone->start - 1)), "F5", "holds pfn");
        BROKEN_BY(s->base[0], quire_page_of_pfn(Q_PFN(zone->end)), "F5", "holds pfn");
    }
    BROKEN_BY(s->base[0], two, "F5", "holds pfn"); /* of another order */
    BROKEN_BY(s->base[0], page_of(part) + in_bitmap(part), "F5", "holds pfn");
    kept = page_of(whole); /* in no block under the bitmap */
    kept->flags = qi_flags_at(kept, zone->place | QUIRE_PG_FREE);
    BROKEN_BY(s->base[0], kept, "F5", "holds pfn");
}

/* Says that it is in a stack, but is in none. */
static void nothing_else_is_free(void **state)
{
    (void)state;
    piece->flags |= QUIRE_PG_FREE;
    broken("F5", "marked so");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(counts_and_bitmaps_agree, setup),
        cmocka_unit_test_setup(free_frames_are_free, setup),
        cmocka_unit_test_setup(runs_are_aligned_and_inside, setup),
        cmocka_unit_test_setup(runs_are_whole, setup),
        cmocka_unit_test_setup(buddies_are_merged, setup),
        cmocka_unit_test_setup(lists_hold_what_they_should, setup),
        cmocka_unit_test_setup(blocks_are_on_one_list, setup),
        cmocka_unit_test_setup(stacks_hold_free_frames, setup),
        cmocka_unit_test_setup(nothing_else_is_free, setup),
    };

    return cmocka_run_group_tests_name("frame_verify_test", tests, NULL, NULL);
}
