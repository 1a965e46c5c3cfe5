#!/usr/bin/python3
"""Which lines of the library the unit and property tests execute, by layer: coverage.py [--lines].

Builds in build-coverage with gcc's --coverage and reads the result with gcov.  --lines also names the lines that no test
reaches.
"""
import glob
import gzip
import json
import os
import subprocess
import sys

from lint_layers import LAYERS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build-coverage")


def build_and_run():
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, ROOT, "-Db_coverage=true"], check=True, stdout=subprocess.DEVNULL)
    for old in glob.glob(os.path.join(BUILD, "**", "*.gcda"), recursive=True):
        os.unlink(old)
    subprocess.run(["meson", "test", "-C", BUILD, "--suite", "unit", "--suite", "property"], check=True)


def counts():
    """{file: {line: times}} of the sources below src, headers included."""
    found = {}
    data = glob.glob(os.path.join(BUILD, "libquire-hosted.a.p", "*.gcda")) + glob.glob(
        os.path.join(BUILD, "tests", "*.p", "*.gcda"))
    for path in data:
        out = subprocess.run(["gcov", "--json-format", "--stdout", path], cwd=BUILD, check=True, capture_output=True).stdout
        if out[:2] == b"\x1f\x8b":
            out = gzip.decompress(out)
        for file in json.loads(out)["files"]:
            name = os.path.relpath(os.path.join(BUILD, file["file"]), ROOT)
            if name.startswith("src/"):
                lines = found.setdefault(name, {})
                for line in file["lines"]:
                    lines[line["line_number"]] = lines.get(line["line_number"], 0) + line["count"]
    return found


def main():
    build_and_run()
    found = counts()
    print("%-8s %8s %8s" % ("layer", "lines", "executed"))
    for layer in LAYERS:
        lines = [n for file, counted in found.items() if file.startswith("src/%s/" % layer) for n in counted.values()]
        if lines:
            print("%-8s %8d %7.1f%%" % (layer, len(lines), 100 * sum(n > 0 for n in lines) / len(lines)))
    if "--lines" in sys.argv:
        for file, counted in sorted(found.items()):
            missed = sorted(line for line, n in counted.items() if not n)
            if missed:
                print("%s: %s" % (file, " ".join(map(str, missed))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
