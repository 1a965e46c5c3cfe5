/*
 * virtio/balloon.h - the balloon, as the rest of the kernel sees it.
 */
#ifndef VIRTIO_BALLOON_H
#define VIRTIO_BALLOON_H

#include "k.h"

struct virtio;

/* Take the device into service (virtio.c).  0 or -errno. */
int balloon_start(struct virtio *v);

/* Frames that the host has at the moment.  Any context. */
u64 balloon_pages(void);

/* Memory ran out: take some back from the host, if it agreed to that.  True if there was something to
 * take.  Task context, may sleep. */
bool balloon_deflate_on_oom(void);

#endif
