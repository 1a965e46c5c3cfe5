/*
 * kernel/proc/elf.h - what an ELF64 file asks for, read from its bytes.  No dependency but k.h, so that the
 * reader is tested and fuzzed in a hosted program.
 */
#ifndef KERNEL_PROC_ELF_H
#define KERNEL_PROC_ELF_H

#include "k.h"

#define ELF_HEADER_BYTES 64u
#define ELF_PHDR_BYTES   56u
#define ELF_PHDRS_MAX    (65536u / ELF_PHDR_BYTES) /* Linux: 64 KiB of program headers */

#define ELF_R 4u
#define ELF_W 2u
#define ELF_X 1u

/* One PT_LOAD. Addresses before the load bias is added. */
struct elf_segment {
    u64 vaddr, offset, filesz, memsz;
    unsigned flags; /* ELF_R | ELF_W | ELF_X */
};

struct elf_plan {
    bool dyn; /* ET_DYN: may be put anywhere */
    u64 entry, phoff;
    unsigned phnum;
    const u8 *phdrs; /* the caller's buffer */
    unsigned loads;
    u64 low, high;  /* all PT_LOADs, rounded to pages */
    u64 end;        /* highest byte of memory, exact: where brk begins */
    u64 align;      /* largest p_align, at least a page */
    u64 phdr_vaddr; /* of the program headers, or 0: not loaded */
    bool has_interp;
    u64 interp_offset, interp_len; /* with the terminating 0 */
    bool exec_stack;
};

/* The file header in the first n bytes of a file of file_size.  Fills entry, phoff, phnum, dyn.
 * -ENOEXEC: not a program for this machine. */
int elf_read_header(const u8 *bytes, size_t n, u64 file_size, struct elf_plan *plan);

/* The program headers: plan->phnum * ELF_PHDR_BYTES bytes that must outlive the plan.  -ENOEXEC or -EINVAL. */
int elf_read_phdrs(const u8 *phdrs, u64 file_size, struct elf_plan *plan);

/* The i-th program header, i < phnum: false if it is no PT_LOAD with memory. */
bool elf_segment(const struct elf_plan *plan, unsigned i, struct elf_segment *out);

#endif
