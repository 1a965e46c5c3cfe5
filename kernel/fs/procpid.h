/*
 * fs/procpid.h - the parts of /proc/PID among themselves.
 */
#ifndef FS_PROCPID_H
#define FS_PROCPID_H

#include "gen.h"

int key_pid(u64 key);
int key_tid(u64 key);
/* The space of the process, referenced, for those who may read its memory; NULL: *err, or 0 if it
 * has none. */
struct quire_space *key_space(u64 key, int *err);
int procpid_number(const char *name); /* -1: not a number */
int process_next(int from);           /* lowest process number >= from, or -1 */
/* Foreground group of the console if it is the terminal of session sid, else 0. */
int console_session(int sid);

/* procmem.c */
int procpid_maps(struct text *t, u64 key);
int procpid_smaps(struct text *t, u64 key);
int procpid_numa_maps(struct text *t, u64 key);
int procpid_smaps_rollup(struct text *t, u64 key);
int procpid_cmdline(struct text *t, u64 key);
int procpid_environ(struct text *t, u64 key);
int procpid_auxv(struct text *t, u64 key);
extern const struct inode_ops procpid_mem_ops, procpid_map_files_ops;

/* pagemap.c */
extern const struct inode_ops procpid_pagemap_ops;
/* procfd.c */
extern const struct inode_ops procpid_fd_ops, procpid_fdinfo_ops;

#endif
