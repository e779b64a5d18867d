"""Floor 4: what commands and pages may ask of the running agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vedette.errors import VedetteError

if TYPE_CHECKING:
    from vedette.config.changes import Changes
    from vedette.errors import Problem
    from vedette.report import SinkVitals
    from vedette.runner import Vitals


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
    """

    time: float
    started: float
    instances: tuple[Vitals, ...]
    sinks: tuple[SinkVitals, ...]
    problems: tuple[Problem, ...]
    directory: str = ""
    host: str = ""


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
