/*
 * quire/harden.h - what the heap checks beyond misuse that costs nothing to see: chosen once, before
 * quire_heap_init().  docs/design/hardening.md has what each mode catches, and what it costs.
 *
 * Whatever is off costs nothing.  Whatever is on makes every allocation and free go the slow way of slab.c
 * (but for SAMPLE, and RANDOM), so that the fast paths are the same in all configurations.
 */
#ifndef QUIRE_HARDEN_H
#define QUIRE_HARDEN_H

#include <quire/port.h>

#define QUIRE_HARDEN_ENCODE \
    0x001u /* free pointers are kept encoded, and checked when they are decoded */
#define QUIRE_HARDEN_RANDOM 0x002u /* the objects of a slab are handed out in random order */
#define QUIRE_HARDEN_REDZONE \
    0x004u /* guard bytes before and after each object, checked at its free */
#define QUIRE_HARDEN_POISON \
    0x008u /* free objects are filled, and looked at before they are reused */
#define QUIRE_HARDEN_ZERO_ALLOC 0x010u /* all memory comes zeroed */
#define QUIRE_HARDEN_ZERO_FREE  0x020u /* freed memory is cleared at once */
#define QUIRE_HARDEN_QUARANTINE \
    0x040u /* a freed object waits before it is reused; filled, and looked at */
#define QUIRE_HARDEN_SAMPLE 0x080u /* now and then an object lies between two pages that fault */
#define QUIRE_HEAP_TRACK    0x100u /* who allocated each object, and who freed it */
#define QUIRE_HEAP_LEAKSCAN 0x200u /* quire_heap_scan() can look for lost objects */
#define QUIRE_HEAP_FLAGS    0x3ffu

/* The bundle of config.h's QUIRE_MM_HARDENING, "hardening" among the names. */
#define QUIRE_HARDEN_BUNDLE (QUIRE_HARDEN_REDZONE | QUIRE_HARDEN_POISON)

struct quire_heap_options {
    uint32_t flags;           /* QUIRE_HARDEN_*, QUIRE_HEAP_* */
    uint32_t sample_interval; /* SAMPLE: one allocation of so many; 0: 1000 */
    uint32_t sample_ms; /* SAMPLE: instead, one in so many milliseconds, see quire_heap_sample() */
    uint32_t sample_objects; /* SAMPLE: how many such objects there may be at a time; 0: 255 */
    size_t quarantine_bytes; /* QUARANTINE: at most so much waits; 0: 1 MiB */
    /* SAMPLE: 2 * sample_objects + 1 pages of the direct map, which QPORT_GUARD_PAGE can close one by one; NULL:
     * it can close any, and they are taken from the frame allocator. */
    void *sample_pool;
    /* Random bits from a good source: what is encoded and shuffled is as secret as they are.  0: of the
     * clock, which an attacker may guess. */
    uint64_t seed;
};

/* What config.h says. */
#define QUIRE_HEAP_DEFAULTS                                   \
    {                                                         \
        .flags = QUIRE_MM_HARDENING ? QUIRE_HARDEN_BUNDLE : 0 \
    }

/* What quire_heap_init() is to do, the next time and any later one; NULL: what config.h says.  INVALID:
 * a flag that does not exist; nothing changes.  Boot. */
enum quire_status quire_heap_configure(const struct quire_heap_options *options);

/*
 * Names separated by commas, as on a command line, into what they mean: encode, random, redzone, poison,
 * zero (or zero_alloc, zero_free alone), quarantine or quarantine=BYTES, sample or sample=INTERVAL or
 * sample=MILLISECONDSms, track, leakscan; hardening: redzone and poison; full: all but track and leakscan; none.  A number may end in K, M or
 * G.  INVALID: a word that is none of these; *out is then as before, and *wrong, unless NULL, points to the
 * word in text.  Any context.
 */
enum quire_status quire_heap_options_parse(const char *text, struct quire_heap_options *out,
                                           const char **wrong);

/* What was chosen for this heap, with the numbers that 0 stood for.  The seed is not shown.  Any. */
struct quire_heap_options quire_heap_options(void);

/* With sample_ms: the next allocation is a sampled one, if that many milliseconds have passed since the last
 * was asked for.  From a timer of the embedder's; without it nothing is sampled.  Task. */
void quire_heap_sample(void);

/* Pages for sampled objects, by what they are now.  Of one that is closing, the freeing CPU's accesses fault, those of
 * others as soon as they have taken the interrupt that tells them; of one that is closed, all.  Any. */
struct quire_sample_stats {
    uint32_t objects, out, closing, closed; /* the rest were never used */
    uint64_t sampled;                       /* allocations */
};
void quire_sample_stats(struct quire_sample_stats *out);

/*
 * The port's page-fault handler asks about an address outside any mapping, in the kernel's half: true if it
 * belongs to sampled objects; then the log has said which object, who allocated and who freed it, and the
 * caller stops whoever ran, for the access cannot be let through.  Any context.
 */
bool quire_heap_fault(const void *addr, bool write);

#endif
