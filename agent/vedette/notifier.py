"""Floor 1: the contract of a notifier, which tells people of an alert."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from vedette.check import model_of
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping


Severity = Literal["critical", "error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a rule looked at; secrets are blotted out.

    Attributes:
        condition: the rule's condition as it is written.
        values: what was looked at, oldest first, at most 120 points: Unix seconds and value.
        unit: of the values, or empty.
        threshold: what they are compared with, in the same unit; None where there is no such value.
        error: the check's error, or empty.
        step: the failing step of a flow and what it saw, or empty.
        links: title and URL of dashboards.
    """

    condition: str = ""
    values: tuple[tuple[float, float], ...] = ()
    unit: str = ""
    threshold: float | None = None
    error: str = ""
    step: str = ""
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """What has become of one rule in one group, as notifiers get it.

    Attributes:
        rule: the rule's name.
        key: stable over restarts, hosts and takeovers: the same key is the same incident.
        state: firing, acknowledged (somebody works on it), or resolved.
        severity: how bad.
        summary: one sentence.
        since: Unix seconds of the first firing.
        at: Unix seconds at which the state became what it is, or of the reminder.
        reminder: it was told of before, and goes on.
        instance: instance id that the rule is of, or empty.
        labels: the group's tags and the rule's labels.
        evidence: why.
        runbook: a URL, or empty.
    """

    rule: str
    key: str
    state: Literal["firing", "acknowledged", "resolved"]
    severity: Severity
    summary: str
    since: float
    at: float = 0.0
    reminder: bool = False
    instance: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    runbook: str = ""


class NotifierConfig(BaseModel):
    """The options of one notifier. Subclass it and add a notifier's own; unknown options are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    type: str = Field(description="Which notifier.")
    name: str = Field("", description="Name that rules use in `notify:`. Default: its type.")
    timeout: Duration = Field(10.0, description="Deadline of one attempt.")


N = TypeVar("N", bound=NotifierConfig)


class Notifier(Generic[N]):
    """Tells people. Subclass it as `Notifier[YourConfig]`, set `name` and write `send`."""

    name: ClassVar[str] = ""
    """The entry point's name, and the word after `type:` in agent.yaml."""
    config_class: ClassVar[type[NotifierConfig]] = NotifierConfig

    def __init__(self, config: N) -> None:
        self.config = config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        model = model_of(cls, NotifierConfig)
        if model is not None:
            cls.config_class = model

    async def send(self, alert: Alert) -> None:
        """Deliver one alert; an exception means it was not delivered and is tried again."""
        raise NotImplementedError
