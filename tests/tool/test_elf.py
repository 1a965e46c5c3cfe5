"""The ELF reader and the library resolver, on files made by hand and against the host's own linker."""
import os
import random
import re
import shutil
import subprocess
import unittest

from support import Case, elf

from quire import QuireError, resolve
from quire.elf import Elf, NotElf
from quire.resolve import Libraries, find_program


class Reader(Case):
    def test_reads_what_was_written(self):
        path = self.file("x", elf("/lib/ld.so", ["liba.so", "libb.so"], runpath="/one:$ORIGIN/two"))
        got = Elf(path)
        self.assertEqual((got.interp, got.needed, got.runpath, got.rpath),
                         ("/lib/ld.so", ["liba.so", "libb.so"], ["/one", "$ORIGIN/two"], []))

    def test_says_what_is_wrong(self):
        for data, words in ((b"hello", "not an ELF file"), (elf()[:20], "cut off"), (elf(bits=1), "32-bit"),
                            (elf(machine=183), "AArch64"), (elf(kind=1), "not a program"), (elf()[:80], "cut off")):
            with self.assertRaisesRegex(QuireError, words):
                Elf(self.file("bad", data))

    def test_damage_is_an_error_never_a_crash(self):
        good = elf("/lib/ld.so", ["liba.so"], rpath="/r")
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        rng = random.Random(seed)
        for _ in range(500):
            data = bytearray(good[:rng.randrange(len(good) + 1)] if rng.random() < 0.3 else good)
            for _ in range(rng.randrange(1, 8)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                Elf(self.file("fuzz", bytes(data)))
            except QuireError:
                pass
            except Exception as e:
                self.fail("SEED=%d: %r" % (seed, e))


class Resolver(Case):
    def test_runpath_origin_then_chain(self):
        self.file("lib/liba.so", elf(needed=["libb.so"], runpath="$ORIGIN/more"))
        self.file("lib/more/libb.so", elf())
        program = self.file("bin/p", elf(needed=["liba.so"], runpath="$ORIGIN/../lib"), 0o755)
        self.assertEqual([os.path.realpath(p) for p in Libraries().closure(program)],
                         [self.path("lib/liba.so"), self.path("lib/more/libb.so")])

    def test_runpath_is_not_inherited_but_rpath_is(self):
        self.file("lib/liba.so", elf(needed=["libb.so"]))
        self.file("lib/libb.so", elf())
        inherits = self.file("bin/r", elf(needed=["liba.so"], rpath="$ORIGIN/../lib"), 0o755)
        self.assertEqual(len(Libraries().closure(inherits)), 2)
        alone = self.file("bin/p", elf(needed=["liba.so"], runpath="$ORIGIN/../lib"), 0o755)
        with self.assertRaisesRegex(QuireError, r"liba\.so needs the library libb\.so"):
            Libraries().closure(alone)

    def test_missing_library_is_named(self):
        program = self.file("p", elf(needed=["libnowhere.so.7"]), 0o755)
        with self.assertRaisesRegex(QuireError, "libnowhere.so.7, which is not installed"):
            Libraries().closure(program)

    def test_library_of_another_machine_is_passed_over(self):
        self.file("one/liba.so", elf(machine=183))
        self.file("two/liba.so", elf())
        program = self.file("p", elf(needed=["liba.so"], runpath="%s:%s" % (self.path("one"), self.path("two"))))
        self.assertEqual(Libraries().closure(program), [self.path("two/liba.so")])

    def test_same_as_the_hosts_linker(self):
        for name in ("bash", "python3", "sqlite3", "redis-server", "perl"):
            path = "/usr/bin/" + name
            if not os.path.exists(path) or not shutil.which("ldd"):
                continue
            out = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
            host = {os.path.realpath(p) for p in re.findall(r"(/\S+) \(0x", out)}
            ours = {os.path.realpath(p) for p in Libraries().closure(path)}
            self.assertEqual(ours, host, name)

    def test_cache_without_magic_is_empty(self):
        self.assertEqual(resolve.read_cache(self.file("cache", b"nonsense" * 10)), {})
        self.assertEqual(resolve.read_cache(self.path("absent")), {})

    def test_programs_that_do_not_exist_are_named(self):
        with self.assertRaises(QuireError) as caught:
            find_program("no-such-program-anywhere")
        self.assertEqual(caught.exception.status, 127)
        with self.assertRaises(QuireError) as caught:
            find_program(self.file("plain"))
        self.assertEqual(caught.exception.status, 126)

    def test_not_elf_is_told_apart(self):
        with self.assertRaises(NotElf):
            Libraries().closure(self.file("text", b"#!/bin/sh\n", 0o755))


if __name__ == "__main__":
    unittest.main()
