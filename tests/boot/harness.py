"""What boot tests are made of.  A test is a function test_NAME(t) in a module of this folder; t runs programs
on Quire and on the host, compares, and complains.  Its rows stand in a comment above it (# proves: ...).
"""
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

# A load for sqlite3: a recursion, a table with an index, a query; and what empties much of it again.
SQL_LOAD = """
with recursive n(i) as (select 1 union all select i + 1 from n where i < 30000)
  select count(*), sum(i * i % 1009) from n;
create table t(id integer primary key, name text, v real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
  insert into t select i, 'name' || (i * 7919 % 1000), i * 1.5 from n;
create index tn on t(name);
select name, count(*), sum(v) from t group by name order by 3 desc, 1 limit 5;
"""
SQL_DELETE = "delete from t where id % 3 = 0; select count(*) from t; vacuum; pragma integrity_check;"


class Skip(Exception):
    """The test cannot be run here; its text says why."""


class Failure(Exception):
    """The test failed; its text says how."""


class Outcome:
    """stdout, stderr: text; status: exit status."""

    def __init__(self, done):
        self.stdout = done.stdout.decode(errors="replace")
        self.stderr = done.stderr.decode(errors="replace")
        self.status = done.returncode

    def __str__(self):
        return "status %d\n  stdout: %s\n  stderr: %s" % (self.status, self.stdout[-3000:], self.stderr[-3000:])


class Test:
    """Handed to each test."""

    def __init__(self, build, scratch):
        self.build = build
        self.scratch = scratch

    def guest(self, name):
        """Path of a program of tests/guest as built."""
        path = os.path.join(self.build, "tests", "guest", name)
        if not os.path.exists(path):
            raise Failure("%s was not built" % path)
        return path

    def need(self, *programs):
        for p in programs:
            if not shutil.which(p):
                raise Skip("%s is not installed" % p)

    def file(self, name, text, mode=0o644):
        path = os.path.join(self.scratch, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def quire_args(self, timeout, options):
        return [os.path.join(ROOT, "quire"), "run", "--timeout", str(timeout),
                "--kernel", os.path.join(self.build, "quire-kernel.elf")] + list(options) + ["--"]

    def quire(self, *command, options=(), stdin=b"", timeout=120):
        args = self.quire_args(timeout, options) + list(command)
        try:
            done = subprocess.run(args, input=stdin, capture_output=True, cwd=self.scratch, timeout=timeout + 60, check=False)
        except subprocess.TimeoutExpired:
            raise Failure("quire itself did not end in %d seconds" % (timeout + 60)) from None
        return Outcome(done)

    def host(self, *command, stdin=b""):
        env = {"PATH": os.environ["PATH"], "HOME": "/root", "TERM": "dumb"}
        return Outcome(subprocess.run(list(command), input=stdin, capture_output=True, cwd=self.scratch, env=env,
                                      timeout=120, check=False))

    def same_as_host(self, *command, options=(), stdin=b"", timeout=120):
        """The same command on both sides: same output, same status."""
        host = self.host(*command, stdin=stdin)
        ours = self.quire(*command, options=options, stdin=stdin, timeout=timeout)
        if (ours.stdout, ours.status) != (host.stdout, host.status):
            raise Failure("differs from the host.\n ours: %s\n host: %s" % (ours, host))
        return ours

    def expect(self, outcome, stdout=None, status=0):
        if outcome.status != status or (stdout is not None and outcome.stdout != stdout):
            raise Failure("expected status %d%s, got %s" % (status, "" if stdout is None else " and " + repr(stdout), outcome))
        return outcome

    def check(self, condition, text):
        if not condition:
            raise Failure(str(text))
