/*
 * arch/backtrace.c - functions by name, and who called whom when the kernel ends.
 */
#include "cpu.h"
#include "ksyms.h"
#include "task.h"
#include "unwind.h"
#include <quire/pt.h>

#define SHOWN 24u
#define SCAN  12288u /* bytes of a damaged stack that are searched for return addresses */

extern char kernel_text_start[], kernel_text_end[];

/* ---- names ---- */

/* The function that addr is in; NULL: none. */
static const struct ksym *ksym_of(u64 addr)
{
    unsigned lo = 0, hi = ksyms_count;

    if (!hi || addr < ksyms[0].addr || addr >= (u64)kernel_text_end)
        return NULL;
    while (hi - lo > 1) {
        unsigned mid = lo + (hi - lo) / 2;

        if (ksyms[mid].addr <= addr)
            lo = mid;
        else
            hi = mid;
    }
    return &ksyms[lo];
}

const char *ksym_name(u64 addr, u64 *offset)
{
    const struct ksym *s = ksym_of(addr);

    if (!s)
        return NULL;
    *offset = addr - s->addr;
    return s->name;
}

u64 ksym_size(u64 addr)
{
    const struct ksym *s = ksym_of(addr);

    return s ? K_MIN((u64)s[1].addr, (u64)kernel_text_end) - s->addr : 0;
}

size_t bare_symbol(uintptr_t addr, char *buf, size_t cap)
{
    u64 off = 0;
    const char *name = ksym_name(addr, &off);

    return name ? (size_t)ksnprintf(buf, cap, "%s+%#lx", name, (unsigned long)off) : 0;
}

/* ---- for panics ---- */

static void print_frame(const char *what, u64 addr)
{
    u64 off = 0;
    const char *name = ksym_name(addr, &off);

    printk("  %s %#018lx %s+%#lx", what, (unsigned long)addr, name ? name : "?",
           (unsigned long)off);
}

/* Does a call instruction end at addr?  (e8 rel32, or ff /2 of 2, 3, 6 or 7 bytes) */
static bool after_call(u64 addr)
{
    const u8 *p = (const u8 *)addr;

    if (addr < (u64)kernel_text_start + 8 || addr >= (u64)kernel_text_end)
        return false;
    return p[-5] == 0xe8 || (p[-2] == 0xff && (p[-1] & 0x38) == 0x10) ||
           (p[-3] == 0xff && (p[-2] & 0x38) == 0x10) || (p[-6] == 0xff && (p[-5] & 0x38) == 0x10) ||
           (p[-7] == 0xff && (p[-6] & 0x38) == 0x10);
}

static bool readable(u64 va)
{
    struct quire_translation t;

    if (va < 0xffff800000000000)
        return false;
    quire_pt_translate(Q_PA(read_cr3() & ~0xfffull), va, &t);
    return t.present;
}

/* Where the walk cannot go on, the stack being damaged or code without rules: what looks like a return
 * address. */
static void scan(u64 from, unsigned shown)
{
    if (!readable(from)) /* in the guard page: the stack begins above it */
        from = K_UP(from, 4096);
    for (u64 sp = K_UP(from, 8); shown < SHOWN && sp < from + SCAN; sp += 8) {
        if ((sp == K_UP(from, 8) || !(sp & 4095)) && !readable(sp))
            break;
        if (after_call(*(const u64 *)sp)) {
            print_frame("perhaps", *(const u64 *)sp);
            shown++;
        }
    }
}

void print_backtrace(const struct unwind *from)
{
    struct unwind u = *from;

    print_frame("at", u.ip);
    for (unsigned shown = 1; shown < SHOWN; shown++) {
        if (unwind_step(&u)) {
            print_frame("by", u.ip);
        } else if (unwind_interrupted(&u)) {
            print_frame("in", u.ip);
        } else {
            if (!unwind_is_end(&u))
                scan(u.sp, shown);
            return;
        }
    }
}
