/*
 * heap_context_test.c - an interrupt handler between any two instructions of a task's call loses and doubles no object.
 *
 * The fast paths leave interrupts on: a task and a handler have sheaves of their own (QPORT_CONTEXTS).  Here a task's call is
 * run with the processor's single step, and at one instruction after the other, one a run, the handler comes in:
 * it allocates and frees enough to go through its sheaves to barn, mailbox and slabs.  Where interrupts are off it waits
 * until they are on.  Then each object that is out must be had by one only, and the heap's books must be right.
 */
#include <heap_suite.h>

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#define STEP_FLAG 0x100ul /* TF: Intel SDM volume 3B, 18.3.1.4 */

enum { CAP = 4, OWN = 3 * CAP, HANDLERS = 2 * CAP + 1, MOST = 64, EACH = 150, SOME = 37 };

static struct quire_cache *shared;
static void *mine[MOST], *irq[HANDLERS]; /* what task and handler have; NULL: nothing */
static unsigned nmine;
static unsigned long steps, at; /* instructions so far; before which the handler comes */
static bool came;

/* ---- the handler ---- */

static void handler(void)
{
    hosted_in_interrupt = 1;
    for (unsigned i = 0; i < HANDLERS; i++)
        if (irq[i]) {
            quire_cache_free(shared, irq[i]);
            irq[i] = NULL;
        } else {
            irq[i] = quire_cache_alloc(shared, QUIRE_GFP_ATOMIC);
        }
    hosted_in_interrupt = 0;
}

/* The single step, where we know how it is asked for. */
#if defined(__x86_64__)
#define CAN_STEP 1

static void on_step(int number, siginfo_t *info, void *context)
{
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

    (void)number, (void)info;
    if (steps++ < at || hosted_irqs_off)
        return;
    *flags &= ~(greg_t)STEP_FLAG;
    came = true;
    handler();
}

static inline __attribute__((always_inline)) void step_from_here(void)
{
    __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

static inline __attribute__((always_inline)) void step_no_more(void)
{
    __asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}
#else
#define CAN_STEP 0

static void on_step(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context, (void)handler;
}
static void step_from_here(void) {}
static void step_no_more(void) {}
#endif

/* ---- the task ---- */

enum call { ALLOC, FREE, FREE_FAR, CALLS };

static void call(enum call what)
{
    if (what == ALLOC)
        mine[nmine++] = quire_cache_alloc(shared, QUIRE_GFP_KERNEL);
    else
        quire_cache_free(shared, mine[--nmine]);
}

static void take(unsigned n, unsigned node)
{
    while (n--)
        assert_non_null(mine[nmine++] = quire_cache_alloc_node(shared, QUIRE_GFP_THISNODE, node));
}

static void empty_sheaves(void)
{
    const struct qi_cache_cpu *cc = shared->cpu[0];

    while (cc->top != cc->base || cc->spare->n)
        call(ALLOC);
    assert_true(nmine < MOST - OWN);
}

/* So many free objects in the sheaves of this context; the handler has some, and some places without. */
static void arrange(enum call what, unsigned filled)
{
    void *free_ones[OWN];

    for (unsigned i = 0; i < OWN; i++)
        assert_non_null(free_ones[i] = quire_cache_alloc(shared, QUIRE_GFP_KERNEL));
    take(1, what == FREE_FAR);
    if (what == FREE_FAR) { /* one of the next sheaf that goes home */
        take(CAP, 1);
        for (unsigned i = 0; i < filled % CAP; i++)
            call(FREE_FAR);
    }
    for (unsigned i = 0; i < HANDLERS; i++)
        irq[i] = i % 2 ? quire_cache_alloc_node(shared, QUIRE_GFP_THISNODE, i / 2 % 2) : NULL;
    empty_sheaves();
    for (unsigned i = 0; i < OWN; i++)
        if (i < filled)
            quire_cache_free(shared, free_ones[i]);
        else
            mine[nmine++] = free_ones[i];
    if (what != ALLOC) { /* what is freed stands last */
        void *last = mine[0];

        mine[0] = mine[nmine - 1];
        mine[nmine - 1] = last;
    }
}

/* All that are out are different, and as many as the heap thinks. */
static void look(void)
{
    void *out[MOST + HANDLERS];
    unsigned n = 0;

    for (unsigned i = 0; i < nmine; i++)
        assert_non_null(out[n++] = mine[i]);
    for (unsigned i = 0; i < HANDLERS; i++)
        if (irq[i])
            out[n++] = irq[i];
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(out[i], out[k]);
    assert_int_equal(heap_stats("context").active, n);
    assert_int_equal(quire_heap_verify(), QUIRE_OK);
}

static void give_all(void)
{
    while (nmine)
        quire_cache_free(shared, mine[--nmine]);
    for (unsigned i = 0; i < HANDLERS; i++)
        if (irq[i]) {
            quire_cache_free(shared, irq[i]);
            irq[i] = NULL;
        }
}

/* The call with the handler before its instruction number i; false: it has fewer. */
static bool interrupted(enum call what, unsigned filled, unsigned long i)
{
    assert_int_equal(quire_cache_create("context", 96, 0, QUIRE_CACHE_SHEAF(CAP), NULL, &shared),
                     QUIRE_OK);
    arrange(what, filled);
    steps = 0;
    at = i;
    came = false;
    alarm(10); /* a handler that waits for the task's lock does so for ever */
    step_from_here();
    call(what);
    step_no_more();
    alarm(0);
    look();
    give_all();
    assert_int_equal(quire_cache_destroy(shared), QUIRE_OK);
    return came;
}

/* proves: AS-30 AS-32 */
static void a_handler_between_any_two_instructions(void **state)
{
    const struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    unsigned long runs = 0, longest = 0;

    (void)state;
    if (!CAN_STEP)
        skip();
    assert_int_equal(QI_CPU_CONTEXTS, 2);
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    for (enum call what = 0; what < CALLS; what++)
        for (unsigned filled = 0; filled <= (what == FREE_FAR ? CAP : OWN); filled++) {
            unsigned long i = 0;

            while (interrupted(what, filled, i)) {
                i += i < EACH ? 1 : 1 + test_random_below(SOME);
                runs++;
            }
            longest = QI_MAX(longest, i);
        }
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
    print_message("%lu calls interrupted, the longest of %lu instructions\n", runs, longest);
    expect_nothing_lost();
}

int main(void)
{
    const struct CMUnitTest tests[] = {NODES(a_handler_between_any_two_instructions)};

    test_seed("heap_context_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
