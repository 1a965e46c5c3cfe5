"""The canaries: that every patch applies to the sources of today, and how their findings are judged."""
import os
import re
import shutil
import sys
import unittest

from support import ROOT, Case

import canary


class Patches(Case):
    def test_every_canary_applies_and_says_what_to_expect(self):
        self.assertEqual([line for c in canary.all_canaries() for line in canary.problems(c)], [])

    def test_there_are_enough_and_each_is_a_bug_of_its_own(self):
        found = canary.all_canaries()
        self.assertGreaterEqual(len(found), 32)
        self.assertEqual(len({c.name.partition("-")[0] for c in found}), len(found))
        self.assertEqual(len({c.title for c in found}), len(found))

    def test_patches_touch_the_library_only(self):
        """A canary in a test or in the simulator would prove nothing."""
        for c in canary.all_canaries():
            with open(c.path, encoding="utf-8") as f:
                for line in f:
                    if line.startswith("+++ "):
                        self.assertTrue(line.startswith("+++ b/src/"), c.name)

    def test_a_patch_that_does_not_apply_is_told(self):
        first = canary.all_canaries()[0]
        with open(first.path, encoding="utf-8") as f:
            text = f.read()
        lines = ["-    /* was changed */" if re.match("-(?!--)", line) else line for line in text.split("\n")]
        broken = canary.read(self.file("01-broken.patch", "\n".join(lines)))
        self.assertIn("does not apply", "\n".join(canary.problems(broken)))

    def test_an_unknown_kind_is_told(self):
        first = canary.all_canaries()[0]
        path = self.path("02-kind.patch")
        shutil.copy(first.path, path)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("Expect: ", "Expect: bad-luck, "))
        self.assertIn("bad-luck", "\n".join(canary.problems(canary.read(path))))

    def test_a_test_that_does_not_exist_is_told(self):
        with_test = next(c for c in canary.all_canaries() if c.test)
        with open(with_test.path, encoding="utf-8") as f:
            text = f.read()
        for wrong in ("heap_guard_test no_such_function", "no_such_test setup", "heap_guard_test"):
            broken = canary.read(self.file("03-test.patch", re.sub("^Test: .*$", "Test: " + wrong, text, flags=re.M)))
            self.assertIn("there is no test", "\n".join(canary.problems(broken)))
        broken = canary.read(self.file("03-test.patch", re.sub("^Expect: .*$", "Expect: panic", text, flags=re.M)))
        self.assertIn("'Expect: test'", "\n".join(canary.problems(broken)))

    def test_applying_and_taking_back_leaves_the_sources_as_they_were(self):
        shutil.copytree(os.path.join(ROOT, "src"), self.path("src"))
        first = canary.all_canaries()[0]
        self.assertEqual(canary.patch(self.scratch, first, "--forward"), "")
        self.assertNotEqual(canary.problems(first, self.scratch), [])  # a second time it does not apply
        self.assertEqual(canary.patch(self.scratch, first, "--reverse"), "")
        self.assertEqual(canary.problems(first, self.scratch), [])


CLEAN = "seed 7\nruns 40 points 8000000 points/s 133111 seconds 60.1 hash 0123456789abcdef\n"
FINDING = ("finding: stale-tlb: CPU 1 read pfn 0x12\nrepeat: quire sim --seed 9 --cpus 4\n"
           "findings 1\nruns 3 points 1000 points/s 2000 seconds 0.5 hash 0123456789abcdef\n")


ENDED = "[ RUN      ] one\n[       OK ] one\n[ RUN      ] two\n%s[==========] 2 test(s) run.\n"


class Judgement(Case):
    def test_a_failed_function_is_found(self):
        for out in (ENDED % "[  FAILED  ] two\n", "[ RUN      ] one\n[       OK ] one\n[ RUN      ] two\npanic\n"):
            o = canary.outcome_of_test(("prog", "two"), 1, out, 1.0)
            self.assertEqual((o.kind, o.seeds), ("test", 1))
            self.assertEqual(canary.outcome_of_test(("prog", "one"), 1, out, 1.0).kind, "")

    def test_passed_is_clean_and_what_did_not_run_is_an_error(self):
        out = ENDED % "[       OK ] two\n"
        self.assertEqual(canary.outcome_of_test(("prog", "two"), 0, out, 1.0).kind, "")
        for status, function in ((0, "three"), (1, "two")):
            with self.assertRaises(RuntimeError):
                canary.outcome_of_test(("prog", function), status, out, 1.0)

    def test_a_finding_is_read(self):
        o = canary.outcome(1, FINDING, 9.0)
        self.assertEqual((o.kind, o.text, o.repeat, o.seeds, o.points, o.seconds),
                         ("stale-tlb", "CPU 1 read pfn 0x12", "quire sim --seed 9 --cpus 4", 3, 1000, 0.5))

    def test_clean_is_clean(self):
        o = canary.outcome(0, CLEAN, 61.0)
        self.assertEqual((o.kind, o.seeds), ("", 40))

    def test_output_and_status_must_agree(self):
        for status, out in ((0, FINDING), (1, CLEAN), (2, "usage")):
            with self.assertRaises(RuntimeError):
                canary.outcome(status, out, 1.0)

    def test_a_signal_is_a_crash_and_not_an_expected_one(self):
        o = canary.outcome(-11, "", 1.0)
        self.assertEqual(o.kind, "crash")
        self.assertFalse(canary.judge("x", ("stale-tlb",), [o, o, o]).found)

    def test_most_must_find_it_and_the_median_is_of_those(self):
        hit, miss = canary.outcome(1, FINDING, 1.0), canary.outcome(0, CLEAN, 60.0)
        row = canary.judge("x", ("stale-tlb",), [hit, hit, miss])
        self.assertEqual((row.found, row.hits, row.seeds, row.seconds), (True, 2, 3, 0.5))
        self.assertFalse(canary.judge("x", ("stale-tlb",), [hit, miss, miss]).found)

    def test_another_kind_does_not_count(self):
        hit = canary.outcome(1, FINDING, 1.0)
        row = canary.judge("x", ("leak",), [hit, hit, hit])
        self.assertFalse(row.found)
        self.assertIn("stale-tlb", row.note)

    def test_sources_with_a_finding_or_without_a_run_are_not_clean(self):
        hit, clean = canary.outcome(1, FINDING, 1.0), canary.outcome(0, CLEAN, 60.0)
        self.assertTrue(canary.judge_control([clean, clean]).found)
        self.assertFalse(canary.judge_control([clean, hit]).found)
        self.assertFalse(canary.judge_control([canary.outcome(0, "", 60.0)]).found)

    def test_canaries_are_chosen_by_number_name_and_file(self):
        every = canary.all_canaries()
        first = every[0]
        for name in (first.name, first.name[:2], first.name[3:], first.path):
            self.assertEqual(canary.choose(every, [name]), [first])
        with self.assertRaises(SystemExit):
            canary.choose(every, ["no-such-bird"])


if __name__ == "__main__":
    sys.exit(unittest.main())
