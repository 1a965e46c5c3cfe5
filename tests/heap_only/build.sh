#!/bin/sh
# Build the heap by itself as an embedder would, from plain sources; count what it asks of its host; take each
# of that away in turn, which must not link; run the program of host.c over it.  An archive that was built already is
# counted too: build.sh [ARCHIVE]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-std=gnu11 -O1 -Wall -Wextra -Werror -I $root/include -I $root/ports/heap"
for f in "$root"/src/base/*.c "$root"/src/sync/*.c "$root"/src/arena/*.c "$root"/src/slab/*.c "$root"/src/heaponly/*.c; do
    case $f in */slab/runs.c) continue ;; esac
    "${CC:-cc}" $flags -ffreestanding -fno-stack-protector -c "$f" \
        -o "$out/$(basename "$(dirname "$f")")_$(basename "$f" .c).o"
done
ar rcs "$out/libquire-heap.a" "$out"/*.o
ld -r -o "$out/all.o" "$out"/*_*.o
# what the compiler itself asks of a freestanding program does not count
undefined() { nm -u "$1" | awk '{print $2}' | grep -vxE 'mem(cpy|move|set|cmp)'; }
hooks=$(undefined "$out/all.o")
echo "asked of the host: $(echo $hooks)"
for h in $hooks; do
    grep -q "$h" "$root/include/quire/heap_only.h" || {
        echo "$h is not in heap_only.h: src/slab asks for something that src/heaponly has not"
        exit 1
    }
done
[ "$(echo "$hooks" | wc -l)" -le 8 ]
if [ $# -gt 0 ]; then
    ld -r --whole-archive "$1" -o "$out/given.o"
    [ "$(undefined "$out/given.o")" = "$hooks" ]
fi
"${CC:-cc}" $flags "$root/tests/heap_only/host.c" "$out/libquire-heap.a" -o "$out/host"
# code with the usual names asks for no more
echo '#include <quire/names_linux.h>
void *one(void); void *one(void) { return kzalloc(10, GFP_KERNEL); }' >"$out/names.c"
"${CC:-cc}" $flags -O0 -c "$out/names.c" -o "$out/names.o"
[ "$(nm -u "$out/names.o" | awk '{print $2}' | grep -v GLOBAL_OFFSET)" = quire_kzalloc ]
"$out/host"
# the program calls what is in the archive, so all of the archive's demands must be met
"${CC:-cc}" $flags -c "$root/tests/heap_only/host.c" -o "$out/host.o"
for h in $hooks; do
    objcopy --redefine-sym "$h=other_$h" "$out/host.o" "$out/less.o"
    if "${CC:-cc}" "$out/less.o" "$out/libquire-heap.a" -o "$out/less" 2>"$out/why"; then
        echo "links without $h"
        exit 1
    fi
    grep -q "$h" "$out/why"
done
echo "each of them is needed"
