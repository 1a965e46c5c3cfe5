/*
 * sim_fake.h - what the parts of the simulator ask of its engine, for a test of one part: random
 * numbers from the test's own, a settable place, and findings that can be expected.
 *
 * SIM_EXPECT_FAIL(statement) is true if the statement ended in sim_fail(); sim_fail_kind is its
 * kind and sim_fail_text its text, with the notes before it, one a line.
 */
#ifndef SIM_FAKE_H
#define SIM_FAKE_H

#include <quire_test.h>

#include "sim.h"

static jmp_buf *sim_fail_jump;
static char sim_fail_kind[64], sim_fail_text[65536];
static unsigned fake_cpu, fake_task, fake_cpus = SIM_MAX_CPUS;
static bool fake_irqs_off, fake_preempt_off, fake_in_irq;
static uint64_t fake_points;

#define SIM_EXPECT_FAIL(stmt)      \
    ({                             \
        jmp_buf sim_jb_;           \
        volatile int sim_hit_ = 1; \
        sim_fail_jump = &sim_jb_;  \
        sim_fail_text[0] = 0;      \
        if (!setjmp(sim_jb_)) {    \
            stmt;                  \
            sim_hit_ = 0;          \
        }                          \
        sim_fail_jump = NULL;      \
        sim_hit_;                  \
    })

static inline void fake_append(const char *fmt, va_list args)
{
    size_t used = strlen(sim_fail_text);

    vsnprintf(sim_fail_text + used, sizeof sim_fail_text - used, fmt, args);
    used = strlen(sim_fail_text);
    snprintf(sim_fail_text + used, sizeof sim_fail_text - used, "\n");
}

void sim_note(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fake_append(fmt, args);
    va_end(args);
}

_Noreturn void sim_fail(const char *kind, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fake_append(fmt, args);
    va_end(args);
    snprintf(sim_fail_kind, sizeof sim_fail_kind, "%s", kind);
    if (sim_fail_jump)
        longjmp(*sim_fail_jump, 1);
    fprintf(stderr, "unexpected finding: %s\n%s", kind, sim_fail_text);
    abort();
}

void sim_frame_history(uint64_t pfn)
{
    sim_note("history of frame %#llx", (unsigned long long)pfn);
}

uint64_t sim_random(enum sim_stream s)
{
    (void)s;
    return test_random();
}
uint64_t sim_below(enum sim_stream s, uint64_t n) { return sim_random(s) % n; }
bool sim_one_in(enum sim_stream s, uint64_t n) { return !sim_below(s, n); }

unsigned sim_cpu(void) { return fake_cpu; }
unsigned sim_cpus(void) { return fake_cpus; }
unsigned sim_task_number(void) { return fake_task; }
uint64_t sim_points(void) { return fake_points; }
bool sim_irqs_off(void) { return fake_irqs_off; }
bool sim_preempt_off(void) { return fake_preempt_off; }
bool sim_in_irq(void) { return fake_in_irq; }

#endif
