/*
 * dma_step_test.c - races for slots and for a mapping, each lost step by step.
 */
#include <steps.h>

#include <dma_machine.h>

#include "../../src/dma/pool.c"
#include "../../src/dma/table.c"

static struct quire_dma_device dev = {.name = "disk", .mask = BITS(32)};
static uint8_t *p;
static q_ba ours, theirs;

static void they_map(void)
{
    assert_int_equal(quire_dma_map_range(&dev, p, 5000, QUIRE_DMA_TO_DEVICE, &theirs), QUIRE_OK);
}
static void they_unmap(void) { quire_dma_unmap(&dev, ours, 5000, QUIRE_DMA_TO_DEVICE); }

static void begin(void)
{
    dma_machine(DMA_SPAN, 6); /* room for two */
    dev.magic = 0;
    assert_int_equal(quire_dma_device_init(&dev), QUIRE_OK);
    p = dma_block(1, 0);
}

static void end(void)
{
    dma_block_free(p, 1);
    assert_int_equal(quire_dma_device_fini(&dev), QUIRE_OK);
    dma_nothing_lost();
    hosted_fini();
}

/* Another CPU takes the slots that we have just seen free: we take others. */
static void slots_are_lost_and_others_found(void **state)
{
    const struct act acts[] = {{.kind = "RMW", .at = NULL, .run = they_map}, {0}};

    (void)state;
    begin();
    steps_begin(acts);
    assert_int_equal(quire_dma_map_range(&dev, p, 5000, QUIRE_DMA_TO_DEVICE, &ours), QUIRE_OK);
    steps_end();
    dma_sound();
    assert_true(ours.v != theirs.v);
    quire_dma_unmap(&dev, ours, 5000, QUIRE_DMA_TO_DEVICE);
    quire_dma_unmap(&dev, theirs, 5000, QUIRE_DMA_TO_DEVICE);
    end();
}

/* Two unmaps of one mapping at once: the second is told. */
static void of_two_unmaps_one_is_told(void **state)
{
    const struct act acts[] = {{.kind = "LOCK", .at = NULL, .run = they_unmap}, {0}};

    (void)state;
    begin();
    they_map();
    ours = theirs;
    steps_begin(acts);
    PANICS(quire_dma_unmap(&dev, ours, 5000, QUIRE_DMA_TO_DEVICE), "nothing is mapped there");
    steps_end();
    dma_sound();
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_lost_and_others_found),
        cmocka_unit_test(of_two_unmaps_one_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
