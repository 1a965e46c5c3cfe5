/*
 * program.c - litmus programs: sets of outcomes, paths.  See program.h; the text is read in parse.c.
 */
#include "program.h"

#include <stdlib.h>
#include <string.h>

/* ---- Sets of outcomes ---- */

void outcomes_free(struct outcomes *s)
{
    free(s->v);
    *s = (struct outcomes){0};
}

bool outcomes_have(const struct outcomes *s, const struct outcome *o)
{
    for (unsigned i = 0; i < s->n; i++)
        if (!memcmp(&s->v[i], o, sizeof(*o)))
            return true;
    return false;
}

void outcomes_add(struct outcomes *s, const struct outcome *o)
{
    if (outcomes_have(s, o))
        return;
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 16;
        s->v = realloc(s->v, s->room * sizeof(*s->v));
        if (!s->v)
            abort();
    }
    s->v[s->n++] = *o;
}

bool outcomes_within(const struct outcomes *small, const struct outcomes *big)
{
    for (unsigned i = 0; i < small->n; i++)
        if (!outcomes_have(big, &small->v[i]))
            return false;
    return true;
}

static bool matches(const struct outcome *o, const struct program *p)
{
    bool all = false;

    for (unsigned i = 0; i < p->terms; i++) {
        const struct term *t = &p->term[i];
        uint8_t v = t->thread < 0 ? o->mem[t->index] : o->reg[t->thread][t->index];

        if (t->first) {
            if (all)
                return true;
            all = true;
        }
        all = all && v == t->value;
    }
    return all;
}

bool outcomes_match(const struct outcomes *s, const struct program *p)
{
    for (unsigned i = 0; i < s->n; i++)
        if (matches(&s->v[i], p))
            return true;
    return false;
}

/* ---- Paths ---- */

struct walk {
    const struct program *p;
    struct path path;
    void (*visit)(const struct path *, void *);
    void *ctx;
};

static void each_path(struct walk *w, unsigned t, unsigned i)
{
    const struct instr *in;

    while (t < w->p->threads && i == w->p->count[t]) {
        t++;
        i = 0;
    }
    if (t == w->p->threads) {
        w->visit(&w->path, w->ctx);
        return;
    }
    in = &w->p->code[t][i];
    for (int taken = !in->guarded; taken < 2; taken++) {
        w->path.taken[t][i] = taken;
        for (int success = 0; success <= (taken && in->op == OP_CAS); success++) {
            w->path.success[t][i] = success;
            each_path(w, t, i + 1);
        }
    }
}

void paths(const struct program *p, void (*visit)(const struct path *, void *), void *ctx)
{
    struct walk w = {.p = p, .visit = visit, .ctx = ctx};

    each_path(&w, 0, 0);
}

int path_def(const struct program *p, const struct path *way, unsigned thread, unsigned i, int reg)
{
    if (reg < 0)
        return -1;
    while (i-- > 0)
        if (way->taken[thread][i] && p->code[thread][i].reg == reg)
            return (int)i;
    return -1;
}

uint8_t rmw_value(const struct instr *in, uint8_t found, uint8_t operand)
{
    switch (in->op) {
    case OP_ADD: return (found + operand) & 15;
    case OP_OR: return found | operand;
    case OP_AND: return found & operand;
    default: return operand;
    }
}
