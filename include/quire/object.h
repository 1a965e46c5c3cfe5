/*
 * quire/object.h - what backs pages: shared anonymous memory, files through the page cache,
 * devices.
 *
 * An object is a sequence of pages by index, counted by references.  The page cache of a file *is*
 * its object: read(2), write(2) and mappings see the same frames.  Private anonymous memory has no
 * object: its pages belong to the page tables that map them.
 *
 * Task context throughout (a pager may sleep).
 */
#ifndef QUIRE_OBJECT_H
#define QUIRE_OBJECT_H

#include <quire/frame.h>
#include <quire/pt.h>

struct quire_object;

enum quire_object_kind { QUIRE_OBJECT_SHARED, QUIRE_OBJECT_FILE, QUIRE_OBJECT_DEVICE };

/* What a file system gives.  cookie is the embedder's (an inode); NULL members are allowed but
 * fill. */
struct quire_pager {
    /* Fill the page at index (page: 4 KiB, zeroed before).  May sleep. */
    enum quire_status (*fill)(void *cookie, uint64_t index, void *page);
    /* Store a dirty page; NULL: the cache is the only home of what was written (ramfs). */
    enum quire_status (*store)(void *cookie, uint64_t index, const void *page);
    /* The last reference is gone. */
    void (*release)(void *cookie);
};

/* Zero-filled on demand: MAP_SHARED|MAP_ANONYMOUS, memfd, tmpfs.  size in bytes. */
enum quire_status quire_object_create_shared(uint64_t size, struct quire_object **out);
/* pager must outlive the object. */
enum quire_status quire_object_create_file(const struct quire_pager *pager, void *cookie,
                                           uint64_t size, struct quire_object **out);
/* [pa, pa + len), page-aligned: mapped as it is, no struct page touched. */
enum quire_status quire_object_create_device(q_pa pa, uint64_t len, enum quire_cache_type cache,
                                             struct quire_object **out);

void quire_object_get(struct quire_object *o);
/* For a table that holds no reference but is told of the end (release): false: it is ending. Any context. */
bool quire_object_tryget(struct quire_object *o);
void quire_object_put(struct quire_object *o);
enum quire_object_kind quire_object_kind(const struct quire_object *o);
void *quire_object_cookie(const struct quire_object *o); /* NULL unless a file, or set below */
void quire_object_set_cookie(struct quire_object *o, void *cookie, const struct quire_pager *pager);

uint64_t quire_object_size(const struct quire_object *o); /* bytes */
/*
 * Grow or truncate.  Pages wholly beyond the new end leave the cache and every space that maps
 * them; the tail of the last page is zeroed, also when the size stays the same.  What somebody writes to that
 * tail through a mapping is there when the object grows, as in Linux's tmpfs.  Waits for a sync: no store of
 * what is gone is under way afterwards.
 */
enum quire_status quire_object_set_size(struct quire_object *o, uint64_t size);
/* Free the pages that lie wholly in [start, start + len), zero the parts at the edges; size stays
 * (fallocate(2) PUNCH_HOLE). */
enum quire_status quire_object_punch(struct quire_object *o, uint64_t start, uint64_t len);

/*
 * The page at index with a reference for the caller (quire_page_put), made and filled if absent.
 * index may lie beyond the size: the caller has checked.  NO_MEMORY, or what fill returned.
 */
enum quire_status quire_object_page(struct quire_object *o, uint64_t index,
                                    struct quire_page **out);
/* Same, but only if present: NULL otherwise.  Any context. */
struct quire_page *quire_object_peek(struct quire_object *o, uint64_t index);
/* The page's content is newer than the backing store. */
void quire_object_dirty(struct quire_object *o, struct quire_page *page);
/* Store dirty pages of [start, start + len) through the pager (fsync, msync).  OK: whatever was written
 * before the call has been stored, also by a sync that was under way; one at a time an object.
 * An error of the pager: the pages that it refused are dirty still, the others are stored. */
enum quire_status quire_object_sync(struct quire_object *o, uint64_t start, uint64_t len);
/* Pages in the cache. */
uint64_t quire_object_resident(const struct quire_object *o);
/* Cache pages of all objects: files, and shared memory. */
void quire_object_totals(uint64_t *file_pages, uint64_t *shared_pages);

#endif
