/*
 * ports/malloc/slot.c - threads and the CPUs that they play.
 *
 * Model.  The library's CPUs are slots.  A thread's first call takes a slot that nobody holds, which is the
 * thread's alone until it ends: then its fast paths need neither lock nor atomic, as those of a CPU with
 * interrupts off.  malloc_cpu is its number.  A thread that finds none free has number 0 and
 * takes, for each call, one of a few shared slots under a lock, as does a thread that is ending.  Slot 0
 * is used by nobody: it never has sheaves, so that a thread with that number finds nothing ready, and no test for it
 * stands on the fast path.  The machine is started on a shared one.
 *
 *     slot   0       1 .. OWN         OWN + 1 .. ALL - 1
 *            nobody  one thread each  shared, a lock each
 *
 * End of a thread.  The destructor of a thread-specific value gives what the slot's lists hold back to the slabs and
 * zones, then the slot.
 *
 * Fork.  The child has one thread, and memory as it was at some instant, or a little before or after it, page by
 * page.  So what others may have been changing must not be used there: before the fork no thread may be
 * inside a lock of the library, a shared slot or the port's locks; and the slots of threads that the child does not
 * have are lost to it, with what their lists hold, as glibc's child loses their caches.  A thread says
 * that it will take a lock (busy), then looks whether a fork is under way; the forking thread says so, then waits
 * until nobody is busy.  The barrier that both need between their two steps is made by the forking thread for all
 * (membarrier(2)); where the kernel has none, busy is set by an exchange.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <quire/port.h>

#include "process.h"

#define SHARED 4u
#define PER_CPU \
    6u /* slots for each of the host's: threads that compute at once, and those that wait meanwhile */
#define ALL malloc_slots
#define OWN (ALL - SHARED - 1)

unsigned malloc_slots;

__thread unsigned long malloc_cpu;
/* This thread never gets a slot of its own (again). */
static __thread bool shares;

enum { FREE, HELD, LOST };

static struct slot {
    uint32_t busy;           /* atomic; its thread holds a lock of the library, or is about to */
    uint32_t locks;          /* its thread's */
    uint8_t state;           /* under registry */
    struct malloc_lock lock; /* shared slots */
} __attribute__((aligned(64))) slots[QUIRE_MAX_CPUS];

static struct malloc_lock registry;
static uint32_t forking; /* atomic */
static uint32_t begun; /* atomic: 0 no, 1 being done, 2 there is a machine, 3 there cannot be one */
static pthread_key_t at_exit;
static bool barriers; /* the kernel makes barriers in other threads */

/* ---- Slots ---- */

static unsigned take_slot(void)
{
    unsigned found = 0;

    malloc_lock(&registry);
    for (unsigned i = 1; i <= OWN && !found; i++)
        if (slots[i].state == FREE) {
            slots[i].state = HELD;
            found = i;
        }
    malloc_unlock(&registry);
    return found;
}

/* The thread ends: its lists go back, and its slot. */
static void thread_ends(void *value)
{
    unsigned long cpu = malloc_cpu;

    (void)value;
    shares = true;
    if (!cpu)
        return;
    malloc_lock(&registry);
    quire_heap_drain_local();
    quire_frame_drain_local();
    malloc_cpu = 0;
    slots[cpu].state = FREE;
    malloc_unlock(&registry);
}

/* ---- Fork ---- */

void malloc_lock_begins(void)
{
    struct slot *s = &slots[malloc_cpu];

    if (s->locks)
        return; /* inside another: the fork waits already */
    for (;;) {
        if (MALLOC_LIKELY(barriers))
            __atomic_store_n(&s->busy, 1, __ATOMIC_RELAXED);
        else
            __atomic_exchange_n(&s->busy, 1, __ATOMIC_SEQ_CST);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (MALLOC_LIKELY(!__atomic_load_n(&forking, __ATOMIC_RELAXED)))
            return;
        if (__atomic_load_n(&forking, __ATOMIC_RELAXED) == malloc_cpu)
            return;
        __atomic_store_n(&s->busy, 0, __ATOMIC_RELEASE);
        for (uint32_t by; (by = __atomic_load_n(&forking, __ATOMIC_ACQUIRE));)
            qport_wait(&forking, by);
    }
}

void malloc_lock_taken(void) { slots[malloc_cpu].locks++; }

void malloc_lock_released(void)
{
    struct slot *s = &slots[malloc_cpu];

    if (!--s->locks)
        __atomic_store_n(&s->busy, 0, __ATOMIC_RELEASE);
}

/* Whatever other handlers of the forking thread allocate meanwhile goes on in its slot; if it has none, in
 * a shared one, which it has locked. */
static bool fork_borrows;

static void before_fork(void)
{
    malloc_lock(&registry);
    for (unsigned i = OWN + 1; i < ALL; i++)
        malloc_lock(&slots[i].lock);
    malloc_lock(&malloc_large_lock);
    malloc_lock(&malloc_pages_lock);
    fork_borrows = !malloc_cpu;
    if (fork_borrows)
        malloc_cpu = OWN + 1;
    __atomic_store_n(&forking, (uint32_t)malloc_cpu, __ATOMIC_SEQ_CST);
    if (barriers)
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    for (unsigned i = 1; i <= OWN; i++)
        while (i != malloc_cpu && __atomic_load_n(&slots[i].busy, __ATOMIC_SEQ_CST))
            sched_yield();
}

static void fork_over(void)
{
    if (fork_borrows)
        malloc_cpu = 0;
    __atomic_store_n(&forking, 0, __ATOMIC_RELEASE);
    malloc_unlock(&malloc_pages_lock);
    malloc_unlock(&malloc_large_lock);
    for (unsigned i = OWN + 1; i < ALL; i++)
        malloc_unlock(&slots[i].lock);
    malloc_unlock(&registry);
}

static void after_fork_parent(void)
{
    fork_over();
    qport_wake(&forking, ALL);
}

static void after_fork_child(void)
{
    for (unsigned i = 1; i <= OWN; i++)
        if (slots[i].state == HELD && i != malloc_cpu) {
            slots[i].state = LOST;
            slots[i].busy = 0; /* it may have been about to wait for the fork */
        }
    fork_over();
}

/* ---- Start ---- */

static void count_slots(void)
{
    cpu_set_t cpus;
    unsigned n = sched_getaffinity(0, sizeof cpus, &cpus) ? 2 : (unsigned)CPU_COUNT(&cpus);

    malloc_slots = n * PER_CPU + SHARED + 1;
    if (malloc_slots > QUIRE_MAX_CPUS)
        malloc_slots = QUIRE_MAX_CPUS;
}

/* The first call of the process; nobody else may go on before it is done. */
static bool begin(void)
{
    uint32_t seen = 0;

    if (__atomic_compare_exchange_n(&begun, &seen, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        int before = errno;
        bool good;

        barriers = !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
        count_slots();
        errno = before;
        malloc_cpu = OWN + 1;
        good = malloc_machine_start();
        malloc_cpu = 0;
        good = good && !pthread_key_create(&at_exit, thread_ends) &&
               !pthread_atfork(before_fork, after_fork_parent, after_fork_child);
        seen = good ? 2 : 3;
        __atomic_store_n(&begun, seen, __ATOMIC_RELEASE);
        qport_wake(&begun, UINT32_MAX);
    }
    while (seen == 1) {
        qport_wait(&begun, 1);
        seen = __atomic_load_n(&begun, __ATOMIC_ACQUIRE);
    }
    return seen == 2;
}

/* The calling thread's own slot, if there is one left. */
static bool settle(void)
{
    unsigned cpu = take_slot();

    if (!cpu)
        shares = true; /* whoever begins when many run stays so: to ask each time would cost more */
    malloc_cpu = cpu;
    /* may allocate: malloc_cpu stands */
    if (cpu && pthread_setspecific(at_exit, &slots[cpu]))
        shares = true; /* the slot is kept for good */
    return cpu != 0;
}

static bool enter_shared(struct malloc_visit *v)
{
    unsigned cpu = OWN + 1 + (unsigned)((uintptr_t)&shares >> 12) % SHARED;

    malloc_lock(&slots[cpu].lock);
    malloc_cpu = cpu;
    v->shared = &slots[cpu].lock;
    return true;
}

bool malloc_enter(struct malloc_visit *v)
{
    v->shared = NULL;
    if (MALLOC_LIKELY(malloc_cpu))
        return true;
    if (MALLOC_UNLIKELY(__atomic_load_n(&begun, __ATOMIC_ACQUIRE) != 2) && !begin())
        return false;
    return (!shares && settle()) || enter_shared(v);
}

void malloc_leave(struct malloc_visit *v)
{
    if (!v->shared)
        return;
    malloc_cpu = 0;
    malloc_unlock(v->shared);
}
