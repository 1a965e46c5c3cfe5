/*
 * kernel/proc/core.c - core(5): the memory of a program that died, as an ELF file named "core" in its directory.
 *
 * Only if RLIMIT_CORE allows at least a page; a longer one is cut off there.  What holds: the notes that
 * gdb needs of the thread that died (the others are already on their way out), private memory that was or can be written or
 * has no file, and of mapped files the first page.  Pages of zeros become holes.
 */
#include "proc.h"

#define O_CORE (01u | 0100u | 01000u | 0400000u) /* write, create, truncate, follow no link */

#define NT_PRSTATUS 1u
#define NT_FPREGSET 2u
#define NT_PRPSINFO 3u
#define NT_AUXV     6u
#define NT_SIGINFO  0x53494749u

struct phdr {
    u32 type, flags;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};

struct prstatus {
    int signo, code, err;
    u16 cursig, pad;
    u64 pending, held;
    int pid, ppid, pgrp, sid;
    u64 utime[2], stime[2], cutime[2], cstime[2];
    u64 regs[27];
    int fpvalid, pad2;
};
_Static_assert(sizeof(struct prstatus) == 336, "Linux's ABI");

struct prpsinfo {
    char state, sname, zombie, nice;
    u64 flag;
    u32 uid, gid;
    int pid, ppid, pgrp, sid;
    char name[16], args[80];
};
_Static_assert(sizeof(struct prpsinfo) == 136, "Linux's ABI");

struct core {
    struct file *file;
    u64 at, limit;
    long err;
    u8 *page;
    struct phdr *ph; /* [0] the notes */
    unsigned segments, room;
};

static void put_at(struct core *c, u64 at, const void *p, size_t n)
{
    struct kiovec iov = {.base = (u64)p, .len = n};
    struct uio u = {.iov = &iov, .niov = 1, .left = n, .kernel = true};
    long wrote;

    if (c->err)
        return;
    if (at > c->limit || n > c->limit - at) {
        c->err = -EFBIG;
        return;
    }
    wrote = c->file->ops->write(c->file, &u, &at);
    if (wrote != (long)n)
        c->err = wrote < 0 ? wrote : -ENOSPC;
}

static void put(struct core *c, const void *p, size_t n)
{
    put_at(c, c->at, p, n);
    c->at += n;
}

/* ---- notes ---- */

static void note(struct core *c, u32 type, const void *desc, size_t n)
{
    static const u8 zeros[8];
    u32 head[5] = {5, (u32)n, type};

    memcpy(&head[3], "CORE\0\0\0", 8);
    put(c, head, sizeof(head));
    put(c, desc, n);
    put(c, zeros, K_UP(n, 4) - n);
}

static void note_status(struct core *c, const struct regs *r, const struct ksiginfo *si)
{
    struct task *t = current;
    struct process *p = t->proc;
    struct prstatus s = {.signo = si->signo,
                         .code = si->code,
                         .cursig = (u16)si->signo,
                         .pid = t->tid,
                         .ppid = p->ppid,
                         .pgrp = p->pgid,
                         .sid = p->sid,
                         .fpvalid = 1};

    s.pending = t->sig->pending.set;
    s.held = t->sig->mask;
    ns_to_timeval(t->utime_ns, s.utime);
    ns_to_timeval(t->stime_ns, s.stime);
    memcpy(s.regs, r, sizeof(*r)); /* struct regs has this order */
    s.regs[21] = t->fs_base;
    s.regs[22] = t->gs_base;
    note(c, NT_PRSTATUS, &s, sizeof(s));
}

static void note_program(struct core *c)
{
    struct process *p = current_process();
    struct prpsinfo i = {.sname = 'R',
                         .uid = p->uid,
                         .gid = p->gid,
                         .pid = p->pid,
                         .ppid = p->ppid,
                         .pgrp = p->pgid,
                         .sid = p->sid};
    size_t n = K_MIN(p->arg_end.v - p->arg_start.v, sizeof(i.args) - 1);

    memcpy(i.name, current->comm, sizeof(i.name));
    (void)copy_from_user(i.args, p->arg_start.v, n);
    for (size_t k = 0; k + 1 < n; k++)
        if (!i.args[k])
            i.args[k] = ' ';
    note(c, NT_PRPSINFO, &i, sizeof(i));
}

static void put_notes(struct core *c, const struct regs *r, const struct ksiginfo *si)
{
    struct process *p = current_process();
    u64 auxv[64] = {0};
    size_t n = K_MIN(p->auxv_end.v - p->auxv_start.v, sizeof(auxv));
    u8 info[128];

    note_status(c, r, si);
    note_program(c);
    siginfo_to_user_bytes(si, NULL, info);
    note(c, NT_SIGINFO, info, sizeof(info));
    (void)copy_from_user(auxv, p->auxv_start.v, n);
    note(c, NT_AUXV, auxv, n);
    fpu_save_current();
    note(c, NT_FPREGSET, current->fpu, 512);
}

/* ---- memory ---- */

static bool add_segment(void *ctx, const struct quire_vma_info *v)
{
    struct core *c = ctx;
    struct phdr *h = &c->ph[c->segments];
    bool whole = !v->shared && (!v->object || v->prot & QUIRE_WRITE || v->anon);

    if (c->segments == c->room)
        return false;
    *h = (struct phdr){.type = 1,
                       .flags = (v->prot & QUIRE_READ ? 4 : 0) | (v->prot & QUIRE_WRITE ? 2 : 0) |
                                (v->prot & QUIRE_EXEC ? 1 : 0),
                       .vaddr = v->start.v,
                       .memsz = v->end.v - v->start.v,
                       .align = QUIRE_PAGE_SIZE};
    h->filesz = !(v->prot & QUIRE_READ) ? 0 : whole ? h->memsz : v->offset ? 0 : QUIRE_PAGE_SIZE;
    c->segments++;
    return true;
}

static bool all_zero(const u8 *page)
{
    const u64 *w = (const u64 *)page;

    for (size_t i = 0; i < QUIRE_PAGE_SIZE / 8; i++)
        if (w[i])
            return false;
    return true;
}

static void put_memory(struct core *c, const struct phdr *h)
{
    for (u64 off = 0; off < h->filesz && !c->err; off += QUIRE_PAGE_SIZE) {
        size_t done;

        if (quire_space_read(current->space, Q_UVA(h->vaddr + off), c->page, QUIRE_PAGE_SIZE, true,
                             &done) != QUIRE_OK ||
            all_zero(c->page))
            continue;
        put_at(c, h->offset + off, c->page, QUIRE_PAGE_SIZE);
        cond_resched();
    }
}

static void put_header(struct core *c)
{
    u8 e[64] = "\177ELF\2\1\1";
    u16 half[8] = {4, 62}; /* ET_CORE, x86-64 */
    u32 version = 1;
    u64 phoff = 64;
    u16 sizes[3] = {64, sizeof(struct phdr), (u16)c->segments};

    memcpy(e + 16, half, 4);
    memcpy(e + 20, &version, 4);
    memcpy(e + 32, &phoff, 8);
    memcpy(e + 52, sizes, 6);
    put_at(c, 0, e, sizeof(e));
}

static void put_all(struct core *c, const struct regs *r, const struct ksiginfo *si)
{
    u64 offset;

    c->segments = 1;
    quire_space_vmas(current->space, true, add_segment, c);
    c->at = 64 + (u64)c->segments * sizeof(struct phdr);
    c->ph[0] = (struct phdr){.type = 4, .offset = c->at, .align = 4};
    put_notes(c, r, si);
    c->ph[0].filesz = c->at - c->ph[0].offset;
    offset = K_UP(c->at, QUIRE_PAGE_SIZE);
    for (unsigned i = 1; i < c->segments; i++) {
        c->ph[i].offset = offset;
        offset += c->ph[i].filesz;
    }
    put_header(c);
    put_at(c, 64, c->ph, c->segments * sizeof(struct phdr));
    for (unsigned i = 1; i < c->segments; i++)
        put_memory(c, &c->ph[i]);
    /* A last byte, so that the file ends where its last segment does. */
    c->page[0] = 0;
    if (c->segments > 1 && offset > c->at && c->ph[c->segments - 1].filesz &&
        kfile_size(c->file) < offset)
        put_at(c, offset - 1, c->page, 1);
}

/* True if a core file was made, even if the limit cut it off. */
bool core_dump(const struct regs *r, const struct ksiginfo *si)
{
    struct process *p = current_process();
    struct core c = {.limit = p->rlim[RLIMIT_CORE].cur};
    struct quire_space_stats stats;
    int err;

    if (c.limit < QUIRE_PAGE_SIZE || p->dumpable != 1)
        return false;
    quire_space_stats(p->space, &stats);
    c.room = (unsigned)K_MIN(stats.vmas + 1, 65534ul);
    c.page = quire_kmalloc(QUIRE_PAGE_SIZE, QUIRE_GFP_KERNEL);
    c.ph = quire_kvmalloc(c.room * sizeof(struct phdr), QUIRE_GFP_KERNEL);
    c.file = c.page && c.ph ? kfile_create("core", O_CORE, 0600, &err) : NULL;
    if (c.file) {
        put_all(&c, r, si);
        file_put(c.file);
    }
    quire_kvfree(c.ph);
    quire_kfree(c.page);
    return c.file && (!c.err || c.err == -EFBIG);
}
