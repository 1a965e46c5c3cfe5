/*
 * cpio_fuzz.c - any bytes as an initramfs: every entry that is reported lies inside the image and has
 * a harmless name, and a refusal says where.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cpio.h"

struct image {
    const uint8_t *start;
    size_t size;
    unsigned entries, stop_at;
};

static int visit(void *ctx, const struct cpio_entry *e)
{
    struct image *image = ctx;
    const uint8_t *name = (const uint8_t *)e->name;
    size_t room = image->size - (size_t)(name - image->start);
    const char *end;

    if (name < image->start || name >= image->start + image->size)
        abort();
    end = memchr(name, 0, room < CPIO_NAME_MAX ? room : CPIO_NAME_MAX);
    if (!end || e->name[0] == '/')
        abort();
    for (const char *part = e->name; *part; part += strcspn(part, "/"), part += *part == '/')
        if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2]))
            abort();
    if (e->size && (e->data < image->start || e->data > image->start + image->size ||
                    e->size > (size_t)(image->start + image->size - e->data)))
        abort();
    image->entries++;
    return image->entries == image->stop_at ? 77 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image = {data, size, 0, 0};
    struct cpio_fault fault = {~(size_t)0, NULL};
    int result = cpio_read(data, size, visit, &image, &fault),
        checked = cpio_read(data, size, NULL, NULL, &fault);

    if (result != checked)
        abort(); /* looking and doing agree */
    if (result && (!fault.what || fault.offset > size))
        abort();
    if (!result && image.entries) {
        image.stop_at = 1 + size % image.entries;
        image.entries = 0;
        if (cpio_read(data, size, visit, &image, &fault) != 77 || image.entries != image.stop_at)
            abort(); /* the visitor's answer ends the walk */
    }
    return 0;
}
