"""A condition as a tree of values; printed, each gives the text that parses to it again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from vedette.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTIONS: Final = ("avg", "min", "max", "sum", "count", "last", "rate", "days_left")
"""What is made of the samples of a window; `change` takes one of them."""
STATUSES: Final = ("ok", "warning", "unknown", "critical")
"""From the best to the worst, as `status(…) >= warning` compares them."""
COMPARISONS: Final = ("<=", ">=", "==", "!=", "<", ">")

_PLAIN = re.compile(r"[A-Za-z_][\w.-]*(?:/[\w.*-]+)*|\d+", re.ASCII)
_UNITS: Final = ("d", "h", "m", "s", "ms")


def span(seconds: float) -> str:
    """A length of time as conditions write it: exact, and parsed to the same number again."""
    for unit in _UNITS:
        size = parse_duration(f"1{unit}")
        text = f"{seconds / size:.6f}".rstrip("0").rstrip(".")
        if seconds >= size and parse_duration(f"{text}{unit}") == seconds:
            return f"{text}{unit}"
    return f"{seconds!r}s"


def quoted(text: str) -> str:
    """The text as a condition has it: in quotes where it must be."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that a series must have, or must not have; `*` in the value stands for anything."""

    key: str
    value: str
    wanted: bool = True

    def __str__(self) -> str:
        return f"{'' if self.wanted else '!'}{quoted(self.key)}:{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """The series of a metric that have these tags."""

    metric: str
    tags: tuple[Tag, ...] = ()

    def __str__(self) -> str:
        return f"{self.metric}{{{','.join(map(str, self.tags))}}}" if self.tags else self.metric


@dataclass(frozen=True, slots=True)
class Number:
    """A number; its unit is empty, `%` or one of time."""

    value: float
    unit: str = ""

    def __str__(self) -> str:
        whole = int(self.value) if self.value.is_integer() and abs(self.value) < 1e15 else self.value
        return f"{whole!r}{self.unit}"


@dataclass(frozen=True, slots=True)
class Value:
    """What a function makes of the samples of the last `over` seconds; without `over` the latest one."""

    function: str
    selector: Selector
    over: float | None = None

    def __str__(self) -> str:
        over = f" over {span(self.over)}" if self.over is not None else ""
        return f"{self.function}({self.selector}){over}"


FINEST: Final = 2_048
"""Points, at the most, that are kept of a window and of all that came since."""


@dataclass(frozen=True, slots=True)
class Change:
    """By which part of what it was `ago` seconds earlier a value has changed: 0.5 is 50 % more."""

    value: Value
    ago: float

    def __str__(self) -> str:
        return f"change({self.value}, {span(self.ago)})"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Two values added, subtracted, multiplied or divided."""

    operator: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression

    def __str__(self) -> str:
        sides = (f"({one})" if isinstance(one, Arithmetic) else str(one) for one in (self.left, self.right))
        return f" {self.operator} ".join(sides)


@dataclass(frozen=True, slots=True)
class Compare:
    """Whether two values stand so."""

    operator: str
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class StatusIs:
    """Whether the last run's worst status, or that of a service check, is so.

    Attributes:
        target: instance id, `check/*`, or the name of a service check.
        tags: of the service check.
        operator: `==`, `!=` or `>=`.
        status: one of `STATUSES`.
    """

    target: str
    tags: tuple[Tag, ...]
    operator: str
    status: str

    def __str__(self) -> str:
        tags = f"{{{','.join(map(str, self.tags))}}}" if self.tags else ""
        return f"status({quoted(self.target)}{tags}) {self.operator} {self.status}"

    @property
    def of_instance(self) -> bool:
        """Whether it is about instances and not about a service check."""
        return "/" in self.target


@dataclass(frozen=True, slots=True)
class Absent:
    """Whether nothing came for so many seconds: of a series, of an instance, or of what the file is about."""

    target: Selector | str | None
    seconds: float

    def __str__(self) -> str:
        target = quoted(self.target) if isinstance(self.target, str) else str(self.target)
        return f"no data{f'({target})' if self.target is not None else ''} for {span(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Runs:
    """Whether a test held in `number` of the last `of` runs."""

    test: Compare | StatusIs
    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.test} for {self.number} of {self.of} runs"


@dataclass(frozen=True, slots=True)
class Not:
    """Whether a test does not hold."""

    test: Test

    def __str__(self) -> str:
        return f"not ({self.test})"


@dataclass(frozen=True, slots=True)
class Both:
    """Whether all of some tests hold (`and`), or any (`or`)."""

    word: Literal["and", "or"]
    tests: tuple[Test, ...]

    def __str__(self) -> str:
        return f" {self.word} ".join(f"({one})" if isinstance(one, Both) else str(one) for one in self.tests)


Expression = Number | Value | Change | Arithmetic
Test = Compare | StatusIs | Absent | Runs | Not | Both
Node = Expression | Test


@dataclass(frozen=True, slots=True)
class Condition:
    """A test, made for each combination of values that these tags have."""

    test: Test
    by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.test} by ({', '.join(map(quoted, self.by))})" if self.by else str(self.test)


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it, from the left."""
    yield node
    match node:
        case Arithmetic() | Compare():
            yield from walk(node.left)
            yield from walk(node.right)
        case Change():
            yield node.value
        case Runs() | Not():
            yield from walk(node.test)
        case Both():
            for one in node.tests:
                yield from walk(one)
        case _:
            pass
