/*
 * strategy.h - who runs next.
 *
 *   RANDOM    at each point, once in `every`, another CPU at random
 *   PRIORITY  each CPU has a random priority and the highest that can runs; at `depth` random
 *             points the running one drops to the bottom.  Finds a bug of depth d with
 *             probability at least 1 / (n * k^(d-1)) for n CPUs and k points (PCT: Burckhardt et
 *             al., "A randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010)
 *   LISTED    only the switches of a list: replay, shrinking, and the exhaustive search over all
 *             schedules with a bounded number of preemptions (Musuvathi and Qadeer, "Iterative
 *             context bounding for systematic testing of multithreaded programs", PLDI 2007)
 */
#ifndef SIM_STRATEGY_H
#define SIM_STRATEGY_H

#include "sim.h"

enum sim_strategy { SIM_STRATEGY_RANDOM, SIM_STRATEGY_PRIORITY, SIM_STRATEGY_LISTED };

enum sim_action {
    SIM_SWITCH,    /* run CPU arg */
    SIM_PREEMPT,   /* put the task away and run the arg-th of the run queue */
    SIM_INTERRUPT, /* a device interrupts */
    SIM_STALL,     /* this CPU stands still for arg points of the others */
    SIM_DELIVER,   /* the IPI that is on its way arrives */
    SIM_ACTIONS
};
extern const char *const sim_action_names[SIM_ACTIONS];

/* A decision, at the point-th point of a CPU. */
struct sim_decision {
    uint64_t point;
    uint32_t cpu;
    uint16_t action, arg;
};

struct sim_schedule {
    enum sim_strategy strategy;
    unsigned every;           /* RANDOM */
    unsigned depth;           /* PRIORITY: change points */
    uint64_t expected_points; /* PRIORITY: among so many */
    /* LISTED: in order of point for each CPU */
    const struct sim_decision *list;
    size_t list_len;
};

void sim_strategy_init(const struct sim_schedule *s, unsigned cpus);

/* Which of the CPUs in eligible (bit a CPU, not 0) runs after this point of cpu. */
unsigned sim_choose_cpu(unsigned cpu, uint64_t local, uint64_t eligible);
/* The CPU waits in a loop: with priorities, others are preferred from here on. */
void sim_strategy_yields(unsigned cpu);
/* Does action happen at this point, which it does once in `every` when nothing else decides?  choices:
 * *arg is 0..choices - 1. */
bool sim_choose(unsigned cpu, uint64_t local, enum sim_action action, unsigned every,
                unsigned choices, unsigned *arg);

/* What runs after a point of cpu when nothing is decided. */
unsigned sim_default_cpu(unsigned cpu, uint64_t eligible);
/* Tell of each choice of a CPU that is still to come: for the search over all schedules. */
void sim_watch_choices(void (*watcher)(unsigned cpu, uint64_t local, uint64_t eligible));

/* What was decided so far, other than by default. */
const struct sim_decision *sim_decisions(size_t *n);

#endif
