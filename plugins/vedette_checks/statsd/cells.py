"""What the values of one series add up to until they are handed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vedette import Emit, Kind
from vedette_checks.statsd.sketch import Observations, bounded, total

MOST_MEMBERS = 100_000
"""Members that a set keeps in one interval."""

LONGEST_MEMBER = 1_000
"""Bytes of a set's member."""

_MOST_WHOLE = 1 << 53  # whole numbers beyond are no longer exact


@dataclass(slots=True, eq=False)
class Owner:
    """An origin and its budget.

    Attributes:
        name: container, pod, address or socket.
        live: series that it has now.
        refused: values that were beyond its budget since that was last told.
        spilled: series that collect what is beyond.
    """

    name: str
    live: int = 0
    refused: int = 0
    spilled: int = 0


class Cell:
    """One series. The kinds of metrics have a class each.

    Attributes:
        name: the metric's name.
        tags: its tags.
        kind: what its numbers mean.
        time: Unix seconds that the client gave, or None.
        owner: whose budget it counts against, or None.
        beyond: whether it collects what is beyond a budget.
        gone: whether it was forgotten: nobody emits it any more.
        touched: whether anything came since it was last emitted.
        idle: intervals since then.
    """

    __slots__ = ("beyond", "gone", "idle", "kind", "name", "owner", "tags", "time", "touched")

    def __init__(self, kind: Kind, name: str, tags: tuple[str, ...], time: int | None = None) -> None:
        self.kind, self.name, self.tags, self.time = kind, name, tags, time
        self.owner: Owner | None = None
        self.beyond = self.gone = self.touched = False
        self.idle = 0

    def add(self, values: Sequence[float], rate: float) -> None:
        """Take numbers over, at least one, of which a share of `rate` was sent."""
        raise NotImplementedError

    def join(self, members: Sequence[bytes]) -> int:
        """Take members of a set over; returns how many there was no room for."""
        raise NotImplementedError

    def emit(self, emit: Emit) -> int:
        """Emit what came, begin anew; returns how many samples that made."""
        raise NotImplementedError


class Count(Cell):
    """The sum of all values, each divided by its rate."""

    __slots__ = ("_total",)

    def __init__(self, *identity: Any) -> None:
        super().__init__(*identity)
        self._total = 0.0

    def add(self, values: Sequence[float], rate: float) -> None:
        """Add them up."""
        self.touched = True
        self._total = bounded(self._total + bounded(total(values) / rate))

    def emit(self, emit: Emit) -> int:
        """The sum."""
        emit.count(self.name, _plain(self._total), self.tags, self.time)
        self.touched, self._total = False, 0.0
        return 1


class Gauge(Cell):
    """The last value; rates mean nothing to it."""

    __slots__ = ("_value",)

    def add(self, values: Sequence[float], rate: float) -> None:
        """Keep the last."""
        self.touched = True
        self._value = values[-1]

    def emit(self, emit: Emit) -> int:
        """The last value."""
        emit.gauge(self.name, _plain(self._value), self.tags, self.time)
        self.touched = False
        return 1


class Spread(Cell):
    """A histogram or distribution. Each value counts for the whole part of 1/rate, as in Datadog's agent."""

    __slots__ = ("_observed",)

    def __init__(self, *identity: Any) -> None:
        super().__init__(*identity)
        self._observed = Observations()

    def add(self, values: Sequence[float], rate: float) -> None:
        """Observe them."""
        self.touched = True
        self._observed.add(values, 1 if rate == 1 else int(1 / rate))

    def emit(self, emit: Emit) -> int:
        """All observations in one sample."""
        speak = emit.histogram if self.kind is Kind.HISTOGRAM else emit.distribution
        speak(self.name, self._observed.sketch(), self.tags, self.time)
        self.touched, self._observed = False, Observations()
        return 1


class Members(Cell):
    """A set."""

    __slots__ = ("_members",)

    def __init__(self, *identity: Any) -> None:
        super().__init__(*identity)
        self._members: set[bytes] = set()

    def join(self, members: Sequence[bytes]) -> int:
        """Take them over."""
        fit = [member for member in members if len(member) <= LONGEST_MEMBER]
        refused = len(members) - len(fit)
        self.touched = self.touched or bool(fit)
        if len(self._members) + len(fit) <= MOST_MEMBERS:
            self._members.update(fit)
            return refused
        for member in fit:
            if member in self._members or len(self._members) < MOST_MEMBERS:
                self._members.add(member)
            else:
                refused += 1
        return refused

    def emit(self, emit: Emit) -> int:
        """Each member once."""
        members, self._members = self._members, set()
        for member in sorted(members):
            emit.set(self.name, member.decode("utf-8", "replace"), self.tags, self.time)
        self.touched = False
        return len(members)


CELLS: dict[Kind, type[Cell]] = {
    Kind.COUNT: Count,
    Kind.GAUGE: Gauge,
    Kind.HISTOGRAM: Spread,
    Kind.DISTRIBUTION: Spread,
    Kind.SET: Members,
}
"""The class of each kind."""


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() and -_MOST_WHOLE < value < _MOST_WHOLE else value
