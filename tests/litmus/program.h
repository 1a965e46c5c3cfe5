/*
 * program.h - litmus programs: a few threads of a few instructions, a question about how they end,
 * and the answer that each memory model must give.
 *
 * The text of one (tests/litmus/programs/NAME.litmus):
 *
 *     # what it shows, and where the expected answers come from
 *     source FILE: TEXT                the modelled code, which must stand there word for word
 *     init x=0 y=0                     all locations; registers start as 0
 *       store x 1     | store y 1      one column a thread, one line an instruction
 *       ?f            | ?g             a hole: any word of the program may be one
 *       load r0 y     | load r0 x
 *     exists 0:r0=0 1:r0=0             the outcome asked for ("|" between alternatives)
 *     with f=- g=- : tso arm riscv power      holes filled ("-": nothing); models that allow it
 *     with f=store_load g=store_load : none
 *
 * Instructions:
 *
 *     load R LOC   store LOC VALUE     .acq and .rel: load.acq, store.rel
 *     xchg R LOC VALUE   add, or, and  R is what was found; .acq, .rel, .acqrel
 *     cas R LOC EXPECTED NEW           the same
 *     load_load  store_store  load_store  store_load     the barriers of quire/barrier.h
 *     require R=V                      only runs where this holds count: a loop's last turn
 *     if R=V INSTRUCTION               or R!=V; a branch around one instruction
 *     ... addr:R  data:R               an artificial dependency, as "+ (R ^ R)"
 *
 * VALUE is 0..15 or a register.
 */
#ifndef LITMUS_PROGRAM_H
#define LITMUS_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

enum {
    MAX_THREADS = 4,
    MAX_INSTRS = 14,
    MAX_LOCS = 6,
    MAX_REGS = 5,
    MAX_TERMS = 24,
    NAME_LEN = 24
};

enum op { OP_LOAD, OP_STORE, OP_XCHG, OP_ADD, OP_OR, OP_AND, OP_CAS, OP_FENCE, OP_REQUIRE };
enum fence { LOAD_LOAD, STORE_STORE, LOAD_STORE, STORE_LOAD, FENCES };

/* A constant, or a register. */
struct operand {
    int8_t reg; /* -1: value */
    uint8_t value;
};

/* reg = value, or reg != value. */
struct test {
    int8_t reg; /* -1: none */
    bool equal;
    uint8_t value;
};

struct instr {
    enum op op;
    enum fence fence;
    bool acquire, release;
    int8_t reg, loc;           /* -1: none */
    int8_t addr_reg, data_reg; /* artificial dependencies; -1: none */
    struct operand value, expected;
    struct test test; /* what a guard or OP_REQUIRE asks */
    bool guarded;
};

/* One equation of the condition. */
struct term {
    int8_t thread; /* -1: a location */
    uint8_t index, value;
    bool first; /* starts an alternative */
};

struct program {
    unsigned threads, locs, terms;
    unsigned count[MAX_THREADS];
    struct instr code[MAX_THREADS][MAX_INSTRS];
    char loc_name[MAX_LOCS][NAME_LEN];
    uint8_t init[MAX_LOCS];
    struct term term[MAX_TERMS];
};

/* Final registers and memory; unused ones 0, so that two can be compared as bytes. */
struct outcome {
    uint8_t reg[MAX_THREADS][MAX_REGS];
    uint8_t mem[MAX_LOCS];
};

/* A set. */
struct outcomes {
    struct outcome *v;
    unsigned n, room;
};

void outcomes_free(struct outcomes *s);
void outcomes_add(struct outcomes *s, const struct outcome *o);
bool outcomes_have(const struct outcomes *s, const struct outcome *o);
bool outcomes_within(const struct outcomes *small, const struct outcomes *big);
/* Does one of them fulfil the program's condition? */
bool outcomes_match(const struct outcomes *s, const struct program *p);

/*
 * One way through the program: which guarded instructions run, and which compare-and-swaps
 * succeed.  Whoever explores assumes one and drops the runs whose values contradict it; so loads
 * may be done before branches are decided.
 */
struct path {
    bool taken[MAX_THREADS][MAX_INSTRS];
    bool success[MAX_THREADS][MAX_INSTRS];
};
/* Call visit for each path. */
void paths(const struct program *p, void (*visit)(const struct path *, void *), void *ctx);

/* The instruction before i on the path that defines reg; -1: none, the register is 0. */
int path_def(const struct program *p, const struct path *way, unsigned thread, unsigned i, int reg);

static inline bool is_rmw(const struct instr *in) { return in->op >= OP_XCHG && in->op <= OP_CAS; }
static inline bool is_memory(const struct instr *in) { return in->op <= OP_CAS; }
static inline bool is_read(const struct instr *in) { return is_memory(in) && in->op != OP_STORE; }
/* What a read-modify-write stores. */
uint8_t rmw_value(const struct instr *in, uint8_t found, uint8_t operand);

/* A program's file: its lines, parsed once per "with". */
struct filling {
    char hole[6][NAME_LEN], text[6][NAME_LEN];
    unsigned holes;
};

/* Parse one instruction; false: it is none.  For random programs and for the parser. */
bool parse_instr(struct program *p, const char *text, struct instr *out);

/* Parse a whole program, its holes filled; on an error *why says where. */
bool program_parse(const char *text, const struct filling *f, struct program *out,
                   const char **why);

/* The next "with" line at or after *at: holes and the models that allow the outcome, a set of bits
 * by the order of names.  False: no more; *why is set if it was malformed. */
bool next_filling(const char **at, const char *const *names, unsigned n, struct filling *f,
                  unsigned *models, const char **why);

#endif
