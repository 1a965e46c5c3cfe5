#!/usr/bin/python3
"""Write the kernel's table of function names as C: ksyms.py OUT.c [KERNEL.elf]

Without a kernel the table is empty (first link).  kernel/include/ksyms.h declares what is written.
"""
import subprocess
import sys


def functions(elf):
    out = subprocess.run(["nm", "-n", "--defined-only", elf], check=True, capture_output=True, text=True).stdout
    rows = []
    for line in out.splitlines():
        addr, kind, name = line.split(maxsplit=2)
        if kind in "tT":
            rows.append((int(addr, 16), name))
    return rows


def main():
    rows = functions(sys.argv[2]) if len(sys.argv) > 2 else []
    with open(sys.argv[1], "w") as out:
        out.write("/* Made by tools/ksyms.py. */\n#include <ksyms.h>\n\n")
        out.write("const unsigned ksyms_count = %d;\n" % len(rows))
        out.write("const struct ksym ksyms[] = {\n")
        for addr, name in rows:
            out.write('    {0x%xul, "%s"},\n' % (addr, name))
        out.write('    {~0ul, ""},\n};\n')


main()
