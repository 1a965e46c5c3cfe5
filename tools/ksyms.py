#!/usr/bin/python3
"""Write the kernel's tables for backtraces as C: ksyms.py OUT.c [KERNEL.elf]

Names of functions, and rules by which to walk the stack from each instruction, made of the image's call frame
information (.debug_frame; DWARF 4, 6.4).  Without a kernel the tables are empty (first link).
kernel/include/ksyms.h declares what is written.
"""
import struct
import subprocess
import sys

RSP, RBP, RETURN = 7, 6, 16
RULE_BITS, PAGE = 20, 4096
UNKNOWN = (0, 0)


def functions(elf):
    out = subprocess.run(["nm", "-n", "--defined-only", elf], check=True, capture_output=True, text=True).stdout
    rows = []
    for line in out.splitlines():
        addr, kind, name = line.split(maxsplit=2)
        if kind in "tT":
            rows.append((int(addr, 16), name))
    return rows


def section(elf, wanted):
    """Content of a section of a 64-bit little-endian ELF file; b"" if there is none."""
    with open(elf, "rb") as f:
        data = f.read()
    table, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    heads = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    for name, _, _, _, offset, length in heads:
        at = heads[names][4] + name
        if data[at:data.index(b"\0", at)].decode() == wanted:
            return data[offset:offset + length]
    return b""


class Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, form):
        value, = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def uleb(self):
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def sleb(self):
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value

    def block(self):
        n = self.uleb()
        self.at += n


class State:
    """Of one instruction: the base of the frame, and where the caller's %rbp is; None: not where we could find it."""

    def __init__(self, base=RSP, offset=0, bp=0):
        self.base, self.offset, self.bp = base, offset, bp

    def copy(self):
        return State(self.base, self.offset, self.bp)

    def rule(self):
        if self.base not in (RSP, RBP) or self.bp is None or self.offset % 8 or self.bp % 8 or not 0 < self.offset < 0xfff8:
            return UNKNOWN
        if self.bp and (not 16 <= self.bp < 0xfff8 or (self.base == RSP and self.bp > self.offset)):
            return UNKNOWN  # outside the frame
        return (self.offset + (self.base == RBP), self.bp)


def run(code, state, initial, align, at):
    """Execute call frame instructions; yields (address, rule) for each change of address."""
    r, saved = Reader(code), []
    code_align, data_align = align

    def offset(register, value):
        if register == RBP:
            state.bp = -value
    while r.at < len(code):
        op = r.take("B")
        high, low = op & 0xc0, op & 0x3f
        step = None
        if high == 0x40:
            step = low
        elif high == 0x80:
            offset(low, r.uleb() * data_align)
        elif high == 0xc0:
            if low == RBP:
                state.bp = initial.bp
        elif op in (2, 3, 4):
            step = r.take({2: "B", 3: "H", 4: "I"}[op])
        elif op == 5:
            offset(r.uleb(), r.uleb() * data_align)
        elif op in (6, 7, 8):  # restore_extended, undefined, same_value
            if r.uleb() == RBP:
                state.bp = {6: initial.bp, 7: None, 8: 0}[op]
        elif op == 9:  # register
            if r.uleb() == RBP:
                state.bp = None
            r.uleb()
        elif op == 10:
            saved.append(state.copy())
        elif op == 11:
            state = saved.pop()
        elif op == 12:
            state.base, state.offset = r.uleb(), r.uleb()
        elif op == 13:
            state.base = r.uleb()
        elif op == 14:
            state.offset = r.uleb()
        elif op == 15:  # def_cfa_expression
            state.base = None
            r.block()
        elif op in (16, 22):  # expression, val_expression
            if r.uleb() == RBP:
                state.bp = None
            r.block()
        elif op == 17:
            offset(r.uleb(), r.sleb() * data_align)
        elif op == 18:
            state.base, state.offset = r.uleb(), r.sleb() * data_align
        elif op == 19:
            state.offset = r.sleb() * data_align
        elif op == 46:  # GNU_args_size
            r.uleb()
        elif op:
            sys.exit("ksyms.py: call frame instruction %#x is not known" % op)
        if step:
            yield at, state.rule()
            at += step * code_align
    yield at, state.rule()
    run.last = state


def read_cie(data, at, end):
    r = Reader(data, at)
    version = r.take("B")
    if r.take("B") or version not in (1, 3, 4):
        sys.exit("ksyms.py: a common information entry of version %d is not known" % version)
    if version == 4:
        r.take("H")  # sizes of an address, of a segment
    align = (r.uleb(), r.sleb())
    returns = r.take("B") if version == 1 else r.uleb()
    state = State()
    for _ in run(data[r.at:end], state, State(), align, 0):
        pass
    return align, run.last if returns == RETURN else State(None)


def unwind_rows(data):
    """(address, rule), by address, neighbours differ; between functions UNKNOWN."""
    cies, functions_of = {}, []
    r = Reader(data)
    while r.at + 8 <= len(data):
        start = r.at
        length = r.take("I")
        end = r.at + length
        cie = r.take("I")
        if cie == 0xffffffff:
            cies[start] = read_cie(data, r.at, end)
        else:
            functions_of.append((r.take("Q"), r.take("Q"), cie, r.at, end))
        r.at = end
    rows, behind = [], 0
    for address, size, cie, at, end in sorted(functions_of):
        if address < 1 << 63 or not size:
            continue  # of a function that was not linked
        align, initial = cies[cie]
        if behind and address - behind >= 16:  # more than padding
            rows.append((behind, UNKNOWN))
        rows += run(data[at:end], initial.copy(), initial, align, address)
        behind = address + size
    rows.append((behind, UNKNOWN))
    return [row for i, row in enumerate(rows) if not i or row[1] != rows[i - 1][1]]


def encode(rows, start):
    rules = {UNKNOWN: 0}
    pages, encoded = [], []
    for address, rule in rows:
        page = (address - start) // PAGE
        while len(pages) <= page:
            pages.append(len(encoded))
        number = rules.setdefault(rule, len(rules))
        encoded.append((address - start) % PAGE << RULE_BITS | number)
    pages.append(len(encoded))
    return list(rules), pages, encoded


def write_array(out, kind, name, values):
    out.write("const %s %s[] = {\n" % (kind, name))
    for i in range(0, len(values), 12):
        out.write("    %s,\n" % ", ".join(values[i:i + 12]))
    out.write("};\n")


def main():
    names, rules, pages, encoded = [], [UNKNOWN], [0], [0]
    if len(sys.argv) > 2:
        names = functions(sys.argv[2])
        start = dict((name, addr) for addr, name in names)["kernel_text_start"]
        rules, pages, encoded = encode(unwind_rows(section(sys.argv[2], ".debug_frame")), start)
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write("/* Made by tools/ksyms.py. */\n#include <ksyms.h>\n\n")
        out.write("const unsigned ksyms_count = %d;\n" % len(names))
        out.write("const struct ksym ksyms[] = {\n")
        for addr, name in names:
            out.write('    {0x%xul, "%s"},\n' % (addr, name))
        out.write('    {~0ul, ""},\n};\n')
        write_array(out, "struct unwind_rule", "unwind_rules", ["{%d, %d}" % r for r in rules])
        out.write("const unsigned unwind_npages = %d;\n" % (len(pages) - 1))
        write_array(out, "unsigned", "unwind_pages", [str(p) for p in pages])
        write_array(out, "unsigned", "unwind_rows", ["%#x" % e for e in encoded])


main()
