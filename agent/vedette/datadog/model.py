"""What stands in a file of monitors and dashboards."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.datadog.series import Handles, Id, Shown, Strict, TagKey
from vedette.units import Duration


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
    during: Literal["", "avg", "min", "max", "sum"] = ""
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


class Group(Strict):
    """Widgets under one title."""

    title: str = Field(min_length=1)
    widgets: tuple[Widget, ...] = Field(min_length=1)


class Dashboard(Strict):
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


class Use(Strict):
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


class Notify(Strict):
    """Whom a monitor tells: handles such as `@pagerduty-payments`, `@sns-alerts`, `@slack-payments`, `@a@example.com`.

    Attributes:
        critical: of an alert, and of its end.
        warning: of a warning, of an alert that is no more than one, and of its end.
        no_data: of silence. Default: as of an alert.
    """

    critical: Handles = ()
    warning: Handles = ()
    no_data: Handles | None = None


class Head(Strict):
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
