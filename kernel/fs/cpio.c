/*
 * fs/cpio.c - see cpio.h.
 *
 * The header is 110 characters: a magic and 13 numbers of eight hexadecimal digits.  Name and
 * content follow, each padded to a multiple of four from the start of the image.  Every length is
 * checked against what is left before it is used; sums are made in size_t from 32-bit parts, so
 * they cannot wrap.
 */
#include "cpio.h"

#define HEADER_SIZE 110
#define FIELDS      13

enum field {
    F_INO,
    F_MODE,
    F_UID,
    F_GID,
    F_NLINK,
    F_MTIME,
    F_SIZE,
    F_DEV_MAJOR,
    F_DEV_MINOR,
    F_RDEV_MAJOR,
    F_RDEV_MINOR,
    F_NAME_SIZE,
    F_CHECK
};

struct reader {
    const u8 *p;
    size_t n, at;
    struct cpio_fault *fault;
};

static int bad(struct reader *r, size_t offset, const char *what)
{
    if (r->fault) {
        r->fault->offset = offset;
        r->fault->what = what;
    }
    return -EINVAL;
}

static int hex_digit(u8 c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static int read_fields(struct reader *r, u32 f[FIELDS])
{
    for (unsigned i = 0; i < FIELDS; i++) {
        u32 v = 0;

        for (unsigned k = 0; k < 8; k++) {
            size_t at = r->at + 6 + i * 8 + k;
            int d = hex_digit(r->p[at]);

            if (d < 0)
                return bad(r, at, "not a hexadecimal digit");
            v = v << 4 | (u32)d;
        }
        f[i] = v;
    }
    return 0;
}

/* What other images begin with, so that the message can say why this one is refused. */
static const char *foreign_magic(const u8 *p, size_t n)
{
    if (n >= 2 && p[0] == 0x1f && p[1] == 0x8b)
        return "gzip-compressed images are not supported: unpack it first";
    if (n >= 4 && !memcmp(p, "\x28\xb5\x2f\xfd", 4))
        return "zstd-compressed images are not supported: unpack it first";
    if (n >= 6 && !memcmp(p,
                          "\xfd"
                          "7zXZ",
                          5))
        return "xz-compressed images are not supported: unpack it first";
    if (n >= 6 && !memcmp(p, "070707", 6))
        return "the old cpio format is not supported: use newc";
    return "no newc header (070701) here";
}

/* The name is plain text, relative, and never climbs.  Zeros may follow up to its size: packers move
 * the content to a page boundary with them, and Linux's reader passes over them too. */
static int check_name(struct reader *r, size_t at, u32 size)
{
    const char *name = (const char *)r->p + at;
    size_t len = strnlen(name, size);

    if (len == size)
        return bad(r, at + len - 1, "name without its 0");
    for (size_t i = len; i < size; i++)
        if (name[i])
            return bad(r, at + len, "0 inside a name");
    for (size_t i = 0; i < len;) {
        size_t end = i;

        while (end < len && name[end] != '/')
            end++;
        if (end - i == 2 && name[i] == '.' && name[i + 1] == '.')
            return bad(r, at + i, "name with a .. part");
        if (end - i > 255)
            return bad(r, at + i, "part of a name above 255 characters");
        i = end + 1;
    }
    return 0;
}

static u32 sum_of(const u8 *p, u32 n)
{
    u32 sum = 0;

    for (u32 i = 0; i < n; i++)
        sum += p[i];
    return sum;
}

/* One entry at r->at, which moves past it.  1: it was the trailer. */
static int read_entry(struct reader *r, struct cpio_entry *e)
{
    size_t start = r->at, name_at = start + HEADER_SIZE, data_at;
    const u8 *h = r->p + start;
    u32 f[FIELDS];
    int err;

    if (r->n - start < 6 || (memcmp(h, "070701", 6) && memcmp(h, "070702", 6)))
        return bad(r, start, foreign_magic(h, r->n - start));
    if (r->n - start < HEADER_SIZE)
        return bad(r, r->n, "image ends inside a header");
    err = read_fields(r, f);
    if (err)
        return err;
    if (f[F_NAME_SIZE] < 2 || f[F_NAME_SIZE] > CPIO_NAME_MAX)
        return bad(r, start + 6 + F_NAME_SIZE * 8, "length of a name out of range");
    if (r->n - name_at < f[F_NAME_SIZE])
        return bad(r, r->n, "image ends inside a name");
    err = check_name(r, name_at, f[F_NAME_SIZE]);
    if (err)
        return err;
    data_at = K_UP(name_at + f[F_NAME_SIZE], 4);
    if (f[F_SIZE] && (data_at > r->n || r->n - data_at < f[F_SIZE]))
        return bad(r, r->n, "image ends inside the content of a file");
    data_at = K_MIN(data_at, r->n); /* the last name may lack its padding */
    if (h[5] == '2' && sum_of(r->p + data_at, f[F_SIZE]) != f[F_CHECK])
        return bad(r, data_at, "content does not match its checksum");

    e->name = (const char *)r->p + name_at;
    e->ino = f[F_INO];
    e->mode = f[F_MODE];
    e->uid = f[F_UID];
    e->gid = f[F_GID];
    e->nlink = f[F_NLINK];
    e->mtime = f[F_MTIME];
    e->size = f[F_SIZE];
    e->dev_major = f[F_DEV_MAJOR];
    e->dev_minor = f[F_DEV_MINOR];
    e->rdev_major = f[F_RDEV_MAJOR];
    e->rdev_minor = f[F_RDEV_MINOR];
    e->data = r->p + data_at;
    r->at = K_MIN(K_UP(data_at + f[F_SIZE], 4), r->n);
    if (!strcmp(e->name, "TRAILER!!!"))
        return 1;
    while (*e->name == '/')
        e->name++;
    return 0;
}

/* Kinds that a file system has, each with only what it can have. */
static int check_kind(struct reader *r, size_t start, const struct cpio_entry *e)
{
    u32 kind = e->mode & 0170000;

    switch (kind) {
    case 0100000: return 0;
    case 0120000:
        if (!e->size || e->size >= CPIO_NAME_MAX)
            return bad(r, start, "length of a symbolic link out of range");
        if (strnlen((const char *)e->data, e->size) != e->size)
            return bad(r, start, "0 inside a symbolic link");
        return 0;
    case 0040000:
    case 0020000:
    case 0060000:
    case 0010000:
    case 0140000: return e->size ? bad(r, start, "content on what is not a file") : 0;
    default: return bad(r, start, "unknown kind of file");
    }
}

int cpio_read(const void *p, size_t n, int (*fn)(void *ctx, const struct cpio_entry *), void *ctx,
              struct cpio_fault *fault)
{
    struct reader r = {.p = p, .n = n, .fault = fault};
    struct cpio_entry e = {.archive = 0};
    bool inside = false;

    while (r.at < n) {
        size_t start = r.at;
        int err;

        if (!inside && !r.p[r.at]) {
            r.at++;
            continue;
        }
        err = read_entry(&r, &e);
        if (err < 0)
            return err;
        inside = !err;
        if (err) {
            e.archive++;
            continue;
        }
        err = check_kind(&r, start, &e);
        if (!err && fn)
            err = fn(ctx, &e);
        if (err)
            return err;
    }
    return inside ? bad(&r, n, "image ends without its trailer") : 0;
}
