#!/bin/sh
# Compile frames, arenas and heap for a 32-bit kernel whose direct map ends at 896 MiB, without a C library; all
# that may be missing are the port's functions and those of the compiler's own library.  Exit status 77
# (skipped): the compiler has no 32-bit mode.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-m32 -march=i686 -malign-double -ffreestanding -fno-pie -std=gnu11 -O2 -Wall -Wextra -Werror -DQUIRE_DIRECT_LIMIT=0x38000000"
echo 'int x;' >"$out/probe.c"
"${CC:-cc}" $flags -c "$out/probe.c" -o "$out/probe.o" 2>/dev/null || exit 77
for f in "$root"/src/base/*.c "$root"/src/sync/*.c "$root"/src/arena/*.c "$root"/src/frame/*.c "$root"/src/slab/*.c "$root"/src/kva/kmap.c; do
    "${CC:-cc}" $flags -I "$root/include" -I "$root/tests/port32" -c "$f" \
        -o "$out/$(basename "$(dirname "$f")")_$(basename "$f" .c).o"
done
rm "$out/probe.o"
ld -m elf_i386 -r -o "$out/all.o" "$out"/*.o
missing=$(nm -u "$out/all.o" | awk '{print $2}' | grep -vE '^(qport_|port32_|mem(cpy|set|move|cmp)$|__u?(div|mod|divmod)(di|moddi)[34]$|__(ctz|clz|popcount)(si|di)2$)' || true)
if [ -n "$missing" ]; then
    echo "not the port's and not the compiler's: $missing"
    exit 1
fi
