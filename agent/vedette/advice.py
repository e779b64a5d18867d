"""Floor 1: what a check tells `vedette plan` of its costs, and `vedette doctor` of its target."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Estimate:
    """One line that a check adds to the plan: what its runs cost somebody else.

    Attributes:
        what: what is counted, such as `statements per run`.
        value: how much; None where it could not be found out.
        unit: what the number is in, such as `requests/day`.
        hint: what to look at, where that is worth it; empty otherwise.
    """

    what: str
    value: float | None
    unit: str = ""
    hint: str = ""


class Grade(enum.StrEnum):
    """How one line of a diagnosis came out, the worst last."""

    OK = "ok"
    INFO = "info"
    NOT_REACHED = "not reached"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Symptom:
    """One line of a diagnosis.

    Attributes:
        what: what was looked at, such as `TCP`.
        grade: how it came out.
        seen: what was seen.
        hint: what to do about it, in a sentence.
        snippet: what to type or paste for that, exactly; empty where there is nothing of that kind.
    """

    what: str
    grade: Grade
    seen: str = ""
    hint: str = ""
    snippet: str = ""


class Diagnosis:
    """What `Check.diagnose` and `Sink.diagnose` speak into: one line for each thing they looked at.

    What was said stays, also where the diagnosis is cut off later on.

    Args:
        mask: blots secrets out of what is said.
    """

    def __init__(self, mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        self.symptoms: list[Symptom] = []

    def ok(self, what: str, seen: str = "") -> None:
        """It is as it should be."""
        self._add(what, Grade.OK, seen)

    def info(self, what: str, seen: str, hint: str = "", snippet: str = "") -> None:
        """It works, and could tell more or do better."""
        self._add(what, Grade.INFO, seen, hint, snippet)

    def warning(self, what: str, seen: str, hint: str = "", snippet: str = "") -> None:
        """It works, but not all of it or not for long."""
        self._add(what, Grade.WARNING, seen, hint, snippet)

    def failed(self, what: str, seen: str, hint: str = "", snippet: str = "") -> None:
        """Something is missing or refused; `snippet` is what mends it."""
        self._add(what, Grade.FAILED, seen, hint, snippet)

    def not_reached(self, what: str, seen: str = "") -> None:
        """It could not be looked at because of something before it."""
        self._add(what, Grade.NOT_REACHED, seen)

    def _add(self, what: str, grade: Grade, seen: str, hint: str = "", snippet: str = "") -> None:
        self.symptoms.append(Symptom(what, grade, *map(self._mask, (seen, hint, snippet))))
