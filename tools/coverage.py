#!/usr/bin/python3
"""Which lines and branches of the library the tests execute, by layer: coverage.py [--brief].

Runs the unit and property tests, and those of the suite sim if there is one, in build-coverage, with SEED=1 unless the
environment says another, and reads with gcov what they did.  Prints what is missing (file, line, which outcome, the
source), then lines and branch outcomes by layer.

How branches are kept true to the source (gcc):

  -O0                         nothing is inlined, merged or split; each operand of && and || is a condition
  logical-op-non-short-circuit=0  gcc joins cheap operands of && even then
  __builtin_expect(c,e)=(c)   QI_CHECK(a && b) has two conditions; the builtin makes a third of the value of both
  always_inline=__unused__    a function is not repeated in its callers, with conditions that are constant there
  QUIRE_DEBUG=0               the default: QI_ASSERT, whose failing side no test can reach, is no branch
  -fprofile-update=atomic     threads lose no counts: gcov infers some outcomes from the counts of others

An outcome is one way out of a condition: two for an operand of if, while, ?:, && and ||, one for each target of a switch
(its default included, written or not).  Inline functions of headers are compiled into many objects; an outcome counts as
taken if any copy took it.  Copies are merged by file, line and index of the outcome.  The library for hosted programs says
how many outcomes a line of its functions has, if any; a copy of another shape (the simulated library has assertions and
events) is left out, and counted.

Nothing is excluded but what the compiler invents: outcomes that gcov marks as exceptions.  The failing side of QI_CHECK
counts as any other: reports of misuse are behaviour, which tests provoke.  A program that leaves by _exit() or is killed
writes no data unless it calls __gcov_dump().
"""
import collections
import concurrent.futures
import gzip
import json
import os
import subprocess
import sys

from lint_layers import LAYERS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build-coverage")
LIBRARY = "libquire-hosted.a.p"
OPTIONS = ["-Db_coverage=true", "-Doptimization=0", "-Dc_args=" + str(
    ["-fprofile-update=atomic", "--param=logical-op-non-short-circuit=0", "-D__builtin_expect(c,e)=(c)",
     "-Dalways_inline=__unused__"])]


def data_files():
    # not glob: names of objects from above their folder begin with dots
    return [os.path.join(folder, name) for folder, _, names in os.walk(BUILD) for name in names if name.endswith(".gcda")]


def suites():
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", BUILD], check=True, capture_output=True).stdout)
    present = {suite.split(":")[-1] for test in tests for suite in test["suite"]}
    return [suite for suite in ("unit", "property", "sim") if suite in present]


def build_and_run():
    """False if a test failed; what it executed counts nevertheless."""
    setup = ["configure", BUILD] if os.path.exists(os.path.join(BUILD, "build.ninja")) else ["setup", BUILD, ROOT]
    subprocess.run(["meson"] + setup + OPTIONS, check=True, stdout=subprocess.DEVNULL)
    for old in data_files():
        os.unlink(old)
    chosen = [word for suite in suites() for word in ("--suite", suite)]
    command = ["meson", "test", "-C", BUILD, "--timeout-multiplier", "4"] + chosen
    return not subprocess.run(command, env={"SEED": "1", **os.environ}).returncode


def gcov(path):
    out = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", path], cwd=BUILD, check=True,
                         capture_output=True).stdout
    return json.loads(gzip.decompress(out) if out[:2] == b"\x1f\x8b" else out)["files"]


class Coverage:
    """What the objects read so far executed of the sources below src, headers included."""

    def __init__(self):
        self.lines = collections.defaultdict(dict)     # {file: {line: was it executed}}
        self.branches = collections.defaultdict(dict)  # {file: {line: [was this outcome taken]}}
        self.functions = collections.defaultdict(set)  # {file: {(first line, last line)}} of the library
        self.invented = set()
        self.misshapen = set()

    def add(self, files, library):
        for file in files:
            name = os.path.relpath(os.path.join(BUILD, file["file"]), ROOT)
            if not name.startswith("src/"):
                continue
            if library:
                self.functions[name] |= {(f["start_line"], f["end_line"]) for f in file["functions"]}
            # a line is listed once for each function that it is part of
            for line in file["lines"]:
                at, executed = line["line_number"], line["count"] > 0
                if not library and at not in self.lines[name] and any(a <= at <= b for a, b in self.functions[name]):
                    self.misshapen.add((name, at))
                    continue
                self.lines[name][at] = self.lines[name].get(at, False) or executed
                self.invented |= {(name, at, i) for i, branch in enumerate(line["branches"]) if branch["throw"]}
                self.merge(name, at, [branch["count"] > 0 for branch in line["branches"] if not branch["throw"]])

    def merge(self, name, at, taken):
        known = self.branches[name].setdefault(at, [False] * len(taken))
        if len(taken) != len(known):
            self.misshapen.add((name, at))
            return
        for i, outcome in enumerate(taken):
            known[i] |= outcome


def read():
    data = sorted(data_files(), key=lambda path: (LIBRARY not in path, path))  # the library's shapes first
    found = Coverage()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for path, files in zip(data, pool.map(gcov, data)):
            found.add(files, LIBRARY in path)
    return found


def table(found):
    print("%-8s %8s %9s %10s %9s" % ("layer", "lines", "executed", "outcomes", "taken"))
    total = [0] * 4
    for layer in LAYERS:
        inside = "src/%s/" % layer
        lines = [n for file in found.lines if file.startswith(inside) for n in found.lines[file].values()]
        taken = [t for file in found.branches if file.startswith(inside) for ts in found.branches[file].values() for t in ts]
        if lines:
            row = [len(lines), sum(lines), len(taken), sum(taken)]
            total = [a + b for a, b in zip(total, row)]
            print_row(layer, row)
    print_row("total", total)
    print("left out: %d outcomes that the compiler invented, copies of %d lines with another shape" % (
        len(found.invented), len(found.misshapen)))


def print_row(name, row):
    lines, executed, outcomes, taken = row
    print("%-8s %8d %8.1f%% %10d %8.1f%%" % (name, lines, 100 * executed / lines, outcomes, 100 * taken / max(outcomes, 1)))


def missing_of(taken):
    """In words, which of the outcomes of a line were not taken; gcov lists that first which goes on below."""
    if not any(taken):
        return "never reached" if len(taken) == 2 else "never reached, %d outcomes" % len(taken)
    if len(taken) == 2:
        return "never goes on" if taken[1] else "never jumps"
    return "outcomes %s of %d" % (",".join(str(i + 1) for i, t in enumerate(taken) if not t), len(taken))


def missing(found):
    for layer in LAYERS:
        for file in sorted(file for file in found.lines if file.startswith("src/%s/" % layer)):
            with open(os.path.join(ROOT, file)) as source:
                text = source.read().split("\n")
            for at in sorted(set(found.lines[file])):
                taken = found.branches[file].get(at, [])
                if not all(taken):
                    print("%s:%d: %s: %s" % (file, at, missing_of(taken), text[at - 1].strip()))
                elif not found.lines[file][at]:
                    print("%s:%d: not executed: %s" % (file, at, text[at - 1].strip()))


def main():
    passed = build_and_run()
    found = read()
    if "--brief" not in sys.argv:
        missing(found)
        print()
    table(found)
    if not passed:
        print("a test failed: see above")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
