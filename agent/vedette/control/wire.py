"""What travels between the agent and its commands, pages and scripts: JSON, one object a line."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from vedette.control import ControlError, Snapshot, find, overall
from vedette.errors import Problem, VedetteError
from vedette.report import NotifierVitals, SinkVitals
from vedette.runner import State, Vitals
from vedette.scouts import ScoutVitals
from vedette.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette.alerts.vitals import AlertsVitals
    from vedette.control import Operations
    from vedette.fleet.vitals import FleetVitals

T = TypeVar("T")

ALERTS = ("alerts", "explain", "silence", "unsilence", "ack", "end")
"""The operations on alerts."""

_LONGEST_COMMENT = 200

DEFAULT_MUTE = 3600.0
"""Seconds that an instance is muted for if nobody says how long."""


def encode(value: Any) -> bytes:
    """One line of JSON; dataclasses become objects."""
    return msgspec.json.encode(value) + b"\n"


def picture(snapshot: Snapshot, instance: str = "") -> dict[str, Any]:
    """The snapshot as plain data, as `vedette status --json` prints it: all of it or one instance.

    Raises:
        ControlError: there is no such instance.
    """
    chosen = snapshot.instances
    if instance:
        name = find(instance, (vitals.instance for vitals in chosen))
        chosen = tuple(vitals for vitals in chosen if vitals.instance == name)
    return {
        "overall": overall(snapshot).name.lower(),
        "time": snapshot.time,
        "started": snapshot.started,
        "host": snapshot.host,
        "directory": snapshot.directory,
        "state_errors": snapshot.state_errors,
        "instances": chosen,
        "sinks": snapshot.sinks,
        "notifiers": snapshot.notifiers,
        "discoveries": snapshot.discoveries,
        "fleet": snapshot.fleet,
        "alerts": snapshot.alerts,
        "problems": snapshot.problems,
    }


def snapshot_of(data: Mapping[str, Any]) -> Snapshot:
    """The snapshot that `picture` made plain; fields of another version of vedette are left out."""
    instances = tuple(_make(Vitals, {**row, "state": State(row["state"])}) for row in data["instances"])
    sinks = tuple(_make(SinkVitals, row) for row in data["sinks"])
    problems = tuple(_make(Problem, row) for row in data["problems"])
    discoveries = tuple(_make(ScoutVitals, row) for row in data.get("discoveries", ()))
    notifiers = tuple(_make(NotifierVitals, row) for row in data.get("notifiers", ()))
    parts = {"instances": instances, "sinks": sinks, "problems": problems, "discoveries": discoveries}
    parts["notifiers"] = notifiers
    fleet, alerts = _fleet_of(data.get("fleet")), _alerts_of(data.get("alerts"))
    return _make(Snapshot, {**data, **parts, "fleet": fleet, "alerts": alerts})


def _alerts_of(row: Mapping[str, Any] | None) -> AlertsVitals | None:
    if row is None:
        return None
    from vedette.alerts.vitals import AlertsVitals, AlertVitals  # only where there are some

    return _make(AlertsVitals, {**row, "alerts": tuple(_make(AlertVitals, one) for one in row["alerts"])})


def _fleet_of(row: Mapping[str, Any] | None) -> FleetVitals | None:
    if row is None:
        return None
    from vedette.fleet.vitals import FleetVitals, MemberVitals  # only where there is one

    return _make(FleetVitals, {**row, "members": tuple(_make(MemberVitals, one) for one in row["members"])})


def _make(kind: type[T], row: Mapping[str, Any]) -> T:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in row.items() if name in names})


async def perform(operations: Operations, request: Mapping[str, Any]) -> Any:
    """Do what is asked, as the socket and the page take it; returns what to answer.

    Args:
        operations: the agent.
        request: `op` and, where it is about one, `instance`; `check` for reload, `for` (a duration) for mute and
            silence; `name` for explain and ack; `what` (names of rules and tags), `comment` for silence; `id` for
            unsilence.

    Raises:
        ControlError: it cannot be done, or makes no sense.
    """
    operation, wanted = request.get("op"), request.get("instance")
    if operation == "status":
        return picture(operations.snapshot(), wanted if isinstance(wanted, str) else "")
    if operation == "reload":
        changes = await operations.reload(check=request.get("check") is True)
        return {"summary": str(changes), **asdict(changes)}
    if operation in ALERTS:
        return _alerts(operations, operation, request)
    if operation not in ("run-now", "mute", "unmute"):
        raise ControlError(f"the operations are status, reload, run-now, mute, unmute, {', '.join(ALERTS)}")
    if not isinstance(wanted, str):
        raise ControlError(f"{operation} takes an instance")
    instance = find(wanted, (vitals.instance for vitals in operations.snapshot().instances))
    if operation == "run-now":
        operations.run_now(instance)
        return {"instance": instance}
    until = time.time() + _length(request.get("for", DEFAULT_MUTE)) if operation == "mute" else 0.0
    operations.mute(instance, until)
    return {"instance": instance, "until": until}


def _alerts(operations: Operations, operation: str, request: Mapping[str, Any]) -> Any:
    alerting, name, what = operations.alerting, request.get("name"), request.get("what")
    try:
        if operation == "alerts":
            return alerting.listing()
        if operation == "silence" and isinstance(what, list) and what and all(isinstance(one, str) for one in what):
            masker = operations.masker
            comment = masker.cut(str(request.get("comment", "")), _LONGEST_COMMENT)
            return alerting.silence(list(map(masker.tag, what)), _length(request.get("for")), comment)
        if operation == "unsilence" and isinstance(request.get("id"), int):
            alerting.unsilence(request["id"])
            return {"id": request["id"]}
        if isinstance(name, str) and operation == "explain":
            return alerting.explain(name)
        if isinstance(name, str) and operation in ("ack", "end"):
            done = alerting.acknowledge if operation == "ack" else alerting.end
            return {"acknowledged" if operation == "ack" else "ended": done(name)}
    except VedetteError as error:
        raise ControlError(str(error)) from None
    raise ControlError(
        {"silence": "silence takes `what` and `for`", "unsilence": "unsilence takes an `id`"}.get(
            operation, f"{operation} takes a `name`"
        )
    )


def _length(value: Any) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ControlError(f"for {error}") from None
    if not math.isfinite(seconds) or seconds <= 0:
        raise ControlError("for must be greater than 0")
    return seconds
