/*
 * arena.c - operations on an arena that all workers share: it grows by blocks of the heap and gives them back.
 */
#include <quire/arena.h>

#include "held.h"

/* Of a page, so that one is to be had as long as there is memory. */
#define STEP 4096u
#define SURE 3500u

static struct quire_arena arena;

static void *get(void *ctx, size_t *bytes)
{
    (void)ctx;
    return quire_kmalloc(*bytes, QUIRE_GFP_KERNEL);
}

static void put(void *ctx, void *memory, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    quire_kfree(memory);
}

static void alloc(struct worker *w, struct held *h, unsigned bytes, unsigned kind)
{
    size_t align = (size_t)16 << kind % 9;
    char *p = kind & 1 ? quire_arena_alloc(&arena, bytes)
                       : quire_arena_alloc_aligned(&arena, bytes, align);

    if (!p) {
        if (bytes + align <= SURE)
            must_be_short(w, "arena");
        return;
    }
    if ((uintptr_t)p % (kind & 1 ? 16 : align) || quire_arena_size(&arena, p) != bytes)
        sim_fail("content", "arena: %p for %u bytes, alignment %zu, is one of %zu", (void *)p,
                 bytes, align, quire_arena_size(&arena, p));
    memory_hold_bytes(w, h, p, bytes, HELD_PIECE);
}

static void resize(struct worker *w, struct held *h, unsigned bytes)
{
    void *p;

    memory_check(h->p[0], h->n, h->pattern, "a piece of the arena");
    p = quire_arena_realloc(&arena, h->p[0], bytes);
    if (!p) {
        if (bytes <= SURE)
            must_be_short(w, "arena_realloc");
        return;
    }
    memory_check(p, h->n < bytes ? h->n : bytes, h->pattern, "a piece of another size");
    h->p[0] = p;
    h->n = bytes;
    memory_fill(p, bytes, h->pattern);
}

void piece_give(struct held *h)
{
    memory_check(h->p[0], h->n, h->pattern, "a piece of the arena");
    quire_arena_free(&arena, h->p[0]);
}

bool do_arena_op(struct worker *w, const struct sim_op *op, struct held *h)
{
    unsigned bytes;

    if (op->kind != SIM_OP_arena)
        return false;
    bytes = op->arg[1] + 1;
    if (h->kind == HELD_NOTHING)
        alloc(w, h, bytes, op->arg[2]);
    else if (h->kind == HELD_PIECE && op->arg[2] & 1)
        resize(w, h, bytes);
    else if (h->kind == HELD_PIECE)
        memory_give_back(h);
    if (op->arg[2] == 4)
        quire_arena_trim(&arena);
    return true;
}

void arena_setup(void)
{
    static const struct quire_arena_source heap = {.get = get, .put = put, .step = STEP};

    quire_arena_init(&arena, "sim", &heap, 1);
}

enum quire_status arena_verify(void) { return quire_arena_verify(&arena); }

void arena_teardown(void)
{
    if (quire_arena_fini(&arena) != QUIRE_OK)
        sim_fail("leak", "the arena still has pieces out");
}
