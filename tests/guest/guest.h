/*
 * guest.h - checks for the programs of tests/guest.  Every check prints one line, the same on every
 * system that is right; the first failure is told with its place and ends the program with 1.
 */
#ifndef GUEST_H
#define GUEST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition, ...)                                                          \
    do {                                                                               \
        if (!(condition)) {                                                            \
            printf("not ok: ");                                                        \
            printf(__VA_ARGS__);                                                       \
            printf(" (%s:%d: %s; errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            fflush(stdout);                                                            \
            _exit(1);                                                                  \
        }                                                                              \
        printf("ok: ");                                                                \
        printf(__VA_ARGS__);                                                           \
        printf("\n");                                                                  \
        fflush(stdout);                                                                \
    } while (0)

/* "Name:  123 kB" of a /proc file, or -1. */
__attribute__((unused)) static long guest_proc_value(const char *file, const char *name)
{
    char line[256];
    long value = -1;
    FILE *f = fopen(file, "r");

    if (!f)
        return -1;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            value = strtol(line + strlen(name) + strspn(line + strlen(name), ": \t"), NULL, 10);
    fclose(f);
    return value;
}

#endif
