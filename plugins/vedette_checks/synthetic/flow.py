"""One attempt at a flow: its steps in order, and what takes them back, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from vedette import Emit
from vedette_checks.synthetic.pending import Pending, Register
from vedette_checks.synthetic.performance import Outcome, Result, Scene, perform
from vedette_checks.synthetic.step import Step

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """A flow as configured.

    Attributes:
        steps: its steps.
        cleanup: what takes them back.
        cleanup_timeout: seconds for that.
        cleanup_attempts: runs that try it again.
    """

    steps: Sequence[Step]
    cleanup: Sequence[Step]
    cleanup_timeout: float
    cleanup_attempts: int

    @property
    def found_by_cleanup(self) -> frozenset[str]:
        """Variables that the cleanup extracts for itself."""
        return frozenset(name for step in self.cleanup for name in step.extractions)

    @property
    def wanted(self) -> frozenset[str]:
        """Variables that the cleanup needs from the steps."""
        return frozenset().union(*(step.needs for step in self.cleanup)) - self.found_by_cleanup


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
    """

    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    taken: Taken = field(default_factory=Taken)
    cut: bool = False

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
        if self._plan.cleanup and not (made.cut and entry.open and not self._told(entry)):
            made.taken = await unbroken(lambda: self.take_back(scene, entry))
        return made

    async def _perform(self, scene: Scene, entry: Pending, made: Attempt) -> None:
        for step in self._plan.steps:
            if made.failure is not None:
                made.results.append(Result(step.name, Outcome.SKIPPED, message="not reached"))
                continue
            if self._must_be_written(step, scene):
                entry.open, entry.variables = step.name, self._kept(scene)
                await self._register.write(self._emit, entry)
            result = await perform(step, scene)
            made.results.append(result)
            if not step.config.changes_nothing:
                await self._note(step, result, scene, entry)

    def _must_be_written(self, step: Step, scene: Scene) -> bool:
        """Whether, once this request has left, there may be something that a cleanup step could take back."""
        if step.config.changes_nothing:
            return False
        soon = scene.variables.keys() | step.extractions.keys() | self._plan.found_by_cleanup
        return any(one.needs <= soon for one in self._plan.cleanup)

    def _kept(self, scene: Scene) -> dict[str, Any]:
        return {name: scene.variables[name] for name in self._plan.wanted if name in scene.variables}

    async def _note(self, step: Step, result: Result, scene: Scene, entry: Pending) -> None:
        """Write down what the answer tells about what was done."""
        entry.touched = entry.touched or (result.reached and not result.refused)
        entry.variables = self._kept(scene)
        if not entry.open:
            return
        told = all(name in scene.variables for name in step.extractions if name in self._plan.wanted)
        if told or not result.reached or result.refused:
            entry.open = ""
        if entry.touched:
            await self._register.write(self._emit, entry)
        else:
            await self._register.settle(self._emit, entry)

    async def take_back(self, scene: Scene, entry: Pending) -> Taken:
        """Perform the cleanup of an attempt, as far as there is something to clean up."""
        taken = Taken()
        scene.deadline = monotonic() + self._plan.cleanup_timeout
        scene.recall(entry.variables)
        for step in self._plan.cleanup:
            if step.name not in entry.done and (entry.touched or entry.open) and step.needs <= scene.variables.keys():
                taken.tried = True
                result = await perform(step, scene)
                if result.outcome is Outcome.FAILED:
                    taken.failed = taken.failed or result.message
                else:
                    entry.done.append(step.name)
        await self._conclude(entry, taken)
        return taken

    async def _conclude(self, entry: Pending, taken: Taken) -> None:
        if taken.failed:
            entry.tries += 1
            if entry.tries >= self._plan.cleanup_attempts:
                taken.lost = "failed"
        elif entry.open and not self._told(entry):
            taken.lost = "unknown"
        if taken.lost:
            self._register.give_up(entry, taken.lost)
        elif taken.failed:
            await self._register.write(self._emit, entry)
        else:
            await self._register.settle(self._emit, entry)

    def _told(self, entry: Pending) -> bool:
        """Whether the step that was on its way told what the cleanup needs of it."""
        step = next((one for one in self._plan.steps if one.name == entry.open), None)
        wanted = () if step is None else (name for name in step.extractions if name in self._plan.wanted)
        return all(name in entry.variables for name in wanted)


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
