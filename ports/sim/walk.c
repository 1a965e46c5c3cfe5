/*
 * walk.c - the loop of a page walk; what an entry means is in walk_x86.c, walk_arm64.c and
 * walk_riscv.c.
 */
#include "walk.h"

#include <stddef.h>

static const struct walk_ops *const formats[WALK_FORMATS] = {
    [WALK_X86_4] = &walk_x86_4, [WALK_X86_5] = &walk_x86_5, [WALK_ARM64] = &walk_arm64,
    [WALK_SV39] = &walk_sv39,   [WALK_SV48] = &walk_sv48,
};

const char *walk_format_name(enum walk_format format) { return formats[format]->name; }
unsigned walk_levels(enum walk_format format) { return formats[format]->levels; }
struct walk_features walk_default_features(enum walk_format format)
{
    return formats[format]->features;
}

const char *mmu_result_name(enum mmu_result result)
{
    static const char *const names[MMU_RESULTS] = {
        [MMU_OK] = "ok",
        [MMU_NOT_CANONICAL] = "not canonical",
        [MMU_ABSENT] = "absent",
        [MMU_RESERVED] = "reserved bit",
        [MMU_ADDRESS_SIZE] = "address size",
        [MMU_ACCESSED] = "accessed clear",
        [MMU_PROTECTION] = "protection",
        [MMU_DIRTY] = "dirty clear",
        [MMU_BUS] = "bus error",
    };

    return names[result];
}

enum mmu_result walk_from_root(const struct walk_machine *m, struct walk *w)
{
    const struct walk_ops *ops = formats[m->format];

    w->level = ops->levels - 1;
    w->reads = 0;
    w->inherited = 0;
    w->result = ops->start(m, w) ? MMU_OK : MMU_NOT_CANONICAL;
    return w->result;
}

/* The entry was used: let the hardware mark it, if this walk may change anything. */
static enum mmu_result use(const struct walk_machine *m, struct walk *w, enum walk_step step,
                           uint64_t *entry)
{
    struct walk_read *r = &w->read[w->reads - 1];
    uint64_t after = r->value;
    enum mmu_result result = formats[m->format]->use(m, w, step, &after);

    if (result != MMU_OK || after == r->value || w->mode == WALK_PURE)
        return result;
    *entry = after;
    if (m->stored)
        m->stored(m->ctx, w->cpu, r->pa, r->value, after);
    r->value = after;
    return MMU_OK;
}

static enum mmu_result leaf(const struct walk_machine *m, struct walk *w, uint64_t *entry)
{
    w->shift = walk_shift(w->level);
    w->pa |= w->va & (((uint64_t)1 << w->shift) - 1);
    if (w->mode != WALK_SPECULATIVE && !(w->perms & WALK_PERM(w->kind, w->user)))
        return MMU_PROTECTION;
    return use(m, w, WALK_LEAF, entry);
}

enum mmu_result walk_run(const struct walk_machine *m, struct walk *w)
{
    const struct walk_ops *ops = formats[m->format];

    for (w->reads = 0;; w->level--) {
        uint64_t pa = w->table + (w->va >> walk_shift(w->level) & 511) * 8;
        uint64_t *entry = m->at(m->ctx, pa);
        struct walk_read *r = &w->read[w->reads];
        enum walk_step step;

        w->result = MMU_BUS;
        if (!entry)
            return w->result;
        *r = (struct walk_read){
            .pa = pa, .value = *entry, .table = WALK_NO_TABLE, .level = w->level};
        w->reads++;
        step = ops->decode(m, w, r->value);
        if (step == WALK_FAULT)
            return w->result;
        if (step == WALK_LEAF)
            return w->result = leaf(m, w, entry);
        w->result = use(m, w, step, entry);
        if (w->result != MMU_OK)
            return w->result;
        r->table = w->table;
        r->inherited = w->inherited;
    }
}
