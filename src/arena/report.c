/*
 * arena/report.c - looking at an arena: each piece, who holds how much, and the walk that checks the
 * invariants A1 to A6 of arena.c.
 */
#include "chunk.h"

#define REPORT_SITES 16u

void quire_arena_stats(struct quire_arena *a, struct quire_arena_stats *out)
{
    unsigned long irq = qi_spin_lock_irq(qi_arena_lock(a));
    const struct qi_chunk *root = a->root;

    *out = (struct quire_arena_stats){
        .regions = a->nregions,
        .bytes = a->total,
        .pieces = a->pieces,
        .used = a->used,
        .peak = a->peak,
        .free_pieces = a->free_pieces,
        .largest = root ? root->largest : 0,
        .allocs = a->allocs,
        .failures = qi_load_relaxed(&a->failures),
    };
    qi_spin_unlock_irq(qi_arena_lock(a), irq);
}

static bool walk_locked(struct quire_arena *a,
                        bool (*visit)(void *ctx, const struct quire_arena_piece *piece), void *ctx)
{
    for (const struct qi_region *r = a->regions; r; r = r->next)
        for (const struct qi_chunk *c = qi_region_first(r); !(c->tag & QI_CHUNK_END);
             c = qi_chunk_next(c)) {
            bool out = c->tag & QI_CHUNK_OUT;
            struct quire_arena_piece piece = {
                .at = qi_chunk_payload(c),
                .bytes = (size_t)(out ? c->asked : qi_chunk_bytes(c)),
                .site = (uintptr_t)c->site,
            };

            QI_CHECK(qi_chunk_sealed(a, c), "arena %s: walk: books of %p are damaged", a->name,
                     piece.at);
            if (!visit(ctx, &piece))
                return false;
        }
    return true;
}

bool quire_arena_walk(struct quire_arena *a,
                      bool (*visit)(void *ctx, const struct quire_arena_piece *piece), void *ctx)
{
    unsigned long irq = qi_spin_lock_irq(qi_arena_lock(a));
    bool all = walk_locked(a, visit, ctx);

    qi_spin_unlock_irq(qi_arena_lock(a), irq);
    return all;
}

/* ---- who holds how much ---- */

struct tally {
    struct quire_arena_site *out;
    size_t n, max;
    uint64_t pieces, bytes; /* all of them */
};

static bool count_site(void *ctx, const struct quire_arena_piece *piece)
{
    struct tally *t = ctx;
    size_t i = 0;

    if (!piece->site)
        return true;
    t->pieces++;
    t->bytes += piece->bytes;
    while (i < t->n && t->out[i].site != piece->site)
        i++;
    if (i == t->max)
        return true;
    if (i == t->n)
        t->out[t->n++] = (struct quire_arena_site){.site = piece->site};
    t->out[i].pieces++;
    t->out[i].bytes += piece->bytes;
    return true;
}

static void sort(struct quire_arena_site *s, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct quire_arena_site one = s[i];
        size_t k = i;

        for (; k && s[k - 1].bytes < one.bytes; k--)
            s[k] = s[k - 1];
        s[k] = one;
    }
}

size_t quire_arena_sites(struct quire_arena *a, struct quire_arena_site *out, size_t max)
{
    struct tally t = {.out = out, .max = max ? max - 1 : 0};
    struct quire_arena_site rest = {0};

    quire_arena_walk(a, count_site, &t);
    for (size_t i = 0; i < t.n; i++) {
        rest.pieces += out[i].pieces;
        rest.bytes += out[i].bytes;
    }
    rest.pieces = t.pieces - rest.pieces;
    rest.bytes = t.bytes - rest.bytes;
    sort(out, t.n);
    if (rest.pieces && max)
        out[t.n++] = rest;
    return t.n;
}

uint64_t quire_arena_report(struct quire_arena *a)
{
    struct quire_arena_site sites[REPORT_SITES];
    size_t n = quire_arena_sites(a, sites, REPORT_SITES);
    uint64_t pieces = 0;

    for (size_t i = 0; i < n; i++) {
        pieces += sites[i].pieces;
        if (sites[i].site)
            qi_log(QUIRE_LOG_ERROR, "arena %s: %lu pieces, %lu bytes, allocated at %#lx are out",
                   a->name, (unsigned long)sites[i].pieces, (unsigned long)sites[i].bytes,
                   (unsigned long)sites[i].site);
        else
            qi_log(QUIRE_LOG_ERROR, "arena %s: %lu pieces, %lu bytes, allocated elsewhere are out",
                   a->name, (unsigned long)sites[i].pieces, (unsigned long)sites[i].bytes);
    }
    return pieces;
}

/* ---- verify ---- */

#define EXPECT(c, ...)                                             \
    do {                                                           \
        if (!(c)) {                                                \
            qi_log(QUIRE_LOG_ERROR, "arena verify: " __VA_ARGS__); \
            return false;                                          \
        }                                                          \
    } while (0)

struct sums {
    uint64_t pieces, used, total, nfree;
};

static bool verify_region(const struct quire_arena *a, const struct qi_region *r, struct sums *sum)
{
    const struct qi_chunk *c = qi_region_first(r), *end;
    uint64_t before = 0;
    bool was_free = false;

    end = (const struct qi_chunk *)((uintptr_t)r + (uintptr_t)r->bytes - QI_CHUNK_HEADER);
    for (;; c = qi_chunk_next(c)) {
        EXPECT(qi_chunk_sealed(a, c), "A1: %s: header at %p is damaged", a->name, c);
        EXPECT(c->before == before, "A2: %s: %p says %lu bytes in front, there are %lu", a->name, c,
               (unsigned long)c->before, (unsigned long)before);
        if (c->tag & QI_CHUNK_END)
            break;
        EXPECT(qi_chunk_bytes(c) >= QI_CHUNK_MIN && qi_chunk_next(c) <= end,
               "A2: %s: %p has %lu bytes", a->name, c, (unsigned long)qi_chunk_bytes(c));
        EXPECT(!was_free || !qi_chunk_is_free(c), "A3: %s: %p and the one in front are free",
               a->name, c);
        was_free = qi_chunk_is_free(c);
        before = qi_chunk_bytes(c);
        if (was_free) {
            EXPECT(qi_tree_node_good(a, c), "A4: %s: free piece %p has been written to", a->name,
                   qi_chunk_payload(c));
            sum->nfree++;
            continue;
        }
        EXPECT(!qi_chunk_overrun(c), "A5: %s: piece %p, %lu bytes, allocated at %#lx, was overrun",
               a->name, qi_chunk_payload(c), (unsigned long)c->asked, (unsigned long)c->site);
        sum->pieces++;
        sum->used += c->asked;
    }
    EXPECT(c == end, "A2: %s: the region at %p ends at %p", a->name, r, c);
    sum->total += r->given;
    return true;
}

static bool verify_locked(const struct quire_arena *a)
{
    const struct qi_chunk *last = NULL;
    struct sums sum = {0};
    uint64_t in_tree = 0;

    for (const struct qi_region *r = a->regions; r; r = r->next)
        if (!verify_region(a, r, &sum))
            return false;
    for (struct qi_chunk *c = qi_tree_first(a); c; c = qi_tree_next(a, c), in_tree++) {
        EXPECT(c > last && in_tree < sum.nfree, "A4: %s: %p is wrong in the tree", a->name, c);
        last = c;
    }
    EXPECT(in_tree == sum.nfree && in_tree == a->free_pieces, "A4: %s: %lu in the tree, %lu free",
           a->name, (unsigned long)in_tree, (unsigned long)sum.nfree);
    EXPECT(sum.pieces == a->pieces && sum.used == a->used && sum.total == a->total,
           "A6: %s: %lu pieces, %lu bytes; counted %lu, %lu", a->name, (unsigned long)a->pieces,
           (unsigned long)a->used, (unsigned long)sum.pieces, (unsigned long)sum.used);
    return true;
}

enum quire_status quire_arena_verify(struct quire_arena *a)
{
    unsigned long irq = qi_spin_lock_irq(qi_arena_lock(a));
    bool good = verify_locked(a);

    qi_spin_unlock_irq(qi_arena_lock(a), irq);
    return good ? QUIRE_OK : QUIRE_CORRUPT;
}
