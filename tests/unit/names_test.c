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
    iounmap(ioremap_wc(0x90000000, 1 << 20));
    page = get_zeroed_page(GFP_KERNEL);
    assert_int_equal(*(char *)page, 0);
    free_page(page);
    free_pages(__get_free_pages(GFP_KERNEL | __GFP_NORETRY, 2), 2);
    free_page(__get_free_page(GFP_ATOMIC));
    free_page(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_driver_lives_and_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_other_names, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
