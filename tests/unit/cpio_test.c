/*
 * cpio_test.c - the reader of initramfs images: what it finds in good ones, and the place that it
 * names in damaged ones.
 */
#include "quire_test.h"

#include "fs/cpio.h"

struct image {
    uint8_t *p;
    size_t n, cap;
};

static void append(struct image *im, const void *p, size_t n)
{
    if (im->n + n > im->cap) {
        im->cap = (im->n + n) * 2;
        im->p = realloc(im->p, im->cap);
        assert_non_null(im->p);
    }
    memcpy(im->p + im->n, p, n);
    im->n += n;
}

static void pad(struct image *im)
{
    while (im->n % 4)
        append(im, "", 1);
}

struct spec {
    const char *name, *data;
    uint32_t mode, ino, nlink;
};

static void add(struct image *im, const struct spec *s)
{
    size_t len = s->data ? strlen(s->data) : 0, name_len = strlen(s->name) + 1;
    char head[111];

    snprintf(head, sizeof head, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
             s->ino, s->mode, 1u, 2u, s->nlink, 1000000u, (unsigned)len, 8u, 1u, 5u, 6u,
             (unsigned)name_len, 0u);
    append(im, head, 110);
    append(im, s->name, name_len);
    pad(im);
    append(im, s->data ? s->data : "", len);
    pad(im);
}

static void add_trailer(struct image *im) { add(im, &(struct spec){"TRAILER!!!", NULL, 0, 0, 1}); }

/* What the reader found, as text: one line an entry. */
static char found[4096];

static int note(void *ctx, const struct cpio_entry *e)
{
    size_t n = strlen(found);

    (void)ctx;
    snprintf(found + n, sizeof found - n, "%s %o %u %u %u:%u %u:%u [%.*s] %u\n", e->name, e->mode,
             e->ino, e->nlink, e->uid, e->gid, e->rdev_major, e->rdev_minor, (int)e->size,
             (const char *)e->data, e->archive);
    return 0;
}

static int read_image(const struct image *im, struct cpio_fault *fault)
{
    /* a copy of exactly its size, so that the sanitizer sees every byte beyond */
    uint8_t *copy = malloc(im->n ? im->n : 1);
    int r;

    memcpy(copy, im->p, im->n);
    found[0] = 0;
    r = cpio_read(copy, im->n, note, NULL, fault);
    free(copy);
    return r;
}

/* proves: VM-06 */
static void test_entries(void **state)
{
    struct image im = {0};
    struct cpio_fault fault;

    (void)state;
    add(&im, &(struct spec){"dir", NULL, 0040755, 1, 2});
    add(&im, &(struct spec){"/dir/file", "hello", 0100644, 2, 1});
    add(&im, &(struct spec){"dir/link", "file", 0120777, 3, 1});
    add(&im, &(struct spec){"dir/dev", NULL, 0020600, 4, 1});
    add(&im, &(struct spec){"a", NULL, 0100644, 5, 2});
    add(&im, &(struct spec){"b", "linked", 0100644, 5, 2});
    add_trailer(&im);
    assert_int_equal(read_image(&im, &fault), 0);
    assert_string_equal(found, "dir 40755 1 2 1:2 5:6 [] 0\n"
                               "dir/file 100644 2 1 1:2 5:6 [hello] 0\n"
                               "dir/link 120777 3 1 1:2 5:6 [file] 0\n"
                               "dir/dev 20600 4 1 1:2 5:6 [] 0\n"
                               "a 100644 5 2 1:2 5:6 [] 0\n"
                               "b 100644 5 2 1:2 5:6 [linked] 0\n");
    free(im.p);
}

/* proves: VM-06 */
static void test_concatenated(void **state)
{
    struct image im = {0};
    struct cpio_fault fault;

    (void)state;
    add(&im, &(struct spec){"one", "1", 0100644, 1, 1});
    add_trailer(&im);
    append(&im, "\0\0\0\0\0\0\0\0", 8);
    add(&im, &(struct spec){"two", "22", 0100644, 1, 1});
    add_trailer(&im);
    append(&im, "\0\0\0\0", 4);
    assert_int_equal(read_image(&im, &fault), 0);
    assert_non_null(strstr(found, "one 100644 1 1 1:2 5:6 [1] 0\n"));
    assert_non_null(strstr(found, "two 100644 1 1 1:2 5:6 [22] 1\n"));
    im.n = 0;
    assert_int_equal(read_image(&im, &fault), 0);
    assert_string_equal(found, "");
    free(im.p);
}

static void refuse(const struct spec *s, const char *why)
{
    struct image im = {0};
    struct cpio_fault fault = {0};

    add(&im, &(struct spec){"first", "x", 0100644, 1, 1});
    add(&im, s);
    add_trailer(&im);
    assert_int_equal(read_image(&im, &fault), -EINVAL);
    assert_non_null(strstr(fault.what, why));
    assert_true(fault.offset >= 120 && fault.offset <= im.n);
    free(im.p);
}

/* proves: VM-06 */
static void test_refused_names_and_kinds(void **state)
{
    char deep[600];

    (void)state;
    refuse(&(struct spec){"../etc/passwd", "x", 0100644, 2, 1}, "..");
    refuse(&(struct spec){"a/../../b", "x", 0100644, 2, 1}, "..");
    refuse(&(struct spec){"a/..", "x", 0100644, 2, 1}, "..");
    refuse(&(struct spec){"", "x", 0100644, 2, 1}, "length of a name");
    refuse(&(struct spec){"dir", "x", 0040755, 2, 2}, "not a file");
    refuse(&(struct spec){"link", NULL, 0120777, 2, 1}, "symbolic link");
    refuse(&(struct spec){"odd", "x", 0170644, 2, 1}, "kind");
    memset(deep, 'n', sizeof deep);
    deep[256] = 0;
    refuse(&(struct spec){deep, "x", 0100644, 2, 1}, "255");
}

/* proves: VM-06 */
static void test_every_truncation_is_noticed(void **state)
{
    struct image im = {0}, cut;
    struct cpio_fault fault;

    (void)state;
    add(&im, &(struct spec){"dir", NULL, 0040755, 1, 2});
    add(&im, &(struct spec){"dir/file", "hello, world", 0100644, 2, 1});
    add_trailer(&im);
    for (size_t n = 1; n < im.n - 1; n++) { /* the last bytes are padding of the trailer's name */
        cut = im;
        cut.n = n;
        if (n >= im.n - 3)
            continue;
        fault.offset = ~0ul;
        assert_int_equal(read_image(&cut, &fault), -EINVAL);
        assert_true(fault.offset <= n);
    }
    free(im.p);
}

/* proves: VM-06 */
static void test_damage_is_placed(void **state)
{
    struct image im = {0};
    struct cpio_fault fault;
    size_t second;

    (void)state;
    add(&im, &(struct spec){"first", "x", 0100644, 1, 1});
    second = im.n;
    add(&im, &(struct spec){"second", "y", 0100644, 2, 1});
    add_trailer(&im);
    im.p[second + 20] = 'z';
    assert_int_equal(read_image(&im, &fault), -EINVAL);
    assert_int_equal(fault.offset, second + 20);
    im.p[second + 20] = '0';
    im.p[second] = '9';
    assert_int_equal(read_image(&im, &fault), -EINVAL);
    assert_int_equal(fault.offset, second);
    im.p[second] = '0';
    memset(im.p + second + 6 + 6 * 8, 'F', 8); /* a size of 4 GiB */
    assert_int_equal(read_image(&im, &fault), -EINVAL);
    assert_non_null(strstr(fault.what, "content"));
    free(im.p);
}

/* proves: VM-06 */
static void test_foreign_images(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } cases[] = {{"\x1f\x8b\x08\0\0\0\0\0", 8, "gzip"},
                 {"\x28\xb5\x2f\xfd\0\0\0\0", 8, "zstd"},
                 {"\xfd"
                  "7zXZ\0\0\0",
                  8, "xz"},
                 {"070707xx", 8, "old cpio"},
                 {"garbage!", 8, "newc"}};
    struct cpio_fault fault;

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        assert_int_equal(cpio_read(cases[k].bytes, cases[k].n, note, NULL, &fault), -EINVAL);
        assert_int_equal(fault.offset, 0);
        assert_non_null(strstr(fault.what, cases[k].what));
    }
}

static int stop(void *ctx, const struct cpio_entry *e)
{
    (void)e;
    return --*(int *)ctx ? 0 : -ENOMEM;
}

/* proves: VM-06 */
static void test_callback_ends_the_walk(void **state)
{
    struct image im = {0};
    int left = 2;

    (void)state;
    for (unsigned k = 0; k < 5; k++)
        add(&im, &(struct spec){"f", "x", 0100644, k, 1});
    add_trailer(&im);
    assert_int_equal(cpio_read(im.p, im.n, stop, &left, NULL), -ENOMEM);
    assert_int_equal(left, 0);
    free(im.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_concatenated),
        cmocka_unit_test(test_refused_names_and_kinds),
        cmocka_unit_test(test_every_truncation_is_noticed),
        cmocka_unit_test(test_damage_is_placed),
        cmocka_unit_test(test_foreign_images),
        cmocka_unit_test(test_callback_ends_the_walk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
