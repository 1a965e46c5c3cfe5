/*
 * kernel/include/ipc.h - what the rest of the kernel knows of System V IPC.
 */
#ifndef K_IPC_H
#define K_IPC_H

#include "k.h"

struct process;
struct quire_object;

/* The process ends: undo its semaphore operations (semop(2), SEM_UNDO). */
void ipc_exit(struct process *p);

/* The name of a mapping of shared memory, as /proc/pid/maps has it, and its identifier; false: not one. */
bool ipc_shm_name(struct quire_object *o, char *name, size_t cap, u64 *id);

#endif
