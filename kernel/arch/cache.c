/*
 * arch/cache.c - the caches of the processor, as CPUID describes them: leaf 4 (Intel), leaf 0x8000001d (AMD), or the
 * older leaves 0x80000005 and 0x80000006.  Sources: Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E.
 */
#include "arch/x86.h"
#include "cmdline.h"
#include "cpu.h"

struct quire_cpu_cache cpu_caches[CPU_CACHES];
unsigned cpu_ncaches;

/* One cache for each sub-leaf until one of type 0. */
static void read_leaf(u32 leaf)
{
    u32 r[4];

    for (u32 sub = 0; cpu_ncaches < CPU_CACHES; sub++) {
        cpuid(leaf, sub, r);
        if (!(r[0] & 31))
            return;
        cpu_caches[cpu_ncaches++] = (struct quire_cpu_cache){
            .level = r[0] >> 5 & 7,
            .kind = r[0] & 3,
            .ways = (u16)((r[1] >> 22) + 1),
            .line = (r[1] & 0xfff) + 1,
            .sets = r[2] + 1,
            .shared = (r[0] >> 14 & 0xfff) + 1,
        };
    }
}

static void add_old(unsigned level, unsigned kind, u32 kib, u32 ways, u32 line)
{
    u32 r[4], shared = 1;

    cpuid(1, 0, r);
    if (level == 3 && r[3] & 1u << 28)
        shared = K_MAX(r[1] >> 16 & 255, 1u); /* logical processors in the package */
    if (kib && ways && line && cpu_ncaches < CPU_CACHES)
        cpu_caches[cpu_ncaches++] = (struct quire_cpu_cache){.level = (u8)level,
                                                             .kind = (u8)kind,
                                                             .ways = (u16)ways,
                                                             .line = line,
                                                             .sets = kib * 1024 / ways / line,
                                                             .shared = shared};
}

static void read_old(u32 max)
{
    /* by code; 0: none, or any place (15), which has no colours */
    static const u8 ways[16] = {0, 1, 2, 0, 4, 0, 8, 0, 16, 0, 32, 48, 64, 96, 128, 0};
    u32 r[4];

    if (max >= 0x80000005) {
        cpuid(0x80000005, 0, r);
        add_old(1, QUIRE_CACHE_DATA, r[2] >> 24, r[2] >> 16 & 255, r[2] & 255);
        add_old(1, QUIRE_CACHE_CODE, r[3] >> 24, r[3] >> 16 & 255, r[3] & 255);
    }
    if (max >= 0x80000006) {
        cpuid(0x80000006, 0, r);
        add_old(2, QUIRE_CACHE_UNIFIED, r[2] >> 16, ways[r[2] >> 12 & 15], r[2] & 255);
        add_old(3, QUIRE_CACHE_UNIFIED, (r[3] >> 18) * 512, ways[r[3] >> 12 & 15], r[3] & 255);
    }
}

/* quire.colours=N or quire.colours=auto: as many as the last cache has. */
static void choose_colours(void)
{
    char word[16];
    unsigned n;

    if (!cmdline_get("quire.colours", word, sizeof(word)))
        return;
    n = strcmp(word, "auto") ? (unsigned)cmdline_number("quire.colours", 1)
                             : quire_caches_colours(cpu_caches, cpu_ncaches);
    if (quire_frame_set_colours(n))
        printk("quire: colours %u: 1 to %u, or auto", n, QUIRE_MAX_COLOURS);
}

void cache_init(void)
{
    u32 r[4], max;

    cpuid(0, 0, r);
    if (r[0] >= 4)
        read_leaf(4);
    cpuid(0x80000000, 0, r);
    max = r[0];
    cpuid(0x80000001, 0, r);
    if (!cpu_ncaches && max >= 0x8000001d && r[2] & 1u << 22)
        read_leaf(0x8000001d);
    if (!cpu_ncaches)
        read_old(max);
    choose_colours();
}
