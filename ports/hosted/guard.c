/*
 * ports/hosted/guard.c - pages that fault, for sampled objects (quire/harden.h), by mprotect(2).
 */
#include "hosted.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <quire/port.h>

/* weak: the frame allocator alone does not link it */
extern bool quire_heap_fault(const void *addr, bool write) __attribute__((weak));

/* Bit 1 of the page-fault error code: a write (Intel SDM vol. 3, 4.7). */
#define FAULT_WRITE 2

/* As a kernel's page-fault handler: it runs on the stack of who faulted, and does not come back. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    const ucontext_t *at = context;
    bool write = at->uc_mcontext.gregs[REG_ERR] & FAULT_WRITE;
    char text[512];

    (void)signal;
    if (quire_heap_fault && quire_heap_fault(info->si_addr, write))
        snprintf(text, sizeof text, "page fault at %p, among sampled objects", info->si_addr);
    else
        snprintf(text, sizeof text, "page fault at %p", info->si_addr);
    qport_panic(text);
}

/* Again and again: test runners put their own handler in front. */
static void handle_faults(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    if (sigaction(SIGSEGV, &action, NULL)) {
        perror("hosted: SIGSEGV");
        abort();
    }
}

bool hosted_guard_late;

uint64_t hosted_guard_page(void *page, bool closed)
{
    handle_faults();
    if (mprotect(page, QUIRE_PAGE_SIZE, closed ? PROT_NONE : PROT_READ | PROT_WRITE)) {
        perror("hosted: guard page");
        abort();
    }
    return closed && hosted_guard_late;
}
