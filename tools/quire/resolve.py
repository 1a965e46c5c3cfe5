"""Finds programs in PATH and shared libraries as the dynamic linkers of glibc and musl do (ld.so(8))."""
import os
import struct

from . import QuireError
from .elf import Elf

GLIBC_DIRS = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
MUSL_PATH_FILE = "/etc/ld-musl-x86_64.path"
MUSL_DIRS = ["/lib", "/usr/local/lib", "/usr/lib"]
CACHE = "/etc/ld.so.cache"
CACHE_MAGIC = b"glibc-ld.so.cache1.1"
CACHE_X86_64 = 0x0303  # FLAG_ELF_LIBC6 | FLAG_X8664_LIB64


def find_program(name):
    """Absolute path of a program as a shell would find it."""
    if "/" in name:
        if not os.path.exists(name):
            raise QuireError("no such program: %s" % name, 127)
        path = os.path.abspath(name)
        if os.path.isdir(path):
            raise QuireError("%s is a directory, not a program" % name, 126)
        if not os.access(path, os.X_OK):
            raise QuireError("%s is not executable" % name, 126)
        return path
    path = search_path(name)
    if not path:
        raise QuireError("no such program: %s (looked in %s)" % (name, os.environ.get("PATH", "")), 127)
    return path


def search_path(name):
    """Absolute path of name in PATH, or None.  Version-manager shims, which are scripts that look for
    the real program elsewhere, are passed over if a real one follows."""
    shim = None
    for folder in os.environ.get("PATH", "").split(":") + ["/usr/local/sbin", "/usr/sbin", "/sbin"]:
        path = os.path.join(folder or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            if folder.rstrip("/").endswith("/shims"):
                shim = shim or os.path.abspath(path)
                continue
            return os.path.abspath(path)
    return shim


def read_cache(path=CACHE):
    """{soname: path} of the glibc cache's entries for x86-64; {} if there is none."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError:
        return {}
    at = data.find(CACHE_MAGIC)  # an old-format table may come first
    if at < 0 or len(data) < at + 48:
        return {}
    found = {}
    count, = struct.unpack_from("<I", data, at + 20)
    for i in range(count):
        o = at + 48 + 24 * i
        if o + 24 > len(data):
            break
        flags, key, value, _, hwcap = struct.unpack_from("<iIIIQ", data, o)
        if flags != CACHE_X86_64 or hwcap:
            continue
        name = data[at + key:data.find(b"\0", at + key)].decode(errors="surrogateescape")
        found.setdefault(name, data[at + value:data.find(b"\0", at + value)].decode(errors="surrogateescape"))
    return found


class Libraries:
    """Resolves the libraries of ELF files, each once."""

    def __init__(self):
        self.cache = None
        self.elfs = {}

    def elf(self, path):
        real = os.path.realpath(path)
        if real not in self.elfs:
            self.elfs[real] = Elf(path)
        return self.elfs[real]

    def _dirs(self, elf, chain, musl):
        origin = os.path.dirname(os.path.realpath(elf.path))

        def expand(paths, where):
            return [p.replace("$ORIGIN", where).replace("${ORIGIN}", where)
                    .replace("$LIB", "lib/x86_64-linux-gnu").replace("${LIB}", "lib/x86_64-linux-gnu") for p in paths]

        dirs = []
        if musl or not elf.runpath:
            for e in [elf] + chain:
                if musl or not e.runpath:
                    dirs += expand(e.rpath, os.path.dirname(os.path.realpath(e.path)))
        dirs += [p for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p]
        return dirs + expand(elf.runpath, origin)

    def _find(self, name, elf, chain, musl):
        if "/" in name:
            return name if os.path.exists(name) else None
        for folder in self._dirs(elf, chain, musl):
            if self._usable(os.path.join(folder, name)):
                return os.path.join(folder, name)
        if musl:
            dirs = MUSL_DIRS
            if os.path.exists(MUSL_PATH_FILE):
                with open(MUSL_PATH_FILE, encoding="utf-8") as f:
                    dirs = f.read().replace("\n", ":").split(":")
        else:
            if self.cache is None:
                self.cache = read_cache()
            if name in self.cache and os.path.exists(self.cache[name]):
                return self.cache[name]
            dirs = GLIBC_DIRS
        for folder in dirs:
            if folder and self._usable(os.path.join(folder, name)):
                return os.path.join(folder, name)
        return None

    def _usable(self, path):
        """A library of another machine on the path is passed over, as the linker does."""
        if not os.path.isfile(path):
            return False
        try:
            self.elf(path)
        except QuireError:
            return False
        return True

    def closure(self, path, required=True, musl=None):
        """Paths of the interpreter and of all libraries that path needs, in the order met.  With
        required, a library that is not found is an error; else it is left out (plug-ins of a bundle)."""
        elf = self.elf(path)
        found, seen = [], set()
        if elf.interp:
            if not os.path.exists(elf.interp):
                raise QuireError("%s needs the program interpreter %s, which does not exist" % (path, elf.interp), 126)
            found.append(elf.interp)
            musl = "musl" in os.path.basename(elf.interp)
        elif musl is None:
            musl = False
        queue = [(elf, [])]
        while queue:
            current, chain = queue.pop(0)
            for name in current.needed:
                if name in seen:
                    continue
                seen.add(name)
                if musl and name in ("libc.so", "libc.musl-x86_64.so.1", "ld-musl-x86_64.so.1"):
                    continue  # the interpreter itself
                where = self._find(name, current, chain, musl)
                if not where:
                    if required:
                        raise QuireError("%s needs the library %s, which is not installed" % (current.path, name), 126)
                    continue
                found.append(where)
                queue.append((self.elf(where), [current] + chain))
        return found

    def loaded_by_glibc(self):
        """Paths of what glibc itself loads by name: the unwinder, when a thread is cancelled or exits early."""
        self.cache = read_cache() if self.cache is None else self.cache
        path = self.cache.get("libgcc_s.so.1")
        return [path] if path and os.path.exists(path) else []
