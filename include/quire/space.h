/*
 * quire/space.h - address spaces: the mmap family, faults, fork.  Linux's semantics; the values of
 * the QUIRE_MAP_* and QUIRE_MADV_* words are those of Linux on x86-64, so that a kernel with its
 * system calls passes them through.  docs/flags.md has every flag and what it does here.
 *
 * Task context throughout; each call locks the space itself.
 */
#ifndef QUIRE_SPACE_H
#define QUIRE_SPACE_H

#include <quire/object.h>
#include <quire/policy.h>

struct quire_space;

#define QUIRE_MAP_SHARED          0x01u
#define QUIRE_MAP_PRIVATE         0x02u
#define QUIRE_MAP_SHARED_VALIDATE 0x03u
#define QUIRE_MAP_TYPE            0x0fu
#define QUIRE_MAP_FIXED           0x10u
#define QUIRE_MAP_ANONYMOUS       0x20u
#define QUIRE_MAP_32BIT           0x40u
#define QUIRE_MAP_GROWSDOWN       0x0100u
#define QUIRE_MAP_DENYWRITE       0x0800u
#define QUIRE_MAP_EXECUTABLE      0x1000u
#define QUIRE_MAP_LOCKED          0x2000u
#define QUIRE_MAP_NORESERVE       0x4000u
#define QUIRE_MAP_POPULATE        0x8000u
#define QUIRE_MAP_NONBLOCK        0x10000u
#define QUIRE_MAP_STACK           0x20000u
#define QUIRE_MAP_HUGETLB         0x40000u
#define QUIRE_MAP_SYNC            0x80000u
#define QUIRE_MAP_FIXED_NOREPLACE 0x100000u

#define QUIRE_PROT_GROWSDOWN 0x01000000u
#define QUIRE_PROT_GROWSUP   0x02000000u

#define QUIRE_MREMAP_MAYMOVE   1u
#define QUIRE_MREMAP_FIXED     2u
#define QUIRE_MREMAP_DONTUNMAP 4u

#define QUIRE_MS_ASYNC      1u
#define QUIRE_MS_INVALIDATE 2u
#define QUIRE_MS_SYNC       4u

struct quire_space_config {
    q_uva start, end;  /* usable user addresses: page-aligned, start > 0 */
    bool randomize;    /* ASLR of mmap base, stack and brk */
    q_kva kernel_half; /* addresses from here up are the kernel's */
    uint64_t limit_as, limit_data, limit_stack, limit_memlock; /* bytes; ~0 no limit */
};

/* Caches and the zero page; after quire_heap_init() and quire_pt_init().  Boot context. */
enum quire_status quire_space_init(void);

enum quire_status quire_space_create(const struct quire_space_config *cfg,
                                     struct quire_space **out);
/* A copy: private memory copy-on-write, shared memory shared.  NO_MEMORY: nothing is left behind.
 */
enum quire_status quire_space_fork(struct quire_space *parent, struct quire_space **out);
void quire_space_get(struct quire_space *s);
/* The last put unmaps everything and frees the tables; no CPU may have it active. */
void quire_space_put(struct quire_space *s);
/* Unmap everything now (exit of the last thread, exec); the space stays usable. */
void quire_space_clear(struct quire_space *s);

/* This CPU translates through s from now on; NULL: the kernel's own table.  No-sleep context;
 * preemption off.  Lazy: NULL may leave the tables of the old space loaded until it dies. */
void quire_space_activate(struct quire_space *s);
/* The space active on this CPU, or NULL. */
struct quire_space *quire_space_active(void);

void quire_space_set_limits(struct quire_space *s, const struct quire_space_config *limits);

struct quire_mmap {
    q_uva addr; /* hint, or the place with FIXED */
    uint64_t len;
    unsigned prot;               /* QUIRE_READ | WRITE | EXEC */
    unsigned flags;              /* QUIRE_MAP_* */
    struct quire_object *object; /* NULL with ANONYMOUS */
    uint64_t offset;             /* into object, page-aligned */
    unsigned max_prot; /* what the object's opener may have (mprotect checks it); 0: all */
    const char *name;  /* static text for the maps view ("[heap]"), or NULL */
};
enum quire_status quire_mmap(struct quire_space *s, const struct quire_mmap *m, q_uva *out);
enum quire_status quire_munmap(struct quire_space *s, q_uva addr, uint64_t len);
/* prot: QUIRE_READ.. and QUIRE_PROT_GROWSDOWN. */
enum quire_status quire_mprotect(struct quire_space *s, q_uva addr, uint64_t len, unsigned prot);
/* NO_MEMORY with FIXED, or to a smaller size: the target's old mapping, or the tail, may be gone (as in
 * Linux); the pages that were to move are where they were. */
enum quire_status quire_mremap(struct quire_space *s, q_uva old, uint64_t old_len, uint64_t new_len,
                               unsigned flags, q_uva new_addr, q_uva *out);
enum quire_status quire_madvise(struct quire_space *s, q_uva addr, uint64_t len, int advice);
/* vec: one byte a page, kernel memory. */
enum quire_status quire_mincore(struct quire_space *s, q_uva addr, uint64_t len, uint8_t *vec);
enum quire_status quire_msync(struct quire_space *s, q_uva addr, uint64_t len, unsigned flags);
enum quire_status quire_mlock(struct quire_space *s, q_uva addr, uint64_t len, bool on_fault);
enum quire_status quire_munlock(struct quire_space *s, q_uva addr, uint64_t len);
enum quire_status quire_mlockall(struct quire_space *s, unsigned flags); /* MCL_*; 0: munlockall */

/* The break: exec sets where it starts; brk(2): returns the resulting break. */
void quire_brk_init(struct quire_space *s, q_uva start);
q_uva quire_brk(struct quire_space *s, q_uva want);

/* Map a growing stack that ends at or (with ASLR) somewhat below the top of the space; *top is its end,
 * page-aligned.  limit becomes limit_stack of the space: how far it grows until set_limits says otherwise. */
enum quire_status quire_stack_map(struct quire_space *s, uint64_t limit, unsigned prot, q_uva *top);

/*
 * A fault at addr by access (one of QUIRE_READ, QUIRE_WRITE, QUIRE_EXEC).  OK: retry the
 * instruction.  SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR: a signal.  NO_MEMORY: kill.  IO: SIGBUS.
 * Task context with interrupts on.
 */
enum quire_status quire_fault(struct quire_space *s, q_uva addr, unsigned access);

/*
 * Copy between kernel memory and any space, active or not, faulting pages in as a task of that
 * space would.  Stops at the first bad page: *done bytes were copied.  force: ignore missing permission, as
 * ptrace and /proc/pid/mem do; a forced write needs a private mapping and makes its own copy.
 */
enum quire_status quire_space_read(struct quire_space *s, q_uva from, void *to, size_t len,
                                   bool force, size_t *done);
enum quire_status quire_space_write(struct quire_space *s, q_uva to, const void *from, size_t len,
                                    bool force, size_t *done);

/*
 * The page at addr for access (QUIRE_READ or QUIRE_WRITE), faulted in, with a reference: for a device, or
 * whoever else uses it for longer.  As long as the program has the page there, both see what the other writes,
 * whatever mprotect, fork or mremap do meanwhile; a private page that is shared is copied for that at once.
 * But memory of a private mapping that the program has not written yet (zeros, or a file's page), asked for READ, is held
 * as it is now.  A page of 2 MiB is split.
 */
enum quire_status quire_space_page(struct quire_space *s, q_uva addr, unsigned access,
                                   struct quire_page **out);
/* A key for futexes: equal if and only if two addresses mean the same memory.  Shared mappings:
 * object and offset; private: space and address. */
struct quire_futex_key {
    uint64_t a, b;
    struct quire_object *object; /* referenced if not NULL: quire_object_put */
};
enum quire_status quire_space_futex_key(struct quire_space *s, q_uva addr, bool private_hint,
                                        struct quire_futex_key *out);

struct quire_vma_info {
    q_uva start, end;
    unsigned prot, max_prot;
    bool shared, grows_down, locked, dontfork, wipeonfork, huge;
    uint64_t offset;
    struct quire_object *object; /* not referenced: valid inside the callback */
    const char *name;
    struct quire_policy policy; /* a copy; mode DEFAULT: it has none */
    /* only from quire_space_smaps: pages of 4 KiB */
    uint64_t rss, anon, swap, shared_clean, shared_dirty, private_clean, private_dirty, referenced,
        huge_pages;
    uint64_t pss_bytes;
    uint64_t most_maps;                   /* of one page */
    uint64_t node_pages[QUIRE_MAX_NODES]; /* of rss, by the node that they are on */
};
/* True if a shared mapping of o is or, by mprotect, could become writable (for F_SEAL_WRITE). */
bool quire_object_write_shared(struct quire_object *o);
/* Mappings of o, in all spaces (shm_nattch of shmctl(2)). */
uint64_t quire_object_mappings(struct quire_object *o);
/* Call visit for each vma in order until it returns false.  With detail, counts pages too
 * (O(pages)). visit must not call into the same space. */
void quire_space_vmas(struct quire_space *s, bool detail,
                      bool (*visit)(void *ctx, const struct quire_vma_info *), void *ctx);
/* The vma that contains addr, or the next above it: NOT_FOUND if none.  detail as above. */
enum quire_status quire_space_vma(struct quire_space *s, q_uva addr, bool detail,
                                  struct quire_vma_info *out);

/*
 * The n pages from start on as Linux's /proc/PID/pagemap has them (Documentation/admin-guide/mm/pagemap.rst):
 * bit 63 present, 61 of a file or shared, 56 mapped once, and the frame number; 0: nothing.  A snapshot.
 */
void quire_space_pagemap(struct quire_space *s, q_uva start, size_t n, uint64_t *out);

/*
 * New private pages of [start, start + len) come from where the policy says, instead of the running task's
 * (QPORT_TASK_POLICY); DEFAULT or NULL: no more.  It is copied.  Splitting, moving and fork keep it.  Pages that
 * are there stay where they are.
 *   INVALID   not aligned, beyond the space, or of shared memory, whose object places its pages
 *   FAULT     not all of it is mapped          NO_MEMORY, LIMIT   for the cut
 * and nothing has changed.
 */
enum quire_status quire_space_set_policy(struct quire_space *s, q_uva start, uint64_t len,
                                         const struct quire_policy *policy);

/* What is mapped at addr, referenced (quire_object_put), and the offset of addr in it; NULL: memory without an
 * object, or nothing. */
struct quire_object *quire_space_object(struct quire_space *s, q_uva addr, uint64_t *offset);

/*
 * Move user memory out of [start, start + frames): the content of every private page, every page of an
 * object, and every 2 MiB page there goes to a frame outside, all that map it map the new one, and
 * the old frame is free.  Programs go on meanwhile; who touches a page that is on its way waits.
 * Returns how many frames were moved.  What stays: pages that somebody has a reference to (input and
 * output, quire_space_page()), kernel memory, page tables, and all for which there is no memory.
 * Made to be given to quire_frame_set_mover() after quire_space_init().  Task context, under no lock;
 * docs/design/migration.md.
 */
uint64_t quire_space_move_range(q_pfn start, uint64_t frames);

/*
 * Wait until every fault, and whatever else looks at the pages of a space, that is under way now has ended.
 * A copy on write reads a page that another thread may give up meanwhile; nothing is lost by it, but the
 * page has to be there.  Made to be given to quire_frame_set_settler() after quire_space_init().  Task
 * context, under no lock; O(spaces), each of whose locks is taken for writing once.
 */
void quire_space_settle(void);
/* The same; the new frames are on this node, or nothing moves. */
uint64_t quire_space_move_to(q_pfn start, uint64_t frames, unsigned node);

struct quire_space_stats {
    uint64_t total, rss_anon, rss_file, rss_shared, peak_rss, locked, data, exec, stack,
        tables; /* pages */
    uint64_t vmas, peak_total;
    q_uva brk_start, brk_end, stack_top, mmap_base;
};
void quire_space_stats(struct quire_space *s, struct quire_space_stats *out);
q_pa quire_space_root(struct quire_space *s);
enum quire_status quire_space_verify(struct quire_space *s);

/* Fault and event counters of the whole machine, summed over CPUs. */
#define QUIRE_EVENTS(X)                                                                        \
    X(FAULT_ZERO_READ, "fault_zero_read") /* first read of anonymous memory: the zero page */  \
    X(FAULT_ANON, "fault_anon")           /* a new zeroed page */                              \
    X(FAULT_COW_COPY, "fault_cow_copy")   /* write to a shared page: copied */                 \
    X(FAULT_COW_REUSE, "fault_cow_reuse") /* write to a page nobody else has: made writable */ \
    X(FAULT_FILE_READ, "fault_file_read") /* a cache page mapped */                            \
    X(FAULT_FILE_COW, "fault_file_cow")   /* private write to a cache page: copied */          \
    X(FAULT_SHARED, "fault_shared")       /* shared memory mapped */                           \
    X(FAULT_DEVICE, "fault_device")                                                            \
    X(FAULT_HUGE, "fault_huge") /* a 2 MiB leaf */                                             \
    X(FAULT_STACK, "fault_stack_growth")                                                       \
    X(FAULT_SPURIOUS, "fault_spurious") /* another CPU was faster */                           \
    X(FAULT_SEGV, "fault_segv")                                                                \
    X(FAULT_BUS, "fault_bus")                                                                  \
    X(FAULT_OOM, "fault_oom")                                                                  \
    X(MMAP, "mmap")                                                                            \
    X(MUNMAP, "munmap")                                                                        \
    X(MPROTECT, "mprotect")                                                                    \
    X(MREMAP, "mremap")                                                                        \
    X(BRK, "brk")                                                                              \
    X(MADVISE, "madvise")                                                                      \
    X(FORK, "fork")                                                                            \
    X(VMA_SPLIT, "vma_split")                                                                  \
    X(VMA_MERGE, "vma_merge")                                                                  \
    X(HUGE_SPLIT, "huge_split")                                                                \
    X(PAGES_ZAPPED, "pages_zapped")                                                            \
    X(PAGES_MOVED, "pgmigrate_success") /* frames whose content went elsewhere */              \
    X(PAGES_STAYED, "pgmigrate_fail")   /* frames that somebody kept from it */
enum quire_event {
#define QUIRE_EVENT_ENUM(name, text) QUIRE_EVENT_##name,
    QUIRE_EVENTS(QUIRE_EVENT_ENUM)
#undef QUIRE_EVENT_ENUM
        QUIRE_EVENT_COUNT
};
uint64_t quire_event_count(enum quire_event e);
const char *quire_event_name(enum quire_event e);

#endif
