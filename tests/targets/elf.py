"""Reading what a shared library asks of the machine it is loaded on (System V ABI, chapters 4 and 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PT_LOAD, PT_GNU_STACK = 1, 0x6474E551
SHT_PROGBITS, SHT_DYNAMIC, SHT_DYNSYM, SHT_VERNEED = 1, 6, 11, 0x6FFFFFFE
DT_NEEDED, DT_SONAME, DT_RPATH, DT_TEXTREL, DT_RUNPATH = 1, 14, 15, 22, 29
WRITE, EXECUTE = 2, 1
SHF_WRITE, SHF_EXECUTE = 1, 4
MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}


@dataclass(frozen=True)
class Section:
    """`link` is the number of the section with its strings."""

    kind: int
    flags: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Segment:
    """`size` is that in memory."""

    kind: int
    flags: int
    size: int


class Elf:
    """A little-endian ELF file of 32 or 64 bits."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        assert self.data[:4] == b"\x7fELF" and self.data[5] == 1
        self.wide = self.data[4] == 2
        layout = "<HHIQQQIHHHHHH" if self.wide else "<HHIIIIIHHHHHH"
        fields = struct.unpack_from(layout, self.data, 16)
        self.machine = MACHINES[fields[1]]
        self.program_headers, self.section_headers = fields[4], fields[5]
        self.segment_count, self.section_count = fields[9], fields[11]

    @cached_property
    def sections(self) -> list[Section]:
        layout = struct.Struct("<IIQQQQIIQQ" if self.wide else "<IIIIIIIIII")
        rows = (
            layout.unpack_from(self.data, self.section_headers + n * layout.size)
            for n in range(self.section_count)
        )
        return [Section(row[1], row[2], row[4], row[5], row[6]) for row in rows]

    @cached_property
    def segments(self) -> list[Segment]:
        layout = struct.Struct("<IIQQQQQQ" if self.wide else "<IIIIIIII")
        rows = (
            layout.unpack_from(self.data, self.program_headers + n * layout.size)
            for n in range(self.segment_count)
        )
        if self.wide:
            return [Segment(row[0], row[1], row[6]) for row in rows]
        return [Segment(row[0], row[6], row[5]) for row in rows]

    @cached_property
    def dynamic(self) -> list[tuple[int, int]]:
        """(tag, value) of every entry."""
        section = self._section(SHT_DYNAMIC)
        layout = struct.Struct("<qQ" if self.wide else "<iI")
        return list(layout.iter_unpack(self._bytes(section)))

    def texts(self, tag: int) -> list[str]:
        """The strings of all dynamic entries with this tag."""
        strings = self._section(SHT_DYNAMIC).link
        return [self._text(strings, value) for kind, value in self.dynamic if kind == tag]

    def has(self, tag: int) -> bool:
        return any(kind == tag for kind, _ in self.dynamic)

    @cached_property
    def exports(self) -> set[str]:
        return {name for name, defined in self._symbols if defined}

    @cached_property
    def imports(self) -> set[str]:
        return {name for name, defined in self._symbols if not defined}

    @cached_property
    def glibc(self) -> tuple[int, ...]:
        """The newest version of glibc's symbols that it asks for."""
        section = self._section(SHT_VERNEED)
        found, entry = [(0,)], section.offset
        while True:
            _, count, _, first, following = struct.unpack_from("<HHIII", self.data, entry)
            place = entry + first
            for _ in range(count):
                _, _, _, name, step = struct.unpack_from("<IHHII", self.data, place)
                family, _, version = self._text(section.link, name).partition("_")
                assert family == "GLIBC"
                found.append(tuple(map(int, version.split("."))))
                place += step
            if not following:
                return max(found)
            entry += following

    @cached_property
    def _symbols(self) -> list[tuple[str, bool]]:
        """(name, whether it is defined here) of every dynamic symbol."""
        section = self._section(SHT_DYNSYM)
        layout = struct.Struct("<IBBHQQ" if self.wide else "<IIIBBH")
        rows = list(layout.iter_unpack(self._bytes(section)))[1:]
        return [(self._text(section.link, row[0]), row[3 if self.wide else 5] != 0) for row in rows]

    def _section(self, kind: int) -> Section:
        (section,) = (s for s in self.sections if s.kind == kind)
        return section

    def _bytes(self, section: Section) -> bytes:
        return self.data[section.offset : section.offset + section.size]

    def _text(self, strings: int, offset: int) -> str:
        start = self.sections[strings].offset + offset
        return self.data[start : self.data.index(b"\0", start)].decode()
