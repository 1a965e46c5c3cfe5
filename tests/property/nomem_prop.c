/*
 * nomem_prop.c - trap 18 over the whole interface of spaces: random calls, each made with its first
 * allocation failing, then its second, and so on until it succeeds.  After every failure the space must be
 * what it was: the same mappings, the same bytes, sound by verify; and in the end every frame is back.
 *
 * Calls over several mappings may stop half way (mprotect(2), madvise(2)); here each stays in one.
 */
#include <space_fixture.h>

#define WINDOW_START 0x40000000ull
#define WINDOW_PAGES 3072ull /* 12 MiB */
#define BRK_START    0x30000000ull
#define STACK_TOP    0x28000000ull
#define MAX_VMAS     256
#define OBJECT_PAGES 64

enum kind {
    MAP,
    MAP_SHARED,
    MAP_OBJECT,
    UNMAP,
    PROTECT,
    MOVE,
    RESIZE,
    ADVISE,
    POPULATE,
    LOCK,
    UNLOCK,
    LOCK_FUTURE,
    BREAK,
    FORK,
    STORE,
    FORCE,
    HOLD,
    GROW_STACK,
    KINDS
};

/* One call with its arguments, so that it can be made again. */
struct call {
    enum kind kind;
    uint64_t at, len, to;
    unsigned prot, flags;
    int advice;
};

static struct quire_object *object;
static uint64_t failures[KINDS];

/* ---- What there is ---- */

struct mapping {
    uint64_t start, end, pgoff;
    uint32_t flags;
    const struct quire_object *object;
};

struct picture {
    unsigned n;
    struct mapping v[MAX_VMAS];
    uint64_t sum; /* of all bytes that can be seen, by address */
    uint64_t total, locked, data, exec, stack, brk;
};

/* The first word of the page at va, without a fault. */
static uint64_t word_at(const struct quire_space *of, const struct qi_vma *v, uint64_t va)
{
    unsigned level;
    qi_pte *slot = qi_pt_lookup(of->tlb.root, va, &level);
    qi_pte e = slot ? qi_pte_load(slot) : QI_PTE(0);
    struct quire_page *page;
    uint64_t word = 0;

    if (qi_pte_present(e)) {
        uint64_t pa = qi_pte_pa(e).v + (level ? va & (QUIRE_HUGE_SIZE - 1) : 0);

        memcpy(&word, quire_ptr_of_pa(Q_PA(pa)), sizeof word);
    } else if (v->object) {
        page = quire_object_peek(v->object, qi_vma_pgoff(v, va));
        if (page) {
            memcpy(&word, quire_page_ptr(page), sizeof word);
            quire_page_put(page);
        }
    }
    return word;
}

static void look(const struct quire_space *of, struct picture *p)
{
    memset(p, 0, sizeof *p);
    p->total = of->total;
    p->locked = of->locked;
    p->data = of->data;
    p->exec = of->exec;
    p->stack = of->stack;
    p->brk = of->brk_end;
    for (const struct qi_vma *v = of->first; v; v = v->next) {
        assert_true(p->n < MAX_VMAS);
        /* an own object of a mapping that failed is another each time: only the known one counts */
        p->v[p->n++] = (struct mapping){v->start, v->end, v->pgoff, v->flags, v->object};
        for (uint64_t va = v->start; va < v->end; va += PAGE)
            p->sum = (p->sum ^ (va + word_at(of, v, va))) * 0x9e3779b97f4a7c15ull;
    }
}

/* ---- Calls ---- */

static uint64_t some_page(uint64_t n) { return test_random_below(n) * PAGE; }

/* A part of some mapping. */
static void part(struct call *c)
{
    uint64_t pages, from, skip = test_random_below(s->nvmas ? s->nvmas : 1);
    const struct qi_vma *v = s->first;

    c->at = WINDOW_START;
    c->len = PAGE;
    while (v && skip--)
        v = v->next;
    if (!v)
        return;
    pages = qi_vma_pages(v);
    from = test_random_below(4) ? test_random_below(pages) : 0;
    c->at = v->start + from * PAGE;
    c->len = test_random_below(4) ? PAGE * (1 + test_random_below(pages - from)) : v->end - c->at;
}

static struct call pick(void)
{
    static const unsigned prots[] = {0, QUIRE_READ, RW, RW, RW, QUIRE_READ | QUIRE_EXEC};
    static const int advices[] = {0, 1, 2, 4, 4, 8, 10, 11, 14, 14, 14, 15, 16, 18, 19, 24};
    struct call c = {.kind = test_random_below(KINDS),
                     .prot = prots[test_random_below(6)],
                     .advice = advices[test_random_below(16)]};

    if (c.kind == MAP || c.kind == MAP_SHARED || c.kind == MAP_OBJECT) {
        uint64_t most = c.kind == MAP ? 1100 : OBJECT_PAGES;

        c.at = WINDOW_START + some_page(WINDOW_PAGES - most);
        if (c.kind == MAP && test_random_below(2)) /* as huge pages like it */
            c.at = qi_align_down(c.at, QUIRE_HUGE_SIZE);
        c.len = PAGE * (1 + test_random_below(most));
        c.flags = QUIRE_MAP_FIXED | (test_random_below(8) ? 0 : QUIRE_MAP_LOCKED);
    } else {
        part(&c);
    }
    c.to = WINDOW_START + WINDOW_PAGES * PAGE + 16 * MIB + some_page(512); /* nothing is there */
    if (c.kind == BREAK)
        c.at = BRK_START + test_random_below(64) * 1000;
    if (c.kind == GROW_STACK)
        c.at = STACK_TOP - some_page(200);
    if (c.kind == RESIZE)
        c.to = PAGE * (1 + test_random_below(600));
    return c;
}

static enum quire_status do_fork(void)
{
    static struct picture mine, theirs;
    struct quire_space *child;
    enum quire_status st = quire_space_fork(s, &child);

    if (st != QUIRE_OK)
        return st;
    OK(quire_space_verify(child));
    look(s, &mine);
    look(child, &theirs);
    assert_true(theirs.n <= mine.n);
    quire_space_put(child);
    return QUIRE_OK;
}

static enum quire_status do_hold(const struct call *c)
{
    struct quire_page *page;
    enum quire_status st = quire_space_page(s, Q_UVA(c->at), QUIRE_WRITE, &page);

    if (st == QUIRE_OK)
        quire_page_put(page);
    return st;
}

static enum quire_status make_call(const struct call *c)
{
    uint64_t at = c->at, value = c->at ^ 0x1234567;
    size_t done;
    q_uva out;

    switch (c->kind) {
    case MAP: return map_at(s, &at, c->len, c->prot, PRIV | c->flags, NULL, 0);
    case MAP_SHARED: return map_at(s, &at, c->len, c->prot, ANON | c->flags, NULL, 0);
    case MAP_OBJECT: return map_at(s, &at, c->len, c->prot, QUIRE_MAP_SHARED | c->flags, object, 0);
    case UNMAP: return quire_munmap(s, Q_UVA(at), c->len);
    case PROTECT: return quire_mprotect(s, Q_UVA(at), c->len, c->prot);
    case MOVE:
        return quire_mremap(s, Q_UVA(at), c->len, c->len, QUIRE_MREMAP_MAYMOVE | QUIRE_MREMAP_FIXED,
                            Q_UVA(c->to), &out);
    case RESIZE:
        return quire_mremap(s, Q_UVA(at), c->len, c->to, QUIRE_MREMAP_MAYMOVE, Q_UVA(0), &out);
    case ADVISE: return quire_madvise(s, Q_UVA(at), c->len, c->advice);
    case POPULATE: return quire_madvise(s, Q_UVA(at), QI_MIN(c->len, 64 * PAGE), 23);
    case LOCK: return quire_mlock(s, Q_UVA(at), c->len, true);
    case UNLOCK: return quire_munlock(s, Q_UVA(at), c->len);
    case LOCK_FUTURE: return quire_mlockall(s, test_random_below(2) ? 2 | 4 : 0);
    case BREAK: return quire_brk(s, Q_UVA(at)).v == at ? QUIRE_OK : QUIRE_NO_MEMORY;
    case FORK: return do_fork();
    case STORE: return store(s, at, value);
    case GROW_STACK: return store(s, at, value);
    case FORCE: return quire_space_write(s, Q_UVA(at), &value, sizeof value, true, &done);
    case HOLD: return do_hold(c);
    default: return QUIRE_INVALID;
    }
}

/* Make the call until no allocation of it fails any more. */
static void until_it_succeeds(const struct call *c)
{
    static struct picture before, after;
    bool heap = test_random_below(3) == 0, hit = true;

    for (int64_t n = 1; hit; n++) {
        enum quire_status st;

        look(s, &before);
        (heap ? quire_heap_fail_after : quire_frame_fail_after)(n);
        st = make_call(c);
        hit = !(heap ? quire_heap_fail_armed : quire_frame_fail_armed)();
        (heap ? quire_heap_fail_after : quire_frame_fail_after)(-1);
        assert_int_equal(quire_space_verify(s), QUIRE_OK);
        if (st == QUIRE_OK)
            return; /* there was another way, or enough */
        look(s, &after);
        if (c->kind == GROW_STACK) /* grown, perhaps into another; only its page is missing */
            assert_true(after.n <= before.n && after.stack >= before.stack);
        else if (memcmp(&before, &after, sizeof before))
            fail_msg("call %d at %#lx + %#lx, to %#lx, prot %u, advice %d, failed with %s at %s "
                     "allocation %ld and changed the space",
                     c->kind, c->at, c->len, c->to, c->prot, c->advice, quire_status_name(st),
                     heap ? "heap" : "frame", (long)n);
        assert_int_equal(s->lock.state, 0);
        failures[c->kind] += st == QUIRE_NO_MEMORY && hit;
    }
}

/* A space with a heap, a stack and some mappings, and calls on it. */
static void one_life(unsigned calls)
{
    quire_brk_init(s, Q_UVA(BRK_START));
    map_fixed(STACK_TOP, PAGE, RW, PRIV | QUIRE_MAP_GROWSDOWN);
    OK(quire_object_create_shared(OBJECT_PAGES * PAGE, &object));
    for (unsigned i = 0; i < calls && s->nvmas < MAX_VMAS / 2; i++) {
        struct call c = pick();

        if (c.kind == LOCK_FUTURE) /* one way or the other, not each time anew */
            OK(quire_mlockall(s, i % 2 ? 2 | 4 : 0));
        else
            until_it_succeeds(&c);
        /* what moved out of the window is done */
        OK(quire_munmap(s, Q_UVA(WINDOW_START + WINDOW_PAGES * PAGE), 64 * MIB));
    }
    quire_object_put(object);
    OK(quire_space_verify(s));
    quire_space_put(s);
    s = NULL;
    quire_heap_drain();
    assert_int_equal(quire_free_pages(), frames_before);
}

/* proves: TRAP-18 */
static void a_call_without_memory_changes_nothing(void **state)
{
    static const enum kind must[] = {MAP,    MAP_SHARED, UNMAP, PROTECT, MOVE,  RESIZE,
                                     ADVISE, BREAK,      LOCK,  FORK,    STORE, FORCE};

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        if (!s)
            s = space_new();
        one_life(150);
    }
    for (unsigned i = 0; i < sizeof must / sizeof must[0]; i++)
        assert_true(failures[must[i]] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {T(a_call_without_memory_changes_nothing)};

    test_seed("nomem_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
