/*
 * nodes.c - policies, tunables, and a device's memory, while others allocate and free.
 *
 * A policy is made, used and dropped by one task; what comes must be of its nodes.  Tunables change for
 * all, within what leaves the oracle of memory that runs short its meaning.  The device has a pageblock
 * beyond the machine's memory: for each of a few of its pages the world knows who has it, its driver is told
 * of every last reference, and it comes and goes as a whole.
 */
#include <quire/policy.h>
#include <quire/pressure.h>

#include "world.h"

enum { DEVICE_PAGES = 8, MAP_FRAMES = 4 }; /* behind those that may hold struct pages */

static struct {
    unsigned users[DEVICE_PAGES]; /* tasks that took the page and have not begun to put it */
    uint64_t puts, released;
    uint64_t pressure;
} device;

static q_pa device_base(void)
{
    return Q_PA((sim_machine.memory + QUIRE_HUGE_SIZE - 1) & ~(QUIRE_HUGE_SIZE - 1));
}

/* ---- Policies ---- */

static void check_node(const struct quire_policy *p, const struct quire_page *page)
{
    if (p->mode == QUIRE_POLICY_BIND && !(p->nodes >> quire_page_node(page) & 1))
        sim_fail("content", "a frame of node %u where only nodes %#llx may serve",
                 quire_page_node(page), (unsigned long long)p->nodes);
}

static void policy_bulk(struct worker *w, const struct quire_policy *p, uint64_t index)
{
    struct quire_page *pages[40];
    size_t n = 1 + worker_random(w) % 40, got;

    got = quire_policy_alloc_bulk(p, n, pages, QUIRE_GFP_USER, index);
    if (got < n && p->mode != QUIRE_POLICY_BIND)
        must_be_short(w, "policy bulk");
    for (size_t i = 0; i < got; i++)
        check_node(p, pages[i]);
    quire_page_free_bulk(got, pages);
}

void policy_alloc(struct worker *w, struct held *h, unsigned order, unsigned kind)
{
    uint64_t all = ~0ull >> (64 - quire_nodes()), index = worker_random(w) % 1000;
    enum quire_policy_mode mode = (enum quire_policy_mode)(kind % QUIRE_POLICY_MODES);
    uint64_t nodes = mode < QUIRE_POLICY_BIND ? 0 : 1 + worker_random(w) % all;
    struct quire_policy p, q;
    struct quire_page *page;
    enum quire_status st = quire_policy_init(&p, mode, 0, nodes, all);

    if (st != QUIRE_OK || quire_policy_rebind(&p, all, &q) != QUIRE_OK ||
        !quire_policy_equal(&p, &q))
        sim_fail("status", "policy %u of nodes %#llx: %s", mode, (unsigned long long)nodes,
                 quire_status_name(st));
    policy_bulk(w, &p, index);
    page = quire_policy_alloc(&p, order, QUIRE_GFP_USER, index);
    if (page) {
        check_node(&p, page);
        memory_hold(w, h, page, order);
    } else if (order == 0 && mode != QUIRE_POLICY_BIND) {
        must_be_short(w, "policy");
    }
    if (!quire_policy_put(&p))
        sim_fail("status", "the only holder of a policy was not the last");
}

/* ---- Tunables ---- */

void tune(struct worker *w)
{
    static const uint32_t ratios[] = {0, 32, 256};
    struct quire_frame_tunables t, after;
    enum quire_status st;

    quire_frame_tunables_get(&t);
    t.min_free_kbytes = worker_random(w) % 4 ? quire_managed_pages() * 4 / 64 : 0;
    t.watermark_scale_factor = 1 + (uint32_t)(worker_random(w) % 100);
    t.watermark_boost_factor = worker_random(w) % 3 ? 15000 : 0;
    t.boost_half_life_ms = 1 + (uint32_t)(worker_random(w) % 10);
    t.lowmem_reserve_ratio[QUIRE_ZONE_DMA] = ratios[worker_random(w) % 3];
    t.atomic_reserve_kbytes = (uint32_t)(worker_random(w) % 257);
    t.reclaim_mode = (uint32_t)(worker_random(w) % QUIRE_RECLAIM_MODES);
    t.remote_penalty = (uint32_t)(worker_random(w) % 50);
    t.interleave_threshold = worker_random(w) % 2 ? 1u << (12 + worker_random(w) % 10) : 0;
    world.hog_epoch++; /* marks have moved: who fails now may say so */
    st = quire_frame_tunables_set(&t);
    quire_frame_tunables_get(&after);
    if (st != QUIRE_OK || after.reclaim_mode >= QUIRE_RECLAIM_MODES)
        sim_fail("status", "tunables: %s", quire_status_name(st));
    quire_frame_reclaimed((unsigned)(worker_random(w) % quire_nodes()));
}

static void on_pressure(unsigned node, enum quire_zone_type zone, enum quire_pressure why)
{
    if (node >= quire_nodes() || zone >= QUIRE_ZONE_DEVICE || why > QUIRE_PRESSURE_FRAGMENTED)
        sim_fail("content", "pressure %u in zone %u of node %u", why, zone, node);
    device.pressure++;
}

/* A reclaimer that finds nothing, but needs memory for that. */
static uint64_t on_reclaim(unsigned node, unsigned order, quire_gfp gfp, unsigned mode)
{
    struct quire_page *p = quire_page_alloc(0, QUIRE_GFP_MEMALLOC, node);

    if (gfp & (QUIRE_GFP_ATOMIC | QUIRE_GFP_MEMALLOC) || order > QUIRE_MAX_ORDER ||
        mode == QUIRE_RECLAIM_OFF)
        sim_fail("content", "reclaim for order %u gfp %#x mode %u", order, gfp, mode);
    if (p)
        quire_page_free(p, 0);
    return p != NULL;
}

/* ---- The device ---- */

static void on_release(struct quire_page *page, void *context)
{
    if (context != &device || quire_page_zone(page) != QUIRE_ZONE_DEVICE)
        sim_fail("content", "pfn %#llx of zone %u was released to the device",
                 (unsigned long long)quire_pfn_of_page(page).v, quire_page_zone(page));
    device.released++;
}

void device_page(unsigned at)
{
    unsigned i = at % DEVICE_PAGES;
    q_pfn pfn = Q_PFN(quire_pfn_of_pa(device_base()).v + MAP_FRAMES + i);
    struct quire_page *p = quire_device_page_take(pfn);

    if (!p)
        return; /* another task has it, or it is not there */
    if (device.users[i]++)
        sim_fail("content", "page %u of the device was taken twice", i);
    if (!quire_pfn_valid(pfn) || !(quire_page_flags(pfn) & QUIRE_PG_RESERVED))
        sim_fail("content", "page %u of the device is held: flags %#x", i, quire_page_flags(pfn));
    quire_page_get(p);
    quire_page_put(p);
    device.users[i]--;
    device.puts++;
    if (at & DEVICE_PAGES)
        quire_page_put(p);
    else
        quire_page_free(p, 0);
}

static unsigned users(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < DEVICE_PAGES; i++)
        n += device.users[i];
    return n;
}

/* The frames that hold struct pages are nobody's to take, as long as they do. */
static void check_map_inside(uint64_t epoch)
{
    for (unsigned i = 0; i < MAP_FRAMES; i++) {
        q_pfn pfn = Q_PFN(quire_pfn_of_pa(device_base()).v + i);
        struct quire_page *p = quire_device_page_take(pfn);

        if (p && world.moves == 1 && world.move_epoch == epoch)
            sim_fail("content", "frame %u of the device, which holds struct pages, was taken", i);
        if (p)
            device.puts++, quire_page_put(p);
    }
}

void device_plug(unsigned kind)
{
    const struct quire_device_memory d = {.base = device_base(),
                                          .len = QUIRE_HUGE_SIZE,
                                          .node = kind % quire_nodes(),
                                          .released = on_release,
                                          .context = &device,
                                          .map = kind & 2 ? QUIRE_DEVICE_MAP_INSIDE
                                                          : QUIRE_DEVICE_MAP_MEMORY};
    enum quire_status st;

    world.moves++; /* for one at a time comes or goes */
    world.move_epoch++;
    if (kind & 4) {
        st = quire_device_memory_add(&d);
        if (st == QUIRE_OK && d.map == QUIRE_DEVICE_MAP_INSIDE)
            check_map_inside(world.move_epoch);
        if (st != QUIRE_OK && st != QUIRE_EXISTS && st != QUIRE_BUSY)
            sim_fail("status", "device memory comes: %s", quire_status_name(st));
    } else {
        unsigned before = users();

        st = quire_device_memory_remove(d.base, d.len);
        if (st == QUIRE_OK && before && users() == before && before == DEVICE_PAGES)
            sim_fail("content", "device memory went while all of it was held");
        if (st != QUIRE_OK && st != QUIRE_NOT_FOUND && st != QUIRE_BUSY)
            sim_fail("status", "device memory goes: %s", quire_status_name(st));
    }
    world.moves--;
    world.move_epoch++;
}

void nodes_setup(void)
{
    for (unsigned i = 0; i < DEVICE_PAGES; i++)
        device.users[i] = 0;
    device.puts = device.released = device.pressure = 0;
    quire_frame_set_pressure(on_pressure);
    quire_frame_set_reclaimer(on_reclaim);
    device_plug(4);
}

void nodes_teardown(void)
{
    enum quire_status st = quire_device_memory_remove(device_base(), QUIRE_HUGE_SIZE);

    if (st != QUIRE_OK && st != QUIRE_NOT_FOUND)
        sim_fail("status", "device memory goes at the end: %s", quire_status_name(st));
    if (device.puts != device.released)
        sim_fail("content", "%llu last references of a device's pages, its driver heard of %llu",
                 (unsigned long long)device.puts, (unsigned long long)device.released);
}
