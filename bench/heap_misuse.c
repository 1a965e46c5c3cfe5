/*
 * heap_misuse.c - one misuse of malloc, for whichever malloc is loaded: heap_misuse KIND.  Ends with status 0 if nobody
 * noticed, else by whatever the malloc does (abort).  heap_misuse alone lists the kinds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY 10000

static void *volatile held[MANY]; /* the compiler sees no misuse */

static char *fresh(size_t size)
{
    held[0] = malloc(size);
    return held[0];
}

static void let_go(const void *p)
{
    held[1] = (void *)(uintptr_t)p;
    free(held[1]);
}

/* Others come and go, so that what was freed reaches the heap's inner tiers. */
static void others(void)
{
    for (int i = 2; i < MANY; i++)
        held[i] = malloc(64);
    for (int i = 2; i < MANY; i++)
        free(held[i]);
}

static void twice(void)
{
    char *p = fresh(64);

    let_go(p);
    let_go(p);
}

static void twice_apart(void)
{
    char *p = fresh(64), *q = malloc(64);

    let_go(p);
    let_go(q);
    let_go(p);
}

static void twice_later(void)
{
    char *p;

    for (int i = 2; i < MANY; i++)
        held[i] = malloc(64);
    p = held[MANY / 2];
    for (int i = 2; i < MANY; i++)
        free(held[i]);
    let_go(p);
}

static void twice_large(void)
{
    char *p = fresh(100000);

    let_go(p);
    let_go(p);
}

static void middle(void)
{
    others();
    let_go(fresh(64) + 16);
}

static void of_the_stack(void)
{
    char on_stack[64] __attribute__((aligned(64)));

    memset(on_stack, 0, sizeof on_stack);
    others();
    let_go(on_stack + 16);
}

static void of_the_data(void)
{
    static char data[4096] __attribute__((aligned(64)));

    others();
    let_go(data + 64);
}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {
    {"twice", twice},
    {"twice-apart", twice_apart},
    {"twice-later", twice_later},
    {"twice-large", twice_large},
    {"middle", middle},
    {"stack", of_the_stack},
    {"data", of_the_data},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (argc < 2)
            puts(kinds[i].name);
        else if (!strcmp(argv[1], kinds[i].name)) {
            kinds[i].run();
            others(); /* some notice when they come by */
            return 0;
        }
    return argc < 2 ? 0 : 2;
}
