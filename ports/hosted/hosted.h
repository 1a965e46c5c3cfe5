/*
 * ports/hosted/hosted.h - what a test or benchmark calls to stand up a hosted machine.
 */
#ifndef QUIRE_HOSTED_H
#define QUIRE_HOSTED_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reserve span bytes of "physical" addresses 0..span (lazily backed) and the vmemmap for them,
 * and make this thread CPU 0.  Calling it again starts a fresh, zeroed machine.
 */
void hosted_init(uint64_t span);
/* The same for a machine larger than the host: it is backed in single pages, and these are counted.  For
 * metadata alone: nothing stops whoever touches all of its memory. */
void hosted_init_sparse(uint64_t span);
/* Bytes of the host's memory behind a sparse machine: what of its memory and vmemmap was ever touched. */
uint64_t hosted_resident(void);
/* Make the calling thread CPU number cpu. */
void hosted_cpu_set(unsigned cpu);
/* Give all back. */
void hosted_fini(void);

/*
 * Expected misuse: HOSTED_EXPECT_PANIC(statement) is true if the statement ended in qport_panic;
 * hosted_panic_text() is then the message.  Without it a panic prints and aborts.
 */
extern __thread jmp_buf *hosted_panic_jump;
const char *hosted_panic_text(void);
#define HOSTED_EXPECT_PANIC(stmt)        \
    ({                                   \
        jmp_buf hosted_jb_;              \
        volatile int hosted_hit_ = 1;    \
        hosted_panic_jump = &hosted_jb_; \
        if (!setjmp(hosted_jb_)) {       \
            stmt;                        \
            hosted_hit_ = 0;             \
        }                                \
        hosted_panic_jump = NULL;        \
        hosted_hit_;                     \
    })

/* Log lines go to stderr only if on; the last line is kept either way. */
extern int hosted_log_on;
const char *hosted_log_last(void);
/* All lines since hosted_log_clear(), as far as 64 KiB reach; for a test whose one thread logs. */
const char *hosted_log_text(void);
void hosted_log_clear(void);
/* qport_vmemmap_populate fails once after n more successes; -1 = never (default). */
extern int hosted_fail_populate;
/* qport_vmemmap_populate was asked for the struct page of this frame. */
int hosted_populated(uint64_t pfn);

/* High memory, if the library is built to have any: frames mapped now, by library or test. */
extern unsigned hosted_frames_mapped;
extern unsigned hosted_kmap_flushes; /* of the slots that all CPUs share */
void hosted_high_start(uint64_t span);

/* hosted_dma_clean and hosted_dma_invalidate, NULL by default, stand in quire_port.h. */

/* What qport_ipi does for each CPU; NULL (default): the sending thread runs the target's interrupt at
 * once, in the target's name. A test whose threads poll quire_shootdown_interrupt() sets its own. */
extern void (*hosted_ipi)(unsigned cpu);

#endif
