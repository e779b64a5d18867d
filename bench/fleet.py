"""1,000 instances over 20 members of a fleet: how soon they settle, and what that asks of the engine.

All members share this process and an engine in it that answers after 2 ms; what is counted does not depend on either.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common import report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from fleet.memory import Memory, MemoryConfig, MemoryEngine  # type: ignore[import-not-found]
from vedette.fleet import Fleet
from vedette.fleet.records import Mode

MEMBERS, INSTANCES, TTL, LATENCY = 20, 1000, 15.0, 0.002
WANTED: dict[str, Mode] = {f"check/{n}": "hash" for n in range(INSTANCES)}


class Member:
    """An agent that stops at once what it must not run any more."""

    def __init__(self, memory: Memory, name: str) -> None:
        self.fleet = Fleet(MemoryEngine(MemoryConfig(ttl=TTL), memory), name, self._changed)
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


async def measure() -> None:
    """Join together, stay, lose one, get one."""
    memory = Memory()
    memory.latency = LATENCY
    members = [Member(memory, f"node-{n}") for n in range(MEMBERS)]

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
    members.append(Member(memory, "node-new"))
    joined = await until(complete)
    await asyncio.sleep(TTL / 2)
    handed = sum(key.startswith("claims/") for key in memory.writes) / len(members[-1].fleet.holdings)
    for one in members:
        one.task.cancel()
    report(
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
    )


if __name__ == "__main__":
    asyncio.run(measure())
