"""An engine in this process: what the contract says and nothing else, shared by the agents of a test."""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import AsyncIterator
from functools import partial

import pytest
from pydantic import Field

from vedette import Duration, Engine, EngineConfig, EngineConflict, EngineRecord, EngineUnavailable
from vedette.fleet import fleet
from vedette.lease import boottime

_TICK, _MOST = 0.005, 0.02  # seconds


class LoopTime:
    """A clock that stands still while the event loop does: terms of a second outlast a machine that stops for two."""

    def __init__(self) -> None:
        self._now = self._read = boottime()
        self._ticks = False

    def __call__(self) -> float:
        if not self._ticks:
            self._ticks = True
            _go_on(weakref.ref(self))
        return self._now

    def tick(self) -> None:
        """Time has passed, though no more than a busy loop's turn may take."""
        now = boottime()
        self._now += min(now - self._read, _MOST)
        self._read = now


def _go_on(clock: weakref.ref[LoopTime]) -> None:
    if (there := clock()) is not None:
        there.tick()
        asyncio.get_running_loop().call_later(_TICK, _go_on, clock)


@pytest.fixture(autouse=True)
def loop_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agents of a test are members of a fleet by the loop's time."""
    monkeypatch.setattr(fleet, "Fleet", partial(fleet.Fleet, clock=LoopTime()))


class Memory:
    """The records, and who wants to hear of changes."""

    def __init__(self) -> None:
        self.records: dict[str, EngineRecord] = {}
        self.listeners: set[asyncio.Event] = set()
        self.lost = ""
        """Why it cannot be reached."""
        self.writes: list[str] = []
        self.latency = 0.0
        self.clock = LoopTime()

    def wipe(self) -> None:
        self.records.clear()

    def told(self) -> None:
        for event in self.listeners:
            event.set()


class MemoryConfig(EngineConfig):
    """Short ttls are allowed."""

    backend: str = "memory"
    ttl: Duration = Field(1.0, ge=0.1)


class MemoryEngine(Engine[MemoryConfig]):
    """One agent's way to a `Memory`."""

    name = "memory"

    def __init__(self, config: MemoryConfig, memory: Memory) -> None:
        super().__init__(config)
        self.memory = memory
        self.cut = ""
        """Why this agent alone cannot reach it."""
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def read(self, prefix: str) -> list[EngineRecord]:
        await self._reach()
        return [record for key, record in sorted(self.memory.records.items()) if key.startswith(prefix)]

    async def get(self, key: str) -> EngineRecord | None:
        await self._reach()
        return self.memory.records.get(key)

    async def write(self, key: str, value: str, revision: str | None, guard: EngineRecord | None = None) -> str:
        await self._reach()
        if guard is not None:
            self._compare(guard.key, guard.revision)
        self._compare(key, revision)
        record = EngineRecord(key, value, secrets.token_hex(8))
        before = self.memory.records.get(key)
        self.memory.records[key] = record
        self.memory.writes.append(key)
        if before is None or self.gist(before.value) != self.gist(value):
            self.memory.told()
        return record.revision

    async def remove(self, key: str, revision: str) -> None:
        await self._reach()
        if key in self.memory.records:
            self._compare(key, revision)
            del self.memory.records[key]
            self.memory.told()

    async def changes(self) -> AsyncIterator[None]:
        event = asyncio.Event()
        self.memory.listeners.add(event)
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            self.memory.listeners.discard(event)

    async def _reach(self) -> None:
        await asyncio.sleep(self.memory.latency)
        if self.memory.lost or self.cut:
            raise EngineUnavailable(self.memory.lost or self.cut)

    def _compare(self, key: str, revision: str | None) -> None:
        record = self.memory.records.get(key)
        if (record.revision if record else None) != revision:
            raise EngineConflict(f"{key} is at {record.revision if record else None}, not at {revision}")
