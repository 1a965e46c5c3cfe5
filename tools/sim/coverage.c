/*
 * coverage.c - only in a build that measures coverage: a run ends by _exit(), which would lose what it
 * counted.  A run with a finding may stand on any stack, and in any state: it loses it.
 */
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
void __gcov_dump(void);

void __wrap__exit(int status)
{
    if (!status)
        __gcov_dump();
    __real__exit(status);
}
