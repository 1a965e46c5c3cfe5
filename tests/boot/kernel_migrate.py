"""Programs whose memory moves from frame to frame all the while (quire.move=1) see nothing of it."""
import re

from harness import SQL_DELETE, SQL_LOAD

MOVING = ["--cpus", "4", "--mem", "256M", "--append", "quire.move=1", "--report"]


def unmoved(t, *command, timeout=120, least=500, runs=12):
    """The command prints what it prints on the host, however often it takes until that many frames were moved under it."""
    moved = 0
    for _ in range(runs):
        ours = t.same_as_host(*command, options=MOVING, timeout=timeout)
        found = re.search(r"pgmigrate success +([0-9]+)$", ours.stderr, re.M)
        moved += int(found.group(1)) if found else 0
        if moved >= least:
            return
    t.check(False, "%d frames moved in %d runs" % (moved, runs))


def test_moving_threads_map_fault_and_fork(t):
    unmoved(t, t.guest("mmstress"))


def test_moving_shared_memory_and_futexes(t):
    unmoved(t, t.guest("sharing"), least=50)
    unmoved(t, t.guest("futexes"), least=50)


def test_moving_database(t):
    t.need("sqlite3")
    unmoved(t, "sqlite3", ":memory:", SQL_LOAD + SQL_DELETE)


def test_moving_interpreter_with_children(t):
    unmoved(t, "/usr/bin/python3", "-c", """
import os, hashlib, mmap
data = bytes(range(256)) * 40000
shared = mmap.mmap(-1, 1 << 20)
for child in range(6):
    if not os.fork():
        own = bytearray(data)
        for i in range(0, len(own), 4096): own[i] = child
        shared[child * 64:child * 64 + 64] = hashlib.sha256(own).hexdigest().encode()
        os._exit(0)
for child in range(6): os.wait()
print(shared[:384].decode(), hashlib.sha256(data).hexdigest())
for i in range(200): data = hashlib.sha512(data).digest() * 20000
print(hashlib.sha256(data).hexdigest())
""")
