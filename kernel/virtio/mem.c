/*
 * virtio/mem.c - memory that the host plugs and unplugs (VIRTIO 1.2, section 5.15).
 *
 * The device has a region of addresses, in blocks of which each is plugged or not, and says how much of it
 * the guest should have (requested_size).  A kernel thread follows, in units of the larger of a device
 * block and a pageblock: growing, it asks the device for a run of units, maps them and gives
 * them to the frame allocator; shrinking, it takes units from the allocator, the free ones first, then
 * those whose content can be moved, unmaps them and hands them back.
 *
 * A unit is in one of three states, and only the thread changes it:
 *
 *     UNPLUGGED --PLUG--> IDLE (the device's yes, no memory yet) --quire_memory_add--> USED
 *     UNPLUGGED <-UNPLUG- IDLE                                   <-quire_memory_remove- USED
 *
 * so that whatever fails, on either side, is tried again from where it stands.  A host that says BUSY,
 * memory for struct pages that is missing, frames that nobody can move just now: the thread comes back after
 * a while, later and later.  It leaves the guest its high watermarks and a part of what is used.
 *
 * The new memory is for what can be moved (quire_memory_set_use()'s default), or shrinking would come to
 * nothing.
 */
#include "mem.h"
#include "arch/cpu.h"
#include "task.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/pt.h>

/* Feature bits, 5.15.3 */
#define F_ACPI_PXM     (1ull << 0)
#define F_INACCESSIBLE (1ull << 1)

/* Configuration, 5.15.4 */
enum {
    CONFIG_BLOCK_SIZE = 0,
    CONFIG_NODE = 8,
    CONFIG_ADDR = 16,
    CONFIG_REGION = 24,
    CONFIG_USABLE = 32,
    CONFIG_PLUGGED = 40,
    CONFIG_REQUESTED = 48,
};

/* Requests and answers, 5.15.6 */
enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };
struct request {
    u16 type, pad[3];
    u64 addr;
    u16 blocks, pad2[3];
};
struct answer {
    u16 type, pad[3], state;
};

enum { UNPLUGGED, IDLE, USED };

#define MAX_RUN   32 /* units that are plugged at once */
#define RETRY_MIN 200000000ull
#define RETRY_MAX 6400000000ull

static struct mem {
    struct virtio *dev;
    struct virtq queue;
    struct {
        struct request request;
        struct answer answer;
    } * shared; /* with the device; a frame of its own */
    u64 base, block, unit;
    u32 units;
    u8 *state; /* of each unit */
    unsigned node;
    u64 plugged, used; /* bytes that are not UNPLUGGED; that are USED */
    u64 told_target, told_used;
} mem;

static u64 config64(struct mem *m, unsigned at)
{
    u32 high, low, again = virtio_config_read(m->dev, at + 4);

    do {
        high = again;
        low = virtio_config_read(m->dev, at);
        again = virtio_config_read(m->dev, at + 4);
    } while (again != high);
    return (u64)high << 32 | low;
}

static u64 address(const struct mem *m, u32 unit) { return m->base + unit * m->unit; }

static void set_state(struct mem *m, u32 unit, u32 n, u8 state)
{
    for (u32 i = unit; i < unit + n; i++) {
        m->plugged += m->unit * ((state != UNPLUGGED) - (u64)(m->state[i] != UNPLUGGED));
        m->used += m->unit * ((state == USED) - (u64)(m->state[i] == USED));
        m->state[i] = state;
    }
}

/* ---- the device ---- */

static unsigned ask(struct mem *m, unsigned type, u64 addr, u64 len)
{
    q_pa pa = quire_pa_of_kla(Q_KLA((uintptr_t)m->shared));
    struct virtq_buf bufs[] = {
        {pa, sizeof(struct request)},
        {Q_PA(pa.v + offsetof(typeof(*m->shared), answer)), sizeof(struct answer)},
    };

    m->shared->request =
        (struct request){.type = (u16)type, .addr = addr, .blocks = (u16)(len / m->block)};
    m->shared->answer.type = ERROR;
    virtq_send(&m->queue, bufs, 2, VIRTQ_DEVICE_ANSWERS);
    return m->shared->answer.type;
}

/* ---- one run of units ---- */

static bool plug(struct mem *m, u32 unit, u32 n)
{
    if (ask(m, PLUG, address(m, unit), n * m->unit) != ACK)
        return false;
    set_state(m, unit, n, IDLE);
    return true;
}

static bool unplug(struct mem *m, u32 unit)
{
    if (ask(m, UNPLUG, address(m, unit), m->unit) != ACK)
        return false;
    set_state(m, unit, 1, UNPLUGGED);
    return true;
}

static bool use(struct mem *m, u32 unit, u32 n)
{
    q_pa pa = Q_PA(address(m, unit));
    u64 len = n * m->unit;

    if (quire_pt_kernel_map(QPORT_DIRECT_BASE + pa.v, pa, len, QUIRE_READ | QUIRE_WRITE, 21) !=
        QUIRE_OK)
        return false;
    if (quire_memory_add(pa, len, m->node) != QUIRE_OK) {
        quire_pt_kernel_unmap(QPORT_DIRECT_BASE + pa.v, len);
        return false;
    }
    set_state(m, unit, n, USED);
    return true;
}

static bool disuse(struct mem *m, u32 unit)
{
    q_pa pa = Q_PA(address(m, unit));

    if (quire_memory_remove(pa, m->unit) != QUIRE_OK)
        return false;
    quire_pt_kernel_unmap(QPORT_DIRECT_BASE + pa.v, m->unit);
    set_state(m, unit, 1, IDLE);
    return true;
}

/* ---- more ---- */

/* The first run of units of a state from unit on, at most max of them; 0: there is none. */
static u32 find_run(const struct mem *m, u8 state, u32 *unit, u32 end, u64 max)
{
    u32 n = 0;

    while (*unit < end && m->state[*unit] != state)
        ++*unit;
    while (n < max && *unit + n < end && m->state[*unit + n] == state)
        n++;
    return n;
}

/* False: it did not come about, or not all of it. */
static bool grow(struct mem *m, u64 target)
{
    u32 end = (u32)(K_MIN(config64(m, CONFIG_USABLE), m->units * m->unit) / m->unit), n;

    for (u32 unit = 0; m->used < target; unit += n) {
        u64 max = K_MIN((target - m->used) / m->unit, (u64)MAX_RUN);

        n = find_run(m, IDLE, &unit, end, max);
        if (!n) {
            unit = 0;
            n = find_run(m, UNPLUGGED, &unit, end, max);
            if (!n || !plug(m, unit, n))
                return false;
        }
        if (!use(m, unit, n))
            return false;
        cond_resched();
    }
    return true;
}

/* ---- less ---- */

static void drain(void *arg)
{
    (void)arg;
    quire_frame_drain_local();
}

/* What must stay free: high watermarks, and memory to move things to. */
static u64 free_to_keep(void)
{
    struct quire_zone_stats z;
    u64 sum = quire_managed_pages() / 64;

    for (unsigned i = 0; quire_zone_stats(i, &z) == QUIRE_OK; i++)
        sum += z.wmark_high;
    return sum;
}

/* Frames of the unit that are in use. */
static u64 busy_frames(const struct mem *m, u32 unit)
{
    struct quire_block_info b;
    u64 sum = 0;

    for (u64 at = address(m, unit); at < address(m, unit) + m->unit; at += QUIRE_HUGE_SIZE)
        if (quire_block_info(at / QUIRE_HUGE_SIZE, &b) == QUIRE_OK)
            sum += QUIRE_HUGE_SIZE / 4096 - b.free - b.cached;
    return sum;
}

/* From the top, units with at most so many frames in use; until enough are gone, or there are no more. */
static void shrink_pass(struct mem *m, u64 target, u64 busy)
{
    u64 keep = free_to_keep();

    for (u32 unit = m->units; unit-- > 0 && m->plugged > target;) {
        if (m->state[unit] == USED && quire_free_pages() > keep + m->unit / 4096 &&
            busy_frames(m, unit) <= busy)
            disuse(m, unit);
        if (m->state[unit] == IDLE)
            unplug(m, unit);
        cond_resched();
    }
}

static bool shrink(struct mem *m, u64 target)
{
    drain(NULL);
    smp_call_others(drain, NULL);
    /* what costs nothing, then what costs little, then all that can be moved */
    shrink_pass(m, target, 0);
    shrink_pass(m, target, m->unit / 4096 / 8);
    shrink_pass(m, target, m->unit / 4096);
    return m->plugged <= target;
}

/* ---- the thread ---- */

static void tell_log(struct mem *m, u64 target)
{
    if (m->told_target == target && m->told_used == m->used)
        return;
    m->told_target = target;
    m->told_used = m->used;
    printk("virtio-mem: the host wants %lu MiB, %lu MiB are in use", (unsigned long)(target >> 20),
           (unsigned long)(m->used >> 20));
}

/* False: to be tried again. */
static bool follow(struct mem *m)
{
    u64 target = K_DOWN(config64(m, CONFIG_REQUESTED), m->unit);
    bool done = m->plugged > target ? shrink(m, target) : grow(m, target);

    tell_log(m, target);
    return done;
}

static void mem_main(void *arg)
{
    struct mem *m = arg;
    u64 retry_ns = RETRY_MIN;
    struct waiter w;

    waitq_add(&m->dev->events, &w);
    for (;;) {
        u64 wake_ns = WAIT_FOREVER;

        if (__atomic_exchange_n(&m->dev->config_changed, 0, __ATOMIC_ACQUIRE))
            retry_ns = RETRY_MIN;
        if (!follow(m)) {
            wake_ns = ktime_ns() + retry_ns;
            retry_ns = K_MIN(retry_ns * 2, RETRY_MAX);
        }
        wait_prepare();
        if (!__atomic_load_n(&m->dev->config_changed, __ATOMIC_ACQUIRE))
            wait_sleep(virtio_wake_time(m->dev, wake_ns));
        wait_finish();
    }
}

/* ---- start ---- */

static int read_config(struct mem *m)
{
    u64 region = config64(m, CONFIG_REGION);

    m->block = config64(m, CONFIG_BLOCK_SIZE);
    m->base = config64(m, CONFIG_ADDR);
    if (!m->block || m->block & (m->block - 1))
        return -EINVAL;
    m->unit = K_MAX(m->block, QUIRE_HUGE_SIZE);
    if (m->base & (m->unit - 1) || region / m->unit > 1u << 24)
        return -EINVAL;
    m->units = (u32)(region / m->unit);
    if (m->dev->features & F_ACPI_PXM)
        m->node = numa_node_of(&acpi.numa, virtio_config_read(m->dev, CONFIG_NODE) & 0xffff);
    if (m->node >= acpi.numa.nnodes)
        m->node = 0;
    return 0;
}

/* The frame for requests, and the units' states, all unplugged. */
static int alloc_state(struct mem *m)
{
    struct quire_page *page;

    m->state = quire_vzalloc(m->units, QUIRE_GFP_KERNEL);
    if (!m->state)
        return -ENOMEM;
    page = quire_page_alloc(0, QUIRE_GFP_KERNEL | QUIRE_GFP_ZERO, QUIRE_NODE_ANY);
    if (!page) {
        quire_vfree(m->state);
        return -ENOMEM;
    }
    m->shared = quire_page_ptr(page);
    return 0;
}

static int init(struct mem *m)
{
    int err = virtq_init(m->dev, &m->queue, 0);

    if (!err)
        err = read_config(m);
    return err ? err : alloc_state(m);
}

int virtio_mem_start(struct virtio *v)
{
    struct mem *m = &mem;
    struct task *t;
    int err;

    if (m->dev)
        return -EBUSY;
    err = virtio_negotiate(v, F_ACPI_PXM | F_INACCESSIBLE);
    if (err)
        return err;
    m->dev = v;
    err = init(m);
    t = err ? NULL : task_alloc("virtio-mem", mem_main, m);
    if (!t) {
        virtio_failed(v);
        return err ? err : -ENOMEM;
    }
    virtio_ready(v);
    /* what was plugged before this kernel started is nobody's */
    if (config64(m, CONFIG_PLUGGED) && ask(m, UNPLUG_ALL, 0, 0) != ACK)
        printk("virtio-mem: %s keeps what was plugged before", v->pci.name);
    printk("virtio-mem: %s, [%#lx, %#lx), blocks of %lu KiB, node %u%s", v->pci.name,
           (unsigned long)m->base, (unsigned long)address(m, m->units),
           (unsigned long)(m->block >> 10), m->node, v->polled ? ", polled" : "");
    task_start(t);
    return 0;
}
