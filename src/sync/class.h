/*
 * sync/class.h - lock classes: a lock's name, told to whoever watches the port's events.  The order
 * between classes is the layer order (see ARCHITECTURE.md), inside a layer the one written at the
 * class; the simulated port learns the order that really happens and reports cycles.
 */
#ifndef QI_SYNC_CLASS_H
#define QI_SYNC_CLASS_H

struct qi_lock_class {
    const char *name;
};

#endif
