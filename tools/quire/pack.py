"""Collects what a program needs into an initramfs, and keeps images for the next time."""
import fnmatch
import glob
import hashlib
import os
import re
import stat
import tempfile

from . import QuireError, bundles
from .cpio import Image
from .elf import NotElf
from .resolve import CACHE, MUSL_PATH_FILE, Libraries, find_program, search_path

CACHE_LIMIT = 3 << 30  # bytes of images kept
WORD = re.compile(r"[A-Za-z0-9_./+-]+")
WORD_FILE_LIMIT = 64 << 20  # bytes of a file that is packed because a script seems to name it
NOT_FILES = ("/dev/", "/proc/", "/sys/", "/run/")


class Packer:
    def __init__(self):
        self.image = Image()
        self.libs = Libraries()
        self.programs = set()
        for path in bundles.MERGED:  # /bin is a link into /usr on merged systems
            if os.path.islink(path):
                self.image.place(path)
        for path, mode in bundles.FOLDERS.items():
            self.image.add_dir(self.image.place(path) if os.path.exists(path) else path, mode)
        for path, text in bundles.FILES.items():
            self.image.add_bytes(path, text.encode())

    def program(self, path, args=()):
        """The file of a program, its interpreter, libraries and bundle; args help to guess the rest."""
        if path in self.programs:
            if args:
                self._bundle(path, args)
            return
        self.programs.add(path)
        real = self.image.add(path)
        try:
            libs = self.libs.closure(real)
        except NotElf:
            self._script(path, real, args)
            return
        self._libraries(libs)
        self._bundle(path, args)

    def _libraries(self, libs):
        if any(os.path.basename(lib) == "libc.so.6" for lib in libs):
            libs = libs + [lib for lib in self.libs.loaded_by_glibc() if lib not in libs]
        for lib in libs:
            self.image.add(lib)
        for extra in (CACHE, MUSL_PATH_FILE):
            if libs and os.path.exists(extra):
                self.image.add(extra)

    def _script(self, path, real, args):
        with open(real, "rb") as f:
            line = f.readline(256)
        if not line.startswith(b"#!") or not line[2:].strip():
            raise QuireError("%s: not an ELF file, and no script that names its interpreter with #!" % path, 126)
        words = line[2:].decode(errors="surrogateescape").split()
        if not os.path.exists(words[0]):
            raise QuireError("%s needs the interpreter %s, which does not exist" % (path, words[0]), 126)
        self.program(words[0], [path] + list(args))
        if os.path.basename(words[0]) == "env":
            named = [w for w in words[1:] if not w.startswith("-") and "=" not in w]
            if named:
                self.program(find_program(named[0]), [path] + list(args))

    def _bundle(self, path, args):
        real = os.path.realpath(path)
        for bundle in bundles.BUNDLES:
            if not any(re.fullmatch(bundle["names"], os.path.basename(p)) for p in (path, real)):
                continue
            for name in bundle.get("programs", ()):
                where = search_path(name)
                if where:
                    self.program(where)
            fill = {"prefix": os.path.dirname(os.path.dirname(real)), "name": os.path.basename(real)}
            for pattern in bundle.get("trees", ()):
                for host in sorted(glob.glob(pattern.format(**fill))):
                    self.tree(host, bundle.get("without", ()))
            if bundle.get("words"):
                self._words(args)

    def _words(self, args):
        """Programs and files that the arguments, or small scripts among them, name."""
        texts = list(args)
        for arg in args:
            if os.path.isfile(arg) and os.path.getsize(arg) <= 1 << 20:
                with open(arg, "rb") as f:
                    texts.append(f.read().decode(errors="replace"))
        for word in sorted({w for text in texts for w in WORD.findall(text)}):
            if "/" not in word:
                self._guess(search_path(word), args)
            if os.path.isfile(word) and os.path.getsize(word) <= WORD_FILE_LIMIT and os.access(word, os.R_OK):
                if os.access(word, os.X_OK):
                    self._guess(os.path.abspath(word), args)
                elif not os.path.abspath(word).startswith(NOT_FILES):
                    self.image.add(word)

    def _guess(self, path, args):
        """Perhaps the guest runs this program too; if it cannot be packed, the guest will say what it misses."""
        if path and path not in self.programs:
            try:
                self.program(path, args)
            except QuireError:
                pass

    def tree(self, host, without=()):
        """A file, or a folder with all that is in it but names that match without."""
        if self._excluded(host, without):
            return
        st = os.lstat(host)
        real = self.image.add(host) if not stat.S_ISREG(st.st_mode) else self.image.add(host, st)
        if stat.S_ISLNK(st.st_mode):
            st = os.stat(real)
        if stat.S_ISREG(st.st_mode):
            self._plugin(host, st)
            return
        if not stat.S_ISDIR(st.st_mode):
            return
        with os.scandir(real) as it:
            entries = sorted(it, key=lambda e: e.name)
        for entry in entries:
            if self._excluded(entry.path, without):
                continue
            if entry.is_dir(follow_symlinks=False):
                self.tree(entry.path, without)
            elif entry.is_symlink():
                if os.path.exists(entry.path):
                    self.tree(entry.path, without)
            elif entry.is_file():
                st = entry.stat()
                self.image.add(entry.path, st)
                self._plugin(entry.path, st)

    @staticmethod
    def _excluded(path, without):
        name = os.path.basename(path)
        return any(fnmatch.fnmatchcase(path, "*/" + w) if "/" in w else fnmatch.fnmatchcase(name, w) for w in without)

    def _plugin(self, path, st):
        """A shared object or program inside a tree: the libraries that it needs, as far as installed."""
        if not (".so" in path or st.st_mode & 0o111):
            return
        try:
            self._libraries(self.libs.closure(path, required=False))
        except QuireError:
            pass  # linker scripts named .so, data with the x bit

    def host_file(self, host, guest):
        """A file or folder of the host at the guest's path."""
        if not os.path.exists(host):
            raise QuireError("--file: no such file: %s" % host)
        if os.path.isdir(host):
            self.image.add_dir(guest)
            for entry in sorted(os.scandir(host), key=lambda e: e.name):
                self.host_file(entry.path, guest.rstrip("/") + "/" + entry.name)
            return
        if not os.path.isfile(host):
            raise QuireError("--file: %s is neither a file nor a folder" % host)
        self.image.add_as(guest, host)
        st = os.stat(host)
        if st.st_mode & 0o111:
            try:
                self._libraries(self.libs.closure(host, required=False))
            except QuireError:
                pass


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "quire")


def write_image(image, path=None):
    """Write the image to path, or into the cache (where it may be already); the path."""
    if path:
        with open(path, "wb") as out:
            image.write(out)
        return path
    folder = cache_folder()
    final = os.path.join(folder, hashlib.sha256(image.key()).hexdigest()[:32] + ".cpio")
    try:
        os.utime(final)
        return final
    except OSError:
        pass
    try:
        os.makedirs(folder, exist_ok=True)
        prune(folder, CACHE_LIMIT - image.size())
        fd, temp = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(fd, "wb", buffering=1 << 20) as out:
                image.write(out)
            os.rename(temp, final)
        except BaseException:
            os.unlink(temp)
            raise
    except OSError as e:
        raise QuireError("cannot write the initramfs in %s: %s" % (folder, e.strerror)) from None
    return final


def prune(folder, limit):
    """Remove the images used longest ago until the rest fits in limit bytes."""
    files = []
    for entry in os.scandir(folder):
        if entry.name.endswith(".cpio"):
            try:
                st = entry.stat()
            except FileNotFoundError:  # another run was faster
                continue
            files.append((st.st_mtime, st.st_size, entry.path))
    total = sum(f[1] for f in files)
    for _, size, path in sorted(files):
        if total <= limit:
            break
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        total -= size
