/*
 * slab/cache.c - the life of a cache: the list of all, making, shrinking, destroying; and the
 * start of the heap.
 */
#include "harden.h"
#include "leak.h"

#define SIZE_MAX_OBJECT (1u << 20)
#define ALIGN_MAX       4096u
#define MIN_OBJECTS     16u /* aimed at in a slab, as far as its largest order allows */
#define SHEAF_LEAST     4u  /* objects that a sheaf holds, however large */

struct qi_list qi_caches;
struct qi_rwsem qi_caches_lock;
struct quire_cache qi_cpu_cache;

static const struct qi_lock_class node_class = {"heap: node"}, caches_class = {"heap: caches"};

/* Objects of a slab -> its header: the sizes that occur are few. */
static const uint16_t header_objects[] = {16, 32, 64, 128, 256, 512};
static struct quire_cache header_caches[QI_COUNT(header_objects)];
static struct quire_cache cache_cache;
/* Objects of a sheaf, likewise. */
static const uint16_t sheaf_objects[] = {16, 32, 64, QI_SHEAF_MAX};
static struct quire_cache sheaf_caches[QI_COUNT(sheaf_objects)];

/* The call that fails, counted from the next; 0: none.  Atomic. */
static int64_t fail_countdown;

struct quire_cache *qi_header_cache(unsigned n)
{
    unsigned i = 0;

    while (header_objects[i] < n)
        i++;
    return &header_caches[i];
}

struct quire_cache *qi_sheaf_cache(unsigned n)
{
    unsigned i = 0;

    while (sheaf_objects[i] < n)
        i++;
    return &sheaf_caches[i];
}

bool qi_is_sheaf(const void *p)
{
    for (unsigned i = 0; i < QI_COUNT(sheaf_caches); i++)
        if (qi_internal_state(&sheaf_caches[i], p))
            return true;
    return false;
}

/* ---- set-up ---- */

static void choose_layout(struct quire_cache *c)
{
    bool red = c->flags & QUIRE_CACHE_REDZONE;

    c->left = red ? c->align : 0;
    c->slot = (uint32_t)qi_align_up(c->left + c->size + (red ? QI_GUARD_BYTES : 0), c->align);
    c->recip = ~(uint64_t)0 / c->slot + 1;
}

/* The smallest order with MIN_OBJECTS objects and little waste; else the largest: twice the pages hold
 * at least twice the objects, so that no step up wastes more of a page. */
static void choose_order(struct quire_cache *c)
{
    unsigned asked = c->flags >> 24 & 15, max = asked ? asked - 1 : QUIRE_SLAB_MAX_ORDER;

    c->min_order = (uint8_t)qi_log2_ceil((c->slot + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT);
    for (c->order = c->min_order; c->order < max; c->order++) {
        unsigned n = qi_slab_objects(c, c->order);
        uint64_t waste = (QUIRE_PAGE_SIZE << c->order) - (uint64_t)n * c->slot;

        if (n >= MIN_OBJECTS && waste >> c->order <= QUIRE_PAGE_SIZE / QUIRE_SLAB_WASTE)
            break;
    }
}

static uint32_t clamp(uint32_t v, uint32_t low, uint32_t high)
{
    return v < low ? low : v > high ? high : v;
}

void qi_cache_setup(struct quire_cache *c, const char *name, size_t size, size_t align,
                    unsigned flags, void (*ctor)(void *))
{
    *c = (struct quire_cache){.name = name, .size = (uint32_t)size, .flags = flags, .ctor = ctor};
    if (!(flags & QI_CACHE_BARE))
        c->flags |= qi_mode_flags(ctor || (flags & QUIRE_CACHE_RCU));
    c->align = (uint32_t)(align ? QI_MAX(align, (size_t)8) : 8);
    if (c->flags & QUIRE_CACHE_HWALIGN)
        c->align = QI_MAX(c->align, (uint32_t)QI_CACHE_LINE);
    choose_layout(c);
    choose_order(c);
    c->sheaf_cap = c->flags >> 16 & 0xff;
    if (!c->sheaf_cap)
        c->sheaf_cap =
            (uint8_t)clamp(QUIRE_SHEAF_KB * 1024 / c->slot, SHEAF_LEAST, QUIRE_SLAB_SHEAF);
    c->max_sheaves =
        (uint8_t)clamp(QUIRE_BARN_KB * 1024 / c->slot / c->sheaf_cap, 1, QUIRE_BARN_KB / 8);
    c->max_empty = (uint16_t)clamp(QUIRE_EMPTY_PAGES >> c->order, 1, QUIRE_EMPTY_PAGES);
    if (qi_zone_gfp(c)) { /* scarce: none is kept that need not be */
        c->sheaf_cap = 2;
        c->max_sheaves = c->max_empty = 1;
    }
    c->sheaves = qi_sheaf_cache(c->sheaf_cap);
    c->slow = (c->flags & QUIRE_CACHE_ZERO ? QI_SLOW_ZERO : 0) |
              (c->flags & QI_CACHE_MODES ? QI_SLOW_GUARDS : 0) |
              (qi_track_all() && !(flags & QI_CACHE_BARE) ? QI_SLOW_TRACK : 0) |
              (qi_load_relaxed(&fail_countdown) ? QI_SLOW_FAILING : 0);
    if (qi_heap_mode(QUIRE_HARDEN_SAMPLE) && !qi_heap_options.sample_ms && qi_sample_suits(c))
        c->slow |= QI_SLOW_SAMPLE;
    for (unsigned i = 0; i < QI_CONTEXTS; i++)
        c->cpu[i] = &qi_no_cpu;
    for (unsigned i = 0; i < QUIRE_MAX_NODES; i++) {
        qi_spin_init(&c->node[i].lock, &node_class);
        for (unsigned l = 0; l < QI_SLAB_LISTS; l++)
            qi_list_init(&c->node[i].slabs[l]);
    }
}

void qi_cache_register(struct quire_cache *c)
{
    qi_rwsem_write_lock(&qi_caches_lock);
    qi_list_add_tail(&qi_caches, &c->link);
    qi_rwsem_write_unlock(&qi_caches_lock);
}

void qi_cache_setup_internal(struct quire_cache *c, const char *name, size_t size, size_t align)
{
    qi_cache_setup(c, name, size, align, QI_CACHE_BARE, NULL);
    c->internal = true;
    c->fixed = true;
    choose_order(c); /* the header takes its part */
    qi_cache_register(c);
}

enum quire_status quire_heap_init(void)
{
    static const char *const header_names[] = {"slab-16",  "slab-32",  "slab-64",
                                               "slab-128", "slab-256", "slab-512"};
    enum quire_status status;

    static const char *const sheaf_names[] = {"sheaf-16", "sheaf-32", "sheaf-64", "sheaf-128"};

    _Static_assert(QI_COUNT(sheaf_names) == QI_COUNT(sheaf_objects), "a name for each");
    _Static_assert(QI_COUNT(header_names) == QI_COUNT(header_objects), "a name for each");
    qi_options_init();
    qi_shadow_init();
    qi_late_init();
    qi_list_init(&qi_caches);
    qi_rwsem_init(&qi_caches_lock, &caches_class);
    qi_heap_end = 0;
    fail_countdown = 0;
    qi_track_init();
    qi_leak_init();
    for (unsigned i = 0; i < QI_COUNT(header_caches); i++)
        qi_cache_setup_internal(&header_caches[i], header_names[i],
                                qi_slab_header_bytes(header_objects[i]), QI_CACHE_LINE);
    for (unsigned i = 0; i < QI_COUNT(sheaf_caches); i++)
        qi_cache_setup_internal(
            &sheaf_caches[i], sheaf_names[i],
            sizeof(struct qi_sheaf) + sheaf_objects[i] * sizeof(struct qi_entry), QI_CACHE_LINE);
    qi_cache_setup_internal(&qi_cpu_cache, "cache-cpu", sizeof(struct qi_cache_cpu), QI_CACHE_LINE);
    qi_kmalloc_init();
    qi_cache_setup(&cache_cache, "cache", sizeof(struct quire_cache), QI_CACHE_LINE, 0, NULL);
    cache_cache.fixed = true;
    qi_cache_register(&cache_cache);
    status = qi_quarantine_init();
    if (status == QUIRE_OK)
        status = qi_sample_init();
    return status == QUIRE_OK && qi_heap_mode(QUIRE_HEAP_TRACK | QUIRE_HEAP_LEAKSCAN)
               ? quire_track_start()
               : status;
}

void qi_caches_set_slow(uint32_t why)
{
    struct quire_cache *c;

    qi_list_for_each (c, &qi_caches, link)
        if (!c->internal)
            qi_fetch_or_relaxed(&c->slow, why);
    qi_kmalloc_slow_changed();
}

void qi_caches_clear_slow(uint32_t why)
{
    struct quire_cache *c;

    qi_list_for_each (c, &qi_caches, link)
        if (!c->internal)
            qi_fetch_and_relaxed(&c->slow, ~why);
    qi_kmalloc_slow_changed();
}

/* ---- create and destroy ---- */

/* Capacity and order, if asked for, are in range. */
static bool options_good(unsigned flags)
{
    unsigned sheaf = flags >> 16 & 0xff, order = flags >> 24 & 15;

    return (!sheaf || (sheaf >= SHEAF_LEAST && sheaf <= QI_SHEAF_MAX)) && order <= 10 + 1;
}

enum quire_status quire_cache_create(const char *name, size_t size, size_t align, unsigned flags,
                                     void (*ctor)(void *), struct quire_cache **out)
{
    struct quire_cache *c;

    if (!name || !size || size > SIZE_MAX_OBJECT || align > ALIGN_MAX ||
        (align && !qi_is_pow2(align)) || (flags & ~QUIRE_CACHE_FLAGS) || !options_good(flags) ||
        ((ctor || (flags & QUIRE_CACHE_RCU)) && (flags & (QUIRE_CACHE_ZERO | QUIRE_CACHE_POISON))))
        return QUIRE_INVALID;
    c = quire_cache_alloc(&cache_cache, QUIRE_GFP_KERNEL);
    if (!c)
        return QUIRE_NO_MEMORY;
    qi_cache_setup(c, name, size, align, flags, ctor);
    qi_cache_register(c);
    *out = c;
    return QUIRE_OK;
}

/* Name up to max objects that are out; how many there are. */
static uint64_t name_objects_out(struct quire_cache *c, unsigned max)
{
    uint64_t n = 0;

    for (unsigned node = 0; node < quire_nodes(); node++)
        for (unsigned list = 0; list < QI_SLAB_LISTS; list++) {
            struct qi_slab *s;

            qi_list_for_each (s, &c->node[node].slabs[list], link) {
                for (unsigned i = 1; i <= s->n; i++)
                    if (s->state[i] != QI_OBJ_IN && n++ < max) {
                        qi_log(QUIRE_LOG_ERROR, "heap: %s: object %p is still out", c->name,
                               qi_slab_object(s, i));
                        qi_track_describe(qi_slab_object(s, i));
                    }
            }
        }
    return n;
}

/* Give all sheaves of a cache that nobody uses back. */
static void drain_quiet(struct quire_cache *c)
{
    for (unsigned i = 0; i < QI_CONTEXTS; i++)
        qi_drain_cpu(c, qi_load_acquire(&c->cpu[i]));
    for (unsigned node = 0; node < quire_nodes(); node++)
        qi_drain_barn(c, node);
}

static void free_cpus(struct quire_cache *c)
{
    for (unsigned i = 0; i < QI_CONTEXTS; i++) {
        struct qi_cache_cpu *cc = c->cpu[i];

        if (cc == &qi_no_cpu)
            continue;
        c->cpu[i] = &qi_no_cpu;
        qi_internal_free(c->sheaves, cc->main);
        qi_internal_free(c->sheaves, cc->spare);
        if (cc->remote)
            qi_internal_free(c->sheaves, cc->remote);
        qi_internal_free(&qi_cpu_cache, cc);
    }
}

enum quire_status quire_cache_destroy(struct quire_cache *c)
{
    unsigned long irq;
    uint64_t out;

    QI_CHECK(!c->fixed, "heap: cache %s is the heap's own and cannot be destroyed", c->name);
    qi_late_flush();
    qi_quarantine_flush(c);
    /* whoever shrinks all caches must not move slabs about while they are counted */
    qi_rwsem_write_lock(&qi_caches_lock);
    out = name_objects_out(c, 8) + qi_sample_out(c, 8);
    if (!out)
        qi_list_del(&c->link);
    qi_rwsem_write_unlock(&qi_caches_lock);
    if (out) {
        qi_log(QUIRE_LOG_ERROR, "heap: cache %s cannot be destroyed: %lu objects are out", c->name,
               (unsigned long)out);
        return QUIRE_BUSY;
    }
    irq = qport_irq_save();
    drain_quiet(c);
    free_cpus(c);
    for (unsigned node = 0; node < quire_nodes(); node++)
        qi_slabs_shrink(c, node, 0);
    qport_irq_restore(irq);
    if (c->flags & QUIRE_CACHE_RCU)
        qi_late_flush(); /* its slabs name it */
    quire_cache_free(&cache_cache, c);
    return QUIRE_OK;
}

/* ---- shrink ---- */

size_t quire_cache_shrink(struct quire_cache *c)
{
    unsigned long irq;
    unsigned self, next_cpu;
    size_t frames = 0;

    qi_quarantine_flush(c);
    irq = qport_irq_save();
    self = (unsigned)qi_context();
    next_cpu = self - self % QI_CPU_CONTEXTS + QI_CPU_CONTEXTS;
    for (unsigned i = 0; i < QI_CONTEXTS; i++) {
        struct qi_cache_cpu *cc = qi_load_acquire(&c->cpu[i]);

        if (i >= self && i < next_cpu)
            qi_drain_cpu(c, cc); /* those above are at rest as long as interrupts are off */
        else if (cc != &qi_no_cpu)
            qi_store_relaxed(&cc->drain, 1u);
    }
    for (unsigned node = 0; node < quire_nodes(); node++) {
        qi_drain_barn(c, node);
        frames += qi_slabs_shrink(c, node, 0);
    }
    qport_irq_restore(irq);
    return frames;
}

/* Call one for every cache, those for headers and sheaves last: the others free into them. */
static size_t each_cache(size_t (*one)(struct quire_cache *))
{
    struct quire_cache *c;
    size_t frames = 0;

    qi_rwsem_read_lock(&qi_caches_lock);
    for (int internal = 0; internal < 2; internal++)
        qi_list_for_each (c, &qi_caches, link) {
            if (c->internal == internal)
                frames += one(c);
        }
    qi_rwsem_read_unlock(&qi_caches_lock);
    return frames;
}

static size_t drain_and_shrink(struct quire_cache *c)
{
    unsigned long irq = qport_irq_save();
    size_t frames = 0;

    drain_quiet(c);
    free_cpus(c);
    for (unsigned node = 0; node < quire_nodes(); node++)
        frames += qi_slabs_shrink(c, node, 0);
    qport_irq_restore(irq);
    return frames;
}

static size_t drain_here(struct quire_cache *c)
{
    unsigned long irq = qport_irq_save();

    for (unsigned i = 0; i < QI_CPU_CONTEXTS; i++)
        qi_drain_cpu(c, c->cpu[qi_context() + i]);
    qport_irq_restore(irq);
    return 0;
}

void quire_heap_drain_local(void) { each_cache(drain_here); }

size_t quire_heap_shrink(void)
{
    qi_late_flush();
    qi_quarantine_flush(NULL);
    return each_cache(quire_cache_shrink) + qi_runs_shrink();
}

size_t quire_heap_drain(void)
{
    size_t frames;

    qi_late_flush();
    qi_quarantine_flush(NULL);
    frames = each_cache(drain_and_shrink) + qi_runs_shrink();
    qi_late_flush();
    return frames;
}

/* ---- allocations made to fail ---- */

void quire_heap_fail_after(int64_t n)
{
    QI_CHECK(n == -1 || n >= 1, "heap: fail_after(%ld)", (long)n);
    qi_rwsem_write_lock(&qi_caches_lock);
    qi_store_relaxed(&fail_countdown, n < 0 ? 0 : n);
    if (n < 0)
        qi_caches_clear_slow(QI_SLOW_FAILING);
    else
        qi_caches_set_slow(QI_SLOW_FAILING);
    qi_rwsem_write_unlock(&qi_caches_lock);
}

bool quire_heap_fail_armed(void) { return qi_load_relaxed(&fail_countdown) > 0; }

bool qi_heap_fail_now(void)
{
    int64_t n = qi_load_relaxed(&fail_countdown);

    while (n > 0 && !qi_cas_relaxed(&fail_countdown, &n, n - 1)) {
    }
    return n == 1;
}
