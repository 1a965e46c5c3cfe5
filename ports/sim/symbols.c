/*
 * symbols.c - see symbols.h.  Reads the symbol table of /proc/self/exe once (ELF-64, System V ABI
 * chapter 4), static functions and variables included, which dladdr(3) does not know.
 */
#include "symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct symbol {
    uintptr_t start;
    size_t size;
    const char *name;
};

static struct symbol *symbols;
static size_t nsymbols;

static int by_start(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

/* The first object of the list is the program itself: its dlpi_addr is where it was loaded. */
static int load_base(struct dl_phdr_info *info, size_t size, void *out)
{
    (void)size;
    *(uintptr_t *)out = info->dlpi_addr;
    return 1;
}

static void collect(const char *image, uintptr_t base)
{
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)image;
    const Elf64_Shdr *sh = (const Elf64_Shdr *)(image + eh->e_shoff);

    for (unsigned s = 0; s < eh->e_shnum; s++) {
        const Elf64_Sym *sym = (const Elf64_Sym *)(image + sh[s].sh_offset);
        const char *names;
        size_t n;

        if (sh[s].sh_type != SHT_SYMTAB)
            continue;
        n = sh[s].sh_size / sizeof *sym;
        names = image + sh[sh[s].sh_link].sh_offset;
        symbols = calloc(n, sizeof *symbols);
        for (size_t i = 0; symbols && i < n; i++) {
            unsigned type = ELF64_ST_TYPE(sym[i].st_info);

            if ((type == STT_FUNC || type == STT_OBJECT) && sym[i].st_size)
                symbols[nsymbols++] =
                    (struct symbol){base + sym[i].st_value, sym[i].st_size, names + sym[i].st_name};
        }
    }
    qsort(symbols, nsymbols, sizeof *symbols, by_start);
}

static void load_symbols(void)
{
    static bool tried;
    struct stat st;
    char *image;
    uintptr_t base = 0;
    int fd;

    if (tried)
        return;
    tried = true;
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return;
    image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (image == MAP_FAILED)
        return;
    dl_iterate_phdr(load_base, &base);
    collect(image, base);
}

const char *sim_symbol(const void *address, char *buf, size_t len)
{
    uintptr_t a = (uintptr_t)address;
    size_t lo = 0, hi;

    load_symbols();
    hi = nsymbols;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (symbols[mid].start <= a)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo && a - symbols[lo - 1].start <= symbols[lo - 1].size)
        snprintf(buf, len, "%s+%#lx", symbols[lo - 1].name,
                 (unsigned long)(a - symbols[lo - 1].start));
    else
        snprintf(buf, len, "%#lx", (unsigned long)a);
    return buf;
}
