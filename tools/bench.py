#!/usr/bin/python3
"""Measurements: bench.py frames|icount|all [--build DIR] [--quick].

icount counts the instructions of each memory operation on the reference kernel and sets them beside Linux's
(bench/linux-6.1-icount.tsv): tab-separated row, ours, Linux, ratio; last line "geomean G over N rows".
frames is the table of frame allocators in nanoseconds (tools/bench_frames.py).  all is both and the benchmarks
bench/*_bench.c that are left, each under its name.  --quick: fewer repetitions.
"""
import argparse
import glob
import math
import os
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


def icount(build):
    command = [os.path.join(ROOT, "quire"), "run", "--icount", "--mem", "1G", "--timeout", "580", "--kernel",
               os.path.join(build, "quire-kernel.elf"), "--", os.path.join(build, "bench", "icount")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(done.stdout, end="")
        sys.exit("the benchmark ended with status %d" % done.returncode)
    ours = read_table(done.stdout)
    with open(os.path.join(ROOT, "bench", "linux-6.1-icount.tsv"), encoding="utf-8") as f:
        linux = read_table(f.read())
    print("row\tours\tLinux\tratio")
    ratios = []
    for name, theirs in linux.items():
        mine = ours.get(name)
        if mine is None:
            print("%s\tskip\t%.2f\t-" % (name, theirs))
            continue
        ratios.append(mine / theirs)
        print("%s\t%.2f\t%.2f\t%.3f" % (name, mine, theirs, mine / theirs))
    if not ratios:
        sys.exit("no row was measured")
    print("geomean %.3f over %d rows" % (math.exp(sum(map(math.log, ratios)) / len(ratios)), len(ratios)))


def frames(build, quick):
    command = [sys.executable, os.path.join(ROOT, "tools", "bench_frames.py"), "--build", build]
    if subprocess.run(command + ["--quick"] * quick, check=False).returncode:
        sys.exit("the frame table failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["frames", "icount", "all"])
    parser.add_argument("--build", default="build")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    build = os.path.join(ROOT, args.build)
    if args.what in ("frames", "all"):
        print("== frame allocators (ns)", flush=True)
        frames(args.build, args.quick)
    if args.what == "frames":
        return 0
    if args.what == "all":
        names = sorted(os.path.splitext(os.path.basename(f))[0] for f in glob.glob(os.path.join(ROOT, "bench", "*_bench.c"))
                       if not f.endswith("frame_bench.c"))
        subprocess.run(["ninja", "-C", build, "--quiet"] + ["bench/" + n for n in names], check=True)
        for name in names:
            program = os.path.join(args.build, "bench", name)
            print("== %s (ns; reproduce with %s)" % (name, program), flush=True)
            if subprocess.run([os.path.join(ROOT, program)], check=False).returncode:
                sys.exit("%s failed" % program)
        print("== instructions of memory operations, beside Linux 6.1 (reproduce with make bench-icount)", flush=True)
    icount(build)
    return 0


if __name__ == "__main__":
    sys.exit(main())
