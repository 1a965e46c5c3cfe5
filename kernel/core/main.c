/*
 * core/main.c - from the first C instruction to the first program, and the end.
 */
#include "arch/cpu.h"
#include "cmdline.h"
#include "heapwatch.h"
#include "fs.h"
#include "measure.h"
#include "printk.h"
#include "sched.h"
#include "task.h"
#include "bare.h"
#include "virtio/virtio.h"
#include <quire/heap.h>
#include <quire/kva.h>
#include <quire/space.h>

#define ARGS_MAX  256
#define BOOT_ARGS 16384

/* Of each node; the rest is taken over by all CPUs. */
#define FIRST_BYTES (1ul << 30)

extern char boot_stack_top[];

/* The boot itself, later the idle task of CPU 0. */
static struct task boot_task = {
    .comm = "idle/0", .state = TASK_RUNNABLE, .refs = 1, .affinity = {~0ull, ~0ull, ~0ull, ~0ull}};

static void must(enum quire_status s, const char *what)
{
    if (s != QUIRE_OK)
        kpanic("%s: %s", what, quire_status_text(s));
}

/* ---- the manager ---- */

/* How firmware says that nodes reach one another, for the library: reads. */
static void reach(struct quire_boot *boot)
{
    static u32 latency[QUIRE_MAX_NODES * QUIRE_MAX_NODES];
    static u32 bandwidth[QUIRE_MAX_NODES * QUIRE_MAX_NODES];
    const struct numa_info *n = &acpi.numa;

    boot->distance = n->has_distance ? n->distance : NULL;
    if (!n->has_reach)
        return;
    for (unsigned i = 0; i < n->nnodes * n->nnodes; i++) {
        latency[i] = n->reach[i].read_latency;
        bandwidth[i] = n->reach[i].read_bandwidth;
    }
    boot->latency = latency;
    boot->bandwidth = bandwidth;
}

static void memory_init(void)
{
    struct quire_boot boot = {.map = &boot_memmap,
                              .nodes = acpi.numa.nnodes,
                              .cpus = K_MAX(acpi.ncpus, 1u),
                              .cpu_node = acpi.numa.cpu_node};
    struct quire_kva_layout layout;

    reach(&boot);
    /* a CPU that is alone only has more steps to go */
    boot.first_bytes = cmdline_number("quire.first", boot.cpus > 1 ? FIRST_BYTES : 0);
    vmemmap_reserve();
    must(quire_frame_init(&boot), "frame allocator");
    must(heap_modes_choose(), "heap modes");
    must(quire_heap_init(), "heap");
    heap_watch_init();
    must(quire_pt_init(kernel_root), "page tables");
    /* fork and exit make and drop about 16 tables */
    quire_pt_cache((unsigned)cmdline_number("quire.ptcache", 16));
    areas_layout(&layout);
    must(quire_kva_init(&layout), "kernel areas");
    must(quire_space_init(), "address spaces");
    quire_frame_set_mover(quire_space_move_range);
    quire_frame_set_settler(quire_space_settle);
}

/* What boot left is taken over by the other CPUs from when they are up, and by this one now; until it is all there,
 * nobody looks. */
static void memory_complete(void)
{
    while (quire_frame_deferred())
        if (quire_frame_deferred_step() != QUIRE_OK)
            sched_yield_now();
}

/* ---- the first program ---- */

static char *first_program(char *buf, size_t cap)
{
    static const char *const usual[] = {"/init", "/sbin/init", "/bin/sh"};
    int err;

    if (cmdline_get("init", buf, cap))
        return buf;
    for (unsigned i = 0; i < K_COUNT(usual); i++) {
        struct file *f = kfile_open(usual[i], 0, &err);

        if (f) {
            file_put(f);
            strlcpy(buf, usual[i], cap);
            return buf;
        }
    }
    kpanic("no program to run: none of /init, /sbin/init, /bin/sh, and no init= (see "
           "kernel/include/cmdline.md)");
}

static void run_first_program(void)
{
    static char path[4096], args[BOOT_ARGS], env[BOOT_ARGS];
    static char *argv[ARGS_MAX + 2], *envp[ARGS_MAX + 1];
    static char home[] = "HOME=/", term[] = "TERM=linux";
    unsigned n;
    int err;

    if (cmdline_get("quire.cwd", path, sizeof(path)) && (err = kchdir(path)))
        kpanic("quire.cwd=%s: error %d", path, -err);
    argv[0] = first_program(path, sizeof(path));
    cmdline_words(CMDLINE_ARGS, args, sizeof(args), argv + 1, ARGS_MAX);
    n = cmdline_words(CMDLINE_ENV, env, sizeof(env), envp, ARGS_MAX - 2);
    if (!n) {
        envp[n++] = home;
        envp[n++] = term;
        envp[n] = NULL;
    }
    err = kernel_execve(path, argv, envp);
    kpanic("cannot run %s: error %d", path, -err);
}

static void load_initramfs(void)
{
    int err;

    if (!boot_info.initrd_len)
        kpanic("no initramfs: give one with -initrd");
    err = initramfs_load(quire_ptr_of_pa(Q_PA(boot_info.initrd_pa)), boot_info.initrd_len);
    if (err)
        kpanic("the initramfs is damaged: error %d", -err);
}

static void say_hello(void)
{
    printk("quire: %lu MiB of memory, %u CPU%s, %u node%s",
           (unsigned long)(quire_managed_pages() >> 8), cpus_online(), cpus_online() > 1 ? "s" : "",
           quire_nodes(), quire_nodes() > 1 ? "s" : "");
}

static void init_main(void *arg)
{
    char how[16];
    int err;

    (void)arg;
    fs_init();
    load_initramfs();
    memory_complete();
    say_hello();
    report_init();
    virtio_init();
    blocks_start();
    err = process_become_init();
    if (err)
        kpanic("process 1: error %d", -err);
    err = console_open_fds();
    if (err)
        kpanic("the console for process 1: error %d", -err);
    serial_enable_input();
    if (cmdline_has("quire.selftest"))
        selftest_boot();
    if (cmdline_has("quire.tables"))
        selftest_print_tables();
    if (cmdline_get("quire.bench", how, sizeof(how)))
        bench_run(how);
    if (cmdline_number("quire.irqheap", 0))
        irqheap_run(cmdline_number("quire.irqheap", 0));
    if (cmdline_has("quire.lose"))
        selftest_lose();
    if (cmdline_get("quire.crash", how, sizeof(how)))
        selftest_crash(how);
    move_init();
    heap_modes_start();
    leakscan_start();
    report_first_program();
    run_first_program();
}

/* ---- begin and end ---- */

K_NO_CANARY static void boot_cpu_init(void)
{
    cpu_early_init();
    boot_task.canary = qport_random();
    boot_task.kstack_top = (u64)boot_stack_top;
    cpus[0].rq.idle = &boot_task;
    sched_init_cpu(&cpus[0]);
}

/* From head.S: boot tables, interrupts off, the boot CPU. */
K_NO_CANARY _Noreturn void kernel_main(u32 start_info_pa)
{
    struct task *init;

    report_boot();
    boot_cpu_init();
    bootmap_build(start_info_pa);
    console_init();
    acpi_parse(boot_info.rsdp_pa);
    bootmap_tables();
    if (cmdline_has("quire.memmap"))
        bootmap_report();
    memory_init();
    cache_init();
    apic_init_boot();
    clock_init();
    task_caches_init();
    syscall_init();
    irq_on();
    smp_boot();
    init = task_alloc("init", init_main, NULL);
    if (!init)
        kpanic("no memory for the first task");
    task_start(init);
    sched_idle();
}

_Noreturn void system_end(int wait_status)
{
    report_print();
    if (cmdline_has("quire.selftest"))
        selftest_verify();
    if (wait_status & 0x7f)
        printk("quire: exit signal %d", wait_status & 0x7f);
    else
        printk("quire: exit status %d", wait_status >> 8 & 0xff);
    power_off(0);
}
