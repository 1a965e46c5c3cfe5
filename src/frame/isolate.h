/*
 * frame/isolate.h - ranges of pageblocks that are kept apart, private to src/frame.  The theory is in
 * isolate.c.
 */
#ifndef QI_FRAME_ISOLATE_H
#define QI_FRAME_ISOLATE_H

#include "zone.h"

/* The pageblocks with the frames [start, end): each is isolated by the caller, or none.  INVALID: one
 * is not managed; BUSY: somebody else has isolated one.  Any context. */
enum quire_status qi_isolate_range(uint64_t start, uint64_t end);
/* The same range again: what is free goes back to the lists.  Any context. */
void qi_isolate_undo(uint64_t start, uint64_t end);

/* The isolated block of this frame is of that type from now on. */
void qi_isolated_set_type(uint64_t pfn, enum quire_migrate_type type);
/* The type of a frame's block; ISOLATE also where there is no such frame. */
enum quire_migrate_type qi_frame_type(uint64_t pfn);

/* What the frames of a range are that are not free in a bitmap. */
struct qi_range_census {
    uint64_t used;      /* somebody holds them */
    uint64_t fixed;     /* of these, of a kind that is never moved */
    uint64_t cached;    /* in the stack of a CPU */
    uint64_t bad;       /* withheld */
    uint64_t other;     /* reserved, off line, holes */
    uint64_t last;      /* the last frame that is fixed, bad or other */
    uint64_t last_used; /* ... or used */
};
/* A snapshot; exact where the range is isolated and nobody holds anything of it.  Any context. */
void qi_range_look(uint64_t start, uint64_t end, struct qi_range_census *out);
/* Until all frames of an isolated range are free in their bitmaps, drain and move.  BUSY: something
 * stays.  Task context; the mover may sleep. */
enum quire_status qi_range_empty(uint64_t start, uint64_t end);
/* A mover is there. */
bool qi_range_may_move(void);

#endif
