#!/usr/bin/python3
"""Shows that the simulator finds planted bugs: canary.py [NAME...] [--jobs N] [--time S] [--json FILE].

Each file of tests/canaries is a patch with one bug.  It is applied to a copy of the sources, the
simulator is built of that, and runs from fresh seeds until it finds something; several times, for the
median of the seeds and seconds that it took.  What it finds must be of a kind that the patch
announces.  The sources as they are must be found clean by the same command.

A patch that names a test (Test: program function) is for that one: the program is built and run instead,
and that function of it must fail, which with the sources as they are must pass.

The last line is "found F of C"; the status is 0 if all were found and the sources are clean.
"""
import argparse
import dataclasses
import glob
import json
import os
import queue
import re
import secrets
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join("tests", "canaries")
TARGET = "tools/sim/quire-sim"
CONTROL = "(no bug)"
GRACE = 30  # seconds that a run may take longer than it was told, to write its report

# What the simulator can say that it found; a header that names anything else is wrong.
KINDS = {
    "stale-tlb": "a TLB translates to a frame that is freed",
    "stale-walk-cache": "a walk cache leads to a table that is freed",
    "stale-root": "the root that a CPU has loaded is freed",
    "freed-frame": "a walk ended at a frame that is free",
    "freed-table": "a walk went through a table that is free",
    "bad-root": "a CPU loaded what is no root",
    "use-after-free": "memory was read or written after it was freed",
    "double-free": "memory was freed that is free",
    "double-alloc": "memory was handed out that is in use",
    "leak": "at rest something is missing, or was never freed",
    "content": "a read returned what the model of bytes does not have there",
    "status": "a call answered what the model does not allow",
    "verify": "a structure breaks an invariant, or a count is wrong",
    "panic": "the library itself stopped: a check of misuse or an assertion",
    "race": "nothing orders two plain accesses, one of them a write",
    "mixed-race": "the same, one of them atomic",
    "weak-memory": "a load returned what another order of stores would not allow",
    "lock-order": "locks are taken against their order",
    "lock-recursion": "a lock is taken inside another of its class",
    "lock-not-held": "a lock is released by who does not hold it",
    "lock-leak": "a task ends with a lock",
    "irq-unsafe": "a lock of interrupt handlers is taken with interrupts on",
    "sleep-in-atomic": "a sleep with preemption or interrupts off",
    "unpinned-cpu": "the number of the CPU was asked for with preemption on",
    "deadlock": "nobody can go on",
    "no-progress": "somebody waits longer than anything can take",
    "hang": "a run does not end",
    "unnoticed": "a misuse that was planted passes",
    "misreport": "a misuse that was planted is called another, or that of another object",
    "crash": "a run got a signal",
    "test": "the test that the patch names failed",
}


# ---- Patches ----


@dataclasses.dataclass
class Canary:
    name: str
    path: str
    title: str
    expect: tuple
    options: tuple
    test: tuple  # program, function; empty: for the simulator


def read(path):
    """The canary in a patch file, from the text in front of the first difference."""
    with open(path, encoding="utf-8") as f:
        header = re.split(r"^--- a/", f.read(), maxsplit=1, flags=re.M)[0]
    fields = dict(re.findall(r"^(Breaks|Expect|Needs|Run|Test): *(.+)$", header, re.M))
    expect = tuple(k.strip() for k in fields.get("Expect", "").split(",") if k.strip())
    return Canary(name=os.path.basename(path)[: -len(".patch")], path=path, title=header.split("\n", 1)[0],
                  expect=expect, options=tuple(shlex.split(fields.get("Run", ""))),
                  test=tuple(fields.get("Test", "").split()))


def all_canaries(root=ROOT):
    return [read(p) for p in sorted(glob.glob(os.path.join(root, FOLDER, "*.patch")))]


def choose(canaries, names):
    """Those named by number, by name, or by file; all if none is named."""
    chosen = []
    for name in names:
        short = os.path.basename(name)
        short = short[: -len(".patch")] if short.endswith(".patch") else short
        fits = [c for c in canaries if short in (c.name, c.name.partition("-")[0], c.name.partition("-")[2])]
        if not fits:
            raise SystemExit("canary: there is no canary %r (--list shows them)" % name)
        chosen += fits
    return chosen if names else canaries


def patch(tree, canary, *options):
    """What patch(1) complains of; empty: it was applied."""
    done = subprocess.run(["patch", "-p1", "--fuzz=0", "--batch", "--no-backup-if-mismatch", "--reject-file=-", *options,
                           "-d", tree, "-i", os.path.abspath(canary.path)], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip() if done.returncode else ""


def has_test(test):
    """Whether the program has a source with that function."""
    if len(test) != 2:
        return False
    stem = test[0].partition("-")[0]
    for path in glob.glob(os.path.join(ROOT, "tests", "*", stem + ".c")) + glob.glob(os.path.join(ROOT, "tests", "*", stem + "_test.c")):
        with open(path, encoding="utf-8") as f:
            if re.search(r"^static void %s\(void \*\*state\)$" % re.escape(test[1]), f.read(), re.M):
                return True
    return False


def problems(canary, tree=ROOT):
    """What is wrong with a canary's file: lines, none if it applies to the sources and says all it must."""
    wrong = ["%s: unknown kind %r in Expect" % (canary.name, k) for k in canary.expect if k not in KINDS]
    if not canary.expect:
        wrong.append("%s: no line 'Expect: kind[, kind]'" % canary.name)
    if canary.test and (canary.expect != ("test",) or canary.options):
        wrong.append("%s: with 'Test' goes 'Expect: test', and no 'Run'" % canary.name)
    if canary.test and not has_test(canary.test):
        wrong.append("%s: there is no test %r" % (canary.name, " ".join(canary.test)))
    said = patch(tree, canary, "--dry-run", "--forward")
    return wrong + (["%s does not apply:\n%s" % (canary.name, said)] if said else [])


# ---- One run of the simulator: the only place that knows what it prints ----


@dataclasses.dataclass
class Outcome:
    kind: str  # "": clean
    text: str
    repeat: str
    seeds: int
    points: int
    seconds: float


def outcome(status, out, seconds):
    """What a run of quire-sim that ended with this status, after so many seconds, has found."""
    found = re.findall(r"^finding: ([a-z-]+): *(.*)$", out, re.M)
    repeat = re.findall(r"^repeat: (.*)$", out, re.M)
    sums = re.findall(r"^runs (\d+) points (\d+)\b.* seconds ([\d.]+)", out, re.M)
    runs, points, spent = sums[-1] if sums else (0, 0, seconds)
    kind, text = found[-1] if found else ("", "")
    if status == 2:
        raise RuntimeError("quire-sim does not understand its options:\n" + out[-2000:])
    if status < 0 or status > 2:
        kind, text = kind or "crash", text or "the simulator ended with status %d" % status
    elif status == 1 and not kind:
        raise RuntimeError("quire-sim failed without a finding:\n" + out[-2000:])
    elif status == 0 and kind:
        raise RuntimeError("quire-sim has a finding, and ended as if it had none:\n" + out[-2000:])
    return Outcome(kind, text, repeat[-1] if repeat else "", int(runs), int(points), float(spent))


def outcome_of_test(test, status, out, seconds):
    """What a test program that ended so has found: whether its function failed, or ended it."""
    program, function = test
    began = re.findall(r"^\[ RUN +\] (\w+)", out, re.M)
    passed = re.findall(r"^\[ +OK +\] (\w+)", out, re.M)
    failed = re.findall(r"^\[ +FAILED +\] (\w+)$", out, re.M)
    if function not in began:
        raise RuntimeError("%s: %s did not run:\n%s" % (program, function, out[-2000:]))
    # a crash leaves no line, and who does not end neither
    if began[-1] not in passed + failed:
        failed.append(began[-1])
    if bool(status) != bool(failed):
        raise RuntimeError("%s ended with status %d:\n%s" % (program, status, out[-2000:]))
    if function in failed:
        return Outcome("test", "%s failed" % function, program, 1, 0, seconds)
    return Outcome("", "", "", 1, 0, seconds)


# ---- Trees: copies of the sources in which patches come and go ----


def not_sources(folder, names):
    """What a copy of the sources does without: build folders, git's."""
    return [n for n in names if n in (".git", "__pycache__") or os.path.isdir(os.path.join(folder, n, "meson-info"))]


class Tree:
    """A copy of the sources and a build folder.  Only what a patch touches is built again."""

    def __init__(self, folder, jobs):
        self.source = os.path.join(folder, "source")
        self.build = os.path.join(folder, "build")
        self.findings = os.path.join(folder, "findings")
        self.jobs = jobs
        shutil.copytree(ROOT, self.source, ignore=not_sources)
        self.command(["meson", "setup", self.build, self.source])

    def command(self, command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError("%s:\n%s" % (" ".join(command), done.stdout[-4000:]))

    def make(self, target):
        self.command(["ninja", "-C", self.build, "-j", str(self.jobs), target])

    def put(self, canary):
        said = patch(self.source, canary, "--forward")
        if said:
            raise RuntimeError("%s does not apply:\n%s" % (canary.name, said))

    def take(self, canary):
        said = patch(self.source, canary, "--reverse")
        if said:
            raise RuntimeError("%s cannot be taken back:\n%s" % (canary.name, said))

    def run(self, options, seed, limit):
        """Run until a finding or the limit."""
        command = [os.path.join(self.build, TARGET), "--seed", str(seed), "--time", str(limit), "--stop-at-first",
                   "--no-shrink", "--out", self.findings, *options]
        start = time.monotonic()
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                  timeout=limit + GRACE, check=False)
        except subprocess.TimeoutExpired as e:
            raise RuntimeError("%s did not end" % " ".join(command)) from e
        return outcome(done.returncode, done.stdout, time.monotonic() - start)

    def run_test(self, test, limit):
        program = os.path.join(self.build, "tests", test[0])
        # the first function that fails ends it: those behind might wait for what it has left
        environment = dict(os.environ, QUIRE_TEST_ROOT=self.source, CMOCKA_TEST_ABORT="1")
        start = time.monotonic()
        try:
            done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
                                  timeout=limit + GRACE, check=False)
            status, out = done.returncode, done.stdout
        except subprocess.TimeoutExpired as e:
            status, out = 1, e.stdout or b""
        return outcome_of_test(test, status, out.decode(errors="replace"), time.monotonic() - start)


# ---- Canaries one after the other ----


@dataclasses.dataclass
class Row:
    name: str
    expect: tuple
    found: bool
    kinds: tuple  # of each repetition; "" if nothing was found
    hits: int
    seeds: float
    seconds: float
    note: str


def judge(name, expect, outcomes):
    """Found: most repetitions have found it, and what they found is of a kind that was announced."""
    hits = [o for o in outcomes if o.kind in expect]
    others = [o for o in outcomes if o.kind and o.kind not in expect]
    found = 2 * len(hits) > len(outcomes)
    note = "; ".join("%s: %s [%s]" % (o.kind, o.text, o.repeat) for o in others[:1])
    return Row(name, expect, found, tuple(o.kind for o in outcomes), len(hits),
               statistics.median(o.seeds for o in hits) if hits else 0,
               statistics.median(o.seconds for o in hits) if hits else 0, note)


def judge_control(outcomes):
    """Clean: no repetition has found anything; seeds and seconds are sums."""
    bad = [o for o in outcomes if o.kind]
    note = "; ".join("%s: %s [%s]" % (o.kind, o.text, o.repeat) for o in bad[:1])
    if not bad and not all(o.seeds for o in outcomes):
        note = "the simulator ran no seed"
    return Row(CONTROL, (), not note, tuple(o.kind for o in outcomes), len(outcomes) - len(bad),
               sum(o.seeds for o in outcomes), sum(o.seconds for o in outcomes), note)


class Session:
    def __init__(self, args, canaries):
        self.args = args
        self.work = queue.Queue()
        self.rows = []
        self.lock = threading.Lock()
        self.failed = ""  # why there is no simulator
        self.start = time.monotonic()
        self.width = max([len(c.name) for c in canaries] + [len(CONTROL)])
        # every set of options, and every test, that a canary runs with must be clean without it
        for options, test in sorted({(c.options, c.test) for c in canaries}):
            self.work.put((None, options, test))
        for c in canaries:
            self.work.put((c, c.options, c.test))

    def repeat(self, tree, options, test):
        """Repetitions, from seeds so far apart that no two meet."""
        if test:
            return [tree.run_test(test, self.args.time) for _ in range(self.args.repeat)]
        seeds = [(self.args.seed + (i << 40)) & (2**64 - 1) for i in range(self.args.repeat)]
        return [tree.run(options, s, self.args.time) for s in seeds]

    def one(self, tree, canary, options, test):
        target = "tests/" + test[0] if test else TARGET
        if canary is None:
            tree.make(target)
            return judge_control(self.repeat(tree, options, test))
        tree.put(canary)
        try:
            tree.make(target)
            return judge(canary.name, canary.expect, self.repeat(tree, options, test))
        finally:
            tree.take(canary)

    def say(self, row):
        kinds = sorted(set(k or "nothing" for k in row.kinds)) or ["-"]
        expected = " (expected: %s)" % ", ".join(row.expect) if row.expect and not row.found else ""
        if not row.kinds:
            word = "broken"
        elif row.name == CONTROL:
            word = "clean" if row.found else "FOUND"
        else:
            word = "found" if row.found else "MISSED"
        print("[%4d s] %-*s %-6s %d/%d %8g %8.1f  %s%s" % (
            time.monotonic() - self.start, self.width, row.name, word, row.hits, len(row.kinds), row.seeds, row.seconds,
            ", ".join(kinds), expected), flush=True)
        if row.note:
            print("         " + row.note, flush=True)

    def worker(self, folder, jobs):
        try:
            tree = Tree(folder, jobs)
        except (RuntimeError, OSError) as e:
            self.failed = str(e)
            return
        while True:
            try:
                canary, options, test = self.work.get_nowait()
            except queue.Empty:
                return
            name = canary.name if canary else CONTROL
            try:
                row = self.one(tree, canary, options, test)
            except (RuntimeError, OSError) as e:
                row = Row(name, canary.expect if canary else (), False, (), 0, 0, 0, str(e))
            with self.lock:
                self.rows.append(row)
                self.say(row)

    def all(self, folder):
        jobs = max(1, self.args.jobs)
        print("[   0 s] %-*s        hits    seeds  seconds  kinds   (medians; base seed %d)" % (
            self.width, "canary", self.args.seed), flush=True)
        threads = [threading.Thread(target=self.worker, args=(os.path.join(folder, str(i)), max(1, 2 // jobs)), daemon=True)
                   for i in range(jobs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


def write_json(path, rows, seed):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"seed": seed, "rows": [dataclasses.asdict(r) for r in rows]}, f, indent=1)
        f.write("\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="number, name or file of a canary; none: all")
    parser.add_argument("--jobs", type=int, default=2, help="canaries at a time (2)")
    parser.add_argument("--time", type=int, default=60, help="seconds that one search may take (60)")
    parser.add_argument("--repeat", type=int, default=3, help="searches for each canary (3)")
    parser.add_argument("--seed", type=int, default=None, help="base seed; default: a fresh one")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE")
    parser.add_argument("--list", action="store_true", help="show the canaries, run nothing")
    parser.add_argument("--check", action="store_true", help="only see whether every patch applies")
    args = parser.parse_args()
    if args.jobs < 1 or args.time < 1 or args.repeat < 1:
        parser.error("--jobs, --time and --repeat are at least 1")
    if args.seed is None:
        args.seed = secrets.randbits(32)
    return args


def main():
    args = arguments()
    canaries = choose(all_canaries(), args.names)
    if args.list:
        for c in canaries:
            print("%s\n    %s\n    %s" % (c.name, c.title, ", ".join(c.expect)))
        return 0
    wrong = [line for c in canaries for line in problems(c)]
    if wrong or not canaries:
        print("\n".join(wrong or ["canary: no patches in " + FOLDER]))
        return 1
    if args.check:
        print("%d canaries apply" % len(canaries))
        return 0
    session = Session(args, canaries)
    with tempfile.TemporaryDirectory(prefix="quire-canary-") as folder:
        session.all(folder)
    if session.failed:
        print("canary: the sources cannot be built:\n" + session.failed)
    rows = sorted(session.rows, key=lambda r: r.name)
    if args.json:
        write_json(args.json, rows, args.seed)
    controls = [r.found for r in rows if r.name == CONTROL]
    clean = bool(controls) and all(controls)
    found = sum(r.found for r in rows if r.name != CONTROL)
    if not clean:
        print("the sources without a bug are not clean")
    print("found %d of %d" % (found, len(canaries)))
    return 0 if clean and found == len(canaries) else 1


if __name__ == "__main__":
    sys.exit(main())
