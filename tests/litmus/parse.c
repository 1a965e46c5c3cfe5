/*
 * parse.c - the text of litmus programs.  The grammar is in program.h.
 */
#include "program.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORDS = 12, LINE_LEN = 240 };

struct words {
    unsigned n;
    char w[MAX_WORDS][NAME_LEN];
};

/* Split at blanks; false: too many or too long. */
static bool split(const char *text, struct words *out)
{
    out->n = 0;
    while (*(text += strspn(text, " \t"))) {
        size_t len = strcspn(text, " \t");

        if (out->n == MAX_WORDS || len >= NAME_LEN)
            return false;
        snprintf(out->w[out->n++], NAME_LEN, "%.*s", (int)len, text);
        text += len;
    }
    return true;
}

static bool parse_reg(const char *s, int8_t *reg)
{
    if (s[0] != 'r' || s[1] < '0' || s[1] >= '0' + MAX_REGS || s[2])
        return false;
    *reg = (int8_t)(s[1] - '0');
    return true;
}

static bool parse_number(const char *s, uint8_t *value)
{
    char *end;
    unsigned long v = strtoul(s, &end, 10);

    if (!isdigit((unsigned char)*s) || *end || v > 15)
        return false;
    *value = (uint8_t)v;
    return true;
}

static bool parse_operand(const char *s, struct operand *o)
{
    o->reg = -1;
    return parse_reg(s, &o->reg) || parse_number(s, &o->value);
}

static bool parse_loc(const struct program *p, const char *s, int8_t *loc)
{
    for (unsigned i = 0; i < p->locs; i++)
        if (!strcmp(p->loc_name[i], s)) {
            *loc = (int8_t)i;
            return true;
        }
    return false;
}

/* "r0=1", "r0!=1" */
static bool parse_test(const char *s, struct test *t)
{
    char name[3] = {s[0], s[0] ? s[1] : 0, 0};
    const char *rest = s + strlen(name);

    t->equal = rest[0] == '=';
    if (!parse_reg(name, &t->reg) || (!t->equal && strncmp(rest, "!=", 2)))
        return false;
    return parse_number(rest + (t->equal ? 1 : 2), &t->value);
}

static const struct form {
    const char *name, *operands; /* R register, L location, V value, E expected, T test */
    enum op op;
    enum fence fence;
} forms[] = {
    {"load", "RL", OP_LOAD, 0},
    {"store", "LV", OP_STORE, 0},
    {"xchg", "RLV", OP_XCHG, 0},
    {"add", "RLV", OP_ADD, 0},
    {"or", "RLV", OP_OR, 0},
    {"and", "RLV", OP_AND, 0},
    {"cas", "RLEV", OP_CAS, 0},
    {"require", "T", OP_REQUIRE, 0},
    {"load_load", "", OP_FENCE, LOAD_LOAD},
    {"store_store", "", OP_FENCE, STORE_STORE},
    {"load_store", "", OP_FENCE, LOAD_STORE},
    {"store_load", "", OP_FENCE, STORE_LOAD},
};

/* "store.rel" and its kind. */
static const struct form *parse_mnemonic(char *word, struct instr *in)
{
    char *dot = strchr(word, '.');

    if (dot) {
        *dot++ = 0;
        in->acquire = !strcmp(dot, "acq") || !strcmp(dot, "acqrel");
        in->release = !strcmp(dot, "rel") || !strcmp(dot, "acqrel");
        if (!in->acquire && !in->release)
            return NULL;
    }
    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (!strcmp(forms[i].name, word)) {
            in->op = forms[i].op;
            in->fence = forms[i].fence;
            if (!is_memory(in) && dot)
                return NULL;
            if ((in->op == OP_LOAD && in->release) || (in->op == OP_STORE && in->acquire))
                return NULL;
            return &forms[i];
        }
    return NULL;
}

static bool parse_field(const struct program *p, char kind, const char *word, struct instr *in)
{
    switch (kind) {
    case 'R': return parse_reg(word, &in->reg);
    case 'L': return parse_loc(p, word, &in->loc);
    case 'V': return parse_operand(word, &in->value);
    case 'E': return parse_operand(word, &in->expected);
    default: return parse_test(word, &in->test);
    }
}

bool parse_instr(struct program *p, const char *text, struct instr *in)
{
    struct words words;
    const struct form *form;
    unsigned i = 0;

    *in = (struct instr){.reg = -1,
                         .loc = -1,
                         .addr_reg = -1,
                         .data_reg = -1,
                         .value.reg = -1,
                         .expected.reg = -1,
                         .test.reg = -1};
    if (!split(text, &words) || !words.n)
        return false;
    if (!strcmp(words.w[0], "if")) {
        in->guarded = true;
        if (words.n < 3 || !parse_test(words.w[1], &in->test))
            return false;
        i = 2;
    }
    form = parse_mnemonic(words.w[i++], in);
    if (!form || (in->op == OP_REQUIRE && in->guarded))
        return false;
    for (const char *kind = form->operands; *kind; kind++)
        if (i == words.n || !parse_field(p, *kind, words.w[i++], in))
            return false;
    for (; i < words.n; i++)
        if (!(!strncmp(words.w[i], "addr:", 5) && parse_reg(words.w[i] + 5, &in->addr_reg)) &&
            !(!strncmp(words.w[i], "data:", 5) && parse_reg(words.w[i] + 5, &in->data_reg)))
            return false;
    return true;
}

/* "init x=0 y=1" */
static bool parse_init(struct program *p, const struct words *words)
{
    for (unsigned i = 1; i < words->n; i++) {
        const char *eq = strchr(words->w[i], '=');

        if (!eq || p->locs == MAX_LOCS || !parse_number(eq + 1, &p->init[p->locs]))
            return false;
        snprintf(p->loc_name[p->locs++], NAME_LEN, "%.*s", (int)(eq - words->w[i]), words->w[i]);
    }
    return p->locs;
}

/* "0:r1=2" or "x=1" */
static bool parse_term(struct program *p, const char *word, struct term *t)
{
    const char *eq = strchr(word, '='), *name = word;
    char lhs[NAME_LEN];
    int8_t index;

    if (!eq || !parse_number(eq + 1, &t->value))
        return false;
    t->thread = -1;
    if (word[1] == ':') {
        t->thread = (int8_t)(word[0] - '0');
        if (t->thread < 0 || (unsigned)t->thread >= p->threads)
            return false;
        name = word + 2;
    }
    snprintf(lhs, sizeof(lhs), "%.*s", (int)(eq - name), name);
    if (!(t->thread < 0 ? parse_loc(p, lhs, &index) : parse_reg(lhs, &index)))
        return false;
    t->index = (uint8_t)index;
    return true;
}

static bool parse_exists(struct program *p, const char *text)
{
    bool first = true;

    while (*(text += strspn(text, " \t"))) {
        size_t len = strcspn(text, " \t");
        char word[NAME_LEN];

        if (len >= NAME_LEN)
            return false;
        snprintf(word, sizeof(word), "%.*s", (int)len, text);
        text += len;
        if (!strcmp(word, "|")) {
            first = true;
            continue;
        }
        if (p->terms == MAX_TERMS || !parse_term(p, word, &p->term[p->terms]))
            return false;
        p->term[p->terms++].first = first;
        first = false;
    }
    return p->terms;
}

/* A line with its holes filled; false: a hole without a filling. */
static bool fill(const char *line, const struct filling *f, char *out, size_t room)
{
    size_t n = 0;

    while (*line && n + NAME_LEN < room) {
        size_t len;
        unsigned i;

        if (*line != '?') {
            out[n++] = *line++;
            continue;
        }
        len = strspn(++line, "abcdefghijklmnopqrstuvwxyz");
        for (i = 0; i < f->holes; i++)
            if (strlen(f->hole[i]) == len && !strncmp(f->hole[i], line, len))
                break;
        if (i == f->holes)
            return false;
        n += (size_t)snprintf(out + n, room - n, "%s", strcmp(f->text[i], "-") ? f->text[i] : "");
        line += len;
    }
    out[n] = 0;
    return !*line;
}

/* Columns of instructions. */
static bool parse_row(struct program *p, char *line)
{
    unsigned t = 0;

    for (char *cell = line, *next; cell; cell = next, t++) {
        next = strchr(cell, '|');
        if (next)
            *next++ = 0;
        if (t == MAX_THREADS)
            return false;
        if (t >= p->threads)
            p->threads = t + 1;
        if (!cell[strspn(cell, " \t")])
            continue;
        if (p->count[t] == MAX_INSTRS || !parse_instr(p, cell, &p->code[t][p->count[t]]))
            return false;
        p->count[t]++;
    }
    return true;
}

static bool parse_line(struct program *p, char *line)
{
    struct words words;

    if (!strncmp(line, "exists ", 7))
        return parse_exists(p, line + 7);
    if (!strncmp(line, "init ", 5))
        return split(line, &words) && parse_init(p, &words);
    return parse_row(p, line);
}

bool program_parse(const char *text, const struct filling *f, struct program *out, const char **why)
{
    static char message[LINE_LEN + 40];

    *out = (struct program){0};
    while (*text) {
        size_t len = strcspn(text, "\n");
        char line[LINE_LEN], filled[LINE_LEN];

        snprintf(line, sizeof(line), "%.*s", (int)len, text);
        text += len + (text[len] == '\n');
        if (!line[0] || line[0] == '#' || !strncmp(line, "with ", 5) ||
            !strncmp(line, "source ", 7))
            continue;
        if (len >= sizeof(line) || !fill(line, f, filled, sizeof(filled)) ||
            !parse_line(out, filled)) {
            snprintf(message, sizeof(message), "cannot read: %s", line);
            *why = message;
            return false;
        }
    }
    *why = "no exists";
    return out->terms;
}

static bool parse_with(const char *line, const char *const *names, unsigned n, struct filling *f,
                       unsigned *models)
{
    struct words words;
    unsigned i = 1;

    *f = (struct filling){0};
    *models = 0;
    if (!split(line, &words))
        return false;
    for (; i < words.n && strcmp(words.w[i], ":"); i++) {
        char *eq = strchr(words.w[i], '=');

        if (!eq || f->holes == 6)
            return false;
        snprintf(f->hole[f->holes], NAME_LEN, "%.*s", (int)(eq - words.w[i]), words.w[i]);
        snprintf(f->text[f->holes++], NAME_LEN, "%s", eq + 1);
    }
    if (i + 1 >= words.n)
        return false;
    while (++i < words.n) {
        unsigned m = 0;

        while (m < n && strcmp(names[m], words.w[i]))
            m++;
        if (m == n && strcmp(words.w[i], "none"))
            return false;
        *models |= m < n ? 1u << m : 0;
    }
    return true;
}

bool next_filling(const char **at, const char *const *names, unsigned n, struct filling *f,
                  unsigned *models, const char **why)
{
    static char line[LINE_LEN];

    *why = NULL;
    while (**at) {
        size_t len = strcspn(*at, "\n");
        const char *from = *at;

        *at += len + (from[len] == '\n');
        if (strncmp(from, "with ", 5) && !(len == 4 && !strncmp(from, "with", 4)))
            continue;
        snprintf(line, sizeof(line), "%.*s", (int)len, from);
        if (len < sizeof(line) && parse_with(line, names, n, f, models))
            return true;
        *why = line;
        return false;
    }
    return false;
}
