"""A condition's text as words, and what is said of one that cannot be understood."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from vedette.config.problems import suggest
from vedette.errors import VedetteError

LONGEST: Final = 2_000
"""Characters of a condition."""


class ConditionError(VedetteError):
    """A condition that cannot be understood.

    Args:
        message: what is wrong, and where in the text.
        hint: how to mend it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of the text.

    Attributes:
        kind: `number`, `name`, `text` (in quotes), `sign` or `end`.
        text: what it says; of a text without its quotes.
        at: where it begins, counted from 0.
        unit: of a number.
    """

    kind: str
    text: str
    at: int
    unit: str = ""


_WORDS: Final = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?P<unit>%|ms\b|s\b|m\b|h\b|d\b)?(?![\w.])
  | (?P<name>[A-Za-z_*][\w.*-]*(?:/[\w.*@+-]+)*)
  | (?P<address>\d+(?:\.\d+){2,})
  | (?P<loose>\d[\w.-]*[A-Za-z_][\w.-]*)
  | "(?P<text>(?:[^"\\]|\\.)*)"
  | (?P<sign><=|>=|==|!=|[<>(){},:!/*+=-])
  | (?P<end>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)


class Scanner:
    """Reads a condition from the left, a word at a time.

    Args:
        text: the condition.

    Raises:
        ConditionError: there is something in it that is no word.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ConditionError(f"is longer than {LONGEST} characters", "make several rules of it")
        self._words: list[Word] = []
        place = 0
        while not self._words or self._words[-1].kind != "end":
            place = self._scan(text, place)
        self._next = 0

    def _scan(self, text: str, place: int) -> int:
        found = _WORDS.match(text, place)
        if found is None:
            at = place + len(text[place:]) - len(text[place:].lstrip())
            if text[at] == '"':
                raise ConditionError(f"column {at + 1}: the text in quotes has no end", 'close it with "')
            raise ConditionError(f"column {at + 1}: a character that means nothing here", _SHAPE)
        kind = found.lastgroup or "end"
        kind = {"unit": "number", "loose": "name", "address": "name"}.get(kind, kind)
        said = found[found.lastgroup or "end"] if kind == "name" else found[kind]
        if kind == "text":
            said = re.sub(r"\\(.)", r"\1", said)
        at = found.start() + len(found[0]) - len(found[0].lstrip())
        self._words.append(Word(kind, said or "", at, found["unit"] or ""))
        return found.end()

    @property
    def word(self) -> Word:
        """The word that is read next."""
        return self._words[self._next]

    def ahead(self, number: int = 1) -> Word:
        """A word further on."""
        return self._words[min(self._next + number, len(self._words) - 1)]

    def take(self) -> Word:
        """Read on by a word."""
        word = self.word
        if word.kind != "end":
            self._next += 1
        return word

    def says(self, *texts: str) -> bool:
        """Whether the next word is one of these."""
        return self.word.kind in ("name", "sign") and self.word.text.lower() in texts

    def taken(self, *texts: str) -> str:
        """Read on if the next word is one of these; returns it, or nothing."""
        return self.take().text.lower() if self.says(*texts) else ""

    def expect(self, text: str, message: str, hint: str = "") -> None:
        """Read a word that must be there."""
        if not self.taken(text):
            self.fail(message, hint)

    def fail(self, message: str, hint: str = "", known: tuple[str, ...] = ()) -> NoReturn:
        """Say that the next word does not fit.

        Args:
            message: what was expected.
            hint: how to mend it, where no known word is close.
            known: the words that would fit.
        """
        place = "at the end" if self.word.kind == "end" else f"column {self.word.at + 1}"
        raise ConditionError(f"{place}: {message}", (suggest(self.word.text, known) if known else "") or hint)


_SHAPE: Final = "such as `avg(redis.mem.used) over 5m > 90`; docs/alerts.md has the language"
