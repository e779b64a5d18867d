"""Patterns of users, in RE2's linear time, and a search for them in a whole block of lines at once."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import re2

_ANCHORED = re.compile(r"\\[AzZ]|\(\?[a-zA-Z]*-")
"""What may match in a line and not in a block of them."""


def pattern(text: str) -> Any:
    """A pattern as RE2 has it, which takes linear time on any text.

    Raises:
        ValueError: it is not valid, or needs what RE2 leaves out (look-around, back references).
    """
    try:
        return re2.compile(text, _options())
    except re2.error:
        hint = " (RE2 has no look-around and no back references)" if re.search(r"\(\?[=!<]|\\[1-9]", text) else ""
        raise ValueError(f"is no valid pattern{hint}") from None


def octets(text: str) -> Any:
    """One of our own patterns, of ASCII only, for bytes."""
    return re2.compile(text.encode("ascii"), _options())


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


class Several:
    """Patterns of which one search of a text says which are worth a search each.

    Args:
        texts: the patterns.

    Raises:
        ValueError: one of them is not valid.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.patterns = [pattern(text) for text in texts]
        self._set: Any = None
        if self.patterns:
            self._set = re2.Set.SearchSet(_options())
            for one in self.patterns:
                self._set.Add(one.pattern)
            self._set.Compile()

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matching(self, text: str) -> Collection[int]:
        """The numbers of those that match; all where RE2 cannot tell for want of memory, or none does."""
        found = self._set.Match(text) if self.patterns else None
        return sorted(found) if found else range(len(self.patterns))


class Block:
    """Events that were read together, searched as one text: a search costs a call, however short the text is.

    Args:
        events: each without its last newline, in UTF-8; not asked for where they are the lines of a text.
        text: the text.
    """

    def __init__(self, events: Sequence[bytes] = (), text: bytes | None = None) -> None:
        self.text = b"\n".join(events) if text is None else text
        self._events = events if text is None else None
        self._ends: list[int] | None = None

    def __len__(self) -> int:
        return len(self.texts if self._events is None and "events" not in self.__dict__ else self.events)

    @cached_property
    def events(self) -> list[bytes]:
        """Each event."""
        return lines_of(self.text) if self._events is None else list(self._events)

    @cached_property
    def decoded(self) -> str:
        """All of it; what is no UTF-8 is U+FFFD."""
        return self.text.decode("utf-8", "replace")

    @cached_property
    def texts(self) -> list[str]:
        """Each event so."""
        if self._events is not None:
            return [event.decode("utf-8", "replace") for event in self.events]
        found = self.decoded.split("\n")
        if not found[-1]:
            found.pop()
        return found

    def search(self, find: Any, doubt: Callable[[bytes, int, int], int] | None = None) -> list[int]:
        """The numbers of the events in which a pattern for bytes matches somewhere, rising.

        A match that goes on into the next event counts for the one it begins in.

        Args:
            find: the pattern.
            doubt: looks at a match, given the text, where it begins and ends: returns where to go on if it is nothing,
                else 0.
        """
        text, found, at, size = self.text, [], 0, len(self.text)
        while at < size and (match := find.search(text, at)) is not None:
            start, end = match.span()
            if doubt is not None and (on := doubt(text, start, end)):
                at = on
                continue
            number = self._number(start)
            found.append(number)
            assert self._ends is not None  # noqa: S101 - _number has made it
            at = self._ends[number]
        return found

    def _number(self, place: int) -> int:
        if self._ends is None:
            self._ends = list(accumulate(len(event) + 1 for event in self.events))
        return bisect_right(self._ends, place)


def lines_of(text: bytes) -> list[bytes]:
    """Its lines without their ends."""
    found = text.split(b"\n")
    if not found[-1]:
        found.pop()
    return found


class Rules:
    """Patterns of which at least one must match a line.

    Args:
        texts: the patterns.

    Raises:
        ValueError: one of them is not valid.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(texts)
        self._patterns = [pattern(text) for text in self._texts]
        either = "|".join(f"(?:{text})" for text in self._texts)
        plain = bool(self._texts) and either.isascii() and not _ANCHORED.search(either)
        self._octets = octets(f"(?ms:{either})") if plain else None

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matching(self, block: Block) -> Collection[int]:
        """The numbers of the events that one of the patterns matches."""
        candidates: Iterable[int] = range(len(block))
        if self._octets is not None and block.text.isascii():
            candidates = block.search(self._octets)
        events = block.events
        return {number for number in candidates if self.match(events[number].decode("utf-8", "replace"))}

    def match(self, text: str) -> bool:
        """Whether one of the patterns matches this text."""
        return any(one.search(text) for one in self._patterns)
