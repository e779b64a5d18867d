"""A condition made ready for one group: functions of the time that look at windows, and what there is to show of them.

A test gives True, False, or None where there is not enough to judge by; `and`, `or`, `not` know all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from vedette.alerts.history import Window
from vedette.alerts.latest import Latest, Worst
from vedette.alerts.ring import Ring
from vedette.alerts.verdicts import (
    FLIPPED,
    against,
    all_of,
    among,
    any_of,
    badness,
    between,
    changed,
    computed,
    exceeds,
    negated,
    reading,
)
from vedette.metrics import Kind
from vedette.rules.tree import (
    STATUSES,
    Absent,
    Arithmetic,
    Both,
    Change,
    Compare,
    Not,
    Number,
    Runs,
    StatusIs,
    Value,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.terms import Group, Store, Term
    from vedette.alerts.verdicts import Read, Score, Source, Verdict
    from vedette.rules.tree import Expression, Test

_GONE: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the runs of instances.

    Attributes:
        runs: how many those that emit something in a group have completed.
        alive: whether nothing coming from them would mean something: they run here.
        source: the instance that ran last.
        pace: its interval; infinite if it has none.
    """

    runs: Callable[[Term, Group], int]
    alive: Callable[[Term, Group], bool]
    source: Source
    pace: Callable[[], float]


@dataclass(slots=True)
class Leaf:
    """One comparison or status of a condition, for people.

    Attributes:
        node: as it is in the tree.
        read: what is looked at.
        verdict: whether it holds.
        limit: what it is compared with, where that is a number.
        store: where its values are.
    """

    node: Compare | StatusIs | Absent
    read: Read
    verdict: Verdict
    limit: float | None = None
    store: Store | None = None


class Compiler:
    """Makes the functions of one group.

    Args:
        find: gives the term of a value, status or absence.
        group: whose windows are looked at.
        seen: what is known of runs.
        started: since when the rule is in force for the group: an instance may be added later.
    """

    def __init__(
        self, find: Callable[[Value | StatusIs | Absent | Change], Term], group: Group, seen: Seen, started: float
    ) -> None:
        self._find = find
        self._group = group
        self._about = seen
        self.started = started
        self._used: list[Store] = []
        self.leaves: list[Leaf] = []
        self.stores: list[Store] = []
        self._terms: list[Term] = []
        self.rings: list[Ring] = []
        self.begins: list[Ring] = []
        """Those of the condition by which it begins, not of that by which it is kept."""

    @property
    def heard(self) -> set[str]:
        """The instances of which something came that is looked at here."""
        found = set[str]()
        for term, store in zip(self._terms, self.stores, strict=True):
            found |= term.heard.get(self._group if term.stores.get(self._group) is store else (), set())
        return found

    def test(self, test: Test) -> Verdict:
        """The function of a test."""
        match test:
            case Compare():
                return self._compare(test)
            case StatusIs():
                return self._status(test)
            case Absent():
                return self._absent(test)
            case Runs():
                return self._runs(test)
            case Not():
                return negated(self.test(test.test))
            case Both():
                tests = [self.test(one) for one in test.tests]
                return all_of(tests) if test.word == "and" else any_of(tests)

    def _use(self, node: Value | StatusIs | Absent | Change) -> tuple[Term, Store]:
        term = self._find(node)
        store = term.read_by(self._group)
        if store not in self.stores:
            self.stores.append(store)
            self._terms.append(term)
        self._used.append(store)
        return term, store

    def _runs(self, test: Runs) -> Verdict:
        self._used = []
        node = test.test
        mine = self._about.source
        verdict = self._compare(node, mine) if isinstance(node, Compare) else self._status(node, mine)
        known = self.leaves[-1].verdict
        pulse = self._pulse(test, list(dict.fromkeys(self._used)))
        ring = Ring(verdict, test.number, test.of, pulse, mine, known, self._about.pace)
        self.rings.append(ring)
        return ring.verdict

    def _pulse(self, test: Runs, stores: list[Store]) -> Callable[[], int]:
        """A number that is different after each run that the test is about."""
        looked = [term for node in _values(test.test) if (term := self._find(node)).counted]
        if len(stores) == 1 and not looked:
            only = stores[0]
            return lambda: only.seen
        group, runs = self._group, self._about.runs
        return lambda: sum(store.seen for store in stores) + sum(runs(term, group) for term in looked)

    # Comparisons

    def _compare(self, test: Compare, source: Source | None = None) -> Verdict:
        """The verdict; where a source is given, as of the runs of that instance alone."""
        first = len(self._used)
        left, right, verdict = self._sides(test, None)
        flipped = isinstance(test.left, Number)
        number = test.left if flipped else test.right
        store = self._used[first] if len(self._used) > first else None
        limit = number.value if isinstance(number, Number) else None
        self.leaves.append(Leaf(test, right if flipped else left, verdict, limit, store))
        return self._sides(test, source)[2] if source is not None else verdict

    def _sides(self, test: Compare, source: Source | None) -> tuple[Read, Read, Verdict]:
        sign = test.operator
        left = self._read(test.left, badness(sign, test.right), source)
        right = self._read(test.right, badness(FLIPPED.get(sign, sign), test.left), source)
        early = self._early(test.left, sign) if isinstance(test.right, Number) else None
        if isinstance(test.right, Number):
            limit = test.right.value
            if early is None:
                window = self._bounding(test.left)
                verdict = against(left, sign, limit) if window is None else among(left, sign, limit, window)
                return left, right, verdict
            so_far = partial(early.so_far, left)
            return so_far, right, exceeds(so_far, sign, limit, early)
        return left, right, between(left, sign, right)

    def _bounding(self, side: Expression) -> Window | None:
        """The window in which a value lies between the smallest and the largest sample."""
        if not isinstance(side, Value) or side.function not in ("avg", "min", "max"):
            return None
        store = self._use(side)[1]
        return store if isinstance(store, Window) else None

    def _early(self, side: Expression, sign: str) -> Window | None:
        """The window of a group of which something may be said before it is full: that it counted too much already."""
        if not self._group or sign not in (">", ">=") or not isinstance(side, Value):
            return None
        term, store = self._use(side)
        wanted = side.function in ("sum", "count", "rate") and term.counted
        return store if wanted and isinstance(store, Window) else None

    def _read(self, side: Expression, score: Score | None, source: Source | None) -> Read:
        match side:
            case Number():
                value = side.value
                return lambda _: value
            case Value():
                return self._value(side, score, source)
            case Change():
                now, before = self._value(side.value, None, source), self._use(side)[1]
                return changed(now, reading(side.value.function, before, None, source))
            case Arithmetic():
                sides = self._read(side.left, None, source), self._read(side.right, None, source)
                return computed(sides[0], side.operator, sides[1])

    def _value(self, value: Value, score: Score | None, source: Source | None) -> Read:
        term, store = self._use(value)
        name = value.function
        if name == "rate" and (term.counted or term.kind == Kind.RATE):
            name = "increase" if term.counted else "avg"
        return reading(name, store, score, source)

    def _status(self, test: StatusIs, source: Source | None = None) -> Verdict:
        store = self._use(test)[1]
        assert isinstance(store, Worst)  # noqa: S101 - for type checkers
        wanted, sign, read = STATUSES.index(test.status), test.operator, store.last
        verdict = against(read, sign, wanted)
        self.leaves.append(Leaf(test, read, verdict, None, store))
        return against(lambda now: store.of(source(), now), sign, wanted) if source is not None else verdict

    def _absent(self, test: Absent) -> Verdict:
        term, store = self._use(test)
        assert isinstance(store, Latest | Worst)  # noqa: S101 - for type checkers
        seconds, started, group, alive = test.seconds, self.started, self._group, self._about.alive
        ends = ends_after(seconds) if group and "instance" not in term.by else float("inf")

        def silence(now: float) -> float | None:
            if not alive(term, group):
                return None
            return now - (store.at or started)

        def verdict(now: float) -> bool | None:
            quiet = silence(now)
            if quiet is None or (not store.at and quiet < seconds):
                return None
            return seconds <= quiet < ends

        self.leaves.append(Leaf(test, silence, verdict, seconds, store))
        return verdict


def ends_after(seconds: float) -> float:
    """How long a group may send nothing until it is taken to be gone, not silent."""
    return max(_GONE, 10 * seconds)


def _values(test: Compare | StatusIs) -> list[Value]:
    return [node for node in walk(test) if isinstance(node, Value)]
