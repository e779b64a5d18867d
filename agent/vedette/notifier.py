"""Floor 1: the contract of a notifier, which tells people of an alert."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from vedette.check import model_of
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from vedette.advice import Diagnosis


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
    name: str = Field(
        "",
        description="Name that rules and routes use in `notify:`. Default: its type, `-n` from the second on.",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
    )
    timeout: Duration = Field(10.0, description="Deadline of one attempt.", gt=0)
    retry_for: Duration = Field(
        86_400.0, description="How long an alert that does not arrive is tried again; then it is given up.", ge=60
    )
    per_minute: int = Field(
        30, description="Most messages a minute, beyond a burst of as many; the others wait.", ge=1, le=6000
    )


N = TypeVar("N", bound=NotifierConfig)


class Notifier(Generic[N]):
    """Tells people. Subclass it as `Notifier[YourConfig]`, set `name` and write `send`.

    The agent keeps what is to be told on disk, calls one method at a time inside a deadline of `timeout`, and tries
    again after a failure. After an exception other than `Undelivered` and `CheckError` it makes a new object.
    """

    name: ClassVar[str] = ""
    """The entry point's name, and the word after `type:` in agent.yaml."""
    config_class: ClassVar[type[NotifierConfig]] = NotifierConfig
    rhythm: float = 0.0
    """Seconds between two calls of `beat`; 0 for a notifier that needs none."""
    window: float = 0.0
    """Seconds in which alerts are collected for one `send_all`; 0 where each is sent by itself."""
    most: ClassVar[int] = 20
    """Alerts that one `send_all` gets at most."""

    def __init__(self, config: N) -> None:
        self.config = config
        self.log = logging.getLogger(f"vedette.notifier.{config.name or self.name}")
        self.memory: MutableMapping[str, Any] = {}
        """What is to outlive the process: JSON values, on disk as soon as they are set. Set before `open`."""
        self.host = ""
        """The agent's host name. Set before `open`."""
        self.trouble = ""
        """What does not work although the last call told what it was to tell, such as one receiver of several that
        cannot be reached: shown, and counted as an error. Empty if all is well."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        model = model_of(cls, NotifierConfig)
        if model is not None:
            cls.config_class = model

    async def open(self) -> None:
        """Get ready, before the first alert and inside its deadline; it need not reach the receiver."""

    async def send(self, alert: Alert) -> str | None:
        """Deliver one alert; an exception means it was not delivered and is tried again.

        The same alert may come twice where nobody knows whether the first attempt arrived: see `delivery_id`.

        Returns:
            What the receiver answered, for `vedette notify test`; None if it says nothing.

        Raises:
            Undelivered: it did not arrive.
        """
        raise NotImplementedError

    async def send_all(self, alerts: Sequence[Alert]) -> str | None:
        """Deliver alerts of several incidents as one message; only called where `window` is set, with two or more."""
        raise NotImplementedError

    async def beat(self) -> None:
        """Called every `rhythm` seconds, for receivers that want to hear that an alert goes on; may fail."""

    def deduplicates(self, alert: Alert) -> bool:
        """Whether the receiver knows this alert by its key, so that telling it again tells nobody twice.

        Then it is told once more when another agent takes the incident over, and an acknowledgement comes after the
        firing even if both had to wait: receivers that keep incidents ignore one of what they do not know.
        """
        return False

    def forget(self, key: str) -> None:
        """Another agent has the say about this incident from now on; what is kept in `memory` under its key goes."""
        self.memory.pop(key, None)

    async def close(self) -> None:
        """Drop the connections."""

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """For `vedette doctor`: look at what the notifier needs, and say how it came out.

        Called instead of all others, on an object of its own, inside a deadline. It must tell nobody anything.
        """


def delivery_id(alert: Alert) -> str:
    """32 hex digits that are the same for every attempt to tell of the same change, and for no other.

    An incident fires once: that is the same whichever agent tells it, and when.
    """
    moment = alert.since if alert.state == "firing" and not alert.reminder else alert.at or alert.since
    told = "\0".join((alert.key, alert.state, repr(float(moment)), str(alert.reminder)))
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def alert_data(alert: Alert) -> dict[str, Any]:
    """The alert as plain JSON data, without values that are not finite: JSON has none."""
    data = asdict(replace(alert, labels=dict(alert.labels)))
    data["evidence"]["values"] = [list(point) for point in alert.evidence.values if all(map(math.isfinite, point))]
    threshold = alert.evidence.threshold
    data["evidence"]["threshold"] = threshold if threshold is not None and math.isfinite(threshold) else None
    data["evidence"]["links"] = [list(link) for link in alert.evidence.links]
    return data


def alert_from(data: Mapping[str, Any]) -> Alert:
    """The alert that `alert_data` made plain; what another version of vedette added is left out.

    Raises:
        ValueError: it is none.
    """
    try:
        evidence = _known(Evidence, data.get("evidence") or {})
        evidence["values"] = tuple((float(time), float(value)) for time, value in evidence.get("values", ()))
        evidence["links"] = tuple((str(title), str(url)) for title, url in evidence.get("links", ()))
        made = Alert(**{**_known(Alert, data), "evidence": Evidence(**evidence)})
        if made.state not in ("firing", "acknowledged", "resolved"):
            raise ValueError("no state")
        return replace(made, labels={str(key): str(value) for key, value in made.labels.items()})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("is no alert") from error


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
