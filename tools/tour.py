#!/usr/bin/python3
"""The tour of `make run`: programs that nobody here wrote, on a machine whose memory Quire manages.

For each program: what it printed, its exit status, and one line of what the memory manager did.  At the end
a picture of the last machine's physical memory.
"""
import os
import sys
import time

from quire import QuireError, blocks
from quire.cli import environment, parse as parse_options, pack, set_shape
from quire.machine import Machine
from quire.pack import write_image
from quire.report import Report, size

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

SH = """n=0; for f in /proc/[a-z]*info; do n=$((n+1)); done
echo "busybox sh counts $n files named info in /proc; $(busybox seq 100 | busybox wc -l) lines through a pipe" """
BASH = """seq 1 5000 | sort -rn | head -3 | paste -sd ' '; declare -A a; for w in to be or not to be; do
((a[$w]++)); done; echo "to: ${a[to]}, not: ${a[not]}"; sha256sum /bin/bash | cut -c 1-16 | wc -c"""
PYTHON = """import os
blocks = [bytearray(1 << 20) for _ in range(64)]
for b in blocks: b[::4096] = b'x' * 256
if os.fork() == 0:
    for b in blocks[:16]: b[::4096] = b'y' * 256
    os._exit(3)
print('child ended with', os.waitstatus_to_exitcode(os.wait()[1]), '- mine is still', chr(blocks[0][0]))"""
SQL = """create table t(id integer primary key, word text, n int);
with recursive i(x) as (select 1 union all select x + 1 from i where x < 20000)
insert into t select x, 'w' || (x * 7919 % 500), x from i;
create index tw on t(word);
select word, count(*), sum(n) from t group by word order by 3 desc limit 3;"""

HOLD = """import sys, time
blocks = [bytearray(b'x' * (1 << 20)) for _ in range(100)]
print(len(blocks), flush=True); time.sleep(100)"""
WORK = """coproc /usr/bin/python3 -c "$1"; read -r -u ${COPROC[0]} n; echo "a child holds $n MiB; the machine stops here" """

STOPS = [
    ("busybox: a shell script", ["busybox", "sh", "-c", SH], []),
    ("bash with coreutils", ["bash", "-c", BASH], []),
    ("python3 allocates 64 MiB and forks", ["/usr/bin/python3", "-c", PYTHON], []),
    ("sqlite3: 20,000 rows, an index, a query", ["sqlite3", ":memory:", SQL], []),
    ("a C program with threads", ["tests/guest/threads"], []),
    ("a machine of two nodes, stopped at work", ["bash", "-c", WORK, "bash", HOLD], ["--nodes", "2", "--with", "/usr/bin/python3"]),
]
FAULTS = [("fault_anon", "zeroed"), ("fault_file_read", "of files"), ("fault_cow_copy", "copied"), ("fault_huge", "huge")]


def one_line(lines):
    """What the manager did."""
    r = Report(lines)
    if not r.memory or "faults" not in r.time:
        return "no report"
    kinds = ", ".join("%d %s" % (r.events[name], text) for name, text in FAULTS if r.events.get(name))
    return "%d faults in %.0f ms (%s), %s at most" % (r.time["faults"][0], r.time["faults"][1] / 1e6, kinds,
                                                     size(r.peak_pages()))


def stop(build, command, options):
    """Run one program; its report's lines, the dump of its memory, and exit status.  A program of the tests is taken from the build."""
    if command[0].startswith("tests/"):
        command = [os.path.join(build, command[0])] + command[1:]
    o = parse_options(options + ["--"] + command)
    image, program = pack(o)
    m = Machine(os.path.join(build, "quire-kernel.elf"), write_image(image), program, command[1:])
    set_shape(m, o)
    m.env, m.report, m.timeout, m.stdin = environment(o.env), True, 60, None
    sys.stdout.flush()
    status = m.run()
    return m.report_lines, m.dump, status


def main():
    build = os.path.join(ROOT, sys.argv[1] if len(sys.argv) > 1 else "build")
    start = time.monotonic()
    failures = 0
    dump = []
    for number, (title, command, options) in enumerate(STOPS, 1):
        print("\n%d/%d  %s" % (number, len(STOPS), title))
        before = time.monotonic()
        try:
            report, dump, status = stop(build, command, options)
        except QuireError as e:
            print("     failed: %s" % e)
            failures += 1
            continue
        failures += status != 0
        print("  -> exit status %d after %.1f s; %s" % (status, time.monotonic() - before, one_line(report)))
    if dump:
        print("\nThe last machine's memory at its end, one character for 2 MiB:")
        print("\n".join(blocks.terminal(blocks.parse(dump), blocks.wants_colour(sys.stdout))))
    print("\n%d programs, %d failed, %.0f s.  Try your own:  ./quire run -- PROGRAM ARGS..."
          % (len(STOPS), failures, time.monotonic() - start))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
