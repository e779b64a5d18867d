"""One attempt at a flow: its steps in order, and what takes them back, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from vedette import Emit
from vedette_checks.synthetic.pending import Pending, Register
from vedette_checks.synthetic.performance import Outcome, Result, Scene, perform
from vedette_checks.synthetic.plan import Plan
from vedette_checks.synthetic.step import Step

T = TypeVar("T")


@dataclass(slots=True)
class Taken:
    """What became of the cleanup of one attempt.

    Attributes:
        tried: whether there was anything to do.
        failed: what went wrong, masked; empty if nothing did.
        lost: why something may be left over for good: `unknown`, `failed`, or empty.
    """

    tried: bool = False
    failed: str = ""
    lost: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing is left behind."""
        return not (self.failed or self.lost)


@dataclass(slots=True)
class Attempt:
    """How one attempt went.

    Attributes:
        results: of each step, those not reached included.
        seconds: from the first step's beginning to the last one's end.
        taken: what became of the cleanup.
        cut: the agent stops, and some steps were not performed for no fault of theirs.
        touched: whether a request that may change something has reached the server and was not refused.
    """

    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    taken: Taken = field(default_factory=Taken)
    cut: bool = False
    touched: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the flow may be performed anew: nothing was done, or the cleanup has really taken it back."""
        return not self.touched or (self.taken.tried and self.taken.clean)

    @property
    def failure(self) -> Result | None:
        """The step that failed, if one did."""
        return next((one for one in self.results if one.outcome is Outcome.FAILED), None)


class Flow:
    """Performs attempts at a flow.

    Args:
        plan: the flow.
        register: where what may be left behind is written down.
        emit: the run's.
    """

    def __init__(self, plan: Plan, register: Register, emit: Emit) -> None:
        self._plan = plan
        self._register = register
        self._emit = emit

    async def attempt(self, scene: Scene) -> Attempt:
        """Perform the steps, then the cleanup, which nothing interrupts but its own timeout.

        A cancellation ends the steps, not the attempt: what it did is still to be reported.
        """
        made = Attempt()
        entry = Pending(scene.run_id, scene.attempt)
        begun = monotonic()
        try:
            await self._perform(scene, entry, made)
        except asyncio.CancelledError:
            made.cut = True
            entry.variables = self._kept(scene)
        made.seconds = monotonic() - begun
        made.touched = entry.touched or bool(entry.open)
        if self._plan.cleanup and not (made.cut and not self._all_told(entry)):
            made.taken = await unbroken(lambda: self.take_back(scene, entry))
        return made

    async def _perform(self, scene: Scene, entry: Pending, made: Attempt) -> None:
        for step in self._plan.steps:
            if made.failure is not None:
                made.results.append(Result(step.name, Outcome.SKIPPED, message="not reached"))
                continue
            if self._plan.must_be_written(step, scene.variables):
                entry.open.append(step.name)
                entry.variables = self._kept(scene)
                await self._register.write(self._emit, entry)
            result = await perform(step, scene)
            made.results.append(result)
            await self._note(step, result, scene, entry)

    def _kept(self, scene: Scene) -> dict[str, Any]:
        return {name: scene.variables[name] for name in sorted(self._plan.wanted) if name in scene.variables}

    async def _note(self, step: Step, result: Result, scene: Scene, entry: Pending) -> None:
        """Write down what the answer tells about what was done, by this step or by one before it."""
        before = (entry.touched, list(entry.open), entry.variables)
        gone = not result.reached or result.refused
        if not step.config.changes_nothing:
            entry.touched = entry.touched or not gone
        entry.variables = self._kept(scene)
        entry.open = [name for name in entry.open if not (self._told(name, entry) or (name == step.name and gone))]
        if not before[1] or before == (entry.touched, entry.open, entry.variables):
            return
        if entry.touched:
            await self._register.write(self._emit, entry)
        else:
            await self._register.settle(self._emit, entry)

    async def take_back(self, scene: Scene, entry: Pending) -> Taken:
        """Perform the cleanup of an attempt, as far as there is something to clean up."""
        taken = Taken()
        scene.deadline = monotonic() + self._plan.cleanup_timeout
        scene.recall(entry.variables)
        owed = self._plan.owed(entry.done, entry.variables) if entry.touched or entry.open else []
        for step in owed:
            result = await perform(step, scene)
            taken.tried = taken.tried or result.outcome is not Outcome.SKIPPED
            if entry.tries:  # what failed once must not go by for the want of a variable that it had then
                scene.waived.clear()
            if result.outcome is Outcome.FAILED:
                taken.failed = taken.failed or result.message
            elif step.name not in entry.done:
                entry.done.append(step.name)
        await self._conclude(entry, taken)
        return taken

    async def _conclude(self, entry: Pending, taken: Taken) -> None:
        if taken.failed:
            entry.tries += 1
            if entry.tries >= self._plan.cleanup_attempts:
                taken.lost = "failed"
        elif not self._all_told(entry):
            taken.lost = "unknown"
        if taken.lost:
            self._register.give_up(entry, taken.lost)
        elif taken.failed:
            await self._register.write(self._emit, entry)
        else:
            await self._register.settle(self._emit, entry)

    def _all_told(self, entry: Pending) -> bool:
        """Whether it is known of each request that may have done something what takes it back."""
        return all(self._told(name, entry) for name in entry.open)

    def _told(self, name: str, entry: Pending) -> bool:
        return self._plan.traces(name) <= entry.variables.keys()


async def unbroken(work: Callable[[], Awaitable[T]]) -> T:
    """Do this to its end even if the run is cancelled meanwhile; `stopping` tells that it was."""
    task = asyncio.ensure_future(work())
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()


def stopping() -> bool:
    """Whether the current task was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
