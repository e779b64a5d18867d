"""Floor 4: what commands and pages may ask of the running agent."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

from vedette.errors import VedetteError
from vedette.runner import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.alerts.service import Alerting
    from vedette.alerts.vitals import AlertsVitals
    from vedette.config.changes import Changes
    from vedette.errors import Problem
    from vedette.fleet.vitals import FleetVitals
    from vedette.report import NotifierVitals, SinkVitals
    from vedette.runner import Vitals
    from vedette.scouts import ScoutVitals
    from vedette.secrets import Masker


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A read-only picture of the agent, for tables and pages.

    Attributes:
        time: Unix seconds.
        started: Unix seconds of the agent's start.
        instances: each instance's vitals, in configuration order.
        sinks: each sink's vitals.
        problems: what is wrong in the configuration.
        directory: the configuration folder.
        host: the host name on the samples.
        state_errors: failed writes of the state store.
        discoveries: each discovery's vitals.
        fleet: where the fleet stands; None without one.
        notifiers: each notifier's vitals.
        alerts: what fires and what is about to; None without alert rules.
    """

    time: float
    started: float
    instances: tuple[Vitals, ...]
    sinks: tuple[SinkVitals, ...]
    problems: tuple[Problem, ...]
    directory: str = ""
    host: str = ""
    state_errors: int = 0
    discoveries: tuple[ScoutVitals, ...] = ()
    fleet: FleetVitals | None = None
    notifiers: tuple[NotifierVitals, ...] = ()
    alerts: AlertsVitals | None = None


class ControlError(VedetteError):
    """What was asked cannot be done; the text says why."""


class Operations(Protocol):
    """The running agent as commands and pages see it. All of it is called on the agent's event loop."""

    def snapshot(self) -> Snapshot:
        """A picture of the agent as it is now."""
        ...

    async def reload(self, *, check: bool = False) -> Changes:
        """Read the configuration again and apply what changed; with `check` only say what would change."""
        ...

    def run_now(self, instance: str) -> None:
        """Have an instance run at once, outside its rhythm.

        Raises:
            ControlError: there is no such instance, or it cannot run now.
        """
        ...

    def mute(self, instance: str, until: float) -> None:
        """Keep an instance out of `health_check.overall` and of alerts until this Unix time; 0 ends it.

        Raises:
            ControlError: there is no such instance.
        """
        ...

    @property
    def masker(self) -> Masker:
        """Blots out what must not be kept of what is typed."""
        ...

    @property
    def alerting(self) -> Alerting:
        """The alert rules at work."""
        ...


class Service(Protocol):
    """Something that the agent starts after its instances and stops before its sinks."""

    async def start(self) -> None:
        """Begin to serve. What stands in the way is logged: the agent goes on without."""
        ...

    async def stop(self) -> None:
        """End it, soon and without an error."""
        ...


class Overall(enum.IntEnum):
    """How the agent is as a whole; also the exit status of `vedette status`."""

    OK = 0
    WARNING = 1
    FAILING = 2


def is_muted(vitals: Vitals, now: float) -> bool:
    """Whether the instance counts for nothing at this Unix time."""
    return vitals.muted_until > now


def is_wrong(vitals: Vitals, now: float) -> bool:
    """Whether somebody should look at the instance at this Unix time."""
    return vitals.state in (State.CRITICAL, State.FAILING, State.STUCK) and not is_muted(vitals, now)


def is_cut_off(fleet: FleetVitals | None) -> bool:
    """Whether this agent runs nothing of what one agent of the fleet may run, since it lost its engine."""
    return fleet is not None and fleet.state == "lost"


def isolation(vitals: Vitals) -> str:
    """Where the instance runs, and why, if that is not in the agent's own process; else nothing."""
    if not vitals.isolated:
        return ""
    return f"in a child process{f', since it {vitals.isolated_because}' if vitals.isolated_because else ''}"


def overall(snapshot: Snapshot) -> Overall:
    """The worst of all that is not muted; a mere warning about the configuration counts for nothing."""
    fleet = snapshot.fleet
    if any(is_wrong(vitals, snapshot.time) for vitals in snapshot.instances) or is_cut_off(fleet):
        return Overall.FAILING
    warned = any(v.state is State.WARNING and not is_muted(v, snapshot.time) for v in snapshot.instances)
    broken = any(problem.severity == "error" for problem in snapshot.problems)
    parts = (*snapshot.sinks, *snapshot.notifiers, *snapshot.discoveries, *([fleet] if fleet else ()))
    troubled = any(one.trouble for one in parts)
    return Overall.WARNING if warned or broken or troubled else Overall.OK


def find(wanted: str, known: Iterable[str]) -> str:
    """The id of the instance that a person means: its id, or its name alone where one check has it.

    Raises:
        ControlError: there is none, or there are several.
    """
    ids = list(known)
    if wanted in ids:
        return wanted
    named = [one for one in ids if one.partition("/")[2] == wanted]
    if len(named) == 1:
        return named[0]
    if named:
        raise ControlError(f"which one is meant: {', '.join(named)}?")
    near = get_close_matches(wanted, [*ids, *(one.partition("/")[2] for one in ids)], 1)
    hint = f"did you mean '{near[0]}'?" if near else "`vedette status` lists them"
    raise ControlError(f"no instance is called '{wanted}'; {hint}")
