/*
 * virtio/mem.h - memory that the host plugs and unplugs.
 */
#ifndef VIRTIO_MEM_H
#define VIRTIO_MEM_H

#include "virtio.h"

/* Drive the device.  0 or -errno. */
int virtio_mem_start(struct virtio *v);

#endif
