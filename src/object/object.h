/*
 * object/object.h - the object as src/space sees it.
 */
#ifndef QI_OBJECT_OBJECT_H
#define QI_OBJECT_OBJECT_H

#include "../base/list.h"
#include "../sync/rwsem.h"
#include "../sync/spin.h"
#include "pagetree.h"
#include <quire/object.h>

struct quire_object {
    uint32_t refs;       /* atomic */
    struct qi_list link; /* of all but devices; under the lock of that list */
    enum quire_object_kind kind;
    const struct quire_pager *pager;
    void *cookie;

    /*
     * map_lock orders truncation against faults and against the life of page tables:
     *   read   a fault holds it from its check of size until the leaf is installed
     *   write  truncation holds it while it removes pages and leaves; a vma is linked and unlinked
     *          under it, and a space frees the tables below a vma only after unlinking it
     * Order: space lock, sync_lock, map_lock, tree_lock.
     */
    struct qi_rwsem map_lock;
    /*
     * One sync, truncation or hole at a time: who finds a page clean may say so only when the device
     * has it, and no store of a page that is gone may still be under way.  The pager sleeps under it.
     */
    struct qi_rwsem sync_lock;
    struct qi_list vmas; /* of struct qi_vma.object_link; under map_lock */
    uint64_t size;       /* bytes; written under map_lock (write), read anywhere */

    struct qi_spin tree_lock;
    struct qi_pagetree tree; /* under tree_lock */

    /* device: what is mapped */
    q_pa device_base;
    enum quire_cache_type device_cache;
};

/* Make the caches of this layer; boot context. */
enum quire_status qi_object_setup(void);

/*
 * One of the two upward calls of this layer: src/space removes every leaf that maps pages [from, to) of o,
 * in the spaces of o->vmas; copies: private copies made by writing to such a mapping too.  map_lock is
 * held for writing.  Set by src/space at its initialisation.
 */
extern void (*qi_object_unmap_hook)(struct quire_object *o, uint64_t from, uint64_t to,
                                    bool copies);
/*
 * The other: every leaf that maps page, at index of o, becomes clean and read-only, so that the next write
 * is noted; true if one was dirty.  When it returns no CPU writes through an older entry.  map_lock is
 * held for reading.
 */
extern bool (*qi_object_clean_hook)(struct quire_object *o, uint64_t index,
                                    const struct quire_page *page);

/* All objects that have pages, oldest first: the one after o (NULL: the first), referenced; NULL: no more.
 * o is referenced too, and stays so. */
struct quire_object *qi_object_after(struct quire_object *o);

/*
 * If old, a page of o, has exactly these counts, so that nobody but those whom the caller knows of has it:
 * new, which nobody else knows, gets its content and its state and takes its place.  The tree's
 * reference goes from old to new.  False: nothing has changed.  map_lock is held for writing.
 */
bool qi_object_replace(struct quire_object *o, struct quire_page *old, struct quire_page *new,
                       uint64_t counts);

/*
 * Present pages from index on, at most n, that follow one another without a hole, each with one
 * mapping counted (reference and map): for fault-around.  Returns how many.
 */
unsigned qi_object_map_run(struct quire_object *o, uint64_t index, unsigned n,
                           struct quire_page **out);

#endif
