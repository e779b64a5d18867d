"""N of M: how a test came out in the last runs of each instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.verdicts import Source, Verdict

_MOST_SOURCES: Final = 1_000
_FOREVER: Final = float("inf")
SELDOM: Final = 4.0
"""Intervals from one run to the next that brings what is looked at, as long as nobody saw two."""
_SLOWER: Final = 10.0
"""How many times as long a hole may make that: the next one after a hole need not take as long."""
HOLE: Final = 60.0
"""Seconds that may be missing of N of M runs, however many there were meanwhile."""


class _Results:
    """How the last runs of an instance went.

    Attributes:
        bits: a bit for each run, the last one lowest.
        number: how many runs.
        at: when the last one came.
        pace: seconds from one to the next, lately.
    """

    __slots__ = ("at", "bits", "number", "pace")

    def __init__(self, at: float, pace: float) -> None:
        self.bits = self.number = 0
        self.at = at
        self.pace = pace

    @property
    def rows(self) -> list[bool]:
        """Each by itself, oldest first."""
        return [bool(self.bits >> place & 1) for place in range(self.number - 1, -1, -1)]


class Ring:
    """Whether a test held in so many of the last runs of any one instance.

    Args:
        test: the test.
        number: how many.
        of: of how many.
        pulse: is different after each run.
        source: the instance that ran last.
        known: the test as of all instances: None once nothing that was seen counts any more.
        pace: the interval of the one that ran last; infinite if it has none.
    """

    __slots__ = ("_known", "_mask", "_number", "_of", "_pace", "_pulse", "_seen", "_source", "_test", "results")

    def __init__(
        self,
        test: Verdict,
        number: int,
        of: int,
        pulse: Callable[[], int],
        source: Source,
        known: Verdict,
        pace: Callable[[], float],
    ) -> None:
        self._test = test
        self._pace = pace
        self._number = number
        self._of = of
        self._mask = (1 << of) - 1
        self._pulse = pulse
        self._seen = pulse()
        self._source = source
        self._known = known
        self.results: dict[str, _Results] = {}

    @property
    def needed(self) -> int:
        """How many good runs end it, if all before were bad."""
        return self._of - self._number + 1

    @property
    def size(self) -> tuple[int, int]:
        """How many of how many."""
        return self._number, self._of

    @property
    def missing(self) -> int:
        """How many more bad runs it takes, at least, where the last one was bad; 0 if none was."""
        some = [max(1, self._number - one.bits.bit_count()) for one in self.results.values() if one.bits & 1]
        return min(some, default=0)

    def verdict(self, now: float) -> bool | None:
        """Whether it did, as of now; counts a run that came since it was asked last."""
        pulse = self._pulse()
        if pulse != self._seen:
            self._seen = pulse
            result = self._test(now)
            if result is not None:
                self._came(self._source(), result, now)
        good, number, enough = None, self._number, self._of - self._number
        for results in self.results.values():
            held = results.bits.bit_count()
            if held >= number:
                return True if self._known(now) is not None else None
            if results.number - held > enough:
                good = False
        return good

    def _came(self, source: str, result: bool, now: float) -> None:
        """Note a run; those before a hole as long as all of them say nothing any more."""
        results = self.results.get(source)
        if results is None:
            results = self._made(source, now, SELDOM * self._pace())
        else:
            gap, pace = now - results.at, results.pace
            if gap > HOLE and self._is_over(results, now):
                results.bits = results.number = 0
                gap = min(gap, _SLOWER * max(pace, HOLE))
            half = 0.5 * pace  # what comes in bursts pauses between them
            results.at, results.pace = now, half if gap < half < _FOREVER else gap
        self._add(results, result)

    def _add(self, results: _Results, result: bool) -> None:
        results.bits = (results.bits << 1 | result) & self._mask
        if results.number < self._of:
            results.number += 1

    def _is_over(self, results: _Results, now: float) -> bool:
        gap = now - results.at
        return gap > HOLE and gap > self._of * results.pace

    def _made(self, source: str, at: float, pace: float) -> _Results:
        if len(self.results) >= _MOST_SOURCES:
            del self.results[next(iter(self.results))]
        results = self.results[source] = _Results(at, pace)
        return results

    def forget(self, source: str) -> None:
        """An instance runs no more."""
        self.results.pop(source, None)

    def resume(self) -> None:
        """Other instances count from now on than before: that is no run."""
        self._seen = self._pulse()

    def clear(self) -> None:
        """Forget all runs."""
        self.results.clear()

    def lasting(self, now: float) -> dict[str, list[bool]]:
        """How the runs of each instance went, as plain data: of those that say something still."""
        return {source: one.rows for source, one in self.results.items() if not self._is_over(one, now)}

    def pace_of(self, source: str) -> float:
        """Seconds from one run of an instance to the next, lately."""
        return self.results[source].pace

    def restore(self, kept: Any, at: float, pace: float) -> None:
        """Put back what `lasting` gave; what is no such thing is left out.

        Args:
            kept: from the store.
            at: since when a next run is waited for.
            pace: seconds from one to the next, then.
        """
        if isinstance(kept, dict):
            for source, results in kept.items():
                if isinstance(results, list) and results:
                    made = self.results.get(source) or self._made(str(source), at, pace)
                    for result in results:
                        self._add(made, bool(result))

    def follow(self, before: Ring) -> None:
        """Go on where another one was that counts no more."""
        self.results = before.results
