/*
 * core/port.c - what the library asks of this kernel: the functions of include/quire/port.h.
 *
 * The struct page array is virtually one; physically it comes in leaves of 2 MiB, each of which
 * describes 256 MiB of memory.  A machine with much memory must not clear them all before the
 * first program runs, so a leaf is only reserved at boot; its first touch faults, and the fault
 * clears and maps it.  The first leaf of each GiB of the array is mapped at once: then all tables
 * above the others exist, and the fault handler allocates nothing.
 */
#include "bare.h"
#include "arch/cpu.h"
#include "k.h"
#include "lock.h"
#include "task.h"
#include "wait.h"
#include <quire/frame.h>

void (*bare_clear_page)(void *kla);

/* ---- the struct page array ---- */

#define LEAF       (1ull << 21)
#define MAX_LEAVES 4096 /* 1 TiB of memory */

static u64 leaf_pa[MAX_LEAVES]; /* 0: none */
static struct kspin leaf_lock;

static bool leaf_mapped(u64 va)
{
    struct quire_translation t;

    quire_pt_translate(kernel_root, va, &t);
    return t.present;
}

static bool no_table(void *ctx, q_pa *out)
{
    (void)ctx, (void)out;
    return false;
}

static enum quire_status leaf_map(u64 va, u64 pa, quire_table_source source)
{
    for (u64 off = 0; off < LEAF; off += 4096)
        qport_clear_page(quire_ptr_of_pa(Q_PA(pa + off)));
    return quire_pt_boot_map(kernel_root, va, Q_PA(pa), LEAF,
                             QUIRE_READ | QUIRE_WRITE | QUIRE_GLOBAL, QUIRE_CACHED, 21, source,
                             NULL);
}

static enum quire_status leaf_reserve(u64 va, unsigned node)
{
    u64 n = (va - QPORT_VMEMMAP_BASE) / LEAF;
    enum quire_status s;
    q_pa pa;

    if (n >= MAX_LEAVES)
        return QUIRE_LIMIT;
    if (leaf_pa[n])
        return QUIRE_OK;
    s = quire_memmap_alloc(&boot_memmap, LEAF, LEAF, 0, node, "struct pages", &pa);
    if (s == QUIRE_OK && !(n & 511))
        s = leaf_map(va, pa.v, bare_boot_table);
    if (s == QUIRE_OK)
        leaf_pa[n] = pa.v;
    return s;
}

enum quire_status qport_vmemmap_populate(uintptr_t from, uintptr_t to, unsigned node)
{
    enum quire_status s = QUIRE_OK;

    for (u64 va = K_DOWN(from, LEAF); s == QUIRE_OK && va < to; va += LEAF) {
        u64 first = K_DOWN(va, 1ull << 30);

        s = leaf_reserve(first, node);
        if (s == QUIRE_OK)
            s = leaf_reserve(va, node);
    }
    return s;
}

bool bare_vmemmap_fault(uint64_t va)
{
    u64 n = (va - QPORT_VMEMMAP_BASE) / LEAF;
    unsigned long flags;
    bool ok;

    if (va < QPORT_VMEMMAP_BASE || n >= MAX_LEAVES || !leaf_pa[n])
        return false;
    flags = kspin_lock(&leaf_lock);
    va = K_DOWN(va, LEAF);
    ok = leaf_mapped(va) || leaf_map(va, leaf_pa[n], no_table) == QUIRE_OK;
    kspin_unlock(&leaf_lock, flags);
    return ok;
}

/* ---- log, time, chance ---- */

void qport_log(enum quire_log_level level, const char *text, size_t len)
{
    (void)level;
    printk("%.*s", (int)len, text);
}

void qport_panic(const char *text) { kpanic("%s", text); }

uint64_t qport_now_ns(void) { return ktime_ns(); }

/* RDRAND where there is one; else the time stamp counter's jitter stirred into a running state
 * (splitmix64's finalizer). */
uint64_t qport_random(void)
{
    static u64 state;
    u64 v;

    if (cpu_features & CPU_RDRAND) {
        for (int i = 0; i < 10; i++) {
            bool ok;

            __asm__ volatile("rdrand %0" : "=r"(v), "=@ccc"(ok));
            if (ok)
                return v;
        }
    }
    v = __atomic_add_fetch(&state, rdtsc() * 0x9e3779b97f4a7c15ull | 1, __ATOMIC_RELAXED);
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9ull;
    v = (v ^ v >> 27) * 0x94d049bb133111ebull;
    return v ^ v >> 31;
}

/* ---- other CPUs ---- */

void qport_ipi(const uint64_t cpus_mask[QUIRE_MAX_CPUS / 64 + 1])
{
    for (unsigned i = 0; i < cpu_count; i++)
        if (cpus_mask[i / 64] >> i % 64 & 1)
            apic_ipi(i, VEC_SHOOTDOWN);
}

/* ---- sleeping ---- */

uintptr_t qport_task_id(void) { return (uintptr_t)current; }

/*
 * Sleepers on words: hashed wait queues.  A sleeper is on its queue before it looks at the word,
 * and a waker changes the word before it takes the queue's lock: either the sleeper sees the
 * change or the waker sees the sleeper.
 */
struct word_waiter {
    struct word_waiter *next, **link;
    const u32 *word;
    struct task *task;
};
struct bucket {
    struct kspin lock;
    struct word_waiter *first;
};
#define BUCKETS 256
static struct bucket buckets[BUCKETS];

static struct bucket *bucket_of(const u32 *word)
{
    return &buckets[((u64)word * 0x9e3779b97f4a7c15ull) >> 56];
}

static void unlink_waiter(struct word_waiter *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->link = NULL;
}

void qport_wait(const uint32_t *word, uint32_t expected)
{
    struct bucket *b = bucket_of(word);
    struct word_waiter w = {.word = word, .task = current};
    unsigned long flags = kspin_lock(&b->lock);

    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) {
        kspin_unlock(&b->lock, flags);
        return;
    }
    w.next = b->first;
    w.link = &b->first;
    if (w.next)
        w.next->link = &w.next;
    b->first = &w;
    wait_prepare();
    kspin_unlock(&b->lock, flags);
    schedule();
    wait_finish();
    flags = kspin_lock(&b->lock);
    if (w.link)
        unlink_waiter(&w);
    kspin_unlock(&b->lock, flags);
}

void qport_wake(const uint32_t *word, unsigned n)
{
    struct bucket *b = bucket_of(word);
    unsigned long flags = kspin_lock(&b->lock);
    struct word_waiter *w = b->first, *next;

    /* the oldest stand last; whom of several is woken first does not matter for correctness */
    for (; w && n; w = next) {
        next = w->next;
        if (w->word != word)
            continue;
        unlink_waiter(w);
        task_wake(w->task);
        n--;
    }
    kspin_unlock(&b->lock, flags);
}
