/*
 * quire/port.h - every demand that Quire makes on its host, in one place.
 *
 * A port has two parts:
 *
 *   1. A header named <quire_port.h> on the include path: the hooks of the hot paths, as static
 *      inline functions or macros.  It is included below.  A missing one is a compile error.
 *   2. Functions, declared below.  A missing one is a link error.
 *
 * A layer that you do not link asks for nothing: frames alone need the first group, the heap adds
 * qport_wait and qport_wake, page tables and address spaces need the second, sleeping the third.
 *
 * Contexts: "any" may be an interrupt handler; "task" may sleep; "no-sleep" holds a spin lock or
 * has preemption off.  quire_port_selftest() calls each hook and names the one that is wrong.
 *
 * ---- In <quire_port.h> --------------------------------------------------------------------------
 *
 * Group 1, frames and heap
 *   uintptr_t QPORT_DIRECT_BASE     kernel logical address of physical address 0
 *   uintptr_t QPORT_VMEMMAP_BASE    address of struct quire_page of frame 0; only the parts that
 *                                   qport_vmemmap_populate() was asked for need be backed.  Of the
 *                                   memory models VMEMMAP alone asks for these two
 *   unsigned  qport_cpu(void)                    any, preemption off: this CPU, 0..QUIRE_MAX_CPUS-1;
 *                                   may be unsigned long, which as an index needs no extension
 *   unsigned long qport_irq_save(void)           any: interrupts (hence preemption) off on this CPU
 *   void      qport_irq_restore(unsigned long)   any
 *   void      qport_preempt_disable(void)        any: nests
 *   void      qport_preempt_enable(void)         any
 *   QPORT_CONTEXTS                  may be left out, with the next: how many contexts of one CPU may be in
 *                                   the library at once while preemption is off; 2: a task and an interrupt
 *                                   handler, and handlers do not interrupt each other.  Without them the
 *                                   heap keeps interrupts off in its fast paths
 *   unsigned long qport_context(void)            any, preemption off: qport_cpu() * QPORT_CONTEXTS + which of
 *                                   them calls: 0 the task, then upwards, each able to interrupt those below
 *   void      qport_relax(void)                  any: one turn of a busy wait
 *   void      qport_clear_page(void *kla)        any: 4 KiB of zeros, aligned
 *   void      qport_copy_page(void *dst, const void *src)
 *   QPORT_POINT(kind, ptr)          a scheduling point: before each lock, atomic, table write; a
 *                                   simulator switches CPUs here, everyone else defines it empty
 *   QPORT_COPY_OPTIMISTIC(dst, src) may be left out: qport_copy_page(), of a frame that may be freed and used anew
 *                                   meanwhile: if it was, the copy is thrown away.  For ports that look for races
 *   QPORT_TASK_POLICY()             may be left out: the struct quire_policy (quire/policy.h) of the running
 *                                   task for its new pages, or NULL; task context, stays valid
 *                                   while the task runs in the library
 *   QPORT_EVENT(kind, ptr, n)       may be left out: what has just happened, or is about to, told to
 *                                   whoever watches the library; must not call it.  kind is one of
 *                                   FRAME_ALLOC, FRAME_FREE    ptr struct quire_page, n order
 *                                   OBJECT_ALLOC, OBJECT_FREE  ptr heap object, n its size
 *                                   TABLE_ALLOC, TABLE_FREE    ptr struct quire_page, n 0
 *                                   LOCK_INIT                  ptr lock, n (uintptr_t) name of its class
 *                                   LOCKED, UNLOCK             ptr lock, n 0 a spin lock, 1 a
 *                                   sleeping one as a reader, 2 a sleeping one alone, 3 the same
 *                                   without having been ready to sleep
 *                                   A FREE and an UNLOCK come before the fact, the others after it.
 *   QPORT_CALLER()                  may be left out: uintptr_t, not 0; what stands for the place that called, where its
 *                                   address is another one in each run and must not change what is done; any
 *   QPORT_BACKTRACE(caller, out, max)  may be left out: unsigned; the return addresses on the running stack from
 *                                   caller on, which is one of them, into uintptr_t out[max], the innermost first;
 *                                   how many; 0 if it is not found.  Must not call the library, but
 *                                   quire_backtrace_frames(); any
 *   QPORT_SYMBOL(addr, buf, cap)    may be left out: size_t; the name of the place in the code for reports,
 *                                   as snprintf(3) would put it into char buf[cap]; 0: not known; any
 *   QPORT_TRACK_TASK()              may be left out: uintptr_t; a number of the running task that means
 *                                   something to whoever reads reports, 0: none; any
 *   QPORT_BOOT_ZEROED               may be left out: 1 if the memory that boot finds is zeros, as that of a
 *                                   process is; then tables that begin as zeros are not written
 *   QPORT_UNLOCKED(lock)            may be left out: a spin lock has just been released; a port that has to
 *                                   know when a CPU holds none counts LOCKED events and these
 *   QPORT_FREE_FOREIGN(p)           may be left out: quire_kfree() got a pointer that is no object and no
 *                                   run; true: it was the port's, which has taken it back
 *   QPORT_SHADOW_BASE, QPORT_SHADOW_SPAN   with QUIRE_SHADOW alone: uintptr_t; the address of one byte for each 8 of
 *                                   the direct map, zeros at the start of the heap, and how many bytes of the
 *                                   direct map they are for
 *   QPORT_GUARD_PAGE(page, closed)  may be left out: without it there are no sampled objects (quire/harden.h).  Every
 *                                   access of this CPU to this 4 KiB page of the direct map faults from now
 *                                   on, or none does.  A uint64_t: 0 if that holds for all CPUs, else what to
 *                                   ask QPORT_GUARD_SETTLED with.  The fault handler asks
 *                                   quire_heap_fault().  Interrupts off; cannot fail, nor wait for other CPUs
 *   QPORT_GUARD_SETTLED(number)     may be left out if that is always 0: bool; this closing and all before it hold for every CPU; any
 *   QPORT_VMEMMAP_RELEASE(from, to) may be left out: [from, to) of the vmemmap array, that
 *                                   quire_memory_add() asked for, is not used any more; parts that were
 *                                   never backed are passed over.  When it is asked for again it has to
 *                                   be zeros.  Task, may sleep
 *   QPORT_VMEMMAP_SHARE(at, pa)     may be left out, with the next: the 4 KiB of the vmemmap array at at
 *                                   show those at pa, read-only, on every CPU; the memory that was
 *                                   there is the port's again.  Cannot fail: a port that lacks memory
 *                                   for a table leaves all as it is, and saves nothing; task
 *   QPORT_VMEMMAP_UNSHARE(at)       an enum quire_status: memory of their own, writable, which says what
 *                                   they have shown so far; at no time do they say anything else; task
 *   QPORT_VMEMMAP_PLACE(from, to, pa)  may be left out, with the next: an enum quire_status; [from, to) of the
 *                                   vmemmap array, pages of 4 KiB, show the memory from pa on, writable, on
 *                                   every CPU.  EXISTS: some of it is backed already; NO_MEMORY: for
 *                                   tables; then nothing has changed.  Task, may sleep
 *   QPORT_VMEMMAP_DISPLACE(from, to)  they show nothing any more, on every CPU, and the memory is not the
 *                                   port's; cannot fail; task
 *   QPORT_DMA_CLEAN(ptr, n)         may be left out where no device is QUIRE_DMA_NONCOHERENT: write the
 *                                   lines of the caches with bytes [ptr, ptr + n) of the direct map
 *                                   to memory, done before the device is told to begin; any
 *   QPORT_DMA_INVALIDATE(ptr, n)    likewise: drop these lines, so that the next load reads memory; any
 *   QPORT_DMA_LINE                  likewise: bytes of the longest line of a cache, a power of two up
 *                                   to 2048; 64 if not said
 *
 * Group 2, page tables and address spaces
 *   void      qport_tlb_flush_page(uint64_t va, unsigned asid)  any: this CPU, one 4 KiB or huge entry
 *   void      qport_tlb_flush_asid(unsigned asid)     any: this CPU, all non-global entries of asid
 *   void      qport_tlb_flush_all(void)               any: this CPU, everything, global ones too
 *   void      qport_table_load(q_pa root, unsigned asid, bool keep)  no-sleep: this CPU translates
 *                                   through root; keep: entries of asid already cached stay valid
 *   QPORT_ASIDS                     how many address-space ids the CPU has; 1 = none
 */
#ifndef QUIRE_PORT_H
#define QUIRE_PORT_H

#include <quire/config.h>
#include <quire/status.h>
#include <quire/types.h>

#include <quire_port.h>

#ifndef QPORT_COPY_OPTIMISTIC
#define QPORT_COPY_OPTIMISTIC(dst, src) qport_copy_page(dst, src)
#endif
#ifndef QPORT_EVENT
#define QPORT_EVENT(kind, ptr, n) ((void)0)
#endif

#ifndef QPORT_BOOT_ZEROED
#define QPORT_BOOT_ZEROED 0
#endif

#ifndef QPORT_UNLOCKED
#define QPORT_UNLOCKED(lock) ((void)0)
#endif

#ifndef QPORT_FREE_FOREIGN
#define QPORT_FREE_FOREIGN(p) false
#endif

#ifndef QPORT_TASK_POLICY
#define QPORT_TASK_POLICY() ((const struct quire_policy *)0)
#endif

#ifndef QPORT_BACKTRACE
#define QPORT_BACKTRACE(caller, out, max) ((void)(caller), (void)(out), (void)(max), 0u)
#endif
#ifndef QPORT_SYMBOL
#define QPORT_SYMBOL(addr, buf, cap) ((void)(addr), (void)(buf), (void)(cap), (size_t)0)
#endif
#ifndef QPORT_TRACK_TASK
#define QPORT_TRACK_TASK() ((uintptr_t)0)
#endif

#ifndef QPORT_DMA_CLEAN
#define QPORT_DMA_CLEAN(ptr, n) ((void)(ptr), (void)(n))
#endif
#ifndef QPORT_DMA_INVALIDATE
#define QPORT_DMA_INVALIDATE(ptr, n) ((void)(ptr), (void)(n))
#endif
#ifndef QPORT_DMA_LINE
#define QPORT_DMA_LINE 64u
#endif

enum quire_log_level { QUIRE_LOG_ERROR, QUIRE_LOG_WARN, QUIRE_LOG_INFO };

/* ---- Group 1: frames and heap ---- */

/* One line of text, len bytes, no newline at its end.  Any context; must not call Quire. */
void qport_log(enum quire_log_level level, const char *text, size_t len);

/*
 * The caller misused the library, or the library found itself damaged: text says what, with
 * values.  Any context.  Must not return: stop the machine, or longjmp out in a test.
 */
_Noreturn void qport_panic(const char *text);

/* Back [from, to) of the vmemmap array with zeroed memory, preferably of that node.  from and to
 * are multiples of 4 KiB.  Already backed parts may be asked for again.  Boot or task context; but any
 * context, several CPUs at once, and without allocating frames, if the embedder asks for deferred
 * initialisation (quire_boot.first_bytes). */
#if QUIRE_MEMORY_MODEL == QUIRE_MODEL_VMEMMAP
enum quire_status qport_vmemmap_populate(uintptr_t from, uintptr_t to, unsigned node);
#endif

/*
 * With QUIRE_DIRECT_LIMIT alone: make the 4 KiB at frame, which the direct map does not reach, visible to
 * this CPU, until qport_frame_unmap() of what was returned, in the same context; two at a time,
 * unmapped in reverse, and QUIRE_KMAP_DEPTH more for whoever uses quire_kmap_local().  Any context, preemption
 * off; cannot fail.
 */
void *qport_frame_map(q_pa frame);
void qport_frame_unmap(void *at);

/*
 * The same for quire_kmap(), if you use it: QUIRE_KMAP_SLOTS pages of addresses that all CPUs share.  set makes an
 * empty slot show a frame and returns its address; clear empties it; flush: no CPU translates a slot to what
 * was there before it was cleared.  Task context; one call at a time.
 */
void *qport_kmap_set(unsigned slot, q_pa frame);
void qport_kmap_clear(unsigned slot);
void qport_kmap_flush(void);

/* Nanoseconds since some fixed point; never goes back on one CPU.  Any context. */
uint64_t qport_now_ns(void);

/* 64 random bits, as good as the host has: seeds for address randomisation and hardening.  Any. */
uint64_t qport_random(void);

/* ---- Group 2: address spaces ---- */

/*
 * Make every CPU whose bit is set in cpus (bit i of word i / 64) call quire_shootdown_interrupt()
 * soon, in interrupt context.  Does not wait: Quire waits for the acknowledgement itself, with
 * this CPU's interrupts on or its own queue served.  The caller's bit is never set.  No-sleep.
 */
void qport_ipi(const uint64_t cpus[QUIRE_MAX_CPUS / 64 + 1]);

/* ---- Group 3: sleeping ---- */

/* An id of the running task, never 0; for lock owners and reports.  Any context. */
uintptr_t qport_task_id(void);

/*
 * Sleep if *word still equals expected, until qport_wake(word); may wake early.  The comparison
 * and the going to sleep are one step with respect to qport_wake.  Task context.
 */
void qport_wait(const uint32_t *word, uint32_t expected);

/* Wake up to n tasks that sleep on word.  No-sleep or task context. */
void qport_wake(const uint32_t *word, unsigned n);

/* ---- What the port calls ---- */

/* In the interrupt that qport_ipi() asked for: serve this CPU's shootdowns.  Cheap when none. */
void quire_shootdown_interrupt(void);

/*
 * For QPORT_BACKTRACE of a port whose code, the library's included, keeps frame pointers: the return
 * addresses above frame, the address of a saved frame pointer (__builtin_frame_address(0)), from caller on.  Reads
 * only inside [low, high), the running stack, upwards.  Any context.
 */
unsigned quire_backtrace_frames(uintptr_t caller, uintptr_t frame, uintptr_t low, uintptr_t high,
                                uintptr_t *out, unsigned max);

/* Call every hook with legal arguments and check what it does; names the first wrong one in
 * *culprit.  Task context, one CPU, before or after the library's initialisation. */
enum quire_status quire_port_selftest(const char **culprit);

#endif
