/*
 * elf_test.c - the ELF reader: true files of the host, and each way in which a file can lie.
 */
#include <quire_test.h>

#include "proc/elf.h"

#define SIZE 8192u

/* A small static program: headers, one text and one data segment with bss. */
static uint8_t file[SIZE];

static void put(size_t at, unsigned bytes, uint64_t v)
{
    for (unsigned i = 0; i < bytes; i++)
        file[at + i] = (uint8_t)(v >> 8 * i);
}

static void phdr(unsigned i, unsigned type, unsigned flags, uint64_t off, uint64_t va,
                 uint64_t filesz, uint64_t memsz, uint64_t align)
{
    size_t at = 64 + 56u * i;

    put(at, 4, type);
    put(at + 4, 4, flags);
    put(at + 8, 8, off);
    put(at + 16, 8, va);
    put(at + 24, 8, va);
    put(at + 32, 8, filesz);
    put(at + 40, 8, memsz);
    put(at + 48, 8, align);
}

static void build(unsigned type, unsigned phnum)
{
    memset(file, 0, sizeof(file));
    memcpy(file, "\177ELF\2\1\1", 7);
    put(16, 2, type);
    put(18, 2, 62);
    put(24, 8, 0x401000);
    put(32, 8, 64);
    put(54, 2, 56);
    put(56, 2, phnum);
    phdr(0, 1, 5, 0, 0x400000, 0x1800, 0x1800, 4096);
    phdr(1, 1, 6, 0x1800, 0x402800, 0x100, 0x3000, 4096);
}

static int read_all(struct elf_plan *plan)
{
    int err = elf_read_header(file, SIZE, SIZE, plan);

    return err ? err : elf_read_phdrs(file + plan->phoff, SIZE, plan);
}

/* proves: VM-06 VM-09 */
static void plan_of_a_program(void **state)
{
    struct elf_plan plan;
    struct elf_segment s;

    (void)state;
    build(2, 3);
    phdr(2, 0x6474e551, 6, 0, 0, 0, 0, 16);
    assert_int_equal(read_all(&plan), 0);
    assert_false(plan.dyn);
    assert_int_equal(plan.entry, 0x401000);
    assert_int_equal(plan.low, 0x400000);
    assert_int_equal(plan.end, 0x405800);
    assert_int_equal(plan.high, 0x406000);
    assert_int_equal(plan.phdr_vaddr, 0x400040);
    assert_false(plan.exec_stack);
    assert_true(elf_segment(&plan, 1, &s));
    assert_int_equal(s.memsz - s.filesz, 0x2f00);
    assert_int_equal(s.flags, ELF_R | ELF_W);
    assert_false(elf_segment(&plan, 2, &s));
}

struct lie {
    const char *what;
    size_t at;
    unsigned bytes;
    uint64_t value;
    int err;
};

static void lies_are_refused(void **state)
{
    static const struct lie lies[] = {
        {"no magic", 0, 1, 0x7e, -ENOEXEC},
        {"32-bit class", 4, 1, 1, -ENOEXEC},
        {"big endian", 5, 1, 2, -ENOEXEC},
        {"object file", 16, 2, 1, -ENOEXEC},
        {"another machine", 18, 2, 183, -ENOEXEC},
        {"other size of program headers", 54, 2, 32, -ENOEXEC},
        {"no program headers", 56, 2, 0, -ENOEXEC},
        {"more than 64 KiB of headers", 56, 2, 1171, -ENOEXEC},
        {"headers beyond the file", 32, 8, SIZE - 50, -ENOEXEC},
        {"headers that wrap", 32, 8, ~0ull - 10, -ENOEXEC},
        {"entry in the kernel", 24, 8, 0xffffffff80000000, -EINVAL},
        {"memory smaller than file", 64 + 40, 8, 0x100, -EINVAL},
        {"offset not congruent", 64 + 8, 8, 0x10, -EINVAL},
        {"address in the kernel", 64 + 16, 8, 0xffff800000000000, -EINVAL},
        {"size that wraps", 64 + 40, 8, ~0ull - 0x1000, -EINVAL},
        {"null page", 64 + 16, 8, 0, -EINVAL},
        {"bytes beyond the file", 64 + 56 + 8, 8, 0x5800, -ENOEXEC},
        {"bytes that wrap", 64 + 56 + 8, 8, 0xfffffffffffff800, -ENOEXEC},
        {"no segment", 64, 4, 0, 0}, /* one remains */
    };
    struct elf_plan plan;

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        build(2, 2);
        put(lies[i].at, lies[i].bytes, lies[i].value);
        if (read_all(&plan) != lies[i].err)
            fail_msg("%s: %d, expected %d", lies[i].what, read_all(&plan), lies[i].err);
    }
}

static void overlap_in_any_order(void **state)
{
    struct elf_plan plan;

    (void)state;
    build(2, 2);
    phdr(1, 1, 6, 0x1000, 0x401000, 0x100, 0x100, 4096);
    assert_int_equal(read_all(&plan), -EINVAL);
    /* falling order without overlap is unusual, but has always run */
    phdr(1, 1, 6, 0x1000, 0x300000, 0x100, 0x100, 4096);
    assert_int_equal(read_all(&plan), 0);
    assert_int_equal(plan.low, 0x300000);
    /* sharing a page is what linkers do */
    phdr(1, 1, 6, 0x1800, 0x401800, 0x100, 0x100, 4096);
    assert_int_equal(read_all(&plan), 0);
}

static void interpreter_must_be_in_the_file(void **state)
{
    struct elf_plan plan;

    (void)state;
    build(3, 3);
    phdr(2, 3, 4, 0x200, 0, 28, 28, 1);
    assert_int_equal(read_all(&plan), 0);
    assert_true(plan.dyn && plan.has_interp && plan.interp_len == 28);
    phdr(2, 3, 4, 0x200, 0, 1, 1, 1);
    assert_int_equal(read_all(&plan), -ENOEXEC);
    phdr(2, 3, 4, 0x200, 0, 4097, 4097, 1);
    assert_int_equal(read_all(&plan), -ENOEXEC);
    phdr(2, 3, 4, SIZE - 4, 0, 28, 28, 1);
    assert_int_equal(read_all(&plan), -ENOEXEC);
}

static void check_plan(const struct elf_plan *plan, uint64_t size)
{
    struct elf_segment a, b;

    assert_true(plan->low < plan->high && plan->high <= USER_END && plan->end <= plan->high);
    for (unsigned i = 0; i < plan->phnum; i++) {
        if (!elf_segment(plan, i, &a))
            continue;
        assert_true(a.filesz <= a.memsz && a.vaddr >= plan->low && a.vaddr + a.memsz <= plan->high);
        assert_true(a.filesz == 0 || (a.offset <= size && a.filesz <= size - a.offset));
        assert_true(a.filesz == 0 || ((a.offset ^ a.vaddr) & 4095) == 0);
        for (unsigned k = i + 1; k < plan->phnum; k++)
            if (elf_segment(plan, k, &b) && a.memsz && b.memsz)
                assert_true(a.vaddr + a.memsz <= b.vaddr || b.vaddr + b.memsz <= a.vaddr);
    }
}

static void damaged_files_give_true_plans_or_none(void **state)
{
    static const uint64_t odd[] = {
        0, 1, 0xfff, 0x1000, 0x7ffffffff000, 0x8000000000000000, ~0ull, ~0xfffull};
    struct elf_plan plan;
    unsigned good = 0;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        build(test_random_below(2) ? 2 : 3, 2);
        for (uint64_t n = 1 + test_random_below(3); n; n--) {
            size_t at = test_random_below(64 + 112 - 8) & ~1ull;

            if (test_random_below(2))
                put(at, 8, odd[test_random_below(8)]);
            else
                file[at] ^= (uint8_t)(1u << test_random_below(8));
        }
        if (read_all(&plan) == 0) {
            check_plan(&plan, SIZE);
            good++;
        }
    }
    assert_true(good > 0);
}

/* proves: VM-06 */
static void files_of_the_host(void **state)
{
    static const char *const names[] = {"/bin/sh", "/bin/ls", "/proc/self/exe",
                                        "/lib64/ld-linux-x86-64.so.2"};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct elf_plan plan;
        static uint8_t image[4 << 20];
        FILE *f = fopen(names[i], "rb");
        size_t n;

        if (!f)
            continue;
        n = fread(image, 1, sizeof(image), f);
        fclose(f);
        assert_int_equal(elf_read_header(image, n, n, &plan), 0);
        assert_int_equal(elf_read_phdrs(image + plan.phoff, n, &plan), 0);
        check_plan(&plan, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_of_a_program),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(overlap_in_any_order),
        cmocka_unit_test(interpreter_must_be_in_the_file),
        cmocka_unit_test(damaged_files_give_true_plans_or_none),
        cmocka_unit_test(files_of_the_host),
    };

    test_seed("elf_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
