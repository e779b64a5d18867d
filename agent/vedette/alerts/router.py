"""Brings samples and statuses to the terms that look at them.

A sample finds its stores through one look-up by name and tags; only what a rule asks for is kept at all.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING, Final

from vedette.alerts.history import Window
from vedette.alerts.latest import Each, Latest, Worst
from vedette.alerts.route import IDLE, Route
from vedette.alerts.terms import BADNESS, CRITICAL, MOST_GROUPS, fits, group_of, is_empty
from vedette.metrics import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vedette.alerts.terms import Group, Store, Term
    from vedette.metrics import Batch, Sample, Tags

    Key = tuple[str, Tags]

_STALE: Final = 3
"""Intervals after which a latest value counts no more, as in the prometheus sink."""
_AGAIN: Final = 60.0
"""Seconds between two attempts to make room for new groups."""
_SWEEP: Final = 300.0
_LEFT: Final = 86_400.0
"""Seconds after which nobody sends samples again."""
_FOREVER: Final = float("inf")
_COUNTER: Final = Kind.COUNTER
_RATE: Final = Kind.RATE


class Router:
    """Knows who looks at what."""

    def __init__(self) -> None:
        self._metrics: dict[str, list[Term]] = {}
        self._checks: dict[str, list[Term]] = {}
        self._instances: list[tuple[str, Term]] = []
        self._routes: dict[Key, Route] = {}
        self._of: dict[str, set[Key]] = {}
        self._known: dict[str, list[Worst]] = {}
        self._reported: dict[str, dict[Worst, None]] = {}
        self.source = ""
        """The instance whose batch came last."""
        self.unknown: set[str] = set()
        """Metrics of which nobody knows what their numbers mean."""
        self.learn: Callable[[dict[str, str]], None] = lambda _kinds: None
        """Called with the kinds of such metrics, when they are seen for the first time."""
        self.born: Callable[[Term, Group], None] = lambda _term, _group: None
        """Called when a group is seen for the first time."""
        self.heard: Callable[[Term, Group, str], None] = lambda _term, _group, _instance: None
        """Called when an instance is seen to emit something of a group for the first time."""
        self.full: Callable[[Term, float], None] = lambda _term, _now: None
        """Called when there is no room for one more group: to make some."""
        self.begins: Callable[[str, float], None] = lambda _instance, _now: None
        """Called with each batch's instance and time, before its samples."""
        self.ended: Callable[[str], None] = lambda _instance: None
        """Called when an instance ends."""
        self.now = 0.0
        self.paces: dict[str, float] = {}
        """Seconds within which an instance runs again, if it runs at all."""
        self._tried: dict[str, float] = {}
        self._swept = 0.0
        self._refused: list[Key] = []
        self._waiting: dict[Key, Route] = {}
        self._again = 0.0
        self.brought: dict[str, tuple[float, tuple[float, ...]]] = {}
        """Of series without a route: since when this is here, and which samples came that brought their times."""

    @property
    def pace(self) -> float:
        """The interval of the instance whose batch came last; infinite if it has none."""
        return self.paces.get(self.source, _FOREVER) / _STALE

    def watch(self, terms: Iterable[Term], statuses: Iterable[tuple[str, Term]]) -> None:
        """Look at just these from now on.

        Args:
            terms: of metrics.
            statuses: of instances (`check/name`, `check/*`) and service checks.
        """
        self._metrics, self._checks, self._instances = {}, {}, []
        before, self._routes, self._known = {**self._waiting, **self._routes}, {}, {}
        self._refused, self._waiting = [], {}
        for term in terms:
            if term.selector is not None:
                self._metrics.setdefault(term.selector.metric, []).append(term)
        for target, term in statuses:
            if "/" in target:
                self._instances.append((target, term))
            else:
                self._checks.setdefault(target, []).append(term)
        self._of = {}
        for key, route in before.items():
            if key[0] in self._metrics:
                self._find(key, route.instance, route)
            else:
                self._remember(key, route)

    # Samples

    def samples(self, batch: Batch, touched: list[Store]) -> None:
        """Take a batch's samples; the stores that got some are added to `touched`."""
        time, interval = batch.time, batch.interval
        self.now, self.source = time, batch.instance
        hole = self.paces[batch.instance] = _STALE * interval if interval else _FOREVER
        self.begins(batch.instance, time)
        if self.unknown:
            self._learn(batch)
        if not self._swept <= time < self._swept + _SWEEP:
            self._swept = time
            self._sweep(time, list(self._routes))
            self.brought = {key: one for key, one in self.brought.items() if time - one[0] < _LEFT}
            for key in [key for key, one in self._waiting.items() if time - one.until >= IDLE]:
                self._remember(key, self._waiting.pop(key))
        routes, metrics = self._routes, self._metrics
        if self._refused and time >= self._again:
            self._retry()
        until = time + hole
        timed: list[Sample] = []
        for sample in batch.samples:
            name, kind, value, tags, own = sample
            if name not in metrics:
                continue
            route = routes.get((name, tags))
            if route is None:
                route = self._find((name, tags), batch.instance, self._waiting.pop((name, tags), None))
            elif time > route.until and own is None:
                route.resume(time)
            route.until = until
            if own is not None:
                timed.append(sample)
            elif value.__class__ is float and kind is not _COUNTER and kind is not _RATE:  # most of them: cheaply
                for store in route.stores:
                    store.put(time, value, until)  # pyright: ignore[reportArgumentType]
                touched += route.stores
            elif route.stores:
                route.put(sample, time, time, until, touched)
        if timed:
            self._timed(timed, time, until, touched)

    def _learn(self, batch: Batch) -> None:
        kinds = {one.name: one.kind.value for one in batch.samples if one.name in self.unknown}
        if kinds:
            self.learn(kinds)

    def _timed(self, samples: list[Sample], now: float, until: float, touched: list[Store]) -> None:
        """Samples of another time than the run's: the newest of a series counts as of now, the others before it."""
        newest: dict[Key, float] = {}
        for one in samples:
            key = (one.name, one.tags)
            newest[key] = max(newest.get(key, 0.0), one.time or 0.0)
        for one in sorted(samples, key=lambda one: one.time or 0.0):
            key = (one.name, one.tags)
            route, time = self._routes.get(key), one.time or 0.0
            if route is None:  # another series needed its room
                continue
            late = time <= route.newest
            if time in route.brought or (late and one.kind in (_COUNTER, _RATE)):
                route.put_again(one, now, until - now, touched)
            elif late:
                route.put_late(one, now, touched)
            else:
                counted = min(time + max(0.0, now - newest[key]), now)  # whoever's clock is ahead
                hole = counted - route.counted
                if hole > until - now:
                    pace = min(route.brought.pace(route.newest), time - route.newest)
                    route.resume(now, pace if hole <= _STALE * pace else _FOREVER)
                route.newest, route.counted = min(time, now), counted
                route.put(one, counted, time, until, touched)

    @property
    def kept(self) -> Iterator[tuple[str, tuple[float, ...]]]:
        """Which samples came, by their series: of those that bring their time, as `Route.kept` has it."""
        for key, route in chain(self._routes.items(), self._waiting.items()):
            if route.newest:
                yield _text_of(key), route.kept
        yield from ((key, row) for key, (_, row) in self.brought.items())

    def clock_was_set(self, now: float, back: float) -> None:
        """The times that samples bring are others by the engine's clock from now on, also of those that are sent again.

        Args:
            now: Unix seconds.
            back: seconds by which the clock was set back; negative if it was set forward.
        """
        for route in chain(self._routes.values(), self._waiting.values()):
            route.clock_was_set(now, back)
        for key, (since, row) in self.brought.items():
            newest, counted, *ages = row
            kept = (newest + back, counted, *ages) if newest + back <= now else (now, counted, 0.0)
            self.brought[key] = since, kept

    # Routes

    def _find(self, key: Key, instance: str, before: Route | None) -> Route:
        """The route of a series that is seen for the first time, or for which there was no room before."""
        name, tags = key
        if before is None:
            route = Route(instance)
            if (came := self.brought.pop(_text_of(key), None)) is not None:
                route.restore(came[1])
        else:
            route = Route(instance, until=before.until, brought=before.brought)
            route.total, route.newest, route.counted = before.total, before.newest, before.counted
        complete = True
        for term in self._metrics.get(name, ()):
            if term.selector is not None and fits(term.selector.tags, tags):
                store = self._store(term, tags, instance)
                each = store if isinstance(store, Each) else None
                if each is not None:
                    store = each.member(tags, instance)
                if isinstance(store, Window | Latest):
                    route.stores += (store,)
                    if each is not None:
                        route.members.append(each)
                else:
                    term.left_out += before is None
                    complete = False
        if not complete:
            self._again = self._again if self._refused else self.now + _AGAIN
            self._refused.append(key)
        self._routes[key] = route
        self._of.setdefault(instance, set()).add(key)
        if before is None and not route.newest:
            route.resume(self.now)
        return route

    def _retry(self) -> None:
        """Look anew for those for which there was no room, should they come again."""
        refused, self._refused = self._refused, []
        for key in refused:
            if (route := self._routes.pop(key, None)) is not None:
                self._waiting[key] = route
                self._of.get(route.instance, set()).discard(key)

    def _store(self, term: Term, tags: Tags, instance: str) -> Store | None:
        group = group_of(term.by, tags)
        store = term.stores.get(group)
        if store is None:
            if len(term.stores) >= MOST_GROUPS and self.now - self._tried.get(term.text, 0.0) >= _AGAIN:
                self._tried[term.text] = self.now
                self.full(term, self.now)
            if len(term.stores) >= MOST_GROUPS:
                return None
            store = term.store(group)
        heard = term.heard.get(group)
        if heard is None:  # its store may be there before, for another rule's sake
            heard = term.heard[group] = set()
            self.born(term, group)
        if instance not in heard:
            heard.add(instance)
            self.heard(term, group, instance)
        return store

    def _sweep(self, now: float, keys: Iterable[Key]) -> None:
        """Forget those of the series that do not come any more and of which nothing is left."""
        for key in keys:
            route = self._routes[key]
            if now - route.until >= IDLE and all(is_empty(one, now) for one in self._own(key, route)):
                self._leave(key, route)
                for each in route.members:
                    each.drop(key[1])

    def _leave(self, key: Key, route: Route) -> None:
        """Forget a series, but for the samples that may be sent again."""
        del self._routes[key]
        self._of.get(route.instance, set()).discard(key)
        self._remember(key, route)

    def _remember(self, key: Key, route: Route) -> None:
        if route.newest:
            self.brought[_text_of(key)] = self.now, route.kept

    @property
    def living(self) -> set[int]:
        """The ids of the stores of which something came lately, or is about to be put."""
        now = self.now
        routes = [one for one in self._routes.values() if now < one.until < _FOREVER]
        return {id(store) for route in routes for store in (*route.stores, *route.members)}

    @staticmethod
    def _own(key: Key, route: Route) -> list[Window | Latest]:
        return [each.members[key[1]] for each in route.members if key[1] in each.members]

    def drop(self, stores: Iterable[Store]) -> None:
        """Groups are gone: their series are looked up anew should they come again."""
        gone = {id(store) for store in stores}
        for key, route in list(self._routes.items()):
            if any(id(one) in gone for one in (*route.stores, *route.members)):
                self._leave(key, route)
        for reported in self._reported.values():
            for store in [one for one in reported if id(one) in gone]:
                del reported[store]
        for instance in [name for name, some in self._known.items() if any(id(one) in gone for one in some)]:
            del self._known[instance]

    # Statuses

    def statuses(self, batch: Batch, value: int, message: str, touched: list[Store]) -> None:
        """Take a batch's statuses and the status of the run itself."""
        time, instance, interval = batch.time, batch.instance, batch.interval
        for worst in self._of_instance(instance):
            worst.put((instance, ()), time, value, message, interval)
            touched.append(worst)
        if not self._checks:
            return
        for check in batch.statuses:
            for term in self._checks.get(check.name, ()):
                if term.selector is not None and fits(term.selector.tags, check.tags):
                    store = self._store(term, check.tags, instance)
                    if isinstance(store, Worst):
                        self._reported.setdefault(instance, {})[store] = None
                        store.put((instance, check.tags), time, BADNESS[check.status], check.message, interval)
                        touched.append(store)
        if value >= CRITICAL and all(BADNESS[one.status] < CRITICAL for one in batch.statuses):
            self._fail(batch, value, message, touched)

    def _fail(self, batch: Batch, value: int, message: str, touched: list[Store]) -> None:
        """A run that failed reports no service checks: what it would have reported is as bad as the run."""
        for store in self._reported.get(batch.instance, ()):
            for key in store.unreported(batch.instance, batch.time):
                store.put(key, batch.time, value, message, batch.interval)
                touched.append(store)

    def _of_instance(self, instance: str) -> list[Worst]:
        known = self._known.get(instance)
        if known is None:
            known, complete = [], True
            for target, term in self._instances:
                if fnmatchcase(instance, target):
                    store = self._store(term, (f"instance:{instance.partition('/')[2]}",), instance)
                    if isinstance(store, Worst):
                        known.append(store)
                    complete = complete and store is not None
            if complete:
                self._known[instance] = known
        return known

    def forget(self, instance: str) -> None:
        """An instance ends: what it was seen to emit is gone."""
        self.paces.pop(instance, None)
        for worst in (*self._known.pop(instance, ()), *self._reported.pop(instance, ())):
            worst.forget(instance)
        mine = [key for key in self._of.get(instance, ()) if key in self._routes]
        for key in mine:
            route = self._routes[key]
            route.until, route.total = -_FOREVER, None
            for store in route.stores:
                if isinstance(store, Latest):
                    store.until = 0.0
        self._sweep(self.now, mine)
        self.ended(instance)


def _text_of(key: Key) -> str:
    return "|".join((key[0], *key[1]))
