/*
 * ports/malloc/large.c - what is larger than the library's largest block: a mapping of the system for each.
 *
 * A table says which addresses they are, so that a pointer that is none is told without looking at what it
 * points to: open addressing, linear probing, at most half full, under a lock.  An entry that leaves closes
 * its gap by moving those behind it (Knuth, 6.4, algorithm R), so there are no tombstones.
 */
#include <errno.h>
#include <sys/mman.h>

#include <quire/port.h>

#include "process.h"

static struct entry {
    char *p;      /* what the program has; NULL: nothing here */
    size_t bytes; /* from p to the end of the mapping, which begins at p */
} * table;
static size_t room, held, total; /* room: a power of two, or 0 */
struct malloc_lock malloc_large_lock;

static size_t rounded(size_t size) { return (size + QUIRE_PAGE_SIZE - 1) & ~(QUIRE_PAGE_SIZE - 1); }

static char *map(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* ---- The table; malloc_large_lock is held ---- */

static size_t home(const char *p)
{
    return (size_t)((uintptr_t)p / QUIRE_PAGE_SIZE * 0x9e3779b97f4a7c15ull >> 20) & (room - 1);
}

static struct entry *find(const char *p)
{
    if (!held)
        return NULL;
    for (size_t i = home(p); table[i].p; i = (i + 1) & (room - 1))
        if (table[i].p == p)
            return &table[i];
    return NULL;
}

static void put(char *p, size_t bytes)
{
    size_t i = home(p);

    while (table[i].p)
        i = (i + 1) & (room - 1);
    table[i] = (struct entry){p, bytes};
    held++;
    total += bytes;
}

static void take(struct entry *e)
{
    size_t gap = (size_t)(e - table), i = gap;

    held--;
    total -= e->bytes;
    for (;;) {
        i = (i + 1) & (room - 1);
        if (!table[i].p)
            break;
        /* may it move to the gap?  Only if its home is not between the gap and itself */
        if (((i - home(table[i].p)) & (room - 1)) >= ((i - gap) & (room - 1))) {
            table[gap] = table[i];
            gap = i;
        }
    }
    table[gap].p = NULL;
}

/* There is room for one more. */
static bool grow(void)
{
    size_t before = room;
    struct entry *old = table, *fresh;

    if (2 * (held + 1) <= room)
        return true;
    fresh = (struct entry *)map((room ? 2 * room : 256) * sizeof *table);
    if (!fresh)
        return false;
    table = fresh;
    room = room ? 2 * room : 256;
    held = total = 0;
    for (size_t i = 0; i < before; i++)
        if (old[i].p)
            put(old[i].p, old[i].bytes);
    if (old)
        munmap(old, before * sizeof *old);
    return true;
}

/* ---- Calls ---- */

static void unmap(char *p, size_t bytes)
{
    int before = errno;

    munmap(p, bytes);
    errno = before;
}

/* A mapping whose first byte is aligned; what is too much at both ends goes. */
static char *map_aligned(size_t bytes, size_t align)
{
    size_t extra = align > QUIRE_PAGE_SIZE ? align - QUIRE_PAGE_SIZE : 0, front;
    char *p;

    if (extra > PTRDIFF_MAX - bytes)
        return NULL;
    p = map(bytes + extra);
    if (!p || !extra)
        return p;
    front = -(uintptr_t)p & (align - 1);
    if (front)
        unmap(p, front);
    if (extra - front)
        unmap(p + front + bytes, extra - front);
    return p + front;
}

void *malloc_large(size_t size, size_t align)
{
    size_t bytes = rounded(size);
    char *p = map_aligned(bytes, align);
    bool known;

    if (!p)
        return NULL;
    malloc_lock(&malloc_large_lock);
    known = grow();
    if (known)
        put(p, bytes);
    malloc_unlock(&malloc_large_lock);
    if (known)
        return p;
    unmap(p, bytes);
    return NULL;
}

bool malloc_large_free(void *p)
{
    struct entry *e;
    size_t bytes = 0;

    if (malloc_in_reserve(p))
        return false;
    malloc_lock(&malloc_large_lock);
    e = find(p);
    if (e) {
        bytes = e->bytes;
        take(e);
    }
    malloc_unlock(&malloc_large_lock);
    if (bytes)
        unmap(p, bytes);
    return bytes != 0;
}

size_t malloc_large_size(const void *p)
{
    struct entry *e;
    size_t bytes = 0;

    if (malloc_in_reserve(p))
        return 0;
    malloc_lock(&malloc_large_lock);
    e = find(p);
    if (e)
        bytes = e->bytes;
    malloc_unlock(&malloc_large_lock);
    return bytes;
}

/* Under the lock all the while: nobody may be given the old address before the table forgets it. */
void *malloc_large_resize(void *p, size_t size)
{
    size_t bytes = rounded(size);
    struct entry *e;
    char *moved;

    malloc_lock(&malloc_large_lock);
    e = find(p);
    moved = mremap(p, e->bytes, bytes, MREMAP_MAYMOVE);
    if (moved != MAP_FAILED) {
        take(e);
        put(moved, bytes);
    }
    malloc_unlock(&malloc_large_lock);
    return moved == MAP_FAILED ? NULL : moved;
}

void malloc_large_count(size_t *n, size_t *bytes)
{
    malloc_lock(&malloc_large_lock);
    *n = held;
    *bytes = total;
    malloc_unlock(&malloc_large_lock);
}
