/*
 * quire/config.h - every option of the library, with its range.  An embedder sets one with
 * -DQUIRE_...=value; a value out of range does not compile.
 */
#ifndef QUIRE_CONFIG_H
#define QUIRE_CONFIG_H

/* CPUs that may ever run; 1..256. */
#ifndef QUIRE_MAX_CPUS
#define QUIRE_MAX_CPUS 64
#endif
#if QUIRE_MAX_CPUS < 1 || QUIRE_MAX_CPUS > 256
#error "QUIRE_MAX_CPUS must be 1..256"
#endif

/* NUMA nodes; 1..64. */
#ifndef QUIRE_MAX_NODES
#define QUIRE_MAX_NODES 8
#endif
#if QUIRE_MAX_NODES < 1 || QUIRE_MAX_NODES > 64
#error "QUIRE_MAX_NODES must be 1..64"
#endif

/* Largest order of the frame allocator: blocks of 4 KiB << order; 9..18 (2 MiB..1 GiB). */
#ifndef QUIRE_MAX_ORDER
#define QUIRE_MAX_ORDER 10
#endif
#if QUIRE_MAX_ORDER < 9 || QUIRE_MAX_ORDER > 18
#error "QUIRE_MAX_ORDER must be 9..18"
#endif

/* Bytes of physical memory from address 0 that the direct map reaches: a 32-bit kernel has, say, 896 MiB.
 * Memory above is the zone HIGHMEM.  0: the direct map reaches everything.  A multiple of 4 MiB, from
 * 32 MiB on. */
#ifndef QUIRE_DIRECT_LIMIT
#define QUIRE_DIRECT_LIMIT 0
#endif
#if QUIRE_DIRECT_LIMIT && (QUIRE_DIRECT_LIMIT < 0x2000000 || QUIRE_DIRECT_LIMIT % 0x400000)
#error "QUIRE_DIRECT_LIMIT must be 0, or a multiple of 4 MiB from 32 MiB on"
#endif

/* With it: temporary mappings of a CPU, one inside the other; 4..64.  Mappings for all CPUs; 8..4096. */
#ifndef QUIRE_KMAP_DEPTH
#define QUIRE_KMAP_DEPTH 16
#endif
#if QUIRE_KMAP_DEPTH < 4 || QUIRE_KMAP_DEPTH > 64
#error "QUIRE_KMAP_DEPTH must be 4..64"
#endif
#ifndef QUIRE_KMAP_SLOTS
#define QUIRE_KMAP_SLOTS 512
#endif
#if QUIRE_KMAP_SLOTS < 8 || QUIRE_KMAP_SLOTS > 4096
#error "QUIRE_KMAP_SLOTS must be 8..4096"
#endif

/*
 * How a frame number becomes its struct page, and back (quire/model.h).  VMEMMAP needs the port to make
 * an array that is contiguous virtually; the others lie in memory that the library takes at boot.
 */
#define QUIRE_MODEL_VMEMMAP        0 /* a virtual array of all frames; only what exists is backed */
#define QUIRE_MODEL_FLAT           1 /* one array from the first frame to the last, holes included */
#define QUIRE_MODEL_NODES          2 /* an array for each node */
#define QUIRE_MODEL_SPARSE         3 /* an array for each section, found in a static table */
#define QUIRE_MODEL_SPARSE_EXTREME 4 /* the same, the table in two levels, the second on demand */
#ifndef QUIRE_MEMORY_MODEL
#define QUIRE_MEMORY_MODEL QUIRE_MODEL_VMEMMAP
#endif
#if QUIRE_MEMORY_MODEL < 0 || QUIRE_MEMORY_MODEL > 4
#error "QUIRE_MEMORY_MODEL must be one of QUIRE_MODEL_..."
#endif

/* Frames of a section, as a power of two, for the sparse models; 15 (128 MiB) as Linux on x86-64. */
#ifndef QUIRE_SECTION_ORDER
#define QUIRE_SECTION_ORDER (QUIRE_MAX_ORDER > 15 ? QUIRE_MAX_ORDER : 15)
#endif
#if QUIRE_SECTION_ORDER < QUIRE_MAX_ORDER || QUIRE_SECTION_ORDER > 24
#error "QUIRE_SECTION_ORDER must be QUIRE_MAX_ORDER..24"
#endif

/* Bits of a physical address that the sparse models have tables for; 47 is 128 TiB. */
#ifndef QUIRE_SPARSE_BITS
#define QUIRE_SPARSE_BITS (QUIRE_MEMORY_MODEL == QUIRE_MODEL_SPARSE ? 40 : 47)
#endif
#if QUIRE_SPARSE_BITS <= 12 + QUIRE_SECTION_ORDER || QUIRE_SPARSE_BITS > 52
#error "QUIRE_SPARSE_BITS must be more than those of a section, and 52 at most"
#endif

/* Contiguous memory areas (quire/cma.h); 1..64. */
#ifndef QUIRE_MAX_CMA_AREAS
#define QUIRE_MAX_CMA_AREAS 8
#endif
#if QUIRE_MAX_CMA_AREAS < 1 || QUIRE_MAX_CMA_AREAS > 64
#error "QUIRE_MAX_CMA_AREAS must be 1..64"
#endif

/* Freed kernel areas wait for a common flush until they have so many bytes, or 1/32 of memory, or the first
 * has waited so long; 2 MiB..1 GiB, 1..10000 ms. */
#ifndef QUIRE_KVA_LAZY_BYTES
#define QUIRE_KVA_LAZY_BYTES (32ull << 20)
#endif
#if QUIRE_KVA_LAZY_BYTES < (2ull << 20) || QUIRE_KVA_LAZY_BYTES > (1ull << 30)
#error "QUIRE_KVA_LAZY_BYTES must be 2 MiB..1 GiB"
#endif
#ifndef QUIRE_KVA_LAZY_MS
#define QUIRE_KVA_LAZY_MS 100
#endif
#if QUIRE_KVA_LAZY_MS < 1 || QUIRE_KVA_LAZY_MS > 10000
#error "QUIRE_KVA_LAZY_MS must be 1..10000"
#endif

/* Pages of a block of addresses for quire_vm_map_ram(): 256 (1 MiB) or 64 (256 KiB), for where addresses are
 * few. */
#ifndef QUIRE_KVA_BLOCK_PAGES
#define QUIRE_KVA_BLOCK_PAGES 256
#endif
#if QUIRE_KVA_BLOCK_PAGES != 256 && QUIRE_KVA_BLOCK_PAGES != 64
#error "QUIRE_KVA_BLOCK_PAGES must be 256 or 64"
#endif

/* Most vmas an address space may have (Linux: vm.max_map_count, 65530). */
#ifndef QUIRE_MAX_VMAS
#define QUIRE_MAX_VMAS 65530
#endif
#if QUIRE_MAX_VMAS < 16 || QUIRE_MAX_VMAS > 1000000
#error "QUIRE_MAX_VMAS must be 16..1000000"
#endif

/* Most bytes that brk(2) may reach above its start; up to 2^46. */
#ifndef QUIRE_BRK_MAX
#define QUIRE_BRK_MAX (8ull << 30)
#endif
#if QUIRE_BRK_MAX < 4096 || QUIRE_BRK_MAX > (1ull << 46)
#error "QUIRE_BRK_MAX must be 4096..2^46"
#endif

/* The heap's bundle of hardening is on unless quire_heap_configure() says otherwise: red zones and poison
 * (quire/harden.h); 0 or 1. */
#ifndef QUIRE_MM_HARDENING
#define QUIRE_MM_HARDENING 0
#endif
#if QUIRE_MM_HARDENING < 0 || QUIRE_MM_HARDENING > 1
#error "QUIRE_MM_HARDENING must be 0 or 1"
#endif

/* The heap can say who allocated what (quire/track.h): 0 or 1.  With 0 the code for it is not there. */
#ifndef QUIRE_TRACK
#define QUIRE_TRACK 1
#endif
#if QUIRE_TRACK < 0 || QUIRE_TRACK > 1
#error "QUIRE_TRACK must be 0 or 1"
#endif

/* Most memory for the stack traces of tracking, KiB; 64..1048576. */
#ifndef QUIRE_TRACK_DEPOT_KB
#define QUIRE_TRACK_DEPOT_KB 8192
#endif
#if QUIRE_TRACK_DEPOT_KB < 64 || QUIRE_TRACK_DEPOT_KB > 1048576
#error "QUIRE_TRACK_DEPOT_KB must be 64..1048576"
#endif

/* Largest order of a slab that is chosen for the sake of more objects or less waste; an object that does not
 * fit gets the order it needs.  0..10. */
#ifndef QUIRE_SLAB_MAX_ORDER
#define QUIRE_SLAB_MAX_ORDER 5
#endif
_Static_assert(QUIRE_SLAB_MAX_ORDER >= 0 && QUIRE_SLAB_MAX_ORDER <= 10 &&
                   QUIRE_SLAB_MAX_ORDER <= QUIRE_MAX_ORDER,
               "QUIRE_SLAB_MAX_ORDER must be 0..10, and not above QUIRE_MAX_ORDER");

/* Of a slab no more than one part in so many is left over behind the last object, as far as the largest order
 * allows.  8..256. */
#ifndef QUIRE_SLAB_WASTE
#define QUIRE_SLAB_WASTE 16u
#endif
#if QUIRE_SLAB_WASTE < 8 || QUIRE_SLAB_WASTE > 256
#error "QUIRE_SLAB_WASTE must be 8..256"
#endif

/* Objects that a sheaf holds, the array of free objects that a CPU takes from and gives to; fewer of large
 * ones.  4..128. */
#ifndef QUIRE_SLAB_SHEAF
#define QUIRE_SLAB_SHEAF 64
#endif
_Static_assert(QUIRE_SLAB_SHEAF >= 4 && QUIRE_SLAB_SHEAF <= 128, "QUIRE_SLAB_SHEAF must be 4..128");

/* What every quire_kmalloc() is aligned to; 8 or 16.  With 16 there is no class of 8 and none of 24 bytes. */
#ifndef QUIRE_KMALLOC_ALIGN
#define QUIRE_KMALLOC_ALIGN 8
#endif
#if QUIRE_KMALLOC_ALIGN != 8 && QUIRE_KMALLOC_ALIGN != 16
#error "QUIRE_KMALLOC_ALIGN must be 8 or 16"
#endif

/* 1: quire_kmalloc() has classes by 16 bytes up to 256, by 32 up to 1 KiB, by 64 up to 2 KiB: of memory for sizes up
 * to 2 KiB 2.2 % is lost by rounding up instead of 8 %, and there are twice as many sheaves and slabs partly free. */
#ifndef QUIRE_KMALLOC_FINE
#define QUIRE_KMALLOC_FINE 0
#endif
#if QUIRE_KMALLOC_FINE < 0 || QUIRE_KMALLOC_FINE > 1
#error "QUIRE_KMALLOC_FINE must be 0 or 1"
#endif

/* Most KiB of objects that a sheaf holds, of which each CPU has two for each cache; 4..256. */
#ifndef QUIRE_SHEAF_KB
#define QUIRE_SHEAF_KB 16u
#endif
#if QUIRE_SHEAF_KB < 4 || QUIRE_SHEAF_KB > 256
#error "QUIRE_SHEAF_KB must be 4..256"
#endif

/* Kept by each cache on each node: KiB of objects in the barn, an eighth of that many sheaves at most; pages of
 * empty slabs.  More is faster where many objects come and go at a time.  16..2048; 1..256. */
#ifndef QUIRE_BARN_KB
#define QUIRE_BARN_KB 64u
#endif
#if QUIRE_BARN_KB < 16 || QUIRE_BARN_KB > 2048
#error "QUIRE_BARN_KB must be 16..2048"
#endif
#ifndef QUIRE_EMPTY_PAGES
#define QUIRE_EMPTY_PAGES 8u
#endif
#if QUIRE_EMPTY_PAGES < 1 || QUIRE_EMPTY_PAGES > 256
#error "QUIRE_EMPTY_PAGES must be 1..256"
#endif

/* Shadow memory (quire/shadow.h): the library and its embedder are compiled with -fsanitize=kernel-address, and each
 * access of the heap's memory is checked; 0 or 1. */
#ifndef QUIRE_SHADOW
#define QUIRE_SHADOW 0
#endif
#if QUIRE_SHADOW < 0 || QUIRE_SHADOW > 1
#error "QUIRE_SHADOW must be 0 or 1"
#endif

/* Debug checks: 0 = misuse by the caller only, 1 = also O(1) checks of our own invariants. */
#ifndef QUIRE_DEBUG
#define QUIRE_DEBUG 0
#endif
#if QUIRE_DEBUG < 0 || QUIRE_DEBUG > 1
#error "QUIRE_DEBUG must be 0 or 1"
#endif

#endif
