"""The command line of quire: what the options mean and in which order things happen."""
import os
import re
import subprocess
import sys

from . import QuireError, blocks
from .machine import Machine, parse_size
from .pack import Packer, write_image
from .report import Report
from .resolve import find_program

HELP = """\
usage: quire run [options] -- PROGRAM ARGS...
       quire pack [options] -o IMAGE -- PROGRAM ARGS...
       quire blocks [--svg FILE] [--every S] [options] -- PROGRAM ARGS...
       quire blocks [--svg FILE] DUMP
       quire sim [--seed N] [--cpus N] [--time 60s] [--trace] ...
       quire help

run boots a machine in QEMU whose memory Quire manages, and in it PROGRAM, a Linux program of this machine, with
the libraries and files that it needs.  Its input and output are those of quire, its exit status is
quire's (128 + n if signal n ended it).  pack only writes the initramfs.

blocks draws physical memory, one character for each 2 MiB: as PROGRAM leaves it, with --every also while it runs,
every S seconds; or from a DUMP (- is standard input) that is /proc/quire/blocks of a machine or was written by quire
sim --blocks.  --svg writes the picture to FILE, too; its cells tell their numbers under the mouse.

sim runs Quire's memory manager on simulated machines, with programs and schedules made from a seed, and
shrinks what fails to a file that repeats it; quire sim --help lists its options.  Those of run and pack:

  --mem SIZE            memory of the machine (512M)
  --cpus N              its processors (2)
  --nodes N             its NUMA nodes (1), all alike; or what each has: --nodes 512M:2,256M:0 are 768 MiB in
                        two nodes, of which the first has two processors and the second none
  --distance A-B=D,...  how far nodes are from one another, 11 to 254 (20)
  --reach A-B=NS/MBS,...  how processors of node A reach memory of node B: latency in nanoseconds, MB/s;
                        the firmware then has ACPI's HMAT
  --file HOST[:GUEST]   also pack a file or folder; GUEST defaults to the same path
  --with PROGRAM        also pack another program, with what it needs
  --env NAME=VALUE      set a variable of the program's environment
  --timeout S           give up after S seconds, with status 124
  --report              at the end print what the memory manager saw, on standard error
  --log                 show the kernel's log on standard error while it runs
  --heap MODES          modes of the kernel's heap, with commas between: hardening, redzone, poison, encode, random, zero,
                        quarantine, sample, full (all of these), track, leakscan; a wrong use of memory is then a panic
  --append WORDS        add to the kernel's command line
  --icount              count instructions: one processor, time is the number of instructions
  --balloon             give the machine a memory balloon (QEMU's virtio-balloon-pci, named "balloon")
  --memory-max SIZE     memory may grow up to this (QEMU's virtio-mem-pci, named "vmem", of which nothing is there at first)
  --qmp SOCKET          let QEMU's monitor (QMP) listen at this UNIX socket, to drive these devices with
  --qemu WORDS          add to QEMU's command line
  --kernel FILE         boot another kernel image

At a terminal the program has one too; Control-] twice ends the machine.
Files that PROGRAM's arguments, or a shell script among them, name are packed as well.  Quire's own failures have status 125, a
program that cannot be run 126, one that does not exist 127, a wrong use of quire 2.
"""


class Options:
    def __init__(self):
        self.mem, self.cpus, self.nodes = None, None, 1
        self.shapes, self.distances, self.reach = None, {}, {}
        self.files, self.programs, self.env, self.append, self.qemu = [], [], {}, [], []
        self.timeout = self.output = self.kernel = self.qmp = self.memory_max = None
        self.report = self.log = self.icount = self.balloon = False
        self.command = []


def number(text, option, low, high):
    if not text.isdigit() or not low <= int(text) <= high:
        raise QuireError("%s: %r is not a number from %d to %d" % (option, text, low, high), 2)
    return int(text)


def parse_nodes(o, text):
    """A number, or memory and processors of each node."""
    if text.isdigit():
        o.nodes = number(text, "--nodes", 1, 8)
        return
    o.shapes = []
    for part in text.split(","):
        size, sep, cpus = part.partition(":")
        if not sep:
            raise QuireError("--nodes: %r is not a number, nor like 512M:2" % part, 2)
        o.shapes.append((parse_size(size, "--nodes"), number(cpus, "--nodes", 0, 64)))
    o.nodes = len(o.shapes)
    if o.nodes > 8 or not sum(cpus for _, cpus in o.shapes):
        raise QuireError("--nodes: 1 to 8 of them, and a processor in one of them at least", 2)


def parse_pairs(text, option, pattern):
    """{(A, B): values} of A-B=VALUES,..."""
    pairs = {}
    for part in text.split(","):
        m = re.fullmatch(r"(\d)-(\d)=" + pattern, part)
        if not m:
            raise QuireError("%s: %r is not like A-B=..." % (option, part), 2)
        a, b, *values = (int(v) for v in m.groups())
        pairs[a, b] = tuple(values)
    return pairs


def check_numa(o):
    """What the options say of nodes fits together."""
    for option, pairs in (("--distance", o.distances), ("--reach", o.reach)):
        for a, b in pairs:
            if max(a, b) >= o.nodes:
                raise QuireError("%s: there is no node %d; --nodes makes them" % (option, max(a, b)), 2)
    for (a, b), d in o.distances.items():
        if a == b or not 11 <= d <= 254:
            raise QuireError("--distance: from a node to another, 11 to 254", 2)
    if o.shapes and (o.mem or o.cpus):
        raise QuireError("--nodes already says how much memory and how many processors", 2)


def parse(words):
    """Options of run and pack.  "--" may be left out if PROGRAM does not start with a dash."""
    o = Options()
    words = list(words)

    def value(option):
        if not words:
            raise QuireError("%s wants a value" % option, 2)
        return words.pop(0)

    while words:
        word = words.pop(0)
        if word == "--" or not word.startswith("-"):
            o.command = words if word == "--" else [word] + words
            break
        option, equals, given = word.partition("=")
        if equals:
            words.insert(0, given)
        if option == "--mem":
            o.mem = value(option)
        elif option == "--memory-max":
            o.memory_max = value(option)
        elif option == "--cpus":
            o.cpus = number(value(option), option, 1, 64)
        elif option == "--nodes":
            parse_nodes(o, value(option))
        elif option == "--distance":
            o.distances.update({k: v[0] for k, v in parse_pairs(value(option), option, r"(\d+)").items()})
        elif option == "--reach":
            o.reach.update(parse_pairs(value(option), option, r"(\d+)/(\d+)"))
        elif option == "--file":
            o.files.append(value(option))
        elif option == "--with":
            o.programs.append(value(option))
        elif option == "--env":
            name, sep, text = value(option).partition("=")
            if not sep or not name:
                raise QuireError("--env wants NAME=VALUE", 2)
            o.env[name] = text
        elif option == "--timeout":
            text = value(option)
            try:
                o.timeout = float(text)
            except ValueError:
                o.timeout = 0
            if not 0 < o.timeout < 1e9:
                raise QuireError("--timeout: %r is not a number of seconds" % text, 2)
        elif option == "--heap":
            o.append.append("heap=" + value(option))
        elif option == "--append":
            o.append += value(option).split()
        elif option == "--qemu":
            o.qemu += value(option).split()
        elif option == "--kernel":
            o.kernel = value(option)
        elif option == "--qmp":
            o.qmp = value(option)
        elif option in ("-o", "--output"):
            o.output = value(option)
        elif option in ("--report", "--log", "--icount", "--balloon") and not equals:
            setattr(o, option[2:], True)
        else:
            raise QuireError("unknown option %s; quire help lists them" % word, 2)
    if not o.command:
        raise QuireError("no program given; usage: quire run [options] -- PROGRAM ARGS...", 2)
    check_numa(o)
    if o.icount and (o.cpus or sum(cpus for _, cpus in o.shapes or [])) not in (None, 0, 1):
        raise QuireError("--icount counts the instructions of one processor; leave --cpus out", 2)
    return o


def find_kernel(root, given):
    """The kernel image; in a checkout it is built if it is missing."""
    if given or os.environ.get("QUIRE_KERNEL"):
        path = given or os.environ["QUIRE_KERNEL"]
        if not os.path.isfile(path):
            raise QuireError("no such kernel: %s" % path)
        return path
    installed = os.path.join(root, "quire-kernel.elf")
    if os.path.exists(installed):
        return installed
    path = os.path.join(root, "build", "quire-kernel.elf")
    if not os.path.exists(path):
        sys.stderr.write("quire: building the kernel first (once)\n")
        build = subprocess.run(["make", "-C", root, "--no-print-directory", "setup-run", "all"], stdout=sys.stderr,
                               stdin=subprocess.DEVNULL, check=False)
        if build.returncode or not os.path.exists(path):
            raise QuireError("the kernel could not be built; see above")
    return path


def pack(o):
    """(image, guest path of the program) of what the options name."""
    packer = Packer()
    path = find_program(o.command[0])
    packer.program(path, o.command[1:])
    for name in o.programs:
        packer.program(find_program(name), o.command[1:])
    cwd = os.getcwd()
    packer.image.add_dir(cwd)
    for arg in o.command[1:]:
        if os.path.isfile(arg) and os.path.abspath(arg) not in packer.image:
            packer.host_file(arg, packer.image.place(arg))
    for spec in o.files:
        host, sep, guest = spec.rpartition(":")
        if not sep or not guest.startswith("/"):
            host, guest = spec, os.path.abspath(spec)
        packer.host_file(host, guest)
    return packer.image, path


def environment(extra):
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "USER": "root",
           "TERM": os.environ.get("TERM", "dumb")}
    env.update(extra)
    return env


def set_shape(m, o):
    """Memory, processors and nodes."""
    m.memory = parse_size(o.mem or "512M", "--mem")
    m.cpus = o.cpus or (1 if o.icount else 2)
    m.nodes, m.shapes, m.distances, m.reach = o.nodes, o.shapes, o.distances, o.reach
    if o.shapes:
        m.memory = sum(size for size, _ in o.shapes)
        m.cpus = sum(cpus for _, cpus in o.shapes)


def make_machine(root, o):
    image, program = pack(o)
    m = Machine(find_kernel(root, o.kernel), write_image(image), program, o.command[1:])
    set_shape(m, o)
    m.env = environment(o.env)
    m.append = o.append
    m.cwd = os.getcwd()
    m.timeout, m.report, m.verbose, m.icount = o.timeout, o.report, o.log, o.icount
    m.balloon, m.qmp, m.qemu = o.balloon, o.qmp, o.qemu
    if o.memory_max:
        m.memory_max = parse_size(o.memory_max, "--memory-max")
        if m.memory_max <= m.memory or (m.memory_max - m.memory) % (2 << 20):
            raise QuireError("--memory-max %s: not a multiple of 2 MiB above --mem %s" % (o.memory_max, o.mem), 2)
    return m


def run(root, words):
    o = parse(words)
    if o.output:
        raise QuireError("-o belongs to quire pack", 2)
    m = make_machine(root, o)
    try:
        return m.run()
    finally:
        if o.report and m.report_lines:
            sys.stderr.write("\n".join(Report(m.report_lines).text()) + "\n")


def draw(lines, svg, title):
    """The picture of a dump on standard output, and to the file svg unless it is None."""
    try:
        zones = blocks.parse(lines)
    except ValueError as e:
        raise QuireError(str(e)) from e
    print("\n".join(blocks.terminal(zones, blocks.wants_colour(sys.stdout))), flush=True)
    if svg:
        with open(svg, "w", encoding="utf-8") as f:
            f.write(blocks.svg(zones, title))


def draw_machine(root, words, svg, every):
    """Draw the memory of a machine that runs the program in words; the program's exit status."""
    o = parse(words)
    title = "Physical memory: " + " ".join([os.path.basename(o.command[0])] + o.command[1:])[:80]
    o.append.append("quire.blocks=%d" % (every * 1000) if every else "quire.blocks")
    m = make_machine(root, o)
    dumps = []

    def on_dump(ns, lines):
        dumps.append(lines)
        if every:
            if blocks.wants_colour(sys.stdout):
                sys.stdout.write("\033[H\033[2J")
            print("after %.1f s" % (ns / 1e9))
            draw(lines, None, title)

    m.on_dump = on_dump
    status = m.run()
    if not dumps:
        raise QuireError("the machine told nothing of its memory")
    print("\nMemory at the end:")
    draw(dumps[-1], svg, title)
    return status


def draw_blocks(root, words):
    """quire blocks."""
    svg, every, rest = None, 0.0, []
    words = list(words)
    while words and words[0] != "--":
        word = words.pop(0)
        option, equals, given = word.partition("=")
        if option not in ("--svg", "--every"):
            rest.append(word)
            continue
        if not equals and (not words or words[0] == "--"):
            raise QuireError("%s wants a value" % option, 2)
        text = given if equals else words.pop(0)
        if option == "--svg":
            svg = text
        elif re.fullmatch(r"\d+(\.\d+)?", text) and 0.01 <= float(text) <= 3600:
            every = float(text)
        else:
            raise QuireError("--every: %r is not a number of seconds, 0.01 to 3600" % text, 2)
    if words:
        return draw_machine(root, rest + words, svg, every)
    if len(rest) != 1 or every or (rest[0].startswith("-") and rest[0] != "-"):
        raise QuireError("usage: quire blocks [--svg FILE] DUMP, or quire blocks [options] -- PROGRAM ARGS...", 2)
    try:
        with open(rest[0], encoding="utf-8", errors="replace") if rest[0] != "-" else os.fdopen(0, errors="replace") as f:
            lines = f.read().splitlines()
    except OSError as e:
        raise QuireError("%s: %s" % (rest[0], e.strerror)) from e
    draw(lines, svg, "Physical memory")
    return 0


def simulate(root, words):
    """Becomes the simulator, which is first built anew if a source has changed."""
    path = os.environ.get("QUIRE_SIM")
    if not path:
        if not os.path.exists(os.path.join(root, "tools", "sim", "meson.build")):
            raise QuireError("sim is for a checkout of Quire's sources: it simulates what they say")
        build = subprocess.run(["make", "-C", root, "--no-print-directory", "quire-sim"], stdout=sys.stderr,
                               stdin=subprocess.DEVNULL, check=False)
        path = os.path.join(root, "build", "tools", "sim", "quire-sim")
        if build.returncode or not os.path.exists(path):
            raise QuireError("the simulator could not be built; see above")
    try:
        os.execv(path, ["quire-sim"] + words)
    except OSError as e:
        raise QuireError("%s: %s" % (path, e.strerror)) from e


def main(root, argv):
    try:
        if not argv or argv[0] in ("help", "--help", "-h"):
            sys.stdout.write(HELP)
            return 0
        if argv[0] == "run":
            return run(root, argv[1:])
        if argv[0] == "blocks":
            return draw_blocks(root, argv[1:])
        if argv[0] == "sim":
            simulate(root, argv[1:])
        if argv[0] == "pack":
            o = parse(argv[1:])
            if not o.output:
                raise QuireError("quire pack wants -o IMAGE", 2)
            image, program = pack(o)
            write_image(image, o.output)
            print("%s: %d files, init=%s" % (o.output, len(image.entries), program))
            return 0
        raise QuireError("unknown verb %r; quire help lists what there is" % argv[0], 2)
    except QuireError as e:
        sys.stderr.write("quire: %s\n" % e)
        return e.status
    except BrokenPipeError:
        return 141
