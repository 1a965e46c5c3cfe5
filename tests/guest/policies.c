/*
 * policies.c - scheduling policies keep what a call does not change, and go to children as they should.
 */
#include "guest.h"

#include <sched.h>
#include <sys/wait.h>

/* What a child sees as its policy. */
static int of_child(void)
{
    int status = -1;
    pid_t child = fork();

    if (!child)
        _exit(sched_getscheduler(0) & 0x7f);
    return child > 0 && waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    struct sched_param p = {0};

    CHECK(!sched_setparam(0, &p) && sched_getscheduler(0) == SCHED_OTHER,
          "setting the priority leaves the policy");
    CHECK(!sched_setscheduler(0, SCHED_BATCH, &p) && of_child() == SCHED_BATCH,
          "a child has its parent's policy");
    CHECK(!sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &p) &&
              sched_getscheduler(0) == (SCHED_BATCH | SCHED_RESET_ON_FORK),
          "reset on fork");
    CHECK(!sched_setparam(0, &p) && sched_getscheduler(0) == (SCHED_BATCH | SCHED_RESET_ON_FORK),
          "is kept by setting the priority");
    CHECK(of_child() == SCHED_BATCH, "and changes only policies that stand above others");
    if (!geteuid() && setuid(65534))
        CHECK(0, "another user");
    CHECK(sched_setscheduler(0, SCHED_BATCH, &p) == -1 && errno == EPERM,
          "a plain user cannot take it off");
    return 0;
}
