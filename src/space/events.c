/*
 * space/events.c - fault and event counters, one set a CPU.
 */
#include "space.h"

struct qi_events qi_events[QUIRE_MAX_CPUS];

static const char *const names[] = {
#define NAME(name, text) [QUIRE_EVENT_##name] = text,
    QUIRE_EVENTS(NAME)
#undef NAME
};

uint64_t quire_event_count(enum quire_event e)
{
    uint64_t sum = 0;

    if ((unsigned)e >= QUIRE_EVENT_COUNT)
        return 0;
    for (unsigned cpu = 0; cpu < QUIRE_MAX_CPUS; cpu++)
        sum += qi_load_relaxed(&qi_events[cpu].n[e]);
    return sum;
}

const char *quire_event_name(enum quire_event e)
{
    return (unsigned)e < QUIRE_EVENT_COUNT ? names[e] : "?";
}
