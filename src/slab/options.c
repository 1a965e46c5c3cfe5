/*
 * slab/options.c - which modes of hardening and observation the heap has: given before its start, by
 * number or by name.  quire/harden.h has the modes.
 */
#include "harden.h"

#define SAMPLE_INTERVAL  1000u
#define SAMPLE_OBJECTS   255u
#define QUARANTINE_BYTES (1u << 20)

static const struct quire_heap_options defaults = QUIRE_HEAP_DEFAULTS;
static struct quire_heap_options asked = QUIRE_HEAP_DEFAULTS; /* for the next heap */
struct quire_heap_options qi_heap_options;                    /* of this one */
uint64_t qi_heap_secret;

enum quire_status quire_heap_configure(const struct quire_heap_options *options)
{
    if (options && (options->flags & ~QUIRE_HEAP_FLAGS))
        return QUIRE_INVALID;
    asked = options ? *options : defaults;
    return QUIRE_OK;
}

/* Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014. */
uint64_t qi_mix(uint64_t v)
{
    v += 0x9e3779b97f4a7c15;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
    v = (v ^ v >> 27) * 0x94d049bb133111eb;
    return v ^ v >> 31;
}

void qi_options_init(void)
{
    qi_heap_options = asked;
    if (QUIRE_SHADOW) /* objects must not touch, nor be reused at once */
        qi_heap_options.flags |= QUIRE_HARDEN_REDZONE | QUIRE_HARDEN_QUARANTINE;
    if (!qi_heap_options.sample_interval)
        qi_heap_options.sample_interval = SAMPLE_INTERVAL;
    if (!qi_heap_options.sample_objects)
        qi_heap_options.sample_objects = SAMPLE_OBJECTS;
    if (!qi_heap_options.quarantine_bytes)
        qi_heap_options.quarantine_bytes = QUARANTINE_BYTES;
    qi_heap_secret = qi_mix(asked.seed ? asked.seed : qport_now_ns());
    qi_heap_options.seed = 0;
}

struct quire_heap_options quire_heap_options(void) { return qi_heap_options; }

uint32_t qi_mode_flags(bool constructed)
{
    uint32_t flags = 0;

    if (qi_heap_mode(QUIRE_HARDEN_REDZONE))
        flags |= QUIRE_CACHE_REDZONE;
    if (!constructed && qi_heap_mode(QUIRE_HARDEN_POISON))
        flags |= QUIRE_CACHE_POISON;
    if (!constructed && qi_heap_mode(QUIRE_HARDEN_ZERO_ALLOC))
        flags |= QUIRE_CACHE_ZERO;
    if (!constructed && qi_heap_mode(QUIRE_HARDEN_ZERO_FREE))
        flags |= QI_CACHE_CLEAR;
    if (qi_heap_mode(QUIRE_HARDEN_QUARANTINE))
        flags |= QI_CACHE_HOLD | (constructed ? 0 : QUIRE_CACHE_POISON);
    if (qi_heap_mode(QUIRE_HARDEN_ENCODE))
        flags |= QI_CACHE_CLOSED;
    if (qi_heap_mode(QUIRE_HARDEN_RANDOM))
        flags |= QI_CACHE_RANDOM;
    return flags;
}

/* ---- by name ---- */

static const struct {
    const char *name;
    uint32_t flags;
} names[] = {
    {"none", 0},
    {"encode", QUIRE_HARDEN_ENCODE},
    {"random", QUIRE_HARDEN_RANDOM},
    {"redzone", QUIRE_HARDEN_REDZONE},
    {"poison", QUIRE_HARDEN_POISON},
    {"zero", QUIRE_HARDEN_ZERO_ALLOC | QUIRE_HARDEN_ZERO_FREE},
    {"zero_alloc", QUIRE_HARDEN_ZERO_ALLOC},
    {"zero_free", QUIRE_HARDEN_ZERO_FREE},
    {"quarantine", QUIRE_HARDEN_QUARANTINE},
    {"sample", QUIRE_HARDEN_SAMPLE},
    {"track", QUIRE_HEAP_TRACK},
    {"leakscan", QUIRE_HEAP_LEAKSCAN},
    {"hardening", QUIRE_HARDEN_BUNDLE},
    {"full", QUIRE_HEAP_FLAGS & ~(QUIRE_HEAP_TRACK | QUIRE_HEAP_LEAKSCAN)},
};

/* The word at *text is name, up to its end, a comma or '='; *text then stands behind it. */
static bool is_word(const char **text, const char *name)
{
    const char *t = *text;

    while (*name && *t == *name) {
        t++;
        name++;
    }
    if (*name || (*t && *t != ',' && *t != '='))
        return false;
    *text = t;
    return true;
}

#define NUMBER_MAX ((uint64_t)1 << 40)

/* "=123K" or "=100ms" up to a comma or the end, 1..NUMBER_MAX; 0: it is not. */
static uint64_t parse_number(const char **text, bool *ms)
{
    const char *t = *text + 1;
    unsigned shift = 0;
    uint64_t v = 0;

    for (; *t >= '0' && *t <= '9' && v <= NUMBER_MAX; t++)
        v = v * 10 + (uint64_t)(*t - '0');
    if (*t == 'K' || *t == 'M' || *t == 'G') {
        shift = *t == 'K' ? 10 : *t == 'M' ? 20 : 30;
        t++;
    }
    *ms = !shift && t[0] == 'm' && t[1] == 's';
    if (*ms)
        t += 2;
    *text = t;
    return v <= NUMBER_MAX >> shift && (!*t || *t == ',') ? v << shift : 0;
}

static bool parse_word(const char **text, struct quire_heap_options *o)
{
    uint64_t number;
    unsigned i = 0;
    bool ms;

    while (i < QI_COUNT(names) && !is_word(text, names[i].name))
        i++;
    if (i == QI_COUNT(names))
        return false;
    o->flags |= names[i].flags;
    if (**text != '=')
        return true;
    number = parse_number(text, &ms);
    if (!number)
        return false;
    if (names[i].flags == QUIRE_HARDEN_QUARANTINE && !ms && number <= SIZE_MAX)
        o->quarantine_bytes = (size_t)number;
    else if (names[i].flags == QUIRE_HARDEN_SAMPLE && number <= UINT32_MAX)
        *(ms ? &o->sample_ms : &o->sample_interval) = (uint32_t)number;
    else
        return false;
    return true;
}

enum quire_status quire_heap_options_parse(const char *text, struct quire_heap_options *out,
                                           const char **wrong)
{
    struct quire_heap_options o = {.seed = out->seed};

    for (;;) {
        const char *word = text;

        if (!parse_word(&text, &o)) {
            if (wrong)
                *wrong = word;
            return QUIRE_INVALID;
        }
        if (!*text)
            break;
        text++;
    }
    *out = o;
    return QUIRE_OK;
}
