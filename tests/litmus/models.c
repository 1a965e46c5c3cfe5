/*
 * models.c - memory models as axioms over executions.  Sources in execution.h.
 *
 * Each is written from the definition of its paper, in the paper's names: dob is "dependency
 * ordered before", ppo "preserved program order", and so on.
 */
#include "execution.h"

const char *const model_names[MODELS] = {"sc", "tso", "arm", "riscv", "power"};

/* ---- Relations ---- */

struct rel rel_or(const struct rel *a, const struct rel *b)
{
    struct rel r;

    for (unsigned i = 0; i < MAX_EVENTS; i++)
        r.row[i] = a->row[i] | b->row[i];
    return r;
}

static struct rel and (const struct rel *a, const struct rel *b)
{
    struct rel r;

    for (unsigned i = 0; i < MAX_EVENTS; i++)
        r.row[i] = a->row[i] & b->row[i];
    return r;
}

static struct rel without(const struct rel *a, const struct rel *b)
{
    struct rel r;

    for (unsigned i = 0; i < MAX_EVENTS; i++)
        r.row[i] = a->row[i] & ~b->row[i];
    return r;
}

/* a to the left of from, b to the right of to: [from]; a; [to] */
static struct rel between(uint32_t from, const struct rel *a, uint32_t to)
{
    struct rel r;

    for (unsigned i = 0; i < MAX_EVENTS; i++)
        r.row[i] = from >> i & 1 ? a->row[i] & to : 0;
    return r;
}

/* a; b */
static struct rel then(const struct rel *a, const struct rel *b)
{
    struct rel r = {{0}};

    for (unsigned i = 0; i < MAX_EVENTS; i++)
        for (uint32_t m = a->row[i]; m; m &= m - 1)
            r.row[i] |= b->row[__builtin_ctz(m)];
    return r;
}

/* a+ */
static struct rel closure(const struct rel *a)
{
    struct rel r = *a;

    for (unsigned k = 0; k < MAX_EVENTS; k++)
        for (unsigned i = 0; i < MAX_EVENTS; i++)
            if (r.row[i] >> k & 1)
                r.row[i] |= r.row[k];
    return r;
}

/* a* */
static struct rel star(const struct rel *a)
{
    struct rel r = closure(a);

    for (unsigned i = 0; i < MAX_EVENTS; i++)
        r.row[i] |= 1u << i;
    return r;
}

static bool irreflexive(const struct rel *a)
{
    for (unsigned i = 0; i < MAX_EVENTS; i++)
        if (a->row[i] >> i & 1)
            return false;
    return true;
}

/* Take away, again and again, what leads nowhere; a cycle stays. */
bool rel_acyclic(const struct rel *a, unsigned n)
{
    uint32_t left = n == 32 ? ~0u : (1u << n) - 1;

    for (uint32_t before = 0; left != before;) {
        before = left;
        for (uint32_t m = left; m; m &= m - 1)
            if (!(a->row[__builtin_ctz(m)] & left))
                left &= ~(m & -m);
    }
    return !left;
}

#define OR(r, x)                     \
    do {                             \
        struct rel other_ = (x);     \
        (r) = rel_or(&(r), &other_); \
    } while (0)

/* ---- Models ---- */

#define ALL (~0u)

static bool sc(const struct execution *x)
{
    struct rel order = rel_or(&x->po, &x->rf);

    OR(order, x->co);
    OR(order, x->fr);
    return rel_acyclic(&order, x->n);
}

/* Only a store and a later load may change places, and not across a fence or a locked operation. */
static bool tso(const struct execution *x)
{
    struct rel wr = between(x->writes, &x->po, x->reads), order = without(&x->po, &wr);

    OR(order, between(x->writes & x->locked, &x->po, ALL));
    OR(order, between(ALL, &x->po, x->locked));
    OR(order, x->fence[STORE_LOAD]);
    OR(order, and(&x->rf, &x->ext));
    OR(order, x->co);
    OR(order, x->fr);
    return rel_acyclic(&order, x->n);
}

static struct rel arm_dependencies(const struct execution *x)
{
    struct rel deps = rel_or(&x->addr, &x->data), ctrl_data = rel_or(&x->ctrl, &x->data);
    struct rel coi = without(&x->co, &x->ext), rfi = without(&x->rf, &x->ext);
    struct rel addr_po = then(&x->addr, &x->po), dob = deps;

    OR(dob, between(ALL, &x->ctrl, x->writes));
    OR(dob, between(ALL, &addr_po, x->writes));
    OR(dob, then(&ctrl_data, &coi));
    OR(dob, then(&deps, &rfi));
    return dob;
}

static struct rel arm_barriers(const struct execution *x)
{
    struct rel coi = without(&x->co, &x->ext), bob = x->fence[STORE_LOAD];
    struct rel po_release = between(ALL, &x->po, x->releases);

    /* load_load and load_store are both dmb ishld */
    OR(bob, between(x->reads, &x->fence[LOAD_LOAD], ALL));
    OR(bob, between(x->reads, &x->fence[LOAD_STORE], ALL));
    OR(bob, between(x->writes, &x->fence[STORE_STORE], x->writes));
    OR(bob, between(x->acquires, &x->po, ALL));
    OR(bob, po_release);
    OR(bob, then(&po_release, &coi));
    return bob;
}

static bool arm(const struct execution *x)
{
    struct rel rfi = without(&x->rf, &x->ext), ob = rel_or(&x->rf, &x->co);
    uint32_t exclusives = 0;

    OR(ob, x->fr);
    ob = and(&ob, &x->ext);
    OR(ob, arm_dependencies(x));
    OR(ob, arm_barriers(x));
    OR(ob, x->rmw);
    for (unsigned i = 0; i < x->n; i++)
        exclusives |= x->rmw.row[i];
    OR(ob, between(exclusives, &rfi, x->acquires));
    return rel_acyclic(&ob, x->n);
}

/* Rule 2: two loads of a location, no store to it between them, that read different stores. */
static struct rel riscv_same_address_loads(const struct execution *x)
{
    struct rel reads = between(x->reads, &x->po_loc, x->reads), hidden, same = {{0}};
    struct rel to_write = between(ALL, &x->po_loc, x->writes);

    hidden = then(&to_write, &x->po_loc);
    for (unsigned w = 0; w < x->n; w++)
        for (uint32_t m = x->rf.row[w]; m; m &= m - 1)
            same.row[__builtin_ctz(m)] |= x->rf.row[w];
    reads = without(&reads, &hidden);
    return without(&reads, &same);
}

static bool riscv(const struct execution *x)
{
    struct rel rfi = without(&x->rf, &x->ext), deps = rel_or(&x->addr, &x->data);
    struct rel addr_po = then(&x->addr, &x->po), order = deps; /* rules 9, 10 */

    OR(order, between(ALL, &x->po_loc, x->writes));                   /* 1 */
    OR(order, riscv_same_address_loads(x));                           /* 2 */
    OR(order, between(x->locked & x->writes, &rfi, ALL));             /* 3 */
    OR(order, between(x->reads, &x->fence[LOAD_LOAD], x->reads));     /* 4 */
    OR(order, between(x->reads, &x->fence[LOAD_STORE], x->writes));   /* 4 */
    OR(order, between(x->writes, &x->fence[STORE_STORE], x->writes)); /* 4 */
    OR(order, x->fence[STORE_LOAD]);                                  /* 4 */
    OR(order, between(x->acquires, &x->po, ALL));                     /* 5 */
    OR(order, between(ALL, &x->po, x->releases));                     /* 6 */
    OR(order, x->rmw);                                                /* 8 */
    OR(order, between(ALL, &x->ctrl, x->writes));                     /* 11 */
    OR(order, then(&deps, &rfi));                                     /* 12 */
    OR(order, between(ALL, &addr_po, x->writes));                     /* 13 */
    OR(order, and(&x->rf, &x->ext));
    OR(order, x->co);
    OR(order, x->fr);
    return rel_acyclic(&order, x->n);
}

/* The least ii, ic, ci, cc of "Herding cats", figure 25: i is "initiated", c "committed". */
static struct rel power_ppo(const struct execution *x)
{
    struct rel fre = and(&x->fr, &x->ext), rfe = and(&x->rf, &x->ext), coe = and(&x->co, &x->ext);
    struct rel rdw = then(&fre, &rfe), detour = then(&coe, &rfe);
    struct rel ii = rel_or(&x->addr, &x->data), ic = {{0}}, ci, cc = rel_or(&ii, &x->po_loc), ppo;

    rdw = and(&rdw, &x->po_loc);
    detour = and(&detour, &x->po_loc);
    OR(ii, without(&x->rf, &x->ext));
    OR(ii, rdw);
    ci = rel_or(&x->acquire_sync, &detour);
    OR(cc, x->ctrl);
    OR(cc, then(&x->addr, &x->po));
    for (bool more = true; more;) {
        struct rel ii0 = ii, ic0 = ic, ci0 = ci, cc0 = cc;

        OR(ii, ci);
        OR(ii, then(&ic0, &ci0));
        OR(ii, then(&ii0, &ii0));
        OR(ic, ii);
        OR(ic, cc);
        OR(ic, then(&ic0, &cc0));
        OR(ic, then(&ii0, &ic0));
        OR(ci, then(&ci0, &ii0));
        OR(ci, then(&cc0, &ci0));
        OR(cc, ci);
        OR(cc, then(&ci0, &ic0));
        OR(cc, then(&cc0, &cc0));
        more = __builtin_memcmp(&ii, &ii0, sizeof(ii)) || __builtin_memcmp(&ic, &ic0, sizeof(ic)) ||
               __builtin_memcmp(&ci, &ci0, sizeof(ci)) || __builtin_memcmp(&cc, &cc0, sizeof(cc));
    }
    ppo = between(x->reads, &ii, x->reads);
    OR(ppo, between(x->reads, &ic, x->writes));
    return ppo;
}

static bool power(const struct execution *x)
{
    struct rel rfe = and(&x->rf, &x->ext), fre = and(&x->fr, &x->ext);
    struct rel light = rel_or(&x->fence[LOAD_LOAD], &x->fence[STORE_STORE]), strong, fence, wr;
    struct rel hb, hbs, base, prop, com = rel_or(&x->rf, &x->co), bases;

    OR(light, x->fence[LOAD_STORE]);
    OR(light, x->release_sync);
    wr = between(x->writes, &light, x->reads); /* what lwsync does not order */
    light = without(&light, &wr);
    strong = x->fence[STORE_LOAD];
    fence = rel_or(&light, &strong);

    hb = power_ppo(x);
    OR(hb, fence);
    OR(hb, rfe);
    if (!rel_acyclic(&hb, x->n))
        return false; /* no thin air */
    hbs = star(&hb);

    base = fence;
    OR(base, then(&rfe, &fence));
    base = then(&base, &hbs);
    OR(com, x->fr);
    com = star(&com);
    bases = star(&base);
    prop = then(&com, &bases);
    prop = then(&prop, &strong);
    prop = then(&prop, &hbs);
    OR(prop, between(x->writes, &base, x->writes));

    com = rel_or(&x->co, &prop);
    if (!rel_acyclic(&com, x->n))
        return false; /* propagation */
    prop = then(&fre, &prop);
    prop = then(&prop, &hbs);
    return irreflexive(&prop); /* observation */
}

bool model_allows(enum model m, const struct execution *x)
{
    static bool (*const allow[MODELS])(const struct execution *) = {sc, tso, arm, riscv, power};

    return allow[m](x);
}
