"""The harness itself: a failure must never look like anything else."""
import json
import os
import subprocess
import sys
import unittest

from support import ROOT, Case

import features
import results


class Outcomes(Case):
    def entry(self, **fields):
        return dict({"name": "quire:unit / x_test", "result": "OK", "stdout": "", "stderr": ""}, **fields)

    def test_functions_are_counted_one_by_one(self):
        out = "[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\n[  FAILED  ] b\n[ RUN      ] c\n[  SKIPPED ] c\n"
        rows = dict(results.of_log_entry(self.entry(result="FAIL", stdout=out)))
        self.assertEqual(rows, {"x_test.a": "pass", "x_test.b": "fail", "x_test.c": "skip"})

    def test_a_crash_in_the_middle_is_a_failure(self):
        rows = dict(results.of_log_entry(self.entry(result="FAIL", stdout="[ RUN      ] a\n")))
        self.assertEqual(rows, {"x_test.a": "fail"})

    def test_a_crash_after_the_last_function_is_a_failure(self):
        rows = dict(results.of_log_entry(self.entry(result="FAIL", stdout="[ RUN      ] a\n[       OK ] a\n")))
        self.assertIn("fail", rows.values())

    def test_a_time_out_is_a_failure(self):
        self.assertEqual(dict(results.of_log_entry(self.entry(result="TIMEOUT"))), {"x_test": "fail"})

    def test_a_canary_that_lives_too_long_is_a_failure(self):
        self.assertEqual(results.of_log_entry(self.entry(result="UNEXPECTEDPASS"))[0][1], "fail")
        self.assertEqual(results.of_log_entry(self.entry(result="EXPECTEDFAIL"))[0][1], "fail")  # died of something else
        out = "[ RUN      ] must_fail\n[  FAILED  ] must_fail\n"
        self.assertEqual(results.of_log_entry(self.entry(result="EXPECTEDFAIL", stdout=out))[0][1], "pass")

    def test_results_come_back_as_saved(self):
        rows = {"a.b": "pass", "a.c": "fail"}
        results.save(self.scratch, "unit", rows)
        self.assertEqual(results.load(self.scratch), rows)

    def test_meson_logs_name_the_suite(self):
        self.file("meson-logs/l.json", json.dumps(self.entry(name="quire:asan / x_test-asan")) + "\n")
        suites, failed = results.of_meson(self.scratch, "l")
        self.assertEqual((suites, failed), ({"asan": {"x_test-asan": "pass"}}, []))

    def test_a_crash_of_a_fuzzer_is_no_skip(self):
        """libFuzzer ends with 77, the status of a skipped test."""
        for status, seen in ((77, 1), (1, 1), (0, 0)):
            fuzzer = self.file("f%d" % status, "#!/bin/sh\nexit %d\n" % status, 0o755)
            done = subprocess.run(["sh", os.path.join(ROOT, "tests", "fuzz", "run.sh"), fuzzer, "none"], check=False,
                                  stdout=subprocess.DEVNULL)
            self.assertEqual(done.returncode, seen)


class Features(Case):
    """A row is proved by tests that ran and passed, in whichever program of several options they are."""
    ALSO = {"nodes_test": ["nodes_1_test", "nodes_64_test"]}

    def status(self, test, outcomes):
        return features.status_of([test], outcomes, self.ALSO)

    def test_what_did_not_run_proves_nothing(self):
        self.assertEqual(self.status("a_test.f", {}), "not run")
        self.assertEqual(self.status("a_test.f", {"a_test.g": "pass", "b_test.f": "pass"}), "not run")
        self.assertEqual(self.status("a_test.f", {"a_test.f": "skip"}), "skipped")

    def test_a_failure_anywhere_is_one(self):
        self.assertEqual(self.status("a_test.f", {"a_test.f": "pass", "a_test-flat.f": "fail"}), "FAILED")
        self.assertEqual(self.status("nodes_test.f", {"nodes_1_test.f": "fail", "nodes_64_test.f": "pass"}), "FAILED")

    def test_other_models_and_options_count(self):
        self.assertEqual(self.status("a_test.f", {"a_test-sparse.f": "pass"}), "proved")
        self.assertEqual(self.status("nodes_test.f", {"nodes_64_test.f": "pass"}), "proved")
        self.assertEqual(self.status("found-a-race", {"found-a-race": "pass"}), "proved")

    def test_rows_without_a_passing_test_fail_the_whole(self):
        command = [sys.executable, os.path.join(ROOT, "tools", "features.py"), "--build", self.scratch, "--demand"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^LX-61 +frame +not run")
        results.save(self.scratch, "all", {test: "pass" for _, test, _ in features.claims()[0]})
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    sys.exit(unittest.main())
