"""Floor 1: the contract of a notifier, which tells people of an alert."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from vedette.check import model_of
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Alert:
    """One firing or resolved rule of one group, as notifiers get it.

    Attributes:
        rule: the rule's name.
        key: stable over restarts and hosts: the same key is the same incident.
        state: firing, or resolved.
        severity: critical, error, warning or info.
        summary: one sentence.
        since: Unix seconds of the first firing.
        labels: the group's tags and the rule's labels.
        evidence: last values, failing step, the check's error.
        runbook: a URL, or empty.
    """

    rule: str
    key: str
    state: Literal["firing", "resolved"]
    severity: Literal["critical", "error", "warning", "info"]
    summary: str
    since: float
    labels: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
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
