#!/usr/bin/python3
"""Prints the bytes of each layer of the library as built for kernels: code, constants, data, zeroed data."""
import argparse
import os
import subprocess
import sys

from lint_layers import LAYERS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KINDS = ("code", "constants", "data", "zeroed")


def kind_of(section):
    for start, kind in ((".text", "code"), (".rodata", "constants"), (".data", "data"), (".bss", "zeroed")):
        if section.startswith(start):
            return kind
    return None


def layers_of(library):
    """{layer: {kind: bytes}} from the sections of the archive's members."""
    out = subprocess.run(["size", "-A", library], check=True, capture_output=True, text=True).stdout
    total, layer = {}, None
    for line in out.splitlines():
        words = line.split()
        if "(ex " in line:  # "src_frame_buddy.c.o   (ex build/libquire.a):"
            member = words[0]
            layer = next((name for name in LAYERS if member.startswith("src_%s_" % name)), "other")
            total.setdefault(layer, dict.fromkeys(KINDS, 0))
        elif layer and len(words) == 3 and words[1].isdigit() and kind_of(words[0]):
            total[layer][kind_of(words[0])] += int(words[1])
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    args = parser.parse_args()
    library = os.path.join(ROOT, args.build, "libquire.a")
    if not os.path.exists(library):
        sys.exit("%s is not built" % library)
    found = layers_of(library)
    print("%-8s %9s %9s %9s %9s" % (("layer",) + KINDS))
    for layer in [name for name in LAYERS + ["other"] if name in found]:
        print("%-8s %9d %9d %9d %9d" % ((layer,) + tuple(found[layer][k] for k in KINDS)))
    print("%-8s %9d %9d %9d %9d" % (("total",) + tuple(sum(f[k] for f in found.values()) for k in KINDS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
