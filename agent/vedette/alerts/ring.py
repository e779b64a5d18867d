"""N of M: how a test came out in the last runs of each instance."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.verdicts import Source, Verdict

_MOST_SOURCES: Final = 1_000
_NEVER: Final = float("nan")
HOLE: Final = 60.0
"""Seconds that may be missing of N of M runs, however many there were meanwhile."""


class _Results(deque[bool]):
    """How the last runs of an instance went.

    Attributes:
        at: when the last one came; NaN if that is not known.
        pace: seconds from one to the next, lately.
    """

    __slots__ = ("at", "pace")

    def __init__(self, most: int) -> None:
        super().__init__(maxlen=most)
        self.at = self.pace = _NEVER


class Ring:
    """Whether a test held in so many of the last runs of any one instance.

    Args:
        test: the test.
        number: how many.
        of: of how many.
        pulse: is different after each run.
        source: the instance that ran last.
        known: the test as of all instances: None once nothing that was seen counts any more.
    """

    __slots__ = ("_known", "_number", "_of", "_pulse", "_seen", "_source", "_test", "results")

    def __init__(
        self, test: Verdict, number: int, of: int, pulse: Callable[[], int], source: Source, known: Verdict
    ) -> None:
        self._test = test
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
            results = self._made(source)
        gap = now - results.at
        if gap > HOLE and self._is_over(results, now):
            results.clear()
        half = 0.5 * results.pace  # what comes in bursts pauses between them
        results.at, results.pace = now, half if half > gap else gap
        results.append(result)

    def _is_over(self, results: _Results, now: float) -> bool:
        gap = now - results.at
        return gap > HOLE and gap > self._of * results.pace

    def _made(self, source: str) -> _Results:
        if len(self.results) >= _MOST_SOURCES:
            del self.results[next(iter(self.results))]
        results = self.results[source] = _Results(self._of)
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

    def restore(self, kept: Any) -> None:
        """Put back what `kept` gave; what is no such thing is left out."""
        if isinstance(kept, dict):
            for source, results in kept.items():
                if isinstance(results, list) and results:
                    made = self.results.get(source) or self._made(str(source))
                    made.extend(map(bool, results))
