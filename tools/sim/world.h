/*
 * world.h - the world that a program runs in: workers, what each of them holds, and the models that
 * say what every answer and every byte must be.
 *
 *   run.c     a run from start to end, and what must hold when all is quiet
 *   memory.c  what is held of kernel memory (frames.c, heap.c, areas.c): whoever holds memory has filled it with
 *             a pattern, which must be there when he gives it back
 *   region.h  address spaces: for each page of a worker's region, what is mapped, how, and the words in
 *             it; mapping.c, touch.c, hold.c and duel.c change it, space.c has the rest
 *   arena.c   an arena that all share
 *   misuse.c  what is wrong on purpose
 *   watch.c   who allocated what, what is lost or damaged
 *   guards.c  pages that are closed to all CPUs without waiting
 *   dma.c     buffers that devices use
 *   nodes.c   policies, tunables, a device's memory
 *   contig.c  very ranges of frames, and a contiguous memory area
 *   section.c pageblocks that go off line and come back
 *   migrate.c user memory that moves to other frames
 *   views.c   what the library tells of itself
 *   files.c   shared memory and files behind a device that is slow and fails
 *
 * A worker is a task with a list of operations.  Workers of a group share an address space; each has
 * a region of it to itself, whose model is therefore exact while the others change theirs, and all
 * of them share the tables, the locks and the TLBs.  Objects are shared by all: there each worker has
 * words of its own in every page.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <quire/colour.h>
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

#include "../../ports/sim/machine.h"
#include "program.h"

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)

enum { CACHES = 4, OBJECT_PAGES = 64, WORKERS_A_GROUP = 4, IRQ_SLOTS = 4 };

/* ---- Kernel memory: memory.c ---- */

enum held_kind {
    HELD_NOTHING,
    HELD_FRAMES,
    HELD_PAGES,
    HELD_OBJECTS,
    HELD_KMALLOC,
    HELD_AREA,
    HELD_STACK,
    HELD_KV,
    HELD_PERCPU,
    HELD_MAPPED, /* for a device: dma.c */
    HELD_CMA,    /* contig.c */
    HELD_PIECE   /* arena.c */
};

/* What a slot or a box holds. */
struct held {
    enum held_kind kind;
    unsigned
        n; /* FRAMES: order; PAGES, OBJECTS: how many; KMALLOC, AREA, KV, PIECE, MAPPED: bytes */
    unsigned refs;    /* PAGES: references this worker holds of each; MAPPED: direction */
    unsigned cache;   /* OBJECTS; MAPPED: device; AREA: pages that are read-only, a bit each */
    uint64_t pattern; /* what it is filled with */
    void *p[64];      /* struct quire_page, objects, or the one address */
    uint64_t
        words[9]; /* AREA: what each of its pages has; KV: first and last; MAPPED: bus address */
};

/* A pageblock, as the tasks have left it. */
enum section {
    SECTION_ON,
    SECTION_OFF,
    SECTION_MOVING,
    SECTION_ABSENT,
    SECTION_NEVER /* not all of it is managed */
};

/* ---- Address spaces: space.c ---- */

enum backing { NOTHING, ANON, SHARED, FILE_SHARED, FILE_PRIVATE, SHARED_PRIVATE };

struct mpage {
    uint8_t backing, prot;
    bool own;       /* has content of its own: anonymous, or a private copy */
    bool maybe;     /* MADV_FREE: the words may have become zero */
    bool locked;    /* perhaps */
    bool held;      /* a device has it: worker.hold */
    uint8_t file;   /* number of the object */
    uint32_t index; /* in the object */
    uint64_t word[2];
};

struct mspace {
    struct quire_space *s;
    struct mpage *pages; /* of the worker's region; NULL: the group's own, each worker has his */
    uint64_t brk_bytes;  /* the break lies so far above its start */
    uint64_t *brk_words; /* the first of each page below it */
    bool alone;          /* no other worker uses it */
};

/* A private page that a device keeps, and what for. */
struct hold {
    struct quire_page *page; /* NULL: none */
    struct mspace *m;        /* one page of it is held, or none any more; NULL: it has ended */
    bool writes;
};

/* ---- Objects: files.c ---- */

struct file {
    struct quire_object *o;
    bool pager;
    unsigned size;               /* pages */
    unsigned zero_from, zero_to; /* pages that are being cut out: the device has zeros there */
    uint8_t *device;             /* OBJECT_PAGES pages */
    uint64_t (*words)[SIM_PROGRAM_TASKS + 1][2]; /* by page and worker: the content that he left */
};

/* ---- Workers ---- */

struct worker {
    const struct sim_program *program;
    const struct sim_task_ops *ops;
    unsigned number; /* 1.. */
    unsigned group, place;
    uint64_t version;
    uint64_t rng;
    uint64_t op_started; /* hog_epoch at the beginning of the operation */
    uint64_t io_started;
    struct held slots[SIM_SLOTS];
    struct quire_page **hog; /* all that was left */
    size_t nhog;
    struct mspace home, child[SIM_CHILDREN];
    struct mspace *now;
    struct mpage *home_pages;
    struct hold hold;
    unsigned last_page; /* that it touched */
    bool duel_waits;    /* for a neighbour to meet it at that page */
    bool duel_on;       /* one has come, and is not done */
    bool duel_pokes;    /* it may write there */
    struct file *file;  /* its own */
    char doing[160];
};

struct world {
    const struct sim_program *program;
    struct sim_outcome *out;
    unsigned nworkers, scale, region; /* pages */
    struct worker *workers;           /* [1..nworkers] */
    struct quire_space *groups[SIM_PROGRAM_TASKS];
    struct file shared, common, *own; /* own: [1..nworkers] */
    struct held boxes[SIM_BOXES];
    struct quire_cache *caches[CACHES];
    struct held irq[SIM_MAX_CPUS][IRQ_SLOTS];
    bool events[SIM_EVENTS];
    const struct worker *fighter; /* the last one in a duel */
    uint64_t hog_epoch;           /* changes whenever memory is scarce, or may have been */
    unsigned hogs;                /* workers that hold all there was */
    uint64_t io_failures;         /* device requests that failed so far */
    uint64_t bad[64];             /* frames that must not come back, by number */
    unsigned nbad;
    uint8_t *sections; /* of each pageblock: enum section */
    uint64_t nsections;
    uint64_t first_hot;  /* the section from which on memory may come and go; nsections: none */
    uint64_t came;       /* frames of it that are there at the end */
    unsigned moves;      /* calls that change what is managed, now */
    uint64_t move_epoch; /* begins and ends of such calls */
    bool still;          /* no task runs: devices answer at once, and do not fail */
    uint64_t low_mark;   /* free pages below which NO_MEMORY is no surprise */
    bool big_area;       /* a task has an area of more than 2 MiB */
};
extern struct world world;

/* A number of the worker's own, the same in every run of the program. */
uint64_t worker_random(struct worker *w);
/* A value that tells who wrote it and when. */
uint64_t worker_value(struct worker *w);
bool value_of(uint64_t value, const struct worker *w);

/* The operation failed for lack of memory: that must be true.  what: for the report. */
void must_be_short(struct worker *w, const char *what);
bool may_be_short(const struct worker *w);

/* Look at everything that can be looked at while others work (views.c). */
void look_at_views(void);

/* Each gives true if the operation was its. */
bool do_memory_op(struct worker *w, const struct sim_op *op);
bool do_space_op(struct worker *w, const struct sim_op *op);

/* Fill n bytes, look at them, look for zeros; what: for the report. */
void memory_fill(void *p, size_t n, uint64_t pattern);
void memory_check(const void *p, size_t n, uint64_t pattern, const char *what);
void memory_check_zero(const void *p, size_t n, const char *what);

/* Operations on what a slot holds; the memory of h, filled, is mapped for a device (false: no room). */
bool do_dma_op(struct worker *w, const struct sim_op *op, struct held *h);
bool dma_hold(struct held *h, void *p, unsigned bytes, unsigned kind);
void dma_give_back(struct held *h);
bool dma_on(void);
void dma_setup(void);
void dma_teardown(void);

enum quire_status arena_verify(void);

/* The slot, which is free, holds the block. */
void memory_hold(struct worker *w, struct held *h, struct quire_page *page, unsigned order);
void memory_setup(void);
void memory_give_back(struct held *h);
void memory_unhog(struct worker *w);
void memory_interrupt(void);
void memory_teardown(void);
/* Nobody works, and everything is still held (watch.c). */
void watch_at_rest(void);

/* After an operation of w: it may be the one to free what another has planted (misuse.c). */
void misuse_go_on(struct worker *w);
/* Nobody works any more: what is planted must be seen now. */
void misuse_settle(void);
/* The run ends here, and well: the process does, whatever is left. */
_Noreturn void sim_run_ends(void);

void policy_alloc(struct worker *w, struct held *h, unsigned order, unsigned kind);
void tune(struct worker *w);
void device_page(unsigned at);
void device_plug(unsigned kind);
void nodes_setup(void);
void nodes_teardown(void);
/* First of all: from here on memory in use is moved. */
void contig_setup(const struct sim_program *p);
uint64_t contig_area_frames(void);
/* A page that was given for these flags may be. */
void contig_check(const struct quire_page *page, unsigned order, quire_gfp gfp);
void contig_take(struct worker *w, struct held *h, unsigned at, unsigned n);
void contig_find(struct worker *w, struct held *h, unsigned n);
void cma_take(struct worker *w, struct held *h, unsigned n, unsigned align_order);
void cma_give(struct quire_page *page, unsigned n);
void contig_verify(void);
/* n single pages from first on are the worker's. */
void memory_hold_range(struct worker *w, struct held *h, q_pfn first, unsigned n,
                       enum held_kind kind);

void sections_setup(void);
void section_off(unsigned at);
void section_on(unsigned at);
void memory_add(unsigned at, unsigned node);
void memory_remove(unsigned at);
void frames_ask(unsigned at);
/* No frame of the block, which was handed out, is off line or absent. */
void sections_check(const struct quire_page *page, unsigned order);
/* Frames that have come and are there, or perhaps. */
uint64_t sections_came(void);
/* All back on line, when nobody works. */
void sections_restore(void);

/* Move what programs have there to other frames (migrate.c): the page at of the worker's region and what lies
 * behind its frame; whole pageblocks. */
void move_page(struct worker *w, unsigned at, unsigned n);
void move_blocks(struct worker *w, unsigned at, unsigned n);
/* The page that o, of the same space, works on. */
void move_page_of(struct worker *w, const struct worker *o);

void files_setup(void);
void files_teardown(void);
void file_init(struct file *f, bool pager);
/* The two words of worker w in a page of the file that the page now has. */
uint64_t *file_words(struct file *f, unsigned index, const struct worker *w);
void file_truncate(struct worker *w, struct file *f, unsigned pages);
void file_punch(struct worker *w, struct file *f, unsigned index, unsigned n);
/* Read, or write, a word of a page as read(2) and write(2) do: through the cache. */
void file_copy(struct worker *w, struct file *f, unsigned index, bool write);
/* The worker's words in that page have reached the device: a sync has said so. */
void file_on_device(struct worker *w, struct file *f, unsigned index);
/* Sync it, retrying what the device failed, and compare the device with the words. */
void file_check(struct file *f);

void space_speculate(void);
void space_setup(struct worker *w);
void space_check_all(struct worker *w);
void space_teardown(struct worker *w);
/* Where the words of worker number lie in a page. */
static inline unsigned word_offset(unsigned number, unsigned which)
{
    return which ? 4080 - 16 * number : 16 * number;
}

#endif
