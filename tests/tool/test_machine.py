"""The protocol between tool and machine, with a program of our own in QEMU's place, and the command line."""
import io
import os
import signal
import subprocess
import sys
import time
import unittest
from contextlib import redirect_stderr, redirect_stdout

from support import ROOT, Case

from quire import QuireError, cli
from quire.machine import Machine, encode, parse_size

# Takes QEMU's arguments apart as far as the tests need and plays the kernel's part.
FAKE = r"""#!/usr/bin/python3
import os, re, socket, sys, time
args = sys.argv[1:]
text = "\n".join(args)
paths = dict(re.findall(r"file,id=(\w+),path=(\S+)", text))
ports = {name: open(path, "wb", buffering=0) for name, path in paths.items()}
out, err, log = ports["out"], ports.get("err", ports["out"]), ports["log"]
com = socket.socket(fileno=int(re.search(r"socket,id=com,fd=(\d+)", text).group(1)))
log.write(b"awake\n")
append = args[args.index("-append") + 1]
def say(s): log.write(s.encode() + b"\n")
%s
"""


class Protocol(Case):
    def machine(self, body, **options):
        self.file("bin/qemu-system-x86_64", FAKE % body, 0o755)
        old = os.environ["PATH"]
        os.environ["PATH"] = self.path("bin") + ":" + old
        self.addCleanup(os.environ.__setitem__, "PATH", old)
        m = Machine(self.file("kernel", b"k"), self.file("image", b"i"), "/bin/p", options.pop("args", ()))
        m.stdin = m.stdout = m.stderr = None
        for name, value in options.items():
            setattr(m, name, value)
        return m

    def test_output_and_status(self):
        m = self.machine("out.write(b'to out'); err.write(b'to err'); say('quire: exit status 7')")
        self.assertEqual(m.run(), 7)
        self.assertEqual(m.output, {"out": b"to out", "err": b"to err"})

    def test_signal_becomes_128_and_n(self):
        self.assertEqual(self.machine("say('quire: exit signal 11')").run(), 139)

    def test_death_without_a_status_is_told_with_the_log(self):
        with self.assertRaises(QuireError) as caught:
            self.machine("say('panic: all is lost'); sys.exit(3)").run()
        self.assertEqual(caught.exception.status, 125)
        self.assertIn("panic: all is lost", str(caught.exception))

    def test_what_qemu_says_is_passed_on(self):
        with self.assertRaisesRegex(QuireError, "QEMU failed: bad machine"):
            self.machine("sys.stderr.write('bad machine'); sys.exit(1)").run()

    def test_timeout(self):
        start = time.monotonic()
        with self.assertRaises(QuireError) as caught:
            self.machine("time.sleep(60)", timeout=0.3).run()
        self.assertEqual(caught.exception.status, 124)
        self.assertLess(time.monotonic() - start, 10)

    def test_report_is_kept_apart_from_the_log(self):
        m = self.machine("say('a'); say('quire: report begin'); say('faults 3'); say('quire: report end');"
                         "say('quire: exit status 0')")
        self.assertEqual(m.run(), 0)
        self.assertEqual((m.log[1], m.report_lines), ("a", ["faults 3"]))

    def test_input_is_escaped_and_ends(self):
        r, w = os.pipe()
        os.write(w, b"a\x10b")
        os.close(w)
        m = self.machine("got = b''\nwhile not got.endswith(b'\\x10e'): got += com.recv(100)\n"
                         "out.write(got)\nsay('quire: exit status 0')", stdin=r)
        self.assertEqual(m.run(), 0)
        os.close(r)
        self.assertEqual(m.output["out"], b"a\x10\x10b\x10e")

    def test_interrupt_goes_to_the_guest(self):
        m = self.machine("got = b''\nwhile b'\\x10c' not in got: got += com.recv(100)\nsay('quire: exit signal 2')")
        subprocess.Popen(["sh", "-c", "sleep 0.5; kill -INT %d" % os.getpid()])
        self.assertEqual(m.run(), 130)

    def test_large_output_and_input_do_not_block_each_other(self):
        size = 1 << 20
        r, w = os.pipe()
        if not os.fork():
            os.close(r)
            os.write(w, b"")
            for _ in range(size // 4096):
                os.write(w, b"z" * 4096)
            os._exit(0)
        os.close(w)
        m = self.machine("n = 0\nwhile True:\n b = com.recv(65536); n += b.count(b'z'); out.write(b)\n"
                         " if b.endswith(b'\\x10e'): break\nsay('quire: exit status %d' % (n == 1 << 20))", stdin=r)
        self.assertEqual(m.run(), 1)
        os.close(r)
        os.wait()
        self.assertEqual(m.output["out"].count(b"z"), size)

    def test_closed_pipe_ends_the_machine(self):
        r, w = os.pipe()
        os.close(r)
        m = self.machine("out.write(b'x'); time.sleep(60)", stdout=w, stderr=w)
        self.assertEqual(m.run(), 128 + signal.SIGPIPE)

    def test_arguments_reach_the_kernel_encoded(self):
        m = self.machine("out.write(append.encode()); say('quire: exit status 0')",
                         args=["a b", "100%", "", "\u00e9"], env={"X": "1 2"})
        m.run()
        self.assertIn(b"env.X=1%202 init=/bin/p -- a%20b 100%25 %00 %C3%A9", m.output["out"])

    def test_missing_qemu_names_the_package(self):
        m = self.machine("")
        os.environ["PATH"] = self.scratch
        with self.assertRaisesRegex(QuireError, "qemu-system-x86"):
            m.run()

    def test_too_little_memory_says_how_much(self):
        m = self.machine("", memory=1 << 20)
        with self.assertRaisesRegex(QuireError, r"too little memory: .* --mem \d+M or more"):
            m.run()

    def test_nodes_share_memory_and_processors(self):
        m = self.machine("out.write(' '.join(args).encode()); say('quire: exit status 0')", nodes=2, cpus=4)
        m.run()
        self.assertIn(b"node,nodeid=1,memdev=mem1,cpus=2,cpus=3", m.output["out"])


class CommandLine(Case):
    def quire(self, *words):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = cli.main(ROOT, list(words))
        return status, out.getvalue(), err.getvalue()

    def test_help(self):
        status, out, _ = self.quire("help")
        self.assertEqual(status, 0)
        self.assertIn("usage: quire run", out)

    def test_wrong_use_has_status_2(self):
        for words in (["fly"], ["run"], ["run", "--mem"], ["run", "--what", "--", "true"], ["pack", "--", "true"],
                      ["run", "--cpus", "x", "--", "true"], ["run", "--timeout", "-1", "--", "true"],
                      ["run", "--icount", "--cpus", "2", "--", "true"], ["run", "--env", "x", "--", "true"]):
            status, _, err = self.quire(*words)
            self.assertEqual(status, 2, words)
            self.assertTrue(err.startswith("quire: "), err)

    def test_culprits_are_named(self):
        bad = self.file("bad", b"\x7fELF", 0o755)
        for words, status, text in ((["run", "--", "no-such-thing"], 127, "no such program: no-such-thing"),
                                    (["run", "--", bad], 126, "damaged ELF file"),
                                    (["run", "--kernel", "/no/kernel", "--", "true"], 125, "no such kernel"),
                                    (["run", "--file", "/no/file", "--", "true"], 125, "no such file: /no/file")):
            got = self.quire(*words)
            self.assertEqual(got[0], status)
            self.assertIn(text, got[2])

    def test_sizes(self):
        self.assertEqual([parse_size(t, "") for t in ("512M", "2G", "64", "512MiB")], [512 << 20, 2 << 30, 64 << 20, 512 << 20])
        for bad in ("", "0", "x", "-1M", "1T"):
            with self.assertRaises(QuireError):
                parse_size(bad, "--mem")

    def test_nodes(self):
        def numa(*words):
            o = cli.parse(list(words) + ["--", "true"])
            m = Machine("k", "i", "p")
            cli.set_shape(m, o)
            return m, " ".join(m.numa_args())

        m, args = numa("--nodes", "2", "--mem", "1G", "--cpus", "3")
        self.assertEqual((m.memory, m.cpus), (1 << 30, 3))
        self.assertIn("node,nodeid=0,memdev=mem0,cpus=0,cpus=1 ", args)
        self.assertIn("dist,src=0,dst=1,val=20", args)
        m, args = numa("--nodes", "512M:1,256M:0,1G:2", "--distance", "0-1=30,1-2=12", "--reach", "0-1=250/5000")
        self.assertEqual((m.memory, m.cpus, m.nodes), ((512 + 256 + 1024) << 20, 3, 3))
        for wanted in ("size=512M", "nodeid=1,memdev=mem1,initiator=2 ", "nodeid=2,memdev=mem2,cpus=1,cpus=2 ", "dst=1,val=30",
                       "src=1,dst=2,val=12", "src=0,dst=2,val=20", "latency,latency=250 ", "bandwidth,bandwidth=5000M"):
            self.assertIn(wanted, args)
        for words in (["--nodes", "9"], ["--nodes", "1G"], ["--nodes", "1G:0,1G:0"], ["--nodes", "1G:1", "--mem", "1G"],
                      ["--nodes", "1G:1,x:2"], ["--distance", "0-1=20"], ["--nodes", "2", "--distance", "0-0=20"],
                      ["--nodes", "2", "--distance", "0-1=10"], ["--nodes", "2", "--reach", "0-1=5"],
                      ["--nodes", "64M:1,64M:0", "--reach", "1-0=5/5"]):
            with self.assertRaises(QuireError) as caught:
                numa(*words)
            self.assertEqual(caught.exception.status, 2, words)

    def test_encoding_is_one_word(self):
        for text in ("a b", "tab\t", "new\nline", "100%", "\"quoted\"", ""):
            word = encode(text)
            self.assertRegex(word, r"^[!-~]+$")

    def test_long_arguments_are_refused(self):
        m = Machine("k", "i", "/bin/p", ["a" * 3000])
        self.assertIn("a" * 3000, m.command_line(True))
        m.args.append("b" * 1500)  # QEMU would stop the machine without a word
        with self.assertRaisesRegex(QuireError, "the arguments take 4[0-9]{3} bytes .* holds 4095"):
            m.command_line(True)

    def test_starts_in_an_instant(self):
        best = 9.0
        for _ in range(3):
            start = time.monotonic()
            subprocess.run([os.path.join(ROOT, "quire"), "help"], stdout=subprocess.DEVNULL, check=True)
            best = min(best, time.monotonic() - start)
        self.assertLess(best, 0.5)


if __name__ == "__main__":
    sys.exit(unittest.main())
