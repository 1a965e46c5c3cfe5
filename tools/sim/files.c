/*
 * files.c - shared memory, and files behind a simulated device.
 *
 * The device has a page for each page of the file.  A request takes a random time, so requests
 * overtake each other; a write moves half of the page when it begins and half when it ends, so it
 * takes in what is written meanwhile only in part; a write that fails may have moved any part (a
 * torn page).  None of that may show to a program: the cache has what was written, and says
 * so until the device has all of it.
 */
#include <stdlib.h>
#include <string.h>

#include "../../ports/sim/monitor.h"
#include "world.h"

/* ---- The device ---- */

static bool request_fails(void)
{
    unsigned once_in = world.program->switches.io_fail;

    if (world.still || !once_in || !sim_one_in(SIM_RANDOM_FAULTS, once_in))
        return false;
    world.io_failures++;
    return true;
}

static void request_takes_time(void)
{
    unsigned longest = world.program->switches.io_ns;

    if (!world.still && longest)
        sim_sleep(1 + sim_below(SIM_RANDOM_FAULTS, longest));
}

static enum quire_status device_read(void *cookie, uint64_t index, void *page)
{
    struct file *f = cookie;

    request_takes_time();
    if (index >= OBJECT_PAGES)
        sim_fail("content", "page %llu of a file of %u is asked for", (unsigned long long)index,
                 OBJECT_PAGES);
    if (request_fails())
        return QUIRE_IO;
    if (index >= f->zero_from && index < f->zero_to)
        memset(page, 0, PAGE);
    else
        memcpy(page, f->device + index * PAGE, PAGE);
    monitor_hw_write(page, PAGE);
    return QUIRE_OK;
}

static enum quire_status device_write(void *cookie, uint64_t index, const void *page)
{
    struct file *f = cookie;
    uint8_t *to = f->device + index * PAGE;
    size_t part = request_fails() ? 512 * (size_t)sim_below(SIM_RANDOM_FAULTS, 8) : PAGE;

    memcpy(to, page, part < PAGE / 2 ? part : PAGE / 2);
    request_takes_time();
    if (part > PAGE / 2)
        memcpy(to + PAGE / 2, (const uint8_t *)page + PAGE / 2, part - PAGE / 2);
    return part == PAGE ? QUIRE_OK : QUIRE_IO;
}

static const struct quire_pager device = {.fill = device_read, .store = device_write};

/* ---- Files ---- */

uint64_t *file_words(struct file *f, unsigned index, const struct worker *w)
{
    return f->words[index][w->number];
}

/* What the device has at first: a number for each word. */
static void format_device(struct file *f)
{
    uint64_t *word = (uint64_t *)f->device;

    for (uint64_t i = 0; i < OBJECT_PAGES * PAGE / 8; i++)
        word[i] = 0x1111000000000000u | i;
    for (unsigned index = 0; index < OBJECT_PAGES; index++)
        for (unsigned n = 0; n <= SIM_PROGRAM_TASKS; n++)
            for (unsigned k = 0; k < 2; k++)
                memcpy(&f->words[index][n][k], f->device + index * PAGE + word_offset(n, k), 8);
}

void file_init(struct file *f, bool pager)
{
    uint64_t size = OBJECT_PAGES * PAGE;
    enum quire_status st;

    f->pager = pager;
    f->size = OBJECT_PAGES;
    f->words = calloc(OBJECT_PAGES, sizeof *f->words);
    f->device = pager ? calloc(OBJECT_PAGES, PAGE) : NULL;
    if (!f->words || (pager && !f->device)) {
        perror("quire-sim: no memory for a file");
        exit(2);
    }
    if (pager)
        format_device(f);
    st = pager ? quire_object_create_file(&device, f, size, &f->o)
               : quire_object_create_shared(size, &f->o);
    if (st != QUIRE_OK)
        sim_fail("boot", "no memory for a file");
}

void files_setup(void)
{
    file_init(&world.shared, false);
    file_init(&world.common, true);
    for (unsigned i = 1; i <= world.nworkers; i++)
        file_init(&world.own[i], true);
}

/* Pages [from, to) of the worker's own file have become zeros. */
static void zeroed(struct worker *w, struct file *f, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        uint64_t *words = file_words(f, i, w);

        words[0] = words[1] = 0;
        if (f->device)
            memset(f->device + i * PAGE, 0, PAGE);
    }
    f->zero_to = 0;
}

/* From here on a page that comes back in the middle of a cut, as soon as the old one is gone, is zeros. */
static void zeroing(struct file *f, unsigned from, unsigned to)
{
    f->zero_from = from;
    f->zero_to = to;
}

/* Private copies of pages that the file no longer has are gone too. */
static void forget_copies(struct mpage *pages, unsigned from, unsigned to)
{
    for (unsigned i = 0; pages && i < world.region; i++) {
        struct mpage *p = &pages[i];

        if (p->backing == FILE_PRIVATE && p->file && p->index >= from && p->index < to) {
            p->own = p->held = false;
            p->word[0] = p->word[1] = 0;
        }
    }
}

void file_truncate(struct worker *w, struct file *f, unsigned pages)
{
    unsigned before = f->size;

    zeroing(f, pages, before);
    if (quire_object_set_size(f->o, pages * PAGE) != QUIRE_OK) {
        must_be_short(w, "truncate");
        return;
    }
    f->size = pages;
    if (pages >= before) {
        zeroing(f, 0, 0);
        return;
    }
    zeroed(w, f, pages, before);
    forget_copies(w->home_pages, pages, before);
    for (unsigned k = 0; k < SIM_CHILDREN; k++)
        forget_copies(w->child[k].pages, pages, before);
}

void file_punch(struct worker *w, struct file *f, unsigned index, unsigned n)
{
    if (index >= OBJECT_PAGES)
        return;
    n = n < OBJECT_PAGES - index ? n : OBJECT_PAGES - index;
    zeroing(f, index, index + n);
    if (quire_object_punch(f->o, index * PAGE, n * PAGE) != QUIRE_OK) {
        must_be_short(w, "punch");
        return;
    }
    zeroed(w, f, index, index + n);
}

void file_copy(struct worker *w, struct file *f, unsigned index, bool write)
{
    unsigned which = (unsigned)worker_random(w) & 1;
    uint64_t *word = &file_words(f, index, w)[which], value;
    struct quire_page *page;
    enum quire_status st;

    if (index >= f->size)
        return;
    st = quire_object_page(f->o, index, &page);
    if (st == QUIRE_NO_MEMORY)
        must_be_short(w, "a page of a file");
    else if (st != QUIRE_OK && (st != QUIRE_IO || world.io_failures == w->io_started))
        sim_fail("status", "page %u of a file: %s", index, quire_status_name(st));
    if (st != QUIRE_OK)
        return;
    memcpy(&value, (char *)quire_page_ptr(page) + word_offset(w->number, which), 8);
    if (value != *word)
        sim_fail("content", "page %u of a file has %#llx, where %#llx was written", index,
                 (unsigned long long)value, (unsigned long long)*word);
    if (write) {
        *word = worker_value(w);
        if (worker_random(w) & 1)
            sim_sleep(10000); /* what is written has to be fetched from a program's memory */
        memcpy((char *)quire_page_ptr(page) + word_offset(w->number, which), word, 8);
        monitor_hw_write((char *)quire_page_ptr(page) + word_offset(w->number, which), 8);
        quire_object_dirty(f->o, page);
    }
    quire_page_put(page);
}

void file_on_device(struct worker *w, struct file *f, unsigned index)
{
    for (unsigned k = 0; k < 2; k++) {
        uint64_t got, *word = &file_words(f, index, w)[k];

        memcpy(&got, f->device + index * PAGE + word_offset(w->number, k), 8);
        if (got != *word)
            sim_fail("content", "page %u of a file was synced: the device has %#llx, not %#llx",
                     index, (unsigned long long)got, (unsigned long long)*word);
    }
}

/* ---- The end ---- */

void file_check(struct file *f)
{
    enum quire_status st;

    if (!f->pager)
        return;
    st = quire_object_sync(f->o, 0, f->size * PAGE);
    if (st != QUIRE_OK)
        sim_fail("status", "sync of a file: %s", quire_status_name(st));
    for (unsigned index = 0; index < f->size; index++)
        for (unsigned n = 1; n <= world.nworkers; n++)
            for (unsigned k = 0; k < 2; k++) {
                uint64_t got;

                memcpy(&got, f->device + index * PAGE + word_offset(n, k), 8);
                if (f >= world.own && f <= world.own + world.nworkers && f != &world.own[n])
                    continue; /* only its worker writes it */
                if (got != f->words[index][n][k])
                    sim_fail("content",
                             "page %u of a file: the device has %#llx for task %u, who wrote %#llx",
                             index, (unsigned long long)got, n,
                             (unsigned long long)f->words[index][n][k]);
            }
}

static void file_fini(struct file *f)
{
    file_check(f);
    quire_object_put(f->o);
    free(f->words);
    free(f->device);
}

void files_teardown(void)
{
    file_fini(&world.shared);
    file_fini(&world.common);
    for (unsigned i = 1; i <= world.nworkers; i++)
        file_fini(&world.own[i]);
}
