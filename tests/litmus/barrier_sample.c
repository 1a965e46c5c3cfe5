/*
 * barrier_sample.c - what barrier_test compiles and looks at as machine code, once with the
 * compiler barrier and once (WITHOUT) with nothing in its place.  Each function says the accesses
 * that stand in its source, in order: L load, S store, the offset of the member.
 */
#include <quire/barrier.h>

struct words {
    int a, b; /* offsets 0 and 4 */
};

#ifdef WITHOUT
#define BARRIER() ((void)0)
#else
#define BARRIER() quire_barrier_compiler()
#endif

/* S0 S4 S0 */
void sample_dead_store(struct words *p, int x)
{
    p->a = x;
    BARRIER();
    p->b = x;
    BARRIER();
    p->a = 3;
}

/* S0 S4 */
void sample_merged_stores(struct words *p)
{
    p->a = 1;
    BARRIER();
    p->b = 2;
}

/* L0 L0 */
int sample_load_twice(struct words *p)
{
    int first = p->a;

    BARRIER();
    return first ^ p->a;
}

/* L0 S4 L0 */
int sample_load_across_store(struct words *p, int x)
{
    int first = p->a;

    BARRIER();
    p->b = x;
    BARRIER();
    return first - p->a;
}

/* S4 L4 */
int sample_forwarded(struct words *p, int x)
{
    p->b = x;
    BARRIER();
    return p->b;
}

static inline void inner(void) { BARRIER(); }
static inline int outer(struct words *p)
{
    int x = p->b;

    inner();
    return x ^ p->b;
}

/* L4 L4 S0 S0: the barrier is two calls deep, all inlined */
void sample_inlined(struct words *p)
{
    int x = outer(p);

    p->a = x;
    inner();
    p->a = 5;
}

static __attribute__((noinline)) void called(void) { BARRIER(); }

/* S0 S0 L4: the compiler sees into the called function, but may not move across it */
int sample_across_call(struct words *p)
{
    p->a = 1;
    called();
    p->a = 2;
    called();
    return p->b;
}

/* What each barrier is on this machine. */
void sample_load_load(void) { quire_barrier_load_load(); }
void sample_store_store(void) { quire_barrier_store_store(); }
void sample_load_store(void) { quire_barrier_load_store(); }
void sample_store_load(void) { quire_barrier_store_load(); }
