"""Drives the redis check by hand, and lends it servers and relays."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import RedisServer
from vedette import CheckError, Status
from vedette.emit import Channel, Emit
from vedette.metrics import Batch, Sample, ServiceCheck, Value
from vedette_checks.redis import Redis, RedisConfig

NOW = 1_790_000_000.0
"""The batch time of every run in the tests: 2026-09-21 13:33:20 UTC."""


class Servers:
    """Starts servers for one test and ends them after it."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self.binary = binary
        self._directory = directory
        self._started: list[RedisServer] = []

    def __call__(self, *, start: bool = True, binary: Path | None = None, **options: Any) -> RedisServer:
        server = RedisServer(binary or self.binary, self._directory / f"server{len(self._started)}", **options)
        self._started.append(server)
        if start:
            server.start()
        return server

    def end(self) -> None:
        for server in reversed(self._started):
            server.kill()


@dataclass
class Outcome:
    """What one run produced."""

    batch: Batch
    error: CheckError | None = None

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self.batch.samples}

    def samples(self, name: str) -> list[Sample]:
        return [sample for sample in self.batch.samples if sample.name == name]

    def sample(self, name: str, *tags: str) -> Sample:
        """The one sample of this name that has these tags."""
        found = [sample for sample in self.samples(name) if set(tags) <= set(sample.tags)]
        assert len(found) == 1, (name, tags, found)
        return found[0]

    def value(self, name: str, *tags: str) -> Value:
        return self.sample(name, *tags).value

    def status(self, name: str) -> ServiceCheck:
        found = [status for status in self.batch.statuses if status.name == name]
        assert len(found) == 1, (name, self.batch.statuses)
        return found[0]

    def refused(self) -> str:
        """The sentence and hint of a run that could not talk to the server, said alike in error and status."""
        assert self.error is not None
        status = self.status("redis.can_connect")
        assert status.status is Status.CRITICAL
        text = f"{self.error.message}; {self.error.hint}" if self.error.hint else self.error.message
        assert status.message == text
        return text


@dataclass
class Watch:
    """A check at work, driven by hand."""

    check: Redis
    channel: Channel
    state: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    opened: bool = False

    async def run(self) -> Outcome:
        emit = Emit(self.channel, NOW)
        error = None
        try:
            if not self.opened:
                await self.check.open()
                self.opened = True
            await self.check.run(emit)
        except CheckError as found:
            error = found
        assert dict(self.channel.dropped) == self.dropped, self.channel.take_undeclared()
        batch = emit.batch()
        self.state.update((key, json.loads(json.dumps(value))) for key, value in batch.commits)
        return Outcome(batch, error)

    async def well(self) -> Outcome:
        """The first run without an error: a short timeout is over too early where the machine just stood still."""
        async with asyncio.timeout(60):
            while (outcome := await self.run()).error is not None:
                pass
        return outcome


class Watches:
    """Makes checks and closes them after the test."""

    def __init__(self) -> None:
        self._made: list[Watch] = []

    def __call__(
        self, server: RedisServer | None = None, *, state: dict[str, Any] | None = None, **options: Any
    ) -> Watch:
        if server is not None:
            options = {"host": "127.0.0.1", "port": server.port, **options}
        config = RedisConfig.model_validate({"name": "test", **options})
        state = {} if state is None else state
        check = Redis(config, state)
        channel = Channel("redis/test", "redis", Redis.declare(config), Redis.statuses, ("instance:test", *config.tags))
        self._made.append(Watch(check, channel, state))
        return self._made[-1]

    async def end(self) -> None:
        for watch in self._made:
            await watch.check.close()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn
