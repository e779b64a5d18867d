"""Floor 0: known secrets, found in a text however others write them: encoded for a URL, a form, JSON, HTML, base64."""

from __future__ import annotations

import re
from base64 import b64encode
from html import unescape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST = 3
_SHORTEST_ENCODED = 8  # of a shorter one too little is the same wherever it stands within what is encoded
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")  # what nobody encodes
_ESCAPE = re.compile(
    r"(?P<octets>(?:%[0-9A-Fa-f]{2})+|(?:\\+x[0-9A-Fa-f]{2})+)"
    r"|(?P<unit>\\+u[dD][89abAB][0-9A-Fa-f]{2}\\+u[dD][c-fC-F][0-9A-Fa-f]{2}|\\+u[0-9A-Fa-f]{4})"
    r"|(?P<entity>&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});)"
    r"|(?P<blank>(?:\s|\+|\\+[nrt])+)"
    r"|\\+"
)
_OCTET = re.compile(r"(?:%|\\+x)([0-9A-Fa-f]{2})")
_HEX4 = re.compile(r"u([0-9A-Fa-f]{4})")
_NESTED = 5  # escapes within escapes that are looked into


class Spellings:
    """Secrets, ready to be looked for.

    Those of letters and digits are written in one way only. For the others a text is read as whoever wrote it meant it,
    which is only done where a part of one of them is in it.

    Args:
        values: the secrets.
    """

    def __init__(self, values: frozenset[str]) -> None:
        self.values = values
        self._parts: dict[str, str] = {}
        """By how it is read, a part of each secret that is in every text that holds it."""
        self._encoded = [word for value in values for word in _in_base64(value)]
        self._plain = [value for value in values if _PLAIN.fullmatch(value) or not self._add(value)]

    def _add(self, value: str) -> bool:
        """Take over a secret with special characters, unless too little is left of it when it is read."""
        forms = {value, value.encode(errors="replace").decode("latin-1")}  # the other is UTF-8 taken for Latin-1
        read = {form: _read(form)[0].strip() for form in forms}
        if any(len(meant) < _SHORTEST for meant in read.values()):
            return False
        self._parts.update({meant: max(_PLAIN.findall(form), key=len, default="") for form, meant in read.items()})
        return True

    def find(self, text: str) -> list[tuple[int, int]]:
        """Where they are in a text: where each begins and ends, in no order."""
        gaps: list[tuple[int, int]] = []
        for value in self._plain:  # one by one, as a pattern of several takes fifty times as long
            if value in text:
                gaps += [found.span() for found in re.finditer(re.escape(value), text)]
        wanted = [meant for meant, part in self._parts.items() if part in text]
        if wanted:
            read, starts, ends = _read(text)
            for meant in wanted:
                at = read.find(meant)
                while at >= 0:
                    gaps.append((starts[at], ends[at + len(meant) - 1]))
                    at = read.find(meant, at + 1)
        return gaps

    def find_encoded(self, text: str) -> list[tuple[int, int]]:
        """Where base64 is that holds one of them, such as a Basic header with a name before it: all of that word."""
        return [
            found.span()
            for word in self._encoded
            if word in text
            for found in _BASE64.finditer(text)
            if word in found[0]
        ]


def _in_base64(value: str) -> Iterator[str]:
    """What of it is the same in base64 whatever stands before and after, for each place that it may begin at."""
    octets = value.encode(errors="replace")
    if len(octets) < _SHORTEST_ENCODED:
        return
    for before in range(3):
        whole = (before + len(octets)) // 3 * 4
        word = b64encode(b"\0" * before + octets).decode()[(0, 2, 3)[before] : whole]
        yield from {word, word.replace("+", "-").replace("/", "_")}


def _read(text: str) -> tuple[str, list[int], list[int]]:
    """A text without the escapes of URLs, forms, JSON, HTML and `repr`, be they partial or nested.

    Returns:
        It, and for each of its characters where that begins and ends in the original. A run of blanks is one, a plus is
        a blank, backslashes are nothing.
    """
    starts, ends = list(range(len(text))), list(range(1, len(text) + 1))
    for _ in range(_NESTED):
        letters: list[str] = []
        firsts: list[int] = []
        lasts: list[int] = []
        at = 0
        for found in _ESCAPE.finditer(text):
            letters.append(text[at : found.start()])
            firsts += starts[at : found.start()]
            lasts += ends[at : found.start()]
            at = found.end()
            for letter, first, last in _meant(found):
                letters.append(letter)
                firsts.append(starts[first])
                lasts.append(ends[last - 1])
        read = "".join([*letters, text[at:]])
        starts, ends = firsts + starts[at:], lasts + ends[at:]
        if read == text:
            break
        text = read
    return text, starts, ends


def _meant(found: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    """The characters that an escape stands for, each with where its part of the escape begins and ends."""
    start, end = found.span()
    if found["blank"]:
        yield " ", start, end
    elif found["entity"]:
        yield from ((letter, start, end) for letter in unescape(found[0]))
    elif found["unit"]:
        units = bytes.fromhex("".join(_HEX4.findall(found[0])))
        yield from ((letter, start, end) for letter in units.decode("utf-16-be", "replace"))
    elif found["octets"]:
        yield from _octets(found[0], start)


def _octets(escaped: str, start: int) -> Iterator[tuple[str, int, int]]:
    """UTF-8, and Latin-1 where it is none."""
    found = list(_OCTET.finditer(escaped))
    octets = bytes(int(one[1], 16) for one in found)
    at = 0
    while at < len(octets):
        for size in (1, 2, 3, 4):
            try:
                letter = octets[at : at + size].decode()
            except UnicodeDecodeError:
                continue
            break
        else:
            letter, size = chr(octets[at]), 1
        size = min(size, len(octets) - at)
        yield letter, start + found[at].start(), start + found[at + size - 1].end()
        at += size
