/*
 * trial.c - one run in a child process: every run begins in the same fresh state, and whatever it
 * ends in - a report, a crash, an endless loop - ends only itself.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../../ports/sim/symbols.h"
#include "../../ports/sim/trace.h"

enum { NS_PER_S = 1000000000, TICK_NS = 250000000 };

static sigset_t waited;
static bool interrupted;

uint64_t sim_clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void broken(const char *what)
{
    fprintf(stderr, "quire-sim: %s: %s\n", what, strerror(errno));
    exit(SIM_EXIT_USAGE);
}

void sim_trials_init(void)
{
    sigemptyset(&waited);
    sigaddset(&waited, SIGCHLD);
    sigaddset(&waited, SIGINT);
    sigaddset(&waited, SIGTERM);
    sigprocmask(SIG_BLOCK, &waited, NULL);
}

bool sim_interrupted(void) { return interrupted; }

void *sim_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        broken("no memory for the outcome of a run");
    return p;
}

void sim_trial_init(struct sim_trial *t)
{
    *t = (struct sim_trial){.out = sim_shared(sizeof *t->out)};
}

/* ---- The child ---- */

static const void *place_of(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (const void *)context->uc_mcontext.gregs[REG_RIP]; /* NOLINT */
#elif defined(__aarch64__)
    return (const void *)context->uc_mcontext.pc;
#else
    (void)context;
    return NULL;
#endif
}

/* A crash of the library is a finding like others: with the trace, and the decisions that led to it. */
static void crashed(int signal_number, siginfo_t *info, void *context)
{
    char where[96];

    signal(signal_number, SIG_DFL);
    sim_fail("crash", "signal %d (%s) at address %p in %s", signal_number, strsignal(signal_number),
             info->si_addr, sim_symbol(place_of(context), where, sizeof where));
}

/* On a stack of its own: that of a fibre may be what has run out. */
static void catch_crashes(void)
{
    static char stack[256 * 1024];
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    const struct sigaction action = {.sa_sigaction = crashed, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

    sigaltstack(&alternate, NULL);
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
}

static _Noreturn void child(const struct sim_program *p, struct sim_outcome *out,
                            const struct sim_trial_mode *m, pid_t parent)
{
    int null;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(SIM_EXIT_USAGE);
    signal(SIGINT, SIG_IGN); /* the terminal sends it to all; the parent decides */
    sigprocmask(SIG_UNBLOCK, &waited, NULL);
    if (m->quiet) {
        null = open("/dev/null", O_WRONLY);
        if (null >= 0)
            dup2(null, STDERR_FILENO);
    }
    catch_crashes();
    if (m->before)
        m->before();
    if (m->trace)
        sim_trace_live(stdout);
    sim_run_program(p, out, m->report);
    fflush(NULL);
    _exit(SIM_EXIT_CLEAN);
}

void sim_trial_start(struct sim_trial *t, const struct sim_program *p,
                     const struct sim_trial_mode *m)
{
    pid_t parent = getpid();

    memset(t->out, 0, offsetof(struct sim_outcome, decisions));
    fflush(NULL); /* or the child writes it again */
    t->started = sim_clock_ns();
    t->deadline = t->started + m->seconds * NS_PER_S;
    t->overdue = false;
    t->pid = fork();
    if (t->pid < 0)
        broken("fork");
    if (!t->pid)
        child(p, t->out, m, parent);
}

/* A run that could not tell its end itself. */
static void judge(struct sim_trial *t, int status)
{
    struct sim_outcome *out = t->out;

    if (out->kind[0] || (WIFEXITED(status) && WEXITSTATUS(status) == SIM_EXIT_CLEAN))
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == SIM_EXIT_USAGE) {
        fprintf(stderr, "quire-sim: the run could not be made\n");
        exit(SIM_EXIT_USAGE);
    }
    if (t->overdue) {
        strcpy(out->kind, "hang");
        snprintf(out->text, sizeof out->text, "the run had not ended after %llu s",
                 (unsigned long long)((t->deadline - t->started) / NS_PER_S));
        return;
    }
    strcpy(out->kind, "crash");
    if (WIFSIGNALED(status))
        snprintf(out->text, sizeof out->text, "signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(out->text, sizeof out->text, "exit status %d", WEXITSTATUS(status));
}

static bool has_ended(struct sim_trial *t)
{
    int status;

    if (!t->pid || waitpid(t->pid, &status, WNOHANG) != t->pid)
        return false;
    t->pid = 0;
    t->ended = sim_clock_ns();
    judge(t, status);
    return true;
}

void sim_trial_kill(struct sim_trial *t)
{
    if (!t->pid)
        return;
    kill(t->pid, SIGKILL);
    waitpid(t->pid, NULL, 0);
    t->pid = 0;
}

void sim_trial_end(struct sim_trial *t)
{
    sim_trial_kill(t);
    munmap(t->out, sizeof *t->out);
}

struct sim_trial *sim_trials_wait(struct sim_trial *list, unsigned n, uint64_t until)
{
    for (;;) {
        uint64_t now = sim_clock_ns(), tick = now + TICK_NS < until ? TICK_NS : until - now;
        struct timespec timeout = {.tv_nsec = (long)tick};
        unsigned active = 0;

        for (unsigned i = 0; i < n; i++) {
            if (has_ended(&list[i]))
                return &list[i];
            active += list[i].pid != 0;
            if (list[i].pid && now > list[i].deadline && !list[i].overdue) {
                list[i].overdue = true;
                kill(list[i].pid, SIGKILL);
            }
        }
        if (!active || interrupted || now >= until)
            return NULL;
        switch (sigtimedwait(&waited, NULL, &timeout)) {
        case SIGINT:
        case SIGTERM: interrupted = true;
        }
    }
}

bool sim_trial_run(struct sim_trial *t, const struct sim_program *p, const struct sim_trial_mode *m)
{
    sim_trial_start(t, p, m);
    if (sim_trials_wait(t, 1, UINT64_MAX))
        return true;
    sim_trial_kill(t);
    return false;
}
