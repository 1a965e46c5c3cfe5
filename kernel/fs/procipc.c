/*
 * fs/procipc.c - /proc/sysvipc and the limits of System V IPC in /proc/sys/kernel.
 */
#include "procipc.h"

#define LINE 256

static int show_objects(struct text *t, u64 which)
{
    char line[LINE];
    int n;

    for (int i = -1; (n = ipc_line((enum ipc_which)(which - 1), i, line, sizeof(line))) >= 0; i++)
        text_put(t, line, (size_t)n);
    return 0;
}

/* clang-format off */
#define OBJECTS(n, which) {.name = (n), .mode = S_IFREG | 0444, .show = show_objects, .key = (which) + 1}
/* clang-format on */

const struct gen_entry proc_sysvipc_table[] = {
    OBJECTS("shm", IPC_SHM),
    OBJECTS("msg", IPC_MSG),
    OBJECTS("sem", IPC_SEM),
    {.name = NULL},
};

static u64 *limit_at(u64 key) { return (u64 *)((char *)&ipc_limits + key - 1); }

int procipc_show_limit(struct text *t, u64 key)
{
    text_printf(t, "%lu\n", (unsigned long)*limit_at(key));
    return 0;
}

/* A number above INT64_MAX is one of the sizes without a limit: unsigned. */
int procipc_store_limit(const char *text, size_t n, u64 key)
{
    const char *end;
    u64 v = kstrtou64(text, &end);

    (void)n;
    if (end == text || (*end && *end != '\n'))
        return -EINVAL;
    *limit_at(key) = v;
    return 0;
}

int procipc_show_sem(struct text *t, u64 key)
{
    (void)key;
    text_printf(t, "%lu\t%lu\t%lu\t%lu\n", (unsigned long)ipc_limits.semmsl,
                (unsigned long)ipc_limits.semmns, (unsigned long)ipc_limits.semopm,
                (unsigned long)ipc_limits.semmni);
    return 0;
}

/* The four in their order; fewer leave the rest as it is. */
int procipc_store_sem(const char *text, size_t n, u64 key)
{
    u64 *const to[] = {&ipc_limits.semmsl, &ipc_limits.semmns, &ipc_limits.semopm,
                       &ipc_limits.semmni};
    const char *end;

    (void)n;
    (void)key;
    for (unsigned i = 0; i < K_COUNT(to); i++, text = end) {
        u64 v;

        while (*text == ' ' || *text == '\t' || *text == '\n')
            text++;
        if (!*text)
            return i ? 0 : -EINVAL;
        v = kstrtou64(text, &end);
        if (end == text || v > INT32_MAX)
            return -EINVAL;
        *to[i] = v;
    }
    return 0;
}

int procipc_show_next(struct text *t, u64 which)
{
    text_printf(t, "%d\n", ipc_next_id((enum ipc_which)(which - 1)));
    return 0;
}

int procipc_store_next(const char *text, size_t n, u64 which)
{
    i64 v;
    int err = gen_number(text, 0, INT32_MAX - 1, &v);

    (void)n;
    if (!err)
        ipc_set_next_id((enum ipc_which)(which - 1), (int)v);
    return err;
}
