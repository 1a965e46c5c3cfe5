"""Memory that comes and goes while programs run: the kernel's virtio-mem driver with QEMU's own device on the other side."""
import json
import re

import tour
from kernel_virtio import MIB, PYTHON, Guest

SMALL = ("--mem", "256M", "--memory-max", "2G")
ALL = 2048 - 256

# In the guest.  Each MiB that it keeps has a content of its own, which is compared byte by byte.  A child allocates,
# writes, compares and frees all the time, and says at its end how often.
AGENT = """
import hashlib, os, signal, sys
kept = {}
next_key = 0
def content(key):
    return hashlib.sha512(b'%d' % key).digest() * (1 << 14)
def value(name):
    for line in open('/proc/meminfo'):
        if line.startswith(name + ':'):
            return int(line.split()[1]) >> 10
def churn(end):
    rounds = 0
    going = True
    def stop(*_):
        nonlocal going
        going = False
    signal.signal(signal.SIGTERM, stop)
    while going:
        mine = [(k, bytearray(content(k))) for k in range(rounds, rounds + 1 + rounds % 20)]
        if any(data != content(k) for k, data in mine):
            rounds = -1
            break
        rounds += 1
    os.write(end, b'%d' % rounds)
    os._exit(0)
r, w = os.pipe()
child = os.fork()
if not child:
    churn(w)
print('ready', flush=True)
for line in sys.stdin:
    word, arg = (line.split() + [''])[:2]
    answer = 'done'
    if word == 'mib':
        answer = value(arg)
    elif word == 'keep':
        for _ in range(int(arg)):
            kept[next_key] = bytearray(content(next_key))
            next_key += 1
    elif word == 'check':
        answer = sum(data == content(key) for key, data in kept.items())
    elif word == 'drop':
        for key in list(kept)[::int(arg)]:
            del kept[key]
    elif word == 'read':
        answer = open(arg).read().replace('\\n', '|')
    elif word == 'managed':
        answer = open('/proc/zoneinfo').read().split('zone %8s' % arg)[1].split('managed')[1].split()[0]
    elif word == 'write':
        path, text = line.split()[1:]
        try:
            with open(path, 'w') as f:
                f.write(text)
        except OSError as e:
            answer = e.strerror
    elif word == 'churned':
        os.kill(child, signal.SIGTERM)
        answer = int(os.read(r, 20))
        os.waitpid(child, 0)
    print(answer, flush=True)
"""


class Growing(Guest):
    """A machine that may grow, in which AGENT runs."""
    agent, timeout = AGENT, 300

    def __init__(self, t, *options):
        super().__init__(t, *options, device=SMALL)

    def ask(self, words):
        self.tell(words)
        return self.answered()

    def want(self, mib):
        self.monitor.do("qom-set", path="/machine/peripheral/vmem", property="requested-size", value=mib * MIB)

    def plugged(self):
        """What QEMU has given, in MiB."""
        return self.monitor.do("qom-get", path="/machine/peripheral/vmem", property="size") // MIB

    def until_plugged(self, mib, base, seconds=60):
        self.until(lambda: self.plugged() == mib and self.mib("MemTotal") == base + mib, "%d MiB more" % mib, seconds)


# 256 MiB become 2 GiB and 256 MiB again while programs run; what they keep is compared byte by byte.
# proves: LX-37 VE-48 TRAP-20
def test_memory_grows_and_shrinks(t):
    with Growing(t) as g:
        base, free = g.mib("MemTotal"), g.mib("MemFree")
        t.check(base < 256 and not g.plugged(), (base, g.plugged()))
        g.ask("keep 60")
        g.want(ALL)
        g.until_plugged(ALL, base)
        t.check(g.mib("MemFree") > free + ALL - 160, g.mib("MemFree"))
        g.ask("keep 1200")  # most of it is new memory
        t.check(g.ask("check") == "1260", "content")
        g.want(1600)  # part of what is free
        g.until_plugged(1600, base)
        t.check(g.ask("check") == "1260", "content")
        g.ask("drop 1")
        g.ask("keep 20")
        g.want(0)
        g.until_plugged(0, base, seconds=120)
        t.check(g.ask("check") == "20" and int(g.ask("churned")) > 0, "content")
        g.until_free(free - 20, within=48)
        log = g.end()
        t.check(re.search(r"virtio-mem: the host wants 1792 MiB, 1792 MiB", log) and "out of memory" not in log, log)


# In the guest: the programs of the tour, over and over, until told to stop; says how often each ran, and what one of them
# printed that was not what it should.
TOUR = """
import json, os, subprocess, sys, threading
stops = json.load(open(%r))
stop = threading.Event()
runs, wrong = [0] * len(stops), []
def value(name):
    for line in open('/proc/meminfo'):
        if line.startswith(name + ':'):
            return int(line.split()[1]) >> 10
def run(n):
    command, expected = stops[n]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if expected is None:
        stops[n][1] = done.stdout
    elif done.returncode or done.stdout != expected:
        wrong.append('%%s: status %%d, %%r, not %%r' %% (command[0], done.returncode, done.stdout, expected))
    runs[n] += 1
def tour():
    while not stop.is_set():
        for n in range(len(stops)):
            run(n)
for n in range(len(stops)):
    run(n)
print('ready', flush=True)
thread = threading.Thread(target=tour)
thread.start()
for line in sys.stdin:
    word, arg = (line.split() + [''])[:2]
    if word == 'mib':
        print(value(arg), flush=True)
    elif word == 'runs':
        print(min(runs), flush=True)
    elif word == 'toured':
        stop.set()
        thread.join()
        print(json.dumps([runs, wrong]), flush=True)
"""


def tour_stops(t):
    """What the tour of `make run` runs on one node, and what the host says to it; None where that depends on the machine."""
    stops = []
    for _, command, options in tour.STOPS:
        if options:
            continue
        if command[0].startswith("tests/guest/"):
            command = [t.guest(command[0][len("tests/guest/"):])] + command[1:]
        t.need(command[0])
        stops.append((command, None if command[0] == "busybox" else t.host(*command).stdout))
    return stops


class Touring(Growing):
    def __init__(self, t):
        stops = tour_stops(t)
        self.agent = TOUR % t.file("stops", json.dumps(stops))
        words = t.file("words", "\n".join(" ".join(command) for command, _ in stops))  # programs that scripts name
        with_all = [o for command, _ in stops for o in ("--with", command[0])]
        super().__init__(t, *with_all, "--file", t.scratch + "/stops", "--file", words)


# The programs of the tour run one after the other while 256 MiB become 2 GiB and 256 MiB again, twice; each prints what it
# prints on the host, every time.
# proves: LX-37 VE-48 TRAP-20
def test_the_tour_while_memory_comes_and_goes(t):
    with Touring(t) as g:
        base, runs = g.mib("MemTotal"), 1
        t.check(base < 256 and not g.plugged(), (base, g.plugged()))
        for mib in (ALL, 0, ALL, 0):
            g.want(mib)
            g.until_plugged(mib, base, seconds=100)
            runs += 1
            g.until(lambda least=runs: int(g.ask("runs")) >= least, "programs that run", 60)
        done, wrong = json.loads(g.ask("toured"))
        t.check(not wrong and len(done) == 5 and min(done) >= 5, (done, wrong))
        log = g.end()
        t.check("out of memory" not in log, log)


# A block of memory goes off line and comes back by writing to its state; its memory is missing meanwhile, what
# programs had there is not.  A block with memory that cannot move stays.  Memory for every use may be asked for.
def test_blocks_go_off_line(t):
    with Growing(t) as g:
        base = g.mib("MemTotal")
        folder = "/sys/devices/system/memory/"
        t.check(g.ask("read %sauto_online_blocks" % folder) == "online_movable|", "use")
        g.want(512)
        g.until_plugged(512, base)
        g.ask("keep 250")
        state = folder + "memory32/state"  # 4 GiB
        t.check(g.ask("read " + state) == "online|", "state")
        t.check(g.ask("write %s offline" % state) == "done", g.said())
        t.check(g.ask("read " + state) == "offline|" and g.mib("MemTotal") == base + 384, g.mib("MemTotal"))
        t.check(g.ask("check") == "250", "content")
        t.check(g.ask("write %s online" % state) == "done" and g.mib("MemTotal") == base + 512, g.mib("MemTotal"))
        t.check(g.ask("write %smemory0/state offline" % folder) == "Device or resource busy", "memory of the kernel")
        t.check(g.mib("MemTotal") == base + 512 and g.ask("write %s off" % state) == "Invalid argument", "refused")
        t.check(g.ask("write %sauto_online_blocks online_kernel" % folder) == "done", "use")
        g.want(768)
        g.until_plugged(768, base)
        t.check(int(g.ask("managed Normal")) == 256 << 8, "the kernel's memory")
        t.check(g.ask("check") == "250" and int(g.ask("churned")) > 0, "content")
        g.end()
