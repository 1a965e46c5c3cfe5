/*
 * frame/memmap.c - the boot memory map.  See quire/memmap.h.
 *
 * Two sorted arrays of disjoint ranges: what the firmware says, and what is reserved.  All
 * arithmetic is on inclusive last addresses, because the end of a range may be 2^64.  A change is
 * one walk over the ranges that it meets, first to count what would come out (so that a full array
 * changes nothing), then to write it: the input is moved to the end of the array and the output
 * grows from the left.  The output never overtakes the input, for each range of the input that is
 * still to be read yields at least one of the output, and the total fits.
 */
#include <quire/frame.h>
#include "../base/bits.h"

#define ALL_ONES UINT64_MAX

static uint64_t last_of(const struct quire_mem_range *r) { return r->base.v + (r->len - 1); }

/* One change: kind and node of what lies in [base, last]. */
struct change {
    uint64_t base, last;
    unsigned kind;
    unsigned node;
    bool is_node; /* set the node of usable ranges, add nothing */
};

/* Where the walk writes; out NULL: it only counts. */
struct sink {
    struct quire_mem_range *out;
    uint32_t n;
};

void quire_memmap_init(struct quire_memmap *m, struct quire_mem_range *ranges, uint32_t cap,
                       struct quire_mem_range *reserved, uint32_t reserved_cap)
{
    *m = (struct quire_memmap){
        .ranges = ranges, .cap = cap, .reserved = reserved, .reserved_cap = reserved_cap};
}

/* Index of the first range of the array whose last byte is at or above pa. */
static uint32_t first_from(const struct quire_mem_range *r, uint32_t n, uint64_t pa)
{
    uint32_t lo = 0, hi = n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (last_of(&r[mid]) < pa)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void emit_one(struct sink *s, uint64_t base, uint64_t last, unsigned kind, unsigned node)
{
    struct quire_mem_range *prev = s->out && s->n ? &s->out[s->n - 1] : NULL;

    /* A length of 2^64 cannot be written: two ranges that make up everything stay two. */
    if (prev && prev->kind == kind && prev->node == node && last_of(prev) + 1 == base &&
        !(prev->base.v == 0 && last == ALL_ONES)) {
        prev->len += last - base + 1;
        return;
    }
    if (s->out)
        s->out[s->n] = (struct quire_mem_range){.base = Q_PA(base),
                                                .len = last - base + 1,
                                                .kind = (uint16_t)kind,
                                                .node = (uint16_t)node};
    s->n++;
}

static void emit(struct sink *s, uint64_t base, uint64_t last, unsigned kind, unsigned node)
{
    if (base == 0 && last == ALL_ONES) {
        emit_one(s, 0, ALL_ONES >> 1, kind, node);
        base = (ALL_ONES >> 1) + 1;
    }
    emit_one(s, base, last, kind, node);
}

static bool has_node(unsigned kind, unsigned node)
{
    return kind == QUIRE_MEM_HOTPLUG || (kind <= QUIRE_MEM_USABLE && node != QUIRE_NODE_ANY);
}

/* Write to s what the ranges r[0..n), all of which meet the change, become. */
static void walk(struct sink *s, const struct quire_mem_range *r, uint32_t n,
                 const struct change *c)
{
    uint64_t next = c->base; /* first byte of the change not yet written */
    bool done = false;       /* it is written up to its last byte */

    for (uint32_t i = 0; i < n; i++) {
        struct quire_mem_range in = r[i]; /* a copy: its slot may be overwritten */
        uint64_t base = in.base.v, last = last_of(&in);
        uint64_t from = QI_MAX(base, c->base), to = QI_MIN(last, c->last);
        unsigned kind = in.kind, node = in.node;

        if (base < c->base)
            emit(s, base, c->base - 1, kind, node);
        else if (!c->is_node && next < base)
            emit(s, next, base - 1, c->kind, 0);
        if (!c->is_node && c->kind > kind)
            emit(s, from, to, c->kind, 0);
        else
            emit(s, from, to, kind, c->is_node && has_node(kind, c->node) ? c->node : node);
        if (last > c->last)
            emit(s, c->last + 1, last, kind, node);
        done = to == c->last;
        next = to + 1;
    }
    if (!done && !c->is_node)
        emit(s, next, c->last, c->kind, 0);
}

static enum quire_status apply(struct quire_memmap *m, const struct change *c)
{
    uint32_t from = first_from(m->ranges, m->n, c->base), to = from, tail;
    struct sink count = {0}, s;

    while (to < m->n && m->ranges[to].base.v <= c->last)
        to++;
    walk(&count, m->ranges + from, to - from, c);
    if ((uint64_t)m->n - (to - from) + count.n > m->cap)
        return QUIRE_TOO_MANY;

    tail = m->cap - m->n;
    for (uint32_t i = m->n; tail && i-- > from;)
        m->ranges[i + tail] = m->ranges[i];
    s = (struct sink){m->ranges, from};
    walk(&s, m->ranges + from + tail, to - from, c);
    for (uint32_t i = to; i < m->n; i++) {
        struct quire_mem_range r = m->ranges[i + tail];

        emit(&s, r.base.v, last_of(&r), r.kind, r.node);
    }
    m->n = s.n;
    return QUIRE_OK;
}

/* [base, base + len) as inclusive bounds.  False: it passes 2^64. */
static bool bounds(q_pa base, uint64_t len, uint64_t *last)
{
    return !qi_add_overflows(base.v, len - 1, last);
}

/* Shrink to whole pages; false: nothing is left. */
static bool shrink(uint64_t *base, uint64_t *last)
{
    uint64_t end;

    if (qi_add_overflows(*base, QUIRE_PAGE_SIZE - 1, base))
        return false;
    *base &= QUIRE_PAGE_MASK;
    end = (*last + 1) & QUIRE_PAGE_MASK; /* 0: 2^64, or within the first page */
    if (end == 0 && *last != ALL_ONES)
        return false;
    *last = end - 1;
    return *base <= *last;
}

enum quire_status quire_memmap_add(struct quire_memmap *m, q_pa base, uint64_t len,
                                   enum quire_mem_kind kind)
{
    struct change c = {.base = base.v, .kind = kind};

    if ((unsigned)kind >= QUIRE_MEM_KINDS)
        return QUIRE_INVALID;
    if (!len)
        return QUIRE_OK;
    if (!bounds(base, len, &c.last))
        return QUIRE_OVERFLOW;
    if (kind <= QUIRE_MEM_USABLE) {
        if (!shrink(&c.base, &c.last))
            return QUIRE_OK;
    } else {
        c.base &= QUIRE_PAGE_MASK;
        c.last |= QUIRE_PAGE_SIZE - 1;
    }
    return apply(m, &c);
}

enum quire_status quire_memmap_set_node(struct quire_memmap *m, q_pa base, uint64_t len,
                                        unsigned node)
{
    struct change c = {.base = base.v & QUIRE_PAGE_MASK, .node = node, .is_node = true};

    if (node >= QUIRE_MAX_NODES && node != QUIRE_NODE_ANY)
        return QUIRE_INVALID;
    if (!len)
        return QUIRE_OK;
    if (!bounds(base, len, &c.last))
        return QUIRE_OVERFLOW;
    /* Both ends are rounded down, so that ranges that meet still meet and no frame has two nodes.
     */
    if (c.last != ALL_ONES) {
        uint64_t end = (c.last + 1) & QUIRE_PAGE_MASK;

        if (end <= c.base)
            return QUIRE_OK;
        c.last = end - 1;
    }
    return apply(m, &c);
}

/* Put a range that overlaps none into the array of reservations.  There is room. */
static void insert_reserved(struct quire_memmap *m, uint64_t base, uint64_t last, const char *owner)
{
    uint32_t at = first_from(m->reserved, m->nreserved, base);

    for (uint32_t i = m->nreserved; i > at; i--)
        m->reserved[i] = m->reserved[i - 1];
    m->reserved[at] = (struct quire_mem_range){
        .base = Q_PA(base), .len = last - base + 1, .kind = QUIRE_MEM_RESERVED, .owner = owner};
    m->nreserved++;
}

enum quire_status quire_memmap_reserve(struct quire_memmap *m, q_pa base, uint64_t len,
                                       const char *owner, struct quire_mem_range *clash)
{
    uint64_t first = base.v & QUIRE_PAGE_MASK, last;
    uint32_t at;

    if (!len)
        return QUIRE_OK;
    if (!bounds(base, len, &last))
        return QUIRE_OVERFLOW;
    last |= QUIRE_PAGE_SIZE - 1;
    if (first == 0 && last == ALL_ONES)
        return QUIRE_OVERFLOW; /* its length cannot be written, and nothing would be left */
    at = first_from(m->reserved, m->nreserved, first);
    if (at < m->nreserved && m->reserved[at].base.v <= last) {
        if (clash)
            *clash = m->reserved[at];
        return QUIRE_OVERLAP;
    }
    if (m->nreserved == m->reserved_cap)
        return QUIRE_TOO_MANY;
    insert_reserved(m, first, last, owner);
    return QUIRE_OK;
}

/* The highest aligned place for len bytes in [base, last] between the reservations. */
static bool find_place(const struct quire_memmap *m, uint64_t base, uint64_t last, uint64_t len,
                       uint64_t align, uint64_t *out)
{
    while (last >= base && last - base >= len - 1) {
        uint64_t at = qi_align_down(last - (len - 1), align);
        uint32_t i;

        if (at < base)
            return false;
        /* the highest reservation that begins at or below the end of the place */
        i = first_from(m->reserved, m->nreserved, at + (len - 1));
        if (i == m->nreserved || m->reserved[i].base.v > at + (len - 1)) {
            if (i == 0 || last_of(&m->reserved[i - 1]) < at) {
                *out = at;
                return true;
            }
            i--;
        }
        if (m->reserved[i].base.v <= base)
            return false;
        last = m->reserved[i].base.v - 1;
    }
    return false;
}

/* Reserve what alloc found.  Places next to one another with the same owner become one entry: boot
 * code that takes page after page must not fill the array. */
static enum quire_status take_place(struct quire_memmap *m, uint64_t base, uint64_t last,
                                    const char *owner)
{
    uint32_t at = first_from(m->reserved, m->nreserved, base);

    if (at < m->nreserved && m->reserved[at].base.v == last + 1 && m->reserved[at].owner == owner) {
        m->reserved[at].base.v = base;
        m->reserved[at].len += last - base + 1;
        return QUIRE_OK;
    }
    if (m->nreserved == m->reserved_cap)
        return QUIRE_TOO_MANY;
    insert_reserved(m, base, last, owner);
    return QUIRE_OK;
}

enum quire_status quire_memmap_alloc(struct quire_memmap *m, uint64_t len, uint64_t align,
                                     uint64_t limit, unsigned node, const char *owner, q_pa *out)
{
    uint64_t top = limit ? limit - 1 : ALL_ONES;

    if (!len || !qi_is_pow2(align) || align < QUIRE_PAGE_SIZE)
        return QUIRE_INVALID;
    if (len > QUIRE_PAGE_MASK)
        return QUIRE_NO_MEMORY;
    len = qi_align_up(len, QUIRE_PAGE_SIZE);
    for (int any = 0; any < 2; any++) {
        for (uint32_t i = m->n; i-- > 0;) {
            const struct quire_mem_range *r = &m->ranges[i];
            /* Never frame 0: too many callers take address 0 for "none". */
            uint64_t base = QI_MAX(r->base.v, QUIRE_PAGE_SIZE), at;

            if (r->kind != QUIRE_MEM_USABLE || (r->node == node) == any)
                continue;
            if (!find_place(m, base, QI_MIN(last_of(r), top), len, align, &at))
                continue;
            *out = Q_PA(at);
            return take_place(m, at, at + (len - 1), owner);
        }
    }
    return QUIRE_NO_MEMORY;
}

uint64_t quire_memmap_usable(const struct quire_memmap *m)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->n; i++)
        if (m->ranges[i].kind == QUIRE_MEM_USABLE && qi_add_overflows(sum, m->ranges[i].len, &sum))
            return QUIRE_PAGE_MASK; /* 2^64, all of it: as near as the type comes */
    return sum;
}

uint64_t quire_memmap_top(const struct quire_memmap *m)
{
    for (uint32_t i = m->n; i-- > 0;)
        if (m->ranges[i].kind == QUIRE_MEM_USABLE) {
            uint64_t last = last_of(&m->ranges[i]);

            return last == ALL_ONES ? QUIRE_PAGE_MASK : last + 1;
        }
    return 0;
}

const struct quire_mem_range *quire_memmap_owner(const struct quire_memmap *m, q_pa pa)
{
    uint32_t i = first_from(m->reserved, m->nreserved, pa.v);

    return i < m->nreserved && m->reserved[i].base.v <= pa.v ? &m->reserved[i] : NULL;
}
