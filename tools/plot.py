#!/usr/bin/python3
"""Charts as SVG, without a library: lines(title, x label, y label, series, ...) and bars(title, subtitle, groups) return the
text of the picture.

The colours are told apart by people who do not see red and green as different, and the picture carries its own light
background, so that it looks the same in a dark browser.
"""
from xml.sax.saxutils import escape

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"]
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 76, 52


def ticks(low, high, most=6):
    """Round numbers from low to high."""
    step = next(s for s in (m * 10 ** e for e in range(-3, 12) for m in (1, 2, 5)) if (high - low) / s <= most)
    return [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]


def lines(title, subtitle, x_label, y_label, series, y_range, mark=None):
    """series: [(name, [(x, y), ...], (x, y) where the name ends)]; mark: (y, text), a dashed line across."""
    xs = [x for _, points, _ in series for x, _ in points]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = y_range

    def px(x):
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y):
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" '
           'font-size="13" fill="#333">' % (WIDTH, HEIGHT),
           '<rect width="%d" height="%d" rx="8" fill="#fcfcfc" stroke="#ddd"/>' % (WIDTH, HEIGHT),
           '<text x="%d" y="30" font-size="17" font-weight="600" fill="#111">%s</text>' % (LEFT, escape(title)),
           '<text x="%d" y="52" fill="#666">%s</text>' % (LEFT, escape(subtitle))]
    for y in ticks(y_low, y_high):
        out.append('<path d="M%d %.1fH%d" stroke="#e4e4e4"/>' % (LEFT, py(y), WIDTH - RIGHT))
        out.append('<text x="%d" y="%.1f" text-anchor="end">%g</text>' % (LEFT - 8, py(y) + 4, y))
    for x in ticks(x_low, x_high, 10):
        out.append('<text x="%.1f" y="%d" text-anchor="middle">%g</text>' % (px(x), HEIGHT - BOTTOM + 20, x))
    out.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%s</text>'
               % ((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, escape(x_label)))
    out.append('<text transform="translate(18 %.1f) rotate(-90)" text-anchor="middle" fill="#666">%s</text>'
               % ((TOP + HEIGHT - BOTTOM) / 2, escape(y_label)))
    if mark:
        out.append('<path d="M%d %.1fH%d" stroke="#888" stroke-dasharray="5 4"/>' % (LEFT, py(mark[0]), WIDTH - RIGHT))
        out.append('<text x="%d" y="%.1f" fill="#666">%s</text>'
                   % (LEFT + 6, py(mark[0]) + 17, escape(mark[1])))
    for (name, points, (x, y)), colour in zip(series, COLOURS):
        path = "L".join("%.1f %.1f" % (px(x), py(y)) for x, y in points)
        out.append('<path d="M%s" fill="none" stroke="%s" stroke-width="2.5" stroke-linejoin="round"/>' % (path, colour))
        out.append('<text x="%.1f" y="%.1f" text-anchor="end" font-weight="600" fill="%s">%s</text>'
                   % (px(x), py(y), colour, escape(name)))
    return "\n".join(out + ["</svg>", ""])


def bars(title, subtitle, groups):
    """groups: [(label, [(name, value), ...])], the same names in each; a group's longest bar has full length, so that ratios
    are seen."""
    names = [name for name, _ in groups[0][1]]
    left, bar, gap = 300, 11, 12
    height = TOP + len(groups) * (bar * len(names) + gap) + 20
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" '
           'font-size="12" fill="#333">' % (WIDTH, height),
           '<rect width="%d" height="%d" rx="8" fill="#fcfcfc" stroke="#ddd"/>' % (WIDTH, height),
           '<text x="24" y="30" font-size="17" font-weight="600" fill="#111">%s</text>' % escape(title),
           '<text x="24" y="52" fill="#666">%s</text>' % escape(subtitle)]
    for i, name in enumerate(names):
        out.append('<rect x="%d" y="58" width="10" height="10" fill="%s"/>' % (left + 90 * i, COLOURS[i]))
        out.append('<text x="%d" y="67">%s</text>' % (left + 14 + 90 * i, escape(name)))
    y = TOP
    for label, values in groups:
        longest = max(v for _, v in values)
        out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (left - 10, y + bar * len(values) / 2 + 4, escape(label)))
        for (_, v), colour in zip(values, COLOURS):
            length = v / longest * (WIDTH - left - RIGHT - 50)
            out.append('<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>' % (left, y, length, bar - 2, colour))
            out.append('<text x="%.1f" y="%.1f" font-size="10">%.3g</text>' % (left + length + 4, y + bar - 3, v))
            y += bar
        y += gap
    return "\n".join(out + ["</svg>", ""])
