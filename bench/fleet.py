"""1,000 instances over 20 members of a fleet: how soon they settle, and what that asks of the engine.

All members share this process. First with an engine in it that answers after 2 ms, as what is counted depends on
neither; then on servers (Redis 6.2, Valkey 9, the tests' API server for Leases) and on an engine that answers after
100 ms: how many instances a survivor takes over in a second, and what watermarks cost.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from engines.backends import BACKENDS  # type: ignore[import-not-found]
from fleet.memory import Memory, MemoryConfig, MemoryEngine  # type: ignore[import-not-found]
from vedette.fleet import Fleet
from vedette.fleet.records import Mode

MEMBERS, INSTANCES, TTL, LATENCY = 20, 1000, 15.0, 0.002
SHORT, SLOW, MARKED = 5.0, 0.1, 100
Row = tuple[str, float, str, str]
WANTED: dict[str, Mode] = {f"check/{n}": "hash" for n in range(INSTANCES)}


class Member:
    """An agent that stops at once what it must not run any more."""

    def __init__(self, engine: Any, name: str) -> None:
        self.fleet = Fleet(engine, name, self._changed)
        self.fleet.want(WANTED)
        self.tokens: dict[str, int] = {}
        self.task = asyncio.create_task(self.fleet.run())

    def _changed(self) -> None:
        now = {name: one.lease.token for name, one in self.fleet.holdings.items()}
        for name, token in self.tokens.items():
            if now.get(name) != token:
                self.fleet.stopped(name, token)
        self.tokens = now


async def until(condition: Callable[[], bool]) -> float:
    """Seconds until it is so."""
    begun = time.monotonic()
    while not condition():  # noqa: ASYNC110 - what it waits for has no event
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


def engine(memory: Memory, ttl: float = TTL) -> Any:
    """An agent's way to it."""
    return MemoryEngine(MemoryConfig(ttl=ttl), memory)


def counted(engine: Any, writes: list[tuple[str, float]]) -> Any:
    """The same one; notes which records were written, and when that was answered."""
    write = engine.write

    async def note(key: str, *rest: Any) -> str:
        revision: str = await write(key, *rest)
        writes.append((key, time.monotonic()))
        return revision

    engine.write = note
    return engine


async def takeover(name: str, make: Callable[[], Any]) -> list[Row]:
    """Two members; one is killed, the other has all; then each instance has a watermark, and another one."""
    writes: list[tuple[str, float]] = []
    engines = [counted(make(), writes) for _ in range(2)]
    one, two = (Member(engine, f"node-{n}") for n, engine in enumerate(engines))
    await until(lambda: len(one.fleet.holdings) + len(two.fleet.holdings) == INSTANCES and bool(one.fleet.holdings))
    await asyncio.sleep(SHORT / 2)
    lost = len(two.fleet.holdings)
    two.task.cancel()
    await asyncio.sleep(0.1)
    writes.clear()
    taken = await until(lambda: len(one.fleet.holdings) == INSTANCES)
    times = sorted(at for key, at in writes if key.startswith("claims/"))

    some = list(WANTED)[:MARKED]
    writes.clear()
    begun = time.monotonic()
    for mark in range(2):
        kept = await asyncio.gather(*(one.fleet.save(instance, {"mark": mark}) for instance in some))
        if not all(kept):
            raise RuntimeError("a watermark was not kept")
    spent = time.monotonic() - begun
    marks = sum(key.startswith("claims/") for key, _ in writes)
    one.task.cancel()
    await asyncio.gather(one.task, two.task, return_exceptions=True)
    for engine in engines:
        await engine.close()
    return [
        (f"{name}: a survivor takes over", len(times) / (times[-1] - times[0]), "instances/s", ""),
        (f"{name}: {lost} instances of a killed member run again, ttl {SHORT:g} s", taken / SHORT, "ttl", ""),
        (f"{name}: writes for each watermark", marks / MARKED / 2, "", "1"),
        (f"{name}: watermarks of one member", MARKED * 2 / spent, "/s", ""),
    ]


async def on_servers() -> list[Row]:
    """How much of it is the engine's latency."""
    memory = Memory()
    memory.latency = SLOW
    rows = await takeover(f"{SLOW * 1000:g} ms", lambda: engine(memory, SHORT))
    for name, make in BACKENDS.items():
        with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
            backend = make(Path(folder) / "engine")
            backend.server.start()
            try:
                rows += await takeover(name, lambda backend=backend: backend.engine("bench", ttl=SHORT))  # type: ignore[misc]
            finally:
                backend.server.kill()
    return rows


async def measure() -> list[Row]:
    """Join together, stay, lose one, get one."""
    memory = Memory()
    memory.latency = LATENCY
    members = [Member(engine(memory), f"node-{n}") for n in range(MEMBERS)]

    def complete() -> bool:
        owned = [len(one.fleet.holdings) for one in members]
        return sum(owned) == INSTANCES and all(owned)

    cpu = time.process_time()
    settled = await until(complete)
    cpu = time.process_time() - cpu
    await asyncio.sleep(TTL / 2)
    shares = [len(one.fleet.holdings) for one in members]
    first_claims = sum(key.startswith("claims/") for key in memory.writes)

    memory.writes.clear()
    steady_cpu = time.process_time()
    await asyncio.sleep(TTL)
    steady_cpu = (time.process_time() - steady_cpu) / TTL
    steady = list(memory.writes)

    memory.writes.clear()
    gone = members.pop()
    gone.task.cancel()
    taken = await until(complete)
    moved = sum(key.startswith("claims/") for key in memory.writes) / len(gone.fleet.holdings)

    memory.writes.clear()
    members.append(Member(engine(memory), "node-new"))
    joined = await until(complete)
    await asyncio.sleep(TTL / 2)
    handed = sum(key.startswith("claims/") for key in memory.writes) / len(members[-1].fleet.holdings)
    for one in members:
        one.task.cancel()
    return [
        ("1,000 instances settle over 20 joining members", settled / TTL, "ttl", "<= 2"),
        ("CPU of all members for that", cpu, "s", ""),
        ("instances of one member, least", min(shares), "", ""),
        ("instances of one member, most", max(shares), "", ""),
        ("writes of claims per instance until then", first_claims / INSTANCES, "", "~ 1"),
        ("writes per member and third of the ttl, at rest", len(steady) / MEMBERS / 3, "", "<= 1"),
        ("writes of claims, at rest", sum(key.startswith("claims/") for key in steady), "", "0"),
        ("share of one core per member, at rest", steady_cpu / MEMBERS * 100, "%", ""),
        ("what a killed member had is taken over", taken / TTL, "ttl", "<= 2"),
        ("writes of claims per instance that moved so", moved, "", "1"),
        ("a joiner has its share", joined / TTL, "ttl", "<= 2"),
        ("writes of claims per instance handed to a joiner", handed, "", "2"),
    ]


if __name__ == "__main__":
    report(*asyncio.run(measure()), *asyncio.run(on_servers()))
