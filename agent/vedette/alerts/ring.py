"""N of M: how a test came out in the last runs of each instance."""

from __future__ import annotations

from collections import deque
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


class _Results(deque[bool]):
    """How the last runs of an instance went.

    Attributes:
        at: when the last one came.
        pace: seconds from one to the next, lately.
    """

    __slots__ = ("at", "pace")

    def __init__(self, most: int, at: float, pace: float) -> None:
        super().__init__(maxlen=most)
        self.at = at
        self.pace = pace


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

    __slots__ = ("_known", "_number", "_of", "_pace", "_pulse", "_seen", "_source", "_test", "results")

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
        some = [max(1, self._number - sum(results)) for results in self.results.values() if results[-1]]
        return min(some, default=0)

    def __call__(self, now: float) -> bool | None:
        """Whether it did, as of now; counts a run that came since it was asked last."""
        pulse = self._pulse()
        if pulse != self._seen:
            self._seen = pulse
            result = self._test(now)
            if result is not None:
                self._came(self._source(), result, now)
        good = False
        for results in self.results.values():
            held = sum(results)
            if held >= self._number:
                return True if self._known(now) is not None else None
            good = good or len(results) - held > self._of - self._number
        return False if good else None

    def _came(self, source: str, result: bool, now: float) -> None:
        """Note a run; those before a hole as long as all of them say nothing any more."""
        results = self.results.get(source)
        if results is None:
            results = self._made(source, now, SELDOM * self._pace())
        else:
            gap, pace = now - results.at, results.pace
            if self._is_over(results, now):
                results.clear()
                gap = min(gap, _SLOWER * max(pace, HOLE))
            half = 0.5 * pace  # what comes in bursts pauses between them
            results.at, results.pace = now, half if gap < half < _FOREVER else gap
        results.append(result)

    def _is_over(self, results: _Results, now: float) -> bool:
        gap = now - results.at
        return gap > HOLE and gap > self._of * results.pace

    def _made(self, source: str, at: float, pace: float) -> _Results:
        if len(self.results) >= _MOST_SOURCES:
            del self.results[next(iter(self.results))]
        results = self.results[source] = _Results(self._of, at, pace)
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

    @property
    def kept(self) -> dict[str, list[bool]]:
        """How the runs of each instance went, as plain data."""
        return {source: list(results) for source, results in self.results.items()}

    def lasting(self, now: float) -> dict[str, list[bool]]:
        """The same of those that say something still."""
        return {source: list(results) for source, results in self.results.items() if not self._is_over(results, now)}

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
                    made.extend(map(bool, results))

    def follow(self, before: Ring) -> None:
        """Go on where another one was that counts no more."""
        self.results = before.results
