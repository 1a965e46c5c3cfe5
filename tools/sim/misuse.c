/*
 * misuse.c - one planted misuse of the heap a run: does the library name that object, and what was done to it?
 *
 * A program has at most one operation that misuses the heap on purpose (more do nothing).  It is only done where
 * docs/design/hardening.md promises that it is seen, with the modes that this machine has:
 *
 *   overflow, underflow   red zones       when the object is freed
 *   late_write            poison, or quarantine   when it is handed out again, leaves quarantine, or its slab goes
 *   twice                 any             at once: another task frees it again, as long as nobody else has its memory
 *   middle, foreign, frame, wrong_cache   any     at once
 *
 * What is not seen at once goes on beside the others: whichever task comes by frees the overrun object, and whoever
 * it falls to allocates or shrinks.  The run ends where the library says something: as reported if that is what
 * was planted, of that very object and byte, else as the finding misreport.  A run that comes to its end, or past
 * the call that should have panicked, has the finding unnoticed.
 *
 * From the moment of the misuse the program is wrong, so that races and uses of what is free are no findings (what is freed
 * twice is a race by itself).  If somebody is given the memory between the two frees of one object, the second is that
 * of a live object, of which nothing is promised: then it is not done, or the run ends there, without a word.
 */
#include "args.h"
#include "held.h"

#include <quire/harden.h>

#include <stdlib.h>
#include <string.h>

enum { SMALL = 8192, PHRASES = 3, MOST_TAKEN = 20000 };

enum stage {
    NOTHING_YET,
    WAITING, /* done, and to be seen later */
    FREEING, /* for the first time, properly */
    ONCE,    /* freed once, properly; another task is to do it again */
    AGAIN,   /* that, or the free that must fail, goes on */
    OVER     /* there will be none */
};

static struct misuse {
    enum stage stage;
    enum sim_misuse kind;
    char *object;
    unsigned cache; /* CACHES: of kmalloc */
    unsigned bytes;
    long offset; /* of the byte that was written */
    const struct worker *actor;
    const void *pointer; /* what is freed wrongly */
    bool logged;         /* a line of the log has named the object */
} planted;

/* ---- what the library must say ---- */

/* What it may say of a kind, with the pointer that it is about. */
static const char *const phrases[][PHRASES] = {
    [SIM_MISUSE_OVERFLOW] = {"red zone of object %p "},
    [SIM_MISUSE_UNDERFLOW] = {"red zone of object %p "},
    [SIM_MISUSE_LATE_WRITE] = {"object %p was written after its free"},
    [SIM_MISUSE_TWICE] = {"double free of object %p ", "object %p was freed twice",
                          "pointer %p freed twice or foreign"},
    [SIM_MISUSE_MIDDLE] = {"pointer %p is not the start of "},
    [SIM_MISUSE_FOREIGN] = {"foreign pointer %p: "},
    [SIM_MISUSE_FRAME] = {"foreign pointer %p: ", "pointer %p freed twice or foreign"},
    [SIM_MISUSE_WRONG_CACHE] = {"object %p belongs to cache "},
};

static bool writes(enum sim_misuse kind)
{
    return kind == SIM_MISUSE_OVERFLOW || kind == SIM_MISUSE_UNDERFLOW ||
           kind == SIM_MISUSE_LATE_WRITE;
}

/* The text names the pointer, and the byte if one was written. */
static bool is_right(const char *text)
{
    char want[96];
    bool named = false;

    for (unsigned i = 0; i < PHRASES && phrases[planted.kind][i] && !named; i++) {
        snprintf(want, sizeof want, phrases[planted.kind][i], planted.pointer); /* NOLINT */
        named = strstr(text, want);
    }
    if (!writes(planted.kind))
        return named;
    snprintf(want, sizeof want,
             planted.kind == SIM_MISUSE_LATE_WRITE ? ": byte %ld is " : ": offset %ld is ",
             planted.offset);
    return named && strstr(text, want);
}

static bool is_done(void) { return planted.stage == WAITING || planted.stage == AGAIN; }

/* A byte was written, and nothing has been said of it. */
static bool is_damage(void) { return is_done() && writes(planted.kind); }

static _Noreturn void reported(void)
{
    world.out->reported = true;
    sim_run_ends();
}

static const char *kind_name(void) { return sim_misuse_words[planted.kind].name; }

/* The library stops. */
static void on_panic(const char *text)
{
    if (!is_done())
        return;
    if (!is_right(text))
        sim_fail("misreport", "%s of %p (object %p, %u bytes, offset %ld) is called: %s",
                 kind_name(), planted.pointer, (void *)planted.object, planted.bytes,
                 planted.offset, text);
    reported();
}

static void on_log(const char *line)
{
    char want[48];

    if (!is_damage())
        return;
    snprintf(want, sizeof want, "object %p ", (void *)planted.object);
    planted.logged |= strstr(line, want) != NULL;
}

void misuse_seen_damage(void)
{
    if (!is_damage())
        return;
    if (!planted.logged)
        sim_fail("misreport", "%s of object %p: damage is found, and not of it: %s", kind_name(),
                 (void *)planted.object, sim_last_error());
    reported();
}

static _Noreturn void unnoticed(const char *when)
{
    sim_fail("unnoticed", "%s of %p (object %p, %u bytes, offset %ld) passes %s", kind_name(),
             planted.pointer, (void *)planted.object, planted.bytes, planted.offset, when);
}

/* ---- who has the memory ---- */

static bool covers(uintptr_t from, uint64_t bytes)
{
    return (uintptr_t)planted.object - from < bytes;
}

/* The memory is somebody else's now, or nobody knows whose. */
static void lost(void)
{
    if (planted.stage == AGAIN)
        sim_run_ends();
    planted.stage = OVER;
}

static void on_event(enum sim_event_kind kind, const void *ptr, uint64_t n)
{
    uint64_t pfn = ((uintptr_t)ptr - SIM_VMEMMAP_BASE) / sizeof(struct quire_page);

    if (planted.stage != FREEING && planted.stage != ONCE && planted.stage != AGAIN)
        return;
    switch (kind) {
    case SIM_EVENT_OBJECT_ALLOC:
        if (covers((uintptr_t)ptr, n))
            lost();
        break;
    case SIM_EVENT_FRAME_ALLOC:
    case SIM_EVENT_FRAME_FREE: /* with all that it was: its struct page may go */
        if (covers(SIM_DIRECT_BASE + (pfn << QUIRE_PAGE_SHIFT), QUIRE_PAGE_SIZE << n))
            lost();
        break;
    default: break;
    }
}

/* ---- the act ---- */

/* Objects of this machine's caches have these. */
static bool has(uint32_t mode) { return world.program->machine.heap & mode; }

static bool is_promised(enum sim_misuse kind, unsigned cache)
{
    bool run = cache == CACHES && planted.bytes > SMALL;

    switch (kind) {
    case SIM_MISUSE_OVERFLOW: return has(QUIRE_HARDEN_REDZONE) || heap_is_guarded(cache);
    case SIM_MISUSE_UNDERFLOW: return !run && (has(QUIRE_HARDEN_REDZONE) || heap_is_guarded(cache));
    case SIM_MISUSE_LATE_WRITE:
        return !run &&
               (has(QUIRE_HARDEN_POISON | QUIRE_HARDEN_QUARANTINE) || heap_is_guarded(cache));
    case SIM_MISUSE_WRONG_CACHE: return !run;
    default: return true;
    }
}

static void give(unsigned cache, void *p)
{
    if (cache == CACHES)
        quire_kfree(p);
    else
        quire_cache_free(world.caches[cache], p);
}

static void must_panic(unsigned cache, const void *pointer)
{
    planted.pointer = pointer;
    planted.stage = AGAIN;
    monitor_blind();
    give(cache, (void *)pointer);
    unnoticed("the call");
}

static void write_byte(long offset)
{
    planted.pointer = planted.object;
    planted.offset = offset;
    planted.stage = WAITING;
    monitor_blind();
    planted.object[offset] ^= 0x55;
    monitor_release(&planted);
}

/* The first, proper free; the second or the late write is for the time after it, if the memory is nobody's then. */
static void free_once(void)
{
    planted.stage = FREEING;
    give(planted.cache, planted.object);
    if (planted.stage == FREEING)
        planted.stage = ONCE;
    monitor_release(&planted);
}

static void free_frame(void)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_KERNEL, QUIRE_NODE_ANY);

    if (page)
        must_panic(CACHES, quire_page_ptr(page));
}

static void act(unsigned at)
{
    static uint64_t elsewhere[8];

    switch (planted.kind) {
    case SIM_MISUSE_OVERFLOW: write_byte(planted.bytes); break;
    case SIM_MISUSE_UNDERFLOW: write_byte(-1); break;
    case SIM_MISUSE_LATE_WRITE:
        free_once();
        if (planted.stage == ONCE)
            write_byte(at % planted.bytes);
        break;
    case SIM_MISUSE_TWICE: free_once(); break;
    case SIM_MISUSE_MIDDLE: must_panic(planted.cache, planted.object + 1); break;
    case SIM_MISUSE_FOREIGN: must_panic(CACHES, elsewhere); break;
    case SIM_MISUSE_FRAME: free_frame(); break;
    case SIM_MISUSE_WRONG_CACHE: must_panic((planted.cache + 1) % CACHES, planted.object); break;
    }
}

static void plant(struct worker *w, enum sim_misuse kind, unsigned bytes, unsigned at)
{
    unsigned cache = at % (CACHES + 1);

    if (planted.stage != NOTHING_YET)
        return;
    planted.bytes = cache == CACHES ? bytes : heap_object_bytes(cache);
    if (!is_promised(kind, cache))
        return;
    planted.object = cache == CACHES ? quire_kmalloc(bytes, QUIRE_GFP_KERNEL)
                                     : quire_cache_alloc(world.caches[cache], QUIRE_GFP_KERNEL);
    if (!planted.object)
        return;
    planted.kind = kind;
    planted.cache = cache;
    planted.actor = w;
    memory_fill(planted.object, planted.bytes, memory_pattern(w));
    act(at);
}

/* ---- what comes of it ---- */

/* What is overrun is freed; what is freed is freed again. */
static void go_on(void)
{
    monitor_acquire(&planted); /* whoever gives it to us does so in order */
    if (planted.stage == ONCE)
        must_panic(planted.cache, planted.object);
    if (planted.stage == WAITING && planted.kind != SIM_MISUSE_LATE_WRITE) {
        planted.stage = AGAIN; /* no other task is to do it too */
        give(planted.cache, planted.object);
        unnoticed("its free");
    }
}

void misuse_go_on(struct worker *w)
{
    if (w == planted.actor)
        return;
    if (planted.stage == ONCE || (planted.stage == WAITING && worker_random(w) % 4 == 0))
        go_on();
}

/* All of the node that are free, until it is that one. */
static void take_all(void)
{
    unsigned node = quire_page_node(quire_page_of_ptr(planted.object));

    for (unsigned i = 0; i < MOST_TAKEN; i++) {
        void *p =
            planted.cache == CACHES
                ? quire_kmalloc_node(planted.bytes, QUIRE_GFP_THISNODE, node)
                : quire_cache_alloc_node(world.caches[planted.cache], QUIRE_GFP_THISNODE, node);

        if (!p || p == planted.object)
            return;
    }
}

void misuse_settle(void)
{
    go_on();
    if (planted.stage != WAITING)
        return;
    quire_heap_drain();
    take_all();
    unnoticed("until it is handed out again");
}

bool do_misuse_op(struct worker *w, const struct sim_op *op)
{
    if (op->kind != SIM_OP_misuse)
        return false;
    plant(w, op->arg[0], op->arg[1], op->arg[2]);
    return true;
}

void misuse_setup(void)
{
    planted = (struct misuse){.stage = NOTHING_YET};
    sim_on_trouble(on_event, on_log, on_panic);
}
