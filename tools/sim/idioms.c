/*
 * idioms.c - short runs of operations that belong together.
 *
 * Drawn one by one, operations seldom make the sequences in which memory managers fail: write, fork,
 * write again, let the child go.  So some of a program is drawn as idioms: lists of operations on
 * pages near each other, with one child, one slot, whose place is drawn.
 */
#include "args.h"
#include "idioms.h"

enum { MOST = 12 };

/* Arguments that are filled in: a page by its distance from the drawn one, and the others. */
#define AT(n)      (0x10000u + (n))
#define FAR        0x20000u /* a page elsewhere */
#define CHILD      0x30000u
#define SLOT       0x40000u
#define SLOT2      0x40001u
#define BOX        0x50000u
#define SOME_ORDER 0x60000u
#define READ       2u
#define FIXED      1u

struct idiom {
    enum sim_group group;
    struct sim_op ops[MOST]; /* up to the first of kind 0 without arguments */
    unsigned n;
};

#define OP(name, ...)                  \
    {                                  \
        SIM_OP_##name, { __VA_ARGS__ } \
    }
#define IDIOM(group, ...)                                                  \
    {                                                                      \
        SIM_GROUP_##group, {__VA_ARGS__},                                  \
            sizeof((struct sim_op[]){__VA_ARGS__}) / sizeof(struct sim_op) \
    }
#define MAP(n, backing) OP(mmap, AT(0), n, 0, backing, FIXED)

static const struct idiom idioms[] = {
    /* a page is copied, and the one that it was copied from goes away */
    IDIOM(FORK, OP(write, AT(0)), OP(fork, CHILD), OP(read, AT(0)), OP(write, AT(0)),
          OP(end, CHILD), OP(read, AT(0)), OP(write, AT(0))),
    IDIOM(FORK, OP(write, AT(0)), OP(fork, CHILD), OP(enter, CHILD), OP(read, AT(0)),
          OP(write, AT(0)), OP(leave, 0), OP(read, AT(0)), OP(end, CHILD), OP(write, AT(0))),
    IDIOM(FORK, OP(write, AT(0)), OP(fork, CHILD), OP(peek, AT(0)), OP(write, AT(1)),
          OP(enter, CHILD), OP(sweep, AT(0), 3), OP(leave, 0), OP(end, CHILD)),
    IDIOM(FORK, OP(fork, CHILD), OP(enter, CHILD), OP(brk, 20), OP(brk, 5), OP(brk, 12), OP(brk, 3),
          OP(brk, 4), OP(leave, 0), OP(end, CHILD)),
    IDIOM(FORK, MAP(9, 2), OP(write, AT(3)), OP(fork, CHILD), OP(enter, CHILD), OP(read, AT(3)),
          OP(truncate, 3), OP(read, AT(3)), OP(leave, 0), OP(read, AT(3)), OP(truncate, 64),
          OP(end, CHILD)),
    /* addresses are used again */
    IDIOM(SPACE, MAP(8, 0), OP(write, AT(0)), OP(write, AT(7)), OP(munmap, AT(0), 8), MAP(8, 0),
          OP(read, AT(7)), OP(write, AT(0))),
    IDIOM(SPACE, MAP(4, 0), OP(read, AT(0)), OP(peek, AT(0)), OP(write, AT(0)), OP(peek, AT(0)),
          OP(read, AT(0))),
    IDIOM(SPACE, OP(write, AT(0)), OP(madvise, AT(0), 2, 4), OP(peek, AT(0)), OP(read, AT(0)),
          OP(write, AT(0))),
    /* rights go and come */
    IDIOM(SPACE, MAP(6, 0), OP(write, AT(2)), OP(write, AT(5)), OP(mprotect, AT(0), 6, READ),
          OP(write, AT(2)), OP(write, AT(5)), OP(mprotect, AT(1), 3, 0), OP(write, AT(2))),
    IDIOM(SPACE, MAP(6, 0), OP(hold, AT(2)), OP(mprotect, AT(0), 6, READ),
          OP(mprotect, AT(1), 4, 0), OP(write, AT(2)), OP(hold_use, 0), OP(read, AT(2)),
          OP(mremap, AT(0), 6, FAR), OP(hold_use, 0), OP(sweep, FAR, 6)),
    IDIOM(FORK, OP(write, AT(0)), OP(hold, AT(0)), OP(mprotect, AT(0), 1, READ), OP(fork, CHILD),
          OP(mprotect, AT(0), 1, 0), OP(write, AT(0)), OP(hold_use, 0), OP(read, AT(0)),
          OP(enter, CHILD), OP(read, AT(0)), OP(leave, 0), OP(end, CHILD)),
    IDIOM(FORK, OP(write, AT(0)), OP(fork, CHILD), OP(hold, AT(0)), OP(write, AT(0)),
          OP(hold_use, 0), OP(end, CHILD), OP(write, AT(0)), OP(hold_use, 0), OP(read, AT(0))),
    /* over the borders of tables */
    IDIOM(SPACE, MAP(160, 0), OP(write, AT(1)), OP(write, AT(70)), OP(write, AT(130)),
          OP(mremap, AT(1), 150, FAR), OP(sweep, AT(0), 30), OP(query, AT(0)),
          OP(munmap, AT(100), 60)),
    IDIOM(SPACE, MAP(300, 0), OP(write, AT(0)), OP(write, AT(140)), OP(write, AT(290)),
          OP(munmap, AT(10), 250), OP(read, AT(140)), OP(read, AT(290)), OP(query, AT(0))),
    /* what is written gets to the device, also the second time */
    IDIOM(OBJECT, MAP(4, 2), OP(write, AT(0)), OP(msync, AT(0), 4), OP(write, AT(0)),
          OP(msync, AT(0), 4), OP(write, AT(1)), OP(write, AT(0))),
    IDIOM(OBJECT, MAP(6, 3), OP(read, AT(0)), OP(peek, AT(0)), OP(write, AT(0)), OP(read, AT(0)),
          OP(madvise, AT(0), 6, 4), OP(read, AT(0))),
    IDIOM(OBJECT, MAP(20, 2), OP(write, AT(3)), OP(truncate, 5), OP(read, AT(3)), OP(truncate, 64),
          OP(read, AT(3)), OP(write, AT(3)), OP(peek, AT(3))),
    IDIOM(OBJECT, MAP(9, 1), OP(write, AT(3)), OP(peek, AT(3)), OP(munmap, AT(0), 9), MAP(9, 1),
          OP(read, AT(3))),
    /* huge leaves are cut */
    IDIOM(HUGE, OP(mmap, 0, 400, 0, 0, FIXED), OP(huge, 0), OP(write, AT(0)), OP(write, FAR),
          OP(munmap, AT(0), 3), OP(write, AT(4)), OP(read, FAR), OP(mprotect, FAR, 9, READ),
          OP(write, FAR), OP(peek, AT(4))),
    IDIOM(HUGE, OP(mmap, 0, 400, 0, 0, FIXED), OP(huge, 0), OP(write, AT(4)), OP(hold, AT(4)),
          OP(mprotect, 0, 400, READ), OP(mprotect, AT(0), 9, 0), OP(write, AT(4)), OP(hold_use, 0),
          OP(read, AT(4)), OP(munmap, AT(5), 3), OP(hold_use, 0)),
    IDIOM(HUGE, OP(mmap, 0, 400, 0, 0, FIXED), OP(huge, 0), OP(write, FAR),
          OP(madvise, AT(0), 160, 4), OP(sweep, AT(0), 12), OP(read, FAR)),
    /* what is cut fails: only in programs in which allocations may */
    IDIOM(HUGE, OP(mmap, 0, 400, 0, 0, FIXED), OP(huge, 0), OP(write, AT(0)), OP(fail_frame, 1),
          OP(munmap, AT(0), 3), OP(write, AT(0)), OP(fail_frame, 1), OP(mprotect, AT(1), 3, READ),
          OP(fail_heap, 1), OP(mprotect, AT(1), 9, READ), OP(read, AT(0))),
    IDIOM(FORK, OP(write, AT(0)), OP(fail_frame, 2), OP(fork, CHILD), OP(fail_heap, 2),
          OP(fork, CHILD), OP(fork, CHILD), OP(enter, CHILD), OP(fail_frame, 1), OP(write, AT(0)),
          OP(leave, 0), OP(end, CHILD)),
    /* large blocks, cut and joined */
    IDIOM(FRAMES, OP(frame_alloc, SLOT, SOME_ORDER, 0), OP(frame_alloc, SLOT2, SOME_ORDER, 2),
          OP(frame_free, SLOT), OP(frame_alloc, SLOT, SOME_ORDER, 0), OP(frame_free, SLOT2),
          OP(frame_alloc, SLOT2, 9, 0), OP(frame_free, SLOT), OP(frame_free, SLOT2)),
    IDIOM(FRAMES, OP(frame_bulk, SLOT, 64, 0), OP(frame_send, SLOT, BOX), OP(frame_free, SLOT),
          OP(frame_alloc, SLOT2, SOME_ORDER, 0), OP(frame_split, SLOT2), OP(frame_free, SLOT2)),
    /* objects are freed far from home */
    IDIOM(HEAP, OP(object_bulk, SLOT, 0, 64), OP(object_send, SLOT, BOX), OP(object_free, SLOT),
          OP(object_bulk, SLOT2, 0, 60), OP(object_free, SLOT2), OP(object_bulk, SLOT, 0, 33)),
    IDIOM(HEAP, OP(object_bulk, SLOT, 3, 64), OP(object_free, SLOT), OP(heap_shrink, 0),
          OP(object_bulk, SLOT, 3, 50), OP(object_free, SLOT)),
    IDIOM(KVA, OP(vmalloc, SLOT, 9000), OP(vtouch, SLOT, 1), OP(vfree, SLOT), OP(vpurge, 0),
          OP(vmalloc, SLOT, 20000), OP(vtouch, SLOT, 1), OP(vtouch, SLOT, 5)),
    IDIOM(KVA, OP(kvmalloc, SLOT, 9000), OP(kvrealloc, SLOT, 32000), OP(kvrealloc, SLOT, 5000),
          OP(vfree, SLOT)),
    /* neighbours in an arena come, grow and go */
    IDIOM(HEAP, OP(arena, SLOT, 600, 0), OP(arena, SLOT2, 300, 1), OP(arena, SLOT, 900, 1),
          OP(arena, SLOT2, 1, 2), OP(arena, SLOT2, 100, 6), OP(arena, SLOT, 1, 2),
          OP(arena, SLOT, 2000, 1), OP(arena, SLOT2, 1, 4)),
    /* everything once while there is no memory */
    IDIOM(MEMORY_PRESSURE, OP(hog, 0), OP(frame_alloc, SLOT, 0, 0), OP(kmalloc, SLOT2, 500, 0),
          OP(frame_free, SLOT), OP(object_free, SLOT2), OP(unhog, 0)),
    IDIOM(MEMORY_PRESSURE, MAP(120, 0), OP(fill, AT(0), 120), OP(hog, 0), OP(munmap, AT(0), 120),
          OP(unhog, 0)),
    IDIOM(MEMORY_PRESSURE, MAP(120, 0), OP(fill, AT(0), 120), OP(hog, 0),
          OP(madvise, AT(0), 120, 4), OP(unhog, 0), OP(read, AT(60))),
    IDIOM(MEMORY_PRESSURE, MAP(40, 0), OP(write, AT(1)), OP(hog, 0), OP(write, AT(20)),
          OP(mprotect, AT(5), 4, READ), OP(fork, CHILD), OP(munmap, AT(9), 3),
          OP(mremap, AT(20), 4, FAR), OP(unhog, 0), OP(end, CHILD)),
};

enum { IDIOMS = sizeof idioms / sizeof idioms[0] };

static uint32_t below(uint32_t n) { return (uint32_t)sim_below(SIM_RANDOM_PROGRAM, n); }

void sim_add_idiom(struct sim_program *p, unsigned task, unsigned groups, uint32_t page)
{
    uint32_t far = below(SIM_REGION_PAGES), child = below(SIM_CHILDREN), slot = below(SIM_SLOTS),
             box = below(3), number = below(IDIOMS);
    const struct idiom *idiom = &idioms[number];

    if (!(groups >> idiom->group & 1))
        return;
    for (unsigned i = 0; i < idiom->n; i++) {
        struct sim_op *op;

        if (!(groups >> sim_op_info[idiom->ops[i].kind].group & 1))
            continue; /* the run does without */
        op = sim_program_add(p, task, idiom->ops[i].kind);

        for (unsigned a = 0; a < SIM_OP_ARGS; a++) {
            uint32_t arg = idiom->ops[i].arg[a];

            switch (arg >> 16) {
            case 1: arg = page + (arg & 0xffff); break;
            case 2: arg = far; break;
            case 3: arg = child; break;
            case 4: arg = (slot + (arg & 1)) % SIM_SLOTS; break;
            case 5: arg = box; break;
            case 6: arg = below(QUIRE_MAX_ORDER + 1); break;
            default: break;
            }
            op->arg[a] = arg >= SIM_REGION_PAGES && idiom->ops[i].arg[a] >> 16 == 1
                             ? SIM_REGION_PAGES - 1
                             : arg;
        }
    }
}
