/*
 * ksyms.h - the kernel's functions by address, for backtraces.  The table is made by tools/ksyms.py
 * from a first link of the kernel, so it is empty there and full in the final image.
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

#endif
