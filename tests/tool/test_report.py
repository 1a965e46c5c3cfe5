"""The report as people read it."""
import sys
import unittest

from support import Case

from quire.report import Report

LINES = """quire: memory managed 130000 start_free 120000 free 119000 lowest_free 110000 pages
quire: time faults 2000 in 4000000 ns
quire: time calls 10 in 20000 ns
quire: time first_program 12345678 ns
quire: time uptime 123456 ns
quire: event fault_anon 1500
quire: event fault_cow_copy 500
quire: event fork 2
quire: event mremap 0
quire: zone node 0 DMA32 present 130048 managed 130000 free 118000 cached 1000 allocs 5 frees 6 fails 0 locks 7
quire: orders node 0 DMA32 1 2 3 4 5 6 7 8 9 10 11
quire: heap live 1500 bytes 200000 sites 40 lost 0
quire: site dentry_new+0x2f bytes 130272 count 1357 peak 140000 calls 2000
quire: tlb requests 3 ipis 2 local 9""".split("\n")


class Reading(Case):
    def test_numbers_come_through(self):
        text = "\n".join(Report(LINES).text())
        for part in ("507 MiB managed", "39 MiB at most", "4000 KiB at the end", "2000 in 4.0 ms, 2.0 us each", "cow copy",
                     "fork", "first program after 12.3 ms", "1     2     3", "3 requests",
                     "1500 objects, 195 KiB, from 40 places",
                     "dentry_new+0x2f                      127 KiB in   1357, at most 136 KiB, 2000 calls"):
            self.assertIn(part, text)
        self.assertNotIn("mremap", text)

    def test_damaged_lines_are_passed_over(self):
        Report(["", "quire:", "noise", "quire: event", "quire: event x", "quire: zone"] + LINES).text()


if __name__ == "__main__":
    sys.exit(unittest.main())
