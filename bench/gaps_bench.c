/*
 * gaps_bench.c - what the range tree of kernel areas costs: a look-up by address; a search for a gap; taking a
 * range out and putting it back where it was, which is looked up; and taking one out and putting it into the
 * lowest gap that fits (churn, as areas come and go), at 16, 1,000 and 8,000 ranges in random order.
 *
 * Prints row and nanoseconds, less those of the loop alone; on a machine whose clock counts instructions (quire run
 * --icount), instructions.  With arguments N ROUNDS lookup|find|move|churn|none it does that many and prints
 * nothing: the slope over ROUNDS under callgrind, less that of none, is the instructions.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/kva/gaps.h"

#define MOST   8000u
#define PAGE   4096ul
#define ROUNDS 200000u

static struct qi_gap_node nodes[MOST];
static struct qi_gaps tree;
static unsigned long rng = 88172645463325252ul;
static volatile unsigned long sink;

static unsigned below(unsigned n)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return (unsigned)(rng % n);
}

/* Ranges of 1 to 7 pages, one in each 16, put in in random order. */
static void build(unsigned n)
{
    static unsigned order[MOST];

    qi_gaps_init(&tree, 0, 1ul << 40);
    for (unsigned i = 0; i < n; i++) {
        unsigned k = below(i + 1);

        order[i] = order[k];
        order[k] = i;
    }
    for (unsigned i = 0; i < n; i++) {
        struct qi_gap_node *node = &nodes[order[i]];

        node->start = (order[i] * 16 + order[i] % 3) * PAGE;
        node->end = node->start + PAGE * (1 + order[i] % 7);
        qi_gaps_insert(&tree, node, qi_gaps_from(&tree, node->start));
    }
}

static void run(unsigned n, unsigned rounds, char what)
{
    for (unsigned i = 0; i < rounds; i++) {
        struct qi_gap_node *node = &nodes[below(n)], *next;
        uint64_t at;

        switch (what) {
        case 'l': sink += qi_gaps_lookup(&tree, node->start)->end; break;
        case 'f':
            sink += qi_gaps_find(&tree, node->end - node->start, PAGE, 0, PAGE, &at, &next);
            break;
        case 'm':
            qi_gaps_remove(&tree, node);
            qi_gaps_insert(&tree, node, qi_gaps_from(&tree, node->start));
            break;
        case 'c':
            qi_gaps_remove(&tree, node);
            sink += qi_gaps_find(&tree, node->end - node->start, PAGE, 0, PAGE, &at, &next);
            node->end = at + (node->end - node->start);
            node->start = at;
            qi_gaps_insert(&tree, node, next);
            break;
        default: sink += node->end; break;
        }
    }
}

static double ns_of(unsigned n, const char *what)
{
    struct timespec from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    run(n, ROUNDS, *what);
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / ROUNDS;
}

int main(int argc, char **argv)
{
    static const char *const rows[] = {"lookup", "find", "move", "churn"};
    static const unsigned sizes[] = {16, 1000, 8000};

    if (argc == 4) {
        unsigned n = (unsigned)atoi(argv[1]);

        if (!n || n > MOST)
            return 2;
        build(n);
        run(n, (unsigned)atoi(argv[2]), *argv[3]);
        return 0;
    }
    for (unsigned s = 0; s < QI_COUNT(sizes); s++)
        for (unsigned r = 0; r < QI_COUNT(rows); r++) {
            build(sizes[s]);
            run(sizes[s], ROUNDS, *rows[r]);
            printf("%s_%u\t%.1f\n", rows[r], sizes[s],
                   ns_of(sizes[s], rows[r]) - ns_of(sizes[s], "none"));
        }
    return 0;
}
