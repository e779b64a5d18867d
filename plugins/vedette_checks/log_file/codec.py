"""Encodings: where lines end in the bytes of a file, and its lines in UTF-8."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Codec:
    """UTF-8, and what needs no more than that: lines are passed on as they are."""

    newline = b"\n"

    def end(self, data: bytes) -> int:
        """Where the last complete line ends; 0 where none does."""
        return data.rfind(b"\n") + 1

    def first_end(self, data: bytes) -> int:
        """Where the first line ends; 0 where none does."""
        return data.find(b"\n") + 1

    def whole(self, size: int) -> int:
        """The greatest number of bytes up to this one that may hold whole characters."""
        return size

    def lines(self, data: bytes) -> list[bytes]:
        """The lines of complete ones, in UTF-8, without their ends."""
        found = data.split(b"\n")
        if not found[-1]:
            found.pop()
        return found

    def size(self, lines: Sequence[bytes]) -> int:
        """How many bytes these lines take in the file, as `lines` has returned them."""
        return sum(map(len, lines)) + len(lines)


class _Recoded(Codec):
    """An encoding whose lines are read as text and written as UTF-8; one code unit is a byte or two."""

    def __init__(self, encoding: str, unit: int) -> None:
        self._encoding = encoding
        self._unit = unit
        self.newline = "\n".encode(encoding)

    def end(self, data: bytes) -> int:
        at = len(data) - len(data) % self._unit
        while (at := data.rfind(self.newline, 0, at)) >= 0:
            if at % self._unit == 0:
                return at + self._unit
            at += self._unit - 1  # half of it belongs to the next character
        return 0

    def first_end(self, data: bytes) -> int:
        at = -1
        while (at := data.find(self.newline, at + 1)) >= 0:
            if at % self._unit == 0:
                return at + self._unit
        return 0

    def whole(self, size: int) -> int:
        return size - size % self._unit

    def lines(self, data: bytes) -> list[bytes]:
        text = data.decode(self._encoding, "replace")
        return super().lines(text.encode("utf-8", "replace"))

    def size(self, lines: Sequence[bytes]) -> int:
        return sum(len(line.decode().encode(self._encoding)) for line in lines) + self._unit * len(lines)


def codec_of(encoding: str, beginning: bytes) -> tuple[Codec, int]:
    """The codec for a file, and how many bytes of a byte order mark it begins with.

    Args:
        encoding: as configured; `utf-16` goes by the mark, and is little endian without one (as Windows writes it).
        beginning: the first bytes of the file.
    """
    if encoding == "utf-8":
        return Codec(), 3 if beginning.startswith(codecs.BOM_UTF8) else 0
    if encoding == "latin-1":
        return _Recoded("latin-1", 1), 0
    big = beginning.startswith(codecs.BOM_UTF16_BE) if encoding == "utf-16" else encoding.endswith("be")
    mark = codecs.BOM_UTF16_BE if big else codecs.BOM_UTF16_LE
    return _Recoded("utf-16-be" if big else "utf-16-le", 2), 2 if beginning.startswith(mark) else 0
