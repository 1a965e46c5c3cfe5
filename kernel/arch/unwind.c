/*
 * arch/unwind.c - walking the stack by table.
 *
 * Model.  For each instruction the compiler knows how far above the stack pointer (or %rbp, where that is the
 * frame's base) the return address lies, and whether %rbp is saved there: call frame information, as debuggers
 * use it.  tools/ksyms.py makes of it, at the first link, rows sorted by address:
 *
 *     page of text -> its rows: (offset in the page, number of a rule) -> rule: base, bytes to the caller's
 *                                                                        stack pointer, where %rbp is
 *
 * A row holds up to the next.  So every function can be walked, from every instruction, and none pays for it; frame
 * pointers would cost each call three instructions and all code a register (docs/design/heap-views.md has
 * figures).  Return addresses are looked up again and again: what was found is kept in a small table, a word each,
 * by address; so a step mostly takes 28 instructions.
 *
 * Bounds.  Only words between the stack pointer of the start and the end of its stack are read; each step goes up by
 * at least a word; what is no address of the kernel's text ends it.  So a damaged stack gives a wrong trace, never a
 * fault.
 *
 * Ends.  Assembly has no rules (entry.S, head.S): there the walk is at an entry, from a program, a new task
 * or an interrupt.  What was interrupted is behind struct regs, which then lies at the stack pointer.
 *
 * Source: the idea is that of Linux's ORC tables (arch/x86/kernel/unwind_orc.c); DWARF 4, 6.4.  Rejected: reading
 * DWARF itself, a program for each function; searching the stack, which finds return addresses of calls that
 * are long over, and took 6,000 instructions a trace.
 */
#include "unwind.h"
#include "cpu.h"
#include "ksyms.h"
#include "task.h"

#define CACHED 1024u
#define INNER  16u /* frames of the library, of which one asks for a trace */

extern char kernel_text_start[], kernel_text_end[], kernel_entry_end[];
/* entry.S: behind the calls whose caller was the kernel, interrupted */
extern char trap_interrupted[], fault_interrupted[], paranoid_interrupted[];

/* Return addresses, their lower half, and their rules, the upper; 0: none.  Atomic. */
static u64 cache[CACHED];

/* A rule as a word: bytes from the base to the caller's stack pointer, and 1 if the base is %rbp, in the upper half;
 * bytes from there down to the saved %rbp, 0 if it still is in %rbp, in the lower. */
#define RULE(bytes, bp) ((u32)(bytes) << 16 | (u32)(bp))
#define BASE_BP         1u
/* Of what has none: the return address would lie above every stack. */
#define RULE_NONE RULE(0xfff8, 0)

/* Where ip is in the text; not below TEXT_END: outside. */
static inline u64 place_of(u64 ip) { return ip - (u64)kernel_text_start; }
#define TEXT_END place_of((u64)kernel_text_end)

static __attribute__((noinline)) u32 look_up(u64 place)
{
    u64 page = place >> 12, lo, hi;
    const struct unwind_rule *r;

    if (page >= unwind_npages)
        return RULE_NONE;
    lo = unwind_pages[page];
    hi = unwind_pages[page + 1];
    while (lo < hi) {
        u64 mid = lo + (hi - lo) / 2;

        if ((unwind_rows[mid] >> UNWIND_RULE_BITS) <= (place & 4095))
            lo = mid + 1;
        else
            hi = mid;
    }
    r = &unwind_rules[lo ? unwind_rows[lo - 1] & ((1u << UNWIND_RULE_BITS) - 1) : 0];
    return r->cfa ? RULE(r->cfa, r->bp) : RULE_NONE;
}

static __attribute__((noinline)) u64 fill(u64 place)
{
    /* a call may be a function's last instruction: it is what stands before a return address that counts */
    u64 seen = (u64)look_up(place - 1) << 32 | (u32)place;

    __atomic_store_n(&cache[place % CACHED], seen, __ATOMIC_RELAXED);
    return seen;
}

/* Of a return address.  False: it is not in the text. */
static inline bool rule_of(u64 ip, u32 *rule)
{
    u64 place = place_of(ip), seen = __atomic_load_n(&cache[place % CACHED], __ATOMIC_RELAXED);

    if (__builtin_expect((u32)seen != place, 0)) { /* all of it: then it is in the text */
        if (place >= TEXT_END)
            return false;
        seen = fill(place);
    }
    *rule = (u32)(seen >> 32);
    return true;
}

/* Tasks have their own stacks; of others, those of the boot and of double faults and the like, the page.  guard: bytes
 * below a task's that belong to it too. */
static inline u64 end_of_stack(u64 sp, u64 guard)
{
    const struct task *t = current;

    return t && t->kstack_top - 1 - sp < KSTACK_BYTES + guard ? t->kstack_top
                                                              : K_DOWN(sp, 4096) + 4096;
}

void unwind_begin(struct unwind *u)
{
    const struct task *t = current;

    u->returns = false;
    u->high = end_of_stack(u->sp, 4096);
    u->low = t && u->high == t->kstack_top ? K_MAX(u->sp, t->kstack_top - KSTACK_BYTES) : u->sp;
}

/* To the caller, by a rule of the function that u is in.  The table has no rule by which %rbp would be saved
 * outside the frame, so what is read lies between the stack pointer, or low if that is higher, and high. */
static inline bool step(struct unwind *u, u32 rule, u64 low)
{
    u64 cfa = u->sp + (rule >> 16), bp = rule & 0xffff;

    if (__builtin_expect(rule & RULE(BASE_BP, 0), 0)) {
        cfa = u->bp + (rule >> 16) - BASE_BP;
        if (cfa % 8 || cfa <= u->sp + bp)
            return false;
    }
    if (cfa > u->high || cfa - K_MAX(bp, 8ul) < low)
        return false;
    u->ip = *(const u64 *)(cfa - 8);
    if (bp)
        u->bp = *(const u64 *)(cfa - bp);
    u->sp = cfa;
    return true;
}

bool unwind_step(struct unwind *u)
{
    struct unwind next = *u;
    u32 rule;

    if (place_of(u->ip) >= TEXT_END)
        return false;
    if (!u->returns)
        rule = look_up(place_of(u->ip));
    else if (!rule_of(u->ip, &rule))
        return false;
    if (!step(&next, rule, u->low) || place_of(next.ip) >= TEXT_END)
        return false;
    *u = next;
    u->returns = true;
    return true;
}

unsigned bare_backtrace(uintptr_t caller, uintptr_t *out, unsigned max)
{
    struct unwind u;
    unsigned n = 0;
    u32 rule;

    UNWIND_HERE(&u);
    u.high = end_of_stack(u.sp, 0);
    for (unsigned inner = 0; u.ip != caller; inner++)
        if (inner == INNER || !rule_of(u.ip, &rule) || !step(&u, rule, 0))
            return 0;
    while (rule_of(u.ip, &rule)) {
        out[n++] = u.ip;
        if (n == max || !step(&u, rule, 0))
            break;
    }
    return n;
}

bool unwind_interrupted(struct unwind *u)
{
    const struct regs *r = (const struct regs *)u->sp;

    if ((u->ip != (u64)trap_interrupted && u->ip != (u64)fault_interrupted &&
         u->ip != (u64)paranoid_interrupted) ||
        u->sp < u->low || u->sp + sizeof(*r) > u->high || r->cs & 3)
        return false;
    *u = (struct unwind){.ip = r->rip, .sp = r->rsp, .bp = r->rbp};
    unwind_begin(u);
    return true;
}

bool unwind_is_end(const struct unwind *u) { return u->returns && u->ip < (u64)kernel_entry_end; }
