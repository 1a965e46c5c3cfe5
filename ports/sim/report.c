/*
 * report.c - how a run ends that has found something.
 *
 * The report: what was found, the lines that the finder added, what each CPU is doing, and the last points of
 * all CPUs, a column each.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "trace.h"

enum { NOTES = 200, LAST_POINTS = 60 };

static FILE *report;
static void (*before_end)(const char *kind, const char *text);
static char notes[NOTES][240];
static unsigned nnotes;

void sim_report_to(FILE *out, void (*on_fail)(const char *kind, const char *text))
{
    report = out;
    before_end = on_fail;
    nnotes = 0;
}

void sim_note(const char *fmt, ...)
{
    va_list args;

    if (nnotes == NOTES)
        return;
    va_start(args, fmt);
    vsnprintf(notes[nnotes++], sizeof notes[0], fmt, args);
    va_end(args);
}

void sim_fail(const char *kind, const char *fmt, ...)
{
    static bool failing;
    char text[2048];
    va_list args;

    if (failing)
        _exit(1); /* the report itself came upon something */
    failing = true;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (before_end)
        before_end(kind, text);
    if (report) {
        sim_note_cpus();
        fprintf(report, "finding: %s: %s\n", kind, text);
        for (unsigned i = 0; i < nnotes; i++)
            fprintf(report, "  %s\n", notes[i]);
        if (sim_points())
            fprintf(report, "  the last %d points:\n", LAST_POINTS);
        sim_trace_print(report, LAST_POINTS);
        fflush(report);
    }
    _exit(1);
}
