/*
 * ports/hosted/high.c - memory that the direct map does not reach, when the library is built so
 * (QUIRE_DIRECT_LIMIT).  It is a file in memory; at its direct addresses nothing can be read or written.
 */
#include "hosted.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <quire/port.h>

unsigned hosted_frames_mapped;

#if QUIRE_DIRECT_LIMIT

static int memory = -1;
static char *slots; /* those that all CPUs share */
unsigned hosted_kmap_flushes;

void hosted_high_start(uint64_t span)
{
    if (memory >= 0)
        close(memory);
    memory = memfd_create("high memory", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, (off_t)span)) {
        perror("hosted: high memory");
        abort();
    }
    if (slots)
        munmap(slots, QUIRE_KMAP_SLOTS * QUIRE_PAGE_SIZE);
    slots = mmap(NULL, QUIRE_KMAP_SLOTS * QUIRE_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
                 -1, 0);
    if (slots == MAP_FAILED) {
        perror("hosted: slots for high memory");
        abort();
    }
    hosted_kmap_flushes = 0;
    if (span > QUIRE_DIRECT_LIMIT)
        mprotect((void *)(hosted_direct_base + QUIRE_DIRECT_LIMIT), span - QUIRE_DIRECT_LIMIT,
                 PROT_NONE);
}

void *qport_frame_map(q_pa frame)
{
    void *at =
        mmap(NULL, QUIRE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, (off_t)frame.v);

    if (at == MAP_FAILED) {
        perror("hosted: a frame of high memory");
        abort();
    }
    hosted_frames_mapped++;
    return at;
}

void qport_frame_unmap(void *at)
{
    munmap(at, QUIRE_PAGE_SIZE);
    hosted_frames_mapped--;
}

static void *slot_map(unsigned slot, int prot, int flags, int fd, off_t from)
{
    void *at =
        mmap(slots + slot * QUIRE_PAGE_SIZE, QUIRE_PAGE_SIZE, prot, flags | MAP_FIXED, fd, from);

    if (at == MAP_FAILED) {
        perror("hosted: a slot for high memory");
        abort();
    }
    return at;
}

void *qport_kmap_set(unsigned slot, q_pa frame)
{
    return slot_map(slot, PROT_READ | PROT_WRITE, MAP_SHARED, memory, (off_t)frame.v);
}

void qport_kmap_clear(unsigned slot)
{
    slot_map(slot, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void qport_kmap_flush(void) { hosted_kmap_flushes++; }

#endif
