/*
 * steps.h - one step at a time: what another CPU does between two accesses of ours is played at the
 * scheduling points, so that a lost race is lost each time.
 *
 * A test includes this before anything of Quire, then the source that is under test: its scheduling
 * points then call the test.
 */
#ifndef STEPS_H
#define STEPS_H

#include <quire_test.h>

#include <quire_port.h>

static void steps_point(const char *kind, const volatile void *at);

#undef QPORT_POINT
#define QPORT_POINT(kind, ptr) steps_point(#kind, ptr)

#include <quire/port.h>

/* What the others do at the first point of the kind (and of the word at, unless NULL) after the act
 * before; one without kind ends the list. */
struct act {
    const char *kind;
    const volatile void *at;
    void (*run)(void);
};

static const struct act *steps_next;

static void steps_point(const char *kind, const volatile void *at)
{
    const struct act *act = steps_next;

    if (!act || !act->kind || strcmp(act->kind, kind) || (act->at && act->at != at))
        return;
    steps_next = NULL; /* the others' own points are not played to */
    act->run();
    steps_next = act + 1;
}

static inline void steps_begin(const struct act *acts) { steps_next = acts; }

/* All acts were played. */
static inline void steps_end(void)
{
    if (steps_next)
        assert_null(steps_next->kind);
    steps_next = NULL;
}

#endif
