"""Writes an initramfs: a cpio archive of the "newc" kind (cpio(5)).

The image is deterministic: the same files (content, mode, time) give the same bytes.  The data of a
file starts on a page boundary of the image, so that a kernel can use the pages where they lie: the
name before it is padded with zeros, which every reader of the format takes, for a name ends at its first zero.
"""
import os
import stat

PAGE = 4096
ALIGN_FROM = 1024  # smaller files are not worth a page of padding
HEADER = 110
TRAILER = "TRAILER!!!"


class Image:
    """A tree of guest paths.  Host paths are added together with the symbolic links on the way."""

    def __init__(self):
        self.entries = {}  # guest path without the leading slash -> (mode, mtime, rdev, source)
        self.links = {}    # host folder -> its real path as a guest path, once its links are packed

    def __contains__(self, guest):
        return guest.strip("/") in self.entries

    def _parents(self, guest):
        while "/" in guest:
            guest = guest.rpartition("/")[0]
            if guest in self.entries:
                return
            self.entries[guest] = (stat.S_IFDIR | 0o755, 0, 0, b"")

    def _put(self, guest, mode, mtime, source, rdev=0):
        guest = guest.strip("/")
        if guest:
            self._parents(guest)
            self.entries[guest] = (mode, mtime, rdev, source)

    def add_dir(self, guest, mode=0o755):
        if guest.strip("/") not in self.entries:
            self._put(guest, stat.S_IFDIR | mode, 0, b"")

    def add_bytes(self, guest, data, mode=0o644):
        self._put(guest, stat.S_IFREG | mode, 0, data)

    def add_link(self, guest, target):
        self._put(guest, stat.S_IFLNK | 0o777, 0, os.fsencode(target))

    def add_device(self, guest, major, minor, mode=0o666):
        self._put(guest, stat.S_IFCHR | mode, 0, b"", (major, minor))

    def place(self, host):
        """Pack the symbolic links on the way to host; the guest path where the thing itself goes."""
        host = os.path.abspath(host)
        folder, name = os.path.split(host)
        if folder == host:
            return host
        if folder not in self.links:
            self.links[folder] = self.place(folder)
        path = os.path.join(self.links[folder], name)
        try:
            target = os.readlink(path)
        except OSError:
            return path
        self.add_link(path, target)
        return self.place(os.path.join(os.path.dirname(path), target))

    def add(self, host, st=None):
        """A host file (or a folder without its content) at its own path."""
        real = self.place(host)
        key = real.strip("/")
        if key in self.entries and not stat.S_ISDIR(self.entries[key][0]):
            return real
        st = st or os.stat(real)
        if stat.S_ISDIR(st.st_mode):
            self.add_dir(real, stat.S_IMODE(st.st_mode))
        else:
            self.add_as(real, real, st)
        return real

    def add_as(self, guest, host, st=None):
        """The regular host file at another guest path."""
        st = st or os.stat(host)
        self._put(guest, stat.S_IFREG | stat.S_IMODE(st.st_mode), int(st.st_mtime),
                  (host, st.st_size, st.st_ino, st.st_mtime_ns))

    def size(self):
        """About what the image will take, in bytes."""
        total = 0
        for mode, _, _, source in self.entries.values():
            total += (source[1] if isinstance(source, tuple) else len(source)) + 256
            if stat.S_ISREG(mode):
                total += PAGE // 2
        return total

    def key(self):
        """What the image's bytes depend on, as text to be hashed."""
        return repr(sorted(self.entries.items())).encode("utf-8", "surrogateescape")

    def write(self, out):
        at = 0
        for ino, guest in enumerate(sorted(self.entries), 1):
            mode, mtime, rdev, source = self.entries[guest]
            at = write_entry(out, at, ino, guest, mode, mtime, rdev, source)
        at = write_entry(out, at, 0, TRAILER, 0, 0, 0, b"")
        out.write(b"\0" * (-at % 512))


def write_entry(out, at, ino, guest, mode, mtime, rdev, source):
    """One entry at offset at of the image; the offset behind it."""
    size = source[1] if isinstance(source, tuple) else len(source)
    name = os.fsencode(guest) + b"\0"
    if stat.S_ISREG(mode) and size >= ALIGN_FROM:
        name += b"\0" * (-(at + HEADER + len(name)) % PAGE)
        if len(name) > PAGE:  # readers take names of at most a page: leave this file unaligned
            name = name[:len(os.fsencode(guest)) + 1]
    major, minor = rdev or (0, 0)
    nlink = 2 if stat.S_ISDIR(mode) else 1
    fields = (ino, mode, 0, 0, nlink, mtime & 0xffffffff, size, 0, 0, major, minor, len(name), 0)
    out.write(b"070701" + b"".join(b"%08X" % v for v in fields) + name)
    at += HEADER + len(name)
    out.write(b"\0" * (-at % 4))
    at += -at % 4
    if isinstance(source, tuple):
        left = size
        with open(source[0], "rb") as f:
            while left:
                data = f.read(min(left, 1 << 20))
                if not data:  # it shrank meanwhile: the header has promised size bytes
                    data = b"\0" * min(left, 1 << 20)
                out.write(data)
                left -= len(data)
    else:
        out.write(source)
    at += size
    out.write(b"\0" * (-at % 4))
    return at + -at % 4
