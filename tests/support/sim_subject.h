/*
 * sim_subject.h - the functions that sim_monitor_test.c has watched: sim_subject.c is compiled as the
 * library is in the simulator, every access a call of the monitor.
 */
#ifndef SIM_SUBJECT_H
#define SIM_SUBJECT_H

#include <stddef.h>
#include <stdint.h>

extern uint64_t subject_words[16], subject_flags[64]; /* each flag of use 8 words apart */

void subject_write(void *p, uint64_t v);
uint64_t subject_read(const void *p);
void subject_write_byte(void *p, uint8_t v);
void subject_clear(void *p, size_t n);
/* Named like functions of the library that may do what others may not. */
void poison(void *p);
uint64_t census(const void *p);
void copy_bytes(void *to, const void *from, size_t n);
/* One call deeper, for the backtrace. */
void subject_outer_write(void *p, uint64_t v);

void subject_store(uint64_t *p, uint64_t v);
void subject_store_release(uint64_t *p, uint64_t v);
uint64_t subject_load(const uint64_t *p);
uint64_t subject_load_acquire(const uint64_t *p);
uint32_t subject_load32(const uint32_t *p);
void subject_store32(uint32_t *p, uint32_t v);
uint64_t subject_add(uint64_t *p, uint64_t v);
uint64_t subject_add_acqrel(uint64_t *p, uint64_t v);
uint64_t subject_cas_acqrel(uint64_t *p, uint64_t expected, uint64_t v);
void subject_fence_acquire(void);
void subject_fence_release(void);
void subject_fence_full(void);

#endif
