/*
 * resident.h - bytes of memory that the process takes now, as the system counts.
 */
#ifndef MALLOC_RESIDENT_H
#define MALLOC_RESIDENT_H

#include <stdio.h>

static size_t resident(void)
{
    unsigned long pages = 0, rss = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &pages, &rss), 2);
    fclose(f);
    return rss * 4096;
}

#endif
