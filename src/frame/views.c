/*
 * frame/views.c - what the counts of report.c look like as text: the files of /proc and debugfs that
 * programs know, and the dump that pictures of memory are drawn from.
 *
 * The forms are Linux's (mm/vmstat.c; proc(5)), to the column where programs count columns.  What Quire
 * has no like of is left out, never made up; what it has and holds no frames of is 0.
 */
#include <quire/format.h>
#include <quire/stats.h>
#include "zone.h"

struct text {
    char *buf;
    size_t cap, len;
};

static struct text text_start(char *buf, size_t cap)
{
    if (cap)
        buf[0] = 0;
    return (struct text){buf, cap, 0};
}

static void say(struct text *t, const char *fmt, ...) QUIRE_PRINTF(2, 3);
static void say(struct text *t, const char *fmt, ...)
{
    bool room = t->len < t->cap;
    va_list ap;

    va_start(ap, fmt);
    t->len += quire_vsnprintf(room ? t->buf + t->len : NULL, room ? t->cap - t->len : 0, fmt, ap);
    va_end(ap);
}

/* ---- free blocks: buddyinfo, pagetypeinfo, extfrag ---- */

size_t quire_buddyinfo(char *buf, size_t cap)
{
    struct text t = text_start(buf, cap);
    struct quire_zone_stats s;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        say(&t, "Node %u, zone %8s ", s.node, s.name);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
            say(&t, "%6lu ", (unsigned long)s.free_blocks[o]);
        say(&t, "\n");
    }
    return t.len;
}

static const char *const type_names[] = {"Unmovable", "Movable", "Reclaimable", "CMA", "Isolate"};
_Static_assert(QI_COUNT(type_names) == QUIRE_MIGRATE_TYPES, "a name for each type");

size_t quire_pagetypeinfo(char *buf, size_t cap)
{
    struct text t = text_start(buf, cap);
    struct quire_zone_types y;

    say(&t, "Page block order: %u\nPages per block:  %u\n\n", QI_BLOCK_ORDER, QI_BLOCK_FRAMES);
    say(&t, "%-43s ", "Free pages count per migrate type at order");
    for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
        say(&t, "%6u ", o);
    say(&t, "\n");
    for (unsigned i = 0; quire_zone_types(i, &y) == QUIRE_OK; i++)
        for (unsigned m = 0; m < QUIRE_MIGRATE_TYPES; m++) {
            say(&t, "Node %4u, zone %8s, type %12s ", qi_zones[i].node,
                qi_zone_names[qi_zones[i].type], type_names[m]);
            for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
                say(&t, "%6lu ", (unsigned long)y.free_blocks[m][o]);
            say(&t, "\n");
        }
    say(&t, "\n%-23s", "Number of blocks type ");
    for (unsigned m = 0; m < QUIRE_MIGRATE_TYPES; m++)
        say(&t, "%12s ", type_names[m]);
    say(&t, "\n");
    for (unsigned i = 0; quire_zone_types(i, &y) == QUIRE_OK; i++) {
        say(&t, "Node %u, zone %8s ", qi_zones[i].node, qi_zone_names[qi_zones[i].type]);
        for (unsigned m = 0; m < QUIRE_MIGRATE_TYPES; m++)
            say(&t, "%12lu ", (unsigned long)y.blocks[m]);
        say(&t, "\n");
    }
    return t.len;
}

size_t quire_extfrag_unusable(char *buf, size_t cap)
{
    struct text t = text_start(buf, cap);
    struct quire_zone_stats s;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        say(&t, "Node %u, zone %8s ", s.node, s.name);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
            unsigned v = quire_unusable_permille(&s, o);

            say(&t, "%u.%03u ", v / 1000, v % 1000);
        }
        say(&t, "\n");
    }
    return t.len;
}

size_t quire_extfrag_index(char *buf, size_t cap)
{
    struct text t = text_start(buf, cap);
    struct quire_zone_stats s;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        say(&t, "Node %u, zone %8s ", s.node, s.name);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++) {
            int v = quire_fragmentation_permille(&s, o);

            /* as Linux: of a small negative index the sign is in the fraction */
            say(&t, "%2d.%03d ", v / 1000, v % 1000);
        }
        say(&t, "\n");
    }
    return t.len;
}

/* ---- zoneinfo ---- */

static void say_stacks(struct text *t, const struct qi_zone *z)
{
    say(t, "\n  pagesets");
    for (unsigned c = 0; c < qi_ncpus; c++) {
        uint64_t count = 0, high = 0;

        for (unsigned k = 0; k < QI_STACK_KINDS; k++)
            for (unsigned type = 0; type < QI_STACK_TYPES; type++) {
                const struct qi_stack *s = qi_stack_of(&qi_frame_cpus[c], z->place, k, type);

                count += (uint64_t)qi_stack_count(s) << s->order;
                high += (uint64_t)qi_load_relaxed(&s->want) << s->order;
            }
        say(t,
            "\n    cpu: %u\n              count: %lu\n              high:  %lu\n"
            "              batch: %u",
            c, (unsigned long)count, (unsigned long)high,
            qi_load_relaxed(&qi_stack_of(&qi_frame_cpus[c], z->place, 0, 0)->batch));
    }
}

/* Linux says these of a node with its first populated zone. */
static void say_node(struct text *t, unsigned node)
{
    struct quire_usage u;

    quire_usage(node, &u);
    say(t, "\n  per-node stats");
    say(t, "\n      %-12s %lu", "nr_slab_unreclaimable", (unsigned long)u.slab);
    say(t, "\n      %-12s %lu", "nr_anon_pages", (unsigned long)(u.anon + u.anon_huge));
    say(t, "\n      %-12s %lu", "nr_file_pages", (unsigned long)u.file);
    say(t, "\n      %-12s %lu", "nr_anon_transparent_hugepages",
        (unsigned long)u.anon_huge / QI_BLOCK_FRAMES);
    say(t, "\n      %-12s %lu", "nr_page_table_pages", (unsigned long)u.table);
}

static void say_zone(struct text *t, const struct qi_zone *z, const struct quire_zone_stats *s)
{
    say(t,
        "\n  pages free     %lu\n        boost    %lu\n        min      %lu\n"
        "        low      %lu\n        high     %lu\n        spanned  %lu\n"
        "        present  %lu\n        managed  %lu\n        cma      %lu",
        (unsigned long)s->free, (unsigned long)s->boost, (unsigned long)s->wmark_min,
        (unsigned long)s->wmark_low, (unsigned long)s->wmark_high,
        (unsigned long)(s->end.v - s->start.v), (unsigned long)s->present,
        (unsigned long)s->managed, (unsigned long)s->cma);
    say(t, "\n        protection: (");
    for (unsigned k = 0; k < QI_CLASSES; k++)
        say(t, "%s%lu", k ? ", " : "", (unsigned long)qi_load_relaxed(&z->reserve[k]));
    say(t, ")\n      nr_free_pages %lu", (unsigned long)s->free);
    say(t, "\n      nr_free_cma  %lu", (unsigned long)s->free_cma);
}

size_t quire_zoneinfo(char *buf, size_t cap)
{
    struct text t = text_start(buf, cap);
    struct quire_zone_stats s;

    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        say(&t, "Node %u, zone %8s", s.node, s.name);
        if (!i || qi_zones[i - 1].node != s.node)
            say_node(&t, s.node);
        say_zone(&t, &qi_zones[i], &s);
        say_stacks(&t, &qi_zones[i]);
        say(&t, "\n  node_unreclaimable:  0\n  start_pfn:           %lu\n",
            (unsigned long)s.start.v);
    }
    return t.len;
}

/* ---- the dump that pictures are drawn from ---- */

static void say_block(struct text *t, const struct quire_block_info *b, uint64_t run)
{
    say(t, "block %lu %lu %u %u %u %u %u %u %u %u %u %u %u %u %u %u %u\n",
        (unsigned long)b->start.v / QI_BLOCK_FRAMES, (unsigned long)run, b->node, b->zone, b->type,
        b->free, b->cached, b->reserved, b->slab, b->table, b->kva, b->anon, b->file, b->huge,
        b->other, b->absent, b->poisoned);
}

/* But for where they are the same. */
static bool alike(const struct quire_block_info *a, const struct quire_block_info *b)
{
    return a->node == b->node && a->zone == b->zone && a->type == b->type && a->free == b->free &&
           a->cached == b->cached && a->reserved == b->reserved && a->slab == b->slab &&
           a->table == b->table && a->kva == b->kva && a->anon == b->anon && a->file == b->file &&
           a->huge == b->huge && a->other == b->other && a->absent == b->absent &&
           a->poisoned == b->poisoned;
}

static void say_blocks(struct text *t)
{
    struct quire_block_info first = {0}, b;
    uint64_t run = 0;

    say(t, "# block number run node zone type free cached reserved slab table kva anon file huge "
           "other absent poisoned\n");
    for (uint64_t n = 0; quire_block_info(n, &b) == QUIRE_OK; n++) {
        if (run && alike(&first, &b)) {
            run++;
            continue;
        }
        if (run && first.absent < QI_BLOCK_FRAMES)
            say_block(t, &first, run);
        first = b;
        run = 1;
    }
    if (run && first.absent < QI_BLOCK_FRAMES)
        say_block(t, &first, run);
}

size_t quire_blockinfo(char *buf, size_t cap)
{
    struct text t = text_start(buf, cap);
    struct quire_zone_stats s;

    say(&t, "# zone node name type start end present managed free cached min low high, free blocks "
            "by order\n");
    for (unsigned i = 0; quire_zone_stats(i, &s) == QUIRE_OK; i++) {
        say(&t, "zone %u %s %u %lu %lu %lu %lu %lu %lu %lu %lu %lu", s.node, s.name, s.type,
            (unsigned long)s.start.v, (unsigned long)s.end.v, (unsigned long)s.present,
            (unsigned long)s.managed, (unsigned long)s.free, (unsigned long)s.cached,
            (unsigned long)s.wmark_min, (unsigned long)s.wmark_low, (unsigned long)s.wmark_high);
        for (unsigned o = 0; o <= QUIRE_MAX_ORDER; o++)
            say(&t, " %lu", (unsigned long)s.free_blocks[o]);
        say(&t, "\n");
    }
    say_blocks(&t);
    return t.len;
}
