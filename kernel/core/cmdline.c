/*
 * core/cmdline.c - the command line.  What is understood: kernel/include/cmdline.md.
 */
#include "cmdline.h"
#include "arch/cpu.h"
#include "k.h"

#define CMDLINE_MAX 16384

static char line[CMDLINE_MAX];

void cmdline_init(const char *text)
{
    if (strlcpy(line, text, sizeof(line)) >= sizeof(line))
        printk("command line: longer than %u characters: cut off", CMDLINE_MAX - 1);
}

const char *cmdline_all(void) { return line; }

/* The next word at or after *p; its length, 0 at the end. */
static size_t word(const char **p)
{
    size_t n = 0;

    while (**p == ' ')
        (*p)++;
    while ((*p)[n] && (*p)[n] != ' ')
        n++;
    return n;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX in from[0..n) becomes one byte; a '%' without two digits stays. */
static void decode(char *to, size_t cap, const char *from, size_t n)
{
    size_t out = 0;

    for (size_t i = 0; i < n && out + 1 < cap; i++) {
        if (from[i] == '%' && i + 2 < n && hex(from[i + 1]) >= 0 && hex(from[i + 2]) >= 0) {
            to[out++] = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
            i += 2;
        } else {
            to[out++] = from[i];
        }
    }
    to[out] = 0;
}

static bool is_end(const char *w, size_t n) { return n == 2 && w[0] == '-' && w[1] == '-'; }

/* The value of the last "name=value" or "" for a bare "name"; NULL if neither stands before
 * "--". */
static const char *find(const char *name, size_t *len)
{
    size_t n, m = strlen(name);
    const char *found = NULL;

    for (const char *p = line; (n = word(&p)) && !is_end(p, n); p += n) {
        if (n < m || memcmp(p, name, m) || (n > m && p[m] != '='))
            continue;
        found = n > m ? p + m + 1 : p + n;
        *len = n > m ? n - m - 1 : 0;
    }
    return found;
}

bool cmdline_get(const char *name, char *buf, size_t cap)
{
    size_t n;
    const char *v = find(name, &n);

    if (v && v[-1] == '=')
        decode(buf, cap, v, n);
    return v && v[-1] == '=';
}

bool cmdline_has(const char *name)
{
    size_t n;

    return find(name, &n);
}

u64 cmdline_number(const char *name, u64 otherwise)
{
    char text[32];

    return cmdline_get(name, text, sizeof(text)) ? kstrtou64(text, NULL) : otherwise;
}

unsigned cmdline_words(enum cmdline_part part, char *buf, size_t cap, char **words, unsigned max)
{
    bool args = false;
    unsigned count = 0;
    size_t n;

    for (const char *p = line; (n = word(&p)) && count < max; p += n) {
        bool env = n > 4 && !memcmp(p, "env.", 4);
        size_t skip = part == CMDLINE_ENV ? 4 : 0;

        if (!args && is_end(p, n)) {
            args = true;
            continue;
        }
        if (part == CMDLINE_ENV ? args || !env : !args)
            continue;
        decode(buf, cap, p + skip, n - skip);
        words[count++] = buf;
        cap -= strlen(buf) + 1;
        buf += strlen(buf) + 1;
        if (!cap)
            break;
    }
    words[count] = NULL;
    return count;
}
