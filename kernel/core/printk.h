/*
 * core/printk.h - the log as syslog(2) and /dev/kmsg read it.
 */
#ifndef CORE_PRINTK_H
#define CORE_PRINTK_H

#include "k.h"

/* From now on no lock is taken: the machine is about to stop. */
void printk_panic_mode(void);
/* Whether lines go to the console too. */
void printk_console(bool on);
#define PRINTK_RING 65536
/* Copy up to cap bytes from position *pos (advanced; a position that was overwritten moves up). */
size_t printk_read(u64 *pos, char *buf, size_t cap);
/* Position of the last `last` bytes that were not cleared. */
u64 printk_start(size_t last);
size_t printk_unread(u64 pos);
void printk_clear(void);

#endif
