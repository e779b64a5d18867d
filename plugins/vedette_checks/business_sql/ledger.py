"""Which windows were reported, which are due, and what was sent for them: what survives a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from vedette import Emit, Kind
from vedette_checks.business_sql.columns import Point
from vedette_checks.business_sql.config import BusinessSqlConfig
from vedette_checks.business_sql.windows import Grid, Window

MARK, SENT = "watermark", "sent"
"""Keys of the instance's state: the end of the last window reported; by its end, for each of the last few windows, the
series that were sent and a digest of each value."""


class Ledger:
    """The windows of one instance.

    Args:
        grid: all windows there are.
        config: the options.
        state: what was committed.
    """

    def __init__(self, grid: Grid, config: BusinessSqlConfig, state: Mapping[str, Any]) -> None:
        if config.window is None:
            raise ValueError("there are no windows without `window`")
        self._grid = grid
        self._lag = config.window.lag
        self._most = config.catch_up
        self._restate = config.restate
        self._state = state
        self._mark: int | None = None
        self._tried = False
        self._sent: dict[str, dict[str, str]] | None = None
        self._kinds = {
            column.metric: Kind(column.type)
            for query in config.queries
            for column in query.columns.values()
            if column.type != "tag"
        }

    @property
    def mark(self) -> int | None:
        """The end of the last window that was reported, in this run or by the state; None at first."""
        if self._mark is not None:
            return self._mark
        stored = self._state.get(MARK)
        return stored if isinstance(stored, int) else None

    def next_due(self, after: float, pause: float) -> float:
        """When to run next: when the next window has ended and its lag is over.

        Args:
            after: Unix seconds.
            pause: seconds until the next try while there is a window that could not be reported.
        """
        mark = self.mark
        closed = self._grid.closed(after - self._lag)
        if mark is None or mark < closed.end:
            return after + (pause if self._tried else 0.0)
        return self._grid.at(mark).end + self._lag

    def behind(self, now: float) -> int:
        """How many windows have closed and are still to be reported."""
        mark, closed = self.mark, self._grid.closed(now - self._lag)
        if mark is None:
            return 1
        return self._grid.count(mark, closed.end)

    def begin(self) -> None:
        """A run begins. What an earlier one did counts only as far as it was committed."""
        self._tried = True
        self._mark = self._sent = None

    def skip(self, now: float, emit: Emit) -> int:
        """Give up the windows that are more than may be caught up on; returns how many."""
        mark = self.mark
        if mark is None:
            return 0
        first = self._grid.closed(now - self._lag)
        for _ in range(self._most - 1):
            if first.start <= mark:
                return 0
            first = self._grid.at(first.start - 1)
        lost = self._grid.count(mark, first.start)
        if lost:
            self._mark = first.start
            emit.commit(MARK, first.start)
        return lost

    def due(self, now: float) -> Iterator[Window]:
        """The windows that have closed and were not reported, the oldest first."""
        last = self._grid.closed(now - self._lag)
        window = last if self.mark is None else self._grid.at(self.mark)
        while window.end <= last.end:
            yield window
            window = self._grid.after(window)

    async def promise(self, window: Window, emit: Emit) -> None:
        """Before anything is sent for the very first time: write down from where on.

        What is committed with a batch is on disk only once the sinks have it; a kill before that would make the next
        start a first one again, which reports the last window only.
        """
        if self.mark is None:
            await emit.save(MARK, window.start)

    def reported(self, window: Window, points: Sequence[Point], emit: Emit) -> None:
        """Note that a window was reported, with the batch that does."""
        self._mark = window.end
        emit.commit(MARK, window.end)
        if self._restate:
            sent = self._kept()
            sent[str(window.end)] = _digests(points)
            for end in sorted(sent, key=int)[: -(self._restate + 1)]:
                del sent[end]
            emit.commit(SENT, sent)

    def to_restate(self) -> Iterator[Window]:
        """The windows before the last one that are to be read again, the latest first."""
        mark = self.mark
        if mark is None:
            return
        window = self._grid.at(self._grid.at(mark - 1).start - 1)
        for _ in range(self._restate):
            if str(window.end) in self._kept():
                yield window
            window = self._grid.at(window.start - 1)

    def changed(self, window: Window, points: Sequence[Point], emit: Emit, *, complete: bool) -> list[Point]:
        """The values that are not what was sent; they are noted as sent, with the batch that does.

        Args:
            window: which.
            points: its values now.
            emit: the run's.
            complete: whether these are all; then a series that is gone has the value 0, or the old one would stand.
        """
        sent = self._kept()
        before = sent.get(str(window.end), {})
        if complete:
            now = _digests(points)
            points = [*points, *(point for key in before if key not in now for point in self._nought(key))]
        now = _digests(points)
        news = [point for point in points if before.get(_series(point)) != now[_series(point)]]
        if news:
            sent[str(window.end)] = {**before, **now}
            emit.commit(SENT, sent)
        return news

    def _nought(self, key: str) -> Iterator[Point]:
        name, *tags = json.loads(key)
        kind = self._kinds.get(name)
        if kind is Kind.GAUGE or kind is Kind.COUNT:  # an observation that was made cannot be taken back
            yield Point(name, kind, 0, tuple(tags))

    def _kept(self) -> dict[str, dict[str, str]]:
        if self._sent is None:
            stored = self._state.get(SENT)
            self._sent = {end: dict(one) for end, one in stored.items()} if isinstance(stored, dict) else {}
        return self._sent


def _series(point: Point) -> str:
    return json.dumps([point.name, *sorted(point.tags)])


def _digests(points: Sequence[Point]) -> dict[str, str]:
    """A short digest of each series' value, by its name and tags."""
    return {_series(point): blake2b(str(point.value).encode(), digest_size=6).hexdigest() for point in points}
