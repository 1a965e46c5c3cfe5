"""What the memory manager saw: the kernel's report (kernel/core/report.c) made readable.

The kernel writes lines "quire: KIND words..."; numbers follow their names.
"""


def numbers(words):
    """{name: number} of "name number name number ..."."""
    return {a: int(b) for a, b in zip(words, words[1:]) if b.isdigit() and not a.isdigit()}


class Report:
    def __init__(self, lines):
        self.events, self.memory, self.time, self.zones, self.orders, self.other = {}, {}, {}, [], {}, {}
        self.heap, self.sites = {}, []
        for line in lines:
            words = line.split()
            if words[:1] != ["quire:"] or len(words) < 3:
                continue
            kind, rest = words[1], words[2:]
            if kind == "event" and len(rest) == 2:
                self.events[rest[0]] = int(rest[1])
            elif kind == "memory":
                self.memory = numbers(rest)
            elif kind == "time" and len(rest) == 5:  # NAME COUNT in NS ns
                self.time[rest[0]] = (int(rest[1]), int(rest[3]))
            elif kind == "time":
                self.time[rest[0]] = (1, int(rest[1]))
            elif kind == "zone":
                self.zones.append((int(rest[1]), rest[2], numbers(rest[3:])))
            elif kind == "orders":
                self.orders[int(rest[1]), rest[2]] = [int(n) for n in rest[3:]]
            elif kind == "heap":
                self.heap = numbers(rest)
            elif kind == "site":
                self.sites.append((rest[0], numbers(rest[1:])))
            elif kind in ("tlb", "tables", "maps", "cache", "areas"):
                self.other[kind] = numbers(words[1:])

    def peak_pages(self):
        return self.memory.get("start_free", 0) - self.memory.get("lowest_free", 0)

    def text(self):
        """Lines for people."""
        out = ["memory manager's report"]
        m = self.memory
        if m:
            out.append("  memory       %s managed; the programs used %s at most, %s at the end"
                       % (size(m["managed"]), size(self.peak_pages()), size(max(0, m["start_free"] - m["free"]))))
        if "first_program" in self.time:
            out.append("  start        the first program after %.1f ms" % (self.time["first_program"][1] / 1e6))
        faults = {k[6:]: v for k, v in self.events.items() if k.startswith("fault_") and v}
        if "faults" in self.time:
            n, ns = self.time["faults"]
            out.append("  faults       %d in %.1f ms%s" % (n, ns / 1e6, ", %.1f us each" % (ns / n / 1e3) if n else ""))
        for name, count in sorted(faults.items(), key=lambda kv: -kv[1]):
            out.append("    %-18s %8d" % (name.replace("_", " "), count))
        if "calls" in self.time:
            n, ns = self.time["calls"]
            out.append("  memory calls %d in %.1f ms" % (n, ns / 1e6))
        if self.time.get("moves", (0,))[0]:
            n, ns = self.time["moves"]
            moved = self.events.get("pgmigrate_success", 0)
            out.append("  moves        %d in %.1f ms%s" % (n, ns / 1e6, ", %.3f us a page" % (ns / moved / 1e3) if moved else ""))
        for name, count in sorted(self.events.items(), key=lambda kv: -kv[1]):
            if not name.startswith("fault_") and count:
                out.append("    %-18s %8d" % (name.replace("_", " "), count))
        for kind, values in self.other.items():
            out.append("  %-12s %s" % (kind, ", ".join("%d %s" % (v, k) for k, v in values.items())))
        if self.heap:
            h = self.heap
            out.append("  kernel heap  %d objects, %s, from %d places; most of it by%s"
                       % (h["live"], amount(h["bytes"]), h["sites"], ", %d not seen" % h["lost"] if h["lost"] else ""))
            for place, s in self.sites:
                out.append("    %-34s %9s in %6d, at most %s, %d calls"
                           % (place, amount(s["bytes"]), s["count"], amount(s["peak"]), s["calls"]))
        if self.orders:
            out.append("  free blocks by order, from 4 KiB")
            for (node, zone), counts in self.orders.items():
                out.append("    node %d %-8s %s" % (node, zone, " ".join("%5d" % c for c in counts)))
        return out


def amount(n):
    return "%d B" % n if n < 10240 else "%d KiB" % (n // 1024) if n < 10240 << 10 else "%d MiB" % (n >> 20)


def size(pages):
    kib = pages * 4
    return "%d KiB" % kib if kib < 10240 else "%d MiB" % (kib // 1024)
