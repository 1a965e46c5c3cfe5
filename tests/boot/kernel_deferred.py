"""The array of struct pages: a kernel that boots on the first part of its memory, the rest of which is there when the first
program looks; huge pages that share their part of the array."""
import re

PYTHON = "/usr/bin/python3"
BOX = "/bin/busybox"


def numbers(t, *options):
    """What a machine's first program sees: MemTotal in KiB; by zone: pages present, and managed."""
    done = t.quire(BOX, "cat", "/proc/meminfo", "/proc/zoneinfo", options=list(options))
    t.check(done.status == 0, done)
    total = int(re.search(r"^MemTotal: +(\d+) kB", done.stdout, re.M).group(1))
    zones = re.findall(r"^Node (\d+), zone +(\w+)\n.*?present +(\d+)\n +managed +(\d+)", done.stdout, re.M | re.S)
    t.check(zones and total == 4 * sum(int(z[3]) for z in zones), done.stdout)
    return total, {z[:2]: int(z[2]) for z in zones}


# All memory is managed when the first program looks, whatever boot began with, on one CPU and more, one node and two; not
# a frame less than at once, but those of a bitmap of what is to come.
# proves: LX-70
def test_all_memory_is_there_for_the_first_program(t):
    for shape in (["--cpus", "2"], ["--cpus", "1"], ["--cpus", "4", "--nodes", "2"]):
        at_once, zones = numbers(t, "--mem", "4G", *shape, "--append", "quire.first=0")
        t.check(at_once > 4040 << 10, at_once)
        for first in ("", "1", str(300 << 20)):
            options = ["--append", "quire.first=" + first] if first else []
            later, zones_later = numbers(t, "--mem", "4G", *shape, *options)
            t.check(0 <= at_once - later <= 4 and zones == zones_later, (shape, first, at_once, later))


# Memory that came later is memory like the other: a program fills it and finds what it wrote; the machine's structures are
# sound before and after.
# proves: LX-70
def test_memory_that_came_later_keeps_its_content(t):
    done = t.quire(PYTHON, "-c", """
blocks = [bytearray(b'%8d' % i) * (1 << 17) for i in range(700)]
print(sum(b == bytearray(b'%8d' % i) * (1 << 17) for i, b in enumerate(blocks)))
""", options=["--mem", "1G", "--append", "quire.first=1 quire.selftest", "--log"])
    t.expect(done, "700\n")
    t.check(done.stderr.count("verify frames: success") == 2, done)


# Of 4 pages of struct pages each, 8 huge pages keep one; the others are free memory meanwhile, but for what that takes: a page
# of tails that all show, and a table for each leaf that is split. All is as before when they have theirs again.
# proves: LX-29
def test_huge_pages_share_their_struct_pages(t):
    for options in (["--mem", "512M"], ["--mem", "4G", "--cpus", "4", "--nodes", "2"]):
        done = t.quire(BOX, "true", options=[*options, "--append", "quire.selftest", "--log", "--report"])
        t.check(done.status == 0, done)
        shared, freed = map(int, re.search(r"8 huge pages share (\d+) pages of their map: (-?\d+) frames", done.stderr).groups())
        t.check(shared == 24 and 16 <= freed <= 32, (shared, freed))
        t.check("verify maps: success" in done.stderr and done.stderr.count("verify frames: success") == 2, done)
        t.check(re.search(r"maps +0 shared|maps shared 0 pages", done.stderr), done)
