#!/bin/sh
# Build and run the smallest port, as an embedder would: plain sources, two -I, no build system.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for f in "$root"/src/base/*.c "$root"/src/sync/*.c "$root"/src/frame/*.c "$root"/src/slab/*.c; do
    "${CC:-cc}" -std=gnu11 -O1 -Wall -Wextra -Werror -I "$root/include" -I "$root/tests/minimal_port" -c "$f" \
        -o "$out/$(basename "$(dirname "$f")")_$(basename "$f" .c).o"
done
ar rcs "$out/libquire.a" "$out"/*.o
"${CC:-cc}" -std=gnu11 -Wall -Wextra -Werror -I "$root/include" -I "$root/tests/minimal_port" \
    "$root/tests/minimal_port/minimal.c" "$out/libquire.a" -o "$out/minimal"
"$out/minimal"
