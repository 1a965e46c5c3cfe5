/*
 * frame/isolate.c - a range of pageblocks is emptied: who holds frames there is asked to move.
 *
 * The layer that knows who points to a movable frame lies above this one, so it hands a function up
 * (quire_mover); what cannot be moved, or nobody can move, keeps the range from being taken.
 */
#include "zone.h"

static quire_mover mover;

void quire_frame_set_mover(quire_mover m) { qi_store_release(&mover, m); }
