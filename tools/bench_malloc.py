#!/usr/bin/python3
"""Programs of the world, with glibc's malloc and with libquire-malloc.so: bench_malloc.py [--build DIR] [--quick] [NAME...].

The programs of tests/malloc/programs.py in their full size (a 100 MB database and so on), in turn with each
malloc; what comes out must be equal.  Tab-separated: program, seconds of processor with glibc's and with ours, ratio, the
same for seconds on the clock (which say little on a busy machine).  Medians; ratios are of runs side by side.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "malloc"))
import programs  # noqa: E402 (the path must be set first)

GOAL = 1.05


def spent():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def timed(program, folder, preload):
    """(processor, clock, result)."""
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        cpu, clock = spent(), time.monotonic()
        result = program.run(inner, preload)
        return spent() - cpu, time.monotonic() - clock, result


def measure(kind, library, rounds, full):
    """For processor and clock: glibc's median, ours, and the median of the rounds' ratios; or why not."""
    with tempfile.TemporaryDirectory(prefix="quire-malloc-") as folder:
        program = kind(folder, full)
        missing = programs.absent(kind, program)
        if missing:
            return "%s is not installed" % missing
        seen, results = {programs.C_LIBRARY: [], library: []}, set()
        for r in range(rounds + 1):
            for preload, times in seen.items():
                cpu, clock, result = timed(program, folder, preload)
                results.add(result)
                if r:  # the first round fills the caches
                    times.append((cpu, clock))
        if len(results) != 1:
            raise programs.Wrong("%s: results differ" % kind.name)
        theirs, ours = seen.values()
        return [(statistics.median(t[i] for t in theirs), statistics.median(t[i] for t in ours),
                 statistics.median(o[i] / t[i] for t, o in zip(theirs, ours))) for i in (0, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [kind.__name__.lower() for kind in programs.ALL]
    parser.add_argument("names", nargs="*", choices=[[]] + names, default=[])
    parser.add_argument("--build", default="build")
    parser.add_argument("--quick", action="store_true", help="short versions, 3 rounds instead of 5")
    args = parser.parse_args()
    library = os.path.join(ROOT, args.build, "libquire-malloc.so")
    subprocess.run(["ninja", "-C", os.path.join(ROOT, args.build), "--quiet", "libquire-malloc.so"], check=True)
    print("program\tglibc\tours\tratio\tclock glibc\tours\tratio\tgoal\trepeat with")
    for kind, name in zip(programs.ALL, names):
        if args.names and name not in args.names:
            continue
        found = measure(kind, library, 3 if args.quick else 5, not args.quick)
        if isinstance(found, str):
            print("%s\tskipped: %s" % (kind.name, found))
            continue
        print("\t".join([kind.name] + ["%.2f\t%.2f\t%.3f" % part for part in found] +
                        ["%.2f" % GOAL, "tools/bench_malloc.py " + name]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
