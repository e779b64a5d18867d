"""What stands under `alerts:`, `maintenance:` and `heartbeat:`: what is written, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.cron import check_cron, zone
from vedette.notifier import Severity
from vedette.secrets import Secret
from vedette.units import Duration, parse_duration

if TYPE_CHECKING:
    from vedette.rules.tree import Condition

_LONGEST_NAME = 100


class RuleConfig(BaseModel):
    """One entry of `alerts:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What the alert is called; unique.", min_length=1, max_length=_LONGEST_NAME)
    when: str = Field(description="The condition: docs/alerts.md has the language.")
    lasting: Duration = Field(0.0, alias="for", description="How long it must hold before the alert fires.")
    keep: str | float = Field(
        0.0, description="How long, or under which other condition, the alert goes on once `when` holds no more."
    )
    expire: Duration = Field(
        3_600.0, description="How long it goes on without data while its instances run; 0: for ever.", ge=0
    )
    every: Duration | None = Field(None, ge=60, description="Tell again after so long while it goes on.")
    severity: Severity = Field("critical", description="How bad it is.")
    summary: str = Field("", description="What to say instead of the condition, in one sentence.", max_length=300)
    runbook: str = Field("", description="URL of what to do.")
    links: dict[str, str] = Field(default_factory=dict, description="Dashboards: title and URL.")
    labels: dict[str, str] = Field(default_factory=dict, description="Words to route by, beside the group's tags.")
    depends_on: tuple[str, ...] = Field(
        (), description="Rules by name and instances by id: while one of them is down, nothing is told of this."
    )
    notify: tuple[str, ...] = Field((), description="Notifiers by name.")

    @field_validator("notify", "depends_on", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("name", "summary")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise PydanticCustomError("vedette", "must be one line of printable characters")
        return value

    @field_validator("runbook")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise PydanticCustomError("vedette", "must be a URL that begins with https:// or http://")
        return value

    @property
    def keep_seconds(self) -> float | None:
        """The length of time that `keep` says, or None where it is a condition."""
        try:
            return parse_duration(self.keep)
        except ValueError:
            return None


class MaintenanceConfig(BaseModel):
    """One entry of `maintenance:`: a window in which nothing is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("maintenance", description="What it is called.")
    schedule: str = Field(description="Cron expression of its beginning.", examples=["0 2 * * sun"])
    duration: Duration = Field(gt=0, le=7 * 86_400, description="How long it lasts.", examples=["2h"])
    timezone: str = Field("UTC", description="Whose clock the schedule means.")
    rules: tuple[str, ...] = Field(("*",), description="Rules by name; `*` stands for anything.")
    tags: tuple[str, ...] = Field((), description="Only groups that have these tags or labels.")

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str) -> str:
        check_cron(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        zone(value)
        return value


class HeartbeatConfig(BaseModel):
    """`heartbeat:`: a sign of life of the alerting itself, for whoever notices that it stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Secret | None = Field(None, description="URL that is asked with GET.")
    notifier: str = Field("", description="Notifier that gets an alert of severity `info`, instead of a URL.")
    every: Duration = Field(60.0, ge=10, le=86_400, description="How often.")

    @model_validator(mode="after")
    def _one(self) -> HeartbeatConfig:
        if bool(self.url) == bool(self.notifier):
            raise PydanticCustomError("vedette", "takes either `url` or `notifier`")
        if self.url and not self.url.reveal().startswith(("http://", "https://")):
            raise PydanticCustomError("vedette", "`url` must begin with https:// or http://")
        return self


Maintenance = MaintenanceConfig
Heartbeat = HeartbeatConfig


@dataclass(frozen=True, slots=True)
class Source:
    """Who may emit what a condition looks at.

    Attributes:
        instance: instance id.
        owned: whether it runs on one agent of the fleet.
    """

    instance: str
    owned: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that was understood.

    Attributes:
        config: its options.
        when: its condition, with percentages and times turned into what its metrics are measured in.
        keep: the condition of `keep:`, likewise; None where that is a time.
        written: the condition as it was written.
        sources: who may emit each metric and status in it, by the selector's text.
        kinds: of each metric, its kind and unit.
        check: the check whose file it stands in; empty in alerts.yaml.
        file: where it stands.
        line: likewise.
    """

    config: RuleConfig
    when: Condition
    keep: Condition | None = None
    written: str = ""
    sources: dict[str, tuple[Source, ...]] = field(default_factory=dict, hash=False)
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    check: str = ""
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.config.name


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All that was read about alerts.

    Attributes:
        rules: in file order.
        maintenance: windows in which nothing is told.
        heartbeat: the sign of life; None without one.
        whole: whether these are all rules: no file has an error that keeps one out.
        complete: whether there are no instances but those that the configuration names: no discovery makes some.
    """

    rules: tuple[Rule, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    heartbeat: Heartbeat | None = None
    whole: bool = True
    complete: bool = False

    def __bool__(self) -> bool:
        return bool(self.rules or self.maintenance or self.heartbeat)
