/*
 * engine.h - the simulated machine's CPUs, tasks and time, for the programs that run on it.
 *
 * A CPU runs a task, or its idle loop.  At each scheduling point it may (in this order) take an
 * interrupt, give its task up for another, and lose the thread to another CPU.  Which of that
 * happens is a decision (strategy.h); all decisions of a run are recorded and can be given again.
 */
#ifndef SIM_ENGINE_H
#define SIM_ENGINE_H

#include <quire/space.h>

#include "fibre.h"
#include "sim.h"

struct sim_machine {
    unsigned cpus, nodes;
    uint64_t memory;     /* bytes of simulated memory, all nodes together */
    uint64_t hotplug;    /* of them, at the end: not there at first, may come and go */
    unsigned heap;       /* modes of the heap: QUIRE_HARDEN_* */
    uint64_t max_points; /* a run that takes more has not come forward */
    /* what may go wrong by itself, each once in so many points; 0 never */
    unsigned interrupt_every; /* a device's interrupt, see sim_on_interrupt() */
    unsigned stall_every;     /* a CPU stands still for a while */
    unsigned preempt_every;   /* the task is taken off its CPU */
    unsigned wake_early;      /* a sleeper wakes without reason: once in so many sleeps */
    unsigned ipi_delay;       /* an IPI takes up to so many points of its target */
};
extern struct sim_machine sim_machine;

enum sim_task_state { SIM_RUNNABLE, SIM_RUNNING, SIM_WAITING, SIM_SLEEPING, SIM_DONE };

struct sim_task {
    unsigned number; /* 1.. */
    enum sim_task_state state;
    bool on_cpu; /* its fibre is, or is being, switched away from */
    bool queued;
    unsigned cpu; /* where it runs, or ran last */
    void (*fn)(void *);
    void *arg;
    struct quire_space *space; /* what it translates through; NULL: the kernel's table */
    const uint32_t *word;      /* WAITING */
    uint64_t until;            /* SLEEPING */
    const char *doing;         /* the operation, for reports */
    uint64_t points;           /* its own so far */
    uint64_t doing_since;      /* of them */
    struct sim_task *next;     /* run queue */
    struct sim_fibre fibre;
};

/* Forget everything; a machine as described, with no tasks.  Library calls made before sim_run()
 * run on CPU 0 and are not scheduled. */
void sim_engine_init(const struct sim_machine *m);
struct sim_task *sim_spawn(void (*fn)(void *), void *arg);
/* Run until every task has returned and every CPU is idle.  More tasks may be made then, and run. */
void sim_run(void);
bool sim_running(void);

struct sim_task *sim_current(void); /* NULL in an idle loop or outside sim_run() */
struct sim_task *sim_task(unsigned number);
/* The running task translates through space from now on. */
void sim_use_space(struct quire_space *space);
/* What the running task is about to do, for reports and for the watch over progress. */
void sim_doing(const char *what);
/* The running task sleeps for ns of simulated time. */
void sim_sleep(uint64_t ns);
/* Let others run: a point that switches tasks if another is waiting. */
void sim_yield(void);
/* Called in interrupt context now and then, see interrupt_every. */
void sim_on_interrupt(void (*handler)(void));

/* Between the two a library call is the simulator's own look: it has no points. */
void sim_look_begin(void);
void sim_look_end(void);
/* Called at a point once in so many, outside of any CPU's program: what hardware does by itself. */
void sim_on_hardware(void (*handler)(void), unsigned once_in);

/* A number over all that happened: equal for equal runs, on any machine and compiler. */
uint64_t sim_trace_hash(void);
/* Mix a value of the program into it: results, statuses. */
void sim_trace_mix(uint64_t value);

/* For reports: what CPU cpu is doing. */
void sim_note_cpus(void);

#endif
