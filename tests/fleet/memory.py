"""An engine in this process: what the contract says and nothing else, shared by the agents of a test."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

from pydantic import Field

from vedette import Duration, Engine, EngineConfig, EngineConflict, EngineRecord, EngineUnavailable


class Memory:
    """The records, and who wants to hear of changes."""

    def __init__(self) -> None:
        self.records: dict[str, EngineRecord] = {}
        self.listeners: set[asyncio.Event] = set()
        self.lost = ""
        """Why it cannot be reached."""
        self.writes: list[str] = []
        self.latency = 0.0

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
