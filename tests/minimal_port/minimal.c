/*
 * minimal.c - frames and the heap of Quire over a static array: the worked example of
 * docs/porting.md.
 */
#include <quire/heap.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MEMORY (16u << 20)

char minimal_memory[MEMORY] __attribute__((aligned(2 << 20)));
/* struct quire_page of each frame, and room for the pageblock behind the last */
char minimal_pages[(MEMORY / 4096 + 512) * sizeof(struct quire_page)]
    __attribute__((aligned(4096)));

void qport_log(enum quire_log_level level, const char *text, size_t len)
{
    fprintf(stderr, "quire[%d]: %.*s\n", (int)level, (int)len, text);
}

_Noreturn void qport_panic(const char *text)
{
    fprintf(stderr, "quire: %s\n", text);
    exit(1);
}

enum quire_status qport_vmemmap_populate(uintptr_t from, uintptr_t to, unsigned node)
{
    (void)from, (void)node;
    return to <= (uintptr_t)minimal_pages + sizeof minimal_pages ? QUIRE_OK : QUIRE_NO_MEMORY;
}

uint64_t qport_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The heap's list of caches is under a sleeping lock.  One task never waits for itself. */
void qport_wait(const uint32_t *word, uint32_t expected)
{
    if (*word == expected)
        qport_panic("the only task waits");
}

void qport_wake(const uint32_t *word, unsigned n) { (void)word, (void)n; }

static enum quire_status start(void)
{
    static struct quire_mem_range ranges[8], reserved[8];
    static struct quire_memmap map;
    struct quire_boot boot = {.map = &map, .nodes = 1, .cpus = 1};
    enum quire_status s;

    quire_memmap_init(&map, ranges, 8, reserved, 8);
    s = quire_memmap_add(&map, Q_PA(0), MEMORY, QUIRE_MEM_USABLE);
    if (s == QUIRE_OK)
        s = quire_memmap_reserve(&map, Q_PA(0), 1 << 20, "pretended firmware", NULL);
    if (s == QUIRE_OK)
        s = quire_frame_init(&boot);
    return s == QUIRE_OK ? quire_heap_init() : s;
}

int main(void)
{
    enum quire_status s = start();
    struct quire_page *page, *block;
    uint64_t free_before;
    char *object;

    if (s != QUIRE_OK) {
        fprintf(stderr, "start: %s\n", quire_status_text(s));
        return 1;
    }
    free_before = quire_free_pages();
    printf("%llu frames free\n", (unsigned long long)free_before);
    page = quire_page_alloc(0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    block = quire_page_alloc(9, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);
    object = quire_kmalloc(100, QUIRE_GFP_KERNEL);
    if (!page || !block || !object)
        return 1;
    snprintf(object, 100, "frame %llu, 2 MiB at %#llx",
             (unsigned long long)quire_pfn_of_page(page).v,
             (unsigned long long)quire_pa_of_page(block).v);
    puts(object);
    quire_kfree(object);
    quire_page_put(block);
    quire_page_put(page);
    quire_heap_shrink();
    if (quire_frame_verify() != QUIRE_OK || quire_heap_verify() != QUIRE_OK)
        return 1;
    puts("verified");
    return 0;
}
