#!/usr/bin/python3
"""The frame table in nanoseconds: bench_frames.py [--build DIR] [--quick] [--svg FILE].

Quire, a textbook buddy and pages from every malloc that is installed run the same rows in turn, so that a busy machine
disturbs all; medians count.  Beside them stand figures that are quoted (bench/frame-quoted.tsv).  Tab-separated:

  row  ours  buddy  best pool  its name  best  ratio  goal  LLFree  how to repeat

best is the best measured peer, ratio ours over best.  Then how two threads scale, the bytes of metadata a frame, and the
random-reallocation experiment, whose curve goes to FILE.
"""
import argparse
import os
import statistics
import subprocess
import sys

import plot

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# name -> what is loaded before the C library; Debian's packages of scripts/setup.sh
POOLS = {
    "glibc": None,
    "mimalloc": "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}
SMALLER = {"churn", "churn_x2"}  # a pool holds less in these, so that its figure says something else
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
SCALED = [("order 0 pair", "pair_order0"), ("order 9 pair", "pair_order9"), ("fill", "fill"),
          ("free in order", "free_in_order"), ("random free and allocate", "churn")]


def library(name):
    """Where the dynamic loader finds it, or None.  Debian's mimalloc is named by its minor version, too."""
    for folder in LIBRARIES:
        for candidate in (name, name + ".0"):
            path = os.path.join(folder, candidate)
            if os.path.exists(path):
                return path
    return None


def mallocs(program):
    """{name: (program, what is loaded before)} of the mallocs that are here; and the names of those that are not."""
    paths = {name: library(preload) if preload else None for name, preload in POOLS.items()}
    missing = [name for name, preload in POOLS.items() if preload and not paths[name]]
    return {name: (program, path) for name, path in paths.items() if name not in missing}, missing


def subjects(build):
    """{name: (command, what is loaded before)} of what can run here; and the names of what is missing."""
    def place(program):
        return os.path.join(build, "bench", program)

    found, missing = mallocs(place("frame_pool"))
    return {"quire": (place("frame_bench"), None), "buddy": (place("frame_buddy"), None), **found}, missing


def run_once(command, preload):
    env = dict(os.environ, LD_PRELOAD=preload) if preload else None
    done = subprocess.run([os.path.join(ROOT, command)], env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit("%s failed" % command)
    return {row: float(ns) for row, ns in (line.split("\t") for line in done.stdout.splitlines())}


def measure(found, rounds):
    """{name: {row: median}}, all in turn."""
    seen = {name: {} for name in found}
    for r in range(rounds):
        for name, (command, preload) in found.items():
            if r and name in POOLS and r % 3:
                continue  # a malloc is slower by far: a third of the rounds says as much
            for row, ns in run_once(command, preload).items():
                seen[name].setdefault(row, []).append(ns)
    return {name: {row: statistics.median(ns) for row, ns in rows.items()} for name, rows in seen.items()}


def quoted():
    with open(os.path.join(ROOT, "bench", "frame-quoted.tsv"), encoding="utf-8") as f:
        lines = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
    return [dict(zip(lines[0], line)) for line in lines[1:]]


def table(medians, build):
    print("row\tours\tbuddy\tpool\twhich\tbest\tratio\tgoal\tLLFree*\trepeat with")
    for q in quoted():
        row = q["row"]
        ours, buddy = medians["quire"][row], medians["buddy"][row]
        pool, name = min((m[row], n) for n, m in medians.items() if n in POOLS)
        best = buddy if row in SMALLER else min(buddy, pool)
        pool, name = ("-", "-") if row in SMALLER else ("%.1f" % pool, name)
        print("%s\t%.1f\t%.1f\t%s\t%s\t%.1f\t%.2f\t%s\t%s\t%s %s" % (
            q["what"], ours, buddy, pool, name, best, ours / best, q["goal"], q["LLFree"],
            os.path.join(build, "bench", "frame_bench"), row))
    print("* quoted from bench/frame-quoted.tsv, which names source and machine, not measured here")


def pools(medians):
    names = [n for n in POOLS if n in medians]
    print("\nall pools (aligned_alloc; 256 MiB where the others hold 8 GiB)\t" + "\t".join(names))
    for q in quoted():
        print("%s\t%s" % (q["what"], "\t".join("%.1f" % medians[n][q["row"]] for n in names)))


def scaling(medians):
    print("\ntwo threads do this many times the work of one\tours\tbuddy\tgoal")
    for what, row in SCALED:
        print("%s\t%.2f\t%.2f\t1.9" % (what, *(2 * medians[n][row] / medians[n][row + "_x2"] for n in ("quire", "buddy"))))


def metadata(medians, build):
    print("\nmetadata, bytes a frame\tours\tgoal\tLLFree*")
    print("the allocator's own\t%.3f\t0.15\t0.142" % medians["quire"]["metadata"])
    print("struct page\t32\t32\tLinux*: 64")
    print("\nmuch memory, only metadata touched; repeat with %s 8 128 1024" % os.path.join(build, "bench", "huge_machine"), flush=True)
    subprocess.run([os.path.join(ROOT, build, "bench", "huge_machine"), "8", "128", "1024"], check=True)


def experiment(build, svg):
    command = os.path.join(build, "bench", "frame_again")
    done = subprocess.run([os.path.join(ROOT, command)], stdout=subprocess.PIPE, text=True, check=True)
    rounds = [[float(v) for v in line.split("\t")] for line in done.stdout.splitlines()]
    print("\nfree memory in whole 2 MiB blocks, %%, half of memory held; repeat with %s" % command)
    print("after rounds of reallocating a tenth\tours\tbuddy\tgoal\tLLFree*")
    for r, ours, buddy in rounds:
        if r in (0, 1, 2, 5, 10, 20, 50, 100):
            print("%d\t%.1f\t%.1f\t%s\t%s" % (r, ours, buddy, "94" if r == 100 else "-", "94" if r == 100 else "-"))
    if svg:
        picture = plot.lines("Huge pages come back by themselves",
                             "Half of 4 GiB held in single frames, scattered; each round frees and allocates a random tenth of them",
                             "rounds", "free memory in whole 2 MiB blocks, %",
                             [("Quire", [(r, a) for r, a, _ in rounds], (50, 40)),
                              ("textbook buddy", [(r, b) for r, _, b in rounds], (99, 3))],
                             (0, 100), (94, "LLFree after 100 rounds: 94 %"))
        os.makedirs(os.path.dirname(svg) or ".", exist_ok=True)
        with open(svg, "w", encoding="utf-8") as f:
            f.write(picture)
        print("picture: %s" % os.path.relpath(svg))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 7")
    parser.add_argument("--svg", help="draw the curve of the experiment here (default: BUILD/bench/frames-again.svg)")
    args = parser.parse_args()
    programs = ["bench/" + n for n in ("frame_bench", "frame_buddy", "frame_pool", "frame_again", "huge_machine")]
    subprocess.run(["ninja", "-C", os.path.join(ROOT, args.build), "--quiet"] + programs, check=True)
    found, missing = subjects(args.build)
    for name in missing:
        print("skipped: %s is not installed (sh scripts/setup.sh bench)" % name)
    medians = measure(found, 3 if args.quick else 7)
    table(medians, args.build)
    pools(medians)
    scaling(medians)
    sys.stdout.flush()
    metadata(medians, args.build)
    experiment(args.build, args.svg or os.path.join(ROOT, args.build, "bench", "frames-again.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
