#!/usr/bin/python3
"""Runs the tool's tests and writes their outcomes as cmocka does, which is what tools/results.py reads."""
import os
import sys
import unittest


class Result(unittest.TextTestResult):
    def say(self, word, test):
        module, _, name = test.id().rpartition(".")
        print("[ %s ] %s.%s" % (word.rjust(8), module.split(".")[0], name), flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.say("RUN", test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say("OK", test)

    def addError(self, test, err):
        super().addError(test, err)
        self.say("FAILED", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say("FAILED", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say("SKIPPED", test)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    suite = unittest.defaultTestLoader.discover(here)
    outcome = unittest.TextTestRunner(resultclass=Result, verbosity=0).run(suite)
    return 0 if outcome.wasSuccessful() and outcome.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
