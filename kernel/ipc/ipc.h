/*
 * kernel/ipc/ipc.h - what shared memory, semaphores and message queues have in common.
 */
#ifndef KERNEL_IPC_IPC_H
#define KERNEL_IPC_IPC_H

#include "../proc/proc.h"
#include "sysv.h"

enum { IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO };
#define IPC_PRIVATE 0
#define IPC_CREAT   01000
#define IPC_EXCL    02000
#define IPC_NOWAIT  04000

#define CAP_IPC_OWNER 15

/* Directories of slots are made as they are needed. */
#define IPC_LEAF    512u
#define IPC_LEAVES  63u
#define IPC_MAX     (IPC_LEAF * IPC_LEAVES) /* identifiers of a kind at once */
#define IPC_BUCKETS 256u

struct ipc_object {
    int key, id;
    u32 uid, gid, cuid, cgid, mode;
    u16 seq;
    bool removed;
    u32 refs;                 /* the table has one until removal */
    struct ipc_object *chain; /* of the same bucket */
};

/* Everything under lock; nothing sleeps under it. */
struct ipc_kind {
    struct kspin lock;
    const u64 *max;      /* objects at once, of ipc_limits */
    unsigned used, high; /* high: slots ever used */
    int next_id;         /* wanted for the next object, plus 1; 0: any */
    u16 seq;
    struct ipc_object **leaf[IPC_LEAVES];
    struct ipc_object *bucket[IPC_BUCKETS];
};

/* As IPC_STAT and IPC_SET pass it (struct ipc64_perm). */
struct ipc_perm {
    int key;
    u32 uid, gid, cuid, cgid, mode;
    u16 seq, pad;
    u32 pad2;
    u64 unused[2];
};

/* What a get call asks for; fresh: an object with the rest of its fields set, or NULL if none must be made. */
struct ipc_request {
    int key, flags;
    int (*check)(struct ipc_object *, u64 size); /* an object that exists: -errno */
    u64 size;
};

/* Identifier of an object with the key, else of fresh, which it takes over (*taken); -ENOENT if fresh is needed. */
int ipc_get(struct ipc_kind *k, const struct ipc_request *r, struct ipc_object *fresh, bool *taken);
extern struct ipc_kind ipc_shm, ipc_msg, ipc_sem;
int shm_line(int index, char *buf, size_t cap);
int msg_line(int index, char *buf, size_t cap);
int sem_line(int index, char *buf, size_t cap);

/* lock held: the object, or NULL and -EINVAL or -EIDRM */
struct ipc_object *ipc_find_locked(struct ipc_kind *k, int id, int *err);
/* in the slot of index, or of an identifier whatever its sequence number */
struct ipc_object *ipc_at_locked(struct ipc_kind *k, int index);
/* It cannot be found by its key any more. */
void ipc_forget_key_locked(struct ipc_kind *k, struct ipc_object *o);
void ipc_remove_locked(struct ipc_kind *k, struct ipc_object *o);
bool ipc_put_locked(struct ipc_object *o); /* true: the caller frees it after unlocking */
bool ipc_allowed(const struct ipc_object *o, u32 want);
bool ipc_owned(const struct ipc_object *o);
void ipc_perm_fill(struct ipc_perm *to, const struct ipc_object *o);
void ipc_perm_set(struct ipc_object *o, const struct ipc_perm *from);
int ipc_highest_locked(const struct ipc_kind *k);
/* Seconds since 1970. */
static inline u64 ipc_now(void) { return krealtime_ns() / 1000000000u; }

#endif
