/*
 * names_test.c - quire/names_linux.h: a driver as it would be written for Linux, compiled as it stands, and
 * run.
 */
#include <kva_machine.h>

#include <quire/names_linux.h>

/* ---- a driver: requests in a cache, a table that grows, a large ring, registers ---- */

struct toy_request {
    unsigned long sector;
    char *name;
    struct toy_request *next;
};

struct toy {
    struct kmem_cache *requests;
    struct toy_request *queue;
    unsigned *table;
    size_t entries;
    void *ring, *key;
    unsigned char *bounce;
    void *registers;
};

static int toy_add(struct toy *t, unsigned long sector, const char *name)
{
    struct toy_request *r = kmem_cache_zalloc(t->requests, GFP_ATOMIC);
    unsigned *table;

    if (!r)
        return -1;
    r->name = kstrdup(name, GFP_ATOMIC);
    table = krealloc_array(t->table, t->entries + 1, sizeof *table, GFP_KERNEL | __GFP_NOWARN);
    if (!r->name || !table) {
        kfree(r->name);
        kmem_cache_free(t->requests, r);
        return -1;
    }
    t->table = table;
    t->table[t->entries++] = (unsigned)sector;
    r->sector = sector;
    r->next = t->queue;
    t->queue = r;
    return 0;
}

static void toy_remove(struct toy *t)
{
    while (t->queue) {
        struct toy_request *r = t->queue;

        t->queue = r->next;
        kfree(r->name);
        kmem_cache_free(t->requests, r);
    }
    iounmap(t->registers);
    kfree_sensitive(t->key);
    kvfree(t->ring);
    kfree(t->bounce);
    kfree(t->table);
    kmem_cache_destroy(t->requests);
    kfree(t);
}

static struct toy *toy_probe(uint64_t registers)
{
    struct toy *t = kzalloc(sizeof *t, GFP_KERNEL);

    if (!t)
        return NULL;
    t->requests = KMEM_CACHE(toy_request, SLAB_HWCACHE_ALIGN | SLAB_PANIC | SLAB_ACCOUNT);
    t->bounce = kmalloc(512, GFP_KERNEL | GFP_DMA);
    t->ring = kvcalloc(3000, 100, GFP_KERNEL);
    t->key = kmemdup("secret", 7, GFP_KERNEL);
    t->registers = ioremap(registers, 64);
    if (t->bounce && t->ring && t->key && t->registers)
        return t;
    return NULL;
}

/* ---- a driver of frames: scattered pages that it sees as one buffer, and routes that readers follow ---- */

struct route {
    unsigned target;
    struct rcu_head rcu;
};

struct nic {
    struct page **pages;
    unsigned npages;
    char *window; /* all pages, one behind the other */
    struct route *route;
    char *label;
};

static void nic_remove(struct nic *n)
{
    vunmap(n->window);
    for (unsigned i = 0; i < n->npages; i++)
        __free_page(n->pages[i]);
    kvfree(n->pages);
    kfree(n->label);
    kfree_rcu_mightsleep(n->route);
    kfree(n);
}

static int nic_reroute(struct nic *n, unsigned target)
{
    struct route *old = n->route, *fresh = kmalloc(sizeof *fresh, GFP_KERNEL);

    if (!fresh)
        return -1;
    fresh->target = target;
    n->route = fresh;
    if (old)
        kfree_rcu(old, rcu);
    return 0;
}

static struct nic *nic_probe(unsigned npages, int node)
{
    struct nic *n = kcalloc_node(1, sizeof *n, GFP_KERNEL, node);

    if (!n)
        return NULL;
    n->label = kmemdup_nul("nic0 and more", 4, GFP_KERNEL);
    n->pages = kvmalloc_array(npages, sizeof(struct page *), GFP_KERNEL | __GFP_ZERO);
    while (n->pages && n->npages < npages &&
           (n->pages[n->npages] = alloc_pages_node(node, GFP_KERNEL | __GFP_ZERO, 0)))
        n->npages++;
    if (n->npages == npages)
        n->window = vmap(n->pages, npages, VM_MAP, PAGE_KERNEL);
    if (n->window && n->label && !nic_reroute(n, 0))
        return n;
    nic_remove(n);
    return NULL;
}

/* ---- the machine ---- */

static uint64_t before;

static int setup(void **state)
{
    (void)state;
    kva_machine(64 * HEAP_MIB, 2, 1ull << 40);
    before = frames_left();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(frames_left(), before);
    heap_sound();
    hosted_fini();
    return 0;
}

/* proves: AS-36 AS-37 */
static void a_driver_lives_and_goes(void **state)
{
    struct toy *t = toy_probe(0x80000000);
    unsigned long n = 0;

    (void)state;
    assert_non_null(t);
    assert_true(virt_to_phys(t->bounce) < 16 << 20);
    assert_ptr_equal(phys_to_virt(virt_to_phys(t->bounce)), t->bounce);
    assert_true(is_vmalloc_addr(t->ring) && !is_vmalloc_addr(t->table));
    for (unsigned long i = 0; i < 1000; i++)
        assert_int_equal(toy_add(t, i * 3, i % 2 ? "odd" : "even"), 0);
    for (struct toy_request *r = t->queue; r; r = r->next, n++) {
        assert_int_equal(r->sector, (999 - n) * 3);
        assert_string_equal(r->name, n % 2 ? "even" : "odd");
        assert_int_equal((uintptr_t)r % 64, 0);
    }
    assert_int_equal(n, 1000);
    for (size_t i = 0; i < t->entries; i++)
        assert_int_equal(t->table[i], i * 3);
    toy_remove(t);
}

static void the_other_names(void **state)
{
    struct toy_request __percpu *counters;
    struct kmem_cache *c = kmem_cache_create("names", 50, 0, SLAB_RED_ZONE | SLAB_POISON, NULL);
    void *p[20], *q;
    unsigned long page;

    (void)state;
    assert_int_equal(kmem_cache_alloc_bulk(c, GFP_KERNEL, 20, p), 20);
    kmem_cache_free_bulk(c, 20, p);
    q = kmem_cache_alloc_node(c, GFP_KERNEL, 1);
    assert_int_equal(quire_page_node(quire_page_of_ptr(q)), 1);
    kmem_cache_free(c, q);
    kmem_cache_free(c, kmem_cache_alloc_node(c, GFP_KERNEL, NUMA_NO_NODE));
    assert_int_equal(kmem_cache_shrink(c), 0);
    kmem_cache_destroy(c);
    kmem_cache_destroy(NULL);
    q = kzalloc_node(300, GFP_KERNEL, 1);
    assert_int_equal(quire_page_node(quire_page_of_ptr(q)), 1);
    q = krealloc(q, 20000, GFP_KERNEL);
    assert_true(ksize(q) >= 20000 && ksize(NULL) == 0);
    kfree(q);
    kfree(kmalloc_array(3, 5, GFP_NOWAIT));
    kfree(kcalloc(3, 5, GFP_NOFS));
    kfree(kstrndup("abc", 2, GFP_USER));
    kfree(kmalloc_node(5, GFP_DMA32, NUMA_NO_NODE));
    assert_null(kmalloc_array(SIZE_MAX, 2, GFP_KERNEL));
    vfree(vzalloc(10000));
    vfree(vmalloc(10000));
    kvfree(kvrealloc(kvmalloc(100, GFP_KERNEL), 100000, GFP_KERNEL));
    kvfree_sensitive(kvzalloc(100, GFP_KERNEL), 100);
    kvfree(kvmalloc_array(10, 10, GFP_KERNEL));
    counters = alloc_percpu(struct toy_request);
    assert_non_null(counters);
    assert_ptr_equal(this_cpu_ptr(counters), per_cpu_ptr(counters, 0));
    assert_int_equal((uintptr_t)per_cpu_ptr(counters, 1) - (uintptr_t)counters, QUIRE_PERCPU_UNIT);
    free_percpu(counters);
    iounmap(ioremap_wc(0x90000000, 1 << 20));
    page = get_zeroed_page(GFP_KERNEL);
    assert_int_equal(*(char *)page, 0);
    free_page(page);
    free_pages(__get_free_pages(GFP_KERNEL | __GFP_NORETRY, 2), 2);
    free_page(__get_free_page(GFP_ATOMIC));
    free_page(0);
}

/* proves: AS-36 */
static void a_driver_of_pages_lives_and_goes(void **state)
{
    struct nic *n = nic_probe(70, 1);
    unsigned long sum = 0;

    (void)state;
    assert_non_null(n);
    assert_string_equal(n->label, "nic0");
    assert_true(is_vmalloc_addr(n->window));
    for (unsigned i = 0; i < n->npages; i++) {
        struct page *page = vmalloc_to_page(n->window + i * 4096ul + i);

        assert_ptr_equal(page, n->pages[i]);
        assert_int_equal(page_to_nid(page), 1);
        assert_int_equal(vmalloc_to_pfn(n->window + i * 4096ul), page_to_pfn(page));
        assert_ptr_equal(pfn_to_page(page_to_pfn(page)), page);
        assert_ptr_equal(virt_to_page(page_address(page)), page);
        assert_int_equal(page_to_phys(page), virt_to_phys(page_address(page)));
        *(unsigned char *)page_address(page) = (unsigned char)i;
    }
    for (unsigned i = 0; i < n->npages; i++) {
        unsigned char *at = kmap_local_page(n->pages[i]);

        sum += *at;
        kunmap_local(at);
    }
    assert_int_equal(sum, 69 * 70 / 2);
    for (unsigned i = 1; i < 500; i++)
        assert_int_equal(nic_reroute(n, i), 0);
    assert_int_equal(n->route->target, 499);
    get_page(n->pages[3]);
    put_page(n->pages[3]); /* still the driver's */
    nic_remove(n);
    assert_null(vmap(NULL, 0, VM_MAP, PAGE_KERNEL));
    vunmap(NULL);
    synchronize_rcu();
    quire_rcu_reclaim();
}

static void overflows_and_odd_sizes(void **state)
{
    static const unsigned char from[] = {1, 2, 3, 4, 5, 6};
    struct page *pages[40];
    char *p;

    (void)state;
    assert_null(kmalloc_array_node(SIZE_MAX / 2, 3, GFP_KERNEL, 0));
    assert_null(kcalloc_node(SIZE_MAX, SIZE_MAX, GFP_KERNEL, NUMA_NO_NODE));
    assert_null(vmalloc_array(SIZE_MAX / 8, 9));
    assert_null(vcalloc(SIZE_MAX, 2));
    assert_null(kmemdup_array(from, SIZE_MAX, 2, GFP_KERNEL));
    assert_null(kmemdup_nul(NULL, 3, GFP_KERNEL));
    assert_null(kmemdup_nul("a", SIZE_MAX, GFP_KERNEL));
    assert_null(alloc_pages_exact(0, GFP_KERNEL));
    assert_null(alloc_pages_exact(SIZE_MAX, GFP_KERNEL));
    assert_int_equal(get_order(1), 0);
    assert_int_equal(get_order(4096), 0);
    assert_int_equal(get_order(4097), 1);
    assert_int_equal(get_order(5 * 4096), 3);
    p = kmemdup_array(from, 3, 2, GFP_KERNEL);
    assert_memory_equal(p, from, 6);
    kfree(p);
    p = kvmemdup(from, 6, GFP_KERNEL);
    assert_memory_equal(p, from, 6);
    kvfree(p);
    p = alloc_pages_exact(5 * 4096 - 1, GFP_KERNEL | __GFP_ZERO); /* of a block of eight */
    assert_non_null(p);
    for (unsigned i = 0; i < 5 * 4096; i++)
        assert_int_equal(p[i], 0);
    assert_int_equal(frames_left(), before - 5);
    free_pages_exact(p, 5 * 4096 - 1);
    __free_pages(alloc_pages(GFP_KERNEL, 3), 3);
    for (unsigned i = 0; i < 40; i++)
        pages[i] = alloc_page(GFP_KERNEL);
    p = vm_map_ram(pages, 8, NUMA_NO_NODE);
    assert_ptr_equal(vmalloc_to_page(p + 7 * 4096), pages[7]);
    vm_unmap_ram(p, 8);
    assert_null(vm_map_ram(pages, 40, NUMA_NO_NODE));
    for (unsigned i = 0; i < 40; i++)
        put_page(pages[i]);
    vfree(vzalloc_node(9000, 1));
    vfree(__vmalloc(9000, GFP_KERNEL));
    kmem_cache_destroy(
        kmem_cache_create_usercopy("copied", 64, 0, SLAB_TYPESAFE_BY_RCU, 0, 64, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_driver_lives_and_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_other_names, setup, teardown),
        cmocka_unit_test_setup_teardown(a_driver_of_pages_lives_and_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(overflows_and_odd_sizes, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
