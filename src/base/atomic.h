/*
 * base/atomic.h - atomics with the memory order in the name.
 *
 * All shared-memory communication of the library goes through these, so that the order is visible
 * at every use and a simulator can switch CPUs before each of them (QPORT_POINT).  They work on
 * plain integers and pointers.  Sources: C11 7.17; GCC manual, "Built-in Functions for Memory
 * Model Aware Atomic Operations".
 */
#ifndef QI_BASE_ATOMIC_H
#define QI_BASE_ATOMIC_H

#include <quire/barrier.h>
#include <quire/port.h>

/* One line an operation reads as the table that it is. */
/* clang-format off */
#define qi_point_(kind, p) QPORT_POINT(kind, p)

#define qi_load_relaxed(p)   ({ qi_point_(LOAD, p); __atomic_load_n((p), __ATOMIC_RELAXED); })
#define qi_load_acquire(p)   ({ qi_point_(LOAD, p); __atomic_load_n((p), __ATOMIC_ACQUIRE); })
#define qi_store_relaxed(p, v) ({ qi_point_(STORE, p); __atomic_store_n((p), (v), __ATOMIC_RELAXED); })
#define qi_store_release(p, v) ({ qi_point_(STORE, p); __atomic_store_n((p), (v), __ATOMIC_RELEASE); })

#define qi_xchg_relaxed(p, v) ({ qi_point_(RMW, p); __atomic_exchange_n((p), (v), __ATOMIC_RELAXED); })
#define qi_xchg_acqrel(p, v)  ({ qi_point_(RMW, p); __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL); })

/* The value before. */
#define qi_fetch_add_relaxed(p, v) ({ qi_point_(RMW, p); __atomic_fetch_add((p), (v), __ATOMIC_RELAXED); })
#define qi_fetch_add_acqrel(p, v)  ({ qi_point_(RMW, p); __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL); })
#define qi_fetch_sub_relaxed(p, v) ({ qi_point_(RMW, p); __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED); })
#define qi_fetch_sub_acqrel(p, v)  ({ qi_point_(RMW, p); __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL); })
#define qi_fetch_or_relaxed(p, v)  ({ qi_point_(RMW, p); __atomic_fetch_or((p), (v), __ATOMIC_RELAXED); })
#define qi_fetch_or_acqrel(p, v)   ({ qi_point_(RMW, p); __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL); })
#define qi_fetch_and_relaxed(p, v) ({ qi_point_(RMW, p); __atomic_fetch_and((p), (v), __ATOMIC_RELAXED); })
#define qi_fetch_and_acqrel(p, v)  ({ qi_point_(RMW, p); __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL); })

/* True if *(p) was *(expected) and is now v; else *(expected) is what was found. */
#define qi_cas_relaxed(p, expected, v)                                         \
    ({ qi_point_(RMW, p);                                                      \
       __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); })
#define qi_cas_acqrel(p, expected, v)                                          \
    ({ qi_point_(RMW, p);                                                      \
       __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE); })

/* Add to a word that one context writes and others look at: a single instruction where the compiler has one, which
 * it does not make of atomics.  The sanitizer is told what is meant. */
#if defined(__SANITIZE_THREAD__)
#define QI_OWN_ADD_ 1
#elif defined(__has_feature)
#define QI_OWN_ADD_ __has_feature(thread_sanitizer)
#else
#define QI_OWN_ADD_ 0
#endif
#if QI_OWN_ADD_
#define qi_own_add(p, v) qi_store_relaxed(p, __atomic_load_n(p, __ATOMIC_RELAXED) + (v))
#define qi_load_operand(p) qi_load_relaxed(p)
#else
#define qi_own_add(p, v) ({ qi_point_(STORE, p); *(p) += (v); })
/* As qi_load_relaxed(), of a word that is read once and whose every value will do: may be an operand of the
 * instruction that uses it. */
#define qi_load_operand(p) ({ qi_point_(LOAD, p); *(p); })
#endif

/* The thread sanitizer does not model fences.  Ours only order atomics that are read by the other
 * side atomically too, so it misses nothing by that. */
#define qi_fence_full() ({ qi_point_(FENCE, 0); quire_barrier_store_load(); })
/* clang-format on */

#endif
