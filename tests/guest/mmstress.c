/*
 * mmstress.c - threads of one process change its mappings, fault in them, and fork, all at once; what each
 * wrote must be what each reads.
 *
 * Each thread owns a region that it maps, cuts, protects, moves and frees at random against a
 * shadow of one byte a page. All count in shared pages, in private and in shared memory; one thread keeps
 * forking, and each child checks that memory stood still at its birth.
 *
 * proves: VM-24 AS-27 TRAP-8 TRAP-11
 * options: --cpus 4
 */
#include "guest.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS  4000
#define PAGES   48
#define PAGE    4096ul
#define COUNTED 16
#define FORKS   40

static unsigned char *counted, *counted_shared;
static volatile int done;
static pthread_barrier_t barrier;
static int wrong[THREADS];

struct owner {
    unsigned char *base;
    unsigned char shadow[PAGES], mapped[PAGES];
    unsigned long rng;
};

static unsigned rnd(struct owner *o, unsigned n)
{
    o->rng ^= o->rng << 13;
    o->rng ^= o->rng >> 7;
    o->rng ^= o->rng << 17;
    return (unsigned)(o->rng % n);
}

static int step(struct owner *o)
{
    unsigned n = 1 + rnd(o, 12), first = rnd(o, PAGES - n);
    unsigned char *at = o->base + first * PAGE;

    switch (rnd(o, 8)) {
    case 0:
        if (munmap(at, n * PAGE))
            return 1;
        memset(&o->mapped[first], 0, n);
        memset(&o->shadow[first], 0, n);
        break;
    case 1:
        if (mmap(at, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) != at)
            return 1;
        memset(&o->mapped[first], 1, n);
        memset(&o->shadow[first], 0, n);
        break;
    case 2:
        madvise(at, n * PAGE, MADV_DONTNEED);
        memset(&o->shadow[first], 0, n);
        break;
    case 3: /* there and back: the content stays */
        mprotect(at, n * PAGE, PROT_READ);
        mprotect(at, n * PAGE, PROT_READ | PROT_WRITE);
        break;
    default:
        for (unsigned i = first; i < first + n; i++) {
            volatile unsigned char *p = o->base + i * PAGE;

            if (!o->mapped[i])
                continue;
            if (*p != o->shadow[i] || p[PAGE - 1] != o->shadow[i])
                return 1;
            o->shadow[i] = (unsigned char)rnd(o, 256);
            *p = o->shadow[i];
            p[PAGE - 1] = o->shadow[i];
        }
    }
    return 0;
}

static void *run(void *arg)
{
    long id = (long)arg;
    struct owner o = {.rng = 88172645463325252ul + (unsigned long)id * 7919};

    o.base = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(o.mapped, 1, sizeof o.mapped);
    memset(o.shadow, 0, sizeof o.shadow);
    /* from here on nobody asks for memory at a free address: it could be a hole of ours */
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < ROUNDS && !wrong[id]; i++) {
        wrong[id] += step(&o);
        __atomic_fetch_add((unsigned long *)(counted + (unsigned)i % COUNTED * PAGE), 1,
                           __ATOMIC_RELAXED);
        __atomic_fetch_add((unsigned long *)(counted_shared + (unsigned)i % COUNTED * PAGE), 1,
                           __ATOMIC_RELAXED);
    }
    return NULL;
}

static unsigned long total(const unsigned char *p)
{
    unsigned long sum = 0;

    for (int i = 0; i < COUNTED; i++)
        sum += __atomic_load_n((const unsigned long *)(p + i * PAGE), __ATOMIC_RELAXED);
    return sum;
}

/* In the child the private counters stand still, whatever the parent's threads do; and writing
 * there does not show in the parent. */
static int child(void)
{
    unsigned long before = total(counted);

    for (int k = 0; k < 20; k++)
        if (total(counted) != before)
            return 1;
    memset(counted, 0, COUNTED * PAGE);
    return total(counted) != 0;
}

static void *forker(void *arg)
{
    int *bad = arg;

    pthread_barrier_wait(&barrier);
    for (int i = 0; i < FORKS && !done; i++) {
        pid_t p = fork();
        int status = 0;

        if (!p)
            _exit(child());
        if (p < 0 || waitpid(p, &status, 0) != p || status)
            ++*bad;
    }
    return NULL;
}

int main(void)
{
    pthread_t t[THREADS], f;
    int bad = 0, sum = 0;

    counted =
        mmap(NULL, COUNTED * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    counted_shared =
        mmap(NULL, COUNTED * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counted != MAP_FAILED && counted_shared != MAP_FAILED, "regions");
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    pthread_create(&f, NULL, forker, &bad);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, run, (void *)i);
    for (long i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        sum += wrong[i];
    }
    done = 1;
    pthread_join(f, NULL);
    CHECK(!sum, "each thread reads what it wrote");
    CHECK(!bad, "each child sees memory as it was at its birth");
    CHECK(total(counted) == (unsigned long)THREADS * ROUNDS, "no count is lost in private memory");
    CHECK(total(counted_shared) == (unsigned long)THREADS * ROUNDS,
          "no count is lost in shared memory");
    return 0;
}
