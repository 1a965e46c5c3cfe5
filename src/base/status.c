/*
 * base/status.c - names, texts and errnos of statuses, from the one table in quire/status.h.
 */
#include <quire/status.h>

static const struct {
    const char *name, *text;
    int err;
} table[] = {
#define ROW(name, err, text) [QUIRE_##name] = {#name, text, err},
    QUIRE_STATUSES(ROW)
#undef ROW
};

#define ROWS (sizeof table / sizeof table[0])

const char *quire_status_text(enum quire_status s)
{
    return (size_t)s < ROWS ? table[s].text : "unknown status";
}

const char *quire_status_name(enum quire_status s)
{
    return (size_t)s < ROWS ? table[s].name : "?";
}

int quire_status_errno(enum quire_status s) { return (size_t)s < ROWS ? table[s].err : 22; }
