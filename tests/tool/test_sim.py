"""The simulator's command line: what it prints repeats, files are checked against what they expect."""
import os
import re
import subprocess
import sys
import unittest

from support import ROOT, Case

BUILD = os.environ.get("QUIRE_TEST_BUILD") or os.path.join(ROOT, "build")
SIM = os.path.join(BUILD, "tools", "sim", "quire-sim")

# A use of a frame after its end, in words of the text format.
MISUSE = "machine cpus=1 memory=16\ntask\n  frame_alloc slot=0\n  misuse_frame slot=0\n"
CLEAN = "machine cpus=2 memory=16\ntask\n  mmap at=0 n=4\n  write at=1\ntask\n  mmap at=9 n=2\n  write at=9\n"


@unittest.skipUnless(os.path.exists(SIM), "quire-sim is not built")
class Simulator(Case):
    def sim(self, *words):
        """(exit status, lines) of quire sim."""
        done = subprocess.run([sys.executable, os.path.join(ROOT, "quire"), "sim"] + list(words), text=True, cwd=self.scratch,
                              env=dict(os.environ, QUIRE_SIM=SIM), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=100, check=False)
        return done.returncode, done.stdout.splitlines()

    def summary(self, lines):
        """Runs, points and hash: all of the last line that does not depend on the host's speed."""
        found = re.match(r"runs (\d+) points (\d+) .*hash ([0-9a-f]{16})", lines[-1])
        self.assertTrue(found, lines[-1])
        return found.groups()

    def test_same_seed_same_hash(self):
        words = ["--runs", "3", "--ops", "20", "--cpus", "3"]
        status, first = self.sim("--seed", "77", *words)
        self.assertEqual(status, 0, first)
        _, second = self.sim("--seed", "77", "--jobs", "2", *words)
        _, other = self.sim("--seed", "78", *words)
        self.assertEqual(self.summary(first), self.summary(second))
        self.assertNotEqual(self.summary(first)[2], self.summary(other)[2])

    def test_first_line_repeats_the_run(self):
        _, first = self.sim("--runs", "2", "--ops", "15", "--groups", "heap,frames", "--no-weak")
        words = first[0].split()
        self.assertEqual(words[:3], ["quire", "sim", "--seed"])
        _, again = self.sim(*words[2:])
        self.assertEqual(first[0], again[0])
        self.assertEqual(self.summary(first), self.summary(again))

    def test_clean_file(self):
        status, lines = self.sim("--replay", self.file("clean.sim", CLEAN))
        self.assertEqual(status, 0, lines)

    def test_planted_finding_is_noticed(self):
        status, lines = self.sim("--replay", self.file("misuse.sim", MISUSE))
        self.assertEqual(status, 1, lines)
        found = [line for line in lines if line.startswith("finding: ")]
        self.assertTrue(found, lines)
        kind = found[-1].split(":")[1].strip()
        status, lines = self.sim("--replay", self.file("expected.sim", "expect finding=%s\n" % kind + MISUSE))
        self.assertEqual(status, 0, lines)

    def test_expected_finding_that_does_not_come(self):
        status, lines = self.sim("--replay", self.file("missed.sim", "expect finding=stale-tlb\n" + CLEAN))
        self.assertEqual(status, 1, lines)
        self.assertIn("missed: the finding stale-tlb was expected and did not come", lines)

    def test_other_finding_than_expected(self):
        status, lines = self.sim("--replay", self.file("other.sim", "expect finding=stale-tlb\n" + MISUSE))
        self.assertEqual(status, 1, lines)

    def test_exploration(self):
        path = self.file("clean.sim", "machine cpus=2 memory=16\ntask\n  frame_alloc slot=0\ntask\n  frame_alloc slot=0\n")
        status, lines = self.sim("--explore", path, "--preemptions", "1")
        self.assertEqual(status, 0, lines)
        self.assertEqual(lines[0], "0 switches: 1 schedules clean")
        count = int(re.match(r"1 switches: (\d+) schedules clean", lines[1]).group(1))
        self.assertGreater(count, 5)
        self.assertTrue(lines[2].startswith("explored %d schedules" % (count + 1)), lines)
        status, lines = self.sim("--explore", self.file("misuse.sim", MISUSE), "--out", self.path("out"))
        self.assertEqual(status, 1, lines)
        regression = [line.split(": ")[1] for line in lines if line.startswith("regression: ")]
        status, again = self.sim("--replay", regression[0])
        self.assertEqual(status, 1, again)

    def test_trace_prints_every_point(self):
        status, lines = self.sim("--replay", self.file("clean.sim", CLEAN), "--trace")
        self.assertEqual(status, 0)
        points = int(re.search(r"points (\d+)", lines[-1]).group(1))
        self.assertEqual(len([line for line in lines if re.match(r" *\d+ +CPU \d", line)]), points)

    def test_wrong_use(self):
        for words, message in ((["--cpus", "65"], "--cpus wants a number from 1 to 64, not '65'"),
                               (["--what"], "--what is no option"), (["--time"], "--time wants a value"),
                               (["--groups", "heap,control"], "--groups wants some of"),
                               (["--replay", "nothing.sim"], "nothing.sim: No such file"),
                               (["--replay", self.file("bad.sim", "task\n  mnap\n")], "bad.sim:2: 'mnap' is neither")):
            status, lines = self.sim(*words)
            self.assertEqual(status, 2, lines)
            self.assertIn(message, lines[-1])


if __name__ == "__main__":
    sys.exit(unittest.main())
