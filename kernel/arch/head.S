/*
 * arch/head.S - the first instructions: from the PVH entry (32 bits, flat, paging off, %ebx = physical
 * address of struct hvm_start_info; Xen's docs/misc/pvh.pandoc) to kernel_main() in the higher half.
 *
 * The boot tables map the first 4 GiB with 2 MiB leaves three times: at 0 (until we have jumped), at
 * the direct map's base, and its first 2 GiB at -2 GiB.  arch/bootmap.c replaces them.
 */
#include "x86.h"

#define PHYS(sym) ((sym) - KERNEL_BASE)

    .section .note.Xen, "a"
    .align 4
    .long 4                     /* name size */
    .long 8                     /* desc size */
    .long 18                    /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad PHYS(pvh_entry)

    .section .text.boot, "ax"
    .code32
    .globl pvh_entry
pvh_entry:
    cld
    mov %ebx, %ebp

    /* 2048 leaves of 2 MiB in four tables */
    mov $PHYS(boot_pd), %edi
    mov $0x83, %eax             /* present, writable, 2 MiB */
    mov $2048, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    dec %ecx
    jnz 1b

    mov $PHYS(boot_pd) + 3, %eax
    mov $PHYS(boot_pdpt), %edi
    mov $4, %ecx
2:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    dec %ecx
    jnz 2b

    movl $PHYS(boot_pd) + 0x0003, PHYS(boot_pdpt_high) + 510 * 8
    movl $PHYS(boot_pd) + 0x1003, PHYS(boot_pdpt_high) + 511 * 8
    movl $PHYS(boot_pdpt) + 3, PHYS(boot_pml4)
    movl $PHYS(boot_pdpt) + 3, PHYS(boot_pml4) + 256 * 8
    movl $PHYS(boot_pdpt_high) + 3, PHYS(boot_pml4) + 511 * 8

    mov $(CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
    mov %eax, %cr4
    mov $PHYS(boot_pml4), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $(EFER_SCE | EFER_LME | EFER_NXE), %eax
    wrmsr
    mov $(CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_PG), %eax
    mov %eax, %cr0
    lgdt PHYS(boot_gdt_pointer)
    ljmp $0x10, $PHYS(boot_long)

    .code64
boot_long:
    movabs $boot_high, %rax
    jmp *%rax
boot_high:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $boot_stack_top, %rsp
    mov %ebp, %edi
    xor %ebp, %ebp
    call kernel_main
    ud2

/*
 * An application processor after its trampoline: long mode, boot tables.  %rdi: its struct cpu, which
 * smp.c left in ap_cpu; the kernel's table is loaded in C, when the stack (a kernel virtual area)
 * must be reachable: so load it first.
 */
    .globl ap_long
ap_long:
    movabs $ap_high, %rax
    jmp *%rax
ap_high:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov ap_root(%rip), %rax
    mov %rax, %cr3
    mov ap_stack(%rip), %rsp
    mov ap_cpu(%rip), %rdi
    xor %ebp, %ebp
    call ap_main
    ud2

    .section .rodata
    .align 16
    .globl boot_gdt
boot_gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff    /* 0x10: 64-bit code */
    .quad 0x00cf93000000ffff    /* 0x18: data */
boot_gdt_pointer:
    .word 4 * 8 - 1
    .quad PHYS(boot_gdt)

/*
 * The trampoline is copied to physical TRAMPOLINE, where a CPU starts in real mode after SIPI.
 */
#define T(sym) ((sym) - trampoline_start + TRAMPOLINE)
    .align 16
    .globl trampoline_start, trampoline_end
trampoline_start:
    .code16
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    lgdtl T(trampoline_gdt_pointer)
    mov $(CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
    mov %eax, %cr4
    mov $PHYS(boot_pml4), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $(EFER_SCE | EFER_LME | EFER_NXE), %eax
    wrmsr
    mov $(CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_PG), %eax
    mov %eax, %cr0
    ljmpl $0x10, $PHYS(ap_long)
    .align 8
trampoline_gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
trampoline_gdt_pointer:
    .word 4 * 8 - 1
    .long T(trampoline_gdt)
trampoline_end:
    .code64

    .section .bss.page_aligned, "aw", @nobits
    .align 4096
    .globl boot_pml4
boot_pml4:      .skip 4096
boot_pdpt:      .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4 * 4096
    .globl boot_stack, boot_stack_top
boot_stack:     .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
