/*
 * elf_fuzz.c - any bytes as an ELF file: the reader refuses, or its plan is safe to carry out.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proc/elf.h"

#define PAGE    4096ull
#define USER_HI 0x0000800000000000ull

static void check_segment(const struct elf_plan *plan, const struct elf_segment *s,
                          uint64_t file_size)
{
    uint64_t end;

    if (!s->memsz || s->filesz > s->memsz)
        abort();
    if (s->filesz && (s->offset > file_size || s->filesz > file_size - s->offset))
        abort();
    if (__builtin_add_overflow(s->vaddr, s->memsz, &end) || end > USER_HI)
        abort();
    if (s->vaddr < plan->low || end > plan->high || end > plan->end)
        abort();
    if (s->filesz && s->vaddr % PAGE != s->offset % PAGE)
        abort();
}

static void check_plan(const struct elf_plan *plan, uint64_t file_size)
{
    unsigned loads = 0;

    if (plan->low % PAGE || plan->high % PAGE || plan->low >= plan->high || plan->end > plan->high)
        abort();
    if (plan->align < PAGE || (plan->align & (plan->align - 1)))
        abort();
    if (plan->has_interp && (plan->interp_len < 2 || plan->interp_offset > file_size ||
                             plan->interp_len > file_size - plan->interp_offset))
        abort();
    for (unsigned i = 0; i < plan->phnum; i++) {
        struct elf_segment s;

        if (!elf_segment(plan, i, &s))
            continue;
        check_segment(plan, &s, file_size);
        loads++;
    }
    if (!loads || loads != plan->loads)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct elf_plan plan, before;
    size_t table;

    memset(&plan, 0, sizeof plan);
    if (elf_read_header(data, size, size, &plan))
        return 0;
    table = plan.phnum * (size_t)ELF_PHDR_BYTES;
    if (plan.phnum > ELF_PHDRS_MAX || plan.phoff > size || table > size - plan.phoff)
        abort(); /* a header that was accepted leads to program headers inside the file */
    before = plan;
    if (!elf_read_phdrs(data + plan.phoff, size, &plan))
        check_plan(&plan, size);
    else if (plan.entry != before.entry || plan.phnum != before.phnum)
        abort();
    return 0;
}
