"""The functions of which a condition is made: of the time, they give a number, True or False, or None.

None is where there is not enough to judge by; `and`, `or`, `not` know all three.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window
from vedette.alerts.latest import Each
from vedette.rules.tree import Number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette.alerts.latest import Ask
    from vedette.alerts.terms import Store
    from vedette.rules.tree import Expression

Read = Callable[[float], float | None]
Verdict = Callable[[float], bool | None]
Score = Callable[[float], float]
Source = Callable[[], str]

COMPARE: Final = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
FLIPPED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
COMPUTE: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def badness(sign: str, other: Expression) -> Score:
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


def reading(name: str, store: Store, score: Score | None, source: Source | None) -> Read:
    """What a function makes of what a store holds.

    Args:
        name: the function.
        store: what is looked at.
        score: how bad an answer is, where the worst series counts; None where they are taken together.
        source: only of this instance's series, where one is told apart from the other.
    """
    if isinstance(store, Window):
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
    return Asked(store, ask, score, source).read


class Asked:
    """Of what the series of a group answer that which is worst.

    Args:
        store: the series.
        ask: what to ask each.
        score: how bad an answer is.
        source: only of this instance's series.
    """

    __slots__ = ("_ask", "_score", "_source", "_store")

    def __init__(self, store: Each, ask: Ask, score: Score, source: Source | None) -> None:
        self._store = store
        self._ask = ask
        self._score = score
        self._source = source

    def read(self, now: float) -> float | None:
        """The answer."""
        store = self._store
        source = self._source() if self._source is not None else None
        one = store.only
        if one is None or store.adds_up:
            return store.worst(self._ask, self._score, now, source)
        return self._ask(one, now) if source is None or one.instance == source else None  # nearly always


class Against:
    """A value compared with a number: objects with slots, for these are asked all the time and lie close together.

    Args:
        read: gives the value.
        limit: the number.
    """

    __slots__ = ("limit", "read")

    def __init__(self, read: Read, limit: float) -> None:
        self.read = read
        self.limit = limit

    def below(self, now: float) -> bool | None:
        """Whether it is less."""
        value = self.read(now)
        return None if value is None else value < self.limit

    def at_most(self, now: float) -> bool | None:
        """Whether it is less or the same."""
        value = self.read(now)
        return None if value is None else value <= self.limit

    def above(self, now: float) -> bool | None:
        """Whether it is more."""
        value = self.read(now)
        return None if value is None else value > self.limit

    def at_least(self, now: float) -> bool | None:
        """Whether it is more or the same."""
        value = self.read(now)
        return None if value is None else value >= self.limit

    def equal(self, now: float) -> bool | None:
        """Whether it is the same."""
        value = self.read(now)
        return None if value is None else value == self.limit

    def unequal(self, now: float) -> bool | None:
        """Whether it is another."""
        value = self.read(now)
        return None if value is None else value != self.limit


class Bounded:
    """A value that lies among the samples of a window, compared with a number: mostly all of them lie on one side.

    Args:
        read: gives the value: the mean, the smallest, the largest.
        limit: the number.
        window: the window.
    """

    __slots__ = ("limit", "read", "window")

    def __init__(self, read: Read, limit: float, window: Window) -> None:
        self.read = read
        self.limit = limit
        self.window = window

    def below(self, now: float) -> bool | None:
        """Whether it is less."""
        window, limit = self.window, self.limit
        if window.ready <= now < window.ends:
            if window.low >= limit:
                return False
            if window.high < limit:
                return True
        value = self.read(now)
        return None if value is None else value < limit

    def at_most(self, now: float) -> bool | None:
        """Whether it is less or the same."""
        window, limit = self.window, self.limit
        if window.ready <= now < window.ends:
            if window.low > limit:
                return False
            if window.high <= limit:
                return True
        value = self.read(now)
        return None if value is None else value <= limit

    def above(self, now: float) -> bool | None:
        """Whether it is more."""
        window, limit = self.window, self.limit
        if window.ready <= now < window.ends:
            if window.high <= limit:
                return False
            if window.low > limit:
                return True
        value = self.read(now)
        return None if value is None else value > limit

    def at_least(self, now: float) -> bool | None:
        """Whether it is more or the same."""
        window, limit = self.window, self.limit
        if window.ready <= now < window.ends:
            if window.high < limit:
                return False
            if window.low >= limit:
                return True
        value = self.read(now)
        return None if value is None else value >= limit


_AGAINST: Final = {
    "<": Against.below,
    "<=": Against.at_most,
    ">": Against.above,
    ">=": Against.at_least,
    "==": Against.equal,
    "!=": Against.unequal,
}
_BOUNDED: Final = {"<": Bounded.below, "<=": Bounded.at_most, ">": Bounded.above, ">=": Bounded.at_least}


def against(read: Read, sign: str, limit: float) -> Verdict:
    """A value compared with a number."""
    return MethodType(_AGAINST[sign], Against(read, limit))


def among(read: Read, sign: str, limit: float, window: Window) -> Verdict:
    """The mean, smallest or largest of a window, compared with a number."""
    if sign not in _BOUNDED:
        return against(read, sign, limit)
    return MethodType(_BOUNDED[sign], Bounded(read, limit, window))


def exceeds(read: Read, sign: str, limit: float, window: Window) -> Verdict:
    """A value of a window that only grows until it is full, compared with a number that it may exceed before."""
    test = against(read, sign, limit)

    def verdict(now: float) -> bool | None:
        holds = test(now)
        return None if not holds and now < window.ready else holds

    return verdict


def between(left: Read, sign: str, right: Read) -> Verdict:
    """A value compared with another."""
    compare = COMPARE[sign]

    def verdict(now: float) -> bool | None:
        one, other = left(now), right(now)
        return None if one is None or other is None else compare(one, other)

    return verdict


def computed(left: Read, sign: str, right: Read) -> Read:
    """Two values added, subtracted, multiplied or divided; nothing is divided by 0."""
    compute = COMPUTE[sign]

    def read(now: float) -> float | None:
        one, other = left(now), right(now)
        if one is None or other is None or (sign == "/" and other == 0):
            return None
        value: float = compute(one, other)
        return value

    return read


def changed(left: Read, before: Read) -> Read:
    """By which part a value differs from another."""

    def read(now: float) -> float | None:
        one, other = left(now), before(now)
        return None if one is None or not other else (one - other) / abs(other)

    return read


def negated(test: Verdict) -> Verdict:
    """The opposite."""

    def verdict(now: float) -> bool | None:
        result = test(now)
        return None if result is None else not result

    return verdict


def all_of(tests: Sequence[Verdict]) -> Verdict:
    """Whether all hold."""
    return _paired(tests, lambda one, other: _Both(one, other).all)


def any_of(tests: Sequence[Verdict]) -> Verdict:
    """Whether any holds."""
    return _paired(tests, lambda one, other: _Both(one, other).any)


def _paired(tests: Sequence[Verdict], both: Callable[[Verdict, Verdict], Verdict]) -> Verdict:
    """Halves, each of halves: many tests are not as deep as they are many."""
    middle = len(tests) // 2
    return both(_paired(tests[:middle], both), _paired(tests[middle:], both)) if middle else tests[0]


class _Both:
    """Two tests; both are asked, for those that count runs must see each."""

    __slots__ = ("_one", "_other")

    def __init__(self, one: Verdict, other: Verdict) -> None:
        self._one = one
        self._other = other

    def all(self, now: float) -> bool | None:
        one, other = self._one(now), self._other(now)
        return False if one is False or other is False else None if one is None or other is None else True

    def any(self, now: float) -> bool | None:
        one, other = self._one(now), self._other(now)
        return True if one or other else None if one is None or other is None else False
