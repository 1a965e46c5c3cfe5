/*
 * kernel/mm/mempolicy.c - from which nodes programs want their memory: set_mempolicy, get_mempolicy, mbind,
 * move_pages, migrate_pages (set_mempolicy(2), mbind(2), move_pages(2), numa(7)).
 *
 * A task's policy is its own heap object, which only its own faults read; clone copies it, exec keeps it.  Policies
 * of ranges are the library's (include/quire/space.h).  Every node with memory is allowed to everybody.
 */
#include "../proc/proc.h"
#include "fs/fsint.h"
#include "mempolicy.h"
#include "task.h"
#include "uaccess.h"

#include <quire/heap.h>
#include <quire/policy.h>
#include <quire/space.h>

enum {
    MPOL_DEFAULT,
    MPOL_PREFERRED,
    MPOL_BIND,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED
};
enum { MPOL_F_RELATIVE = 1 << 14, MPOL_F_STATIC = 1 << 15 };
enum { MPOL_F_NODE = 1, MPOL_F_ADDR = 2, MPOL_F_MEMS_ALLOWED = 4 };
enum { MPOL_MF_STRICT = 1, MPOL_MF_MOVE = 2, MPOL_MF_MOVE_ALL = 4 };

static const u8 mode_of[] = {QUIRE_POLICY_DEFAULT, QUIRE_POLICY_PREFERRED,
                             QUIRE_POLICY_BIND,    QUIRE_POLICY_INTERLEAVE,
                             QUIRE_POLICY_LOCAL,   QUIRE_POLICY_PREFERRED_MANY,
                             QUIRE_POLICY_WEIGHTED};

/* Words of quire_space_pagemap(). */
#define FRAME_BITS       ((1ull << 55) - 1)
#define PAGE_MAPPED_ONCE (1ull << 56)
#define PAGE_OF_FILE     (1ull << 61)
#define CHUNK            128u /* pages looked at under one taking of a space's lock */

const struct quire_policy *bare_task_policy(void) { return current->mempolicy; }

/* Nodes with memory. */
static u64 allowed_nodes(void)
{
    struct quire_node_stats n;
    u64 set = 0;

    for (unsigned k = 0; quire_node_stats(k, &n) == QUIRE_OK; k++)
        set |= n.managed ? 1ull << k : 0;
    return set;
}

/* ---- sets of nodes, as programs give them ---- */

#define MASK_BITS 4096u /* longer ones are refused; those that are kept come first */

/* maxnode counts one bit more than there are. */
static int get_nodes(u64 at, u64 maxnode, u64 *out)
{
    u64 bits = maxnode ? maxnode - 1 : 0;

    *out = 0;
    if (!at || !bits)
        return 0;
    if (bits > MASK_BITS)
        return -EINVAL;
    for (u64 k = 0; k < (bits + 63) / 64; k++) {
        u64 word;

        if (get_user_u64(&word, at + k * 8))
            return -EFAULT;
        if (bits - k * 64 < 64)
            word &= (1ull << (bits - k * 64)) - 1;
        if (k && word)
            return -EINVAL;
        *out |= k ? 0 : word;
    }
    return 0;
}

static int put_nodes(u64 at, u64 maxnode, u64 set)
{
    u64 bytes = (maxnode - 1 + 63) / 64 * 8;

    if (!at)
        return 0;
    if (maxnode < quire_nodes() || maxnode > MASK_BITS)
        return -EINVAL;
    if (!bytes || copy_to_user(at, &set, 8))
        return bytes ? -EFAULT : 0;
    return clear_user(at + 8, bytes - 8);
}

/* A policy of what mode says, with its flags, and the set at nmask. */
static int get_policy(u64 mode, u64 nmask, u64 maxnode, struct quire_policy *p)
{
    unsigned flags = (mode & MPOL_F_STATIC ? QUIRE_POLICY_STATIC : 0) |
                     (mode & MPOL_F_RELATIVE ? QUIRE_POLICY_RELATIVE : 0);
    u64 nodes, known = ~0ull >> (64 - quire_nodes());
    int err = get_nodes(nmask, maxnode, &nodes);

    mode &= ~(u64)(MPOL_F_STATIC | MPOL_F_RELATIVE);
    if (err)
        return err;
    if (mode >= K_COUNT(mode_of) || (nodes && !(flags & QUIRE_POLICY_RELATIVE) && !(nodes & known)))
        return -EINVAL;
    if (!(flags & QUIRE_POLICY_RELATIVE))
        nodes &= known;
    /* no node of it has memory: EINVAL, too */
    return quire_policy_init(p, mode_of[mode], flags, nodes, allowed_nodes()) ? -EINVAL : 0;
}

static int linux_mode(const struct quire_policy *p)
{
    int flags = (p->flags & QUIRE_POLICY_STATIC ? MPOL_F_STATIC : 0) |
                (p->flags & QUIRE_POLICY_RELATIVE ? MPOL_F_RELATIVE : 0);

    for (unsigned k = 0; k < K_COUNT(mode_of); k++)
        if (mode_of[k] == p->mode)
            return (int)k | flags;
    return MPOL_DEFAULT;
}

/* ---- the policy of a task ---- */

int mempolicy_clone(struct task *to, const struct task *from)
{
    if (!from->mempolicy)
        return 0;
    to->mempolicy = quire_kmalloc(sizeof *to->mempolicy, QUIRE_GFP_KERNEL);
    if (!to->mempolicy)
        return -ENOMEM;
    *to->mempolicy = *from->mempolicy;
    return 0;
}

long sys_set_mempolicy(u64 mode, u64 nmask, u64 maxnode)
{
    struct quire_policy *old = current->mempolicy, *p = NULL, new;
    int err = get_policy((u32)mode, nmask, maxnode, &new);
    unsigned long irq;

    if (err)
        return err;
    if (new.mode != QUIRE_POLICY_DEFAULT) {
        p = quire_kmalloc(sizeof *p, QUIRE_GFP_KERNEL);
        if (!p)
            return -ENOMEM;
        *p = new;
    }
    irq = kspin_lock(&proc_lock); /* numa_maps of another task reads it */
    current->mempolicy = p;
    kspin_unlock(&proc_lock, irq);
    quire_kfree(old);
    return 0;
}

/* That of its oldest thread. */
static struct quire_policy policy_of(struct process *p)
{
    struct quire_policy out = {.mode = QUIRE_POLICY_DEFAULT};
    unsigned long irq = kspin_lock(&proc_lock);

    if (p->threads && p->threads->mempolicy)
        out = *p->threads->mempolicy;
    kspin_unlock(&proc_lock, irq);
    return out;
}

void mempolicy_text(struct process *proc, const struct quire_policy *of_range, struct text *t)
{
    static const char *const names[] = {
        "default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"};
    struct quire_policy p = of_range->mode != QUIRE_POLICY_DEFAULT ? *of_range : policy_of(proc);
    const char *sep = ":";
    int mode = linux_mode(&p);

    text_printf(t, "%s%s%s", names[mode & 7], mode & MPOL_F_STATIC ? "=static" : "",
                mode & MPOL_F_RELATIVE ? "=relative" : "");
    if (p.mode == QUIRE_POLICY_DEFAULT || p.mode == QUIRE_POLICY_LOCAL)
        return;
    for (unsigned n = 0, end; n < quire_nodes(); n = end + 1) {
        end = n;
        if (!(p.nodes >> n & 1))
            continue;
        while (end + 1 < quire_nodes() && p.nodes >> (end + 1) & 1)
            end++;
        text_printf(t, end > n ? "%s%u-%u" : "%s%u", sep, n, end);
        sep = ",";
    }
}

/* ---- where pages are ---- */

static unsigned node_of_word(u64 word)
{
    q_pfn pfn = Q_PFN(word & FRAME_BITS);

    return word >> 63 && quire_pfn_valid(pfn) ? quire_page_node(quire_page_of_pfn(pfn))
                                              : QUIRE_NODE_ANY;
}

/* The node of the page at addr, which is brought in. */
static long node_at(u64 addr)
{
    u64 word;
    u8 byte;
    unsigned node;

    if (copy_from_user(&byte, addr, 1))
        return -EFAULT;
    quire_space_pagemap(current->space, Q_UVA(K_DOWN(addr, QUIRE_PAGE_SIZE)), 1, &word);
    node = node_of_word(word);
    return node == QUIRE_NODE_ANY ? -EFAULT : (long)node;
}

static long policy_at(u64 addr, struct quire_policy *out)
{
    struct quire_vma_info v;

    if (quire_space_vma(current->space, Q_UVA(addr), false, &v) != QUIRE_OK || v.start.v > addr)
        return -EFAULT;
    if (v.policy.mode != QUIRE_POLICY_DEFAULT)
        *out = v.policy;
    return 0;
}

long sys_get_mempolicy(u64 mode_at, u64 nmask, u64 maxnode, u64 addr, u64 flags)
{
    struct quire_policy p = {.mode = QUIRE_POLICY_DEFAULT};
    long node, err = 0;

    if (flags & ~7ull || (flags & MPOL_F_MEMS_ALLOWED && flags & (MPOL_F_NODE | MPOL_F_ADDR)) ||
        (addr && !(flags & MPOL_F_ADDR)))
        return -EINVAL;
    if (flags & MPOL_F_MEMS_ALLOWED) {
        if (mode_at && put_user_u32(mode_at, 0))
            return -EFAULT;
        return put_nodes(nmask, maxnode, allowed_nodes());
    }
    if (current->mempolicy)
        p = *current->mempolicy;
    if (flags & MPOL_F_ADDR)
        err = policy_at(addr, &p);
    if (err)
        return err;
    node = linux_mode(&p);
    if (flags & MPOL_F_NODE) {
        if (!(flags & MPOL_F_ADDR) && p.mode != QUIRE_POLICY_INTERLEAVE &&
            p.mode != QUIRE_POLICY_WEIGHTED)
            return -EINVAL;
        node = flags & MPOL_F_ADDR ? node_at(addr) : (long)quire_policy_node(&p, 0);
        if (node < 0)
            return node;
    }
    if (mode_at && put_user_u32(mode_at, (u32)node))
        return -EFAULT;
    return put_nodes(nmask, maxnode, p.mode == QUIRE_POLICY_LOCAL ? 0 : p.asked);
}

/* ---- ranges ---- */

/* A run of frames that go to the same node. */
struct batch {
    u64 first, n;
    unsigned node;
    u64 left; /* frames that stayed */
};

static void batch_flush(struct batch *b)
{
    u64 moved = b->n ? quire_space_move_to(Q_PFN(b->first), b->n, b->node) : 0;

    b->left += b->n - K_MIN(b->n, moved);
    b->n = 0;
}

static void batch_add(struct batch *b, u64 word, unsigned node)
{
    u64 pfn = word & FRAME_BITS;

    if (b->n && (pfn != b->first + b->n || node != b->node))
        batch_flush(b);
    if (!b->n)
        b->first = pfn;
    b->node = node;
    b->n++;
}

/* Private pages of [start, end) that are not where the policy wants them: moved there (move), or only counted.
 * Returns those that stay. */
static u64 misplaced(u64 start, u64 end, const struct quire_policy *p, bool move)
{
    struct batch b = {0};
    u64 words[CHUNK], wrong = 0;

    for (u64 at = start; at < end; at += CHUNK * QUIRE_PAGE_SIZE) {
        u64 n = K_MIN((u64)CHUNK, (end - at) / QUIRE_PAGE_SIZE);

        quire_space_pagemap(current->space, Q_UVA(at), n, words);
        for (u64 k = 0; k < n; k++) {
            unsigned node = node_of_word(words[k]);

            if (node == QUIRE_NODE_ANY || words[k] & PAGE_OF_FILE || p->nodes >> node & 1)
                continue;
            if (move)
                batch_add(&b, words[k], quire_policy_node(p, at / QUIRE_PAGE_SIZE + k));
            else
                wrong++;
        }
        batch_flush(&b);
        cond_resched();
    }
    return wrong + b.left;
}

long sys_mbind(u64 start, u64 len, u64 mode, u64 nmask, u64 maxnode, u64 flags)
{
    const u64 moves = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL;
    struct quire_policy p;
    u64 end = K_UP(start + len, QUIRE_PAGE_SIZE), stay;
    long err;

    if (flags & ~7ull || start % QUIRE_PAGE_SIZE || end < start)
        return -EINVAL;
    if (flags & MPOL_MF_MOVE_ALL && !capable(CAP_SYS_NICE))
        return -EPERM;
    err = get_policy((u32)mode, nmask, maxnode, &p);
    if (!err)
        err = kerr(quire_space_set_policy(current->space, Q_UVA(start), end - start, &p));
    if (err || !(flags & (MPOL_MF_STRICT | moves)) || !p.nodes)
        return err;
    stay = misplaced(start, end, &p, flags & moves);
    return stay && flags & MPOL_MF_STRICT ? -EIO : 0;
}

/* ---- pages of a process ---- */

static bool may_move(const struct process *p)
{
    const struct process *me = current->proc;

    return me == p || !me->euid || capable(CAP_SYS_NICE) ||
           (me->euid == p->uid && me->euid == p->suid);
}

/* The space of a process whose pages the caller may move, referenced; NULL: *err.  pid 0: the caller. */
static struct quire_space *space_of(int pid, long *err)
{
    struct process *p = process_find(pid ? pid : current->proc->pid);
    struct quire_space *s = NULL;
    unsigned long irq;

    *err = -ESRCH;
    if (!p)
        return NULL;
    irq = kspin_lock(&proc_lock);
    if (!may_move(p))
        *err = -EPERM;
    else if ((s = p->space))
        quire_space_get(s);
    kspin_unlock(&proc_lock, irq);
    process_put(p);
    return s;
}

/* Where the page is then: a node or -errno.  to < 0: it is only looked at. */
static int move_one(struct quire_space *s, u64 addr, int to)
{
    q_uva page = Q_UVA(K_DOWN(addr, QUIRE_PAGE_SIZE));
    struct quire_vma_info v;
    unsigned node;
    u64 word;

    if (addr >= USER_END || quire_space_vma(s, page, false, &v) != QUIRE_OK || v.start.v > addr)
        return -EFAULT;
    quire_space_pagemap(s, page, 1, &word);
    node = node_of_word(word);
    if (node == QUIRE_NODE_ANY)
        return word ? -EFAULT : -ENOENT;
    if (to < 0 || (unsigned)to == node)
        return (int)node;
    return quire_space_move_to(Q_PFN(word & FRAME_BITS), 1, (unsigned)to) ? to : -EBUSY;
}

static long move_listed(struct quire_space *s, u64 n, u64 pages, u64 nodes, u64 status)
{
    for (u64 k = 0; k < n; k++) {
        u32 to = ~0u;
        u64 addr;

        if (get_user_u64(&addr, pages + k * 8) || (nodes && get_user_u32(&to, nodes + k * 4)))
            return -EFAULT;
        if (nodes && to >= quire_nodes())
            return -ENODEV;
        if (nodes && !(allowed_nodes() >> to & 1))
            return -EACCES;
        if (put_user_u32(status + k * 4, (u32)move_one(s, addr, (int)to)))
            return -EFAULT;
        cond_resched();
    }
    return 0;
}

long sys_move_pages(int pid, u64 n, u64 pages, u64 nodes, u64 status, u64 flags)
{
    struct quire_space *s;
    long err;

    if (flags & ~(u64)(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL))
        return -EINVAL;
    if (flags & MPOL_MF_MOVE_ALL && !capable(CAP_SYS_NICE))
        return -EPERM;
    s = space_of(pid, &err);
    if (!s)
        return err;
    err = move_listed(s, n, pages, nodes, status);
    quire_space_put(s);
    return err;
}

struct ranges {
    u64 start, end;
};

static bool next_vma(struct quire_space *s, struct ranges *r)
{
    struct quire_vma_info v;

    if (quire_space_vma(s, Q_UVA(r->end), false, &v) != QUIRE_OK)
        return false;
    *r = (struct ranges){K_MAX(v.start.v, r->end), v.end.v};
    return true;
}

/* The n-th node of from goes to the n-th of to, round if there are fewer; what is in both stays. */
static unsigned target(unsigned node, u64 from, u64 to)
{
    unsigned rank = (unsigned)__builtin_popcountll(from & ((1ull << node) - 1));

    for (rank %= (unsigned)__builtin_popcountll(to); rank; rank--)
        to &= to - 1;
    return (unsigned)__builtin_ctzll(to);
}

static u64 migrate_range(struct quire_space *s, const struct ranges *r, u64 from, u64 to)
{
    struct batch b = {0};
    u64 words[CHUNK];

    for (u64 at = r->start; at < r->end; at += CHUNK * QUIRE_PAGE_SIZE) {
        u64 n = K_MIN((u64)CHUNK, (r->end - at) / QUIRE_PAGE_SIZE);

        quire_space_pagemap(s, Q_UVA(at), n, words);
        for (u64 k = 0; k < n; k++) {
            unsigned node = node_of_word(words[k]);

            if (node != QUIRE_NODE_ANY && words[k] & PAGE_MAPPED_ONCE && from & ~to & 1ull << node)
                batch_add(&b, words[k], target(node, from, to));
        }
        batch_flush(&b);
        cond_resched();
    }
    return b.left;
}

long sys_migrate_pages(int pid, u64 maxnode, u64 old_nodes, u64 new_nodes)
{
    struct ranges r = {0};
    struct quire_space *s;
    u64 from, to, left = 0;
    long err = get_nodes(old_nodes, maxnode, &from);

    if (!err)
        err = get_nodes(new_nodes, maxnode, &to);
    if (err)
        return err;
    to &= allowed_nodes();
    if (!to)
        return -EINVAL;
    s = space_of(pid, &err);
    if (!s)
        return err;
    while (next_vma(s, &r))
        left += migrate_range(s, &r, from, to);
    quire_space_put(s);
    return (long)left;
}
