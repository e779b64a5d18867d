"""Floor 3: where an instance stands, and what the agent gives each of them to work with."""

from __future__ import annotations

import enum
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.ownmetrics import HEALTH_METRICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from vedette.metrics import Batch
    from vedette.secrets import Masker

__all__ = ["HEALTH_METRICS", "INSTANCE", "State", "Surroundings", "Vitals"]

INSTANCE: ContextVar[str | None] = ContextVar("vedette_instance", default=None)
"""The instance that a task works for; what a check starts itself inherits it."""


class State(enum.StrEnum):
    """Where an instance stands."""

    STARTING = "starting"
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    FAILING = "failing"
    STUCK = "stuck"
    STANDBY = "standby"
    """It runs on another agent of the fleet, or on none at the moment."""
    STOPPED = "stopped"


@dataclass(slots=True)
class Vitals:
    """What is known of an instance: the status page's row. Times are Unix seconds, durations seconds.

    Attributes:
        instance: instance id.
        check: the check's name.
        state: where it stands.
        message: the error or the worst status's message; empty while all is well.
        hint: how to mend it.
        since: when it came into this state.
        last_run: start of the last run, 0 before the first.
        duration: length of the last run.
        lateness: how late the last run began.
        next_run: when the next run is due, 0 where that is not known.
        runs: runs so far.
        failures: runs that raised or were cancelled, or whose child process died.
        skipped: ticks that fell due while a run was in progress or the machine slept; those that `backoff` leaves out
            do not count.
        samples: samples handed over so far.
        dropped: samples refused so far, by reason.
        worst_lateness: largest lateness since it was last reported.
        file: the YAML file it stands in, and `line` where in it.
        backoff: how many intervals apart its runs are now, 1 unless it overran, crashed or was abandoned.
        isolated: whether it runs in a child process.
        isolated_because: why, where the watchdog decided it and not the configuration.
        blocked: how often it held the event loop so long that all others had to wait.
        origin: what was found that it was made for; empty for one that a file alone makes.
        run_on: which agents of a fleet run it: `every_node`, `leader` or `hash`.
        muted_until: until when it does not count for `health_check.overall` and alerts nobody; 0 if it does.
    """

    instance: str
    check: str
    state: State = State.STARTING
    message: str = ""
    hint: str = ""
    since: float = 0.0
    last_run: float = 0.0
    duration: float = 0.0
    lateness: float = 0.0
    next_run: float = 0.0
    runs: int = 0
    failures: int = 0
    skipped: int = 0
    samples: int = 0
    dropped: Mapping[str, int] | None = None
    worst_lateness: float = 0.0
    file: str = ""
    line: int = 0
    origin: str = ""
    backoff: int = 1
    isolated: bool = False
    isolated_because: str = ""
    blocked: int = 0
    muted_until: float = 0.0
    run_on: str = "every_node"

    @property
    def healthy(self) -> bool:
        """Whether `health_check.status` is 1."""
        return self.state in (State.OK, State.WARNING)


async def _at_once(instance: str) -> None:
    """Nothing is durable here that could be waited for."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the agent gives every instance.

    Attributes:
        deliver: hands a batch to every outbox and applies its commits; never waits.
        room: waits until every outbox has room (for listeners).
        tags: the agent's tags.
        host: the host's name.
        masker: blots out secrets.
        state: gives an instance's stored values.
        save: stores one value of an instance, and returns once it is on disk or cannot be: whether it is.
        settled: waits until what an instance committed is durable, or cannot be.
        written: waits until the fleet has what an owned instance committed.
        clock: monotonic seconds on the event loop's time line, but as of now: uvloop's own time stands still within
            an iteration and has steps of a millisecond.
        changes: how failures and recoveries are told to the sinks: `events`, `logs`.
    """

    deliver: Callable[[Batch], None]
    room: Callable[[], Awaitable[None]]
    tags: tuple[str, ...]
    host: str
    masker: Masker
    state: Callable[[str], Mapping[str, Any]]
    save: Callable[[str, str, Any], Awaitable[bool]]
    settled: Callable[[str], Awaitable[None]] = _at_once
    written: Callable[[str], Awaitable[None]] | None = None
    clock: Callable[[], float] = time.monotonic
    changes: tuple[str, ...] = ()
