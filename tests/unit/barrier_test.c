/*
 * barrier_test.c - quire/barrier.h: what compilers make of it, and what this machine does with it.
 *
 * The functions of tests/litmus/barrier_sample.c are compiled by each compiler at each level for
 * each machine, disassembled, and their accesses to memory read off: they must stand as in the
 * source.  Compiled without the barrier they must not: else the test proves nothing.
 */
#include <quire_test.h>

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#include <quire/barrier.h>

/* ---- Machine code ---- */

struct target {
    const char *compiler, *flags, *objdump;
    bool arm; /* how accesses are written; else x86-64 */
};
static const struct target targets[] = {
    {"gcc", "-O2", "objdump", false},
    {"gcc", "-O3", "objdump", false},
    {"clang", "-O2", "objdump", false},
    {"clang", "-O3", "objdump", false},
    {"clang", "-O2 --target=aarch64-linux-gnu", "llvm-objdump", true},
    {"clang", "-O3 --target=aarch64-linux-gnu", "llvm-objdump", true},
};

static const struct {
    const char *function, *accesses;
} samples[] = {
    {"sample_dead_store", "S0 S4 S0 "},  {"sample_merged_stores", "S0 S4 "},
    {"sample_load_twice", "L0 L0 "},     {"sample_load_across_store", "L0 S4 L0 "},
    {"sample_forwarded", "S4 L4 "},      {"sample_inlined", "L4 L4 S0 S0 "},
    {"sample_across_call", "S0 S0 L4 "},
};

static char folder[] = "/tmp/quire-barrier-XXXXXX";
static char listing[1 << 16];

static bool on_path(const char *program)
{
    char command[100];

    snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

/* The disassembly of the samples into listing; false if this compiler cannot. */
static bool disassemble(const char *compiler, const char *flags, const char *objdump)
{
    const char *root = getenv("QUIRE_TEST_ROOT");
    char command[1000];
    FILE *f;
    size_t n;

    snprintf(
        command, sizeof(command),
        "%s -std=gnu11 %s -fno-asynchronous-unwind-tables -I%s/include -c "
        "%s/tests/litmus/barrier_sample.c -o %s/o 2>%s/errors && %s -d --no-show-raw-insn %s/o",
        compiler, flags, root ? root : ".", root ? root : ".", folder, folder, objdump, folder);
    f = popen(command, "r");
    assert_non_null(f);
    n = fread(listing, 1, sizeof(listing) - 1, f);
    listing[n] = 0;
    return pclose(f) == 0 && n;
}

/* The lines of a function: from the one after its label to the next empty one. */
static const char *body(const char *function, const char **end)
{
    char label[100];
    const char *from;

    snprintf(label, sizeof(label), "<%s>:\n", function);
    from = strstr(listing, label);
    assert_non_null(from);
    from += strlen(label);
    *end = strstr(from, "\n\n");
    if (!*end)
        *end = from + strlen(from);
    return from;
}

/* "movl $0x1,0x4(%rdi)" -> "S4 ": what stands last is written to. */
static void x86_access(const char *text, char *out)
{
    const char *paren = strstr(text, "(%r"), *disp = paren;
    bool store;

    if (!paren || strstr(text, "nop") || !strncmp(text, "lea", 3) || strstr(text, "(%rsp"))
        return;
    while (disp > text && !strchr(" ,\t", disp[-1]))
        disp--;
    store = !strchr(strchr(paren, ')'), ',');
    sprintf(out + strlen(out), "%c%ld ", store ? 'S' : 'L', strtol(disp, NULL, 16));
}

/* "str w8, [x0, #4]" -> "S4 " */
static void arm_access(const char *text, char *out)
{
    const char *bracket = strstr(text, "[x"), *disp;

    if (!bracket)
        return;
    disp = strchr(bracket, '#');
    sprintf(out + strlen(out), "%c%ld ", text[0] == 's' ? 'S' : 'L',
            disp ? strtol(disp + 1, NULL, 0) : 0);
}

static void accesses(const char *function, bool arm, char *out)
{
    const char *end, *line = body(function, &end);
    char text[200];

    for (out[0] = 0; line < end; line += strcspn(line, "\n") + 1) {
        const char *from = strchr(line, ':');

        if (!from || from > end)
            break;
        from += 1 + strspn(from + 1, " \t");
        snprintf(text, sizeof(text), "%.*s", (int)strcspn(from, "\n#"), from);
        if (arm)
            snprintf(text, sizeof(text), "%.*s", (int)strcspn(from, "\n"), from);
        (arm ? arm_access : x86_access)(text, out);
        assert_true(strlen(out) < 100);
    }
}

static void check_target(const struct target *t)
{
    char seen[200], flags[200];

    for (int without = 0; without < 2; without++) {
        snprintf(flags, sizeof(flags), "%s %s", t->flags, without ? "-DWITHOUT" : "");
        assert_true(disassemble(t->compiler, flags, t->objdump));
        for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
            accesses(samples[i].function, t->arm, seen);
            if (without == !strcmp(seen, samples[i].accesses))
                fail_msg("%s %s: %s: accesses %s, in the source %s", t->compiler, flags,
                         samples[i].function, seen, samples[i].accesses);
        }
    }
}

/* proves: LX-58 */
static void compiler_keeps_accesses_in_order(void **state)
{
    unsigned checked = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        const struct target *t = &targets[i];

        if (!on_path(t->compiler) || !on_path(t->objdump) ||
            !disassemble(t->compiler, t->flags, t->objdump)) {
            printf("# skipped: %s %s\n", t->compiler, t->flags);
            continue;
        }
        check_target(t);
        checked++;
    }
    printf("# %u of %zu compilers and levels checked\n", checked,
           sizeof(targets) / sizeof(targets[0]));
    assert_true(checked >= 2); /* the compiler that built this test is there */
}

/* The table in the header, from the manuals; NULL: no instruction, only the compiler. */
static const struct {
    const char *target;
    const char *instruction[4]; /* of load_load, store_store, load_store, store_load */
} machines[] = {
    {"x86_64-linux-gnu", {NULL, NULL, NULL, "mfence"}},
    {"aarch64-linux-gnu", {"dmb\tishld", "dmb\tishst", "dmb\tishld", "dmb\tish\n"}},
    {"riscv64-linux-gnu", {"fence\tr, r", "fence\tw, w", "fence\tr, w", "fence\trw, rw"}},
    {"powerpc64le-linux-gnu", {"lwsync", "lwsync", "lwsync", "sync"}},
};

static void check_machine(size_t m)
{
    static const char *const functions[] = {"sample_load_load", "sample_store_store",
                                            "sample_load_store", "sample_store_load"};
    char text[4000];

    for (int i = 0; i < 4; i++) {
        const char *want = machines[m].instruction[i], *end, *from = body(functions[i], &end);

        snprintf(text, sizeof(text), "%.*s\n", (int)(end - from), from);
        if (want ? !strstr(text, want) : strstr(text, "fence") || strstr(text, "lock"))
            fail_msg("%s: %s is not %s but\n%s", machines[m].target, functions[i],
                     want ? want : "empty", text);
    }
}

static void barriers_are_the_instructions_of_the_table(void **state)
{
    unsigned checked = 0;
    char flags[100];

    (void)state;
    if (!on_path("clang") || !on_path("llvm-objdump"))
        skip();
    for (size_t m = 0; m < sizeof(machines) / sizeof(machines[0]); m++) {
        snprintf(flags, sizeof(flags), "-O2 --target=%s", machines[m].target);
        if (!disassemble("clang", flags, "llvm-objdump")) {
            printf("# skipped: %s\n", machines[m].target);
            continue;
        }
        check_machine(m);
        checked++;
    }
    assert_true(checked >= 1);
}

/* ---- This machine ---- */

enum shape { SB, MP, LB };
enum barrier { NONE, LOAD_LOAD, STORE_STORE, LOAD_STORE, STORE_LOAD };

#define CELLS  4096
#define ROUNDS 24
#define STEP   8

/* Each location on a cache line of its own, each cell used once a round: no reset races. */
static struct {
    _Alignas(64) int x;
    _Alignas(64) int y;
    _Alignas(64) int r[2];
} cells[CELLS];

/* Cells that each side has come to: they keep in step, else they would never meet. */
static _Alignas(128) size_t reached[2][16];

static struct job {
    enum shape shape;
    enum barrier barrier[2];
} job;

static inline __attribute__((always_inline)) void between(enum barrier b)
{
    switch (b) {
    case NONE: quire_barrier_compiler(); break;
    case LOAD_LOAD: quire_barrier_load_load(); break;
    case STORE_STORE: quire_barrier_store_store(); break;
    case LOAD_STORE: quire_barrier_load_store(); break;
    case STORE_LOAD: quire_barrier_store_load(); break;
    }
}

static inline int get(int *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void set(int *p) { __atomic_store_n(p, 1, __ATOMIC_RELAXED); }

/* One thread's side of cell i; side 1 has the locations swapped. */
static void side(size_t i, int me)
{
    int *mine = me ? &cells[i].y : &cells[i].x, *other = me ? &cells[i].x : &cells[i].y;

    switch (job.shape) {
    case SB:
        set(mine);
        between(job.barrier[me]);
        cells[i].r[me] = get(other);
        break;
    case LB:
        cells[i].r[me] = get(mine);
        between(job.barrier[me]);
        set(other);
        break;
    case MP:
        if (me == 0) {
            set(&cells[i].x);
            between(job.barrier[0]);
            set(&cells[i].y);
        } else {
            cells[i].r[0] = get(&cells[i].y);
            between(job.barrier[1]);
            cells[i].r[1] = get(&cells[i].x);
        }
        break;
    }
}

static void all_cells(int me)
{
    for (size_t i = 0; i < CELLS; i++) {
        if (i % STEP == 0) {
            __atomic_store_n(&reached[me][0], i + 1, __ATOMIC_RELEASE);
            for (unsigned n = 0; __atomic_load_n(&reached[!me][0], __ATOMIC_ACQUIRE) <= i; n++)
                if (n > 1000)
                    sched_yield(); /* the other waits for a CPU */
        }
        side(i, me);
    }
}

static void *other_side(void *arg)
{
    (void)arg;
    all_cells(1);
    return NULL;
}

static bool odd(size_t i)
{
    switch (job.shape) {
    case SB: return cells[i].r[0] == 0 && cells[i].r[1] == 0;
    case LB: return cells[i].r[0] == 1 && cells[i].r[1] == 1;
    case MP: return cells[i].r[0] == 1 && cells[i].r[1] == 0;
    }
    return false;
}

/* How often the outcome that is not sequentially consistent was seen. */
static unsigned observe(enum shape shape, enum barrier b0, enum barrier b1)
{
    unsigned seen = 0;
    pthread_t other;

    job = (struct job){.shape = shape, .barrier = {b0, b1}};
    for (int round = 0; round < ROUNDS; round++) {
        memset(cells, 0, sizeof(cells));
        reached[0][0] = reached[1][0] = 0;
        assert_int_equal(pthread_create(&other, NULL, other_side, NULL), 0);
        all_cells(0);
        pthread_join(other, NULL);
        for (size_t i = 0; i < CELLS; i++)
            seen += odd(i);
    }
    return seen;
}

/* proves: LX-59 */
static void this_machine_never_shows_what_is_forbidden(void **state)
{
    static const char *const names[] = {"none", "load_load", "store_store", "load_store",
                                        "store_load"};
    unsigned total = ROUNDS * CELLS;

    (void)state;
    assert_int_equal(observe(SB, STORE_LOAD, STORE_LOAD), 0);
    assert_int_equal(observe(MP, STORE_STORE, LOAD_LOAD), 0);
    assert_int_equal(observe(LB, LOAD_STORE, LOAD_STORE), 0);
    assert_int_equal(observe(MP, STORE_LOAD, STORE_LOAD), 0);
    /* allowed, hence only told */
    for (enum barrier b = NONE; b < STORE_LOAD; b++)
        printf("# SB with %s: both loads stale in %u of %u\n", names[b], observe(SB, b, b), total);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char path[100];

    (void)state;
    snprintf(path, sizeof(path), "%s/o", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/errors", folder);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiler_keeps_accesses_in_order),
        cmocka_unit_test(barriers_are_the_instructions_of_the_table),
        cmocka_unit_test(this_machine_never_shows_what_is_forbidden),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
