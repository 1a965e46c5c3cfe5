"""What the kernel shows of physical memory: /proc, /sys, and Debian's own programs that read them."""
import os
import re
import subprocess

PYTHON = "/usr/bin/python3"
NUMA = ("--cpus", "4", "--nodes", "2", "--mem", "1G")


def in_guest(t, program, *options, timeout=60):
    """What a python program in the guest prints; its helpers are below."""
    script = t.file("program.py", HELPERS + program)
    done = t.quire(PYTHON, script, options=list(options), timeout=timeout)
    t.check(done.status == 0, done)
    return done.stdout


HELPERS = """
import mmap, os, re
def text(path):
    with open(path) as f: return f.read()
def zones():
    return re.findall(r'^Node (\\d+), zone +(\\w+)\\n((?:  .*\\n)+)', text('/proc/zoneinfo'), re.M)
def field(body, name):
    return int(re.search(r'^ +%s +(\\d+)$' % name, body, re.M).group(1))
NODES = '/sys/devices/system/node/'
def kb(path, name):
    return int(re.search(r'%s: +(\\d+) kB' % name, text(path)).group(1))
"""


# The views of one thing agree: zones, nodes, the whole; and they move when a program takes memory.
def test_memory_views_agree(t):
    out = in_guest(t, """
nodes = [n for n in os.listdir(NODES) if re.fullmatch(r'node\\d+', n)]
assert sorted(nodes) == ['node0', 'node1'] and text(NODES + 'online') == text(NODES + 'has_memory') == '0-1\\n'
managed = {}
for node, zone, body in zones():
    spanned, present = field(body, 'spanned'), field(body, 'present')
    assert spanned >= present >= field(body, 'managed') >= field(body, 'pages free'), (node, zone)
    assert field(body, 'min') <= field(body, 'low') <= field(body, 'high')
    assert len(re.findall(r'^    cpu: \\d', body, re.M)) == 4
    managed[node] = managed.get(node, 0) + 4 * field(body, 'managed')
for node, total in managed.items():
    assert kb(NODES + 'node%s/meminfo' % node, 'MemTotal') == total
assert sum(managed.values()) == kb('/proc/meminfo', 'MemTotal')
def anon():
    return sum(kb(NODES + n + '/meminfo', 'AnonPages') for n in nodes)
before = anon(), kb('/proc/meminfo', 'AnonPages')
kept = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, 64 << 20, 4096): kept[at] = 1
after = anon(), kb('/proc/meminfo', 'AnonPages')
assert all(65536 <= b - a < 66500 for a, b in zip(before, after)), (before, after)
for line in text('/proc/pagetypeinfo').splitlines():
    m = re.match(r'Node +(\\d+), zone +(\\w+), type +(\\w+) ([ \\d]+)$', line)
    if m: print(m.group(1), m.group(2), m.group(3), sum(int(c) << o for o, c in enumerate(m.group(4).split())))
for name in ('unusable_index', 'extfrag_index'):
    rows = text('/sys/kernel/debug/extfrag/' + name).splitlines()
    assert len(rows) == len(zones()) and all(len(r.split()) == 4 + 11 for r in rows), rows
""", *NUMA)
    rows = [line.split() for line in out.splitlines()]
    t.check({r[2] for r in rows} == {"Unmovable", "Movable", "Reclaimable", "CMA", "Isolate"}, out)
    t.check(sum(int(r[3]) for r in rows) * 4 > 800 << 10, out)


# proves: LX-49 LX-50
def test_kpageflags_and_kpagecount(t):
    in_guest(t, """
end = max(field(b, 'start_pfn:') + field(b, 'spanned') for _, _, b in zones())
said = {n: kb('/proc/meminfo', n) for n in ('MemFree', 'Slab', 'PageTables')}
# into memory that is there already, so that little changes between the two
buffers = [bytearray(b'x') * (8 * end) for _ in range(2)]
files = [open('/proc/' + name, 'rb', 0) for name in ('kpageflags', 'kpagecount')]
def words():
    for f, b in zip(files, buffers):
        f.seek(0)
        assert f.readinto(b) == len(b)
    return [memoryview(b).cast('Q') for b in buffers]
flags, counts = words()
with open('/proc/kpageflags', 'rb') as f:
    assert f.seek(0, 2) == 8 * end and f.read(8) == b''
    f.seek(4096); assert len(f.read(4096)) == 4096
try: os.pread(os.open('/proc/kpageflags', os.O_RDONLY), 8, 4); assert False
except OSError as e: assert e.errno == 22
NOPAGE, BUDDY, ANON, MMAP, SLAB, TABLE = 1 << 20, 1 << 10, 1 << 12, 1 << 11, 1 << 7, 1 << 26
assert flags[0] & NOPAGE and flags[0xb0] & NOPAGE  # frame 0, and the VGA hole
free = sum(1 for f in flags if f & BUDDY) * 4
assert abs(free - said['MemFree']) < 2048, (free, said)
for bit, name in ((SLAB, 'Slab'), (TABLE, 'PageTables')):
    n = sum(1 for f in flags if f & bit) * 4
    assert n and abs(n - said[name]) <= 1024, (name, n, said)
assert sum((c > 0) != bool(f & MMAP) for f, c in zip(flags, counts)) < 16 < sum(c > 0 for c in counts)
kept = mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def mapped(times):
    return sum(c == times and f & ANON > 0 for f, c in zip(*words()))
once, twice = mapped(1), mapped(2)
for at in range(0, 8 << 20, 4096): kept[at] = 1
assert mapped(1) - once >= 2048
r, w = os.pipe()
if not os.fork():
    os.read(r, 1); os._exit(0)
assert mapped(2) - twice >= 2048  # of parent and child now
os.write(w, b'x'); os.wait()
""", "--mem", "256M")


# Debian's programs read it all and find two nodes.
def test_numactl_numastat_lsmem(t):
    t.need("numastat", "lsmem", "lscpu", "free", "vmstat", "bash")
    script = t.file("tools.sh", "set -e; numastat; numastat -m; lsmem -a -o RANGE,STATE,NODE,ZONES; lscpu; free -k; vmstat\n")
    options = list(NUMA)
    for program in ("numastat", "lsmem", "lscpu", "free", "vmstat"):
        options += ["--with", program]
    done = t.quire("bash", script, options=options, timeout=60)
    t.check(done.status == 0 and not done.stderr, done)
    out = done.stdout
    t.check(re.search(r"^ +node0 +node1$", out, re.M) and "not in hash" not in out, out)
    total = [float(x) for x in re.search(r"^MemTotal +([\d.]+) +([\d.]+) +([\d.]+)$", out, re.M).groups()]
    t.check(450 < total[0] < 512 and 450 < total[1] < 512 and abs(sum(total[:2]) - total[2]) < 0.1, out)
    blocks = re.findall(r"^0x(\w+)-0x(\w+) online +(\d) +(\w+)$", out, re.M)
    t.check([b[2] for b in blocks] == ["0"] * 4 + ["1"] * 4, out)
    t.check(all(b[3] == "DMA32" for b in blocks[1:]) and "Total online memory:       1G" in out, out)
    t.check(re.search(r"NUMA node0 CPU\(s\): +0,1$", out, re.M) and re.search(r"NUMA node1 CPU\(s\): +2,3$", out, re.M), out)
    free = re.search(r"^Mem: +(\d+)", out, re.M)
    t.check(abs(int(free.group(1)) - total[2] * 1024) < 1024, out)


# A node without processors, far away, and what HMAT says of it: distances, who reaches it how fast, a cache.
# proves: VE-07
def test_hmat_and_distances(t):
    out = in_guest(t, """
for n in (0, 1):
    print(text(NODES + 'node%d/distance' % n).split(), text(NODES + 'node%d/cpulist' % n).strip())
    for a in (0, 1):
        d = NODES + 'node%d/access%d/initiators/' % (n, a)
        print(sorted(f for f in os.listdir(d) if f.startswith('node')),
              [int(text(d + rw + '_' + what)) for what in ('latency', 'bandwidth') for rw in ('read', 'write')])
d = NODES + 'node1/memory_side_cache/index1/'
print([int(text(d + f)) for f in ('size', 'line_size', 'indexing', 'write_policy')])
print(text(NODES + 'has_cpu').strip(), text(NODES + 'has_memory').strip())
""", "--nodes", "256M:2,256M:0", "--distance", "0-1=33", "--reach", "0-0=90/20000,0-1=250/5000",
                   "--qemu", "-numa hmat-cache,node-id=1,size=16M,level=1,associativity=direct,policy=write-back,line=64")
    near, far = "['node0'] [90, 90, 20000, 20000]", "['node0'] [250, 250, 5000, 5000]"
    wanted = ["['10', '33'] 0-1", near, near, "['33', '10'] ", far, far, "[16777216, 64, 0, 0]", "0 0-1"]
    t.check(out.splitlines() == wanted, out)


# Tables that contradict themselves are named and not taken; the machine starts all the same.
def test_bad_tables_of_nodes_are_refused(t):
    def refused(signature, data, revision, *options):
        path = os.path.join(t.scratch, signature)
        with open(path, "wb") as f:
            f.write(data)
        done = t.quire("/bin/true", options=["--log", "--qemu", "-acpitable sig=%s,rev=%d,data=%s" % (signature, revision, path)]
                       + list(options), timeout=60)
        t.check(done.status == 0, done)
        t.check(re.search(r"acpi: %s is not taken: \w.* \(at \d+\)" % signature, done.stderr), done.stderr)
        return done.stderr

    log = refused("SRAT", bytes(12) + bytes([1, 16]) + bytes(14), 3)
    t.check("2 CPUs, 1 node" in log, log)
    refused("SLIT", (3).to_bytes(8, "little") + bytes(8), 1)
    refused("HMAT", bytes(4) + b"\1\0\0\0" + (4000).to_bytes(4, "little") + bytes(28), 2, "--nodes", "2")


# quire blocks: what a program holds is in the picture while it runs, and in that of its end.
def test_quire_blocks(t):
    picture = os.path.join(t.scratch, "memory.svg")
    program = "x = bytearray(b'x') * (80 << 20)\nimport time; time.sleep(2)"
    args = t.quire_args(60, ["--nodes", "256M:1,128M:1"])
    args[1:2] = ["blocks", "--every", "0.5", "--svg", picture]
    done = subprocess.run(args + [PYTHON, "-c", program], capture_output=True, text=True, cwd=t.scratch, timeout=120, check=False)
    t.check(done.returncode == 0, done)
    pictures = re.split(r"after [\d.]+ s\n|\nMemory at the end:\n", done.stdout)[1:]
    held = [sum(line.count("A") for line in re.findall(r"\|(.{64})\|", p)) for p in pictures]
    t.check(len(pictures) >= 3 and max(held) >= 38 and held[-1] < 5, held)
    t.check(all(p.count("node 0, zone DMA32") == p.count("node 1, zone DMA32") == 1 for p in pictures), done.stdout)
    with open(picture, encoding="utf-8") as f:
        svg = f.read()
    t.check(svg.startswith("<svg") and "pageblock 0 at 0 KiB" in svg, svg[:500])


# A program finds its own pages: which node they are on, which frame each is, and what that frame is.
# proves: LX-46 LX-48
def test_numa_maps_and_pagemap(t):
    in_guest(t, """
import ctypes, struct
kept = mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, 12 << 20, 4096): kept[at] = at >> 12 & 255
start = ctypes.addressof(ctypes.c_char.from_buffer(kept))
rows = {}
for line in text('/proc/self/numa_maps').splitlines():
    address, policy, *rest = line.split()
    assert policy == 'default', line
    rows[int(address, 16)] = dict(w.split('=', 1) if '=' in w else (w, '') for w in rest)
maps = {int(l.split('-')[0], 16): l.split() for l in text('/proc/self/maps').splitlines()}
assert set(rows) == set(maps) and any('heap' in r for r in rows.values()) and any('stack' in r for r in rows.values())
row = max((a for a in rows if a <= start), key=lambda a: a)
row = rows[row]
nodes = {w: int(n) for w, n in row.items() if re.fullmatch(r'N\\d', w)}
assert sum(nodes.values()) >= 3072 and int(row['anon']) == sum(nodes.values()) == int(row['dirty']), row
assert sum(int(r.get('mapped', 0)) for r in rows.values() if 'libc' in r.get('file', '')) > 50
assert text(NODES + 'online') == '0-1\\n'
# which frames: present, private, mapped once, all different, and on the nodes that numa_maps says
with open('/proc/self/pagemap', 'rb') as f:
    f.seek(start // 4096 * 8)
    words = struct.unpack('<4096Q', f.read(8 * 4096))
frames = [w & (1 << 55) - 1 for w in words if w >> 63]
assert len(set(frames)) == len(frames) == 3072 and all(w == 0 for w in words[3072:])
assert all(w >> 56 & 1 and not w >> 61 & 1 for w in words[:3072])
border = min(int(b) for n, _, body in zones() if n == '1' for b in [field(body, 'start_pfn:')])
there = sum(f >= border for f in frames)
assert abs(there - nodes.get('N1', 0)) < 64, (there, nodes)
with open('/proc/kpageflags', 'rb') as f:
    for frame in frames[::97]:
        f.seek(frame * 8)
        assert struct.unpack('<Q', f.read(8))[0] & (1 << 12 | 1 << 11) == 1 << 12 | 1 << 11
r, w = os.pipe()
if not os.fork():
    os.read(r, 1); os._exit(0)
with open('/proc/self/pagemap', 'rb') as f:
    f.seek(start // 4096 * 8)
    assert not any(x >> 56 & 1 for x in struct.unpack('<3072Q', f.read(8 * 3072)))  # shared with a child
os.write(w, b'x'); os.wait()
""", *NUMA)


# Debian's numactl decides where a program's memory comes from; numa_maps and numastat see it.
def test_numactl_policies(t):
    t.need("numactl", "numastat", "bash")
    hold = t.file("hold.py", HELPERS + """
kept = mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, 8 << 20, 4096): kept[at] = 1
rows = [l for l in text('/proc/self/numa_maps').splitlines() if ' anon=2048 ' in l]
print(*(w for w in rows[0].split()[1:] if not re.match('anon|dirty|kernel', w)))
""")
    cases = {"--membind=1": "bind:1 N1=2048", "--membind=0": "bind:0 N0=2048", "--preferred=1": "prefer:1 N1=2048",
             "--interleave=all": "interleave:0-1 N0=1024 N1=1024", "--cpunodebind=1 --localalloc": "local N1=2048",
             "--cpunodebind=0": "default N0=2048"}
    script = t.file("all.sh", "set -e\nnumactl -H\n" + "".join("numactl %s %s %s\n" % (o, PYTHON, hold) for o in cases)
                    + "numactl --membind=0,1 --cpunodebind=1 numactl --show\nnumastat\n! numactl --membind=2 true\n")
    options = list(NUMA) + ["--with", "numactl", "--with", "numastat", "--with", PYTHON, "--file", hold]
    done = t.quire("bash", script, options=options, timeout=120)
    t.check(done.status == 0, done)
    lines = done.stdout.splitlines()
    for wanted in ("available: 2 nodes (0-1)", "node 1 cpus: 2 3", "  1:  20  10 ", "policy: bind", "membind: 0 1 ", "nodebind: 1 "):
        t.check(wanted in lines, (wanted, done))
    t.check([l for l in lines if re.search(r" N\d=", l)] == list(cases.values()), done)
    hits = re.search(r"^interleave_hit +(\d+) +(\d+)$", done.stdout, re.M)
    t.check(all(int(h) >= 1024 for h in hits.groups()) and abs(int(hits[1]) - int(hits[2])) < 100, done)


# mbind, move_pages, migrate_pages: of a range, of single pages, of a process; nothing is lost on the way.
def test_pages_move_between_nodes(t):
    in_guest(t, """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(n, *args):
    r = libc.syscall(n, *(ctypes.c_ulong(a & (1 << 64) - 1) if isinstance(a, int) else a for a in args))
    return -ctypes.get_errno() if r < 0 else r
MBIND, GET, MIGRATE, MOVE = 237, 239, 256, 279
N = 1024
kept = mmap.mmap(-1, N * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(kept))
def mask(nodes): return ctypes.byref(ctypes.c_ulong(nodes))
pages = (ctypes.c_ulong * N)(*(start + i * 4096 for i in range(N)))
def nodes():
    status = (ctypes.c_int * N)()
    assert call(MOVE, 0, N, pages, 0, status, 0) == 0
    return list(status)
assert nodes() == [-2] * N  # nothing there yet
assert call(MBIND, start, N * 4096, 2, mask(1), 65, 0) == 0
for i in range(N): struct.pack_into('<Q', kept, i * 4096, i * 7919)
assert nodes() == [0] * N
assert call(MBIND, start, N * 4096, 2, mask(2), 65, 1) == -5  # MPOL_MF_STRICT: they are elsewhere
assert call(MBIND, start, N * 2048, 2, mask(2), 65, 3) == 0  # MPOL_MF_MOVE
assert nodes() == [1] * (N // 2) + [0] * (N // 2)
assert call(MBIND, start, N * 4096, 3, mask(3), 65, 2) == 0  # interleave: what is on one of the nodes stays
assert nodes() == [1] * (N // 2) + [0] * (N // 2)
wanted = (ctypes.c_int * N)(*(i // 100 % 2 for i in range(N)))
status = (ctypes.c_int * N)()
assert call(MOVE, 0, N, pages, wanted, status, 2) == 0
assert list(status) == nodes() == list(wanted)
assert call(MIGRATE, 0, 65, mask(1), mask(2)) >= 0
assert nodes() == [1] * N
mode, got = ctypes.c_int(), ctypes.c_ulong()
assert call(GET, ctypes.byref(mode), ctypes.byref(got), 65, start, 2) == 0 and (mode.value, got.value) == (3, 3)
assert call(GET, ctypes.byref(mode), 0, 0, start, 3) == 0 and mode.value == 1
assert call(GET, 0, ctypes.byref(got), 65, 0, 4) == 0 and got.value == 3
assert all(struct.unpack_from('<Q', kept, i * 4096)[0] == i * 7919 for i in range(N))
shared = mmap.mmap(-1, 4096)
at = ctypes.addressof(ctypes.c_char.from_buffer(shared))
assert call(MBIND, at, 4096, 2, mask(1), 65, 0) == -22
assert call(MBIND, start, 4096, 2, mask(4), 65, 0) == -22  # no such node
assert call(MBIND, start, 4096, 9, mask(1), 65, 0) == -22
assert call(MBIND, start - (1 << 40), 4096, 2, mask(1), 65, 0) == -14
assert call(MOVE, 0, 1, pages, (ctypes.c_int * 1)(7), status, 2) == -19
assert call(MOVE, 99999, 1, pages, 0, status, 0) == -3
""", *NUMA)


AREAS, STACKS, END, PAGES = 0xffffc90000000000, 0xffffd90000000000, 0xffffe90000000000, 0xffffea0000000000


def layout_of(t, *append):
    """Where areas, stacks and struct pages begin, as the kernel says and as its table shows, and /proc/vmallocinfo."""
    # two programs, for the stacks of their tasks
    ours = t.quire("busybox", "cat", "/proc/vmallocinfo", timeout=60,
                   options=["--log", "--nodes", "2", "--cpus", "2", "--append", " ".join(("quire.tables",) + append)])
    t.check(ours.status == 0, ours)
    said = [int(x, 16) for x in re.search(r"areas from 0x(\w+), stacks from 0x(\w+), struct pages from 0x(\w+)",
                                          ours.stderr).groups()]
    mapped = [int(x, 16) for x in re.findall(r"mapping (\w{16})-", ours.stderr)]
    return said, mapped, ours.stdout


# With the static layout areas and struct pages begin where Linux has them; with the other at another place each time,
# and what is mapped is there.
# proves: LX-13
def test_areas_begin_where_linux_has_them(t):
    said, mapped, _ = layout_of(t)
    t.check(said == [AREAS, STACKS, PAGES], [hex(x) for x in said])
    for base, end in ((AREAS, STACKS), (STACKS, END)):
        t.check(any(base <= a < base + (1 << 30) for a in mapped), [hex(a) for a in mapped])
    t.check(PAGES in mapped and not any(END <= a < PAGES for a in mapped), [hex(a) for a in mapped])
    seen = set()
    for _ in range(3):
        said, mapped, text = layout_of(t, "quire.layout=random")
        seen.add(tuple(said[:2]))
        t.check(said[2] == PAGES and all(x % (1 << 30) == 0 for x in said), said)
        t.check(not any(AREAS <= a < said[0] or STACKS <= a < said[1] for a in mapped), (said, mapped))
        for from_, _ in re.findall(r"^0x(\w+)-0x(\w+)", text, re.M):
            at = int(from_, 16)
            t.check(said[0] <= at < STACKS or said[1] <= at < END or at >= 0xfffff00000000000, (hex(at), said))
    t.check(len(seen) > 1, seen)


# /proc/vmallocinfo: every area between start and end of its window, with its guard page, in order, named.
# proves: LX-16 LX-17
def test_vmallocinfo_lists_areas(t):
    said, _, text = layout_of(t)
    t.check(STACKS - said[0] >= 128 << 20, said)  # VMALLOC_RESERVE of a 32-bit Linux, the least of all
    row = re.compile(r"0x(\w{16})-0x(\w{16}) +(\d+) (\w+\+0x\w+/0x\w+)((?: \w+=\w+| \w+)*)$")
    rows = [row.match(line) for line in text.splitlines()]
    t.check(rows and all(rows), text)
    ranges = [(int(m[1], 16), int(m[2], 16)) for m in rows]
    t.check(all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:])), text)
    kinds = {"vmalloc": 0, "ioremap": 0}
    for (start, end), m in zip(ranges, rows):
        t.check(start % 4096 == 0 and end - start == int(m[3]), m[0])
        t.check(AREAS <= start < end <= END or 0xfffff00000000000 <= start < end, m[0])
        if "ioremap" in m[5]:
            kinds["ioremap"] += 1
            t.check(re.search(r" phys=0x\w{16}", m[5]) and "pages=" not in m[5], m[0])
        else:
            kinds["vmalloc"] += 1
            pages = int(re.search(r" pages=(\d+)", m[5])[1])
            t.check((pages + 1) * 4096 == int(m[3]), m[0])
            t.check(sum(int(n) for n in re.findall(r" N\d+=(\d+)", m[5])) == pages, m[0])
    t.check(min(kinds.values()) > 0, text)
    # /proc/vmallocinfo of a live system: stacks of tasks, registers of the interrupt controller
    t.check(re.search(r" task_\w+\+.* vmalloc| \w*stack\w*\+.* vmalloc", text) and re.search(r"apic\w*\+.* ioremap", text), text)
