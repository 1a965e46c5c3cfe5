/*
 * quire/barrier.h - barriers between memory accesses, for embedders and for the library.
 *
 * One for the compiler and one for each pair of access kinds.  A barrier named A_B orders every
 * access of kind A that stands before it in the program against every access of kind B that stands
 * after it: no observer that is itself ordered sees them the other way round.  Each one is a
 * compiler barrier as well, so the names also hold for plain accesses and when inlined.
 *
 *                   x86-64            AArch64      RISC-V          elsewhere
 *   compiler        -                 -            -               -
 *   load_load       -                 dmb ishld    fence r,r       acquire fence
 *   store_store     -                 dmb ishst    fence w,w       release fence
 *   load_store      -                 dmb ishld    fence r,w       acquire fence
 *   store_load      mfence or a       dmb ish      fence rw,rw     sequentially consistent fence
 *                   locked operation
 *
 * Only store_load makes earlier stores visible to everybody before later loads are done.  It orders
 * all four pairs; the other three order their own pair and nothing may be built on more, whatever
 * an instruction of the table does beside (dmb ishld orders loads before stores too).
 *
 * For ordinary cacheable memory that CPUs share.  Not for devices, nor for x86-64's non-temporal
 * stores and write-combining memory, which pass other stores.  Any context; never fail.
 *
 * Sources.  Intel SDM volume 3A 8.2.2 and 8.2.5; Arm ARM (DDI 0487) B2.3 and "DMB"; RISC-V
 * unprivileged ISA, "FENCE" and chapter RVWMO; C11 7.17.4.  Where a C11 fence compiles to the same
 * instruction it is used, so that tools that instrument fences see it.
 */
#ifndef QUIRE_BARRIER_H
#define QUIRE_BARRIER_H

#ifdef __SANITIZE_THREAD__
/* gcc says that its sanitizer does not model fences; these are wanted all the same. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif

/* The compiler neither moves accesses to memory across, nor keeps values of memory in registers;
 * the CPU may.  Enough against an interrupt on the same CPU. */
static inline __attribute__((always_inline)) void quire_barrier_compiler(void)
{
    __asm__ volatile("" : : : "memory");
}

/* Loads before it are done before loads after it. */
static inline __attribute__((always_inline)) void quire_barrier_load_load(void)
{
#if defined(__riscv)
    __asm__ volatile("fence r, r" : : : "memory");
#else
    quire_barrier_compiler();
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    quire_barrier_compiler();
#endif
}

/* Whoever sees a store after it also sees the stores before it. */
static inline __attribute__((always_inline)) void quire_barrier_store_store(void)
{
#if defined(__riscv)
    __asm__ volatile("fence w, w" : : : "memory");
#elif defined(__aarch64__)
    __asm__ volatile("dmb ishst" : : : "memory"); /* a release fence would be dmb ish */
#else
    quire_barrier_compiler();
    __atomic_thread_fence(__ATOMIC_RELEASE);
    quire_barrier_compiler();
#endif
}

/* Loads before it are done before stores after it are seen by anybody. */
static inline __attribute__((always_inline)) void quire_barrier_load_store(void)
{
#if defined(__riscv)
    __asm__ volatile("fence r, w" : : : "memory");
#else
    quire_barrier_compiler();
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    quire_barrier_compiler();
#endif
}

/* Everything before it is done, and its stores are visible to everybody, before anything after it:
 * the full barrier. */
static inline __attribute__((always_inline)) void quire_barrier_store_load(void)
{
    quire_barrier_compiler();
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    quire_barrier_compiler();
}

#ifdef __SANITIZE_THREAD__
#pragma GCC diagnostic pop
#endif

#endif
