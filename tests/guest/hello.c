/*
 * hello.c - the smallest program that shows arguments, environment, heap and exit status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    char *copy = malloc(1 << 20);

    if (!copy)
        return 1;
    memset(copy, 'x', 1 << 20);
    printf("hello, %d arguments, the last is %s, %c\n", argc - 1, argv[argc - 1],
           copy[(1 << 20) - 1]);
    free(copy);
    return 5;
}
