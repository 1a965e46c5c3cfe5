"""Reads of an ELF file what a program loader needs: its interpreter and the libraries that it asks for.

Not a general ELF library: 64-bit little-endian x86-64 programs and shared objects only; anything else
is named in the error.
"""
import struct

from . import QuireError

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_RPATH, DT_RUNPATH = 0, 1, 5, 10, 15, 29
ET_EXEC, ET_DYN = 2, 3
EM_X86_64 = 62
MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 183: "AArch64", 243: "RISC-V", 21: "POWER", 22: "S/390"}


class NotElf(QuireError):
    """The file has no ELF magic at all."""


class Elf:
    """path, type, interp (str or None), needed, rpath, runpath (lists of str)."""

    def __init__(self, path):
        self.path = path
        self.interp = None
        self.needed, self.rpath, self.runpath = [], [], []
        with open(path, "rb") as f:
            try:
                self._read(f)
            except (OSError, OverflowError, ValueError):  # a seek beyond what a file may have
                self._fail("an offset lies outside the file")

    def _fail(self, what):
        raise QuireError("%s: damaged ELF file: %s" % (self.path, what), 126)

    def _read(self, f):
        head = f.read(64)
        if head[:4] != b"\x7fELF":
            raise NotElf("%s: not an ELF file" % self.path, 126)
        if len(head) < 64:
            self._fail("the header is cut off")
        self._check_kind(head)
        phoff, = struct.unpack_from("<Q", head, 32)
        phentsize, phnum = struct.unpack_from("<HH", head, 54)
        if phentsize != 56 and phnum:
            self._fail("program headers of %d bytes" % phentsize)
        f.seek(phoff)
        table = f.read(56 * phnum)
        if len(table) < 56 * phnum:
            self._fail("the program headers are cut off")
        loads, dynamic = [], None
        for i in range(phnum):
            kind, _, off, vaddr, _, filesz, _, _ = struct.unpack_from("<IIQQQQQQ", table, 56 * i)
            if kind == PT_LOAD:
                loads.append((vaddr, off, filesz))
            elif kind == PT_DYNAMIC:
                dynamic = (off, filesz)
            elif kind == PT_INTERP:
                f.seek(off)
                self.interp = f.read(min(filesz, 4096)).split(b"\0")[0].decode(errors="surrogateescape")
        if dynamic:
            self._read_dynamic(f, loads, *dynamic)

    def _check_kind(self, head):
        if head[4] != 2 or head[5] != 1:
            raise QuireError("%s: a %s-bit %s-endian ELF file; Quire runs 64-bit x86-64 programs"
                             % (self.path, {1: 32, 2: 64}.get(head[4], "?"),
                                {1: "little", 2: "big"}.get(head[5], "?")), 126)
        self.type, machine = struct.unpack_from("<HH", head, 16)
        if machine != EM_X86_64:
            raise QuireError("%s: made for %s; Quire runs x86-64 programs"
                             % (self.path, MACHINES.get(machine, "machine %d" % machine)), 126)
        if self.type not in (ET_EXEC, ET_DYN):
            raise QuireError("%s: an ELF file of type %d, not a program" % (self.path, self.type), 126)

    def _read_dynamic(self, f, loads, off, size):
        f.seek(off)
        data = f.read(min(size, 1 << 20))
        tags = []
        for i in range(0, len(data) - 15, 16):
            tag, value = struct.unpack_from("<qQ", data, i)
            if tag == DT_NULL:
                break
            tags.append((tag, value))
        table = dict(tags)
        if DT_STRTAB not in table:
            return
        at = next((o + table[DT_STRTAB] - v for v, o, n in loads if v <= table[DT_STRTAB] < v + n), None)
        if at is None:
            self._fail("the string table lies outside the file")
        f.seek(at)
        strings = f.read(min(table.get(DT_STRSZ, 0), 16 << 20))

        def text(o):
            end = strings.find(b"\0", o)
            if o >= len(strings) or end < 0:
                self._fail("a name lies outside the string table")
            return strings[o:end].decode(errors="surrogateescape")

        for tag, value in tags:
            if tag == DT_NEEDED:
                self.needed.append(text(value))
            elif tag == DT_RPATH:
                self.rpath += [p for p in text(value).split(":") if p]
            elif tag == DT_RUNPATH:
                self.runpath += [p for p in text(value).split(":") if p]
