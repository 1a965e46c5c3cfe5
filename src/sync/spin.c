/*
 * sync/spin.c - the slow path of spin locks.  See spin.h.
 */
#include "spin.h"

void qi_spin_contended(struct qi_spin *l)
{
    do {
        while (qi_load_relaxed(&l->word))
            qport_relax();
    } while (!qi_spin_try_raw(l));
}
