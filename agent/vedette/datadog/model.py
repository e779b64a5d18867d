"""What stands in a file of monitors and dashboards."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.metrics import Kind
from vedette.units import Duration

ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TAG: Final = re.compile(r"[a-z][a-z0-9_./-]*")
_FORMULA: Final = re.compile(r"[a-z0-9_.+*/() -]+")
_TAKEN_BY: Final = {
    Kind.GAUGE: ("avg", "sum", "min", "max"),
    Kind.SET: ("max", "avg", "sum", "min"),
    Kind.RATE: ("sum", "avg", "min", "max"),
    Kind.COUNT: ("sum",),
    Kind.COUNTER: ("sum",),
    Kind.HISTOGRAM: ("avg", "median", "p95", "max", "count"),
    Kind.DISTRIBUTION: ("avg", "median", "p95", "max", "count"),
}
"""What can be taken of a metric, the usual one first."""


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _id(value: str) -> str:
    if not ID.fullmatch(value):
        raise PydanticCustomError("vedette", "must be lower case letters, digits, '_', '.' and '-', 80 at most")
    return value


def _tag_key(value: str) -> str:
    if not _TAG.fullmatch(value):
        raise PydanticCustomError("vedette", "must be the key of a tag, such as env")
    return value


def _handle(value: str) -> str:
    if not value.startswith("@") or len(value.split()) != 1 or len(value) < 2:
        raise PydanticCustomError("vedette", "must be a handle of Datadog's, such as '@slack-payments'")
    return value


Id = Annotated[str, Field(min_length=1), BeforeValidator(lambda value: _id(value) if isinstance(value, str) else value)]
TagKey = Annotated[str, BeforeValidator(lambda value: _tag_key(value) if isinstance(value, str) else value)]
Handle = Annotated[str, BeforeValidator(lambda value: _handle(value) if isinstance(value, str) else value)]
Handles = Annotated[tuple[Handle, ...], BeforeValidator(_several)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Series(_Strict):
    """A metric and what is taken of it.

    Attributes:
        kind: the kind that its check declares; Datadog's and Prometheus' queries follow from it.
        take: how series are put together: avg, sum, min, max; of a histogram avg, median, p95, max, count.
        by: tags of which each value is a line or a group of its own.
        where: tags that a series must have.
        per: what a count is shown per.
        grows: whether a gauge is in truth a total so far, as some of Datadog's names are: its growth is looked at.
    """

    metric: str = Field(min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_.]*$")
    kind: Kind = Kind.GAUGE
    take: str = ""
    by: Annotated[tuple[TagKey, ...], BeforeValidator(_several)] = ()
    where: dict[TagKey, str] = Field(default_factory=dict)
    per: Literal["interval", "second"] = "interval"
    grows: bool = False

    @model_validator(mode="after")
    def _takes_what_there_is(self) -> Series:
        if self.take and self.take not in _TAKEN_BY[self.kind]:
            choice = ", ".join(_TAKEN_BY[self.kind])
            raise PydanticCustomError(
                "vedette", "take: of a {kind} there is {choice}", {"kind": self.kind.value, "choice": choice}
            )
        if self.grows and self.kind is not Kind.GAUGE:
            raise PydanticCustomError("vedette", "grows: is for gauges, other kinds say what they are")
        return self

    @property
    def taken(self) -> str:
        """What is taken, the usual of its kind if nothing is said."""
        return self.take or _TAKEN_BY[self.kind][0]

    @property
    def counted(self) -> bool:
        """Whether its values add up over time: their absence is 0."""
        in_all = self.kind in (Kind.COUNT, Kind.COUNTER) or self.grows
        return in_all or (self.kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION) and self.taken == "count")


class Shown(_Strict):
    """What a widget shows or a monitor watches: a metric, or a formula of several.

    Attributes:
        of: series by name.
        formula: of these names, numbers, `+ - * / ( )`; without it a widget shows each series.
    """

    metric: str = ""
    kind: Kind = Kind.GAUGE
    take: str = ""
    by: Annotated[tuple[TagKey, ...], BeforeValidator(_several)] = ()
    where: dict[TagKey, str] = Field(default_factory=dict)
    per: Literal["interval", "second"] = "interval"
    grows: bool = False
    of: dict[str, Series] = Field(default_factory=dict)
    formula: str = ""

    @field_validator("metric")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*", value):
            raise PydanticCustomError("vedette", "must be the name of a metric, such as redis.mem.used")
        return value

    @model_validator(mode="after")
    def _adds_up(self) -> Any:
        if self.metric and (self.of or self.formula):
            raise PydanticCustomError("vedette", "give either metric or of, not both")
        for name in self.of:
            if not _NAME.fullmatch(name):
                raise PydanticCustomError("vedette", "a name in of must be lower case letters, digits and '_'")
        if self.metric:
            self.series  # noqa: B018 - whose own rules it must keep
        if self.formula:
            _check_formula(self.formula, set(self.of))
        return self

    @property
    def series(self) -> dict[str, Series]:
        """Every series by name; `a` is the only one of a single metric."""
        if not self.metric:
            return self.of
        own = {name: getattr(self, name) for name in Series.model_fields}
        return {"a": Series(**own)}

    @property
    def formulas(self) -> dict[str, str]:
        """What is shown: a formula by the name of its line, which is empty where there is only one."""
        if self.formula:
            return {"": self.formula}
        names = list(self.series)
        return {"": names[0]} if len(names) == 1 else {name: name for name in names}


def _check_formula(formula: str, names: set[str]) -> None:
    if not _FORMULA.fullmatch(formula):
        raise PydanticCustomError("vedette", "formula: takes names, numbers, + - * / and parentheses")
    used = set(re.findall(r"[a-z_][a-z0-9_]*", formula))
    if used - names:
        raise PydanticCustomError("vedette", "formula: names something that is not in of")
    if names - used:
        raise PydanticCustomError("vedette", "formula: leaves out a series of of")
    if "**" in formula or "//" in formula:
        raise PydanticCustomError("vedette", "formula: takes names, numbers, + - * / and parentheses")
    try:
        compile(formula.strip(), "formula", "eval")
    except SyntaxError:
        raise PydanticCustomError("vedette", "formula: is not complete, see its operators and parentheses") from None


class Monitor(Shown):
    """One monitor: over a metric, a formula, a service check, or any other as Datadog writes it (`type`, `query`).

    Attributes:
        severity: whom an alert goes to: the handles of `critical`, or of `warning`.
        over: the window that is looked at.
        during: what of the window must be beyond the threshold: `min` of a value above is all of it, `max` any of it.
            Default: the average, of counts the sum.
        recover: the value at which an alert ends. Default: halfway to `warning`, else the threshold itself.
        times: how many runs in a row must say it, of a service check.
        no_data: silence that is told; `never` tells none. Default: 15m for a service check, else never.
    """

    id: Id
    name: str = Field(min_length=1, max_length=300)
    message: str = ""
    severity: Literal["critical", "warning"] = "critical"
    tags: tuple[str, ...] = ()
    priority: int | None = Field(default=None, ge=1, le=5)
    runbook: str = ""
    over: Duration = Field(default=300.0, ge=60, le=172_800)
    during: Literal["", "avg", "min", "max", "sum", "last"] = ""
    above: float | None = None
    below: float | None = None
    warning: float | None = None
    recover: float | None = None
    recover_warning: float | None = None
    status: str = ""
    times: int = Field(default=3, ge=1, le=50)
    no_data: Duration | Literal["never"] | None = None
    remind: Duration | None = Field(default=None, ge=60)
    delay: Duration = 0.0
    type: str = ""
    query: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    notify: Handles | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Monitor:
        ways = [bool(self.metric or self.of), bool(self.status), bool(self.query)]
        if sum(ways) != 1:
            raise PydanticCustomError("vedette", "needs exactly one of metric (or of), status and query")
        if ways[0]:
            _check_thresholds(self)
            if not self.formula and len(self.series) > 1:
                raise PydanticCustomError("vedette", "needs a formula of its series")
        if ways[2] and not self.type:
            raise PydanticCustomError("vedette", "query needs a type, such as query alert")
        return self

    @property
    def silence(self) -> float | None:
        """Seconds without data that are told, or None."""
        if self.no_data is None:
            return 900.0 if self.status else None
        return None if self.no_data == "never" else self.no_data


def _check_thresholds(monitor: Monitor) -> None:
    above, below = monitor.above, monitor.below
    if (above is None) == (below is None):
        raise PydanticCustomError("vedette", "needs above or below, the threshold of an alert")
    sign = 1.0 if above is not None else -1.0
    critical = above if above is not None else below
    assert critical is not None  # noqa: S101 - one of the two, as just seen
    order = [critical, monitor.recover, monitor.warning, monitor.recover_warning]
    scaled = [sign * value for value in order if value is not None]
    if monitor.recover_warning is not None and monitor.warning is None:
        raise PydanticCustomError("vedette", "recover_warning needs a warning")
    if monitor.warning is not None and sign * monitor.warning >= scaled[0]:
        raise PydanticCustomError("vedette", "warning must come before the threshold of an alert")
    if monitor.recover is not None and sign * monitor.recover > sign * critical:
        raise PydanticCustomError("vedette", "recover must be on the good side of the threshold")
    if (
        monitor.recover_warning is not None
        and monitor.warning is not None
        and sign * monitor.recover_warning > sign * monitor.warning
    ):
        raise PydanticCustomError("vedette", "recover_warning must be on the good side of warning")


class Widget(Shown):
    """One widget.

    Attributes:
        show: lines, bars or areas over time; a value; the top of a list; the states of a service check; a note.
        unit: of a formula, in Datadog's words; a metric has one already.
        marks: thresholds that are drawn.
    """

    title: str = ""
    show: Literal["lines", "bars", "area", "value", "top", "status", "note"] = "lines"
    unit: str = ""
    status: str = ""
    text: str = ""
    marks: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _shows_something(self) -> Widget:
        wanted = {"status": bool(self.status), "note": bool(self.text)}.get(self.show, bool(self.metric or self.of))
        if not wanted:
            needs = {"status": "status", "note": "text"}.get(self.show, "metric or of")
            raise PydanticCustomError("vedette", "show: {show} needs {needs}", {"show": self.show, "needs": needs})
        return self


class Group(_Strict):
    """Widgets under one title."""

    title: str = Field(min_length=1)
    widgets: tuple[Widget, ...] = Field(min_length=1)


class Dashboard(_Strict):
    """One dashboard: groups of widgets, or `widgets` as Datadog writes them.

    Attributes:
        variables: tags to choose by.
        teams: owners; Datadog takes no other tags of a dashboard.
    """

    id: Id
    title: str = Field(min_length=1, max_length=300)
    description: str = ""
    variables: tuple[TagKey, ...] = ()
    teams: tuple[str, ...] = Field(default=(), max_length=5)
    groups: tuple[Group, ...] = ()
    layout: Literal["ordered", "free"] = "ordered"
    widgets: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _either(self) -> Dashboard:
        if bool(self.groups) == bool(self.widgets):
            raise PydanticCustomError("vedette", "needs either groups or widgets")
        return self


class Use(_Strict):
    """Ready-made monitors and dashboards.

    Attributes:
        name: which, `*` for all.
        where: tags that everything they watch must have.
        without: ids to leave out.
        change: options of monitors to change, by id.
    """

    name: str
    monitors: bool = True
    dashboards: bool = True
    where: dict[TagKey, str] = Field(default_factory=dict)
    without: tuple[str, ...] = ()
    change: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Notify(_Strict):
    """Whom a monitor tells: handles such as `@pagerduty-payments`, `@sns-alerts`, `@slack-payments`, `@a@example.com`.

    Attributes:
        critical: of an alert, and of its end.
        warning: of a warning, of an alert that is no more than one, and of its end.
        no_data: of silence. Default: as of an alert.
    """

    critical: Handles = ()
    warning: Handles = ()
    no_data: Handles | None = None


class Head(_Strict):
    """What stands at the top of a file.

    Attributes:
        set: whose these are; `--prune` looks at no other set's.
        tags: of every monitor.
    """

    set: Id = "default"
    site: str = ""
    base_url: str = ""
    histogram_as: Literal["aggregates", "distribution"] = "aggregates"
    notify: Notify = Field(default_factory=Notify)
    tags: tuple[str, ...] = ()
    teams: tuple[str, ...] = Field(default=(), max_length=5)

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and (not value.startswith(("https://", "http://")) or "@" in value or "?" in value):
            raise PydanticCustomError("vedette", "must be an address such as https://datadog-relay.internal")
        return value.rstrip("/")

    @field_validator("site")
    @classmethod
    def _host(cls, value: str) -> str:
        if value and not re.fullmatch(r"[a-z0-9.-]+\.[a-z]+", value):
            raise PydanticCustomError("vedette", "must be a site such as datadoghq.eu")
        return value
