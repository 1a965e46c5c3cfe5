"""Starts QEMU with the reference kernel and carries input, output and the exit status.

The guest's standard output and error and the kernel's log come byte by byte from debug ports into
pipes; standard input goes to the first serial port, where DLE (0x10) marks what a stream of bytes cannot
say: DLE e is the end of input, DLE c an interrupt from the keyboard, DLE DLE the byte itself.  If the
user sits at a terminal, keys go through as they are and the guest's own terminal does the rest.
kernel/include/cmdline.md has the kernel's side.
"""
import ctypes
import os
import re
import select
import signal
import socket
import sys
import termios
import time

from . import QuireError

QEMU = "qemu-system-x86_64"
OUT_PORT, ERR_PORT, LOG_PORT, EXIT_PORT = 0xe9, 0xea, 0xeb, 0xf4
PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:,=+@^-")
CMDLINE_MAX = 4096  # QEMU's loader (pc-bios/optionrom/pvh_main.c) stops the machine at more, without a word
TAIL = 40  # lines of the log shown when the machine dies
CHUNK = 65536
ESCAPE = b"\x1d"  # Control-], twice: end the machine, whatever its program does
STDIN_AHEAD = 16384
TOLD = "quire: out of memory"  # what the user is told of the log in any case
ENDED = re.compile(r"quire: exit (status|signal) (\d+)")


def encode(text):
    """A word for the kernel's command line: bytes with a meaning there become %XX; empty is %00."""
    data = os.fsencode(text)
    return "".join(chr(b) if b in PLAIN else "%%%02X" % b for b in data) or "%00"


def parse_size(text, option):
    """Bytes of "512M", "1G", "2048" (MiB when there is no unit, as QEMU has it)."""
    m = re.fullmatch(r"(\d+)([KMGkmg]?)(i?B)?", text)
    if not m or not int(m.group(1)):
        raise QuireError("%s: %r is not a size like 512M or 2G" % (option, text), 2)
    return int(m.group(1)) << {"K": 10, "M": 20, "": 20, "G": 30}[m.group(2).upper()]


class Machine:
    """What to boot.  kernel, image: paths; program: guest path; args: the rest of argv."""

    def __init__(self, kernel, image, program, args=()):
        self.kernel, self.image, self.program, self.args = kernel, image, program, list(args)
        self.memory, self.cpus, self.nodes = 512 << 20, 2, 1
        self.shapes = None  # (bytes, CPUs) of each node, or all alike
        self.distances, self.reach = {}, {}  # (node, node): distance; (initiator, memory): (ns, MB/s)
        self.env, self.append, self.qemu = {}, [], []
        self.icount = self.report = self.verbose = self.balloon = False
        self.memory_max = None  # bytes that the machine may grow to
        self.qmp = None  # path of a UNIX socket for QEMU's monitor
        self.timeout = None
        self.cwd = None
        self.stdin, self.stdout, self.stderr = 0, 1, 2  # None: nothing in; kept in self.output
        self.output = {"out": b"", "err": b""}
        self.log, self.report_lines = [], []
        self.dump = []  # the last whole dump of pageblocks
        self.on_dump = None  # called with the time in ns and each of them
        self.exit = None
        self.terminal = False  # the guest's console is the user's terminal: the guest edits and echoes

    def check_memory(self):
        image = os.path.getsize(self.image)
        need = image + os.path.getsize(self.kernel) + (24 << 20) + self.memory // 64
        if self.memory < need:
            need = image + os.path.getsize(self.kernel) + (24 << 20)
            need = (need + need // 63 + (1 << 20) - 1) >> 20
            raise QuireError("too little memory: %s and its files take %d MiB; give the machine --mem %dM or more"
                             % (os.path.basename(self.program), (image + (1 << 20) - 1) >> 20, need))

    def command_line(self, split):
        words = ["quire.out=0x%x" % OUT_PORT, "quire.err=0x%x" % (ERR_PORT if split else OUT_PORT),
                 "quire.log=0x%x" % LOG_PORT, "quire.exit=0x%x" % EXIT_PORT]
        words.append("quire.tty=%dx%d" % self.window() if self.terminal else "quire.stdin=dle")
        if self.report:
            words.append("quire.report")
        if self.cwd:
            words.append("quire.cwd=" + encode(self.cwd))
        words += self.append
        words += ["env.%s=%s" % (encode(k), encode(v)) for k, v in self.env.items()]
        words.append("init=" + encode(self.program))
        if self.args:
            words += ["--"] + [encode(a) for a in self.args]
        line = " ".join(words)
        if len(line) >= CMDLINE_MAX:
            raise QuireError("the arguments take %d bytes on the kernel's command line, which holds %d"
                             % (len(line), CMDLINE_MAX - 1))
        return line

    def window(self):
        """Rows and columns of the user's terminal."""
        size = os.get_terminal_size(self.stdout)
        return (size.lines or 24, size.columns or 80)

    def qemu_args(self, fds, split):
        args = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc",
                "-kernel", self.kernel, "-initrd", self.image, "-append", self.command_line(split),
                "-m", "%dM" % (self.memory >> 20) + (",slots=1,maxmem=%dM" % (self.memory_max >> 20) if self.memory_max else ""),
                "-smp", str(self.cpus)]
        if self.icount:
            args += ["-accel", "tcg", "-icount", "shift=0,sleep=off", "-rtc", "base=2020-01-01,clock=vm"]
        else:
            args += ["-accel", "tcg,thread=multi"]
        if self.nodes > 1 or self.reach:
            args += self.numa_args()
        if self.memory_max:
            args += ["-object", "memory-backend-ram,id=vmem-ram,size=%dM,reserve=off" % ((self.memory_max - self.memory) >> 20),
                     "-device", "virtio-mem-pci,id=vmem,memdev=vmem-ram,block-size=2M,requested-size=0"]
        if self.balloon:
            args += ["-device", "virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on"]
        if self.qmp:
            args += ["-qmp", "unix:%s,server=on,wait=off" % self.qmp.replace(",", ",,")]
        args += ["-chardev", "socket,id=com,fd=%d" % fds["com"], "-serial", "chardev:com"]
        for name, port in (("out", OUT_PORT), ("err", ERR_PORT), ("log", LOG_PORT)):
            if name in fds:
                args += ["-chardev", "file,id=%s,path=/proc/self/fd/%d" % (name, fds[name]),
                         "-device", "isa-debugcon,iobase=0x%x,chardev=%s" % (port, name)]
        return args + ["-device", "isa-debug-exit,iobase=0x%x,iosize=4" % EXIT_PORT] + self.qemu

    def node_shapes(self):
        """(MiB, [CPU numbers]) of each node."""
        mib = self.memory >> 20
        if mib < 32 * self.nodes:
            raise QuireError("--nodes %d needs --mem %dM or more (32 MiB a node)" % (self.nodes, 32 * self.nodes))
        if self.shapes:
            first = [sum(cpus for _, cpus in self.shapes[:n]) for n in range(self.nodes)]
            return [(size >> 20, list(range(f, f + cpus))) for (size, cpus), f in zip(self.shapes, first)]
        return [(mib // self.nodes + (mib % self.nodes if n == 0 else 0),
                 [c for c in range(self.cpus) if c * self.nodes // self.cpus == n]) for n in range(self.nodes)]

    def distance(self, a, b):
        return self.distances.get((a, b), self.distances.get((b, a), 20))

    def numa_args(self):
        args, shapes = [], self.node_shapes()
        with_cpus = [n for n, (_, cpus) in enumerate(shapes) if cpus]
        for n, (mib, cpus) in enumerate(shapes):
            node = "node,nodeid=%d,memdev=mem%d%s" % (n, n, "".join(",cpus=%d" % c for c in cpus))
            if self.reach and not cpus:  # HMAT wants to know: the nearest
                node += ",initiator=%d" % min(with_cpus, key=lambda i, to=n: (self.distance(i, to), i))
            args += ["-object", "memory-backend-ram,id=mem%d,size=%dM" % (n, mib), "-numa", node]
        for a in range(self.nodes):
            for b in range(a + 1, self.nodes):
                args += ["-numa", "dist,src=%d,dst=%d,val=%d" % (a, b, self.distance(a, b))]
        if self.reach:
            args += ["-machine", "hmat=on"]
        for (a, b), (ns, mbs) in sorted(self.reach.items()):
            if a not in with_cpus:
                raise QuireError("--reach: node %d has no CPUs" % a, 2)
            lb = "hmat-lb,initiator=%d,target=%d,hierarchy=memory,data-type=access-" % (a, b)
            args += ["-numa", lb + "latency,latency=%d" % ns, "-numa", lb + "bandwidth,bandwidth=%dM" % mbs]
        return args

    def run(self):
        """Boot, wait for the end; the exit status for the shell."""
        self.check_memory()
        split = self.stdout is None or not same_file(self.stdout, self.stderr)
        self.terminal = all(fd is not None and os.isatty(fd) for fd in (self.stdin, self.stdout))
        pump = Pump(self, split)
        try:
            pump.start()
            pump.loop()
        finally:
            pump.stop()
        return self.outcome(pump)

    def outcome(self, pump):
        for line in self.log:
            m = ENDED.match(line)
            if m:
                self.exit = (m.group(1), int(m.group(2)))
        if pump.timed_out:
            raise QuireError("%s still ran after %g seconds" % (self.program, self.timeout), 124)
        if pump.killed:
            return 128 + pump.killed
        if self.exit:
            kind, value = self.exit
            return value & 0xff if kind == "status" else 128 + value
        tail = "" if self.verbose else "".join("\n  | " + line for line in self.log[-TAIL:])
        if pump.status == 1 and pump.qemu_says and not any("panic" in line for line in self.log):
            raise QuireError("QEMU failed: " + pump.qemu_says.decode(errors="replace").strip())
        raise QuireError("the machine died (QEMU ended with status %s)%s"
                         % (pump.status, "; the end of the kernel's log:" + tail if tail else ""))


def same_file(a, b):
    try:
        x, y = os.fstat(a), os.fstat(b)
    except OSError:
        return False
    return (x.st_dev, x.st_ino) == (y.st_dev, y.st_ino)


def write_all(fd, data):
    while data:
        try:
            data = data[os.write(fd, data):]
        except BlockingIOError:  # whoever shares the file made it so
            select.select([], [fd], [])


class Pump:
    """Moves bytes between QEMU and this process's files until QEMU ends."""

    def __init__(self, machine, split):
        self.m = machine
        self.names = ["out", "log", "qemu"] + (["err"] if split else [])
        self.split = split
        self.pid = None
        self.status = None
        self.timed_out, self.killed = False, 0
        self.pending = bytearray()  # for the guest's serial port
        self.stdin_open = machine.stdin is not None
        self.partial = {"log": b"", "com": b""}
        self.qemu_says = b""
        self.in_report = False
        self.dump, self.dump_ns = [], 0
        self.last_interrupt = 0.0
        self.handlers = {}
        self.escapes = 0
        self.awake = False  # the kernel has spoken: what the port received before its set-up would be lost
        self.modes = None  # of the user's terminal, to be put back

    def start(self):
        self.reads = {}
        ends = {}
        for name in self.names:
            r, w = os.pipe()
            self.reads[name], ends[name] = r, w
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        self.com, ends["com"] = mine, theirs.fileno()
        self.wake_r, self.wake_w = os.pipe()
        os.set_blocking(self.wake_w, False)
        os.set_blocking(self.wake_r, False)
        qemu = next((os.path.join(p, QEMU) for p in os.environ.get("PATH", "").split(":")
                     if os.access(os.path.join(p, QEMU), os.X_OK)), None)
        if not qemu:
            raise QuireError("QEMU is not installed: %s is not in PATH (Debian's package: qemu-system-x86)" % QEMU)
        args = self.m.qemu_args({n: fd for n, fd in ends.items() if n != "qemu"}, self.split)
        libc = ctypes.CDLL(None)
        self.pid = os.fork()
        if not self.pid:
            self._exec(qemu, args, ends, libc)
        for name in self.names:
            os.close(ends[name])
        theirs.close()
        signal.set_wakeup_fd(self.wake_w, warn_on_full_buffer=False)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.handlers[sig] = signal.signal(sig, self._on_signal)
        if not self.stdin_open:  # never with a terminal
            self.pending += b"\x10e"
        if self.m.terminal:
            self.modes = termios.tcgetattr(self.m.stdin)
            raw = termios.tcgetattr(self.m.stdin)
            raw[0] &= ~(termios.ICRNL | termios.IXON | termios.INLCR | termios.IGNCR)
            raw[1] &= ~termios.OPOST
            raw[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
            termios.tcsetattr(self.m.stdin, termios.TCSADRAIN, raw)

    @staticmethod
    def _exec(qemu, args, ends, libc):
        """In the child: QEMU in a session of its own (the terminal's signals are ours to pass on), which
        dies with us."""
        try:
            os.setsid()
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            os.dup2(ends["qemu"], 2)
            for name, fd in ends.items():
                if name != "qemu":
                    os.set_inheritable(fd, True)
            os.execv(qemu, args)
        finally:
            os._exit(127)

    def _on_signal(self, sig, _):
        now = time.monotonic()
        if sig == signal.SIGINT and now - self.last_interrupt > 1.0:
            self.last_interrupt = now
            self.pending += b"\x10c"
        else:
            self.killed = sig
            self.kill()

    def kill(self):
        if self.pid and self.status is None:
            os.kill(self.pid, signal.SIGKILL)

    def loop(self):
        poll = select.poll()
        by_fd = {fd: name for name, fd in self.reads.items()}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        poll.register(self.wake_r, select.POLLIN)
        deadline = time.monotonic() + self.m.timeout if self.m.timeout else None
        com = self.com.fileno()
        stdin_watched = False
        while by_fd:
            if com is not None:
                poll.register(com, select.POLLIN | (select.POLLOUT if self.pending and self.awake else 0))
            want = self.stdin_open and len(self.pending) < STDIN_AHEAD
            if want and not stdin_watched:
                poll.register(self.m.stdin, select.POLLIN)
            elif stdin_watched and not want:
                poll.unregister(self.m.stdin)
            stdin_watched = want
            wait = None if deadline is None else max(0, deadline - time.monotonic()) * 1000
            for fd, events in poll.poll(wait):
                if fd in by_fd:
                    data = os.read(fd, CHUNK)
                    if data:
                        self._arrived(by_fd[fd], data)
                    else:
                        poll.unregister(fd)
                        del by_fd[fd]
                elif fd == com:
                    if not self._serial(events):
                        poll.unregister(com)
                        com = None
                elif fd == self.wake_r:
                    os.read(fd, 512)
                elif self.stdin_open:
                    self._stdin()
            if deadline is not None and time.monotonic() >= deadline and not self.timed_out:
                self.timed_out = True
                self.kill()

    def _stdin(self):
        try:
            data = os.read(self.m.stdin, 4096)
        except OSError:
            data = b""
        if data and self.m.terminal:
            self.escapes = self.escapes + data.count(ESCAPE) if data.strip(ESCAPE) == b"" else 0
            if self.escapes >= 2:
                self.killed = signal.SIGKILL
                self.kill()
            self.pending += data
        elif data:
            self.pending += data.replace(b"\x10", b"\x10\x10")
        else:
            self.pending += b"\x04" if self.m.terminal else b"\x10e"
            self.stdin_open = False

    def _serial(self, events):
        """False when the port is gone.  What the kernel says there before it knows better is log too."""
        try:
            if events & select.POLLOUT and self.pending:
                del self.pending[:self.com.send(self.pending)]
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = self.com.recv(CHUNK)
                if not data:
                    return False
                self._lines("com", data)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _arrived(self, name, data):
        if name == "qemu":
            self.qemu_says += data
        elif name == "log":
            self._lines("log", data)
        elif self.m.stdout is None:
            self.m.output[name] += data
        else:
            try:
                write_all(self.m.stdout if name == "out" else self.m.stderr, data)
            except BrokenPipeError:
                self.killed = signal.SIGPIPE
                self.kill()

    def _dump_line(self, text):
        if text.startswith("begin "):
            self.dump, self.dump_ns = [], int(text.split()[1])
        elif text == "end":
            self.m.dump = self.dump
            if self.m.on_dump:
                self.m.on_dump(self.dump_ns, self.dump)
        else:
            self.dump.append(text)

    def _lines(self, name, data):
        self.awake = True
        *lines, self.partial[name] = (self.partial[name] + data).split(b"\n")
        for raw in lines:
            line = raw.decode(errors="replace").rstrip("\r")
            if line.startswith("quire: dump "):
                self._dump_line(line[12:])
            elif line.endswith("quire: report begin"):
                self.in_report = True
            elif line.endswith("quire: report end"):
                self.in_report = False
            elif self.in_report:
                self.m.report_lines.append(line)
            else:
                self.m.log.append(line)
                if self.m.verbose or line.startswith(TOLD):
                    sys.stderr.write(line + "\n")
                    sys.stderr.flush()

    def stop(self):
        if self.modes:
            termios.tcsetattr(self.m.stdin, termios.TCSADRAIN, self.modes)
        for sig, handler in self.handlers.items():
            signal.signal(sig, handler)
        if self.handlers:
            signal.set_wakeup_fd(-1)
        if self.pid:
            self.kill()
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
        for name in ("log", "com"):
            if self.partial[name]:
                self._lines(name, b"\n")
        for fd in list(self.reads.values()) + [self.wake_r, self.wake_w]:
            os.close(fd)
        self.com.close()
