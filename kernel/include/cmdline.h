/*
 * kernel/include/cmdline.h - more about the command line than k.h says: for core and arch.
 */
#ifndef K_CMDLINE_H
#define K_CMDLINE_H

#include "k.h"

u64 cmdline_number(const char *name, u64 otherwise);

enum cmdline_part { CMDLINE_ARGS, CMDLINE_ENV };
/* The arguments after "--", or the environment ("env.NAME=value", without the prefix), decoded
 * into buf one after the other; words[0..n] points to them and ends with NULL (room for max + 1).
 * Returns n. */
unsigned cmdline_words(enum cmdline_part part, char *buf, size_t cap, char **words, unsigned max);

#endif
