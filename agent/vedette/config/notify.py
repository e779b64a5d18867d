"""`routes:` of agent.yaml: who is told of an alert whose rule does not say it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.notifier import Alert, Notifier, NotifierConfig


def addressable(
    notifiers: Iterable[tuple[type[Notifier[Any]], NotifierConfig]], routes: Iterable[Route]
) -> tuple[str, ...]:
    """What a rule may name in its `notify:`: notifiers, then routes that have a name."""
    names = [config.name or plugin.name for plugin, config in notifiers]
    return tuple(dict.fromkeys([*names, *(route.name for route in routes if route.name)]))


class Route(BaseModel):
    """One entry of `routes:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", description="Name for `notify:` of rules. Default: none.", examples=["payments"])
    match: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="What an alert must be: `severity`, `rule`, `instance` or any of its labels, each with a value or "
        "several of which one must fit (glob patterns). Empty fits every alert.",
        examples=[{"severity": ["critical"], "team": ["payments"]}],
    )
    notify: tuple[str, ...] = Field(description="Notifiers to tell.", min_length=1, examples=[["oncall"]])

    @field_validator("match", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: one if isinstance(one, list | tuple) else (one,) for key, one in value.items()}

    def fits(self, alert: Alert) -> bool:
        """Whether an alert goes this way."""
        own = {"severity": alert.severity, "rule": alert.rule, "instance": alert.instance}
        return all(
            any(fnmatchcase(own.get(key, alert.labels.get(key, "")), pattern) for pattern in patterns)
            for key, patterns in self.match.items()
        )
