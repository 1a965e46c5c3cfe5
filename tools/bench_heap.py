#!/usr/bin/python3
"""The heap table in nanoseconds: bench_heap.py [--build DIR] [--quick] [--svg FILE] [ROW...].

libquire-malloc.so and every malloc that is installed run the same loop (bench/heap_malloc.c) through LD_PRELOAD, each row in
a process of its own, in turn, so that a busy machine disturbs all; medians count.  Beside them the kernel heap called
directly (bench/heap_bench.c).  Tab-separated:

  row  ours  glibc  mimalloc  jemalloc  tcmalloc  best rival  ratio to it  direct  goal  how to repeat

Then the geometric mean of ours over mimalloc's, and the highest ratio to the best of the rivals.  What rss measures is
memory, not time: it stands by itself.  Last, which misuse each malloc notices (bench/heap_misuse.c): "named" when it ends the
process and says why, "crash" when the process ends by a signal of the processor's, "-" when nothing happens.
"""
import argparse
import math
import os
import signal
import statistics
import subprocess
import sys

import plot
from bench_frames import POOLS, ROOT, mallocs

# row -> what it is, and the goal for ours, where there is one
ROWS = {
    "pair_16": ("allocate and free 16 B", None),
    "pair_64": ("allocate and free 64 B", 6.0),
    "pair_256": ("allocate and free 256 B", None),
    "pair_1024": ("allocate and free 1 KiB", None),
    "pair_4096": ("allocate and free 4 KiB", None),
    "pair_16384": ("allocate and free 16 KiB", None),
    "pair_65536": ("allocate and free 64 KiB", None),
    "fifo_64": ("1,000 of 64 B, first in first out", None),
    "lifo_64": ("1,000 of 64 B, last in first out", None),
    "fifo_512": ("1,000 of 512 B, first in first out", None),
    "lifo_512": ("1,000 of 512 B, last in first out", None),
    "random_1k": ("random, 8 B to 1 KiB, 1,000 live", None),
    "random_16k": ("random, 8 B to 16 KiB, 1,000 live", 10.5),
    "random_lifo_16k": ("1,000 of 8 B to 16 KiB, last in first out", 11.0),
    "bulk_get": ("1,000,000 of 64 B, allocate", 5.0),
    "bulk_put": ("1,000,000 of 64 B, free", 4.0),
    "remote_64": ("one thread allocates 64 B, another frees", 10.0),
    "pair_64_x2": ("two threads: allocate and free 64 B", None),
    "random_1k_x2": ("two threads: random to 1 KiB", None),
    "random_16k_x2": ("two threads: random to 16 KiB", None),
    "rss": ("memory over live after 80 % churn", 1.05),
}
OURS, DIRECT = "quire", "direct"


def subjects(build):
    """{name: (program, what is loaded before)}; and the names of what is missing."""
    malloc = os.path.join(build, "bench", "heap_malloc")
    found, missing = mallocs(malloc)
    return {OURS: (malloc, os.path.join(build, "libquire-malloc.so")), DIRECT: (os.path.join(build, "bench", "heap_bench"), None),
            **found}, missing


def run_once(program, preload, row):
    env = dict(os.environ)
    env.pop("LD_PRELOAD", None)
    if preload:
        env["LD_PRELOAD"] = os.path.join(ROOT, preload)
    done = subprocess.run([os.path.join(ROOT, program), row], env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit("%s %s failed under %s" % (program, row, preload or "the C library"))
    return float(done.stdout.split("\t")[1])


def measure(found, rows, rounds):
    """{name: {row: median}}."""
    seen = {name: {row: [] for row in rows} for name in found}
    for row in rows:
        for _ in range(rounds):
            for name, (program, preload) in found.items():
                seen[name][row].append(run_once(program, preload, row))
    return {name: {row: statistics.median(ns) for row, ns in values.items()} for name, values in seen.items()}


def best_of(medians, row):
    return min((m[row], name) for name, m in medians.items() if name in POOLS)


def show(medians, rows, build):
    rivals = [n for n in POOLS if n in medians]
    print("\t".join(["row", "ours"] + rivals + ["best", "ratio", "direct", "goal", "repeat with"]))
    for row in rows:
        what, goal = ROWS[row]
        best, name = best_of(medians, row)
        ours = medians[OURS][row]
        figures = ["%.2f" % v for v in [ours] + [medians[n][row] for n in rivals]]
        print("\t".join([what] + figures + [name, "%.2f" % (ours / best), "%.2f" % medians[DIRECT][row], "%s" % (goal or "-"),
                                            "LD_PRELOAD=%s %s %s" % (os.path.join(build, "libquire-malloc.so"),
                                                                     os.path.join(build, "bench", "heap_malloc"), row)]))


def closing(medians, rows):
    timed = [row for row in rows if row != "rss"]
    if "mimalloc" in medians and timed:
        ratios = [medians[OURS][row] / medians["mimalloc"][row] for row in timed]
        print("geometric mean of ours over mimalloc's: %.3f over %d rows (goal: below 1)"
              % (math.exp(sum(map(math.log, ratios)) / len(ratios)), len(ratios)))
    worst, row = max((medians[OURS][row] / best_of(medians, row)[0], row) for row in rows)
    print("highest ratio to the best of them: %.2f, %s (goal: 1.3)" % (worst, ROWS[row][0]))


def verdict(program, preload, kind):
    env = dict(os.environ, LD_PRELOAD=os.path.join(ROOT, preload)) if preload else dict(os.environ)
    done = subprocess.run([program, kind], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, timeout=60)
    if done.returncode == -signal.SIGABRT and done.stderr.strip():
        return "named"
    return "crash" if done.returncode else "-"


def show_misuse(found, build):
    program = os.path.join(ROOT, build, "bench", "heap_misuse")
    kinds = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    names = [OURS] + [n for n in POOLS if n in found]
    print("\t".join(["misuse"] + names + ["repeat with"]))
    for kind in kinds:
        print("\t".join([kind] + [verdict(program, found[n][1], kind) for n in names] +
                        ["LD_PRELOAD=%s %s %s" % (os.path.join(build, "libquire-malloc.so"), os.path.join(build, "bench", "heap_misuse"),
                                                  kind)]))


def picture(medians, rows):
    names = [OURS] + [n for n in POOLS if n in medians]
    return plot.bars("The kernel heap as a malloc", "nanoseconds an object, allocated and freed; shorter is better", [
        (ROWS[row][0], [(n if n != OURS else "Quire", medians[n][row]) for n in names]) for row in rows if row != "rss"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[]] + list(ROWS), default=[])
    parser.add_argument("--build", default="build")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    parser.add_argument("--svg", help="draw the table here (default: BUILD/bench/heap.svg)")
    args = parser.parse_args()
    rows = args.rows or list(ROWS)
    subprocess.run(["ninja", "-C", os.path.join(ROOT, args.build), "--quiet", "libquire-malloc.so", "bench/heap_malloc",
                    "bench/heap_bench", "bench/heap_misuse"], check=True)
    found, missing = subjects(args.build)
    for name in missing:
        print("skipped: %s is not installed (sh scripts/setup.sh bench)" % name)
    medians = measure(found, rows, 3 if args.quick else 9)
    show(medians, rows, args.build)
    closing(medians, rows)
    show_misuse(found, args.build)
    svg = args.svg or os.path.join(ROOT, args.build, "bench", "heap.svg")
    with open(svg, "w", encoding="utf-8") as f:
        f.write(picture(medians, rows))
    print("picture: %s" % os.path.relpath(svg))
    return 0


if __name__ == "__main__":
    sys.exit(main())
