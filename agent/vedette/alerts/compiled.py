"""A condition made ready for one group: functions of the time that look at windows, and what there is to show of them.

A test gives True, False, or None where there is not enough to judge by; `and`, `or`, `not` know all three.
"""

from __future__ import annotations

import operator
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window
from vedette.alerts.latest import Each, Latest, Worst
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
    from collections.abc import Callable, Iterable

    from vedette.alerts.terms import Group, Store, Term
    from vedette.rules.tree import Expression, Test

    Read = Callable[[float], float | None]
    Verdict = Callable[[float], bool | None]
    Score = Callable[[float], float]
    Source = Callable[[], str]

_COMPARE: Final = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
FLIPPED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_COMPUTE: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_MOST_SOURCES: Final = 1_000
_GONE: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the runs of instances.

    Attributes:
        runs: how many those that emit something in a group have completed.
        alive: whether nothing coming from them would mean something: they run here.
        source: the instance that ran last.
    """

    runs: Callable[[Term, Group], int]
    alive: Callable[[Term, Group], bool]
    source: Source


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
        started: since when the rule is in force.
    """

    def __init__(
        self, find: Callable[[Value | StatusIs | Absent | Change], Term], group: Group, seen: Seen, started: float
    ) -> None:
        self._find = find
        self._group = group
        self._about = seen
        self._started = started
        self._used: list[Store] = []
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
                return self._runs(test)
            case Not():
                return _negated(self.test(test.test))
            case Both():
                tests = [self.test(one) for one in test.tests]
                return _all(tests) if test.word == "and" else _any(tests)

    def _use(self, node: Value | StatusIs | Absent | Change) -> tuple[Term, Store]:
        term = self._find(node)
        store = term.read_by(self._group)
        if store not in self.stores:
            self.stores.append(store)
        self._used.append(store)
        return term, store

    def _runs(self, test: Runs) -> Verdict:
        self._used = []
        node = test.test
        mine = self._about.source
        verdict = self._compare(node, mine) if isinstance(node, Compare) else self._status(node, mine)
        ring = Ring(verdict, test.number, test.of, self._pulse(test, list(self._used)), mine)
        self.rings.append(ring)
        return ring

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
        sign, compare = test.operator, _COMPARE[test.operator]
        left = self._read(test.left, _score(sign, test.right), source)
        right = self._read(test.right, _score(FLIPPED.get(sign, sign), test.left), source)
        early = self._early(test.left, sign) if isinstance(test.right, Number) else None
        if isinstance(test.right, Number):
            limit = test.right.value
            if early is None:
                return left, right, _against(left, compare, limit)
            so_far = partial(early.so_far, left)
            return so_far, right, _exceeds(so_far, compare, limit, early)
        return left, right, _between(left, compare, right)

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
                return _changed(now, _function(side.value.function, before, None, source))
            case Arithmetic():
                sides = self._read(side.left, None, source), self._read(side.right, None, source)
                return _computed(sides[0], side.operator, sides[1])

    def _value(self, value: Value, score: Score | None, source: Source | None) -> Read:
        term, store = self._use(value)
        name = value.function
        if name == "rate" and (term.counted or term.kind == Kind.RATE):
            name = "increase" if term.counted else "avg"
        return _function(name, store, score, source)

    def _status(self, test: StatusIs, source: Source | None = None) -> Verdict:
        store = self._use(test)[1]
        assert isinstance(store, Worst)  # noqa: S101 - for type checkers
        wanted, compare, read = STATUSES.index(test.status), _COMPARE[test.operator], store.last
        verdict = _against(read, compare, wanted)
        self.leaves.append(Leaf(test, read, verdict, None, store))
        return _against(lambda now: store.of(source(), now), compare, wanted) if source is not None else verdict

    def _absent(self, test: Absent) -> Verdict:
        term, store = self._use(test)
        assert isinstance(store, Latest | Worst)  # noqa: S101 - for type checkers
        seconds, started, group, alive = test.seconds, self._started, self._group, self._about.alive
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


class Ring:
    """Whether a test held in so many of the last runs of any one instance.

    Args:
        test: the test.
        number: how many.
        of: of how many.
        pulse: is different after each run.
        source: the instance that ran last.
    """

    __slots__ = ("_number", "_of", "_pulse", "_seen", "_source", "_test", "results")

    def __init__(self, test: Verdict, number: int, of: int, pulse: Callable[[], int], source: Source) -> None:
        self._test = test
        self._number = number
        self._of = of
        self._pulse = pulse
        self._seen = pulse()
        self._source = source
        self.results: dict[str, deque[bool]] = {}

    @property
    def needed(self) -> int:
        """How many good runs end it, if all before were bad."""
        return self._of - self._number + 1

    @property
    def size(self) -> tuple[int, int]:
        """How many of how many."""
        return self._number, self._of

    def __call__(self, now: float) -> bool | None:
        """Whether it did, as of now; counts a run that came since it was asked last."""
        pulse = self._pulse()
        if pulse != self._seen:
            self._seen = pulse
            result = self._test(now)
            if result is not None:
                self._add(self._source(), result)
        good = False
        for results in self.results.values():
            held = sum(results)
            if held >= self._number:
                return True
            good = good or len(results) - held > self._of - self._number
        return False if good else None

    def _add(self, source: str, result: bool) -> None:
        results = self.results.get(source)
        if results is None:
            if len(self.results) >= _MOST_SOURCES:
                del self.results[next(iter(self.results))]
            results = self.results[source] = deque(maxlen=self._of)
        results.append(result)

    def forget(self, source: str) -> None:
        """An instance runs no more."""
        self.results.pop(source, None)

    def clear(self) -> None:
        """Forget all runs."""
        self.results.clear()

    @property
    def kept(self) -> dict[str, list[bool]]:
        """How the runs of each instance went, as plain data."""
        return {source: list(results) for source, results in self.results.items()}

    def restore(self, kept: Any) -> None:
        """Put back what `kept` gave; what is no such thing is left out."""
        if isinstance(kept, dict):
            for source, results in kept.items():
                for one in results if isinstance(results, list) else ():
                    self._add(str(source), bool(one))


def ends_after(seconds: float) -> float:
    """How long a group may send nothing until it is taken to be gone, not silent."""
    return max(_GONE, 10 * seconds)


def _score(sign: str, other: Expression) -> Score:
    """How bad a value is in a comparison: the series for which it holds counts before those for which it does not."""
    if sign in (">", ">="):
        return _itself
    if sign in ("<", "<="):
        return operator.neg
    if not isinstance(other, Number):
        return _itself
    limit = other.value
    return (lambda value: -abs(value - limit)) if sign == "==" else (lambda value: abs(value - limit))


def _itself(value: float) -> float:
    return value


_ASK: Final[dict[str, Callable[[Any, float], float | None]]] = {
    "last": lambda one, now: one.last(now),
    "rate": lambda one, now: one.slope(now),
    "avg": lambda one, now: one.avg(now),
    "days_left": lambda one, now: one.days_left(now),
}


def _function(name: str, store: Store, score: Score | None, source: Source | None) -> Read:
    if isinstance(store, Window):
        if name in ("min", "max"):
            store.watch_extremes()
        functions: dict[str, Read] = {
            "avg": store.avg,
            "min": store.min,
            "max": store.max,
            "sum": store.sum,
            "count": store.number,
            "increase": store.increase,
        }
        return functions[name]
    if not isinstance(store, Each):
        return store.last
    ask = _ASK[name]
    if score is None and name == "days_left":
        score = operator.neg
    if score is None:
        return lambda now: store.sum(ask, now, source() if source is not None else None)
    worst = score
    return lambda now: store.worst(ask, worst, now, source() if source is not None else None)


def _against(read: Read, compare: Callable[[float, float], bool], limit: float) -> Verdict:
    def verdict(now: float) -> bool | None:
        value = read(now)
        return None if value is None else compare(value, limit)

    return verdict


def _exceeds(read: Read, compare: Callable[[float, float], bool], limit: float, window: Window) -> Verdict:
    def verdict(now: float) -> bool | None:
        value = read(now)
        holds = None if value is None else compare(value, limit)
        return None if not holds and now < window.ready else holds

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
