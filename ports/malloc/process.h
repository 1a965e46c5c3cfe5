/*
 * ports/malloc/process.h - what the files of libquire-malloc.so share.
 */
#ifndef QUIRE_MALLOC_H
#define QUIRE_MALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/heap.h>

/* Everything is hidden but the functions that replace the C library's. */
#define MALLOC_PUBLIC      __attribute__((visibility("default")))
#define MALLOC_LIKELY(c)   __builtin_expect(!!(c), 1)
#define MALLOC_UNLIKELY(c) __builtin_expect(!!(c), 0)

/* Physical addresses begin here, so that all memory is of one zone. */
#define MALLOC_PA_START (4ull << 30)

/* A lock of the port: a word of 0 free, 1 taken, 2 somebody waits (Drepper, "Futexes Are Tricky"). */
struct malloc_lock {
    uint32_t word;
};
void malloc_lock(struct malloc_lock *l);
void malloc_unlock(struct malloc_lock *l);

/* ---- machine.c ---- */

/* Reserve memory and start the library on it; once.  False: no memory. */
bool malloc_machine_start(void);
/* First address behind the reserve; it begins at malloc_direct_base + MALLOC_PA_START. */
extern uintptr_t malloc_reserve_end;
static inline bool malloc_in_reserve(const void *p)
{
    uintptr_t start = malloc_direct_base + MALLOC_PA_START;

    return (uintptr_t)p - start < malloc_reserve_end - start;
}

/* ---- slot.c ---- */

extern unsigned malloc_slots; /* CPUs that the machine has */

/* Make qport_cpu() good for this thread: its own slot, or a shared one that is given back by
 * malloc_leave().  False: the machine could not be started. */
struct malloc_visit {
    struct malloc_lock *shared; /* NULL: the slot is the thread's own */
};
bool malloc_enter(struct malloc_visit *v);
void malloc_leave(struct malloc_visit *v);

/* ---- pages.c ---- */

bool malloc_pages_start(uint64_t frames);
/* Give the system the free frames that may have memory, all but keep of them; bytes given. */
size_t malloc_pages_purge(uint64_t keep);
/* A run at p that was just taken becomes zeros; what is so already is not touched. */
void malloc_pages_clear(char *p, size_t bytes);
/* Of a run that was just taken, [p, p + bytes) will not be used: give it to the system if it has memory. */
void malloc_pages_spare(char *p, size_t bytes);
extern struct malloc_lock malloc_pages_lock;
/* Frames in use; free frames that may have memory.  Good to what threads have not added yet. */
void malloc_pages_count(uint64_t *used, uint64_t *dirty);

/* ---- middle.c ---- */

/* Sizes above MALLOC_CLASS_MOST and up to MALLOC_MIDDLE_MOST, aligned to a page; freed by quire_kfree(). */
#define MALLOC_CLASS_MOST  16384u
#define MALLOC_MIDDLE_MOST 262144u
void *malloc_middle(size_t size);

/* ---- large.c ---- */

/* A mapping of its own; NULL: no memory.  align is a power of two. */
void *malloc_large(size_t size, size_t align);
/* Usable bytes of a pointer that is large.c's, else 0. */
size_t malloc_large_size(const void *p);
/* p is large.c's; the same or another address, or NULL and p stays. */
void *malloc_large_resize(void *p, size_t size);
extern struct malloc_lock malloc_large_lock;
void malloc_large_count(size_t *n, size_t *bytes);

#endif
