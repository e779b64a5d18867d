"""N of M: how a test came out in the last runs of each instance."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.verdicts import Source, Verdict

_MOST_SOURCES: Final = 1_000


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
