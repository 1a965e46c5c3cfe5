/*
 * ports/malloc/middle.c - sizes above the library's classes, up to 256 KiB: caches of one object a slab.
 *
 * A run of pages would be taken from and given to the zone each time.  As objects of caches they go through a CPU's
 * sheaves, two objects each, like everything smaller: a pair costs what one of 64 bytes does.  Four classes
 * between 2^n and 2^(n + 1), whole pages.  A slab is a power of two; what of it lies behind the object is never
 * touched, and given back to the system when the slab is made, if another use has left something there.
 */
#include <quire/port.h>

#include "process.h"

#define LEAST_BITS 14u /* the first class is above 2^14 */
#define CLASSES    16u
/* The smallest order that holds an object, and few in a sheaf. */
#define ONE_A_SLAB (QUIRE_CACHE_MAX_ORDER(0) | QUIRE_CACHE_SHEAF(4))

static struct quire_cache *caches[CLASSES]; /* atomic; made at their first use */

static const char *const names[CLASSES] = {
    "malloc-20k",  "malloc-24k",  "malloc-28k",  "malloc-32k", "malloc-40k",  "malloc-48k",
    "malloc-56k",  "malloc-64k",  "malloc-80k",  "malloc-96k", "malloc-112k", "malloc-128k",
    "malloc-160k", "malloc-192k", "malloc-224k", "malloc-256k"};

static size_t size_of(unsigned class)
{
    return (size_t)(5 + class % 4) << (LEAST_BITS - 2 + class / 4);
}

/* What is behind the one object of a slab. */
static void give_rest(char *object, size_t size)
{
    const struct quire_page *head = quire_page_head(quire_page_of_ptr(object));
    size_t run = QUIRE_PAGE_SIZE << quire_page_order(head);

    if (run < 2 * size)
        malloc_pages_spare(object + size, run - size);
}

/* clang-format off */
#define MADE(class) static void made_##class(void *object) { give_rest(object, size_of(class)); }
MADE(0) MADE(1) MADE(2) MADE(4) MADE(5) MADE(6) MADE(8) MADE(9) MADE(10) MADE(12) MADE(13) MADE(14)

static void (*const made[CLASSES])(void *) = {
    made_0, made_1, made_2,  NULL, made_4,  made_5,  made_6,  NULL,
    made_8, made_9, made_10, NULL, made_12, made_13, made_14, NULL};
/* clang-format on */

static __attribute__((noinline)) struct quire_cache *make(unsigned class)
{
    struct quire_cache *c;

    malloc_lock(&malloc_large_lock);
    c = __atomic_load_n(&caches[class], __ATOMIC_ACQUIRE);
    if (!c && quire_cache_create(names[class], size_of(class), QUIRE_PAGE_SIZE, ONE_A_SLAB,
                                 made[class], &c) == QUIRE_OK)
        __atomic_store_n(&caches[class], c, __ATOMIC_RELEASE);
    malloc_unlock(&malloc_large_lock);
    return c;
}

void *malloc_middle(size_t size)
{
    unsigned bits = 63 - (unsigned)__builtin_clzl(size - 1);
    unsigned class = (bits - LEAST_BITS) * 4 + ((size - 1) >> (bits - 2) & 3);
    struct quire_cache *c = __atomic_load_n(&caches[class], __ATOMIC_ACQUIRE);

    if (MALLOC_UNLIKELY(!c) && !(c = make(class)))
        return NULL;
    return quire_cache_alloc(c, QUIRE_GFP_KERNEL);
}
