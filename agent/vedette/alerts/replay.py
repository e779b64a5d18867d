"""Rules over given series, as `vedette alerts test` runs them: what should fire when, and what does."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.alerts.engine import AlertEngine
from vedette.config.checkfile import Document
from vedette.config.explain import Section, validate
from vedette.config.files import Found, read
from vedette.config.problems import Report, printable
from vedette.config.source import Mapping, parse
from vedette.metrics import Batch, Kind, Metric, Sample, ServiceCheck, Status
from vedette.rules.catalogue import Catalogue
from vedette.rules.model import Rulebook
from vedette.rules.reading import read_rules
from vedette.rules.tree import span
from vedette.secrets import Masker
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette.errors import Problem
    from vedette.notifier import Alert

    LoadRules = Callable[[Path], Rulebook | None]

_OWN: Final = ("alerts", "maintenance")
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_STEP: Final = 10.0
_MOST: Final = 100_000
_VALUE: Final = re.compile(
    r"(?P<first>-?\d+(?:\.\d+)?|_|[a-z]+?)(?:(?P<step>[+-]\d+(?:\.\d+)?))?(?:x(?P<times>\d{1,6}))?", re.ASCII
)


def _spread(text: str) -> tuple[str | float | None, ...]:
    """`95 94x3 1+2x4 _x2`: values apart by spaces, each once or so many times, rising by a step; `_` is none."""
    values: list[str | float | None] = []
    for word in re.sub(r"\s+(?=x\d)", "", text).split():
        found = _VALUE.fullmatch(word)
        if found is None:
            raise PydanticCustomError("vedette", "holds a value that makes no sense; such as `95 94x3 1+2x4 _x2`")
        first, times = found["first"], int(found["times"] or 1)
        if len(values) + times > _MOST:
            raise PydanticCustomError("vedette", "has too many values")
        number = re.fullmatch(r"-?\d+(\.\d+)?", first) is not None
        step = float(found["step"] or 0)
        word_value = None if first == "_" else first
        values += [float(first) + place * step if number else word_value for place in range(times)]
    return tuple(values)


class SeriesConfig(BaseModel):
    """One entry of `series:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str = Field("", description="Name of a metric.")
    status: str = Field("", description="An instance (`redis/cache`), or the name of a service check.")
    instance: str = Field("", description="Which instance emits it. Default: `test/series`; of a status the instance.")
    tags: tuple[str, ...] = Field((), description="Its tags, beside `instance:`.")
    kind: Literal["gauge", "count", "counter", "rate", "histogram", "distribution"] = Field(
        "gauge", description="What its numbers mean, where no configuration says it."
    )
    unit: str = Field("", description="Its unit, likewise.")
    message: str = Field("", description="What a status says unless it is ok.")
    values: str = Field(description="Its values, `_` is none: `95 94x3 1+2x4 _x2`, or `ok criticalx3`.")

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("values")
    @classmethod
    def _readable(cls, value: str) -> str:
        _spread(value)
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> SeriesConfig:
        if bool(self.metric) == bool(self.status):
            raise PydanticCustomError("vedette", "takes either `metric` or `status`")
        words = {one for one in _spread(self.values) if isinstance(one, str)}
        if self.metric and words:
            raise PydanticCustomError("vedette", "a metric's `values` are numbers")
        if self.status and (words - _STATUSES.keys() or any(isinstance(one, float) for one in self.points)):
            raise PydanticCustomError("vedette", "a status's `values` are ok, warning, critical, unknown and _")
        return self

    @property
    def points(self) -> tuple[str | float | None, ...]:
        """One for each interval."""
        return _spread(self.values)

    @property
    def source(self) -> str:
        """The instance that emits it."""
        return self.instance or (self.status if "/" in self.status else "test/series")

    @property
    def all_tags(self) -> tuple[str, ...]:
        """As its samples have them."""
        return tuple(sorted({*self.tags, f"instance:{self.source.partition('/')[2]}"}))


_STATUSES: Final = {one.name.lower(): one for one in Status}


class ExpectConfig(BaseModel):
    """One entry of `expect:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Duration = Field(description="When, counted from the first value.")
    firing: tuple[str, ...] = Field(description="All that fires then: names of rules, or rules with their group.")


class SuiteConfig(BaseModel):
    """A file of `vedette alerts test`, but for the rules in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conf: Path | None = Field(None, description="The configuration folder whose rules are tried.")
    interval: Duration = Field(60.0, gt=0, description="Time between two values.")
    start: datetime | None = Field(None, description="When the first value is; in UTC where no zone is said.")
    series: tuple[SeriesConfig, ...] = Field(description="What the rules see.")
    expect: tuple[ExpectConfig, ...] = Field((), description="What should fire when.")
    told: tuple[str, ...] | None = Field(None, description="All that is told, such as `6m firing success rate low`.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a file came out.

    Attributes:
        problems: what is wrong in the file.
        failures: what did not come as expected.
        told: all that was told: seconds since the first value, and the alert.
        checked: how many expectations there were.
    """

    problems: tuple[Problem, ...] = ()
    failures: tuple[str, ...] = ()
    told: tuple[tuple[float, Alert], ...] = ()
    checked: int = 0


def replay(path: Path, load_rules: LoadRules) -> Outcome:
    """Run the rules of a file over its series.

    Args:
        path: the file.
        load_rules: gives the rules of a configuration folder.
    """
    shown = printable(path.as_posix())
    report, masker = Report(shown), Masker()
    data = read(path, report)
    root = parse(data, report) if data is not None else None
    if not isinstance(root, Mapping):
        if root is not None:
            report.error(root.line, (), "must be a mapping with `series:`")
        return Outcome(tuple(report.problems))
    own = Mapping({key: entry for key, entry in root.entries.items() if key not in _OWN}, root.line)
    suite = validate(Section(SuiteConfig, own, (), root.line, extra_names=_OWN), report, masker)
    if suite is None:
        return Outcome(tuple(report.problems))
    rules = Mapping({key: entry for key, entry in root.entries.items() if key in _OWN}, root.line)
    document = Document(Found(path, shown, path.stem), rules, report)
    rulebook = read_rules([(document, "")], _catalogue(suite), masker)
    if suite.conf is not None and (configured := load_rules(path.parent / suite.conf)) is not None:
        rulebook = replace(
            rulebook,
            rules=(*configured.rules, *rulebook.rules),
            maintenance=(*configured.maintenance, *rulebook.maintenance),
        )
    errors = tuple(one for one in report.problems if one.severity == "error")
    return Outcome(errors) if errors else _Run(suite, rulebook).outcome()


def _catalogue(suite: SuiteConfig) -> Catalogue:
    catalogue = Catalogue((), (), complete=True)
    for one in suite.series:
        if one.metric:
            catalogue.add(one.source, Metric(one.metric, Kind(one.kind), one.unit), one.all_tags)
        else:
            catalogue.add_status(one.source, "" if "/" in one.status else one.status)
    return catalogue


class _Run:
    """One pass through a file's series."""

    def __init__(self, suite: SuiteConfig, rulebook: Rulebook) -> None:
        self._suite = suite
        start = suite.start
        zoned = start.replace(tzinfo=UTC) if start is not None and start.tzinfo is None else start
        self._start = zoned.timestamp() if zoned is not None else _BEGIN
        self._now = self._start
        self._told: list[tuple[float, Alert]] = []
        self._engine = AlertEngine(clock=lambda: self._now, heard=self._hear)
        logged = self._engine
        logged.configure(rulebook, self._start)

    def _hear(self, alert: Alert) -> None:
        self._told.append((self._now - self._start, alert))

    def outcome(self) -> Outcome:
        suite = self._suite
        due = sorted(suite.expect, key=lambda one: one.at)
        failures: list[str] = []
        for moment, place in self._moments():
            self._now = self._start + moment
            if place is not None:
                self._values(place)
            self._engine.tick(self._now)
            while due and round(due[0].at, 6) == moment:
                failures += self._compare(due.pop(0))
        failures += self._compare_told()
        checked = len(suite.expect) + len(suite.told or ())
        return Outcome(failures=tuple(failures), told=tuple(self._told), checked=checked)

    def _moments(self) -> list[tuple[float, int | None]]:
        """When something may happen: at each value (which one), each expectation, and every few seconds between."""
        suite = self._suite
        number = max(len(one.points) for one in suite.series) if suite.series else 0
        end = max([number * suite.interval, *(one.at for one in suite.expect)])
        step = max(_STEP, end / _MOST)
        moments: dict[float, int | None] = {round(one.at, 6): None for one in suite.expect}
        moments |= {round(place * step, 6): None for place in range(int(end / step) + 1)}
        moments |= {round(place * suite.interval, 6): place for place in range(number)}
        return sorted(moments.items())

    def _values(self, place: int) -> None:
        for batch in self._batches(place):
            self._engine.consume(batch, self._now)

    def _batches(self, place: int) -> Iterator[Batch]:
        for source in dict.fromkeys(one.source for one in self._suite.series):
            mine = [one for one in self._suite.series if one.source == source]
            points = [(one, one.points[place] if place < len(one.points) else None) for one in mine]
            own = [value for one, value in points if one.status == source]
            if own and own[0] is None:
                continue  # it did not run
            if all(place >= len(one.points) for one in mine):
                continue
            samples = [
                Sample(one.metric, Kind(one.kind), value, one.all_tags)
                for one, value in points
                if one.metric and isinstance(value, float)
            ]
            statuses = [
                ServiceCheck(one.status, _STATUSES[value], one.message if value != "ok" else "", one.all_tags)
                for one, value in points
                if one.status and isinstance(value, str)
            ]
            samples.append(Sample("health_check.status", Kind.GAUGE, 1, ()))
            check = source.partition("/")[0]
            yield Batch(
                source, check, self._now, self._suite.interval, samples=tuple(samples), statuses=tuple(statuses)
            )

    def _compare(self, expected: ExpectConfig) -> list[str]:
        firing = {case.key: case.rule.name for case in self._engine.cases if case.incident.stage == "firing"}
        missing = [one for one in expected.firing if one not in firing and one not in firing.values()]
        extra = [key for key, name in firing.items() if key not in expected.firing and name not in expected.firing]
        when = span(expected.at) if expected.at else "0s"
        failures = [f"at {when}: does not fire: {one}" for one in missing]
        return failures + [f"at {when}: fires and should not: {key}" for key in extra]

    def _compare_told(self) -> list[str]:
        if self._suite.told is None:
            return []
        told = [line(seconds, alert) for seconds, alert in self._told]
        expected = [" ".join(one.split()) for one in self._suite.told]
        missing = [f"is not told: {one}" for one in (Counter(expected) - Counter(told)).elements()]
        extra = [f"is told and should not be: {one}" for one in (Counter(told) - Counter(expected)).elements()]
        if not missing and not extra and _by_key(told) != _by_key(expected):
            return [f"is told in another order: {', '.join(told)}"]
        return missing + extra


def _by_key(lines: list[str]) -> dict[str, list[str]]:
    """What is told of each alert, in order; of different ones at the same time the order means nothing."""
    found: dict[str, list[str]] = {}
    for one in lines:
        found.setdefault(one.split(" ", 2)[-1], []).append(one)
    return found


def line(seconds: float, alert: Alert) -> str:
    """`6m firing success rate low`: what `told:` has of an alert."""
    word = "reminder" if alert.reminder else alert.state
    return f"{span(seconds) if seconds else '0s'} {word} {alert.key}"
