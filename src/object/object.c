/*
 * object/object.c - what backs pages: shared memory, files, devices.
 *
 * Purpose.  A mapping names an object and an offset; read(2) and write(2) name the same object.  So
 * there is one place for the page of (object, index), and its frame is shared by all who use it.
 *
 * Model.  An object is a page tree (pagetree.h) under a spin lock, a size, and the list of vmas
 * that map it.  A page in the tree is always up to date: a file's page is filled *before* it is
 * inserted, and the loser of a race to insert frees its copy.  That costs a second copy now and
 * then and saves a lock bit, its waiters, and the state "present but not yet valid" in every user
 * of the tree.
 *
 * Invariants
 *   O1  a page in the tree has QUIRE_PG_OBJECT, owner = the object, index = its place, refs >= 1:
 *       the tree holds one reference
 *   O2  a leaf that maps a page of the tree holds one reference and one map count
 *   O3  a page that left the tree has neither flag nor owner; who still holds it frees it
 *   O4  after truncation to n pages no tree entry and no leaf of index >= n exists (see map_lock)
 *
 * Locking.  object.h, at the fields.
 * Failure.  No memory is a status and changes nothing; a pager's failure is passed on, nothing is
 * inserted.
 * Cost.  A look-up takes one spin lock and one step a level: one level to 256 KiB, two to 16 MiB.
 * Sources.  The page cache as the one copy of a file: SunOS (Gingell, Moran, Shannon, "Virtual
 * Memory Architecture in SunOS", USENIX 1987); pager interface: Mach, FreeBSD sys/vm.
 * Rejected.  Shadow objects for private memory (Mach): chains need collapsing, and exact counts in
 * the page make them unnecessary.  A lock bit a page: see Model.
 */
#include "object.h"

#include <quire/heap.h>

static const struct qi_lock_class tree_class = {"object tree"}, map_class = {"object mappings"},
                                  sync_class = {"object sync"}, all_class = {"all objects"};
static struct qi_list all_objects; /* under all_lock */
static struct qi_spin all_lock;
static struct quire_cache *object_cache;
static uint64_t total_pages[2]; /* atomic; by kind: shared, file */

void (*qi_object_unmap_hook)(struct quire_object *o, uint64_t from, uint64_t to, bool copies);
bool (*qi_object_clean_hook)(struct quire_object *o, uint64_t index, const struct quire_page *page);

static struct quire_page *entry_page(uint64_t entry) { return (void *)(uintptr_t)entry; }

static uint64_t *total_of(const struct quire_object *o)
{
    return &total_pages[o->kind == QUIRE_OBJECT_FILE];
}

enum quire_status qi_object_setup(void)
{
    enum quire_status s = quire_cache_create("object", sizeof(struct quire_object), 64,
                                             QUIRE_CACHE_ZERO, NULL, &object_cache);

    total_pages[0] = total_pages[1] = 0;
    qi_list_init(&all_objects);
    qi_spin_init(&all_lock, &all_class);
    return s == QUIRE_OK ? qi_pagetree_setup() : s;
}

static enum quire_status create(enum quire_object_kind kind, uint64_t size,
                                struct quire_object **out)
{
    struct quire_object *o;

    if (size > (uint64_t)INT64_MAX)
        return QUIRE_OVERFLOW;
    QI_CHECK(object_cache, "object created before quire_space_init()");
    o = quire_cache_alloc(object_cache, QUIRE_GFP_KERNEL);
    if (!o)
        return QUIRE_NO_MEMORY;
    o->refs = 1;
    o->kind = kind;
    o->size = size;
    qi_rwsem_init(&o->map_lock, &map_class);
    qi_rwsem_init(&o->sync_lock, &sync_class);
    qi_list_init(&o->vmas);
    qi_spin_init(&o->tree_lock, &tree_class);
    qi_list_init(&o->link);
    if (kind != QUIRE_OBJECT_DEVICE) {
        qi_spin_lock(&all_lock);
        qi_list_add_tail(&all_objects, &o->link);
        qi_spin_unlock(&all_lock);
    }
    *out = o;
    return QUIRE_OK;
}

enum quire_status quire_object_create_shared(uint64_t size, struct quire_object **out)
{
    return create(QUIRE_OBJECT_SHARED, size, out);
}

enum quire_status quire_object_create_file(const struct quire_pager *pager, void *cookie,
                                           uint64_t size, struct quire_object **out)
{
    enum quire_status s;

    if (!pager || !pager->fill)
        return QUIRE_INVALID;
    s = create(QUIRE_OBJECT_FILE, size, out);
    if (s == QUIRE_OK)
        quire_object_set_cookie(*out, cookie, pager);
    return s;
}

enum quire_status quire_object_create_device(q_pa pa, uint64_t len, enum quire_cache_type cache,
                                             struct quire_object **out)
{
    enum quire_status s;
    uint64_t end;

    if (!len || ((pa.v | len) & ~QUIRE_PAGE_MASK) || qi_add_overflows(pa.v, len, &end))
        return QUIRE_INVALID;
    s = create(QUIRE_OBJECT_DEVICE, len, out);
    if (s == QUIRE_OK) {
        (*out)->device_base = pa;
        (*out)->device_cache = cache;
    }
    return s;
}

void quire_object_get(struct quire_object *o)
{
    uint32_t old = qi_fetch_add_relaxed(&o->refs, 1u);

    QI_CHECK(old, "object %p: reference taken on a dead object", (void *)o);
}

/* What the flags of a page say of its content. */
#define PAGE_STATE (QUIRE_PG_UPTODATE | QUIRE_PG_DIRTY | QUIRE_PG_REF | QUIRE_PG_ACTIVE)

/* page is not the object's any more (O3). */
static void leave_tree(struct quire_page *page)
{
    qi_fetch_and_relaxed(&page->flags, ~(QUIRE_PG_OBJECT | QUIRE_PG_DIRTY | QUIRE_PG_UPTODATE));
    qi_store_relaxed(&page->owner, 0ull); /* who unmaps it meanwhile, looks (note_dirty) */
}

/* Take pages [from, to) out of the tree and drop the tree's references. */
static void drop_pages(struct quire_object *o, uint64_t from, uint64_t to)
{
    uint64_t index = from;

    for (;;) {
        struct quire_page *page;
        uint64_t entry;

        qi_spin_lock(&o->tree_lock);
        entry = qi_pagetree_next(&o->tree, &index);
        if (!entry || index >= to) {
            qi_spin_unlock(&o->tree_lock);
            return;
        }
        qi_pagetree_remove(&o->tree, index);
        qi_spin_unlock(&o->tree_lock);

        page = entry_page(entry);
        leave_tree(page);
        qi_fetch_sub_relaxed(total_of(o), 1ull);
        quire_page_put(page);
    }
}

bool quire_object_tryget(struct quire_object *o)
{
    uint32_t refs = qi_load_relaxed(&o->refs);

    while (refs && !qi_cas_acqrel(&o->refs, &refs, refs + 1))
        qport_relax();
    return refs;
}

struct quire_object *qi_object_after(struct quire_object *o)
{
    struct qi_list *at;
    struct quire_object *next = NULL;

    qi_spin_lock(&all_lock);
    for (at = o ? o->link.next : all_objects.next; at != &all_objects && !next; at = at->next) {
        next = qi_list_entry(at, struct quire_object, link);
        if (!quire_object_tryget(next))
            next = NULL; /* ends, and waits for the lock to leave the list */
    }
    qi_spin_unlock(&all_lock);
    return next;
}

void quire_object_put(struct quire_object *o)
{
    uint32_t old = qi_fetch_sub_acqrel(&o->refs, 1u);

    QI_CHECK(old, "object %p: reference dropped on a dead object", (void *)o);
    if (old != 1)
        return;
    QI_ASSERT(qi_list_empty(&o->vmas));
    qi_spin_lock(&all_lock);
    qi_list_del(&o->link);
    qi_spin_unlock(&all_lock);
    drop_pages(o, 0, ~0ull);
    if (o->pager && o->pager->release)
        o->pager->release(o->cookie);
    quire_cache_free(object_cache, o);
}

enum quire_object_kind quire_object_kind(const struct quire_object *o) { return o->kind; }
void *quire_object_cookie(const struct quire_object *o) { return o->cookie; }
uint64_t quire_object_size(const struct quire_object *o) { return qi_load_relaxed(&o->size); }
uint64_t quire_object_resident(const struct quire_object *o)
{
    return qi_load_relaxed(&o->tree.count);
}

void quire_object_set_cookie(struct quire_object *o, void *cookie, const struct quire_pager *pager)
{
    o->cookie = cookie;
    o->pager = pager;
}

struct quire_page *quire_object_peek(struct quire_object *o, uint64_t index)
{
    struct quire_page *page;

    qi_spin_lock(&o->tree_lock);
    page = entry_page(qi_pagetree_get(&o->tree, index));
    if (page)
        qi_fetch_add_relaxed(&page->refs, 1u);
    qi_spin_unlock(&o->tree_lock);
    return page;
}

unsigned qi_object_map_run(struct quire_object *o, uint64_t index, unsigned n,
                           struct quire_page **out)
{
    unsigned i;

    qi_spin_lock(&o->tree_lock);
    for (i = 0; i < n; i++) {
        struct quire_page *page = entry_page(qi_pagetree_get(&o->tree, index + i));

        if (!page)
            break;
        qi_fetch_add_relaxed(&page->counts, QUIRE_PAGE_ONE_MAPPING);
        out[i] = page;
    }
    qi_spin_unlock(&o->tree_lock);
    return i;
}

bool qi_object_replace(struct quire_object *o, struct quire_page *old, struct quire_page *new,
                       uint64_t counts)
{
    uint32_t index = old->index;
    bool alone;

    qi_spin_lock(&o->tree_lock);
    /* who finds the page in the tree needs this lock, and who has it would show in the counts */
    alone = qi_load_acquire(&old->counts) == counts &&
            entry_page(qi_pagetree_get(&o->tree, index)) == old;
    if (alone) {
        qport_copy_page(quire_page_ptr(new), quire_page_ptr(old));
        new->owner = (uintptr_t)o;
        new->index = index;
        qi_fetch_or_relaxed(&new->flags,
                            QUIRE_PG_OBJECT | (quire_page_flags_now(old) & PAGE_STATE));
        qi_fetch_add_relaxed(&new->refs, 1u);
        qi_pagetree_replace(&o->tree, index, (uintptr_t) new);
        leave_tree(old);
        qi_fetch_sub_relaxed(&old->refs, 1u); /* not the last: the caller has one */
    }
    qi_spin_unlock(&o->tree_lock);
    return alone;
}

/* A page with valid content, not yet in the tree. */
static enum quire_status make_page(struct quire_object *o, uint64_t index, struct quire_page **out)
{
    struct quire_page *page = quire_page_alloc(0, QUIRE_GFP_USER | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);

    if (!page)
        return QUIRE_NO_MEMORY;
    if (o->pager && o->pager->fill) {
        enum quire_status s = o->pager->fill(o->cookie, index, quire_page_ptr(page));

        if (s != QUIRE_OK) {
            quire_page_put(page);
            return s;
        }
    }
    *out = page;
    return QUIRE_OK;
}

/*
 * Insert page, or give it up for the one that is there.  The result, in *page, has a reference for
 * the caller.  NO_MEMORY: page is freed.
 */
static enum quire_status insert_page(struct quire_object *o, uint64_t index,
                                     struct quire_page **page)
{
    struct qi_pagetree_reserve reserve = {.n = 0};
    struct quire_page *found = NULL;
    bool done = false;

    for (;;) {
        unsigned need;

        qi_spin_lock(&o->tree_lock);
        found = entry_page(qi_pagetree_get(&o->tree, index));
        if (found) {
            qi_fetch_add_relaxed(&found->refs, 1u);
            done = true;
        } else if (qi_pagetree_insert(&o->tree, index, (uintptr_t)*page, &reserve)) {
            (*page)->owner = (uintptr_t)o;
            (*page)->index = (uint32_t)index;
            qi_fetch_or_relaxed(&(*page)->flags, QUIRE_PG_OBJECT | QUIRE_PG_UPTODATE);
            qi_fetch_add_relaxed(&(*page)->refs, 1u);
            done = true;
        }
        need = done ? 0 : qi_pagetree_needed(&o->tree, index);
        qi_spin_unlock(&o->tree_lock);
        if (done)
            break;
        if (qi_pagetree_reserve(&reserve, need) != QUIRE_OK) {
            quire_page_put(*page);
            return QUIRE_NO_MEMORY;
        }
    }
    qi_pagetree_unreserve(&reserve);
    if (found) {
        quire_page_put(*page);
        *page = found;
    } else {
        qi_fetch_add_relaxed(total_of(o), 1ull);
    }
    return QUIRE_OK;
}

enum quire_status quire_object_page(struct quire_object *o, uint64_t index, struct quire_page **out)
{
    struct quire_page *page;
    enum quire_status s;

    if (o->kind == QUIRE_OBJECT_DEVICE || index > UINT32_MAX)
        return QUIRE_INVALID;
    page = quire_object_peek(o, index);
    if (!page) {
        s = make_page(o, index, &page);
        if (s == QUIRE_OK)
            s = insert_page(o, index, &page);
        if (s != QUIRE_OK)
            return s;
    }
    *out = page;
    return QUIRE_OK;
}

void quire_object_dirty(struct quire_object *o, struct quire_page *page)
{
    (void)o; /* will put the page on the object's dirty list once there is write-back */
    if (!(qi_load_relaxed(&page->flags) & QUIRE_PG_DIRTY))
        qi_fetch_or_relaxed(&page->flags, QUIRE_PG_DIRTY);
}

/*
 * True if page was written since the last call; from here on it is clean.  The flag goes first: a write that
 * is noted afterwards finds its leaf clean, or has it cleaned here and is seen by that.
 */
static bool take_dirty(struct quire_object *o, uint64_t index, struct quire_page *page)
{
    bool dirty = qi_fetch_and_relaxed(&page->flags, ~QUIRE_PG_DIRTY) & QUIRE_PG_DIRTY;

    if (qi_load_relaxed(&page->maps)) {
        qi_rwsem_read_lock(&o->map_lock);
        dirty |= qi_object_clean_hook(o, index, page);
        qi_rwsem_read_unlock(&o->map_lock);
    }
    return dirty;
}

/* Store what is dirty among the pages from index to the one that contains byte end. */
static enum quire_status store_dirty(struct quire_object *o, uint64_t index, uint64_t end)
{
    enum quire_status result = QUIRE_OK;

    for (;; index++) {
        struct quire_page *page;
        enum quire_status s;

        qi_spin_lock(&o->tree_lock);
        page = entry_page(qi_pagetree_next(&o->tree, &index));
        if (page)
            qi_fetch_add_relaxed(&page->refs, 1u);
        qi_spin_unlock(&o->tree_lock);
        if (!page)
            return result;
        if (index << QUIRE_PAGE_SHIFT < end && take_dirty(o, index, page)) {
            s = o->pager->store(o->cookie, index, quire_page_ptr(page));
            if (s != QUIRE_OK) {
                quire_object_dirty(o, page);
                result = s;
            }
        }
        quire_page_put(page);
        if (index << QUIRE_PAGE_SHIFT >= end)
            return result;
    }
}

enum quire_status quire_object_sync(struct quire_object *o, uint64_t start, uint64_t len)
{
    enum quire_status status;
    uint64_t end;

    if (qi_add_overflows(start, len, &end))
        end = ~0ull;
    if (!o->pager || !o->pager->store)
        return QUIRE_OK; /* the cache is the only home: nothing to store */
    qi_rwsem_write_lock(&o->sync_lock);
    status = store_dirty(o, start >> QUIRE_PAGE_SHIFT, end);
    qi_rwsem_write_unlock(&o->sync_lock);
    return status;
}

/* Zero bytes [from, to) of the page at index if it is present; both within the page. */
static void zero_part(struct quire_object *o, uint64_t index, unsigned from, unsigned to)
{
    struct quire_page *page = quire_object_peek(o, index);
    char *p;

    if (!page)
        return;
    p = quire_page_ptr(page);
    for (unsigned i = from; i < to; i++)
        p[i] = 0;
    quire_object_dirty(o, page);
    quire_page_put(page);
}

/* Remove whole pages [from, to) from spaces, then from the tree.  map_lock is held for writing. */
static void remove_range(struct quire_object *o, uint64_t from, uint64_t to, bool copies)
{
    if (from >= to)
        return;
    if (!qi_list_empty(&o->vmas)) /* then there is a src/space, which has set the hook */
        qi_object_unmap_hook(o, from, to, copies);
    drop_pages(o, from, to);
}

enum quire_status quire_object_set_size(struct quire_object *o, uint64_t size)
{
    uint64_t old, edge = size & ~QUIRE_PAGE_MASK;

    if (o->kind == QUIRE_OBJECT_DEVICE)
        return QUIRE_INVALID;
    if (size > (uint64_t)UINT32_MAX << QUIRE_PAGE_SHIFT)
        return QUIRE_OVERFLOW;
    qi_rwsem_write_lock(&o->sync_lock);
    qi_rwsem_write_lock(&o->map_lock);
    old = o->size;
    qi_store_relaxed(&o->size, size);
    if (size <= old) { /* the same size, too: the tail may have been written through a mapping */
        remove_range(o, (size + QUIRE_PAGE_SIZE - 1) >> QUIRE_PAGE_SHIFT, ~0ull >> QUIRE_PAGE_SHIFT,
                     true);
        if (edge)
            zero_part(o, size >> QUIRE_PAGE_SHIFT, (unsigned)edge, (unsigned)QUIRE_PAGE_SIZE);
    }
    qi_rwsem_write_unlock(&o->map_lock);
    qi_rwsem_write_unlock(&o->sync_lock);
    return QUIRE_OK;
}

enum quire_status quire_object_punch(struct quire_object *o, uint64_t start, uint64_t len)
{
    uint64_t end, first, last;

    if (o->kind == QUIRE_OBJECT_DEVICE || !len)
        return QUIRE_INVALID;
    if (qi_add_overflows(start, len, &end) || end > (uint64_t)INT64_MAX)
        return QUIRE_OVERFLOW;
    first = qi_align_up(start, QUIRE_PAGE_SIZE) >> QUIRE_PAGE_SHIFT;
    last = end >> QUIRE_PAGE_SHIFT;
    qi_rwsem_write_lock(&o->sync_lock);
    qi_rwsem_write_lock(&o->map_lock);
    remove_range(o, first, last, false);
    if (first > last) {
        zero_part(o, last, start & ~QUIRE_PAGE_MASK, end & ~QUIRE_PAGE_MASK);
    } else {
        if (start & ~QUIRE_PAGE_MASK)
            zero_part(o, first - 1, start & ~QUIRE_PAGE_MASK, (unsigned)QUIRE_PAGE_SIZE);
        if (end & ~QUIRE_PAGE_MASK)
            zero_part(o, last, 0, end & ~QUIRE_PAGE_MASK);
    }
    qi_rwsem_write_unlock(&o->map_lock);
    qi_rwsem_write_unlock(&o->sync_lock);
    return QUIRE_OK;
}

void quire_object_totals(uint64_t *file_pages, uint64_t *shared_pages)
{
    *shared_pages = qi_load_relaxed(&total_pages[0]);
    *file_pages = qi_load_relaxed(&total_pages[1]);
}
