#!/usr/bin/python3
"""Checks the order of layers: which folder may include from which.  The table below is the architecture.

A file of src/LAYER sees the public headers, the port, and layers below its own.  The kernel sees only public
headers, its port and itself: it is the proof that the public interface is enough.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Bottom to top.
LAYERS = ["base", "sync", "arena", "frame", "slab", "dma", "pt", "kva", "object", "space", "reclaim"]
# Standard headers that exist without a C library.
FREESTANDING = {"stdint.h", "stddef.h", "stdbool.h", "stdarg.h", "limits.h"}

# Folder (longest match wins) -> folders it may include from.  Its own folder is always allowed.
ALLOWED = {
    "include/quire": {"include/quire", "port"},
    "ports/hosted": {"include/quire", "libc"},
    "ports/bare": {"include/quire"},
    "ports/malloc": {"include/quire", "port", "libc"},
    "ports/sim": {"include/quire", "port", "libc"},
    "ports/heap": {"include/quire"},
    "tools/sim": {"include/quire", "port", "ports/sim", "libc"},
    "kernel": {"include/quire", "ports/bare", "kernel"},
    "tests": {"include/quire", "port", "src", "ports/hosted", "ports/sim", "tools/sim", "kernel", "tests", "libc"},
    "tests/minimal_port": {"include/quire", "port", "libc"},
    "tests/malloc": {"libc", "tests/malloc"},
    "tests/heap_only": {"include/quire", "port", "libc"},
    "tests/guest": {"libc", "tests/guest"},
    "bench": {"include/quire", "ports/hosted", "bench", "src", "libc"},  # src: structures that no header of ours shows
    "bench/guest": {"bench"},
}
for i, layer in enumerate(LAYERS):
    ALLOWED["src/" + layer] = {"include/quire", "port"} | {"src/" + below for below in LAYERS[:i]}
# The heap by itself: stands in for src/frame below it.
ALLOWED["src/heaponly"] = {"include/quire", "port", "src/base", "src/sync", "src/arena", "src/slab"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
# Where the compiler looks for the headers of each part, as in the meson.build files.
SEARCH = {
    "include": ["include"],
    "src": ["include"],
    "ports": ["include", "ports/hosted"],
    "kernel": ["include", "kernel/include", "kernel", "ports/bare"],
    "tests": ["include", "ports/hosted", "tests/support", "src", "ports/sim"],
    "tools": ["include", "ports/sim"],
    "bench": ["include", "ports/hosted", "bench"],
}
KERNEL_QUOTES = ["kernel/include", "kernel"]  # tests see the kernel's headers only in quotes


def rule_of(path):
    folder = os.path.dirname(path)
    while folder:
        if folder in ALLOWED:
            return folder
        folder = os.path.dirname(folder)
    return None


def target_of(path, kind, name):
    """Folder of the included file, "port" or "libc"."""
    if name == "quire_port.h":
        return "port"
    if kind == '"':
        near = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if os.path.exists(os.path.join(ROOT, near)):
            return os.path.dirname(near)
    part = path.split("/")[0]
    search = SEARCH[part] + (KERNEL_QUOTES if part == "tests" and kind == '"' else [])
    for base in search:
        at = os.path.normpath(os.path.join(base, name))
        if os.path.exists(os.path.join(ROOT, at)):
            return os.path.dirname(at)
    return "libc"


def allowed(rule, target, name):
    if name in FREESTANDING:
        return True
    own = rule.split("/")
    if target == rule or target.startswith(rule + "/") and len(own) > 1:
        return True
    return any(target == a or target.startswith(a + "/") for a in ALLOWED[rule])


def main():
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h", "*.S"], cwd=ROOT,
                           capture_output=True, text=True, check=True).stdout.split()
    bad = checked = 0
    for path in files:
        full = os.path.join(ROOT, path)
        if not os.path.exists(full):
            continue
        rule = rule_of(path)
        if not rule:
            print("%s: no rule for this folder in tools/lint_layers.py" % path)
            bad += 1
            continue
        with open(full, encoding="utf-8") as f:
            text = f.read()
        for m in INCLUDE.finditer(text):
            checked += 1
            target = target_of(path, m.group(1), m.group(2))
            if not allowed(rule, target, m.group(2)):
                line = text.count("\n", 0, m.start()) + 1
                print("%s:%d: %s may not include %s (from %s)" % (path, line, rule, m.group(2), target))
                bad += 1
    print("%d includes in %d files, %d against the rules" % (checked, len(files), bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
