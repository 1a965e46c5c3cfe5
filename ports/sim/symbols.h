/*
 * symbols.h - names for code and data addresses of this program, for reports.
 */
#ifndef SIM_SYMBOLS_H
#define SIM_SYMBOLS_H

#include <stddef.h>

/* "function+0x12", "variable+8", or the number; buf in any case. */
const char *sim_symbol(const void *address, char *buf, size_t len);
#endif
