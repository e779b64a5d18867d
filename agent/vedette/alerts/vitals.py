"""How the alerts stand, as plain values: for the status, the page, commands and the agent's own metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette.alerts.rule import Case


@dataclass(frozen=True, slots=True)
class AlertVitals:
    """A rule in one group.

    Attributes:
        rule: its name.
        key: rule and group; the same on every agent and after every restart.
        state: `ok`, `pending` (it will fire once it has held for long enough), `firing`, `acknowledged`, or
            `waiting` (there is not enough yet to judge by), `fault` (an error in vedette keeps it from being judged).
        severity: how bad.
        summary: what is seen, in one sentence.
        since: Unix seconds since when it is so; 0 if nothing was wrong yet.
        quiet: why nobody is told; empty if people are.
        labels: the group's tags and the rule's labels.
        file: the YAML file that the rule stands in.
        line: where in it.
    """

    rule: str
    key: str
    state: str
    severity: str
    summary: str = ""
    since: float = 0.0
    quiet: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class AlertsVitals:
    """All alerts.

    Attributes:
        rules: how many rules are in force.
        told: what was given to notifiers so far.
        alerts: those that fire or are pending.
        left_out: series that were left out since a condition had too many groups.
        faults: errors that cost an evaluation.
        heartbeat: whether the last heartbeat to a URL arrived; None if none was sent.
    """

    rules: int = 0
    told: int = 0
    alerts: tuple[AlertVitals, ...] = ()
    left_out: int = 0
    faults: int = 0
    heartbeat: bool | None = None

    @property
    def firing(self) -> tuple[AlertVitals, ...]:
        """Those that fire, acknowledged or not."""
        return tuple(one for one in self.alerts if one.state in ("firing", "acknowledged"))


def vitals_of(case: Case, summary: str, since: float, quiet: str, verdict: bool | None) -> AlertVitals:
    """Where a rule stands in a group.

    Args:
        case: the rule in its group.
        summary: what is seen.
        since: Unix seconds since when it is so.
        quiet: why nobody is told.
        verdict: whether its condition holds.
    """
    incident, rule = case.incident, case.rule
    state: str = incident.stage
    if incident.acknowledged or (state == "ok" and verdict is None):
        state = "acknowledged" if incident.acknowledged else "waiting"
    labels, severity = dict(case.labels), rule.config.severity
    return AlertVitals(rule.name, case.key, state, severity, summary, since, quiet, labels, rule.file, rule.line)
