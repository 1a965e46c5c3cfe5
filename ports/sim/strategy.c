/*
 * strategy.c - see strategy.h.
 *
 * The default, when nothing is decided: the CPU that runs goes on while it can, then the next
 * higher number that can; nothing else happens.  Only what differs from it is recorded, so that a
 * run with few surprises has a short list, and dropping an entry from a list gives a valid one.
 */
#include "strategy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const sim_action_names[SIM_ACTIONS] = {"switch", "preempt", "interrupt", "stall",
                                                   "deliver"};

static struct sim_schedule schedule;
static unsigned ncpus;
static int64_t priority[SIM_MAX_CPUS]; /* larger runs first */
static int64_t lowest;
static uint64_t change_points[64], points;
static size_t cursor[SIM_MAX_CPUS]; /* LISTED: the first entry of a CPU that is not past */

static struct sim_decision *decisions;
static size_t ndecisions, room;
static void (*choice_watcher)(unsigned cpu, uint64_t local, uint64_t eligible);

const struct sim_decision *sim_decisions(size_t *n)
{
    *n = ndecisions;
    return decisions;
}

void sim_watch_choices(void (*watcher)(unsigned cpu, uint64_t local, uint64_t eligible))
{
    choice_watcher = watcher;
}

static void record(unsigned cpu, uint64_t local, enum sim_action action, unsigned arg)
{
    if (ndecisions == room) {
        room = room ? 2 * room : 4096;
        decisions = realloc(decisions, room * sizeof *decisions);
        if (!decisions) {
            perror("quire-sim: no memory for the schedule");
            exit(2);
        }
    }
    decisions[ndecisions++] = (struct sim_decision){
        .point = local, .cpu = cpu, .action = (uint16_t)action, .arg = (uint16_t)arg};
}

static void shuffle_priorities(void)
{
    for (unsigned i = 0; i < ncpus; i++)
        priority[i] = SIM_MAX_CPUS + i;
    for (unsigned i = ncpus; i-- > 1;) {
        unsigned k = (unsigned)sim_below(SIM_RANDOM_SCHEDULE, i + 1);
        int64_t t = priority[i];

        priority[i] = priority[k];
        priority[k] = t;
    }
    lowest = SIM_MAX_CPUS;
}

void sim_strategy_init(const struct sim_schedule *s, unsigned cpus)
{
    schedule = *s;
    ncpus = cpus;
    ndecisions = 0;
    points = 0;
    memset(cursor, 0, sizeof cursor);
    if (s->strategy == SIM_STRATEGY_PRIORITY) {
        shuffle_priorities();
        if (schedule.depth > sizeof change_points / sizeof change_points[0])
            schedule.depth = sizeof change_points / sizeof change_points[0];
        for (unsigned i = 0; i < schedule.depth; i++)
            change_points[i] = sim_below(SIM_RANDOM_SCHEDULE, s->expected_points);
    }
}

/* The entry of the list for this point and action, or NULL. */
static const struct sim_decision *listed(unsigned cpu, uint64_t local, enum sim_action action)
{
    size_t i = cursor[cpu];

    while (i < schedule.list_len && (schedule.list[i].cpu != cpu || schedule.list[i].point < local))
        i++;
    cursor[cpu] = i;
    for (; i < schedule.list_len; i++) {
        const struct sim_decision *d = &schedule.list[i];

        if (d->cpu != cpu)
            continue;
        if (d->point > local)
            return NULL;
        if (d->action == action)
            return d;
    }
    return NULL;
}

static unsigned nth_set(uint64_t mask, unsigned n)
{
    while (n--)
        mask &= mask - 1;
    return (unsigned)__builtin_ctzll(mask);
}

unsigned sim_default_cpu(unsigned cpu, uint64_t eligible)
{
    if (eligible >> cpu & 1)
        return cpu;
    for (unsigned i = 1; i < SIM_MAX_CPUS; i++)
        if (eligible >> (cpu + i) % SIM_MAX_CPUS & 1)
            return (cpu + i) % SIM_MAX_CPUS;
    return cpu;
}

static unsigned by_priority(unsigned cpu, uint64_t eligible)
{
    unsigned best = sim_default_cpu(cpu, eligible);

    for (unsigned i = 0; i < schedule.depth; i++)
        if (change_points[i] == points)
            priority[cpu] = --lowest;
    for (unsigned i = 0; i < ncpus; i++)
        if (eligible >> i & 1 && priority[i] > priority[best])
            best = i;
    return best;
}

void sim_strategy_yields(unsigned cpu) { priority[cpu] = --lowest; }

unsigned sim_choose_cpu(unsigned cpu, uint64_t local, uint64_t eligible)
{
    unsigned next = sim_default_cpu(cpu, eligible), chosen = next;
    const struct sim_decision *d;

    points++;
    if (choice_watcher)
        choice_watcher(cpu, local, eligible);
    switch (schedule.strategy) {
    case SIM_STRATEGY_RANDOM:
        if (!(eligible >> cpu & 1) || sim_one_in(SIM_RANDOM_SCHEDULE, schedule.every))
            chosen =
                nth_set(eligible, (unsigned)sim_below(SIM_RANDOM_SCHEDULE,
                                                      (unsigned)__builtin_popcountll(eligible)));
        break;
    case SIM_STRATEGY_PRIORITY: chosen = by_priority(cpu, eligible); break;
    case SIM_STRATEGY_LISTED:
        d = listed(cpu, local, SIM_SWITCH);
        if (d && d->arg < SIM_MAX_CPUS && eligible >> d->arg & 1)
            chosen = d->arg;
        break;
    }
    if (chosen != next)
        record(cpu, local, SIM_SWITCH, chosen);
    return chosen;
}

bool sim_choose(unsigned cpu, uint64_t local, enum sim_action action, unsigned every,
                unsigned choices, unsigned *arg)
{
    const struct sim_decision *d;

    if (schedule.strategy == SIM_STRATEGY_LISTED) {
        d = listed(cpu, local, action);
        if (!d)
            return false;
        *arg = d->arg % choices;
    } else {
        if (!every || !sim_one_in(SIM_RANDOM_SCHEDULE, every))
            return false;
        *arg = (unsigned)sim_below(SIM_RANDOM_SCHEDULE, choices);
    }
    record(cpu, local, action, *arg);
    return true;
}
