"""The initramfs: read back by the host's cpio, deterministic, aligned, and enough to run programs in."""
import io
import os
import stat
import subprocess
import unittest

from support import Case, elf

from quire import QuireError
from quire.cpio import HEADER, PAGE, Image
from quire.pack import Packer, prune, write_image


def entries(data):
    """[(name, mode, offset of the data, size)] by a reader of our own."""
    at, found = 0, []
    while True:
        assert data[at:at + 6] == b"070701", at
        field = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + HEADER:at + HEADER + field[11]].split(b"\0")[0].decode()
        start = (at + HEADER + field[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found.append((name, field[1], start, field[6]))
        at = (start + field[6] + 3) & ~3


def image_bytes(image):
    out = io.BytesIO()
    image.write(out)
    return out.getvalue()


class Cpio(Case):
    def image(self):
        image = Image()
        image.add_bytes("/small", b"abc")
        image.add_bytes("/deep/er/large", bytes(range(256)) * 40, 0o600)
        image.add_link("/link", "deep/er/large")
        image.add_dir("/empty", 0o1777)
        image.add_as("/host", self.file("host", b"x" * 5000, 0o755))
        return image

    def test_host_cpio_reads_it(self):
        image = self.image_path()
        target = self.path("out")
        os.mkdir(target)
        subprocess.run(["cpio", "-idm", "--quiet"], stdin=open(image, "rb"), cwd=target, check=True)
        self.assertEqual(open(target + "/small", "rb").read(), b"abc")
        self.assertEqual(open(target + "/link", "rb").read(), bytes(range(256)) * 40)
        self.assertEqual(stat.S_IMODE(os.stat(target + "/deep/er/large").st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(target + "/empty").st_mode), 0o1777)
        self.assertEqual(os.path.getsize(target + "/host"), 5000)

    def image_path(self):
        return write_image(self.image(), self.path("image.cpio"))

    def test_same_input_same_bytes(self):
        self.assertEqual(image_bytes(self.image()), image_bytes(self.image()))

    def test_data_of_large_files_is_page_aligned(self):
        found = {name: (start, size) for name, _, start, size in entries(image_bytes(self.image()))}
        self.assertEqual(found["deep/er/large"][0] % PAGE, 0)
        self.assertEqual(found["host"][0] % PAGE, 0)

    def test_file_that_shrinks_keeps_the_archive_whole(self):
        image = self.image()
        with open(self.path("host"), "wb") as f:
            f.write(b"y")
        self.assertIn("small", [e[0] for e in entries(image_bytes(image))])

    def test_links_on_the_way_are_packed(self):
        self.file("real/dir/file", b"content")
        os.symlink("real", self.path("one"))
        os.symlink("dir", self.path("real/two"))
        image = Image()
        image.add(self.path("one/two/file"))
        names = {e[0]: e for e in entries(image_bytes(image))}
        top = self.scratch.strip("/")
        self.assertTrue(stat.S_ISLNK(names[top + "/one"][1]))
        self.assertTrue(stat.S_ISLNK(names[top + "/real/two"][1]))
        self.assertTrue(stat.S_ISREG(names[top + "/real/dir/file"][1]))


class Packing(Case):
    def test_script_brings_its_interpreter(self):
        script = self.file("s", "#!/bin/sh\nseq 3\n", 0o755)
        packer = Packer()
        packer.program(script)
        for path in (script, "/usr/bin/seq", os.path.realpath("/bin/sh")):
            self.assertIn(path, packer.image)

    def test_script_without_interpreter_is_named(self):
        with self.assertRaisesRegex(QuireError, "needs the interpreter /no/such"):
            Packer().program(self.file("s", "#!/no/such\n", 0o755))
        with self.assertRaisesRegex(QuireError, "no script"):
            Packer().program(self.file("t", "just text\n", 0o755))

    def test_missing_interpreter_is_named(self):
        with self.assertRaisesRegex(QuireError, "/no/ld.so, which does not exist"):
            Packer().program(self.file("p", elf("/no/ld.so"), 0o755))

    def test_scripts_bring_what_they_name(self):
        data = self.file("data.txt", b"content")
        packer = Packer()
        packer.program("/bin/sh", ["-c", "cut -c 2 %s | base32; nothing-like-this /dev/null" % data])
        for path in (data, os.path.realpath("/usr/bin/base32")):
            self.assertIn(path, packer.image)
        self.assertNotIn("/dev/null", packer.image)

    def test_files_and_folders_at_other_paths(self):
        self.file("d/a", b"1")
        self.file("d/sub/b", b"2")
        packer = Packer()
        packer.host_file(self.path("d"), "/data")
        self.assertIn("/data/sub/b", packer.image)
        with self.assertRaisesRegex(QuireError, "no such file"):
            packer.host_file(self.path("none"), "/x")

    @unittest.skipUnless(os.geteuid() == 0, "chroot wants root")
    def test_programs_run_from_the_image_alone(self):
        """The host itself runs them, with nothing but the image's content as its root."""
        for command, expected in ((["bash", "-c", "echo $((6*7)) | sed s/4/four/"], "four2\n"),
                                  (["python3", "-c", "import json, ctypes, sqlite3; print(json.dumps([1]))"], "[1]\n"),
                                  (["perl", "-MPOSIX", "-e", "print floor(2.5), qq(\\n)"], "2\n"),
                                  (["sqlite3", ":memory:", "select 6*7"], "42\n")):
            path = "/usr/bin/" + command[0]
            if not os.path.exists(path):
                continue
            packer = Packer()
            packer.program(path, command[1:])
            root = self.path("root-" + command[0])
            os.mkdir(root)
            image = write_image(packer.image, self.path("i.cpio"))
            subprocess.run(["cpio", "-idm", "--quiet"], stdin=open(image, "rb"), cwd=root, check=True)
            os.mknod(root + "/dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            out = subprocess.run(["/usr/sbin/chroot", root, path] + command[1:], capture_output=True, text=True, check=False,
                                 env={"PATH": "/usr/bin:/bin"})
            self.assertEqual((out.stdout, out.returncode), (expected, 0), out.stderr)


class Cache(Case):
    def test_second_time_is_taken_from_the_cache(self):
        os.environ["XDG_CACHE_HOME"] = self.path("cache")
        self.addCleanup(os.environ.pop, "XDG_CACHE_HOME")
        image = Image()
        image.add_bytes("/a", b"1")
        first = write_image(image)
        before = os.stat(first).st_ino
        self.assertEqual(write_image(image), first)
        self.assertEqual(os.stat(first).st_ino, before)
        image.add_bytes("/a", b"2")
        self.assertNotEqual(write_image(image), first)

    def test_prune_removes_the_oldest(self):
        for i in range(4):
            os.utime(self.file("c/%d.cpio" % i, b"x" * 100), (i, i))
        prune(self.path("c"), 250)
        self.assertEqual(sorted(os.listdir(self.path("c"))), ["2.cpio", "3.cpio"])


if __name__ == "__main__":
    unittest.main()
