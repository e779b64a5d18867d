"""Floor 4: what the agent says of itself, as a batch like any check's."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from vedette.emit import Channel, Emit
from vedette.metrics import Kind
from vedette.notifier import Severity
from vedette.ownmetrics import AGENT_METRICS, METRICS
from vedette.runner import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vedette.alerts.vitals import AlertsVitals
    from vedette.errors import Problem
    from vedette.fleet.vitals import FleetVitals
    from vedette.metrics import Batch
    from vedette.runner import Vitals
    from vedette.scouts import ScoutVitals
    from vedette.secrets import Masker

__all__ = ["AGENT_METRICS", "METRICS", "FindingsLog", "SelfReport", "SinkVitals", "log_problems"]

log = logging.getLogger("vedette.config")
_MOST_LOGGED = 20
_MINUTE = 60.0

_FIGURES = {metric.name: metric.kind for metric in METRICS if metric.tags == ("sink",)}


@dataclass(frozen=True, slots=True)
class SinkVitals:
    """Where a sink stands; all figures count samples since the start, `queued` those that wait now.

    Attributes:
        name: the sink's name.
        sent: taken and sent.
        dropped: given up.
        errors: failed sends.
        queued: waiting.
        trouble: what is wrong now; empty while sending works.
        figures: others of `vedette.sink.*` that this sink has.
        fenced: not sent since the lease had ended under which they were collected.
    """

    name: str
    sent: int
    dropped: int
    errors: int
    queued: int
    trouble: str
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)
    fenced: int = 0


@dataclass(frozen=True, slots=True)
class NotifierVitals:
    """Where a notifier stands; figures count alerts since the start, `queued` those that wait now.

    Attributes:
        name: the notifier's name.
        type: which notifier.
        queued: waiting, and being told.
        sent: told.
        failed: given up.
        errors: failed attempts.
        oldest: seconds that the oldest has waited.
        last_sent: Unix seconds of the last success, 0 if there was none.
        trouble: what is wrong now; empty while telling works.
        last_error: the last failure, be it over or not.
    """

    name: str
    type: str
    queued: int = 0
    sent: int = 0
    failed: int = 0
    errors: int = 0
    oldest: float = 0.0
    last_sent: float = 0.0
    trouble: str = ""
    last_error: str = ""


class SelfReport:
    """Makes the agent's own batches, at most one every `interval` seconds.

    Args:
        tags: the agent's tags.
        host: host name.
        interval: seconds between reports.
        masker: blots out secrets.
    """

    def __init__(self, tags: Sequence[str], host: str, interval: float, masker: Masker) -> None:
        self._channel = Channel(
            "vedette/agent", "vedette", METRICS, (), tags, interval=interval, host=host, masker=masker
        )

    def batch(
        self,
        instances: Iterable[Vitals],
        sinks: Iterable[SinkVitals],
        state_errors: int,
        problems: Sequence[Problem],
        reloads: int = 0,
        discoveries: Iterable[ScoutVitals] = (),
        fleet: FleetVitals | None = None,
        notifiers: Iterable[NotifierVitals] = (),
        alerts: AlertsVitals | None = None,
    ) -> Batch:
        """The figures as of now; resets each instance's worst lateness."""
        now, instances, sinks = time.time(), tuple(instances), tuple(sinks)
        emit = Emit(self._channel, now)
        healthy = fleet is None or fleet.state != "lost"
        for vitals in instances:
            healthy = healthy and (vitals.healthy or not vitals.runs or vitals.muted_until > now or _idle(vitals))
            if not _idle(vitals):
                _add_instance(emit, vitals)
        for sink in sinks:
            tags = (f"sink:{sink.name}",)
            emit.counter("vedette.sink.sent", sink.sent, tags)
            emit.counter("vedette.sink.dropped", sink.dropped, tags)
            emit.counter("vedette.sink.errors", sink.errors, tags)
            emit.gauge("vedette.sink.queue", sink.queued, tags)
            for name, value in sink.figures.items():
                say = emit.counter if _FIGURES.get(name) is Kind.COUNTER else emit.gauge
                say(name, value, tags)
        for notifier in notifiers:
            _add_notifier(emit, notifier)
        emit.gauge("vedette.agent.up", 1)
        emit.gauge("health_check.overall", int(healthy))
        emit.counter("vedette.state.errors", state_errors)
        emit.gauge("vedette.config.problems", len(problems))
        emit.gauge("vedette.config.broken_files", len({one.file for one in problems if one.severity == "error"}))
        emit.counter("vedette.config.reloads", reloads)
        for scout in discoveries:
            tags = (f"discovery:{scout.name}",)
            emit.gauge("vedette.discovery.targets", scout.targets, tags)
            emit.gauge("vedette.discovery.instances", scout.instances, tags)
            emit.gauge("vedette.discovery.problems", scout.problems, tags)
            emit.counter("vedette.discovery.errors", scout.errors, tags)
        if alerts is not None:
            _add_alerts(emit, alerts)
        if fleet is not None:
            _add_fleet(emit, fleet, [one.instance for one in instances if one.run_on != "every_node"])
            fenced = sum((one.dropped or {}).get("fenced", 0) for one in instances) + sum(one.fenced for one in sinks)
            emit.counter("vedette.fleet.fenced", fenced, (f"fleet:{fleet.name}",))
        return emit.batch()


def log_problems(before: Iterable[Problem], now: Iterable[Problem]) -> None:
    """Say in the log which problems are new and which are gone."""
    old, new = dict.fromkeys(before), dict.fromkeys(now)
    for problem in new:
        if problem not in old:
            log.log(logging.ERROR if problem.severity == "error" else logging.WARNING, "%s", problem)
    for file in {one.file for one in old} - {one.file for one in new}:
        log.info("%s: mended", file)


class FindingsLog:
    """Says in the log which problems of what was found are new; those that are gone mostly went with their target.

    Who changes what a target asks for again and again fills no log: there is a limit for each minute.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._room = 0

    def say(self, before: Iterable[Problem], now: Iterable[Problem]) -> None:
        """Log what is new.

        Args:
            before: the problems until now.
            now: those that there are.
        """
        old = frozenset(before)
        new = [problem for problem in now if problem not in old]
        if new and time.monotonic() >= self._until:
            self._until, self._room = time.monotonic() + _MINUTE, _MOST_LOGGED
        for problem in new[: self._room]:
            log.warning("%s", problem)
        if len(new) > self._room > 0:
            log.warning("%s", "there are more problems in what was found: `vedette status` shows them")
        self._room = max(0, self._room - len(new))


def _idle(vitals: Vitals) -> bool:
    """Whether another agent of the fleet has the say about it."""
    return vitals.state is State.STANDBY


def _add_fleet(emit: Emit, fleet: FleetVitals, ours: Sequence[str]) -> None:
    tags = (f"fleet:{fleet.name}",)
    me = next((one for one in fleet.members if one.me), None)
    alive = {one.identity for one in fleet.members}
    emit.gauge("vedette.fleet.member", int(fleet.state == "member"), tags)
    emit.gauge("vedette.fleet.members", sum(one.ready for one in fleet.members), tags)
    emit.gauge("vedette.fleet.owned", me.owns if me is not None else 0, tags)
    emit.gauge("vedette.fleet.orphans", sum(fleet.owners.get(name) not in alive for name in ours), tags)
    emit.gauge("vedette.fleet.lease_left", fleet.left, tags)
    emit.counter("vedette.fleet.moves", fleet.moves, tags)
    emit.counter("vedette.fleet.beats", fleet.beats, tags)
    emit.counter("vedette.fleet.claims", fleet.claims, tags)
    emit.counter("vedette.fleet.errors", fleet.errors, tags)


def _add_notifier(emit: Emit, notifier: NotifierVitals) -> None:
    tags = (f"notifier:{notifier.name}",)
    emit.counter("vedette.notifier.sent", notifier.sent, tags)
    emit.counter("vedette.notifier.failed", notifier.failed, tags)
    emit.counter("vedette.notifier.errors", notifier.errors, tags)
    emit.gauge("vedette.notifier.queue", notifier.queued, tags)
    emit.gauge("vedette.notifier.oldest", notifier.oldest, tags)


def _add_alerts(emit: Emit, alerts: AlertsVitals) -> None:
    firing = alerts.firing
    emit.gauge("vedette.alerts.rules", alerts.rules)
    for severity in get_args(Severity):
        number = sum(one.severity == severity for one in firing)
        emit.gauge("vedette.alerts.firing", number, (f"severity:{severity}",))
    emit.gauge("vedette.alerts.pending", len(alerts.alerts) - len(firing))
    emit.gauge("vedette.alerts.quiet", sum(bool(one.quiet) for one in firing))
    emit.counter("vedette.alerts.told", alerts.told)
    emit.counter("vedette.alerts.errors", alerts.faults)


def _add_instance(emit: Emit, vitals: Vitals) -> None:
    tags = (f"check:{vitals.check}", f"instance:{vitals.instance.partition('/')[2]}")
    if vitals.runs:
        emit.gauge("vedette.check.duration", vitals.duration, tags)
        emit.gauge("vedette.check.lateness", vitals.worst_lateness, tags)
        vitals.worst_lateness = 0.0
    emit.counter("vedette.check.skipped", vitals.skipped, tags)
    emit.counter("vedette.check.failures", vitals.failures, tags)
    emit.counter("vedette.check.samples", vitals.samples, tags)
    emit.counter("vedette.loop.blocked", vitals.blocked, tags)
    for reason, number in (vitals.dropped or {}).items():
        emit.counter("vedette.check.dropped", number, (*tags, f"reason:{reason}"))
    if not vitals.dropped:
        emit.counter("vedette.check.dropped", 0, (*tags, "reason:undeclared"))
