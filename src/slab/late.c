/*
 * slab/late.c - frees that wait for readers (quire/rcu.h): objects of quire_kfree_rcu(), and slabs of caches
 * with QUIRE_CACHE_RCU.
 *
 * Model.  Each CPU collects entries in a batch, which is a sheaf of another kind.  A full batch begins a grace period and goes to the
 * end of one queue; whoever comes by frees what at the head is over.  So a free costs a store or two, and one
 * grace period and one lock serve BATCH of them.  A batch that does not fill is closed by qi_late_flush(),
 * which quire_rcu_reclaim(), shrinking and destroying call.
 *
 * Invariants
 *   D1  an object in a batch has the state DEFERRED, and was out; a second free finds that
 *   D2  periods in a queue grow from head to tail: only the head is looked at
 *   D3  every batch and slab belongs to the generation in which it was queued; the one before it is empty when a
 *       flush begins the next, so that a flush waits for what was there, however much comes meanwhile
 *   D4  a slab in the queue is on no list of its node and in none of its sums; its bitmap's first word is the period
 *
 * Locking.  flushing (sleeping): one flush at a time; taken first.  cpu.lock: its open batch.  queue.lock: both
 * queues and the generation; a leaf.  Both with interrupts off, neither while anything is freed.
 *
 * A free can fail for lack of memory for a batch: then it has not happened.  A list through the objects would need
 * none, but readers still read them.
 */
#include "harden.h"
#include "leak.h"
#include "track.h"

#include "../sync/rcu.h"
#include "../sync/rwsem.h"

#define BATCH 63u /* entries, the first of which holds the period */

static const struct qi_lock_class cpu_class = {"heap: late, CPU"},
                                  queue_class = {"heap: late, queue"},
                                  flush_class = {"heap: late, flush"};

static struct cpu {
    struct qi_spin lock;
    struct qi_sheaf *open;
} QI_CACHE_ALIGNED cpus[QUIRE_MAX_CPUS];

static struct {
    struct qi_spin lock;
    struct qi_sheaf *first, **end;
    struct qi_list slabs;
    uint32_t
        waiting[2]; /* atomic; by generation: batches and slabs in the queues and being freed */
    uint32_t generation; /* 0 or 1: of what is queued now */
} queue;

static struct qi_rwsem flushing;

static struct quire_cache *batch_cache;

void qi_late_init(void)
{
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++) {
        qi_spin_init(&cpus[i].lock, &cpu_class);
        cpus[i].open = NULL;
    }
    qi_spin_init(&queue.lock, &queue_class);
    queue.first = NULL;
    queue.end = &queue.first;
    queue.waiting[0] = queue.waiting[1] = queue.generation = 0;
    qi_rwsem_init(&flushing, &flush_class);
    qi_list_init(&queue.slabs);
    batch_cache = qi_sheaf_cache(BATCH);
}

/* ---- into a batch ---- */

/* A ticket is the period that is waited for, times two, plus the generation.  The first entry of a batch is none, but
 * its ticket. */
static uint64_t *ticket_of(struct qi_sheaf *batch) { return (uint64_t *)(uintptr_t)&batch->e[0]; }

/* For one more in the queues.  queue.lock. */
static uint64_t new_ticket(void)
{
    qi_fetch_add_relaxed(&queue.waiting[queue.generation], 1u);
    return qi_rcu_start() << 1 | queue.generation;
}

static bool is_over(uint64_t ticket) { return qi_rcu_over(ticket >> 1); }

/* What had it is freed. */
static void give_ticket(uint64_t ticket) { qi_fetch_sub_acqrel(&queue.waiting[ticket & 1], 1u); }

static bool anything_waits(void)
{
    return qi_load_relaxed(&queue.waiting[0]) || qi_load_relaxed(&queue.waiting[1]);
}

static void enqueue(struct qi_sheaf *batch)
{
    batch->next = NULL;
    qi_spin_lock_raw(&queue.lock);
    *ticket_of(batch) = new_ticket(); /* under the lock: D2 */
    *queue.end = batch;
    queue.end = &batch->next;
    qi_spin_unlock_raw(&queue.lock);
}

/* cpu's batch to the queue; interrupts off. */
static void close(struct cpu *cpu)
{
    struct qi_sheaf *batch;

    qi_spin_lock_raw(&cpu->lock);
    batch = cpu->open;
    cpu->open = NULL;
    qi_spin_unlock_raw(&cpu->lock);
    if (batch)
        enqueue(batch);
}

/* e to this CPU's batch; interrupts off.  Another CPU may close the batch whenever the lock is free. */
static bool defer(struct cpu *cpu, struct qi_entry e)
{
    struct qi_sheaf *fresh, *full = NULL;

    qi_spin_lock_raw(&cpu->lock);
    if (!cpu->open || cpu->open->n == BATCH) {
        qi_spin_unlock_raw(&cpu->lock);
        fresh = qi_internal_alloc(batch_cache, QUIRE_GFP_ATOMIC);
        if (!fresh)
            return false;
        fresh->n = 1;
        qi_spin_lock_raw(&cpu->lock);
        full = cpu->open;
        cpu->open = fresh;
    }
    /* an entry's low bit: it was GUARDED */
    if (e.state && *e.state == QI_OBJ_GUARDED)
        e.obj = (char *)e.obj + 1;
    if (e.state)
        *e.state = QI_OBJ_DEFERRED;
    cpu->open->e[cpu->open->n++] = e;
    qi_spin_unlock_raw(&cpu->lock);
    if (full)
        enqueue(full);
    return true;
}

enum quire_status quire_kfree_rcu(void *p)
{
    struct qi_entry e = {.obj = p};
    unsigned long irq;
    bool done;

    if (!p)
        return QUIRE_OK;
    qi_identify_any(p, &e.state);
    qi_leak_late(p); /* before: somebody else may free it the next moment */
    irq = qport_irq_save();
    done = defer(&cpus[qport_cpu()], e);
    qport_irq_restore(irq);
    if (!done)
        qi_leak_not_late(p);
    if (anything_waits())
        qi_late_poll();
    return done ? QUIRE_OK : QUIRE_NO_MEMORY;
}

void qi_late_slab(struct qi_slab *s)
{
    unsigned long irq = qi_spin_lock_irq(&queue.lock);

    qi_slab_bits(s)[0] = new_ticket();
    qi_list_add_tail(&queue.slabs, &s->link);
    qi_spin_unlock_irq(&queue.lock, irq);
}

/* ---- out of the queue ---- */

static void free_batch(struct qi_sheaf *batch)
{
    unsigned long irq;

    for (unsigned i = 1; i < batch->n; i++) {
        struct qi_entry e = batch->e[i];
        bool guarded = (uintptr_t)e.obj & 1;
        void *p = (char *)e.obj - guarded;

        if (e.state)
            *e.state =
                guarded ? QI_OBJ_GUARDED : QI_OBJ_OUT(qi_slab_of_page(quire_page_of_ptr(p))->node);
        qi_kfree_from(p, 0);
    }
    irq = qport_irq_save();
    qi_internal_free(batch_cache, batch);
    qport_irq_restore(irq);
}

/* The batch at the head, if its period is over. */
static struct qi_sheaf *next_batch(void)
{
    unsigned long irq = qi_spin_lock_irq(&queue.lock);
    struct qi_sheaf *batch = queue.first;

    if (batch && !is_over(*ticket_of(batch)))
        batch = NULL;
    if (batch) {
        queue.first = batch->next;
        if (!queue.first)
            queue.end = &queue.first;
    }
    qi_spin_unlock_irq(&queue.lock, irq);
    return batch;
}

static struct qi_slab *next_slab(void)
{
    unsigned long irq = qi_spin_lock_irq(&queue.lock);
    struct qi_slab *s = NULL;

    if (!qi_list_empty(&queue.slabs)) {
        s = qi_list_first(&queue.slabs, struct qi_slab, link);
        if (is_over(qi_slab_bits(s)[0]))
            qi_list_del(&s->link);
        else
            s = NULL;
    }
    qi_spin_unlock_irq(&queue.lock, irq);
    return s;
}

void qi_late_poll(void)
{
    struct qi_sheaf *batch;
    struct qi_slab *s;

    while ((batch = next_batch())) {
        uint64_t ticket = *ticket_of(batch);

        free_batch(batch);
        give_ticket(ticket);
    }
    while ((s = next_slab())) {
        uint64_t ticket = qi_slab_bits(s)[0];
        unsigned long irq = qport_irq_save();

        qi_slab_release(s);
        qport_irq_restore(irq);
        give_ticket(ticket);
    }
}

void quire_rcu_reclaim(void)
{
    unsigned long irq = qport_irq_save();

    close(&cpus[qport_cpu()]);
    qport_irq_restore(irq);
    if (anything_waits())
        qi_late_poll();
}

void qi_late_flush(void)
{
    unsigned long irq;
    uint32_t *waiting;

    qi_rwsem_write_lock(&flushing);
    irq = qport_irq_save();
    for (unsigned i = 0; i < QUIRE_MAX_CPUS; i++)
        close(&cpus[i]);
    qi_spin_lock_raw(&queue.lock);
    waiting = &queue.waiting[queue.generation];
    queue.generation = !queue.generation;
    qi_spin_unlock_raw(&queue.lock);
    qport_irq_restore(irq);
    /* what another CPU is freeing is not in the queue any more */
    while (qi_load_acquire(waiting)) {
        quire_rcu_wait();
        qi_late_poll();
        qport_relax();
    }
    qi_rwsem_write_unlock(&flushing);
}
