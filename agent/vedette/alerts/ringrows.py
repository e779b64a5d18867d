"""How N of M runs outlast a restart: a row for each rule and group, also of those of which nothing came yet since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.ring import HOLE, SELDOM

if TYPE_CHECKING:
    from vedette.alerts.book import Book
    from vedette.alerts.clock import Steady
    from vedette.alerts.rule import Case
    from vedette.alerts.runs import Runs

_LEFT: Final = 3_600.0
"""Seconds, or `_RUNS`, after which a row that nobody asked for is let go."""
_RUNS: Final = 100.0


class RingRows:
    """The rows of an earlier process, and those for the next one.

    Args:
        kept: what the store has.
        clock: of the engine.
        lived: when the earlier process was seen to be alive last, by the clock.
    """

    def __init__(self, kept: object, clock: Steady, lived: float) -> None:
        rows = kept.items() if isinstance(kept, dict) else ()
        self._written = {key: _without_pace(row) for key, row in rows if isinstance(row, dict)}
        self._waiting = {key: {"at": lived, **row} for key, row in rows if isinstance(row, dict)}
        self._clock = clock

    def restore(self, case: Case) -> None:
        """Put back how the last runs went, unless too many are missing since."""
        row = self._waiting.pop(case.key, None)
        rings = row.get("rings") if row is not None else None
        if row is None or not isinstance(rings, list):
            return
        now, every = self._clock.now(), _number(row.get("every"))
        away = self._clock.wall(now) - _number(row["at"])
        for ring, results in zip(case.compiler.rings, rings, strict=False):
            if away <= max(HOLE, ring.size[1] * every):
                ring.restore(results, now, every)

    def changed(self, book: Book, runs: Runs, now: float) -> dict[str, Any] | None:
        """What the store should have from now on; None if it has that."""
        cases = {case.key: case for case in book if case.compiler.rings}
        rows: dict[str, Any] = {
            key: {"rings": [ring.lasting(now) for ring in case.compiler.rings]} for key, case in cases.items()
        }
        if self._waiting:
            wall = self._clock.wall(now)
            self._waiting = {key: row for key, row in self._waiting.items() if _may_count(row, wall)}
            rows = {**{key: _without_pace(row) for key, row in self._waiting.items()}, **rows}
        if rows == self._written:
            return None
        self._written = rows
        every = {key: _slowest(case, runs) for key, case in cases.items()}
        every |= {key: row.get("every", 0.0) for key, row in self._waiting.items() if key not in every}
        return {key: {"every": every[key], **row} for key, row in rows.items()}


def _without_pace(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "every"}


def _may_count(row: dict[str, Any], wall: float) -> bool:
    return abs(wall - _number(row["at"])) <= max(_LEFT, _RUNS * _number(row.get("every")))


def _slowest(case: Case, runs: Runs) -> float:
    """Seconds from run to run: the interval, where they do not come much more seldom."""
    slowest = 0.0
    for ring in case.compiler.rings:
        for source in ring.results:
            pace, interval = ring.pace_of(source), runs.intervals.get(source, 0.0)
            every = interval if interval and pace <= SELDOM * interval else pace
            slowest = max(slowest, every if every < float("inf") else 0.0)
    return slowest


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
