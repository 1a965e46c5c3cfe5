#!/usr/bin/python3
"""The feature table: which test proves which row of features.tsv, and whether it passed.

A test names the rows that it proves in a comment with the word "proves:", directly above a test function (C in
tests/unit, tests/property, tests/malloc, tests/fuzz; Python in tests/), or for a guest program, a fuzzer and
a scenario of the simulator anywhere in its head.  A row is proved if at least one test names it and all tests that name it passed
when they last ran (BUILD/results).  A row whose same_as column names another shares that one's tests.  Words
like TRAP-4 name the traps of TRAPS below in the same way.

  features.py [--area AREA]   row, tests, status; last line "proved P of R rows".  Fails if a row that tests
                              name is not proved by them (skipped is neither)
  features.py --demand        the same, but shows only the rows on which it fails
  features.py --check         only: no comment names an unknown row or stands above no known test
"""
import argparse
import glob
import os
import re
import sys

import results

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROW = re.compile(r"[A-Z]+-\d+")
C_PROVES = re.compile(r"proves:([A-Z0-9,\s*-]*?)\*/\s*(?:static\s+)?(?:[A-Z_]+\s+)?void\s+(\w+)\s*\(", re.S)
ANY_PROVES = re.compile(r"proves:([^*\n]*(?:\n \*[A-Z0-9, -]*(?=\n))*)")
PY_PROVES = re.compile(r"#\s*proves:([^\n]*)\n(?:\s*#[^\n]*\n|\s*@[^\n]*\n)*\s*def\s+(\w+)")
MODELS = ("flat", "nodes", "sparse", "sparse_extreme")  # tests are run again in each memory model
TRAPS = {"TRAP-%d" % n for n in range(1, 21)}


def read_table():
    rows = []
    with open(os.path.join(ROOT, "features.tsv"), encoding="utf-8") as f:
        next(f)
        for line in f:
            rows.append(dict(zip(("id", "area", "same_as", "kind", "feature"), line.rstrip("\n").split("\t"))))
    return rows


def claims():
    """[(row, test name, file)] of all comments, and the errors met."""
    found, errors = [], []

    def take(text, test, path):
        for row in ROW.findall(text):
            found.append((row, test, path))

    for folder, prefix in (("unit", ""), ("property", ""), ("malloc", "malloc_")):
        for path in sorted(glob.glob(os.path.join(ROOT, "tests", folder, "*.c"))):
            text = open(path, encoding="utf-8").read()
            program = prefix + os.path.basename(path)[:-2]
            seen = 0
            for m in C_PROVES.finditer(text):
                seen += 1
                take(m.group(1), program + "." + m.group(2), path)
                if len(re.findall(r"\b%s\b" % m.group(2), text)) < 2:
                    errors.append("%s: %s proves rows but is not run" % (path, m.group(2)))
            if seen != text.count("proves:"):
                errors.append("%s: %d comments say \"proves:\", %d stand directly above a test function"
                              % (path, text.count("proves:"), seen))
    for folder, prefix in (("fuzz", ""), ("guest", "boot.")):
        for path in sorted(glob.glob(os.path.join(ROOT, "tests", folder, "*.c"))):
            text = open(path, encoding="utf-8").read()
            for m in ANY_PROVES.finditer(text):
                take(m.group(1), prefix + os.path.basename(path)[:-2], path)
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "sim", "*.sim"))):
        for text in re.findall(r"^# proves:([^\n]*)", open(path, encoding="utf-8").read(), re.M):
            take(text, os.path.basename(path)[:-4], path)
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "**", "*.py"), recursive=True)):
        text = open(path, encoding="utf-8").read()
        module = os.path.basename(path)[:-3]
        for m in PY_PROVES.finditer(text):
            name = m.group(2)[5:] if m.group(2).startswith("test_") and "boot" in path else m.group(2)
            take(m.group(1), ("boot." if "/boot/" in path else module + ".") + name, path)
    return found, errors


def built_with_options():
    """{test program: [programs built of the same source with other options]}, as tests/unit/meson.build says."""
    with open(os.path.join(ROOT, "tests", "unit", "meson.build"), encoding="utf-8") as f:
        pairs = re.findall(r"option_tests \+= \{'(\w+)': \['(\w+)'", f.read())
    also = {}
    for name, source in pairs:
        also.setdefault(source, []).append(name)
    return also


def status_of(tests, outcomes, also):
    """proved, failed, or why not."""
    if not tests:
        return "no test"
    got = []
    for test in tests:
        program, _, function = test.partition(".")
        names = [program] + also.get(program, []) + ["%s-%s" % (program, m) for m in MODELS]
        got += [outcomes.get(n + "." + function if function else n) for n in names]
    if "fail" in got:
        return "FAILED"
    if "pass" not in got:
        return "skipped" if "skip" in got else "not run"
    return "proved"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--area")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--demand", action="store_true")
    parser.add_argument("--build", default="build")
    args = parser.parse_args()
    table = read_table()
    known = {row["id"] for row in table}
    found, errors = claims()
    tests = {}
    for row, test, path in found:
        if row not in known and row not in TRAPS:
            errors.append("%s: proves %s, which is not in the table" % (os.path.relpath(path, ROOT), row))
        tests.setdefault(row, [])
        if test not in tests[row]:
            tests[row].append(test)
    for row in table:
        if row["same_as"] and row["same_as"] not in known:
            errors.append("features.tsv: %s is the same as %s, which does not exist" % (row["id"], row["same_as"]))
    if args.area and args.area not in {row["area"] for row in table}:
        errors.append("no such area: %s (there are: %s)" % (args.area, " ".join(sorted({r["area"] for r in table}))))
    for text in errors:
        print("error: " + text)
    if args.check:
        return 1 if errors else 0
    outcomes = results.load(os.path.join(ROOT, args.build))
    shown = [r for r in table if not args.area or r["area"] == args.area]
    also = built_with_options()
    proved = failed = 0
    # rows that are the same share their tests in both directions
    parent = {r["id"]: r["same_as"] or r["id"] for r in table}
    group = {}
    for row, names in tests.items():
        group.setdefault(parent.get(row, row), []).extend(names)
    for row in shown:
        names = sorted(set(tests.get(row["id"], []) + group.get(parent[row["id"]], [])))
        status = status_of(names, outcomes, also)
        proved += status == "proved"
        failed += status in ("FAILED", "not run")
        if args.demand and status not in ("FAILED", "not run"):
            continue
        print("%-6s %-9s %-8s %s\n       %s" % (row["id"], row["area"], status, row["feature"][:100],
                                             " ".join(names) or "-"))
    print("proved %d of %d rows" % (proved, len(shown)))
    return 1 if errors or failed else 0


if __name__ == "__main__":
    sys.exit(main())
