/*
 * machine.c - the multi-processor for litmus programs.  See machine.h.
 *
 * Depth first over all states, each visited once.  A state is which instructions are done, what
 * they read, memory, and the store buffers.  For the weak machine all that orders two instructions
 * of a processor is known from the path: it becomes a mask of instructions to wait for.
 */
#include "machine.h"

#include <stdlib.h>
#include <string.h>

struct state {
    uint16_t done[MAX_THREADS];
    uint8_t read[MAX_THREADS][MAX_INSTRS]; /* what a read found */
    uint8_t mem[MAX_LOCS];
    uint8_t buffered[MAX_THREADS];           /* stores in the buffer */
    uint8_t buffer[MAX_THREADS][MAX_INSTRS]; /* location, value: four bits each; oldest first */
};

struct explorer {
    const struct program *p;
    const struct path *path;
    enum machine kind;
    struct outcomes *out;
    uint16_t wait_for[MAX_THREADS][MAX_INSTRS];
    uint16_t all[MAX_THREADS]; /* the accesses of the path */
    struct state *seen;        /* open hash table; used: its entry holds a state */
    bool *used;
    size_t room, n;
};

/* ---- States seen ---- */

static size_t place(const struct explorer *m, const struct state *s)
{
    uint64_t h = 1469598103934665603u;
    size_t at;

    for (size_t i = 0; i < sizeof(*s); i++)
        h = (h ^ ((const uint8_t *)s)[i]) * 1099511628211u;
    for (at = h & (m->room - 1); m->used[at]; at = (at + 1) & (m->room - 1))
        if (!memcmp(&m->seen[at], s, sizeof(*s)))
            break;
    return at;
}

static void table_init(struct explorer *m, size_t room)
{
    m->room = room;
    m->n = 0;
    m->seen = malloc(room * sizeof(*m->seen));
    m->used = calloc(room, sizeof(*m->used));
    if (!m->seen || !m->used)
        abort();
}

static void table_put(struct explorer *m, size_t at, const struct state *s)
{
    m->seen[at] = *s;
    m->used[at] = true;
    m->n++;
}

static void table_grow(struct explorer *m)
{
    struct explorer old = *m;

    table_init(m, 2 * old.room);
    for (size_t i = 0; i < old.room; i++)
        if (old.used[i])
            table_put(m, place(m, &old.seen[i]), &old.seen[i]);
    free(old.seen);
    free(old.used);
}

/* True the first time. */
static bool first_visit(struct explorer *m, const struct state *s)
{
    size_t at = place(m, s);

    if (m->used[at])
        return false;
    table_put(m, at, s);
    if (m->n > m->room / 2)
        table_grow(m);
    return true;
}

/* ---- What must be done before what ---- */

static bool writes(const struct explorer *m, unsigned t, unsigned i)
{
    const struct instr *in = &m->p->code[t][i];

    return in->op == OP_STORE || (is_rmw(in) && (in->op != OP_CAS || m->path->success[t][i]));
}

static uint16_t def_bit(const struct explorer *m, unsigned t, unsigned i, int reg)
{
    int def = path_def(m->p, m->path, t, i, reg);

    return def < 0 ? 0 : (uint16_t)(1u << def);
}

/* Does the barrier order an access of this kind before it with one of that kind behind it? */
static bool orders(enum fence f, const struct explorer *m, unsigned t, unsigned j, unsigned i)
{
    bool read_j = is_read(&m->p->code[t][j]), read_i = is_read(&m->p->code[t][i]);

    switch (f) {
    case LOAD_LOAD: return read_j && read_i;
    case STORE_STORE: return writes(m, t, j) && writes(m, t, i);
    case LOAD_STORE: return read_j && writes(m, t, i);
    default: return true;
    }
}

/* Must access j be done before the later access i, for another reason than registers? */
static bool ordered(const struct explorer *m, unsigned t, unsigned j, unsigned i)
{
    const struct instr *a = &m->p->code[t][j], *b = &m->p->code[t][i];

    if (m->kind != MACHINE_WEAK || a->acquire || (b->release && writes(m, t, i)))
        return true;
    if (a->loc == b->loc && !(a->op == OP_STORE && b->op == OP_LOAD))
        return true;
    for (unsigned k = j + 1; k < i; k++)
        if (m->path->taken[t][k] && m->p->code[t][k].op == OP_FENCE &&
            orders(m->p->code[t][k].fence, m, t, j, i))
            return true;
    return false;
}

/* What access i needs: its registers, and if it stores the branches and addresses before it. */
static uint16_t needs(const struct explorer *m, unsigned t, unsigned i)
{
    const struct instr *in = &m->p->code[t][i];
    uint16_t mask = def_bit(m, t, i, in->addr_reg) | def_bit(m, t, i, in->data_reg) |
                    def_bit(m, t, i, in->value.reg) | def_bit(m, t, i, in->expected.reg);

    if (!writes(m, t, i))
        return mask;
    for (unsigned k = 0; k <= i; k++) {
        mask |= def_bit(m, t, k, m->p->code[t][k].test.reg);
        if (m->path->taken[t][k])
            mask |= def_bit(m, t, k, m->p->code[t][k].addr_reg);
    }
    return mask;
}

static void plan(struct explorer *m)
{
    memset(m->all, 0, sizeof(m->all));
    memset(m->wait_for, 0, sizeof(m->wait_for));
    for (unsigned t = 0; t < m->p->threads; t++)
        for (unsigned i = 0; i < m->p->count[t]; i++) {
            if (!m->path->taken[t][i] || !is_memory(&m->p->code[t][i]))
                continue;
            m->wait_for[t][i] = needs(m, t, i);
            for (unsigned j = 0; j < i; j++)
                if (m->all[t] >> j & 1 && ordered(m, t, j, i))
                    m->wait_for[t][i] |= (uint16_t)(1u << j);
            m->all[t] |= (uint16_t)(1u << i);
        }
}

/* ---- Steps ---- */

static uint8_t reg_value(const struct explorer *m, const struct state *s, unsigned t, unsigned i,
                         int reg)
{
    int def = path_def(m->p, m->path, t, i, reg);

    return def < 0 ? 0 : s->read[t][def];
}

static uint8_t operand_value(const struct explorer *m, const struct state *s, unsigned t,
                             unsigned i, const struct operand *o)
{
    return o->reg < 0 ? o->value : reg_value(m, s, t, i, o->reg);
}

/* What a load finds; false: it must wait for an earlier store of its own to know its value. */
static bool find(const struct explorer *m, const struct state *s, unsigned t, unsigned i,
                 uint8_t *v)
{
    unsigned loc = (unsigned)m->p->code[t][i].loc;

    for (unsigned k = s->buffered[t]; k-- > 0;)
        if (s->buffer[t][k] >> 4 == loc) {
            *v = s->buffer[t][k] & 15;
            return true;
        }
    for (unsigned j = i; j-- > 0;) {
        const struct instr *a = &m->p->code[t][j];
        uint16_t operands;

        if (!(m->all[t] >> j & 1) || s->done[t] >> j & 1 || (unsigned)a->loc != loc)
            continue;
        operands = def_bit(m, t, j, a->addr_reg) | def_bit(m, t, j, a->data_reg) |
                   def_bit(m, t, j, a->value.reg);
        *v = operand_value(m, s, t, j, &a->value);
        return !(operands & ~s->done[t]);
    }
    *v = s->mem[loc];
    return true;
}

/* Do access i; false: it cannot be done now, or contradicts the path. */
static bool perform(const struct explorer *m, struct state *s, unsigned t, unsigned i)
{
    const struct instr *in = &m->p->code[t][i];
    uint8_t v = operand_value(m, s, t, i, &in->value), found;

    if (in->op == OP_STORE && m->kind == MACHINE_TSO) {
        s->buffer[t][s->buffered[t]++] = (uint8_t)(in->loc << 4 | v);
    } else if (in->op == OP_STORE) {
        s->mem[in->loc] = v;
    } else {
        if ((is_rmw(in) && s->buffered[t]) || !find(m, s, t, i, &found))
            return false;
        s->read[t][i] = found;
        if (in->op == OP_CAS &&
            (found == operand_value(m, s, t, i, &in->expected)) != m->path->success[t][i])
            return false;
        if (writes(m, t, i))
            s->mem[in->loc] = rmw_value(in, found, v);
    }
    s->done[t] |= (uint16_t)(1u << i);
    return true;
}

/* On the machine with buffers: a store_load before access i waits for an empty one. */
static bool fence_holds(const struct explorer *m, const struct state *s, unsigned t, unsigned i)
{
    if (m->kind != MACHINE_TSO || !s->buffered[t])
        return false;
    while (i-- > 0 && !(m->all[t] >> i & 1))
        if (m->path->taken[t][i] && m->p->code[t][i].op == OP_FENCE &&
            m->p->code[t][i].fence == STORE_LOAD)
            return true;
    return false;
}

/* Every test of the path, as far as its register is known. */
static bool contradicts(const struct explorer *m, const struct state *s)
{
    for (unsigned t = 0; t < m->p->threads; t++)
        for (unsigned i = 0; i < m->p->count[t]; i++) {
            const struct test *q = &m->p->code[t][i].test;

            if (q->reg < 0 || def_bit(m, t, i, q->reg) & ~s->done[t])
                continue;
            if (((reg_value(m, s, t, i, q->reg) == q->value) == q->equal) != m->path->taken[t][i])
                return true;
        }
    return false;
}

static void record(struct explorer *m, const struct state *s)
{
    struct outcome o = {0};

    for (unsigned t = 0; t < m->p->threads; t++) {
        if (s->done[t] != m->all[t] || s->buffered[t])
            return;
        for (int r = 0; r < MAX_REGS; r++)
            o.reg[t][r] = reg_value(m, s, t, m->p->count[t], r);
    }
    memcpy(o.mem, s->mem, sizeof(o.mem));
    outcomes_add(m->out, &o);
}

static void leak(struct state *s, unsigned t)
{
    uint8_t oldest = s->buffer[t][0];

    s->mem[oldest >> 4] = oldest & 15;
    s->buffered[t]--;
    memmove(s->buffer[t], s->buffer[t] + 1, MAX_INSTRS - 1);
    s->buffer[t][s->buffered[t]] = 0;
}

/* No deeper than two steps an instruction. */
static void explore(struct explorer *m, const struct state *s)
{
    if (!first_visit(m, s) || contradicts(m, s))
        return;
    record(m, s);
    for (unsigned t = 0; t < m->p->threads; t++) {
        struct state next = *s;

        if (s->buffered[t]) {
            leak(&next, t);
            explore(m, &next);
        }
        for (unsigned i = 0; i < m->p->count[t]; i++) {
            if (!(m->all[t] & ~s->done[t]) || !(m->all[t] >> i & 1) || s->done[t] >> i & 1 ||
                m->wait_for[t][i] & ~s->done[t] || fence_holds(m, s, t, i))
                continue;
            next = *s;
            if (perform(m, &next, t, i))
                explore(m, &next);
        }
    }
}

static void each_path(const struct path *path, void *ctx)
{
    struct explorer *m = ctx;
    struct state start;

    memset(&start, 0, sizeof(start));
    memcpy(start.mem, m->p->init, sizeof(start.mem));
    m->path = path;
    plan(m);
    table_init(m, 1024);
    explore(m, &start);
    free(m->seen);
    free(m->used);
}

void machine_run(const struct program *p, enum machine kind, struct outcomes *out)
{
    struct explorer m = {.p = p, .kind = kind, .out = out};

    paths(p, each_path, &m);
}
