"""The facade over an engine in this process: what an agent sees of its fleet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from fleet.memory import Memory, MemoryConfig, MemoryEngine
from vedette import EngineUnavailable
from vedette.fleet import Fleet
from vedette.fleet.participant import Participant
from vedette.fleet.records import Claim, Mode
from vedette.fleet.requests import Request
from vedette.lease import Lease

pytestmark = pytest.mark.anyio

TTL = 0.6
HASHED: dict[str, Mode] = {f"redis/{n}": "hash" for n in range(20)}
ALL: dict[str, Mode] = {**HASHED, "sql/report": "leader"}


class Agent:
    """One of several: a fleet, its engine, and how often it was told of changes."""

    def __init__(self, memory: Memory, name: str) -> None:
        self.engine = MemoryEngine(MemoryConfig(ttl=TTL), memory)
        self.leases: dict[str, Lease] = {}
        self.revoked: list[Lease] = []
        self.fleet = Fleet(self.engine, name, self._changed, memory.clock)
        self.task: asyncio.Task[None] | None = None
        self.halts = True

    def start(self) -> None:
        self.task = asyncio.create_task(self.fleet.run())

    async def crash(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

    @property
    def held(self) -> set[str]:
        return {name for name, one in self.fleet.holdings.items() if one.lease.held}

    def _changed(self) -> None:
        now = {name: one.lease for name, one in self.fleet.holdings.items()}
        gone = [lease for name, lease in self.leases.items() if now.get(name) is not lease]
        assert not any(lease.held for lease in gone)
        self.revoked += gone
        self.leases = now
        if self.halts:
            for lease in gone:
                self.fleet.stopped(lease.instance, lease.token)


@asynccontextmanager
async def agents(memory: Memory, *names: str, want: dict[str, Mode] | None = None) -> AsyncIterator[list[Agent]]:
    made = [Agent(memory, name) for name in names]
    for agent in made:
        agent.fleet.want(ALL if want is None else want)
        agent.start()
    try:
        yield made
    finally:
        for agent in made:
            await agent.crash()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def shared(*made: Agent) -> bool:
    """Everything is held, by one each, and nothing is on its way."""
    held = [name for agent in made for name in agent.held]
    return sorted(held) == sorted(ALL) and all(len(agent.fleet.vitals.members) == len(made) for agent in made)


async def test_agents_share_what_only_one_may_run_and_it_costs_one_write_each() -> None:
    memory = Memory()
    async with agents(memory, "a", "b", "c") as made:
        await until(lambda: shared(*made) and all(agent.held for agent in made))
        vitals = made[0].fleet.vitals
        assert (vitals.name, vitals.backend, vitals.state, vitals.trouble) == ("default", "memory", "member", "")
        assert [one.identity for one in vitals.members] == ["a", "b", "c"]
        assert all(one.ready for one in vitals.members)
        assert [one.id for one in vitals.members if one.me] == [vitals.me]
        assert "sql/report" in next(agent for agent in made if agent.fleet.vitals.me.startswith(vitals.leader)).held
        assert 0 < vitals.left <= 0.9 * TTL
        writes, beats = len(memory.writes), vitals.beats
        await until(lambda: made[0].fleet.vitals.beats >= beats + 3)
        later = memory.writes[writes:]
        assert later
        assert all(key.startswith("members/") for key in later)


async def test_state_follows_at_once_when_an_agent_leaves() -> None:
    memory = Memory()
    async with agents(memory, "a", "b") as (a, b):
        await until(lambda: shared(a, b) and bool(a.held))
        name = sorted(a.held)[0]
        token = a.fleet.holdings[name].lease.token
        assert await a.fleet.save(name, {"watermark": 5})
        assert await a.fleet.save(name, {"other": "x"})
        assert not await b.fleet.save(name, {"watermark": 1})
        last = a.fleet.save(name, {"watermark": 6})
        await a.fleet.leave(10.0)
        assert await last
        assert a.fleet.vitals.state == "left"
        assert (a.held, a.engine.closed) == (set(), 1)
        assert not await a.fleet.save(name, {"watermark": 7})
        await until(lambda: b.held == set(ALL))
        holding = b.fleet.holdings[name]
        assert holding.state == {"watermark": 6, "other": "x"}
        assert holding.lease.token > token
        assert [one.identity for one in b.fleet.vitals.members] == ["b"]


async def test_what_a_crashed_agent_had_is_taken_over() -> None:
    memory = Memory()
    async with agents(memory, "a", "b") as (a, b):
        await until(lambda: shared(a, b))
        await a.crash()
        await until(lambda: b.held == set(ALL))
        assert set(b.fleet.vitals.owners.values()) == {"b"}


async def test_a_lost_engine_ends_everything_and_its_return_begins_it_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vedette.fleet")
    memory = Memory()
    async with agents(memory, "a") as (a,):
        await until(lambda: a.held == set(ALL))
        before = a.fleet.vitals.me
        pending = a.fleet.save("sql/report", {"n": 1})
        await pending
        memory.lost = "redis://db1:6379: connection refused"
        await until(lambda: a.fleet.vitals.state == "lost")
        assert a.held == set()
        assert len(a.revoked) == len(ALL)
        assert a.fleet.vitals.trouble == memory.lost
        assert not await a.fleet.save("sql/report", {"n": 2})
        memory.lost = ""
        await until(lambda: a.held == set(ALL))
        assert a.fleet.vitals.me != before
        assert a.fleet.vitals.trouble == ""
        assert a.fleet.holdings["sql/report"].state == {"n": 1}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("connection refused; nothing that only one agent may run is run here" in text for text in warnings)


async def test_an_engine_that_forgot_everything_gives_nothing_away_for_a_ttl() -> None:
    memory = Memory()
    async with agents(memory, "a") as (a,):
        await until(lambda: a.held == set(ALL))
        tokens = {lease.token for lease in a.leases.values()}
        memory.wipe()
        await until(lambda: not a.held)
        await until(lambda: a.held == set(ALL))
        assert min(lease.token for lease in a.leases.values()) > max(tokens)


async def test_a_living_owner_is_waited_for_until_its_runs_have_stopped() -> None:
    memory = Memory()
    async with agents(memory, "a", "b") as (a, b):
        await until(lambda: shared(a, b) and bool(a.held - {"sql/report"}))
        name = sorted(a.held - {"sql/report"})[0]
        a.halts = False
        lease = a.fleet.holdings[name].lease
        a.fleet.want({one: mode for one, mode in ALL.items() if one != name})
        await until(lambda: not lease.held)
        await asyncio.sleep(0)
        assert name not in b.held
        assert await a.fleet.save(name, {"last": "words"})
        a.fleet.stopped(name, lease.token)
        await until(lambda: name in b.held)
        assert b.fleet.holdings[name].state == {"last": "words"}


async def test_what_json_cannot_hold_is_not_saved() -> None:
    memory = Memory()
    async with agents(memory, "a") as (a,):
        await until(lambda: a.held == set(ALL))
        for values in ({"x": object()}, {"x": float("nan")}, {"x": "\ud800"}, {"x": "y" * 200_000}):
            assert not await a.fleet.save("sql/report", values)
        assert await a.fleet.save("sql/report", {"x": 1})
        assert not await a.fleet.save("no/such", {"x": 1})


async def test_a_state_that_outgrows_the_engine_bit_by_bit_is_refused_and_can_be_given_up() -> None:
    memory = Memory()
    async with agents(memory, "a") as (a,):
        await until(lambda: a.held == set(ALL))
        assert await a.fleet.save("sql/report", {"x": "ü" * 60_000})
        assert not await a.fleet.save("sql/report", {"y": "ü" * 60_000})
        assert await a.fleet.save("sql/report", {"z": 3})
        a.fleet.want(HASHED)
        await until(lambda: Claim.parse(memory.records["claims/sql/report"].value).owner == "")
        assert Claim.parse(memory.records["claims/sql/report"].value).state == {"x": "ü" * 60_000, "z": 3}


async def test_a_fault_in_the_protocol_ends_what_is_held_and_the_agent_joins_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vedette.fleet")
    memory = Memory()
    async with agents(memory, "a") as (a,):
        await until(lambda: a.held == set(ALL))
        sound, broken = Participant.requests, [True]

        def requests(self: Participant) -> list[Request]:
            if broken:
                raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
            return sound(self)

        monkeypatch.setattr(Participant, "requests", requests)
        await until(lambda: a.fleet.vitals.state == "lost")
        assert a.held == set()
        assert a.fleet.vitals.trouble == "a fault in vedette itself (UnicodeEncodeError): see the log"
        broken.clear()
        await until(lambda: a.held == set(ALL))
        assert a.fleet.vitals.trouble == ""


async def test_an_engine_that_cannot_be_opened_is_opened_later() -> None:
    memory = Memory()
    agent = Agent(memory, "a")
    failures = [EngineUnavailable("no address"), ValueError("a bug")]

    async def open_later() -> None:
        if failures:
            raise failures.pop(0)

    agent.engine.open = open_later  # type: ignore[method-assign]
    agent.fleet.want(ALL)
    agent.start()
    await until(lambda: agent.fleet.vitals.trouble == "no address")
    assert agent.fleet.vitals.state == "lost"
    await until(lambda: agent.held == set(ALL))
    await agent.crash()


async def test_leaving_before_anything_was_begun_only_closes() -> None:
    agent = Agent(Memory(), "a")
    await agent.fleet.leave(1.0)
    assert (agent.engine.opened, agent.engine.closed, agent.fleet.vitals.state) == (0, 1, "left")


async def test_leaving_ends_in_time_though_the_engine_is_lost() -> None:
    memory = Memory()
    async with agents(memory, "a") as (a,):
        await until(lambda: a.held == set(ALL))
        memory.lost = "gone"
        kept = a.fleet.save("sql/report", {"n": 1})
        async with asyncio.timeout(20):
            await a.fleet.leave(0.2)
        assert not await kept
        assert (a.engine.closed, a.fleet.vitals.state) == (1, "left")
