"""Floor 0: card numbers: where they are in a text.

Sources: ISO/IEC 7812-1 (8 to 19 digits, the last by Luhn's formula; what the first digits say) and the networks' own
ranges: Visa 4; Mastercard 51-55, 2221-2720; American Express 34, 37; Discover 6011, 644-649, 65; Diners 30, 36, 38, 39;
JCB 3528-3589; UnionPay 62, 81; Maestro 50, 56-69; Mir 2200-2204; RuPay 60, 65, 81, 82, 508; Troy 9792.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SEPARATED = r"(?:(?:[ +-]|%2[0Dd])?[0-9])"
"""A digit, and what may stand before it within a card number."""

_ODD = r"(?:[._\t/ +-]|\\t| {2,3}| - |--|&nbsp;|[ -]?\r?\n {0,4}|SPACE)"
_FOURS = rf"(?:[0-9]{{4}}{_ODD}){{2}}[0-9]{{4}}(?:{_ODD}[0-9]{{1,3}})?"
_SIX = rf"[0-9]{{6}}{_ODD}[0-9]{{4,5}}"
_GROUPS = rf"[2-689][0-9]{{3}}{_ODD}(?:{_FOURS}|{_SIX})"
_SPACES = "\u00a0\u00ad\u202f\u2060\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200C)))
"""Blanks of any width; none too, such as a soft hyphen."""
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
_OTHERS = "".join(chr(zero + digit) for zero in (0xFF10, 0x0660, 0x06F0) for digit in range(10))
"""Digits: full-width, Arabic-Indic, those of Persian and Urdu."""
_PLAIN = str.maketrans(_SPACES + _DASHES + _OTHERS, " " * len(_SPACES) + "-" * len(_DASHES) + "0123456789" * 3)
_ANY_SPACE = r"[\x{a0}\x{ad}\x{2000}-\x{200b}\x{2010}-\x{2014}\x{202f}\x{2060}\x{2212}\x{3000}\x{feff}]"

UNUSUAL = "|".join(
    (
        r"(?:^|[^0-9.])" + _GROUPS.replace("SPACE", _ANY_SPACE),
        r"[\x{ff10}-\x{ff19}\x{660}-\x{669}\x{6f0}-\x{6f9}]{4}",
        r"(?:^|[^0-9])(?:0+|1[3-9])[2-689][0-9]{12,18}(?:[^0-9]|$)",
        r"[2-689]\.[0-9]{8,}[eE]\+?1[2-8]",
    )
)
"""What card numbers look like that are written in no usual way, for RE2."""

_FIRST = r"[2-689](?<![0-9.][2-689])"  # a pattern that begins with a digit is found many times as fast
_UNUSUAL_GROUPS = re.compile(rf"{_FIRST}{_GROUPS.replace('|SPACE', '').removeprefix('[2-689]')}(?![0-9])")
_FLOAT = re.compile(rf"{_FIRST}\.[0-9]{{8,18}}[eE]\+?1[2-8](?![0-9.])")
_RUN_OF_BYTES = re.compile(rf"[0-9]{SEPARATED}{{12,}}".encode())
_RUN = re.compile(rf"[0-9]{SEPARATED}{{12,}}")
_DIGITS = re.compile(r"[0-9]+")
_ESCAPED = re.compile(r"%2[0Dd]")
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", re.ASCII
)
_ISSUED = re.compile(r"4|5[0-8]|6|3[0-9]|2[2-7]|8[12]|9792")
_SHORTEST, _LONGEST = 13, 19
_LENGTHS = (13, 14, 15, 16, 19)
_GROUPINGS = frozenset(
    {(4, 6, 5), (4, 6, 4), *((4, 4, 4, last) for last in (1, 2, 3, 4)), *((4, 4, 4, 4, last) for last in (1, 2, 3))}
)
"""How many digits stand together where a card's number is written in groups; a row of other numbers has other ones."""
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_FEWEST = 11  # digits of `4.11111111e15`
_BETWEEN = b" +-%._/\t\r\neE"
"""What may stand between the digits of a card number, and before an exponent."""
_KINDS = bytes(ord("0") if octet in b"0123456789" else ord("x") for octet in range(256))
_ENOUGH = b"0" * _FEWEST

_IDS = frozenset({"dd.trace_id", "dd.span_id", "trace_id", "span_id"})
_SHORTEST_ID = 17
"""Digits of a 64-bit id, mostly; Luhn's check would take one of some twenty for a card's and tear its trace apart."""

_ALONE = re.compile(
    r"(?<![\w+-])(?<![0-9]\.)"
    r"(?:[2-689][0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}|3[0-9]{3}([ -]?)[0-9]{6}\2[0-9]{4,5})"
    r"(?![\w+-])(?!\.[0-9])"
)
_NETWORKS = re.compile(
    r"(?=[0-9]{16}$)(?:4|5[0-8]|2(?:20[0-4]|22[1-9]|2[3-9]|[3-6]|7[01]|720)|35(?:2[89]|[3-8])|6[0257]|6304|64[4-9]|8[12]|"
    r"9792)[0-9]*|3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11}"
)


def card_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where each card number of a text begins and ends.

    A number after or before other digits is found where a blank or dash parts them: `12 4111 1111 1111 1111 03/29`.
    The fraction of a decimal number is none.
    """
    if not text.isascii():
        text = text.translate(_PLAIN)
    found = sorted({*_usual(text), *_unusual(text)})
    if found:
        accounts = list(_accounts(text))
        found = [one for one in found if not any(begin <= one[0] and one[1] <= end for begin, end in accounts)]
    end = 0
    for span in found:
        if span[0] >= end:
            yield span
            end = span[1]


def may_hold_one(text: str) -> bool:
    """Whether a closer look is worth its while: of most texts it is not, and this costs a microsecond or two."""
    if len(text) < _FEWEST:
        return False
    if not text.isascii():
        text = text.translate(_PLAIN)
    text = text.replace("&nbsp;", " ").replace("\\t", " ")
    if "%2" in text:
        text = text.replace("%2D", "-").replace("%2d", "-")
    return _ENOUGH in text.encode("ascii", "replace").translate(_KINDS, _BETWEEN)


def card_numbers_of_tag(tag: str) -> Iterator[tuple[int, int]]:
    """Where in a tag each card number is that stands alone, in 14 to 16 digits of a network's own range.

    Ids are in tags, and what is replaced there makes one series of two: so a part of a name, a UUID, 13 digits (as of a
    time) and 17 to 19 (as of a 64-bit id) stay.
    """
    for found in _ALONE.finditer(tag):
        digits = digits_of(found[0])
        if _NETWORKS.fullmatch(digits) and _Luhn(digits)(0, len(digits)):
            yield found.span()


def digits_of(text: str) -> str:
    """Its ASCII digits, however they are parted or wide."""
    return "".join(_DIGITS.findall(text.translate(_PLAIN)))


def is_trace_id(key: str, value: str) -> bool:
    """Whether an attribute of a log line is the 64-bit id of a trace, whatever Luhn's check says of it."""
    return key in _IDS and len(value) >= _SHORTEST_ID and value.isascii() and value.isdigit()


def _unusual(text: str) -> Iterator[tuple[int, int]]:
    """Groups with dots, tabs, slashes, two blanks or dashes, or a line's end between, and numbers with an exponent."""
    for found in _UNUSUAL_GROUPS.finditer(text):
        digits = "".join(_DIGITS.findall(found[0]))
        if any(_within(digits)):
            yield found.span()
    for found in _FLOAT.finditer(text):
        if any(_within(str(int(float(found[0]))))):
            yield found.span()


def _usual(text: str) -> Iterator[tuple[int, int]]:
    for run in _RUN.finditer(text):
        start = run.start()
        if not (start > 1 and text[start - 1] == "." and text[start - 2] in "0123456789"):
            yield from ((start + begin, start + end) for begin, end in _within(_parted(run[0])))


def no_card(text: bytes, start: int, end: int) -> int:
    """Whether the digits that begin in a part of a text hold no card number: where they end, else 0."""
    run = _RUN_OF_BYTES.search(text, start, min(len(text), end + 4_000))
    if run is None or any(_within(_parted(run[0].decode("ascii")))):
        return 0
    return run.end()


def _within(run: str) -> Iterator[tuple[int, int]]:
    """The card numbers in digits with separators: of those that begin with one group of digits, the longest."""
    if run.isdigit() and not _padding(run) and (len(run) > _LONGEST or not _ISSUED.match(run)):
        return  # most are ids and times
    groups = [found.span() for found in _DIGITS.finditer(run)]
    digits = "".join(run[begin:end] for begin, end in groups)
    sizes = tuple(end - begin for begin, end in groups)
    ends = {size: number for number, size in enumerate(accumulate(sizes), 1)}
    check: _Luhn | None = None
    at = taken = 0
    for number, (begin, end) in enumerate(groups):
        padding = _padding(run[begin:end]) if end - begin > _SHORTEST else 0
        if padding and _is_whole(run[begin + padding : end]):
            taken = at + end - begin
            yield begin + padding, end
        elif at >= taken and _ISSUED.match(digits, at):
            for until in range(at + _LONGEST, at + _SHORTEST - 1, -1):
                last = ends.get(until, 0)
                whole = number == 0 and last == len(groups)
                if not last or not _is_grouped(sizes[number:last], whole=whole):
                    continue
                if (check := check or _Luhn(digits))(at, until):
                    taken = until
                    yield begin, groups[last - 1][1]
                    break
        at += end - begin


def _parted(run: str) -> str:
    return _ESCAPED.sub("   ", run) if "%" in run else run


def _is_grouped(sizes: tuple[int, ...], *, whole: bool) -> bool:
    """Whether groups of so many digits may be a card's number: in one piece, as cards have it, or in ones or twos.

    Args:
        sizes: of the groups.
        whole: whether there are no others beside them: of a row of digits some part nearly always passes.
    """
    return len(sizes) == 1 or sizes in _GROUPINGS or (whole and sizes[0] <= 2 and len({*sizes}) == 1)


def _accounts(text: str) -> Iterator[tuple[int, int]]:
    """Where international bank account numbers are (ISO 13616: the remainder of a division by 97 is 1)."""
    for found in _IBAN.finditer(text):
        sign = found[0].replace(" ", "")
        if int("".join(str(int(letter, 36)) for letter in sign[4:] + sign[:4])) % 97 == 1:
            yield found.span()


def _padding(run: str) -> int:
    """How many digits before a card number are none of it: zeros, or its length as ISO 8583 has it (LLVAR)."""
    if run[0] == "0":
        return len(run) - len(run.lstrip("0"))
    return 2 if len(run) > _SHORTEST and int(run[:2]) == len(run) - 2 and len(run) - 2 in _LENGTHS else 0


def _is_whole(digits: str) -> bool:
    plausible = _SHORTEST <= len(digits) <= _LONGEST and _ISSUED.match(digits) is not None
    return plausible and _Luhn(digits)(0, len(digits))


class _Luhn:
    """Luhn's check of parts of a string of digits: every second digit from the right doubled (ISO/IEC 7812-1, annex B).

    Each costs the same, however long the string is: a table of small numbers has many parts.
    """

    def __init__(self, digits: str) -> None:
        values = [int(digit) for digit in digits]
        doubled = [_DOUBLED[value] for value in values]
        even, odd = values.copy(), doubled.copy()
        even[1::2], odd[1::2] = doubled[1::2], values[1::2]
        self._sums = [0, *accumulate(even)], [0, *accumulate(odd)]

    def __call__(self, begin: int, end: int) -> bool:
        """Whether the digits from `begin` to before `end` pass."""
        sums = self._sums[(end - 1) % 2]
        return (sums[end] - sums[begin]) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether all of these digits are a card number: as many, beginning as one's, with a valid check digit."""
    return digits.isascii() and digits.isdigit() and list(card_numbers(digits)) == [(0, len(digits))]
