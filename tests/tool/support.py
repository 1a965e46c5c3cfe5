"""What the tool's tests share: the checkout on the path, a scratch folder, small ELF files made by hand."""
import os
import struct
import sys
import tempfile
import unittest

ROOT = os.environ.get("QUIRE_TEST_ROOT") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))


class Case(unittest.TestCase):
    def setUp(self):
        self._scratch = tempfile.TemporaryDirectory()
        self.scratch = os.path.realpath(self._scratch.name)
        self.addCleanup(self._scratch.cleanup)

    def path(self, name):
        return os.path.join(self.scratch, name)

    def file(self, name, data=b"", mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path, mode)
        return path


def elf(interp=None, needed=(), rpath=None, runpath=None, kind=3, machine=62, bits=2):
    """Bytes of a dynamic ELF file of one load segment: headers, interpreter, strings, dynamic section."""
    strings = b"\0"

    def string(text):
        nonlocal strings
        at = len(strings)
        strings += text.encode() + b"\0"
        return at

    tags = [(1, string(n)) for n in needed]
    if rpath:
        tags.append((15, string(rpath)))
    if runpath:
        tags.append((29, string(runpath)))
    count = 2 + bool(interp)
    at = 64 + 56 * count
    path = interp.encode() + b"\0" if interp else b""
    strings_at = at + len(path)
    tags += [(5, 0x1000 + strings_at), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *t) for t in tags)
    dynamic_at = strings_at + len(strings)
    total = dynamic_at + len(dynamic)

    def header(ptype, off, size):
        return struct.pack("<IIQQQQQQ", ptype, 5, off, 0x1000 + off, 0x1000 + off, size, size, 8)

    headers = [header(1, 0, total), header(2, dynamic_at, len(dynamic))]
    if interp:
        headers.insert(0, header(3, at, len(path)))
    start = b"\x7fELF" + bytes([bits, 1, 1]) + b"\0" * 9
    start += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    return start + b"".join(headers) + path + strings + dynamic
