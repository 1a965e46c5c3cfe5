#!/usr/bin/python3
"""Measurements: bench.py frames|heap|malloc|icount|all [--build DIR] [--quick].

icount counts the instructions of each memory operation on the reference kernel and sets them beside Linux's
(bench/linux-6.1-frames.tsv, -heap.tsv and -areas.tsv for calls in the kernel itself, -ranges.tsv for the tree of ranges, bench/linux-6.1-icount.tsv for what
programs see): tab-separated row, ours, Linux, ratio; last line "geomean G over N rows".
frames is the table of frame allocators in nanoseconds (tools/bench_frames.py), heap that of heaps (tools/bench_heap.py), malloc
the programs of the world under libquire-malloc.so (tools/bench_malloc.py).  all is all of them.  --quick: fewer
repetitions.
"""
import argparse
import math
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def read_table(text):
    table = {}
    for line in text.splitlines():
        if line and not line.startswith(("#", "row\t")):
            name, value = line.split("\t")
            table[name] = None if value == "skip" else float(value)
    return table


def run_counted(build, options, program):
    """Standard output and log of a program under the instruction counter."""
    command = [os.path.join(ROOT, "quire"), "run", "--icount", "--mem", "1G", "--timeout", "580", "--kernel",
               os.path.join(build, "quire-kernel.elf")] + options + ["--", program]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE if options else None, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr or "", end="")
        sys.exit("the benchmark ended with status %d" % done.returncode)
    return done.stdout, done.stderr


def read_linux(name):
    with open(os.path.join(ROOT, "bench", name), encoding="utf-8") as f:
        return [line.rstrip("\n").split("\t") for line in f if not line.startswith(("#", "row\t"))]


def geomean(ratios):
    if not ratios:
        sys.exit("no row was measured")
    print("geomean %.3f over %d rows" % (math.exp(sum(map(math.log, ratios)) / len(ratios)), len(ratios)))


def icount(build):
    ours = read_table(run_counted(build, [], os.path.join(build, "bench", "icount"))[0])
    print("row\tours\tLinux\tratio")
    ratios = []
    for name, theirs in read_linux("linux-6.1-icount.tsv"):
        mine, theirs = ours.get(name), float(theirs)
        if mine is None:
            print("%s\tskip\t%.2f\t-" % (name, theirs))
            continue
        ratios.append(mine / theirs)
        print("%s\t%.2f\t%.2f\t%.3f" % (name, mine, theirs, mine / theirs))
    geomean(ratios)


def icount_calls(build, part):
    """Calls of a part of the library inside the kernel."""
    log = run_counted(build, ["--log", "--append", "quire.bench=" + part], "/bin/true")[1]
    beside_linux(part, dict(re.findall(r"quire: bench (\w+) ([\d.]+)", log)))


def icount_ranges(build):
    """The tree of address ranges, in a program: with the counter on, a nanosecond is an instruction."""
    beside_linux("ranges", read_table(run_counted(build, [], os.path.join(build, "bench", "gaps_bench"))[0]))


def beside_linux(part, ours):
    linux = read_linux("linux-6.1-%s.tsv" % part)
    print("row\tours\tLinux\tratio\tgoal")
    for name, theirs, goal in linux:
        if name not in ours:
            sys.exit("%s was not measured" % name)
        mine = float(ours.pop(name))
        print("%s\t%.2f\t%s\t%.3f\t%s" % (name, mine, theirs, mine / float(theirs), goal))
    for name, mine in ours.items():
        print("%s\t%s\t-\t-\t-" % (name, mine))


TABLES = {"frames": "frame allocators (ns)", "heap": "heaps (ns)", "malloc": "programs, with glibc's malloc and with ours (s)"}


def table(name, build, quick):
    print("== " + TABLES[name], flush=True)
    command = [sys.executable, os.path.join(ROOT, "tools", "bench_%s.py" % name), "--build", build]
    if subprocess.run(command + ["--quick"] * quick, check=False).returncode:
        sys.exit("the table failed: " + name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(TABLES) + ["icount", "all"])
    parser.add_argument("--build", default="build")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    build = os.path.join(ROOT, args.build)
    for name in TABLES:
        if args.what in (name, "all"):
            table(name, args.build, args.quick)
    if args.what in TABLES:
        return 0
    for part in ("frames", "heap", "areas"):
        print("== instructions of %s in the kernel, beside Linux 6.1 (reproduce with make bench-icount)" % part, flush=True)
        icount_calls(build, part)
    print("== instructions of a tree of address ranges, beside Linux 6.1's maple tree (reproduce with make bench-icount)", flush=True)
    icount_ranges(build)
    print("== instructions of memory operations, beside Linux 6.1", flush=True)
    icount(build)
    return 0


if __name__ == "__main__":
    sys.exit(main())
