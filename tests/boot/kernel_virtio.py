"""The kernel's virtio drivers, with QEMU's own device on the other side, driven through its monitor."""
import json
import os
import re
import socket
import subprocess
import time

from harness import Failure

PYTHON = "/usr/bin/python3"
MIB = 1 << 20

# In the guest: does what each line of its input says, and answers with a line.
AGENT = """
import sys
kept = []
def value(name):
    for line in open('/proc/meminfo'):
        if line.startswith(name + ':'):
            return int(line.split()[1]) >> 10
print('ready', flush=True)
for line in sys.stdin:
    word, arg = (line.split() + [''])[:2]
    if word == 'eat':
        kept.append(bytearray(b'x') * (int(arg) << 20))
    elif word == 'drop':
        kept.clear()
    print(value(arg) if word == 'mib' else 'done', flush=True)
"""


class Monitor:
    """QEMU's monitor (QMP) at a socket."""

    def __init__(self, path, deadline):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Failure("no monitor at %s" % path) from None
                time.sleep(0.02)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.lines.readline()
        self.do("qmp_capabilities")

    def do(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.lines.readline() or "{\"error\": \"the monitor is gone\"}")
            if "event" in answer:
                continue
            if "error" in answer:
                raise Failure("%s: %s" % (command, answer["error"]))
            return answer["return"]

    def close(self):
        self.lines.close()
        self.socket.close()


class Guest:
    """A machine with a balloon, in which AGENT runs."""

    def __init__(self, t, *options):
        self.t = t
        path = os.path.join(t.scratch, "qmp")
        args = t.quire_args(60, ["--balloon", "--qmp", path, "--log"] + list(options))
        self.log = open(os.path.join(t.scratch, "log"), "w+", encoding="utf-8")
        self.quire = subprocess.Popen(args + [PYTHON, "-c", AGENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.log, cwd=t.scratch, text=True)
        self.monitor = None

    def __enter__(self):
        try:
            self.monitor = Monitor(os.path.join(self.t.scratch, "qmp"), time.monotonic() + 20)
            self.answered("ready")
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.monitor:
            self.monitor.close()
        if self.quire.poll() is None:
            self.quire.terminate()
        self.quire.stdin.close()
        self.quire.wait(20)
        self.quire.stdout.close()
        self.log.close()

    def end(self):
        """The agent's input ends: it, and the machine, must end well.  The log."""
        self.quire.stdin.close()
        status = self.quire.wait(30)
        self.t.check(status == 0, "status %d: %s" % (status, self.said()))
        return self.said()

    def said(self):
        with open(self.log.name, encoding="utf-8") as f:
            return f.read()

    def answered(self, wanted=None):
        line = self.quire.stdout.readline().strip()
        self.t.check(line == wanted if wanted else line, "the guest says %r: %s" % (line, self.said()))
        return line

    def tell(self, words):
        self.quire.stdin.write(words + "\n")
        self.quire.stdin.flush()

    def eat(self, mib):
        self.tell("eat %d" % mib)
        self.answered("done")

    def drop(self):
        self.tell("drop")
        self.answered("done")

    def mib(self, name):
        self.tell("mib " + name)
        return int(self.answered())

    def actual(self):
        """What QEMU believes the guest has, in MiB."""
        return self.monitor.do("query-balloon")["actual"] // MIB

    def set_target(self, mib):
        self.monitor.do("balloon", value=mib * MIB)

    def until(self, condition, what, seconds=15):
        end = time.monotonic() + seconds
        while not condition():
            self.t.check(time.monotonic() < end, "never came: %s; %s" % (what, self.said()))
            time.sleep(0.05)

    def host_mib(self):
        """Memory that the machine's QEMU really has."""
        with open("/proc/%d/task/%d/children" % (self.quire.pid, self.quire.pid), encoding="ascii") as f:
            qemu = f.read().split()[0]
        with open("/proc/%s/smaps_rollup" % qemu, encoding="ascii") as f:
            return int(re.search(r"^Rss: +(\d+) kB", f.read(), re.M).group(1)) >> 10


# The host takes half of the memory and gives it back; both sides count the same.
# proves: LB-28 LB-30
def test_balloon_inflates_and_deflates(t):
    with Guest(t) as g:
        free = g.mib("MemFree")
        t.check(g.mib("Balloon") == 0 and g.actual() == 512, "inflated at boot")
        g.set_target(256)
        g.until(lambda: g.actual() == 256, "256 MiB")
        t.check(g.mib("Balloon") == 256 and abs(free - 256 - g.mib("MemFree")) < 16, (free, g.mib("MemFree")))
        g.set_target(384)
        g.until(lambda: g.actual() == 384, "384 MiB")
        t.check(g.mib("Balloon") == 128, g.mib("Balloon"))
        g.set_target(512)
        g.until(lambda: g.actual() == 512, "all back")
        t.check(g.mib("Balloon") == 0 and abs(free - g.mib("MemFree")) < 16, (free, g.mib("MemFree")))
        g.eat(300)  # what came back is memory like any other
        log = g.end()
        t.check("virtio-balloon: " in log and "out of memory" not in log, log)
