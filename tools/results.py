#!/usr/bin/python3
"""Outcomes of tests, by the single test function: read from meson's log, kept in BUILD/results/.

A file results/SUITE.txt holds lines "name outcome", outcome being pass, fail or skip.  A test function of
tests/unit/space_test.c is named space_test.function; with a sanitizer it is space_test-asan.function.
"""
import json
import os
import re

LINE = re.compile(r"^\[\s*(RUN|OK|FAILED|SKIPPED)\s*\] (\S+)$", re.M)
OUTCOME = {"OK": "pass", "FAILED": "fail", "SKIPPED": "skip"}


def of_cmocka(output):
    """{function: outcome}; one that started and never ended has failed."""
    found = {}
    for word, name in LINE.findall(output):
        if word == "RUN":
            found[name] = "fail"
        elif name in found:
            found[name] = OUTCOME[word]
    return found


def of_log_entry(entry):
    """[(name, outcome)] of one program in meson's log."""
    program = entry["name"].split(" / ")[-1].split(":")[-1]
    functions = of_cmocka(entry.get("stdout", "") + "\n")
    if entry["result"] in ("EXPECTEDFAIL", "UNEXPECTEDPASS"):
        # the canary: it must fail, and the failure must have been seen for what it is
        seen = entry["result"] == "EXPECTEDFAIL" and "fail" in functions.values()
        return [(program, "pass" if seen else "fail")]
    passed = entry["result"] == "OK"
    if not functions or (not passed and "fail" not in functions.values()):
        functions[""] = {"SKIP": "skip"}.get(entry["result"], "pass" if passed else "fail")
    return [(f if "." in f else (program + "." + f).rstrip("."), outcome) for f, outcome in functions.items()]


def of_meson(build, log):
    """{suite: {name: outcome}} of a meson log (json lines), and the entries that failed."""
    suites, failed = {}, []
    path = os.path.join(build, "meson-logs", log + ".json")
    if not os.path.exists(path):
        return suites, failed
    with open(path, encoding="utf-8") as f:
        for line in f:
            entry = json.loads(line)
            rows = of_log_entry(entry)
            suite = entry["name"].split(" / ")[0].split(":")[-1]  # "quire:unit / frame_test"
            suites.setdefault(suite, {}).update(rows)
            if any(outcome == "fail" for _, outcome in rows):
                failed.append(entry)
    return suites, failed


def save(build, suite, rows):
    folder = os.path.join(build, "results")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, suite + ".txt"), "w", encoding="utf-8") as f:
        for name, outcome in sorted(rows.items()):
            f.write("%s %s\n" % (name, outcome))


def load(build):
    """{name: outcome} of all suites on record."""
    found = {}
    folder = os.path.join(build, "results")
    if not os.path.isdir(folder):
        return found
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            for line in f:
                test, _, outcome = line.rstrip("\n").rpartition(" ")
                found[test] = outcome
    return found
