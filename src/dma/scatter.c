/*
 * dma/scatter.c - scatter lists: neighbours merged, runs cut where the device's limits say.
 *
 *     list      [page 7][page 8][page 9, half]   [page 3]
 *     runs      [          one run          ]   [ run  ]      merged: successive in memory
 *     segments  [    direct    |  direct    ]   [bounced]     cut: boundary, length, reach
 */
#include "dma.h"

static uint64_t start_of(const struct quire_dma_sg *e)
{
    return quire_pa_of_page(e->page).v + e->offset;
}

/* The run that begins with list[*i]: its bytes; *i is then the element behind it. */
static uint64_t next_run(const struct quire_dma_sg *list, uint32_t n, uint32_t *i)
{
    uint64_t start = start_of(&list[*i]), bytes = 0;

    do
        bytes += list[(*i)++].bytes;
    while (*i < n && start_of(&list[*i]) == start + bytes);
    return bytes;
}

/* A part of the run that the device does not reach, at most bytes: if the pool has no run of slots as
 * long, a shorter one. */
static enum quire_status map_some(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                                  enum quire_dma_direction dir, struct quire_dma_segment *out)
{
    enum quire_status s;

    bytes = QI_MIN(bytes, quire_dma_max_bytes(dev));
    while ((s = qi_dma_map_bounced(dev, pa, bytes, dir, &out->bus)) == QUIRE_NO_MEMORY &&
           bytes > QUIRE_DMA_SLOT)
        bytes = QI_MAX(qi_align_down(bytes / 2, QUIRE_DMA_SLOT), (uint64_t)QUIRE_DMA_SLOT);
    out->bytes = bytes;
    return s;
}

static enum quire_status map_run(struct quire_dma_device *dev, q_pa pa, uint64_t bytes,
                                 enum quire_dma_direction dir, struct quire_dma_segments *out)
{
    while (bytes) {
        struct quire_dma_segment *seg = &out->segments[out->n];
        enum quire_status s;
        q_ba bus;

        if (out->n == out->cap)
            return QUIRE_TOO_MANY;
        seg->bytes = qi_dma_direct(dev, pa, bytes, dir, &bus);
        if (seg->bytes) {
            seg->bus = bus;
            s = qi_dma_map_direct(dev, pa, seg->bytes, dir, bus);
        } else {
            s = map_some(dev, pa, bytes, dir, seg);
        }
        if (s != QUIRE_OK)
            return s;
        out->n++;
        pa.v += seg->bytes;
        bytes -= seg->bytes;
    }
    return QUIRE_OK;
}

enum quire_status quire_dma_map_sg(struct quire_dma_device *dev, const struct quire_dma_sg *list,
                                   uint32_t n, enum quire_dma_direction dir,
                                   struct quire_dma_segments *out)
{
    enum quire_status s = QUIRE_OK;

    qi_dma_check_device(dev, "map_sg");
    out->n = 0;
    if (!n || (unsigned)dir > QUIRE_DMA_FROM_DEVICE)
        return QUIRE_INVALID;
    for (uint32_t i = 0; i < n; i++) {
        if (!list[i].bytes)
            return QUIRE_INVALID;
        qi_dma_check_memory(dev, Q_PA(start_of(&list[i])), list[i].bytes, dir);
    }
    for (uint32_t i = 0; i < n && s == QUIRE_OK;) {
        q_pa pa = Q_PA(start_of(&list[i]));
        uint64_t bytes = next_run(list, n, &i);

        s = map_run(dev, pa, bytes, dir, out);
    }
    if (s != QUIRE_OK) {
        quire_dma_unmap_sg(dev, out, dir);
        out->n = 0;
    }
    return s;
}

void quire_dma_unmap_sg(struct quire_dma_device *dev, const struct quire_dma_segments *s,
                        enum quire_dma_direction dir)
{
    for (uint32_t i = 0; i < s->n; i++)
        quire_dma_unmap(dev, s->segments[i].bus, s->segments[i].bytes, dir);
}

void quire_dma_sync_sg_for_cpu(struct quire_dma_device *dev, const struct quire_dma_segments *s,
                               enum quire_dma_direction dir)
{
    for (uint32_t i = 0; i < s->n; i++)
        quire_dma_sync_for_cpu(dev, s->segments[i].bus, 0, s->segments[i].bytes, dir);
}

void quire_dma_sync_sg_for_device(struct quire_dma_device *dev, const struct quire_dma_segments *s,
                                  enum quire_dma_direction dir)
{
    for (uint32_t i = 0; i < s->n; i++)
        quire_dma_sync_for_device(dev, s->segments[i].bus, 0, s->segments[i].bytes, dir);
}
