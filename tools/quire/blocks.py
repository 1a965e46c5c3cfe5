"""Pictures of physical memory, from the dump that quire_blockinfo() writes (docs/design/frames.md has its format).

terminal() gives lines of text: one character for each pageblock of 2 MiB.  With colour it is a little bar: its height says
how much of the block is used, its colour what most of that is, the ground below it the block's type.  Without, it is
a letter, capital if at least half is used.  svg() gives the same as a picture whose cells tell their numbers under the mouse.
Rows that are all alike and free are drawn once.  Each zone has its fragmentation beside it: how much of its free memory
is of no use to a request, by the request's size.
"""
import os
from xml.sax.saxutils import escape

WIDTH = 64
FRAMES = 512
FIELDS = ("free", "cached", "reserved", "slab", "table", "kva", "anon", "file", "huge", "other", "absent", "poisoned")
# (field, letter, colour of a terminal, colour of a picture, meaning), in the order in which cells are stacked
KINDS = (
    ("reserved", "r", "245", "#9aa0a6", "reserved: kernel, image, firmware"),
    ("slab", "s", "214", "#e69f00", "kernel heap"),
    ("table", "t", "175", "#cc79a7", "page tables"),
    ("kva", "k", "220", "#d8c520", "kernel areas and stacks"),
    ("other", "o", "166", "#d55e00", "other"),
    ("anon", "a", "35", "#009e73", "anonymous memory"),
    ("huge", "h", "49", "#40d3a6", "huge pages"),
    ("file", "f", "33", "#0072b2", "files"),
    ("poisoned", "b", "196", "#c00000", "bad frames"),
    ("cached", ".", "240", "#c3dccb", "free, in lists of CPUs"),
)
USED = [k for k in KINDS if k[0] != "cached"]
# type -> (letter, ground in a terminal or None, stripe in a picture, meaning)
TYPES = (
    ("u", "52", "#d7a08a", "unmovable"),
    ("m", None, "#a9cdb8", "movable"),
    ("r", "17", "#9db8dc", "reclaimable"),
    ("c", "22", "#5b8f2a", "lent by CMA"),
    ("i", "53", "#8e44ad", "isolated"),
)
BARS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587"


class Block:
    """One pageblock."""

    def __init__(self, number, node, zone, kind, counts):
        self.number, self.node, self.zone, self.type = number, node, zone, kind
        self.counts = dict(zip(FIELDS, counts))
        self.present = FRAMES - self.counts["absent"]
        self.free = self.counts["free"] + self.counts["cached"]
        self.used = self.present - self.free

    def main(self):
        """What most of the used part is: an entry of KINDS; None if nothing is used."""
        kind = max(USED, key=lambda k: self.counts[k[0]])
        return kind if self.counts[kind[0]] else None

    def look(self):
        """Blocks with the same look are drawn alike."""
        return (self.type, tuple(self.counts.values()))

    def level(self):
        """0 nothing used .. 7 all."""
        return 0 if not self.used else max(1, round(7 * self.used / self.present))

    def title(self, run=1):
        what = ["%d %s" % (n, field) for field, n in self.counts.items() if n]
        where = "pageblock %d at %s" % (self.number, size(self.number * FRAMES))
        if run > 1:
            where = "pageblocks %d to %d, from %s" % (self.number, self.number + run - 1, size(self.number * FRAMES))
        return "%s, %s: %s" % (where, TYPES[self.type][3], ", ".join(what))


class Zone:
    def __init__(self, words):
        self.node, self.name, self.type = int(words[0]), words[1], int(words[2])
        self.start, self.end, self.present, self.managed, self.free, self.cached = (int(w) for w in words[3:9])
        self.marks = [int(w) for w in words[9:12]]
        self.orders = [int(w) for w in words[12:]]
        self.blocks = {}

    def unusable(self):
        """By order: the part of the free memory in blocks that are too small."""
        pages = [n << o for o, n in enumerate(self.orders)]
        return [sum(pages[:o]) / sum(pages) if sum(pages) else 1.0 for o in range(len(pages))]

    def rows(self):
        """[(number of the first block, [Block or None] * WIDTH)], rows without memory left out."""
        rows = []
        for first in sorted({n // WIDTH * WIDTH for n in self.blocks}):
            rows.append((first, [self.blocks.get(n) for n in range(first, first + WIDTH)]))
        return rows

    def head(self):
        free = self.free + self.cached
        return "node %d, zone %s: %s to %s, %s managed, %.0f %% free" % (
            self.node, self.name, size(self.start), size(self.end), size(self.managed), 100 * free / max(1, self.managed))


def size(frames):
    n, units = frames * 4, ["KiB", "MiB", "GiB", "TiB"]
    while len(units) > 1 and n and (n >= 10240 or n % 1024 == 0):
        n, units = n / 1024, units[1:]
    return "%d %s" % (round(n), units[0])


def parse(lines):
    """[Zone] of a dump.  Lines that are none of it (a log around it) are passed over; ValueError: there is no dump, or a line
    of it is damaged."""
    zones = {}
    for line in lines:
        words = line.split()
        if words[:2] == ["quire:", "dump"]:
            words = words[2:]
        if words[:1] == ["zone"] and len(words) > 13:
            z = Zone(words[1:])
            zones[z.node, z.type] = z
        elif words[:1] == ["block"]:
            numbers = [int(w) for w in words[1:]]
            if len(numbers) != 5 + len(FIELDS) or sum(numbers[5:]) != FRAMES or min(numbers) < 0:
                raise ValueError("damaged line: %s" % line.strip())
            first, run, node, zone, kind = numbers[:5]
            if (node, zone) not in zones or kind >= len(TYPES):
                raise ValueError("a pageblock of no zone: %s" % line.strip())
            for n in range(first, first + run):
                zones[node, zone].blocks[n] = Block(n, node, zone, kind, numbers[5:])
    if not zones:
        raise ValueError("no dump of pageblocks")
    return [z for z in zones.values() if z.blocks]


def collapse(rows):
    """[(first, cells, how many rows like it follow)]: rows of nothing but free memory that look like the one before."""
    out = []
    for first, cells in rows:
        looks = [c and c.look() for c in cells]
        if out and all(c and not c.used for c in cells) and looks == [c and c.look() for c in out[-1][1]]:
            out[-1][2] += 1
        else:
            out.append([first, cells, 0])
    return out


# ---- terminal ----

def wants_colour(stream):
    encoding = (getattr(stream, "encoding", "") or "").lower().replace("-", "")
    return (stream.isatty() and os.environ.get("NO_COLOR") is None and os.environ.get("TERM") != "dumb"
            and encoding == "utf8")


def cell(b, colour):
    """(colours, character)."""
    if not b:
        return "", " "
    kind, half = b.main(), b.used * 2 >= b.present
    if not colour:
        return "", "." if not kind else kind[1].upper() if half else kind[1]
    ground = TYPES[b.type][1] if b.counts["reserved"] < b.present else None
    codes = ["38;5;" + (kind[2] if kind else "240")] + (["48;5;" + ground] if ground else [])
    return ";".join(codes), BARS[b.level()] if kind else "\u00b7"


def row_text(blocks, colour):
    """Colours are said where they change."""
    out, now = "", ""
    for codes, char in (cell(b, colour) for b in blocks):
        if codes != now:
            out += ("\033[0m" if now else "") + ("\033[%sm" % codes if codes else "")
            now = codes
        out += char
    return out + ("\033[0m" if now else "")


def spark(values, colour):
    """A little plot of parts 0..1."""
    if colour:
        return "".join(BARS[min(7, max(1, round(v * 7)))] for v in values)
    return "".join(str(min(9, int(v * 10))) for v in values)


def legend(zones, colour):
    blocks = [b for z in zones for b in z.blocks.values()]
    parts = ["%s free" % ("\u00b7" if colour else ".")]
    for kind in USED:
        if any(b.main() is kind for b in blocks):
            mark = "\033[38;5;%sm%s\033[0m" % (kind[2], BARS[7]) if colour else kind[1]
            parts.append("%s %s" % (mark, kind[4]))
    if colour:
        for t, (_, ground, _, text) in enumerate(TYPES):
            if ground and any(b.type == t and b.counts["reserved"] < b.present for b in blocks):
                parts.append("\033[48;5;%sm  \033[0m %s" % (ground, text))
    lines, width = [""], 0
    for part in parts:
        plain = len(part.split("m", 1)[-1].replace("\033[0m", "")) if "\033" in part else len(part)
        if width and width + plain > 74:
            lines.append("")
            width = 0
        lines[-1] += ("   " if width else "  ") + part
        width += plain + 3
    lines.append("  " + ("a bar: its height is how much of the 2 MiB is used, its colour what mostly" if colour
                         else "a capital letter: at least half of the 2 MiB is used"))
    return lines


def terminal(zones, colour=True):
    """The picture as lines of at most 80 columns."""
    out = []
    for z in zones:
        out.append(z.head())
        out.append("%10s %s  %s of what is free, to requests of 4 KiB to %s" % (
            "unusable", spark(z.unusable(), colour), "part" if colour else "tenths", size(1 << (len(z.orders) - 1))))
        for first, cells, more in collapse(z.rows()):
            out.append("%10s |%s|" % (size(first * FRAMES), row_text(cells, colour)))
            if more:
                out.append("%10s  and %d %s like it" % ("", more, "row" if more == 1 else "rows"))
    return out + legend(zones, colour)


# ---- SVG ----

PITCH, ROW, BODY, STRIPE = 12, 23, 17, 3
LEFT, PLOT, LETTER = 90, 232, 7.4
GRID = WIDTH * PITCH


def text(x, y, words, extra=""):
    return '<text x="%g" y="%g"%s>%s</text>' % (x, y, " " + extra if extra else "", escape(words))


def svg_row(cells):
    """A row's cells, its corner at 0,0.  Runs of like blocks that are free are one rectangle of a pattern."""
    out, i = [], 0
    while i < len(cells):
        b = cells[i]
        run = 1
        if b and not b.used:
            while i + run < len(cells) and cells[i + run] and cells[i + run].look() == b.look():
                run += 1
        if b:
            out.append("<g><title>%s</title>" % escape(b.title(run)))
            out.append('<rect x="%d" width="%d" height="%d" fill="url(#t%d)"/>' % (i * PITCH, run * PITCH, ROW, b.type))
            at = STRIPE + BODY
            for field, _, _, fill, _ in KINDS:
                high = BODY * b.counts[field] / FRAMES
                if high and (b.used or field != "cached"):
                    at -= high
                    out.append('<rect x="%d" y="%.2f" width="%d" height="%.2f" fill="%s"/>'
                               % (i * PITCH, at, PITCH - 1, max(high, 0.6), fill))
            if b.counts["absent"]:
                out.append('<rect x="%d" y="%d" width="%d" height="%.2f" fill="#fcfcfc"/>'
                           % (i * PITCH, STRIPE, PITCH - 1, BODY * b.counts["absent"] / FRAMES))
            out.append("</g>")
        i += run
    return out


def svg_plot(z, x, y):
    """Unusable part of the free memory by size of the request."""
    parts, wide, high = z.unusable(), PLOT - 78, 50
    step = wide / max(1, len(parts) - 1)
    points = [(x + o * step, y + high * (1 - v)) for o, v in enumerate(parts)]
    line = "L".join("%.1f %.1f" % p for p in points)
    out = ['<path d="M%g %gv%gh%g" fill="none" stroke="#bbb"/>' % (x, y, high, wide),
           '<path d="M%.1f %.1fL%sV%g" fill="#0072b2" fill-opacity="0.15" stroke="none"/>' % (x, y + high, line, y + high),
           '<path d="M%s" fill="none" stroke="#0072b2" stroke-width="1.8" stroke-linejoin="round"/>' % line]
    for o, (px, py) in enumerate(points):
        out.append('<circle cx="%.1f" cy="%.1f" r="3.5" fill="#0072b2" fill-opacity="0"><title>%s</title></circle>'
                   % (px, py, escape("%.1f %% of the free memory is of no use for %s" % (100 * parts[o], size(1 << o)))))
    small = 'font-size="10" fill="#666"'
    out += [text(x - 5, y + 8, "100%", small + ' text-anchor="end"'), text(x - 5, y + high, "0", small + ' text-anchor="end"'),
            text(x, y + high + 13, "4 KiB", small),
            text(x + wide, y + high + 13, size(1 << (len(parts) - 1)), small + ' text-anchor="end"')]
    return out


def svg_zone(z, y):
    """(elements, height)."""
    out = [text(LEFT, y, z.head(), 'font-size="14" font-weight="600" fill="#111"'),
           text(LEFT + GRID + 34, y, "free, but too small for requests of", 'font-size="11" fill="#666"')]
    out += svg_plot(z, LEFT + GRID + 64, y + 12)
    at = y + 10
    for first, cells, more in collapse(z.rows()):
        out.append(text(LEFT - 8, at + 15, size(first * FRAMES), 'text-anchor="end" font-size="11" fill="#666"'))
        out.append('<g transform="translate(%d %d)">' % (LEFT, at))
        out += svg_row(cells)
        out.append("</g>")
        at += ROW
        if more:
            out.append(text(LEFT, at + 12, "\u22ee and %d %s like it" % (more, "row" if more == 1 else "rows"),
                            'font-size="11" fill="#666"'))
            at += ROW + 3
    return out, max(at - y, 84)


def svg_legend(zones, y):
    """(elements, height)."""
    top, blocks = y, [b for z in zones for b in z.blocks.values()]
    entries = [(fill, name) for field, _, _, fill, name in KINDS if any(b.counts[field] for b in blocks)]
    entries += [("#edf0f2", "free")]
    out, x = [], LEFT
    for fill, name in entries:
        if x + 24 + LETTER * len(name) > LEFT + GRID + PLOT:
            x, y = LEFT, y + 20
        out += ['<rect x="%g" y="%g" width="11" height="11" rx="2" fill="%s"/>' % (x, y - 10, fill), text(x + 16, y, name)]
        x += 34 + LETTER * len(name)
    x, y = LEFT, y + 24
    out.append(text(x, y, "The stripe above a block is its type:", 'fill="#666"'))
    x += 37 * LETTER
    for t, (_, _, fill, name) in enumerate(TYPES):
        if any(b.type == t for b in blocks):
            out += ['<rect x="%g" y="%g" width="14" height="4" fill="%s"/>' % (x, y - 6, fill), text(x + 19, y, name)]
            x += 40 + LETTER * len(name)
    return out, y - top


def svg(zones, title="Physical memory"):
    """The picture as text.  Like other pictures here it carries its own light background."""
    out, y = [], 84
    for z in zones:
        parts, high = svg_zone(z, y)
        out += parts
        y += high + 30
    parts, high = svg_legend(zones, y + 4)
    out += parts
    width, height = LEFT + GRID + PLOT + 24, y + high + 24
    head = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" font-family="system-ui, sans-serif" '
            'font-size="12" fill="#333" role="img">' % (width, height, width),
            "<title>%s</title>" % escape(title), "<defs>"]
    for t, (_, _, stripe, _) in enumerate(TYPES):
        head.append('<pattern id="t%d" width="%d" height="%d" patternUnits="userSpaceOnUse"><rect width="%d" height="%d" '
                    'fill="%s"/><rect y="%d" width="%d" height="%d" fill="#edf0f2"/></pattern>'
                    % (t, PITCH, ROW, PITCH - 1, STRIPE, stripe, STRIPE, PITCH - 1, BODY))
    head += ["</defs>", '<rect width="%d" height="%d" rx="8" fill="#fcfcfc" stroke="#ddd"/>' % (width, height),
             text(LEFT, 34, title, 'font-size="18" font-weight="600" fill="#111"'),
             text(LEFT, 54, "One cell is a pageblock of 2 MiB, filled from below by what holds its 512 frames; "
                            "point at it for numbers.", 'fill="#666"')]
    return "\n".join(head + out + ["</svg>", ""])
