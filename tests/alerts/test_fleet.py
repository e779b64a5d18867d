"""A takeover between two real agents: what the one has told the other goes on with."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.memory import Memory, loop_time
from fleet.test_agent import House, until
from vedette.config import Configuration
from vedette.notifier import Alert
from vedette.rules import Rule, Rulebook, parse
from vedette.rules.model import RuleConfig, Source

__all__ = ["loop_time"]
pytestmark = pytest.mark.anyio

WHEN = "counting.number{instance:c} > 5"


class Guarded(House):
    """An agent with a rule over the instance that only one of them runs."""

    def __init__(self, folder: Path, name: str, memory: Memory) -> None:
        super().__init__(folder, name, memory, c="leader")
        self.told: list[Alert] = []

    def load(self) -> Configuration:
        when = parse(WHEN)
        sources = {"counting.number{instance:c}": (Source("counting/c", owned=True),)}
        config = RuleConfig.model_validate({"name": "on its way", "when": WHEN, "notify": "team"})
        rule = Rule(config, when, None, WHEN, sources, {"counting.number": ("gauge", "")})
        return replace(super().load(), rulebook=Rulebook((rule,)))

    def listen(self) -> None:
        self.agent.alerting.engine.tell = lambda alert, _: self.told.append(alert)


async def test_what_one_agent_told_the_next_one_knows(tmp_path: Path) -> None:
    memory = Memory()
    first, second = Guarded(tmp_path, "node-1", memory), Guarded(tmp_path, "node-2", memory)
    async with AsyncExitStack() as staying:
        async with first.running():
            first.listen()
            await until(lambda: first.told, "the alert")
            await staying.enter_async_context(second.running())
            second.listen()
            await until(lambda: second.states()["c"] == "standby", "the other to join")
            (case,) = first.agent.alerting.engine.cases
            told = replace(case.incident)
        await until(lambda: len(second.numbers("c")) > 3, "the other to have run it")
        (case,) = second.agent.alerting.engine.cases
        assert (case.incident, case.home) == (told, "counting/c")
        assert (case.incident.stage, [one.state for one in first.told]) == ("firing", ["firing"])
        assert second.told == []
