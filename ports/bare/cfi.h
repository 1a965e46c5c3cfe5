/*
 * Bare port: included in front of every source.  Call frame information goes where debuggers want it, into a
 * section that is not loaded, instead of .eh_frame, which would be part of the image.
 */
#ifndef __ASSEMBLER__
__asm__(".cfi_sections .debug_frame");
#endif
