/*
 * frame_mover.h - movable frames for tests: a table says who holds what, and a mover that copies to a
 * new frame, puts it into the table and frees the old one.
 */
#ifndef FRAME_MOVER_H
#define FRAME_MOVER_H

#include <frame_machine.h>
#include <base/bits.h>

struct movable {
    struct quire_page *page; /* NULL: none */
    unsigned order;
    uint64_t content; /* in the first and the last word of each frame */
    bool pinned;
};
static struct movable movables[1 << 18];
static size_t nmovables;
static uint64_t mover_calls, moved_frames;

static inline uint64_t *movable_word(struct quire_page *p, unsigned frame, bool last)
{
    return (uint64_t *)((char *)quire_page_ptr(p) + frame * QUIRE_PAGE_SIZE +
                        (last ? QUIRE_PAGE_SIZE - 8 : 0));
}

static inline struct movable *movable_new(unsigned order)
{
    struct movable *m = &movables[nmovables];

    assert_true(nmovables < QI_COUNT(movables));
    m->page = quire_page_alloc(order, QUIRE_GFP_MOVABLE | QUIRE_GFP_MEMALLOC, ANY);
    if (!m->page)
        return NULL;
    m->order = order;
    m->pinned = false;
    m->content = test_random();
    for (unsigned f = 0; f < 1u << order; f++) {
        *movable_word(m->page, f, false) = m->content + f;
        *movable_word(m->page, f, true) = ~m->content - f;
    }
    nmovables++;
    return m;
}

static inline void movable_check(const struct movable *m)
{
    for (unsigned f = 0; m->page && f < 1u << m->order; f++) {
        assert_int_equal(*movable_word(m->page, f, false), m->content + f);
        assert_int_equal(*movable_word(m->page, f, true), ~m->content - f);
    }
}
static inline void movables_check(void)
{
    for (size_t i = 0; i < nmovables; i++)
        movable_check(&movables[i]);
}
static inline void movable_free(struct movable *m)
{
    if (m->page)
        quire_page_free(m->page, m->order);
    m->page = NULL;
}
static inline void movables_free(void)
{
    for (size_t i = 0; i < nmovables; i++)
        movable_free(&movables[i]);
    nmovables = 0;
}

/* A quire_mover: whatever of the table lies in the range, in whole or in part. */
static inline uint64_t movables_move(q_pfn start, uint64_t frames)
{
    uint64_t moved = 0;

    mover_calls++;
    for (size_t i = 0; i < nmovables; i++) {
        struct movable *m = &movables[i];
        uint64_t pfn = m->page ? quire_pfn_of_page(m->page).v : 0, n = 1ull << m->order;
        struct quire_page *to;

        if (!m->page || m->pinned || pfn + n <= start.v || pfn >= start.v + frames)
            continue;
        to = quire_page_alloc(m->order, QUIRE_GFP_MOVABLE | QUIRE_GFP_MEMALLOC, ANY);
        if (!to)
            continue;
        assert_true(quire_pfn_of_page(to).v + n <= start.v ||
                    quire_pfn_of_page(to).v >= start.v + frames);
        memcpy(quire_page_ptr(to), quire_page_ptr(m->page), n * QUIRE_PAGE_SIZE);
        memset(quire_page_ptr(m->page), 0xee, n * QUIRE_PAGE_SIZE);
        quire_page_free(m->page, m->order);
        m->page = to;
        moved += n;
    }
    moved_frames += moved;
    return moved;
}

#endif
