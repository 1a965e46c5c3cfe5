/*
 * execution.c - all candidate executions of a program.  See execution.h.
 *
 * For each path: build the events and what the program fixes; give each read a write to read from;
 * compute the values, and drop the candidate if they contradict the path; order the writes of each
 * location in every way; drop what breaks coherence or atomicity, which no model allows; ask the
 * models for the rest.
 */
#include "execution.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A candidate under construction. */
struct candidate {
    const struct program *p;
    const struct path *path;
    struct outcomes *out;
    struct execution x;
    int8_t read_of[MAX_THREADS][MAX_INSTRS];  /* event, or -1 */
    int8_t write_of[MAX_THREADS][MAX_INSTRS]; /* event, or -1 */
    int8_t from[MAX_EVENTS];                  /* the write that a read reads */
    bool known[MAX_EVENTS];                   /* its value is computed */
    int8_t last[MAX_LOCS];                    /* the last write in co */
};

static inline uint32_t bit(unsigned e) { return 1u << e; }

static void relate(struct rel *r, uint32_t from, unsigned to)
{
    for (; from; from &= from - 1)
        r->row[__builtin_ctz(from)] |= bit(to);
}

/* ---- Events and what the path fixes ---- */

/* What holds for the next event of a thread. */
struct position {
    uint32_t before, ctrl, fenced[FENCES], released, acquired;
};

static unsigned add_event(struct candidate *c, struct position *at, int thread, unsigned i,
                          unsigned loc, bool write)
{
    struct execution *x = &c->x;
    unsigned e = x->n++;

    if (e >= MAX_EVENTS) {
        fprintf(stderr, "litmus: more than %d events\n", MAX_EVENTS);
        abort();
    }
    x->e[e] = (struct event){
        .thread = (int8_t)thread, .instr = (uint8_t)i, .loc = (uint8_t)loc, .write = write};
    *(write ? &x->writes : &x->reads) |= bit(e);
    if (!at)
        return e;
    relate(&x->po, at->before, e);
    for (uint32_t m = at->before; m; m &= m - 1)
        if (x->e[__builtin_ctz(m)].loc == loc)
            relate(&x->po_loc, m & -m, e);
    relate(&x->ctrl, at->ctrl, e);
    for (unsigned k = 0; k < FENCES; k++)
        relate(&x->fence[k], at->fenced[k], e);
    relate(&x->release_sync, at->released, e);
    relate(&x->acquire_sync, at->acquired, e);
    at->before |= bit(e);
    return e;
}

/* The read that register reg of instruction i comes from, as a set. */
static uint32_t source(const struct candidate *c, unsigned t, unsigned i, int reg)
{
    int def = path_def(c->p, c->path, t, i, reg);

    return def < 0 ? 0 : bit((unsigned)c->read_of[t][def]);
}

static void add_write(struct candidate *c, struct position *at, unsigned t, unsigned i)
{
    const struct instr *in = &c->p->code[t][i];
    unsigned e = add_event(c, at, (int)t, i, (unsigned)in->loc, true);
    int read = c->read_of[t][i];

    c->write_of[t][i] = (int8_t)e;
    relate(&c->x.addr, source(c, t, i, in->addr_reg), e);
    relate(&c->x.data, source(c, t, i, in->data_reg), e);
    relate(&c->x.data, source(c, t, i, in->value.reg), e);
    if (in->release)
        c->x.releases |= bit(e);
    if (read < 0)
        return;
    c->x.locked |= bit(e);
    relate(&c->x.rmw, bit((unsigned)read), e);
    if (in->op == OP_CAS)
        relate(&c->x.ctrl, bit((unsigned)read) | source(c, t, i, in->expected.reg), e);
    else if (in->op != OP_XCHG)
        relate(&c->x.data, bit((unsigned)read), e);
}

static void add_access(struct candidate *c, struct position *at, unsigned t, unsigned i)
{
    const struct instr *in = &c->p->code[t][i];
    bool writes =
        in->op == OP_STORE || (is_rmw(in) && (in->op != OP_CAS || c->path->success[t][i]));

    if (in->release && writes)
        at->released = at->before;
    if (is_read(in)) {
        unsigned e = add_event(c, at, (int)t, i, (unsigned)in->loc, false);

        c->read_of[t][i] = (int8_t)e;
        relate(&c->x.addr, source(c, t, i, in->addr_reg), e);
        if (in->acquire)
            c->x.acquires |= bit(e);
        if (is_rmw(in))
            c->x.locked |= bit(e);
    }
    if (writes)
        add_write(c, at, t, i);
    if (in->acquire)
        at->acquired |= bit((unsigned)c->read_of[t][i]);
}

static void build(struct candidate *c)
{
    struct execution *x = &c->x;

    memset(c->read_of, -1, sizeof(c->read_of));
    memset(c->write_of, -1, sizeof(c->write_of));
    for (unsigned l = 0; l < c->p->locs; l++)
        x->e[add_event(c, NULL, -1, 0, l, true)].value = c->p->init[l];
    for (unsigned t = 0; t < c->p->threads; t++) {
        struct position at = {0};

        for (unsigned i = 0; i < c->p->count[t]; i++) {
            const struct instr *in = &c->p->code[t][i];

            at.ctrl |= source(c, t, i, in->test.reg);
            if (!c->path->taken[t][i])
                continue;
            if (in->op == OP_FENCE)
                at.fenced[in->fence] = at.before;
            else if (is_memory(in))
                add_access(c, &at, t, i);
        }
    }
    for (unsigned a = 0; a < x->n; a++)
        for (unsigned b = 0; b < x->n; b++)
            if (x->e[a].thread != x->e[b].thread)
                x->ext.row[a] |= bit(b);
}

/* ---- Values ---- */

/* The value of register reg before instruction i; false: not known yet. */
static bool reg_value(const struct candidate *c, unsigned t, unsigned i, int reg, uint8_t *v)
{
    int def = path_def(c->p, c->path, t, i, reg);

    *v = def < 0 ? 0 : c->x.e[c->read_of[t][def]].value;
    return def < 0 || c->known[c->read_of[t][def]];
}

static bool operand_value(const struct candidate *c, unsigned t, unsigned i,
                          const struct operand *o, uint8_t *v)
{
    *v = o->value;
    return o->reg < 0 || reg_value(c, t, i, o->reg, v);
}

static bool compute(struct candidate *c, unsigned e)
{
    struct event *ev = &c->x.e[e];
    const struct instr *in;
    uint8_t v;

    if (!ev->write) {
        ev->value = c->x.e[c->from[e]].value;
        return c->known[c->from[e]];
    }
    in = &c->p->code[ev->thread][ev->instr];
    if (!operand_value(c, (unsigned)ev->thread, ev->instr, &in->value, &v))
        return false;
    if (is_rmw(in)) {
        int read = c->read_of[ev->thread][ev->instr];

        if (!c->known[read])
            return false;
        v = rmw_value(in, c->x.e[read].value, v);
    }
    ev->value = v;
    return true;
}

/* All values; false: some depend on themselves, which no model allows. */
static bool compute_all(struct candidate *c)
{
    unsigned left = c->x.n - c->p->locs;

    for (unsigned e = 0; e < c->x.n; e++)
        c->known[e] = e < c->p->locs;
    for (bool more = true; more && left;) {
        more = false;
        for (unsigned e = c->p->locs; e < c->x.n; e++)
            if (!c->known[e] && compute(c, e)) {
                c->known[e] = true;
                more = true;
                left--;
            }
    }
    return !left;
}

/* Do the values lead along the path? */
static bool agrees(const struct candidate *c)
{
    for (unsigned t = 0; t < c->p->threads; t++)
        for (unsigned i = 0; i < c->p->count[t]; i++) {
            const struct instr *in = &c->p->code[t][i];
            uint8_t v, found;

            if (in->test.reg >= 0) {
                reg_value(c, t, i, in->test.reg, &v);
                if (((v == in->test.value) == in->test.equal) != c->path->taken[t][i])
                    return false;
            }
            if (in->op == OP_CAS && c->path->taken[t][i]) {
                operand_value(c, t, i, &in->expected, &v);
                found = c->x.e[c->read_of[t][i]].value;
                if ((found == v) != c->path->success[t][i])
                    return false;
            }
        }
    return true;
}

/* ---- Coherence orders ---- */

static void record(struct candidate *c)
{
    struct outcome o = {0};
    bool asked = false, have[MODELS];

    for (unsigned t = 0; t < c->p->threads; t++)
        for (int r = 0; r < MAX_REGS; r++)
            reg_value(c, t, c->p->count[t], r, &o.reg[t][r]);
    for (unsigned l = 0; l < c->p->locs; l++)
        o.mem[l] = c->x.e[c->last[l]].value;
    for (unsigned m = 0; m < MODELS; m++) {
        have[m] = outcomes_have(&c->out[m], &o);
        asked |= !have[m];
    }
    for (unsigned m = 0; asked && m < MODELS; m++)
        if (!have[m] && model_allows((enum model)m, &c->x))
            outcomes_add(&c->out[m], &o);
}

/* Coherent, and no write between the halves of a read-modify-write? */
static bool coherent(struct candidate *c)
{
    struct execution *x = &c->x;
    struct rel com;

    memset(&x->fr, 0, sizeof(x->fr));
    for (uint32_t m = x->reads; m; m &= m - 1) {
        unsigned r = (unsigned)__builtin_ctz(m);

        x->fr.row[r] = x->co.row[c->from[r]] & ~bit(r);
        for (uint32_t w = x->rmw.row[r]; w; w &= w - 1)
            for (uint32_t b = x->fr.row[r]; b; b &= b - 1)
                if (x->co.row[__builtin_ctz(b)] & (w & -w))
                    return false;
    }
    com = rel_or(&x->rf, &x->co);
    com = rel_or(&com, &x->fr);
    com = rel_or(&com, &x->po_loc);
    return rel_acyclic(&com, x->n);
}

/* Put the writes of left, of location loc, behind those of done, in every order. */
static void each_co(struct candidate *c, unsigned loc, uint32_t done, uint32_t left)
{
    struct execution *x = &c->x;

    if (!left) {
        if (++loc == c->p->locs) {
            if (coherent(c))
                record(c);
            return;
        }
        for (uint32_t m = x->writes; m; m &= m - 1)
            if (x->e[__builtin_ctz(m)].loc == loc && __builtin_ctz(m) >= (int)c->p->locs)
                left |= m & -m;
        c->last[loc] = (int8_t)loc; /* the initial write is event number loc */
        done = bit(loc);
        if (!left) {
            each_co(c, loc, done, 0);
            return;
        }
    }
    for (uint32_t m = left; m; m &= m - 1) {
        unsigned w = (unsigned)__builtin_ctz(m);
        int8_t before = c->last[loc];

        if (x->po.row[w] & done)
            continue; /* a later write of its thread is there already */
        relate(&x->co, done, w);
        c->last[loc] = (int8_t)w;
        each_co(c, loc, done | bit(w), left & ~bit(w));
        c->last[loc] = before;
        for (uint32_t d = done; d; d &= d - 1)
            x->co.row[__builtin_ctz(d)] &= ~bit(w);
    }
}

/* Give the reads of left a write each, in every way. */
static void each_rf(struct candidate *c, uint32_t left)
{
    struct execution *x = &c->x;
    unsigned r;

    if (!left) {
        if (compute_all(c) && agrees(c))
            each_co(c, (unsigned)-1, 0, 0);
        return;
    }
    r = (unsigned)__builtin_ctz(left);
    for (uint32_t m = x->writes; m; m &= m - 1) {
        unsigned w = (unsigned)__builtin_ctz(m);

        if (x->e[w].loc != x->e[r].loc || x->po.row[r] & bit(w))
            continue;
        x->rf.row[w] |= bit(r);
        c->from[r] = (int8_t)w;
        each_rf(c, left & (left - 1));
        x->rf.row[w] &= ~bit(r);
    }
}

static void each_execution(const struct path *path, void *ctx)
{
    struct candidate c = *(const struct candidate *)ctx;

    c.path = path;
    build(&c);
    each_rf(&c, c.x.reads);
}

void executions(const struct program *p, struct outcomes out[MODELS])
{
    struct candidate *c = calloc(1, sizeof(*c));

    if (!c)
        abort();
    c->p = p;
    c->out = out;
    paths(p, each_execution, c);
    free(c);
}
