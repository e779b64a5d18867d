"""A condition made ready for one group: functions of the time that look at windows, and what there is to show of them.

A test gives True, False, or None where there is not enough to judge by; `and`, `or`, `not` know all three.
"""

from __future__ import annotations

import operator
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vedette.alerts.history import Window
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
    from collections.abc import Callable, Iterable

    from vedette.alerts.terms import Group, Store, Term
    from vedette.rules.tree import Expression, Test

    Read = Callable[[float], float | None]
    Verdict = Callable[[float], bool | None]

_COMPARE: Final = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_COMPUTE: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


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
        runs: how many runs these instances have completed.
        alive: whether nothing coming from them would mean something: they run here.
        started: since when the rule is in force.
    """

    def __init__(
        self,
        find: Callable[[Value | StatusIs | Absent | Change], Term],
        group: Group,
        runs: Callable[[Term], int],
        alive: Callable[[Term, Group], bool],
        started: float,
    ) -> None:
        self._find = find
        self._group = group
        self._runs = runs
        self._alive = alive
        self._started = started
        self.leaves: list[Leaf] = []
        self.stores: list[Store] = []
        self.rings: list[Ring] = []

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
                first = len(self.stores)
                ring = Ring(self.test(test.test), test.number, test.of, self._pulse(test, first))
                self.rings.append(ring)
                return ring
            case Not():
                return _negated(self.test(test.test))
            case Both():
                tests = [self.test(one) for one in test.tests]
                return _all(tests) if test.word == "and" else _any(tests)

    def _use(self, node: Value | StatusIs | Absent | Change) -> tuple[Term, Store]:
        term = self._find(node)
        store = term.read_by(self._group)
        self.stores.append(store)
        return term, store

    def _pulse(self, test: Runs, first: int) -> Callable[[], int]:
        """A number that is different after each run that the test is about."""
        stores = self.stores[first:]
        terms = [self._find(node) for node in _values(test.test)]
        looked = [term for term in terms if term.counted]
        if len(stores) == 1 and not looked:
            only = stores[0]
            return lambda: only.seen
        return lambda: sum(store.seen for store in stores) + sum(self._runs(term) for term in looked)

    def _compare(self, test: Compare) -> Verdict:
        first = len(self.stores)
        left, right = self._read(test.left), self._read(test.right)
        compare = _COMPARE[test.operator]
        if isinstance(test.right, Number):
            verdict = _against(left, compare, test.right.value)
        else:
            verdict = _between(left, compare, right)
        flipped = isinstance(test.left, Number)
        number = test.left if flipped else test.right
        store = self.stores[first] if len(self.stores) > first else None
        limit = number.value if isinstance(number, Number) else None
        self.leaves.append(Leaf(test, right if flipped else left, verdict, limit, store))
        return verdict

    def _read(self, side: Expression) -> Read:
        match side:
            case Number():
                value = side.value
                return lambda _: value
            case Value():
                return self._value(side)
            case Change():
                now, before = self._value(side.value), self._use(side)[1]
                return _changed(now, _function(side.value.function, before))
            case Arithmetic():
                return _computed(self._read(side.left), side.operator, self._read(side.right))

    def _value(self, value: Value) -> Read:
        term, store = self._use(value)
        name = value.function
        return _function("increase" if name == "rate" and term.counted else name, store)

    def _status(self, test: StatusIs) -> Verdict:
        store = self._use(test)[1]
        wanted, compare, read = STATUSES.index(test.status), _COMPARE[test.operator], store.last

        verdict = _against(read, compare, wanted)
        self.leaves.append(Leaf(test, read, verdict, None, store))
        return verdict

    def _absent(self, test: Absent) -> Verdict:
        term, store = self._use(test)
        assert not isinstance(store, Window)  # noqa: S101 - for type checkers
        seconds, started, group, alive = test.seconds, self._started, self._group, self._alive

        def silence(now: float) -> float | None:
            if not alive(term, group):
                return None
            return now - (store.at or started)

        def verdict(now: float) -> bool | None:
            quiet = silence(now)
            if quiet is None or (not store.at and quiet < seconds):
                return None
            return quiet >= seconds

        self.leaves.append(Leaf(test, silence, verdict, seconds, store))
        return verdict


class Ring:
    """Whether a test held in so many of the last runs.

    Args:
        test: the test.
        number: how many.
        of: of how many.
        pulse: is different after each run.
    """

    __slots__ = ("_number", "_pulse", "_seen", "_test", "results")

    def __init__(self, test: Verdict, number: int, of: int, pulse: Callable[[], int]) -> None:
        self._test = test
        self._number = number
        self._pulse = pulse
        self._seen = pulse()
        self.results: deque[bool] = deque(maxlen=of)

    @property
    def needed(self) -> int:
        """How many good runs end it, if all before were bad."""
        return (self.results.maxlen or 1) - self._number + 1

    def __call__(self, now: float) -> bool | None:
        """Whether it did, as of now; counts a run that came since it was asked last."""
        pulse = self._pulse()
        if pulse != self._seen:
            self._seen = pulse
            result = self._test(now)
            if result is not None:
                self.results.append(result)
        held = sum(self.results)
        if held >= self._number:
            return True
        missed = len(self.results) - held
        return False if missed > (self.results.maxlen or 0) - self._number else None


def _function(name: str, store: Store) -> Read:
    if isinstance(store, Window):
        if name in ("min", "max"):
            store.watch_extremes()
        functions: dict[str, Read] = {
            "avg": store.avg,
            "min": store.min,
            "max": store.max,
            "sum": store.sum,
            "count": store.number,
            "last": store.last,
            "rate": store.slope,
            "increase": store.increase,
            "days_left": store.days_left,
        }
        return functions[name]
    return store.last


def _against(read: Read, compare: Callable[[float, float], bool], limit: float) -> Verdict:
    def verdict(now: float) -> bool | None:
        value = read(now)
        return None if value is None else compare(value, limit)

    return verdict


def _between(left: Read, compare: Callable[[float, float], bool], right: Read) -> Verdict:
    def verdict(now: float) -> bool | None:
        one, other = left(now), right(now)
        return None if one is None or other is None else compare(one, other)

    return verdict


def _computed(left: Read, sign: str, right: Read) -> Read:
    compute = _COMPUTE[sign]

    def read(now: float) -> float | None:
        one, other = left(now), right(now)
        if one is None or other is None or (sign == "/" and other == 0):
            return None
        value: float = compute(one, other)
        return value

    return read


def _changed(left: Read, before: Read) -> Read:
    def read(now: float) -> float | None:
        one, other = left(now), before(now)
        return None if one is None or not other else (one - other) / abs(other)

    return read


def _negated(test: Verdict) -> Verdict:
    def verdict(now: float) -> bool | None:
        result = test(now)
        return None if result is None else not result

    return verdict


def _all(tests: Iterable[Verdict]) -> Verdict:
    tests = tuple(tests)

    def verdict(now: float) -> bool | None:
        results = [test(now) for test in tests]  # all of them: those that count runs must see each
        return False if False in results else None if None in results else True

    return verdict


def _any(tests: Iterable[Verdict]) -> Verdict:
    tests = tuple(tests)

    def verdict(now: float) -> bool | None:
        results = [test(now) for test in tests]
        return True if True in results else None if None in results else False

    return verdict


def _values(test: Compare | StatusIs) -> list[Value]:
    return [node for node in walk(test) if isinstance(node, Value)]
