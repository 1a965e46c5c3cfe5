/*
 * kernel/proc/exec.h - between exec.c (arguments, the switch) and exec_load.c (files and memory).
 */
#ifndef KERNEL_PROC_EXEC_H
#define KERNEL_PROC_EXEC_H

#include "elf.h"
#include "proc.h"

#define EXEC_STRING_MAX (128u << 10)
#define EXEC_TOTAL_MAX  (6u << 20)
#define EXEC_SCRIPTS    5 /* nested interpreters */

/* Strings with their zeros, arguments first, then environment. */
struct exec_strings {
    char *buf;
    size_t cap, used, env_at; /* env_at: where the environment begins */
    unsigned argc, envc;
    u64 limit;
};

/* A program file and what it asks for. */
struct exec_image {
    struct file *file;
    struct quire_object *object;
    u8 *phdrs;
    struct elf_plan plan;
    u64 bias;
};

struct exec_job {
    struct exec_strings strings;
    struct exec_image program, interp;
    struct quire_space *space;
    u64 entry, sp;
    u64 arg_start, arg_end, env_start, env_end, auxv_start, auxv_end;
    bool randomize;
    char comm[16];
    /* not zeroed, last */
    char execfn[4096]; /* as the caller named it: AT_EXECFN */
    char path[4096];   /* the file looked at now: the same, or an interpreter */
};

int exec_strings_add(struct exec_strings *s, const char *text);
/* Read and check the program file that job->program.file is, following #! lines. */
int exec_image_open(struct exec_job *job);
void exec_image_close(struct exec_image *image);
/* Build the new space with everything in it; the caller's own space is untouched. */
int exec_build(struct exec_job *job);

#endif
