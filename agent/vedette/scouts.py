"""Floor 4: the discoveries at work; one that fails starts again, and what it found last stays in force meanwhile."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.errors import CheckError
from vedette.outbox import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from vedette.discovery import Discovery, DiscoveryConfig, Target
    from vedette.secrets import Masker

    Configured = tuple[type[Discovery[Any]], DiscoveryConfig]

log = logging.getLogger("vedette.discovery")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_PATIENCE = 2.0
"""Seconds that a discovery may take to end."""


@dataclass(frozen=True, slots=True)
class ScoutVitals:
    """Where a discovery stands.

    Attributes:
        name: its name.
        targets: what it found, as it is now.
        instances: what was made of that.
        problems: what is wrong with what targets ask for.
        errors: failures since the start.
        trouble: what is wrong now; empty while it works.
    """

    name: str
    targets: int = 0
    instances: int = 0
    problems: int = 0
    errors: int = 0
    trouble: str = ""


@dataclass(slots=True)
class _Scout:
    discovery: Discovery[Any]
    told: Callable[[], None]
    masker: Masker
    targets: tuple[Target, ...] = ()
    task: asyncio.Task[None] | None = None
    heard: bool = False
    crashed: bool = False

    @property
    def name(self) -> str:
        return str(self.discovery.config.name or self.discovery.name)

    def found(self, targets: Iterable[Target]) -> None:
        """See `Found`."""
        now = tuple({target.id: target for target in targets}.values())
        self.heard = True
        if self.crashed:
            self.crashed = False
            self.discovery.recovered()
        if now != self.targets:
            self.targets = now
            self.told()

    async def serve(self) -> None:
        """Run the discovery until cancelled, again after a growing pause when it fails."""
        pause = _FIRST_PAUSE
        while True:
            self.heard = False
            try:
                await self.discovery.run(self.found)
                why = "the discovery ended by itself"
            except (Exception, SystemExit) as error:
                why = self.masker(_worded(error))
                self.discovery.log.debug("discovery failed", exc_info=error)
            self.crashed = True
            self.discovery.failed(why)
            if self.heard:
                pause = _FIRST_PAUSE
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads retries, guards nothing
            pause = min(pause * 2, _LONGEST_PAUSE)


class Scouts:
    """Every discovery and what it found.

    Args:
        configured: discovery classes with their options, in order.
        told: called when something else is there than before.
        masker: blots out secrets.
    """

    def __init__(self, configured: Iterable[Configured], told: Callable[[], None], masker: Masker) -> None:
        self._told = told
        self._masker = masker
        self._scouts = [self._made(one) for one in configured]

    @property
    def found(self) -> dict[str, tuple[Target, ...]]:
        """What is there now, by the discovery's name."""
        return {scout.name: scout.targets for scout in self._scouts}

    def vitals(self, made: Mapping[str, int], wrong: Mapping[str, int]) -> list[ScoutVitals]:
        """Where each of them stands.

        Args:
            made: instances by the discovery's name.
            wrong: problems likewise.
        """
        return [
            ScoutVitals(
                one.name,
                len(one.targets),
                made.get(one.name, 0),
                wrong.get(one.name, 0),
                one.discovery.errors,
                self._masker(one.discovery.trouble),
            )
            for one in self._scouts
        ]

    def start(self) -> None:
        """Start those that are not running."""
        loop = asyncio.get_running_loop()
        for scout in self._scouts:
            if scout.task is None:
                scout.task = loop.create_task(scout.serve(), name=f"discovery {scout.name}")

    async def swap(self, configured: Sequence[Configured]) -> None:
        """Have just these. Those that are the same go on; a changed one knows what its predecessor found until then."""
        before = {scout.name: scout for scout in self._scouts}
        self._scouts = [self._kept(one, before) for one in configured]
        await _end([scout for scout in before.values() if scout not in self._scouts])

    def _kept(self, configured: Configured, before: dict[str, _Scout]) -> _Scout:
        plugin, config = configured
        old = before.get(config.name or plugin.name)
        if old is not None and type(old.discovery) is plugin and old.discovery.config == config:
            return old
        scout = self._made(configured)
        if old is not None and type(old.discovery) is plugin:
            scout.targets = old.targets
        return scout

    async def close(self) -> None:
        """End all of them."""
        await _end(self._scouts)

    def _made(self, configured: Configured) -> _Scout:
        plugin, config = configured
        return _Scout(plugin(config), self._told, self._masker)


def _worded(error: BaseException) -> str:
    if isinstance(error, CheckError):
        return f"{error.message}; {error.hint}" if error.hint else error.message
    return describe(error)


async def _end(scouts: Sequence[_Scout]) -> None:
    tasks = [scout.task for scout in scouts if scout.task is not None]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_PATIENCE)
