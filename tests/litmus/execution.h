/*
 * execution.h - candidate executions of a litmus program and the memory models that accept or
 * refuse them.
 *
 * An execution is a set of events (reads and writes, the initial writes among them) with program
 * order, a write for each read to read from (rf), and an order of the writes to each location
 * (co).  A model is a set of axioms: relations that may have no cycle.  All candidates are
 * enumerated, so the outcomes found are all that the model allows.
 *
 * Models, with what the operations of the library become on each:
 *
 *   sc      Lamport 1979
 *   tso     Owens, Sarkar, Sewell, "A better x86 memory model: x86-TSO", TPHOLs 2009
 *   arm     Pulte et al., "Simplifying ARM concurrency", POPL 2018; acquire is LDAPR (the weakest
 *           that C11 may be compiled to), an atomic is a load and a store exclusive
 *   riscv   RVWMO, RISC-V unprivileged ISA; acquire and release are of the RCpc kind
 *   power   Alglave, Maranget, Tautschnig, "Herding cats", TOPLAS 2014; acquire is a branch and
 *           isync, release is lwsync; not multi-copy atomic
 */
#ifndef LITMUS_EXECUTION_H
#define LITMUS_EXECUTION_H

#include "program.h"

enum { MAX_EVENTS = 32 };
enum model { MODEL_SC, MODEL_TSO, MODEL_ARM, MODEL_RISCV, MODEL_POWER, MODELS };
extern const char *const model_names[MODELS];

/* A relation: bit b of row[a] means a -> b. */
struct rel {
    uint32_t row[MAX_EVENTS];
};

struct event {
    int8_t thread; /* -1: an initial write */
    uint8_t instr, loc;
    bool write, acquire, release;
    bool locked; /* of a read-modify-write, successful or not */
    uint8_t value;
};

struct execution {
    unsigned n;
    struct event e[MAX_EVENTS];
    /* sets of events */
    uint32_t reads, writes, acquires, releases, locked;
    /* fixed by the path */
    struct rel po, po_loc, ext; /* ext: of different threads */
    struct rel addr, data, ctrl, rmw;
    struct rel fence[FENCES]; /* pairs with the barrier between them, of all kinds of access */
    struct rel release_sync;  /* pairs with the place before a release between them */
    struct rel acquire_sync;  /* from an acquire to all behind its instruction */
    /* chosen */
    struct rel rf, co, fr;
};

/* models.c: does the model allow it?  Values and atomicity are consistent already. */
bool model_allows(enum model m, const struct execution *x);

/* execution.c: all outcomes of a program under each model. */
void executions(const struct program *p, struct outcomes out[MODELS]);

/* models.c, for both */
struct rel rel_or(const struct rel *a, const struct rel *b);
bool rel_acyclic(const struct rel *a, unsigned n);

#endif
