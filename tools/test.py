#!/usr/bin/python3
"""Runs the tests: test.py check|all [--build DIR].

check is the quick part: format, layers, Python syntax, feature table, unit and tool tests.  all is everything,
with sanitizers, fuzzers and boot tests; its last line is "N passed, N failed, N skipped", and its
exit status tells whether anything failed.
"""
import argparse
import glob
import os
import subprocess
import sys
import time

import results

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = "/usr/bin/python3"


class Run:
    def __init__(self, build):
        self.build = build
        self.rows = {}
        self.start = time.monotonic()

    def say(self, text):
        print("[%4d s] %s" % (time.monotonic() - self.start, text), flush=True)

    def record(self, suite, rows):
        self.rows.update({suite + ":" + n: o for n, o in rows.items()})
        results.save(self.build, suite, rows)

    def step(self, name, command):
        """A tool that says what is wrong and fails: one test by itself."""
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        ok = not done.returncode
        if not ok:
            print((done.stdout + done.stderr).rstrip())
        self.say("%-4s %s" % ("ok" if ok else "FAIL", name))
        self.record("check-" + name.replace(" ", "-"), {name.replace(" ", "-"): "pass" if ok else "fail"})

    def c_sources(self):
        out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h"], cwd=ROOT,
                             capture_output=True, text=True, check=True).stdout
        return [f for f in out.split() if os.path.exists(os.path.join(ROOT, f))]

    def checks(self):
        self.step("format", ["clang-format", "--dry-run", "-Werror", "--ferror-limit=1"] + self.c_sources())
        self.step("layers", [PYTHON, "tools/lint_layers.py"])
        self.step("python syntax", [PYTHON, "-c", SYNTAX])

    def features(self, how):
        self.step("feature table", [PYTHON, "tools/features.py", "--build", self.build, how])

    def meson(self, suites):
        """Build and run suites; each program's line shows as it ends."""
        log = "log-" + "-".join(suites)
        for old in glob.glob(os.path.join(ROOT, self.build, "meson-logs", log + ".*")):
            os.unlink(old)
        command = ["meson", "test", "-C", self.build, "--logbase", log, "--num-processes", "2", "--print-errorlogs"]
        for s in suites:
            command += ["--suite", s]
        done = subprocess.run(command, cwd=ROOT, check=False)
        found, failed = results.of_meson(os.path.join(ROOT, self.build), log)
        for suite in suites:
            rows = found.get(suite, {})
            if rows:
                self.record(suite, rows)
        if done.returncode and not failed:
            self.record(log, {log + "-build": "fail"})  # it did not even build
        for suite in suites:
            rows = found.get(suite, {})
            self.say("%-9s %s" % (suite, closing(rows)))

    def boot(self):
        command = [PYTHON, "tests/boot/run.py", "--build", self.build]
        done = subprocess.run(command, cwd=ROOT, check=False)
        rows = {}
        path = os.path.join(ROOT, self.build, "results", "boot.txt")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                rows = dict(line.rstrip("\n").rpartition(" ")[::2] for line in f)
        if done.returncode and "fail" not in rows.values():
            rows["boot.harness"] = "fail"
        self.record("boot", rows)
        self.say("boot      %s" % closing(rows))


def closing(rows):
    count = {"pass": 0, "fail": 0, "skip": 0}
    for outcome in rows.values():
        count[outcome] += 1
    return "%(pass)d passed, %(fail)d failed, %(skip)d skipped" % count


SYNTAX = """
import ast, os, sys
bad = 0
for folder in ("tools", "tests", "bench"):
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            if name.endswith(".py"):
                try:
                    ast.parse(open(path, encoding="utf-8").read(), path)
                except SyntaxError as e:
                    print(path, e)
                    bad = 1
ast.parse(open("quire", encoding="utf-8").read(), "quire")
sys.exit(bad)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["check", "all", "unit", "property", "asan", "tsan", "model", "fuzz", "tool", "sim", "malloc", "boot"])
    parser.add_argument("--build", default="build")
    args = parser.parse_args()
    os.chdir(ROOT)
    run = Run(args.build)
    if args.what in ("check", "all"):
        run.checks()
    if args.what == "check":
        run.meson(["unit", "tool"])
    elif args.what == "all":
        run.say("building")
        if subprocess.run(["ninja", "-C", args.build, "--quiet"], check=False).returncode:
            run.record("build", {"build": "fail"})
        for suites in (["unit", "tool"], ["property"], ["asan"], ["tsan"], ["model"], ["fuzz"], ["sim"], ["malloc"]):
            run.meson(suites)
        run.boot()
    elif args.what == "boot":
        run.boot()
    else:
        run.meson([args.what])
    if args.what in ("check", "all"):
        run.features("--demand" if args.what == "all" else "--check")
    failed = sorted(n for n, o in run.rows.items() if o == "fail")
    for name in failed:
        print("failed: " + name)
    for name in sorted(n for n, o in run.rows.items() if o == "skip"):
        print("skipped: " + name)
    print(closing(run.rows))
    return 1 if failed or not run.rows else 0


if __name__ == "__main__":
    sys.exit(main())
