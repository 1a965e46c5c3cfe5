/*
 * fs/procipc.h - the entries of /proc/sys/kernel that belong to System V IPC.
 */
#ifndef FS_PROCIPC_H
#define FS_PROCIPC_H

#include "gen.h"
#include "sysv.h"

extern const struct gen_entry proc_sysvipc_table[];

int procipc_show_limit(struct text *t, u64 key);
int procipc_store_limit(const char *text, size_t n, u64 key);
int procipc_show_sem(struct text *t, u64 key);
int procipc_store_sem(const char *text, size_t n, u64 key);
int procipc_show_next(struct text *t, u64 key);
int procipc_store_next(const char *text, size_t n, u64 key);

/* clang-format off */
#define PROCIPC_LIMIT(n)                                                                           \
    {.name = #n, .mode = S_IFREG | 0644, .show = procipc_show_limit, .store = procipc_store_limit, \
     .key = offsetof(struct ipc_limits, n) + 1}
#define PROCIPC_NEXT(n, which)                                                                     \
    {.name = (n), .mode = S_IFREG | 0644, .show = procipc_show_next, .store = procipc_store_next,  \
     .key = (which) + 1}
#define PROCIPC_ENTRIES                                                                            \
    PROCIPC_LIMIT(shmmax), PROCIPC_LIMIT(shmall), PROCIPC_LIMIT(shmmni), PROCIPC_LIMIT(msgmax),    \
    PROCIPC_LIMIT(msgmnb), PROCIPC_LIMIT(msgmni), PROCIPC_NEXT("shm_next_id", IPC_SHM),            \
    PROCIPC_NEXT("msg_next_id", IPC_MSG), PROCIPC_NEXT("sem_next_id", IPC_SEM),                    \
    GEN_RW("sem", procipc_show_sem, procipc_store_sem)
/* clang-format on */

#endif
