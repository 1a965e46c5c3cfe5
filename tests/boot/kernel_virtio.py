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
SAME_LINE = 6  # a slot whose interrupt arrives at the same line as that of the balloon in slot 2

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

    def __init__(self, path, quire):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        end = time.monotonic() + 20
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError as e:
                if time.monotonic() > end or quire.poll() is not None:
                    raise Failure("no monitor (%s), status %s" % (e, quire.poll())) from None
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
    """A machine with a balloon, in which AGENT runs; or one that waits for the state of another, under another name."""
    agent, timeout = AGENT, 60

    def __init__(self, t, *options, device=("--balloon",), name="first"):
        self.t = t
        self.path = os.path.join(t.scratch, "qmp-" + name)
        self.incoming = name != "first"
        options = list(device) + list(options) + (["--qemu", "-incoming defer"] if self.incoming else [])
        args = t.quire_args(self.timeout, ["--qmp", self.path, "--log", "--append", "quire.selftest"] + options)
        self.log = open(os.path.join(t.scratch, "log-" + name), "w+", encoding="utf-8")
        self.quire = subprocess.Popen(args + [PYTHON, "-c", self.agent], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.log, cwd=t.scratch, text=True)
        self.monitor = None

    def __enter__(self):
        try:
            self.monitor = Monitor(self.path, self.quire)
            if not self.incoming:
                self.answered("ready")
        except Exception as e:
            said = self.said()
            self.__exit__()
            raise Failure("%s: %s" % (e, said)) from e
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
        """The agent's input ends: it, and the machine, must end well, with the frames in order.  The log."""
        self.quire.stdin.close()
        status = self.quire.wait(30)
        log = self.said()
        verified = 1 if self.incoming else 2
        self.t.check(status == 0 and log.count("verify frames: success") == verified, "status %d: %s" % (status, log))
        return log

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

    def until_free(self, mib, within=16):
        self.until(lambda: abs(self.mib("MemFree") - mib) < within, "%d MiB free" % mib)

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
        t.check(g.mib("Balloon") == 256, g.mib("Balloon"))
        g.until_free(free - 256)
        g.set_target(384)
        g.until(lambda: g.actual() == 384, "384 MiB")
        t.check(g.mib("Balloon") == 128, g.mib("Balloon"))
        g.set_target(512)
        g.until(lambda: g.actual() == 512, "all back")
        t.check(g.mib("Balloon") == 0, g.mib("Balloon"))
        g.until_free(free)
        g.eat(300)  # what came back is memory like any other
        log = g.end()
        t.check("virtio-balloon: " in log and "out of memory" not in log, log)


# What the guest tells of its memory is what it has, and follows it.
# proves: LB-29
def test_balloon_statistics(t):
    def stats():
        return g.monitor.do("qom-get", path="/machine/peripheral/balloon", property="guest-stats")

    def newer():
        asked = time.time()
        g.until(lambda: stats()["last-update"] > asked, "statistics")
        return stats()["stats"]

    with Guest(t) as g:
        g.monitor.do("qom-set", path="/machine/peripheral/balloon", property="guest-stats-polling-interval", value=1)
        first = newer()
        total, free = g.mib("MemTotal"), g.mib("MemFree")
        t.check(first["stat-total-memory"] // MIB == total and abs(first["stat-free-memory"] // MIB - free) < 16,
                (first, total, free))
        t.check(first["stat-minor-faults"] > 0 and first["stat-major-faults"] == 0 and first["stat-swap-in"] == 0, first)
        t.check(first["stat-disk-caches"] // MIB == g.mib("Cached"), first)
        g.eat(100)
        second = newer()
        lost = (first["stat-free-memory"] - second["stat-free-memory"]) // MIB
        t.check(90 <= lost <= 110 and second["stat-minor-faults"] > first["stat-minor-faults"], (first, second))
        g.end()


# A program wants more than the host has left: the balloon gives way, nobody dies; and it stays as it is until
# the host says something again.
# proves: LB-30
def test_balloon_deflates_on_oom(t):
    with Guest(t) as g:
        g.set_target(192)
        g.until(lambda: g.actual() == 192, "192 MiB")
        free = g.mib("MemFree")
        g.eat(free + 120)
        g.mib("Balloon")  # to look may itself take some back
        left = g.actual()
        t.check(192 + 100 <= left <= 192 + 160, (free, left))
        t.check(512 - g.mib("Balloon") == left, left)
        g.drop()
        time.sleep(1)
        t.check(g.actual() == left, "inflated again by itself: %d, %d" % (left, g.actual()))
        g.set_target(200)
        g.until(lambda: g.actual() == 200, "200 MiB")
        log = g.end()
        t.check("taking back from the host" in log and "killed" not in log, log)


# The host wants more than there is: the balloon stops while the guest can still work, and goes on when there is more.
def test_balloon_leaves_the_guest_its_last_memory(t):
    with Guest(t) as g:
        g.eat(200)
        g.set_target(64)
        g.until(lambda: "no more memory is free" in g.said(), "too little memory")
        stopped = g.actual()
        t.check(200 < stopped < 300 and g.mib("MemFree") >= 1, stopped)
        g.drop()
        g.until(lambda: g.actual() < stopped - 100, "more, once there is")
        t.check("killed" not in g.end(), g.said())


# What a program has freed goes back to the host, whose process shrinks; and comes again when touched.
def test_free_page_reporting(t):
    with Guest(t) as g:
        before = g.host_mib()
        g.eat(250)
        full = g.host_mib()
        t.check(full > before + 220, (before, full))
        g.drop()
        g.until(lambda: g.host_mib() < full - 200, "less memory in QEMU than %d MiB" % full)
        g.eat(250)
        t.check(g.host_mib() > full - 20, (full, g.host_mib()))
        g.end()


# The host changes its mind all the time while programs on four processors take and free memory: nobody dies, and
# what both sides count is the same at the end.
def test_balloon_under_load(t):
    with Guest(t, "--cpus", "4") as g:
        free = g.mib("MemFree")
        end, n = time.monotonic() + 8, 0
        while time.monotonic() < end:
            n += 1
            g.set_target((128, 512, 192, 320)[n % 4])
            g.tell("eat %d" % (60 * (n % 3)))
            time.sleep(0.1 * (n % 2))
            g.answered("done")
            g.drop()
        g.set_target(512)
        g.until(lambda: g.actual() == 512, "all back")
        t.check(g.mib("Balloon") == 0, g.mib("Balloon"))
        g.until_free(free, 24)
        t.check("killed" not in g.end() and n > 10, (n, g.said()))


# A device that nobody drives interrupts at the balloon's line, which stays up: it is switched off, the balloon goes on.
# The device is a network card of the old kind, made to interrupt through its ports (DP8390D data sheet, chapter 10):
# interrupt mask, byte count 0, start a remote read, which is complete at once.
def test_stray_interrupts_are_switched_off(t):
    with Guest(t, "--qemu", "-device ne2k_pci,addr=%d,romfile=" % SAME_LINE) as g:
        card = [d for d in g.monitor.do("query-pci")[0]["devices"] if d["slot"] == SAME_LINE][0]
        base = [r["address"] for r in card["regions"] if r["type"] == "io"][0]
        for register, value in ((15, 0x40), (10, 0), (11, 0), (0, 0x0a)):
            g.monitor.do("human-monitor-command", **{"command-line": "o /b 0x%x 0x%x" % (base + register, value)})
        g.until(lambda: "nobody drives it: switched off" in g.said(), "the stray interrupt")
        g.set_target(400)
        g.until(lambda: g.actual() == 400, "400 MiB")
        t.check(g.end().count("switched off") == 1, g.said())


# Without an I/O APIC no interrupt arrives: the driver looks now and then.
def test_balloon_without_interrupts(t):
    with Guest(t, "--qemu", "-machine acpi=off") as g:
        for mib in (300, 512, 400):
            g.set_target(mib)
            g.until(lambda: g.actual() == mib, "%d MiB" % mib)
        t.check("polled" in g.said(), g.said())


HINTING = ("--qemu", "-object iothread,id=io -device virtio-balloon-pci,id=balloon,free-page-hint=on,iothread=io")


# The machine is copied to a file: what was used and is free again is left out.  The copy goes on where the first was;
# and so does the first, with all its memory.
def test_free_page_hinting(t):
    copy = os.path.join(t.scratch, "copy")

    def finished(g):
        status = g.monitor.do("query-migrate").get("status")
        t.check(status not in ("failed", "cancelled"), status)
        return status == "completed"

    with Guest(t, device=HINTING) as g:
        free = g.mib("MemFree")
        g.eat(250)
        g.drop()
        g.monitor.do("migrate-set-parameters", **{"max-bandwidth": 4 * MIB})  # until all hints are given
        g.monitor.do("migrate", uri="exec:cat >" + copy)
        g.until(lambda: g.mib("MemFree") < 128, "the hints")
        g.monitor.do("migrate-set-parameters", **{"max-bandwidth": 1 << 34})
        g.until(lambda: finished(g), "the copy")
        t.check(os.path.getsize(copy) < 150 * MIB, os.path.getsize(copy))
        g.monitor.do("cont")
        g.until(lambda: g.mib("MemFree") > free - 16, "the memory that was held")
        g.eat(250)
        g.end()
    with Guest(t, device=HINTING, name="second") as g:
        g.monitor.do("migrate-incoming", uri="exec:cat " + copy)
        g.until(lambda: finished(g), "the copy's start")
        g.set_target(450)
        g.until(lambda: g.actual() == 450, "450 MiB")
        g.eat(250)
        g.drop()
        g.set_target(512)
        g.until(lambda: g.mib("MemFree") > free - 16, "the memory that was held")
        g.end()
