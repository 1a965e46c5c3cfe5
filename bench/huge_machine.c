/*
 * huge_machine.c - what it costs to have much memory: huge_machine [GIB...] stands up machines of so many
 * GiB on 8 nodes, with holes, allocates on all nodes, and prints for each: time of initialisation, bytes of
 * metadata, and these for one GiB and one frame.  Only metadata is backed, so 1 TiB fits anywhere.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hosted.h>
#include <quire/frame.h>

#define GIB    (1ull << 30)
#define NODES  8u
#define PIECES 4u            /* of each node's memory */
#define HOLE   (3 * GIB / 2) /* after each piece */
#define MIXED  2000u         /* frames that each node serves */

static struct quire_mem_range ranges[4 * NODES * PIECES], reserved[256];
static struct quire_memmap map;
static struct quire_page *held[MIXED];

static void die(const char *what)
{
    fprintf(stderr, "huge_machine: %s: %s\n", what, hosted_log_last());
    exit(1);
}

/* Each node has its part of the memory in pieces with holes between them. */
static void make_map(uint64_t bytes)
{
    uint64_t piece = bytes / NODES / PIECES, at = 0;

    hosted_init_sparse(bytes + NODES * PIECES * HOLE);
    quire_memmap_init(&map, ranges, 4 * NODES * PIECES, reserved, 256);
    for (unsigned i = 0; i < NODES * PIECES; i++, at += piece + HOLE)
        if (quire_memmap_add(&map, Q_PA(at), piece, QUIRE_MEM_USABLE) ||
            quire_memmap_set_node(&map, Q_PA(at), piece, i / PIECES))
            die("map");
}

/* Frames and huge frames of this node and no other, and all of them back. */
static void serve(unsigned node)
{
    for (unsigned i = 0; i < MIXED; i++) {
        unsigned order = i % 20 ? 0 : QUIRE_HUGE_ORDER;

        held[i] = quire_page_alloc(order, QUIRE_GFP_USER | QUIRE_GFP_THISNODE, node);
        if (!held[i] || quire_page_node(held[i]) != node)
            die("allocation");
    }
    for (unsigned i = 0; i < MIXED; i++)
        quire_page_put(held[i]);
}

static void machine(uint64_t gib)
{
    uint8_t cpu_node[NODES] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct quire_boot b = {.map = &map, .nodes = NODES, .cpus = NODES, .cpu_node = cpu_node};
    uint64_t t, took, resident;

    make_map(gib * GIB);
    t = qport_now_ns();
    if (quire_frame_init(&b))
        die("initialisation");
    took = qport_now_ns() - t;
    resident = hosted_resident();
    printf("%lu\t%.1f\t%.3f\t%lu\t%.0f\t", (unsigned long)gib, (double)took / 1e6,
           (double)took / 1e6 / (double)gib, (unsigned long)resident,
           (double)resident / (double)gib);
    t = qport_now_ns();
    for (unsigned node = 0; node < NODES; node++)
        serve(node);
    took = qport_now_ns() - t;
    quire_frame_drain();
    if (quire_frame_verify() || quire_free_pages() != quire_managed_pages())
        die("verify");
    printf("%.0f\n", (double)took / (MIXED * NODES));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    printf("GiB, 8 nodes, holes\tstart ms\tms a GiB\tbytes touched\ta GiB\tns to serve\n");
    for (int i = 1; i < argc; i++) {
        uint64_t gib = strtoull(argv[i], NULL, 0);

        if (gib < 8 || gib > 16384) {
            fprintf(stderr, "huge_machine: 8 to 16384 GiB\n");
            return 2;
        }
        machine(gib);
    }
    return 0;
}
