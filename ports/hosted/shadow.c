/*
 * ports/hosted/shadow.c - the copies that a program with shadow memory makes (ld --wrap): the compiler leaves it to
 * them to look at their operands, and those of the C library know nothing of it.
 */
#include <string.h>

#include <quire/shadow.h>

void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memmove(void *to, const void *from, size_t n);
void *__real_memset(void *to, int c, size_t n);
void *__wrap_memcpy(void *to, const void *from, size_t n);
void *__wrap_memmove(void *to, const void *from, size_t n);
void *__wrap_memset(void *to, int c, size_t n);

void *__wrap_memcpy(void *to, const void *from, size_t n)
{
    quire_shadow_check(from, n, false);
    quire_shadow_check(to, n, true);
    return __real_memcpy(to, from, n);
}

void *__wrap_memmove(void *to, const void *from, size_t n)
{
    quire_shadow_check(from, n, false);
    quire_shadow_check(to, n, true);
    return __real_memmove(to, from, n);
}

void *__wrap_memset(void *to, int c, size_t n)
{
    quire_shadow_check(to, n, true);
    return __real_memset(to, c, n);
}
