#!/usr/bin/python3
"""Runs the boot tests: run.py [--build DIR] [--jobs N] [NAME...].  Outcomes go to BUILD/results/boot.txt.

Every test_NAME in the modules below is one, and so is every program of tests/guest (guests.py).  The
canary must fail; it shows that failures are noticed.
"""
import argparse
import concurrent.futures
import os
import sys
import tempfile
import time
import traceback

from harness import ROOT, Failure, Skip, Test

import guests
import kernel
import kernel_deferred
import kernel_heap
import kernel_hotplug
import kernel_memory
import kernel_migrate
import kernel_virtio
import programs

sys.path.insert(0, os.path.join(ROOT, "tools"))
import results  # noqa: E402


def collect(build):
    found = {}
    for module in (programs, kernel, kernel_deferred, kernel_heap, kernel_hotplug, kernel_memory, kernel_migrate, kernel_virtio,
                   guests):
        for name, function in vars(module).items():
            if name.startswith("test_"):
                found[name[5:]] = function
    found.update(guests.programs_of(build))
    return found


def run_one(name, function, build):
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quire-boot-") as scratch:
        try:
            function(Test(build, scratch))
            outcome, text = "pass", ""
        except Skip as e:
            outcome, text = "skip", str(e)
        except Failure as e:
            outcome, text = "fail", str(e)
        except Exception:
            outcome, text = "fail", traceback.format_exc()
    if name == "canary":
        outcome, text = ("pass", "") if outcome == "fail" else ("fail", "the canary did not fail")
    return name, outcome, text, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    build = os.path.join(ROOT, args.build)
    tests = collect(build)
    unknown = [n for n in args.names if n not in tests]
    if unknown:
        sys.exit("no such test: %s (there are: %s)" % (" ".join(unknown), " ".join(sorted(tests))))
    chosen = {n: f for n, f in tests.items() if not args.names or n in args.names}
    rows = {}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(run_one, n, f, build) for n, f in chosen.items()]
        for job in concurrent.futures.as_completed(jobs):
            name, outcome, text, seconds = job.result()
            rows["boot." + name] = outcome
            print("[ %8s ] boot.%s (%.1f s)" % ({"pass": "OK", "fail": "FAILED", "skip": "SKIPPED"}[outcome], name, seconds))
            if text:
                print("   " + text.replace("\n", "\n   "))
            sys.stdout.flush()
    if not args.names:
        results.save(build, "boot", rows)
    count = {k: list(rows.values()).count(k) for k in ("pass", "fail", "skip")}
    print("boot: %(pass)d passed, %(fail)d failed, %(skip)d skipped" % count)
    return 1 if count["fail"] or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
