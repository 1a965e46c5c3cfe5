"""The kernel's heap under observation: who allocated what, lost memory, Debian's slabtop."""
import re

PYTHON = "/usr/bin/python3"

HELPERS = """
import mmap, os, re, select, socket, threading, time
LEAKS = '/sys/kernel/debug/kmemleak'
def text(path):
    with open(path) as f: return f.read()
def tell(word):
    with open(LEAKS, 'w') as f: f.write(word)
def suspects():
    tell('scan'); tell('scan')
    return text(LEAKS)
def scans():
    return {k: int(v) if v.isdigit() else v for k, v in (l.split() for l in open('/proc/quire/leakscan'))}
def until(what):
    for _ in range(600):
        if what(): return
        time.sleep(.1)
    assert False, (scans(), text(LEAKS))
"""

# A bit of everything that makes the kernel allocate: files, pipes, sockets, threads, processes, memory of all kinds.
WORK = """
def work(n):
    for i in range(n):
        pid = os.fork()
        if not pid:
            m = mmap.mmap(-1, 4 << 20)
            for at in range(0, 4 << 20, 4096): m[at] = 1
            os._exit(0)
        a, b = socket.socketpair()
        a.send(b'x' * 3000); assert len(b.recv(4000)) == 3000
        r, w = os.pipe()
        os.write(w, b'y' * 5000)
        path = '/tmp/file%d' % i
        with open(path, 'wb') as f: f.write(b'z' * 100000)
        with open(path, 'r+b') as f:
            m = mmap.mmap(f.fileno(), 0)
            m[5000:5100] = b'q' * 100
            m.close()
        os.rename(path, path + 'x'); os.unlink(path + 'x')
        t = threading.Thread(target=lambda: [os.stat('/') for _ in range(50)])
        t.start(); t.join()
        os.waitpid(pid, 0)
        for fd in (r, w): os.close(fd)
        a.close(); b.close()
        text('/proc/self/maps'); text('/proc/meminfo')
"""


def in_guest(t, program, *options, timeout=120):
    script = t.file("program.py", HELPERS + program)
    done = t.quire(PYTHON, script, options=list(options), timeout=timeout)
    t.check(done.status == 0, done)
    return done


# Nothing that is in use is taken for lost: after work of all kinds, and while it goes on on other processors.
# proves: VE-56
def test_leak_scan_takes_nothing_in_use_for_lost(t):
    for cpus in ("1", "4"):
        out = in_guest(t, WORK + """
tell('age=0')
work(5)
print('after:', suspects())
tell('age=1000')
going = os.fork()
if not going:
    work(40)
    os._exit(0)
scans, over = 0, 0
while not over or scans < 5:
    tell('scan'); scans += 1
    found = text(LEAKS)
    if found: print('beside:', found)
    over = over or os.waitpid(going, os.WNOHANG)[0]
print(scans, 'scans')
""", "--cpus", cpus, "--heap", "track,leakscan", timeout=200).stdout
        t.check("unreferenced" not in out and re.search(r"[0-9]+ scans", out), out)


# What is lost is found, with who allocated it: also a ring, a run of pages, a kernel area.
# proves: VE-55 VE-56
def test_leak_scan_finds_planted_leaks(t):
    done = in_guest(t, """
tell('age=0')
first = suspects()
print(first)
assert suspects() == first or len(suspects()) == len(first)
tell('clear')
assert not suspects()
try: tell('sca'); assert False
except OSError: pass
tell('dump=' + re.search(r'object (0x\\w+) ', first).group(1))
""", "--heap", "leakscan", "--log", "--append", "quire.lose")
    found = re.findall(r"unreferenced object 0x\w+ \(size (\d+)\):\n  pid \d+, cpu \d+ \(age [\d.]+s\)\n"
                       r"  hex dump \(first 32 bytes\):\n(?:    .*\n){2}  backtrace \(crc \w+\):\n((?:    \w+ .*\n)+)", done.stdout)
    t.check(sorted(int(size) for size, _ in found) == [96, 96, 96, 20000, 40000], done.stdout)
    for size, trace in found:
        # who called, exactly: no function too many, none left out that did not end by a jump
        names = re.findall(r"\w+ ([\w.]+)\+", trace)
        t.check(names[0] == ("lose_a_ring" if size == "96" else "lose_pages") and [n for n in names[1:] if n != "selftest_lose"] ==
                ["init_main", "kthread_run", "task_first_kernel"], done.stdout)
    t.check("5 new suspected memory leaks" in done.stderr and "of kmalloc-96" in done.stderr, done.stderr)


# The thread finds what is lost, by itself and not in its first look: two scans, and the age of five seconds.
# What one word of the kernel's data leads to is not reported.
# proves: VE-56
def test_leak_thread_finds_planted_leaks(t):
    done = in_guest(t, """
assert scans()['state'] == 'automatic' and scans()['period'] == 600, scans()
tell('scan=off')
assert scans()['state'] == 'asked'
tell('age=86400000')
tell('scan=1')
until(lambda: scans()['by_itself'] >= 3)
assert text(LEAKS) == '' and scans()['suspects'] == 0, text(LEAKS)
tell('age=5000')
until(lambda: text(LEAKS))
print(text(LEAKS))
n = scans()
tell('scan=0')
assert scans()['state'] == 'asked'
tell('scan=on')
until(lambda: scans()['by_itself'] > n['by_itself'])
assert len(re.findall('unreferenced', text(LEAKS))) == 5 == scans()['suspects'], text(LEAKS)
print('asked to scan by program:', scans()['scans'] - scans()['by_itself'])
for bad in ('scan=', 'scan=x', 'scan=-1', 'stack=', 'offf'):
    try: tell(bad); assert False, bad
    except OSError: pass
""", "--heap", "leakscan", "--log", "--append", "quire.lose")
    found = re.findall(r"unreferenced object 0x\w+ \(size (\d+)\):\n.*\(age ([\d.]+)s\)", done.stdout)
    t.check(sorted(int(size) for size, _ in found) == [96, 96, 96, 20000, 40000], done.stdout)
    t.check(all(float(age) >= 5 for _, age in found), done.stdout)
    t.check("asked to scan by program: 0" in done.stdout, done.stdout)
    t.check(done.stderr.count("5 new suspected memory leaks") == 1, done.stderr)


# What a system call allocates has its callers up to the entry; without the stacks of tasks it is lost, being nowhere else.
# proves: VE-55
def test_trace_ends_at_the_system_call(t):
    out = in_guest(t, """
ends = [os.pipe() for _ in range(100)]
def wait():
    p = select.poll()
    for r, w in ends: p.register(r)
    p.poll(30000)
threading.Thread(target=wait, daemon=True).start()
tell('scan=off'); tell('age=0')
def lost():
    tell('stack=on'); assert not suspects(), text(LEAKS)
    tell('stack=off'); return suspects()
until(lost)
print(text(LEAKS), flush=True)
os._exit(0)
""", "--heap", "leakscan").stdout
    found = re.findall(r"\(size (\d+)\):\n(?:.*\n){4}  backtrace .*\n((?:    \w+ .*\n)+)", out)
    t.check(len(found) == 1 and found[0][0] == "800", out)
    t.check(re.findall(r"\w+ ([\w.]+)\+", found[0][1])[-2:] == ["sys_poll", "syscall_entry"], out)


# While programs work on all processors the thread scans, and takes nothing of theirs for lost.
# proves: VE-56
def test_leak_thread_takes_nothing_in_use_for_lost(t):
    out = in_guest(t, WORK + """
tell('age=1000')
tell('scan=1')
until(lambda: (work(3), scans()['by_itself'] >= 8)[1] or text(LEAKS))
print('found:', text(LEAKS))
""", "--cpus", "4", "--heap", "leakscan", timeout=200).stdout
    t.check("found: \n" in out, out)


# Off is for good: nothing is scanned any more, nor tracked.
# proves: VE-56
def test_leak_scan_is_switched_off(t):
    in_guest(t, """
tell('stack=off'); tell('stack=on')
tell('scan')
n = scans()['scans']
live = lambda: sum(int(l.split()[1]) for l in text('/proc/allocinfo').splitlines()[2:])
tell('off')
assert scans()['state'] == 'off'
before = live()
held = [os.open('/tmp/held%d' % i, os.O_CREAT | os.O_RDWR) for i in range(200)]
assert live() <= before, (before, live())
for word in ('scan', 'scan=1', 'scan=on', 'off', 'stack=on'):
    try: tell(word); assert False, word
    except PermissionError: pass
tell('clear')
assert scans()['scans'] == n and text(LEAKS) == ''
""", "--heap", "leakscan")


# Without the mode there is none, and nothing is counted.
# proves: VE-56
def test_leak_scan_wants_its_mode(t):
    in_guest(t, """
assert text(LEAKS) == ''
try: tell('scan'); assert False
except PermissionError: pass
assert len(text('/proc/allocinfo').splitlines()) == 2
""")


# Who allocated what, in Linux's form, and at the end in the report.
# proves: VE-55 VE-58
def test_allocation_sites_are_told(t):
    done = in_guest(t, WORK + """
def sites():
    lines = text('/proc/allocinfo').splitlines()
    assert lines[0] == 'allocinfo - version: 1.0' and lines[1].startswith('#     <size>  <calls> <tag info>'), lines[:2]
    rows = [re.fullmatch(r' *(\\d+) +(\\d+) ([\\w.]+)\\+(0x\\w+) func:([\\w.]+)', l) for l in lines[2:]]
    assert all(rows) and all(r.group(3) == r.group(5) for r in rows), lines
    return {r.group(3): (int(r.group(1)), int(r.group(2))) for r in rows}
before = sites()
held = [os.open('/tmp/held%d' % i, os.O_CREAT | os.O_RDWR) for i in range(200)]
after = sites()
assert after['file_on'][1] >= before['file_on'][1] + 200, (before, after)
""", "--heap", "track", "--report")
    m = re.search(r"kernel heap +(\d+) objects, (\d+) KiB, from (\d+) places", done.stderr)
    t.check(m and int(m.group(1)) > 200 and int(m.group(3)) > 20, done.stderr)
    rows = re.findall(r"^    [\w.]+\+0x\w+ +(\d+) (B|KiB|MiB) in +\d+, at most \d+ \w+, \d+ calls$", done.stderr, re.M)
    held = [int(n) * {"B": 1, "KiB": 1024, "MiB": 1 << 20}[u] for n, u in rows]
    t.check(len(held) == 10 and held == sorted(held, reverse=True), done.stderr)


# procps' slabtop reads /proc/slabinfo; its columns are what Linux's are.
# proves: VE-58
def test_slabtop_reads_slabinfo(t):
    done = t.quire("/usr/bin/slabtop", "-o", "-s", "o", timeout=60)
    t.check(done.status == 0, done)
    head = re.search(r"Active / Total Objects \(% used\) +: (\d+) / (\d+)", done.stdout)
    t.check(head and 0 < int(head.group(1)) <= int(head.group(2)), done)
    rows = re.findall(r"^ *(\d+) +(\d+) +(\d+)% +([\d.]+)K +(\d+) +(\d+) +(\d+)K (\S+)", done.stdout, re.M)
    t.check(len(rows) > 10 and any(r[7].startswith("kmalloc-") for r in rows), done.stdout)
    for objs, active, _, kib, slabs, per, cache, name in rows:
        t.check(int(active) <= int(objs) <= int(slabs) * int(per) and int(cache) * 1024 >= int(slabs) * 4096, (name, done.stdout))


# The heap is looked through while other processors use it, under every mode of its hardening.
# proves: VE-57
def test_heap_is_validated_in_use(t):
    for heap in ("none", "hardening,track", "full"):
        out = in_guest(t, WORK + """
assert text('/proc/quire/validate') == 'not asked\\n'
going = os.fork()
if not going:
    work(10)
    os._exit(0)
looks, over = 0, 0
while not over or looks < 5:
    with open('/proc/quire/validate', 'w') as f: f.write('1')
    assert text('/proc/quire/validate') == 'sound\\n'
    looks += 1
    over = over or os.waitpid(going, os.WNOHANG)[0]
print(looks, 'looks')
""", "--cpus", "4", "--heap", heap).stdout
        t.check("looks" in out, out)
