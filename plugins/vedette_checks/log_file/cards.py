"""Card numbers: where they are in a text.

Sources: ISO/IEC 7812-1 (8 to 19 digits, the last by Luhn's formula; what the first digits say) and the networks' own
ranges: Visa 4; Mastercard 51-55, 2221-2720; American Express 34, 37; Discover 6011, 644-649, 65; Diners 30, 36, 38, 39;
JCB 3528-3589; UnionPay 62, 81; Maestro 50, 56-69; Mir 2200-2204; RuPay 60, 65, 81, 82, 508; Troy 9792.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate

SEPARATED = r"(?:(?:[ +-]|%20)?[0-9])"
"""A digit, and what may stand before it within a card number."""

_RUN_OF_BYTES = re.compile(rf"[0-9]{SEPARATED}{{12,}}".encode())
_RUN = re.compile(rf"[0-9]{SEPARATED}{{12,}}")
_DIGITS = re.compile(r"[0-9]+")
_ISSUED = re.compile(r"4|5[0-8]|6|3[0-9]|2[2-7]|8[12]|9792")
_SHORTEST, _LONGEST = 13, 19
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def card_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where each card number of a text begins and ends.

    A number after or before other digits is found where a blank or dash parts them: `12 4111 1111 1111 1111 03/29`.
    The fraction of a decimal number is none.
    """
    for run in _RUN.finditer(text):
        start = run.start()
        if not (start > 1 and text[start - 1] == "." and text[start - 2] in "0123456789"):
            yield from ((start + begin, start + end) for begin, end in _within(run[0].replace("%20", "   ")))


def no_card(text: bytes, start: int, end: int) -> int:
    """Whether the digits that begin in a part of a text hold no card number: where they end, else 0."""
    run = _RUN_OF_BYTES.search(text, start, min(len(text), end + 4_000))
    if run is None or any(_within(run[0].decode("ascii").replace("%20", "   "))):
        return 0
    return run.end()


def _within(run: str) -> Iterator[tuple[int, int]]:
    """The card numbers in digits with separators: of those that begin with one group of digits, the longest."""
    if run.isdigit() and (len(run) > _LONGEST or not _ISSUED.match(run)):
        return  # most are ids and times
    groups = [found.span() for found in _DIGITS.finditer(run)]
    digits = "".join(run[begin:end] for begin, end in groups)
    ends = dict(zip(accumulate(end - begin for begin, end in groups), (end for _, end in groups), strict=True))
    check: _Luhn | None = None
    at = taken = 0
    for begin, end in groups:
        if at >= taken and _ISSUED.match(digits, at):
            for until in range(at + _LONGEST, at + _SHORTEST - 1, -1):
                if until in ends and (check := check or _Luhn(digits))(at, until):
                    taken = until
                    yield begin, ends[until]
                    break
        at += end - begin


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
