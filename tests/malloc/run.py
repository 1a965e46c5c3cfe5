#!/usr/bin/python3
"""Programs of the world under libquire-malloc.so: run.py LIBRARY.  Each must do what it does with the C library's malloc.

Written as cmocka does, which is what tools/results.py reads.
"""
import os
import sys
import tempfile

import programs


def outcome(kind, library):
    with tempfile.TemporaryDirectory(prefix="quire-malloc-") as folder:
        program = kind(folder, False)
        missing = programs.absent(kind, program)
        if missing:
            print("%s is not installed" % missing)
            return "SKIPPED"
        said = []
        for preload in (programs.C_LIBRARY, library):
            inner = os.path.join(folder, "ours" if preload == library else "theirs")
            os.mkdir(inner)
            try:
                said.append(program.run(inner, preload))
            except programs.Wrong as e:
                print(e)
                return "FAILED"
        if said[0] == said[1]:
            return "OK"
        print("with the C library's malloc:\n%s\nwith %s:\n%s" % (said[0][:2000], library, said[1][:2000]))
        return "FAILED"


def main():
    library = os.path.abspath(sys.argv[1])
    os.environ.pop("LD_PRELOAD", None)
    failed = False
    for kind in programs.ALL:
        name = "malloc_" + kind.__name__.lower()
        print("[ RUN      ] " + name, flush=True)
        word = outcome(kind, library)
        failed |= word == "FAILED"
        print("[ %s ] %s" % (word.rjust(8), name), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
