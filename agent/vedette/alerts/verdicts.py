"""The functions of which a condition is made: of the time, they give a number, True or False, or None.

None is where there is not enough to judge by; `and`, `or`, `not` know all three.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window
from vedette.alerts.latest import Each
from vedette.rules.tree import Number

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        if name == "min":
            store.watch_low()
        elif name == "max":
            store.watch_high()
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


def against(read: Read, compare: Callable[[float, float], bool], limit: float) -> Verdict:
    """A value compared with a number."""

    def verdict(now: float) -> bool | None:
        value = read(now)
        return None if value is None else compare(value, limit)

    return verdict


def exceeds(read: Read, compare: Callable[[float, float], bool], limit: float, window: Window) -> Verdict:
    """A value of a window that only grows until it is full, compared with a number that it may exceed before."""

    def verdict(now: float) -> bool | None:
        value = read(now)
        holds = None if value is None else compare(value, limit)
        return None if not holds and now < window.ready else holds

    return verdict


def between(left: Read, compare: Callable[[float, float], bool], right: Read) -> Verdict:
    """A value compared with another."""

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


def all_of(tests: Iterable[Verdict]) -> Verdict:
    """Whether all hold."""
    tests = tuple(tests)

    def verdict(now: float) -> bool | None:
        results = [test(now) for test in tests]  # all of them: those that count runs must see each
        return False if False in results else None if None in results else True

    return verdict


def any_of(tests: Iterable[Verdict]) -> Verdict:
    """Whether any holds."""
    tests = tuple(tests)

    def verdict(now: float) -> bool | None:
        results = [test(now) for test in tests]
        return True if True in results else None if None in results else False

    return verdict
