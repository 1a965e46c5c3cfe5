/*
 * core/port.c - what the library asks of this kernel: the functions of include/quire/port.h, but for
 * the struct page array (vmemmap.c).
 */
#include "bare.h"
#include "arch/cpu.h"
#include "k.h"
#include "lock.h"
#include "task.h"
#include "wait.h"
#include <quire/frame.h>

void (*bare_clear_page)(void *kla);

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

uintptr_t bare_task_number(void) { return current ? (uintptr_t)current->tid : 0; }

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
