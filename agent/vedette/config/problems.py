"""Floor 2: collects the problems of one file and words their places."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str | int, ...]
"""Where in a document: keys and list positions, such as `("instances", 1, "port")`."""

QUOTE = "put quotes around it"
"""The hint for text that YAML reads as something else."""

_PLAIN_KEY = re.compile(r"<<|[A-Za-z0-9_][A-Za-z0-9_.\-]{0,59}")


def show_path(path: Path) -> str:
    """`instances[1].port`. A key that does not look like an option's name might be a stray value: it shows as `?`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _PLAIN_KEY.fullmatch(part) else "?"
            text += f".{shown}" if text else shown
    return text


def suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'port'?`, or nothing if no known word is close. Never repeats the word itself."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=0.6)
    return f"did you mean '{by_lower[close[0]]}'?" if close else ""


def printable(text: str) -> str:
    """The text with `?` for whatever a terminal cannot show, such as a file name that is not UTF-8."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def one_line(text: str, limit: int = 300) -> str:
    """Someone else's text as one printable line of at most `limit` characters."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _names(path: Path) -> list[str]:
    return [part for part in path if isinstance(part, str) and part not in ("defaults", "instances")]


@dataclass(slots=True)
class Report:
    """The problems of one file; the same problem at the same place is kept once.

    Attributes:
        file: the file as the user named it.
    """

    file: str
    _problems: dict[Problem, Path] = field(default_factory=dict)

    def error(self, line: int, path: Path, message: str, hint: str = "") -> None:
        """Something that keeps an instance, a sink or the file from being used."""
        self._problems[Problem(self.file, line, show_path(path), message, hint)] = path

    def warning(self, line: int, path: Path, message: str, hint: str = "") -> None:
        """Something worth knowing that keeps nothing from starting."""
        self._problems[Problem(self.file, line, show_path(path), message, hint, "warning")] = path

    def warning_once(self, line: int, path: Path, message: str) -> None:
        """A warning of which one is enough for an option, however many instances have it."""
        names = _names(path)
        if not any(one.message == message and _names(where) == names for one, where in self._problems.items()):
            self.warning(line, path, message)

    def take(self, other: Report) -> None:
        """Take over what another report of this file holds."""
        self._problems |= other._problems

    @property
    def problems(self) -> list[Problem]:
        """What was reported so far, in that order."""
        return list(self._problems)

    @property
    def failed(self) -> bool:
        """Whether an error was reported."""
        return any(problem.severity == "error" for problem in self._problems)

    def broken_instances(self) -> set[int] | None:
        """The positions of the instances that errors are about; None if an error is about the whole file.

        A broken `defaults` counts as the whole file: its instances would start with half of their options. A broken
        rule keeps no instance from running.
        """
        errors = [path for problem, path in self._problems.items() if problem.severity == "error"]
        paths = [path for path in errors if path[:1] != ("alerts",)]
        if any(path[:1] != ("instances",) or len(path) < 2 for path in paths):
            return None
        return {path[1] for path in paths if isinstance(path[1], int)}
