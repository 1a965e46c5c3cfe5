"""Pictures of memory: from a dump with known blocks to cells, letters and titles."""
import io
import os
import re
import sys
import unittest
from contextlib import redirect_stderr, redirect_stdout
from xml.etree import ElementTree

from support import Case

from quire import blocks, cli


def block(first, run=1, node=0, zone=1, kind=1, **counts):
    counts.setdefault("free", 512 - sum(counts.values()))
    return "block %d %d %d %d %d %s" % (first, run, node, zone, kind,
                                         " ".join(str(counts.get(f, 0)) for f in blocks.FIELDS))


DUMP = """# zone node name type start end ...
zone 0 DMA32 1 4096 262144 258048 250000 200000 500 100 200 300 4 2 0 0 0 0 0 0 0 1 390
zone 1 DMA32 1 262144 294912 32768 32768 32768 0 10 20 30 0 0 0 0 0 0 0 0 0 0 32
# block ...""".split("\n") + [
    block(8, anon=300), block(9, anon=100, file=20), block(10, kind=0, slab=512), block(11, kind=2, reserved=512),
    block(12, kind=0, table=1), block(13, file=511), block(14, huge=512), block(15, cached=40), block(16, poisoned=1),
    block(17, 495), block(512, 64, node=1)]


class Pictures(Case):
    def setUp(self):
        super().setUp()
        self.zones = blocks.parse(DUMP)

    def test_zones_and_blocks(self):
        self.assertEqual([(z.node, z.name, len(z.blocks)) for z in self.zones], [(0, "DMA32", 504), (1, "DMA32", 64)])
        unusable = self.zones[0].unusable()
        total = 4 + 2 * 2 + 512 + 390 * 1024
        self.assertEqual(unusable[0], 0)
        self.assertAlmostEqual(unusable[2], 8 / total)
        self.assertAlmostEqual(unusable[10], 520 / total)

    def test_a_log_around_it_does_no_harm(self):
        log = ["[ 0.1] noise"] + ["quire: dump " + line for line in DUMP] + ["quire: exit status 0"]
        self.assertEqual(blocks.terminal(blocks.parse(log), False), blocks.terminal(self.zones, False))

    def test_damage_is_named(self):
        for bad, text in ((["block 1 2 3"], "damaged"), (DUMP + [block(3, anon=600)], "damaged"),
                          (DUMP + [block(3, free=5)], "damaged"), (["nothing"], "no dump"),
                          (DUMP + [block(3, node=4)], "of no zone")):
            with self.assertRaisesRegex(ValueError, text):
                blocks.parse(bad)

    def test_letters(self):
        lines = blocks.terminal(self.zones, False)
        self.assertTrue(all(len(line) <= 80 and line.isascii() for line in lines), lines)
        self.assertEqual(lines[2], "     0 KiB |%s|" % (" " * 8 + "AaSRtFH.b" + "." * 47))
        self.assertEqual(lines[3:5], ["   128 MiB |%s|" % ("." * 64), "            and 6 rows like it"])
        self.assertIn("node 1, zone DMA32: 1 GiB to 1152 MiB, 128 MiB managed, 100 % free", lines)
        legend = " ".join(lines[-5:])
        for word in ("a anonymous", "s kernel heap", "b bad frames", "capital"):
            self.assertIn(word, legend)
        self.assertNotIn("kernel areas", legend)

    def test_colours(self):
        lines = blocks.terminal(self.zones, True)
        plain = [re.sub("\033\\[[0-9;]*m", "", line) for line in lines]
        self.assertTrue(all(len(line) <= 80 for line in plain), plain)
        # a bar's height is the used part: 300, 120, 512, 512, 1, 511, 512, none, 1 of 512
        self.assertEqual(plain[2][20:29], "\u2584\u2582\u2587\u2587\u2581\u2587\u2587\u00b7\u2581")
        row = lines[2]
        self.assertIn("\033[38;5;35m\u2584\u2582", row)  # anonymous memory in one colour
        self.assertIn("\033[38;5;214;48;5;52m\u2587", row)  # the heap on the ground of unmovable memory
        self.assertIn("\033[38;5;245m\u2587", row)  # what is all reserved has no type to show
        self.assertTrue(all(line.count("\033") % 2 == 0 or line.endswith("\033[0m|") for line in lines[2:4]), lines[2:4])

    def test_svg(self):
        root = ElementTree.fromstring(blocks.svg(self.zones, "a <title> & more"))
        ns = "{http://www.w3.org/2000/svg}"
        self.assertEqual(root.find(ns + "title").text, "a <title> & more")
        titles = [t.text for g in root.iter(ns + "g") for t in g.findall(ns + "title")]
        self.assertIn("pageblock 9 at 18 MiB, movable: 392 free, 100 anon, 20 file", titles)
        self.assertIn("pageblocks 17 to 63, from 34 MiB, movable: 512 free", titles)
        cells = [g for g in root.iter(ns + "g") if g.find(ns + "title") is not None]
        anon = next(g for g in cells if g.find(ns + "title").text.startswith("pageblock 8 "))
        bars = {r.get("fill"): float(r.get("height")) for r in anon.findall(ns + "rect")}
        self.assertAlmostEqual(bars["#009e73"], blocks.BODY * 300 / 512, 1)
        self.assertEqual(sum(1 for p in root.iter(ns + "circle")), 22)  # two plots of 11 orders
        text = "".join(root.itertext())
        self.assertIn("and 6 rows like it", text)
        width = float(root.get("viewBox").split()[2])
        self.assertTrue(all(0 <= float(r.get("x") or 0) + float(r.get("width")) <= width for r in root.iter(ns + "rect")))

    def test_command(self):
        dump, picture = self.file("dump", "\n".join(DUMP).encode()), self.path("out.svg")
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            self.assertEqual(cli.main("", ["blocks", "--svg", picture, dump]), 0)
            self.assertEqual(cli.main("", ["blocks", "--svg=" + picture, self.path("none")]), 125)
            for wrong in ([], ["--svg"], [dump, dump], ["--every", "x", "--", "true"], ["--every", "1", dump]):
                self.assertEqual(cli.main("", ["blocks"] + wrong), 2, wrong)
        self.assertIn("AaSRtFH.b", out.getvalue())
        self.assertTrue(os.path.getsize(picture) > 5000)


if __name__ == "__main__":
    sys.exit(unittest.main())
