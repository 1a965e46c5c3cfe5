/*
 * space/registry.c - all address spaces, for those who look for what maps a frame.
 *
 * A space is on the list from the moment it is complete until its last reference goes.  The list holds no
 * reference: who walks it takes one to the space that he is at, so that it stays on the list, and
 * finds the next from there.  New spaces go to the end: a walk that began before sees them.
 *
 * Rejected for quire_space_settle(): a count of faults by CPU, or a word that says that this CPU faults, as the frame
 * layer has for those who look at its pages.  A fault may sleep and go on elsewhere, and it would pay two atomics for
 * what happens when memory is unplugged; the lock that it holds anyway says the same.
 */
#include "../sync/spin.h"
#include "space.h"

static const struct qi_lock_class registry_class = {"all spaces"};
static struct qi_list all;
static struct qi_spin lock;

void qi_registry_setup(void)
{
    qi_list_init(&all);
    qi_spin_init(&lock, &registry_class);
}

void qi_space_register(struct quire_space *s)
{
    qi_spin_lock(&lock);
    qi_list_add_tail(&all, &s->link);
    qi_spin_unlock(&lock);
}

void qi_space_unregister(struct quire_space *s)
{
    qi_spin_lock(&lock);
    qi_list_del(&s->link);
    qi_spin_unlock(&lock);
}

static bool tryget(struct quire_space *s)
{
    uint32_t refs = qi_load_relaxed(&s->refs);

    while (refs && !qi_cas_acqrel(&s->refs, &refs, refs + 1))
        qport_relax();
    return refs;
}

struct quire_space *qi_space_after(struct quire_space *s)
{
    struct quire_space *next = NULL;
    struct qi_list *at;

    qi_spin_lock(&lock);
    for (at = s ? s->link.next : all.next; at != &all && !next; at = at->next) {
        next = qi_list_entry(at, struct quire_space, link);
        if (!tryget(next))
            next = NULL; /* ends, and waits for the lock to leave the list */
    }
    qi_spin_unlock(&lock);
    return next;
}

/* Who reads pages of a space holds its lock.  A space that comes to the list meanwhile has no page that was off
 * line before; one that leaves it has no user. */
void quire_space_settle(void)
{
    for (struct quire_space *s = qi_space_after(NULL), *next; s; s = next) {
        qi_rwsem_write_lock(&s->lock);
        qi_rwsem_write_unlock(&s->lock);
        next = qi_space_after(s);
        quire_space_put(s);
    }
}
