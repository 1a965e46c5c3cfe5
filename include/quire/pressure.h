/*
 * quire/pressure.h - what the frame allocator keeps back, from whom, and whom it tells when memory gets
 * short.
 *
 * A zone has three marks.  Requests are served while a zone on their list is above low; then whoever
 * reclaims memory is told, and they are served down to min; below that only ATOMIC ones (three eighths
 * of min) and MEMALLOC ones (everything).  Reclaim goes on until high.  Beside that:
 *
 *   - a zone keeps a part from requests that could have used a higher zone (lowmem_reserve_ratio);
 *   - memory that gets short is also about to be in pieces: a zone that falls below low sets some aside
 *     in one piece, for ATOMIC requests of more than one frame (atomic_reserve_kbytes);
 *   - a request that breaks into a pageblock of another type raises the high mark for a while (boost),
 *     so that reclaim makes room before this happens again.
 *
 * Sources.  Linux, Documentation/admin-guide/sysctl/vm.rst; mm/page_alloc.c.
 */
#ifndef QUIRE_PRESSURE_H
#define QUIRE_PRESSURE_H

#include <quire/frame.h>

enum { QUIRE_RECLAIM_OFF, QUIRE_RECLAIM_LOCAL, QUIRE_RECLAIM_WRITE, QUIRE_RECLAIM_MODES };

struct quire_frame_tunables {
    /* kept by all zones together, shared out by size; 0: from the memory there is, as Linux; at
     * most half of the managed memory */
    uint64_t min_free_kbytes;
    /* low and high lie so many 10,000ths of the zone apart, and a quarter of min at least; 1..3000 */
    uint32_t watermark_scale_factor;
    /* the boost may come to so many 10,000ths of the high mark; 0: none; up to 100,000 */
    uint32_t watermark_boost_factor;
    /* time in which a boost becomes half as much; 1..3,600,000 */
    uint32_t boost_half_life_ms;
    /* a zone of the type keeps 1/n of the memory above it from requests that could use that; 0: nothing */
    uint32_t lowmem_reserve_ratio[QUIRE_ZONE_DEVICE];
    /* set aside in one piece by a zone that is short, 1 % of it at most; 0..256 */
    uint32_t atomic_reserve_kbytes;
    /* when no zone of the request's node is above low: OFF: go to other nodes; LOCAL: try to reclaim
     * there first (quire_frame_set_reclaimer); WRITE: also what must be written back for that */
    uint32_t reclaim_mode;
    /* a zone above low serves requests from other nodes only if it is so many percent above; 0..1000 */
    uint32_t remote_penalty;
    /* from this many bytes on a request under the default policy is spread over all nodes
     * (quire/policy.h); 0: never */
    uint64_t interleave_threshold;
};

/* As they are; after quire_frame_init() they have their defaults: 0, 10, 15000, 1000 ms, 256 (NORMAL
 * 32, HIGHMEM and MOVABLE 0), 256 KiB, OFF, 20 %, 2 MiB. */
void quire_frame_tunables_get(struct quire_frame_tunables *out);
/* INVALID: something is out of range (the log names it), and nothing has changed.  Takes effect from
 * the next request on.  Task context. */
enum quire_status quire_frame_tunables_set(const struct quire_frame_tunables *in);
/* What min_free_kbytes comes to. */
uint64_t quire_min_free_kbytes(void);

enum quire_pressure {
    QUIRE_PRESSURE_LOW, /* the zone has fallen below its low mark; told again after it was above high */
    QUIRE_PRESSURE_MIN,       /* a request found no zone above low, this one first */
    QUIRE_PRESSURE_FRAGMENTED /* its high mark was raised */
};
/* Who is told; NULL, as after quire_frame_init(): nobody.  Called in the context of an allocation, without
 * a lock of this layer: must neither sleep nor allocate, but wake somebody. */
typedef void (*quire_pressure_fn)(unsigned node, enum quire_zone_type zone,
                                  enum quire_pressure why);
void quire_frame_set_pressure(quire_pressure_fn told);

/*
 * Who makes memory of the node free at once; returns how many frames.  Called where a request
 * may sleep (not ATOMIC, not MEMALLOC), and only with reclaim_mode LOCAL or WRITE, which is passed on.
 * May allocate with MEMALLOC.  NULL, as after quire_frame_init(): nobody.
 */
typedef uint64_t (*quire_reclaimer)(unsigned node, unsigned order, quire_gfp gfp, unsigned mode);
void quire_frame_set_reclaimer(quire_reclaimer reclaim);

/* The reclaimer has done what the high marks of the node asked for: their boost ends. */
void quire_frame_reclaimed(unsigned node);

#endif
