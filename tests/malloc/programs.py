"""Programs of the world under libquire-malloc.so: what they do, and how it is told that they did it right.

A program is prepared once, and then run in a fresh folder with each malloc in turn; run() returns a text that says all
about the result and must be the same with each of them.  Full sizes take minutes, short ones seconds.
"""
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = "/usr/bin/python3"


# Debian's redis-server links another malloc: the C library itself, loaded first, is its own.
C_LIBRARY = "libc.so.6"


class Wrong(Exception):
    pass


def usual_signals():
    """Whoever runs this in the background of a shell has it ignore interrupts, which tests of Python send themselves."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_in(folder, command, preload, text=None):
    """Standard output; only this command and its children get the malloc."""
    env = dict(os.environ, LC_ALL="C", PYTHONDONTWRITEBYTECODE="1", HOME=folder)
    env.pop("LD_PRELOAD", None)
    if preload:
        env["LD_PRELOAD"] = preload
    done = subprocess.run(command, cwd=folder, env=env, input=text or "", preexec_fn=usual_signals, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode:
        raise Wrong("%s: status %d: %s" % (" ".join(command[:4]), done.returncode, done.stdout[-2000:]))
    return done.stdout


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


class Python:
    """The language's own tests; python is told to use malloc for all that it allocates."""
    name = "python3: its tests of json, re and threading"
    needs = [PYTHON]

    def __init__(self, folder, full):
        self.tests = ["test_json", "test_re", "test_threading"] if full else ["test_json", "test_re"]

    def missing(self):
        done = subprocess.run([PYTHON, "-c", "import test.test_json, test.test_threading"], capture_output=True, check=False)
        return "Python's test suite" if done.returncode else None

    def run(self, folder, preload):
        os.environ["PYTHONMALLOC"] = "malloc"
        try:
            said = run_in(folder, [PYTHON, "-m", "test", "-q", "-w"] + self.tests, preload)
        finally:
            del os.environ["PYTHONMALLOC"]
        if not said.rstrip().endswith("SUCCESS"):
            raise Wrong(said[-2000:])
        return "%d tests succeed" % len(self.tests)


class Sqlite:
    name = "sqlite3: builds a database"
    needs = ["sqlite3"]

    def __init__(self, folder, full):
        self.rows = 900000 if full else 15000

    def missing(self):
        return None

    def run(self, folder, preload):
        return run_in(folder, ["sqlite3", "base.db"], preload, """
pragma journal_mode = off;
pragma synchronous = off;
create table t(id integer primary key, word text, number integer, blob blob);
begin;
insert into t select value, 'w' || (value * 7919 %% 10007) || '-' || hex(value * 31), value * 65537 %% 1000003, zeroblob(100)
  from generate_series(1, %d);
create index by_word on t(word, number);
create index by_number on t(number);
commit;
select count(*), sum(number), sum(length(word)) from t;
select word, count(*), group_concat(id) from (select * from t order by id limit 20000) group by substr(word, 1, 3) order by word limit 5;
delete from t where number %% 3 = 0;
update t set word = upper(word) || 'x' where number %% 5 = 0;
select count(*), max(word), min(number) from t;
vacuum;
pragma page_count;
pragma integrity_check;
""" % self.rows)


class Gcc:
    """The library's own sources, without the files' names of this run in them."""
    name = "gcc: builds the library"
    needs = ["gcc"]

    def __init__(self, folder, full):
        layers = ["base", "sync", "frame", "slab", "pt", "kva", "object", "space"] if full else ["base", "sync", "kva"]
        self.files = sorted(os.path.join(ROOT, "src", layer, f) for layer in layers
                            for f in os.listdir(os.path.join(ROOT, "src", layer)) if f.endswith(".c"))

    def missing(self):
        return None

    def run(self, folder, preload):
        said = []
        for path in self.files:
            run_in(folder, ["gcc", "-std=gnu11", "-O2", "-g0", "-ffreestanding", "-frandom-seed=1", "-I" + os.path.join(ROOT, "include"),
                            "-I" + os.path.join(ROOT, "ports", "hosted"), "-c", path, "-o", "out.o"], preload)
            said.append("%s %s" % (os.path.relpath(path, ROOT), digest(os.path.join(folder, "out.o"))))
        return "\n".join(said)


class Git:
    """A repository that is made up: files that grow and change over the commits."""
    name = "git: collects garbage"
    needs = ["git"]

    def __init__(self, folder, full):
        self.origin = os.path.join(folder, "origin.git")
        commits, files = (1500, 60) if full else (150, 12)
        run_in(folder, ["git", "init", "-q", "--bare", self.origin], None)
        stream, marks = [], {}
        for n in range(commits):
            stream.append("commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata 2\nc\n" % (1500000000 + n))
            for k in range(4):
                f = (n * 7 + k * 13) % files
                lines = marks.setdefault(f, [])
                lines.insert((n * 31) % (len(lines) + 1), "line %d of %d: %s" % (n, f, hashlib.sha256(b"%d %d" % (n, f)).hexdigest()))
                text = "\n".join(lines) + "\n"
                stream.append("M 100644 inline dir%d/file%d\ndata %d\n%s\n" % (f % 5, f, len(text), text))
        run_in(self.origin, ["git", "fast-import", "--quiet"], None, "".join(stream))
        run_in(self.origin, ["git", "repack", "-q", "-a", "-d", "-f", "--depth=1", "--window=1"], None)

    def missing(self):
        return None

    def run(self, folder, preload):
        base = os.path.join(folder, "copy.git")
        shutil.copytree(self.origin, base)
        run_in(base, ["git", "-c", "pack.threads=2", "-c", "gc.auto=0", "gc", "-q", "--aggressive", "--prune=now"], preload)
        run_in(base, ["git", "fsck", "--full", "--strict"], preload)
        return run_in(base, ["git", "cat-file", "--batch-check", "--batch-all-objects"], preload) + run_in(
            base, ["git", "rev-list", "--objects", "main"], preload)


class Redis:
    """A server on a socket of the folder; the malloc is the server's."""
    name = "redis-server: under redis-benchmark"
    needs = ["redis-server", "redis-benchmark", "redis-cli"]
    TESTS = ["set", "get", "incr", "lpush", "rpop", "sadd", "hset", "zadd", "lrange_100", "mset"]

    def __init__(self, folder, full):
        self.requests = 100000 if full else 3000

    def missing(self):
        return None

    def run(self, folder, preload):
        env = dict(os.environ, LC_ALL="C")
        env.pop("LD_PRELOAD", None)
        at = os.path.join(folder, "s")
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", at, "--save", "", "--appendonly", "no", "--dir",
                                   folder], env=dict(env, LD_PRELOAD=preload) if preload else env, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not os.path.exists(at):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise Wrong("the server did not start")
                time.sleep(0.01)
            run_in(folder, ["redis-benchmark", "-s", at, "-n", str(self.requests), "-r", "20000", "-d", "200", "-q", "-t",
                            ",".join(self.TESTS)], None)
            ask = "".join("set known:%d %s\nappend known:%d %s\nhset h f%d %d\n" % (i, "v" * (i % 900), i, "w" * (i % 50), i % 77, i)
                          for i in range(2000))
            run_in(folder, ["redis-cli", "-s", at], None, ask)
            said = run_in(folder, ["redis-cli", "-s", at], None, "".join("get known:%d\n" % i for i in range(2000)) + "hlen h\nhget h f13\n"
                          "eval \"local s = 0 for i = 1, 1000 do s = s + #redis.call('get', 'known:' .. i) end return s\" 0\n")
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
            status = server.wait(timeout=60)
        if status:
            raise Wrong("the server ended with status %d" % status)
        return said


ALL = [Python, Sqlite, Redis, Gcc, Git]


def absent(kind, program):
    """What is not installed, or None."""
    for command in kind.needs:
        if not shutil.which(command):
            return command
    return program.missing()


if __name__ == "__main__":
    sys.exit("see tests/malloc/run.py and tools/bench_malloc.py")
