/*
 * kernel/proc/elf.c - reader of ELF64 program files: bytes in, a plan out.
 *
 * Purpose: say what must be mapped where, and refuse every file whose fields contradict each other
 * or the machine, before anything of the old program is given up.
 *
 * Invariants of a plan that elf_read_phdrs() accepted:
 *   1. every segment lies in [low, high), high <= USER_END, and filesz <= memsz;
 *   2. every segment's bytes lie within the file;
 *   3. vaddr and offset of a segment are congruent modulo the page size;
 *   4. no two segments share a byte of memory (they may share a page: the later one wins there).
 *
 * Failure: -ENOEXEC for what is not a program for this machine, -EINVAL for one whose segments
 * contradict each other (Linux kills such a program after the point of no return; here the caller of
 * exec goes on).  Segments beyond the end of the file are refused here; Linux maps them and the
 * program dies of SIGBUS.
 *
 * Sources: System V ABI, chapter 5, and its x86-64 supplement; elf(5).
 */
#include "elf.h"

enum { PT_LOAD = 1, PT_INTERP = 3, PT_GNU_STACK = 0x6474e551 };
enum { ET_EXEC = 2, ET_DYN = 3, EM_X86_64 = 62 };

/* Byte-wise: fields of a hostile file are at any alignment. */
static u64 field(const u8 *p, unsigned bytes)
{
    u64 v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (u64)p[i] << (8 * i);
    return v;
}

static bool within(u64 at, u64 len, u64 size) { return at <= size && len <= size - at; }

int elf_read_header(const u8 *b, size_t n, u64 file_size, struct elf_plan *plan)
{
    unsigned type, phnum;

    if (n < ELF_HEADER_BYTES || b[0] != 0x7f || b[1] != 'E' || b[2] != 'L' || b[3] != 'F')
        return -ENOEXEC;
    if (b[4] != 2 || b[5] != 1 || field(b + 18, 2) != EM_X86_64)
        return -ENOEXEC;
    type = (unsigned)field(b + 16, 2);
    if (type != ET_EXEC && type != ET_DYN)
        return -ENOEXEC;
    phnum = (unsigned)field(b + 56, 2);
    if (field(b + 54, 2) != ELF_PHDR_BYTES || phnum == 0 || phnum > ELF_PHDRS_MAX)
        return -ENOEXEC;
    *plan = (struct elf_plan){.dyn = type == ET_DYN,
                              .entry = field(b + 24, 8),
                              .phoff = field(b + 32, 8),
                              .phnum = phnum};
    if (!within(plan->phoff, (u64)phnum * ELF_PHDR_BYTES, file_size))
        return -ENOEXEC;
    return 0;
}

bool elf_segment(const struct elf_plan *plan, unsigned i, struct elf_segment *out)
{
    const u8 *p = plan->phdrs + (size_t)i * ELF_PHDR_BYTES;

    if (field(p, 4) != PT_LOAD)
        return false;
    *out = (struct elf_segment){.flags = (unsigned)field(p + 4, 4) & 7,
                                .offset = field(p + 8, 8),
                                .vaddr = field(p + 16, 8),
                                .filesz = field(p + 32, 8),
                                .memsz = field(p + 40, 8)};
    return out->memsz != 0 || out->filesz != 0;
}

static int check_load(struct elf_plan *plan, const u8 *p, u64 file_size)
{
    u64 offset = field(p + 8, 8), vaddr = field(p + 16, 8);
    u64 filesz = field(p + 32, 8), memsz = field(p + 40, 8), align = field(p + 48, 8);

    if (filesz > memsz || !within(vaddr, memsz, USER_END))
        return -EINVAL;
    if (memsz == 0)
        return 0;
    if (filesz != 0 && (offset ^ vaddr) & (QUIRE_PAGE_SIZE - 1))
        return -EINVAL;
    if (filesz != 0 && !within(offset, filesz, file_size))
        return -ENOEXEC;
    /* Like Linux: an alignment that is no power of two is passed over. */
    if (align > plan->align && (align & (align - 1)) == 0)
        plan->align = align;
    if (plan->loads++ == 0 || K_DOWN(vaddr, QUIRE_PAGE_SIZE) < plan->low)
        plan->low = K_DOWN(vaddr, QUIRE_PAGE_SIZE);
    plan->end = K_MAX(plan->end, vaddr + memsz);
    if (filesz > 0 && offset <= plan->phoff && plan->phoff - offset < filesz)
        plan->phdr_vaddr = plan->phoff - offset + vaddr;
    return 0;
}

static int check_interp(struct elf_plan *plan, const u8 *p, u64 file_size)
{
    u64 offset = field(p + 8, 8), filesz = field(p + 32, 8);

    if (plan->has_interp)
        return 0; /* the first one counts */
    if (filesz < 2 || filesz > 4096 || !within(offset, filesz, file_size))
        return -ENOEXEC;
    plan->has_interp = true;
    plan->interp_offset = offset;
    plan->interp_len = filesz;
    return 0;
}

/* Files have their segments in rising order: then one look at the neighbour is enough. */
static bool overlapping(const struct elf_plan *plan)
{
    struct elf_segment a, b;
    u64 highest = 0;
    bool rising = true;

    for (unsigned i = 0; i < plan->phnum; i++)
        if (elf_segment(plan, i, &a)) {
            rising = rising && a.vaddr >= highest;
            highest = a.vaddr + a.memsz;
        }
    for (unsigned i = 0; i < plan->phnum && !rising; i++)
        for (unsigned k = i + 1; k < plan->phnum && elf_segment(plan, i, &a); k++)
            if (elf_segment(plan, k, &b) && a.vaddr < b.vaddr + b.memsz &&
                b.vaddr < a.vaddr + a.memsz)
                return true;
    return false;
}

int elf_read_phdrs(const u8 *phdrs, u64 file_size, struct elf_plan *plan)
{
    plan->phdrs = phdrs;
    plan->align = QUIRE_PAGE_SIZE;
    for (unsigned i = 0; i < plan->phnum; i++) {
        const u8 *p = phdrs + (size_t)i * ELF_PHDR_BYTES;
        int err = 0;

        switch (field(p, 4)) {
        case PT_LOAD: err = check_load(plan, p, file_size); break;
        case PT_INTERP: err = check_interp(plan, p, file_size); break;
        case PT_GNU_STACK: plan->exec_stack = field(p + 4, 4) & ELF_X; break;
        }
        if (err)
            return err;
    }
    if (plan->loads == 0)
        return -ENOEXEC;
    if (plan->end > K_DOWN(USER_END, QUIRE_PAGE_SIZE))
        return -EINVAL;
    plan->high = K_UP(plan->end, QUIRE_PAGE_SIZE);
    if (plan->align > USER_END || (!plan->dyn && plan->low < USER_START))
        return -EINVAL;
    if (plan->entry >= USER_END || overlapping(plan))
        return -EINVAL;
    return 0;
}
