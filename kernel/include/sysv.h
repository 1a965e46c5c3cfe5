/*
 * kernel/include/sysv.h - what the rest of the kernel knows of System V IPC.
 */
#ifndef K_SYSV_H
#define K_SYSV_H

#include "k.h"

struct process;
struct quire_object;

/* What /proc/sys/kernel tells and sets; read without a lock. */
extern struct ipc_limits {
    u64 shmmax, shmall, shmmni; /* bytes of a segment; pages of all; segments */
    u64 msgmax, msgmnb, msgmni; /* bytes of a message, of a queue; queues */
    u64 semmsl, semmns, semopm,
        semmni; /* semaphores of a set, of all; operations of a call; sets */
} ipc_limits;

enum ipc_which { IPC_SHM, IPC_MSG, IPC_SEM, IPC_KINDS };
/* The identifier that the next object of a kind gets, if it is free; -1: any. */
int ipc_next_id(enum ipc_which which);
void ipc_set_next_id(enum ipc_which which, int id);
/* The line of /proc/sysvipc for the object in slot index, a name line for index -1: its length, 0 for a
 * free slot, negative beyond the last. */
int ipc_line(enum ipc_which which, int index, char *buf, size_t cap);

/* The process ends: undo its semaphore operations (semop(2), SEM_UNDO). */
void ipc_exit(struct process *p);

/* The name of a mapping of shared memory, as /proc/pid/maps has it, and its identifier; false: not one. */
bool ipc_shm_name(struct quire_object *o, char *name, size_t cap, u64 *id);

/* A segment after IPC_RMID that is mapped once: without that mapping it is no more. */
bool ipc_shm_ends(struct quire_object *o);

#endif
