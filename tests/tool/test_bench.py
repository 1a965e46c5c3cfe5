"""The benchmark's tables and picture, from figures that are made up."""
import contextlib
import io
import os
import re
import sys
import unittest
import xml.dom.minidom

from support import Case

import bench_frames
import bench_heap
import plot


def printed(function, *args):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        function(*args)
    return out.getvalue()


class Tables(Case):
    def rows(self):
        with open(os.path.join(bench_frames.ROOT, "bench", "frame_rows.h"), encoding="utf-8") as f:
            return re.findall(r'^    \{"(\w+)", ', f.read(), re.M)

    def test_every_row_is_measured_and_quoted(self):
        self.assertEqual([q["row"] for q in bench_frames.quoted()], self.rows())

    def test_the_best_rival_counts(self):
        figures = {"quire": 5.0, "buddy": 20.0, "glibc": 50.0, "tcmalloc": 10.0}
        medians = {name: {row: ns for row in self.rows()} for name, ns in figures.items()}
        lines = [line.split("\t") for line in printed(bench_frames.table, medians, "build").splitlines()]
        self.assertEqual(lines[1][1:7], ["5.0", "20.0", "10.0", "tcmalloc", "10.0", "0.50"])
        self.assertTrue(lines[1][-1].endswith("bench/frame_bench pair_order0"))
        # where a pool holds less than the others, its figure is not compared
        smaller = next(line for line in lines if line[-1].endswith(" churn"))
        self.assertEqual(smaller[1:7], ["5.0", "20.0", "-", "-", "20.0", "0.25"])

    def test_scaling_is_work_done_by_two(self):
        medians = {n: {r: 6.0 for _, row in bench_frames.SCALED for r in (row, row + "_x2")} for n in ("quire", "buddy")}
        self.assertIn("order 0 pair\t2.00\t2.00\t1.9", printed(bench_frames.scaling, medians))

    def test_a_missing_rival_is_left_out(self):
        was, bench_frames.POOLS = bench_frames.POOLS, {"glibc": None, "nowhere": "libnowhere.so.1"}
        try:
            found, missing = bench_frames.subjects("build")
        finally:
            bench_frames.POOLS = was
        self.assertEqual((sorted(found), missing), (["buddy", "glibc", "quire"], ["nowhere"]))


class Heaps(Case):
    def rows(self):
        with open(os.path.join(bench_frames.ROOT, "bench", "heap_rows.h"), encoding="utf-8") as f:
            return re.findall(r'^    \{"(\w+)", ', f.read(), re.M)

    def medians(self, **other):
        figures = {"quire": 6.0, "direct": 4.0, "glibc": 12.0, "mimalloc": 8.0, "tcmalloc": 5.0}
        return {name: {row: other.get(name, ns) for row in self.rows()} for name, ns in figures.items()}

    def test_every_row_has_a_line(self):
        self.assertEqual(list(bench_heap.ROWS), self.rows())
        lines = printed(bench_heap.show, self.medians(), self.rows(), "build").splitlines()
        self.assertEqual(lines[0].split("\t")[:5], ["row", "ours", "glibc", "mimalloc", "tcmalloc"])
        pair = next(line for line in lines if line.endswith("heap_malloc pair_64")).split("\t")
        self.assertEqual(pair[1:9], ["6.00", "12.00", "8.00", "5.00", "tcmalloc", "1.20", "4.00", "6.0"])

    def test_memory_is_not_time(self):
        medians = self.medians()
        medians["quire"]["rss"] = 100.0
        self.assertIn("mimalloc's: 0.750 over %d rows" % (len(self.rows()) - 1), printed(bench_heap.closing, medians, self.rows()))
        self.assertIn("20.00, memory over live", printed(bench_heap.closing, medians, self.rows()))

    def test_the_picture_has_every_bar(self):
        svg = xml.dom.minidom.parseString(bench_heap.picture(self.medians(), self.rows()))
        bars = [r for r in svg.getElementsByTagName("rect") if r.getAttribute("height") == "9"]
        self.assertEqual(len(bars), 4 * (len(self.rows()) - 1))
        self.assertAlmostEqual(float(bars[0].getAttribute("width")) / float(bars[1].getAttribute("width")), 0.5, places=3)


class Pictures(Case):
    def test_ticks_are_round(self):
        self.assertEqual(plot.ticks(0, 100), [0, 20, 40, 60, 80, 100])
        self.assertEqual(plot.ticks(0, 7, 10), [0, 1, 2, 3, 4, 5, 6, 7])

    def test_lines_are_drawn_where_they_should(self):
        text = plot.lines("a < b", "sub", "x", "y", [("one", [(0, 0), (10, 100)], (5, 50))], (0, 100), (50, "half"))
        svg = xml.dom.minidom.parseString(text)
        path = [p for p in svg.getElementsByTagName("path") if p.getAttribute("fill") == "none"]
        self.assertEqual(len(path), 1)
        self.assertEqual(path[0].getAttribute("d"), "M%.1f %.1fL%.1f %.1f" % (
            plot.LEFT, plot.HEIGHT - plot.BOTTOM, plot.WIDTH - plot.RIGHT, plot.TOP))
        self.assertIn("a < b", [t.firstChild.data for t in svg.getElementsByTagName("text")])


if __name__ == "__main__":
    sys.exit(unittest.main())
