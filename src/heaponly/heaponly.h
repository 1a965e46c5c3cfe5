/*
 * heaponly/heaponly.h - what the files of this folder share.
 */
#ifndef QI_HEAPONLY_H
#define QI_HEAPONLY_H

#include <quire/heap_only.h>

/* large.c: an arena without memory. */
void qi_large_init(void);

#endif
