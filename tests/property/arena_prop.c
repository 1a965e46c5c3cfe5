/*
 * arena_prop.c - an arena against a dumb model: the row of its chunks in an array, searched from the front.
 * The address of each piece must be the one that first fit gives, the content what was written.
 */
#include <quire_test.h>

#include <arena/chunk.h>

#define SPAN   (1u << 20)
#define PIECES 4000

/* The model: chunks in order, as offsets; what an arena's headers say. */
struct row {
    uint64_t at, bytes;
    bool out;
};
static struct row rows[SPAN / 64 + 1];
static size_t nrows;

static struct piece {
    uint8_t *p;
    size_t n;
    unsigned seed;
} pieces[PIECES];

static _Alignas(64) uint8_t memory[SPAN];
static struct quire_arena arena;

static void insert_row(size_t i, struct row r)
{
    memmove(rows + i + 1, rows + i, (nrows++ - i) * sizeof *rows);
    rows[i] = r;
}

static void delete_row(size_t i) { memmove(rows + i, rows + i + 1, (--nrows - i) * sizeof *rows); }

static uint64_t bytes_for(size_t n)
{
    uint64_t bytes =
        (n + QI_CHUNK_HEADER + QI_CHUNK_GUARD + QI_CHUNK_UNIT - 1) / QI_CHUNK_UNIT * QI_CHUNK_UNIT;

    return bytes < QI_CHUNK_MIN ? QI_CHUNK_MIN : bytes;
}

static size_t row_of(const void *p)
{
    uint64_t at = (uint64_t)((const uint8_t *)p - memory) - QI_CHUNK_HEADER;
    size_t low = 0, high = nrows;

    while (high - low > 1) {
        size_t middle = (low + high) / 2;

        if (rows[middle].at <= at)
            low = middle;
        else
            high = middle;
    }
    assert_true(rows[low].at == at);
    return low;
}

/* Row i is out with no more than bytes: the rest goes to the row behind, or is one. */
static void model_cut(size_t i, uint64_t bytes)
{
    uint64_t rest = rows[i].bytes - bytes;
    bool next_free = i + 1 < nrows && !rows[i + 1].out;

    if (!rest || (rest < QI_CHUNK_MIN && !next_free))
        return;
    rows[i].bytes = bytes;
    if (next_free) {
        rows[i + 1].at -= rest;
        rows[i + 1].bytes += rest;
    } else {
        insert_row(i + 1, (struct row){rows[i].at + bytes, rest, false});
    }
}

/* Where the first fit is; NULL: nowhere. */
static uint8_t *model_alloc(size_t n)
{
    uint64_t bytes = bytes_for(n);

    for (size_t i = 0; i < nrows; i++)
        if (!rows[i].out && rows[i].bytes >= bytes) {
            rows[i].out = true;
            model_cut(i, bytes);
            return memory + rows[i].at + QI_CHUNK_HEADER;
        }
    return NULL;
}

static void model_free(const void *p)
{
    size_t i = row_of(p);

    rows[i].out = false;
    if (i + 1 < nrows && !rows[i + 1].out) {
        rows[i].bytes += rows[i + 1].bytes;
        delete_row(i + 1);
    }
    if (i && !rows[i - 1].out) {
        rows[i - 1].bytes += rows[i].bytes;
        delete_row(i);
    }
}

/* In place, if it or what is behind it has room. */
static bool model_resize(const void *p, size_t n)
{
    size_t i = row_of(p);
    uint64_t bytes = bytes_for(n);

    if (rows[i].bytes < bytes) {
        if (i + 1 == nrows || rows[i + 1].out || rows[i].bytes + rows[i + 1].bytes < bytes)
            return false;
        rows[i].bytes += rows[i + 1].bytes;
        delete_row(i + 1);
    }
    model_cut(i, bytes);
    return true;
}

static uint8_t byte_of(const struct piece *b, size_t i)
{
    return (uint8_t)(b->seed + i * 13 + i / 256);
}

static void fill(struct piece *b)
{
    for (size_t i = 0; i < b->n; i++)
        b->p[i] = byte_of(b, i);
}

static void check(const struct piece *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b->p[i] != byte_of(b, i))
            fail_msg("byte %zu of a piece of %zu bytes changed", i, b->n);
}

static size_t random_size(void)
{
    switch (test_random_below(12)) {
    case 0: return test_random_below(100000);
    case 1: return test_random_below(20000);
    default: return test_random_below(600);
    }
}

static void resize(struct piece *b)
{
    size_t n = random_size() + 1, keep = n < b->n ? n : b->n;
    uint8_t *want = model_resize(b->p, n) ? b->p : model_alloc(n);
    uint8_t *p = quire_arena_realloc(&arena, b->p, n);

    assert_ptr_equal(p, want);
    if (!p)
        return;
    if (p != b->p)
        model_free(b->p);
    b->p = p;
    check(b, keep);
    b->n = n;
    fill(b);
}

static void step(void)
{
    struct piece *b = &pieces[test_random_below(PIECES)];

    if (!b->p) {
        b->n = random_size();
        b->p = quire_arena_alloc(&arena, b->n);
        assert_ptr_equal(b->p, model_alloc(b->n));
        b->seed = (unsigned)test_random();
        if (b->p)
            fill(b);
    } else if (test_random_below(3)) {
        check(b, b->n);
        quire_arena_free(&arena, b->p);
        model_free(b->p);
        b->p = NULL;
    } else {
        resize(b);
    }
}

static void compare(void)
{
    struct quire_arena_stats s;
    uint64_t nfree = 0, largest = 0, out = 0;

    for (size_t i = 0; i < nrows; i++) {
        nfree += !rows[i].out;
        out += rows[i].out;
        if (!rows[i].out && rows[i].bytes > largest)
            largest = rows[i].bytes;
    }
    quire_arena_stats(&arena, &s);
    assert_int_equal(s.pieces, out);
    assert_int_equal(s.free_pieces, nfree);
    assert_int_equal(s.largest, largest);
    assert_int_equal(quire_arena_verify(&arena), QUIRE_OK);
}

/* proves: VE-23 */
static void every_piece_is_where_first_fit_puts_it(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        memset(pieces, 0, sizeof pieces);
        quire_arena_init(&arena, "prop", NULL, test_random());
        assert_int_equal(quire_arena_add(&arena, memory, SPAN), QUIRE_OK);
        rows[0] = (struct row){QI_REGION_HEADER, SPAN - QI_REGION_HEADER - QI_CHUNK_HEADER, false};
        nrows = 1;
        for (int i = 0; i < 60000; i++) {
            step();
            if (i % 2000 == 0)
                compare();
        }
        for (unsigned k = 0; k < PIECES; k++)
            if (pieces[k].p) {
                check(&pieces[k], pieces[k].n);
                quire_arena_free(&arena, pieces[k].p);
                model_free(pieces[k].p);
            }
        assert_int_equal(nrows, 1);
        compare();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_piece_is_where_first_fit_puts_it)};

    hosted_init(1 << 24);
    test_seed("arena_prop");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
