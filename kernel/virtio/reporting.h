/*
 * virtio/reporting.h - free page reporting and hinting, parts of the balloon.
 */
#ifndef VIRTIO_REPORTING_H
#define VIRTIO_REPORTING_H

#include "virtio.h"

/* How often one pass over free memory may begin, as Linux (mm/page_reporting.c). */
#define REPORTING_PERIOD_NS 2000000000ull

/* Tell the host which memory is free, if some has become so since the last time.  q: the reporting
 * queue.  The caller serialises. */
void reporting_pass(struct virtq *q);

/* Free pages that a pass of reporting holds just now, and gives back in milliseconds. */
u64 reporting_pages(void);

/* Tell the host which memory it need not copy, block by block (its side looks only at the first
 * buffer of a request), until all is told or *stop is set; and hold it until hinting_done().  The same caller. */
void hinting_pass(struct virtq *q, const u32 *stop);
void hinting_done(void);

/* Free what a pass holds; true if it held something.  Any task, also beside a pass. */
bool reporting_release(void);

#endif
