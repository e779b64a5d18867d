"""Floor 5: runs of a configuration that nobody hears of: nothing is sent, no state is read or written."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vedette.agent import agent_tags
from vedette.check import Listener
from vedette.isolation.isolated import IsolatedRunner, make_runner
from vedette.runner import Surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vedette.config import Configuration, Instance
    from vedette.metrics import Batch
    from vedette.runner import Runner, Vitals

_AT_ONCE = 20
_ACTS = "its runs change something at the target, so it is not run here"
_LISTENS = "it listens: what it emits is up to those who send"
NOT_ASKED = "not asked: it runs in a child process"
"""Of a check whose object is in a child process, where only runs can be asked for."""


@dataclass(slots=True)
class Trial:
    """How the dry runs of one instance went.

    Attributes:
        instance: which.
        vitals: where it stood after them; as new if it was not run.
        batches: what each run would have sent.
        refrained: why it was not run; empty if it was.
    """

    instance: Instance
    vitals: Vitals
    batches: list[Batch] = field(default_factory=list)
    refrained: str = ""


Ask = Callable[[Any, Trial], Awaitable[None]]
"""Something to do with a check's object once it has run and while it is still open."""


async def try_out(
    configuration: Configuration,
    instances: Sequence[Instance],
    runs: int = 1,
    *,
    pause: float = 1.0,
    acting: bool = False,
    ask: Ask | None = None,
) -> list[Trial]:
    """Run instances some times, without sinks and with a state of their own that begins empty.

    Args:
        configuration: for the agent's tags, host and secrets.
        instances: which.
        runs: how often; many series need two, such as those of what happened in between.
        pause: seconds between two runs.
        acting: also run what changes something at its target.
        ask: what to ask each check afterwards, but for those that run in a child process.
    """
    state: dict[str, dict[str, Any]] = {}
    around = _surroundings(configuration, state)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(instance: Instance) -> Trial:
        runner = make_runner(anywhere(instance), around)
        trial = Trial(instance, runner.vitals)
        trial.refrained = _reason_not_to_run(instance, acting=acting)
        if not trial.refrained:
            async with gate:
                await _run(runner, trial, runs, pause, ask)
        return trial

    return list(await asyncio.gather(*map(one, instances)))


def anywhere(instance: Instance) -> Instance:
    """The instance as one that every agent of a fleet may run: for runs that a person asks for and nobody hears of."""
    return replace(instance, run_on="every_node")


def _reason_not_to_run(instance: Instance, *, acting: bool) -> str:
    if issubclass(instance.plugin, Listener):
        return _LISTENS
    return _ACTS if instance.plugin.acts(instance.config) and not acting else ""


async def _run(runner: Runner, trial: Trial, runs: int, pause: float, ask: Ask | None) -> None:
    try:
        for number in range(runs):
            if number:
                await asyncio.sleep(pause)
            if not _spent(runner):
                trial.batches.append(await runner.run())
        trial.vitals = replace(runner.vitals)
        if ask is not None and not runner.abandoned and not runner.vitals.isolated:
            await ask(runner.check, trial)
    finally:  # also when the command is interrupted: a child process must not outlive it
        await runner.stop()


def _spent(runner: Runner) -> bool:
    """Whether another run would tell nothing new: the last one has not ended, or took its process with it."""
    return runner.abandoned or (isinstance(runner, IsolatedRunner) and runner.bereft)


def _surroundings(configuration: Configuration, state: dict[str, dict[str, Any]]) -> Surroundings:
    options = configuration.agent

    def view(instance: str) -> Mapping[str, Any]:
        return MappingProxyType(state.setdefault(instance, {}))

    def keep(batch: Batch) -> None:
        state.setdefault(batch.instance, {}).update(batch.commits)

    async def save(instance: str, key: str, value: Any) -> bool:
        state.setdefault(instance, {})[key] = value
        return False  # it is not durable

    return Surroundings(
        deliver=keep,
        room=_no_wait,
        tags=agent_tags(options.tags, os.environ),
        host=options.hostname or socket.gethostname(),
        masker=configuration.masker,
        state=view,
        save=save,
    )


async def _no_wait() -> None:
    """There are no sinks whose room could be waited for."""
