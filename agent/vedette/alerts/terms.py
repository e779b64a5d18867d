"""What conditions look at, shared between rules: for each value or status in them, a window for each group of tags.

A sample finds its windows through one look-up by name and tags; only what a rule asks for is kept at all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import PLOTTED, Latest, Window
from vedette.metrics import Kind, Sketch, Status
from vedette.rules.catalogue import is_counted
from vedette.rules.tree import STATUSES, Selector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vedette.metrics import Batch, Sample, Tags
    from vedette.rules.model import Source
    from vedette.rules.tree import Tag

Group = tuple[str, ...]
"""The values of the tags that a condition is grouped by."""

MOST_GROUPS: Final = 1_000
"""Groups of one value; more are left out, and counted."""
BADNESS: Final = {Status.OK: 0, Status.WARNING: 1, Status.UNKNOWN: 2, Status.CRITICAL: 3}
CRITICAL: Final = STATUSES.index("critical")
_STALE: Final = 3
"""Intervals after which a latest value counts no more, as in the prometheus sink."""
_AGAIN: Final = 60.0
"""Seconds between two attempts to make room for new groups."""
_FOREVER: Final = float("inf")


class Worst:
    """The worst of the newest statuses of some instances or series."""

    __slots__ = ("at", "messages", "points", "seen", "users", "values")

    def __init__(self) -> None:
        self.values: dict[object, int] = {}
        self.messages: dict[object, str] = {}
        self.at = 0.0
        self.seen = 0
        self.users: list[Any] = []
        self.points: deque[tuple[float, float]] = deque(maxlen=PLOTTED)

    def put(self, source: object, time: float, value: int, message: str) -> None:
        """A status came."""
        self.values[source] = value
        self.messages[source] = message
        self.at = time
        self.seen += 1
        self.points.append((time, float(value)))

    def last(self, _: float) -> float | None:
        """The worst, or None if nothing came yet."""
        return max(self.values.values(), default=None)

    @property
    def message(self) -> str:
        """What the worst one says."""
        worst = max(self.values, key=lambda one: self.values[one], default=None)
        return self.messages.get(worst, "")

    def forget(self, source: object) -> None:
        """Nothing more comes from there."""
        self.values.pop(source, None)
        self.messages.pop(source, None)

    def plot(self) -> tuple[tuple[float, float], ...]:
        """Time and badness of the latest ones."""
        return tuple(self.points)


Store = Window | Latest | Worst


@dataclass(slots=True)
class Term:
    """One value or status that conditions look at, with what was seen of it in each group.

    Attributes:
        text: what it is called, among all that look at the same.
        by: the tags that it is grouped by.
        make: makes the store of a group.
        sources: who may emit it.
        counted: whether nothing coming means 0.
        rules: those that must know of new groups.
    """

    text: str
    by: tuple[str, ...]
    make: Callable[[Group], Store]
    selector: Selector | None = None
    sources: tuple[Source, ...] = ()
    counted: bool = False
    stores: dict[Group, Store] = field(default_factory=dict)
    rules: list[Any] = field(default_factory=list)
    left_out: int = 0

    def store(self, group: Group) -> Store:
        """That of a group, made if it is not there."""
        made = self.stores.get(group)
        if made is None:
            made = self.stores[group] = self.make(group)
        return made

    def read_by(self, group: Group) -> Store:
        """What a group's condition looks at: its own, or that of series which lack the tags."""
        return self.stores[()] if self.by and group not in self.stores and () in self.stores else self.store(group)


@dataclass(slots=True)
class Route:
    """Where the samples of one series go.

    Attributes:
        number: its own, which tells its points from others'.
        stores: the windows.
        total: the last value and time of what is cumulative.
        newest: the newest time that a sample brought with it.
    """

    number: int
    stores: list[Window | Latest]
    total: tuple[float, float] | None = None
    newest: float = 0.0


_UNSEEN: Final = Route(0, [])
_COUNTER: Final = Kind.COUNTER
_RATE: Final = Kind.RATE
_TOTALS: Final = frozenset((_COUNTER, _RATE))


class Router:
    """Brings samples and statuses to the terms that look at them."""

    def __init__(self) -> None:
        self._metrics: dict[str, list[Term]] = {}
        self._checks: dict[str, list[Term]] = {}
        self._instances: list[tuple[str, Term]] = []
        self._routes: dict[tuple[str, Tags], Route | None] = {}
        self._of: dict[str, set[tuple[str, Tags]]] = {}
        self._known: dict[str, list[Worst]] = {}
        self._number = 0
        self.born: Callable[[Term, Group], None] = lambda _term, _group: None
        """Called when a group is seen for the first time."""
        self.full: Callable[[Term, float], None] = lambda _term, _now: None
        """Called when there is no room for one more group: to make some."""
        self._now = 0.0
        self._tried: dict[str, float] = {}

    def watch(self, terms: Iterable[Term], statuses: Iterable[tuple[str, Term]]) -> None:
        """Look at just these from now on.

        Args:
            terms: of metrics.
            statuses: of instances (`check/name`, `check/*`) and service checks.
        """
        self._metrics, self._checks, self._instances = {}, {}, []
        totals = {key: route for key, route in self._routes.items() if route is not None}
        self._routes, self._known = {}, {}
        for term in terms:
            if term.selector is not None:
                self._metrics.setdefault(term.selector.metric, []).append(term)
        for target, term in statuses:
            if "/" in target:
                self._instances.append((target, term))
            else:
                self._checks.setdefault(target, []).append(term)
        for key, before in totals.items():
            route = self._find(key[0], key[1], None)
            if route is not None:
                route.total, route.newest, route.number = before.total, before.newest, before.number

    def samples(self, batch: Batch, touched: list[Store]) -> None:
        """Take a batch's samples; the stores that got some are added to `touched`."""
        routes, metrics, time = self._routes, self._metrics, batch.time
        self._now = time
        until = time + _STALE * batch.interval if batch.interval else _FOREVER
        timed: list[Sample] = []
        for sample in batch.samples:
            name, kind, value, tags, own = sample
            if name not in metrics:
                continue
            route = routes.get((name, tags), _UNSEEN)
            if route is _UNSEEN:
                route = self._find(name, tags, batch.instance)
            if route is None:
                continue
            if own is not None:
                timed.append(sample)
            elif value.__class__ is float and kind not in _TOTALS:  # what most samples are, as cheap as it gets
                point = (time, 1, value, value, value, value, route.number)
                for store in route.stores:
                    if store.__class__ is Window:
                        store.add(point)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
                    else:
                        store.put(time, value, until)  # type: ignore[union-attr]
                    touched.append(store)
            else:
                self._put(route, sample, time, time, until, touched)
        if timed:
            self._timed(timed, time, until, touched)

    def _timed(self, samples: list[Sample], now: float, until: float, touched: list[Store]) -> None:
        """Samples of another time than the run's: the newest of a series counts as of now, the others before it."""
        newest: dict[tuple[str, Tags], float] = {}
        for one in samples:
            key = (one.name, one.tags)
            newest[key] = max(newest.get(key, 0.0), one.time or 0.0)
        for one in sorted(samples, key=lambda one: one.time or 0.0):
            key = (one.name, one.tags)
            route, time = self._routes[key], one.time or 0.0
            if route is None:
                continue
            delay = max(0.0, now - max(newest[key], route.newest))
            if time <= route.newest:
                self._corrected(route, one, time + delay)
            else:
                route.newest = time
                self._put(route, one, time + delay, time, until, touched)

    @staticmethod
    def _corrected(route: Route, sample: Sample, time: float) -> None:
        """What was reported again replaces what was reported before, if that is still here."""
        if isinstance(sample.value, str | Sketch):
            return
        for store in route.stores:
            if isinstance(store, Window):
                store.replace(time, route.number, float(sample.value))

    def _put(self, route: Route, sample: Sample, time: float, taken: float, until: float, touched: list[Store]) -> None:
        value: Any = sample.value
        kind = sample.kind
        if kind is _COUNTER or kind is _RATE:
            number = float(value)
            before, route.total = route.total, (number, taken)
            if before is None or number < before[0] or taken <= before[1]:
                return
            value = number - before[0]
            if kind is _RATE:
                value /= taken - before[1]
        shape = value.__class__
        if shape is float:
            point = (time, 1, value, value, value, value, route.number)
        elif shape is Sketch:
            if not value.count:
                return
            point = (time, value.count, value.sum, value.min, value.max, value.sum / value.count, route.number)
        else:
            number = 1.0 if shape is str else float(value)
            point = (time, 1, number, number, number, number, route.number)
        for store in route.stores:
            if store.__class__ is Window:
                store.add(point)  # pyright: ignore[reportAttributeAccessIssue]
            else:
                store.put(time, point[5], until)  # type: ignore[union-attr]
            touched.append(store)

    def _find(self, name: str, tags: Tags, instance: str | None) -> Route | None:
        """The route of a series that is seen for the first time."""
        stores: list[Window | Latest] = []
        for term in self._metrics.get(name, ()):
            if term.selector is not None and fits(term.selector.tags, tags):
                store = self._store(term, tags)
                if isinstance(store, Window | Latest):
                    stores.append(store)
        self._number += 1
        route = Route(self._number, stores) if stores else None
        self._routes[name, tags] = route
        if instance is not None:
            self._of.setdefault(instance, set()).add((name, tags))
        return route

    def _store(self, term: Term, tags: Tags) -> Store | None:
        group = group_of(term.by, tags)
        if group in term.stores:
            return term.stores[group]
        if len(term.stores) >= MOST_GROUPS and self._now - self._tried.get(term.text, 0.0) > _AGAIN:
            self._tried[term.text] = self._now
            self.full(term, self._now)
        if len(term.stores) >= MOST_GROUPS:
            term.left_out += 1
            return None
        store = term.store(group)
        self.born(term, group)
        return store

    def statuses(self, batch: Batch, value: int, message: str, touched: list[Store]) -> None:
        """Take a batch's statuses and the status of the run itself."""
        for worst in self._of_instance(batch.instance):
            worst.put(batch.instance, batch.time, value, message)
            touched.append(worst)
        if not self._checks:
            return
        for check in batch.statuses:
            for term in self._checks.get(check.name, ()):
                if term.selector is not None and fits(term.selector.tags, check.tags):
                    store = self._store(term, check.tags)
                    if isinstance(store, Worst):
                        store.put(check.tags, batch.time, BADNESS[check.status], check.message)
                        touched.append(store)

    def _of_instance(self, instance: str) -> list[Worst]:
        known = self._known.get(instance)
        if known is None:
            known = self._known[instance] = []
            for target, term in self._instances:
                if fnmatchcase(instance, target):
                    store = self._store(term, (f"instance:{instance.partition('/')[2]}",))
                    if isinstance(store, Worst):
                        known.append(store)
        return known

    def drop(self, store: Store) -> None:
        """A group is gone: its series are looked up anew should they come again."""
        for key in [key for key, route in self._routes.items() if route is not None and store in route.stores]:
            del self._routes[key]

    def forget(self, instance: str) -> None:
        """An instance ends: what it was seen to emit is gone."""
        for worst in self._known.pop(instance, ()):
            worst.forget(instance)
        for key in self._of.pop(instance, ()):
            route = self._routes.pop(key, None)
            for store in route.stores if route is not None else ():
                if isinstance(store, Latest):
                    store.until = 0.0


def fits(wanted: Sequence[Tag], tags: Tags) -> bool:
    """Whether a series has the tags that are wanted."""
    for tag in wanted:
        pairs = (one.partition(":") for one in tags)
        has = any(key == tag.key and fnmatchcase(value, tag.value) for key, _, value in pairs)
        if has is not tag.wanted:
            return False
    return True


def group_of(by: tuple[str, ...], tags: Tags) -> Group:
    """The values of these tags; empty where one is missing."""
    if not by:
        return ()
    values: dict[str, str] = {}
    for tag in tags:
        key, _, value = tag.partition(":")
        if key in by:
            values[key] = f"{values[key]},{value}" if key in values else value
    return tuple(values[key] for key in by) if len(values) == len(by) else ()


def counted(kinds: dict[str, tuple[str, str]], selector: Selector) -> bool:
    """Whether nothing that came of these series means that nothing happened."""
    return is_counted(kinds.get(selector.metric, ("", ""))[0])
