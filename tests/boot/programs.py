"""Unmodified programs of the host, run on Quire and compared with the same command on the host."""
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

from harness import ROOT, SQL_DELETE, SQL_LOAD, Skip

PYTHON = "/usr/bin/python3"


def test_canary(t):
    """Must fail: see run.py."""
    t.expect(t.quire("false"), status=0)


def test_exit_status(t):
    for status in (0, 1, 42, 255):
        t.expect(t.quire("sh", "-c", "exit %d" % status), stdout="", status=status)


def test_killed_by_signal(t):
    t.expect(t.quire("sh", "-c", "kill -TERM $$"), status=128 + 15)
    t.expect(t.quire("sh", "-c", "kill -SEGV $$"), status=128 + 11)


def test_streams_are_apart(t):
    ours = t.same_as_host("sh", "-c", "echo out; echo err >&2")
    t.check(ours.stderr == "err\n", ours)


def test_stdin_through_a_pipe(t):
    data = bytes(range(256)) * 200
    ours = t.same_as_host("sha256sum", stdin=data)
    t.check(len(ours.stdout) > 64, ours)


def test_stdin_ends_at_once(t):
    t.expect(t.quire("wc", "-c"), stdout="0\n")


def test_arguments_arrive_whole(t):
    t.same_as_host("printf", "<%s>\\n", "a b", "100%", "", "tab\there", "new\nline", "\u00fcnic\u00f6de", "--", "\"q\" 'q'")


def test_environment(t):
    t.expect(t.quire("sh", "-c", "echo $WORD; pwd", options=["--env", "WORD=two words"]), stdout="two words\n%s\n" % t.scratch)


def test_busybox_script(t):
    t.need("busybox")
    t.same_as_host("busybox", "sh", "-c", """
        for i in 1 2 3; do busybox echo line $i; done | busybox sed s/line/Line/ | busybox sort -r
        busybox mkdir -p /tmp/quire-test-d; cd /tmp/quire-test-d; busybox seq 1000 > numbers; busybox wc -l numbers
        busybox md5sum numbers; busybox rm -r /tmp/quire-test-d; x=$((6*7)); echo $x; (exit 3); echo status $?""")


def test_bash_and_coreutils(t):
    t.same_as_host("bash", "-c", """
        seq 1 20000 | shuf --random-source=<(yes) | sort -n | sha256sum
        declare -A a; for w in one two three two; do a[$w]=$((${a[$w]:-0}+1)); done; echo ${a[two]}
        head -c 300000 /dev/zero | base64 | tail -c 20 | od -c
        diff <(seq 5) <(seq 6); echo $?; mkfifo /tmp/quire-f$$; (echo through >/tmp/quire-f$$ &) ; cat /tmp/quire-f$$; rm /tmp/quire-f$$
        printf '%s\\n' b a c | sort | tr a-z A-Z | paste -sd,; trap 'echo bye' EXIT; kill -0 $$ && echo alive""",
                   options=["--with", "diff"])


def test_python_allocates_forks_and_threads(t):
    t.same_as_host(PYTHON, "-c", """
import os, threading, hashlib, json, mmap
blocks = [bytearray(os.urandom(1) * 65536) for _ in range(400)]
total = sum(len(b) for b in blocks); print(total)
pid = os.fork()
if pid == 0:
    for b in blocks: b[0] = 1
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
counts = [0] * 4
def work(i):
    for k in range(20000): counts[i] += 1
ts = [threading.Thread(target=work, args=(i,)) for i in range(4)]
[x.start() for x in ts]; [x.join() for x in ts]; print(counts)
m = mmap.mmap(-1, 1 << 20); m[4096] = 9; print(m[4096], m[0]); m.close()
d = {str(i): [i] * 3 for i in range(20000)}; print(hashlib.sha256(json.dumps(d, sort_keys=True).encode()).hexdigest())
r, w = os.pipe(); os.write(w, b'x' * 5000); print(len(os.read(r, 9000)))
""")


# A daemon thread that still runs at the end is ended by pthread_exit, for which glibc loads a library by name.
def test_python_daemon_threads(t):
    t.same_as_host(PYTHON, "-c", """import threading, time
def spin():
    while True:
        time.sleep(0.0001)
for i in range(20):
    threading.Thread(target=spin, daemon=True).start()
time.sleep(0.1)
print("end")""")


def test_python_subprocess(t):
    t.same_as_host(PYTHON, "-c", """
import subprocess
print(subprocess.run(['sort'], input=b'b\\na\\n', capture_output=True).stdout)
print(subprocess.run('exit 5', shell=True).returncode)
""", options=["--with", "sort", "--with", "sh"])


def test_sqlite_query_load(t):
    t.need("sqlite3")
    t.same_as_host("sqlite3", ":memory:", SQL_LOAD + """
select count(*) from t a join t b on a.name = b.name where a.id < 200;
""" + SQL_DELETE)


def test_sqlite_on_a_file(t):
    t.need("sqlite3")
    t.expect(t.quire("sh", "-c", """f=/tmp/$$.db; sqlite3 $f 'create table t(a); insert into t values(1),(2),(3);' &&
sqlite3 $f 'select sum(a) from t; pragma integrity_check;'"""), stdout="6\nok\n")


def test_perl(t):
    t.same_as_host("perl", "-e", """
use strict; use List::Util qw(sum); my %h; $h{$_ % 97} += $_ for 1..50000;
print sum(values %h), "\\n"; print join(",", (sort { $a <=> $b } keys %h)[0..5]), "\\n";
my $pid = fork(); if (!$pid) { exit 3 } waitpid($pid, 0); print $? >> 8, "\\n";
my $s = "x" x 5_000_000; $s =~ s/x/yz/g; print length($s), "\\n"; open(my $f, ">", "/tmp/qp$$") or die; print $f "hi\\n"; close $f;
open($f, "<", "/tmp/qp$$"); print <$f>; unlink "/tmp/qp$$";""")


HELLO = """#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    char *p = malloc(100000);
    snprintf(p, 100000, "hello from %s, %d arguments", "a program compiled here", argc);
    puts(p);
    return argv[0] ? 11 : 1;
}
"""


def test_gcc_compiles_and_runs(t):
    t.need("gcc")
    source = t.file("hello.c", HELLO)
    ours = t.quire("sh", "-c", "gcc -O2 -Wall -o /tmp/quire-hello hello.c && /tmp/quire-hello a b", options=["--file", source],
                   timeout=200)
    t.expect(ours, stdout="hello from a program compiled here, 3 arguments\n", status=11)


def test_redis_serves_its_benchmark(t):
    t.need("redis-server", "redis-benchmark", "redis-cli")
    script = """redis-server --port 0 --unixsocket /tmp/r.sock --save '' --appendonly no --daemonize no >/tmp/r.log 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10; do redis-cli -s /tmp/r.sock ping 2>/dev/null | grep -q PONG && break; sleep 0.3; done
redis-cli -s /tmp/r.sock set key value; redis-cli -s /tmp/r.sock get key
redis-benchmark -s /tmp/r.sock -n 2000 -c 10 -q -t set,get,lpush 2>&1 | tr '\\r' '\\n' | grep 'requests per second'
redis-cli -s /tmp/r.sock dbsize; redis-cli -s /tmp/r.sock shutdown nosave; wait; echo done"""
    ours = t.quire("sh", "-c", script, options=["--mem", "512M"], timeout=200)
    t.check(ours.status == 0 and ours.stdout.startswith("OK\nvalue\n") and ours.stdout.endswith("done\n"), ours)
    for name in ("SET", "GET", "LPUSH"):
        t.check(re.search(r"^%s: [1-9][0-9.]* requests per second" % name, ours.stdout, re.M), ours)


class Keyboard:
    """quire run at a terminal of its own, typed at like a person would."""

    def __init__(self, t, *command):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as e:
            raise Skip("no terminal to be had here: %s" % e) from None
        if not self.pid:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
            os.chdir(t.scratch)
            args = t.quire_args(60, ()) + list(command)
            os.execv(args[0], args)
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, pattern, seconds=30):
        """True once what came since the last call matches."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen) and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:  # the other side is closed
                    break
        found, self.last, self.seen = bool(re.search(pattern, self.seen)), self.seen, ""
        return found

    def status(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_terminal(t):
    k = Keyboard(t, "bash", "--norc")
    t.check(k.until(r"bash-[0-9.]+# "), "no prompt: " + repr(k.last))
    k.type("echo one | tr a-z A-Z; stty size\r")
    t.check(k.until(r"ONE\r\n33 99\r\n.*# "), "no answer: " + repr(k.last))
    k.type("sleep 100\r")
    time.sleep(0.5)
    k.type("\x03")
    t.check(k.until(r"\^C\r\n.*# "), "not interrupted: " + repr(k.last))
    k.type("echo $?; exit 7\r")
    t.check(k.until(r"130\r\n"), "wrong status: " + repr(k.last))
    k.until("nothing more", 3)
    t.check(k.status() == 7, "status of the shell")


def test_two_escapes_end_the_machine(t):
    k = Keyboard(t, "sh", "-c", "trap '' INT; echo ready; sleep 1000")
    t.check(k.until("ready"), "not ready")
    k.type("\x1d\x1d")
    start = time.monotonic()
    k.until("nothing more", 10)
    t.check(k.status() == 137 and time.monotonic() - start < 9, "the machine went on")


def test_tour(t):
    done = t.host(PYTHON, os.path.join(ROOT, "tools", "tour.py"), t.build)
    t.check(done.status == 0 and ", 0 failed" in done.stdout and "zone DMA32" in done.stdout, done)


def test_two_nodes(t):
    ours = t.expect(t.quire("cat", "/proc/zoneinfo", options=["--nodes", "2", "--cpus", "2"]))
    t.check("Node 0" in ours.stdout and "Node 1" in ours.stdout, ours)


def test_large_machine_boots(t):
    t.expect(t.quire("true", options=["--mem", "16G"], timeout=60))


def test_too_small_a_machine_is_told(t):
    ours = t.quire(PYTHON, "-c", "1", options=["--mem", "24M"])
    t.check(ours.status == 125 and re.search(r"too little memory.*--mem \d+M", ours.stderr), ours)


# The program uses nearly all memory, then more: it gets an error or dies alone, and the shell goes on.
# proves: VE-31
def test_out_of_memory_kills_one_program(t):
    ours = t.quire("sh", "-c", "%s -c 'b = []\nwhile True: b.append(bytearray(1 << 20))'; echo status $?; echo alive" % PYTHON,
                   options=["--mem", "512M", "--with", PYTHON], timeout=200)
    t.check(ours.status == 0 and ours.stdout.endswith("alive\n"), ours)
    t.check(re.search(r"status (137|1)\n", ours.stdout), ours)
    t.check("emory" in ours.stderr, ours)


# proves: TRAP-15
def test_out_of_memory_ends_process_1(t):
    r = t.quire(PYTHON, "-c", "x = [bytearray(1 << 20) for i in range(600)]")
    t.check(r.status == 137, r)
    t.check(len(re.findall(r"out of memory: killed pid 1 ", r.stderr)) == 1 and "panic" not in r.stderr, r)


def test_report_counts_what_happened(t):
    ours = t.expect(t.quire(PYTHON, "-c", "import os\nb = bytearray(20 << 20)\nif os.fork(): os.wait()", options=["--report"]))
    counts = dict(re.findall(r"^ +([a-z ]+?) +([0-9]+)$", ours.stderr, re.M))
    t.check(int(counts.get("anon", 0)) >= 5120 and int(counts.get("fork", 0)) == 1, ours)
    t.check("free blocks by order" in ours.stderr and "at most" in ours.stderr, ours)


def test_unknown_system_call_is_named_once(t):
    ours = t.quire("perl", "-e", "my $r = syscall(333); $r = syscall(333); print $! + 0, qq(\\n)", options=["--log"])
    t.expect(ours, stdout="38\n")
    t.check(ours.stderr.count("333") == 1 or ours.stderr.count("io_pgetevents") == 1, ours)


def test_musl_program(t):
    t.need("musl-gcc")
    for name in ("hello-musl", "hello-musl-static"):
        t.same_as_host(t.guest(name), "a", "b")
