/*
 * fs/cpio.h - reading a "newc" cpio image (the format of an initramfs), from bytes to callbacks.
 *
 * Depends on nothing but k.h and keeps nothing: the unit tests and the fuzzer run it on the host.
 */
#ifndef FS_CPIO_H
#define FS_CPIO_H

#include "k.h"

#define CPIO_NAME_MAX 4096

struct cpio_entry {
    const char *name; /* 0-terminated, in the image; not absolute, no ".." part */
    u32 ino, mode, uid, gid, nlink, mtime;
    u32 dev_major, dev_minor, rdev_major, rdev_minor;
    const u8 *data; /* in the image */
    u32 size;
    unsigned archive; /* 0.. counts the archives of the image: ino is unique only within one */
};

struct cpio_fault {
    size_t offset;    /* of the first byte that is wrong */
    const char *what; /* static text */
};

/*
 * Call fn for every entry of the archives in [p, p + n), which may follow one another with zero
 * bytes between.  0; -EINVAL with *fault; or what fn returned when it was not 0.  fn NULL: check only.
 */
int cpio_read(const void *p, size_t n, int (*fn)(void *ctx, const struct cpio_entry *), void *ctx,
              struct cpio_fault *fault);

#endif
