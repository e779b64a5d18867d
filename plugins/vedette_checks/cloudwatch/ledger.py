"""How far each series was read and what was sent of it: what a run starts from, also after a restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from secrets import token_hex
from typing import Any

from vedette import Emit
from vedette_checks.cloudwatch.config import CloudWatchConfig
from vedette_checks.cloudwatch.series import Series

MARKS = "marks"
"""Key of the instance's state: by region and period, up to when all series were read, and the few that are behind."""

LISTED_AFTER = 900
"""Seconds after which ListMetrics has a new metric.

Source: Amazon CloudWatch API Reference, ListMetrics: "up to 15 minutes".
"""


class Ledger:
    """The watermarks of one instance.

    Only what was committed counts: a run begins with the state, and what the one before sent is believed to be sent
    only if its marks are in it. What was sent is kept in memory for as long as it is read again; after a restart that
    much is sent once more, with the same times. A series that was not read by this process is read from further back:
    it may have begun before it was found.

    Args:
        config: the options.
        state: what was committed.
    """

    def __init__(self, config: CloudWatchConfig, state: Mapping[str, Any]) -> None:
        self._delay = config.delay
        self._reread = config.reread
        self._catch_up = config.catch_up
        # a new series is listed some time after its first point, and looked for now and then
        self._unseen = max(config.reread, config.discover_every + LISTED_AFTER) if config.discover else config.reread
        self._seen: set[str] = set()
        self._state = state
        self._sent: dict[str, dict[int, float]] = {}
        self._pending: dict[str, dict[int, float]] = {}
        self._offered: Any = None
        self._marks: dict[str, Any] = {}
        self._done: dict[str, int] = {}
        self.gaps = 0
        """Series of this run that have not been read for longer than `catch_up`."""

    def begin(self) -> None:
        """A run begins."""
        stored = self._state.get(MARKS)
        if stored is not None and stored == self._offered:
            for key, points in self._pending.items():
                self._sent.setdefault(key, {}).update(points)
            self._seen.update(self._done)
        self._pending, self._done = {}, {}
        self._marks = dict(stored.get("groups", {})) if isinstance(stored, dict) else {}
        self.gaps = 0

    def end(self, series: Series, now: float) -> int:
        """Where the last period ends that is old enough to be read, Unix seconds."""
        return int((now - self._delay) // series.period) * series.period

    def mark(self, series: Series) -> int | None:
        """Up to when the series was read; None for the first of its kind."""
        group = self._marks.get(series.group)
        if group is None:
            return None
        found: int = group["late"].get(series.key, group["mark"])
        return found

    def behind(self, region: str, now: float) -> float:
        """How far back a series of a region may have points that were not read, seconds; at most `catch_up`."""
        marks = [
            (group["mark"], int(name.rpartition("/")[2]))
            for name, group in self._marks.items()
            if name.rpartition("/")[0] == region
        ]
        silent = max((now - mark - period for mark, period in marks), default=0.0)
        return min(silent + LISTED_AFTER, self._catch_up) if marks else 0.0

    def window(self, series: Series, now: float) -> tuple[int, int] | None:
        """What to read: what is new, and a stretch before it again. None while no period has ended since the last."""
        period, end, mark = series.period, self.end(series, now), self.mark(series)
        if mark is not None and end <= mark:
            return None
        new = end - period if mark is None else min(mark, end - period)
        earliest = end - max(self._catch_up, period)
        self.gaps += new < earliest
        again = self._reread
        if mark is not None and series.key not in self._seen:
            again = max(again, min(self._unseen, max(new, earliest) - earliest))
        start = int((max(new, earliest) - again) // period) * period
        return min(start, end - period), end

    def take(
        self, series: Series, points: Mapping[int, float], window: tuple[int, int], *, complete: bool
    ) -> list[tuple[int, float]]:
        """What is to be sent of the points of a window, oldest first: those that were not, and those that changed.

        Args:
            series: whose.
            points: values by time, as read.
            window: start, and end (exclusive).
            complete: whether CloudWatch says that these are all.
        """
        start, end = window
        found = dict(points)
        if points and (min(points) < start or max(points) >= end):
            found = {time: value for time, value in points.items() if start <= time < end}
        if complete:
            self._done[series.key] = end
            if series.nil_to_zero:
                found = {**dict.fromkeys(range(start, end, series.period), 0.0), **found}
        sent = self._sent.get(series.key, {})
        for time in [time for time in sent if time < start]:
            del sent[time]
        news = {time: value for time, value in found.items() if sent.get(time) != value}
        if news:
            self._pending[series.key] = news
        return sorted(news.items())

    def conclude(self, asked: Iterable[tuple[Series, int]], emit: Emit, unknown: Collection[str] = ()) -> None:
        """Note how far each series was read, with the batch that has what was sent.

        Args:
            asked: all series there are, also those that were not due, with the end of the window that is to be read.
            emit: the run's.
            unknown: regions of which it is not known yet which series there are: what is stored of those stays.
        """
        groups: dict[str, dict[str, int]] = {}
        for series, end in asked:
            mark = self._done.get(series.key, self.mark(series))
            groups.setdefault(series.group, {})[series.key] = end - series.period if mark is None else mark
        marks = dict(self._marks)
        for name, each in groups.items():
            usual, stored = Counter(each.values()).most_common(1)[0][0], self._marks.get(name)
            if name.rpartition("/")[0] in unknown:
                if stored is None:
                    continue  # else what is found with the next run would be taken for read
                usual, each = stored["mark"], {**stored["late"], **each}
            marks[name] = {"mark": usual, "late": {key: mark for key, mark in each.items() if mark != usual}}
        known = {key for each in groups.values() for key in each}
        self._sent = {key: points for key, points in self._sent.items() if key in known}
        self._seen &= known
        # the token tells this run's marks from equal ones of another run, whose points may have been lost
        self._offered = {"token": token_hex(4), "groups": marks}
        emit.commit(MARKS, self._offered)
