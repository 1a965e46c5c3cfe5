"""Runs every program of tests/guest on Quire: each must print what it prints on the host, and end with 0."""
import os


def runner(path, text):
    """Lines "options: ...", "timeout: SECONDS" and "host: no" in the head of a program say how it wants to be run."""
    options, compare, timeout = [], True, 120
    for line in text[:2000].splitlines():
        line = line.strip(" *")
        if line.startswith("options:"):
            options = line[8:].split()
        elif line.startswith("timeout:"):
            timeout = int(line[8:])
        elif line == "host: no":
            compare = False

    def run(t):
        program = t.guest(path)
        # a host without /sys, say, fails the program's own checks: it is no referee then
        if compare and not t.host(program).status:
            t.expect(t.same_as_host(program, options=options, timeout=timeout))
        else:
            t.expect(t.quire(program, options=options, timeout=timeout))

    return run


def programs_of(build):
    """{name: test} of what meson says it builds from tests/guest (BUILD/tests/guest/list.txt)."""
    found = {}
    listing = os.path.join(build, "tests", "guest", "list.txt")
    if os.path.exists(listing):
        with open(listing, encoding="utf-8") as f:
            for line in f:
                if not line.strip():
                    continue
                name, source = line.split()
                with open(source, encoding="utf-8") as src:
                    found[name] = runner(name, src.read())
    return found
