"""What an agent makes of its leases: which commits count, how long it waits for sinks, what cannot run here."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vedette import Batch, CheckConfig
from vedette.config import Configuration

from .memory import Memory
from .test_agent import Counting, House, until

pytestmark = pytest.mark.anyio


class Paced(House):
    """An agent whose instances run at another pace, or are another check."""

    interval = "50ms"
    plugin: Any = Counting

    def load(self) -> Configuration:
        loaded = super().load()
        made = []
        for one in loaded.instances:
            values = {"name": one.config.name, "interval": self.interval, "timeout": "5s", "run_on": one.run_on}
            made.append(replace(one, config=CheckConfig.model_validate(values), plugin=self.plugin))
        return replace(loaded, instances=tuple(made))


class Plain(Counting):
    """Commits, and saves nothing beside."""

    async def run(self, emit: Any) -> None:
        number = self.state.get("number", 0) + 1
        emit.gauge("counting.number", number)
        emit.commit("number", number)


def values(batches: list[Batch]) -> list[float]:
    return [one.value for got in batches for one in got.samples if one.name == "counting.number"]


@pytest.mark.parametrize("wiped", [False, True], ids=["engine away", "engine empty"])
async def test_windows_that_were_fenced_come_again_where_the_engine_knows_none(tmp_path: Path, wiped: bool) -> None:
    memory = Memory()
    one = Paced(tmp_path, "one", memory, a="hash")
    one.plugin = Plain
    async with one.running():
        if wiped:
            await until(lambda: len(one.sink.got) > 2, "some to be sent")
        one.sink.gate.clear()
        ran = len(one.numbers("a"))
        await until(lambda: len(one.numbers("a")) > ran + 6, "a backlog")
        lease = one.agent._ownership._fleet.holdings["counting/a"].lease
        if wiped:
            memory.wipe()
        else:
            one.engines[0].cut = "away"
        await until(lambda: not lease.held, "the term to end")
        one.engines[0].cut = ""
        await until(lambda: one.states()["a"] == "standby", "it to be taken back")
        await until(lambda: one.states()["a"] != "standby", "it to be granted again")
        one.sink.gate.set()
        sent = len(one.sink.got)
        await until(lambda: len(one.sink.got) > sent + 8, "more to be sent")
        assert one.agent.snapshot().sinks[0].fenced > 0
        got = values(one.sink.got)
        assert set(got) == set(range(1, int(max(got)) + 1))


async def test_windows_that_were_fenced_come_again_where_every_agent_runs_it_from_now_on(tmp_path: Path) -> None:
    one = Paced(tmp_path, "one", Memory(), a="hash")
    one.plugin = Plain
    async with one.running():
        await until(lambda: len(one.sink.got) > 2, "some to be sent")
        one.sink.gate.clear()
        ran = len(one.numbers("a"))
        await until(lambda: len(one.numbers("a")) > ran + 6, "a backlog")
        one.modes = {"a": "every_node"}
        assert str(await one.agent.reload()) == "+0 ~1 (run_on hash → every_node) -0 =0"
        one.sink.gate.set()
        sent = len(one.sink.got)
        await until(lambda: len(one.sink.got) > sent + 8, "more to be sent")
        assert one.agent.snapshot().sinks[0].fenced > 0
        got = values(one.sink.got)
        assert set(got) == set(range(1, int(max(got)) + 1))


async def test_a_watermark_waits_for_the_sink_that_is_behind(tmp_path: Path) -> None:
    class Two(Paced):
        plugin = Plain

        def load(self) -> Configuration:
            loaded = super().load()
            ((kind, config),) = loaded.sinks
            return replace(loaded, sinks=((kind, config), (kind, config.model_copy(update={"name": "behind"}))))

    one = Two(tmp_path, "one", Memory(), a="hash")
    async with one.running():
        await until(lambda: len(one.sink.got) > 2, "some to be sent")
        behind: Any = one.agent._outlets._outlets[1].sink
        behind.gate.clear()
        sent = len(one.sink.got)
        await until(lambda: len(one.sink.got) > sent + 6, "the other one to go on")
        had = max(values(behind.got))
        await until(lambda: f'"number":{int(had)}' in _claim(one.memory), "what both have to be written")
        assert max(values(one.sink.got)) > had + 4
        behind.gate.set()
        await until(lambda: f'"number":{int(had) + 6}' in _claim(one.memory), "the rest, now that both have it")


async def test_a_planned_move_waits_for_what_a_slow_sink_has_in_hand(tmp_path: Path) -> None:
    one = Paced(tmp_path, "one", Memory(), a="hash")
    one.interval, one.ttl = "1h", 2.4
    async with one.running():
        one.sink.gate.clear()
        await until(lambda: one.states()["a"] == "starting", "it to be granted")
        await until(lambda: not one.agent._crew.get("counting/a").run_now(), "it to wait for its tick")
        await until(lambda: one.numbers("a"), "a batch in the sink's hand")
        lease = one.agent._ownership._fleet.holdings["counting/a"].lease
        sink, saved = one.sink, one.memory.records["claims/counting/a"].value
        assert "number" not in saved
        one.ttl = 1.0
        reloading = asyncio.create_task(one.agent.reload())
        await until(lambda: one.states()["a"] == "standby", "it to be halted")
        asyncio.get_running_loop().call_later(0.1, sink.gate.set)
        await reloading
        assert not lease.held
        sent = values(sink.got)  # on a busy machine the first tick of its own has come, too
        assert sent in ([1], [1, 2])
        assert f'"number":{int(sent[-1])}' in _claim(one.memory)


async def test_an_older_commit_never_replaces_what_was_saved_since(tmp_path: Path) -> None:
    class Saver(Counting):
        async def run(self, emit: Any) -> None:
            number = self.state.get("number", 0)
            if number == 0:
                emit.gauge("counting.number", 1)
                emit.commit("number", 1)
                emit.commit("other", 1)
            elif number == 1:
                await emit.save("number", 2)

    memory = Memory()
    one = Paced(tmp_path, "one", memory, a="hash")
    one.plugin = Saver
    async with one.running():
        one.sink.gate.clear()
        await until(lambda: '"number":2' in _claim(memory), "the newer one to be saved")
        one.sink.gate.set()
        await until(lambda: '"other":1' in _claim(memory), "the older commit to be written")
        assert '"number":2' in _claim(memory)


def _claim(memory: Memory) -> str:
    record = memory.records.get("claims/counting/a")
    return record.value.replace(" ", "") if record else ""


async def test_what_cannot_be_made_here_runs_elsewhere_and_is_tried_again(tmp_path: Path) -> None:
    memory = Memory()
    able: set[str] = set()

    class Picky(Plain):
        def __init__(self, config: CheckConfig, state: Any = None) -> None:
            if not able:
                raise RuntimeError("no driver on this machine")
            super().__init__(config, state)

    one, two = Paced(tmp_path, "one", memory, a="leader"), Paced(tmp_path, "two", memory, a="leader")
    one.plugin, two.plugin = Picky, Plain
    one.ttl = two.ttl = 0.5
    async with one.running():
        await until(lambda: one.states()["a"] == "failing", "it to be granted to the first, in vain")
        async with two.running():
            await until(lambda: two.numbers("a"), "the other to run it")
            said = "its check cannot be made here, see the log; runs on two"
            await until(lambda: one.agent.snapshot().instances[0].message == said, "the first to hear of it")
            assert one.states()["a"] == "failing"
            able.add("now")
            await until(lambda: one.numbers("a"), "the first to try again")
            assert one.states()["a"] == "ok"


async def test_two_agents_of_one_name_say_so(tmp_path: Path) -> None:
    memory = Memory()
    one, two = Paced(tmp_path / "x", "same", memory, a="hash"), Paced(tmp_path / "y", "same", memory, a="hash")
    one.ttl = two.ttl = 0.5
    async with one.running(), two.running():
        trouble = "another agent is called same too; give each an `identity` of its own in `fleet:`"
        both = (one, two)
        await until(lambda: all(one.agent.snapshot().fleet for one in both), "both to join")
        await until(lambda: {one.agent.snapshot().fleet.trouble for one in both} == {trouble}, "both to say so")
        said = "runs on another agent that is called same too"
        messages = lambda: {one.agent.snapshot().instances[0].message for one in both}  # noqa: E731
        await until(lambda: messages() == {"", said}, "the one that stands by to say where it runs")


async def test_a_reload_that_ends_after_the_stop_grants_nothing_any_more(tmp_path: Path) -> None:
    one = Paced(tmp_path, "one", Memory(), a="hash")
    one.ttl = 0.5
    async with one.running():
        await until(lambda: one.agent._ownership.vitals, "it to join")
        async with one.agent._ownership.paused():
            await one.agent._ownership.close()
        await until(lambda: one.agent._ownership._holdings, "the lease to come")
        beats = one.agent.snapshot().fleet.beats
        await until(lambda: one.agent.snapshot().fleet.beats > beats + 3, "some time to pass")
        assert one.states()["a"] == "standby"
