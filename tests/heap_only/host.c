/*
 * host.c - a whole host for the heap by itself: a static window whose pages an arena hands out.
 */
#include <quire/heap_only.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WINDOW (16u << 20)

static _Alignas(1 << 20) char window[WINDOW];
static _Alignas(8) char books[QUIRE_HEAP_BOOKS(WINDOW)];
static struct quire_arena pages; /* any source of pages will do; this one is at hand */

/* ---- the eight ---- */

void qport_log(enum quire_log_level level, const char *text, size_t len)
{
    fprintf(stderr, "heap[%d]: %.*s\n", (int)level, (int)len, text);
}
_Noreturn void qport_panic(const char *text)
{
    fprintf(stderr, "heap: %s\n", text);
    exit(3);
}
uint64_t qport_now_ns(void) { return (uint64_t)clock() * (1000000000u / CLOCKS_PER_SEC); }
unsigned quire_host_cpu(void) { return 0; }
unsigned long quire_host_irq_save(void) { return 0; }
void quire_host_irq_restore(unsigned long was) { (void)was; }
void *quire_host_pages_get(unsigned order)
{
    return quire_arena_alloc_aligned(&pages, 4096u << order, 4096u << order);
}
void quire_host_pages_put(void *p, unsigned order)
{
    (void)order;
    quire_arena_free(&pages, p);
}

/* ---- and a program ---- */

int main(void)
{
    enum { N = 5000 };
    static void *p[N];
    const char *culprit = "quire_heap_only_init";
    enum quire_status s;
    struct quire_arena_stats left;

    quire_arena_init(&pages, "pages", NULL, 0);
    s = quire_arena_add(&pages, window, WINDOW);
    if (s == QUIRE_OK)
        s = quire_heap_only_init(window, WINDOW, books);
    if (s == QUIRE_OK)
        s = quire_heap_only_selftest(&culprit);
    if (s != QUIRE_OK) {
        fprintf(stderr, "%s: %s\n", culprit, quire_status_text(s));
        return 1;
    }
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            size_t size = i % 100 ? i * 7 % 900 : 20000 + i;

            p[i] = quire_kzalloc(size, QUIRE_GFP_KERNEL);
            if (!p[i] || quire_ksize(p[i]) < size)
                return 1;
            p[i] = quire_krealloc(p[i], size + size / 2 + 1, QUIRE_GFP_KERNEL);
        }
        if (quire_heap_verify() != QUIRE_OK)
            return 1;
        if (!round)
            quire_arena_report(quire_heap_only_arena());
        for (size_t i = 0; i < N; i++)
            quire_kfree(p[i]);
    }
    quire_heap_drain();
    quire_arena_stats(&pages, &left);
    printf("%llu pieces out of %llu\n", (unsigned long long)left.pieces,
           (unsigned long long)left.allocs);
    return quire_heap_verify() == QUIRE_OK && left.pieces == 0 ? 0 : 1;
}
