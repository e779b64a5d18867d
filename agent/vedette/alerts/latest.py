"""What was seen last: of one series, of each series of a group, and the worst of some statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window
from vedette.alerts.points import Trail

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.points import Bundle
    from vedette.metrics import Tags

    Ask = Callable[[Any, float], float | None]

MOST_SERIES: Final = 10_000
"""Series of one group that are looked at each by itself, and statuses likewise; more are left out."""
_DETAILED: Final = 50
"""Series of a group that have a long plot."""
_SHORT: Final = 10
_PATIENCE: Final = 3.0
"""Intervals, or pauses between two runs that come less often for a while, after which a status counts no more."""
_MOST_PACE: Final = 16.0
_FOREVER: Final = float("inf")


class Latest(Trail):
    """The newest sample of what has no window; good until it is stale, or its instance ends."""

    __slots__ = ("at", "instance", "seen", "until", "users", "value")

    def __init__(self) -> None:
        super().__init__()
        self.value: float | None = None
        self.at = 0.0
        self.until = 0.0
        self.seen = 0
        self.instance = ""
        self.users: list[Any] = []

    def put(self, time: float, value: float, until: float) -> None:
        """A sample came; it is good until then."""
        self.at = time
        self.value = value
        self.until = until
        self.seen += 1
        times, values = self.times, self.values  # as `add`
        times.append(time)
        values.append(value)
        if len(times) >= self.most:
            self.shorten()

    def put_bundle(self, time: float, _: Bundle, last: float, until: float) -> None:
        """Several came at once."""
        self.put(time, last, until)

    def recall(self, time: float, value: float, until: float) -> None:
        """What came before or before a restart is the latest still where nothing has come since; it is nothing new."""
        if self.value is None:
            self.at, self.value, self.until = self.at or time, value, until
            self.add(time, value)
        elif time == self.at:  # corrected, or its instance has begun anew
            self.value = self.values[-1] = value
            self.until = max(self.until, until)

    def last(self, now: float) -> float | None:
        """The latest sample, unless it is stale."""
        return self.value if now <= self.until else None


class Noticed(Latest):
    """When something came last, where nothing else is asked."""

    __slots__ = ()

    def recall(self, time: float, value: float, until: float) -> None:
        """Nothing came: it is known otherwise when something did."""


class LatestCount(Latest):
    """The newest sample of a count: none since a run that was completed after it, for that run counted nothing.

    Args:
        runs: how many runs its instance has completed.
    """

    __slots__ = ("_run", "_runs")

    def __init__(self, runs: Callable[[], int]) -> None:
        super().__init__()
        self._runs = runs
        self._run = 0

    def put(self, time: float, value: float, until: float) -> None:
        """A sample came, of a run that is not completed yet."""
        super().put(time, value, until)
        self._run = self._runs() + 1

    def recall(self, time: float, value: float, until: float) -> None:
        """The run that counted it is over."""

    def last(self, now: float) -> float | None:
        """The latest sample, unless it is stale or a later run brought none."""
        return self.value if now <= self.until and self._runs() <= self._run else None


Member = Latest | Window


class Each:
    """The series of a group, each with a store of its own: what is asked is asked of each of them.

    Args:
        make: makes the store of a series, by its tags and instance.
        over: seconds that a window of it holds; 0 without windows.
    """

    __slots__ = ("_at", "_before", "_make", "adds_up", "is_zero", "members", "only", "over", "shown", "users")

    def __init__(self, make: Callable[[Tags, str], Member], over: float = 0.0) -> None:
        self._make = make
        self._before = 0
        self._at = 0.0
        self.over = over
        self.adds_up = False
        """Whether the series are parts of a whole: those of a count are."""
        self.is_zero: Callable[[float], bool] = lambda _: False
        self.members: dict[Tags, Member] = {}
        self.only: Member | None = None
        """That of the only series, where there is one and no other."""
        self.shown: Tags = ()
        """The series that was the worst when somebody asked last."""
        self.users: list[Any] = []

    def member(self, tags: Tags, instance: str) -> Member | None:
        """The store of a series, made if it is not there; None without room."""
        made = self.members.get(tags)
        if made is None:
            if len(self.members) >= MOST_SERIES:
                return None
            made = self.members[tags] = self._make(tags, instance)
            made.instance = instance
            made.users = self.users
            self.only = made if len(self.members) == 1 else None
            if isinstance(made, Latest) and len(self.members) > _DETAILED:
                made.most = 2 * _SHORT
        return made

    def drop(self, tags: Tags) -> None:
        """A series is gone."""
        gone = self.members.pop(tags, None)
        self._before += gone.seen if gone is not None else 0
        self.only = next(iter(self.members.values())) if len(self.members) == 1 else None

    @property
    def seen(self) -> int:
        """How many samples came."""
        if self.only is not None:
            return self._before + self.only.seen
        return self._before + sum(one.seen for one in self.members.values())

    @property
    def at(self) -> float:
        """When a latest value came last."""
        return max((one.at for one in self.members.values() if isinstance(one, Latest)), default=self._at)

    @at.setter
    def at(self, time: float) -> None:
        """When one came of which nothing else is known any more."""
        self._at = time

    def worst(self, ask: Ask, score: Callable[[float], float], now: float, source: str | None = None) -> float | None:
        """Of what the series answer that which is worst; of counts the sum.

        Args:
            ask: what to ask each.
            score: how bad an answer is.
            now: Unix seconds.
            source: only of this instance's series.
        """
        if self.adds_up:
            return self.sum(ask, now, source)
        found: float | None = None
        most = 0.0
        for tags, one in self.members.items():
            if (source is None or one.instance == source) and (value := ask(one, now)) is not None:
                bad = score(value)
                if found is None or bad > most:
                    found, most = value, bad
                    if source is None:
                        self.shown = tags
        return found

    def sum(self, ask: Ask, now: float, source: str | None = None) -> float | None:
        """What the series answer, together."""
        total: float | None = None
        for tags, one in self.members.items():
            if (source is None or one.instance == source) and (value := ask(one, now)) is not None:
                total = value if total is None else total + value
                self.shown = tags
        return 0.0 if total is None and self.adds_up and self.is_zero(now) else total

    def plot(self) -> tuple[tuple[float, float], ...]:
        """The plot of the series that was the worst."""
        shown = self.members.get(self.shown) or next(iter(self.members.values()), None)
        return shown.plot() if shown is not None else ()

    @property
    def named(self) -> str:
        """The tags of that series in which it differs from others; empty where it is the only one."""
        if len(self.members) < 2 or self.adds_up or self.shown not in self.members:
            return ""
        common = set.intersection(*(set(tags) for tags in self.members))
        return ",".join(tag for tag in self.shown if tag not in common)


class _Said:
    """A status that was reported."""

    __slots__ = ("at", "message", "until", "value")

    def __init__(self) -> None:
        self.value = 0
        self.message = ""
        self.at = 0.0
        self.until = 0.0


class Worst(Trail):
    """The worst of the newest statuses of some instances, or of some series of a service check.

    Each is good for three intervals: a check that does not report it any more is not well for ever.
    """

    __slots__ = ("_soonest", "at", "said", "seen", "users")

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[tuple[str, Tags], _Said] = {}
        """By instance and tags."""
        self._soonest = _FOREVER
        self.at = 0.0
        self.seen = 0
        self.users: list[Any] = []

    def put(self, key: tuple[str, Tags], time: float, value: int, message: str, interval: float) -> None:
        """A status came.

        Args:
            key: instance and tags.
            time: Unix seconds.
            value: how bad it is.
            message: what it says.
            interval: seconds until the next one, 0 where nobody knows.
        """
        said = self.said.get(key)
        if said is None:
            if len(self.said) >= MOST_SERIES:
                del self.said[next(iter(self.said))]
            said = self.said[key] = _Said()
        pace = max(interval, min(time - said.at, _MOST_PACE * interval) if said.at else 0.0)
        said.value, said.message, said.at = value, message, time
        said.until = time + _PATIENCE * pace if interval else _FOREVER
        self._soonest = min(self._soonest, said.until)
        self.at = time
        self.seen += 1
        self.add(time, value)

    def last(self, now: float) -> float | None:
        """The worst, or None if nothing was reported lately."""
        worst = None
        for one in self._fresh(now).values():
            if worst is None or one.value > worst:
                worst = one.value
        return worst

    def of(self, source: str, now: float) -> float | None:
        """The worst of an instance."""
        worst = None
        for (name, _), one in self._fresh(now).items():
            if name == source and (worst is None or one.value > worst):
                worst = one.value
        return worst

    def _fresh(self, now: float) -> dict[tuple[str, Tags], _Said]:
        if now > self._soonest:
            self.said = {key: one for key, one in self.said.items() if one.until >= now}
            self._soonest = min((one.until for one in self.said.values()), default=_FOREVER)
        return self.said

    @property
    def message(self) -> str:
        """What the worst one says."""
        worst = max(self.said.values(), key=lambda one: one.value, default=None)
        return worst.message if worst is not None else ""

    def unreported(self, instance: str, time: float) -> list[tuple[str, Tags]]:
        """What an instance reported before, and not now."""
        return [key for key, one in self.said.items() if key[0] == instance and one.at != time]

    def forget(self, instance: str) -> None:
        """Nothing more comes from there."""
        for key in [key for key in self.said if key[0] == instance]:
            del self.said[key]
