/*
 * args.h - what the kinds of arguments of operations may be: their ranges, and the words for those
 * that have names.  Shared by the generator, the text format and the shrinker.
 */
#ifndef SIM_ARGS_H
#define SIM_ARGS_H

#include "program.h"

struct sim_word {
    const char *name; /* NULL: the end of the list */
    uint32_t value;
};

struct sim_arg_range {
    uint32_t min, max;
    uint32_t usual;               /* when a text does not give it */
    const struct sim_word *words; /* NULL: written as a number */
};
extern const struct sim_arg_range sim_arg_range[SIM_ARG_MISUSE + 1];
/* By enum sim_misuse. */
extern const struct sim_word sim_misuse_words[];

/* Lower-case names of enum sim_group. */
extern const char *const sim_group_names[SIM_GROUPS];
/* The groups whose operations the generator draws. */
enum { SIM_DRAWN_GROUPS = (1 << SIM_GROUP_CONTROL) - 1 };
/* "frames,heap" or "all": bits; 0: there is a name that is none. */
unsigned sim_groups_parse(const char *names);

/* A decimal number and nothing else. */
bool sim_number_parse(const char *text, uint64_t *value);

/* A program with no tasks on a machine where nothing goes wrong by itself. */
void sim_program_init(struct sim_program *p);
/* to becomes a program of its own, equal to from. */
void sim_program_copy(struct sim_program *to, const struct sim_program *from);
/* The schedule becomes this list, which is copied. */
void sim_program_list(struct sim_program *p, const struct sim_decision *list, size_t n);
size_t sim_program_ops(const struct sim_program *p);

/* malloc() that does not come back without memory. */
void *sim_allocate(size_t bytes);

#endif
