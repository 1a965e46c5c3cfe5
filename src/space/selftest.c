/*
 * space/selftest.c - quire_port_selftest(): tells a wrong port from a bug of the library.
 *
 * Every hook is called with legal arguments and its effect checked, as far as one CPU can see it.
 * The file stands in the top layer, alone in its object: who does not call it need not have the
 * hooks of layers that are not linked.  Not called: qport_panic, which may not return, and
 * qport_table_load, which would take the ground from under the caller.
 */
#include "../base/bits.h"
#include "../base/check.h"
#include "../base/selftest.h"

#define PAGE 4096u

/* A page with a page of guard bytes on either side. */
static uint8_t area[2][3 * PAGE] __attribute__((aligned(PAGE)));

static void fill(uint8_t *p, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        p[i] = value;
}

static bool filled(const uint8_t *p, size_t n, uint8_t value)
{
    while (n && *p == value) {
        p++;
        n--;
    }
    return n == 0;
}

static bool clear_page_works(void)
{
    fill(area[0], sizeof area[0], 0xa5);
    qport_clear_page(area[0] + PAGE);
    return filled(area[0], PAGE, 0xa5) && filled(area[0] + PAGE, PAGE, 0) &&
           filled(area[0] + 2 * PAGE, PAGE, 0xa5);
}

static bool copy_page_works(void)
{
    fill(area[0], sizeof area[0], 0xa5);
    fill(area[1], sizeof area[1], 0x5a);
    for (unsigned i = 0; i < PAGE; i++)
        area[1][PAGE + i] = (uint8_t)(i * 7 + i / 256);
    qport_copy_page(area[0] + PAGE, area[1] + PAGE);
    for (unsigned i = 0; i < PAGE; i++)
        if (area[0][PAGE + i] != (uint8_t)(i * 7 + i / 256))
            return false;
    return filled(area[0], PAGE, 0xa5) && filled(area[0] + 2 * PAGE, PAGE, 0xa5) &&
           filled(area[1], PAGE, 0x5a);
}

/* No bit stands still in 64 draws: chance of a false alarm 2^-57. */
static bool random_works(void)
{
    uint64_t ones = 0, zeros = 0;

    for (int i = 0; i < 64; i++) {
        uint64_t r = qport_random();

        ones |= r;
        zeros |= ~r;
    }
    return ones == ~0ull && zeros == ~0ull;
}

/* Waiting for a value that has changed returns at once; waking nobody does nothing. */
static bool wait_works(void)
{
    static uint32_t word = 1;

    qport_wait(&word, 2);
    qport_wake(&word, 1);
    qport_wake(&word, ~0u);
    return word == 1;
}

static bool ids_work(void) { return qport_task_id() != 0 && qport_task_id() == qport_task_id(); }

static bool bases_work(void)
{
    bool aligned = qi_is_aligned(QPORT_DIRECT_BASE, QUIRE_HUGE_SIZE);

#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
    aligned &= qi_is_aligned(QPORT_VMEMMAP_BASE, PAGE);
#endif
    return aligned;
}

static bool populate_works(void)
{
#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
    uintptr_t at = QPORT_VMEMMAP_BASE;

    return qport_vmemmap_populate(at, at, 0) == QUIRE_OK;
#else
    return true;
#endif
}

/* Nothing to see from here, but they must come back. */
static bool flushes_work(void)
{
    static const uint64_t nobody[QUIRE_MAX_CPUS / 64 + 1];

    qport_tlb_flush_page((uintptr_t)area, 0);
    qport_tlb_flush_asid(0);
    qport_tlb_flush_all();
    qport_ipi(nobody);
    return true;
}

enum quire_status quire_port_selftest(const char **culprit)
{
    static const struct {
        const char *name;
        bool (*works)(void);
    } hooks[] = {
        {"QPORT_DIRECT_BASE, QPORT_VMEMMAP_BASE", bases_work},
        {"qport_cpu, qport_irq_save, qport_preempt_disable", qi_cpu_works},
        {"qport_clear_page", clear_page_works},
        {"qport_copy_page", copy_page_works},
        {"qport_now_ns", qi_clock_works},
        {"qport_random", random_works},
        {"qport_task_id", ids_work},
        {"qport_wait, qport_wake", wait_works},
        {"qport_vmemmap_populate", populate_works},
        {"qport_tlb_flush_page, _asid, _all, qport_ipi", flushes_work},
    };

    for (size_t i = 0; i < QI_COUNT(hooks); i++)
        if (!hooks[i].works()) {
            qi_log(QUIRE_LOG_ERROR, "port self-test: %s", hooks[i].name);
            *culprit = hooks[i].name;
            return QUIRE_INVALID;
        }
    *culprit = NULL;
    return QUIRE_OK;
}
