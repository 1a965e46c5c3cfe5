/*
 * kernel/proc/exec_load.c - from program files to a finished address space.
 *
 * The new space is built completely beside the old one (invariant: nothing of the caller changes
 * here), so that any failure, of memory too, is an errno to the caller of exec.  Linux gives the old
 * space up first and can only kill.
 */
#include "exec.h"

#define PIE_BASE      0x0000555555554000ul
#define PIE_PAGES     (1ul << 28) /* random pages above PIE_BASE, as Linux: 28 bits */
#define BRK_PAGES     (1ul << 13) /* 32 MiB */
#define SIGFRAME_SIZE 1040u       /* largest frame without XSAVE; see sigframe.c */

static int kread_exact(struct file *f, void *to, size_t n, u64 at)
{
    long got = kfile_read(f, to, n, at);

    return got < 0 ? (int)got : (size_t)got == n ? 0 : -ENOEXEC;
}

void exec_image_close(struct exec_image *image)
{
    if (image->file)
        file_put(image->file);
    quire_kvfree(image->phdrs);
    *image = (struct exec_image){0};
}

/* The headers of image->file, whose first n bytes are given. */
static int read_image(struct exec_image *image, const u8 *head, size_t n)
{
    u64 size = kfile_size(image->file);
    size_t bytes;
    int err = elf_read_header(head, n, size, &image->plan);

    if (err)
        return err;
    bytes = (size_t)image->plan.phnum * ELF_PHDR_BYTES;
    image->phdrs = quire_kvmalloc(bytes, QUIRE_GFP_KERNEL);
    if (!image->phdrs)
        return -ENOMEM;
    if (image->plan.phoff + bytes <= n)
        memcpy(image->phdrs, head + image->plan.phoff, bytes);
    else if ((err = kread_exact(image->file, image->phdrs, bytes, image->plan.phoff)))
        return err;
    image->object = kfile_object(image->file);
    if (!image->object)
        return -ENOEXEC;
    return elf_read_phdrs(image->phdrs, size, &image->plan);
}

static int open_interp(struct exec_job *job)
{
    const struct elf_plan *plan = &job->program.plan;
    u8 head[512];
    char *path;
    long n;
    int err;

    path = quire_kvmalloc(plan->interp_len, QUIRE_GFP_KERNEL);
    if (!path)
        return -ENOMEM;
    err = kread_exact(job->program.file, path, plan->interp_len, plan->interp_offset);
    if (!err && path[plan->interp_len - 1] != 0)
        err = -ENOEXEC;
    if (!err)
        job->interp.file = kfile_open(path, 0, &err);
    quire_kvfree(path);
    if (!job->interp.file)
        return err;
    n = kfile_read(job->interp.file, head, sizeof(head), 0);
    if (n < 0)
        return (int)n;
    err = read_image(&job->interp, head, (size_t)n);
    return err == -ENOEXEC || err == -EINVAL ? -E_LIBBAD : err;
}

/* Take the arguments apart: the script's name replaces argv[0], the interpreter goes before it. */
static int script_strings(struct exec_job *job, const char *interp, const char *arg)
{
    struct exec_strings *old = &job->strings;
    struct exec_strings s = {.limit = old->limit};
    size_t skip = old->argc ? strlen(old->buf) + 1 : 0;
    int err = exec_strings_add(&s, interp);

    s.argc = 1;
    if (!err && arg && *arg) {
        err = exec_strings_add(&s, arg);
        s.argc++;
    }
    if (!err)
        err = exec_strings_add(&s, job->path);
    s.argc += 1 + (old->argc ? old->argc - 1 : 0);
    s.envc = old->envc;
    s.env_at = s.used + old->env_at - skip;
    /* The rest is copied as one block: its strings are terminated already. */
    if (!err && s.used + old->used - skip > s.cap) {
        char *bigger = quire_kvrealloc(s.buf, s.used + old->used, QUIRE_GFP_KERNEL);

        if (bigger) {
            s.buf = bigger;
            s.cap = s.used + old->used;
        } else {
            err = -ENOMEM;
        }
    }
    if (err) {
        quire_kvfree(s.buf);
        return err;
    }
    memcpy(s.buf + s.used, old->buf + skip, old->used - skip);
    s.used += old->used - skip;
    quire_kvfree(old->buf);
    *old = s;
    return s.used + 8ul * (s.argc + s.envc) > s.limit ? -E2BIG : 0;
}

static bool blank(char c) { return c == ' ' || c == '\t'; }

/* "#!interpreter [one argument]": the next program to look at. */
static int enter_script(struct exec_job *job, const u8 *head, size_t n)
{
    char line[256], *p = line + 2, *end, *arg = NULL;
    size_t len = K_MIN(n, sizeof(line) - 1);
    bool whole;
    int err;

    memcpy(line, head, len);
    line[len] = 0;
    end = strchr(line, '\n');
    whole = end || n < sizeof(line);
    if (!end)
        end = line + strlen(line);
    while (end > p && blank(end[-1]))
        end--;
    *end = 0;
    while (blank(*p))
        p++;
    if (!*p)
        return -ENOEXEC;
    for (end = p; *end && !blank(*end); end++)
        ;
    if (!*end && !whole)
        return -ENOEXEC; /* the interpreter's name is cut off */
    if (*end) {
        *end++ = 0;
        while (blank(*end))
            end++;
        arg = end;
    }
    err = script_strings(job, p, arg);
    if (err)
        return err;
    exec_image_close(&job->program);
    strlcpy(job->path, p, sizeof(job->path));
    job->program.file = kfile_open(p, 0, &err);
    return job->program.file ? 0 : err;
}

int exec_image_open(struct exec_job *job)
{
    u8 head[512];

    for (int depth = 0; depth <= EXEC_SCRIPTS; depth++) {
        long n = kfile_read(job->program.file, head, sizeof(head), 0);
        int err;

        if (n < 0)
            return (int)n;
        if (n >= 2 && head[0] == '#' && head[1] == '!') {
            err = enter_script(job, head, (size_t)n);
            if (err)
                return err;
            continue;
        }
        err = read_image(&job->program, head, (size_t)n);
        if (!err && job->program.plan.has_interp)
            err = open_interp(job);
        return err;
    }
    return -ELOOP;
}

/* ---- mapping ---- */

static unsigned prot_of(unsigned elf_flags)
{
    return (elf_flags & ELF_R ? QUIRE_READ : 0) | (elf_flags & ELF_W ? QUIRE_WRITE : 0) |
           (elf_flags & ELF_X ? QUIRE_EXEC : 0);
}

static int map_zero(struct exec_job *job, u64 from, u64 to, unsigned prot)
{
    struct quire_mmap m = {.addr = Q_UVA(from),
                           .len = to - from,
                           .prot = prot,
                           .flags = QUIRE_MAP_PRIVATE | QUIRE_MAP_ANONYMOUS | QUIRE_MAP_FIXED};
    q_uva at;

    return from < to ? (int)kerr(quire_mmap(job->space, &m, &at)) : 0;
}

/* What lies behind the file's bytes in their last page must read as zero. */
static int zero_tail(struct exec_job *job, u64 from, u64 to)
{
    static const u8 zeros[256];

    while (from < to) {
        size_t n = K_MIN(to - from, sizeof(zeros)), done;
        enum quire_status st = quire_space_write(job->space, Q_UVA(from), zeros, n, false, &done);

        if (st == QUIRE_SEGV_ACCERR)
            return 0; /* read-only, as odd linkers make it: Linux leaves it as well */
        if (st != QUIRE_OK)
            return st == QUIRE_NO_MEMORY ? -ENOMEM : -ENOEXEC;
        from += n;
    }
    return 0;
}

static int map_segment(struct exec_job *job, struct exec_image *image, const struct elf_segment *s)
{
    u64 vaddr = s->vaddr + image->bias, in_page = vaddr & (QUIRE_PAGE_SIZE - 1);
    u64 file_end = vaddr + s->filesz, mem_end = vaddr + s->memsz;
    u64 anon = K_DOWN(vaddr, QUIRE_PAGE_SIZE);
    unsigned prot = prot_of(s->flags);

    if (s->filesz) {
        struct quire_mmap m = {.addr = Q_UVA(vaddr - in_page),
                               .len = K_UP(s->filesz + in_page, QUIRE_PAGE_SIZE),
                               .prot = prot,
                               .flags = QUIRE_MAP_PRIVATE | QUIRE_MAP_FIXED,
                               .object = image->object,
                               .offset = s->offset - in_page};
        q_uva at;
        enum quire_status st = quire_mmap(job->space, &m, &at);

        if (st != QUIRE_OK)
            return (int)kerr(st);
        anon = K_UP(file_end, QUIRE_PAGE_SIZE);
        if (s->memsz > s->filesz && s->flags & ELF_W) {
            int err = zero_tail(job, file_end, anon);

            if (err)
                return err;
        }
    }
    return map_zero(job, anon, K_UP(mem_end, QUIRE_PAGE_SIZE), prot);
}

/* Where a position-independent image goes: found by mapping all of it at once, then giving that up. */
static int find_place(struct exec_job *job, struct exec_image *image, u64 hint)
{
    u64 len = image->plan.high - image->plan.low, align = image->plan.align;
    struct quire_mmap m = {.addr = Q_UVA(hint),
                           .len = len + align - QUIRE_PAGE_SIZE,
                           .flags = QUIRE_MAP_PRIVATE | QUIRE_MAP_ANONYMOUS | QUIRE_MAP_NORESERVE};
    q_uva at;
    enum quire_status st;

    if (m.len < len)
        return -ENOMEM;
    st = quire_mmap(job->space, &m, &at);
    if (st != QUIRE_OK)
        return (int)kerr(st);
    st = quire_munmap(job->space, at, m.len);
    image->bias = K_UP(at.v, align) - image->plan.low;
    return (int)kerr(st);
}

static int map_image(struct exec_job *job, struct exec_image *image, u64 hint)
{
    struct elf_segment s;
    int err = image->plan.dyn ? find_place(job, image, hint) : 0;

    for (unsigned i = 0; i < image->plan.phnum && !err; i++)
        if (elf_segment(&image->plan, i, &s))
            err = map_segment(job, image, &s);
    return err;
}

static u64 random_pages(struct exec_job *job, u64 pages)
{
    u64 r;

    if (!job->randomize)
        return 0;
    random_bytes(&r, sizeof(r));
    return (r & (pages - 1)) << QUIRE_PAGE_SHIFT;
}

/* ---- the stack as the ABI wants it at entry ---- */

enum {
    AT_NULL,
    AT_PHDR = 3,
    AT_PHENT,
    AT_PHNUM,
    AT_PAGESZ,
    AT_BASE,
    AT_FLAGS,
    AT_ENTRY,
    AT_UID = 11,
    AT_EUID,
    AT_GID,
    AT_EGID,
    AT_PLATFORM,
    AT_HWCAP,
    AT_CLKTCK,
    AT_SECURE = 23,
    AT_RANDOM = 25,
    AT_HWCAP2,
    AT_EXECFN = 31,
    AT_MINSIGSTKSZ = 51
};

static u64 *aux(u64 *p, u64 type, u64 value)
{
    *p++ = type;
    *p++ = value;
    return p;
}

static u32 cpu_features(void)
{
    u32 a = 1, b, c = 0, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return d;
}

static u64 *put_auxv(struct exec_job *job, u64 *p, u64 execfn, u64 platform, u64 random)
{
    const struct elf_plan *plan = &job->program.plan;
    struct process *me = current_process();

    p = aux(p, AT_HWCAP, cpu_features());
    p = aux(p, AT_PAGESZ, QUIRE_PAGE_SIZE);
    p = aux(p, AT_CLKTCK, 100);
    p = aux(p, AT_PHDR, plan->phdr_vaddr ? plan->phdr_vaddr + job->program.bias : 0);
    p = aux(p, AT_PHENT, ELF_PHDR_BYTES);
    p = aux(p, AT_PHNUM, plan->phnum);
    p = aux(p, AT_BASE, job->interp.file ? job->interp.bias : 0);
    p = aux(p, AT_FLAGS, 0);
    p = aux(p, AT_ENTRY, plan->entry + job->program.bias);
    p = aux(p, AT_UID, me->uid);
    p = aux(p, AT_EUID, me->euid);
    p = aux(p, AT_GID, me->gid);
    p = aux(p, AT_EGID, me->egid);
    p = aux(p, AT_SECURE, me->uid != me->euid || me->gid != me->egid);
    p = aux(p, AT_RANDOM, random);
    p = aux(p, AT_HWCAP2, 0);
    p = aux(p, AT_EXECFN, execfn);
    p = aux(p, AT_PLATFORM, platform);
    p = aux(p, AT_MINSIGSTKSZ, SIGFRAME_SIZE);
    return aux(p, AT_NULL, 0);
}
#define AUXV_PAIRS 20u

static u64 *put_pointers(u64 *p, const char *text, u64 at, unsigned n)
{
    while (n--) {
        size_t len = strlen(text) + 1;

        *p++ = at;
        at += len;
        text += len;
    }
    *p++ = 0;
    return p;
}

static int space_put_bytes(struct exec_job *job, u64 to, const void *from, size_t n)
{
    size_t done;
    enum quire_status st = quire_space_write(job->space, Q_UVA(to), from, n, false, &done);

    if (st == QUIRE_OK)
        return 0;
    return st == QUIRE_NO_MEMORY ? -ENOMEM : -E2BIG;
}

static int fill_stack(struct exec_job *job, u64 top)
{
    const struct exec_strings *s = &job->strings;
    size_t name_len = strlen(job->execfn) + 1, words;
    u64 execfn = top - 8 - name_len, platform, random, *block, *p, rnd[2];
    int err;

    job->arg_start = execfn - s->used;
    job->arg_end = job->env_start = job->arg_start + s->env_at;
    job->env_end = execfn;
    platform = K_DOWN(job->arg_start, 16) - 16;
    random = platform - 16;
    words = 1 + s->argc + 1 + s->envc + 1 + 2 * AUXV_PAIRS;
    /* The 32 bytes of random and platform end the block, so that all goes in one piece. */
    job->sp = K_DOWN(random - 8 * words, 16);
    words = (platform + 16 - job->sp) / 8;
    block = quire_kvcalloc(words, 8, QUIRE_GFP_KERNEL);
    if (!block)
        return -ENOMEM;
    p = block;
    *p++ = s->argc;
    p = put_pointers(p, s->buf, job->arg_start, s->argc);
    p = put_pointers(p, s->buf + s->env_at, job->env_start, s->envc);
    job->auxv_start = job->sp + (u64)(p - block) * 8;
    p = put_auxv(job, p, execfn, platform, random);
    job->auxv_end = job->sp + (u64)(p - block) * 8;
    random_bytes(rnd, sizeof(rnd));
    memcpy(&block[words - 4], rnd, sizeof(rnd));
    memcpy(&block[words - 2], "x86_64", 7);
    err = space_put_bytes(job, job->sp, block, words * 8);
    if (!err && s->used)
        err = space_put_bytes(job, job->arg_start, s->buf, s->used);
    if (!err)
        err = space_put_bytes(job, execfn, job->execfn, name_len);
    quire_kvfree(block);
    return err;
}

static int build_layout(struct exec_job *job)
{
    struct exec_image *program = &job->program;
    u64 stack_limit = current_process()->rlim[RLIMIT_STACK].cur, brk;
    unsigned prot = QUIRE_READ | QUIRE_WRITE | (program->plan.exec_stack ? QUIRE_EXEC : 0);
    q_uva top;
    enum quire_status st;
    int err;

    st = quire_stack_map(job->space, stack_limit, prot, &top);
    if (st != QUIRE_OK)
        return (int)kerr(st);
    err = map_image(job, program, PIE_BASE + random_pages(job, PIE_PAGES));
    if (!err && job->interp.file)
        err = map_image(job, &job->interp, 0);
    if (err)
        return err;
    brk = K_UP(program->plan.end + program->bias, QUIRE_PAGE_SIZE) + random_pages(job, BRK_PAGES);
    quire_brk_init(job->space, Q_UVA(brk));
    job->entry = job->interp.file ? job->interp.plan.entry + job->interp.bias
                                  : program->plan.entry + program->bias;
    if (job->entry >= USER_END)
        return -EINVAL;
    return fill_stack(job, top.v);
}

int exec_build(struct exec_job *job)
{
    const struct process *p = current_process();
    struct quire_space_config cfg = {.start = Q_UVA(USER_START),
                                     .end = Q_UVA(USER_END),
                                     .randomize = job->randomize,
                                     .kernel_half = Q_KVA(0xffff800000000000ul),
                                     .limit_as = p->rlim[RLIMIT_AS].cur,
                                     .limit_data = p->rlim[RLIMIT_DATA].cur,
                                     .limit_stack = p->rlim[RLIMIT_STACK].cur,
                                     .limit_memlock = limits_memlock(p)};
    enum quire_status st = quire_space_create(&cfg, &job->space);

    if (st != QUIRE_OK)
        return (int)kerr(st);
    return build_layout(job);
}
