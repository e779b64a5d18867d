"""What the configured instances can emit, and what a condition means by it: units, kinds, who is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import ceil
from typing import TYPE_CHECKING, Final

from vedette.config.problems import suggest
from vedette.metrics import Kind
from vedette.ownmetrics import HEALTH_METRICS, METRICS
from vedette.rules.model import Source
from vedette.rules.scanner import ConditionError
from vedette.rules.tree import (
    FINEST,
    Absent,
    Arithmetic,
    Both,
    Change,
    Compare,
    Condition,
    Not,
    Number,
    Runs,
    Selector,
    StatusIs,
    Value,
    span,
    walk,
)
from vedette.units import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.config.model import Instance
    from vedette.metrics import Metric
    from vedette.rules.tree import Expression, Node, Test

AGENT: Final = "vedette/agent"
"""The instance of the agent's own batches."""
_SLOTS: Final = 8
"""Points that a window long ago has at least: those at its edges count wholly or not at all."""
_TIME: Final = {
    "day": 86_400.0,
    "hour": 3_600.0,
    "minute": 60.0,
    "second": 1.0,
    "millisecond": 1e-3,
    "microsecond": 1e-6,
    "nanosecond": 1e-9,
}
_EVERYWHERE: Final = frozenset({"instance", "check", "service", "environment", "version", "host"})


@dataclass(slots=True)
class _Known:
    """A metric as some instances declare it."""

    metric: Metric
    sources: list[Source] = field(default_factory=list)


@dataclass(slots=True)
class Findings:
    """What a condition is about, once it was looked up.

    Attributes:
        sources: who may emit what each selector or status means, by its text.
        kinds: kind and unit of each metric.
        errors: (message, hint) of what no instance declares.
        warnings: likewise, where an instance may emit it although it does not say so.
    """

    sources: dict[str, tuple[Source, ...]] = field(default_factory=dict)
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


class Catalogue:
    """What instances can emit.

    Args:
        instances: those that are configured.
        tags: the agent's own.
        complete: whether there are no others: none that a discovery makes, none that an error keeps out.
    """

    def __init__(self, instances: Iterable[Instance], tags: Iterable[str], *, complete: bool) -> None:
        self._metrics: dict[str, _Known] = {}
        self._statuses: dict[str, list[Source]] = {}
        self._instances: dict[str, Source] = {AGENT: Source(AGENT)}
        self._open: list[Source] = []
        self._complete = complete
        self._keys = set(_EVERYWHERE) | {tag.partition(":")[0] for tag in tags}
        for metric in METRICS:
            self._declare(metric.name, metric, self._instances[AGENT])
        for instance in instances:
            self._add(instance)

    def _add(self, instance: Instance) -> None:
        source = self._instances[instance.id] = Source(instance.id, instance.owned)
        self._keys |= {tag.partition(":")[0] for tag in instance.config.tags}
        name_of = instance.config.metrics.compile()
        for metric in (*instance.plugin.declare(instance.config), *HEALTH_METRICS):
            if (name := name_of(metric.name)) is not None:
                self._declare(name, metric, source)
        for status in instance.plugin.statuses:
            self._statuses.setdefault(status, []).append(source)
        if instance.plugin.open_names:
            self._open.append(source)

    def _declare(self, name: str, metric: Metric, source: Source) -> None:
        known = self._metrics.setdefault(name, _Known(metric))
        if not known.sources or known.sources[-1] is not source:
            known.sources.append(source)
        self._keys.update(metric.tags)

    def add(self, instance: str, metric: Metric, tags: Iterable[str] = ()) -> None:
        """What else an instance emits: for tests of rules, which have series of their own.

        Args:
            instance: its id.
            metric: what.
            tags: with which tags.
        """
        source = self._instances.setdefault(instance, Source(instance))
        self._declare(metric.name, metric, source)
        self._keys |= {tag.partition(":")[0] for tag in tags}

    def add_status(self, instance: str, name: str) -> None:
        """A service check that an instance has, likewise; an empty name is the instance's own status."""
        source = self._instances.setdefault(instance, Source(instance))
        if name:
            self._statuses.setdefault(name, []).append(source)

    @property
    def instances(self) -> Iterable[str]:
        """The ids of all instances."""
        return self._instances

    @property
    def owned(self) -> set[str]:
        """Those that run on one agent of the fleet."""
        return {name for name, one in self._instances.items() if one.owned}

    @property
    def complete(self) -> bool:
        """Whether there are no others."""
        return self._complete

    # Looking up

    def look_up(self, condition: Condition) -> Findings:
        """Who emits what a condition is about."""
        found = Findings()
        for node in walk(condition.test):
            match node:
                case Value():
                    self._metric(node.selector, found)
                case Absent(target=Selector() as target):
                    self._metric(target, found)
                case Absent(target=str() as target):
                    self._instance(target, found)
                case Change(value=Value(over=float() as over), ago=ago) if over * FINEST < _SLOTS * (over + ago):
                    found.warnings.append(_too_fine(over, ago))
                case StatusIs() if node.of_instance:
                    self._instance(node.target, found)
                case StatusIs():
                    self._status(node, found)
                case _:
                    pass
        metrics = [one for one in map(_selector, walk(condition.test)) if one is not None]
        closed = bool(metrics) and all(self._is_closed(one.metric) for one in metrics)
        for key in condition.by:
            self._tag(key, found, closed=closed)
        return found

    def _is_closed(self, metric: str) -> bool:
        """Whether those that emit it say with which tags."""
        return self._complete and metric in self._metrics

    def _metric(self, selector: Selector, found: Findings) -> None:
        name = selector.metric
        known = self._metrics.get(name)
        sources = tuple(known.sources) if known is not None else ()
        if known is not None:
            found.kinds[name] = (known.metric.kind.value, known.metric.unit)
            sources += tuple(one for one in self._open if one not in sources)
        elif self._open or not self._complete:
            sources = tuple(self._open)
            found.warnings.append((f"no configured instance declares the metric {name}", suggest(name, self._metrics)))
        else:
            hint = suggest(name, self._metrics) or "`vedette check NAME` shows what a check emits"
            found.errors.append((f"no configured instance declares the metric {name}", hint))
        for tag in selector.tags:
            self._tag(tag.key, found, closed=self._is_closed(name))
            if tag.key == "instance" and tag.wanted:
                sources = self._of_instance(tag.value, sources, found)
        found.sources[str(selector)] = sources

    def _of_instance(self, name: str, sources: tuple[Source, ...], found: Findings) -> tuple[Source, ...]:
        those = tuple(one for one in sources if fnmatchcase(one.instance.partition("/")[2], name))
        if sources and not those and self._complete:
            names = [one.instance.partition("/")[2] for one in sources]
            found.errors.append(("no instance that declares the metric is called so", suggest(name, names)))
        return those

    def _tag(self, key: str, found: Findings, *, closed: bool = False) -> None:
        if key not in self._keys:
            say = found.errors if closed else found.warnings
            say.append((f"no configured instance declares the tag {key}", suggest(key, self._keys)))

    def _instance(self, target: str, found: Findings) -> None:
        sources = tuple(one for name, one in self._instances.items() if fnmatchcase(name, target))
        if not sources:
            say = found.errors if self._complete else found.warnings
            hint = suggest(target, self._instances) or "`vedette status` lists them"
            say.append((f"no instance is called {target}", hint))
        found.sources[target] = sources

    def _status(self, node: StatusIs, found: Findings) -> None:
        sources = tuple(self._statuses.get(node.target, ()))
        if not sources:
            say = found.warnings if self._open or not self._complete else found.errors
            sources = tuple(self._open)
            hint = suggest(node.target, self._statuses) or "an instance's status is status(check/name)"
            say.append((f"no configured instance has the service check {node.target}", hint))
        for tag in node.tags:
            self._tag(tag.key, found)
        found.sources[node.target] = sources


def _too_fine(over: float, ago: float) -> tuple[str, str]:
    slot = format_duration((over + ago) / FINEST)
    least = format_duration(60.0 * ceil(_SLOTS * (over + ago) / FINEST / 60.0))
    what = f"of what came in {span(ago)} a point for every {slot} is kept, too little for a window of {span(over)}"
    return what, f"make the window {least} long at least, where it runs more often than every {slot}"


def _selector(node: Node) -> Selector | None:
    match node:
        case Value():
            return node.selector
        case Absent(target=Selector() as target):
            return target
        case _:
            return None


def in_its_units(condition: Condition, kinds: dict[str, tuple[str, str]]) -> Condition:
    """The condition with percentages and times turned into what the metrics beside them are measured in.

    Raises:
        ConditionError: a time is compared with what is not measured in time, or a percentage with what nobody declares.
    """
    return Condition(_test(condition.test, kinds), condition.by)


def _test(test: Test, kinds: dict[str, tuple[str, str]]) -> Test:
    match test:
        case Compare():
            unit = _unit(test.left, kinds) or _unit(test.right, kinds)
            for one, other in ((test.left, test.right), (test.right, test.left)):
                if _is_unknown(one, kinds) and _has_percent(other):
                    message = f"nobody says whether {one} is measured in percent"
                    raise ConditionError(message, "write a number: 90 if it is, or 0.9")
            return Compare(test.operator, _plain(test.left, unit), _plain(test.right, unit))
        case Runs():
            inner = _test(test.test, kinds)
            assert isinstance(inner, Compare | StatusIs)  # noqa: S101 - for type checkers
            return Runs(inner, test.number, test.of)
        case Not():
            return Not(_test(test.test, kinds))
        case Both():
            return Both(test.word, tuple(_test(one, kinds) for one in test.tests))
        case _:
            return test


def _unit(side: Expression, kinds: dict[str, tuple[str, str]]) -> str:
    """What a side is measured in, if it is one metric by itself."""
    if not isinstance(side, Value) or side.function in ("count", "rate"):
        return ""
    if side.function == "days_left":
        return "day"
    return kinds.get(side.selector.metric, ("", ""))[1]


def _is_unknown(side: Expression, kinds: dict[str, tuple[str, str]]) -> bool:
    """Whether a side is one metric by itself that nobody declares."""
    if not isinstance(side, Value) or side.function in ("count", "rate", "days_left"):
        return False
    return side.selector.metric not in kinds


def _has_percent(side: Expression) -> bool:
    if isinstance(side, Arithmetic):
        return _has_percent(side.left) or _has_percent(side.right)
    return isinstance(side, Number) and side.unit == "%"


def _plain(side: Expression, unit: str) -> Expression:
    if isinstance(side, Arithmetic):
        return Arithmetic(side.operator, _plain(side.left, unit), _plain(side.right, unit))
    if not isinstance(side, Number) or not side.unit:
        return side
    if side.unit == "%":
        return Number(side.value if unit == "percent" else side.value / 100)
    if unit not in _TIME:
        message = f"{side} is a time, and what it is compared with is not measured in time"
        raise ConditionError(message, "write a number")
    return Number(side.value * parse_duration(f"1{side.unit}") / _TIME[unit])


def is_counted(kind: str) -> bool:
    """Whether nothing that came of a series means that nothing happened."""
    return kind in (Kind.COUNT, Kind.COUNTER)
