#!/usr/bin/python3
"""Draws physical memory in the terminal: zones, pageblocks, and what occupies them.

The kernel's report (kernel/core/report.c) has a line for each run of up to 64 pageblocks of 2 MiB of one zone:

  quire: blocks NODE ZONE FIRST KINDS

FIRST is the number of the first pageblock; KINDS has one character a block: the kind of most of its used frames, or that of an
empty one.
"""
import os

# character of the report -> (what is drawn, colour, meaning)
KINDS = {
    ".": ("\u00b7", "90", "free"),
    "a": ("\u2588", "32", "anonymous memory"),
    "f": ("\u2593", "34", "files"),
    "s": ("\u2592", "33", "kernel heap"),
    "t": ("\u2592", "35", "page tables"),
    "k": ("\u2592", "36", "kernel areas and stacks"),
    "h": ("\u2588", "92", "huge pages"),
    "r": ("\u2591", "37", "reserved: kernel, image, firmware"),
    "o": ("\u2591", "31", "other"),
    "x": (" ", "0", "no memory"),
}
WIDTH = 64


def parse(lines):
    """[(node, zone, {block number: character})] in the order of the report, and the lines left over."""
    zones, rest = [], []
    for line in lines:
        words = line.split()
        if words[:2] != ["quire:", "blocks"] or len(words) != 6:
            rest.append(line)
            continue
        node, zone, first, kinds = int(words[2]), words[3], int(words[4]), words[5]
        found = next((z for z in zones if z[:2] == (node, zone)), None)
        if not found:
            found = (node, zone, {})
            zones.append(found)
        found[2].update({first + i: c for i, c in enumerate(kinds)})
    return zones, rest


def draw(zones, colour=True):
    """The picture as lines of text."""
    def cell(c):
        drawn, code, _ = KINDS.get(c, KINDS["o"])
        return "\033[%sm%s\033[0m" % (code, drawn) if colour else drawn if c == "x" else c

    lines, seen = [], set()
    for node, zone, blocks in zones:
        present = [b for b, c in blocks.items() if c != "x"]
        if not present:
            continue
        used = sum(c not in ".x" for c in blocks.values())
        lines.append("node %d, zone %s: %d pageblocks of 2 MiB, %d in use" % (node, zone, len(present), used))
        row = min(present) // WIDTH * WIDTH
        while row <= max(present):
            cells = [blocks.get(b, "x") for b in range(row, row + WIDTH)]
            if any(c != "x" for c in cells):
                seen.update(cells)
                lines.append("%6d MiB |%s|" % (row * 2, "".join(cell(c) for c in cells)))
            row += WIDTH
    legend = ["%s %s" % (cell(c), text) for c, (_, _, text) in KINDS.items() if c in seen and c != "x"]
    return lines + ["  " + "   ".join(legend[i:i + 4]) for i in range(0, len(legend), 4)]


def wants_colour(stream):
    return stream.isatty() and os.environ.get("NO_COLOR") is None and os.environ.get("TERM") != "dumb"
