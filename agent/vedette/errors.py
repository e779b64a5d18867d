"""Floor 0: the exceptions and problem reports that the rest of vedette raises and prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class VedetteError(Exception):
    """Root of every exception that vedette raises on purpose."""


class CheckError(VedetteError):
    """What a check raises for something it found: the target refused, timed out or answered nonsense.

    It is a finding, not a bug: the run counts as failed, the message is shown without a traceback,
    and the check keeps its connection (any other exception makes the runner close and reopen it).

    Args:
        message: what is wrong, in one sentence and without secrets.
        hint: how to mend it, shown beside the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MissingDriver(VedetteError):
    """A plugin needs a package that is not installed; the text names the `pip install` that brings it."""


class PluginError(VedetteError):
    """A plugin could not be loaded; the text names it and says why."""


class StateError(VedetteError):
    """The state directory cannot be used, for instance because another agent holds it."""


class SecretError(VedetteError):
    """A `${…}` reference could not be resolved; the text names the reference and never a value."""


class Undelivered(VedetteError):
    """What a notifier raises where an alert did not arrive; the text holds no address and no key.

    Args:
        message: what happened, in one sentence.
        again: whether trying again may help: False where the receiver will never take this message.
        after: seconds that the receiver asks to wait before the next attempt; None if it did not say.
        hint: how to mend it, for people.
    """

    def __init__(self, message: str, *, again: bool = True, after: float | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.again = again
        self.after = after
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Remark:
    """What a check has to say about one place in the options of an instance.

    Attributes:
        message: what is wrong, in one sentence without values.
        hint: how to mend it.
        path: where in the instance, such as `("queries", 0, "sql")`; empty for all of it.
        severity: an error keeps the instance from starting.
    """

    message: str
    hint: str = ""
    path: tuple[str | int, ...] = ()
    severity: Literal["error", "warning"] = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the configuration, at one place.

    Attributes:
        file: the YAML file as the user named it.
        line: line number from 1, or 0 where the whole file is meant.
        path: where in the document, such as `instances[1].prot`; empty for the whole file.
        message: what is wrong.
        hint: how to mend it; empty if there is nothing to add.
        severity: a warning does not keep anything from starting.
    """

    file: str
    line: int
    path: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [place, self.path] if self.path else [place]
        if self.severity == "warning":
            parts.append("warning")
        text = ": ".join([*parts, self.message])
        return f"{text}; {self.hint}" if self.hint else text


class ConfigError(VedetteError):
    """Nothing can run: the problems say why.

    Args:
        problems: every problem found, in file and line order.
    """

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
