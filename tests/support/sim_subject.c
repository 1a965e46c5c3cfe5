/*
 * sim_subject.c - see sim_subject.h.
 */
#include "sim_subject.h"

#include <quire/port.h>

uint64_t subject_words[16], subject_flags[64];

void subject_write(void *p, uint64_t v) { *(uint64_t *)p = v; }
uint64_t subject_read(const void *p) { return *(const uint64_t *)p; }
void subject_write_byte(void *p, uint8_t v) { *(uint8_t *)p = v; }

void subject_clear(void *p, size_t n) { __builtin_memset(p, 0, n); }

uint64_t census(const void *p) { return *(const uint64_t *)p; }
void poison(void *p) { *(uint8_t *)p = 0x6b; }
void copy_bytes(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
}

__attribute__((noinline)) void subject_outer_write(void *p, uint64_t v)
{
    subject_write(p, v);
    *(uint64_t *)p = v + 1;
}

void subject_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
void subject_store_release(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
uint64_t subject_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
uint64_t subject_load_acquire(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
uint32_t subject_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
void subject_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
uint64_t subject_add(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
uint64_t subject_add_acqrel(uint64_t *p, uint64_t v)
{
    return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL);
}
uint64_t subject_cas_acqrel(uint64_t *p, uint64_t expected, uint64_t v)
{
    __atomic_compare_exchange_n(p, &expected, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
void subject_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
void subject_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
void subject_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
