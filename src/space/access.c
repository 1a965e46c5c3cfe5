/*
 * space/access.c - a space seen from outside: copying, pages, futex keys.
 *
 * Everything goes through the tables and the direct map, never through the space's own addresses,
 * so it works on any space, active or not, and in a hosted port that has no hardware tables.
 */
#include "space.h"

/*
 * A frame that stays where it is: the space's lock keeps the mapping, the object's map_lock (both held for
 * reading) keeps truncation away, which takes pages out without the space's lock.
 */
struct pin {
    struct quire_space *space;
    struct quire_object *object; /* whose map_lock is held, or NULL */
    q_pfn pfn;
    bool counted;
};

static void pin_lock(struct pin *p, const struct qi_vma *v)
{
    p->object = v->object && v->object->kind != QUIRE_OBJECT_DEVICE ? v->object : NULL;
    if (p->object)
        qi_rwsem_read_lock(&p->object->map_lock);
}

static void pin_unlock(struct pin *p)
{
    if (p->object)
        qi_rwsem_read_unlock(&p->object->map_lock);
}

static void unpin(struct pin *p)
{
    pin_unlock(p);
    qi_rwsem_read_unlock(&p->space->lock);
}

static void *pinned_byte(const struct pin *p, uint64_t va)
{
    return (char *)quire_ptr_of_pa(quire_pa_of_pfn(p->pfn)) + (va & ~QUIRE_PAGE_MASK);
}

/* What a frame is wanted for. */
enum want {
    WANT_LOOK,  /* as READ, whatever the vma allows */
    WANT_READ,  /* while the locks are held */
    WANT_WRITE, /* while the locks are held, or for longer */
    WANT_HOLD,  /* to read for longer: of a private page the next write must not make another */
    WANT_OWN    /* as WRITE, of private memory that may not be written */
};

/* v lets the frame be used so; stricter than the hardware, which reads whatever may be written or executed. */
static bool allowed(const struct qi_vma *v, enum want want)
{
    switch (want) {
    case WANT_LOOK: return true; /* no max_prot forbids it: mmap refuses one without reading */
    case WANT_WRITE: return v->flags & QUIRE_WRITE;
    case WANT_OWN:
        return qi_vma_private(v) && !(v->object && v->object->kind == QUIRE_OBJECT_DEVICE);
    default: return v->flags & QUIRE_READ;
    }
}

/* The leaf e, which maps a frame, will do as it is; else *access is the fault that helps. */
static bool leaf_suits(qi_pte e, enum want want, unsigned *access)
{
    bool suits = true;

    if (want == WANT_WRITE)
        suits = qi_pte_write(e);
    else if (want == WANT_OWN)
        suits = qi_pte_own(e);
    else if (want == WANT_HOLD)
        suits = qi_pte_own(e) || qi_pte_special(e) ||
                !(quire_page_flags_now(quire_page_of_pfn(qi_pte_pfn(e))) & QUIRE_PG_ANON);
    if (!suits)
        *access = QUIRE_WRITE;
    return suits;
}

/* The leaf of va as it stands, if it will do; a huge leaf gives its part.  Else *access says what to fault for. */
static bool leaf_ready(struct pin *p, uint64_t va, enum want want, unsigned *access)
{
    unsigned level;
    qi_pte *slot = qi_pt_lookup(p->space->tlb.root, va, &level);
    qi_pte e = slot ? qi_pte_load_link(slot) : QI_PTE(0);

    *access = want == WANT_WRITE || want == WANT_OWN ? QUIRE_WRITE : QUIRE_READ;
    /* a leaf without access still maps its frame: a look may use it, unless it moves */
    if (!qi_pte_present(e) || qi_pte_moving(e) || !leaf_suits(e, want, access))
        return false;
    p->pfn = Q_PFN(qi_pte_pfn(e).v + (level ? (va >> QUIRE_PAGE_SHIFT) & (QI_PT_ENTRIES - 1) : 0));
    p->counted = !qi_pte_special(e);
    return true;
}

/* Find the frame of va, faulting as often as it takes.  Pinned if OK. */
static enum quire_status pin_frame(struct quire_space *s, uint64_t va, enum want want,
                                   struct pin *p)
{
    p->space = s;
    for (;;) {
        enum quire_status status;
        struct qi_vma *v;

        qi_rwsem_read_lock(&s->lock);
        v = qi_vma_find(s, va);
        if (v && va >= v->start) {
            unsigned access;

            if (!allowed(v, want)) {
                status = QUIRE_SEGV_ACCERR;
            } else {
                pin_lock(p, v);
                if (leaf_ready(p, va, want, &access))
                    return QUIRE_OK;
                pin_unlock(p);
                status = qi_fault_page(v, va, access);
            }
            qi_rwsem_read_unlock(&s->lock);
        } else {
            qi_rwsem_read_unlock(&s->lock);
            /* a stack may grow */
            status = quire_fault(s, Q_UVA(va), want == WANT_WRITE ? QUIRE_WRITE : QUIRE_READ);
        }
        if (status != QUIRE_OK)
            return status;
    }
}

/* Dumb byte copies are enough here: /proc/pid/mem, ptrace, hosted tests. */
static void copy_bytes(void *to, const void *from, size_t n)
{
    unsigned char *d = to;
    const unsigned char *f = from;

    while (n--)
        *d++ = *f++;
}

static size_t part_of_page(uint64_t va, size_t len)
{
    size_t room = QUIRE_PAGE_SIZE - (va & ~QUIRE_PAGE_MASK);

    return len < room ? len : room;
}

enum quire_status quire_space_read(struct quire_space *s, q_uva from, void *to, size_t len,
                                   bool force, size_t *done)
{
    char *out = to;

    for (*done = 0; *done < len;) {
        uint64_t va = from.v + *done;
        size_t n = part_of_page(va, len - *done);
        enum quire_status status;
        struct pin pin;

        if (va >= s->end)
            return QUIRE_SEGV_MAPERR;
        status = pin_frame(s, va, force ? WANT_LOOK : WANT_READ, &pin);
        if (status != QUIRE_OK)
            return status;
        copy_bytes(out + *done, pinned_byte(&pin, va), n);
        unpin(&pin);
        *done += n;
    }
    return QUIRE_OK;
}

enum quire_status quire_space_write(struct quire_space *s, q_uva to, const void *from, size_t len,
                                    bool force, size_t *done)
{
    const char *in = from;

    for (*done = 0; *done < len;) {
        uint64_t va = to.v + *done;
        size_t n = part_of_page(va, len - *done);
        enum quire_status status;
        struct pin pin;

        if (va >= s->end)
            return QUIRE_SEGV_MAPERR;
        status = pin_frame(s, va, WANT_WRITE, &pin);
        if (status == QUIRE_SEGV_ACCERR && force)
            status = pin_frame(s, va, WANT_OWN, &pin);
        if (status != QUIRE_OK)
            return status;
        copy_bytes(pinned_byte(&pin, va), in + *done, n);
        unpin(&pin);
        *done += n;
    }
    return QUIRE_OK;
}

enum quire_status quire_space_page(struct quire_space *s, q_uva addr, unsigned access,
                                   struct quire_page **out)
{
    enum quire_status status;
    struct pin pin;

    if (addr.v >= s->end)
        return QUIRE_SEGV_MAPERR;
    for (;;) {
        uint64_t base = qi_align_down(addr.v, QUIRE_HUGE_SIZE);

        status = pin_frame(s, addr.v, access == QUIRE_WRITE ? WANT_WRITE : WANT_HOLD, &pin);
        if (status != QUIRE_OK)
            return status;
        if (!pin.counted ||
            !(quire_page_flags_now(quire_page_of_pfn(pin.pfn)) & (QUIRE_PG_HEAD | QUIRE_PG_TAIL)))
            break;
        /* a reference into a huge page would keep it from being split: make it small first */
        unpin(&pin);
        qi_space_lock(s);
        status = qi_huge_split_range(s, base, base + QUIRE_HUGE_SIZE);
        qi_rwsem_write_unlock(&s->lock);
        if (status != QUIRE_OK)
            return status;
    }
    /* the zero page has a reference of its own to add to; a device frame has none to give */
    if (pin.counted || pin.pfn.v == qi_zero_pfn().v) {
        *out = quire_page_of_pfn(pin.pfn);
        quire_page_get(*out);
    } else {
        status = QUIRE_INVALID;
    }
    unpin(&pin);
    return status;
}

enum quire_status quire_space_futex_key(struct quire_space *s, q_uva addr, bool private_hint,
                                        struct quire_futex_key *out)
{
    struct qi_vma *v;
    enum quire_status status = QUIRE_OK;

    *out = (struct quire_futex_key){(uintptr_t)s, addr.v, NULL};
    if (addr.v >= s->end)
        return QUIRE_FAULT;
    if (private_hint)
        return QUIRE_OK;
    qi_rwsem_read_lock(&s->lock);
    v = qi_vma_find(s, addr.v);
    if (!v || addr.v < v->start || !qi_access_allowed(v, QUIRE_READ)) {
        status = QUIRE_FAULT;
    } else if (v->flags & QI_VM_SHARED) {
        out->a = (uintptr_t)v->object;
        out->b = (qi_vma_pgoff(v, addr.v) << QUIRE_PAGE_SHIFT) | (addr.v & ~QUIRE_PAGE_MASK);
        out->object = v->object;
        quire_object_get(v->object);
    }
    qi_rwsem_read_unlock(&s->lock);
    return status;
}
