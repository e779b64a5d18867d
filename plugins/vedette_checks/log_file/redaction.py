"""Replaces what must not leave: card numbers, credentials, and what the user's rules say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

from vedette.kit import cards
from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.patterns import Block, Rules, Several, octets, pattern
from vedette_checks.log_file.rules import CALLED, CREDENTIALS, KEY_BEGINS, KEY_ENDS, NAMED, SUSPECT

MASK = "****"
_CARDS = rf"(?:^|[^0-9])[2-689]{cards.SEPARATED}{{12}}|{cards.UNUSUAL}"
_ESCAPED = r"\\u(?:00|20[012]|2212|[fF][fF]1)"
_ESCAPE = "\\u00"
_ESCAPES = re.compile(r"\\u00([2-7][0-9a-fA-F])")
_ODD = re.compile(rb"[^0-9 +%-].*[^0-9 +%-]|[0-9][^0-9 +%-]|[ -]{2}", re.DOTALL)
_NAMES = ("key", "name")
"""Fields that say what the field `value` beside them is."""
_LEAST_CARD = 10**12
_SHORTEST = 13
_MOST_NAMES = 10_000
_LONGEST_KEY = 200  # lines


class Redactor:
    """All rules of an instance.

    Args:
        config: its options.
        known: blots out the secrets of the configuration.
    """

    def __init__(self, config: LogFileConfig, known: Callable[[str], str] = str) -> None:
        self.counts: Counter[str] = Counter()
        """Places that were replaced, by rule, since that was last told."""
        self.known = known
        self._cards = config.card_numbers
        self._credentials = Several(CREDENTIALS if config.credentials else ())
        self._suspect = pattern(f"(?m){SUSPECT}")
        self._names: dict[str, bool] = {}
        self._card_like = pattern(f"(?m){_CARDS}")
        self._called = pattern(CALLED) if config.credentials else None
        self._own = [(one.name, pattern(one.pattern or NAMED[one.name]), one.replace) for one in config.redact]
        self._rules = Rules(one.pattern or NAMED[one.name] for one in config.redact)
        parts = [_ESCAPED, *([_CARDS] if self._cards else ()), *([SUSPECT] if config.credentials else ())]
        self._octets = octets(f"(?m){'|'.join(parts)}")

    def suspects(self, block: Block) -> Collection[int]:
        """The numbers of the events that need a closer look; of most blocks there are none."""
        found = set(block.search(self._octets, _doubt))
        if self._rules:
            found.update(self._rules.matching(block))
            if b"\\" in block.text:  # escapes of JSON hide what a pattern looks for
                found.update(number for number, event in enumerate(block.events) if b"\\" in event)
        if self.known(block.decoded) != block.decoded:
            found.update(range(len(block)))
        return found

    def text(self, text: str) -> str:
        """A text without what must not leave, also where it hides behind the escapes of JSON."""
        if _ESCAPE in text:
            before = self.counts.copy()
            plain = _ESCAPES.sub(lambda match: chr(int(match[1], 16)), text)
            if (clean := self._text(plain)) != plain:
                return clean
            self.counts = before
        return self._text(text)

    def _text(self, text: str) -> str:
        text = self.name(self.known(text))
        for name, find, replace in self._own:
            text, times = find.subn(replace, text)
            self.counts[name] += times
        return text

    def name(self, text: str) -> str:
        """The name of a file without card numbers and credentials."""
        if self._credentials and self._suspect.search(text):
            text = self._without_credentials(text)
        return self._without_cards(text) if self._cards else text

    def _without_credentials(self, text: str) -> str:
        done: set[int] = set()
        while new := [number for number in self._credentials.matching(text) if number not in done]:
            for number in new:  # what one has replaced another may find no more, or only now
                text, times = self._credentials.patterns[number].subn(_without, text)
                self.counts["credentials"] += times
            done.update(new)
        return text

    def _without_cards(self, text: str) -> str:
        gaps = list(cards.card_numbers(text)) if self._card_like.search(text) is not None else ()
        if not gaps:
            return text
        self.counts["card_numbers"] += len(gaps)
        pieces, at = [], 0
        for begin, end in gaps:
            pieces += [text[at:begin], MASK]
            at = end
        return "".join([*pieces, text[at:]])

    def fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """An object of JSON without it, the names of fields too."""
        together = "\n".join(_texts(fields))
        look = (
            self.text if self._own or self.known(together) != together or self._suspicious(together) else self._cards_in
        )
        return self._object(fields, look)

    def _suspicious(self, text: str) -> bool:
        return bool(self._credentials) and self._suspect.search(text) is not None

    def _cards_in(self, text: str) -> str:
        return self._without_cards(text) if self._cards and len(text) >= _SHORTEST else text

    def _object(self, fields: dict[str, Any], look: Callable[[str], str]) -> dict[str, Any]:
        if self._called is not None and "value" in fields:
            names = (fields[name] for name in _NAMES if isinstance(fields.get(name), str))
            if any(map(self._is_called, names)):
                fields = {name: MASK if name == "value" else value for name, value in fields.items()}
                self.counts["credentials"] += 1
        return {look(name): self._field(name, value, look) for name, value in fields.items()}

    def _field(self, name: str, value: Any, look: Callable[[str], str]) -> Any:
        if self._called is not None and value not in (None, "", True, False) and self._is_called(name):
            self.counts["credentials"] += 1
            return MASK
        return self._value(value, name, look)

    def _is_called(self, name: str) -> bool:
        """Whether a field of this name holds a credential; names repeat in every line."""
        known = self._names.get(name)
        if known is None:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            known = self._names[name] = self._called is not None and self._called.search(name) is not None
        return known

    def _value(self, value: Any, key: str, look: Callable[[str], str]) -> Any:
        if isinstance(value, str):
            return value if cards.is_trace_id(key, value) else look(value)
        if isinstance(value, dict):
            return self._object(value, look)
        if isinstance(value, list):
            return [self._value(inner, key, look) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value, key)
        return value

    def _number(self, value: float, key: str) -> Any:
        if not self._cards or not _LEAST_CARD <= abs(value) < _LEAST_CARD * 10**7 or value != int(value):
            plain = self.text(str(value)) if self._own else ""
            return value if not self._own or plain == str(value) else plain
        digits = str(abs(int(value)))
        if cards.is_card_number(digits) and not cards.is_trace_id(key, digits):
            self.counts["card_numbers"] += 1
            return MASK
        return value


def _without(match: Any) -> str:
    """What stays of a match: its groups."""
    keeps = match.re.groups
    return f"{match[1] if keeps else ''}{MASK}{match[2] if keeps > 1 else ''}"


def _doubt(text: bytes, start: int, end: int) -> int:
    """Whether a match is of digits that are no card number: then where they end."""
    if end - start < _SHORTEST or not text[end - 1 : end].isdigit() or _ODD.search(text, start, end):
        return 0
    return cards.no_card(text, start, end)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def blot_keys(events: list[bytes], left: int) -> int:
    """Replace, in place, the lines of private keys, which go over many lines.

    Args:
        events: lines in their order.
        left: how many lines of a key that began earlier may follow; 0 for none.

    Returns:
        The same, for the lines to come.
    """
    for number, event in enumerate(events):
        if left:
            left -= 1
            ends = event.rfind(KEY_BEGINS) if KEY_ENDS in event else -1
            if ends >= 0:
                left = 0
            events[number] = MASK.encode() + (event[ends + len(KEY_BEGINS) :] if ends >= 0 else b"")
        else:
            begins = event.rfind(b"-----BEGIN")
            if begins >= 0 and event.find(KEY_BEGINS, begins) >= 0 and event.find(KEY_ENDS, begins) < 0:
                left = _LONGEST_KEY
    return left
