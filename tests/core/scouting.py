"""A discovery that finds what a test tells it to, and the plugins that an agent of these tests sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

from pydantic import Field

from vedette import (
    Check,
    CheckConfig,
    CheckError,
    Container,
    Discovery,
    DiscoveryConfig,
    Emit,
    Found,
    Kind,
    Metric,
    Secret,
    Target,
    hookimpl,
)

ANNOTATION = "vedette.dev/checks"


class ScoutingConfig(DiscoveryConfig):
    """The options."""

    speed: int = Field(1, description="Makes a difference.")


class Scouting(Discovery[ScoutingConfig]):
    """Finds what it is told."""

    name = "scouting"
    variables = ("zone",)
    live: ClassVar[list[Scouting]] = []
    """Those that run now."""
    first: ClassVar[tuple[Target, ...]] = ()
    """What a new one finds at once."""

    async def run(self, found: Found) -> None:
        self.found = found
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.live.append(self)
        try:
            found(self.first)
            await self.broken
        finally:
            self.live.remove(self)

    def crash(self, error: Exception) -> None:
        self.broken.set_exception(error)


def pod(
    name: str = "api-7f9c",
    asks: str = "",
    *,
    host: str = "10.1.2.3",
    uid: str = "",
    namespace: str = "payments",
    kind: str = "pod",
    containers: Iterable[Container] = (Container("redis", "redis:7.2", {"redis": 6379}, {"ROLE": "cache"}),),
    **more: Any,
) -> Target:
    return Target(
        uid or f"uid-{namespace}-{name}",
        f"{namespace}/{name}",
        host,
        kind,
        namespace,
        tuple(containers),
        asks=asks,
        source=ANNOTATION,
        **more,
    )


class AloneConfig(CheckConfig):
    """The options."""

    host: str = "localhost"
    password: Secret | None = None


class Alone(Check[AloneConfig]):
    """Says nothing of what it reaches."""

    name = "alone"

    def run(self, emit: Emit) -> None:
        """Nothing."""


class Echo(Check[AloneConfig]):
    """Succeeds."""

    name = "echo"
    metrics = (Metric("echo.ok", Kind.GAUGE),)

    @classmethod
    def reaches(cls, config: AloneConfig) -> tuple[str]:
        return (config.host,)

    def __init__(self, config: AloneConfig, state: Any = None) -> None:
        if "explode" in config.tags:
            raise RuntimeError("its own fault")
        super().__init__(config, state)

    async def run(self, emit: Emit) -> None:
        emit.gauge("echo.ok", 1)
        if self.config.password is not None:
            self.log.warning("sent AUTH %s", self.config.password.reveal())
            raise CheckError(f"{self.config.password.reveal()} was refused")


@hookimpl
def register_discoveries(register: Callable[[type[Discovery[Any]]], None]) -> None:
    register(Scouting)


@hookimpl
def register_checks(register: Callable[[type[Check[Any]]], None]) -> None:
    register(Alone)


class Echoes:
    """Stands for a module of its own: an entry point is one check."""

    @staticmethod
    @hookimpl
    def register_checks(register: Callable[[type[Check[Any]]], None]) -> None:
        register(Echo)


ECHOES = Echoes()


def find(group: str) -> list[EntryPoint]:
    """What is installed, the discovery `scouting`, the checks `alone` and `echo`."""
    more = {
        "vedette.discoveries": {"scouting": "core.scouting"},
        "vedette.checks": {"alone": "core.scouting", "echo": "core.scouting:ECHOES"},
    }
    own = [EntryPoint(name, value, group) for name, value in more.get(group, {}).items()]
    return [*entry_points(group=group), *own]
