"""The agent as a member: who runs what, the state that follows it, reloads, a lost engine, what people see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from vedette import Batch, Check, CheckConfig, Kind, Metric, Sink, SinkConfig
from vedette.agent import Agent
from vedette.cli import tables
from vedette.config import Configuration, load
from vedette.config.changes import compare
from vedette.control import ControlError, Overall, overall
from vedette.control.wire import encode, perform, picture, snapshot_of
from vedette.plugins import Registry
from vedette.state import StateStore
from vedette.status.board import Board
from vedette.status.pages import parts

from .memory import Memory, MemoryConfig, MemoryEngine

pytestmark = pytest.mark.anyio

TTL = 1.0


class Counting(Check[CheckConfig]):
    """Counts on from where it, or whoever had it before, came to."""

    name = "counting"
    metrics = (Metric("counting.number", Kind.GAUGE),)
    saves: ClassVar[list[bool]] = []

    async def run(self, emit: Any) -> None:
        number = self.state.get("number", 0) + 1
        emit.gauge("counting.number", number)
        emit.commit("number", number)
        if "intention" not in self.state:
            self.saves.append(await emit.save("intention", {"by": "somebody"}))


class Slow(Sink[SinkConfig]):
    """Lets nothing through while its gate is closed."""

    name = "slow"

    def __init__(self, config: SinkConfig) -> None:
        super().__init__(config)
        self.got: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, batches: Any) -> None:
        async for batch in batches:
            await self.gate.wait()
            if batch.check == "counting":
                self.got.append(batch)


class House:
    """One agent of a fleet, in this process."""

    def __init__(self, folder: Path, name: str, memory: Memory, **modes: str) -> None:
        self.folder = folder / name
        self.name = name
        self.modes = modes or {"a": "hash", "b": "hash", "c": "leader", "every": "every_node"}
        self.memory = memory
        self.batches: list[Batch] = []
        (self.folder / "conf.d").mkdir(parents=True)
        self.engines: list[MemoryEngine] = []
        self.agent: Any = None
        self.ttl = TTL

    def load(self) -> Configuration:
        """The configuration as if files said so: neither the check nor the engine is installed."""
        house = self

        class Engine(MemoryEngine):
            def __init__(self, config: MemoryConfig) -> None:
                super().__init__(config, house.memory)
                house.engines.append(self)

        options = f"hostname: {self.name}\nreport_interval: 200ms\nreload: {{watch: false}}\n"
        (self.folder / "conf.d" / "agent.yaml").write_text(options)
        files = load(self.folder / "conf.d", Registry())
        made = []
        for name, mode in self.modes.items():
            config = CheckConfig.model_validate({"name": name, "interval": "50ms", "timeout": "10s", "run_on": mode})
            made.append(_instance(name, config, mode))
        self._engine = getattr(self, "_engine", Engine)
        fleet = (self._engine, MemoryConfig(backend="memory", name="payments", ttl=self.ttl)) if self.ttl else None
        sinks = ((Slow, SinkConfig(type="slow", name="slow")),)
        return replace(files, instances=tuple(made), sinks=sinks, fleet=fleet, problems=())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[House]:
        state = StateStore(self.folder / "state")
        self.agent = Agent(await asyncio.to_thread(self.load), state, {}, self.batches.append)
        self.agent._load = self.load
        task = asyncio.create_task(self.agent.run())
        try:
            yield self
        finally:
            self.agent.stop()
            await task

    @property
    def sink(self) -> Any:
        return self.agent._outlets._outlets[0].sink

    def states(self) -> dict[str, str]:
        return {one.instance.partition("/")[2]: one.state.value for one in self.agent.snapshot().instances}

    def numbers(self, name: str) -> list[int]:
        return [
            one.value
            for batch in self.batches
            for one in batch.samples
            if batch.instance == f"counting/{name}" and one.name == "counting.number"
        ]

    def newest(self, metric: str) -> Any:
        return [one.value for batch in self.batches for one in batch.samples if one.name == metric][-1]


def _instance(name: str, config: CheckConfig, mode: Any) -> Any:
    from vedette.config import Instance

    content = {"name": name, "run_on": mode}
    return Instance(f"counting/{name}", "counting", Counting, config, "conf.d/counting.yaml", 1, content, run_on=mode)


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


OURS = ("a", "b", "c")


async def test_two_agents_share_and_one_takes_over_what_the_other_had(tmp_path: Path) -> None:
    memory = Memory()
    one, two = House(tmp_path, "one", memory), House(tmp_path, "two", memory)
    async with two.running():
        async with one.running():
            await until(lambda: (one.states()["a"], two.states()["b"]) == ("ok", "ok"), "each to have its own")
            await until(lambda: (one.states()["b"], two.states()["a"]) == ("standby", "standby"), "and no more")
            assert one.states()["every"] == two.states()["every"] == "ok"
            shared = {name: one.states()[name] for name in OURS}
            await until(lambda: all(one.numbers(n) for n in OURS if shared[n] == "ok"), "all to have run")
            standing = next(name for name in OURS if shared[name] == "standby")
            running = next(name for name in OURS if shared[name] == "ok")
            messages = lambda: {row.instance: row.message for row in one.agent.snapshot().instances}  # noqa: E731
            await until(lambda: messages()[f"counting/{standing}"] == "runs on two", "it to know where the rest runs")
            with pytest.raises(ControlError, match=r"cannot run now: runs on two"):
                one.agent.run_now(f"counting/{standing}")
            one.agent.run_now(f"counting/{running}")
            assert {batch.host for batch in one.batches if batch.instance == f"counting/{running}"} == {""}
            await _looks_right(one, two)
        # it has stopped: everything is the other's at once, and goes on from where it was
        await until(lambda: all(two.states()[name] == "ok" for name in OURS), "the other to have all")
        for name in OURS:
            await until(lambda name=name: len(two.numbers(name)) > 2, "it to run all")
            together = [*one.numbers(name), *two.numbers(name)]
            assert set(together) == set(
                range(1, max(together) + 1)
            )  # on a busy machine a term may end, and one come twice
    assert Counting.saves == [True] * len(Counting.saves)
    assert not [key for key in memory.records if key.startswith("members/")]
    assert all(engine.closed == 1 for house in (one, two) for engine in house.engines)


async def test_an_owned_commit_waits_for_every_sink_and_goes_to_nobody_else(tmp_path: Path) -> None:
    """What a queue still holds when the lease ends is for the next owner to collect, so it must not count as done."""
    memory = Memory()
    one = House(tmp_path, "one", memory, a="hash")
    async with one.running():
        await until(lambda: len(one.sink.got) > 2, "some batches")
        one.sink.gate.clear()
        sent = len(one.sink.got)
        await until(lambda: len(one.numbers("a")) > sent + 4, "more to wait in the queue")
        held = one.agent._ownership._fleet.holdings["counting/a"].lease
        claim = memory.records["claims/counting/a"].value
        one.engines[0].cut = "a firewall drops it"
        await until(lambda: not held.held, "its term to end")
        assert memory.records["claims/counting/a"].value == claim  # of the last batch that left
        one.sink.gate.set()
        await until(lambda: one.agent.snapshot().sinks[0].queued == 0, "the queue to be empty")
        values = [one.value for got in one.sink.got for one in got.samples if one.name == "counting.number"]
        assert values == list(range(1, len(values) + 1))
        assert len(values) <= sent + 1  # what was in its hands, no more
        assert one.agent.snapshot().sinks[0].fenced > 0
        assert memory.records["claims/counting/a"].value == claim


async def test_a_lost_engine_stops_what_is_owned_and_nothing_else(tmp_path: Path) -> None:
    memory = Memory()
    one = House(tmp_path, "one", memory)
    async with one.running():
        await until(lambda: all(one.states()[name] == "ok" for name in OURS), "it to have all")
        await until(lambda: one.newest("vedette.fleet.owned") == 3, "it to say so")
        figures = {name: one.newest(f"vedette.fleet.{name}") for name in ("member", "members", "orphans", "fenced")}
        assert figures == {"member": 1, "members": 1, "orphans": 0, "fenced": 0}
        assert (one.newest("health_check.overall"), overall(one.agent.snapshot())) == (1, Overall.OK)
        memory.lost = "<nothing> listens there"
        await until(lambda: one.agent.snapshot().fleet.trouble, "it to notice")
        assert "&lt;nothing&gt; listens" in str(parts(Board(one.agent))["fleet"])
        assert "<nothing> listens" in _printed(one.agent.snapshot())
        assert overall(one.agent.snapshot()) in (Overall.WARNING, Overall.FAILING)
        await until(lambda: one.agent.snapshot().fleet.state == "lost", "its term to end")
        await until(lambda: all(one.states()[name] == "standby" for name in OURS), "all of it to stand by")
        snapshot = one.agent.snapshot()
        assert overall(snapshot) is Overall.FAILING
        messages = {row.message for row in snapshot.instances if row.state.value == "standby"}
        assert messages == {"this agent is cut off from its fleet"}
        ran = len(one.numbers("every"))
        await until(lambda: len(one.numbers("every")) > ran + 3, "the others to go on")
        await until(lambda: one.newest("health_check.overall") == 0, "it to say so")
        assert (one.newest("vedette.fleet.member"), one.newest("vedette.fleet.orphans")) == (0, 3)
        memory.wipe()
        memory.lost = ""
        await until(lambda: all(one.states()[name] == "ok" for name in OURS), "everything to come back")
        await until(lambda: len(one.numbers("a")) > 10, "it to go on")
        assert set(one.numbers("a")) == set(range(1, one.numbers("a")[-1] + 1))  # its own store had the watermark
        await until(lambda: one.newest("health_check.overall") == 1, "it to say so")


async def test_reloads_change_what_it_wants_and_which_fleet_it_is_in(tmp_path: Path) -> None:
    memory = Memory()
    one = House(tmp_path, "one", memory, a="hash", b="hash")
    async with one.running():
        await until(lambda: set(one.states().values()) == {"ok"}, "it to have both")
        numbers = one.numbers("a")[-1]
        one.modes = {"a": "hash", "new": "leader", "b": "every_node"}
        assert str(await one.agent.reload()) == "+1 ~1 (run_on hash → every_node) -0 =1"
        await until(lambda: set(one.states().values()) == {"ok"}, "the new one to be claimed")
        await until(lambda: '"owner":""' in memory.records["claims/counting/b"].value.replace(" ", ""), "b to be free")
        assert one.states() == {"a": "ok", "new": "ok", "b": "ok"}  # b runs on, on every agent
        await until(lambda: one.numbers("a")[-1] > numbers, "a to go on")

        one.ttl = 2.0
        assert [change.what for change in (await one.agent.reload()).agent] == [("changed",)]
        assert (len(one.engines), one.engines[0].closed) == (2, 1)
        assert one.states()["a"] == "standby"
        numbers = one.numbers("a")[-1]
        await until(lambda: one.states()["a"] == "ok", "it to join anew")
        await until(lambda: one.numbers("a")[-1] > numbers, "it to go on")
        assert set(one.numbers("a")) == set(range(1, one.numbers("a")[-1] + 1))

        one.ttl = 0.0
        before = one.agent._configuration
        assert [change.what for change in compare(before, one.load()).agent] == [("removed",)]
        await one.agent.reload()
        assert one.agent.snapshot().fleet is None
        assert one.states() == {"a": "standby", "new": "standby", "b": "ok"}
        assert "has no `fleet:` any more" in next(
            row.message for row in one.agent.snapshot().instances if row.state.value == "standby"
        )


async def _looks_right(one: House, two: House) -> None:
    """The status, over the wire and back, as a table and on the page."""
    await until(lambda: len(one.agent.snapshot().fleet.owners) == 3, "it to know all owners")
    again = snapshot_of(_plain(await perform(one.agent, {"op": "status"})))
    assert again.fleet is not None
    assert [member.identity for member in again.fleet.members] == ["one", "two"]
    lines = [line.split() for line in _printed(again).splitlines()]
    place = next(n for n, line in enumerate(lines) if line[:2] == ["fleet", "payments"])
    assert lines[place][2:4] == ["(memory):", "member,"]
    assert [line[0] for line in lines[place + 2 : place + 4]] == ["one", "two"]
    assert sum(int(line[line.index("ready") + 1]) for line in lines[place + 2 : place + 4]) == 3
    standing = sum(state == "standby" for state in one.states().values())
    assert sum("runs on two" in " ".join(line) for line in lines) == standing
    html = str(parts(Board(one.agent))["fleet"])
    assert "<th scope=row>two</th>" in html
    assert "This agent is a member, on memory" in html


def _plain(answer: Any) -> Any:
    import msgspec

    return msgspec.json.decode(encode(answer))


def _printed(snapshot: Any) -> str:
    console, out = tables.terminal, StringIO()
    tables.terminal = lambda: Console(file=out, width=200)  # type: ignore[assignment]
    try:
        tables.print_status(snapshot)
    finally:
        tables.terminal = console
    return out.getvalue()


def test_a_picture_without_a_fleet_has_none() -> None:
    from vedette.control import Snapshot

    assert picture(Snapshot(1.0, 0.0, (), (), ()))["fleet"] is None
