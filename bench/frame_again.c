/*
 * frame_again.c - the random-reallocation experiment (after LLFree, ATC 2023), for Quire and for the textbook buddy.
 *
 * All memory is handed out as single frames and a random half of them freed, so that half is held, at
 * random.  Then, round after round, a random tenth of what is held is freed and allocated again.  How
 * much of the free memory is in whole 2 MiB blocks, though nothing is ever migrated?  Prints round, Quire's
 * and the buddy's percentage; frame_again [MIB [ROUNDS]].
 */
#include "buddy.h"
#include "frame_machine.h"

#define MAX_MIB 8192u

struct subject {
    void (*begin)(uint64_t bytes);
    void *(*get)(void);
    void (*put)(void *);
    double (*whole)(void); /* percent of the free frames */
};

static void *held[MAX_MIB << 8];

static void quire_begin(uint64_t bytes) { bench_machine(bytes, 1); }
static void *quire_get(void)
{
    return quire_page_alloc(0, QUIRE_GFP_USER | QUIRE_GFP_MEMALLOC, QUIRE_NODE_ANY);
}
static void quire_put(void *p) { quire_page_free(p, 0); }
static double quire_whole(void)
{
    struct quire_zone_stats s;
    uint64_t free = 0, whole = 0;

    quire_frame_drain();
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        free += s.free;
        for (unsigned o = QUIRE_HUGE_ORDER; o <= QUIRE_MAX_ORDER; o++)
            whole += s.free_blocks[o] << o;
    }
    return 100.0 * (double)whole / (double)free;
}

static void buddy_begin(uint64_t bytes)
{
    if (!buddy_init(bytes / 4096))
        exit(1);
}
static void *buddy_get(void) { return buddy_alloc(0); }
static void buddy_put(void *p) { buddy_free(p, 0); }
static double buddy_whole(void)
{
    return 100.0 * (double)buddy_free_frames(9) / (double)buddy_free_frames(0);
}

static const struct subject subjects[] = {{quire_begin, quire_get, quire_put, quire_whole},
                                          {buddy_begin, buddy_get, buddy_put, buddy_whole}};

static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* A random choice of held[0..n), in random order, to held[0..part). */
static void choose(size_t n, size_t part)
{
    for (size_t i = 0; i < part; i++) {
        size_t k = i + next_random() % (n - i);
        void *t = held[i];

        held[i] = held[k];
        held[k] = t;
    }
}

static void experiment(const struct subject *s, uint64_t bytes, unsigned rounds, double *whole)
{
    size_t n = 0;

    state = 88172645463325252ull;
    s->begin(bytes);
    while (n < bytes / 4096 && (held[n] = s->get()))
        n++;
    choose(n, n);
    for (size_t i = n / 2; i < n; i++)
        s->put(held[i]);
    n /= 2;
    whole[0] = s->whole();
    for (unsigned r = 1; r <= rounds; r++) {
        choose(n, n / 10);
        for (size_t i = 0; i < n / 10; i++)
            s->put(held[i]);
        for (size_t i = 0; i < n / 10; i++)
            held[i] = s->get();
        whole[r] = s->whole();
    }
}

int main(int argc, char **argv)
{
    uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 0) : 4096;
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 100;
    static double whole[2][1001];

    if (mib < 16 || mib > MAX_MIB || rounds > 1000) {
        fprintf(stderr, "usage: frame_again [16..%u MIB [0..1000 ROUNDS]]\n", MAX_MIB);
        return 2;
    }
    for (unsigned i = 0; i < 2; i++)
        experiment(&subjects[i], mib << 20, rounds, whole[i]);
    for (unsigned r = 0; r <= rounds; r++)
        printf("%u\t%.2f\t%.2f\n", r, whole[0][r], whole[1][r]);
    return 0;
}
