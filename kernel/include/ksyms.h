/*
 * ksyms.h - the kernel's functions by address, and how to walk the stack from each instruction
 * (arch/unwind.c), for backtraces.  The tables are made by tools/ksyms.py from a first link of the kernel, so they are
 * empty there and full in the final image.
 */
#ifndef KSYMS_H
#define KSYMS_H

struct ksym {
    unsigned long addr;
    const char *name;
};

extern const unsigned ksyms_count;
/* ksyms_count entries in rising order of address, and one more of address ~0. */
extern const struct ksym ksyms[];

/* cfa: bytes from the stack pointer to where the caller's will be, or, if odd, one more than those from %rbp; 0: not
 * known.  bp: bytes from there down to the caller's %rbp; 0: it still is in %rbp. */
struct unwind_rule {
    unsigned short cfa, bp;
};
extern const struct unwind_rule unwind_rules[];
/* From the start of the text on: rows of page i are [unwind_pages[i], unwind_pages[i + 1]).  A row is an offset in the
 * page and, in its lower bits, the number of the rule from there on. */
#define UNWIND_RULE_BITS 20
extern const unsigned unwind_npages;
extern const unsigned unwind_pages[];
extern const unsigned unwind_rows[];

#endif
