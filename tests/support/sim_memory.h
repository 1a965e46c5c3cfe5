/*
 * sim_memory.h - a small physical memory for tests of the simulator's page walks, with tables
 * written by hand, and walks through them.  Whoever builds tables writes their bits down from the
 * manuals a second time, on purpose.
 */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include <sim_fake.h>

#include "walk.h"

enum { FRAMES = 4096 };
static uint64_t memory[FRAMES][512];
static struct {
    unsigned n, cpu;
    uint64_t pa, before, after;
} stores;

static inline uint64_t *at(void *ctx, uint64_t pa)
{
    (void)ctx;
    assert_int_equal(pa & 7, 0);
    return pa / 4096 < FRAMES ? &memory[pa / 4096][pa / 8 % 512] : NULL;
}

static inline void stored(void *ctx, unsigned cpu, uint64_t pa, uint64_t before, uint64_t after)
{
    (void)ctx;
    assert_int_equal(*at(NULL, pa), after);
    stores.n++;
    stores.cpu = cpu;
    stores.pa = pa;
    stores.before = before;
    stores.after = after;
}

static inline struct walk_machine machine_of(enum walk_format format)
{
    memset(memory, 0, sizeof memory);
    memset(&stores, 0, sizeof stores);
    return (struct walk_machine){
        .format = format, .features = walk_default_features(format), .at = at, .stored = stored};
}

static inline uint64_t *entry(uint64_t table_frame, unsigned index)
{
    return &memory[table_frame][index];
}

struct what {
    enum mmu_kind kind;
    bool user;
};
static const struct what kernel_read = {MMU_READ, false}, kernel_write = {MMU_WRITE, false},
                         kernel_fetch = {MMU_FETCH, false}, user_read = {MMU_READ, true},
                         user_write = {MMU_WRITE, true}, user_fetch = {MMU_FETCH, true};

static inline struct walk walk_at(const struct walk_machine *m, enum walk_mode mode, uint64_t va,
                                  struct what what)
{
    struct walk w = {.va = va,
                     .kind = what.kind,
                     .user = what.user,
                     .mode = mode,
                     .cpu = 3,
                     .root = 0x1000,
                     .high_root = 0x8000};

    if (walk_from_root(m, &w) == MMU_OK)
        walk_run(m, &w);
    return w;
}

static inline enum mmu_result pure(const struct walk_machine *m, uint64_t va, struct what what)
{
    return walk_at(m, WALK_PURE, va, what).result;
}

#endif
