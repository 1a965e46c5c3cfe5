/*
 * slab/sites.c - how much each call site has allocated: a hash table of counters.
 *
 * A site is entered by one compare-and-swap and stays; so all counters are plain atomics, and there is
 * no lock.  Entry 0 stands for all sites that found no room near their place.  The counters of one site
 * are not one snapshot: whoever reads while others allocate may see a count without its bytes.
 */
#include "sites.h"

#include <quire/format.h>
#include <quire/stats.h>

#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/trace.h"

#if QUIRE_TRACK

#define TABLE_ORDER 6u
#define PROBES      64u

struct site {
    uintptr_t caller; /* 0: not in use */
    size_t bytes, count, peak, calls;
};

#define SITES ((uint32_t)((QUIRE_PAGE_SIZE << TABLE_ORDER) / sizeof(struct site)))

static struct site *sites;

void qi_sites_init(void) { sites = NULL; }

bool qi_sites_start(void)
{
    struct quire_page *page;

    if (sites)
        return true;
    page = quire_page_alloc(TABLE_ORDER, QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    if (!page)
        return false;
    sites = quire_page_ptr(page);
    return true;
}

uint32_t qi_site_of(uintptr_t caller)
{
    uint32_t at = (uint32_t)((uint64_t)caller * 0x9e3779b97f4a7c15 >> 32);

    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t site = (at + i) % (SITES - 1) + 1;
        uintptr_t seen = qi_load_relaxed(&sites[site].caller);

        if (seen == caller || (!seen && qi_cas_relaxed(&sites[site].caller, &seen, caller)) ||
            seen == caller)
            return site;
    }
    return 0;
}

static void raise_peak(struct site *s, size_t bytes)
{
    size_t seen = qi_load_relaxed(&s->peak);

    while (seen < bytes && !qi_cas_relaxed(&s->peak, &seen, bytes)) {
    }
}

void qi_site_add(uint32_t site, size_t bytes)
{
    struct site *s = &sites[site];

    qi_fetch_add_relaxed(&s->count, 1);
    qi_fetch_add_relaxed(&s->calls, 1);
    raise_peak(s, qi_fetch_add_relaxed(&s->bytes, bytes) + bytes);
}

void qi_site_sub(uint32_t site, size_t bytes)
{
    qi_fetch_sub_relaxed(&sites[site].count, 1);
    qi_fetch_sub_relaxed(&sites[site].bytes, bytes);
}

void qi_site_resize(uint32_t site, size_t from, size_t to)
{
    raise_peak(&sites[site], qi_fetch_add_relaxed(&sites[site].bytes, to - from) + to - from);
}

/* False: the site was never used. */
static bool read_site(uint32_t site, struct quire_site *out)
{
    *out = (struct quire_site){
        .caller = qi_load_relaxed(&sites[site].caller),
        .bytes = qi_load_relaxed(&sites[site].bytes),
        .count = qi_load_relaxed(&sites[site].count),
        .peak = qi_load_relaxed(&sites[site].peak),
        .calls = qi_load_relaxed(&sites[site].calls),
    };
    return out->calls;
}

static bool before(const struct quire_site *a, const struct quire_site *b)
{
    return a->bytes != b->bytes   ? a->bytes > b->bytes
           : a->calls != b->calls ? a->calls > b->calls
                                  : a->caller < b->caller;
}

/* Heap order: the least of the n kept is at the root, 0. */
static void sift_down(struct quire_site *h, size_t n, size_t i)
{
    for (;;) {
        size_t least = i;
        struct quire_site t;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (before(&h[least], &h[child]))
                least = child;
        if (least == i)
            return;
        t = h[i];
        h[i] = h[least];
        h[least] = t;
        i = least;
    }
}

size_t quire_heap_sites(struct quire_site *out, size_t max)
{
    size_t n = 0;

    for (uint32_t i = 0; sites && max && i < SITES; i++) {
        struct quire_site s;

        if (!read_site(i, &s))
            continue;
        if (n < max) {
            out[n++] = s;
            for (size_t k = n / 2; n == max && k-- > 0;)
                sift_down(out, n, k);
        } else if (before(&s, &out[0])) {
            out[0] = s;
            sift_down(out, n, 0);
        }
    }
    for (size_t k = n / 2; n < max && k-- > 0;)
        sift_down(out, n, k);
    for (size_t end = n; end-- > 1;) {
        struct quire_site least = out[0];

        out[0] = out[end];
        out[end] = least;
        sift_down(out, end, 0);
    }
    return n;
}

/* Linux: Documentation/filesystems/proc.rst, "allocinfo"; mm/alloc_tag.c. */
size_t quire_allocinfo(char *buf, size_t cap)
{
    size_t len = quire_snprintf(buf, cap,
                                "allocinfo - version: 1.0\n"
                                "#     <size>  <calls> <tag info>\n");

    for (uint32_t i = 0; sites && i < SITES; i++) {
        size_t room = len < cap ? cap - len : 0, name = 0;
        char place[160];
        struct quire_site s;

        if (!read_site(i, &s))
            continue;
        if (!s.caller)
            quire_snprintf(place, sizeof place, "others");
        else if (!QPORT_SYMBOL(s.caller, place, sizeof place))
            quire_snprintf(place, sizeof place, "%#lx", (unsigned long)s.caller);
        while (place[name] && place[name] != '+')
            name++;
        len +=
            quire_snprintf(room ? buf + len : NULL, room, "%12lu %8lu %s func:%.*s\n",
                           (unsigned long)s.bytes, (unsigned long)s.count, place, (int)name, place);
    }
    return len;
}

void qi_sites_totals(struct quire_track_stats *out)
{
    out->sites = out->live = out->bytes = 0;
    for (uint32_t i = 0; sites && i < SITES; i++) {
        struct quire_site s;

        if (!read_site(i, &s))
            continue;
        out->sites++;
        out->live += s.count;
        out->bytes += s.bytes;
    }
    out->memory = sites ? QUIRE_PAGE_SIZE << TABLE_ORDER : 0;
}

#else

size_t quire_allocinfo(char *buf, size_t cap) { return quire_snprintf(buf, cap, "%s", ""); }
size_t quire_heap_sites(struct quire_site *out, size_t max) { return (void)out, (void)max, 0; }

#endif
