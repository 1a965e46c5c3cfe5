/*
 * buddy.h - a textbook buddy allocator, to measure against: see buddy.c.
 */
#ifndef BENCH_BUDDY_H
#define BENCH_BUDDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUDDY_MAX_ORDER 10

/* Frames 0 to frames - 1, all free; false: no memory for their pages. */
bool buddy_init(size_t frames);
void buddy_fini(void);

struct buddy_page;
/* A block of 2^order frames, or NULL; any thread. */
struct buddy_page *buddy_alloc(unsigned order);
/* n single frames under one taking of the lock; returns how many there were. */
size_t buddy_alloc_many(size_t n, struct buddy_page **out);
void buddy_free(struct buddy_page *page, unsigned order);
void buddy_free_many(size_t n, struct buddy_page **pages);

size_t buddy_frame(const struct buddy_page *page);
/* Frames in free blocks of at least this order. */
size_t buddy_free_frames(unsigned order);

#endif
