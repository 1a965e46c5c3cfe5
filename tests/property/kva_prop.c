/*
 * kva_prop.c - kernel areas against a dumb model: an array that says of each page of the windows which frame it
 * must be mapped to, how, and what its holder wrote there.
 *
 * Random calls from random CPUs of two nodes.  Nothing of one area is another's, guards included; every page
 * of the model is looked at through the tables again and again; walk and page look-ups say what the model
 * says; nothing is lost in the end.
 */
#include <kva_machine.h>

#define SPAN   (96 * HEAP_MIB)
#define NODES  2u
#define HELD   160u
#define STEPS  30000u
#define COMMON 64u /* frames of the test's own, that it maps */
#define OK(c)  assert_int_equal(c, QUIRE_OK)

enum kind { NOTHING, MEMORY, MAPPED, RAM, STACK, KINDS };
#define RW (QUIRE_READ | QUIRE_WRITE)

struct area {
    enum kind kind;
    uint64_t at;
    unsigned pages;
    uint64_t *frames;  /* pa of each page */
    uint8_t *prot;     /* of each */
    uint64_t *content; /* written by us, of MEMORY and STACK */
};

static struct area held[HELD];
static struct quire_page *common[COMMON];
static uint64_t live[KINDS];

static struct quire_translation at_va(uint64_t va)
{
    struct quire_translation t;

    quire_pt_translate(root, va, &t);
    return t;
}

/* The first words of a page through the direct map. */
static uint64_t *word_of(uint64_t pa) { return quire_ptr_of_pa(Q_PA(pa)); }

static void check_page(const struct area *a, unsigned i)
{
    struct quire_translation t = at_va(a->at + i * PAGE);

    if (!t.present || t.pa.v != a->frames[i] || (t.prot & (RW | QUIRE_EXEC)) != a->prot[i])
        fail_msg("page %u of the area at %#llx, kind %u: pa %#llx prot %#x; should be %#llx, %#x",
                 i, (unsigned long long)a->at, a->kind, (unsigned long long)t.pa.v, t.prot,
                 (unsigned long long)a->frames[i], a->prot[i]);
    if ((a->kind == MEMORY || a->kind == STACK) && *word_of(a->frames[i]) != a->content[i])
        fail_msg("page %u of the area at %#llx reads %#llx", i, (unsigned long long)a->at,
                 (unsigned long long)*word_of(a->frames[i]));
    assert_ptr_equal(quire_kva_page((void *)(a->at + i * PAGE)),
                     quire_page_of_pfn(quire_pfn_of_pa(Q_PA(a->frames[i]))));
}

static void check_area(const struct area *a)
{
    for (unsigned i = 0; i < a->pages; i++)
        check_page(a, i);
    if (a->kind == STACK)
        assert_true(quire_stack_guard_hit(Q_KVA(a->at - 1)) && !at_va(a->at - PAGE).present);
    assert_false(at_va(a->at + a->pages * PAGE).present);
}

/* No two share an address, guards counted; a guard may serve the stack above it too. */
static void check_apart(const struct area *a)
{
    for (unsigned k = 0; k < HELD; k++) {
        const struct area *b = &held[k];

        if (b == a || b->kind == NOTHING)
            continue;
        if (a->at < b->at + (b->pages + 1) * PAGE && b->at < a->at + (a->pages + 1) * PAGE)
            fail_msg("areas at %#llx and %#llx overlap", (unsigned long long)a->at,
                     (unsigned long long)b->at);
    }
    if (a->kind != MEMORY && a->kind != STACK)
        return;
    for (unsigned k = 0; k < HELD; k++) /* nor a frame of their own */
        for (unsigned i = 0; (held[k].kind == MEMORY || held[k].kind == STACK) && &held[k] != a &&
                             i < held[k].pages;
             i++)
            assert_true(held[k].frames[i] != a->frames[0] &&
                        held[k].frames[i] != a->frames[a->pages - 1]);
}

/* a->kind, at and pages are set: what is there becomes the model. */
static void taken(struct area *a, bool zero)
{
    a->frames = calloc(a->pages, sizeof *a->frames);
    a->prot = malloc(a->pages);
    a->content = calloc(a->pages, sizeof *a->content);
    memset(a->prot, RW, a->pages);
    for (unsigned i = 0; i < a->pages; i++) {
        struct quire_translation t = at_va(a->at + i * PAGE);

        assert_true(t.present);
        a->frames[i] = t.pa.v;
        if (a->kind == MEMORY || a->kind == STACK) {
            if (zero)
                assert_int_equal(*word_of(t.pa.v), 0);
            a->content[i] = *word_of(t.pa.v) = test_random();
        } else {
            assert_int_equal(t.pa.v, quire_pa_of_page(common[i]).v);
        }
    }
    live[a->kind]++;
    check_apart(a);
    check_area(a);
}

static unsigned random_pages(void)
{
    switch (test_random_below(12)) {
    case 0: return 1 + (unsigned)test_random_below(700);
    case 1: return 512;
    case 2: return 65 + (unsigned)test_random_below(60);
    default: return 1 + (unsigned)test_random_below(12);
    }
}

static void take_memory(struct area *a)
{
    uint64_t align = PAGE << (test_random_below(4) ? 0 : test_random_below(14));
    bool zero = test_random_below(2);

    a->pages = random_pages();
    if (align > PAGE)
        a->at = (uintptr_t)quire_vmalloc_aligned(a->pages * PAGE, align, zero ? QUIRE_GFP_ZERO : 0);
    else if (zero)
        a->at = (uintptr_t)quire_vzalloc(a->pages * PAGE - test_random_below(PAGE), 0);
    else
        a->at =
            (uintptr_t)quire_vmalloc_node(a->pages * PAGE, 0, (unsigned)test_random_below(NODES));
    if (!a->at)
        return; /* memory is short: the model has much of it */
    assert_int_equal(a->at % align, 0);
    a->kind = MEMORY;
    taken(a, zero);
}

static void take(struct area *a)
{
    q_kva at = {0};

    switch (test_random_below(6)) {
    case 0:
        a->pages = 1 + (unsigned)test_random_below(COMMON);
        OK(quire_vmap(common, a->pages, RW, &at));
        a->kind = MAPPED;
        break;
    case 1:
        a->pages = 1 + (unsigned)test_random_below(QUIRE_VM_MAP_RAM_MAX);
        OK(quire_vm_map_ram(common, a->pages, &at));
        a->kind = RAM;
        break;
    case 2:
        a->pages = 1 + (unsigned)test_random_below(4);
        if (quire_stack_alloc(a->pages * PAGE, &at) != QUIRE_OK)
            return;
        at.v -= a->pages * PAGE;
        a->kind = STACK;
        break;
    default: take_memory(a); return;
    }
    a->at = at.v;
    taken(a, false);
}

static void give(struct area *a)
{
    struct area was = *a;

    check_area(a);
    live[a->kind]--;
    a->kind = NOTHING;
    switch (was.kind) {
    case MEMORY: quire_vfree((void *)was.at); break;
    case MAPPED: quire_vunmap(Q_KVA(was.at)); break;
    case RAM: quire_vm_unmap_ram(Q_KVA(was.at), was.pages); break;
    case STACK: quire_stack_free(Q_KVA(was.at + was.pages * PAGE)); break;
    default: break;
    }
    for (unsigned i = 0; was.kind != STACK && i < was.pages;
         i++) /* a stack may stay, for this CPU */
        assert_false(at_va(was.at + i * PAGE).present);
    free(was.frames);
    free(was.prot);
    free(was.content);
}

static void protect(struct area *a)
{
    static const uint8_t prots[] = {QUIRE_READ, RW, QUIRE_READ | QUIRE_EXEC, RW | QUIRE_EXEC};
    unsigned from = (unsigned)test_random_below(a->pages), prot = prots[test_random_below(4)];
    unsigned n = 1 + (unsigned)test_random_below(a->pages - from);
    enum quire_status s;

    if (a->kind != MEMORY && a->kind != MAPPED)
        return;
    s = quire_kva_protect(Q_KVA(a->at + from * PAGE), n * PAGE, prot);
    if (prot == (RW | QUIRE_EXEC)) {
        assert_int_equal(s, QUIRE_INVALID);
    } else if (s == QUIRE_OK) {
        memset(a->prot + from, (int)prot, n);
    } else {
        assert_int_equal(s, QUIRE_NO_MEMORY);
    }
    check_area(a);
}

/* What is listed is what is held, but for blocks: they have one line for many maps. */
static void check_list(void)
{
    uint64_t seen[KINDS] = {0}, last = 0;
    struct quire_kva_area a;
    q_kva at = Q_KVA(0);

    while (quire_kva_walk(&at, &a) == QUIRE_OK) {
        unsigned k;

        assert_true(a.addr.v >= last);
        last = a.addr.v + a.nr_pages * PAGE;
        if (a.flags & QUIRE_AREA_RAM)
            continue;
        for (k = 0; k < HELD && (held[k].kind == NOTHING || held[k].at != a.addr.v); k++) {
        }
        assert_true(k < HELD);
        assert_int_equal(a.nr_pages, held[k].pages);
        assert_true(a.flags & (held[k].kind == MEMORY   ? QUIRE_AREA_ALLOC
                               : held[k].kind == MAPPED ? QUIRE_AREA_VMAP
                                                        : QUIRE_AREA_STACK));
        seen[held[k].kind]++;
    }
    for (unsigned k = MEMORY; k < KINDS; k++)
        if (k != RAM)
            assert_int_equal(seen[k], live[k]);
}

static void step(unsigned i)
{
    struct area *a = &held[test_random_below(HELD)];

    if (!test_random_below(16))
        hosted_cpu_set((unsigned)test_random_below(HEAP_CPUS));
    if (a->kind == NOTHING)
        take(a);
    else if (test_random_below(3))
        give(a);
    else if (test_random_below(2))
        protect(a);
    else
        check_area(a);
    if (i % 700 == 0)
        quire_kva_purge();
    if (i % 50 == 0)
        quire_kva_tick();
    if (i % 1000)
        return;
    check_list();
    OK(quire_kva_verify());
    for (unsigned k = 0; k < HELD; k++)
        if (held[k].kind != NOTHING)
            check_area(&held[k]);
}

/* proves: AS-21 AS-23 LX-16 LX-17 VM-11 TRAP-7 TRAP-10 TRAP-16 */
static void areas_are_as_the_model_says(void **state)
{
    uint64_t before;

    (void)state;
    kva_machine(SPAN, NODES, 1ull << 40);
    before = frames_left();
    assert_int_equal(quire_page_alloc_bulk(COMMON, common, 0, QUIRE_NODE_ANY), COMMON);
    for (unsigned i = 1; i <= STEPS; i++)
        step(i);
    for (unsigned k = 0; k < HELD; k++)
        if (held[k].kind != NOTHING)
            give(&held[k]);
    check_list();
    quire_kva_purge();
    OK(quire_kva_verify());
    for (unsigned i = 0; i < COMMON; i++) {
        assert_int_equal(common[i]->refs, 1);
        quire_page_put(common[i]);
    }
    assert_int_equal(frames_left(), before);
    heap_sound();
    hosted_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(areas_are_as_the_model_says)};

    test_seed("kva_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
