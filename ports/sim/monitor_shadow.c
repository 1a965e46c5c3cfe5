/*
 * monitor_shadow.c - the monitor's own books of what is free: frames and heap objects.
 *
 * They are kept from the library's events alone, so a flag that the library forgot to set or looks
 * at wrongly does not mislead them.  A frame is unknown until it is first handed out or given back;
 * a granule of eight bytes is part of a free object or not.  The tail of an object that fills its
 * last granule only in part belongs to it.
 *
 * Who may touch what is free: only those who look after it, by name below.
 */
#include "monitor_parts.h"

/* The heap's guard fills a free object with poison, and looks at it when it is handed out again. */
static const char *const may_touch_free_objects[] = {
    "poison",         "poison_damage", "first_other",     "qi_guard_new",
    "qi_guard_alloc", "qi_guard_free", "qi_guard_damage", NULL};

void monitor_check_free(struct region *r, uintptr_t a, cell type, uintptr_t pc)
{
    uint64_t off = a - r->base, g = off % PAGE / GRANULE;
    const struct page_shadow *s = &r->pages[off / PAGE];
    bool frame = s->state == FRAME_IS_FREE;

    if (!monitor_config.frees || (!frame && !(s->objects[g / 64] >> g % 64 & 1)))
        return;
    if (!frame && monitor_in_function(pc, may_touch_free_objects))
        return;
    monitor_pause();
    monitor_note_here("this access:", a, 1, type, pc);
    for (unsigned i = 0; i < CELLS; i++)
        if (!frame && r->cells[off / GRANULE * CELLS + i] & CELL_WRITE)
            monitor_note_cell("a write before, or the free:", r->cells[off / GRANULE * CELLS + i]);
    if (frame)
        monitor_note_cell("the free:", s->whole);
    monitor_note_place(a);
    sim_fail("use-after-free", "%s at %p, in a free %s", type & CELL_WRITE ? "a write" : "a read",
             (void *)a, frame ? "frame" : "heap object");
}

static void frame_event(bool alloc, uint64_t pfn, unsigned order, uintptr_t pc)
{
    struct region *r = &monitor_regions[REGION_DIRECT];

    for (uint64_t i = pfn; i < pfn + (1ull << order) && i < r->bytes / PAGE; i++) {
        struct page_shadow *s = &r->pages[i];

        if (monitor_config.frees && s->state == (alloc ? FRAME_USED : FRAME_IS_FREE)) {
            monitor_pause();
            monitor_note_here(alloc ? "handed out now:" : "freed now:", r->base + i * PAGE, PAGE,
                              CELL_WRITE, pc);
            if (s->whole)
                monitor_note_cell("before:", s->whole);
            monitor_note_place(r->base + i * PAGE);
            sim_fail(alloc ? "double-alloc" : "double-free", "frame %#llx", (unsigned long long)i);
        }
        s->state = alloc ? FRAME_USED : FRAME_IS_FREE;
        if (s->free) {
            s->free = 0;
            memset(s->objects, 0, sizeof s->objects);
        }
        monitor_forget_page(r, i);
        monitor_page_write(r, i, pc);
    }
}

static void object_event(bool alloc, uintptr_t a, uint64_t bytes, uintptr_t pc)
{
    struct region *r = region_of(a);

    if (!r || !r->cells)
        return;
    for (uintptr_t g = a & ~(uintptr_t)7; g < a + bytes; g += GRANULE) {
        uint64_t off = g - r->base, bit = off % PAGE / GRANULE;
        struct page_shadow *s = &r->pages[off / PAGE];
        bool free = s->objects[bit / 64] >> bit % 64 & 1;

        if (!alloc && free && monitor_config.frees) {
            monitor_pause();
            monitor_note_here("freed now:", a, bytes, CELL_WRITE, pc);
            monitor_note_cell("before:", r->cells[off / GRANULE * CELLS]);
            sim_fail("double-free", "heap object %p of %llu bytes", (void *)a,
                     (unsigned long long)bytes);
        }
        if (alloc && free) {
            s->objects[bit / 64] &= ~(1ull << bit % 64);
            s->free--;
        }
    }
    monitor_access(a, bytes, CELL_WRITE, pc);
    if (alloc)
        return;
    for (uintptr_t g = a & ~(uintptr_t)7; g < a + bytes; g += GRANULE) {
        uint64_t off = g - r->base, bit = off % PAGE / GRANULE;
        struct page_shadow *s = &r->pages[off / PAGE];

        s->objects[bit / 64] |= 1ull << bit % 64;
        s->free++;
    }
}

void monitor_event(enum sim_event_kind kind, const void *ptr, uint64_t n, const void *pc)
{
    uint64_t pfn = ((uintptr_t)ptr - SIM_VMEMMAP_BASE) / sizeof(struct quire_page);

    switch (kind) {
    case SIM_EVENT_FRAME_ALLOC:
    case SIM_EVENT_FRAME_FREE:
        frame_event(kind == SIM_EVENT_FRAME_ALLOC, pfn, (unsigned)n, (uintptr_t)pc);
        break;
    case SIM_EVENT_OBJECT_ALLOC:
    case SIM_EVENT_OBJECT_FREE:
        object_event(kind == SIM_EVENT_OBJECT_ALLOC, (uintptr_t)ptr, n, (uintptr_t)pc);
        break;
    default: break;
    }
}
