/*
 * frame/high.c - content of frames that the direct map may not reach (QUIRE_DIRECT_LIMIT): through
 * temporary mappings that the port makes.
 */
#include "zone.h"

#if QUIRE_DIRECT_LIMIT

/* Interrupts are off between reach() and leave(): the two mappings are this CPU's. */
static void *reach(const struct quire_page *page)
{
    q_pa pa = quire_pa_of_page(page);

    return pa.v < QUIRE_DIRECT_LIMIT ? quire_ptr_of_pa(pa) : qport_frame_map(pa);
}

static void leave(const struct quire_page *page, void *at)
{
    if (quire_pa_of_page(page).v >= QUIRE_DIRECT_LIMIT)
        qport_frame_unmap(at);
}

void quire_page_clear(const struct quire_page *page)
{
    unsigned long irq = qport_irq_save();
    void *at = reach(page);

    qport_clear_page(at);
    leave(page, at);
    qport_irq_restore(irq);
}

void quire_page_copy(const struct quire_page *to, const struct quire_page *from)
{
    unsigned long irq = qport_irq_save();
    void *dst = reach(to), *src = reach(from);

    qport_copy_page(dst, src);
    leave(from, src);
    leave(to, dst);
    qport_irq_restore(irq);
}

#endif
